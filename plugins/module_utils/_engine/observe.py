# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has: one dump of links and one of addresses in each namespace that is asked for."""

from __future__ import annotations

import os
from typing import Optional, Set, Tuple

from . import decode, encode, namespaces
from .namespaces import NamespaceError
from .rtnetlink import NetlinkError, Socket
from .world import HOST, Namespace, Need, World


class KernelError(Exception):
    """The kernel cannot be asked at all; says why."""


def observe(need: Need) -> World:
    """The kernel's side of this host as far as it is needed.

    Raises KernelError where there is no rtnetlink, or where it does not settle.
    """
    try:
        return _observe(need)
    except NetlinkError as error:
        raise KernelError(f"the kernel's links cannot be read: {error}") from None
    except OSError as error:
        raise KernelError(f"this process gets no rtnetlink socket: {error.strerror}") from None


def _observe(need: Need) -> World:
    host = Namespace(HOST, namespaces.OWN, namespaces.identity(namespaces.OWN))
    with Socket() as kernel:
        _links(kernel, host, None)
        _addresses(kernel, host)
        if need.routes:
            _routes(kernel, host)
    world = World(host)
    world.ipv6 = any(link.conf6 for link in host.links.values()) or os.path.isdir("/proc/sys/net/ipv6")
    if not (need.workloads or need.everywhere):
        return world
    own = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _asked_for(need, world, own)
        if need.everywhere:
            _others(world, own)
    finally:
        os.close(own)
    return world


def _asked_for(need: Need, world: World, own: int) -> None:
    """The namespaces of workloads, in full; two workloads may share one."""
    inhabited: Optional[Set[Tuple[int, int]]] = namespaces.inhabited() if need.everywhere else None
    for workload in need.workloads:
        if workload == HOST:
            continue
        try:
            path = namespaces.resolve(workload)
            space = Namespace(workload, path, namespaces.identity(path))
            if space.identity == world.host.identity:
                raise NamespaceError(f"{workload} is in the host's own network namespace")
            with namespaces.entered(path):
                kernel = Socket()
        except namespaces.Missing:
            continue
        except NamespaceError as error:
            world.refusals[workload] = str(error)
            continue
        except FileNotFoundError:
            world.refusals[workload] = f"{workload} went away"
            continue
        with kernel:
            _links(kernel, space, _host_nsid(kernel, own))
            _addresses(kernel, space)
            _routes(kernel, space)
        space.processes = inhabited is not None and space.identity in inhabited
        world.namespaces[workload] = space


def _others(world: World, own: int) -> None:
    """The links in every other namespace that sit on one of the host's."""
    seen = {world.host.identity, *(space.identity for space in world.namespaces.values())}
    for label, path, identity in namespaces.everything():
        if identity in seen:
            continue
        try:
            with namespaces.entered(path):
                kernel = Socket()
        except NamespaceError:  # gone meanwhile
            continue
        with kernel:
            host_nsid = _host_nsid(kernel, own)
            if host_nsid is None:
                continue  # nothing in there has anything to do with the host
            space = Namespace(label, path, identity)
            for link in kernel.dump(encode.all_links(), decode.links(host_nsid)):
                if link.parent and link.parent_ns == HOST:
                    space.add(link)
        if space.links:
            world.others.append(space)


def _host_nsid(kernel: Socket, own: int) -> Optional[int]:
    """What the host's namespace is called in the socket's; None where it has no name because nobody needed one."""
    return kernel.ask((encode.get_nsid(own),), decode.nsid)[0]


def _links(kernel: Socket, space: Namespace, host_nsid: Optional[int]) -> None:
    for link in kernel.dump(encode.all_links(), decode.links(host_nsid)):
        space.add(link)


def _addresses(kernel: Socket, space: Namespace) -> None:
    for address in kernel.dump(encode.all_addresses(), decode.address):
        space.addresses.setdefault(address.index, []).append(address)


def _routes(kernel: Socket, space: Namespace) -> None:
    for routes in kernel.dump(encode.all_routes(), decode.routes):
        space.routes += routes
