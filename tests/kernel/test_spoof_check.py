# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``spoof_check``: what an endpoint sends in another's name arrives nowhere, and all that is its own does.

It needs nf_tables with the family netdev, which the lab's guests lack: there the refusal is tried. The rest runs on the
machine's own kernel: ``tests/lab/run --rack -- pytest tests/kernel/test_spoof_check.py``.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import select
import socket
import struct
import subprocess
import time
from typing import Any, Dict, Set

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import events, senders
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support import frames as f
from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, inside, ip, run
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not HAS_IPV6, reason="half of the frames are IPv6")

MAC, OTHER_MAC = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
OWN4, OWN6, ALLOWED4, ALLOWED6 = "192.0.2.10", "2001:db8::10", "192.0.2.77", "2001:db8::77"
OTHER4, OTHER6, ROUTER = "192.0.2.11", "2001:db8::11", "fe80::1"
GATEWAY4, GATEWAY6 = "192.0.2.1", "2001:db8::1"
LOCAL, OTHER_LOCAL = "fe80::ff:fe00:a", "fe80::ff:fe00:b"
ALL, NODES = b"\xff" * 6, b"\x33\x33\0\0\0\x01"
OWN, OTHER = f.mac(MAC), f.mac(OTHER_MAC)
_QDISC_BYPASS = 20  # PACKET_QDISC_BYPASS
_AF_XDP, _SOL_XDP = 44, 283


@pytest.fixture(scope="module")
def filters() -> bool:
    return not senders.why_not()


@pytest.fixture
def filtered(filters: bool) -> None:
    if not filters:
        pytest.skip("this kernel has no egress hook of nf_tables: tests/lab/run --rack")


def _arp(kind: int, mac: bytes, sender: str, target: str, source: bytes = OWN) -> bytes:
    body = struct.pack("!HHBBH", 1, f.ETH_IPV4, 6, 4, kind) + mac + socket.inet_aton(sender)
    return f.ethernet(ALL, source, f.ETH_ARP, body + ALL + socket.inet_aton(target))


def _four(source: str, data: bytes = b"", protocol: int = f.UDP, mac: bytes = OWN, **more: Any) -> bytes:
    data = data or f.udp(source, "255.255.255.255", 9, b"")
    return f.ethernet(ALL, mac, f.ETH_IPV4, f.ipv4(source, "255.255.255.255", protocol, data, **more))


def _six(source: str, data: bytes, protocol: int = f.ICMPV6, mac: bytes = OWN) -> bytes:
    return f.ethernet(NODES, mac, f.ETH_IPV6, f.ipv6(source, "ff02::1", protocol, data))


def _icmp6(source: str, kind: int, body: bytes = bytes(4), **more: Any) -> bytes:
    return _six(source, f.icmpv6(source, "ff02::1", kind, body), **more)


def _nd(source: str, kind: int, target: str, option: bytes = b"", **more: Any) -> bytes:
    return _icmp6(source, kind, bytes(4) + socket.inet_pton(socket.AF_INET6, target) + option, **more)


def _ports(source: str, sport: int, dport: int, length: int = 8) -> bytes:
    return struct.pack("!HHHH", sport, dport, length, 0)


def _behind(header: int, source: str, kind: int, option: bytes = bytes(6)) -> bytes:
    return _six(source, bytes((f.ICMPV6, 0)) + option + f.icmpv6(source, "ff02::1", kind, bytes(12)), header)


