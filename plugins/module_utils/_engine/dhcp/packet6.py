# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of DHCPv6 (RFC 8415): those to a server written, and its answers read and judged. Anybody on the wire can send them."""

from __future__ import annotations

import ipaddress
import struct
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ..core.lease_specs import Lease
from . import packet
from .packet import Nonsense

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE = range(1, 10)
_CLIENT, _SERVER, _IA_NA, _ADDRESS, _WANTED, _PREFERENCE, _ELAPSED, _STATUS, _DNS, _DOMAINS = (
    1,
    2,
    3,
    5,
    6,
    7,
    8,
    13,
    23,
    24,
)
_FQDN = 39
#: Statuses (RFC 8415, 21.13).
SUCCESS, NO_BINDING, NOT_ON_LINK = 0, 3, 4
_STATUSES = {1: "UnspecFail", 2: "NoAddrsAvail", 3: "NoBinding", 4: "NotOnLink", 5: "UseMulticast"}
#: A server with the most preference is taken at once (RFC 8415, 18.2.9).
MOST_PREFERRED = 255
#: RFC 8415, 7.7
INFINITE = 2**32 - 1
#: Seconds between renewals, whatever a server says.
_OFTENEST = 2
Option = Tuple[int, bytes]


class Refused(Exception):
    """A server gives no address: its status, and its words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{_STATUSES.get(status, f'status {status}')}{f' ({text})' if text else ''}")
        self.status = status


class Reply(NamedTuple):
    """A message of a server to this client."""

    type: int
    xid: bytes
    client: bytes  # DUID
    server: bytes  # DUID
    sender: str  # its link-local address, or that of the relay on the way to it
    options: List[Option]

    @property
    def preference(self) -> int:
        """How much the server wants to be taken (RFC 8415, 21.8)."""
        found = _first(self.options, _PREFERENCE)
        return found[0] if len(found) == 1 else 0

    def check(self) -> None:
        """Raises Refused where the message as a whole has another status than success."""
        _check_status(self.options)


def message(kind: int, xid: bytes, client_id: bytes, elapsed: float, options: Sequence[Option]) -> bytes:
    """A message to a server, from who names itself by IAID and DUID; ``elapsed`` in seconds since the first of its exchange."""
    ticks = struct.pack("!H", min(0xFFFF, int(elapsed * 100)))
    found = [(_CLIENT, client_id[4:]), (_ELAPSED, ticks), *options]
    return bytes((kind,)) + xid + _packed(found)


def to(server: str) -> Option:
    """Whom a message is for, by its DUID in hexadecimal."""
    return _SERVER, bytes.fromhex(server)


def asks(hostname: str) -> List[Option]:
    """What a server is asked for beside an address, and the host name, which it may enter in its DNS (RFC 4704)."""
    labels = [label.encode() for label in hostname.rstrip(".").split(".")]
    name = b"".join(bytes((len(label),)) + label for label in labels)
    whole = b"\0" if len(labels) > 1 else b""  # else a part of one, which the server completes
    return [(_WANTED, struct.pack("!HH", _DNS, _DOMAINS)), (_FQDN, b"\x01" + name + whole)]


def wants(client_id: bytes, address: str = "") -> Option:
    """The identity association of the client, with an address, if it has one; lifetimes are the server's to say."""
    there = [(_ADDRESS, ipaddress.IPv6Interface(address).ip.packed + bytes(8))] if address else []
    return _IA_NA, client_id[:4] + bytes(8) + _packed(there)


def parse(data: bytes, sender: str) -> Optional[Reply]:
    """An advertisement or a reply; None for anything else."""
    if len(data) < 4 or data[0] not in (ADVERTISE, REPLY):
        return None
    options = _options(data[4:])
    client, server = _first(options, _CLIENT), _first(options, _SERVER)
    if not (2 < len(client) <= 130 and 2 < len(server) <= 130):
        return None
    return Reply(data[0], data[1:4], client, server, sender.partition("%")[0], options)


