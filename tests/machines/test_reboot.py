# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""What is left of a host's networks after a reboot, a power cut, and people who remove things."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import statedir
from rack import Host, Rack

from tests.support.machines import links, picture, play, prepare
from tests.support.waiting import until

SPACES = ("web", "db", "far")

RACK = """\
  tasks:
    - name: rack
      netops.underlay.vlan_map:
        name: rack
        networks:
          - {name: web, driver: macvlan, parent: eth1.10, subnets: [{subnet: 192.168.10.0/24}], host_access: true}
          - {name: db, driver: ipvlan, parent: eth2.20, subnets: [{subnet: 192.168.20.0/24}, {subnet: "2001:db8::/64"}]}
          - {name: far, driver: macvlan, parent: eth3, subnets: [{subnet: 192.168.30.0/24, gateway: none}]}
        endpoints:
          - {network: web, name: web, netns: web}
          - {network: db, name: db, netns: db}
          - {network: far, name: far, netns: far}
        links:
          - {parent: eth1, vlan_id: 40, addresses: [10.40.0.1/24]}
        routes:
          - {name: up, routes: [{prefix: 10.99.0.0/16, via: 10.40.0.254}]}
"""


POOLS = [("db", "192.168.20.0/24"), ("db", "2001:db8::/64"), ("far", "192.168.30.0/24"), ("web", "192.168.10.0/24")]


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    nics = {"eth0": "mgmt", "eth1": "trunk", "eth2": "trunk", "eth3": "trunk"}
    with Rack([Host("h1", nics=nics)]) as rack:
        prepare(rack)
        assert play(rack, RACK)["rack"]["h1"]["persistent"]
        yield rack


@pytest.fixture
def host(rack: Rack) -> Host:
    """The host with all of the rack on it, and a service that remembers nothing of other tests."""
    host = rack["h1"]
    host.ssh("underlay release everything; underlay restore --boot; systemctl restart netops-underlay")
    return host


def settled(host: Host) -> bool:
    return host.ssh("underlay drift", check=False).returncode == 0


def log(host: Host) -> str:
    return host.ssh("journalctl -b -o cat -u netops-underlay --no-pager").stdout


TAP = """\
  tasks:
    - name: tap
      netops.underlay.vlan_endpoint: {network: far, name: vm, netns: vm, kind: tap, tap_owner: daemon, tap_mode: "0600"}
"""
NODE = "stat -c '%F %U %a' /dev/netops-underlay/far/vm"


def test_the_map_is_back_after_a_reboot_and_a_power_cut(host: Host, rack: Rack) -> None:
    assert "nodes of taps will not survive" in str(play(rack, TAP)["tap"]["h1"]["warnings"])
    prepare(rack)  # a tap is recorded, so the service keeps its node from now on
    before = picture(host, *SPACES)
    assert before["web/eth0"][5] == ["192.168.10.3/24"]
    host.reboot()
    assert picture(host, *SPACES) == before
    assert host.ssh(NODE).stdout == "character special file daemon 600\n"
    # It was there before what waits for the network.
    when = "systemctl show -P ActiveEnterTimestampMonotonic netops-underlay.service network-online.target"
    mine, online = (int(text) for text in host.ssh(when).stdout.split())
    assert mine > 0 and (online == 0 or mine <= online)
    host.power_cut()
    host.boot()
    assert picture(host, *SPACES) == before
    assert settled(host)
    assert not play(rack, RACK)["rack"]["h1"]["changed"]
    host.ssh("rm /dev/netops-underlay/far/vm")
    assert until(lambda: host.ssh(NODE, check=False).stdout == "character special file daemon 600\n")
    play(rack, TAP.replace('kind: tap, tap_owner: daemon, tap_mode: "0600"', "state: absent"))
    prepare(rack)  # nor what the service needed for it
    assert host.ssh("systemctl is-system-running").stdout.strip() == "running"


NOTED = """python3 - <<END
import sqlite3
database = sqlite3.connect("/var/lib/netops-underlay/registry.db")
print(database.execute("SELECT value FROM meta WHERE name = 'machine'").fetchone()[0])
END"""


