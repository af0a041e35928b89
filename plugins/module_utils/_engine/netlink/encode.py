# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for rtnetlink: a link, address, route or rule in the kernel's encoding.

Specs are those of ``world``. Numbers are those of include/uapi/linux/if_link.h, if_addr.h,
if_vlan.h and rtnetlink.h. Every body ends on a multiple of four bytes.
"""

from __future__ import annotations

import socket
import struct
from typing import Dict, Iterable, List, Mapping, Optional, Tuple, cast

from ..core.change import PROTOCOL
from ..core.isolation import IPV4
from ..core.route_specs import MAIN_TABLE, RTPROT_DHCP, RouteSpec, RuleSpec
from ..core.specs import LinkSpec
from ..core.state import RTPROT_KERNEL
from . import rtnetlink as nl
from .rtnetlink import Message

IFF_UP = 1
IFF_NOARP = 0x80
IFA_F_NODAD = 0x02
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 26, 27, 28, 29
IFLA_PHYS_PORT_ID, IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME, IFLA_PERM_ADDRESS = 36, 37, 52, 53, 54
IFLA_TARGET_NETNSID = 46
IFLA_PARENT_DEV_NAME, IFLA_PARENT_DEV_BUS_NAME = 56, 57
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_INET_CONF = 1
IFLA_INET6_CONF, IFLA_INET6_CACHEINFO, IFLA_INET6_ADDR_GEN_MODE = 2, 5, 8
RTEXT_FILTER_BRVLAN_COMPRESSED, RTEXT_FILTER_SKIP_STATS = 4, 8

IFLA_VLAN_ID, IFLA_VLAN_FLAGS, IFLA_VLAN_EGRESS_QOS, IFLA_VLAN_INGRESS_QOS, IFLA_VLAN_PROTOCOL = (
    1,
    2,
    3,
    4,
    5,
)
IFLA_VLAN_QOS_MAPPING = 1
IFLA_MACVLAN_MODE, IFLA_MACVLAN_FLAGS, IFLA_MACVLAN_MACADDR_MODE, IFLA_MACVLAN_MACADDR = 1, 2, 3, 4
IFLA_MACVLAN_MACADDR_DATA, IFLA_MACVLAN_BC_QUEUE_LEN, IFLA_MACVLAN_BC_CUTOFF = 5, 7, 9
MACVLAN_FLAG_NOPROMISC = 1
_MACVLAN_MACADDR_SET = 3
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_VRF_TABLE = 1
IFLA_BR_VLAN_FILTERING = 7
IFLA_BRIDGE_VLAN_INFO = 2
_AF_BRIDGE = 7

IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_TARGET_NETNSID, IFA_PROTO = 1, 2, 6, 8, 9, 10, 11
RTA_METRICS, RTAX_MTU = 8, 2
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
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_PRIORITY, FRA_FWMARK, FRA_TUN_ID = 1, 2, 3, 6, 10, 12
FRA_SUPPRESS_IFGROUP, FRA_TABLE, FRA_OIFNAME, FRA_L3MDEV, FRA_UID_RANGE, FRA_PROTOCOL = 13, 15, 17, 19, 20, 21
FRA_IP_PROTO, FRA_SPORT_RANGE, FRA_DPORT_RANGE, FRA_DSCP = 22, 23, 24, 25
FR_ACT_TO_TBL = 1
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
    "macvlan": frozenset(("mode", "bcqueuelen", "bclim", "source_macs", "nopromisc")),
    "ipvlan": frozenset(("mode", "flag")),
}
CHANGEABLE["macvtap"] = CHANGEABLE["macvlan"]

IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
RULE = struct.Struct("=BBBBBxxBI")  # struct fib_rule_hdr: family, dst_len, src_len, tos, table, action, flags
_U8 = struct.Struct("=HHBxxx")
_U16 = struct.Struct("=HHHxx")
_U16_BIG = struct.Struct(">Hxx")
_U32 = struct.Struct("=HHI")
_S32 = struct.Struct("=HHi")
_PAIR = struct.Struct("=HHII")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_NESTED = 0x8000  # NLA_F_NESTED, asked for by the younger parsers only


def attribute(kind: int, payload: bytes) -> bytes:
    """A struct rtattr with its payload, padded to four bytes."""
    length = len(payload) + 4
    return nl.ATTRIBUTE.pack(length, kind) + payload + _PADDING[length & 3]


def u32(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return _U32.pack(8, kind, value)


def _u16(kind: int, value: int) -> bytes:
    return _U16.pack(6, kind, value)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def packed_mac(mac: str) -> bytes:
    """The six bytes of a MAC address."""
    return bytes.fromhex(mac.replace(":", ""))


# --- links ---------------------------------------------------------------------------------------


def create_link(spec: LinkSpec, name: str, parent: int, group: int, netns: Optional[int] = None) -> Message:
    """A link that is down. ``parent`` is an ifindex or 0, ``netns`` a descriptor of where it will
    be.

    EXCL always: without it the kernel would change, or move, a link that has the name (kernel
    facts, S3).
    """
    parts = [IFINFOMSG.pack(0, 0, 0, 0, 0), _text(IFLA_IFNAME, name), u32(IFLA_GROUP, group)]
    if parent:
        parts.append(u32(IFLA_LINK, parent))
    if netns is not None:
        parts.append(u32(IFLA_NET_NS_FD, netns))
    mtu = spec.get("mtu")
    if mtu:
        parts.append(u32(IFLA_MTU, mtu))
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
        raise ValueError("group 0 holds every link without a group")


def _target(kind: int, nsid: Optional[int]) -> bytes:
    """The attribute that says by its number which namespace is meant, where that is not the socket's."""
    return b"" if nsid is None else u32(kind, nsid)


