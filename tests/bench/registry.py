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
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

ROUNDS = 7


def plan() -> List[Change]:
    """8,200 objects of some 300 bytes."""
    found = []
    for vlan in range(4100):
        spec = {
            "netns": "", "name": f"eth0.{vlan}", "kind": "vlan", "parent": "eth0", "mtu": 1500,
            "up": True, "group": 8021, "altnames": [], "isolation": "none", "vlan_id": vlan, "protocol": "802.1q",
            "gvrp": False, "mvrp": False, "loose_binding": False, "reorder_headers": True,
            "ingress_qos_map": {}, "egress_qos_map": {},
        }  # fmt: skip
        found.append(Change("link", f"eth0.{vlan}", None, spec, f"net{vlan} needs it", "parent"))
        network = {
            "name": f"net{vlan}", "driver": "macvlan", "mode": "bridge", "parent": f"eth0.{vlan}", "owner": "map:all",
            "subnets": [{"subnet": f"10.{vlan >> 8}.{vlan & 255}.0/24", "gateway": f"10.{vlan >> 8}.{vlan & 255}.1",
                         "ip_range": None, "aux_addresses": {}}],
            "internal": False, "share_parent": False, "bring_up_parent": True, "host_access": False, "labels": {},
        }  # fmt: skip
        found.append(Change("network", f"net{vlan}", None, network, "declared", f"network:net{vlan}"))
    return found


def timed(name: str, work: Callable[[], Any], rounds: int = ROUNDS) -> None:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    print(f"{name:42} {min(times):8.2f} ms at best, {statistics.median(times):8.2f} as a rule")


def main() -> None:
    changes = plan()
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
