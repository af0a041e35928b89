# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The columns of the map, and the JSON Schema of a row."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ...module_utils._engine.core.errors import InvalidValue
from ...module_utils._engine.declare import fields
from ...module_utils._engine.declare.network import IPVLAN_FLAGS, IPVLAN_MODES, MACVLAN_MODES
from .cells import several
from .expand import UNTAGGED
from .subnets import mask_length


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
_YES_NO = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "string", "pattern": "^([Yy]es|[Oo]n|[Tt]rue|[Nn]o|[Oo]ff|[Ff]alse|[01yntf])$"},
    ]
}


def _integer(low: int, high: int) -> Dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, {"type": "string", "pattern": "^[0-9]+$"}]}


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidValue(f"{value!r} is not a name", "give a string; quote it if YAML reads it as something else")
    return str(value)


def _group(value: Any) -> str:
    if value in ("all", "ungrouped"):
        raise InvalidValue(f"{value} is not a separate group", "leave it out for all hosts of the map")
    return fields.name(_word(value))


def _vlan(value: Any) -> int:
    """A VLAN id, or 0 for untagged."""
    if isinstance(value, str) and value.strip().lower() in UNTAGGED:
        return 0
    number: int = fields.VLAN_ID(value)
    return number


def _masks(value: Any) -> List[int]:
    return [mask_length(item) for item in several(value)]


def _lengths(value: Any) -> List[int]:
    return [fields.integer(1, 128)(item) for item in several(value)]


def _patterns(value: Any) -> List[str]:
    found = [_word(item) for item in several(value)]
    for pattern in found:
        if not pattern.strip("!") or ":" in pattern or "&" in pattern:
            raise InvalidValue(
                f"{pattern!r} is not a pattern of host names",
                "write names with * and ?, and ! before those to leave out",
            )
    return found