def remove_link(index: int, nsid: Optional[int] = None) -> Message:
    """A link of the socket's namespace, or of one that has a number there."""
    if index <= 0:
        raise ValueError("without an index the kernel uses another selector")
    body = IFINFOMSG.pack(0, 0, index, 0, 0)
    return Message(nl.RTM_DELLINK, 0, body + _target(IFLA_TARGET_NETNSID, nsid))


def remove_group(group: int) -> Message:
    """Remove all links of a group by one message. Raises ValueError for group 0, in which all others are."""
    _one_of_its_own(group)
    return Message(nl.RTM_DELLINK, 0, IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(IFLA_GROUP, group))


def alternative_names(link: int | str, names: Iterable[str], add: bool) -> Message:
    """Add or remove alternative names of a link, which is given by its ifindex or its name."""
    index, name = (link, b"") if isinstance(link, int) else (0, _text(IFLA_IFNAME, link))
    listed = b"".join(_text(IFLA_ALT_IFNAME, alternative) for alternative in names)
    body = IFINFOMSG.pack(0, 0, index, 0, 0) + name + attribute(IFLA_PROP_LIST | _NESTED, listed)
    if add:
        return Message(nl.RTM_NEWLINKPROP, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body)
    return Message(nl.RTM_DELLINKPROP, 0, body)


def get_link(link: int | str) -> Message:
    """Ask for one link, by its ifindex or its name, without statistics."""
    index, name = (link, b"") if isinstance(link, int) else (0, _text(IFLA_IFNAME, link))
    body = IFINFOMSG.pack(0, 0, index, 0, 0) + name + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Message(nl.RTM_GETLINK, 0, body)


