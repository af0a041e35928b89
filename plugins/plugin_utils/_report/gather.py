# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``vlan_info`` returned for each host, as rows of a fleet.

Five hundred hosts that carry the same four thousand networks are four thousand rows with the hosts in each,
not two million. Only what is one of a kind, an endpoint and its lease, is a row by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Optional

from .answers import whole
from .hosts import natural, ranges

Row = dict[str, Any]

#: The parts of an answer that become rows; the rest is said of the host.
_ROWS = ("networks", "links", "routes", "endpoints")

#: What a network is, on whichever host; its members and the use of its pools are not part of it.
_NETWORK = ("name", "driver", "mode", "flag", "parent", "trunk", "vlan_id", "internal", "mtu", "interface", "owner")
_LINK = ("name", "interface", "parent", "vlan_id", "protocol", "mtu", "owner")
_ROUTE = ("prefix", "type", "via", "dev", "metric", "table", "vrf")


class Grouped:
    """Rows that are the same on several hosts, each once with the positions of its hosts."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._hosts: list[list[int]] = []
        self._at: dict[Hashable, int] = {}

    def add(self, key: Hashable, host: int, make: Callable[..., Row], *of: Any) -> int:
        """The position of the row with a key, made of ``of`` the first time; hosts come in rising order."""
        at = self._at.get(key)
        if at is None:
            at = self._at[key] = len(self.rows)
            self.rows.append(make(*of))
            self._hosts.append([])
        if self._hosts[at][-1:] != [host]:
            self._hosts[at].append(host)
        return at

    def finished(self) -> list[Row]:
        return [{**row, "hosts": ranges(hosts)} for row, hosts in zip(self.rows, self._hosts)]


class Use:
    """How full a pool of one network is on the hosts that have it."""

    def __init__(self) -> None:
        self.hosts: list[int] = []
        self.size = 0  # how many addresses can be handed out, where the fewest are reserved
        self.used = -1  # by the fullest host
        self.fullest = 0

    def add(self, host: int, used: int, free: int) -> None:
        self.hosts.append(host)
        self._compare(used + free, used, host)

    def join(self, other: Use) -> None:
        """The same pool of another network."""
        self.hosts += other.hosts
        self._compare(other.size, other.used, other.fullest)

    def _compare(self, size: int, used: int, host: int) -> None:
        self.size = max(self.size, size)
        if used > self.used:
            self.used, self.fullest = used, host


class Fleet:
    """The rows of every host that was read; positions of hosts are those of ``names``. Each host's answer is looked at once."""

    def __init__(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        self.names = sorted(found, key=natural)
        #: Of each host, its answer without its rows.
        self.answers: list[Row] = []
        self.networks = Grouped()
        self.links = Grouped()
        self.routes = Grouped()
        self.leases: list[Row] = []
        #: position of the network -> each of its pools, as ``vlan_info`` counts it on the hosts
        self.pools: dict[int, dict[str, Use]] = defaultdict(lambda: defaultdict(Use))
        for host, name in enumerate(self.names):
            self._host(host, whole(name, found[name]))

    def _host(self, host: int, info: Mapping[str, Any]) -> None:
        at: dict[str, int] = {}
        for row in info.get("networks") or ():
            at[row["name"]] = self._network(host, row)
        for row in info.get("links") or ():
            self.links.add(_picked(row, _LINK) + (tuple(row["addresses"]),), host, _link, row)
        for routes in info.get("routes") or ():
            for row in routes["routes"]:
                key = (routes["name"], routes["network"], *_picked(row, _ROUTE))
                self.routes.add(key, host, _route, routes, row)
        for row in info.get("endpoints") or ():
            self.leases.append(_lease(host, at.get(row["network"]), row))
        self.answers.append({key: value for key, value in info.items() if key not in _ROWS})

    def _network(self, host: int, row: Mapping[str, Any]) -> int:
        subnets = tuple(
            (subnet["subnet"], subnet["gateway"], subnet["ip_range"], tuple(sorted(subnet["aux_addresses"].items())))
            for subnet in row["subnets"]
        )
        labels = tuple(sorted(row["labels"].items()))
        at = self.networks.add((*_picked(row, _NETWORK), subnets, labels), host, _network, row)
        for pool in row.get("pools") or ():
            self.pools[at][pool["pool"]].add(host, pool["used"], pool["free"])
        if row["addresses"]:
            self.leases.append(_own_lease(host, at, row))
        return at


def _picked(row: Mapping[str, Any], options: Sequence[str]) -> tuple[Any, ...]:
    return tuple([row.get(option) for option in options])


def _network(row: Mapping[str, Any]) -> Row:
    return {**{option: row.get(option) for option in _NETWORK}, "subnets": row["subnets"], "labels": row["labels"]}


def _link(row: Mapping[str, Any]) -> Row:
    return {**{option: row.get(option) for option in _LINK}, "addresses": row["addresses"]}


def _route(routes: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    return {"set": routes["name"], "network": routes["network"], **{option: row.get(option) for option in _ROUTE}}


def _lease(host: int, network: Optional[int], row: Mapping[str, Any]) -> Row:
    return {
        "host": host,
        "network": network,
        "of": row["network"],
        "name": row["name"],
        "workload": row["workload"],
        "interface": row["interface"],
        "addresses": row["addresses"],
        "slaac_addresses": row.get("slaac_addresses", []),
        "leased_addresses": [row[name]["address"] for name in ("lease", "lease_ipv6") if row.get(name)],
        "mac": row["mac"],
        "alive": row["alive"],
    }


def _own_lease(host: int, network: int, row: Mapping[str, Any]) -> Row:
    """The host's own addresses in a network with ``host_access``."""
    return {
        "host": host,
        "network": network,
        "of": row["name"],
        "name": "the host",
        "workload": "",
        "interface": row["interface"],
        "addresses": row["addresses"],
        "slaac_addresses": [],
        "leased_addresses": [],
        "mac": None,
        "alive": True,
    }
