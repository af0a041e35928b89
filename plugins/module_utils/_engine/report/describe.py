# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes objects for results and for people, from their specs and the kernel's state.

A value that only the kernel knows is None if the object does not exist yet, as in check mode.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from ..core import identity, rates
from ..core.change import HOST, LINK_GROUPS, Change, Record, Records, items_of, of_kind
from ..core.endpoint_specs import EndpointSpec, heeds_routers, interfaces, is_dhcp, is_tap, node_path
from ..core.lease_specs import Lease, lease_key
from ..core.link_specs import VlanSpec
from ..core.network_specs import NetworkSpec
from ..core.route_specs import MAIN_TABLE, RTPROT_RA, RoutesSpec
from ..core.specs import Generic, Items
from ..core.state import HostState, Link, Need, need_of_records
from ..declare.declaration import Declaration
from ..declare.naming import link_names
from ..kernel.observe import observe
from ..plan import compare, host_links
from ..plan.desired import ITEM_KINDS, desired_state, dummy_name
from ..plan.pages import expected
from ..plan.pools import Pools, subnet_of
from ..store import leases
from ..store.registry import Registry, Transaction

Networks = Mapping[str, NetworkSpec]
#: What results say of an object: JSON, which Ansible, the command and the report page go through by its keys.
Described = Dict[str, Any]


def vlan(key: str, spec: VlanSpec, observed: HostState) -> Described:
    """A declared sub-interface."""
    name, altnames = link_names(key)
    link = observed.host.names.get(name)
    return {
        "name": key,
        "interface": name,
        "altnames": altnames,
        "parent": spec["parent"],
        "vlan_id": spec["vlan_id"],
        "protocol": spec["protocol"],
        "mtu": link.mtu if link else spec.get("mtu"),
        "mac": link.mac if link else None,
        "addresses": list(spec.get("addresses") or ()),
        "owner": spec["owner"],
    }


def network(key: str, spec: NetworkSpec, observed: HostState) -> Described:
    """A network; ``interface`` and ``addresses`` are the host's own with ``host_access``."""
    return {
        "name": key,
        "driver": spec["driver"],
        "mode": spec["mode"],
        "flag": spec["flag"],
        "parent": _parent(spec, observed),
        "internal": spec["internal"],
        "mtu": spec["mtu"],
        "subnets": [
            {option: row[option] for option in ("subnet", "gateway", "ip_range", "aux_addresses")}
            for row in spec["subnets"]
        ],
        "interface": host_links.access_name(spec) if spec["host_access"] else None,
        "addresses": list(spec["host_addresses"]),
        "labels": spec["labels"],
        "owner": spec["owner"],
    }


def _parent(spec: NetworkSpec, observed: HostState) -> str:
    """The kernel's name of a network's parent."""
    name = spec["parent"] or dummy_name(spec)
    link = observed.host.names.get(name)
    return link.name if link else link_names(name)[0]


def endpoint(spec: EndpointSpec, networks: Networks, observed: HostState) -> Described:
    """An endpoint, with the next hop of each family that it was given by its network, or by a router."""
    of = networks[spec["network"]]
    links = (observed.link(spec["workload"], name) for name in interfaces(spec))
    link = next(filter(None, links), None)
    gateways: Dict[str, Optional[str]] = {"ipv4": None, "ipv6": None}
    for address in reversed(spec["addresses"]):  # those of the first addresses count
        row = subnet_of(of, address)
        gateways["ipv6" if ":" in address else "ipv4"] = row["gateway"] if row else None
    key = f"{spec['network']}/{spec['name']}"
    leases = {it: observed.leases.get(lease_key(key, it)) for it in (4, 6) if is_dhcp(spec, it)}
    lease = leases.get(4)
    if lease is not None:
        gateways["ipv4"] = next(iter(lease["routers"]), None)
    learnt = _learnt(spec, link, gateways, observed) if heeds_routers(spec) and not spec["vlans"] else {}
    return {
        "network": spec["network"],
        "name": spec["name"],
        "workload": spec["workload"],
        "interface": spec["interface"],
        "addresses": list(spec["addresses"]),
        **learnt,
        **{_LEASES[version]: _lease(found) for version, found in leases.items()},
        "allowed_addresses": list(spec["allowed_addresses"]),
        "routing_table": spec["routing_table"],
        "mac": link.mac if link else spec["mac"],
        **({"vlans": spec["vlans"], "interfaces": interfaces(spec)} if spec["vlans"] else {}),
        **({"device": node_path(spec)} if is_tap(spec) else {}),
        **_bandwidth(spec),
        "gateway": gateways,
        "parent": _parent(of, observed),
        "owner": spec["owner"],
    }


