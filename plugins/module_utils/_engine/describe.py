# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and playbooks want to know of an object next, from its spec and from what the kernel has.

A value that only the kernel can tell is None where the object is not there yet, as in check mode.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from . import derive, model
from . import plan as planning
from .addressing import Addressing, subnet_of
from .model import Declaration
from .observe import observe
from .registry import Registry, Transaction
from .target import Target, dummy_name
from .world import LINK_GROUP, Need, Records, Spec, World, link_key

Networks = Mapping[str, Spec]


def vlan(key: str, spec: Spec, world: World) -> Spec:
    """A declared sub-interface."""
    name, altnames = model.link_names(key)
    link = world.host.names.get(name)
    return {
        "name": key,
        "interface": name,
        "altnames": altnames,
        "parent": spec["parent"],
        "vlan_id": spec["vlan_id"],
        "protocol": spec["protocol"],
        "mtu": link.mtu if link else spec.get("mtu"),
        "mac": link.mac if link else None,
        "addresses": list(spec.get("addresses", ())),
        "owner": spec["owner"],
    }


def network(key: str, spec: Spec, world: World) -> Spec:
    """A network; ``interface`` and ``addresses`` are the host's own with ``host_access``."""
    return {
        "name": key,
        "driver": spec["driver"],
        "mode": spec["mode"],
        "flag": spec["flag"],
        "parent": _parent(spec, world),
        "internal": spec["internal"],
        "mtu": spec["mtu"],
        "subnets": [{option: row[option] for option in ("subnet", "gateway", "ip_range", "aux_addresses")} for row in spec["subnets"]],
        "interface": derive.access_name(spec) if spec["host_access"] else None,
        "addresses": list(spec["host_addresses"]),
        "labels": spec["labels"],
        "owner": spec["owner"],
    }


def _parent(spec: Spec, world: World) -> str:
    """The kernel's name of a network's parent."""
    name = spec["parent"] or dummy_name(spec)
    link = world.host.names.get(name)
    return link.name if link else model.link_names(name)[0]


def endpoint(spec: Spec, networks: Networks, world: World) -> Spec:
    """An endpoint, with the next hop of each family that it was given by its network."""
    of = networks[spec["network"]]
    link = world.link(spec["workload"], spec["interface"])
    gateways: Dict[str, Optional[str]] = {"ipv4": None, "ipv6": None}
    for address in spec["addresses"]:
        row = subnet_of(of, address)
        gateways["ipv6" if ":" in address else "ipv4"] = row["gateway"] if row else None
    return {
        "network": spec["network"],
        "name": spec["name"],
        "workload": spec["workload"],
        "interface": spec["interface"],
        "addresses": list(spec["addresses"]),
        "mac": link.mac if link else spec["mac"],
        "gateway": gateways,
        "parent": _parent(of, world),
        "owner": spec["owner"],
    }


def routes(key: str, spec: Spec) -> Spec:
    """A set of routes."""
    return {"name": key, "network": spec["network"], "routes": spec["routes"], "owner": spec["owner"]}


# --- the whole host ------------------------------------------------------------------------------

SUBSETS = ("links", "networks", "endpoints", "routes", "drift", "adoptable", "transactions")


def host(state_dir: str, subsets: Iterable[str], names: Iterable[str] = ()) -> Dict[str, Any]:
    """Everything that is ours on this host, read back; of ``names`` alone where some are given.

    Raises what the registry and the observation raise. Nothing is changed, and nobody is waited for.
    """
    registry = Registry(state_dir)
    records = registry.load()
    world = observe(_everything(records))
    scene = _Host(registry, records, world, set(names))
    return {subset: _TELL[subset](scene) for subset in SUBSETS if subset in set(subsets)}


class _Host:
    """What the answers of :func:`host` are made from."""

    def __init__(self, registry: Registry, records: Records, world: World, names: set[str]) -> None:
        self.registry = registry
        self.records = records
        self.world = world
        self.names = names
        self.target = Target(Declaration("info"), records, world, registry.seed())
        self.addressing = Addressing(self.target)

    def items(self, kind: str) -> Dict[str, Spec]:
        """The recorded items of a kind that were asked for."""
        found = {key: record.spec for key, record in self.records.get(kind, {}).items()}
        return {key: spec for key, spec in sorted(found.items()) if not self.names or {key, spec.get("network"), spec.get("name")} & self.names}


