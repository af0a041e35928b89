# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs of which only the caller knows the kind, links of ours or not, and all items of a host together.

A spec is a flat dict of JSON values, so it can be stored, compared and sent as it is. An item's spec is what a user
declared, with every default filled in; an object's spec is what the kernel must have. In a change, ``before`` and
``after`` of an update name the identity and what differs, so there any key may be missing. Those that have to be
complete are in ``link_specs``, ``network_specs``, ``endpoint_specs`` and ``route_specs``.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, TypedDict, Union

from .endpoint_specs import DefaultRoute, EndpointSpec
from .formats import S32, U32, Netns, VlanId
from .link_specs import NodeSpec, VlanSpec
from .network_specs import NetworkSpec, SubnetSpec
from .route_specs import RoutesSpec

#: A spec of which each option is treated alike, whatever it is called: to compare, to show, to store.
Generic = Mapping[str, Any]


class Items(TypedDict):
    """The items of a host, by kind and key."""

    vlan: Dict[str, VlanSpec]
    network: Dict[str, NetworkSpec]
    endpoint: Dict[str, EndpointSpec]
    routes: Dict[str, RoutesSpec]


class _AnyKind(TypedDict, total=False):
    """Options of links that are of one type in every spec."""

    # vlan
    vlan_id: VlanId
    gvrp: bool
    mvrp: bool
    loose_binding: bool
    reorder_headers: bool
    ingress_qos_map: Dict[str, U32]
    egress_qos_map: Dict[str, U32]
    # macvlan and ipvlan
    mode: str
    source_macs: List[str]
    nopromisc: bool
    senders: Optional[List[str]]


class KindOptions(_AnyKind, total=False):
    """What a link has by its kind, under the names of the link specs."""

    protocol: str
    flag: str
    bcqueuelen: U32
    bclim: S32
    node: Optional[NodeSpec]  # of a tap
    # of links that are never ours
    table: U32  # of a VRF
    vlan_filtering: bool  # of a bridge


class LinkSpec(KindOptions, total=False):
    """A link as the kernel has it, ours or not."""

    netns: Netns
    name: str
    kind: str
    parent: Optional[str]
    mtu: Optional[U32]  # None: the parent's, down and up
    parent_mtu: U32  # as observed
    mac: str
    up: bool
    group: U32
    altnames: List[str]
    isolation: Optional[str]  # the name of a profile
    sysctls: Any  # Dict[str, int], or a view that compares like one


class Spec(_AnyKind, total=False):
    """The spec of a record or a change whose kind only the caller knows: the keys of all kinds, any of which may be missing.

    A value is Any where the kinds differ, such as a network's parent, which may be None, and a sub-interface's, which may not.
    """

    # of objects
    netns: str
    name: str
    kind: str
    parent: Any
    mtu: Optional[int]  # None: the parent's, down and up
    parent_mtu: int  # as observed
    mac: Any
    up: bool
    group: int
    altnames: List[str]
    isolation: Optional[str]
    sysctls: Any  # Dict[str, Optional[int]], or a view that compares like one
    protocol: Any
    flag: Any
    bcqueuelen: Any
    bclim: Any
    node: Any  # None where a tap has none of ours
    link: str
    address: str
    prefix: str
    type: str
    via: Optional[str]
    dev: Optional[str]
    src: Optional[str]
    metric: int
    table: int
    source: str
    priority: int
    direction: str
    rate: int
    burst: int
    limit: int
    digest: str
    # of links of others
    vlan_filtering: bool
    # of items
    owner: str
    bring_up_parent: bool
    addresses: Any
    driver: str
    internal: bool
    subnets: List[SubnetSpec]
    enable_ipv4: bool
    enable_ipv6: bool
    share_parent: bool
    host_access: Union[bool, List[str]]
    host_addresses: List[str]
    probe: bool
    recreate: bool
    labels: Dict[str, str]
    network: Any
    workload: str
    interface: Any  # None before it is named
    ipv4_address: Optional[str]
    ipv6_address: Optional[str]
    ipv4_addresses: List[str]
    ipv6_addresses: List[str]
    allowed_addresses: List[str]
    addressing: str
    dhcp: bool
    dhcp6: bool
    dhcp_client_id: Optional[str]
    dhcp_hostname: Optional[str]
    subnet: Optional[str]
    mac_address: Optional[str]
    aliases: List[str]
    hosts: Dict[str, str]
    dns: Optional[List[str]]
    dns_search: Optional[List[str]]
    dns_options: Optional[List[str]]
    gw_priority: int
    default_route: DefaultRoute
    routes: Any
    source_routing: Any
    spoof_check: bool
    routing_table: Optional[int]
    tap_owner: Optional[str]
    tap_group: Optional[str]
    tap_mode: Optional[str]
    ingress_rate: Optional[int]
    ingress_burst: Optional[int]
    egress_rate: Optional[int]
    egress_burst: Optional[int]
    vlans: List[int]
    accept_ra: bool
    # of what the registry knows a thing by
    index: int
    era: str
    device: str
    port: str
    below: List[str]
    asked: List[List[str]]
    started: str
    container: str


def is_l3(network: Generic) -> bool:
    """Whether a network routes between its endpoints instead of bridging them."""
    return network.get("mode") in ("l3", "l3s")
