# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The default routes of a workload, which its endpoints share."""

from __future__ import annotations

import ipaddress
from typing import Dict, List, Optional, Tuple

from ..core.change import PROTOCOL
from ..core.endpoint_specs import default_route, heeds_routers, is_dhcp, is_tap
from ..core.route_specs import MAIN_TABLE, RTPROT_DHCP, RTPROT_RA
from ..declare import ipam
from .addressing import Addressing
from .attach import is_away
from .desired import DesiredState
from .wanted import Wanted

DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
#: Metrics beside the default route of a router or a lease, which has 1024 (IP6_RT_PRIO_USER) and may come and go; two of one metric
#: cannot stand side by side.
BEFORE_ROUTERS, BEHIND_ROUTERS = 512, 2048
#: Who provides the default route: the least of these.
Rank = Tuple[bool, int, str]


class DefaultRoutes:
    """Adds default routes to the desired objects."""

    def __init__(self, desired: DesiredState, wanted: Wanted, addressing: Addressing) -> None:
        self.desired = desired
        self.observed = desired.observed
        self.wanted = wanted
        self.addressing = addressing

    def choose(self, workload: str) -> None:
        """The default routes of a namespace, over all its names: one endpoint provides each, by priority, then by name."""
        if ("netns", workload) not in self.wanted and is_away(self.desired, workload):
            return
        if self.observed.is_silent(workload):
            return  # what it has cannot be seen; the next task of one of its endpoints chooses
        endpoints, names = self.desired.items["endpoint"], self.observed.shared(workload)
        here = sorted(
            key for key in self.desired.attached(names) if "addresses" in endpoints[key] and not is_tap(endpoints[key])
        )
        self._subnets_twice(workload, here)
        for version, default in DEFAULTS.items():
            offers, routers = self._offers(here, version)
            foreign = self._foreign_default(workload, default)
            if not offers:
                continue
            rank, via = min(offers)
            auto, _rest, key = rank
            if foreign and auto:
                continue
            if foreign:
                self.desired.refuse(
                    "endpoint",
                    key,
                    f"default_route.ipv{version}",
                    f"{workload} has a default route that is not ours",
                    "remove it there, or give auto or never",
                )
                continue
            where, interface = endpoints[key]["workload"], endpoints[key]["interface"]
            metric = None if not routers else BEFORE_ROUTERS if rank < min(routers) else BEHIND_ROUTERS
            why = f"default route through {key}"
            self.wanted.route(where, default, via, interface, f"workload:{where}", why, metric=metric)

    def _offers(self, here: List[str], version: int) -> Tuple[List[Tuple[Rank, Optional[str]]], List[Rank]]:
        """The next hops that endpoints offer, and the endpoints over which a router or a lease may bring one, each with its rank."""
        offers: List[Tuple[Rank, Optional[str]]] = []
        routers: List[Rank] = []
        for key in here:
            endpoint = self.desired.items["endpoint"][key]
            when = default_route(endpoint, version)
            rank = (when != "always", -endpoint["gw_priority"], key)
            if when == "auto" and (is_dhcp(endpoint, version) or (version == 6 and heeds_routers(endpoint))):
                routers.append(rank)
                continue
            offer = self.addressing.way_out(endpoint, version) if when != "never" else None
            if offer is not None:
                offers.append((rank, offer[0]))
        return offers, routers

    def _subnets_twice(self, workload: str, here: List[str]) -> None:
        """Warn about two endpoints of a workload in one subnet: the kernel chooses which one to send over."""
        endpoints, scope = self.desired.items["endpoint"], self.desired.scope["endpoint"]
        first: Dict[str, str] = {}
        pairs: List[Tuple[Tuple[str, str], Tuple[str, str]]] = []
        for key in sorted(here, key=scope.__contains__):
            for address in endpoints[key]["addresses"]:
                subnet = str(ipaddress.ip_interface(address).network)
                if subnet in first:
                    pairs.append(((first[subnet], subnet), (key, subnet)))
                first.setdefault(subnet, key)
        pairs += ipam.overlaps(((key, subnet), subnet) for subnet, key in first.items())
        for pair in pairs:
            (other, there), (key, subnet) = sorted(pair, key=lambda row: row[0] in scope)
            if key != other and key in scope:
                self.desired.warn(
                    "endpoint",
                    key,
                    "network",
                    f"{workload} is in {there} of {other} already, and the kernel sends "
                    f"what is for {subnet} over one of the two alone",
                )

    def _foreign_default(self, workload: str, default: str) -> bool:
        """Whether a workload has a foreign default route, other than one that came over our link from a router or with a lease."""
        namespace = self.observed.namespace(workload)
        if namespace is None:
            return False
        ours = {link.index for link in namespace.links.values() if self.desired.is_ours_in(namespace, link)}
        return any(
            route.prefix == default
            and route.protocol != PROTOCOL
            and route.table == MAIN_TABLE
            and not (route.protocol in (RTPROT_RA, RTPROT_DHCP) and route.oif in ours)
            for route in namespace.routes
        )
