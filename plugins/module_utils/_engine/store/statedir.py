# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state directory: who may have written to it, and which run holds the lock.

Only fixed names ever follow its path; nothing that an option said becomes part of one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hmac
import os
import stat
import time
from typing import Callable, Iterator, TextIO

from ..core.errors import RegistryBusy, RegistryError
from ..core.text import one_line

_OWN = "give a state_dir that only root can write"
_ELSEWHERE = "make its file system writable, or give another state_dir"
_ROOM = "make room on its file system"
_BECOME = "run the task with become: true"
_FIXES = {
    errno.EROFS: _ELSEWHERE,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _BECOME,
}


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn OSError about a path into RegistryError: a sentence with the fix."""
    try:
        yield
    except FileNotFoundError:
        missing = os.path.dirname(path)
        fix = "create it, or give another state_dir"
        raise RegistryError(f"{missing} does not exist; {fix}") from None
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, _OWN)
        raise RegistryError(f"{path}: {error.strerror}; {fix}") from None


def check(path: str, is_right: Callable[[int], bool], kind: str) -> None:
    """Refuse files that others could have put there. Raises RegistryError, and OSError of lstat(2)."""
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise RegistryError(f"{path} is a symbolic link; {_OWN}")
    if not is_right(found.st_mode):
        raise RegistryError(f"{path} is not a {kind}; {_OWN}")
    if found.st_uid != os.geteuid():
        whose = f"{path} belongs to user {found.st_uid}, and this runs as user {os.geteuid()}"
        raise RegistryError(f"{whose}; {_BECOME if os.geteuid() else _OWN}")
    if found.st_mode & 0o022:
        fix = f"check what is in it, then chmod go-w {path}, or {_OWN}"
        raise RegistryError(f"{path} is writable by others; {fix}")


def room(directory: str, size: int) -> None:
    """Raises RegistryError where the file system has no ``size`` bytes left."""
    with explained(directory):
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
    """Make the directory (not those around it: so that a mistyped path is an error)."""
    with explained(directory):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
            sync(os.path.dirname(directory))
        check(directory, stat.S_ISDIR, "directory")


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a plain file, whatever is in its place: nothing is followed, and no FIFO waited for.

    ``flags`` are those of open(2). Raises RegistryError where it is no plain file of this user's, and OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        check(path, stat.S_ISREG, "file")
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)


@contextlib.contextmanager
def replace(path: str, mode: int = 0o600) -> Iterator[TextIO]:
    """A file that is written beside its place and then put there: readers have the old one or the new one, whole.

    Raises RegistryError.
    """
    new = path + ".new"
    with explained(path):
        handle = open_file(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            yield file
        os.replace(new, path)


@contextlib.contextmanager
def lock(directory: str, timeout: float, who: str, name: str = "lock") -> Iterator[None]:
    """Keep other runs from changing this host, as long as the context or the process lasts.

    Raises RegistryBusy, naming the holder, when it is not to be had within ``timeout`` seconds.
    """
    handle = _lock_file(os.path.join(directory, name), time.monotonic() + timeout)
    try:
        _sign(handle, f"{one_line(who)} (process {os.getpid()}) since {now()}")
        yield
    finally:
        _sign(handle, "")
        os.close(handle)


def _lock_file(path: str, until: float) -> int:
    """The lock file, open and locked before the monotonic clock says ``until``."""
    while True:
        with explained(path):
            handle = open_file(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_nlink:
                    return handle
            except BlockingIOError:
                if time.monotonic() >= until:
                    holder = os.pread(handle, 500, 0).decode("utf-8", "replace") or "somebody"
                    os.close(handle)
                    fix = "wait for it, or give a longer lock_timeout"
                    raise RegistryBusy(f"this host is being changed by {holder}; {fix}") from None
            # Somebody has it, or has removed it together with its directory.
            os.close(handle)
        time.sleep(0.02)


def _sign(handle: int, text: str) -> None:
    """Write into the lock file who has it; a full disk does not prevent the lock."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)


def now() -> str:
    """ISO 8601 in UTC, for people: nothing is ordered by it, for clocks jump."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


#: Of this application: machine-id(5) itself is to be kept from others.
APPLICATION = bytes.fromhex("88208bda784f785af640377ed7bd8022")


def machine() -> str:
    """What tells this machine from its clones, as sd_id128_get_machine_app_specific(3) makes it of the machine-id.

    Empty where there is none that outlives the boot.
    """
    if os.path.exists("/run/machine-id"):  # made for this boot, where /etc cannot be written
        return ""
    with contextlib.suppress(OSError, ValueError), open("/etc/machine-id", encoding="ascii") as file:
        key = bytes.fromhex(file.read().strip())
        if len(key) == 16:
            found = bytearray(hmac.digest(key, APPLICATION, "sha256")[:16])
            found[6], found[8] = found[6] & 0x0F | 0x40, found[8] & 0x3F | 0x80  # a UUID of version 4
            return found.hex()
    return ""


def boot() -> str:
    """What tells this boot of the host from every other; empty where /proc does not say."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


def uptime() -> float:
    """Seconds since the boot, those asleep too; no clock that is set changes them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
