# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan_map`` and ``vlan_info``, ``ipvlan_l3_routes`` and ``vlan_host``; and each module as it goes over a connection."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest

from tests.support.module_tasks import MODULES, Tasks, changes, everything
from tests.support.network_host import ip, link, links, run

NETOPS: Dict[str, Any] = {
    "name": "rack1", "trunks": {"uplink": "trunk"},
    "links": [{"parent": "uplink", "vlan_id": 40, "addresses": ["198.51.100.1/24"]}],
    "networks": [
        {"name": "vlan10", "driver": "macvlan", "parent": "uplink.10", "subnets": [{"subnet": "172.16.80.0/24", "gateway": "172.16.80.1"}]},
        {"name": "vlan20", "driver": "macvlan", "parent": "uplink.20", "subnets": [{"subnet": "172.16.50.0/22", "gateway": "172.16.50.1"}]},
        {"name": "vlan30", "driver": "ipvlan", "parent": "uplink.30", "subnets": [{"subnet": "10.1.0.0/16", "gateway": "10.1.100.1"}]},
        {"name": "l3", "driver": "ipvlan", "mode": "l3", "parent": "uplink.40", "subnets": [{"subnet": "10.214.0.0/24"}]},
    ],
    "endpoints": [
        {"network": "vlan10", "name": "shop", "netns": "shop"}, {"network": "vlan10", "name": "till", "netns": "till"},
        {"network": "vlan30", "name": "db", "netns": "db"}, {"network": "l3", "name": "edge", "netns": "edge"},
    ],
    "routes": [{"name": "others", "network": "l3", "routes": [{"prefix": "10.215.0.0/24", "via": "198.51.100.2"}]}],
}  # fmt: skip


def test_a_whole_host_in_one_task(tasks: Tasks) -> None:
    done = tasks.becomes("vlan_map", **NETOPS)
    assert {"trunk.10", "trunk.20", "trunk.30", "trunk.40"} <= set(links())
    assert done["endpoints"]["vlan10/shop"]["addresses"] == ["172.16.80.2/24"]
    assert done["endpoints"]["l3/edge"]["addresses"] == ["10.214.0.2/24"]
    assert (
        done["networks"]["vlan20"]["subnets"][0]["subnet"] == "172.16.48.0/22"
        and done["networks"]["vlan20"]["owner"] == "map:rack1"
    )
    assert done["links"]["trunk.40"]["addresses"] == ["198.51.100.1/24"]
    assert run("ip netns exec till ping -c 1 -W 5 172.16.80.2 >/dev/null && echo yes").strip() == "yes"
    found = {row["dst"]: row.get("gateway") or row.get("type") for row in ip("-4", "route", "show", "proto", "201")}
    assert found == {"10.215.0.0/24": "198.51.100.2", "10.214.0.0/24": "unreachable"}
    tasks.same("vlan_map", check=True, **NETOPS)

    fewer = {**NETOPS, "networks": NETOPS["networks"][1:], "endpoints": NETOPS["endpoints"][2:], "purge": True}
    done = tasks.becomes("vlan_map", **fewer)
    assert "trunk.10" not in links() and "trunk.30" in links()
    assert done["plan"]["counts"]["endpoint"] == {"remove": 2} and done["plan"]["counts"]["network"] == {"remove": 1}
    tasks.becomes("vlan_map", name="rack1", purge=True, networks=[], endpoints=[], links=[], routes=[])
    assert links() == ["far", "trunk"] and ip("netns", "list") == [] and ip("-4", "route", "show", "proto", "201") == []
    tasks.same("vlan_map", name="rack1", purge=True, networks=[], endpoints=[], links=[], routes=[])


def test_two_maps_leave_each_other_alone(tasks: Tasks) -> None:
    tasks.ok(
        "vlan_map",
        name="a",
        networks=[{"name": "one", "driver": "macvlan", "parent": "trunk.1", "subnets": [{"subnet": "10.1.0.0/24"}]}],
    )
    tasks.becomes("vlan_map", name="b", purge=True, networks=[
        {"name": "two", "driver": "macvlan", "parent": "trunk.2", "subnets": [{"subnet": "10.1.0.0/24"}]}
    ])  # fmt: skip
    tasks.same("vlan_map", name="c", purge=True, networks=[])
    assert {"trunk.1", "trunk.2"} <= set(links())