def all_links(nsid: Optional[int] = None) -> Message:
    """Of the socket's namespace, or of one that has a number there."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    return Message(nl.RTM_GETLINK, 0, body + _target(IFLA_TARGET_NETNSID, nsid))


def bridge_vlans() -> Message:
    """Of every bridge and every port of one: the VLANs that it lets in."""
    body = IFINFOMSG.pack(_AF_BRIDGE, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED)
    return Message(nl.RTM_GETLINK, 0, body)


def link_attribute(option: str, value: int | str) -> bytes:
    """``name``, ``alias``, ``group``, ``mtu`` or ``mac`` for change_link."""
    if option in ("name", "alias"):
        return _text(IFLA_IFNAME if option == "name" else IFLA_IFALIAS, str(value))
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
        families += attribute(socket.AF_INET6 | _NESTED, _U8.pack(5, IFLA_INET6_ADDR_GEN_MODE, genmode))
    return attribute(IFLA_AF_SPEC, families) if families else b""


def kind_change(kind: str, after: LinkSpec, before: LinkSpec) -> bytes:
    """Changed options of a kind, as IFLA_LINKINFO.

    Mappings that are not wanted any more are set to 0, which removes them.
    """
    changed = after.copy()
    if "ingress_qos_map" in after:
        changed["ingress_qos_map"] = {
            **dict.fromkeys(before.get("ingress_qos_map") or (), 0),
            **after["ingress_qos_map"],
        }
    if "egress_qos_map" in after:
        changed["egress_qos_map"] = {**dict.fromkeys(before.get("egress_qos_map") or (), 0), **after["egress_qos_map"]}
    return _link_info(kind, kind_data(kind, changed))


def _link_info(kind: str, data: bytes) -> bytes:
    info = _text(IFLA_INFO_KIND, kind)
    return attribute(IFLA_LINKINFO, info + attribute(IFLA_INFO_DATA, data) if data else info)


def kind_data(kind: str, spec: LinkSpec) -> bytes:
    """The options of a kind that a spec gives, as the payload of IFLA_INFO_DATA."""
    if kind == "vlan":
        return _vlan_data(spec)
    if kind in ("macvlan", "macvtap"):
        return _macvlan_data(spec)
    parts = []
    if kind == "ipvlan":
        if "mode" in spec:
            parts.append(_u16(IFLA_IPVLAN_MODE, IPVLAN_MODES[spec["mode"]]))
        if "flag" in spec:
            parts.append(_u16(IFLA_IPVLAN_FLAGS, IPVLAN_FLAGS[spec["flag"]]))
    return b"".join(parts)


def _macvlan_data(spec: LinkSpec) -> bytes:
    parts = []
    if "mode" in spec:
        parts.append(u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[spec["mode"]]))
    if "nopromisc" in spec:
        parts.append(_u16(IFLA_MACVLAN_FLAGS, MACVLAN_FLAG_NOPROMISC if spec["nopromisc"] else 0))
    if spec.get("bcqueuelen") is not None:
        parts.append(u32(IFLA_MACVLAN_BC_QUEUE_LEN, spec["bcqueuelen"]))
    if spec.get("bclim") is not None:
        parts.append(_S32.pack(8, IFLA_MACVLAN_BC_CUTOFF, spec["bclim"]))
    if "source_macs" in spec and spec.get("mode", "source") == "source":  # another mode has no list, and takes none
        listed = b"".join(attribute(IFLA_MACVLAN_MACADDR, packed_mac(mac)) for mac in spec["source_macs"])
        parts.append(u32(IFLA_MACVLAN_MACADDR_MODE, _MACVLAN_MACADDR_SET))
        parts.append(attribute(IFLA_MACVLAN_MACADDR_DATA, listed))
    return b"".join(parts)


def _vlan_data(spec: LinkSpec) -> bytes:
    data = b""
    if "vlan_id" in spec:
        data = _u16(IFLA_VLAN_ID, spec["vlan_id"])
    if "protocol" in spec:
        data += nl.ATTRIBUTE.pack(6, IFLA_VLAN_PROTOCOL) + _U16_BIG.pack(VLAN_PROTOCOLS[spec["protocol"]])
    flags = mask = 0
    options: Mapping[str, object] = spec
    for option, bit in VLAN_FLAGS.items():
        if option in options:
            mask |= bit
            flags |= bit if options[option] else 0
    if mask:
        data += _PAIR.pack(12, IFLA_VLAN_FLAGS, flags, mask)
    maps = (
        (IFLA_VLAN_EGRESS_QOS, spec.get("egress_qos_map")),
        (IFLA_VLAN_INGRESS_QOS, spec.get("ingress_qos_map")),
    )
    for kind, wanted in maps:
        if wanted:
            data += attribute(kind, _qos_map(wanted))
    return data


def _qos_map(mapping: Dict[str, int]) -> bytes:
    return b"".join(_PAIR.pack(12, IFLA_VLAN_QOS_MAPPING, int(start), to) for start, to in mapping.items())


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
    body = IFADDRMSG.pack(family, length, 0, RT_SCOPE_UNIVERSE, index) + attribute(IFA_LOCAL, packed)
    return body + attribute(IFA_ADDRESS, packed) + extra


def create_address(address: str, index: int) -> Message:
    """Marked as ours; IPv6 without duplicate detection, which makes it unusable for a second."""
    return Message(nl.RTM_NEWADDR, nl.NLM_F_CREATE | nl.NLM_F_EXCL, _address(address, index, _of_ours(address)))


def connect_address(address: str, index: int) -> List[Message]:
    """Have the kernel make the connected route of an address again, which stays as it is, as do the routes over its link.

    IPv6 makes it where it is missing, IPv4 where its metric changes: there and back (inet6_addr_modify, fib_modify_prefix_metric).
    """
    metrics = (0,) if ":" in address else (1, 0)
    bodies = (_address(address, index, _of_ours(address) + u32(IFA_RT_PRIORITY, metric)) for metric in metrics)
    return [Message(nl.RTM_NEWADDR, nl.NLM_F_REPLACE, body) for body in bodies]


def _of_ours(address: str) -> bytes:
    extra = _U8.pack(5, IFA_PROTO, PROTOCOL)
    return extra + u32(IFA_FLAGS, IFA_F_NODAD) if ":" in address else extra


def lease_address(address: str, index: int, seconds: int, preferred: int) -> Message:
    """An address with a lifetime, made or prolonged: the kernel removes it at its end. 2**32 - 1 seconds are forever."""
    extra = _U8.pack(5, IFA_PROTO, RTPROT_DHCP)
    extra += attribute(IFA_CACHEINFO, struct.pack("=IIII", preferred, seconds, 0, 0))
    return Message(nl.RTM_NEWADDR, nl.NLM_F_CREATE | nl.NLM_F_REPLACE, _address(address, index, extra))


def lease_route(prefix: str, via: Optional[str], oif: int, metric: int, mtu: Optional[int]) -> Message:
    """A route that a DHCP server gave, over the link of the lease; with ``mtu`` packets on it are no larger."""
    return _with_mtu(create_route(_of_lease(prefix, via, metric), oif), mtu)


def _with_mtu(message: Message, mtu: Optional[int]) -> Message:
    return message._replace(body=message.body + attribute(RTA_METRICS, u32(RTAX_MTU, mtu))) if mtu else message


def remove_lease_route(prefix: str, oif: int, metric: int) -> Message:
    """Of the lease's link only: another may have one of the same metric."""
    message = remove_route(_of_lease(prefix, None, metric))
    return message._replace(body=message.body + u32(RTA_OIF, oif))


