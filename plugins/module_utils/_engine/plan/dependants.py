# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign objects that depend on a link or a namespace of ours: they would be removed with it, so it stays."""

from __future__ import annotations

import ipaddress
from typing import Callable, List

from ..core.change import PROTOCOL
from ..core.specs import Spec
from ..core.state import Address, HostState, Link, Namespace

#: Whether a link in a namespace is ours, or goes in the same plan.
IsOurs = Callable[[Namespace, Link], bool]
#: Whether an address (its key) is ours.
IsOurAddress = Callable[[str], bool]

_KERNEL, _REDIRECT, _ROUTER = 2, 1, 9  # RTPROT_KERNEL, RTPROT_REDIRECT, RTPROT_RA
_KERNELS_OWN = (1, 2, 3)  # IFAPROT_KERNEL_LO, IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL
#: Tunnels that the kernel makes in every namespace, once their drivers are loaded (net.core.fb_tunnels_only_for_init_net).
_FALLBACK = frozenset((
    ("gre0", "gre"), ("gretap0", "gretap"), ("erspan0", "erspan"), ("ip6gre0", "ip6gre"), ("tunl0", "ipip"),
    ("ip6tnl0", "ip6tnl"), ("sit0", "sit"), ("ip_vti0", "vti"), ("ip6_vti0", "vti6"),
))  # fmt: skip
_LISTED = 3


def of_link(observed: HostState, spec: Spec, is_ours: IsOurs, is_our_address: IsOurAddress) -> List[str]:
    """Descriptions of what depends on a link.

    Of a link in another namespace only what uses it: addresses and routes there belong to the workload, which
    loses its link because somebody asked for that.
    """
    namespace = observed.namespace(spec["netns"])
    link = namespace.names.get(spec["name"]) if namespace else None
    if namespace is None or link is None:
        return []
    if namespace is not observed.host:
        inside = [
            child.name
            for child in namespace.links.values()
            if child.parent_ns is None and link.index in (child.parent, *child.lowers)
        ]
        return [f"{', '.join(inside)} in {namespace.workload} uses it"] if inside else []
    found = [
        f"{child.name} in {where.workload or 'the host'} uses it"
        for where, child in observed.children.get(link.index, ())
        if not is_ours(where, child)
    ]
    found += [
        f"it has the address {address.address}"
        for address in namespace.addresses.get(link.index, ())
        if not is_our_address(f"{spec['name']} {address.address}") and not is_made_by_kernel(address, link)
    ]
    found += [f"the route {route.prefix} uses it" for route in observed.foreign_routes(link.index)]
    master = namespace.links.get(link.master)
    if master:
        found.append(f"it belongs to {master.name}")
    return found


def of_namespace(observed: HostState, workload: str, is_ours: IsOurs) -> List[str]:
    """Descriptions of foreign objects in a namespace: processes, links, and addresses and routes not on our links."""
    namespace = observed.namespace(workload)
    if namespace is None:
        return []
    found = ["a process runs in it"] if namespace.processes else []
    foreign = [
        link
        for link in namespace.links.values()
        if not (link.is_loopback or ((link.name, link.kind) in _FALLBACK and not link.up) or is_ours(namespace, link))
    ]
    found += [f"the link {link.name} is in it" for link in foreign]
    ours = {link.index for link in namespace.links.values() if not link.is_loopback and is_ours(namespace, link)}
    found += [
        f"it has the address {address.address} on {namespace.links[index].name}"
        for index, addresses in namespace.addresses.items()
        for address in addresses
        if index in namespace.links and index not in ours and not is_made_by_kernel(address, namespace.links[index])
    ]
    found += [
        f"it has the route {route.prefix}"
        for route in namespace.routes
        if route.oif not in ours and route.protocol not in (_KERNEL, _REDIRECT, _ROUTER, PROTOCOL)
    ]
    return found


def listed(found: List[str]) -> str:
    """The first few, for a message."""
    return ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def is_made_by_kernel(address: Address, link: Link) -> bool:
    """Whether the kernel assigned an address itself: by IFA_PROTO, before Linux 5.18 by its value."""
    if address.protocol:
        return address.protocol in _KERNELS_OWN
    if link.is_loopback:
        return address.address in ("127.0.0.1/8", "::1/128")
    return address.address == f"{_eui64(link.mac)}/64" if link.mac else False


def _eui64(mac: str) -> str:
    """The link-local address that RFC 4291 derives from a MAC."""
    octets = bytes.fromhex(mac.replace(":", ""))
    if len(octets) != 6:
        return ""
    packed = b"\xfe\x80" + bytes(6) + bytes((octets[0] ^ 2,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(packed))
