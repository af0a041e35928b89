# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Run a function in namespaces of its own, so that the kernel cleans up after it, whatever ends it.

Its processes, mounts and network devices exist nowhere else. When the process that called goes away, even by
`kill -9`, the function's process is killed, and with it, as the first of its process namespace, all the others.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWCGROUP = 0x02000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_REMOUNT = 0x20
MS_RDONLY = 0x1
PR_SET_PDEATHSIG = 1
LAB_FAILED = 125  # the exit status when the lab itself, not the command in it, went wrong

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


class LabError(Exception):
    """Something the user can read and act on."""


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [word.encode() or None for word in (source, target, kind, options)]
    check(libc.mount(words[0], words[1], words[2], flags, words[3]), f"mount {source or kind} on {target}")


def bind(source: str | os.PathLike[str], target: str | os.PathLike[str], read_only: bool = False) -> None:
    mount(os.fspath(source), os.fspath(target), flags=MS_BIND)
    if read_only:
        kept = os.statvfs(target).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME)
        mount("", os.fspath(target), flags=MS_BIND | MS_REMOUNT | MS_RDONLY | kept)


def refuse_other_processors() -> None:
    """Say at once what would fail late: there is no User-Mode Linux but for x86-64."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise LabError(
            f"the lab runs on x86-64 only: User-Mode Linux, its kernel, does not exist for this machine's {machine}"
        )


def become_root() -> None:
    """Go on as root: where the user is somebody else, as root of a user namespace, which is enough for a guest."""
    if os.geteuid() == 0:
        return
    if not shutil.which("newuidmap"):
        raise LabError("this machine lacks uidmap, which users other than root need: install it, or be root")
    os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--map-auto", sys.executable, *sys.argv])


def is_root_of_the_machine() -> bool:
    """And not only of a user namespace."""
    with open("/proc/self/uid_map") as uid_map:
        return os.geteuid() == 0 and uid_map.read().split() == ["0", "0", "4294967295"]


def contained(function: Callable[[], int], network: bool) -> int:
    """The function's exit status. `network`: whether it may use this machine's network."""
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP
    if not network:
        flags |= CLONE_NEWNET
    starter = os.fork()
    if starter == 0:
        # CLONE_NEWPID counts from the next child on, so there is one process between the caller and the function.
        _die_with_parent()
        check(libc.unshare(flags), "unshare")
        first = os.fork()
        if first == 0:
            _die_with_parent()
            _leave(_first, function)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        os._exit(_exit_status(os.waitpid(first, 0)[1]))  # returns when all the processes in the namespace are gone

    def stop(number: int, _frame: object) -> None:
        os.kill(starter, signal.SIGTERM)
        os.waitpid(starter, 0)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return _exit_status(os.waitpid(starter, 0)[1])


def _first(function: Callable[[], int]) -> int:
    """What the first process of the namespaces does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller is the one who acts on it
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    mount("proc", "/proc", "proc")
    return function()


def _leave(main: Callable[[Callable[[], int]], int], function: Callable[[], int]) -> None:
    """End this forked process without running the exit handlers of the one that it was forked from."""
    status = LAB_FAILED
    try:
        status = main(function)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _die_with_parent() -> None:
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code
