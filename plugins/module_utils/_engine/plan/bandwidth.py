# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bandwidth of endpoints: a queue or a policer for each direction that has a rate, where the link can have it."""

from __future__ import annotations

from typing import Optional

from ..core import rates
from ..core.change import link_key, rate_key
from ..core.endpoint_specs import EndpointSpec
from ..core.link_specs import RateSpec
from ..core.network_specs import NetworkSpec
from ..core.specs import Generic
from .desired import DesiredState
from .wanted import Wanted

#: What ``tc qdisc del`` calls the place of each.
_PLACES = {rates.INGRESS: "ingress", rates.EGRESS: "root"}


class Bandwidth:
    """Adds the rates of endpoints to the desired objects."""

    def __init__(self, desired: DesiredState, wanted: Wanted) -> None:
        self.desired = desired
        self.wanted = wanted

    def add(self, key: str, endpoint: EndpointSpec, network: NetworkSpec, mtu: int) -> None:
        """List what limits an endpoint's link of an MTU."""
        asked: Generic = endpoint
        for direction in rates.DIRECTIONS:
            rate = asked[f"{direction}_rate"]
            burst = self._burst(key, direction, rate, asked[f"{direction}_burst"], mtu) if rate else None
            if burst is None:
                continue
            if direction == rates.INGRESS and network["mode"] == "l3s":
                what = f"{network['name']} is l3s, where packets reach an endpoint past its qdisc"
                self.desired.refuse("endpoint", key, "ingress_rate", what, "leave it out, or use mode l3")
                continue
            spec: RateSpec = {
                "netns": endpoint["workload"],
                "link": endpoint["interface"] or "",
                "direction": "ingress" if direction == rates.INGRESS else "egress",
                "rate": rate,
                "burst": burst,
                "limit": rates.queue(direction, rate, burst),
            }
            if self._is_free(key, spec):
                self.wanted.add("rate", rate_key(spec), spec, f"endpoint:{key}", f"{direction} of {endpoint['name']}")

    def _burst(self, key: str, direction: str, rate: int, asked: Optional[int], mtu: int) -> Optional[int]:
        """The burst, as the kernel keeps it; None where one that holds a packet cannot be had."""
        packet = mtu + rates.HEADER
        if rates.largest_burst(rate) < packet:
            what = f"{rates.rate_text(rate)} takes more than {rates.LONGEST} s for a packet of the MTU {mtu}"
            self.desired.refuse("endpoint", key, f"{direction}_rate", what, f"give {rates.least_rate(mtu)}bit at least")
            return None
        if asked is not None and asked < packet:
            what = f"{rates.size_text(asked)} is less than a packet of the MTU {mtu}, so none would pass"
            self.desired.refuse(
                "endpoint", key, f"{direction}_burst", what, f"give {packet}b at least, or leave it out"
            )
            return None
        burst = asked or rates.usual_burst(direction, rate, mtu)
        return rates.burst_of(rate, rates.ticks(rate, burst))

    def _is_free(self, key: str, spec: RateSpec) -> bool:
        """Whether the link has no qdisc of others there: the kernel would refuse ours, or it would replace theirs."""
        there = self.desired.observed.rate(spec)
        known = self.desired.record("rate", rate_key(spec)) or self.desired.declared.adopt
        if there is None or not (there.foreign or not (known or spec["netns"] in self.desired.moved_workloads)):
            return True
        link, place = link_key(spec["netns"], spec["link"]), _PLACES[spec["direction"]]
        place = "clsact" if there.foreign.startswith("qdisc clsact") else place
        what = f"{link} has {there.foreign or 'a qdisc'} already, which is not ours"
        fix = f"remove it in there (tc qdisc del dev {spec['link']} {place}), or leave the rate out"
        self.desired.refuse("endpoint", key, f"{spec['direction']}_rate", what, fix)
        return False
