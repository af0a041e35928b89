# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs over a reboot: what names them is their hardware, in every combination of names and hardware."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import identity
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Record, Records
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.restore_plan import RestorePlan

from tests.support.planning import mapped
from tests.support.simulated_kernel import SimulatedKernel

ONE: Dict[str, Any] = {"perm_mac": "52:54:00:00:00:01", "device": "0000:05:00.0", "driver": "virtio_net"}
TWO: Dict[str, Any] = {"perm_mac": "52:54:00:00:00:02", "device": "0000:06:00.0", "driver": "virtio_net"}
ROWS = [{"name": "blue", "driver": "macvlan", "parent": "uplink.50", "subnets": [{"subnet": "192.0.2.0/24"}]}]


def boot(nics: Dict[str, Dict[str, Any]], records: Records, era: str) -> SimulatedKernel:
    """A kernel that has just started with these NICs, and the registry of before."""
    kernel = SimulatedKernel()
    for name, hardware in nics.items():
        kernel.add("", name, **hardware)
    kernel.observed.era, kernel.records = era, records
    identity.identify(kernel.observed, records)
    return kernel


def run(kernel: SimulatedKernel, trunk: Any) -> List[str]:
    """A map on the kernel; what it changes there."""
    declared = mapped(networks=ROWS, trunks={"uplink": trunk})
    found = plan.plan(declared, kernel.records, kernel.observed, "seed")
    kernel.apply(found.changes)
    nics = identity.nics(kernel.records, found.changes, kernel.observed, found.asked)
    kernel.record(found.changes)
    kernel.records["nic"] = {handle: Record(dict(nic), "nic") for handle, nic in nics.items()}
    return [change.key for change in found.changes if change.kind == "link"]


def restored(kernel: SimulatedKernel) -> Tuple[List[str], List[str]]:
    """The parents, by their names now, of the sub-interfaces that a restore makes, and what it waits for."""
    work = RestorePlan(kernel.records, kernel.observed, True, lambda *_object: "", {})
    host = kernel.observed.host
    parents = [host.names[step.after["parent"]].name for step in work.steps() if step.after and "parent" in step.after]
    return parents, [left.why for left in work.left]


NAME, MAC = "eth1", {"match": {"mac": ONE["perm_mac"]}}
PCI, ALTNAME = {"match": {"pci": ONE["device"]}}, {"match": {"altname": "enp5s0"}}
CALLED = {"altnames": ("enp5s0",)}
OTHER_SLOT = {**ONE, "device": "0000:09:00.0"}
OTHER_CARD = {**ONE, "perm_mac": "52:54:00:00:00:99"}
SWAPPED = {"eth0": {**ONE, **CALLED}, "eth1": TWO}
STANDS = r"eth1 was 52:54:00:00:00:01 \(0000:05:00.0, virtio_net\), which is called eth0 now; eth1 is 52:54:00:00:00:02"
GONE = "which is not there"


@pytest.mark.parametrize(
    ("asked", "nics", "on", "why"),
    [
        (NAME, {"eth0": TWO, "eth1": ONE}, "eth1", ""),
        (NAME, {"eth0": TWO, "ens3f0np0": ONE}, "ens3f0np0", ""),
        (NAME, SWAPPED, "", STANDS),
        (MAC, SWAPPED, "eth0", ""),
        (PCI, SWAPPED, "eth0", ""),
        (ALTNAME, SWAPPED, "eth0", ""),
        (ALTNAME, {"eth0": ONE, "eth1": {**TWO, **CALLED}}, "", STANDS),
        (NAME, {"eth1": OTHER_SLOT}, "eth1", ""),
        (NAME, {"ens9": OTHER_SLOT, "eth0": TWO}, "ens9", ""),
        (NAME, {"eth1": OTHER_CARD}, "", GONE),
        (PCI, {"eth1": OTHER_CARD}, "", GONE),
        (NAME, {"eth1": TWO}, "", GONE),
        (NAME, {"eth0": TWO}, "", "waits for eth1, which is not there"),
        (NAME, {"eth1": {"kind": "dummy"}}, "", GONE),
    ],
)
def test_a_restore_builds_on_the_nic_that_is_meant_or_waits(
    asked: Any, nics: Dict[str, Dict[str, Any]], on: str, why: str
) -> None:
    kernel = boot({"eth0": TWO, "eth1": {**ONE, **CALLED}}, {}, "first")
    assert run(kernel, asked) == ["eth1.50"]
    kernel = boot(nics, kernel.records, "second")
    parents, left = restored(kernel)
    assert parents == ([on] if on else [])
    assert len(left) == bool(why) and re.search(why, " ".join(left)), left


