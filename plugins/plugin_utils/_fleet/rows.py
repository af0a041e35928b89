# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""NetOps' map: the columns of a row, what a row must be, and what rows may not be beside each other.

A row becomes the options of ``vlan_network`` and is judged by the engine's model, as on the host; what is added here is
only what a table says in its own way (ranges, reservations, whom a row is for), and what one host alone cannot see.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Callable, Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ...module_utils._engine import fields, ipam, model
from ...module_utils._engine.fields import Invalid, Problem
from .cells import Fault, Row, pairs, several

try:
    import netaddr

    HAS_NETADDR = True
except ImportError:
    HAS_NETADDR = False

#: A span of addresses that becomes reservations, one by one; more of them are a range that somebody left out.
SPAN_MAX = 1024
_SPAN = re.compile(r"([0-9A-Fa-f:.]+)-([0-9A-Fa-f:.]+)\Z")


class Column(NamedTuple):
    """What a column holds: how it is read, its JSON Schema, and what it is for."""

    read: Optional[Callable[[Any], Any]]  # None: as it is, for the model to judge
    schema: Dict[str, Any]
    description: str


def _lines(item: Dict[str, Any]) -> Dict[str, Any]:
    """One value, or several: in a text with blanks, commas or semicolons between them, or as a list."""
    return {"anyOf": [item, {"type": "array", "items": item}]}


_TEXT = {"type": "string"}
_WORD = {"anyOf": [_TEXT, {"type": "integer"}]}
_YES_NO = {"anyOf": [{"type": "boolean"}, {"type": "string", "pattern": "^([Yy]es|[Oo]n|[Tt]rue|[Nn]o|[Oo]ff|[Ff]alse|[01yntf])$"}]}


def _integer(low: int, high: int) -> Dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, {"type": "string", "pattern": "^[0-9]+$"}]}


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise Invalid(f"{value!r} is no name", "write a text; quote it, where YAML takes it for something else")
    return str(value)


def _group(value: Any) -> str:
    if value in ("all", "ungrouped"):
        raise Invalid(f"{value} is no group of one's own", "leave it out for all hosts of the map")
    return fields.name(_word(value))


def _lengths(value: Any) -> List[int]:
    return [fields.integer(1, 128)(item) for item in several(value)]


def _patterns(value: Any) -> List[str]:
    found = [_word(item) for item in several(value)]
    for pattern in found:
        if not pattern.strip("!") or ":" in pattern or "&" in pattern:
            raise Invalid(f"{pattern!r} is no pattern of host names", "write names, with * and ? where they differ, and ! before those left out")
    return found


#: The columns of the map. Those without a reader are options of vlan_network, and read by the model.
COLUMNS: Dict[str, Column] = {
    "name": Column(_word, _WORD, "The name of the network, unique in the whole map."),
    "vlan": Column(model.VLAN_ID, _integer(1, 4094), "The VLAN id. Without one the network is untagged, on the trunk itself."),
    "trunk": Column(lambda value: fields.link_name(_word(value)), _WORD, "The logical name of the trunk, which trunk_nics of each host leads to its NIC."),
    "driver": Column(None, {"enum": ["macvlan", "ipvlan"]}, "The driver."),
    "mode": Column(None, {"enum": [*model.MACVLAN_MODES, *model.IPVLAN_MODES]}, "The mode of the driver."),
    "flag": Column(None, {"enum": [*model.IPVLAN_FLAGS]}, "The flag of ipvlan."),
    "subnets": Column(None, _lines(_TEXT), "The subnets."),
    "gateways": Column(None, _lines(_TEXT), "The gateways, each of the subnet that it is in; V(none) for no gateway at all."),
    "ranges": Column(None, _lines(_TEXT), "The parts of the subnets that addresses are taken from, as C(10.0.0.64/26) or C(10.0.0.64-10.0.0.127)."),
    "reservations": Column(
        None,
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "object", "additionalProperties": _TEXT}]},
        "Addresses that are never handed out, as C(name=address) or C(name=first-last).",
    ),
    "internal": Column(fields.boolean, _YES_NO, "Whether the network has no way out: a dummy instead of a trunk and a VLAN."),
    "enable_ipv4": Column(None, _YES_NO, "Whether the network has IPv4."),
    "enable_ipv6": Column(None, _YES_NO, "Whether the network has IPv6."),
    "mtu": Column(None, _integer(68, 65535), "The MTU of the endpoints."),
    "share_parent": Column(fields.boolean, _YES_NO, "Whether other networks may be on the same VLAN of the same trunk; they say so too."),
    "host_access": Column(fields.boolean, _YES_NO, "Whether the hosts themselves reach the endpoints."),
    "probe": Column(fields.boolean, _YES_NO, "Whether a host asks on the wire first if somebody else has the address that it takes by C(host_access)."),
    "site": Column(lambda value: fields.name(_word(value)), _WORD, "Only hosts of this site, the group C(site_NAME). Two sites are two switch fabrics."),
    "group": Column(_group, _WORD, "Only hosts of this inventory group."),
    "hosts": Column(_patterns, _lines(_WORD), "Only hosts whose names match one of these patterns; those after C(!) never."),
    "per_host": Column(
        _lengths,
        _lines(_integer(1, 128)),
        "The prefix length of the slice that each host gets of a pool, or in L3 modes of the prefix that each host has; up to 32 it is for "
        "IPv4, above for IPv6, and both are given where a network has both.",
    ),
}
_SCOPE = ("site", "group", "hosts")
#: What is an option of vlan_network under the same name.
_SAME = ("name", "driver", "mode", "flag", "internal", "enable_ipv4", "enable_ipv6", "mtu", "share_parent", "host_access", "probe")
#: From the model's words to the columns.
_COLUMN_OF = {"parent": "trunk", "subnet": "subnets", "gateway": "gateways", "ip_range": "ranges", "aux_addresses": "reservations"}
_MODEL_PATH = re.compile(r"networks\[(\d+)\]\.?(?:subnets\[(\d+)\])?\.?([a-z_0-9]*)")


