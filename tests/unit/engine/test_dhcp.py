# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan makes of DHCP: no address of a pool, no default route of ours, and what comes and goes with a lease."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, cast

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import digest, items_of
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.endpoint_specs import client_id, duid
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.lease_specs import Lease
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import events
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare, dhcp, plan, simulate
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan.pages import expected, followed, pages
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe, tables
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import verify
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import leases
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.simulated_kernel import SimulatedKernel
from tests.unit.engine.test_rules import blue, do, refused, subnets

HERE: Dict[str, Any] = {"network": "blue", "name": "a", "netns": "a"}
DHCP = {"ipv4_address": "dhcp"}
GIVEN = "10.0.0.77/24"
LEASE: Lease = {
    "endpoint": "blue/a", "mac": "02:00:51:00:00:01", "client_id": "0001", "server": "10.0.0.53", "server_duid": "", "address": GIVEN,
    "routers": ["10.0.0.254"], "routes": [], "dns": ["10.0.0.53", "10.0.0.54"], "domain": "example.com", "search": [], "mtu": None,
    "obtained": 1000, "renew": 2000, "rebind": 3000, "preferred": 4000, "expires": 4000,
}  # fmt: skip


def made(**options: Any) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    blue(kernel, **options)
    do(kernel, "endpoint", **HERE, **DHCP)
    return kernel


def lease(kernel: SimulatedKernel, **more: Any) -> None:
    """A server answered, and the client did what it does."""
    space = kernel.observed.namespaces["netns:a"]
    index = space.names["eth0"].index
    kernel.observed.leases["blue/a"] = cast(Lease, {**LEASE, **more})
    space.addresses.setdefault(index, []).append(Address(index, GIVEN, 16, 0, 0))
    space.routes.append(Route("10.0.0.0/24", "unicast", None, index, None, 0, 254, 2, 253))
    space.routes.append(Route("0.0.0.0/0", "unicast", "10.0.0.254", index, None, 1024, 254, 16, 0))


def spec(kernel: SimulatedKernel, key: str = "blue/a") -> Dict[str, Any]:
    return cast(Dict[str, Any], kernel.records["endpoint"][key].spec)


def changes(found: plan.Plan, kind: str) -> List[Tuple[str, str]]:
    return [(change.verb, change.key) for change in found.changes if change.kind == kind]


def test_neither_pool_nor_gateway_of_the_network_is_used() -> None:
    kernel = made(subnets=subnets("10.0.0.0/24", "2001:db8::/64"))
    assert (spec(kernel)["dhcp"], spec(kernel)["addresses"]) == (True, ["2001:db8::2/64"])
    assert [route.prefix for route in kernel.observed.namespaces["netns:a"].routes if ":" not in route.prefix] == []
    do(kernel, "endpoint", network="blue", name="b", netns="b")
    assert spec(kernel, "blue/b")["addresses"][0] == "10.0.0.2/24"


def test_a_network_may_have_all_its_endpoints_ask() -> None:
    """It needs no IPv4 subnet, an address that is given counts, and its endpoints follow when it changes."""
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=[], addressing="dhcp")
    assert kernel.records["network"]["blue"].spec["subnets"] == []
    do(kernel, "endpoint", **HERE)
    assert (spec(kernel)["dhcp"], spec(kernel)["ipv4_address"], spec(kernel)["addresses"]) == (True, None, [])
    blue(kernel, addressing="dhcp")
    do(kernel, "endpoint", network="blue", name="b", netns="b", ipv4_address="10.0.0.9")
    assert (spec(kernel, "blue/b")["dhcp"], spec(kernel, "blue/b")["addresses"]) == (False, ["10.0.0.9/24"])
    found = blue(kernel)
    assert (spec(kernel)["dhcp"], spec(kernel)["addresses"], found.leases) == (False, ["10.0.0.2/24"], [])
    assert (blue(kernel, addressing="dhcp").leases, spec(kernel)["addresses"]) == (["blue/a"], [])


def test_who_configures_itself_asks_for_itself() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=[], addressing="dhcp")
    do(kernel, "endpoint", **HERE, kind="tap")
    do(kernel, "endpoint", network="blue", name="b", netns="b", vlans=[5])
    assert [(spec(kernel, key)["dhcp"], spec(kernel, key)["addresses"]) for key in ("blue/a", "blue/b")] == [
        (False, [])
    ] * 2


