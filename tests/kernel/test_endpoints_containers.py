# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of containers, with Podman and a Docker daemon really running."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.fields import Refusal
from conftest import HAS_IPV6, fresh_host, ip, run
from play import Engine, reachable, until

CHECKOUT = Path(__file__).absolute().parents[2]
DUAL = [{"subnet": "192.0.2.0/24"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]
ENGINES = ["docker", "podman"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def host() -> Iterator[None]:
    """One host for all: the daemon and what it keeps are slow to start."""
    with fresh_host():
        run("ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up")
        run(f"{CHECKOUT}/tests/lab/dockerd start; podman import -q /opt/images/busybox.tar busybox 2>/dev/null")
        try:
            yield
        finally:
            run(f"{CHECKOUT}/tests/lab/dockerd stop")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """What a test made is gone afterwards: the containers, then what they were attached to."""
    yield (engine := Engine(str(tmp_path / "state")))
    run("podman rm -f -t 0 -a >/dev/null 2>&1; docker rm -f $(docker ps -aq) >/dev/null 2>&1 || true")
    for row in engine.records("endpoint").values():
        engine.absent(row["name"], row["network"])
    for name in engine.records("network"):
        engine.task("network", "absent", name=name)
    assert [row["ifname"] for row in ip("link", "show", "group", "8021")] == []
    run("rm -rf /etc/netns; ip netns del stranger 2>/dev/null || true")


def start(kind: str, name: str, *options: str) -> Dict[str, Any]:
    """A container that does nothing, on no network unless told; the workload that it is."""
    options = options if any(option.startswith("--net") for option in options) else ("--network=none", *options)
    command = [kind, "run", "-d", "--name", name, "--cap-add=NET_RAW", *options, "busybox", "sleep", "3600"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"container": {"engine": kind, "name": name}}


def inside(kind: str, name: str, command: str) -> str:
    return run(f"{kind} exec {name} {command}")


def shown(kind: str, name: str, dev: str = "eth0") -> Dict[str, Any]:
    """A link of a container, with its addresses, as the kernel has it."""
    pid = run(f"{kind} inspect -f '{{{{.State.Pid}}}}' {name}").strip()
    found: List[Dict[str, Any]] = json.loads(run(f"nsenter -t {pid} -n ip -d -j addr show dev {dev}"))
    return found[0]


def names(kind: str, name: str) -> List[str]:
    pid = run(f"{kind} inspect -f '{{{{.State.Pid}}}}' {name}").strip()
    return sorted(row["ifname"] for row in json.loads(run(f"nsenter -t {pid} -n ip -j link")))


def held(kind: str, name: str, dev: str = "eth0") -> List[str]:
    return [f"{row['local']}/{row['prefixlen']}" for row in shown(kind, name, dev)["addr_info"] if row["scope"] == "global"]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_containers_and_namespaces_of_a_network_see_each_other_by_name(engine: Engine, driver: str) -> None:
    engine.network(driver=driver, subnets=DUAL)
    engine.endpoint("web", **start("docker", "web"), aliases=["www"])
    engine.endpoint("db", **start("podman", "db"), aliases=["sql"])
    engine.endpoint("one")
    for ping in ("docker exec web", "podman exec db", "ip netns exec one"):
        for target in ("web", "www", "db", "sql", "one"):
            assert reachable(ping, target), (ping, target)
    if HAS_IPV6:
        assert reachable("docker exec web", "2001:db8::3") and reachable("podman exec db", "2001:db8::2")
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
    assert reachable(f"{kind} exec web", "one") and reachable("ip netns exec one", "web")
    engine.same("web", **workload)
    run(f"{kind} stop -t 0 web >/dev/null")
    with pytest.raises(Refusal, match=rf"container: the {kind} container web is not running .*; start it first"):
        engine.endpoint("web", **workload)
    with pytest.raises(Refusal, match=f"container: there is no {kind} container nobody"):
        engine.endpoint("nobody", container={"engine": kind, "name": "nobody"})
    engine.network(subnets=DUAL, mtu=1400)  # a member that is stopped keeps nobody from that
    assert engine.records("endpoint")["blue/web"]["addresses"] == addresses
    run(f"{kind} start web >/dev/null")
    assert engine.endpoint("web", **workload)["addresses"] == addresses and shown(kind, "web")["mtu"] == 1400
    run(f"{kind} rm -f web >/dev/null")
    assert engine.absent("web").changed
    assert not [key for key in engine.records("link") if "web" in key]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_container_of_two_networks_and_its_way_out(engine: Engine, kind: str) -> None:
    engine.network("blue", subnets=DUAL)
    engine.network("red", "ipvlan", parent="trunk.20", subnet="198.51.100.0/24", subnets=[{"subnet": "198.51.100.0/24"}])
    workload = start(kind, "web")
    assert engine.endpoint("web", "blue", **workload)["interface"] == "eth0"
    assert engine.endpoint("web", "red", **workload, gw_priority=1)["interface"] == "eth1"
    assert "default via 198.51.100.1 dev eth1" in inside(kind, "web", "ip route")
    assert engine.absent("web", "red").changed
    assert "default via 192.0.2.1 dev eth0" in inside(kind, "web", "ip route")


def test_beside_dockers_own_networks(engine: Engine) -> None:
    """On a VLAN that Docker's driver shares, and in a container that Docker gives networks later."""
    run("ip link add link trunk name trunk.10 type vlan id 10; ip link set trunk.10 up")
    run("docker network create -d macvlan --subnet 192.0.2.0/24 --ip-range 192.0.2.128/25 -o parent=trunk.10 theirs >/dev/null")
    run("docker network create -d macvlan --subnet 198.51.100.0/24 -o parent=trunk.20 more >/dev/null")
    run("docker network create -d macvlan --subnet 203.0.113.0/24 -o parent=trunk.30 later >/dev/null")
    try:
        start("docker", "stranger", "--network=theirs", "--ip=192.0.2.2")
        engine.network()
        found = engine.endpoint("web", **start("docker", "web", "--network=more"))
        assert found["interface"] == "net0" and found["addresses"] == ["192.0.2.1/24"]
        assert engine.endpoint("one")["addresses"] == ["192.0.2.3/24"]  # Docker's own has .2
        assert reachable("docker exec web", "192.0.2.2") and reachable("docker exec stranger", "192.0.2.1")
        assert reachable("ip netns exec one", "192.0.2.2") and reachable("docker exec stranger", "192.0.2.3")
        run("docker network connect later web")
        assert names("docker", "web") == ["eth0", "eth1", "lo", "net0"]
        engine.same("web", container={"engine": "docker", "name": "web"})
        run("docker network disconnect later web")
        assert reachable("docker exec web", "one")
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
    assert reachable("podman exec late", "later")  # the file is the same one
    outcome = engine.absent("web")
    assert "netns:web stays although nothing of ours needs it: a process runs in it" in outcome.warnings
    run("podman rm -f -t 0 late >/dev/null")
    engine.absent("later")
    assert sorted(row["name"] for row in ip("netns", "list")) == ["db"]


HOSTILE = {
    "absolute link": ("ln -s /victim /etc/hosts", "it has no /etc/hosts"),
    "climbing link": ("ln -s ../../../../../../victim /etc/hosts", "it has no /etc/hosts"),
    "link to proc": ("ln -s /proc/sys/kernel/core_pattern /etc/hosts", "it is a switch of the kernel, no file"),
    "magic link": ("ln -s /proc/1/root/victim /etc/hosts", "cannot be written"),
    "pipe": ("mkfifo /etc/hosts", "it is no regular file"),
    "device": ("mknod /etc/hosts c 1 8", "it is no regular file"),
    "directory": ("mkdir /etc/hosts", "it is no regular file"),
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
            assert any(why in text and "podman:evil does not learn the names" in text for text in outcome.warnings), (what, outcome.warnings)
        inside("podman", "evil", "sh -c 'rm -rf /etc/hosts; echo 10.0.0.1 mine > /victim; ln -s /victim /etc/hosts'")
        engine.endpoint("evil", **workload, aliases=["wicked"])  # inside its own root a link is its own affair
        assert "wicked" in inside("podman", "evil", "cat /victim")
        run("podman rm -f -t 0 evil >/dev/null")
        start("podman", "evil", "-v", "/etc/hosts:/etc/hosts")
        assert "it is the host's own, mounted there" in str(engine.task("endpoint", network="blue", name="evil", **workload).warnings)
        assert victim.read_text(encoding="utf-8") == "untouched\n"
        assert Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii") == pattern
        assert Path("/etc/hosts").read_text(encoding="utf-8") == own
    finally:
        victim.unlink()


def test_a_read_only_hosts_file_is_a_warning(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")
    engine.network()
    workload = start("podman", "web", "-v", f"{tmp_path}/hosts:/etc/hosts:ro")
    outcome = engine.task("endpoint", network="blue", name="web", **workload)
    assert "its hosts file cannot be written: Read-only file system" in str(outcome.warnings)
    assert held("podman", "web") == ["192.0.2.1/24"]
    engine.same("web", **workload)


def test_an_engine_that_does_not_answer_is_no_container_that_is_gone(engine: Engine) -> None:
    engine.network()
    workload = start("docker", "web")
    engine.endpoint("web", **workload)
    os.rename("/run/docker.sock", "/run/docker.hidden")
    try:
        with pytest.raises(Refusal, match="container: Docker does not answer at"):
            engine.endpoint("web", **workload)
        with pytest.raises(Refusal, match="Docker does not answer at"):
            engine.absent("web")
    finally:
        os.rename("/run/docker.hidden", "/run/docker.sock")
    assert engine.records("endpoint")["blue/web"] and held("docker", "web") == ["192.0.2.1/24"]