#: By IP version: what a lease is called.
_LEASES = {4: "lease", 6: "lease_ipv6"}


def _learnt(
    spec: EndpointSpec, link: Optional[Link], gateways: Dict[str, Optional[str]], observed: HostState
) -> Described:
    """The addresses that the kernel made of router advertisements. Updates ``gateways`` by the router of the default route."""
    namespace = observed.namespace(spec["workload"])
    if link is None or namespace is None:
        return {"slaac_addresses": []}
    for route in namespace.routes:
        place = (route.prefix, route.table, route.protocol, route.oif)
        if place == ("::/0", MAIN_TABLE, RTPROT_RA, link.index):
            gateways["ipv6"] = route.via
            break
    made = (address.address for address in namespace.addresses.get(link.index, ()) if address.is_slaac)
    return {"slaac_addresses": sorted(made)}


def _lease(lease: Optional[Lease]) -> Optional[Described]:
    """What a DHCP server gave, the times in UTC; None while there is nothing."""
    if lease is None:
        return None
    return {
        "address": lease["address"],
        "server": lease["server"],
        "routers": lease["routers"],
        "dns": lease["dns"],
        "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lease["expires"])),
    }


def _bandwidth(spec: Generic) -> Described:
    """The rates, in bits per second, and the bursts, in bytes, that an endpoint was given."""
    options = (f"{direction}_{what}" for direction in rates.DIRECTIONS for what in ("rate", "burst"))
    return {option: spec[option] for option in options if spec[option] is not None}


def routes(key: str, spec: RoutesSpec) -> Described:
    """A set of routes."""
    return {"name": key, "network": spec["network"], "routes": spec["routes"], "owner": spec["owner"]}


def moving(changes: Iterable[Change]) -> Dict[str, Dict[str, Dict[str, str]]]:
    """The addresses of endpoints that a plan gives up and takes: ``leaving`` and ``arriving``, network -> address -> endpoint."""
    found: Dict[str, Dict[str, Dict[str, str]]] = {"leaving": {}, "arriving": {}}
    for change in changes:
        if change.kind != "endpoint":
            continue
        network, _slash, name = change.key.partition("/")
        before = set((change.before or {}).get("addresses", ()))
        after = set((change.after or {}).get("addresses", ()))
        for side, addresses in (("leaving", before - after), ("arriving", after - before)):
            for address in sorted(addresses):
                found[side].setdefault(network, {})[address.partition("/")[0]] = name
    return found


# --- the whole host ------------------------------------------------------------------------------

SUBSETS = ("links", "networks", "endpoints", "routes", "drift", "adoptable", "transactions")


def host(state_dir: str, subsets: Iterable[str], names: Iterable[str] = ()) -> Described:
    """Everything that is ours on this host; only ``names``, if given.

    Raises what the registry and the observation raise. Nothing is changed, and no lock is taken.
    """
    registry = Registry(state_dir)
    records = expected(registry.load(), leases.current(state_dir))
    observed = observe(_everything(records, registry.directory))
    planned = _Survey(registry, records, observed, set(names))
    return {subset: _TELL[subset](planned) for subset in SUBSETS if subset in set(subsets)}


class _Survey:
    """The data that :func:`host` answers from."""

    def __init__(self, registry: Registry, records: Records, observed: HostState, names: set[str]) -> None:
        self.registry = registry
        self.records = records
        self.observed = observed
        self.names = names
        self.desired = desired_state(Declaration("info"), records, observed, registry.seed())
        self.pools = Pools(self.desired)

    @cached_property
    def items(self) -> Items:
        """The recorded items that were asked for."""
        kinds = {
            kind: {
                key: record for key, record in sorted(self.records.get(kind, {}).items()) if self._is_asked(key, record)
            }
            for kind in ITEM_KINDS
        }
        return items_of(kinds)

    def keys(self, kind: str) -> Iterable[str]:
        return of_kind(self.items, kind)

    def _is_asked(self, key: str, record: Record) -> bool:
        names = {key, record.spec.get("network"), record.spec.get("name")}
        return not self.names or bool(names & self.names)


def _everything(records: Records, state_dir: str) -> Need:
    workloads = dict.fromkeys(record.spec["workload"] for record in records.get("endpoint", {}).values())
    readers = (workload for workload in workloads if not workload.startswith("pid:"))
    return need_of_records(records, state_dir, workloads, readers)