@dataclass
class Network:
    """A row that is good: the options of its network, normalised, and whom it is for."""

    options: Dict[str, Any]
    spec: Dict[str, Any]  # the same, as the model completes it
    row: Row
    vlan: Optional[int] = None
    trunk: Optional[str] = None
    site: Optional[str] = None
    group: Optional[str] = None
    hosts: List[str] = field(default_factory=list)
    per_host: List[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.options["name"])

    def data(self) -> Dict[str, Any]:
        """What hosts need of it, in as few words as it takes."""
        found: Dict[str, Any] = {"network": self.options}
        for key in ("vlan", "trunk", "site", "group", "hosts", "per_host"):
            if getattr(self, key):
                found[key] = getattr(self, key)
        return found


@dataclass
class Map:
    networks: List[Network] = field(default_factory=list)
    faults: List[Fault] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)


def judge(rows: Sequence[Row]) -> Map:
    """The networks of all rows of all files, or everything that is wrong with them."""
    found = Map()
    asked: List[Dict[str, Any]] = []
    columns: List[Dict[str, Any]] = []
    for row in rows:
        own = _columns(row, found.faults)
        columns.append(own)
        asked.append(_network(row, own, found.faults))
    _once(rows, found.faults)
    declared = model.declare_map({"name": "map", "networks": asked})
    found.faults += _translated(declared.problems, rows, columns, found.faults)
    # That an L3 network has no use for its gateway is not worth a line for each row of the map.
    found.warnings += [_worded(text, rows) for text in declared.warnings if not text.partition(": ")[0].endswith(".gateway")]
    specs = {item.path: item.spec for item in declared.items}
    for position, (row, own, options) in enumerate(zip(rows, columns, asked)):
        spec = specs.get(f"networks[{position}]")
        if spec is None:
            continue
        for subnet, normal in zip(options.get("subnets", ()), spec["subnets"]):
            subnet["subnet"] = normal["subnet"]
            if model.is_l3(spec):
                subnet.pop("gateway", None)
        network = Network(options, spec, row, **{key: own[key] for key in ("vlan", "trunk", *_SCOPE, "per_host") if key in own})
        _slices(network, found.faults)
        found.networks.append(network)
    _segments(found.networks, found.faults)
    found.faults = sorted(dict.fromkeys(found.faults), key=lambda fault: fault.place)
    return found


# --- one row -------------------------------------------------------------------------------------


def _columns(row: Row, faults: List[Fault]) -> Dict[str, Any]:
    """The cells that are read here."""
    problems: List[Problem] = []
    parsers = {name: column.read or _as_it_is for name, column in COLUMNS.items()}
    found = fields.items(row.cells, parsers, "", problems)
    internal = found.get("internal")
    for name in ("name", "driver", *(() if internal else ("trunk",))):
        if row.cells.get(name) is None:
            faults.append(Fault(row.find(name), name, "is missing", "every row needs it"))
    if internal:
        for name in ("trunk", "vlan"):
            if name in found:
                problems.append(Problem(name, "an internal network is on no trunk", "leave it out, or give gateways: none for no way out"))
    for problem in problems:
        column = re.split(r"[.\[]", problem.path)[0]
        what = "unknown column" if problem.what == "unknown option" else problem.what
        faults.append(Fault(row.find(problem.path), column, what, problem.cure))
    return found


