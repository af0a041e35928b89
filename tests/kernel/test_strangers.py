# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes changes back touches nothing of others: a run that fails, one that was killed, a guard that fires, absent."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    OtherRegistry,
    RollbackFailed,
    RolledBack,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink.rtnetlink import (
    RTM_NEWADDR,
    Failure,
    Socket,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import guard, restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.rollback import recover
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.fault_points import KILLED, in_child
from tests.support.host_picture import settled
from tests.support.network_host import HAS_IPV6, ip, link, links, needs_ipv6, nic, run


def turn(engine: Engine, number: int) -> int:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir, who="a test")
    with guard.at_work(registry, options):
        return undo.undo(number, registry, options)[0]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    for name in ("nica", "nicb"):
        nic(name)
    return Engine(str(tmp_path / "state"))


@pytest.fixture
def resident() -> Iterator[Callable[[str], None]]:
    """Starts a process in a named namespace."""
    started: List[subprocess.Popen[bytes]] = []

    def start(netns: str) -> None:
        started.append(subprocess.Popen(["ip", "netns", "exec", netns, "sleep", "1000"]))
        while not run(f"ip netns pids {netns}"):
            pass

    yield start
    for process in started:
        process.kill()
        process.wait()


def killed(work: Callable[[], Any], at: str = "finish") -> None:
    """A run that is killed: before its first change of the kernel (``begin``), or after the last one (``finish``)."""

    def die(*_args: Any, **_kwargs: Any) -> None:
        os._exit(KILLED)

    def child() -> None:
        if at == "finish":
            Registry.finish = die  # type: ignore[method-assign]
        else:
            transact.apply_all = die  # type: ignore[assignment]
        work()

    assert in_child(child) == KILLED


def recovered(engine: Engine) -> List[str]:
    """What the next run says of the one that was killed."""
    options = transact.RunOptions(engine.state_dir)
    registry = Registry(engine.state_dir)
    with registry.lock(1, "a test"):
        recover(registry, options)
    assert registry.pending() is None
    return options.notes


