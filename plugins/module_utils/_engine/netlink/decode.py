# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rtnetlink answers, as the data of ``core.state``.

Links are read by the thousand, so this is made to be quick.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from functools import lru_cache
from operator import itemgetter
from typing import Any, Callable, ClassVar, Dict, Iterable, Iterator, List, Optional, Set, Tuple, cast

from ..core.specs import KindOptions
from ..core.state import RTPROT_KERNEL, Address, Link, Route, Rule
from . import encode as nl
from .rtnetlink import attributes

#: IFLA_LINK of these kinds is the other end, not something below.
_PAIRS = ("veth", "vxcan", "netkit")
#: DEVCONF_ADDR_GEN_MODE: where IFLA_INET6_CONF repeats what RTEXT_FILTER_SKIP_STATS leaves out.
_DEVCONF_ADDR_GEN_MODE = 47
#: What the kernel does not mention: the default of IFLA_MACVLAN_BC_CUTOFF, and all there was before
#: 6.4.
_BC_CUTOFF = 1
_RTM_F_CLONED = 0x200
_OF_AN_ADDRESS = frozenset(nl.ROUTE_TYPES[name] for name in ("local", "broadcast", "anycast", "multicast"))
#: Of one length and first attribute. Where links are more motley than that, looking for a shape would cost more than it saves.
_MOST_SHAPES = 16
_shapes: Dict[Tuple[int, bytes], List[_LinkShape]] = {}
#: In what links of a shape may differ: the fields of state.Link, and IFLA_* of those that are an attribute.
_OWN = ("index", "name", "mac", "perm_mac", "parent", "data")
_OWN_ATTRIBUTES = {
    nl.IFLA_IFNAME: "name", nl.IFLA_ADDRESS: "mac", nl.IFLA_PERM_ADDRESS: "perm_mac", nl.IFLA_LINK: "parent",
}  # fmt: skip
_FORMATS = {"index": "i", "parent": "I", "vlan_id": "H"}  # all others are bytes
_FLAGS, _FIRST = 8, nl.IFINFOMSG.size  # where the lowest byte of ifi_flags is, and the header of the first attribute
_FLAGS_READ = nl.IFF_UP | nl.IFF_NOARP
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_U16 = struct.Struct("=H")
_PAIR = struct.Struct("=II")
_BRIDGE_VLAN = struct.Struct("=HH")  # struct bridge_vlan_info: flags, VLAN ID
_PVID, _RANGE_BEGIN, _RANGE_END = 2, 8, 16  # BRIDGE_VLAN_INFO_*

_VLAN_PROTOCOLS = {number: name for name, number in nl.VLAN_PROTOCOLS.items()}
_MACVLAN_MODES = {number: name for name, number in nl.MACVLAN_MODES.items()}
_IPVLAN_MODES = {number: name for name, number in nl.IPVLAN_MODES.items()}
_IPVLAN_FLAGS = {number: name for name, number in nl.IPVLAN_FLAGS.items()}
_ROUTE_TYPES = {number: name for name, number in nl.ROUTE_TYPES.items()}


def _number(payload: bytes) -> int:
    return int(_U32.unpack_from(payload)[0])


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("utf-8", "surrogateescape")


@lru_cache(maxsize=256)
def _conf(payload: bytes) -> Tuple[int, ...]:
    return struct.unpack(f"={len(payload) // 4}i", payload)


# --- links ---------------------------------------------------------------------------------------


def link(data: bytes, start: int, end: int) -> Link:
    """A link; ``parent_ns`` is None, or the nsid in it, which ``observe`` translates."""
    found: Optional[Link] = None
    shapes = _shapes.setdefault((end - start, data[start + _FIRST : start + _FIRST + 4]), [])
    for shape in shapes:
        found = shape.link(data, start)
        if found is not None:
            return found
    message = data[start:end]
    if len(shapes) < _MOST_SHAPES:
        shapes.append(_LinkShape(message))
        found = shapes[-1].link(message, 0)
    return found or _link(message)


