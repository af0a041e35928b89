# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""A task of a role of ours: where its messages name an option of the task, they name what a user of the role sets."""

from __future__ import annotations

import re
import typing as t

_COLLECTION = "netops.underlay."
_ROWS = ("links", "networks", "endpoints", "routes")
#: Role -> option of its task -> the variable that the role takes it from. Options of rows are the same in a role.
VARIABLES: dict[str, dict[str, str]] = {
    "trunk": {
        **{section: f"trunk_{section}" for section in _ROWS},
        "trunks": "trunk_nics",
        **{option: f"trunk_{option}" for option in ("adopt", "purge", "guard_timeout", "guard_probe")},
    },
    "endpoints": {
        "endpoints": "endpoints_list",
        **{
            option: f"endpoints_{option}"
            for option in ("adopt", "purge", "purge_limit", "guard_timeout", "guard_probe")
        },
    },
    "l3_routing": {option: f"l3_routing_{option}" for option in ("adopt", "guard_timeout")},
}
#: Options of the task that no role has a variable for: they are of the play.
PLAYS = ("managed_from", "lock_timeout", "dhcp_timeout", "state_dir")


def of(task: t.Any) -> str:
    """The role of ours that a task belongs to, by its short name; empty if there is none."""
    name = task._role.get_name() if task._role else ""
    short = name[len(_COLLECTION) :] if name.startswith(_COLLECTION) else ""
    return short if short in VARIABLES else ""


def translate(result: dict[str, t.Any], role: str) -> None:
    """The message and the problems of a failed task, for somebody who uses the role."""
    if not role or not result.get("failed"):
        return
    if isinstance(result.get("msg"), str):
        result["msg"] = _with_plays(in_role(result["msg"], role))
    for problem in result.get("problems") or ():
        for part in ("path", "cure"):
            problem[part] = in_role(problem[part], role)


def in_role(text: str, role: str) -> str:
    """``set adopt: true`` becomes ``set trunk_adopt: true``; places inside of rows stay."""
    variables = VARIABLES[role]
    options = "|".join(variables)
    shapes = (
        rf"^({options})(?=: |$)",  # the place of a problem
        rf"(?<![\w.])({options})(?=: (?:true|\d|\[\])|, or \w+: \[\])",  # a value to give
        rf"(?<![\w.])({'|'.join({'guard_timeout', 'guard_probe', 'purge_limit'} & variables.keys())})\b",  # no words of prose
    )
    for shape in shapes:
        text = re.sub(shape, lambda found: variables[found[1]], text, flags=re.MULTILINE)
    return text


def _with_plays(text: str) -> str:
    """How a play gives an option that the role has no variable for."""
    named = [option for option in PLAYS if re.search(rf"\b{option}\b", text)]
    if not named:
        return text
    values = ", ".join(f"{option}: ..." for option in named)
    return f"{text}\n{' and '.join(named)}: in module_defaults of the play, as group/{_COLLECTION}all: {{{values}}}"
