# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not stand beside what, on a simulated kernel: every refusal, with the item that it names."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, NamedTuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change, Record
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Link, Namespace, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import drivers
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare, parent_rules, plan, rules

from tests.support.engine_messages import texts_without_a_test
from tests.support.planning import declare, mapped, refusal
from tests.support.simulated_kernel import SimulatedKernel


def subnets(*texts: str) -> List[Dict[str, Any]]:
    return [{"subnet": text} for text in texts]


def do(kernel: SimulatedKernel, kind: str, /, state: str = "present", adopt: bool = False, **options: Any) -> plan.Plan:
    """One task, applied and recorded."""
    found = plan.plan(
        model.declare(kind, options, state, adopt), copy.deepcopy(kernel.records), kernel.observed, "seed"
    )
    kernel.apply(found.changes)
    kernel.record(found.changes)
    return found


def refused(
    kernel: SimulatedKernel, kind: str, state: str = "present", adopt: bool = False, **options: Any
) -> List[str]:
    """The problems of a task, which changes nothing."""
    before = copy.deepcopy(kernel.records)
    with pytest.raises(InputError) as caught:
        do(kernel, kind, state, adopt, **options)
    assert kernel.records == before
    return [str(problem) for problem in caught.value.problems]


def blue(kernel: SimulatedKernel, **options: Any) -> plan.Plan:
    return do(
        kernel,
        "network",
        **{"name": "blue", "driver": "macvlan", "parent": "eth0", "subnets": subnets("10.0.0.0/24"), **options},
    )


def unplug(kernel: SimulatedKernel, name: str) -> None:
    """Somebody else removes a link of the host, with what uses it."""
    kernel.apply(
        [Change("link", name, {"netns": "", "name": name, "kind": kernel.observed.host.names[name].kind}, None, "test")]
    )


# --- every rule ----------------------------------------------------------------------------------


class Case(NamedTuple):
    """What is there, what is asked for, and everything that speaks against it."""

    there: Callable[[SimulatedKernel], object]
    kind: str
    options: Dict[str, Any]
    expected: List[str]
    state: str = "present"


def network(
    name: str = "red", driver: str = "macvlan", parent: str = "eth0", text: str = "10.1.0.0/24", **more: Any
) -> Dict[str, Any]:
    return {"name": name, "driver": driver, "parent": parent, "subnets": subnets(text), **more}


def foreign(kernel: SimulatedKernel, name: str, **more: Any) -> None:
    """A link of somebody else on eth0, in a namespace without a name."""
    space = Namespace("netns:alien", "/run/netns/alien", (4, 9))
    kernel.observed.others = [space]
    parent = kernel.observed.host.names["eth0"].index
    kernel.observed.namespaces["netns:alien"] = space
    kernel.add("netns:alien", name, parent=parent, parent_ns="", **more)
    del kernel.observed.namespaces["netns:alien"]
    kernel.observed.__dict__.pop("children", None)


def member(kernel: SimulatedKernel, kind: str, name: str) -> None:
    """eth0 belongs to somebody."""
    kernel.observed.host.names["eth0"].master = kernel.add("", name, kind=kind, data={"table": 7}).index


def address(kernel: SimulatedKernel, text: str) -> None:
    kernel.apply([Change("address", f"eth0 {text}", None, {"netns": "", "link": "eth0", "address": text}, "test")])


def living(kernel: SimulatedKernel, **options: Any) -> None:
    blue(kernel, **options)
    for name in ("a", "b"):
        do(kernel, "endpoint", network="blue", name=name, netns=name)


def deaf(kernel: SimulatedKernel) -> None:
    """The engine of an endpoint's container does not answer."""
    living(kernel)
    kernel.records["endpoint"]["blue/a"].spec["workload"] = "docker:web"
    kernel.observed.refusals["docker:web"] = "docker does not answer"


def renamed(kernel: SimulatedKernel) -> None:
    """The container of an endpoint was renamed behind our back."""
    living(kernel)
    kernel.records["endpoint"]["blue/a"].spec["workload"] = "docker:web"
    kernel.records["link"]["docker:web/eth0"] = kernel.records["link"].pop("netns:a/eth0")
    space = kernel.observed.namespaces.pop("netns:a")
    space.workload = "/proc/7/ns/net"
    kernel.observed.others = [space]
    kernel.observed.gone.add("docker:web")
    kernel.observed.__dict__.pop("children", None)


IPVLAN: Dict[str, Any] = {
    "name": "blue",
    "driver": "ipvlan",
    "parent": "eth0",
    "subnets": subnets("10.0.0.0/24"),
    "share_parent": True,
}

