# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a DHCPv6 server sends, read and judged: addresses, statuses and timers, and whatever is not so."""

from __future__ import annotations

import ipaddress
import random
import struct
from typing import Any, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.lease_specs import Lease
from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp import packet6
from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp.packet import Nonsense
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import leases

MAC, XID = "02:00:00:00:00:01", b"\1\2\3"
SERVER = bytes.fromhex("00030001020000000009")
OWN = b"\0\0\0\1" + bytes.fromhex("0004") + 16 * b"\xab"  # IAID and DUID
Option = Tuple[int, bytes]


def option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def address(text: str = "2001:db8::5", preferred: int = 300, valid: int = 600, inner: bytes = b"") -> bytes:
    return option(5, ipaddress.IPv6Address(text).packed + struct.pack("!II", preferred, valid) + inner)


def status(code: int, text: str = "") -> bytes:
    return option(13, struct.pack("!H", code) + text.encode())


def ia(*inner: bytes, t1: int = 100, t2: int = 200, iaid: bytes = b"\0\0\0\1") -> bytes:
    return option(3, iaid + struct.pack("!II", t1, t2) + b"".join(inner))


def sent(*options: bytes, kind: int = 7, client: bytes = OWN[4:], server: bytes = SERVER) -> bytes:
    return bytes((kind,)) + XID + option(1, client) + option(2, server) + b"".join(options)


def judged(*options: bytes) -> Lease:
    reply = packet6.parse(sent(*options), "fe80::9%eth0")
    assert reply is not None and (reply.xid, reply.client, reply.server, reply.sender) == (
        XID,
        OWN[4:],
        SERVER,
        "fe80::9",
    )
    found = packet6.lease(reply, "blue/one", MAC, OWN, 1000.0)
    assert leases.check(found) == found, "what is written can be read again"
    return found


def test_an_address_and_what_comes_with_it() -> None:
    dns = b"".join(
        ipaddress.IPv6Address(text).packed for text in ("2001:db8::53", "fe80::53", "ff02::1", "2001:db8::53")
    )
    found = judged(ia(address()), option(23, dns + b"\0"), option(24, b"\3lab\7example\0\3a b\0"))
    assert (found["address"], found["server"], found["server_duid"]) == ("2001:db8::5/128", "fe80::9", SERVER.hex())
    assert (found["dns"], found["search"]) == (["2001:db8::53"], ["lab.example"])
    times = [found["renew"] - 1000, found["rebind"] - 1000, found["preferred"] - 1000, found["expires"] - 1000]
    assert times == [100, 200, 300, 600]


@pytest.mark.parametrize(
    ("t1", "t2", "preferred", "valid", "times"),
    [
        (0, 0, 300, 600, (150, 240)),  # the client's to choose
        (700, 900, 300, 600, (150, 240)), (1, 2, 300, 600, (2, 2)), (0, 0, 0, 600, (300, 480)),
        (2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1, (2**31 - 1, (2**32 - 1) * 4 // 5)),
    ],
)  # fmt: skip
def test_when_it_is_renewed(t1: int, t2: int, preferred: int, valid: int, times: Tuple[int, int]) -> None:
    found = judged(ia(address(preferred=preferred, valid=valid), t1=t1, t2=t2))
    assert (found["renew"] - 1000, found["rebind"] - 1000) == times


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ([], Nonsense, "no address for this client"), ([ia(address(), iaid=b"\0\0\0\2")], Nonsense, "no address for this client"),
        ([ia()], packet6.Refused, "NoBinding"), ([ia(address(valid=0, preferred=0))], packet6.Refused, "no address that lasts"),
        ([ia(status(2, "full\n"))], packet6.Refused, r"NoAddrsAvail \(full\)"), ([status(1), ia(address())], packet6.Refused, "UnspecFail"),
        ([ia(address(inner=status(4)))], packet6.Refused, "NotOnLink"), ([ia(address(valid=3, preferred=3))], Nonsense, "lasts 3 s"),
        ([ia(address(preferred=700))], Nonsense, "preferred for 700 s"), ([ia(address(), t1=200, t2=100)], Nonsense, "renewed after 200 s"),
        *(([ia(address(text))], Nonsense, "no address that a host may have") for text in ("::", "::1", "ff02::5", "fe80::5", "::ffff:10.0.0.1")),
    ],
)  # fmt: skip
def test_what_is_not_taken(options: List[bytes], error: Any, why: str) -> None:
    with pytest.raises(error, match=why):
        judged(*options)


@pytest.mark.parametrize("data", [b"", b"\7\1\2", sent(kind=1), sent(client=b"\0\4"), sent(server=b""), sent()[:30]])
def test_what_is_no_answer(data: bytes) -> None:
    assert packet6.parse(data, "fe80::9") is None


def test_whatever_is_on_the_wire_is_judged() -> None:
    """Each byte of a good message changed, and each part cut off: a lease that can be kept, a refusal, or nothing."""
    whole, chance = (
        sent(ia(address(), status(0)), option(23, 16 * b"\x20"), option(24, b"\3lab\0"), option(7, b"\xff")),
        random.Random(1),
    )
    for number in range(4000):
        data = bytearray(whole[: len(whole) - (number % 7) * chance.randrange(12)])
        for _time in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        reply = packet6.parse(bytes(data), "fe80::9")
        if reply is not None:
            assert 0 <= reply.preference <= 255
            try:
                leases.check(packet6.lease(reply, "blue/one", MAC, OWN, 1000.0))
            except (Nonsense, packet6.Refused) as error:
                assert str(error).isprintable()


def test_what_is_sent() -> None:
    """As tcpdump would read it: who asks, since when, for what, and as whom its DNS may know it."""
    options = [packet6.to(SERVER.hex()), packet6.wants(OWN, "2001:db8::5/128"), *packet6.asks("web.example.com")]
    data = packet6.message(packet6.REQUEST, XID, OWN, 1.5, options)
    assert data[:4] == b"\3" + XID
    expected = (
        option(1, OWN[4:]) + option(8, b"\0\x96") + option(2, SERVER) + ia(address(preferred=0, valid=0), t1=0, t2=0)
    )
    expected += option(6, b"\0\x17\0\x18") + option(39, b"\1\3web\7example\3com\0")
    assert data[4:] == expected
    assert packet6.asks("web")[1] == (39, b"\1\3web"), "a part of a name"
    assert packet6.message(1, XID, OWN, 1e9, [])[-2:] == b"\xff\xff"
