# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which recorded objects can be restored on a host as it is, and what the others wait for."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from ..core import identity
from ..core.change import (
    FILE_KINDS,
    HOST,
    HOST_KINDS,
    LINK_GROUPS,
    PORTS,
    Record,
    Records,
    differences,
    link_key,
)
from ..core.specs import Generic, Spec
from ..core.state import HostState, Link
from ..plan import compare
from ..plan.compare import ObjectState
from ..plan.order import Step
from ..plan.wanted import Key
from ..store import holds

WAITS, REFUSED, STAYS = "waits", "refused", "stays"
LATER = "the kernel refused it; it will be tried again"


class NotRestored(NamedTuple):
    """An object that could not be restored, and why."""

    kind: str
    key: str
    of: str
    why: str
    how: str  # WAITS for something that may come by itself, REFUSED by the kernel this time, or STAYS until a person acts


class RestorePlan:
    """Which recorded objects can be restored in a host state, and why the others cannot."""

    def __init__(
        self, records: Records, observed: HostState, boot: bool, touchable: holds.Judge, refused: Dict[Key, str]
    ) -> None:
        self.records = records
        self.observed = observed
        self.boot = boot
        self.left: List[NotRestored] = []
        self._touchable = touchable
        self._refused = refused
        self._states: List[ObjectState] = []
        self._lacking: Dict[Key, str] = {}  # what cannot be had -> why
        self._raised: Dict[str, ObjectState] = {}
        self._told_down: Set[str] = set()
        self._never_raise = compare.kept_down(records)
        self._rivals = self._routes_twice()
        for kind in HOST_KINDS:
            found = records.get(kind, {})
            # A parent stands before what uses it.
            for key in sorted(found, key=lambda key: _depth(key, records)) if kind == "link" else found:
                self._judge(kind, key, found[key])
        self.left += [
            NotRestored("link", state.key, state.of, "is down, so nothing of ours on it reaches other hosts", STAYS)
            for state in compare.parents_down(records, observed)
            if state.key not in {*self._raised, *self._told_down}
        ]

    def steps(self) -> List[Step]:
        """What differs between the records and the host, object by object."""
        return list(compare.diff([*self._raised.values(), *self._states], self.observed))

    def _judge(self, kind: str, key: str, record: Record) -> None:
        spec = record.spec
        why, how = self._missing(kind, key, spec)
        now = None if why else self.observed.find(kind, spec)
        cut_off = not why and kind == "address" and self.observed.is_cut_off(spec)
        whole = now is not None and differences(now, spec) is None and not cut_off
        if not why and not whole:
            why, how = self._refused.get((kind, key), ""), REFUSED
        if not why and not whole:
            why = self._touchable(kind, key, record.of)
            how = REFUSED if why == LATER else STAYS
        if not why and kind == "link":
            why, how = self._why_not_link(key, spec, now, whole), STAYS
        if why:
            if now is None:
                self._lacking[kind, key] = why
            self.left.append(NotRestored(kind, key, record.of, why, how))
        elif not whole:
            self._follow(kind, key, record)
            self._states.append(ObjectState(kind, key, spec, record.of, "is gone" if now is None else "differs", spec))

    def _follow(self, kind: str, key: str, record: Record) -> None:
        """What lives on where its workload was before goes, for it comes where that is now."""
        found = identity.moved(self.observed, self.records, key) if kind == "link" else None
        if found is not None:
            reason = f"lives on where {record.spec['netns']} was before"
            for part, name, spec in identity.left_behind(self.observed, self.records, key, found):
                self._states.append(ObjectState(part, name, None, "", reason, spec))

    # -- what an object stands on -----------------------------------------------------------------

    def _missing(self, kind: str, key: str, spec: Spec) -> Tuple[str, str]:
        """What an object has to wait for, as text, and whether that may appear by itself."""
        netns = spec["netns"]
        why = self._space_missing(netns) if netns != HOST and kind != "netns" else ""
        if why:
            return why, STAYS if netns.startswith("pid:") else WAITS
        if kind == "link" and (netns, spec["name"]) in self.observed.hidden:
            rival = self.observed.hidden[netns, spec["name"]]
            self._lacking[kind, key] = f"{key} is that of {self.records['link'][rival].of.partition(':')[2]}"
            return self._one_namespace(
                netns, rival.rpartition("/")[0], spec["name"], self.records["link"][rival].of
            ), STAYS
        if kind == "route" and key in self._rivals:
            rival = self._rivals[key]
            other = self.records["route"][rival].spec["netns"]
            return self._one_namespace(netns, other, spec["prefix"], rival), STAYS
        if kind in FILE_KINDS:
            why = self.observed.unwritable.get((kind, key), "")
            return why, REFUSED if (kind, key) in self.observed.slow else WAITS
        if kind == "link" and spec.get("parent"):
            return self._parent_missing(key, spec), WAITS
        name = spec.get("link") or spec.get("dev")
        only_on_ours = kind in ("address", "rule", "rate") or (kind == "route" and netns != HOST)
        if name and only_on_ours and self.observed.is_replaced("address", {"netns": netns, "link": name}):
            return f"{link_key(netns, name)} no longer has our mark", STAYS
        if kind == "rate" and (limit := self.observed.rate(spec)) is not None and limit.foreign:
            return f"{link_key(netns, spec['link'])} has {limit.foreign}, which is not ours", STAYS
        if kind in ("address", "route", "rule", "rate") and name:
            where = ("link", link_key(netns, name))
            namespace = self.observed.namespace(netns)
            there = namespace is not None and name in namespace.names
            if where in self._lacking or (not there and where[1] not in self.records.get("link", {})):
                return f"waits for {where[1]}", WAITS
        return "", STAYS

    @staticmethod
    def _one_namespace(one: str, other: str, name: str, whose: str) -> str:
        whose = whose.partition(":")[2] if whose.startswith("endpoint:") else other
        return f"{one} and {other} are one network namespace, where {name} is that of {whose}: run the play again"

    def _routes_twice(self) -> Dict[str, str]:
        """The routes to whose place another workload in the same namespace has one: the one that is there stays."""
        routes = self.records.get("route", {})
        places: Dict[object, List[str]] = {}
        for key, record in routes.items():
            if len(self.observed.shared(record.spec["netns"])) > 1:
                places.setdefault(self.observed.place(record.spec), []).append(key)
        found: Dict[str, str] = {}
        for keys in places.values():
            keys.sort(key=lambda key: (not self._is_whole(routes[key].spec), key))
            found.update(dict.fromkeys(keys[1:], keys[0]))
        return found

    def _is_whole(self, spec: Spec) -> bool:
        now = self.observed.find("route", spec)
        return now is not None and differences(now, spec) is None

    def _space_missing(self, workload: str) -> str:
        if workload.startswith("pid:"):
            return "a process has no record after it ends: run the play again for the next one"
        if ("netns", workload) in self._lacking:
            return f"waits for {workload}"
        if workload in self.observed.refusals:
            return self.observed.refusals[workload]
        if self.observed.namespace(workload) is None and workload not in self.records.get("netns", {}):
            return f"waits for {workload}, which is not there"
        return ""

    def _parent_missing(self, key: str, spec: Spec) -> str:
        name = spec["parent"]
        if ("link", name) in self._lacking:
            return f"waits for {name}"
        base = self.observed.host.names.get(name)
        if name in self.records.get("link", {}):
            return ""
        if name in self.observed.disputes and self.observed.find("link", spec) is None:
            return f"waits for {name}: {self.observed.disputes[name]}"
        if base is None:
            return f"waits for {name}, which is not there"
        if base.up or not spec.get("up"):
            return ""
        if self.boot and name not in self._never_raise:
            raised: Spec = {"netns": HOST, "name": name, "up": True}
            self._raised[name] = ObjectState("link", name, raised, "", f"{base.name} is down")
            return ""
        if spec["kind"] != "vlan" or spec.get("loose_binding"):
            return ""
        self._told_down.add(name)
        return f"waits for {name}, which is down"

    # -- whose a link is --------------------------------------------------------------------------

    def _why_not_link(self, key: str, spec: Spec, now: Optional[Spec], whole: bool) -> str:
        if now is not None and whole and now["group"] in LINK_GROUPS:
            return ""
        found = identity.moved(self.observed, self.records, key) if now is None else None
        if found and identity.is_renamed(self.observed, self.records, spec["netns"], found[0]):
            self._lacking["link", key] = f"{key} is elsewhere"
            return f"lives on as {found[1].name} in {found[0].workload}, which {spec['netns']} may be called now"
        if now is None:
            return self._switches_others(spec) if spec["kind"] == "ipvlan" else ""
        there: Generic = now
        wanted: Generic = spec
        other = [option for option in compare.FIXED if option in wanted and there.get(option) != wanted[option]]
        if now["group"] not in LINK_GROUPS:
            if other:
                self._lacking["link", key] = f"{key} is not ours"
            return f"exists and does not have our mark: it is {'not touched' if other else 'used as it is'}"
        if other:
            self._lacking["link", key] = f"{key} is another link"
            return f"has {other[0]} {there.get(other[0])} for {wanted[other[0]]}, which the kernel cannot change in place: remove it"
        return ""

    def _switches_others(self, spec: Spec) -> str:
        """The kernel gives all ipvlans of a parent the mode of the last: not to those of others."""
        parent: Optional[Link] = self.observed.host.names.get(spec["parent"])
        for namespace, child in self.observed.children.get(parent.index, ()) if parent else ():
            same = (child.data.get("mode"), child.data.get("flag")) == (spec["mode"], spec.get("flag"))
            ours = child.group in LINK_GROUPS and identity.is_recorded(self.observed, self.records, namespace, child)
            if PORTS.get(child.kind) == "ipvlan" and not same and not ours:
                return f"the kernel would switch {child.name} in {namespace.workload or 'the host'}, which is not ours, to {spec['mode']}"
        return ""


def _depth(key: str, records: Records) -> int:
    depth, links = 0, records.get("link", {})
    while key in links and links[key].spec.get("parent") and depth < 8:
        key, depth = links[key].spec["parent"], depth + 1
    return depth
