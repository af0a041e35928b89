# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a DHCP server sends, read and judged: long options, classless routes, search lists, and whatever is not so."""

from __future__ import annotations

import ipaddress
import random
import struct
from typing import Dict, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.lease_specs import Lease
from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp import packet
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import leases

MAC = "02:00:00:00:00:01"
USUAL = {53: b"\2", 54: bytes((10, 0, 0, 1)), 51: struct.pack("!I", 600), 1: bytes((255, 255, 255, 0))}


def packed(options: Dict[int, bytes], longest: int = 255) -> bytes:
    found = b""
    for kind, value in options.items():
        for at in range(0, len(value) or 1, longest):
            part = value[at : at + longest]
            found += bytes((kind, len(part))) + part
    return found


def frame(options: bytes, address: str = "10.0.0.5", sname: bytes = b"", file: bytes = b"") -> bytes:
    """What a server sends to a client, with headers."""
    body = struct.pack(
        "!BBBBIHH4s4s4s4s",
        2,
        1,
        6,
        0,
        0x1234,
        0,
        0,
        bytes(4),
        ipaddress.IPv4Address(address).packed,
        bytes(4),
        bytes(4),
    )
    body += bytes.fromhex(MAC.replace(":", "")).ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0")
    body += b"\x63\x82\x53\x63" + options
    udp = struct.pack("!HHHH", 67, 68, len(body) + 8, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, len(udp + body) + 20, 0, 0, 64, 17, 0, bytes((10, 0, 0, 1)), b"\xff" * 4)
    return b"\xff" * 6 + bytes.fromhex("020000000099") + b"\x08\0" + ip + udp + body


def judged(options: Dict[int, bytes], address: str = "10.0.0.5") -> Lease:
    reply = packet.parse(frame(packed({**USUAL, **options}) + b"\xff", address))
    assert reply is not None and reply.mac == MAC and reply.sender == "02:00:00:00:00:99"
    found = packet.lease(reply, "blue/one", MAC, b"\0x", 1000.0)
    assert leases.check(found) == found, "what is written can be read again"
    return found


def test_a_usual_offer() -> None:
    found = judged(
        {3: bytes((10, 0, 0, 1)), 6: bytes((10, 0, 0, 53)), 15: b"lan.example\0", 26: struct.pack("!H", 1400)}
    )
    assert (found["address"], found["server"], found["routers"]) == ("10.0.0.5/24", "10.0.0.1", ["10.0.0.1"])
    assert (found["dns"], found["domain"], found["mtu"]) == (["10.0.0.53"], "lan.example", 1400)
    assert (found["obtained"], found["renew"], found["rebind"], found["expires"]) == (1000, 1300, 1525, 1600)


def test_times_that_a_server_chose_count_where_they_are_in_order() -> None:
    given = {58: struct.pack("!I", 100), 59: struct.pack("!I", 500)}
    assert (judged(given)["renew"], judged(given)["rebind"]) == (1100, 1500)
    assert judged({**given, 58: struct.pack("!I", 550)})["renew"] == 1300
    assert packet.is_forever(judged({51: b"\xff" * 4})) and not packet.is_forever(judged({}))


def test_long_options_come_in_parts_and_elsewhere() -> None:
    """RFC 3396, and option 52: the fields of the file and the server's name hold options too."""
    routes = b"".join(bytes((24, 192, 0, number, 10, 0, 0, 1)) for number in range(40))
    parts = packed({**USUAL, 121: routes}, 100) + b"\xff"
    reply = packet.parse(frame(parts))
    assert reply is not None and len(packet.lease(reply, "a/b", MAC, b"\0x", 0)["routes"]) == 40
    reply = packet.parse(
        frame(
            packed({53: b"\2", 52: b"\3"}) + b"\xff",
            file=packed({54: USUAL[54]}) + b"\xff",
            sname=packed({15: b"x.example"}),
        )
    )
    assert reply is not None and reply.server == "10.0.0.1" and reply.options[15] == b"x.example"


