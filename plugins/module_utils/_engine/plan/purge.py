# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a purge removes, and its limit."""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, NamedTuple

from ..core.change import Records
from ..core.errors import Problem
from ..declare.declaration import Declaration

#: However few objects an owner has, so many may go at once.
FEW = 5
#: The kinds of which a run that removes many is suspect, with their names for people.
LIMITED = {"network": "networks", "endpoint": "endpoints"}
_NAMED = 5


class Undeclared(NamedTuple):
    """The recorded items of a kind that their owner no longer declares."""

    kind: str
    keys: List[str]
    owned: int  # how many items of the kind the owner has in the registry


def undeclared(declared: Declaration, records: Records) -> Iterator[Undeclared]:
    """The items that the owner declared before and no longer lists, for each kind that has rows.

    What was not given is absent, not empty: nothing of that kind is purged.
    """
    named = {(item.kind, item.key) for item in declared.items} | declared.broken
    for kind in sorted(declared.given):
        owned = [key for key, record in records.get(kind, {}).items() if record.spec["owner"] == declared.owner]
        yield Undeclared(kind, [key for key in owned if (kind, key) not in named], len(owned))


def staying(declared: Declaration, records: Records) -> Dict[str, Dict[str, str]]:
    """The addresses of endpoints that are no longer declared and that nothing purges: network -> address -> endpoint."""
    found: Dict[str, Dict[str, str]] = {}
    for kind, keys, _owned in undeclared(declared, records) if not declared.purge else ():
        for key in keys if kind == "endpoint" else ():
            spec = records[kind][key].spec
            for address in spec["addresses"]:
                found.setdefault(spec["network"], {})[address.partition("/")[0]] = spec["name"]
    return found


def beyond_limit(declared: Declaration, records: Records) -> List[Problem]:
    """Why a purge stops: it would remove more than its limit."""
    if not declared.purge or declared.purge_limit is None:
        return []
    found = []
    for kind, keys, owned in undeclared(declared, records):
        if kind in LIMITED and len(keys) > _most(declared.purge_limit, owned):
            names = ", ".join(keys[:_NAMED]) + (f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else "")
            message = (
                f"{len(keys)} of {owned} {LIMITED[kind]} would be removed, more than {declared.purge_limit}: {names}"
            )
            found.append(Problem("purge_limit", message, f"check the rows; purge_limit: {len(keys)} removes them"))
    return found


def _most(limit: str, owned: int) -> int:
    """A number, or a percentage of what the owner has, but never less than a few."""
    if limit.endswith("%"):
        return max(FEW, math.floor(owned * int(limit[:-1]) / 100))
    return int(limit)


def summary(declared: Declaration, records: Records) -> Dict[str, Dict[str, object]]:
    """What is no longer declared, for a result: how many of how many, how many of them a purge removes, and the first names."""
    return {
        kind: {
            "undeclared": len(keys),
            "removed": len(keys) if declared.purge else 0,
            "of": owned,
            "first": keys[:20],
        }
        for kind, keys, owned in undeclared(declared, records)
        if kind in LIMITED
    }
