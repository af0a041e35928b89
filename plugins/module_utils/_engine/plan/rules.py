# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules between items, and between items and the host.

The kernel enforces some of these late and without a text, and breaks others silently (another mode on an
ipvlan parent switches every ipvlan there, in every namespace); so all are judged before anything is touched.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Tuple, Union

from ..core import rates
from ..core.change import DRIVERS
from ..core.endpoint_specs import DHCP, SLAAC, EndpointSpec, interfaces
from ..core.network_specs import NetworkSpec
from ..core.specs import Generic
from ..declare.naming import link_names
from . import network_rules, parent_rules, route_rules
from .desired import DesiredState, Parent


def check(desired: DesiredState) -> None:
    """Record every broken rule of the items in scope as a problem, and every risk as a warning."""
    network_rules.check(desired)
    _namespace_once(desired)
    route_rules.check(desired)
    if not desired.observed.ipv6:
        _without_ipv6(desired)
    if desired.observed.lacking or desired.observed.outdated:
        _without_drivers(desired)
    for key, item in desired.scope["endpoint"].items():
        _not_elsewhere(desired, key)
        if item.released:
            _workload_gone(desired, key)
    _workloads_seen(desired)
    for key, item in desired.scope["vlan"].items():
        _way_in_stays(desired, key)
        if item.spec is None:
            _vlan_unused(desired, key)
        else:
            _vlan(desired, key)


def _vlan(desired: DesiredState, key: str) -> None:
    _vlan_changeable(desired, key)
    _vlan_carries(desired, key)
    parent_rules.of_vlan(desired, key)
    for position, address in enumerate(desired.items["vlan"][key].get("addresses") or ()):
        if address not in ((desired.before("vlan", key) or {}).get("addresses") or ()):
            route_rules.not_the_path(desired, desired.path("vlan", key, f"addresses[{position}]"), address)


def _without_ipv6(desired: DesiredState) -> None:
    """Refuse items that need IPv6 on a kernel without it."""
    for kind, items in desired.scope.items():
        for key, item in items.items():
            for option, value in _of_ipv6(kind, desired.of_kind(kind)[key]) if item.spec is not None else ():
                desired.refuse(
                    kind,
                    key,
                    option,
                    f"{value} is IPv6, and this host runs without IPv6",
                    "leave it out, or boot the host without ipv6.disable=1",
                )


def _of_ipv6(kind: str, spec: Generic) -> Iterator[Tuple[str, str]]:
    """The options of an item that ask for IPv6, each with what it asks for."""
    lists = {"vlan": "addresses", "network": "subnets", "routes": "routes", "endpoint": "routes"}
    for position, row in enumerate(spec.get(lists[kind]) or ()):
        part = {"network": "subnet", "vlan": ""}.get(kind, "prefix")
        value = row[part] if part else row
        if ":" in str(value):
            yield f"{lists[kind]}[{position}]" + (f".{part}" if part else ""), str(value)
    if kind == "network" and spec["enable_ipv6"] and not any(":" in str(row["subnet"]) for row in spec["subnets"]):
        yield "enable_ipv6", "true"
    if kind == "endpoint":
        for option in ("ipv6_address", "subnet"):
            if ":" in str(spec[option]):
                yield option, spec[option]
        for option in ("ipv6_addresses", "allowed_addresses"):
            yield from ((f"{option}[{at}]", ip) for at, ip in enumerate(spec[option]) if ":" in ip)
        if spec["ipv6_address"] in (SLAAC, DHCP):
            yield "ipv6_address", str(spec["ipv6_address"]).upper()
        if spec["accept_ra"]:
            yield "accept_ra", "a router advertisement"
        yield from (("sysctls", name) for name in spec["sysctls"] if name.startswith("ipv6."))


def _without_drivers(desired: DesiredState) -> None:
    """Refuse kinds of links that the kernel cannot create."""
    for kind, items in desired.scope.items():
        for key, item in items.items():
            for option, link in _makes(desired, kind, key) if item.spec is not None else ():
                if link in desired.observed.outdated:
                    what = desired.observed.outdated[link]
                    desired.refuse(kind, key, option, what, "boot a newer kernel")
                elif link in desired.observed.lacking:
                    desired.refuse(
                        kind,
                        key,
                        option,
                        f"the kernel of this host has no driver {DRIVERS.get(link, link)}",
                        "install the package with the other modules of this kernel (the role prepare names it), or boot one that has it",
                    )


