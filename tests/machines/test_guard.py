# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Changes that cut the controller off are undone by the host itself, over the very SSH that they cut."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rack import Host, Rack

from tests.machines import namespace_hosts
from tests.support.machines import CALLBACK, HEAD, Rows, events, links, play, prepare
from tests.support.waiting import until

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


@pytest.fixture
def host(rack: Rack) -> Host:
    return rack["h1"]


def transactions(host: Host) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(host.ssh("underlay --json show").stdout)["transactions"]
    return found


def timers(host: Host) -> str:
    return host.ssh("systemctl list-units --all --no-legend --plain 'netops-underlay-guard*'").stdout


def test_a_harmless_change_is_confirmed(host: Host, rack: Rack) -> None:
    said = play(rack, FINE.format(name="one", vlan=11, timeout=60, more=""))["fine"]["h1"]
    assert said["changed"] and "_guard" not in said
    assert transactions(host)[0]["state"] == "applied"
    assert timers(host) == ""
    assert not play(rack, FINE.format(name="one", vlan=11, timeout=60, more=""))["fine"]["h1"]["changed"]
    assert "eth1.11" in links(host)


def test_who_and_which_job_is_recorded(host: Host, rack: Rack) -> None:
    job = ("-e", "awx_job_id=4711", "-e", "awx_user_name=alice")
    assert play(rack, FINE.format(name="job", vlan=17, timeout=0, more=""), *job)["fine"]["h1"]["changed"]
    newest = transactions(host)[0]
    assert newest["who"] == "alice, job 4711" and newest["time"], newest
    assert "alice, job 4711" in host.ssh("underlay show").stdout
    host.ssh(f"underlay undo {newest['number']}")


def test_a_change_that_would_cut_the_way_is_refused_before(host: Host, rack: Rack) -> None:
    said = play(rack, CUT.format(host=2, timeout=20), check=False)["cut"]["h1"]
    assert said["failed"] and "198.51.100.1, from which this host is managed" in said["msg"]
    assert "eth1.66" not in links(host)


def test_the_way_in_is_not_taken_away(host: Host, rack: Rack) -> None:
    """A host that is managed by an address of ours."""
    body = """\
  tasks:
    - name: link
      netops.underlay.vlan_link: {parent: eth1, vlan_id: 90, addresses: [%s], state: %s}
"""
    rack.switch.vlans("h1", "eth1", {90})
    rack.switch.add_tap("in90", untagged=90)
    subprocess.run("ip address add 10.90.0.1/24 dev in90; ip link set in90 up", shell=True, check=True)
    assert play(rack, body % ("10.90.0.2/24, 10.91.0.2/24", "present"))["link"]["h1"]["changed"]
    by = ("-e", "ansible_host=10.90.0.2")
    for addresses, state, option in (("10.91.0.2/24", "present", "addresses"), ("10.90.0.2/24", "absent", "state")):
        said = play(rack, body % (addresses, state), *by, check=False)["link"]["h1"]
        assert said["failed"] and said["msg"].startswith(
            f"{option}: this host is managed through 10.90.0.2/24 of eth1.90; "
        ), said
    assert play(rack, body % ("10.90.0.2/24", "present"), *by)["link"]["h1"]["changed"], "the other goes"
    assert play(rack, body % ("10.90.0.2/24", "absent"))["link"]["h1"]["changed"], "by another way it goes"


#: Takes the way away when the change is there, as no rule can foresee: answers to the controller go nowhere. It ends by
#: itself too, so that one test's trap never shuts another test out.
TRAP = """\
rm -f /run/trap-{vlan}.over
setsid sh -c '
    touch /run/trap-{vlan}
    end=$(($(date +%s) + 150))
    while [ -e /run/trap-{vlan} ] && [ $(date +%s) -lt $end ]; do
        if [ -e /sys/class/net/eth1.{vlan} ]; then {shut}; shut=1; elif [ "$shut" ]; then {open}; shut=; fi
        sleep 0.05
    done
    [ -z "$shut" ] || {open}
    touch /run/trap-{vlan}.over
' >/dev/null 2>&1 </dev/null &
until [ -e /run/trap-{vlan} ]; do sleep 0.05; done
"""


def blackhole(way: str = "198.51.100.1") -> tuple[str, str]:
    return f"ip route replace blackhole {way}/32", f"ip route del blackhole {way}/32"


#: Connections that there are go on, and there are no new ones.
NO_NEW_ONES = ('[ "$shut" ] || systemctl stop ssh', "systemctl start ssh")


