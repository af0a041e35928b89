# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences between desired and observed states of objects: for a run, an undo, a restore, drift."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple, cast

from ..core.change import HOST, HOST_KINDS, LINK_GROUPS, Change, Records, differences, link_key
from ..core.isolation import IPV6_MIN_MTU
from ..core.specs import Generic, Spec
from ..core.state import PLACED, HostState
from .order import CREATION_RANK, Step, depth, order_changes
from .wanted import Key

_ROUTE_IDENTITY = ("netns", "prefix", "metric", "table", "protocol")
_IDENTITY = {"netns": ("netns",), "link": ("netns", "name"), "address": ("netns", "link", "address"), "route": _ROUTE_IDENTITY,
             "rule": ("netns", "source", "table", "priority", "protocol"), "rate": ("netns", "link", "direction"),
             "hosts": ("netns",), "resolver": ("netns",)}  # fmt: skip

#: What a link keeps for life: the kernel accepts some of these in a change, and ignores them.
FIXED = ("kind", "parent", "vlan_id", "protocol")


class ObjectState(NamedTuple):
    """The state that an object must have: a spec, or None for absent (``old`` then is what it was)."""

    kind: str
    key: str
    spec: Optional[Spec]
    of: str
    reason: str
    old: Optional[Spec] = None  # as recorded, or as the transaction to be undone made it; None: not recorded


def diff(states: Iterable[ObjectState], observed: HostState, leaving: Iterable[Spec] = ()) -> Iterator[Step]:
    """The steps from the observed to the desired states, unordered. ``leaving`` are addresses that are removed as well."""
    remade: Set[str] = set()
    states = list(states)
    parents = {
        state.key: str(state.spec["parent"])
        for state in states
        if state.kind == "link" and state.spec and state.spec.get("parent")
    }
    states.sort(key=lambda state: (CREATION_RANK[state.kind], depth(state.key, parents)))
    gone = [state.old for state in states if state.kind == "address" and state.spec is None and state.old is not None]
    flushed = _flushed([*gone, *leaving], observed)
    mtus: Dict[str, int] = {}  # of links that this run changes
    for state in states:
        kind, key, spec, of, reason, old = state
        if spec is None:
            if old is not None:
                yield Step(kind, key, old, None, of, reason)
            continue
        now = observed.find(kind, spec)
        if kind == "link" and "mtu" in spec:
            now = _below(now, spec, mtus)
        if now is not None:
            removal = _removal(state, spec, now, remade, flushed)
            if removal is None:
                yield from _in_place(state, spec, now, observed)
                continue
            yield removal
            if kind == "link":
                remade.add(key)
        yield Step(kind, key, None, spec, of, reason)


def _removal(state: ObjectState, spec: Spec, now: Spec, remade: Set[str], flushed: Set[str]) -> Optional[Step]:
    """The removal of an object that has to be recreated; None for one that can stay.

    ``remade`` and ``flushed`` are the links that are, and those that lose their IPv4 routes.
    """
    before, why = now, ""
    if state.kind == "link":
        if is_another(now, spec):
            before = {**(state.old or _as_recorded(now, spec)), "group": now["group"]}
            why = "cannot be changed in place"
    elif state.kind in ("address", "route", "rate"):
        link = link_key(spec["netns"], _device(spec))
        if link in remade:
            why = "is removed with its link"
        elif state.kind == "route" and ":" not in spec["prefix"] and link in flushed:
            why = "is removed with the last address of its link"
    return Step(state.kind, state.key, before, None, state.of, why) if why else None


def _in_place(state: ObjectState, spec: Spec, now: Spec, observed: HostState) -> Iterator[Step]:
    """The change of an object that can stay, where it needs one."""
    kind, key, _spec, of, reason, old = state
    changed = differences(now, spec)
    if changed is None:
        if kind == "address" and old is not None and observed.is_cut_off(spec):
            yield update_step(kind, key, spec, ({}, {}), of, "its connected route is gone")
        return
    if kind == "link":
        changed = _with_settings_of_ipv6(now, spec, changed)
    elif kind in ("route", "rate"):  # which are replaced whole: nothing of them can be changed by itself
        changed = (now.copy(), spec.copy())
    yield update_step(kind, key, spec, changed, of, reason)


