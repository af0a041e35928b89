# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kernel without IPv6 is a supported host: IPv4 works, and what asks for IPv6 is refused by name.

``tests/lab/run --kernel-arg ipv6.disable=1 -- pytest tests/kernel/modules -m ipv6_off``
"""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.support.module_tasks import Tasks
from tests.support.network_host import ip, links, run

pytestmark = [pytest.mark.ipv6_off, pytest.mark.usefixtures("without_ipv6")]

CURE = "; leave it out, or boot the host without ipv6.disable=1"
WHAT = " is IPv6, and this host runs without IPv6" + CURE
SUBNETS = [{"subnet": "192.0.2.0/24"}]

MAP: Dict[str, Any] = {
    "name": "rack1",
    "links": [{"parent": "trunk", "vlan_id": 5, "addresses": ["10.0.5.1/24"]}],
    "networks": [
        {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": SUBNETS},
        {"name": "red", "driver": "ipvlan", "mode": "l3", "parent": "trunk.5", "subnets": [{"subnet": "198.51.100.0/24"}]},
        {"name": "picked", "driver": "macvlan"},
    ],
    "endpoints": [
        {"network": "blue", "name": "one", "netns": "one"}, {"network": "blue", "name": "two", "netns": "two"},
        {"network": "red", "name": "three", "netns": "three"}, {"network": "picked", "name": "four", "netns": "four"},
    ],
    "routes": [{"name": "remote", "routes": [{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}]}],
}  # fmt: skip


def test_a_map_of_ipv4_is_made_and_removed(tasks: Tasks) -> None:
    before = links()
    done = tasks.becomes("vlan_map", **MAP)
    assert done["endpoints"]["blue/one"]["addresses"] == ["192.0.2.2/24"]
    assert run("ip netns exec two ping -c 1 -W 5 192.0.2.2 >/dev/null && echo yes").strip() == "yes"
    assert [row["dst"] for row in ip("route", "show", "proto", "201")] == ["10.77.0.0/16"]
    found = tasks.run("vlan_info", {}).data
    assert found["drift"] == [] and {row["name"] for row in found["endpoints"]} == {"one", "two", "three", "four"}
    tasks.becomes("vlan_map", name="rack1", purge=True, networks=[], endpoints=[], links=[], routes=[])
    assert links() == before


def test_everything_of_ipv6_is_refused_by_name_at_once(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        r"^links\[0\]\.addresses\[1\]: 2001:db8:5::1/64" + WHAT,
        r"^networks\[0\]\.subnets\[1\]\.subnet: 2001:db8::/64" + WHAT,
        r"^networks\[1\]\.enable_ipv6: true" + WHAT,
        r"^endpoints\[0\]\.accept_ra: a router advertisement" + WHAT,
        r"^endpoints\[0\]\.sysctls: ipv6\.hop_limit" + WHAT,
        r"^routes\[0\]\.routes\[0\]\.prefix: 2001:db8:7::/64" + WHAT,
        name="rack1",
        links=[{"parent": "trunk", "vlan_id": 5, "addresses": ["10.0.5.1/24", "2001:db8:5::1/64"]}],
        networks=[
            {
                "name": "blue",
                "driver": "macvlan",
                "parent": "trunk.10",
                "subnets": [*SUBNETS, {"subnet": "2001:db8::/64"}],
            },
            {
                "name": "red",
                "driver": "macvlan",
                "parent": "trunk.11",
                "enable_ipv6": True,
                "subnets": [{"subnet": "198.51.100.0/24"}],
            },
        ],
        endpoints=[
            {"network": "blue", "name": "one", "netns": "one", "accept_ra": True, "sysctls": {"ipv6.hop_limit": 9}}
        ],
        routes=[{"name": "remote", "routes": [{"prefix": "2001:db8:7::/64", "via": "fe80::1", "dev": "trunk"}]}],
    )
    tasks.refuses(
        "vlan_network",
        r"^subnets\[0\]\.subnet: 2001:db8::/64" + WHAT,
        name="six",
        driver="macvlan",
        subnets=[{"subnet": "2001:db8::/64"}],
    )
    tasks.refuses(
        "vlan_link", r"^addresses\[0\]: 2001:db8::1/64" + WHAT, parent="trunk", vlan_id=5, addresses=["2001:db8::1/64"]
    )
