# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service: restores at boot, then detects losses and repairs them.

It only listens. Each look at the host is a process of its own (``inspection``), so that what that takes in memory is gone
with it, and so that a look that dies does not end the service.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import time
from typing import Any, Dict, List, Optional, Set

from ..kernel import events, named_namespaces, taps
from ..kernel.manager import Manager
from ..run import restore, restore_plan
from ..store import holds, leases, statedir
from . import metrics
from .history import LONGEST, HealHistory
from .inspection import Inspection, LookReport

#: Events come in bursts: the host is looked at when none has come for so long.
SETTLE = 0.02
#: While the kernel goes on talking, the look waits, but for no longer than this.
NOISE = 1.0
#: Looks take at most this part of one CPU; SAVED seconds of them may come in a row.
SHARE, SAVED = 0.25, 6.0
#: What no event tells of, such as a write to arp_ignore, is looked for this often.
PATROL = 300.0
#: What systemd has not taken is sent again so often.
BEHIND = 1.0
#: A look that failed is taken again after so long, and ever later.
RETRY = 5.0


class Budget:
    """How much CPU time looks may take."""

    def __init__(self) -> None:
        self._saved = SAVED
        self._since = time.monotonic()

    def spend(self, seconds: float, now: float) -> float:
        """Count the CPU time of a look that has ended; when the next one may begin."""
        self._saved = min(SAVED, self._saved + (now - self._since) * SHARE) - seconds
        self._since = now
        return now + max(0.0, -self._saved) / SHARE


