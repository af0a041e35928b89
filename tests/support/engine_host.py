# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine and the host that it works on, for tests that boot it, and that do to it what the service and people do."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any, List

from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import named_namespaces
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import guard, restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine


class Host:
    """The engine and the host that it works on, which can be booted."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(str(directory / "state"))
        self.registry = Registry(self.engine.state_dir)
        self._boot = directory / "boot"
        self._boots = itertools.count()
        self.booted = False
        self.new_boot()

    def options(self, **more: Any) -> transact.RunOptions:
        return transact.RunOptions(self.engine.state_dir, who="a test", **more)

    def boot_id(self) -> str:
        return self._boot.read_text(encoding="ascii")

    def new_boot(self) -> None:
        self._boot.write_text(f"boot {next(self._boots)}", encoding="ascii")

    def last(self) -> int:
        """The last transaction that stands; 0 for none."""
        return next((it.number for it in self.registry.transactions() if it.state in ("applied", "unconfirmed")), 0)

    def undo(self) -> List[str]:
        """Undo the last transaction; its notes."""
        options = self.options()
        with guard.at_work(self.registry, options):
            undo.undo(self.last(), self.registry, options)
        return options.notes

    def expire(self) -> List[str]:
        """The last transaction was not confirmed."""
        options = self.options()
        guard.expire(self.last(), self.registry, options)
        return options.notes

    def restore(self) -> List[str]:
        """As the service does; the first time after a boot, the NICs too are set up."""
        found = restore.restore(self.options(), restore.RestoreScope(boot=self.booted))
        return [*found.notes, *(f"{left.kind} {left.key}: {left.why}" for left in found.left)]

    def power_cut(self) -> None:
        """No link and no namespace of ours outlives it; files do."""
        records = self.registry.load()
        for name in ("web", "db"):
            named_namespaces.remove(name)
        links = [record.spec["name"] for record in records.get("link", {}).values() if not record.spec["netns"]]
        routes = [record.spec["prefix"] for record in records.get("route", {}).values() if not record.spec["netns"]]
        commands = (
            [f"link del {name}" for name in links]
            + [f"route del {prefix}" for prefix in routes]
            + ["link set nicb down"]
        )
        subprocess.run(
            ["ip", "-force", "-batch", "-"],
            input="\n".join(commands),
            text=True,
            check=False,
            stderr=subprocess.DEVNULL,
        )
        self.new_boot()
        self.booted = True


class Armed:
    """A guard whose time the test decides on."""

    timeout = 1000.0

    def arm(self, number: int) -> None:
        """It waits."""

    def disarm(self, number: int) -> None:
        """It does not."""
