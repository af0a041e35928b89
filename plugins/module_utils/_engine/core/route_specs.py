# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of routes: of those in a declared set, of those that the kernel has, and of its rules."""

from __future__ import annotations

from typing import Annotated, List, Optional, Sequence, TypedDict, Union

from .formats import U32, AnyRouteType, Format, Ip, KernelName, LinkName, Name, Netns, RouteType, Subnet, Text, between

MAIN_TABLE = 254  # RT_TABLE_MAIN
RTPROT_RA = 9  # of a route that a router advertised
RTPROT_DHCP = 16  # of a route that a DHCP server gave
#: Metric of an IPv6 route that was given none, or 0 (IP6_RT_PRIO_USER).
IPV6_METRIC = 1024


class RouteRow(TypedDict):
    """One route of a set."""

    prefix: Subnet
    type: RouteType
    via: Optional[Ip]
    dev: Optional[LinkName]
    metric: U32
    table: Optional[U32]  # None: that of ``vrf``
    vrf: Optional[LinkName]


def _own_table(route: RouteRow) -> None:
    if (route["table"] is None) == (route["vrf"] is None):
        raise ValueError


class RoutesSpec(TypedDict):
    """A named set of routes."""

    name: Name
    network: Optional[Name]
    routes: List[Annotated[RouteRow, Format("a route with a table or a VRF", _own_table)]]
    owner: Text


class RemovedRoute(TypedDict):
    """What identifies a route to remove from a set; None matches any value."""

    prefix: Subnet
    metric: Optional[U32]
    table: Optional[U32]
    vrf: Optional[LinkName]


class RoutesRequest(TypedDict):
    """What a task asks of a set of routes: exactly these, these too (not ``exact``), or none of these (``absent``)."""

    name: Name
    network: Optional[Name]
    exact: bool
    absent: bool
    routes: Sequence[Union[RouteRow, RemovedRoute]]


class _Route(TypedDict):
    netns: Netns
    prefix: Subnet
    type: AnyRouteType
    via: Optional[Ip]
    metric: U32
    table: U32
    protocol: Annotated[int, between(0, 255)]


class RouteSpec(_Route, total=False):
    """A route of the host or of a workload."""

    dev: Optional[LinkName]
    src: Optional[Ip]


class RuleSpec(TypedDict):
    """A rule of a workload: what has a source address goes by a table of its own."""

    netns: Netns
    link: KernelName  # of the endpoint that has the address
    source: Subnet
    table: U32
    priority: U32
    protocol: Annotated[int, between(0, 255)]


def usual_metric(prefix: str) -> int:
    """The metric that the kernel gives a route without one."""
    return IPV6_METRIC if ":" in prefix else 0
