# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads that end while they are attached, at each step; and links that somebody put in the place of ours."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import socket
import subprocess
from typing import Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, RolledBack
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespaces
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact

from tests.support.engine import Engine
from tests.support.fault_points import Steps
from tests.support.host_picture import picture
from tests.support.network_host import HAS_IPV6, ip, links, run
from tests.support.traffic import addresses, reachable, reaches
from tests.support.waiting import until

DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@contextlib.contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One with a namespace of its own, which nothing else holds."""
    with subprocess.Popen(["unshare", "-n", "sleep", "600"]) as found:
        try:
            until(lambda: os.stat(f"/proc/{found.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
            yield found
        finally:
            found.kill()


def end(found: subprocess.Popen[bytes]) -> None:
    found.kill()
    found.wait()


@contextlib.contextmanager
def namespace() -> Iterator[None]:
    """One of others, with a name."""
    run("ip netns add one")
    yield
    run("ip netns del one 2>/dev/null || true")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "namespace"])
def test_a_workload_that_ends_at_every_step(engine: Engine, steps: Steps, kind: str) -> None:
    engine.network(subnets=DUAL, host_access=True)
    engine.endpoint("two")
    before, records = (
        picture(),
        {kind: engine.records(kind) for kind in ("link", "address", "route", "hosts", "endpoint")},
    )
    undone = finished = 0
    for number in itertools.count(1):
        with process() if kind == "process" else namespace() as found:
            workload, why = {"netns": "one"}, "netns:one no longer exists, it ended while it was attached"
            if found:
                workload, why = {"pid": found.pid}, f"pid:{found.pid}: there is no such process"
            steps.start(number, functools.partial(end, found) if found else functools.partial(run, "ip netns del one"))
            try:
                engine.endpoint("one", **workload)
            except (InputError, RolledBack) as error:
                steps.start(-1, lambda: None)
                assert why in str(error), (number, error)
                undone += 1
            else:
                passed = steps.passed
                steps.start(-1, lambda: None)
                if passed < number:
                    break
                assert engine.records("endpoint")["blue/one"]["addresses"][0] == "192.0.2.4/24", number
                engine.absent("one")
                finished += 1
        assert not engine.pending() and {kind: engine.records(kind) for kind in records} == records, number
        assert picture() == before, number
    print(f"{kind}: ended at {number - 1} steps; {undone} undone, {finished} finished")
    assert number > 30 and undone > finished > 0
    assert engine.absent("one").changed and picture() == before
    assert [name for name in links() if name.startswith("nu")] == []


@pytest.mark.parametrize("goes", ["absent", "attached anew"])
def test_a_link_in_a_namespace_that_only_a_socket_keeps(engine: Engine, goes: str) -> None:
    """As where a container ended with a connection that is still being closed: nothing can enter it, and its link still answers."""
    engine.network(subnets=DUAL)
    engine.endpoint("two")
    with process() as found:
        engine.endpoint("one", pid=found.pid)
        with namespaces.entered(f"/proc/{found.pid}/ns/net"):
            held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with held, process() as other:
        until(lambda: not os.path.exists(f"/proc/{found.pid}"))
        assert reachable("ip netns exec two", "192.0.2.3")
        if goes == "absent":
            check = engine.task("endpoint", "absent", network="blue", name="one", check=True)
            assert engine.absent("one").changes == check.changes
            assert not reaches("ip netns exec two", "192.0.2.3") and not engine.absent("one").changed
            assert [key for key in engine.records("link") if key.startswith("pid:")] == []
        else:
            engine.endpoint("one", pid=other.pid)
            assert reachable("ip netns exec two", "192.0.2.3")
            assert reachable(f"nsenter -t {other.pid} -n", "192.0.2.2")


def test_a_maps_purge_drops_the_leases_of_the_gone_and_takes_no_address_of_the_living(engine: Engine) -> None:
    network = {
        "name": "blue",
        "driver": "macvlan",
        "parent": "trunk.10",
        "subnets": [{"subnet": "192.0.2.0/24", "gateway": "none"}],
    }
    with process() as one, process() as two:
        rows = [{"network": "blue", "name": name, "pid": found.pid} for name, found in (("one", one), ("two", two))]
        engine.map(networks=[network], endpoints=rows, purge=True)
        engine.endpoint("three")  # of a task of its own
        end(one)
        engine.map(networks=[network], endpoints=rows[1:])
        assert engine.endpoint("four")["addresses"] == ["192.0.2.4/24"]  # without purge the lease stays
        engine.map(networks=[network], endpoints=rows[1:], purge=True)
        held = {key: spec["addresses"] for key, spec in engine.records("endpoint").items()}
        assert held == {"blue/two": ["192.0.2.2/24"], "blue/three": ["192.0.2.3/24"], "blue/four": ["192.0.2.4/24"]}
        assert not [
            key for kind in ("link", "address", "route") for key in engine.records(kind) if f"pid:{one.pid}" in key
        ]
        assert engine.endpoint("five")["addresses"] == ["192.0.2.1/24"]
        # one that lives is no lease to be dropped: it goes as a whole, and its address is free because it is gone
        engine.map(networks=[network], purge=True)
        assert "eth0" not in run(f"nsenter -t {two.pid} -n ip -o link")
        assert addresses("eth0", "three") == ["192.0.2.3/24"] and engine.endpoint("six")["addresses"] == [
            "192.0.2.2/24"
        ]


# --- others in our place -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["macvlan", "dummy"])
def test_a_strangers_link_in_the_place_of_ours_stays(engine: Engine, kind: str) -> None:
    """As in a container that was recreated, on a network of its engine's, which calls its links ethN too."""
    run("ip netns add one")
    engine.network()
    (address,) = engine.endpoint("one")["addresses"]
    run(
        f"ip -n one link del eth0; ip link add {'link trunk.10' if kind == 'macvlan' else ''} name eth0 netns one type {kind}"
    )
    run(f"ip -n one addr add {address} dev eth0; ip -n one link set eth0 up")
    check = engine.absent("one", check=True)
    outcome = engine.absent("one")
    assert outcome.changes == check.changes and outcome.warnings == [
        "netns:one/eth0 no longer has our mark: left in place, dropped from the registry"
    ]
    assert links("one") == ["eth0"] and addresses("eth0", "one") == [address]
    assert engine.records("link").keys() == {"trunk.10"} and engine.records("address") == {}
    assert engine.endpoint("two")["addresses"] == ([address] if kind == "dummy" else ["192.0.2.2/24"])


