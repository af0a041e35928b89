# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our codec writes, read by pyroute2's, and what it writes itself, read by itself."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import tempfile
import time
from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors, rates
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Spec
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.isolation import IPV4
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Link
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import decode, encode, rtnetlink, tc
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink.rtnetlink import Message, Socket
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=15)
MACS = st.binary(min_size=6, max_size=6).map(lambda packed: packed.hex(":"))
PRIORITIES = st.dictionaries(st.integers(0, 7).map(str), st.integers(1, 7), max_size=8)
IPV4_ADDRESSES = st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))
IPV6_ADDRESSES = st.integers(0, 2**128 - 1).map(lambda number: str(ipaddress.IPv6Address(number)))

VLANS = st.fixed_dictionaries(
    {
        "kind": st.just("vlan"), "name": NAMES, "vlan_id": st.integers(1, 4094),
        "protocol": st.sampled_from(["802.1q", "802.1ad"]),
        "mtu": st.integers(68, 65535), "mac": MACS, "group": st.integers(0, 2**32 - 1),
        "gvrp": st.booleans(), "mvrp": st.booleans(), "loose_binding": st.booleans(),
        "reorder_headers": st.booleans(),
        "ingress_qos_map": PRIORITIES, "egress_qos_map": PRIORITIES,
    }
)  # fmt: skip
MACVLANS = st.fixed_dictionaries(
    {"kind": st.just("macvlan"), "name": NAMES,
     "mode": st.sampled_from(sorted(encode.MACVLAN_MODES)),
     "bcqueuelen": st.integers(0, 2**32 - 1), "bclim": st.integers(-1, 2**31 - 1),
     "nopromisc": st.booleans(), "source_macs": st.lists(MACS, max_size=9, unique=True).map(sorted)}
)  # fmt: skip
IPVLANS = st.fixed_dictionaries(
    {"kind": st.just("ipvlan"), "name": NAMES, "mode": st.sampled_from(["l2", "l3", "l3s"]),
     "flag": st.sampled_from(["bridge", "private", "vepa"])}
)  # fmt: skip
DUMMIES = st.fixed_dictionaries({"kind": st.just("dummy"), "name": NAMES})
LINKS = st.one_of(VLANS, MACVLANS, IPVLANS, DUMMIES)


@st.composite
def route_specs(draw: Any) -> Spec:
    addresses, most = draw(st.sampled_from([(IPV4_ADDRESSES, 32), (IPV6_ADDRESSES, 128)]))
    network = ipaddress.ip_network(f"{draw(addresses)}/{draw(st.integers(0, most))}", strict=False)
    kind = draw(st.sampled_from(["unicast", "unreachable", "blackhole", "prohibit"]))
    unicast = kind == "unicast"
    return {
        "netns": "", "prefix": str(network), "type": kind,
        "via": draw(st.none() | addresses) if unicast else None,
        "dev": "trunk" if unicast else None, "src": draw(st.none() | addresses),
        "metric": draw(st.integers(0, 2**32 - 1)), "table": draw(st.integers(1, 2**32 - 1)),
        "protocol": draw(st.integers(0, 255)),
    }  # fmt: skip


def theirs(message: Message) -> Any:
    """A message as pyroute2 reads it."""
    body = message.body
    assert len(body) % 4 == 0
    raw = rtnetlink.HEADER.pack(16 + len(body), message.type, message.flags | rtnetlink.NLM_F_REQUEST, 1, 0) + body
    kinds = {
        **dict.fromkeys((16, 17, 18, 108, 109), ifinfmsg),
        **dict.fromkeys((20, 21, 22), ifaddrmsg),
        **dict.fromkeys((24, 25, 26), rtmsg),
        **dict.fromkeys((32, 33, 34), fibmsg),
        **dict.fromkeys((36, 37, 38, 44, 45, 46), tcmsg),
        90: nsidmsg,
    }
    found = kinds[message.type](raw)
    found.decode()
    return found


