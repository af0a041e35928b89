# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Are the hosts of a rack real ones? Runs as a controller: tests/lab/run --rack -- pytest tests/lab/test_rack.py"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rack import HOSTS, KERNEL, Host, Rack, RackError

if not KERNEL.is_dir():
    pytest.skip("not started by tests/lab/run --rack", allow_module_level=True)

ROOTS = sorted(tree.name for tree in HOSTS.iterdir() if (tree / "usr").is_dir())


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """A host of each release that is there, and one that has everything on a single cable."""
    hosts = [Host(f"h{number}", root=root) for number, root in enumerate(ROOTS, 1)]
    hosts.append(Host("single", root=ROOTS[0], nics={"eth0": "mgmt+trunk"}, mtu=9000))
    with Rack(hosts) as rack:
        for host in rack:
            rack.switch.vlans(host.name, list(host.nics)[-1], {20})
        yield rack


def tag(host: Host, *vlans: int) -> None:
    """Sub-interfaces on the host's trunk, with its number in their addresses."""
    trunk = list(host.nics)[-1]
    for vlan in vlans:
        name = f"{trunk}.{vlan}"
        host.ssh(
            f"ip link set {trunk} up; ip link show {name} || ip link add link {trunk} name {name} type vlan id {vlan};"
            f"ip address replace 10.0.{vlan}.{host.number}/24 dev {name}; ip link set {name} up"
        )


def reaches(host: Host, address: str, *options: str) -> bool:
    return host.ssh(f"ping -c 2 -i 0.2 -W 1 {' '.join(options)} {address}", check=False).returncode == 0


def test_a_host_compiles_what_a_task_brings_only_once(rack: Rack) -> None:
    names = """cd /var/cache/zipped-bytecode; ls -l --time-style=full-iso $(python3 -c 'import sys; print(sys.implementation.cache_tag)')"""
    for host in rack:
        host.ssh("rm -rf /var/cache/zipped-bytecode/*")
    rack.run("ansible", "all", "-m", "ping")
    first = {host.name: host.ssh(names).stdout.splitlines() for host in rack}
    assert all(len(found) > 50 for found in first.values())  # ansible.module_utils.basic, and what it imports
    rack.run("ansible", "all", "-m", "ping")
    assert {host.name: host.ssh(names).stdout.splitlines() for host in rack} == first


def test_hosts_are_whole_machines(rack: Rack) -> None:
    for host in rack:
        assert host.ssh("hostname; systemctl is-system-running; systemctl --failed --no-legend").stdout.split() == [
            host.name,
            "running",
        ]
        links = host.ssh("ls /sys/class/net").stdout.split()
        assert set(links) == {"lo", *host.nics}
        assert host.ssh("python3 -c 'import pyroute2'", check=False).returncode == 1
        assert reaches(host, "198.51.100.1")
        assert reaches(host, "fd00:51::1")


def test_the_switch_carries_what_it_is_configured_to(rack: Rack, tmp_path: Path) -> None:
    first, single = rack["h1"], rack["single"]
    for host in (first, single):
        tag(host, 20, 30)
    capture = tmp_path / "trunk.pcap"
    rack.switch.record(capture)
    assert reaches(first, f"10.0.20.{single.number}", "-M", "do", "-s", "1472")
    assert not reaches(first, f"10.0.30.{single.number}")
    seen = rack.switch.port("h1", "eth1").seen
    assert seen[20] > 0
    assert seen[30] > 0
    said = rack.run("tcpdump", "-enr", os.fspath(capture), "vlan 20 and icmp").stdout
    assert f"10.0.20.{first.number} > 10.0.20.{single.number}: ICMP echo request" in said

    rack.switch.vlans("h1", "eth1", {30})
    rack.switch.vlans("single", "eth0", {20, 30})
    assert not reaches(first, f"10.0.20.{single.number}")
    assert reaches(first, f"10.0.30.{single.number}")
    rack.switch.unplug("h1", "eth1")
    assert not reaches(first, f"10.0.30.{single.number}")
    rack.switch.plug("h1", "eth1")
    assert reaches(first, f"10.0.30.{single.number}")
    rack.switch.vlans("single", "eth0", {20})
    rack.switch.vlans("h1", "eth1", {20})


