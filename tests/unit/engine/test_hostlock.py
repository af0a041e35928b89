# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One registry and one run at a time on a host, and guards that know which registry they are of."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    OtherRegistry,
    RegistryBusy,
    RegistryError,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import programs
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, guard, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import hostlock, installed
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

MADE = Change("link", "eth0.10", None, {"netns": "", "kind": "vlan", "name": "eth0.10"}, "", "vlan:eth0.10")


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlock, "DIRECTORY", str(tmp_path / "run"))


@pytest.fixture
def registries(tmp_path: Path) -> Dict[str, Registry]:
    return {name: Registry(str(tmp_path / name)) for name in "ab"}


def carry_out(registry: Registry, *changes: Change) -> None:
    with hostlock.lock(registry, 1, "eve"):
        registry.finish(registry.begin("eve", "a test", changes, 7), changes)


def test_a_second_registry_is_refused_by_name_until_the_first_is_empty(registries: Dict[str, Registry]) -> None:
    carry_out(registries["a"], MADE)
    for refused in (carry_out, hostlock.check):
        with pytest.raises(OtherRegistry) as caught:
            refused(registries["b"])
        assert f"in {registries['a'].directory}, and a host has only one: give state_dir" in str(caught.value)
    hostlock.check(registries["a"])
    carry_out(registries["a"], MADE.inverse())
    carry_out(registries["b"], MADE)
    with pytest.raises(OtherRegistry):
        carry_out(registries["a"], MADE)


def test_a_registry_that_went_or_cannot_be_read(registries: Dict[str, Registry]) -> None:
    carry_out(registries["a"], MADE)
    Path(registries["a"].path).write_bytes(b"nonsense" * 100)
    with pytest.raises(OtherRegistry):
        hostlock.check(registries["b"])
    os.unlink(registries["a"].path)
    carry_out(registries["b"], MADE)


def test_a_directory_by_another_path_is_the_same(registries: Dict[str, Registry], tmp_path: Path) -> None:
    carry_out(registries["a"], MADE)
    (tmp_path / "way").symlink_to(tmp_path)
    carry_out(Registry(str(tmp_path / "way" / "a")), MADE.inverse())


def test_one_run_at_a_time_whatever_its_registry(registries: Dict[str, Registry]) -> None:
    with hostlock.lock(registries["a"], 1, "eve"), pytest.raises(RegistryBusy, match="being changed by eve"):
        hostlock.lock(registries["b"], 0.1, "me").__enter__()


def test_a_guard_of_one_registry_is_none_of_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: List[Sequence[str]] = []

    def run(words: Sequence[str], **_rest: object) -> subprocess.CompletedProcess[str]:
        said.append(words)
        return subprocess.CompletedProcess(list(words), 0, "", "")

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(guard, "_has_systemd", lambda: True)
    monkeypatch.setattr(installed, "COMMAND", "/bin/true")
    for name in "ab":
        guard.HostGuard(60, str(tmp_path / name)).arm(2)
        guard.HostGuard(60, str(tmp_path / name)).disarm(2)
    units = [next(word for word in words if word.startswith("--unit="))[7:] for words in said[::2]]
    assert [words[-1] for words in said[1::2]] == [f"{unit}.timer" for unit in units]
    assert len(set(units)) == 2 and all(unit.endswith("-2") for unit in units)


@pytest.mark.parametrize("name", ["registry.db.new", "holds.json", "holds.json.new", "last-plan.json.new", "lock"])
def test_a_fifo_holds_nothing_up(registries: Dict[str, Registry], name: str) -> None:
    directory = registries["a"].directory
    os.mkdir(directory, 0o700)
    os.mkfifo(os.path.join(directory, name), 0o600)
    script = f"""
import sys
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import RegistryError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import holds
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry
registry = Registry({directory!r})
try:
    holds.load(registry.directory)
    with registry.lock(1, "eve"):
        registry.begin("eve", "a test", [], 7)
        holds.hold(registry.directory, "eth0.10", "a test")
    sys.exit(transact.write_plan(registry.directory, []))
except RegistryError as error:
    sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    named = {"last-plan.json.new": "", "holds.json": f"{directory}/last-plan.json"}
    assert done.stderr.strip().partition(";")[0] == named.get(name, f"{directory}/{name} is not a file")


def test_a_fifo_in_the_place_of_the_journal_blocks_no_run(registries: Dict[str, Registry]) -> None:
    carry_out(registries["a"], MADE)
    os.mkfifo(registries["a"].path + "-journal", 0o600)
    for read in (registries["a"].load, lambda: carry_out(registries["a"])):
        with pytest.raises(RegistryError, match="registry.db-journal is not a file"):
            read()


def test_only_the_default_registry_survives_a_reboot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glob, "glob", lambda _pattern: ["enabled"])
    assert converge.is_persistent(transact.DEFAULT_STATE_DIR)
    assert converge.is_persistent(transact.DEFAULT_STATE_DIR + "/")
    assert not converge.is_persistent(str(tmp_path))