def _networks(planned: _Survey) -> List[Described]:
    members: Dict[str, List[str]] = {}
    for record in planned.records.get("endpoint", {}).values():
        members.setdefault(record.spec["network"], []).append(record.spec["name"])
    return [
        {
            **network(key, spec, planned.observed),
            **_wire(planned, spec),
            "endpoints": sorted(members.get(key, ())),
            "pools": _pools(planned, spec),
        }
        for key, spec in planned.items["network"].items()
    ]


def _wire(planned: _Survey, spec: NetworkSpec) -> Described:
    """The NIC or bond under a network's parent and the VLAN on it; None where the network ends on this host, or has no tag."""
    parent = planned.desired.parent(spec) if spec["parent"] else None
    if parent is None:
        return {"trunk": spec["parent"], "vlan_id": None}
    links, link = planned.observed.host.links, parent.link
    while link is not None and link.kind == "vlan" and link.parent in links:
        link = links[link.parent]
    return {"trunk": link.name if link else parent.base or parent.name, "vlan_id": parent.vlan_id or None}


def _pools(planned: _Survey, spec: NetworkSpec) -> List[Described]:
    """How much of each subnet's pool is taken; in a /64 or larger the free ones are not counted."""
    found = []
    for pool, row in zip(planned.pools.of(spec), spec["subnets"]):
        found.append({"pool": row["ip_range"] or row["subnet"], "used": pool.used, "free": pool.available})
    return found


def _endpoints(planned: _Survey) -> List[Described]:
    """The endpoints, with whether each is alive; the lease of one that is not is kept for its name."""
    networks = items_of(planned.records)["network"]
    return [
        {
            **endpoint(spec, networks, planned.observed),
            "alive": any(planned.observed.link(spec["workload"], name) for name in interfaces(spec)),
        }
        for spec in planned.items["endpoint"].values()
    ]


def _drift(planned: _Survey) -> List[Described]:
    """Where the kernel differs from what was made, as the changes that would repair it."""
    items = {f"{kind}:{key}" for kind in ITEM_KINDS for key in planned.keys(kind)}
    return [
        drifted(change)
        for change in compare.by_object(compare.drift(planned.records, planned.observed))
        if not planned.names or change.of in items
    ]


def drifted(change: Change) -> Described:
    """An object that differs from its record, with the change that would repair it."""
    return {
        "object": f"{change.kind} {change.key}",
        "of": change.of,
        "verb": change.verb,
        "before": change.before,
        "after": change.after,
    }


def _adoptable(planned: _Survey) -> List[Described]:
    """Links that have our mark and are in no registry: what a run with ``adopt`` can take back.

    In another namespace only what sits on a link of this host: anything else there is that of an engine of its own.
    """
    each = (planned.observed.host, *planned.observed.namespaces.values(), *planned.observed.others)
    namespaces = {namespace.identity: namespace for namespace in reversed(each)}  # one with several names once
    return [
        {"namespace": namespace.workload or "the host", "interface": link.name, "kind": link.kind}
        for namespace in reversed(namespaces.values())
        for link in namespace.links.values()
        if link.group in LINK_GROUPS
        and (namespace is planned.observed.host or link.parent_ns == HOST)
        and not identity.is_recorded(planned.observed, planned.records, namespace, link)
    ]


def _transactions(planned: _Survey) -> List[Transaction]:
    """The last transactions; those that changed the items that were asked for, where some were."""
    found = planned.registry.transactions()
    if not planned.names:
        return found
    items = {(kind, key) for kind in ITEM_KINDS for key in planned.keys(kind)}
    return [it for it in found if any((change.kind, change.key) in items for change in it.changes)]


def transaction(found: Transaction) -> Described:
    """A transaction, without its changes."""
    return {"number": found.number, "state": found.state, "time": found.time, "who": found.who, "owner": found.owner}


_TELL: Dict[str, Callable[[_Survey], List[Described]]] = {
    "links": lambda planned: [vlan(key, spec, planned.observed) for key, spec in planned.items["vlan"].items()],
    "networks": _networks,
    "endpoints": _endpoints,
    "routes": lambda planned: [routes(key, spec) for key, spec in planned.items["routes"].items()],
    "drift": _drift,
    "adoptable": _adoptable,
    "transactions": lambda planned: [transaction(found) for found in _transactions(planned)],
}