def _with_settings_of_ipv6(now: Generic, spec: Generic, changed: Tuple[Spec, Spec]) -> Tuple[Spec, Spec]:
    """The two sides of a link's change, with all its settings where its MTU takes IPv6 away or brings it back.

    It comes back with the kernel's defaults. Where it goes away both sides name the settings, for the way back.
    """
    before, after = cast(Generic, changed[0]), cast(Generic, changed[1])
    if "mtu" not in after:
        return changed
    mtu = now["parent_mtu"] if after["mtu"] is None else after["mtu"]
    if (now["mtu"] < IPV6_MIN_MTU) == (mtu < IPV6_MIN_MTU):
        return changed
    if mtu < IPV6_MIN_MTU:
        same = {option: spec[option] for option in ("isolation", "sysctls") if spec.get(option) and option not in after}
        return cast(Tuple[Spec, Spec], ({**before, **same}, {**after, **same}))
    if spec.get("isolation"):
        after = {**after, "isolation": spec["isolation"]}
    if spec.get("sysctls"):
        there = {name: now["sysctls"].get(name) for name in spec["sysctls"]}
        before = {**before, "sysctls": {**before.get("sysctls", {}), **there}}
        after = {**after, "sysctls": spec["sysctls"]}
    return cast(Tuple[Spec, Spec], (before, after))


def _below(now: Optional[Spec], spec: Spec, mtus: Dict[str, int]) -> Optional[Spec]:
    """A link that follows its parent (MTU None), with the MTU that the parent will have. Updates ``mtus``."""
    planned = mtus.get(spec.get("parent") or (now or {}).get("parent") or "")
    if now is not None and planned is not None:
        now = {**now, "parent_mtu": planned}
    follows = planned if planned is not None else (now or {}).get("parent_mtu")
    mtu = spec["mtu"] if spec["mtu"] is not None else follows
    if mtu is not None and spec["netns"] == HOST and (now is None or now["mtu"] != mtu):
        mtus[spec["name"]] = mtu
    return now


def _flushed(leaving: Iterable[Spec], observed: HostState) -> Set[str]:
    """The links that lose their last IPv4 address, and with it all IPv4 routes over them (kernel facts, S8)."""
    going: Dict[str, Set[str]] = {}
    for spec in leaving:
        going.setdefault(link_key(spec["netns"], spec["link"]), set()).add(spec["address"])
    found = set()
    for key, gone in going.items():
        netns, _slash, name = key.rpartition("/")
        namespace = observed.namespace(netns)
        link = namespace.names.get(name) if namespace else None
        there = (
            {address.address for address in namespace.addresses.get(link.index, ()) if ":" not in address.address}
            if namespace and link
            else set()
        )
        if there and there <= gone:
            found.add(key)
    return found


def _as_recorded(now: Generic, spec: Spec) -> Spec:
    """An observed link in the form in which one of its kind is recorded."""
    found = cast(Spec, {option: now[option] for option in spec if option in now})
    if "sysctls" in spec:
        found["sysctls"] = {name: now["sysctls"].get(name) for name in spec["sysctls"]}
    return found


def is_another(now: Generic, spec: Generic) -> bool:
    """Whether a link has to be recreated to become as wanted (passthru is for life too: kernel facts, 9)."""
    modes = {now.get("mode"), spec.get("mode", now.get("mode"))}
    return any(now[option] != spec[option] for option in FIXED if option in spec) or (
        len(modes) == 2 and "passthru" in modes
    )


def update_step(kind: str, key: str, spec: Generic, changed: Tuple[Spec, Spec], of: str, reason: str) -> Step:
    """A step that changes an object in place: its identity, and what differs."""
    identity = cast(Spec, {option: spec[option] for option in _IDENTITY[kind]})
    return Step(kind, key, {**identity, **changed[0]}, {**identity, **changed[1]}, of, reason)


