# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host, and one registry: two would take each other's links for their own.

A host is a network namespace, known by its cookie. What is noted here lies in /run: nothing of a registry is in the
kernel after a reboot, until it is restored.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from typing import Iterator

from ..core.change import HOST_KINDS
from ..core.errors import OtherRegistry, RegistryError
from . import statedir
from .registry import Registry

DIRECTORY = "/run/netops-underlay-lock"  # not the service's own, which its metrics are in
_SO_NETNS_COOKIE = 71


@contextlib.contextmanager
def lock(registry: Registry, timeout: float, who: str) -> Iterator[None]:
    """The lock of a registry and of its host, as long as the context or the process lasts.

    Raises RegistryBusy, naming the holder, when they are not to be had within ``timeout`` seconds, OtherRegistry where
    this host's networks are in another one, and OtherMachine where it was copied from another machine.
    """
    until = time.monotonic() + timeout
    with registry.lock(timeout, who):
        statedir.make(DIRECTORY)
        with statedir.lock(DIRECTORY, max(0.0, until - time.monotonic()), who, f"{_host()}.lock"):
            check(registry)
            _note(registry)
            yield


def check(registry: Registry) -> None:
    """Raises OtherRegistry where this host's networks are in another registry, OtherMachine where this one is a clone's."""
    registry.check_machine()
    directory = noted()
    if directory and directory != os.path.realpath(registry.directory) and _is_used(Registry(directory)):
        raise OtherRegistry(
            f"the networks of this host are already in the registry in {directory}, and a host has only one: give state_dir: {directory}, or"
            " make everything in it absent first"
        )


def _is_used(registry: Registry) -> bool:
    """Whether something in the kernel may be of a registry. One that cannot be read may have everything."""
    try:
        records = registry.load()
        under_way = registry.pending() or registry.armed()
        return any(records.get(kind) for kind in HOST_KINDS) or under_way is not None
    except RegistryError:
        return True


def noted() -> str:
    """The directory of the registry that was last used on this host; empty for none."""
    with contextlib.suppress(RegistryError, OSError):
        handle = statedir.open_file(_path(), os.O_RDONLY)
        with open(handle, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    return ""


def _note(registry: Registry) -> None:
    mine = os.path.realpath(registry.directory)
    if noted() != mine:
        with statedir.replace(_path()) as file:
            file.write(mine)


def _path() -> str:
    return os.path.join(DIRECTORY, _host())


def _host() -> str:
    """What this network namespace has and no other of this boot; before Linux 5.14, no other that is there."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        cookie = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        return f"host-{int.from_bytes(cookie, sys.byteorder)}"
    return f"host-inode-{os.stat('/proc/self/ns/net').st_ino}"
