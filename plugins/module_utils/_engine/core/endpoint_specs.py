# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of an endpoint and of what its workload has, and what is asked of one again and again."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Dict, Iterator, List, Literal, Mapping, Optional, Tuple, TypedDict, Union

from .formats import (
    S32,
    TAP_DIRECTORY,
    U32,
    Account,
    BitRate,
    ClientId,
    Domain,
    EndpointKind,
    FileMode,
    Interface,
    Ip,
    Ip4,
    Ip6,
    KernelName,
    Mac,
    Name,
    ResolverOption,
    Subnet,
    SysctlName,
    Text,
    VlanId,
    When,
    Workload,
    matching,
)

#: In the place of an IPv6 address: the kernel makes them of what a router advertises (RFC 4862).
SLAAC = "slaac"
#: In the place of an address: a DHCP server leases it (RFC 2131, RFC 8415).
DHCP = "dhcp"


class _EndpointRoute(TypedDict):
    prefix: Subnet


class EndpointRouteSpec(_EndpointRoute, total=False):
    """A route of an endpoint, over its link."""

    via: Ip
    metric: U32
    table: U32


class DefaultRoute(TypedDict):
    """When an endpoint gives its workload a default route, for each IP version."""

    ipv4: When
    ipv6: When


class EndpointSpec(TypedDict):
    """One macvlan or ipvlan link inside a workload."""

    network: Name
    name: Name
    workload: Workload
    interface: Optional[KernelName]
    ipv4_address: Union[Ip4, Literal["dhcp"], None]
    ipv6_address: Union[Ip6, Literal["slaac", "dhcp"], None]
    ipv4_addresses: List[Ip4]  # more of its own
    ipv6_addresses: List[Ip6]
    allowed_addresses: List[Ip]  # which its workload may take, as may others
    dhcp: bool  # as assigned: whether it has an IPv4 lease of a DHCP server, by its own option or that of its network
    dhcp6: bool  # the same for IPv6
    dhcp_client_id: Optional[ClientId]  # None: one that follows from host, network and name
    dhcp_hostname: Optional[Domain]  # None: its name
    subnet: Optional[Subnet]
    mac_address: Optional[Mac]  # as asked for
    mtu: Optional[U32]
    aliases: List[Name]
    hosts: Dict[Name, Ip]
    dns: Optional[List[Ip]]  # None, as of the next two: as its network has it
    dns_search: Optional[List[Domain]]
    dns_options: Optional[List[ResolverOption]]
    gw_priority: S32
    default_route: DefaultRoute
    routes: List[EndpointRouteSpec]
    source_routing: Optional[bool]  # None: as its network has it
    sysctls: Dict[SysctlName, Optional[S32]]  # None, in a change: not asked for any more
    accept_ra: bool
    probe: bool
    addresses: List[Interface]  # as assigned
    mac: Optional[Mac]  # as assigned
    routing_table: Optional[U32]  # as assigned, where it has source routing
    source_macs: List[Mac]  # sorted; of a source network only
    kind: EndpointKind
    tap_owner: Optional[Account]
    tap_group: Optional[Account]
    tap_mode: Optional[FileMode]
    ingress_rate: Optional[BitRate]  # bits per second
    ingress_burst: Optional[U32]  # bytes
    egress_rate: Optional[BitRate]
    egress_burst: Optional[U32]
    vlans: List[VlanId]  # sorted; of a trunk, which has a link for each
    owner: Text


class NetnsSpec(TypedDict):
    """A namespace of ours."""

    netns: Workload


class BlockSpec(TypedDict):
    """Our block in a workload's hosts file or resolv.conf."""

    netns: Workload
    digest: Annotated[str, matching("the digest of a block", "[0-9a-f]{16}")]


class ProcessSpec(TypedDict, total=False):
    """The process or container of a workload, whose number or name another may get."""

    started: str
    container: str


#: An endpoint's spec, as declared or as a record has it, whose kind only the caller knows.
AnyEndpoint = Mapping[str, Any]


def node_path(endpoint: EndpointSpec) -> str:
    """Where the device node of a tap is."""
    return f"{TAP_DIRECTORY}/{endpoint['network']}/{endpoint['name']}"


