#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to remember 4,094 sub-interfaces with a network each; not a test.

python3 -m ansible_collections.netops.underlay.tests.bench.registry
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, List

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry
from ansible_collections.netops.underlay.tests.support.simulated_kernel import SimulatedKernel

ROUNDS = 7


def changes_of_a_full_trunk() -> List[Change]:
    """Some 8,200 objects of some 300 bytes, as they are planned."""
    rows = [
        {
            "name": f"net{vlan}",
            "driver": "macvlan",
            "parent": f"eth0.{vlan}",
            "subnets": [{"subnet": f"10.{vlan >> 8}.{vlan & 255}.0/24"}],
        }
        for vlan in range(1, 4095)
    ]
    declared = model.declare_map({"name": "all", "networks": rows})
    return plan.plan(declared, {}, SimulatedKernel("eth0").observed, "seed").changes


def timed(name: str, work: Callable[[], Any], rounds: int = ROUNDS) -> None:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    print(f"{name:42} {min(times):8.2f} ms at best, {statistics.median(times):8.2f} as a rule")


def main() -> None:
    changes = changes_of_a_full_trunk()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        registry = Registry(os.path.join(place, "state"))
        numbers: List[int] = []
        timed(
            "load, seed and pending on a bare host",
            lambda: (registry.load(), registry.seed(), registry.pending()),
        )
        with registry.lock(1, "bench"):
            few = changes[:2]
            timed("the first begin, which makes the database",
                  lambda: numbers.append(registry.begin("bench", "", few, 1)), 1)  # fmt: skip
            registry.finish(numbers[-1], few)
            timed("begin of 2 changes", lambda: numbers.append(registry.begin("bench", "", few, 1)))
            timed("finish of 2 changes", lambda: registry.finish(numbers.pop(), few))
            timed(
                "begin of 8,200 creations",
                lambda: numbers.append(registry.begin("bench", "", changes, 1)),
            )
            timed("finish of 8,200 creations", lambda: registry.finish(numbers.pop(), changes))
            gone = [change.inverse() for change in changes]
            more = [change._replace(before=change.after) for change in changes]
            number = registry.begin("bench", "", more, 1)
            timed("finish of 8,200 updates", lambda: registry.finish(number, more))
            timed("load of 8,200 objects", registry.load)
            timed("seed", registry.seed)
            timed("pending", registry.pending)
            timed("the last 50 transactions", registry.transactions)
            number = registry.begin("bench", "", gone, 1)
            timed("finish of 8,200 removals", lambda: registry.finish(number, gone), 1)
        print(f"{'size of the database':42} {os.path.getsize(registry.path) / 2**20:8.2f} MiB")
    name = Registry.__module__
    timed("an interpreter", lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
    timed(
        "an interpreter that imports it",
        lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True),
    )


if __name__ == "__main__":
    main()
