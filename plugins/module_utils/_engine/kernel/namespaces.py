# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces: what tells one from another, and entering one.

The few system calls go through ctypes, which loads in 2 ms; pyroute2 takes 160.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import sys
import time
from typing import Iterator, Tuple, Union

from ..core.errors import NamespaceError
from .libc import call as _call
from .libc import library

#: The namespace of the calling thread; /proc/self is that of the process's first one.
OWN = "/proc/thread-self/ns/net"

CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x20000
#: What setns(2) says where no other answer will ever come; all else is want of memory, which may pass.
_NO_NAMESPACE = frozenset((errno.EBADF, errno.EINVAL, errno.EPERM, errno.ENOENT, errno.ESRCH, errno.ENOSYS))
_WAITS = (0.001, 0.01, 0.1, 0.5)  # seconds
_AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_INO = -100, 0x4000, 0x100

#: What tells one namespace from every other: its file system and its inode.
Identity = Tuple[int, int]


def _enter(descriptor: int) -> None:
    """Raises OSError, for want of memory only when there is none for a while."""
    for wait in (*_WAITS, None):
        try:
            _call("setns", descriptor, CLONE_NEWNET)
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