def _of_lease(prefix: str, via: Optional[str], metric: int) -> RouteSpec:
    where = {"netns": "", "prefix": prefix, "table": MAIN_TABLE, "protocol": RTPROT_DHCP}
    return cast(RouteSpec, {**where, "type": "unicast", "via": via, "metric": metric})


def change_connected_route(prefix: str, source: str, oif: int, mtu: Optional[int]) -> Tuple[Message, Message]:
    """Have the kernel's route of an IPv4 address with another MTU: the new one behind the old one, which then goes.

    NLM_F_REPLACE would take the first of its prefix, whichever link that leads over.
    """
    spec = cast(RouteSpec, {**_of_lease(prefix, None, 0), "protocol": RTPROT_KERNEL, "src": source})
    new, old = create_route(spec, oif), remove_route(spec)
    return (
        _with_mtu(new._replace(flags=nl.NLM_F_CREATE | nl.NLM_F_APPEND), mtu),
        old._replace(body=old.body + u32(RTA_OIF, oif)),
    )


def remove_address(address: str, index: int) -> Message:
    """Remove an address, with its prefix length, of an ifindex."""
    return Message(nl.RTM_DELADDR, 0, _address(address, index))


def all_addresses(nsid: Optional[int] = None) -> Message:
    """Of the socket's namespace, or of one that has a number there."""
    body = IFADDRMSG.pack(0, 0, 0, 0, 0)
    return Message(nl.RTM_GETADDR, 0, body + _target(IFA_TARGET_NETNSID, nsid))