def listed(nested: Any) -> List[Tuple[str, Any]]:
    return [(row[0], row[1]) for row in nested["attrs"]]


def read(message: Message) -> Link:
    """A request read as if the kernel had sent it."""
    return decode.link(b"junk" + message.body, 4, 4 + len(message.body))


# --- links ---------------------------------------------------------------------------------------


@given(VLANS, st.integers(1, 2**31 - 1))
def test_vlan(spec: Spec, parent: int) -> None:
    message = encode.create_link(spec, spec["name"], parent, spec["group"])
    assert message.flags == rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL
    found = theirs(message)
    assert (found["index"], found["flags"], found["change"]) == (0, 0, 0)
    assert found.get_attr("IFLA_IFNAME") == spec["name"] and found.get_attr("IFLA_LINK") == parent
    assert found.get_attr("IFLA_MTU") == spec["mtu"] and found.get_attr("IFLA_GROUP") == spec["group"]
    assert found.get_attr("IFLA_ADDRESS") == spec["mac"]
    info = found.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "vlan"
    data = info.get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_VLAN_ID") == spec["vlan_id"]
    assert data.get_attr("IFLA_VLAN_PROTOCOL") == encode.VLAN_PROTOCOLS[spec["protocol"]]
    flags = data.get_attr("IFLA_VLAN_FLAGS")
    assert flags["mask"] == 0xF
    assert flags["flags"] == spec["reorder_headers"] + 2 * spec["gvrp"] + 4 * spec["loose_binding"] + 8 * spec["mvrp"]
    for option, name in (
        ("ingress_qos_map", "IFLA_VLAN_INGRESS_QOS"),
        ("egress_qos_map", "IFLA_VLAN_EGRESS_QOS"),
    ):
        nested = data.get_attr(name)
        pairs = {str(row["from"]): row["to"] for _kind, row in listed(nested)} if nested else {}
        assert pairs == spec[option]


@given(MACVLANS)
def test_macvlan(spec: Spec) -> None:
    data = theirs(encode.create_link(spec, spec["name"], 3, 8021)).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_MACVLAN_MODE") == spec["mode"]
    raw = {kind: body for kind, body in attributes(encode.kind_data("macvlan", spec))}
    assert struct.unpack("=I", raw[7]) == (spec["bcqueuelen"],) and struct.unpack("=i", raw[9]) == (spec["bclim"],)
    assert struct.unpack_from("=H", raw[2]) == (int(spec["nopromisc"]),)
    if spec["mode"] == "source":  # a list of its own, the whole of it
        assert data.get_attr("IFLA_MACVLAN_MACADDR_MODE") == "set"
        assert [body.hex(":") for kind, body in attributes(raw[5]) if kind == 4] == spec["source_macs"]
    else:
        assert not {3, 5} & set(raw)


@given(IPVLANS)
def test_ipvlan(spec: Spec) -> None:
    found = theirs(encode.create_link(spec, spec["name"], 3, 8021)).get_attr("IFLA_LINKINFO")
    assert found.get_attr("IFLA_INFO_KIND") == "ipvlan"
    raw = {kind: struct.unpack("=H", body)[0] for kind, body in attributes(encode.kind_data("ipvlan", spec))}
    assert raw == {1: encode.IPVLAN_MODES[spec["mode"]], 2: encode.IPVLAN_FLAGS[spec["flag"]]}


def attributes(data: bytes) -> List[Tuple[int, bytes]]:
    return [(kind, data[first:last]) for kind, first, last in rtnetlink.attributes(data, 0, len(data))]


