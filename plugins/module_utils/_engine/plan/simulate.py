# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as it will be after changes, without making them: what a check run has planned so far.

In a check run nothing is made, so a task that builds on an earlier one would find nothing to stand on. The earlier
one's changes are laid over what is observed and recorded, and the later one plans on that.
"""

from __future__ import annotations

import base64
import copy
import ipaddress
import json
import zlib
from typing import Dict, Iterable, List, Mapping, Optional, cast

from ..core import isolation
from ..core.change import HOST, HOST_KINDS, PRIVATE_GROUPS, PROTOCOL, Change, Record, Records, merged, namespace_mark
from ..core.rates import Rate
from ..core.route_specs import MAIN_TABLE
from ..core.specs import Generic, KindOptions, Spec
from ..core.state import LOOPBACK, RTPROT_KERNEL, Address, HostState, Link, Namespace, Route, Rule

#: The fact that carries what a check run has planned for a host to its next task; a real run clears it.
FACT = "netops_underlay_earlier"

#: Stands among those changes for the DHCP client that an earlier task would have started.
CLIENT = Change("dhcp", "client", None, {}, "the DHCP client of the service", "")

#: What the kernel gives a link of each kind that is made without options (iproute2's ``ip link add``).
_KIND_OPTIONS: Dict[str, KindOptions] = {
    "vlan": {
        "vlan_id": 1, "protocol": "802.1q", "gvrp": False, "mvrp": False, "loose_binding": False,
        "reorder_headers": True, "ingress_qos_map": {}, "egress_qos_map": {},
    },
    "macvlan": {"mode": "bridge", "bcqueuelen": 1000, "nopromisc": False, "source_macs": []},
    "ipvlan": {"mode": "l3", "flag": "bridge"},
}  # fmt: skip
_KIND_OPTIONS["macvtap"] = {**_KIND_OPTIONS["macvlan"], "node": None}


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
    """Apply changes to the registry's objects, as the registry does when a plan is finished."""
    for change in changes:
        if not change.of:
            continue
        table = records.setdefault(change.kind, {})
        if change.after is None:
            table.pop(change.key, None)
        else:
            old = table[change.key].spec if change.key in table and change.before is not None else {}
            table[change.key] = Record(copy.deepcopy(merged(old, change.after)), change.of)


def overlay(observed: HostState, changes: Iterable[Change]) -> None:
    """Apply changes to a host state as the kernel would, skipping those that no longer fit."""
    paper = Simulation(observed)
    for change in changes:
        if change.kind == CLIENT.kind:
            observed.unleased = ""
        elif change.kind in HOST_KINDS:
            paper.do(change)


