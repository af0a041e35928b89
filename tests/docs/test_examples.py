# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the guides and of the modules, run on a real kernel.

Each task of ours runs twice, in check mode and then for real, and the first must predict what the second does.
"""

from __future__ import annotations

import copy
import doctest
import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import yaml

from tests.support.example_hosts import EXAMPLES, Lab, twice

INVENTORY = yaml.safe_load((EXAMPLES / "inventory.yml").read_text())
PLAYBOOKS = sorted(
    path.stem
    for path in EXAMPLES.glob("*.yml")
    if path.stem != "inventory" and isinstance(yaml.safe_load(path.read_text()), list)
)


def doubled(plays: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    for play in plays:
        for section in ("pre_tasks", "tasks", "post_tasks"):
            if section in play:
                play[section] = [one for task in play[section] for one in twice(task)]
    return plays


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_guide(name: str, lab: Callable[..., Lab], tmp_path: Path) -> None:
    """The playbook of a guide, and then what its consoles show, asked of the kernel."""
    plays = yaml.safe_load((EXAMPLES / f"{name}.yml").read_text())
    made = lab(copy.deepcopy(INVENTORY))
    transformed = tmp_path / f"{name}.yml"
    transformed.write_text(yaml.safe_dump(doubled(plays), sort_keys=False))
    made.play(transformed)
    for console in sorted(EXAMPLES.glob(f"{name}.*.txt")):
        _same_on_console(console, made)


def _same_on_console(console: Path, made: Lab) -> None:
    """``FILE.HOST.txt`` holds commands, each after a ``$``, and what they print on that host; ``...`` is anything."""
    host = made.hosts[console.name.split(".")[1]]
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", console.read_text(), re.MULTILINE):
        got = host.run(command)
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(expected, got, flags), (
            f"{console.name}: {command}\nexpected:\n{expected}\ngot:\n{got}"
        )
