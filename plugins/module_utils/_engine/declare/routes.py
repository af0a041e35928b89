# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``routes``: a named set of routes for L3 prefixes."""

from __future__ import annotations

import ipaddress
from typing import Any, Callable, Dict, Union

from ..core.route_specs import MAIN_TABLE, RemovedRoute, RouteRow, RoutesRequest, usual_metric
from . import fields
from .declaration import Declaration, join

ROUTE_OPTIONS: Dict[str, fields.Parser] = {
    "prefix": fields.network,
    "via": fields.address(),
    "dev": fields.link_name,
    "type": fields.choice("unicast", "unreachable", "blackhole", "prohibit"),
    "metric": fields.integer(0, 4294967295),
    "table": fields.TABLE,
    "vrf": fields.link_name,
}
OPTIONS: Dict[str, fields.Parser] = {
    "name": fields.name,
    "routes": fields.rows,
    "network": fields.name,
    "exact": fields.boolean,
}


def build(row: Any, path: str, into: Declaration, absent: bool = False) -> RoutesRequest:
    """A set. With ``absent``, its routes are those to remove, each with what identifies it."""
    asked = fields.items(row, OPTIONS, path, into.problems, ("name",))
    build: Callable[[Any, str, Declaration], Union[RouteRow, RemovedRoute]] = _removed_route if absent else _route
    return {
        "name": asked.get("name", ""),
        "network": asked.get("network"),
        "exact": asked.get("exact", False),
        "absent": absent,
        "routes": [
            build(route, f"{join(path, 'routes')}[{position}]", into)
            for position, route in enumerate(asked.get("routes", ()))
        ],
    }


def _removed_route(row: Any, path: str, into: Declaration) -> RemovedRoute:
    """What identifies a route to remove; None matches any value."""
    spec = fields.items(row, ROUTE_OPTIONS, path, into.problems, ("prefix",))
    prefix = spec.get("prefix")
    metric = spec.get("metric")
    if metric is not None and prefix is not None:
        metric = metric or usual_metric(str(prefix))
    return {"prefix": str(prefix), "metric": metric, "table": spec.get("table"), "vrf": spec.get("vrf")}


def _route(row: Any, path: str, into: Declaration) -> RouteRow:
    """One route of a set, with every default."""
    spec = fields.items(row, ROUTE_OPTIONS, path, into.problems, ("prefix",))
    prefix = spec.get("prefix")
    kind = spec.get("type", "unicast")
    if prefix is not None:
        _check_prefix(str(row["prefix"]), prefix, path, into)
    _check_way(row, spec, kind, path, into)
    if "table" in spec and "vrf" in spec:
        into.refuse(path, "vrf", "table is given too", "give one of the two")
    return {
        "prefix": str(prefix), "type": kind, "via": spec.get("via"), "dev": spec.get("dev"), "metric": spec.get("metric") or usual_metric(str(prefix)),
        "table": spec.get("table") or (None if "vrf" in spec else MAIN_TABLE), "vrf": spec.get("vrf"),
    }  # fmt: skip


def _check_prefix(given: str, prefix: fields.Network, path: str, into: Declaration) -> None:
    if "/" in given and ipaddress.ip_interface(given).ip != prefix.network_address:
        into.warnings.append(f"{path}.prefix: {given} has host bits set; using {prefix}")
    if prefix.prefixlen == 0:
        into.refuse(path, "prefix", f"{prefix} is the default route", "give the prefix of an L3 network")


def _check_way(row: Any, spec: fields.Given, kind: str, path: str, into: Declaration) -> None:
    """A next hop, a device or both; none for a route that leads nowhere. What was given and is bad is reported already."""
    prefix, via, dev = spec.get("prefix"), spec.get("via"), spec.get("dev")
    if via is not None and prefix is not None and ipaddress.ip_address(via).version != prefix.version:
        into.refuse(
            path, "via", f"{via} is not of the same IP version as {prefix}", "give a next hop of the same version"
        )
    bad = fields.is_bad(row, spec, "via") or fields.is_bad(row, spec, "dev")
    if kind == "unicast" and via is None and dev is None and not bad:
        into.refuse(path, "via", "is missing, and so is dev", "give the next hop, or the device")
    if kind != "unicast" and (via or dev):
        into.refuse(path, "type", f"a route of type {kind} has no next hop", "leave out via and dev")
    if dev is None and via is not None and ipaddress.ip_address(via).is_link_local:
        into.refuse(path, "dev", f"is missing, and {via} is link-local", "give the device")
