# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tenant's frames do to the host, for each isolation profile; and that each does arrive where isolation is off.

The packet filter needs nf_tables with the family inet, which the lab's guests lack: there the sysctls alone are tried.
The machine's own kernel needs no 8021q for these tests: ``tests/lab/run --rack -- pytest tests/kernel/test_isolation.py``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Set

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST_LINK_GROUP,
    LINK_GROUP,
    PRIVATE_GROUPS,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import barrier
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import nftables
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support import frames as f
from tests.support.changes import do, new_address, new_link, new_route, new_vlan
from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, inside, ip, run
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not HAS_IPV6, reason="half of the frames are IPv6")

#: Addresses: of the host on its LAN, a machine there, and the tenant.
HOST4, LAN4, TENANT4 = "198.51.100.1", "198.51.100.9", "192.0.2.66"
HOST6, LAN6, TENANT6 = "2001:db8:51::1", "2001:db8:51::9", "2001:db8:66::66"
LOCAL6 = "fe80::66"
DIRECTED4, ANYCAST6 = "198.51.100.255", "2001:db8:51::"
PORT = 5140
BROADCAST, ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\x00\x00\x00\x01"
PROFILES = ("none", "routed", "access")
#: Protocols beside UDP, TCP and ICMP: the number, and the group that their daemons join.
PROTOCOLS = {
    "IPv4 in IP": (4, "", ""), "IPv6 in IP": (41, "", ""), "GRE": (47, "", ""), "ESP": (50, "", ""), "SCTP": (132, "", ""),
    "UDP-Lite": (136, "", ""), "OSPF": (89, "224.0.0.5", "ff02::5"), "PIM": (103, "224.0.0.13", "ff02::d"), "VRRP": (112, "224.0.0.18", "ff02::12"),
}  # fmt: skip
GROUPS4 = ("224.0.0.251", "224.0.0.252", *(four for _number, four, _six in PROTOCOLS.values() if four))
GROUPS6 = ("ff02::fb", "ff02::1:3", "ff02::16", *(six for _number, _four, six in PROTOCOLS.values() if six))
IPV6_ROUTER_ALERT, IP_ROUTER_ALERT, IPPROTO_RAW = 22, 5, 255


class Frame(NamedTuple):
    """A frame of a tenant (some are two) that carries its token to a witness: a socket of the host, or the machine behind it."""

    target: bytes  # MAC; empty for the host's
    kind: int
    packets: List[bytes]
    gap: bool = False  # sysctls alone do not keep it out, in one profile at least


def _udp4(source: str, target: str, token: bytes, port: int = PORT) -> bytes:
    return f.ipv4(source, target, f.UDP, f.udp(source, target, port, token))


def _udp6(source: str, target: str, token: bytes, port: int = PORT) -> bytes:
    return f.ipv6(source, target, f.UDP, f.udp(source, target, port, token))


def _quoted6(token: bytes) -> bytes:
    return f.ipv6(HOST6, TENANT6, f.UDP, f.udp(HOST6, TENANT6, 9, token))


