# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of nf_tables that keeps a tenant's VLAN and the host's own network stack apart.

The sysctls of a link (``core.isolation``) leave gaps that only the packet filter closes: a datagram from 0.0.0.0 passes
every source validation, IPv6 has none, a redirect is taken where ``conf.all`` says so, and a write to ``conf.all``
opens every link until the service hears of it. The table holds for every link in our group, by one rule for all of them,
so it knows nothing of single links and never has to follow them. Endpoints are not concerned: macvlan and ipvlan take
their frames before, and what an ipvlan in l3s mode lets run through the host's stack is addressed to none of its own
addresses.

It belongs to no process (``flags owner, persist``). That would keep it through ``nft flush ruleset``, but only while
the process lives, and no module could change it meanwhile.

Links with addresses of the host (``addresses``) are in a group of their own, and belong to the host's own firewall.
"""

from __future__ import annotations

import hashlib
import struct
from typing import List, Optional

from ..core.change import LINK_GROUP, PRIVATE_GROUPS
from ..core.errors import NetlinkError
from ..netlink import nftables as nft
from ..netlink.nftables import Chain, Rule

TABLE = "netops_underlay"
#: Before connection tracking, address translation and the rules of others.
_PRIORITY = -450
_CHAINS = (
    Chain("arriving"),
    Chain("leaving"),
    Chain("prerouting", nft.PREROUTING, _PRIORITY),
    Chain("forward", nft.FORWARD, _PRIORITY),
    Chain("output", nft.OUTPUT, _PRIORITY),
)
_RTN_LOCAL, _RTN_MULTICAST = 2, 5  # local, broadcast, anycast, multicast
_HOP_BY_HOP = 0
_TCP_IP = {"icmp": (nft.NFPROTO_IPV4, 1), "icmpv6": (nft.NFPROTO_IPV6, 58)}
_ICMP_REDIRECT, _ND_ADVERTISEMENT, _ND_REDIRECT = 5, 134, 137
_ND_SOLICIT, _ND_ADVERT = 135, 136
_MLD_REPORT, _ROUTER_SOLICIT, _MLD2_REPORT = 131, 133, 143


def _number(value: int) -> bytes:
    return struct.pack("=I", value)


def _of_group(key: int) -> List[bytes]:
    """Matches for the links that are ours: their group, and those in which they are while they are made."""
    private = nft.meta(key) + nft.to_network_order()
    private += nft.compare(nft.AT_LEAST, struct.pack(">I", PRIVATE_GROUPS[0]))
    private += nft.compare(nft.AT_MOST, struct.pack(">I", PRIVATE_GROUPS[-1]))
    return [nft.meta(key) + nft.compare(nft.EQUAL, _number(LINK_GROUP)), private]


def _icmp(protocol: str, first: int, last: int) -> bytes:
    """A match for the messages of the types from ``first`` to ``last``."""
    match = nft.compare(nft.EQUAL, bytes((first,)))
    if last > first:
        match = nft.compare(nft.AT_LEAST, bytes((first,))) + nft.compare(nft.AT_MOST, bytes((last,)))
    family, number = _TCP_IP[protocol]
    return (
        _of_ip(family)
        + nft.meta(nft.META_L4PROTO) + nft.compare(nft.EQUAL, bytes((number,)))
        + nft.transport(0, 1) + match
    )  # fmt: skip


def _of_ip(family: int) -> bytes:
    return nft.meta(nft.META_NFPROTO) + nft.compare(nft.EQUAL, bytes((family,)))


def _rules() -> List[Rule]:
    local = nft.compare(nft.EQUAL, _number(_RTN_LOCAL))
    host = nft.compare(nft.AT_LEAST, _number(_RTN_LOCAL)) + nft.compare(nft.AT_MOST, _number(_RTN_MULTICAST))
    group = nft.fib(nft.FIB_DADDR) + nft.compare(nft.EQUAL, _number(_RTN_MULTICAST))
    options = nft.network(0, 1) + nft.masked(b"\x0f") + nft.compare(nft.NOT_EQUAL, b"\x05")
    hop_by_hop = nft.network(6, 1) + nft.compare(nft.EQUAL, bytes((_HOP_BY_HOP,)))
    drop, accept = nft.verdict(nft.DROP), nft.verdict(nft.ACCEPT)
    arriving = [
        ("no redirect", _icmp("icmp", _ICMP_REDIRECT, _ICMP_REDIRECT) + drop),
        ("no router advertisement", _icmp("icmpv6", _ND_ADVERTISEMENT, _ND_ADVERTISEMENT) + drop),
        ("no redirect", _icmp("icmpv6", _ND_REDIRECT, _ND_REDIRECT) + drop),
        ("to an address of this link (host_access)", nft.fib(nft.FIB_DADDR | nft.FIB_IIF) + local + accept),
        ("neighbours", group + _icmp("icmpv6", _ND_SOLICIT, _ND_ADVERT) + accept),
        ("nothing for the host", nft.fib(nft.FIB_DADDR) + host + drop),
        # A router alert has the kernel give what it would forward to a daemon's socket, before any rule on forwarding.
        ("no router alert", _of_ip(nft.NFPROTO_IPV4) + options + drop),
        ("no router alert", _of_ip(nft.NFPROTO_IPV6) + hop_by_hop + drop),
    ]
    leaving = [
        ("from an address of this link (host_access)", nft.fib(nft.FIB_SADDR | nft.FIB_OIF) + local + accept),
        # Reports have no source where a link has no address: 0.0.0.0 counts as broadcast, and :: as nothing at all.
        ("nothing from the host", nft.fib(nft.FIB_SADDR) + host + drop),
        ("no listener report or router solicitation", _icmp("icmpv6", _MLD_REPORT, _ROUTER_SOLICIT) + drop),
        ("no listener report", _icmp("icmpv6", _MLD2_REPORT, _MLD2_REPORT) + drop),
    ]
    rules = [("arriving", *row) for row in arriving] + [("leaving", *row) for row in leaving]
    rules += [("prerouting", "ours", match + nft.jump("arriving")) for match in _of_group(nft.META_IIFGROUP)]
    rules += [("forward", "nothing through the host", match + drop)
              for key in (nft.META_IIFGROUP, nft.META_OIFGROUP) for match in _of_group(key)]  # fmt: skip
    rules += [("output", "ours", match + nft.jump("leaving")) for match in _of_group(nft.META_OIFGROUP)]
    digest = hashlib.sha256(b"".join(row[2] for row in rules)).hexdigest()[:8]
    return [Rule(chain, f"netops.underlay {digest}: {text}", expressions) for chain, text, expressions in rules]


def is_whole() -> bool:
    """Whether the table is as it must be, in the network namespace of the calling thread."""
    try:
        return nft.is_active(TABLE) and sorted(nft.rules_of(TABLE)) == sorted(
            rule._replace(expressions=b"") for rule in _rules()
        )
    except (NetlinkError, OSError):
        return False


def why_not() -> Optional[str]:
    """Why this kernel cannot have the table; None where it can. Nothing is changed by the question."""
    return _replace(check=True)


def install() -> Optional[str]:
    """Make the table what it must be, whatever it is now; the reason if that is not possible, else None."""
    return _replace(check=False)


def _replace(check: bool) -> Optional[str]:
    try:
        nft.replace_table(TABLE, _CHAINS, _rules(), check)
    except NetlinkError as error:
        return f"this kernel lacks nf_tables with the inet family and the fib expression: {error}"
    except OSError as error:
        return f"this kernel has no nf_tables: {error.strerror}"
    return None


def remove() -> None:
    """Remove the table, if it is there."""
    try:
        nft.remove_table(TABLE)
    except (NetlinkError, OSError):
        return
