# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One finished transaction turned round, as a new one.

What it left behind has to be as it left it: where a later transaction changed that, or stands on it, the undo is
refused and names the later ones. The host that would result is held against the same rules as any other.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import controller, rules
from . import plan as planning
from .addressing import Addressing, subnet_of
from .derive import Key
from .fields import Problem, Refusal
from .model import Declaration, Item
from .names import digest
from .observe import observe
from .plan import Plan, State
from .registry import Registry, Transaction
from .target import ITEM_KINDS, Target
from .transact import Run, Scene, book_of, execute, need_of
from .world import HOST, HOST_KINDS, LINK_GROUP, Change, Need, Record, Records, Spec, World, differences, link_key


def undo(number: int, registry: Registry, run: Run, record_only: bool = False) -> Tuple[int, List[Change]]:
    """Turn a transaction round, under the lock: the number of the new one, and its changes.

    ``record_only`` is for a kernel that has nothing of it, after a boot: whoever asks brings the kernel after.
    Raises Refusal (nothing was touched) and what :func:`transact.execute` raises.
    """
    scene = survey(number, registry)
    run.notes += scene.plan.warnings
    done, _rest = execute(scene, registry.transaction(number).owner, run, registry, undoes=number)
    return done, scene.plan.changes


def survey(number: int, registry: Registry) -> Scene:
    """The plan that turns a transaction round. Raises Refusal."""
    transaction = registry.transaction(number)
    what = f"transaction {number}"
    if transaction.state in ("undone", "pending"):
        cure = "there is nothing left of it" if transaction.state == "undone" else "the next run, and underlay restore, undo it"
        raise Refusal([Problem(what, f"is {transaction.state}", cure)])
    records = registry.load()
    turn = _Turn(transaction, records)
    later = [found for found in registry.transactions() if found.number > number and found.state in ("applied", "unconfirmed")]
    turn.judge(later)
    if turn.problems:
        raise Refusal(turn.problems)
    need = turn.need()
    world = observe(need)
    world.controllers, world.managed_at, world.directed = controller.find()
    plan = turn.plan(world, registry.seed())
    if turn.problems:
        raise Refusal(turn.problems)
    return Scene(plan, world, need, turn.after)


