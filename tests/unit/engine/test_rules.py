# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not stand beside what, on a paper kernel: every refusal, with the item that it names."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, NamedTuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import model, plan, rules
from ansible_collections.netops.underlay.plugins.module_utils._engine.fields import Refusal
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import Change, Namespace
from messages import texts_without_a_test
from paper_kernel import PaperKernel


def subnets(*texts: str) -> List[Dict[str, Any]]:
    return [{"subnet": text} for text in texts]


def do(kernel: PaperKernel, kind: str, state: str = "present", adopt: bool = False, **options: Any) -> plan.Plan:
    """One task, applied and recorded."""
    found = plan.plan(model.declare(kind, options, state, adopt), copy.deepcopy(kernel.records), kernel.world, "seed")
    kernel.apply(found.changes)
    kernel.record(found.changes)
    return found


def refused(kernel: PaperKernel, kind: str, state: str = "present", adopt: bool = False, **options: Any) -> List[str]:
    """The problems of a task, which changes nothing."""
    before = copy.deepcopy(kernel.records)
    with pytest.raises(Refusal) as caught:
        do(kernel, kind, state, adopt, **options)
    assert kernel.records == before
    return [str(problem) for problem in caught.value.problems]


def blue(kernel: PaperKernel, **options: Any) -> plan.Plan:
    return do(kernel, "network", **{"name": "blue", "driver": "macvlan", "parent": "eth0", "subnets": subnets("10.0.0.0/24"), **options})


def unplug(kernel: PaperKernel, name: str) -> None:
    """Somebody else removes a link of the host, with what sits on it."""
    kernel.apply([Change("link", name, {"netns": "", "name": name, "kind": kernel.world.host.names[name].kind}, None, "test")])


# --- every rule ----------------------------------------------------------------------------------


class Case(NamedTuple):
    """What is there, what is asked for, and everything that speaks against it."""

    there: Callable[[PaperKernel], object]
    kind: str
    options: Dict[str, Any]
    expected: List[str]
    state: str = "present"


def network(name: str = "red", driver: str = "macvlan", parent: str = "eth0", text: str = "10.1.0.0/24", **more: Any) -> Dict[str, Any]:
    return {"name": name, "driver": driver, "parent": parent, "subnets": subnets(text), **more}


def foreign(kernel: PaperKernel, name: str, **more: Any) -> None:
    """A link of somebody else on eth0, in a namespace that nobody named."""
    space = Namespace("netns:alien", "/run/netns/alien", (4, 9))
    kernel.world.others = [space]
    parent = kernel.world.host.names["eth0"].index
    kernel.world.namespaces["netns:alien"] = space
    kernel.add("netns:alien", name, parent=parent, parent_ns="", **more)
    del kernel.world.namespaces["netns:alien"]
    kernel.world.__dict__.pop("children", None)


def member(kernel: PaperKernel, kind: str, name: str) -> None:
    """eth0 belongs to somebody."""
    kernel.world.host.names["eth0"].master = kernel.add("", name, kind=kind, data={"table": 7}).index


def address(kernel: PaperKernel, text: str) -> None:
    kernel.apply([Change("address", f"eth0 {text}", None, {"netns": "", "link": "eth0", "address": text}, "test")])


def living(kernel: PaperKernel, **options: Any) -> None:
    blue(kernel, **options)
    for name in ("a", "b"):
        do(kernel, "endpoint", network="blue", name=name, netns=name)


def deaf(kernel: PaperKernel) -> None:
    """The engine of an endpoint's container does not answer."""
    living(kernel)
    kernel.records["endpoint"]["blue/a"].spec["workload"] = "docker:web"
    kernel.world.refusals["docker:web"] = "docker does not answer"


def renamed(kernel: PaperKernel) -> None:
    """The container of an endpoint has another name by now, which nobody told."""
    living(kernel)
    kernel.records["endpoint"]["blue/a"].spec["workload"] = "docker:web"
    kernel.records["link"]["docker:web/eth0"] = kernel.records["link"].pop("netns:a/eth0")
    space = kernel.world.namespaces.pop("netns:a")
    space.workload = "/proc/7/ns/net"
    kernel.world.others = [space]
    kernel.world.gone.add("docker:web")
    kernel.world.__dict__.pop("children", None)


