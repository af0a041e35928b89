# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""A row of the map as a network.

A row becomes the options of ``vlan_network`` and is judged by the engine's model, as on the host; what is added here is
only what a table says in its own way, and what one host alone cannot see.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, cast

from ...module_utils._engine.core.errors import Problem
from ...module_utils._engine.core.formats import version_of
from ...module_utils._engine.core.network_specs import NetworkSpec, SubnetSpec, has_pool, has_version
from ...module_utils._engine.core.specs import is_l3
from ...module_utils._engine.declare import fields, ipam, model
from .cells import Fault, Place, Row, several
from .columns import COLUMN_OF, COLUMNS, MODEL_PATH, SAME, SCOPE
from .packed import MapRow
from .subnets import joined, subnets

_Heads = Mapping[str, Mapping[str, Place]]  # file -> column -> its heading


@dataclass
class Network:
    """A row that is good: the options of its network, normalised, and whom it is for."""

    options: Dict[str, Any]
    spec: NetworkSpec  # the same, as the model completes it
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

    def data(self) -> MapRow:
        """What hosts need of it, in as few words as it takes."""
        scope = {
            key: value
            for key in ("vlan", "trunk", "site", "group", "hosts", "per_host")
            if (value := getattr(self, key))
        }
        return {"network": self.options, **scope}  # type: ignore[typeddict-item]


@dataclass
class Map:
    networks: List[Network] = field(default_factory=list)
    faults: List[Fault] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)


def judge(rows: Sequence[Row], heads: Optional[_Heads] = None) -> Map:
    """The networks of all rows of all files, or everything that is wrong with them. ``heads`` are the columns of CSV files."""
    found = Map()
    asked: List[Dict[str, Any]] = []
    columns: List[Dict[str, Any]] = []
    for row in rows:
        own = _columns(row, found.faults, heads or {})
        columns.append(own)
        asked.append(_network(row, own, found.faults))
    _once(rows, found.faults)
    declared = model.declare_map({"name": "map", "networks": asked})
    found.faults += _translated(declared.problems, rows, columns, found.faults)
    # That an L3 network has no use for its gateway is not worth a line for each row of the map.
    found.warnings += [
        _worded(text, rows) for text in declared.warnings if not text.partition(": ")[0].endswith(".gateway")
    ]
    specs = {item.path: cast(Optional[NetworkSpec], item.spec) for item in declared.items}
    for position, (row, own, options) in enumerate(zip(rows, columns, asked)):
        spec = specs.get(f"networks[{position}]")
        if spec is None:
            continue
        for subnet, normal in zip(options.get("subnets", ()), spec["subnets"]):
            subnet["subnet"] = normal["subnet"]
            if is_l3(spec):
                subnet.pop("gateway", None)
        network = Network(
            options, spec, row, **{key: own[key] for key in ("vlan", "trunk", *SCOPE, "per_host") if key in own}
        )
        if "astray" in own:
            network.trunk = None
        _slices(network, found.faults)
        if len(own["good"]) == len(several(joined(own.get("subnets", [])))):
            _same_everywhere(network, found.faults)
        found.networks.append(network)
    found.faults = sorted(dict.fromkeys(found.faults), key=lambda fault: fault.place)
    return found


def _columns(row: Row, faults: List[Fault], heads: _Heads) -> Dict[str, Any]:
    """The cells that are read here."""
    problems: List[Problem] = []
    parsers = {name: column.read or _as_it_is for name, column in COLUMNS.items()}
    found = fields.items(row.cells, parsers, "", problems)
    internal = found.get("internal")
    faults += _missing(row, ("name", "driver", *(() if internal else ("trunk", "vlan"))), heads)
    if internal:
        for name in ("trunk", "vlan"):
            if found.get(name):
                problems.append(
                    Problem(
                        name,
                        "an internal network has no trunk",
                        "leave it out, or give gateways: none to have no default route",
                    )
                )
    if "vlan" not in found and not internal:
        found["astray"] = True  # its segment is unknown
    if not found.get("vlan"):
        found.pop("vlan", None)  # untagged
    for problem in problems:
        column = re.split(r"[.\[]", problem.path)[0]
        faults.append(Fault(row.find(problem.path), column, problem.message, problem.fix))
    return found


def _missing(row: Row, required: Sequence[str], heads: _Heads) -> Iterator[Fault]:
    """The cells that every row needs. A column that is not in a CSV file at all is reported once, at its headings."""
    for name in required:
        if row.cells.get(name) is not None or name in row.bad:
            continue
        head = heads.get(row.place.file)
        if head is not None and name not in head:
            first = min(head.values(), default=row.place)
            yield Fault(
                Place(first.file, first.line, 1), name, "there is no such column", f"add it, or give {name} in defaults"
            )
        else:
            fix = (
                "give the VLAN ID, or untagged for a network on the trunk itself"
                if name == "vlan"
                else "every row needs it"
            )
            yield Fault(row.find(name), name, "is missing", fix)


def _as_it_is(value: Any) -> Any:
    return value


