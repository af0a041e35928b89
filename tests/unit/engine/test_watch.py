# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service remembers between looks: who is held, who is tried again and when."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Optional, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.manager import Manager
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, restore_plan
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import inspection, metrics, watch
from ansible_collections.netops.underlay.plugins.module_utils._engine.service.history import (
    LONGEST,
    WINDOW,
    HealHistory,
)


def look(
    healed: Sequence[str] = (),
    engines: Sequence[str] = (),
    on: Optional[Dict[str, str]] = None,
    awaited: Sequence[str] = (),
    guards: Sequence[str] = (),
    **left: str,
) -> Dict[str, Any]:
    return {
        "healed": list(healed),
        "lost": [name for name in healed if name not in guards],
        "left": {name.replace("_", " "): how for name, how in left.items()},
        "engines": engines,
        "supports": on or {},
        "awaited": awaited,
    }


def test_twice_in_a_minute_is_fragile_and_a_minute_later_it_is_not() -> None:
    memory = HealHistory()
    memory.take_in(look(["link a"]), 0, False)
    assert memory.fragile(1) == []
    memory.take_in(look(["link a"]), 30, False)
    assert memory.fragile(31) == ["link a"]
    assert memory.fragile(30 + WINDOW + 1) == []
    assert memory.heals == 2


def test_what_keeps_things_apart_is_put_back_however_often() -> None:
    memory = HealHistory()
    for now in range(5):
        memory.take_in(look(["filter netops_underlay"], guards=["filter netops_underlay"]), now, False)
    assert memory.fragile(5) == [] and memory.heals == 5


@pytest.mark.parametrize(
    ("before", "after", "guard"),
    [
        ({"name": "a", "isolation": "none", "sysctls": {}}, {"name": "a", "isolation": "none"}, False),
        ({"name": "a", "isolation": None, "sysctls": {"ipv4.rp_filter": 2}}, {"name": "a", "isolation": "none"}, True),
        ({"name": "a", "senders": None}, {"name": "a", "senders": ["192.0.2.1"]}, True),
        ({"name": "a", "isolation": None, "up": False}, {"name": "a", "isolation": "none", "up": True}, False),
        ({"name": "a", "sysctls": {"ipv4.arp_notify": 0}}, {"name": "a", "sysctls": {"ipv4.arp_notify": 1}}, False),
        (None, {"name": "a", "isolation": "none"}, False),
    ],
)
def test_which_repairs_only_keep_things_apart(before: Any, after: Any, guard: bool) -> None:
    assert inspection.is_guard(Change("link", "a", before, after, "")) is guard
    assert inspection.is_guard(Change("filter", "netops_underlay", None, {"netns": ""}, ""))
    assert not inspection.is_guard(Change("address", "a 192.0.2.1/24", before, after, ""))


def test_what_goes_with_a_link_is_not_counted_by_itself() -> None:
    memory = HealHistory()
    for now in (0, 1):
        memory.take_in(look(["link a", "address a 10.0.0.1/24", "route x"]), now, False)
    assert memory.fragile(2) == ["link a"]
    for now in (3, 4):
        memory.take_in(look(["route x"]), now, False)
    assert memory.fragile(5) == ["link a", "route x"]


def test_what_comes_late_and_what_a_boot_restores_was_not_removed() -> None:
    memory = HealHistory()
    memory.take_in(look(["link a"]), 0, True)
    memory.take_in(look([], link_b=restore_plan.WAITS), 1, False)
    memory.take_in(look(["link b"]), 2, False)
    memory.take_in(look(["link b", "link a"]), 3, False)
    assert memory.fragile(4) == []


def test_what_went_with_its_namespace_or_its_parent_was_not_removed() -> None:
    memory = HealHistory()
    for now in range(5):
        memory.take_in(
            look(["link podman:web/eth0", "address x"], on={"link podman:web/eth0": f"space {now}"}), now, now == 0
        )
    assert memory.fragile(5) == []
    for now in (6, 7):
        memory.take_in(look(["link podman:web/eth0"], on={"link podman:web/eth0": "space 4"}), now, False)
    assert memory.fragile(8) == ["link podman:web/eth0"], "from the same container: somebody removes it"
    memory.take_in(look(["netns netns:a", "link netns:a/eth0"], on={"link netns:a/eth0": "1"}), 100, False)
    memory.take_in(look(["netns netns:a", "link netns:a/eth0"], on={"link netns:a/eth0": "2"}), 101, False)
    assert memory.fragile(102) == ["netns netns:a"]


def test_a_container_is_looked_for_every_second_while_something_happens() -> None:
    memory = HealHistory()
    away = look(engines=["podman"], awaited=["podman"], link_a=restore_plan.WAITS)
    for now in range(0, 200, 10):
        memory.take_in(away, now, False)
    assert memory.due() - 190 > 10
    memory.hint(200)
    for now in range(201, 215):
        memory.take_in(away, now, False)
        assert memory.due() - now < 1
    memory.take_in(away, 216, False)
    assert memory.due() - 216 > 10
    memory.hint(217)
    memory.take_in(look(engines=["podman"], link_a=restore_plan.WAITS), 218, False)
    assert memory.due() - 218 > 10, "a NIC tells by itself"