class _ShapedLink(Link):
    """A link of a shape: what all of them have in common is in its class, and what it has of its own is decoded when asked for.

    Thousands have one shape, and decoding each of them attribute by attribute takes ten times as long.
    """

    own: Tuple[Any, ...]  # its part of the message, as the class has it in ``order``
    _shape: ClassVar[_LinkShape]

    def __getattr__(self, field: str) -> Any:
        if field not in _OWN:
            raise AttributeError(field)
        value = self._shape.decode(field, self.own)
        setattr(self, field, value)
        return value


class _LinkShape:
    """Links that differ from one that was read in index, name, MACs, parent and VLAN id at most."""

    def __init__(self, message: bytes) -> None:
        self.example = _link(message)
        mask = bytearray(len(message))
        _cover(mask, 2, 4)  # ifi_type
        places = {"index": (4, 8)}
        noise: List[Tuple[int, int]] = []
        for kind, first, last in attributes(message, nl.IFINFOMSG.size, len(message)):
            _cover(mask, first - 4, first)
            if kind in _OWN_ATTRIBUTES:
                places[_OWN_ATTRIBUTES[kind]] = first, last - (kind == nl.IFLA_IFNAME)  # which ends in a zero
            elif kind == nl.IFLA_AF_SPEC:
                noise += _cover_families(mask, message, first, last)
            elif kind in _FIELDS:
                _cover(mask, first, last)
            elif kind == nl.IFLA_LINKINFO:
                _cover(mask, first, last)
                if self.example.kind == "vlan":
                    places["vlan_id"] = _find_vlan_id(message, first, last)
        for first, last in places.values():
            mask[first:last] = bytes(last - first)
        if self.example.kind in _PAIRS:
            places.pop("parent", None)
        cuts = sorted([*places.values(), *noise])
        fields = {place: field for field, place in places.items()}
        order = [fields[cut] for cut in cuts if cut in fields]
        self._at = {field: number for number, field in enumerate(order)}
        self._name = self._at["name"]
        self._split = _splitter(len(message), [(*cut, _FORMATS.get(fields.get(cut, ""))) for cut in cuts])
        self._own = itemgetter(*(2 * number + 1 for number, cut in enumerate(cuts) if cut in fields))
        self._rest = itemgetter(*range(0, 2 * len(cuts) + 1, 2))
        self._latest = self._rest(self._split(message, 0))
        self._common = _splitter(len(message), [(*run, None) for run in _runs(mask)])
        self._expected = self._common(message, 0)[1::2]
        self._flags = message[_FLAGS] & _FLAGS_READ
        common = {field: value for field, value in vars(self.example).items() if field not in _OWN}
        common["options"] = {option: value for option, value in self.example.data.items() if option not in places}
        common.update(order=tuple(order), _shape=self)
        self._class = cast("type[_ShapedLink]", type("_LinkOfShape", (_ShapedLink,), common))

    def link(self, data: bytes, start: int) -> Optional[Link]:
        """A link that is of this shape."""
        parts = self._split(data, start)
        rest = self._rest(parts)
        if rest != self._latest:  # most often they differ in nothing else, be it read or not
            if self._common(data, start)[1::2] != self._expected or data[start + _FLAGS] & _FLAGS_READ != self._flags:
                return None
            self._latest = rest
        found = self._class()
        found.own = own = self._own(parts)
        found.index, found.name = own[0], own[self._name].decode("utf-8", "surrogateescape")
        return found

    def decode(self, field: str, own: Tuple[Any, ...]) -> Any:
        """A field of ``_OWN``: of the link's own part, or, where no link of the shape has one, as in the example."""
        if field == "data":
            return {
                option: own[self._at[option]] if option in self._at else value
                for option, value in self.example.data.items()
            }
        if field not in self._at:
            return getattr(self.example, field)
        value = own[self._at[field]]
        return value if isinstance(value, int) else value.hex(":")


def _runs(mask: bytearray) -> Iterator[Tuple[int, int]]:
    """From where to where a mask covers."""
    end = 0
    while (first := mask.find(0xFF, end)) >= 0:
        end = mask.find(0, first)
        end = len(mask) if end < 0 else end
        yield first, end


