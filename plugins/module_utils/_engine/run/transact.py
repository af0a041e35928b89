# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as one transaction: journalled, applied, verified and recorded, or rolled back.

A run that is killed on the way leaves a pending transaction behind, which the next run, or the next boot, undoes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Set, Tuple

from ..core import errors, identity
from ..core.change import PRIVATE_GROUPS, Change, Records, link_key
from ..core.errors import GuardError, InputError, KernelError, KernelRefused, RegistryError, RolledBack
from ..core.specs import Spec
from ..core.state import HostState, Need
from ..kernel.apply import apply
from ..kernel.observe import observe
from ..plan import compare
from ..plan.inverse import Undoing
from ..plan.plan import AddressProbe, Plan
from ..plan.wanted import Key
from ..store import statedir
from ..store.registry import Registry
from ..wire import conflicts
from .rollback import apply_all, failure, need_after, release, rollback

DEFAULT_STATE_DIR = "/var/lib/netops-underlay"


class Guard(Protocol):
    """Undoes a transaction later, unless it is confirmed. ``guard`` implements it for a host."""

    timeout: float

    def arm(self, number: int) -> None:
        """Raises GuardError, and then nothing is changed."""

    def disarm(self, number: int) -> None:
        """The transaction was rolled back."""


@dataclass
class RunOptions:
    """Options of a run: the registry, who started it, and whether it is check mode."""

    state_dir: str = DEFAULT_STATE_DIR
    check: bool = False
    lock_timeout: float = 30.0
    who: str = "a person"
    notes: List[str] = field(default_factory=list)
    guard: Optional[Guard] = None
    #: The addresses from which this host is managed, beside those that are found. None: where none is found, nothing may take their path.
    managed_from: Optional[Sequence[str]] = ()
    dhcp_timeout: float = 30.0  # seconds for all leases together; 0 does not wait
    earlier: Sequence[Change] = ()  # in check mode, what earlier tasks of the same run would have changed


@dataclass
class PlannedRun:
    """A plan and the state it is based on."""

    plan: Plan
    observed: HostState
    need: Need
    records: Records
    #: The plan anew, once it is known who on the wire holds which address (network -> address -> MAC).
    replan: Optional[Callable[[Dict[str, Dict[str, str]]], Plan]] = None
    nics: Mapping[str, Spec] = field(default_factory=dict)  # as recorded before planning, which may learn another
    seen: str = ""  # the fingerprint of the host


def execute(
    planned: PlannedRun, owner: str, run: RunOptions, registry: Registry, undoes: int = 0
) -> Tuple[int, HostState]:
    """Carry out a plan completely or not at all; returns its number, and the host state after it. ``undoes`` is the transaction that it
    undoes.

    Where the wire has to be asked, ``planned.plan`` becomes the one that was carried out. Raises InputError where a
    stranger holds an address that nothing else can be taken for, RolledBack, RollbackFailed, GuardError, and what the
    registry and the observation raise.
    """
    guard = run.guard
    group = random.choice(PRIVATE_GROUPS)
    number = registry.begin(run.who, owner, planned.plan.changes, group, guard.timeout if guard else 0)
    armed = False
    try:
        if guard:
            guard.arm(number)
            armed = True
        observed = _carry_out(planned, group, lambda: registry.amend(number, planned.plan.changes))
        nics = identity.nics(planned.need.records, planned.plan.changes, observed, planned.plan.asked)
        processes = identity.processes(planned.need.records, planned.plan.changes, observed)
        registry.finish(number, planned.plan.changes, undoes, {"nic": nics, "process": processes})
    except (
        InputError,
        GuardError,
        KernelRefused,
        KernelError,
        errors.CannotProbe,
        RegistryError,
        _NotApplied,
    ) as error:
        if not isinstance(error, GuardError):
            _take_back(planned, group, error)
        with contextlib.suppress(RegistryError):  # it stays pending then, and the next run finds nothing to undo
            registry.forget(number)
        if guard and armed:
            guard.disarm(number)
        if isinstance(error, (InputError, GuardError)):
            raise
        what = _ended(planned) or _in_words(error)
        raise RolledBack(f"{what}. The run was rolled back, and the host is as it was") from None
    run.notes += _unwritten(planned.plan.changes, observed)
    run.notes += _announce(planned.plan.changes, observed)
    return number, observed


class _NotApplied(Exception):
    """The kernel acknowledged changes but did not make them."""


def _carry_out(planned: PlannedRun, group: int, amend: Callable[[], None]) -> HostState:
    """Apply the plan and verify the result. Raises what :func:`execute` rolls back on."""
    if planned.plan.probes:
        release(planned.plan.changes, planned.observed)
        apply(planned.plan.opening(), planned.observed, group)
        _probe_addresses(planned, amend)
        apply_all(planned.plan.rest(), observe(planned.need), group, planned.plan.pages)
    else:
        apply_all(planned.plan.changes, planned.observed, group, planned.plan.pages)
    after = observe(replace(need_after(planned.need, planned.plan.changes), again=True))
    unapplied = [
        (change, state) for change, state in compare.unapplied(planned.plan.changes, after) if not _is_a_note(change)
    ]
    if unapplied:
        raise _NotApplied("; ".join(
            f"{change.kind} {change.key} was acknowledged by the kernel, but {state}" for change, state in unapplied[:5]
        ))  # fmt: skip
    return after


