# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not stand beside what: the rules between items, and between items and the host.

The kernel enforces some of these late and without a text, and breaks others silently (another mode on an
ipvlan parent switches every ipvlan there, in every namespace); so all are judged before anything is touched.
"""

from __future__ import annotations

import ipaddress
from typing import Dict, Iterator, List, Optional, Tuple, Union

from . import ipam, model, routing
from .drivers import DRIVERS
from .target import Target
from .world import LINK_GROUP, Link, Namespace, Spec, link_key


def check(target: Target) -> None:
    """Note every broken rule of the items in scope as a problem of the target, and every risk as a warning."""
    for key, item in target.scope["network"].items():
        if item.spec is None:
            _network_unused(target, key)
            continue
        network = target.items["network"][key]
        _changeable(target, network)
        parent = target.parent(network)
        if parent is None:
            continue
        if network["mode"] == "passthru":
            _taken_whole(target, network, parent.name, parent.link)
        others = [name for name in target.sharers[parent.identity] if name != key]
        if others:
            _neighbours(target, network, [target.items["network"][name] for name in others])
        if parent.link is not None:
            _foreigners(target, network, parent.link)
            _addresses(target, network, parent.link)
            _size(target, network, parent.link)
        elif model.is_l3(network) and network["parent"] and not _declared_addresses(target, network):
            _no_underlay(target, network)
    _one_in_passthru(target)
    routing.check(target)
    if not target.world.ipv6:
        _without_ipv6(target)
    if target.world.lacking:
        _without_drivers(target)
    for key, item in target.scope["endpoint"].items():
        _not_elsewhere(target, key)
        if item.spec is None:
            _workload_seen(target, key)
        if item.released:
            _workload_gone(target, key)
    for key, item in target.scope["vlan"].items():
        _way_in_stays(target, key)
        if item.spec is None:
            _vlan_unused(target, key)
        else:
            _vlan_changeable(target, key)
            for position, address in enumerate(target.items["vlan"][key].get("addresses", ())):
                if address not in (target.before("vlan", key) or {}).get("addresses", ()):
                    routing.not_the_path(target, target.path("vlan", key, f"addresses[{position}]"), address)


def _without_ipv6(target: Target) -> None:
    """On a kernel without IPv6, whatever asks for it is refused by name."""
    for kind, items in target.scope.items():
        for key, item in items.items():
            for option, value in _of_ipv6(kind, target.items[kind][key]) if item.spec is not None else ():
                target.refuse(target.path(kind, key, option), f"{value} is IPv6, and the kernel of this host runs without it",
                              "leave it out, or boot the host without ipv6.disable=1")  # fmt: skip


def _of_ipv6(kind: str, spec: Spec) -> Iterator[Tuple[str, str]]:
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
        if spec["accept_ra"]:
            yield "accept_ra", "a router advertisement"
        yield from (("sysctls", name) for name in spec["sysctls"] if name.startswith("ipv6."))


def _without_drivers(target: Target) -> None:
    """A kind of link that the kernel cannot make is refused before anything else is made."""
    for kind, items in target.scope.items():
        for key, item in items.items():
            for option, link in _makes(target, kind, key) if item.spec is not None else ():
                if link in target.world.lacking:
                    target.refuse(target.path(kind, key, option), f"the kernel of this host has no driver {DRIVERS[link]}",
                                  "install the package with the other modules of this kernel (the role prepare names it), or boot one that has it")  # fmt: skip


def _makes(target: Target, kind: str, key: str) -> Iterator[Tuple[str, str]]:
    """The options of an item that ask for a link, each with the kind of link."""
    if kind == "vlan":
        yield "vlan_id", "vlan"
    elif kind == "network":
        network = target.items[kind][key]
        yield "driver", network["driver"]
        parent = target.parent(network)
        if parent is None or parent.link is None:
            yield "parent", "vlan" if network["parent"] else "dummy"
    elif kind == "endpoint":
        joined = target.items["endpoint"][key]["network"]
        if joined not in target.scope["network"] and joined in target.items["network"]:
            yield "network", target.items["network"][joined]["driver"]


def _names(specs: List[Spec]) -> str:
    names = sorted(spec["name"] for spec in specs)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _network_unused(target: Target, key: str) -> None:
    endpoints = target.endpoints_of({key})
    if endpoints:
        target.refuse(target.path("network", key, "state"), f"network {key} has the endpoints {_names(list(endpoints.values()))}",
                      "make those absent first")  # fmt: skip


def _one_in_passthru(target: Target) -> None:
    """The endpoint of a passthru network is its parent, so there is one."""
    members: Dict[str, List[str]] = {name: [] for name, network in target.items["network"].items() if network["mode"] == "passthru"}
    for key, endpoint in target.items["endpoint"].items() if members else ():
        if endpoint["network"] in members:
            members[endpoint["network"]].append(key)
    for name, keys in members.items():
        declared = [key for key in keys if key in target.scope["endpoint"]]
        if len(keys) > 1 and declared:
            first = next(key for key in keys if key != declared[-1])
            target.refuse(target.path("endpoint", declared[-1], "network"), f"{name} is passthru, and {first} has it already",
                          "a passthru network has one endpoint: use another network, or one with mode: bridge")  # fmt: skip
        elif len(keys) > 1 and name in target.scope["network"]:
            endpoints = [target.items["endpoint"][key] for key in keys]
            target.refuse(target.path("network", name, "mode"), f"{name} has the endpoints {_names(endpoints)}, and passthru has room for one",
                          "make the others absent first")  # fmt: skip


def _way_in_stays(target: Target, key: str) -> None:
    """The address by which the host is being managed is not taken away."""
    spec = target.scope["vlan"][key].spec
    kept = (spec or {}).get("addresses", ())
    for address in (target.before("vlan", key) or {}).get("addresses", ()):
        if address not in kept and address.partition("/")[0] in target.world.managed_at:
            target.refuse(target.path("vlan", key, "state" if spec is None else "addresses"),
                          f"this host is being managed by {address} of {key}", "come by another of its addresses to remove that one")  # fmt: skip


def _not_elsewhere(target: Target, key: str) -> None:
    """Nobody can attach, remove or release what lives on under a name that was not given."""
    before, found = target.before("endpoint", key), target.strayed(key)
    spec = target.items["endpoint"].get(key)
    if before is None or found is None or (spec and spec["workload"] in target.followed):
        return
    space, link = found
    option = "name" if spec is None else "container" if before["workload"].startswith(("docker:", "podman:")) else before["workload"].partition(":")[0]
    target.refuse(target.path("endpoint", key, option),
                  f"{key} lives on as {link.name} in {space.workload or 'the host'}, while {before['workload']} is gone or another",
                  "if it was renamed, attach it by its new name first, else remove that link by hand")  # fmt: skip


def _workload_seen(target: Target, key: str) -> None:
    """Of a container whose engine does not answer nobody knows whether it lives."""
    before = target.before("endpoint", key)
    refusal = target.world.refusals.get(before["workload"]) if before else None
    if before and refusal and before["workload"] not in target.world.gone:
        target.refuse(target.path("endpoint", key, "name"), f"{key} is in {before['workload']}, and {refusal}", "see to that first")


def _workload_gone(target: Target, key: str) -> None:
    """A lease is dropped only when nobody lives on it any more."""
    before = target.before("endpoint", key)
    if before and target.world.link(before["workload"], before["interface"]):
        target.refuse(target.path("endpoint", key, "state"), f"{key} lives, as {before['interface']} in {before['workload']}",
                      "use state: absent to remove it")  # fmt: skip


def _vlan_unused(target: Target, key: str) -> None:
    before = target.before("vlan", key)
    if before is None and (link := target.world.host.names.get(key)) is not None and not target.declared.adopt:
        target.refuse(target.path("vlan", key, "name"), f"{link.name} exists and was not made by us",
                      "remove it by hand, or set adopt: true to have it removed")  # fmt: skip
    users = [network for network in target.items["network"].values() if before and _hangs_on(target, network, key)]
    if users:
        target.refuse(target.path("vlan", key, "state"), f"{key} is the parent of {_names(users)}", "make those networks absent first")


def _hangs_on(target: Target, network: Spec, key: str) -> bool:
    """Whether a sub-interface carries a network, itself or through others of ours."""
    name, parent = model.link_names(key)[0], target.parent(network)
    while parent is not None and parent.name != name:
        parent = target.resolve(parent.base) if parent.base else None
    return parent is not None


def _vlan_changeable(target: Target, key: str) -> None:
    before, vlan = target.before("vlan", key), target.items["vlan"][key]
    for option in ("vlan_id", "protocol", "parent"):
        if before and before[option] != vlan[option]:
            target.refuse(target.path("vlan", key, option), f"{key} has {option} {before[option]}, and no kernel changes that in place",
                          "make it absent first, or give another name")  # fmt: skip


def _changeable(target: Target, network: Spec) -> None:
    """What the kernel cannot change under living endpoints needs ``recreate``."""
    before = target.before("network", network["name"])
    if before is None:
        return
    fixed = [option for option in ("driver", "parent") if before[option] != network[option]]
    if before["mode"] != network["mode"] and "passthru" in (before["mode"], network["mode"]):
        fixed.append("mode")
    endpoints = target.endpoints_of({network["name"]})
    if fixed and endpoints and not network.get("recreate"):
        option = fixed[0]
        target.refuse(target.path("network", network["name"], option),
                      f"is {before[option]} and cannot become {network[option]} under the endpoints {_names(list(endpoints.values()))}",
                      "set recreate: true (they keep names, addresses and MACs), or make them absent first")  # fmt: skip


def _neighbours(target: Target, network: Spec, others: List[Spec]) -> None:
    """The networks that have the same parent."""
    name, parent = network["name"], network["parent"]
    for other in others:
        if other["driver"] != network["driver"]:
            target.refuse(target.path("network", name, "driver"), f"{parent} carries {other['name']} ({other['driver']})",
                          "macvlan and ipvlan cannot share a parent: use another parent or the same driver")  # fmt: skip
        elif "passthru" in (network["mode"], other["mode"]):
            target.refuse(target.path("network", name, "mode"), f"{parent} carries {other['name']}, and passthru shares with nobody",
                          "use another parent, or mode: bridge for both")  # fmt: skip
        elif not (network["share_parent"] and other["share_parent"]):
            target.refuse(target.path("network", name, "parent"), f"{parent} is the parent of {other['name']} already",
                          "use another parent (a VLAN each), or set share_parent: true on both")  # fmt: skip
        elif network["driver"] == "ipvlan" and (network["mode"], network["flag"]) != (other["mode"], other["flag"]):
            target.refuse(target.path("network", name, "mode"),
                          f"{other['name']} on {parent} is {other['mode']} {other['flag']}, and a parent has one mode and flag for all",
                          "give the same mode and flag, or another parent")  # fmt: skip
    rows: List[Tuple[Tuple[str, str], str]] = [
        ((spec["name"], row["subnet"]), row["subnet"]) for spec in (network, *others) for row in spec["subnets"]
    ]
    for first, second in ipam.overlaps(rows):
        mine, theirs = (first, second) if first[0] == name else (second, first)
        if mine[0] == name and theirs[0] != name:
            target.refuse(target.path("network", name, "subnets"), f"{mine[1]} overlaps {theirs[1]} of {theirs[0]} on the same {parent}",
                          "a broadcast domain has each subnet once: use another VLAN, or other subnets")  # fmt: skip


def _foreigners(target: Target, network: Spec, link: Link) -> None:
    """Links of others on the parent, in whatever namespace, and masters that keep it for themselves."""
    name, driver = network["name"], network["driver"]
    path = target.path("network", name, "parent")
    master = target.world.host.links.get(link.master)
    if master is not None and master.kind in ("bridge", "bond", "team"):
        target.refuse(path, f"{link.name} belongs to {master.kind} {master.name}, which takes all its frames",
                      f"give parent: {master.name}, or a VLAN of it")  # fmt: skip
    if master is not None and master.kind == "vrf" and network["mode"] == "l3s":
        target.refuse(target.path("network", name, "mode"),
                      f"{link.name} is in VRF {master.name}, where endpoints of mode l3s get nothing", "use mode: l3")  # fmt: skip
    for space, child in target.world.children.get(link.index, ()):
        if child.kind not in ("macvlan", "macvtap", "ipvlan", "ipvtap") or _is_ours(target, space, child):
            continue
        where = f"{child.name} in {space.workload or 'the host'}"
        if not child.kind.startswith(driver[:6]):
            target.refuse(path, f"{link.name} carries {where} ({child.kind}), which is not ours",
                          "macvlan and ipvlan cannot share a parent: use another one")  # fmt: skip
        elif driver == "ipvlan" and (child.data["mode"], child.data["flag"]) != (network["mode"], network["flag"]):
            target.refuse(target.path("network", name, "mode"),
                          f"{where} is {child.data['mode']} {child.data['flag']}, and the kernel would switch it to "
                          f"{network['mode']} {network['flag']}",
                          "give its mode and flag, or another parent")  # fmt: skip
        elif "passthru" in (network["mode"], child.data.get("mode")):
            target.refuse(target.path("network", name, "mode"), f"{link.name} carries {where}, and passthru shares with nobody",
                          "use another parent")  # fmt: skip


def _is_ours(target: Target, space: Namespace, child: Link) -> bool:
    """Ours by record, or by its mark where it may be adopted."""
    return target.is_ours(child, link_key(space.workload, child.name)) or (target.declared.adopt and child.group == LINK_GROUP)


def _taken_whole(target: Target, network: Spec, parent: str, link: Optional[Link]) -> None:
    """A parent in passthru is its endpoint: what comes for the host's own addresses there never arrives."""
    own = [*map(str, _own(target, link) if link else ()), *_declared_addresses(target, network)]
    if own:
        target.refuse(target.path("network", network["name"], "mode"),
                      f"{parent} has the address {own[0]}, and passthru takes all that comes for it from the host",
                      "use a VLAN of it, or another mode")  # fmt: skip


