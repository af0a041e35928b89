# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commit confirmed: a change that may cut off the controller is undone unless it is confirmed in time.

The transaction is armed before the kernel is touched, by a timer of systemd (or a process of its own, where there is
none) that runs the engine installed on the host. A reboot undoes what was not confirmed, because no timer survives it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from typing import Iterator, List

from ..core.change import FILE_KINDS
from ..core.errors import GuardError, RegistryBusy
from ..kernel import programs, workload_namespaces
from ..store import hostlock, installed, leases, statedir
from ..store.registry import ArmedGuard, Registry
from .rollback import leftovers, need_of, recover, rollback, stays
from .transact import RunOptions
from .undo import Reverted


@contextlib.contextmanager
def at_work(registry: Registry, run: RunOptions) -> Iterator[None]:
    """The lock on a host without a half-done or unconfirmed transaction.

    Raises RegistryBusy, naming what is waited for, when that is not to be had within the run's ``lock_timeout``, and
    OtherRegistry.
    """
    until = time.monotonic() + run.lock_timeout
    installed.check()
    while True:
        with hostlock.lock(registry, max(0.0, until - time.monotonic()), run.who), workload_namespaces.held():
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
            raise RegistryBusy(busy)
        time.sleep(0.2)


def _unconfirmed(registry: Registry, armed: ArmedGuard) -> str:
    who = registry.transaction(armed.number).who
    return (
        f"transaction {armed.number} of {who} waits for confirmation, else it is undone in {armed.left:.0f} s; wait for it, "
        f"give a longer lock_timeout, or run underlay confirm {armed.number} on the host"
    )


def fire(number: int, registry: Registry, run: RunOptions) -> None:
    """Undo a transaction that was not confirmed, under the lock, object by object: the way to the controller first.

    What cannot go, because something of others depends on it, stays and is named. Where a reboot came in between, the
    kernel has nothing of it, and only the registry goes back. Raises RollbackFailed and RegistryError.
    """
    transaction, records = registry.transaction(number), registry.sound()[0]
    reverted = Reverted(transaction, records, leases.current(registry.directory))
    changes = transaction.changes
    armed = registry.armed()
    if armed is not None and armed.boot != statedir.boot():
        changes = [change for change in changes if change.kind in FILE_KINDS]
    kept = rollback(changes, need_of(changes, reverted.records, registry.directory), transaction.group, reverted.after)
    registry.revert(number, run.who, list(reverted.changes()), leftovers(changes, kept))
    run.notes.append(f"transaction {number} had not been confirmed and was undone first")
    run.notes += stays(kept)


class HostGuard:
    """The guard of a host with the engine installed."""

    def __init__(self, timeout: float, state_dir: str) -> None:
        self.timeout = timeout
        self.state_dir = state_dir

    def arm(self, number: int) -> None:
        """Raises GuardError."""
        if not os.access(installed.COMMAND, os.X_OK):
            raise GuardError(f"nothing on this host could revert the change: {installed.COMMAND} is not there; "
                             "run the role netops.underlay.prepare, which installs it, or set guard_timeout: 0")  # fmt: skip
        expire = [installed.COMMAND, "--state-dir", self.state_dir, "expire", str(number)]
        if _has_systemd():
            self._systemd(number, expire)
        else:
            self._alone([*expire, "--after", str(self.timeout)])

    def _systemd(self, number: int, expire: List[str]) -> None:
        timer = [
            f"--on-active={self.timeout}s",
            "--timer-property=AccuracySec=100ms",
            f"--unit={unit(number, self.state_dir)}",
            f"--description=Undo transaction {number} of {self.state_dir} unless it is confirmed",
            "--collect",
            "--quiet",
        ]
        done = programs.run(["systemd-run", *timer, "--", *expire])
        if done.returncode:
            raise GuardError(
                f"systemd did not arm the guard's timer: {done.stderr.strip()}; see systemctl status, or set guard_timeout: 0"
            )

    @staticmethod
    def _alone(expire: List[str]) -> None:
        try:
            programs.start(expire)
        except OSError as error:
            raise GuardError(f"{expire[0]} does not start: {error.strerror}; set guard_timeout: 0") from None

    def disarm(self, number: int) -> None:
        """The transaction is confirmed: stop its timer."""
        disarm(number, self.state_dir)


def disarm(number: int, state_dir: str) -> None:
    """Stop the timer of a transaction, if there is one; a separate process finds nothing to do."""
    if _has_systemd():
        programs.run(["systemctl", "--quiet", "stop", f"{unit(number, state_dir)}.timer"])


def unit(number: int, state_dir: str) -> str:
    """The name of a transaction's timer: every registry counts from 1."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state_dir))).hexdigest()[:8]
    return f"netops-underlay-guard-{digest}-{number}"


def _has_systemd() -> bool:
    """Whether systemd is the first process here (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system") and shutil.which("systemd-run") is not None


def confirm(number: int, registry: Registry, run: RunOptions) -> bool:
    """Keep the change. False if there was nothing to confirm, because it was already undone or confirmed."""
    with hostlock.lock(registry, run.lock_timeout, run.who):
        armed = registry.armed()
        if armed is None or armed.number != number or registry.transaction(number).state != "unconfirmed":
            return False
        registry.confirm(number)
    disarm(number, registry.directory)
    return True


def expire(number: int, registry: Registry, run: RunOptions) -> bool:
    """Undo a transaction unless it was confirmed. False if there was nothing to undo.

    Raises what :func:`undo.undo` raises.
    """
    with hostlock.lock(registry, run.lock_timeout, run.who), workload_namespaces.held():
        recover(registry, run)
        armed = registry.armed()
        if armed is None or armed.number != number:
            return False
        fire(number, registry, run)
    return True


def sleep(seconds: float) -> None:
    """Sleep, counting the time that the host is suspended."""
    until = statedir.uptime() + seconds
    while statedir.uptime() < until:
        time.sleep(min(1.0, max(0.05, until - statedir.uptime())))
