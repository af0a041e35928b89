# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one road from a declaration to a host that is so.

    declaration -> observe kernel + registry -> plan -> apply -> re-observe -> record

Every module goes it, and the engine's other tools go parts of it.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import random
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from . import hosts
from . import plan as planning
from .apply import Refused, apply
from .fields import Problem, Refusal
from .model import Declaration
from .names import Book
from .observe import observe
from .plan import Plan
from .registry import Registry, Transaction
from .world import HOST, LINK_GROUP, PRIVATE_GROUPS, Change, Need, Records, Spec, World

DEFAULT_STATE_DIR = "/var/lib/netops-underlay"
#: The service that restores everything at boot; installed and enabled by the role ``prepare``.
SERVICE = "netops-underlay.service"


class Undone(Exception):
    """The kernel refused a change; everything that was done before it is undone."""


class Stuck(Exception):
    """A change was refused and the undo as well; the journal is kept and the next run tries again."""


@dataclass
class Outcome:
    """What a run did, or in check mode what it would do."""

    changes: List[Change]
    warnings: List[str]
    items: Dict[str, Dict[str, Spec]]  # the declared ones, complete
    networks: Dict[str, Spec]  # all of the host
    world: World  # after the run
    number: Optional[int] = None  # of the transaction, where there was one
    plan_file: Optional[str] = None  # every change of it, on this host

    @property
    def changed(self) -> bool:
        return bool(self.changes)


@dataclass
class Run:
    """How a declaration is carried out: where the registry is, who asks, and whether it is for real."""

    state_dir: str = DEFAULT_STATE_DIR
    check: bool = False
    lock_timeout: float = 30.0
    who: str = "a person"
    notes: List[str] = field(default_factory=list)


def converge(declared: Declaration, run: Run) -> Outcome:
    """Make a declaration true, all of it or nothing.

    Raises Refusal (nothing was touched), Undone or Stuck, and what the registry and the observation raise.
    """
    if os.geteuid() != 0:
        raise Refusal([Problem("", "links are changed by root only", "run the task with become: true"), *declared.problems])
    registry = Registry(run.state_dir)
    if run.check:
        pending = registry.pending()
        if pending:
            run.notes.append(f"transaction {pending.number} was interrupted: a real run undoes it first")
        return _rehearse(declared, run, registry)
    with registry.lock(run.lock_timeout, run.who):
        recover(registry, run)
        return _perform(declared, run, registry)


@dataclass
class _Scene:
    """A plan and what it stands on."""

    plan: Plan
    world: World
    need: Need
    records: Records


def _survey(declared: Declaration, registry: Registry) -> _Scene:
    records = registry.load()
    need = needed(declared, records)
    world = observe(need)
    return _Scene(planning.plan(declared, records, world, registry.seed()), world, need, records)


