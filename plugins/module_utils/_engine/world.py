# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that planning and the kernel share: what is there, and what is to change.

Everything here is plain data. ``kernel.observe`` fills a :class:`World`, ``plan`` compares it with
what is wanted and lists :class:`Change` objects, ``kernel.apply`` carries them out, and the same
:meth:`World.find` then tells whether the kernel really did.

A *spec* is a flat dict of JSON values, the canonical form of one object. Kernel objects are:

``netns``    ``netns`` (a workload, such as ``netns:blue``)
``link``     ``netns``, ``name``, ``kind``, ``parent``, ``mtu``, ``mac``, ``up``, ``group``,
             ``altnames``, ``presence``, ``sysctls``, and the options of its kind
``address``  ``netns``, ``link``, ``address`` (with prefix length)
``route``    ``netns``, ``prefix``, ``type``, ``via``, ``dev``, ``src``, ``metric``, ``table``, ``protocol``

Our block in a workload's hosts file is ``hosts``: ``netns`` and the ``digest`` of its lines.

Every other kind (``network``, ``endpoint``, ``lease``, ...) is a record that only the registry keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from . import isolation

#: Marks every link that we made (IFLA_GROUP); named ``netops-underlay`` in iproute2's ``group`` table.
LINK_GROUP = 8021
#: Transactions address the links that they make by a group of their own, from this range (`ip` takes no group
#: above 2^31).
PRIVATE_GROUPS = range(802100000, 802200000)  # below 2**31: iproute2 takes no more
#: Marks every route and address that we made (rtm_protocol, IFA_PROTO); named in ``rt_protos``.
PROTOCOL = 201

#: The namespace that the engine runs in.
HOST = ""

Spec = Dict[str, Any]

KERNEL_KINDS = ("netns", "link", "address", "route")
#: Everything that can be looked up on the host: the kernel's objects, and our block in a workload's hosts file.
HOST_KINDS = (*KERNEL_KINDS, "hosts")


def link_key(netns: str, name: str) -> str:
    return f"{netns}/{name}" if netns else name


def address_key(spec: Spec) -> str:
    return link_key(spec["netns"], spec["link"]) + " " + str(spec["address"])


def route_key(spec: Spec) -> str:
    return link_key(spec["netns"], f"{spec['prefix']} table {spec['table']} metric {spec['metric']}")


class Record(NamedTuple):
    """An object as the registry keeps it."""

    spec: Spec
    of: str  # the item that it belongs to, such as ``network:web``; see Change


#: kind -> key -> what the registry keeps of it
Records = Dict[str, Dict[str, Record]]


class Change(NamedTuple):
    """One step of a plan. ``before`` is None for a creation, ``after`` for a removal.

    A creation or removal carries the whole spec, an update the identity and what differs.
    """

    kind: str
    key: str
    before: Optional[Spec]
    after: Optional[Spec]
    reason: str
    of: str = ""  # the item that it belongs to, such as ``network:web``

    def inverse(self) -> Change:
        return Change(self.kind, self.key, self.after, self.before, "undo: " + self.reason, self.of)

    @property
    def verb(self) -> str:
        if self.before is None:
            return "create"
        return "remove" if self.after is None else "change"


class Link:
    """A link as the kernel describes it (RTM_NEWLINK), decoded as far as planning needs it."""

    __slots__ = (
        "alias", "altnames", "conf4", "conf6", "data", "device", "genmode", "group", "index", "kind", "mac",
        "master", "mtu", "name", "parent", "parent_ns", "perm_mac", "up",
    )  # fmt: skip

    index: int
    name: str
    kind: str  # IFLA_INFO_KIND, "" for a physical link
    parent: int  # IFLA_LINK, 0 for none: an ifindex in the namespace ``parent_ns``
    parent_ns: Optional[str]  # None: the link's own namespace; HOST; "?": some other one
    master: int  # IFLA_MASTER, 0 for none
    mtu: int
    up: bool  # IFF_UP, the administrative state
    group: int
    mac: str
    perm_mac: str  # IFLA_PERM_ADDRESS, "" where the driver has none
    device: str  # IFLA_PARENT_DEV_NAME, such as a PCI address; "" for none
    alias: str
    altnames: Tuple[str, ...]
    data: Spec  # the options of its kind, under the names of the link spec
    conf4: Optional[Tuple[int, ...]]  # IFLA_INET_CONF: ipv4 devconf, index 0 is IPV4_DEVCONF_FORWARDING
    conf6: Optional[Tuple[int, ...]]  # IFLA_INET6_CONF: ipv6 devconf; None on a kernel without IPv6
    genmode: Optional[int]  # IFLA_INET6_ADDR_GEN_MODE