IPVLAN: Dict[str, Any] = {"name": "blue", "driver": "ipvlan", "parent": "eth0", "subnets": subnets("10.0.0.0/24"), "share_parent": True}

CASES = [
    Case(living, "network", {"name": "blue"}, ["state: network blue has the endpoints a, b; make those absent first"], "absent"),
    Case(living, "network", {**network("blue"), "driver": "ipvlan"},
         ["driver: is macvlan and cannot become ipvlan under the endpoints a, b; "
          "set recreate: true (they keep names, addresses and MACs), or make them absent first",
          "subnets: 10.0.0.0/24 is in use by a, b; remove those endpoints first, or keep it"]),
    Case(blue, "network", network(driver="ipvlan", share_parent=True),
         ["driver: eth0 carries blue (macvlan); macvlan and ipvlan cannot share a parent: use another parent or the same driver"]),
    Case(lambda kernel: blue(kernel, share_parent=True), "network", network(mode="passthru", share_parent=True),
         ["mode: eth0 carries blue, and passthru shares with nobody; use another parent, or mode: bridge for both"]),
    Case(blue, "network", network(share_parent=True),
         ["parent: eth0 is the parent of blue already; use another parent (a VLAN each), or set share_parent: true on both"]),
    Case(lambda kernel: (blue(kernel, mode="passthru"), do(kernel, "endpoint", network="blue", name="a", netns="a")), "endpoint",
         {"network": "blue", "name": "b", "netns": "b"},
         ["network: blue is passthru, and blue/a has it already; "
          "a passthru network has one endpoint: use another network, or one with mode: bridge"]),
    Case(lambda kernel: address(kernel, "192.0.2.1/24"), "network", network(mode="passthru"),
         ["mode: eth0 has the address 192.0.2.1/24, and passthru takes all that comes for it from the host; use a VLAN of it, or another mode"]),
    Case(living, "network", {**network("blue", text="10.0.0.0/24", mode="passthru"), "recreate": True},
         ["mode: blue has the endpoints a, b, and passthru has room for one; make the others absent first"]),
    Case(lambda kernel: do(kernel, "network", **IPVLAN), "network", network(driver="ipvlan", flag="private", share_parent=True),
         ["mode: blue on eth0 is l2 bridge, and a parent has one mode and flag for all; give the same mode and flag, or another parent"]),
    Case(lambda kernel: blue(kernel, share_parent=True), "network", network(text="10.0.0.128/25", share_parent=True),
         ["subnets: 10.0.0.128/25 overlaps 10.0.0.0/24 of blue on the same eth0; "
          "a broadcast domain has each subnet once: use another VLAN, or other subnets"]),
    Case(lambda kernel: member(kernel, "bridge", "br0"), "network", network(),
         ["parent: eth0 belongs to bridge br0, which takes all its frames; give parent: br0, or a VLAN of it"]),
    Case(lambda kernel: member(kernel, "vrf", "tenant"), "network", network(driver="ipvlan", mode="l3s"),
         ["mode: eth0 is in VRF tenant, where endpoints of mode l3s get nothing; use mode: l3"]),
    Case(lambda kernel: foreign(kernel, "x", kind="ipvlan", data={"mode": "l2", "flag": "bridge"}), "network", network(),
         ["parent: eth0 carries x in netns:alien (ipvlan), which is not ours; macvlan and ipvlan cannot share a parent: use another one"]),
    Case(lambda kernel: foreign(kernel, "x", kind="ipvlan", data={"mode": "l3", "flag": "bridge"}), "network", network(driver="ipvlan"),
         ["mode: x in netns:alien is l3 bridge, and the kernel would switch it to l2 bridge; give its mode and flag, or another parent"]),
    Case(lambda kernel: foreign(kernel, "x", kind="macvlan", data={"mode": "passthru"}), "network", network(),
         ["mode: eth0 carries x in netns:alien, and passthru shares with nobody; use another parent"]),
    Case(lambda kernel: address(kernel, "10.1.0.9/24"), "network", network(driver="ipvlan", mode="l3"),
         ["subnets[0].subnet: 10.1.0.0/24 overlaps 10.1.0.9/24 of eth0; an L3 network needs a subnet of its own, which others reach by a route"]),
    Case(lambda kernel: setattr(kernel.world, "ipv6", False), "network", network(text="2001:db8::/64"),
         ["subnets[0].subnet: 2001:db8::/64 is IPv6, and the kernel of this host runs without it; "
          "leave it out, or boot the host without ipv6.disable=1"]),
    Case(lambda kernel: kernel.world.lacking.update(("ipvlan", "vlan")), "network", network(driver="ipvlan", parent="eth0.5"),
         [f"{option}: the kernel of this host has no driver {driver}; "
          "install the package with the other modules of this kernel (the role prepare names it), or boot one that has it"
          for option, driver in (("driver", "ipvlan"), ("parent", "8021q"))]),
    Case(lambda kernel: None, "network", network(mtu=9000), ["mtu: 9000 is more than the 1500 of eth0; give 1500 at most, or raise eth0"]),
    Case(living, "endpoint", {"network": "blue", "name": "a"},
         ["state: blue/a lives, as eth0 in netns:a; use state: absent to remove it"], "released"),
    Case(renamed, "endpoint", {"network": "blue", "name": "a"},
         ["name: blue/a lives on as eth0 in /proc/7/ns/net, while docker:web is gone or another; "
          "if it was renamed, attach it by its new name first, else remove that link by hand"], "absent"),
    Case(deaf, "endpoint", {"network": "blue", "name": "a"},
         ["name: blue/a is in docker:web, and docker does not answer; see to that first"], "absent"),
    Case(lambda kernel: kernel.add("", "eth0.5", kind="vlan", parent=2, data={"vlan_id": 5, "protocol": "802.1q"}), "vlan", {"name": "eth0.5"},
         ["name: eth0.5 exists and was not made by us; remove it by hand, or set adopt: true to have it removed"], "absent"),
    Case(lambda kernel: (do(kernel, "vlan", parent="eth0", vlan_id=5), blue(kernel, parent="eth0.5")), "vlan", {"name": "eth0.5"},
         ["state: eth0.5 is the parent of blue; make those networks absent first"], "absent"),
    Case(lambda kernel: do(kernel, "vlan", name="up", parent="eth0", vlan_id=5), "vlan", {"name": "up", "parent": "eth0", "vlan_id": 6},
         ["vlan_id: up has vlan_id 5, and no kernel changes that in place; make it absent first, or give another name",
          "parent: up exists and is not VLAN 6 (802.1q) of eth0; "
          "no kernel changes that in place: remove it first (state: absent if it is ours), or give another name"]),
]  # fmt: skip


