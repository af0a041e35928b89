# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to the SQLite file of the registry, whose errors are explained."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Iterator

from ..core.errors import RegistryError

if TYPE_CHECKING:
    import sqlite3


#: What SQLite says of everything but damage, and the cure.
_FIXES = {
    "full": "make room on its file system",
    "readonly": "make its file system writable, or give another state_dir",
    "unable to open": "let root read and write it and its directory",
    "disk I/O": "check the kernel's log for errors of its disk",
    "locked": "end the process that holds it open (fuser names it)",
}


@contextlib.contextmanager
def connected(path: str) -> Iterator[sqlite3.Connection]:
    """A connection to a database that exists, whose errors are explained in a sentence."""
    try:
        import sqlite3
    except ImportError:
        fix = "install it, or set ansible_python_interpreter to one that has it"
        raise RegistryError(f"{sys.executable} has no module sqlite3; {fix}") from None
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = None
    try:
        # A run that was killed leaves a journal, which the next connection plays back: so rw.
        database = sqlite3.connect(f"file:{quoted}?mode=rw", uri=True, isolation_level=None)
        database.execute("PRAGMA busy_timeout = 30000")
        yield database
    except sqlite3.OperationalError as error:
        found = str(error)
        if "unable to open" in found and _takes_no_more_files(os.path.dirname(path)):
            found = "full"
        for symptom, fix in _FIXES.items():
            if symptom in found:
                raise RegistryError(f"{path}: {error}; {fix}") from None
        raise damaged(path, str(error)) from None
    except (sqlite3.Error, ValueError, RecursionError, OverflowError) as error:
        raise damaged(path, str(error)) from None
    finally:
        if database is not None:
            database.close()


def _takes_no_more_files(directory: str) -> bool:
    """Whether its file system has no inode left; one that counts none (btrfs) has."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return bool(found.f_files) and not found.f_ffree


def damaged(what: str, how: str) -> RegistryError:
    """The error for a registry that cannot be read."""
    return RegistryError(
        f"{what} is damaged ({how}); move registry.db aside (keep it: it may still"
        " be needed), then run with adopt: true, which takes back the links that have our mark"
    )
