# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Changes that cut the controller off are undone by the host itself, over the very SSH that they cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from conftest import CALLBACK, HEAD, links, play, prepare, until
from fleet import Fleet, Host

#: An address of a VLAN that is more specific than the way to the controller: its answers would go there.
CUT = """\
  tasks:
    - name: cut
      netops.underlay.vlan_link:
        parent: eth1
        vlan_id: 66
        addresses: [198.51.100.{host}/30]
        guard_timeout: {timeout}
"""

FINE = """\
  tasks:
    - name: fine
      netops.underlay.vlan_network:
        name: {name}
        driver: macvlan
        parent: eth1.{vlan}
        subnets: [{{subnet: 10.{vlan}.0.0/24}}]
        guard_timeout: {timeout}
{more}"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet([Host("h1")]) as fleet:
        prepare(fleet)
        yield fleet


@pytest.fixture
def host(fleet: Fleet) -> Host:
    return fleet["h1"]


def transactions(host: Host) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(host.ssh("underlay --json show").stdout)["transactions"]
    return found


def timers(host: Host) -> str:
    return host.ssh("systemctl list-units --all --no-legend --plain 'netops-underlay-guard*'").stdout


def test_what_cuts_nobody_off_is_confirmed(host: Host, fleet: Fleet) -> None:
    said = play(fleet, FINE.format(name="one", vlan=11, timeout=60, more=""))["fine"]["h1"]
    assert said["changed"] and "_guard" not in said
    assert transactions(host)[0]["state"] == "applied"
    assert timers(host) == ""
    assert not play(fleet, FINE.format(name="one", vlan=11, timeout=60, more=""))["fine"]["h1"]["changed"]
    assert "eth1.11" in links(host)


def test_a_change_that_would_cut_the_way_is_refused_before(host: Host, fleet: Fleet) -> None:
    said = play(fleet, CUT.format(host=2, timeout=20), check=False)["cut"]["h1"]
    assert said["failed"] and "198.51.100.1, from where this host is managed" in said["msg"]
    assert "eth1.66" not in links(host)


#: Takes the way away when the change is there, as no rule can foresee: the controller's answers go to a wire without it.
TRAP = """\
[Unit]
Description=Blackhole the controller as soon as the VLAN is there
[Service]
ExecStart=/bin/sh -c 'while :; do if [ -e /sys/class/net/eth1.{vlan} ]; then ip route replace blackhole 198.51.100.1/32; \
else ip route del blackhole 198.51.100.1/32 2>/dev/null; fi; sleep 0.1; done'
"""


def set_trap(host: Host, vlan: int) -> None:
    host.ssh(
        "cat > /run/systemd/system/trap.service; systemctl daemon-reload; systemctl restart trap", stdin=TRAP.format(vlan=vlan)
    )


def test_a_play_that_cuts_its_own_way_is_undone_and_the_host_answers_again(host: Host, fleet: Fleet) -> None:
    set_trap(host, 66)
    said = play(fleet, FINE.format(name="cut", vlan=66, timeout=15, more=""), check=False)["fine"]["h1"]
    assert said["failed"] and not said["changed"]
    assert "was not confirmed" in said["msg"] or "answers no new connection" in said["msg"], said["msg"]
    assert until(lambda: host.ssh("true", check=False).returncode == 0)
    assert "eth1.66" not in links(host)
    states = [row["state"] for row in transactions(host)[:2]]
    assert states == ["applied", "undone"]
    assert host.ssh("underlay drift", check=False).returncode == 0
    host.ssh("systemctl stop trap")


def test_a_controller_that_dies_in_between_is_undone(host: Host, fleet: Fleet) -> None:
    path = fleet.directory / "dies.yml"
    path.write_text(HEAD + FINE.format(name="dies", vlan=67, timeout=10, more=""))
    set_trap(host, 67)  # so that it cannot confirm before it is killed
    child = subprocess.Popen(
        ["ansible-playbook", os.fspath(path)], env={**os.environ, **fleet.environment, **CALLBACK}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert until(lambda: host.ssh("true", check=False, timeout=200).returncode != 0), "the trap never closed"
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert until(lambda: host.ssh("true", check=False).returncode == 0)
    assert "eth1.67" not in links(host)
    assert [row["state"] for row in transactions(host)[:2]] == ["applied", "undone"]
    host.ssh("systemctl stop trap")


def test_a_second_run_waits_or_names_the_one_that_is_not_confirmed(host: Host, fleet: Fleet) -> None:
    host.ssh(
        "python3 -I -",
        stdin="""\
import os, sys
sys.path.insert(0, os.path.realpath("/usr/local/lib/netops-underlay/current"))
from _engine import converge, guard, model
run = converge.Run(who="eve", guard=guard.HostGuard(3000, "/var/lib/netops-underlay"))
converge.converge(model.declare("vlan", {"parent": "eth1", "vlan_id": 77}, "present", False), run)
""",
    )
    number = transactions(host)[0]["number"]

    def other(lock_timeout: int) -> str:
        return FINE.format(name="two", vlan=12, timeout=0, more=f"        lock_timeout: {lock_timeout}\n")

    said = play(fleet, other(1), check=False)["fine"]["h1"]
    assert said["failed"] and f"transaction {number} of eve waits to be confirmed" in said["msg"]
    host.ssh(f"systemd-run --quiet --on-active=10 /usr/local/sbin/underlay expire {number}")
    assert play(fleet, other(120))["fine"]["h1"]["changed"]
    assert "eth1.77" not in links(host) and "eth1.12" in links(host)


def test_a_probe_decides_too(host: Host, fleet: Fleet) -> None:
    probe = "        guard_probe: {{ping: [{}]}}\n"
    said = play(fleet, FINE.format(name="probed", vlan=13, timeout=60, more=probe.format("198.51.100.250")), check=False)["fine"]["h1"]
    assert said["failed"] and "198.51.100.250 does not answer" in said["msg"] and "is undone" in said["msg"]
    assert "eth1.13" not in links(host)
    assert play(fleet, FINE.format(name="probed", vlan=13, timeout=60, more=probe.format("198.51.100.1")))["fine"]["h1"]["changed"]
    assert "eth1.13" in links(host)
    said = play(fleet, FINE.format(name="probed", vlan=13, timeout=0, more=probe.format("x")), check=False)["fine"]["h1"]
    assert "guard_probe.ping[0]: 'x' is no address" in said["msg"] and "guard_timeout is 0" in said["msg"]


def test_without_the_engine_there_is_no_guard_and_that_is_said(host: Host, fleet: Fleet) -> None:
    host.ssh("mv /usr/local/sbin/underlay /root/underlay")
    try:
        said = play(fleet, FINE.format(name="three", vlan=14, timeout=60, more=""), check=False)["fine"]["h1"]
        assert said["failed"] and "let the role netops.underlay.prepare install it, or set guard_timeout: 0" in said["msg"]
        assert "eth1.14" not in links(host)
    finally:
        host.ssh("mv /root/underlay /usr/local/sbin/underlay")


def test_an_older_engine_is_refused_with_the_cure(host: Host, fleet: Fleet) -> None:
    host.ssh("echo 0 > /usr/local/lib/netops-underlay/current/schema")
    said = play(fleet, FINE.format(name="three", vlan=14, timeout=0, more=""), check=False)["fine"]["h1"]
    assert said["failed"] and "run the role netops.underlay.prepare first" in said["msg"]
    assert "eth1.14" not in links(host)
    prepare(fleet)
    assert play(fleet, FINE.format(name="three", vlan=14, timeout=0, more=""))["fine"]["h1"]["changed"]
