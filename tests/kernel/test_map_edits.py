# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows in use are edited: each edit is one transaction, and what was not edited loses no packet.

What the edited endpoints lose is printed; the guide's table has it.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.support.engine import Engine
from tests.support.network_host import run
from tests.support.traffic import reachable

#: Milliseconds between two pings.
EVERY = 5
APP = {
    "name": "app",
    "driver": "macvlan",
    "parent": "trunk.11",
    "subnets": [{"subnet": "10.0.11.0/24", "gateway": "10.0.11.1"}],
}
WEB = {
    "name": "web",
    "driver": "macvlan",
    "parent": "trunk.10",
    "subnets": [{"subnet": "10.0.10.0/24", "gateway": "10.0.10.1"}],
    "recreate": True,
}
KEPT = {"network": "app", "name": "kept", "netns": "kept", "ipv4_address": "10.0.11.5"}
SHOP = {"network": "web", "name": "shop", "netns": "shop", "ipv4_address": "10.0.10.5"}


class Ping:
    """Pings from a namespace, one after the other, until they are counted."""

    def __init__(self, netns: str, target: str, path: Path) -> None:
        self.path = path
        with open(path, "w", encoding="utf-8") as file:
            command = ["ip", "netns", "exec", netns, "ping", "-i", str(EVERY / 1000), target]
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def lost(self) -> int:
        run("sleep 0.3")
        self.process.send_signal(2)
        self.process.wait(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", self.path.read_text(encoding="utf-8"))
        assert found and int(found[2]) > 20, self.path.read_text(encoding="utf-8")[-500:]
        return int(found[1]) - int(found[2])


@pytest.fixture
def engine(trunk: str, tmp_path: Path) -> Engine:
    for vlan, addresses in {10: ("10.0.10.1/24", "10.9.10.1/24"), 11: ("10.0.11.1/24",), 12: ("10.0.10.1/24",)}.items():
        run(
            f"ip netns add w{vlan}; ip link add link far name w{vlan} type vlan id {vlan}; ip link set w{vlan} netns w{vlan}"
        )
        run(
            f"ip -n w{vlan} link set w{vlan} up; "
            + "; ".join(f"ip -n w{vlan} address add {text} dev w{vlan}" for text in addresses)
        )
    found = Engine(str(tmp_path / "state"))
    found.map(networks=[APP, WEB], endpoints=[KEPT, SHOP])
    assert reachable("ip netns exec shop", "10.0.10.1") and reachable("ip netns exec kept", "10.0.11.1")
    return found


EDITS: Dict[str, Any] = {
    "another row is removed": ([WEB], [SHOP], "10.0.10.1"),
    "the network is renamed": ([{**WEB, "name": "store"}], [{**SHOP, "network": "store"}], "10.0.10.1"),
    "the endpoint is renamed": ([WEB], [{**SHOP, "name": "store"}], "10.0.10.1"),
    "the row goes to another VLAN": ([{**WEB, "parent": "trunk.12"}], [SHOP], "10.0.10.1"),
    "the row goes to another driver": ([{**WEB, "driver": "ipvlan"}], [SHOP], "10.0.10.1"),
    "the subnet is renumbered": (
        [{**WEB, "subnets": [{"subnet": "10.9.10.0/24", "gateway": "10.9.10.1"}]}],
        [{**SHOP, "ipv4_address": "10.9.10.5"}],
        "10.9.10.1",
    ),
    "the pool is cut anew": (
        [{**WEB, "subnets": [{"subnet": "10.0.10.0/24", "gateway": "10.0.10.1", "ip_range": "10.0.10.128/25"}]}],
        [SHOP],
        "10.0.10.1",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_a_row_in_use(engine: Engine, tmp_path: Path, edit: str) -> None:
    networks, endpoints, target = EDITS[edit]
    extra: List[Dict[str, Any]] = []
    if edit == "another row is removed":
        extra = [
            {
                "name": "gone",
                "driver": "macvlan",
                "parent": "trunk.13",
                "subnets": [{"subnet": "10.0.13.0/24", "gateway": "none"}],
            }
        ]
        engine.map(
            networks=[APP, WEB, *extra], endpoints=[KEPT, SHOP, {"network": "gone", "name": "last", "netns": "last"}]
        )
    kept, edited = Ping("kept", "10.0.11.1", tmp_path / "kept"), Ping("shop", target, tmp_path / "shop")
    run("sleep 0.5")
    done = engine.map(networks=[APP, *networks], endpoints=[KEPT, *endpoints], purge=True)
    assert done.changes
    lost, others = edited.lost(), kept.lost()
    print(f"{edit}: {lost} packets lost, {EVERY} ms apart")
    assert others == 0
    assert lost == 0 or edit not in ("another row is removed", "the pool is cut anew")
    assert reachable("ip netns exec shop", target)
    assert engine.map(networks=[APP, *networks], endpoints=[KEPT, *endpoints], purge=True).changes == []