def test_the_service_gives_a_strangers_link_nothing_of_ours(engine: Engine) -> None:
    run("ip netns add one")
    engine.network(subnets=[{"subnet": "192.0.2.0/24"}])
    engine.task("vlan", parent="trunk", vlan_id=20, addresses=["198.51.100.1/24"])
    engine.endpoint("one")
    run("""
        ip -n one link del eth0; ip link add link trunk.10 name eth0 netns one type macvlan; ip -n one link set eth0 up
        ip link del trunk.20; ip link add link trunk name trunk.20 type vlan id 20; ip link set trunk.20 up
    """)
    before = picture()
    found = restore.restore(transact.RunOptions(engine.state_dir))
    assert picture() == before and found.done == []
    left = {left.key: left.why for left in found.left}
    assert (
        left["netns:one/eth0 192.0.2.2/24"]
        == left["netns:one/0.0.0.0/0 table 254 metric 0"]
        == "netns:one/eth0 no longer has our mark"
    )
    assert left["trunk.20 198.51.100.1/24"] == "trunk.20 no longer has our mark"


def test_a_strangers_sub_interface_in_the_place_of_ours_stays(engine: Engine) -> None:
    engine.network()
    engine.task("vlan", parent="trunk", vlan_id=20, addresses=["198.51.100.1/24"])
    for number in (10, 20):
        run(f"ip link del trunk.{number}; ip link add link trunk name trunk.{number} type vlan id {number}")
    run("ip addr add 198.51.100.1/24 dev trunk.20")
    for outcome, name in (
        (engine.task("network", "absent", name="blue"), "trunk.10"), (engine.task("vlan", "absent", name="trunk.20"), "trunk.20"),
    ):  # fmt: skip
        assert outcome.warnings == [f"{name} no longer has our mark: left in place, dropped from the registry"]
        assert name in links()
    assert engine.records("link") == engine.records("address") == {}
    assert ip("addr", "show", "dev", "trunk.20")[0]["addr_info"][0]["local"] == "198.51.100.1"
