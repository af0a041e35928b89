# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's life: week after week edits of the table, an allocation and a run, on the real plugins and the real planner.

After each week no address is had twice, no network went that no edit removed, an endpoint has another address only where an
edit was to move it, and a broken file changes nothing. tests/kernel/test_fleet_life.py has the same life with a wire.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Set, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan as planning
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed, summary, view

from tests.support.fleet_life import BROKEN, Life
from tests.support.inventories import Inventory
from tests.support.planning import declare
from tests.support.simulated_kernel import SimulatedKernel


class Fleet:
    """The hosts that a life is about, each a simulated kernel."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.kernels = {host: SimulatedKernel("eth0", "eth1") for host in life.endpoints}

    def run(self) -> None:
        """What the playbook site does, with the hosts in any order: first what hands an address over, then each host as a whole."""
        declared = self.life.rows_of(self.life.read)
        predicted = {host: describe.moving(self.plan(host, options)) for host, options in declared.items()}
        for host, endpoints in summary.handover(predicted).items():
            for endpoint in endpoints:
                declare(self.kernels[host], model.declare("endpoint", endpoint, "absent", True))
        for host in self.life.random.sample(sorted(declared), len(declared)):
            declare(self.kernels[host], model.declare_map(declared[host]))
            self.observe(host)
            assert declare(self.kernels[host], model.declare_map(declared[host])).changes == []

    def plan(self, host: str, options: Dict[str, Any]) -> List[Any]:
        kernel = self.kernels[host]
        found = planning.plan(
            model.declare_map(options), copy.deepcopy(kernel.records), copy.deepcopy(kernel.observed), "seed"
        )
        return found.changes

    def observe(self, after: str) -> None:
        """Who is on the wire: two hosts that announce one address on one VLAN are a duplicate."""
        held: Dict[Tuple[str, str], str] = {}
        for host in self.life.endpoints:
            records = self.kernels[host].records
            for key, record in records.get("endpoint", {}).items():
                parent = records["network"][record.spec["network"]].spec["parent"]
                for address in record.spec["addresses"]:
                    other = held.setdefault((parent, address), f"{host} {key}")
                    assert other == f"{host} {key}", f"{address} is on {other} and {host} {key}, after {after}"

    def addresses(self) -> Dict[Tuple[str, str, str], List[str]]:
        """host, network, endpoint -> addresses, of the hosts that are not lost."""
        return {
            (host, *key.split("/")): list(record.spec["addresses"])
            for host in self.life.endpoints
            for key, record in self.kernels[host].records.get("endpoint", {}).items()
        }

    def networks(self) -> Set[Tuple[str, str]]:
        return {(host, name) for host in self.life.endpoints for name in self.kernels[host].records.get("network", {})}


def live(inventory: Inventory, seed: int, hosts: int, weeks: int) -> int:
    """So many weeks; returns how many of them changed a host."""
    life = Life(inventory, seed, hosts)
    fleet = Fleet(life)
    changed = 0
    for _ in range(weeks):
        if life.random.random() < 0.1:
            life.write()
            for text in BROKEN:
                inventory.write(a_yml=text)
                there = inventory.load().hosts[sorted(life.endpoints)[0]]
                with pytest.raises(packed.MapError):
                    view.networks(there)
            continue
        before, networks = fleet.addresses(), fleet.networks()
        what = life.week()
        if not what:
            continue
        fleet.run()
        after = fleet.addresses()
        for place in before.keys() & after.keys():
            if place not in life.shifted and place[1] not in life.edited | life.cut:
                assert after[place] == before[place], (what, place)
        assert {name for host, name in networks - fleet.networks() if host in life.endpoints} <= life.edited, what
        assert fleet.networks() == {(host, row["name"]) for host in life.endpoints for row in life.rows}
        life.done()
        changed += after != before
    return changed


@pytest.mark.parametrize("seed", [1, 2])
def test_some_weeks(inventory: Inventory, seed: int) -> None:
    assert live(inventory, seed, hosts=4, weeks=14)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_a_hundred_weeks(inventory: Inventory, seed: int) -> None:
    assert live(inventory, seed, hosts=30, weeks=100) > 20