def _own(target: Target, link: Link) -> List[Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]]:
    """The host's addresses on a link, but for those that every link has by itself."""
    own = [ipaddress.ip_interface(a.address) for a in target.world.host.addresses.get(link.index, ())]
    return [address for address in own if not address.ip.is_link_local]


def _addresses(target: Target, network: Spec, link: Link) -> None:
    """L2 networks belong to the parent's subnet, L3 networks to any other."""
    own = _own(target, link)
    if not own:
        if model.is_l3(network) and network["parent"] and not _declared_addresses(target, network):
            _no_underlay(target, network)
        return
    subnets = [ipaddress.ip_network(row["subnet"]) for row in network["subnets"] if row["subnet"]]
    name = network["name"]
    if model.is_l3(network):
        for position, subnet in enumerate(subnets):
            for address in own:
                if subnet.version == address.version and subnet.overlaps(address.network):
                    target.refuse(target.path("network", name, f"subnets[{position}].subnet"),
                                  f"{subnet} overlaps {address} of {link.name}",
                                  "an L3 network needs a subnet of its own, which others reach by a route")  # fmt: skip
    elif subnets and not any(address.ip in subnet for address in own for subnet in subnets if subnet.version == address.version):
        target.warnings.append(
            f"{target.path('network', name, 'subnets')}: no subnet holds {own[0]} of {link.name}; "
            "in L2 modes the endpoints are on the parent's own wire"
        )


def _declared_addresses(target: Target, network: Spec) -> List[str]:
    found: List[str] = target.items["vlan"].get(network["parent"], {}).get("addresses", [])
    return found


def _no_underlay(target: Target, network: Spec) -> None:
    target.warnings.append(
        f"{target.path('network', network['name'], 'parent')}: {network['parent']} has no address of its own, so the host would ask "
        "for its neighbours there with another VLAN's; give it one with vlan_link.addresses"
    )


def _size(target: Target, network: Spec, link: Link) -> None:
    """Endpoints of a network cannot be larger than the parent (the sub-interface that we make follows the network)."""
    limit = link
    if link.kind == "vlan" and target.is_recorded(link.name):
        limit = target.world.host.links.get(link.parent, link)
    if network["mtu"] and network["mtu"] > limit.mtu:
        target.refuse(target.path("network", network["name"], "mtu"), f"{network['mtu']} is more than the {limit.mtu} of {limit.name}",
                      f"give {limit.mtu} at most, or raise {limit.name}")  # fmt: skip
