# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own paper host, made as strict as the real kernel where planning relies on it."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.netops.underlay.plugins.module_utils._engine import foretell
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import (
    HOST,
    HOST_KINDS,
    Change,
    Link,
    Namespace,
    Records,
    World,
)


class Refused(Exception):
    pass


class PaperKernel:
    """Holds a World and a registry, and does to them what the kernel and a finished plan would do."""

    def __init__(self, *nics: str) -> None:
        self.world = World(host=Namespace(HOST, "/proc/self/ns/net", (4, 1)))
        self.paper = foretell.Paper(self.world)
        self.links(HOST, "lo", *nics)
        self.records: Records = {}

    def links(self, workload: str, *names: str, **more: Any) -> None:
        for name in names:
            self.add(workload, name, **more)

    def add(self, workload: str, name: str, **values: Any) -> Link:
        space = self.world.namespace(workload)
        if space is None:
            raise Refused(f"no namespace {workload}")
        if name in space.names:
            raise Refused(f"{name} exists")
        self.world.__dict__.pop("children", None)
        return self.paper.add(space, name, values)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.kind in HOST_KINDS:
                self._judge(change)
                self.paper.do(change)

    def record(self, changes: Iterable[Change]) -> None:
        """As the registry lays a finished plan over its objects."""
        foretell.record(self.records, changes)

    def _judge(self, change: Change) -> None:
        """Raises Refused for what the kernel would refuse."""
        spec = change.after
        if spec is None or change.kind == "hosts":
            return
        there = self.world.namespace(spec["netns"])
        if change.kind == "netns":
            if there is not None:
                raise Refused(f"{change.key} exists")
            return
        if there is None:
            raise Refused(f"no namespace {spec['netns']}")
        if change.kind == "link" and change.before is None:
            if spec["name"] in there.names:
                raise Refused(f"{spec['name']} exists")
            if spec.get("parent") and spec["parent"] not in self.world.host.names:
                raise Refused(f"no parent {spec['parent']}")
        device = spec["name"] if change.kind == "link" else spec.get("link") or spec.get("dev")
        exists = change.before is not None or change.kind != "link"
        if exists and device and device not in there.names:
            raise Refused(f"no link {device}")
