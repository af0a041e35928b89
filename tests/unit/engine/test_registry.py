# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the registry keeps, and who may have written it."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import sqlite3
import stat
import tempfile
import time
from pathlib import Path
from typing import List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change, Record
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import registry as module
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.registry_runs import both, error, in_child, interrupted, link, run, undone
from tests.support.simulated_kernel import SimulatedKernel


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(str(tmp_path / "state"))


# --- what it keeps -------------------------------------------------------------------------------


def test_reading_a_bare_host_creates_nothing(registry: Registry, tmp_path: Path) -> None:
    assert registry.load() == {}
    assert registry.pending() is None
    assert registry.transactions() == []
    assert registry.seed()
    assert list(tmp_path.iterdir()) == []


def test_a_registry_without_the_options_that_came_later(registry: Registry) -> None:
    """Written by an early version: it is read whole, so that an upgrade needs no run of its own, and can be undone."""
    os.makedirs(registry.directory, mode=0o700)
    with contextlib.closing(sqlite3.connect(registry.path)) as database:
        database.executescript((Path(__file__).parent / "early_registry.sql").read_text(encoding="utf-8"))
    os.chmod(registry.path, 0o600)
    records = registry.load()
    assert {kind: sorted(table) for kind, table in records.items() if kind in ("network", "endpoint", "vlan")} == {
        "network": ["blue", "far", "red"],
        "endpoint": ["blue/web", "far/edge"],
        "vlan": ["trunk.40"],
    }
    assert records["endpoint"]["blue/web"].spec["allowed_addresses"] == []
    changes = [change for done in registry.transactions() for change in done.changes]
    wholes = {change.key: change.after for change in changes if change.kind == "endpoint"}
    assert wholes == {key: record.spec for key, record in records["endpoint"].items()}


def test_a_bare_host_has_the_seed_that_it_will_have(registry: Registry) -> None:
    before = registry.seed()
    run(registry, link("a"))
    assert registry.seed() == before


def test_the_seed_stays_when_the_host_is_renamed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    run(registry, link("a"))
    before = registry.seed()
    monkeypatch.setattr(module, "_seed", lambda: "another")
    assert registry.seed() == before


def test_changes_are_laid_over_the_objects(registry: Registry) -> None:
    own = {**(link("eth0.5").after or {}), "sysctls": {"ipv4.a": 1, "ipv4.b": 2}}
    run(registry, Change("link", "eth0.5", None, own, "needed", "parent"), link("x"))
    run(
        registry,
        Change(
            "link",
            "eth0.5",
            {"netns": "", "name": "eth0.5", "mtu": 1500, "sysctls": {"ipv4.b": 2}},
            {"netns": "", "name": "eth0.5", "mtu": 1400, "sysctls": {"ipv4.b": 3}},
            "",
            "parent",
        ),
        Change(
            "link",
            "eth0",
            {"netns": "", "name": "eth0", "up": False},
            {"netns": "", "name": "eth0", "up": True},
            "",
            "",
        ),
        link("x").inverse(),
    )
    merged = {**own, "mtu": 1400, "sysctls": {"ipv4.a": 1, "ipv4.b": 3}}
    assert registry.load() == {"link": {"eth0.5": Record(merged, "parent")}}


LINKS = st.fixed_dictionaries(
    {"up": st.booleans()},
    optional={"mtu": st.one_of(st.none(), st.integers(0, 2**32 - 1)), "mac": st.just("02:00:00:00:00:01")},
)
SYSCTLS = st.dictionaries(st.sampled_from(["ipv4.a", "ipv6.b"]), st.integers(0, 2), max_size=2)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    kind = draw(st.sampled_from(["link", "process"]))
    key = draw(st.sampled_from(["a", "netns:b/é", "c"]))
    netns, _slash, name = key.rpartition("/")
    of_link = LINKS.map(lambda spec: {**(link(name).after or {}), "netns": netns, **spec})
    specs = st.one_of(of_link, st.builds(lambda spec, more: {**spec, "sysctls": more}, of_link, SYSCTLS))
    if kind == "process":
        specs = st.fixed_dictionaries({"started": st.text()})
    before, after = draw(st.tuples(st.none() | specs, st.none() | specs).filter(any))
    return Change(
        kind,
        key,
        before,
        after,
        draw(st.text()),
        draw(st.sampled_from(["", "process"] if kind == "process" else ["", "network:a", "parent"])),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(changes(), max_size=6), min_size=1, max_size=4))