CASES = [
    Case(lambda kernel: (do(kernel, "vlan", parent="eth0", vlan_id=5), blue(kernel),
                         do(kernel, "endpoint", network="blue", name="a", netns="a", vlans=[5])), "vlan", {"name": "eth0.5"},
         ["state: eth0.5 carries the endpoints a; take the VLAN out of their vlans first"], "absent"),
    Case(living, "network", {"name": "blue"}, ["state: network blue has the endpoints a, b; make those absent first"], "absent"),
    Case(living, "network", {**network("blue"), "driver": "ipvlan"},
         ["driver: is macvlan and cannot become ipvlan under the endpoints a, b; "
          "set recreate: true (they keep names, addresses and MACs), or make them absent first",
          "subnets: 10.0.0.0/24 is in use by a, b; remove those endpoints first, or keep it"]),
    Case(blue, "network", network(driver="ipvlan", share_parent=True),
         ["driver: eth0 carries blue (macvlan); macvlan and ipvlan cannot share a parent: use another, or the same driver and share_parent: true on both"]),
    Case(lambda kernel: blue(kernel, share_parent=True), "network", network(mode="passthru", share_parent=True),
         ["mode: eth0 carries blue, and passthru does not share its parent; use another parent, or mode: bridge for both"]),
    Case(blue, "network", network(share_parent=True),
         ["parent: eth0 is the parent of blue already; use another parent (a VLAN each), or set share_parent: true on both"]),
    Case(lambda kernel: (blue(kernel, mode="passthru"), do(kernel, "endpoint", network="blue", name="a", netns="a")), "endpoint",
         {"network": "blue", "name": "b", "netns": "b"},
         ["network: blue is passthru, and blue/a has it already; "
          "a passthru network has one endpoint: use another network, or one with mode: bridge"]),
    Case(lambda kernel: (blue(kernel), do(kernel, "endpoint", network="blue", name="a", netns="a"), kernel.observed.spaces.update(
         {"netns:alias": kernel.observed.namespaces["netns:a"].identity})), "endpoint", {"network": "blue", "name": "b", "netns": "alias"},
         ["network: netns:alias and netns:a are one network namespace, which has blue/a already; "
          "a namespace can join a network only once: remove that endpoint first, or join another network"]),
    Case(lambda kernel: address(kernel, "192.0.2.1/24"), "network", network(mode="passthru"),
         ["mode: eth0 has the address 192.0.2.1/24, and passthru takes all its traffic away from the host; use a VLAN of it, or another mode"]),
    Case(living, "network", {**network("blue", text="10.0.0.0/24", mode="passthru"), "recreate": True},
         ["mode: blue has the endpoints a, b, and passthru allows only one; make the others absent first"]),
    Case(lambda kernel: do(kernel, "network", **IPVLAN), "network", network(driver="ipvlan", flag="private", share_parent=True),
         ["mode: blue on eth0 is l2 bridge, and a parent has one mode and flag for all; give the same mode and flag, or another parent"]),
    Case(lambda kernel: blue(kernel, share_parent=True), "network", network(text="10.0.0.128/25", share_parent=True),
         ["subnets: 10.0.0.128/25 overlaps 10.0.0.0/24 of blue on the same eth0; "
          "a broadcast domain can have each subnet only once: use another VLAN, or other subnets"]),
    Case(lambda kernel: member(kernel, "bridge", "br0"), "network", network(),
         ["parent: eth0 belongs to bridge br0, which takes all its frames; give parent: br0, or a VLAN of it"]),
    Case(lambda kernel: member(kernel, "vrf", "tenant"), "network", network(driver="ipvlan", mode="l3s"),
         ["mode: eth0 is in VRF tenant, where l3s endpoints receive nothing; use mode: l3"]),
    Case(lambda kernel: foreign(kernel, "x", kind="ipvlan", data={"mode": "l2", "flag": "bridge"}), "network", network(),
         ["parent: eth0 carries x in netns:alien (ipvlan), which is not ours; macvlan and ipvlan cannot share a parent: use another one"]),
    Case(lambda kernel: foreign(kernel, "x", kind="ipvlan", data={"mode": "l3", "flag": "bridge"}), "network", network(driver="ipvlan"),
         ["mode: x in netns:alien is l3 bridge, and the kernel would switch it to l2 bridge; give its mode and flag, or another parent"]),
    Case(lambda kernel: foreign(kernel, "x", kind="macvlan", data={"mode": "passthru"}), "network", network(),
         ["mode: eth0 carries x in netns:alien, and passthru does not share its parent; use another parent"]),
    Case(lambda kernel: address(kernel, "10.1.0.9/24"), "network", network(driver="ipvlan", mode="l3"),
         ["subnets[0].subnet: 10.1.0.0/24 overlaps 10.1.0.9/24 of eth0; an L3 network needs its own subnet, which others reach by routes"]),
    Case(lambda kernel: setattr(kernel.observed, "ipv6", False), "network", network(text="2001:db8::/64"),
         ["subnets[0].subnet: 2001:db8::/64 is IPv6, and this host runs without IPv6; "
          "leave it out, or boot the host without ipv6.disable=1"]),
    Case(lambda kernel: kernel.observed.lacking.update(("ipvlan", "vlan")), "network", network(driver="ipvlan", parent="eth0.5"),
         [f"{option}: the kernel of this host has no driver {driver}; "
          "install the package with the other modules of this kernel (the role prepare names it), or boot one that has it"
          for option, driver in (("driver", "ipvlan"), ("parent", "8021q"))]),
    Case(lambda kernel: kernel.observed.outdated.update({"ipvlan": drivers.outdated("ipvlan", "4.1.52-generic")}), "network",
         network(driver="ipvlan"), ["driver: ipvlan needs Linux 4.2 or newer, and this host runs 4.1.52-generic; boot a newer kernel"]),
    Case(lambda kernel: setattr(kernel.observed, "unfiltered", "it has no nf_tables"), "network", network(spoof_check=True),
         ["spoof_check: this kernel cannot hold endpoints to their own addresses: it has no nf_tables; leave it out, or boot "
          "Linux 5.16 or newer with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_EGRESS"]),
    Case(lambda kernel: None, "network", network(mtu=9000), ["mtu: 9000 is more than the 1500 of eth0; give 1500 at most, or raise eth0"]),
    Case(living, "endpoint", {"network": "blue", "name": "a"},
         ["state: blue/a lives, as eth0 in netns:a; use state: absent to remove it"], "released"),
    Case(renamed, "endpoint", {"network": "blue", "name": "a"},
         ["name: blue/a lives on as eth0 in /proc/7/ns/net, while docker:web is gone or was replaced; "
          "if it was renamed, attach it by its new name first, otherwise remove that link by hand"], "absent"),
    Case(deaf, "endpoint", {"network": "blue", "name": "a"},
         ["name: docker does not answer, so whether blue/a (docker:web) can be removed is unknown; "
          "start or repair the container engine, then run again: a container that it no longer has is released"], "absent"),
    Case(lambda kernel: kernel.add("", "eth0.5", kind="vlan", parent=2, data={"vlan_id": 5, "protocol": "802.1q"}), "vlan", {"name": "eth0.5"},
         ["name: eth0.5 exists and was not created by us; remove it by hand, or set adopt: true to have it removed"], "absent"),
    Case(lambda kernel: (do(kernel, "vlan", parent="eth0", vlan_id=5), blue(kernel, parent="eth0.5")), "vlan", {"name": "eth0.5"},
         ["state: eth0.5 is the parent of blue; make those networks absent first"], "absent"),
    Case(lambda kernel: do(kernel, "vlan", name="up", parent="eth0", vlan_id=5), "vlan", {"name": "up", "parent": "eth0", "vlan_id": 6},
         ["vlan_id: up has vlan_id 5, which the kernel cannot change in place; make it absent first, or give another name",
          "parent: up exists and is not VLAN 6 (802.1q) of eth0; "
          "the kernel cannot change that in place: remove it first (state: absent if it is ours), or give another name"]),
]  # fmt: skip


def test_a_namespace_that_others_made_is_not_there_after_a_reboot() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    kernel.observed.namespaces["netns:a"] = Namespace("netns:a", "/run/netns/a", (4, 77))
    kernel.links("netns:a", "lo")
    said = "a was created by others and is not created again after a reboot: the endpoint then waits until it is"
    assert do(kernel, "endpoint", network="blue", name="a", netns="a").warnings == [f"netns: {said}"]
    assert do(kernel, "endpoint", network="blue", name="a", netns="a").warnings == [], "once"
    assert do(kernel, "endpoint", network="blue", name="b", netns="b").warnings == []


def test_an_engine_that_does_not_answer_is_one_problem() -> None:
    kernel = SimulatedKernel("eth0")
    network = {"name": "blue", "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.1.0.0/24"}]}
    names = [f"a{number}" for number in range(7)]
    declare(
        kernel,
        mapped(networks=[network], endpoints=[{"network": "blue", "name": name, "netns": name} for name in names]),
    )
    for name in names:
        kernel.records["endpoint"][f"blue/{name}"].spec["workload"] = f"podman:{name}"
        kernel.observed.refusals[f"podman:{name}"] = "podman failed: no space"
    found = refusal(kernel, mapped(purge=True))
    assert len(found) == 1 and "blue/a4 (podman:a4) and 2 more" in found[0]


