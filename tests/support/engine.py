# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the modules drive it, for tests that look at what became of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact, verify
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry


@dataclass
class Engine:
    """One host's engine: tasks, maps, and what it keeps."""

    state_dir: str

    def task(
        self, kind: str, /, state: str = "present", adopt: bool = False, check: bool = False, **options: Any
    ) -> converge.Outcome:
        """One task of the module for ``kind``."""
        return self._converge(model.declare(kind, options, state, adopt), check)

    def map(self, check: bool = False, guard: Optional[transact.Guard] = None, **options: Any) -> converge.Outcome:
        rows = (
            {section: [] for section in model.SECTIONS} if options.get("purge") else {}
        )  # what is not given is not purged
        run = transact.RunOptions(self.state_dir, check=check, guard=guard)
        return converge.converge(model.declare_map({"name": "fabric", **rows, **options}), run)

    def verify(self, **options: Any) -> Tuple[List[str], List[str]]:
        """What verifying a map finds, drift left out, and what it cannot prove."""
        declared = model.declare_map({"name": "task", "adopt": True, **options})
        done = self._converge(declared, True)
        items, seen = done.items, done.observed
        there = verify.networks(declared, items["network"], items["endpoint"], seen, seen.leases)
        wires = verify.listen(there)
        found = verify.judge(there, wires, verify.macs(done.observed))
        return [one["text"] for one in found], verify.unproved(there, wires)

    def _converge(self, declared: Declaration, check: bool) -> converge.Outcome:
        return converge.converge(declared, transact.RunOptions(self.state_dir, check=check))

    def network(
        self, name: str = "blue", driver: str = "macvlan", subnet: str = "192.0.2.0/24", **options: Any
    ) -> converge.Outcome:
        """A network on VLAN 10 of the trunk, unless ``parent`` says otherwise."""
        subnets = options.pop("subnets", [{"subnet": subnet, "gateway": "none"}])
        options = {"parent": "trunk.10", "subnets": subnets, **options}
        return self.task(
            "network", name=name, driver=driver, **{key: value for key, value in options.items() if value is not None}
        )

    def endpoint(self, name: str, network: str = "blue", **options: Any) -> Dict[str, Any]:
        """An endpoint, in the namespace of its name unless a workload is given; as it was recorded."""
        if not {"netns", "pid", "container"} & set(options):
            options["netns"] = name
        outcome = self.task("endpoint", network=network, name=name, **options)
        found: Dict[str, Any] = outcome.items["endpoint"][f"{network}/{name}"]
        return found

    def absent(self, name: str, network: str = "blue", **options: Any) -> converge.Outcome:
        return self.task("endpoint", "absent", network=network, name=name, **options)

    def same(self, name: str, network: str = "blue", **options: Any) -> None:
        """The same endpoint once more: nothing changes, and check mode says so too."""
        options = options if {"netns", "pid", "container"} & set(options) else {"netns": name, **options}
        for check in (True, False):
            outcome = self.task("endpoint", check=check, network=network, name=name, **options)
            assert outcome.changes == [], outcome.changes

    def records(self, kind: str) -> Dict[str, Dict[str, Any]]:
        return {key: record.spec for key, record in Registry(self.state_dir).load().get(kind, {}).items()}

    def pending(self) -> bool:
        return Registry(self.state_dir).pending() is not None