def _everything(records: Records) -> Need:
    workloads = dict.fromkeys(record.spec["workload"] for record in records.get("endpoint", {}).values())
    readers = tuple(workload for workload in workloads if not workload.startswith("pid:"))
    return Need(tuple(workloads), everywhere=True, routes=True, readers=readers)


def _networks(scene: _Host) -> List[Spec]:
    members: Dict[str, List[str]] = {}
    for record in scene.records.get("endpoint", {}).values():
        members.setdefault(record.spec["network"], []).append(record.spec["name"])
    return [
        {**network(key, spec, scene.world), **_wire(scene, spec), "endpoints": sorted(members.get(key, ())), "pools": _pools(scene, spec)}
        for key, spec in scene.items("network").items()
    ]


def _wire(scene: _Host, spec: Spec) -> Spec:
    """The NIC or bond under a network's parent and the VLAN on it; None where the network ends on this host, or has no tag."""
    parent = scene.target.parent(spec) if spec["parent"] else None
    if parent is None:
        return {"trunk": spec["parent"], "vlan_id": None}
    links, link = scene.world.host.links, parent.link
    while link is not None and link.kind == "vlan" and link.parent in links:
        link = links[link.parent]
    return {"trunk": link.name if link else parent.base or parent.name, "vlan_id": parent.vlan_id or None}


def _pools(scene: _Host, spec: Spec) -> List[Spec]:
    """How much of each subnet's pool is taken; in a /64 or larger nobody counts what is free."""
    found = []
    for pool, row in zip(scene.addressing.pools(spec), spec["subnets"]):
        within = ipaddress.ip_network(row["ip_range"] or row["subnet"])
        found.append({"pool": str(within), "used": pool.used, "free": pool.available})
    return found


def _endpoints(scene: _Host) -> List[Spec]:
    """The endpoints, with whether each is alive; the lease of one that is not is kept for its name."""
    networks = {key: record.spec for key, record in scene.records.get("network", {}).items()}
    return [
        {**endpoint(spec, networks, scene.world), "alive": scene.world.link(spec["workload"], spec["interface"]) is not None}
        for spec in scene.items("endpoint").values()
    ]


def _drift(scene: _Host) -> List[Spec]:
    """What the kernel has otherwise than it was made, as the changes that would mend it."""
    changes = planning.drift(scene.records, scene.world)
    return [
        {"object": f"{change.kind} {change.key}", "of": change.of, "verb": change.verb, "before": change.before, "after": change.after}
        for change in changes
        if not scene.names or change.of.partition(":")[2] in scene.names
    ]


def _adoptable(scene: _Host) -> List[Spec]:
    """Links that bear our mark and stand in no record: what a run with ``adopt`` can take back."""
    spaces = (scene.world.host, *scene.world.namespaces.values(), *scene.world.others)
    return [
        {"namespace": space.workload or "the host", "interface": link.name, "kind": link.kind}
        for space in spaces
        for link in space.links.values()
        if link.group == LINK_GROUP and link_key(space.workload, link.name) not in scene.records.get("link", {})
    ]


def _transaction(found: Transaction) -> Spec:
    return {"number": found.number, "state": found.state, "time": found.time, "who": found.who, "owner": found.owner}


_TELL: Dict[str, Callable[[_Host], List[Spec]]] = {
    "links": lambda scene: [vlan(key, spec, scene.world) for key, spec in scene.items("vlan").items()],
    "networks": _networks,
    "endpoints": _endpoints,
    "routes": lambda scene: [routes(key, spec) for key, spec in scene.items("routes").items()],
    "drift": _drift,
    "adoptable": _adoptable,
    "transactions": lambda scene: [_transaction(found) for found in scene.registry.transactions()],
}
