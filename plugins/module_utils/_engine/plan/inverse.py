# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inverse of changes: for a run that failed or was killed, and for a guard that fires."""

from __future__ import annotations

from typing import Collection, Container, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, cast

from ..core.change import HOST, HOST_KINDS, KERNEL_KINDS, PROTOCOL, Change, merged, namespace_mark
from ..core.route_specs import RTPROT_DHCP
from ..core.specs import Generic, Spec
from ..core.state import HostState, Link, Namespace
from . import dependants
from .compare import ObjectState, diff
from .order import order_changes
from .wanted import Key

#: What makes a route the same one as before: everything but its identity.
_WAY = ("type", "via", "dev", "src")
#: What is set in several steps, so that neither the old nor the new value may be there.
_PARTIAL = ("isolation", "sysctls", "altnames")


class Undoing(NamedTuple):
    """The state known when changes are undone."""

    made_in: Optional[int] = None  # the private group of the transaction, while it is not finished
    recorded: Container[Key] = ()  # what is ours beside the changes
    skip: Collection[Key] = ()  # objects to leave: they were never made, or the kernel refused
    before: Optional[HostState] = None  # the host when the changes were planned, where that is known


class Kept(NamedTuple):
    """An object that is not undone, and why."""

    kind: str
    key: str
    why: str


class Inverse(NamedTuple):
    """The steps that undo changes, and the objects that have to stay."""

    changes: List[Change]
    kept: List[Kept]


def invert(
    changes: Iterable[Change],
    observed: HostState,
    groups: Iterable[int],
    how: Undoing = Undoing(),  # noqa: B008  (never changed)
) -> Inverse:
    """The steps that undo changes, no matter how many of them were made.

    Only what is provably still what the changes made is touched: links in one of ``groups``, namespaces with our mark,
    addresses and routes with our protocol number. What others came to depend on meanwhile stays.
    """
    return _Inversion(changes, observed, set(groups), how).carry_out()


