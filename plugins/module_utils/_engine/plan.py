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

from . import model, rules
from .derive import Derivation, Key, Wanted
from .fields import Refusal
from .model import Declaration
from .names import Book
from .target import ITEM_KINDS, Target
from .world import HOST, HOST_KINDS, KERNEL_KINDS, LINK_GROUP, Change, Link, Namespace, Record, Records, Spec, World, differences, link_key

_ROUTE_IDENTITY = ("netns", "prefix", "metric", "table", "protocol")
_IDENTITY = {"netns": ("netns",), "link": ("netns", "name"), "address": ("netns", "link", "address"), "route": _ROUTE_IDENTITY,
             "hosts": ("netns",)}  # fmt: skip

#: What a link keeps for life: the kernel accepts some of these in a change, and ignores them.
FIXED = ("kind", "parent", "vlan_id", "protocol")


class Question(NamedTuple):
    """What only the wire can tell before an endpoint, or the host itself, takes an address: whether somebody holds it."""

    endpoint: str  # its key; of the host's own link that of its network
    network: str
    netns: str  # from where it is asked: the endpoint's own link, or the parent whose MAC it has
    link: str
    candidates: List[str]  # the first one is in the plan, a later one takes its place where that is held


@dataclass
class Plan:
    """What a run will do. Check mode, diff, drift and the undo are this, not applied or turned round."""

    changes: List[Change] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    items: Dict[str, Dict[str, Spec]] = field(default_factory=dict)  # the declared ones, complete
    networks: Dict[str, Spec] = field(default_factory=dict)  # all of the host, once the plan is applied
    book: Book = field(default_factory=lambda: Book({}))  # the lines behind the digests of ``hosts`` changes
    questions: List[Question] = field(default_factory=list)

    def provisional(self) -> List[str]:
        """What has to be said of a plan that was not carried out."""
        return [
            f"{question.endpoint}: {question.candidates[0]} is provisional, only a real run asks the wire whether somebody holds it"
            for question in self.questions
        ]

    def opening(self) -> List[Change]:
        """The changes after which the wire can be asked: namespaces, links (down where addresses follow), and the host's own."""
        return self._split()[0]

    def rest(self) -> List[Change]:
        return self._split()[1]

    def _split(self) -> Tuple[List[Change], List[Change]]:
        own = {link_key(HOST, change.after["link"]) for change in self.changes if _is_of_access(change) and change.after}
        parts: Tuple[List[Change], List[Change]] = ([], [])
        for change in self.changes:
            raised = change.kind == "link" and change.key in own and change.before is not None and change.after is not None
            parts[not _opens(change) or raised].append(change)
        return parts


def _is_of_access(change: Change) -> bool:
    """Whether it is about an address of the host's own in a network, which the wire may be asked for too."""
    return change.kind == "address" and change.of.startswith("network:")


def _opens(change: Change) -> bool:
    if change.kind == "netns":
        return change.before is None
    if change.kind not in ("link", "address") or _is_of_access(change):
        return False
    here = (change.after if change.after is not None else change.before or {})["netns"] == HOST
    return here or (change.kind == "link" and (change.before is None or change.after is None))


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
    removals = list(_removals(target, derivation))
    steps = [*_steps(target, derivation.wanted, removals), *removals]
    if target.problems:
        raise Refusal(target.problems)
    ordered = arrange(steps)
    return Plan(
        ordered + _record_changes(target, derivation),
        target.warnings,
        {
            kind: {key: target.items[kind][key] for key, item in target.scope[kind].items() if item.spec is not None}
            for kind in ITEM_KINDS
        },
        target.items["network"],
        derivation.book,
        list(_questions(target, derivation, ordered)),
    )