def test_a_machine_with_another_id_restores_nothing(host: Host) -> None:
    """It may be a clone, whose MACs and addresses are in use elsewhere."""
    application = statedir.APPLICATION.hex()
    noted = host.ssh(NOTED).stdout.strip()
    assert noted == host.ssh(f"systemd-id128 machine-id --app-specific={application}").stdout.strip()
    host.ssh("cp /etc/machine-id /root/id; rm /etc/machine-id; systemd-machine-id-setup; ip link del eth1.10")
    refused = host.ssh("underlay restore", check=False)
    assert refused.returncode == 1 and "underlay rehost clone" in refused.stderr
    assert "eth1.10" not in host.ssh("ip -br link").stdout
    host.ssh("underlay rehost same; underlay restore; cp /root/id /etc/machine-id; underlay rehost same")
    assert settled(host) and host.ssh(NOTED).stdout.strip() == noted


def test_a_power_cut_in_the_middle_of_a_run(host: Host, rack: Rack) -> None:
    """The disk says that a plan is under way, the kernel knows nothing any more: the plan is undone, the rest is back."""
    before = picture(host, *SPACES)
    # The kernel stops in the midst of the changes: everything is written down by then, and nothing is finished.
    host.ssh(
        "cat > /root/stop.py; python3 -I /root/stop.py >/dev/null 2>&1 & sleep 0.1",
        stdin="""\
import os, sys, time
sys.path.insert(0, os.path.realpath("/usr/local/lib/netops-underlay/current"))
from _engine.declare import model
from _engine.kernel import links
from _engine.run import converge, transact
def stop(*_):
    open("/root/stopped", "w").close()
    time.sleep(1000)
links.create = stop
rows = [{"name": f"n{vlan}", "driver": "macvlan", "parent": f"eth1.{vlan}", "subnets": [{"subnet": f"10.1.{vlan}.0/24"}]} for vlan in range(100, 120)]
converge.converge(model.declare_map({"name": "more", "networks": rows}), transact.RunOptions())
""",
    )
    assert until(lambda: host.ssh("test -e /root/stopped", check=False).returncode == 0)
    host.power_cut()
    host.boot()
    assert picture(host, *SPACES) == before
    assert settled(host)
    assert "had been interrupted and was undone" in log(host)


def test_one_parent_that_is_missing_keeps_no_other_away_and_comes_late(host: Host, rack: Rack) -> None:
    before = picture(host, *SPACES)
    # As a driver that is loaded late: until then the NIC is in no namespace that anyone looks into by its name.
    host.ssh(
        "cat > /etc/systemd/system/late.service; systemctl enable late.service",
        stdin="""\
[Unit]
DefaultDependencies=no
After=systemd-udevd.service
Before=network-pre.target netops-underlay.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'until ip link show eth2; do sleep 0.05; done; ip netns add late; ip link set eth2 netns late'
[Install]
WantedBy=multi-user.target
""",
    )
    try:
        host.reboot()
        assert {"eth1.10", "eth1.40"} <= set(links(host))
        assert not {"eth2", "eth2.20"} & set(links(host))
        now = picture(host, *SPACES)
        assert {key for key in before if before[key] != now.get(key)} == {"/eth2", "/eth2.20", "db/eth0", "db routes"}
        status = host.ssh("systemctl status netops-underlay --no-pager").stdout
        assert "link eth2.20: waits for eth2, which is not there" in status
        host.ssh("ip -n late link set eth2 netns 1; ip link set eth2 up; ip netns del late")
        assert until(lambda: settled(host))
        assert picture(host, *SPACES) == before
    finally:
        host.ssh("systemctl disable late.service; rm /etc/systemd/system/late.service")


def test_what_somebody_removes_is_healed_within_seconds(host: Host) -> None:
    before = picture(host, *SPACES)
    for damage in ("ip link del eth1.10", "ip -n db link del eth0", "ip netns del far", "ip route del 10.99.0.0/16"):
        host.ssh(damage)
        healed = "for n in $(seq 100); do underlay drift >/dev/null && exit 0; sleep 0.1; done; exit 1"
        assert host.ssh(healed, check=False).returncode == 0, damage
        assert picture(host, *SPACES) == before, damage
    said = log(host)
    assert "healed: link eth1.10 is gone" in said and "healed: netns netns:far is gone" in said