# --- a container whose engine does not answer, where every namespace is seen ---------------------


def silent(kernel: SimulatedKernel, **options: Any) -> Link:
    """The link of blue/a, whose container is in a namespace that has no name."""
    living(kernel, **options)
    deaf_to(kernel, "a")
    return kernel.observed.others[0].names["eth0"]


def deaf_to(kernel: SimulatedKernel, name: str) -> None:
    """The namespace of an endpoint is that of docker:NAME, and Docker does not say so."""
    kernel.records["endpoint"][f"blue/{name}"].spec["workload"] = f"docker:{name}"
    for kind in ("link", "address", "route", "hosts", "netns"):
        for key in [key for key in kernel.records[kind] if key.startswith(f"netns:{name}")]:
            record = kernel.records[kind].pop(key)
            spec = {**record.spec, "netns": f"docker:{name}"}
            of = record.of.replace("netns:", "docker:")
            if kind != "netns":
                kernel.records[kind][key.replace("netns:", "docker:")] = record._replace(spec=spec, of=of)
    space = kernel.observed.namespaces.pop(f"netns:{name}")
    space.workload = f"/proc/{space.identity[1]}/ns/net"
    kernel.observed.others.append(space)
    kernel.observed.refusals[f"docker:{name}"] = "docker does not answer"
    kernel.observed.unwritable["hosts", f"docker:{name}"] = "docker does not answer"
    kernel.observed.searched = True
    kernel.observed.__dict__.pop("children", None)


def left_of(kernel: SimulatedKernel, name: str) -> List[str]:
    return [key for records in kernel.records.values() for key in records if key.startswith((name, f"docker:{name}"))]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_silent_container_loses_its_link_wherever_that_is(driver: str) -> None:
    kernel = SimulatedKernel("eth0")
    silent(kernel, driver=driver)
    names = "docker:a keeps the names of its networks in its hosts file: docker does not answer; "
    found = do(kernel, "endpoint", "absent", network="blue", name="a")
    assert found.warnings == [names + "restart it, and its engine writes the file anew"]
    assert list(kernel.observed.others[0].names) == ["lo"] and left_of(kernel, "a") == []
    assert "eth0" in kernel.observed.namespaces["netns:b"].names


def test_a_silent_container_leaves_nothing_that_keeps_its_parent() -> None:
    kernel = SimulatedKernel("eth0")
    rows = [{"network": "blue", "name": name, "netns": name} for name in "ab"]
    declare(kernel, mapped(networks=[network("blue", parent="eth0.5")], endpoints=rows))
    deaf_to(kernel, "a")
    deaf_to(kernel, "b")
    found = declare(kernel, mapped(purge=True))
    assert [text.partition(":a ")[0] for text in found.warnings[:1]] == ["docker"] and len(found.warnings) == 2
    assert "eth0.5" not in kernel.observed.host.names and not any(kernel.records.values())


def test_a_link_with_our_mark_that_is_not_the_recorded_one_stays_with_its_parent() -> None:
    kernel = SimulatedKernel("eth0")
    declare(
        kernel,
        mapped(networks=[network("blue", parent="eth0.5")], endpoints=[{"network": "blue", "name": "a", "netns": "a"}]),
    )
    deaf_to(kernel, "a")
    space = kernel.observed.others[0]
    space.names["eth0"].mac = "02:00:00:00:00:01"
    found = declare(kernel, mapped(purge=True))
    assert found.warnings == [
        f"eth0.5 stays, although nothing of ours needs it any more: eth0 in {space.workload} uses it",
        f"eth0 in {space.workload} has our mark but is in no registry, so it stays; if it is docker:a/eth0, which somebody changed, "
        "remove it by ip link del",
    ]
    assert "eth0" in space.names and "eth0.5" in kernel.observed.host.names and left_of(kernel, "a") == []


def test_a_silent_container_that_has_no_link_any_more_has_ended() -> None:
    kernel = SimulatedKernel("eth0")
    silent(kernel)
    lost = kernel.observed.others.pop()
    kernel.observed.__dict__.pop("children", None)
    assert do(kernel, "endpoint", "released", network="blue", name="a").warnings == []
    assert left_of(kernel, "a") == [] and "eth0" in lost.names
    do(kernel, "endpoint", network="blue", name="c", netns="c")
    assert kernel.records["endpoint"]["blue/c"].spec["addresses"] == ["10.0.0.2/24"]


def test_a_silent_container_is_not_released_while_its_link_lives_and_may_move() -> None:
    kernel = SimulatedKernel("eth0")
    link = silent(kernel)
    where = kernel.observed.others[0].workload
    assert refused(kernel, "endpoint", "released", network="blue", name="a") == [
        f"state: blue/a lives, as eth0 in {where}; use state: absent to remove it"
    ]
    do(kernel, "endpoint", network="blue", name="a", netns="c")
    assert kernel.observed.namespaces["netns:c"].names["eth0"].mac == link.mac
    assert list(kernel.observed.others[0].names) == ["lo"] and left_of(kernel, "docker:a") == []


def managed(kernel: SimulatedKernel) -> None:
    """By an address of eth0.5, which is ours."""
    do(kernel, "vlan", parent="eth0", vlan_id=5, addresses=["10.5.0.1/24", "10.6.0.1/24"])
    kernel.observed.managed_at = ("10.5.0.1",)


MANAGED = "this host is managed through 10.5.0.1/24 of eth0.5; connect through another of its addresses to remove it"


def special(kernel: SimulatedKernel, **values: Any) -> None:
    kernel.links("", "odd", **values)


def on_eth0(kernel: SimulatedKernel, kind: str) -> None:
    special(kernel, kind=kind, data={"mode": "l2", "flag": "bridge"}, parent=kernel.observed.host.names["eth0"].index)


def tower(kernel: SimulatedKernel, levels: int) -> None:
    """VLANs of others on each other: q1 on eth0, and so on."""
    below = kernel.observed.host.names["eth0"].index
    for level in range(1, levels + 1):
        data = {"vlan_id": 5, "protocol": "802.1q"}
        below = kernel.add("", f"q{level}", kind="vlan", parent=below, data=data).index


