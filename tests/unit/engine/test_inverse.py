# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes changes back: only what is provably still what they made, and nothing that others came to depend on."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST,
    LINK_GROUP,
    PRIVATE_GROUPS,
    PROTOCOL,
    Change,
    Spec,
    address_key,
    route_key,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Link, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import dependants
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan.inverse import Inverse, Undoing, invert

from tests.support.simulated_kernel import SimulatedKernel

GROUP = PRIVATE_GROUPS[7]
VLAN: Spec = {"netns": HOST, "name": "eth0.10", "kind": "vlan", "parent": "eth0", "vlan_id": 10, "group": GROUP}
NETNS: Spec = {"netns": "netns:web"}
INSIDE: Spec = {"netns": "netns:web", "name": "eth0", "kind": "macvlan", "parent": "eth0.10", "group": GROUP}
ADDRESS: Spec = {"netns": HOST, "link": "eth0.10", "address": "192.0.2.1/24"}
ROUTE: Spec = {
    "netns": HOST, "prefix": "198.51.100.0/24", "type": "unicast", "via": None, "dev": "eth0.10", "src": None,
    "metric": 0, "table": 254, "protocol": PROTOCOL,
}  # fmt: skip


def made(kind: str, spec: Spec) -> Change:
    keys = {"netns": lambda: spec["netns"], "address": lambda: address_key(spec), "route": lambda: route_key(spec)}
    name = f"{spec['netns']}/{spec.get('name')}" if spec["netns"] else str(spec.get("name"))
    return Change(kind, keys.get(kind, lambda: name)(), None, spec, "test", "network:blue")


MADE = [made("link", VLAN), made("address", ADDRESS), made("route", ROUTE)]


def after(changes: List[Change]) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    kernel.apply(changes)
    return kernel


def undo(kernel: SimulatedKernel, changes: List[Change], **how: Any) -> Inverse:
    found = invert(changes, kernel.observed, (GROUP, LINK_GROUP), Undoing(**how))
    kernel.apply(found.changes)
    return found


def host(kernel: SimulatedKernel, name: str = "eth0.10") -> Optional[Link]:
    return kernel.observed.host.names.get(name)


def test_what_was_made_goes() -> None:
    kernel = after(MADE)
    assert undo(kernel, MADE).kept == []
    assert host(kernel) is None and kernel.observed.host.routes == []


@pytest.mark.parametrize(
    "instead", [{"type": "blackhole", "oif": 0}, {"via": "192.0.2.9"}, {"oif": 1}, {"src": "192.0.2.1"}]
)
def test_a_route_that_somebody_led_another_way_stays(instead: Dict[str, Any]) -> None:
    """It has our protocol number and our prefix, and is another route all the same."""
    kernel = after(MADE[:1])
    index = kernel.observed.host.names["eth0.10"].index
    route = Route(ROUTE["prefix"], "unicast", None, index, None, 0, 254, PROTOCOL, 0)._replace(**instead)
    kernel.observed.host.routes = [route]
    undo(kernel, [made("route", ROUTE)])
    assert kernel.observed.host.routes == [route]


@pytest.mark.parametrize(("protocol", "stays"), [(PROTOCOL, False), (0, True), (3, True)])
def test_an_address_is_ours_by_its_protocol_where_the_kernel_keeps_one(protocol: int, stays: bool) -> None:
    kernel = after(MADE[:1])
    lo, link = kernel.observed.host.names["lo"], kernel.observed.host.names["eth0.10"]
    kernel.observed.host.addresses[lo.index] = [Address(lo.index, "127.0.0.1/8", 1, 254, 0)]
    kernel.observed.host.addresses[link.index] = [Address(link.index, ADDRESS["address"], protocol, 0, 0)]
    undo(kernel, [made("address", ADDRESS)])
    assert bool(kernel.observed.host.addresses[link.index]) == stays


def test_an_address_goes_by_its_place_alone_on_a_kernel_that_marks_none() -> None:
    kernel = after(MADE[:1])
    link = kernel.observed.host.names["eth0.10"]
    kernel.observed.host.addresses = {link.index: [Address(link.index, ADDRESS["address"], 0, 0, 0)]}
    undo(kernel, [made("address", ADDRESS)])
    assert kernel.observed.host.addresses[link.index] == []