def _splitter(length: int, parts: Iterable[Tuple[int, int, Optional[str]]]) -> Callable[[bytes, int], Tuple[Any, ...]]:
    """Splits a message in one go: what is before a part, the part, what is between it and the next, and so on."""
    text, end = "=", 0
    for first, last, layout in parts:
        text += f"{first - end}s{layout or f'{last - first}s'}"
        end = last
    return struct.Struct(f"{text}{length - end}s").unpack_from


def _cover_families(mask: bytearray, message: bytes, first: int, last: int) -> Iterator[Tuple[int, int]]:
    """Cover the settings of both families, and the headers of all that is in IFLA_AF_SPEC; where no two links are the same."""
    for family, start, end in attributes(message, first, last):
        _cover(mask, start - 4, start)
        for conf, here, there in attributes(message, start, end):
            # IFLA_INET_CONF is 1, which in the other family is IFLA_INET6_FLAGS: no harm
            _cover(mask, here - 4, there if conf in (nl.IFLA_INET_CONF, nl.IFLA_INET6_CONF) else here)
            if (family, conf) == (socket.AF_INET6, nl.IFLA_INET6_CACHEINFO):
                yield here, there  # its reachable_time is random


def _cover(mask: bytearray, start: int, end: int) -> None:
    mask[start:end] = b"\xff" * (end - start)


def _find_vlan_id(message: bytes, start: int, end: int) -> Tuple[int, int]:
    """Where a VLAN's id is; ``start`` and ``end`` are those of IFLA_LINKINFO's payload."""
    for info, first, last in attributes(message, start, end):
        if info == nl.IFLA_INFO_DATA:
            for kind, here, there in attributes(message, first, last):
                if kind == nl.IFLA_VLAN_ID:
                    return here, there
    raise ValueError("a VLAN without an id")


def _link(message: bytes) -> Link:
    found = Link()
    _family, found.type, found.index, flags, _change = nl.IFINFOMSG.unpack_from(message)
    found.up, found.noarp = bool(flags & nl.IFF_UP), bool(flags & nl.IFF_NOARP)
    found.name = found.kind = found.mac = found.perm_mac = found.alias = ""
    found.device = found.bus = found.port = found.driver = ""
    found.parent = found.master = found.mtu = found.group = 0
    found.parent_ns = found.conf4 = found.conf6 = found.genmode = None
    found.altnames = found.lowers = ()
    found.data = {}
    for kind, first, last in attributes(message, nl.IFINFOMSG.size, len(message)):
        field = _FIELDS.get(kind)
        if field:
            setattr(found, field[0], field[1](message[first:last]))
        elif kind == nl.IFLA_LINKINFO:
            found.kind, found.data, found.lowers = _link_info(message[first:last])
        elif kind == nl.IFLA_AF_SPEC:
            _families(found, message, first, last)
    if found.kind in _PAIRS:
        found.parent, found.parent_ns = 0, None
    return found


def index(data: bytes, start: int, end: int) -> int:
    """The ifindex of a link, and nothing else."""
    return int(nl.IFINFOMSG.unpack_from(data, start)[2])


def _alternative_names(payload: bytes) -> Tuple[str, ...]:
    """Sorted: their order means nothing, and follows from when each was given."""
    listed = attributes(payload, 0, len(payload))
    return tuple(sorted(_text(payload[first:last]) for kind, first, last in listed if kind == nl.IFLA_ALT_IFNAME))


#: IFLA_* -> the field of state.Link that it fills, and how
_FIELDS: Dict[int, Tuple[str, Callable[[bytes], Any]]] = {
    nl.IFLA_IFNAME: ("name", _text),
    nl.IFLA_ADDRESS: ("mac", lambda payload: payload.hex(":")),
    nl.IFLA_PERM_ADDRESS: ("perm_mac", lambda payload: payload.hex(":")),
    nl.IFLA_MTU: ("mtu", _number),
    nl.IFLA_LINK: ("parent", _number),
    nl.IFLA_LINK_NETNSID: ("parent_ns", lambda payload: str(_S32.unpack(payload)[0])),
    nl.IFLA_MASTER: ("master", _number),
    nl.IFLA_GROUP: ("group", _number),
    nl.IFLA_IFALIAS: ("alias", _text),
    nl.IFLA_PARENT_DEV_NAME: ("device", _text),
    nl.IFLA_PARENT_DEV_BUS_NAME: ("bus", _text),
    nl.IFLA_PHYS_PORT_ID: ("port", lambda payload: payload.hex()),
    nl.IFLA_PROP_LIST: ("altnames", _alternative_names),
}


