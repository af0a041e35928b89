# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole host on paper: the engine's own runs and its command, with a real registry and a simulated kernel."""

from __future__ import annotations

import os
import pickle
from typing import Iterable, List, Mapping

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import identity
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change, digest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import HostState, Namespace, Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import (
    barrier,
    blocks,
    containers,
    management,
    named_namespaces,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import (
    converge,
    restore,
    rollback,
    transact,
    undo,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import cli
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import hostlock
from ansible_collections.netops.underlay.plugins.module_utils._engine.wire import conflicts

from tests.support.engine import Engine
from tests.support.simulated_kernel import SimulatedKernel


class SimulatedHost(Engine):
    """The engine on a kernel of paper, from when it is made until the test ends."""

    def __init__(self, state_dir: str, monkeypatch: pytest.MonkeyPatch, *nics: str) -> None:
        super().__init__(state_dir)
        self.kernel = SimulatedKernel(*nics)
        for module in (converge, restore, rollback, transact, undo, describe):
            monkeypatch.setattr(module, "observe", self._observe)
        for module in (rollback, transact):
            monkeypatch.setattr(module, "apply", self._apply)
        monkeypatch.setattr(hostlock, "DIRECTORY", os.path.join(os.path.dirname(state_dir), "run"))
        monkeypatch.setattr(barrier, "is_whole", lambda: True)
        monkeypatch.setattr(barrier, "install", lambda: "")
        monkeypatch.setattr(management, "find", lambda: ((), (), True))
        monkeypatch.setattr(containers, "ask", lambda workloads, **how: None)
        monkeypatch.setattr(named_namespaces, "tidy", lambda workload: None)
        monkeypatch.setattr(blocks, "write", self._write_blocks)
        monkeypatch.setattr(conflicts, "ask", dict.fromkeys)
        monkeypatch.setattr(conflicts, "announce", lambda where, addresses: None)

    def command(self, *arguments: str) -> int:
        """``underlay``, as a person calls it: its exit status."""
        return cli.main(["--state-dir", self.state_dir, "--lock-timeout", "0", *arguments])

    def _observe(self, need: Need) -> HostState:
        observed: HostState = pickle.loads(pickle.dumps(self.kernel.observed))  # faster than a deep copy
        for namespace in (observed.host, *observed.namespaces.values()):
            namespace.names = {}
            for link in namespace.links.values():
                namespace.add(link)
        self._asked_for(need, observed)
        identity.identify(observed, need.records)
        return observed

    @staticmethod
    def _asked_for(need: Need, observed: HostState) -> None:
        there = observed.namespaces
        observed.namespaces = {workload: there[workload] for workload in need.workloads if workload in there}
        if need.everywhere:
            observed.others = [found for workload, found in there.items() if workload not in need.workloads]
        for workload in need.workloads:
            if workload not in there and not workload.startswith("netns:"):
                observed.refusals[workload] = f"{workload} is not there"
                observed.gone.add(workload)

    def _apply(self, changes: Iterable[Change], observed: HostState, group: int) -> None:
        self.kernel.apply(changes)

    def _write_blocks(self, kind: str, pages: Mapping[str, str]) -> None:
        for workload, text in pages.items():
            self.kernel.observed.blocks[kind, workload] = digest(text) if text else ""

    def namespaces(self) -> List[Namespace]:
        return [self.kernel.observed.host, *self.kernel.observed.namespaces.values()]

    def reboot(self) -> None:
        """Everything of ours is gone from the kernel."""
        nics = [link.name for link in self.kernel.observed.host.links.values() if not link.kind and link.name != "lo"]
        self.kernel = SimulatedKernel(*nics)