def test_a_trunk_known_by_its_alternative_name(tasks: Tasks) -> None:
    run("ip link property add dev trunk altname rack1-uplink")
    tasks.becomes(
        "vlan_map",
        name="m",
        trunks={"up": {"match": {"altname": "rack1-uplink"}}},
        links=[{"parent": "up", "vlan_id": 9}],
    )
    assert link("trunk.9")["link"] == "trunk"


def many(trunk: str, count: int, label: str) -> List[Dict[str, Any]]:
    """A network on each VLAN of a trunk."""
    return [
        {"name": f"n{number}", "driver": "macvlan", "parent": f"{trunk}.{number}", "labels": {"text": label},
         "subnets": [{"subnet": f"10.{number // 250}.{number % 250}.0/24"}]}
        for number in range(1, count + 1)
    ]  # fmt: skip


def test_a_large_map_says_its_first_changes_and_stays_small(tasks: Tasks) -> None:
    found = tasks.run("vlan_map", {"name": "m", "networks": many("trunk", 400, label="x" * 900)})
    done = found.data
    assert done["changed"] and done["plan"]["total"] == 800 and len(done["plan"]["first"]) == 20
    assert len(found.text) < 300_000 and "networks" in done["left_out"]
    with open(done["plan"]["plan_file"], encoding="utf-8") as file:
        assert len(json.load(file)) == 800
    assert len(links()) == 402


def test_a_large_map_that_is_refused_stays_small_too(tasks: Tasks) -> None:
    """AWX keeps no larger one, and with it would lose the reason."""
    rows = many("away", 4094, label="x" * 90)
    before = everything(tasks.state_dir)
    for options, what in (({}, "away does not exist"), ({"mtu": 1}, "1 is not a whole number from 68 to 65535 bytes")):
        found = tasks.run("vlan_map", {"name": "m", "networks": [{**row, **options} for row in rows]})
        assert found.data["failed"] and len(found.text) < 300_000
        (line,) = found.message  # one cause, one line
        assert what in line and line.startswith("networks[0].") and " and 4,092 more: " in line
        assert found.data["problems"][0]["path"] == line.split(",")[0]
    found = tasks.run(
        "vlan_map", {"name": "m", "networks": [{**row, "mtu": -number} for number, row in enumerate(rows)]}
    )
    assert found.data["failed"] and len(found.text) < 300_000
    assert found.message[-1] == f"and {4094 - len(found.message) + 1:,} more, shown once these are fixed"
    assert changes(before, everything(tasks.state_dir)) == []


# --- vlan_info ----------------------------------------------------------------------------------


def test_info_of_a_host_without_anything(tasks: Tasks) -> None:
    before = everything(tasks.state_dir)
    found = tasks.ok("vlan_info")
    for subset in ("links", "networks", "endpoints", "routes", "drift", "adoptable", "transactions"):
        assert found[subset] == [], subset
    assert changes(before, everything(tasks.state_dir)) == []


def test_info_tells_all_and_changes_nothing(tasks: Tasks) -> None:
    tasks.ok("vlan_map", **NETOPS)
    before = everything(tasks.state_dir)
    found = tasks.ok("vlan_info")
    assert [row["name"] for row in found["networks"]] == ["l3", "vlan10", "vlan20", "vlan30"]
    assert found["networks"][1]["endpoints"] == ["shop", "till"] and found["networks"][1]["pools"][0]["used"] == 2
    assert {row["name"]: row["alive"] for row in found["endpoints"]} == dict.fromkeys(
        ("shop", "till", "db", "edge"), True
    )
    assert [row["name"] for row in found["links"]] == ["trunk.40"] and [row["name"] for row in found["routes"]] == [
        "others"
    ]
    assert found["drift"] == found["adoptable"] == [] and found["transactions"][0]["owner"] == "map:rack1"
    assert [row["name"] for row in tasks.ok("vlan_info", gather_subset=["networks"], name=["vlan20"])["networks"]] == [
        "vlan20"
    ]
    assert changes(before, everything(tasks.state_dir)) == []

    run("ip link set trunk.10 down; ip netns exec shop ip address flush dev eth0")
    drift = tasks.ok("vlan_info", gather_subset=["drift"])["drift"]
    assert {"link trunk.10", "address netns:shop/eth0 172.16.80.2/24"} <= {row["object"] for row in drift}
    tasks.ok("vlan_map", **NETOPS)
    assert tasks.ok("vlan_info", gather_subset=["drift"])["drift"] == []