class Address(NamedTuple):
    ifindex: int
    address: str  # with prefix length
    protocol: int  # IFA_PROTO, 0 on kernels before 5.18
    scope: int
    flags: int  # IFA_F_*


class Route(NamedTuple):
    prefix: str
    type: str  # unicast, unreachable, blackhole, prohibit, local, ...
    via: Optional[str]
    oif: int  # 0 for none
    src: Optional[str]
    metric: int
    table: int
    protocol: int
    scope: int


@dataclass
class Namespace:
    """A network namespace and what is in it."""

    workload: str  # HOST, "netns:NAME", "pid:N", "docker:NAME", "podman:NAME", or a path for any other
    path: str
    identity: Tuple[int, int]  # st_dev and st_ino of the nsfs inode; another may get it later
    cookie: int = 0  # SO_NETNS_COOKIE, which no other ever gets; 0 before Linux 5.14
    links: Dict[int, Link] = field(default_factory=dict)
    names: Dict[str, Link] = field(default_factory=dict)  # by name and by alternative name
    addresses: Dict[int, List[Address]] = field(default_factory=dict)  # by ifindex
    routes: List[Route] = field(default_factory=list)
    managed: bool = False  # a container engine gives it links of its own, named ``ethN``
    processes: bool = False  # somebody lives in it; with Need.everywhere
    _places: Tuple[List[Route], int, Dict[Tuple[object, ...], Route]] = field(default=([], 0, {}), init=False, repr=False, compare=False)

    def route(self, *identity: object) -> Optional[Route]:
        """The first route of a prefix, metric, table and protocol."""
        routes, count, places = self._places
        if routes is not self.routes or count != len(routes):
            places = {}
            for route in self.routes:
                places.setdefault((route.prefix, route.metric, route.table, route.protocol), route)
            self._places = (self.routes, len(self.routes), places)
        return places.get(identity)

    def add(self, link: Link) -> None:
        self.links[link.index] = link
        self.names[link.name] = link
        for name in link.altnames:
            self.names[name] = link


@dataclass
class Need:
    """What an observation has to cover, beside the links and addresses of the host itself."""

    workloads: Tuple[str, ...] = ()  # namespaces to describe in full, where they exist
    everywhere: bool = False  # the links of every other namespace too (who sits on our parents?)
    routes: bool = False  # the routes of the host, all tables
    kinds: Tuple[str, ...] = ()  # of links that may have to be made
    load: bool = False  # their drivers, if need be
    readers: Tuple[str, ...] = ()  # workloads whose hosts files tell, or shall tell, the names of others


