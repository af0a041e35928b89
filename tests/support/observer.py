# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An observer on the wires of many hosts: the gateway of every VLAN, which pings each endpoint and hears every claim.

It sits in the switches' namespace, so it knows behind which port an address is, whatever MAC it has.
"""

from __future__ import annotations

import ipaddress
import multiprocessing
import select
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Deque, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from tests.support import frames

#: Seconds between two pings of an endpoint, and between two questions who has its address; and how finely they are spread,
#: because a burst of questions to every port of a switch is more than a kernel's queue takes.
PING, ASK, TICK = 0.1, 1.0, 0.01
#: Until when an answer has to be there; a machine that is busy is no fault.
PATIENCE = 30.0
BROADCAST = b"\xff" * 6
#: That of the gateway, in each VLAN.
MAC = frames.mac("02:00:00:00:00:01")
_SOL_PACKET, _AUXDATA, _IGNORE_OUTGOING, _VLAN_VALID, _RCVBUFFORCE = 263, 8, 23, 1 << 4, 33
_NS, _NA, _REQUEST6, _REPLY6 = 135, 136, 128, 129

Place = Tuple[str, int, str]  # trunk, VLAN, address
Holder = Tuple[str, bytes]  # host, MAC


@dataclass
class Report:
    """What the observer has seen since it last began to count."""

    sent: Dict[Place, int] = field(default_factory=dict)
    lost: Dict[Place, int] = field(default_factory=dict)
    duplicates: List[str] = field(default_factory=list)


class Observer:
    """The observer's process, in the namespace that it was started in."""

    def __init__(self, ports: Mapping[str, Tuple[str, str]]) -> None:
        """``ports``: link -> trunk and host. The bridges are called like the trunks."""
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=_watch, args=(theirs, dict(ports)))
        self._process.start()
        theirs.close()

    def _ask(self, verb: str, *arguments: Any) -> Any:
        self._pipe.send((verb, *arguments))
        return self._pipe.recv()

    def plug(self, ports: Mapping[str, Tuple[str, str]]) -> None:
        self._ask("plug", dict(ports))

    def begin(self) -> None:
        """Count from now on."""
        self._ask("begin")

    def end(self, kept: Iterable[Place]) -> Report:
        """Stop to count, when the last pings of ``kept`` are answered, or never will be."""
        found: Report = self._ask("end", set(kept))
        return found

    def watch(self, places: Mapping[Place, str]) -> List[str]:
        """Ping these from now on, each behind the port of its host; what does not answer in time, or does and should not."""
        found: List[str] = self._ask("watch", dict(places))
        return found

    def close(self) -> None:
        self._pipe.send(("close",))
        self._process.join()


def _watch(pipe: Connection, ports: Dict[str, Tuple[str, str]]) -> None:
    """The process, until the test closes it or is gone."""
    wire = _Wire(ports)
    try:
        while True:
            wire.wait(pipe)
            if pipe.poll():
                verb, *arguments = pipe.recv()
                if verb == "close":
                    return
                pipe.send(getattr(wire, verb)(*arguments))
    except EOFError:
        return


