# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for routes: a directly connected next hop, and a free prefix and metric.

Sets have thousands of routes, and hosts thousands of links: everything is looked up, nothing is searched.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterator, List, Optional, Set, Tuple, cast

from ..core.change import PROTOCOL, route_key
from ..core.isolation import IPV6
from ..core.link_specs import VlanSpec
from ..core.route_specs import MAIN_TABLE, RouteRow, RoutesRequest
from ..core.specs import is_l3
from ..core.state import Link, Route
from .desired import DesiredState
from .expand import LAST_METRIC
from .nics import links_there

#: Prefix, metric and table: the kernel keeps routes of one place apart by nothing that a user sees.
Location = Tuple[str, int, int]


def check(desired: DesiredState) -> None:
    """Record what is wrong with the declared sets of routes as problems."""
    declared = [
        item
        for item in desired.declared.items
        if item.kind == "routes" and item.spec and not cast(RoutesRequest, item.spec)["absent"]
    ]
    if not any(item.key in desired.scope["routes"] for item in declared):
        return
    rules = _Rules(desired)
    for item in declared:
        if item.key not in desired.scope["routes"] or item.spec is None:
            continue
        dot = f"{item.path}." if item.path else ""
        for position, route in enumerate(item.spec["routes"]):
            rules.route(item.key, f"{dot}routes[{position}]", route)
        if item.spec["network"]:
            rules.network(item.key, f"{dot}network", item.spec["network"])


def not_the_path(desired: DesiredState, path: str, prefix: str) -> None:
    """Refuse routes that would divert the path of the controller's connection."""
    network = ipaddress.ip_interface(prefix).network if desired.observed.controllers else None
    for peer in desired.observed.controllers:
        if network and ipaddress.ip_address(peer) in network:
            desired.refuse_at(
                path,
                f"{network} holds {peer}, from which this host is managed",
                "give a prefix without it: the connection would be cut",
            )


class _Rules:
    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired
        self.wires = _Segments(desired)
        self.there: Dict[Location, List[Route]] = {}
        for route in desired.observed.host.routes:
            self.there.setdefault((route.prefix, route.metric, route.table), []).append(route)
        self.holders: Dict[Location, List[str]] = {}
        for place, key in self._holders():
            self.holders.setdefault(place, []).append(key)
        self.asked: Dict[Location, str] = {}

    def _holders(self) -> Iterator[Tuple[Location, str]]:
        """The set that each of our routes will be in after this run."""
        for key, routes in self.desired.items["routes"].items():
            for route in routes["routes"]:
                table = self.desired.table(route)
                if table is not None:
                    yield (route["prefix"], route["metric"], table), key

    def route(self, key: str, path: str, route: RouteRow) -> None:
        table = self.desired.table(route)
        if table is None:
            self.desired.refuse_at(
                f"{path}.vrf", f"{route['vrf']} is not a VRF of this host", "give the name of a VRF device, or table"
            )
            return
        if route["dev"] or route["via"]:
            self._way(path, route)
        not_the_path(self.desired, f"{path}.prefix", route["prefix"])
        place = (route["prefix"], route["metric"], table)
        first = self.asked.setdefault(place, path)
        if first != path:
            self.desired.refuse_at(
                f"{path}.prefix",
                f"{route['prefix']} is already listed in {first}",
                "list each once, or give another metric",
            )
        else:
            self._place(key, f"{path}.prefix", place)

    def _lacks_ipv6(self, link: Link, prefix: str) -> bool:
        """Whether a link cannot have an IPv6 route; on a host without IPv6 the prefix itself is refused."""
        if ":" not in prefix or not self.desired.observed.ipv6 or link.name in self.wires.coming:
            return False
        return link.conf6 is None or bool(link.conf6[IPV6["disable_ipv6"]])

    def _way(self, path: str, route: RouteRow) -> None:
        via, vrf = route["via"], route["vrf"]
        name = self.desired.device(route["dev"]) if route["dev"] else None
        link = self.desired.observed.host.names.get(name or "")
        if name and link is None and self.desired.lacks_trunk(route["dev"]):
            return
        if name and link is None and name not in self.wires.coming:
            self.desired.refuse_at(
                f"{path}.dev", f"{route['dev']} does not exist", f"this host has {links_there(self.desired.observed)}"
            )
        elif link is not None and not link.up and link.name not in self.wires.coming:
            self.desired.refuse_at(f"{path}.dev", f"{route['dev']} is down", "set it up first")
        elif link is not None and self._lacks_ipv6(link, route["prefix"]):
            what = f"{route['dev']} has no IPv6: it is switched off there, or the MTU is below 1280"
            self.desired.refuse_at(f"{path}.dev", what, "switch it on, or give another device")
        elif via and via in self.wires.own:
            self.desired.refuse_at(
                f"{path}.via", f"{via} is an address of this host", "give the address of another host"
            )
        elif via and via in self.wires.not_hosts:
            what = f"{via} is the network or the broadcast address of a subnet of this host"
            self.desired.refuse_at(f"{path}.via", what, "give the address of a neighbour")
        elif via and name and not ipaddress.ip_address(via).is_link_local and name not in self.wires.reach(via):
            self.desired.refuse_at(
                f"{path}.via", f"{via} is on no wire of {route['dev']}", "give a directly connected next hop"
            )
        elif via and not name and not any(self.wires.vrf(found) == vrf for found in self.wires.reach(via)):
            self.desired.refuse_at(
                f"{path}.via",
                f"{via} is on no wire of {vrf or 'this host'}",
                "give a next hop that one of its links reaches itself",
            )

    def _place(self, key: str, path: str, place: Location) -> None:
        """No foreign route, and none of another set."""
        desired, prefix = self.desired, place[0]
        record = desired.record(
            "route", route_key({"netns": "", "prefix": prefix, "metric": place[1], "table": place[2]})
        )
        others = [holder for holder in self.holders.get(place, ()) if holder != key]
        if others:
            desired.refuse_at(
                path, f"{prefix} is a route of the set {others[0]}", "list it in one of them, or give another metric"
            )
            return
        if record and not record.of.startswith("routes:"):
            desired.refuse_at(
                path,
                f"{prefix} is there already, for {record.of.replace(':', ' ')}",
                "leave it out here, or give another metric",
            )
            return
        for route in self.there.get(place, ()):
            if route.protocol != PROTOCOL:
                device = desired.observed.host.links.get(route.oif)
                way = (
                    route.type
                    if route.type != "unicast"
                    else f"via {route.via}"
                    if route.via
                    else f"dev {device.name if device else '?'}"
                )
                desired.refuse_at(
                    path,
                    f"{prefix} is routed by somebody else ({way}, protocol {route.protocol})",
                    "remove that route, or give another metric",
                )
            elif record is None and not desired.declared.adopt:
                desired.refuse_at(
                    path,
                    f"{prefix} has our protocol number but is in no registry",
                    "the registry was lost: set adopt: true to take it back, or remove it",
                )
            else:
                continue
            return

    def network(self, key: str, path: str, name: str) -> None:
        """The network whose unused addresses are unreachable."""
        network = self.desired.items["network"].get(name)
        if network is None and self.desired.is_broken("network", name):
            return
        if network is None or not is_l3(network):
            self.desired.refuse_at(
                path,
                f"{name} is not an L3 network of this host",
                "give a network with mode: l3 or l3s, or leave it out",
            )
            return
        for subnet in network["subnets"]:
            not_the_path(self.desired, path, subnet["subnet"])
            self._place(key, path, (subnet["subnet"], LAST_METRIC, MAIN_TABLE))