def _frames() -> Dict[str, Frame]:
    found: Dict[str, Frame] = {}

    def v4(name: str, packet: bytes, target: bytes = b"", gap: bool = False) -> None:
        found[name] = Frame(target, f.ETH_IPV4, [packet], gap)

    def v6(name: str, packets: List[bytes], target: bytes = b"") -> None:
        found[name] = Frame(target, f.ETH_IPV6, packets, True)

    v4("UDP to the host's address on another NIC", _udp4(TENANT4, HOST4, b"v4-host"))
    v4("UDP to 127.0.0.1, where kube-proxy routes it", _udp4(TENANT4, "127.0.0.1", b"v4-loopback"))
    v4("UDP through the host", _udp4(TENANT4, LAN4, b"v4-forward"))
    v4(
        "UDP from 0.0.0.0 to 255.255.255.255",
        _udp4("0.0.0.0", "255.255.255.255", b"v4-zero-broadcast"),
        BROADCAST,
        True,
    )
    v4("the same in a frame to the host's MAC", _udp4("0.0.0.0", "255.255.255.255", b"v4-zero-unicast"), gap=True)
    v4(
        "UDP from 0.0.0.0 to 224.0.0.1",
        _udp4("0.0.0.0", "224.0.0.1", b"v4-zero-multicast"),
        b"\x01\x00\x5e\x00\x00\x01",
        True,
    )
    v4("UDP to 255.255.255.255", _udp4(TENANT4, "255.255.255.255", b"v4-broadcast"), BROADCAST)
    v4("a DHCP offer", _udp4(TENANT4, "255.255.255.255", b"v4-dhcp", 68), BROADCAST)
    v4(
        "mDNS to a group that a daemon joined here",
        _udp4(TENANT4, "224.0.0.251", b"v4-mdns"),
        b"\x01\x00\x5e\x00\x00\xfb",
    )
    quoted = f.ipv4(HOST4, TENANT4, f.UDP, f.udp(HOST4, TENANT4, 9, b"v4-redirect"))
    gateway = socket.inet_aton(TENANT4)
    v4("an ICMP redirect", f.ipv4(TENANT4, HOST4, f.ICMP, f.icmp(5, 1, gateway + quoted)))
    v4(
        "an IGMP query",
        f.ipv4(TENANT4, "224.0.0.1", f.IGMP, f.icmp(0x11, 100, b"\0\0\0\0v4-igmp!")),
        b"\x01\x00\x5e\x00\x00\x01",
    )
    data = f.udp(TENANT4, HOST4, PORT, b"v4-fragments")
    found["fragments"] = Frame(
        b"",
        f.ETH_IPV4,
        [f.ipv4(TENANT4, HOST4, f.UDP, data[:8], 0x2000, 7), f.ipv4(TENANT4, HOST4, f.UDP, data[8:], 1, 7)],
    )
    v6("UDP6 to the host's address on another NIC", [_udp6(TENANT6, HOST6, b"v6-host")])
    v6("UDP6 through the host", [_udp6(TENANT6, LAN6, b"v6-forward")])
    v6("UDP6 to all nodes", [_udp6(LOCAL6, "ff02::1", b"v6-all-nodes")], ALL_NODES_MAC)
    options = bytes((f.UDP, 0, 1, 4, 0, 0, 0, 0))
    data6 = f.udp(TENANT6, HOST6, PORT, b"v6-options")
    v6("behind destination options", [f.ipv6(TENANT6, HOST6, f.DESTINATION_OPTIONS, options + data6)])
    data6 = f.udp(TENANT6, HOST6, PORT, b"v6-hop-by-hop")
    v6("behind hop-by-hop options", [f.ipv6(TENANT6, HOST6, f.HOP_BY_HOP, options + data6)])
    v6("IPv6 fragments", f.fragments6(TENANT6, HOST6, f.udp(TENANT6, HOST6, PORT, b"v6-fragments"), 9))
    body = bytes(4) + socket.inet_pton(socket.AF_INET6, LOCAL6) + socket.inet_pton(socket.AF_INET6, TENANT6)
    redirect = body + bytes((4, 9)) + bytes(6) + (_quoted6(b"v6-redirect") + bytes(8))[:64]
    v6("an ICMPv6 redirect", [f.ipv6(LOCAL6, HOST6, f.ICMPV6, f.icmpv6(LOCAL6, HOST6, 137, redirect))])
    query = struct.pack("!HH", 1000, 0) + bytes(16) + bytes(4) + b"v6-mld-query"
    v4(
        "a TCP SYN to the host's address on another NIC",
        f.ipv4(TENANT4, HOST4, f.TCP, f.syn(TENANT4, HOST4, 22, b"v4-syn")),
    )
    v4("LLMNR", _udp4(TENANT4, "224.0.0.252", b"v4-llmnr", 5355), b"\x01\x00\x5e\x00\x00\xfc")
    report = f.icmp(0x16, 0, socket.inet_aton("224.0.0.251") + b"v4-report")
    v4("an IGMP report", f.ipv4(TENANT4, "224.0.0.251", f.IGMP, report), b"\x01\x00\x5e\x00\x00\xfb")
    v6("mDNS over IPv6", [_udp6(LOCAL6, "ff02::fb", b"v6-mdns", 5353)], b"\x33\x33\x00\x00\x00\xfb")
    v6("LLMNR over IPv6", [_udp6(LOCAL6, "ff02::1:3", b"v6-llmnr", 5355)], b"\x33\x33\x00\x01\x00\x03")
    data6 = f.udp(TENANT6, HOST6, PORT, b"v6-routing")
    v6("behind a routing header", [f.ipv6(TENANT6, HOST6, f.ROUTING, bytes((f.UDP, 0, 0, 0, 0, 0, 0, 0)) + data6)])
    data6 = f.udp(TENANT6, HOST6, PORT, b"v6-atomic")
    v6("an atomic IPv6 fragment", f.fragments6(TENANT6, HOST6, data6, 10, pieces=1))
    data6 = f.udp(TENANT6, HOST6, PORT, b"v6-hop-fragments")
    before = bytes((f.FRAGMENT, 0, 1, 4, 0, 0, 0, 0))
    v6("IPv6 fragments behind hop-by-hop options", f.fragments6(TENANT6, HOST6, data6, 11, before))
    syn6 = f.syn(TENANT6, HOST6, 22, b"v6-syn")
    v6("a TCP SYN over IPv6", [f.ipv6(TENANT6, HOST6, f.TCP, syn6)])
    group = bytes((4, 0, 0, 0)) + socket.inet_pton(socket.AF_INET6, "ff02::fb")
    report = f.icmpv6(LOCAL6, "ff02::16", 143, struct.pack("!HH", 0, 1) + group + b"v6-report")
    v6("an MLD report", [f.ipv6(LOCAL6, "ff02::16", f.ICMPV6, report)], b"\x33\x33\x00\x00\x00\x16")
    advertised = struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\xfa\x01v6-ra!"  # an option that no kernel knows
    advert = f.icmpv6(LOCAL6, "ff02::1", 134, advertised)
    v6("a router advertisement", [f.ipv6(LOCAL6, "ff02::1", f.ICMPV6, advert)], ALL_NODES_MAC)
    v6("an MLD query", [f.ipv6(LOCAL6, "ff02::1", f.ICMPV6, f.icmpv6(LOCAL6, "ff02::1", 130, query))], ALL_NODES_MAC)
    v4("a ping", f.ipv4(TENANT4, HOST4, f.ICMP, f.icmp(8, 0, bytes(4) + b"v4-echo")))
    v4("UDP to the broadcast address of another NIC", _udp4(TENANT4, DIRECTED4, b"v4-directed"))
    v4("UDP from 0.0.0.0 to 0.0.0.0", _udp4("0.0.0.0", "0.0.0.0", b"v4-zero-zero"), gap=True)
    v4("UDP from the host's own address", _udp4(HOST4, HOST4, b"v4-own"))
    v4("UDP from 127.0.0.1", _udp4("127.0.0.1", HOST4, b"v4-martian"))
    record, by, alert = (
        bytes((7, 7, 4, 0, 0, 0, 0, 0)),
        bytes((131, 7, 4)) + socket.inet_aton(LAN4) + b"\0",
        b"\x94\x04\0\0",
    )
    for name, target, token, options in (
        ("UDP with a record of its route", HOST4, b"v4-record", record),
        ("UDP that names its route", HOST4, b"v4-source-route", by),
        ("UDP through the host with a router alert", LAN4, b"v4-alert", alert),
    ):
        v4(name, f.ipv4(TENANT4, target, f.UDP, f.udp(TENANT4, target, PORT, token), options=options))
    v6("a ping over IPv6", [f.ipv6(TENANT6, HOST6, f.ICMPV6, f.icmpv6(TENANT6, HOST6, 128, bytes(4) + b"v6-echo"))])
    v6("UDP6 to the routers of another NIC", [_udp6(TENANT6, ANYCAST6, b"v6-anycast")])
    alert6 = bytes((f.UDP, 0, 5, 2, 0, 0, 1, 0))
    data6 = alert6 + f.udp(TENANT6, LAN6, PORT, b"v6-alert")
    v6("UDP6 through the host with a router alert", [f.ipv6(TENANT6, LAN6, f.HOP_BY_HOP, data6)])
    for name, kind, token in (("solicitation", 135, b"v6-solicit"), ("advertisement", 136, b"v6-advert")):
        body = bytes(4) + socket.inet_pton(socket.AF_INET6, HOST6) + b"\xfa\x02" + token.ljust(14)
        v6(
            f"a neighbour {name} to another NIC",
            [f.ipv6(TENANT6, HOST6, f.ICMPV6, f.icmpv6(TENANT6, HOST6, kind, body))],
        )
    for name, (number, four, six) in PROTOCOLS.items():
        mac4 = b"\x01\x00\x5e" + socket.inet_aton(four)[1:] if four else b""
        mac6 = b"\x33\x33" + socket.inet_pton(socket.AF_INET6, six)[-4:] if six else b""
        v4(name, f.ipv4(TENANT4, four or HOST4, number, bytes(8) + _protocol(4, number)), mac4)
        source = LOCAL6 if six else TENANT6
        v6(f"{name} over IPv6", [f.ipv6(source, six or HOST6, number, bytes(8) + _protocol(6, number))], mac6)
    return found