ADVERT = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
GOOD = {
    "ARP request": _arp(1, OWN, OWN4, OTHER4),
    "ARP reply": _arp(2, OWN, OWN4, OTHER4),
    "ARP probe": _arp(1, OWN, "0.0.0.0", OWN4),
    "ARP of an allowed address": _arp(1, OWN, ALLOWED4, ALLOWED4),
    "IPv4": _four(OWN4),
    "IPv4 of an allowed address": _four(ALLOWED4),
    "ICMP": _four(OWN4, f.icmp(8, 0, bytes(4)), f.ICMP),
    "a later fragment that begins like a DHCP server": _four(OWN4, b"\0\x43" + bytes(14), flags_and_offset=3),
    "a DHCP client": _four("0.0.0.0", _ports("0.0.0.0", 68, 67)),
    "IGMP without an address": _four("0.0.0.0", bytes(8), f.IGMP),
    "TCP over IPv6": _six(OWN6, f.syn(OWN6, "ff02::1", 22, b""), f.TCP),
    "UDP over IPv6": _six(OWN6, f.udp(OWN6, "ff02::1", 9, b""), f.UDP),
    "UDP of an allowed address": _six(ALLOWED6, f.udp(ALLOWED6, "ff02::1", 9, b""), f.UDP),
    "UDP of the link-local address": _six(LOCAL, f.udp(LOCAL, "ff02::1", 9, b""), f.UDP),
    "an IPv6 fragment": _six(OWN6, struct.pack("!BBHI", f.UDP, 0, 1, 7) + _ports(OWN6, 9, 9), f.FRAGMENT),
    "ICMPv6": _icmp6(OWN6, 128),
    "solicitation": _nd(OWN6, 135, OTHER6, b"\x01\x01" + OWN),
    "solicitation without an option": _nd(OWN6, 135, OTHER6),
    "duplicate address detection": _nd("::", 135, OWN6),
    "the same with a nonce": _nd("::", 135, OWN6, b"\x0e\x01" + bytes(6)),
    "advertisement": _nd(OWN6, 136, OWN6, b"\x02\x01" + OWN),
    "advertisement of the link-local address": _nd(LOCAL, 136, LOCAL, b"\x02\x01" + OWN),
    "router solicitation": _icmp6(LOCAL, 133, bytes(4) + b"\x01\x01" + OWN),
    "listener report": _behind(f.HOP_BY_HOP, LOCAL, 143, b"\x05\x02\0\0\x01\0"),
    "listener report without an address": _behind(f.HOP_BY_HOP, "::", 143, b"\x05\x02\0\0\x01\0"),
}
SPOOFED = {
    "ARP for the gateway": _arp(2, OWN, GATEWAY4, OTHER4),
    "ARP for the own address with another's MAC": _arp(2, OTHER, OWN4, OTHER4),
    "ARP in the name of another": _arp(2, OTHER, OTHER4, OWN4, OTHER),
    "ARP for an address 0.0.0.0 with another's MAC": _arp(2, OTHER, "0.0.0.0", OTHER4),
    "the own address from another's MAC": _four(OWN4, mac=OTHER),
    "all of another's": _four(OTHER4, mac=OTHER),
    "another's address": _four(OTHER4),
    "another's address in ICMP": _four(OTHER4, f.icmp(8, 0, bytes(4)), f.ICMP),
    "no address": _four("0.0.0.0"),
    "a DHCP server": _four(OWN4, _ports(OWN4, 67, 68)),
    "a DHCP server behind options": f.ethernet(ALL, OWN, f.ETH_IPV4, b"\x46\0\0\x28" + f.ipv4(OWN4, "255.255.255.255", f.UDP, b"")[4:]
                                               + b"\x94\x04\0\0" + _ports(OWN4, 67, 68)),
    "another's IPv6 address": _six(OTHER6, f.udp(OTHER6, "ff02::1", 9, b""), f.UDP),
    "another's link-local address": _six(OTHER_LOCAL, f.udp(OTHER_LOCAL, "ff02::1", 9, b""), f.UDP),
    "another's IPv6 fragment": _six(OTHER6, struct.pack("!BBHI", f.UDP, 0, 1, 7) + _ports(OTHER6, 9, 9), f.FRAGMENT),
    "TCP from another's IPv6 address": _six(OTHER6, f.syn(OTHER6, "ff02::1", 22, b""), f.TCP),
    "the own IPv6 address from another's MAC": _icmp6(OWN6, 128, mac=OTHER),
    "no IPv6 address": _icmp6("::", 128),
    "a DHCPv6 server": _six(LOCAL, _ports(LOCAL, 547, 546), f.UDP),
    "a DHCPv6 server in fragments": _six(LOCAL, struct.pack("!BBHI", f.UDP, 0, 1, 7) + _ports(LOCAL, 547, 546), f.FRAGMENT),
    "solicitation with another's MAC": _nd(OWN6, 135, OTHER6, b"\x01\x01" + OTHER),
    "solicitation with two options": _nd(OWN6, 135, OTHER6, b"\x0e\x01" + bytes(6) + b"\x01\x01" + OTHER),
    "solicitation in another's name": _nd(OTHER6, 135, OTHER6, b"\x01\x01" + OWN),
    "advertisement for another's address": _nd(OWN6, 136, OTHER6, b"\x02\x01" + OWN),
    "advertisement for the router": _nd(OWN6, 136, ROUTER, b"\x02\x01" + OWN),
    "advertisement with another's MAC": _nd(OWN6, 136, OWN6, b"\x02\x01" + OTHER),
    "advertisement in another's name": _nd(OTHER6, 136, OTHER6, b"\x02\x01" + OWN),
    "router solicitation with another's MAC": _icmp6(LOCAL, 133, bytes(4) + b"\x01\x01" + OTHER),
    "a router advertisement": _icmp6(LOCAL, 134, ADVERT),
    "the same behind hop-by-hop options": _behind(f.HOP_BY_HOP, LOCAL, 134),
    "the same behind destination options": _behind(f.DESTINATION_OPTIONS, LOCAL, 134),
    "the same behind a routing header": _behind(f.ROUTING, LOCAL, 134),
    "a redirect": _icmp6(LOCAL, 137, bytes(36)),
    "a tag": f.tagged(20, _four(OWN4)),
    "LLDP": f.ethernet(b"\x01\x80\xc2\0\0\x0e", OWN, f.ETH_LLDP, bytes(46)),
    "STP": f.ethernet(b"\x01\x80\xc2\0\0\0", OWN, 38, b"\x42\x42\x03" + bytes(43)),
}  # fmt: skip
FRAMES = {**{f"own: {name}": frame for name, frame in GOOD.items()}, **SPOOFED}
OWN_FRAMES = {name for name in FRAMES if name.startswith("own: ")}