class Meddler:
    """Does something between the observation of a run and its first change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
        real = transact.apply_all

        def apply_all(*args: Any) -> None:
            monkeypatch.setattr(transact, "apply_all", real)
            run(command)
            real(*args)

        monkeypatch.setattr(transact, "apply_all", apply_all)


def web(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    engine.endpoint("one", netns="web")


def space(name: str) -> Optional[str]:
    """The identity of a named namespace."""
    path = Path(f"/run/netns/{name}")
    return str(path.stat().st_ino) if path.exists() else None


@pytest.fixture
def few_tunnels() -> Iterator[Callable[[int], None]]:
    """Whether tunnel drivers make their tunnels in every namespace (0), or in the first one alone (1, as it is left)."""

    def choose(value: int) -> None:
        run(f"nsenter -t 1 -n sysctl -qw net.core.fb_tunnels_only_for_init_net={value}")

    choose(1)
    yield choose
    choose(1)


def host_addresses(dev: str) -> List[str]:
    rows = ip("-4", "addr", "show", "dev", dev)
    return [row["local"] for row in rows[0]["addr_info"]] if rows else []


# --- namespaces ----------------------------------------------------------------------------------


def test_a_namespace_that_somebody_made_during_the_run_stays(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.network("blue", parent="nica.10")
    Meddler(monkeypatch, "ip netns add web; ip -n web link add theirs type dummy")
    with pytest.raises(RolledBack, match="there is a network namespace web already"):
        engine.endpoint("one", netns="web")
    assert "theirs" in links("web") and "eth0" not in links("web")
    settled(engine)


@pytest.mark.parametrize("at", ["begin", "finish"])
def test_a_namespace_that_somebody_made_after_a_kill_stays(
    engine: Engine, resident: Callable[[str], None], at: str
) -> None:
    engine.network("blue", parent="nica.10")
    killed(lambda: engine.endpoint("one", netns="web"), at)
    run("ip netns del web || true; ip netns add web")
    resident("web")
    theirs = space("web")
    recovered(engine)
    assert space("web") == theirs
    assert engine.records("netns") == {}
    settled(engine)


def test_a_namespace_that_was_recreated_by_others_outlives_absent(engine: Engine) -> None:
    web(engine)
    run("ip netns del web; ip netns add web")
    theirs = space("web")
    warnings = engine.absent("one").warnings
    assert "netns:web no longer has our mark: left in place, dropped from the registry" in warnings
    assert space("web") == theirs and engine.records("netns") == {}


def test_the_same_by_an_undo(engine: Engine) -> None:
    engine.network("blue", parent="nica.10")
    number = engine.task("endpoint", network="blue", name="one", netns="web").number
    run("ip netns del web; ip netns add web")
    theirs = space("web")
    turn(engine, number or 0)
    assert space("web") == theirs and engine.records("netns") == {}


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("ip -n web addr add 10.9.9.9/32 dev lo", "it has the address 10.9.9.9/32 on lo"),
        ("ip -n web route add blackhole 10.8.0.0/16", "it has the route 10.8.0.0/16"),
        ("ip -n web link add theirs type dummy", "the link theirs is in it"),
    ],
)
def test_a_namespace_of_ours_in_which_others_are_stays(engine: Engine, command: str, what: str) -> None:
    web(engine)
    run(command)
    warnings = engine.absent("one").warnings
    assert warnings == [f"netns:web stays, although nothing of ours needs it any more: {what}"]
    assert space("web")
    killed(lambda: engine.endpoint("two", netns="new"))
    run(command.replace("web", "new"))
    assert f"netns netns:new is left as it is: {what}" in recovered(engine)
    assert space("new") and "eth0" not in links("new")
    settled(engine)


def test_a_namespace_that_is_left_goes_later(engine: Engine, resident: Callable[[str], None]) -> None:
    engine.network("blue", parent="nica.10")
    killed(lambda: engine.endpoint("one", netns="web"))
    resident("web")
    assert "netns netns:web is left as it is: a process runs in it" in recovered(engine)
    assert "eth0" not in links("web")
    run("kill $(ip netns pids web)")
    engine.endpoint("two", netns="db")
    engine.absent("two")
    assert space("web") is None and engine.records("netns") == {}


def test_tunnels_that_the_kernel_makes_keep_no_namespace(engine: Engine, few_tunnels: Callable[[int], None]) -> None:
    run("ip link add x type gre remote 192.0.2.9; ip link del x")
    few_tunnels(0)
    web(engine)
    assert "gre0" in links("web")
    assert engine.absent("one").warnings == []
    assert space("web") is None


# --- addresses and routes ------------------------------------------------------------------------


def test_an_address_that_somebody_gave_our_link_during_the_run_stays(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.task("vlan", parent="nica", vlan_id=30)
    Meddler(monkeypatch, "ip addr add 10.30.0.1/24 dev nica.30")
    with pytest.raises(RolledBack):
        engine.task("vlan", parent="nica", vlan_id=30, addresses=["10.30.0.1/24"], adopt=False)
    assert host_addresses("nica.30") == ["10.30.0.1"]


def test_what_a_person_repaired_after_a_kill_stays(engine: Engine) -> None:
    engine.task("vlan", parent="nica", vlan_id=30, addresses=["10.30.0.1/24"])
    routes = [{"prefix": "10.99.0.0/16", "via": "10.31.0.254"}]
    killed(lambda: engine.map(links=[{"parent": "nicb", "vlan_id": 31, "addresses": ["10.31.0.1/24"]}],
                              routes=[{"name": "up", "routes": routes}]))  # fmt: skip
    run("ip link del nicb.31; ip link add link nicb name nicb.31 type vlan id 31; ip link set nicb.31 up; "
        "ip addr add 10.31.0.1/24 dev nicb.31; ip route add 10.99.0.0/16 via 10.31.0.254")  # fmt: skip
    recovered(engine)
    assert host_addresses("nicb.31") == ["10.31.0.1"]
    assert ip("route", "show", "10.99.0.0/16")
    settled(engine)


def test_an_address_that_a_person_gave_in_the_place_of_ours_stays(engine: Engine) -> None:
    killed(lambda: engine.task("vlan", parent="nica", vlan_id=30, addresses=["10.30.0.1/24"]))
    run("ip addr del 10.30.0.1/24 dev nica.30; ip addr add 10.30.0.1/24 dev nica.30")
    notes = recovered(engine)
    assert "link nica.30 is left as it is: it has the address 10.30.0.1/24" in notes
    assert "nica.30" in links()


def test_a_route_with_our_number_and_another_way_stays(engine: Engine) -> None:
    engine.task("vlan", parent="nica", vlan_id=30, addresses=["10.30.0.1/24"])
    routes = [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]
    killed(lambda: engine.task("routes", name="up", routes=routes))
    run("ip route replace 10.99.0.0/16 via 10.30.0.7 proto 201")
    recovered(engine)
    assert ip("route", "show", "10.99.0.0/16")[0]["gateway"] == "10.30.0.7"


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "ip link add theirs type vxlan id 7 dstport 4789 dev nica.10",
        "ip link add theirs type gre remote 192.0.2.9 local 192.0.2.8 dev nica.10",
        "ip link add theirs type ipip remote 192.0.2.9 local 192.0.2.8 dev nica.10",
        "ip link add theirs link nica.10 type macsec",
        pytest.param(
            "ip link add theirs type ip6tnl remote 2001:db8::9 local 2001:db8::8 dev nica.10", marks=needs_ipv6
        ),
        "ip link add theirs type bridge; ip link set nica.10 master theirs",
        "ip link add theirs type bond; ip link set nica.10 down; ip link set nica.10 master theirs",
        "ip netns add far; ip link add theirs type vxlan id 7 dstport 4789 dev nica.10; ip link set theirs netns far",
        *(["ip addr add fe80::1/64 dev nica.10"] if HAS_IPV6 else []),
    ],
)
def test_what_depends_on_a_sub_interface_keeps_it(
    engine: Engine, few_tunnels: Callable[[int], None], command: str
) -> None:
    engine.network("blue", parent="nica.10", **({"driver": "ipvlan", "mode": "l3"} if "fe80" in command else {}))
    if "fe80" in command:
        run("sysctl -qw net.ipv6.conf.nica/10.disable_ipv6=0")
    made = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
    if "not supported" in made.stderr or "Unknown device type" in made.stderr:
        pytest.skip(made.stderr)
    assert made.returncode == 0, made.stderr
    warnings = engine.task("network", "absent", name="blue").warnings
    assert any(text.startswith("nica.10 stays, although nothing of ours needs it any more: ") for text in warnings), (
        warnings
    )
    assert "nica.10" in links()
    if "theirs" in command:
        assert "theirs" in links("far" if "netns" in command else None)


def test_what_depends_on_a_link_of_the_host_keeps_all_that_is_under_it(engine: Engine) -> None:
    engine.network("blue", parent="nica.10", host_access=True)
    (way,) = [name for name in links() if name.startswith("ha-")]
    run(f"ip addr add 203.0.113.7/32 dev {way}")
    warnings = engine.task("network", "absent", name="blue").warnings
    assert [f"{name} stays, although nothing of ours needs it any more: {why}" for name, why in (
        (way, "it has the address 203.0.113.7/32"), ("nica.10", f"{way} in the host uses it")
    )] == warnings  # fmt: skip
    assert host_addresses(way) == ["203.0.113.7"]


def test_a_nic_that_was_set_up_and_is_in_use_stays_up(engine: Engine) -> None:
    run("ip link set nicb down")
    killed(lambda: engine.network("blue", parent="nicb.20"))
    run("ip addr add 198.51.100.2/24 dev nicb; ip route add default via 198.51.100.1")
    notes = recovered(engine)
    assert notes[1:] == [
        "link nicb is left as it is: stays up: it has the address 198.51.100.2/24, the route 0.0.0.0/0 uses it"
    ]
    assert "UP" in link("nicb")["flags"] and "nicb.20" not in links()
    assert ip("route", "show", "default")


def test_a_nic_that_was_set_up_and_is_not_in_use_goes_down_again(engine: Engine) -> None:
    run("ip link set nicb down")
    killed(lambda: engine.network("blue", parent="nicb.20"))
    assert "UP" in link("nicb")["flags"]
    recovered(engine)
    assert "UP" not in link("nicb")["flags"]


# --- object by object ----------------------------------------------------------------------------


def unconfirmed(engine: Engine, work: Callable[[transact.RunOptions], Any]) -> int:
    """A transaction that waits to be confirmed."""

    class Patient:
        timeout = 1000.0

        def arm(self, number: int) -> None:
            pass

        def disarm(self, number: int) -> None:
            pass

    work(transact.RunOptions(engine.state_dir, guard=Patient()))
    armed = Registry(engine.state_dir).armed()
    assert armed is not None
    return armed.number


def guarded_link(engine: Engine) -> int:
    from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
    from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge

    rows = {
        "name": "fabric",
        "links": [{"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]}],
        "networks": [
            {"name": "blue", "driver": "macvlan", "parent": "nicb.20", "subnets": [{"subnet": "192.0.2.0/24"}]}
        ],
        "endpoints": [{"network": "blue", "name": "one", "netns": "web"}],
        "routes": [{"name": "up", "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]}],
    }
    return unconfirmed(engine, lambda options: converge.converge(model.declare_map(rows), options))


def test_a_guard_fires_where_a_stranger_stands(engine: Engine, resident: Callable[[str], None]) -> None:
    number = guarded_link(engine)
    run("ip link add link nica.30 name theirs type macvlan mode bridge")
    resident("web")
    options = transact.RunOptions(engine.state_dir, who="a test")
    assert guard.expire(number, Registry(engine.state_dir), options)
    assert "theirs" in links() and "nicb.20" not in links()
    assert host_addresses("nica.30") == []
    assert not ip("route", "show", "10.99.0.0/16")
    assert "eth0" not in links("web")
    assert set(options.notes[1:]) == {
        "link nica.30 is left as it is: theirs in the host uses it",
        "netns netns:web is left as it is: a process runs in it",
    }
    registry = Registry(engine.state_dir)
    assert registry.armed() is None
    assert [found.state for found in registry.transactions()] == ["applied", "undone"]
    settled(engine)
    assert not any(engine.records(kind) for kind in ("vlan", "network", "endpoint", "routes", "address", "route"))


def test_what_the_guard_undid_can_be_had_again(engine: Engine) -> None:
    number = guarded_link(engine)
    assert guard.expire(number, Registry(engine.state_dir), transact.RunOptions(engine.state_dir))
    assert not {"nica.30", "nicb.20"} & set(links())
    settled(engine)
    turn(engine, number + 1)
    assert {"nica.30", "nicb.20"} <= set(links())
    settled(engine)


def test_one_object_that_cannot_go_keeps_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails, and the kernel refuses for good to take one of its addresses back."""
    batch = Socket.batch

    def refuse(kernel: Socket, messages: Any) -> List[Failure]:
        failures = []
        for position, message in enumerate(messages):
            made = message.type == RTM_NEWADDR and b"\x0a\x1f\x00\x01" in message.body
            gone = message.type == RTM_NEWADDR + 1 and b"\x0a\x1e\x00\x01" in message.body
            if made or gone:
                failures.append(Failure(position, errno.EIO, "injected"))
            else:
                failures += [failure._replace(position=position) for failure in batch(kernel, (message,))]
        return failures

    engine.task("vlan", parent="nica", vlan_id=30)
    monkeypatch.setattr(Socket, "batch", refuse)
    rows = [{"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]},
            {"parent": "nicb", "vlan_id": 31, "addresses": ["10.31.0.1/24"]}]  # fmt: skip
    with pytest.raises(RollbackFailed, match=r"Not all of it could be undone: address nica.30 10.30.0.1/24"):
        engine.map(links=rows, adopt=True)
    assert "nicb.31" not in links()
    monkeypatch.setattr(Socket, "batch", batch)
    recovered(engine)
    assert host_addresses("nica.30") == []
    settled(engine)


def test_a_boot_after_an_unconfirmed_removal_brings_everything_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removed network comes back, as soon as its NIC is there, and what stayed at once."""
    from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
    from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, restore
    from ansible_collections.netops.underlay.plugins.module_utils._engine.store import statedir

    networks = [
        {"name": name, "driver": "macvlan", "parent": parent, "subnets": [{"subnet": subnet}]}
        for name, parent, subnet in (("one", "nica.10", "10.1.0.0/24"), ("two", "nicb.20", "10.2.0.0/24"))
    ]
    engine.map(networks=networks)
    declared = model.declare_map({"name": "fabric", "networks": networks[:1], "purge": True})
    unconfirmed(engine, lambda options: converge.converge(declared, options))
    assert "nicb.20" not in links()
    run("ip link del nica.10; ip link set nica down; ip link set nicb down")
    monkeypatch.setattr(statedir, "boot", lambda: "another")
    options = transact.RunOptions(engine.state_dir, who="a test")
    found = restore.restore(options, restore.RestoreScope())
    assert {(left.key, left.why) for left in found.left} == {
        ("nica.10", "waits for nica, which is down"), ("nicb.20", "waits for nicb, which is down"),
    }  # fmt: skip
    assert options.notes == ["transaction 2 had not been confirmed and was undone first"]
    run("ip link set nica up")
    restore.restore(options, restore.RestoreScope())
    assert "nica.10" in links() and "nicb.20" not in links()
    run("ip link set nicb up")
    assert restore.restore(options, restore.RestoreScope()).left == []
    assert {"nica.10", "nicb.20"} <= set(links())
    settled(engine)


def test_a_second_registry_on_the_host_takes_nothing_of_the_first(engine: Engine, tmp_path: Path) -> None:
    engine.network("blue", parent="nica.10")
    other = Engine(str(tmp_path / "other"))
    for check in (True, False):
        with pytest.raises(OtherRegistry, match=engine.state_dir):
            other.task("vlan", adopt=True, check=check, parent="nica", vlan_id=10)
    with pytest.raises(OtherRegistry, match=engine.state_dir):
        restore.restore(transact.RunOptions(other.state_dir))
    settled(engine)
    engine.task("network", "absent", name="blue")
    other.task("vlan", parent="nica", vlan_id=10)
    assert "nica.10" in links()