class Watcher:
    """The service's loop. ``heal`` off: it ends when everything is restored once."""

    def __init__(self, state_dir: str, heal: bool, sandboxed: bool) -> None:
        self.state_dir = state_dir
        self.heal = heal
        self.sandboxed = sandboxed
        self.memory = HealHistory()
        self.manager = Manager()
        self.kernel: events.Kernel
        self.files: events.Files
        self._budget = Budget()
        self._earlier = restore.Earlier()
        self._metrics = ""
        self._spent = 0.0  # seconds of CPU, on the last look
        self._first = True
        self.outstanding: Optional[Set[str]] = None  # with healing off: what the boot has not brought back yet
        self._stop = False
        self._reported: Dict[str, Set[str]] = {}  # cause -> the objects that it keeps away
        self._ready = False
        self._failure = ""
        self._failures = 0
        self._held: Set[str] = set()

    def run(self) -> int:
        """Look and listen until a signal comes, or all is restored and repair is off. Returns the exit status."""
        statedir.make(self.state_dir)
        with contextlib.suppress(ImportError):  # which a look explains
            importlib.import_module("sqlite3")  # once, and not in the process of each look
        self.kernel, self.files = events.Kernel(), events.Files(named_namespaces.RUN_DIR, self.state_dir)
        packets = events.Filter()
        engines = {"docker": events.Engine(events.DOCKER), "podman": events.Engine(events.PODMAN)}
        # A poll goes on after a signal; only something to read ends it.
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        now = next_look = rested = time.monotonic()
        heard: Optional[float] = None  # when the first event came that the next look is for
        while not self._stop:
            if now >= next_look and heard is not None and now < heard + NOISE and self.kernel.is_growing():
                next_look = now + SETTLE  # one look for all of a burst
            if now >= next_look:
                heard = None
                found = self._look()
                now = time.monotonic()
                self._say_ready()
                if found is None:
                    next_look = now + min(LONGEST, RETRY * 2.0 ** (self._failures - 1))
                else:
                    for engine in found.get("engines", ()):
                        engines[engine].connect()
                    next_look = min(self.memory.due(), now + PATROL)
                    if not self.heal and not self.outstanding:
                        self.manager.notify("STATUS=everything is restored; repair is off")
                        return 0
                rested = self._budget.spend(self._spent, now)
                next_look = max(next_look, rested)
            # What the kernel says is read until something is about us: the look sees the rest.
            quiet: List[events.EventSource] = [self.kernel] if heard is None else []
            all_ears: List[events.EventSource] = [*quiet, packets, self.files, *engines.values()]
            ears = {ear.fileno(): ear for ear in all_ears if ear.fileno() >= 0}
            limit = min(next_look - now, BEHIND) if self.manager.is_behind else next_look - now
            ready = self._poll([woken, *ears], limit)
            self.manager.catch_up()
            now = time.monotonic()
            # Every ear is emptied, no matter which was heard first.
            events_read = [ears[descriptor].read_events() for descriptor in ready if descriptor in ears]
            if any(events_read):
                if heard is None:
                    heard = now
                    self.kernel.is_growing()  # from here on
                self.memory.hint(now)
                next_look = min(next_look, max(now + SETTLE, rested))
        return 0

    @staticmethod
    def _poll(descriptors: List[int], seconds: float) -> List[int]:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        limit = None if seconds == float("inf") else max(0.0, seconds) * 1000
        return [descriptor for descriptor, _rest in poll.poll(limit)]

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._stop = True

    def _say_ready(self) -> None:
        """The host was looked at, whatever came of it: the boot does not wait for success."""
        if not self._ready:
            self._ready = True
            self.manager.notify("READY=1")

    def _look(self) -> Optional[LookReport]:
        """What a look found and did; None where it came to nothing."""
        now, first = time.monotonic(), self._first
        held = holds.load(self.state_dir)
        if self._held - set(held):
            self.memory.healed.clear()  # released, so it is wanted back
        self._held = set(held)
        later = [name for name, trouble in self.memory.refused.items() if trouble.due > now]
        aims = restore.RestoreScope(first, self.outstanding, later, self.memory.fragile(now))
        look = Inspection(self.state_dir, aims, self.memory.heals, self.sandboxed, self._earlier)
        found = look.carry_out(self._say_ready)
        self._spent = look.seconds
        if "failed" in found:
            self._fail(found["failed"])
            return None
        self._first = False
        self._listen(found, look.heard)
        self._failure, self._failures = "", 0
        self._metrics = found.pop("metrics", self._metrics)
        metrics.write(
            self._metrics
        )  # here, where the sandbox holds; each time, for its age says whether this service lives
        if found.get("unchanged"):
            return found
        self._remember(found)
        self._held = set(found["held"])
        self.memory.take_in(found, time.monotonic(), first)
        if not self.heal:
            open_ = {name for name, how in found["left"].items() if how != restore_plan.STAYS}
            self.outstanding = open_ if self.outstanding is None else open_ & self.outstanding
        self._tell(found, first)
        return found

    def _listen(self, found: LookReport, heard: Optional[socket.socket]) -> None:
        """Go on from what the look saw."""
        if heard is not None:
            self.kernel.adopt(heard)
        self.files.stamp = found["stamp"]
        self.files.follow((*taps.directories(), os.path.join(self.state_dir, leases.DIRECTORY)))
        if not found.get("unchanged"):
            self.kernel.names, self.kernel.indexes = set(found["names"]), set(found["indexes"])
            self.kernel.eager = bool(found["left"])
            self.kernel.seen = found["seen"]

    def _remember(self, found: LookReport) -> None:
        """What the next look is handed on."""
        parsed, whole = self._earlier.parsed, found["whole"]
        parsed.file, parsed.rows = found["registry"]
        parsed.body = found["parsed"] or parsed.body
        self._earlier.whole = restore.Whole(*whole) if whole else None

    def _fail(self, why: str) -> None:
        """A look that came to nothing: one entry in the journal for each cause."""
        self._failures += 1
        self._earlier.whole = None  # the next look says how it is now
        if why != self._failure:
            self._failure = why
            for text in why.splitlines():
                self.manager.log(3, text)
        self.manager.notify(f"STATUS=not restored: {why.splitlines()[-1][:900]}")

    def _tell(self, found: LookReport, first: bool) -> None:
        """To the journal what is new, to systemctl status how it is now."""
        for note in found["notes"]:
            self.manager.log(4, note)
        for text in found["done"]:
            self.manager.log(5, f"{'restored' if first else 'healed'}: {text}")
        reported: Dict[str, Set[str]] = {}
        for why, how, names, text in found["causes"]:
            reported[why] = set(names)
            known = self._reported.get(why)
            # What waits comes and goes by itself, object by object.
            if known is None or (how != restore_plan.WAITS and not reported[why] <= known):
                self.manager.log(4, text)
        self._reported = reported
        held = [name if name == holds.EVERYTHING else f"{name} ({why})" for name, why in found["held"].items()]
        status = [f"{found['objects']} objects, {self.memory.heals} healed"]
        if held:
            status.append("held: " + ", ".join(held))
        rest = [f"{name}: {why}" for name, why in found["why"].items() if not why.startswith("held")]
        if rest:
            status.append(f"{len(rest)} not there: {'; '.join(rest[:3])}")
        self.manager.notify("STATUS=" + "; ".join(status)[:1000])