def test_healing_takes_two_seconds_at_most(host: Host) -> None:
    """By the kernel's clock on the host: from the removal to the event of the link that is there again."""
    script = """
        ip -ts -o monitor link > /root/events & monitor=$!
        sleep 0.5
        ip link del eth2.20
        for n in $(seq 200); do ip link show eth2.20 >/dev/null 2>&1 && break; sleep 0.05; done
        sleep 0.2; kill $monitor; grep 'eth2[.]20' /root/events
    """
    rows = [line for line in host.ssh(script).stdout.splitlines() if "eth2.20" in line]
    times = [(re.search(r"T(\d+):(\d+):([\d.]+)\]", row), "Deleted" in row) for row in rows]
    gone = next(match for match, deleted in times if deleted and match)
    back = next(
        match for match, deleted in times[[deleted for _, deleted in times].index(True) :] if not deleted and match
    )

    def seconds(match: re.Match[str]) -> float:
        hours, minutes, rest = match.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    took = (seconds(back) - seconds(gone)) % 86400
    print(f"healed after {took:.2f} s")
    assert took < 20, "a machine that is busy is slower than 2 s, but not by much"
    assert until(lambda: settled(host))


def test_removed_three_times_is_held_reported_and_released(host: Host) -> None:
    for _ in range(2):
        host.ssh("ip link del eth1.40")
        assert until(lambda: "eth1.40" in links(host))
    host.ssh("ip link del eth1.40")
    assert until(lambda: "held: it was removed or changed three times in a minute: link eth1.40" in log(host))
    assert "eth1.40" not in links(host)
    assert "held: link eth1.40" in host.ssh("systemctl show -P StatusText netops-underlay").stdout
    assert "link eth1.40" in json.loads(host.ssh("underlay --json show").stdout)["held"]
    host.ssh("underlay release 'link eth1.40'")
    assert until(lambda: settled(host))


def test_a_person_at_work_is_left_alone(host: Host) -> None:
    host.ssh(
        "underlay hold network:far 'moving the cable'; ip -n far link show; underlay hold endpoint:far/far; ip -n far link del eth0"
    )
    time.sleep(4)  # twice what healing takes
    assert "eth0" not in links(host, "far")
    assert host.ssh("underlay hold nothing", check=False).returncode == 1
    host.ssh("underlay release everything")
    assert until(lambda: "eth0" in links(host, "far"))


def metrics(host: Host) -> dict[str, int]:
    text = host.ssh("sudo -u nobody cat /run/netops-underlay/netops_underlay.prom", check=False).stdout
    rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("netops_underlay_"): int(value) for name, _space, value in rows}


def test_prometheus_gets_the_state(host: Host, rack: Rack) -> None:
    host.ssh("systemctl restart netops-underlay")

    def confirmed() -> int:
        shown = json.loads(host.ssh("underlay --json show").stdout)["transactions"]
        return int(next(row["number"] for row in shown if row["state"] == "applied"))

    assert until(lambda: metrics(host))
    assert metrics(host) == {
        "drift": 0, "held": 0, "heals_total": 0, "last_confirmed_transaction": confirmed(),
        **{f'pool_leases{{network="{name}",pool="{pool}"}}': 1 for name, pool in POOLS},
        **{f'pool_size{{network="{name}",pool="{pool}"}}': 2**64 if ":" in pool else 256 for name, pool in POOLS},
    }  # fmt: skip
    host.ssh("ip route del 10.99.0.0/16")
    assert until(lambda: metrics(host)["heals_total"] == 1 and metrics(host)["drift"] == 0)
    host.ssh("underlay hold 'link eth1.40' 'ticket 4711'; ip link del eth1.40")
    assert until(lambda: metrics(host)["held"] == 1 and metrics(host)["drift"] > 0)
    assert "held: link eth1.40 (ticket 4711" in host.ssh("systemctl status netops-underlay --no-pager").stdout
    host.ssh("underlay release 'link eth1.40'")
    assert until(lambda: metrics(host)["held"] == metrics(host)["drift"] == 0)
    more = "  tasks: [{name: more, netops.underlay.vlan_endpoint: {network: web, name: more, netns: more, guard_timeout: %d, state: %s}}]\n"
    play(rack, more % (60, "present"))
    web = f'pool_leases{{network="web",pool="{POOLS[3][1]}"}}'
    assert until(lambda: metrics(host)[web] == 2 and metrics(host)["last_confirmed_transaction"] == confirmed())
    arm(host)
    before = confirmed()
    assert until(lambda: "eth1.77" in links(host)) and metrics(host)["last_confirmed_transaction"] == before
    host.ssh(f"underlay expire {before + 1}")
    play(rack, more % (0, "absent"))
    assert until(lambda: metrics(host)[web] == 1)


