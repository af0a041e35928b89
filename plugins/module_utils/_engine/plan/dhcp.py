# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of DHCP servers: which endpoints want one, what contradicts that, and what goes with a lease.

The client of ``dhcp`` asks for them, and a plan knows them only as observed.
"""

from __future__ import annotations

from typing import Iterable, Iterator, List, Mapping

from ..core.change import HOST, Change, address_key, link_key, route_key
from ..core.endpoint_specs import DHCP, EndpointSpec, is_tap
from ..core.formats import version_of
from ..core.network_specs import NetworkSpec
from ..core.route_specs import RTPROT_DHCP
from ..core.specs import Generic, Spec
from .desired import DesiredState
from .order import Step
from .wanted import DesiredObject, Key

#: The options that a DHCP server hears.
_HEARD = ("dhcp_client_id", "dhcp_hostname")


def decide(endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Write down whether an endpoint wants a lease: by its own option, else as its network has it."""
    given = endpoint["ipv4_address"]
    by_network = given is None and network["addressing"] == DHCP and not is_tap(endpoint) and not endpoint["vlans"]
    endpoint["dhcp"] = given == DHCP or by_network


def check(desired: DesiredState, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Refuse what contradicts a lease, and say what does not reach its address: no plan knows it."""
    if not endpoint["dhcp"]:
        _unheard(desired, key, endpoint)
        return
    name, option = network["name"], "ipv4_address" if endpoint["ipv4_address"] == DHCP else "network"
    if network["driver"] == "ipvlan":
        what = f"{name} is ipvlan, whose endpoints have one MAC, by which a DHCP server gives them one address"
        desired.refuse("endpoint", key, option, what, "leave it out, or use a macvlan network")
    elif network["internal"]:
        what = f"{name} is internal, so no DHCP server is in it"
        desired.refuse("endpoint", key, option, what, "leave it out, or give the network a parent")
    elif network["spoof_check"]:
        what = f"{name} has spoof_check, which lets no address through that a DHCP server gave"
        desired.refuse("endpoint", key, option, what, f"leave it out, or set spoof_check: false on {name}")
    if desired.observed.unleased and key in desired.scope["endpoint"]:
        fix = "set dhcp: true of vlan_service (role prepare)"
        desired.refuse("endpoint", key, option, desired.observed.unleased, fix)
    if network["host_access"]:
        what = "the host has no route to the address of a lease, so it does not reach it"
        desired.warn("endpoint", key, option, what)
    _beside(desired, key, endpoint, network)


def _beside(desired: DesiredState, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Refuse the other options of an endpoint that contradict a lease."""
    routing = endpoint["source_routing"]
    if network["source_routing"] if routing is None else routing:
        what = "routes by addresses that are known, and a DHCP server gives others"
        desired.refuse("endpoint", key, "source_routing", what, "set source_routing: false")
    what = "with DHCP the server says which address the endpoint gets"
    if endpoint["subnet"] and version_of(endpoint["subnet"]) == 4:
        desired.refuse("endpoint", key, "subnet", what, "leave it out")
    if endpoint["ipv4_addresses"]:
        desired.refuse("endpoint", key, "ipv4_addresses", what, "leave it out")
    if endpoint["default_route"]["ipv4"] == "always":
        what = "with DHCP the server names the way out too, and always would ignore it"
        desired.refuse("endpoint", key, "default_route.ipv4", what, "give auto or never")


def _unheard(desired: DesiredState, key: str, endpoint: EndpointSpec) -> None:
    given: Generic = endpoint
    for option in _HEARD:
        if not given[option]:
            continue
        if key in desired.scope["endpoint"]:
            what = "has no effect without ipv4_address: dhcp"
            desired.refuse("endpoint", key, option, what, "set that too, or leave it out")
        else:
            desired.warn("endpoint", key, option, "has no effect, for its network has addressing: pool now")


def what_ends(desired: DesiredState, wanted: Mapping[Key, DesiredObject]) -> Iterator[Step]:
    """The addresses and routes of leases on links that stay and no longer want one; no record has them."""
    for key, endpoint in desired.items["endpoint"].items():
        before = desired.before("endpoint", key)
        if not (before and before["dhcp"]) or endpoint["dhcp"] or before["workload"] != endpoint["workload"]:
            continue
        workload, name = before["workload"], str(before["interface"])
        namespace, link = desired.observed.namespace(workload), desired.observed.link(workload, name)
        if namespace is None or link is None or not desired.is_ours(link, link_key(workload, name)):
            continue
        reason = f"{key} no longer wants a lease"
        for route in namespace.routes:
            if route.protocol == RTPROT_DHCP and route.oif == link.index:
                spec = desired.observed.route_spec(namespace, route)
                yield Step("route", route_key(spec), spec, None, "", reason)
        for address in namespace.addresses.get(link.index, ()):
            if address.is_leased:
                spec = {"netns": workload, "link": name, "address": address.address, "protocol": RTPROT_DHCP}
                where: Key = ("address", address_key(spec))
                yield Step(*where, spec, None, "", reason)
                if where in wanted:  # for good now, without a lifetime
                    yield Step(*where, None, wanted[where].spec, wanted[where].of, wanted[where].reason)


def ends(changes: Iterable[Change]) -> List[str]:
    """The endpoints whose lease goes by changes: with its link, or because another one is wanted, or none."""
    found = {}
    for change in changes:
        before, after = change.before, change.after
        kind, _colon, key = change.of.partition(":")
        if kind != "endpoint" or before is None:
            continue
        if (change.kind == "link" and after is None and before.get("netns") != HOST) or (
            change.kind == "endpoint" and after is not None and _asks_otherwise(before, after)
        ):
            found[key] = True
    return list(found)


def _asks_otherwise(before: Spec, after: Spec) -> bool:
    return any(before.get(option) != after.get(option) for option in ("dhcp", "dhcp_client_id"))


def begins(
    changes: Iterable[Change], wanted: Mapping[Key, DesiredObject], endpoints: Mapping[str, EndpointSpec]
) -> List[str]:
    """The endpoints that a plan makes ask for a lease: their link is new, or they asked for none, or by another name."""
    found = {}
    for change in changes:
        kind, _colon, key = change.of.partition(":")
        endpoint = endpoints.get(key) if kind == "endpoint" else None
        if endpoint is None or not endpoint["dhcp"]:
            continue
        if ("link", link_key(endpoint["workload"], endpoint["interface"] or "")) not in wanted:
            continue
        new = change.before is None and change.kind in ("link", "endpoint")
        if new or (change.kind == "endpoint" and _asks_otherwise(change.before or {}, change.after or {})):
            found[key] = True
    return list(found)
