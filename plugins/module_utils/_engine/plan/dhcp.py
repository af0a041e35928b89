# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of DHCP servers: which endpoints want one, what contradicts that, and what goes with a lease.

The client of ``dhcp`` asks for them, and a plan knows them only as observed.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Mapping, cast

from ..core.change import HOST, Change, address_key, link_key, route_key
from ..core.endpoint_specs import DHCP, EndpointSpec, duid, is_dhcp, is_tap, wants_lease
from ..core.formats import version_of
from ..core.lease_specs import lease_key
from ..core.network_specs import NetworkSpec, has_pool, has_version
from ..core.route_specs import RTPROT_DHCP
from ..core.specs import Generic, Spec, is_l3
from .desired import DesiredState
from .order import Step
from .wanted import DesiredObject, Key

#: The options that a DHCP server hears.
_HEARD = ("dhcp_client_id", "dhcp_hostname")


def decide(endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Write down which leases an endpoint wants: by its own options, else as its network has it."""
    by_network = network["addressing"] == DHCP and not is_tap(endpoint) and not endpoint["vlans"]
    four, six = (by_network and has_version(network, version) and not has_pool(network, version) for version in (4, 6))
    endpoint["dhcp"] = endpoint["ipv4_address"] == DHCP or (four and endpoint["ipv4_address"] is None)
    endpoint["dhcp6"] = endpoint["ipv6_address"] == DHCP or (six and endpoint["ipv6_address"] is None)


def check(desired: DesiredState, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Refuse what contradicts a lease, and say what does not reach its address: no plan knows it."""
    if not wants_lease(endpoint):
        _unheard(desired, key, endpoint)
        return
    for version in (4, 6):
        if is_dhcp(endpoint, version):
            _possible(desired, key, endpoint, network, version)
            _beside(desired, key, endpoint, version)
    _routed_by_source(desired, key, endpoint, network)
    if not endpoint["dhcp"] and endpoint["dhcp_client_id"] and duid(endpoint) is None:
        what = "has no DUID, by which DHCPv6 servers know their clients"
        fix = "write it as ff:00:00:00:01:00:03:00:01:02:00:51:aa:bb:cc (RFC 4361), or leave it out"
        desired.refuse("endpoint", key, "dhcp_client_id", what, fix)


def _possible(desired: DesiredState, key: str, endpoint: EndpointSpec, network: NetworkSpec, version: int) -> None:
    """Refuse what no server can be asked from."""
    given = endpoint["ipv6_address"] if version == 6 else endpoint["ipv4_address"]
    name, option = network["name"], f"ipv{version}_address" if given == DHCP else "network"
    if version == 6 and is_l3(network):
        what = f"{name} is an L3 network, where no DHCP server hears an endpoint"
        desired.refuse("endpoint", key, option, what, "leave it out, or use an L2 mode")
    elif version == 4 and network["driver"] == "ipvlan":
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


def _beside(desired: DesiredState, key: str, endpoint: EndpointSpec, version: int) -> None:
    """Refuse the other options of an endpoint that contradict a lease; to one of IPv6 belong the routes of routers."""
    given: Generic = endpoint
    addresses = f"ipv{version}_addresses"
    what = "with DHCP the server says which address the endpoint gets"
    if endpoint["subnet"] and version_of(endpoint["subnet"]) == version:
        desired.refuse("endpoint", key, "subnet", what, "leave it out")
    if given[addresses]:
        desired.refuse("endpoint", key, addresses, what, "leave it out")
    if given["default_route"][f"ipv{version}"] == "always":
        names = "the server names the way out too" if version == 4 else "a router advertises the way out"
        what = f"with DHCP {names}, and always would ignore it"
        desired.refuse("endpoint", key, f"default_route.ipv{version}", what, "give auto or never")


def _routed_by_source(desired: DesiredState, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
    """Routes by source are of addresses that a plan knows: with a lease of IPv4 there may be none, one of IPv6 goes without."""
    routing = endpoint["source_routing"]
    if not (network["source_routing"] if routing is None else routing):
        return
    if endpoint["dhcp"]:
        what = "routes by addresses that are known, and a DHCP server gives others"
        desired.refuse("endpoint", key, "source_routing", what, "set source_routing: false")
    else:
        what = "answers from the IPv6 address of a lease leave by the main table, without source routing"
        desired.warn("endpoint", key, "source_routing", what)


def _unheard(desired: DesiredState, key: str, endpoint: EndpointSpec) -> None:
    given: Generic = endpoint
    for option in _HEARD:
        if not given[option]:
            continue
        if key in desired.scope["endpoint"]:
            what = "has no effect without ipv4_address: dhcp or ipv6_address: dhcp"
            desired.refuse("endpoint", key, option, what, "set that too, or leave it out")
        else:
            desired.warn("endpoint", key, option, "has no effect, for its network has addressing: pool now")


def what_ends(desired: DesiredState, wanted: Mapping[Key, DesiredObject]) -> Iterator[Step]:
    """The addresses and routes of leases on links that stay and no longer want one; no record has them."""
    for key, endpoint in desired.items["endpoint"].items():
        before = desired.before("endpoint", key)
        if before is None or before["workload"] != endpoint["workload"]:
            continue
        ended = [it for it in (4, 6) if is_dhcp(cast(EndpointSpec, before), it) and not is_dhcp(endpoint, it)]
        if not ended:
            continue
        workload, name = before["workload"], str(before["interface"])
        namespace, link = desired.observed.namespace(workload), desired.observed.link(workload, name)
        if namespace is None or link is None or not desired.is_ours(link, link_key(workload, name)):
            continue
        reason = f"{key} no longer wants a lease"
        for route in namespace.routes:
            if 4 in ended and route.protocol == RTPROT_DHCP and route.oif == link.index:
                spec = desired.observed.route_spec(namespace, route)
                yield Step("route", route_key(spec), spec, None, "", reason)
        for address in namespace.addresses.get(link.index, ()):
            if address.is_leased and version_of(address.address) in ended:
                spec = {"netns": workload, "link": name, "address": address.address, "protocol": RTPROT_DHCP}
                where: Key = ("address", address_key(spec))
                yield Step(*where, spec, None, "", reason)
                if where in wanted:  # for good now, without a lifetime
                    yield Step(*where, None, wanted[where].spec, wanted[where].of, wanted[where].reason)


def ends(changes: Iterable[Change]) -> List[str]:
    """The leases that go by changes: with their link, or because another one is wanted, or none."""
    found: Dict[str, bool] = {}
    for change in changes:
        before, after = change.before, change.after
        kind, _colon, key = change.of.partition(":")
        if kind != "endpoint" or before is None:
            continue
        gone = change.kind == "link" and after is None and before.get("netns") != HOST
        for version in (4, 6):
            if gone or (change.kind == "endpoint" and after is not None and _asks_otherwise(before, after, version)):
                found[lease_key(key, version)] = True
    return list(found)


def _asks_otherwise(before: Spec, after: Spec, version: int) -> bool:
    wish = "dhcp6" if version == 6 else "dhcp"
    return any(before.get(option) != after.get(option) for option in (wish, "dhcp_client_id"))


def begins(
    changes: Iterable[Change], wanted: Mapping[Key, DesiredObject], endpoints: Mapping[str, EndpointSpec]
) -> List[str]:
    """The leases that a plan makes endpoints ask for: their link is new, or they asked for none, or by another name."""
    found: Dict[str, bool] = {}
    for change in changes:
        kind, _colon, key = change.of.partition(":")
        endpoint = endpoints.get(key) if kind == "endpoint" else None
        if endpoint is None or not wants_lease(endpoint):
            continue
        if ("link", link_key(endpoint["workload"], endpoint["interface"] or "")) not in wanted:
            continue
        new = change.before is None and change.kind in ("link", "endpoint")
        for version in (4, 6):
            other = change.kind == "endpoint" and _asks_otherwise(change.before or {}, change.after or {}, version)
            if is_dhcp(endpoint, version) and (new or other):
                found[lease_key(key, version)] = True
    return list(found)
