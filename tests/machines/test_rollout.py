# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From NetOps' table to a fleet and back, over real SSH, by the engine that AWX runs playbooks with.

tests/lab/run --rack -- python -m pytest tests/machines/test_rollout.py

Three hosts at two sites whose NICs are called differently, sixty VLANs on two trunks, a gateway in each. The tests are
steps of one roll-out.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml
from rack import KERNEL, Host, Rack

from tests.support.machines import play
from tests.support.waiting import until

if not KERNEL.is_dir():
    pytest.skip("not started by tests/lab/run --rack", allow_module_level=True)

PROJECT = Path(__file__).absolute().parents[2] / "examples" / "awx"
NICS = {
    "h1": ("eth1", "eth2"),
    "h2": ("trunk0", "trunk1"),
    "h3": ("ens7", "ens8"),
}
SITES = {"h1": "ams", "h2": "ams", "h3": "fra"}
#: What AWX keeps of a result.
AWX_BYTES = 700_000
#: A host that loses its power takes a connection with it that was never closed.
SSH = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
HEAD = "vlan,name,trunk,driver,mode,subnets,gateways,per_host,site,mtu\n"
#: VLANs that no tenant has yet: of a trunk, of a site where it is not everywhere.
SPARE = {
    vlan: ("fabric_a" if vlan < 127 else "fabric_b", "" if vlan < 136 else "ams" if vlan < 145 else "fra")
    for vlan in range(100, 154)
}
MAP = (
    HEAD
    + (
        "10,web,fabric_a,macvlan,bridge,10.0.10.0/24 2001:db8:10::/64,10.0.10.1 2001:db8:10::1,27 80,,\n"
        "11,app,fabric_a,macvlan,bridge,10.0.11.0/24,10.0.11.1,,,1500\n"
        "12,fra,fabric_a,ipvlan,l2,10.0.12.0/24,10.0.12.1,,fra,\n"
        "20,db,fabric_b,ipvlan,l2,10.0.20.0/24,10.0.20.1,,,\n"
        "21,log,fabric_b,macvlan,private,10.0.21.0/24,10.0.21.1,,,\n"
        "30,pods,fabric_b,ipvlan,l3,10.30.0.0/16,,26,,\n"
    )
    + "".join(
        f"{vlan},spare{vlan},{trunk},macvlan,bridge,10.0.{vlan}.0/24,10.0.{vlan}.1,,{site},\n"
        for vlan, (trunk, site) in SPARE.items()
    )
)
#: VLANs of each trunk; 30 is L3 and has no neighbour to ask.
FABRICS = tuple(
    {int(row.partition(",")[0]) for row in MAP.splitlines()[1:] if f",{trunk}," in row}
    for trunk in ("fabric_a", "fabric_b")
)
GATEWAYS = sorted(set().union(*FABRICS) - {30})
ENDPOINTS = [
    {"network": "web", "name": "shop", "netns": "shop"},
    {"network": "app", "name": "shop-app", "netns": "shop"},
    {"network": "db", "name": "db", "netns": "db"},
]


