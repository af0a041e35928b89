# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we made, who asked for it and who holds which address: what no kernel keeps.

One SQLite file. Every change of a finished plan is laid over its ``objects``; a plan under way
stands in ``transactions`` as pending before the kernel is touched, so that a run killed at any
instant is found and undone by the next.

SQLite's rollback journal with ``synchronous=EXTRA``: what is committed survives a kill and a power
cut, in which even the removal of the journal could be lost otherwise. A write-ahead log is no
faster here (a connection commits once, and copies the log back when it closes), puts two more files
beside the database, and cannot be read on a file system that went read-only, when people want to
look most.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import zlib
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import statedir
from .statedir import Busy, RegistryError
from .world import Change, Record, Records, merged

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Armed", "Busy", "Registry", "RegistryError", "Transaction"]

SCHEMA = 1
#: How many finished transactions are kept for ``underlay undo``.
KEPT = 50

_TABLES = (
    "CREATE TABLE objects ("
    "kind TEXT, key TEXT, of TEXT, spec TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "CREATE TABLE transactions ("
    "number INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT, time TEXT, who TEXT, owner TEXT,"
    " link_group INTEGER, plan BLOB)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)",
    f"PRAGMA user_version = {SCHEMA}",
)

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Transaction(NamedTuple):
    """One plan that was carried out or is under way."""

    number: int  # rises with every plan: the order of transactions, whatever the clock does
    state: str  # pending, unconfirmed, applied or undone
    time: str  # when it began: ISO 8601, UTC; for people
    who: str
    owner: str
    group: int  # of the links that it makes, while it is pending
    plan: bytes  # the changes, packed

    @property
    def changes(self) -> List[Change]:
        """The changes, unpacked at every call. Raises RegistryError where they are damaged."""
        try:
            return [Change(*change) for change in json.loads(zlib.decompress(self.plan))]
        except (TypeError, ValueError, zlib.error) as error:
            what = f"transaction {self.number} of the registry"
            raise _damaged(what, str(error)) from None


class Armed(NamedTuple):
    """A guard that waits for a transaction to be confirmed, else the transaction is undone."""

    number: int  # of the transaction
    boot: str  # the boot of the host in which it was armed: no timer outlives it
    until: float  # seconds of CLOCK_BOOTTIME, which no clock that jumps has a part in

    @property
    def left(self) -> float:
        """How many seconds are left to confirm; 0 where the time is over, or the host was rebooted."""
        return max(0.0, self.until - statedir.uptime()) if self.boot == statedir.boot() else 0.0


class Registry:
    """The registry of a host, in a directory that nobody but its user may write.

    Reading creates nothing and needs no lock; ``begin``, ``finish`` and ``forget`` belong under
    :meth:`lock`. Everything raises RegistryError.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.path = os.path.join(self.directory, "registry.db")
        self._locked = False
        self._begun: List[Change] = []

    # -- reading ----------------------------------------------------------------------------------

    def load(self) -> Records:
        """Every object, by kind and key; nothing where nothing was ever made."""
        records: Records = {}
        with self._reading() as database:
            if database is None:
                return records
            rows = database.execute("SELECT kind, key, of, spec FROM objects").fetchall()
            # One long text is decoded far faster than thousands of short ones.
            specs = json.loads("[" + ",".join([row[3] for row in rows]) + "]")
            if len(specs) != len(rows):
                raise ValueError("its objects are not those that were written")
        for (kind, key, of, _rest), spec in zip(rows, specs):
            records.setdefault(kind, {})[key] = Record(spec, of)
        return records

    def seed(self) -> str:
        """What this host has and no other, the same in every run: for what is picked by chance."""
        with self._reading() as database:
            if database is None:
                return _seed()
            row = database.execute("SELECT value FROM meta WHERE name = 'seed'").fetchone()
            if row is None:
                raise ValueError("it has no seed")
            return str(row[0])

    def pending(self) -> Optional[Transaction]:
        """The plan that a killed run left behind."""
        return next(iter(self._transactions("state = ?", "pending", 1)), None)

    def armed(self) -> Optional[Armed]:
        """The guard of a transaction that is under way, or done and not confirmed."""
        with self._reading() as database:
            if database is None:
                return None
            row = database.execute("SELECT value FROM meta WHERE name = 'guard'").fetchone()
            return Armed(*json.loads(row[0])) if row else None

    def transactions(self, limit: int = KEPT) -> List[Transaction]:
        """The last transactions, the newest first."""
        return self._transactions("number > ?", 0, limit)

    def transaction(self, number: int) -> Transaction:
        """One of the transactions that are kept."""
        for found in self._transactions("number = ?", number, 1):
            return found
        kept = [transaction.number for transaction in self.transactions()]
        there = f"{kept[-1]} to {kept[0]} are kept" if kept else "none is kept"
        raise RegistryError(f"{self.path} has no transaction {number}; {there}")

    def _transactions(self, where: str, value: object, limit: int) -> List[Transaction]:
        with self._reading() as database:
            if database is None:
                return []
            rows = database.execute(
                "SELECT number, state, time, who, owner, link_group, plan FROM transactions"
                f" WHERE {where} ORDER BY number DESC LIMIT ?",
                (value, limit),
            )
            return [Transaction(*row) for row in rows]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Optional[sqlite3.Connection]]:
        if not self._exists():
            yield None
            return
        with _connected(self.path) as database:
            self._check_schema(database)
            yield database

    # -- writing ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, timeout: float, who: str) -> Iterator[None]:
        """Keep everybody else from changing this host; makes the directory, for runs that write.

        Raises Busy, naming the holder, when it is not to be had within ``timeout`` seconds.
        """
        statedir.make(self.directory)
        with statedir.lock(self.directory, timeout, who):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def begin(self, who: str, owner: str, changes: Sequence[Change], group: int, guard: float = 0) -> int:
        """Write down a plan before the kernel is touched: it is on the disk when this returns.

        ``group`` is the link group of the links that it makes. With ``guard``, it has to be
        confirmed within so many seconds. Returns the transaction's number.
        """
        plan = _encode(changes)
        row = (statedir.now(), statedir.printable(who), owner, group, _pack(plan))
        with self._writing() as database:
            # What finish will write, at most: the objects, and the pages that they replace.
            statedir.room(self.directory, 3 * len(plan) + 2**18)
            cursor = database.execute(
                "INSERT INTO transactions (state, time, who, owner, link_group, plan)"
                " VALUES ('pending', ?, ?, ?, ?, ?)",
                row,
            )
            number = int(cursor.lastrowid or 0)
            if guard:
                armed = _encode(Armed(number, statedir.boot(), statedir.uptime() + guard))
                database.execute("REPLACE INTO meta VALUES ('guard', ?)", (armed,))
        self._begun = list(changes)
        return number

    def amend(self, number: int, changes: Sequence[Change]) -> None:
        """The plan under way became another one, before more of it is carried out."""
        with self._writing() as database:
            database.execute("UPDATE transactions SET plan = ? WHERE number = ?", (_pack(_encode(changes)), number))
        self._begun = list(changes)

    def finish(self, number: int, changes: Sequence[Change], undoes: int = 0) -> None:
        """The plan is carried out: lay its changes over the objects, all of them or none.

        ``changes`` may differ from those of ``begin``. ``undoes`` is the transaction that the plan turned round. Where this fails, the
        plan is still pending.
        """
        with self._writing() as database:
            _lay_over(database, changes)
            if list(changes) != self._begun:
                row = (_pack(_encode(changes)), number)
                database.execute("UPDATE transactions SET plan = ? WHERE number = ?", row)
            _settle(database, number, "unconfirmed" if _is_armed(database, number) else "applied")
            if undoes:
                _settle(database, undoes, "undone")
                _disarm(database, undoes)
            database.execute(
                "DELETE FROM transactions WHERE state IN ('applied', 'undone') AND number NOT IN"
                " (SELECT number FROM transactions ORDER BY number DESC LIMIT ?)",
                (KEPT,),
            )

    def forget(self, number: int) -> None:
        """The plan was undone: it stays in the list for people, and is pending no more."""
        with self._writing() as database:
            _settle(database, number, "undone")
            _disarm(database, number)

    def withdraw(self, number: int) -> None:
        """The plan only brought back what stands here already: it leaves no trace in the list."""
        with self._writing() as database:
            database.execute("DELETE FROM transactions WHERE number = ?", (number,))

    def confirm(self, number: int) -> None:
        """Whoever asked for a guarded plan still reaches this host."""
        with self._writing() as database:
            database.execute(
                "UPDATE transactions SET state = 'applied' WHERE number = ? AND state = 'unconfirmed'",
                (number,),
            )
            _disarm(database, number)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction of SQLite: on the disk when this ends, or nothing of it is."""
        if not self._locked:
            raise RuntimeError("the registry is written under its lock")
        if not self._exists():
            self._create()
        with _connected(self.path) as database:
            self._check_schema(database)
            database.execute("PRAGMA synchronous = EXTRA")
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    def _create(self) -> None:
        """Make the database whole, then give it its name: an empty one is damaged, not new."""
        new = self.path + ".new"
        with statedir.told(new):
            # SQLite would make it readable for all.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(new, flags, 0o600))
        with _connected(new) as database:
            database.execute("PRAGMA journal_mode = MEMORY")
            database.execute("BEGIN")
            for statement in _TABLES:
                database.execute(statement)
            database.execute("INSERT INTO meta VALUES ('seed', ?)", (_seed(),))
            database.execute("COMMIT")
        with statedir.told(self.path):
            # The journal of a database that was moved aside would be played into this one.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + "-journal")
            os.rename(new, self.path)
            statedir.sync(self.directory)

    # -- what is there ----------------------------------------------------------------------------

    def _exists(self) -> bool:
        """Whether there is a registry; one that others could have written is refused."""
        with statedir.told(self.path), contextlib.suppress(FileNotFoundError):
            statedir.check(self.directory, stat.S_ISDIR, "directory")
            statedir.check(self.path, stat.S_ISREG, "file")
            return True
        return False

    def _check_schema(self, database: sqlite3.Connection) -> None:
        schema = database.execute("PRAGMA user_version").fetchone()[0]
        if schema > SCHEMA:
            raise RegistryError(
                f"{self.path} has schema {schema}, of a newer netops.underlay; this one knows"
                f" {SCHEMA}: use that version, or run its role prepare on this host again"
            )
        if schema < 1:
            raise _damaged(self.path, "it has no schema")


# --- rows ----------------------------------------------------------------------------------------


def _lay_over(database: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Leave behind what a plan made. A change of what is nobody's item, so not ours, is skipped."""
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
            old = final[where] if where in final else _stored(database, where)
            final[where] = Record(merged(old.spec if old else {}, change.after), change.of)
    gone = [where for where, record in final.items() if record is None]
    rows = [(*where, it.of, _encode(it.spec)) for where, it in final.items() if it]
    database.executemany("DELETE FROM objects WHERE kind = ? AND key = ?", gone)
    database.executemany("REPLACE INTO objects (kind, key, of, spec) VALUES (?, ?, ?, ?)", rows)


def _stored(database: sqlite3.Connection, where: Tuple[str, str]) -> Optional[Record]:
    query = "SELECT spec, of FROM objects WHERE kind = ? AND key = ?"
    row = database.execute(query, where).fetchone()
    return Record(json.loads(row[0]), row[1]) if row else None


def _settle(database: sqlite3.Connection, number: int, state: str) -> None:
    database.execute("UPDATE transactions SET state = ? WHERE number = ?", (state, number))


def _is_armed(database: sqlite3.Connection, number: int) -> bool:
    row = database.execute("SELECT value FROM meta WHERE name = 'guard'").fetchone()
    return bool(row) and Armed(*json.loads(row[0])).number == number


def _disarm(database: sqlite3.Connection, number: int) -> None:
    if _is_armed(database, number):
        database.execute("DELETE FROM meta WHERE name = 'guard'")


def _pack(plan: str) -> bytes:
    """A packed plan is a thirtieth of its size: fifty large ones are no burden."""
    return zlib.compress(plan.encode(), 1)


def _seed() -> str:
    """The host's machine-id(5) with its name: cloned machines may share either."""
    machine = ""
    with contextlib.suppress(OSError), open("/etc/machine-id", encoding="latin-1") as file:
        machine = file.read().strip()
    return statedir.printable(f"{machine} {os.uname().nodename}")


# --- SQLite --------------------------------------------------------------------------------------

#: What SQLite says of everything but damage, and the cure.
_CURES = {
    "full": "make room on its file system",
    "readonly": "make its file system writable, or give another state_dir",
    "unable to open": "let root read and write it and its directory",
    "disk I/O": "see what the kernel's log says of its disk",
    "locked": "end the process that holds it open (fuser names it)",
}


@contextlib.contextmanager
def _connected(path: str) -> Iterator[sqlite3.Connection]:
    """A connection to a database that exists, whose troubles are told in a sentence."""
    try:
        import sqlite3
    except ImportError:
        cure = "install it, or set ansible_python_interpreter to one that has it"
        raise RegistryError(f"{sys.executable} has no module sqlite3; {cure}") from None
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = None
    try:
        # A run that was killed leaves a journal, which the next connection plays back: so rw.
        database = sqlite3.connect(f"file:{quoted}?mode=rw", uri=True, isolation_level=None)
        database.execute("PRAGMA busy_timeout = 30000")
        yield database
    except sqlite3.OperationalError as error:
        for symptom, cure in _CURES.items():
            if symptom in str(error):
                raise RegistryError(f"{path}: {error}; {cure}") from None
        raise _damaged(path, str(error)) from None
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    finally:
        if database is not None:
            database.close()


def _damaged(what: str, how: str) -> RegistryError:
    return RegistryError(
        f"{what} is damaged ({how}); move registry.db aside (not away: it may still tell"
        " something), then run with adopt: true, which takes back the links that bear our mark"
    )
