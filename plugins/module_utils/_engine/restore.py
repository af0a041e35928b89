# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the registry to the kernel, object by object: after a boot, and when something of ours was lost.

What can be restored is; what waits for something (a NIC that comes late, a container that is not running) waits, and
what the kernel refuses is told. Nothing is ever removed, and nothing is made that is not recorded as ours.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from typing import Collection, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import holds, report, statedir, transact
from . import plan as planning
from .apply import Refused
from .derive import Key
from .fields import Refusal
from .guard import fire
from .observe import observe
from .plan import State, Step
from .registry import Busy, Registry, RegistryError
from .transact import RESTORE, Run, Stuck, apply_all, book_of, sweep
from .undo import undo
from .world import HOST, HOST_KINDS, LINK_GROUP, PRIVATE_GROUPS, Change, Link, Need, Record, Records, Spec, World, link_key

LATER = "the kernel refused it, and it is tried again later"
#: Refusals of the kernel after which the rest is left for the next time.
_ROUNDS = 60


WAITS, REFUSED, STAYS = "waits", "refused", "stays"


class Left(NamedTuple):
    """An object that is not as it is recorded."""

    kind: str
    key: str
    of: str
    why: str
    how: str  # WAITS for something that may come by itself, REFUSED by the kernel this time, or STAYS until a person acts


@dataclass
class Restored:
    """What was brought back, and what was not."""

    done: List[Change] = field(default_factory=list)
    left: List[Left] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    records: Records = field(default_factory=dict)


class Aims(NamedTuple):
    """What a restore is to touch, by ``kind key``."""

    boot: bool = False  # set up the NICs that lie under what is ours, as the play did; later that is for whoever took them down
    only: Optional[Collection[str]] = None  # nothing else
    later: Collection[str] = ()  # not this time
    fragile: Collection[str] = ()  # to be held if it is gone once more


def restore(run: Run, aims: Aims = Aims()) -> Restored:  # noqa: B008  (never changed)
    """Make the kernel what the registry says, as far as it can be.

    Raises Busy, and RegistryError where the registry cannot be read; a disk that cannot be written keeps nobody's
    network down.
    """
    registry = Registry(run.state_dir)
    with contextlib.ExitStack() as stack:
        journal = True
        try:
            stack.enter_context(registry.lock(run.lock_timeout, run.who))
        except Busy:
            raise
        except RegistryError as error:
            journal = False
            run.notes.append(f"without the registry's lock: {error}")
        if journal:
            _settle(registry, run)
        found = _Mending(registry, run, aims, journal).carry_out()
    found.notes = run.notes
    return found


def _settle(registry: Registry, run: Run) -> None:
    """What was interrupted, or not confirmed in time, is undone before anything is brought back."""
    try:
        _interrupted(registry, run)
        armed = registry.armed()
        if armed is not None and armed.boot != statedir.boot():
            # Nothing of it is in this kernel: the registry goes back, and the kernel follows it.
            undo(armed.number, registry, run, record_only=True)
            run.notes.append(f"transaction {armed.number} had not been confirmed before the reboot and was undone")
        elif armed is not None and not armed.left:
            fire(armed.number, registry, run)
    except (Refusal, Stuck, RegistryError) as error:
        run.notes.append(str(error))


def _interrupted(registry: Registry, run: Run) -> None:
    """Undone as a whole where that can be; else what it made goes, and the rest is brought back object by object."""
    pending = registry.pending()
    try:
        transact.recover(registry, run)
    except Stuck:
        if pending is None:
            raise
        sweep(pending, registry.load())
        records = registry.load()
        made = [change for change in pending.changes if change.before is None and change.key not in records.get(change.kind, {})]
        transact.rollback(made, transact.need_of(made), pending.group, records, f"transaction {pending.number} was interrupted")
        registry.forget(pending.number)
        run.notes.append(f"transaction {pending.number} of {pending.who} had been interrupted and was undone first")


