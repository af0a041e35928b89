# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host will hold once a declaration is met: the recorded items, overlaid with the declared ones.

The target also answers the questions that both the rules and the derivation ask: which link a parent's
name means, who uses it, and which items this run is about (its *scope*).
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from . import model
from .fields import Problem
from .model import Declaration, Item
from .world import LINK_GROUP, Link, Namespace, Record, Records, Spec, World, link_key

ITEM_KINDS = ("vlan", "network", "endpoint", "routes")


class Parent(NamedTuple):
    """What a parent's name means: a link that is there, or a sub-interface that will be made."""

    name: str  # the kernel's name
    link: Optional[Link]  # as observed
    base: Optional[str] = None  # made on the fly (or declared) on this link ...
    vlan_id: int = 0  # ... for this VLAN
    altnames: List[str] = []

    @property
    def identity(self) -> object:
        """Two names of one link are one parent: an ifindex where it exists, a name where it does not yet."""
        return self.link.index if self.link else self.name


class Target:
    """The items of a host after a declaration, and what they mean in its world."""

    def __init__(self, declared: Declaration, records: Records, world: World, seed: str) -> None:
        self.declared = declared
        self.seed = seed  # of the host, for what is picked by chance but stays
        self.records = records
        self.world = world
        self.problems: List[Problem] = list(declared.problems)
        self.warnings: List[str] = list(declared.warnings)
        self.items: Dict[str, Dict[str, Spec]] = {
            kind: {key: record.spec for key, record in records.get(kind, {}).items()} for kind in ITEM_KINDS
        }
        self.scope: Dict[str, Dict[str, Item]] = {kind: {} for kind in ITEM_KINDS}
        self._parents: Dict[str, Optional[Parent]] = {}
        self._trunks = {name: nic for name, row in declared.trunks.items() if (nic := self._trunk(name, row))}
        self._sub_interfaces = {
            (link.parent, link.data["vlan_id"], link.data["protocol"]): link
            for link in world.host.links.values()
            if link.kind == "vlan" and link.parent_ns is None
        }
        if self._trunks:
            self.declared = dataclasses.replace(declared, items=[self._on_nics(item) for item in declared.items])
        for item in (*self.declared.items, *self._purged()):
            self._overlay(item)

    # -- items ------------------------------------------------------------------------------------

    def _purged(self) -> Iterable[Item]:
        if not self.declared.purge:
            return
        named = {(item.kind, item.key) for item in self.declared.items}
        for kind in ITEM_KINDS:
            for key, record in self.records.get(kind, {}).items():
                if record.spec["owner"] == self.declared.owner and (kind, key) not in named:
                    yield Item(kind, key, "purge", None)

    def _overlay(self, item: Item) -> None:
        record = self.records.get(item.kind, {}).get(item.key)
        owner = record.spec["owner"] if record else self.declared.owner
        if owner != self.declared.owner and not self.declared.adopt:
            whose = f"map {owner[4:]}" if owner.startswith("map:") else "a task of its own"
            self.refuse(item.path, f"{item.kind} {item.key} belongs to {whose}", "change it there, or set adopt: true")
            return
        if item.kind == "routes" and item.spec is not None:
            rows = [{**row, "dev": self.device(row["dev"])} if row.get("dev") else row for row in item.spec["routes"]]
            item = item._replace(spec=_merged({**item.spec, "routes": rows}, record.spec if record else None))
        self.scope[item.kind][item.key] = item
        if item.spec is None:
            self.items[item.kind].pop(item.key, None)
            return
        self.items[item.kind][item.key] = {**item.spec, "owner": self.declared.owner}

    def before(self, kind: str, key: str) -> Optional[Spec]:
        """An item as it is recorded."""
        record = self.records.get(kind, {}).get(key)
        return record.spec if record else None

    def record(self, kind: str, key: str) -> Optional[Record]:
        return self.records.get(kind, {}).get(key)

    def path(self, kind: str, key: str, option: str = "") -> str:
        """Where the input speaks of an item; of one that it does not name, what it is."""
        item = self.scope[kind].get(key)
        where = item.path if item else f"{kind} {key}"
        return f"{where}.{option}" if where and option else where or option

    def refuse(self, path: str, what: str, cure: str) -> None:
        self.problems.append(Problem(path, what, cure))

    # -- trunks and parents -----------------------------------------------------------------------

    def _trunk(self, name: str, row: Spec) -> Optional[str]:
        """The NIC of a logical trunk."""
        if "name" in row:
            link = self.world.host.names.get(row["name"])
            found = [link] if link else []
        else:
            ((by, value),) = row["match"].items()
            found = [link for link in self.world.host.links.values() if _matches(link, by, value)]
        if len(found) == 1:
            return found[0].name
        what = f"fits {len(found)} links: " + ", ".join(link.name for link in found) if found else "fits no link of this host"
        self.refuse(f"trunks.{name}", what, f"this host has {self.links_there()}")
        return None

    def _on_trunk(self, name: str) -> str:
        """A link's name, or its base's, with the NIC in the place of a logical trunk."""
        head, dot, tail = name.partition(".")
        return self._trunks.get(head, head) + dot + tail

    def _on_nics(self, item: Item) -> Item:
        """An item with NICs in the place of logical trunks, also in the name of a sub-interface that was given none."""
        spec = dict(item.spec or {})
        if spec.get("parent"):
            if item.kind == "vlan" and item.key == f"{spec['parent']}.{spec['vlan_id']}":
                spec["name"] = self._on_trunk(item.key)
                item = item._replace(key=spec["name"])
            spec["parent"] = self._on_trunk(spec["parent"])
        if item.kind == "routes":
            spec["routes"] = [{**row, "dev": self._on_trunk(row["dev"])} if row.get("dev") else row for row in spec["routes"]]
        return item._replace(spec=spec) if item.spec is not None else item

    def device(self, name: str) -> str:
        """The kernel's name of a link that is there, or will be, by any of its names."""
        link = self.world.host.names.get(name)
        return link.name if link else model.link_names(name)[0]

    def table(self, route: Spec) -> Optional[int]:
        """The table of a route of a set; None where its VRF is not there."""
        if not route["vrf"]:
            return int(route["table"])
        vrf = self.world.host.names.get(route["vrf"])
        return int(vrf.data["table"]) if vrf is not None and vrf.kind == "vrf" else None

    def links_there(self) -> str:
        """The links that may serve as a base, for people who mistyped one."""
        names = [link.name for link in self.world.host.links.values() if link.kind != "vlan" and link.name != "lo"]
        return ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "") or "no link but lo"

    def parent(self, network: Spec) -> Optional[Parent]:
        """The parent of a network; None where it cannot be had (the refusal is noted once by the rules)."""
        name = network["parent"]
        if name is None:
            name = dummy_name(network)
        try:
            return self._parents[name]
        except KeyError:
            found = self._parents[name] = self.resolve(name, dummy=network["parent"] is None)
            return found

    def resolve(self, name: str, dummy: bool = False) -> Optional[Parent]:
        link = self.world.host.names.get(name)
        vlan = self.items["vlan"].get(name)
        if vlan:
            short, longer = model.link_names(name)
            return Parent(short, link, vlan["parent"], vlan["vlan_id"], longer)
        if dummy:
            return Parent(name, link)
        base, _rest, tail = name.rpartition(".")
        if link is not None:
            record = self.record("link", link.name)
            if record:
                base = record.spec.get("parent") or ""  # it may be called by a name that does not tell
            ours = record or (self.declared.adopt and link.kind == "vlan" and link.group == LINK_GROUP)
            return Parent(link.name, link, base or None if ours else None, link.data.get("vlan_id", 0), list(link.altnames))
        if base and tail.isdigit() and 1 <= int(tail) <= 4094 and tail == str(int(tail)):
            short, longer = model.link_names(name)
            return Parent(short, None, base, int(tail), longer)
        return None

    def is_recorded(self, name: str) -> bool:
        return name in self.records.get("link", {})

    def is_ours(self, link: Link, key: str) -> bool:
        """Provably ours: the registry says that we made it, and it carries our mark."""
        return link.group == LINK_GROUP and key in self.records.get("link", {})

    def strayed(self, key: str) -> Optional[Tuple[Namespace, Link]]:
        """Where the link of an endpoint lives on although its workload is gone or another, as after a container was renamed.

        Known by what nobody else has: our mark, no record, and the MAC of the record, or where that is the parent's an address of it.
        """
        before = self.before("endpoint", key)
        record = self.record("link", link_key(before["workload"], before["interface"])) if before else None
        if before is None or record is None:
            return None
        there = self.world.link(before["workload"], before["interface"])
        parent = self.world.host.names.get(record.spec["parent"])
        if parent is None or (there is not None and there.group == LINK_GROUP):
            return None
        for where, link in self.world.children.get(parent.index, ()):
            if link.group != LINK_GROUP or link.kind != record.spec["kind"] or self.is_recorded(link_key(where.workload, link.name)):
                continue
            held = {address.address for address in where.addresses.get(link.index, ())}
            if link.mac == record.spec["mac"] if record.spec.get("mac") else held.intersection(before["addresses"]):
                return where, link
        return None

    @cached_property
    def followed(self) -> Set[str]:
        """The workloads in which endpoints are that only came to be called so: all of theirs is there already."""
        found = set()
        for key, item in self.scope["endpoint"].items():
            stray = self.strayed(key) if item.spec is not None else None
            if stray and item.spec and (stray[0].workload, stray[1].name) == (item.spec["workload"], item.spec["interface"] or stray[1].name):
                found.add(stray[0].workload)
        return found

    def same_vlan(self, base: Link, vlan_id: int, protocol: str = "802.1q") -> Optional[Link]:
        """The sub-interface that has a VLAN of a base already, under whatever name."""
        return self._sub_interfaces.get((base.index, vlan_id, protocol))

    @cached_property
    def sharers(self) -> Dict[object, List[str]]:
        """The networks on each parent, by its identity."""
        found: Dict[object, List[str]] = {}
        for network in self.items["network"].values():
            parent = self.parent(network)
            if parent:
                found.setdefault(parent.identity, []).append(network["name"])
        return found

    def endpoints_of(self, networks: Set[str]) -> Dict[str, Spec]:
        return {key: spec for key, spec in self.items["endpoint"].items() if spec["network"] in networks}