class Rollout:
    """An inventory beside its map and ledger, and AWX's engine to run the playbooks with it."""

    def __init__(self, rack: Rack, directory: Path) -> None:
        self.rack = rack
        self.directory = directory
        self.inventory = directory / "inventory"
        self.map = directory / "map"
        self._runs = itertools.count()
        for path in (self.inventory, self.map):
            path.mkdir()
        shutil.copy(rack.inventory, self.inventory / "10-hosts.ini")
        (self.inventory / "90-netops_map.yml").write_text(
            "plugin: netops.underlay.netops_map\nmaps: [../map/vlans.csv]\nledger: ../map/ledger.yml\n",
            encoding="utf-8",
        )
        self.hosts(*NICS)
        self.rows(MAP)

    def rows(self, text: str) -> None:
        (self.map / "vlans.csv").write_text(text, encoding="utf-8")

    def hosts(self, *names: str, endpoints: Any = None) -> None:
        """Who is in the map, with their own NICs: by name, or by what they are known by."""
        members: dict[str, Any] = {}
        for name in names:
            first, second = NICS[name]
            nics: dict[str, Any] = {"fabric_a": first, "fabric_b": {"match": {"mac": self.rack[name].mac(second)}}}
            members[name] = {
                "trunk_nics": nics,
                "site": SITES[name],
                "netops_endpoints": ENDPOINTS if endpoints is None else endpoints,
            }
        groups = {
            "mapped": {
                "hosts": members,
                "vars": {"trunk_purge": True, "prepare_neighbours": 4096, "prepare_heal": False},
            },
            "canary": {"hosts": {"h1": {}}},
        }
        (self.inventory / "20-mapped.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
        config = (self.inventory / "90-netops_map.yml").read_text(encoding="utf-8").partition("hosts_of")[0]
        (self.inventory / "90-netops_map.yml").write_text(config + "hosts_of: mapped\n", encoding="utf-8")

    def slices(self, *parts: set[str]) -> list[Path]:
        """The inventory as AWX keeps it, and gives a part of the hosts to each job of a sliced template: a script, with all variables."""
        listed = json.loads(self.rack.run("ansible-inventory", "-i", os.fspath(self.inventory), "--list").stdout)
        hostvars = listed.pop("_meta")["hostvars"]
        found = []
        for number, part in enumerate(parts):
            groups = {
                name: {**group, "hosts": [host for host in group.get("hosts", ()) if host in part]}
                for name, group in listed.items()
            }
            groups["_meta"] = {"hostvars": {host: hostvars[host] for host in part}}
            script = self.directory / f"slice{number}"
            script.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(groups)}\nEND\n", encoding="utf-8")
            script.chmod(0o755)
            found.append(script)
        return found

    def run(
        self, playbook: str, limit: str | None = None, inventory: Path | None = None, tags: str = "", **extra: Any
    ) -> Any:
        private = (
            self.directory / f"run{next(self._runs)}"
        )  # each run its own: what one was given is not the next one's
        private.mkdir()
        if playbook != "canary":
            extra["underlay_hosts"] = "mapped"
        done = ansible_runner.run(
            private_data_dir=os.fspath(private), project_dir=os.fspath(PROJECT),
            playbook=f"{playbook}.yml", inventory=os.fspath(inventory or self.inventory), extravars=extra, limit=limit,
            tags=tags or None, quiet=True, envvars={"ANSIBLE_PIPELINING": "1", "ANSIBLE_FORKS": "5", "ANSIBLE_HOST_KEY_CHECKING": "False",
                                 "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1", "ANSIBLE_INJECT_FACT_VARS": "False",
                                 "ANSIBLE_TIMEOUT": "5", "ANSIBLE_SSH_ARGS": SSH},
        )  # fmt: skip
        return Run(done)


class Run:
    """What AWX would know of a run: its events, statistics and artifacts."""

    def __init__(self, done: Any) -> None:
        self.good = done.rc == 0
        self.output = done.stdout.read()
        self.events = list(done.events)
        self.stats = done.stats or {}

    def results(self, task: str) -> dict[str, dict[str, Any]]:
        """The last result of a task, by host."""
        return {
            event["event_data"]["host"]: event["event_data"]["res"]
            for event in self.events
            if event["event"] in ("runner_on_ok", "runner_on_failed")
            and event["event_data"].get("task", "").endswith(task)
        }

    @property
    def changed(self) -> set[str]:
        return {host for host, number in self.stats.get("changed", {}).items() if number}

    @property
    def what(self) -> set[tuple[str, str]]:
        """The tasks that changed a host."""
        return {
            (event["event_data"]["task"], event["event_data"]["host"])
            for event in self.events
            if event["event"] == "runner_on_ok" and event["event_data"]["res"].get("changed")
        }

    @property
    def ran(self) -> set[str]:
        """The tasks that ran on any host."""
        return {
            event["event_data"]["task"]
            for event in self.events
            if event["event"] in ("runner_on_ok", "runner_on_failed")
        }

    @property
    def artifacts(self) -> dict[str, Any]:
        for event in self.events:
            if event["event"] == "playbook_on_stats":
                return dict(event["event_data"].get("artifact_data") or {})
        return {}

    @property
    def tasks(self) -> Counter[str]:
        """How many tasks ran on each host."""
        return Counter(
            event["event_data"]["host"]
            for event in self.events
            if event["event"] in ("runner_on_ok", "runner_on_failed")
        )


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(scope="module")
def rollout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollout]:
    hosts = [
        Host(name, nics={"eth0": "mgmt", first: "trunk", second: "trunk"}, mem="1G" if name == "h1" else "512M")
        for name, (first, second) in NICS.items()
    ]
    with Rack(hosts) as rack:
        for vlan in GATEWAYS:
            rack.switch.add_tap(f"gw{vlan}", untagged=vlan)
            ip("link", "set", f"gw{vlan}", "up")
            ip("address", "add", f"10.0.{vlan}.1/24", "dev", f"gw{vlan}")
        ip("address", "add", "2001:db8:10::1/64", "dev", "gw10", "nodad")
        for name, nics in NICS.items():
            for nic, vlans in zip(nics, FABRICS):
                rack.switch.vlans(name, nic, vlans)
        yield Rollout(rack, tmp_path_factory.mktemp("rollout"))