@contextlib.contextmanager
def trap(host: Host, vlan: int, how: tuple[str, str] = blackhole()) -> Iterator[None]:
    host.ssh(TRAP.format(vlan=vlan, shut=how[0], open=how[1]))
    try:
        yield
    finally:
        off = f"rm -f /run/trap-{vlan}; until [ -e /run/trap-{vlan}.over ]; do sleep 0.05; done"
        assert until(lambda: host.ssh(off, check=False).returncode == 0, 200), "the trap is still there"


def test_a_play_that_cuts_its_own_way_is_undone_and_the_host_answers_again(host: Host, rack: Rack) -> None:
    with trap(host, 66):
        said = play(rack, FINE.format(name="cut", vlan=66, timeout=15, more=""), check=False)["fine"]["h1"]
        assert is_undone(host, said, "eth1.66")
    assert host.ssh("underlay drift", check=False).returncode == 0


def is_undone(host: Host, said: dict[str, Any], link: str) -> bool:
    """The task failed and says why, and the host is there again as it was."""
    assert said["failed"] and not said["changed"]
    assert "was not confirmed" in said["msg"] or "does not answer a new connection" in said["msg"], said["msg"]
    assert "Shared connection" not in said["msg"], "what ssh says of itself is not the reason"
    assert until(lambda: host.ssh("true", check=False).returncode == 0)
    assert link not in links(host)
    return [row["state"] for row in transactions(host)[:2]] == ["applied", "undone"]


