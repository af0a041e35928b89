# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expands networks and sub-interfaces to the host's own links: parents, their bases, and those of ``host_access``."""

from __future__ import annotations

import functools
from typing import Dict, Iterable, Optional, Tuple, cast

from ..core.change import HOST, HOST_LINK_GROUP, LINK_GROUP
from ..core.isolation import IPV6_MIN_MTU
from ..core.link_specs import VlanSpec
from ..core.network_specs import NetworkSpec
from ..core.specs import Generic, LinkSpec, is_l3
from ..core.state import HostState, Link
from ..declare import ipam
from ..declare.naming import digest_name
from ..declare.vlan import VLAN_FLAGS
from .addressing import Addressing
from .desired import DesiredState, Parent
from .nics import links_there
from .subnets import SubnetChoice
from .wanted import DesiredObject, Key, Wanted

#: What asks for a link: the kind and key of an item, and its option.
Option = Tuple[str, str, str]
#: The options of a sub-interface that its link has too.
_VLAN_OPTIONS = ("gvrp", "mvrp", "loose_binding", "reorder_headers", "ingress_qos_map", "egress_qos_map")
#: Of a dummy that is given none (ETH_DATA_LEN).
_DUMMY_MTU = 1500
#: Below this MTU the kernel gives a link no IPv6 (RFC 8200, 5).

#: What a plan says of an address that is probed first.
UNLESS_HELD = ", unless another host on the wire has it"


def access_name(network: NetworkSpec) -> str:
    """The name of the host's own link in a network with ``host_access``."""
    return digest_name("ha-", network["name"])


def announcing(observed: HostState) -> Dict[str, int]:
    """Settings that make a link announce its addresses when it comes up."""
    return {"ipv4.arp_notify": 1, **({"ipv6.ndisc_notify": 1} if observed.ipv6 else {})}


def check_probe(desired: DesiredState, network: NetworkSpec, path: str, probe: bool) -> None:
    """Refuse a probe where there are no neighbours to ask."""
    if probe and is_l3(network):
        desired.refuse_at(
            path, f"endpoints of {network['mode']} have no neighbours to probe", "leave it out, or use an L2 mode"
        )


