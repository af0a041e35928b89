# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address conflicts: probes before an address is used, and announcements of our addresses.

IPv4 by the ARP probe of RFC 5227, IPv6 by the neighbour solicitation of RFC 4862, section 5.4, both as frames from a
place on the wire that has no address yet. All addresses of a run are asked for at once. The intervals are shorter than
in RFC 5227: hosts on a wired LAN answer in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import ipaddress
import select
import socket
import struct
import time
from typing import Dict, Iterable, List, Mapping, Optional, Set, Tuple

from ..core.change import HOST
from ..core.errors import CannotProbe, NamespaceError, NetlinkError
from ..kernel import namespaces, workload_namespaces
from ..netlink import encode
from ..netlink.rtnetlink import Socket as Kernel

#: How often each address is asked for, how long apart, and how long it is listened for after that, in seconds.
TIMES, APART, LISTEN = 3, 0.4, 1.0
#: How long a link that was just set up may take to get a carrier: a switch negotiates, and learns about the tree.
CARRIER = 15.0

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0
_SO_ATTACH_FILTER = 26
_SIOCGIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8913, 0x1, 0x40
_SOLICITATION, _ADVERTISEMENT, _ICMPV6 = 135, 136, 58

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_BROADCAST, _NOBODY = b"\xff" * 6, bytes(6)
_ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")

#: A workload, and a link in it: where it is asked from.
Where = Tuple[str, str]


def ask(wanted: Mapping[Where, Iterable[str]]) -> Dict[Tuple[Where, str], Optional[str]]:
    """The MAC that holds each address; None if it is free. Links that are down are up while they are asked from.

    Raises CannotProbe.
    """
    with contextlib.ExitStack() as stack:
        places = [
            stack.enter_context(contextlib.closing(_Place(where, addresses))) for where, addresses in wanted.items()
        ]
        ours = {place.mac for place in places}  # endpoints of one network hear each other ask
        for place in places:
            place.ours = ours
            place.wait_for_carrier()
        for _time in range(TIMES):
            for place in places:
                place.send()
            _listen(places, APART)
        _listen(places, LISTEN)
        return {(place.where, address): place.holders.get(address) for place in places for address in place.addresses}


def announce(where: Where, addresses: Iterable[str]) -> None:
    """Tell the neighbours of a link that is up whose these addresses are: the kernel does so for a link that comes up.

    Raises CannotProbe.
    """
    with contextlib.closing(_Place(where, addresses)) as place:
        for address in place.addresses:
            place.announce(address)


