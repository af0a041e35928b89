# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undo a finished transaction, as a new one.

If a later transaction changed or depends on what it made, the undo is refused and names the later
ones. The resulting host is checked against the same rules as any other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple, cast

from ..core.change import (
    FILE_KINDS,
    HOST,
    HOST_KINDS,
    LINK_GROUPS,
    PROTOCOL,
    Change,
    Record,
    Records,
    differences,
    digest,
    items_of,
    link_key,
)
from ..core.errors import InputError, Problem
from ..core.lease_specs import Lease
from ..core.specs import Spec
from ..core.state import HostState, Need
from ..declare.declaration import Declaration, Item
from ..kernel import management
from ..kernel.observe import observe
from ..plan import compare, order, rules
from ..plan import plan as planning
from ..plan.compare import ObjectState
from ..plan.desired import ITEM_KINDS, DesiredState, desired_state
from ..plan.plan import Plan
from ..plan.pools import Pools, subnet_of
from ..plan.wanted import Key
from ..store import leases
from ..store.registry import Registry, Transaction
from .rollback import need_of, pages_of
from .transact import PlannedRun, RunOptions, execute


def undo(number: int, registry: Registry, run: RunOptions) -> Tuple[int, List[Change]]:
    """Take a transaction back, whole or not at all, under the lock: the number of the new one, and its changes.

    Raises InputError (nothing was touched) and what :func:`transact.execute` raises.
    """
    planned = survey(number, registry)
    run.notes += planned.plan.warnings
    done, _rest = execute(planned, registry.transaction(number).owner, run, registry, undoes=number)
    return done, planned.plan.changes


def survey(number: int, registry: Registry) -> PlannedRun:
    """The plan that undoes a transaction. Raises InputError."""
    transaction = registry.transaction(number)
    what = f"transaction {number}"
    if transaction.state in ("undone", "pending"):
        fix = (
            "nothing of it is left" if transaction.state == "undone" else "the next run, and underlay restore, undo it"
        )
        raise InputError([Problem(what, f"is {transaction.state}", fix)])
    records = registry.load()
    turn = _UndoPlan(transaction, records, leases.current(registry.directory))
    later = [
        found
        for found in registry.transactions()
        if found.number > number and found.state in ("applied", "unconfirmed")
    ]
    turn.judge(later)
    if turn.problems:
        raise InputError(turn.problems)
    need = turn.need(registry.directory)
    observed = observe(need)
    observed.controllers, observed.managed_at, observed.directed = management.find()
    plan = turn.plan(observed, registry.seed())
    if turn.problems:
        raise InputError(turn.problems)
    return PlannedRun(plan, observed, need, records)


def candidates(registry: Registry) -> List[Tuple[Transaction, str]]:
    """The transactions that are kept, the newest first, each with what speaks against its undo, "" for nothing.

    Only the registry is asked: the host itself may still refuse.
    """
    records, kept = registry.load(), registry.transactions()
    found = []
    for transaction in kept:
        why = f"is {transaction.state}" if transaction.state in ("undone", "pending") else ""
        if not why:
            turn = _UndoPlan(transaction, records, {})
            turn.judge([it for it in kept if it.number > transaction.number and it.state in ("applied", "unconfirmed")])
            why = "; ".join(problem.fix or problem.message for problem in turn.problems)
        found.append((transaction, why))
    return found


class Reverted:
    """The current records, and those before a transaction."""

    def __init__(self, transaction: Transaction, records: Records, held: Mapping[str, Lease]) -> None:
        self.number = transaction.number
        self.records = records
        self.held = held  # leases of DHCP servers
        self.done = [change for change in transaction.changes if change.of]
        self.touched = list(dict.fromkeys((change.kind, change.key) for change in self.done))
        self.left, before = _ends(self.done)
        removed = {(change.kind, change.key) for change in self.done if change.after is None}  # it knows all of these
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
        """The lines in the files of workloads follow from the endpoints, no matter who wrote them last."""
        self.pages = pages_of(self.after, self.held)
        endpoints = [
            record.spec for found in (self.records, self.after) for record in found.get("endpoint", {}).values()
        ]
        touched = {key for kind, key in self.touched if kind == "endpoint"}
        networks = {spec["network"] for spec in endpoints if f"{spec['network']}/{spec['name']}" in touched}
        networks |= {key for kind, key in self.touched if kind == "network"}
        readers = {spec["workload"] for spec in endpoints if spec["network"] in networks}
        for kind in FILE_KINDS:
            blocks = self.after.setdefault(kind, {})
            for workload in readers:
                text = self.pages.text(kind, workload)
                blocks.pop(workload, None)
                if text and not workload.startswith("pid:"):
                    blocks[workload] = Record({"netns": workload, "digest": digest(text)}, f"workload:{workload}")
        self.readers = sorted(readers)

    def _blocks(self) -> List[Key]:
        return [(kind, reader) for kind in FILE_KINDS for reader in self.readers]

    def changes(self, handled: Collection[Key] = ()) -> Iterator[Change]:
        """What changes in the registry, but for the objects of ``handled``."""
        reason = f"as before transaction {self.number}"
        for kind, key in dict.fromkeys([*self.touched, *self._blocks()]):
            now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
            if (kind, key) in handled or now == then:
                continue
            if now is None or then is None:
                of = (then or now or Record({}, "")).of
                yield Change(kind, key, now.spec if now else None, then.spec if then else None, reason, of)
            else:
                changed = differences(now.spec, then.spec) or ({}, {})
                known = ("netns", "name", "link", "address", "prefix", "direction")
                identity = cast(Spec, {option: value for option, value in then.spec.items() if option in known})
                yield Change(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, reason, then.of)


