# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan makes of SLAAC: no address of a pool, no default route of ours, and no word about what the kernel made."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe

from tests.support.simulated_kernel import SimulatedKernel
from tests.unit.engine.test_rules import blue, do, subnets

HERE: Dict[str, Any] = {"network": "blue", "name": "a", "netns": "a"}
DUAL = subnets("10.0.0.0/24", "2001:db8::/64")


def made(**options: Any) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=DUAL, **options)
    do(kernel, "endpoint", **HERE, ipv6_address="slaac")
    return kernel


def held(kernel: SimulatedKernel) -> List[str]:
    found: List[str] = kernel.records["endpoint"]["blue/a"].spec["addresses"]
    return found


def test_neither_pool_nor_gateway_of_the_network_is_used() -> None:
    kernel = made()
    assert held(kernel) == ["10.0.0.2/24"]
    assert [route.prefix for route in kernel.observed.namespaces["netns:a"].routes if ":" in route.prefix] == []
    sysctls = kernel.records["link"]["netns:a/eth0"].spec["sysctls"]
    assert [sysctls[f"ipv6.{key}"] for key in ("disable_ipv6", "accept_ra", "autoconf")] == [0, 2, 1]


def test_an_address_of_the_pool_is_free_as_soon_as_slaac_is_asked_for() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=DUAL)
    do(kernel, "endpoint", **HERE)
    assert held(kernel)[1] == "2001:db8::2/64"
    do(kernel, "endpoint", **HERE, ipv6_address="slaac", ipv6_addresses=["2001:db8::9"])
    assert held(kernel) == ["10.0.0.2/24", "2001:db8::9/64"]
    do(kernel, "endpoint", network="blue", name="b", netns="b")
    assert kernel.records["endpoint"]["blue/b"].spec["addresses"][1] == "2001:db8::2/64"


@pytest.mark.parametrize(("flags", "shown"), [(0x100, True), (0x180, False), (0x00, False), (0x80, False)])
def test_only_what_the_kernel_made_of_an_advertisement_is_shown_as_such(flags: int, shown: bool) -> None:
    kernel = made()
    space = kernel.observed.namespaces["netns:a"]
    index = space.names["eth0"].index
    space.addresses[index].append(Address(index, "2001:db8::5054:ff:fe00:1/64", 2, 0, flags))
    space.routes.append(Route("::/0", "unicast", "fe80::1", index, None, 1024, 254, 9, 0))
    assert compare.drift(kernel.records, kernel.observed) == []
    networks = {"blue": kernel.records["network"]["blue"].spec}
    found = describe.endpoint(kernel.records["endpoint"]["blue/a"].spec, networks, kernel.observed)  # type: ignore[arg-type]
    assert found["slaac_addresses"] == (["2001:db8::5054:ff:fe00:1/64"] if shown else [])
    assert found["gateway"] == {"ipv4": "10.0.0.1", "ipv6": "fe80::1"}


def ways_out(slaac: Dict[str, Any], red: Dict[str, Any]) -> List[Tuple[Optional[str], int]]:
    """The IPv6 default routes of a workload with SLAAC on one network and a gateway on another, ``red``; their metrics."""
    kernel = SimulatedKernel("eth0", "eth1")
    blue(kernel, subnets=DUAL)
    do(
        kernel,
        "network",
        name="red",
        driver="macvlan",
        parent="eth1",
        subnets=subnets("10.1.0.0/24", "2001:db8:1::/64"),
    )
    do(kernel, "endpoint", **HERE, ipv6_address="slaac", **slaac)
    do(kernel, "endpoint", **{**HERE, "network": "red", **red})
    routes = kernel.observed.namespaces["netns:a"].routes
    return [(route.via, route.metric) for route in routes if route.prefix == "::/0"]


@pytest.mark.parametrize(
    ("options", "metric"),
    [
        ({}, 2048), ({"gw_priority": 1}, 512), ({"gw_priority": -1}, 2048), ({"default_route": {"ipv6": "always"}}, 512),
    ],
)  # fmt: skip
def test_a_default_route_of_ours_stands_before_or_behind_that_of_a_router(options: Dict[str, Any], metric: int) -> None:
    assert ways_out({}, options) == [("2001:db8:1::1", metric)]


def test_no_router_is_waited_for_where_its_way_out_is_not_wanted() -> None:
    assert ways_out({"default_route": {"ipv6": "never"}}, {}) == [("2001:db8:1::1", 1024)]


def test_a_host_without_ipv6_has_none() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    kernel.observed.ipv6 = False
    with pytest.raises(
        InputError, match=r"^ipv6_address: SLAAC is IPv6, and this host runs without IPv6; leave it out"
    ):
        do(kernel, "endpoint", **HERE, ipv6_address="slaac")


@pytest.mark.parametrize(("options", "warned"), [({}, 0), ({"host_access": True}, 1), ({"source_routing": True}, 1)])
def test_what_does_not_reach_its_addresses_is_said(options: Dict[str, Any], warned: int) -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=DUAL, **options)
    found = do(kernel, "endpoint", **HERE, ipv6_address="slaac")
    assert found.provisional() == [
        "blue/a: its IPv6 addresses are provisional, only a router makes them known after a real run"
    ]
    assert do(kernel, "endpoint", **HERE, ipv6_address="slaac", mtu=1400).provisional() == []
    assert len([text for text in found.warnings if "SLAAC" in text]) == warned
