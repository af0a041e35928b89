# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces: finding, entering, creating and removing them.

A workload is ``""`` (the namespace that the engine runs in), ``netns:NAME``, ``pid:N``,
``docker:NAME`` or ``podman:NAME``. The few system calls go through ctypes, which loads in 2 ms;
pyroute2 takes 160.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import stat
import struct
import sys
import time
from typing import Callable, Dict, Iterator, Optional, Set, Tuple, Union

from ..core.change import HOST
from ..core.errors import NamespaceError, NamespaceMissing, NetlinkError, WorkloadGone
from ..netlink import encode
from ..netlink.rtnetlink import Socket
from ..store import statedir
from . import containers, foreign_file
from .libc import call as _call
from .libc import library

#: Where iproute2 keeps named namespaces: a file each, on which the namespace is mounted.
RUN_DIR = "/run/netns"
#: Docker does the same with those of its containers.
_DOCKER_RUN_DIR = "/run/docker/netns"
#: The process whose mounts are the host's.
FIRST_PROCESS = 1
#: The namespace of the calling thread; /proc/self is that of the process's first one.
OWN = "/proc/thread-self/ns/net"

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2
#: What setns(2) says where no other answer will ever come; all else is want of memory, which may pass.
_NO_NAMESPACE = frozenset((errno.EBADF, errno.EINVAL, errno.EPERM, errno.ENOENT, errno.ESRCH, errno.ENOSYS))
_WAITS = (0.001, 0.01, 0.1, 0.5)  # seconds

#: listns(2), the same number on every architecture; FD_NSFS_ROOT and FILEID_NSFS of linux/fcntl.h and exportfs.h.
_SYS_LISTNS, _FD_NSFS_ROOT, _FILEID_NSFS = 470, -10003, 0xF1
_LISTNS_MANY = 512
#: The inodes of the first namespaces: PROC_USER_INIT_INO, PROC_PID_INIT_INO.
_INITIAL = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}
#: A sysctl that only the first network namespace has.
_OF_THE_INITIAL = "/proc/sys/net/core/netdev_max_backlog"
#: How mountinfo writes what would end a field.
_ESCAPED = re.compile(r"\\([0-7]{3})")

_AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_INO = -100, 0x4000, 0x100
#: Seconds in which all mounts in other mount namespaces have to open.
_TIME_LIMIT = 2.0

Identity = Tuple[int, int]


# --- system calls --------------------------------------------------------------------------------


def _enter(descriptor: int) -> None:
    """Raises OSError, for want of memory only when there is none for a while."""
    for wait in (*_WAITS, None):
        try:
            _call("setns", descriptor, _CLONE_NEWNET)
            return
        except OSError as error:
            if error.errno in _NO_NAMESPACE or wait is None:
                raise
            time.sleep(wait)


def _come_back(descriptor: int) -> None:
    """Into the namespace that was left; a process that cannot, ends: all that it did next would be done to another's."""
    try:
        try:
            _enter(descriptor)
        except KeyboardInterrupt:
            _enter(descriptor)
            raise
    except OSError as error:
        sys.stderr.write(
            f"netops.underlay: the network namespace cannot be left again: {error.strerror}; run it again\n"
        )
        sys.stderr.flush()
        os._exit(os.EX_OSERR)


@contextlib.contextmanager
def entered(where: Union[int, str]) -> Iterator[int]:
    """The calling thread is in a namespace, given as a descriptor or a path, and comes back. Yields
    a descriptor.

    Raises NamespaceError when it cannot be entered.
    """
    with contextlib.ExitStack() as stack:
        try:
            here = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, here)
            there = where
            if isinstance(there, str):
                there = os.open(there, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, there)
            _enter(there)
        except OSError as error:
            raise NamespaceError(f"the network namespace {where} cannot be entered: {error.strerror}") from None
        try:
            yield there
        finally:
            _come_back(here)


