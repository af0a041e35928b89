# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes taken back object by object: after a run that failed, after one that was killed, and when a guard fires.

Each does what it can, the way to the controller first. What others came to depend on stays, and so does what the kernel
refuses twice; both are named.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Collection, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from ..core import identity
from ..core.change import FILE_KINDS, HOST, LINK_GROUPS, Change, Records, items_of, link_key, merged
from ..core.errors import KernelError, KernelRefused, RollbackFailed
from ..core.lease_specs import Lease
from ..core.specs import Spec
from ..core.state import HostState, Need, need_of_records
from ..kernel import blocks, containers, lease_socket, named_namespaces
from ..kernel.apply import apply
from ..kernel.observe import observe
from ..plan import compare, dhcp, inverse
from ..plan.inverse import Kept, Undoing
from ..plan.pages import Pages, pages
from ..plan.wanted import Key
from ..store.registry import Registry, Transaction

if TYPE_CHECKING:
    from .transact import RunOptions

#: The owner of transactions that only bring back what the registry has already: see ``restore``.
RESTORE = "restore"
#: Refusals of the kernel after which the rest is left for the next time.
_ROUNDS = 60


def apply_all(changes: Sequence[Change], observed: HostState, group: int, lines: Pages) -> None:
    """The kernel's objects, then the files of workloads; leases that end go back first. Raises KernelRefused."""
    release(changes, observed)
    apply(changes, observed, group)
    files = [change for change in changes if change.kind in FILE_KINDS]
    containers.ask((change.key for change in files), again=True)  # one that was restarted meanwhile is another process
    for kind in FILE_KINDS:
        # What cannot be written is seen, and reported, when the host is observed again.
        texts = {it.key: lines.text(kind, it.key) if it.after else "" for it in files if it.kind == kind}
        if texts:
            blocks.write(kind, texts)


def release(changes: Iterable[Change], observed: HostState) -> None:
    """Give back to their servers the leases that end with changes, while their links are there."""
    for lease in dhcp.ends(changes):
        if lease in observed.leases:
            lease_socket.release(lease)


def pages_of(records: Records, held: Mapping[str, Lease]) -> Pages:
    """The lines of the workloads' files that the records ask for, and the leases of their endpoints."""
    return pages(items_of(records), held)


def need_after(need: Need, changes: Iterable[Change]) -> Need:
    """What shows what became of a plan."""
    return replace(need, records=identity.untouched(need.records, changes))


def need_of(changes: Sequence[Change], records: Records, state_dir: str) -> Need:
    """What an observation must cover to take changes back."""
    touched = {(change.before or change.after or {}).get("netns", HOST) for change in changes} - {HOST}
    readers = {change.key for change in changes if change.kind in FILE_KINDS}
    need = need_of_records(records, state_dir, sorted(touched), sorted(readers))
    return replace(
        need,
        resolvers=tuple(sorted({change.key for change in changes if change.kind == "resolver"})),
        rules=need.rules or any(change.kind == "rule" for change in changes),
        senders=need.senders or any("senders" in (change.before or change.after or {}) for change in changes),
        rates=need.rates or any(change.kind == "rate" for change in changes),
    )


def rollback(
    changes: Sequence[Change],
    need: Need,
    group: int,
    records: Records,
    how: Undoing = Undoing(),  # noqa: B008  (never changed)
    groups: Collection[int] = (),
) -> List[Kept]:
    """Undo changes as far as possible; returns what is left of them, and why.

    ``group`` is the transaction's own, ``records`` are those that hold afterwards, ``groups`` those of links that are
    ours (default: the transaction's, and that of all finished ones). Raises RollbackFailed where the kernel cannot be
    asked at all.
    """
    _tidy(changes)
    work = _Rollback(changes, need_after(need, changes), group, records, how, groups or (group, *LINK_GROUPS))
    try:
        return work.carry_out()
    except KernelError as error:
        raise RollbackFailed(f"the changes cannot be undone: {error}") from None


def _tidy(changes: Sequence[Change]) -> None:
    for change in changes:
        if change.kind == "netns":
            named_namespaces.tidy(change.key)