class Simulation:
    """A host state that changes are applied to."""

    def __init__(self, observed: HostState) -> None:
        self.observed = observed
        # No kernel gives these numbers, so that they never stand for a link that is there.
        self._numbers = iter(range(2**31, 2**32))

    def do(self, change: Change) -> None:
        """Apply a change, as the kernel would."""
        if change.after is None and self.observed.is_replaced(change.kind, change.before or {}):
            return  # somebody's is in its place, and stays
        {
            "netns": self._netns,
            "link": self._link,
            "address": self._address,
            "route": self._route,
            "rule": self._rule,
            "rate": self._rate,
            "hosts": self._block,
            "resolver": self._block,
        }[change.kind](change)
        for cached in ("children", "members", "marks_addresses", "_foreign_routes", "_names"):
            self.observed.__dict__.pop(cached, None)

    def add(self, namespace: Namespace, name: str, values: Mapping[str, object]) -> Link:
        """A link with the kernel's defaults."""
        link = Link()
        six = (0,) * 60 if self.observed.ipv6 else None
        defaults: Dict[str, object] = {  # the attributes of a Link
            "index": next(self._numbers), "name": name, "kind": "", "parent": 0, "parent_ns": None, "master": 0,
            "mtu": 1500, "up": True, "group": 0, "mac": "02:00:00:00:00:01", "perm_mac": "",
            "device": "", "bus": "", "port": "", "driver": "", "alias": "", "altnames": (), "lowers": (), "data": {},
            "type": LOOPBACK if name == "lo" else 1, "noarp": False,
            "conf4": (0,) * 33, "conf6": six, "genmode": 0,
        }  # fmt: skip
        for key, value in {**defaults, **values}.items():
            setattr(link, key, value)
        namespace.add(link)
        return link

    # -- one kind each ----------------------------------------------------------------------------

    def _netns(self, change: Change) -> None:
        if change.after is None:
            self.observed.namespaces.pop(change.key, None)
        elif change.key not in self.observed.namespaces:
            namespace = self.observed.namespaces[change.key] = Namespace(
                change.key, "", (0, next(self._numbers)), routes_seen=True
            )
            self.add(namespace, "lo", {"up": True, "alias": namespace_mark(PRIVATE_GROUPS[0])})

    def _link(self, change: Change) -> None:
        spec = change.after or change.before or {}
        namespace = self.observed.namespace(spec["netns"])
        if namespace is None:
            return
        link = namespace.names.get((change.before or spec)["name"])
        if change.after is None:
            if link is not None:
                self._drop(namespace, link)
            return
        if link is None and change.before is None:
            link = self._made(namespace, spec)
        if link is not None:
            self._set(link, change.after)
            if change.before is not None:
                _connect(namespace, link)
            if "senders" in change.after:
                _hold(namespace, link, change.after["senders"])
            namespace.add(link)

    def _made(self, namespace: Namespace, spec: Spec) -> Optional[Link]:
        parent = self.observed.host.names.get(spec["parent"]) if spec.get("parent") else None
        if spec.get("parent") and parent is None:
            return None
        values = {
            "kind": spec["kind"],
            "up": False,
            "parent": parent.index if parent else 0,
            "parent_ns": HOST if parent and namespace is not self.observed.host else None,
            "mtu": parent.mtu if parent else 1500,
            "data": copy.deepcopy(_KIND_OPTIONS.get(spec["kind"], {})),
        }
        return self.add(namespace, spec["name"], values)

    def _set(self, link: Link, spec: Generic) -> None:
        for key, value in spec.items():
            if key == "mtu" and value is None:
                link.mtu = (
                    self.observed.host.links[link.parent].mtu if link.parent in self.observed.host.links else link.mtu
                )
            elif key in ("name", "mtu", "mac", "up", "group"):
                setattr(link, key, value)
            elif key == "altnames":
                link.altnames = tuple(value)
            elif key in link.data or key == "bclim":
                link.data = cast(KindOptions, {**link.data, key: value})
            elif key == "isolation" and value:
                _configure(link, isolation.settings(value))
            elif key == "sysctls":
                _configure(link, value)

    def _drop(self, namespace: Namespace, link: Link) -> None:
        """Remove a link with its addresses, its routes, and whatever uses it, in every namespace."""
        for other, child in self.observed.children.get(link.index, ()) if namespace is self.observed.host else ():
            self.observed.__dict__.pop("children", None)
            self._drop(other, child)
        namespace.links.pop(link.index, None)
        for name in [name for name, found in namespace.names.items() if found is link]:
            del namespace.names[name]
        namespace.addresses.pop(link.index, None)
        namespace.rates = {where: rate for where, rate in namespace.rates.items() if where[0] != link.index}
        namespace.routes = [route for route in namespace.routes if route.oif != link.index]
        self.observed.__dict__.pop("children", None)

    def _address(self, change: Change) -> None:
        spec = change.after or change.before or {}
        namespace = self.observed.namespace(spec["netns"])
        link = namespace.names.get(spec["link"]) if namespace else None
        if namespace is None or link is None:
            return
        there = [address for address in namespace.addresses.get(link.index, ()) if address.address != spec["address"]]
        if change.after is not None:
            there.append(Address(link.index, spec["address"], PROTOCOL, 0, 0))
        namespace.addresses[link.index] = there
        _connect(namespace, link)

    def _route(self, change: Change) -> None:
        spec: Spec = {**(change.before or {}), **(change.after or {})}
        namespace = self.observed.namespace(spec["netns"])
        if namespace is None:
            return
        same = next((route for route in namespace.routes if _is_route(route, spec)), None)
        namespace.routes = [route for route in namespace.routes if route is not same]
        if change.after is not None:
            full: Spec = {**(self.observed.route_spec(namespace, same) if same else {}), **change.after}
            device = namespace.names.get(full.get("dev") or "")
            oif = device.index if device else 0
            way = (full["prefix"], full["type"], full.get("via"), oif, full.get("src"))
            namespace.routes.append(Route(*way, full["metric"], full["table"], full["protocol"], 0))

    def _rule(self, change: Change) -> None:
        spec = change.after or change.before or {}
        namespace = self.observed.namespace(spec["netns"])
        if namespace is not None:
            rule = Rule(spec["source"], spec["table"], spec["priority"], spec["protocol"])
            others = [one for one in namespace.rules if one != rule]
            namespace.rules = [*others, rule] if change.after is not None else others

    def _rate(self, change: Change) -> None:
        spec = change.after or change.before or {}
        namespace = self.observed.namespace(spec["netns"])
        link = namespace.names.get(spec["link"]) if namespace else None
        if namespace is None or link is None:
            return
        old = namespace.rates.pop((link.index, spec["direction"]), Rate(0, 0, 0))
        if change.after is not None:
            new: Spec = {"rate": old.rate, "burst": old.burst, "limit": old.limit, **change.after}
            namespace.rates[link.index, spec["direction"]] = Rate(new["rate"], new["burst"], new["limit"])

    def _block(self, change: Change) -> None:
        self.observed.blocks[change.kind, change.key] = change.after["digest"] if change.after else ""


def _connect(namespace: Namespace, link: Link) -> None:
    """Give a link the connected routes of its addresses, and no others; one that is down loses all of its routes."""
    if not link.up:
        namespace.routes = [route for route in namespace.routes if route.oif != link.index]
        return
    subnets = [ipaddress.ip_interface(address.address).network for address in namespace.addresses.get(link.index, ())]
    others = [route for route in namespace.routes if route.oif != link.index or route.protocol != RTPROT_KERNEL]
    namespace.routes = others + [
        Route(prefix, "unicast", None, link.index, None, 256 if ":" in prefix else 0, MAIN_TABLE, RTPROT_KERNEL, 0)
        for prefix in dict.fromkeys(str(subnet) for subnet in subnets if subnet.num_addresses > 1)
    ]


def _hold(namespace: Namespace, link: Link, senders: Optional[List[str]]) -> None:
    """Hold a link to its own addresses, or to none."""
    namespace.senders.pop(link.index, None)
    if senders is not None:
        namespace.senders[link.index] = list(senders)


def _is_route(route: Route, spec: Generic) -> bool:
    return all(getattr(route, key) == spec[key] for key in ("prefix", "metric", "table", "protocol"))


def _configure(link: Link, settings: Mapping[str, Optional[int]]) -> None:
    """Set the named sysctls; None is the default, simulated as 0."""
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