def managed(kernel: PaperKernel) -> None:
    """By an address of eth0.5, which is ours."""
    do(kernel, "vlan", parent="eth0", vlan_id=5, addresses=["10.5.0.1/24", "10.6.0.1/24"])
    kernel.world.managed_at = ("10.5.0.1",)


MANAGED = "this host is being managed by 10.5.0.1/24 of eth0.5; come by another of its addresses to remove that one"
CASES += [
    Case(managed, "vlan", {"name": "eth0.5"}, [f"state: {MANAGED}"], "absent"),
    Case(managed, "vlan", {"parent": "eth0", "vlan_id": 5, "addresses": ["10.6.0.1/24"]}, [f"addresses: {MANAGED}"]),
]  # fmt: skip


def said(case: Case) -> List[str]:
    kernel = PaperKernel("eth0")
    case.there(kernel)
    return refused(kernel, case.kind, case.state, **case.options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.expected[0][:50])
def test_a_broken_rule_is_refused(case: Case) -> None:
    assert said(case) == case.expected


def test_every_message_has_a_test() -> None:
    assert texts_without_a_test([text for case in CASES for text in said(case)], rules) == []


# --- parents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "text"),
    [
        ("eth9", "parent: eth9 does not exist; this host has eth0"),
        ("eth9.10", "parent: eth9 does not exist; this host has eth0"),
        ("eth0.0", "parent: eth0.0 does not exist, and '0' is no VLAN ID; write eth0.VID, from 1 to 4094 and without a zero in front"),
        ("eth0.4095", "parent: eth0.4095 does not exist, and '4095' is no VLAN ID; write eth0.VID, from 1 to 4094 and without a zero in front"),
        ("eth0.010", "parent: eth0.010 does not exist, and '010' is no VLAN ID; write eth0.VID, from 1 to 4094 and without a zero in front"),
        ("lo.10", "parent: lo is the loopback, and has no VLANs; this host has eth0"),
    ],
)
def test_parents_that_cannot_be_had(parent: str, text: str) -> None:
    assert refused(PaperKernel("eth0"), "network", name="n", driver="macvlan", parent=parent) == [text]


