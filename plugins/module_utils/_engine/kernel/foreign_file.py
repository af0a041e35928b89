# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file inside a container, which the container's root controls: another process opens it, for a limited time.

That process has the rights of the container's root and no more: its user namespace, its uid, no capability. So it can
write nothing that the container could not write itself, whatever is linked or mounted there. And it holds none of our
files, so a FIFO, a lease or a file system that never answers stops that process and not the engine's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import stat
import struct
import time
from typing import Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Set, Tuple, Union

from ..core.errors import WorkloadFileError, WorkloadFileSlow
from .libc import call, library

#: Seconds in which a container's file is opened, read and written; all containers of a call share them.
TIME_LIMIT = 2.0
_FOR_EACH = 0.02
#: Larger than any sensible file of names; more is not read into memory.
SIZE_LIMIT = 16 * 1024 * 1024
#: How the file is opened: a lease on it is an error at once, not 45 s later.
FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: How a last line begins that is about to be cut off; a comment to all who read such files.
REST = b"# netops.underlay "

_NO_OPENAT2 = (
    "this kernel has no openat2 (Linux 5.6), and without it a link in the container could lead to a file of the host"
)
_SYS_OPENAT2 = 437  # the same number on every architecture (include/uapi/asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_SET_PDEATHSIG = 1
_DONE, _REFUSED = b"+", b"-"

#: What is to become of a file: its new text, from its old one; None leaves it alone.
Edit = Callable[[bytes], Optional[bytes]]

#: The processes whose file did not answer in time: they get no second chance to delay this run.
_silent: Set[int] = set()


def edit(
    path: str, edits: Mapping[str, Tuple[int, Edit]], bare: bytes = b""
) -> Dict[str, Union[bytes, WorkloadFileError]]:
    """Edit the file of each container, given by a PID in it, all at once: the old text of each, or why it cannot be.

    ``path`` is relative to the root of the mount namespace. A file that is not there is made where something is to be
    written, from the text ``bare``, and taken away where no more than that would be left; without it that is an error.
    What cannot be opened for writing, or made, is an error also where nothing is to be written. The limit is longer
    where there are many containers, each of which needs the processor.
    """
    found: Dict[str, Union[bytes, WorkloadFileError]] = {}
    running: Dict[int, _Child] = {}
    poll = select.poll()
    for name, (pid, wanted) in edits.items():
        if pid in _silent:
            found[name] = _too_slow(path)
            continue
        child = _Child(name, pid, path, wanted, bare)
        running[child.pipe] = child
        poll.register(child.pipe, select.POLLIN)
    end = time.monotonic() + TIME_LIMIT + _FOR_EACH * len(running)
    while running:
        for descriptor, _events in poll.poll(max(0, (end - time.monotonic()) * 1000)):
            child = running[descriptor]
            if not child.hear():
                poll.unregister(descriptor)
                found[running.pop(descriptor).name] = child.result()
        if time.monotonic() >= end:
            break
    for child in running.values():
        child.give_up()
        _silent.add(child.pid)
        found[child.name] = _too_slow(path)
    return found


def open_of_device(path: str, device: int, end: float) -> int:
    """A file for reading, if it opens before the monotonic clock says ``end`` and is on a device. Raises OSError."""
    if time.monotonic() >= end:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), path)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                _let_go(theirs.fileno())
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                if os.fstat(place).st_dev == device:
                    socket.send_fds(theirs, [_DONE], [os.open(f"/proc/self/fd/{place}", os.O_RDONLY)])
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(max(0.001, end - time.monotonic()))
        try:
            found = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)[1]
        except OSError:  # Python 3.9 has no TimeoutError of a socket
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, os.WNOHANG)
            raise
        os.waitpid(child, 0)
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return found[0]


def _title(path: str) -> str:
    """What a file is called in messages."""
    return "hosts file" if path == "etc/hosts" else os.path.basename(path)


def _too_slow(path: str) -> WorkloadFileSlow:
    return WorkloadFileSlow(f"its {_title(path)} did not open within {TIME_LIMIT:.0f} s")


