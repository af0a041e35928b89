# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints in the modes l3 and l3s, on two hosts of one segment with a router beside them: who reaches whom, and by what."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.converge import Outcome
from ansible_collections.netops.underlay.plugins.plugin_utils import _l3

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, inside, ip, needs_ipv6, run
from tests.support.traffic import addresses, default, reachable, reaches
from tests.support.waiting import until

pytestmark = pytest.mark.every_kernel

SIX = [6] if HAS_IPV6 else []


@dataclass
class Node:
    """A namespace that plays a host, with an engine of its own."""

    name: str
    engine: Engine

    def task(self, kind: str, state: str = "present", **options: Any) -> Outcome:
        with inside(self.name):
            return self.engine.task(kind, state, **options)

    def network(self, name: str, mode: str, *subnets: str, parent: str = "trunk", **options: Any) -> Outcome:
        rows = [{"subnet": subnet} for subnet in subnets if HAS_IPV6 or ":" not in subnet]
        return self.task("network", name=name, driver="ipvlan", mode=mode, parent=parent, subnets=rows, **options)

    def endpoint(self, network: str, name: str) -> None:
        self.task("endpoint", network=network, name=name, netns=name)

    def routes(self, *pairs: tuple[str, str], **options: Any) -> None:
        rows = [{"prefix": prefix, "via": via} for prefix, via in pairs if HAS_IPV6 or ":" not in prefix]
        self.task("routes", name="fabric", exact=True, routes=rows, **options)


@pytest.fixture
def nodes(tmp_path: Path, host: None) -> Dict[str, Node]:
    """Hosts ``ha`` (192.0.2.1) and ``hb`` (.2), and ``rem`` (.9), which is no host of ours."""
    run("ip link add lan type bridge; ip link set lan up")
    for name, number in (("ha", 1), ("hb", 2), ("rem", 9)):
        run(
            f"""
            ip netns add {name}; ip -n {name} link set lo up
            ip link add to-{name} type veth peer name trunk netns {name}
            ip link set to-{name} master lan up; ip -n {name} link set trunk up
            ip -n {name} address add 192.0.2.{number}/24 dev trunk
            """
        )
        if HAS_IPV6:
            run(f"ip -n {name} address add 2001:db8::{number}/64 dev trunk nodad")
    made = {name: Node(name, Engine(str(tmp_path / name))) for name in ("ha", "hb")}
    for name in made:
        (tmp_path / name).mkdir(mode=0o700)
    return made


def own(netns: str) -> List[str]:
    return [address.partition("/")[0] for address in addresses("eth0", netns)]


def everybody_reaches_everybody(*names: str) -> None:
    for name in names:
        for other in names:
            for address in own(other) if other != name else ():
                assert reachable(f"ip netns exec {name}", address), f"{name} does not reach {other} at {address}"


@pytest.fixture(params=["l3", "l3s"])
def mode(request: Any) -> str:
    return str(request.param)


def test_endpoints_of_two_hosts_and_of_two_subnets_reach_each_other(nodes: Dict[str, Node], mode: str) -> None:
    ha, hb = nodes["ha"], nodes["hb"]
    ha.network("red", mode, "10.1.0.0/24", "fd00:1::/64", share_parent=True)
    ha.network("blue", mode, "10.3.0.0/24", "fd00:3::/64", share_parent=True)
    hb.network("red", mode, "10.2.0.0/24", "fd00:2::/64")
    for node, network, name in ((ha, "red", "a1"), (ha, "red", "a2"), (ha, "blue", "a3"), (hb, "red", "b1")):
        node.endpoint(network, name)
    assert [own(name)[0] for name in ("a1", "a2", "a3", "b1")] == ["10.1.0.2", "10.1.0.3", "10.3.0.2", "10.2.0.2"]
    assert [address for address in own("a1")[1:]] == ["fd00:1::2"] * len(SIX)
    for family in ("-4", *(["-6"] if HAS_IPV6 else [])):
        way = default("a1", family)
        assert (way["dev"], way.get("gateway")) == ("eth0", None)
    everybody_reaches_everybody("a1", "a2", "a3")
    assert not reaches("ip netns exec a1", "10.2.0.2"), "without a route on the other host there is no way back"
    ha.routes(("10.2.0.0/24", "192.0.2.2"), ("fd00:2::/64", "2001:db8::2"))
    hb.routes(
        ("10.1.0.0/24", "192.0.2.1"),
        ("10.3.0.0/24", "192.0.2.1"),
        ("fd00:1::/64", "2001:db8::1"),
        ("fd00:3::/64", "2001:db8::1"),
    )
    everybody_reaches_everybody("a1", "a3", "b1")
    hb.routes(("10.3.0.0/24", "192.0.2.1"), ("fd00:3::/64", "2001:db8::1"))
    assert not reaches("ip netns exec a1", "10.2.0.2") and reaches("ip netns exec a3", "10.2.0.2")