@pytest.fixture
def scene(trunk: str, engine: Engine) -> Engine:
    """The wire ends in a namespace with a router; blue has an endpoint that spoofs, and another on the same parent."""
    run(f"""
        ip netns add wire; ip netns add a; ip netns add b
        ip link set far netns wire; ip -n wire link set far up
        ip -n wire addr add {GATEWAY4}/24 dev far; ip -n wire addr add {GATEWAY6}/64 dev far nodad
    """)
    network(engine, spoof_check=False)
    attach(engine)
    engine.endpoint("b", mac_address=OTHER_MAC, ipv4_address=OTHER4, ipv6_address=OTHER6)
    return engine


def network(engine: Engine, **options: Any) -> Any:
    subnets = [{"subnet": "192.0.2.0/24", "gateway": "none"}, {"subnet": "2001:db8::/64", "gateway": "none"}]
    return engine.network(parent="trunk", subnets=subnets, **options)


def attach(engine: Engine, **options: Any) -> Dict[str, Any]:
    given = {"ipv4_address": OWN4, "ipv6_address": OWN6, "mac_address": MAC, **options}
    return engine.endpoint("a", **{"allowed_addresses": [ALLOWED4, ALLOWED6], **given})


def _tap(netns: str, link: str) -> socket.socket:
    with inside(netns):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        tap.bind((link, 3))
    return tap


def arrived(
    frames: Dict[str, bytes], bypass: bool = False, protocol: int = 0, last: bytes = OWN
) -> Dict[str, Set[str]]:
    """Which frames that the workload a sends arrive at b on the same parent, and on the wire; until the last one did."""
    end = _four(OWN4, f.udp(OWN4, "255.255.255.255", 9, b"end"), mac=last)
    found: Dict[str, Set[str]] = {"b": set(), "wire": set()}
    with contextlib.ExitStack() as stack:
        taps = {name: stack.enter_context(_tap(name, {"b": "eth0", "wire": "far"}[name])) for name in found}
        with inside("a"):
            out = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            if bypass:
                out.setsockopt(263, _QDISC_BYPASS, 1)
        numbers = {b"token%03d" % number: name for number, name in enumerate(frames)}
        for token, name in numbers.items():
            with contextlib.suppress(OSError):  # ENOBUFS: it was dropped
                out.sendto(frames[name] + token, ("eth0", protocol))
        out.sendto(end, ("eth0", 0))
        for where, tap in taps.items():
            until_last = time.monotonic() + 20
            while time.monotonic() < until_last and select.select([tap], [], [], until_last - time.monotonic())[0]:
                data = tap.recv(4096)
                found[where] |= {name for token, name in numbers.items() if token in data}
                if data.endswith(b"end"):
                    break
            else:
                pytest.fail(f"the last frame did not arrive at {where}")
    return found