def links(host: Host) -> set[str]:
    found = json.loads(host.ssh("ip -d -j link show").stdout)
    return {link["ifname"] for link in found if link.get("linkinfo", {}).get("info_kind") == "vlan"}


def declared(name: str, *but: int) -> dict[int, str]:
    """The VLANs of a host's map and the sub-interface of each."""
    found = {}
    for row in MAP.splitlines()[1:]:
        vlan, site = int(row.partition(",")[0]), row.split(",")[-2]
        if site in ("", SITES[name]) and vlan not in but:
            found[vlan] = f"{NICS[name][vlan in FABRICS[1]]}.{vlan}"
    return found


STEPS = ("Converge the host",)
predicted: dict[str, Any] = {}


def counts(run: Run) -> dict[str, Any]:
    return {
        task: {host: (result["changed"], result.get("plan", {}).get("counts")) for host, result in run.results(task).items()}
        for task in STEPS
    }  # fmt: skip


def test_nothing_is_planned_while_the_ledger_lacks_something(rollout: Rollout) -> None:
    run = rollout.run("plan")
    assert not run.good
    for text in ("host h1 has no slice of 10.0.10.0/24 in network web", "host h3 has no slice of 10.30.0.0/16 in network pods",
                 "endpoint h2/db has no IPv4 address in network db"):  # fmt: skip
        assert text in run.output
    assert not (rollout.map / "ledger.yml").exists()


def test_allocating(rollout: Rollout) -> None:
    run = rollout.run("allocate")
    assert run.good, run.output
    text = (rollout.map / "ledger.yml").read_text(encoding="utf-8")
    assert "    10.0.10.32/27: h2\n" in text
    assert "    10.30.0.128/26: h3\n" in text
    assert "".join(f"    10.0.11.{number + 1}: h{number}/shop-app\n" for number in range(1, 4)) in text
    assert not rollout.run("allocate").changed


def test_the_plan_of_bare_hosts(rollout: Rollout) -> None:
    run = rollout.run("plan")
    assert run.good, run.output
    plan = run.artifacts["underlay_plan"]
    assert (plan["changed"], plan["unchanged"], plan["failed"], plan["risk"]) == (list(NICS), [], [], "low")
    assert "risk low: only new objects, and links that come up" in run.output
    assert all(links(host) == set() for host in rollout.rack)
    assert not rollout.run("plan", plan_fail_on_change=True).good
    predicted.update(counts(run))
    assert all(set(predicted[task]) == set(NICS) for task in STEPS)


