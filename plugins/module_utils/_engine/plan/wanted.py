# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel objects that a desired state stands for, as they are listed."""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple, cast

from ..core.change import PROTOCOL, address_key, route_key
from ..core.formats import RouteType
from ..core.link_specs import AddressSpec
from ..core.route_specs import MAIN_TABLE, RouteSpec, usual_metric
from ..core.specs import Generic, Spec

Key = Tuple[str, str]


class DesiredObject(NamedTuple):
    """A kernel object as it must be, the item that it belongs to, and why it is there."""

    spec: Spec
    of: str  # "" for what is not ours and is only changed
    reason: str


class Wanted(Dict[Key, DesiredObject]):
    """The desired objects by kind and key."""

    def add(self, kind: str, key: str, spec: Generic, of: str, reason: str) -> None:
        """List an object."""
        self[kind, key] = DesiredObject(cast(Spec, spec), of, reason)

    def address(self, netns: str, link: str, address: str, of: str, reason: str) -> None:
        """List an address, with its prefix length, of a link."""
        spec: AddressSpec = {"netns": netns, "link": link, "address": address}
        self.add("address", address_key(spec), spec, of, reason)

    def route(
        self,
        netns: str,
        prefix: str,
        via: Optional[str],
        dev: Optional[str],
        of: str,
        reason: str,
        kind: RouteType = "unicast",
        metric: Optional[int] = None,
        table: int = MAIN_TABLE,
    ) -> None:
        """List a route of ours. Without a metric it gets the one that the kernel would give."""
        spec: RouteSpec = {
            "netns": netns,
            "prefix": prefix,
            "type": kind,
            "via": via,
            "dev": dev,
            "metric": metric or usual_metric(prefix),
            "table": table,
            "protocol": PROTOCOL,
        }
        if via and not dev:
            del spec["dev"]  # the kernel finds it by the next hop
        self.add("route", route_key(spec), spec, of, reason)
