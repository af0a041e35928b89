# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as one transaction: written down, applied, looked at again, recorded; or the host as it was before.

Whoever is killed on the way leaves a pending transaction behind, which the next run, or the next boot, undoes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Protocol, Sequence, Set, Tuple

from . import containers, hosts, namespaces, probe
from . import plan as planning
from .apply import Refused, apply
from .fields import Refusal
from .names import Book
from .observe import KernelError, observe
from .plan import Plan
from .registry import Registry, RegistryError, Transaction
from .world import HOST, LINK_GROUP, PRIVATE_GROUPS, Change, Need, Records, World, link_key

DEFAULT_STATE_DIR = "/var/lib/netops-underlay"
#: The owner of transactions that only bring back what the registry has already: see ``restore``.
RESTORE = "restore"


class Undone(Exception):
    """The kernel refused a change; everything that was done before it is undone."""


class Stuck(Exception):
    """A change was refused and the undo as well; the journal is kept and the next run tries again."""


class Guard(Protocol):
    """What undoes a transaction later, unless it is confirmed. ``guard`` has the one of a host."""

    timeout: float

    def arm(self, number: int) -> None:
        """Raises GuardError, and then nothing is changed."""

    def disarm(self, number: int) -> None:
        """The transaction did not come to pass."""


class GuardError(Exception):
    """There is no guard to be had; says why, and the cure."""


@dataclass
class Run:
    """How a declaration is carried out: where the registry is, who asks, and whether it is for real."""

    state_dir: str = DEFAULT_STATE_DIR
    check: bool = False
    lock_timeout: float = 30.0
    who: str = "a person"
    notes: List[str] = field(default_factory=list)
    guard: Optional[Guard] = None
    #: The addresses from which this host is managed, beside those that are found. None: where none is found, nothing may take their path.
    managed_from: Optional[Sequence[str]] = ()
    foretold: Sequence[Change] = ()  # in check mode, what earlier tasks of the same run would have changed


@dataclass
class Scene:
    """A plan and what it stands on."""

    plan: Plan
    world: World
    need: Need
    records: Records
    #: The plan anew, once it is known who on the wire holds which address (network -> address -> MAC).
    replan: Optional[Callable[[Dict[str, Dict[str, str]]], Plan]] = None


def execute(scene: Scene, owner: str, run: Run, registry: Registry, undoes: int = 0) -> Tuple[int, World]:
    """Carry out a plan whole, or not at all: its number, and the host after it. ``undoes`` is the one turned round.

    Where the wire has to be asked, the scene's plan becomes the one that was carried out. Raises Refusal where a
    stranger holds an address that nothing else can be taken for, Undone or Stuck, GuardError, and what the registry and the observation raise.
    """
    guard = run.guard
    group = random.choice(PRIVATE_GROUPS)
    number = registry.begin(run.who, owner, scene.plan.changes, group, guard.timeout if guard else 0)
    try:
        if guard:
            guard.arm(number)
        world = _carry_out(scene, group, run.notes, lambda: registry.amend(number, scene.plan.changes))
        _record(registry, number, scene, group, undoes)
    except (Undone, GuardError, Refusal):
        registry.forget(number)
        if guard:
            guard.disarm(number)
        raise
    return number, world


def _record(registry: Registry, number: int, scene: Scene, group: int, undoes: int) -> None:
    try:
        registry.finish(number, scene.plan.changes, undoes)
    except RegistryError as error:
        rollback(scene.plan.changes, scene.need, group, scene.records, str(error))
        raise Undone(f"{error}. Everything of this run was undone, the host is as it was") from None


def _carry_out(scene: Scene, group: int, notes: List[str], amend: Callable[[], None]) -> World:
    """Apply, and believe only what is seen afterwards."""
    try:
        if scene.plan.questions:
            apply(scene.plan.opening(), scene.world, group)
            _ask_the_wire(scene, amend)
            apply_all(scene.plan.rest(), observe(scene.need), group, scene.plan.book)
        else:
            apply_all(scene.plan.changes, scene.world, group, scene.plan.book)
    except Refused as error:
        what = f"{error.change.kind} {error.change.key} ({error.change.reason}): {error.text}"
    except probe.Deaf as error:
        what = str(error)
    except Refusal as error:
        rollback(scene.plan.changes, scene.need, group, scene.records, str(error))
        raise
    else:
        changes = scene.plan.changes
        try:
            after = observe(scene.need)
        except KernelError as error:
            hard = [str(error)]
        else:
            unmet = list(planning.unmet(changes, after))
            notes += [f"the hosts file of {change.key} could not be written" for change, _rest in unmet if change.kind == "hosts"]
            hard = [f"{change.kind} {change.key} was acknowledged by the kernel, which has {state}"
                    for change, state in unmet if change.kind != "hosts"]  # fmt: skip
        if not hard:
            notes += _announce(changes, after)
            return after
        what = "; ".join(hard[:5])
    what = _ended(scene) or what
    rollback(scene.plan.changes, scene.need, group, scene.records, what)
    raise Undone(f"{what}. Everything else of this run was undone, the host is as it was")


def _ended(scene: Scene) -> str:
    """The workloads that ended while the plan was carried out, which explains whatever went wrong then; empty for none."""
    touched = {(change.after or change.before or {}).get("netns") for change in scene.plan.changes}
    touched -= {change.key for change in scene.plan.changes if change.kind == "netns"}  # by us
    there = [workload for workload in scene.world.namespaces if workload in touched]
    try:
        now = observe(Need(tuple(there)))
    except KernelError:
        return ""
    ended = [workload for workload in there if now.namespace(workload) is None and (workload in now.gone or workload not in now.refusals)]
    return "; ".join(f"{now.refusals.get(it, f'{it} is not there any more')}, it ended while it was attached" for it in ended)


