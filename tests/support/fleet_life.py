# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NetOps do to a fleet week after week: edits of the table and the hosts, branches that are merged, allocations.

The inventory plugin, the ledger's task and the rows of vlan_map's task are the real ones, in this process; what a host is,
a test decides.
"""

from __future__ import annotations

import copy
import os
import random
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence, Set, Tuple

import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.netops.underlay.plugins.action import map_ledger
from ansible_collections.netops.underlay.plugins.plugin_utils import _rows
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import ledger

from tests.support.inventories import Inventory, Read

CONFIG = "plugin: netops.underlay.netops_map\nmaps: [../map/a.yml]\nledger: ../map/ledger.yml\n"
#: A table that is broken in each way that somebody's editor or spreadsheet breaks one.
BROKEN = ("[]", "", "- {name: x}\n", "- [", "- {name: '#REF!', vlan: 5}\n")
EDITS = (
    "add",
    "attach",
    "attach",
    "attach",
    "detach",
    "remove",
    "replace",
    "renumber",
    "move",
    "rename_network",
    "slice_anew",
    "move_endpoint",
    "lose_host",
    "merge",
    "merge_branches",
)


class Life:
    """The table, the endpoints of the hosts and the ledger, and what the edits since the last whole run were to change."""

    def __init__(self, inventory: Inventory, seed: int, hosts: int) -> None:
        self.inventory = inventory
        self.random = random.Random(seed)
        self.endpoints: Dict[str, Set[Tuple[str, str]]] = {f"h{number}": set() for number in range(hosts)}
        self.rows: List[Dict[str, Any]] = []
        self.numbers = iter(range(2, 4095))
        self.purges = True
        self.moves = False  # whether addresses may move, as with allocate_move
        self.edited: Set[str] = set()  # networks, by their names before and after
        self.cut: Set[str] = (
            set()
        )  # networks whose slices are cut anew: addresses move if they have to, and nothing else
        self.shifted: Set[Tuple[str, str, str]] = set()  # host, network, endpoint
        self.read = Read({}, {})  # the inventory as the last allocation left it, which is what a run sees
        self.edits = 0
        self.clashes = 0  # merges in which both branches had taken one address
        for _ in range(4):
            self.add()
        self.done()

    def done(self) -> None:
        """Everything that was edited is on the hosts."""
        self.edited, self.cut, self.shifted = set(), set(), set()

    # -- the edits of a week ----------------------------------------------------------------------

    def week(self, *names: str) -> Sequence[str]:
        """These edits or up to three others, and an allocation; their names, none where the pools had no room and it was all taken back."""
        before = copy.deepcopy((self.rows, self.endpoints, self.edited, self.cut, self.shifted, self._ledger()))
        self.moves = False
        names = names or tuple(self.random.choice(EDITS) for _ in range(self.random.randint(1, 3)))
        for name in names:
            getattr(self, name)()
        if self.allocate(self.write()):
            self.edits += len(names)
            return names
        self.rows, self.endpoints, self.edited, self.cut, self.shifted, text = before
        (self.inventory.map / "ledger.yml").write_text(text, encoding="utf-8")
        return ()

    def _row(self) -> Dict[str, Any]:
        """A row that is about to be edited."""
        row = self.random.choice(self.rows)
        self.edited.add(row["name"])
        return row

    def _drop(self, network: str) -> None:
        for host, there in self.endpoints.items():
            self.endpoints[host] = {place for place in there if place[0] != network}

    def add(self) -> None:
        number = next(self.numbers)
        row = {"name": f"n{number}", "vlan": number, "trunk": self.random.choice(["a", "b"]), "driver": "macvlan",
               "subnets": subnets(number)}  # fmt: skip
        if number % 3 == 0:
            row["per_host"] = 28
        self.rows.append(row)
        self.edited.add(row["name"])

    def attach(self) -> None:
        for _ in range(max(3, len(self.endpoints) // 2)):
            host = self.random.choice(sorted(self.endpoints))
            self.endpoints[host].add((self.random.choice(self.rows)["name"], self.random.choice("abcdef")))

    def detach(self) -> None:
        host = self.random.choice(sorted(self.endpoints))
        self.shifted.update((host, *place) for place in sorted(self.endpoints[host])[:1])
        self.endpoints[host] = set(sorted(self.endpoints[host])[1:])

    def remove(self) -> None:
        if len(self.rows) > 2:
            row = self._row()
            self.rows.remove(row)
            self._drop(row["name"])

    def replace(self) -> None:
        """Another tenant gets the VLAN and the subnet of one who leaves, with endpoints of its own."""
        row = self._row()
        self._drop(row["name"])
        row["name"] = f"t{next(self.numbers)}"
        self.edited.add(row["name"])
        for host in self.random.sample(sorted(self.endpoints), min(3, len(self.endpoints))):
            self.endpoints[host].add((row["name"], self.random.choice("abcdef")))

    def renumber(self) -> None:
        self._row()["subnets"] = subnets(next(self.numbers))
        self.moves = True

    def move(self) -> None:
        self._row().update(
            trunk=self.random.choice(["a", "b"]),
            vlan=next(self.numbers),
            driver=self.random.choice(["macvlan", "ipvlan"]),
        )

    def rename_network(self) -> None:
        row = self._row()
        old, row["name"] = row["name"], f"r{next(self.numbers)}"
        self.edited.add(row["name"])
        for host, there in self.endpoints.items():
            self.endpoints[host] = {(row["name"] if network == old else network, name) for network, name in there}

    def slice_anew(self) -> None:
        row = self.random.choice(self.rows)
        row["per_host"] = self.random.choice([None, 27, 28, 29])
        self.cut.add(row["name"])
        self.moves = True

    def move_endpoint(self) -> None:
        one, two = self.random.sample(sorted(self.endpoints), 2)
        if self.endpoints[one]:
            place = self.random.choice(sorted(self.endpoints[one]))
            self.endpoints[one].remove(place)
            self.endpoints[two].add(place)
            self.shifted |= {(one, *place), (two, *place)}
        self.moves = True

    def move_nothing(self) -> None:
        """Nothing but an allocation, of what a test itself has moved."""
        self.moves = True

    def lose_host(self) -> None:
        if len(self.endpoints) > 3:
            del self.endpoints[self.random.choice(sorted(self.endpoints))]

    def merge(self) -> None:
        """Two branches gave addresses, and the merge kept every line."""
        head, mark, rest = self._ledger().partition("addresses:\n")
        addresses, former, holders = rest.partition("former:\n")
        if mark:
            merged = head + mark + addresses + addresses + former + holders + holders
            (self.inventory.map / "ledger.yml").write_text(merged, encoding="utf-8")

    def merge_branches(self) -> None:
        """Two people attach endpoints and allocate, each on a branch; git keeps the lines of both."""
        path = self.inventory.map / "ledger.yml"
        base = self._ledger()
        common = copy.deepcopy(self.endpoints)
        texts, ends = [], []
        for _branch in range(2):
            self.endpoints = copy.deepcopy(common)
            path.write_text(base, encoding="utf-8")
            self.attach()
            if not self.allocate(self.write()):
                self.endpoints = common
            texts.append(self._ledger())
            ends.append(self.endpoints)
        self.endpoints = {host: ends[0][host] | ends[1][host] for host in common}
        merged = git_union(self.inventory.map, texts[0], base, texts[1])
        _given, faults = ledger.read(merged, "ledger.yml")
        if faults:  # both took one address: the file names it, and the second branch allocates anew
            assert all("is given to" in str(fault) for fault in faults), faults
            self.clashes += 1
        path.write_text(texts[0] if faults else merged, encoding="utf-8")

    # -- the controller ---------------------------------------------------------------------------

    def _ledger(self) -> str:
        path = self.inventory.map / "ledger.yml"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def write(self) -> Read:
        hosts = {
            host: {
                "trunk_nics": {"a": "eth0", "b": "eth1"},
                "netops_endpoints": [
                    {"network": network, "name": name, "netns": f"{network}-{name}"} for network, name in sorted(there)
                ],
            }
            for host, there in self.endpoints.items()
        }
        rows = [{**row, **({"per_host": slices(row)} if row.get("per_host") else {})} for row in self.rows]
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        self.inventory.write(
            hosts_yml=yaml.safe_dump({"all": {"hosts": hosts}}), a_yml=yaml.safe_dump(rows), netops_map_yml=CONFIG
        )
        read = self.inventory.load()
        assert read.faults == []
        return read

    def allocate(self, read: Read) -> bool:
        """What the playbook allocate does; False where the pools have no room."""
        try:
            self._task(read, move=self.moves, release=[] if self.moves else ["gone"])
        except AnsibleActionFail as error:
            # A row that was cut anew may have no room for a static wish, or a pool no slice left: NetOps take it back.
            assert "nothing was released or allocated" in str(error) or "would move" in str(error), error
            return False
        self.read = self.inventory.load()
        self._task(self.read, state="complete")
        return True

    def _task(self, read: Read, **arguments: Any) -> Dict[str, Any]:
        """The task map_ledger, as the playbooks have it."""
        known = {
            "groups": {"netops_map": list(read.hosts)},
            "hostvars": read.hosts,
            "ansible_inventory_sources": [os.fspath(self.inventory.directory)],
        }
        task = SimpleNamespace(args=arguments, check_mode=False, diff=False, async_val=0)
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="none"))
        action: Any = map_ledger.ActionModule(task, connection, None, None, None)
        return dict(action.run(task_vars=known))

    def rows_of(self, read: Read) -> Dict[str, Dict[str, Any]]:
        """The options of each host's vlan_map, as its action plugin fills them."""
        return {host: self._filled(variables) for host, variables in read.hosts.items()}

    def _filled(self, variables: Dict[str, Any]) -> Dict[str, Any]:
        arguments = {"name": "trunk", "inventory_map": True, "trunks": variables["trunk_nics"], "links": [], "routes": [],
                     "purge": self.purges, "purge_limit": "100%"}  # fmt: skip
        action: Any = SimpleNamespace(
            _task=SimpleNamespace(args=arguments), _templar=SimpleNamespace(template=lambda value: value)
        )
        return _rows.filled(action, variables)


def subnets(number: int) -> str:
    """Those of a row: IPv4, and IPv6 for every other one."""
    return f"10.{number // 256}.{number % 256}.0/24" + ("" if number % 2 else f" 2001:db8:{number:x}::/64")


def slices(row: Dict[str, Any]) -> str:
    """The cell per_host: a length for each subnet of the row."""
    return f"{row['per_host']} {row['per_host'] + 64}" if " " in row["subnets"] else str(row["per_host"])


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
