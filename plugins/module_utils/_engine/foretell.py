# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as it will be once changes are made, on paper: what a check run has foretold so far.

In a check run nothing is made, so a task that builds on an earlier one would find nothing to stand on. The earlier
one's changes are laid over what is observed and recorded, and the later one plans on that.
"""

from __future__ import annotations

import base64
import copy
import json
import zlib
from typing import Any, Dict, Iterable, List, Mapping, Optional

from . import isolation
from .world import HOST, HOST_KINDS, PROTOCOL, Address, Change, Link, Namespace, Record, Records, Route, Spec, World, merged

#: The fact that carries what a check run has foretold of a host to its next task; a real run clears it.
FACT = "netops_underlay_foretold"

#: What the kernel gives a link of each kind that is made without options (iproute2's ``ip link add``).
_KIND_OPTIONS: Dict[str, Spec] = {
    "vlan": {
        "vlan_id": 1, "protocol": "802.1q", "gvrp": False, "mvrp": False, "loose_binding": False,
        "reorder_headers": True, "ingress_qos_map": {}, "egress_qos_map": {},
    },
    "macvlan": {"mode": "bridge", "bcqueuelen": 1000},
    "ipvlan": {"mode": "l3", "flag": "bridge"},
}  # fmt: skip


def pack(changes: Iterable[Change]) -> str:
    """Changes as a text that one task's result carries to the next."""
    return base64.b64encode(zlib.compress(json.dumps(list(changes)).encode())).decode()


def unpack(text: str) -> List[Change]:
    """Raises ValueError where the text is not of :func:`pack`."""
    try:
        return [Change(*change) for change in json.loads(zlib.decompress(base64.b64decode(text)))]
    except (TypeError, zlib.error) as error:
        raise ValueError(str(error)) from None


def record(records: Records, changes: Iterable[Change]) -> None:
    """Lay changes over the registry's objects, as it does itself when a plan is finished."""
    for change in changes:
        if not change.of:
            continue
        table = records.setdefault(change.kind, {})
        if change.after is None:
            table.pop(change.key, None)
        else:
            old = table[change.key].spec if change.key in table and change.before is not None else {}
            table[change.key] = Record(copy.deepcopy(merged(old, change.after)), change.of)


def lay(world: World, changes: Iterable[Change]) -> None:
    """Do to a world what the kernel would do. What has gone otherwise meanwhile is passed over."""
    paper = Paper(world)
    for change in changes:
        if change.kind in HOST_KINDS:
            paper.do(change)


