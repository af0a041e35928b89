# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service: restores at boot, then detects losses and repairs them.

It only listens. Each look at the host is a process of its own (``Look``), so that what that takes in memory is gone
with it, and so that a look that dies does not end the service.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, TypedDict

from ..core import errors
from ..core.change import HOST, LINK_GROUPS
from ..core.errors import UnderlayError
from ..core.text import printable
from ..kernel import namespaces, taps
from ..run import findings, restore, restore_plan
from ..run.transact import RunOptions
from ..store import holds, statedir
from ..store.registry import Registry
from . import events, metrics

#: Events come in bursts: so long after the first one the host is looked at.
SETTLE = 0.15
#: While the kernel goes on talking, the look waits, but for no longer than this.
NOISE = 1.0
#: Looks take at most this part of one CPU; SAVED seconds of them may come in a row.
SHARE, SAVED = 0.25, 6.0
#: An object that was healed twice within so many seconds and is lost again is held.
WINDOW, TIMES = 60.0, 3
LONGEST = 300.0
#: What no event tells of, such as a write to arp_ignore, is looked for this often.
PATROL = 300.0
#: The boot waits this long for the first look, in seconds, and not for its success.
PATIENCE = 20.0
#: A look that failed is taken again after so long, and ever later.
RETRY = 5.0
#: Containers of Podman, whose service may be off, are asked for this often, at last; and while something happens on the
#: host, EAGERNESS seconds from then, more often: nothing tells when one that starts has come so far.
CONTAINERS, EAGERNESS, EAGER = 15.0, 15.0, 0.7


class LookReport(TypedDict, total=False):
    """What the process of a look says of it: ``failed``, or everything else."""

    failed: str
    metrics: str
    healed: List[str]  # kind and key, as in ``left`` and ``why``
    done: List[str]
    causes: List[findings.Cause]
    seen: Mapping[int, List[Tuple[int, int]]]  # JSON makes texts of the numbers
    stamp: str
    supports: Dict[str, str]
    awaited: List[str]
    left: Dict[str, str]
    why: Dict[str, str]
    notes: List[str]
    names: List[str]
    indexes: List[int]
    objects: int
    engines: List[str]
    held: Dict[str, str]


@dataclass
class FailingObject:
    """An object that could not be restored: how often, and when it is tried again."""

    times: int = 0
    due: float = 0.0