CASES += [
    Case(lambda kernel: special(kernel, type=65534), "network", network(parent="odd"),
         ["parent: odd is not an Ethernet link, and cannot carry VLANs, macvlan or ipvlan; give a NIC, a bond or a bridge"]),
    Case(lambda kernel: special(kernel, kind="macvlan", data={"mode": "bridge"}, parent=kernel.observed.host.names["eth0"].index), "network",
         network(parent="odd"), ["parent: odd is itself a macvlan, and the kernel would use the link below it; give parent: eth0"]),
    Case(lambda kernel: special(kernel, type=65534), "vlan", {"parent": "odd", "vlan_id": 5},
         ["parent: odd is not an Ethernet link, and cannot carry VLANs, macvlan or ipvlan; give a NIC, a bond or a bridge"]),
    Case(lambda kernel: special(kernel, kind="vrf", data={"table": 7}), "network", network(parent="odd.5"),
         ["parent: odd is a VRF, and cannot carry VLANs, macvlan or ipvlan; give a NIC, a bond or a bridge"]),
    Case(lambda kernel: on_eth0(kernel, "ipvlan"), "vlan", {"parent": "odd", "vlan_id": 5},
         ["parent: odd is itself an ipvlan, which carries no VLAN; give parent: eth0"]),
    Case(lambda kernel: on_eth0(kernel, "ipvlan"), "network", network(parent="odd.5"),
         ["parent: odd is itself an ipvlan, which carries no VLAN; give parent: eth0.5"]),
    Case(lambda kernel: on_eth0(kernel, "ipvlan"), "network", network(parent="odd"),
         ["parent: odd is itself an ipvlan, which carries no macvlan; use another parent: the link below it carries ipvlan too"]),
    Case(lambda kernel: on_eth0(kernel, "macsec"), "network", network(parent="eth0"),
         ["parent: eth0 carries odd (macsec), which takes all its frames; give parent: odd, or another link"]),
    Case(lambda kernel: special(kernel, type=772), "network", network(parent="odd"),
         ["parent: odd is the loopback; give a NIC, a bond, a VLAN sub-interface or a dummy"]),
    Case(lambda kernel: setattr(kernel.observed, "unseen", "of a test"), "network", network(driver="ipvlan"),
         ["mode: ipvlan links on eth0 in other namespaces would be switched to l2 bridge, and not all namespaces can be seen: of a test; "
          "run it on the host itself, as root and in its PID namespace, or give a parent that does not exist yet"]),
    Case(lambda kernel: tower(kernel, 7), "network", network(parent="q7"),
         ["parent: q7 would be part of a stack of 9 links, and the kernel allows 8; use a parent with fewer links below it"]),
    Case(lambda kernel: tower(kernel, 7), "vlan", {"parent": "q7", "vlan_id": 9},
         ["parent: q7.9 would be part of a stack of 9 links, and the kernel allows 8; use a parent with fewer links below it"]),
    Case(lambda kernel: (do(kernel, "vlan", parent="eth0", vlan_id=5), blue(kernel, parent="eth0.5", mtu=1450)), "vlan",
         {"parent": "eth0", "vlan_id": 5, "mtu": 1400}, ["mtu: 1400 is less than the 1450 of blue; lower that first, or in the same map"]),
    Case(lambda kernel: do(kernel, "vlan", parent="eth0", vlan_id=5, mtu=1400), "network", network(parent="eth0.5", mtu=1450),
         ["mtu: 1450 is more than the 1400 of eth0.5; give 1400 at most, or raise eth0.5"]),
    Case(managed, "vlan", {"name": "eth0.5"}, [f"state: {MANAGED}"], "absent"),
    Case(managed, "vlan", {"parent": "eth0", "vlan_id": 5, "addresses": ["10.6.0.1/24"]}, [f"addresses: {MANAGED}"]),
]  # fmt: skip


def said(case: Case) -> List[str]:
    kernel = SimulatedKernel("eth0")
    case.there(kernel)
    return refused(kernel, case.kind, case.state, **case.options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.expected[0][:50])
def test_a_broken_rule_is_refused(case: Case) -> None:
    assert said(case) == case.expected


def test_every_message_has_a_test() -> None:
    assert texts_without_a_test([text for case in CASES for text in said(case)], rules, parent_rules) == []


# --- parents -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parent", "text"),
    [
        ("eth9", "parent: eth9 does not exist; this host has eth0"),
        ("eth9.10", "parent: eth9 does not exist; this host has eth0"),
        (
            "eth0.0",
            "parent: eth0.0 does not exist, and '0' is no VLAN ID; write eth0.VID, from 1 to 4094 without a leading zero",
        ),
        (
            "eth0.4095",
            "parent: eth0.4095 does not exist, and '4095' is no VLAN ID; write eth0.VID, from 1 to 4094 without a leading zero",
        ),
        (
            "eth0.010",
            "parent: eth0.010 does not exist, and '010' is no VLAN ID; write eth0.VID, from 1 to 4094 without a leading zero",
        ),
        ("lo.10", "parent: lo is the loopback, and has no VLANs; this host has eth0"),
    ],
)
def test_parents_that_cannot_be_had(parent: str, text: str) -> None:
    assert refused(SimulatedKernel("eth0"), "network", name="n", driver="macvlan", parent=parent) == [text]


def test_a_parent_that_is_gone() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    do(kernel, "network", name="red", driver="ipvlan", parent="eth0.7", subnets=subnets("10.0.1.0/24"))
    do(kernel, "endpoint", network="red", name="a", netns="a")
    unplug(kernel, "eth0")
    assert refused(kernel, "endpoint", network="blue", name="b", netns="b") == [
        "network: the parent of blue is gone: eth0 does not exist; bring it back, or give the network another parent"
    ]
    assert refused(kernel, "endpoint", network="red", name="b", netns="b") == [
        "network red.parent: eth0 does not exist; this host has no link but lo"
    ]
    kernel.links("", "eth0")
    do(kernel, "endpoint", network="red", name="b", netns="b")
    assert kernel.observed.host.names["eth0.7"].data["vlan_id"] == 7
    do(kernel, "endpoint", network="red", name="a", netns="a")
    assert "eth0" in kernel.observed.namespaces["netns:a"].names


def test_a_network_brings_back_its_endpoints_with_its_parent() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, parent="eth0.5")
    do(kernel, "endpoint", network="blue", name="a", netns="a")
    unplug(kernel, "eth0.5")
    blue(kernel, parent="eth0.5")
    assert compare.drift(kernel.records, kernel.observed) == []


def test_no_two_endpoints_have_one_interface() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    blue(kernel, name="red", parent="eth0.5", subnets=subnets("10.0.5.0/24"))
    do(kernel, "endpoint", network="blue", name="a", netns="n")
    assert refused(kernel, "endpoint", network="red", name="b", netns="n", interface="eth0") == [
        "interface: eth0 is that of blue/a; give another name, or leave it out"
    ]


def test_a_namespace_joins_a_network_once() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    do(kernel, "endpoint", network="blue", name="a", netns="n")
    why = "a namespace can join a network only once: remove that endpoint first, or join another network"
    assert refused(kernel, "endpoint", network="blue", name="b", netns="n") == [
        f"network: netns:n is already in this network, as blue/a; {why}"
    ]
    do(kernel, "endpoint", "absent", network="blue", name="a")
    do(kernel, "endpoint", network="blue", name="b", netns="n")
    rows = [{"network": "blue", "name": name, "netns": "new"} for name in ("c", "d")]
    with pytest.raises(InputError, match=r"endpoints\[1\].network: netns:new is already in this network, as blue/c"):
        plan.plan(model.declare_map({"name": "m", "endpoints": rows}), kernel.records, kernel.observed, "seed")