def test_the_canary_and_then_the_others(rollout: Rollout) -> None:
    assert "no host matches missing" in rollout.run("canary", canary_hosts="missing").output
    assert "underlay_hosts is set" in rollout.run("canary", canary_hosts="canary", underlay_hosts="mapped").output
    canary = rollout.run("canary", canary_hosts="canary")
    assert canary.good, canary.output
    assert links(rollout.rack["h1"]) == set(declared("h1").values())
    assert links(rollout.rack["h2"]) == set()
    site = rollout.run("site", site_batch=2)
    assert site.good, site.output
    for host in rollout.rack:
        assert links(host) == set(declared(host.name).values())
    done = counts(site)
    for task in STEPS:
        done[task]["h1"] = counts(canary)[task]["h1"]
    assert done == predicted
    assert max(site.tasks.values()) <= 8  # one of them for the whole rack, on the first host
    for event in (*canary.events, *site.events):
        assert len(json.dumps(event)) < AWX_BYTES


def test_every_endpoint_has_its_address_and_reaches_its_gateway(rollout: Rollout) -> None:
    said = rollout.rack["h2"].ssh("ip -n shop -j -4 address show").stdout
    assert "10.0.10.32" in said and "10.0.11.3" in said
    for host in rollout.rack:
        host.ssh("ip netns exec shop ping -c 1 -W 5 10.0.10.1 && ip netns exec shop ping -c 1 -W 5 2001:db8:10::1")
        host.ssh("ip netns exec db ping -c 1 -W 5 10.0.20.1")


def test_a_second_run_changes_nothing_and_the_wire_agrees(rollout: Rollout) -> None:
    site = rollout.run("site")
    assert site.good, site.output
    assert site.changed == set()
    assert sorted(site.tasks.values())[:-1] == [7, 7]
    plan = rollout.run("plan", plan_fail_on_change=True)
    assert plan.good, plan.output
    assert plan.artifacts["underlay_plan"]["unchanged"] == list(NICS)
    verify = rollout.run("verify")
    assert verify.good, verify.output
    assert verify.artifacts["underlay_verify"]["bad"] == []
    assert {host: result["proved"] for host, result in verify.results("Verify every network of this host on the wire").items()} == {
        host: len(set(declared(host)) - {30}) for host in NICS
    }  # fmt: skip


def findings(run: Run) -> dict[str, list[tuple[Any, ...]]]:
    assert not run.good
    return {
        host: [(one["kind"], one["trunk"], one["nic"], one["vlan"]) for one in result["findings"]]
        for host, result in run.results("Verify every network of this host on the wire").items()
        if result["findings"]
    }  # fmt: skip


def test_one_vlan_missing_at_one_switch_port(rollout: Rollout) -> None:
    rollout.rack.switch.vlans("h2", "trunk0", FABRICS[0] - {11})
    run = rollout.run("verify")
    assert findings(run) == {"h2": [("arrival", "fabric_a", "trunk0", 11)]}
    assert (
        "h2: fabric_a (trunk0), VLAN 11: no answer from gateway 10.0.11.1 of app, while other VLANs of the trunk arrive: "
        "the switch port does not carry VLAN 11, or the gateway is down"
    ) in run.artifacts["underlay_verify"]["text"]
    site = rollout.run("site", site_batch=1)
    assert not site.good
    assert site.tasks["h3"] == 1  # the batch after the one that failed: only the count before the first host is touched
    rollout.rack.switch.vlans("h2", "trunk0", FABRICS[0])


def test_a_lower_mtu_at_one_switch_port(rollout: Rollout) -> None:
    rollout.rack.switch.mtu("h3", "ens8", 1400)
    run = rollout.run("verify")
    assert findings(run) == {"h3": [("mtu", "fabric_b", "ens8", None)]}
    asked = len((set(declared("h3")) & FABRICS[1]) - {30})
    assert (
        f"h3: fabric_b (ens8): packets of 1500 bytes are lost in all {asked} VLANs, small ones arrive: the MTU of the switch port is too low"
    ) in run.artifacts["underlay_verify"]["text"]
    rollout.rack.switch.mtu("h3", "ens8", None)


def test_a_lower_mtu_of_one_nic(rollout: Rollout) -> None:
    rollout.rack["h1"].ssh("ip link set eth1 mtu 1400")
    found = findings(rollout.run("verify"))
    assert set(found) == {"h1"}
    assert ("mtu", "fabric_a", "eth1", 11) in found["h1"]  # the row that says what it needs
    assert {one[0] for one in found["h1"]} <= {"mtu", "drift"}
    rollout.rack["h1"].ssh("ip link set eth1 mtu 1500")
    site = rollout.run("site", limit="h1")
    assert site.good, site.output