@given(LINKS, st.integers(1, 2**31 - 1))
def test_a_link_is_read_as_it_was_written(spec: Spec, parent: int) -> None:
    for _ in range(2):  # the second time by its shape
        found = read(encode.create_link(spec, spec["name"], parent, 8021))
        options = {key: value for key, value in spec.items() if key not in ("kind", "name", "mtu", "mac", "group")}
        if spec["kind"] == "macvlan":
            options.setdefault("bclim", 1)
            options["source_macs"] = options["source_macs"] if options["mode"] == "source" else []
        assert (found.kind, found.name, found.parent, found.data) == (
            spec["kind"],
            spec["name"],
            parent,
            options,
        )
        assert (found.mtu, found.mac, found.up) == (spec.get("mtu", 0), spec.get("mac", ""), False)
        assert found.parent_ns is None and found.conf4 is None and found.conf6 is None


@given(st.lists(st.tuples(LINKS, st.booleans(), st.integers(1, 9)), min_size=1, max_size=40))
def test_shapes_tell_what_reading_each_attribute_does(
    specs: List[Tuple[Spec, bool, int]],
) -> None:
    for spec, up, index in specs:
        created = encode.create_link(spec, spec["name"], index, spec.get("group", 1)).body
        body = encode.IFINFOMSG.pack(0, 1, index, 0x1000 | up, 0) + created[encode.IFINFOMSG.size :]
        by_shape, one_by_one = decode.link(body, 0, len(body)), decode._link(body)
        assert {slot: getattr(by_shape, slot) for slot in Link.__annotations__} == {
            slot: getattr(one_by_one, slot) for slot in Link.__annotations__
        }
        by_shape.data["vlan_id"] = by_shape.parent_ns = "spoilt by the reader"


def test_a_shape_is_of_one_type() -> None:
    created = encode.create_link({"kind": "dummy", "name": "d0"}, "d0", 0, 0).body[encode.IFINFOMSG.size :]  # type: ignore[arg-type]
    for kind in (1, 65534, 1):  # ARPHRD_ETHER, ARPHRD_NONE
        body = encode.IFINFOMSG.pack(0, kind, 9, 0, 0) + created
        assert decode.link(body, 0, len(body)).type == kind


def test_a_pair_sits_on_nothing() -> None:
    for _ in range(2):
        assert read(encode.create_link({"kind": "veth", "name": "v0"}, "v0", 7, 0)).parent == 0


def test_raising_and_lowering() -> None:
    for up in (True, False):
        found = theirs(encode.change_link(7, up=up))
        assert (found["index"], found["flags"], found["change"]) == (7, int(up), 1)
    found = theirs(encode.change_link("eth0.50", encode.link_attribute("group", 8021)))
    assert (
        found["index"],
        found["change"],
        found.get_attr("IFLA_IFNAME"),
        found.get_attr("IFLA_GROUP"),
    ) == (0, 0, "eth0.50", 8021)


def test_a_group_message_names_no_link() -> None:
    for message in (encode.change_group(802100001, up=True), encode.remove_group(802100001)):
        found = theirs(message)
        assert (
            found["index"] == 0 and found.get_attr("IFLA_GROUP") == 802100001 and found.get_attr("IFLA_IFNAME") is None
        )
        assert not message.flags & rtnetlink.NLM_F_CREATE
    for forbidden in (encode.change_group, encode.remove_group):
        with pytest.raises(ValueError, match="group 0"):
            forbidden(0)


def test_settings() -> None:
    found = theirs(encode.change_link(7, encode.interface_settings({"arp_ignore": 8, "rp_filter": 1}, 1)))
    families = dict(listed(found.get_attr("IFLA_AF_SPEC")))
    assert families["AF_INET6"].get_attr("IFLA_INET6_ADDR_GEN_MODE") == 1
    raw = dict(attributes(encode.interface_settings({"arp_ignore": 8, "rp_filter": -1}, None)))
    ((_conf, settings),) = attributes(dict(attributes(raw[encode.IFLA_AF_SPEC]))[socket.AF_INET])
    assert {kind: struct.unpack("=i", body)[0] for kind, body in attributes(settings)} == {
        IPV4["arp_ignore"]: 8,
        IPV4["rp_filter"]: -1,
    }
    assert encode.interface_settings({}, None) == b""