def test_a_passthru_endpoint_has_the_mac_of_its_parent() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, mode="passthru")
    found = do(kernel, "endpoint", network="blue", name="a", netns="n")
    (change,) = [change for change in found.changes if change.key == "netns:n/eth0" and change.verb == "create"]
    assert change.after is not None and "mac" not in change.after


def test_host_bits_of_a_subnet_are_dropped_with_a_warning() -> None:
    row = {"name": "n", "driver": "macvlan", "subnets": [{"subnet": "10.0.0.9/24", "ip_range": "10.0.0.192/26"}]}
    into = model.declare("network", row, "present", False)
    assert into.warnings == ["subnets[0].subnet: 10.0.0.9/24 has host bits set; using 10.0.0.0/24"]


# --- addresses that the host knows to be in use --------------------------------------------------


def in_use(kernel: SimulatedKernel) -> None:
    """eth1 has an address in the subnet of blue, and so have a router, a DNS server and the controller."""
    kernel.links("", "eth1")
    host = kernel.observed.host
    kernel.apply(
        [Change("address", "eth1 10.0.0.2/24", None, {"netns": "", "link": "eth1", "address": "10.0.0.2/24"}, "x")]
    )
    host.routes = [Route("10.9.0.0/16", "unicast", "10.0.0.3", host.names["eth1"].index, None, 0, 254, 3, 0)]
    kernel.observed.nameservers = ("10.0.0.4", "fe80::1%eth1")
    kernel.observed.controllers = ("10.0.0.5",)
    blue(kernel)


REASONS = {
    "10.0.0.2": "an address of this host, on eth1",
    "10.0.0.3": "the next hop of this host's route to 10.9.0.0/16",
    "10.0.0.4": "a DNS server of this host",
    "10.0.0.5": "the address from which this host is managed",
}


def test_an_automatic_address_is_none_that_the_host_knows_to_be_in_use() -> None:
    kernel = SimulatedKernel("eth0")
    in_use(kernel)
    found = do(kernel, "endpoint", network="blue", name="a", netns="n")
    assert found.items["endpoint"]["blue/a"]["addresses"] == ["10.0.0.6/24"]
    assert found.warnings == [f"network blue.subnets: {ip} is not assigned: it is {why}" for ip, why in REASONS.items()]
    again = do(kernel, "endpoint", network="blue", name="a", netns="n")
    assert (again.changes, again.warnings) == ([], [])


@pytest.mark.parametrize(("ip", "why"), REASONS.items())
def test_a_static_address_that_is_in_use_is_refused_by_name(ip: str, why: str) -> None:
    kernel = SimulatedKernel("eth0")
    in_use(kernel)
    assert refused(kernel, "endpoint", network="blue", name="a", netns="n", ipv4_address=ip) == [
        f"ipv4_address: {ip} is {why}; give another address, or leave it out"
    ]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_floating_address_on_an_endpoint_of_ours_is_in_use(driver: str) -> None:
    """As keepalived adds one: it is on a link that we recorded, and is no lease."""
    kernel = SimulatedKernel("eth0")
    blue(kernel, driver=driver)
    do(kernel, "endpoint", network="blue", name="a", netns="a")
    spec = {"netns": "netns:a", "link": "eth0", "address": "10.0.0.3/32"}
    kernel.apply([Change("address", "netns:a/eth0 10.0.0.3/32", None, spec, "x")])
    found = do(kernel, "endpoint", network="blue", name="b", netns="b")
    assert found.items["endpoint"]["blue/b"]["addresses"] == ["10.0.0.4/24"]
    assert refused(kernel, "endpoint", network="blue", name="c", netns="c", ipv4_address="10.0.0.3") == [
        "ipv4_address: 10.0.0.3 is in use by eth0 in netns:a; give another address, or leave it out"
    ]


def test_an_address_that_the_same_map_gives_the_host_is_in_use() -> None:
    kernel = SimulatedKernel("eth0")
    declared = model.declare_map({
        "name": "m", "links": [{"name": "eth0.5", "addresses": ["10.0.0.2/24"]}],
        "networks": [network(parent="eth0.5", text="10.0.0.0/24")], "endpoints": [{"network": "red", "name": "a", "netns": "a"}],
    })  # fmt: skip
    found = plan.plan(declared, {}, kernel.observed, "seed")
    assert found.items["endpoint"]["red/a"]["addresses"] == ["10.0.0.3/24"]


def test_ranges_bound_and_reserve() -> None:
    kernel = SimulatedKernel("eth0")
    row = {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.100-10.0.0.102", "aux_addresses": {"dhcp": "10.0.0.0/25"}}
    blue(kernel, subnets=[row])
    assert refused(kernel, "endpoint", network="blue", name="a", netns="a") == [
        "ipv4_address: no address is free in 10.0.0.100-10.0.0.102 of blue; widen ip_range, or remove an endpoint"
    ]
    blue(kernel, subnets=[{**row, "aux_addresses": {"dhcp": "10.0.0.1-10.0.0.100"}}])
    found = do(kernel, "endpoint", network="blue", name="a", netns="a")
    assert found.items["endpoint"]["blue/a"]["addresses"] == ["10.0.0.101/24"]


TWO = subnets("10.0.0.0/24", "10.1.0.0/24")


def test_more_addresses_stand_behind_the_first_one() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=TWO)
    one = {"network": "blue", "name": "one", "netns": "one"}
    more = ["10.0.0.2", "10.1.0.9", "10.1.0.8"]
    found = do(kernel, "endpoint", **one, ipv4_addresses=more).items["endpoint"]["blue/one"]
    assert found["addresses"] == ["10.0.0.3/24", "10.0.0.2/32", "10.1.0.9/24", "10.1.0.8/32"]
    assert do(kernel, "endpoint", **one, ipv4_addresses=more).changes == []
    # One that is no longer listed is free, and never becomes the first.
    found = do(kernel, "endpoint", **one, ipv4_addresses=more[1:], subnet="10.1.0.0/24").items["endpoint"]["blue/one"]
    assert found["addresses"] == ["10.1.0.2/24", "10.1.0.9/32", "10.1.0.8/32"]
    found = do(kernel, "endpoint", **one, ipv4_address="10.1.0.9").items["endpoint"]["blue/one"]
    assert found["addresses"] == ["10.1.0.9/24"]
    taken = do(kernel, "endpoint", network="blue", name="two", netns="two").items["endpoint"]["blue/two"]
    assert taken["addresses"] == ["10.0.0.2/24"]
    assert refused(kernel, "endpoint", **one, ipv4_addresses=["10.0.0.2", "10.0.0.1", "10.9.0.1"]) == [
        "ipv4_addresses[0]: 10.0.0.2 is held by two; give another address, or leave it out",
        "ipv4_addresses[1]: 10.0.0.1 is the gateway; give another address, or leave it out",
        "ipv4_addresses[2]: 10.9.0.1 is in no subnet of blue; its subnets are 10.0.0.0/24, 10.1.0.0/24",
    ]


