# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one road from a declaration to a host that is so.

    declaration -> observe kernel + registry -> plan -> apply -> re-observe -> record

Every module goes it, and the engine's other tools go parts of it.
"""

from __future__ import annotations

import glob
import json
import os
import random
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence

from . import plan as planning
from .apply import Refused, apply
from .fields import Problem, Refusal
from .model import Declaration
from .observe import observe
from .plan import Plan
from .registry import Registry, Transaction
from .world import LINK_GROUP, PRIVATE_GROUPS, Change, Need, Records, Spec, World

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
    items: Dict[str, Dict[str, Spec]]
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


def _plan(declared: Declaration, registry: Registry) -> "tuple[Plan, World, Need]":
    records = registry.load()
    need = needed(declared, records)
    world = observe(need)
    return planning.plan(declared, records, world, registry.seed()), world, need


def _rehearse(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    plan, world, _ = _plan(declared, registry)
    return Outcome(plan.changes, run.notes + plan.warnings, plan.items, world)


def _perform(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    plan, world, need = _plan(declared, registry)
    outcome = Outcome(plan.changes, run.notes + plan.warnings, plan.items, world)
    if plan.changes:
        group = random.choice(PRIVATE_GROUPS)
        outcome.number = registry.begin(run.who, declared.owner, plan.changes, group)
        outcome.world = _carry_out(plan.changes, world, need, group, registry, outcome.number)
        registry.finish(outcome.number, plan.changes)
        outcome.plan_file = _write_plan(run.state_dir, plan.changes)
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


def _carry_out(
    changes: Sequence[Change], world: World, need: Need, group: int, registry: Registry, number: int
) -> World:
    """Apply, and believe only what is seen afterwards."""
    try:
        apply(changes, world, group)
    except Refused as error:
        what = f"{error.change.kind} {error.change.key} ({error.change.reason}): {error.text}"
    else:
        after = observe(need)
        unmet = list(planning.unmet(changes, after))
        if not unmet:
            return after
        what = "; ".join(f"{change.kind} {change.key} was acknowledged by the kernel, which has {state}" for change, state in unmet[:5])
    _undo(changes, need, group, what)
    registry.forget(number)
    raise Undone(f"{what}. Everything else of this run was undone, the host is as it was")


def _undo(changes: Sequence[Change], need: Need, group: int, why: str) -> None:
    world = observe(need)
    back = planning.undo(changes, world, (group, LINK_GROUP))
    try:
        apply(back, world, group)
        left = list(planning.unmet(back, observe(need)))
    except Refused as error:
        raise Stuck(f"{why}. The undo failed too, at {error.change.kind} {error.change.key}: {error.text}") from None
    if left:
        raise Stuck(f"{why}. The undo left {left[0][0].kind} {left[0][0].key} otherwise: {left[0][1]}")


def recover(registry: Registry, run: Run) -> None:
    """Undo what a killed run left half done."""
    pending: Optional[Transaction] = registry.pending()
    if pending is None:
        return
    need = Need(tuple({change.after["netns"] for change in pending.changes if change.after and change.after.get("netns")}), True, True)
    _undo(pending.changes, need, pending.group, f"transaction {pending.number} of {pending.who} was interrupted")
    registry.forget(pending.number)
    run.notes.append(f"transaction {pending.number} of {pending.who} had been interrupted and was undone first")


def needed(declared: Declaration, records: Records) -> Need:
    """What an observation must cover for a declaration: its workloads, and those of the networks it touches."""
    endpoints = records.get("endpoint", {})
    networks = {item.key for item in declared.items if item.kind == "network"}
    removing = declared.purge or any(item.spec is None for item in declared.items)
    workloads: Dict[str, None] = {}
    for item in declared.items:
        if item.kind == "endpoint":
            if item.spec is not None:
                workloads[item.spec["workload"]] = None
            if item.key in endpoints:
                workloads[endpoints[item.key].spec["workload"]] = None
    for record in endpoints.values():
        if record.spec["network"] in networks or (declared.purge and record.spec["owner"] == declared.owner):
            workloads[record.spec["workload"]] = None
    unnumbered = any(item.kind == "network" and item.spec and not item.spec["subnets"] for item in declared.items)
    routed = any(item.kind == "routes" or (item.spec or {}).get("host_access") for item in declared.items) or any(
        record.spec["host_access"] for record in records.get("network", {}).values()
    )
    return Need(tuple(workloads), bool(networks) or removing, removing or unnumbered or routed)
