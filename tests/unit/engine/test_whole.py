# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that lacked nothing the last time: it is looked at all the same, and whatever is new is followed up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import barrier
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import holds
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.simulated_host import SimulatedHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    if os.geteuid() != 0:
        pytest.skip("the engine works as root")
    found = SimulatedHost(str(tmp_path / "state"), monkeypatch, "eth0", "eth1")
    found.task("network", name="a", driver="macvlan", parent="eth0.10", subnets=["192.0.2.0/24"])
    return found


def look(host: SimulatedHost, earlier: restore.Earlier, **scope: bool) -> restore.Restored:
    run = transact.RunOptions(host.state_dir, who="the service")
    return restore.restore(run, restore.RestoreScope(**scope), earlier)


def test_nothing_is_planned_where_nothing_is_new(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = restore.Earlier()
    first = look(host, earlier, boot=True)
    assert not first.unchanged and not first.left and not first.done
    monkeypatch.setattr(restore, "RestorePlan", lambda *all_of_it: pytest.fail("it was planned again"))
    looks = []
    monkeypatch.setattr(restore, "observe", lambda need, see=restore.observe: looks.append(need) or see(need))
    again = look(host, earlier)
    assert again.unchanged and again.stamp == first.stamp
    assert len(looks) == 1, "nothing of the host is believed"


def lose(host: SimulatedHost) -> None:
    link = host.kernel.observed.host.names.pop("eth0.10")
    del host.kernel.observed.host.links[link.index]


def take_down(host: SimulatedHost) -> None:
    host.kernel.observed.host.names["eth0.10"].up = False


def another_mtu(host: SimulatedHost) -> None:
    host.kernel.observed.host.names["eth0.10"].mtu = 1400


@pytest.mark.parametrize("harm", [lose, take_down, another_mtu])
def test_what_is_lost_then_is_healed(host: SimulatedHost, harm: Callable[[SimulatedHost], None]) -> None:
    earlier = restore.Earlier()
    for _round in range(3):
        look(host, earlier)
        assert look(host, earlier).unchanged
        harm(host)
        found = look(host, earlier)
        assert {change.key for change in found.done} == {"eth0.10"} and not found.left
        assert host.command("drift") == 0


def test_a_host_on_which_something_is_to_do_still_is_not_taken_for_whole(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = restore.Earlier()
    lose(host)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "_ROUNDS", 0)
        look(host, earlier)
    assert [change.key for change in look(host, earlier).done] == ["eth0.10"]


def test_a_base_that_is_down_is_told_of_each_time(host: SimulatedHost) -> None:
    earlier = restore.Earlier()
    look(host, earlier)
    host.kernel.observed.host.names["eth0"].up = False
    for _round in range(3):
        assert [left.key for left in look(host, earlier).left] == ["eth0.10"]
    host.kernel.observed.host.names["eth0"].up = True
    assert not look(host, earlier).left


def test_a_filter_that_is_lost_is_seen(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = restore.Earlier()
    look(host, earlier)
    assert look(host, earlier).unchanged
    monkeypatch.setattr(barrier, "is_whole", lambda: False)
    monkeypatch.setattr(barrier, "why_not", lambda: None)
    assert [change.kind for change in look(host, earlier).done] == ["filter"]


def write(host: SimulatedHost) -> None:
    host.task("network", name="b", driver="macvlan", parent="eth1.20", subnets=["198.51.100.0/24"])


def hold(host: SimulatedHost) -> None:
    holds.hold(host.state_dir, "eth0.10", "a test")


def begin(host: SimulatedHost) -> None:
    registry = Registry(host.state_dir)
    with registry.lock(1, "a killed run"):
        registry.begin("a killed run", "map:all", [], 7)


@pytest.mark.parametrize("happens", [write, hold, begin])
def test_what_is_written_is_read(host: SimulatedHost, happens: Callable[[SimulatedHost], None]) -> None:
    earlier = restore.Earlier()
    look(host, earlier)
    assert look(host, earlier).unchanged
    happens(host)
    found = look(host, earlier)
    assert not found.unchanged
    assert Registry(host.state_dir).pending() is None
    assert found.records == Registry(host.state_dir).load()


def test_a_guard_that_is_armed_is_never_passed_over(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time runs out without a word."""
    armed: Dict[str, bool] = {"": True}
    monkeypatch.setattr(Registry, "armed", lambda self: type("Armed", (), {"left": 5.0}) if armed else None)
    earlier = restore.Earlier()
    for _round in range(3):
        assert not look(host, earlier).unchanged
    armed.clear()
    look(host, earlier)
    assert look(host, earlier).unchanged


def test_what_depends_on_workloads_is_worked_out_each_time(host: SimulatedHost) -> None:
    host.endpoint("web", "a")
    earlier = restore.Earlier()
    for _round in range(3):
        assert not look(host, earlier).unchanged