def create_route(spec: RouteSpec, oif: int, replace: bool = False) -> Message:
    """A route as its spec says, ``oif`` the ifindex of its device or 0."""
    scope = RT_SCOPE_UNIVERSE
    if spec["type"] == "unicast" and not spec.get("via") and ":" not in spec["prefix"]:
        scope = RT_SCOPE_LINK
    body = _route(spec, scope, ROUTE_TYPES[spec["type"]])
    if oif:
        body += u32(RTA_OIF, oif)
    via, source = spec.get("via"), spec.get("src")
    if via:
        body += attribute(RTA_GATEWAY, packed_address(via)[1])
    if source:
        body += attribute(RTA_PREFSRC, packed_address(source)[1])
    return Message(nl.RTM_NEWROUTE, nl.NLM_F_CREATE | (nl.NLM_F_REPLACE if replace else nl.NLM_F_EXCL), body)


def remove_route(spec: RouteSpec) -> Message:
    """Of the spec's protocol only, whatever its scope, type and next hop have become."""
    return Message(nl.RTM_DELROUTE, 0, _route(spec, RT_SCOPE_NOWHERE, 0))


def _route(spec: RouteSpec, scope: int, kind: int) -> bytes:
    family, packed, length = _packed_prefix(spec["prefix"])
    # A table above 255 stands in RTA_TABLE only.
    body = RTMSG.pack(family, length, 0, 0, 0, spec["protocol"], scope, kind, 0) + u32(RTA_TABLE, spec["table"])
    if length:
        body += attribute(RTA_DST, packed)
    return body + u32(RTA_PRIORITY, spec["metric"]) if spec["metric"] else body


def all_routes() -> Message:
    """Of both families and every table."""
    return Message(nl.RTM_GETROUTE, 0, RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))


def create_rule(spec: RuleSpec) -> Message:
    """Add a rule; one that is there already is an error (EEXIST)."""
    return Message(nl.RTM_NEWRULE, nl.NLM_F_CREATE | nl.NLM_F_EXCL, _rule(spec))


def remove_rule(spec: RuleSpec) -> Message:
    """Of the spec's protocol only."""
    return Message(nl.RTM_DELRULE, 0, _rule(spec))


def _rule(spec: RuleSpec) -> bytes:
    family, packed, length = _packed_prefix(spec["source"])
    body = RULE.pack(family, 0, length, 0, 0, FR_ACT_TO_TBL, 0) + attribute(FRA_SRC, packed)
    body += u32(FRA_PRIORITY, spec["priority"]) + u32(FRA_TABLE, spec["table"])
    return body + _U8.pack(5, FRA_PROTOCOL, spec["protocol"])


def all_rules() -> Message:
    """Of both families."""
    return Message(nl.RTM_GETRULE, 0, RULE.pack(0, 0, 0, 0, 0, 0, 0))


def all_nsids() -> Message:
    """The numbers of all namespaces that have one in the socket's."""
    return Message(nl.RTM_GETNSID, 0, b"\0\0\0\0")


def number_namespace(netns: int) -> Message:
    """Give a namespace a number in the socket's, the first free one. The kernel answers EEXIST where it has one."""
    return Message(nl.RTM_NEWNSID, 0, b"\0\0\0\0" + u32(NETNSA_NSID, 0xFFFFFFFF) + u32(NETNSA_FD, netns))


def get_nsid(netns: int) -> Message:
    """What a namespace (a descriptor) is called in the socket's namespace."""
    return Message(nl.RTM_GETNSID, 0, b"\0\0\0\0" + u32(NETNSA_FD, netns))