def reason(error: OSError, path: str) -> WorkloadFileError:
    """Why a file, by its path below the root, cannot be written."""
    if isinstance(error, FileNotFoundError):
        return WorkloadFileError(f"it has no /{path}")
    known = {
        errno.EAGAIN: "a process holds a lease on it",
        errno.ELOOP: "a symbolic link is on the way to it",
    }
    why = known.get(error.errno or 0, error.strerror)
    return WorkloadFileError(f"its {_title(path)} cannot be written: {why}")


def check(found: os.stat_result, system: os.statvfs_result, host_file: Optional[os.stat_result]) -> None:
    """Refuse what is no file of the workload's own. Raises OSError."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if not system.f_blocks:  # proc, sysfs and their like have none, and what is written there acts on the host
        raise OSError(errno.EINVAL, "it is a kernel setting, not a file")
    if found.st_size > SIZE_LIMIT:
        raise OSError(errno.EFBIG, "it is larger than any such file")
    if host_file is not None and os.path.samestat(found, host_file):
        raise OSError(errno.EPERM, "it is the host's own, mounted there")


def rewrite(descriptor: int, wanted: Edit) -> bytes:
    """Write what is wanted into an open file, in place; its old text. Raises OSError.

    It is one write that covers all of the old text, so that a run that is killed leaves no end of it: what is too long
    then is a line that begins with ``REST``.
    """
    try:
        old = _read(descriptor)
        new = wanted(old)
        if new is not None:
            rest = REST + b"." * (len(old) - len(new) - len(REST) - 1) + b"\n" if len(new) < len(old) else b""
            if os.pwrite(descriptor, new + rest, 0) < len(new + rest):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.ftruncate(descriptor, len(new))
        return old
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    """All of a file, or its first SIZE_LIMIT bytes where its file system lies about its size. Raises OSError."""
    found = os.read(descriptor, min(os.fstat(descriptor).st_size, SIZE_LIMIT) + 1)
    while len(found) < SIZE_LIMIT and (more := os.read(descriptor, 1 << 16)):
        found += more
    return found


def _of_the_host(path: str) -> Optional[os.stat_result]:
    """What the host has at a path below its root; None for nothing."""
    with contextlib.suppress(OSError):
        return os.stat(os.path.join("/", path))
    return None


class _Child:
    """The process that opens the file of one container."""

    def __init__(self, name: str, pid: int, path: str, wanted: Edit, bare: bytes) -> None:
        self.name = name
        self.pid = pid
        self._path = path
        self._heard: List[bytes] = []
        engine = os.getpid()
        hosts_own = _of_the_host(path), _of_the_host(os.path.dirname(path))
        self.pipe, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _work(engine, writing, lambda: _edit(pid, path, wanted, bare, hosts_own))
        os.close(writing)

    def hear(self) -> bool:
        """Take what it says; False when it has ended."""
        text = os.read(self.pipe, 1 << 20)
        self._heard.append(text)
        return bool(text)

    def result(self) -> Union[bytes, WorkloadFileError]:
        os.close(self.pipe)
        os.waitpid(self._child, 0)
        said = b"".join(self._heard)
        if said[:1] == _DONE:
            return said[1:]
        number, _space, text = said[1:].decode(errors="replace").partition(" ")
        if said[:1] == _REFUSED and number.isdecimal():
            return reason(OSError(int(number), text), self._path)
        return WorkloadFileError(f"what opens its {_title(self._path)} was killed")

    def give_up(self) -> None:
        os.close(self.pipe)
        os.kill(self._child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # a file system may keep it from ending: it is not waited for
            os.waitpid(self._child, os.WNOHANG)


def _work(engine: int, pipe: int, work: Callable[[], bytes]) -> NoReturn:
    """Everything that the child does; it never returns."""
    try:
        _let_go(pipe)
        try:
            said = _DONE + work()
        except OSError as error:
            said = _REFUSED + f"{error.errno or errno.EIO} {error.strerror}".encode()
        if os.getppid() == engine:
            _write_all(pipe, said)
    finally:
        os._exit(0)


def _let_go(pipe: int) -> None:
    """Hold nothing of the engine's open: a child that hangs would keep its lock, and the connection of its output."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in (0, 1, 2, pipe):
            with contextlib.suppress(OSError):
                os.close(int(name))


