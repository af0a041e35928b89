# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes whether a VLAN works and who has an address in it, from the trunk's NIC, with the VLAN's tag.

One packet socket on the NIC speaks for all its VLANs, so that it takes no sub-interface and no address: the requests
are those of duplicate address detection (RFC 5227, 2.1.1 and RFC 4862, 5.4.2), which claim nothing. To learn whether
large frames pass, a request is padded: what is behind an ARP or IPv6 packet is ignored by whom it reaches. Where no
address is known to be in a VLAN, routers are asked (RFC 4861, 6.3.7), and whatever is heard shows that it arrives.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import itertools
import select
import socket
import struct
import time
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

_ETH_P_ALL, _ETH_P_ARP, _ETH_P_IPV6, _ETH_P_8021Q = 0x0003, 0x0806, 0x86DD, 0x8100
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_AUXDATA = 263, 1, 8
_PACKET_MR_PROMISC = 1  # also past a NIC's filter of VLANs that no sub-interface has yet; ends with the socket
_SO_ATTACH_FILTER = 26
_PACKET_OUTGOING = 4
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata: ..., vlan_tci, vlan_tpid
_TP_STATUS_VLAN_VALID = 0x10
_BROADCAST = b"\xff" * 6
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT = 133, 134
_ALL_ROUTERS = bytes.fromhex("ff020000000000000000000000000002")
_PREFIX_INFORMATION, _AUTONOMOUS = 3, 0x40  # RFC 4861, 4.6.2
_EVERYTHING, _NOTHING = (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
#: ARP, and advertisements of neighbours and routers; tags are in the auxiliary data by then.
_FILTER = (
    (0x28, 0, 0, 12), (0x15, 6, 0, _ETH_P_ARP), (0x15, 0, 6, _ETH_P_IPV6), (0x30, 0, 0, 20), (0x15, 0, 4, _ICMPV6),
    (0x30, 0, 0, 54), (0x15, 1, 0, _ADVERTISEMENT), (0x15, 0, 1, _ROUTER_ADVERTISEMENT), _EVERYTHING, _NOTHING,
)  # fmt: skip
#: SKF_AD_OFF + SKF_AD_VLAN_TAG: the tag of a frame, to a filter. The most VLANs that one can leave out (BPF_MAXINSNS).
_TAG, _MOST_LEFT_OUT = 0xFFFFF000 + 44, 2000
_BURST = 64  # requests between two looks at the answers

TRIES = 3
WAIT = 1.0  # seconds for the answers of one try
#: After the last answer: a second owner of an address may be slower than the first.
SETTLE = 0.3
#: Seconds for a router, which answers all who ask within 3 s by one advertisement, 0.5 s later (RFC 4861, 6.2.6).
ROUTER_WAIT = 4.0


class ProbeRequest(NamedTuple):
    """An address in a VLAN of the trunk; 0 is what has no tag."""

    vlan: int
    address: str


class Advertisement(NamedTuple):
    """What a router says in a VLAN: its address, and the prefixes that hosts may make addresses of."""

    router: str
    prefixes: Tuple[str, ...]


#: Who answered: the MACs, by what was asked.
Answers = Dict[ProbeRequest, Set[str]]


def request(ask: ProbeRequest, mac: bytes, size: int = 0) -> bytes:
    """The frame that asks, with at least ``size`` bytes behind its headers."""
    ip = ipaddress.ip_address(ask.address)
    if ip.version == 4:
        to, kind = _BROADCAST, _ETH_P_ARP
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), ip.packed)
    else:
        group = bytes.fromhex("ff0200000000000000000001ff") + ip.packed[13:]
        to, kind = b"\x33\x33" + group[12:], _ETH_P_IPV6
        body = _icmpv6(group, struct.pack("!BBHI16s", _SOLICITATION, 0, 0, 0, ip.packed))
    return _frame(to, mac, ask.vlan, kind, body.ljust(max(size, 46), b"\0"))