def _families(link: Link, data: bytes, start: int, end: int) -> None:
    for family, first, last in attributes(data, start, end):
        for kind, here, there in attributes(data, first, last):
            if family == socket.AF_INET and kind == nl.IFLA_INET_CONF:
                link.conf4 = _conf(data[here:there])
            elif family == socket.AF_INET6 and kind == nl.IFLA_INET6_CONF:
                link.conf6 = _conf(data[here:there])
                link.genmode = link.conf6[_DEVCONF_ADDR_GEN_MODE]


def _link_info(payload: bytes) -> Tuple[str, KindOptions, Tuple[int, ...]]:
    """The kind, its options under the names of the link spec, and the links below that it names by itself."""
    kind, data = "", b""
    for number, first, last in attributes(payload, 0, len(payload)):
        if number == nl.IFLA_INFO_KIND:
            kind = _text(payload[first:last])
        elif number == nl.IFLA_INFO_DATA:
            data = payload[first:last]
    reader, below = _KINDS.get(kind), _LOWERS.get(kind, ())
    if reader is None and not below:
        return kind, {}, ()
    options = {number: data[first:last] for number, first, last in attributes(data, 0, len(data))}
    lowers = tuple(_number(options[number]) for number in below if number in options)
    return kind, reader(options) if reader else {}, lowers


def _vlan(data: Dict[int, bytes]) -> KindOptions:
    flags = _number(data.get(nl.IFLA_VLAN_FLAGS, b"\0\0\0\0"))  # not mentioned when none is set
    protocol = int.from_bytes(data[nl.IFLA_VLAN_PROTOCOL], "big")
    options = cast(KindOptions, {option: bool(flags & bit) for option, bit in nl.VLAN_FLAGS.items()})
    options["vlan_id"] = _U16.unpack_from(data[nl.IFLA_VLAN_ID])[0]
    options["protocol"] = _VLAN_PROTOCOLS.get(protocol, f"0x{protocol:04x}")
    options["ingress_qos_map"] = _qos_map(data.get(nl.IFLA_VLAN_INGRESS_QOS, b""))
    options["egress_qos_map"] = _qos_map(data.get(nl.IFLA_VLAN_EGRESS_QOS, b""))
    return options


def _qos_map(payload: bytes) -> Dict[str, int]:
    pairs = (_PAIR.unpack_from(payload, first) for _kind, first, _last in attributes(payload, 0, len(payload)))
    return {str(start): to for start, to in pairs}


def _macvlan(data: Dict[int, bytes]) -> KindOptions:
    mode = _number(data[nl.IFLA_MACVLAN_MODE])
    options: KindOptions = {"mode": _MACVLAN_MODES.get(mode, str(mode)), "bclim": _BC_CUTOFF}
    if nl.IFLA_MACVLAN_BC_QUEUE_LEN in data:  # since 5.11
        options["bcqueuelen"] = _number(data[nl.IFLA_MACVLAN_BC_QUEUE_LEN])
    if nl.IFLA_MACVLAN_BC_CUTOFF in data:
        options["bclim"] = _S32.unpack_from(data[nl.IFLA_MACVLAN_BC_CUTOFF])[0]
    flags = _U16.unpack_from(data.get(nl.IFLA_MACVLAN_FLAGS, b"\0\0"))[0]
    options["nopromisc"] = bool(flags & nl.MACVLAN_FLAG_NOPROMISC)
    macs = data.get(nl.IFLA_MACVLAN_MACADDR_DATA, b"")
    options["source_macs"] = sorted(macs[first:last].hex(":") for _kind, first, last in attributes(macs, 0, len(macs)))
    return options


