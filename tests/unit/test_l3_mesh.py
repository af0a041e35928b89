# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh of a fleet's L3 networks, from rows alone."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.netops.underlay.plugins.filter.l3_fleet import l3_fleet
from ansible_collections.netops.underlay.plugins.filter.l3_mesh import l3_mesh
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed

LAST = 4294967294


def network(name: str, *subnets: str, parent: str = "eth1", **more: Any) -> Dict[str, Any]:
    return {
        "name": name,
        "driver": "ipvlan",
        "mode": "l3",
        "parent": parent,
        "subnets": [{"subnet": subnet} for subnet in subnets],
        **more,
    }


def host(number: int, **more: Any) -> Dict[str, Any]:
    """A host on the segment 192.0.2.0/24 and 2001:db8::/64, with a prefix of each family."""
    return {
        "l3_routing_underlay": {"eth1": [f"192.0.2.{number}/24", f"2001:db8::{number}/64"]},
        "trunk_networks": [network("red", f"10.{number}.0.0/24", f"fd00:{number}::/64")],
        **more,
    }


def routes(hostvars: Dict[str, Dict[str, Any]], name: str) -> List[Dict[str, Any]]:
    return l3_mesh(l3_fleet(hostvars, list(hostvars)), name)


def test_every_prefix_by_the_address_of_its_host() -> None:
    fleet = {"a": host(1), "b": host(2), "c": host(3)}
    assert routes(fleet, "b") == [
        {"prefix": "10.1.0.0/24", "via": "192.0.2.1"},
        {"prefix": "10.2.0.0/24", "type": "unreachable", "metric": LAST},
        {"prefix": "10.3.0.0/24", "via": "192.0.2.3"},
        {"prefix": "fd00:1::/64", "via": "2001:db8::1"},
        {"prefix": "fd00:2::/64", "type": "unreachable", "metric": LAST},
        {"prefix": "fd00:3::/64", "via": "2001:db8::3"},
    ]
    fleet.pop("c")
    assert [row["prefix"] for row in routes(fleet, "b")] == ["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64", "fd00:2::/64"]


@pytest.mark.parametrize("gone", [{"l3_routing_state": "absent"}, {"trunk_state": "absent"}, {"trunk_networks": []}])
def test_a_host_that_leaves_takes_its_routes_along(gone: Dict[str, Any]) -> None:
    assert [row["prefix"] for row in routes({"a": host(1), "b": host(2, **gone)}, "a")] == [
        "10.1.0.0/24",
        "fd00:1::/64",
    ]


def test_what_is_no_l3_network_on_a_wire_has_no_routes() -> None:
    rows = [
        network("two", "10.9.0.0/24", mode="l2"),
        network("none", "10.8.0.0/24", parent=None),
        {"name": "m", "driver": "macvlan"},
    ]
    assert routes({"a": host(1), "b": host(2, trunk_networks=rows)}, "a") == routes({"a": host(1)}, "a")


def test_sub_interfaces_have_segments_of_their_own() -> None:
    def tagged(number: int, nic: Any) -> Dict[str, Any]:
        return {
            "trunk_nics": {"uplink": nic},
            "trunk_links": [
                {"parent": "uplink", "vlan_id": 100, "addresses": [f"198.18.100.{number}/24"]},
                {"parent": "uplink", "vlan_id": 200, "name": "fast", "addresses": [f"198.18.200.{number}/24"]},
            ],
            "trunk_networks": [
                network("red", f"10.100.{number}.0/24", parent="uplink.100"),
                network("blue", f"10.200.{number}.0/24", parent="fast"),
            ],
        }

    fleet = {
        "a": tagged(1, "eth1"),
        "b": tagged(2, {"name": "eth7"}),
        "c": tagged(3, {"match": {"mac": "52:54:00:00:00:03"}}),
        "d": host(4),
    }
    assert [row for row in routes(fleet, "a") if "via" in row] == [
        {"prefix": "10.100.2.0/24", "via": "198.18.100.2"},
        {"prefix": "10.100.3.0/24", "via": "198.18.100.3"},
        {"prefix": "10.200.2.0/24", "via": "198.18.200.2"},
        {"prefix": "10.200.3.0/24", "via": "198.18.200.3"},
    ]
    assert [row["prefix"] for row in routes(fleet, "d")] == ["10.4.0.0/24", "fd00:4::/64"], "no segment is common"


def test_several_parents_need_the_router_between_them() -> None:
    """A route for unused addresses is asked by endpoints too, before any that leads to the router."""
    rows = [network("red", "10.1.0.0/24"), network("blue", "10.2.0.0/24", parent="eth2")]
    assert routes({"a": host(1, trunk_networks=rows, l3_routing_mode="bgp")}, "a") == []


def test_a_vrf_is_a_world_of_its_own() -> None:
    """The same subnets and prefixes in a VRF and outside are two segments, and two networks."""

    def twice(number: int) -> Dict[str, Any]:
        both = host(number, l3_routing_vrfs={"up.7": "blue"}, trunk_nics={"up": "eth1"})
        both["l3_routing_underlay"]["up.7"] = both["l3_routing_underlay"]["eth1"]
        both["trunk_networks"].append(network("blue", f"10.{number}.0.0/24", parent="up.7"))
        return both

    found = routes({"a": twice(1), "b": twice(2), "c": host(3)}, "a")
    assert [row for row in found if "vrf" in row] == [
        {"prefix": "10.1.0.0/24", "type": "unreachable", "metric": LAST, "vrf": "blue"},
        {"prefix": "10.2.0.0/24", "via": "192.0.2.2", "vrf": "blue"},
    ]
    assert [row for row in found if "vrf" not in row] == routes({"a": host(1), "b": host(2), "c": host(3)}, "a")
    assert not any("vrf" in row for row in routes({"a": twice(1), "b": twice(2), "c": host(3)}, "c"))


