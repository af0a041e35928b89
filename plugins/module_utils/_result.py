# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""How much a result holds."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Sequence

from ._engine.fields import Problem

#: The most that a result of a module has, as JSON: AWX drops one over 700,000 bytes, and keeps every other.
BYTES = 300_000

#: In the place of arguments that have no room in a result.
NO_ARGUMENTS = {"module_args": "left out, see the task"}


def fitting(result: Dict[str, Any], parts: Iterable[str]) -> Dict[str, Any]:
    """Leave the largest of these parts, and of the diff, out of a result until the rest fits, and name them in ``left_out``."""
    sizes = {key: len(json.dumps({key: value}, default=str)) for key, value in result.items()}
    total = sum(sizes.values())
    for size, key in sorted(((sizes[key], key) for key in (*parts, "diff") if key in result), reverse=True):
        if total <= BYTES:
            break
        del result[key]
        result.setdefault("left_out", []).append(key)
        total -= size
    return result


def refusal(problems: Sequence[Problem]) -> Dict[str, Any]:
    """What a refusal tells: everything that is wrong, or of thousands as much as a result holds; the message and the list the same."""
    rows = [problem._asdict() for problem in problems]
    room = _room(rows)
    return {"msg": _told(problems, room), "problems": rows[:room]}


def lines(problems: Sequence[Any]) -> str:
    """What is wrong where there is a message alone."""
    return _told(problems, _room(list(map(str, problems))))


def _told(problems: Sequence[Any], room: int) -> str:
    """One a line, and how many more there are."""
    more = [f"and {len(problems) - room:,} more, which are told once these are mended"] if room < len(problems) else []
    return "\n".join([*map(str, problems[:room]), *more])


def _room(rows: Sequence[Any]) -> int:
    """How many of these, from the first on, a third of a result holds."""
    left = BYTES // 3
    for number, row in enumerate(rows):
        left -= len(json.dumps(row)) + 2
        if left < 0:
            return number
    return len(rows)
