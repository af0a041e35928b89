# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links of every kind, with every option: made, changed in place, removed, and refused by name."""

from __future__ import annotations

import errno
import os
from typing import Any, Dict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import isolation
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import KernelRefused
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.apply import apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe

from tests.support.changes import GROUP, changed, do, missing, new_address, new_link, new_vlan
from tests.support.network_host import HAS_IPV6, data, link, links, needs_ipv6, run, sysctl

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]

KERNEL = tuple(int(number) for number in os.uname().release.split(".")[:2])
has_broadcast_limit = pytest.mark.skipif(KERNEL < (6, 4), reason="IFLA_MACVLAN_BC_CUTOFF came with 6.4")


# --- kinds and their options ---------------------------------------------------------------------


def test_vlan() -> None:
    change = new_vlan(
        50,
        mtu=1400,
        mac="02:00:00:00:00:50",
        gvrp=True,
        mvrp=True,
        loose_binding=True,
        reorder_headers=False,
        ingress_qos_map={"1": 6, "2": 5},
        egress_qos_map={"0": 3},
        altnames=["tenant-fifty-of-the-second-floor"],
    )
    observed = do(change)
    assert missing(observed, change) == []
    shown = link("trunk.50")
    assert (shown["link"], shown["mtu"], shown["address"], shown["group"]) == (
        "trunk",
        1400,
        "02:00:00:00:00:50",
        str(LINK_GROUP),
    )
    assert "UP" in shown["flags"] and shown["altnames"] == ["tenant-fifty-of-the-second-floor"]
    options = data("trunk.50")
    assert (options["protocol"], options["id"]) == ("802.1Q", 50)
    assert set(options["flags"]) == {"GVRP", "MVRP", "LOOSE_BINDING"}
    assert options["ingress_qos"] == [{"from": 1, "to": 6}, {"from": 2, "to": 5}]
    assert options["egress_qos"] == [{"from": 0, "to": 3}]


def test_vlan_with_defaults_has_those_of_iproute2() -> None:
    run("ip link add link trunk name theirs type vlan id 7")
    assert missing(do(new_vlan(6)), new_vlan(6)) == []
    ours, theirs = data("trunk.6"), data("theirs")
    assert {**ours, "id": 7} == theirs


def test_qinq_under_links_of_the_same_run() -> None:
    outer = [new_vlan(number, protocol="802.1ad") for number in range(100, 110)]
    inner = [new_vlan(number, "trunk.100") for number in range(1, 11)]
    innermost = new_vlan(5, "trunk.100.1", mtu=1400)
    observed = do(*outer, *inner, innermost)
    assert missing(observed, *outer, *inner, innermost) == []
    assert data("trunk.100")["protocol"] == "802.1ad"
    assert link("trunk.100.1.5")["link"] == "trunk.100.1"


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru", "source"])
def test_macvlan(mode: str) -> None:
    change = new_link("m0", "macvlan", mode=mode, bcqueuelen=2000, mac="02:00:00:00:00:01", mtu=1450)
    if mode == "passthru":
        del change.after["mac"]  # type: ignore[union-attr]
    assert missing(do(change), change) == []
    assert (data("m0")["mode"], data("m0")["bcqueuelen"]) == (mode, 2000)


@has_broadcast_limit
def test_macvlan_broadcast_limit() -> None:
    change = new_link("m0", "macvlan", mode="bridge", bclim=-1)
    assert missing(do(change), change) == []


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_ipvlan(mode: str, flag: str) -> None:
    change = new_link("i0", "ipvlan", mode=mode, flag=flag)
    assert missing(do(change), change) == []
    assert data("i0")["mode"] == mode
    assert flag in data("i0").get("flags", data("i0"))


def test_dummy_without_a_parent() -> None:
    change = new_link("d0", "dummy", None, mtu=9000)
    assert missing(do(change), change) == []


def test_a_shim_on_a_vlan_of_the_same_run() -> None:
    shim = new_link("shim", "macvlan", "trunk.9", mode="bridge", isolation="access")
    changes = (new_vlan(9), shim, new_address("shim", "192.0.2.1/32"))
    assert missing(do(*changes), *changes) == []


def test_down_stays_down() -> None:
    do(new_vlan(5, up=False))
    assert "UP" not in link("trunk.5")["flags"]