@dataclass
class HealHistory:
    """What the service remembers between looks."""

    healed: Dict[str, List[float]] = field(default_factory=dict)  # when each was, lately
    refused: Dict[str, FailingObject] = field(default_factory=dict)
    left: Set[str] = field(default_factory=set)  # what was not there after the last look
    waiting: FailingObject = field(default_factory=FailingObject)
    supports: Dict[str, str] = field(default_factory=dict)  # what each link stood on when it was seen last
    hinted: float = float("-inf")  # when something was heard last
    heals: int = 0  # since the start

    def fragile(self, now: float) -> List[str]:
        for name in list(self.healed):
            self.healed[name] = [when for when in self.healed[name] if when > now - WINDOW]
            if not self.healed[name]:
                del self.healed[name]
        return [name for name, times in self.healed.items() if len(times) >= TIMES - 1]

    def take_in(self, found: LookReport, now: float, is_boot: bool) -> None:
        healed = [] if is_boot else found["healed"]
        self.heals += len(healed)
        # What went with a link, a namespace or a parent was not removed by itself, and what only came late was not removed.
        roots = [name for name in healed if name.startswith(("link ", "netns "))] or healed
        for name in roots:
            went = name in self.supports and self.supports[name] != found["supports"].get(name)
            if name not in self.left and not went:
                self.healed.setdefault(name, []).append(now)
        self.supports.update(found["supports"])
        self.left = set(found["left"])
        refused = {name for name, how in found["left"].items() if how == restore_plan.REFUSED}
        for name in set(self.refused) - refused:
            del self.refused[name]
        for name in refused:
            trouble = self.refused.setdefault(name, FailingObject())
            if trouble.due <= now:
                trouble.times += 1
                trouble.due = now + min(LONGEST, 2.0**trouble.times)
            if healed:
                trouble.due = now  # it may have waited for just that
        if restore_plan.WAITS in found["left"].values():
            self.waiting.times += 1
            longest = CONTAINERS if "podman" in found["engines"] else LONGEST
            if found["awaited"] and now < self.hinted + EAGERNESS:
                longest = EAGER
            self.waiting.due = now + min(longest, 2.0**self.waiting.times)
        else:
            self.waiting = FailingObject()

    def hint(self, now: float) -> None:
        """An event on the host: an awaited object may appear soon."""
        self.hinted = now

    def due(self) -> float:
        """The time of the next retry."""
        times = [trouble.due for trouble in self.refused.values()]
        if self.waiting.times:
            times.append(self.waiting.due)
        return min(times, default=float("inf"))


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
        self.kernel: events.Kernel
        self.files: events.Files
        self._budget = Budget()
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
        statedir.make(self.state_dir)
        self.kernel, self.files = events.Kernel(), events.Files(namespaces.RUN_DIR, self.state_dir)
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
                    for engine in found["engines"]:
                        engines[engine].connect()
                    next_look = min(self.memory.due(), now + PATROL)
                    if not self.heal and not self.outstanding:
                        _notify("STATUS=everything is restored; repair is off")
                        return 0
                rested = self._budget.spend(self._spent, now)
                next_look = max(next_look, rested)
            # What the kernel says is read until something is about us: the look sees the rest.
            quiet: List[events.EventSource] = [self.kernel] if heard is None else []
            all_ears: List[events.EventSource] = [*quiet, packets, self.files, *engines.values()]
            ears = {ear.fileno(): ear for ear in all_ears if ear.fileno() >= 0}
            ready = self._poll([woken, *ears], next_look - now)
            now = time.monotonic()
            # Every ear is emptied, no matter which was heard first.
            events_read = [ears[descriptor].read_events() for descriptor in ready if descriptor in ears]
            if any(events_read):
                heard = heard if heard is not None else now
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
            _notify("READY=1")

    def _look(self) -> Optional[LookReport]:
        """What a look found and did; None where it came to nothing."""
        now, first = time.monotonic(), self._first
        held = holds.load(self.state_dir)
        if self._held - set(held):
            self.memory.healed.clear()  # released, so it is wanted back
        self._held = set(held)
        later = [name for name, trouble in self.memory.refused.items() if trouble.due > now]
        aims = restore.RestoreScope(first, self.outstanding, later, self.memory.fragile(now))
        look = Inspection(self.state_dir, aims, self.memory.heals, self.sandboxed)
        found = look.carry_out(self._say_ready)
        self._spent = look.seconds
        if "failed" in found:
            self._fail(found["failed"])
            return None
        self._first = False
        self._listen(found, look.heard)
        self._failure, self._failures = "", 0
        metrics.write(found.pop("metrics"))  # here, where the sandbox holds
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
        self.kernel.names, self.kernel.indexes = set(found["names"]), set(found["indexes"])
        self.kernel.eager = bool(found["left"])
        self.kernel.seen = {int(number): dict(rows) for number, rows in found["seen"].items()}
        self.files.stamp = found["stamp"]
        self.files.follow(taps.directories())

    def _fail(self, why: str) -> None:
        """A look that came to nothing: one entry in the journal for each cause."""
        self._failures += 1
        if why != self._failure:
            self._failure = why
            for text in why.splitlines():
                _say(3, text)
        _notify(f"STATUS=not restored: {why.splitlines()[-1][:900]}")

    def _tell(self, found: LookReport, first: bool) -> None:
        """To the journal what is new, to systemctl status how it is now."""
        for note in found["notes"]:
            _say(4, note)
        for text in found["done"]:
            _say(5, f"{'restored' if first else 'healed'}: {text}")
        reported: Dict[str, Set[str]] = {}
        for why, how, names, text in found["causes"]:
            reported[why] = set(names)
            known = self._reported.get(why)
            # What waits comes and goes by itself, object by object.
            if known is None or (how != restore_plan.WAITS and not reported[why] <= known):
                _say(4, text)
        self._reported = reported
        held = [name if name == holds.EVERYTHING else f"{name} ({why})" for name, why in found["held"].items()]
        status = [f"{found['objects']} objects, {self.memory.heals} healed"]
        if held:
            status.append("held: " + ", ".join(held))
        rest = [f"{name}: {why}" for name, why in found["why"].items() if not why.startswith("held")]
        if rest:
            status.append(f"{len(rest)} not there: {'; '.join(rest[:3])}")
        _notify("STATUS=" + "; ".join(status).replace("\n", " ")[:1000])


