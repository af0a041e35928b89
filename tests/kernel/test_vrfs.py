# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VRFs that users put around links of ours, in a workload and on the host: ours stay in them, and nothing of theirs is undone."""

from __future__ import annotations

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, ip, link, run
from tests.support.traffic import addresses, default, reachable, reaches

pytestmark = pytest.mark.usefixtures("trunk")

ROUTED = "203.0.113.1"  # of the router, behind the gateway


def repair(engine: Engine) -> None:
    assert restore.restore(transact.RunOptions(engine.state_dir, who="a test")).left == []


@pytest.mark.every_kernel
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_vrf_around_the_link_of_an_endpoint_stays(engine: Engine, driver: str) -> None:
    run(f"""
        ip netns add router; ip link set far netns router; ip -n router link set far up; ip -n router link set lo up
        ip -n router link add link far name far.10 type vlan id 10; ip -n router link set far.10 up
        ip -n router addr add 192.0.2.254/24 dev far.10; ip -n router addr add {ROUTED}/32 dev lo
    """)
    six = [{"subnet": "2001:db8::/64", "gateway": "none"}] if HAS_IPV6 else []
    engine.network(driver=driver, subnets=[{"subnet": "192.0.2.0/24", "gateway": "192.0.2.254"}, *six])
    own = engine.endpoint("one")["addresses"]
    run("""
        ip -n one link add blue type vrf table 77; ip -n one link set blue up; ip -n one link set eth0 master blue
    """)
    # The kernel takes the link down for that, and with it the IPv6 addresses and all routes over it.
    assert not default("one")
    repair(engine)
    assert link("eth0", "one")["master"] == "blue" and addresses("eth0", "one") == own
    assert reachable("ip netns exec one ip vrf exec blue", "192.0.2.254")
    assert reachable("ip netns exec one ip vrf exec blue", ROUTED), "by the main table, where the VRF's has no way"
    run("ip -n one route add unreachable default metric 4278198272 vrf blue")
    assert not reaches("ip netns exec one ip vrf exec blue", ROUTED)
    engine.same("one")
    there = [{"prefix": f"{ROUTED}/32", "via": "192.0.2.254", "table": 77}]
    engine.endpoint("one", mtu=1400, routes=there, default_route={"ipv4": "never"})
    assert reachable("ip netns exec one ip vrf exec blue", ROUTED) and not default("one")
    assert ip("route", "show", f"{ROUTED}/32", "vrf", "blue", netns="one")[0]["protocol"] == "201"
    repair(engine)
    assert (link("eth0", "one")["master"], link("eth0", "one")["mtu"]) == ("blue", 1400)
    engine.absent("one")
    assert link("blue", "one")["linkinfo"]["info_kind"] == "vrf", "with it the namespace stays"


def test_a_vrf_around_a_sub_interface_stays(engine: Engine) -> None:
    options = {"parent": "trunk", "vlan_id": 10, "addresses": ["192.0.2.9/24"]}
    engine.task("vlan", **options)
    run("ip link add blue type vrf table 77; ip link set blue up; ip link set trunk.10 master blue")
    engine.network(driver="ipvlan", mode="l3", subnet="10.1.0.0/24")
    engine.endpoint("one")
    for check in (True, False):
        assert engine.task("vlan", check=check, **options).changes == []
    run("ip addr del 192.0.2.9/24 dev trunk.10")
    repair(engine)
    engine.task("vlan", **{**options, "mtu": 1400})
    assert (link("trunk.10")["master"], link("trunk.10")["mtu"]) == ("blue", 1400)
    assert ip("route", "show", "vrf", "blue")[0]["dst"] == "192.0.2.0/24"
