# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that the engine keeps its state in: who may have written there, and who is at work.

Only fixed names ever follow its path; nothing that an option said becomes part of one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from typing import Callable, Iterator

_OWN = "give a state_dir of root's own that nobody else can write"
_ELSEWHERE = "make its file system writable, or give another state_dir"
_ROOM = "make room on its file system"
_BECOME = "run the task with become: true"
_CURES = {
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _BECOME,
}


class RegistryError(Exception):
    """The registry cannot be used; the text says what, where, and what to do."""


class Busy(RegistryError):
    """Somebody else is at work on this host."""


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Tell what the operating system says of a path in a sentence with the cure: RegistryError."""
    try:
        yield
    except FileNotFoundError:
        missing = os.path.dirname(path)
        cure = "create it, or give another state_dir"
        raise RegistryError(f"{missing} does not exist; {cure}") from None
    except OSError as error:
        cure = _CURES.get(error.errno or 0, _OWN)
        raise RegistryError(f"{path}: {error.strerror}; {cure}") from None


def check(path: str, is_right: Callable[[int], bool], kind: str) -> None:
    """Refuse what others could have put there. Raises RegistryError, and OSError of lstat(2)."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise RegistryError(f"{path} is a symbolic link; {_OWN}")
    if not is_right(found.st_mode):
        raise RegistryError(f"{path} is not a {kind}; {_OWN}")
    if found.st_uid != os.geteuid():
        whose = f"{path} belongs to user {found.st_uid}, and this runs as user {os.geteuid()}"
        raise RegistryError(f"{whose}; {_BECOME if os.geteuid() else _OWN}")
    if found.st_mode & 0o022:
        cure = f"see that all in it is right, then chmod go-w {path}, or {_OWN}"
        raise RegistryError(f"{path} can be written by others; {cure}")


def room(directory: str, size: int) -> None:
    """Raises RegistryError where the file system has no ``size`` bytes left."""
    with told(directory):
        system = os.statvfs(directory)
        if system.f_blocks and system.f_bfree * system.f_frsize < size:
            raise OSError(errno.ENOSPC, f"{size >> 10} KiB are needed and are not free")


def sync(directory: str) -> None:
    """Have the names in a directory on the disk. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make(directory: str) -> None:
    """Make the directory (not those around it: who mistypes a path shall hear of it)."""
    with told(directory):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            sync(os.path.dirname(directory))
        check(directory, stat.S_ISDIR, "directory")


@contextlib.contextmanager
def lock(directory: str, timeout: float, who: str) -> Iterator[None]:
    """Keep everybody else from changing this host, as long as the context or the process lasts.

    Raises Busy, naming the holder, when it is not to be had within ``timeout`` seconds.
    """
    handle = _lock_file(os.path.join(directory, "lock"), time.monotonic() + timeout)
    try:
        _sign(handle, f"{printable(who)} (process {os.getpid()}) since {now()}")
        yield
    finally:
        _sign(handle, "")
        os.close(handle)


def _lock_file(path: str, until: float) -> int:
    """The lock file, open and locked before the monotonic clock says ``until``."""
    while True:
        with told(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_nlink:
                    return handle
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(handle, 500, 0).decode("utf-8", "replace") or "somebody"
                    os.close(handle)
                    cure = "wait for it, or give a longer lock_timeout"
                    raise Busy(f"this host is being changed by {holder}; {cure}") from None
            # Somebody has it, or has removed it together with its directory.
            os.close(handle)
        time.sleep(0.02)


def _sign(handle: int, text: str) -> None:
    """Say in the lock file who has it; a full disk keeps nobody from having it."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def printable(text: str) -> str:
    """A text that is safe in a message, a file and a database, whatever the environment held."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def now() -> str:
    """ISO 8601 in UTC, for people: nothing is ordered by it, for clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def boot() -> str:
    """What tells this boot of the host from every other; empty where /proc does not say."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


def uptime() -> float:
    """Seconds since the boot, those asleep too; no clock that is set changes them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
