# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects exempt from repair: those that a person works on, and those that were removed repeatedly.

A hold lasts until it is released, or the host boots. It names an object by its key (``eth0.50``), everything that
belongs to an item (``network:web``), or ``everything``.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Callable, Dict

from ..core.errors import RegistryError
from ..core.text import one_line
from . import statedir

EVERYTHING = "everything"
_FILE = "holds.json"

#: hold -> why, for people
Holds = Dict[str, str]
#: Why an object (kind, key, item) is not to be touched; empty where it may be.
Judge = Callable[[str, str, str], str]


def load(state_dir: str) -> Holds:
    """The holds of this boot. A file that cannot be read holds nothing: it is better to repair than not to."""
    with contextlib.suppress(RegistryError, OSError, ValueError, TypeError, KeyError):
        path = os.path.join(state_dir, _FILE)
        with open(statedir.open_file(path, os.O_RDONLY), encoding="utf-8") as file:
            found = json.load(file)
        if found["boot"] == statedir.boot():
            return {str(name): str(why) for name, why in found["held"].items()}
    return {}


def save(state_dir: str, held: Holds) -> None:
    """Under the registry's lock. Raises RegistryError."""
    path = os.path.join(state_dir, _FILE)
    with statedir.explained(path):
        statedir.check(state_dir, stat.S_ISDIR, "directory")
    with statedir.replace(path) as file:
        json.dump({"boot": statedir.boot(), "held": held}, file)


def hold(state_dir: str, name: str, why: str) -> None:
    """Exempt an object from repair, or all with EVERYTHING. Raises RegistryError."""
    save(state_dir, {**load(state_dir), name: one_line(why)})


def release(state_dir: str, name: str) -> None:
    """Raises RegistryError where that is not held."""
    held = load(state_dir)
    if name == EVERYTHING:
        held.clear()
    elif held.pop(name, None) is None:
        raise RegistryError(f"{name} is not held; " + (f"held are {', '.join(sorted(held))}" if held else "nothing is"))
    save(state_dir, held)


def reason(held: Holds, kind: str, key: str, of: str) -> str:
    """Why an object is held; empty where it is not."""
    for name in (EVERYTHING, of, key, f"{kind} {key}"):
        if name in held:
            return f"held: {held[name]}"
    return ""