def _merged(asked: Spec, record: Optional[Spec]) -> Optional[Spec]:
    """A set of routes after a task: what it asks for alone, that and what was there, or what was there less that.

    Routes that stay keep their order, so that a task that lists them in another one changes nothing.
    """
    before: List[Spec] = record["routes"] if record else []
    network = record["network"] if record else None
    if asked["absent"]:
        gone: Dict[str, List[Spec]] = {}
        for row in asked["routes"]:
            gone.setdefault(row["prefix"], []).append(row)
        left = [route for route in before if not any(_is_meant(row, route) for row in gone.get(route["prefix"], ()))]
        return {"name": asked["name"], "network": network, "routes": left} if left or network else None
    there = {_place(route): route for route in before}
    listed = {_place(route): route for route in asked["routes"]}
    merged = listed if asked["exact"] else {**there, **listed}
    return {
        "name": asked["name"],
        "network": asked["network"] or (None if asked["exact"] else network),
        "routes": before if merged == there else list(merged.values()),
    }


def _place(route: Spec) -> Tuple[object, ...]:
    return tuple(route[key] for key in ("prefix", "metric", "table", "vrf"))


def _is_meant(row: Spec, route: Spec) -> bool:
    """Whether a route is one of those that a row says shall be absent."""
    return all(row[key] in (None, route[key]) for key in ("metric", "table", "vrf"))


def dummy_name(network: Spec) -> str:
    """The dummy of a network without a parent: as Docker's ``di-`` and ``dm-``, of a digest of the name."""
    return model.digest_name("di-" if network["driver"] == "ipvlan" else "dm-", network["name"])


def _matches(link: Link, by: str, value: str) -> bool:
    if by == "mac":
        return link.perm_mac == value
    return link.device == value if by == "pci" else value in link.altnames
