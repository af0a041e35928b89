# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the neighbours of an endpoint hear: captured at the other end of the cable, where strangers live as well."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, RolledBack
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import crowd
from ansible_collections.netops.underlay.plugins.module_utils._engine.wire import conflicts

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, ip, links, run
from tests.support.traffic import Capture, addresses, reachable, reaches

pytestmark = pytest.mark.every_kernel

DUAL = [
    {"subnet": "192.0.2.0/24", "gateway": "none"},
    *([{"subnet": "2001:db8::/64", "gateway": "none"}] if HAS_IPV6 else []),
]
BOTH = pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])


@pytest.fixture(autouse=True)
def wire(trunk: str) -> None:
    """The cable's other end, in a namespace with VLAN 10 on it."""
    run("""
        ip netns add wire; ip link set far netns wire; ip -n wire link set far up
        ip -n wire link add link far name far.10 type vlan id 10
        ip -n wire link set far.10 address 02:00:00:00:00:aa; ip -n wire link set far.10 up
        ip netns exec wire sysctl -qw net.ipv6.conf.far/10.accept_dad=0 2>/dev/null || true
    """)


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[Capture]:
    with contextlib.closing(Capture(tmp_path / "wire.txt", "far.10", "arp or icmp6", netns="wire")) as found:
        yield found


def stranger(*held: str) -> None:
    for address in held:
        run(f"ip -n wire addr add {address} dev far.10 {'nodad' if ':' in address else ''}")


def garp(address: str) -> tuple[str, ...]:
    return ("ff:ff:ff:ff:ff:ff", f"who-has {address} ", f"tell {address}")


def na(address: str) -> tuple[str, ...]:
    return ("neighbor advertisement", f"tgt is {address}")


# --- announcements -------------------------------------------------------------------------------


@BOTH
def test_an_endpoint_announces_itself(engine: Engine, capture: Capture, driver: str) -> None:
    engine.network(driver=driver, subnets=DUAL)
    engine.endpoint("one")
    mac = ip("link", "show", "dev", "eth0", netns="one")[0]["address"]
    assert capture.sees(mac, *garp("192.0.2.1"))
    if HAS_IPV6:
        assert capture.sees(mac, *na("2001:db8::1"))
    # on a link that is up the kernel announces nothing, so we do
    static = {"ipv4_address": "192.0.2.50", **({"ipv6_address": "2001:db8::50"} if HAS_IPV6 else {})}
    engine.endpoint("one", **static)
    assert capture.sees(mac, *garp("192.0.2.50"))
    if HAS_IPV6:
        assert capture.sees(mac, *na("2001:db8::50"))
    # and a workload that was restarted once more
    before = capture.count(mac, *garp("192.0.2.50"))
    run("ip netns del one")
    engine.endpoint("one", **static)
    assert capture.sees(mac, *garp("192.0.2.50"), times=before + 1)


@pytest.mark.parametrize(
    ("driver", "how"),
    [("macvlan", {"mode": "private"}), ("macvlan", {"mode": "vepa"}), ("macvlan", {"mode": "passthru"}),
     ("ipvlan", {"flag": "private"}), ("ipvlan", {"flag": "vepa"})],
    ids=lambda value: str(value.get("mode") or value.get("flag")) if isinstance(value, dict) else value,
)  # fmt: skip
def test_an_endpoint_announces_itself_in_every_other_mode_that_has_neighbours(
    engine: Engine, capture: Capture, driver: str, how: Dict[str, str]
) -> None:
    engine.network(driver=driver, subnets=DUAL, **how)
    engine.endpoint("one")
    mac = ip("link", "show", "dev", "eth0", netns="one")[0]["address"]
    assert capture.sees(mac, *garp("192.0.2.1"))
    if HAS_IPV6:
        assert capture.sees(mac, *na("2001:db8::1"))
    before = capture.count(mac, *garp("192.0.2.50"))
    engine.endpoint("one", ipv4_address="192.0.2.50")
    assert capture.sees(mac, *garp("192.0.2.50"), times=before + 1)


