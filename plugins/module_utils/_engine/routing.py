# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What routes may be: a next hop that a link reaches itself, and a place that nobody else has taken.

Sets have thousands of routes, and hosts thousands of links: everything is looked up, nothing is searched.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterator, List, Optional, Set, Tuple

from . import model
from .derive import LAST_METRIC
from .model import MAIN_TABLE
from .target import Target
from .world import PROTOCOL, Link, Route, Spec, route_key

#: Prefix, metric and table: the kernel keeps routes of one place apart by nothing that a user sees.
Place = Tuple[str, int, int]


def check(target: Target) -> None:
    """Note what is wrong with the declared sets of routes as problems of the target."""
    declared = [item for item in target.declared.items if item.kind == "routes" and item.spec and not item.spec["absent"]]
    if not any(item.key in target.scope["routes"] for item in declared):
        return
    rules = _Rules(target)
    for item in declared:
        if item.key not in target.scope["routes"] or item.spec is None:
            continue
        dot = f"{item.path}." if item.path else ""
        for position, route in enumerate(item.spec["routes"]):
            rules.route(item.key, f"{dot}routes[{position}]", route)
        if item.spec["network"]:
            rules.network(item.key, f"{dot}network", item.spec["network"])


def not_the_path(target: Target, path: str, prefix: str) -> None:
    """Nothing may take the path by which the controller is connected."""
    network = ipaddress.ip_interface(prefix).network if target.world.controllers else None
    for peer in target.world.controllers:
        if network and ipaddress.ip_address(peer) in network:
            target.refuse(path, f"{network} holds {peer}, from where this host is managed",
                          "give a prefix without it: the connection would be cut")  # fmt: skip


class _Rules:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.wires = _Wires(target)
        self.there: Dict[Place, List[Route]] = {}
        for route in target.world.host.routes:
            self.there.setdefault((route.prefix, route.metric, route.table), []).append(route)
        self.holders: Dict[Place, List[str]] = {}
        for place, key in self._holders():
            self.holders.setdefault(place, []).append(key)
        self.asked: Dict[Place, str] = {}

    def _holders(self) -> Iterator[Tuple[Place, str]]:
        """The set that each route of ours is in, once this run is over."""
        for key, routes in self.target.items["routes"].items():
            for route in routes["routes"]:
                table = self.target.table(route)
                if table is not None:
                    yield (route["prefix"], route["metric"], table), key

    def route(self, key: str, path: str, route: Spec) -> None:
        table = self.target.table(route)
        if table is None:
            self.target.refuse(f"{path}.vrf", f"{route['vrf']} is no VRF of this host", "give the name of a VRF device, or table")
            return
        if route["dev"] or route["via"]:
            self._way(path, route)
        not_the_path(self.target, f"{path}.prefix", route["prefix"])
        place = (route["prefix"], route["metric"], table)
        first = self.asked.setdefault(place, path)
        if first != path:
            self.target.refuse(f"{path}.prefix", f"{route['prefix']} stands in {first} already", "give each once, or another metric")
        else:
            self._place(key, f"{path}.prefix", place)

    def _way(self, path: str, route: Spec) -> None:
        via, vrf = route["via"], route["vrf"]
        name = self.target.device(route["dev"]) if route["dev"] else None
        link = self.target.world.host.names.get(name or "")
        if name and link is None and name not in self.wires.coming:
            self.target.refuse(f"{path}.dev", f"{route['dev']} does not exist", f"this host has {self.target.links_there()}")
        elif link is not None and not link.up and link.name not in self.wires.coming:
            self.target.refuse(f"{path}.dev", f"{route['dev']} is down", "set it up first")
        elif via and via in self.wires.own:
            self.target.refuse(f"{path}.via", f"{via} is an address of this host", "give that of the next one")
        elif via and name and not via.startswith("fe80:") and name not in self.wires.reach(via):
            self.target.refuse(f"{path}.via", f"{via} is on no wire of {route['dev']}", "give a next hop that it reaches itself")
        elif via and not name and not any(self.wires.vrf(found) == vrf for found in self.wires.reach(via)):
            self.target.refuse(f"{path}.via", f"{via} is on no wire of {vrf or 'this host'}",
                               "give a next hop that one of its links reaches itself")  # fmt: skip

    def _place(self, key: str, path: str, place: Place) -> None:
        """Nobody else's, and no other set's."""
        target, prefix = self.target, place[0]
        record = target.record("route", route_key({"netns": "", "prefix": prefix, "metric": place[1], "table": place[2]}))
        others = [holder for holder in self.holders.get(place, ()) if holder != key]
        if others:
            target.refuse(path, f"{prefix} is a route of the set {others[0]}", "list it in one of them, or give another metric")
            return
        if record and not record.of.startswith("routes:"):
            target.refuse(path, f"{prefix} is there already, for {record.of.replace(':', ' ')}", "leave it to that, or give another metric")
            return
        for route in self.there.get(place, ()):
            if route.protocol != PROTOCOL:
                device = target.world.host.links.get(route.oif)
                way = route.type if route.type != "unicast" else f"via {route.via}" if route.via else f"dev {device.name if device else '?'}"
                target.refuse(path, f"{prefix} is routed by somebody else ({way}, protocol {route.protocol})",
                              "remove that route, or give another metric")  # fmt: skip
            elif record is None and not target.declared.adopt:
                target.refuse(path, f"{prefix} bears our protocol number and stands in no record",
                              "the registry was lost: set adopt: true to take it back, or remove it")  # fmt: skip
            else:
                continue
            return

    def network(self, key: str, path: str, name: str) -> None:
        """The network whose unused addresses shall answer."""
        network = self.target.items["network"].get(name)
        if network is None or not model.is_l3(network):
            self.target.refuse(path, f"{name} is no L3 network of this host", "give a network with mode: l3 or l3s, or leave it out")
            return
        for subnet in network["subnets"]:
            not_the_path(self.target, path, subnet["subnet"])
            self._place(key, path, (subnet["subnet"], LAST_METRIC, MAIN_TABLE))


