# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of what a DHCP server gave an endpoint."""

from __future__ import annotations

from typing import Annotated, List, Optional, Tuple, TypedDict

from .formats import U32, Domain, Format, Interface, Ip, Ip4, Mac, Subnet, between, matching


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
    """What a server gave an endpoint, and when. All addresses are of one IP version; IPv6 has no routes, which routers advertise."""

    endpoint: Annotated[str, matching("NETWORK/ENDPOINT", f"{_NAME}/{_NAME}")]
    mac: Mac
    client_id: Annotated[
        str, matching("bytes in hexadecimal", "([0-9a-f]{2}){1,255}")
    ]  # with its type; IPv6: IAID and DUID
    server: Ip
    server_duid: Annotated[str, matching("a DUID in hexadecimal", "([0-9a-f]{2}){0,130}")]  # empty for IPv4
    address: Interface
    routers: List[Ip4]
    routes: List[LeaseRoute]  # where there are any, ``routers`` do not count (RFC 3442)
    dns: List[Ip]
    domain: Optional[Domain]
    search: List[Domain]
    mtu: Optional[U32]
    obtained: Epoch
    renew: Epoch
    rebind: Epoch
    preferred: Epoch  # until then new connections may begin from it
    expires: Epoch


_IPV6 = " ipv6"


def lease_key(endpoint: str, version: int) -> str:
    """What a lease is known by: its endpoint, ``NETWORK/NAME``, and for IPv6 ``NETWORK/NAME ipv6``."""
    return endpoint + _IPV6 if version == 6 else endpoint


def lease_of(key: str) -> Tuple[str, int]:
    """The endpoint and the IP version of a key."""
    return (key[: -len(_IPV6)], 6) if key.endswith(_IPV6) else (key, 4)
