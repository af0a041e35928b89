# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host should look like: the items that users declare, validated and in their normal form.

Four kinds of items, one module each: ``vlan`` (a declared sub-interface), ``network``, ``endpoint`` and ``routes`` (a
named set). A row becomes a spec with every default filled in, or a list of problems, all of them at once. What only
the host can answer (does the parent exist?) is checked by ``plan``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, List, Set, Tuple, cast

from ..core.errors import Problem
from ..core.specs import Generic, Spec
from . import endpoint, fields, network, routes, trunk, vlan
from .declaration import Declaration, Item, join

#: The map's lists and the kind of item in each.
SECTIONS = {"links": "vlan", "networks": "network", "endpoints": "endpoint", "routes": "routes"}

_BUILD: Dict[str, Callable[[Any, str, Declaration], Generic]] = {
    "vlan": vlan.build,
    "network": network.build,
    "endpoint": endpoint.build,
    "routes": routes.build,
}
#: kind -> option -> parser
OPTIONS: Dict[str, Dict[str, fields.Parser]] = {
    "vlan": vlan.OPTIONS, "network": network.OPTIONS, "endpoint": endpoint.OPTIONS, "routes": routes.OPTIONS,
}  # fmt: skip
#: The options that name an item, where it is absent.
_IDENTITY = {"network": ("name",), "endpoint": ("network", "name"), "routes": ("name",)}


def _key(kind: str, spec: Generic) -> str:
    """What an item is recorded under."""
    if kind == "vlan":
        return vlan.key(spec)
    return "/".join(str(spec[option]) for option in _IDENTITY[kind])


def _add(into: Declaration, kind: str, row: Any, path: str = "", state: str = "present") -> None:
    """Validate one row and add it to a declaration; what is wrong with it goes to its problems."""
    before = len(into.problems)
    listed = state != "present" and kind == "routes" and isinstance(row, Mapping) and bool(row.get("routes"))
    if listed:  # only the listed ones of the set should be absent
        spec = cast(Spec, routes.build(row, path, into, absent=True))
    elif state == "present":
        spec = cast(Spec, _BUILD[kind](row, path, into))
    else:
        spec = cast(Spec, fields.items(row, OPTIONS[kind], path, into.problems))
        _require_key(kind, spec, path, into.problems)
    if len(into.problems) == before:
        kept = spec if state == "present" or listed else None
        into.items.append(Item(kind, _key(kind, spec), path, kept, state == "released"))
    elif isinstance(row, Mapping):
        into.broken.add((kind, vlan.key(row) if kind == "vlan" else "/".join(str(row.get(o)) for o in _IDENTITY[kind])))


def _require_key(kind: str, spec: Generic, path: str, problems: List[Problem]) -> None:
    """An absent item has to be identified."""
    options = _IDENTITY.get(kind) or (() if "name" in spec else ("parent", "vlan_id"))
    problems += [
        Problem(join(path, option), "is missing", "it identifies what to remove")
        for option in options
        if option not in spec
    ]


def declare_map(options: fields.Given) -> Declaration:
    """A whole map: ``name``, ``trunks``, the sections of :data:`SECTIONS`, ``purge`` and ``adopt``."""
    into = Declaration(owner="map:" + str(options.get("name")))
    known: Dict[str, fields.Parser] = {
        "name": fields.name, "purge": fields.boolean, "purge_limit": fields.limit, "adopt": fields.boolean,
        "trunks": fields.mapping(fields.link_name, lambda value: value),
    }  # fmt: skip
    known.update(dict.fromkeys(SECTIONS, fields.rows))
    asked = fields.items(options, known, "", into.problems, ("name",))
    if "name" not in asked:
        into.broken.add(("owner", into.owner))
    into.purge = asked.get("purge", False)
    into.purge_limit = asked.get("purge_limit")
    into.given = frozenset(kind for section, kind in SECTIONS.items() if section in asked)
    if into.purge and not any(options.get(section) is not None for section in SECTIONS):
        fix = "give networks, or networks: [] to remove all of this owner"
        into.problems.append(Problem("purge", "no rows were given, and what was not given is not removed", fix))
    into.adopt = asked.get("adopt", False)
    for name, row in asked.get("trunks", {}).items():
        before = len(into.problems)
        nic = trunk.build(row, f"trunks.{name}", into.problems)
        if len(into.problems) > before:
            into.broken.add(("trunk", str(name)))
        else:
            into.trunks[name] = nic
    for section, kind in SECTIONS.items():
        for position, row in enumerate(asked.get(section, ())):
            _add(into, kind, row, f"{section}[{position}]")
    _once(into)
    return into


def declare(kind: str, options: fields.Given, state: str, adopt: bool) -> Declaration:
    """One item, as the module of its kind takes it."""
    into = Declaration(owner="task", adopt=adopt)
    _add(into, kind, options, "", state)
    return into


def _once(into: Declaration) -> None:
    """No two rows of one input may speak of the same object."""
    seen: Dict[Tuple[str, str], str] = {}
    doubled: Set[str] = set()
    for item in into.items:
        first = seen.setdefault((item.kind, item.key), item.path)
        if first != item.path:
            doubled.add(item.path)
            into.problems.append(
                Problem(item.path, f"{item.kind} {item.key} is already listed in {first}", "list each once")
            )
    into.items = [item for item in into.items if item.path not in doubled]
