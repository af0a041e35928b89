# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's own simulation of a host, made as strict as the real kernel where planning relies on it."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    FILE_KINDS,
    HOST,
    HOST_KINDS,
    Change,
    Records,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import HostState, Link, Namespace
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import encode, tc
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import simulate


class KernelRefused(Exception):
    pass


class SimulatedKernel:
    """Holds a World and a registry, and does to them what the kernel and a finished plan would do."""

    def __init__(self, *nics: str) -> None:
        self.observed = HostState(host=Namespace(HOST, "/proc/self/ns/net", (4, 1), routes_seen=True))
        self.simulation = simulate.Simulation(self.observed)
        self.links(HOST, "lo", *nics)
        self.records: Records = {}

    def links(self, workload: str, *names: str, **more: Any) -> None:
        for name in names:
            self.add(workload, name, **more)

    def add(self, workload: str, name: str, **values: Any) -> Link:
        space = self.observed.namespace(workload)
        if space is None:
            raise KernelRefused(f"no namespace {workload}")
        if name in space.names:
            raise KernelRefused(f"{name} exists")
        for cached in ("children", "members"):
            self.observed.__dict__.pop(cached, None)
        return self.simulation.add(space, name, values)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.kind in HOST_KINDS:
                self._judge(change)
                _encode(change)
                self.simulation.do(change)

    def record(self, changes: Iterable[Change]) -> None:
        """As the registry lays a finished plan over its objects."""
        simulate.record(self.records, changes)

    def _judge(self, change: Change) -> None:
        """Raises Refused for what the kernel would refuse."""
        spec = change.after
        if spec is None or change.kind in FILE_KINDS:
            return
        there = self.observed.namespace(spec["netns"])
        if change.kind == "netns":
            if there is not None:
                raise KernelRefused(f"{change.key} exists")
            return
        if there is None:
            raise KernelRefused(f"no namespace {spec['netns']}")
        if change.kind == "link" and change.before is None:
            if spec["name"] in there.names:
                raise KernelRefused(f"{spec['name']} exists")
            if spec.get("parent") and spec["parent"] not in self.observed.host.names:
                raise KernelRefused(f"no parent {spec['parent']}")
        device = spec["name"] if change.kind == "link" else spec.get("link") or spec.get("dev")
        exists = change.before is not None or change.kind != "link"
        if exists and device and device not in there.names:
            raise KernelRefused(f"no link {device}")


def _encode(change: Change) -> None:
    """As the kernel is sent it: raises what the codec does."""
    after, spec = change.after, change.after or change.before or {}
    if change.kind == "address":
        (encode.create_address if after else encode.remove_address)(spec["address"], 1)
    elif change.kind == "rule":
        (encode.create_rule if after else encode.remove_rule)(spec)
    elif change.kind == "rate" and after and "rate" in after:
        (tc.create_policer if after["direction"] == "ingress" else tc.create_shaper)(after, 1)
    elif change.kind == "route" and after:
        encode.create_route(after, 1)
    elif change.kind == "route":
        encode.remove_route(spec)
    elif change.kind == "link" and after and change.before is None:
        encode.create_link(after, after["name"], 1, after.get("group", 0))
    elif change.kind == "link" and after:
        for option in ("mac", "mtu", "group"):
            if after.get(option) is not None:
                encode.link_attribute(option, after[option])
