# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift, healing and restore on a host of paper."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import OtherMachine
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import registry, statedir

from tests.support.simulated_host import SimulatedHost


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    if os.geteuid() != 0:
        pytest.skip("the engine works as root")
    return SimulatedHost(str(tmp_path / "state"), monkeypatch, "eth0")


def test_an_ipvlan_endpoint_keeps_its_mac_when_its_network_has_no_parent(host: SimulatedHost) -> None:
    """The kernel would give the dummy another one each time that it is made."""
    network = {"name": "c", "driver": "ipvlan", "internal": True}
    host.task("network", **network)
    (record,) = host.records("link").values()
    link = host.kernel.observed.host.names[record["name"]]
    assert link.mac == record["mac"]
    assert int(record["mac"][:2], 16) & 3 == 2, "local and unicast"
    host.reboot()
    assert host.command("restore", "--boot") == 0
    link = host.kernel.observed.host.names[record["name"]]
    assert link.mac == record["mac"]
    link.mac = "02:00:00:00:00:99"
    assert host.command("drift") == 3
    assert host.command("restore") == 0
    assert link.mac == record["mac"]
    assert not host.task("network", **network).changes


def test_what_may_be_ours_is_named_when_ours_is_to_go(host: SimulatedHost) -> None:
    """Renamed, and with another MAC: nothing proves that it is the network's dummy, so it stays."""
    host.task("network", name="c", driver="ipvlan", internal=True)
    (name,) = host.records("link")
    there = host.kernel.observed.host
    link = there.names.pop(name)
    link.name, link.mac = "somewhat", "02:00:00:00:00:99"
    there.add(link)
    for check in (True, False):
        outcome = host.task("network", "absent", check=check, name="c", driver="ipvlan")
        assert f"somewhat in the host has our mark but is in no registry, so it stays; if it is {name}" in " ".join(
            outcome.warnings
        )