def _ask_the_wire(scene: Scene, amend: Callable[[], None]) -> None:
    """Ask until nobody holds an address of the plan, which is made anew around those that somebody does.

    Raises Refusal where there is no such plan, and Deaf.
    """
    held: Dict[str, Dict[str, str]] = {}
    free: Set[Tuple[str, str]] = set()
    opening = scene.plan.opening()
    while True:
        wanted: Dict[probe.Where, List[str]] = {}
        networks: Dict[Tuple[probe.Where, str], str] = {}
        for question in scene.plan.questions:
            if (question.network, question.candidates[0]) not in free:
                where = (question.netns, question.link)
                for ip in question.candidates:
                    if (question.network, ip) not in free:
                        wanted.setdefault(where, []).append(ip)
                        networks[where, ip] = question.network
        if not wanted:
            return
        for (where, ip), mac in probe.ask(wanted).items():
            if mac is None:
                free.add((networks[where, ip], ip))
            else:
                held.setdefault(networks[where, ip], {})[ip] = mac
        if any(question.candidates[0] in held.get(question.network, ()) for question in scene.plan.questions) and scene.replan:
            scene.plan = scene.replan(held)
            if scene.plan.opening() != opening:
                raise probe.Deaf("the links of this run hang on what others on the wire hold")
            amend()


def _announce(changes: Sequence[Change], world: World) -> List[str]:
    """Tell the neighbours of addresses that came on links that were up already, which the kernel keeps to itself."""
    new = {change.key for change in changes if change.kind == "link" and change.before is None}
    found: Dict[probe.Where, List[str]] = {}
    for change in changes:
        if change.kind == "address" and change.before is None and change.of.startswith(("endpoint:", "network:")):
            spec = change.after or {}
            link = world.link(spec["netns"], spec["link"])
            if link is not None and link.data.get("mode") not in ("l3", "l3s") and link_key(spec["netns"], link.name) not in new:
                found.setdefault((spec["netns"], link.name), []).append(spec["address"].partition("/")[0])
    notes = []
    for where, addresses in found.items():
        try:
            probe.announce(where, addresses)
        except probe.Deaf as error:
            notes.append(f"the neighbours were not told about {', '.join(addresses)}: {error}")
    return notes


def apply_all(changes: Sequence[Change], world: World, group: int, book: Book) -> None:
    """The kernel's objects, then the hosts files. Raises Refused."""
    apply(changes, world, group)
    pages = [change for change in changes if change.kind == "hosts"]
    containers.ask(change.key for change in pages)  # whoever was restarted meanwhile is another process
    for change in pages:
        # What cannot be written is seen, and told, when the host is observed again.
        with contextlib.suppress(hosts.Unwritable):
            hosts.write(change.key, book.text(change.key) if change.after else "")


def book_of(records: Records) -> Book:
    return Book({key: record.spec for key, record in records.get("endpoint", {}).items()})


def rollback(changes: Sequence[Change], need: Need, group: int, records: Records, why: str) -> None:
    """The host as it was before changes, however many of them were done. Raises Stuck."""
    try:
        world = observe(need)
        back = planning.undo(changes, world, (group, LINK_GROUP))
        apply_all(back, world, group, book_of(records))
        left = [change for change, _rest in planning.unmet(back, observe(need)) if change.kind != "hosts"]
    except Refused as error:
        raise Stuck(f"{why}. The undo failed too, at {error.change.kind} {error.change.key}: {error.text}") from None
    except KernelError as error:
        raise Stuck(f"{why}. The undo failed too: {error}") from None
    if left:
        raise Stuck(f"{why}. The undo did not get {left[0].kind} {left[0].key} back")


def recover(registry: Registry, run: Run) -> None:
    """Undo what a killed run left half done."""
    pending = registry.pending()
    if pending is None:
        return
    for change in pending.changes:
        if change.kind == "netns":
            namespaces.tidy(change.key)
    if pending.owner == RESTORE:
        sweep(pending, registry.load())
        registry.withdraw(pending.number)
        return
    why = f"transaction {pending.number} of {pending.who} was interrupted"
    rollback(pending.changes, need_of(pending.changes), pending.group, registry.load(), why)
    registry.forget(pending.number)
    run.notes.append(f"transaction {pending.number} of {pending.who} had been interrupted and was undone first")


def need_of(changes: Sequence[Change]) -> Need:
    """What an observation must cover to turn changes round."""
    touched = {(change.before or change.after or {}).get("netns", HOST) for change in changes} - {HOST}
    readers = {change.key for change in changes if change.kind == "hosts"}
    return Need(tuple(sorted(touched)), everywhere=True, routes=True, readers=tuple(sorted(readers)))


def sweep(pending: Transaction, records: Records) -> None:
    """Remove the links of a transaction that it made only half: those in the group that it had to itself. Raises Stuck."""
    made = [change._replace(before=None, after=change.after or change.before) for change in pending.changes if change.kind == "link"]
    world = observe(need_of(made))
    try:
        apply_all(planning.undo(made, world, (pending.group,)), world, pending.group, book_of(records))
    except Refused as error:
        raise Stuck(f"{error.change.key}, which a run that was killed made half, cannot be removed: {error.text}") from None


def write_plan(state_dir: str, changes: Sequence[Change]) -> Optional[str]:
    """The last plan in full, for those who want more than a result can carry; None where there is no room for it."""
    path = os.path.join(state_dir, "last-plan.json")
    new = path + ".new"
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
            json.dump([change._asdict() for change in changes], file)
        os.replace(new, path)
    except OSError:
        return None
    return path
