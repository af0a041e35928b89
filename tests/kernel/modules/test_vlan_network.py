# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan_network``: macvlan and ipvlan, on parents of every sort."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.support.module_tasks import Tasks, warnings
from tests.support.network_host import HAS_IPV6, data, ip, link, links, run

BLUE: Dict[str, Any] = {
    "name": "blue",
    "driver": "macvlan",
    "parent": "trunk.50",
    "subnets": [{"subnet": "192.0.2.0/24"}],
}
SIX = [{"subnet": "2001:db8:50::/64"}] if HAS_IPV6 else []


def test_a_parent_on_the_fly_comes_and_goes_with_the_network(tasks: Tasks) -> None:
    done = tasks.becomes("vlan_network", **{**BLUE, "subnets": [
        {"subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "ip_range": ["192.0.2.64/27", "192.0.2.96-192.0.2.99"],
         "aux_addresses": {"router2": "192.0.2.70"}}, *SIX
    ]})  # fmt: skip
    assert (link("trunk.50")["link"], link("trunk.50")["group"], data("trunk.50")["id"]) == ("trunk", "8021", 50)
    assert done["parent"] == "trunk.50" and done["interface"] is None and done["addresses"] == []
    assert done["network"]["subnets"][0] == {
        "subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "ip_range": "192.0.2.64/27, 192.0.2.96-192.0.2.99", "aux_addresses": {"router2": "192.0.2.70"}
    }  # fmt: skip
    if HAS_IPV6:
        assert done["network"]["subnets"][1]["gateway"] == "2001:db8:50::1"
    assert (done["network"]["mode"], done["network"]["flag"], done["network"]["owner"]) == ("bridge", None, "task")
    assert done["plan"]["counts"] == {"link": {"create": 1}, "network": {"create": 1}}
    assert "  subnets: " in done["diff"]["after"] and "192.0.2.64/27, 192.0.2.96-192.0.2.99" in done["diff"]["after"]
    tasks.same("vlan_network", check=True, name="blue", driver="macvlan", parent="trunk.50", subnets=[
        {"subnet": "192.0.2.0/24", "iprange": "192.0.2.64/27,192.0.2.96-192.0.2.99", "aux_addresses": {"router2": "192.0.2.70"}}, *SIX
    ])  # fmt: skip
    tasks.becomes("vlan_network", name="blue", state="absent")
    assert links() == ["far", "trunk"]
    tasks.same("vlan_network", name="blue", state="absent")


def test_a_parent_that_existed_is_used_and_left_alone(tasks: Tasks) -> None:
    run("ip link add link trunk name storage type vlan id 50; ip link set storage up")
    before = link("storage")
    done = tasks.becomes("vlan_network", **{**BLUE, "parent": "storage"})
    assert done["plan"]["counts"] == {"network": {"create": 1}} and done["parent"] == "storage"
    tasks.becomes("vlan_network", name="blue", state="absent")
    assert link("storage") == before


@pytest.mark.parametrize(("driver", "prefix"), [("macvlan", "dm-"), ("ipvlan", "di-")])
def test_without_a_parent_a_dummy(tasks: Tasks, driver: str, prefix: str) -> None:
    done = tasks.becomes("vlan_network", name="inside", driver=driver, internal=True)
    assert done["parent"].startswith(prefix) and link(done["parent"])["linkinfo"]["info_kind"] == "dummy"
    (subnet,) = done["network"]["subnets"]
    assert subnet["subnet"] == "172.17.0.0/16" and subnet["gateway"] is None
    tasks.becomes("vlan_network", name="inside", state="absent")
    assert links() == ["far", "trunk"]


