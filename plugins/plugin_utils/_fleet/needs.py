# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What the hosts of a fleet and their endpoints need of the ledger, and what they may not ask for."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Set, Tuple, cast

from ...module_utils._engine.core.endpoint_specs import EndpointSpec, given_addresses, is_learnt, static_address
from ...module_utils._engine.core.errors import Problem
from ...module_utils._engine.core.formats import version_of
from ...module_utils._engine.core.network_specs import NetworkSpec, SubnetSpec, has_pool
from ...module_utils._engine.core.specs import is_l3
from ...module_utils._engine.declare import ipam, model
from .ledger import inside
from .packed import MapRow
from .scope import is_for


class Host(NamedTuple):
    """What the inventory says of a host."""

    groups: Sequence[str]
    endpoints: Sequence[Any]  # rows of vlan_endpoint, as they stand there


class Want(NamedTuple):
    """A slice or an address that a host or an endpoint needs."""

    network: str
    holder: str  # a host, or host/endpoint
    version: int
    subnets: Tuple[str, ...]  # those that it may come from
    is_slice: bool = False

    @property
    def who(self) -> Tuple[bool, str, str]:
        return self.is_slice, self.network, self.holder

    @property
    def text(self) -> str:
        whose = f"host {self.holder}" if self.is_slice else f"endpoint {self.holder}"
        kind = "slice of " + ", ".join(self.subnets) if self.is_slice else f"IPv{self.version} address"
        return f"{whose} has no {kind} in network {self.network}"


