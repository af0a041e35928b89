# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads: where the namespace of each is.

A workload is ``""`` (the namespace that the engine runs in), ``netns:NAME``, ``pid:N``,
``docker:NAME`` or ``podman:NAME``.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator

from ..core.change import HOST
from ..core.errors import NamespaceError, WorkloadGone
from ..netlink.rtnetlink import Socket
from ..store import statedir
from . import containers, named_namespaces, namespace_search
from .namespaces import OWN, entered


def resolve(workload: str) -> str:
    """The path of a workload's namespace.

    Raises NamespaceError, and NamespaceMissing where a named namespace is not there.
    """
    kind, _rest, name = workload.partition(":")
    if workload == HOST:
        return OWN
    if kind == "netns":
        return named_namespaces.path_of(name)
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
    for _label, path, found in namespace_search.everything():
        if f"[{found[1]}]" != inode:
            continue
        descriptor = _held[which] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with entered(descriptor), Socket() as kernel:
            if str(kernel.cookie) == cookie:
                return f"/proc/self/fd/{descriptor}"
        os.close(_held.pop(which))
    raise WorkloadGone(f"net:{which}: there is no such network namespace any more")


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
