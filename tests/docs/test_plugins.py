# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EXAMPLES of the inventory, the lookups and the filters, which need each other: a map, its hosts, and one of them.

The files that an example names in its comments are made from those comments.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import yaml

from tests.support.example_hosts import CONTAINER, NO_CONTAINER, PLUGINS, Lab, text_of_examples

MACS = "ip link set eth1 address 02:00:00:00:00:01; ip link set eth2 address 02:00:00:00:00:02"


def files(text: str) -> Dict[str, str]:
    """The files that comments show: a line with the path and a colon, then the contents further in."""
    found: Dict[str, str] = {}
    for path, body in re.findall(r"^# (\S+/\S+):\n((?:#(?:   .*)?\n)+)", text, re.MULTILINE):
        found[path] = textwrap.dedent(re.sub(r"^#", "", body, flags=re.MULTILINE)).strip() + "\n"
    return found


def tasks(kind: str) -> List[Dict[str, Any]]:
    """The tasks of every plugin of a kind."""
    return [
        task for path in sorted((PLUGINS / kind).glob("[!_]*.py")) for task in yaml.safe_load(text_of_examples(path))
    ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The first example of the inventory, as a directory."""
    text = text_of_examples(PLUGINS / "inventory" / "netops_map.py")
    source, _, _ = text.partition("\n---\n")
    written = {**files(source), "inventory/netops_map.yml": re.sub(r"(?m)^#.*\n", "", source)}
    for name, content in written.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert set(written) == {"inventory/netops_map.yml", "inventory/hosts.yml", "map/vlans.csv"}
    return tmp_path / "project"


def test_lookups_and_filters_on_a_host_of_the_inventory(lab: Callable[..., Lab], project: Path, tmp_path: Path) -> None:
    rack = {"hosts": {"node1": {"links": {"eth1": ["192.0.2.11/24"], "eth2": []}}}}
    made = lab({"rack": rack})
    made.hosts["node1"].run(MACS)
    l3 = files(text_of_examples(PLUGINS / "filter" / "l3_fleet.py"))["host_vars/node1.yml"]
    (project / "inventory" / "host_vars").mkdir()
    (project / "inventory" / "host_vars" / "node1.yml").write_text(l3)
    inventory = ["-i", os.fspath(project / "inventory")]
    made.play(Path("netops.underlay.allocate"), *inventory)
    rows = {
        "name": "trunk",
        "trunks": {"fabric_a": "eth1", "fabric_b": "eth2"},
        "networks": "{{ query('netops.underlay.map_rows', 'networks') }}",
    }
    plan = {"name": "A plan", "netops.underlay.vlan_map": rows, "check_mode": True, "register": "trunk_result"}
    play = {"hosts": "node1", "gather_facts": False, "tasks": [*tasks("lookup"), plan, *tasks("filter")]}
    playbook = tmp_path / "plugins.yml"
    playbook.write_text(yaml.safe_dump([play], sort_keys=False))
    said = made.play(playbook, *inventory)
    ledger = (project / "map" / "ledger.yml").read_text()
    assert said_by(said, "The address of shop on node1") in re.findall(r"(\S+): node1/shop", ledger)
    shown = yaml.safe_load(
        re.search(r"\n# node1:\n(?:#.*\n)+", text_of_examples(PLUGINS / "filter" / "l3_fleet.py"))[0].replace(
            "\n#", "\n"
        )
    )  # type: ignore[index]
    assert said_by(said, "Show who has what") == shown


def said_by(output: str, task: str) -> Any:
    """What a debug task showed."""
    body = output.partition(f"TASK [{task}]")[2].partition("TASK [")[0]
    return json.loads(body[body.index("{") :].strip().rpartition("}")[0] + "}")["msg"]


def test_a_table_of_another_system(tmp_path: Path) -> None:
    text = text_of_examples(PLUGINS / "inventory" / "netops_map.py").partition("\n---\n")[2]
    config = yaml.safe_load(text)
    (tmp_path / "map").mkdir()
    (tmp_path / "inventory").mkdir()
    heads = ",".join(config["columns"])
    row = ",".join(
        {"VID": "30", "Name": "lab", "Prefixes": "10.0.30.0/24"}.get(head, "x") for head in config["columns"]
    )
    (tmp_path / "map" / "netbox_vlans.csv").write_text(f"{heads}\n{row}\n")
    (tmp_path / "inventory" / "netops_map.yml").write_text(text)
    (tmp_path / "inventory" / "hosts.yml").write_text("site_x: {hosts: {node1: {trunk_nics: {fabric_a: eth1}}}}\n")
    command = ["ansible-inventory", "-i", os.fspath(tmp_path / "inventory"), "--list"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert found["vlan_30"]["children"] == ["site_x"]
    assert found["site_x"]["hosts"] == ["node1"]


def variables(role: str) -> Dict[str, Any]:
    """The example of a role's README."""
    (text,) = re.findall(r"```yaml\n(.*?)```", (PLUGINS.parent / "roles" / role / "README.md").read_text(), re.DOTALL)
    found: Dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_rows_of_the_roles_readmes(lab: Callable[..., Lab], tmp_path: Path) -> None:
    made = lab({"all": {"hosts": {"node1": {"links": {"eth1": []}}}}})
    rows = {**variables("trunk"), **variables("endpoints"), "trunk_guard_timeout": 0, "endpoints_guard_timeout": 0}
    roles = ["netops.underlay.trunk", "netops.underlay.endpoints"]
    playbook = tmp_path / "roles.yml"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "node1", "gather_facts": False, "vars": rows, "roles": roles}], sort_keys=False)
    )
    host = made.hosts["node1"]
    try:
        host.run(CONTAINER)
        made.play(playbook, "--check")
        made.play(playbook)
        assert "changed=0" in made.play(playbook)
        found = {link["ifname"] for link in json.loads(host.run("ip -j -n shop link show"))}
    finally:
        host.run(f"{NO_CONTAINER} 2>&1 || true")
    assert found == {"lo", "eth0", "eth1"}
    assert json.loads(host.run("ip -j -n shop address show dev eth1"))[0]["addr_info"][0]["local"] == "172.16.49.10"
