# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints that are trunks: a link for each VLAN of a list, and no way to any other VLAN."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, data, ip, link, links, run
from tests.support.traffic import Capture, addresses, reachable, reaches
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("trunk")

NEIGHBOUR, ROUTER = "ip netns exec neighbour", "ip netns exec fw"


@pytest.fixture
def neighbour(trunk: str) -> None:
    """A host in the VLANs 10 and 99 at the other end of the trunk."""
    run("""
        ip netns add neighbour; ip link set far netns neighbour; ip -n neighbour link set far up
        for v in 10 99; do
            ip -n neighbour link add link far name far.$v type vlan id $v
            ip -n neighbour link set far.$v up
            ip -n neighbour addr add 10.0.$v.200/24 dev far.$v
        done
    """)


def trunk_of(engine: Engine, vlans: List[Any], **options: Any) -> Dict[str, Any]:
    return engine.endpoint("fw", network="all", vlans=vlans, **options)


def all_vlans(engine: Engine, **options: Any) -> None:
    engine.network("all", parent="trunk", **options)


def repaired(engine: Engine) -> List[str]:
    done = restore.restore(transact.RunOptions(engine.state_dir, who="a test"))
    assert done.left == []
    return sorted(change.key for change in done.done)


def undone(engine: Engine) -> None:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir, who="a test")
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)


def indexes(*names: str) -> List[int]:
    return [link(name, "fw")["ifindex"] for name in names] + [link(f"trunk.{name[5:]}")["ifindex"] for name in names]


@pytest.mark.every_kernel
def test_frames_of_the_list_arrive_and_those_of_other_vlans_never(
    engine: Engine, neighbour: None, tmp_path: Path
) -> None:
    all_vlans(engine)
    trunk_of(engine, [10, "20-21"])
    assert links("fw") == ["eth0.10", "eth0.20", "eth0.21"]
    run("""
        ip -n fw addr add 10.0.10.1/24 dev eth0.10
        ip -n fw link add link eth0.10 name eth0.99 type vlan id 99; ip -n fw link set eth0.99 up
        ip -n fw addr add 10.0.99.1/24 dev eth0.99
        ip netns add bare; ip link add bare link trunk netns bare type macvlan mode bridge; ip -n bare link set bare up
        ip -n bare link add link bare name bare.99 type vlan id 99; ip -n bare link set bare.99 up
        ip -n bare addr add 10.0.99.2/24 dev bare.99
    """)
    inside = Capture(tmp_path / "inside", "any", "arp or icmp", netns="fw")
    wire = Capture(tmp_path / "wire", "trunk", "vlan 99 and arp")
    bare = Capture(tmp_path / "bare", "any", "arp or icmp", netns="bare")
    assert reachable(NEIGHBOUR, "10.0.10.1") and reachable(ROUTER, "10.0.10.200")
    # Without a sub-interface of the host in between, a workload's own takes any VLAN.
    assert reachable(NEIGHBOUR, "10.0.99.2")
    assert not reaches(NEIGHBOUR, "10.0.99.1") and not reaches(ROUTER, "10.0.99.200")
    assert until(lambda: wire.count("who-has 10.0.99.1") and bare.count("who-has 10.0.99.1"))
    assert until(lambda: inside.count("eth0.10", "10.0.10.200"))
    assert not any("10.0.99." in line for line in inside.lines() if " Out " not in line)