def test_a_router_reaches_endpoints_by_its_own_routes(nodes: Dict[str, Node], mode: str) -> None:
    nodes["ha"].network("red", mode, "10.1.0.0/24", "fd00:1::/64")
    nodes["ha"].endpoint("red", "a1")
    run("ip -n rem route add 10.1.0.0/24 via 192.0.2.1")
    if HAS_IPV6:
        run("ip -n rem route add fd00:1::/64 via 2001:db8::1")
    for address in own("a1"):
        assert reachable("ip netns exec rem", address)
    for address in ("192.0.2.9", "2001:db8::9")[: 1 + len(SIX)]:
        assert reachable("ip netns exec a1", address)


def test_no_broadcast_and_no_multicast_arrives(nodes: Dict[str, Node], mode: str, tmp_path: Path) -> None:
    """The same is sent to an endpoint of mode l2, which gets all of it: capture and counters could see it."""
    nodes["ha"].network("red", mode, "10.1.0.0/24", "fd00:1::/64")
    nodes["ha"].endpoint("red", "a1")
    nodes["hb"].network("two", "l2", "192.0.2.0/24", "2001:db8::/64")
    nodes["hb"].task("endpoint", network="two", name="b1", netns="b1", ipv4_address="192.0.2.130")
    run("ip -n rem route add 10.1.0.0/24 via 192.0.2.1; ip -n rem route add 224.0.0.0/4 dev trunk")
    seen = {name: tmp_path / f"{name}.txt" for name in ("a1", "b1")}
    watchers = [_capture(name, path) for name, path in seen.items()]

    def pings_seen(name: str, count: int) -> bool:
        # Of what comes in by mode l3s a capture inside sees nothing, so the answers are what is counted.
        run(f"ip netns exec rem ping -q -c 1 -W 1 {own(name)[0]} > /dev/null || true")
        return seen[name].read_text().count("echo reply") > count

    try:
        for name in seen:
            assert until(lambda name=name: pings_seen(name, 0))
        before = {name: _multicasts(name) for name in seen}
        run(
            """
            ip netns exec rem ping -q -b -c 3 -i 0.2 -W 1 192.0.2.255 > /dev/null 2>&1 || true
            ip netns exec rem ping -q -c 3 -i 0.2 -W 1 224.0.0.1 > /dev/null || true
            ip netns exec rem ping -q -c 3 -i 0.2 -W 1 ff02::1%trunk > /dev/null || true
            ip netns exec rem arping -q -c 1 -I trunk 192.0.2.77 || true
            ip netns exec rem arping -q -c 1 -I trunk 10.1.0.77 || true
            """
        )
        sent = [
            "192.0.2.255: ICMP echo request",
            "224.0.0.1: ICMP echo request",
            "who-has 192.0.2.77",
            "who-has 10.1.0.77",
        ]
        sent += ["ff02::1: ICMP6, echo request"] * len(SIX)
        assert until(lambda: all(text in seen["b1"].read_text() for text in sent)), seen["b1"].read_text()
        assert _multicasts("b1") >= before["b1"] + 6 + 3 * len(SIX)
        replies = seen["a1"].read_text().count("echo reply")
        assert until(lambda: pings_seen("a1", replies))
        assert _multicasts("a1") == before["a1"]
    finally:
        for watcher in watchers:
            watcher.terminate()
            watcher.wait()
    came = [line for line in seen["a1"].read_text().splitlines() if " Out " not in line]
    assert [line for line in came if " B " in line or " M " in line or any(text in line for text in sent)] == []