#: The columns of the map. Those without a reader are options of vlan_network, and read by the model.
COLUMNS: Dict[str, Column] = {
    "name": Column(_word, _WORD, "The name of the network, unique in the whole map."),
    "vlan": Column(
        _vlan,
        {
            "anyOf": [
                *_integer(1, 4094)["anyOf"],
                {"enum": [*UNTAGGED]},
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(, *[0-9]+(-[0-9]+)?)*$"},
            ]
        },
        "The VLAN ID; V(untagged) for a network on the trunk itself. Several, such as V(10-20,30), make one network each; "
        "C(name) must contain C({vlan}).",
    ),
    "trunk": Column(
        lambda value: fields.link_name(_word(value)),
        _WORD,
        "The logical name of the trunk, which trunk_nics maps to a NIC on each host.",
    ),
    "driver": Column(None, {"enum": ["macvlan", "ipvlan"]}, "The driver."),
    "mode": Column(None, {"enum": [*MACVLAN_MODES, *IPVLAN_MODES]}, "The mode of the driver."),
    "flag": Column(None, {"enum": [*IPVLAN_FLAGS]}, "The ipvlan flag."),
    "subnets": Column(None, _lines(_TEXT), "The subnets, as C(10.0.0.0/22) or C(10.0.0.0 255.255.252.0)."),
    "mask": Column(
        _masks,
        _lines(_WORD),
        "Masks for subnets without a prefix length, as C(255.255.252.0), C(/22) or C(22); one for all, or one for each.",
    ),
    "gateways": Column(None, _lines(_TEXT), "The gateways, matched to the subnets; V(none) for no gateway."),
    "ranges": Column(
        None,
        _lines(_TEXT),
        "The parts of the subnets to allocate addresses from, one or several of a subnet, as C(10.0.0.64/26) or C(10.0.0.10-10.0.0.99).",
    ),
    "reservations": Column(
        None,
        {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}, {"type": "object", "additionalProperties": _TEXT}]},
        "Addresses that are never allocated, as C(name=address) or C(name=first-last).",
    ),
    "internal": Column(
        fields.boolean,
        _YES_NO,
        "Whether the network is confined to the host, on a dummy instead of a trunk and a VLAN.",
    ),
    "enable_ipv4": Column(None, _YES_NO, "Whether the network has IPv4."),
    "enable_ipv6": Column(None, _YES_NO, "Whether the network has IPv6."),
    "mtu": Column(None, _integer(68, 65535), "The MTU of the endpoints."),
    "share_parent": Column(
        fields.boolean, _YES_NO, "Whether other networks may use the same VLAN of the same trunk. They must set it too."
    ),
    "host_access": Column(fields.boolean, _YES_NO, "Whether the hosts themselves can reach the endpoints."),
    "nopromisc": Column(
        fields.boolean, _YES_NO, "V(passthru) only: whether to leave the trunk's NIC out of promiscuous mode."
    ),
    "probe": Column(
        fields.boolean,
        _YES_NO,
        "Whether a host checks on the wire first that no other host uses the address for C(host_access).",
    ),
    "source_routing": Column(
        fields.boolean,
        _YES_NO,
        "Whether a workload with several networks replies over this one to requests that came in on it.",
    ),
    "spoof_check": Column(
        fields.boolean, _YES_NO, "macvlan only. Whether each endpoint may send only from its own MAC and addresses."
    ),
    "addressing": Column(
        None,
        {"enum": ["pool", "dhcp"]},
        "Where the addresses of the endpoints come from: the pool of the subnets, or a DHCP server; IPv6 as enable_ipv6 and the subnets say.",
    ),
    "dns": Column(several, _lines(_TEXT), "The nameservers of the workloads, 3 at most."),
    "dns_search": Column(several, _lines(_TEXT), "The domains in which the workloads look up short names."),
    "dns_options": Column(several, _lines(_TEXT), "Options of the workloads' resolvers, such as C(ndots:2)."),
    "site": Column(
        lambda value: fields.name(_word(value)),
        _WORD,
        "Only hosts of this site, the group C(site_NAME). Two sites are two switch fabrics.",
    ),
    "group": Column(_group, _WORD, "Only hosts of this inventory group."),
    "hosts": Column(
        _patterns, _lines(_WORD), "Only hosts whose names match one of these patterns; patterns after C(!) exclude."
    ),
    "per_host": Column(
        _lengths,
        _lines(_integer(1, 128)),
        "The prefix length of each host's slice of the pool, or in L3 modes of each host's prefix. Up to 32 is for IPv4, above for IPv6; "
        "give both if the network has both.",
    ),
}
SCOPE = ("site", "group", "hosts")
#: What is an option of vlan_network under the same name.
SAME = (
    "name",
    "driver",
    "mode",
    "flag",
    "internal",
    "enable_ipv4",
    "enable_ipv6",
    "mtu",
    "share_parent",
    "host_access",
    "nopromisc",
    "probe",
    "source_routing",
    "spoof_check",
    "addressing",
    "dns",
    "dns_search",
    "dns_options",
)
#: From the model's words to the columns.
COLUMN_OF = {
    "parent": "trunk",
    "subnet": "subnets",
    "gateway": "gateways",
    "ip_range": "ranges",
    "aux_addresses": "reservations",
}
MODEL_PATH = re.compile(r"networks\[(\d+)\]\.?(?:subnets\[(\d+)\])?\.?([a-z_0-9]*)")


def schema() -> Dict[str, Any]:
    """The JSON Schema of a map in YAML or JSON, whole: editors check the file, not a row of it."""
    plain = re.compile(r"[A-Z]\(([^)]*)\)")
    row = {
        "title": "A network",
        "type": "object",
        "properties": {
            name: {"description": plain.sub(r"\1", column.description), **column.schema}
            for name, column in COLUMNS.items()
        },
        "required": ["name", "driver"],
        "if": {
            "properties": {"internal": {"enum": [True, "true", "True", "yes", "Yes", "on", "On", "1", "y", "t"]}},
            "required": ["internal"],
        },
        "then": {"not": {"anyOf": [{"required": ["trunk"]}, {"required": ["vlan"]}]}},
        "else": {"required": ["trunk", "vlan"]},
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.org/netops/underlay/netops_map.schema.json",
        "title": "A map of netops.underlay",
        "description": "One row is one network. In CSV the properties are the columns, and an empty cell means not set.",
        "type": "array",
        "items": row,
    }
