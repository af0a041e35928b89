# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry among real processes: kills at any instant, and many that want it at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change, Record, Records, Spec
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import RegistryBusy
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.registry_runs import Child, answer, fork, in_child, kill_in_commit, link, run
from tests.support.simulated_kernel import SimulatedKernel


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "state"))


def kill_at_statement(number: int) -> None:
    """End this process, as kill -9 does, when SQLite is about to execute its nth statement."""
    statements = itertools.count()
    connect = sqlite3.connect

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*args, **kwargs)

        def see(_: str) -> None:
            if next(statements) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        database.set_trace_callback(see)
        return database

    sqlite3.connect = traced  # type: ignore[assignment]


def test_a_reader_plays_back_what_a_kill_left(registry: Registry) -> None:
    run(registry, *(link(f"eth0.{number}") for number in range(100)))
    before = registry.load()
    kill_in_commit(registry, [link(f"eth0.{number}") for number in range(100)])
    assert registry.load() == before


def plans(size: int) -> List[List[Change]]:
    """Two plans that make, change and remove links."""
    made = [link(f"eth0.{number}", text="x" * 100) for number in range(size)]
    changed = [Change("link", it.key, _named(it, 1500), _named(it, 9000), "", "parent") for it in made[::2]]
    gone = [change.inverse() for change in made[1::2]]
    return [made, gone + changed + [link(f"eth1.{number}") for number in range(size // 2)]]


def _named(change: Change, mtu: int) -> Spec:
    return {"netns": "", "name": change.key, "mtu": mtu}


FEW, MANY = plans(4), plans(200)


def states(plans: List[List[Change]]) -> List[Records]:
    """What the registry holds before, between and after the plans."""
    simulated, found = SimulatedKernel(), []
    for plan in ([], *plans):
        simulated.record(plan)
        found.append({kind: dict(table) for kind, table in simulated.records.items() if table})
    return found


def in_turn(registry: Registry, plans: List[List[Change]], tell: int) -> bytes:
    """Carry out plans, and tell of every step on a pipe as soon as it is done."""
    for plan in plans:
        with registry.lock(10, "a test"):
            number = registry.begin("a test", "", plan, 7)
            os.write(tell, b"b")
            registry.finish(number, plan)
            os.write(tell, b"f")
    return b"whole"


def judge(registry: Registry, plans: List[List[Change]], reported: bytes) -> None:
    """After a kill: what was reported has happened, the next step wholly or not, and work goes on."""
    finished, begun = reported.count(b"f"), reported.count(b"b")
    found = registry.pending()
    objects = registry.load()
    if found is None:
        done = states(plans).index(objects)
        assert finished <= done <= finished + 1
        assert begun <= done, "what was begun is pending"
    else:
        assert objects == states(plans)[found.number - 1]
        assert found.changes == plans[found.number - 1]
        assert found.number >= begun
        assert found.number == finished + 1
    with registry.lock(1, "the next run"):
        if found:
            registry.forget(found.number)
        assert registry.pending() is None
    run(registry, link("next"))
    assert registry.load()["link"]["next"] == Record(link("next").after or {}, "network:red")
    assert sorted(os.listdir(registry.directory))[:2] == ["lock", "registry.db"]


def test_a_kill_at_every_statement(tmp_path: Path) -> None:
    for number in itertools.count():
        registry = Registry(str(tmp_path / str(number)))
        reading, writing = os.pipe()

        def work() -> bytes:
            kill_at_statement(number)  # noqa: B023
            return in_turn(registry, FEW, writing)  # noqa: B023

        whole = in_child(work)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            judge(registry, FEW, file.read())
        if whole:
            break
    print(f"killed at each of {number} statements")
    assert number > 40


def test_a_kill_at_any_instant(tmp_path: Path) -> None:
    """In the midst of a statement or commit too."""
    chance = random.Random(2)
    whole = 0.0
    for number in range(61):
        registry = Registry(str(tmp_path / str(number)))
        reading, writing = os.pipe()
        start = time.monotonic()
        child = fork(lambda: in_turn(registry, MANY, writing))  # noqa: B023
        os.close(writing)
        if number:
            time.sleep(chance.uniform(0, whole))
            os.kill(child[0], signal.SIGKILL)
        answer(*child)
        whole = whole or time.monotonic() - start
        with os.fdopen(reading, "rb") as file:
            judge(registry, MANY, file.read())


def test_twenty_at_once(registry: Registry) -> None:
    """Each adds one to a number that it has read: under the lock nothing is lost."""

    def work() -> bytes:
        with registry.lock(60, f"process {os.getpid()}"):
            count = registry.load().get("link", {}).get("n", Record({"mtu": 0}, "")).spec["mtu"]
            more = link("n", mtu=count + 1)
            number = registry.begin("a test", "", [more], 7)
            registry.finish(number, [more])
        return b"done"

    def read() -> bytes:
        seen = [registry.load().get("link", {}).get("n") for _ in range(50)]
        counts = [record.spec["mtu"] if record else 0 for record in seen]
        return b"done" if counts == sorted(counts) else b"out of order"

    children = [fork(work) for _ in range(20)] + [fork(read) for _ in range(2)]
    assert [answer(*child) for child in children] == [b"done"] * 22
    assert registry.load()["link"]["n"].spec["mtu"] == 20
    assert len(registry.transactions()) == 20
    assert registry.pending() is None


def holder(registry: Registry, who: str) -> Child:
    """A child that has the lock when this returns, until it is killed."""
    reading, writing = os.pipe()

    def work() -> bytes:
        with registry.lock(10, who):
            os.write(writing, b"x")
            signal.pause()
        return b""

    child = fork(work)
    os.read(reading, 1)
    os.close(reading)
    os.close(writing)
    return child


def end(child: Child) -> None:
    os.kill(child[0], signal.SIGKILL)
    answer(*child)


def test_busy_names_the_holder(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    child = holder(registry, "eve, Ansible")
    naps, nap = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: naps.append(seconds) or nap(seconds))
    start = time.monotonic()
    with pytest.raises(RegistryBusy) as caught, registry.lock(0.2, "me"):
        raise AssertionError
    assert time.monotonic() - start >= 0.2
    assert sum(naps) < 1, "what it meant to wait, whatever a busy machine adds"
    assert re.fullmatch(
        rf"this host is being changed by eve, Ansible \(process {child[0]}\) since [-0-9T:]+Z; "
        "wait for it, or give a longer lock_timeout",
        str(caught.value),
    )
    assert registry.load() == {}, "readers do not wait"
    end(child)


def test_a_killed_holder_holds_no_more(registry: Registry) -> None:
    end(holder(registry, "eve"))
    with registry.lock(0, "me"):
        pass


def test_who_waits_gets_it_when_it_is_free(registry: Registry) -> None:
    child = holder(registry, "eve")
    waiter = fork(lambda: contextlib.ExitStack().enter_context(registry.lock(10, "me")) or b"got it")
    time.sleep(0.1)
    end(child)
    assert answer(*waiter) == b"got it"


def test_a_finished_holder_is_not_named(registry: Registry) -> None:
    with registry.lock(0, "eve"):
        pass
    assert Path(registry.directory, "lock").read_text() == ""


def test_a_lock_that_was_removed_locks_nothing(registry: Registry) -> None:
    """Somebody removes the whole directory while one waits and one works."""
    child = holder(registry, "eve")

    def work() -> bytes:
        with registry.lock(10, "me"):
            return os.stat(os.path.join(registry.directory, "lock")).st_ino.to_bytes(8, "big")

    waiter = fork(work)
    time.sleep(0.1)
    os.unlink(os.path.join(registry.directory, "lock"))
    end(child)
    assert answer(*waiter)


def test_the_lock_is_free_again_after_an_exception(registry: Registry) -> None:
    with pytest.raises(KeyError), registry.lock(0, "me"):
        raise KeyError
    with registry.lock(0, "me"):
        pass
