# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``underlay``, on the simulated kernel and a real registry: what it prints, and its exit status."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, List, NamedTuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Link, Namespace
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import barrier
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe, tables
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import cli
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import hostlock
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.planning import mapped
from tests.support.simulated_kernel import SimulatedKernel

NETWORKS = [
    {"name": f"net{vid}", "driver": "macvlan", "parent": f"eth0.{vid}", "subnets": [{"subnet": f"10.0.{vid}.0/24"}]}
    for vid in (10, 20, 30)
]
ENDPOINTS = [{"network": "net10", "name": f"e{number}", "netns": f"space{number}"} for number in (1, 2)]


class Said(NamedTuple):
    status: int
    lines: List[str]
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.lines[0])


class Host:
    """A simulated kernel and the registry that stands for it; ``underlay`` is the command on this host."""

    def __init__(self, directory: Path) -> None:
        self.kernel = SimulatedKernel("eth0", "eth1")
        self.registry = Registry(str(directory))
        self.underlay: Callable[..., Said]

    def run(self, **sections: Any) -> None:
        declared = mapped(**sections)
        found = plan.plan(declared, copy.deepcopy(self.kernel.records), self.kernel.observed, "seed")
        self.kernel.apply(found.changes)
        self.kernel.record(found.changes)
        with self.registry.lock(10, "alice"):
            number = self.registry.begin("alice, Ansible", declared.owner, found.changes, 7)
            self.registry.finish(number, found.changes)

    def lose(self, name: str) -> None:
        """A link goes, with all that uses it."""
        observed = self.kernel.observed
        link = observed.host.names[name]
        for space, child in list(observed.children.get(link.index, ())):
            if space is observed.host:
                self.lose(child.name)
            else:
                self._remove(space, child)
        self._remove(observed.host, link)

    def _remove(self, space: Namespace, link: Link) -> None:
        for name in [name for name, found in space.names.items() if found is link]:
            del space.names[name]
        del space.links[link.index]
        space.addresses.pop(link.index, None)
        space.routes = [route for route in space.routes if route.oif != link.index]
        self.kernel.observed.__dict__.pop("children", None)


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlock, "DIRECTORY", str(tmp_path / "run"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    found = Host(tmp_path / "state")
    for module in (describe, restore, undo):
        monkeypatch.setattr(module, "observe", lambda need: found.kernel.observed)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(barrier, "is_whole", lambda: True)

    def underlay(*words: str) -> Said:
        capsys.readouterr()
        try:
            status = cli.main([words[0], "--state-dir", found.registry.directory, *words[1:]])
        except SystemExit as stop:
            status = int(str(stop.code))
        out, error = capsys.readouterr()
        return Said(status, out.splitlines(), error)

    found.underlay = underlay
    found.run(networks=NETWORKS, endpoints=ENDPOINTS)
    return found


def test_options_stand_before_or_after_the_command(host: Host) -> None:
    after = host.underlay("show", "--json")
    assert sorted(row["name"] for row in after.json["networks"]) == ["net10", "net20", "net30"]
    assert cli.main(["--json", "--state-dir", host.registry.directory, "--lock-timeout", "1", "show"]) == 0
    assert host.underlay("drift", "--lock-timeout", "1", "--json").json == {"drift": [], "left": []}


def test_a_pipe_gets_every_word(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a-network-with-a-name-as-long-as-a-name-of-a-network-can-ever-be"[:63]
    host.run(
        networks=[
            {**NETWORKS[0], "name": name, "parent": "eth1.100", "subnets": [{"subnet": "2001:db8:1234:5678::/64"}]}
        ]
    )
    text = "\n".join(host.underlay("show").lines)
    assert name in text and "2001:db8:1234:5678::/64" in text and "~" not in text
    assert "18446744073709551614" not in text, "a /64 is not counted"
    monkeypatch.setattr(tables, "width", lambda: 80)
    text = "\n".join(host.underlay("show").lines)
    assert name not in text and "~" in text
    assert "2001:db8:1234:5678::/64" in text, "an address is never cut"


def test_limits_are_shown_where_there_are_some(host: Host) -> None:
    assert not any(line.startswith("LIMITED") for line in host.underlay("show").lines)
    host.run(endpoints=[{**ENDPOINTS[0], "ingress_rate": "8mbit"}, ENDPOINTS[1]])
    lines = host.underlay("show").lines
    at = next(number for number, line in enumerate(lines) if line.startswith("LIMITED"))
    assert [line.split() for line in lines[at : at + 3]] == [
        ["LIMITED", "INGRESS", "EGRESS"],
        ["net10/e1", "8mbit", "-"],
        [],
    ]


def test_a_name_that_is_not_there(host: Host) -> None:
    found = host.underlay("show", "net40", "net10")
    assert (found.status, found.lines) == (1, [])
    assert (
        found.error == "underlay: this host has no network, endpoint, link or set of routes net40; see underlay show\n"
    )


def test_a_network_by_its_name(host: Host) -> None:
    host.run(networks=[{**NETWORKS[1], "mtu": 1400}])
    host.lose("eth0.10")
    text = "\n".join(host.underlay("show", "net10").lines)
    for word in (
        "net10/e1",
        "net10/e2",
        "10.0.10.2/24",
        "eth0.10",
        "map:fabric",
        "alice",
        "link eth0.10 is gone",
    ):
        assert word in text, text
    assert "net20" not in text and "transaction 2" not in text
    assert [row["number"] for row in host.underlay("show", "net20", "--json").json["transactions"]] == [2, 1]


def test_a_trunk_shows_its_vlans(host: Host) -> None:
    nic = {"name": "nic", "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.9.0.0/24"}]}
    row = {"network": "nic", "name": "fw", "netns": "fw", "vlans": [11, "40-42"]}
    host.run(networks=[*NETWORKS, nic], endpoints=[*ENDPOINTS, row])
    shown = host.underlay("show", "nic/fw")
    assert ["nic/fw", "eth0.11,40-42", "netns:fw", "-"] in [line.split() for line in shown.lines], shown
    (found,) = host.underlay("show", "nic/fw", "--json").json["endpoints"]
    assert found["interfaces"] == ["eth0.11", "eth0.40", "eth0.41", "eth0.42"] and found["alive"]


