# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes in an order that the kernel accepts."""

from __future__ import annotations

from typing import Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ..core.change import HOST, Change, link_key
from ..core.specs import Spec
from ..core.state import PLACED


class Step(NamedTuple):
    """An object and the two states of one change, before they are put in order."""

    kind: str
    key: str
    before: Optional[Spec]
    after: Optional[Spec]
    of: str
    reason: str


def order_changes(steps: Iterable[Step]) -> List[Change]:
    """Changes in an order that the kernel accepts: removals before creations, and children before parents when removing.

    A link that gets addresses comes up after them, so that the kernel announces them (kernel facts, 6). A route
    that gives way to another to the same prefix goes last, so that there always is one.
    """
    out: List[Step] = []
    change: List[Step] = []
    make: List[Step] = []
    for step in steps:
        late = step.before is None or step.kind in PLACED  # they may lead over a link that is made first
        (out if step.after is None else make if late else change).append(step)
    superseding = {_destination(step.after): step.key for step in make if step.kind == "route" and step.after}
    outlive = [step for step in out if _is_superseded(step, superseding)]
    out = [step for step in out if not _is_superseded(step, superseding)]
    parents = {
        step.key: str(step.after["parent"])
        for step in make
        if step.kind == "link" and step.after and step.after.get("parent")
    }
    addressed = {
        link_key(step.after["netns"], step.after["link"]) for step in make if step.kind == "address" and step.after
    }
    ordered = sorted(out, key=_removal_order)
    ordered += sorted(change, key=lambda step: step.kind != "link")  # bases first: a larger MTU has to come from below
    raised: List[Step] = []
    for step in make:
        if step.kind == "link" and step.key in addressed and step.after and step.after.get("up"):
            low: Spec = {"netns": step.after["netns"], "name": step.after["name"], "up": False}
            ordered.append(step._replace(after={**step.after, "up": False}))
            raised.append(
                Step(
                    "link",
                    step.key,
                    low,
                    {**low, "up": True},
                    step.of,
                    "after its addresses, so that they are announced",
                )
            )
        else:
            ordered.append(step)
    first = len(out) + len(change)
    ordered[first:] = sorted(ordered[first:] + raised, key=lambda step: _creation_order(step, parents)) + outlive
    return [Change(step.kind, step.key, step.before, step.after, step.reason, step.of) for step in ordered]


def _destination(spec: Spec) -> Tuple[str, str, int]:
    return (spec["netns"], spec["prefix"], spec["table"])


def _is_superseded(step: Step, superseding: Mapping[Tuple[str, str, int], str]) -> bool:
    """Whether another route takes over; one that is recreated itself has to go first."""
    return (
        step.kind == "route"
        and step.before is not None
        and superseding.get(_destination(step.before), step.key) != step.key
    )


REMOVAL_RANK = {"rule": 0, "route": 1, "rate": 1, "address": 2, "link": 3, "hosts": 4, "resolver": 4, "netns": 5}


CREATION_RANK = {"netns": 0, "link": 1, "rate": 2, "address": 2, "route": 4, "rule": 5, "hosts": 6, "resolver": 6}


def _removal_order(step: Step) -> Tuple[int, bool, bool, int]:
    """Rules, routes, addresses, links (of the namespaces before the host's, sub-interfaces last, QinQ before its base)."""
    spec = step.before or {}
    return (
        REMOVAL_RANK[step.kind],
        spec["netns"] == HOST,
        spec.get("kind") == "vlan",
        -str(spec.get("name")).count("."),
    )


def _creation_order(step: Step, parents: Mapping[str, str]) -> Tuple[int, str, int, int]:
    """Namespaces, the host's links (bases first), then one namespace after the other, the host's routes last."""
    spec = step.after or {}
    netns = spec["netns"]
    if step.kind == "netns":
        return (0, "", 0, 0)
    stage = 3 if step.kind == "link" and step.before is not None else CREATION_RANK[step.kind]
    if netns == HOST:
        return (3 if step.kind == "route" else 1, "", stage, depth(step.key, parents))
    return (2, netns, stage, 0)


def depth(name: str, parents: Mapping[str, str]) -> int:
    """How many links are below one, by ``parents``: link -> the one that it is on."""
    depth = 0
    while name in parents:
        name, depth = parents[name], depth + 1
    return depth
