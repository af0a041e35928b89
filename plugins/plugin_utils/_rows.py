# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The rows of a task, taken on the controller from a file or from the map of the inventory.

Thousands of rows that go through Ansible's templates and a role's argument specs cost seconds a host; taken here, they cost
what reading them costs.
"""

from __future__ import annotations

import json
import os
import typing as t

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ._fleet import packed, view

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Args = dict[str, t.Any]


class _Once(_Loader):
    """A safe loader that refuses a key given twice: the first one's rows would be lost, and removed by a purge."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[t.Any, t.Any]:
        known: set[str] = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            known.add(str(key.value))
        return super().construct_mapping(node, deep)


def _once(pairs: list[tuple[str, t.Any]]) -> Args:
    """The same for JSON."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        raise RowsError(f"{next(name for name in names if names.count(name) > 1)} is given twice")
    return found


#: The lists of rows. A task that names none of them has no wish, not an empty one.
ROWS = ("links", "networks", "endpoints", "routes")
SECTIONS = ("trunks", *ROWS)


class RowsError(ValueError):
    """Why there are no rows."""


def filled(action: ActionBase, task_vars: Args) -> Args:
    """The arguments of a task with the rows that ``src`` and ``inventory_map`` stand for. Raises RowsError."""
    arguments = dict(action._task.args)
    src, from_map = arguments.pop("src", None), arguments.pop("inventory_map", False)
    given = {key: value for key, value in arguments.items() if value is not None}
    if src is not None:
        for section, rows in _of_file(action, str(src)).items():
            if section in given:
                raise RowsError(f"{section}: is in {src} too; give it in one of them")
            arguments[section] = rows
    if _true(from_map):
        _add_map(action, task_vars, arguments)
    if _true(arguments.get("purge")) and not any(arguments.get(section) is not None for section in ROWS):
        raise RowsError(
            "purge: no rows were given, and what was not given is not removed; give networks, or networks: [] to remove all of this owner"
        )
    return arguments


def _true(value: object) -> bool:
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")


# --- a file --------------------------------------------------------------------------------------


def _of_file(action: ActionBase, src: str) -> Args:
    """The sections of a file, which is found like those of ``copy`` and may be vaulted."""
    try:
        path = action._find_needle("files", src)
        # The loader's public way gives a text that says where it comes from, which the C parser does not take.
        data, _show = action._loader._get_file_contents(path)
        text = bytes(data).decode("utf-8")
    except (AnsibleError, OSError, UnicodeDecodeError) as error:
        raise RowsError(f"src: {src} cannot be read on the controller: {error}") from None
    try:
        is_json = path.endswith(".json")
        found = json.loads(text, object_pairs_hook=_once) if is_json else yaml.load(text, Loader=_Once)  # in C
    except (yaml.YAMLError, ValueError) as error:
        raise RowsError(f"src: {src} is not valid YAML or JSON: {' '.join(str(error).split())}; correct it") from None
    name = os.path.basename(path)
    if found is None:
        raise RowsError(f"src: {name} is empty; for a file without rows, write networks: []")
    if not isinstance(found, dict):
        raise RowsError(f"src: {name} is not a mapping; write networks: with the rows below it")
    unknown = sorted(str(key) for key in found if key not in SECTIONS)
    if unknown:
        raise RowsError(f"src: {name} has {', '.join(unknown)}; known are {', '.join(SECTIONS)}")
    empty = sorted(key for key, value in found.items() if value is None)
    if empty:
        raise RowsError(f"src: {', '.join(empty)} of {name} has no value; leave it out, or write [] for no rows")
    return found


# --- the map of the inventory --------------------------------------------------------------------


def _add_map(action: ActionBase, task_vars: Args, arguments: Args) -> None:
    """The host's rows of the map, before those that the task has itself."""
    owner = str(arguments.get("name") or packed.OWNER)
    try:
        networks = view.networks(task_vars, owner=owner)
        own = action._templar.template(task_vars.get(packed.ENDPOINTS)) or []
        endpoints = view.endpoints(task_vars, list(own) if isinstance(own, (list, tuple)) else [own], owner=owner)
    except packed.MapError as error:
        raise RowsError(str(error)) from None
    for section, rows in (("networks", networks), ("endpoints", endpoints)):
        more = arguments.get(section) or []
        arguments[section] = [*rows, *more] if isinstance(more, list) else more
