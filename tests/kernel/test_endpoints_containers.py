# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of containers, with Podman and a Docker daemon really running."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, RolledBack
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import (
    containers,
    foreign_file,
    libc,
    namespaces,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, restore_plan, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.checkout import CHECKOUT
from tests.support.container_engines import pid_of, podman_answers, remove_all, within
from tests.support.engine import Engine
from tests.support.fault_points import Steps, in_child
from tests.support.network_host import HAS_IPV6, fresh_host, ip, run
from tests.support.service import Service
from tests.support.traffic import reachable
from tests.support.waiting import until

DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]
ENGINES = ["docker", "podman"]
REMOVE = {"docker": "docker rm -f", "podman": "podman rm -f -t 0"}

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def host() -> Iterator[None]:
    """One host for all: the daemon and what it keeps are slow to start."""
    with fresh_host():
        run("ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up")
        run(f"{CHECKOUT}/tests/lab/dockerd start; podman import -q /opt/images/busybox.tar busybox 2>/dev/null")
        try:
            with podman_answers():
                yield
        finally:
            run(f"{CHECKOUT}/tests/lab/dockerd stop")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """What a test made is gone afterwards: the containers, then what they were attached to."""
    yield (engine := Engine(str(tmp_path / "state")))
    for kind in ENGINES:
        remove_all(kind)
    for row in engine.records("endpoint").values():
        engine.absent(row["name"], row["network"])
    for name in engine.records("network"):
        engine.task("network", "absent", name=name)
    assert [row["ifname"] for row in ip("link", "show", "group", "8021")] == []
    run("rm -rf /etc/netns; ip netns del stranger 2>/dev/null || true")


def start(kind: str, name: str, *options: str) -> Dict[str, Any]:
    """A container that does nothing, on no network unless one is given; the workload that it is."""
    options = options if any(option.startswith("--net") for option in options) else ("--network=none", *options)
    command = [kind, "run", "-d", "--name", name, "--cap-add=NET_RAW", *options, "busybox", "sleep", "3600"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"container": {"engine": kind, "name": name}}


def inside(kind: str, name: str, command: str) -> str:
    return run(f"{within(kind, name)} {command}")


def shown(kind: str, name: str, dev: str = "eth0") -> Dict[str, Any]:
    """A link of a container, with its addresses, as the kernel has it."""
    found: List[Dict[str, Any]] = json.loads(run(f"{within(kind, name, '--net')} ip -d -j addr show dev {dev}"))
    return found[0]


def names(kind: str, name: str) -> List[str]:
    return sorted(row["ifname"] for row in json.loads(run(f"{within(kind, name, '--net')} ip -j link")))


def held(kind: str, name: str, dev: str = "eth0") -> List[str]:
    return [
        f"{row['local']}/{row['prefixlen']}" for row in shown(kind, name, dev)["addr_info"] if row["scope"] == "global"
    ]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_containers_and_namespaces_of_a_network_see_each_other_by_name(engine: Engine, driver: str) -> None:
    engine.network(driver=driver, subnets=DUAL)
    engine.endpoint("web", **start("docker", "web"), aliases=["www"])
    engine.endpoint("db", **start("podman", "db"), aliases=["sql"])
    engine.endpoint("one")
    for ping in (within("docker", "web"), within("podman", "db"), "ip netns exec one"):
        for target in ("web", "www", "db", "sql", "one"):
            assert reachable(ping, target), (ping, target)
    if HAS_IPV6:
        assert reachable(within("docker", "web"), "2001:db8::3") and reachable(within("podman", "db"), "2001:db8::2")
        assert "2001:db8::3\tdb sql\n" in inside("docker", "web", "cat /etc/hosts")
    assert held("docker", "web")[0] == "192.0.2.2/24" and held("podman", "db")[0] == "192.0.2.3/24"
    for name, kind in (("web", "docker"), ("db", "podman")):
        engine.same(name, container={"engine": kind, "name": name}, aliases=["www"] if name == "web" else ["sql"])
    before = inside("docker", "web", "cat /etc/hosts")
    engine.absent("db")
    after = inside("docker", "web", "cat /etc/hosts")
    assert "sql" in before and "sql" not in after and "localhost" in after
    assert "netops.underlay" not in inside("podman", "db", "cat /etc/hosts")