class Fleet:
    """The map, the hosts and their endpoints. ``whole``: all rows are there, so an endpoint's network has to be among them."""

    def __init__(self, rows: Iterable[MapRow], hosts: Mapping[str, Host], whole: bool = True) -> None:
        self.rows = {str(row["network"]["name"]): row for row in rows}
        self.hosts = hosts
        self.problems: List[Problem] = []
        self.slices: List[Want] = []
        self.addresses: List[Want] = []
        self.static: Dict[str, Dict[str, str]] = {}  # network -> address -> who asked for it by name
        self.allowed: Dict[str, Dict[str, List[Tuple[str, str]]]] = {}  # network -> address -> endpoints and options
        self.nameservers: Dict[str, Set[str]] = {}  # network -> whom its endpoints ask for names of their own
        self._specs: Dict[str, NetworkSpec] = {}
        self._whole = whole
        sliced = [(name, row) for name, row in self.rows.items() if row.get("per_host")]
        for host in sorted(hosts):
            groups = set(hosts[host].groups)
            for name, row in sliced:
                if is_for(row, host, groups):
                    for subnet in self.spec(name)["subnets"]:
                        version = version_of(subnet["subnet"])
                        self.slices.append(Want(name, host, version, (subnet["subnet"],), True))
            self._endpoints(host, groups)
        self._allowed_are_free()

    def spec(self, network: str) -> NetworkSpec:
        """A network as the model completes it."""
        if network not in self._specs:
            declared = model.declare("network", self.rows[network]["network"], "present", False)
            self._specs[network] = next(
                cast(NetworkSpec, item.spec) for item in declared.items if item.spec is not None
            )
        return self._specs[network]

    def reserved(self, network: str, subnet: SubnetSpec) -> Dict[str, str]:
        """The addresses of a subnet that no endpoint may have, each with the reason."""
        allowed = self.allowed.get(network, {})
        found = {
            address: "an allowed address of " + ", ".join(holder for holder, _option in of)
            for address, of in allowed.items()
            if inside(address, subnet["subnet"])
        }
        asked = {*self.spec(network)["dns"], *self.nameservers.get(network, ())} - {*self.static.get(network, ())}
        found.update((ip, "a nameserver of endpoints") for ip in asked if inside(ip, subnet["subnet"]))
        return {**found, **self._reserved(network, subnet)}

    def _reserved(self, network: str, subnet: SubnetSpec) -> Dict[str, str]:
        found = {str(address): f"reserved as {name}" for name, address in subnet["aux_addresses"].items()}
        first = ipam.first_usable(subnet["subnet"]) if is_l3(self.spec(network)) else None
        for address in (subnet["gateway"], first):
            if address and inside(address, subnet["subnet"]):
                found[address] = "the gateway"
        return found

    def _endpoints(self, host: str, groups: Iterable[str]) -> None:
        declared = model.declare_map({"name": "endpoints", "endpoints": list(self.hosts[host].endpoints)})
        for problem in declared.problems:
            self.problems.append(Problem(f"{host}: {_path(problem.path)}", problem.message, problem.fix))
        for item in declared.items:
            if item.spec is None:
                continue
            spec = cast(EndpointSpec, item.spec)
            path = f"{host}: {_path(item.path)}"
            if self._has_network(spec["network"], host, groups, f"{path}.network"):
                self._endpoint(spec, host, path)

    def _has_network(self, name: str, host: str, groups: Iterable[str], path: str) -> bool:
        """Whether the map has a network for a host; where it does not, that is a problem of the endpoint that is to be in it."""
        if name in self.rows and is_for(self.rows[name], host, set(groups)):
            return True
        if name in self.rows:
            fix = "widen site, group or hosts of its row in the map"
            self.problems.append(Problem(path, f"network {name} is not for {host}", fix))
        elif self._whole:
            fix = "correct the name, or add the row"
            self.problems.append(Problem(path, f"no row of the map is network {name}", fix))
        return False

    def _endpoint(self, spec: EndpointSpec, host: str, path: str) -> None:
        """The addresses that an endpoint needs, asks for and allows."""
        name, holder = spec["network"], f"{host}/{spec['name']}"
        for version in (4, 6):
            pooled = has_pool(self.spec(name), version)
            if pooled and not (static_address(spec, version) or is_learnt(spec, version) or spec["vlans"]):
                self._wanted(name, holder, version, spec)
        self.nameservers.setdefault(name, set()).update(spec["dns"] or ())
        for option, address in given_addresses(spec):
            self._given(name, holder, f"{path}.{option}", address)
        for position, address in enumerate(spec["allowed_addresses"]):
            option = f"{path}.allowed_addresses[{position}]"
            self.allowed.setdefault(name, {}).setdefault(address, []).append((holder, option))

    def _wanted(self, name: str, holder: str, version: int, spec: EndpointSpec) -> None:
        """An address that the ledger gives."""
        there = self._of_version(name, version)
        subnets = [row["subnet"] for row in there if spec["subnet"] in (None, row["subnet"])]
        subnets = subnets or [row["subnet"] for row in there]
        if subnets:
            self.addresses.append(Want(name, holder, version, tuple(subnets)))

    def _of_version(self, name: str, version: int) -> List[SubnetSpec]:
        return [row for row in self.spec(name)["subnets"] if version_of(row["subnet"]) == version]

    def _given(self, name: str, holder: str, option: str, static: str) -> None:
        """An address that an endpoint asks for by name."""
        version = version_of(static)
        there = self._of_version(name, version)
        other = self.static.setdefault(name, {}).setdefault(static, holder)
        if other != holder:
            self.problems.append(
                Problem(
                    option,
                    f"{static} is also requested by {other}",
                    "give another address, or let the ledger assign one",
                )
            )
        home = next((row for row in there if inside(static, row["subnet"])), None)
        if home is None:
            subnets_of = ", ".join(row["subnet"] for row in there) or f"no IPv{version} subnet"
            self.problems.append(
                Problem(
                    option,
                    f"{static} is in no subnet of network {name}, which has {subnets_of}",
                    "give an address of one of them",
                )
            )
            return
        kept = self._reserved(name, home).get(static)
        message = f"{static} is {kept}" if kept else ipam.usable_error(home["subnet"], static)
        if message:
            self.problems.append(Problem(option, message, "give another address, or let the ledger assign one"))

    def _allowed_are_free(self) -> None:
        """Whether no endpoint asks for an address that workloads may take by themselves."""
        for name, addresses in self.allowed.items():
            for address, of in addresses.items():
                holder = self.static.get(name, {}).get(address)
                for _endpoint, option in of if holder else ():
                    what = f"{address} is also requested by {holder}"
                    self.problems.append(Problem(option, what, "give another address, or leave it out"))


def _path(path: str) -> str:
    return path.replace("endpoints[", "netops_endpoints[", 1)