def test_a_planted_duplicate(rollout: Rollout) -> None:
    rollout.rack.switch.add_tap("thief", untagged=20)
    ip("netns", "add", "thief")
    ip("link", "set", "thief", "netns", "thief")
    ip("-n", "thief", "link", "set", "thief", "up")
    ip("-n", "thief", "address", "add", "10.0.20.3/24", "dev", "thief")
    mac = json.loads(
        subprocess.run(["ip", "-n", "thief", "-j", "link", "show", "thief"], check=True, capture_output=True).stdout
    )[0]["address"]
    run = rollout.run("verify")
    assert findings(run) == {"h2": [("duplicate", "fabric_b", "trunk1", 20)]}
    assert (
        f"h2: fabric_b (trunk1), VLAN 20: 10.0.20.3 of endpoint db in db is also in use by {mac}"
        in run.output.replace("\n", " ")
    )
    ip("netns", "delete", "thief")


def test_what_differs_in_the_kernel_is_drift(rollout: Rollout) -> None:
    rollout.rack["h3"].ssh("ip link delete ens8.21")
    found = findings(rollout.run("verify"))
    assert set(found) == {"h3"}
    assert {one[0] for one in found["h3"]} == {"drift"}
    site = rollout.run("site", limit="h3")
    assert site.good, site.output
    assert site.changed == {"h3"}


def test_by_tags_and_in_slices(rollout: Rollout) -> None:
    """What runs beside each other, or in part, does no more than it is about."""
    for name in ("h1", "h3"):
        rollout.rack[name].ssh(f"ip link delete {declared(name)[20]}")
    proof = rollout.run("site", tags="verify")
    assert not proof.good and proof.changed == set()
    assert {name for name in proof.ran if not name.startswith("Validating arguments against arg spec")} == {
        "The map was read completely, the ledger is complete, and no address is assigned twice", "Verify every network of this host on the wire",
    }  # fmt: skip
    parts = ({"h1", "h2"}, {"h3"})
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda inventory: rollout.run("site", inventory=inventory), rollout.slices(*parts))
    for run, hosts, changed in ((one, parts[0], {"h1"}), (two, parts[1], {"h3"})):
        assert run.good, run.output
        assert (set(run.tasks), run.changed) == (hosts, changed), run.what
    assert rollout.run("plan", plan_fail_on_change=True).good


def test_a_vlan_less_and_a_host_more(rollout: Rollout) -> None:
    """What stays keeps its addresses; what goes is only released when that is asked for."""
    before = (rollout.map / "ledger.yml").read_text(encoding="utf-8")
    rollout.rows("".join(line for line in MAP.splitlines(keepends=True) if ",log," not in line))
    plan = rollout.run("plan").artifacts["underlay_plan"]
    assert (plan["changed"], plan["risk"]) == (list(NICS), "high")
    assert rollout.run("site").good
    assert links(rollout.rack["h1"]) == set(declared("h1", 21).values())
    rollout.hosts("h1", "h3")
    assert not rollout.run("allocate").changed
    assert rollout.run("allocate", allocate_release=["gone"]).good
    assert "h2" not in (rollout.map / "ledger.yml").read_text(encoding="utf-8")
    rollout.hosts(*NICS)
    assert rollout.run("allocate").good
    assert (rollout.map / "ledger.yml").read_text(encoding="utf-8") == before
    plan = rollout.run("plan", plan_fail_on_change=True)
    assert plan.good, plan.output


def test_a_host_that_is_down_stops_no_other(rollout: Rollout) -> None:
    rollout.rack["h2"].power_cut()
    plan = rollout.run("plan").artifacts["underlay_plan"]
    assert (plan["unchanged"], plan["failed"]) == (["h1", "h3"], ["h2"])
    rollout.rows(MAP)
    site = rollout.run("site")
    assert site.changed == {"h1", "h3"}, site.output
    rollout.rack["h2"].boot()
    again = rollout.run("site")
    assert again.changed == {"h2"}, (again.what, site.output)


