# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that may cut off whoever asked for it: it is undone unless they confirm it in time.

The transaction is armed before the kernel is touched, by a timer of systemd (or a process of its own, where there is
none) that runs the engine installed on the host. A reboot undoes what was not confirmed, for no timer outlives it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Iterator, List

from . import installed, programs, statedir
from .fields import Refusal
from .registry import Armed, Busy, Registry
from .transact import GuardError, Run, Stuck, Undone, recover
from .undo import undo


@contextlib.contextmanager
def at_work(registry: Registry, run: Run) -> Iterator[None]:
    """The lock on a host on which nothing is half done and nobody waits to be confirmed.

    Raises Busy, naming what is waited for, when that is not to be had within the run's ``lock_timeout``.
    """
    until = time.monotonic() + run.lock_timeout
    installed.check()
    while True:
        with registry.lock(max(0.0, until - time.monotonic()), run.who):
            recover(registry, run)
            armed = registry.armed()
            if armed is not None and not armed.left:
                fire(armed.number, registry, run)
                armed = None
            if armed is None:
                yield
                return
            busy = _unconfirmed(registry, armed)
        if time.monotonic() >= until:
            raise Busy(busy)
        time.sleep(0.2)


def _unconfirmed(registry: Registry, armed: Armed) -> str:
    who = registry.transaction(armed.number).who
    return (
        f"transaction {armed.number} of {who} waits to be confirmed and is undone in {armed.left:.0f} s otherwise; wait for it, "
        f"or give a longer lock_timeout, or say underlay confirm {armed.number} on the host"
    )


def fire(number: int, registry: Registry, run: Run) -> None:
    """Undo a transaction that nobody confirmed, under the lock. Raises Stuck."""
    guard, run.guard = run.guard, None  # of this run, not of that one
    try:
        undo(number, registry, run)
    except (Refusal, Undone) as error:
        raise Stuck(f"transaction {number} was not confirmed and cannot be undone: {error}; underlay confirm {number} keeps it") from None
    finally:
        run.guard = guard
    run.notes.append(f"transaction {number} had not been confirmed and was undone first")


class HostGuard:
    """The guard of a host with the engine installed."""

    def __init__(self, timeout: float, state_dir: str) -> None:
        self.timeout = timeout
        self.state_dir = state_dir

    def arm(self, number: int) -> None:
        """Raises GuardError."""
        if not os.access(installed.COMMAND, os.X_OK):
            raise GuardError(f"nothing on this host could undo the change later: {installed.COMMAND} is not there; "
                             "let the role netops.underlay.prepare install it, or set guard_timeout: 0")  # fmt: skip
        expire = [installed.COMMAND, "--state-dir", self.state_dir, "expire", str(number)]
        if _has_systemd():
            self._systemd(number, expire)
        else:
            self._alone([*expire, "--after", str(self.timeout)])

    def _systemd(self, number: int, expire: List[str]) -> None:
        timer = [f"--on-active={self.timeout}s", "--timer-property=AccuracySec=100ms", f"--unit={_unit(number)}", "--collect", "--quiet"]
        done = programs.run(["systemd-run", *timer, "--", *expire])
        if done.returncode:
            raise GuardError(f"systemd set no timer for the undo: {done.stderr.strip()}; see systemctl status, or set guard_timeout: 0")

    @staticmethod
    def _alone(expire: List[str]) -> None:
        try:
            programs.start(expire)
        except OSError as error:
            raise GuardError(f"{expire[0]} does not start: {error.strerror}; set guard_timeout: 0") from None

    def disarm(self, number: int) -> None:
        disarm(number)


def disarm(number: int) -> None:
    """Stop the timer of a transaction, where there is one; a process of its own finds nothing to do."""
    if _has_systemd():
        programs.run(["systemctl", "--quiet", "stop", f"{_unit(number)}.timer"])


def _unit(number: int) -> str:
    return f"netops-underlay-guard-{number}"


def _has_systemd() -> bool:
    """Whether systemd is the first process here (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None


def confirm(number: int, registry: Registry, run: Run) -> bool:
    """The change stays. False where there was nothing to confirm, for it was undone or confirmed before."""
    with registry.lock(run.lock_timeout, run.who):
        armed = registry.armed()
        if armed is None or armed.number != number or registry.transaction(number).state != "unconfirmed":
            return False
        registry.confirm(number)
    disarm(number)
    return True


def expire(number: int, registry: Registry, run: Run) -> bool:
    """Undo a transaction unless it was confirmed. False where there was nothing to undo.

    Raises what :func:`undo.undo` raises.
    """
    with registry.lock(run.lock_timeout, run.who):
        recover(registry, run)
        armed = registry.armed()
        if armed is None or armed.number != number:
            return False
        fire(number, registry, run)
    return True


def sleep(seconds: float) -> None:
    """As long as a guard of its own waits, the time that the host sleeps included."""
    until = statedir.uptime() + seconds
    while statedir.uptime() < until:
        time.sleep(min(1.0, max(0.05, until - statedir.uptime())))
