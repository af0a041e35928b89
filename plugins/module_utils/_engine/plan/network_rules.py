# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for networks: what may change under endpoints, who may share a parent, and which addresses a parent may have."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Callable, Dict, Iterable, List, Optional, Tuple, Union

from ..core.change import LINK_GROUPS, PORTS
from ..core.endpoint_specs import EndpointSpec
from ..core.formats import parse_subnet
from ..core.network_specs import NetworkSpec
from ..core.specs import Generic, is_l3
from ..core.state import Link, Namespace
from ..declare import ipam
from . import parent_rules
from .desired import DesiredState, Parent

#: Notes a problem: the option, what is wrong, and the fix.
Refuse = Callable[[str, str, str], None]
#: What spoof_check needs.
FILTERS = "Linux 5.16 or newer with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_EGRESS"


def check(desired: DesiredState) -> None:
    """Record what is wrong with the networks in scope as problems, and every risk as a warning."""
    for key, item in desired.scope["network"].items():
        if item.spec is None:
            _network_unused(desired, key)
        else:
            _network(desired, key)
    _one_in_passthru(desired)


def _network(desired: DesiredState, key: str) -> None:
    network = desired.items["network"][key]
    _changeable(desired, network)
    if network["spoof_check"] and desired.observed.unfiltered:
        what = f"this kernel cannot hold endpoints to their own addresses: {desired.observed.unfiltered}"
        desired.refuse("network", key, "spoof_check", what, f"leave it out, or boot {FILTERS}")
    parent = desired.parent(network)
    if parent is None:
        return
    if network["mode"] == "passthru":
        _taken_whole(desired, network, parent.name, parent.link)
    others = [name for name in desired.sharers[parent.identity] if name != key]
    if others:
        _neighbours(desired, network, parent, [desired.items["network"][name] for name in others])
    parent_rules.of_network(desired, key, parent)
    if parent.link is not None:
        foreigners(desired, network, parent.link, partial(desired.refuse, "network", key))
        _addresses(desired, network, parent.link)
        _size(desired, network, parent.link)
    elif is_l3(network) and network["parent"] and not _declared_addresses(desired, network):
        _no_underlay(desired, network)


def _network_unused(desired: DesiredState, key: str) -> None:
    endpoints = desired.endpoints_of(key)
    if endpoints:
        desired.refuse(
            "network",
            key,
            "state",
            f"network {key} has the endpoints {names(endpoints.values())}",
            "make those absent first",
        )


def _one_in_passthru(desired: DesiredState) -> None:
    """Refuse a second endpoint of a passthru network, which has only one."""
    members: Dict[str, List[str]] = {
        name: [] for name, network in desired.items["network"].items() if network["mode"] == "passthru"
    }
    for key, endpoint in desired.items["endpoint"].items() if members else ():
        if endpoint["network"] in members:
            members[endpoint["network"]].append(key)
    for name, keys in members.items():
        declared = [key for key in keys if key in desired.scope["endpoint"]]
        if len(keys) > 1 and declared:
            first = next(key for key in keys if key != declared[-1])
            desired.refuse(
                "endpoint",
                declared[-1],
                "network",
                f"{name} is passthru, and {first} has it already",
                "a passthru network has one endpoint: use another network, or one with mode: bridge",
            )
        elif len(keys) > 1 and name in desired.scope["network"]:
            endpoints = [desired.items["endpoint"][key] for key in keys]
            desired.refuse(
                "network",
                name,
                "mode",
                f"{name} has the endpoints {names(endpoints)}, and passthru allows only one",
                "make the others absent first",
            )


def _changeable(desired: DesiredState, network: NetworkSpec) -> None:
    """Refuse changes that cannot be made under attached endpoints without ``recreate``."""
    before = desired.before("network", network["name"])
    if before is None:
        return
    was: Generic = before
    now: Generic = network
    fixed = [option for option in ("driver", "parent") if was[option] != now[option]]
    if before["mode"] != network["mode"] and "passthru" in (before["mode"], network["mode"]):
        fixed.append("mode")
    endpoints = desired.endpoints_of(network["name"])
    if fixed and endpoints and not network.get("recreate"):
        option = fixed[0]
        desired.refuse(
            "network",
            network["name"],
            option,
            f"is {was[option]} and cannot become {now[option]} under the endpoints {names(endpoints.values())}",
            "set recreate: true (they keep names, addresses and MACs), or make them absent first",
        )


