# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service: restores at boot, then hears what gets lost and heals it.

It only listens. Each look at the host is a process of its own (``Look``), so that what that takes in memory is gone
with it, and so that a look that dies takes nobody along.
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
from typing import Any, Dict, List, Optional, Set

from . import holds, listen, metrics, namespaces, restore, statedir
from .registry import Registry, RegistryError
from .transact import Run
from .world import HOST

#: Events come in bursts: so long after the first one the host is looked at.
SETTLE = 0.15
#: Of the time that looks take, at most this part of the time is spent on them.
SHARE = 0.25
#: An object that was healed twice within so many seconds and is lost again is held.
WINDOW, TIMES = 60.0, 3
LONGEST = 300.0
#: Containers of Podman, whose service may be off, are asked for this often, at last.
CONTAINERS = 15.0


@dataclass
class Troubled:
    """An object that could not be had: how often, and when it is tried again."""

    times: int = 0
    due: float = 0.0


@dataclass
class Memory:
    """What the service remembers between looks."""

    healed: Dict[str, List[float]] = field(default_factory=dict)  # when each was, lately
    refused: Dict[str, Troubled] = field(default_factory=dict)
    left: Set[str] = field(default_factory=set)  # what was not there after the last look
    waiting: Troubled = field(default_factory=Troubled)
    heals: int = 0  # since the start

    def fragile(self, now: float) -> List[str]:
        for name in list(self.healed):
            self.healed[name] = [when for when in self.healed[name] if when > now - WINDOW]
            if not self.healed[name]:
                del self.healed[name]
        return [name for name, times in self.healed.items() if len(times) >= TIMES - 1]

    def take_in(self, found: Dict[str, Any], now: float, is_boot: bool) -> None:
        healed = [] if is_boot else found["healed"]
        self.heals += len(healed)
        # What went with a link or a namespace was not removed by itself, and what only came late was removed by nobody.
        roots = [name for name in healed if name.startswith(("link ", "netns "))] or healed
        for name in roots:
            if name not in self.left:
                self.healed.setdefault(name, []).append(now)
        self.left = set(found["left"])
        refused = {name for name, how in found["left"].items() if how == restore.REFUSED}
        for name in set(self.refused) - refused:
            del self.refused[name]
        for name in refused:
            trouble = self.refused.setdefault(name, Troubled())
            if trouble.due <= now:
                trouble.times += 1
                trouble.due = now + min(LONGEST, 2.0**trouble.times)
            if healed:
                trouble.due = now  # it may have waited for just that
        if restore.WAITS in found["left"].values():
            self.waiting.times += 1
            longest = CONTAINERS if "podman" in found["engines"] else LONGEST
            self.waiting.due = now + min(longest, 2.0**self.waiting.times)
        else:
            self.waiting = Troubled()

    def due(self) -> float:
        """When something is to be tried again by itself."""
        times = [trouble.due for trouble in self.refused.values()]
        if self.waiting.times:
            times.append(self.waiting.due)
        return min(times, default=float("inf"))


