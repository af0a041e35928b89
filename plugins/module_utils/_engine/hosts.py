# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our block in a workload's hosts file: the one thing of somebody else's that we write in, between two marks.

A named namespace reads ``/etc/netns/NAME/hosts`` (ip-netns(8)), a container the ``/etc/hosts`` of its own root.
The latter is opened with RESOLVE_IN_ROOT (openat2(2), Linux 5.6), so that whatever links a hostile container
puts there, they end inside it; and it is written in place, because engines bind-mount that very file.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Optional, Tuple

from . import containers
from .namespaces import NamespaceError

BEGIN = "# begin netops.underlay (do not edit between these lines)\n"
END = "# end netops.underlay\n"

#: What a namespace's own file needs beside our block, because it stands for the host's whole file.
LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

NETNS_DIRECTORY = "/etc/netns"
#: Larger than any sensible hosts file; more is not read into memory.
LIMIT = 64 * 1024 * 1024

_SYS_OPENAT2 = 437  # the same number on every architecture (include/uapi/asm-generic/unistd.h)
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


class Unwritable(Exception):
    """The file cannot be had; the text says why."""


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
        return _split(file.read(LIMIT).decode("utf-8", "surrogateescape"))[1]


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
        before, old, after = _split(file.read(LIMIT).decode("utf-8", "surrogateescape"))
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
    except NamespaceError as error:
        raise Unwritable(str(error)) from None


def _split(text: str) -> Tuple[str, str, str]:
    """What stands before our block, in it, and after it."""
    before, mark, rest = text.partition(BEGIN)
    if not mark:
        return (before if before.endswith("\n") or not before else before + "\n"), "", ""
    lines, mark, after = rest.partition(END)
    return before, lines, after


def _open(workload: str, pid: Optional[int], flags: int) -> int:
    flags |= os.O_CLOEXEC
    if pid is not None:
        return _open_in_root(f"/proc/{pid}/root", b"etc/hosts", flags)
    directory = _directory(workload)
    if flags & os.O_CREAT:
        os.makedirs(directory, 0o755, exist_ok=True)
    return os.open(os.path.join(directory, "hosts"), flags | os.O_NOFOLLOW, 0o644)


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
    """Open a path as a process whose root directory it is would, links and all. Raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _OpenHow(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        libc = ctypes.CDLL(None, use_errno=True)
        handle = int(libc.syscall(_SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how)))
        if handle < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return handle
    finally:
        os.close(directory)
