# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for rtnetlink: what a link, address or route shall be, in the kernel's words.

Specs are those of ``world``. Numbers are those of include/uapi/linux/if_link.h, if_addr.h,
if_vlan.h and rtnetlink.h. Every body ends on a multiple of four bytes.
"""

from __future__ import annotations

import socket
import struct
from typing import Dict, Iterable, Mapping, Optional, Tuple

from . import rtnetlink as nl
from .isolation import IPV4
from .rtnetlink import Message
from .world import PROTOCOL, Spec

IFF_UP = 1
IFA_F_SECONDARY, IFA_F_NODAD = 0x01, 0x02
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 26, 27, 28, 29
IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS, IFLA_PARENT_DEV_NAME = (
    37,
    52,
    53,
    54,
    56,
)
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_INET_CONF = 1
IFLA_INET6_CONF, IFLA_INET6_ADDR_GEN_MODE = 2, 8
RTEXT_FILTER_SKIP_STATS = 8

IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS, IFLA_VLAN_PROTOCOL = (
    1,
    2,
    3,
    4,
    5,
)
IFLA_VLAN_QOS_MAPPING = 1
IFLA_MACVLAN_MODE, IFLA_MACVLAN_BC_QUEUE_LEN, IFLA_MACVLAN_BC_CUTOFF = 1, 7, 9
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_VRF_TABLE = 1

IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS, IFA_PROTO = 1, 2, 8, 11
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = (
    1,
    4,
    5,
    6,
    7,
    9,
    15,
    18,
)
NETNSA_NSID, NETNSA_FD = 1, 3

VLAN_FLAGS = {"reorder_headers": 0x1, "gvrp": 0x2, "loose_binding": 0x4, "mvrp": 0x8}
VLAN_PROTOCOLS = {"802.1q": 0x8100, "802.1ad": 0x88A8}
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
ROUTE_TYPES = {
    "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5,
    "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9, "nat": 10,
}  # fmt: skip

#: The options of each kind, and which of them the kernel changes in place (kernel facts, 9).
CHANGEABLE = {
    "vlan": frozenset((*VLAN_FLAGS, "ingress_qos_map", "egress_qos_map")),
    "macvlan": frozenset(("mode", "bcqueuelen", "bclim")),
    "ipvlan": frozenset(("mode", "flag")),
}

IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct(
    "=BBBBBBBBI"
)  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_U8 = struct.Struct("=HHBxxx")
_U16 = struct.Struct("=HHHxx")
_U16_BIG = struct.Struct(">Hxx")
_U32 = struct.Struct("=HHI")
_S32 = struct.Struct("=HHi")
_PAIR = struct.Struct("=HHII")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_NESTED = 0x8000  # NLA_F_NESTED, asked for by the younger parsers only


def attribute(kind: int, payload: bytes) -> bytes:
    length = len(payload) + 4
    return nl.ATTRIBUTE.pack(length, kind) + payload + _PADDING[length & 3]


def u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def _u16(kind: int, value: int) -> bytes:
    return _U16.pack(6, kind, value)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def packed_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# --- links ---------------------------------------------------------------------------------------


def create_link(
    spec: Spec, name: str, parent: int, group: int, netns: Optional[int] = None
) -> Message:
    """A link that is down. ``parent`` is an ifindex or 0, ``netns`` a descriptor of where it shall
    be.

    EXCL always: without it the kernel would change, or move, a link that has the name (kernel
    facts, S3).
    """
    parts = [IFINFOMSG.pack(0, 0, 0, 0, 0), _text(IFLA_IFNAME, name), u32(IFLA_GROUP, group)]
    if parent:
        parts.append(u32(IFLA_LINK, parent))
    if netns is not None:
        parts.append(u32(IFLA_NET_NS_FD, netns))
    if spec.get("mtu"):
        parts.append(u32(IFLA_MTU, spec["mtu"]))
    if spec.get("mac"):
        parts.append(attribute(IFLA_ADDRESS, packed_mac(spec["mac"])))
    parts.append(_link_info(spec["kind"], kind_data(spec["kind"], spec)))
    return Message(nl.RTM_NEWLINK, nl.NLM_F_CREATE | nl.NLM_F_EXCL, b"".join(parts))


def change_link(link: int | str, *attributes: bytes, up: Optional[bool] = None) -> Message:
    """Changes of one link, by ifindex or by name."""
    index, name = (link, b"") if isinstance(link, int) else (0, _text(IFLA_IFNAME, link))
    head = IFINFOMSG.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    return Message(nl.RTM_NEWLINK, 0, head + name + b"".join(attributes))


def change_group(group: int, *attributes: bytes, up: Optional[bool] = None) -> Message:
    """Changes of all links of a group in the socket's namespace.

    Never group 0: it holds lo and every NIC.
    """
    _one_of_its_own(group)
    head = IFINFOMSG.pack(0, 0, 0, IFF_UP if up else 0, 0 if up is None else IFF_UP)
    return Message(nl.RTM_NEWLINK, 0, head + u32(IFLA_GROUP, group) + b"".join(attributes))


def _one_of_its_own(group: int) -> None:
    if group <= 0:
        raise ValueError("group 0 holds everything that nobody put into another")


def remove_link(index: int) -> Message:
    if index <= 0:
        raise ValueError("without an index the kernel looks for another selector")
    return Message(nl.RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, index, 0, 0))


def remove_group(group: int) -> Message:
    _one_of_its_own(group)
    return Message(nl.RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(IFLA_GROUP, group))


def alternative_names(link: int | str, names: Iterable[str], add: bool) -> Message:
    index, name = (link, b"") if isinstance(link, int) else (0, _text(IFLA_IFNAME, link))
    listed = b"".join(_text(IFLA_ALT_IFNAME, alternative) for alternative in names)
    body = IFINFOMSG.pack(0, 0, index, 0, 0) + name + attribute(IFLA_PROP_LIST | _NESTED, listed)
    if add:
        return Message(nl.RTM_NEWLINKPROP, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body)
    return Message(nl.RTM_DELLINKPROP, 0, body)


def get_link(link: int | str) -> Message:
    index, name = (link, b"") if isinstance(link, int) else (0, _text(IFLA_IFNAME, link))
    body = IFINFOMSG.pack(0, 0, index, 0, 0) + name + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Message(nl.RTM_GETLINK, 0, body)


def all_links() -> Message:
    return Message(
        nl.RTM_GETLINK,
        0,
        IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS),
    )


def link_attribute(option: str, value: int | str) -> bytes:
    """``name``, ``group``, ``mtu`` or ``mac`` for change_link."""
    if option == "name":
        return _text(IFLA_IFNAME, str(value))
    if option == "mac":
        return attribute(IFLA_ADDRESS, packed_mac(str(value)))
    return u32({"group": IFLA_GROUP, "mtu": IFLA_MTU}[option], int(value))


def interface_settings(ipv4: Mapping[str, int], genmode: Optional[int]) -> bytes:
    """IPv4 sysctls by name and IPv6 address generation (IN6_ADDR_GEN_MODE_*), as IFLA_AF_SPEC."""
    families = b""
    if ipv4:
        conf = b"".join(_S32.pack(8, IPV4[name], value) for name, value in ipv4.items())
        families += attribute(socket.AF_INET | _NESTED, attribute(IFLA_INET_CONF | _NESTED, conf))
    if genmode is not None:
        families += attribute(
            socket.AF_INET6 | _NESTED, _U8.pack(5, IFLA_INET6_ADDR_GEN_MODE, genmode)
        )
    return attribute(IFLA_AF_SPEC, families) if families else b""


def kind_change(kind: str, after: Spec, before: Spec) -> bytes:
    """Changed options of a kind, as IFLA_LINKINFO.

    Mappings that are not wanted any more are set to 0, which removes them.
    """
    maps: Spec = {
        option: {**dict.fromkeys(before.get(option) or (), 0), **after[option]}
        for option in ("ingress_qos_map", "egress_qos_map")
        if option in after
    }
    return _link_info(kind, kind_data(kind, {**after, **maps}))


def _link_info(kind: str, data: bytes) -> bytes:
    info = _text(IFLA_INFO_KIND, kind)
    return attribute(IFLA_LINKINFO, info + attribute(IFLA_INFO_DATA, data) if data else info)


def kind_data(kind: str, spec: Spec) -> bytes:
    """The options of a kind that a spec gives, as the payload of IFLA_INFO_DATA."""
    if kind == "vlan":
        return _vlan_data(spec)
    parts = []
    if kind == "macvlan":
        if "mode" in spec:
            parts.append(u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[spec["mode"]]))
        if spec.get("bcqueuelen") is not None:
            parts.append(u32(IFLA_MACVLAN_BC_QUEUE_LEN, spec["bcqueuelen"]))
        if spec.get("bclim") is not None:
            parts.append(_S32.pack(8, IFLA_MACVLAN_BC_CUTOFF, spec["bclim"]))
    elif kind == "ipvlan":
        if "mode" in spec:
            parts.append(_u16(IFLA_IPVLAN_MODE, IPVLAN_MODES[spec["mode"]]))
        if "flag" in spec:
            parts.append(_u16(IFLA_IPVLAN_FLAGS, IPVLAN_FLAGS[spec["flag"]]))
    return b"".join(parts)


def _vlan_data(spec: Spec) -> bytes:
    data = b""
    if "vlan_id" in spec:
        data = _u16(IFLA_VLAN_ID, spec["vlan_id"])
    if "protocol" in spec:
        data += nl.ATTRIBUTE.pack(6, IFLA_VLAN_PROTOCOL) + _U16_BIG.pack(
            VLAN_PROTOCOLS[spec["protocol"]]
        )
    flags = mask = 0
    for option, bit in VLAN_FLAGS.items():
        if option in spec:
            mask |= bit
            flags |= bit if spec[option] else 0
    if mask:
        data += _PAIR.pack(12, IFLA_VLAN_FLAGS, flags, mask)
    for option, kind in (
        ("egress_qos_map", IFLA_VLAN_EGRESS_QOS),
        ("ingress_qos_map", IFLA_VLAN_INGRESS_QOS),
    ):
        if spec.get(option):
            data += attribute(kind, _qos_map(spec[option]))
    return data


def _qos_map(mapping: Dict[str, int]) -> bytes:
    return b"".join(
        _PAIR.pack(12, IFLA_VLAN_QOS_MAPPING, int(start), to) for start, to in mapping.items()
    )


# --- addresses, routes, namespaces ---------------------------------------------------------------


def packed_address(text: str) -> Tuple[int, bytes]:
    """The family and the bytes of an address without prefix length."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def _packed_prefix(text: str) -> Tuple[int, bytes, int]:
    address, _rest, length = text.partition("/")
    return (*packed_address(address), int(length))