class _Mending:
    """One restore: rounds of looking, changing and looking again, until nothing more can be done."""

    def __init__(self, registry: Registry, run: Run, aims: Aims, journal: bool) -> None:
        self.registry = registry
        self.run = run
        self.aims = aims
        self.journal = journal
        self.records = registry.load()
        self.held = holds.load(run.state_dir)
        self.book = book_of(self.records)
        self.refused: Dict[Key, str] = {}
        self.need = _need(self.records)

    def carry_out(self) -> Restored:
        found = Restored(records=self.records)
        world = observe(self.need)
        for _rest in range(_ROUNDS):
            view = Outlook(self.records, world, self.aims.boot, self._touchable, self.refused)
            changes = planning.arrange(view.steps())
            if not changes:
                break
            world = self._change(changes, world, found.done)
        view = Outlook(self.records, world, self.aims.boot, self._touchable, self.refused)
        found.left = view.left
        return found

    def _touchable(self, kind: str, key: str, of: str) -> str:
        """Why an object is not to be touched now; empty where it may be."""
        name = f"{kind} {key}"
        if name in self.aims.fragile and not holds.reason(self.held, kind, key, of):
            self.held[name] = "it was removed or changed three times in a minute"
            self._hold()
        why = holds.reason(self.held, kind, key, of)
        if not why and self.aims.only is not None and name not in self.aims.only:
            why = "lost since the boot, and healing is off"
        return why or (LATER if name in self.aims.later else "")

    def _hold(self) -> None:
        try:
            holds.save(self.run.state_dir, self.held)
        except RegistryError as error:
            self.run.notes.append(str(error))

    def _change(self, changes: List[Change], world: World, done: List[Change]) -> World:
        group = random.choice(PRIVATE_GROUPS)
        number = self._begin(changes, group)
        try:
            apply_all(changes, world, group, self.book)
        except Refused as error:
            self.refused[error.change.kind, error.change.key] = error.text
        after = observe(self.need)
        after = self._sweep(changes, after, group)
        if number:
            self.registry.withdraw(number)
        unmet = {(change.kind, change.key): state for change, state in planning.unmet(changes, after)}
        if not any((change.kind, change.key) in self.refused for change in changes):
            for where, state in unmet.items():
                self.refused[where] = f"was acknowledged by the kernel, which has {state}"
        told: Set[Key] = set()
        for change in changes:
            where = (change.kind, change.key)
            if where not in unmet and where not in told:
                told.add(where)
                done.append(change)
        return after

    def _begin(self, changes: List[Change], group: int) -> int:
        """Written down, so that a run that is killed leaves no half-made link unknown; without, where the disk is full."""
        if self.journal:
            try:
                return self.registry.begin(self.run.who, RESTORE, changes, group)
            except RegistryError as error:
                self.journal = False
                self.run.notes.append(f"without a journal: {error}")
        return 0

    def _sweep(self, changes: List[Change], world: World, group: int) -> World:
        """Remove what was made only half when something was refused."""
        made = [change for change in changes if change.kind == "link" and change.before is None]
        back = planning.undo(made, world, (group,))
        if not back:
            return world
        try:
            apply_all(back, world, group, self.book)
        except Refused as error:
            self.refused[error.change.kind, error.change.key] = error.text
        return observe(self.need)


def drift(registry: Registry) -> Tuple[List[Change], List[Left], Records]:
    """What a restore would change now, and what it would have to leave; nobody is waited for."""
    records = registry.load()
    held = holds.load(registry.directory)
    world = observe(_need(records))
    view = Outlook(records, world, False, lambda kind, key, of: holds.reason(held, kind, key, of), {})
    return planning.arrange(view.steps()), view.left, records


def _need(records: Records) -> Need:
    spaces = {spec["netns"] for spec in _specs(records)} | set(records.get("netns", {}))
    workloads = tuple(sorted(space for space in spaces - {HOST} if not space.startswith("pid:")))
    readers = tuple(sorted(key for key in records.get("hosts", {}) if not key.startswith("pid:")))
    return Need(workloads, everywhere=True, routes=True, readers=readers)


def _specs(records: Records) -> Iterator[Spec]:
    for kind in HOST_KINDS:
        for record in records.get(kind, {}).values():
            yield record.spec