def _protocol(family: int, number: int) -> bytes:
    return b"v%d-protocol-%d!" % (family, number)


FRAMES = _frames()
TOKENS = {
    "UDP to the host's address on another NIC": b"v4-host", "UDP through the host": b"v4-forward",
    "UDP to 127.0.0.1, where kube-proxy routes it": b"v4-loopback",
    "UDP from 0.0.0.0 to 255.255.255.255": b"v4-zero-broadcast", "the same in a frame to the host's MAC": b"v4-zero-unicast",
    "UDP from 0.0.0.0 to 224.0.0.1": b"v4-zero-multicast", "UDP to 255.255.255.255": b"v4-broadcast", "a DHCP offer": b"v4-dhcp",
    "mDNS to a group that a daemon joined here": b"v4-mdns", "an ICMP redirect": b"v4-redirect", "an IGMP query": b"v4-igmp",
    "fragments": b"v4-fragments", "UDP6 to the host's address on another NIC": b"v6-host", "UDP6 through the host": b"v6-forward",
    "UDP6 to all nodes": b"v6-all-nodes", "behind destination options": b"v6-options", "behind hop-by-hop options": b"v6-hop-by-hop",
    "a TCP SYN to the host's address on another NIC": b"v4-syn", "LLMNR": b"v4-llmnr", "an IGMP report": b"v4-report",
    "mDNS over IPv6": b"v6-mdns", "LLMNR over IPv6": b"v6-llmnr", "behind a routing header": b"v6-routing",
    "an atomic IPv6 fragment": b"v6-atomic", "IPv6 fragments behind hop-by-hop options": b"v6-hop-fragments",
    "a TCP SYN over IPv6": b"v6-syn", "an MLD report": b"v6-report", "a router advertisement": b"v6-ra!",
    "IPv6 fragments": b"v6-fragments", "an ICMPv6 redirect": b"v6-redirect", "an MLD query": b"v6-mld-query",
    "a ping": b"v4-echo", "UDP to the broadcast address of another NIC": b"v4-directed", "UDP from 0.0.0.0 to 0.0.0.0": b"v4-zero-zero",
    "UDP from the host's own address": b"v4-own", "UDP from 127.0.0.1": b"v4-martian", "UDP with a record of its route": b"v4-record",
    "UDP that names its route": b"v4-source-route", "UDP through the host with a router alert": b"v4-alert",
    "a ping over IPv6": b"v6-echo", "UDP6 to the routers of another NIC": b"v6-anycast",
    "UDP6 through the host with a router alert": b"v6-alert", "a neighbour solicitation to another NIC": b"v6-solicit",
    "a neighbour advertisement to another NIC": b"v6-advert",
    **{name: _protocol(4, number) for name, (number, _four, _six) in PROTOCOLS.items()},
    **{f"{name} over IPv6": _protocol(6, number) for name, (number, _four, _six) in PROTOCOLS.items()},
}  # fmt: skip


@pytest.fixture
def filtered() -> bool:
    return barrier.why_not() is None