def test_a_parent_that_is_gone() -> None:
    kernel = PaperKernel("eth0")
    blue(kernel)
    do(kernel, "network", name="red", driver="ipvlan", parent="eth0.7", subnets=subnets("10.0.1.0/24"))
    do(kernel, "endpoint", network="red", name="a", netns="a")
    unplug(kernel, "eth0")
    assert refused(kernel, "endpoint", network="blue", name="b", netns="b") == [
        "network: the parent of blue is gone: eth0 does not exist; bring it back, or give the network another parent"
    ]
    assert refused(kernel, "endpoint", network="red", name="b", netns="b") == ["network red.parent: eth0 does not exist; this host has no link but lo"]
    kernel.links("", "eth0")
    do(kernel, "endpoint", network="red", name="b", netns="b")
    assert kernel.world.host.names["eth0.7"].data["vlan_id"] == 7
    do(kernel, "endpoint", network="red", name="a", netns="a")
    assert "eth0" in kernel.world.namespaces["netns:a"].names


def test_a_network_brings_back_its_endpoints_with_its_parent() -> None:
    kernel = PaperKernel("eth0")
    blue(kernel, parent="eth0.5")
    do(kernel, "endpoint", network="blue", name="a", netns="a")
    unplug(kernel, "eth0.5")
    blue(kernel, parent="eth0.5")
    assert plan.drift(kernel.records, kernel.world) == []


def test_no_two_endpoints_have_one_interface() -> None:
    kernel = PaperKernel("eth0")
    blue(kernel)
    do(kernel, "endpoint", network="blue", name="a", netns="n")
    assert refused(kernel, "endpoint", network="blue", name="b", netns="n", interface="eth0") == [
        "interface: eth0 is that of blue/a; give another name, or leave it to us"
    ]


def test_a_passthru_endpoint_has_the_mac_of_its_parent() -> None:
    kernel = PaperKernel("eth0")
    blue(kernel, mode="passthru")
    found = do(kernel, "endpoint", network="blue", name="a", netns="n")
    (change,) = [change for change in found.changes if change.key == "netns:n/eth0" and change.verb == "create"]
    assert change.after is not None and "mac" not in change.after


def test_host_bits_are_told() -> None:
    into = model.declare(
        "network",
        {"name": "n", "driver": "macvlan", "subnets": [{"subnet": "10.0.0.9/24", "ip_range": "10.0.0.200/26"}]}, "present", False,
    )  # fmt: skip
    assert into.warnings == [
        "subnets[0].subnet: 10.0.0.9/24 has host bits set and is taken as 10.0.0.0/24",
        "subnets[0].ip_range: 10.0.0.200/26 has host bits set and is taken as 10.0.0.192/26",
    ]


def test_a_base_stays_while_a_sub_interface_of_ours_is_on_it() -> None:
    kernel = PaperKernel("bond0")
    blue(kernel, parent="bond0.100")
    blue(kernel, name="red", parent="bond0.100.200", subnets=subnets("10.0.1.0/24"))
    do(kernel, "endpoint", network="red", name="a", netns="a")
    do(kernel, "network", "absent", name="blue")
    assert {"bond0.100", "bond0.100.200"} <= set(kernel.world.host.names)
    do(kernel, "endpoint", "absent", network="red", name="a")
    do(kernel, "network", "absent", name="red")
    assert set(kernel.world.host.names) == {"lo", "bond0"} and not any(kernel.records.values())


def test_a_declared_base_stays_too() -> None:
    kernel = PaperKernel("bond0")
    do(kernel, "vlan", parent="bond0", vlan_id=100)
    blue(kernel, parent="bond0.100.200")
    assert refused(kernel, "vlan", "absent", name="bond0.100") == [
        "state: bond0.100 is the parent of blue; make those networks absent first"
    ]
    do(kernel, "network", "absent", name="blue")
    assert set(kernel.world.host.names) == {"lo", "bond0", "bond0.100"}
    do(kernel, "vlan", "absent", name="bond0.100")