@pytest.mark.parametrize("kind", ENGINES)
def test_restarted_it_is_who_it_was_and_stopped_it_is_refused(engine: Engine, kind: str) -> None:
    engine.network(subnets=DUAL)
    workload = start(kind, "web")
    first = engine.endpoint("web", **workload)
    engine.endpoint("one")
    mac, addresses = shown(kind, "web")["address"], held(kind, "web")
    run(f"{kind} restart -t 0 web >/dev/null")
    until(lambda: inside(kind, "web", "echo up").strip() == "up")
    assert "netops.underlay" not in inside(kind, "web", "cat /etc/hosts")
    check = engine.task("endpoint", check=True, network="blue", name="web", **workload)
    assert any(change.kind == "link" for change in check.changes)
    assert engine.endpoint("web", **workload) == first
    assert (shown(kind, "web")["address"], held(kind, "web")) == (mac, addresses)
    assert reachable(within(kind, "web"), "one") and reachable("ip netns exec one", "web")
    engine.same("web", **workload)
    run(f"{kind} stop -t 0 web >/dev/null")
    with pytest.raises(InputError, match=rf"container: the {kind} container web is not running .*; start it first"):
        engine.endpoint("web", **workload)
    with pytest.raises(InputError, match=f"container: there is no {kind} container missing"):
        engine.endpoint("missing", container={"engine": kind, "name": "missing"})
    engine.network(subnets=DUAL, mtu=1400)  # a member that is stopped does not prevent that
    assert engine.records("endpoint")["blue/web"]["addresses"] == addresses
    run(f"{kind} start web >/dev/null")
    assert engine.endpoint("web", **workload)["addresses"] == addresses and shown(kind, "web")["mtu"] == 1400
    run(f"{REMOVE[kind]} web >/dev/null")
    assert engine.absent("web").changed
    assert not [key for key in engine.records("link") if "web" in key]


def all_records(engine: Engine) -> Dict[str, Any]:
    return {kind: engine.records(kind) for kind in ("link", "address", "route", "hosts", "netns", "endpoint")}


@pytest.mark.parametrize("kind", ENGINES)
def test_renamed_it_is_attached_by_its_new_name_and_by_no_other(engine: Engine, kind: str) -> None:
    engine.network(driver="macvlan" if kind == "docker" else "ipvlan", subnets=DUAL)
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    workload = start(kind, "web")
    first = engine.endpoint("web", **workload)
    engine.endpoint("web", "red", **workload)
    engine.endpoint("one")
    before, page = shown(kind, "web"), inside(kind, "web", "cat /etc/hosts")
    run(f"{kind} rename web shop")
    records = all_records(engine)
    lives = rf"blue/web lives on as eth0 in .+, while {kind}:web is gone or was replaced; if it was renamed, attach it by its new name first"
    with pytest.raises(
        InputError, match=rf"container: there is no {kind} container web; start it first, or correct the name"
    ) as refused:
        engine.endpoint("web", **workload)
    assert "container: blue/web lives on as eth0 in " in str(refused.value)
    for state in ("absent", "released"):
        with pytest.raises(InputError, match=f"name: {lives}"):
            engine.task("endpoint", state, network="blue", name="web")
    assert all_records(engine) == records and held(kind, "shop")[0] == "192.0.2.2/24"
    assert engine.endpoint("two")["addresses"][0] == "192.0.2.4/24"
    engine.absent("two")
    renamed = {"container": {"engine": kind, "name": "shop"}}
    for network in ("blue", "red"):
        found = engine.endpoint("web", network, **renamed)
        assert found == engine.records("endpoint")[f"{network}/web"]
        engine.same("web", network, **renamed)
    assert engine.records("endpoint")["blue/web"] == {**first, "workload": f"{kind}:shop"}
    after = shown(kind, "shop")
    assert (after["ifindex"], after["address"]) == (before["ifindex"], before["address"]) and held(
        kind, "shop"
    ) == first["addresses"]
    assert names(kind, "shop") == ["eth0", "eth1", "lo"] and inside(kind, "shop", "cat /etc/hosts") == page
    assert not [key for found in all_records(engine).values() for key in found if f"{kind}:web" in key]
    assert reachable(within(kind, "shop"), "one") and reachable("ip netns exec one", "web")
    run(f"{kind} restart -t 0 shop >/dev/null")
    until(lambda: inside(kind, "shop", "echo up").strip() == "up")
    assert (
        engine.endpoint("web", **renamed)["addresses"] == first["addresses"]
        and shown(kind, "shop")["address"] == before["address"]
    )
    assert engine.absent("web", "red").changed and engine.absent("web").changed
    assert names(kind, "shop") == ["lo"]