@pytest.fixture
def ours(trunk: str) -> str:
    """The name that the link to the tenant gets, once a test makes it; and the rest of the scene.

    The host is a router of both families, and lax. A VLAN of the trunk, or the trunk itself where there is no 8021q.
    """
    run(f"""
        ip netns add wire; ip netns add lan
        ip link add lan0 type veth peer name eth0 netns lan; ip link set lan0 up; ip -n lan link set eth0 up
        ip addr add {HOST4}/24 dev lan0; ip addr add {HOST6}/64 dev lan0 nodad
        ip -n lan addr add {LAN4}/24 dev eth0; ip -n lan addr add {LAN6}/64 dev eth0 nodad
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0
        sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.default.accept_source_route=1
        sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.default.rp_filter=0 net.ipv4.icmp_echo_ignore_broadcasts=0 net.ipv6.conf.default.accept_ra=2
    """)
    return "trunk.10" if os.path.exists("/proc/net/vlan/config") else "ours0"


def make(name: str, profile: str) -> None:
    """The link with a profile, ``open`` for a foreign one without isolation; its other end is in the namespace wire."""
    if name == "trunk.10":
        run(
            "ip link set far netns wire; ip -n wire link set far up; ip -n wire link add link far name tenant type vlan id 10"
        )
        if profile == "open":
            run(f"ip link add link trunk name {name} type vlan id 10; ip link set {name} up")
        else:
            do(new_vlan(10, isolation=profile))
    else:
        if profile == "open":
            run(f"ip link add {name} type veth; ip link set {name} up")
        else:
            do(new_link(name, "veth", None, isolation=profile))
        run("ip link set veth0 name tenant netns wire")
    run("ip -n wire link set tenant address 02:00:00:00:00:66; ip -n wire link set tenant up")
    run(f"ip -n wire addr add {TENANT4}/24 dev tenant; ip -n wire addr add {LOCAL6}/64 dev tenant nodad")


def join(four: socket.socket, six: socket.socket, link: str) -> None:
    """What mDNS, LLMNR and routing daemons join, and a querier of MLD; with IPv6 off nothing can."""
    index = socket.if_nametoindex(link)
    for group in GROUPS4:
        wanted = struct.pack("4s4si", socket.inet_aton(group), bytes(4), index)
        four.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, wanted)
    for group in GROUPS6:
        with contextlib.suppress(OSError):
            wanted = socket.inet_pton(socket.AF_INET6, group) + struct.pack("I", index)
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, wanted)


class Host:
    """The host's sockets, and what of tokens they and the machine behind the host have seen."""

    def __init__(self, link: str) -> None:
        self.sockets: List[socket.socket] = []
        for family, kind, protocol, where in (
            (socket.AF_INET, socket.SOCK_DGRAM, 0, ("0.0.0.0", PORT)), (socket.AF_INET, socket.SOCK_DGRAM, 0, ("0.0.0.0", 68)),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0, ("::", PORT)), (socket.AF_INET, socket.SOCK_RAW, f.ICMP, None),
            (socket.AF_INET, socket.SOCK_RAW, f.IGMP, None), (socket.AF_INET6, socket.SOCK_RAW, f.ICMPV6, None),
            (socket.AF_INET, socket.SOCK_RAW, f.TCP, None), (socket.AF_INET6, socket.SOCK_RAW, f.TCP, None),
            (socket.AF_INET, socket.SOCK_DGRAM, 0, ("0.0.0.0", 5355)), (socket.AF_INET6, socket.SOCK_DGRAM, 0, ("::", 5353)),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0, ("::", 5355)), (socket.AF_INET, socket.SOCK_RAW, f.UDP, None),
            (socket.AF_INET6, socket.SOCK_RAW, IPPROTO_RAW, None),
            *((family, socket.SOCK_RAW, number, None) for family in (socket.AF_INET, socket.AF_INET6) for number, *_ in PROTOCOLS.values()),
        ):  # fmt: skip
            one = socket.socket(family, kind, protocol)
            if family == socket.AF_INET6 and kind == socket.SOCK_DGRAM:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if where:
                one.bind(where)
            if (family, protocol) == (socket.AF_INET, f.UDP):
                one.setsockopt(socket.IPPROTO_IP, IP_ROUTER_ALERT, 1)
            elif protocol == IPPROTO_RAW:
                one.setsockopt(socket.IPPROTO_IPV6, IPV6_ROUTER_ALERT, 0)
            self.sockets.append(one)
        join(self.sockets[0], self.sockets[2], link)
        with inside("lan"):
            behind = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            behind.bind(("eth0", 3))
        self.sockets.append(behind)
        self.seen = b""

    def listen(self, seconds: float, wanted: Set[bytes]) -> Set[bytes]:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and {token for token in wanted if token in self.seen} != wanted:
            for one in select.select(self.sockets, [], [], left)[0]:
                self.seen += one.recv(4096) + b"|"
        return {token for token in wanted if token in self.seen}

    def close(self) -> None:
        for one in self.sockets:
            one.close()


def arrived(name: str, profile: str, opened: str = "") -> Set[str]:
    """Send every frame; those whose token came through. ``opened`` are sysctls that the link has been given since."""
    make(name, profile)
    for one in opened.split():
        family, _dot, setting = one.partition(".")
        key, _equals, value = setting.partition("=")
        Path(f"/proc/sys/net/{family}/conf/{name}/{key}").write_text(value, encoding="ascii")
    target = f.mac(ip("link", "show", "dev", name)[0]["address"])
    with contextlib.closing(Host(name)) as host:
        with inside("wire"):
            wire = f.Wire("tenant")
        with contextlib.closing(wire):
            assert until(lambda: ip("link", "show", "dev", name)[0]["operstate"] == "UP")
            for frame in FRAMES.values():
                for packet in frame.packets:
                    wire.send(f.ethernet(frame.target or target, wire.mac, frame.kind, packet))
            everything = set(TOKENS.values())
            seen = host.listen(60.0 if profile == "open" else 1.5, everything)
            # the host does hear by its other NIC, so what is missing was not merely late
            with inside("lan"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"from the LAN", (HOST4, PORT))
            assert host.listen(60.0, {b"from the LAN"})
    return {what for what, token in TOKENS.items() if token in seen}


