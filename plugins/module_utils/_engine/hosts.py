# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our block in a workload's hosts file: the one thing of somebody else's that we write in, between two marks.

A named namespace reads ``/etc/netns/NAME/hosts`` (ip-netns(8)), a container the ``/etc/hosts`` of its own root.
The latter is opened with RESOLVE_IN_ROOT (openat2(2), Linux 5.6), so that whatever links a hostile container
puts there, they end inside it; and it is written in place, because engines bind-mount that very file. What is
no file (a device, a pipe, a switch of the kernel) is never opened at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from typing import Optional, Tuple

from . import containers
from .namespaces import Gone, NamespaceError

BEGIN = "# begin netops.underlay (do not edit between these lines)\n"
END = "# end netops.underlay\n"

#: What a namespace's own file needs beside our block, because it stands for the host's whole file.
LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

NETNS_DIRECTORY = "/etc/netns"
#: Larger than any sensible hosts file; more is not read into memory.
LIMIT = 64 * 1024 * 1024

_NO_OPENAT2 = "this kernel has no openat2 (Linux 5.6), and without it a link in the container could lead to a file of the host"
_SYS_OPENAT2 = 437  # the same number on every architecture (include/uapi/asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


class Unwritable(Exception):
    """The file cannot be had; the text says why."""


class Nobody(Unwritable):
    """There is nobody who could read it: the container does not run."""


def read(workload: str) -> str:
    """The lines of our block, empty where there is none. Raises Unwritable where none could be written either."""
    pid = _pid(workload)
    try:
        handle = _open(workload, pid, os.O_RDWR)
    except FileNotFoundError:
        if pid is None:
            return ""
        raise Unwritable("it has no /etc/hosts") from None
    except OSError as error:
        raise Unwritable(f"its hosts file cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        return _split(file.read().decode("utf-8", "surrogateescape"))[1]


def write(workload: str, lines: str) -> None:
    """Make the lines of our block these; without lines, without a block. Raises Unwritable."""
    pid = _pid(workload)
    try:
        handle = _open(workload, pid, os.O_RDWR | (os.O_CREAT if pid is None and lines else 0))
    except FileNotFoundError:
        if not lines:
            return
        raise Unwritable("it has no /etc/hosts") from None
    except OSError as error:
        raise Unwritable(f"its hosts file cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "r+b") as file:
        before, old, after = _split(file.read().decode("utf-8", "surrogateescape"))
        if pid is None and lines and not before + old + after:
            before = LOCAL
        text = before + (BEGIN + lines + END if lines else "") + after
        file.seek(0)
        file.write(text.encode("utf-8", "surrogateescape"))
        file.truncate()
    if pid is None and text in ("", LOCAL):
        _remove(workload)


def _pid(workload: str) -> Optional[int]:
    """The process whose root directory a workload's hosts file is under; None for a named namespace's own file."""
    engine, _rest, name = workload.partition(":")
    if engine == "netns":
        return None
    try:
        return containers.process(engine, name)
    except Gone as error:
        raise Nobody(str(error)) from None
    except NamespaceError as error:
        raise Unwritable(str(error)) from None


def _split(text: str) -> Tuple[str, str, str]:
    """What stands before our block, in it, and after it; where a mark was lost, nothing is ours."""
    end = text.find(END)
    begin = text.rfind(BEGIN, 0, end) if end >= 0 else -1
    if begin < 0:
        return (text if text.endswith("\n") or not text else text + "\n"), "", ""
    return text[:begin], text[begin + len(BEGIN) : end], text[end + len(END) :]


def _open(workload: str, pid: Optional[int], flags: int) -> int:
    flags |= os.O_CLOEXEC
    if pid is not None:
        return _open_in_root(f"/proc/{pid}/root", b"etc/hosts", flags)
    path = os.path.join(_directory(workload), "hosts")
    if flags & os.O_CREAT and not os.path.lexists(path):
        for directory in (NETNS_DIRECTORY, _directory(workload)):
            _make_directory(directory)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
            os.chmod(path, 0o644)  # whatever the umask is: names are for all who live there
    return os.open(path, flags & ~os.O_CREAT | os.O_NOFOLLOW)


def _make_directory(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        os.chmod(path, 0o755)


def _directory(workload: str) -> str:
    return os.path.join(NETNS_DIRECTORY, workload.partition(":")[2])


def _remove(workload: str) -> None:
    """The file that we made goes with its last line, and its directory where nothing else is in it."""
    os.unlink(os.path.join(_directory(workload), "hosts"))
    try:
        os.rmdir(_directory(workload))
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


class _OpenHow(ctypes.Structure):
    """struct open_how (include/uapi/linux/openat2.h)"""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def _open_in_root(root: str, path: bytes, flags: int) -> int:
    """Open a file as a process whose root directory it is would, links and all. Raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        libc = ctypes.CDLL(None, use_errno=True)
        place = int(libc.syscall(_SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how)))
        if place < 0:
            number = ctypes.get_errno()
            raise OSError(number, _NO_OPENAT2 if number == errno.ENOSYS else os.strerror(number))
    finally:
        os.close(directory)
    try:
        _check(os.fstat(place), os.statvfs(f"/proc/self/fd/{place}"))
        return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def _check(found: os.stat_result, system: os.statvfs_result) -> None:
    """Refuse what is no file of the container's own. Raises OSError."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if not system.f_blocks:  # proc, sysfs and their like have none, and what is written there acts on the host
        raise OSError(errno.EINVAL, "it is a switch of the kernel, no file")
    if found.st_size > LIMIT:
        raise OSError(errno.EFBIG, "it is larger than any hosts file")
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(found, os.stat("/etc/hosts")):
            raise OSError(errno.EPERM, "it is the host's own, mounted there")
