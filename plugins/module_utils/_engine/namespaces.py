# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces: where a workload's is, entering, making and removing them.

A workload is ``""`` (the namespace that the engine runs in), ``netns:NAME``, ``pid:N``,
``docker:NAME`` or ``podman:NAME``. The few system calls go through ctypes, which loads in 2 ms;
pyroute2 takes 160.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
from typing import Any, Iterator, Set, Tuple, Union

from .world import HOST

#: Where iproute2 keeps named namespaces: a file each, on which the namespace is mounted.
RUN_DIR = "/run/netns"
#: Docker does the same with those of its containers.
_DOCKER_RUN_DIR = "/run/docker/netns"
#: The namespace of the calling thread; /proc/self is that of the process's first one.
OWN = "/proc/thread-self/ns/net"

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 1 << 20
_MNT_DETACH = 2

Identity = Tuple[int, int]


class NamespaceError(Exception):
    """A namespace that cannot be found, entered or made; says which and why."""


class Missing(NamespaceError):
    """A named namespace that is not there; it could be made."""


class Gone(NamespaceError):
    """A process that ended, a container that stopped or was removed: its namespace went with it."""


# --- system calls --------------------------------------------------------------------------------


@functools.cache
def _libc() -> Any:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    text, number = ctypes.c_char_p, ctypes.c_ulong
    libc.mount.argtypes = (text, text, text, number, text)
    return libc


def _call(name: str, *arguments: object) -> None:
    """A function of the C library that answers 0. Raises OSError."""
    import ctypes

    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _enter(descriptor: int) -> None:
    _call("setns", descriptor, _CLONE_NEWNET)


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
            raise NamespaceError(
                f"the network namespace {where} cannot be entered: {error.strerror}"
            ) from None
        try:
            yield there
        finally:
            _enter(here)


def use_mounts_of(pid: int) -> None:
    """See files and mounts as a process does, from now on. Raises OSError."""
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, _CLONE_NEWNS)
    finally:
        os.close(descriptor)


def identity(path: str) -> Identity:
    """What tells one namespace from every other. Raises OSError."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


# --- workloads -----------------------------------------------------------------------------------


def resolve(workload: str) -> str:
    """The path of a workload's namespace.

    Raises NamespaceError, and Missing where a named namespace is not there.
    """
    kind, _rest, name = workload.partition(":")
    if workload == HOST:
        return OWN
    if kind == "netns":
        return _named(name)
    if kind == "pid":
        return _of_process(int(name) if name.isdecimal() else 0, workload)
    if kind in ("docker", "podman"):
        from .containers import process

        return _of_process(process(kind, name), workload)
    raise NamespaceError(
        f"{workload!r} is not a workload: give netns:NAME, pid:N, docker:NAME or podman:NAME"
    )


def _file(name: str) -> str:
    if (
        not name
        or name in (".", "..")
        or "/" in name
        or "\0" in name
        or len(os.fsencode(name)) > 255
    ):
        raise NamespaceError(
            f"{name!r} cannot be the name of a network namespace: it has to be a plain file name"
        )
    return os.path.join(RUN_DIR, name)


def _named(name: str) -> str:
    path = _file(name)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise Missing(f"there is no network namespace {name}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_dev != identity(OWN)[0]:
        raise NamespaceError(
            f"no network namespace is mounted on it, {path} is a leftover: ip netns del {name}"
        )
    return path


def _of_process(pid: int, workload: str) -> str:
    path = f"/proc/{pid}/ns/net"
    try:
        os.stat(path)
    except FileNotFoundError:
        raise Gone(f"{workload}: there is no such process") from None
    except PermissionError:
        raise NamespaceError(f"{workload}: its network namespace may not be looked at") from None
    return path


def everything() -> Iterator[Tuple[str, str, Identity]]:
    """Every network namespace that is named or that a process is in, once: its label, path and
    identity.

    The label is ``netns:NAME``, else the path. What goes away meanwhile is left out.
    """
    seen: Set[Identity] = set()
    device = identity(OWN)[0]
    for label, path in _candidates():
        try:
            which = identity(path)
        except OSError:
            continue
        if which[0] == device and which not in seen:
            seen.add(which)
            yield label, path, which


def _candidates() -> Iterator[Tuple[str, str]]:
    for name in _listed(RUN_DIR):
        yield f"netns:{name}", os.path.join(RUN_DIR, name)
    for name in _listed(_DOCKER_RUN_DIR):
        path = os.path.join(_DOCKER_RUN_DIR, name)
        yield path, path
    for path in _processes():
        yield path, path


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


def create(name: str) -> None:
    """A new namespace under a name, as ``ip netns add`` makes it, but with its loopback up.

    Without that nobody in it reaches ``localhost``, nor its own addresses and names. Raises
    NamespaceError, also where the name is taken.
    """
    from . import encode
    from .rtnetlink import NetlinkError, Socket

    path = _file(name)
    try:
        with _run_dir():
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        try:
            with entered(OWN):
                _call("unshare", _CLONE_NEWNET)
                with Socket() as kernel:
                    kernel.request(encode.change_link("lo", up=True))
                _call("mount", OWN.encode(), os.fsencode(path), b"none", _MS_BIND, None)
        except BaseException:
            os.unlink(path)
            raise
    except FileExistsError:
        raise NamespaceError(f"there is a network namespace {name} already") from None
    except (OSError, NetlinkError) as error:
        raise NamespaceError(f"the network namespace {name} cannot be made: {error}") from None


@contextlib.contextmanager
def _run_dir() -> Iterator[None]:
    """The directory is there, and what is mounted below it is seen in every mount namespace."""
    os.makedirs(RUN_DIR, 0o755, exist_ok=True)
    lock = os.open(RUN_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # two at once would mount it on itself twice; iproute2 does the same
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


def remove(name: str) -> None:
    """Take a namespace's name away; it goes when nobody is in it.

    Nothing where there is none. Raises NamespaceError.
    """
    path = _file(name)
    try:
        _call("umount2", os.fsencode(path), _MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted, not there
            raise NamespaceError(
                f"the network namespace {name} cannot be removed: {error.strerror}"
            ) from None
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise NamespaceError(
            f"the network namespace {name} cannot be removed: {error.strerror}"
        ) from None


def tidy(workload: str) -> None:
    """Remove the file of a named namespace on which none is mounted: whoever made or removed it was killed in between."""
    kind, _colon, name = workload.partition(":")
    if kind != "netns":
        return
    path = _file(name)
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(path).st_mode) and os.stat(path).st_dev != identity(OWN)[0]:
            os.unlink(path)
