# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of what really is there: ``vlan_info`` on a kernel, through the filter ``report``."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.netops.underlay.plugins.filter.report import report

from tests.support.module_tasks import Tasks
from tests.support.network_host import ip, run


def reported(tasks: Tasks) -> Dict[str, Any]:
    return report({"node1": tasks.ok("vlan_info")}, "One host")


def findings(doc: Dict[str, Any]) -> List[Any]:
    return [(row["level"], row["kind"], row["key"], row["vlan_id"], row["text"]) for row in doc["findings"]]


def test_every_network_stands_below_its_trunk_and_its_vlan(tasks: Tasks) -> None:
    run("ip link add link trunk name uplink7 type vlan id 7")
    rows = [
        {"name": "tagged", "driver": "macvlan", "parent": "trunk.50", "subnets": [{"subnet": "192.0.2.0/26"}]},
        {"name": "double", "driver": "macvlan", "parent": "trunk.50.9", "subnets": [{"subnet": "192.0.2.64/26"}]},
        {"name": "named", "driver": "ipvlan", "parent": "uplink7", "subnets": [{"subnet": "192.0.2.128/26"}]},
        {"name": "untagged", "driver": "macvlan", "parent": "trunk", "subnets": [{"subnet": "192.0.2.192/26"}]},
        {"name": "inside", "driver": "macvlan", "internal": True, "subnets": [{"subnet": "198.51.100.0/24"}]},
    ]
    links = [{"parent": "trunk", "vlan_id": 50}, {"parent": "trunk.50", "vlan_id": 9}]
    tasks.ok("vlan_map", name="rack", links=links, networks=rows)
    places = {row["name"]: (row["trunk"], row["vlan_id"]) for row in reported(tasks)["networks"]}
    for name, parent in {"tagged": "trunk.50", "double": "trunk.50.9", "named": "uplink7"}.items():
        (link,) = ip("link", "show", "dev", parent)
        assert places[name] == ("trunk", link["linkinfo"]["info_data"]["id"])
    assert places["untagged"] == ("trunk", None) and places["inside"] == (None, None)

    run("ip link del trunk.50")
    places = {row["name"]: (row["trunk"], row["vlan_id"]) for row in reported(tasks)["networks"]}
    assert places["tagged"] == ("trunk", 50), "also while it is missing"


def test_what_somebody_broke_is_one_finding_each_in_its_place(tasks: Tasks) -> None:
    network = {"name": "web", "driver": "macvlan", "parent": "trunk.50", "subnets": [{"subnet": "192.0.2.0/29"}]}
    ends = [{"network": "web", "name": name, "netns": name} for name in ("shop", "mail")]
    tasks.ok("vlan_map", name="rack", networks=[network], endpoints=ends)
    doc = reported(tasks)
    assert findings(doc) == [] and doc["hosts"][0]["state"] == "ok"
    held = {row["name"]: row["addresses"] for row in doc["leases"]}
    for name, addresses in held.items():
        (link,) = ip("-n", name, "address", "show", "dev", "eth0", "scope", "global")
        assert addresses == [f"{row['local']}/{row['prefixlen']}" for row in link["addr_info"]]
    assert [(row["pool"], row["used"], row["size"], row["reserved"]) for row in doc["pools"]] == [
        ("192.0.2.0/29", 2, 5, 3)
    ]

    run("ip link set trunk.50 down")
    run("ip -n mail link del eth0")
    assert findings(reported(tasks)) == [
        ("drift", "link", "trunk.50", 50, "link trunk.50: is down, should be up"),
        ("drift", "endpoint", "web/mail", 50, "link netns:mail/eth0 is missing"),
    ]
    assert {row["name"]: row["alive"] for row in reported(tasks)["leases"]} == {"shop": True, "mail": False}
