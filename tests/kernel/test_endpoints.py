# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of named namespaces and processes: addresses, ways out, names, and what becomes of their namespaces."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, RolledBack
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import endpoint as declared_endpoint
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, inside, ip, link, links, needs_ipv6, process_in, run, sysctl
from tests.support.traffic import addresses, default, reachable, reaches
from tests.support.waiting import until

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]

DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]


def hosts_of(name: str) -> str:
    path = Path(f"/etc/netns/{name}/hosts")
    return path.read_text(encoding="utf-8") if path.exists() else ""


# --- an endpoint ---------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_two_endpoints_see_each_other_by_address_name_and_alias(engine: Engine, driver: str) -> None:
    engine.network(driver=driver, subnets=DUAL)
    one = engine.endpoint("one", aliases=["db"])
    two = engine.endpoint("two")
    assert one["addresses"] == ["192.0.2.2/24", "2001:db8::2/64"][: len(DUAL)] == addresses("eth0", "one")
    assert two["addresses"] == ["192.0.2.3/24", "2001:db8::3/64"][: len(DUAL)] == addresses("eth0", "two")
    for target in ("192.0.2.2", "one", "db"):
        assert reachable("ip netns exec two", target)
    assert reachable("ip netns exec one", "two")
    if HAS_IPV6:
        assert reachable("ip netns exec two", "-6 one") and reachable("ip netns exec two", "-6 db")
        assert "tentative" not in run("ip -n two -6 addr show dev eth0 scope global")
        assert default("one", "-6")["gateway"] == "2001:db8::1"
        assert sysctl("ipv6.conf.eth0.accept_ra", "one") == 0
    assert default("one")["gateway"] == "192.0.2.1"
    engine.same("one", aliases=["db"])
    engine.same("two")


def test_macs_are_given_or_stay_and_ipvlan_has_none_of_its_own(engine: Engine) -> None:
    engine.network()
    first = engine.endpoint("one")["mac"]
    assert link("eth0", "one")["address"] == first
    assert engine.endpoint("two", mac_address="02:00:5e:00:00:07")["mac"] == "02:00:5e:00:00:07"
    assert link("eth0", "two")["address"] == "02:00:5e:00:00:07"
    engine.absent("one")
    assert engine.endpoint("one")["mac"] == first
    engine.network("red", "ipvlan", parent="trunk.20", subnet="198.51.100.0/24")
    with pytest.raises(InputError, match="mac_address: ipvlan endpoints have the MAC of their parent"):
        engine.endpoint("three", "red", mac_address="02:00:5e:00:00:08")


def test_static_addresses_of_both_families_and_of_one_of_several_subnets(engine: Engine) -> None:
    engine.network(subnets=[*DUAL, {"subnet": "198.51.100.0/24", "gateway": "none"}])
    assert engine.endpoint("one", ipv4_address="192.0.2.77", **({"ipv6_address": "2001:db8::77"} if HAS_IPV6 else {}))["addresses"] == [
        "192.0.2.77/24", *(["2001:db8::77/64"] if HAS_IPV6 else [])
    ]  # fmt: skip
    assert engine.endpoint("two", subnet="198.51.100.0/24")["addresses"][0] == "198.51.100.1/24"
    with pytest.raises(InputError, match=r"ipv4_address: 192\.0\.2\.77 is held by one"):
        engine.endpoint("three", ipv4_address="192.0.2.77")
    with pytest.raises(InputError, match=r"ipv4_address: 203\.0\.113\.9 is in no subnet of blue"):
        engine.endpoint("three", ipv4_address="203.0.113.9")
    assert "netns:three" not in engine.records("netns")