def _questions(target: Target, derivation: Derivation, changes: Iterable[Change]) -> Iterator[Question]:
    """One for each address that an endpoint with ``probe`` is to get, or the host in a network with it."""
    for change in changes:
        kind, _colon, key = change.of.partition(":")
        if change.kind != "address" or change.before is not None or kind not in ("endpoint", "network"):
            continue
        spec, after = target.items[kind][key], change.after or {}
        if not spec["probe"]:
            continue
        ip, netns, link = after["address"].partition("/")[0], after["netns"], after["link"]
        network = target.items["network"][spec["network"]] if kind == "endpoint" else spec
        rest = derivation.addressing.next_best(spec, ip) if kind == "endpoint" else derivation.addressing.next_best_for_host(network, ip)
        if network["driver"] == "ipvlan":  # answers go to the MAC of the parent, which gives them to nobody without the address
            parent = target.parent(network)
            netns, link = HOST, parent.name if parent else ""
        yield Question(key, network["name"], netns, link, [ip, *rest])


# --- comparing -----------------------------------------------------------------------------------


class State(NamedTuple):
    """The state that an object shall have: a spec, or None for absent (``old`` then is what it was)."""

    kind: str
    key: str
    spec: Optional[Spec]
    of: str
    reason: str
    old: Optional[Spec] = None  # as recorded, or as the transaction to be undone made it


def towards(states: Iterable[State], world: World, leaving: Iterable[Spec] = ()) -> Iterator[Step]:
    """The steps from the world as it is to the states, in no order yet. ``leaving`` are addresses that go besides."""
    remade: Set[str] = set()
    states = list(states)
    parents = {state.key: str(state.spec["parent"]) for state in states if state.kind == "link" and state.spec and state.spec.get("parent")}
    states.sort(key=lambda state: (_IN[state.kind], _depth(state.key, parents)))
    gone = [state.old for state in states if state.kind == "address" and state.spec is None and state.old is not None]
    flushed = _flushed([*gone, *leaving], world)
    for state in states:
        kind, key, spec, of, reason, old = state
        if spec is None:
            if old is not None:
                yield Step(kind, key, old, None, of, reason)
            continue
        now = world.find(kind, spec)
        if now is not None and kind == "link" and _is_another(now, spec):
            remade.add(key)
            yield Step(kind, key, {**(old or now), "group": now["group"]}, None, of, "cannot be changed in place")
            now = None
        elif now is not None and kind in ("address", "route") and link_key(spec["netns"], _device(spec)) in remade:
            yield Step(kind, key, now, None, of, "goes with its link")
            now = None
        elif now is not None and kind == "route" and ":" not in spec["prefix"] and link_key(spec["netns"], _device(spec)) in flushed:
            yield Step(kind, key, now, None, of, "goes with the last address of its link")
            now = None
        if now is None:
            yield Step(kind, key, None, spec, of, reason)
            continue
        changed = differences(now, spec)
        if changed is not None:
            # A route is replaced whole: nothing of it can be changed by itself.
            whole = ({**now}, {**spec}) if kind == "route" else changed
            yield _update(kind, key, spec, whole, of, reason)


def _flushed(leaving: Iterable[Spec], world: World) -> Set[str]:
    """The links that lose their last IPv4 address, and with it all IPv4 routes over them (kernel facts, S8)."""
    going: Dict[str, Set[str]] = {}
    for spec in leaving:
        going.setdefault(link_key(spec["netns"], spec["link"]), set()).add(spec["address"])
    found = set()
    for key, gone in going.items():
        netns, _slash, name = key.rpartition("/")
        space = world.namespace(netns)
        link = space.names.get(name) if space else None
        there = {address.address for address in space.addresses.get(link.index, ()) if ":" not in address.address} if space and link else set()
        if there and there <= gone:
            found.add(key)
    return found


def _is_another(now: Spec, spec: Spec) -> bool:
    """Whether a link has to be made anew to become as wanted (passthru is for life too: kernel facts, 9)."""
    modes = {now.get("mode"), spec.get("mode", now.get("mode"))}
    return any(now[option] != spec[option] for option in FIXED if option in spec) or (len(modes) == 2 and "passthru" in modes)


def _update(kind: str, key: str, spec: Spec, changed: Tuple[Spec, Spec], of: str, reason: str) -> Step:
    identity = {option: spec[option] for option in _IDENTITY[kind]}
    return Step(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, of, reason)


