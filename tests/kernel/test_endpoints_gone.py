# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads that end while they are attached, at each step; and links that somebody put in the place of ours."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import hosts, namespaces, space
from ansible_collections.netops.underlay.plugins.module_utils._engine.converge import Undone
from ansible_collections.netops.underlay.plugins.module_utils._engine.fields import Refusal
from ansible_collections.netops.underlay.plugins.module_utils._engine.rtnetlink import Socket
from conftest import HAS_IPV6, ip, links, run
from play import Engine, addresses, until
from test_faults import Points
from test_restore import picture

DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]

pytestmark = pytest.mark.usefixtures("trunk")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    yield Engine(str(tmp_path / "state"))
    run("rm -rf /etc/netns")


class Steps(Points):
    """Only those at which a workload matters: each message to the kernel, sysctl, system call on a namespace and hosts file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start(-1, lambda: None)
        for where, name in ((space, "_write"), (namespaces, "_call"), (namespaces, "resolve"), (hosts, "write")):
            monkeypatch.setattr(where, name, self._before(getattr(where, name)))
        monkeypatch.setattr(Socket, "batch", self._batch(Socket.batch))


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


@pytest.mark.slow
def test_a_process_that_ends_at_every_step(engine: Engine, steps: Steps) -> None:
    engine.network(subnets=DUAL, host_access=True)
    engine.endpoint("two")
    before, records = picture(), {kind: engine.records(kind) for kind in ("link", "address", "route", "hosts", "endpoint")}
    undone = finished = 0
    for number in itertools.count(1):
        with process() as found:

            def end() -> None:
                found.kill()
                found.wait()

            steps.start(number, end)
            try:
                engine.endpoint("one", pid=found.pid)
            except (Refusal, Undone) as error:
                steps.start(-1, lambda: None)
                assert f"pid:{found.pid}: there is no such process" in str(error), (number, error)
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
    print(f"ended at {number - 1} steps; {undone} undone, {finished} finished")
    assert number > 30 and undone > finished > 0
    assert engine.absent("one").changed and picture() == before
    assert [name for name in links() if name.startswith("nu")] == []


# --- others in our place -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["macvlan", "dummy"])
def test_a_strangers_link_in_the_place_of_ours_stays(engine: Engine, kind: str) -> None:
    """As in a container that was made anew, on a network of its engine's, which calls its links ethN too."""
    run("ip netns add one")
    engine.network()
    (address,) = engine.endpoint("one")["addresses"]
    run(f"ip -n one link del eth0; ip link add {'link trunk.10' if kind == 'macvlan' else ''} name eth0 netns one type {kind}")
    run(f"ip -n one addr add {address} dev eth0; ip -n one link set eth0 up")
    check = engine.absent("one", check=True)
    outcome = engine.absent("one")
    assert outcome.changes == check.changes and outcome.warnings == ["netns:one/eth0 does not bear our mark any more, so it stays and is forgotten"]
    assert links("one") == ["eth0"] and addresses("eth0", "one") == [address]
    assert engine.records("link").keys() == {"trunk.10"} and engine.records("address") == {}
    assert engine.endpoint("two")["addresses"] == ([address] if kind == "dummy" else ["192.0.2.2/24"])


def test_a_strangers_sub_interface_in_the_place_of_ours_stays(engine: Engine) -> None:
    engine.network()
    engine.task("vlan", parent="trunk", vlan_id=20, addresses=["198.51.100.1/24"])
    for number in (10, 20):
        run(f"ip link del trunk.{number}; ip link add link trunk name trunk.{number} type vlan id {number}")
    run("ip addr add 198.51.100.1/24 dev trunk.20")
    for outcome, name in (
        (engine.task("network", "absent", name="blue"), "trunk.10"), (engine.task("vlan", "absent", name="trunk.20"), "trunk.20"),
    ):  # fmt: skip
        assert outcome.warnings == [f"{name} does not bear our mark any more, so it stays and is forgotten"]
        assert name in links()
    assert engine.records("link") == engine.records("address") == {}
    assert ip("addr", "show", "dev", "trunk.20")[0]["addr_info"][0]["local"] == "198.51.100.1"
