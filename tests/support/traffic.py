# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What arrives: pings, captures, and the addresses and routes that they need."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any, Dict, List

from tests.support.host_picture import global_addresses
from tests.support.network_host import inside, ip
from tests.support.waiting import until


def addresses(dev: str, netns: str) -> List[str]:
    """Those of global scope, IPv4 first."""
    with inside(netns) if netns else contextlib.nullcontext():
        return global_addresses(dev)


def default(netns: str, family: str = "-4") -> Dict[str, Any]:
    """The default route of a namespace; empty where there is none."""
    rows = ip(family, "route", "show", "default", netns=netns)
    assert len(rows) < 2, rows
    return rows[0] if rows else {}


def reaches(command: str, target: str) -> bool:
    """Whether one of some pings by ``command`` (such as ``ip netns exec a``) arrives, neighbours being new."""
    words = [*command.split(), "ping", "-c", "1", "-W", "1", *target.split()]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


def reachable(command: str, target: str) -> bool:
    """Whether a ping arrives before long."""
    found: bool = until(lambda: reaches(command, target))
    return found


class Capture:
    """tcpdump on a link, what it writes read whenever somebody asks.

    No thread reads it: while one ends, a process cannot change its mounts, as every test does when it is over.
    """

    def __init__(self, path: Path, link: str, what: str, netns: str = "") -> None:
        self.path = path
        inside_of = ["ip", "netns", "exec", netns] if netns else []
        command = [*inside_of, "tcpdump", "-i", link, "-lne", "--immediate-mode", what]
        with open(path, "w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        while "listening on" not in self.process.stderr.readline():
            assert self.process.poll() is None

    def lines(self) -> List[str]:
        return self.path.read_text().split("\n")[:-1]  # the last one may not be whole

    def count(self, *words: str) -> int:
        return sum(all(word in line for word in words) for line in self.lines())

    def sees(self, *words: str, times: int = 1) -> bool:
        return bool(until(lambda: self.count(*words) >= times))

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()
