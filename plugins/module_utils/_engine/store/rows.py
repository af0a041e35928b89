# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the registry: objects, what a thing is known by, and the state of transactions."""

from __future__ import annotations

import contextlib
import json
import zlib
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..core import validate
from ..core.change import Change, Record, merged
from ..core.records import complete
from ..core.validate import Fault
from . import statedir

if TYPE_CHECKING:
    import sqlite3

#: kind (``nic``) -> key -> what a thing is known by: see ``identity``.
Known = Mapping[str, Mapping[str, Mapping[str, object]]]

encode = json.JSONEncoder(separators=(",", ":")).encode


def merge_changes(database: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Leave behind what a plan made. A change that belongs to no item, so is not ours, is skipped."""
    final: Dict[Tuple[str, str], Optional[Record]] = {}
    for change in changes:
        where = (change.kind, change.key)
        if not change.of:
            continue
        if change.after is None:
            final[where] = None
        elif change.before is None:
            final[where] = Record(change.after, change.of)
        else:
            old = final[where] if where in final else stored(database, where)
            final[where] = Record(merged(old.spec if old else {}, change.after), change.of)
    gone = [where for where, record in final.items() if record is None]
    rows = [(*where, it.of, encode(it.spec)) for where, it in final.items() if it]
    database.executemany("DELETE FROM objects WHERE kind = ? AND key = ?", gone)
    database.executemany("REPLACE INTO objects (kind, key, of, spec) VALUES (?, ?, ?, ?)", rows)


def keep_known(database: sqlite3.Connection, known: Known) -> None:
    """Replace what things of some kinds are known by."""
    for kind, specs in known.items():
        database.execute("DELETE FROM objects WHERE kind = ?", (kind,))
        rows = [(kind, key, kind, encode(spec)) for key, spec in specs.items()]
        database.executemany("INSERT INTO objects (kind, key, of, spec) VALUES (?, ?, ?, ?)", rows)


def stored(database: sqlite3.Connection, where: Tuple[str, str]) -> Optional[Record]:
    """An object by kind and key. Raises ValueError where it is not what this version writes."""
    query = "SELECT spec, of FROM objects WHERE kind = ? AND key = ?"
    row = database.execute(query, where).fetchone()
    if row is None:
        return None
    found = Record(complete(where[0], json.loads(text(row[0]))), row[1])
    why = validate.record(*where, found)
    if why:
        raise ValueError(str(Fault(*where, why)))
    return found


def specs(rows: Sequence[Tuple[Any, ...]]) -> List[Any]:
    """What the last column of rows says; None where that is no JSON."""
    texts = [row[3] for row in rows]
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        # One long text is decoded far faster than thousands of short ones.
        specs: List[Any] = json.loads("[" + ",".join(texts) + "]")
        if len(specs) == len(texts):
            return specs
    return [spec(text) for text in texts]


def spec(text: Any) -> Any:
    """What one text says; None where that is no JSON."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        return json.loads(text)
    return None


def text(value: object) -> str:
    """A value that must be text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def machine(database: sqlite3.Connection) -> str:
    """The machine that a registry is of; empty where that was not noted."""
    row = database.execute("SELECT value FROM meta WHERE name = 'machine'").fetchone()
    return text(row[0]) if row else ""


def note_machine(database: sqlite3.Connection) -> None:
    """Note that a registry is of this machine."""
    database.execute("REPLACE INTO meta VALUES ('machine', ?)", (statedir.machine(),))


def settle(database: sqlite3.Connection, number: int, state: str) -> None:
    """Set the state of a transaction."""
    database.execute("UPDATE transactions SET state = ? WHERE number = ?", (state, number))


def pack(plan: str) -> bytes:
    """A packed plan is a thirtieth of its size: fifty large ones are no burden."""
    return zlib.compress(plan.encode(), 1)