class _Turn:
    """The records as they are, and as they were before the transaction."""

    def __init__(self, transaction: Transaction, records: Records) -> None:
        self.number = transaction.number
        self.records = records
        self.changes = [change for change in transaction.changes if change.of]
        self.touched = list(dict.fromkeys((change.kind, change.key) for change in self.changes))
        self.problems: List[Problem] = []
        self.left, before = _ends(self.changes)
        removed = {(change.kind, change.key) for change in self.changes if change.after is None}  # it knows all of these
        self.after: Records = {kind: dict(found) for kind, found in records.items()}
        for (kind, key), record in before.items():
            now = records.get(kind, {}).get(key)
            if record is not None and (kind, key) in removed:
                self.after.setdefault(kind, {})[key] = record
            elif record is not None and now is not None:
                self.after[kind][key] = record._replace(spec=_back(now.spec, record.spec))
            else:
                self.after.get(kind, {}).pop(key, None)
        self._names()

    def _names(self) -> None:
        """The lines in the hosts files follow from the endpoints, whoever wrote them last."""
        self.book = book_of(self.after)
        endpoints = [record.spec for found in (self.records, self.after) for record in found.get("endpoint", {}).values()]
        touched = {key for kind, key in self.touched if kind == "endpoint"}
        networks = {spec["network"] for spec in endpoints if f"{spec['network']}/{spec['name']}" in touched}
        readers = {spec["workload"] for spec in endpoints if spec["network"] in networks}
        hosts = self.after.setdefault("hosts", {})
        for workload in sorted(readers):
            text = self.book.text(workload)
            hosts.pop(workload, None)
            if text and not workload.startswith("pid:"):
                hosts[workload] = Record({"netns": workload, "digest": digest(text)}, f"workload:{workload}")
        self.readers = sorted(readers)

    # -- what speaks against it -------------------------------------------------------------------

    def judge(self, later: List[Transaction]) -> None:
        changed = {kind_key: self._otherwise(*kind_key) for kind_key in self.touched if kind_key[0] != "hosts"}
        mine = [where for where, otherwise in changed.items() if otherwise]
        if mine:
            self._refuse(f"{_listed(mine)} changed after it", later, set(mine))
        gone = {where for where in self.touched if self.after.get(where[0], {}).get(where[1]) is None}
        standing = [
            (kind, key)
            for kind, found in self.after.items()
            for key, record in found.items()
            if kind != "hosts" and any(where in gone for where in _stands_on(kind, record.spec))
        ]
        if standing:
            self._refuse(f"{_listed(standing)} {'stands' if len(standing) == 1 else 'stand'} on what it made", later, set(standing))

    def _otherwise(self, kind: str, key: str) -> bool:
        now, left = self.records.get(kind, {}).get(key), self.left[kind, key]
        if now is None or left is None:
            return now is not None or left is not None
        return any(now.spec.get(option) != value for option, value in left.items() if option != "sysctls") or any(
            now.spec.get("sysctls", {}).get(name) != value for name, value in left.get("sysctls", {}).items()
        )

    def _refuse(self, what: str, later: List[Transaction], objects: Set[Key]) -> None:
        by = [str(found.number) for found in reversed(later) if objects & {(change.kind, change.key) for change in found.changes}]
        names = f"transaction {', '.join(by)}" if by else "what came after it"
        self.problems.append(Problem(f"transaction {self.number}", what, f"undo {names} first" if by else f"undo {names} first, by a play"))

    # -- the plan ---------------------------------------------------------------------------------

    def need(self) -> Need:
        rest = need_of(self.changes)
        workloads = {record.spec["workload"] for record in self.after.get("endpoint", {}).values()} & set(self.readers)
        readers = tuple(reader for reader in self.readers if not reader.startswith("pid:"))
        return Need(tuple(sorted({*rest.workloads, *workloads})), everywhere=True, routes=True, readers=readers)

    def plan(self, world: World, seed: str) -> Plan:
        target = self._target(world, seed)
        rules.check(target)
        self._addresses(target)
        states = list(self._states(target, self._there(world, seed)))
        if not target.problems:
            steps = [self._recorded_too(step) for step in planning.towards(states, world)]
            told = {(step.kind, step.key) for step in steps}
            changes = planning.arrange(steps) + list(self._records(told))
        self.problems += target.problems
        return Plan([] if self.problems else changes, target.warnings, {}, {}, self.book)

    def _target(self, world: World, seed: str) -> Target:
        """The items that come back and those that go, as if they were declared."""
        declared = Declaration("undo", adopt=True)
        for kind, key in self.touched:
            if kind in ITEM_KINDS:
                record = self.after.get(kind, {}).get(key)
                spec = {**record.spec, **({"exact": True, "absent": False} if kind == "routes" else {})} if record else None
                declared.items.append(Item(kind, key, f"{kind} {key}", spec))
        return Target(declared, self.after, world, seed)

    def _there(self, world: World, seed: str) -> Target:
        """The links as they are recorded now, under the items that will be: who else sits on what goes?"""
        mixed = {kind: (self.records if kind in HOST_KINDS else self.after).get(kind, {}) for kind in {*self.records, *self.after}}
        return Target(Declaration("undo"), mixed, world, seed)

    def _addresses(self, target: Target) -> None:
        """A lease that comes back, and that somebody else has meanwhile."""
        addressing = Addressing(target)
        held: Dict[Tuple[str, str], List[str]] = {}
        for key, record in self.after.get("endpoint", {}).items():
            for address in record.spec["addresses"]:
                held.setdefault((record.spec["network"], address.partition("/")[0]), []).append(key)
        for (name, ip), holders in held.items():
            mine = [key for key in holders if ("endpoint", key) in self.touched]
            network = self.after.get("network", {}).get(name)
            if not mine or network is None:
                continue
            row = subnet_of(network.spec, ip)
            reserved = addressing.reserved(network.spec, row).get(ip) if row else "in no subnet of its network"
            other = next((key for key in holders if key not in mine), mine[1] if len(mine) > 1 else None)
            if other or reserved:
                target.refuse(f"endpoint {mine[0]}", f"{ip} is {f'held by {other}' if other else reserved}", "remove that first")

    def _states(self, target: Target, there: Target) -> Iterator[State]:
        reason = f"as before transaction {self.number}"
        for kind, key in dict.fromkeys([*self.touched, *(("hosts", reader) for reader in self.readers)]):
            if kind not in HOST_KINDS:
                continue
            now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
            self._ours(target, there, kind, key)
            if then is not None:
                yield State(kind, key, then.spec, then.of, reason, now.spec if now else None)
            elif now is not None:
                yield State(kind, key, None, now.of, reason, now.spec)

    def _ours(self, target: Target, there: Target, kind: str, key: str) -> None:
        """Nothing of others is changed, nor goes by cascade."""
        now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
        spec = (then or now or Record({}, "")).spec
        found = target.world.find(kind, spec) if kind == "link" and spec else None
        if found is not None and (found["group"] != LINK_GROUP or now is None):
            target.refuse(f"link {key}", "exists and does not bear our mark" if now else "exists and was not made by us", "remove it by hand")
        sitting = ""
        if now is not None and then is None:
            sitting = planning.sitting_on(there, spec) if kind == "link" else planning.residents(there, key) if kind == "netns" else ""
        if sitting:
            target.refuse(f"{kind} {key}", f"cannot go: {sitting}", "remove that first")

    def _recorded_too(self, step: planning.Step) -> planning.Step:
        now, then = self.records.get(step.kind, {}).get(step.key), self.after.get(step.kind, {}).get(step.key)
        if not (step.before and step.after and now and then):
            return step
        return planning.recorded_too(step, then.spec, now.spec)

    def _records(self, told: Set[Key]) -> Iterator[Change]:
        """What only the registry keeps, and what the kernel has already as it was."""
        reason = f"as before transaction {self.number}"
        hosts = [("hosts", reader) for reader in self.readers]
        for kind, key in dict.fromkeys([*self.touched, *hosts]):
            now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
            if (kind, key) in told or now == then:
                continue
            if now is None or then is None:
                of = (then or now or Record({}, "")).of
                yield Change(kind, key, now.spec if now else None, then.spec if then else None, reason, of)
            else:
                changed = differences(now.spec, then.spec) or ({}, {})
                identity = {option: value for option, value in then.spec.items() if option in ("netns", "name", "link", "address", "prefix")}
                yield Change(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, reason, then.of)