def test_a_crowd_is_heard_by_all_but_those_that_come_with_it(
    engine: Engine, capture: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "_CROWD", 8)
    engine.network(driver="macvlan", subnets=DUAL)
    engine.endpoint("old")
    rows = [{"network": "blue", "name": f"e{number}", "netns": f"n{number}"} for number in range(8)]
    with contextlib.closing(Capture(tmp_path / "old.txt", "eth0", "arp or icmp6", netns="old")) as old:
        engine.map(networks=[], endpoints=rows)
        macs = {}
        for space in (f"n{number}" for number in range(8)):
            for link in ip("address", "show", netns=space):
                macs.update(dict.fromkeys((row["local"] for row in link["addr_info"]), link.get("address")))
                if "eth" in link["ifname"]:
                    assert (
                        ip("link", "show", "dev", link["ifname"], netns=space)[0]["linkinfo"]["info_data"]["mode"]
                        == "bridge"
                    )
        for number in range(2, 10):
            for hears in (capture, old):
                assert hears.sees(macs[f"192.0.2.{number}"], *garp(f"192.0.2.{number}"))
                if HAS_IPV6:
                    assert hears.sees(macs[f"2001:db8::{number}"], *na(f"2001:db8::{number}"))
    if HAS_IPV6:  # else it would have heard the other seven, and each of its link-local address once more
        heard = run("ip netns exec n0 nstat -asz Icmp6InNeighborAdvertisements | tail -n 1").split()[1]
        assert int(heard) <= 3
    assert reachable("ip netns exec n0", "192.0.2.3") and reachable("ip netns exec n1", "192.0.2.1")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_where_there_are_no_neighbours_nothing_is_announced(engine: Engine, capture: Capture, mode: str) -> None:
    run(
        "ip link add link trunk name trunk.10 type vlan id 10; ip link set trunk.10 up; ip addr add 198.51.100.1/24 dev trunk.10"
    )
    run("ip -n wire addr add 198.51.100.2/24 dev far.10")
    engine.network(driver="ipvlan", mode=mode, subnets=DUAL[:1])
    engine.endpoint("one", ipv4_address="192.0.2.50")
    engine.endpoint("one", ipv4_address="192.0.2.51")
    run(
        "ip netns exec wire arping -c 1 -w 1 -U -I far.10 198.51.100.2 >/dev/null || true"
    )  # a sign that all before was seen
    assert capture.sees(*garp("198.51.100.2")) and capture.count("192.0.2.5") == 0


# --- the probe -----------------------------------------------------------------------------------


@BOTH
def test_the_wire_is_asked_first_and_a_free_address_taken(engine: Engine, capture: Capture, driver: str) -> None:
    engine.network(driver=driver, subnets=DUAL)
    found = engine.endpoint("one", probe=True)
    assert found["addresses"] == [row for row in ("192.0.2.1/24", "2001:db8::1/64") if HAS_IPV6 or ":" not in row]
    assert addresses("eth0", "one") == found["addresses"]
    mac = ip("link", "show", "dev", "eth0", netns="one")[0]["address"]
    asked_then_told(capture, mac, "192.0.2.1")
    if HAS_IPV6:
        assert capture.sees(mac, ":: > ff02::1:ff00:1", "neighbor solicitation, who has 2001:db8::1", times=3)
    stranger("192.0.2.99/24")
    assert reachable("ip netns exec one", "192.0.2.99")
    count = capture.count("tell 0.0.0.0")
    engine.same("one", probe=True)
    engine.endpoint("two")
    assert capture.sees(*garp("192.0.2.2"))
    assert capture.count("tell 0.0.0.0") == count  # nothing comes, so no host is asked


@BOTH
def test_the_next_free_address_where_a_stranger_holds_one(engine: Engine, capture: Capture, driver: str) -> None:
    stranger("192.0.2.1/24", "192.0.2.2/24", *(["2001:db8::1/64"] if HAS_IPV6 else []))
    engine.network(driver=driver, subnets=DUAL)
    check = engine.task("endpoint", check=True, network="blue", name="one", netns="one", probe=True)
    assert "blue/one: 192.0.2.1 is provisional" in str(check.warnings)
    assert [row["name"] for row in ip("netns", "list")] == ["wire"]
    run(
        "ip netns exec wire arping -c 1 -w 1 -U -I far.10 192.0.2.1 >/dev/null || true"
    )  # a sign that all before was seen
    assert capture.sees("who-has 192.0.2.1 ", "tell 192.0.2.1") and capture.count("tell 0.0.0.0") == 0
    found = engine.endpoint("one", probe=True)
    assert found["addresses"] == [row for row in ("192.0.2.3/24", "2001:db8::2/64") if HAS_IPV6 or ":" not in row]
    assert addresses("eth0", "one") == found["addresses"] == engine.records("endpoint")["blue/one"]["addresses"]
    assert "192.0.2.3\tone" in Path("/etc/netns/one/hosts").read_text(encoding="utf-8")
    assert reachable("ip netns exec one", "192.0.2.1")
    engine.same("one", probe=True)
    # a lease whose workload was away is asked for as well, and is given up where somebody took it
    run("ip netns del one")
    stranger("192.0.2.3/24")
    assert engine.endpoint("one", probe=True)["addresses"][0] == "192.0.2.4/24" == addresses("eth0", "one")[0]