@pytest.mark.parametrize(("mode", "flag"), [("l2", "bridge"), ("l3", "private"), ("l3s", "vepa")])
def test_ipvlan_and_its_modes_in_place(tasks: Tasks, mode: str, flag: str) -> None:
    red: Dict[str, Any] = {
        "name": "red",
        "driver": "ipvlan",
        "parent": "trunk",
        "subnets": [{"subnet": "198.51.100.0/24"}],
    }
    tasks.ok("vlan_network", **red)
    tasks.ok("vlan_endpoint", network="red", name="one", netns="one")
    index = link("eth0", "one")["ifindex"]
    tasks.ok("vlan_network", **red, mode=mode, flag=flag)
    assert data("eth0", "one")["mode"] == mode and flag in data("eth0", "one").get("flags", data("eth0", "one"))
    assert link("eth0", "one")["ifindex"] == index
    tasks.same("vlan_network", **red, mode=mode, flag=flag)


def test_the_other_driver_under_living_endpoints_only_with_recreate(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    first = tasks.ok("vlan_endpoint", network="blue", name="one", netns="one")["addresses"]
    other = {**BLUE, "driver": "ipvlan"}
    tasks.refuses(
        "vlan_network",
        r"^driver: is macvlan and cannot become ipvlan under the endpoints one; set recreate: true",
        **other,
    )
    tasks.becomes("vlan_network", **other, recreate=True)
    assert link("eth0", "one")["linkinfo"]["info_kind"] == "ipvlan"
    found = [
        f"{row['local']}/{row['prefixlen']}" for row in ip("addr", "show", "dev", "eth0", netns="one")[0]["addr_info"]
    ]
    assert first[0] in found


def test_mtu_of_the_network_is_that_of_its_sub_interface_and_of_its_endpoints(tasks: Tasks) -> None:
    tasks.becomes("vlan_network", **BLUE, mtu=1400)
    tasks.ok("vlan_endpoint", network="blue", name="one", netns="one")
    assert link("trunk.50")["mtu"] == link("eth0", "one")["mtu"] == 1400
    tasks.becomes("vlan_network", **BLUE, mtu=1300)
    assert link("trunk.50")["mtu"] == link("eth0", "one")["mtu"] == 1300


def test_the_host_reaches_the_endpoints_where_it_is_asked_for(tasks: Tasks) -> None:
    done = tasks.becomes("vlan_network", **BLUE, host_access=True)
    assert done["addresses"] == ["192.0.2.2/32"] and link(done["interface"])["link"] == "trunk.50"
    endpoint = tasks.becomes("vlan_endpoint", network="blue", name="one", netns="one")
    address = endpoint["addresses"][0].partition("/")[0]
    assert run(f"ping -c 1 -W 5 {address} >/dev/null && echo yes").strip() == "yes"
    tasks.becomes("vlan_network", **BLUE)
    assert done["interface"] not in links()


def test_host_bits_are_taken_off_and_said(tasks: Tasks) -> None:
    done = tasks.becomes(
        "vlan_network", **{**BLUE, "subnets": [{"subnet": "172.16.50.0/22", "gateway": "172.16.50.1"}]}
    )
    assert done["network"]["subnets"][0]["subnet"] == "172.16.48.0/22"
    assert "subnets[0].subnet: 172.16.50.0/22 has host bits set; using 172.16.48.0/22" in warnings(done)


def test_what_a_stranger_put_on_our_sub_interface_keeps_it(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    run("ip address add 10.9.9.1/24 dev trunk.50")
    done = tasks.ok("vlan_network", name="blue", state="absent")
    assert "trunk.50" in links()
    assert any(
        "trunk.50 stays, although nothing of ours needs it any more: it has the address 10.9.9.1/24" in text
        for text in warnings(done)
    )


def test_a_strangers_name_for_a_link_never_commands_the_terminal(tasks: Tasks) -> None:
    name = "m\x1b[2J\x9b"
    run(f"ip link add link trunk name '{name}' type vlan id 50")
    assert "m\\x1b[2J\\x9b" in tasks.run("vlan_network", BLUE).data["msg"]  # iproute2 itself writes no JSON of it
    run(f"ip link del '{name}'")
    tasks.ok("vlan_network", **BLUE)
    run(f"ip link add link trunk.50 name '{name}' type macvlan")
    text = "\n".join(warnings(tasks.ok("vlan_network", name="blue", state="absent")))
    assert "m\\x1b[2J\\x9b" in text and text.replace("\n", "").isprintable()