# --- isolation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(isolation.PROFILES))
@pytest.mark.parametrize("count", [1, 12])
def test_isolation(profile: str, count: int) -> None:
    changes = [new_vlan(number, isolation=profile) for number in range(1, count + 1)]
    observed = do(*changes)
    assert missing(observed, *changes) == []
    for number in (1, count):
        for name, value in isolation.settings(profile).items():
            family, _, key = name.partition(".")
            if value is not None and (family == "ipv4" or HAS_IPV6) and key != "addr_gen_mode":
                assert sysctl(f"{family}.conf.trunk|{number}.{key}") == value, name


@needs_ipv6
@pytest.mark.parametrize(("profile", "expected"), [("none", 0), ("routed", 0), ("access", 0), ("host", 1)])
@pytest.mark.parametrize("count", [1, 12])
def test_link_local_addresses(profile: str, expected: int, count: int) -> None:
    observed = do(*(new_vlan(number, isolation=profile) for number in range(1, count + 1)))
    for number in (1, count):
        assert len(observed.host.addresses.get(observed.host.names[f"trunk.{number}"].index, [])) == expected


@needs_ipv6
@pytest.mark.parametrize("old", sorted(isolation.PROFILES))
@pytest.mark.parametrize("new", sorted(isolation.PROFILES))
def test_isolation_changes_in_place(old: str, new: str) -> None:
    change = new_vlan(5, isolation=old)
    do(change)
    observed = do(changed(change, isolation=new))
    found = observed.find("link", change.after or {})
    assert found and found["isolation"] == new
    addresses = observed.host.addresses.get(observed.host.names["trunk.5"].index, [])
    assert len(addresses) == (1 if new == "host" else 0)
    if new == "host":
        assert sysctl("ipv4.conf.trunk|5.rp_filter") == sysctl("ipv4.conf.default.rp_filter")


def test_isolation_with_no_ipv6_on_a_small_mtu() -> None:
    changes = [new_vlan(number, mtu=1000) for number in range(1, 12)]
    observed = do(*changes)
    assert {row for row in missing(observed, *changes) if "isolation" not in row} == set()
    assert observed.host.names["trunk.1"].conf6 is None


def test_a_link_group_of_its_own_never_touches_others() -> None:
    run("ip link add other type dummy; ip link set other group 8021")
    do(*(new_vlan(number) for number in range(1, 20)))
    assert "UP" not in link("other")["flags"] and sysctl("ipv4.conf.other.arp_ignore") == 0
    assert all(observe(Need()).host.names[f"trunk.{n}"].group == LINK_GROUP for n in range(1, 20))


# --- changing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mtu", 1300), ("mac", "02:00:00:00:00:99"), ("up", False), ("group", 77),
        ("gvrp", True), ("mvrp", True), ("loose_binding", True), ("reorder_headers", False),
        ("ingress_qos_map", {"3": 4}), ("egress_qos_map", {"5": 6}),
        ("ingress_qos_map", {}), ("altnames", ["second", "third"]), ("altnames", []),
        ("sysctls", {"ipv4.arp_notify": 1, "ipv4.rp_filter": 2}),
    ],
)  # fmt: skip
def test_vlan_changes_in_place(option: str, value: Any) -> None:
    change = new_vlan(5, ingress_qos_map={"1": 2}, egress_qos_map={"1": 2, "0": 7}, altnames=["first", "second"])
    do(change)
    update = changed(change, **{option: value})
    found = do(update).find("link", change.after or {})
    assert found and found[option] == value
    assert missing(do(update.inverse()), change) == []


@pytest.mark.parametrize(
    ("kind", "options", "after"),
    [
        ("macvlan", {"mode": "bridge"}, {"mode": "private"}),
        ("macvlan", {"mode": "private"}, {"mode": "vepa", "bcqueuelen": 3000}),
        pytest.param("macvlan", {"mode": "bridge"}, {"bclim": 5}, marks=has_broadcast_limit),
        ("ipvlan", {"mode": "l2", "flag": "bridge"}, {"mode": "l3"}),
        ("ipvlan", {"mode": "l2", "flag": "bridge"}, {"mode": "l3s", "flag": "vepa"}),
    ],
)
def test_endpoint_kinds_change_in_place(kind: str, options: Dict[str, Any], after: Dict[str, Any]) -> None:
    change = new_link("x0", kind, **options)
    do(change)
    found = do(changed(change, **after)).find("link", change.after or {})
    assert found and {key: found[key] for key in after} == after


def test_a_new_name() -> None:
    change = new_vlan(5, up=False)
    do(change)
    before, after = {"netns": "", "name": "trunk.5"}, {"netns": "", "name": "blue"}
    observed = do(changed(change)._replace(before=before, after=after))
    assert "blue" in observed.host.names and "trunk.5" not in observed.host.names