@pytest.mark.every_kernel
def test_a_changed_list_leaves_the_other_vlans_alone(engine: Engine) -> None:
    all_vlans(engine)
    outcome = engine.task("endpoint", check=True, network="all", name="fw", netns="fw", vlans=["10-11"])
    planned = [(change.kind, change.key, change.verb) for change in outcome.changes]
    trunk_of(engine, [11, 10])
    done = Registry(engine.state_dir).transactions()[0].changes
    assert [(change.kind, change.key, change.verb) for change in done] == planned
    engine.same("fw", network="all", vlans=["10", 11])
    kept = indexes("eth0.11")
    run("ip -n fw addr add 10.0.11.1/24 dev eth0.11")
    trunk_of(engine, [11, 30])
    assert (links("fw"), indexes("eth0.11")) == (["eth0.11", "eth0.30"], kept)
    assert "trunk.10" not in links() and addresses("eth0.11", "fw") == ["10.0.11.1/24"]
    undone(engine)
    assert (sorted(links("fw")), indexes("eth0.11")) == (["eth0.10", "eth0.11"], kept)
    assert "trunk.30" not in links() and addresses("eth0.11", "fw") == ["10.0.11.1/24"]
    run("ip -n fw addr del 10.0.11.1/24 dev eth0.11")
    engine.absent("fw", network="all")
    assert links() == ["far", "trunk"] and ip("netns", "list") == []
    assert list(engine.records("link")) == []


def test_a_plain_endpoint_becomes_a_trunk_and_back(engine: Engine) -> None:
    all_vlans(engine)
    mac = engine.endpoint("fw", network="all")["mac"]
    assert trunk_of(engine, [10])["addresses"] == []
    assert (links("fw"), link("eth0.10", "fw")["address"]) == (["eth0.10"], mac)
    engine.endpoint("fw", network="all")
    assert (links("fw"), addresses("eth0", "fw"), links()) == (
        ["eth0"],
        ["192.0.2.1/24"],
        ["far", "trunk"],
    )


def test_drift_is_repaired_and_a_boot_restored(engine: Engine) -> None:
    all_vlans(engine, mode="private")
    trunk_of(engine, [10, 20], interface="wan")
    run("ip -n fw addr add 10.0.20.1/24 dev wan.20")
    assert repaired(engine) == []  # the addresses are the workload's own business
    run("ip link del trunk.10")
    assert repaired(engine) == ["netns:fw/wan.10", "trunk.10"]
    assert data("wan.10", "fw")["mode"] == "private" and addresses("wan.20", "fw") == ["10.0.20.1/24"]
    run("ip -n fw link del wan.20")
    assert repaired(engine) == ["netns:fw/wan.20"]
    run("ip netns del fw; ip link del trunk.10; ip link del trunk.20")
    assert len(repaired(engine)) == 5
    assert links("fw") == ["wan.10", "wan.20"]
    engine.same("fw", network="all", vlans=[10, 20], interface="wan")


def test_the_host_has_no_part_in_the_vlans_of_a_trunk(engine: Engine, neighbour: None) -> None:
    all_vlans(engine)
    trunk_of(engine, [10])
    run("ip -n neighbour addr add 192.0.2.200/24 dev far.10; ip addr add 192.0.2.9/32 dev lo")
    assert not addresses("trunk.10", None) and not reaches(NEIGHBOUR, "192.0.2.9")  # type: ignore[arg-type]
    if HAS_IPV6:
        local = "ip -n fw -6 -o addr show dev eth0.10 scope link"
        assert until(lambda: run(local)) and not run("ip -6 -o addr show dev trunk.10")


def test_sub_interfaces_of_others_are_used_and_left(engine: Engine, neighbour: None) -> None:
    run("ip link add link trunk name lan10 type vlan id 10; ip link set lan10 up; ip addr add 10.0.10.9/24 dev lan10")
    before = link("lan10")
    all_vlans(engine)
    trunk_of(engine, [10])
    run("ip -n fw addr add 10.0.10.1/24 dev eth0.10")
    assert reachable(NEIGHBOUR, "10.0.10.1") and reachable(NEIGHBOUR, "10.0.10.9")
    run("ip -n fw addr flush dev eth0.10")
    engine.absent("fw", network="all")
    assert link("lan10") == before and addresses("lan10", None) == ["10.0.10.9/24"]  # type: ignore[arg-type]


