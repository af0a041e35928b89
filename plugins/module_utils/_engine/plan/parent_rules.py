# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a link has to be to carry VLANs, macvlan or ipvlan: what their drivers refuse, and what they accept in vain."""

from __future__ import annotations

import functools
from typing import Optional, Tuple

from ..core.change import PORTS
from ..core.network_specs import NetworkSpec
from ..core.specs import is_l3
from ..core.state import LOOPBACK, Link
from .desired import DesiredState, Parent

Item = Tuple[str, str]  # its kind and key

_ETHERNET = 1  # ARPHRD_ETHER
#: How many links the kernel stacks (MAX_NEST_DEV in include/linux/netdevice.h), the lowest included.
_HIGHEST = 8
#: Kinds whose link below counts as one level less.
_STACKED = ("vlan", "macsec", "vxlan", *PORTS)


def of_network(desired: DesiredState, key: str, parent: Parent) -> None:
    """Note what speaks against the parent of a network."""
    network, item = desired.items["network"][key], ("network", key)
    link = parent.link or desired.observed.host.names.get(parent.base or "")
    if parent.link is not None and parent.link.is_loopback:  # by another name: ``lo`` is refused as such
        what = f"{parent.link.name} is the loopback"
        desired.refuse(*item, "parent", what, "give a NIC, a bond, a VLAN sub-interface or a dummy")
    elif link is not None and _is_ethernet(desired, item, link):
        if link.noarp and link.kind != "dummy" and not is_l3(network):
            what = f"{link.name} has ARP disabled, so endpoints reach no neighbour: ip link set {link.name} arp on"
            desired.warn(*item, "parent", what)
        if parent.link is not None:
            _stacked(desired, network, parent.link)
        else:
            _takes_vlans(desired, item, link, f".{parent.vlan_id}")
    _not_too_high(desired, item, parent, 1)
    if network["parent"] not in desired.scope["vlan"]:
        let_in(desired, (*item, "parent"), parent)


def of_vlan(desired: DesiredState, key: str) -> None:
    """Note what speaks against the parent of a declared sub-interface."""
    parent, item = desired.resolve(key), ("vlan", key)
    if parent is None:
        return
    base = desired.observed.host.names.get(parent.base or "")
    if base is not None and parent.link is None and _is_ethernet(desired, item, base):
        _takes_vlans(desired, item, base)
    _not_too_high(desired, item, parent, 0)
    let_in(desired, (*item, "parent"), parent)


def _is_ethernet(desired: DesiredState, item: Item, link: Link) -> bool:
    """Whether a link is Ethernet; what is made on it inherits that (kernel facts, 12)."""
    what = ""
    if link.kind == "vrf":
        what = f"{link.name} is a VRF, and cannot carry VLANs, macvlan or ipvlan"
    elif link.type not in (_ETHERNET, LOOPBACK):  # which is refused as such
        what = f"{link.name} is not an Ethernet link, and cannot carry VLANs, macvlan or ipvlan"
    if what:
        desired.refuse(*item, "parent", what, "give a NIC, a bond or a bridge")
    return not what and link.type == _ETHERNET


def _takes_vlans(desired: DesiredState, item: Item, link: Link, vlan: str = "") -> None:
    if PORTS.get(link.kind) == "ipvlan":
        what = f"{link.name} is itself an {link.kind}, which carries no VLAN"
        desired.refuse(*item, "parent", what, f"give parent: {_below(desired, link)}{vlan}")


def _stacked(desired: DesiredState, network: NetworkSpec, link: Link) -> None:
    """The kernel puts a macvlan on a macvlan, and an ipvlan on an ipvlan, on the link below instead (kernel facts, 2)."""
    refuse = functools.partial(desired.refuse, "network", network["name"], "parent")
    if PORTS.get(link.kind) == network["driver"]:
        what = f"{link.name} is itself a {link.kind}, and the kernel would use the link below it"
        refuse(what, f"give parent: {_below(desired, link)}")
    elif PORTS.get(link.kind) == "ipvlan":
        what = f"{link.name} is itself an {link.kind}, which carries no {network['driver']}"
        refuse(what, "use another parent: the link below it carries ipvlan too")


def _below(desired: DesiredState, link: Link) -> str:
    below = desired.observed.host.links.get(link.parent) if link.parent_ns is None else None
    return below.name if below else "a link in the host's namespace"


def _not_too_high(desired: DesiredState, item: Item, parent: Parent, above: int) -> None:
    """``above`` links will be on a parent, and the kernel stacks only so many."""
    height = _height(desired, parent) + above
    if height > _HIGHEST:
        what = f"{parent.name} would be part of a stack of {height} links, and the kernel allows {_HIGHEST}"
        desired.refuse(*item, "parent", what, "use a parent with fewer links below it")


def _height(desired: DesiredState, parent: Optional[Parent], rest: int = 2 * _HIGHEST) -> int:
    """How many links are stacked from the lowest up to a parent."""
    if parent is None or not rest:
        return 0
    if parent.link is not None:
        return _height_of_link(desired, parent.link, rest)
    return 1 + _height(desired, desired.resolve(parent.base) if parent.base else None, rest - 1)


def _height_of_link(desired: DesiredState, link: Link, rest: int) -> int:
    links = desired.observed.host.links
    lowers = list(desired.observed.members.get(link.index, ()))
    if link.kind in _STACKED and link.parent_ns is None:
        lowers += [links[index] for index in (link.parent, *link.lowers) if index in links]
    return 1 + max((_height_of_link(desired, lower, rest - 1) for lower in lowers if rest), default=0)


def let_in(desired: DesiredState, option: Tuple[str, str, str], parent: Parent) -> None:
    """A bridge that filters VLANs hands the host only frames of those that it has itself, beside its ports."""
    if not desired.observed.bridge_vlans:
        return
    links, link = desired.observed.host, parent.link
    tagged = (
        link.kind == "vlan" if link is not None else parent.base is not None
    )  # a name that exists is no more than that
    if link is not None and link.kind == "vlan":
        bridge, protocol = links.links.get(link.parent), link.data["protocol"]
    else:
        bridge = links.names.get(parent.base or "") if tagged else link
        protocol = desired.of_kind(option[0])[option[1]].get("protocol", "802.1q")
    vlans = desired.observed.bridge_vlans.get(bridge.index) if bridge else None
    vlan_id = link.data["vlan_id"] if link is not None and tagged else parent.vlan_id
    if bridge is None or vlans is None or vlan_id in vlans or protocol != "802.1q":
        return
    what, how = (f"VLAN {vlan_id}", f"{vlan_id}") if tagged else ("untagged frames", "1 pvid untagged")
    desired.warn(
        *option,
        f"{bridge.name} filters VLANs and passes no {what} to this host: bridge vlan add dev {bridge.name} vid {how} self",
    )
