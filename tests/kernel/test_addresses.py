# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses and routes: made, changed, removed, and what is not ours left alone."""

from __future__ import annotations

import ipaddress
from typing import Any, Dict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP, PROTOCOL, Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import KernelRefused
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe

from tests.support.changes import do, missing, new_address, new_route, new_vlan
from tests.support.network_host import ip, needs_ipv6, run, sysctl

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]


@pytest.fixture
def marked(trunk: str) -> None:
    """A link that is ours: an address is never taken from any other."""
    run(f"ip link set {trunk} group {LINK_GROUP}")


def addresses(dev: str = "trunk") -> set[str]:
    return {
        f"{row['local']}/{row['prefixlen']}"
        for row in ip("addr", "show", "dev", dev)[0]["addr_info"]
        if row["scope"] == "global"
    }


def routes(*arguments: str) -> list[Dict[str, Any]]:
    return ip("route", "show", *arguments)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["192.0.2.1/24", "192.0.2.1/32", pytest.param("2001:db8::1/64", marks=needs_ipv6)])
@pytest.mark.usefixtures("marked")
def test_an_address_comes_and_goes(address: str) -> None:
    change = new_address("trunk", address)
    observed = do(change)
    assert missing(observed, change) == [] and addresses() == {address}
    index = observed.host.names["trunk"].index
    assert [row.protocol for row in observed.host.addresses[index] if row.address == address] == [PROTOCOL]
    with pytest.raises(KernelRefused, match=f"trunk has {address} already"):
        do(change)
    do(change.inverse())
    assert addresses() == set()
    do(change.inverse())


def test_addresses_of_a_link_of_the_same_run() -> None:
    changes = [*(new_vlan(number, isolation="host") for number in range(1, 20))]
    changes += [new_address(f"trunk.{number}", f"10.0.{number}.1/24") for number in range(1, 20)]
    assert missing(do(*changes), *changes) == []
    do(*(change.inverse() for change in reversed(changes)))


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize("promote", [0, 1])
def test_a_strangers_second_address_outlives_ours(promote: int) -> None:
    run(f"echo {promote} > /proc/sys/net/ipv4/conf/trunk/promote_secondaries")
    ours = [new_address("trunk", "192.0.2.1/24"), new_address("trunk", "192.0.2.2/24")]
    do(*ours)
    run("ip addr add 192.0.2.7/24 dev trunk; ip addr add 198.51.100.1/24 dev trunk")
    do(*(change.inverse() for change in ours))
    assert addresses() == {"192.0.2.7/24", "198.51.100.1/24"}
    assert sysctl("ipv4.conf.trunk.promote_secondaries") == promote


@needs_ipv6
def test_ipv6_switched_off() -> None:
    do(new_vlan(5))
    with pytest.raises(KernelRefused, match="IPv6 is switched off on trunk.5"):
        do(new_address("trunk.5", "2001:db8::1/64"))


@needs_ipv6
@pytest.mark.parametrize(
    "text",
    ["2001:db8::1", "::ffff:192.0.2.1", "2001:db8:0:1:0:1:0:1", "64:ff9b::1", "fd00::a:0:0:b"],
)
def test_addresses_are_written_as_ipaddress_does(text: str) -> None:
    run(f"ip addr add {text}/128 dev trunk nodad")
    observed = observe(Need())
    assert str(ipaddress.ip_address(text)) + "/128" in {
        row.address for row in observed.host.addresses[observed.host.names["trunk"].index]
    }


# --- routes --------------------------------------------------------------------------------------


@pytest.fixture
def underlay(trunk: str) -> None:
    run("ip addr add 192.0.2.1/24 dev trunk")
    with_ipv6 = run("test -d /proc/sys/net/ipv6 && echo yes || true").strip()
    if with_ipv6:
        run("ip addr add 2001:db8::1/64 dev trunk nodad")