@pytest.mark.parametrize(("made_in", "goes"), [(None, True), (PRIVATE_GROUPS[0], True), (GROUP, False)])
def test_a_namespace_is_ours_by_the_mark_of_its_transaction(made_in: Optional[int], goes: bool) -> None:
    """The simulation marks each with the first private group."""
    kernel = after([made("netns", NETNS)])
    undo(kernel, [made("netns", NETNS)], made_in=made_in)
    assert ("netns:web" not in kernel.observed.namespaces) == goes


def test_a_namespace_without_our_mark_stays() -> None:
    kernel = after([made("netns", NETNS)])
    kernel.observed.namespaces["netns:web"].names["lo"].alias = ""
    undo(kernel, [made("netns", NETNS)])
    assert "netns:web" in kernel.observed.namespaces


@pytest.mark.parametrize("group", [0, 8023, PRIVATE_GROUPS[8]])
def test_a_link_in_a_foreign_group_stays(group: int) -> None:
    kernel = after(MADE[:1])
    kernel.observed.host.names["eth0.10"].group = group
    undo(kernel, MADE[:1])
    assert host(kernel)


# --- what others depend on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "group", "stays"), [(True, LINK_GROUP, False), (False, LINK_GROUP, True), (True, 0, True)]
)
def test_what_sits_on_a_link_of_ours_goes_with_it_only_if_it_is_ours_by_mark_and_record(
    recorded: bool, group: int, stays: bool
) -> None:
    kernel = after(MADE[:1])
    kernel.add("", "top", kind="macvlan", parent=kernel.observed.host.names["eth0.10"].index, group=group)
    found = undo(kernel, MADE[:1], recorded={("link", "top")} if recorded else ())
    assert bool(host(kernel)) == bool(host(kernel, "top")) == stays
    assert [kept.why for kept in found.kept] == (["top in the host uses it"] if stays else [])


def test_what_stays_keeps_its_namespace() -> None:
    changes = [made("link", VLAN), made("netns", NETNS), made("link", INSIDE)]
    kernel = after(changes)
    there = kernel.observed.namespaces["netns:web"]
    kernel.add("netns:web", "foreign", kind="dummy")
    found = undo(kernel, changes)
    assert [(kept.kind, kept.why) for kept in found.kept] == [("netns", "the link foreign is in it")]
    assert "foreign" in there.names and "eth0" not in there.names and host(kernel) is None


@pytest.mark.parametrize(("count", "text"), [(3, "a, b, c"), (4, "a, b, c and 1 more"), (5, "a, b, c and 2 more")])
def test_a_long_list_is_cut(count: int, text: str) -> None:
    assert dependants.listed(list("abcde")[:count]) == text


@pytest.mark.parametrize(
    ("link", "address", "protocol", "kernels"),
    [
        ("eth0", "fe80::5054:ff:fe00:1/64", 0, True),
        ("eth0", "fe80::5054:ff:fe00:1/64", 3, True),
        ("eth0", "fe80::5054:ff:fe00:1/64", 4, False),
        ("eth0", "fe80::5054:ff:fe00:2/64", 0, False),
        ("eth0", "fe80::5154:ff:fe00:1/64", 0, False),
        ("eth0", "127.0.0.1/8", 0, False),
        ("lo", "127.0.0.1/8", 0, True),
        ("lo", "::1/128", 0, True),
        ("lo", "10.0.0.1/32", 0, False),
        ("lo", "10.0.0.1/32", 1, True),
    ],
)
def test_which_addresses_the_kernel_gave(link: str, address: str, protocol: int, kernels: bool) -> None:
    """RFC 4291: the link-local address has the MAC with its universal bit inverted."""
    kernel = SimulatedKernel()
    there = kernel.observed.host.names["lo"] if link == "lo" else kernel.add("", link, mac="52:54:00:00:00:01")
    assert dependants.is_made_by_kernel(Address(there.index, address, protocol, 0, 0), there) == kernels


# --- what was changed in place -------------------------------------------------------------------


def nic(**more: Any) -> Tuple[SimulatedKernel, List[Change]]:
    """A NIC that was down with an MTU of 9000, and a change that set it up with 1500."""
    kernel = SimulatedKernel()
    kernel.add("", "eth9", up=False, mtu=9000)
    before = {"netns": HOST, "name": "eth9", "up": False, "mtu": 9000}
    change = Change("link", "eth9", before, {**before, "up": True, "mtu": 1500}, "test", "")
    kernel.apply([change])
    for key, value in more.items():
        setattr(kernel.observed.host.names["eth9"], key, value)
    return kernel, [change]