def _ipvlan(data: Dict[int, bytes]) -> KindOptions:
    mode = _U16.unpack_from(data[nl.IFLA_IPVLAN_MODE])[0]
    flag = _U16.unpack_from(data.get(nl.IFLA_IPVLAN_FLAGS, b"\0\0"))[0]
    return {"mode": _IPVLAN_MODES.get(mode, str(mode)), "flag": _IPVLAN_FLAGS.get(flag, str(flag))}


def _vrf(data: Dict[int, bytes]) -> KindOptions:
    return {"table": _number(data[nl.IFLA_VRF_TABLE])}


def _bridge(data: Dict[int, bytes]) -> KindOptions:
    return {"vlan_filtering": data.get(nl.IFLA_BR_VLAN_FILTERING, b"\0") != b"\0"}


_KINDS: Dict[str, Callable[[Dict[int, bytes]], KindOptions]] = {
    "vlan": _vlan, "macvlan": _macvlan, "macvtap": _macvlan, "ipvlan": _ipvlan, "ipvtap": _ipvlan,
    "vrf": _vrf, "bridge": _bridge,
}  # fmt: skip


#: The attributes of a kind that hold the ifindex of a link below (include/uapi/linux/if_link.h and if_tunnel.h):
#: IFLA_VXLAN_LINK, IFLA_GRE_LINK, IFLA_IPTUN_LINK, IFLA_VTI_LINK, IFLA_XFRM_LINK, IFLA_HSR_SLAVE1 and 2, IFLA_AMT_LINK.
#: Only some of these kinds tell IFLA_LINK too.
_LOWERS: Dict[str, Tuple[int, ...]] = {
    "vxlan": (3,),
    **dict.fromkeys(("gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"), (1,)),
    **dict.fromkeys(("ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm"), (1,)),
    "hsr": (1, 2),
    "amt": (4,),
}


# --- addresses, routes, namespaces ---------------------------------------------------------------


