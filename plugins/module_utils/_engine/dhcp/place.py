# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a lease is put: the link of an endpoint in the namespace of its workload, its address and its routes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..core.change import LINK_GROUPS, PROTOCOL
from ..core.errors import NetlinkError
from ..core.formats import version_of
from ..core.lease_specs import Lease
from ..core.route_specs import MAIN_TABLE, RTPROT_DHCP
from ..core.state import Address, Link, Route
from ..kernel import namespaces
from ..netlink import decode, encode, rtnetlink
from ..netlink.rtnetlink import Socket
from ..wire import arping
from .held import Held
from .packet import FOREVER

_ETH_P_ARP = 0x0806
#: RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100
#: What is heard of: our own work only adds, but for what it replaces.
_HEARD = (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK, rtnetlink.RTM_DELADDR, rtnetlink.RTM_DELROUTE)
#: An address is asked for so often, so many seconds apart: hosts on a wired LAN answer in milliseconds.
PROBES, APART = 3, 0.3
#: Seconds between looks at an address whose duplicates the kernel looks for, and for all of them: it takes some two (RFC 4862, 5.4).
_LOOK, _PATIENCE = 0.1, 10.0
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40
DEFAULT = "0.0.0.0/0"
_GONE = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV, errno.ESRCH, errno.ENOENT))


class Way(NamedTuple):
    """How the routes of a lease are to stand beside others in their namespace."""

    metric: int
    default: bool  # whether its default route is taken


