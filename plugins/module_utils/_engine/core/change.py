# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs, records and changes: the plain data that planning, the registry and the kernel share.

A *spec* is a flat dict of JSON values, the canonical form of one object. The objects of the kernel are:

``netns``    ``netns`` (a workload, such as ``netns:blue``)
``link``     ``netns``, ``name``, ``kind``, ``parent``, ``mtu``, ``mac``, ``up``, ``group``,
             ``altnames``, ``isolation``, ``sysctls``, and the options of its kind
``address``  ``netns``, ``link``, ``address`` (with prefix length)
``route``    ``netns``, ``prefix``, ``type``, ``via``, ``dev``, ``src``, ``metric``, ``table``, ``protocol``
``rule``     ``netns``, ``link`` (that it is for), ``source``, ``table``, ``priority``, ``protocol``
``rate``     ``netns``, ``link``, ``direction``, ``rate``, ``burst``, ``limit``: see ``rates``

Our block in a workload's hosts file is ``hosts``, that in its resolv.conf ``resolver``: ``netns`` and the ``digest`` of its
lines. Every other kind
(``network``, ``endpoint``, ``lease``, ...) is a record that only the registry keeps.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any, Dict, NamedTuple, Optional, Tuple, cast

from . import isolation
from .specs import Generic, Items, Spec

#: Marks every link that we create (IFLA_GROUP); named ``netops-underlay`` in iproute2's ``group`` table.
LINK_GROUP = 8021
#: The same for links on which the host has addresses of its own: the packet filter leaves them to the host's firewall.
HOST_LINK_GROUP = 8022
LINK_GROUPS = (LINK_GROUP, HOST_LINK_GROUP)
#: A transaction creates its links in a group of its own from this range. `ip` accepts no group from 2**31 on.
PRIVATE_GROUPS = range(802100000, 802200000)
#: Marks every route, rule and address that we create (rtm_protocol, FRA_PROTOCOL, IFA_PROTO); named in ``rt_protos``.
PROTOCOL = 201

#: The alias (IFLA_IFALIAS) of the loopback in every namespace that we create: see :func:`namespace_mark`.
NAMESPACE_MARK = "netops-underlay"
#: The namespace that the engine runs in.
HOST = ""

KERNEL_KINDS = ("netns", "link", "address", "route", "rule", "rate")
#: Our blocks in files of a workload: its hosts file and its resolv.conf.
FILE_KINDS = ("hosts", "resolver")
#: Everything that can be looked up on the host: the kernel's objects, and our blocks in files of workloads.
HOST_KINDS = (*KERNEL_KINDS, *FILE_KINDS)

#: Kind of link (IFLA_INFO_KIND) -> the kernel module that provides it.
DRIVERS: Dict[str, str] = {
    "vlan": "8021q", "macvlan": "macvlan", "ipvlan": "ipvlan", "dummy": "dummy", "macvtap": "macvtap",
}  # fmt: skip

#: Kind of link -> the driver whose port on its parent it shares: those of one driver go together, others do not.
PORTS: Dict[str, str] = {"macvlan": "macvlan", "macvtap": "macvlan", "ipvlan": "ipvlan", "ipvtap": "ipvlan"}


def namespace_mark(group: int) -> str:
    """The alias of the loopback in a namespace that the transaction of a private group created."""
    return f"{NAMESPACE_MARK} {group}"


def link_key(netns: str, name: str) -> str:
    """The key of a link: its name, in a namespace behind the workload and a slash."""
    return f"{netns}/{name}" if netns else name


def address_key(spec: Generic) -> str:
    """The key of an address: its link's, and the address with prefix length."""
    return link_key(spec["netns"], spec["link"]) + " " + str(spec["address"])


def route_key(spec: Generic) -> str:
    """The key of a route: a table has one for a prefix and a metric."""
    return link_key(spec["netns"], f"{spec['prefix']} table {spec['table']} metric {spec['metric']}")


def rule_key(spec: Generic) -> str:
    """The key of a rule: source and table."""
    return link_key(spec["netns"], f"from {spec['source']} table {spec['table']}")


def rate_key(spec: Generic) -> str:
    """The key of a rate: its link and the direction."""
    return link_key(spec["netns"], f"{spec['link']} {spec['direction']}")


class Record(NamedTuple):
    """An object as the registry keeps it."""

    spec: Spec
    of: str  # the item that it belongs to, such as ``network:web``; see Change


#: Kind -> key -> record.
Records = Dict[str, Dict[str, Record]]


def items_of(records: Records) -> Items:
    """The recorded items, as the specs that they are."""
    found = {
        kind: {key: record.spec for key, record in records.get(kind, {}).items()} for kind in Items.__annotations__
    }
    return cast(Items, found)


def has_senders(records: Records) -> bool:
    """Whether links are held to their own addresses by record, or are to be."""
    links, networks = records.get("link", {}), records.get("network", {})
    return any(record.spec.get("senders") is not None for record in links.values()) or any(
        record.spec.get("spoof_check") for record in networks.values()
    )


def of_kind(items: Items, kind: str) -> Dict[str, Spec]:
    """The items of a kind that only the caller knows."""
    return cast("Dict[str, Dict[str, Spec]]", items)[kind]  # a text: this is asked thousands of times


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
        """The change that undoes this one."""
        return Change(self.kind, self.key, self.after, self.before, "undo: " + self.reason, self.of)

    @property
    def verb(self) -> str:
        """What it does: create, change or remove."""
        if self.before is None:
            return "create"
        return "remove" if self.after is None else "change"


def merged(old: Spec, after: Spec) -> Spec:
    """A spec after an update, which names only what differs; a sysctl of None is not asked for any more."""
    found: Spec = {**old, **after}
    if "sysctls" in old and "sysctls" in after:
        both = {**old["sysctls"], **after["sysctls"]}
        found["sysctls"] = {name: number for name, number in both.items() if number is not None}
    return found


def differences(now: Generic, wanted: Generic) -> Optional[Tuple[Spec, Spec]]:
    """Where ``now`` differs from ``wanted``, as the two sides of a change; None where it does not."""
    if now == wanted:  # most are equal, and comparing whole dicts is cheaper
        return None
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    for key, value in wanted.items():
        if key == "mtu" and value is None and "parent_mtu" in now and now["mtu"] == now["parent_mtu"]:
            continue  # it follows its parent, and does
        if now.get(key) != value:
            if key == "sysctls":
                after[key] = {name: number for name, number in value.items() if now[key].get(name) != number}
                if isinstance(now[key], dict):  # of a record: what is not asked for any more
                    after[key].update(dict.fromkeys(name for name in now[key] if name not in value))
                before.setdefault(key, {}).update({name: now[key].get(name) for name in after[key]})
            else:
                before[key] = now.get(key)
                after[key] = value
            if key == "isolation" and value and "sysctls" in now:
                # A profile names a set of sysctls: only their old numbers lead back.
                old = {name: now["sysctls"].get(name) for name in isolation.settings(value)}
                before.setdefault("sysctls", {}).update(
                    {name: number for name, number in old.items() if number is not None}
                )
    return (cast(Spec, before), cast(Spec, after)) if after else None


@functools.lru_cache(maxsize=8)  # all members of a network have the same text
def digest(text: str) -> str:
    """What a plan and the registry keep of a block, see ``digest_of``."""
    return digest_of(text.encode())


def digest_of(block: bytes) -> str:
    """64 bits of the SHA-256 of a block, in hex."""
    return hashlib.sha256(block).hexdigest()[:16]