def with_recorded(step: Step, spec: Spec, recorded: Spec) -> Step:
    """An update that also records what the kernel already has as desired, equal on both sides."""
    old, new = step.before or {}, step.after or {}
    same = cast(Spec, {key: value for key, value in spec.items() if key not in new and recorded.get(key) != value})
    before: Spec = {**same, **old}
    after: Spec = {**same, **new}
    if "sysctls" in new:
        before["sysctls"] = {**spec.get("sysctls", {}), **old["sysctls"]}
        after["sysctls"] = {**spec.get("sysctls", {}), **new["sysctls"]}
    asked: Dict[str, Any] = spec.get("sysctls") or {}
    dropped = {name: number for name, number in (recorded.get("sysctls") or {}).items() if name not in asked}
    if dropped and not spec.get("isolation"):  # back to the default; a profile says what each of its own is
        before["sysctls"] = {**before.get("sysctls", {}), **dropped}
        after["sysctls"] = {**after.get("sysctls", {}), **dict.fromkeys(dropped)}
    return step._replace(before=before, after=after)


def _device(spec: Spec) -> str:
    return spec.get("link") or spec.get("dev") or ""


def drift(records: Records, observed: HostState) -> List[Change]:
    """Where the kernel differs from the registry, as the changes that would repair it."""
    states = [
        ObjectState(kind, key, record.spec, record.of, "is gone or differs", record.spec)
        for kind in HOST_KINDS
        for key, record in records.get(kind, {}).items()
    ]
    return order_changes(diff([*parents_down(records, observed), *states], observed))


def parents_down(records: Records, observed: HostState) -> List[ObjectState]:
    """Foreign links that carry ours and are down, except those that are to stay down."""
    links = records.get("link", {})
    kept = kept_down(records)
    found: Dict[str, ObjectState] = {}
    for record in links.values():
        name = record.spec.get("parent") or ""
        base = observed.host.names.get(name)
        if base is not None and not base.up and name not in links and name not in kept and record.spec.get("up"):
            up: Spec = {"netns": HOST, "name": name, "up": True}
            found.setdefault(name, ObjectState("link", name, up, record.of, "is down"))
    return list(found.values())


def kept_down(records: Records) -> Set[str]:
    """The parents that no item may set up."""
    found = {
        record.spec["parent"]
        for kind in ("network", "vlan")
        for record in records.get(kind, {}).values()
        if not record.spec.get("bring_up_parent", True) and record.spec["parent"]
    }
    links = records.get("link", {})
    return found | {str(links[name].spec.get("parent")) for name in found if name in links}


def by_object(changes: Iterable[Change]) -> List[Change]:
    """The first change of each object: a link that is gone also needs to be set up, which is implied."""
    first: Dict[Key, Change] = {}
    for change in changes:
        first.setdefault((change.kind, change.key), change)
    return list(first.values())


def unapplied(changes: Iterable[Change], observed: HostState) -> Iterator[Tuple[Change, Generic]]:
    """The changes that the kernel acknowledged but did not make, each with the actual state."""
    last: Dict[Key, Tuple[Change, Optional[Spec]]] = {}
    changes = list(changes)
    succeeded = observed.succeeded(changes)
    for change in changes:
        if change.kind in HOST_KINDS and not (change.kind in PLACED and change.key in succeeded):
            _rest, state = last.get((change.kind, change.key), (None, None))
            after = change.after
            last[change.kind, change.key] = (change, {**state, **after} if state and after else after)
    for change, state in last.values():
        now = observed.find(change.kind, state or change.before or {})
        if state is None:
            replaced = observed.is_replaced(change.kind, change.before or {})
            if now is not None and not replaced and not (change.kind == "link" and now["group"] not in LINK_GROUPS):
                yield change, {"exists": True}
        elif now is None:
            yield change, {"exists": False}
        else:
            changed = differences(now, state)
            if changed:
                yield change, changed[0]
            elif change.kind == "address" and change.before and observed.is_cut_off(change.before):
                yield change, {"connected": False}