def _as_it_is(value: Any) -> Any:
    return value


def _network(row: Row, own: Dict[str, Any], faults: List[Fault]) -> Dict[str, Any]:
    """The options of vlan_network that a row stands for; cells that cannot be read are left out, and noted."""
    options = {name: own[name] for name in _SAME if name in own}
    if "trunk" in own and not own.get("internal"):
        options["parent"] = f"{own['trunk']}.{own['vlan']}" if "vlan" in own else own["trunk"]
    subnets = _subnets(row, own, faults)
    if subnets:
        options["subnets"] = subnets
    return options


def _subnets(row: Row, own: Dict[str, Any], faults: List[Fault]) -> List[Dict[str, Any]]:
    """The subnets of a row, each with what of the other columns lies in it."""

    def bad(column: str, at: Union[int, str], what: str, cure: str) -> None:
        path = f"{column}[{at}]" if isinstance(at, int) else f"{column}.{at}"
        faults.append(Fault(row.find(path), column, what, cure))

    found: List[Dict[str, Any]] = []
    networks: List[fields.Network] = []
    own["good"] = []  # where in the cell those stand that can be read
    for position, value in enumerate(several(own.get("subnets", []))):
        try:
            networks.append(fields.network(value))
            found.append({"subnet": str(value)})
            own["good"].append(position)
        except Invalid as error:
            bad("subnets", position, str(error), error.faults[0][2])

    def home(column: str, at: Union[int, str], low: Any, high: Any) -> Optional[Dict[str, Any]]:
        for network, subnet in zip(networks, found):
            if low in network and high in network:
                return subnet
        if len(networks) == len(several(own.get("subnets", []))):  # else the right one may be among those that are bad
            span = str(low) if low == high else f"{low}-{high}"
            there = ", ".join(map(str, networks)) or "none given"
            bad(column, at, f"{span} is in no subnet of the row", f"its subnets are {there}")
        return None

    def put(column: str, position: int, subnet: Optional[Dict[str, Any]], option: str, value: str) -> None:
        if subnet is not None and option in subnet:
            bad(column, position, f"{subnet['subnet']} has {subnet[option]} already", "give each subnet one")
        elif subnet is not None:
            subnet[option] = value

    gateways = several(own.get("gateways", []))
    for position, value in enumerate(gateways):
        if value == "none":
            continue
        try:
            address = ipaddress.ip_address(fields.address()(value))
        except Invalid as error:
            bad("gateways", position, str(error), "write it without a prefix length, or none for no gateway at all")
            continue
        if address.version == 6 and address.is_link_local:
            for network, subnet in zip(networks, found):
                if network.version == 6:
                    subnet.setdefault("gateway", str(address))
            continue
        put("gateways", position, home("gateways", position, address, address), "gateway", str(address))
    if "none" in gateways:
        for subnet in found:
            subnet.setdefault("gateway", "none")
    for position, value in enumerate(several(own.get("ranges", []))):
        try:
            part = _range(value)
        except Invalid as error:
            bad("ranges", position, str(error), error.faults[0][2])
            continue
        put("ranges", position, home("ranges", position, part[0], part[-1]), "ip_range", str(part))
    _reservations(row, own, home, faults)
    return found


def _reservations(row: Row, own: Dict[str, Any], home: Callable[..., Optional[Dict[str, Any]]], faults: List[Fault]) -> None:
    reserved, bad = pairs(own.get("reservations", {}))
    for text in bad:
        cure = "write printer=192.0.2.9, or pool=192.0.2.200-192.0.2.209, each name once"
        faults.append(Fault(row.find("reservations"), "reservations", f"{text!r} is not a name and an address", cure))
    for name, value in reserved.items():
        path = f"reservations.{name}"
        try:
            fields.name(name)
            addresses = _addresses(value)
        except Invalid as error:
            faults.append(Fault(row.find(path), "reservations", str(error), error.faults[0][2]))
            continue
        subnet = home("reservations", name, addresses[0], addresses[-1])
        if subnet is not None:
            aux = subnet.setdefault("aux_addresses", {})
            single = len(addresses) == 1
            aux.update((name if single else f"{name}-{number}", str(address)) for number, address in enumerate(addresses, 1))


