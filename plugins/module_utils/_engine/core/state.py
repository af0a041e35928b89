# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as the kernel describes it, at one instant.

``kernel.observe`` fills a :class:`HostState`, ``plan`` compares it with the desired state, and after the changes
:meth:`HostState.find` says whether the kernel really made them.
"""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, cast

from . import isolation
from .change import (
    FILE_KINDS,
    HOST,
    LINK_GROUPS,
    NAMESPACE_MARK,
    PRIVATE_GROUPS,
    PROTOCOL,
    Change,
    Records,
    has_senders,
    link_key,
)
from .lease_specs import Lease
from .rates import Rate
from .route_specs import MAIN_TABLE
from .specs import Generic, KindOptions, LinkSpec, Spec

LOOPBACK = 772  # ARPHRD_LOOPBACK
RTPROT_KERNEL = 2
#: Of an IPv4 address that brings no connected route: IFA_F_SECONDARY (the first of its subnet does), IFA_F_NOPREFIXROUTE.
_UNCONNECTED = 0x01 | 0x200
#: The kinds of which the kernel has one in a place, whatever its namespace is called: see HostState.place.
PLACED = ("route", "rule")


class Link:
    """A link as the kernel describes it (RTM_NEWLINK), decoded as far as planning needs it."""

    index: int
    name: str
    kind: str  # IFLA_INFO_KIND, "" for a physical link
    parent: int  # IFLA_LINK, 0 for none: an ifindex in the namespace ``parent_ns``
    parent_ns: Optional[str]  # None: the link's own namespace; HOST; "?": some other one
    lowers: Tuple[int, ...]  # the links below that its kind names by attributes of its own, such as IFLA_VXLAN_LINK
    master: int  # IFLA_MASTER, 0 for none
    mtu: int
    up: bool  # IFF_UP, the administrative state
    noarp: bool  # IFF_NOARP
    type: int  # ARPHRD_*, 1 for Ethernet
    group: int
    mac: str
    perm_mac: str  # IFLA_PERM_ADDRESS, "" where the driver has none
    device: str  # IFLA_PARENT_DEV_NAME, such as a PCI address; "" for none
    bus: str  # IFLA_PARENT_DEV_BUS_NAME, such as pci
    port: str  # IFLA_PHYS_PORT_ID in hexadecimal digits, "" where the driver has none
    driver: str  # of the device, as sysfs names it; "" for none
    alias: str
    altnames: Tuple[str, ...]
    data: KindOptions
    conf4: Optional[Tuple[int, ...]]  # IFLA_INET_CONF: ipv4 devconf, index 0 is IPV4_DEVCONF_FORWARDING
    conf6: Optional[Tuple[int, ...]]  # IFLA_INET6_CONF: ipv6 devconf; None on a kernel without IPv6
    genmode: Optional[int]  # IFLA_INET6_ADDR_GEN_MODE

    @property
    def is_loopback(self) -> bool:
        """Whatever it is called: ARPHRD_LOOPBACK."""
        return self.type == LOOPBACK


_IFA_F_TEMPORARY, _IFA_F_PERMANENT, _IFA_F_MANAGETEMPADDR = 0x01, 0x80, 0x100


class Address(NamedTuple):
    """An address of a link, as RTM_GETADDR tells it."""

    ifindex: int
    address: str  # with prefix length
    protocol: int  # IFA_PROTO, 0 on kernels before 5.18
    scope: int
    flags: int  # IFA_F_*

    @property
    def is_slaac(self) -> bool:
        """Whether the kernel made it of a router advertisement, which no other address is flagged as; temporary ones aside."""
        return self.flags & (_IFA_F_MANAGETEMPADDR | _IFA_F_PERMANENT) == _IFA_F_MANAGETEMPADDR

    @property
    def is_leased(self) -> bool:
        """Whether it has a lifetime, as a DHCP client gives one; those of items have none, and those of routers other flags."""
        if ":" in self.address and (self.scope or self.flags & (_IFA_F_MANAGETEMPADDR | _IFA_F_TEMPORARY)):
            return False
        return not self.flags & _IFA_F_PERMANENT and self.protocol != PROTOCOL


class Route(NamedTuple):
    """A route, as RTM_GETROUTE tells it."""

    prefix: str
    type: str  # unicast, unreachable, blackhole, prohibit, local, ...
    via: Optional[str]
    oif: int  # 0 for none
    src: Optional[str]
    metric: int
    table: int
    protocol: int
    scope: int


class Rule(NamedTuple):
    """A rule for the choice of a table, as RTM_GETRULE tells it."""

    source: str  # "" where it looks at anything but the source
    table: int
    priority: int
    protocol: int  # FRA_PROTOCOL


@dataclass
class Namespace:
    """A network namespace and what is in it."""

    workload: str  # HOST, "netns:NAME", "pid:N", "docker:NAME", "podman:NAME", or a path for any other
    path: str
    identity: Tuple[int, int]  # st_dev and st_ino of the nsfs inode; another may get it later
    started: str = ""  # of a process: the boot and the time at which it began, which its number alone does not tell
    container: str = ""  # its id, which its name alone does not tell
    nsid: Optional[int] = None  # the host's number for it, where only a socket keeps it and there is no way in
    cookie: int = 0  # SO_NETNS_COOKIE, which no other ever gets; 0 before Linux 5.14
    links: Dict[int, Link] = field(default_factory=dict)
    names: Dict[str, Link] = field(default_factory=dict)  # by name and by alternative name
    addresses: Dict[int, List[Address]] = field(default_factory=dict)  # by ifindex
    routes: List[Route] = field(default_factory=list)
    routes_seen: bool = False  # they were asked for: those of the host with Need.routes
    rules: List[Rule] = field(default_factory=list)  # with Need.rules
    senders: Dict[int, List[str]] = field(default_factory=dict)  # by ifindex, with Need.senders; see ``kernel.senders``
    rates: Dict[Tuple[int, str], Rate] = field(default_factory=dict)  # by ifindex and direction; with Need.rates
    managed: bool = False  # a container engine gives it links of its own, named ``ethN``
    processes: bool = False  # somebody lives in it; with Need.everywhere
    _indexed: Tuple[List[Route], int, Dict[Tuple[object, ...], Route], Set[Tuple[str, int]]] = field(
        default=([], 0, {}, set()), init=False, repr=False, compare=False
    )

    def route(self, *identity: object) -> Optional[Route]:
        """The first route of a prefix, metric, table and protocol."""
        return self._index()[0].get(identity)

    def is_cut_off(self, address: Address) -> bool:
        """Whether nothing leads to the subnet of an address over its link: the kernel makes the connected route with the address, and not again."""
        if not (self.routes_seen and self.links[address.ifindex].up):
            return False
        network = ipaddress.ip_interface(address.address).network
        without = network.num_addresses == 1 or (network.version == 4 and address.flags & _UNCONNECTED)
        return not without and (str(network), address.ifindex) not in self._index()[1]

    def _index(self) -> Tuple[Dict[Tuple[object, ...], Route], Set[Tuple[str, int]]]:
        """The routes by what identifies one, and the subnets that a link leads to, in whatever table the kernel put that."""
        routes, count, places, connected = self._indexed
        if routes is not self.routes or count != len(routes):
            places, connected = {}, set()
            for route in self.routes:
                places.setdefault((route.prefix, route.metric, route.table, route.protocol), route)
                if route.type == "unicast" and route.via is None and _is_connected(route):
                    connected.add((route.prefix, route.oif))
            self._indexed = (self.routes, len(self.routes), places, connected)
        return places, connected

    @property
    def mark(self) -> str:
        """The alias of the loopback, whatever that is called: that of :func:`~.change.namespace_mark` in a namespace that we made."""
        return next((link.alias for link in self.links.values() if link.is_loopback), "")

    @property
    def is_marked(self) -> bool:
        """Whether we made it, in whatever transaction."""
        return self.mark.partition(" ")[0] == NAMESPACE_MARK

    def add(self, *links: Link) -> None:
        """Links, each under all of its names."""
        self.links.update({link.index: link for link in links})
        self.names.update({link.name: link for link in links})
        for link in links:
            for name in link.altnames:
                self.names[name] = link


def _is_connected(route: Route) -> bool:
    """Whether it is the kernel's own, or stands in its place; one of ours comes and goes with its item."""
    return route.protocol == RTPROT_KERNEL or (route.table == MAIN_TABLE and route.protocol != PROTOCOL)