class Outlook:
    """Which recorded objects can be had in a world, and why the others cannot."""

    def __init__(
        self, records: Records, world: World, boot: bool, touchable: holds.Judge, refused: Dict[Key, str]
    ) -> None:
        self.records = records
        self.world = world
        self.boot = boot
        self.left: List[Left] = []
        self._touchable = touchable
        self._refused = refused
        self._states: List[State] = []
        self._lacking: Dict[Key, str] = {}  # what cannot be had -> why
        self._raised: Dict[str, State] = {}
        self._never_raise = self._kept_down()
        for kind in ("netns", "link", "address", "route", "hosts"):
            found = records.get(kind, {})
            # A parent stands before what sits on it.
            for key in sorted(found, key=lambda key: _depth(key, records)) if kind == "link" else found:
                self._judge(kind, key, found[key])

    def steps(self) -> List[Step]:
        return list(planning.towards([*self._raised.values(), *self._states], self.world))

    def _judge(self, kind: str, key: str, record: Record) -> None:
        spec = record.spec
        why, how = self._missing(kind, key, spec)
        now = None if why else self.world.find(kind, spec)
        whole = now is not None and not list(planning.towards([State(kind, key, spec, record.of, "")], self.world))
        if not why and not whole:
            why, how = self._refused.get((kind, key), ""), REFUSED
        if not why and not whole:
            why = self._touchable(kind, key, record.of)
            how = REFUSED if why == LATER else STAYS
        if not why and kind == "link":
            why, how = self._why_not_link(key, spec, now), STAYS
        if why:
            if now is None:
                self._lacking[kind, key] = why
            self.left.append(Left(kind, key, record.of, why, how))
        elif not whole:
            self._states.append(State(kind, key, spec, record.of, "is gone" if now is None else "is otherwise", spec))

    # -- what an object stands on -----------------------------------------------------------------

    def _missing(self, kind: str, key: str, spec: Spec) -> Tuple[str, str]:
        """What an object has to wait for, in words, and whether that may come by itself."""
        netns = spec["netns"]
        why = self._space_missing(netns) if netns != HOST and kind != "netns" else ""
        if why:
            return why, STAYS if netns.startswith("pid:") else WAITS
        if kind == "hosts":
            return self.world.unwritable.get(key, ""), WAITS
        if kind == "link" and spec.get("parent"):
            return self._parent_missing(key, spec), WAITS
        name = spec.get("link") or spec.get("dev")
        only_on_ours = kind == "address" or (kind == "route" and netns != HOST)
        if name and only_on_ours and self.world.is_usurped("address", {"netns": netns, "link": name}):
            return f"{link_key(netns, name)} does not bear our mark any more", STAYS
        if kind in ("address", "route") and name:
            where = ("link", link_key(netns, name))
            space = self.world.namespace(netns)
            there = space is not None and name in space.names
            if where in self._lacking or (not there and where[1] not in self.records.get("link", {})):
                return f"waits for {where[1]}", WAITS
        return "", STAYS

    def _space_missing(self, workload: str) -> str:
        if workload.startswith("pid:"):
            return "a process is known only as long as it lives: run the play again for its next one"
        if ("netns", workload) in self._lacking:
            return f"waits for {workload}"
        if workload in self.world.refusals:
            return self.world.refusals[workload]
        if self.world.namespace(workload) is None and workload not in self.records.get("netns", {}):
            return f"waits for {workload}, which is not there"
        return ""

    def _parent_missing(self, key: str, spec: Spec) -> str:
        name = spec["parent"]
        if ("link", name) in self._lacking:
            return f"waits for {name}"
        base = self.world.host.names.get(name)
        if name in self.records.get("link", {}):
            return ""
        if base is None:
            return f"waits for {name}, which is not there"
        if base.up or not spec.get("up"):
            return ""
        if self.boot and name not in self._never_raise:
            raised = {"netns": HOST, "name": base.name, "up": True}
            self._raised[base.name] = State("link", base.name, raised, "", f"{base.name} is down")
            return ""
        return f"waits for {name}, which is down" if spec["kind"] == "vlan" and not spec.get("loose_binding") else ""

    def _kept_down(self) -> Set[str]:
        """The bases that no item of ours may set up."""
        found = {
            record.spec["parent"]
            for kind in ("network", "vlan")
            for record in self.records.get(kind, {}).values()
            if not record.spec.get("bring_up_parent", True) and record.spec["parent"]
        }
        links = self.records.get("link", {})
        return found | {str(links[name].spec.get("parent")) for name in found if name in links}

    # -- whose a link is --------------------------------------------------------------------------

    def _why_not_link(self, key: str, spec: Spec, now: Optional[Spec]) -> str:
        if now is None:
            return self._switches_others(spec) if spec["kind"] == "ipvlan" else ""
        other = [option for option in planning.FIXED if option in spec and now.get(option) != spec[option]]
        if now["group"] != LINK_GROUP:
            if other:
                self._lacking["link", key] = f"{key} is not ours"
            return f"exists and does not bear our mark: it is {'not touched' if other else 'used as it is'}"
        if other:
            self._lacking["link", key] = f"{key} is another link"
            return f"has {other[0]} {now.get(other[0])} for {spec[other[0]]}, and no kernel changes that in place: remove it"
        return ""

    def _switches_others(self, spec: Spec) -> str:
        """The kernel gives all ipvlans of a parent the mode of the last: not to those of others."""
        parent: Optional[Link] = self.world.host.names.get(spec["parent"])
        for space, child in self.world.children.get(parent.index, ()) if parent else ():
            same = (child.data.get("mode"), child.data.get("flag")) == (spec["mode"], spec.get("flag"))
            ours = child.group == LINK_GROUP and link_key(space.workload, child.name) in self.records.get("link", {})
            if child.kind == "ipvlan" and not same and not ours:
                return f"the kernel would switch {child.name} in {space.workload or 'the host'}, which is not ours, to {spec['mode']}"
        return ""


def _depth(key: str, records: Records) -> int:
    depth, links = 0, records.get("link", {})
    while key in links and links[key].spec.get("parent") and depth < 8:
        key, depth = links[key].spec["parent"], depth + 1
    return depth


def words(change: Change) -> str:
    """A change that mends, as what is wrong now."""
    if change.before is None:
        return f"{change.kind} {change.key} is gone"
    after = change.after or {}
    told = [
        f"{option} is {report.word(value)} for {report.word(after.get(option))}"
        for option, value in change.before.items()
        if value != after.get(option)
    ]
    return f"{change.kind} {change.key}: {', '.join(told)}"