def _write_all(pipe: int, said: bytes) -> None:
    while said:
        said = said[os.write(pipe, said) :]


def _edit(pid: int, path: str, wanted: Edit, bare: bytes, hosts_own: Sequence[Optional[os.stat_result]]) -> bytes:
    try:
        root, users = _root_of(pid)
    except FileNotFoundError:
        raise OSError(errno.ESRCH, "its process ended") from None
    descriptors = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _become_root_of(users)
    try:
        place = _find(root, path.encode())
    except FileNotFoundError:
        if not bare:
            raise
        new = wanted(bare)
        directory = _directory(root, path, hosts_own[1])
        if not os.access(str(directory), os.W_OK | os.X_OK, dir_fd=descriptors):
            raise OSError(errno.EACCES, "nothing can be made in its directory") from None
        if new is not None and new != bare:
            _make(directory, os.path.basename(path), new)
        return b""
    found = os.fstat(place)
    check(found, os.fstatvfs(place), hosts_own[0])
    if found.st_uid != 0:  # as its user namespace sees it
        raise OSError(errno.EPERM, "it does not belong to the container's root")
    old = rewrite(os.open(str(place), FLAGS, dir_fd=descriptors), wanted)
    if bare and wanted(old) == bare:
        with contextlib.suppress(OSError):  # it stays where something is mounted on it: it says nothing any more
            _remove(_directory(root, path, hosts_own[1]), os.path.basename(path), found)
    return old


def _directory(root: int, path: str, hosts_own: Optional[os.stat_result]) -> int:
    """The directory of a file, if it is the container's root's. Raises OSError."""
    place = _find(root, os.path.dirname(path).encode())
    found = os.fstat(place)
    if hosts_own is not None and os.path.samestat(found, hosts_own):
        raise OSError(errno.EPERM, "its directory is the host's own, mounted there")
    if found.st_uid != 0:
        raise OSError(errno.EPERM, "its directory does not belong to the container's root")
    if not os.fstatvfs(place).f_blocks:
        raise OSError(errno.EINVAL, "its directory is the kernel's")
    return place


def _make(directory: int, name: str, text: bytes) -> None:
    """A file that was not there, for all to read. Raises OSError."""
    file = os.open(name, FLAGS | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=directory)
    os.fchmod(file, 0o644)  # whatever the umask is
    try:
        rewrite(file, lambda _old: text)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise


def _remove(directory: int, name: str, found: os.stat_result) -> None:
    """Take a file of our making away, if it is still the one by its name. Raises OSError."""
    if os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), found):
        os.unlink(name, dir_fd=directory)


def _root_of(pid: int) -> Tuple[int, Optional[int]]:
    """Descriptors of the root of a process's mount namespace, not of one that it chose since, and of its user namespace.

    None where the user namespace is ours.
    """
    here, there = (os.open(f"/proc/{who}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC) for who in ("self", str(pid)))
    users = None
    with contextlib.suppress(FileNotFoundError):  # a kernel without user namespaces
        if not os.path.samefile(f"/proc/{pid}/ns/user", "/proc/self/ns/user"):
            users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    directory = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    call("setns", there, _CLONE_NEWNS)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    call("setns", here, _CLONE_NEWNS)  # before anything else: Python would load its modules from there
    os.fchdir(directory)
    os.chroot(".")
    return root, users


def _become_root_of(users: Optional[int]) -> None:
    """The uid 0 of a user namespace without any capability. Raises OSError."""
    if users is not None:
        call("setns", users, _CLONE_NEWUSER)
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    call("capset", struct.pack("=II", _CAPABILITY_VERSION, 0), bytes(24))
    call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _OpenHow(ctypes.Structure):
    """struct open_how (include/uapi/linux/openat2.h)"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _find(root: int, path: bytes) -> int:
    """A file by its path below a directory, without following a link, and not opened yet. Raises OSError."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS)
    place = int(library().syscall(_SYS_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how)))
    if place < 0:
        number = ctypes.get_errno()
        raise OSError(number, _NO_OPENAT2 if number == errno.ENOSYS else os.strerror(number))
    return place
