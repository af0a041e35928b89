# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning grows with what is declared, not with its square: no more lines of Python an item where there are more items.

Counted, not timed, so the answer is the same on every machine.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Callable, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan

from tests.support.planning import mapped
from tests.support.simulated_kernel import SimulatedKernel

Rows = List[Dict[str, Any]]
FEW, MANY = 25, 150


def networks(count: int) -> Dict[str, Rows]:
    rows: Rows = [
        {
            "name": f"n{vlan}",
            "driver": "macvlan",
            "parent": f"eth0.{vlan}",
            "subnets": [{"subnet": f"10.0.{vlan}.0/24"}],
        }
        for vlan in range(1, count + 1)
    ]
    return {"networks": rows}


def an_endpoint_each(count: int) -> Dict[str, Rows]:
    rows: Rows = [{"network": f"n{vlan}", "name": "one", "netns": f"s{vlan}"} for vlan in range(1, count + 1)]
    return {**networks(count), "endpoints": rows}


def endpoints_of_one(count: int) -> Dict[str, Rows]:
    """Half of them have addresses of their own choice."""
    network = {"name": "n", "driver": "ipvlan", "parent": "eth0.9", "subnets": [{"subnet": "10.9.0.0/16"}]}
    rows: Rows = [{"network": "n", "name": f"e{number}", "netns": f"s{number}"} for number in range(count)]
    for number, row in enumerate(rows[::2]):
        row["ipv4_address"] = f"10.9.77.{number + 1}"
    return {"networks": [network], "endpoints": rows}


def links_and_routes(count: int) -> Dict[str, Rows]:
    vlans = range(1, count + 1)
    return {
        "links": [{"parent": "eth0", "vlan_id": vlan, "addresses": [f"10.0.{vlan}.1/24"]} for vlan in vlans],
        "routes": [
            {"name": f"r{vlan}", "routes": [{"prefix": f"172.16.{vlan}.0/24", "via": f"10.0.{vlan}.2"}]}
            for vlan in vlans
        ],
    }


def one_set_of_routes(count: int) -> Dict[str, Rows]:
    rows: Rows = [{"prefix": f"172.16.{number}.0/24", "via": "10.9.0.2"} for number in range(count)]
    return {
        "links": [{"parent": "eth0", "vlan_id": 9, "addresses": ["10.9.0.1/16"]}],
        "routes": [{"name": "r", "routes": rows}],
    }


def lines(work: Callable[[], object]) -> int:
    """How many lines of Python a call takes; a comprehension has one for each of its items."""
    count = 0

    def line(_frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal count
        count += 1
        return line

    before = sys.gettrace()
    sys.settrace(line)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def lines_an_item(shape: Callable[[int], Dict[str, Rows]], count: int) -> Dict[str, float]:
    """Lines an item, to create a number of them, to find that all are there, and to remove all."""
    kernel = SimulatedKernel("eth0")
    found: Dict[str, float] = {}

    def planned(what: str, declared: Declaration) -> None:
        plans: List[plan.Plan] = []
        done = lines(lambda: plans.append(plan.plan(declared, kernel.records, kernel.observed, "seed")))
        found[what] = done / count
        kernel.apply(plans[0].changes)
        kernel.record(plans[0].changes)

    planned("to create", mapped(**shape(count)))
    planned("to find", mapped(**shape(count)))
    planned("to remove", mapped(purge=True, purge_limit=1000))
    return found


@pytest.mark.parametrize(
    "shape",
    [networks, an_endpoint_each, endpoints_of_one, links_and_routes, one_set_of_routes],
    ids=lambda shape: str(shape.__name__),
)
def test_many_take_no_more_an_item_than_few(shape: Callable[[int], Dict[str, Rows]]) -> None:
    few, many = lines_an_item(shape, FEW), lines_an_item(shape, MANY)
    assert {what: many[what] for what in many if many[what] > few[what]} == {}, few
