# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolation profiles: how much of the host a link of ours exposes to a tenant's VLAN, and the sysctls that implement them.

Where the kernel has nf_tables, ``kernel.barrier`` says the same once more for all of them, and closes what sysctls
leave open. Four profiles, from the least to the most:

``none``    nothing of the host: no address of any kind, no ARP answer, no router advertisement taken,
            nothing accepted and nothing forwarded. IPv6 has no reverse-path filter, so only
            ``disable_ipv6`` keeps a tenant from reaching the host's own IPv6 addresses over the link.
``routed``  the same for a parent of ipvlan L3 networks with IPv6, which asks for its neighbours over
            it: IPv6 stays on, and everything else is as above.
``access``  the host's own way to its endpoints (``host_access``): only they reach the addresses that it was given
            here, nothing is forwarded or learnt from the wire, and no link-local address appears.
``host``    a sub-interface with addresses of the host (``addresses``), a NIC like any other: only these addresses are
            answered for, it has an IPv6 link-local, and believes neither router advertisements nor redirects.

The numbers are the kernel's indices: IPV4_DEVCONF_* (include/uapi/linux/ip.h) and DEVCONF_*
(include/uapi/linux/ipv6.h).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Dict, Mapping, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from .state import Link

#: The least MTU with which the kernel gives a link IPv6 (IPV6_MIN_MTU, include/uapi/linux/ipv6.h; RFC 8200, 5).
IPV6_MIN_MTU = 1280

Conf = Optional[Tuple[int, ...]]  # IFLA_INET_CONF or IFLA_INET6_CONF of a link

#: name in /proc/sys/net/ipv4/conf/LINK/ -> IPV4_DEVCONF_* (from 1, as in IFLA_INET_CONF of a request)
IPV4 = {
    "forwarding": 1, "proxy_arp": 3, "accept_redirects": 4, "secure_redirects": 5, "send_redirects": 6,
    "shared_media": 7, "rp_filter": 8, "accept_source_route": 9, "log_martians": 11, "arp_filter": 13,
    "arp_announce": 18, "arp_ignore": 19, "promote_secondaries": 20, "arp_accept": 21, "arp_notify": 22,
    "accept_local": 23, "src_valid_mark": 24, "proxy_arp_pvlan": 25, "route_localnet": 26,
}  # fmt: skip

#: name in /proc/sys/net/ipv6/conf/LINK/ -> DEVCONF_* (from 0, as the kernel lists them)
IPV6 = {
    "forwarding": 0, "hop_limit": 1, "mtu": 2, "accept_ra": 3, "accept_redirects": 4, "autoconf": 5,
    "dad_transmits": 6, "router_solicitations": 7, "use_tempaddr": 10, "max_addresses": 15,
    "accept_ra_defrtr": 17, "accept_ra_pinfo": 18, "proxy_ndp": 22, "accept_source_route": 24,
    "disable_ipv6": 26, "accept_dad": 27, "force_tllao": 28, "ndisc_notify": 29,
    "addr_gen_mode": 47,
}  # fmt: skip


class Profile(NamedTuple):
    """The settings of one profile; ``genmode`` is IN6_ADDR_GEN_MODE_* (0 EUI-64, 1 none).

    None stands for the host's own default (``conf/default``): a new link has it, and it is never enforced.
    """

    ipv4: Dict[str, Optional[int]]
    ipv6: Dict[str, Optional[int]]
    genmode: Optional[int]


_QUIET4: Dict[str, Optional[int]] = {"forwarding": 0, "rp_filter": 1, "arp_ignore": 8}
# forwarding 0 keeps IPv6 from joining the routers' group on the link; what it forwards, conf.all alone decides.
_QUIET6: Dict[str, Optional[int]] = {"disable_ipv6": 0, "accept_ra": 0, "accept_redirects": 0, "forwarding": 0}
PROFILES = {
    # Each setting of IPv6 is a write for each link: with IPv6 off, these two say it all.
    "none": Profile(_QUIET4, {"disable_ipv6": 1, "accept_ra": 0}, 1),
    "routed": Profile(_QUIET4, _QUIET6, 1),
    "access": Profile({**_QUIET4, "arp_ignore": 1, "accept_redirects": 0}, _QUIET6, 1),
    "host": Profile(
        {"forwarding": None, "rp_filter": None, "arp_ignore": 1, "accept_redirects": 0},
        {**_QUIET6, "forwarding": None},
        0,
    ),
}
#: The profiles that the packet filter enforces too.
BARRED = frozenset(("none", "routed", "access"))


def profile(link: Link, expected: Optional[str] = None) -> Optional[str]:
    """The profile whose every setting a link has, or None. Without IPv6 several may fit: ``expected`` if it does."""
    return _profile(link.conf4, link.conf6, link.genmode, expected)


@lru_cache(maxsize=64)  # thousands of links have the same settings
def _profile(conf4: Conf, conf6: Conf, genmode: Optional[int], expected: Optional[str]) -> Optional[str]:
    for name in (expected, *PROFILES) if expected in PROFILES else PROFILES:
        wanted = PROFILES[name]
        if _has(conf4, wanted.ipv4, IPV4, 1) and (
            conf6 is None or (_has(conf6, wanted.ipv6, IPV6, 0) and genmode == wanted.genmode)
        ):
            return name
    return None


def settings(name: str) -> Dict[str, Optional[int]]:
    """The settings of a profile, under the names that a link spec's ``sysctls`` have."""
    wanted = PROFILES[name]
    found: Dict[str, Optional[int]] = {f"ipv4.{key}": value for key, value in wanted.ipv4.items()}
    found.update({f"ipv6.{key}": value for key, value in wanted.ipv6.items()})
    return found if wanted.genmode is None else {**found, "ipv6.addr_gen_mode": wanted.genmode}


def _has(conf: Conf, wanted: Mapping[str, Optional[int]], table: Dict[str, int], first: int) -> bool:
    return conf is not None and all(
        value is None or conf[table[name] - first] == value for name, value in wanted.items()
    )


class Sysctls:
    """A view on a link's sysctls, by ``ipv4.NAME`` and ``ipv6.NAME``; equal to a dict that it agrees with.

    Where there is no IPv6, it agrees with whatever is said about it.
    """

    def __init__(self, link: Link) -> None:
        self.link = link

    def get(self, name: str) -> Optional[int]:
        """The value as observed; None where the kernel reports none, as of IPv6 that is off."""
        family, _rest, key = name.partition(".")
        if family == "ipv4" and self.link.conf4 and key in IPV4:
            return self.link.conf4[IPV4[key] - 1]
        if name == "ipv6.addr_gen_mode":
            return self.link.genmode
        if family == "ipv6" and self.link.conf6 and key in IPV6:
            return self.link.conf6[IPV6[key]]
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and all(
            value is None  # the default, which is not known
            or self.get(name) == value
            or (self.link.conf6 is None and name.startswith("ipv6."))
            for name, value in other.items()
        )

    __hash__ = None  # type: ignore[assignment]
