# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has: a dump of links and one of addresses in each namespace asked for."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Iterator, Optional, Set, Tuple

from . import containers, decode, drivers, encode, hosts, names, namespaces
from .namespaces import NamespaceError
from .rtnetlink import NetlinkError, Socket
from .world import HOST, Namespace, Need, World

#: Where the nameservers of a host stand; the second, where the first names only a service of this host.
RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


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
    world = World(host)
    own = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Socket() as kernel:
            _links(kernel, host, own)
            _addresses(kernel, host)
            if need.routes:
                _routes(kernel, host)
        world.ipv6 = any(link.conf6 for link in host.links.values()) or os.path.isdir(
            "/proc/sys/net/ipv6"
        )
        containers.ask((*need.workloads, *need.readers))
        _asked_for(need, world, own)
        if need.everywhere:
            _others(world, own)
        _names(need, world)
        world.lacking = drivers.lacking(need.kinds, need.load)
        world.nameservers = tuple(_nameservers())
    finally:
        os.close(own)
    return world


def _nameservers() -> Iterator[str]:
    for path in RESOLVERS:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _rest, value = " ".join(line.split()).partition(" ")
                with contextlib.suppress(ValueError):
                    if key == "nameserver":
                        yield str(ipaddress.ip_address(value.partition("%")[0]))


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
            space.managed = _is_managed(workload)
            with namespaces.entered(path):
                kernel = Socket()
        except namespaces.Missing:
            continue
        except NamespaceError as error:
            world.refusals[workload] = str(error)
            if isinstance(error, namespaces.Gone):
                world.gone.add(workload)
            continue
        except FileNotFoundError:
            world.refusals[workload] = f"{workload} went away"
            world.gone.add(workload)
            continue
        with kernel:
            space.cookie = kernel.cookie
            _links(kernel, space, own)
            _addresses(kernel, space)
            _routes(kernel, space)
        space.processes = inhabited is not None and space.identity in inhabited
        world.namespaces[workload] = space


def _is_managed(workload: str) -> bool:
    engine, _rest, name = workload.partition(":")
    return engine in ("docker", "podman") and containers.managed(engine, name)


def _names(need: Need, world: World) -> None:
    """Our blocks in the hosts files of the workloads that have one: named namespaces and
    containers.
    """
    for workload in need.readers:
        try:
            text = hosts.read(workload)
            world.names[workload] = names.digest(text) if text else ""
        except hosts.Nobody:
            world.gone.add(workload)
        except hosts.Unwritable as error:
            world.unwritable[workload] = str(error)


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
            space = Namespace(label, path, identity)
            _links(kernel, space, own)
            if any(link.parent_ns == HOST for link in space.links.values()):
                _addresses(kernel, space)
                world.others.append(space)


def _links(kernel: Socket, space: Namespace, own: int) -> None:
    """``own`` is a descriptor of the host's namespace."""
    abroad = []
    for link in kernel.dump(encode.all_links(), decode.link):
        space.add(link)
        if link.parent_ns is not None:
            abroad.append(link)
    if abroad:  # only now: a namespace is numbered when a dump first has to name it
        number = kernel.ask((encode.get_nsid(own),), decode.nsid)[0]
        for link in abroad:
            link.parent_ns = (
                HOST if link.parent_ns == str(number) and space.workload != HOST else "?"
            )


def _addresses(kernel: Socket, space: Namespace) -> None:
    for address in kernel.dump(encode.all_addresses(), decode.address):
        space.addresses.setdefault(address.ifindex, []).append(address)


def _routes(kernel: Socket, space: Namespace) -> None:
    for routes in kernel.dump(encode.all_routes(), decode.routes):
        space.routes += routes
