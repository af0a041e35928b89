# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is wanted and what is there to an ordered list of changes, each with its reason and its inverse.

Nothing else in the engine decides. A user's run, the undo, the restore at boot and the drift report are all
a set of objects with the state that they shall have, compared with the world and put in order by
:func:`arrange`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from . import rules
from .derive import Derivation, Key, Wanted
from .fields import Refusal
from .model import Declaration
from .target import ITEM_KINDS, Target
from .world import HOST, KERNEL_KINDS, LINK_GROUP, Change, Link, Namespace, Records, Spec, World, differences, link_key

_ROUTE_IDENTITY = ("netns", "prefix", "metric", "table", "protocol")
_IDENTITY = {"netns": ("netns",), "link": ("netns", "name"), "address": ("netns", "link", "address"), "route": _ROUTE_IDENTITY}

#: What a link keeps for life: the kernel accepts some of these in a change, and ignores them.
FIXED = ("kind", "parent", "vlan_id", "protocol")


@dataclass
class Plan:
    """What a run will do. Check mode, diff, drift and the undo are this, not applied or turned round."""

    changes: List[Change] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    items: Dict[str, Dict[str, Spec]] = field(default_factory=dict)  # the declared ones, complete


class Step(NamedTuple):
    """An object and the two states of one change, before they are put in order."""

    kind: str
    key: str
    before: Optional[Spec]
    after: Optional[Spec]
    of: str
    reason: str


def plan(declared: Declaration, records: Records, world: World, seed: str) -> Plan:
    """The plan that makes a declaration true.

    Raises Refusal with everything that speaks against it.
    """
    target = Target(declared, records, world, seed)
    rules.check(target)
    derivation = Derivation(target)
    steps = [*_steps(target, derivation.wanted), *_removals(target, derivation)]
    if target.problems:
        raise Refusal(target.problems)
    return Plan(
        arrange(steps) + _record_changes(target, derivation),
        target.warnings,
        {
            kind: {key: target.items[kind][key] for key, item in target.scope[kind].items() if item.spec is not None}
            for kind in ITEM_KINDS
        },
    )


# --- comparing -----------------------------------------------------------------------------------


def _steps(target: Target, wanted: Mapping[Key, Wanted]) -> Iterator[Step]:
    """What is missing or otherwise among the wanted objects."""
    world, remade = target.world, set()
    for (kind, key), want in wanted.items():
        now = world.find(kind, want.spec)
        if kind == "link" and now is not None and want.of:
            now = _own(target, key, want, now)
            if now is None:
                continue
            if any(now[option] != want.spec[option] for option in FIXED if option in want.spec):
                remade.add(key)
                yield Step(kind, key, target.records["link"][key].spec, None, want.of, "cannot be changed in place")
                now = None
        elif kind in ("address", "route") and now is not None and link_key(want.spec["netns"], _device(want.spec)) in remade:
            yield Step(kind, key, now, None, want.of, "goes with its link")
            now = None
        if now is None:
            yield Step(kind, key, None, want.spec, want.of, want.reason)
            continue
        record = target.record(kind, key)
        changed = differences(now, want.spec)
        if changed is None and record is not None and (record.spec != want.spec or record.of != want.of):
            changed = differences(record.spec, want.spec) or ({}, {})
        if changed is not None:
            identity = {option: want.spec[option] for option in _IDENTITY[kind]}
            yield Step(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, want.of, want.reason)


def _device(spec: Spec) -> str:
    return spec.get("link") or spec.get("dev") or ""


def _own(target: Target, key: str, want: Wanted, now: Spec) -> Optional[Spec]:
    """A link that stands where ours shall be: ours, or to be adopted; else a refusal."""
    if now["group"] == LINK_GROUP and (target.record("link", key) or target.declared.adopt):
        return now
    if target.declared.adopt and now["kind"] == want.spec["kind"]:
        return now
    kind, _, item = want.of.partition(":")
    path = target.path(kind, item, "name") if kind in ITEM_KINDS else want.spec["name"]
    what = "does not bear our mark any more" if target.record("link", key) else "exists and was not made by us"
    target.refuse(path, f"{key} ({now['kind'] or 'a NIC'}) {what}", "set adopt: true to take it over, or give another name")
    return None