def test_every_frame_arrives_where_isolation_is_off(ours: str) -> None:
    assert arrived(ours, "open") == set(FRAMES) == set(TOKENS)


@pytest.mark.parametrize("profile", PROFILES)
def test_no_frame_arrives(ours: str, profile: str, filtered: bool) -> None:
    seen = arrived(ours, profile)
    if filtered:
        assert seen == set()
    else:  # what sysctls cannot do is known, and no more than that gets through
        assert seen <= {what for what, frame in FRAMES.items() if frame.gap}
        if profile == "none":
            assert seen <= {
                "UDP from 0.0.0.0 to 255.255.255.255",
                "the same in a frame to the host's MAC",
                "UDP from 0.0.0.0 to 224.0.0.1",
                "UDP from 0.0.0.0 to 0.0.0.0",
            }


@pytest.mark.usefixtures("nft")
@pytest.mark.parametrize("profile", PROFILES)
def test_the_table_keeps_them_out_alone(ours: str, profile: str) -> None:
    """As after a write to conf.all, until the service hears of it."""
    opened = "ipv4.rp_filter=0 ipv4.forwarding=1 ipv4.arp_ignore=0 ipv4.accept_redirects=1 ipv6.disable_ipv6=0 ipv6.accept_redirects=1"
    assert arrived(ours, profile, opened) == set()


@pytest.mark.parametrize(("profile", "reached"), [("none", False), ("routed", True), ("access", True)])
def test_errors_about_a_false_source_reach_it_over_ipv6(ours: str, profile: str, reached: bool) -> None:
    """A limit: a router says that there is no way, and quotes the packet, before any rule on what it forwards or sends."""
    make(ours, profile)
    barrier.install()
    target, token = f.mac(ip("link", "show", "dev", ours)[0]["address"]), b"v6-quoted"
    assert until(lambda: ip("link", "show", "dev", ours)[0]["operstate"] == "UP")
    with contextlib.closing(Host(ours)) as host, inside("wire"), contextlib.closing(f.Wire("tenant")) as wire:
        wire.send(f.ethernet(target, wire.mac, f.ETH_IPV6, _udp6(LAN6, "2001:db8:dead::1", token)))
        assert host.listen(20.0 if reached else 1.0, {token}) == ({token} if reached else set())


def test_links_with_addresses_of_the_host_are_left_to_its_own_firewall(ours: str) -> None:
    """They are the host's as any NIC is; isolation keeps its hands off but for advertisements and redirects."""
    make(ours, "host")
    run(f"ip link set {ours} group {HOST_LINK_GROUP}")
    target = f.mac(ip("link", "show", "dev", ours)[0]["address"])
    wanted = {b"v4-host", b"v4-forward", b"v6-host", b"v6-forward", b"v6-all-nodes"}
    with contextlib.closing(Host(ours)) as host, inside("wire"), contextlib.closing(f.Wire("tenant")) as wire:
        assert until(lambda: _send_all(wire, target) or host.listen(2.0, wanted) == wanted)


def _send_all(wire: f.Wire, target: bytes) -> None:
    for frame in FRAMES.values():
        for packet in frame.packets:
            wire.send(f.ethernet(frame.target or target, wire.mac, frame.kind, packet))


def test_host_access_is_for_the_addresses_of_the_link_alone(ours: str) -> None:
    make(ours, "access")
    do(new_address(ours, "10.66.0.1/32"), new_address(ours, "fd00:66::1/128"))
    do(new_route(f"{TENANT4}/32", ours), new_route("fd00:66::66/128", ours))
    run(f"""
        ip -n wire route add 10.66.0.1 dev tenant; ip -n wire addr add fd00:66::66/64 dev tenant nodad
        ip -n wire route add {HOST4} via 10.66.0.1 dev tenant onlink; ip -n wire route add {HOST6} via fd00:66::1 dev tenant
        ip -n wire route add {LAN4} via 10.66.0.1 dev tenant onlink
    """)
    for address in ("10.66.0.1", "fd00:66::1"):
        assert until(lambda address=address: _pings("wire", address)), address  # type: ignore[misc]
    assert until(lambda: _pings("", TENANT4)) and until(lambda: _pings("", "fd00:66::66"))
    if barrier.why_not() is None:
        assert not _pings("wire", HOST4) and not _pings("wire", HOST6)
    assert not _pings("wire", LAN4)
    if barrier.why_not() is None:
        # without the table the same pings are answered, so it is the table that keeps them away
        barrier.remove()
        assert until(lambda: _pings("wire", HOST4)) and until(lambda: _pings("wire", HOST6))


# --- frames below the network layer --------------------------------------------------------------

CONTROL = {
    "LLDP": (b"\x01\x80\xc2\x00\x00\x0e", f.ETH_LLDP, b"\x02\x07\x04\x02\x00\x00\x00\x00\x66token-lldp"),
    "STP": (b"\x01\x80\xc2\x00\x00\x00", 38, b"\x42\x42\x03" + bytes(35) + b"token-stp"),
    "LACP": (b"\x01\x80\xc2\x00\x00\x02", f.ETH_SLOW, b"\x01\x01" + bytes(110) + b"token-lacp"),
    "802.1X": (b"\x01\x80\xc2\x00\x00\x03", f.ETH_EAPOL, b"\x01\x01\x00\x00token-eapol"),
}


