# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for nf_tables, as far as one small table of rules takes them.

Numbers are those of include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h. Attributes of nf_tables that hold a
number hold it in network byte order; what rules compare with is in the order of the register.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..core.errors import NetlinkError
from .encode import attribute
from .rtnetlink import HEADER, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, attributes

NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17
NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, GETRULE, DELRULE = 0, 2, 3, 5, 6, 7, 8
_GETTABLE = 1
_NLM_F_APPEND = 0x800
NFPROTO_INET, NFPROTO_IPV4, NFPROTO_NETDEV, NFPROTO_IPV6 = 1, 2, 5, 10
PREROUTING, FORWARD, OUTPUT = 0, 2, 3  # NF_INET_*
EGRESS = 1  # NF_NETDEV_EGRESS
DROP, ACCEPT, _JUMP = 0, 1, -3
META_NFPROTO, META_L4PROTO, META_IIFGROUP, META_OIFGROUP = 15, 16, 21, 22
EQUAL, NOT_EQUAL, AT_MOST, AT_LEAST = 0, 1, 3, 5  # NFT_CMP_*
FIB_SADDR, FIB_DADDR, FIB_IIF, FIB_OIF = 1, 2, 8, 16
_FIB_RESULT_ADDRTYPE = 3
_LINK_HEADER, _NETWORK_HEADER, _TRANSPORT_HEADER = 0, 1, 2
_HTON = 1
_REGISTER, _VERDICT_REGISTER = 1, 0
_DORMANT = 1
_GENERIC = struct.Struct(">BBH")  # struct nfgenmsg: family, version, resource
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TIMEOUT = struct.pack("ll", 10, 0)


class Rule(NamedTuple):
    """A rule of a chain. ``comment`` is shown by ``nft list ruleset``, and tells whether a rule is the one that was made."""

    chain: str
    comment: str
    expressions: bytes = b""


class Chain(NamedTuple):
    """A chain; one without a hook is only jumped to."""

    name: str
    hook: Optional[int] = None
    priority: int = 0
    device: str = ""  # of family netdev


# --- expressions ---------------------------------------------------------------------------------


def _big(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">i" if value < 0 else ">I", value))


def _expression(name: bytes, *parts: bytes) -> bytes:
    return attribute(1, attribute(1, name + b"\0") + attribute(2, b"".join(parts)))


def meta(key: int) -> bytes:
    """Load what is known of a packet beside its bytes."""
    return _expression(b"meta", _big(1, _REGISTER), _big(2, key))


def fib(flags: int) -> bytes:
    """Load the type (RTN_*) that the routing tables give an address."""
    return _expression(b"fib", _big(1, _REGISTER), _big(2, _FIB_RESULT_ADDRTYPE), _big(3, flags))


def transport(offset: int, length: int) -> bytes:
    """Load bytes of the header behind that of IP; a fragment without it matches nothing."""
    return _payload(_TRANSPORT_HEADER, offset, length)


def network(offset: int, length: int) -> bytes:
    """Load bytes of the header of IP."""
    return _payload(_NETWORK_HEADER, offset, length)


def frame(offset: int, length: int) -> bytes:
    """Load bytes of a frame, at most 16, from its first on; a frame that is shorter matches nothing."""
    return _payload(_LINK_HEADER, offset, length)


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression(b"payload", _big(1, _REGISTER), _big(2, base), _big(3, offset), _big(4, length))


def masked(mask: bytes) -> bytes:
    """Keep only these bits of what was loaded."""
    data = attribute(4, attribute(1, mask)) + attribute(5, attribute(1, bytes(len(mask))))
    return _expression(b"bitwise", _big(1, _REGISTER), _big(2, _REGISTER), _big(3, len(mask)), data)


def to_network_order() -> bytes:
    """Make the number that was loaded one that can be compared with a range."""
    return _expression(
        b"byteorder", *(_big(1 + n, value) for n, value in enumerate((_REGISTER, _REGISTER, _HTON, 4, 4)))
    )


def compare(operator: int, value: bytes) -> bytes:
    """Go on with the rule only where what was loaded compares so."""
    return _expression(b"cmp", _big(1, _REGISTER), _big(2, operator), attribute(3, attribute(1, value)))


def verdict(code: int) -> bytes:
    """End the rule with a verdict, such as NF_DROP."""
    return _expression(b"immediate", _big(1, _VERDICT_REGISTER), attribute(2, attribute(2, _big(1, code))))


def jump(chain: str) -> bytes:
    """Go on in another chain, and come back."""
    data = _big(1, _JUMP) + attribute(2, chain.encode() + b"\0")
    return _expression(b"immediate", _big(1, _VERDICT_REGISTER), attribute(2, attribute(2, data)))


# --- requests ------------------------------------------------------------------------------------


def replace_table(
    table: str, chains: Sequence[Chain], rules: Iterable[Rule], check: bool = False, family: int = NFPROTO_INET
) -> None:
    """Replace a table, in one step; with ``check`` the kernel only says whether it could.

    Raises NetlinkError, and OSError where there is no nfnetlink.
    """
    requests = [
        (NEWTABLE, NLM_F_CREATE, _name(table)),
        (DELTABLE, 0, _name(table)),
        (NEWTABLE, NLM_F_CREATE, _name(table)),
        *((NEWCHAIN, NLM_F_CREATE, _chain(table, chain)) for chain in chains),
        *((NEWRULE, NLM_F_CREATE | _NLM_F_APPEND, _rule(table, rule)) for rule in rules),
    ]
    _transact(requests, family, commit=not check)


