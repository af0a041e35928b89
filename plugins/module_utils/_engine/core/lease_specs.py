# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of what a DHCP server gave an endpoint."""

from __future__ import annotations

from typing import Annotated, List, Optional, TypedDict

from .formats import U32, Domain, Format, Interface, Ip4, Mac, Subnet, between, matching


def _ipv4(text: str) -> None:
    if ":" in text:
        raise ValueError


_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
#: Seconds since the epoch; a lease that never ends has 2**32 - 1 of them from when it was given.
Epoch = Annotated[int, between(0, 2**40)]


class LeaseRoute(TypedDict):
    """A route of option 121 (RFC 3442); ``via`` None: on the link itself."""

    prefix: Annotated[Subnet, Format("an IPv4 prefix", _ipv4)]
    via: Optional[Ip4]


class Lease(TypedDict):
    """What a server gave an endpoint, and when."""

    endpoint: Annotated[str, matching("NETWORK/ENDPOINT", f"{_NAME}/{_NAME}")]
    mac: Mac
    client_id: Annotated[str, matching("bytes in hexadecimal", "([0-9a-f]{2}){1,255}")]  # with its type
    server: Ip4
    address: Annotated[Interface, Format("an IPv4 address with prefix length", _ipv4)]
    routers: List[Ip4]
    routes: List[LeaseRoute]  # where there are any, ``routers`` do not count (RFC 3442)
    dns: List[Ip4]
    domain: Optional[Domain]
    search: List[Domain]
    mtu: Optional[U32]
    obtained: Epoch
    renew: Epoch
    rebind: Epoch
    expires: Epoch