class Paper:
    """A world that changes are laid over."""

    def __init__(self, world: World) -> None:
        self.world = world
        # No kernel gives these numbers, so that they never stand for a link that is there.
        self._numbers = iter(range(2**31, 2**32))

    def do(self, change: Change) -> None:
        {"netns": self._netns, "link": self._link, "address": self._address, "route": self._route, "hosts": self._hosts}[change.kind](change)
        self.world.__dict__.pop("children", None)

    def add(self, space: Namespace, name: str, values: Mapping[str, Any]) -> Link:
        """A link with the kernel's defaults."""
        link = Link()
        six = (0,) * 60 if self.world.ipv6 else None
        defaults: Spec = {
            "index": next(self._numbers), "name": name, "kind": "", "parent": 0, "parent_ns": None, "master": 0,
            "mtu": 1500, "up": True, "group": 0, "mac": "02:00:00:00:00:01", "perm_mac": "", "device": "",
            "alias": "", "altnames": (), "data": {}, "conf4": (0,) * 33, "conf6": six, "genmode": 0,
        }  # fmt: skip
        for key, value in {**defaults, **values}.items():
            setattr(link, key, value)
        space.add(link)
        return link

    # -- one kind each ----------------------------------------------------------------------------

    def _netns(self, change: Change) -> None:
        if change.after is None:
            self.world.namespaces.pop(change.key, None)
        elif change.key not in self.world.namespaces:
            space = self.world.namespaces[change.key] = Namespace(change.key, "", (0, next(self._numbers)))
            self.add(space, "lo", {"up": False})

    def _link(self, change: Change) -> None:
        spec = change.after or change.before or {}
        space = self.world.namespace(spec["netns"])
        if space is None:
            return
        link = space.names.get((change.before or spec)["name"])
        if change.after is None:
            if link is not None:
                self._drop(space, link)
            return
        if link is None and change.before is None:
            link = self._made(space, spec)
        if link is not None:
            self._set(link, change.after)
            space.add(link)

    def _made(self, space: Namespace, spec: Spec) -> Optional[Link]:
        parent = self.world.host.names.get(spec["parent"]) if spec.get("parent") else None
        if spec.get("parent") and parent is None:
            return None
        values = {
            "kind": spec["kind"],
            "up": False,
            "parent": parent.index if parent else 0,
            "parent_ns": HOST if parent and space is not self.world.host else None,
            "mtu": parent.mtu if parent else 1500,
            "data": copy.deepcopy(_KIND_OPTIONS.get(spec["kind"], {})),
        }
        return self.add(space, spec["name"], values)

    def _set(self, link: Link, spec: Spec) -> None:
        for key, value in spec.items():
            if key in ("name", "mtu", "mac", "up", "group"):
                setattr(link, key, value)
            elif key == "altnames":
                link.altnames = tuple(value)
            elif key in link.data or key == "bclim":
                link.data[key] = value
            elif key == "presence" and value:
                _configure(link, isolation.settings(value))
            elif key == "sysctls":
                _configure(link, value)

    def _drop(self, space: Namespace, link: Link) -> None:
        """A link goes with its addresses, its routes, and whatever sits on it, in every namespace."""
        for other, child in self.world.children.get(link.index, ()) if space is self.world.host else ():
            self.world.__dict__.pop("children", None)
            self._drop(other, child)
        space.links.pop(link.index, None)
        for name in [name for name, found in space.names.items() if found is link]:
            del space.names[name]
        space.addresses.pop(link.index, None)
        space.routes = [route for route in space.routes if route.oif != link.index]
        self.world.__dict__.pop("children", None)

    def _address(self, change: Change) -> None:
        spec = change.after or change.before or {}
        space = self.world.namespace(spec["netns"])
        link = space.names.get(spec["link"]) if space else None
        if space is None or link is None:
            return
        there = [address for address in space.addresses.get(link.index, ()) if address.address != spec["address"]]
        if change.after is not None:
            there.append(Address(link.index, spec["address"], PROTOCOL, 0, 0))
        space.addresses[link.index] = there

    def _route(self, change: Change) -> None:
        spec = {**(change.before or {}), **(change.after or {})}
        space = self.world.namespace(spec["netns"])
        if space is None:
            return
        same = next((route for route in space.routes if _is_route(route, spec)), None)
        space.routes = [route for route in space.routes if route is not same]
        if change.after is not None:
            full = {**(self.world.route_spec(space, same) if same else {}), **change.after}
            device = space.names.get(full["dev"]) if full.get("dev") else None
            oif = device.index if device else 0
            way = (full["prefix"], full["type"], full.get("via"), oif, full.get("src"))
            space.routes.append(Route(*way, full["metric"], full["table"], full["protocol"], 0))

    def _hosts(self, change: Change) -> None:
        self.world.names[change.key] = change.after["digest"] if change.after else ""


def _is_route(route: Route, spec: Spec) -> bool:
    return all(getattr(route, key) == spec[key] for key in ("prefix", "metric", "table", "protocol"))


def _configure(link: Link, settings: Mapping[str, Optional[int]]) -> None:
    """Set what is named; None stands for the default, which on paper is 0."""
    four, six = list(link.conf4 or ()), list(link.conf6 or ())
    for name, value in settings.items():
        family, _sep, key = name.partition(".")
        value = value or 0
        if key == "addr_gen_mode":
            link.genmode = value
        elif family == "ipv4":
            four[isolation.IPV4[key] - 1] = value
        elif link.conf6 is not None:
            six[isolation.IPV6[key]] = value
    link.conf4 = tuple(four)
    link.conf6 = tuple(six) if link.conf6 is not None else None
