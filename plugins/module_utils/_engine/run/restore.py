# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the kernel from the registry, object by object: after a boot, and when something of ours was lost.

What can be restored is; what waits for something (a NIC that comes late, a container that is not running) waits, and
what the kernel refuses is reported. Nothing is ever removed, and nothing is made that is not recorded as ours.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field, replace
from typing import Callable, Collection, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..core import identity
from ..core.change import (
    FILE_KINDS,
    HOST,
    HOST_KINDS,
    LINK_GROUPS,
    PRIVATE_GROUPS,
    Change,
    Records,
)
from ..core.errors import KernelRefused, OtherMachine, OtherRegistry, RegistryBusy, RegistryError, UnderlayError
from ..core.fingerprint import fingerprint
from ..core.isolation import BARRED
from ..core.specs import Spec
from ..core.state import HostState, Need, need_of_records
from ..core.validate import Fault
from ..kernel import barrier, workload_namespaces
from ..kernel.observe import observe
from ..plan import compare, inverse, order
from ..plan.pages import expected
from ..plan.wanted import Key
from ..store import holds, hostlock, leases
from ..store.parsed import ParsedRegistry
from ..store.registry import Registry
from .guard import fire
from .restore_plan import LATER, STAYS, NotRestored, RestorePlan
from .rollback import RESTORE, apply_all, pages_of, recover
from .transact import RunOptions
from .undo import Reverted

#: Refusals of the kernel after which the rest is left for the next time.
_ROUNDS = 60


@dataclass
class Restored:
    """What was restored, and what was not."""

    done: List[Change] = field(default_factory=list)
    left: List[NotRestored] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    records: Records = field(default_factory=dict)
    observed: Optional[HostState] = None  # the host after the last change
    stamp: str = ""  # of the registry's files: see ``Registry.stamp``
    unchanged: bool = False  # all is as an earlier restore left it, and nothing else is said of it


class Whole(NamedTuple):
    """A host that had all that the registry wants, as plain values.

    Whether something is missing follows from the registry and the host alone, which is looked at each time: a host that is seen to be
    equal in every field, with a registry that is equal in every byte, lacks nothing either.
    """

    host: str  # its fingerprint
    held: holds.Holds
    barred: bool  # whether it needs the packet filter


@dataclass
class Earlier:
    """What a restore hands on to the next one of the same state directory."""

    parsed: ParsedRegistry = field(default_factory=ParsedRegistry)
    whole: Optional[Whole] = None  # with the registry as it was parsed; None where the look depends on its records


#: A look at a host without workloads, which no record has a part in.
_ALONE = Need(everywhere=True, routes=True)
#: What was seen, and its fingerprint.
Seen = Tuple[HostState, str]


class RestoreScope(NamedTuple):
    """What a restore may touch, by ``kind key``."""

    boot: bool = False  # set up the NICs that lie under what is ours, as the play did; later that is up to the person who took them down
    only: Optional[Collection[str]] = None  # nothing else
    later: Collection[str] = ()  # not this time
    fragile: Collection[str] = ()  # to be held if it is gone once more
    looking: Callable[[], None] = lambda: None  # called before each look at the kernel