def test_looks_may_come_in_a_row_and_take_a_quarter_of_a_cpu_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    budget = watch.Budget()
    for number in range(1, 5):
        assert budget.spend(1.5, number * 1.5) == number * 1.5
    assert watch.Budget().spend(0.1, 100.0) == 100.0, "a look that waits costs nothing"
    now = 6.0
    for _ in range(50):
        now = budget.spend(1.5, now + 1.5)
    start = now
    for _ in range(100):
        now = budget.spend(1.5, now + 1.5)
    assert 0.24 < 150 / (now - start) < 0.26


def test_a_look_that_finds_nothing_new_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the age of the metrics, by which people see that the service lives."""
    full: Dict[str, Any] = {
        **look(), "metrics": "drift 0\n", "names": ["a"], "indexes": [7], "seen": {-1: {7: 1}}, "stamp": "one", "notes": [], "done": [],
        "causes": [], "why": {}, "objects": 1, "held": {}, "registry": (b"f", b"r"), "parsed": b"p", "whole": ("h", {}, False),
    }  # fmt: skip
    reports = iter([dict(full), {"unchanged": True, "stamp": "two"}, {"failed": "busy"}])
    given = []

    def inspection(_state_dir: str, _aims: object, _heals: int, _sandboxed: bool, earlier: restore.Earlier) -> Any:
        given.append((earlier.parsed.file, earlier.parsed.rows, earlier.parsed.body, earlier.whole))
        return SimpleNamespace(carry_out=lambda tired: next(reports), seconds=0.0, heard=None)

    monkeypatch.setattr(watch, "Inspection", inspection)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    watcher = watch.Watcher(str(tmp_path), heal=True, sandboxed=False)
    watcher.kernel, watcher.files = SimpleNamespace(), SimpleNamespace(follow=lambda directories: None)  # type: ignore[assignment]
    kept = (b"f", b"r", b"p", restore.Whole("h", {}, False))
    assert watcher._look() is not None
    (tmp_path / metrics.NAME).unlink()
    assert watcher._look() == {"unchanged": True, "stamp": "two"}
    assert (tmp_path / metrics.NAME).read_text(encoding="utf-8") == "drift 0\n"
    assert (watcher.kernel.names, watcher.kernel.seen, watcher.files.stamp) == ({"a"}, {-1: {7: 1}}, "two")
    assert watcher._look() is None
    assert given == [(b"", b"", b"", None), kept, kept]
    assert watcher._earlier.whole is None, "the next look says how it is"


def test_the_refused_are_tried_again_ever_later_each_by_itself() -> None:
    memory = HealHistory()
    now, pauses = 0.0, []
    for _ in range(12):
        memory.take_in(look(link_a=restore_plan.REFUSED), now, False)
        pauses.append(memory.due() - now)
        now = memory.due()
    assert pauses == [2.0**times for times in range(1, 9)] + [LONGEST] * 4
    memory.take_in(look(link_a=restore_plan.REFUSED, link_b=restore_plan.REFUSED), now - 1, False)
    assert memory.due() == now, "the first waits on, the second has its own pause"
    memory.take_in(look(["link c"], link_a=restore_plan.REFUSED), now - 0.5, False)
    assert memory.due() == now - 0.5, "something came back: it may have waited for that"
    memory.take_in(look(), now, False)
    assert memory.due() == float("inf")


def test_containers_are_asked_for_often_enough_and_only_those() -> None:
    memory = HealHistory()
    for now in range(0, 1000, 10):
        memory.take_in(look(engines=["podman"], link_a=restore_plan.WAITS), now, False)
    assert memory.due() - now <= 15
    memory.take_in(look(link_a=restore_plan.STAYS), 1000, False)
    assert memory.due() == float("inf")


def fill(one: socket.socket) -> None:
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(b"X=from before\n")


def comes_back(call: Callable[[], None]) -> bool:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_a_systemd_that_reads_nothing_hears_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as another,
    ):
        systemd.bind(str(tmp_path / "notify"))
        another.connect(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        manager = Manager()
        fill(another)
        for text in ("READY=1", "STATUS=one", "STATUS=two"):
            assert comes_back(lambda text=text: manager.notify(text)) and manager.is_behind  # type: ignore[misc]
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                assert b"from before" in systemd.recv(4096)
        manager.catch_up()
        assert not manager.is_behind
        assert systemd.recv(4096) == b"READY=1\nSTATUS=two"


def test_a_journal_that_reads_nothing_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "select.select", lambda read, write, rest, _seconds, real=select.select: real(read, write, rest, 0)
    )
    ours, journal = socket.socketpair()
    with ours, journal:
        manager = Manager(ours.fileno())
        fill(ours)
        ours.setblocking(True)
        for _ in range(3):
            assert comes_back(lambda: manager.log(4, "lost"))
        journal.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                journal.recv(1 << 20)
        manager.log(5, "a line\x1b[2J")
        assert journal.recv(4096) == b"<4>3 lines are lost, which the journal did not take\n<5>a line\\x1b[2J\n"