def _steps(target: Target, wanted: Mapping[Key, Wanted], removals: Iterable[Step]) -> Iterator[Step]:
    """What is missing or otherwise among the wanted objects."""
    leaving = [step.before for step in removals if step.kind == "address" and step.before]
    states = []
    for (kind, key), want in wanted.items():
        record = target.record(kind, key)
        if kind == "link" and want.of:
            now = target.world.link(want.spec["netns"], want.spec["name"])
            if now is not None and not _is_own(target, key, want, now):
                continue
        states.append(State(kind, key, want.spec, want.of, want.reason, record.spec if record else None))
    told = set()
    for step in towards(states, target.world, leaving):
        want = wanted[step.kind, step.key]
        record = _record(target, step.kind, step.key, want)
        told.add((step.kind, step.key))
        yield recorded_too(step, want.spec, record.spec) if record and step.before and step.after else step
    for (kind, key), want in wanted.items():
        record = _record(target, kind, key, want)
        if record is None or ((kind, key) in told and record.of == want.of):
            continue
        if record.of != want.of or differences(record.spec, want.spec):
            # The kernel has it so already; the record follows.
            yield recorded_too(_update(kind, key, want.spec, ({}, {}), want.of, want.reason), want.spec, record.spec)


def _record(target: Target, kind: str, key: str, want: Wanted) -> Optional[Record]:
    """What the registry has of an object; of one that is there and to be adopted, or was recorded by another name, an empty record."""
    record = target.record(kind, key)
    taken = (target.declared.adopt and kind != "netns") or want.spec["netns"] in target.followed
    if record is None and want.of and taken and target.world.find(kind, want.spec):
        return Record({}, "")
    return record


def recorded_too(step: Step, spec: Spec, recorded: Spec) -> Step:
    """An update that also tells the registry what the kernel has as wanted already, the same on both sides."""
    old, new = step.before or {}, step.after or {}
    same = {option: value for option, value in spec.items() if option not in new and recorded.get(option) != value}
    before, after = {**same, **old}, {**same, **new}
    if "sysctls" in new:
        before["sysctls"] = {**spec.get("sysctls", {}), **old["sysctls"]}
        after["sysctls"] = {**spec.get("sysctls", {}), **new["sysctls"]}
    return step._replace(before=before, after=after)


def _device(spec: Spec) -> str:
    return spec.get("link") or spec.get("dev") or ""


def _is_own(target: Target, key: str, want: Wanted, now: Link) -> bool:
    """Whether a link that stands where ours shall be is ours, or may be taken over; else it is refused."""
    if now.group == LINK_GROUP and (target.record("link", key) or want.spec["netns"] in target.followed):
        return True
    if target.declared.adopt and now.kind == want.spec["kind"]:
        return True
    kind, _rest, item = want.of.partition(":")
    path = target.path(kind, item, "name") if kind in ITEM_KINDS else want.spec["name"]
    what = "does not bear our mark any more" if target.record("link", key) else "exists and was not made by us"
    target.refuse(path, f"{key} ({now.kind or 'a NIC'}) {what}", "set adopt: true to take it over, or give another name")
    return False


def _removals(target: Target, derivation: Derivation) -> Iterator[Step]:
    """The recorded objects that the items in scope no longer stand for, and shared ones that nobody needs."""
    wanted = derivation.wanted
    gone = {f"{kind}:{key}" for kind in ITEM_KINDS for key in target.scope[kind]}
    gone |= {f"endpoint:{key}" for key in derivation.endpoints}
    gone |= {f"workload:{workload}" for workload in derivation.workloads}
    gone |= {f"routes:{key}" for key in derivation.sets}
    for kind in HOST_KINDS:
        for key, record in target.records.get(kind, {}).items():
            if record.of not in gone or (kind, key) in wanted:
                continue
            if target.world.is_usurped(kind, record.spec):
                yield _forgotten(target, kind, key, record)
                continue
            sitting = sitting_on(target, record.spec) if kind == "link" else ""
            if sitting and record.of.startswith("network:"):
                target.warnings.append(f"{key} stays although nothing of ours needs it: {sitting}")
            elif sitting:
                item_kind, _rest, item = record.of.partition(":")
                target.refuse(target.path(item_kind, item, "state"), f"{key} cannot go: {sitting}", "remove that first")
            else:
                yield Step(kind, key, record.spec, None, record.of, f"{record.of.partition(':')[2]} needs it no more")
    if any(item.spec is None or target.before(kind, item.key) for kind in ITEM_KINDS for item in target.scope[kind].values()):
        yield from _unshared(target, wanted)