class _Wires:
    """Which links reach an address without a next hop."""

    def __init__(self, target: Target) -> None:
        self.host = target.world.host
        self.own: Set[str] = set()
        self.coming: Set[str] = set()  # links that are there, and up, once this run is over
        self._subnets: Dict[Tuple[int, int], Dict[int, Set[str]]] = {}  # by IP version and prefix length
        self._reached: Dict[str, Set[str]] = {}
        for index, addresses in self.host.addresses.items():
            link = self.host.links[index]
            for address in addresses:
                self.own.add(address.address.partition("/")[0])
                if link.up:
                    self._add(address.address, link.name)
        for key, vlan in target.items["vlan"].items():
            self.coming.add(target.device(key))
            for address in vlan.get("addresses", ()):
                self.own.add(address.partition("/")[0])
                self._add(address, target.device(key))
        parents = map(target.parent, target.items["network"].values())
        self.coming |= {parent.name for parent in parents if parent is not None}
        for route in self.host.routes:
            if route.type == "unicast" and not route.via and route.oif in self.host.links and not route.prefix.endswith("/0"):
                self._add(route.prefix, self.host.links[route.oif].name)

    def _add(self, address: str, name: str) -> None:
        network = ipaddress.ip_interface(address).network
        places = self._subnets.setdefault((network.version, network.prefixlen), {})
        places.setdefault(int(network.network_address), set()).add(name)

    def reach(self, via: str) -> Set[str]:
        """The names of the links."""
        found = self._reached.get(via)
        if found is None:
            found = self._reached[via] = set()
            address = ipaddress.ip_address(via)
            for (version, length), places in self._subnets.items():
                if version == address.version:
                    rest = address.max_prefixlen - length
                    found |= places.get(int(address) >> rest << rest, set())
        return found

    def vrf(self, name: str) -> Optional[str]:
        """The VRF that a link is in."""
        link = self.host.names.get(name)
        master: Optional[Link] = self.host.links.get(link.master) if link else None
        return master.name if master is not None and master.kind == "vrf" else None