@BOTH
def test_a_static_address_that_a_stranger_holds_is_refused(engine: Engine, driver: str) -> None:
    stranger("192.0.2.7/24", *(["2001:db8::7/64"] if HAS_IPV6 else []))
    engine.network(driver=driver, subnets=DUAL)
    before = links(), engine.records("link")
    for option, address in (("ipv4_address", "192.0.2.7"), *([("ipv6_address", "2001:db8::7")] if HAS_IPV6 else [])):
        with pytest.raises(InputError, match=f"{option}: {address} is held by 02:00:00:00:00:aa on the wire"):
            engine.endpoint("one", probe=True, **{option: address})
        assert [row["name"] for row in ip("netns", "list")] == ["wire"]
        assert (links(), engine.records("link")) == before and engine.records("endpoint") == {} and not engine.pending()
    engine.endpoint("one")
    with pytest.raises(InputError, match="is held by 02:00:00:00:00:aa on the wire"):
        engine.endpoint("one", probe=True, ipv4_address="192.0.2.7")  # of a living endpoint: it is as it was
    assert (
        addresses("eth0", "one")[0] == "192.0.2.1/24" and engine.records("endpoint")["blue/one"]["ipv4_address"] is None
    )
    stranger("192.0.2.200/24")
    assert reachable("ip netns exec one", "192.0.2.200")


@BOTH
def test_a_living_endpoint_gets_another_address_of_its_own_only_after_the_wire_was_asked(
    engine: Engine, capture: Capture, driver: str
) -> None:
    engine.network(driver=driver, subnets=DUAL)
    engine.endpoint("one")
    stranger("192.0.2.99/24")
    mac, index = (
        ip("link", "show", "dev", "eth0", netns="one")[0]["address"],
        ip("link", "show", "dev", "eth0", netns="one")[0]["ifindex"],
    )
    static = {"ipv4_address": "192.0.2.50", **({"ipv6_address": "2001:db8::50"} if HAS_IPV6 else {})}
    check = engine.task("endpoint", check=True, network="blue", name="one", netns="one", probe=True, **static)
    assert "blue/one: 192.0.2.50 is provisional" in str(check.warnings)
    assert reachable("ip netns exec one", "192.0.2.99") and capture.count("tell 0.0.0.0") == 0
    engine.endpoint("one", probe=True, **static)
    assert addresses("eth0", "one") == ["192.0.2.50/24", *(["2001:db8::50/64"] if HAS_IPV6 else [])]
    assert ip("link", "show", "dev", "eth0", netns="one")[0]["ifindex"] == index
    asked_then_told(capture, mac, "192.0.2.50")
    if HAS_IPV6:
        assert capture.sees(mac, "neighbor solicitation, who has 2001:db8::50", times=3) and capture.sees(
            mac, *na("2001:db8::50")
        )
    assert reachable("ip netns exec one", "192.0.2.99")
    engine.same("one", probe=True, **static)


def asked_then_told(capture: Capture, mac: str, address: str) -> None:
    assert capture.sees(mac, f"who-has {address} ", "tell 0.0.0.0", times=3) and capture.sees(mac, *garp(address))
    lines = capture.lines()
    asked = [n for n, line in enumerate(lines) if f"who-has {address} " in line and "tell 0.0.0.0" in line]
    announced = [n for n, line in enumerate(lines) if all(word in line for word in garp(address))]
    assert max(asked) < min(announced)


def shim() -> str:
    return next(name for name in links() if name.startswith("ha-"))