@pytest.mark.parametrize("option", ["vlan_id", "protocol", "parent", "kind"])
def test_what_no_kernel_changes_is_refused(option: str) -> None:
    change = new_vlan(5)
    do(change)
    with pytest.raises(KernelRefused, match=f"{option} of trunk.5 cannot be changed in place"):
        do(changed(change, **{option: 6}))


def test_what_is_so_already_is_no_change() -> None:
    """The registry may only have to follow the kernel."""
    change = new_vlan(5)
    do(change)
    identity = {"netns": "", "name": "trunk.5"}
    update = changed(change)._replace(before=identity, after={**identity, "vlan_id": 5, "parent": "trunk", "mtu": 1500})
    assert missing(do(update), change) == []


def test_sysctls_of_a_new_link() -> None:
    wanted = {
        "ipv4.arp_notify": 1,
        **({"ipv6.ndisc_notify": 1, "ipv6.accept_ra": 0} if HAS_IPV6 else {}),
    }
    change = new_vlan(5, isolation=None, sysctls=wanted)
    assert missing(do(change), change) == []
    assert sysctl("ipv4.conf.trunk|5.arp_notify") == 1


# --- removing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 30])
def test_removal_takes_what_was_made_and_nothing_else(count: int) -> None:
    run(
        "ip link add other type dummy; ip link set other group 8021;ip link add link trunk name theirs type vlan id 999"
    )
    changes = [new_vlan(number) for number in range(1, count + 1)]
    do(*changes)
    do(*(change.inverse() for change in changes))
    assert sorted(links()) == ["far", "other", "theirs", "trunk"]
    do(*(change.inverse() for change in changes))  # they are gone already: nothing to do
    assert sorted(links()) == ["far", "other", "theirs", "trunk"]


def test_removal_of_what_vanishes_meanwhile() -> None:
    changes = [new_vlan(number) for number in range(1, 21)]
    do(*changes)
    observed = observe(Need())
    run("ip link del trunk.3; ip link del trunk.20")
    apply([change.inverse() for change in changes], observed, GROUP)
    assert sorted(links()) == ["far", "trunk"]


def test_removal_of_everything_that_was_there() -> None:
    run("ip link add other type dummy")
    changes = [new_vlan(number) for number in range(1, 21)]
    do(*changes)
    observed = observe(Need())
    run("ip link del trunk")
    apply([change.inverse() for change in changes], observed, GROUP)
    assert links() == ["other"]


def test_qinq_is_removed_at_once() -> None:
    outer, inner = (
        [new_vlan(n) for n in range(1, 11)],
        [new_vlan(n, "trunk.1", mtu=1400) for n in range(1, 11)],
    )
    do(*outer, *inner)
    do(*(change.inverse() for change in [*inner, *outer]))
    assert sorted(links()) == ["far", "trunk"]


def test_another_link_of_the_name_is_not_removed() -> None:
    run("ip link add trunk.5 type dummy")
    do(new_vlan(5).inverse())
    assert "trunk.5" in links()
    run(f"ip link set trunk.5 group {LINK_GROUP}")  # a mark that somebody else gave it
    with pytest.raises(KernelRefused, match="is a dummy now"):
        do(new_vlan(5).inverse())
    run("ip link del trunk.5; ip link add link trunk name trunk.5 type vlan id 5")
    do(new_vlan(5).inverse())
    assert "trunk.5" in links()


def test_remade_in_one_run() -> None:
    old, new = new_vlan(5), new_vlan(5, protocol="802.1ad")
    do(old)
    child = new_link("shim", "macvlan", "trunk.5", mode="bridge", isolation="access")
    observed = do(old.inverse(), new, child, new_address("shim", "192.0.2.1/32"))
    assert missing(observed, new, child) == []


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 40])
@pytest.mark.parametrize(
    "taken",
    [
        "ip link add trunk.3 type dummy",
        "ip link add x type dummy; ip link property add dev x altname trunk.3",
    ],
)
def test_a_name_that_is_taken(count: int, taken: str) -> None:
    run(taken)
    with pytest.raises(KernelRefused) as caught:
        do(*(new_vlan(number) for number in range(1, count + 1)))
    assert caught.value.change.key == "trunk.3" and caught.value.errno == errno.EEXIST
    assert "trunk.3 is taken" in caught.value.text


def test_a_vlan_that_is_there_under_another_name() -> None:
    run("ip link add link trunk name theirs type vlan id 5")
    with pytest.raises(KernelRefused, match="VLAN 5 of trunk is there already"):
        do(new_vlan(5))