def solicitation(vlan: int, mac: bytes) -> bytes:
    """The frame that asks all routers of a VLAN, from no address: so they answer all (RFC 4861, 6.2.6)."""
    body = _icmpv6(_ALL_ROUTERS, struct.pack("!BBHI", _ROUTER_SOLICITATION, 0, 0, 0))
    return _frame(b"\x33\x33" + _ALL_ROUTERS[12:], mac, vlan, _ETH_P_IPV6, body)


def _frame(to: bytes, mac: bytes, vlan: int, kind: int, body: bytes) -> bytes:
    tag = struct.pack("!HH", _ETH_P_8021Q, vlan) if vlan else b""
    return to + mac + tag + struct.pack("!H", kind) + body


def _icmpv6(group: bytes, message: bytes) -> bytes:
    """A packet from the unspecified address."""
    message = message[:2] + _checksum(bytes(16), group, message) + message[4:]
    return struct.pack("!IHBB16s16s", 6 << 28, len(message), _ICMPV6, 255, bytes(16), group) + message


def _checksum(source: bytes, to: bytes, message: bytes) -> bytes:
    """RFC 8200, 8.1."""
    data = source + to + struct.pack("!II", len(message), _ICMPV6) + message
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def answer(frame: bytes, vlan: int) -> Optional[Tuple[ProbeRequest, str]]:
    """Which address a frame says to have, and at which MAC; None for any other frame. Its tag is not in it any more."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == _ETH_P_ARP and len(frame) >= 42 and frame[20:22] == b"\0\2":
        return ProbeRequest(vlan, str(ipaddress.IPv4Address(frame[28:32]))), frame[22:28].hex(":")
    if kind == _ETH_P_IPV6 and len(frame) >= 78 and frame[20] == _ICMPV6 and frame[54] == _ADVERTISEMENT:
        return ProbeRequest(vlan, str(ipaddress.IPv6Address(frame[62:78]))), frame[6:12].hex(":")
    return None


def advertisement(frame: bytes) -> Optional[Advertisement]:
    """What a frame says if it is a router's advertisement, else None."""
    is_one = int.from_bytes(frame[12:14], "big") == _ETH_P_IPV6 and len(frame) >= 70 and frame[20] == _ICMPV6
    if not is_one or frame[54] != _ROUTER_ADVERTISEMENT:
        return None
    prefixes, start = [], 70
    while start + 2 <= len(frame) and frame[start + 1]:
        kind, end = frame[start], start + 8 * frame[start + 1]
        if kind == _PREFIX_INFORMATION and end - start == 32 and end <= len(frame) and frame[start + 3] & _AUTONOMOUS:
            prefix = ipaddress.IPv6Network((frame[start + 16 : end], frame[start + 2]), strict=False)
            prefixes.append(str(prefix))
        start = end
    return Advertisement(str(ipaddress.IPv6Address(frame[22:38])), tuple(prefixes))


