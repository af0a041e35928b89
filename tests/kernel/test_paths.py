# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of the packets in every mode: two hosts on trunks of a switch, a router on its third port, and what the switch sees.

``ha`` has the network blue in VLAN 10, with the endpoints a1 and a2 in one subnet and a3 in another, and red in VLAN 20
with r1; ``hb`` has b1 in VLAN 10. An answer comes directly or by the router, which its TTL tells.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.network import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
)

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, inside, link, run
from tests.support.traffic import Capture, addresses
from tests.support.waiting import until

pytestmark = pytest.mark.every_kernel

FAMILIES = (4, 6) if HAS_IPV6 else (4,)


class Mode(NamedTuple):
    driver: str
    mode: str
    flag: Optional[str] = None

    def __str__(self) -> str:
        return " ".join(word for word in self if word)

    @property
    def is_l3(self) -> bool:
        return self.mode in ("l3", "l3s")

    @property
    def takes_all(self) -> bool:
        """The parent is the endpoint, so the host has no address on it."""
        return self.mode == "passthru"

    @property
    def keeps_apart(self) -> bool:
        """Endpoints of one network do not reach each other over the host."""
        return "private" in self or "vepa" in self or self.hears_the_listed

    @property
    def hears_the_listed(self) -> bool:
        """An endpoint receives from the MACs that it lists, wherever a frame goes to: here all that speak in the test."""
        return self.mode == "source"


MODES = [Mode("macvlan", mode) for mode in MACVLAN_MODES]
MODES += [Mode("ipvlan", mode, flag) for mode in IPVLAN_MODES for flag in IPVLAN_FLAGS]


@pytest.fixture(params=MODES, ids=str)
def mode(request: Any) -> Mode:
    found: Mode = request.param
    return found


def sh(netns: str, *commands: str) -> None:
    with inside(netns):
        run("; ".join(commands))


@pytest.fixture(autouse=True)
def switch(host: None) -> None:
    """The test's own namespace is the switch: VLANs 10 and 20 are tagged on every port, and nothing is untagged."""
    run("ip link add sw type bridge vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0; ip link set sw up")
    for name in ("ha", "hb", "router"):
        run(f"""
            ip netns add {name}; ip -n {name} link set lo up
            ip link add to-{name} type veth peer name trunk netns {name}
            ip link set to-{name} master sw up; ip -n {name} link set trunk up
            bridge vlan add dev to-{name} vid 10; bridge vlan add dev to-{name} vid 20
        """)


