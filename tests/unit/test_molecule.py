# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of every module is used by a Molecule scenario, and every choice and state by a task of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils import _argspec

from tests.support.checkout import CHECKOUT
from tests.unit.test_argspec import MODULES, Options, taken

#: What no scenario can use, each with the test that proves it.
ELSEWHERE = {
    "vlan_endpoint": {
        "container.engine=docker"
    },  # tests/conformance and tests/kernel/test_endpoints_containers.py, beside a dockerd
}

Task = Dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML with the tags of Ansible."""


_Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))  # type: ignore[no-untyped-call]


def tasks_of(found: Any) -> Iterator[Tuple[str, Task]]:
    """The modules of ours that a file runs, each with its arguments; by a loop of them, each with every item."""
    if isinstance(found, list):
        for item in found:
            yield from tasks_of(item)
    elif isinstance(found, dict):
        loop = found.get("loop")
        for key, value in found.items():
            if not str(key).startswith("netops.underlay."):
                yield from tasks_of(value)
            elif value == "{{ item }}" and isinstance(loop, list):
                for item in loop:
                    yield str(key)[len("netops.underlay.") :], item
            elif isinstance(value, dict) or value is None:
                yield str(key)[len("netops.underlay.") :], value or {}


def used_by(pattern: str) -> Dict[str, List[Task]]:
    found: Dict[str, List[Task]] = {}
    for path in sorted(CHECKOUT.glob(pattern)):
        for module, task in tasks_of(yaml.load(path.read_text(encoding="utf-8"), _Loader)):
            found.setdefault(module, []).append(task)
    return found


def uses(task: Any, options: Options, path: str) -> Iterator[str]:
    """Every option of a task by its path, and every value that is one of a few."""
    rows = task if isinstance(task, list) else [task]
    for row in rows:
        if not isinstance(row, dict):
            continue
        for key, value in row.items():
            name = str(key)
            option = next((one for one, it in options.items() if name == one or name in it.get("aliases", ())), name)
            yield path + option
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, (str, bool)):
                    yield f"{path}{option}={item}"
            yield from uses(value, options.get(option, {}).get("options", {}), f"{path}{option}.")


def wanted(options: Options, path: str) -> Iterator[str]:
    for name, option in options.items():
        if name.startswith("_"):
            continue
        yield path + name
        for choice in option.get("choices", ()):
            if choice != option.get("default") and choice not in (option.get("default") or ()):
                yield f"{path}{name}={choice}"
        yield from wanted(option.get("options", {}), f"{path}{name}.")


@pytest.fixture(scope="module")
def scenarios() -> Dict[str, List[Task]]:
    """Tasks of scenarios, and of the roles that they run."""
    found = used_by("molecule/**/*.yml")
    for pattern in ("roles/*/tasks/*.yml", "playbooks/**/*.yml"):
        for module, tasks in used_by(pattern).items():
            found.setdefault(module, []).extend(tasks)
    return found


@pytest.fixture(scope="module")
def shared(scenarios: Dict[str, List[Task]]) -> Set[str]:
    """Of the options that all modules take alike, those that one of them uses; by ``module_defaults`` all do."""
    options = {**_argspec.common(), **_argspec.change()}
    tasks = [task for module in MODULES for task in scenarios.get(module, ())]
    tasks += list(defaults(CHECKOUT / "molecule"))
    return {
        use for task in tasks for use in uses(task, options, "") if use.partition(".")[0].partition("=")[0] in options
    }


def defaults(directory: Path) -> Iterator[Task]:
    for path in sorted(directory.glob("**/*.yml")):
        for play in yaml.load(path.read_text(encoding="utf-8"), _Loader) or []:
            if isinstance(play, dict):
                yield from play.get("module_defaults", {}).values()


@pytest.mark.parametrize("module", MODULES)
def test_every_option_choice_and_state_is_used(module: str, scenarios: Dict[str, List[Task]], shared: Set[str]) -> None:
    options = taken(module)
    assert module in scenarios, "no scenario runs it"
    used = (
        shared | {use for task in scenarios[module] for use in uses(task, options, "")} | ELSEWHERE.get(module, set())
    )
    assert [name for name in wanted(options, "") if name not in used] == []


def test_what_is_proved_elsewhere_is_an_option() -> None:
    for module, names in ELSEWHERE.items():
        assert names <= set(wanted(taken(module), ""))
