# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine killed, and the kernel refusing, at every single point of plans of each kind.

A point is anything that changes the kernel, a file or the registry: each netlink message by itself, each sysctl,
system call on a namespace, hosts file and statement of SQL. How many there are is counted in a clean run; then the
run is repeated once for each, from the same host, and has to leave the same behind in the end.
"""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import hosts, namespaces, restore, rtnetlink, space, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.observe import KernelError
from ansible_collections.netops.underlay.plugins.module_utils._engine.rtnetlink import Failure, Lost, Message, Socket
from ansible_collections.netops.underlay.plugins.module_utils._engine.transact import Stuck, Undone
from conftest import run
from play import Engine
from test_restore import nic, picture, settled

KILLED = 77

ONE = {"name": "one", "driver": "macvlan", "parent": "nica.10", "subnets": [{"subnet": "192.0.2.0/24"}], "host_access": True}
TWO = {"name": "two", "driver": "ipvlan", "parent": "nicb.20", "subnets": [{"subnet": "198.51.100.0/24"}]}
WEB = {"network": "one", "name": "web", "netns": "web", "mtu": 1500}
ROUTES = {"name": "up", "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]}
LINK = {"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]}

EMPTY: Dict[str, Any] = {"purge": True}
FIRST = {"networks": [ONE, TWO], "endpoints": [WEB, {"network": "two", "name": "db", "netns": "db"}], "links": [LINK], "routes": [ROUTES],
         "purge": True}  # fmt: skip
#: Everything otherwise in place, one thing gone, one new.
OTHER = {
    "networks": [{**ONE, "mode": "private", "host_access": False}, {**TWO, "mode": "l3"}],
    "endpoints": [{**WEB, "mtu": 1400}, {"network": "two", "name": "new", "netns": "db"}],
    "links": [{**LINK, "gvrp": True, "addresses": ["10.30.0.2/24"]}],
    "routes": [{**ROUTES, "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.253"}]}],
    "purge": True,
}  # fmt: skip
KINDS = {"made": (EMPTY, FIRST), "changed": (FIRST, OTHER), "removed": (OTHER, EMPTY)}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    run("rm -rf /etc/netns")
    nic("nica")
    nic("nicb")
    return Engine(str(tmp_path / "state"))


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    return Points(monkeypatch)


class Points:
    """Counts every point that is passed, and has something happen at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self.at = -1
        self.happens: Callable[[], None] = lambda: None
        for where, name in ((space, "_write"), (namespaces, "_call"), (hosts, "write")):
            monkeypatch.setattr(where, name, self._before(getattr(where, name)))
        monkeypatch.setattr(transact.os, "replace", self._before(os.replace))
        monkeypatch.setattr(Socket, "batch", self._batch(Socket.batch))
        monkeypatch.setattr(sqlite3, "connect", self._connect(sqlite3.connect))

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.happens()

    def start(self, at: int, happens: Callable[[], None]) -> None:
        self.passed, self.at, self.happens = 0, at, happens

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.point()
            return real(*args, **kwargs)

        return wrapped

    def _batch(self, real: Callable[..., List[Failure]]) -> Callable[..., List[Failure]]:
        """Each message in a send of its own, so that there is a point before each."""

        def wrapped(kernel: Socket, messages: Sequence[Message]) -> List[Failure]:
            failures = []
            for position, message in enumerate(messages):
                self.point()
                failures += [failure._replace(position=position) for failure in real(kernel, (message,))]
            return failures

        return wrapped

    def _connect(self, real: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def wrapped(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            database = real(*args, **kwargs)
            database.set_trace_callback(lambda _: self.point())
            return database

        return wrapped


def in_child(work: Callable[[], None]) -> int:
    """The exit status of a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def clean(engine: Engine, before: Dict[str, Any], after: Dict[str, Any]) -> List[Any]:
    """The host before and after, without a fault."""
    engine.map(**before)
    found = [picture()]
    engine.map(**after)
    found.append(picture())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_point(engine: Engine, points: Points, kind: str) -> None:
    before, after = KINDS[kind]
    pictures = clean(engine, before, after)
    undone = finished = 0
    for number in itertools.count(1):
        engine.map(**before)

        def work() -> None:
            points.start(number, lambda: os._exit(KILLED))  # noqa: B023
            engine.map(**after)

        points.start(-1, lambda: None)
        status = in_child(work)
        if status == 0:
            break
        assert status == KILLED
        if number % 4 == 0:  # the next run finds it
            engine.map(**after)
            assert picture() == pictures[1], number
        else:  # the service does, or the boot: whole or not at all, as the registry says
            found = restore.restore(transact.Run(engine.state_dir))
            assert found.left == [], number
            now = picture()
            assert now in pictures, f"half of it is left, killed at point {number}"
            undone, finished = undone + (now == pictures[0]), finished + (now == pictures[1])
        settled(engine)
        engine.map(**after)
        settled(engine)
    points.start(-1, lambda: None)
    engine.map(**before)
    points.start(-1, lambda: None)
    engine.map(**after)
    assert picture() == pictures[1]
    print(f"{kind}: killed at {number - 1} of {points.passed} points; {undone} undone, {finished} finished")
    assert number - 1 == points.passed > 60
    assert undone and finished


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_of_the_kernel_at_every_message(engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before, after = KINDS[kind]
    pictures = clean(engine, before, after)
    refuser = Refuser(monkeypatch)
    undone = done = 0
    for number in itertools.count(1):
        refuser.start(-1)
        engine.map(**before)
        refuser.start(number)
        try:
            engine.map(**after)
        except (Undone, KernelError):
            undone += 1
            assert refuser.passed >= number
            refuser.start(-1)
            assert picture() == pictures[0], f"half of it is left, refused at message {number}"
            assert not engine.pending()
            continue
        except Stuck:
            raise AssertionError(f"stuck at message {number}") from None
        assert picture() == pictures[1], number
        if refuser.passed < number:
            break
        done += 1  # one message for many failed, and each was sent by itself
    refuser.start(-1)
    engine.map(**before)
    refuser.start(-1)
    engine.map(**after)
    print(f"{kind}: refused at {number - 1} of {refuser.passed} messages; {undone} undone, {done} done another way")
    assert number - 1 == refuser.passed > 25
    assert undone


class Refuser:
    """Has the kernel refuse one message, or lose the answer to one question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self.at = -1
        batch, ask, dump = Socket.batch, Socket.ask, Socket.dump

        def refuse_batch(kernel: Socket, messages: Sequence[Message]) -> List[Failure]:
            failures = []
            for position, message in enumerate(messages):
                if self._is_it():
                    failures.append(Failure(position, errno.EIO, "injected"))
                else:
                    failures += [failure._replace(position=position) for failure in batch(kernel, (message,))]
            return failures

        def lose(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(kernel: Socket, *args: Any) -> Any:
                if self._is_it():
                    raise Lost(errno.ENOBUFS, "injected")
                return real(kernel, *args)

            return wrapped

        monkeypatch.setattr(rtnetlink.Socket, "batch", refuse_batch)
        monkeypatch.setattr(rtnetlink.Socket, "ask", lose(ask))
        monkeypatch.setattr(rtnetlink.Socket, "dump", lose(dump))

    def _is_it(self) -> bool:
        self.passed += 1
        return self.passed == self.at

    def start(self, at: int) -> None:
        self.passed, self.at = 0, at
