# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an endpoint's link has from routers, when it begins to accept their advertisements and when it no longer does.

The kernel asks for an advertisement only where IPv6 or the link comes up, and keeps what an earlier one gave until its lifetime ends.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import cast

from ..core.change import HOST, Change
from ..core.route_specs import RTPROT_RA, RouteSpec
from ..core.specs import Generic
from ..netlink import encode
from .session import Session

_ALL_ROUTERS = "ff02::2"
_SOLICITATION = b"\x85" + bytes(7)  # RFC 4861, 4.1; the kernel fills in the checksum
_GONE = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV, errno.ESRCH, errno.ENOENT))


def follow(session: Session, change: Change, ifindex: int) -> None:
    """Ask routers at once, or drop what they gave, after a change of ``accept_ra`` was written; the host's links have nothing of them."""
    before, after = (_accepts(side or {}) for side in (change.before, change.after))
    if session.workload == HOST or before == after:
        return
    if after:
        _solicit(session, ifindex)
    else:
        _forget(session, change, ifindex)


def _accepts(spec: Generic) -> bool:
    return bool((spec.get("sysctls") or {}).get("ipv6.accept_ra"))


def _solicit(session: Session, ifindex: int) -> None:
    """A link that is down asks by itself when it comes up. The service may not send: there the next advertisement has to do."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    with (
        session.inside(),
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6) as raw,
    ):
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.sendto(_SOLICITATION, (_ALL_ROUTERS, 0, 0, ifindex))


def _forget(session: Session, change: Change, ifindex: int) -> None:
    """Else a route of a router is in the place of the endpoint's own, which has the same metric."""
    if session.known is None:
        return
    for address in session.known.addresses.get(ifindex, ()):
        if address.is_slaac:
            session.queue(change, encode.remove_address(address.address, ifindex), _GONE)
    for route in session.known.routes:
        if route.protocol == RTPROT_RA and route.oif == ifindex:
            spec = {"prefix": route.prefix, "metric": route.metric, "table": route.table, "protocol": route.protocol}
            session.queue(change, encode.remove_route(cast(RouteSpec, spec)), _GONE)