@pytest.mark.parametrize("kind", ENGINES)
def test_its_old_name_is_taken_by_another(engine: Engine, kind: str) -> None:
    """As people do to go back to the old version if the new one fails."""
    engine.network(subnets=DUAL)
    workload = start(kind, "web")
    first = engine.endpoint("web", **workload)
    run(f"{kind} rename web web-old")
    start(kind, "web")
    records = all_records(engine)
    with pytest.raises(
        InputError, match=rf"container: blue/web lives on as eth0 in .+, while {kind}:web is gone or was replaced"
    ):
        engine.endpoint("web", **workload)
    with pytest.raises(InputError, match="name: blue/web lives on as eth0 in "):
        engine.absent("web")
    found = restore.restore(transact.RunOptions(engine.state_dir))  # nor does the service take it away
    assert not [one for one in found.done if one.kind == "link"] and any(
        "lives on as eth0 in" in left.why for left in found.left
    )
    assert all_records(engine) == records and names(kind, "web") == ["lo"] and names(kind, "web-old") == ["eth0", "lo"]
    run(f"{REMOVE[kind]} web-old >/dev/null")
    assert engine.endpoint("web", **workload) == first and held(kind, "web") == first["addresses"]


@pytest.mark.parametrize("kind", ENGINES)
def test_restarted_beside_a_container_that_shares_its_namespace(engine: Engine, kind: str) -> None:
    """The other keeps the old namespace, and with it our link, which follows its owner."""
    engine.network(driver="macvlan" if kind == "docker" else "ipvlan", subnets=DUAL)
    workload = start(kind, "web")
    start(kind, "side", "--network=container:web")
    first = engine.endpoint("web", **workload)
    mac = shown(kind, "web")["address"]
    assert names(kind, "side") == ["eth0", "lo"]
    for state in ("service", "absent") if kind == "podman" else ("present", "released"):
        run(f"{kind} restart -t 0 web >/dev/null")
        until(lambda: inside(kind, "web", "echo up").strip() == "up")
        assert names(kind, "web") == ["lo"] and names(kind, "side") == ["eth0", "lo"]
        if state == "service":
            assert restore.restore(transact.RunOptions(engine.state_dir)).left == []
        elif state == "present":
            assert engine.endpoint("web", **workload) == first
        else:
            engine.task("endpoint", state, network="blue", name="web")
        assert names(kind, "side") == ["lo"]
        if state in ("service", "present"):
            assert held(kind, "web") == first["addresses"] and shown(kind, "web")["address"] == mac
            engine.same("web", **workload)
        else:
            assert "blue/web" not in engine.records("endpoint")
            assert engine.endpoint("web", **workload)["addresses"] == first["addresses"]
        run(f"{kind} restart -t 0 side >/dev/null")  # it joins where its owner is now
        until(lambda: names(kind, "side") == ["eth0", "lo"])


@pytest.mark.parametrize("kind", ENGINES)
def test_removed_behind_our_back_it_keeps_its_address_for_the_next_of_its_name(engine: Engine, kind: str) -> None:
    engine.network(subnets=DUAL, host_access=True)
    workload = start(kind, "web")
    first = engine.endpoint("web", **workload)
    run(f"{REMOVE[kind]} web >/dev/null")
    until(
        lambda: (
            not [
                row
                for row in ip("link", "show")
                if row.get("link") == "trunk.10" and not row["ifname"].startswith("ha-")
            ]
        )
    )
    with pytest.raises(
        InputError, match=rf"container: there is no {kind} container web; start it first, or correct the name"
    ):
        engine.endpoint("web", **workload)
    assert engine.endpoint("one")["addresses"][0] != first["addresses"][0]  # the lease is kept
    assert "web" in Path("/etc/netns/one/hosts").read_text(encoding="utf-8")
    start(kind, "web")
    assert engine.endpoint("web", **workload) == first and held(kind, "web") == first["addresses"]
    assert reachable("", first["addresses"][0].partition("/")[0])
    run(f"{REMOVE[kind]} web >/dev/null")
    assert engine.task("endpoint", "released", network="blue", name="web").changed
    assert not [key for found in all_records(engine).values() for key in found if "web" in key]
    assert "web" not in Path("/etc/netns/one/hosts").read_text(encoding="utf-8")
    assert first["addresses"][0].partition("/")[0] not in [row["dst"] for row in ip("route", "show")]


