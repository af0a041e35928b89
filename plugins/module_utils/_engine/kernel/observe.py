# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel has: a dump of links and one of addresses in each namespace asked for."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Iterable, Iterator, Optional, Set, Tuple

from ..core import change, errors, identity
from ..core.change import HOST, LINK_GROUPS, link_key
from ..core.errors import KernelError, NamespaceError, NetlinkError
from ..core.state import HostState, Namespace, Need
from ..netlink import decode, encode
from ..netlink.rtnetlink import Socket
from ..store import leases, statedir
from . import (
    blocks,
    containers,
    drivers,
    lease_socket,
    namespace_search,
    namespaces,
    rates,
    senders,
    taps,
    workload_namespaces,
)

#: Where the nameservers of a host stand; the second, where the first names only a service of this host.
RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def observe(need: Need) -> HostState:
    """The kernel's side of this host as far as it is needed.

    Raises KernelError where there is no rtnetlink, or where it does not settle.
    """
    try:
        return _observe(need)
    except NetlinkError as error:
        raise KernelError(f"the kernel's links cannot be read: {error}") from None
    except OSError as error:
        raise KernelError(f"cannot open an rtnetlink socket: {error.strerror}") from None


def _observe(need: Need) -> HostState:
    host = Namespace(HOST, namespaces.OWN, namespaces.identity(namespaces.OWN))
    observed = HostState(host)
    own = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Socket() as kernel:
            host.cookie = kernel.cookie
            _links(kernel, host, own)
            _drivers(host)
            _addresses(kernel, host)
            _bridge_vlans(kernel, observed)
            if need.routes:
                _routes(kernel, host)
        observed.is_admin, observed.writable_sysctls = _is_admin(), _writable_sysctls()
        observed.era = f"{statedir.boot()} {host.cookie or host.identity[1]}"
        observed.ipv6 = any(link.conf6 for link in host.links.values()) or os.path.isdir("/proc/sys/net/ipv6")
        containers.ask((*need.workloads, *need.readers), need.again)
        _asked_for(need, need.workloads, observed, own)
        if need.everywhere or _is_lost(need, observed):
            with Socket() as kernel:
                _others(kernel, observed, own, need.rules)
        _siblings(need, observed, own)
        _elsewhere(need, observed)
        _names(need, observed)
        observed.lacking = drivers.lacking(need.kinds, need.load) | drivers.not_provided(need.modules)
        observed.outdated = drivers.all_outdated(need.kinds)
        observed.unfiltered = senders.why_not() if need.senders else ""
        observed.accounts = taps.ids(need.accounts)
        if need.leases:
            _leases(need.leases, observed)
        observed.nameservers = tuple(_nameservers())
        identity.identify(observed, need.records)
        for workload, name in need.hidden:
            observed.hide(workload, name)
    finally:
        os.close(own)
    return observed


_CAP_NET_ADMIN = 12


