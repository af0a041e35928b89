# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a NIC, a process and a link of ours are known by, one rule at a time."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import identity
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST,
    HOST_LINK_GROUP,
    LINK_GROUP,
    Change,
    Record,
    Records,
    Spec,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Namespace

from tests.support.simulated_kernel import SimulatedKernel

NIC: Dict[str, Any] = {
    "kind": "", "index": 7, "era": "then", "mac": "", "device": "", "port": "", "driver": "", "vlan_id": 0, "below": [], "asked": [],
}  # fmt: skip


def kernel(**links: Dict[str, Any]) -> SimulatedKernel:
    made = SimulatedKernel()
    for name, values in links.items():
        made.add(HOST, name, **values)
    made.observed.era = "now"
    return made


def found(made: SimulatedKernel, handle: str, **nic: Any) -> Optional[str]:
    """What the recorded NIC is called now."""
    identity.identify(made.observed, {"nic": {handle: Record({**NIC, **nic}, "nic")}})
    link = made.observed.nics[handle]
    return link.name if link is not None else None


@pytest.mark.parametrize(
    ("nic", "words"),
    [
        ({}, "a NIC"),
        ({"kind": "bond"}, "a bond"),
        ({"mac": "52:54:00:00:00:01"}, "52:54:00:00:00:01"),
        ({"mac": "52:54:00:00:00:01", "device": "0000:05:00.0"}, "52:54:00:00:00:01 (0000:05:00.0)"),
        ({"device": "0000:05:00.0", "driver": "e1000e"}, "a NIC (0000:05:00.0, e1000e)"),
        ({"kind": "bond", "below": ["a", "b"]}, "a bond (of a and b)"),
        ({"kind": "bond", "below": list("abcde")}, "a bond (of a and b and c and d)"),
    ],
)
def test_hardware_in_words(nic: Dict[str, Any], words: str) -> None:
    assert identity.words({**NIC, **nic}) == words


# --- which link a NIC is now ---------------------------------------------------------------------


@pytest.mark.parametrize(("era", "name"), [("now", "renamed"), ("then", None)])
def test_an_ifindex_counts_in_the_boot_in_which_it_was_recorded(era: str, name: Optional[str]) -> None:
    assert found(kernel(renamed={"index": 7, "kind": "dummy"}), "eth1", kind="dummy", era=era) == name


@pytest.mark.parametrize("now", [{"kind": "bond"}, {"perm_mac": "52:54:00:00:00:02"}])
def test_an_ifindex_that_is_another_thing_now_does_not_count(now: Dict[str, Any]) -> None:
    assert found(kernel(renamed={"index": 7, **now}), "eth1", era="now", mac="52:54:00:00:00:01") is None


ONE, TWO = (
    {"perm_mac": "52:54:00:00:00:01", "device": "05:00.0"},
    {"perm_mac": "52:54:00:00:00:02", "device": "06:00.0"},
)


@pytest.mark.parametrize(
    ("links", "nic", "name"),
    [
        ({"a": ONE, "b": TWO}, {"mac": "52:54:00:00:00:02"}, "b"),
        ({"a": ONE, "b": TWO}, {"mac": "52:54:00:00:00:03", "device": "06:00.0"}, None),
        ({"a": {**ONE, "device": "1"}, "b": {**ONE, "device": "2"}}, {"mac": ONE["perm_mac"], "device": "2"}, "b"),
        ({"a": {**ONE, "device": "1"}, "b": {**ONE, "device": "2"}}, {"mac": ONE["perm_mac"], "device": "3"}, None),
        ({"a": {**ONE, "port": "1"}, "b": {**ONE, "port": "2"}}, {"mac": ONE["perm_mac"], "device": "05:00.0", "port": "2"}, "b"),
        ({"a": {**ONE, "driver": "x"}, "b": {**ONE, "driver": "y"}}, {"mac": ONE["perm_mac"], "device": "05:00.0", "driver": "y"}, "b"),
        ({"a": {"device": "1"}, "b": {"device": "2"}}, {"device": "2"}, "b"),
        ({"a": {"device": "1"}, "b": {"device": "2", "perm_mac": "52:54:00:00:00:09"}}, {"device": "2"}, None),
        ({"a": {"port": "p0"}, "b": {"port": "p1"}}, {"port": "p1"}, "b"),
        ({"a": {"port": "p0"}, "b": {"port": "p1"}}, {"port": "p2"}, None),
        ({"eth1": {}}, {}, "eth1"),
        ({"eth1": {"kind": "dummy"}}, {}, None),
        ({"eth1": {"kind": "vlan", "data": {"vlan_id": 5}}}, {"kind": "vlan", "vlan_id": 6}, None),
        ({"eth2": {}}, {}, None),
    ],
)  # fmt: skip
def test_hardware_names_a_nic(links: Dict[str, Any], nic: Dict[str, Any], name: Optional[str]) -> None:
    assert found(kernel(**links), "eth1", **nic) == name