@dataclass
class World:
    """The kernel's side of a host at one instant."""

    host: Namespace
    namespaces: Dict[str, Namespace] = field(default_factory=dict)  # by workload, those asked for that exist
    others: List[Namespace] = field(default_factory=list)  # links only; with Need.everywhere
    refusals: Dict[str, str] = field(default_factory=dict)  # workload -> why it cannot be entered
    gone: Set[str] = field(default_factory=set)  # the workloads that ended: nothing of theirs is left in the kernel
    ipv6: bool = True
    lacking: Set[str] = field(default_factory=set)  # the kinds of Need.kinds that the kernel has no driver for
    held: Dict[str, Dict[str, str]] = field(default_factory=dict)  # network -> address -> MAC of a stranger on the wire
    controllers: Tuple[str, ...] = ()  # the addresses from which this host is managed, as far as they are known
    nameservers: Tuple[str, ...] = ()  # the addresses that this host asks for names
    managed_at: Tuple[str, ...] = ()  # the host's own addresses that those are connected to
    directed: bool = False  # they are those from which this very run is
    names: Dict[str, str] = field(default_factory=dict)  # reader -> the digest of our block, "" where there is none
    unwritable: Dict[str, str] = field(default_factory=dict)  # reader -> why its hosts file cannot be written

    def namespace(self, workload: str) -> Optional[Namespace]:
        return self.host if workload == HOST else self.namespaces.get(workload)

    def link(self, workload: str, name: str) -> Optional[Link]:
        """The link of a name in the host or in a workload; None also where that cannot be looked into."""
        space = self.namespace(workload)
        return space.names.get(name) if space else None

    def find(self, kind: str, spec: Spec) -> Optional[Spec]:
        """The object that a spec identifies as it is now, in full, or None where there is none."""
        if kind == "hosts":
            digest = self.names.get(spec["netns"])
            return {"netns": spec["netns"], "digest": digest} if digest else None
        space = self.namespace(spec["netns"])
        if space is None:
            return None
        if kind == "netns":
            return {"netns": spec["netns"]}
        if kind == "link":
            link = space.names.get(spec["name"])
            return None if link is None else self.link_spec(space, link, spec.get("presence"))
        if kind == "address":
            link = space.names.get(spec["link"])
            for address in space.addresses.get(link.index, ()) if link else ():
                if address.address == spec["address"]:
                    return {"netns": spec["netns"], "link": spec["link"], "address": address.address}
            return None
        route = space.route(spec["prefix"], spec["metric"], spec["table"], spec["protocol"])
        return self.route_spec(space, route) if route else None

    def link_spec(self, space: Namespace, link: Link, presence: Optional[str] = None) -> Spec:
        """A link in the canonical form, every attribute that a plan may speak of; ``presence`` if that fits too."""
        where = space if link.parent_ns is None else self.host if link.parent_ns == HOST else None
        parent = where.links.get(link.parent) if where else None
        return {
            "netns": space.workload,
            "name": link.name,
            "kind": link.kind,
            "parent": parent.name if parent else None,
            "mtu": link.mtu,
            "mac": link.mac,
            "up": link.up,
            "group": link.group,
            "altnames": list(link.altnames),
            "presence": isolation.presence(link, presence),
            "sysctls": isolation.Sysctls(link),
            **link.data,
        }

    @staticmethod
    def route_spec(space: Namespace, route: Route) -> Spec:
        device = space.links.get(route.oif)
        return {
            "netns": space.workload,
            "prefix": route.prefix,
            "type": route.type,
            "via": route.via,
            "dev": device.name if device else None,
            "src": route.src,
            "metric": route.metric,
            "table": route.table,
            "protocol": route.protocol,
        }

    def is_usurped(self, kind: str, spec: Spec) -> bool:
        """Whether a link that we made, or that an address of ours was on, has given way to one that does not bear our mark."""
        link = self.link(spec["netns"], spec["name" if kind == "link" else "link"]) if kind in ("link", "address") else None
        marked = kind == "address" or spec.get("group") == LINK_GROUP
        return link is not None and marked and link.group != LINK_GROUP and link.group not in PRIVATE_GROUPS

    def foreign_routes(self, index: int) -> List[Route]:
        """Routes of the host over a link that neither we nor the kernel made (rtm_protocol 2 is RTPROT_KERNEL)."""
        return [route for route in self.host.routes if route.oif == index and route.protocol not in (2, PROTOCOL)]

    @cached_property
    def children(self) -> Dict[int, List[Tuple[Namespace, Link]]]:
        """What sits on each link of the host, by its ifindex, in every namespace that was looked into."""
        found: Dict[int, List[Tuple[Namespace, Link]]] = {}
        for space in (self.host, *self.namespaces.values(), *self.others):
            whose = None if space is self.host else HOST
            for link in space.links.values():
                if link.parent and link.parent_ns == whose:
                    found.setdefault(link.parent, []).append((space, link))
        return found


def merged(old: Spec, after: Spec) -> Spec:
    """A spec after an update, which names only what differs."""
    found = {**old, **after}
    if "sysctls" in old and "sysctls" in after:
        found["sysctls"] = {**old["sysctls"], **after["sysctls"]}
    return found


def differences(now: Spec, wanted: Spec) -> Optional[Tuple[Spec, Spec]]:
    """What of ``wanted`` is otherwise ``now``, as the two sides of a change; None where nothing is."""
    if now == wanted:  # most are, and to ask costs less than to go through them
        return None
    before: Spec = {}
    after: Spec = {}
    for key, value in wanted.items():
        if now.get(key) != value:
            if key == "sysctls":
                after[key] = {name: number for name, number in value.items() if now[key].get(name) != number}
                before.setdefault(key, {}).update({name: now[key].get(name) for name in after[key]})
            else:
                before[key] = now.get(key)
                after[key] = value
            if key == "presence" and value and "sysctls" in now:
                # A presence is a name for some settings: only the numbers lead back to others.
                old = {name: now["sysctls"].get(name) for name in isolation.settings(value)}
                before.setdefault("sysctls", {}).update({name: number for name, number in old.items() if number is not None})
    return (before, after) if after else None