def test_one_cause_is_one_line(host: Host) -> None:
    assert host.underlay("drift").lines == ["no drift"]
    host.lose("eth0")
    found = host.underlay("drift")
    assert found.status == 3
    assert found.lines == [
        "eth0 is not there: link eth0.10, link eth0.20, link eth0.30 and 6 objects on them wait for it"
    ]
    assert host.underlay("show").lines[-1] == "9 objects have drifted: see underlay drift"
    shown = host.underlay("show", "--json").json
    for value in (shown, host.underlay("drift", "--json").json):
        assert (len(value["drift"]), len(value["left"])) == (0, 9)


def test_a_link_that_is_gone_takes_what_is_on_it_along(host: Host) -> None:
    host.lose("eth0.10")
    assert host.underlay("drift").lines == ["link eth0.10 is gone, with 6 objects on it"]


def test_one_refusal_is_one_line(host: Host) -> None:
    for number in (1, 2):
        host.kernel.observed.namespaces.pop(f"netns:space{number}")
        host.kernel.observed.refusals[f"netns:space{number}"] = "podman failed: cannot connect"
    found = host.underlay("drift").lines
    assert "\n".join(found).count("podman failed") == 1, found


def test_words_of_networkers(host: Host) -> None:
    link = host.kernel.observed.host.names["eth0.20"]
    link.up, link.mtu = False, 1300
    found = host.underlay("drift").lines
    assert found == ["link eth0.20 is down, should be up; mtu is 1300, should be that of the parent"]


def test_what_can_be_undone(host: Host) -> None:
    host.run(networks=[{**NETWORKS[1], "labels": {"a": "b"}}])
    found = host.underlay("undo")
    assert found.status == 0
    first, second = [line.split() for line in found.lines if line.startswith(("1 ", "2 "))]
    assert second[0] == "1" and "undo" in second and "first" in second, "2 changed what 1 made"
    assert first[0] == "2" and first[-1] == "yes"
    assert [(row["number"], bool(row["why_not"])) for row in host.underlay("undo", "--json").json["transactions"]] == [
        (2, False),
        (1, True),
    ]


def test_nothing_to_undo(host: Host) -> None:
    host.registry = Registry(host.registry.directory + "2")
    assert host.underlay("undo").lines == ["no transactions are kept on this host"]


@pytest.mark.parametrize("words", [["show", "--help"], ["--help"]])
def test_help_fits_the_terminal(host: Host, words: List[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["underlay"])
    found = host.underlay(*words)
    assert found.status == 0 and max(map(len, found.lines)) <= 80


@pytest.mark.parametrize("command", ["undo", "plan", "confirm", "expire"])
@pytest.mark.parametrize("number", ["99999999999999999999", "0", "77"])
def test_a_transaction_that_is_not_there(host: Host, command: str, number: str, run_directory: None) -> None:
    found = host.underlay(command, number)
    if command == "expire":
        assert (found.status, found.lines) == (0, [f"transaction {number} is already settled"])
    else:
        assert found.status == 1
        assert f"has no transaction {number}; 1 to 1 are kept" in found.error


def test_what_is_not_to_be_confirmed_is_not_probed(host: Host, run_directory: None) -> None:
    found = host.underlay("confirm", "1", "--ping", "203.0.113.9")
    assert (found.status, found.error) == (1, "underlay: transaction 1 is applied: there is nothing to confirm\n")
    with host.registry.lock(1, "a test"):
        host.registry.forget(1)
    found = host.underlay("confirm", "1", "--ping", "203.0.113.9")
    assert found.error.startswith("underlay: transaction 1 was not confirmed in time and is undone; ")