def bond(**more: Any) -> SimulatedKernel:
    made = kernel(eth0=ONE, eth1=TWO, bond0={"kind": "bond", "index": 40}, **more)
    made.observed.host.names["eth0"].master = made.observed.host.names["eth1"].master = 40
    return made


@pytest.mark.parametrize(
    ("handle", "below", "name"),
    [
        ("bond0", [ONE["perm_mac"], TWO["perm_mac"]], "bond0"),
        ("bond9", [ONE["perm_mac"], TWO["perm_mac"]], "bond0"),  # renamed
        ("bond0", [ONE["perm_mac"]], "bond0"),  # one member more
        ("bond0", [ONE["perm_mac"], "52:54:00:00:00:09"], "bond0"),  # one was replaced
        ("bond0", ["52:54:00:00:00:09"], None),  # another bond of the same name
        ("bond0", [], "bond0"),  # it had none yet
        ("bond9", [ONE["perm_mac"]], None),
    ],
)
def test_a_bond_is_its_members(handle: str, below: List[str], name: Optional[str]) -> None:
    assert found(bond(), handle, kind="bond", below=below) == name


def test_two_bonds_that_look_alike_go_by_their_name() -> None:
    made = kernel(bond0={"kind": "bond"}, bond1={"kind": "bond"})
    assert found(made, "bond1", kind="bond") == "bond1"
    assert found(kernel(bond0={"kind": "bond"}, bond1={"kind": "bond"}), "bond2", kind="bond") is None


def test_a_sub_interface_is_what_it_sits_on() -> None:
    made = kernel(eth0={**ONE, "index": 20}, upper={"kind": "vlan", "parent": 20, "data": {"vlan_id": 5}})
    made.add(HOST, "elsewhere", kind="vlan", parent=20, parent_ns="?", data={"vlan_id": 6})
    described = identity.describe(made.observed, made.observed.host.names["upper"], [])
    assert (described["below"], described["vlan_id"], described["era"]) == ([ONE["perm_mac"]], 5, "now")
    assert identity.describe(made.observed, made.observed.host.names["elsewhere"], [])["below"] == []


# --- disputes ------------------------------------------------------------------------------------


def test_a_name_that_belongs_to_another_nic_is_disputed() -> None:
    made = kernel(eth0=ONE, eth1=TWO)
    assert found(made, "eth1", mac=ONE["perm_mac"]) == "eth0"
    assert made.observed.disputes["eth1"] == (
        "eth1 was 52:54:00:00:00:01, which is called eth0 now; eth1 is 52:54:00:00:00:02 (06:00.0) now"
    )
    assert made.observed.host.names["eth1"].name == "eth0" and made.observed.shadowed["eth1"].name == "eth1"


@pytest.mark.parametrize(("era", "where"), [("now", "called eth0 now"), ("then", "not there")])
def test_a_dispute_says_where_the_nic_is(era: str, where: str) -> None:
    """Without a MAC, by an ifindex of this boot."""
    made = kernel(eth0={"index": 7}, eth1={"kind": "bond"})
    holder = made.observed.host.names["eth1"]
    assert f"which is {where};" in identity.dispute(made.observed, "eth1", {**NIC, "era": era}, holder)


# --- what is recorded of NICs --------------------------------------------------------------------


def network(name: str, parent: Optional[str], before: Any = None) -> Change:
    return Change("network", name, before, {"name": name, "parent": parent}, "test", f"network:{name}")


