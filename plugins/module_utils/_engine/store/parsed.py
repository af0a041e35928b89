# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a registry was parsed to, for a process that reads it again and again."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
from typing import Any, List, Optional, Tuple

from ..core.change import Record, Records
from ..core.validate import Fault

#: The records, and those that cannot be used.
Sound = Tuple[Records, List[Fault]]
Row = Tuple[Any, ...]  # kind, key, of, spec, as SQLite has them


class ParsedRegistry:
    """The records as they were parsed last, for as long as the file, or at least each of its objects, is what it was then.

    Both are compared by a digest of all that is in them: no time, size or counter is believed, so what another process wrote is always
    seen. ``kept`` is all that there is to it, so one process can hand it to the next.
    """

    _DIGEST = 32

    def __init__(self, kept: bytes = b"") -> None:
        self.kept = kept  # the digest of the file, that of the rows, then what they were parsed to

    def recall(self, file: bytes) -> Optional[Sound]:
        """What a file of this digest was parsed to; each time new objects."""
        return self._parsed() if file and self.kept.startswith(file) else None

    def recall_rows(self, rows: List[Row], file: bytes) -> Optional[Sound]:
        """What these rows were parsed to, although the file is another one: the journal of a run is in it too."""
        if self.kept[self._DIGEST : 2 * self._DIGEST] != _digest(rows):
            return None
        self.kept = file.ljust(self._DIGEST, b"\0") + self.kept[self._DIGEST :]
        return self._parsed()

    def keep(self, rows: List[Row], file: bytes, sound: Sound) -> None:
        """Remember what was parsed. ``file`` is the digest of the file before and after it was read, empty where it changed."""
        records, faults = sound
        tables = [(kind, [(key, it.spec, it.of) for key, it in table.items()]) for kind, table in records.items()]
        with contextlib.suppress(ValueError):  # what nests too deep is parsed each time
            body = marshal.dumps((tables, [tuple(fault) for fault in faults]))
            self.kept = file.ljust(self._DIGEST, b"\0") + _digest(rows) + body

    def _parsed(self) -> Sound:
        tables, faults = marshal.loads(self.kept[2 * self._DIGEST :])
        records = {kind: {key: Record(spec, of) for key, spec, of in table} for kind, table in tables}
        return records, [Fault(*fault) for fault in faults]


def _digest(rows: List[Row]) -> bytes:
    # The second format of marshal has no references: equal rows are equal bytes, whichever objects they are.
    return hashlib.sha256(marshal.dumps(rows, 2)).digest()