def test_an_allowed_address_belongs_to_none() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=TWO)
    for name in ("one", "two"):
        do(kernel, "endpoint", network="blue", name=name, netns=name, allowed_addresses=["10.0.0.4", "10.1.0.9"])
    three = {"network": "blue", "name": "three", "netns": "three"}
    assert refused(kernel, "endpoint", **three, ipv4_address="10.0.0.4") == [
        "ipv4_address: 10.0.0.4 is an allowed address of one, two; give another address, or leave it out"
    ]
    assert do(kernel, "endpoint", **three).items["endpoint"]["blue/three"]["addresses"] == ["10.0.0.5/24"]
    allowed = ["10.0.0.5", "10.0.0.3", "10.0.0.1", "10.0.0.255", "10.9.0.1"]
    assert refused(kernel, "endpoint", **three, ipv4_address="10.0.0.6", allowed_addresses=allowed) == [
        "allowed_addresses[1]: 10.0.0.3 is held by two; give another address, or leave it out",
        "allowed_addresses[2]: 10.0.0.1 is the gateway; give another address, or leave it out",
        "allowed_addresses[3]: 10.0.0.255 is the broadcast address of 10.0.0.0/24; give another address, or leave it out",
        "allowed_addresses[4]: 10.9.0.1 is in no subnet of blue; its subnets are 10.0.0.0/24, 10.1.0.0/24",
    ]
    assert refused(kernel, "network", name="blue", driver="macvlan", parent="eth0", subnets=TWO[:1]) == [
        f"endpoint blue/{name}.allowed_addresses[1]: 10.1.0.9 is in no subnet of blue; its subnets are 10.0.0.0/24"
        for name in ("one", "two")
    ]
    # As keepalived does it.
    (space,) = (one for one in kernel.observed.namespaces.values() if one.workload == "netns:one")
    assert space is not None
    do(kernel, "endpoint", "absent", network="blue", name="one")
    do(kernel, "endpoint", "absent", network="blue", name="two")
    assert do(kernel, "endpoint", **three, ipv4_address="10.0.0.4").changes != []


def test_source_routing_is_the_networks_unless_an_endpoint_says_otherwise() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, subnets=subnets("10.0.0.0/24", "2001:db8::/64"), source_routing=True)
    one = {"network": "blue", "name": "one", "netns": "one"}
    routes = [{"prefix": "10.9.0.0/16", "via": "10.0.0.9"}, {"prefix": "0.0.0.0/0", "via": "10.0.0.8", "table": 8021}]
    made = do(kernel, "endpoint", **one, routes=routes)
    assert made.items["endpoint"]["blue/one"]["routing_table"] == 8022
    assert [change.key for change in made.changes if change.kind in ("route", "rule")] == [
        "netns:one/10.9.0.0/16 table 254 metric 0",
        "netns:one/0.0.0.0/0 table 8021 metric 0",
        "netns:one/10.0.0.0/24 table 8022 metric 0",
        "netns:one/2001:db8::/64 table 8022 metric 1024",
        "netns:one/10.9.0.0/16 table 8022 metric 0",
        "netns:one/0.0.0.0/0 table 8022 metric 0",
        "netns:one/::/0 table 8022 metric 1024",
        "netns:one/0.0.0.0/0 table 254 metric 0",
        "netns:one/::/0 table 254 metric 1024",
        "netns:one/from 10.0.0.2/32 table 8022",
        "netns:one/from 2001:db8::2/128 table 8022",
    ]
    assert do(kernel, "endpoint", **one, routes=routes).changes == []
    kinds = [change.kind for change in do(kernel, "endpoint", **one, interface="wan", routes=routes).changes]
    assert kinds.index("link") < kinds.index("route")
    assert do(kernel, "endpoint", **one, interface="wan", routes=routes).changes == []
    do(kernel, "endpoint", **one, routes=routes, source_routing=False)
    (space,) = kernel.observed.namespaces.values()
    assert space.rules == [] and {route.table for route in space.routes} == {254, 8021}
    blue(kernel, subnets=subnets("10.0.0.0/24", "2001:db8::/64"))
    do(kernel, "endpoint", **one, source_routing=True)
    assert len(space.rules) == 2
    do(kernel, "endpoint", "absent", network="blue", name="one")
    assert kernel.records["rule"] == {}


def test_spoof_check_holds_links_to_the_addresses_of_their_endpoints() -> None:
    kernel = SimulatedKernel("eth0")
    two = subnets("10.0.0.0/24", "2001:db8::/64")
    blue(kernel, subnets=two)
    one = {"network": "blue", "name": "one", "netns": "one"}
    do(kernel, "endpoint", **one)
    link = kernel.records["link"]["netns:one/eth0"].spec
    assert "senders" not in link, "as recorded before there was the option"
    own = ["10.0.0.2", "2001:db8::2"]
    changes = blue(kernel, subnets=two, spoof_check=True).changes
    assert [(change.before or {}).get("senders", "") for change in changes if change.kind == "link"] == [None]
    assert blue(kernel, subnets=two, spoof_check=True).changes == do(kernel, "endpoint", **one).changes == []

    def held() -> object:
        (space,) = kernel.observed.namespaces.values()
        recorded = kernel.records["link"]["netns:one/eth0"].spec["senders"]
        assert [recorded] == (list(space.senders.values()) or [None])
        return recorded

    assert held() == own
    do(kernel, "endpoint", **one, allowed_addresses=["10.0.0.100"])
    assert held() == ["10.0.0.100", *own]
    do(kernel, "endpoint", **one, ipv4_address="10.0.0.9")
    assert held() == ["10.0.0.9", "2001:db8::2"]
    (space,) = kernel.observed.namespaces.values()
    for flushed in (None, ["?"]):
        space.senders = {space.names["eth0"].index: flushed} if flushed else {}
        (change,) = compare.drift(kernel.records, kernel.observed)
        assert change.before and change.before["senders"] == flushed
        kernel.apply([change])
    blue(kernel, subnets=two)
    assert held() is None and blue(kernel, subnets=two).changes == []
    blue(kernel, subnets=two, spoof_check=True)
    space.senders.clear()
    blue(kernel, subnets=two)
    assert held() is None, "also where somebody flushed the table before"


def test_source_routing_needs_an_address() -> None:
    kernel = SimulatedKernel("eth0")
    bare = {"name": "blue", "driver": "macvlan", "parent": "eth0", "enable_ipv4": False}
    do(kernel, "network", **bare)
    fix = "give its network a subnet, or source_routing: false"
    assert refused(kernel, "endpoint", network="blue", name="one", netns="one", source_routing=True) == [
        f"source_routing: blue/one has no address whose answers could be routed; {fix}"
    ]
    do(kernel, "network", **bare, source_routing=True)
    assert refused(kernel, "endpoint", network="blue", name="one", netns="one") == [
        f"network: blue/one has no address whose answers could be routed; {fix}"
    ]