@pytest.mark.usefixtures("filtered")
def test_what_is_spoofed_arrives_nowhere_and_what_is_the_endpoints_own_everywhere(scene: Engine) -> None:
    # macvlan hands a neighbour only the groups that it listens to
    everywhere = {"b": set(FRAMES) - {"LLDP", "STP"}, "wire": set(FRAMES)}
    own = {"b": OWN_FRAMES, "wire": OWN_FRAMES}
    assert arrived(FRAMES) == everywhere, "off, so that each frame can arrive"
    network(scene, spoof_check=True)
    assert arrived(FRAMES) == own
    assert arrived(FRAMES, bypass=True) == own, "PACKET_QDISC_BYPASS"
    assert arrived(FRAMES, protocol=0x1234) == own, "a protocol that the frame does not have"
    for who, *addresses in (("a", OTHER4, OTHER6, GATEWAY4, GATEWAY6), ("b", OWN4, OWN6), ("wire", OWN4, OWN6)):
        for address in addresses:
            assert until(lambda who=who, address=address: _pings(who, address)), (who, address)  # type: ignore[misc]
    network(scene, spoof_check=False)
    assert arrived(FRAMES) == everywhere


def _pings(netns: str, address: str) -> bool:
    command = ["ip", "netns", "exec", netns, "ping", "-n", "-c1", "-W1", address]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.usefixtures("filtered")
def test_the_guest_of_a_tap_is_held_to_its_own_too(scene: Engine) -> None:
    """It sends through the device node, not by the namespace that the tap is in."""
    run("ip netns add vm")
    given = {"mac_address": "02:00:00:00:00:0d", "ipv4_address": "192.0.2.13"}
    scene.endpoint("vm", kind="tap", **given)
    mac = f.mac(given["mac_address"])
    own, spoofed = _four("192.0.2.13", mac=mac), _four(OTHER4, mac=mac)
    with contextlib.closing(_tap("wire", "far")) as wire:

        def got_out() -> Set[bytes]:
            node = os.open("/dev/netops-underlay/blue/vm", os.O_RDWR)
            try:
                for frame in (spoofed + b"spoofed", own + b"its own"):
                    os.write(node, bytes(10) + frame)  # after an empty struct virtio_net_hdr
            finally:
                os.close(node)
            found: Set[bytes] = set()
            end = time.monotonic() + 20
            while b"its own" not in found and select.select([wire], [], [], max(0, end - time.monotonic()))[0]:
                found.add(wire.recv(4096)[-7:])
            return found & {b"spoofed", b"its own"}

        try:
            assert got_out() == {b"spoofed", b"its own"}
            network(scene, spoof_check=True)
            assert got_out() == {b"its own"}
        finally:
            run("rm -rf /dev/netops-underlay")


