# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The mesh of L3 networks of a fleet: which host has which prefixes, and by which address others reach them.

Everything is taken from the hosts' own rows in the inventory, never from facts, so that a run that is limited
to one host knows all the others.
"""

from __future__ import annotations

import collections
import ipaddress
from typing import Any, Collection, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ._fleet import packed, view

Vars = Mapping[str, Any]
Row = Dict[str, Any]

#: Of a route that catches the unused addresses of a prefix: behind every other, as the engine has it.
LAST_METRIC = 2**32 - 2


class MeshError(ValueError):
    """What is wrong with the rows of the fleet, a line each."""


class Prefix(NamedTuple):
    """A subnet of an L3 network of some host."""

    prefix: str
    network: str  # the network's name
    parent: str
    vrf: str  # of the parent; none is the main table
    host_access: bool


def of_host(host: str, found: Vars) -> Row:
    """The L3 prefixes of a host, and the addresses that it has below them, by the rows of its variables."""
    if _is_absent(found, "l3_routing_state"):
        return {"mode": "static", "prefixes": [], "underlay": {}, "vrfs": {}}
    networks = (
        [] if _is_absent(found, "trunk_state") else [*_of_map(host, found), *_list(host, found, "trunk_networks")]
    )
    links = [] if _is_absent(found, "trunk_state") else _list(host, found, "trunk_links")
    nics = found.get("trunk_nics") or {}
    underlay: Dict[str, List[str]] = {}
    for parent, addresses in (found.get("l3_routing_underlay") or {}).items():
        underlay.setdefault(_nic(str(parent), nics), []).extend(map(str, addresses))
    for row in links:
        name = str(row.get("name") or f"{row.get('parent')}.{row.get('vlan_id')}")
        underlay.setdefault(_nic(name, nics), []).extend(map(str, row.get("addresses") or ()))
    vrfs = {_nic(str(parent), nics): str(vrf) for parent, vrf in (found.get("l3_routing_vrfs") or {}).items()}
    prefixes = [prefix._asdict() for row in networks for prefix in _prefixes(host, row, nics, vrfs)]
    for parent, texts in underlay.items():
        for text in texts:
            _interface(host, parent, text)
    return {
        "mode": str(found.get("l3_routing_mode") or "static"),
        "prefixes": prefixes,
        "underlay": underlay,
        "vrfs": vrfs,
    }


def _of_map(host: str, found: Vars) -> List[Row]:
    """The L3 networks that the inventory's map has for a host, each with the host's own slice."""
    if packed.VARIABLE not in found or packed.GROUP not in (found.get("group_names") or ()):
        return []
    known = {packed.VARIABLE: found[packed.VARIABLE], "group_names": found["group_names"], "inventory_hostname": host}
    try:
        return view.networks(known, only_l3=True)
    except packed.MapError as error:
        raise MeshError(f"{host}: {error}") from None


def elsewhere(found: Vars, hosts: Collection[str]) -> List[str]:
    """The hosts that have slices of L3 networks in the ledger and are not in this inventory.

    They are of another slice of a job, or disabled: their routes are not known here, and not to be removed.
    """
    if packed.VARIABLE not in found:
        return []
    return sorted(set(view.l3_holders(found[packed.VARIABLE])) - set(hosts))


def _is_absent(found: Vars, name: str) -> bool:
    return found.get(name) == "absent"


def _list(host: str, found: Vars, name: str) -> Sequence[Row]:
    rows = found.get(name) or []
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not all(isinstance(row, Mapping) for row in rows):
        raise MeshError(f"{host}: {name} is not a list of rows; write one item a line, each with '- '")
    return rows


def _nic(name: str, nics: Mapping[str, Any]) -> str:
    """A link's name with the NIC in the place of a logical trunk, where the rows know its name."""
    head, dot, tail = name.partition(".")
    nic = nics.get(head, head)
    if isinstance(nic, Mapping):
        nic = nic.get("name") or head
    return f"{nic}{dot}{tail}"