def test_a_tenant_beside_the_hosts(rack: Rack) -> None:
    """The controller's side can have a leg in a VLAN, without a tag, as a server at an access port."""
    tag(rack["h1"], 20)
    rack.switch.add_tap("tenant", untagged=20)
    for words in (
        "netns add tenant",
        "link set tenant netns tenant",
        "-n tenant link set tenant up",
        "-n tenant address add 10.0.20.200/24 dev tenant",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    ping = ["ip", "netns", "exec", "tenant", "ping", "-c", "1", "-W", "2"]
    rack.run(*ping, f"10.0.20.{rack['h1'].number}")
    assert rack.run(*ping, rack["h1"].address, check=False).returncode != 0


def test_links_that_go_down_come_up_again(rack: Rack) -> None:
    tag(rack["h1"], 20)
    tag(rack["single"], 20)
    rack["h1"].ssh("ip link set eth1 down; ip link set eth1 up; ip link set eth1.20 up")
    assert reaches(rack["h1"], f"10.0.20.{rack['single'].number}")


def test_frames_may_be_large(rack: Rack) -> None:
    rack.switch.add_tap("jumbo", untagged=20)
    for words in ("link set jumbo mtu 9000 up", "address add 10.0.20.201/24 dev jumbo"):
        subprocess.run(["ip", *words.split()], check=True)
    single = rack["single"]
    tag(single, 20)
    single.ssh("ip link set eth0 mtu 9000; ip link set eth0.20 mtu 9000")
    assert reaches(single, "10.0.20.201", "-M", "do", "-s", "8972")


def test_ansible_reaches_them_without_configuration(rack: Rack) -> None:
    said = rack.run("ansible", "rack", "-m", "ansible.builtin.apt", "-a", "name=python3-pyroute2 update_cache=true")
    assert said.stdout.count("CHANGED") == len(rack.hosts)
    for host in rack:
        assert host.ssh("python3 -c 'import pyroute2'").returncode == 0


def test_a_reboot_keeps_the_disk_and_forgets_the_kernel(rack: Rack) -> None:
    host = rack["h1"]
    host.ssh("echo kept > /root/file; ip link add gone type dummy")
    before = host.boot_id()
    host.reboot()
    assert host.boot_id() != before
    assert host.ssh("cat /root/file").stdout == "kept\n"
    assert host.ssh("ip link show gone", check=False).returncode == 1


def test_a_power_cut_keeps_what_was_on_the_disk(rack: Rack) -> None:
    host = rack["h1"]
    host.ssh("echo kept > /root/written; sync; echo lost > /root/cached")
    host.power_cut()
    assert not host.is_on
    with pytest.raises(RackError):
        host.ssh("true")
    host.boot()
    assert host.ssh("cat /root/written").stdout == "kept\n"
    assert host.ssh("cat /root/cached", check=False).stdout != "lost\n"
    assert "recovery complete" in host.console() or "recovery complete" in host.ssh("dmesg").stdout


def test_off_and_on(rack: Rack) -> None:
    host = rack["single"]
    host.power_off()
    assert not host.is_on
    started = time.monotonic()
    host.boot()
    assert time.monotonic() - started < 60


def test_a_host_that_breaks_says_so(rack: Rack) -> None:
    host = rack["single"]
    host.power_cut()
    host.kernel_args = ["LAB_TREE=/nowhere"]
    with pytest.raises(RackError, match="single went off by itself"):
        host.boot()
    host.kernel_args = []
    host.boot()


def test_mistakes_are_refused(rack: Rack) -> None:
    with pytest.raises(RackError, match="another rack"), Rack([Host("a")]):
        pass
    with pytest.raises(RackError, match="same name"):
        Rack([Host("a"), Host("a")])
    with pytest.raises(RackError, match="first NIC"):
        Rack([Host("a", nics={"eth0": "trunk"})])