def _ends(changes: Iterable[Change]) -> Tuple[Dict[Key, Optional[Spec]], Dict[Key, Optional[Record]]]:
    """What a transaction left of each object, and what it found: whole, or what it changed of it."""
    left: Dict[Key, Optional[Spec]] = {}
    found: Dict[Key, Optional[Record]] = {}
    for change in changes:
        where = (change.kind, change.key)
        if where not in found:
            found[where] = None if change.before is None else Record(change.before, change.of)
        old = left.get(where)
        left[where] = {**old, **change.after} if old is not None and change.after is not None and change.before is not None else change.after
    return left, found


def _back(now: Spec, before: Spec) -> Spec:
    """A spec as it was before a change that names only what differed."""
    spec = {**now, **before}
    if "sysctls" in before:
        spec["sysctls"] = {**now.get("sysctls", {}), **before["sysctls"]}
    return spec


def _stands_on(kind: str, spec: Spec) -> Iterator[Key]:
    """The objects and items without which another makes no sense."""
    netns = str(spec.get("netns", spec.get("workload", HOST)))
    if netns != HOST:
        yield "netns", netns
    if kind == "endpoint":
        yield "network", spec["network"]
    elif kind in ("network", "vlan", "link") and spec.get("parent"):
        yield "link", spec["parent"]
        if kind != "link":
            yield "vlan", spec["parent"]
    elif kind == "address":
        yield "link", link_key(netns, spec["link"])
    elif kind == "route" and spec.get("dev"):
        yield "link", link_key(netns, spec["dev"])
    elif kind == "routes" and spec.get("network"):
        yield "network", spec["network"]


def _listed(objects: List[Key]) -> str:
    items = [where for where in objects if where[0] in ITEM_KINDS] or objects
    names = [f"{kind} {key}" for kind, key in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