def test_a_nic_is_recorded_with_the_first_network_on_it_and_forgotten_with_the_last() -> None:
    made = kernel(eth0=ONE, eth1=TWO)
    asked = {"eth0": [["", "name", "eth0"]]}
    nics = identity.nics({}, [network("a", "eth0")], made.observed, asked)
    assert list(nics) == ["eth0"] and nics["eth0"]["asked"] == [["", "name", "eth0"]]
    records: Records = {
        "network": {"a": Record({"parent": "eth0"}, ""), "b": Record({"parent": "eth0"}, "")},
        "nic": {"eth0": Record(dict(nics["eth0"]), "nic")},
    }
    gone = [Change("network", "a", {"parent": "eth0"}, None, "test", "network:a")]
    assert identity.nics(records, gone, made.observed, {})["eth0"]["asked"] == [["", "name", "eth0"]]
    gone.append(Change("network", "b", {"parent": "eth0"}, None, "test", "network:b"))
    assert identity.nics(records, gone, made.observed, {}) == {}


def test_a_link_of_ours_is_no_nic() -> None:
    made = kernel(eth0=ONE)
    changes = [
        Change("link", "eth0.5", None, {"name": "eth0.5", "parent": "eth0"}, "test", "network:a"),
        Change("link", "dummy0", None, {"name": "dummy0"}, "test", "network:b"),
        Change("endpoint", "a/x", None, {"parent": "eth9"}, "test", "endpoint:a/x"),
        network("a", "eth0.5"),
        network("b", "dummy0"),
    ]
    assert list(identity.nics({}, changes, made.observed, {})) == ["eth0"]
    records: Records = {"link": {"dummy0": Record({"name": "dummy0"}, "")}}
    changed = [Change("link", "dummy0", {"mtu": 1}, {"mtu": 2}, "test", "network:b"), network("b", "dummy0")]
    assert identity.nics(records, changed, made.observed, {}) == {}
    foreign = [Change("link", "eth1", {"up": False}, {"up": True, "parent": "eth0"}, "test", ""), network("c", "eth1")]
    assert identity.nics({}, foreign, kernel(eth1=TWO).observed, {}).keys() == {"eth1"}


def test_what_a_nic_was_asked_for_by_is_kept_until_the_same_source_asks_differently() -> None:
    made = kernel(eth0=ONE)
    old = {**NIC, "asked": [["fabric uplink", "mac", "m"], ["", "name", "eth0"], ["other up", "name", "eth0"]]}
    records: Records = {"network": {"a": Record({"parent": "eth0"}, "")}, "nic": {"eth0": Record(old, "nic")}}
    asked = {"eth0": [["fabric uplink", "pci", "p"]]}
    assert identity.nics(records, [], made.observed, asked)["eth0"]["asked"] == [
        ["", "name", "eth0"],
        ["other up", "name", "eth0"],
        ["fabric uplink", "pci", "p"],
    ]


def test_a_nic_that_is_not_there_is_remembered_as_it_was() -> None:
    records: Records = {"network": {"a": Record({"parent": "eth0"}, "")}, "nic": {"eth0": Record(NIC, "nic")}}
    assert identity.nics(records, [], kernel().observed, {}) == {"eth0": NIC}


# --- processes -----------------------------------------------------------------------------------


def test_a_process_is_recorded_with_its_start_while_an_endpoint_is_in_it() -> None:
    made = kernel()
    made.observed.namespaces["pid:312"] = Namespace("pid:312", "", (4, 9), started="boot 100")
    made.observed.namespaces["netns:web"] = Namespace("netns:web", "", (4, 10))

    def change(kind: str, key: str, before: Any, after: Any) -> Change:
        return Change(kind, key, before, after, "test", f"endpoint:{key}")

    there = {"workload": "pid:312"}
    new = [change("endpoint", "a/job", None, there), change("endpoint", "a/web", None, {"workload": "netns:web"})]
    assert identity.processes({}, new, made.observed) == {"pid:312": {"started": "boot 100"}}
    assert identity.processes({}, [change("lease", "a/job", None, there)], made.observed) == {}
    records: Records = {
        "endpoint": {"a/job": Record(there, ""), "a/gone": Record({"workload": "pid:5"}, "")},
        "process": {"pid:5": Record({"started": "boot 7"}, "")},
    }
    both = {"pid:312": {"started": "boot 100"}, "pid:5": {"started": "boot 7"}}
    assert identity.processes(records, [], made.observed) == both
    kept = [change("endpoint", "a/job", there, {"mac": "x"}), change("lease", "a/job", there, None)]
    assert identity.processes(records, kept, made.observed) == both
    assert identity.processes(records, [change("endpoint", "a/gone", there, None)], made.observed).keys() == {"pid:312"}