def test_a_vlan_is_shared_where_both_networks_say_so(engine: Engine) -> None:
    engine.network(subnet="10.0.10.0/24")  # trunk.10
    all_vlans(engine)
    with pytest.raises(InputError, match=r"vlans: trunk\.10 is the parent of blue already.*share_parent: true"):
        trunk_of(engine, [10])
    engine.network(subnet="10.0.10.0/24", share_parent=True)
    all_vlans(engine, share_parent=True)
    trunk_of(engine, [10, 20])
    run("ip -n fw addr add 10.0.10.254/24 dev eth0.10")
    engine.endpoint("one")
    assert reachable("ip netns exec one", "10.0.10.254")
    with pytest.raises(InputError, match=r"trunk\.20 is the parent of all already"):
        engine.network("green", parent="trunk.20", subnet="10.0.20.0/24")
    with pytest.raises(InputError, match=r"trunk\.20 carries all \(macvlan\)"):
        engine.network("green", parent="trunk.20", driver="ipvlan", subnet="10.0.20.0/24", share_parent=True)
    engine.absent("one")
    engine.task("network", "absent", name="blue")
    assert links() == ["far", "trunk", "trunk.10", "trunk.20"]


def test_a_declared_sub_interface_stays_while_a_trunk_is_on_it(engine: Engine) -> None:
    engine.task("vlan", parent="trunk", vlan_id=10, name="lan")
    all_vlans(engine)
    trunk_of(engine, [10])
    assert "trunk.10" not in links()
    with pytest.raises(InputError, match=r"lan carries the endpoints fw; take the VLAN out of their vlans first"):
        engine.task("vlan", "absent", name="lan")
    engine.absent("fw", network="all")
    assert "lan" in links()
    engine.task("vlan", "absent", name="lan")


def test_a_whole_map_with_a_trunk(engine: Engine) -> None:
    rows: Dict[str, Any] = {
        "links": [{"parent": "trunk", "vlan_id": 20, "mtu": 1400}],
        "networks": [{"name": "all", "driver": "macvlan", "parent": "trunk", "enable_ipv4": True}],
        "endpoints": [{"network": "all", "name": "fw", "netns": "fw", "vlans": ["10", "20"]}],
    }
    engine.map(**rows)
    assert [link(name, "fw")["mtu"] for name in ("eth0.10", "eth0.20")] == [1500, 1400]
    assert engine.map(**rows).changes == []
    engine.map(purge=True)
    assert links() == ["far", "trunk"]


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("ip link add link trunk name trunk.10 type vlan id 77", r"trunk\.10 exists and is not VLAN 10 of trunk"),
        (
            "ip netns add o; ip link add link trunk name x netns o type vlan id 10",
            r"VLAN 10 of trunk is that of x in netns:o",
        ),
        (
            "ip link add link trunk name lan type vlan id 10; ip link add i link lan type ipvlan",
            r"lan carries i in the host \(ipvlan\)",
        ),
        (
            "ip link add link trunk name lan type vlan id 10; ip link add br0 type bridge; ip link set lan master br0",
            r"lan belongs to bridge br0",
        ),
    ],
)
def test_a_vlan_that_cannot_be_had_is_refused(engine: Engine, before: str, message: str) -> None:
    run(before)
    all_vlans(engine)
    with pytest.raises(InputError, match=r"vlans: " + message):
        trunk_of(engine, [10, 20])
    assert "trunk.20" not in links()


def test_a_trunk_follows_its_network_and_its_workload(engine: Engine) -> None:
    run("ip netns add fw; ip link add nic type veth peer name end; ip link set nic up; ip link set end up")
    all_vlans(engine)
    trunk_of(engine, [10, 20])
    before = indexes("eth0.10", "eth0.20")
    all_vlans(engine, mode="vepa")
    assert indexes("eth0.10", "eth0.20") == before and data("eth0.20", "fw")["mode"] == "vepa"
    engine.network("all", parent="nic", recreate=True)
    assert links("fw") == ["eth0.10", "eth0.20"] and "trunk.10" not in links()
    held = subprocess.Popen(["ip", "netns", "exec", "fw", "sleep", "60"])
    try:
        old = f"nsenter --net=/proc/{held.pid}/ns/net ip -br link"
        assert until(lambda: "eth0.20" in run(old))
        run("ip netns del fw; ip netns add fw")
        trunk_of(engine, [10, 20])
        assert links("fw") == ["eth0.10", "eth0.20"] and "eth0" not in run(old)
    finally:
        held.kill()
        held.wait()
    engine.same("fw", network="all", vlans=[10, 20])