@given(
    st.lists(st.text("abc-_é", min_size=1, max_size=60), min_size=1, max_size=5, unique=True),
    st.booleans(),
)
def test_alternative_names(names: List[str], add: bool) -> None:
    message = encode.alternative_names(7, names, add)
    found = theirs(message)
    assert found["index"] == 7
    assert [name for _kind, name in listed(found.get_attr("IFLA_PROP_LIST"))] == names
    assert read(message._replace(body=message.body + encode.link_attribute("name", "x"))).altnames == tuple(
        sorted(names)
    )


def test_mappings_that_are_gone_are_set_to_nothing() -> None:
    change = encode.kind_change("vlan", {"egress_qos_map": {"1": 5}}, {"egress_qos_map": {"1": 2, "3": 4}})
    found = theirs(encode.change_link(7, change)).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert {row["from"]: row["to"] for _kind, row in listed(found.get_attr("IFLA_VLAN_EGRESS_QOS"))} == {1: 5, 3: 0}


# --- addresses and routes ------------------------------------------------------------------------


@given(
    st.one_of(
        st.tuples(IPV4_ADDRESSES, st.integers(0, 32)),
        st.tuples(IPV6_ADDRESSES, st.integers(0, 128)),
    )
)
def test_address(parts: Tuple[str, int]) -> None:
    text, length = parts
    message = encode.create_address(f"{text}/{length}", 7)
    found = theirs(message)
    assert (found["index"], found["prefixlen"], found["family"]) == (
        7,
        length,
        socket.AF_INET6 if ":" in text else socket.AF_INET,
    )
    assert (
        ipaddress.ip_address(found.get_attr("IFA_LOCAL"))
        == ipaddress.ip_address(found.get_attr("IFA_ADDRESS"))
        == ipaddress.ip_address(text)
    )
    assert found.get_attr("IFA_FLAGS") == (encode.IFA_F_NODAD if ":" in text else None)
    ours = decode.address(message.body, 0, len(message.body))
    assert (ours.ifindex, ours.address, ours.protocol) == (7, f"{text}/{length}", 201)
    assert encode.remove_address(f"{text}/{length}", 7).body in message.body
    again = encode.connect_address(f"{text}/{length}", 7)
    assert [theirs(one).get_attr("IFA_RT_PRIORITY") for one in again] == ([0] if ":" in text else [1, 0])
    assert all(one.flags == rtnetlink.NLM_F_REPLACE and one.body.startswith(message.body) for one in again)


@given(IPV4_ADDRESSES | IPV6_ADDRESSES)
def test_addresses_are_written_as_ipaddress_writes_them(text: str) -> None:
    assert decode.address_text(ipaddress.ip_address(text).packed) == text


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "::1",
        "::102:304",
        "::ffff:0:0",
        "::ffff:102:304",
        "1::",
        "0:0:1::",
        "64:ff9b::102:304",
    ],
)
def test_unusual_addresses(text: str) -> None:
    assert decode.address_text(ipaddress.ip_address(text).packed) == str(ipaddress.ip_address(text))


@given(route_specs(), st.integers(1, 2**31 - 1), st.booleans())
def test_route(spec: Spec, oif: int, replace: bool) -> None:
    message = encode.create_route(spec, oif if spec["dev"] else 0, replace)
    found = theirs(message)
    network = ipaddress.ip_network(spec["prefix"])
    assert (found["dst_len"], found["proto"], found["type"]) == (
        network.prefixlen,
        spec["protocol"],
        encode.ROUTE_TYPES[spec["type"]],
    )
    assert found.get_attr("RTA_TABLE") == spec["table"] and (found.get_attr("RTA_PRIORITY") or 0) == spec["metric"]
    assert found.get_attr("RTA_OIF") == (oif if spec["dev"] else None)
    for name, option in (("RTA_GATEWAY", "via"), ("RTA_PREFSRC", "src")):
        written = found.get_attr(name)
        assert (written and ipaddress.ip_address(written)) == (spec[option] and ipaddress.ip_address(spec[option]))
    (ours,) = decode.routes(message.body, 0, len(message.body)) or ()
    expected = (
        spec["prefix"],
        spec["type"],
        spec["via"],
        oif if spec["dev"] else 0,
        spec["src"],
        spec["metric"],
        spec["table"],
    )
    assert ours[:7] == expected and ours.protocol == spec["protocol"]
    removal = theirs(encode.remove_route(spec))
    assert (removal["scope"], removal["type"], removal["proto"]) == (255, 0, spec["protocol"])


