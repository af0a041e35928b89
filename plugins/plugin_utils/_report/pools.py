# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How full each pool is, and who holds an address twice.

Hosts in one VLAN share a wire, so they share its addresses: their use is counted together. A network without a
VLAN of its own, or in an L3 mode, is a pool on each of its hosts; then the fullest one is shown.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ...module_utils._engine.core.formats import version_of
from ...module_utils._engine.declare import ipam
from .gather import Fleet, Row, Use
from .hosts import ranges as numbered

L3 = ("l3", "l3s")
#: The largest whole number that every reader of JSON takes as it is.
_EXACT = 2**53


def is_shared(network: Row) -> bool:
    """Whether its hosts are in one broadcast domain."""
    return network["vlan_id"] is not None and network["mode"] not in L3


class _Pool:
    """One pool, of all networks of its wire."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.networks: list[int] = []
        self.use = Use()

    def add(self, network: int, use: Use) -> None:
        self.networks.append(network)
        self.use.join(use)


class Pools:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._holders: dict[int, list[tuple[int, int, Row]]] = defaultdict(list)  # network -> (address, version, lease)
        for lease in fleet.leases:
            if lease["network"] is not None:
                for text in lease["addresses"]:
                    ip = ipaddress.ip_address(text.partition("/")[0])
                    self._holders[lease["network"]].append((int(ip), ip.version, lease))

    def rows(self) -> list[Row]:
        """One row a pool, in the order of the networks."""
        wires: dict[tuple[Any, ...], _Pool] = {}
        for at, pools in self.fleet.pools.items():
            network = self.fleet.networks.rows[at]
            wire = ("vlan", network["vlan_id"]) if is_shared(network) else ("network", at)
            for text, use in pools.items():
                where = (*wire, text)
                if where not in wires:
                    wires[where] = _Pool(text)
                wires[where].add(at, use)
        return [self._row(pool) for pool in wires.values()]

    def _row(self, pool: _Pool) -> Row:
        first = self.fleet.networks.rows[pool.networks[0]]
        shared = is_shared(first)
        size = pool.use.size
        used = len(set(self._within(pool.networks, pool.text))) if shared else pool.use.used
        reserved = sum(high - low + 1 for low, high in ipam.spans(pool.text)) - size
        return {
            "pool": pool.text,
            "vlan_id": first["vlan_id"],
            "networks": pool.networks,
            "used": used,
            "size": size if size < _EXACT else None,
            "reserved": reserved if reserved < _EXACT else None,
            "fullest": None if shared else pool.use.fullest,
            "hosts": numbered(sorted(set(pool.use.hosts))),
        }

    def _within(self, networks: Iterable[int], pool: str) -> Iterable[int]:
        there, ranges = version_of(pool), ipam.spans(pool)
        for at in networks:
            for value, version, _lease in self._holders[at]:
                if version == there and ipam.is_within(value, ranges):
                    yield value

    def doubled(self) -> list[tuple[str, int, list[Row]]]:
        """Every address that several endpoints of one VLAN hold: the address, the VLAN, the leases."""
        seen: dict[tuple[int, int, int], list[Row]] = defaultdict(list)
        for at, held in self._holders.items():
            network = self.fleet.networks.rows[at]
            if is_shared(network):
                for value, version, lease in held:
                    seen[network["vlan_id"], version, value].append(lease)
        classes = {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}
        return [
            (str(classes[version](value)), vlan, seen[vlan, version, value])
            for vlan, version, value in sorted(seen)
            if len(seen[vlan, version, value]) > 1
        ]
