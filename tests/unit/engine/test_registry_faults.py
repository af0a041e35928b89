# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry on disks that are full, read-only or broken."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import RegistryError
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import registry as module
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.registry_runs import both, error, in_child, interrupted, kill_in_commit, link, run


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "state"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_reported_before_anything_is_touched(small_disk: Path) -> None:
    registry = Registry(str(small_disk / "state"))
    run(registry, link("a"))
    filled = small_disk / "filled"
    with contextlib.suppress(OSError), open(filled, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    text = error(lambda: interrupted(registry, link("b")))
    assert text.endswith("KiB are needed and are not free; make room on its file system")
    assert registry.pending() is None
    assert set(registry.load()["link"]) == {"a"}
    filled.unlink()
    run(registry, link("b"))


def test_a_plan_for_which_there_is_no_room(small_disk: Path) -> None:
    registry = Registry(str(small_disk / "state"))
    many = [link(f"eth0.{number}", text="x" * 300) for number in range(2000)]
    assert "make room" in error(lambda: interrupted(registry, *many))
    assert registry.pending() is None
    run(registry, link("a"))


def test_a_read_only_disk_can_be_read(small_disk: Path) -> None:
    registry = Registry(str(small_disk / "state"))
    number = run(registry, link("a"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert set(registry.load()["link"]) == {"a"}
    assert registry.transaction(number).changes == [link("a")]
    assert "Read-only file system; make its file system writable" in error(lambda: run(registry, link("b")))
    other = Registry(str(small_disk / "other"))
    assert other.load() == {}
    assert "Read-only file system" in error(lambda: run(other, link("b")))


def test_a_disk_that_fills_at_any_write(registry: Registry) -> None:
    """Files may not grow beyond a limit: what fails is reported, and nothing is half done."""
    run(registry, link("a"))
    many = [link(f"eth0.{number}", text="x" * 300) for number in range(100)]

    def limited(size: int) -> bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        with registry.lock(10, "a test"):
            try:
                number = registry.begin("a test", "", many, 7)
            except RegistryError:
                return b"not begun"
            try:
                registry.finish(number, many)
            except RegistryError:
                return b"not finished"
        return b"finished"

    outcomes = set()
    for size in range(0, 2**17, 4096):
        outcome = in_child(lambda: limited(size))  # noqa: B023
        outcomes.add(outcome)
        found = registry.pending()
        assert (found is not None) == (outcome == b"not finished")
        assert len(registry.load()["link"]) == (101 if outcome == b"finished" else 1)
        if found:
            with registry.lock(10, "a test"):
                registry.forget(found.number)
        elif outcome == b"finished":
            run(registry, *(change.inverse() for change in many))
            with contextlib.closing(sqlite3.connect(registry.path)) as database:
                database.execute("VACUUM")
    assert outcomes == {b"not begun", b"not finished", b"finished"}


DAMAGES: Dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "no database": lambda data: b"hello\n" * 1000,
    "zeroes": lambda data: bytes(len(data)),
    "short": lambda data: data[:5000],
    "another database": lambda data: _other_database(),
}


def _other_database() -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        with contextlib.closing(sqlite3.connect(file.name)) as database, database:
            database.execute("CREATE TABLE t (x)")
        return Path(file.name).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_registry_is_reported_and_kept(registry: Registry, damage: str) -> None:
    run(registry, *(link(f"eth0.{number}") for number in range(100)))
    path = Path(registry.path)
    data = DAMAGES[damage](path.read_bytes())
    path.write_bytes(data)
    for work in (registry.load, lambda: interrupted(registry, link("a"))):
        text = error(work)
        assert text.startswith(f"{path} is damaged (")
        assert "move registry.db aside" in text
        assert "adopt: true" in text
    assert path.read_bytes() == data


def is_reported(work: Callable[[], object]) -> bool:
    try:
        work()
    except RegistryError as problem:
        return "damaged" in str(problem) or "newer" in str(problem)
    return False


def test_any_damage_is_reported_in_a_sentence(registry: Registry) -> None:
    """Bytes and pages that are lost: whatever is asked then works, or raises RegistryError."""
    run(registry, *(link(f"eth0.{number}") for number in range(200)))
    interrupted(registry, link("a"))
    path = Path(registry.path)
    whole = path.read_bytes()
    chance = random.Random(1)
    reported = 0
    for _ in range(400):
        data = bytearray(whole)
        where = chance.randrange(len(data))
        if chance.random() < 0.5:
            size = chance.choice([1, 4, 100])
            data[where : where + size] = chance.randbytes(size)
        else:
            page = where // 4096 * 4096
            data[page : page + 4096] = bytes(4096)
        path.write_bytes(data[: len(whole)])
        for work in (
            registry.load,
            registry.seed,
            lambda: [found.changes for found in registry.transactions()],
            lambda: run(registry, link("b")),
        ):
            reported += is_reported(work)
    assert reported > 100


def test_after_a_damaged_registry_was_moved_aside_all_starts_over(registry: Registry) -> None:
    run(registry, *(link(f"eth0.{number}") for number in range(100)))
    # What a kill in the midst of a commit leaves beside the database belongs to no other one.
    kill_in_commit(registry, [link(f"eth1.{number}") for number in range(100)])
    os.rename(registry.path, registry.path + ".damaged")
    assert registry.load() == {}
    run(registry, link("a"))
    assert set(registry.load()["link"]) == {"a"}


def test_the_registry_of_a_newer_engine_is_left_alone(registry: Registry) -> None:
    run(registry, link("a"))
    with contextlib.closing(sqlite3.connect(registry.path)) as database:
        database.execute(f"PRAGMA user_version = {module.SCHEMA + 1}")
    both(registry, f"has schema {module.SCHEMA + 1}, of a newer netops.underlay")


def test_a_python_without_sqlite(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    run(registry, link("a"))
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    both(registry, "has no module sqlite3; install it")
