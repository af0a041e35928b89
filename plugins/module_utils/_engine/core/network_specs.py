# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a network, and what is asked of one again and again."""

from __future__ import annotations

from typing import Dict, List, Literal, Optional, TypedDict, Union

from .formats import (
    S32,
    U32,
    Addressing,
    AddressPart,
    AddressParts,
    Domain,
    Flag,
    Interface,
    Ip,
    IpvlanMode,
    LinkName,
    MacvlanMode,
    Name,
    ResolverOption,
    Subnet,
    Text,
)


class _Subnet(TypedDict):
    subnet: Subnet
    gateway: Optional[Ip]
    ip_range: Optional[AddressParts]
    aux_addresses: Dict[Name, AddressPart]


class SubnetSpec(_Subnet, total=False):
    """One subnet of a network."""

    auto: bool  # picked, not given


class NetworkSpec(TypedDict):
    """A network: driver, mode, parent and subnets."""

    name: Name
    driver: Literal["macvlan", "ipvlan"]
    mode: Union[MacvlanMode, IpvlanMode]
    flag: Optional[Flag]  # ipvlan only
    parent: Optional[LinkName]  # None: a dummy of its own
    internal: bool
    subnets: List[SubnetSpec]
    enable_ipv4: bool
    enable_ipv6: bool
    mtu: Optional[U32]
    share_parent: bool
    bring_up_parent: bool
    host_access: Union[bool, List[Ip]]
    host_addresses: List[Interface]  # the host's own in the network
    probe: bool
    source_routing: bool
    spoof_check: bool  # macvlan only
    recreate: bool
    bcqueuelen: Optional[U32]
    bclim: Optional[S32]
    nopromisc: bool  # passthru only
    addressing: Addressing  # where addresses of its endpoints come from that are of no subnet given
    dns: List[Ip]  # of its endpoints that have none of their own, as are the next two
    dns_search: List[Domain]
    dns_options: List[ResolverOption]
    labels: Dict[Text, Text]
    owner: Text


def has_version(network: NetworkSpec, version: int) -> bool:
    """Whether a network has IPv4 or IPv6."""
    return network["enable_ipv6"] if version == 6 else network["enable_ipv4"]


def has_pool(network: NetworkSpec, version: int) -> bool:
    """Whether endpoints of a network get addresses of its subnets where none is given."""
    by_subnet = version == 6 and any(":" in (row["subnet"] or "") for row in network["subnets"])
    return network["addressing"] == "pool" or by_subnet