def _rehearse(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    scene = _survey(declared, registry)
    return Outcome(scene.plan.changes, run.notes + scene.plan.warnings, scene.plan.items, scene.plan.networks, scene.world)


def _perform(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    scene = _survey(declared, registry)
    changes = scene.plan.changes
    outcome = Outcome(changes, run.notes + scene.plan.warnings, scene.plan.items, scene.plan.networks, scene.world)
    if changes:
        group = random.choice(PRIVATE_GROUPS)
        outcome.number = registry.begin(run.who, declared.owner, changes, group)
        try:
            outcome.world = _carry_out(scene, group, outcome.warnings)
        except Undone:
            registry.forget(outcome.number)
            raise
        registry.finish(outcome.number, changes)
        outcome.plan_file = _write_plan(run.state_dir, changes)
    return outcome


def _write_plan(state_dir: str, changes: Sequence[Change]) -> str:
    """The last plan in full, for those who want more than a result can carry."""
    path = os.path.join(state_dir, "last-plan.json")
    new = path + ".new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
        json.dump([change._asdict() for change in changes], file)
    os.replace(new, path)
    return path


def is_persistent() -> bool:
    """Whether a reboot keeps what is recorded: the service is enabled."""
    return bool(glob.glob(f"/etc/systemd/system/*.wants/{SERVICE}"))


def _carry_out(scene: _Scene, group: int, warnings: List[str]) -> World:
    """Apply, and believe only what is seen afterwards."""
    changes = scene.plan.changes
    try:
        _apply(changes, scene.world, group, scene.plan.book)
    except Refused as error:
        what = f"{error.change.kind} {error.change.key} ({error.change.reason}): {error.text}"
    else:
        after = observe(scene.need)
        unmet = list(planning.unmet(changes, after))
        warnings += [f"the hosts file of {change.key} could not be written" for change, _ in unmet if change.kind == "hosts"]
        hard = [f"{change.kind} {change.key} was acknowledged by the kernel, which has {state}"
                for change, state in unmet if change.kind != "hosts"]  # fmt: skip
        if not hard:
            return after
        what = "; ".join(hard[:5])
    _undo(changes, scene.need, group, scene.records, what)
    raise Undone(f"{what}. Everything else of this run was undone, the host is as it was")


def _apply(changes: Sequence[Change], world: World, group: int, book: Book) -> None:
    apply(changes, world, group)
    for change in changes:
        if change.kind == "hosts":
            # What cannot be written is seen, and told, when the host is observed again.
            with contextlib.suppress(hosts.Unwritable):
                hosts.write(change.key, book.text(change.key) if change.after else "")


def _undo(changes: Sequence[Change], need: Need, group: int, records: Records, why: str) -> None:
    world = observe(need)
    back = planning.undo(changes, world, (group, LINK_GROUP))
    book = Book({key: record.spec for key, record in records.get("endpoint", {}).items()})
    try:
        _apply(back, world, group, book)
        left = [change for change, _ in planning.unmet(back, observe(need)) if change.kind != "hosts"]
    except Refused as error:
        raise Stuck(f"{why}. The undo failed too, at {error.change.kind} {error.change.key}: {error.text}") from None
    if left:
        raise Stuck(f"{why}. The undo did not get {left[0].kind} {left[0].key} back")


def recover(registry: Registry, run: Run) -> None:
    """Undo what a killed run left half done."""
    pending: Optional[Transaction] = registry.pending()
    if pending is None:
        return
    touched = {(change.before or change.after or {}).get("netns", HOST) for change in pending.changes} - {HOST}
    readers = {change.key for change in pending.changes if change.kind == "hosts"}
    need = Need(tuple(touched), everywhere=True, routes=True, readers=tuple(readers))
    why = f"transaction {pending.number} of {pending.who} was interrupted"
    _undo(pending.changes, need, pending.group, registry.load(), why)
    registry.forget(pending.number)
    run.notes.append(f"transaction {pending.number} of {pending.who} had been interrupted and was undone first")


def needed(declared: Declaration, records: Records) -> Need:
    """What an observation must cover for a declaration: its workloads, and those of the networks it touches."""
    endpoints = {key: record.spec for key, record in records.get("endpoint", {}).items()}
    networks = {item.key for item in declared.items if item.kind == "network"}
    removing = declared.purge or any(item.spec is None for item in declared.items)
    touched = [spec for spec in endpoints.values() if spec["network"] in networks]
    touched += [spec for spec in endpoints.values() if declared.purge and spec["owner"] == declared.owner]
    for item in declared.items:
        if item.kind == "endpoint":
            touched += [spec for spec in (item.spec, endpoints.get(item.key)) if spec]
    joined = {spec["network"] for spec in touched}
    readers = touched + [spec for spec in endpoints.values() if spec["network"] in joined]
    unnumbered = any(item.kind == "network" and item.spec and not item.spec["subnets"] for item in declared.items)
    routed = any(item.kind == "routes" or (item.spec or {}).get("host_access") for item in declared.items) or any(
        record.spec["host_access"] for record in records.get("network", {}).values()
    )
    return Need(
        _each(spec["workload"] for spec in touched),
        everywhere=bool(networks) or removing,
        routes=removing or unnumbered or routed,
        readers=_each(spec["workload"] for spec in readers if not spec["workload"].startswith("pid:")),
    )


def _each(values: Iterable[str]) -> Tuple[str, ...]:
    """Each value once, in order."""
    return tuple(dict.fromkeys(values))