def test_a_trunk_too_small_for_ipv6(engine: Engine) -> None:
    all_vlans(engine, mtu=1000)
    trunk_of(engine, [10])
    engine.same("fw", network="all", vlans=[10])
    assert link("eth0.10", "fw")["mtu"] == 1000 and repaired(engine) == []


def test_verify_tells_the_vlans_in_which_somebody_is_heard(engine: Engine, neighbour: None) -> None:
    rows = {
        "networks": [{"name": "all", "driver": "macvlan", "parent": "trunk", "subnets": [{"subnet": "192.0.2.0/24", "gateway": "none"}]}],
        "endpoints": [{"network": "all", "name": "fw", "netns": "fw", "vlans": [10, "20-21"]}],
    }  # fmt: skip
    engine.map(**rows)
    speaking = subprocess.Popen([*NEIGHBOUR.split(), "ping", "-q", "10.0.10.77"], stdout=subprocess.DEVNULL)
    try:
        assert engine.verify(**rows) == ([], ["all/fw, VLAN 20-21"])
    finally:
        speaking.kill()
        speaking.wait()


def tags(path: str, seconds: float = 3.0) -> Set[int]:
    """The VLANs of the frames that a guest on a tap hears; 0 for those without a tag."""
    found: Set[int] = set()
    tap = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        end = time.monotonic() + seconds
        while select.select([tap], [], [], max(0, end - time.monotonic()))[0]:
            frame = os.read(tap, 4096)[10:]  # after a struct virtio_net_hdr
            tagged = frame[12:14] == b"\x81\x00"
            found.add(int.from_bytes(frame[14:16], "big") & 0x0FFF if tagged else 0)
    finally:
        os.close(tap)
    return found


@pytest.mark.every_kernel
@pytest.mark.parametrize("mode", ["bridge", "passthru"])
def test_a_tap_on_a_nic_hears_all_vlans_but_those_of_the_host(engine: Engine, neighbour: None, mode: str) -> None:
    """Why no tap is a trunk: a list at the tap would not keep a VLAN from being taken by a network of the host."""
    all_vlans(engine, mode=mode)
    engine.endpoint("vm", "all", kind="tap")
    speaking = [
        subprocess.Popen([*NEIGHBOUR.split(), "ping", "-q", f"10.0.{vlan}.77"], stdout=subprocess.DEVNULL)
        for vlan in (10, 99)
    ]
    try:
        assert {10, 99} <= tags("/dev/netops-underlay/all/vm")
        run("ip link add link trunk name by-hand type vlan id 10; ip link set by-hand up")
        assert {10, 99} & tags("/dev/netops-underlay/all/vm") == {99}
    finally:
        for one in speaking:
            one.kill()
            one.wait()
        engine.absent("vm", "all")


@pytest.mark.every_kernel
def test_a_filter_at_a_passthru_link_is_its_workloads_to_lift(neighbour: None) -> None:
    """Why no passthru link is a trunk: it has the VLANs of the whole NIC, and what would hold it to a list is in its namespace."""
    run("""
        ip netns add fw; ip link add eth0 link trunk netns fw type macvlan mode passthru; ip -n fw link set eth0 up
        ip -n fw link add link eth0 name eth0.99 type vlan id 99; ip -n fw link set eth0.99 up
        ip -n fw addr add 10.0.99.1/24 dev eth0.99
    """)
    assert reachable(ROUTER, "10.0.99.200")
    run("""
        tc -n fw qdisc add dev eth0 clsact
        tc -n fw filter add dev eth0 ingress protocol 802.1Q flower vlan_id 99 action drop
    """)
    assert not reaches(ROUTER, "10.0.99.200")
    run(f"{ROUTER} setpriv --bounding-set -all,+net_admin --inh-caps -all,+net_admin tc qdisc del dev eth0 clsact")
    assert reachable(ROUTER, "10.0.99.200")
