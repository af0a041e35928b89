# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains in a network engineer's terms why the kernel refused a change."""

from __future__ import annotations

import errno
import os
from typing import cast

from ..core.change import DRIVERS, Change
from ..core.errors import KernelRefused
from ..core.link_specs import AddressSpec, RateSpec
from ..core.rates import MODULES
from ..core.route_specs import RouteSpec
from ..core.specs import LinkSpec, Spec


def refusal(change: Change, number: int, text: str = "") -> KernelRefused:
    """The refusal of a change, from the errno and the text of the extended acknowledgement."""
    said = f"{errno.errorcode.get(number, number)}, {text or os.strerror(number)}"
    # Of a sysctl the text says all; the guesses below are of requests.
    why = "" if text.startswith("sysctl ") and number == errno.EINVAL else _why(change, number)
    return KernelRefused(change, number, f"{why} (the kernel says {said})" if why else f"the kernel says {said}")


def _why(change: Change, number: int) -> str:
    spec = change.after if change.after is not None else change.before or {}
    if number == errno.EPERM:
        return "this needs CAP_NET_ADMIN in the network namespace: run as root"
    if number == errno.EROFS:
        return "/proc/sys is not writable here, as in an unprivileged container"
    if number == errno.EMLINK:
        return "the kernel stacks eight links at most"
    if number in (errno.ENOBUFS, errno.ETIMEDOUT):
        return "the kernel's answers were lost, so what it did is unknown"
    if number in (errno.ENOMEM, errno.ENOSPC, errno.ENFILE):
        return "the kernel is out of memory or table space"
    if change.kind == "link":
        return _why_link(change, cast(LinkSpec, spec), number)
    if change.kind == "address":
        return _why_address(cast(AddressSpec, spec), number)
    if change.kind == "rate":
        return _why_rate(cast(RateSpec, spec), number)
    return _why_route(cast(RouteSpec, spec), number) if change.kind == "route" else ""


def _why_link(change: Change, spec: LinkSpec, number: int) -> str:
    name = spec.get("name")
    if number == errno.ENETDOWN:
        return f"{name} cannot be up while its base is down"
    if number == errno.EADDRINUSE:
        return f"the MAC of {name} is that of another link on the same parent, or of the parent"
    if number == errno.EADDRNOTAVAIL:
        return f"{spec.get('mac')} is not a unicast MAC"
    return _why_new_link(spec, number) if change.before is None else _why_changed_link(change.before, spec, number)


def _why_changed_link(before: Spec, spec: LinkSpec, number: int) -> str:
    name = spec.get("name")
    if number == errno.ENODEV:
        return f"{name} is gone"
    if number == errno.EBUSY and before.get("name") != name:
        return "kernels before 6.2 rename a link only while it is down"
    if number == errno.EINVAL and "mode" in spec:
        return "macvlan cannot change to or from passthru"
    return f"{spec['mtu']} is more than the parent's MTU" if number == errno.ERANGE and "mtu" in spec else ""


def _why_new_link(spec: LinkSpec, number: int) -> str:
    name, kind, parent = spec.get("name"), spec.get("kind", ""), spec.get("parent")
    if number == errno.EEXIST:
        what = f"{name} is taken, as the name or alternative name of another link"
        if kind == "vlan":
            what += f", or VLAN {spec.get('vlan_id')} of {parent} is there already"
            what += ", maybe in another namespace"
        return what
    if number == errno.EBUSY:
        return (
            f"{parent} carries links of the other kind (macvlan and ipvlan cannot share a parent), "
            "or belongs to a bridge or bond"
        )
    if number == errno.EOPNOTSUPP:
        driver = DRIVERS.get(kind, kind)
        missing = f"this kernel has no {driver} driver loaded (modprobe {driver})"
        return f"{missing}, or {parent} takes no {kind}"
    if number == errno.ENODEV:
        return f"{parent} is gone"
    if number == errno.EINVAL:
        reasons = f"the MTU may be more than that of {parent}"
        if kind == "macvlan":
            reasons += ", and passthru does not share its parent"
        return f"{parent} takes no such {kind}: {reasons}"
    return ""


def _why_address(spec: AddressSpec, number: int) -> str:
    address, link = spec.get("address"), spec.get("link")
    if number == errno.EEXIST:
        return f"{link} has {address} already"
    if number == errno.EADDRINUSE:
        return f"another ipvlan endpoint on the same parent has {address}, possibly in another namespace"
    if number == errno.EACCES:
        return f"IPv6 is switched off on {link}"
    return f"{link} is gone" if number == errno.ENODEV else ""


def _why_route(spec: RouteSpec, number: int) -> str:
    if number == errno.EEXIST:
        place = f"metric {spec['metric']} stands in table {spec['table']}"
        return f"another route to {spec['prefix']} with {place}"
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        device = spec.get("dev") or "a link"
        return f"the gateway {spec.get('via')} is not in a directly connected subnet of {device}"
    if number == errno.ENETDOWN:
        return f"{spec.get('dev')} is down"
    return f"{spec.get('dev')} is gone" if number == errno.ENODEV else ""


def _why_rate(spec: RateSpec, number: int) -> str:
    link, direction = spec["link"], spec["direction"]
    if number == errno.EEXIST:
        return f"{link} has a qdisc for {direction} already"
    if number == errno.ENOENT:
        return f"this kernel has no {' or '.join(MODULES[direction])} loaded (modprobe)"
    return f"{link} is gone" if number == errno.ENODEV else ""
