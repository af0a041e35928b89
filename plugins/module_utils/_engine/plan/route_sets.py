# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task makes of a set of routes: exactly its own, its own too, or none of them any more."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple, cast

from ..core.route_specs import RemovedRoute, RouteRow, RoutesRequest, RoutesSpec
from ..core.specs import Spec


def merged(asked: RoutesRequest, record: Optional[RoutesSpec]) -> Optional[Spec]:
    """A set of routes after a task: exactly the given routes, or those added to or removed from the recorded ones.

    Routes that stay keep their order, so that a task that lists them in another one changes nothing.
    """
    before = record["routes"] if record else []
    network = record["network"] if record else None
    if asked["absent"]:
        gone: Dict[str, List[RemovedRoute]] = {}
        for row in cast(Iterable[RemovedRoute], asked["routes"]):
            gone.setdefault(row["prefix"], []).append(row)
        left = [route for route in before if not any(_is_meant(row, route) for row in gone.get(route["prefix"], ()))]
        return {"name": asked["name"], "network": network, "routes": left} if left or network else None
    there = {_place(route): route for route in before}
    listed = {_place(route): route for route in cast(Iterable[RouteRow], asked["routes"])}
    rows = listed if asked["exact"] else {**there, **listed}
    return {
        "name": asked["name"],
        "network": asked["network"] or (None if asked["exact"] else network),
        "routes": before if rows == there else list(rows.values()),
    }


def _place(route: RouteRow) -> Tuple[object, ...]:
    return tuple(route[key] for key in ("prefix", "metric", "table", "vrf"))


def _is_meant(row: RemovedRoute, route: RouteRow) -> bool:
    """Whether a route is one of those that a row declares absent."""
    return all(row[key] in (None, route[key]) for key in ("metric", "table", "vrf"))