# --- MACs and parents ----------------------------------------------------------------------------

MAC = "02:00:00:00:00:77"


def test_a_mac_belongs_to_one_link_of_a_parent() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.observed.host.names["eth0"].mac = "02:00:00:00:00:aa"
    foreign(kernel, "mv", kind="macvlan", data={"mode": "bridge"}, mac="02:00:00:00:00:bb")
    blue(kernel)
    do(kernel, "endpoint", network="blue", name="a", netns="a", mac_address=MAC)
    for mac, holder in (
        (MAC, "endpoint blue/a"),
        ("02:00:00:00:00:aa", "its parent, eth0"),
        ("02:00:00:00:00:bb", "mv in netns:alien"),
    ):
        assert refused(kernel, "endpoint", network="blue", name="b", netns="b", mac_address=mac) == [
            f"mac_address: {mac} is the MAC of {holder}; give another, or leave mac_address out"
        ]
    rows = [{"network": "blue", "name": name, "netns": name, "mac_address": "02:00:00:00:00:78"} for name in "cd"]
    with pytest.raises(
        InputError, match=r"endpoints\[1\].mac_address: 02:00:00:00:00:78 is the MAC of endpoint blue/c"
    ):
        plan.plan(
            model.declare_map({"name": "m", "endpoints": rows}), copy.deepcopy(kernel.records), kernel.observed, "s"
        )
    assert do(kernel, "endpoint", network="blue", name="a", netns="a", mac_address=MAC).changes == []


def test_an_endpoint_is_no_larger_than_its_parent() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, parent="eth0.5", mtu=1400)
    do(kernel, "endpoint", network="blue", name="a", netns="a")
    for name in ("a", "b"):
        assert refused(kernel, "endpoint", network="blue", name=name, netns=name, mtu=1500) == [
            "mtu: 1500 is more than the 1400 of eth0.5; give 1400 at most, or raise eth0.5"
        ]
    do(kernel, "endpoint", network="blue", name="a", netns="a", mtu=1400)


def test_ipv6_needs_an_mtu_of_1280() -> None:
    kernel = SimulatedKernel("eth0")
    six = subnets("2001:db8::/64")
    small = "is too small for IPv6"
    raised = "1280 at least, or leave IPv6 out"
    blue(kernel, parent="eth0.5", mtu=1000, subnets=six)
    assert refused(kernel, "endpoint", network="blue", name="a", netns="a") == [
        f"network: an MTU of 1000 {small}; raise blue to {raised}",
    ]
    blue(kernel, parent="eth0.5", subnets=six)
    assert refused(kernel, "endpoint", network="blue", name="a", netns="a", mtu=1279) == [
        f"mtu: an MTU of 1279 {small}; give {raised}"
    ]
    kernel.observed.host.names["eth0.5"].mtu = kernel.observed.host.names["eth0"].mtu = 1000
    assert refused(kernel, "endpoint", network="blue", name="a", netns="a") == [
        f"network: an MTU of 1000, that of eth0.5, {small}; raise eth0.5 to {raised}"
    ]
    assert refused(kernel, "vlan", parent="eth0", vlan_id=6, addresses=["2001:db8:1::1/64"]) == [
        f"parent: an MTU of 1000, that of eth0.6, {small}; raise eth0 to {raised}"
    ]
    do(kernel, "vlan", parent="eth0", vlan_id=6, addresses=["192.0.2.1/24"])
    kernel.observed.ipv6 = False
    blue(kernel, name="red", parent="eth0.7", subnets=subnets("10.7.0.0/24"), mtu=1000)
    do(kernel, "endpoint", network="red", name="a", netns="a")


def test_a_workload_has_one_route_of_a_prefix_and_metric() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, parent="eth0.5")
    blue(kernel, name="red", parent="eth0.6", subnets=subnets("10.6.0.0/24"))
    mine, theirs = {"prefix": "10.9.0.0/16", "via": "10.0.0.9"}, {"prefix": "10.9.0.0/16", "via": "10.6.0.9"}
    both = [
        {"network": "blue", "name": "a", "netns": "a", "routes": [mine]},
        {"network": "red", "name": "a", "netns": "a", "routes": [theirs]},
    ]
    said = "10.9.0.0/16 is routed by blue/a already; leave it out, or give another metric"
    assert refusal(kernel, mapped(endpoints=both)) == [f"endpoints[1].routes[0].prefix: {said}"]
    do(kernel, "endpoint", **both[0])
    assert do(kernel, "endpoint", **both[0]).changes == []
    assert refused(kernel, "endpoint", **both[1]) == [f"routes[0].prefix: {said}"]
    do(kernel, "endpoint", **{**both[1], "routes": [{**theirs, "metric": 7}]})
    # A route may move from one to the other in one map.
    declare(kernel, mapped(adopt=True, endpoints=[{**both[0], "routes": []}, both[1]]))
    assert [route.via for route in kernel.observed.namespaces["netns:a"].routes if route.prefix == "10.9.0.0/16"] == [
        "10.6.0.9"
    ]


def test_links_without_an_mtu_follow_their_base_down_and_up() -> None:
    kernel = SimulatedKernel("eth0")
    host = kernel.observed.host
    host.names["eth0"].mtu = 9000
    rows = {"networks": [network(parent="eth0.5")], "endpoints": [{"network": "red", "name": "a", "netns": "a"}]}
    declare(kernel, mapped(**rows))
    inside = kernel.observed.namespaces["netns:a"].names["eth0"]
    links = [host.names["eth0"], host.names["eth0.5"], inside]
    for mtu in (1500, 9000):
        for link in links:
            link.mtu = 1500  # as the kernel lowers all of them, and raises none
        links[0].mtu = mtu
        drift = compare.drift(kernel.records, kernel.observed)
        found = declare(kernel, mapped(**rows))
        names = ["eth0.5", "netns:a/eth0"] if mtu == 9000 else []
        assert [change.key for change in drift] == [change.key for change in found.changes] == names
        assert [link.mtu for link in links] == [mtu] * 3
    assert declare(kernel, mapped(**rows)).changes == [] == compare.drift(kernel.records, kernel.observed)


def test_a_parent_without_arp_is_reported() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.observed.host.names["eth0"].noarp = True
    found = blue(kernel, parent="eth0.5")
    assert found.warnings == ["parent: eth0 has ARP disabled, so endpoints reach no neighbour: ip link set eth0 arp on"]