def _removals(target: Target, derivation: Derivation) -> Iterator[Step]:
    """The recorded objects that the items in scope no longer stand for, and shared ones that nobody needs."""
    wanted = derivation.wanted
    gone = {f"{kind}:{key}" for kind in ITEM_KINDS for key in target.scope[kind]}
    gone |= {f"endpoint:{key}" for key in derivation.endpoints}
    gone |= {f"workload:{workload}" for workload in derivation.workloads}
    removed: Set[str] = set()
    for kind in KERNEL_KINDS:
        for key, record in target.records.get(kind, {}).items():
            if record.of in gone and (kind, key) not in wanted:
                removed.add(f"{kind} {key}")
                yield Step(kind, key, record.spec, None, record.of, f"{record.of.partition(':')[2]} needs it no more")
    if any(item.spec is None or target.before(kind, item.key) for kind in ITEM_KINDS for item in target.scope[kind].values()):
        yield from _unshared(target, wanted, removed)


def _unshared(target: Target, wanted: Mapping[Key, Wanted], removed: Set[str]) -> Iterator[Step]:
    """Sub-interfaces and namespaces made on the fly go with their last user, unless somebody else is there."""
    networks = target.items["network"].values()
    parents = {parent.name for parent in map(target.parent, networks) if parent}
    workloads = {endpoint["workload"] for endpoint in target.items["endpoint"].values()}
    for kind, label, needed in (("link", "parent", parents), ("netns", "netns", workloads)):
        for key, record in target.records.get(kind, {}).items():
            if record.of != label or key in needed or (kind, key) in wanted:
                continue
            sitting = _squatters(target, key, removed) if kind == "link" else _residents(target, key, removed)
            if sitting:
                target.warnings.append(f"{key} stays although nothing of ours needs it: {sitting}")
            else:
                yield Step(kind, key, record.spec, None, record.of, "its last user is gone")


def _squatters(target: Target, name: str, removed: Set[str]) -> str:
    """Who else uses a link of ours, in words; empty for nobody."""
    link = target.world.host.names.get(name)
    if link is None:
        return ""
    found = [
        f"{child.name} in {space.workload or 'the host'} sits on it"
        for space, child in target.world.children.get(link.index, ())
        if not _ours(target, space, child)
    ]
    found += [
        f"it has the address {address.address}"
        for address in target.world.host.addresses.get(link.index, ())
        if f"{name} {address.address}" not in target.records.get("address", {}) and not address.address.startswith("fe80:")
    ]
    found += [f"the route {route.prefix} leads over it" for route in target.world.foreign_routes(link.index)]
    master = target.world.host.links.get(link.master)
    if master:
        found.append(f"it belongs to {master.name}")
    return ", ".join(found[:3])


def _ours(target: Target, space: Namespace, child: Link) -> bool:
    return target.is_ours(child, link_key(space.workload, child.name))


def _residents(target: Target, workload: str, removed: Set[str]) -> str:
    """Who else lives in a namespace of ours, in words; empty for nobody."""
    space = target.world.namespace(workload)
    if space is None:
        return ""
    if space.processes:
        return "a process runs in it"
    foreign = [link.name for link in space.links.values() if link.name != "lo" and not _ours(target, space, link)]
    return "the link " + ", ".join(foreign) + " is in it" if foreign else ""


def _record_changes(target: Target, derivation: Derivation) -> List[Change]:
    """The items themselves, which only the registry keeps."""
    changes = []
    for kind in ITEM_KINDS:
        keys = dict.fromkeys(target.scope[kind])
        if kind == "endpoint":
            keys.update(dict.fromkeys(derivation.endpoints))
        for key in keys:
            before, after = target.before(kind, key), target.items[kind].get(key)
            label = f"{kind}:{key}"
            if before is None or after is None:
                if before is not after:
                    reason = "declared" if after else "no longer declared"
                    changes.append(Change(kind, key, before, after, reason, label))
            else:
                changed = differences(before, after)
                if changed:
                    changes.append(Change(kind, key, *changed, "declared otherwise", label))
    return changes


# --- putting in order ----------------------------------------------------------------------------


def arrange(steps: Iterable[Step]) -> List[Change]:
    """Changes in an order that the kernel accepts: out before in, children before parents on the way out.

    A link that gets addresses comes up after them, so that the kernel announces them (kernel facts, 6).
    """
    out: List[Step] = []
    change: List[Step] = []
    make: List[Step] = []
    for step in steps:
        (out if step.after is None else make if step.before is None else change).append(step)
    parents = {step.key: str(step.after["parent"]) for step in make if step.kind == "link" and step.after and step.after.get("parent")}
    addressed = {link_key(step.after["netns"], step.after["link"]) for step in make if step.kind == "address" and step.after}
    ordered = sorted(out, key=_way_out)
    ordered += sorted(change, key=lambda step: (step.kind != "link", step.key))
    raised: List[Step] = []
    for step in make:
        if step.kind == "link" and step.key in addressed and step.after and step.after.get("up"):
            low = {"netns": step.after["netns"], "name": step.after["name"], "up": False}
            ordered.append(step._replace(after={**step.after, "up": False}))
            raised.append(Step("link", step.key, low, {**low, "up": True}, step.of, "after its addresses, so that they are announced"))
        else:
            ordered.append(step)
    first = len(out) + len(change)
    ordered[first:] = sorted(ordered[first:] + raised, key=lambda step: _way_in(step, parents))
    return [Change(step.kind, step.key, step.before, step.after, step.reason, step.of) for step in ordered]


