# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired state of a host: the recorded items, overlaid with the declared ones.

It also answers what both the rules and the expansion need to know: which link a parent's name refers to, who uses it, and which items this
run is about (its *scope*).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Dict, Iterable, List, Literal, NamedTuple, Optional, Set, Tuple, cast

from ..core import identity
from ..core.change import LINK_GROUPS, Record, Records, items_of, link_key, of_kind
from ..core.endpoint_specs import EndpointSpec, interfaces
from ..core.errors import Problem
from ..core.link_specs import VlanSpec
from ..core.network_specs import NetworkSpec
from ..core.route_specs import RouteRow, RoutesRequest, RoutesSpec
from ..core.specs import Items, Spec
from ..core.state import HostState, Link, Namespace
from ..declare.declaration import Declaration, Item
from ..declare.naming import digest_name, link_names
from . import purge, route_sets
from .nics import Nics

ITEM_KINDS = ("vlan", "network", "endpoint", "routes")


class Parent(NamedTuple):
    """What a parent's name refers to: an existing link, or a sub-interface that will be created."""

    name: str  # the kernel's name
    link: Optional[Link]  # as observed
    base: Optional[str] = None  # created as needed (or declared) on this link ...
    vlan_id: int = 0  # ... for this VLAN
    altnames: List[str] = []

    @property
    def identity(self) -> object:
        """The identity of a parent, the same for all names of a link: its ifindex if it exists, else its name."""
        return self.link.index if self.link else self.name


def desired_state(declared: Declaration, records: Records, observed: HostState, seed: str) -> DesiredState:
    """What a host will hold once a declaration is met."""
    desired = DesiredState(declared, records, observed, seed)
    desired.overlay_declared()
    return desired