def address_text(packed: bytes) -> str:
    """An address as ``ipaddress`` writes it."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed[:10] == b"\0" * 10:  # the C library writes IPv4 in these its own way
        return str(ipaddress.IPv6Address(packed))
    return socket.inet_ntop(socket.AF_INET6, packed)


def address(data: bytes, start: int, end: int) -> Address:
    """An address of RTM_NEWADDR, between two offsets: on a point-to-point link its own, not that of the peer."""
    _family, length, flags, scope, ifindex = nl.IFADDRMSG.unpack_from(data, start)
    found = {kind: data[first:last] for kind, first, last in attributes(data, start + nl.IFADDRMSG.size, end)}
    packed = found.get(nl.IFA_LOCAL) or found[nl.IFA_ADDRESS]
    if nl.IFA_FLAGS in found:
        flags = _number(found[nl.IFA_FLAGS])
    protocol = found.get(nl.IFA_PROTO, b"\0")[0]
    return Address(ifindex, f"{address_text(packed)}/{length}", protocol, scope, flags)


def routes(data: bytes, start: int, end: int) -> Optional[List[Route]]:
    """A route, once for each of its next hops.

    None for a cache entry, and for what only follows from an address.
    """
    family, length, _src, _tos, table, protocol, scope, kind, flags = nl.RTMSG.unpack_from(data, start)
    if flags & _RTM_F_CLONED or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    if protocol == RTPROT_KERNEL and kind in _OF_AN_ADDRESS:
        return None
    found = {number: data[first:last] for number, first, last in attributes(data, start + nl.RTMSG.size, end)}
    destination = found.get(nl.RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
    prefix = f"{address_text(destination)}/{length}"
    source = address_text(found[nl.RTA_PREFSRC]) if nl.RTA_PREFSRC in found else None
    metric = _number(found.get(nl.RTA_PRIORITY, b"\0\0\0\0"))
    table = _number(found[nl.RTA_TABLE]) if nl.RTA_TABLE in found else table
    name = _ROUTE_TYPES.get(kind, str(kind))
    if name in ("blackhole", "unreachable", "prohibit", "throw"):
        hops: List[Tuple[Optional[str], int]] = [(None, 0)]  # IPv6 names lo here, without being asked
    elif nl.RTA_MULTIPATH in found:
        hops = _next_hops(found[nl.RTA_MULTIPATH])
    else:
        hops = [(_gateway(found), _number(found.get(nl.RTA_OIF, b"\0\0\0\0")))]
    return [Route(prefix, name, via, oif, source, metric, table, protocol, scope) for via, oif in hops]


def _gateway(found: Dict[int, bytes]) -> Optional[str]:
    if nl.RTA_GATEWAY in found:
        return address_text(found[nl.RTA_GATEWAY])
    return address_text(found[nl.RTA_VIA][2:]) if nl.RTA_VIA in found else None


#: By what else than the source a rule may choose.
_NARROWING = frozenset((
    nl.FRA_DST, nl.FRA_IIFNAME, nl.FRA_FWMARK, nl.FRA_TUN_ID, nl.FRA_SUPPRESS_IFGROUP, nl.FRA_OIFNAME, nl.FRA_L3MDEV, nl.FRA_UID_RANGE,
    nl.FRA_IP_PROTO, nl.FRA_SPORT_RANGE, nl.FRA_DPORT_RANGE, nl.FRA_DSCP,
))  # fmt: skip


def rule(data: bytes, start: int, end: int) -> Optional[Rule]:
    """A rule of IPv4 or IPv6; its source only where it leads to a table by the source alone."""
    family, _dst, length, tos, table, action, flags = nl.RULE.unpack_from(data, start)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = {kind: data[first:last] for kind, first, last in attributes(data, start + nl.RULE.size, end)}
    simple = action == nl.FR_ACT_TO_TBL and not (tos or flags or _NARROWING & found.keys())
    source = f"{address_text(found[nl.FRA_SRC])}/{length}" if simple and nl.FRA_SRC in found else ""
    table = _number(found[nl.FRA_TABLE]) if nl.FRA_TABLE in found else table
    priority = _number(found.get(nl.FRA_PRIORITY, b"\0\0\0\0"))
    return Rule(source, table, priority, found.get(nl.FRA_PROTOCOL, b"\0")[0])


def bridge_vlans(data: bytes, start: int, end: int) -> Tuple[int, Set[int]]:
    """The ifindex of a bridge or of a port, and the VLANs that it lets in; 0 stands for untagged frames."""
    found: Set[int] = set()
    first = 0
    for kind, here, there in attributes(data, start + nl.IFINFOMSG.size, end):
        for part, begin, _stop in attributes(data, here, there) if kind == nl.IFLA_AF_SPEC else ():
            if part == nl.IFLA_BRIDGE_VLAN_INFO:
                flags, vid = _BRIDGE_VLAN.unpack_from(data, begin)
                first = vid if not flags & _RANGE_END else first
                if not flags & _RANGE_BEGIN:
                    found.update(range(first, vid + 1))
                if flags & _PVID:
                    found.add(0)
    return index(data, start, end), found


def _next_hops(payload: bytes) -> List[Tuple[Optional[str], int]]:
    """The members of RTA_MULTIPATH, each a struct rtnexthop (length, flags, hops, ifindex)."""
    hops: List[Tuple[Optional[str], int]] = []
    start = 0
    while start + 8 <= len(payload):
        length, _flags, _hops, oif = struct.unpack_from("=HBBi", payload, start)
        found = {kind: payload[first:last] for kind, first, last in attributes(payload, start + 8, start + length)}
        hops.append((_gateway(found), oif))
        start += (max(length, 8) + 3) & ~3
    return hops


def nsid(data: bytes, start: int, end: int) -> Optional[int]:
    """The id of RTM_NEWNSID; None where the namespace has none."""
    for kind, first, _last in attributes(data, start + 4, end):  # struct rtgenmsg, padded
        if kind == nl.NETNSA_NSID:
            number = int(_S32.unpack_from(data, first)[0])
            return number if number >= 0 else None
    return None
