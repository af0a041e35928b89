# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan_host``: the host's files, drivers and names, and all of it taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.support.module_tasks import Tasks
from tests.support.network_host import ip

PLACES = ("modules-load.d", "modprobe.d", "sysctl.d", "iproute2")


def files() -> Dict[str, str]:
    """What it may write to."""
    return {
        str(path): path.read_text(encoding="utf-8")
        for place in PLACES
        for path in sorted(Path("/etc", place).rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def prepared(tasks: Tasks) -> Iterator[Tasks]:
    yield tasks
    tasks.ok("vlan_host", state="absent")


def test_prepared_once_and_taken_back(prepared: Tasks) -> None:
    before = files()
    predicted = prepared.ok("vlan_host", check=True)
    assert files() == before, "check mode wrote something"
    done = prepared.ok("vlan_host")
    assert predicted["changed"] is done["changed"] is True
    assert predicted["diff"] == done["diff"] and done["diff"]
    assert done["drivers"] == ["8021q", "macvlan", "ipvlan", "dummy"] and done["packages_missing"] == []
    text = Path("/etc/modules-load.d/netops-underlay.conf").read_text(encoding="utf-8")
    assert text.splitlines()[1:] == done["drivers"]

    again = prepared.ok("vlan_host")
    assert again["changed"] is False and not again["diff"]
    gone = prepared.ok("vlan_host", state="absent")
    assert gone["changed"] is True and files() == before
    assert prepared.ok("vlan_host", state="absent")["changed"] is False and files() == before


def test_what_is_ours_has_a_name_in_ip(prepared: Tasks) -> None:
    prepared.ok("vlan_host")
    prepared.ok("vlan_map", name="m", links=[{"parent": "trunk", "vlan_id": 5}], routes=[
        {"name": "set", "routes": [{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}]}
    ])  # fmt: skip
    assert [row["ifname"] for row in ip("link", "show", "group", "netops-underlay")] == ["trunk.5"]
    assert [row["dst"] for row in ip("route", "show", "proto", "netops-underlay")] == ["10.77.0.0/16"]


def test_what_is_still_there_is_named(prepared: Tasks) -> None:
    """Also in check mode, by both modules of the role."""
    prepared.ok("vlan_host")
    prepared.ok("vlan_network", name="blue", driver="macvlan", parent="trunk.5", subnets=[{"subnet": "192.0.2.0/24"}])
    prepared.ok("vlan_endpoint", network="blue", name="web", netns="web")
    for check in (True, False):
        for module in ("vlan_host", "vlan_service"):
            warned = str(prepared.ok(module, check=check, state="absent").get("warnings"))
            assert "this host still has 1 network, 1 endpoint, 2 links, 1 lease, and nothing restores them" in warned
    prepared.ok("vlan_map", name="none", adopt=True, purge=True, networks=[], endpoints=[])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"neighbours": -1}, "^neighbours: -1 is not between 0 and 16777216"), ({"drivers": ["bridge"]}, "drivers"), ({"neighbours": "many"}, "neighbours")],
)  # fmt: skip
def test_refused(tasks: Tasks, options: Dict[str, Any], words: str) -> None:
    before = files()
    found = tasks.run("vlan_host", options)
    assert found.data["failed"] and "Traceback" not in found.text and len(found.message) == 1
    assert words.strip("^") in found.message[0]
    assert files() == before


def test_not_root(tasks: Tasks) -> None:
    before = files()
    found = tasks.run("vlan_host", {}, user=65534)
    assert found.message == ["only root can prepare a host; run the task with become: true"] and files() == before