def taps(name: str) -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    tap.bind((name, 3))
    tap.setblocking(False)
    return tap


def seen_by(tap: socket.socket, wanted: Sequence[bytes] = (), seconds: float = 1.0) -> List[bytes]:
    """The frames that come in at a link until all that are wanted are among them, or the time is over."""
    found: List[bytes] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not (wanted and all(any(w in x for x in found) for w in wanted)):
        if select.select([tap], [], [], left)[0]:
            data, address = tap.recvfrom(4096)
            if address[2] != socket.PACKET_OUTGOING:
                found.append(data)
    return found


def test_control_frames_meet_no_answer(ours: str) -> None:
    """A program that reads raw frames of the link, such as tcpdump, sees them: that they do come is the control."""
    make(ours, "none")
    tokens = [body[body.index(b"token") :] for _mac, _kind, body in CONTROL.values()]
    with inside("wire"):
        wire, back = f.Wire("tenant"), taps("tenant")
    with contextlib.closing(wire), contextlib.closing(back), contextlib.closing(taps(ours)) as tap:
        assert until(lambda: ip("link", "show", "dev", ours)[0]["operstate"] == "UP")
        seen_by(back, seconds=0.5)
        for target, kind, body in CONTROL.values():
            wire.send(f.ethernet(target, wire.mac, kind, body))
        found = b"".join(seen_by(tap, tokens, 20))
        assert [token for token in tokens if token not in found] == []
        assert seen_by(back) == []


def answers(name: str, profile: str) -> Set[str]:
    """Which of the host's addresses on another NIC it tells its MAC for."""
    make(name, profile)
    with inside("wire"):
        wire, back = f.Wire("tenant"), taps("tenant")
    asked = wire.mac + socket.inet_aton(TENANT4) + bytes(6) + socket.inet_aton(HOST4)
    arp = f.ethernet(BROADCAST, wire.mac, f.ETH_ARP, struct.pack("!HHBBH", 1, f.ETH_IPV4, 6, 4, 1) + asked)
    wanted = socket.inet_pton(socket.AF_INET6, HOST6)
    group, group_mac = "ff02::1:ff00:1", b"\x33\x33\xff\x00\x00\x01"
    solicit = f.icmpv6(LOCAL6, group, 135, bytes(4) + wanted + b"\x01\x01" + wire.mac)
    nd = f.ethernet(group_mac, wire.mac, f.ETH_IPV6, f.ipv6(LOCAL6, group, f.ICMPV6, solicit))
    with contextlib.closing(wire), contextlib.closing(back):
        assert until(lambda: ip("link", "show", "dev", name)[0]["operstate"] == "UP")
        seen_by(back, seconds=0.2)
        for frame in (arp, nd, arp, nd):
            wire.send(frame)
        said = seen_by(back, seconds=1.0)
    found = {"ARP"} if any(x[12:14] == b"\x08\x06" and x[28:32] == socket.inet_aton(HOST4) for x in said) else set()
    return found | ({"ND"} if any(x[54:55] == b"\x88" and wanted in x for x in said) else set())


def test_the_hosts_addresses_are_answered_for_where_isolation_is_off(ours: str) -> None:
    assert answers(ours, "open") >= {"ARP"}  # ND never answers for another NIC's


@pytest.mark.parametrize("profile", [*PROFILES, "host"])
def test_nothing_answers_for_the_hosts_addresses(ours: str, profile: str) -> None:
    assert answers(ours, profile) == set()


@pytest.mark.skipif(not os.path.exists("/proc/net/vlan/config"), reason="this kernel has no 8021q")
def test_a_tenants_tags_lead_to_no_other_vlan(ours: str) -> None:
    """Behind the tag of its own VLAN, which a switch gives it, a tenant can send any other."""
    make(ours, "none")
    do(new_vlan(20))
    with inside("wire"):
        wire = f.Wire("far")
    inner = f.ethernet(BROADCAST, wire.mac, f.ETH_IPV4, _udp4(TENANT4, "255.255.255.255", b"%s"))
    hops = {
        b"10-20": f.tagged(10, f.tagged(20, inner)),
        b"10-0-20": f.tagged(10, f.tagged(0, f.tagged(20, inner))),
        b"10-20-20": f.tagged(10, f.tagged(20, f.tagged(20, inner))),
        b"10-s20": f.tagged(10, f.tagged(20, inner, f.ETH_QINQ)),
        b"s10-20": f.tagged(10, f.tagged(20, inner), f.ETH_QINQ),
        b"s20": f.tagged(20, inner, f.ETH_QINQ),
    }
    with contextlib.closing(wire), contextlib.closing(taps("trunk.20")) as tap:
        assert until(lambda: ip("link", "show", "dev", "trunk.20")[0]["operstate"] == "UP")
        for token, frame in hops.items():
            wire.send(frame.replace(b"%s", token))
        wire.send(f.tagged(20, inner).replace(b"%s", b"own"))
        assert [frame for frame in seen_by(tap, [b"own"], 20) if b"own" not in frame] == []


# --- what the host itself sends ------------------------------------------------------------------


def spoken(name: str, profile: str) -> Set[str]:
    """What a tenant hears of a host whose link comes up, and on which daemons join groups, ask and look for a server."""
    make(name, profile)
    with inside("wire"):
        tap = taps("tenant")
    with contextlib.closing(tap):
        assert until(lambda: ip("link", "show", "dev", name)[0]["operstate"] == "UP")
        seen_by(tap, seconds=0.5)
        run(f"ip link set {name} down; ip link set {name} up")
        assert until(lambda: "tentative" not in run(f"ip -6 addr show dev {name}"))
        speak(name)
        run("ip addr flush dev lan0; ip -6 addr flush dev lan0")  # with no address elsewhere it comes from none at all
        speak(name)
        return {what(frame) for frame in seen_by(tap, seconds=3.0)}