_OUT = {"route": 0, "address": 1, "link": 2, "netns": 3}
_IN = {"netns": 0, "link": 1, "address": 2, "route": 4}


def _way_out(step: Step) -> Tuple[int, bool, bool, int]:
    """Routes, addresses, links (of the namespaces before the host's, sub-interfaces last, QinQ before its base)."""
    spec = step.before or {}
    return (_OUT[step.kind], spec["netns"] == HOST, spec.get("kind") == "vlan", -str(spec.get("name")).count("."))


def _way_in(step: Step, parents: Mapping[str, str]) -> Tuple[int, str, int, int]:
    """Namespaces, the host's links (bases first), then one namespace after the other, the host's routes last."""
    spec = step.after or {}
    netns = spec["netns"]
    if step.kind == "netns":
        return (0, "", 0, 0)
    stage = 3 if step.kind == "link" and step.before is not None else _IN[step.kind]
    if netns == HOST:
        return (3 if step.kind == "route" else 1, "", stage, _depth(step.key, parents))
    return (2, netns, stage, 0)


def _depth(name: str, parents: Mapping[str, str]) -> int:
    depth = 0
    while name in parents:
        name, depth = parents[name], depth + 1
    return depth


# --- the same comparison for undo, restore and drift ---------------------------------------------


def undo(changes: Iterable[Change], world: World, groups: Iterable[int]) -> List[Change]:
    """What is left to do until the kernel is as it was before ``changes``, however many of them were done.

    Only links in one of ``groups`` are removed: those that the transaction made.
    """
    first: Dict[Key, Change] = {}
    for change in changes:
        if change.kind in KERNEL_KINDS:
            first.setdefault((change.kind, change.key), change)
    marks = set(groups)
    steps = (_back(change, world, marks) for change in first.values())
    return arrange(step for step in steps if step is not None)


def _back(change: Change, world: World, marks: Set[int]) -> Optional[Step]:
    before, reason = change.before, "undo: " + change.reason
    spec = before if before is not None else change.after
    assert spec is not None
    now = world.find(change.kind, spec)
    if before is None:
        if now is None or (change.kind == "link" and now["group"] not in marks):
            return None
        return Step(change.kind, change.key, spec, None, change.of, reason)
    if now is None:
        # What was only changed and is gone meanwhile is not ours to make.
        return Step(change.kind, change.key, None, before, change.of, reason) if change.after is None else None
    changed = differences(now, before)
    if changed is None:
        return None
    identity = {option: before[option] for option in _IDENTITY[change.kind]}
    return Step(change.kind, change.key, {**identity, **changed[0]}, {**identity, **changed[1]}, change.of, reason)


def drift(records: Records, world: World) -> List[Change]:
    """What the kernel has otherwise than the registry says, as the changes that would mend it."""
    steps = []
    for kind in KERNEL_KINDS:
        for key, record in records.get(kind, {}).items():
            now = world.find(kind, record.spec)
            if now is None:
                steps.append(Step(kind, key, None, record.spec, record.of, "is gone"))
                continue
            changed = differences(now, record.spec)
            if changed:
                identity = {option: record.spec[option] for option in _IDENTITY[kind]}
                steps.append(
                    Step(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, record.of, "is otherwise")
                )
    return arrange(steps)


def unmet(changes: Iterable[Change], world: World) -> Iterator[Tuple[Change, Spec]]:
    """The changes that the kernel acknowledged and did not make, each with what it has instead."""
    last: Dict[Key, Tuple[Change, Optional[Spec]]] = {}
    for change in changes:
        if change.kind in KERNEL_KINDS:
            _, state = last.get((change.kind, change.key), (None, None))
            after = change.after
            last[change.kind, change.key] = (change, {**state, **after} if state and after else after)
    for change, state in last.values():
        now = world.find(change.kind, state or change.before or {})
        if state is None:
            if now is not None and not (change.kind == "link" and now["group"] != LINK_GROUP):
                yield change, {"exists": True}
        elif now is None:
            yield change, {"exists": False}
        else:
            changed = differences(now, state)
            if changed:
                yield change, changed[0]