@given(st.one_of(IPV4_ADDRESSES, IPV6_ADDRESSES), st.integers(1, 2**32 - 1), st.integers(1, 32765), st.integers(0, 255))
def test_rule(ip: str, table: int, priority: int, protocol: int) -> None:
    source = f"{ip}/{128 if ':' in ip else 32}"
    spec: Any = {
        "netns": "",
        "link": "eth0",
        "source": source,
        "table": table,
        "priority": priority,
        "protocol": protocol,
    }
    message = encode.create_rule(spec)
    found = theirs(message)
    assert (found["family"], found["src_len"], found["dst_len"], found["action"], found["tos"]) == (
        socket.AF_INET6 if ":" in ip else socket.AF_INET, int(source.partition("/")[2]), 0, 1, 0
    )  # fmt: skip
    assert ipaddress.ip_address(found.get_attr("FRA_SRC")) == ipaddress.ip_address(ip)
    attributes = [found.get_attr(name) for name in ("FRA_TABLE", "FRA_PRIORITY", "FRA_PROTOCOL")]
    assert attributes == [table, priority, protocol]
    assert decode.rule(message.body, 0, len(message.body)) == (source, table, priority, protocol)
    assert theirs(encode.remove_rule(spec)).get_attr("FRA_PROTOCOL") == protocol
    narrower = message.body + encode.attribute(encode.FRA_IIFNAME, b"eth0\0")
    assert decode.rule(narrower, 0, len(narrower)) == ("", table, priority, protocol)
    assert theirs(encode.all_rules())["family"] == 0


