# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames byte by byte, as no kernel would send them."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from typing import List

ETH_IPV4, ETH_ARP, ETH_VLAN, ETH_IPV6, ETH_QINQ = 0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8
ETH_SLOW, ETH_EAPOL, ETH_LLDP = 0x8809, 0x888E, 0x88CC
ICMP, IGMP, TCP, UDP, ROUTING, FRAGMENT, ICMPV6, DESTINATION_OPTIONS, HOP_BY_HOP = 1, 2, 6, 17, 43, 44, 58, 60, 0


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> bytes:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


def ethernet(target: bytes, source: bytes, kind: int, body: bytes) -> bytes:
    return target + source + struct.pack("!H", kind) + body


def tagged(vlan: int, frame: bytes, kind: int = ETH_VLAN) -> bytes:
    """The frame with one tag more, in front of those that it has."""
    return frame[:12] + struct.pack("!HH", kind, vlan) + frame[12:]


def ipv4(
    source: str,
    target: str,
    protocol: int,
    data: bytes,
    flags_and_offset: int = 0,
    number: int = 1,
    options: bytes = b"",
) -> bytes:
    """``options`` are a multiple of four bytes."""
    size = 20 + len(options)
    head = struct.pack("!BBHHHBBH", 0x40 + size // 4, 0, size + len(data), number, flags_and_offset, 64, protocol, 0)
    head += ip_address(source).packed + ip_address(target).packed + options
    return head[:10] + checksum(head) + head[12:] + data


def ipv6(source: str, target: str, protocol: int, data: bytes, hops: int = 255) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(data), protocol, hops)
    return head + ip_address(source).packed + ip_address(target).packed + data


def _summed(source: str, target: str, protocol: int, data: bytes, at: int) -> bytes:
    pseudo = ip_address(source).packed + ip_address(target).packed + struct.pack("!II", len(data), protocol)
    return data[:at] + checksum(pseudo + data) + data[at + 2 :]


def udp(source: str, target: str, port: int, payload: bytes) -> bytes:
    data = struct.pack("!HHHH", 4000, port, 8 + len(payload), 0) + payload
    return _summed(source, target, UDP, data, 6)


def icmpv6(source: str, target: str, kind: int, body: bytes) -> bytes:
    return _summed(source, target, ICMPV6, bytes((kind, 0, 0, 0)) + body, 2)


def icmp(kind: int, code: int, body: bytes) -> bytes:
    data = bytes((kind, code, 0, 0)) + body
    return data[:2] + checksum(data) + data[4:]


def syn(source: str, target: str, port: int, payload: bytes) -> bytes:
    """The first segment of a TCP connection, which carries data."""
    data = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 5 << 4, 2, 1024, 0, 0) + payload
    return _summed(source, target, TCP, data, 16)


def fragments6(source: str, target: str, data: bytes, number: int, before: bytes = b"", pieces: int = 2) -> List[bytes]:
    """A datagram of IPv6 in one or two pieces, ``before`` in front of each is a hop-by-hop header."""
    cut = [(data[:8], 0, 1), (data[8:], 8, 0)] if pieces == 2 else [(data, 0, 0)]
    first = HOP_BY_HOP if before else FRAGMENT
    return [
        ipv6(source, target, first, before + struct.pack("!BBHI", UDP, 0, offset | more, number) + part)
        for part, offset, more in cut
    ]


class Wire:
    """Sends frames out of a link of the calling thread's namespace."""

    def __init__(self, link: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind((link, 0))
        self.mac = self.socket.getsockname()[4]

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def close(self) -> None:
        self.socket.close()
