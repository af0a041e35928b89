# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From items to kernel objects: which links, addresses, routes and namespaces a declaration stands for.

The items in scope are completed on the way (an endpoint gets its addresses, its MAC, its interface name; a
network without subnets gets some), so that what is recorded says all that was decided.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from . import ipam, model, names
from .addressing import Addressing
from .model import IPV6_METRIC, MAIN_TABLE
from .target import Parent, Target
from .world import HOST, LINK_GROUP, PROTOCOL, Link, Spec, address_key, link_key, route_key

Key = Tuple[str, str]


RTPROT_RA = 9
#: Of the routes that catch the unused addresses of an L3 network: behind every other.
LAST_METRIC = 2**32 - 2

#: What a plan says of an address that the wire is asked for first.
UNLESS_HELD = ", unless somebody on the wire holds it"

DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}


def access_name(network: Spec) -> str:
    """The host's own link in a network with ``host_access``."""
    return model.digest_name("ha-", network["name"])


def host_prefix(address: str) -> str:
    """The one address of an address with prefix length, as a route's prefix."""
    ip = address.partition("/")[0]
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


class Wanted(NamedTuple):
    """A kernel object as it shall be, the item that it belongs to, and why it is there."""

    spec: Spec
    of: str  # "" for what is not ours and is only changed
    reason: str