def test_the_registry_is_what_planning_takes_it_for(plans: List[List[Change]]) -> None:
    """The simulated kernel that the planner is tested on records as the registry does."""
    simulated = SimulatedKernel()
    with tempfile.TemporaryDirectory() as directory:
        registry = Registry(directory)
        for plan in plans:
            number = run(registry, *plan)
            simulated.record(copy.deepcopy(plan))
            assert registry.transaction(number).changes == plan
        assert registry.load() == {kind: table for kind, table in simulated.records.items() if table}


def test_a_transaction_tells_who_and_what(registry: Registry) -> None:
    with registry.lock(1, "eve"):
        number = registry.begin("eve\n\udcff, Ansible", "map:all", [link("a")], 802100005)
        found = registry.pending()
        assert found is not None
        assert found[:2] == (number, "pending")
        assert found[3:6] == ("eve\\n\\udcff, Ansible", "map:all", 802100005)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.time)
        assert found.changes == [link("a")]
        assert registry.load() == {}
        registry.finish(number, [link("a")])
    assert registry.pending() is None
    assert registry.transaction(number).state == "applied"


def test_what_was_done_replaces_what_was_planned(registry: Registry) -> None:
    """Only the wire tells which of several addresses is free."""
    with registry.lock(1, "a test"):
        number = registry.begin("a test", "", [link("a", mac="02:00:00:00:00:01")], 7)
        registry.finish(number, [link("a", mac="02:00:00:00:00:02")])
    assert registry.load()["link"]["a"].spec["mac"] == "02:00:00:00:00:02"
    assert registry.transaction(number).changes == [link("a", mac="02:00:00:00:00:02")]


def test_what_was_undone_is_not_recorded(registry: Registry) -> None:
    number = undone(registry, link("a"))
    assert registry.load() == {}
    assert registry.pending() is None
    assert registry.transaction(number).state == "undone"


def test_fifty_transactions_are_kept_and_every_pending_one(registry: Registry) -> None:
    first = interrupted(registry, link("first"))
    numbers = [run(registry, link(str(number))) for number in range(module.KEPT + 3)]
    kept = registry.transactions()
    assert [found.number for found in kept] == numbers[: -module.KEPT - 1 : -1]
    assert registry.transactions(2) == kept[:2]
    found = registry.pending()
    assert found is not None
    assert found.number == first
    text = error(lambda: registry.transaction(numbers[0]))
    assert text.endswith(f"has no transaction {numbers[0]}; {numbers[3]} to {numbers[-1]} are kept")


def test_no_transaction(registry: Registry) -> None:
    assert error(lambda: registry.transaction(1)).endswith("has no transaction 1; none is kept")