def test_a_lease_is_waited_for_once() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    provisional = ["blue/a: its IPv4 address is provisional, only a DHCP server makes it known after a real run"]
    for options, waits in (
        (DHCP, True), (DHCP, False), ({**DHCP, "mtu": 1400}, False), ({**DHCP, "dhcp_client_id": "a"}, True), ({}, False),
        ({**DHCP, "netns": "b"}, True), ({**DHCP, "netns": "c"}, True), ({**DHCP, "netns": "c", "interface": "wan"}, True),
    ):  # fmt: skip
        found = do(kernel, "endpoint", **{**HERE, **options})
        assert found.provisional() == (provisional if waits else []), options


def test_a_lease_goes_back_with_its_link_or_with_the_wish_for_it() -> None:
    kernel = made()
    for options, ends in (
        (DHCP, False), ({**DHCP, "mtu": 1400}, False), ({**DHCP, "dhcp_client_id": "a"}, True), ({**DHCP, "dhcp_client_id": "a", "netns": "b"}, True),
        ({"netns": "b"}, True), ({"netns": "b", "mtu": 1400}, False),
    ):  # fmt: skip
        found = do(kernel, "endpoint", **{**HERE, **options})
        assert [key for key in dhcp.ends(found.changes) if key == "blue/a"] == (["blue/a"] if ends else []), options
    do(kernel, "endpoint", **HERE, **DHCP)
    found = do(kernel, "endpoint", "absent", network="blue", name="a")
    assert dhcp.ends(found.changes) == ["blue/a", "blue/a ipv6"], "and of IPv6, if there is one"


def test_what_a_lease_brought_is_no_drift_and_goes_when_it_is_not_asked_for() -> None:
    kernel = made()
    lease(kernel, dns=[])
    assert compare.drift(kernel.records, kernel.observed) == []
    assert do(kernel, "endpoint", **HERE, **DHCP).changes == []
    found = do(kernel, "endpoint", **HERE)
    assert changes(found, "address") == [("remove", f"netns:a/eth0 {GIVEN}"), ("create", "netns:a/eth0 10.0.0.2/24")]
    assert ("remove", "netns:a/0.0.0.0/0 table 254 metric 1024") in changes(found, "route")
    routes = kernel.observed.namespaces["netns:a"].routes
    assert [(route.via, route.protocol) for route in routes if route.prefix == "0.0.0.0/0"] == [("10.0.0.1", 201)]
    assert compare.drift(kernel.records, kernel.observed) == []


def test_the_leased_address_itself_may_become_the_endpoints_own() -> None:
    kernel = made()
    lease(kernel)
    found = do(kernel, "endpoint", **HERE, ipv4_address=GIVEN.partition("/")[0])
    assert changes(found, "address") == [("remove", f"netns:a/eth0 {GIVEN}"), ("create", f"netns:a/eth0 {GIVEN}")]
    assert f"netns:a/eth0 {GIVEN}" in kernel.records["address"]


def ways_out(options: Dict[str, Any], red: Dict[str, Any]) -> List[Tuple[Optional[str], int]]:
    kernel = SimulatedKernel("eth0", "eth1")
    blue(kernel)
    do(kernel, "network", name="red", driver="macvlan", parent="eth1", subnets=subnets("10.1.0.0/24"))
    do(kernel, "endpoint", **HERE, **DHCP, **options)
    lease(kernel)
    do(kernel, "endpoint", **{**HERE, "network": "red", **red})
    routes = kernel.observed.namespaces["netns:a"].routes
    return [(route.via, route.metric) for route in routes if route.prefix == "0.0.0.0/0" and route.protocol == 201]


@pytest.mark.parametrize(
    ("options", "metric"),
    [({}, 2048), ({"gw_priority": 1}, 512), ({"gw_priority": -1}, 2048), ({"default_route": {"ipv4": "always"}}, 512)],
)
def test_a_default_route_of_ours_stands_before_or_behind_that_of_a_lease(options: Dict[str, Any], metric: int) -> None:
    assert ways_out({}, options) == [("10.1.0.1", metric)]