def restore(
    run: RunOptions,
    aims: RestoreScope = RestoreScope(),  # noqa: B008  (never changed)
    earlier: Optional[Earlier] = None,
) -> Restored:
    """Restore the kernel from the registry, as far as possible. ``earlier`` is taken from, and updated.

    Raises RegistryBusy, OtherRegistry, OtherMachine, and RegistryError where the registry cannot be read; a disk that cannot be written keeps no
    network down.
    """
    earlier = earlier or Earlier()
    registry = Registry(run.state_dir, earlier.parsed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(workload_namespaces.held())
        journal = True
        try:
            stack.enter_context(hostlock.lock(registry, run.lock_timeout, run.who))
        except (RegistryBusy, OtherRegistry, OtherMachine):
            raise
        except RegistryError as error:
            journal = False
            run.notes.append(f"without the registry's lock: {error}")
        seen, whole = None, earlier.whole
        if journal and whole is not None and registry.is_as_parsed() and holds.load(run.state_dir) == whole.held:
            seen = _see(aims, _ALONE)
            if seen[1] == whole.host and not (whole.barred and _is_filter_lost()):
                return Restored(stamp=registry.stamp(), unchanged=True)
        records, faults = _settled(registry, run, journal)
        work = _RestoreRun(registry, run, aims, journal, records)
        found = work.carry_out(seen)
        found.left += _unusable(faults)
        is_whole = journal and not (found.left or run.notes or registry.armed())
        earlier.whole = Whole(work.seen, work.held, _is_barred(records)) if is_whole and work.seen else None
        found.stamp = registry.stamp()
    found.notes = run.notes
    return found


def _unusable(faults: Sequence[Fault]) -> List[NotRestored]:
    """The records that cannot be used: everything else is restored."""
    return [NotRestored(it.kind, it.key, "", f"its record cannot be used: {it.why}", STAYS) for it in faults]


def _settled(registry: Registry, run: RunOptions, writable: bool) -> Tuple[Records, List[Fault]]:
    """What was interrupted, or not confirmed in time, is taken back before anything is restored: what is left.

    Where that cannot be written down, it is not restored all the same. With it, the records that cannot be used.
    """
    if writable:
        try:
            recover(registry, run)
        except UnderlayError as error:
            run.notes.append(str(error))
    armed = registry.armed()
    if armed is None or armed.left or registry.transaction(armed.number).state != "unconfirmed":
        return registry.sound()
    try:
        if writable:
            fire(armed.number, registry, run)
            return registry.sound()
    except UnderlayError as error:
        run.notes.append(str(error))
    records, faults = registry.sound()
    held = leases.current(registry.directory)
    return Reverted(registry.transaction(armed.number), records, held).after, faults


class _RestoreRun:
    """One restore: rounds of observing and changing, until nothing more can be done."""

    def __init__(
        self, registry: Registry, run: RunOptions, aims: RestoreScope, journal: bool, records: Records
    ) -> None:
        self.registry = registry
        self.run = run
        self.aims = aims
        self.journal = journal
        leased = leases.current(run.state_dir)
        self.records = records = expected(records, leased)
        self.held = holds.load(run.state_dir)
        self.pages = pages_of(records, leased)
        self.refused: Dict[Key, str] = {}
        self.seen = ""  # the fingerprint of the host, once nothing is to do
        # A container that keeps its file from being opened delays one look, and then only those that try it again.
        now = {
            kind: {key: it for key, it in records.get(kind, {}).items() if f"{kind} {key}" not in aims.later}
            for kind in FILE_KINDS
        }
        self.need = _need({**records, **now}, run.state_dir)

    def carry_out(self, seen: Optional[Seen] = None) -> Restored:
        """``seen`` is a look that was taken already, of a host without workloads."""
        found = Restored(records=self.records)
        self._filter(found)
        observed = self._observe(seen)
        view = self._plan(observed)
        for _rest in range(_ROUNDS):
            changes = order.order_changes(view.steps())
            if not changes:
                break
            observed = self._change(changes, observed, found.done)
            view = self._plan(observed)
        else:
            self.seen = ""  # something is to do still
        found.left += view.left
        found.observed = observed
        return found

    def _plan(self, observed: HostState) -> RestorePlan:
        return RestorePlan(self.records, observed, self.aims.boot, self._touchable, self.refused)

    def _filter(self, found: Restored) -> None:
        """The packet filter, before any link that relies on it."""
        change = _lost_filter(self.records)
        if change is None:
            return
        why = self._touchable(change.kind, change.key, "")
        if why or barrier.install():
            found.left.append(NotRestored(change.kind, change.key, "", why or "the kernel refused it", STAYS))
        else:
            found.done.append(change)

    def _touchable(self, kind: str, key: str, of: str) -> str:
        """Why an object must not be touched now; empty if it may."""
        name = f"{kind} {key}"
        if name in self.aims.fragile and not holds.reason(self.held, kind, key, of):
            self.held[name] = "it was removed or changed three times in a minute"
            self._hold()
        why = holds.reason(self.held, kind, key, of)
        if not why and self.aims.only is not None and name not in self.aims.only:
            why = "lost since the boot, and repair is off"
        return why or (LATER if name in self.aims.later else "")

    def _hold(self) -> None:
        try:
            holds.save(self.run.state_dir, self.held)
        except RegistryError as error:
            self.run.notes.append(str(error))

    def _change(self, changes: List[Change], observed: HostState, done: List[Change]) -> HostState:
        group = random.choice(PRIVATE_GROUPS)
        number = self._begin(changes, group)
        try:
            apply_all(changes, observed, group, self.pages)
        except KernelRefused as error:
            self.refused[error.change.kind, error.change.key] = error.text
        after = self._observe()
        after = self._sweep(changes, after, group)
        self._withdraw(number)
        unapplied = {(change.kind, change.key): state for change, state in compare.unapplied(changes, after)}
        if not any((change.kind, change.key) in self.refused for change in changes):
            for where, state in unapplied.items():
                self.refused[where] = f"was acknowledged by the kernel, but {state}"
        listed: Set[Key] = set()
        for change in changes:
            where = (change.kind, change.key)
            if where not in unapplied and where not in listed:
                listed.add(where)
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

    def _withdraw(self, number: int) -> None:
        """Written off; where the disk is full by now, the next run sweeps up after this one and finds nothing."""
        try:
            if number:
                self.registry.withdraw(number)
        except RegistryError as error:
            self.journal = False
            self.run.notes.append(f"without a journal: {error}")

    def _sweep(self, changes: List[Change], observed: HostState, group: int) -> HostState:
        """Remove what was only partly created when something was refused."""
        made = [change for change in changes if change.kind == "link" and change.before is None]
        back = inverse.invert(made, observed, (group,)).changes
        if not back:
            return observed
        try:
            apply_all(back, observed, group, self.pages)
        except KernelRefused as error:
            self.refused[error.change.kind, error.change.key] = error.text
        return self._observe()

    def _observe(self, seen: Optional[Seen] = None) -> HostState:
        observed, self.seen = seen or _see(self.aims, self.need)
        if self.seen:
            identity.identify(observed, self.need.records)
        self.need = replace(self.need, again=True)
        return observed


def _see(aims: RestoreScope, need: Need) -> Seen:
    """The host, before records are laid over it where there is a fingerprint."""
    aims.looking()
    if replace(need, records={}, again=False) == _ALONE:
        observed = observe(_ALONE)
        with contextlib.suppress(ValueError):
            return observed, fingerprint(observed)
    return observe(need), ""


def drift(registry: Registry) -> Tuple[List[Change], List[NotRestored], Records]:
    """What a restore would change now, and what it could not; no lock is taken."""
    records, faults = registry.sound()
    held = holds.load(registry.directory)
    records = expected(records, leases.current(registry.directory))
    observed = observe(_need(records, registry.directory))
    view = RestorePlan(records, observed, False, lambda kind, key, of: holds.reason(held, kind, key, of), {})
    changes = order.order_changes(view.steps())
    lost = _lost_filter(records)
    if lost is not None and not holds.reason(held, lost.kind, lost.key, ""):
        changes.insert(0, lost)
    return changes, view.left + _unusable(faults), records


def check_clone(registry: Registry) -> None:
    """Raises RegistryError where something of the registry is in this kernel: then it is no other machine's."""
    registry.check_machine_differs()
    records, _faults = registry.sound()
    observed = observe(_need(records, registry.directory))
    for key, record in records.get("link", {}).items():
        found = observed.find("link", record.spec)
        if found is not None and found["group"] in LINK_GROUPS:
            raise RegistryError(f"{key} of this registry is on this host; run underlay rehost same")


def _lost_filter(records: Records) -> Optional[Change]:
    """The packet filter where a link of ours needs it, the kernel can have it, and it is not as it was made."""
    if not _is_barred(records) or not _is_filter_lost():
        return None
    return Change("filter", barrier.TABLE, None, {"netns": HOST}, "is gone or differs")


def _is_barred(records: Records) -> bool:
    links = (record.spec for record in records.get("link", {}).values())
    return any(spec["netns"] == HOST and spec.get("isolation") in BARRED for spec in links)


def _is_filter_lost() -> bool:
    return not barrier.is_whole() and not barrier.why_not()


def _need(records: Records, state_dir: str) -> Need:
    namespaces = {spec["netns"] for spec in _specs(records)} | set(records.get("netns", {}))
    workloads = sorted(namespace for namespace in namespaces - {HOST} if not namespace.startswith("pid:"))
    readers = sorted({key for kind in FILE_KINDS for key in records.get(kind, {}) if not key.startswith("pid:")})
    siblings = sorted(namespace for namespace in namespaces if namespace.startswith("pid:"))
    return need_of_records(records, state_dir, workloads, readers, siblings)


def _specs(records: Records) -> Iterator[Spec]:
    for kind in HOST_KINDS:
        for record in records.get(kind, {}).values():
            yield record.spec