# --- links of ours -------------------------------------------------------------------------------

VLAN: Spec = {
    "netns": HOST, "name": "eth0.5", "kind": "vlan", "parent": "eth0", "vlan_id": 5, "protocol": "802.1q", "group": LINK_GROUP,
}  # fmt: skip
RENAMED: Dict[str, Any] = {
    "kind": "vlan",
    "parent": 20,
    "group": LINK_GROUP,
    "data": {"vlan_id": 5, "protocol": "802.1q"},
}


@pytest.mark.parametrize(
    ("instead", "name"),
    [
        ({}, "mine"),
        ({"group": HOST_LINK_GROUP}, "mine"),
        ({"group": 0}, None),
        ({"kind": "macvlan"}, None),
        ({"parent": 21}, None),
        ({"parent_ns": "?"}, None),
        ({"data": {"vlan_id": 6, "protocol": "802.1q"}}, None),
        ({"data": {"vlan_id": 5, "protocol": "802.1ad"}}, None),
    ],
)
def test_a_sub_interface_that_somebody_renamed_is_found(instead: Dict[str, Any], name: Optional[str]) -> None:
    made = kernel(eth0={"index": 20}, eth1={"index": 21}, mine={**RENAMED, **instead})
    identity.identify(made.observed, {"link": {"eth0.5": Record(VLAN, "network:a")}})
    link = made.observed.host.names.get("eth0.5")
    assert (link.name if link else None) == name
    assert list(made.observed.renamed.values()) == (["eth0.5"] if name else [])


def test_a_link_that_another_record_names_is_not_taken() -> None:
    made = kernel(eth0={"index": 20}, mine=RENAMED)
    records: Records = {"link": {"eth0.5": Record(VLAN, "a"), "mine": Record({**VLAN, "name": "mine"}, "b")}}
    identity.identify(made.observed, records)
    assert "eth0.5" not in made.observed.host.names


def test_a_link_that_has_its_name_is_left_alone() -> None:
    made = kernel(eth0={"index": 20}, mine=RENAMED)
    named = made.add(HOST, "eth0.5", **RENAMED)
    identity.identify(made.observed, {"link": {"eth0.5": Record(VLAN, "network:a")}})
    assert made.observed.host.names["eth0.5"] is named and not made.observed.renamed


@pytest.mark.parametrize(
    ("mac", "address", "name"),
    [
        ("02:00:00:00:00:01", "", "moved"),
        ("02:00:00:00:00:02", "192.0.2.2/24", None),
        (None, "192.0.2.2/24", "moved"),
        (None, "192.0.2.3/24", None),
        (None, "", None),
    ],
)
def test_the_link_of_an_endpoint_is_its_mac_or_its_addresses(mac: Any, address: str, name: Optional[str]) -> None:
    made = kernel(eth0={"index": 20})
    made.observed.namespaces["netns:web"] = there = Namespace("netns:web", "", (4, 9))
    made.add("netns:web", "moved", kind="macvlan", parent=20, parent_ns=HOST, group=LINK_GROUP, mac="02:00:00:00:00:01")
    index = there.names["moved"].index
    there.addresses[index] = [Address(index, address, 201, 0, 0)] if address else []
    spec = {"netns": "netns:web", "name": "eth0", "kind": "macvlan", "parent": "eth0", "mac": mac, "group": LINK_GROUP}
    records: Records = {
        "link": {"netns:web/eth0": Record(spec, "endpoint:a/web")},
        "endpoint": {"a/web": Record({"addresses": ["192.0.2.2/24"]}, "a")},
    }
    identity.identify(made.observed, records)
    link = there.names.get("eth0")
    assert (link.name if link else None) == name