class Watcher:
    """The service's loop. ``heal`` off: it ends when everything is restored once."""

    def __init__(self, state_dir: str, heal: bool, sandboxed: bool) -> None:
        self.state_dir = state_dir
        self.heal = heal
        self.sandboxed = sandboxed
        self.memory = Memory()
        self.outstanding: Optional[Set[str]] = None  # with healing off: what the boot has not brought back yet
        self._stop = False
        self._told: Dict[str, str] = {}
        self._held: Set[str] = set()

    def run(self) -> int:
        statedir.make(self.state_dir)
        kernel, files = listen.Kernel(), listen.Files(namespaces.RUN_DIR, self.state_dir)
        engines = {"docker": listen.Engine(listen.DOCKER), "podman": listen.Engine(listen.PODMAN)}
        # A poll goes on after a signal; only something to read ends it.
        woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        now = time.monotonic()
        first, next_look = True, now
        while not self._stop:
            if now >= next_look:
                begun = time.monotonic()
                found = self._look(first)
                now = time.monotonic()
                if found is None:  # it died, or somebody is at work for long
                    next_look = now + 5.0
                else:
                    kernel.names = set(found["names"])
                    kernel.eager = bool(found["left"])
                    for engine in found["engines"]:
                        engines[engine].connect()
                    next_look = self.memory.due()
                    if first:
                        _notify("READY=1")
                    first = False
                    if not self.heal and not self.outstanding:
                        _notify("STATUS=everything is restored; healing is off")
                        return 0
                rest = now + (now - begun) * (1 / SHARE - 1)
                next_look = max(next_look, rest)
            all_ears: List[listen.Ear] = [kernel, files, *engines.values()]
            ears = {ear.fileno(): ear for ear in all_ears if ear.fileno() >= 0}
            ready = self._poll([woken, *ears], next_look - now)
            now = time.monotonic()
            # Every ear is emptied, whoever was heard first.
            heard = [ears[descriptor].heard() for descriptor in ready if descriptor in ears]
            if any(heard):
                soon = now + SETTLE
                if next_look > soon:
                    next_look = max(soon, rest)
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

    def _look(self, first: bool) -> Optional[Dict[str, Any]]:
        now = time.monotonic()
        held = holds.load(self.state_dir)
        if self._held - set(held):
            self.memory.healed.clear()  # whoever released it wants it back
        self._held = set(held)
        later = [name for name, trouble in self.memory.refused.items() if trouble.due > now]
        aims = restore.Aims(first, self.outstanding, later, self.memory.fragile(now))
        found = Look(self.state_dir, aims, self.memory.heals, self.sandboxed).carry_out()
        if found is None:
            return None
        self._held = set(found["held"])
        self.memory.take_in(found, time.monotonic(), first)
        if not self.heal:
            open_ = {name for name, how in found["left"].items() if how != restore.STAYS}
            self.outstanding = open_ if self.outstanding is None else open_ & self.outstanding
        self._tell(found, first)
        return found

    def _tell(self, found: Dict[str, Any], first: bool) -> None:
        """To the journal what is new, to systemctl status how it is now."""
        for note in found["notes"]:
            _say(4, note)
        for text in found["done"]:
            _say(5, f"{'restored' if first else 'healed'}: {text}")
        for name, why in found["why"].items():
            if self._told.get(name) != why:
                _say(4, f"{name}: {why}")
        self._told = found["why"]
        held = [name if name == holds.EVERYTHING else f"{name} ({why})" for name, why in found["held"].items()]
        status = [f"{found['objects']} objects, {self.memory.heals} healed"]
        if held:
            status.append("held: " + ", ".join(held))
        rest = [f"{name}: {why}" for name, why in found["why"].items() if not why.startswith("held")]
        if rest:
            status.append(f"{len(rest)} not there: {'; '.join(rest[:3])}")
        _notify("STATUS=" + ("; ".join(status)).replace("\n", " ")[:1000])


class Look:
    """One restore in a process of its own, which says in JSON what it did."""

    def __init__(self, state_dir: str, aims: restore.Aims, heals: int, sandboxed: bool) -> None:
        self.state_dir = state_dir
        self.aims = aims
        self.heals = heals
        self.sandboxed = sandboxed

    def carry_out(self) -> Optional[Dict[str, Any]]:
        """None where it failed, which it told the journal."""
        reading, writing = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.close(reading)
            self._child(writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            said = file.read()
        os.waitpid(child, 0)
        return json.loads(said) if said else None

    def _child(self, writing: int) -> None:
        """Never returns, whatever happens in it."""
        status = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self.sandboxed:
                # A named namespace is a mount, which has to be seen by all, and engines want files of their own.
                namespaces.use_mounts_of(1)
            found = json.dumps(self._work()).encode()
            with os.fdopen(writing, "wb") as file:
                file.write(found)
            status = 0
        except RegistryError as error:
            _say(3, str(error))
        except Exception:
            for text in traceback.format_exc().splitlines():
                _say(3, text)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def _work(self) -> Dict[str, Any]:
        run = Run(self.state_dir, lock_timeout=120.0, who="the service")
        found = restore.restore(run, self.aims)
        links = found.records.get("link", {})
        workloads = {record.spec["netns"] for record in links.values()} - {HOST}
        held = holds.load(self.state_dir)
        listen.number(_paths(workloads))
        metrics.write(Registry(self.state_dir), found, self.heals + (0 if self.aims.boot else len(found.done)), held)
        return {
            "healed": [f"{change.kind} {change.key}" for change in found.done],
            "done": [f"{change.kind} {change.key} {change.reason}" for change in found.done][:200],
            "left": {f"{left.kind} {left.key}": left.how for left in found.left},
            "why": {f"{left.kind} {left.key}": left.why for left in found.left},
            "notes": found.notes,
            "names": sorted({str(record.spec[which]) for record in links.values() for which in ("name", "parent") if record.spec.get(which)}),
            "objects": sum(len(records) for records in found.records.values()),
            "engines": sorted({"docker", "podman"}.intersection(workload.partition(":")[0] for workload in workloads)),
            "held": held,
        }


def _paths(workloads: Set[str]) -> Dict[str, str]:
    found = {}
    for workload in workloads:
        try:
            found[workload] = namespaces.resolve(workload)
        except namespaces.NamespaceError:
            continue
    return found


def _say(priority: int, text: str) -> None:
    """A line for the journal (sd-daemon(3))."""
    sys.stdout.write(f"<{priority}>{text}\n")
    sys.stdout.flush()


def _notify(text: str) -> None:
    """sd_notify(3); nothing where nobody wants to know."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
        there.connect("\0" + where[1:] if where.startswith("@") else where)
        there.sendall(text.encode())