class DesiredState:
    """The items of a host after a declaration, and what they mean there."""

    def __init__(self, declared: Declaration, records: Records, observed: HostState, seed: str) -> None:
        self.declared = declared
        self.seed = seed  # of the host, for what is picked by chance but stays
        self.records = records
        self.observed = observed
        self.problems: List[Problem] = list(declared.problems)
        self.warnings: List[str] = list(declared.warnings)
        self.items = items_of(records)
        self.scope: Dict[str, Dict[str, Item]] = {kind: {} for kind in ITEM_KINDS}
        self._parents: Dict[Tuple[str, bool], Optional[Parent]] = {}
        self.asked: Dict[str, List[List[str]]] = {}  # the registry's name of a NIC -> what this run asks for it by
        self._moved: Dict[str, List[Tuple[str, Tuple[Namespace, Link]]]] = {}
        self.leaving: Set[Link] = set()  # links of ours that are removed from where they live on: see ``plan``
        self._broken: Set[Tuple[str, str]] = set(declared.broken)  # what has a problem of its own already

    # -- items ------------------------------------------------------------------------------------

    def overlay_declared(self) -> None:
        """Lay the declared items over the recorded ones, with NICs in the place of logical trunks."""
        nics = Nics(self.declared, self.records, self.observed)
        self.declared = dataclasses.replace(self.declared, items=nics.named())
        self.problems += nics.problems
        self._broken |= nics.broken
        self.asked = nics.asked
        for item in (*self.declared.items, *self._purged()):
            self._overlay(item)

    def _purged(self) -> Iterable[Item]:
        if self.declared.purge:
            self.problems += purge.beyond_limit(self.declared, self.records)
            for kind, keys, _owned in purge.undeclared(self.declared, self.records):
                yield from (Item(kind, key, "purge", None) for key in keys)

    def _overlay(self, item: Item) -> None:
        record = self.records.get(item.kind, {}).get(item.key)
        owner = record.spec["owner"] if record else self.declared.owner
        unknown = self.is_broken("owner", self.declared.owner)  # whose they are is not said twice
        if owner != self.declared.owner and not self.declared.adopt and not unknown:
            whose = f"map {owner[4:]}" if owner.startswith("map:") else "a task of its own"
            self.refuse_at(
                item.path, f"{item.kind} {item.key} belongs to {whose}", "change it there, or set adopt: true"
            )
            return
        if item.kind == "routes" and item.spec is not None:
            rows = [{**row, "dev": self.device(row["dev"])} if row.get("dev") else row for row in item.spec["routes"]]
            asked, recorded = {**item.spec, "routes": rows}, record.spec if record else None
            item = item._replace(
                spec=route_sets.merged(cast(RoutesRequest, asked), cast(Optional[RoutesSpec], recorded))
            )
        self.scope[item.kind][item.key] = item
        if item.spec is None:
            self.of_kind(item.kind).pop(item.key, None)
            return
        self.of_kind(item.kind)[item.key] = {**item.spec, "owner": self.declared.owner}

    def of_kind(self, kind: str) -> Dict[str, Spec]:
        """The items of a kind that only the caller knows."""
        return of_kind(self.items, kind)

    def in_scope(self) -> Items:
        """The declared items that are present, complete."""
        declared = {
            kind: {key: items[key] for key, item in self.scope[kind].items() if item.spec is not None}
            for kind, items in ((kind, self.of_kind(kind)) for kind in ITEM_KINDS)
        }
        return cast(Items, declared)

    def declared_vlan(self, name: Optional[str]) -> Optional[VlanSpec]:
        """The declared sub-interface of a name; None if there is none."""
        return self.items["vlan"].get(name or "")

    def before(self, kind: str, key: str) -> Optional[Spec]:
        """An item as it is recorded."""
        record = self.records.get(kind, {}).get(key)
        return record.spec if record else None

    def record(self, kind: str, key: str) -> Optional[Record]:
        """What the registry has of an item or an object; None for nothing."""
        return self.records.get(kind, {}).get(key)

    def path(self, kind: str, key: str, option: str = "") -> str:
        """The path of an item in the input; for one that is not in the input, its kind and name."""
        item = self.scope[kind].get(key)
        where = item.path if item else f"{kind} {key}"
        return f"{where}.{option}" if where and option else where or option

    def refuse(self, kind: str, key: str, option: str, message: str, fix: str) -> None:
        """Record a problem with an option of an item."""
        self.refuse_at(self.path(kind, key, option), message, fix)

    def refuse_at(self, path: str, message: str, fix: str) -> None:
        """Record a problem at a path of the input."""
        self.problems.append(Problem(path, message, fix))

    def is_broken(self, kind: str, key: str) -> bool:
        """Whether an item has a problem itself, so that it is not also reported as missing."""
        return (kind, key) in self._broken

    def lacks_trunk(self, name: Optional[str]) -> bool:
        """Whether a link is missing only because its logical trunk, or the declared sub-interface, has a problem."""
        return name is not None and (self.is_broken("trunk", name.partition(".")[0]) or self.is_broken("vlan", name))

    def warn(self, kind: str, key: str, option: str, message: str) -> None:
        """Record a warning about an option of an item."""
        self.warnings.append(f"{self.path(kind, key, option)}: {message}")

    # -- links and parents ----------------------------------------------------------------------------

    def device(self, name: str) -> str:
        """The kernel's name of a link that is there, or will be, by any of its names."""
        link = self.observed.host.names.get(name)
        return self.observed.called(link) if link else link_names(name)[0]

    def table(self, route: RouteRow) -> Optional[int]:
        """The table of a route of a set; None where its VRF is not there."""
        if not route["vrf"]:
            return route["table"]
        vrf = self.observed.host.names.get(route["vrf"])
        return int(vrf.data["table"]) if vrf is not None and vrf.kind == "vrf" else None

    def parent(self, network: NetworkSpec) -> Optional[Parent]:
        """The parent of a network; None if there is none (the rules report that once)."""
        name = network["parent"]
        return self.resolve(dummy_name(network), dummy=True) if name is None else self.resolve(name)

    def resolve(self, name: str, dummy: bool = False) -> Optional[Parent]:
        """What the name of a parent, or of its dummy, refers to; None where nothing is there, nor can be made."""
        try:
            return self._parents[name, dummy]
        except KeyError:
            found = self._parents[name, dummy] = self._resolved(name, dummy)
            return found

    def _resolved(self, name: str, dummy: bool) -> Optional[Parent]:
        link = self.observed.host.names.get(name)
        vlan = self.items["vlan"].get(name)
        if vlan:
            short, longer = link_names(name)
            return Parent(short, link, vlan["parent"], vlan["vlan_id"], longer)
        if dummy:
            return Parent(name, link)
        base, _rest, tail = name.rpartition(".")
        record = self.record("link", self.observed.called(link) if link is not None else name)
        if link is None and record is not None and record.spec["kind"] == "vlan":
            short, longer = link_names(name)
            return Parent(short, None, record.spec["parent"], record.spec["vlan_id"], longer)
        if link is not None:
            if record:
                base = record.spec.get("parent") or ""  # it may be called by a name that does not tell
            ours = record or (self.declared.adopt and link.kind == "vlan" and link.group in LINK_GROUPS)
            return Parent(
                self.observed.called(link),
                link,
                base or None if ours else None,
                link.data.get("vlan_id", 0),
                list(link.altnames),
            )
        if base and tail.isdigit() and 1 <= int(tail) <= 4094 and tail == str(int(tail)):
            short, longer = link_names(name)
            return Parent(short, None, base, int(tail), longer)
        return None

    def carrier(self, network: NetworkSpec, vlan_id: int) -> Optional[Parent]:
        """The sub-interface that carries a VLAN of a network's NIC, whatever it is called; None where there is no NIC."""
        nic = self.parent(network) if network["parent"] else None
        if nic is None:
            return None
        there = self.same_vlan(nic.link, vlan_id) if nic.link else None
        declared = self._declared_carriers.get((nic.name, vlan_id))
        name = declared or (self.observed.called(there) if there else f"{nic.name}.{vlan_id}")
        return self.resolve(name)

    def carriers(self, endpoint: EndpointSpec) -> List[Parent]:
        """What the links of an endpoint are on: the parent of its network, or of a trunk a sub-interface for each VLAN."""
        network = self.items["network"].get(endpoint["network"])
        if network is None:
            return []
        found = [self.carrier(network, vlan_id) for vlan_id in endpoint["vlans"]] or [self.parent(network)]
        return [parent for parent in found if parent is not None]

    @cached_property
    def _declared_carriers(self) -> Dict[Tuple[str, int], str]:
        """The declared sub-interfaces, by the kernel's name of their base and by VLAN."""
        return {
            (self.device(vlan["parent"]), vlan["vlan_id"]): key
            for key, vlan in self.items["vlan"].items()
            if vlan["protocol"] == "802.1q"
        }

    def is_recorded(self, name: str) -> bool:
        """Whether a link of the host is in the registry, by its key."""
        return name in self.records.get("link", {})

    def is_ours(self, link: Link, key: str) -> bool:
        """Whether a link is provably ours: it is in the registry and has our mark."""
        return link.group in LINK_GROUPS and key in self.records.get("link", {})

    def is_ours_in(self, namespace: Namespace, link: Link) -> bool:
        """The same of a link in a namespace, whatever that was called when the link was made."""
        return link.group in LINK_GROUPS and self.is_recorded_in(namespace, link)

    def is_recorded_in(self, namespace: Namespace, link: Link) -> bool:
        """Whether a link is recorded, whatever it, or its namespace, is called now."""
        return identity.is_recorded(self.observed, self.records, namespace, link)

    def moved_link(self, key: str) -> Optional[Tuple[Namespace, Link]]:
        """Where the link of an endpoint lives on although its workload is gone or another, as after a container was renamed.

        Known by what only it has: our mark, no record, and the MAC of the record, or where that is the parent's an address of it.
        """
        found = self.moved_links(key)
        return found[0][1] if found else None

    def moved_links(self, key: str) -> List[Tuple[str, Tuple[Namespace, Link]]]:
        """All such links of an endpoint, each with the key of its record: a trunk has several."""
        if key not in self._moved:
            before = self.before("endpoint", key)
            links = [link_key(before["workload"], name) for name in interfaces(before)] if before else []
            found = [
                (link, identity.moved(self.observed, self.records, link))
                for link in links
                if link in self.records.get("link", {})
            ]
            self._moved[key] = [(link, there) for link, there in found if there is not None]
        return self._moved[key]

    def is_renamed(self, key: str) -> bool:
        """Whether an endpoint that lives on elsewhere may do so because its workload was renamed."""
        before, found = self.before("endpoint", key), self.moved_link(key)
        return bool(before and found and identity.is_renamed(self.observed, self.records, before["workload"], found[0]))

    @cached_property
    def moved_workloads(self) -> Set[str]:
        """The workloads in which endpoints are that only came to be called so: all of theirs is there already."""
        found = set()
        for key, item in self.scope["endpoint"].items():
            stray = self.moved_link(key) if item.spec is not None else None
            if (
                stray
                and item.spec
                and stray[0].workload == item.spec["workload"]
                and stray[1].name in (interfaces(item.spec) or [stray[1].name])
            ):
                found.add(stray[0].workload)
        return found

    def same_vlan(self, base: Link, vlan_id: int, protocol: str = "802.1q") -> Optional[Link]:
        """The existing sub-interface for a VLAN of a base, under any name."""
        return self._sub_interfaces.get((base.index, vlan_id, protocol))

    def vlan_elsewhere(self, base: Link, vlan_id: int, protocol: str) -> Optional[Tuple[Namespace, Link]]:
        """The sub-interface in another namespace that has a VLAN of a base, which a NIC has once for all of them."""
        return self._distant_sub_interfaces.get((base.index, vlan_id, protocol))

    @cached_property
    def _distant_sub_interfaces(self) -> Dict[Tuple[int, int, str], Tuple[Namespace, Link]]:
        return {
            (index, link.data["vlan_id"], link.data["protocol"]): (namespace, link)
            for index, children in self.observed.children.items()
            for namespace, link in children
            if link.kind == "vlan" and namespace is not self.observed.host
        }

    @cached_property
    def _sub_interfaces(self) -> Dict[Tuple[int, int, str], Link]:
        return {
            (link.parent, link.data["vlan_id"], link.data["protocol"]): link
            for link in self.observed.host.links.values()
            if link.kind == "vlan" and link.parent_ns is None
        }

    @cached_property
    def sharers(self) -> Dict[object, List[str]]:
        """The networks on each parent, by the parent's identity: also those of trunks with a link there."""
        found: Dict[object, List[str]] = {}
        for network in self.items["network"].values():
            parent = self.parent(network)
            if parent:
                found.setdefault(parent.identity, []).append(network["name"])
        for endpoint in self.items["endpoint"].values():
            for parent in self.carriers(endpoint) if endpoint["vlans"] else ():
                here = found.setdefault(parent.identity, [])
                if endpoint["network"] not in here:
                    here.append(endpoint["network"])
        return found

    def attached(self, workloads: Iterable[str]) -> List[str]:
        """The endpoints of a namespace, by its names."""
        return [key for workload in workloads for key in self._by_workload.get(workload, ())]

    @cached_property
    def _by_workload(self) -> Dict[str, List[str]]:
        return self._endpoints_by("workload")

    def endpoints_of(self, network: str) -> Dict[str, EndpointSpec]:
        """The endpoints of a network, by key."""
        return {key: self.items["endpoint"][key] for key in self._by_network.get(network, ())}

    @cached_property
    def _by_network(self) -> Dict[str, List[str]]:
        return self._endpoints_by("network")

    def _endpoints_by(self, option: Literal["workload", "network"]) -> Dict[str, List[str]]:
        """Known once the items are: an endpoint stays in its workload and in its network."""
        found: Dict[str, List[str]] = {}
        for key, endpoint in self.items["endpoint"].items():
            found.setdefault(endpoint[option], []).append(key)
        return found


def dummy_name(network: NetworkSpec) -> str:
    """The dummy of a network without a parent: as Docker's ``di-`` and ``dm-``, of a digest of the name."""
    return digest_name("di-" if network["driver"] == "ipvlan" else "dm-", network["name"])