@pytest.mark.parametrize(
    ("network", "given", "lines"),
    [
        ({}, {}, "nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch example.com\n"),
        ({}, {"search": ["a.example", "b.example"]}, "nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch a.example b.example\n"),
        ({}, {"dns": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]},
         "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nsearch example.com\n"),
        ({}, {"dns": []}, ""),
        ({"dns": ["10.0.0.9"]}, {}, "nameserver 10.0.0.9\n"),
        ({"dns_search": ["c.example"]}, {}, "nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch c.example\n"),
        ({"dns_options": ["rotate"]}, {"domain": None}, "nameserver 10.0.0.53\nnameserver 10.0.0.54\noptions rotate\n"),
    ],
)  # fmt: skip
def test_what_a_server_says_of_names_counts_where_nobody_else_does(network: Any, given: Any, lines: str) -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=[], addressing="dhcp")
    do(kernel, "endpoint", **HERE, dns_options=network.pop("dns_options", None), **DHCP)
    blue(kernel, subnets=[], addressing="dhcp", **network)
    lease(kernel, **given)
    found = pages(items_of(kernel.records), kernel.observed.leases)
    assert found.text("resolver", "netns:a") == lines


def test_a_resolver_that_leases_fill_is_written_followed_and_removed() -> None:
    kernel = made()
    lease(kernel)
    lines = "nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch example.com\n"
    found = do(kernel, "endpoint", **HERE, **DHCP)
    assert changes(found, "resolver") == [("create", "netns:a")]
    assert found.pages.text("resolver", "netns:a") == lines
    # The server names others: the service writes them, and no task sees a difference in that.
    kernel.observed.leases["blue/a"] = cast(Lease, {**LEASE, "dns": ["10.0.0.1"]})
    wanted = expected(kernel.records, kernel.observed.leases)
    assert [change.kind for change in compare.drift(wanted, kernel.observed)] == ["resolver"]
    kernel.observed.blocks["resolver", "netns:a"] = wanted["resolver"]["netns:a"].spec["digest"]
    assert compare.drift(wanted, kernel.observed) == []
    kernel.records = followed(kernel.records, kernel.observed)
    assert do(kernel, "endpoint", **HERE, **DHCP).changes == []
    # No lease, no lines: the service has nothing to say of what is there, and the next task takes it away.
    kernel.observed.leases.clear()
    assert "netns:a" not in expected(kernel.records, {})["resolver"]
    assert changes(do(kernel, "endpoint", **HERE, **DHCP), "resolver") == [("remove", "netns:a")]
    assert digest(lines) != digest("")


def test_a_lease_of_a_workload_without_resolv_conf_is_said() -> None:
    kernel = made()
    lease(kernel)
    kernel.observed.unwritable["resolver", "netns:a"] = "it is a symbolic link"
    assert (
        "netns:a does not get the dns of its leases: it is a symbolic link"
        in do(kernel, "endpoint", **HERE, **DHCP).warnings
    )


def test_a_lease_is_shown() -> None:
    kernel = made()
    networks = {"blue": kernel.records["network"]["blue"].spec}

    def shown() -> Dict[str, Any]:
        return describe.endpoint(spec(kernel), networks, kernel.observed)  # type: ignore[arg-type]

    assert (shown()["lease"], shown()["gateway"]["ipv4"]) == (None, None)
    lease(kernel)
    found = shown()
    assert found["lease"] == {"address": GIVEN, "server": "10.0.0.53", "routers": ["10.0.0.254"], "dns": LEASE["dns"],
                              "expires": "1970-01-01T01:06:40Z"}  # fmt: skip
    assert (found["gateway"]["ipv4"], found["addresses"]) == ("10.0.0.254", [])
    empty: Dict[str, Any] = {
        "networks": [],
        "links": [],
        "routes": [],
        "transactions": [],
        "held": {},
        "unconfirmed": None,
    }
    assert f"{GIVEN} (DHCP)" in "\n".join(tables.host({**empty, "endpoints": [{**found, "alive": True}]}))


def test_the_wire_is_asked_for_what_a_server_named() -> None:
    kernel = made(subnets=[], addressing="dhcp")
    row = {"name": "blue", "driver": "macvlan", "parent": "eth0", "addressing": "dhcp"}
    declared, items = model.declare_map({"name": "m", "networks": [row]}), items_of(kernel.records)
    for held, gateways, unleased in (({"blue/a": LEASE}, ["10.0.0.254"], []), ({}, [], ["a"])):
        (found,) = verify.networks(declared, items["network"], items["endpoint"], kernel.observed, held)  # type: ignore[arg-type]
        assert (found.gateways, found.unleased, list(found.endpoints)) == (
            gateways,
            unleased,
            ["10.0.0.77"] * len(gateways),
        )
    said = verify.judge([found], {"eth0": verify.Wire()}, [])
    assert [finding["text"] for finding in said] == [
        "eth0, untagged: no DHCP server gave endpoint a of blue an address: check the server, and systemctl status netops-underlay-dhcp"
    ]