@pytest.mark.parametrize("parent", ["eth0", "eth0.5"])
def test_a_parent_that_is_down_is_reported_by_endpoints_and_drift(parent: str) -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel, parent=parent)
    down = ["network: eth0 is down, so the endpoints of blue reach no other host"]
    host = kernel.observed.host
    host.names["eth0"].up = False
    found = do(kernel, "endpoint", network="blue", name="a", netns="a")
    assert found.warnings == down
    (drift,) = compare.drift(kernel.records, kernel.observed) if parent == "eth0" else [None]
    if drift:
        assert (drift.key, drift.after) == ("eth0", {"netns": "", "name": "eth0", "up": True})
    again = do(kernel, "endpoint", network="blue", name="a", netns="a")
    assert (again.changes, again.warnings) == ([], down)
    found = blue(kernel, parent=parent)
    assert host.names["eth0"].up and found.warnings == []
    assert compare.drift(kernel.records, kernel.observed) == []


def test_a_parent_that_is_to_stay_down_is_no_drift() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.observed.host.names["eth0"].up = False
    blue(kernel, bring_up_parent=False)
    found = do(kernel, "endpoint", network="blue", name="a", netns="a")
    assert found.warnings == ["network: eth0 is down, so the endpoints of blue reach no other host"]
    assert compare.drift(kernel.records, kernel.observed) == []


def test_one_line_for_all_endpoints_of_a_map_on_a_parent_that_is_down() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    kernel.observed.host.names["eth0"].up = False
    rows = [{"network": "blue", "name": name, "netns": name} for name in "abc"]
    assert len(declare(kernel, mapped(endpoints=rows)).warnings) == 1


def test_a_bridge_that_filters_vlans_is_reported_once_for_each_sub_interface() -> None:
    kernel = SimulatedKernel("br0")
    kernel.observed.bridge_vlans = {kernel.observed.host.names["br0"].index: {0, 1, 7}}
    links = [{"parent": "br0", "vlan_id": 5}, {"parent": "br0", "vlan_id": 6, "protocol": "802.1ad"}]
    networks = [network("red", parent="br0.5"), network("blue", parent="br0.7", text="10.2.0.0/24")]
    found = declare(kernel, mapped(links=links, networks=networks))
    assert found.warnings == [
        "links[0].parent: br0 filters VLANs and passes no VLAN 5 to this host: bridge vlan add dev br0 vid 5 self"
    ]
    assert len(declare(kernel, mapped(networks=networks)).warnings) == 1


def test_subnets_of_an_internal_l3_network_reach_each_other() -> None:
    kernel = SimulatedKernel("eth0")
    rows = subnets("10.0.0.0/24", "10.0.1.0/24")
    do(kernel, "network", name="blue", driver="ipvlan", mode="l3", internal=True, subnets=rows)
    do(kernel, "endpoint", network="blue", name="a", netns="a")
    routes = kernel.observed.namespaces["netns:a"].routes
    assert [(route.prefix, route.via) for route in routes] == [("10.0.0.0/24", None), ("0.0.0.0/0", None)]


def test_router_advertisements_are_accepted_where_a_namespace_forwards_too() -> None:
    kernel = SimulatedKernel("eth0")
    blue(kernel)
    found = do(kernel, "endpoint", network="blue", name="a", netns="a", accept_ra=True)
    (made,) = [change for change in found.changes if change.key == "netns:a/eth0" and change.verb == "create"]
    assert made.after is not None and made.after["sysctls"]["ipv6.accept_ra"] == 2


def test_a_base_stays_while_a_sub_interface_of_ours_is_on_it() -> None:
    kernel = SimulatedKernel("bond0")
    blue(kernel, parent="bond0.100")
    blue(kernel, name="red", parent="bond0.100.200", subnets=subnets("10.0.1.0/24"))
    do(kernel, "endpoint", network="red", name="a", netns="a")
    do(kernel, "network", "absent", name="blue")
    assert {"bond0.100", "bond0.100.200"} <= set(kernel.observed.host.names)
    do(kernel, "endpoint", "absent", network="red", name="a")
    do(kernel, "network", "absent", name="red")
    assert set(kernel.observed.host.names) == {"lo", "bond0"} and not any(kernel.records.values())


def test_a_declared_base_stays_too() -> None:
    kernel = SimulatedKernel("bond0")
    do(kernel, "vlan", parent="bond0", vlan_id=100)
    blue(kernel, parent="bond0.100.200")
    assert refused(kernel, "vlan", "absent", name="bond0.100") == [
        "state: bond0.100 is the parent of blue; make those networks absent first"
    ]
    do(kernel, "network", "absent", name="blue")
    assert set(kernel.observed.host.names) == {"lo", "bond0", "bond0.100"}
    do(kernel, "vlan", "absent", name="bond0.100")


# --- one fault, one message ----------------------------------------------------------------------


def test_what_needs_something_broken_is_not_refused_besides() -> None:
    """A missing NIC, a bad network and what depends on them: one line for each fault, none for what follows."""
    kernel = SimulatedKernel("eth0")
    declared = model.declare_map({
        "name": "m", "trunks": {"fabric": "eth9"},
        "networks": [*(network(f"n{vlan}", parent=f"fabric.{vlan}", text=f"10.{vlan}.0.0/24") for vlan in (1, 2, 3)),
                     network("bad", text="10.9.0.0/33")],
        "endpoints": [{"network": "bad", "name": "a", "netns": "a"}, {"network": "n1", "name": "a", "netns": "a"}],
        "links": [{"parent": "fabric", "vlan_id": 9}],
        "routes": [{"name": "r", "network": "bad", "routes": [{"prefix": "10.99.0.0/16", "dev": "fabric.9"}]}],
    })  # fmt: skip
    with pytest.raises(InputError) as caught:
        plan.plan(declared, {}, kernel.observed, "seed")
    assert [problem.path for problem in caught.value.problems] == ["networks[3].subnets[0].subnet", "trunks.fabric"]


def test_a_broken_row_is_not_purged() -> None:
    kernel = SimulatedKernel("eth0")
    rows = [network("red")]
    endpoints = [{"network": "red", "name": "a", "netns": "a"}]
    declare(kernel, mapped(networks=rows, endpoints=endpoints, purge=True))
    problems = refusal(kernel, mapped(networks=[{**rows[0], "mtu": "x"}], endpoints=endpoints, purge=True))
    assert problems == ["networks[0].mtu: 'x' is not a whole number from 68 to 65535 bytes; give one"]


def test_a_silent_container_keeps_its_resolver() -> None:
    kernel = SimulatedKernel("eth0")
    silent(kernel)
    kernel.records["resolver"] = {"docker:a": Record({"netns": "docker:a", "digest": "0" * 16}, "workload:docker:a")}
    kernel.observed.unwritable["resolver", "docker:a"] = "docker does not answer"
    warnings = do(kernel, "endpoint", "absent", network="blue", name="a").warnings
    assert warnings[-1] == (
        "docker:a keeps the dns of its endpoints in its resolv.conf: docker does not answer; remove our block there by hand"
    )
    assert kernel.records["resolver"] == {}