def use_mounts_of(pid: int) -> None:
    """See files and mounts as a process does, from now on. Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, _CLONE_NEWNS)
    finally:
        os.close(descriptor)


def identity(path: str) -> Identity:
    """What tells one namespace from every other. Raises OSError.

    A file of another file system is not asked for: one of FUSE or NFS may never answer.
    """
    answer = ctypes.create_string_buffer(256)  # struct statx
    if library().statx(_AT_FDCWD, os.fsencode(path), _AT_STATX_DONT_SYNC, _STATX_INO, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    major, minor = struct.unpack_from("=II", answer, 136)
    return os.makedev(major, minor), struct.unpack_from("=Q", answer, 32)[0]


# --- workloads -----------------------------------------------------------------------------------


def resolve(workload: str) -> str:
    """The path of a workload's namespace.

    Raises NamespaceError, and NamespaceMissing where a named namespace is not there.
    """
    kind, _rest, name = workload.partition(":")
    if workload == HOST:
        return OWN
    if kind == "netns":
        return _named(name)
    if kind == "pid":
        return _of_process(int(name) if name.isdecimal() else 0, workload)
    if kind in ("docker", "podman"):
        return _of_process(containers.process(kind, name), workload)
    if kind == "net":
        return _of_cookie(name)
    if kind == "nsid":
        raise WorkloadGone(f"{workload}: only a socket keeps that namespace, so it cannot be entered")
    raise NamespaceError(f"{workload!r} is not a workload: give netns:NAME, pid:N, docker:NAME or podman:NAME")


#: Namespaces that are known only by their inode and cookie, and are held so that they stay what they are for a run.
_held: Dict[str, int] = {}


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A run: at its end the namespaces that it held are let go. One that is held lives on with all that is in it."""
    try:
        yield
    finally:
        while _held:
            os.close(_held.popitem()[1])


def _of_cookie(which: str) -> str:
    """A namespace that is known only by its inode and cookie."""
    if which in _held:
        return f"/proc/self/fd/{_held[which]}"
    inode, _space, cookie = which.partition(" ")
    for _label, path, found in everything():
        if f"[{found[1]}]" != inode:
            continue
        descriptor = _held[which] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with entered(descriptor), Socket() as kernel:
            if str(kernel.cookie) == cookie:
                return f"/proc/self/fd/{descriptor}"
        os.close(_held.pop(which))
    raise WorkloadGone(f"net:{which}: there is no such network namespace any more")