class Fabric:
    """Both hosts and the router, configured for a mode."""

    def __init__(self, mode: Mode, path: Path) -> None:
        self.mode = mode
        self.engines = {}
        for name in ("ha", "hb"):
            (path / name).mkdir(mode=0o700)
            self.engines[name] = Engine(str(path / name / "state"))
        self.underlay = ("10.0.10.", "2001:db8:f::") if mode.is_l3 else ("192.0.2.", "2001:db8:a::")
        self._router()
        self._hosts()
        self.own = {name: [text.partition("/")[0] for text in addresses("eth0", name)] for name in self.names}

    def _router(self) -> None:
        lines = [
            f"ip link add link trunk name trunk.{vlan} type vlan id {vlan}; ip link set trunk.{vlan} up"
            for vlan in (10, 20)
        ]
        lines += [
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.trunk/10.send_redirects=0"
        ]
        lines += ["sysctl -qw net.ipv6.conf.all.forwarding=1"] if HAS_IPV6 else []
        if self.mode.is_l3:
            held = {10: ["10.0.10.254/24", "2001:db8:f::254/64"], 20: ["10.0.20.254/24", "2001:db8:e::254/64"]}
            routes = [
                ("192.0.2.0/24", "10.0.10.1"), ("203.0.113.0/24", "10.0.10.1"), ("198.51.100.0/24", "10.0.20.1"), ("10.2.0.0/24", "10.0.10.2"),
                ("2001:db8:a::/64", "2001:db8:f::1"), ("2001:db8:b::/64", "2001:db8:f::1"), ("2001:db8:d::/64", "2001:db8:f::2"),
            ]  # fmt: skip
        else:
            held = {
                10: ["192.0.2.1/24", "203.0.113.1/24", "2001:db8:a::1/64", "2001:db8:b::1/64"],
                20: ["198.51.100.1/24", "2001:db8:c::1/64"],
            }
            routes = []
        lines += [
            f"ip address add {text} dev trunk.{vlan} {'nodad' if ':' in text else ''}"
            for vlan in held
            for text in _of_this_kernel(held[vlan])
        ]
        lines += [f"ip route add {prefix} via {via}" for prefix, via in routes if HAS_IPV6 or ":" not in prefix]
        sh("router", *lines)

    def _hosts(self) -> None:
        """L2 endpoints live in the subnet of their parent, L3 endpoints in others, which everybody else has a route to."""
        four, six = self.underlay
        first, second = ("1", "2") if self.mode.is_l3 else ("200", "201")
        blue = ["192.0.2.0/24", "203.0.113.0/24", "2001:db8:a::/64", "2001:db8:b::/64"]
        links = [] if self.mode.takes_all else [_link(10, f"{four}{first}/24", f"{six}{first}/64")]
        endpoints = [_endpoint("a1"), _endpoint("a2"), _endpoint("a3", "203.0.113.0/24", "2001:db8:b::/64")]
        if self.mode.takes_all:
            endpoints = endpoints[:1]
        links += [_link(20, "10.0.20.1/24", "2001:db8:e::1/64")] if self.mode.is_l3 else []
        networks = [self._network("blue", 10, *blue), self._network("red", 20, "198.51.100.0/24", "2001:db8:c::/64")]
        self._apply("ha", links, networks, [*endpoints, {**_endpoint("r1"), "network": "red"}])
        there = ["10.2.0.0/24", "2001:db8:d::/64"] if self.mode.is_l3 else ["192.0.2.0/24", "2001:db8:a::/64"]
        network = self._network("blue", 10, *there)
        if not self.mode.is_l3:
            for row, part in zip(network["subnets"], ("192.0.2.128/26", "2001:db8:a::100/120")):
                row["ip_range"] = part
        links = [] if self.mode.takes_all else [_link(10, f"{four}{second}/24", f"{six}{second}/64")]
        self._apply("hb", links, [network], [_endpoint("b1")])
        self.names = [*(row["name"] for row in endpoints), "r1", "b1"]
        if self.mode.is_l3:
            sh("ha", "ip route add default via 10.0.10.254 dev trunk.10", "ip route add default via 10.0.20.254 dev trunk.20 metric 10",
               "ip route add 10.2.0.0/24 via 10.0.10.2")  # fmt: skip
            sh(
                "hb",
                "ip route add default via 10.0.10.254",
                "ip route add 192.0.2.0/24 via 10.0.10.1",
                "ip route add 203.0.113.0/24 via 10.0.10.1",
            )
            if HAS_IPV6:
                sh(
                    "ha",
                    "ip route add default via 2001:db8:f::254 dev trunk.10",
                    "ip route add 2001:db8:d::/64 via 2001:db8:f::2",
                )
                sh("hb", "ip route add default via 2001:db8:f::254", "ip route add 2001:db8:a::/64 via 2001:db8:f::1")

    def _network(self, name: str, vlan: int, *subnets: str) -> Dict[str, Any]:
        found = {"name": name, "driver": self.mode.driver, "mode": self.mode.mode, "flag": self.mode.flag, "parent": f"trunk.{vlan}",
                 "subnets": [{"subnet": text} for text in _of_this_kernel(subnets)]}  # fmt: skip
        return {key: value for key, value in found.items() if value is not None}

    def _apply(self, name: str, links: List[Any], networks: List[Any], endpoints: List[Any]) -> None:
        if self.mode.hears_the_listed:
            own = {row: f"02:00:5e:00:00:{number:02x}" for number, row in enumerate(("a1", "a2", "a3", "r1", "b1"))}
            heard = [*own.values(), *(link("trunk", at)["address"] for at in ("ha", "hb", "router"))]
            endpoints = [{**row, "mac_address": own[row["name"]], "source_macs": heard} for row in endpoints]
        with inside(name):
            self.engines[name].map(links=links, networks=networks, endpoints=endpoints)

    def cells(self, family: int) -> Dict[str, Tuple[str, str]]:
        """Who asks whom: the namespace that asks, and the address that is asked for."""
        position = FAMILIES.index(family)
        own = {name: held[position] for name, held in self.own.items()}
        head = self.underlay[position]
        parent, other, router = ("1", "2", "254") if self.mode.is_l3 else ("200", "201", "1")
        found = {f"a1 to {name}": ("a1", own[name]) for name in self.names if name != "a1"}
        if self.mode.is_l3 and family == 6:
            del found[
                "a1 to r1"
            ]  # ipvlan sends IPv6 by whatever link the host's routes say, and here that is another VLAN's
        found.update(
            {
                "a1 to the router": ("a1", head + router),
                "the router to a1": ("router", own["a1"]),
                "the host to a1": ("ha", own["a1"]),
            }
        )
        if not self.mode.takes_all:
            found.update({"a1 to its parent": ("a1", head + parent), "a1 to the other host": ("a1", head + other)})
            found["the other host to a1"] = ("hb", own["a1"])
        return found

    def expected(self, family: int) -> Dict[str, str]:
        """Directly, by the router, or not at all."""
        mode = self.mode
        found = dict.fromkeys(self.cells(family), "direct")
        found.update({"a1 to its parent": "none", "the host to a1": "none", "a1 to r1": "routed", "a1 to a3": "routed"})
        if mode.is_l3:
            # Host and endpoints are apart, but what the host sends to the router for want of a better way is sent back to them.
            found.update({"a1 to its parent": "routed", "the host to a1": "direct", "a1 to a3": "direct"})
        if mode.keeps_apart:
            # What ipvlan's private drops in L3, it drops for all of the parent; what vepa sends out, a router sends back.
            apart = ("none" if mode.flag == "private" else "routed") if mode.is_l3 else "none"
            found["a1 to a2"] = apart
            found["a1 to a3"] = apart if mode.is_l3 else "routed"
        return {name: found[name] for name in self.cells(family)}