def _capture(netns: str, path: Path) -> subprocess.Popen[bytes]:
    with open(path, "w") as file:
        return subprocess.Popen(
            ["ip", "netns", "exec", netns, "tcpdump", "-n", "-l", "-e", "-i", "any"],
            stdout=file,
            stderr=subprocess.DEVNULL,
        )


def _multicasts(netns: str) -> int:
    """How many packets to broadcast and multicast addresses a namespace has got."""
    with inside(netns):
        names, numbers = [
            line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("IpExt:")
        ]
        six = [line.split() for line in Path("/proc/net/snmp6").read_text().splitlines()] if HAS_IPV6 else []
    counters = dict(zip(names, numbers))
    counters.update(pair for pair in six if len(pair) == 2)
    return sum(int(counters.get(name, 0)) for name in ("InMcastPkts", "InBcastPkts", "Ip6InMcastPkts"))


def test_unused_addresses_are_unreachable_and_do_not_loop(nodes: Dict[str, Node], mode: str) -> None:
    ha = nodes["ha"]
    ha.network("red", mode, "10.1.0.0/24", "fd00:1::/64")
    ha.endpoint("red", "a1")
    families = [
        ("10.1.0.", "10.1.0.0/24", "192.0.2.1", "192.0.2.9"),
        ("fd00:1::", "fd00:1::/64", "2001:db8::1", "2001:db8::9"),
    ]
    for netns in ("ha", "rem"):
        run(f"ip netns exec {netns} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'")
        run(f"ip netns exec {netns} sh -c 'echo 0 > /proc/sys/net/ipv4/icmp_ratelimit'")
        if HAS_IPV6:
            run(
                f"ip netns exec {netns} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit'"
            )
    for head, prefix, underlay, router in families[: 1 + len(SIX)]:
        run(f"ip -n rem route add {prefix} via {underlay}; ip -n ha route add default via {router}")
        assert reachable("ip netns exec rem", f"{head}2")
        unused = f"{head}c8" if ":" in head else f"{head}200"
        assert until(lambda unused=unused: _answer(unused) == "sent back"), _answer(unused)
    ha.task("routes", name="red", network="red")
    for head, prefix, _underlay, _router in families[: 1 + len(SIX)]:
        rows = [row for row in ip("-6" if ":" in prefix else "-4", "route", "show", prefix, netns="ha")]
        assert [(row["type"], row["metric"], row["protocol"]) for row in rows] == [("unreachable", 4294967294, "201")]
        assert reachable("ip netns exec rem", f"{head}2")
        unused = f"{head}c8" if ":" in head else f"{head}200"
        assert until(lambda unused=unused: _answer(unused) == "unreachable"), _answer(unused)
    everybody_reaches_everybody("a1")


def _answer(address: str) -> str:
    """What ``rem`` hears about an address."""
    said = run(f"ip netns exec rem ping -c 1 -W 2 {address} || true").lower()
    return (
        "sent back" if "redirect" in said or "hop limit" in said else "unreachable" if "unreachable" in said else said
    )


def test_the_host_reaches_its_endpoints_by_a_link_of_its_own(nodes: Dict[str, Node], mode: str) -> None:
    ha = nodes["ha"]
    ha.network("red", mode, "10.1.0.0/24", "fd00:1::/64")
    ha.endpoint("red", "a1")
    assert not any(reaches("ip netns exec ha", address) for address in own("a1"))
    ha.network("red", mode, "10.1.0.0/24", "fd00:1::/64", host_access=True)
    ha.endpoint("red", "a2")
    ha.task("routes", name="red", network="red")
    for name in ("a1", "a2"):
        for address in own(name):
            assert reachable("ip netns exec ha", address)
    assert reachable("ip netns exec a1", "192.0.2.1")
    assert "No route to host" in run("ip netns exec ha ping -c 1 -W 1 10.1.0.200 2>&1 || true")
    ha.network("red", mode, "10.1.0.0/24", "fd00:1::/64")
    assert not any(reaches("ip netns exec ha", address) for address in own("a1"))


