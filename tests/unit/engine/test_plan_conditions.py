# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions of the plan that one path through it does not show: what decides, and what lies just beside it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP, Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InvalidValue
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import fields
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare, plan

from tests.support.planning import declare, mapped, refusal, task
from tests.support.simulated_kernel import SimulatedKernel

BLUE: Dict[str, Any] = {
    "name": "blue",
    "driver": "macvlan",
    "parent": "eth0.10",
    "subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.1.0/24"}, {"subnet": "2001:db8::/64"}],
}


def blue(**more: Any) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("network", **{**BLUE, **more}))
    return kernel


# --- connected routes ----------------------------------------------------------------------------


def lost(kernel: SimulatedKernel, keep: Callable[[Route], bool] = lambda route: False, **row: Any) -> List[str]:
    """What a plan changes, and what drift says, once the routes of a workload are flushed but for some."""
    rows = {"networks": [BLUE], "endpoints": [{"network": "blue", "name": "web", "netns": "web", **row}]}
    declare(kernel, mapped(**rows))
    space = kernel.observed.namespaces["netns:web"]
    space.routes = [route for route in space.routes if keep(route)]
    drifted = [f"{it.verb} {it.kind} {it.key}" for it in compare.drift(kernel.records, kernel.observed)]
    planned = [f"{it.verb} {it.kind} {it.key}" for it in declare(kernel, mapped(**rows)).changes]
    assert planned == drifted
    return planned


def test_an_address_whose_connected_route_is_gone_is_told_to_the_kernel_before_any_route() -> None:
    assert lost(SimulatedKernel("eth0")) == [
        "change address netns:web/eth0 10.0.0.2/24",
        "change address netns:web/eth0 2001:db8::2/64",
        "create route netns:web/0.0.0.0/0 table 254 metric 0",
        "create route netns:web/::/0 table 254 metric 1024",
    ]


@pytest.mark.parametrize(
    ("stands_in", "changed"),
    [
        ({}, False),
        ({"protocol": 2, "table": 7}, False),  # in a VRF
        ({"protocol": 4, "metric": 5}, False),
        ({"protocol": 4, "table": 99}, True),
        ({"protocol": 201, "metric": 5}, True),
        ({"type": "unreachable"}, True),
        ({"via": "10.0.0.1"}, True),
        ({"oif": 1}, True),
        ({"prefix": "10.0.0.0/25"}, True),
    ],
)
def test_what_stands_in_for_a_connected_route(stands_in: Dict[str, Any], changed: bool) -> None:
    kernel = SimulatedKernel("eth0")
    blue = {**BLUE, "subnets": [{"subnet": "10.0.0.0/24", "gateway": "none"}]}
    rows = {"networks": [blue], "endpoints": [{"network": "blue", "name": "web", "netns": "web"}]}
    declare(kernel, mapped(**rows))
    space = kernel.observed.namespaces["netns:web"]
    (route,) = space.routes
    space.routes = [route._replace(**stands_in)]
    assert bool(compare.drift(kernel.records, kernel.observed)) is changed
    assert bool(declare(kernel, mapped(**rows)).changes) is changed


@pytest.mark.parametrize(("flags", "changed"), [(0x80, True), (0x01, False), (0x200, False)])
def test_a_second_address_and_one_that_brings_no_route_lack_none(flags: int, changed: bool) -> None:
    kernel = SimulatedKernel("eth0")
    lost(kernel, lambda route: True)
    space = kernel.observed.namespaces["netns:web"]
    index = space.names["eth0"].index
    space.addresses[index] = [address._replace(flags=flags) for address in space.addresses[index]]
    space.routes = [route for route in space.routes if route.via]
    names = [change.key.rpartition(" ")[2] for change in compare.drift(kernel.records, kernel.observed)]
    assert names == [*(["10.0.0.2/24"] if changed else []), "2001:db8::2/64"]


