# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device nodes of taps (macvtap), by which a virtual machine opens them.

The kernel's own node, ``/dev/tapIFINDEX``, has another number after every boot, and two namespaces may have one ifindex:
then the second tap gets no node at all, and the name leads to the first. So each tap has a node of ours, by the names of
network and endpoint. Which device that is only sysfs tells, as the tap's namespace shows it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import os
import pwd
import stat
from typing import Dict, Iterable, Iterator, Tuple

from ..core.formats import TAP_DIRECTORY
from ..core.link_specs import NodeSpec
from ..core.state import Namespace
from . import namespaces
from .libc import library

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # since Linux 5.2; one number on every architecture
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1
_NO_FSOPEN = "taps need Linux 5.2 or newer"


def ids(accounts: Iterable[str]) -> Dict[str, int]:
    """The numbers of accounts, each ``user:NAME`` or ``group:NAME``, as far as this host has them."""
    found = {}
    for account in accounts:
        kind, _colon, name = account.partition(":")
        with contextlib.suppress(KeyError):
            found[account] = pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    return found


def observe(namespace: Namespace) -> None:
    """Add its node to each tap in a namespace; None where it has none of ours."""
    taps = [link for link in namespace.links.values() if link.kind == "macvtap"]
    if not taps:
        return
    nodes = dict(_nodes())
    with contextlib.suppress(OSError), namespaces.entered(namespace.path):
        for link in taps:
            link.data["node"] = nodes.get(_device(link.name))


def make(netns: int, name: str, node: NodeSpec) -> None:
    """Make the node of a tap in a namespace (a descriptor), or make it as it must be. Raises OSError."""
    with namespaces.entered(netns):
        device = _device(name)
    for other, there in list(_nodes()):
        if other == device and there["path"] != node["path"]:
            remove(there["path"])  # left by a tap that had the number before
    for directory in (TAP_DIRECTORY, os.path.dirname(node["path"])):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
            os.chmod(directory, 0o755)  # whatever the umask is
    new = node["path"] + "~"  # a name that no endpoint can have
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    os.mknod(new, stat.S_IFCHR, device)
    os.chmod(new, int(node["mode"], 8))  # before it is somebody else's, whose mode takes another capability
    os.chown(new, node["uid"], node["gid"])
    os.rename(new, node["path"])


def remove(path: str) -> None:
    """Remove a node, and the directories that are empty then. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    for directory in (os.path.dirname(path), TAP_DIRECTORY):
        with contextlib.suppress(OSError):  # there are others
            os.rmdir(directory)


def directories() -> Iterable[str]:
    """Where nodes are."""
    return (os.path.join(TAP_DIRECTORY, network) for network in _listed(TAP_DIRECTORY))


def _nodes() -> Iterator[Tuple[int, NodeSpec]]:
    """The nodes of ours, by device."""
    for directory in directories():
        for name in _listed(directory):
            path = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(path)
                if stat.S_ISCHR(found.st_mode):
                    mode = f"{stat.S_IMODE(found.st_mode):04o}"
                    yield found.st_rdev, {"path": path, "uid": found.st_uid, "gid": found.st_gid, "mode": mode}


def _listed(directory: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def _device(name: str) -> int:
    """The device of a tap in the namespace of this thread. Raises OSError."""
    root = _sysfs()
    try:
        directory = os.open(f"class/net/{name}/macvtap", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        (tap,) = os.listdir(directory)
        with open(os.open(f"{tap}/dev", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory), encoding="ascii") as file:
            major, _colon, minor = file.read().partition(":")
    finally:
        os.close(directory)
    return os.makedev(int(major), int(minor))


def _sysfs() -> int:
    """A sysfs that shows the namespace of this thread, mounted nowhere: the host's /sys shows the host alone."""
    context = _descriptor(_SYS_FSOPEN, b"sysfs", _FSOPEN_CLOEXEC)
    try:
        if library().syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) != 0:
            raise _failure()
        return _descriptor(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _descriptor(*request: object) -> int:
    found = int(library().syscall(*request))
    if found < 0:
        raise _failure()
    return found


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, _NO_FSOPEN if number == errno.ENOSYS else os.strerror(number))