def test_an_mtu_that_somebody_changed_is_drift_and_is_healed(
    host: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where none was declared: a link then has its parent's, and one without a parent what the kernel gave it."""
    host.map(
        links=[{"parent": "eth0", "vlan_id": 7}, {"parent": "eth0", "vlan_id": 8, "mtu": 1400}],
        networks=[
            {"name": "a", "driver": "macvlan", "parent": "eth0.10", "host_access": True, "subnets": ["192.0.2.0/24"]},
            {"name": "c", "driver": "ipvlan", "internal": True},
        ],
        endpoints=[{"network": "a", "name": "w", "netns": "w"}, {"network": "c", "name": "w", "netns": "w"}],
    )
    assert host.command("drift") == 0
    ours = [(space, link) for space in host.namespaces() for link in space.links.values() if link.kind]
    assert len(ours) == 7
    for space, link in ours:
        before, link.mtu = link.mtu, 1280
        capsys.readouterr()
        assert host.command("drift") == 3
        out = capsys.readouterr().out
        assert f"link {space.workload + '/' if space.workload else ''}{link.name} mtu is 1280, should be" in out, out
        assert host.command("restore") == 0
        assert link.mtu == before
    assert host.command("drift") == 0


# --- records that cannot be used -----------------------------------------------------------------


class NoTimer:
    """A guard whose time is over when the test says so."""

    timeout = 60.0

    def arm(self, number: int) -> None:
        pass

    def disarm(self, number: int) -> None:
        pass


@pytest.mark.parametrize("row", ["link eth0.20", "network b", "network a", "link eth0.10"])
def test_a_guard_fires_although_a_record_cannot_be_used(host: SimulatedHost, row: str) -> None:
    """What cuts the host off goes, whatever became of the rest."""
    for name, vid in (("b", 20), ("a", 10)):
        network = {"name": name, "driver": "macvlan", "parent": f"eth0.{vid}", "subnets": [f"192.0.{vid}.0/24"]}
        options = transact.RunOptions(host.state_dir, guard=NoTimer() if name == "a" else None)
        done = converge.converge(model.declare("network", network, "present", False), options)
    with contextlib.closing(sqlite3.connect(Path(host.state_dir, "registry.db"))) as database, database:
        database.execute("UPDATE objects SET spec = '{}' WHERE kind = ? AND key = ?", row.split())
    host.command("expire", str(done.number))
    assert "eth0.10" not in host.kernel.observed.host.names
    assert "eth0.20" in host.kernel.observed.host.names


# --- a machine that was cloned -------------------------------------------------------------------


def clone(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the disk, on another machine that boots."""
    monkeypatch.setattr(statedir, "machine", lambda: "another")
    host.reboot()


NETWORK = {"name": "a", "driver": "macvlan", "parent": "eth0.10", "subnets": ["192.0.2.0/24"]}


def test_a_registry_of_another_machine_brings_nothing_back(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its MACs and addresses are that machine's, which may be beside it on the wire."""
    host.task("network", **NETWORK)
    clone(host, monkeypatch)
    for check in (True, False):
        with pytest.raises(OtherMachine, match="is that of another machine.*underlay rehost clone"):
            host.task("network", check=check, **NETWORK)
    for command in ("restore --boot", "drift", "plan", "undo 1"):
        assert host.command(*command.split()) == 1
        assert "underlay rehost clone" in capsys.readouterr().err
    assert host.command("show") == 0, "people may look"
    assert not host.kernel.observed.host.names.keys() - {"lo", "eth0"}


def test_a_clone_starts_over(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.task("network", **NETWORK)
    before = host.endpoint("web", "a")["mac"]
    clone(host, monkeypatch)
    monkeypatch.setattr(registry, "_seed", lambda: "another")
    assert host.command("rehost", "clone") == 0
    assert not host.records("network")
    host.task("network", **NETWORK)
    assert host.endpoint("web", "a")["mac"] != before
    assert host.command("drift") == 0
    assert Path(host.state_dir, "registry.db.clone").exists(), "no record is lost"


def test_a_machine_with_a_new_id_keeps_all(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.task("network", **NETWORK)
    before = host.endpoint("web", "a")
    clone(host, monkeypatch)
    assert host.command("rehost", "same") == 0
    assert host.command("restore", "--boot") == 0
    assert host.endpoint("web", "a") == before


def test_what_is_in_the_kernel_is_no_clone(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host.task("network", **NETWORK)
    monkeypatch.setattr(statedir, "machine", lambda: "another")
    assert host.command("rehost", "clone") == 1
    assert "eth0.10 of this registry is on this host; run underlay rehost same" in capsys.readouterr().err
    assert host.records("network")


@pytest.mark.parametrize("before", ["", "one"])
@pytest.mark.parametrize("after", ["", "one"])
def test_a_machine_without_an_id_is_any(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    """Also a registry that was made before machines were noted: it notes this one."""
    monkeypatch.setattr(statedir, "machine", lambda: before)
    host.task("network", **NETWORK)
    monkeypatch.setattr(statedir, "machine", lambda: after)
    host.task("network", "absent", name="a", driver="macvlan")
    monkeypatch.setattr(statedir, "machine", lambda: "other")
    if before or after:
        with pytest.raises(OtherMachine):
            host.task("network", **NETWORK)
    else:
        host.task("network", **NETWORK)


EDITS: Dict[str, Dict[str, List[Dict[str, Any]]]] = {
    "addresses": {"links": [{"parent": "eth0", "vlan_id": 7, "addresses": ["198.51.100.1/24"]}]},
    "maps": {"links": [{"parent": "eth0", "vlan_id": 7, "mtu": 1400, "egress_qos_map": {"1": 2}}]},
    "another mode": {"networks": [{"name": "a", "driver": "macvlan", "parent": "eth0.10", "mode": "private", "mtu": 1300}]},
    "access": {"networks": [{"name": "a", "driver": "macvlan", "parent": "eth0.10", "host_access": True}]},
    "l3": {"networks": [{"name": "b", "driver": "ipvlan", "mode": "l3", "parent": "eth0.20", "enable_ipv6": True}]},
    "endpoint": {"endpoints": [{"network": "a", "name": "w", "netns": "w", "mtu": 1280, "aliases": ["q"], "accept_ra": True}]},
    "elsewhere": {"endpoints": [{"network": "a", "name": "w", "netns": "w2"}]},
    "routes": {"routes": [{"name": "r", "routes": [{"prefix": "10.50.0.0/16", "type": "blackhole"}], "network": "b"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_undo_records_what_can_be_used(host: SimulatedHost, name: str) -> None:
    """Also where an option was not given before: all the next runs find nothing to do."""
    before = {
        "links": [{"parent": "eth0", "vlan_id": 7}],
        "networks": [
            {"name": "a", "driver": "macvlan", "parent": "eth0.10"},
            {"name": "b", "driver": "ipvlan", "mode": "l3", "parent": "eth0.20"},
        ],
        "endpoints": [{"network": "a", "name": "w", "netns": "w"}],
    }
    host.map(**before)
    kept = {kind: host.records(kind) for kind in ("vlan", "network", "endpoint", "routes")}
    for _again in range(2):
        edited = host.map(**{**before, **EDITS[name]})
        assert edited.number is not None
        assert host.command("undo", str(edited.number)) == 0
        assert host.command("drift") == 0
        assert kept == {kind: host.records(kind) for kind in kept}
        host.map(**before)
        assert not host.map(**before).changes
