# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual page of ``underlay`` and its completion in bash, as they are installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils import _manual, _service
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import cli
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.checkout import CHECKOUT
from tests.support.planning import declare, mapped
from tests.support.registry_runs import run
from tests.support.simulated_kernel import SimulatedKernel


@pytest.fixture
def installed(tmp_path: Path) -> Dict[str, str]:
    steps = _service.survey(_service.Host(str(tmp_path)), _service.Wanted(sys.executable))
    return {os.path.basename(step.path): step.after or "" for step in steps if step.path.startswith("usr/local/share/")}


def test_the_page_has_every_command_and_option(installed: Dict[str, str]) -> None:
    page = installed["underlay.8"].replace(r"\-", "-")
    assert page.isascii() and not re.search(r"^\.(?!\\\" |TH |SH |TP$|B |BR )", page, re.MULTILINE)
    entries = [line[3:-3] for line in page.splitlines() if line.startswith(r"\fB")]
    listed = re.findall(r"^    ([a-z]+) ", cli.parser().format_help().partition("commands:")[2], re.MULTILINE)
    assert listed[0] == "show" and [entry.split()[0] for entry in entries[: len(listed)]] == listed
    for option in ("--state-dir DIR", "--boot", "--from NETWORK/NAME", "--no-heal"):
        assert option in page
    assert [entry for entry in entries if entry.isdecimal()] == [str(status) for status in range(5)]


def test_the_page_is_one_for_man(installed: Dict[str, str], tmp_path: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("no man here")
    (tmp_path / "underlay.8").write_text(installed["underlay.8"], encoding="ascii")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(tmp_path / "underlay.8")],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, "MANWIDTH": "80", "MANPAGER": "cat", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == "" and "EXIT STATUS" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    """A registry with two networks, an endpoint and two transactions, of which only the second can be undone."""
    kernel, registry = SimulatedKernel("eth0"), Registry(str(tmp_path / "state"))
    network = {"name": "blue", "driver": "macvlan", "parent": "eth0.5", "subnets": [{"subnet": "10.1.0.0/24"}]}
    run(
        registry, *declare(kernel, mapped(networks=[network, {**network, "name": "black", "parent": "eth0.6"}])).changes
    )
    run(registry, *declare(kernel, mapped(endpoints=[{"network": "blue", "name": "web", "netns": "web"}])).changes)
    return registry.directory


def completed(script: str, state_dir: str, lines: List[str]) -> List[List[str]]:
    """What bash offers at the end of each line, split into words as bash does."""
    calls = []
    for line in lines:
        words = [word for word in re.split(r"(:)|[ ]+", line) if word] + ([""] if line.endswith((" ", ":")) else [])
        calls.append(
            f'COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _underlay; echo "${{#COMPREPLY[@]}} ${{COMPREPLY[*]}}"'
        )
    command = (
        f"import os, sys; sys.path.insert(0, {str(CHECKOUT / 'plugins')!r}); os.geteuid = lambda: 0\n"
        f"from module_utils._engine.service import cli; sys.exit(cli.main([*sys.argv[1:], '--state-dir', {state_dir!r}]))"
    )
    fake = f'underlay() {{ {shlex.join([sys.executable, "-c", command])} "$@"; }}'
    text = "\n".join([script, fake, "complete -p underlay", *calls])
    done = subprocess.run(["bash", "--norc", "-c", text], capture_output=True, text=True, check=True)
    first, *offered = done.stdout.splitlines()
    assert (first, done.stderr) == ("complete -F _underlay underlay", "")
    rows = [row.split() for row in offered]
    assert [int(row[0]) for row in rows] == [len(row) - 1 for row in rows], "none is empty"
    return [row[1:] for row in rows]


def test_bash_completes(installed: Dict[str, str], state_dir: str) -> None:
    verbs = [command.name for command in _manual.commands()]
    expected = {
        "underlay ": verbs,
        "underlay --json re": ["restore", "release", "rehost"],
        "underlay --state-dir /nowhere d": ["drift", "dhcp"],
        "underlay --v": ["--version"],
        "underlay show --": ["--help", "--state-dir", "--lock-timeout", "--json"],
        "underlay restore --b": ["--boot"],
        "underlay rehost ": ["clone", "same"],
        "underlay show bl": ["black", "blue", "blue/web"],
        "underlay show blue bla": ["black"],
        "underlay undo ": ["2"],
        "underlay undo 2 ": [],
        "underlay confirm ": [],
        "underlay hold endpoint:blue/w": ["blue/web"],
        "underlay hold network:": ["black", "blue"],
        "underlay hold blue some": [],
        "underlay drift ": [],
        f"underlay --state-dir {state_dir[:-3]}": [state_dir],
    }
    assert dict(zip(expected, completed(installed["underlay"], state_dir, list(expected)))) == expected


def test_a_name_that_a_shell_would_read_is_not_offered(
    state_dir: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setitem(
        cli.CANDIDATES, "hold", lambda _registry: ["a", "$(touch x)", "link a", "b;c", "*", "netns:a/eth0"]
    )
    assert cli.main(["complete", "hold", "--state-dir", state_dir]) == 0
    assert capsys.readouterr().out == "a\nnetns:a/eth0\n"
    assert "complete" not in cli.parser().format_help()