@dataclass
class Need:
    """What an observation has to cover, beside the links and addresses of the host itself."""

    workloads: Tuple[str, ...] = ()  # namespaces to describe in full, where they exist
    everywhere: bool = False  # the links of every other namespace too (who sits on our parents?)
    routes: bool = False  # the routes of the host, all tables
    rules: bool = False  # the rules of the workloads
    senders: bool = False  # from which addresses their links may send
    rates: bool = False  # what limits the links of the workloads
    modules: Tuple[str, ...] = ()  # of the kernel, that rates may need
    kinds: Tuple[str, ...] = ()  # of links that may have to be made
    load: bool = False  # their drivers, if need be
    accounts: Tuple[str, ...] = ()  # users and groups whose numbers are needed: user:NAME, group:NAME
    readers: Tuple[str, ...] = ()  # workloads whose hosts files have, or must have, the names of others
    resolvers: Tuple[
        str, ...
    ] = ()  # of these, those that get a resolver; those that are recorded to have one count too
    siblings: Tuple[
        str, ...
    ] = ()  # workloads that may be in the namespace of one of those: then they are described too
    leases: str = ""  # the state directory whose leases of DHCP servers are read, and whether their client runs
    again: bool = False  # in a run that has looked before
    hidden: Tuple[Tuple[str, str], ...] = ()  # what an earlier look found to be HostState.hidden
    records: Records = field(default_factory=dict, repr=False)  # what the things are known by that it names


