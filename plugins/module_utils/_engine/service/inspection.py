# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look of the service at the host: a restore in a process of its own, and what that reports."""

from __future__ import annotations

import gc
import marshal
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, TypedDict, cast

from ..core import errors
from ..core.change import HOST, LINK_GROUPS, Change
from ..core.errors import UnderlayError
from ..core.specs import Generic
from ..kernel import events, namespaces, workload_namespaces
from ..run import findings, restore, restore_plan
from ..run.transact import RunOptions
from ..store import holds
from ..store.registry import Registry
from . import metrics

#: The boot waits this long for the first look, in seconds, and not for its success.
PATIENCE = 20.0


class LookReport(TypedDict, total=False):
    """What the process of a look says of it: ``failed``, or everything else; plain values only."""

    failed: str
    metrics: str
    healed: List[str]  # kind and key, as in ``left`` and ``why``
    lost: List[str]  # those of them that were more than a guard
    done: List[str]
    causes: List[Tuple[str, str, List[str], str]]  # findings.Cause
    seen: Dict[int, Dict[int, int]]  # see events.Kernel
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
    registry: Tuple[bytes, bytes]  # see ParsedRegistry: its digests
    parsed: bytes  # and what it was parsed to, where that is not what it was before
    whole: Optional[Tuple[str, Dict[str, str], bool]]  # see restore.Whole
    unchanged: bool  # then ``stamp`` is the only other one


def is_guard(change: Change) -> bool:
    """Whether a repair only keeps tenants, workloads and the host apart again: the packet filter, isolation, ``spoof_check``.

    A hold would leave them open, so they are put back however often somebody takes them away.
    """
    if change.kind == "filter":
        return True
    before: Generic = change.before or {}
    after: Generic = change.after or {}
    changed = {option for option, value in before.items() if value != after.get(option)}
    return (
        change.kind == "link"
        and bool(changed & {"isolation", "senders"})
        and changed <= {"isolation", "senders", "sysctls"}
    )


class Inspection:
    """One restore in a separate process, which reports what it did. ``earlier`` is what the one before handed on."""

    def __init__(
        self, state_dir: str, aims: restore.RestoreScope, heals: int, sandboxed: bool, earlier: restore.Earlier
    ) -> None:
        self.state_dir = state_dir
        self.aims = aims
        self.heals = heals
        self.sandboxed = sandboxed
        self.earlier = earlier
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
        found: LookReport = (
            marshal.loads(said) if said and not status else {"failed": f"checking the host failed (status {status})"}
        )
        return found

    def _child(self, writing: socket.socket) -> None:
        """Never returns, whatever happens in it."""
        try:
            gc.disable()  # it ends soon
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
            writing.sendall(marshal.dumps(cast(Any, found)))
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
        parsed = self.earlier.parsed
        rows = parsed.rows
        found = restore.restore(run, self.aims._replace(looking=self._hear), self.earlier)
        if found.unchanged:
            return {"unchanged": True, "stamp": found.stamp}
        whole = self.earlier.whole
        links = found.records.get("link", {})
        workloads = {record.spec["netns"] for record in links.values()} - {HOST}
        held = holds.load(self.state_dir)
        numbers = events.number(_paths(workloads))
        heals = self.heals + (0 if self.aims.boot else len(found.done))
        return {
            "metrics": metrics.text(Registry(self.state_dir), found, heals, held),
            "healed": [f"{change.kind} {change.key}" for change in found.done],
            "lost": [f"{change.kind} {change.key}" for change in found.done if not is_guard(change)],
            "done": list(findings.repaired(found.done)),
            "causes": [(it.why, it.how, it.objects, it.text) for it in findings.causes(found.left)],
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
            "registry": (parsed.file, parsed.rows),
            "parsed": parsed.body if parsed.rows != rows else b"",
            "whole": (whole.host, whole.held, whole.barred) if whole else None,
        }


def _seen(found: restore.Restored, numbers: Dict[str, int]) -> Dict[int, Dict[int, int]]:
    """The links as they were seen last, by the number of their namespace."""
    if found.observed is None:
        return {}
    spaces = {events.OWN: found.observed.host}
    for workload, number in numbers.items():
        if workload in found.observed.namespaces:
            spaces[number] = found.observed.namespaces[workload]
    return {
        number: {index: events.fingerprint(link) for index, link in space.links.items()}
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
            found[workload] = workload_namespaces.resolve(workload)
        except errors.NamespaceError:
            continue
    return found
