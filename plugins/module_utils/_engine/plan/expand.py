# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expands items to kernel objects: the links, addresses, routes and namespaces of a declaration.

It also completes the items in scope (an endpoint gets addresses, MAC and interface name; a network without subnets gets some), so that
the records include every decision. ``host_links``, ``complete``, ``attach``,
``source_routing`` and ``default_routes`` have a part each.
"""

from __future__ import annotations

from typing import Dict, List

from ..core import change
from ..core.change import HOST, items_of
from ..core.route_specs import RoutesSpec
from ..core.specs import is_l3
from .addressing import Addressing
from .attach import Attachment
from .complete import Completion
from .default_routes import DefaultRoutes
from .desired import DesiredState, Parent
from .host_links import HostLinks
from .pages import Pages, pages
from .source_routing import SourceRouting
from .wanted import Wanted

#: Of the routes that catch the unused addresses of an L3 network: behind every other.
LAST_METRIC = 2**32 - 2


def expand(desired: DesiredState) -> Expansion:
    """The kernel objects of a desired state."""
    expansion = Expansion(desired)
    expansion.expand()
    return expansion


class Expansion:
    """The kernel objects of the items in scope, and of what they share with others."""

    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired
        self.observed = desired.observed
        self.wanted = Wanted()
        self.addressing = Addressing(desired)
        self.host_links = HostLinks(desired, self.wanted, self.addressing)
        self.networks: List[str] = []  # those in scope, as are the following
        self.endpoints: List[str] = []
        self.workloads: List[str] = []
        self.sets: List[str] = []
        self.pages = Pages()

    def expand(self) -> None:
        """List every object, links first, because the names of other objects derive from them."""
        desired = self.desired
        self.networks = [item.key for item in desired.scope["network"].values() if item.spec is not None]
        self.endpoints = self._endpoints_in_scope()
        for key, item in desired.scope["vlan"].items():
            if item.spec is not None:
                self.host_links.vlan(key, desired.items["vlan"][key])
        for key in self.networks:
            self.host_links.network(desired.items["network"][key])
        completion = Completion(desired, self.host_links, self.addressing, self.networks)
        self.endpoints = completion.complete(self.endpoints)
        self.workloads = self._workloads_in_scope()
        attachment = Attachment(desired, self.wanted, self.host_links)
        source_routing = SourceRouting(desired, self.wanted, self.addressing)
        for key in self.endpoints:
            source_routing.number_table(key, desired.items["endpoint"][key])
        for key in self.endpoints:
            if attachment.attach(key, desired.items["endpoint"][key]):
                source_routing.add(key, desired.items["endpoint"][key])
        default_routes = DefaultRoutes(desired, self.wanted, self.addressing)
        for workload in {self.observed.space(name) or name: name for name in reversed(self.workloads)}.values():
            default_routes.choose(workload)
        self.pages = pages(desired.items, self.observed.leases)
        self._names()
        self._resolvers()
        self.sets = self._sets_in_scope()
        for key in self.sets:
            self._route_set(key, desired.items["routes"][key])

    def _endpoints_in_scope(self) -> List[str]:
        """The declared endpoints, and those of networks that change, or whose parent is gone or smaller than its base."""
        desired = self.desired
        declared = [item.key for item in desired.scope["endpoint"].values() if item.spec is not None]
        changed = {
            key for key in self.networks if desired.before("network", key) not in (None, desired.items["network"][key])
        }
        changed |= {
            key
            for key in self.networks
            if (parent := desired.parent(desired.items["network"][key]))
            and (parent.link is None or self._is_smaller(parent))
        }
        others = [key for key, spec in desired.items["endpoint"].items() if spec["network"] in changed]
        for key in others:
            # It is completed below, and what is recorded stays as it is.
            desired.items["endpoint"][key] = desired.items["endpoint"][key].copy()
        return declared + [key for key in others if key not in desired.scope["endpoint"]]

    def _is_smaller(self, parent: Parent) -> bool:
        """Whether a sub-interface of ours is smaller than its base, as after the base was lowered and raised again."""
        base = self.observed.host.names.get(parent.base or "")
        return base is not None and parent.link is not None and parent.link.mtu < base.mtu

    def _sets_in_scope(self) -> List[str]:
        """The declared sets of routes, and those that look after a network that changes, comes or goes."""
        declared = self.desired.scope["routes"]
        networks = self.desired.scope["network"]
        others = [
            key
            for key, spec in self.desired.items["routes"].items()
            if spec["network"] in networks and key not in declared
        ]
        return [key for key, item in declared.items() if item.spec is not None] + others

    def _workloads_in_scope(self) -> List[str]:
        """The workloads whose endpoints come, change or go: their default routes are chosen again."""
        found: Dict[str, None] = {}
        for key in self.endpoints:
            found[self.desired.items["endpoint"][key]["workload"]] = None
        for key in self.desired.scope["endpoint"]:
            before = self.desired.before("endpoint", key)
            if before:
                found[before["workload"]] = None
        return list(dict.fromkeys(name for workload in found for name in self.observed.shared(workload)))

    def _names(self) -> None:
        """The hosts file blocks of the members of the networks in scope."""
        scope, recorded = self.desired.scope["endpoint"], items_of(self.desired.records)["endpoint"]
        endpoints = [self.desired.items["endpoint"].get(key) for key in (*scope, *self.endpoints)]
        endpoints += [recorded.get(key) for key in scope]
        readers = self.pages.hosts.readers({endpoint["network"] for endpoint in endpoints if endpoint})
        for workload in sorted({*readers, *self.workloads}):
            text = self.pages.hosts.text(workload)
            why = self.observed.unwritable.get(("hosts", workload))
            if why and text:
                self.desired.warnings.append(f"{workload} does not get the names of its networks: {why}")
            elif text and workload not in self.observed.gone and not workload.startswith("pid:"):
                spec = {"netns": workload, "digest": change.digest(text)}
                self.wanted.add("hosts", workload, spec, f"workload:{workload}", "the names in its networks")

    def _resolvers(self) -> None:
        """The blocks in the resolv.conf of the workloads whose endpoints come, change or go."""
        for workload in self.workloads:
            if self.pages.resolver.check(self.desired, workload):
                digest = change.digest(self.pages.resolver.text(workload))
                spec = {"netns": workload, "digest": digest}
                self.wanted.add("resolver", workload, spec, f"workload:{workload}", "the dns of its endpoints")

    def _route_set(self, key: str, routes: RoutesSpec) -> None:
        """The routes of a set, with the unreachable routes of its L3 network."""
        of = f"routes:{key}"
        for route in routes["routes"]:
            table = self.desired.table(route)
            if table is None:
                self.desired.warnings.append(
                    f"{of}: {route['prefix']} is not installed until there is a VRF {route['vrf']}"
                )
                continue
            dev = self.desired.device(route["dev"]) if route["dev"] else None
            self.wanted.route(
                HOST,
                route["prefix"],
                route["via"],
                dev,
                of,
                f"route of the set {key}",
                route["type"],
                route["metric"],
                table,
            )
        network = self.desired.items["network"].get(routes["network"] or "")
        if network and is_l3(network):
            for subnet in network["subnets"]:
                self.wanted.route(
                    HOST,
                    subnet["subnet"],
                    None,
                    None,
                    of,
                    f"unused addresses of {network['name']}",
                    "unreachable",
                    LAST_METRIC,
                )
