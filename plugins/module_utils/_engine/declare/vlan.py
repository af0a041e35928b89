# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan``: one 802.1q or 802.1ad sub-interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Dict, cast

from ..core.errors import Problem
from ..core.link_specs import VlanSpec
from ..core.specs import Generic, KindOptions, Spec
from . import fields
from .declaration import Declaration, join


def _qos_map(low: fields.Parser, high: fields.Parser) -> fields.Parser:
    """A map without what goes to 0: everything does that is not in it, and the kernel tells no such entry."""
    parse = fields.mapping(low, high)
    return lambda value: {start: to for start, to in parse(value).items() if to}


_QOS_IN = _qos_map(fields.integer(0, 7), fields.integer(0, 4294967295))
_QOS_OUT = _qos_map(fields.integer(0, 4294967295), fields.integer(0, 7))

OPTIONS: Dict[str, fields.Parser] = {
    "parent": fields.link_name,
    "vlan_id": fields.VLAN_ID,
    "name": fields.link_name,
    "protocol": fields.choice("802.1q", "802.1ad"),
    "mtu": fields.MTU,
    "addresses": fields.sequence(fields.interface),
    "gvrp": fields.boolean,
    "mvrp": fields.boolean,
    "loose_binding": fields.boolean,
    "reorder_headers": fields.boolean,
    "ingress_qos_map": _QOS_IN,
    "egress_qos_map": _QOS_OUT,
    "bring_up_parent": fields.boolean,
}
#: What a sub-interface is unless a task says otherwise.
VLAN_FLAGS: KindOptions = {"gvrp": False, "mvrp": False, "loose_binding": False, "reorder_headers": True}
_VLAN_DEFAULTS: Spec = {
    **cast(Spec, VLAN_FLAGS),
    "protocol": "802.1q",
    "bring_up_parent": True,
    "mtu": None,
    "addresses": [],
    "ingress_qos_map": {},
    "egress_qos_map": {},
}


def build(row: Any, path: str, into: Declaration) -> VlanSpec:
    """The spec of a sub-interface's row; what is wrong with it is added to the problems of ``into``."""
    spec = fields.items(_split(row), OPTIONS, path, into.problems, ("parent", "vlan_id"))
    if spec.get("gvrp") and spec.get("mvrp"):
        into.problems.append(
            Problem(
                join(path, "mvrp"),
                "GVRP and MVRP announce the same VLAN twice",
                "choose the one that the switch supports",
            )
        )
    return cast(VlanSpec, {**_VLAN_DEFAULTS, "name": key(spec), **spec})


def _split(row: Any) -> Any:
    """A row whose name says parent and VLAN, as eth1.10 does, with the options that were left out."""
    if not isinstance(row, Mapping) or row.get("parent") is not None or row.get("vlan_id") is not None:
        return row
    base, dot, tail = str(row.get("name") or "").rpartition(".")
    if not (base and dot and tail.isascii() and tail.isdigit() and tail == str(int(tail)) and 1 <= int(tail) <= 4094):
        return row
    return {**row, "parent": base, "vlan_id": int(tail)}


def key(spec: Generic) -> str:
    """The name of a sub-interface: as given, or ``parent.vlan_id``."""
    return str(spec.get("name") or f"{spec.get('parent')}.{spec.get('vlan_id')}")