def test_an_address_changes_under_a_living_endpoint(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    engine.endpoint("one")
    engine.endpoint("two")
    engine.endpoint("one", ipv4_address="192.0.2.50")
    assert addresses("eth0", "one")[0] == "192.0.2.50/24" and default("one")["gateway"] == "192.0.2.1"
    assert reachable("ip netns exec two", "one")
    engine.same("one", ipv4_address="192.0.2.50")


def test_a_layer_2_endpoint_without_address(engine: Engine) -> None:
    engine.network(subnets=None, enable_ipv4=False)
    assert engine.endpoint("one")["addresses"] == []
    shown = link("eth0", "one")
    assert "UP" in shown["flags"] and addresses("eth0", "one") == []
    if HAS_IPV6:
        assert sysctl("ipv6.conf.eth0.disable_ipv6", "one") == 1
    run("ip -n one addr add 10.9.9.1/24 dev eth0")
    engine.endpoint("two")
    run("ip -n two addr add 10.9.9.2/24 dev eth0")
    assert reachable("ip netns exec one", "10.9.9.2")
    engine.same("one")


def test_sysctls_accept_ra_and_mtu(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    options: Dict[str, Any] = {"sysctls": {"net.ipv4.conf.IFNAME.rp_filter": 2, "ipv4.arp_ignore": 1}, "mtu": 1400}
    if HAS_IPV6:
        options["accept_ra"] = True
    engine.endpoint("one", **options)
    assert sysctl("ipv4.conf.eth0.rp_filter", "one") == 2 and sysctl("ipv4.conf.eth0.arp_ignore", "one") == 1
    assert link("eth0", "one")["mtu"] == 1400
    if HAS_IPV6:
        assert sysctl("ipv6.conf.eth0.accept_ra", "one") == 2
    engine.same("one", **options)
    engine.endpoint("one", **{**options, "sysctls": {"ipv4.rp_filter": 0}})
    assert sysctl("ipv4.conf.eth0.rp_filter", "one") == 0


# --- names of interfaces -------------------------------------------------------------------------


def test_the_lowest_free_name_or_the_one_given(engine: Engine) -> None:
    run("ip netns add one; ip -n one link add eth0 type dummy")
    engine.network()
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    assert engine.endpoint("one")["interface"] == "eth1"
    assert engine.endpoint("one", "red", interface="wan")["interface"] == "wan"
    assert sorted(links("one")) == ["eth0", "eth1", "wan"]
    engine.same("one")
    engine.same("one", "red", interface="wan")
    with pytest.raises(InputError, match="one/eth0 .dummy. exists and was not created by us"):
        engine.endpoint("other", "red", netns="one", interface="eth0")


def test_another_interface_name_for_a_living_endpoint(engine: Engine) -> None:
    engine.network()
    mac = engine.endpoint("one")["mac"]
    engine.endpoint("one", interface="wan")
    assert links("one") == ["wan"] and link("wan", "one")["address"] == mac
    assert addresses("wan", "one") == ["192.0.2.1/24"]
    engine.same("one", interface="wan")


@pytest.mark.one_kernel
def test_a_workload_in_one_subnet_twice_is_reported(engine: Engine) -> None:
    engine.network()
    engine.network("red", parent="trunk.20", subnet="192.0.2.128/25")
    engine.network("green", parent="trunk.30", subnet="198.51.100.0/24")
    engine.endpoint("one")
    for name, warnings in (
        ("green", []),
        (
            "red",
            [
                "network: netns:one is in 192.0.2.0/24 of blue/one already, and the kernel sends what is for 192.0.2.128/25 over one of the two alone"
            ],
        ),
    ):
        for _twice in range(2):
            assert engine.task("endpoint", network=name, name="one", netns="one").warnings == warnings
    assert engine.task("endpoint", network="green", name="one", netns="one").warnings == []
    assert sorted(links("one")) == ["eth0", "eth1", "eth2"]


# --- ways out ------------------------------------------------------------------------------------


def networks(engine: Engine) -> None:
    """Three with a gateway each."""
    for number, name in enumerate(("blue", "green", "red"), 1):
        subnets = [{"subnet": f"10.{number}.0.0/24"}, *([{"subnet": f"fd00:{number}::/64"}] if HAS_IPV6 else [])]
        engine.network(name, parent=f"trunk.{number}0", subnets=subnets)


def test_the_way_out_goes_by_priority_then_by_name(engine: Engine) -> None:
    networks(engine)
    for name in ("green", "red", "blue"):
        engine.endpoint("one", name)
    assert default("one")["gateway"] == "10.1.0.1"
    engine.endpoint("one", "red", gw_priority=5)
    assert default("one")["gateway"] == "10.3.0.1"
    if HAS_IPV6:
        assert default("one", "-6")["gateway"] == "fd00:3::1"
        engine.endpoint("one", "red", gw_priority=5, default_route={"ipv6": "never"})
        assert (default("one")["gateway"], default("one", "-6")["gateway"]) == ("10.3.0.1", "fd00:1::1")
    engine.endpoint("one", "green", default_route={"ipv4": "always"})
    assert default("one")["gateway"] == "10.2.0.1"
    engine.absent("one", "green")
    assert default("one")["gateway"] == "10.3.0.1"
    engine.absent("one", "red")
    engine.endpoint("one", "blue", default_route={"ipv4": "never", "ipv6": "never"})
    assert default("one") == {} and default("one", "-6") == {}


def test_a_strangers_way_out_stays(engine: Engine) -> None:
    run("""
        ip netns add one; ip -n one link add x type dummy; ip -n one addr add 10.99.0.2/24 dev x
        ip -n one link set x up; ip -n one route add default via 10.99.0.1
    """)
    networks(engine)
    engine.endpoint("one", "blue")
    assert default("one")["gateway"] == "10.99.0.1"
    engine.same("one", "blue")
    with pytest.raises(InputError, match=r"default_route\.ipv4: netns:one has a default route that is not ours"):
        engine.endpoint("one", "blue", default_route={"ipv4": "always"})
    run("ip -n one route del default")
    engine.endpoint("one", "blue")
    assert default("one")["gateway"] == "10.1.0.1"


def test_internal_has_no_way_out_and_l3_goes_by_device(engine: Engine) -> None:
    subnets = [{"subnet": "10.1.0.0/24"}, *([{"subnet": "fd00:1::/64"}] if HAS_IPV6 else [])]
    engine.network("inner", parent=None, internal=True, subnets=subnets)
    engine.endpoint("one", "inner")
    assert default("one") == {} and default("one", "-6") == {}
    others = [{"subnet": "10.2.0.0/24"}, *([{"subnet": "fd00:2::/64"}] if HAS_IPV6 else [])]
    engine.network("routed", "ipvlan", parent="trunk.20", mode="l3", subnets=others)
    assert engine.endpoint("two", "routed")["addresses"][0] == "10.2.0.2/24"
    found = default("two")
    assert found["dev"] == "eth0" and "gateway" not in found
    if HAS_IPV6:
        found = default("two", "-6")
        assert found["dev"] == "eth0" and "gateway" not in found
    engine.endpoint("three", "routed")
    assert reachable("ip netns exec two", "three")
    engine.same("two", "routed")


def test_more_routes(engine: Engine) -> None:
    networks(engine)
    routes = [{"prefix": "172.31.0.0/16", "via": "10.1.0.9"}, {"prefix": "172.30.0.0/16", "metric": 7}]
    engine.endpoint("one", "blue", routes=routes)
    shown = {row["dst"]: row for row in ip("route", "show", "proto", "201", netns="one")}
    assert shown["172.31.0.0/16"]["gateway"] == "10.1.0.9" and shown["172.30.0.0/16"]["metric"] == 7
    engine.same("one", "blue", routes=routes)
    engine.endpoint("one", "blue", routes=routes[1:])
    assert "172.31.0.0/16" not in {row["dst"] for row in ip("route", "show", netns="one")}
    for wrong, what in (
        ([{"prefix": "0.0.0.0/0", "via": "10.1.0.9"}], r"routes\[0\]\.prefix: 0\.0\.0\.0/0 is the default route"),
        ([{"prefix": "172.31.0.0/16", "via": "fd00::1"}], r"routes\[0\]\.via: fd00::1 is not of the same IP version"),
        ([routes[0], routes[0]], r"routes\[1\]\.prefix: 172\.31\.0\.0/16 is already listed in routes\[0\]"),
        (
            [{"prefix": "172.31.0.0/16", "via": "203.0.113.1"}],
            r"routes\[0\]\.via: 203\.0\.113\.1 is in no subnet of blue",
        ),
    ):
        with pytest.raises(InputError, match=what):
            engine.endpoint("one", "blue", routes=wrong)


def rules(netns: str) -> List[Tuple[str, str, int]]:
    found = [*ip("-4", "rule", netns=netns), *(ip("-6", "rule", netns=netns) if HAS_IPV6 else [])]
    return sorted((row["src"], row["table"], row["priority"]) for row in found if row.get("protocol") == "201")


def drift(engine: Engine) -> List[str]:
    return [row["object"] for row in describe.host(engine.state_dir, ["drift"])["drift"]]


def test_answers_leave_by_the_network_that_was_asked(engine: Engine) -> None:
    """A client behind a router, which has a leg in both networks; that of the default route is dead."""
    networks(engine)
    run("ip netns add router; ip link set far netns router; ip -n router link set far up; ip -n router link set lo up")
    run("ip -n router address add 198.51.100.9/32 dev lo")
    if HAS_IPV6:
        run("ip -n router address add fd00:99::9/128 dev lo nodad")
    for number in (1, 2):
        run(
            f"ip -n router link add link far name far{number} type vlan id {number}0; ip -n router link set far{number} up"
        )
        run(f"ip -n router address add 10.{number}.0.1/24 dev far{number}")
        if HAS_IPV6:
            run(f"ip -n router address add fd00:{number}::1/64 dev far{number} nodad")
    for name in ("blue", "green"):
        engine.endpoint("one", name)
    client, client6 = "ip netns exec router", "-I 198.51.100.9 "
    asked = [f"{client6}10.2.0.2", *(["-6 -I fd00:99::9 fd00:2::2"] if HAS_IPV6 else [])]
    assert reachable(client, f"{client6}10.1.0.2")
    run("ip -n router link set far1 down")
    assert not any(reaches(client, target) for target in asked)
    engine.endpoint("one", "green", source_routing=True, allowed_addresses=["10.2.0.9"])
    for target in asked:
        assert reachable(client, target)
    own = ["10.2.0.2", "10.2.0.9", *(["fd00:2::2"] if HAS_IPV6 else [])]
    assert rules("one") == sorted((source, "8021", 8021) for source in own)
    assert {row["dst"] for row in ip("route", "show", "table", "8021", netns="one")} == {"default", "10.2.0.0/24"}
    engine.same("one", "green", source_routing=True, allowed_addresses=["10.2.0.9"])
    # By a rule of somebody else, whose table is not ours; and without one of ours.
    run(
        "ip -n one rule add from 10.2.0.2 lookup 8022 priority 8021 protocol 77; ip -n one rule del from 10.2.0.2 lookup 8021"
    )
    assert drift(engine) == ["rule netns:one/from 10.2.0.2/32 table 8021"]
    options = transact.RunOptions(engine.state_dir)
    assert restore.restore(options).left == [] and drift(engine) == []
    engine.endpoint("one", "blue", source_routing=True)
    assert ("10.1.0.2", "8023", 8021) in rules("one")
    engine.absent("one", "green")
    assert [row[1] for row in rules("one") if row[0] == "10.1.0.2"] == ["8023"] and len(rules("one")) == 1 + HAS_IPV6
    registry = Registry(engine.state_dir)
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)
    assert ("10.2.0.9", "8021", 8021) in rules("one")
    for target in asked:
        assert reachable(client, target)
    engine.endpoint("one", "green")
    engine.endpoint("one", "blue", source_routing=False)
    assert rules("one") == [] and ip("route", "show", "table", "8021", netns="one") == []
    assert [row["table"] for row in ip("rule", netns="one") if row.get("protocol") == "77"] == ["8022"]


# --- names ----------------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_names_come_and_go_with_the_members(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    engine.endpoint("one", aliases=["db", "db.example"], hosts={"far": "192.0.2.200"})
    engine.endpoint("two")
    assert "192.0.2.2\tone db db.example\n" in hosts_of("two") and "192.0.2.3\ttwo\n" in hosts_of("one")
    assert "192.0.2.200\tfar\n" in hosts_of("one") and "far" not in hosts_of("two")
    assert "127.0.0.1\tlocalhost" in hosts_of("one")
    if HAS_IPV6:
        assert "2001:db8::3\ttwo\n" in hosts_of("one")
    assert os.stat("/etc/netns/one/hosts").st_mode & 0o777 == 0o644
    engine.absent("two")
    assert "two" not in hosts_of("one") and not os.path.exists("/etc/netns/two")
    engine.absent("one")
    assert not os.path.exists("/etc/netns/one")


@pytest.mark.one_kernel
def test_a_block_that_somebody_broke_is_written_again(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one")
    file = Path("/etc/netns/one/hosts")
    whole = file.read_bytes()
    for broken in (
        whole.replace(b"\tone", b"\t\xff\xfe"),
        whole.replace(b"# end", b"#"),
        whole + b"# netops.underlay ..\n",
    ):
        file.write_bytes(broken)
        engine.endpoint("one")
        assert hosts_of("one").endswith(whole.decode().partition("# begin")[2])
        engine.same("one")
        file.write_bytes(whole)


@pytest.mark.one_kernel
def test_lines_of_others_in_a_hosts_file_stay(engine: Engine) -> None:
    run("mkdir -p /etc/netns/one; printf '10.0.0.1 mine' > /etc/netns/one/hosts")
    engine.network()
    engine.endpoint("one")
    engine.endpoint("two")
    assert hosts_of("one").startswith("10.0.0.1 mine\n# begin netops.underlay")
    run("echo '10.0.0.2 mine-too' >> /etc/netns/one/hosts; sed -i '/^# end/d' /etc/netns/one/hosts")
    engine.endpoint("three")  # the end mark is lost: nothing of anybody's is
    assert "10.0.0.2 mine-too\n" in hosts_of("one") and "three" in hosts_of("one")
    engine.absent("one")
    assert "10.0.0.1 mine\n" in hosts_of("one") and "10.0.0.2 mine-too\n" in hosts_of("one")


@pytest.mark.one_kernel
def test_names_of_a_private_umask_are_readable_for_all(engine: Engine) -> None:
    before = os.umask(0o077)
    try:
        engine.network()
        engine.endpoint("one")
    finally:
        os.umask(before)
    assert os.stat("/etc/netns/one/hosts").st_mode & 0o777 == 0o644
    assert os.stat("/etc/netns/one").st_mode & 0o777 == os.stat("/etc/netns").st_mode & 0o777 == 0o755


def test_a_process_learns_no_names_and_hears_so(engine: Engine) -> None:
    engine.network()
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as sleeper:
        try:
            until(lambda: os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
            outcome = engine.task("endpoint", network="blue", name="one", pid=sleeper.pid, hosts={"far": "192.0.2.200"})
            assert any("hosts" in text and f"pid:{sleeper.pid}" in text for text in outcome.warnings)
            with pytest.raises(InputError, match="lives, as eth0 in pid:"):
                engine.task("endpoint", "released", network="blue", name="one")
        finally:
            sleeper.kill()
    # the process is gone, its lease is not
    assert engine.records("endpoint")["blue/one"]["addresses"] == ["192.0.2.1/24"]
    with pytest.raises(InputError, match="pid: pid:[0-9]+: there is no such process"):
        engine.endpoint("one", pid=sleeper.pid)
    assert engine.endpoint("two")["addresses"] == ["192.0.2.2/24"]
    assert engine.task("endpoint", "released", network="blue", name="one").changed
    assert engine.endpoint("three")["addresses"] == ["192.0.2.1/24"]


# --- namespaces ----------------------------------------------------------------------------------


def test_a_namespace_that_we_made_goes_with_its_last_endpoint(engine: Engine) -> None:
    engine.network()
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    engine.endpoint("one")
    engine.endpoint("one", "red")
    engine.absent("one")
    assert links("one") == ["eth1"]
    engine.absent("one", "red")
    assert ip("netns", "list") == [] and not os.path.exists("/etc/netns/one")


def test_a_namespace_of_others_stays(engine: Engine) -> None:
    run("ip netns add one")
    engine.network()
    engine.endpoint("one")
    engine.absent("one")
    assert links("one") == [] and [row["name"] for row in ip("netns", "list")] == ["one"]


def test_a_process_or_a_foreign_link_keeps_a_namespace(engine: Engine) -> None:
    engine.network()
    for name in ("one", "two", "three"):
        engine.endpoint(name)
    run("ip -n two link add x type dummy")
    with process_in("one"), process_in("three"):
        assert "a process runs in it" in str(engine.absent("one").warnings)
        assert "the link x is in it" in str(engine.absent("two").warnings)
        # moved away, not removed: the same holds
        assert "a process runs in it" in str(
            engine.task("endpoint", network="blue", name="three", netns="four").warnings
        )
        assert sorted(row["name"] for row in ip("netns", "list")) == ["four", "one", "three", "two"]
        assert links("three") == []
    run("ip -n two link del x")
    engine.absent("three")
    assert ip("netns", "list") == [] and engine.records("netns") == {}


def test_an_endpoint_moves_with_its_address(engine: Engine) -> None:
    engine.network(driver="ipvlan")
    before = engine.endpoint("one")
    engine.endpoint("two")
    after = engine.endpoint("one", netns="elsewhere")
    assert before["addresses"] == after["addresses"] == addresses("eth0", "elsewhere")
    assert sorted(row["name"] for row in ip("netns", "list")) == ["elsewhere", "two"]
    assert reachable("ip netns exec two", "one") and not os.path.exists("/etc/netns/one")


def test_removed_behind_our_back(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    before = engine.endpoint("one")
    engine.endpoint("two")
    run("ip netns del one")
    assert engine.endpoint("one") == before and addresses("eth0", "one") == before["addresses"]
    run("ip -n one link del eth0")
    assert engine.endpoint("one") == before and addresses("eth0", "one") == before["addresses"]
    assert reachable("ip netns exec two", "one")
    run("ip -n one addr flush dev eth0; ip -n one link set eth0 down")
    assert engine.endpoint("one") == before and reachable("ip netns exec two", "one")
    engine.same("one")


def test_absent_succeeds_where_the_workload_is_gone(engine: Engine) -> None:
    engine.network()
    for name in ("one", "two"):
        engine.endpoint(name)
    run("ip netns del one; rm -r /etc/netns/one")
    assert engine.absent("one").changed
    assert "blue/one" not in engine.records("endpoint") and "netns:one" not in engine.records("netns")
    assert "one" not in hosts_of("two").split()
    assert not engine.absent("one").changed
    run("ip netns del two")
    assert engine.task("endpoint", "released", network="blue", name="two").changed
    assert engine.records("link").keys() == {"trunk.10"}


def test_a_network_changes_although_a_workload_of_it_is_gone(engine: Engine) -> None:
    engine.network()
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as sleeper:
        until(lambda: os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
        lease = engine.endpoint("one", pid=sleeper.pid)["addresses"]
        sleeper.kill()
    engine.endpoint("two")
    engine.network(mtu=1400)
    assert link("eth0", "two")["mtu"] == 1400
    assert engine.records("endpoint")["blue/one"]["addresses"] == lease
    assert engine.endpoint("three")["addresses"] == ["192.0.2.3/24"]


@pytest.mark.one_kernel
@pytest.mark.parametrize("name", ["../one", "/etc/passwd", "a/b", "..", "a\n"])
def test_path_tricks_are_refused(engine: Engine, name: str) -> None:
    engine.network()
    with pytest.raises(InputError, match=r"netns: .*"):
        engine.endpoint("one", netns=name)
    for engine_name in ("docker", "podman"):
        with pytest.raises(InputError, match=r"container\.name: .*"):
            engine.endpoint("one", container={"engine": engine_name, "name": name})
    assert ip("netns", "list") == []


# --- the host's own way --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "mode"), [("macvlan", "bridge"), ("ipvlan", "l2"), ("ipvlan", "l3"), ("ipvlan", "l3s")]
)
def test_host_access(engine: Engine, driver: str, mode: str) -> None:
    run("ip addr add 10.0.0.1/24 dev trunk")
    if HAS_IPV6:
        run("ip addr add fd00::1/64 dev trunk nodad")
    engine.network(driver=driver, mode=mode, subnets=DUAL, host_access=True)
    engine.endpoint("one")
    first = engine.records("endpoint")["blue/one"]["addresses"]
    for address in first:
        assert reachable("", address.partition("/")[0])
    engine.endpoint("two")
    second = engine.records("endpoint")["blue/two"]["addresses"]
    for address in second:
        assert reachable("", address.partition("/")[0])
    own = engine.records("network")["blue"]["host_addresses"]
    assert len(own) == len(DUAL)
    for address in own:
        assert reachable("ip netns exec one", address.partition("/")[0])
    shim = next(name for name in links() if name.startswith("ha-"))
    listed = {row["dst"] for row in ip("-4", "route", "show", "dev", shim) + ip("-6", "route", "show", "dev", shim)}
    assert {address.partition("/")[0] for address in first + second} <= listed
    assert not {"192.0.2.0/24", "2001:db8::/64", "fe80::/64"} & listed
    engine.absent("one")
    assert not reaches("", first[0].partition("/")[0])
    engine.absent("two")
    engine.task("network", "absent", name="blue")
    assert links() == [name for name in links() if name in ("trunk", "far")]
    assert ip("route", "show", "proto", "201") == []


def test_host_access_with_addresses_given_and_taken_away(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    engine.endpoint("one")
    engine.network(subnets=DUAL, host_access=["192.0.2.100"])
    assert engine.records("network")["blue"]["host_addresses"] == ["192.0.2.100/32"]
    assert reachable("", "192.0.2.2") and reachable("ip netns exec one", "192.0.2.100")
    with pytest.raises(InputError, match=r"192\.0\.2\.100 is held by the host"):
        engine.endpoint("two", ipv4_address="192.0.2.100")
    engine.network(subnets=DUAL)
    assert not [name for name in links() if name.startswith("ha-")] and not reaches("", "192.0.2.2")
    assert engine.endpoint("two", ipv4_address="192.0.2.100")


def test_the_host_is_nowhere_without_host_access(engine: Engine) -> None:
    engine.network(subnets=[{"subnet": "192.0.2.0/24", "gateway": "none"}])
    engine.endpoint("one")
    assert not reaches("", "192.0.2.1") and not [name for name in links() if name.startswith("ha-")]


# --- strangers on the wire of this host ----------------------------------------------------------


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_the_address_of_a_strangers_endpoint_on_the_parent_is_never_given(engine: Engine, driver: str) -> None:
    engine.network(driver=driver)
    mode = "mode bridge" if driver == "macvlan" else "mode l2"
    run(f"""
        ip netns add stranger; ip link add link trunk.10 name x netns stranger type {driver} {mode}
        ip -n stranger addr add 192.0.2.1/24 dev x; ip -n stranger link set x up
    """)
    assert engine.endpoint("one")["addresses"] == ["192.0.2.2/24"]
    assert reachable("ip netns exec one", "192.0.2.1")
    with pytest.raises(InputError, match=r"ipv4_address: 192\.0\.2\.1 is in use by x in netns:stranger"):
        engine.endpoint("two", ipv4_address="192.0.2.1")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_floating_address_is_not_handed_out(engine: Engine, driver: str) -> None:
    """As keepalived adds one to an endpoint's own link."""
    engine.network(driver=driver)
    first = engine.endpoint("one")["addresses"]
    floating = str(ipaddress.ip_interface(first[0]).ip + 1)
    run(f"ip -n one address add {floating}/32 dev eth0")
    second = engine.endpoint("two")["addresses"]
    assert [ipaddress.ip_interface(text).ip for text in second] == [ipaddress.ip_address(floating) + 1]
    assert reachable("ip netns exec two", floating)
    with pytest.raises(
        InputError, match=f"ipv4_address: {floating} is in use by eth0 in netns:one; give another address"
    ):
        engine.endpoint("three", ipv4_address=floating)


def test_more_addresses_and_one_that_keepalived_moves(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    more: Dict[str, Any] = {"ipv4_addresses": ["192.0.2.50"], "allowed_addresses": ["192.0.2.4"]}
    if HAS_IPV6:
        more["ipv6_addresses"] = ["2001:db8::50"]
    engine.endpoint("one", **more)
    own = ["192.0.2.2/24", "192.0.2.50/32", *(["2001:db8::2/64", "2001:db8::50/128"] if HAS_IPV6 else [])]
    assert sorted(addresses("eth0", "one")) == sorted(own)
    engine.endpoint("two", allowed_addresses=["192.0.2.4"])
    assert reachable("ip netns exec two", "192.0.2.50")
    for holder, other in (("one", "two"), ("two", "one")):
        run(f"ip -n {holder} address add 192.0.2.4/32 dev eth0")
        assert reachable(f"ip netns exec {other}", "192.0.2.4")
        engine.same("one", **more)
        assert not describe.host(engine.state_dir, ["drift"])["drift"]
        if holder == "one":
            run("ip -n one address del 192.0.2.4/32 dev eth0")
            run("ip -n one neigh flush all; ip -n two neigh flush all")
    assert engine.endpoint("three")["addresses"][0] == "192.0.2.5/24"
    engine.endpoint("two", allowed_addresses=["192.0.2.4"], ipv4_address="192.0.2.9")
    assert "192.0.2.4/32" in addresses("eth0", "two")
    run("ip -n one address del 192.0.2.50/32 dev eth0")
    assert [row["object"] for row in describe.host(engine.state_dir, ["drift"])["drift"]] == [
        "address netns:one/eth0 192.0.2.50/32"
    ]
    engine.endpoint("one", **{**more, "ipv4_addresses": ["192.0.2.51"]})
    assert "192.0.2.51/32" in addresses("eth0", "one") and "192.0.2.2/24" in addresses("eth0", "one")


def test_what_the_kernel_refuses_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.network()
    run(
        "ip netns add one; ip link add link trunk.10 name y netns one address 02:00:5e:00:00:09 type macvlan; ip -n one link set y up"
    )
    with pytest.raises(InputError, match="mac_address: 02:00:5e:00:00:09 is the MAC of y in netns:one; give another"):
        engine.endpoint("two", mac_address="02:00:5e:00:00:09")
    # What only the kernel can know: a settings file with limits that the plan has not heard of.
    monkeypatch.delitem(declared_endpoint._CHECKED, "ipv6.hop_limit")
    with pytest.raises(RolledBack):
        engine.endpoint("two", sysctls={"ipv4.accept_local": 1, "ipv6.hop_limit": 9999})
    assert [row["name"] for row in ip("netns", "list")] == ["one"]
    assert engine.records("endpoint") == {} and not engine.pending() and not os.path.exists("/etc/netns/two")


@needs_ipv6
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_the_mtu_of_ipv6_outlives_what_the_kernel_does_to_it(engine: Engine, driver: str) -> None:
    """It becomes that of the link where the link comes up or gets another."""
    engine.network(driver=driver)
    for more in ({}, {"mtu": 1400}, {"mtu": 1350}):
        engine.endpoint("one", sysctls={"ipv6.mtu": 1280}, **more)
        assert sysctl("ipv6.conf.eth0.mtu", "one") == 1280
        engine.same("one", sysctls={"ipv6.mtu": 1280}, **more)
    run("ip -n one link set eth0 down")
    engine.endpoint("one", sysctls={"ipv6.mtu": 1280}, mtu=1350)
    assert sysctl("ipv6.conf.eth0.mtu", "one") == 1280
    engine.endpoint("one", sysctls={"ipv6.mtu": 1300}, mtu=1350)
    assert sysctl("ipv6.conf.eth0.mtu", "one") == 1300


@needs_ipv6
@pytest.mark.parametrize("before", [{}, {"sysctls": {"ipv6.mtu": 1280}}], ids=["with it", "before it"])
def test_the_mtu_of_ipv6_outlives_that_it_is_switched_on(engine: Engine, before: Dict[str, Any]) -> None:
    engine.network()
    engine.endpoint("one", **before)
    assert sysctl("ipv6.conf.eth0.disable_ipv6", "one") == 1
    engine.endpoint("one", accept_ra=True, sysctls={"ipv6.mtu": 1280})
    assert (sysctl("ipv6.conf.eth0.disable_ipv6", "one"), sysctl("ipv6.conf.eth0.mtu", "one")) == (0, 1280)
    engine.same("one", accept_ra=True, sysctls={"ipv6.mtu": 1280})


@needs_ipv6
def test_a_sysctl_that_is_not_asked_for_any_more_has_the_default_again(engine: Engine) -> None:
    asked = {"ipv4.forwarding": 1, "ipv6.hop_limit": 9, "ipv6.mtu": 1280}

    def found() -> List[int]:
        return [
            sysctl(f"{family}.conf.eth0.{key}", "one") for family, _, key in (name.partition(".") for name in asked)
        ]

    engine.network()
    engine.endpoint("one", sysctls=asked)
    assert found() == [1, 9, 1280]
    engine.endpoint("one", mac_address="02:00:5e:00:00:09")
    assert found() == [0, 64, 1500]
    engine.same("one", mac_address="02:00:5e:00:00:09")
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with registry.lock(10, "test"):
        undo.undo(registry.transactions()[0].number, registry, options)
    assert found() == [1, 9, 1280]
    engine.same("one", sysctls=asked)


@needs_ipv6
def test_a_router_gives_the_way_out_where_advertisements_are_taken(engine: Engine) -> None:
    engine.network(subnets=DUAL)
    engine.endpoint("one", accept_ra=True)
    assert default("one", "-6") == {}
    run("ip -n one -6 route add default via fe80::1 dev eth0 proto ra metric 1024")
    engine.same("one", accept_ra=True)
    run("ip -n one -6 route del default")
    engine.endpoint("one", accept_ra=True, default_route={"ipv6": "always"})
    assert default("one", "-6")["gateway"] == "2001:db8::1"
    assert sysctl("ipv6.conf.eth0.accept_ra_defrtr", "one") == 0
    with inside("one"):
        assert sysctl("ipv6.conf.eth0.accept_ra") == 2
