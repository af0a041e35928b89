# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as the modules drive it, for tests that look at what became of a task."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

from ansible_collections.netops.underlay.plugins.module_utils._engine import converge, model
from ansible_collections.netops.underlay.plugins.module_utils._engine.registry import Registry
from conftest import ip, run

#: Until when something has to have happened; a machine that is busy is no fault.
DEADLINE = 30.0


@dataclass
class Engine:
    """One host's engine: tasks, maps, and what it keeps."""

    state_dir: str

    def task(self, kind: str, state: str = "present", adopt: bool = False, check: bool = False, **options: Any) -> converge.Outcome:
        """One task of the module for ``kind``."""
        return self._converge(model.declare(kind, options, state, adopt), check)

    def map(self, check: bool = False, **options: Any) -> converge.Outcome:
        return self._converge(model.declare_map({"name": "fabric", **options}), check)

    def _converge(self, declared: model.Declaration, check: bool) -> converge.Outcome:
        return converge.converge(declared, converge.Run(self.state_dir, check=check))

    def network(self, name: str = "blue", driver: str = "macvlan", subnet: str = "192.0.2.0/24", **options: Any) -> converge.Outcome:
        """A network on VLAN 10 of the trunk, unless ``parent`` says otherwise."""
        subnets = options.pop("subnets", [{"subnet": subnet, "gateway": "none"}])
        options = {"parent": "trunk.10", "subnets": subnets, **options}
        return self.task("network", name=name, driver=driver, **{key: value for key, value in options.items() if value is not None})

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


def addresses(dev: str, netns: str) -> List[str]:
    """Those of global scope, IPv4 first."""
    rows = ip("addr", "show", "dev", dev, netns=netns)[0]["addr_info"]
    return [f"{row['local']}/{row['prefixlen']}" for row in rows if row["scope"] == "global"]


def default(netns: str, family: str = "-4") -> Dict[str, Any]:
    """The default route of a namespace; empty where there is none."""
    rows = ip(family, "route", "show", "default", netns=netns)
    assert len(rows) < 2, rows
    return rows[0] if rows else {}


def reaches(command: str, target: str) -> bool:
    """Whether one of some pings by ``command`` (such as ``ip netns exec a``) arrives, neighbours being new."""
    return run(f"{command} ping -c 1 -W 1 {target} >/dev/null 2>&1 && echo yes || echo no").strip() == "yes"


def until(what: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.1)


def reachable(command: str, target: str) -> bool:
    """Whether a ping arrives before long."""
    found: bool = until(lambda: reaches(command, target))
    return found


class Capture:
    """tcpdump on a link, what it writes read whenever somebody asks.

    No thread reads it: while one ends, a process cannot change its mounts, as every test does when it is over.
    """

    def __init__(self, path: Path, link: str, what: str, netns: str = "") -> None:
        self.path = path
        inside_of = ["ip", "netns", "exec", netns] if netns else []
        command = [*inside_of, "tcpdump", "-i", link, "-lne", "--immediate-mode", what]
        with open(path, "w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        while "listening on" not in self.process.stderr.readline():
            assert self.process.poll() is None

    def lines(self) -> List[str]:
        return self.path.read_text().split("\n")[:-1]  # the last one may not be whole

    def count(self, *words: str) -> int:
        return sum(all(word in line for word in words) for line in self.lines())

    def sees(self, *words: str, times: int = 1) -> bool:
        return bool(until(lambda: self.count(*words) >= times))

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()
