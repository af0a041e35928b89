# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Results limited in size."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Sequence, Tuple

from ._engine.core.errors import Problem

#: The most that a result of a module has, as JSON: AWX drops one over 700,000 bytes, and keeps every other.
BYTES = 300_000

#: So many places with the same problem are named, the others are counted.
_ALIKE = 2

#: Replaces arguments that would make a result too large.
NO_ARGUMENTS = {"module_args": "omitted, see the task"}


def fitting(result: Dict[str, Any], parts: Iterable[str]) -> Dict[str, Any]:
    """Omit the largest of these parts, and of the diff, until the result fits; ``left_out`` lists them."""
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
    """The problems of an input: one a line in the message, and all as a list; of thousands as many as a result holds."""
    rows = [{"path": problem.path, "what": problem.message, "cure": problem.fix} for problem in problems]
    return {"msg": lines(_by_cause(problems)), "problems": rows[: _room(rows)]}


def _by_cause(problems: Sequence[Problem]) -> List[str]:
    """What is wrong in the same way in many places is one line, at the first of them."""
    causes: Dict[Tuple[str, str], List[Problem]] = {}
    for problem in problems:
        causes.setdefault((problem.message, problem.fix), []).append(problem)
    found = []
    for alike in causes.values():
        if len(alike) > _ALIKE:
            paths = f"{', '.join(problem.path for problem in alike[:_ALIKE])} and {len(alike) - _ALIKE:,} more"
            found.append(str(alike[0]._replace(path=paths)))
        else:
            found += map(str, alike)
    return found


def lines(problems: Sequence[Any]) -> str:
    """Problems as one message: one a line, then how many more there are."""
    return "\n".join(_as_many_as_fit(list(map(str, problems)), "more, shown once these are fixed"))


def warnings(texts: Sequence[str]) -> List[str]:
    """As many warnings as a result holds, then how many more there are."""
    return _as_many_as_fit(texts, "more warnings")


def _as_many_as_fit(texts: Sequence[str], more: str) -> List[str]:
    room = _room(texts)
    return [*texts[:room], *([f"and {len(texts) - room:,} {more}"] if room < len(texts) else [])]


def _room(rows: Sequence[Any]) -> int:
    """How many of these, from the first on, a third of a result holds; at least one."""
    left = BYTES // 3
    for number, row in enumerate(rows):
        left -= len(json.dumps(row)) + 2
        if left < 0:
            return max(number, 1)
    return len(rows)