def test_the_service_hears_of_leases(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    files = events.Files(str(tmp_path / "netns"), str(state))
    files.stamp = files_stamp = Registry(str(state)).stamp()
    (state / "other").touch()
    assert not files.read_events()
    leases.save(str(state), LEASE)  # the first one makes the directory
    assert files.read_events()
    files.follow([str(state / leases.DIRECTORY)])
    for change in (lambda: leases.save(str(state), LEASE), lambda: leases.remove(str(state), "blue/a")):
        assert not files.read_events()
        change()
        assert files.read_events()
    assert Registry(str(state)).stamp() == files_stamp
    os.close(files.fileno())


def test_a_registry_that_was_lost_takes_no_lease_for_an_address_of_its_own() -> None:
    kernel = made()
    lease(kernel)
    kernel.records.clear()
    blue(kernel)
    do(kernel, "endpoint", adopt=True, **HERE)
    assert spec(kernel)["addresses"] == ["10.0.0.2/24"]


def test_no_client_no_lease() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    kernel.observed.unleased = "no DHCP client runs on this host"
    assert refused(kernel, "endpoint", **HERE, **DHCP) == [
        "ipv4_address: no DHCP client runs on this host; set dhcp: true of vlan_service (role prepare)"
    ]
    # In a check run, an earlier task would have started it.
    simulate.overlay(kernel.observed, simulate.unpack(simulate.pack([simulate.CLIENT])))
    assert do(kernel, "endpoint", **HERE, **DHCP).leases == ["blue/a"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("web 1", b"\0web 1"), ("01:02:00:51:aa:bb:cc", bytes.fromhex("01020051aabbcc")), ("FF:00", b"\xff\0"), ("ab", b"\0ab"),
        ("a:b", b"\0a:b"), (None, None),
    ],
)  # fmt: skip
def test_a_client_id_is_octets_or_a_text(given: Optional[str], sent: Optional[bytes]) -> None:
    declared = model.declare("endpoint", {**HERE, **DHCP, "dhcp_client_id": given}, "present", False)
    assert declared.problems == [] and declared.items[0].spec
    assert client_id(declared.items[0].spec) == sent  # type: ignore[arg-type]


SIX = {"ipv6_address": "dhcp"}
GIVEN6 = "2001:db8::77/128"
LEASE6: Lease = {
    **LEASE, "client_id": "000000010004" + 16 * "ab", "server": "fe80::1", "server_duid": "00030001020000000001", "address": GIVEN6,
    "routers": [], "dns": ["2001:db8::53"], "domain": None, "search": ["six.example"],
}  # fmt: skip


def lease6(kernel: SimulatedKernel) -> None:
    """A server answered for IPv6, and a router advertised the way out."""
    space = kernel.observed.namespaces["netns:a"]
    index = space.names["eth0"].index
    kernel.observed.leases["blue/a ipv6"] = LEASE6
    space.addresses.setdefault(index, []).append(Address(index, GIVEN6, 16, 0, 0))
    space.routes.append(Route("::/0", "unicast", "fe80::1", index, None, 1024, 254, 9, 0))