IPV4_ROUTES = [
    new_route("10.1.0.0/16", "trunk", via="192.0.2.9"),
    new_route("10.1.0.0/16", "trunk"),
    new_route("10.1.0.0/16", None, type="unreachable"),
    new_route("10.1.0.0/16", None, type="blackhole", metric=50, table=1000),
    new_route("10.1.0.0/16", "trunk", src="192.0.2.1", metric=7, table=77),
    new_route("0.0.0.0/0", "trunk", via="192.0.2.9"),
]
IPV6_ROUTES = [
    new_route("fd00:1::/64", "trunk", via="2001:db8::9"),
    new_route("fd00:1::/64", "trunk", via="fe80::9", metric=7, table=1000),
    new_route("fd00:1::/64", None, type="unreachable"),
    new_route("fd00:1::/64", "trunk", src="2001:db8::1"),
    new_route("::/0", "trunk", via="fe80::9"),
]
ROUTES = [pytest.param(route, id=f"4-{n}") for n, route in enumerate(IPV4_ROUTES)]
ROUTES += [pytest.param(route, id=f"6-{n}", marks=needs_ipv6) for n, route in enumerate(IPV6_ROUTES)]


@pytest.mark.usefixtures("underlay")
@pytest.mark.parametrize("change", ROUTES)
def test_a_route_comes_and_goes(change: Change) -> None:
    assert missing(do(change), change) == []
    with pytest.raises(KernelRefused, match="another route to .* stands in table"):
        do(change)
    gone = do(change.inverse())
    assert gone.find("route", change.after or {}) is None
    do(change.inverse())


@pytest.mark.usefixtures("underlay")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (IPV4_ROUTES[0], {"via": "192.0.2.10"}),
        (IPV4_ROUTES[0], {"via": None}),
        (IPV4_ROUTES[1], {"type": "unreachable", "dev": None}),
        pytest.param(IPV6_ROUTES[0], {"via": "2001:db8::a"}, marks=needs_ipv6),
        pytest.param(IPV6_ROUTES[0], {"via": None}, marks=needs_ipv6),
        pytest.param(
            IPV6_ROUTES[2],
            {"type": "unicast", "dev": "trunk", "via": "fe80::1"},
            marks=needs_ipv6,
        ),
    ],
)
def test_a_route_changes(before: Change, after: Dict[str, Any]) -> None:
    wanted = {**(before.after or {}), **after}
    do(before)
    observed = do(before._replace(before=before.after, after=wanted))
    assert observed.find("route", wanted) == wanted
    assert sum(route.prefix == wanted["prefix"] for route in observed.host.routes) == 1


@pytest.mark.usefixtures("underlay")
def test_a_change_never_replaces_a_strangers_route() -> None:
    ours = IPV4_ROUTES[0]
    do(ours)
    run("ip route prepend 10.1.0.0/16 via 192.0.2.33 proto static")
    wanted = {**(ours.after or {}), "via": "192.0.2.10"}
    with pytest.raises(KernelRefused, match="another route to 10.1.0.0/16"):
        do(ours._replace(before=ours.after, after=wanted))
    assert [row["gateway"] for row in routes("proto", "static")] == ["192.0.2.33"]


@pytest.mark.usefixtures("underlay")
def test_a_strangers_route_is_not_removed() -> None:
    run("ip route add 10.1.0.0/16 via 192.0.2.33 proto static")
    do(IPV4_ROUTES[0].inverse())
    assert [row["gateway"] for row in routes("proto", "static")] == ["192.0.2.33"]


@pytest.mark.usefixtures("underlay")
def test_a_gateway_out_of_reach() -> None:
    with pytest.raises(KernelRefused, match=r"the gateway 203.0.113.1 is not in a directly connected subnet of trunk"):
        do(new_route("10.1.0.0/16", "trunk", via="203.0.113.1"))


@pytest.mark.usefixtures("underlay")
def test_all_hops_are_seen() -> None:
    run("""
        ip link add other type dummy; ip addr add 198.51.100.1/24 dev other; ip link set other up
        ip route add 10.9.0.0/16 nexthop via 192.0.2.9 nexthop via 198.51.100.9
    """)
    observed = observe(Need(routes=True))
    hops = {(observed.host.links[row.oif].name, row.via) for row in observed.host.routes if row.prefix == "10.9.0.0/16"}
    assert hops == {("trunk", "192.0.2.9"), ("other", "198.51.100.9")}
    assert observed.foreign_routes(observed.host.names["other"].index)