def _listen(places: List[_Place], seconds: float) -> None:
    ears = {ear.fileno(): (place, ear) for place in places for ear in place.ears}
    poll = select.poll()
    for number in ears:
        poll.register(number, select.POLLIN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for number, _event in poll.poll(left * 1000):
            place, ear = ears[number]
            with contextlib.suppress(OSError):  # such as a link that went down: who is silent holds nothing
                place.hear(ear.recv(2048))


class _Place:
    """A link that it is asked from, and what was heard there."""

    def __init__(self, where: Where, addresses: Iterable[str]) -> None:
        self.where = where
        self.addresses = list(dict.fromkeys(addresses))
        self.holders: Dict[str, str] = {}
        self.ears: List[socket.socket] = []
        self.raised = False
        self.ours: Set[bytes] = set()
        workload, link = where
        try:
            self._path = workload_namespaces.resolve(workload)
            with namespaces.entered(self._path):
                self._open(link)
        except (OSError, NamespaceError, NetlinkError) as error:
            self.close()
            raise CannotProbe(f"cannot probe from {self}: {error}") from None

    def __str__(self) -> str:
        workload, link = self.where
        return f"{link} in {workload}" if workload != HOST else link

    def _open(self, link: str) -> None:
        self.ears += (socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) for _ear in range(2))
        if not self._flags() & _IFF_UP:  # before they are bound: one on a link that is down loses its first frame
            self._set(up=True)
            self.raised = True
        for ear, protocol in zip(self.ears, (_ETH_P_ARP, _ETH_P_IPV6)):
            if protocol == _ETH_P_IPV6:
                _only_neighbours(ear)
            ear.bind((link, protocol))
        self.mac: bytes = self.ears[0].getsockname()[4]
        index = socket.if_nametoindex(link)
        for group in {_ALL_NODES, *(_solicited(address) for address in self.addresses if ":" in address)}:
            request = struct.pack("=iHH8s", index, _PACKET_MR_MULTICAST, 6, _group_mac(group))
            self.ears[1].setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)

    def close(self) -> None:
        if self.raised:
            with contextlib.suppress(OSError, NamespaceError, NetlinkError), namespaces.entered(self._path):
                self._set(up=False)
        for ear in self.ears:
            ear.close()

    def _set(self, up: bool) -> None:
        with Kernel() as kernel:
            kernel.request(encode.change_link(self.where[1], up=up))

    def _flags(self) -> int:
        answer = fcntl.ioctl(self.ears[0], _SIOCGIFFLAGS, struct.pack("16sH22x", self.where[1].encode(), 0))
        return int(struct.unpack_from("16xH", answer)[0])

    def wait_for_carrier(self) -> None:
        """Raises CannotProbe where none comes: silence would prove nothing."""
        end = time.monotonic() + CARRIER
        while not self._flags() & _IFF_RUNNING:
            if time.monotonic() > end:
                raise CannotProbe(f"cannot probe from {self}: it has no carrier")
            time.sleep(0.05)

    # -- what is sent -----------------------------------------------------------------------------

    def send(self) -> None:
        for address in self.addresses:
            if address not in self.holders:
                packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
                frame = self._solicitation(address, packed) if ":" in address else self._arp(bytes(4), packed)
                with contextlib.suppress(OSError):  # a queue that is full: there is a next time
                    self.ears[0].send(frame)

    def announce(self, address: str) -> None:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        if ":" in address:
            body = struct.pack("!I16sBB6s", 0x20000000, packed, 2, 1, self.mac)  # override; our link-layer address
            frame = self._icmp(_ADVERTISEMENT, body, packed, _ALL_NODES)
        else:
            frame = self._arp(packed, packed)
        with contextlib.suppress(OSError):
            self.ears[0].send(frame)

    def _arp(self, sender: bytes, desired: bytes) -> bytes:
        head = _ETHERNET.pack(_BROADCAST, self.mac, _ETH_P_ARP)
        return head + _ARP.pack(1, 0x0800, 6, 4, 1, self.mac, sender, _NOBODY, desired)

    def _solicitation(self, address: str, packed: bytes) -> bytes:
        return self._icmp(_SOLICITATION, bytes(4) + packed, bytes(16), _solicited(address))

    def _icmp(self, kind: int, body: bytes, source: bytes, group: bytes) -> bytes:
        length = 4 + len(body)
        pseudo = source + group + struct.pack("!II", length, _ICMPV6)
        check = _checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + body)
        head = _ETHERNET.pack(_group_mac(group)[:6], self.mac, _ETH_P_IPV6)
        return (
            head + _IPV6.pack(6 << 28, length, _ICMPV6, 255, source, group) + struct.pack("!BBH", kind, 0, check) + body
        )

    # -- what is heard ----------------------------------------------------------------------------

    def hear(self, frame: bytes) -> None:
        if len(frame) < _ETHERNET.size or frame[6:12] in self.ours:
            return
        protocol = _ETHERNET.unpack_from(frame)[2]
        body = frame[_ETHERNET.size :]
        if protocol == _ETH_P_ARP and len(body) >= _ARP.size:
            _hard, _soft, _hlen, _plen, operation, mac, sender, _there, desired = _ARP.unpack_from(body)
            self._note(sender, desired if operation == 1 and sender == bytes(4) else b"", mac)
        elif protocol == _ETH_P_IPV6 and len(body) >= _IPV6.size + 24:
            _flow, _length, _next, _hops, source, _to = _IPV6.unpack_from(body)
            kind, desired = body[_IPV6.size], body[_IPV6.size + 8 : _IPV6.size + 24]
            if kind == _ADVERTISEMENT:
                self._note(desired, b"", frame[6:12])
            else:
                self._note(source, desired if source == bytes(16) else b"", frame[6:12])

    def _note(self, owner: bytes, rival: bytes, mac: bytes) -> None:
        """Somebody has an address; or asks for it as we do, and then the lower MAC has it."""
        for packed, holds in ((owner, True), (rival, mac < self.mac)):
            if len(packed) in (4, 16) and holds and mac not in self.ours:
                address = str(ipaddress.ip_address(packed))
                if address in self.addresses:
                    self.holders.setdefault(address, mac.hex(":"))


def _solicited(address: str) -> bytes:
    """The solicited-node multicast address of RFC 4291, 2.7.1."""
    return socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + socket.inet_pton(socket.AF_INET6, address)[13:]


def _group_mac(group: bytes) -> bytes:
    return b"\x33\x33" + group[12:]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class _Filter(ctypes.Structure):
    """struct sock_fprog (include/uapi/linux/filter.h)"""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _only_neighbours(ear: socket.socket) -> None:
    """Of all that is IPv6, only solicitations and advertisements of neighbours: a parent may carry a host's load."""
    program = (
        (0x30, 0, 0, 20), (0x15, 0, 3, _ICMPV6),  # the next header
        (0x30, 0, 0, 54), (0x15, 2, 0, _SOLICITATION), (0x15, 1, 0, _ADVERTISEMENT),  # the type
        (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFF),
    )  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    ear.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(_Filter(len(program), ctypes.addressof(code))))