def _makes(desired: DesiredState, kind: str, key: str) -> Iterator[Tuple[str, str]]:
    """The options of an item that ask for a driver, each with the kind of link or the module."""
    if kind == "vlan":
        yield "vlan_id", "vlan"
    elif kind == "network":
        network = desired.items["network"][key]
        yield "driver", network["driver"]
        parent = desired.parent(network)
        if parent is None or parent.link is None:
            yield "parent", "vlan" if network["parent"] else "dummy"
    elif kind == "endpoint":
        joined = desired.items["endpoint"][key]["network"]
        if joined not in desired.scope["network"] and joined in desired.items["network"]:
            yield "network", desired.items["network"][joined]["driver"]
        spec: Generic = desired.items["endpoint"][key]
        if spec["vlans"]:
            yield "vlans", "vlan"
        for direction, modules in rates.MODULES.items():
            yield from ((f"{direction}_rate", module) for module in modules if spec[f"{direction}_rate"])


def _way_in_stays(desired: DesiredState, key: str) -> None:
    """Refuse to remove the address through which the host is managed."""
    spec = desired.scope["vlan"][key].spec
    kept = (spec or {}).get("addresses") or ()
    for address in (desired.before("vlan", key) or {}).get("addresses") or ():
        if address not in kept and address.partition("/")[0] in desired.observed.managed_at:
            desired.refuse(
                "vlan",
                key,
                "state" if spec is None else "addresses",
                f"this host is managed through {address} of {key}",
                "connect through another of its addresses to remove it",
            )


def _namespace_once(desired: DesiredState) -> None:
    """Refuse a second endpoint of a network in one namespace, whatever that is called."""
    first: Dict[Tuple[str, Union[str, Tuple[int, int]]], str] = {}
    endpoints = desired.items["endpoint"]
    for key in sorted(endpoints, key=lambda key: (desired.before("endpoint", key) is None, key)):
        workload = endpoints[key]["workload"]
        space = desired.observed.space(workload) or workload  # a namespace that this run creates has a name only
        other = first.setdefault((endpoints[key]["network"], space), key)
        there = endpoints[other]["workload"]
        if other != key and key in desired.scope["endpoint"]:
            desired.refuse(
                "endpoint",
                key,
                "network",
                f"{workload} is already in this network, as {other}"
                if there == workload
                else f"{workload} and {there} are one network namespace, which has {other} already",
                "a namespace can join a network only once: remove that endpoint first, or join another network",
            )


def _not_elsewhere(desired: DesiredState, key: str) -> None:
    """What lives on under another name cannot be attached, removed or released."""
    before, found = desired.before("endpoint", key), desired.moved_link(key)
    spec = desired.items["endpoint"].get(key)
    if before is None or found is None or (spec and spec["workload"] in desired.moved_workloads):
        return
    is_container = before["workload"].startswith(("docker:", "podman:"))
    if is_container and desired.observed.is_silent(before["workload"]):
        return  # it is where it was, only its engine does not say so
    if not desired.is_renamed(key):
        return  # its owner began anew, and it follows: see ``plan``
    namespace, link = found
    option = "name" if spec is None else "container" if is_container else before["workload"].partition(":")[0]
    desired.refuse(
        "endpoint",
        key,
        option,
        f"{key} lives on as {link.name} in {namespace.workload or 'the host'}, while {before['workload']} is gone or was replaced",
        "if it was renamed, attach it by its new name first, otherwise remove that link by hand",
    )


def _workloads_seen(desired: DesiredState) -> None:
    """Where not all namespaces are seen, a container may live whose engine does not answer: one problem for each engine."""
    if desired.observed.searched:
        return
    unseen: Dict[str, List[str]] = {}
    for key, item in desired.scope["endpoint"].items():
        before = desired.before("endpoint", key)
        if before is None or (item.spec and item.spec["workload"] == before["workload"]):
            continue
        if desired.observed.is_silent(workload := before["workload"]):
            unseen.setdefault(desired.observed.refusals[workload], []).append(f"{key} ({workload})")
    for refusal, endpoints in unseen.items():
        first, names = endpoints[0].partition(" ")[0], _some(endpoints)
        desired.refuse(
            "endpoint",
            first,
            "name",
            f"{refusal}, so whether {names} can be removed is unknown",
            "start or repair the container engine, then run again: a container that it no longer has is released",
        )


