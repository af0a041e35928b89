# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel refuses, or accepts and does not do: check mode says it before."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError

from tests.support.checkout import CHECKOUT
from tests.support.engine import Engine
from tests.support.network_host import run

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]


# --- the table -----------------------------------------------------------------------------------

ROWS: Dict[str, List[Dict[str, Any]]] = yaml.safe_load(
    (CHECKOUT / "docs" / "kernel_errors.yml").read_text(encoding="utf-8")
)
CASES: List[Tuple[str, Dict[str, Any]]] = [(kind, row) for kind, rows in ROWS.items() for row in rows]


def carry_out(engine: Engine, task: Dict[str, Dict[str, Any]], check: bool = False) -> None:
    ((kind, options),) = task.items()
    engine.task(kind, check=check, **options)


@pytest.mark.parametrize(("kind", "row"), CASES, ids=[f"{kind} {row['errno']} {row['when']}" for kind, row in CASES])
def test_what_the_kernel_refuses_is_said_before(engine: Engine, kind: str, row: Dict[str, Any]) -> None:
    assert row["errno"] == "none" or all(name in errno.__dict__ for name in row["errno"].split(", "))
    assert ("task" in row) != ("only" in row)
    run(row.get("prepare", ":"))
    for task in row.get("tasks", ()):
        carry_out(engine, task)
    if "task" in row:
        for check in (True, False):
            with pytest.raises(InputError) as caught:
                carry_out(engine, row["task"], check)
            assert row["said"] in str(caught.value)
    if "raw" in row:
        refused = subprocess.run(["sh", "-c", row["raw"]], text=True, capture_output=True)
        assert row["says"].lower() in refused.stderr.lower() and refused.returncode != 0


_PLAN = """\
import sys
from tests.support.engine import Engine
try:
    Engine(sys.argv[1]).task("vlan", check=True, parent="trunk", vlan_id=5)
except Exception as error:
    print(error)
"""


def test_a_process_that_may_change_nothing(tmp_path: Path) -> None:
    words = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable]
    said = subprocess.run(
        [*words, "-c", f"import tests.conftest\n{_PLAN}", str(tmp_path)], text=True, capture_output=True
    )
    assert said.stdout.startswith("this process has no CAP_NET_ADMIN"), said


def test_a_kernel_that_is_too_old(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    release = os.uname()
    monkeypatch.setattr(
        os, "uname", lambda: os.uname_result((release[0], release[1], "4.1.52", release[3], release[4]))
    )
    with pytest.raises(
        InputError, match=r"^driver: ipvlan needs Linux 4.2 or newer, and this host runs 4.1.52; boot a"
    ):
        engine.network(driver="ipvlan", check=True)


# --- what it accepts, and nothing passes ---------------------------------------------------------


@pytest.mark.parametrize(("parent", "vid", "what"), [("br0.50", "50", "VLAN 50"), ("br0", "1", "untagged frames")])
def test_a_bridge_that_lets_nothing_in(engine: Engine, parent: str, vid: str, what: str) -> None:
    run("ip link add br0 type bridge vlan_filtering 1; ip link set trunk master br0; ip link set br0 up")
    run("bridge vlan del dev br0 vid 1 self; bridge vlan add dev br0 vid 7-9 self; bridge vlan add dev trunk vid 50")
    pvid = " pvid untagged" if parent == "br0" else ""
    warned = [
        f"parent: br0 filters VLANs and passes no {what} to this host: bridge vlan add dev br0 vid {vid}{pvid} self"
    ]
    for check in (True, False):
        assert engine.network(parent=parent, check=check).warnings == warned
    run(f"bridge vlan add dev br0 vid {vid}{pvid} self")
    assert engine.network(parent=parent, check=True).warnings == []


def test_a_bridge_that_filters_vlans_by_range(engine: Engine) -> None:
    run("ip link add br0 type bridge vlan_filtering 1; ip link set br0 up; bridge vlan add dev br0 vid 49-51 self")
    assert engine.task("vlan", parent="br0", vlan_id=50).warnings == []
    assert engine.task("vlan", parent="br0", vlan_id=52, check=True).warnings == [
        "parent: br0 filters VLANs and passes no VLAN 52 to this host: bridge vlan add dev br0 vid 52 self"
    ]
    run("ip link set br0 type bridge vlan_filtering 0")
    assert engine.task("vlan", parent="br0", vlan_id=52).warnings == []