def test_a_controller_that_dies_in_between_is_undone(host: Host, rack: Rack) -> None:
    path = rack.directory / "dies.yml"
    path.write_text(HEAD + FINE.format(name="dies", vlan=67, timeout=20, more=""))
    with trap(host, 67):  # so that it cannot confirm before it is killed
        child = subprocess.Popen(
            ["ansible-playbook", os.fspath(path)], env={**os.environ, **rack.environment, **CALLBACK}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            # By a ping: an SSH session that began before would wait, and go on when all is over.
            assert until(
                lambda: subprocess.run(["ping", "-c1", "-W2", host.address], capture_output=True).returncode
            ), "the trap never closed"
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        assert until(lambda: host.ssh("true", check=False).returncode == 0)
    assert "eth1.67" not in links(host)
    assert [row["state"] for row in transactions(host)[:2]] == ["applied", "undone"]


def arm(host: Host, vlan: int, timeout: int) -> object:
    """A transaction of eve, who goes away."""
    host.ssh(
        "python3 -I -",
        stdin=f"""\
import os, sys
sys.path.insert(0, os.path.realpath("/usr/local/lib/netops-underlay/current"))
from _engine.declare import model
from _engine.run import converge, guard, transact
run = transact.RunOptions(who="eve", guard=guard.HostGuard({timeout}, "/var/lib/netops-underlay"))
converge.converge(model.declare("vlan", {{"parent": "eth1", "vlan_id": {vlan}}}, "present", False), run)
""",
    )
    return transactions(host)[0]["number"]


def test_a_clock_that_jumps_fires_no_guard_and_holds_none_back(host: Host, rack: Rack) -> None:
    number = arm(host, 78, 3000)
    # Not that the service looks at the host just now, but that eve is waited for, and for how long.
    waits = re.compile(rf"transaction {number} of eve waits .* is undone in 2\d{{3}} s")
    for jump in ("+1 day", "-400 days", "+2 hours"):
        host.ssh(f"date -s '{jump}'")
        assert until(lambda: waits.search(host.ssh("underlay --lock-timeout 2 undo 1", check=False).stderr)), jump
    host.ssh(f"underlay confirm {number}")
    assert transactions(host)[0]["state"] == "applied" and "eth1.78" in links(host)
    host.ssh("date -s '+1 day'")
    last = arm(host, 79, 10)
    assert last == number + 1  # type: ignore[operator]
    host.ssh("date -s '-30 days'")
    assert until(lambda: [row["state"] for row in transactions(host)[:2]] == ["applied", "undone"])
    assert "eth1.79" not in links(host)
    # A controller that comes now, by a clock that is behind all that is written down, is the last one.
    assert play(rack, FINE.format(name="late", vlan=16, timeout=60, more=""))["fine"]["h1"]["changed"]
    newest = transactions(host)[0]
    assert newest["state"] == "applied" and newest["number"] == number + 3  # type: ignore[operator]
    host.ssh(f"date -s @{int(time.time())}; underlay undo {newest['number']}")
    assert "eth1.16" not in links(host)


ASYNC = """\
  tasks:
    - name: begin
      netops.underlay.vlan_network:
        {name: "late{{ item }}", driver: macvlan, parent: "eth1.4{{ item }}", subnets: [{subnet: "10.4{{ item }}.0.0/24"}], lock_timeout: 300}
      async: 600
      poll: 0
      loop: [0, 1, 2, 3]
      register: begun
    - name: end
      ansible.builtin.async_status: {jid: "{{ item.ansible_job_id }}"}
      loop: "{{ begun.results }}"
      register: ended
      until: ended.finished
      retries: 600
      delay: 1
"""


def test_tasks_that_run_on_by_themselves_wait_for_each_other(host: Host, rack: Rack) -> None:
    before = transactions(host)[0]["number"]
    said = play(rack, ASYNC)["end"]["h1"]["results"]
    assert sorted(row["transaction"] for row in said) == [before + number for number in range(1, 5)]  # type: ignore[operator]
    assert {f"eth1.4{number}" for number in range(4)} <= set(links(host))
    # Nothing shows from where such a task is directed.
    body = CUT.format(host=2, timeout=0).replace("198.51.100.2/30", "10.66.0.1/24") + "      async: 60\n      poll: 1\n"
    said = play(rack, body, check=False)["cut"]["h1"]
    assert said["failed"] and "it is unknown from where this host is managed" in said["msg"], said
    said = play(rack, body.replace("guard_timeout: 0", "managed_from: [198.51.100.1]"))["cut"]["h1"]
    assert said["changed"] and "eth1.66" in links(host)
    host.ssh(f"underlay undo {said['transaction']}")


def test_a_second_run_waits_or_names_the_one_that_is_not_confirmed(host: Host, rack: Rack) -> None:
    number = arm(host, 77, 3000)

    def other(lock_timeout: int) -> str:
        return FINE.format(name="two", vlan=12, timeout=0, more=f"        lock_timeout: {lock_timeout}\n")

    said = play(rack, other(1), check=False)["fine"]["h1"]
    assert said["failed"] and f"transaction {number} of eve waits for confirmation" in said["msg"]
    host.ssh(f"systemd-run --quiet --on-active=10 /usr/local/sbin/underlay expire {number}")
    assert play(rack, other(120))["fine"]["h1"]["changed"]
    assert "eth1.77" not in links(host) and "eth1.12" in links(host)


def test_a_probe_decides_too(host: Host, rack: Rack) -> None:
    probe = "        guard_probe: {{ping: [{}]}}\n"
    said = play(
        rack, FINE.format(name="probed", vlan=13, timeout=60, more=probe.format("198.51.100.250")), check=False
    )["fine"]["h1"]
    assert said["failed"] and "198.51.100.250 does not answer" in said["msg"] and "is undone" in said["msg"]
    assert "eth1.13" not in links(host)
    assert play(rack, FINE.format(name="probed", vlan=13, timeout=60, more=probe.format("198.51.100.1")))["fine"]["h1"][
        "changed"
    ]
    assert "eth1.13" in links(host)
    said = play(rack, FINE.format(name="probed", vlan=13, timeout=0, more=probe.format("x")), check=False)["fine"]["h1"]
    assert "guard_probe.ping[0]: 'x' is no address" in said["msg"] and "guard_timeout is 0" in said["msg"]


PROBED = """\
  tasks:
    - name: probed
      netops.underlay.vlan_map:
        name: probed
        networks: [{{name: wire, driver: macvlan, parent: eth1.15, subnets: [{{subnet: 10.15.0.0/24, gateway: none}}]}}]
        endpoints: [{endpoints}]
        guard_timeout: {timeout}
        guard_probe: {probe}
"""
SERVED, ASKS = "{network: wire, name: served, netns: served}", "{network: wire, name: asks, netns: asks}"


def test_a_probe_from_an_endpoint_and_of_a_url(host: Host, rack: Rack) -> None:
    assert play(rack, PROBED.format(endpoints=SERVED, timeout=0, probe="{}"))["probed"]["h1"]["changed"]
    host.ssh("mkdir /root/www; systemd-run -q --unit=www ip netns exec served python3 -m http.server -d /root/www 80")

    def probe(url: str, origin: str = "endpoint: wire/asks") -> dict[str, Any]:
        body = PROBED.format(
            endpoints=f"{SERVED}, {ASKS}", timeout=60, probe=f"{{url: ['http://10.15.0.1{url}'], {origin}}}"
        )
        return play(rack, body, check=False)["probed"]["h1"]

    said = probe("/missing")  # which answers with a 404
    assert (
        said["failed"]
        and "http://10.15.0.1/missing does not answer to wire/asks" in said["msg"]
        and "is undone" in said["msg"]
    )
    said = probe("/", origin="")  # the host is not on that wire
    assert (
        said["failed"]
        and "http://10.15.0.1/ does not answer; transaction" in said["msg"]
        and "is undone" in said["msg"]
    )
    assert links(host, "asks") == [] and "eth0" in links(host, "served")
    assert probe("/")["changed"]
    assert "eth0" in links(host, "asks") and transactions(host)[0]["state"] == "applied"


# --- the ways to a host --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alice(rack: Rack) -> str:
    """An inventory of h1 for somebody who is not root there, and may become so."""
    rack["h1"].ssh(
        "useradd --create-home --shell /bin/bash --password '*' alice; cp -r /root/.ssh /home/alice; chown -R alice: /home/alice/.ssh; "
        "echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice"
    )
    return namespace_hosts.inventory(rack, "alice", [rack["h1"]], ansible_user="alice", ansible_pipelining="true")


@pytest.fixture(scope="module")
def inner(rack: Rack) -> namespace_hosts.Space:
    """A host behind h1."""
    return namespace_hosts.behind(rack["h1"], rack.directory / "ssh_config")


@pytest.mark.parametrize("way", ["by sudo with pipelining", "through a jump host", "by ansible-runner"])
def test_the_guard_by_every_way(way: str, rack: Rack, alice: str, inner: namespace_hosts.Space) -> None:
    host: Host = inner if way == "through a jump host" else rack["h1"]
    where = (
        namespace_hosts.inventory(rack, "inner", [inner])
        if host is inner
        else alice
        if way == "by sudo with pipelining"
        else os.fspath(rack.inventory)
    )
    run = runner if way == "by ansible-runner" else play
    here = "10.77.0.1" if host is inner else "198.51.100.1"  # to the host, a jump host is who manages it

    said = run(rack, FINE.format(name="way", vlan=21, timeout=60, more=""), "-i", where, check=False)["fine"][host.name]
    assert said["changed"] and not said["failed"], said
    assert transactions(host)[0]["state"] == "applied"
    # An address that takes the way to the connected controller is refused without a guard, for it is known who that is.
    body = CUT.format(host=2, timeout=0).replace("198.51.100.2/30", f"{here[:-1]}2/30")
    said = run(rack, body, "-i", where, check=False)["cut"][host.name]
    assert said["failed"] and f"holds {here}, from which this host is managed" in said["msg"], said
    with trap(host, 22, blackhole(here)):
        said = run(rack, FINE.format(name="cut", vlan=22, timeout=12, more=""), "-i", where, check=False)["fine"][
            host.name
        ]
        assert is_undone(host, said, "eth1.22")
    run(rack, FINE.format(name="way", vlan=21, timeout=0, more="        state: absent\n"), "-i", where)


def runner(rack: Rack, body: str, *options: str, check: bool = True) -> Rows:
    """A play as AWX runs it."""
    path = rack.directory / "runner" / str(time.monotonic_ns())
    (path / "project").mkdir(parents=True)
    (path / "project/play.yml").write_text(HEAD + body)
    words = ["ansible-runner", "run", os.fspath(path), "-p", "play.yml", "--inventory", options[1], "--json", "--quiet"]
    done = rack.run(*words, check=False)
    found: Rows = {}
    for event in events(path):
        if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
            data = event["event_data"]
            found.setdefault(data["task"], {})[data["host"]] = {
                **data["res"],
                "failed": event["event"] != "runner_on_ok",
            }
    assert found and (done.returncode == 0 or not check), done.stdout[-2000:] + done.stderr[-2000:]
    return found


def test_a_connection_that_persists_confirms_nothing(rack: Rack, host: Host) -> None:
    """A master that the user's own configuration of ssh keeps open goes on, while the host takes no new connection."""
    config = rack.directory / "persisting"
    config.write_text(f"Host *\n  ControlMaster auto\n  ControlPersist yes\n  ControlPath {rack.directory}/m-%C\n")
    by = {"ANSIBLE_SSH_ARGS": f"-F {config}"}
    master = ["ssh", "-F", os.fspath(config), *host.ssh_words()[1:], f"root@{host.address}"]
    try:
        assert play(rack, FINE.format(name="kept", vlan=23, timeout=60, more=""), **by)["fine"]["h1"]["changed"]
        assert subprocess.run([*master, "true"], check=False).returncode == 0
        with trap(host, 24, NO_NEW_ONES):
            said = play(rack, FINE.format(name="shut", vlan=24, timeout=12, more=""), check=False, **by)["fine"]["h1"]
            assert is_undone(host, said, "eth1.24")
    finally:
        subprocess.run([*master[:3], "-O", "exit", master[-1]], check=False, capture_output=True)


def test_a_task_that_no_sshd_started_knows_no_controller(rack: Rack, host: Host, alice: str) -> None:
    """systemd starts it, as run0 has it do: no sshd is above it."""
    host.ssh(
        "cat > /usr/local/bin/apart; chmod 755 /usr/local/bin/apart",
        stdin='#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec sudo systemd-run --quiet --pipe --wait --collect -- "$@"\n',
    )
    by = ("-i", alice, "-e", "ansible_become_exe=/usr/local/bin/apart")
    assert play(rack, FINE.format(name="apart", vlan=25, timeout=60, more=""), *by)["fine"]["h1"]["changed"]
    body = CUT.format(host=2, timeout=0).replace("198.51.100.2/30", "10.68.0.1/24")
    said = play(rack, body, *by, check=False)["cut"]["h1"]
    assert said["failed"] and "it is unknown from where this host is managed" in said["msg"], said
    # The one who is connected is respected all the same.
    said = play(rack, CUT.format(host=2, timeout=20), *by, check=False)["cut"]["h1"]
    assert said["failed"] and "198.51.100.1, from which this host is managed" in said["msg"], said
    assert "eth1.66" not in links(host)


def test_sudo_that_requires_a_terminal(rack: Rack, host: Host, alice: str) -> None:
    """Ansible gives it one, the confirmation too, but not with pipelining, where nothing begins."""
    host.ssh("echo 'Defaults:alice requiretty' > /etc/sudoers.d/terminal")
    try:
        said = play(rack, FINE.format(name="tty", vlan=26, timeout=60, more=""), "-i", alice, check=False)["fine"]["h1"]
        assert said["failed"] and "sorry, you must have a tty to run sudo" in str(said), said
        assert "eth1.26" not in links(host)
        by = ("-i", alice, "-e", "ansible_pipelining=false")
        assert play(rack, FINE.format(name="tty", vlan=26, timeout=60, more=""), *by)["fine"]["h1"]["changed"]
        assert transactions(host)[0]["state"] == "applied" and "eth1.26" in links(host)
    finally:
        host.ssh("rm /etc/sudoers.d/terminal")


def test_twenty_hosts_at_forks_two_see_no_false_undo(rack: Rack, host: Host) -> None:
    many = namespace_hosts.start(host, 20)
    where = namespace_hosts.inventory(rack, "many", many)
    begun = time.monotonic()
    said = play(rack, FINE.format(name="many", vlan=31, timeout=20, more=""), "-i", where, "--forks", "2")["fine"]
    print(f"20 hosts at forks 2, a guard of 20 s each: {time.monotonic() - begun:.0f} s")
    assert sorted(said) == sorted(space.name for space in many) and all(row["changed"] for row in said.values())
    # Every guard has come to its end, and found nothing to do.
    assert until(lambda: host.ssh("pgrep -f '[u]nderlay .*expire'", check=False).returncode == 1)
    for space in many:
        assert "eth1.31" in links(space) and [row["state"] for row in transactions(space)] == ["applied"], space.name


def test_without_the_engine_there_is_no_guard_and_that_is_said(host: Host, rack: Rack) -> None:
    host.ssh("mv /usr/local/sbin/underlay /root/underlay")
    try:
        said = play(rack, FINE.format(name="three", vlan=14, timeout=60, more=""), check=False)["fine"]["h1"]
        assert (
            said["failed"]
            and "run the role netops.underlay.prepare, which installs it, or set guard_timeout: 0" in said["msg"]
        )
        assert "eth1.14" not in links(host)
    finally:
        host.ssh("mv /root/underlay /usr/local/sbin/underlay")


def test_an_older_engine_is_refused_with_the_cure(host: Host, rack: Rack) -> None:
    host.ssh("echo 0 > /usr/local/lib/netops-underlay/current/schema")
    said = play(rack, FINE.format(name="three", vlan=14, timeout=0, more=""), check=False)["fine"]["h1"]
    assert said["failed"] and "run the role netops.underlay.prepare first" in said["msg"]
    assert "eth1.14" not in links(host)
    prepare(rack)
    assert play(rack, FINE.format(name="three", vlan=14, timeout=0, more=""))["fine"]["h1"]["changed"]