def _some(names: List[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _workload_gone(desired: DesiredState, key: str) -> None:
    """A lease is dropped only when its workload is gone."""
    before = desired.before("endpoint", key)
    if before is None:
        return
    names = interfaces(before)
    interface = next((name for name in names if desired.observed.link(before["workload"], name)), "")
    where = before["workload"] if interface else ""
    interface = interface or names[0]
    if desired.observed.is_silent(before["workload"]) and (found := desired.moved_link(key)):
        where = found[0].workload
    if where:
        desired.refuse(
            "endpoint",
            key,
            "state",
            f"{key} lives, as {interface} in {where}",
            "use state: absent to remove it",
        )


def _vlan_unused(desired: DesiredState, key: str) -> None:
    before = desired.before("vlan", key)
    if before is None and (link := desired.observed.host.names.get(key)) is not None and not desired.declared.adopt:
        desired.refuse(
            "vlan",
            key,
            "name",
            f"{link.name} exists and was not created by us",
            "remove it by hand, or set adopt: true to have it removed",
        )
    networks, endpoints = desired.items["network"].values(), desired.items["endpoint"].values()
    users = [network for network in networks if before and _hangs_on(desired, desired.parent(network), key)]
    trunks = [endpoint for endpoint in endpoints if endpoint["vlans"] and before]
    trunks = [one for one in trunks if any(_hangs_on(desired, parent, key) for parent in desired.carriers(one))]
    if users:
        desired.refuse(
            "vlan",
            key,
            "state",
            f"{key} is the parent of {network_rules.names(users)}",
            "make those networks absent first",
        )
    elif trunks:
        what = f"{key} carries the endpoints {network_rules.names(trunks)}"
        desired.refuse("vlan", key, "state", what, "take the VLAN out of their vlans first")


def _hangs_on(desired: DesiredState, parent: Optional[Parent], key: str) -> bool:
    """Whether a sub-interface carries a parent, itself or through others of ours."""
    name = link_names(key)[0]
    while parent is not None and parent.name != name:
        parent = desired.resolve(parent.base) if parent.base else None
    return parent is not None


def _vlan_carries(desired: DesiredState, key: str) -> None:
    """Refuse an MTU of a sub-interface below that of the links on it, which the kernel would lower too."""
    mtu, before = desired.items["vlan"][key].get("mtu"), desired.before("vlan", key)
    if mtu is None or before is None or mtu == before.get("mtu"):
        return
    networks = {name: spec for name, spec in desired.items["network"].items() if spec["parent"] == key}
    endpoints = [one for one in desired.items["endpoint"].values() if _is_on(desired, one, key)]
    users: List[Union[NetworkSpec, EndpointSpec]] = [*networks.values(), *endpoints]
    larger = [spec for spec in users if (spec["mtu"] or 0) > mtu]
    if larger:
        desired.refuse(
            "vlan",
            key,
            "mtu",
            f"{mtu} is less than the {larger[0]['mtu']} of {network_rules.names(larger)}",
            "lower that first, or in the same map",
        )


def _is_on(desired: DesiredState, endpoint: EndpointSpec, key: str) -> bool:
    """Whether an endpoint has a link on a declared sub-interface."""
    network = desired.items["network"].get(endpoint["network"])
    if network is None or not endpoint["vlans"]:
        return network is not None and network["parent"] == key
    return any(parent.name == link_names(key)[0] for parent in desired.carriers(endpoint))


def _vlan_changeable(desired: DesiredState, key: str) -> None:
    before, vlan = desired.before("vlan", key), desired.items["vlan"][key]
    for option in ("vlan_id", "protocol", "parent"):
        if before and before[option] != vlan[option]:
            desired.refuse(
                "vlan",
                key,
                option,
                f"{key} has {option} {before[option]}, which the kernel cannot change in place",
                "make it absent first, or give another name",
            )