def _of_this_kernel(texts: Any) -> List[str]:
    return [text for text in texts if HAS_IPV6 or ":" not in text]


def _link(vlan: int, *held: str) -> Dict[str, Any]:
    return {"parent": "trunk", "vlan_id": vlan, "addresses": _of_this_kernel(held)}


def _endpoint(name: str, *subnets: str) -> Dict[str, Any]:
    """In the first subnet of each family, unless others are given."""
    found: Dict[str, Any] = {"network": "blue", "name": name, "netns": name}
    for text in _of_this_kernel(subnets):
        found["ipv6_address" if ":" in text else "ipv4_address"] = (
            text.replace("::/64", "::2") if ":" in text else text.replace(".0/24", ".2")
        )
    return found


def ask(cells: Dict[str, Tuple[str, str]]) -> Dict[str, str]:
    """Everybody asks at once; how each answer came."""
    asked = {
        name: subprocess.Popen(["ip", "netns", "exec", netns, "ping", "-c", "2", "-i", "0.3", "-W", "1", target], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for name, (netns, target) in cells.items()
    }  # fmt: skip
    said = {name: re.search(r"ttl=(\d+)", ping.communicate()[0]) for name, ping in asked.items()}
    return {name: {"64": "direct", "63": "routed"}[found[1]] if found else "none" for name, found in said.items()}


def ways(cells: Dict[str, Tuple[str, str]], expected: Dict[str, str]) -> Dict[str, str]:
    """How everybody gets an answer; who is expected to get one may ask again, neighbours being new and the machine busy."""
    found = ask(cells)

    def late() -> bool:
        missing = [name for name in cells if found[name] == "none" and expected[name] != "none"]
        found.update(ask({name: cells[name] for name in missing}))
        return not missing

    until(late)
    return found


@pytest.fixture
def wire(switch: None, tmp_path: Path) -> Iterator[Capture]:
    """What passes the port of ``ha`` on the switch."""
    with contextlib.closing(Capture(tmp_path / "wire.txt", "to-ha", "arp or ip or ip6 or vlan")) as found:
        yield found


#: The VLAN that the addresses belong to, by how they begin.
VLAN_OF = {"192.0.2.": 10, "203.0.113.": 10, "10.0.10.": 10, "198.51.100.": 20, "10.0.20.": 20, "2001:db8:a:": 10, "2001:db8:b:": 10,
           "2001:db8:f:": 10, "2001:db8:c:": 20, "2001:db8:e:": 20}  # fmt: skip


def wrongly_tagged(lines: List[str]) -> List[str]:
    """Frames between addresses of one VLAN that do not bear its tag, and any of ours without one."""
    found = []
    for line in lines:
        vlans = {
            vlan
            for text in re.findall(r"[ (]((?:\d+\.){3}\d+|2001:[0-9a-f:]+)", line)
            for head, vlan in VLAN_OF.items()
            if text.startswith(head)
        }
        tag = re.search(r" vlan (\d+), ", line)
        if vlans and (tag is None or (len(vlans) == 1 and int(tag[1]) not in vlans)):
            found.append(line)
    return found


def learned(vlan: int) -> Set[str]:
    """The MACs that the switch has learned at the port of ``ha``."""
    rows = json.loads(run("bridge -j fdb show brport to-ha"))
    return {row["mac"] for row in rows if row.get("vlan") == vlan and row.get("state") != "permanent"}


def broadcasts(netns: str) -> int:
    """How many packets to a broadcast address a namespace has got."""
    with inside(netns):
        names, numbers = [
            line.split() for line in Path("/proc/net/netstat").read_text().splitlines() if line.startswith("IpExt:")
        ]
    return int(dict(zip(names, numbers))["InBcastPkts"])


def test_who_reaches_whom_and_what_the_switch_sees(mode: Mode, wire: Capture, tmp_path: Path) -> None:
    fabric = Fabric(mode, tmp_path)
    for family in FAMILIES:
        expected = fabric.expected(family)
        assert ways(fabric.cells(family), expected) == expected

    # tags: each frame has that of its VLAN, and what stays on the host is not on the wire
    assert wire.sees(f"{fabric.own['a1'][0]} > {fabric.own['b1'][0]}: ICMP echo request", " vlan 10, ")
    assert wire.count(f"{fabric.own['r1'][0]} > {fabric.own['a1'][0]}: ICMP echo reply", " vlan 20, ")
    assert wrongly_tagged(wire.lines()) == []
    if "a2" in fabric.own:
        between = f"{fabric.own['a1'][0]} > {fabric.own['a2'][0]}: ICMP echo request"
        assert bool(wire.count(between)) == (fabric.expected(4)["a1 to a2"] == "routed")

    # MACs at the port: one an endpoint in macvlan, that of the NIC alone in ipvlan
    nic = link("trunk", "ha")["address"]
    macs = {name: link("eth0", name)["address"] for name in fabric.names if name != "b1"}
    red = {macs.pop("r1")}
    assert learned(10) - {nic} == set(macs.values()) - {nic} and learned(20) - {nic} == red - {nic}
    if mode.driver == "ipvlan" or mode.takes_all:
        assert {*macs.values(), *red} == learned(10) | learned(20) == {nic}
    else:
        assert len({nic, *macs.values(), *red}) == 5

    # broadcasts: in and out in L2, neither in L3
    broadcast, frame = "192.0.2.255", " > ff:ff:ff:ff:ff:ff, "
    sh("router", f"ip route replace broadcast {broadcast} dev trunk.10")
    before = broadcasts("a1")
    assert not wire.count(frame, f"> {broadcast}: ICMP echo request")
    sh("router", f"ping -q -b -c 3 -i 0.2 -W 1 {broadcast} >/dev/null 2>&1 || true")
    assert wire.sees(frame, " vlan 10, ", f"> {broadcast}: ICMP echo request")
    _sign(fabric)
    if mode.is_l3:
        assert broadcasts("a1") == before
    else:
        assert until(lambda: broadcasts("a1") == before + 3)
    sh("a1", f"ping -q -b -c 3 -i 0.2 -W 1 {broadcast} >/dev/null 2>&1 || true")
    _sign(fabric)
    assert bool(wire.count(frame, " vlan 10, ", f"{fabric.own['a1'][0]} > {broadcast}: ICMP echo request")) == (
        not mode.is_l3
    )


def _sign(fabric: Fabric) -> None:
    """An answer that comes after whatever was sent before."""
    sign = {"the router to a1": fabric.cells(4)["the router to a1"]}
    assert ways(sign, dict.fromkeys(sign, "direct")) == dict.fromkeys(sign, "direct")


@pytest.mark.parametrize("mode", [Mode("macvlan", "vepa"), Mode("ipvlan", "l2", "vepa")], ids=str)
def test_vepa_goes_by_a_switch_that_sends_frames_back(mode: Mode, wire: Capture, tmp_path: Path) -> None:
    fabric = Fabric(mode, tmp_path)
    cell = {"a1 to a2": fabric.cells(4)["a1 to a2"]}
    assert ask(cell) == {"a1 to a2": "none"}
    run("bridge link set dev to-ha hairpin on; ip -n a1 neigh flush all; ip -n a2 neigh flush all")
    assert ways(cell, {"a1 to a2": "direct"}) == {"a1 to a2": "direct"}
    assert wire.sees(f"{fabric.own['a1'][0]} > {fabric.own['a2'][0]}: ICMP echo request", " vlan 10, ")