def is_tap(endpoint: EndpointSpec) -> bool:
    """Whether an endpoint is for a virtual machine, whose guest configures itself."""
    return endpoint["kind"] == "tap"


def interfaces(endpoint: AnyEndpoint) -> List[str]:
    """The names of an endpoint's links: of a trunk one for each VLAN; none before it is named."""
    name = endpoint["interface"]
    if name is None:
        return []
    return [f"{name}.{vlan_id}" for vlan_id in endpoint["vlans"]] or [name]


def static_address(endpoint: EndpointSpec, version: int) -> Optional[str]:
    """The address of an IP version that an endpoint was given; None for any that is free, and for those of SLAAC and DHCP."""
    given = endpoint["ipv6_address"] if version == 6 else endpoint["ipv4_address"]
    return None if given in (SLAAC, DHCP) else given


def is_slaac(endpoint: EndpointSpec, version: int = 6) -> bool:
    """Whether the kernel makes the addresses of an IP version, so that none comes from a pool."""
    return version == 6 and endpoint["ipv6_address"] == SLAAC


def is_dhcp(endpoint: EndpointSpec, version: int) -> bool:
    """Whether a DHCP server leases the address of an IP version, so that none comes from a pool."""
    return endpoint["dhcp6"] if version == 6 else endpoint["dhcp"]


def wants_lease(endpoint: EndpointSpec) -> bool:
    """Whether a DHCP server leases an address of any IP version."""
    return endpoint["dhcp"] or endpoint["dhcp6"]


def is_learnt(endpoint: EndpointSpec, version: int) -> bool:
    """Whether the address of an IP version comes from the network itself, so that no plan knows it."""
    return is_slaac(endpoint, version) or is_dhcp(endpoint, version)


def client_id(endpoint: EndpointSpec) -> Optional[bytes]:
    """What an endpoint is to name itself by to a DHCP server, with its type (RFC 2132, 9.14); None for nothing.

    Octets have their type among them, a text has type 0.
    """
    text = endpoint["dhcp_client_id"]
    if text is None:
        return None
    octets = text.split(":")
    if len(octets) > 1 and all(len(octet) == 2 for octet in octets):
        with contextlib.suppress(ValueError):
            return bytes.fromhex("".join(octets))
    return b"\0" + text.encode()


def duid(endpoint: EndpointSpec) -> Optional[bytes]:
    """The IAID and DUID in a client ID that has them (RFC 4361, 6.1); None where it has none."""
    found = client_id(endpoint) or b""
    return found[1:] if found[:1] == b"\xff" and len(found) >= 1 + 4 + 3 else None


def heeds_routers(endpoint: EndpointSpec) -> bool:
    """Whether the workload takes routes from router advertisements: those are no part of DHCPv6."""
    return makes_addresses(endpoint) or endpoint["dhcp6"]


def makes_addresses(endpoint: EndpointSpec) -> bool:
    """Whether the workload also makes addresses of what they advertise."""
    return endpoint["accept_ra"] or is_slaac(endpoint)


def more_addresses(endpoint: EndpointSpec) -> List[str]:
    """The addresses that an endpoint has beside its first ones."""
    return [*endpoint["ipv4_addresses"], *endpoint["ipv6_addresses"]]


def given_addresses(endpoint: EndpointSpec) -> Iterator[Tuple[str, str]]:
    """The addresses that an endpoint was given for itself, each with its option."""
    for version in (4, 6):
        given = static_address(endpoint, version)
        if given:
            yield f"ipv{version}_address", given
    yield from ((f"ipv4_addresses[{position}]", ip) for position, ip in enumerate(endpoint["ipv4_addresses"]))
    yield from ((f"ipv6_addresses[{position}]", ip) for position, ip in enumerate(endpoint["ipv6_addresses"]))


def default_route(endpoint: EndpointSpec, version: int) -> str:
    """When an endpoint gives its workload the default route of an IP version."""
    return endpoint["default_route"]["ipv6"] if version == 6 else endpoint["default_route"]["ipv4"]