def speak(name: str) -> None:
    index = socket.if_nametoindex(name)
    four, six = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, f.ICMPV6)
    with contextlib.closing(four), contextlib.closing(six), contextlib.closing(raw):
        for one in (four, six, raw):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        four.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        join(four, six, name)
        for group, port in (
            ("224.0.0.251", 5353),
            ("224.0.0.252", 5355),
            ("239.255.255.250", 1900),
            ("255.255.255.255", 67),
        ):
            with contextlib.suppress(OSError):
                four.sendto(b"anyone?", (group, port))
        for group, port in (("ff02::fb", 5353), ("ff02::1:3", 5355), ("ff02::1:2", 547)):
            with contextlib.suppress(OSError):
                six.sendto(b"anyone?", (group, port, 0, index))
        with contextlib.suppress(OSError):
            raw.sendto(bytes((133, 0, 0, 0, 0, 0, 0, 0)), ("ff02::2", 0, 0, index))  # a router solicitation
        time.sleep(1.0)  # reports are sent twice, within a second


def what(frame: bytes) -> str:
    """A frame in words: the kind, and for UDP the port."""
    kind = struct.unpack("!H", frame[12:14])[0]
    protocol, data = (frame[23], frame[14 + 4 * (frame[14] & 15) :]) if kind == f.ETH_IPV4 else (frame[20], frame[54:])
    if kind == f.ETH_IPV6 and protocol == f.HOP_BY_HOP:
        protocol, data = data[0], data[8:]
    if kind not in (f.ETH_IPV4, f.ETH_IPV6):
        return f"{kind:04x}"
    names = {f.IGMP: "IGMP", f.ICMPV6: f"ICMPv6 {data[0]}", f.UDP: f"UDP {struct.unpack('!H', data[2:4])[0]}"}
    return f"{'v4' if kind == f.ETH_IPV4 else 'v6'} {names.get(protocol, protocol)}"


SPOKEN4 = {"v4 IGMP", "v4 UDP 5353", "v4 UDP 5355", "v4 UDP 1900", "v4 UDP 67"}
SPOKEN6 = {"v6 ICMPv6 143", "v6 ICMPv6 133", "v6 UDP 5353", "v6 UDP 5355", "v6 UDP 547"}


def test_a_host_speaks_where_isolation_is_off(ours: str) -> None:
    assert spoken(ours, "open") >= SPOKEN4 | SPOKEN6


@pytest.mark.parametrize("profile", PROFILES)
def test_in_a_quiet_vlan_the_host_says_nothing(ours: str, profile: str, filtered: bool) -> None:
    heard = spoken(ours, profile)
    if filtered:
        assert heard == set()
    else:
        assert heard <= SPOKEN4 | (SPOKEN6 if profile != "none" else set())


def _pings(netns: str, address: str) -> bool:
    enter = ["ip", "netns", "exec", netns] if netns else []
    return (
        subprocess.run(
            [*enter, "ping", "-c", "1", "-W", "1", address], stdout=subprocess.DEVNULL, check=False
        ).returncode
        == 0
    )


# --- the table -----------------------------------------------------------------------------------


@pytest.fixture
def nft(filtered: bool) -> None:
    if not filtered:
        pytest.skip("this kernel has no nf_tables with the family inet")


def ruleset() -> str:
    return run("nft -n list ruleset")


@pytest.mark.usefixtures("nft")
def test_the_table_is_one_that_nft_reads_and_writes() -> None:
    assert not barrier.is_whole() and ruleset() == ""
    assert barrier.why_not() is None and ruleset() == "", "the question changes nothing"
    assert barrier.install() is None and barrier.is_whole()
    said = ruleset()
    assert f"iifgroup {LINK_GROUP} jump arriving" in said
    assert f"iifgroup {PRIVATE_GROUPS[0]}-{PRIVATE_GROUPS[-1]} drop" in said
    assert said.count("netops.underlay") == len(nftables.rules_of(barrier.TABLE)) == 20
    assert barrier.install() is None and ruleset() == said, "recreated, it is the same"
    run("nft -n list ruleset > /run/netns/saved; nft flush ruleset; nft -f /run/netns/saved")
    assert ruleset() == said and barrier.is_whole(), "restored by nft, it is ours again"
    barrier.remove()
    barrier.remove()
    assert ruleset() == ""


@pytest.mark.usefixtures("nft")
@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet netops_underlay",
        "flush chain inet netops_underlay forward",
        "insert rule inet netops_underlay arriving accept",
        "add table inet netops_underlay { flags dormant; }",
        "flush chain inet netops_underlay prerouting; delete chain inet netops_underlay prerouting",
    ],
)
def test_a_damaged_table_is_seen_and_recreated(damage: str) -> None:
    run(
        "nft 'table inet theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 22 accept; }; }'"
    )
    theirs = ruleset()
    do(new_link("ours0", "veth", None))
    assert barrier.is_whole()
    whole = ruleset()
    run(f"nft '{damage}'")
    assert not barrier.is_whole()
    assert barrier.install() is None and barrier.is_whole()
    if damage != "flush ruleset":
        assert ruleset().replace("\n\n", "\n").split("\n").sort() == whole.replace("\n\n", "\n").split("\n").sort()
        assert theirs.strip() in ruleset()