def _prefixes(host: str, row: Row, nics: Mapping[str, Any], vrfs: Mapping[str, str]) -> Iterator[Prefix]:
    """None of a network that is on no wire."""
    if row.get("mode") not in ("l3", "l3s") or not row.get("parent"):
        return
    name, parent = str(row.get("name")), _nic(str(row["parent"]), nics)
    for position, subnet in enumerate(row.get("subnets") or row.get("ipam_config") or ()):
        try:
            network = ipaddress.ip_network(str(subnet["subnet"]), strict=False)
        except (ValueError, KeyError, TypeError):
            raise MeshError(
                f"{host}: network {name}, subnets[{position}] is not a subnet; write {{subnet: 10.1.0.0/24}}"
            ) from None
        yield Prefix(str(network), name, parent, vrfs.get(parent, ""), bool(row.get("host_access")))


def _interface(host: str, parent: str, text: str) -> Any:
    try:
        if "/" not in text:
            raise ValueError
        return ipaddress.ip_interface(text)
    except ValueError:
        raise MeshError(
            f"{host}: {text} of {parent} is not an address with prefix length; write it as 192.0.2.10/24"
        ) from None


# --- the mesh ------------------------------------------------------------------------------------


def mesh(fleet: Mapping[str, Row], host: str) -> List[Row]:
    """The routes that one host needs: to the prefixes of every other on a common segment, and to its own unused addresses.

    Raises MeshError with everything that is wrong with the rows that this host needs.
    """
    if host not in fleet:
        raise MeshError(f"{host} is not among the hosts of the mesh; add it to l3_routing_hosts")
    mine = fleet[host]
    segments = {
        (mine["vrfs"].get(parent, ""), _interface(host, parent, text).network)
        for parent, texts in mine["underlay"].items()
        for text in texts
    }
    problems: List[str] = []
    routes: List[Tuple[Any, str, Row]] = []
    parents = collections.Counter(vrf for vrf, _parent in {(row["vrf"], row["parent"]) for row in mine["prefixes"]})
    for row in mine["prefixes"]:
        # Such a route is in the way of endpoints on other parents of this host, whose packets pass through the router.
        if parents[row["vrf"]] == 1:
            routes.append((_key(row), host, _route(row, type="unreachable", metric=LAST_METRIC)))
    for other in sorted(set(fleet) - {host}):
        for row in fleet[other]["prefixes"]:
            via = _next_hop(fleet[other], other, row, segments, problems)
            if via:
                routes.append((_key(row), other, _route(row, via=via)))
    routes.sort(key=lambda route: route[0])
    problems += _overlaps([(owner, row) for _key_of, owner, row in routes])
    if problems:
        raise MeshError("\n".join(problems))
    return [row for _key_of, _owner, row in routes]


def _route(row: Row, **way: Any) -> Row:
    return {"prefix": row["prefix"], **way, **({"vrf": row["vrf"]} if row["vrf"] else {})}


def _key(row: Row) -> Tuple[str, int, int, int]:
    network = ipaddress.ip_network(row["prefix"])
    return (row["vrf"], network.version, int(network.network_address), network.prefixlen)


def _next_hop(owner: Row, name: str, row: Row, segments: Iterable[Any], problems: List[str]) -> Optional[str]:
    """The owner's address on the prefix's own parent, where packets have to arrive; None where no segment is common.

    A VRF has the same name on every host: a subnet of one is another segment than the same subnet elsewhere.
    """
    version = ipaddress.ip_network(row["prefix"]).version
    there = [_interface(name, row["parent"], text) for text in owner["underlay"].get(row["parent"], ())]
    there = [address for address in there if address.version == version]
    if not there and owner["mode"] == "static":
        problems.append(f"{name}: network {row['network']} has {row['prefix']}, and {row['parent']} no IPv{version} address; "
                        f"give it one in trunk_links, or name it in l3_routing_underlay")  # fmt: skip
    return next((str(address.ip) for address in there if (row["vrf"], address.network) in segments), None)


def _overlaps(rows: Sequence[Tuple[str, Row]]) -> Iterator[str]:
    """Prefixes of one table that lie in one another, in an input that is sorted by their first addresses."""
    widest: Optional[Tuple[str, str, Any]] = None
    for owner, row in rows:
        vrf, network = row.get("vrf", ""), ipaddress.ip_network(row["prefix"])
        if (
            widest
            and widest[1] == vrf
            and widest[2].version == network.version
            and network.broadcast_address <= widest[2].broadcast_address
        ):
            yield f"{network} of {owner} overlaps {widest[2]} of {widest[0]}; give each host prefixes of its own"
        else:
            widest = (owner, vrf, network)
