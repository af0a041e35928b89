# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the guides and of the modules, run on a real kernel.

Each task of ours runs twice, in check mode and then for real, and the first must foretell what the second does.
"""

from __future__ import annotations

import copy
import doctest
import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import yaml
from conftest import CHECKOUT, EXAMPLES, Lab

INVENTORY = yaml.safe_load((EXAMPLES / "inventory.yml").read_text())
PLAYBOOKS = sorted(path.stem for path in EXAMPLES.glob("*.yml") if path.stem != "inventory" and isinstance(yaml.safe_load(path.read_text()), list))
#: What check mode must foretell. In a loop only whether anything changes: a later item may build on an earlier one.
_FORETOLD = ["before.changed == real.changed", "'results' in real or before.plan.total | default(0) == real.plan.total | default(0)"]


def twice(task: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """A task of ours in check mode and for real; any other as it is."""
    if not any(key.startswith("netops.underlay.") for key in task) or any(key in task for key in ("check_mode", "ignore_errors", "failed_when")):
        yield task
        return
    before, real = copy.deepcopy(task), copy.deepcopy(task)
    name = real.setdefault("register", "example_real")
    before.update(name=f"check: {task['name']}", check_mode=True, register="example_before")
    yield from (before, real)
    yield {
        "name": f"Check mode foretold it: {task['name']}",
        "vars": {"before": "{{ example_before }}", "real": f"{{{{ {name} }}}}"},
        "ansible.builtin.assert": {
            "that": _FORETOLD,
            "fail_msg": f"before {{{{ example_before }}}} real {{{{ {name} }}}}",
            "quiet": True,
        },
    }


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
        assert doctest.OutputChecker().check_output(expected, got, flags), f"{console.name}: {command}\nexpected:\n{expected}\ngot:\n{got}"