def _is_admin() -> bool:
    """Whether this process may change links; True where /proc does not tell."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return True


def _writable_sysctls() -> bool:
    try:
        return not os.statvfs("/proc/sys/net").f_flag & os.ST_RDONLY
    except OSError:
        return True


def _nameservers() -> Iterator[str]:
    for path in RESOLVERS:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _rest, value = " ".join(line.split()).partition(" ")
                with contextlib.suppress(ValueError):
                    if key == "nameserver":
                        yield str(ipaddress.ip_address(value.partition("%")[0]))


def _asked_for(need: Need, workloads: Iterable[str], observed: HostState, own: int) -> None:
    """The namespaces of workloads, in full; two workloads may share one."""
    inhabited: Optional[Set[Tuple[int, int]]] = namespace_search.inhabited() if need.everywhere else None
    for workload in workloads:
        if workload == HOST:
            continue
        try:
            path = workload_namespaces.resolve(workload)
            namespace = Namespace(workload, path, namespaces.identity(path))
            if namespace.identity == observed.host.identity:
                raise NamespaceError(f"{workload} is in the host's own network namespace")
            namespace.managed = _is_managed(workload)
            namespace.started = workload_namespaces.started(workload)
            namespace.container = _container(workload)
            _same_process(namespace, need)
            with namespaces.entered(path):
                kernel = Socket()
                tables = senders.read() if need.senders else {}
        except errors.NamespaceMissing:
            continue
        except NamespaceError as error:
            observed.refusals[workload] = str(error)
            if isinstance(error, errors.WorkloadGone):
                observed.gone.add(workload)
            continue
        except FileNotFoundError:
            observed.refusals[workload] = f"{workload} went away"
            observed.gone.add(workload)
            continue
        with kernel:
            namespace.cookie = kernel.cookie
            _links(kernel, namespace, own)
            _addresses(kernel, namespace)
            _routes(kernel, namespace)
            if need.rules:
                namespace.rules = kernel.dump(encode.all_rules(), decode.rule)
            if need.rates:
                rates.observe(kernel, namespace)
        taps.observe(namespace)
        senders.observe(namespace, tables)
        namespace.processes = inhabited is not None and namespace.identity in inhabited
        observed.namespaces[workload] = namespace


def _siblings(need: Need, observed: HostState, own: int) -> None:
    """Other workloads in the namespaces that are described, and the names of those that are only looked into.

    Engines are asked for their containers only where a link with our mark is there that no known name accounts for.
    """
    siblings = [workload for workload in need.siblings if workload not in observed.namespaces]
    engines = [workload for workload in siblings if workload.startswith(("docker:", "podman:"))]
    _place(observed, [workload for workload in siblings if workload not in engines])
    if engines and _unaccounted(need, observed):
        containers.ask((*need.workloads, *need.readers, *engines), again=True)
        _place(observed, engines)
    seen = {namespace.identity for namespace in observed.namespaces.values()}
    _asked_for(need, [workload for workload, which in observed.spaces.items() if which in seen], observed, own)
    names = {which: workload for workload, which in observed.spaces.items()}
    for namespace in observed.others:
        namespace.workload = names.get(namespace.identity, namespace.workload)


def _place(observed: HostState, workloads: Iterable[str]) -> None:
    for workload in workloads:
        with contextlib.suppress(NamespaceError, OSError):
            observed.spaces[workload] = namespaces.identity(workload_namespaces.resolve(workload))


def _unaccounted(need: Need, observed: HostState) -> bool:
    recorded = need.records.get("link", {})
    names = {which: workload for workload, which in observed.spaces.items()}
    return any(
        link.group in LINK_GROUPS
        and link_key(namespace.workload, link.name) not in recorded
        and link_key(names.get(namespace.identity, ""), link.name) not in recorded
        for namespace in (*observed.namespaces.values(), *observed.others)
        for link in namespace.links.values()
    )


def _same_process(namespace: Namespace, need: Need) -> None:
    """Raises WorkloadGone where a process has the number of the one that was attached, which ended."""
    record = need.records.get("process", {}).get(namespace.workload)
    if record is not None and record.spec.get("started", namespace.started) != namespace.started:
        raise errors.WorkloadGone(
            f"{namespace.workload} is not the process that was attached, which has ended:"
            " make the endpoint of that one absent or released"
        )


def _container(workload: str) -> str:
    engine, _colon, name = workload.partition(":")
    return containers.number(engine, name) if engine in ("docker", "podman") else ""


def _is_lost(need: Need, observed: HostState) -> bool:
    """Whether a link of ours is not in its workload: it may live on where that was before."""
    workloads = set(need.workloads)
    specs = (record.spec for record in need.records.get("link", {}).values())
    return any(spec["netns"] in workloads and not observed.link(spec["netns"], spec["name"]) for spec in specs)


def _elsewhere(need: Need, observed: HostState) -> None:
    """Where the recorded containers are that have another name now."""
    for workload, record in need.records.get("process", {}).items():
        number, namespace = record.spec.get("container"), observed.namespaces.get(workload)
        if not number or workload not in need.workloads or (namespace and namespace.container == number):
            continue
        engine = workload.partition(":")[0]
        with contextlib.suppress(NamespaceError, OSError):
            observed.elsewhere[workload] = namespaces.identity(workload_namespaces.resolve(f"{engine}:{number}"))


def _is_managed(workload: str) -> bool:
    engine, _rest, name = workload.partition(":")
    return engine in ("docker", "podman") and containers.managed(engine, name)


def _names(need: Need, observed: HostState) -> None:
    """Our blocks in the hosts files and the resolv.conf of the workloads that have them: named namespaces and containers."""
    siblings = [name for name in observed.namespaces if name in need.siblings and not name.startswith("pid:")]
    readers = dict.fromkeys((*need.readers, *siblings))
    resolvers = {*need.resolvers, *need.records.get("resolver", {})}
    for kind in change.FILE_KINDS:
        asked = readers if kind == "hosts" else [reader for reader in readers if reader in resolvers]
        for workload, text in blocks.read(kind, asked).items():
            if isinstance(text, bytes):
                observed.blocks[kind, workload] = change.digest_of(text) if text else ""
            elif isinstance(text, errors.WorkloadNotRunning):
                observed.gone.add(workload)
            else:
                observed.unwritable[kind, workload] = str(text)
                if isinstance(text, errors.WorkloadFileSlow):
                    observed.slow.add((kind, workload))


def _others(kernel: Socket, observed: HostState, own: int, rules: bool) -> None:
    """The links in every other namespace that sit on one of the host's. ``kernel`` is a socket of the host.

    ``rules``: those beside a link with our mark, which do not go with it.
    """
    seen = {observed.host.identity, *(namespace.identity for namespace in observed.namespaces.values())}
    numbered = set(kernel.dump(encode.all_nsids(), decode.nsid))  # also what nothing but a socket, say, keeps alive
    for label, path, which in namespace_search.everything():
        try:
            with namespaces.entered(path) as descriptor:
                there = None if which in seen else Socket()
                if numbered:
                    numbered.difference_update(kernel.ask((encode.get_nsid(descriptor),), decode.nsid))
        except NamespaceError:  # gone meanwhile
            continue
        if there is None:
            continue
        with there:
            namespace = Namespace(label, path, which)
            _links(there, namespace, own)
            namespace.cookie = there.cookie
            if any(link.parent_ns == HOST for link in namespace.links.values()):
                _addresses(there, namespace)
                if rules and any(link.group in LINK_GROUPS for link in namespace.links.values()):
                    namespace.rules = there.dump(encode.all_rules(), decode.rule)
                if label.startswith("net:["):
                    namespace.workload = namespace_search.label(which) or label
                observed.others.append(namespace)
    observed.unseen = namespace_search.unseen()
    observed.searched = not observed.unseen
    for number in numbered:
        namespace = Namespace(f"a namespace without a name (nsid {number})", "", (0, number), nsid=number)
        with contextlib.suppress(NetlinkError):  # gone meanwhile
            _links(kernel, namespace, own, number)
            if any(link.parent_ns == HOST for link in namespace.links.values()):
                _addresses(kernel, namespace, number)
            observed.others.append(namespace)


def _links(kernel: Socket, namespace: Namespace, own: int, nsid: Optional[int] = None) -> None:
    """``own`` is a descriptor of the host's namespace, ``nsid`` the number of a namespace that is not the socket's."""
    links = kernel.dump(encode.all_links(nsid), decode.link)
    namespace.add(*links)
    abroad = [link for link in links if link.parent_ns is not None]
    if abroad:  # only now: a namespace is numbered when a dump first has to name it
        number = kernel.ask((encode.get_nsid(own),), decode.nsid)[0]
        for link in abroad:
            link.parent_ns = HOST if link.parent_ns == str(number) and namespace.workload != HOST else "?"


def _leases(state_dir: str, observed: HostState) -> None:
    observed.leases = leases.current(state_dir)
    observed.unleased = "" if lease_socket.answers() else "no DHCP client runs on this host"


def _bridge_vlans(kernel: Socket, observed: HostState) -> None:
    """What the bridges that filter VLANs let in to the host itself."""
    bridges = {
        index for index, link in observed.host.links.items() if link.kind == "bridge" and link.data["vlan_filtering"]
    }
    if bridges:
        found = kernel.dump(encode.bridge_vlans(), decode.bridge_vlans)
        observed.bridge_vlans = {
            **{index: set() for index in bridges},
            **{index: vlans for index, vlans in found if index in bridges},
        }


def _drivers(namespace: Namespace) -> None:
    """The drivers of the NICs, which no message names."""
    for link in namespace.links.values():
        if link.device:
            with contextlib.suppress(OSError):
                path = os.readlink(f"/sys/bus/{link.bus}/devices/{link.device}/driver")
                link.driver = os.path.basename(path)


def _addresses(kernel: Socket, namespace: Namespace, nsid: Optional[int] = None) -> None:
    for address in kernel.dump(encode.all_addresses(nsid), decode.address):
        namespace.addresses.setdefault(address.ifindex, []).append(address)


def _routes(kernel: Socket, namespace: Namespace) -> None:
    namespace.routes_seen = True
    for routes in kernel.dump(encode.all_routes(), decode.routes):
        namespace.routes += routes
