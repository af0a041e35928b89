# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server sends, read and judged: anybody on the wire can send it, so none of it is believed.

RFC 2131 and 2132; long options (RFC 3396), classless routes (RFC 3442), search lists (RFC 3397).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..core.formats import DOMAIN
from ..core.lease_specs import Lease, LeaseRoute

OFFER, ACK, NAK = 2, 5, 6
_MASK, _ROUTERS, _DNS, _DOMAIN, _MTU, _TIME, _OVERLOAD, _TYPE, _SERVER = 1, 3, 6, 15, 26, 51, 52, 53, 54
_T1, _T2, _SEARCH, _ROUTES = 58, 59, 119, 121
#: What a server is asked for.
WANTED = (_MASK, _ROUTES, _ROUTERS, _DNS, _DOMAIN, _MTU, _SEARCH, _TIME, _SERVER, _T1, _T2)
FOREVER = 2**32 - 1
#: A lease shorter than this many seconds is refused: it would be renewed without end.
SHORTEST = 4
#: Of a list, what is beyond so many is not taken.
MOST_ADDRESSES, _MOST_ROUTES, _MOST_DOMAINS = 8, 64, 32
#: The least MTU that IPv4 hosts have to take (RFC 791), and the largest.
_MTUS = range(576, 65536)
_COOKIE = bytes((99, 130, 83, 99))
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")


class Nonsense(ValueError):
    """What a server offers cannot be used: why."""


class Reply(NamedTuple):
    """A message of a server."""

    type: int
    xid: int
    address: str  # yiaddr
    mac: str  # to whom it is: chaddr
    sender: str  # the MAC of the server, or of the relay on the way to it
    options: Dict[int, bytes]  # each joined, if it came in parts

    @property
    def server(self) -> str:
        """The address that the server is known by; empty where it does not say."""
        found = self.options.get(_SERVER, b"")
        return str(ipaddress.IPv4Address(found)) if len(found) == 4 else ""


def parse(frame: bytes) -> Optional[Reply]:
    """A frame of an Ethernet as a message to a client; None for any other.

    Checksums are not looked at: those of a neighbour on the same host are not computed.
    """
    if len(frame) < 34 or frame[12:14] != b"\x08\x00" or frame[14] >> 4 != 4 or frame[23] != 17:
        return None
    udp = 14 + 4 * (frame[14] & 15)
    end = 14 + int.from_bytes(frame[16:18], "big")
    if udp < 34 or len(frame) < end or end < udp + 8 or int.from_bytes(frame[20:22], "big") & 0x3FFF:
        return None
    if frame[udp + 2 : udp + 4] != b"\0\x44":
        return None
    body = frame[udp + 8 : end]
    if len(body) < _FIXED.size:
        return None
    op, hard, length, _hops, xid, _secs, _flags, _ci, yours, _si, _gi, mac, sname, file, cookie = _FIXED.unpack_from(
        body
    )
    if (op, hard, length, cookie) != (2, 1, 6, _COOKIE):
        return None
    options = _options([body[_FIXED.size :]])
    overload = options.get(_OVERLOAD, b"\0")[0:1]
    more = {b"\1": [file], b"\2": [sname], b"\3": [file, sname]}.get(overload, [])
    if more:
        options = _options([body[_FIXED.size :], *more])
    kind = options.get(_TYPE, b"")
    if len(kind) != 1:
        return None
    return Reply(kind[0], xid, str(ipaddress.IPv4Address(yours)), mac[:6].hex(":"), frame[6:12].hex(":"), options)


def _options(parts: Sequence[bytes]) -> Dict[int, bytes]:
    """The options; what is cut off is left out."""
    found: Dict[int, bytes] = {}
    for part in parts:
        at = 0
        while at < len(part) and part[at] != 255:
            if part[at] == 0:
                at += 1
                continue
            length = part[at + 1] if at + 1 < len(part) else 0
            value = part[at + 2 : at + 2 + length]
            if at + 2 + length > len(part):
                break
            found[part[at]] = found.get(part[at], b"") + value
            at += 2 + length
    return found