@BOTH
def test_the_hosts_own_address_is_asked_for_too(engine: Engine, capture: Capture, driver: str) -> None:
    stranger("192.0.2.1/24", *(["2001:db8::1/64"] if HAS_IPV6 else []))
    network: Dict[str, Any] = {"driver": driver, "subnets": DUAL, "host_access": True, "probe": True}
    check = engine.task("network", check=True, name="blue", parent="trunk.10", **network)
    assert "blue: 192.0.2.1 is provisional" in str(check.warnings) and links() == ["trunk"]
    engine.network(**network)
    expected = ["192.0.2.2/32", *(["2001:db8::2/128"] if HAS_IPV6 else [])]
    assert engine.records("network")["blue"]["host_addresses"] == expected
    rows = ip("addr", "show", "dev", shim())[0]
    assert [f"{row['local']}/{row['prefixlen']}" for row in rows["addr_info"]] == expected
    asked_then_told(capture, rows["address"], "192.0.2.2")
    if HAS_IPV6:
        assert capture.sees(rows["address"], "neighbor solicitation, who has 2001:db8::2", times=3)
        assert capture.sees(rows["address"], *na("2001:db8::2"))
    count = capture.count("tell 0.0.0.0")
    assert engine.network(**network).changes == []
    engine.endpoint("one", ipv4_address="192.0.2.3")
    assert reachable("", "192.0.2.3") and reachable("ip netns exec one", "192.0.2.2")
    assert capture.count("tell 0.0.0.0") == count
    # both at once, each from where it lives; another given address, under a living shim
    engine.map(networks=[{**network, "name": "red", "parent": "trunk.10", "share_parent": True, "subnets": [{"subnet": "198.51.100.0/24"}]},
                         {**network, "name": "blue", "parent": "trunk.10", "share_parent": True, "host_access": ["192.0.2.60"]}],
               endpoints=[{"network": "red", "name": "two", "netns": "two", "probe": True}], adopt=True)  # fmt: skip
    assert capture.sees(rows["address"], "who-has 192.0.2.60 ", "tell 0.0.0.0", times=3)
    assert capture.sees(rows["address"], *garp("192.0.2.60"))
    assert {"192.0.2.60/32"} == set(engine.records("network")["blue"]["host_addresses"])
    assert (
        reachable("", "192.0.2.3")
        and reachable("ip netns exec one", "192.0.2.60")
        and reachable("ip netns exec two", "198.51.100.2")
    )


@BOTH
def test_a_listed_address_of_the_host_that_a_stranger_holds_is_refused(engine: Engine, driver: str) -> None:
    stranger("192.0.2.7/24")
    network: Dict[str, Any] = {"driver": driver, "subnets": DUAL[:1], "probe": True}
    with pytest.raises(InputError, match=r"host_access: 192\.0\.2\.7 is held by 02:00:00:00:00:aa on the wire"):
        engine.network(**network, host_access=["192.0.2.7"])
    assert links() == ["trunk"] and engine.records("network") == {} and not engine.pending()
    engine.network(**network, host_access=["192.0.2.8"])
    engine.endpoint("one")
    with pytest.raises(InputError, match=r"host_access: 192\.0\.2\.7 is held by 02:00:00:00:00:aa on the wire"):
        engine.network(**network, host_access=["192.0.2.7"])
    assert engine.records("network")["blue"]["host_addresses"] == ["192.0.2.8/32"] and reachable(
        "ip netns exec one", "192.0.2.8"
    )
    with pytest.raises(InputError, match="probe: has no effect without host_access"):
        engine.network(**network)
    if driver == "ipvlan":
        with pytest.raises(InputError, match="probe: endpoints of l3 have no neighbours to probe"):
            engine.network("routed", mode="l3", parent="trunk.20", host_access=True, **network)


