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
    seen. It is plain bytes, so one process can hand it to the next.
    """

    def __init__(self, file: bytes = b"", rows: bytes = b"", body: bytes = b"") -> None:
        self.file = file  # its digest; nothing where it is not known to be what was parsed
        self.rows = rows  # their digest
        self.body = body  # what they were parsed to

    def recall(self, file: bytes) -> Optional[Sound]:
        """What a file of this digest was parsed to; each time new objects."""
        return self._parsed() if file and self.file == file else None

    def recall_rows(self, rows: List[Row], file: bytes) -> Optional[Sound]:
        """What these rows were parsed to, although the file is another one: the journal of a run is in it too."""
        if self.rows != _digest(rows):
            return None
        self.file = file
        return self._parsed()

    def keep(self, rows: List[Row], file: bytes, sound: Sound) -> None:
        """Remember what was parsed. ``file`` is the digest of the file before and after it was read, empty where it changed."""
        records, faults = sound
        tables = [(kind, [(key, it.spec, it.of) for key, it in table.items()]) for kind, table in records.items()]
        with contextlib.suppress(ValueError):  # what nests too deep is parsed each time
            self.body = marshal.dumps((tables, [tuple(fault) for fault in faults]))
            self.file, self.rows = file, _digest(rows)

    def _parsed(self) -> Sound:
        tables, faults = marshal.loads(self.body)
        records = {kind: {key: Record(spec, of) for key, spec, of in table} for kind, table in tables}
        return records, [Fault(*fault) for fault in faults]


def _digest(rows: List[Row]) -> bytes:
    # The second format of marshal has no references: equal rows are equal bytes, whichever objects they are.
    return hashlib.sha256(marshal.dumps(rows, 2)).digest()