def test_a_router_without_prefixes_learns_all() -> None:
    router = {"l3_routing_underlay": {"swp1": ["192.0.2.254/24"]}}
    assert routes({"a": host(1), "r": router}, "r") == [{"prefix": "10.1.0.0/24", "via": "192.0.2.1"}]


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    fleet = {
        "a": host(1),
        "b": host(2, trunk_networks=[network("red", "10.1.0.64/26"), network("blue", "10.7.0.0/24", parent="eth1.7")]),
        "c": host(3, trunk_networks=[network("red", "10.1.0.0/24")]),
        "d": host(4, l3_routing_underlay={}, l3_routing_mode="bgp"),
    }
    with pytest.raises(AnsibleFilterError) as caught:
        routes(fleet, "a")
    assert str(caught.value).splitlines() == [
        "b: network blue has 10.7.0.0/24, and eth1.7 no IPv4 address; give it one in trunk_links, or name it in l3_routing_underlay",
        "10.1.0.0/24 of c overlaps 10.1.0.0/24 of a; give each host prefixes of its own",
        "10.1.0.64/26 of b overlaps 10.1.0.0/24 of a; give each host prefixes of its own",
    ]


@pytest.mark.parametrize(
    ("hostvars", "message"),
    [
        ({"trunk_networks": "red"}, "a: trunk_networks is not a list of rows; write one item a line, each with '- '"),
        (
            {"trunk_networks": [network("red", "10.1.0.0/33")]},
            "a: network red, subnets[0] is not a subnet; write {subnet: 10.1.0.0/24}",
        ),
        (
            {"l3_routing_underlay": {"eth1": ["192.0.2.1"]}},
            "a: 192.0.2.1 of eth1 is not an address with prefix length; write it as 192.0.2.10/24",
        ),
    ],
)
def test_bad_rows(hostvars: Dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        l3_fleet({"a": hostvars}, ["a"])
    assert str(caught.value) == message


def test_a_host_that_is_not_of_the_mesh() -> None:
    with pytest.raises(AnsibleFilterError, match="b is not among the hosts of the mesh; add it to l3_routing_hosts"):
        routes({"a": host(1)}, "b")


def test_a_thousand_hosts() -> None:
    """Each with four prefixes: 4,000 routes on each host."""
    fleet = {}
    for number in range(1000):
        subnets = [f"10.{number // 64}.{number % 64 * 4 + part}.0/24" for part in range(4)]
        underlay = {"eth1": [f"172.16.{number // 250}.{number % 250 + 1}/16"]}
        fleet[f"h{number}"] = {"l3_routing_underlay": underlay, "trunk_networks": [network("red", *subnets)]}
    assert len(routes(fleet, "h7")) == 4000


def test_a_host_with_thousands_of_prefixes() -> None:
    subnets = [f"10.{64 + number // 256}.{number % 256}.0/26" for number in range(5000)]
    assert len(routes({"a": host(1), "b": host(2, trunk_networks=[network("red", *subnets)])}, "b")) == 5002


def of_the_map(*hosts: str) -> Dict[str, Any]:
    """Hosts whose L3 prefixes are slices that the ledger gives; some may be of another slice of a job, or disabled."""
    row: Any = {
        "network": {
            "name": "pods",
            "driver": "ipvlan",
            "mode": "l3",
            "parent": "eth1",
            "subnets": [{"subnet": "10.30.0.0/16"}],
        },
        "per_host": [24],
    }
    given: Any = {"slices": {"pods": {f"h{number}": [f"10.30.{number}.0/24"] for number in (1, 2, 3)}}, "addresses": {}}
    loaded: packed.LoadedMap = {
        "file": "m", "hosts_of": "all", "faults": [], "rows": [row], "endpoints": [], "ledger": given, "ledger_file": "l",
    }  # fmt: skip
    data = packed.pack([loaded])
    return {
        name: {
            packed.VARIABLE: data, "group_names": [packed.GROUP], "inventory_hostname": name,
            "l3_routing_underlay": {"eth1": [f"192.0.2.{name[1:]}/24"]},
        }
        for name in hosts
    }  # fmt: skip


def test_prefixes_of_the_map_and_hosts_that_are_not_in_this_inventory() -> None:
    whole = of_the_map("h1", "h2", "h3")
    fleet = l3_fleet(whole, list(whole))
    assert fleet["h1"]["elsewhere"] == []
    assert [(row["prefix"], row.get("via")) for row in l3_mesh(fleet, "h1")] == [
        ("10.30.1.0/24", None), ("10.30.2.0/24", "192.0.2.2"), ("10.30.3.0/24", "192.0.2.3"),
    ]  # fmt: skip
    part = of_the_map("h1", "h2")
    assert l3_fleet(part, list(part))["h1"]["elsewhere"] == ["h3"]  # whose routes are not this run's to remove