def test_what_comes_in_on_a_second_uplink_arrives_by_host_access(nodes: Dict[str, Node], mode: str) -> None:
    """Packets to an endpoint that arrive on another link than the parent are lost without it."""
    ha = nodes["ha"]
    run(
        """
        ip link add second type veth peer name up2 netns ha; ip link set second netns rem
        ip -n ha link set up2 up; ip -n rem link set second up
        ip -n ha address add 198.51.100.1/24 dev up2; ip -n rem address add 198.51.100.9/24 dev second
        ip netns exec ha sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
        ip -n rem route add 10.1.0.0/24 via 198.51.100.1 src 192.0.2.9
        """
    )
    ha.network("red", mode, "10.1.0.0/24")
    ha.endpoint("red", "a1")
    assert not reaches("ip netns exec rem", "10.1.0.2")
    ha.network("red", mode, "10.1.0.0/24", host_access=True)
    assert reachable("ip netns exec rem", "10.1.0.2")


def test_on_a_vlan_the_sub_interface_has_the_underlay_address(nodes: Dict[str, Node], mode: str) -> None:
    ha, hb = nodes["ha"], nodes["hb"]
    warned = ha.network("red", mode, "10.1.0.0/24", parent="trunk.50").warnings
    assert [text for text in warned if "trunk.50 has no address of its own" in text and "vlan_link.addresses" in text]
    ha.task("network", "absent", name="red")
    for node, number in ((ha, 1), (hb, 2)):
        six = [f"2001:db8:50::{number}/64"] * len(SIX)
        node.task("vlan", parent="trunk", vlan_id=50, addresses=[f"198.18.50.{number}/24", *six])
        outcome = node.network("red", mode, f"10.{number}.0.0/24", f"fd00:{number}::/64", parent="trunk.50")
        assert outcome.warnings == []
        node.endpoint("red", f"e{number}")
    ha.routes(("10.2.0.0/24", "198.18.50.2"), ("fd00:2::/64", "2001:db8:50::2"))
    hb.routes(("10.1.0.0/24", "198.18.50.1"), ("fd00:1::/64", "2001:db8:50::1"))
    everybody_reaches_everybody("e1", "e2")


@needs_ipv6
def test_a_vrf_has_the_routes_of_its_endpoints(nodes: Dict[str, Node]) -> None:
    """The parent is in a VRF: what its endpoints send is routed by that VRF's table, where the mesh puts the routes to others' prefixes."""
    hosts = {}
    for number, (name, node) in enumerate(nodes.items(), 1):
        run(
            f"ip -n {name} link add blue type vrf table 1010; ip -n {name} link set blue up; ip -n {name} link set trunk master blue"
        )
        run(f"ip -n {name} address add 2001:db8::{number}/64 dev trunk nodad")
        subnets = [f"10.{number}.0.0/24", f"fd00:{number}::/64"]
        node.network("red", "l3", *subnets)
        node.endpoint("red", f"e{number}")
        hosts[name] = _l3.of_host(
            name,
            {
                "l3_routing_underlay": {"trunk": [f"192.0.2.{number}/24", f"2001:db8::{number}/64"]},
                "l3_routing_vrfs": {"trunk": "blue"},
                "trunk_networks": [
                    {
                        "name": "red",
                        "mode": "l3",
                        "parent": "trunk",
                        "subnets": [{"subnet": subnet} for subnet in subnets],
                    }
                ],
            },
        )
    for name, node in nodes.items():
        node.task("routes", name="fabric", exact=True, routes=_l3.mesh(hosts, name))
    everybody_reaches_everybody("e1", "e2")
    for family, destination, way in ((4, "10.2.0.0/24", "192.0.2.2"), (6, "fd00:2::/64", "2001:db8::2")):
        rows = {
            table: ip(f"-{family}", "route", "show", "table", table, "proto", "201", netns="ha")
            for table in ("1010", "main")
        }
        assert [(row["dst"], row["gateway"]) for row in rows["1010"] if "gateway" in row] == [(destination, way)]
        assert rows["main"] == []


