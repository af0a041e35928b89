# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Address allocation: the pools of the networks in scope, and the leases of their endpoints.

A lease is part of its endpoint's record, so it lasts as long: across restarts of the workload and re-creations of the network, until the
endpoint is absent.
"""

from __future__ import annotations

import ipaddress
import itertools
from bisect import bisect_left
from functools import cached_property
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from ..core import errors
from ..core.change import LINK_GROUPS, items_of
from ..core.endpoint_specs import EndpointSpec, given_addresses, more_addresses, static_address
from ..core.formats import host_prefix, ip_of, parse_subnet, version_of
from ..core.network_specs import NetworkSpec, SubnetSpec, has_version
from ..core.specs import Spec, is_l3
from ..declare import ipam
from .desired import DesiredState, Parent

#: How many addresses more than needed a run probes, in case strangers hold some.
SPARE = 8


#: IP version, number and text of an address, and why it is not free.
InUse = Tuple[int, int, str, str]


class Addressing:
    def __init__(self, desired: DesiredState) -> None:
        self.desired = desired
        self._pools: Dict[str, List[ipam.Pool]] = {}
        self._subnets: Optional[ipam.Subnets] = None
        self._said: Set[str] = set()

    # -- networks ---------------------------------------------------------------------------------

    def complete(self, network: NetworkSpec, parent: Parent) -> None:
        """Choose the subnets that a network needs but does not name, and keep those chosen before."""
        record = self.desired.before("network", network["name"])
        before: List[SubnetSpec] = record["subnets"] if record else []
        for version in (4, 6):
            if not has_version(network, version) or any(_version(row) == version for row in network["subnets"]):
                continue
            kept = [row for row in before if row.get("auto") and _version(row) == version]
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
        if self._subnets is None:
            recorded = items_of(self.desired.records)["network"]
            networks = [*self.desired.items["network"].values(), *recorded.values()]
            avoid = [row["subnet"] for network in networks for row in network["subnets"]]
            avoid += [address.address for found in self.desired.observed.host.addresses.values() for address in found]
            avoid += [route.prefix for route in self.desired.observed.host.routes if not route.prefix.endswith("/0")]
            avoid += self.desired.observed.nameservers
            self._subnets = ipam.Subnets(avoid, self.desired.seed)
        return self._subnets.pick(version)

    @staticmethod
    def _unasked(subnet: str, network: NetworkSpec) -> SubnetSpec:
        """The row of a subnet that was chosen, not given."""
        gateway = None if network["internal"] or is_l3(network) else ipam.first_usable(subnet)
        return {"subnet": subnet, "gateway": gateway, "ip_range": None, "aux_addresses": {}, "auto": True}

    def _nothing_lost(self, network: NetworkSpec) -> None:
        """Refuse to remove a subnet, or reserve an address, that an endpoint uses."""
        lost: Dict[str, List[str]] = {}
        for endpoint in self.desired.endpoints_of({network["name"]}).values():
            for address in endpoint.get("addresses", ()):
                row = subnet_of(network, address)
                ip = address.partition("/")[0]
                if row is None:
                    lost.setdefault(f"{ipaddress.ip_interface(address).network} is in use by", []).append(
                        endpoint["name"]
                    )
                elif ip in self.reserved(network, row):
                    lost.setdefault(f"{ip} cannot be reserved, it belongs to", []).append(endpoint["name"])
        for what, names in lost.items():
            self.desired.refuse(
                "network",
                network["name"],
                "subnets",
                f"{what} {', '.join(sorted(names))}",
                "remove those endpoints first, or keep it",
            )

    def reserved(self, network: NetworkSpec, row: SubnetSpec) -> Dict[str, str]:
        """What is never allocated from a subnet: addresses, prefixes and ranges, each with its reason."""
        found = {part: f"reserved as {name}" for name, part in row["aux_addresses"].items()}
        if row["gateway"]:
            found[row["gateway"]] = "the gateway"
        elif is_l3(network) and (first := ipam.first_usable(row["subnet"])):
            found[first] = "the first usable address, which is reserved in L3 modes"
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

    def in_use(self, network: NetworkSpec, row: SubnetSpec) -> Dict[str, str]:
        """The addresses of a subnet that the host knows to be in use."""
        strangers = self.desired.observed.held.get(network["name"], {})
        low, high = ipam.span(row["subnet"])
        found: Dict[str, str] = {}
        version = _version(row)
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
        """The addresses that endpoints and the host hold by record, with prefix length."""
        found = {address for spec in self.desired.items["endpoint"].values() for address in spec.get("addresses", ())}
        for kind in ("endpoint", "address"):
            for record in self.desired.records.get(kind, {}).values():
                found.update(record.spec["addresses"] if kind == "endpoint" else (record.spec["address"],))
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

    def pools(self, network: NetworkSpec) -> List[ipam.Pool]:
        """One pool for each subnet, in the order of the subnets, with every lease of the network in it."""
        pools = self._pools.get(network["name"])
        if pools is None:
            leases = {
                address.partition("/")[0]: spec["name"]
                for spec in self.desired.endpoints_of({network["name"]}).values()
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

    def host(self, network: NetworkSpec) -> List[str]:
        """The host's own addresses in a network with ``host_access``: as given, else as before, else the lowest free.

        They have full prefix length, so that no route but ours leads into the network.
        """
        given = network["host_access"] if isinstance(network["host_access"], list) else []
        before = self.desired.before("network", network["name"]) or {}
        kept = [] if given else [ip for ip in before.get("host_addresses", ()) if self._may_stay(network, ip)]
        network["host_addresses"] = kept
        pools = self.pools(network)
        for version in (4, 6):
            if any((":" in address) == (version == 6) for address in kept):
                continue
            for pool, row in zip(pools, network["subnets"]):
                ip = next((ip for ip in given if ipaddress.ip_address(ip) in parse_subnet(row["subnet"])), None)
                ip = ip or (pool.free() if not given else None)
                if _version(row) == version and ip is not None:
                    self._claim_for_host(network, pool, ip)
                    break
        return list(network["host_addresses"])

    def _may_stay(self, network: NetworkSpec, address: str) -> bool:
        row = subnet_of(network, address)
        return row is not None and address.partition("/")[0] not in self.reserved(network, row)

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
            endpoints[key]["mac"] = self._mac(key, networks[endpoints[key]["network"]])
        self._no_mac_twice(keys)
        for key in keys:
            self._drop_changed(key, endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._claim(key, endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._take(key, endpoints[key], networks[endpoints[key]["network"]])
            self._arrange(endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._may_be_allowed(key, endpoints[key], networks[endpoints[key]["network"]])

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
            return {"addresses": [a.address for a in namespace.addresses.get(link.index, ()) if a.scope == 0]}
        return {}

    def _mac(self, key: str, network: NetworkSpec) -> Optional[str]:
        endpoint = self.desired.items["endpoint"][key]
        if network["driver"] == "macvlan":
            if network["mode"] != "passthru":
                return endpoint["mac_address"] or ipam.mac_for(self.desired.seed, endpoint["network"], endpoint["name"])
            if endpoint["mac_address"]:
                self.desired.refuse(
                    "endpoint",
                    key,
                    "mac_address",
                    "a passthru endpoint has the MAC of its parent",
                    "leave it out, or use another mode",
                )
            return None
        if endpoint["mac_address"]:
            self.desired.refuse(
                "endpoint",
                key,
                "mac_address",
                "ipvlan endpoints have the MAC of their parent",
                "leave it out, or use a macvlan network",
            )
        return None

    def _no_mac_twice(self, keys: Iterable[str]) -> None:
        """Two links on one parent never share a MAC: the kernel creates the second and refuses to bring it up."""
        holders: Dict[Tuple[object, str], str] = {}
        endpoints, networks = self.desired.items["endpoint"], self.desired.items["network"]
        for key, endpoint in endpoints.items():
            network = networks.get(endpoint["network"])
            parent = self.desired.parent(network) if network else None
            if parent and (mac := endpoint.get("mac")):
                holders.setdefault((parent.identity, mac), f"endpoint {key}")
        checked: Set[object] = set()
        for key in keys:
            endpoint = endpoints[key]
            parent = self.desired.parent(networks[endpoint["network"]])
            if parent is None or not endpoint["mac"]:
                continue
            if parent.identity not in checked:
                checked.add(parent.identity)
                holders.update(((parent.identity, mac), holder) for mac, holder in self._foreign_macs(parent))
            holder = holders[parent.identity, endpoint["mac"]]
            if holder != f"endpoint {key}":
                self.desired.refuse(
                    "endpoint",
                    key,
                    "mac_address",
                    f"{endpoint['mac']} is the MAC of {holder}",
                    "give another, or leave mac_address out",
                )

    def _foreign_macs(self, parent: Parent) -> Iterator[Tuple[str, str]]:
        """The MACs on a parent that no endpoint of ours may have: its own, and those of other macvlan links on it."""
        link = parent.link or self.desired.observed.host.names.get(parent.base or "")
        if link is not None and link.mac:
            yield link.mac, f"its parent, {parent.name}"
        for namespace, child in self.desired.observed.children.get(parent.link.index, ()) if parent.link else ():
            ours = child.group in LINK_GROUPS or self.desired.is_recorded_in(namespace, child)
            moved = namespace.workload in self.desired.moved_workloads
            if child.kind in ("macvlan", "macvtap") and not ours and not moved and child.data.get("mode") != "passthru":
                yield child.mac, f"{child.name} in {namespace.workload or 'the host'}"

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
            stays = stays and row is not None and not (elsewhere and endpoint["subnet"] != row["subnet"])
            if row and not held and (stays or ip in more_addresses(endpoint)):
                kept.append(address)
                continue
            for pool, subnet in zip(self.pools(network), network["subnets"]):
                if subnet is row:
                    pool.release(ip)
        endpoint["addresses"] = kept

    def _claim(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        for option, static in given_addresses(endpoint):
            if any(ip_of(address) == static for address in endpoint["addresses"]):
                continue
            for pool, row in zip(self.pools(network), network["subnets"]):
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
            pool = next(pool for pool, other in zip(self.pools(network), network["subnets"]) if other is row)
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
            if version in first:
                continue
            rows = [
                (pool, row)
                for pool, row in zip(self.pools(network), network["subnets"])
                if _version(row) == version and self._is_chosen(endpoint, row, version)
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
        for ip, why in self.in_use(network, row).items():
            number = int(ipaddress.ip_address(ip))
            below = number < int(ipaddress.ip_address(taken)) and ipam.is_within(number, pool)
            if below and ip not in own and ip not in self._said and ip not in self.allowed(network):
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
        pool = next(pool for pool, other in zip(self.pools(network), network["subnets"]) if other is row)
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
            if row is None or _version(row) != version:
                continue
            if is_l3(network):  # also an internal one: its subnets reach each other
                return (None,)
            if network["internal"]:
                continue
            if row["gateway"]:
                return (row["gateway"],)
        return None


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
        if low <= number <= high and _version(row) == version:
            return row
    return None


def _version(row: SubnetSpec) -> int:
    return version_of(row["subnet"])