def test_info_names_what_a_lost_registry_left_behind(tasks: Tasks) -> None:
    tasks.ok("vlan_map", **NETOPS)
    run(f"rm -r {tasks.state_dir}")
    found = tasks.ok("vlan_info", gather_subset=["adoptable"])["adoptable"]
    assert {(row["namespace"], row["interface"]) for row in found} >= {("the host", "trunk.10"), ("netns:shop", "eth0")}
    tasks.ok("vlan_map", adopt=True, **NETOPS)
    assert tasks.ok("vlan_info", gather_subset=["adoptable"])["adoptable"] == []
    tasks.same("vlan_map", **NETOPS)


def test_info_refuses_what_it_does_not_know(tasks: Tasks) -> None:
    found = tasks.run("vlan_info", {"gather_subset": ["everything"]})
    assert found.data["failed"] and "Traceback" not in found.text and "gather_subset" in found.message[0]


# --- ipvlan_l3_routes ---------------------------------------------------------------------------


def test_a_set_of_routes(tasks: Tasks) -> None:
    row = {"prefix": "10.77.0.0/16", "via": "203.0.113.1"}
    tasks.becomes("ipvlan_l3_routes", name="set", routes=[row])
    (shown,) = ip("route", "show", "10.77.0.0/16")
    assert (shown["gateway"], shown["protocol"]) == ("203.0.113.1", "201")
    tasks.becomes(
        "ipvlan_l3_routes", name="set", routes=[{"prefix": "10.78.0.0/16", "via": "203.0.113.2", "metric": 5}]
    )
    assert len(ip("route", "show", "proto", "201")) == 2, "another task adds to the set"
    tasks.becomes("ipvlan_l3_routes", name="set", exact=True, routes=[row])
    assert [found["dst"] for found in ip("route", "show", "proto", "201")] == ["10.77.0.0/16"]
    tasks.becomes("ipvlan_l3_routes", name="set", state="absent")
    assert ip("route", "show", "proto", "201") == []
    tasks.same("ipvlan_l3_routes", name="set", state="absent")


def test_a_route_of_others_is_left(tasks: Tasks) -> None:
    run("ip route add 10.77.0.0/16 via 203.0.113.9 proto static")
    tasks.refuses(
        "ipvlan_l3_routes",
        r"^routes\[0\]\.prefix: 10\.77\.0\.0/16 .*; ",
        name="set",
        routes=[{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}],
    )


# --- the payload --------------------------------------------------------------------------------

LEAST: Dict[str, Dict[str, Any]] = {
    "vlan_link": {"parent": "trunk", "vlan_id": 50},
    "vlan_network": {
        "name": "blue",
        "driver": "macvlan",
        "parent": "trunk.50",
        "subnets": [{"subnet": "192.0.2.0/24"}],
    },
    "vlan_endpoint": {"network": "blue", "name": "one", "netns": "one"},
    "ipvlan_l3_routes": {"name": "set", "routes": [{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}]},
    "vlan_map": {"name": "m", "links": [{"parent": "trunk", "vlan_id": 50}]},
    "vlan_info": {},
}


@pytest.mark.parametrize("module", LEAST)
def test_each_module_as_it_goes_over_a_connection(tasks: Tasks, module: str) -> None:
    """All of the payload, by standard input, to a Python that has nothing but its own library."""
    if module == "vlan_endpoint":
        tasks.ok("vlan_network", **LEAST["vlan_network"])
    found = tasks.send(module, LEAST[module])
    assert found.status == 0 and not found.data.get("failed"), found.text
    assert found.data["changed"] is (module != "vlan_info")
    assert module in MODULES
