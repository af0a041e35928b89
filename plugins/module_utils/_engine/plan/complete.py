# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Completes endpoints: gives each in scope what it was not given, so that the records include every decision."""

from __future__ import annotations

import itertools
from typing import Collection, Dict, Iterable, List, Set, Tuple

from ..core.endpoint_specs import EndpointSpec, interfaces
from ..core.network_specs import NetworkSpec
from . import dhcp
from .addressing import Addressing
from .desired import DesiredState, Parent
from .host_links import HostLinks


class Completion:
    """What endpoints are given: addresses, MAC and interface name."""

    def __init__(
        self, desired: DesiredState, host_links: HostLinks, addressing: Addressing, networks: Collection[str]
    ) -> None:
        self.desired = desired
        self.observed = desired.observed
        self.host_links = host_links
        self.addressing = addressing
        self.networks = set(networks)  # those in scope
        self._named: Dict[object, Set[str]] = {}
        self._told_down: Set[str] = set()

    def complete(self, keys: Iterable[str]) -> List[str]:
        """Give endpoints addresses (static ones first), MAC and interface. Returns those whose network has a parent."""
        endpoints = self.desired.items["endpoint"]
        usable = []
        for key in keys:
            network = self.desired.items["network"].get(endpoints[key]["network"])
            if network is None and self.desired.is_broken("network", endpoints[key]["network"]):
                continue
            if network is None:
                self.desired.refuse(
                    "endpoint",
                    key,
                    "network",
                    f"there is no network {endpoints[key]['network']}",
                    "create it first, with vlan_network or in networks of the map",
                )
            elif self._has_parent(key, network):
                dhcp.decide(endpoints[key], network)
                dhcp.check(self.desired, key, endpoints[key], network)
                usable.append(key)
        self.addressing.assign(usable)
        for key in usable:
            self._name_interface(key, endpoints[key])
        if usable:
            self._no_name_twice()
        return usable

    def _has_parent(self, key: str, network: NetworkSpec) -> bool:
        """Whether the parent of an endpoint's network is there, or comes back with it."""
        parent, name = self.desired.parent(network), network["name"]
        if parent is None and name not in self.networks:
            self.desired.refuse(
                "endpoint",
                key,
                "network",
                f"the parent of {name} is gone: " + self.host_links.why_no_parent(network)[0],
                "bring it back, or give the network another parent",
            )
        elif parent is not None and parent.link is None and name not in self.networks:
            self.host_links.parent(network)
        elif parent is not None and name not in self.networks:
            self._carries(key, name, parent)
        return parent is not None

    def _carries(self, key: str, network: str, parent: Parent) -> None:
        """A parent that is down is reported once for each network; the network's own task sets it up."""
        link = parent.link
        base = self.observed.host.names.get(parent.base or "")
        down = base if base and not base.up else link if link and not link.up else None
        if down is not None and network not in self._told_down:
            self._told_down.add(network)
            self.desired.warn(
                "endpoint", key, "network", f"{down.name} is down, so the endpoints of {network} reach no other host"
            )

    def _no_name_twice(self) -> None:
        """Refuse two endpoints of one namespace with the same interface name."""
        holders: Dict[Tuple[object, str], str] = {}
        for key, endpoint in self.desired.items["endpoint"].items():
            names = interfaces(endpoint)
            stem = [endpoint["interface"]] if endpoint["vlans"] and endpoint["interface"] else []
            for interface in (*stem, *names):
                first = holders.setdefault((self._space(endpoint), interface), key)
                if first != key:
                    one, other = (first, key) if key in self.desired.scope["endpoint"] else (key, first)
                    self.desired.refuse(
                        "endpoint",
                        other,
                        "interface",
                        f"{interface} is that of {one}",
                        "give another name, or leave it out",
                    )
                    break

    def _name_interface(self, key: str, endpoint: EndpointSpec) -> None:
        """Name the interface: as given, else as recorded, else the lowest free ``ethN`` (``netN`` where an engine counts its own
        ``ethN``)."""
        before = self.desired.before("endpoint", key)
        stays = before and (
            before["workload"] == endpoint["workload"] or endpoint["workload"] in self.desired.moved_workloads
        )
        if (
            endpoint["interface"] is None
            and before
            and stays
            and not any((endpoint["workload"], name) in self.observed.hidden for name in interfaces(before))
        ):
            endpoint["interface"] = before["interface"]
        if endpoint["interface"] is not None:
            return
        namespace, names = self.observed.namespace(endpoint["workload"]), self.observed.shared(endpoint["workload"])
        taken = {name for one in names if (there := self.observed.namespace(one)) for name in there.names}
        space = self._space(endpoint)
        if space not in self._named:
            self._named[space] = self._recorded_names(names)
        named = self._named[space]
        taken |= named
        pattern = "net{}" if namespace and namespace.managed else "eth{}"
        name = next(name for name in map(pattern.format, itertools.count()) if name not in taken)
        endpoint["interface"] = name
        named.add(name)

    def _recorded_names(self, workloads: List[str]) -> Set[str]:
        endpoints = self.desired.items["endpoint"]
        named = (endpoints[key].get("interface") for key in self.desired.attached(workloads))
        return {name for name in named if name}

    def _space(self, endpoint: EndpointSpec) -> object:
        """The namespace of an endpoint, whatever it is called; the name alone of one that is not there."""
        return self.observed.space(endpoint["workload"]) or endpoint["workload"]