class Inspection:
    """One restore in a separate process, which reports in JSON what it did."""

    def __init__(self, state_dir: str, aims: restore.RestoreScope, heals: int, sandboxed: bool) -> None:
        self.state_dir = state_dir
        self.aims = aims
        self.heals = heals
        self.sandboxed = sandboxed
        self.heard: Optional[socket.socket] = None
        self.seconds = 0.0  # of CPU that it took, with all that it started

    def carry_out(self, tired: Callable[[], None]) -> LookReport:
        """What it did, or ``failed`` with the reason. ``tired`` is called where it takes longer than PATIENCE.

        ``heard`` is a socket with the kernel's events since it looked last.
        """
        reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            reading.close()
            self._child(writing)
        writing.close()
        with reading:
            if not select.select([reading], [], [], PATIENCE)[0]:
                tired()
            _mark, descriptors, _flags, _sender = socket.recv_fds(reading, 1, 1)
            if descriptors:
                self.heard = socket.socket(fileno=descriptors[0])
                self.heard.setblocking(False)
            with reading.makefile("rb") as file:
                said = file.read()
        _child, status, used = os.wait4(child, 0)
        self.seconds = used.ru_utime + used.ru_stime
        found: LookReport = json.loads(said) if said else {"failed": f"checking the host failed (status {status})"}
        return found

    def _child(self, writing: socket.socket) -> None:
        """Never returns, whatever happens in it."""
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            found: LookReport
            try:
                if self.sandboxed:
                    # A named namespace is a mount, which has to be seen by all, and engines want files of their own.
                    namespaces.use_mounts_of(1)
                found = self._work()
            except UnderlayError as error:
                found = {"failed": str(error)}
            except Exception:
                found = {"failed": traceback.format_exc()}
            socket.send_fds(writing, [b"."], [self.heard.fileno()] if self.heard else [])
            writing.sendall(json.dumps(found).encode())
        finally:
            sys.stdout.flush()
            os._exit(0)

    def _hear(self) -> None:
        """The host is about to be looked at: what happened before is seen, what happens from now on is heard."""
        if self.heard is not None:
            self.heard.close()
        self.heard = events.subscribe()

    def _work(self) -> LookReport:
        run = RunOptions(self.state_dir, lock_timeout=120.0, who="the service")
        found = restore.restore(run, self.aims._replace(looking=self._hear))
        links = found.records.get("link", {})
        workloads = {record.spec["netns"] for record in links.values()} - {HOST}
        held = holds.load(self.state_dir)
        numbers = events.number(_paths(workloads))
        heals = self.heals + (0 if self.aims.boot else len(found.done))
        return {
            "metrics": metrics.text(Registry(self.state_dir), found, heals, held),
            "healed": [f"{change.kind} {change.key}" for change in found.done],
            "done": list(findings.repaired(found.done)),
            "causes": findings.causes(found.left),
            "seen": _seen(found, numbers),
            "stamp": found.stamp,
            "supports": _supports(found),
            "awaited": sorted(_awaited(found)),
            "left": {f"{left.kind} {left.key}": left.how for left in found.left},
            "why": {f"{left.kind} {left.key}": left.why for left in found.left},
            "notes": found.notes,
            "names": sorted(
                {
                    str(record.spec[which])
                    for record in links.values()
                    for which in ("name", "parent")
                    if record.spec.get(which)
                }
            ),
            "indexes": _indexes(found),
            "objects": sum(len(records) for kind, records in found.records.items() if kind not in ("nic", "process")),
            "engines": sorted({"docker", "podman"}.intersection(workload.partition(":")[0] for workload in workloads)),
            "held": held,
        }


def _seen(found: restore.Restored, numbers: Dict[str, int]) -> Dict[int, List[Tuple[int, int]]]:
    """The links as they were seen last, by the number of their namespace."""
    if found.observed is None:
        return {}
    spaces = {events.OWN: found.observed.host}
    for workload, number in numbers.items():
        if workload in found.observed.namespaces:
            spaces[number] = found.observed.namespaces[workload]
    return {
        number: [(index, events.fingerprint(link)) for index, link in space.links.items()]
        for number, space in spaces.items()
    }


def _indexes(found: restore.Restored) -> List[int]:
    """Of the links of the host that are ours."""
    links = found.observed.host.links.values() if found.observed else ()
    return [link.index for link in links if link.group in LINK_GROUPS]


def _supports(found: restore.Restored) -> Dict[str, str]:
    """What each link stands on: its namespace and its parent, as no other is known. With that, the link goes."""
    supports: Dict[str, str] = {}
    if found.observed is None:
        return supports
    names = found.observed.host.names
    for key, record in found.records.get("link", {}).items():
        space = found.observed.namespace(record.spec["netns"])
        parent = names.get(record.spec.get("parent") or "")
        if space is not None:
            supports[f"link {key}"] = f"{space.cookie or space.identity} {parent.index if parent else ''}"
    return supports


def _awaited(found: restore.Restored) -> Set[str]:
    """The engines of the containers that something waits for."""
    waiting = [left for left in found.left if left.how == restore_plan.WAITS]
    records = [found.records.get(left.kind, {}).get(left.key) for left in waiting]
    return {"docker", "podman"}.intersection(
        record.spec.get("netns", "").partition(":")[0] for record in records if record is not None
    )


def _paths(workloads: Set[str]) -> Dict[str, str]:
    found = {}
    for workload in workloads:
        try:
            found[workload] = namespaces.resolve(workload)
        except errors.NamespaceError:
            continue
    return found


def _say(priority: int, text: str) -> None:
    """Write a line to the journal (sd-daemon(3))."""
    sys.stdout.write(f"<{priority}>{printable(text)}\n")
    sys.stdout.flush()


def _notify(text: str) -> None:
    """sd_notify(3); nothing if no socket is given."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
        there.connect("\0" + where[1:] if where.startswith("@") else where)
        there.sendall(printable(text).encode())
