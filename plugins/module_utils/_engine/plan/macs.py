# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The MACs of endpoints: given, made of their names, or that of the parent."""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Optional, Set, Tuple

from ..core.change import LINK_GROUPS
from ..core.network_specs import NetworkSpec
from ..declare import ipam
from .desired import DesiredState, Parent


def mac_of(desired: DesiredState, key: str, network: NetworkSpec) -> Optional[str]:
    """The MAC that an endpoint gets; None where it has that of its parent. Refuses one that it cannot have."""
    endpoint = desired.items["endpoint"][key]
    if network["driver"] == "macvlan":
        if network["mode"] != "passthru":
            return endpoint["mac_address"] or ipam.mac_for(desired.seed, endpoint["network"], endpoint["name"])
        if endpoint["mac_address"]:
            desired.refuse(
                "endpoint",
                key,
                "mac_address",
                "a passthru endpoint has the MAC of its parent",
                "leave it out, or use another mode",
            )
        return None
    if endpoint["mac_address"]:
        desired.refuse(
            "endpoint",
            key,
            "mac_address",
            "ipvlan endpoints have the MAC of their parent",
            "leave it out, or use a macvlan network",
        )
    return None


def refuse_twice(desired: DesiredState, keys: Iterable[str]) -> None:
    """Refuse a MAC that another link on the same parent has: the kernel creates the second and refuses to bring it up."""
    holders: Dict[Tuple[object, str], str] = {}
    endpoints = desired.items["endpoint"]
    for key, endpoint in endpoints.items():
        mac = endpoint.get("mac")
        for parent in desired.carriers(endpoint) if mac else ():
            holders.setdefault((parent.identity, mac or ""), f"endpoint {key}")
    checked: Set[object] = set()
    for key in keys:
        endpoint = endpoints[key]
        parents = desired.carriers(endpoint) if endpoint["mac"] else []
        for parent in parents:
            if parent.identity not in checked:
                checked.add(parent.identity)
                holders.update(((parent.identity, mac), holder) for mac, holder in _foreign(desired, parent))
        held = (holders[parent.identity, endpoint["mac"] or ""] for parent in parents)
        holder = next((holder for holder in held if holder != f"endpoint {key}"), None)
        if holder is not None:
            desired.refuse(
                "endpoint",
                key,
                "mac_address",
                f"{endpoint['mac']} is the MAC of {holder}",
                "give another, or leave mac_address out",
            )


def _foreign(desired: DesiredState, parent: Parent) -> Iterator[Tuple[str, str]]:
    """The MACs on a parent that no endpoint of ours may have: its own, and those of other macvlan links on it."""
    link = parent.link or desired.observed.host.names.get(parent.base or "")
    if link is not None and link.mac:
        yield link.mac, f"its parent, {parent.name}"
    for namespace, child in desired.observed.children.get(parent.link.index, ()) if parent.link else ():
        ours = child.group in LINK_GROUPS or desired.is_recorded_in(namespace, child)
        moved = namespace.workload in desired.moved_workloads
        if child.kind in ("macvlan", "macvtap") and not ours and not moved and child.data.get("mode") != "passthru":
            yield child.mac, f"{child.name} in {namespace.workload or 'the host'}"
