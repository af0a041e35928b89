# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of nf_tables on an endpoint's link that lets out only what comes from its own MAC and addresses.

It stands at the link's egress, in the workload's namespace: the only place that a frame to a neighbour on the same
parent passes too. What may leave is listed, and all else is dropped. Every match reads the frame by fixed offsets:
a program that sends raw frames chooses the protocol and the network header that the kernel believes in.
"""

from __future__ import annotations

import hashlib
import socket
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..core.errors import NetlinkError
from ..core.state import Namespace
from ..netlink import nftables as nft
from ..netlink.nftables import Chain, Rule

#: Of the table of a link, before its name.
PREFIX = "netops_underlay_"
#: What observation says of a table that is not as it must be: no address is called so.
BROKEN = "?"
_OWN = "own address "
_DROP, _ACCEPT = nft.verdict(nft.DROP), nft.verdict(nft.ACCEPT)
_NETDEV = nft.NFPROTO_NETDEV
_MAC, _PACKET = 6, 14  # offsets in a frame
_PROTOCOL4, _SOURCE4, _PORT4 = _PACKET + 9, _PACKET + 12, _PACKET + 20
_LENGTH6, _NEXT6, _SOURCE6, _NEXT_HEADER = _PACKET + 4, _PACKET + 6, _PACKET + 8, _PACKET + 40
_DHCP_SERVER, _DHCP_CLIENT, _DHCPV6_SERVER = b"\0\x43", b"\0\x44", b"\x02\x23"
_TCP, _UDP, _IGMP, _ICMPV6, _FRAGMENT = b"\x06", b"\x11", b"\x02", b"\x3a", b"\x2c"
#: Headers behind which anything may hide: hop-by-hop, routing, AH, destination options, HIP, shim6.
_HIDING = (0, 43, 51, 60, 139, 140)
_SOLICIT, _ADVERT, _ROUTER_SOLICIT = b"\x87", b"\x88", b"\x85"
_CHAINS = ("arp", "ipv4", "ipv6", "icmpv6", "solicit", "advert", "router-solicit", "target", "own6", "source6")


def _is(offset: int, value: bytes) -> bytes:
    return nft.frame(offset, len(value)) + nft.compare(nft.EQUAL, value)


def _is_not(offset: int, value: bytes) -> bytes:
    return nft.frame(offset, len(value)) + nft.compare(nft.NOT_EQUAL, value)


def _first_piece(offset: int, mask: bytes) -> bytes:
    """A match for what is no later fragment."""
    return nft.frame(offset, 2) + nft.masked(mask) + nft.compare(nft.EQUAL, b"\0\0")


def link_local(mac: bytes) -> bytes:
    """The link-local address that the kernel gives an Ethernet link by default (RFC 4291, appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


def rules(mac: str, addresses: Sequence[str]) -> List[Rule]:
    """What a link with a MAC and addresses may send."""
    own = bytes.fromhex(mac.replace(":", ""))
    found = list(_rules(own, sorted(addresses)))
    digest = hashlib.sha256(b"".join(row[2] for row in found)).hexdigest()[:8]
    return [Rule(chain, f"netops.underlay {digest}: {text}", expressions) for chain, text, expressions in found]


def _rules(mac: bytes, addresses: Sequence[str]) -> Iterator[Tuple[str, str, bytes]]:
    for chain, ethertype in (("ipv4", b"\x08\0"), ("ipv6", b"\x86\xdd"), ("arp", b"\x08\x06")):
        yield "egress", f"{chain} of its own MAC", _is(_MAC, mac + ethertype) + nft.jump(chain)
    yield "egress", "nothing else", _DROP
    yield from _rules_of_ipv4(mac, [(ip, socket.inet_pton(socket.AF_INET, ip)) for ip in addresses if ":" not in ip])
    yield from _rules_of_ipv6()
    yield from _rules_of_icmpv6(mac)
    yield from _sources6(mac, [(ip, socket.inet_pton(socket.AF_INET6, ip)) for ip in addresses if ":" in ip])


def _rules_of_ipv4(mac: bytes, own: Sequence[Tuple[str, bytes]]) -> Iterator[Tuple[str, str, bytes]]:
    """ARP and IPv4, from the ``own`` addresses alone."""
    yield "arp", "of IPv4 over Ethernet", _is_not(_PACKET, b"\0\x01\x08\0\x06\x04") + _DROP
    yield "arp", "with its own MAC", _is_not(_PACKET + 8, mac) + _DROP
    for ip, packed in (*own, ("0.0.0.0", bytes(4))):
        yield "arp", f"from {ip}", _is(_PACKET + 14, packed) + _ACCEPT

    udp4 = _is(_PACKET, b"\x45") + _is(_PROTOCOL4, _UDP)
    head = udp4 + _first_piece(_PACKET + 6, b"\x1f\xff")
    yield "ipv4", "no DHCP server", head + _is(_PORT4, _DHCP_SERVER) + _DROP
    yield (
        "ipv4",
        "no options, behind which a port may hide",
        _is_not(_PROTOCOL4, _IGMP) + _is_not(_PACKET, b"\x45") + _DROP,
    )
    for ip, packed in own:
        yield "ipv4", f"{_OWN}{ip}", _is(_SOURCE4, packed) + _ACCEPT
    client = udp4 + _is(_PORT4, _DHCP_CLIENT + _DHCP_SERVER)
    for what, match in (("IGMP", _is(_PROTOCOL4, _IGMP)), ("DHCP client", client)):
        yield "ipv4", f"{what} without an address", match + _is(_SOURCE4, bytes(4)) + _ACCEPT


def _rules_of_ipv6() -> Iterator[Tuple[str, str, bytes]]:
    """By which rules the packets of each protocol go: none may hide what it is."""
    yield "ipv6", "TCP", _is(_NEXT6, _TCP) + nft.jump("own6")
    yield "ipv6", "ICMPv6", _is(_NEXT6, _ICMPV6) + nft.jump("icmpv6")
    yield "ipv6", "no DHCPv6 server", _is(_NEXT6, _UDP) + _is(_NEXT_HEADER, _DHCPV6_SERVER) + _DROP
    piece = _is(_NEXT6, _FRAGMENT) + _is(_NEXT_HEADER, _UDP) + _first_piece(_NEXT_HEADER + 2, b"\xff\xf8")
    yield "ipv6", "no DHCPv6 server in fragments", piece + _is(_NEXT_HEADER + 8, _DHCPV6_SERVER) + _DROP
    for report_type in (131, 132, 143):
        report = _is(_NEXT6, b"\0") + _is(_NEXT_HEADER, b"\x3a\0") + _is(_NEXT_HEADER + 8, bytes((report_type,)))
        yield "ipv6", "listener report", report + nft.jump("source6")
    for header in _HIDING:
        yield "ipv6", f"no header {header}", _is(_NEXT6, bytes((header,))) + _DROP
    yield "ipv6", "of any other protocol", nft.jump("own6")


def _rules_of_icmpv6(mac: bytes) -> Iterator[Tuple[str, str, bytes]]:
    """Nothing that a router says, and neighbour discovery with the link's own MAC."""
    yield "icmpv6", "no router advertisement", _is(_NEXT_HEADER, b"\x86") + _DROP
    yield "icmpv6", "no redirect", _is(_NEXT_HEADER, b"\x89") + _DROP
    for message, chain in ((_SOLICIT, "solicit"), (_ADVERT, "advert"), (_ROUTER_SOLICIT, "router-solicit")):
        yield "icmpv6", chain, _is(_NEXT_HEADER, message) + nft.jump(chain)
    yield "icmpv6", "of any other type", nft.jump("own6")
    nonce = _is(_LENGTH6, b"\0\x20") + _is(_NEXT_HEADER + 24, b"\x0e\x01")  # RFC 7527
    for chain, option, base, then, more in (
        ("solicit", b"\x01\x01", 24, "source6", [("with a nonce", nonce)]), ("advert", b"\x02\x01", 24, "target", []),
        ("router-solicit", b"\x01\x01", 8, "source6", []),
    ):  # fmt: skip
        bare = _is(_LENGTH6, bytes((0, base)))
        with_mac = _is(_LENGTH6, bytes((0, base + 8))) + _is(_NEXT_HEADER + base, option + mac)
        for text, match in (("without an option", bare), ("with its own MAC", with_mac), *more):
            yield chain, text, match + nft.jump(then)
        yield chain, "nothing else", _DROP


def _sources6(mac: bytes, own: Sequence[Tuple[str, bytes]]) -> Iterator[Tuple[str, str, bytes]]:
    """The ``own`` addresses, and the link-local one that follows from the MAC."""
    mine = [*((f"{_OWN}{ip}", packed) for ip, packed in own), ("link-local", link_local(mac))]
    for text, packed in mine:
        yield "target", text.replace(_OWN, "of "), _is(_NEXT_HEADER + 8, packed) + nft.jump("own6")
    yield "target", "nothing else", _DROP
    for text, packed in mine:
        yield "own6", text, _is(_SOURCE6, packed) + _ACCEPT
    yield "own6", "nothing else", _DROP
    yield "source6", "without an address", _is(_SOURCE6, bytes(16)) + _ACCEPT
    yield "source6", "with one", nft.jump("own6")


def _chains(link: str) -> List[Chain]:
    # Before the rules of others, as in ``barrier``.
    return [*(Chain(name) for name in _CHAINS), Chain("egress", nft.EGRESS, -450, link)]


def install(link: str, mac: str, addresses: Sequence[str]) -> None:
    """Give a link of the calling thread's namespace its table, whatever is there. Raises NetlinkError, and OSError."""
    nft.replace_table(PREFIX + link, _chains(link), rules(mac, addresses), family=_NETDEV)


def remove(link: str) -> None:
    """Take a link's table away, if it is there. Raises NetlinkError, and OSError."""
    nft.remove_table(PREFIX + link, _NETDEV)


def why_not() -> str:
    """Why this kernel cannot have such a table; empty where it can. Nothing is changed by the question."""
    some = rules("02:00:00:00:00:01", ("192.0.2.1", "2001:db8::1"))
    try:
        nft.replace_table(PREFIX + "lo", _chains("lo"), some, check=True, family=_NETDEV)
    except NetlinkError as error:
        return f"it lacks nf_tables with the netdev family and the egress hook: {error}"
    except OSError as error:
        return f"it has no nf_tables: {error.strerror}"
    return ""


def read() -> Dict[str, List[Rule]]:
    """The tables in the calling thread's namespace that are active, by link; none where there is no nf_tables."""
    try:
        found = nft.all_rules(_NETDEV)
        return {
            table[len(PREFIX) :]: there
            for table, there in found.items()
            if table.startswith(PREFIX) and nft.is_active(table, _NETDEV)
        }
    except (NetlinkError, OSError):
        return {}


def observe(namespace: Namespace, tables: Dict[str, List[Rule]]) -> None:
    """Say of the links of a namespace from which addresses they may send."""
    for name, there in tables.items():
        link = namespace.names.get(name)
        if link is not None:
            namespace.senders[link.index] = _addresses(link.mac, there)


def _addresses(mac: str, there: Iterable[Rule]) -> List[str]:
    there = list(there)
    own = sorted(rule.comment.partition(f": {_OWN}")[2] for rule in there if f": {_OWN}" in rule.comment)
    try:
        wanted: Optional[List[Rule]] = [rule._replace(expressions=b"") for rule in rules(mac, own)]
    except (OSError, ValueError):
        wanted = None
    return own if wanted is not None and sorted(wanted) == sorted(there) else [BROKEN]