def _forgotten(target: Target, kind: str, key: str, record: Record) -> Step:
    """Of what somebody put in the place of ours only the record goes: see ``World.is_usurped``."""
    if kind == "link":
        target.warnings.append(f"{key} does not bear our mark any more, so it stays and is forgotten")
    return Step(kind, key, record.spec, None, record.of, "is not ours any more, and is only forgotten")


def _unshared(target: Target, wanted: Mapping[Key, Wanted]) -> Iterator[Step]:
    """Sub-interfaces and namespaces made on the fly go with their last user, unless somebody else is there."""
    workloads = {endpoint["workload"] for endpoint in target.items["endpoint"].values()}
    for kind, label, needed in (("link", "parent", _needed_links(target, wanted)), ("netns", "netns", workloads)):
        for key, record in target.records.get(kind, {}).items():
            if record.of != label or key in needed or (kind, key) in wanted:
                continue
            sitting = sitting_on(target, record.spec) if kind == "link" else residents(target, key)
            if target.world.is_usurped(kind, record.spec):
                yield _forgotten(target, kind, key, record)
            elif sitting:
                target.warnings.append(f"{key} stays although nothing of ours needs it: {sitting}")
            else:
                yield Step(kind, key, record.spec, None, record.of, "its last user is gone")


def _needed_links(target: Target, wanted: Mapping[Key, Wanted]) -> Set[str]:
    """The links that carry networks and declared sub-interfaces, and the bases of those."""
    found = {parent.name for parent in map(target.parent, target.items["network"].values()) if parent}
    found |= {model.link_names(key)[0] for key in target.items["vlan"]}
    for name in list(found):
        while name:
            want, record = wanted.get(("link", name)), target.record("link", name)
            name = str((want.spec if want else record.spec if record else {}).get("parent") or "")
            if name in found:
                break
            found.add(name)
    return found


def sitting_on(target: Target, spec: Spec) -> str:
    """What of others would go with a link of ours, or lose its way, in words; empty for nothing."""
    space = target.world.namespace(spec["netns"])
    link = space.names.get(spec["name"]) if space else None
    if space is None or link is None:
        return ""
    if space is not target.world.host:
        inside = [child.name for child in space.links.values() if child.parent == link.index and child.parent_ns is None]
        return f"{', '.join(inside)} in {space.workload} sits on it" if inside else ""
    found = [
        f"{child.name} in {where.workload or 'the host'} sits on it"
        for where, child in target.world.children.get(link.index, ())
        if not _ours(target, where, child)
    ]
    found += [f"{key} sits on it" for key, vlan in target.items["vlan"].items() if target.world.host.names.get(vlan["parent"]) is link]
    found += [
        f"it has the address {address.address}"
        for address in space.addresses.get(link.index, ())
        if f"{link.name} {address.address}" not in target.records.get("address", {}) and not address.address.startswith("fe80:")
    ]
    found += [f"the route {route.prefix} leads over it" for route in target.world.foreign_routes(link.index)]
    master = space.links.get(link.master)
    if master:
        found.append(f"it belongs to {master.name}")
    return ", ".join(found[:3])


def _ours(target: Target, space: Namespace, child: Link) -> bool:
    return target.is_ours(child, link_key(space.workload, child.name))


