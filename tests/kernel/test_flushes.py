# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody flushes, takes down or replaces in a workload: check mode says it, drift says it, a run and the service repair it."""

from __future__ import annotations

from typing import Any, Dict, List, Set

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.host_picture import differences, picture
from tests.support.network_host import HAS_IPV6, data, run
from tests.support.traffic import default, reachable

pytestmark = pytest.mark.usefixtures("trunk")

DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]
ALONE = [{"subnet": "198.51.100.0/24", "gateway": "none"}]
MAP: Dict[str, Any] = {
    "links": [{"parent": "trunk", "vlan_id": 30, "addresses": ["10.30.0.1/24", "10.30.0.2/24"]}],
    "networks": [
        {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": DUAL, "source_routing": True},
        {"name": "red", "driver": "ipvlan", "parent": "trunk.20", "subnets": ALONE},
    ],
    "endpoints": [
        {"network": "blue", "name": "web", "netns": "web", "routes": [{"prefix": "10.8.0.0/16", "via": "192.0.2.1"}]},
        {"network": "red", "name": "back", "netns": "web", "ipv4_addresses": ["198.51.100.5", "198.51.100.6"]},
        {"network": "blue", "name": "peer", "netns": "peer"},
        {"network": "red", "name": "far", "netns": "far"},
    ],
}  # fmt: skip


#: What costs an address its connected route, and of which kinds the objects are that drifted then.
CONNECTED: Dict[str, Set[str]] = {
    "ip -n web route flush table main": {"address", "route"},
    "ip -n web route del 192.0.2.0/24 dev eth0 table main": {"address"},
    "ip -n web route del 198.51.100.0/24 dev eth1": {"address"},
    "ip -n far route flush table main": {"address"},
    "ip route del 10.30.0.0/24 dev trunk.30": {"address"},
}
if HAS_IPV6:
    CONNECTED["ip -n web -6 route flush table main"] = {"address", "route"}
    CONNECTED["ip -n web addr change 2001:db8::2/64 dev eth0 noprefixroute"] = {"address"}
#: Its kin.
OTHERS: Dict[str, Set[str]] = {
    "ip -n web route flush table 8021": {"route"},
    "ip -n web route flush cache; ip -n web neigh flush dev eth0": set(),
    "ip -n web rule flush; ip -n web rule add pref 32766 table main; ip -n web rule add pref 32767 table default": {
        "rule"
    },
    "ip -n web addr flush dev eth0 scope global": {"address", "route"},
    "ip -n web addr flush dev eth1": {"address"},
    "ip -n web link set eth0 down": {"link", "address", "route"} if HAS_IPV6 else {"link", "route"},
    "ip -n web link set eth0 down; ip -n web link set eth0 up": {"address", "route"} if HAS_IPV6 else {"route"},
}


def drift(engine: Engine) -> List[Change]:
    changes, left, _records = restore.drift(Registry(engine.state_dir))
    assert left == []
    shown = describe.host(engine.state_dir, ["drift"])["drift"]
    assert {row["object"] for row in shown} == {f"{change.kind} {change.key}" for change in changes}
    return changes


@pytest.mark.every_kernel
def test_connected_routes_come_back(engine: Engine) -> None:
    says_and_repairs(engine, CONNECTED)


def test_what_else_is_flushed_comes_back(engine: Engine) -> None:
    says_and_repairs(engine, OTHERS)


def says_and_repairs(engine: Engine, events: Dict[str, Set[str]]) -> None:
    """Drift names what each event took, a run does what check mode says, and the service heals it."""
    engine.map(**MAP)
    run("ip -n far route add 10.66.0.0/16 dev eth0 table 99")  # it would go with the last address of the link
    before = picture()
    for script, kinds in events.items():
        for heal in (False, True):
            run(script)
            found = drift(engine)
            assert {change.kind for change in found} == kinds, (script, found)
            if heal:
                assert restore.restore(transact.RunOptions(engine.state_dir)).left == [], script
            else:
                planned = engine.map(check=True, **MAP).changes
                assert engine.map(**MAP).changes == planned, script
                assert {(it.kind, it.key) for it in planned} == {(it.kind, it.key) for it in found}, script
            assert list(differences(before, picture())) == [], script
            assert drift(engine) == [] and engine.map(check=True, **MAP).changes == [], script
    assert reachable("ip netns exec web", "192.0.2.3") and reachable("ip netns exec far", "198.51.100.5")


def test_what_brings_its_own_connected_route_lacks_none(engine: Engine) -> None:
    """A link in a VRF, a static route in the place of the kernel's, and a link that is down."""
    engine.map(**MAP)
    run("ip -n web link add red type vrf table 7; ip -n web link set red up; ip -n web link set eth1 master red")
    run("ip -n far route replace 198.51.100.0/24 dev eth0 proto static")
    assert drift(engine) == [] and engine.map(check=True, **MAP).changes == []
    run("ip -n peer link set eth0 down")
    assert {change.kind for change in drift(engine)} <= {"link", "route", "address"}
    assert not [it for it in drift(engine) if it.kind == "address" and it.before]


def test_a_default_route_by_another_gateway_is_kept_and_a_heal_does_not_fight_it(engine: Engine) -> None:
    engine.map(**MAP)
    run("ip -n peer route replace default via 192.0.2.9")
    planned = engine.map(check=True, **MAP).changes
    assert engine.map(**MAP).changes == planned != []
    assert default("peer")["gateway"] == "192.0.2.9"
    assert drift(engine) == [] and engine.map(check=True, **MAP).changes == []
    run("ip -n peer route del default")
    engine.map(**MAP)
    assert default("peer")["gateway"] == "192.0.2.1"


@pytest.mark.every_kernel
def test_a_workload_with_cap_net_admin_changes_its_addresses_and_the_mode_of_its_parent(engine: Engine) -> None:
    engine.map(**MAP)
    before = picture()
    alone = "ip netns exec far setpriv --bounding-set -all,+net_admin --inh-caps -all,+net_admin"
    run(f"{alone} ip link set eth0 type ipvlan mode l3; {alone} ip addr add 198.51.100.77/24 dev eth0")
    assert data("eth1", "web")["mode"] == "l3"  # of another workload
    assert {change.key for change in drift(engine)} == {"netns:far/eth0", "netns:web/eth1"}
    run("ip -n far addr del 198.51.100.77/24 dev eth0")  # which nothing of ours asks for
    assert restore.restore(transact.RunOptions(engine.state_dir)).left == []
    assert list(differences(before, picture())) == []