@pytest.mark.parametrize("kind", ENGINES)
def test_killed_while_it_is_attached(engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """At moments from the first look to the last message; its engine hears of it later than the kernel."""
    engine.network(subnets=DUAL, host_access=True)
    engine.endpoint("one")
    steps, workload = Steps(monkeypatch), start(kind, "web")
    steps.start(-1, lambda: None)
    first = engine.endpoint("web", **workload)
    last = steps.passed
    engine.absent("web")
    before = all_records(engine)
    outcomes = []
    for number in (2, last // 4, last // 2, 3 * last // 4, last):
        pid = pid_of(kind, "web")
        steps.start(number, lambda: os.kill(pid, signal.SIGKILL))  # noqa: B023
        try:
            found = engine.endpoint("web", **workload)
        except (RolledBack, InputError) as error:
            assert re.search(
                f"the {kind} container web is not running|{kind}:web: there is no such process|{kind}:web went away",
                str(error),
            ), error
            outcomes.append("undone")
            assert all_records(engine) == before
        else:
            outcomes.append("finished")
            assert found == first and engine.records("endpoint")["blue/web"] == first
        steps.start(-1, lambda: None)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # this run took fewer steps than the first, and was over before
        assert not engine.pending()
        assert until(lambda: not os.path.exists(f"/proc/{pid}"))  # noqa: B023
        run(f"{kind} start web >/dev/null")
        assert "eth0" not in names(kind, "web")
    print(kind, last, outcomes)
    assert outcomes[0] == "undone"
    assert engine.endpoint("web", **workload) == first and held(kind, "web") == first["addresses"]
    assert reachable(within(kind, "web"), "one") and reachable("", first["addresses"][0].partition("/")[0])


@pytest.mark.parametrize("kind", ENGINES)
def test_a_container_of_two_networks_and_its_way_out(engine: Engine, kind: str) -> None:
    engine.network("blue", subnets=DUAL)
    engine.network(
        "red", "ipvlan", parent="trunk.20", subnet="198.51.100.0/24", subnets=[{"subnet": "198.51.100.0/24"}]
    )
    workload = start(kind, "web")
    assert engine.endpoint("web", "blue", **workload)["interface"] == "eth0"
    assert engine.endpoint("web", "red", **workload, gw_priority=1)["interface"] == "eth1"
    assert "default via 198.51.100.1 dev eth1" in inside(kind, "web", "ip route")
    assert engine.absent("web", "red").changed
    assert "default via 192.0.2.1 dev eth0" in inside(kind, "web", "ip route")


def test_beside_dockers_own_networks(engine: Engine) -> None:
    """On a VLAN that Docker's driver shares, and in a container that Docker gives networks later."""
    run("ip link add link trunk name trunk.10 type vlan id 10; ip link set trunk.10 up")
    run(
        "docker network create -d macvlan --subnet 192.0.2.0/24 --ip-range 192.0.2.128/25 -o parent=trunk.10 theirs >/dev/null"
    )
    run("docker network create -d macvlan --subnet 198.51.100.0/24 -o parent=trunk.20 more >/dev/null")
    run("docker network create -d macvlan --subnet 203.0.113.0/24 -o parent=trunk.30 later >/dev/null")
    try:
        start("docker", "stranger", "--network=theirs", "--ip=192.0.2.2")
        engine.network()
        found = engine.endpoint("web", **start("docker", "web", "--network=more"))
        assert found["interface"] == "net0" and found["addresses"] == ["192.0.2.1/24"]
        assert engine.endpoint("one")["addresses"] == ["192.0.2.3/24"]  # Docker's own has .2
        assert reachable(within("docker", "web"), "192.0.2.2") and reachable(within("docker", "stranger"), "192.0.2.1")
        assert reachable("ip netns exec one", "192.0.2.2") and reachable(within("docker", "stranger"), "192.0.2.3")
        run("docker network connect later web")
        assert names("docker", "web") == ["eth0", "eth1", "lo", "net0"]
        engine.same("web", container={"engine": "docker", "name": "web"})
        run("docker network disconnect later web")
        assert reachable(within("docker", "web"), "one")
    finally:
        run("docker rm -f stranger web >/dev/null; docker network rm theirs more later >/dev/null")
        engine.absent("web"), engine.absent("one"), engine.task("network", "absent", name="blue")
        assert "trunk.10" in [row["ifname"] for row in ip("link", "show")]  # it was there before us
        run("ip link del trunk.10")


def test_beside_podmans_own_networks(engine: Engine) -> None:
    run("podman network create -d macvlan -o parent=trunk --subnet 198.51.100.0/24 --disable-dns theirs >/dev/null")
    run("podman network create -d macvlan -o parent=trunk --subnet 203.0.113.0/24 --disable-dns more >/dev/null")
    try:
        engine.network()
        found = engine.endpoint("web", **start("podman", "web", "--network=theirs"))
        assert found["interface"] == "net0"
        run("podman network connect more web")
        assert names("podman", "web") == ["eth0", "eth1", "lo", "net0"]
        engine.same("web", container={"engine": "podman", "name": "web"})
    finally:
        run("podman rm -f -t 0 web >/dev/null; podman network rm theirs more >/dev/null")


def test_attached_before_the_container_starts(engine: Engine) -> None:
    """podman run --network ns: on a namespace of ours; with the names, by mounting its hosts file."""
    engine.network(subnets=DUAL)
    engine.endpoint("db")
    engine.endpoint("web", aliases=["www"])
    options = "--network ns:/run/netns/web -v /etc/netns/web/hosts:/etc/hosts:ro --cap-add=NET_RAW busybox"
    assert "inet 192.0.2.3/24" in run(f"podman run --rm {options} ip addr show eth0")
    assert run(f"podman run --rm {options} ping -c 1 -W 20 db >/dev/null && echo yes") == "yes\n"
    run(f"podman run -d --name late {options.replace('busybox', 'busybox sleep 3600')} >/dev/null")
    engine.endpoint("later")
    assert reachable(within("podman", "late"), "later")  # the file is the same one
    outcome = engine.absent("web")
    assert "netns:web stays, although nothing of ours needs it any more: a process runs in it" in outcome.warnings
    run("podman rm -f -t 0 late >/dev/null")
    engine.absent("later")
    assert sorted(row["name"] for row in ip("netns", "list")) == ["db"]


HOSTILE = {
    "absolute link": ("ln -s /victim /etc/hosts", "a symbolic link is on the way to it"),
    "climbing link": ("ln -s ../../../../../../victim /etc/hosts", "a symbolic link is on the way to it"),
    "link to proc": ("ln -s /proc/sys/kernel/core_pattern /etc/hosts", "a symbolic link is on the way to it"),
    "magic link": ("ln -s /proc/1/root/victim /etc/hosts", "a symbolic link is on the way to it"),
    "file of another user": ("touch /etc/hosts; chown 5 /etc/hosts", "it does not belong to the container's root"),
    "pipe": ("mkfifo /etc/hosts", "it is not a regular file"),
    "device": ("mknod /etc/hosts c 1 8", "it is not a regular file"),
    "directory": ("mkdir /etc/hosts", "it is not a regular file"),
    "nothing": ("true", "it has no /etc/hosts"),
}


def test_a_hostile_hosts_file_never_reaches_the_host(engine: Engine) -> None:
    victim = Path("/victim")
    victim.write_text("untouched\n", encoding="utf-8")
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii")
    own = Path("/etc/hosts").read_text(encoding="utf-8")
    engine.network()
    workload = start("podman", "evil", "--no-hosts", "--cap-add=MKNOD")
    try:
        for what, (command, why) in HOSTILE.items():
            inside("podman", "evil", f"sh -c 'rm -rf /etc/hosts; {command}'")
            outcome = engine.task("endpoint", network="blue", name="evil", **workload)
            assert any(why in text and "podman:evil does not get the names" in text for text in outcome.warnings), (
                what,
                outcome.warnings,
            )
        run("podman rm -f -t 0 evil >/dev/null")
        start("podman", "evil", "-v", "/etc/hosts:/etc/hosts")
        assert "it is the host's own, mounted there" in str(
            engine.task("endpoint", network="blue", name="evil", **workload).warnings
        )
        assert victim.read_text(encoding="utf-8") == "untouched\n"
        assert Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii") == pattern
        assert Path("/etc/hosts").read_text(encoding="utf-8") == own
    finally:
        victim.unlink()


def test_the_root_of_a_user_namespace_gets_no_file_of_another(engine: Engine, tmp_path: Path) -> None:
    """What belongs to the host's root is not its own, wherever it is mounted; its own file is written with its rights."""
    victim = tmp_path / "victim"
    victim.write_text("untouched\n", encoding="utf-8")
    victim.chmod(0o666)
    engine.network()
    mapped = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536")
    workload = start("podman", "web", *mapped)
    engine.endpoint("web", **workload)
    assert "192.0.2.1\tweb" in inside("podman", "web", "cat /etc/hosts")
    workload = start("podman", "evil", "-v", f"{victim}:/etc/hosts", *mapped)
    outcome = engine.task("endpoint", network="blue", name="evil", **workload)
    assert "it does not belong to the container's root" in str(outcome.warnings)
    assert victim.read_text(encoding="utf-8") == "untouched\n"


def test_a_file_that_does_not_open_delays_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease on the one, a file system that never answers under the other: the third learns its names all the same."""
    run("modprobe fuse")
    engine.network()
    one, two, three = (start("podman", name) for name in ("one", "two", "three"))
    engine.endpoint("two", **two)
    monkeypatch.setattr(foreign_file, "TIME_LIMIT", 1.0)
    silent = os.open("/dev/fuse", os.O_RDWR)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    leased = open(f"/proc/{pid_of('podman', 'one')}/root/etc/hosts", "rb")  # noqa: SIM115  (closed below)
    try:
        fcntl.fcntl(leased, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        options = f"fd={silent},rootmode=100644,user_id=0,group_id=0"
        in_mounts_of(
            pid_of("podman", "two"), lambda: libc.call("mount", b"silent", b"/etc/hosts", b"fuse", 0, options.encode())
        )
        tried = []
        child = foreign_file._Child
        monkeypatch.setattr(foreign_file, "_Child", lambda name, *rest: tried.append(name) or child(name, *rest))
        # The service, which looks again and again, tries it ever later.
        run_options = transact.RunOptions(engine.state_dir)
        left = {it.key: it.how for it in restore.restore(run_options).left if it.kind == "hosts"}
        assert left["podman:two"] == restore_plan.REFUSED and tried.count("podman:two") == 1
        foreign_file._silent.clear()
        restore.restore(run_options, restore.RestoreScope(later=["hosts podman:two"]))
        assert tried.count("podman:two") == 1
        foreign_file._silent.clear()
        outcomes = [
            engine.task("endpoint", network="blue", name=name, **workload)
            for name, workload in (("one", one), ("two", {**two, "aliases": ["zwei"]}), ("three", three))
        ]
        assert "a process holds a lease on it" in str(outcomes[0].warnings)
        assert "its hosts file did not open within 1 s" in str(outcomes[1].warnings)
        assert "192.0.2.3\tthree" in inside("podman", "three", "cat /etc/hosts") and outcomes[2].changed
        assert tried.count("podman:two") == 2, "once in a process, whatever it is asked for later"
    finally:
        leased.close()
        os.close(silent)
        signal.signal(signal.SIGIO, before)


def in_mounts_of(pid: int, work: Callable[[], None]) -> None:
    def enter() -> None:
        namespaces.use_mounts_of(pid)
        work()

    assert in_child(enter) == 0


def test_a_read_only_hosts_file_is_a_warning(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")
    engine.network()
    workload = start("podman", "web", "-v", f"{tmp_path}/hosts:/etc/hosts:ro")
    outcome = engine.task("endpoint", network="blue", name="web", **workload)
    assert "its hosts file cannot be written: Read-only file system" in str(outcome.warnings)
    assert held("podman", "web") == ["192.0.2.1/24"]
    engine.same("web", **workload)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_container_asks_its_endpoints_nameservers(engine: Engine, kind: str) -> None:
    engine.network(dns=["192.0.2.53"])
    workload = start(kind, "web")
    inside(kind, "web", "sh -c 'printf \"nameserver 10.0.0.53\\nsearch corp\\n\" > /etc/resolv.conf'")
    theirs = inside(kind, "web", "cat /etc/resolv.conf")
    assert "nameserver 10.0.0.53\n" in theirs
    options = {**workload, "dns_search": ["example.com"]}
    engine.endpoint("web", **options)
    found = resolver(kind, "web")
    assert found[:2] == ["nameserver 192.0.2.53", "search example.com"] and not {
        "nameserver 10.0.0.53",
        "search corp",
    } & {*found}
    engine.same("web", **options)
    inside(kind, "web", "sh -c 'echo nameserver 10.0.0.54 >> /etc/resolv.conf'")
    assert [it.kind for it in restore.drift(Registry(engine.state_dir))[0]] == ["resolver"]
    restore.restore(transact.RunOptions(engine.state_dir))
    assert resolver(kind, "web")[:2] == found[:2] and "nameserver 10.0.0.54" not in resolver(kind, "web")
    engine.absent("web")
    assert inside(kind, "web", "cat /etc/resolv.conf") == theirs + "nameserver 10.0.0.54\n"


@pytest.mark.parametrize("mapped", [(), ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536")], ids=["root", "mapped"])
def test_a_container_without_a_resolv_conf_has_one_for_as_long_as_it_needs_it(
    engine: Engine, mapped: Tuple[str, ...]
) -> None:
    """As that of podman with --network=none."""
    engine.network()
    workload = start("podman", "web", *mapped)
    bare = inside("podman", "web", "sh -c 'rm -f /etc/resolv.conf; ls -a /etc'")
    check = engine.task("endpoint", check=True, network="blue", name="web", dns=["192.0.2.53"], **workload)
    assert inside("podman", "web", "ls -a /etc") == bare and "resolver" in [change.kind for change in check.changes]
    engine.endpoint("web", dns=["192.0.2.53"], **workload)
    assert resolver("podman", "web") == ["nameserver 192.0.2.53"]
    assert inside("podman", "web", "stat -c '%u %a' /etc/resolv.conf").split() == ["0", "644"]
    engine.same("web", dns=["192.0.2.53"], **workload)
    inside("podman", "web", "rm /etc/resolv.conf")
    assert [it.kind for it in restore.drift(Registry(engine.state_dir))[0]] == ["resolver"]
    restore.restore(transact.RunOptions(engine.state_dir))
    assert resolver("podman", "web") == ["nameserver 192.0.2.53"]
    engine.endpoint("web", **workload)
    assert inside("podman", "web", "ls -a /etc") == bare
    engine.endpoint("web", dns=["192.0.2.53"], **workload)
    inside("podman", "web", "sh -c 'echo nameserver 192.0.2.54 >> /etc/resolv.conf'")
    engine.absent("web", **workload)
    assert "nameserver 192.0.2.54" in resolver("podman", "web"), "what the container wrote stays"


#: What a container's /etc may be, and why no resolv.conf is made in it.
NO_PLACE = {
    "the host's own": (["-v", "/etc:/etc"], "true", "its directory is the host's own, mounted there"),
    "a link": (
        ["--privileged"],
        "umount /etc/hostname; rm -rf /etc; ln -s /victim /etc",
        "a symbolic link is on the way to it",
    ),
    "another user's": ([], "chown 5 /etc", "its directory does not belong to the container's root"),
    "nothing": (["--privileged"], "umount /etc/hostname; rm -rf /etc", "it has no /etc/resolv.conf"),
    "read-only": (["--read-only"], "true", "nothing can be made in its directory"),
}


@pytest.mark.parametrize("what", NO_PLACE)
def test_no_resolv_conf_is_made_where_it_would_not_be_the_containers(engine: Engine, what: str) -> None:
    options, command, why = NO_PLACE[what]
    engine.network()
    os.makedirs("/victim", exist_ok=True)
    os.rename("/etc/resolv.conf", "/etc/resolv.conf.away")
    try:
        workload = start("podman", "evil", "--no-hosts", *options)
        inside("podman", "evil", f"sh -c 'rm -f /etc/resolv.conf; {command}'")
        with pytest.raises(InputError, match=f"dns: podman:evil cannot get it: .*{why}"):
            engine.endpoint("evil", dns=["192.0.2.53"], **workload)
        assert not os.path.exists("/etc/resolv.conf") and os.listdir("/victim") == []
    finally:
        os.rename("/etc/resolv.conf.away", "/etc/resolv.conf")
        os.rmdir("/victim")


def test_a_resolv_conf_that_is_not_the_containers_is_refused(engine: Engine) -> None:
    engine.network()
    own = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    workload = start("podman", "evil", "-v", "/etc/resolv.conf:/etc/resolv.conf")
    with pytest.raises(
        InputError, match="dns: podman:evil cannot get it: its resolv.conf .*it is the host's own, mounted there"
    ):
        engine.endpoint("evil", dns=["192.0.2.53"], **workload)
    assert Path("/etc/resolv.conf").read_text(encoding="utf-8") == own
    engine.endpoint("evil", **workload)


def resolver(kind: str, name: str) -> List[str]:
    """What a program in a container reads, without comments."""
    lines = inside(kind, name, "cat /etc/resolv.conf").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def without_openat2() -> None:
    """From now on this process has a kernel before 5.6, as far as it can tell: a filter that has openat2 fail with ENOSYS."""
    code = ((0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7FFF0000))
    memory = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(memory)))
    assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


@pytest.mark.parametrize("kind", ENGINES)
def test_a_kernel_without_openat2_is_a_warning_and_no_file_is_touched(
    engine: Engine, tmp_path: Path, kind: str
) -> None:
    engine.network()
    workload = start(kind, "web")
    before = inside(kind, "web", "cat /etc/hosts")
    warnings = tmp_path / "warnings"

    def attach() -> None:
        without_openat2()
        outcome = engine.task("endpoint", network="blue", name="web", **workload)
        engine.same("web", **workload)
        warnings.write_text("\n".join(outcome.warnings), encoding="utf-8")

    assert in_child(attach) == 0
    assert warnings.read_text(encoding="utf-8") == (
        f"{kind}:web does not get the names of its networks: its hosts file cannot be written: "
        "this kernel has no openat2 (Linux 5.6), and without it a link in the container could lead to a file of the host"
    )
    assert held(kind, "web") == ["192.0.2.1/24"] and inside(kind, "web", "cat /etc/hosts") == before
    engine.endpoint("web", **workload)  # and with a newer kernel it learns them
    assert "192.0.2.1\tweb" in inside(kind, "web", "cat /etc/hosts")


@contextlib.contextmanager
def broken(kind: str, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The engine ``fails``, or ``hangs`` when it is asked; its containers run on."""
    with contextlib.ExitStack() as stack, monkeypatch.context() as patched:
        patched.setattr(containers, "_TIMEOUT", 1.0)
        if kind == "podman":
            program = tmp_path / "podman"
            program.write_text(
                "#!/bin/sh\n" + {"fails": "exit 125\n", "hangs": "exec sleep 60\n"}[how], encoding="utf-8"
            )
            program.chmod(0o755)
            patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        else:
            os.rename("/run/docker.sock", "/run/docker.hidden")
            stack.callback(os.rename, "/run/docker.hidden", "/run/docker.sock")
            if how == "hangs":
                deaf = stack.enter_context(socket.socket(socket.AF_UNIX))
                deaf.bind("/run/docker.sock")
                deaf.listen()
        yield


def test_an_engine_that_does_not_answer_is_no_container_that_is_gone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine.network()
    workload = start("docker", "web")
    engine.endpoint("web", **workload)
    with broken("docker", "fails", monkeypatch, tmp_path):
        with pytest.raises(InputError, match="container: Docker does not answer at"):
            engine.endpoint("web", **workload)
        with pytest.raises(InputError, match="state: blue/web lives, as eth0 in .*; use state: absent to remove it"):
            engine.task("endpoint", "released", network="blue", name="web")
    assert engine.records("endpoint")["blue/web"] and held("docker", "web") == ["192.0.2.1/24"]


@pytest.mark.parametrize(("kind", "driver", "how"), [("docker", "macvlan", "hangs"), ("podman", "ipvlan", "fails")])
def test_a_purge_needs_no_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, driver: str, how: str
) -> None:
    network = {"name": "blue", "driver": driver, "parent": "trunk.10", "subnets": DUAL, "source_routing": True}
    rows = [
        {"network": "blue", "name": "web", **start(kind, "web")},
        {"network": "blue", "name": "one", "netns": "one"},
    ]
    engine.map(networks=[{**network, "host_access": True}], endpoints=rows)
    pid = pid_of(kind, "web")
    assert "8021" in run(f"nsenter -t {pid} -n ip rule")
    with broken(kind, how, monkeypatch, tmp_path):
        predicted, done = engine.map(check=True, purge=True), engine.map(purge=True)
    assert (predicted.changes, predicted.warnings) == (done.changes, done.warnings)
    assert names(kind, "web") == ["lo"] and "8021" not in run(f"nsenter -t {pid} -n ip rule")
    assert sorted(row["ifname"] for row in ip("link", "show") if row["ifname"].startswith("trunk")) == ["trunk"]
    assert ip("netns", "list") == [] and not any(all_records(engine).values()) and not engine.records("network")
    assert [f"{kind}:web keeps the names of its networks" in text for text in done.warnings] == [True], done.warnings
    assert "netops.underlay" in inside(kind, "web", "cat /etc/hosts")
    run(f"{kind} restart -t 0 web >/dev/null")  # as the warning says
    assert "netops.underlay" not in inside(kind, "web", "cat /etc/hosts")


def test_what_others_declared_for_a_container_stays_without_its_engine(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workload = start("podman", "web")
    engine.map(
        networks=[{"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": DUAL}],
        endpoints=[{"network": "blue", "name": "web", **workload, "gw_priority": 1}],
    )
    engine.network("red", parent="trunk.20", subnets=[{"subnet": "198.51.100.0/24"}])
    engine.endpoint("web", "red", **workload)
    run("ip link add link trunk.10 name theirs type macvlan mode bridge")
    run(f"ip link set theirs netns {pid_of('podman', 'web')}")
    with broken("podman", "fails", monkeypatch, tmp_path):
        done = engine.map(purge=True)
    assert names("podman", "web") == ["eth1", "lo", "theirs"] and held("podman", "web", "eth1") == ["198.51.100.2/24"]
    assert any("trunk.10 stays" in text and "theirs in " in text for text in done.warnings), done.warnings
    assert list(engine.records("endpoint")) == ["red/web"] and "podman:web/eth1" in engine.records("link")
    engine.endpoint("web", "red", **workload)
    assert "default via 198.51.100.1 dev eth1" in inside("podman", "web", "ip route")
    engine.same("web", "red", **workload)
    run(f"{within('podman', 'web', '--net')} ip link del theirs; ip link del trunk.10")


def test_a_container_may_restart_as_often_as_it_likes(engine: Engine, tmp_path: Path) -> None:
    workload = start("podman", "restless")
    engine.network(parent="trunk.40")
    engine.endpoint("restless", **workload)
    service = Service(tmp_path)
    try:
        service.start()
        assert service.ready(30)
        for _ in range(4):
            run("podman restart -t 0 restless >/dev/null")
            begun = time.monotonic()
            assert until(lambda: "eth0" in names("podman", "restless"), 30), service.lines()
            took = time.monotonic() - begun
            print(f"back after {took:.1f} s")
            assert took < 15, "a machine that is busy is slower than 2 s"
        assert not any("held" in line for line in service.lines())
    finally:
        service.stop()