def _span(value: Any) -> Optional[Tuple[Any, Any]]:
    """The ends of ``first-last``."""
    match = _SPAN.match(str(value))
    if match is None:
        return None
    first, last = (ipaddress.ip_address(fields.address()(end)) for end in match.groups())
    if first.version != last.version or int(first) > int(last):
        raise Invalid(f"{value} runs backwards", "write the first address, then the last")
    return first, last


def _range(value: Any) -> fields.Network:
    span = _span(value)
    if span is None:
        part = fields.network(value)
        if str(part) != str(value).lower() and ipaddress.ip_interface(str(value)).ip != part.network_address:
            raise Invalid(f"{value} has host bits set", f"write {part}, or the span first-last")
        return part
    blocks = [str(block) for block in netaddr.iprange_to_cidrs(str(span[0]), str(span[1]))]
    if len(blocks) > 1:
        raise Invalid(f"{value} is no single block", f"give one of {', '.join(blocks[:4])}, and reserve what is not to be used")
    return ipaddress.ip_network(blocks[0])


def _addresses(value: Any) -> List[Any]:
    span = _span(value)
    if span is None:
        return [ipaddress.ip_address(fields.address()(value))]
    if int(span[1]) - int(span[0]) >= SPAN_MAX:
        raise Invalid(f"{value} is more than {SPAN_MAX} addresses", "use ranges for the part that may be handed out")
    return [ipaddress.ip_address(str(address)) for address in netaddr.iter_iprange(str(span[0]), str(span[1]))]


def _once(rows: Sequence[Row], faults: List[Fault]) -> None:
    """A name stands for one network, in all sites: the ledger goes by it."""
    first: Dict[str, Row] = {}
    for row in rows:
        name = str(row.cells.get("name"))
        other = first.setdefault(name, row)
        if other is not row and name != "None":
            faults.append(Fault(row.find("name"), "name", f"network {name} stands in {other.place} already", "give each network its own name"))


# --- what the model says, in the table's words ---------------------------------------------------


def _translated(problems: Iterable[Problem], rows: Sequence[Row], columns: Sequence[Mapping[str, Any]], known: Sequence[Fault]) -> List[Fault]:
    """The model's problems at their cells. Of a cell that is known to be bad already, it says no more."""
    seen = {(fault.place, fault.column) for fault in known}
    found = []
    for problem in problems:
        match = _MODEL_PATH.match(problem.path)
        if match is None:
            continue
        row = rows[int(match[1])]
        column = _COLUMN_OF.get(match[3], match[3]) or "name"
        place = row.find(column)
        if column == "subnets" and match[2] is not None:
            place = row.find(f"subnets[{columns[int(match[1])]['good'][int(match[2])]}]")
        elif column == "reservations":
            place = row.find("reservations." + problem.path.rpartition(".aux_addresses.")[2])
        if (place, column) not in seen:
            found.append(Fault(place, column, _worded(problem.what, rows), _worded(problem.cure, rows)))
    return found


def _worded(text: str, rows: Sequence[Row]) -> str:
    """A text of the model with places in the table for its own paths."""

    def place(match: re.Match[str]) -> str:
        row = rows[int(match[1])]
        column = _COLUMN_OF.get(match[3], match[3])
        where = row.find(f"subnets[{match[2]}]" if column == "subnets" and match[2] is not None else column)
        return f"{where} ({column})" if column else str(row.place)

    return _MODEL_PATH.sub(place, text)


# --- what a slice needs --------------------------------------------------------------------------


def pool(subnet: Mapping[str, Any]) -> str:
    """The part of a subnet that addresses and slices are taken from."""
    return str(subnet.get("ip_range") or subnet["subnet"])


def slice_length(per_host: Collection[int], subnet: str) -> Optional[int]:
    """The prefix length of each host's slice of a subnet."""
    six = ":" in subnet
    return next((length for length in per_host if (length > 32) == six), None)


