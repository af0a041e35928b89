# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for every network namespace of a host, those without a name too."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import struct
import time
from typing import Iterator, Optional, Set, Tuple

from . import foreign_file
from .libc import library
from .named_namespaces import RUN_DIR
from .namespaces import CLONE_NEWNET, OWN, Identity, identity

#: Where Docker mounts those of its containers, as iproute2 does the named ones.
_DOCKER_RUN_DIR = "/run/docker/netns"
#: listns(2), the same number on every architecture; FD_NSFS_ROOT and FILEID_NSFS of linux/fcntl.h and exportfs.h.
_SYS_LISTNS, _FD_NSFS_ROOT, _FILEID_NSFS = 470, -10003, 0xF1
_LISTNS_MANY = 512
#: The inodes of the first namespaces: PROC_USER_INIT_INO, PROC_PID_INIT_INO.
_INITIAL = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}
#: A sysctl that only the first network namespace has.
_OF_THE_INITIAL = "/proc/sys/net/core/netdev_max_backlog"
#: How mountinfo writes what would end a field.
_ESCAPED = re.compile(r"\\([0-7]{3})")
#: Seconds in which all mounts in other mount namespaces have to open.
_TIME_LIMIT = 2.0


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
        request = struct.pack("=IIQIIQ", 32, 0, last, CLONE_NEWNET, 0, 0)  # struct ns_id_req
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