def test_all_of_a_map_are_asked_for_at_once(engine: Engine, capture: Capture) -> None:
    stranger("192.0.2.2/24", "192.0.2.3/24", "198.51.100.1/24")
    networks = [
        {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": DUAL[:1], "share_parent": True, "host_access": True},
        {"name": "red", "driver": "macvlan", "parent": "trunk.10", "subnets": [{"subnet": "198.51.100.0/24", "gateway": "none"}],
         "share_parent": True},
    ]  # fmt: skip
    rows: List[Dict[str, Any]] = [
        {"network": "blue", "name": name, "netns": name, "probe": True} for name in ("a", "b", "c")
    ]
    rows.append({"network": "red", "name": "a", "netns": "a", "probe": True})
    engine.map(networks=networks, endpoints=rows)
    found = {key: spec["addresses"] for key, spec in engine.records("endpoint").items()}
    assert found == {
        "blue/a": ["192.0.2.4/24"], "blue/b": ["192.0.2.5/24"], "blue/c": ["192.0.2.6/24"], "red/a": ["198.51.100.2/24"],
    }  # fmt: skip
    assert (
        reachable("", "192.0.2.6") and reachable("ip netns exec a", "c") and reachable("ip netns exec b", "192.0.2.2")
    )
    assert engine.map(networks=networks, endpoints=rows).changes == []


@pytest.mark.parametrize(
    ("mac", "address"), [("02:00:00:00:00:01", "192.0.2.1/24"), ("fe:00:00:00:00:01", "192.0.2.2/24")]
)
def test_of_two_who_ask_at_once_the_lower_mac_has_it(engine: Engine, capture: Capture, mac: str, address: str) -> None:
    engine.network()
    rival = subprocess.Popen(["ip", "netns", "exec", "wire", "arping", "-D", "-c", "1000", "-w", "120", "-I", "far.10", "192.0.2.1"],
                             stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        assert capture.sees("02:00:00:00:00:aa", "who-has 192.0.2.1 ", "tell 0.0.0.0")
        assert engine.endpoint("one", probe=True, mac_address=mac)["addresses"] == [address]
    finally:
        rival.kill()
        rival.wait()


def test_where_no_probe_can_be_sent_nothing_is_claimed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.network("routed", "ipvlan", mode="l3", parent="trunk.20")
    with pytest.raises(InputError, match="probe: endpoints of l3 have no neighbours to probe"):
        engine.endpoint("one", "routed", probe=True)
    engine.network()
    monkeypatch.setattr(conflicts, "CARRIER", 0.5)
    run("ip -n wire link set far down")
    with pytest.raises(RolledBack, match="cannot probe from eth0 in netns:one: it has no carrier"):
        engine.endpoint("one", probe=True)
    assert [row["name"] for row in ip("netns", "list")] == ["wire"] and engine.records("endpoint") == {}


# --- processes of their own: killed, and many at once --------------------------------------------

TASK = """
import sys
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact
state, name, probe = sys.argv[1:]
declared = model.declare("endpoint", {"network": "blue", "name": name, "netns": name, "probe": probe}, "present", False)
outcome = converge.converge(declared, transact.RunOptions(state, lock_timeout=120))
print(*outcome.items["endpoint"]["blue/" + name]["addresses"])
"""


def process(engine: Engine, name: str, ask: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TASK, engine.state_dir, name, "yes" if ask else "no"]
    path = str(Path(__file__).absolute().parents[5])
    return subprocess.Popen(
        command, env={"PYTHONPATH": path}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.one_kernel
def test_killed_while_it_asks(engine: Engine, capture: Capture) -> None:
    engine.network(subnets=DUAL)
    task = process(engine, "one", ask=True)
    assert capture.sees("who-has 192.0.2.1 ", "tell 0.0.0.0")
    task.kill()
    task.communicate()
    assert engine.pending() and "one" in [row["name"] for row in ip("netns", "list")]
    outcome = engine.task("endpoint", network="blue", name="two", netns="two")
    assert "had been interrupted and was undone first" in str(outcome.warnings)
    assert sorted(row["name"] for row in ip("netns", "list")) == ["two", "wire"] and not engine.pending()
    assert addresses("eth0", "two")[0] == "192.0.2.1/24"


@pytest.mark.one_kernel
def test_twenty_tasks_at_once(engine: Engine) -> None:
    engine.network(driver="ipvlan")
    names = [f"n{number}" for number in range(20)]
    tasks = [process(engine, name) for name in names]
    said = [task.communicate()[0].strip() for task in tasks]
    assert [task.returncode for task in tasks] == [0] * 20, said
    assert sorted(said) == sorted(f"192.0.2.{number}/24" for number in range(1, 21))
    recorded = engine.records("endpoint")
    assert {key: spec["addresses"] for key, spec in recorded.items()} == {
        f"blue/{name}": [text] for name, text in zip(names, said)
    }
    for name, text in zip(names, said):
        assert addresses("eth0", name) == [text]
    assert not engine.pending() and reaches("ip netns exec n0", "n19")