@pytest.mark.usefixtures("nft")
def test_a_table_with_an_owner_outlives_a_flush_only_while_the_owner_lives() -> None:
    """Why ours has none: the flags would help only while the service runs, and keep modules from changing it."""
    with subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdin is not None
        owner.stdin.write("add table inet owned { flags owner, persist; }\n")
        owner.stdin.flush()
        assert until(lambda: "table inet owned" in ruleset())
        run("nft flush ruleset")
        assert "table inet owned" in ruleset()
        refused = subprocess.run(["nft", "add chain inet owned x"], capture_output=True, text=True, check=False)
        assert refused.returncode and "Operation not permitted" in refused.stderr
        owner.kill()
    assert until(lambda: "owner" not in ruleset().replace("owned", "")) and "table inet owned" in ruleset()
    run("nft flush ruleset")
    assert ruleset() == ""


@pytest.mark.usefixtures("nft")
def test_events_tell_that_it_is_damaged() -> None:
    from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import events

    barrier.install()
    ear = events.Filter()
    run("nft 'add table inet theirs; delete table inet theirs'")
    assert not until(ear.read_events, 0.5)
    for damage in ("flush chain inet netops_underlay forward", "delete table inet netops_underlay"):
        run(f"nft '{damage}'")
        assert until(ear.read_events, 10), damage
        barrier.install()
        until(ear.read_events, 0.5)


# --- neighbours that rewrite the host -------------------------------------------------------------

#: What sysctl.d of a router, a Kubernetes node or a hardening guide says, on top of what a person tried once.
LAX = """\
net.ipv4.ip_forward = 1
net.ipv4.conf.all.rp_filter = 0
net.ipv4.conf.*.rp_filter = 2
net.ipv4.conf.*.arp_ignore = 0
net.ipv4.conf.*.forwarding = 1
net.ipv6.conf.all.forwarding = 1
net.ipv6.conf.*.disable_ipv6 = 0
net.ipv6.conf.*.accept_ra = 2
net.ipv6.conf.*.accept_redirects = 1
"""
THEIRS = "table inet theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 22 accept; }; }"
REWRITES = {
    "nft flush ruleset": "nft flush ruleset",
    "nft -f, with a ruleset that begins by a flush": f"nft 'flush ruleset; {THEIRS}'",
    "sysctl --system": "sysctl -q --system",
    "both, and a link of ours down": "nft flush ruleset; sysctl -q --system; ip link set $LINK down",
}
SYSCTL_D = Path("/etc/sysctl.d/99-lax.conf")


@pytest.fixture
def lax() -> Iterator[None]:
    SYSCTL_D.parent.mkdir(exist_ok=True)
    SYSCTL_D.write_text(LAX, encoding="ascii")
    yield
    SYSCTL_D.unlink()


def confs(name: str) -> Dict[str, str]:
    """The sysctls of a link that the file above is about."""
    paths = [f"{f}/conf/{name}/{key}" for f, key in (
        ("ipv4", "rp_filter"), ("ipv4", "arp_ignore"), ("ipv4", "forwarding"), ("ipv6", "disable_ipv6"), ("ipv6", "accept_ra"),
        ("ipv6", "accept_redirects"), ("ipv6", "forwarding"))]  # fmt: skip
    return {path: Path("/proc/sys/net", path).read_text(encoding="ascii").strip() for path in paths}


def tables_of_others() -> str:
    return re.sub(r"(?ms)^table inet netops_underlay \{.*?^\}\n?", "", ruleset())


@pytest.mark.usefixtures("ours", "lax")
@pytest.mark.parametrize("how", REWRITES)
def test_who_rewrites_the_host_opens_nothing_for_long(how: str, tmp_path: Path, filtered: bool) -> None:
    if "nft" in REWRITES[how] and not filtered:
        pytest.skip("this kernel has no nf_tables with the family inet")
    engine = Engine(str(tmp_path / "state"))
    engine.network("inside", parent="trunk", host_access=True)
    engine.endpoint("one", "inside")
    (link,) = (row["ifname"] for row in ip("link", "show", "group", str(LINK_GROUP)))
    if filtered:
        run(f"nft '{THEIRS}'")
    before = confs(link)
    run(REWRITES[how].replace("$LINK", link))
    theirs = (tables_of_others() if filtered else "", confs("lan0"), confs("all"))
    changes, left, _rest = restore.drift(Registry(engine.state_dir))
    assert changes and not left, "drift names what was done"
    found = restore.restore(transact.RunOptions(engine.state_dir))
    assert found.left == [] and confs(link) == before
    assert restore.drift(Registry(engine.state_dir))[:2] == ([], [])
    left_alone = (tables_of_others() if filtered else "", confs("lan0"), confs("all"))
    assert left_alone == theirs, "theirs are as they left them"
    assert barrier.is_whole() or not filtered


@pytest.mark.usefixtures("nft")
def test_nothing_of_the_hosts_own_goes_out_by_a_tenants_link(ours: str) -> None:
    """What a program sends there on purpose, bound to the link, with an address that is the host's elsewhere."""
    make(ours, "none")
    index = socket.if_nametoindex(ours)
    with inside("wire"):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        tap.bind(("tenant", 3))
    tap.settimeout(0.5)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ours.encode())
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), index))

    def heard() -> bytes:
        for target in ("255.255.255.255", "224.0.0.251"):
            with contextlib.suppress(PermissionError):
                sender.sendto(b"from the host", (target, 5353))
        data = b""
        with contextlib.suppress(TimeoutError):
            while True:
                data += tap.recv(2048)
        return data

    with contextlib.closing(tap), contextlib.closing(sender):
        assert b"from the host" not in heard()
        barrier.remove()
        assert b"from the host" in heard()