def _neighbours(desired: DesiredState, network: NetworkSpec, parent: Parent, others: List[NetworkSpec]) -> None:
    """The networks that have the same parent, or trunks on it."""
    name = network["name"]
    for other in others:
        beside(network, other, network["parent"] or parent.name, partial(desired.refuse, "network", name))
    on_it = [other for other in others if (its := desired.parent(other)) and its.identity == parent.identity]
    rows: List[Tuple[Tuple[str, str], str]] = [
        ((spec["name"], row["subnet"]), row["subnet"]) for spec in (network, *on_it) for row in spec["subnets"]
    ]
    for first, second in ipam.overlaps(rows):
        mine, theirs = (first, second) if first[0] == name else (second, first)
        if mine[0] == name and theirs[0] != name:
            desired.refuse(
                "network",
                name,
                "subnets",
                f"{mine[1]} overlaps {theirs[1]} of {theirs[0]} on the same {network['parent']}",
                "a broadcast domain can have each subnet only once: use another VLAN, or other subnets",
            )


def beside(network: NetworkSpec, other: NetworkSpec, parent: str, refuse: Refuse) -> None:
    """Refuse a network, or a trunk in it, on a parent beside another network that cannot share it."""
    if other["driver"] != network["driver"]:
        refuse(
            "driver",
            f"{parent} carries {other['name']} ({other['driver']})",
            "macvlan and ipvlan cannot share a parent: use another, or the same driver and share_parent: true on both",
        )
    elif "passthru" in (network["mode"], other["mode"]):
        refuse(
            "mode",
            f"{parent} carries {other['name']}, and passthru does not share its parent",
            "use another parent, or mode: bridge for both",
        )
    elif not (network["share_parent"] and other["share_parent"]):
        refuse(
            "parent",
            f"{parent} is the parent of {other['name']} already",
            "use another parent (a VLAN each), or set share_parent: true on both",
        )
    elif network["driver"] == "ipvlan" and (network["mode"], network["flag"]) != (other["mode"], other["flag"]):
        refuse(
            "mode",
            f"{other['name']} on {parent} is {other['mode']} {other['flag']}, and a parent has one mode and flag for all",
            "give the same mode and flag, or another parent",
        )


#: Masters that leave the frames of their members to others too; every other one has the receive handler of a member.
_PASSING = ("vrf", "batadv")
#: Kinds that take the receive handler of the link that they are on, which macvlan and ipvlan need.
_TAKING = ("macsec", "rmnet")


def foreigners(desired: DesiredState, network: NetworkSpec, link: Link, refuse: Refuse) -> None:
    """Refuse parents with conflicting foreign links, possibly in another namespace, or with a master."""
    driver = network["driver"]
    master = desired.observed.host.links.get(link.master)
    if master is not None and master.kind not in _PASSING:
        refuse(
            "parent",
            f"{link.name} belongs to {master.kind or 'the link'} {master.name}, which takes all its frames",
            f"give parent: {master.name}, or a VLAN of it",
        )
    if master is not None and master.kind == "vrf" and network["mode"] == "l3s":
        refuse(
            "mode",
            f"{link.name} is in VRF {master.name}, where l3s endpoints receive nothing",
            "use mode: l3",
        )
    if driver == "ipvlan" and desired.observed.unseen:
        _unseen_ones(desired, network, link)
    for namespace, child in desired.observed.children.get(link.index, ()):
        if child.kind in _TAKING:
            refuse(
                "parent",
                f"{link.name} carries {child.name} ({child.kind}), which takes all its frames",
                f"give parent: {child.name}, or another link",
            )
        if child.kind not in PORTS or _is_ours(desired, namespace, child):
            continue
        where = f"{child.name} in {namespace.workload or 'the host'}"
        if PORTS[child.kind] != driver:
            refuse(
                "parent",
                f"{link.name} carries {where} ({child.kind}), which is not ours",
                "macvlan and ipvlan cannot share a parent: use another one",
            )
        elif driver == "ipvlan" and (child.data["mode"], child.data["flag"]) != (network["mode"], network["flag"]):
            refuse(
                "mode",
                f"{where} is {child.data['mode']} {child.data['flag']}, and the kernel would switch it to "
                f"{network['mode']} {network['flag']}",
                "give its mode and flag, or another parent",
            )
        elif "passthru" in (network["mode"], child.data.get("mode")):
            refuse(
                "mode",
                f"{link.name} carries {where}, and passthru does not share its parent",
                "use another parent",
            )