def test_mode_l3s_on_a_parent_in_a_vrf_is_refused(nodes: Dict[str, Node]) -> None:
    run("ip -n ha link add blue type vrf table 1010; ip -n ha link set blue up; ip -n ha link set trunk master blue")
    with pytest.raises(
        InputError, match="^mode: trunk is in VRF blue, where l3s endpoints receive nothing; use mode: l3$"
    ):
        nodes["ha"].network("red", "l3s", "10.1.0.0/24")


@pytest.mark.parametrize("internal", [True, False])
def test_subnets_of_a_network_without_a_parent_reach_each_other(tmp_path: Path, internal: bool) -> None:
    engine = Engine(str(tmp_path / "state"))
    rows = [{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}]
    engine.task("network", name="blue", driver="ipvlan", mode="l3", internal=internal, subnets=rows)
    for name, subnet in (("one", "10.1.0.0/24"), ("two", "10.2.0.0/24")):
        engine.endpoint(name, subnet=subnet)
    assert reachable("ip netns exec one", "10.2.0.2") and reachable("ip netns exec two", "10.1.0.2")


# --- the host's own firewall ------------------------------------------------------------------------

#: Rules of the host's own firewall, and what still works beside each, by mode: ``i`` a machine on the wire reaches an endpoint,
#: ``o`` an endpoint reaches it, ``=`` an endpoint reaches its neighbour on the same parent.
REPLIES = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
HOSTS_RULES = {
    "Docker's, and whatever else forbids forwarding": (["-P FORWARD DROP"], {"l3": "io=", "l3s": "io="}),
    "ufw's and firewalld's, which let replies in": (["-P INPUT DROP", REPLIES], {"l3": "io=", "l3s": "o="}),
    "nothing in": (["-P INPUT DROP"], {"l3": "io=", "l3s": "="}),
    "nothing out": (["-P OUTPUT DROP"], {"l3": "=", "l3s": "="}),
    "nothing before routing, as in firewalld's panic mode": (
        ["-t raw -A PREROUTING -j DROP"],
        {"l3": "io=", "l3s": "="},
    ),
}


@pytest.fixture
def iptables(host: None) -> str:
    """A command that works on this kernel, which may lack nf_tables."""
    for name in ("iptables", "iptables-legacy"):
        if subprocess.run([name, "-P", "INPUT", "ACCEPT"], capture_output=True, check=False).returncode == 0:
            return name
    assert not platform.release().startswith("6.12."), "the lab's 6.12 has ip_tables"
    pytest.skip("this kernel has neither ip_tables nor nf_tables for IPv4")


def test_which_rules_of_the_host_reach_an_endpoint(iptables: str, nodes: Dict[str, Node], mode: str) -> None:
    nodes["ha"].network("red", mode, "10.1.0.0/24")
    for name in ("a1", "a2"):
        nodes["ha"].endpoint("red", name)
    run("ip -n rem route add 10.1.0.0/24 via 192.0.2.1")
    ways = {"i": ("rem", "10.1.0.2"), "o": ("a1", "192.0.2.9"), "=": ("a1", "10.1.0.3")}

    def works() -> str:
        pings = {
            key: subprocess.Popen(
                ["ip", "netns", "exec", source, "ping", "-c1", "-W1", target], stdout=subprocess.DEVNULL
            )
            for key, (source, target) in ways.items()
        }
        return "".join(key for key, ping in pings.items() if ping.wait() == 0)

    assert until(lambda: works() == "io=")
    for what, (rules, wanted) in HOSTS_RULES.items():
        run("".join(f"ip netns exec ha {iptables} {rule}\n" for rule in rules))
        assert until(lambda want=wanted[mode]: works() == want, 20), what
        run("".join(f"ip netns exec ha {iptables} -P {chain} ACCEPT\n" for chain in ("INPUT", "FORWARD", "OUTPUT")))
        run(f"ip netns exec ha {iptables} -F; ip netns exec ha {iptables} -t raw -F")
    assert until(lambda: works() == "io=")