class TrunkSocket:
    """The wire behind a NIC. Raises OSError, such as ENETDOWN where it is down."""

    def __init__(self, nic: str, mac: str) -> None:
        self._mac = bytes.fromhex(mac.replace(":", ""))
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._filter(_FILTER)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind((nic, _ETH_P_ALL))
            member = struct.pack("=iHH8s", socket.if_nametoindex(nic), _PACKET_MR_PROMISC, 0, b"")
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, member)
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> TrunkSocket:
        return self

    def __exit__(self, *_rest: object) -> None:
        self._socket.close()

    def ask(self, asks: Sequence[ProbeRequest], sizes: Optional[Dict[ProbeRequest, int]] = None) -> Answers:
        """Who has these addresses. Probes that are not answered are repeated."""
        found: Answers = {}
        for _rest in range(TRIES):
            left = [ask for ask in dict.fromkeys(asks) if ask not in found]
            if not left:
                break
            for start in range(0, len(left), _BURST):
                for ask in left[start : start + _BURST]:
                    self._send(request(ask, self._mac, (sizes or {}).get(ask, 0)))
                self._hear(found, 0)
            deadline = time.monotonic() + WAIT
            while time.monotonic() < deadline and any(ask not in found for ask in left):
                self._hear(found, deadline - time.monotonic())
            while self._hear(found, SETTLE):
                pass
        return {ask: found[ask] for ask in dict.fromkeys(asks) if ask in found}

    def routers(self, vlans: Iterable[int]) -> Dict[int, List[Advertisement]]:
        """What routers advertise in each of some VLANs; those without any are left out."""
        found: Dict[int, List[Advertisement]] = {}
        wanted, served = set(vlans), set[int]()
        for frame, vlan in self._until(wanted, served):
            said = advertisement(frame)
            if said is not None and vlan in wanted:
                found.setdefault(vlan, []).append(said)
                served.update((vlan,) if said.prefixes else ())
        return found

    def alive(self, vlans: Iterable[int]) -> Set[int]:
        """Those of some VLANs in which anything at all is heard. Routers are asked, so that there is something to hear."""
        wanted, found = set(vlans), set[int]()
        self._filter(_without(()))
        for _frame, vlan in self._until(wanted, found):
            if vlan not in found:
                found.add(vlan)
                self._filter(_without(found))  # one that is busy would leave no place for the others
        return wanted & found

    def _until(self, wanted: Set[int], found: Set[int]) -> Iterator[Tuple[bytes, int]]:
        """The frames that arrive after routers were asked, until all VLANs that are wanted are found, or time is up."""
        for vlan in sorted(wanted):
            self._send(solicitation(vlan, self._mac))
        deadline = time.monotonic() + ROUTER_WAIT
        while wanted - found and (left := deadline - time.monotonic()) > 0:
            if select.select((self._socket,), (), (), left)[0]:
                yield from self._frames()

    def _filter(self, steps: Sequence[Tuple[int, int, int, int]]) -> None:
        program = b"".join(struct.pack("=HBBI", *step) for step in steps)
        memory = ctypes.create_string_buffer(program, len(program))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(steps), ctypes.addressof(memory))
        )

    def _send(self, frame: bytes) -> None:
        for _rest in range(1000):
            try:
                self._socket.send(frame)
                return
            except BlockingIOError:
                select.select((), (self._socket,), (), WAIT)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the NIC's queue is full
                    raise
                time.sleep(0.001)

    def _hear(self, found: Answers, timeout: float) -> bool:
        """Take in what arrived until now, or arrives next; whether there was an answer."""
        if not select.select((self._socket,), (), (), max(timeout, 0))[0]:
            return False
        read_events = False
        for frame, vlan in self._frames():
            answered = answer(frame, vlan)
            if answered is not None:
                found.setdefault(answered[0], set()).add(answered[1])
                read_events = True
        return read_events

    def _frames(self) -> Iterator[Tuple[bytes, int]]:
        while True:
            try:
                frame, extra, _flags, sender = self._socket.recvmsg(2048, socket.CMSG_SPACE(_AUXDATA.size))
            except BlockingIOError:
                return
            if sender[2] == _PACKET_OUTGOING:
                continue
            for level, kind, data in extra:
                if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                    status, _rest, _rest, _rest, _rest, tci, _rest = _AUXDATA.unpack_from(data)
                    yield frame, tci & 0x0FFF if status & _TP_STATUS_VLAN_VALID else 0


def _without(vlans: Iterable[int]) -> List[Tuple[int, int, int, int]]:
    """A filter of what has a tag, but for some VLANs."""
    left_out = itertools.chain.from_iterable(
        ((0x15, 0, 1, vlan), _NOTHING) for vlan in (0, *sorted(vlans)[:_MOST_LEFT_OUT])
    )
    return [(0x20, 0, 0, _TAG), (0x54, 0, 0, 0x0FFF), *left_out, _EVERYTHING]


def answered_by_others(answers: Answers, own: Iterable[str]) -> Answers:
    """The answers without those that come from this host itself."""
    mine = set(own)
    rest = {ask: macs - mine for ask, macs in answers.items()}
    return {ask: macs for ask, macs in rest.items() if macs}


def ranges(vlans: Iterable[int]) -> List[str]:
    """Numbers as people write them: 10, 20-29."""
    found: List[List[int]] = []
    for vlan in sorted(set(vlans)):
        if found and found[-1][1] == vlan - 1:
            found[-1][1] = vlan
        else:
            found.append([vlan, vlan])
    return [str(low) if low == high else f"{low}-{high}" for low, high in found]
