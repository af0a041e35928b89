# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make demo`` on a terminal of 80 columns, as a first user types it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
from typing import List, Tuple

import yaml

from tests.support.checkout import CHECKOUT

WIDTH = 80
#: Colours, and "clear the rest of the line" (ECMA-48, "Control functions").
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def on_a_terminal(*command: str) -> Tuple[int, str]:
    """The exit status of a command, and what it wrote to its terminal."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, WIDTH, 0, 0))
    plain = {
        key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PYTEST", "NO_COLOR"))
    }
    with subprocess.Popen(command, cwd=CHECKOUT, env=plain, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        heard = b""
        with contextlib.suppress(OSError):  # EIO: the last who had the terminal has ended
            while part := os.read(ours, 65536):
                heard += part
    os.close(ours)
    return process.returncode, heard.decode(errors="replace")


def seen(heard: str) -> List[str]:
    """The lines that stand on the terminal in the end: what follows a carriage return replaces the line."""
    lines = ESCAPE.sub("", heard).replace("\r\n", "\n").split("\n")
    return [line.rpartition("\r")[2].rstrip() for line in lines]


def test_the_demonstration() -> None:
    page = CHECKOUT / ".cache" / "demo" / "report.html"
    page.unlink(missing_ok=True)
    status, heard = on_a_terminal("make", "demo")
    lines = seen(heard)
    assert status == 0, heard
    assert [line for line in lines if len(line) > WIDTH] == []
    rack = yaml.safe_load((CHECKOUT / "tests/demo/inventory/group_vars/rack.yml").read_text(encoding="utf-8"))
    networks = [row["name"] for row in rack["trunk_networks"]]
    cells = [[name, *("12/12" if name == to else "·" for to in networks)] for name in networks]
    matrix = next(at for at, line in enumerate(lines) if line.startswith("FROM \\ TO"))
    assert [line.split() for line in lines[matrix : matrix + 1 + len(cells)]] == [
        ["FROM", "\\", "TO", *networks],
        *cells,
    ]
    assert any(re.search(r"802\.1Q VLAN 10$", line) for line in lines)
    assert page.stat().st_size > 10_000 and "Open .cache/demo/report.html in a browser." in lines
