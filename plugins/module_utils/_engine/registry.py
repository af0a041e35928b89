# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we made, who asked for it and who holds which address: the part of a host that no kernel keeps.

One SQLite file. Every change of a finished plan is laid over its ``objects``; a plan under way stands in the
``journal`` before the kernel is touched, so that a run killed at any instant is found and undone by the next.
The rollback journal of SQLite with ``synchronous=FULL`` survives a power cut, and leaves one file to copy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import stat
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from .world import Change, Record, Records

SCHEMA = 1
#: How many finished transactions are kept for ``underlay undo``.
KEPT = 50

_TABLES = """
CREATE TABLE objects (kind TEXT, key TEXT, of TEXT, spec TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE transactions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT, time TEXT, who TEXT, owner TEXT, grp INTEGER, changes TEXT
);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
"""


class RegistryError(Exception):
    """The registry cannot be used; the text says what, where, and what to do."""


class Busy(RegistryError):
    """Somebody else is at work on this host."""


class Transaction(NamedTuple):
    """One plan that was carried out or is under way. ``state`` is pending, applied, confirmed or undone."""

    number: int
    state: str
    time: str  # ISO 8601, UTC; for people only, order is by number
    who: str
    owner: str
    group: int
    changes: List[Change]


class Registry:
    """The registry of a host, in one directory that only root may enter."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = os.path.join(directory, "registry.db")

    # -- reading (creates nothing) ----------------------------------------------------------------

    def load(self) -> Records:
        """Every object, by kind and key; nothing where nothing was ever made."""
        records: Records = {}
        with self._reading() as database:
            if database is None:
                return records
            rows = database.execute("SELECT kind, key, of, spec FROM objects").fetchall()
        specs = json.loads("[" + ",".join(row[3] for row in rows) + "]")
        for (kind, key, of, _), spec in zip(rows, specs):
            records.setdefault(kind, {})[key] = Record(spec, of)
        return records

    def seed(self) -> str:
        """What is random about this host, and stays."""
        with self._reading() as database:
            row = database.execute("SELECT value FROM meta WHERE name = 'seed'").fetchone() if database else None
        return str(row[0]) if row else _machine_id()

    def pending(self) -> Optional[Transaction]:
        """The plan that a killed run left behind."""
        return next(iter(self._transactions("WHERE state = 'pending'", 1)), None)

    def transactions(self, limit: int = KEPT) -> List[Transaction]:
        """The last transactions, the newest first."""
        return self._transactions("", limit)

    def _transactions(self, where: str, limit: int) -> List[Transaction]:
        with self._reading() as database:
            if database is None:
                return []
            rows = database.execute(
                f"SELECT number, state, time, who, owner, grp, changes FROM transactions {where} ORDER BY number DESC LIMIT ?", (limit,)
            ).fetchall()
        return [Transaction._make([*row[:6], [Change(*change) for change in json.loads(row[6])]]) for row in rows]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Optional[sqlite3.Connection]]:
        if not os.path.exists(self.path):
            yield None
            return
        self._check_directory()
        with self._connected(f"file:{_quoted(self.path)}?mode=ro") as database:
            yield database

    # -- writing ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, timeout: float, who: str) -> Iterator[None]:
        """Keep everybody else from changing this host. Raises Busy, naming the holder, after ``timeout`` seconds."""
        self._make_directory()
        path = os.path.join(self.directory, "lock")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RegistryError(_sentence(path, error)) from None
        try:
            self._wait_for(handle, timeout)
            _write_holder(handle, path, f"{who} (process {os.getpid()}) since {_now()}")
            yield
        finally:
            os.close(handle)

    @staticmethod
    def _wait_for(handle: int, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(handle, 500, 0).decode("utf-8", "replace").strip() or "somebody"
                    raise Busy(f"this host is being changed by {holder}; wait for it, or give a longer lock_timeout") from None
                time.sleep(0.05)

    def begin(self, who: str, owner: str, changes: Sequence[Change], group: int) -> int:
        """Write down a plan before the kernel is touched; it is on the disk when this returns."""
        with self._writing() as database:
            cursor = database.execute(
                "INSERT INTO transactions (state, time, who, owner, grp, changes) VALUES ('pending', ?, ?, ?, ?, ?)",
                (_now(), who, owner, group, json.dumps(changes)),
            )
            return int(cursor.lastrowid or 0)

    def finish(self, number: int, changes: Sequence[Change]) -> None:
        """The plan is carried out: lay its changes over the objects, all of them at once."""
        with self._writing() as database:
            gone = [(change.kind, change.key) for change in changes if change.of and change.after is None]
            database.executemany("DELETE FROM objects WHERE kind = ? AND key = ?", gone)
            database.executemany("REPLACE INTO objects (kind, key, of, spec) VALUES (?, ?, ?, ?)", _laid_over(database, changes))
            database.execute("UPDATE transactions SET state = 'applied' WHERE number = ?", (number,))
            database.execute("DELETE FROM transactions WHERE number <= ? AND state != 'pending'", (number - KEPT,))

    def forget(self, number: int) -> None:
        """The plan was undone: it stays in the list for people, and is pending no more."""
        with self._writing() as database:
            database.execute("UPDATE transactions SET state = 'undone' WHERE number = ?", (number,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._make_directory()
        new = not os.path.exists(self.path)
        if new:
            # SQLite would make it readable for all.
            try:
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            except OSError as error:
                raise RegistryError(_sentence(self.path, error)) from None
        with self._connected(f"file:{_quoted(self.path)}?mode=rw") as database:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("BEGIN IMMEDIATE")
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _TABLES.strip().split(";"):
                    database.execute(statement)
                database.executemany("INSERT INTO meta VALUES (?, ?)", [("schema", str(SCHEMA)), ("seed", _machine_id())])
            yield database
            database.execute("COMMIT")

    @contextlib.contextmanager
    def _connected(self, uri: str) -> Iterator[sqlite3.Connection]:
        """A connection whose troubles are told in a sentence."""
        database = None
        try:
            database = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
            self._check_schema(database)
            yield database
        except sqlite3.Error as error:
            raise RegistryError(
                f"{self.path}: {error}; put the file aside, then run with adopt: true, which takes back the links that bear our mark"
                if "malformed" in str(error) or "not a database" in str(error)
                else f"{self.path}: {error}; make room or make the file system writable, nothing was changed"
            ) from None
        finally:
            if database is not None:
                database.close()

    def _check_schema(self, database: sqlite3.Connection) -> None:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return
        row = database.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if row is None or int(row[0]) != SCHEMA:
            raise RegistryError(
                f"{self.path} has schema {row and row[0]}, this engine knows {SCHEMA}; "
                "use the newer netops.underlay that wrote it (its role prepare refreshes the host's own engine)"
            )

    # -- the directory ----------------------------------------------------------------------------

    def _make_directory(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.directory) or "/", exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
        except OSError as error:
            raise RegistryError(_sentence(self.directory, error)) from None
        self._check_directory()

    def _check_directory(self) -> None:
        """Nobody but us may have put anything there."""
        found = os.lstat(self.directory)
        cure = "give state_dir a directory of root's own that nobody else can write"
        if not stat.S_ISDIR(found.st_mode):
            raise RegistryError(f"{self.directory} is not a directory; {cure}")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise RegistryError(f"{self.directory} can be written by others than user {os.geteuid()}; {cure}")


def _laid_over(database: sqlite3.Connection, changes: Sequence[Change]) -> List[Any]:
    """The rows that a plan leaves behind. What bears no item's name is not ours, and is not recorded."""
    rows: Dict[Any, Any] = {}
    for change in changes:
        where = (change.kind, change.key)
        if not change.of:
            continue
        if change.after is None:
            rows.pop(where, None)
            continue
        spec = change.after
        if change.before is not None:
            old = rows[where][1] if where in rows else _spec(database, *where)
            spec = {**old, **spec}
            if "sysctls" in old and "sysctls" in change.after:
                spec["sysctls"] = {**old["sysctls"], **change.after["sysctls"]}
        rows[where] = (change.of, spec)
    return [(*where, of, json.dumps(spec)) for where, (of, spec) in rows.items()]


def _spec(database: sqlite3.Connection, kind: str, key: str) -> Dict[str, Any]:
    row = database.execute("SELECT spec FROM objects WHERE kind = ? AND key = ?", (kind, key)).fetchone()
    return dict(json.loads(row[0])) if row else {}


def _write_holder(handle: int, path: str, text: str) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError as error:
        raise RegistryError(_sentence(path, error)) from None


def _machine_id() -> str:
    """systemd's machine-id(5): random, and the same over reboots."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return os.uname().nodename


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _quoted(path: str) -> str:
    """A path inside an SQLite URI."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _sentence(path: str, error: OSError) -> str:
    cures = {
        errno.EROFS: "its file system is read-only: make it writable, or give another state_dir",
        errno.ENOSPC: "its file system is full: make room",
        errno.ELOOP: "it is a symbolic link: give a state_dir of root's own",
    }
    cure = cures.get(error.errno or 0, "give a state_dir that root can write")
    return f"{path}: {error.strerror}; {cure}, nothing was changed"
