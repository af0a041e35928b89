# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets which address: the pools of the networks in scope, and the leases of their endpoints.

A lease stands in the record of its endpoint, so it lives exactly as long: across restarts of the workload
and re-creations of the network, until the endpoint is absent.
"""

from __future__ import annotations

import ipaddress
import itertools
from typing import Dict, Iterable, List, Optional, Tuple

from . import ipam, model
from .target import Parent, Target
from .world import LINK_GROUP, Spec, link_key

#: How many addresses beyond those that it needs a run asks the wire for, should strangers hold some.
SPARE = 8


class Addressing:
    def __init__(self, target: Target) -> None:
        self.target = target
        self._pools: Dict[str, List[ipam.Pool]] = {}
        self._subnets: Optional[ipam.Subnets] = None

    # -- networks ---------------------------------------------------------------------------------

    def complete(self, network: Spec, parent: Parent) -> None:
        """Give a network the subnets that it asks for without naming them, and keep those it was given before."""
        before = self.target.before("network", network["name"]) or {"subnets": []}
        for version in (4, 6):
            if not network[f"enable_ipv{version}"] or any(_version(row) == version for row in network["subnets"]):
                continue
            kept = [row for row in before["subnets"] if row.get("auto") and _version(row) == version]
            try:
                subnet = kept[0]["subnet"] if kept else self._pick(version)
            except ipam.AddressError as error:
                self.target.refuse(self.target.path("network", network["name"], "subnets"), str(error), error.cure)
                continue
            network["subnets"] = [*network["subnets"], self._unasked(subnet, network)]
        if before["subnets"] and before["subnets"] != network["subnets"]:
            self._nothing_lost(network)

    def _pick(self, version: int) -> str:
        """A subnet that neither a network of ours nor the host's own addresses, routes and nameservers reach."""
        if self._subnets is None:
            networks = [*self.target.items["network"].values()]
            networks += [record.spec for record in self.target.records.get("network", {}).values()]
            avoid = [row["subnet"] for network in networks for row in network["subnets"]]
            avoid += [address.address for found in self.target.world.host.addresses.values() for address in found]
            avoid += [route.prefix for route in self.target.world.host.routes if not route.prefix.endswith("/0")]
            avoid += self.target.world.nameservers
            self._subnets = ipam.Subnets(avoid, self.target.seed)
        return self._subnets.pick(version)

    @staticmethod
    def _unasked(subnet: str, network: Spec) -> Spec:
        """The row of a subnet that was not asked for by name."""
        gateway = None if network["internal"] or model.is_l3(network) else ipam.first_usable(subnet)
        return {"subnet": subnet, "gateway": gateway, "ip_range": None, "aux_addresses": {}, "auto": True}

    def _nothing_lost(self, network: Spec) -> None:
        """Subnets and reservations may come and go, but not those that an endpoint's address is in."""
        lost: Dict[str, List[str]] = {}
        for endpoint in self.target.endpoints_of({network["name"]}).values():
            for address in endpoint.get("addresses", ()):
                row = subnet_of(network, address)
                ip = address.partition("/")[0]
                if row is None:
                    lost.setdefault(f"{ipaddress.ip_interface(address).network} is in use by", []).append(endpoint["name"])
                elif ip in self.reserved(network, row):
                    lost.setdefault(f"{ip} cannot be reserved, it belongs to", []).append(endpoint["name"])
        for what, names in lost.items():
            self.target.refuse(self.target.path("network", network["name"], "subnets"), f"{what} {', '.join(sorted(names))}",
                               "remove those endpoints first, or keep it")  # fmt: skip

    def reserved(self, network: Spec, row: Spec) -> Dict[str, str]:
        """The addresses of a subnet that are never handed out, each with its reason."""
        found = {address: f"reserved as {name}" for name, address in row["aux_addresses"].items()}
        first = ipam.first_usable(row["subnet"]) if model.is_l3(network) else None
        for address in (row["gateway"], first):
            if address:
                found[address] = "the gateway"
        subnet = ipaddress.ip_network(row["subnet"])
        strangers = self.target.world.held.get(network["name"], {})
        told = {address: f"held by {mac} on the wire" for address, mac in strangers.items()}
        for text, why in {**self._on_the_wire(network), **told}.items():
            if ipaddress.ip_address(text) in subnet:
                found[text] = why
        return found

    def _on_the_wire(self, network: Spec) -> Dict[str, str]:
        """The addresses of the parent itself, and of others' links on it, wherever they live."""
        parent = self.target.parent(network)
        if parent is None or parent.link is None:
            return {}
        index, world = parent.link.index, self.target.world
        found = {own.address.partition("/")[0]: f"an address of {parent.name}" for own in world.host.addresses.get(index, ())}
        for space, link in world.children.get(index, ()):
            if not self.target.is_recorded(link_key(space.workload, link.name)):
                where = f"in use by {link.name} in {space.workload or 'the host'}"
                found.update((other.address.partition("/")[0], where) for other in space.addresses.get(link.index, ()))
        return found

    def pools(self, network: Spec) -> List[ipam.Pool]:
        """One pool for each subnet, in the order of the subnets, with every lease of the network in it."""
        pools = self._pools.get(network["name"])
        if pools is None:
            leases = {
                address.partition("/")[0]: spec["name"]
                for spec in self.target.endpoints_of({network["name"]}).values()
                for address in spec.get("addresses", ())
            }
            leases.update((address.partition("/")[0], "the host") for address in network.get("host_addresses", ()))
            pools = self._pools[network["name"]] = []
            for row in network["subnets"]:
                subnet = ipaddress.ip_network(row["subnet"])
                taken = {ip: holder for ip, holder in leases.items() if ipaddress.ip_address(ip) in subnet}
                pools.append(ipam.Pool(row["subnet"], row["ip_range"], self.reserved(network, row), taken))
        return pools

    def host(self, network: Spec) -> List[str]:
        """The host's own addresses in a network with ``host_access``: as given, else as before, else the lowest free.

        They have full prefix length, so that no route but ours leads into the network.
        """
        given = network["host_access"] if isinstance(network["host_access"], list) else []
        before = self.target.before("network", network["name"]) or {}
        kept = [] if given else [ip for ip in before.get("host_addresses", ()) if self._may_stay(network, ip)]
        network["host_addresses"] = kept
        pools = self.pools(network)
        for version in (4, 6):
            if any((":" in address) == (version == 6) for address in kept):
                continue
            for pool, row in zip(pools, network["subnets"]):
                ip = next((ip for ip in given if ipaddress.ip_address(ip) in ipaddress.ip_network(row["subnet"])), None)
                ip = ip or (pool.free() if not given else None)
                if _version(row) == version and ip is not None:
                    self._claim_for_host(network, pool, ip)
                    break
        return list(network["host_addresses"])

    def _may_stay(self, network: Spec, address: str) -> bool:
        row = subnet_of(network, address)
        return row is not None and address.partition("/")[0] not in self.reserved(network, row)

    def _claim_for_host(self, network: Spec, pool: ipam.Pool, ip: str) -> None:
        try:
            pool.claim(ip, "the host")
        except ipam.AddressError as error:
            self.target.refuse(self.target.path("network", network["name"], "host_access"), str(error), "give another address, or true")
        network["host_addresses"].append(f"{ip}/{128 if ':' in ip else 32}")

    # -- endpoints --------------------------------------------------------------------------------

    def assign(self, keys: Iterable[str]) -> None:
        """Addresses and MACs for endpoints: kept where they may stay, then static ones, then the lowest free."""
        keys = list(keys)
        endpoints = self.target.items["endpoint"]
        networks = self.target.items["network"]
        for key in keys:
            before = self.target.before("endpoint", key) or self._adopted(key)
            endpoints[key]["addresses"] = list(before.get("addresses", ()))
            endpoints[key]["mac"] = self._mac(key, networks[endpoints[key]["network"]])
        for key in keys:
            self._drop_changed(endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._claim(key, endpoints[key], networks[endpoints[key]["network"]])
        for key in keys:
            self._take(key, endpoints[key], networks[endpoints[key]["network"]])
            endpoints[key]["addresses"].sort(key=lambda address: ":" in address)

    def _adopted(self, key: str) -> Spec:
        """What an endpoint without a record has in its workload already, since before the registry was lost."""
        endpoint = self.target.items["endpoint"][key]
        space = self.target.world.namespace(endpoint["workload"])
        parent = self.target.parent(self.target.items["network"][endpoint["network"]])
        for where, link in self.target.world.children.get(parent.link.index, ()) if parent and parent.link else ():
            recorded = self.target.is_recorded(link_key(where.workload, link.name))
            if where is not space or link.group != LINK_GROUP or recorded or endpoint["interface"] not in (None, link.name):
                continue
            if not self.target.declared.adopt:
                self.target.refuse(self.target.path("endpoint", key, "name"),
                                   f"{link.name} in {endpoint['workload']} bears our mark and stands in no record",
                                   "the registry was lost: set adopt: true to take it back, or remove it")  # fmt: skip
                break
            endpoint["interface"] = link.name
            return {"addresses": [a.address for a in space.addresses.get(link.index, ()) if a.scope == 0]}
        return {}

    def _mac(self, key: str, network: Spec) -> Optional[str]:
        endpoint = self.target.items["endpoint"][key]
        if network["driver"] == "macvlan":
            if network["mode"] != "passthru":
                return endpoint["mac_address"] or ipam.mac_for(self.target.seed, endpoint["network"], endpoint["name"])
            if endpoint["mac_address"]:
                self.target.refuse(self.target.path("endpoint", key, "mac_address"), "a passthru endpoint has the MAC of its parent",
                                   "leave it out, or use another mode")  # fmt: skip
            return None
        if endpoint["mac_address"]:
            self.target.refuse(self.target.path("endpoint", key, "mac_address"), "ipvlan endpoints have the MAC of their parent",
                               "leave it out, or use a macvlan network")  # fmt: skip
        return None

    def _drop_changed(self, endpoint: Spec, network: Spec) -> None:
        """Release what an endpoint held and is not to keep, before anybody claims anything."""
        kept = []
        for address in endpoint["addresses"]:
            ip, version = address.partition("/")[0], 6 if ":" in address else 4
            row = subnet_of(network, address)
            static = endpoint[f"ipv{version}_address"]
            elsewhere = endpoint["subnet"] and _version({"subnet": endpoint["subnet"]}) == version
            held = ip in self.target.world.held.get(network["name"], {})
            if row and not held and (static or ip) == ip and not (elsewhere and endpoint["subnet"] != row["subnet"]):
                kept.append(address)
                continue
            for pool, subnet in zip(self.pools(network), network["subnets"]):
                if subnet is row:
                    pool.release(ip)
        endpoint["addresses"] = kept

    def _claim(self, key: str, endpoint: Spec, network: Spec) -> None:
        for version in (4, 6):
            option = f"ipv{version}_address"
            static = endpoint[option]
            if static is None or any(address.partition("/")[0] == static for address in endpoint["addresses"]):
                continue
            path = self.target.path("endpoint", key, option)
            for pool, row in zip(self.pools(network), network["subnets"]):
                subnet = ipaddress.ip_network(row["subnet"])
                if ipaddress.ip_address(static) in subnet:
                    try:
                        pool.claim(static, endpoint["name"])
                    except ipam.AddressError as error:
                        self.target.refuse(path, str(error), "give another address, or leave it to us")
                    endpoint["addresses"].append(f"{static}/{subnet.prefixlen}")
                    break
            else:
                there = ", ".join(row["subnet"] for row in network["subnets"]) or "none"
                self.target.refuse(path, f"{static} is in no subnet of {network['name']}", f"its subnets are {there}")

    def _take(self, key: str, endpoint: Spec, network: Spec) -> None:
        for version in (4, 6):
            if any((":" in address) == (version == 6) for address in endpoint["addresses"]):
                continue
            rows = [
                (pool, row)
                for pool, row in zip(self.pools(network), network["subnets"])
                if _version(row) == version and self._is_chosen(endpoint, row, version)
            ]
            for pool, row in rows:
                ip = pool.free()
                if ip is not None:
                    pool.claim(ip, endpoint["name"])
                    endpoint["addresses"].append(f"{ip}/{row['subnet'].partition('/')[2]}")
                    break
            else:
                if rows:
                    self.target.refuse(self.target.path("endpoint", key, f"ipv{version}_address"),
                                       f"no address is free in {', '.join(row['subnet'] for _pool, row in rows)} of {network['name']}",
                                       "remove an endpoint, widen ip_range or add a subnet")  # fmt: skip
        if endpoint["subnet"] and endpoint["subnet"] not in [row["subnet"] for row in network["subnets"]]:
            self.target.refuse(self.target.path("endpoint", key, "subnet"), f"{endpoint['subnet']} is no subnet of {network['name']}",
                               "give one of its subnets, or leave it out")  # fmt: skip

    def next_best(self, endpoint: Spec, address: str) -> List[str]:
        """What an endpoint may get instead of an address, in order; nothing where it was asked for by name."""
        network = self.target.items["network"][endpoint["network"]]
        return [] if endpoint[f"ipv{6 if ':' in address else 4}_address"] else self._spare(network, address)

    def next_best_for_host(self, network: Spec, address: str) -> List[str]:
        """What the host may get instead of an address of its own in a network."""
        return [] if isinstance(network["host_access"], list) else self._spare(network, address)

    def _spare(self, network: Spec, address: str) -> List[str]:
        row = subnet_of(network, address)
        pool = next(pool for pool, other in zip(self.pools(network), network["subnets"]) if other is row)
        return list(itertools.islice(pool.candidates(), SPARE))

    @staticmethod
    def _is_chosen(endpoint: Spec, row: Spec, version: int) -> bool:
        chosen = endpoint["subnet"]
        return not chosen or _version({"subnet": chosen}) != version or chosen == row["subnet"]

    def way_out(self, endpoint: Spec, version: int) -> Optional[Tuple[Optional[str]]]:
        """The next hop that an endpoint's default route would have, (None,) for its device alone; None for no way."""
        network = self.target.items["network"][endpoint["network"]]
        for address in endpoint["addresses"]:
            row = subnet_of(network, address)
            if row is None or _version(row) != version or network["internal"]:
                continue
            if model.is_l3(network):
                return (None,)
            if row["gateway"]:
                return (row["gateway"],)
        return None


def subnet_of(network: Spec, address: str) -> Optional[Spec]:
    """The row of the subnet that an address belongs to."""
    ip = ipaddress.ip_interface(address).ip
    for row in network["subnets"]:
        if ip in ipaddress.ip_network(row["subnet"]):
            found: Spec = row
            return found
    return None


def _version(row: Spec) -> int:
    return 6 if ":" in row["subnet"] else 4