def residents(target: Target, workload: str) -> str:
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

    A link that gets addresses comes up after them, so that the kernel announces them (kernel facts, 6). A route
    that gives way to another to the same prefix goes last, so that there always is one.
    """
    out: List[Step] = []
    change: List[Step] = []
    make: List[Step] = []
    for step in steps:
        late = step.before is None or step.kind == "route"  # a route may lead over a link that is made first
        (out if step.after is None else make if late else change).append(step)
    relieved = {_whither(step.after): step.key for step in make if step.kind == "route" and step.after}
    outlive = [step for step in out if _is_relieved(step, relieved)]
    out = [step for step in out if not _is_relieved(step, relieved)]
    parents = {step.key: str(step.after["parent"]) for step in make if step.kind == "link" and step.after and step.after.get("parent")}
    addressed = {link_key(step.after["netns"], step.after["link"]) for step in make if step.kind == "address" and step.after}
    ordered = sorted(out, key=_way_out)
    ordered += sorted(change, key=lambda step: step.kind != "link")  # bases first: a larger MTU has to come from below
    raised: List[Step] = []
    for step in make:
        if step.kind == "link" and step.key in addressed and step.after and step.after.get("up"):
            low = {"netns": step.after["netns"], "name": step.after["name"], "up": False}
            ordered.append(step._replace(after={**step.after, "up": False}))
            raised.append(Step("link", step.key, low, {**low, "up": True}, step.of, "after its addresses, so that they are announced"))
        else:
            ordered.append(step)
    first = len(out) + len(change)
    ordered[first:] = sorted(ordered[first:] + raised, key=lambda step: _way_in(step, parents)) + outlive
    return [Change(step.kind, step.key, step.before, step.after, step.reason, step.of) for step in ordered]


def _whither(spec: Spec) -> Tuple[str, str, int]:
    return (spec["netns"], spec["prefix"], spec["table"])


def _is_relieved(step: Step, relieved: Mapping[Tuple[str, str, int], str]) -> bool:
    """Whether another route takes over; one that is made anew itself has to go first."""
    return step.kind == "route" and step.before is not None and relieved.get(_whither(step.before), step.key) != step.key


_OUT = {"route": 0, "address": 1, "link": 2, "hosts": 3, "netns": 4}
_IN = {"netns": 0, "link": 1, "address": 2, "route": 4, "hosts": 5}


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
    last: Dict[Key, Optional[Spec]] = {}
    for change in changes:
        if change.kind in HOST_KINDS:
            first.setdefault((change.kind, change.key), change)
            last[change.kind, change.key] = change.after
    marks = set(groups)
    states = []
    for (kind, key), change in first.items():
        made = change.before is None
        now = world.find(kind, (change.after if made else change.before) or {})
        if change.after is None and world.is_usurped(kind, change.before or {}):
            continue  # it was not touched
        if made and (now is None or (kind == "link" and now["group"] not in marks)):
            continue
        if now is None and change.after is not None and not (change.of and "type" in (change.before or {})):
            continue  # it was only changed and is gone meanwhile: not ours to make; but a route goes with an address that we removed
        netns = str((change.before or {}).get("netns", HOST))
        if now is None and kind in KERNEL_KINDS and world.namespace(netns) is None and ("netns", netns) not in first:
            continue  # its namespace was gone before us
        old = change.after if made else last[kind, key]
        states.append(State(kind, key, change.before, change.of, "undo: " + change.reason, old))
    return arrange(towards(states, world))


def drift(records: Records, world: World) -> List[Change]:
    """What the kernel has otherwise than the registry says, as the changes that would mend it."""
    states = [
        State(kind, key, record.spec, record.of, "is gone or otherwise", record.spec)
        for kind in HOST_KINDS
        for key, record in records.get(kind, {}).items()
    ]
    return arrange(towards(states, world))


def unmet(changes: Iterable[Change], world: World) -> Iterator[Tuple[Change, Spec]]:
    """The changes that the kernel acknowledged and did not make, each with what it has instead."""
    last: Dict[Key, Tuple[Change, Optional[Spec]]] = {}
    for change in changes:
        if change.kind in HOST_KINDS:
            _rest, state = last.get((change.kind, change.key), (None, None))
            after = change.after
            last[change.kind, change.key] = (change, {**state, **after} if state and after else after)
    for change, state in last.values():
        now = world.find(change.kind, state or change.before or {})
        if state is None:
            usurped = world.is_usurped(change.kind, change.before or {})
            if now is not None and not usurped and not (change.kind == "link" and now["group"] != LINK_GROUP):
                yield change, {"exists": True}
        elif now is None:
            yield change, {"exists": False}
        else:
            changed = differences(now, state)
            if changed:
                yield change, changed[0]