@pytest.mark.parametrize("adopt", [False, True])
def test_an_address_of_others_stays_cut_off_unless_adopted(adopt: bool) -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("vlan", parent="eth0", vlan_id=30, addresses=["10.30.0.1/24"]))
    host = kernel.observed.host
    index = host.names["eth0.30"].index
    host.addresses[index].append(Address(index, "10.31.0.1/24", 0, 0, 0x80))
    row = task("vlan", parent="eth0", vlan_id=30, addresses=["10.30.0.1/24", "10.31.0.1/24"], adopt=adopt)
    declare(kernel, row)
    assert ("eth0.30 10.31.0.1/24" in kernel.records["address"]) is adopt
    assert any(route.prefix == "10.31.0.0/24" for route in host.routes) is adopt
    assert declare(kernel, row).changes == []


def test_no_connected_route_is_missed_of_a_link_that_is_down_or_where_nobody_looked() -> None:
    kernel = SimulatedKernel("eth0")
    lost(kernel, lambda route: True)
    space = kernel.observed.namespaces["netns:web"]
    space.routes, space.names["eth0"].up = [route for route in space.routes if route.via], False
    assert {change.kind for change in compare.drift(kernel.records, kernel.observed)} == {"link"}
    space.names["eth0"].up, space.routes_seen = True, False
    assert compare.drift(kernel.records, kernel.observed) == []


# --- next hops -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "via"),
    [("172.16.0.0/12", "10.0.0.9"), ("2001:db8:9::/64", "2001:db8::9"), ("2001:db8:9::/64", "fe80::9")],
)
def test_a_next_hop_in_one_of_the_endpoints_subnets(prefix: str, via: str) -> None:
    kernel = blue()
    declare(kernel, task("endpoint", network="blue", name="a", netns="a", routes=[{"prefix": prefix, "via": via}]))
    assert (prefix, via) in [(route.prefix, route.via) for route in kernel.observed.namespaces["netns:a"].routes]


@pytest.mark.parametrize(
    ("prefix", "via"),
    [("172.16.0.0/12", "10.0.1.9"), ("172.16.0.0/12", "192.0.2.1"), ("2001:db8:9::/64", "2001:db8:1::9")],
)
def test_a_next_hop_in_none_of_them(prefix: str, via: str) -> None:
    """Also in a subnet of the network that the endpoint has no address of."""
    routes = [{"prefix": "172.31.0.0/16", "via": "10.0.0.1"}, {"prefix": prefix, "via": via}]
    assert refusal(blue(), task("endpoint", network="blue", name="a", netns="a", routes=routes)) == [
        f"routes[1].via: {via} is in no subnet of blue that blue/a has an address of; "
        "give a neighbour of the endpoint, or leave via out for a route to the device"
    ]


# --- workloads that are away ---------------------------------------------------------------------


@pytest.mark.parametrize("away", ["gone", "not there"])
def test_an_endpoint_whose_namespace_is_away_keeps_its_lease(away: str) -> None:
    """One that is not ours to make: a change of the network leaves it to the endpoint's own task."""
    kernel = blue()
    kernel.apply([Change("netns", "netns:a", None, {"netns": "netns:a"}, "test")])
    declare(kernel, task("endpoint", network="blue", name="a", netns="a"))
    held = kernel.records["endpoint"]["blue/a"].spec["addresses"]
    if away == "gone":
        kernel.observed.gone.add("netns:a")
    kernel.observed.namespaces.clear()
    declare(kernel, task("network", **BLUE, mtu=1400))
    assert kernel.observed.namespaces == {}
    assert kernel.records["endpoint"]["blue/a"].spec["addresses"] == held


def test_a_namespace_of_ours_that_is_away_is_made_again() -> None:
    kernel = blue()
    declare(kernel, task("endpoint", network="blue", name="a", netns="a"))
    kernel.observed.namespaces.clear()
    declare(kernel, task("network", **BLUE, mtu=1400))
    assert kernel.observed.namespaces["netns:a"].names["eth0"].mtu == 1400


