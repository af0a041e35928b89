# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Summarizes a plan for people: counts, the first changes as text, and before and after for ``--diff``."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..core import rates
from ..core.change import FILE_KINDS, HOST_KINDS, Change
from ..core.specs import Generic, Spec
from ..core.text import printable

#: How many changes a result carries in words, and how many objects in its diff; the plan file has all.
FIRST = 20
SHOWN = 200

#: Said by the key already, or the same for everything that is ours.
_PLAIN = {
    "netns", "name", "link", "address", "group", "protocol", "network", "prefix", "table", "metric", "source", "priority", "direction",
}  # fmt: skip
_ALWAYS = {"protocol": ("802.1ad",)}
#: What an object has unless somebody asks for something else: no news where it is created or removed as a whole.
_DEFAULTS: Generic = {
    "accept_ra": False, "addressing": "pool", "bring_up_parent": True, "default_route": {"ipv4": "auto", "ipv6": "auto"}, "dhcp": False, "dhcp6": False,
    "enable_ipv4": True, "enable_ipv6": False,
    "gvrp": False, "gw_priority": 0, "host_access": False, "internal": False, "kind": "link", "loose_binding": False, "metric": 0, "mvrp": False,
    "nopromisc": False, "probe": False, "recreate": False, "reorder_headers": True, "share_parent": False, "source_routing": False, "spoof_check": False,
    "table": 254, "type": "unicast", "up": True,
}  # fmt: skip
#: As people write them: the rates and bursts of links and of endpoints.
_WRITTEN = {"rate": rates.rate_text, "burst": rates.size_text, "limit": rates.size_text}
#: How a link keeps the host and a tenant apart, and what stands for our lines in files: made by us, not declared.
_OURS = {"digest", "isolation", "senders", "sysctls"}


def summary(changes: Sequence[Change], plan_file: Optional[str]) -> Dict[str, object]:
    """Counts by kind and verb, and the first changes, one line each."""
    counts: Dict[str, Dict[str, int]] = {}
    for change in changes:
        verbs = counts.setdefault(change.kind, {})
        verbs[change.verb] = verbs.get(change.verb, 0) + 1
    return {
        "counts": counts,
        "total": len(changes),
        "raised": sum(map(_only_raises, changes)),
        "first": [line(change) for change in changes[:FIRST]],
        "plan_file": plan_file,
    }


def _only_raises(change: Change) -> bool:
    """Whether a change only sets a link up that was down."""
    before, after = change.before, change.after
    if change.kind != "link" or before is None or after is None:
        return False
    return after.get("up") is True and not before.get("up") and {**after, "up": None} == {**before, "up": None}


def line(change: Change) -> str:
    """A change in a line for people."""
    return printable(f"{change.verb} {change.kind} {change.key}: {change.reason}")


def diff(changes: Sequence[Change]) -> Dict[str, str]:
    """Both sides of a plan, one block an object, in the form that Ansible shows with ``--diff``."""
    folded = _fold(changes)
    before: List[str] = []
    after: List[str] = []
    for (kind, key), states in list(folded.items())[:SHOWN]:
        old: Optional[Generic] = states[0]
        new: Optional[Generic] = states[1]
        whole = old is None or new is None
        if kind in FILE_KINDS and not whole:
            what = "names" if kind == "hosts" else "lines"
            old, new = {what: "as they are"}, {what: "rewritten"}
        before += _block(kind, key, old, whole)
        after += _block(kind, key, new, whole)
    if len(folded) > SHOWN:
        rest = f"... and {len(folded) - SHOWN} more objects, see plan_file"
        before.append(rest)
        after.append(rest)
    return {
        "before_header": "host as it is",
        "after_header": "host as declared",
        "before": "".join(printable(text) + "\n" for text in before),
        "after": "".join(printable(text) + "\n" for text in after),
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


def _block(kind: str, key: str, spec: Optional[Generic], whole: bool) -> List[str]:
    """An object; ``whole`` where it is created or removed, and its defaults tell nothing."""
    if spec is None:
        return []
    lines = [f"{kind} {key.replace(' metric 0', '').replace(' table 254', '') if kind == 'route' else key}"]
    for name in sorted(spec):
        value = spec[name]
        if name == "mtu" and value is None and "kind" not in spec and not whole:
            lines.append("  mtu: that of the parent")
        if value in (None, [], {}, "") or (name in _PLAIN and value not in _ALWAYS.get(name, ())):
            continue
        if whole and (_is_default(name, value) or (name in _OURS and kind in HOST_KINDS)):
            continue
        lines += _lines(name, value)
    return lines


def _is_default(name: str, value: Any) -> bool:
    return name in _DEFAULTS and bool(value == _DEFAULTS[name])


def _lines(name: str, value: Any) -> List[str]:
    if isinstance(value, list):
        return [text for item in value for text in _lines(name, item)]
    if isinstance(value, dict):
        shown = {
            key: item
            for key, item in sorted(value.items())
            if item not in (None, {}, []) and not _is_default(key, item)
        }
        inside = ", ".join(f"{key}={word(item)}" for key, item in shown.items())
        return [f"  {name}: {inside}"] if inside else []
    written = _WRITTEN.get(name.rpartition("_")[2])
    return [f"  {name}: {written(value) if written else word(value)}"]


def word(value: Any) -> str:
    """A value for people: booleans as YAML has them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