class _Inversion:
    def __init__(self, changes: Iterable[Change], observed: HostState, marks: Set[int], how: Undoing) -> None:
        self.observed = observed
        self.marks = marks
        self.how = how
        self.kept: Dict[Key, str] = {}
        self.going: Set[Key] = set()  # what was made and is to be removed
        self.first: Dict[Key, Change] = {}
        self.last: Dict[Key, Optional[Spec]] = {}
        for change in changes:
            where = (change.kind, change.key)
            lent = (change.before or {}).get("protocol") == RTPROT_DHCP  # by a server, which is asked again
            if change.kind in HOST_KINDS and where not in how.skip and not lent:
                self.first.setdefault(where, change)
                before = self.last.get(where)
                self.last[where] = merged(before, change.after) if before and change.after else change.after

    def carry_out(self) -> Inverse:
        self.going = {
            where
            for where, change in self.first.items()
            if change.before is None and self._is_made(where[0], change.after or {}, self.last[where])
        }
        states = [state for where, change in self.first.items() for state in self._state(where, change)]
        while True:  # what stays keeps what it stands on
            kept = {(state.kind, state.key): why for state in states if (why := self._depends(state))}
            if not kept:
                break
            self.kept.update(kept)
            self.going -= set(kept)
            states = [state for state in states if (state.kind, state.key) not in kept]
        found = order_changes(diff(states, self.observed))
        return Inverse(found, [Kept(kind, key, why) for (kind, key), why in self.kept.items()])

    def _state(self, where: Key, change: Change) -> Iterator[ObjectState]:
        kind, key = where
        reason = f"undo: {change.reason}"
        if change.before is None:
            if where in self.going:
                yield ObjectState(kind, key, None, change.of, reason, change.after)
            return
        if kind == "address" and change.after is not None:
            return  # its connected route came back, and to take that away would be to break it again
        now = self.observed.find(kind, change.before)
        if self.last[where] is None and self.observed.is_replaced(kind, change.before):
            return  # somebody put theirs in its place
        if now is None and not self._comes_back(where, change):
            return
        spec = change.before
        if now is not None and self.last[where] is not None:
            spec = self._changed_by_us(where, change, now)
        yield ObjectState(kind, key, spec, change.of, reason, self.last[where])

    def _is_made(self, kind: str, after: Spec, last: Optional[Spec]) -> bool:
        """Whether what stands under the name of something that was to be made is provably that."""
        now = self.observed.find(kind, after)
        if now is None:
            return False
        if kind == "link":
            return now["group"] in self.marks
        if kind == "netns":
            namespace = self.observed.namespace(after["netns"])
            if namespace is None or not namespace.is_marked:
                return False
            return self.how.made_in is None or namespace.mark == namespace_mark(self.how.made_in)
        if kind == "address":
            address = self.observed.address(after)
            ours = address is not None and (address.protocol == PROTOCOL or not self.observed.marks_addresses)
            return ours and not self.observed.is_replaced("address", after)
        if kind == "route":
            left: Generic = last or after
            return all(value == left[option] for option, value in now.items() if option in _WAY and option in left)
        return True

    def _comes_back(self, where: Key, change: Change) -> bool:
        """Whether something that is not there now was there before the changes, and went by them."""
        kind, before = where[0], change.before or {}
        if self.last[where] is not None and not (change.of and "type" in before):
            return False  # it was only changed and is gone meanwhile; but a route goes with an address that we removed
        netns = str(before.get("netns", HOST))
        lost = kind in KERNEL_KINDS and self.observed.namespace(netns) is None and ("netns", netns) not in self.first
        return not lost  # with its namespace, before us

    def _changed_by_us(self, where: Key, change: Change, now: Spec) -> Spec:
        """Of an object that was changed in place, what goes back.

        Of a link of others, and of a route, only what is still as we left it: anything else somebody set since.
        """
        kind = where[0]
        before, left = change.before or {}, self.last[where] or {}
        if kind == "route":
            ours = all(
                value in (left.get(option), before.get(option))
                for option, value in now.items()
                if option in _WAY and option in before
            )
            if not ours:
                self.kept[where] = "it was changed by someone else since"
            return before if ours else now
        if kind != "link" or (change.of and now["group"] in self.marks):
            return before
        options = {
            option: value
            for option, value in before.items()
            if option in ("netns", "name") or option in _PARTIAL or now.get(option) == left.get(option)
        }
        spec = cast(Spec, options)
        if spec.get("up") is False and now["up"]:
            standing = self._standing_on(spec)
            if standing:
                self.kept[where] = f"stays up: {dependants.listed(standing)}"
                del spec["up"]
        return spec

    def _standing_on(self, spec: Spec) -> List[str]:
        """What came to use a link of others since it was set up; everything that does, where it was not seen before."""
        before = self._of_link(self.how.before, spec) if self.how.before is not None else []
        return [text for text in self._of_link(self.observed, spec) if text not in before]

    def _depends(self, state: ObjectState) -> str:
        """Descriptions of what depends on an object to be removed."""
        if state.spec is not None or not self.observed.find(state.kind, state.old or {}):
            return ""
        if state.kind == "link":
            return dependants.listed(self._of_link(self.observed, state.old or {}))
        if state.kind == "netns":
            return dependants.listed(dependants.of_namespace(self.observed, state.key, self._goes))
        return ""

    def _of_link(self, observed: HostState, spec: Spec) -> List[str]:
        return dependants.of_link(observed, spec, self._goes, self._address_goes)

    def _goes(self, namespace: Namespace, link: Link) -> bool:
        """Whether a link goes by these changes too, or was recorded before them."""
        each = [("link", key) for key in self.observed.keys(namespace, link)]
        return link.group in self.marks and any(where in self.going or where in self.how.recorded for where in each)

    def _address_goes(self, key: str) -> bool:
        where = ("address", key)
        return where in self.going or where in self.how.recorded
