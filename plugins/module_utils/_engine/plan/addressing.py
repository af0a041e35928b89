# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address allocation: the leases of endpoints, and the addresses that the host has in networks.

A lease is part of its endpoint's record, so it lasts as long: across restarts of the workload and re-creations of the network, until the
endpoint is absent.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Dict, Iterable, List, Optional, Set, Tuple

from ..core import errors
from ..core.change import LINK_GROUPS
from ..core.endpoint_specs import EndpointSpec, given_addresses, is_learnt, more_addresses, static_address
from ..core.formats import host_prefix, ip_of, parse_subnet, version_of
from ..core.network_specs import NetworkSpec, SubnetSpec, has_pool
from ..core.specs import Spec, is_l3
from ..declare import ipam
from . import macs
from .desired import DesiredState
from .pools import Pools, row_of, subnet_of

#: How many addresses more than needed a run probes, in case strangers hold some.
SPARE = 8


class Addressing:
    """Assigns addresses of the pools of networks, and refuses those that cannot be had."""

    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired
        self.pools = Pools(desired)
        self._said: Set[str] = set()

    # -- the host --------------------------------------------------------------------------------

    def host(self, network: NetworkSpec) -> List[str]:
        """The host's own addresses in a network with ``host_access``: as given, else as before, else the lowest free.

        They have full prefix length, so that no route but ours leads into the network.
        """
        given = network["host_access"] if isinstance(network["host_access"], list) else []
        before = self.desired.before("network", network["name"]) or {}
        kept = [] if given else [ip for ip in before.get("host_addresses", ()) if self._may_stay(network, ip)]
        network["host_addresses"] = kept
        pools = self.pools.of(network)
        for version in (4, 6):
            if any((":" in address) == (version == 6) for address in kept):
                continue
            for pool, row in zip(pools, network["subnets"]):
                ip = next((ip for ip in given if ipaddress.ip_address(ip) in parse_subnet(row["subnet"])), None)
                ip = ip or (pool.free() if not given else None)
                if version_of(row["subnet"]) == version and ip is not None:
                    self._claim_for_host(network, pool, ip)
                    break
        return list(network["host_addresses"])

    def _may_stay(self, network: NetworkSpec, address: str) -> bool:
        row = subnet_of(network, address)
        return row is not None and address.partition("/")[0] not in self.pools.reserved(network, row)

    def _claim_for_host(self, network: NetworkSpec, pool: ipam.Pool, ip: str) -> None:
        try:
            pool.claim(ip, "the host")
        except errors.AddressError as error:
            self.desired.refuse(
                "network",
                network["name"],
                "host_access",
                str(error),
                "give another address, or true",
            )
        network["host_addresses"].append(f"{ip}/{128 if ':' in ip else 32}")

    # -- endpoints --------------------------------------------------------------------------------

    def assign(self, keys: Iterable[str]) -> None:
        """Assign addresses and MACs to endpoints: keep valid ones, then static ones, then the lowest free ones."""
        keys = list(keys)
        endpoints = self.desired.items["endpoint"]
        networks = self.desired.items["network"]
        for key in keys:
            before = self.desired.before("endpoint", key) or self._adopted(key)
            endpoints[key]["addresses"] = list(before.get("addresses", ()))
            endpoints[key]["mac"] = macs.mac_of(self.desired, key, networks[endpoints[key]["network"]])
        macs.refuse_twice(self.desired, keys)
        for key in keys:
            self._drop_changed(key, endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._claim(key, endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._take(key, endpoints[key], networks[endpoints[key]["network"]])
            self._arrange(endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._may_be_allowed(key, endpoints[key], networks[endpoints[key]["network"]])
        for name in dict.fromkeys(endpoints[key]["network"] for key in keys):
            self._no_nameserver_assigned(networks[name])

    def _no_nameserver_assigned(self, network: NetworkSpec) -> None:
        """Refuse a nameserver with the address that an endpoint had from the pool."""
        for ip, (kind, key) in self.pools.nameservers(network).items():
            holders = (
                pool.holder(ip) for pool, row in zip(self.pools.of(network), network["subnets"]) if row_of([row], ip)
            )
            holder = next(holders, None)
            if holder and key in self.desired.scope[kind]:
                what = f"{ip} was assigned to {holder} of {network['name']}"
                option = f"ipv{version_of(ip)}_address"
                fix = f"give another nameserver, or, if {holder} is the nameserver, set its {option} first"
                self.desired.refuse(kind, key, "dns", what, fix)

    def _adopted(self, key: str) -> Spec:
        """Addresses that an endpoint without a record already has in its workload, because the registry was lost."""
        endpoint = self.desired.items["endpoint"][key]
        namespace = self.desired.observed.namespace(endpoint["workload"])
        parent = self.desired.parent(self.desired.items["network"][endpoint["network"]])
        for where, link in self.desired.observed.children.get(parent.link.index, ()) if parent and parent.link else ():
            recorded = self.desired.is_recorded_in(where, link)
            if (
                where is not namespace
                or link.group not in LINK_GROUPS
                or recorded
                or endpoint["interface"] not in (None, link.name)
            ):
                continue
            if not self.desired.declared.adopt:
                self.desired.refuse(
                    "endpoint",
                    key,
                    "name",
                    f"{link.name} in {endpoint['workload']} has our mark but is in no registry",
                    "the registry was lost: set adopt: true to take it back, or remove it",
                )
                break
            endpoint["interface"] = link.name
            return {
                "addresses": [
                    a.address
                    for a in namespace.addresses.get(link.index, ())
                    if not (a.scope or a.is_slaac or a.is_leased)
                ]
            }
        return {}

    def _drop_changed(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """Release the addresses that endpoints may not keep, before any are claimed."""
        kept = []
        before = self.desired.before("endpoint", key) or {}
        further = [*before.get("ipv4_addresses", ()), *before.get("ipv6_addresses", ()), *endpoint["allowed_addresses"]]
        for address in endpoint["addresses"]:
            ip, version = ip_of(address), version_of(address)
            row = subnet_of(network, address)
            static = static_address(endpoint, version)
            elsewhere = endpoint["subnet"] and version_of(endpoint["subnet"]) == version
            held = ip in self.desired.observed.held.get(network["name"], {})
            stays = ip not in further if static is None else ip == static
            stays = (
                stays
                and row is not None
                and not is_learnt(endpoint, version)
                and (static is not None or has_pool(network, version))
                and not endpoint["vlans"]
                and not (elsewhere and endpoint["subnet"] != row["subnet"])
            )
            if row and not held and (stays or ip in more_addresses(endpoint)):
                kept.append(address)
                continue
            for pool, subnet in zip(self.pools.of(network), network["subnets"]):
                if subnet is row:
                    pool.release(ip)
        endpoint["addresses"] = kept

    def _claim(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        for option, static in given_addresses(endpoint):
            if any(ip_of(address) == static for address in endpoint["addresses"]):
                continue
            for pool, row in zip(self.pools.of(network), network["subnets"]):
                subnet = parse_subnet(row["subnet"])
                if ipaddress.ip_address(static) in subnet:
                    try:
                        pool.claim(static, endpoint["name"])
                    except errors.AddressError as error:
                        self.desired.refuse(
                            "endpoint", key, option, str(error), "give another address, or leave it out"
                        )
                    endpoint["addresses"].append(f"{static}/{subnet.prefixlen}")
                    break
            else:
                self._refuse_astray(key, option, static, network)

    def _refuse_astray(self, key: str, option: str, ip: str, network: NetworkSpec) -> None:
        there = ", ".join(row["subnet"] for row in network["subnets"]) or "none"
        what = f"{ip} is in no subnet of {network['name']}"
        self.desired.refuse("endpoint", key, option, what, f"its subnets are {there}")

    def _arrange(self, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """Put the first addresses first, and the others behind as they are listed.

        Only the first one of a subnet has its prefix length. So the kernel sends from that one, and removes no other with it.
        """
        more = more_addresses(endpoint)
        held = [ip_of(address) for address in endpoint["addresses"]]
        found: Dict[str, str] = {}
        rows: List[SubnetSpec] = []
        for ip in (*(ip for ip in held if ip not in more), *(ip for ip in more if ip in held)):
            row = subnet_of(network, ip)
            if row is not None:
                found[ip] = host_prefix(ip) if row in rows else f"{ip}/{row['subnet'].partition('/')[2]}"
                rows.append(row)
        endpoint["addresses"] = sorted(found.values(), key=version_of)

    def _may_be_allowed(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """Whether no endpoint has the addresses that a workload may take."""
        for position, ip in enumerate(endpoint["allowed_addresses"]):
            option, row = f"allowed_addresses[{position}]", subnet_of(network, ip)
            if row is None:
                self._refuse_astray(key, option, ip, network)
                continue
            pool = next(pool for pool, other in zip(self.pools.of(network), network["subnets"]) if other is row)
            holder = pool.holder(ip)
            what = f"{ip} is held by {holder}" if holder else ipam.usable_error(row["subnet"], ip)
            if ip == row["gateway"]:
                what = f"{ip} is the gateway"
            if what:
                self.desired.refuse("endpoint", key, option, what, "give another address, or leave it out")

    def _take(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        more = more_addresses(endpoint)
        first = {version_of(address) for address in endpoint["addresses"] if ip_of(address) not in more}
        for version in (4, 6):
            if version in first or endpoint["vlans"] or is_learnt(endpoint, version) or not has_pool(network, version):
                continue
            rows = [
                (pool, row)
                for pool, row in zip(self.pools.of(network), network["subnets"])
                if version_of(row["subnet"]) == version and self._is_chosen(endpoint, row, version)
            ]
            for pool, row in rows:
                ip = pool.free()
                if ip is not None:
                    self._say_skipped(network, row, ip)
                    pool.claim(ip, endpoint["name"])
                    endpoint["addresses"].append(f"{ip}/{row['subnet'].partition('/')[2]}")
                    break
            else:
                if rows:
                    where = ", ".join(row["ip_range"] or row["subnet"] for _pool, row in rows)
                    fix = "widen ip_range" if any(row["ip_range"] for _pool, row in rows) else "add a subnet"
                    self.desired.refuse(
                        "endpoint",
                        key,
                        f"ipv{version}_address",
                        f"no address is free in {where} of {network['name']}",
                        f"{fix}, or remove an endpoint",
                    )
        if endpoint["subnet"] and endpoint["subnet"] not in [row["subnet"] for row in network["subnets"]]:
            self.desired.refuse(
                "endpoint",
                key,
                "subnet",
                f"{endpoint['subnet']} is no subnet of {network['name']}",
                "give one of its subnets, or leave it out",
            )

    def _say_skipped(self, network: NetworkSpec, row: SubnetSpec, taken: str) -> None:
        """Warn once about each address below an assigned one that was skipped because it is known to be in use."""
        pool = ipam.spans(row["ip_range"] or row["subnet"])
        own = self._on_parent_itself(network)
        for ip, why in self.pools.in_use(network, row).items():
            number = int(ipaddress.ip_address(ip))
            below = number < int(ipaddress.ip_address(taken)) and ipam.is_within(number, pool)
            if below and ip not in own and ip not in self._said and ip not in self.pools.allowed(network):
                self._said.add(ip)
                self.desired.warn("network", network["name"], "subnets", f"{ip} is not assigned: it is {why}")

    def _on_parent_itself(self, network: NetworkSpec) -> Set[str]:
        """The parent's own addresses, which need no warning when skipped."""
        parent = self.desired.parent(network)
        link = parent.link if parent else None
        addresses = self.desired.observed.host.addresses.get(link.index, ()) if link else ()
        vlan = self.desired.declared_vlan(network["parent"])
        declared = (vlan and vlan.get("addresses")) or ()
        return {ip_of(address.address) for address in addresses} | {ip_of(address) for address in declared}

    def next_best(self, endpoint: EndpointSpec, address: str) -> List[str]:
        """Alternatives to an endpoint's address, in order; none for a static address."""
        network = self.desired.items["network"][endpoint["network"]]
        given = static_address(endpoint, version_of(address)) or address in more_addresses(endpoint)
        return [] if given else self._spare(network, address)

    def next_best_for_host(self, network: NetworkSpec, address: str) -> List[str]:
        """Alternatives to one of the host's addresses in a network."""
        return [] if isinstance(network["host_access"], list) else self._spare(network, address)

    def _spare(self, network: NetworkSpec, address: str) -> List[str]:
        row = subnet_of(network, address)
        pool = next(pool for pool, other in zip(self.pools.of(network), network["subnets"]) if other is row)
        return list(itertools.islice(pool.candidates(), SPARE))

    @staticmethod
    def _is_chosen(endpoint: EndpointSpec, row: SubnetSpec, version: int) -> bool:
        chosen = endpoint["subnet"]
        return not chosen or version_of(chosen) != version or chosen == row["subnet"]

    def way_out(self, endpoint: EndpointSpec, version: int) -> Optional[Tuple[Optional[str]]]:
        """The next hop of an endpoint's default route, (None,) for a route to the device; None for no default route."""
        network = self.desired.items["network"][endpoint["network"]]
        for address in endpoint["addresses"]:
            row = subnet_of(network, address)
            if row is None or version_of(row["subnet"]) != version:
                continue
            if is_l3(network):  # also an internal one: its subnets reach each other
                return (None,)
            if network["internal"]:
                continue
            if row["gateway"]:
                return (row["gateway"],)
        return None