@pytest.mark.parametrize(
    ("value", "routes"),
    [
        (bytes((0, 10, 0, 0, 1)), [("0.0.0.0/0", "10.0.0.1")]),
        (bytes((25, 192, 0, 2, 129, 10, 0, 0, 1)), [("192.0.2.128/25", "10.0.0.1")]),
        (bytes((32, 10, 0, 0, 1, 0, 0, 0, 0)), [("10.0.0.1/32", None)]),
        (bytes((8, 127, 10, 0, 0, 1)), []),
        (bytes((4, 224, 10, 0, 0, 1)), []),
        (bytes((24, 192, 0, 2, 127, 0, 0, 1)), []),
        (bytes((24, 192, 0, 2, 10, 0, 0, 5)), []),  # over itself
        (bytes((0, 0, 0, 0, 0)), []),  # everything on the link
        (bytes((33, 1, 2, 3, 4, 5, 10, 0, 0, 1)), []),
        (bytes((24, 192, 0, 2, 10, 0, 0)), []),
    ],
)
def test_classless_routes(value: bytes, routes: List[Tuple[str, str]]) -> None:
    assert [(row["prefix"], row["via"]) for row in judged({121: value})["routes"]] == routes


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        (b"\3eng\7example\0", ["eng.example"]),
        (b"\3eng\7example\0\2qa\xc0\4", ["eng.example", "qa.example"]),
        (b"\3a b\7example\0\1b\0", ["b"]),
        (b"\xc0\0", []),  # to itself
        (b"\1a\xc0\0", []),  # in a circle
        (b"\7exam", []),
        (b"\4evil\n\0", []),
        (b"\5x\nopt\0", []),
    ],
)
def test_search_lists(value: bytes, domains: List[str]) -> None:
    assert judged({119: value})["search"] == domains


def test_what_resolv_conf_could_not_hold_is_not_taken() -> None:
    assert judged({15: b"x\nnameserver 6.6.6.6"})["domain"] is None
    assert judged({15: b"-x.example"})["domain"] is None
    assert judged({6: bytes((127, 0, 0, 1, 224, 0, 0, 1, 10, 0, 0, 53, 9))})["dns"] == ["10.0.0.53"]
    assert judged({26: struct.pack("!H", 68)})["mtu"] is None


@pytest.mark.parametrize(
    ("options", "address", "why"),
    [
        ({}, "0.0.0.0", "no address that a host may have"),
        ({}, "127.0.0.1", "no address that a host may have"),
        ({}, "224.0.0.5", "no address that a host may have"),
        ({}, "255.255.255.255", "no address that a host may have"),
        ({}, "10.0.0.0", "no address that a host may have"),
        ({}, "10.0.0.255", "no address that a host may have"),
        ({1: bytes((254, 0, 0, 0))}, "10.0.0.5", "no address that a host may have"),
        ({1: bytes((255, 0, 255, 0))}, "10.0.0.5", "no subnet mask"),
        ({1: bytes(4)}, "10.0.0.5", "no subnet mask"),
        ({1: b""}, "10.0.0.5", "no subnet mask"),
        ({54: b""}, "10.0.0.5", "which server"),
        ({54: bytes(4)}, "10.0.0.5", "which server"),
        ({51: b""}, "10.0.0.5", "has no time"),
        ({51: struct.pack("!I", 1)}, "10.0.0.5", "lasts 1 s"),
    ],
)
def test_offers_that_are_refused(options: Dict[int, bytes], address: str, why: str) -> None:
    with pytest.raises(packet.Nonsense, match=why):
        judged(options, address)


def test_an_address_of_32_bits_is_good() -> None:
    assert judged({1: b"\xff" * 4})["address"] == "10.0.0.5/32"


def test_no_frame_is_a_crash() -> None:
    """Bytes changed, cut off and added anywhere: it is read or refused."""
    draw = random.Random(67)
    value = b"\3eng\7example\0\2qa\xc0\4"
    good = frame(
        packed({**USUAL, 52: b"\3", 121: bytes((24, 192, 0, 2, 10, 0, 0, 1)), 119: value, 6: bytes(8), 26: b"\5\0"})
        + b"\xff"
    )
    read = 0
    for _time in range(4000):
        bad = bytearray(good)
        for _change in range(draw.randrange(1, 6)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        reply = packet.parse(
            bytes(bad[: draw.randrange(len(bad) // 2, len(bad) + 1)]) if draw.random() < 0.3 else bytes(bad)
        )
        if reply is not None:
            try:
                leases.check(packet.lease(reply, "blue/one", MAC, b"\0x", 1000.0))
                read += 1
            except packet.Nonsense:
                pass
    assert read > 500