def arm(host: Host) -> None:
    """A transaction without confirmation."""
    host.ssh(
        "python3 -I -",
        stdin="""\
import os, sys
sys.path.insert(0, os.path.realpath("/usr/local/lib/netops-underlay/current"))
from _engine.declare import model
from _engine.run import converge, guard, transact
run = transact.RunOptions(guard=guard.HostGuard(3000, "/var/lib/netops-underlay"))
converge.converge(model.declare("vlan", {"parent": "eth1", "vlan_id": 77}, "present", False), run)
""",
    )


def test_idle_costs_little_memory_and_no_time(host: Host) -> None:
    group = "/sys/fs/cgroup/system.slice/netops-underlay.service"
    assert until(lambda: settled(host))
    time.sleep(2)
    used = "grep usage_usec " + group + "/cpu.stat | cut -d' ' -f2"
    first = int(host.ssh(used).stdout)
    time.sleep(10)
    spent = int(host.ssh(used).stdout) - first
    memory = int(host.ssh(f"cat {group}/memory.current").stdout)
    print(f"idle: {spent} us in 10 s, {memory / 2**20:.1f} MiB")
    assert spent < 50_000
    assert memory < 40 * 2**20


def test_the_unit_is_hardened_and_others_leave_ours_alone(host: Host) -> None:
    said = host.ssh("systemd-analyze security --no-pager netops-underlay | tail -1").stdout
    score = float(re.search(r": ([\d.]+) ", said)[1])  # type: ignore[index]
    print(f"systemd-analyze security: {score}")
    assert score < 3.0
    assert host.ssh("systemd-analyze verify netops-underlay.service 2>&1").stdout.strip() == ""
    before = picture(host, *SPACES)
    host.ssh("systemctl restart systemd-networkd; sleep 1")
    rows = host.ssh("networkctl list --no-legend --no-pager").stdout
    assert re.search(r"eth1\.10 +vlan .*unmanaged", rows)
    assert picture(host, *SPACES) == before


def test_without_healing_it_restores_at_boot_only(host: Host, rack: Rack) -> None:
    before = picture(host, *SPACES)
    prepare(rack, prepare_heal=False)
    host.reboot()
    assert until(lambda: settled(host))
    assert picture(host, *SPACES) == before
    assert host.ssh("systemctl is-active netops-underlay; pgrep -c underlay || true").stdout.split() == ["active", "0"]
    host.ssh("ip link del eth1.40")
    time.sleep(4)
    assert "eth1.40" not in links(host)
    host.ssh("underlay restore")
    assert picture(host, *SPACES) == before


def test_an_unconfirmed_transaction_is_undone_at_boot(host: Host, rack: Rack) -> None:
    before = picture(host, *SPACES)
    arm(host)
    assert "eth1.77" in links(host)
    assert "netops-underlay-guard" in host.ssh("systemctl list-timers --no-pager").stdout
    host.power_cut()
    host.boot()
    assert until(lambda: settled(host))
    assert picture(host, *SPACES) == before
    assert json.loads(host.ssh("underlay --json show").stdout)["transactions"][1]["state"] == "undone"


OUT = """\
  tasks:
    - name: out
      netops.underlay.ipvlan_l3_routes: {name: out, state: %s, routes: [{prefix: 10.98.0.0/16, via: 198.51.100.9}]}
"""
DROP_IN = "/etc/systemd/networkd.conf.d/netops-underlay.conf"


