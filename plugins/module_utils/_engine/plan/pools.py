# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be allocated from the subnets of networks: their pools, and what is reserved or in use in them."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from functools import cached_property
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from ..core.endpoint_specs import given_addresses, is_dhcp
from ..core.formats import ip_of, parse_subnet, version_of
from ..core.lease_specs import lease_of
from ..core.network_specs import NetworkSpec, SubnetSpec
from ..core.specs import is_l3
from ..declare import ipam
from .desired import DesiredState

#: IP version, number and text of an address, and why it is not free.
InUse = Tuple[int, int, str, str]


class Pools:
    """The pools of the networks of a desired state, each made when it is asked for and kept with what is claimed from it."""

    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired
        self._pools: Dict[str, List[ipam.Pool]] = {}

    def of(self, network: NetworkSpec) -> List[ipam.Pool]:
        """One pool for each subnet, in the order of the subnets, with every lease of the network in it."""
        pools = self._pools.get(network["name"])
        if pools is None:
            leases = {
                address.partition("/")[0]: spec["name"]
                for spec in self.desired.endpoints_of(network["name"]).values()
                for address in spec.get("addresses", ())
            }
            leases.update((address.partition("/")[0], "the host") for address in network.get("host_addresses", ()))
            pools = self._pools[network["name"]] = []
            for row in network["subnets"]:
                subnet = parse_subnet(row["subnet"])
                taken = {ip: holder for ip, holder in leases.items() if ipaddress.ip_address(ip) in subnet}
                allowed = {ip: why for ip, why in self.allowed(network).items() if ipaddress.ip_address(ip) in subnet}
                reserved = {**self.reserved(network, row), **allowed}
                pools.append(ipam.Pool(row["subnet"], row["ip_range"], reserved, taken))
        return pools

    def reserved(self, network: NetworkSpec, row: SubnetSpec) -> Dict[str, str]:
        """What is never allocated from a subnet: addresses, prefixes and ranges, each with its reason."""
        found = {part: f"reserved as {name}" for name, part in row["aux_addresses"].items()}
        if row["gateway"]:
            found[row["gateway"]] = "the gateway"
        elif is_l3(network) and (first := ipam.first_usable(row["subnet"])):
            found[first] = "the first usable address, which is reserved in L3 modes"
        for ip in self.nameservers(network):
            if row_of([row], ip):
                found.setdefault(ip, "a nameserver of endpoints")
        found.update(self.in_use(network, row))
        return found

    def allowed(self, network: NetworkSpec) -> Dict[str, str]:
        """The addresses that workloads take and give up by themselves: allocated to none, each with its reason."""
        return self._allowed.get(network["name"], {})

    @cached_property
    def _allowed(self) -> Dict[str, Dict[str, str]]:
        """Those of all networks, by network."""
        names: Dict[str, Dict[str, List[str]]] = {}
        for spec in self.desired.items["endpoint"].values():
            for ip in spec["allowed_addresses"]:
                names.setdefault(spec["network"], {}).setdefault(ip, []).append(spec["name"])
        return {
            network: {ip: "an allowed address of " + ", ".join(sorted(of)) for ip, of in addresses.items()}
            for network, addresses in names.items()
        }

    def nameservers(self, network: NetworkSpec) -> Dict[str, Tuple[str, str]]:
        """Whom the endpoints of a network ask for names, each with kind and key of the first item that says so.

        An endpoint that was given such an address, or the host that has it, is that nameserver: nothing is reserved.
        """
        return self._nameservers.get(network["name"], {})

    @cached_property
    def _nameservers(self) -> Dict[str, Dict[str, Tuple[str, str]]]:
        """Those of all networks, by network."""
        found: Dict[str, Dict[str, Tuple[str, str]]] = {}
        for name, network in self.desired.items["network"].items():
            found[name] = dict.fromkeys(network["dns"], ("network", name))
        endpoints = self.desired.items["endpoint"]
        for key, spec in endpoints.items():
            for ip in spec["dns"] or ():
                found.setdefault(spec["network"], {}).setdefault(ip, ("endpoint", key))
        for spec in endpoints.values():
            for _option, ip in given_addresses(spec):
                found.get(spec["network"], {}).pop(ip, None)
        for name, network in self.desired.items["network"].items():
            before = self.desired.before("network", name) or {}
            access = network["host_access"]
            for ip in access if isinstance(access, list) else before.get("host_addresses", ()) if access else ():
                found[name].pop(ip_of(ip), None)
        return found

    def in_use(self, network: NetworkSpec, row: SubnetSpec) -> Dict[str, str]:
        """The addresses of a subnet that the host knows to be in use."""
        strangers = self.desired.observed.held.get(network["name"], {})
        low, high = ipam.span(row["subnet"])
        found: Dict[str, str] = {}
        version = version_of(row["subnet"])
        first, last = bisect_left(self._known, (version, low)), bisect_left(self._known, (version, high + 1))
        for family, number, ip, why in (*self._known[first:last], *self._on_the_parent(network)):
            if low <= number <= high and family == version:
                found[ip] = why
        for ip, mac in strangers.items():
            if row_of([row], ip):
                found[ip] = f"held by {mac} on the wire"
        return found

    @cached_property
    def _known(self) -> List[InUse]:
        """The host's own addresses, next hops, DNS servers and controllers, sorted."""
        desired, observed = self.desired, self.desired.observed
        found = {str(address): "a DNS server of this host" for address in observed.nameservers}
        for route in observed.host.routes:
            if route.via:
                found[route.via] = f"the next hop of this host's route to {route.prefix}"
        found.update((address, "the address from which this host is managed") for address in observed.controllers)
        for key, vlan in desired.items["vlan"].items():
            found.update(
                (ip_of(address), f"an address of this host, on {key}") for address in vlan.get("addresses") or ()
            )
        for index, addresses in observed.host.addresses.items():
            link = observed.host.links.get(index)
            name = observed.called(link) if link is not None else "another link"
            for address in addresses:
                if f"{name} {address.address}" not in desired.records.get("address", {}):
                    found[ip_of(address.address)] = f"an address of this host, on {name}"
        return sorted(_in_use(ip, why) for ip, why in found.items() if _is_address(ip))

    @cached_property
    def _leased(self) -> Set[str]:
        """The addresses that endpoints and the host hold by record, with prefix length, and those of DHCP servers that are given back."""
        found = {address for spec in self.desired.items["endpoint"].values() for address in spec.get("addresses", ())}
        for kind in ("endpoint", "address"):
            for record in self.desired.records.get(kind, {}).values():
                found.update(record.spec["addresses"] if kind == "endpoint" else (record.spec["address"],))
        for key, lease in self.desired.observed.leases.items():
            of, version = lease_of(key)
            endpoint = self.desired.items["endpoint"].get(of)
            if endpoint is None or not is_dhcp(endpoint, version):
                found.add(lease["address"])
        return found

    def _on_the_parent(self, network: NetworkSpec) -> Iterator[InUse]:
        """The addresses on all links of the parent, in any namespace; of ours only those without a lease."""
        parent = self.desired.parent(network)
        if parent is None or parent.link is None:
            return
        for namespace, link in self.desired.observed.children.get(parent.link.index, ()):
            ours = self.desired.is_recorded_in(namespace, link)
            where = f"in use by {link.name} in {namespace.workload or 'the host'}"
            for address in namespace.addresses.get(link.index, ()):
                if not (ours and address.address in self._leased):
                    yield _in_use(ip_of(address.address), where)


def _in_use(ip: str, why: str) -> InUse:
    return version_of(ip), int(ipaddress.ip_address(ip.partition("%")[0])), ip, why


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def subnet_of(network: NetworkSpec, address: str) -> Optional[SubnetSpec]:
    """The subnet row that contains an address."""
    return row_of(network["subnets"], address)


def row_of(rows: Iterable[SubnetSpec], address: str) -> Optional[SubnetSpec]:
    """The first of some subnet rows that contains an address."""
    number, version = int(ipaddress.ip_address(ip_of(address))), version_of(address)
    for row in rows:
        low, high = ipam.span(row["subnet"])
        if low <= number <= high and version_of(row["subnet"]) == version:
            return row
    return None