def _send_by_xdp(frame: bytes) -> None:
    """Send a frame out of eth0 by a socket of AF_XDP, which takes CAP_NET_RAW (linux/if_xdp.h)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with socket.socket(_AF_XDP, socket.SOCK_RAW, 0) as xdp, mmap.mmap(-1, 4096 * 16) as frames:
        frames[: len(frame)] = frame
        view = ctypes.c_char.from_buffer(frames)
        xdp.setsockopt(_SOL_XDP, 4, struct.pack("=QQIIII", ctypes.addressof(view), 4096 * 16, 4096, 0, 0, 0))
        del view
        for ring in (5, 6, 3):  # XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING
            xdp.setsockopt(_SOL_XDP, ring, struct.pack("=I", 16))
        producer, _consumer, entries = struct.unpack_from("=3Q", xdp.getsockopt(_SOL_XDP, 1, 128), 32)
        size = entries + 16 * 16
        ring_at = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, xdp.fileno(), 0x80000000)
        try:
            address = struct.pack("=HHIII", _AF_XDP, 0, socket.if_nametoindex("eth0"), 0, 0)
            assert libc.bind(xdp.fileno(), address, len(address)) == 0, os.strerror(ctypes.get_errno())
            ctypes.memmove(ring_at + entries, struct.pack("=QII", 0, len(frame), 0), 16)
            ctypes.memmove(ring_at + producer, struct.pack("=I", 1), 4)
            assert libc.sendto(xdp.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0) == 0
        finally:
            libc.munmap(ring_at, size)


@pytest.mark.usefixtures("filtered")
def test_a_socket_of_af_xdp_passes_by_the_table(scene: Engine) -> None:
    """A limit, as the documentation has it: no hook of the link sees what such a socket sends."""
    network(scene, spoof_check=True)
    with contextlib.closing(_tap("wire", "far")) as wire:
        with inside("a"):
            try:
                _send_by_xdp(SPOOFED["another's address"] + b"by AF_XDP")
            except OSError as error:
                pytest.skip(f"this kernel has no AF_XDP: {error}")
        assert until(lambda: wire.recv(4096).endswith(b"by AF_XDP"))


# --- the one road --------------------------------------------------------------------------------


def ruleset(netns: str = "a") -> str:
    return subprocess.run(
        ["ip", "netns", "exec", netns, "nft", "list", "ruleset"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def spoofs(*names: str) -> Set[str]:
    """Which of some spoofed frames get out."""
    return arrived({name: FRAMES[name] for name in names or ("another's address", "ARP for the gateway")})["wire"]


def test_a_kernel_without_the_means_refuses_in_check_mode_too(scene: Engine, filters: bool) -> None:
    if filters:
        pytest.skip("this kernel has them")
    for check in (True, False):
        with pytest.raises(InputError, match=r"spoof_check: this kernel cannot .*CONFIG_NETFILTER_EGRESS"):
            network(scene, spoof_check=True, check=check)


@pytest.mark.usefixtures("filtered")
def test_the_table_follows_the_endpoint(scene: Engine) -> None:
    planned = network(scene, spoof_check=True, check=True)
    assert "netops" not in ruleset()
    assert network(scene, spoof_check=True).changes == planned.changes
    assert network(scene, spoof_check=True).changes == network(scene, spoof_check=True, check=True).changes == []
    assert not spoofs()
    # its addresses
    attach(scene, ipv4_address=OWN4, allowed_addresses=[ALLOWED4, OTHER4[:-1] + "9"])
    moved = {"x": _four(OTHER4[:-1] + "9"), "y": _six(ALLOWED6, f.udp(ALLOWED6, "ff02::1", 9, b""), f.UDP)}
    assert arrived(moved)["wire"] == {"x"}
    # its MAC
    attach(scene, mac_address="02:00:00:00:00:0c")
    renewed = f.mac("02:00:00:00:00:0c")
    assert arrived({"x": _four(OWN4, mac=renewed), "y": _four(OWN4)}, last=renewed)["wire"] == {"x"}
    attach(scene)
    # its name
    attach(scene, interface="wan0")
    assert "netops_underlay_wan0" in ruleset() and "netops_underlay_eth0" not in ruleset()
    attach(scene, interface="eth0")
    assert not spoofs() and "wan0" not in ruleset()
    # a new endpoint, in a namespace of ours
    scene.endpoint("c")
    assert "table netdev netops_underlay_eth0" in ruleset("c")
    # an undo brings back what was
    registry = Registry(scene.state_dir)
    network(scene, spoof_check=False)
    assert "netops" not in ruleset() + ruleset("b") + ruleset("c")
    options = transact.RunOptions(scene.state_dir)
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)
    assert not spoofs() and "netops" in ruleset("c")
    scene.absent("a")
    assert "netops" not in ruleset()


@pytest.mark.usefixtures("filtered")
def test_a_flush_is_drift_and_is_healed_and_rules_of_others_stay(scene: Engine) -> None:
    network(scene, spoof_check=True)
    service = events.Filter()
    run("ip netns exec a nft flush ruleset")
    assert until(service.read_events)
    run("ip netns exec a nft add table inet theirs; ip netns exec b nft add table netdev theirs")
    assert spoofs()
    registry = Registry(scene.state_dir)
    assert [change.key for change in restore.drift(registry)[0]] == ["netns:a/eth0"]
    heal(scene)
    assert not spoofs() and restore.drift(registry)[0] == []
    run("ip netns exec a nft add rule netdev netops_underlay_eth0 own6 accept")
    assert [change.key for change in restore.drift(registry)[0]] == ["netns:a/eth0"]
    heal(scene)
    run("ip netns exec a nft add table netdev netops_underlay_eth0 '{ flags dormant; }'")
    assert spoofs() and restore.drift(registry)[0]
    heal(scene)
    assert not spoofs() and restore.drift(registry)[0] == []
    network(scene, spoof_check=False)
    assert "table inet theirs" in ruleset() and "table netdev theirs" in ruleset("b")


def heal(engine: Engine) -> None:
    restore.restore(transact.RunOptions(engine.state_dir, who="a test"), restore.RestoreScope())


@pytest.mark.usefixtures("filtered")
def test_it_is_there_after_a_boot(scene: Engine) -> None:
    network(scene, spoof_check=True)
    run("ip netns del a; ip netns add a")
    assert until(lambda: not any(row.get("link_netnsid") for row in ip("link", "show", "type", "macvlan")))
    restore.restore(transact.RunOptions(scene.state_dir, who="a test"), restore.RestoreScope(boot=True))
    assert ip("link", "show", "dev", "eth0", netns="a")[0]["address"] == MAC and not spoofs()