def _is_a_note(change: Change) -> bool:
    """Whether a run goes on where a change was not made: a file that keeps our lines, or names that no option asked for."""
    return change.kind == "hosts" or (change.kind == "resolver" and change.after is None)


def _take_back(planned: PlannedRun, group: int, error: Exception) -> None:
    """Roll back the run. Raises RollbackFailed; the journal is then kept."""
    exists: Set[Key] = set()
    if isinstance(error, KernelRefused):
        exists = {(change.kind, change.key) for change in error.existing}
    how = Undoing(group, skip=exists, before=planned.observed)
    kept = rollback(planned.plan.changes, planned.need, group, planned.records, how)
    failed = failure(_in_words(error), kept)
    if failed:
        raise failed from None


def _in_words(error: Exception) -> str:
    if isinstance(error, KernelRefused):
        return f"{error.change.kind} {error.change.key} ({error.change.reason}): {error.text}"
    return str(error)


def _unwritten(changes: Sequence[Change], observed: HostState) -> List[str]:
    return [
        f"the {'hosts file' if change.kind == 'hosts' else 'resolv.conf'} of {change.key} could not be written"
        for change, _state in compare.unapplied((change for change in changes if _is_a_note(change)), observed)
    ]


def _ended(planned: PlannedRun) -> str:
    """The workloads that ended during the run, which explains its failure; empty for none."""
    touched = {(change.after or change.before or {}).get("netns") for change in planned.plan.changes}
    touched -= {change.key for change in planned.plan.changes if change.kind == "netns"}  # by us
    there = [workload for workload in planned.observed.namespaces if workload in touched]
    try:
        now = observe(Need(tuple(there)))
    except KernelError:
        return ""
    ended = [
        workload
        for workload in there
        if now.namespace(workload) is None and (workload in now.gone or workload not in now.refusals)
    ]
    return "; ".join(
        f"{now.refusals.get(it, f'{it} no longer exists')}, it ended while it was attached" for it in ended
    )


def _probe_addresses(planned: PlannedRun, amend: Callable[[], None]) -> None:
    """Probe until no address of the plan is held by others, planning again around those that are.

    Raises InputError where there is no such plan, and CannotProbe.
    """
    held: Dict[str, Dict[str, str]] = {}
    free: Set[Tuple[str, str]] = set()
    opening = planned.plan.opening()
    while True:
        wanted, networks = _unanswered(planned.plan.probes, free)
        if not wanted:
            return
        for (where, ip), mac in conflicts.ask(wanted).items():
            if mac is None:
                free.add((networks[where, ip], ip))
            else:
                held.setdefault(networks[where, ip], {})[ip] = mac
        if (
            any(question.candidates[0] in held.get(question.network, ()) for question in planned.plan.probes)
            and planned.replan
        ):
            planned.plan = planned.replan(held)
            if planned.plan.opening() != opening:
                raise errors.CannotProbe("address conflicts change which links are needed; run the task again")
            amend()


def _unanswered(
    probes: Sequence[AddressProbe], free: Set[Tuple[str, str]]
) -> Tuple[Dict[conflicts.Where, List[str]], Dict[Tuple[conflicts.Where, str], str]]:
    """The addresses to probe where the first candidate is not known to be free, and the network of each.

    ``free`` has those that no other host holds, by network.
    """
    wanted: Dict[conflicts.Where, List[str]] = {}
    networks: Dict[Tuple[conflicts.Where, str], str] = {}
    for question in probes:
        if (question.network, question.candidates[0]) in free:
            continue
        where = (question.netns, question.link)
        for ip in question.candidates:
            if (question.network, ip) not in free:
                wanted.setdefault(where, []).append(ip)
                networks[where, ip] = question.network
    return wanted, networks


def _announce(changes: Sequence[Change], observed: HostState) -> List[str]:
    """Announce addresses added to links that were already up, which the kernel does not announce."""
    new = {change.key for change in changes if change.kind == "link" and change.before is None}
    found: Dict[conflicts.Where, List[str]] = {}
    for change in changes:
        if change.kind == "address" and change.before is None and change.of.startswith(("endpoint:", "network:")):
            spec = change.after or {}
            link = observed.link(spec["netns"], spec["link"])
            if (
                link is not None
                and link.data.get("mode") not in ("l3", "l3s")
                and link_key(spec["netns"], link.name) not in new
            ):
                found.setdefault((spec["netns"], link.name), []).append(spec["address"].partition("/")[0])
    notes = []
    for where, addresses in found.items():
        try:
            conflicts.announce(where, addresses)
        except errors.CannotProbe as error:
            notes.append(f"the neighbours were not notified of {', '.join(addresses)}: {error}")
    return notes


def write_plan(state_dir: str, changes: Sequence[Change]) -> Optional[str]:
    """Write the complete plan to a file; returns its path, or None if there is no room."""
    path = os.path.join(state_dir, "last-plan.json")
    try:
        with statedir.replace(path) as file:
            file.write(json.dumps([change._asdict() for change in changes]))  # dump() is not the C encoder
    except RegistryError:
        return None
    return path