def test_ipv6_of_a_server_is_beside_the_pool_of_ipv4() -> None:
    """Routers are heard, for DHCPv6 has no routes; no address is made of what they say."""
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=subnets("10.0.0.0/24", "2001:db8::/64"))
    provisional = ["blue/a: its IPv6 address is provisional, only a DHCP server makes it known after a real run"]
    assert do(kernel, "endpoint", **HERE, **SIX).provisional() == provisional
    assert (spec(kernel)["dhcp"], spec(kernel)["dhcp6"], spec(kernel)["addresses"]) == (False, True, ["10.0.0.2/24"])
    settings = kernel.records["link"]["netns:a/eth0"].spec["sysctls"]
    assert [settings[f"ipv6.{name}"] for name in ("disable_ipv6", "accept_ra", "autoconf")] == [0, 2, 0]
    assert [route.prefix for route in kernel.observed.namespaces["netns:a"].routes if route.prefix == "::/0"] == []
    lease6(kernel)
    assert compare.drift(kernel.records, kernel.observed) == []
    found = do(kernel, "endpoint", **HERE, **SIX)
    assert [change.kind for change in found.changes] == ["resolver"]
    assert found.pages.text("resolver", "netns:a") == "nameserver 2001:db8::53\nsearch six.example\n"
    found = do(kernel, "endpoint", **HERE)
    assert changes(found, "address") == [
        ("remove", f"netns:a/eth0 {GIVEN6}"),
        ("create", "netns:a/eth0 2001:db8::2/64"),
    ]
    assert dhcp.ends(found.changes) == ["blue/a ipv6"] and found.leases == []
    both = do(kernel, "endpoint", **HERE, **SIX, **DHCP)
    assert sorted(both.leases) == ["blue/a", "blue/a ipv6"]


@pytest.mark.parametrize(
    ("options", "asks"),
    [
        ({}, (True, False)), ({"enable_ipv6": True}, (True, True)), ({"enable_ipv6": True, "enable_ipv4": False}, (False, True)),
        ({"subnets": subnets("2001:db8::/64")}, (True, False)),
        ({"subnets": subnets("2001:db8::/64"), "enable_ipv6": True}, (True, False)),
    ],
)  # fmt: skip
def test_which_versions_a_network_asks_for(options: Dict[str, Any], asks: Tuple[bool, bool]) -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, **{"subnets": [], **options}, addressing="dhcp")
    assert [row["subnet"] for row in kernel.records["network"]["blue"].spec["subnets"]] == [
        row["subnet"] for row in options.get("subnets", ())
    ]
    do(kernel, "endpoint", **HERE)
    assert (spec(kernel)["dhcp"], spec(kernel)["dhcp6"]) == asks


def test_a_lease_of_each_version_is_shown_and_kept(tmp_path: Path) -> None:
    kernel = made()
    do(kernel, "endpoint", **HERE, **DHCP, **SIX)
    lease(kernel)
    lease6(kernel)
    networks = {"blue": kernel.records["network"]["blue"].spec}
    found = describe.endpoint(spec(kernel), networks, kernel.observed)  # type: ignore[arg-type]
    assert (found["lease"]["address"], found["lease_ipv6"]["address"]) == (GIVEN, GIVEN6)
    shown = "\n".join(tables.host({"networks": [], "links": [], "routes": [], "transactions": [], "held": {}, "unconfirmed": None,
                                   "endpoints": [{**found, "alive": True}]}))  # fmt: skip
    assert f"{GIVEN} (DHCP)" in shown and f"{GIVEN6} (DHCPv6)" in shown
    for one in (LEASE, LEASE6):
        leases.save(str(tmp_path), one)
    assert leases.load(str(tmp_path)) == {"blue/a": LEASE, "blue/a ipv6": LEASE6}
    leases.remove(str(tmp_path), "blue/a ipv6")
    assert leases.load_one(str(tmp_path), "blue/a") == LEASE and leases.load_one(str(tmp_path), "blue/a ipv6") is None
    with pytest.raises(ValueError, match="addresses of two IP versions"):
        leases.check({**LEASE6, "dns": ["10.0.0.53"]})


def test_source_routing_knows_no_address_of_a_lease() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=subnets("10.0.0.0/24"))
    said = do(kernel, "endpoint", **HERE, **SIX, source_routing=True).warnings
    assert "answers from the IPv6 address of a lease leave by the main table, without source routing" in " ".join(said)


@pytest.mark.parametrize(
    ("given", "used"),
    [("ff:00:00:00:07:00:03:00:01:aa", "00000007000300" + "01aa"), ("ff:00:00:00:07:00:03", None), ("01:02:03:04:05:06:07:08:09", None), ("a", None)],
)  # fmt: skip
def test_a_duid_is_in_a_client_id_of_rfc_4361(given: str, used: Optional[str]) -> None:
    declared = model.declare("endpoint", {**HERE, **SIX, "dhcp_client_id": given}, "present", False)
    assert declared.problems == [] and declared.items[0].spec
    found = duid(declared.items[0].spec)  # type: ignore[arg-type]
    assert (found.hex() if found else None) == used
