# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named network namespaces: finding, making and removing them, as ``ip netns`` does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Callable, Iterator, Optional

from ..core.errors import NamespaceError, NamespaceMissing, NetlinkError
from ..netlink import encode
from ..netlink.rtnetlink import Socket
from .libc import call as _call
from .namespaces import CLONE_NEWNET, OWN, Identity, entered, identity, use_mounts_of

#: Where iproute2 keeps named namespaces: a file each, on which the namespace is mounted.
RUN_DIR = "/run/netns"
#: The process whose mounts are the host's.
FIRST_PROCESS = 1
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2


def _file(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise NamespaceError(f"{name!r} is not a valid name for a network namespace: it must be a plain file name")
    return os.path.join(RUN_DIR, name)


def path_of(name: str) -> str:
    """Where a named namespace is mounted. Raises NamespaceMissing where it is not there, and NamespaceError for a leftover."""
    path = _file(name)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise NamespaceMissing(f"there is no network namespace {name}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_dev != identity(OWN)[0]:
        raise NamespaceError(f"no network namespace is mounted on it, {path} is a leftover: ip netns del {name}")
    return path


def create(name: str, mark: str) -> None:
    """A new namespace under a name, as ``ip netns add`` makes it, but with its loopback up and ``mark`` as its alias.

    Without a loopback nothing in it reaches ``localhost``, nor its own addresses and names. It is marked before it has
    a name, so that a run that is killed leaves none that look like those of others. Raises NamespaceError, also
    where the name is taken.
    """
    if _is_apart():
        _where_the_host_sees_it(lambda: _create(name, mark))
    else:
        _create(name, mark)


def _is_apart() -> bool:
    """Whether the host sees the files in RUN_DIR, but not what is mounted on them here, as under ``ip netns exec``."""
    with contextlib.suppress(OSError):
        here, there = (os.stat(f"/proc/{process}/ns/mnt").st_ino for process in ("self", FIRST_PROCESS))
        return here != there and os.path.samefile(RUN_DIR, f"/proc/{FIRST_PROCESS}/root{RUN_DIR}")
    return False


def _where_the_host_sees_it(action: Callable[[], None]) -> None:
    """Do something with the mounts of the first process, which those here follow. Raises NamespaceError."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        text = "the child process died"
        try:
            use_mounts_of(FIRST_PROCESS)
            action()
            text = ""
        except (OSError, NamespaceError) as error:
            text = str(error)
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as file:
        text = file.read()
    os.waitpid(child, 0)
    if text:
        raise NamespaceError(text)


def _create(name: str, mark: str) -> None:
    path, made = _file(name), None
    try:
        with _run_dir():
            place = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0)
        try:
            with entered(OWN):
                _call("unshare", CLONE_NEWNET)
                made = identity(OWN)
                with Socket() as kernel:
                    kernel.request(encode.change_link("lo", encode.link_attribute("alias", mark), up=True))
                # On our own file: by its name another's may be there by now.
                _call("mount", OWN.encode(), f"/proc/self/fd/{place}".encode(), b"none", _MS_BIND, None)
        except BaseException:
            _give_up(name, place, made)
            raise
        finally:
            os.close(place)
    except FileExistsError:
        raise NamespaceError(f"there is a network namespace {name} already") from None
    except (OSError, NetlinkError) as error:
        raise NamespaceError(f"the network namespace {name} cannot be made: {error}") from None


def _give_up(name: str, place: int, made: Optional[Identity]) -> None:
    """Remove what was made of a namespace: its mount, and the file (``place``) where that is still by the name."""
    with contextlib.suppress(OSError, NamespaceError):
        if made is not None:
            remove(name, made)
        if os.path.samestat(os.fstat(place), os.lstat(_file(name))):
            os.unlink(_file(name))


@contextlib.contextmanager
def _run_dir() -> Iterator[None]:
    """The directory is there, and what is mounted below it is seen in every mount namespace."""
    os.makedirs(RUN_DIR, 0o755, exist_ok=True)
    lock = os.open(RUN_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would mount it on itself twice; iproute2 does the same
        path = os.fsencode(RUN_DIR)
        try:
            _call("mount", b"none", path, b"none", _MS_SHARED | _MS_REC, None)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is no mount point yet
                raise
            _call("mount", path, path, b"none", _MS_BIND | _MS_REC, None)
            _call("mount", b"none", path, b"none", _MS_SHARED | _MS_REC, None)
        yield
    finally:
        os.close(lock)


def remove(name: str, which: Optional[Identity] = None) -> None:
    """Remove a namespace's name; the namespace goes when no process is in it.

    Nothing where there is none, or by that name another than ``which``. Raises NamespaceError.
    """
    path = _file(name)
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        found = os.fstat(place)
        if which not in (None, (found.st_dev, found.st_ino)):
            return
        with contextlib.suppress(FileNotFoundError):
            _unmount(f"/proc/self/fd/{place}")  # that very one, whatever is mounted there by now
            os.unlink(path)
    except OSError as error:
        if which is None or error.errno != errno.EBUSY:  # else somebody mounted theirs there meanwhile
            raise NamespaceError(f"the network namespace {name} cannot be removed: {error.strerror}") from None
    finally:
        os.close(place)


def _unmount(path: str) -> None:
    """Nothing where nothing is mounted. Raises OSError."""
    try:
        _call("umount2", os.fsencode(path), _MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def tidy(workload: str) -> None:
    """Remove the file of a named namespace on which none is mounted: the run that created or removed it got no further."""
    kind, _colon, name = workload.partition(":")
    if kind != "netns":
        return
    path = _file(name)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(path).st_mode) and os.stat(path).st_dev != identity(OWN)[0]:
            os.unlink(path)