def test_a_nic_that_was_set_up_is_set_down_again() -> None:
    kernel, changes = nic()
    assert undo(kernel, changes).kept == []
    found = kernel.observed.host.names["eth9"]
    assert (found.up, found.mtu) == (False, 9000)


def test_what_somebody_set_since_stays() -> None:
    kernel, changes = nic(mtu=1400)
    undo(kernel, changes)
    found = kernel.observed.host.names["eth9"]
    assert (found.up, found.mtu) == (False, 1400)


def test_a_nic_that_somebody_uses_stays_up() -> None:
    kernel, changes = nic()
    link = kernel.observed.host.names["eth9"]
    kernel.observed.host.addresses[link.index] = [Address(link.index, "192.0.2.1/24", 0, 0, 0)]
    assert [kept.why for kept in undo(kernel, changes).kept] == ["stays up: it has the address 192.0.2.1/24"]
    assert (link.up, link.mtu) == (True, 9000)


def test_a_link_of_ours_goes_back_whatever_somebody_set() -> None:
    kernel = after(MADE[:1])
    before = {**VLAN, "mtu": 1400}
    change = Change("link", "eth0.10", before, {**VLAN, "mtu": 1300}, "test", "network:blue")
    kernel.observed.host.names["eth0.10"].mtu = 1200
    undo(kernel, [change])
    assert kernel.observed.host.names["eth0.10"].mtu == 1400


@pytest.mark.parametrize(("via", "back"), [("192.0.2.8", True), ("192.0.2.7", True), ("192.0.2.66", False)])
def test_a_route_that_was_changed_goes_back_unless_somebody_changed_it_since(via: str, back: bool) -> None:
    kernel = after(MADE[:2])
    old, new = {**ROUTE, "via": "192.0.2.7"}, {**ROUTE, "via": "192.0.2.8"}
    index = kernel.observed.host.names["eth0.10"].index
    kernel.observed.host.routes = [Route(ROUTE["prefix"], "unicast", via, index, None, 0, 254, PROTOCOL, 0)]
    found = undo(kernel, [Change("route", route_key(ROUTE), old, new, "test", "routes:all")])
    assert [route.via for route in kernel.observed.host.routes] == ["192.0.2.7" if back else via]
    assert [kept.why for kept in found.kept] == ([] if back else ["it was changed by someone else since"])


# --- what was removed ----------------------------------------------------------------------------


def removed(kind: str, spec: Spec) -> Change:
    return made(kind, spec)._replace(before=spec, after=None)


def test_what_was_removed_comes_back() -> None:
    kernel = SimulatedKernel("eth0")
    undo(kernel, [removed("route", ROUTE), removed("address", ADDRESS), removed("link", VLAN)])
    assert host(kernel) and len(kernel.observed.host.routes) == 1


def test_what_somebody_put_in_its_place_is_left_alone() -> None:
    """Our link was removed; one without our mark has its name now."""
    kernel = SimulatedKernel("eth0")
    theirs = kernel.add("", "eth0.10", kind="dummy", mtu=1234)
    assert undo(kernel, [removed("link", {**VLAN, "group": LINK_GROUP, "mtu": 1500})]).changes == []
    assert host(kernel) is theirs and theirs.mtu == 1234


def test_what_was_changed_and_is_gone_does_not_come_back() -> None:
    kernel = SimulatedKernel("eth0")
    assert undo(kernel, [Change("link", "eth0.10", VLAN, {**VLAN, "mtu": 1300}, "test", "network:blue")]).changes == []


def test_a_route_that_went_with_an_address_comes_back() -> None:
    kernel = after(MADE[:2])
    old, new = {**ROUTE, "src": None}, {**ROUTE, "src": "192.0.2.1"}
    undo(kernel, [Change("route", route_key(ROUTE), old, new, "test", "routes:all")])
    assert [(route.prefix, route.src) for route in kernel.observed.host.routes] == [(ROUTE["prefix"], None)]


def test_what_went_with_its_namespace_does_not_come_back() -> None:
    kernel = after(MADE[:1])
    assert undo(kernel, [removed("link", INSIDE)]).changes == []
    undo(kernel, [removed("link", INSIDE), removed("netns", NETNS)])
    assert "eth0" in kernel.observed.namespaces["netns:web"].names