class _UndoPlan(Reverted):
    """The plan that undoes a transaction, and the problems that prevent it."""

    def __init__(self, transaction: Transaction, records: Records, held: Mapping[str, Lease]) -> None:
        super().__init__(transaction, records, held)
        self.problems: List[Problem] = []

    # -- what speaks against it -------------------------------------------------------------------

    def judge(self, later: List[Transaction]) -> None:
        changed = {kind_key: self._otherwise(*kind_key) for kind_key in self.touched if kind_key[0] not in FILE_KINDS}
        mine = [where for where, otherwise in changed.items() if otherwise]
        if mine:
            self._refuse(f"{_listed(mine)} changed after it", later, set(mine))
        gone = {where for where in self.touched if self.after.get(where[0], {}).get(where[1]) is None}
        standing = [
            (kind, key)
            for kind, found in self.after.items()
            for key, record in found.items()
            if kind not in FILE_KINDS and any(where in gone for where in _stands_on(kind, record.spec))
        ]
        if standing:
            self._refuse(
                f"{_listed(standing)} {'stands' if len(standing) == 1 else 'stand'} on what it made",
                later,
                set(standing),
            )

    def _otherwise(self, kind: str, key: str) -> bool:
        now, left = self.records.get(kind, {}).get(key), self.left[kind, key]
        if now is None or left is None:
            return now is not None or left is not None
        return any(now.spec.get(option) != value for option, value in left.items() if option != "sysctls") or any(
            now.spec.get("sysctls", {}).get(name) != value for name, value in left.get("sysctls", {}).items()
        )

    def _refuse(self, what: str, later: List[Transaction], objects: Set[Key]) -> None:
        by = [
            str(found.number)
            for found in reversed(later)
            if objects & {(change.kind, change.key) for change in found.changes}
        ]
        names = f"transaction {', '.join(by)}" if by else "what came after it"
        self.problems.append(
            Problem(
                f"transaction {self.number}", what, f"undo {names} first" if by else f"undo {names} first, by a play"
            )
        )

    # -- the plan ---------------------------------------------------------------------------------

    def need(self, state_dir: str) -> Need:
        rest = need_of(self.done, self.records, state_dir)
        workloads = {record.spec["workload"] for record in self.after.get("endpoint", {}).values()} & set(self.readers)
        readers = tuple(reader for reader in self.readers if not reader.startswith("pid:"))
        resolvers = tuple(reader for reader in readers if reader in self.after.get("resolver", {}))
        found = tuple(sorted({*rest.workloads, *workloads}))
        return replace(rest, workloads=found, readers=readers, resolvers=(*rest.resolvers, *resolvers))

    def plan(self, observed: HostState, seed: str) -> Plan:
        desired = self._target(observed, seed)
        rules.check(desired)
        self._addresses(desired)
        states = list(self._states(desired, self._there(observed, seed)))
        if not desired.problems:
            steps = [self._recorded_too(step) for step in compare.diff(states, observed)]
            handled = {(step.kind, step.key) for step in steps}
            changes = order.order_changes(steps) + list(self.changes(handled))
        self.problems += desired.problems
        return Plan([] if self.problems else changes, desired.warnings, pages=self.pages)

    def _target(self, observed: HostState, seed: str) -> DesiredState:
        """The items to restore and to remove, as a declaration."""
        declared = Declaration("undo", adopt=True)
        for kind, key in self.touched:
            if kind in ITEM_KINDS:
                record = self.after.get(kind, {}).get(key)
                request = {"exact": True, "absent": False} if kind == "routes" else {}
                spec = cast(Spec, {**record.spec, **request}) if record else None
                declared.items.append(Item(kind, key, f"{kind} {key}", spec))
        # What goes is still there, and ours: not a link or an address of others.
        known = {
            kind: {**(self.records.get(kind, {}) if kind in HOST_KINDS else {}), **self.after.get(kind, {})}
            for kind in {*self.records, *self.after}
        }
        return desired_state(declared, known, observed, seed)

    def _there(self, observed: HostState, seed: str) -> DesiredState:
        """The links as they are recorded now, under the items that will be: who else sits on what goes?"""
        mixed = {
            kind: (self.records if kind in HOST_KINDS else self.after).get(kind, {})
            for kind in {*self.records, *self.after}
        }
        return desired_state(Declaration("undo"), mixed, observed, seed)

    def _addresses(self, desired: DesiredState) -> None:
        """Refuse a lease that another endpoint has taken meanwhile."""
        pools, networks = Pools(desired), items_of(self.after)["network"]
        held: Dict[Tuple[str, str], List[str]] = {}
        for key, record in self.after.get("endpoint", {}).items():
            for address in record.spec["addresses"]:
                held.setdefault((record.spec["network"], address.partition("/")[0]), []).append(key)
        for (name, ip), holders in held.items():
            mine = [key for key in holders if ("endpoint", key) in self.touched]
            network = networks.get(name)
            if not mine or network is None:
                continue
            row = subnet_of(network, ip)
            kept = {**pools.reserved(network, row), **pools.allowed(network)} if row else {}
            reserved = kept.get(ip) if row else "in no subnet of its network"
            other = next((key for key in holders if key not in mine), mine[1] if len(mine) > 1 else None)
            if other or reserved:
                desired.refuse_at(
                    f"endpoint {mine[0]}", f"{ip} is {f'held by {other}' if other else reserved}", "remove that first"
                )

    def _states(self, desired: DesiredState, there: DesiredState) -> Iterator[ObjectState]:
        reason = f"as before transaction {self.number}"
        for kind, key in dict.fromkeys([*self.touched, *self._blocks()]):
            if kind not in HOST_KINDS:
                continue
            now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
            if now is not None and then is None and self._is_foreign(kind, now.spec, desired.observed):
                continue  # only the record goes
            self._ours(desired, there, kind, key)
            if then is not None:
                yield ObjectState(kind, key, then.spec, then.of, reason, now.spec if now else None)
            elif now is not None:
                yield ObjectState(kind, key, None, now.of, reason, now.spec)

    @staticmethod
    def _is_foreign(kind: str, spec: Spec, observed: HostState) -> bool:
        """Whether something of others is in the place of what the transaction made."""
        if observed.is_replaced(kind, spec):
            return True
        address = observed.address(spec) if kind == "address" else None
        return address is not None and observed.marks_addresses and address.protocol != PROTOCOL

    def _ours(self, desired: DesiredState, there: DesiredState, kind: str, key: str) -> None:
        """Refuse an undo that would change or remove foreign objects."""
        now, then = self.records.get(kind, {}).get(key), self.after.get(kind, {}).get(key)
        spec = (then or now or Record({}, "")).spec
        found = desired.observed.find(kind, spec) if kind == "link" and spec else None
        if found is not None and (found["group"] not in LINK_GROUPS or now is None):
            desired.refuse_at(
                f"link {key}",
                "exists and does not have our mark" if now else "exists and was not created by us",
                "remove it by hand",
            )
        sitting = ""
        if now is not None and then is None:
            sitting = (
                planning.dependants(there, spec)
                if kind == "link"
                else planning.occupants(there, key)
                if kind == "netns"
                else ""
            )
        if sitting:
            desired.refuse_at(f"{kind} {key}", f"cannot be removed: {sitting}", "remove that first")

    def _recorded_too(self, step: order.Step) -> order.Step:
        now, then = self.records.get(step.kind, {}).get(step.key), self.after.get(step.kind, {}).get(step.key)
        if not (step.before and step.after and now and then):
            return step
        return compare.with_recorded(step, then.spec, now.spec)