class Derivation:
    """The kernel objects of the items in scope, and of what they share with others."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.world = target.world
        self.wanted: Dict[Key, Wanted] = {}
        self.addressing = Addressing(target)
        self._named: Dict[str, Set[str]] = {}
        self.networks = [item.key for item in target.scope["network"].values() if item.spec is not None]
        self.endpoints = self._endpoints_in_scope()
        for key, item in target.scope["vlan"].items():
            if item.spec is not None:
                self._vlan(key, target.items["vlan"][key])
        for key in self.networks:
            self._network(target.items["network"][key])
        self._complete_endpoints()
        self.workloads = self._workloads_in_scope()
        for key in self.endpoints:
            self._endpoint(key, target.items["endpoint"][key])
        for workload in self.workloads:
            self._workload(workload)
        self.book = names.Book({key: spec for key, spec in target.items["endpoint"].items() if "addresses" in spec})
        self._names()
        self.sets = self._sets_in_scope()
        for key in self.sets:
            self._route_set(key, target.items["routes"][key])

    # -- scope ------------------------------------------------------------------------------------

    def _endpoints_in_scope(self) -> List[str]:
        """The declared endpoints, and those of networks that change or whose parent is gone, and they with it."""
        target = self.target
        declared = [item.key for item in target.scope["endpoint"].values() if item.spec is not None]
        changed = {key for key in self.networks if target.before("network", key) not in (None, target.items["network"][key])}
        changed |= {key for key in self.networks if (parent := target.parent(target.items["network"][key])) and parent.link is None}
        others = target.endpoints_of(changed) if changed else {}
        for key in others:
            target.items["endpoint"][key] = dict(others[key])  # it is completed below, and what is recorded stays as it is
        return declared + [key for key in others if key not in set(declared)]

    def _sets_in_scope(self) -> List[str]:
        """The declared sets of routes, and those that look after a network that changes, comes or goes."""
        declared = self.target.scope["routes"]
        networks = self.target.scope["network"]
        others = [key for key, spec in self.target.items["routes"].items() if spec["network"] in networks and key not in declared]
        return [key for key, item in declared.items() if item.spec is not None] + others

    def _workloads_in_scope(self) -> List[str]:
        """The workloads whose endpoints come, change or go: the choice of their default routes is made anew."""
        found: Dict[str, None] = {}
        for key in self.endpoints:
            found[self.target.items["endpoint"][key]["workload"]] = None
        for key in self.target.scope["endpoint"]:
            before = self.target.before("endpoint", key)
            if before:
                found[before["workload"]] = None
        return list(found)

    # -- links of the host ------------------------------------------------------------------------

    def want(self, kind: str, key: str, spec: Spec, of: str, reason: str) -> None:
        self.wanted[kind, key] = Wanted(spec, of, reason)

    def _vlan(self, key: str, vlan: Spec) -> None:
        parent = self.target.resolve(key)
        if parent is None or not self._sub_interface(parent, self.target.path("vlan", key, "parent"), f"vlan:{key}", vlan):
            return
        for address in vlan.get("addresses", ()):
            spec = {"netns": HOST, "link": parent.name, "address": address}
            self.want("address", address_key(spec), spec, f"vlan:{key}", "address of the host on the VLAN")

    def _network(self, network: Spec) -> None:
        parent = self._parent(network)
        if parent is None:
            return
        self.addressing.complete(network, parent)
        if network["host_access"]:
            self._host_access(network, parent)

    def _parent(self, network: Spec) -> Optional[Parent]:
        """The link that a network hangs on, wanted as it shall be; None where it cannot be had."""
        target = self.target
        name = network["name"]
        parent = target.parent(network)
        path = target.path("network", name, "parent")
        if parent is None:
            target.refuse(path, *self._why_no_parent(network["parent"]))
            return None
        if network["parent"] is None:
            spec = {"netns": HOST, "name": parent.name, "kind": "dummy", "up": True, "group": LINK_GROUP,
                    "presence": self._presence(parent)}  # fmt: skip
            if network["mtu"]:
                spec["mtu"] = network["mtu"]
            self.want("link", parent.name, spec, f"network:{name}", f"parent of {name}, which has none of its own")
        elif network["parent"] in target.items["vlan"] and parent.link is None:
            self._vlan(network["parent"], target.items["vlan"][network["parent"]])
        elif parent.base is not None and network["parent"] not in target.items["vlan"]:
            self._sub_interface(parent, path, "parent", {"mtu": network["mtu"], "bring_up_parent": network["bring_up_parent"]})
        else:
            self._raise(parent.name, parent.link, network["bring_up_parent"], path)
        return parent

    def _why_no_parent(self, name: str) -> Tuple[str, str]:
        base, _rest, tail = name.rpartition(".")
        if base in self.world.host.names:
            return f"{name} does not exist, and {tail!r} is no VLAN ID", f"write {base}.VID, from 1 to 4094 and without a zero in front"
        return f"{name} does not exist", f"this host has {self.target.links_there()}"

    def _host_access(self, network: Spec, parent: Parent) -> None:
        """The host's own small link on the parent; routes to the endpoints come with each of them (kernel facts, 5)."""
        name, of = network["name"], f"network:{network['name']}"
        if network["mode"] in ("private", "vepa", "passthru") or network["flag"] in ("private", "vepa"):
            self.target.refuse(self.target.path("network", name, "host_access"), "private, vepa and passthru keep the host out too",
                               "use mode: bridge (macvlan) or flag: bridge (ipvlan), or leave host_access out")  # fmt: skip
            return
        spec = {
            "netns": HOST, "name": access_name(network), "kind": network["driver"], "parent": parent.name, "mode": network["mode"],
            "up": True, "group": LINK_GROUP, "presence": "access", "sysctls": self._announcing(),
        }  # fmt: skip
        if network["driver"] == "ipvlan":
            spec["flag"] = network["flag"]
        else:
            spec["mac"] = ipam.mac_for(self.target.seed, name, "the host")
        if network["mtu"]:
            spec["mtu"] = network["mtu"]
        self.want("link", spec["name"], spec, of, f"the host's way to the endpoints of {name}")
        for address in self.addressing.host(network):
            row = {"netns": HOST, "link": spec["name"], "address": address}
            unless = UNLESS_HELD if network["probe"] else ""
            self.want("address", address_key(row), row, of, f"the host's address in {name}{unless}")
        self._has_neighbours(network, self.target.path("network", name, "probe"), network["probe"])

    def _sub_interface(self, parent: Parent, path: str, of: str, options: Spec) -> bool:
        """A sub-interface of ours; False where it cannot be made."""
        target = self.target
        if ("link", parent.name) in self.wanted:
            return True
        base = self.world.host.names.get(parent.base or "")
        made = target.resolve(parent.base) if parent.base and base is None else None
        if parent.base == "lo":
            target.refuse(path, "lo is the loopback, and has no VLANs", f"this host has {target.links_there()}")
            return False
        if base is None and (made is None or ("link", made.name) not in self.wanted):
            target.refuse(path, f"{parent.base} does not exist", f"this host has {target.links_there()}")
            return False
        protocol = options.get("protocol", "802.1q")
        if base is not None and not self._usable_base(parent, base, protocol, path):
            return False
        up = self._raise(parent.base or "", base, options.get("bring_up_parent", True), path) if base else True
        spec = {
            "netns": HOST, "name": parent.name, "kind": "vlan", "parent": base.name if base else made and made.name,
            "vlan_id": parent.vlan_id, "protocol": protocol, "up": up, "group": LINK_GROUP,
            "presence": "host" if options.get("addresses") else self._presence(parent), **model.VLAN_FLAGS,
        }  # fmt: skip
        if parent.altnames:
            spec["altnames"] = parent.altnames
        for option in ("mtu", "gvrp", "mvrp", "loose_binding", "reorder_headers", "ingress_qos_map", "egress_qos_map"):
            if options.get(option) is not None:
                spec[option] = options[option]
        record = target.record("link", parent.name)
        if base is not None and "mtu" not in spec and record and record.spec.get("mtu"):
            spec["mtu"] = base.mtu  # it was given one once, and is not any more
        if base is not None and spec.get("mtu", 0) > base.mtu:
            target.refuse(path.rpartition("parent")[0] + "mtu", f"{spec['mtu']} is more than the {base.mtu} of {base.name}",
                          f"give {base.mtu} at most, or raise {base.name}")  # fmt: skip
        self.want("link", parent.name, spec, of, f"VLAN {parent.vlan_id} of {spec['parent']}")
        return True

    def _usable_base(self, parent: Parent, base: Link, protocol: str, path: str) -> bool:
        """Whether a VLAN can be made on a base, or stands there as wanted already."""
        target = self.target
        there = target.same_vlan(base, parent.vlan_id, protocol)
        if there is not None and there is not parent.link:
            target.refuse(path, f"VLAN {parent.vlan_id} of {base.name} is there already, as {there.name}", f"give parent: {there.name}")
            return False
        if parent.link is None:
            return True
        ours = target.is_ours(parent.link, parent.name)
        same = parent.link is there
        if not same:
            target.refuse(path, f"{parent.name} exists and is not VLAN {parent.vlan_id} ({protocol}) of {base.name}",
                          "no kernel changes that in place: remove it first (state: absent if it is ours), or give another name")  # fmt: skip
        elif not ours and not target.declared.adopt:
            target.refuse(path, f"{parent.name} exists and was not made by us", "leave it as it is, or set adopt: true to take it over")
            return False
        return same

    def _raise(self, name: str, link: Optional[Link], allowed: bool, path: str) -> bool:
        """A base that is down is set up, unless that is not allowed."""
        if link is None or link.up:
            return True
        if allowed:
            self.wanted.setdefault(
                ("link", link.name), Wanted({"netns": HOST, "name": link.name, "up": True}, "", f"{name} is down")
            )
        else:
            self.target.warnings.append(f"{path}: {name} is down and stays so (bring_up_parent: false)")
        return allowed

    def _presence(self, parent: Parent) -> str:
        """Of a parent without addresses: IPv6 stays on where L3 networks ask for neighbours over it."""
        networks = self.target.items["network"]
        users = [networks[name] for name in self.target.sharers.get(parent.identity, ())]
        return "routed" if any(model.is_l3(user) and user["enable_ipv6"] for user in users) else "none"

    # -- endpoints --------------------------------------------------------------------------------

    def _complete_endpoints(self) -> None:
        """Give every endpoint in scope what it was not given: addresses (static ones first), MAC, interface."""
        endpoints = self.target.items["endpoint"]
        usable = []
        for key in self.endpoints:
            network = self.target.items["network"].get(endpoints[key]["network"])
            if network is None:
                self.target.refuse(self.target.path("endpoint", key, "network"), f"there is no network {endpoints[key]['network']}",
                                   "make it first with vlan_network or vlan_map")  # fmt: skip
            elif self._has_parent(key, network):
                usable.append(key)
        self.endpoints = usable
        self.addressing.assign(usable)
        for key in usable:
            self._name_interface(key, endpoints[key])
        if usable:
            self._no_name_twice()

    def _no_name_twice(self) -> None:
        holders: Dict[Tuple[str, str], str] = {}
        for key, endpoint in self.target.items["endpoint"].items():
            if not endpoint["interface"]:
                continue
            first = holders.setdefault((endpoint["workload"], endpoint["interface"]), key)
            if first != key:
                one, other = (first, key) if key in self.target.scope["endpoint"] else (key, first)
                self.target.refuse(self.target.path("endpoint", other, "interface"), f"{endpoint['interface']} is that of {one}",
                                   "give another name, or leave it to us")  # fmt: skip

    def _has_parent(self, key: str, network: Spec) -> bool:
        """Whether the parent of an endpoint's network is there, or comes back with it."""
        parent, name = self.target.parent(network), network["name"]
        if parent is None and name not in self.networks:
            self.target.refuse(self.target.path("endpoint", key, "network"), f"the parent of {name} is gone: "
                               + self._why_no_parent(network["parent"])[0],
                               "bring it back, or give the network another parent")  # fmt: skip
        elif parent is not None and parent.link is None and name not in self.networks:
            self._parent(network)
        return parent is not None

    def _name_interface(self, key: str, endpoint: Spec) -> None:
        """As given, else as it was, else the lowest free ``ethN`` (``netN`` where an engine counts its own ``ethN``)."""
        before = self.target.before("endpoint", key)
        stays = before and (before["workload"] == endpoint["workload"] or endpoint["workload"] in self.target.followed)
        if endpoint["interface"] is None and before and stays:
            endpoint["interface"] = before["interface"]
        if endpoint["interface"] is not None:
            return
        space = self.world.namespace(endpoint["workload"])
        taken: Set[str] = set(space.names) if space else set()
        taken |= self._named.setdefault(endpoint["workload"], self._recorded_names(endpoint["workload"]))
        pattern = "net{}" if space and space.managed else "eth{}"
        name = next(name for name in map(pattern.format, itertools.count()) if name not in taken)
        endpoint["interface"] = name
        self._named[endpoint["workload"]].add(name)

    def _recorded_names(self, workload: str) -> Set[str]:
        endpoints = self.target.items["endpoint"].values()
        return {spec["interface"] for spec in endpoints if spec["workload"] == workload and spec.get("interface")}

    def _endpoint(self, key: str, endpoint: Spec) -> None:
        network = self.target.items["network"][endpoint["network"]]
        parent = self.target.parent(network)
        if parent is None:
            return
        workload, name, of = endpoint["workload"], endpoint["interface"], f"endpoint:{key}"
        if not self._enterable(key, workload):
            return
        spec: Spec = {
            "netns": workload, "name": name, "kind": network["driver"], "parent": parent.name,
            "mode": network["mode"], "up": True, "group": LINK_GROUP, "sysctls": self._sysctls(endpoint),
        }  # fmt: skip
        if network["driver"] == "ipvlan":
            spec["flag"] = network["flag"]
        elif endpoint["mac"]:
            spec["mac"] = endpoint["mac"]
        for option in ("bcqueuelen", "bclim"):
            if network[option] is not None:
                spec[option] = network[option]
        mtu = endpoint["mtu"] or network["mtu"]
        if mtu:
            spec["mtu"] = mtu
        self.want("link", link_key(workload, name), spec, of, f"{network['name']} in {workload}")
        for address in endpoint["addresses"]:
            row = {"netns": workload, "link": name, "address": address}
            unless = UNLESS_HELD if endpoint["probe"] else ""
            self.want("address", address_key(row), row, of, f"lease of {endpoint['name']}{unless}")
            if network["host_access"]:
                self._route(HOST, host_prefix(address), None, access_name(network), of, f"the host's way to {endpoint['name']}")
        self._has_neighbours(network, self.target.path("endpoint", key, "probe"), endpoint["probe"])
        self._check_routes(key, endpoint, network)
        if endpoint["hosts"] and workload.startswith("pid:"):
            self.target.warnings.append(
                f"{self.target.path('endpoint', key, 'hosts')}: {workload} has no hosts file that is known, so it learns no names"
            )
        for route in endpoint["routes"]:
            self._route(workload, route["prefix"], route.get("via"), name, of, "route of the endpoint", metric=route.get("metric"))

    def _has_neighbours(self, network: Spec, path: str, probe: bool) -> None:
        if probe and model.is_l3(network):
            self.target.refuse(path, f"endpoints of {network['mode']} have no neighbours to ask", "leave it out, or use an L2 mode")

    def _check_routes(self, key: str, endpoint: Spec, network: Spec) -> None:
        """A next hop has to be on the endpoint's own wire."""
        for position, route in enumerate(endpoint["routes"]):
            via = ipaddress.ip_address(route.get("via", "fe80::"))
            subnets = [ipaddress.ip_interface(address).network for address in endpoint["addresses"]]
            if not via.is_link_local and not any(via in subnet for subnet in subnets):
                self.target.refuse(self.target.path("endpoint", key, f"routes[{position}].via"),
                                   f"{via} is in no subnet of {network['name']} that {key} has an address of",
                                   "give a neighbour of the endpoint, or leave via out for the device itself")  # fmt: skip

    def _enterable(self, key: str, workload: str) -> bool:
        refusal = self.world.refusals.get(workload)
        declared = key in self.target.scope["endpoint"]
        if not declared and self._is_away(workload):
            return False  # it keeps its lease, and is attached again by its own task
        if refusal:
            kind = workload.partition(":")[0]
            option = kind if kind in model.WORKLOADS else "container"
            self.target.refuse(self.target.path("endpoint", key, option), refusal, "start it first, or correct the name")
            return False
        if self.world.namespace(workload) is None or workload in self.target.records.get("netns", {}):
            self.want("netns", workload, {"netns": workload}, "netns", "a namespace that is not there yet")
        return True

    def _is_away(self, workload: str) -> bool:
        """Whether a namespace is not there and is not ours to make."""
        if workload in self.world.gone:
            return True
        there = self.world.namespace(workload) is not None or workload in self.world.refusals
        return not there and workload not in self.target.records.get("netns", {})

    def _announcing(self) -> Dict[str, int]:
        """A link tells its neighbours of its addresses when it comes up."""
        return {"ipv4.arp_notify": 1, **({"ipv6.ndisc_notify": 1} if self.world.ipv6 else {})}

    def _sysctls(self, endpoint: Spec) -> Dict[str, int]:
        """Announce when coming up, learn nothing from the wire, and no IPv6 where there is no IPv6 address."""
        settings = self._announcing()
        if self.world.ipv6:
            six = endpoint["accept_ra"] or any(":" in address for address in endpoint["addresses"])
            ra = int(endpoint["accept_ra"])
            settings.update({"ipv6.disable_ipv6": int(not six), "ipv6.accept_ra": ra, "ipv6.autoconf": ra})
            if ra and endpoint["default_route"]["ipv6"] != "auto":
                settings["ipv6.accept_ra_defrtr"] = 0
        return {**settings, **endpoint["sysctls"]}

    # -- routes -----------------------------------------------------------------------------------

    def _route(
        self, netns: str, prefix: str, via: Optional[str], dev: Optional[str], of: str, reason: str,
        kind: str = "unicast", metric: Optional[int] = None, table: int = MAIN_TABLE,
    ) -> None:  # fmt: skip
        metric = metric or (IPV6_METRIC if ":" in prefix else 0)
        spec = {"netns": netns, "prefix": prefix, "type": kind, "via": via, "dev": dev, "metric": metric, "table": table,
                "protocol": PROTOCOL}  # fmt: skip
        if via and not dev:
            del spec["dev"]  # the kernel finds it by the next hop
        self.want("route", route_key(spec), spec, of, reason)

    def _workload(self, workload: str) -> None:
        """The default routes of a workload: one endpoint gives each, by priority, then by name."""
        if ("netns", workload) not in self.wanted and self._is_away(workload):
            return
        endpoints = self.target.items["endpoint"]
        here = sorted(key for key in endpoints if endpoints[key]["workload"] == workload and "addresses" in endpoints[key])
        self._subnets_twice(workload, here)
        for version, default in DEFAULTS.items():
            offers = []
            for key in here:
                endpoint = endpoints[key]
                when = endpoint["default_route"][f"ipv{version}"]
                if when == "auto" and version == 6 and endpoint["accept_ra"]:
                    when = "never"  # a router advertises the way out
                offer = self.addressing.way_out(endpoint, version) if when != "never" else None
                if offer is not None:
                    offers.append((when != "always", -endpoint["gw_priority"], key, offer[0]))
            foreign = self._foreign_default(workload, default)
            if not offers:
                continue
            auto, _rest, key, via = min(offers, key=lambda offer: offer[:3])
            if foreign and auto:
                continue
            if foreign:
                self.target.refuse(self.target.path("endpoint", key, f"default_route.ipv{version}"),
                                   f"{workload} has a default route that is not ours", "remove it there, or give auto or never")  # fmt: skip
                continue
            self._route(workload, default, via, endpoints[key]["interface"], f"workload:{workload}", f"way out by {key}")

    def _subnets_twice(self, workload: str, here: List[str]) -> None:
        """Two endpoints of a workload in one subnet: who sends over which is the kernel's choice, and often not what was meant."""
        endpoints = self.target.items["endpoint"]
        held = [(key, str(ipaddress.ip_interface(address).network)) for key in here for address in endpoints[key]["addresses"]]
        for pair in ipam.overlaps((row, row[1]) for row in held):
            (other, there), (key, subnet) = sorted(pair, key=lambda row: row[0] in self.target.scope["endpoint"])
            if key != other and key in self.target.scope["endpoint"]:
                self.target.warnings.append(
                    f"{self.target.path('endpoint', key, 'network')}: {workload} is in {there} of {other} already, and the kernel sends "
                    f"what is for {subnet} over one of the two alone"
                )

    def _names(self) -> None:
        """The members of the networks in scope know each other by name."""
        endpoints = [self.target.items["endpoint"].get(key) for key in (*self.target.scope["endpoint"], *self.endpoints)]
        endpoints += [self.target.before("endpoint", key) for key in self.target.scope["endpoint"]]
        readers = self.book.readers({endpoint["network"] for endpoint in endpoints if endpoint})
        for workload in sorted({*readers, *self.workloads}):
            text = self.book.text(workload)
            why = self.world.unwritable.get(workload)
            if why and text:
                self.target.warnings.append(f"{workload} does not learn the names of its networks: {why}")
            elif text and workload not in self.world.gone and not workload.startswith("pid:"):
                spec = {"netns": workload, "digest": names.digest(text)}
                self.want("hosts", workload, spec, f"workload:{workload}", "the names in its networks")

    def _foreign_default(self, workload: str, default: str) -> bool:
        """Whether a workload has a way out that is not ours; what a router advertised over our link is not meant."""
        space = self.world.namespace(workload)
        if space is None:
            return False
        ours = {link.index for link in space.links.values() if self.target.is_ours(link, link_key(workload, link.name))}
        return any(
            route.prefix == default and route.protocol != PROTOCOL and route.table == MAIN_TABLE
            and not (route.protocol == RTPROT_RA and route.oif in ours)
            for route in space.routes
        )  # fmt: skip

    def _route_set(self, key: str, routes: Spec) -> None:
        """The routes of a set; those of an L3 network of this host keep its unused addresses from looping."""
        of = f"routes:{key}"
        for route in routes["routes"]:
            table = self.target.table(route)
            if table is None:
                self.target.warnings.append(f"{of}: {route['prefix']} stays away as long as there is no VRF {route['vrf']}")
                continue
            dev = self.target.device(route["dev"]) if route["dev"] else None
            self._route(HOST, route["prefix"], route["via"], dev, of, f"route of the set {key}", route["type"], route["metric"], table)
        network = self.target.items["network"].get(routes["network"] or "")
        if network and model.is_l3(network):
            for subnet in network["subnets"]:
                self._route(HOST, subnet["subnet"], None, None, of, f"unused addresses of {network['name']}", "unreachable", LAST_METRIC)
