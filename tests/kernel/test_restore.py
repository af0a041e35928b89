# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undo of a finished transaction, restore from the registry, drift: on a real kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import (
    converge,
    findings,
    guard,
    restore,
    restore_plan,
    transact,
    undo,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import holds, statedir
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.engine_host import Armed
from tests.support.host_picture import picture, settled
from tests.support.network_host import link, links, nic, run
from tests.support.traffic import addresses, default, reachable
from tests.support.waiting import until

ONE = [{"subnet": "192.0.2.0/24", "gateway": "192.0.2.1"}]
TWO = [{"subnet": "198.51.100.0/24", "gateway": "198.51.100.1"}]
THREE = [{"subnet": "203.0.113.0/24", "gateway": "none"}]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    for name in ("nica", "nicb", "nicc"):
        nic(name)
    return Engine(str(tmp_path / "state"))


def rack(engine: Engine) -> None:
    """Three parents, with an endpoint on each; host access, routes and a name in hosts files."""
    engine.map(
        networks=[
            {"name": "one", "driver": "macvlan", "parent": "nica.10", "subnets": ONE, "host_access": True},
            {"name": "two", "driver": "ipvlan", "parent": "nicb.20", "subnets": TWO},
            {"name": "three", "driver": "macvlan", "parent": "nicc", "subnets": THREE},
        ],
        endpoints=[
            {"network": "one", "name": "web", "netns": "web", "aliases": ["www"]},
            {"network": "one", "name": "peer", "netns": "peer"},
            {"network": "two", "name": "web2", "netns": "web"},
            {"network": "three", "name": "db", "netns": "db"},
        ],
        links=[{"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]}],
        routes=[{"name": "up", "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]}],
    )


def wipe() -> None:
    """As a reboot leaves a host: no namespace, no link, NICs that are down."""
    run(
        "for n in $(ls /run/netns); do ip netns del $n; done; rm -rf /etc/netns; for n in nica nicb nicc; do ip link del $n || true; done"
    )


def boot(engine: Engine, missing: str = "") -> restore.Restored:
    wipe()
    for name in ("nica", "nicb", "nicc"):
        if name != missing:
            nic(name)
            run(f"ip link set {name} down")
    return repair(engine, boot=True)


def repair(engine: Engine, **how: Any) -> restore.Restored:
    return restore.restore(transact.RunOptions(engine.state_dir, who="a test"), restore.RestoreScope(**how))


def turn(engine: Engine, number: int) -> int:
    registry, run = Registry(engine.state_dir), transact.RunOptions(engine.state_dir, who="a test")
    with at_work(registry, run):
        return undo.undo(number, registry, run)[0]


# --- restore -------------------------------------------------------------------------------------


def test_everything_is_back_after_a_boot(engine: Engine) -> None:
    rack(engine)
    before = picture()
    found = boot(engine)
    assert (found.left, found.notes) == ([], [])
    assert picture() == before
    assert reachable("ip netns exec peer", "www") and reachable("", "192.0.2.2")
    settled(engine)
    assert repair(engine).done == []
    numbers = [transaction.number for transaction in Registry(engine.state_dir).transactions()]
    assert len(numbers) == 1, "a restore is no transaction of its own"


def test_an_mtu_that_was_changed_is_healed_and_a_dummy_keeps_its_mac(engine: Engine) -> None:
    """Of the links of a network without a parent, too, whose ipvlan endpoints have the MAC of the dummy."""
    rack(engine)
    engine.task("network", name="inner", driver="ipvlan", subnets=[{"subnet": "10.9.0.0/24"}])
    engine.endpoint("own", "inner")
    (dummy,) = [name for name in links() if name.startswith("di-")]
    before, mac = picture(), link(dummy)["address"]
    for name, space in ((dummy, ""), ("nica.10", ""), ("nicb.20", ""), ("eth0", "web"), ("eth0", "own")):
        inside = f"-n {space} " if space else ""
        run(f"ip {inside}link set {name} mtu 1300")
        assert f"{space and f'netns:{space}/'}{name}" in [change.key for change in repair(engine).done]
        assert picture() == before, name
    run(f"ip link del {dummy}")
    assert repair(engine).left == []
    assert link(dummy)["address"] == mac == link("eth0", "own")["address"]
    assert boot(engine).left == []
    assert link(dummy)["address"] == mac == link("eth0", "own")["address"]


def test_one_missing_parent_keeps_no_other_away(engine: Engine) -> None:
    rack(engine)
    before = picture()
    found = boot(engine, missing="nicb")
    assert {(left.kind, left.key): left.why for left in found.left if left.kind == "link"} == {
        ("link", "nicb.20"): "waits for nicb, which is not there",
        ("link", "netns:web/eth1"): "waits for nicb.20",
    }
    assert all(left.how == restore_plan.WAITS for left in found.left)
    assert {"nica.10", "nica.30"} <= set(links())
    assert links("web") == ["eth0"] and links("db") == ["eth0"]
    assert reachable("ip netns exec peer", "192.0.2.2")
    nic("nicb")
    assert repair(engine).left == []
    assert picture() == before


class Unfired:
    """A guard whose timer went with the power."""

    timeout = 3000.0

    def arm(self, number: int) -> None:
        pass

    def disarm(self, number: int) -> None:
        pass


def guarded(engine: Engine, **rows: Any) -> None:
    declared = model.declare_map({"name": "fabric", "links": [], "routes": [], "endpoints": [], **rows})
    converge.converge(declared, transact.RunOptions(engine.state_dir, guard=Unfired()))


def another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statedir, "boot", lambda: "the next boot")


def test_an_unconfirmed_removal_is_undone_by_the_boot(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.network("other", parent="nica.99", subnet="203.0.113.0/24")
    one = {"name": "one", "driver": "macvlan", "parent": "nica.10", "subnets": ONE}
    two = {"name": "two", "driver": "ipvlan", "parent": "nicb.20", "subnets": TWO}
    engine.map(networks=[one, two])
    run("ip link set nicc down")  # where nothing of ours is
    before = picture()
    guarded(engine, networks=[one], purge=True)
    assert "nicb.20" not in links()
    another_boot(monkeypatch)
    found = boot(engine)
    assert found.left == []
    assert picture() == before
    engine.map(networks=[one, two], purge=True)


@pytest.mark.parametrize("late", ["nica", "nicb"])
def test_an_unconfirmed_change_does_not_come_back_however_late_a_nic_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    one = {"name": "one", "driver": "macvlan", "parent": "nica.10", "subnets": ONE}
    engine.map(networks=[one])
    before = links()
    guarded(
        engine,
        networks=[one, {"name": "two", "driver": "macvlan", "parent": "nicb.20", "subnets": TWO}],
        links=[{"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]}],
        routes=[{"name": "up", "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]}],
    )
    assert {"nica.30", "nicb.20"} <= set(links())
    another_boot(monkeypatch)
    boot(engine, missing=late)
    assert not {"nica.30", "nicb.20"} & set(links())
    nic(late)
    assert repair(engine).left == []
    assert sorted(links()) == sorted(before)
    settled(engine)


def test_a_sub_interface_of_others_is_waited_for_and_never_made(engine: Engine) -> None:
    run("ip link add link nica name tenant type vlan id 7; ip link set tenant up")
    engine.network("blue", parent="tenant")
    engine.endpoint("one")
    found = boot(engine)
    assert "tenant" not in links()
    assert [left.why for left in found.left if left.kind == "link"] == ["waits for tenant, which is not there"]
    run("ip link set nica up; ip link add link nica name tenant type vlan id 7; ip link set tenant up")
    assert repair(engine).left == []
    assert addresses("eth0", "one") == ["192.0.2.1/24"]
    assert link("tenant").get("group", "default") == "default"


def test_what_is_no_longer_ours_is_reported_and_left_alone(engine: Engine) -> None:
    rack(engine)
    run("ip link del nica.10; ip link add link nica name nica.10 type vlan id 11; ip link set nica.10 up")
    before = link("nica.10")
    found = repair(engine)
    assert ("nica.10", "exists and does not have our mark: it is not touched") in [
        (left.key, left.why) for left in found.left
    ]
    assert ("netns:web/eth0", "waits for nica.10") in [(left.key, left.why) for left in found.left]
    assert link("nica.10") == before
    assert addresses("eth1", "web") == ["198.51.100.2/24"]


def test_an_ipvlan_of_others_is_never_switched(engine: Engine) -> None:
    engine.network("two", "ipvlan", parent="nicb", mode="l2", subnet="198.51.100.0/24")
    engine.endpoint("one", "two")
    run("ip -n one link del eth0; ip link add link nicb name foreign type ipvlan mode l3")
    found = repair(engine)
    assert [left.why for left in found.left if left.kind == "link"] == [
        "the kernel would switch foreign in the host, which is not ours, to l2"
    ]
    assert link("foreign")["linkinfo"]["info_data"]["mode"] == "l3"
    run("ip link del foreign")
    assert repair(engine).left == []


#: A NIC goes down, and with it the links on it, which the kernel looks after in its own time: up again before, it loses nothing.
FLAP = "ip link set nica down; until ip -br link show nica.30 | grep -q DOWN; do sleep 0.01; done; ip link set nica up"


def test_what_was_lost_or_changed_is_repaired_in_place(engine: Engine) -> None:
    rack(engine)
    before = picture()
    for damage in (
        "ip link del nica.10", "ip -n web link del eth1", "ip link set nica.10 down", "ip -n db addr flush dev eth0",
        "ip -n web route del default", "ip route del 10.99.0.0/16", "ip link set nica.30 type vlan gvrp on", "ip netns del web",
        "sysctl -qw net.ipv4.conf.nica/30.arp_ignore=0", FLAP, "rm /etc/netns/web/hosts",
    ):  # fmt: skip
        run(damage)
        # a NIC that came up is waited for until the kernel says that it has a carrier, which takes up to a second
        assert until(lambda: restore.drift(Registry(engine.state_dir))[0]), damage
        assert repair(engine).left == [], damage
        assert picture() == before, damage
        settled(engine)


def test_drift_in_words(engine: Engine) -> None:
    rack(engine)
    run("ip link set nica.30 type vlan gvrp on; ip link del nicb.20; ip -n db link set eth0 down")
    changes, left, _ = restore.drift(Registry(engine.state_dir))
    lines = findings.lines(changes, left)
    assert "link nica.30 gvrp is true, should be false" in lines
    assert "link nicb.20 is gone, with 2 objects on it" in lines
    assert "link netns:db/eth0 is down, should be up" in lines
    assert len(lines) == 3, lines


def test_a_nic_that_is_down_is_set_up_at_boot_only_and_not_where_that_is_not_allowed(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    engine.network("red", parent="nicb.10", subnet="198.51.100.0/24", bring_up_parent=False)
    found = boot(engine)
    assert [(left.key, left.why) for left in found.left] == [("nicb.10", "waits for nicb, which is down")]
    assert "UP" in link("nica")["flags"] and "UP" not in link("nicb")["flags"]
    run("ip link set nica down")
    assert [(left.key, left.why) for left in repair(engine).left] == [
        ("nica.10", "waits for nica, which is down"),
        ("nicb.10", "waits for nicb, which is down"),
    ]
    assert "UP" not in link("nica")["flags"]
    engine.network("green", parent="nica", subnet="203.0.113.0/24", share_parent=True)
    engine.endpoint("one", "green")  # a macvlan stays up where its parent goes down
    run("ip link set nica down")
    waiting = [(left.key, left.why) for left in repair(engine).left]
    assert ("nica.10", "waits for nica, which is down") in waiting and len(waiting) == 2
    engine.absent("one", "green")
    engine.task("network", "absent", name="blue")
    engine.endpoint("one", "green")
    assert ("nica", "is down, so nothing of ours on it reaches other hosts") in [
        (left.key, left.why) for left in restore.drift(Registry(engine.state_dir))[1]
    ]


def test_what_sits_on_a_sub_interface_of_a_nic_that_is_down_waits_too(engine: Engine) -> None:
    engine.task("vlan", parent="nica", vlan_id=10)
    engine.task("vlan", parent="nica.10", vlan_id=20)
    run("ip link set nica down")
    assert [(left.key, left.why, left.how) for left in repair(engine).left] == [
        ("nica.10", "waits for nica, which is down", restore_plan.WAITS),
        ("nica.10.20", "waits for nica.10", restore_plan.WAITS),
    ]
    run("ip link set nica up")
    assert repair(engine).left == []


def test_what_is_held_is_not_touched_and_what_sits_on_it_waits(engine: Engine) -> None:
    rack(engine)
    holds.hold(engine.state_dir, "nica.10", "cabling, eve")
    run("ip link del nica.10; ip link del nicb.20")
    found = repair(engine)
    why = {left.key: left.why for left in found.left}
    assert why["nica.10"] == "held: cabling, eve"
    assert why["netns:web/eth0"] == "waits for nica.10"
    assert "nica.10" not in links() and "nicb.20" in links()
    holds.release(engine.state_dir, "nica.10")
    assert repair(engine).left == []


def test_a_disk_that_is_full_or_read_only_keeps_no_network_down(engine: Engine) -> None:
    Path(engine.state_dir).mkdir(mode=0o700)
    run(f"mount -t tmpfs -o mode=700 none {engine.state_dir}")
    rack(engine)
    before = picture()
    run(f"mount -o remount,ro {engine.state_dir}")
    found = boot(engine)
    assert found.left == [] and "Read-only file system" in found.notes[0]
    assert picture() == before


def test_an_object_that_the_kernel_refuses_keeps_no_other_away(engine: Engine) -> None:
    rack(engine)
    run(
        "ip link del nica.10; ip link del nicb.20; ip link add taken type dummy; ip link property add dev taken altname nicb.20"
    )
    found = repair(engine)
    assert "nicb.20" in {left.key for left in found.left}
    assert links("web") == ["eth0"] and reachable("ip netns exec peer", "www")
    run("ip link del taken")
    assert repair(engine).left == []
    settled(engine)


# --- undo ----------------------------------------------------------------------------------------


def test_any_transaction_can_be_undone_and_that_one_again(engine: Engine) -> None:
    rack(engine)
    first = picture()
    number = engine.task(
        "network", name="four", driver="macvlan", parent="nicc.40", subnets=[{"subnet": "10.4.0.0/24"}]
    ).number
    second = picture()
    assert number == 2
    assert turn(engine, 2) == 3
    assert picture() == first
    settled(engine)
    assert turn(engine, 3) == 4
    assert picture() == second
    settled(engine)
    assert [t.state for t in Registry(engine.state_dir).transactions()] == ["applied", "undone", "undone", "applied"]
    with pytest.raises(InputError, match="transaction 2: is undone, nothing of it is left|transaction 2.*undone"):
        turn(engine, 2)


def test_a_whole_map_is_undone_and_redone(engine: Engine) -> None:
    clean = picture()
    rack(engine)
    whole = picture()
    turn(engine, 1)
    assert picture() == clean
    assert not any(Registry(engine.state_dir).load().values())
    turn(engine, 2)
    assert picture() == whole
    settled(engine)


def test_changes_and_removals_are_undone(engine: Engine) -> None:
    rack(engine)
    before = picture()
    changed = engine.task(
        "vlan", parent="nica", vlan_id=30, mtu=1400, addresses=["10.30.0.1/24", "10.30.0.7/24"], adopt=True
    )
    assert picture() != before
    turn(engine, changed.number or 0)
    assert picture() == before
    gone = engine.task("endpoint", "absent", adopt=True, network="one", name="web")
    assert default("web")["gateway"] == "198.51.100.1"
    turn(engine, gone.number or 0)
    assert picture() == before
    settled(engine)
    assert engine.map(networks=[]).changes == []


def test_later_ones_that_depend_on_it_are_named(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    engine.endpoint("one")
    engine.network("red", parent="nicb.10", subnet="198.51.100.0/24")
    engine.endpoint("two")
    with pytest.raises(InputError) as caught:
        turn(engine, 1)
    assert [(problem.path, problem.message, problem.fix) for problem in caught.value.problems] == [
        ("transaction 1", "endpoint blue/one, endpoint blue/two stand on what it made", "undo transaction 2, 4 first")
    ]
    turn(engine, 3)
    turn(engine, 2)
    turn(engine, 4)
    turn(engine, 1)
    assert not {"nica.10", "nicb.10"} & set(links())


def test_an_address_that_is_taken_meanwhile_is_not_given_twice(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    engine.endpoint("one")
    gone = engine.absent("one").number or 0
    engine.endpoint("two", ipv4_address="192.0.2.1")
    with pytest.raises(InputError, match=r"endpoint blue/one: 192.0.2.1 is held by blue/two"):
        turn(engine, gone)
    assert addresses("eth0", "two") == ["192.0.2.1/24"]


def test_nothing_of_others_goes_by_an_undo(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    run("ip link add link nica.10 name foreign type macvlan mode bridge")
    with pytest.raises(InputError, match=r"link nica.10: cannot be removed: foreign in the host uses it"):
        turn(engine, 1)
    assert {"nica.10", "foreign"} <= set(links())


def test_a_nic_that_was_set_up_stays_up(engine: Engine) -> None:
    run("ip link set nica down")
    engine.network("blue", parent="nica.10")
    turn(engine, 1)
    assert "UP" in link("nica")["flags"] and "nica.10" not in links()


@pytest.mark.parametrize("back", ["undo", "guard"])
def test_what_is_undone_of_a_renamed_link_is_recorded_by_its_name(engine: Engine, back: str) -> None:
    """The plan gives it its name again, so that its inverse knows the other one."""
    options = {"parent": "nica", "vlan_id": 30}
    engine.map(links=[options])
    run("ip link set nica.30 name moved")
    outcome = engine.map(guard=Armed() if back == "guard" else None, links=[{**options, "gvrp": True}])
    assert "nica.30" in links()
    if back == "guard":
        guard.expire(outcome.number or 0, Registry(engine.state_dir), transact.RunOptions(engine.state_dir))
    else:
        turn(engine, outcome.number or 0)
    assert engine.records("link")["nica.30"]["name"] == "nica.30"
    repair(engine)
    settled(engine)