def test_swapped_names_are_corrected_by_one_option_and_stay_so() -> None:
    kernel = boot({"eth0": TWO, "eth1": ONE}, {}, "first")
    run(kernel, "eth1")
    kernel = boot({"eth0": ONE, "eth1": TWO}, kernel.records, "second")
    with pytest.raises(InputError, match=r"trunks.uplink: .*; give the name of the intended NIC \(here eth0\)"):
        run(kernel, "eth1")
    kernel = boot({"eth0": ONE, "eth1": TWO}, kernel.records, "second")
    assert run(kernel, "eth0") == ["eth1.50"]
    assert kernel.observed.host.links[kernel.observed.host.names["eth1.50"].parent].name == "eth0"
    assert run(kernel, "eth0") == []
    kernel = boot({"eth0": ONE, "eth1": TWO}, kernel.records, "third")
    assert restored(kernel) == (["eth0"], [])


def test_a_card_that_was_replaced_is_taken_by_its_slot_or_by_adoption() -> None:
    kernel = boot({"eth1": ONE}, {}, "first")
    run(kernel, PCI)
    records = kernel.records
    kernel = boot({"eth1": OTHER_CARD}, records, "second")
    assert run(kernel, PCI) == ["eth1.50"] and restored(kernel) == ([], [])


def upper(kernel: SimulatedKernel, kind: str, name: str, nic: Dict[str, Any]) -> None:
    """A link of others on a NIC, which is known by that."""
    below = kernel.add("", "eth1", **nic)
    if kind == "vlan":
        data = {"vlan_id": 7, "protocol": "802.1q"}
        kernel.add("", name, kind=kind, parent=below.index, data=data)
    else:
        below.master = kernel.add("", name, kind=kind).index


@pytest.mark.parametrize("asked", ["upper0", {"match": {"altname": "uplink"}}], ids=["name", "altname"])
@pytest.mark.parametrize("kind", ["bond", "bridge", "team", "vlan"])
def test_a_link_without_hardware_of_its_own_is_known_by_that_below_it(kind: str, asked: Any) -> None:
    """Over a reboot: renamed it is followed, and one with its name on another NIC is not it."""
    kernel = boot({}, {}, "first")
    upper(kernel, kind, "upper0", ONE)
    kernel.observed.host.links[kernel.observed.host.names["upper0"].index].altnames = ("uplink",)
    kernel.observed.host.names["uplink"] = kernel.observed.host.names["upper0"]
    assert run(kernel, asked) == ["upper0.50"]
    records = kernel.records
    for name, nic, on, why in (
        ("upper0", ONE, "upper0", ""),
        ("renamed", ONE, "renamed", ""),
        ("upper0", TWO, "", "waits for upper0.*"),
        ("renamed", TWO, "", "waits for upper0, which is not there"),
    ):
        kernel = SimulatedKernel()
        upper(kernel, kind, name, nic)
        kernel.observed.era, kernel.records = "second", records
        identity.identify(kernel.observed, records)
        parents, left = restored(kernel)
        assert parents == ([on] if on else []), (name, nic)
        assert len(left) == bool(why) and re.fullmatch(why, " ".join(left)), left