def test_a_base_that_is_down_names_the_item() -> None:
    run("ip link add low type dummy")
    changes = [
        *(new_vlan(n) for n in range(1, 11)),
        new_vlan(7, "low"),
        *(new_vlan(n) for n in range(11, 21)),
    ]
    with pytest.raises(KernelRefused) as caught:
        do(*changes)
    assert caught.value.change.key == "low.7" and caught.value.errno == errno.ENETDOWN
    assert "its base is down" in caught.value.text


def test_macvlan_and_ipvlan_on_one_parent() -> None:
    do(new_link("m0", "macvlan", mode="bridge"))
    with pytest.raises(KernelRefused, match="macvlan and ipvlan cannot share a parent"):
        do(new_link("i0", "ipvlan", mode="l2"))


def test_a_bridge_port() -> None:
    run("ip link add br0 type bridge; ip link set trunk master br0")
    with pytest.raises(KernelRefused, match="belongs to a bridge or bond"):
        do(new_link("m0", "macvlan", mode="bridge"))


def test_a_second_passthru() -> None:
    do(new_link("m0", "macvlan", mode="passthru"))
    with pytest.raises(KernelRefused, match="passthru does not share its parent"):
        do(new_link("m1", "macvlan", mode="bridge"))


def test_more_than_the_parents_mtu() -> None:
    with pytest.raises(KernelRefused, match="MTU"):
        do(new_vlan(5, mtu=9000))
    change = new_vlan(6)
    do(change)
    with pytest.raises(KernelRefused, match="9000 is more than the parent's MTU"):
        do(changed(change, mtu=9000))


def test_a_parent_that_is_not_there() -> None:
    with pytest.raises(KernelRefused, match="there is no link nowhere"):
        do(new_vlan(5, "nowhere"))


def test_a_kind_that_the_kernel_does_not_know() -> None:
    with pytest.raises(KernelRefused, match="has no frobnicate driver"):
        do(new_link("x", "frobnicate"))


def test_a_mac_in_use() -> None:
    do(new_link("m0", "macvlan", mode="bridge", mac="02:00:00:00:00:01"))
    with pytest.raises(KernelRefused, match="the MAC of m1 is that of another link"):
        do(new_link("m1", "macvlan", mode="bridge", mac="02:00:00:00:00:01"))


def test_what_a_refusal_leaves_is_undone_by_the_inverses() -> None:
    run("ip link add trunk.30 type dummy")
    before = links()
    changes = [new_vlan(number) for number in range(1, 41)]
    with pytest.raises(KernelRefused):
        do(*changes)
    observed = observe(Need())
    theirs = [
        change
        for change in changes
        if observed.host.names.get(change.key) and observed.host.names[change.key].group in (GROUP, LINK_GROUP)
    ]
    do(*(change.inverse() for change in theirs))
    assert links() == before


@needs_ipv6
def test_a_larger_mtu_brings_no_ipv6_into_the_vlan() -> None:
    change = new_vlan(5, mtu=1000)
    do(change)
    larger = changed(change, mtu=1500)
    observed = do(larger._replace(after={**(larger.after or {}), "isolation": "none"}))  # as a plan has it
    assert missing(observed, new_vlan(5, mtu=1500)) == []
    assert observed.host.addresses.get(observed.host.names["trunk.5"].index) is None


def test_isolation_of_a_link_with_a_small_mtu() -> None:
    change = new_vlan(5, mtu=1000)
    do(change)
    found = do(changed(change, isolation="host")).find("link", {**(change.after or {}), "isolation": "host"})
    assert found and found["isolation"] == "host"


def test_a_group_that_holds_somebody_is_not_taken() -> None:
    run(f"ip link add theirs type dummy; ip link set theirs group {GROUP}")
    changes = [new_vlan(number) for number in range(1, 20)]
    assert missing(do(*changes), *changes) == []
    do(*(change.inverse() for change in changes))
    assert sorted(links()) == ["far", "theirs", "trunk"] and "UP" not in link("theirs")["flags"]


def test_vlans_of_a_base_with_a_small_mtu() -> None:
    run("ip link set trunk mtu 1000")
    changes = [new_vlan(number) for number in range(1, 20)]
    assert missing(do(*changes), *changes) == []


def test_proc_sys_that_may_not_be_written() -> None:
    run("mount --bind -o ro /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")
    if HAS_IPV6:
        with pytest.raises(KernelRefused, match="/proc/sys is not writable here") as caught:
            do(new_vlan(5))
        assert caught.value.errno == errno.EROFS
