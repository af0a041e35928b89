# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's life: week after week an edit of the table, an allocation and a run, on the real plugins and the real planner.

After each week no address is had twice, no network went that no edit removed, an endpoint has another address only where the
edit was to move it, and a broken file changes nothing.
"""

from __future__ import annotations

import copy
import random
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan as planning
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import allocate, ledger, packed, summary, view
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.needs import Fleet, Host

from tests.support.inventories import Inventory
from tests.support.planning import declare
from tests.support.simulated_kernel import SimulatedKernel

CONFIG = "plugin: netops.underlay.netops_map\nmaps: [../map/a.yml]\nledger: ../map/ledger.yml\n"
Address = Tuple[str, str]  # network, address


class Life:
    """The table, the hosts and their endpoints, and each host as a simulated kernel."""

    def __init__(self, inventory: Inventory, seed: int, hosts: int) -> None:
        self.inventory = inventory
        self.random = random.Random(seed)
        self.kernels = {f"h{number}": SimulatedKernel("eth0", "eth1") for number in range(hosts)}
        self.lost: Set[str] = set()
        self.rows: List[Dict[str, Any]] = []
        self.endpoints: Dict[str, Set[Tuple[str, str]]] = {host: set() for host in self.kernels}
        self.numbers = iter(range(1, 4095))
        self.moved = False  # whether the week's edit may change addresses
        self.clashes = 0  # merges in which both branches had taken one address
        self.handed = 0  # endpoints that left a host before another one took their address
        for _ in range(4):
            self.add()

    # -- the edits of a week ----------------------------------------------------------------------

    def add(self) -> None:
        number = next(self.numbers)
        row = {"name": f"n{number}", "vlan": number, "trunk": self.random.choice(["a", "b"]), "driver": "macvlan",
               "subnets": f"10.{number // 256}.{number % 256}.0/24"}  # fmt: skip
        if number % 3 == 0:
            row["per_host"] = 28
        self.rows.append(row)

    def attach(self) -> None:
        for _ in range(3):
            host = self.random.choice(sorted(self.endpoints))
            self.endpoints[host].add((self.random.choice(self.rows)["name"], self.random.choice("abcdef")))

    def detach(self) -> None:
        host = self.random.choice(sorted(self.endpoints))
        self.endpoints[host] = set(sorted(self.endpoints[host])[1:])

    def remove(self) -> None:
        if len(self.rows) > 2:
            name = self.rows.pop(self.random.randrange(len(self.rows)))["name"]
            for host, there in self.endpoints.items():
                self.endpoints[host] = {place for place in there if place[0] != name}

    def renumber(self) -> None:
        number = next(self.numbers)
        self.random.choice(self.rows)["subnets"] = f"10.{number // 256}.{number % 256}.0/24"
        self.moved = True

    def move(self) -> None:
        row = self.random.choice(self.rows)
        row.update(
            trunk={"a": "b", "b": "a"}[row["trunk"]],
            vlan=next(self.numbers),
            driver=self.random.choice(["macvlan", "ipvlan"]),
        )

    def rename_network(self) -> None:
        row = self.random.choice(self.rows)
        old, row["name"] = row["name"], f"r{next(self.numbers)}"
        for host, there in self.endpoints.items():
            self.endpoints[host] = {(row["name"] if network == old else network, name) for network, name in there}

    def slice_anew(self) -> None:
        row = self.random.choice(self.rows)
        row["per_host"] = self.random.choice([None, 27, 28, 29])
        self.moved = True

    def move_endpoint(self) -> None:
        one, two = self.random.sample(sorted(self.endpoints), 2)
        if self.endpoints[one]:
            self.endpoints[two].add(self.endpoints[one].pop())
        self.moved = True

    def lose_host(self) -> None:
        if len(self.endpoints) > 2:
            host = self.random.choice(sorted(self.endpoints))
            del self.endpoints[host]
            self.lost.add(host)

    def merge(self) -> None:
        """Two branches gave addresses, and the merge kept every line."""
        path = self.inventory.map / "ledger.yml"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        head, mark, addresses = text.partition("addresses:\n")
        if mark:
            path.write_text(head + mark + addresses + addresses, encoding="utf-8")

    def merge_branches(self) -> None:
        """Two people attach endpoints and allocate, each on a branch; git keeps the lines of both."""
        path = self.inventory.map / "ledger.yml"
        base = path.read_text(encoding="utf-8") if path.exists() else ""
        common = {host: set(there) for host, there in self.endpoints.items()}
        texts, ends = [], []
        for _branch in range(2):
            self.endpoints = {host: set(there) for host, there in common.items()}
            path.write_text(base, encoding="utf-8")
            self.attach()
            if not self.allocate(self.write()):
                self.endpoints = common
            texts.append(path.read_text(encoding="utf-8"))
            ends.append(self.endpoints)
        self.endpoints = {host: ends[0][host] | ends[1][host] for host in common}
        merged = git_union(self.inventory.map, texts[0], base, texts[1])
        _given, faults = ledger.read(merged, "ledger.yml")
        if faults:  # both took one address: the file names it, and the second branch allocates anew
            assert all("is given to" in str(fault) for fault in faults), faults
            self.clashes += 1
        path.write_text(texts[0] if faults else merged, encoding="utf-8")

    # -- a week -----------------------------------------------------------------------------------

    def write(self) -> Any:
        hosts = {
            host: {
                "trunk_nics": {"a": "eth0", "b": "eth1"},
                "netops_endpoints": [
                    {"network": network, "name": name, "netns": f"{network}-{name}"} for network, name in sorted(there)
                ],
            }
            for host, there in self.endpoints.items()
        }
        rows = [{key: value for key, value in row.items() if value is not None} for row in self.rows]
        self.inventory.write(
            hosts_yml=yaml.safe_dump({"all": {"hosts": hosts}}), a_yml=yaml.safe_dump(rows), netops_map_yml=CONFIG
        )
        return self.inventory.load()

    def allocate(self, read: Any) -> bool:
        """What the playbook allocate does; False where the pools have no room."""
        path = self.inventory.map / "ledger.yml"
        given, faults = ledger.read(path.read_text(encoding="utf-8") if path.exists() else "", "ledger.yml")
        assert faults == []
        fleet = Fleet(
            read.maps[0]["rows"],
            {host: Host(there["group_names"], there["netops_endpoints"]) for host, there in read.hosts.items()},
        )
        assert fleet.problems == []
        kept, _released, problems = allocate.release(fleet, given, ["gone"]) if not self.moved else (given, [], [])
        assert problems == []
        done = allocate.complete(fleet, kept, self.moved)
        if done.problems or done.waits:
            return False
        assert allocate.conflicts(fleet, done.ledger) == []
        path.write_text(done.ledger.text(), encoding="utf-8")
        return True

    def run(self, read: Any) -> None:
        """What the playbook site does, with the hosts in any order: first what hands an address over, then each host as a whole."""
        declared = {}
        for host, there in read.hosts.items():
            rows = {
                "networks": view.networks(there),
                "endpoints": view.endpoints(there, there["netops_endpoints"]),
                "links": [],
                "routes": [],
            }
            declared[host] = {
                "name": "trunk",
                "trunks": there["trunk_nics"],
                "purge": True,
                "purge_limit": "100%",
                **rows,
            }
        predicted = {host: describe.moving(self.plan(host, options)) for host, options in declared.items()}
        for host, endpoints in summary.handover(predicted).items():
            for endpoint in endpoints:
                declare(self.kernels[host], model.declare("endpoint", endpoint, "absent", True))
                self.handed += 1
        for host in self.random.sample(sorted(declared), len(declared)):
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
        """Who is on the wire: two hosts that announce one address in one network are a duplicate."""
        held: Dict[Address, str] = {}
        for host, kernel in self.kernels.items():
            for key, record in kernel.records.get("endpoint", {}).items() if host not in self.lost else ():
                for address in record.spec["addresses"]:
                    place = (key.partition("/")[0], address.partition("/")[0])
                    other = held.setdefault(place, f"{host} {key}")
                    assert other == f"{host} {key}", f"{place} is on {other} and {host} {key}, after {after}"

    def addresses(self) -> Dict[Tuple[str, str], str]:
        """host, network/endpoint -> address, of the hosts that are not lost."""
        return {
            (host, key): str(record.spec["addresses"][0])
            for host, kernel in self.kernels.items()
            if host not in self.lost
            for key, record in kernel.records.get("endpoint", {}).items()
        }

    def networks(self) -> Set[Tuple[str, str]]:
        return {(host, name) for host in self.endpoints for name in self.kernels[host].records.get("network", {})}


def git_union(directory: Path, ours: str, base: str, theirs: str) -> str:
    """What ``git merge`` makes of a file with merge=union."""
    files = [directory / f"{name}.merge" for name in ("ours", "base", "theirs")]
    for file, text in zip(files, (ours, base, theirs)):
        file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["git", "merge-file", "-p", "--union", *map(str, files)], capture_output=True, text=True, check=True
    )
    for file in files:
        file.unlink()
    return done.stdout


WEEKS = (
    "add",
    "attach",
    "attach",
    "attach",
    "detach",
    "remove",
    "renumber",
    "move",
    "rename_network",
    "slice_anew",
    "move_endpoint",
    "lose_host",
    "merge",
    "merge_branches",
    "broken",
)


def live(inventory: Inventory, seed: int, hosts: int, weeks: int) -> int:
    """So many weeks; returns how many of them changed a host."""
    life = Life(inventory, seed, hosts)
    changed = 0
    for _ in range(weeks):
        what = life.random.choice(WEEKS)
        life.moved = False
        before, networks = life.addresses(), life.networks()
        kept = [dict(row) for row in life.rows], {host: set(there) for host, there in life.endpoints.items()}
        if what == "broken":
            life.write()
            for text in ("[]", "- {name: x}\n", "- [", "- {name: '#REF!', vlan: 5}\n"):
                inventory.write(a_yml=text)
                there = inventory.load().hosts[sorted(life.endpoints)[0]]
                with pytest.raises(packed.MapError):
                    view.networks(there)
            continue
        getattr(life, what)()
        read = life.write()
        assert read.faults == [], (what, read.faults)
        if not life.allocate(read):
            life.rows, life.endpoints = kept  # NetOps take such an edit back
            continue
        life.run(life.write())
        after = life.addresses()
        held = [(key.partition("/")[0], address) for (_host, key), address in after.items()]
        assert len(set(held)) == len(held), what
        if not life.moved and what != "rename_network":
            assert {place: after[place] for place in before if place in after} == {
                place: before[place] for place in before if place in after
            }, what
        if what not in ("remove", "rename_network", "lose_host"):
            assert networks <= life.networks(), what
        assert life.networks() == {(host, row["name"]) for host in life.endpoints for row in life.rows}
        changed += after != before
    return changed


@pytest.mark.parametrize("seed", [1, 2])
def test_some_weeks(inventory: Inventory, seed: int) -> None:
    assert live(inventory, seed, hosts=4, weeks=14)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_a_hundred_weeks(inventory: Inventory, seed: int) -> None:
    assert live(inventory, seed, hosts=30, weeks=100) > 20