def test_networkd_leaves_our_routes_on_its_nics(host: Host, rack: Rack) -> None:
    """By its defaults it removes routes and rules of others when it starts."""

    def restart() -> bool:
        host.ssh("ip rule add from 203.0.113.9 table 77 priority 100; systemctl restart systemd-networkd")
        assert until(lambda: "203.0.113.9" not in host.ssh("ip rule").stdout), "it has removed what it removes"
        return "10.98.0.0/16" in host.ssh("ip route").stdout

    play(rack, OUT % "present")
    host.ssh("systemctl stop netops-underlay")
    try:
        assert restart()
        host.ssh(f"mv {DROP_IN} {DROP_IN}.off")
        restart()
        assert until(lambda: "10.98.0.0/16" not in host.ssh("ip route").stdout), "it is the file that keeps them"
    finally:
        host.ssh(f"[ -e {DROP_IN} ] || mv {DROP_IN}.off {DROP_IN}; systemctl start netops-underlay")
    assert until(lambda: settled(host)) and "10.98.0.0/16" in host.ssh("ip route").stdout
    play(rack, OUT % "absent")


LLDP = "vlan and ether proto 0x88cc"


def test_networkd_announces_the_host_to_no_tenant(host: Host) -> None:
    """A file of somebody who wants LLDP on every link: a sub-interface of others says the host's name, and ours say nothing."""
    every = "/etc/systemd/network/99-every.network"
    host.ssh(
        f"ip link add eth1.81 link eth1 up type vlan id 81; cat > {every}",
        stdin="[Match]\nName=*\n[Network]\nEmitLLDP=yes\nLinkLocalAddressing=no\n",
    )
    try:
        said = host.ssh(
            f"(timeout 60 tcpdump -i eth1 -nn -e -l -c 4 '{LLDP}' > /run/lldp 2>/dev/null; touch /run/lldp.over) & sleep 1; "
            "systemctl restart systemd-networkd; until [ -e /run/lldp.over ]; do sleep 0.2; done; cat /run/lldp"
        ).stdout
        found = re.findall(r"vlan (\d+),", said)
        assert found == ["81"] * 4, said
    finally:
        host.ssh(f"rm {every}; ip link del eth1.81; systemctl restart systemd-networkd")
    assert until(lambda: settled(host))


def test_nics_that_the_next_boot_names_differently(host: Host, rack: Rack) -> None:
    """Two swap their names, a third has a new one: what is sure follows, and nothing is built on a guess."""
    before = picture(host, *SPACES)
    macs = {name: host.ssh(f"cat /sys/class/net/{name}/address").stdout.strip() for name in ("eth1", "eth2")}
    for old, new in (("eth1", "eth2"), ("eth2", "eth1"), ("eth3", "ens3f0np0")):
        host.ssh(f"sed -i 's/^Name=.*/Name={new}/' /etc/systemd/network/10-{old}.link")
    host.reboot()
    assert until(lambda: "eth0" in links(host, "far"))
    assert {key: value for key, value in picture(host, *SPACES).items() if key.startswith("far")} == {
        key: value for key, value in before.items() if key.startswith("far")
    }
    assert not {"eth1.10", "eth1.40", "eth2.20"} & set(links(host))
    said = host.ssh("underlay drift", check=False).stdout
    for old, new in (("eth1", "eth2"), ("eth2", "eth1")):
        assert re.search(f"{old} was {macs[old]} .* is called {new} now; {old} is {macs[new]}", said), said
    swapped = re.sub("eth([12])", lambda found: f"eth{3 - int(found[1])}", RACK)
    assert play(rack, swapped)["rack"]["h1"]["changed"]
    for sub, nic in (("eth1.10", "eth2"), ("eth1.40", "eth2"), ("eth2.20", "eth1")):
        assert json.loads(host.ssh(f"ip -j link show {sub}").stdout)[0]["link"] == nic
    assert settled(host) and not play(rack, swapped)["rack"]["h1"]["changed"]


def test_everything_that_prepare_wrote_goes_again(host: Host, rack: Rack) -> None:
    prepare(rack, prepare_service=False)
    left = host.ssh("ls -d /run/netops-underlay /usr/local/lib/netops-underlay* /usr/local/sbin/underlay /etc/systemd/system/netops-underlay* "
                    "/etc/systemd/system/*/netops-underlay* /etc/udev/rules.d/*underlay* /etc/systemd/network*/*underlay* "
                    "/usr/local/share/man/man8/underlay* /usr/local/share/bash-completion", check=False)  # fmt: skip
    assert left.stdout == ""
    assert {"eth1.10", "eth2.20"} <= set(links(host)), "the networks stay"
