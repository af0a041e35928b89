# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""The service, in its sandbox, hears of containers that restart: on a machine with Docker and Podman."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rack import SELF, Host, Rack

from tests.support.machines import play, prepare
from tests.support.waiting import until

ENGINES = ("docker", "podman")
#: As tests/lab/dockerd has it: no bridge of its own. What containers write is in memory.
BEGIN = """\
set -e
printf 'tmpfs /var/lib/docker tmpfs\\ntmpfs /var/lib/containers tmpfs\\n' >> /etc/fstab
mkdir -p /etc/docker /var/lib/docker /var/lib/containers
mount /var/lib/docker; mount /var/lib/containers
echo '{"iptables": false, "ip6tables": false, "bridge": "none"}' > /etc/docker/daemon.json
systemctl enable --now docker podman.socket
docker import - busybox < /opt/images/busybox.tar
podman import -q /opt/images/busybox.tar busybox
begin="run -d --name web --restart always --network none"
docker $begin busybox sleep 100000
podman $begin --uidmap 0:100000:65536 --gidmap 0:100000:65536 busybox sleep 100000
"""
RACK = """\
  tasks:
    - name: rack
      netops.underlay.vlan_map:
        name: rack
        networks: [{name: web, driver: macvlan, parent: eth1.10, subnets: [{subnet: 192.168.10.0/24, gateway: none}]}]
        endpoints:
          - {network: web, name: docker, container: {engine: docker, name: web}}
          - {network: web, name: podman, container: {engine: podman, name: web}}
"""
LEASES = """\
  tasks:
    - name: service
      netops.underlay.vlan_service: {dhcp: true}
    - name: leases
      netops.underlay.vlan_map:
        name: leases
        networks: [{name: leased, driver: macvlan, parent: eth1.20, addressing: dhcp}]
        endpoints:
          - {network: leased, name: docker, container: {engine: docker, name: web}}
          - {network: leased, name: podman, container: {engine: podman, name: web}}
"""


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with Rack([Host("engines", root=SELF, mem="1G")]) as rack:
        (host,) = rack
        print(host.ssh(BEGIN, timeout=300).stdout)
        prepare(rack)
        assert play(rack, RACK)["rack"]["engines"]["changed"]
        yield rack


@pytest.fixture(scope="module")
def host(rack: Rack) -> Host:
    return rack["engines"]


def settled(host: Host) -> bool:
    return host.ssh("underlay drift", check=False).returncode == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_container_that_restarts_is_attached_again(host: Host, engine: str) -> None:
    assert until(lambda: settled(host))
    # By the host's own clock, from when the engine says that it runs to when its link is there and up.
    took = host.ssh(
        f"""
        {engine} restart -t 0 web >/dev/null
        begun=$(cut -d' ' -f1 /proc/uptime)
        pid=$({engine} inspect -f '{{{{.State.Pid}}}}' web)
        for n in $(seq 600); do nsenter -n -t $pid ip -o link show eth0 2>/dev/null | grep -q LOWER_UP && break; sleep 0.05; done
        echo $begun $(cut -d' ' -f1 /proc/uptime)
        """
    ).stdout.split()
    seconds = float(took[1]) - float(took[0])
    print(f"{engine}: attached {seconds:.2f} s after the restart")
    assert seconds < 20, "a machine that is busy is slower than 2 s, but not by much"
    assert until(lambda: settled(host)), host.ssh(
        "underlay drift; journalctl -b -o cat -u netops-underlay | tail -30", check=False
    ).stdout
    # An engine makes the file anew. The service wrote the names into it, also for the root of a user namespace.
    assert f"\t{engine}\n" in host.ssh(f"{engine} exec web cat /etc/hosts").stdout
    assert re.search(
        r"healed: link " + engine + r":web/eth0 is gone", host.ssh("journalctl -b -o cat -u netops-underlay").stdout
    )
    memory = int(host.ssh("cat /sys/fs/cgroup/system.slice/netops-underlay.service/memory.current").stdout)
    assert memory < 40 * 2**20, "what an engine needs to be heard is not the service's"


def test_it_listens_and_does_not_ask(host: Host) -> None:
    assert until(lambda: settled(host))
    asked = host.ssh("ss -x | grep -c 'docker.sock\\|podman.sock'").stdout
    assert int(asked) >= 2
    heard = "journalctl -b -o cat -u netops-underlay | wc -l"
    before = host.ssh(heard).stdout
    host.ssh("systemctl stop docker docker.socket; systemctl start docker")
    assert until(lambda: settled(host)), "the containers of a Docker that is there again are attached again"
    assert host.ssh(heard).stdout != before


@pytest.mark.soak
def test_containers_have_leases_and_the_same_after_a_restart(
    rack: Rack, host: Host, dhcp_server: Callable[[Rack, str], Path]
) -> None:
    """The client that asks for them finds the containers of both engines from its sandbox, user namespaces among them."""

    def leased(engine: str) -> str:
        pid = host.ssh(f"{engine} inspect -f '{{{{.State.Pid}}}}' web").stdout.strip()
        return host.ssh(f"nsenter -n -t {pid} ip -br -4 addr show dev eth1 scope global", check=False).stdout

    server = dhcp_server(rack, "engines")
    assert play(rack, LEASES)["leases"]["engines"]["changed"]
    for engine in ENGINES:
        before = leased(engine)
        assert "10.9.0.1" in before, server.read_text()
        host.ssh(f"{engine} restart -t 0 web")
        assert until(lambda engine=engine, before=before: leased(engine).split()[2:] == before.split()[2:]), host.ssh(  # type: ignore[misc]
            "journalctl -b -o cat -u netops-underlay -u netops-underlay-dhcp | tail -30"
        ).stdout
    assert until(lambda: settled(host))
    assert not play(rack, LEASES)["leases"]["engines"]["changed"]