def _unseen_ones(desired: DesiredState, network: NetworkSpec, link: Link) -> None:
    """The mode of an ipvlan switches all others on its parent: none may be where this run cannot look."""
    wanted = (network["mode"], network["flag"])
    there = [child for _namespace, child in desired.observed.children.get(link.index, ())]
    if any(PORTS.get(child.kind) == "ipvlan" and (child.data["mode"], child.data["flag"]) == wanted for child in there):
        return  # all on a parent have one mode and flag, so the unseen have these too
    desired.refuse(
        "network",
        network["name"],
        "mode",
        f"ipvlan links on {link.name} in other namespaces would be switched to {network['mode']} {network['flag']},"
        f" and not all namespaces can be seen: {desired.observed.unseen}",
        "run it on the host itself, as root and in its PID namespace, or give a parent that does not exist yet",
    )


def _is_ours(desired: DesiredState, namespace: Namespace, child: Link) -> bool:
    """Ours by record, or by its mark where it may be adopted."""
    return desired.is_ours_in(namespace, child) or (desired.declared.adopt and child.group in LINK_GROUPS)


def _taken_whole(desired: DesiredState, network: NetworkSpec, parent: str, link: Optional[Link]) -> None:
    """Refuse passthru on a parent with addresses of the host, which would no longer receive anything."""
    own = [*map(str, _own(desired, link) if link else ()), *_declared_addresses(desired, network)]
    if own:
        desired.refuse(
            "network",
            network["name"],
            "mode",
            f"{parent} has the address {own[0]}, and passthru takes all its traffic away from the host",
            "use a VLAN of it, or another mode",
        )


def _own(desired: DesiredState, link: Link) -> List[Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]]:
    """The host's addresses on a link, except link-local ones."""
    own = [ipaddress.ip_interface(a.address) for a in desired.observed.host.addresses.get(link.index, ())]
    return [address for address in own if not address.ip.is_link_local]


def _addresses(desired: DesiredState, network: NetworkSpec, link: Link) -> None:
    """Check subnets against the parent's: L2 networks share them, L3 networks must not."""
    own = _own(desired, link)
    if not own:
        if is_l3(network) and network["parent"] and not _declared_addresses(desired, network):
            _no_underlay(desired, network)
        return
    subnets = [parse_subnet(row["subnet"]) for row in network["subnets"] if row["subnet"]]
    name = network["name"]
    if is_l3(network):
        for position, subnet in enumerate(subnets):
            for address in own:
                if subnet.version == address.version and subnet.overlaps(address.network):
                    desired.refuse(
                        "network",
                        name,
                        f"subnets[{position}].subnet",
                        f"{subnet} overlaps {address} of {link.name}",
                        "an L3 network needs its own subnet, which others reach by routes",
                    )
    elif subnets and not any(
        address.ip in subnet for address in own for subnet in subnets if subnet.version == address.version
    ):
        desired.warn(
            "network",
            name,
            "subnets",
            f"no subnet holds {own[0]} of {link.name}; in L2 modes endpoints share the parent's segment",
        )


def _declared_addresses(desired: DesiredState, network: NetworkSpec) -> List[str]:
    vlan = desired.declared_vlan(network["parent"])
    return (vlan and vlan.get("addresses")) or []


def _no_underlay(desired: DesiredState, network: NetworkSpec) -> None:
    desired.warn(
        "network",
        network["name"],
        "parent",
        f"{network['parent']} has no address of its own, so the host would ask "
        "for its neighbours there with another VLAN's; give it one with vlan_link.addresses",
    )


def _size(desired: DesiredState, network: NetworkSpec, link: Link) -> None:
    """Refuse an MTU above that of the parent (a sub-interface of ours follows the network)."""
    limit, name = link.mtu, link.name
    if link.kind == "vlan" and desired.is_recorded(desired.observed.called(link)):
        base = desired.observed.host.links.get(link.parent, link)
        limit, name = base.mtu, base.name
        vlan = desired.declared_vlan(network["parent"])
        declared = vlan.get("mtu") if vlan else None
        if vlan and declared is not None and declared < limit:
            limit, name = declared, network["parent"] or name
    if network["mtu"] and network["mtu"] > limit:
        desired.refuse(
            "network",
            network["name"],
            "mtu",
            f"{network['mtu']} is more than the {limit} of {name}",
            f"give {limit} at most, or raise {name}",
        )


def names(specs: Iterable[Union[NetworkSpec, EndpointSpec]]) -> str:
    """Some items for a message: the first five names, and how many more."""
    names = sorted(spec["name"] for spec in specs)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