@given(
    st.sampled_from(["ingress", "egress"]),
    st.integers(1000, 10**12 // 8),
    st.integers(1, 2**32 - 1),
    st.integers(1, 2**31 - 1),
)
def test_rate(direction: Any, octets: int, asked: int, index: int) -> None:
    burst = rates.burst_of(octets * 8, rates.ticks(octets * 8, min(asked, rates.largest_burst(octets * 8))))
    assert rates.burst_of(octets * 8, rates.ticks(octets * 8, burst)) == burst, "what is read back is what was wanted"
    limit = rates.queue(direction, octets * 8, burst)
    spec: Any = {
        "netns": "",
        "link": "eth0",
        "direction": direction,
        "rate": octets * 8,
        "burst": burst,
        "limit": limit,
    }
    low, ticks = min(octets, 2**32 - 1), rates.ticks(octets * 8, burst)
    if direction == "egress":
        message = tc.create_shaper(spec, index)
        found = theirs(message)
        assert (found["index"], found["handle"], found["parent"]) == (index, 0x1F550000, 0xFFFFFFFF)
        assert found.get_attr("TCA_KIND") == "tbf"
        parameters = found.get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS")
        assert (parameters["rate"], parameters["buffer"], parameters["limit"]) == (low, ticks, limit)
        shaper = tc.qdisc(message.body, 0, len(message.body))
        assert shaper == (index, 0x1F550000, 0xFFFFFFFF, "tbf", octets * 8, burst, limit)
        assert (
            message.flags == rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL and tc.change_shaper(spec, index).flags == 0
        )
        return
    message = tc.create_policer(spec, index)
    found = theirs(message)
    assert (found["index"], found["handle"], found["parent"], found["info"]) == (
        index,
        8021,
        0xFFFF0000,
        8021 << 16 | 0x0300,
    )
    assert found.get_attr("TCA_KIND") == "matchall"
    (action,) = [row for _name, row in listed(found.get_attr("TCA_OPTIONS").get_attr("TCA_MATCHALL_ACT"))]
    parameters = action.get_attr("TCA_ACT_OPTIONS").get_attr("TCA_POLICE_TBF")
    assert action.get_attr("TCA_ACT_KIND") == "police"
    assert (parameters["rate"], parameters["burst"], parameters["action"]) == (low, ticks, 2)
    policer = tc.policer(message.body, 0, len(message.body))
    assert policer == (8021, 8021, "matchall", octets * 8, burst) and policer.is_marked


def test_what_takes_a_rate_away_names_ours_alone() -> None:
    found = theirs(tc.remove_shaper(3))
    assert (found["index"], found["handle"], found["parent"]) == (3, 0x1F550000, 0xFFFFFFFF)
    found = theirs(tc.remove_policer(3))
    assert (found["handle"], found["info"] >> 16, found.get_attr("TCA_KIND")) == (8021, 8021, "matchall")
    found = theirs(tc.remove_ingress(3))
    assert (found["index"], found["parent"], theirs(tc.create_ingress(3)).get_attr("TCA_KIND")) == (
        3,
        0xFFFFFFF1,
        "ingress",
    )


def test_the_namespace_of_a_descriptor() -> None:
    assert theirs(encode.get_nsid(5)).get_attr("NETNSA_FD") == 5
    numbering = theirs(encode.number_namespace(5)._replace(type=encode.get_nsid(5).type))  # it reads no RTM_NEWNSID
    assert (numbering.get_attr("NETNSA_FD"), numbering.get_attr("NETNSA_NSID")) == (5, 0xFFFFFFFF)


def test_what_is_in_a_namespace_that_is_known_by_its_number() -> None:
    assert theirs(encode.remove_link(7, 3)).get_attr("IFLA_IF_NETNSID") == 3
    assert theirs(encode.all_addresses(3)).get_attr("IFA_TARGET_NETNSID") == "\x03"  # it takes it for a string


# --- the socket ----------------------------------------------------------------------------------


def test_every_link_of_this_machine_is_read_as_pyroute2_does() -> None:
    expected: Dict[int, Any] = {}

    def collect(data: bytes, start: int, end: int) -> Optional[Tuple[Link, Any]]:
        message = ifinfmsg(data[start - 16 : end])
        message.decode()
        return decode.link(data, start, end), message

    with Socket() as kernel:
        for ours, message in kernel.dump(encode.all_links(), collect):
            expected[ours.index] = message
            assert ours.index == message["index"] and ours.up == bool(message["flags"] & 1)
            assert ours.name == message.get_attr("IFLA_IFNAME") and ours.mtu == message.get_attr("IFLA_MTU")
            assert ours.mac == (message.get_attr("IFLA_ADDRESS") or "") and ours.group == message.get_attr("IFLA_GROUP")
            conf = dict(listed(message.get_attr("IFLA_AF_SPEC")))["AF_INET"]
            assert ours.conf4 is not None and ours.conf4[IPV4["rp_filter"] - 1] == conf["rp_filter"]
    assert expected


def test_questions_are_answered_in_their_order() -> None:
    with Socket() as kernel:
        answers = kernel.ask(
            [encode.get_link("lo"), encode.get_link("no-such-link"), *[encode.get_link(1)] * 50],
            decode.index,
        )
    assert answers == [1, None, *[1] * 50]


def test_each_error_is_reported_by_the_place_of_its_message() -> None:
    bad = Message(250, 0, b"")
    with Socket() as kernel:
        assert kernel.batch([]) == []
        failures = kernel.batch([bad] * 300)
        assert [failure.position for failure in failures] == list(range(300))
        assert {failure.errno for failure in failures} <= {errno.EOPNOTSUPP, errno.EPERM}
        with pytest.raises(errors.NetlinkError) as caught:
            kernel.request(bad)
    assert os.strerror(caught.value.errno) in str(caught.value)


def test_chunks_stay_below_what_one_send_takes() -> None:
    big = Message(250, 0, bytes(60_000))
    with Socket() as kernel:
        assert [failure.position for failure in kernel.batch([big] * 5)] == [0, 1, 2, 3, 4]


class _Canned(Socket):
    """A kernel that answers as the test wants."""

    def __init__(self, datagrams: List[bytes]) -> None:
        self._sequence = 0
        self.datagrams = datagrams

    def _send(self, messages: Any, flags: int, last_flags: int) -> int:
        self._sequence += len(messages)
        return self._sequence - len(messages) + 1

    def _receive(self) -> bytes:
        return self.datagrams.pop(0)


def _done(sequence: int, flags: int = 0) -> bytes:
    return rtnetlink.HEADER.pack(20, 3, 2 | flags, sequence, 0) + b"\0\0\0\0"


def test_a_dump_that_was_disturbed_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    link = encode.create_link({"kind": "dummy", "name": "d0"}, "d0", 0, 0).body
    part = [
        rtnetlink.HEADER.pack(16 + len(link), 16, 2 | flags, sequence, 0) + link
        for sequence, flags in ((1, 0x10), (2, 0), (3, 0))
    ]
    kernel = _Canned([part[0], _done(1), part[1], _done(2, 0x10), part[2] + _done(3)])
    assert [link.name for link in kernel.dump(encode.all_links(), decode.link)] == ["d0"]
    monkeypatch.setattr(rtnetlink, "_DUMP_SECONDS", 0.1)
    endless = _Canned([_done(sequence, 0x10) for sequence in range(1, 100)])
    with pytest.raises(errors.AnswersLost):
        endless.dump(encode.all_links(), decode.link)


def test_answers_that_do_not_fit_are_not_taken_for_success() -> None:
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with Socket() as kernel, ours, other:
        kernel.close()
        kernel._socket = ours
        ours.settimeout(0)
        with pytest.raises(errors.AnswersLost):
            kernel.batch([encode.get_link("lo")])


def test_the_text_of_an_error() -> None:
    text = b"8021q: VLAN device already exists\0"
    tlv = struct.pack("=HH", 4 + len(text), 1) + text + b"\0" * (-len(text) % 4)
    for flags, echo in (
        (0x300, bytes(16)),
        (0x200, rtnetlink.HEADER.pack(40, 16, 0, 1, 0) + bytes(24)),
    ):
        body = struct.pack("=i", -errno.EEXIST) + echo + tlv
        error = rtnetlink.HEADER.pack(16 + len(body), 2, flags, 1, 0) + body
        (failure,) = _Canned([error]).batch([Message(16, 0, b"")])
        assert failure == (0, errno.EEXIST, text[:-1].decode())


def test_importing_takes_nothing_but_python() -> None:
    """A target has nothing else, and check mode needs nothing else."""
    import subprocess
    import sys

    engine = os.path.dirname(os.path.dirname(decode.__file__))
    program = (
        "import _engine.kernel.observe, _engine.kernel.apply, sys;"
        "print([name for name in ('pyroute2', 'http', 'subprocess') if name in sys.modules])"
    )
    with tempfile.TemporaryDirectory() as place:
        os.symlink(engine, os.path.join(place, "_engine"))
        done = subprocess.run(
            [sys.executable, "-Sc", program],
            env={"PYTHONPATH": place},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "[]"


def test_a_dump_beside_mass_changes_is_taken_again_for_seconds_not_for_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    kernel = _Canned([_done(sequence, 0x10) for sequence in range(1, 41)] + [_done(41)])
    assert kernel.dump(encode.all_links(), decode.link) == []
    assert 5 < now[0] < 20
