# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of drift: one line for each cause, with the objects that follow from it."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ..core.change import HOST, Change, link_key
from ..core.specs import Generic, Spec
from ..plan import compare
from ..plan.wanted import Key
from ..report.summary import word
from .restore_plan import NotRestored

#: How many objects of one cause are named; the others are counted.
_NAMED = 3
_GONE = "is gone"


def lines(changes: Sequence[Change], left: Sequence[NotRestored]) -> List[str]:
    """What differs from the registry, as :func:`restore.drift` found it."""
    return [*_differences(compare.by_object(changes)), *waiting(left)]


def _differences(changes: Sequence[Change]) -> Iterator[str]:
    """One line for each missing object, with the objects that depended on it."""
    gone = {(change.kind, change.key): change for change in changes if change.before is None}
    roots = {key: _root(key, gone) for key in gone}
    for change in changes:
        key = (change.kind, change.key)
        if change.before is not None:
            yield f"{change.kind} {change.key} {_values(change)}"
        elif roots[key] == key:
            others = sum(1 for root in roots.values() if root == key) - 1
            where = "in" if change.kind == "netns" else "on"
            yield f"{change.kind} {change.key} is gone{f', with {_count(others)} {where} it' if others else ''}"


def _root(key: Key, gone: Dict[Key, Change]) -> Key:
    """The object whose loss explains this one's; the object itself where nothing else does."""
    for _level in range(8):
        below = next((base for base in _bases(key[0], gone[key].after or {}) if base in gone and base != key), None)
        if below is None:
            break
        key = below
    return key


def _bases(kind: str, spec: Spec) -> Iterator[Key]:
    """The objects without which another cannot be there."""
    netns = str(spec.get("netns", HOST))
    device = spec.get("link") or spec.get("dev")
    if device:
        yield "link", link_key(netns, str(device))
    if kind == "link" and spec.get("parent"):
        yield "link", str(spec["parent"])
    if netns != HOST:
        yield "netns", netns


def _values(change: Change) -> str:
    """What an object is, and should be."""
    before: Generic = change.before or {}
    after: Generic = change.after or {}
    parts = []
    for option, value in before.items():
        if value == after.get(option):
            continue
        if option == "isolation":
            parts.append(f"is not isolated, should have profile {word(after.get(option))}")
        elif option == "sysctls":  # beside a profile, only what an undo sets again
            wanted = (after.get(option) or {}).items()
            parts += [f"{name} is {value.get(name)}, should be {number}" for name, number in wanted]
        elif option == "up":
            parts.append("is down, should be up" if after.get(option) else "is up, should be down")
        else:
            should = "that of the parent" if option == "mtu" and after.get(option) is None else word(after.get(option))
            parts.append(f"{option} is {word(value)}, should be {should}")
    return "; ".join(parts)


def repaired(changes: Sequence[Change]) -> Iterator[str]:
    """What was wrong, one line for all objects of a kind with the same fault."""
    changes = compare.by_object(changes)
    gone = {(change.kind, change.key): change for change in changes if change.before is None}
    faults: Dict[Tuple[str, str], List[str]] = {}
    followers: Dict[Tuple[str, str], int] = {}
    for change in changes:
        key = (change.kind, change.key)
        if change.before is not None:
            faults.setdefault((change.kind, _values(change)), []).append(change.key)
            continue
        root = _root(key, gone)
        if root == key:
            faults.setdefault((change.kind, _GONE), []).append(change.key)
        else:
            followers[root[0], _GONE] = followers.get((root[0], _GONE), 0) + 1
    for (kind, fault), keys in faults.items():
        others = followers.get((kind, fault), 0)
        more = f", with {_count(others)} that stood on {'them' if len(keys) > 1 else 'it'}" if others else ""
        if len(keys) == 1:
            yield f"{kind} {keys[0]} {fault}{more}"
        else:
            names = [f"{kind} {key}" for key in keys[:_NAMED]]
            names += [f"{len(keys) - _NAMED} more"] if len(keys) > _NAMED else []
            yield f"{'are gone' if fault == _GONE else fault}: {', '.join(names[:-1])} and {names[-1]}{more}"


class Cause(NamedTuple):
    """Why objects cannot be restored now."""

    why: str
    how: str  # of NotRestored
    objects: List[str]
    text: str


def waiting(left: Sequence[NotRestored]) -> Iterator[str]:
    """Objects that cannot be restored now: those that wait for another of them are counted with it."""
    return (cause.text for cause in causes(left))


def causes(left: Sequence[NotRestored]) -> List[Cause]:
    """Why objects cannot be restored now: those that wait for another of them are counted with it."""
    by_name = {f"waits for {it.key}": it for it in left}
    found: Dict[str, List[NotRestored]] = {}
    followers: Dict[str, int] = {}
    for it in left:
        root = it
        for _level in range(8):
            below = by_name.get(root.why)
            if below is None or below is root:
                break
            root = below
        if root is it:
            found.setdefault(it.why, []).append(it)
        else:
            followers[root.why] = followers.get(root.why, 0) + 1
    return [
        Cause(
            why, objects[0].how, [f"{it.kind} {it.key}" for it in objects], _cause(why, objects, followers.get(why, 0))
        )
        for why, objects in found.items()
    ]


def _cause(why: str, objects: Sequence[NotRestored], followers: int) -> str:
    named = [f"{it.kind} {it.key}" for it in objects[:_NAMED]]
    if len(objects) > _NAMED:
        named.append(f"{len(objects) - _NAMED} more")
    if followers:
        named.append(f"{_count(followers)} on {'them' if len(objects) > 1 else 'it'}")
    text = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    name, which, state = (
        why[len("waits for ") :].partition(", which ") if why.startswith("waits for ") else ("", "", "")
    )
    if which:
        return f"{name} {state}: {text} wait{'s' if len(named) == 1 else ''} for it"
    return f"{why}: {text}" if len(named) > 1 else f"{text}: {why}"


def _count(objects: int) -> str:
    return "1 object" if objects == 1 else f"{objects} objects"