# --- MAC addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["02:00:00:00:00:01", "00:00:00:00:00:01", "fe:ff:ff:ff:ff:ff", "10:00:00:00:00:00"])
def test_unicast_macs(text: str) -> None:
    assert fields.mac(text) == fields.mac(text.upper()) == fields.mac(text.replace(":", "-")) == text


@pytest.mark.parametrize("text", ["01:00:00:00:00:01", "03:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"])
def test_macs_that_are_not_unicast(text: str) -> None:
    with pytest.raises(InvalidValue, match=f"{text} is not a unicast MAC address"):
        fields.mac(text)


# --- parents that exist --------------------------------------------------------------------------


@pytest.mark.parametrize("group", [0, LINK_GROUP])
@pytest.mark.parametrize("kind", ["vlan", "dummy"])
def test_what_is_not_ours_is_used_and_left_alone(kind: str, group: int) -> None:
    """Whatever it is and no matter who marked it: with the last network it stays."""
    kernel = SimulatedKernel("eth0")
    data = {"vlan_id": 10, "protocol": "802.1q"} if kind == "vlan" else {}
    base = kernel.observed.host.names["eth0"].index if kind == "vlan" else 0
    kernel.add("", "eth0.10", kind=kind, parent=base, data=data, group=group, up=True)
    declare(kernel, task("network", **BLUE))
    declare(kernel, task("network", "absent", name="blue"))
    assert "eth0.10" in kernel.observed.host.names


def test_adopted_with_our_mark_goes_with_its_network() -> None:
    kernel = blue()
    kernel.records.clear()
    declare(kernel, task("network", adopt=True, **BLUE))
    declare(kernel, task("network", "absent", name="blue"))
    assert "eth0.10" not in kernel.observed.host.names


def on_another_parent(group: int) -> SimulatedKernel:
    """A macvlan of eth0 with a setting of its own, where an endpoint of eth0.10 would have its link."""
    kernel = blue()
    declare(kernel, task("network", **{**BLUE, "name": "green", "parent": "eth0.20", "subnets": []}))
    declare(kernel, task("endpoint", network="green", name="other", netns="a", interface="eth1"))
    base = kernel.observed.host.names["eth0"].index
    kernel.add(
        "netns:a", "eth0", kind="macvlan", parent=base, parent_ns="", data={"mode": "bridge"}, group=group, up=True
    )
    return kernel


def test_what_would_have_to_be_made_anew_is_not_taken_over() -> None:
    kernel = on_another_parent(0)
    there = kernel.observed.link("netns:a", "eth0")
    assert refusal(kernel, task("endpoint", adopt=True, network="blue", name="a", netns="a", interface="eth0")) == [
        "interface: netns:a/eth0 (macvlan) exists and was not created by us; remove it, or give another name"
    ]
    assert kernel.observed.link("netns:a", "eth0") is there


def test_with_our_mark_it_is_made_anew() -> None:
    """It is of a registry that was lost, and the network has moved to another parent since."""
    kernel = on_another_parent(LINK_GROUP)
    found = declare(kernel, task("endpoint", adopt=True, network="blue", name="a", netns="a", interface="eth0"))
    assert [(change.before is None, change.after is None) for change in found.changes if change.key == "netns:a/eth0"][
        :2
    ] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.parametrize("vlan_id", [1, 4094])
def test_the_first_and_the_last_vlan(vlan_id: int) -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("network", **{**BLUE, "parent": f"eth0.{vlan_id}"}))
    assert kernel.observed.host.names[f"eth0.{vlan_id}"].data["vlan_id"] == vlan_id


def test_a_plan_does_not_depend_on_the_order_of_its_rows() -> None:
    rows = [{**BLUE, "name": f"n{number}", "parent": f"eth0.{number}"} for number in (12, 10, 11)]
    made = []
    for order in (rows, rows[::-1]):
        kernel = SimulatedKernel("eth0")
        found = plan.plan(mapped(networks=order), {}, kernel.observed, "seed")
        made.append(sorted(change.key for change in found.changes))
    assert made[0] == made[1]
