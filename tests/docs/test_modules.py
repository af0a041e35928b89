# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The EXAMPLES of every module that works on a host, in their order, each in check mode and then for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import pytest
import yaml

from tests.support.example_hosts import CONTAINER, NO_CONTAINER, PLUGINS, Lab, examples, twice

#: It works on the controller, with an inventory that has a map: see test_pages.
ON_THE_CONTROLLER = {"map_ledger"}
MODULES = sorted({path.stem for path in (PLUGINS / "modules").glob("*.py")} - ON_THE_CONTROLLER)

GATEWAYS = """
ip netns add wire; ip link set far-eth1 netns wire; ip -n wire link set far-eth1 up
for row in 10/172.16.80.1/24 20/172.16.50.1/22; do
  id=${row%%/*}; ip -n wire link add link far-eth1 name v$id type vlan id $id; ip -n wire link set v$id up
  ip -n wire address add ${row#*/} dev v$id
done
"""


class Scene(NamedTuple):
    """What the examples of a module take for granted."""

    links: Dict[str, List[str]] = {}
    shell: str = ""
    tasks: List[Dict[str, Any]] = []  # of ours, before the first example
    between: Dict[str, str] = {}  # the state of an example -> shell on the host, before it


def _map(name: str, **rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {"name": "What the examples stand on", "netops.underlay.vlan_map": {"name": name, **rows}}


def _network(name: str, driver: str, parent: str, *subnets: str, **more: Any) -> Dict[str, Any]:
    return {
        "name": name,
        "driver": driver,
        "parent": parent,
        "subnets": [{"subnet": subnet} for subnet in subnets],
        **more,
    }


SCENES = {
    "vlan_link": Scene({"eth0": [], "bond0": []}),
    "vlan_network": Scene({"eth0": [], "bond0": []}),
    "vlan_endpoint": Scene(
        {"eth0": [], "bond0": [], "eth2": []},
        CONTAINER,
        [_map("docs", networks=[
            _network("macvlan50", "macvlan", "eth0.50", "192.168.50.0/24"),
            _network("web", "ipvlan", "bond0.20", "172.16.50.0/24", "2001:db8:50::/64"),
            _network("backup", "macvlan", "eth2", "10.1.0.0/24"),
            _network("listening", "macvlan", "eth0.60", "192.168.60.0/24", mode="source"),
            _network("uplink", "macvlan", "eth0", "10.2.0.0/24"),
        ])],
        {"released": NO_CONTAINER},
    ),
    "ipvlan_l3_routes": Scene(
        {"eth0": ["192.0.2.10/24", "2001:db8::10/64"], "eth1": ["198.51.100.1/24"]},
        tasks=[_map("docs", networks=[_network("l3net", "ipvlan", "eth1", "10.1.214.0/24", mode="l3")])],
    ),
    "vlan_map": Scene({"eth1": []}),
    "vlan_verify": Scene({"eth1": []}, GATEWAYS),
}  # fmt: skip


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module(module: str, lab: Callable[..., Lab], tmp_path: Path) -> None:
    scene = SCENES.get(module, Scene())
    made = lab({"all": {"hosts": {"target": {"links": scene.links, "mtu": 9000}}}})
    host = made.hosts["target"]
    if scene.shell:
        host.run(scene.shell)
    tasks = list(scene.tasks)
    if module == "vlan_verify":  # what it verifies has to be there
        (rows,) = (task["netops.underlay.vlan_verify"] for task in examples(module))
        tasks.append({"name": "The map", "netops.underlay.vlan_map": {"name": "trunk", **rows}})
    for task in examples(module):
        options = task.get(f"netops.underlay.{module}") or {}
        if options.get("state") in scene.between:
            tasks.append({"name": "Meanwhile", "ansible.builtin.command": f"sh -c '{scene.between[options['state']]}'"})
        tasks += twice(task)
    playbook = tmp_path / "examples.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "target", "gather_facts": False, "tasks": tasks}], sort_keys=False))
    try:
        made.play(playbook)
    finally:
        if scene.shell == CONTAINER:
            host.run(f"{NO_CONTAINER} 2>&1 || true")