def _ends(changes: Iterable[Change]) -> Tuple[Dict[Key, Optional[Spec]], Dict[Key, Optional[Record]]]:
    """What a transaction left of each object, and what it found: whole, or what it changed of it."""
    left: Dict[Key, Optional[Spec]] = {}
    found: Dict[Key, Optional[Record]] = {}
    for change in changes:
        where = (change.kind, change.key)
        if where not in found:
            found[where] = None if change.before is None else Record(change.before, change.of)
        old = left.get(where)
        left[where] = (
            {**old, **change.after}
            if old is not None and change.after is not None and change.before is not None
            else change.after
        )
    return left, found


def _back(now: Spec, before: Spec) -> Spec:
    """A spec as it was before a change that names only what differed; what it is known by stays, whatever others had called it."""
    spec: Spec = {**now, **before}
    if "netns" in now:
        spec["netns"] = now["netns"]
    if "name" in now:
        spec["name"] = now["name"]
    if "sysctls" in before:
        spec["sysctls"] = {**now.get("sysctls", {}), **before["sysctls"]}
    return spec


def _stands_on(kind: str, spec: Spec) -> Iterator[Key]:
    """The objects and items that another depends on."""
    netns = str(spec.get("netns", spec.get("workload", HOST)))
    if netns != HOST:
        yield "netns", netns
    if kind == "endpoint":
        yield "network", spec["network"]
    elif kind in ("network", "vlan", "link") and spec.get("parent"):
        yield "link", spec["parent"]
        if kind != "link":
            yield "vlan", spec["parent"]
    elif kind in ("address", "rule", "rate"):
        yield "link", link_key(netns, spec["link"])
    elif kind == "route" and (device := spec.get("dev")):
        yield "link", link_key(netns, device)
    elif kind == "routes" and spec.get("network"):
        yield "network", spec["network"]


def _listed(objects: List[Key]) -> str:
    items = [where for where in objects if where[0] in ITEM_KINDS] or objects
    names = [f"{kind} {key}" for kind, key in items]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
