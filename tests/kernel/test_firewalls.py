# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewalls of others, each for real, beside what is ours: what they load, reload, forbid and remove, and what a Kubernetes node sets.

They need nf_tables with the family inet, which the lab's guests lack. The kernel of the machine has it:
``tests/lab/run --rack -- pytest tests/kernel/test_firewalls.py``.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import barrier
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import ip, run
from tests.support.service import Service
from tests.support.traffic import reachable, reaches
from tests.support.waiting import until

#: An endpoint on a NIC, and one on a bridge, whose frames the host's own packet filter sees (``bridge-nf-call-iptables``).
ENDPOINTS = {"one": "192.0.2.5", "two": "203.0.113.5"}
THEIRS = "table inet theirs { chain input { type filter hook input priority 0; policy accept; tcp dport 22 accept; }; }"
#: What kubelet, kube-proxy and network plugins set.
KUBERNETES = (
    "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.route_localnet=1 "
    "net.ipv4.conf.all.forwarding=1 net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"
)


@pytest.fixture(autouse=True)
def _nf_tables(host: None) -> None:
    if barrier.why_not() is not None:
        pytest.skip("this kernel has no nf_tables with the family inet")
    if not os.path.exists("/proc/sys/net/bridge"):
        pytest.skip("this kernel has no br_netfilter")


@pytest.fixture
def service(tmp_path: Path, trunk: str) -> Iterator[Service]:
    """A host with its service, two endpoints, a table of somebody else, and the sysctls of a Kubernetes node."""
    run(f"""
        ip link add br0 type bridge; ip link set br0 up
        ip link add port0 type veth peer name far0; ip link set port0 master br0; ip link set port0 up
        ip netns add wire; ip link set far netns wire; ip link set far0 netns wire
        ip -n wire link set far up; ip -n wire link set far0 up
        ip -n wire addr add 192.0.2.9/24 dev far; ip -n wire addr add 203.0.113.9/24 dev far0
        nft '{THEIRS}'
    """)
    run("sysctl -qw net.unix.max_dgram_qlen=512")  # what the service tells systemd is not read here
    found = Service(tmp_path)
    engine = Engine(found.state_dir)
    engine.network("inside", parent=trunk, host_access=True)
    engine.network("bridged", parent="br0", subnet="203.0.113.0/24")
    for name, network in (("one", "inside"), ("two", "bridged")):
        engine.endpoint(name, network, ipv4_address=ENDPOINTS[name])
    try:
        found.start()
        assert found.ready(30)
        yield found
    finally:
        found.stop()


@contextlib.contextmanager
def daemon(command: str, answers: str) -> Iterator[None]:
    """A program that runs until the end of the block, from when a command succeeds."""
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as started:
        try:
            assert until(lambda: started.poll() is not None or succeeds(answers)) and started.poll() is None, command
            yield
        finally:
            started.terminate()


def succeeds(command: str) -> bool:
    return subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0


def tables_of_others() -> str:
    return re.sub(r"(?ms)^table inet netops_underlay \{.*?^\}\n?", "", run("nft -s list ruleset"))


def confs(link: str) -> Dict[str, str]:
    keys = [f"ipv4/conf/{link}/{key}" for key in ("rp_filter", "arp_ignore", "forwarding", "route_localnet")]
    keys += [f"ipv6/conf/{link}/{key}" for key in ("disable_ipv6", "accept_ra", "forwarding")]
    return {key: Path("/proc/sys/net", key).read_text(encoding="ascii").strip() for key in keys}


class Ours:
    """What is ours, as it was; and whether it is again after what somebody did."""

    def __init__(self, service: Service) -> None:
        self.registry = Registry(service.state_dir)
        (self.link,) = (row["ifname"] for row in ip("link", "show", "group", str(LINK_GROUP)))
        self.before = self._seen()
        assert self.before[0], "our table is there"

    def _seen(self) -> List[object]:
        return [run("nft list table inet netops_underlay || true"), confs(self.link)]

    def _settled(self) -> bool:
        return restore.drift(self.registry)[:2] == ([], []) and self._seen() == self.before

    def hold(self, command: str, unreachable: str = "") -> None:
        """Have somebody do something. Isolation is as before, theirs as they left it, and endpoints answer, but for one."""
        run(command)
        theirs = (tables_of_others(), confs("trunk"), confs("all"))
        assert until(self._settled, 30), (command, self._seen(), restore.drift(self.registry)[:2])
        assert (tables_of_others(), confs("trunk"), confs("all")) == theirs, command
        for name, address in ENDPOINTS.items():
            if name == unreachable:
                assert not reaches("ip netns exec wire", address), command
            else:
                assert reachable("ip netns exec wire", address), command


@pytest.fixture
def ours(service: Service) -> Ours:
    found = Ours(service)
    found.hold("true")
    return found


def test_kubernetes(ours: Ours) -> None:
    ours.hold(f"sysctl -qw {KUBERNETES}")


def test_firewalld(ours: Ours) -> None:
    run(f"sysctl -qw {KUBERNETES}; mkdir -p /run/dbus; mount -t tmpfs none /run/dbus")
    with (
        daemon("dbus-daemon --system --nofork --nopidfile", "test -S /run/dbus/system_bus_socket"),
        daemon("firewalld --nofork --nopid", "firewall-cmd --state"),
    ):
        assert "table inet firewalld" in tables_of_others()
        ours.hold("firewall-cmd --reload")
        ours.hold("firewall-cmd --complete-reload")
        # Panic mode drops all that the host's own stack sees, and with bridge-nf-call-iptables that is what a bridge carries.
        ours.hold("firewall-cmd --panic-on", unreachable="two")
        ours.hold("firewall-cmd --panic-off")
    ours.hold("true")


@pytest.mark.soak
def test_ufw(ours: Ours, tmp_path: Path) -> None:
    run(f"sysctl -qw {KUBERNETES}; cp -a /etc/ufw {tmp_path}; mount --bind {tmp_path}/ufw /etc/ufw")
    ours.hold("ufw --force enable >/dev/null")
    assert "-P INPUT DROP" in run("iptables -S")
    ours.hold("ufw reload >/dev/null")
    ours.hold("ufw --force disable >/dev/null")


@pytest.mark.soak
def test_docker_with_its_own_firewall(ours: Ours, tmp_path: Path) -> None:
    options = f"--bridge=none --storage-driver vfs --data-root {tmp_path}/docker --pidfile {tmp_path}/pid"
    run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    with daemon(f"dockerd {options}", "docker version"):
        ours.hold("docker network create theirs >/dev/null")
        assert "-P FORWARD DROP" in run("iptables -S"), "Docker drops where it has turned forwarding on"
        ours.hold("docker network rm theirs >/dev/null")


def test_isolation_is_put_back_however_often_it_goes(ours: Ours) -> None:
    """A link that is removed three times in a minute is held. What keeps tenants apart is not."""
    for command in ("nft flush ruleset", f"sysctl -qw net.ipv4.conf.{ours.link}.rp_filter=0"):
        for _rest in range(4):
            ours.hold(command)