def _slices(network: Network, faults: List[Fault]) -> None:
    place = network.row.find("per_host")
    if network.per_host:
        if not network.spec["subnets"]:
            faults.append(Fault(place, "per_host", "there is no subnet to take slices of", "give subnets, or leave it out"))
        if len({length > 32 for length in network.per_host}) < len(network.per_host):
            faults.append(Fault(place, "per_host", "says two lengths for one IP version", "give one up to 32 for IPv4 and one above for IPv6"))
    for subnet in network.spec["subnets"] if network.per_host else ():
        whole = ipaddress.ip_network(pool(subnet))
        length = slice_length(network.per_host, str(whole))
        if length is None:
            cure = "give a length above 32 too" if whole.version == 6 else "give a length up to 32 too"
            faults.append(Fault(place, "per_host", f"says nothing of {whole}, which is IPv{whole.version}", cure))
        elif not whole.prefixlen <= length <= whole.max_prefixlen:
            cure = f"give {whole.prefixlen} to {whole.max_prefixlen}"
            faults.append(Fault(place, "per_host", f"{whole} cannot be cut into slices of /{length}", cure))
    if network.options.get("host_access") and not (network.per_host or model.is_l3(network.spec)):
        faults.append(Fault(network.row.find("host_access"), "host_access", "every host would take the same address of the subnet",
                            "give per_host, so that each takes one of its own slice"))  # fmt: skip


# --- rows beside each other ----------------------------------------------------------------------


def _segments(networks: Sequence[Network], faults: List[Fault]) -> None:
    """A broadcast domain carries one network, or those that agreed to share it, and each subnet once."""
    segments: Dict[Tuple[Optional[str], Optional[int]], List[Network]] = {}
    for network in networks:
        if network.trunk is not None:
            segments.setdefault((network.trunk, network.vlan), []).append(network)
    for (trunk, vlan), beside in segments.items():
        where = f"VLAN {vlan} on {trunk}" if vlan else f"{trunk} untagged"
        for position, network in enumerate(beside):
            for other in beside[:position]:
                if network.site and other.site and network.site != other.site:
                    continue
                if not (network.options.get("share_parent") and other.options.get("share_parent")):
                    faults.append(Fault(network.row.find("vlan"), "vlan", f"{where} carries {other.name} already ({other.row.place})",
                                        "give it a VLAN of its own, or share_parent on both rows"))  # fmt: skip
                _subnets_apart(network, other, where, faults)


def _subnets_apart(network: Network, other: Network, where: str, faults: List[Fault]) -> None:
    both = [(network, position, subnet["subnet"]) for position, subnet in enumerate(network.spec["subnets"])]
    both += [(other, position, subnet["subnet"]) for position, subnet in enumerate(other.spec["subnets"])]
    for one, two in ipam.overlaps((entry, entry[2]) for entry in both):
        if one[0] is two[0]:
            continue
        mine, theirs = (one, two) if one[0] is network else (two, one)
        faults.append(Fault(network.row.find(f"subnets[{mine[1]}]"), "subnets",
                            f"{mine[2]} overlaps {theirs[2]} of {other.name} ({other.row.place}) in {where}",
                            "a broadcast domain has each subnet once: use another VLAN, or other subnets"))  # fmt: skip


# --- whom a row is for ---------------------------------------------------------------------------


def group_name(prefix: str, text: object) -> str:
    """A group of the inventory, in the letters that Ansible allows."""
    return f"{prefix}_" + re.sub(r"[^A-Za-z0-9_]", "_", str(text))


def is_for(row: Mapping[str, Any], host: str, groups: Collection[str]) -> bool:
    """Whether a row (as :meth:`Network.data` has it) is for a host of these groups."""
    if row.get("site") and group_name("site", row["site"]) not in groups:
        return False
    if row.get("group") and row["group"] not in groups:
        return False
    patterns = row.get("hosts") or ()
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    return not any(fnmatchcase(host, pattern[1:]) for pattern in patterns if pattern.startswith("!")) and (
        not wanted or any(fnmatchcase(host, pattern) for pattern in wanted)
    )


# --- the published schema ------------------------------------------------------------------------


def schema() -> Dict[str, Any]:
    """The JSON Schema of a row."""
    plain = re.compile(r"[A-Z]\(([^)]*)\)")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A network of the map of netops.underlay",
        "description": "A map in YAML or JSON is a list of these; in CSV the properties are the columns, and an empty cell is an absent one.",
        "type": "object",
        "properties": {
            name: {"description": plain.sub(r"\1", column.description), **column.schema} for name, column in COLUMNS.items()
        },
        "required": ["name", "driver"],
        "if": {"properties": {"internal": {"enum": [True, "true", "True", "yes", "Yes", "on", "On", "1", "y", "t"]}}, "required": ["internal"]},
        "then": {"not": {"anyOf": [{"required": ["trunk"]}, {"required": ["vlan"]}]}},
        "else": {"required": ["trunk"]},
        "additionalProperties": False,
    }