def lease(reply: Reply, endpoint: str, mac: str, client_id: bytes, sent: float) -> Lease:
    """What a server gives to an endpoint that asked at ``sent``, in seconds since the epoch. Raises Refused, and Nonsense."""
    reply.check()
    body = next(
        (it for code, it in reply.options if code == _IA_NA and len(it) >= 12 and it[:4] == client_id[:4]), None
    )
    if body is None:
        raise Nonsense("it has no address for this client")
    t1, t2 = struct.unpack_from("!II", body, 4)
    inner = _options(body[12:])
    _check_status(inner)
    found = next(filter(None, (_given(it) for code, it in inner if code == _ADDRESS)), None)
    if found is None:
        raise Refused(NO_BINDING, "no address that lasts")
    address, preferred, valid = found
    if valid < packet.SHORTEST:
        raise Nonsense(f"the lease lasts {valid} s")
    if t1 > t2 > 0:
        raise Nonsense(f"it is to be renewed after {t1} s and rebound after {t2} s")
    if not 0 < t1 <= t2 < valid:
        base = min(preferred or valid, valid)
        t1, t2 = base // 2, base * 4 // 5  # RFC 8415, 21.4
    t1 = max(_OFTENEST, t1)
    obtained = int(sent)
    return {
        "endpoint": endpoint,
        "mac": mac,
        "client_id": client_id.hex(),
        "server": reply.sender,
        "server_duid": reply.server.hex(),
        "address": f"{address}/128",
        "routers": [],
        "routes": [],
        "dns": _nameservers(_first(reply.options, _DNS)),
        "domain": None,
        "search": packet.domains(packet.names(_first(reply.options, _DOMAINS))),
        "mtu": None,
        "obtained": obtained,
        "renew": obtained + t1,
        "rebind": obtained + max(t1, t2),
        "preferred": obtained + preferred,
        "expires": obtained + valid,
    }


def _given(body: bytes) -> Optional[Tuple[ipaddress.IPv6Address, int, int]]:
    """An address with its lifetimes; None where it is taken back. Raises Nonsense, and Refused."""
    if len(body) < 24:
        return None
    address = ipaddress.IPv6Address(body[:16])
    preferred, valid = struct.unpack_from("!II", body, 16)
    _check_status(_options(body[24:]))
    if valid == 0:
        return None
    if not _is_host(address):
        raise Nonsense(f"{address} is no address that a host may have")
    if preferred > valid:
        raise Nonsense(f"{address} is preferred for {preferred} s and valid for {valid} s")
    return address, preferred, valid


def _is_host(ip: ipaddress.IPv6Address) -> bool:
    return not (ip.is_multicast or ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.ipv4_mapped)


def _nameservers(value: bytes) -> List[str]:
    """A link-local one needs its link beside it, which no resolv.conf of a workload has."""
    found = [ipaddress.IPv6Address(value[at : at + 16]) for at in range(0, len(value) - 15, 16)]
    return list(dict.fromkeys(str(ip) for ip in found if _is_host(ip)))[: packet.MOST_ADDRESSES]


def _check_status(options: Sequence[Option]) -> None:
    value = _first(options, _STATUS)
    if len(value) >= 2 and value[:2] != b"\0\0":
        text = "".join(it for it in value[2:202].decode("utf-8", "replace") if it.isprintable())
        raise Refused(int.from_bytes(value[:2], "big"), text)


def _first(options: Sequence[Option], wanted: int) -> bytes:
    return next((value for code, value in options if code == wanted), b"")


def _packed(options: Sequence[Option]) -> bytes:
    return b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)


def _options(data: bytes) -> List[Option]:
    """The options; what is cut off ends them."""
    found: List[Option] = []
    at = 0
    while at + 4 <= len(data):
        code, length = struct.unpack_from("!HH", data, at)
        if at + 4 + length > len(data):
            break
        found.append((code, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