def _will_be_up(desired: DesiredState, key: str, vlan: VlanSpec) -> bool:
    """Whether a sub-interface will be up after this run: its base is, or may be set up."""
    base = desired.observed.host.names.get(vlan["parent"])
    return base is None or base.up or bool(vlan.get("bring_up_parent", True)) or bool(vlan.get("loose_binding"))


class _Segments:
    """The links that reach an address without a next hop."""

    def __init__(self, desired: DesiredState) -> None:
        self.host = desired.observed.host
        self.own: Set[str] = set()
        self.not_hosts: Set[str] = set()  # network and broadcast addresses of its subnets
        self.coming: Set[str] = set()  # links that are there, and up, once this run is over
        self._subnets: Dict[Tuple[int, int], Dict[int, Set[str]]] = {}  # by IP version and prefix length
        self._reached: Dict[str, Set[str]] = {}
        for index, addresses in self.host.addresses.items():
            link = self.host.links[index]
            for address in addresses:
                self.own.add(address.address.partition("/")[0])
                if link.up:
                    self._add(address.address, link.name)
        for key, vlan in desired.items["vlan"].items():
            self.coming.add(desired.device(key))
            for own in vlan.get("addresses") or ():
                self.own.add(own.partition("/")[0])
                if _will_be_up(desired, key, vlan):
                    self._add(own, desired.device(key))
        parents = map(desired.parent, desired.items["network"].values())
        self.coming |= {parent.name for parent in parents if parent is not None}
        for route in self.host.routes:
            if (
                route.type == "unicast"
                and not route.via
                and route.oif in self.host.links
                and not route.prefix.endswith("/0")
            ):
                self._add(route.prefix, self.host.links[route.oif].name)

    def _add(self, address: str, name: str) -> None:
        network = ipaddress.ip_interface(address).network
        if network.version == 4 and network.prefixlen < 31:
            self.not_hosts.update((str(network.network_address), str(network.broadcast_address)))
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