def remove_table(table: str, family: int = NFPROTO_INET) -> None:
    """Remove a table, if it is there. Raises NetlinkError, and OSError where there is no nfnetlink."""
    try:
        _transact([(DELTABLE, 0, _name(table))], family)
    except NetlinkError as error:
        if error.errno != errno.ENOENT:
            raise


def is_active(table: str, family: int = NFPROTO_INET) -> bool:
    """Whether a table is there and not dormant. Raises NetlinkError, and OSError as above."""
    with _socket() as kernel:
        kernel.send(_message(_SUBSYSTEM | _GETTABLE, NLM_F_REQUEST | NLM_F_ACK, 1, _head(family) + _name(table)))
        try:
            for _kind, data, start, end in _answers(kernel, 1):
                flags = [data[first:last] for what, first, last in attributes(data, start + 4, end) if what == 2]
                return not any(int.from_bytes(value, "big") & _DORMANT for value in flags)
        except NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
    return False


def rules_of(table: str) -> List[Rule]:
    """The rules of a table of family inet, in order, without their expressions. Raises NetlinkError, and OSError as above."""
    return [rule for name, rule in _rules(NFPROTO_INET, _name(table)) if name == table]


def all_rules(family: int) -> Dict[str, List[Rule]]:
    """The rules of all tables of a family that have any, by table, as above."""
    found: Dict[str, List[Rule]] = {}
    for table, rule in _rules(family):
        found.setdefault(table, []).append(rule)
    return found


def _rules(family: int, which: bytes = b"") -> Iterator[Tuple[str, Rule]]:
    with _socket() as kernel:
        kernel.send(_message(_SUBSYSTEM | GETRULE, NLM_F_REQUEST | NLM_F_DUMP, 1, _head(family) + which))
        for _kind, data, start, end in _answers(kernel, 1):
            parts = {what: data[first:last] for what, first, last in attributes(data, start + 4, end)}
            table = parts.get(1, b"").rstrip(b"\0").decode("utf-8", "replace")
            yield table, Rule(parts.get(2, b"").rstrip(b"\0").decode(), _comment(parts.get(7, b"")))


def removed_from(data: bytes) -> Iterator[str]:
    """The tables of which events say that something of them is gone."""
    start = 0
    while start + HEADER.size <= len(data):
        length, kind = HEADER.unpack_from(data, start)[:2]
        if length < HEADER.size:
            return
        if kind in (_SUBSYSTEM | DELTABLE, _SUBSYSTEM | DELCHAIN, _SUBSYSTEM | DELRULE):
            for what, first, last in attributes(data, start + HEADER.size + 4, start + length):
                if what == 1:
                    yield data[first:last].rstrip(b"\0").decode("utf-8", "replace")
        start += (length + 3) & ~3


def _name(table: str) -> bytes:
    return attribute(1, table.encode() + b"\0")


def _chain(table: str, chain: Chain) -> bytes:
    body = _name(table) + attribute(3, chain.name.encode() + b"\0")
    if chain.hook is None:
        return body
    hook = _big(1, chain.hook) + _big(2, chain.priority)
    if chain.device:
        hook += attribute(3, chain.device.encode() + b"\0")
    return body + attribute(4, hook) + _big(5, ACCEPT) + attribute(7, b"filter\0")


def _rule(table: str, rule: Rule) -> bytes:
    text = rule.comment.encode() + b"\0"
    comment = bytes((0, len(text))) + text  # NFTNL_UDATA_RULE_COMMENT
    return (
        _name(table)
        + attribute(2, rule.chain.encode() + b"\0")
        + attribute(4, rule.expressions)
        + attribute(7, comment)
    )


def _comment(data: bytes) -> str:
    return data[2:].rstrip(b"\0").decode("utf-8", "replace") if data[:1] == b"\0" else ""


# --- the socket ----------------------------------------------------------------------------------


def _socket() -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
    return kernel


def _head(family: int = NFPROTO_INET, resource: int = 0) -> bytes:
    return _GENERIC.pack(family, 0, resource)


def _message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def _transact(requests: Sequence[Tuple[int, int, bytes]], family: int, commit: bool = True) -> None:
    """All of the requests or none; a batch without its end is checked, and then dropped."""
    last = len(requests)
    parts = [_message(_BATCH_BEGIN, NLM_F_REQUEST, 0, _head(0, 10))]
    for sequence, (kind, flags, body) in enumerate(requests, 1):
        acknowledged = NLM_F_ACK if sequence == last else 0
        parts.append(_message(_SUBSYSTEM | kind, NLM_F_REQUEST | flags | acknowledged, sequence, _head(family) + body))
    if commit:
        parts.append(_message(_BATCH_END, NLM_F_REQUEST, last + 1, _head(0, 10)))
    with _socket() as kernel:
        kernel.send(b"".join(parts))
        for _rest in _answers(kernel, last):
            pass


def _answers(kernel: socket.socket, last: int) -> Iterator[Tuple[int, bytes, int, int]]:
    """What the kernel answers until the request of number ``last`` is done. Raises NetlinkError for the first refusal."""
    while True:
        try:
            data = kernel.recv(1 << 16)
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "nf_tables did not answer") from None
        start = 0
        while start + HEADER.size <= len(data):
            length, kind, _flags, sequence, _port = HEADER.unpack_from(data, start)
            body = start + HEADER.size
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, body)[0]
                if number:
                    raise NetlinkError(number)
            if kind in (_NLMSG_ERROR, _NLMSG_DONE) and sequence == last:
                return
            if kind not in (_NLMSG_ERROR, _NLMSG_DONE):
                yield kind, data, body, start + length
            start += (length + 3) & ~3