def _file(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise NamespaceError(f"{name!r} is not a valid name for a network namespace: it must be a plain file name")
    return os.path.join(RUN_DIR, name)


def _named(name: str) -> str:
    path = _file(name)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise NamespaceMissing(f"there is no network namespace {name}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_dev != identity(OWN)[0]:
        raise NamespaceError(f"no network namespace is mounted on it, {path} is a leftover: ip netns del {name}")
    return path


def _of_process(pid: int, workload: str) -> str:
    path = f"/proc/{pid}/ns/net"
    try:
        os.stat(path)
    except FileNotFoundError:
        raise WorkloadGone(f"{workload}: there is no such process") from None
    except PermissionError:
        raise NamespaceError(f"{workload}: access to its network namespace is denied") from None
    return path


def started(workload: str) -> str:
    """When the process of a workload began, and in which boot: another one may get its number. Empty for no process.

    Raises WorkloadGone.
    """
    kind, _colon, pid = workload.partition(":")
    if kind != "pid":
        return ""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name is in parentheses and may hold anything; starttime is the 20th field after it (proc_pid_stat(5)).
            return f"{statedir.boot()} {file.read().rpartition(')')[2].split()[19]}"
    except OSError:
        raise WorkloadGone(f"{workload}: there is no such process") from None


def everything() -> Iterator[Tuple[str, str, Identity]]:
    """Every network namespace, once: its label, a path that holds for this step, and its identity.

    The label is ``netns:NAME``, else the path, or ``net:[INODE]`` where the kernel alone knows of it: see :func:`label`.
    Since Linux 6.19 the kernel lists them all. Before that they are those that are named, that a process is in or holds
    open, and that are mounted anywhere; one that only a socket or a message under way keeps alive is missed here, and
    found by its number where it has one: see ``observe``. What goes away meanwhile is left out.
    """
    seen: Set[Identity] = set()
    device = identity(OWN)[0]
    for name, path in _candidates(device, seen):
        try:
            which = identity(path)
        except OSError:
            continue
        if which[0] == device and which not in seen:
            seen.add(which)
            yield name or f"net:[{which[1]}]", path, which


def _candidates(device: int, seen: Set[Identity]) -> Iterator[Tuple[str, str]]:
    for name in _listed(RUN_DIR):
        yield f"netns:{name}", os.path.join(RUN_DIR, name)
    for name in _listed(_DOCKER_RUN_DIR):
        path = os.path.join(_DOCKER_RUN_DIR, name)
        yield path, path
    known = _known_to_the_kernel()
    told_all = known is not None and not _confined()
    for number in known or ():
        try:
            descriptor = _open_known(number)
        except OSError as error:  # gone meanwhile, or this process lacks a capability for it
            told_all = told_all and error.errno not in (errno.EPERM, errno.EACCES)
            continue
        try:
            yield "", f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    if not told_all:
        yield from ((path, path) for path in _processes())
        yield from _mounted(device, seen)
        yield from ((path, path) for path in _held_open())


def _confined() -> str:
    """The kind of namespace that this process has to itself, so that it does not see those outside."""
    return next((kind for kind, first in _INITIAL.items() if os.stat(f"/proc/self/ns/{kind}").st_ino != first), "")


def unseen() -> str:
    """Why some namespaces with links on this host's NICs may not be seen from here, in words; empty where they are.

    A container with a network namespace of its own has its own NICs; one with the host's shares them with all others.
    """
    kind = _confined()
    if kind and os.path.exists(_OF_THE_INITIAL):
        return f"the run is in a {kind} namespace of its own, as in a container"
    try:
        os.stat("/proc/1/ns/net")
    except OSError as error:
        return f"the network namespace of process 1 cannot be looked at: {error.strerror}"
    return ""


def label(which: Identity) -> str:
    """By what a namespace that has no name can be found: the process that is in it; empty for none."""
    for path in _processes():
        with contextlib.suppress(OSError):
            if identity(path) == which:
                return path
    return ""


def _known_to_the_kernel() -> Optional[list[int]]:
    """The ids of all network namespaces by listns(2); None before Linux 6.19, and where it is not allowed."""
    libc, found, last = library(), [], 0
    answer = (ctypes.c_uint64 * _LISTNS_MANY)()
    while True:
        request = struct.pack("=IIQIIQ", 32, 0, last, _CLONE_NEWNET, 0, 0)  # struct ns_id_req
        count = libc.syscall(_SYS_LISTNS, request, answer, ctypes.c_size_t(_LISTNS_MANY), 0)
        if count < 0:
            return None
        found += answer[:count]
        if count < _LISTNS_MANY:
            return found
        last = found[-1]


def _open_known(number: int) -> int:
    """A namespace by its id. Raises OSError."""
    # struct file_handle with struct nsfs_file_handle: the id, and no type and inode to compare
    handle = ctypes.create_string_buffer(struct.pack("=IiQII", 16, _FILEID_NSFS, number, 0, 0))
    descriptor: int = library().open_by_handle_at(_FD_NSFS_ROOT, handle, os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return descriptor


def _mounted(device: int, known: Set[Identity]) -> Iterator[Tuple[str, str]]:
    """The other namespaces that are mounted, in every mount namespace that a process is in: their paths, opened."""
    seen: Set[int] = set()
    end = time.monotonic() + _TIME_LIMIT
    for name in filter(str.isdecimal, _listed("/proc")):
        with contextlib.suppress(OSError):
            mounts = os.stat(f"/proc/{name}/ns/mnt").st_ino
            if mounts in seen:
                continue
            seen.add(mounts)
            with open(f"/proc/{name}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                rows = [line.split() for line in file if " - nsfs " in line]
            for row in rows:
                # The root within nsfs is what is mounted; the path to it leads through what the container has mounted.
                if not row[3].startswith("net:[") or (device, int(row[3][5:-1])) in known:
                    continue
                path = f"/proc/{name}/root" + _ESCAPED.sub(lambda found: chr(int(found[1], 8)), row[4])
                with contextlib.suppress(OSError):
                    descriptor = foreign_file.open_of_device(path, device, end)
                    try:
                        yield path, f"/proc/self/fd/{descriptor}"
                    finally:
                        os.close(descriptor)


def _held_open() -> Iterator[str]:
    """The descriptors of all processes that may be namespaces: a link's text is the file that was opened."""
    for name in filter(str.isdecimal, _listed("/proc")):
        for number in _listed(f"/proc/{name}/fd"):
            path = f"/proc/{name}/fd/{number}"
            with contextlib.suppress(OSError):
                if not os.readlink(path).startswith(("socket:", "pipe:", "anon_inode:")):
                    yield path


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _processes() -> Iterator[str]:
    for name in _listed("/proc"):
        if name.isdecimal():
            yield f"/proc/{name}/ns/net"


def inhabited() -> Set[Identity]:
    """The namespaces that processes are in."""
    found: Set[Identity] = set()
    for path in _processes():
        try:
            found.add(identity(path))
        except OSError:
            pass
    return found


# --- making and removing named namespaces --------------------------------------------------------


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
                _call("unshare", _CLONE_NEWNET)
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
    """Remove the file of a named namespace on which none is mounted: the run that created or removed it was killed in between."""
    kind, _colon, name = workload.partition(":")
    if kind != "netns":
        return
    path = _file(name)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(path).st_mode) and os.stat(path).st_dev != identity(OWN)[0]:
            os.unlink(path)
