# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subnets that a network needs but does not name."""

from __future__ import annotations

import ipaddress
from typing import Dict, List, Optional

from ..core import errors
from ..core.change import items_of
from ..core.formats import version_of
from ..core.network_specs import NetworkSpec, SubnetSpec, has_pool, has_version
from ..core.specs import is_l3
from ..declare import ipam
from .desired import DesiredState
from .pools import Pools, subnet_of


class SubnetChoice:
    """Completes the subnets of networks, so that no two that it chooses overlap."""

    def __init__(self, desired: DesiredState, pools: Pools) -> None:
        self.desired = desired
        self.pools = pools
        self._free: Optional[ipam.Subnets] = None

    def complete(self, network: NetworkSpec) -> None:
        """Choose the subnets that a network needs but does not name, and keep those chosen before."""
        record = self.desired.before("network", network["name"])
        before: List[SubnetSpec] = record["subnets"] if record else []
        for version in (4, 6):
            named = any(version_of(row["subnet"]) == version for row in network["subnets"])
            if named or not has_version(network, version) or not has_pool(network, version):
                continue
            kept = [row for row in before if row.get("auto") and version_of(row["subnet"]) == version]
            try:
                subnet = kept[0]["subnet"] if kept else self._pick(version)
            except errors.AddressError as error:
                self.desired.refuse("network", network["name"], "subnets", str(error), error.fix)
                continue
            network["subnets"] = [*network["subnets"], self._unasked(subnet, network)]
        if before and before != network["subnets"]:
            self._nothing_lost(network)

    def _pick(self, version: int) -> str:
        """A subnet that overlaps no network of ours and none of the host's addresses, routes and nameservers."""
        if self._free is None:
            recorded = items_of(self.desired.records)["network"]
            networks = [*self.desired.items["network"].values(), *recorded.values()]
            avoid = [row["subnet"] for network in networks for row in network["subnets"]]
            avoid += [address.address for found in self.desired.observed.host.addresses.values() for address in found]
            avoid += [route.prefix for route in self.desired.observed.host.routes if not route.prefix.endswith("/0")]
            avoid += self.desired.observed.nameservers
            self._free = ipam.Subnets(avoid, self.desired.seed)
        return self._free.pick(version)

    @staticmethod
    def _unasked(subnet: str, network: NetworkSpec) -> SubnetSpec:
        """The row of a subnet that was chosen, not given."""
        gateway = None if network["internal"] or is_l3(network) else ipam.first_usable(subnet)
        return {"subnet": subnet, "gateway": gateway, "ip_range": None, "aux_addresses": {}, "auto": True}

    def _nothing_lost(self, network: NetworkSpec) -> None:
        """Refuse to remove a subnet, or reserve an address, that an endpoint uses."""
        lost: Dict[str, List[str]] = {}
        for endpoint in self.desired.endpoints_of(network["name"]).values():
            for address in endpoint.get("addresses", ()):
                row = subnet_of(network, address)
                ip = address.partition("/")[0]
                if row is None:
                    lost.setdefault(f"{ipaddress.ip_interface(address).network} is in use by", []).append(
                        endpoint["name"]
                    )
                elif ip in self.pools.reserved(network, row):
                    lost.setdefault(f"{ip} cannot be reserved, it belongs to", []).append(endpoint["name"])
        for what, names in lost.items():
            self.desired.refuse(
                "network",
                network["name"],
                "subnets",
                f"{what} {', '.join(sorted(names))}",
                "remove those endpoints first, or keep it",
            )