class HostLinks:
    """Adds the host's links to the desired objects."""

    def __init__(self, desired: DesiredState, wanted: Wanted, addressing: Addressing) -> None:
        self.desired = desired
        self.observed = desired.observed
        self.wanted = wanted
        self.addressing = addressing
        self.subnets = SubnetChoice(desired, addressing.pools)

    def vlan(self, key: str, vlan: VlanSpec) -> None:
        """Add a declared sub-interface and the host's addresses on it."""
        parent = self.desired.resolve(key)
        if parent is None or not self._sub_interface(parent, ("vlan", key, "parent"), f"vlan:{key}", vlan):
            return
        self.ipv6_fits(("vlan", key), parent.name, vlan.get("addresses") or (), parent)
        for address in vlan.get("addresses") or ():
            self.wanted.address(HOST, parent.name, address, f"vlan:{key}", "address of the host on the VLAN")

    def network(self, network: NetworkSpec) -> None:
        """Add the parent of a network, complete its subnets, and add the host's own link in it."""
        parent = self.parent(network)
        if parent is None:
            return
        self.subnets.complete(network)
        if network["host_access"]:
            self._host_access(network, parent)

    def parent(self, network: NetworkSpec) -> Optional[Parent]:
        """The link that a network is attached to, added as desired object; None if there is none."""
        desired, name = self.desired, network["name"]
        parent = desired.parent(network)
        if parent is None and desired.lacks_trunk(network["parent"]):
            pass
        elif parent is None:
            desired.refuse("network", name, "parent", *self.why_no_parent(network))
        elif network["parent"] is None:
            self._dummy(network, parent)
        else:
            self.carry(parent, network["parent"], network, ("network", name, "parent"))
        return parent

    def carry(self, parent: Parent, name: str, network: NetworkSpec, option: Option) -> None:
        """Add what a network, or a trunk in it, is on: a declared sub-interface, one made as needed, or a link that is there.

        ``name`` is what the parent goes by, ``option`` what asks for it.
        """
        declared = self.desired.items["vlan"].get(name)
        if declared is not None and parent.link is None:
            self.vlan(name, declared)
        elif parent.base is not None and declared is None:
            options = {"mtu": network["mtu"], "bring_up_parent": network["bring_up_parent"]}
            self._sub_interface(parent, option, "parent", options)
        else:
            self._raise(parent.name, parent.link, network["bring_up_parent"], option)

    def _dummy(self, network: NetworkSpec, parent: Parent) -> None:
        """The parent of a network without one; ipvlan endpoints have its MAC, which is stable."""
        name = network["name"]
        spec: LinkSpec = {
            "netns": HOST,
            "name": parent.name,
            "kind": "dummy",
            "up": True,
            "group": LINK_GROUP,
            "isolation": self._profile(parent),
            "mac": ipam.mac_for(self.desired.seed, name, "the parent"),
            "mtu": network["mtu"] or _DUMMY_MTU,
        }
        self.wanted.add("link", parent.name, spec, f"network:{name}", f"parent of {name}, which has none")

    def why_no_parent(self, network: NetworkSpec) -> Tuple[str, str]:
        """Why the parent of a network neither exists nor can be made: message and fix."""
        name = network["parent"] or ""
        base, _rest, tail = name.rpartition(".")
        if base in self.observed.host.names:
            return (
                f"{name} does not exist, and {tail!r} is no VLAN ID",
                f"write {base}.VID, from 1 to 4094 without a leading zero",
            )
        return f"{name} does not exist", f"this host has {links_there(self.desired.observed)}"

    def _host_access(self, network: NetworkSpec, parent: Parent) -> None:
        """The host's own link on the parent; each endpoint adds the route to itself (kernel facts, 5)."""
        name, of = network["name"], f"network:{network['name']}"
        if network["mode"] in ("private", "vepa", "passthru", "source") or network["flag"] in ("private", "vepa"):
            self.desired.refuse(
                "network",
                name,
                "host_access",
                "private, vepa, passthru and source isolate the host too",
                "use mode: bridge (macvlan) or flag: bridge (ipvlan), or leave host_access out",
            )
            return
        spec: LinkSpec = {
            "netns": HOST,
            "name": access_name(network),
            "kind": network["driver"],
            "parent": parent.name,
            "mode": network["mode"],
            "up": True,
            "group": LINK_GROUP,
            "isolation": "access",
            "sysctls": announcing(self.observed),
        }
        if network["flag"]:
            spec["flag"] = network["flag"]
        else:
            spec["mac"] = ipam.mac_for(self.desired.seed, name, "the host")
        spec["mtu"] = network["mtu"]
        self.wanted.add("link", spec["name"], spec, of, f"the host's link to the endpoints of {name}")
        addresses = self.addressing.host(network)
        self.ipv6_fits(("network", name), spec["name"], addresses, parent)
        for address in addresses:
            unless = UNLESS_HELD if network["probe"] else ""
            self.wanted.address(HOST, spec["name"], address, of, f"the host's address in {name}{unless}")
        check_probe(self.desired, network, self.desired.path("network", name, "probe"), network["probe"])

    def _sub_interface(self, parent: Parent, option: Option, of: str, options: Generic) -> bool:
        """A sub-interface of ours, required by an option of an item; False if it cannot be created."""
        if ("link", parent.name) in self.wanted:
            return True
        base = self.observed.host.names.get(parent.base or "")
        below = self.observed.called(base) if base else self._coming(parent, option)
        if below is None or (base and not self._usable_base(parent, base, options.get("protocol", "802.1q"), option)):
            return False
        flags = {option: options[option] for option in _VLAN_OPTIONS if options.get(option) is not None}
        spec: LinkSpec = {
            "netns": HOST,
            "name": parent.name,
            "kind": "vlan",
            "parent": below,
            "vlan_id": parent.vlan_id,
            "protocol": options.get("protocol", "802.1q"),
            "group": HOST_LINK_GROUP if options.get("addresses") else LINK_GROUP,
            "up": not base or self._raise(below, base, options.get("bring_up_parent", True), option),
            "isolation": "host" if options.get("addresses") else self._profile(parent),
            **cast(LinkSpec, {**VLAN_FLAGS, **flags}),
        }
        if parent.altnames:
            spec["altnames"] = parent.altnames
        spec["mtu"] = options.get("mtu")
        if base is not None and (spec["mtu"] or 0) > base.mtu:
            what = f"{spec['mtu']} is more than the {base.mtu} of {base.name}"
            self.desired.refuse(*option[:2], "mtu", what, f"give {base.mtu} at most, or raise {base.name}")
        self.wanted.add("link", parent.name, spec, of, f"VLAN {parent.vlan_id} of {below}")
        return True

    def _coming(self, parent: Parent, option: Option) -> Optional[str]:
        """The kernel's name of a base that this run makes; None, and a problem, where it does not."""
        made = self.desired.resolve(parent.base) if parent.base else None
        if made is not None and ("link", made.name) in self.wanted:
            return made.name
        if not self.desired.lacks_trunk(parent.base):
            what = f"{parent.base} does not exist"
            self.desired.refuse(*option, what, f"this host has {links_there(self.desired.observed)}")
        return None

    def _usable_base(self, parent: Parent, base: Link, protocol: str, option: Option) -> bool:
        """Whether a VLAN can be created on a base, or already exists as desired."""
        there = self.desired.same_vlan(base, parent.vlan_id, protocol)
        refuse = functools.partial(self.desired.refuse, *option)
        if base.is_loopback:
            refuse(
                f"{base.name} is the loopback, and has no VLANs", f"this host has {links_there(self.desired.observed)}"
            )
        elif there is not None and there is not parent.link:
            what = f"VLAN {parent.vlan_id} of {base.name} already exists as {there.name}"
            refuse(what, f"give parent: {there.name}")
        elif parent.link is None:
            elsewhere = self.desired.vlan_elsewhere(base, parent.vlan_id, protocol)
            if elsewhere is None:
                return True
            what = f"VLAN {parent.vlan_id} of {base.name} is that of {elsewhere[1].name} in {elsewhere[0].workload}"
            refuse(
                what, "a NIC can have each VLAN only once, across all namespaces: remove that link, or use another VLAN"
            )
        elif parent.link is not there:
            refuse(
                f"{parent.name} exists and is not VLAN {parent.vlan_id} ({protocol}) of {base.name}",
                "the kernel cannot change that in place: remove it first (state: absent if it is ours), or give another name",
            )
        elif self.desired.is_ours(parent.link, parent.name) or self.desired.declared.adopt:
            return True
        else:
            what = f"{parent.name} exists and was not created by us"
            refuse(what, "use it as it is, or set adopt: true to take it over")
        return False

    def _raise(self, name: str, link: Optional[Link], allowed: bool, option: Option) -> bool:
        """Set up a base that is down, unless that is not allowed."""
        if link is None or link.up:
            return True
        if allowed:
            self.wanted.setdefault(
                ("link", self.observed.called(link)),
                DesiredObject({"netns": HOST, "name": self.observed.called(link), "up": True}, "", f"{name} is down"),
            )
        else:
            self.desired.warn(*option, f"{name} is down and is left down (bring_up_parent: false)")
        return allowed

    def _profile(self, parent: Parent) -> str:
        """The isolation profile of a parent without addresses: IPv6 stays on if L3 networks resolve neighbours over it."""
        networks = self.desired.items["network"]
        users = [networks[name] for name in self.desired.sharers.get(parent.identity, ())]
        return "routed" if any(is_l3(user) and user["enable_ipv6"] for user in users) else "none"

    def ipv6_fits(self, item: Key, link: str, addresses: Iterable[str], parent: Parent) -> None:
        """IPv6 needs an MTU of 1280 (RFC 8200), and the kernel gives a smaller link none."""
        six = next((address for address in addresses if ":" in address), None)
        kind, key = item
        own = self.wanted["link", link].spec.get("mtu")
        mtu = own or self.mtu_of(parent)
        if six is None or mtu >= IPV6_MIN_MTU or not self.observed.ipv6:
            return
        spec = self.desired.of_kind(kind)[key]
        option = "mtu" if spec.get("mtu") else "network" if kind == "endpoint" else "parent"
        what = f"an MTU of {mtu} is too small for IPv6"
        if not own:
            what = f"an MTU of {mtu}, that of {parent.name}, is too small for IPv6"
        fix = f"give {IPV6_MIN_MTU} at least, or leave IPv6 out"
        if option != "mtu":
            low = parent.name if parent.link else parent.base or parent.name  # one that comes has the MTU of its base
            name = spec["network"] if own and kind == "endpoint" else low
            fix = f"raise {name} to {IPV6_MIN_MTU} at least, or leave IPv6 out"
        self.desired.refuse(kind, key, option, what, fix)

    def mtu_of(self, parent: Parent) -> int:
        """The MTU that a parent will have."""
        coming = self.wanted.get(("link", parent.name))
        base = self.observed.host.names.get(parent.base or "")
        link = base if coming and base else parent.link or base
        return (coming.spec.get("mtu") if coming else None) or (link.mtu if link else 1500)