def test_a_clock_that_jumps_back_does_not_matter(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(registry, link("a"))
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    second = run(registry, link("b"))
    assert [found.number for found in registry.transactions()] == [second, first]
    assert second > first


def test_a_number_is_never_given_twice(registry: Registry) -> None:
    numbers = [undone(registry) for _ in range(3)]
    with contextlib.closing(sqlite3.connect(registry.path)) as database, database:
        database.execute("DELETE FROM transactions")
    assert undone(registry) == numbers[-1] + 1


def test_a_plan_that_cannot_be_written_down_is_not_begun(registry: Registry) -> None:
    run(registry, link("a"))
    with registry.lock(1, "a test"), pytest.raises(TypeError):
        registry.begin("a test", "", [link("b", mtu=object())], 7)
    assert registry.pending() is None
    with registry.lock(1, "a test"):
        number = registry.begin("a test", "", [link("b"), link("c")], 7)
        with pytest.raises(TypeError):
            registry.finish(number, [link("b"), link("c", mtu=object())])
    assert set(registry.load()["link"]) == {"a"}, "all of a plan or nothing"
    found = registry.pending()
    assert found is not None
    assert found.changes == [link("b"), link("c")]


def test_nothing_is_written_without_the_lock(registry: Registry) -> None:
    with pytest.raises(RuntimeError):
        registry.begin("a test", "", [], 7)
    assert not os.path.exists(registry.directory)


@pytest.mark.parametrize("name", ["a?b#c%41 d", "é", "mode=ro&x", "file:x", "-x"])
def test_a_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    registry = Registry(str(tmp_path / name) + "/")
    run(registry, link("a"))
    assert sorted(os.listdir(tmp_path)) == [name]
    assert sorted(os.listdir(tmp_path / name)) == ["lock", "registry.db"]
    assert set(registry.load()["link"]) == {"a"}


# --- who may have written there ------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_user_may_look(registry: Registry, umask: int) -> None:
    before = os.umask(umask)
    try:
        run(registry, link("a"))
    finally:
        os.umask(before)
    modes = {name: os.stat(os.path.join(registry.directory, name)).st_mode for name in (".", "lock", "registry.db")}
    assert {name: stat.S_IMODE(mode) for name, mode in modes.items()} == {
        ".": 0o700,
        "lock": 0o600,
        "registry.db": 0o600,
    }


def test_a_directory_that_is_a_symbolic_link(tmp_path: Path) -> None:
    run(Registry(str(tmp_path / "real")), link("a"))
    (tmp_path / "state").symlink_to(tmp_path / "real")
    for name in ("state", "state/"):
        both(Registry(str(tmp_path) + "/" + name), "state is a symbolic link")


def test_a_file_that_is_a_symbolic_link(registry: Registry, tmp_path: Path) -> None:
    run(registry, link("a"))
    os.rename(registry.path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", registry.path)
    both(registry, "registry.db is a symbolic link")


@pytest.mark.parametrize("name", ["lock", "registry.db.new"])
def test_a_symbolic_link_is_not_written_through(registry: Registry, tmp_path: Path, name: str) -> None:
    os.mkdir(registry.directory, 0o700)
    os.symlink(tmp_path / "victim", os.path.join(registry.directory, name))
    assert name in error(lambda: run(registry, link("a")))
    assert not (tmp_path / "victim").exists()


def test_a_directory_that_is_a_file(registry: Registry) -> None:
    Path(registry.directory).write_text("")
    both(registry, "state is not a directory")


def test_a_directory_inside_a_file(registry: Registry) -> None:
    Path(registry.directory).write_text("")
    both(Registry(os.path.join(registry.directory, "deeper")), "Not a directory")


@pytest.mark.parametrize("name", ["", "registry.db"])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_what_others_can_write_is_refused(registry: Registry, name: str, mode: int) -> None:
    run(registry, link("a"))
    os.chmod(os.path.join(registry.directory, name), mode)
    both(registry, "is writable by others; check what is in it, then chmod go-w")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", ["", "registry.db"])
def test_what_belongs_to_others_is_refused(registry: Registry, name: str) -> None:
    run(registry, link("a"))
    os.chown(os.path.join(registry.directory, name), 12345, 12345)
    both(registry, "belongs to user 12345, and this runs as user 0")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_other_users_than_root_get_the_fix_become(registry: Registry) -> None:
    run(registry, link("a"))
    for directory in (Path(registry.directory).parent, *Path(registry.directory).parent.parents):
        if directory.is_relative_to(tempfile.gettempdir()) and directory != Path(tempfile.gettempdir()):
            directory.chmod(0o755)

    def somebody() -> bytes:
        os.setuid(12345)
        return error(registry.load).encode()

    assert b"this runs as user 12345; run the task with become: true" in in_child(somebody)


def test_a_directory_without_a_parent_is_not_made(tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "mistyped" / "state"))
    assert registry.load() == {}
    assert "mistyped does not exist; create it" in error(lambda: run(registry, link("a")))
    assert list(tmp_path.iterdir()) == []