def _address(address: str, index: int, extra: bytes = b"") -> bytes:
    family, packed, length = _packed_prefix(address)
    body = IFADDRMSG.pack(family, length, 0, RT_SCOPE_UNIVERSE, index) + attribute(
        IFA_LOCAL, packed
    )
    return body + attribute(IFA_ADDRESS, packed) + extra


def create_address(address: str, index: int) -> Message:
    """Marked as ours; IPv6 without duplicate detection, which makes it unusable for a second."""
    extra = _U8.pack(5, IFA_PROTO, PROTOCOL)
    if ":" in address:
        extra += u32(IFA_FLAGS, IFA_F_NODAD)
    return Message(nl.RTM_NEWADDR, nl.NLM_F_CREATE | nl.NLM_F_EXCL, _address(address, index, extra))


def remove_address(address: str, index: int) -> Message:
    return Message(nl.RTM_DELADDR, 0, _address(address, index))


def all_addresses() -> Message:
    return Message(nl.RTM_GETADDR, 0, IFADDRMSG.pack(0, 0, 0, 0, 0))


def create_route(spec: Spec, oif: int, replace: bool = False) -> Message:
    """A route as its spec says, ``oif`` the ifindex of its device or 0."""
    scope = RT_SCOPE_UNIVERSE
    if spec["type"] == "unicast" and not spec.get("via") and ":" not in spec["prefix"]:
        scope = RT_SCOPE_LINK
    body = _route(spec, scope, ROUTE_TYPES[spec["type"]])
    if oif:
        body += u32(RTA_OIF, oif)
    if spec.get("via"):
        body += attribute(RTA_GATEWAY, packed_address(spec["via"])[1])
    if spec.get("src"):
        body += attribute(RTA_PREFSRC, packed_address(spec["src"])[1])
    return Message(
        nl.RTM_NEWROUTE, nl.NLM_F_CREATE | (nl.NLM_F_REPLACE if replace else nl.NLM_F_EXCL), body
    )


def remove_route(spec: Spec) -> Message:
    """Of the spec's protocol only, whatever its scope, type and next hop have become."""
    return Message(nl.RTM_DELROUTE, 0, _route(spec, RT_SCOPE_NOWHERE, 0))


def _route(spec: Spec, scope: int, kind: int) -> bytes:
    family, packed, length = _packed_prefix(spec["prefix"])
    # A table above 255 stands in RTA_TABLE only.
    body = RTMSG.pack(family, length, 0, 0, 0, spec["protocol"], scope, kind, 0) + u32(
        RTA_TABLE, spec["table"]
    )
    if length:
        body += attribute(RTA_DST, packed)
    return body + u32(RTA_PRIORITY, spec["metric"]) if spec["metric"] else body


def all_routes() -> Message:
    """Of both families and every table."""
    return Message(nl.RTM_GETROUTE, 0, RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def get_nsid(netns: int) -> Message:
    """What a namespace (a descriptor) is called in the socket's namespace."""
    return Message(nl.RTM_GETNSID, 0, b"\0\0\0\0" + u32(NETNSA_FD, netns))
