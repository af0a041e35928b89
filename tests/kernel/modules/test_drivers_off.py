# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel without ipvlan and dummy: what needs them is refused by item before anything is made, the rest works.

``tests/lab/run --kernel-arg initcall_blacklist=ipvlan_init_module,dummy_init_module -- pytest tests/kernel/modules -m drivers_off``
"""

from __future__ import annotations

from typing import Any, Dict

import pytest
from conftest import links, run

from .conftest import Tasks, changes, everything, refused

pytestmark = [pytest.mark.drivers_off, pytest.mark.usefixtures("without_drivers")]

CURE = r"; install the package with the other modules of this kernel \(the role prepare names it\), or boot one that has it"
NO_IPVLAN = "the kernel of this host has no driver ipvlan" + CURE
NO_DUMMY = "the kernel of this host has no driver dummy" + CURE

BLUE: Dict[str, Any] = {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": [{"subnet": "192.0.2.0/24"}]}
RED: Dict[str, Any] = {"name": "red", "driver": "ipvlan", "parent": "trunk.11", "subnets": [{"subnet": "198.51.100.0/24"}]}
INSIDE: Dict[str, Any] = {"name": "inside", "driver": "macvlan", "internal": True}


def test_a_map_names_every_item_that_lacks_a_driver_and_touches_nothing(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        r"^networks\[1\]\.driver: " + NO_IPVLAN,
        r"^networks\[2\]\.parent: " + NO_DUMMY,
        name="rack1",
        networks=[BLUE, RED, INSIDE],
        endpoints=[{"network": "blue", "name": "one", "netns": "one"}, {"network": "red", "name": "two", "netns": "two"}],
    )


def test_each_module_names_its_own_option(tasks: Tasks) -> None:
    tasks.refuses("vlan_network", "^driver: " + NO_IPVLAN, **RED)
    tasks.refuses("vlan_network", "^parent: " + NO_DUMMY, **INSIDE)


def test_a_driver_that_is_there_and_does_not_load(tasks: Tasks) -> None:
    """Check mode loads nothing, so only a run finds out; before it makes anything."""
    run("umount /usr/lib/modules")
    try:
        before = everything(tasks.state_dir)
        assert tasks.ok("vlan_network", check=True, **RED)["changed"]
        assert refused(tasks.run("vlan_network", RED), "^driver: " + NO_IPVLAN)
        assert changes(before, everything(tasks.state_dir)) == []
    finally:
        run("mount -t tmpfs none /usr/lib/modules")


def test_what_the_kernel_can_make_is_made(tasks: Tasks) -> None:
    before = links()
    declared = {"name": "rack1", "networks": [BLUE], "endpoints": [{"network": "blue", "name": "one", "netns": "one"}]}
    done = tasks.becomes("vlan_map", **declared)
    assert done["endpoints"]["blue/one"]["addresses"] == ["192.0.2.2/24"]
    tasks.becomes("vlan_map", name="rack1", purge=True)
    assert links() == before
