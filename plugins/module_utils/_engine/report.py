# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as people read it: counts, the first changes in words, and a before and after for ``--diff``."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from .world import Change, Spec

#: How many changes a result carries in words, and how many objects in its diff; the plan file has all.
FIRST = 20
SHOWN = 200

#: Said by the key already, or the same for everything that is ours.
_PLAIN = {"netns", "name", "link", "address", "group", "protocol", "network", "prefix", "table", "metric"}
_ALWAYS = {"protocol": ("802.1ad",)}


def summary(changes: Sequence[Change], plan_file: Optional[str]) -> Dict[str, Any]:
    """Counts by kind and verb, and the first changes, each in one line."""
    counts: Dict[str, Dict[str, int]] = {}
    for change in changes:
        verbs = counts.setdefault(change.kind, {})
        verbs[change.verb] = verbs.get(change.verb, 0) + 1
    return {
        "counts": counts,
        "total": len(changes),
        "first": [line(change) for change in changes[:FIRST]],
        "plan_file": plan_file,
    }


def line(change: Change) -> str:
    return f"{change.verb} {change.kind} {change.key}: {change.reason}"


def diff(changes: Sequence[Change]) -> Dict[str, str]:
    """Both sides of a plan, one block an object, in the form that Ansible shows with ``--diff``."""
    folded = _fold(changes)
    before: List[str] = []
    after: List[str] = []
    for (kind, key), (old, new) in list(folded.items())[:SHOWN]:
        before += _block(kind, key, old)
        after += _block(kind, key, new)
    if len(folded) > SHOWN:
        rest = f"... and {len(folded) - SHOWN} more objects, see plan_file"
        before.append(rest)
        after.append(rest)
    return {
        "before_header": "host as it is",
        "after_header": "host as declared",
        "before": "".join(text + "\n" for text in before),
        "after": "".join(text + "\n" for text in after),
    }


def _fold(changes: Iterable[Change]) -> Dict[Tuple[str, str], Tuple[Optional[Spec], Optional[Spec]]]:
    """One pair of states for each object, however many changes lead from one to the other."""
    folded: Dict[Tuple[str, str], Tuple[Optional[Spec], Optional[Spec]]] = {}
    for change in changes:
        where = (change.kind, change.key)
        if where not in folded:
            folded[where] = (change.before, change.after)
            continue
        old, new = folded[where]
        if new is not None and change.after is not None:
            folded[where] = (old, {**new, **change.after})
        else:
            folded[where] = (old, change.after)
    return folded


def _block(kind: str, key: str, spec: Optional[Spec]) -> List[str]:
    if spec is None:
        return []
    lines = [f"{kind} {key}"]
    for name in sorted(spec):
        value = spec[name]
        if value in (None, [], {}, "") or (name in _PLAIN and value not in _ALWAYS.get(name, ())):
            continue
        lines += _lines(name, value)
    return lines


def _lines(name: str, value: Any) -> List[str]:
    if isinstance(value, list):
        return [text for item in value for text in _lines(name, item)]
    if isinstance(value, dict):
        inside = ", ".join(f"{key}={word(item)}" for key, item in sorted(value.items()) if item not in (None, {}, []))
        return [f"  {name}: {inside}"] if inside else []
    return [f"  {name}: {word(value)}"]


def word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