class Place:
    """A namespace, held open. Raises OSError, and NamespaceError where it cannot be entered.

    What is open keeps the namespace with all its links alive, so it is closed as soon as the workload has ended.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._mtu: Dict[int, Optional[int]] = {}  # ifindex -> what the routes were made with
        try:
            found = os.fstat(descriptor)
            self.identity = (found.st_dev, found.st_ino)
            with namespaces.entered(descriptor):
                self._kernel = Socket()
                self.ear = socket.socket(
                    socket.AF_NETLINK,
                    socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                    socket.NETLINK_ROUTE,
                )
            self.ear.bind((0, _GROUPS))
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Let go of the namespace."""
        self._kernel.close()
        self.ear.close()
        os.close(self.descriptor)
        self.descriptor = -1  # the number may be that of another namespace next

    def heard(self) -> bool:
        """Read the events that came. Whether one may be about the lease; also where some were lost."""
        found = False
        while True:
            try:
                data = self.ear.recv(65536)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS
                return True
            start = 0
            while start + 16 <= len(data):
                length, kind = rtnetlink.HEADER.unpack_from(data, start)[:2]
                found = found or kind in _HEARD
                start += max(16, (length + 3) & ~3)

    def link(self, name: str, mac: str) -> Optional[Link]:
        """An endpoint's link, as a run has left it; None where it is not there, or is another's. An ipvlan link has the MAC of its parent."""
        found = self._kernel.ask([encode.get_link(name)], decode.link)[0]
        if found is None or found.group not in LINK_GROUPS:
            return None
        return found if (found.kind, found.mac) == ("macvlan", mac) or (found.kind, mac) == ("ipvlan", "") else None

    def packets(self, link: Link, protocol: int) -> socket.socket:
        """A socket that hears and sends frames of a protocol on a link. Raises OSError."""
        with namespaces.entered(self.descriptor):
            found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            found.bind((link.name, protocol))
        except BaseException:
            found.close()
            raise
        return found

    def shield(self, link: Link, port: int) -> Optional[socket.socket]:
        """A socket that reads nothing: without one, the kernel says to a server that its answer finds no listener. None where there is one."""
        with namespaces.entered(self.descriptor):
            found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode())
            found.bind(("0.0.0.0", port))
        except OSError:
            found.close()
            return None
        return found

    def datagrams(self, link: Link, port: int) -> socket.socket:
        """A socket of UDP over IPv6 on a port of a link. Raises OSError."""
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with namespaces.entered(self.descriptor):
            found = socket.socket(socket.AF_INET6, kind)
        try:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode())
            found.bind(("::", port))
        except BaseException:
            found.close()
            raise
        return found

    def addresses(self, version: int) -> List[Address]:
        """The addresses of an IP version of all links here."""
        found = self._kernel.dump(encode.all_addresses(), decode.address)
        return [it for it in found if version_of(it.address) == version]

    async def claim(self, link: Link, held: Held) -> bool:
        """Have an IPv6 address of a lease on a link; False where the kernel finds it at another host. Raises NetlinkError, and OSError."""
        self.put_ipv6(link, held)
        end = time.monotonic() + _PATIENCE
        while True:
            there = [it for it in self.addresses(6) if (it.ifindex, it.address) == (link.index, held.lease["address"])]
            if there and not there[0].flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
                return True
            if not there or there[0].flags & _IFA_F_DADFAILED:  # with a lifetime, the kernel removes a duplicate itself
                now = self.link(link.name, "" if link.kind == "ipvlan" else link.mac)
                if now is None or not now.up:
                    raise OSError(errno.ENETDOWN, f"{link.name} went down")
                self._remove_addresses(link, "", 6)
                return False
            if time.monotonic() >= end:
                raise OSError(
                    errno.ETIMEDOUT, f"{link.name} has no carrier, so no duplicate of {held.ip} can be looked for"
                )
            await asyncio.sleep(_LOOK)

    def put_ipv6(self, link: Link, held: Held) -> None:
        """Have the IPv6 address of a lease on a link, and none of an earlier lease. Raises NetlinkError."""
        # Never without an end, which sets it apart from an address of ours where the kernel has no IFA_PROTO.
        valid, preferred = (min(seconds, FOREVER - 1) for seconds in (held.left, held.preferred))
        self._kernel.request(encode.lease_address(held.lease["address"], link.index, valid, preferred))
        self._remove_addresses(link, held.lease["address"], 6)

    def put(self, link: Link, lease: Lease, seconds: int, way: Way) -> List[str]:
        """Have the address and the routes of a lease on a link, for so many seconds, and none of an earlier lease.

        Returns what of it was left out, in words. Raises NetlinkError.
        """
        new = all((it.ifindex, it.address) != (link.index, lease["address"]) for it in self.addresses(4))
        self._kernel.request(encode.lease_address(lease["address"], link.index, seconds, seconds))
        self._remove_addresses(link, lease["address"], 4)
        mtu = lease["mtu"] if lease["mtu"] and lease["mtu"] < link.mtu else None
        wanted, notes = self._wanted(link, lease, way)
        there = [(it.prefix, it.via, it.metric) for it in self._routes() if self._is_of_lease(it, link)]
        same = self._mtu.get(link.index, mtu) == mtu
        for route in there:
            if route not in wanted or not same:
                self._try(encode.remove_lease_route(route[0], link.index, route[2]))
        for prefix, via, metric in wanted:
            if (prefix, via, metric) not in there or not same:
                trouble = self._try(encode.lease_route(prefix, via, link.index, metric, mtu))
                notes += [f"the route to {prefix} was not taken: {trouble}"] if trouble else []
        if not same or (new and mtu):
            self._limit(link, lease, mtu)
        self._mtu[link.index] = mtu
        if new:
            self._announce(link, lease["address"])
        return notes

    def _limit(self, link: Link, lease: Lease, mtu: Optional[int]) -> None:
        """What is sent to neighbours is no larger either."""
        given = ipaddress.IPv4Interface(lease["address"])
        new, old = encode.change_connected_route(str(given.network), str(given.ip), link.index, mtu)
        if given.network.prefixlen < 32 and not self._try(new):  # of one address it has none; else there it is already
            self._try(old)

    def take(self, link: Link, version: int) -> None:
        """Remove what leases of an IP version have put on a link. Raises NetlinkError."""
        for route in self._routes() if version == 4 else ():
            if self._is_of_lease(route, link):
                self._try(encode.remove_lease_route(route.prefix, link.index, route.metric))
        self._remove_addresses(link, "", version)

    def _try(self, message: rtnetlink.Message) -> str:
        """Carry out a message; why it was refused, empty where it was not or where there is nothing any more."""
        try:
            self._kernel.request(message)
        except NetlinkError as error:
            return "" if error.errno in _GONE and message.type != rtnetlink.RTM_NEWROUTE else str(error)
        return ""

    def _routes(self) -> List[Route]:
        return [
            it for some in self._kernel.dump(encode.all_routes(), decode.routes) for it in some if ":" not in it.prefix
        ]

    @staticmethod
    def _is_of_lease(route: Route, link: Link) -> bool:
        return (route.protocol, route.table, route.oif) == (RTPROT_DHCP, MAIN_TABLE, link.index)

    def _remove_addresses(self, link: Link, but: str, version: int) -> None:
        """What leases gave before: by its mark, or before Linux 5.18 by its lifetime, which no address of ours has."""
        for it in self.addresses(version):
            leased = it.protocol == RTPROT_DHCP or (it.protocol == 0 and it.is_leased)
            if it.ifindex == link.index and it.address != but and leased:
                self._try(encode.remove_address(it.address, link.index))

    def _wanted(self, link: Link, lease: Lease, way: Way) -> Tuple[List[Tuple[str, Optional[str], int]], List[str]]:
        """The routes of a lease that are taken, those first over which others are reached; and why others are not."""
        own = ipaddress.IPv4Interface(lease["address"]).network
        others = [
            ipaddress.IPv4Interface(it.address).network for it in self.addresses(4) if it.ifindex != link.index
        ]  # what the workload reaches over its other links, no server here may draw away
        rows: List[Tuple[str, Optional[str]]] = [(row["prefix"], row["via"]) for row in lease["routes"]]
        if not rows and lease["routers"]:
            rows = [(DEFAULT, lease["routers"][0])]
        if not (way.default and not self._has_foreign_default()):
            rows = [row for row in rows if row[0] != DEFAULT]
        direct = [ipaddress.IPv4Network(prefix) for prefix, via in rows if via is None]
        for hop in dict.fromkeys(via for _prefix, via in rows if via is not None):
            ip = ipaddress.IPv4Address(hop)
            if ip not in own and not any(ip in prefix for prefix in direct):  # as with an address of 32 bits
                rows.append((f"{hop}/32", None))
        found: List[Tuple[str, Optional[str], int]] = []
        notes: List[str] = []
        for prefix, via in dict.fromkeys(sorted(rows, key=lambda row: row[1] is not None)):
            network = ipaddress.IPv4Network(prefix)
            if any(network.subnet_of(other) for other in others):
                notes.append(f"the route to {prefix} was not taken: another link of the workload leads there")
            else:
                found.append((prefix, via, way.metric))
        return found, notes

    def _has_foreign_default(self) -> bool:
        """Whether the workload has a default route that neither a plan nor a lease gave it over a link of ours."""
        ours = {it.index for it in self._kernel.dump(encode.all_links(), decode.link) if it.group in LINK_GROUPS}
        return any(
            it.prefix == DEFAULT
            and it.table == MAIN_TABLE
            and it.protocol != PROTOCOL
            and not (it.protocol == RTPROT_DHCP and it.oif in ours)
            for it in self._routes()
        )

    def _announce(self, link: Link, address: str) -> None:
        """Tell the neighbours whose address it is (RFC 5227, 2.3)."""
        packed = ipaddress.IPv4Interface(address).ip.packed
        frame = arping.request(arping.ProbeRequest(0, str(ipaddress.IPv4Address(packed))), _octets(link.mac))
        with contextlib.suppress(OSError), self.packets(link, _ETH_P_ARP) as wire:
            wire.send(frame[:28] + packed + frame[32:])

    async def holder(self, link: Link, address: str) -> str:
        """The MAC of another host that has an IPv4 address, or is about to take it; empty for none (RFC 5227, 2.1.1)."""
        packed, own = ipaddress.IPv4Address(address).packed, _octets(link.mac)
        frame = arping.request(arping.ProbeRequest(0, address), own)
        with self.packets(link, _ETH_P_ARP) as wire:
            for _time in range(PROBES):
                with contextlib.suppress(OSError):  # a queue that is full, or a link that is down: there is a next time
                    wire.send(frame)
                end = time.monotonic() + APART
                while (left := end - time.monotonic()) > 0:
                    mac = _rival(await _next(wire, left), packed)
                    if mac and mac != own:
                        return mac.hex(":")
        return ""


async def _next(wire: socket.socket, seconds: float) -> bytes:
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(wire, 256), seconds)
    except asyncio.TimeoutError:
        return b""
    except OSError:  # the link went down
        await asyncio.sleep(seconds)
        return b""


def _rival(frame: bytes, address: bytes) -> bytes:
    """The MAC that an ARP frame says to have an address, or to probe for it."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x06":
        return b""
    mac, sender, target = frame[22:28], frame[28:32], frame[38:42]
    return mac if sender == address or (sender == bytes(4) and target == address and frame[20:22] == b"\0\1") else b""


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