EDITED = (
    MAP.replace("10.0.11.", "10.9.11.")  # renumbered
    .replace("20,db,", "22,db,")  # on another VLAN
    .replace("21,log,", "21,logs,")  # renamed
    .replace("100,spare100,fabric_a", "100,spare100,fabric_b")  # on another trunk
    .replace(
        "".join(line for line in MAP.splitlines(keepends=True) if ",spare101," in line), ""
    )  # removed, with an endpoint in it
)
MORE = [{"network": "log", "name": "log", "netns": "log"}, {"network": "spare101", "name": "last", "netns": "last"}]


def test_rows_in_use_are_removed_moved_renumbered_and_renamed_in_one_run(rollout: Rollout) -> None:
    """Each is an edit of the table, an allocation and one site. What is not edited loses no packet."""
    rollout.rows(MAP)
    rollout.hosts(*NICS, endpoints=[*ENDPOINTS, *MORE])
    assert rollout.run("allocate").good
    assert rollout.run("site").good
    rollout.rack["h1"].ssh("ip netns exec log ping -c 1 -W 5 10.0.21.1 && ip netns exec last ping -c 1 -W 5 10.0.101.1")
    ip("address", "add", "10.9.11.1/24", "dev", "gw11")
    rollout.rack.switch.add_tap("gw22", untagged=22)
    ip("link", "set", "gw22", "up")
    for name, nics in NICS.items():
        rollout.rack.switch.vlans(name, nics[1], FABRICS[1] | {22, 100})

    rollout.rows(EDITED)
    renamed = [
        {**row, "network": "logs"} if row["network"] == "log" else row for row in MORE if row["network"] != "spare101"
    ]
    rollout.hosts(*NICS, endpoints=[*ENDPOINTS, *renamed])
    refused = rollout.run("allocate")
    assert not refused.good and "10.0.11.2 has to move to 10.9.11.0/24" in refused.output
    assert rollout.run("allocate", allocate_move=True).good
    plan = rollout.run("plan").artifacts["underlay_plan"]
    assert (plan["changed"], plan["failed"], plan["risk"]) == (list(NICS), [], "high")
    ip("address", "del", "10.0.20.1/24", "dev", "gw20")
    ip("address", "add", "10.0.20.1/24", "dev", "gw22")
    host = rollout.rack["h1"]
    host.ssh("ip netns exec shop sh -c 'nohup ping -i 0.02 -W 1 10.0.10.1 > /run/kept 2>&1 & echo $! > /run/kept.pid'")
    host.ssh(
        "ip netns exec log sh -c 'nohup ping -i 0.02 -W 1 10.0.21.1 > /run/renamed 2>&1 & echo $! > /run/renamed.pid'"
    )
    site = rollout.run("site", purge_limit="100%")
    assert site.good, site.output
    assert site.changed == set(NICS)
    lost = {}
    for what in ("kept", "renamed"):
        host.ssh(f"kill -INT $(cat /run/{what}.pid); sleep 0.5")
        lost[what] = host.ssh(f"grep -o '[0-9]* packets transmitted, [0-9]* received' /run/{what}").stdout.split()
    assert lost["kept"][0] == lost["kept"][3], lost
    print("packets sent and answered, one each 20 ms:", lost)
    for host in rollout.rack:
        host.ssh(
            "ip netns exec shop ping -c 1 -W 5 10.9.11.1 && ip netns exec db ping -c 1 -W 5 10.0.20.1 && ip netns exec log ping -c 1 -W 5 10.0.21.1"
        )
        assert "last" not in host.ssh("ip netns list").stdout
    assert rollout.run("plan", plan_fail_on_change=True).good

    # And back, in one run too.
    rollout.rows(MAP)
    rollout.hosts(*NICS)
    ip("address", "del", "10.0.20.1/24", "dev", "gw22")
    ip("address", "add", "10.0.20.1/24", "dev", "gw20")
    assert rollout.run("allocate", allocate_move=True, allocate_release=["gone"]).good
    site = rollout.run("site", purge_limit="100%")
    assert site.good, site.output