def lease(reply: Reply, endpoint: str, mac: str, client_id: bytes, sent: float) -> Lease:
    """What an offer or an acknowledgement gives to an endpoint that asked at ``sent``, in seconds since the epoch. Raises Nonsense."""
    address = ipaddress.IPv4Interface(f"{reply.address}/{_length(reply.options.get(_MASK, b''))}")
    _check(address)
    if not reply.server or not _is_host(ipaddress.IPv4Address(reply.server)):
        raise Nonsense("it does not say which server it is from")
    seconds = _number(reply.options.get(_TIME, b""), 4)
    if seconds is None or seconds < SHORTEST:
        raise Nonsense("the lease has no time" if seconds is None else f"the lease lasts {seconds} s")
    t1, t2 = _number(reply.options.get(_T1, b""), 4), _number(reply.options.get(_T2, b""), 4)
    if t1 is None or t2 is None or not 0 < t1 < t2 < seconds:
        t1, t2 = seconds // 2, seconds * 7 // 8
    mtu = _number(reply.options.get(_MTU, b""), 2)
    obtained = int(sent)
    return {
        "endpoint": endpoint,
        "mac": mac,
        "client_id": client_id.hex(),
        "server": reply.server,
        "server_duid": "",
        "address": str(address),
        "routers": [ip for ip in _addresses(reply.options.get(_ROUTERS, b"")) if ip != str(address.ip)],
        "routes": _routes(reply.options.get(_ROUTES, b""), address),
        "dns": _addresses(reply.options.get(_DNS, b"")),
        "domain": next(iter(domains([_text(reply.options.get(_DOMAIN, b""))])), None),
        "search": domains(names(reply.options.get(_SEARCH, b""))),
        "mtu": mtu if mtu in _MTUS else None,
        "obtained": obtained,
        "renew": obtained + t1,
        "rebind": obtained + t2,
        "preferred": obtained + seconds,
        "expires": obtained + seconds,
    }


def is_forever(lease: Lease) -> bool:
    """Whether a lease never ends."""
    return lease["expires"] - lease["obtained"] >= FOREVER


def _length(mask: bytes) -> int:
    number = int.from_bytes(mask, "big")
    length = bin(number).count("1")
    if len(mask) != 4 or not length or number != (2**32 - 1) ^ (2 ** (32 - length) - 1):
        raise Nonsense("it has no subnet mask that can be used")
    return length


def _is_host(ip: ipaddress.IPv4Address) -> bool:
    """Whether one host may have an address: no multicast, loopback, or reserved one."""
    return not (ip.is_multicast or ip.is_loopback or ip.is_reserved or int(ip) >> 24 == 0)


def _check(address: ipaddress.IPv4Interface) -> None:
    network = address.network
    whole = network.prefixlen >= 31
    if (
        not _is_host(address.ip)
        or not _is_host(network.network_address)
        or network.prefixlen < 8
        or (not whole and address.ip in (network.network_address, network.broadcast_address))
    ):
        raise Nonsense(f"{address} is no address that a host may have")


def _number(value: bytes, size: int) -> Optional[int]:
    return int.from_bytes(value, "big") if len(value) == size else None


def _addresses(value: bytes) -> List[str]:
    found = (ipaddress.IPv4Address(value[at : at + 4]) for at in range(0, len(value) - 3, 4))
    return list(dict.fromkeys(str(ip) for ip in found if _is_host(ip)))[:MOST_ADDRESSES]


def _routes(value: bytes, address: ipaddress.IPv4Interface) -> List[LeaseRoute]:
    """Option 121. What is not whole ends it; a route that no host may have is left out."""
    found: Dict[str, LeaseRoute] = {}
    at = 0
    while at < len(value) and len(found) < _MOST_ROUTES:
        length = value[at]
        octets = (length + 7) // 8
        if length > 32 or at + 5 + octets > len(value):
            break
        packed = value[at + 1 : at + 1 + octets].ljust(4, b"\0")
        prefix = ipaddress.IPv4Network((packed, length), strict=False)
        via = ipaddress.IPv4Address(value[at + 1 + octets : at + 5 + octets])
        at += 5 + octets
        direct = int(via) == 0  # on the link itself
        first = prefix.network_address
        if (
            (length == 0 or _is_host(first))
            and (direct or _is_host(via))
            and via != address.ip
            and (length or not direct)
        ):
            found.setdefault(str(prefix), {"prefix": str(prefix), "via": None if direct else str(via)})
    return list(found.values())


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")


def domains(texts: Sequence[str]) -> List[str]:
    """Those that are domains, as they are written to a resolv.conf."""
    good = (text for text in texts if text != "." and re.fullmatch(DOMAIN, text))
    return list(dict.fromkeys(good))[:_MOST_DOMAINS]


def names(value: bytes) -> List[str]:
    """Names as in DNS messages, in which a pointer may stand for the end of one (RFC 1035, 4.1.4). Stops at the first that is none."""
    found: List[str] = []
    at = 0
    while at < len(value) and len(found) < _MOST_DOMAINS:
        name, at = _name(value, at)
        if at < 0:
            break
        found.append(name)
    return found


def _name(value: bytes, at: int) -> Tuple[str, int]:
    """The name at an offset, and what follows it; -1 where there is none. A pointer leads back, so that it ends."""
    labels: List[str] = []
    after, limit = -1, len(value)
    while at < limit:
        length = value[at]
        if length == 0:
            return ".".join(labels), at + 1 if after < 0 else after
        if length >= 0xC0 and at + 1 < len(value):
            after = at + 2 if after < 0 else after
            limit, at = at, int.from_bytes(value[at : at + 2], "big") & 0x3FFF
            if at >= limit:
                break
        elif length < 64 and at + 1 + length <= limit:
            labels.append(value[at + 1 : at + 1 + length].decode("ascii", "replace"))
            at += 1 + length
        else:
            break
    return "", -1
