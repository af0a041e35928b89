# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that the kernel makes of what a router advertises."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe, tables
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import ip, link, links, needs_ipv6, run, sysctl
from tests.support.traffic import addresses, default, reachable
from tests.support.waiting import until

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk", "router"), needs_ipv6]

PREFIX = "2001:db8:50:"
#: A router that speaks only when it is asked (RFC 4861, 4.2 and 4.6.2), on link argv[1] for prefix argv[2].
ROUTER = """
import socket, struct, sys
found = socket.if_nametoindex(sys.argv[1])
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, "ff02::2") + struct.pack("@I", found))
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + socket.inet_pton(socket.AF_INET6, sys.argv[2])
print("ready", flush=True)
while True:
    if raw.recv(1500)[0] == 133:
        raw.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, found))
"""
SLAAC = {"ipv6_address": "slaac"}


@pytest.fixture
def router(trunk: str) -> Iterator[None]:
    """A router on VLAN 10, in a namespace of its own."""
    run("ip netns add router; ip link set far netns router; ip -n router link set far up")
    run("ip -n router link add far.10 link far type vlan id 10; ip -n router link set far.10 up")
    run("ip netns exec router sysctl -qw net.ipv6.conf.all.forwarding=1")
    run(f"ip -n router addr add fe80::1/64 dev far.10 nodad; ip -n router addr add {PREFIX}:1/64 dev far.10 nodad")
    run("ip -n router addr add 2001:db8:ffff::1/64 dev far.10 nodad")
    command = ["ip", "netns", "exec", "router", sys.executable, "-c", ROUTER, "far.10", f"{PREFIX}:"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield
    process.kill()
    process.wait()


def made(netns: str = "one") -> List[str]:
    """The endpoint's addresses by SLAAC, as ``ip`` shows them."""
    rows = ip("-6", "addr", "show", "dev", "eth0", netns=netns)[0]["addr_info"]
    return [f"{row['local']}/{row['prefixlen']}" for row in rows if row.get("dynamic") and not row.get("tentative")]


def shown(engine: Engine) -> Dict[str, Any]:
    (found,) = describe.host(engine.state_dir, ["endpoints"], ["blue/one"])["endpoints"]
    assert isinstance(found, dict)
    return found


def drift(engine: Engine) -> List[Any]:
    return describe.host(engine.state_dir, ["drift"])["drift"]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_router_gives_address_and_way_out_and_neither_is_drift(engine: Engine, driver: str) -> None:
    engine.network(driver=driver, subnets=[{"subnet": "192.0.2.0/24", "gateway": "none"}, {"subnet": f"{PREFIX}:/64"}])
    one = engine.endpoint("one", **SLAAC)
    assert one["addresses"] == ["192.0.2.1/24"]
    run("ip netns exec one sysctl -qw net.ipv6.conf.all.forwarding=1")  # a workload that forwards hears routers too
    (address,) = until(made)
    assert address.startswith(PREFIX)
    assert until(lambda: default("one", "-6"))["gateway"] == "fe80::1"
    assert reachable("ip netns exec one", "-6 2001:db8:ffff::1")
    assert drift(engine) == []
    engine.same("one", **SLAAC)
    found = shown(engine)
    assert (found["addresses"], found["slaac_addresses"]) == (["192.0.2.1/24"], [address])
    assert found["gateway"] == {"ipv4": None, "ipv6": "fe80::1"}
    assert f"{address} (SLAAC)" in "\n".join(tables.host({"networks": [], "endpoints": [found], "links": [], "routes": [],
                                                          "transactions": [], "held": {}, "unconfirmed": None}))  # fmt: skip
    two = engine.endpoint("two")
    assert two["addresses"] == ["192.0.2.2/24", f"{PREFIX}:2/64"], "no pool gave the other one an address"
    engine.absent("one")
    assert "one" not in run("ip netns list")


def test_it_begins_and_ends_while_the_endpoint_lives(engine: Engine) -> None:
    """A router that is asked answers; what it gave is gone with the option, and back with an undo."""
    engine.network(enable_ipv4=False, subnets=[{"subnet": f"{PREFIX}:/64"}])
    assert engine.endpoint("one")["addresses"] == [f"{PREFIX}:2/64"]
    assert default("one", "-6")["gateway"] == f"{PREFIX}:1"
    index = link("eth0", "one")["ifindex"]
    engine.endpoint("one", **SLAAC)
    (address,) = until(made)
    assert addresses("eth0", "one") == [address]
    assert until(lambda: default("one", "-6"))["gateway"] == "fe80::1"
    engine.endpoint("one")
    assert addresses("eth0", "one") == [f"{PREFIX}:2/64"]
    assert default("one", "-6")["gateway"] == f"{PREFIX}:1"
    engine.same("one")
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with registry.lock(10, "test"):
        undo.undo(registry.transactions()[0].number, registry, options)
    assert until(made) == [address]
    assert default("one", "-6")["gateway"] == "fe80::1" and link("eth0", "one")["ifindex"] == index
    engine.same("one", **SLAAC)


def ways_out() -> List[Tuple[str, int]]:
    return [(row["gateway"], row["metric"]) for row in ip("-6", "route", "show", "default", netns="one")]


def test_beside_a_router_another_network_provides_the_default_route_by_priority(engine: Engine) -> None:
    """Both stand there, so that the second is used while no router speaks; the kernel has one of a metric."""
    engine.network(subnets=[{"subnet": "192.0.2.0/24"}])
    engine.network("green", parent="trunk.20", subnets=[{"subnet": "2001:db8:60::/64"}], enable_ipv4=False)
    engine.endpoint("one", "green", netns="one", interface="eth9")
    assert ways_out() == [("2001:db8:60::1", 1024)]
    engine.endpoint("one", **SLAAC)
    assert until(lambda: len(ways_out()) == 2)
    assert ways_out() == [("fe80::1", 1024), ("2001:db8:60::1", 2048)]
    engine.endpoint("one", "green", netns="one", interface="eth9", gw_priority=1)
    assert ways_out() == [("2001:db8:60::1", 512), ("fe80::1", 1024)]
    engine.same("one", **SLAAC)
    engine.absent("one")
    assert ways_out() == [("2001:db8:60::1", 1024)]


def test_the_service_switches_it_on_again(engine: Engine) -> None:
    """Healing has the road of a task: the router is asked at once."""
    engine.network()
    engine.endpoint("one", **SLAAC)
    (address,) = until(made)
    run(f"ip netns exec one sysctl -qw net.ipv6.conf.eth0.accept_ra=0; ip -n one addr del {address} dev eth0")
    assert [row["object"] for row in drift(engine)] == ["link netns:one/eth0"]
    assert restore.restore(transact.RunOptions(engine.state_dir)).left == []
    assert sysctl("ipv6.conf.eth0.accept_ra", "one") == 2
    assert until(made) == [address]
    assert links("one") == ["eth0"]


def test_what_a_router_gave_is_no_lease_where_the_registry_was_lost(engine: Engine) -> None:
    options = {"enable_ipv4": False, "subnets": [{"subnet": f"{PREFIX}:/64"}]}
    engine.network(**options)
    assert engine.endpoint("one", accept_ra=True)["addresses"] == [f"{PREFIX}:2/64"]
    (address,) = until(made)
    run(f"rm -r {engine.state_dir}")
    engine.network(adopt=True, **options)
    assert engine.endpoint("one", adopt=True, accept_ra=True)["addresses"] == [f"{PREFIX}:2/64"]
    assert address in addresses("eth0", "one")


def test_verify_asks_the_router_for_a_prefix(engine: Engine) -> None:
    rows = {
        "networks": [{"name": name, "driver": "macvlan", "parent": f"trunk.{vlan}", "enable_ipv4": False,
                      "subnets": [{"subnet": f"2001:db8:{vlan}::/64", "gateway": "none"}]} for name, vlan in (("blue", 10), ("red", 20))],
        "endpoints": [{"network": name, "name": "one", "netns": name, **SLAAC} for name in ("blue", "red")],
    }  # fmt: skip
    engine.map(**rows)
    (silent,), unproved = engine.verify(**rows)
    assert "trunk, VLAN 20: no router advertises there, so one of red gets no address by SLAAC" in silent
    assert unproved == []
    run("ip -n router link set far.10 down")
    assert len(engine.verify(**rows)[0]) == 2
