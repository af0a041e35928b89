# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may not stand beside what, on a paper kernel: every refusal, with the item that it names."""

from __future__ import annotations

import copy
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import model, plan
from ansible_collections.netops.underlay.plugins.module_utils._engine.fields import Refusal
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import Change
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