class _Rollback:
    def __init__(
        self,
        changes: Sequence[Change],
        need: Need,
        group: int,
        records: Records,
        how: Undoing,
        groups: Collection[int],
    ) -> None:
        self.changes = changes
        self.need = need
        self.group = group
        self.groups = groups
        self.how = how._replace(recorded={(kind, key) for kind, found in records.items() for key in found})
        self.skip = set(how.skip)
        self.records = records
        self.refused: Dict[Key, str] = {}

    def carry_out(self) -> List[Kept]:
        kept = self._rounds()
        if self.refused:  # by an error that may not come again
            self.refused = {}
            kept = self._rounds()
        return kept + [Kept(kind, key, why) for (kind, key), why in self.refused.items()]

    def _rounds(self) -> List[Kept]:
        """Look and take back, until nothing is left but what is refused."""
        kept: List[Kept] = []
        for _round in range(_ROUNDS):
            observed = observe(self.need)
            how = self.how._replace(skip={*self.skip, *self.refused})
            back, kept = inverse.invert(self.changes, observed, self.groups, how)
            if not back:
                break
            if not self._apply(back, observed):
                self._judge(back)
        return kept

    def _apply(self, back: Sequence[Change], observed: HostState) -> bool:
        """Whether something was refused, which is noted."""
        for part in _urgent_first(back):
            try:
                apply_all(part, observed, self.group, pages_of(self.records, observed.leases))
            except KernelRefused as error:
                self.refused[error.change.kind, error.change.key] = error.text
                return True
            if len(part) < len(back):
                observed = observe(self.need)
        return False

    def _judge(self, back: Sequence[Change]) -> None:
        """Nothing was refused: what is not so all the same never will be."""
        for change, _state in compare.unapplied(back, observe(self.need)):
            self.refused[change.kind, change.key] = "the kernel acknowledged the change and did not make it"


def _urgent_first(back: Sequence[Change]) -> List[List[Change]]:
    """Changes of the host's addresses, routes and links first, where nothing else has to be made or to go before."""
    made = {change.key for change in back if change.kind == "link" and None in (change.before, change.after)}
    urgent = [change for change in back if _is_urgent(change, made)]
    rest = [change for change in back if not _is_urgent(change, made)]
    return [part for part in (urgent, rest) if part]


def _is_urgent(change: Change, made: Set[str]) -> bool:
    spec: Spec = (change.after if change.after is not None else change.before) or {}
    if spec.get("netns") != HOST or change.kind not in ("address", "route", "link"):
        return False
    if change.kind == "link":
        return change.key not in made
    if change.after is None:
        return True
    device = spec.get("link") or spec.get("dev")
    return not device or link_key(HOST, device) not in made


# --- what a run that was killed left -------------------------------------------------------------


def recover(registry: Registry, run: RunOptions) -> None:
    """Undo what killed runs left half done. Raises RollbackFailed, and RegistryError."""
    while True:
        pending = registry.pending()
        if pending is None:
            return
        _recover(pending, registry, run)


def _recover(pending: Transaction, registry: Registry, run: RunOptions) -> None:
    if pending.owner == RESTORE:
        sweep(pending, registry.sound()[0], registry.directory)
        registry.withdraw(pending.number)
        return
    changes = pending.changes
    if registry.is_of_another_boot():  # only files outlive it; the rest is brought back from the registry
        changes = [change for change in changes if change.kind in FILE_KINDS]
    how = Undoing(made_in=pending.group)
    records, _faults = registry.sound()
    kept = rollback(changes, need_of(changes, records, registry.directory), pending.group, records, how)
    registry.forget(pending.number, leftovers(changes, kept))
    run.notes.append(f"transaction {pending.number} of {pending.who} had been interrupted and was undone first")
    run.notes += stays(kept)


def sweep(pending: Transaction, records: Records, state_dir: str) -> None:
    """Remove the links of a restore that it created only half: those in the group that it had to itself."""
    _tidy(pending.changes)
    made = [
        change._replace(before=None, after=change.after or change.before)
        for change in pending.changes
        if change.kind == "link"
    ]
    rollback(made, need_of(made, records, state_dir), pending.group, records, groups=(pending.group,))


def leftovers(changes: Sequence[Change], kept: Sequence[Kept]) -> List[Change]:
    """What was created and has to stay, as the registry keeps it: a later run removes it, once nothing depends on it."""
    stay = {(left.kind, left.key) for left in kept}
    owners = {"link": "parent", "netns": "netns"}
    found: Dict[Key, Change] = {}
    for change in changes:
        where = (change.kind, change.key)
        if where in found and change.after:  # as it was in the end
            found[where] = found[where]._replace(after=merged(found[where].after or {}, change.after))
        elif where in stay and change.before is None and _is_shared(change):
            found[where] = change._replace(of=owners[change.kind])
    return list(found.values())


def _is_shared(change: Change) -> bool:
    """Whether it is of a kind that later runs remove with its last user: a namespace, or a link of the host."""
    return change.kind == "netns" or (change.kind == "link" and (change.after or {}).get("netns") == HOST)


def stays(kept: Sequence[Kept]) -> List[str]:
    """Descriptions of what is left."""
    return [f"{left.kind} {left.key} is left as it is: {left.why}" for left in kept if left.kind != "hosts"]


def failure(why: str, kept: Sequence[Kept]) -> Optional[RollbackFailed]:
    """The error for a run that could not be undone completely; None if it could."""
    left = stays(kept)
    if not left:
        return None
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return RollbackFailed(f"{why}. Not all of it could be undone: {'; '.join(left[:5])}{more}")