def wants_leases(records: Records) -> bool:
    """Whether endpoints are recorded to have leases of DHCP servers."""
    return any(record.spec["dhcp"] or record.spec["dhcp6"] for record in records.get("endpoint", {}).values())


def need_of_records(
    records: Records,
    state_dir: str,
    workloads: Iterable[str],
    readers: Iterable[str] = (),
    siblings: Iterable[str] = (),
) -> Need:
    """What shows everything that is recorded of some workloads, and whatever stands on it."""
    return Need(
        tuple(workloads),
        everywhere=True,
        routes=True,
        rules=bool(records.get("rule")),
        senders=has_senders(records),
        rates=bool(records.get("rate")),
        readers=tuple(readers),
        siblings=tuple(siblings),
        leases=state_dir if wants_leases(records) else "",
        records=records,
    )


@dataclass
class HostState:
    """The kernel's side of a host at one instant."""

    host: Namespace
    namespaces: Dict[str, Namespace] = field(default_factory=dict)  # by workload, those asked for that exist
    others: List[Namespace] = field(default_factory=list)  # links only; with Need.everywhere
    refusals: Dict[str, str] = field(default_factory=dict)  # workload -> why it cannot be entered
    gone: Set[str] = field(default_factory=set)  # the workloads that ended: nothing of theirs is left in the kernel
    unseen: str = ""  # why namespaces with links on the host's may be missed here
    searched: bool = False  # every namespace was looked into; with Need.everywhere, where none is unseen
    # Workloads that cannot be asked where they are, while a plan removes their links wherever those are: see ``plan``.
    traced: Set[str] = field(default_factory=set)
    ipv6: bool = True
    lacking: Set[str] = field(default_factory=set)  # of Need.kinds and Need.modules, what the kernel has no driver for
    outdated: Dict[str, str] = field(default_factory=dict)  # of those, what the kernel is too old for -> why
    bridge_vlans: Dict[int, Set[int]] = field(
        default_factory=dict
    )  # ifindex of a bridge that filters VLANs -> what it lets in to the host; 0: untagged frames
    unfiltered: str = ""  # why links cannot be held to their own addresses here; with Need.senders
    leases: Dict[str, Lease] = field(
        default_factory=dict
    )  # by lease_key, those that have not expired; with Need.leases
    unleased: str = ""  # why no client asks for leases here; with Need.leases
    accounts: Dict[str, int] = field(default_factory=dict)  # of Need.accounts, those that the host has
    is_admin: bool = True  # this process has CAP_NET_ADMIN
    writable_sysctls: bool = True  # /proc/sys/net may be written, as it may not in an unprivileged container
    held: Dict[str, Dict[str, str]] = field(default_factory=dict)  # network -> address -> MAC of a stranger on the wire
    controllers: Tuple[str, ...] = ()  # the addresses from which this host is managed, as far as they are known
    nameservers: Tuple[str, ...] = ()  # the addresses that this host asks for names
    managed_at: Tuple[str, ...] = ()  # the host's own addresses that those are connected to
    directed: bool = False  # they are those from which this very run is
    # kind of FILE_KINDS and reader -> the digest of our block, "" where there is none
    blocks: Dict[Tuple[str, str], str] = field(default_factory=dict)
    unwritable: Dict[Tuple[str, str], str] = field(default_factory=dict)  # of such a file -> why it cannot be written
    slow: Set[Tuple[str, str]] = field(default_factory=set)  # of these, those which did not open in time
    spaces: Dict[str, Tuple[int, int]] = field(default_factory=dict)  # workload of Need.siblings -> Namespace.identity
    # workload of a recorded container that runs on, under another name -> the namespace it is in
    elsewhere: Dict[str, Tuple[int, int]] = field(default_factory=dict)
    # workload and name of a link there that another workload in the same namespace has -> the key of its record
    hidden: Dict[Tuple[str, str], str] = field(default_factory=dict)
    era: str = ""  # the host's namespace in this boot: an ifindex means one link in it
    # What the registry's names of things lead to: see ``identity``.
    nics: Dict[str, Optional[Link]] = field(default_factory=dict)  # the registry's name -> the NIC it was given to
    handles: Dict[int, str] = field(default_factory=dict)  # ifindex -> the registry's name of a renamed NIC
    shadowed: Dict[str, Link] = field(default_factory=dict)  # the registry's name -> another link called so now
    disputes: Dict[str, str] = field(default_factory=dict)  # of those, where nothing says which is meant -> why
    renamed: Dict[Tuple[str, int], str] = field(default_factory=dict)  # workload and ifindex of ours -> recorded name

    def namespace(self, workload: str) -> Optional[Namespace]:
        """The namespace of a workload; None where it was not observed."""
        return self.host if workload == HOST else self.namespaces.get(workload)

    def space(self, workload: str) -> Optional[Tuple[int, int]]:
        """Which namespace a workload is in, whatever it is called; None where that is not known."""
        namespace = self.namespaces.get(workload)
        return namespace.identity if namespace else self.spaces.get(workload)

    def is_silent(self, workload: str) -> bool:
        """Whether a workload may live, but where is unknown, as of a container whose engine does not answer."""
        return workload in self.refusals and workload not in self.gone

    def shared(self, workload: str) -> List[str]:
        """All that the namespace of a workload is called, as far as it is known, that workload first."""
        return [workload, *(name for name in self._names.get(self.space(workload), ()) if name != workload)]

    @cached_property
    def _names(self) -> Dict[Optional[Tuple[int, int]], List[str]]:
        found: Dict[Optional[Tuple[int, int]], List[str]] = {}
        for workload in sorted({*self.spaces, *self.namespaces}):
            found.setdefault(self.space(workload), []).append(workload)
        return found

    def keys(self, namespace: Namespace, link: Link) -> List[str]:
        """The keys under which a link in a namespace may be recorded."""
        name = self.name_of(namespace, link)
        return [link_key(workload, name) for workload in self.shared(namespace.workload)]

    def place(self, spec: Spec) -> Tuple[object, ...]:
        """What makes a route or a rule one in the kernel, whatever its namespace is called."""
        where = self.space(spec["netns"]) or spec["netns"]
        return (where, spec.get("prefix"), spec.get("source"), spec["table"], spec.get("metric"))

    def succeeded(self, changes: Iterable[Change]) -> Set[str]:
        """The keys of the routes and rules that changes only record no more: what takes their place is recorded by another name."""
        removed: List[Change] = []
        taken: Dict[Tuple[object, ...], str] = {}
        for change in changes:
            if change.kind in PLACED and change.after is None:
                removed.append(change)
            elif change.kind in PLACED and change.after and change.after["netns"] != HOST:
                taken[self.place(change.after)] = change.key
        return {
            change.key
            for change in removed
            if change.before and taken.get(self.place(change.before), change.key) != change.key
        }

    def reach(self, namespace: Namespace) -> str:
        """By what changes find a namespace that was only looked into: which it is, for it may have no name."""
        if any(namespace is other for other in self.others):
            known = f"net:[{namespace.identity[1]}] {namespace.cookie}"
            namespace.workload = known if namespace.nsid is None else f"nsid:{namespace.nsid}"
            namespace.path = ""
            self.namespaces[namespace.workload] = namespace
            self.__dict__.pop("_names", None)
        return namespace.workload

    def hide(self, workload: str, name: str) -> None:
        """A link is another workload's, so that this one does not see it."""
        namespace = self.namespaces.get(workload)
        link = namespace.names.get(name) if namespace else None
        if namespace is not None and link is not None:
            for one in [one for one, found in namespace.names.items() if found is link]:
                del namespace.names[one]

    def link(self, workload: str, name: str) -> Optional[Link]:
        """The link of a name in the host or in a workload; None also where that cannot be looked into."""
        namespace = self.namespace(workload)
        return namespace.names.get(name) if namespace else None

    def called(self, link: Link) -> str:
        """The registry's name of a link of the host, which is the kernel's unless the link was renamed."""
        return self.name_of(self.host, link)

    def find(self, kind: str, spec: Spec) -> Optional[Spec]:
        """The object that a spec identifies as it is now, in full, or None where there is none."""
        if kind in FILE_KINDS:
            digest = self.blocks.get((kind, spec["netns"]))
            return {"netns": spec["netns"], "digest": digest} if digest else None
        namespace = self.namespace(spec["netns"])
        if namespace is None:
            return None
        if kind == "netns":
            return {"netns": spec["netns"]}
        if kind == "link":
            link = namespace.names.get(spec["name"])
            return None if link is None else cast(Spec, self.link_spec(namespace, link, spec.get("isolation")))
        if kind == "address":
            address = self.address(spec)
            return {"netns": spec["netns"], "link": spec["link"], "address": address.address} if address else None
        if kind == "rate":
            return self.rate_spec(spec)
        if kind == "rule":
            rule = Rule(spec["source"], spec["table"], spec["priority"], spec["protocol"])
            return self.rule_spec(spec["netns"], spec["link"], rule) if rule in namespace.rules else None
        route = namespace.route(spec["prefix"], spec["metric"], spec["table"], spec["protocol"])
        return self.route_spec(namespace, route) if route else None

    def link_spec(self, namespace: Namespace, link: Link, profile: Optional[str] = None) -> LinkSpec:
        """A link in the canonical form, every attribute that a plan may speak of; its isolation is ``profile`` if that fits too."""
        where = namespace if link.parent_ns is None else self.host if link.parent_ns == HOST else None
        parent = where.links.get(link.parent) if where else None
        return {
            "netns": namespace.workload,
            "name": self.handles.get(link.index, link.name) if namespace is self.host else link.name,
            "kind": link.kind,
            "parent": self.name_of(where, parent) if where and parent else None,
            "mtu": link.mtu,
            "parent_mtu": parent.mtu if parent else link.mtu,
            "mac": link.mac,
            "up": link.up,
            "group": link.group,
            "altnames": list(link.altnames),
            "isolation": isolation.profile(link, profile),
            "sysctls": isolation.Sysctls(link),
            "senders": namespace.senders.get(link.index),
            **link.data,
        }

    def name_of(self, namespace: Namespace, link: Link) -> str:
        """What records call a link that others refer to."""
        recorded = self.renamed.get((namespace.workload, link.index), link.name)
        return self.handles.get(link.index, recorded) if namespace is self.host else recorded

    def route_spec(self, namespace: Namespace, route: Route) -> Spec:
        """A route in the canonical form."""
        device = namespace.links.get(route.oif)
        return {
            "netns": namespace.workload,
            "prefix": route.prefix,
            "type": route.type,
            "via": route.via,
            "dev": self.name_of(namespace, device) if device else None,
            "src": route.src,
            "metric": route.metric,
            "table": route.table,
            "protocol": route.protocol,
        }

    @staticmethod
    def rule_spec(netns: str, link: str, rule: Rule) -> Spec:
        """The spec of an observed rule of the endpoint that has ``link``."""
        return {
            "netns": netns,
            "link": link,
            "source": rule.source,
            "table": rule.table,
            "priority": rule.priority,
            "protocol": rule.protocol,
        }

    def rate_spec(self, spec: Spec) -> Optional[Spec]:
        """The limit of ours on the link and direction of a spec; None where there is none, or another's."""
        limit = self.rate(spec)
        if limit is None or limit.foreign:
            return None
        where: Spec = {"netns": spec["netns"], "link": spec["link"], "direction": spec["direction"]}
        return {**where, "rate": limit.rate, "burst": limit.burst, "limit": limit.limit}

    def rate(self, spec: Generic) -> Optional[Rate]:
        """What limits the link and direction of a spec, ours or not; None for nothing."""
        namespace = self.namespace(spec["netns"])
        link = namespace.names.get(spec["link"]) if namespace else None
        return namespace.rates.get((link.index, spec["direction"])) if namespace and link else None

    def address(self, spec: Spec) -> Optional[Address]:
        """The address that a spec identifies, as the kernel has it."""
        namespace = self.namespace(spec["netns"])
        link = namespace.names.get(spec["link"]) if namespace else None
        there = namespace.addresses.get(link.index, ()) if namespace and link else ()
        return next((address for address in there if address.address == spec["address"]), None)

    def is_cut_off(self, spec: Spec) -> bool:
        """Whether the address that a spec identifies is there, and its connected route is not."""
        namespace, address = self.namespace(spec["netns"]), self.address(spec)
        return namespace is not None and address is not None and namespace.is_cut_off(address)

    @cached_property
    def marks_addresses(self) -> bool:
        """Whether the kernel keeps IFA_PROTO (since 5.18): it then marks the addresses of a loopback itself."""
        return any(address.protocol for address in itertools.chain(*self.host.addresses.values()))

    def is_replaced(self, kind: str, spec: Spec) -> bool:
        """Whether what we made has given way to something that does not have our mark: a namespace, a link, the link that an
        address of ours was on, or what limited one.
        """
        if kind == "rate":
            limit = self.rate(spec)
            return limit is not None and bool(limit.foreign)
        if kind == "netns":
            namespace = self.namespace(spec["netns"])
            return namespace is not None and not namespace.is_marked
        link = (
            self.link(spec["netns"], spec["name" if kind == "link" else "link"])
            if kind in ("link", "address")
            else None
        )
        marked = kind == "address" or spec.get("group") in LINK_GROUPS
        return link is not None and marked and link.group not in LINK_GROUPS and link.group not in PRIVATE_GROUPS

    def foreign_routes(self, index: int) -> List[Route]:
        """Routes of the host over a link that neither we nor the kernel made."""
        return self._foreign_routes.get(index, [])

    @cached_property
    def _foreign_routes(self) -> Dict[int, List[Route]]:
        found: Dict[int, List[Route]] = {}
        for route in self.host.routes:
            if route.protocol not in (RTPROT_KERNEL, PROTOCOL):
                found.setdefault(route.oif, []).append(route)
        return found

    @cached_property
    def members(self) -> Dict[int, List[Link]]:
        """The host's links that have each as their master, by its ifindex."""
        found: Dict[int, List[Link]] = {}
        for link in self.host.links.values():
            if link.master:
                found.setdefault(link.master, []).append(link)
        return found

    @cached_property
    def children(self) -> Dict[int, List[Tuple[Namespace, Link]]]:
        """What sits on each link of the host, by its ifindex, in every namespace that was looked into."""
        found: Dict[int, List[Tuple[Namespace, Link]]] = {}
        seen: Set[Tuple[int, int]] = set()
        for namespace in (self.host, *self.namespaces.values(), *self.others):
            if namespace.identity in seen:  # by another of its names
                continue
            seen.add(namespace.identity)
            whose = None if namespace is self.host else HOST
            for link in namespace.links.values():
                if link.parent_ns == whose:
                    for lower in {link.parent, *link.lowers} - {0}:
                        found.setdefault(lower, []).append((namespace, link))
        return found