class _Wire:
    def __init__(self, ports: Dict[str, Tuple[str, str]]) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(_SOL_PACKET, _AUXDATA, 1)
        self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 26)
        self.socket.setblocking(False)
        self.ports: Dict[str, Tuple[str, str]] = {}
        self.places: Set[Place] = set()
        self.asked: Deque[Tuple[float, Place]] = deque()  # when each is due
        self.pinged: Deque[Tuple[float, Place]] = deque()
        self.holders: Dict[Place, Holder] = {}
        self.former: Dict[Place, Set[Holder]] = {}
        self.duplicates: List[str] = []
        self.open: Set[Tuple[Place, int]] = set()  # pings without an answer
        self.sent: Dict[Place, int] = {}
        self.lost: Dict[Place, int] = {}
        self.number = 0
        self.counts = False
        self.answered: Set[Place] = set()
        self.next_tick = 0.0
        self.plug(ports)

    # -- what the test asks of it -------------------------------------------------------------------

    def plug(self, ports: Dict[str, Tuple[str, str]]) -> None:
        self.ports = ports

    def begin(self) -> None:
        self.former, self.duplicates, self.open, self.sent, self.lost = {}, [], set(), {}, {}
        self.counts = True

    def end(self, kept: Set[Place]) -> Report:
        self.counts = False
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(place in kept for place, _number in self.open):
            self.wait()
        for place, _number in self.open:
            self.lost[place] = self.lost.get(place, 0) + 1
        return Report(self.sent, self.lost, self.duplicates)

    def watch(self, hosts: Dict[Place, str]) -> List[str]:
        places = set(hosts)
        gone = self.places - places
        self.places = places
        self.asked, self.pinged = (deque((0.0, place) for place in sorted(places)) for _ in range(2))
        self.holders = {place: holder for place, holder in self.holders.items() if place in places}
        self.answered, self.open = set(), set()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not places <= self.answered:
            self.wait()
        faults = [f"{place} does not answer" for place in sorted(places - self.answered)]
        faults += [
            f"{place} is behind {self.holders[place][0]}"
            for place in sorted(places & self.answered)
            if self.holders[place][0] != hosts[place]
        ]
        for place in gone:  # what was heard of it until now was sent before it went
            self.holders.pop(place, None)
            self.ask(place)
        until = time.monotonic() + (ASK if gone else 0)
        while time.monotonic() < until:
            self.wait()
        return faults + [f"{place} still answers" for place in sorted(gone & self.holders.keys())]

    # -- what it sends -----------------------------------------------------------------------------

    def wait(self, pipe: Optional[Connection] = None) -> None:
        """Until something is heard, the next tick is due, or the test wants something."""
        now = time.monotonic()
        if now >= self.next_tick:
            self.next_tick = now + TICK
            self.tick(now)
        wanted: List[Any] = [self.socket, pipe] if pipe is not None else [self.socket]
        ready = select.select(wanted, [], [], max(0.0, self.next_tick - time.monotonic()))[0]
        if self.socket in ready:
            self.read()

    def tick(self, now: float) -> None:
        """Those whose turn it is, the one who has waited longest first, and no more than make up for what is due."""
        for what, each, queue in ((self.ask, ASK, self.asked), (self.ping, PING, self.pinged)):
            for _ in range(min(len(queue), 1 + int(len(queue) * TICK / each))):
                due, place = queue[0]
                if due > now:
                    break
                queue.rotate(-1)
                queue[-1] = (now + each, place)
                what(place)

    def send(self, place: Place, target: bytes, kind: int, body: bytes) -> None:
        trunk, vlan, _address = place
        self.socket.sendto(frames.tagged(vlan, frames.ethernet(target, MAC, kind, body)), (trunk, 0))

    def ask(self, place: Place) -> None:
        """Who has it? Everybody is asked."""
        address = ipaddress.ip_address(place[2])
        if address.version == 4:
            self.send(place, BROADCAST, frames.ETH_ARP, _arp(1, MAC, gateway(place[2]), bytes(6), place[2]))
        else:
            group = ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])
            body = bytes(4) + address.packed + b"\x01\x01" + MAC
            packet = frames.ipv6(
                gateway(place[2]), str(group), frames.ICMPV6, _icmpv6(gateway(place[2]), str(group), _NS, body)
            )
            self.send(place, b"\x33\x33" + group.packed[12:], frames.ETH_IPV6, packet)

    def ping(self, place: Place) -> None:
        if place not in self.holders:
            return
        _host, mac = self.holders[place]
        self.number = self.number % 0xFFFF + 1
        address, source = place[2], gateway(place[2])
        body = struct.pack("!HH", 1, self.number)
        if ":" in address:
            packet = frames.ipv6(source, address, frames.ICMPV6, _icmpv6(source, address, _REQUEST6, body))
            self.send(place, mac, frames.ETH_IPV6, packet)
        else:
            data = bytes((8, 0, 0, 0)) + body
            packet = frames.ipv4(source, address, frames.ICMP, data[:2] + frames.checksum(data) + data[4:])
            self.send(place, mac, frames.ETH_IPV4, packet)
        if self.counts:
            self.sent[place] = self.sent.get(place, 0) + 1
            self.open.add((place, self.number))

    # -- what it hears -----------------------------------------------------------------------------

    def read(self) -> None:
        for _ in range(256):
            try:
                frame, more, _flags, where = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                return
            port = self.ports.get(where[0])
            vlan = _tag(more)
            if port is not None and vlan is not None:
                self.hear(port, vlan, frame)

    def hear(self, port: Tuple[str, str], vlan: int, frame: bytes) -> None:
        """A frame that a host sent."""
        trunk, host = port
        source, (kind,) = frame[6:12], struct.unpack_from("!H", frame, 12)
        if kind == frames.ETH_ARP:
            (does,) = struct.unpack_from("!H", frame, 20)
            sender, target = (socket.inet_ntoa(frame[at : at + 4]) for at in (28, 38))
            if sender != "0.0.0.0":
                self.claim((trunk, vlan, sender), (host, frame[22:28]))
            if does == 1 and target == gateway(target):
                self.send((trunk, vlan, target), source, frames.ETH_ARP, _arp(2, MAC, target, source, sender))
        elif kind == frames.ETH_IPV4 and frame[23] == frames.ICMP and frame[34] == 0:
            place = (trunk, vlan, socket.inet_ntoa(frame[26:30]))
            self.claim(place, (host, source))
            self.answer(place, *struct.unpack_from("!H", frame, 40))
        elif kind == frames.ETH_IPV6 and frame[20] == frames.ICMPV6:
            self.hear6((trunk, vlan), (host, source), frame)

    def hear6(self, where: Tuple[str, int], holder: Holder, frame: bytes) -> None:
        sender = str(ipaddress.IPv6Address(frame[22:38]))
        kind = frame[54]
        if kind == _NS:
            target = str(ipaddress.IPv6Address(frame[62:78]))
            if sender != "::":
                self.claim((*where, sender), holder)
                if target == gateway(target):
                    body = b"\xe0\0\0\0" + frame[62:78] + b"\x02\x01" + MAC
                    packet = frames.ipv6(target, sender, frames.ICMPV6, _icmpv6(target, sender, _NA, body))
                    self.send((*where, target), holder[1], frames.ETH_IPV6, packet)
        elif kind == _NA:
            self.claim((*where, str(ipaddress.IPv6Address(frame[62:78]))), holder)
        elif kind == _REPLY6:
            self.claim((*where, sender), holder)
            self.answer((*where, sender), *struct.unpack_from("!H", frame, 60))

    def claim(self, place: Place, holder: Holder) -> None:
        """Somebody has an address. One who had it before somebody else took it, and has it again, never let go of it.

        An address that goes to another host is asked for at once: a short time with two of them is not to be missed.
        """
        before = self.holders.get(place)
        if before == holder:
            return
        former = self.former.setdefault(place, set())
        if holder in former and before is not None and before[0] != holder[0]:
            self.duplicates.append(f"{place}: {before[0]} {before[1].hex(':')}, {holder[0]} {holder[1].hex(':')}")
        self.holders[place] = holder
        if before is not None:
            former.add(before)
            if before[0] != holder[0]:
                self.ask(place)

    def answer(self, place: Place, sequence: int) -> None:
        self.answered.add(place)
        self.open.discard((place, sequence))


def gateway(address: str) -> str:
    """That of the subnet of an address: 10.0.5.1 for 10.0.5.7, 2001:db8:5::1 for 2001:db8:5::7."""
    if ":" not in address:
        return address.rpartition(".")[0] + ".1"
    return str(ipaddress.IPv6Address(ipaddress.IPv6Address(address).packed[:8] + bytes(7) + b"\x01"))


def _tag(more: List[Any]) -> Optional[int]:
    """The VLAN of a frame, which the kernel took from it."""
    for _level, _kind, data in more:
        status, _length, _kept, _mac, _network, tag, _protocol = struct.unpack("=IIIHHHH", data)
        return tag & 0xFFF if status & _VLAN_VALID else None
    return None


def _arp(does: int, mac: bytes, sender: str, target_mac: bytes, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, frames.ETH_IPV4, 6, 4, does)
    return head + mac + socket.inet_aton(sender) + target_mac + socket.inet_aton(target)


def _icmpv6(source: str, target: str, kind: int, body: bytes) -> bytes:
    return frames.icmpv6(source, target, kind, body)
