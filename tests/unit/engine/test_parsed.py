# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process keeps of the registry between two readings: never more than is still in it."""

from __future__ import annotations

import contextlib
import copy
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import validate
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.parsed import ParsedRegistry
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.registry_runs import answer, fork, link, run, undone


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = Registry(str(tmp_path / "state"))
    run(found, link("a"), link("b", mtu=1400))
    return found


def reading(registry: Registry, parsed: ParsedRegistry) -> Any:
    """As the next look does it, which gets the bytes alone."""
    return Registry(registry.directory, copy.copy(parsed)).sound()


def write(registry: Registry, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(registry.path)) as database, database:
        database.execute(statement)


def test_rows_that_are_unchanged_are_not_parsed_again(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = ParsedRegistry()
    first = Registry(registry.directory, parsed).sound()
    monkeypatch.setattr(validate, "faults", lambda records: pytest.fail("it was parsed again"))
    assert reading(registry, parsed) == first
    undone(registry, link("c"))  # a heal writes its journal, and no object
    found, _faults = reading(registry, parsed)
    found["link"].clear()
    found["link"]["a"] = None
    assert reading(registry, parsed) == first, "what is done to records stays with who did it"


def test_of_a_file_that_is_unchanged_not_even_the_rows_are_read(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = ParsedRegistry()
    first = Registry(registry.directory, parsed).sound()
    monkeypatch.setattr(Registry, "_reading", lambda self: pytest.fail("its rows were read again"))
    assert reading(registry, parsed) == first
    monkeypatch.undo()
    undone(registry, link("c"))
    journal = Registry(registry.directory, parsed)
    assert journal.sound() == first
    monkeypatch.setattr(Registry, "_reading", lambda self: pytest.fail("its rows were read a third time"))
    assert reading(registry, parsed) == first


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_what_it_was(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry._hash()
    digests = iter((digest, b"x" * 32))
    monkeypatch.setattr(Registry, "_file", lambda self: next(digests))
    parsed = ParsedRegistry()
    Registry(registry.directory, parsed).sound()
    assert parsed.recall(digest) is None and parsed.recall(b"x" * 32) is None
    assert parsed.recall(b"") is None


def test_what_another_process_writes_is_seen_whatever_the_file_looks_like(registry: Registry) -> None:
    """As long as before, at the same time, by the same inode: only what is in it tells."""
    parsed = ParsedRegistry()
    Registry(registry.directory, parsed).sound()
    before = os.stat(registry.path)
    for statement in (
        "UPDATE objects SET spec = replace(spec, '1400', '1300') WHERE key = 'b'",
        "UPDATE objects SET of = 'network:rad' WHERE key = 'a'",
        "DELETE FROM objects WHERE key = 'b'",
    ):
        write(registry, statement)
        os.utime(registry.path, ns=(before.st_atime_ns, before.st_mtime_ns))
        now = os.stat(registry.path)
        assert (now.st_ino, now.st_size, now.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
        assert reading(registry, parsed) == Registry(registry.directory).sound()
    assert list(reading(registry, parsed)[0]["link"]) == ["a"]
    assert reading(registry, parsed)[0]["link"]["a"].of == "network:rad"
    assert answer(*fork(lambda: run(registry, link("d")).to_bytes(1, "big")))
    assert list(reading(registry, parsed)[0]["link"]) == ["a", "d"]


def test_what_cannot_be_used_is_remembered_as_such(registry: Registry) -> None:
    write(registry, "UPDATE objects SET spec = '{}' WHERE key = 'b'")
    parsed = ParsedRegistry()
    records, faults = Registry(registry.directory, parsed).sound()
    assert [fault.key for fault in faults] == ["b"] and list(records["link"]) == ["a"]
    assert reading(registry, parsed) == (records, faults)
    assert "b" in str(reading(registry, parsed)[1][0]), "with the words that say why"


def test_nothing_kept_is_no_answer(registry: Registry, tmp_path: Path) -> None:
    assert Registry(registry.directory, ParsedRegistry()).sound() == registry.sound()
    bare = Registry(str(tmp_path / "none"), ParsedRegistry())
    assert bare.sound() == ({}, []) and not bare.is_as_parsed()
