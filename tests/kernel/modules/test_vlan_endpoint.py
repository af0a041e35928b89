# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan_endpoint``: attached, changed, absent and released, from check mode to the ping."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from tests.support.module_tasks import Tasks
from tests.support.network_host import HAS_IPV6, ip, link, links, run, sysctl

SUBNETS = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8:50::/64"}] if HAS_IPV6 else [])]


def addresses(netns: str, name: str = "eth0") -> List[str]:
    rows = ip("addr", "show", "dev", name, netns=netns)[0]["addr_info"]
    return [f"{row['local']}/{row['prefixlen']}" for row in rows if row["scope"] == "global"]


@pytest.fixture
def blue(tasks: Tasks) -> Tasks:
    tasks.ok("vlan_network", name="blue", driver="macvlan", parent="trunk.50", subnets=SUBNETS)
    return tasks


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_attached_reached_and_removed(tasks: Tasks, driver: str) -> None:
    tasks.ok("vlan_network", name="blue", driver=driver, parent="trunk.50", subnets=SUBNETS)
    done = tasks.becomes("vlan_endpoint", network="blue", name="one", netns="one")
    assert (done["interface"], done["parent"], done["addresses"]) == ("eth0", "trunk.50", addresses("one"))
    assert done["mac"] == link("eth0", "one")["address"]
    assert done["gateway"] == {"ipv4": "192.0.2.1", "ipv6": "2001:db8:50::1" if HAS_IPV6 else None}
    assert ip("route", "show", "default", netns="one")[0]["gateway"] == "192.0.2.1"
    assert {"netns", "link", "address", "route", "endpoint"} <= set(done["plan"]["counts"])
    tasks.becomes("vlan_endpoint", network="blue", name="two", netns="two")
    assert run("ip netns exec two ping -c 1 -W 5 192.0.2.2 >/dev/null && echo yes").strip() == "yes"
    tasks.becomes("vlan_endpoint", network="blue", name="one", netns="one", state="absent")
    assert [row["name"] for row in ip("netns", "list")] == ["two"]
    tasks.same("vlan_endpoint", network="blue", name="one", state="absent")
    assert tasks.ok("vlan_endpoint", network="blue", name="three", netns="three")["addresses"][0] == "192.0.2.2/24"


def test_every_option_in_place(blue: Tasks) -> None:
    options: Dict[str, Any] = {
        "network": "blue", "name": "one", "netns": "one", "interface": "wan", "ipv4_address": "192.0.2.77", "mac_address": "02:00:5e:00:00:07",
        "mtu": 1400, "aliases": ["db"], "hosts": {"other": "192.0.2.200"}, "default_route": {"ipv4": "never"}, "gw_priority": 3,
        "routes": [{"prefix": "10.7.0.0/16", "via": "192.0.2.9", "metric": 7}], "sysctls": {"net.ipv4.conf.IFNAME.arp_ignore": 1},
    }  # fmt: skip
    done = blue.becomes("vlan_endpoint", **options)
    assert (
        addresses("one", "wan")[0] == "192.0.2.77/24"
        and done["mac"] == link("wan", "one")["address"] == "02:00:5e:00:00:07"
    )
    assert link("wan", "one")["mtu"] == 1400 and sysctl("ipv4.conf.wan.arp_ignore", "one") == 1
    assert ip("-4", "route", "show", "default", netns="one") == []
    (route,) = ip("route", "show", "10.7.0.0/16", netns="one")
    assert (route["gateway"], route["metric"], route["dev"]) == ("192.0.2.9", 7, "wan")
    index = link("wan", "one")["ifindex"]
    blue.becomes("vlan_endpoint", **{
        **options, "ipv4_address": "192.0.2.78", "mac_address": "02:00:5e:00:00:08", "mtu": 1300, "default_route": {"ipv4": "auto"},
        "routes": [], "sysctls": {"net.ipv4.conf.IFNAME.arp_ignore": 2},
    })  # fmt: skip
    assert addresses("one", "wan")[0] == "192.0.2.78/24" and link("wan", "one")["address"] == "02:00:5e:00:00:08"
    assert link("wan", "one")["mtu"] == 1300 and link("wan", "one")["ifindex"] == index
    assert (
        ip("route", "show", "10.7.0.0/16", netns="one") == []
        and len(ip("-4", "route", "show", "default", netns="one")) == 1
    )


def test_an_address_of_its_own_is_refused_with_its_holder(blue: Tasks) -> None:
    blue.ok("vlan_endpoint", network="blue", name="one", netns="one")
    blue.refuses(
        "vlan_endpoint",
        r"^ipv4_address: 192\.0\.2\.2 is held by one; ",
        network="blue",
        name="two",
        netns="two",
        ipv4_address="192.0.2.2",
    )
    blue.refuses(
        "vlan_endpoint",
        r"^ipv4_address: 192\.0\.2\.1 is .*gateway.*; ",
        network="blue",
        name="two",
        netns="two",
        ipv4_address="192.0.2.1",
    )


def test_a_namespace_of_others_stays(blue: Tasks) -> None:
    run("ip netns add theirs; ip -n theirs link add dummy7 type dummy")
    blue.becomes("vlan_endpoint", network="blue", name="one", netns="theirs")
    blue.becomes("vlan_endpoint", network="blue", name="one", netns="theirs", state="absent")
    assert links("theirs") == ["dummy7"]


def test_released_only_when_its_workload_is_gone(blue: Tasks) -> None:
    blue.ok("vlan_endpoint", network="blue", name="one", netns="one")
    blue.refuses(
        "vlan_endpoint",
        r"^state: blue/one lives, as eth0 in netns:one; use state: absent",
        network="blue",
        name="one",
        state="released",
    )
    run("ip netns del one")
    assert blue.ok("vlan_info", gather_subset=["endpoints"])["endpoints"][0]["alive"] is False
    blue.becomes("vlan_endpoint", network="blue", name="one", state="released")
    assert blue.ok("vlan_info", gather_subset=["endpoints"])["endpoints"] == []