def _network(row: Row, own: Dict[str, Any], faults: List[Fault]) -> Dict[str, Any]:
    """The options of vlan_network that a row stands for; cells that cannot be read are left out, and noted."""
    options = {name: own[name] for name in SAME if name in own}
    if "trunk" in own and not own.get("internal"):
        options["parent"] = f"{own['trunk']}.{own['vlan']}" if "vlan" in own else own["trunk"]
    found = subnets(row, own, faults)
    if found:
        options["subnets"] = found
    return options


def _once(rows: Sequence[Row], faults: List[Fault]) -> None:
    """A name stands for one network, in all sites: the ledger goes by it."""
    first: Dict[str, Row] = {}
    for row in rows:
        name = str(row.cells.get("name"))
        other = first.setdefault(name, row)
        if other is not row and name != "None":
            faults.append(
                Fault(
                    row.find("name"),
                    "name",
                    f"network {name} is already in {other.place}",
                    "give each network its own name",
                )
            )


def _translated(
    problems: Iterable[Problem], rows: Sequence[Row], columns: Sequence[Mapping[str, Any]], known: Sequence[Fault]
) -> List[Fault]:
    """The model's problems at their cells. Of a cell that is known to be bad already, it says no more."""
    seen = {(fault.place, fault.column) for fault in known}
    found = []
    for problem in problems:
        match = MODEL_PATH.match(problem.path)
        if match is None:
            continue
        row = rows[int(match[1])]
        column = COLUMN_OF.get(match[3], match[3]) or "name"
        place = row.find(column)
        if column == "subnets" and match[2] is not None:
            place = row.find(f"subnets[{columns[int(match[1])]['good'][int(match[2])]}]")
        elif column == "reservations":
            place = row.find("reservations." + problem.path.rpartition(".aux_addresses.")[2])
        if (place, column) not in seen:
            found.append(Fault(place, column, _worded(problem.message, rows), _worded(problem.fix, rows)))
    return found


def _worded(text: str, rows: Sequence[Row]) -> str:
    """A text of the model with places in the table for its own paths."""

    def place(match: re.Match[str]) -> str:
        row = rows[int(match[1])]
        column = COLUMN_OF.get(match[3], match[3])
        where = row.find(f"subnets[{match[2]}]" if column == "subnets" and match[2] is not None else column)
        return f"{where} ({column})" if column else str(row.place)

    return MODEL_PATH.sub(place, text)


def _same_everywhere(network: Network, faults: List[Fault]) -> None:
    """No host picks a subnet by itself: all would pick the same, and give the same addresses on one wire."""
    for version in (4, 6):
        named = any((":" in subnet["subnet"]) == (version == 6) for subnet in network.spec["subnets"])
        if has_version(network.spec, version) and has_pool(network.spec, version) and not named:
            faults.append(Fault(network.row.find("subnets"), "subnets", f"there is no IPv{version} subnet, and every host would pick the same one",
                                f"give one, or enable_ipv{version}: false"))  # fmt: skip


def pool(subnet: SubnetSpec) -> str:
    """The part of a subnet that addresses and slices are taken from."""
    return str(subnet.get("ip_range") or subnet["subnet"])


def is_in_pool(text: str, within: str) -> bool:
    """Whether an address or a slice lies in a pool, which may be several ranges."""
    low, high = ipam.span(text)
    ranges = ipam.spans(within)
    return version_of(text) == version_of(within) and any(one <= low and high <= other for one, other in ranges)


def slice_length(per_host: Collection[int], subnet: str) -> Optional[int]:
    """The prefix length of each host's slice of a subnet."""
    six = ":" in subnet
    return next((length for length in per_host if (length > 32) == six), None)


def _slices(network: Network, faults: List[Fault]) -> None:
    place = network.row.find("per_host")
    if network.per_host:
        if not network.spec["subnets"]:
            faults.append(
                Fault(place, "per_host", "there is no subnet to take slices of", "give subnets, or leave it out")
            )
        if len({length > 32 for length in network.per_host}) < len(network.per_host):
            faults.append(
                Fault(
                    place,
                    "per_host",
                    "gives two lengths for one IP version",
                    "give one up to 32 for IPv4 and one above for IPv6",
                )
            )
    for subnet in network.spec["subnets"] if network.per_host else ():
        whole = ipaddress.ip_network(pool(subnet))
        length = slice_length(network.per_host, str(whole))
        if length is None:
            cure = "give a length above 32 too" if whole.version == 6 else "give a length up to 32 too"
            faults.append(Fault(place, "per_host", f"gives no length for {whole}, which is IPv{whole.version}", cure))
        elif not whole.prefixlen <= length <= whole.max_prefixlen:
            cure = f"give {whole.prefixlen} to {whole.max_prefixlen}"
            faults.append(Fault(place, "per_host", f"{whole} cannot be divided into slices of /{length}", cure))
    if network.options.get("host_access") and not (network.per_host or is_l3(network.spec)):
        faults.append(Fault(network.row.find("host_access"), "host_access", "every host would take the same address of the subnet",
                            "give per_host, so that each takes one of its own slice"))  # fmt: skip
