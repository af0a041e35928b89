# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel on paper: a World that changes are laid over, as strict as the real one where planning relies on it."""

from __future__ import annotations

import copy
import itertools
from typing import Any, Dict, Iterable, Optional

from ansible_collections.netops.underlay.plugins.module_utils._engine import isolation
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import (
    HOST,
    HOST_KINDS,
    Address,
    Change,
    Link,
    Namespace,
    Record,
    Records,
    Route,
    Spec,
    World,
)

KIND_OPTIONS = {
    "vlan": {
        "vlan_id": 1, "protocol": "802.1q", "gvrp": False, "mvrp": False, "loose_binding": False,
        "reorder_headers": True, "ingress_qos_map": {}, "egress_qos_map": {},
    },
    "macvlan": {"mode": "bridge", "bcqueuelen": 1000},
    "ipvlan": {"mode": "l3", "flag": "bridge"},
}  # fmt: skip


class Refused(Exception):
    pass


class PaperKernel:
    """Holds a World and does to it what the kernel would do."""

    def __init__(self, *nics: str) -> None:
        self.numbers = itertools.count(1)
        self.world = World(host=Namespace(HOST, "/proc/self/ns/net", (4, 1)))
        self.links(HOST, "lo", *nics)
        self.records: Records = {}

    def links(self, workload: str, *names: str, **more: Any) -> None:
        for name in names:
            self.add(workload, name, **more)

    def space(self, workload: str) -> Namespace:
        found = self.world.namespace(workload)
        if found is None:
            raise Refused(f"no namespace {workload}")
        return found

    def add(self, workload: str, name: str, **values: Any) -> Link:
        link = Link()
        defaults: Dict[str, Any] = {
            "index": next(self.numbers), "name": name, "kind": "", "parent": 0, "parent_ns": None, "master": 0,
            "mtu": 1500, "up": True, "group": 0, "mac": "02:00:00:00:00:01", "perm_mac": "", "device": "",
            "alias": "", "altnames": (), "data": {}, "conf4": (0,) * 33, "conf6": (0,) * 60, "genmode": 0,
        }  # fmt: skip
        for key, value in {**defaults, **values}.items():
            setattr(link, key, value)
        space = self.space(workload)
        if name in space.names:
            raise Refused(f"{name} exists")
        space.add(link)
        self.world.__dict__.pop("children", None)
        return link

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.kind in HOST_KINDS:
                getattr(self, "_" + change.kind)(change)
        self.world.__dict__.pop("children", None)

    def record(self, changes: Iterable[Change]) -> None:
        """As the registry lays a finished plan over its objects."""
        for change in changes:
            if not change.of:
                continue
            table = self.records.setdefault(change.kind, {})
            if change.after is None:
                table.pop(change.key, None)
            else:
                old = table[change.key].spec if change.key in table and change.before is not None else {}
                merged = {**old, **change.after}
                if "sysctls" in old and "sysctls" in change.after:
                    merged["sysctls"] = {**old["sysctls"], **change.after["sysctls"]}
                table[change.key] = Record(copy.deepcopy(merged), change.of)

    def _netns(self, change: Change) -> None:
        if change.after is None:
            self.world.namespaces.pop(change.key, None)
        elif change.key in self.world.namespaces:
            raise Refused(f"{change.key} exists")
        else:
            self.world.namespaces[change.key] = Namespace(change.key, "/run/netns/x", (4, next(self.numbers)))
            self.links(change.key, "lo", up=False)

    def _link(self, change: Change) -> None:
        spec = change.after or change.before or {}
        if change.after is None and self.world.namespace(spec["netns"]) is None:
            return
        space = self.space(spec["netns"])
        if change.after is None:
            link = space.names.get(spec["name"])
            if link is not None:
                self._drop(space, link)
            return
        if change.before is None:
            parent = self.world.host.names[spec["parent"]] if spec.get("parent") else None
            link = self.add(
                spec["netns"], spec["name"], kind=spec["kind"], up=False,
                parent=parent.index if parent else 0,
                parent_ns=None if spec["netns"] == HOST else HOST if parent else None,
                mtu=parent.mtu if parent else 1500,
                data=copy.deepcopy(KIND_OPTIONS.get(spec["kind"], {})),
            )  # fmt: skip
        else:
            link = space.names[spec["name"]]
        self._set(link, change.after)
        for name in link.altnames:
            space.names[name] = link

    def _set(self, link: Link, spec: Spec) -> None:
        for key, value in spec.items():
            if key in ("mtu", "mac", "up", "group"):
                setattr(link, key, value)
            elif key == "altnames":
                link.altnames = tuple(value)
            elif key in link.data or key == "bclim":
                link.data[key] = value
            elif key == "presence" and value:
                self._conf(link, isolation.settings(value))
            elif key == "sysctls":
                self._conf(link, value)

    @staticmethod
    def _conf(link: Link, settings: Dict[str, int]) -> None:
        four, six = list(link.conf4 or ()), list(link.conf6 or ())
        for name, value in settings.items():
            family, _, key = name.partition(".")
            value = value or 0  # on paper, the default of everything
            if key == "addr_gen_mode":
                link.genmode = value
            elif family == "ipv4":
                four[isolation.IPV4[key] - 1] = value
            elif link.conf6 is not None:
                six[isolation.IPV6[key]] = value
        link.conf4 = tuple(four)
        link.conf6 = tuple(six) if link.conf6 is not None else None

    def _drop(self, space: Namespace, link: Link) -> None:
        """A link goes with its addresses, its routes, and whatever sits on it, in every namespace."""
        for other in (self.world.host, *self.world.namespaces.values()):
            for child in list(other.links.values()):
                on_host = child.parent_ns is None if other is self.world.host else child.parent_ns == HOST
                if space is self.world.host and child.parent == link.index and on_host and child is not link:
                    self._drop(other, child)
        space.links.pop(link.index, None)
        for name in [name for name, found in space.names.items() if found is link]:
            del space.names[name]
        space.addresses.pop(link.index, None)
        space.routes = [route for route in space.routes if route.oif != link.index]

    def _address(self, change: Change) -> None:
        spec = change.after or change.before or {}
        space = self.world.namespace(spec["netns"])
        link = space.names.get(spec["link"]) if space else None
        if space is None or link is None:
            if change.after is None:
                return
            raise Refused(f"no link {spec['link']}")
        there = space.addresses.setdefault(link.index, [])
        if change.after is None:
            space.addresses[link.index] = [address for address in there if address.address != spec["address"]]
        else:
            there.append(Address(link.index, spec["address"], 201, 0, 0))

    def _route(self, change: Change) -> None:
        spec = {**(change.before or {}), **(change.after or {})}
        space = self.world.namespace(spec["netns"])
        if space is None:
            return
        same = self._route_at(space, spec)
        if same is not None:
            space.routes = [route for route in space.routes if route is not same]
        if change.after is not None:
            full = {**(self.world.route_spec(space, same) if same else {}), **change.after}
            device = space.names.get(full["dev"]) if full.get("dev") else None
            route = Route(full["prefix"], full["type"], full.get("via"), device.index if device else 0, full.get("src"),
                          full["metric"], full["table"], full["protocol"], 0)  # fmt: skip
            space.routes = [*space.routes, route]

    def _hosts(self, change: Change) -> None:
        self.world.names[change.key] = change.after["digest"] if change.after else ""

    @staticmethod
    def _route_at(space: Namespace, spec: Spec) -> Optional[Route]:
        for route in space.routes:
            if all(getattr(route, key) == spec[key] for key in ("prefix", "metric", "table", "protocol")):
                return route
        return None