def test_a_controller_that_is_killed_half_way(rollout: Rollout) -> None:
    """What was not confirmed is undone by the hosts, and the next run does what is left."""
    rollout.rows(MAP)
    command = [
        "ansible-playbook",
        "-i",
        rollout.inventory,
        "-f",
        "5",
        "-e",
        "underlay_hosts=mapped",
        "-e",
        "trunk_guard_timeout=20",
        PROJECT / "site.yml",
    ]
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no",
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as controller:
        at_work = False
        for line in controller.stdout or ():
            at_work = at_work or (line.startswith("TASK") and STEPS[0] in line)
            if at_work and line.startswith("changed:"):
                break
        os.killpg(controller.pid, signal.SIGKILL)
    assert at_work
    site = until(lambda: run if (run := rollout.run("site")).good else None)
    assert site, "no run after the guards' time succeeded"
    assert rollout.run("plan", plan_fail_on_change=True).good
    for host in rollout.rack:
        assert links(host) == set(declared(host.name).values())


@pytest.mark.timeout(1500)  # seven plays of 4,094 rows, on a machine that may be slow
def test_every_vlan_there_is(rollout: Rollout) -> None:
    """4,094 rows through AWX's engine: what AWX would have to keep of any event stays within its bounds."""
    bulk = sorted(set(range(1, 4095)) - set().union(*FABRICS))
    rollout.rows(
        MAP
        + "".join(
            f"{vlan},bulk{vlan},fabric_a,macvlan,bridge,10.{64 + vlan // 256}.{vlan % 256}.0/24,none,,,\n"
            for vlan in bulk
        )
    )
    for playbook in ("plan", "site"):
        run = rollout.run(playbook, limit="h1")
        assert run.good, run.output[-4000:]
        assert run.changed == ({"h1"} if playbook == "site" else run.changed)
        assert max(len(json.dumps(event)) for event in run.events) < AWX_BYTES
    assert links(rollout.rack["h1"]) == {*declared("h1").values(), *(f"eth1.{vlan}" for vlan in bulk)}
    read_back(rollout, len(bulk) + len(declared("h1")))
    rollout.rows(MAP)
    assert not rollout.run("site", limit="h1").good, "more would go than the limit allows"
    assert rollout.run("site", limit="h1", purge_limit="100%").good
    assert links(rollout.rack["h1"]) == set(declared("h1").values())


def read_back(rollout: Rollout, networks: int) -> None:
    """What is left out of a result is whole in a file of the controller, of which the report is made."""
    asked = "  tasks:\n    - {name: ask, netops.underlay.vlan_info: {}}\n    - {name: keep, netops.underlay.vlan_info: {dest: sub/h1.json}}\n"
    said = play(rollout.rack, asked, "--limit", "h1")
    cut, kept = said["ask"]["h1"], said["keep"]["h1"]
    assert (
        cut["left_out"] == ["networks"]
        and "omitted, results are limited to 300 kB: networks; use dest" in cut["warnings"][0]
    )
    assert cut["links"] == [] and len(json.dumps(cut)) < 300_000
    assert kept["dest"] == os.fspath(rollout.rack.directory / "sub" / "h1.json") and "endpoints" not in kept
    assert kept["counts"]["networks"] == networks and kept["counts"]["endpoints"] == len(ENDPOINTS)
    answered = json.loads(Path(kept["dest"]).read_text(encoding="utf-8"))
    assert {part: len(rows) for part, rows in answered.items()} == kept["counts"]

    where = rollout.directory / "report"
    run = rollout.run("report", limit="h1", report_dir=os.fspath(where))
    assert run.good, run.output[-4000:]
    assert max(len(json.dumps(event)) for event in run.events) < AWX_BYTES
    report = json.loads((where / "report.json").read_text(encoding="utf-8"))
    assert [host["name"] for host in report["hosts"]] == ["h1"] and len(report["networks"]) == networks
    assert [row["text"] for row in report["findings"]] == []


def test_teardown_leaves_no_link(rollout: Rollout) -> None:
    assert rollout.run("teardown").good
    assert all(links(host) == set() for host in rollout.rack)
