# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the registry, in this process or in one that may be killed."""

from __future__ import annotations

import os
import signal
import sqlite3
from typing import Any, Callable, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import RegistryError
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

Child = Tuple[int, int]  # its process and the pipe of its answer


def link(name: str, **more: Any) -> Change:
    """A link that is made for a network; ``text`` makes its record longer."""
    text = more.pop("text", "")
    if text:
        more["altnames"] = [text[at : at + 100] for at in range(0, len(text), 100)]
    spec = {"netns": "", "name": name, "kind": "dummy", "up": True, "group": 8021, "mtu": 1500, **more}
    return Change("link", name, None, spec, "needed", "network:red")


def run(registry: Registry, *changes: Change) -> int:
    """A whole run, as converge does it."""
    with registry.lock(10, "a test"):
        number = registry.begin("a test", "map:all", changes, 7)
        registry.finish(number, changes)
    return number


def undone(registry: Registry, *changes: Change) -> int:
    with registry.lock(10, "a test"):
        number = registry.begin("a test", "map:all", changes, 7)
        registry.forget(number)
    return number


def interrupted(registry: Registry, *changes: Change) -> int:
    with registry.lock(10, "a killed test"):
        return registry.begin("a killed test", "map:all", changes, 7)


def error(work: Callable[[], Any]) -> str:
    with pytest.raises(RegistryError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def both(registry: Registry, what: str) -> None:
    """Reading and writing refuse with the same words, and leave all as it was."""
    for work in (registry.load, registry.seed, registry.pending, lambda: run(registry, link("a"))):
        text = error(work)
        assert what in text
        assert "; " in text, "a cure"


def fork(work: Callable[[], bytes]) -> Child:
    """A child that does some work, and where its answer will be read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        os.write(writing, work())
    except BaseException as problem:
        os.write(writing, f"failed: {problem!r}".encode())
    finally:
        os._exit(0)


def answer(child: int, reading: int) -> bytes:
    with os.fdopen(reading, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    assert not text.startswith(b"failed"), text
    return text


def in_child(work: Callable[[], bytes]) -> bytes:
    return answer(*fork(work))


def kill_in_commit(registry: Registry, plan: List[Change]) -> None:
    """Leave a journal that is to be played back, for the database has pages of an open commit."""

    def work() -> bytes:
        with registry.lock(10, "a test"):
            database = sqlite3.connect(registry.path, isolation_level=None)
            database.execute("PRAGMA cache_size = 1")
            database.execute("BEGIN IMMEDIATE")
            for change in plan:
                database.execute("REPLACE INTO objects VALUES ('link', ?, 'x', ?)", (change.key, '"x"' * 100))
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    in_child(work)
    assert os.path.getsize(registry.path + "-journal") > 0
