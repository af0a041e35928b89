# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What one host gets of the maps: its networks with its slices, and its endpoints with their addresses."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from .ledger import Ledger, inside
from .needs import Fleet, Host, Want
from .packed import ENDPOINTS, GROUP, VARIABLE, LedgerData, LoadedMap, MapError, MapRow, maps_for, unpack
from .scope import is_for

ALLOCATE = "the ledger lacks what this host needs; run netops.underlay.allocate:"


def networks(variables: Mapping[str, Any], only_l3: bool = False, owner: Optional[str] = None) -> List[Dict[str, Any]]:
    """The rows of vlan_network for the host of these variables, or those in L3 modes, or of one owner. Raises MapError."""
    host, groups = str(variables.get("inventory_hostname")), list(variables.get("group_names") or ())
    found: List[Dict[str, Any]] = []
    lacking: List[str] = []
    for loaded in maps_for(variables, owner):
        rows = [row for row in loaded["rows"] if _is_l3(row)] if only_l3 else loaded["rows"]
        some, missing = rows_for(rows, host, groups, loaded["ledger"])
        found += some
        lacking += missing
    if lacking:
        raise MapError(ALLOCATE, lacking)
    return found


def endpoints(
    variables: Mapping[str, Any], own: Sequence[Any], strict: bool = True, owner: Optional[str] = None
) -> List[Any]:
    """The rows of vlan_endpoint for a host: those of its variable, which ``own`` are, and those of tables.

    With ``owner`` without those in networks of maps of other owners. Raises MapError, with ``strict`` also where the ledger lacks an address.
    """
    host, groups = str(variables.get("inventory_hostname")), list(variables.get("group_names") or ())
    loaded = maps_for(variables, owner)
    others = {row["network"]["name"] for one in maps_for(variables) if one not in loaded for row in one["rows"]}
    rows = [
        row for row in declared(loaded, host, own) if not (isinstance(row, Mapping) and row.get("network") in others)
    ]
    lacking: List[str] = []
    for one in loaded:
        rows, missing = endpoints_for(one["rows"], rows, host, groups, one["ledger"])
        lacking += missing
    if lacking and strict:
        raise MapError(ALLOCATE, lacking)
    return rows


def l3_holders(text: object) -> List[str]:
    """The hosts that have a slice of an L3 network in the ledger of any map."""
    found: Dict[str, None] = {}
    for loaded in unpack(text):
        slices = loaded["ledger"]["slices"] if loaded["ledger"] else {}
        for row in loaded["rows"]:
            if _is_l3(row):
                found.update(dict.fromkeys(slices.get(row["network"]["name"], {})))
    return list(found)


def moved(variables: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The addresses that hosts had before, by the ledgers of all maps: who has each now, and who had it."""
    members = (variables.get("groups") or {}).get(GROUP)
    known = variables if VARIABLE in variables or not members else variables["hostvars"][members[0]]
    hosts: Dict[str, Set[str]] = {}
    former: Dict[str, Set[str]] = {}
    for loaded in unpack(known[VARIABLE]) if VARIABLE in known else ():
        ledger = Ledger.of(loaded["ledger"]) if loaded["ledger"] else Ledger()
        for address, holders in ledger.former.items():
            former.setdefault(address, set()).update(map(str, holders))
        for address, holder in ledger.holders():
            hosts.setdefault(address, set()).add(holder.host)
    return [
        {"address": address, "hosts": sorted(hosts.get(address, ())), "former": sorted(former[address])}
        for address in sorted(former)
    ]


def _is_l3(row: MapRow) -> bool:
    return row["network"].get("mode") in ("l3", "l3s")


def declared(maps: Iterable[LoadedMap], host: str, own: Sequence[Any]) -> List[Any]:
    """The endpoints that are declared for a host, in its variable and in tables."""
    return [*own, *(row["endpoint"] for loaded in maps for row in loaded["endpoints"] if row["host"] == host)]


def own_endpoints(variables: Mapping[str, Any]) -> List[Any]:
    """The endpoints of a host's own variable, as a list whatever it is; the model tells what is wrong with it."""
    found = variables.get(ENDPOINTS) or []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def rows_for(
    rows: Iterable[MapRow], host: str, groups: Sequence[str], ledger: Optional[LedgerData]
) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The rows of vlan_network for one host, with its slices; and what the ledger lacks for them."""
    found: List[Dict[str, Any]] = []
    lacking: List[str] = []
    groups_of = set(groups)
    slices = ledger["slices"] if ledger else {}
    for row in rows:
        if not is_for(row, host, groups_of):
            continue
        network = row["network"]
        # What the table says now is what is wanted: an edit may change what the kernel cannot change in place.
        options = {**network, "recreate": True}
        if row.get("per_host"):
            own = slices.get(network["name"], {}).get(host, [])
            options["subnets"] = []
            for subnet in network["subnets"]:
                part = next((text for text in own if inside(text, subnet["subnet"])), None)
                if part is None:
                    lacking.append(f"host {host} has no slice of {subnet['subnet']} in network {network['name']}")
                else:
                    options["subnets"].append(_sliced(subnet, part, _is_l3(row)))
        found.append(options)
    return found, lacking


def _sliced(subnet: Mapping[str, Any], part: str, l3: bool) -> Dict[str, Any]:
    """A subnet as one host has it: in L3 modes its own prefix, else the whole with its own part to take addresses from."""
    if not l3:
        return {**subnet, "ip_range": part}
    here = {name: address for name, address in subnet.get("aux_addresses", {}).items() if inside(address, part)}
    return {"subnet": part, **({"aux_addresses": here} if here else {})}


def endpoints_for(
    rows: Iterable[MapRow], endpoints: Sequence[Any], host: str, groups: Sequence[str], ledger: Optional[LedgerData]
) -> Tuple[List[Any], List[str]]:
    """The rows of vlan_endpoint for one host, with the addresses that the ledger gives; and what it lacks for them."""
    if ledger is None:
        return list(endpoints), []
    named = {str(row.get("network")) for row in endpoints if isinstance(row, Mapping)}
    fleet = Fleet(
        [row for row in rows if row["network"]["name"] in named], {host: Host(groups, endpoints)}, whole=False
    )
    wanted: Dict[Tuple[str, str], List[Want]] = {}
    for want in fleet.addresses:
        wanted.setdefault((want.network, want.holder), []).append(want)
    found: List[Any] = []
    lacking: List[str] = []
    for row in endpoints:
        if isinstance(row, Mapping):
            network, name = str(row.get("network")), str(row.get("name"))
            own = ledger["addresses"].get(network, {}).get(host, {}).get(name, [])
            row = dict(row)
            for want in wanted.get((network, f"{host}/{name}"), ()):
                address = next((text for text in own if any(inside(text, subnet) for subnet in want.subnets)), None)
                if address is None:
                    lacking.append(want.text)
                else:
                    row[f"ipv{want.version}_address"] = address
        found.append(row)
    return found, lacking
