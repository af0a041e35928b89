# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The map as an inventory, and the ledger as a playbook, by Ansible's own commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Dict, Tuple

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.packed import unpack

from tests.support.checkout import CHECKOUT

HOSTS = """
all:
  hosts:
    h1: {site: ams, netops_endpoints: [{network: web, name: "shop-{{ inventory_hostname }}", netns: shop}]}
    h2:
    h3: {site: fra, netops_endpoints: [
      {network: web, name: shop, netns: shop, ipv4_address: 172.16.80.200},
      {network: web, name: six, netns: six, ipv4_address: 172.16.80.201, ipv6_address: slaac}]}
  children:
    site_ams: {hosts: {h2: {}}}
    prod: {hosts: {h3: {}}}
"""
CONFIG = "plugin: netops.underlay.netops_map\nmaps: [../map/a.csv, ../map/b.yml]\nledger: ../map/ledger.yml\n"
CSV = (
    "vlan,name,trunk,driver,subnets,gateways,per_host,site\n"
    "10,web,fabric_a,macvlan,172.16.80.0/24,172.16.80.1,26,\n"
    "20,db,fabric-b,ipvlan,172.16.48.0/22,,,ams\n"
)
YML = '- {vlan: 30, name: ext, trunk: fabric_a, driver: macvlan, group: prod, gateways: none, subnets: "10.30.0.0/24"}\n- {name: "{{ x }}", driver: macvlan}\n'
GOOD = YML.partition("\n")[0]


def output(done: Any) -> str:
    """What a command said, without its line breaks."""
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def fleet(inventory: Any) -> Any:
    inventory.write(hosts_yml=HOSTS, netops_map_yml=CONFIG, a_csv=CSV, b_yml=GOOD)
    return inventory


def rows(fleet: Any, host: str, what: str) -> Any:
    """What a host gets of the map."""
    done = fleet.run("ansible", host, "-m", "ansible.builtin.debug", "-a", f"msg={{{{ query('netops.underlay.map_rows', '{what}') }}}}",
                     ANSIBLE_LOAD_CALLBACK_PLUGINS="1", ANSIBLE_STDOUT_CALLBACK="ansible.builtin.oneline", ANSIBLE_CALLBACK_RESULT_FORMAT="json")  # fmt: skip
    assert done.returncode == 0, output(done)
    return json.loads(done.stdout.partition("=> ")[2])["msg"]


def test_rows_stand_once_and_groups_follow_the_map(fleet: Any) -> None:
    found = fleet.export()
    assert found["vlan_10"]["children"] == ["netops_map"]
    assert found["vlan_20"]["children"] == found["trunk_fabric_b"]["children"] == ["site_ams"]
    assert found["vlan_30"]["children"] == ["prod"]
    assert sorted(found["trunk_fabric_a"]["children"]) == ["netops_map", "prod"]
    assert sorted(found["site_ams"]["hosts"]) == ["h1", "h2"]
    assert found["netops_map"]["hosts"] == ["h1", "h2", "h3"]
    (loaded,) = unpack(found["netops_map"]["vars"]["netops_map_data"])
    assert [row["network"]["name"] for row in loaded["rows"]] == ["web", "db", "ext"]
    assert all(len(json.dumps(found["_meta"]["hostvars"].get(host, {}))) < 10_000 for host in ("h1", "h2", "h3"))
    assert [text for text in found if text.startswith("vlan_")] == ["vlan_10", "vlan_20", "vlan_30"]


def test_each_host_takes_its_own_rows_slices_and_addresses(fleet: Any) -> None:
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    networks = {host: {row["name"]: row for row in rows(fleet, host, "networks")} for host in ("h1", "h3")}
    assert list(networks["h1"]) == ["web", "db"]
    assert list(networks["h3"]) == ["web", "ext"]
    assert networks["h3"]["web"] == {
        "name": "web", "driver": "macvlan", "parent": "fabric_a.10", "recreate": True,
        "subnets": [{"subnet": "172.16.80.0/24", "gateway": "172.16.80.1", "ip_range": "172.16.80.128/26"}],
    }  # fmt: skip
    assert rows(fleet, "h1", "endpoints") == [
        {"network": "web", "name": "shop-h1", "netns": "shop", "ipv4_address": "172.16.80.2"}
    ]
    assert rows(fleet, "h2", "endpoints") == []


def test_allocating_is_planned_and_done_once(fleet: Any) -> None:
    predicted = fleet.run("ansible-playbook", "netops.underlay.allocate", "--check", "--diff")
    assert predicted.returncode == 0
    assert "+ 172.16.80.64/26: h2" in output(predicted)
    assert not (fleet.map / "ledger.yml").exists()
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    first = fleet.read("ledger.yml")
    assert "    172.16.80.2: h1/shop-h1\n" in first
    assert "changed=0" in output(fleet.run("ansible-playbook", "netops.underlay.allocate"))
    assert "changed=0" in output(fleet.run("ansible-playbook", "netops.underlay.allocate", "--limit", "h3"))
    fleet.write(hosts_yml=HOSTS.replace("    h2:\n", "    h0:\n").replace("{h2: {}}", "{h0: {}}"))
    refused = fleet.run("ansible-playbook", "netops.underlay.allocate")
    assert "network web: 172.16.80.0/24 has no /26 left for h0: 4 are given; release hosts that are gone" in output(
        refused
    )
    assert fleet.read("ledger.yml") == first
    done = fleet.run("ansible-playbook", "netops.underlay.allocate", "-e", '{"allocate_release": ["web/h2"]}')
    assert done.returncode == 0, output(done)
    assert fleet.read("ledger.yml") == first.replace("172.16.80.64/26: h2", "172.16.80.64/26: h0")


def test_what_is_missing_is_refused_entry_by_entry(fleet: Any) -> None:
    playbook = fleet.directory.parent / "complete.yml"
    playbook.write_text(
        "- {hosts: h2, gather_facts: false, tasks: [{netops.underlay.map_ledger: {state: complete}, run_once: true}]}\n",
        encoding="utf-8",
    )
    said = output(fleet.run("ansible-playbook", str(playbook)))
    for text in (
        "host h1 has no slice of 172.16.80.0/24 in network web",
        "host h2 has no",
        "endpoint h1/shop-h1 has no IPv4 address in network web",
    ):
        assert text in said
    assert "the ledger lacks 4 entries; run netops.underlay.allocate" in said
    done = fleet.run(
        "ansible", "h2", "-m", "ansible.builtin.debug", "-a", "msg={{ query('netops.underlay.map_rows', 'networks') }}"
    )
    assert "host h2 has no slice of 172.16.80.0/24 in network web" in output(done)
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    assert fleet.run("ansible-playbook", str(playbook)).returncode == 0


def test_what_thousands_are_given_has_room_in_a_result(fleet: Any) -> None:
    many = [{"network": "web", "name": f"shop-{number}", "netns": f"shop-{number}"} for number in range(9_000)]
    fleet.write(hosts_yml=json.dumps({"all": {"hosts": {"h1": {"netops_endpoints": many}}}}),
                a_csv="vlan,name,trunk,driver,subnets\n10,web,fabric_a,macvlan,10.0.0.0/8\n", netops_map_yml=CONFIG.replace(", ../map/b.yml", ""))  # fmt: skip
    holds = [
        "said | to_json | length < 300000",
        "said.left_out == ['given'] and said.diff.after != ''",
        "said.changed and said.released == []",
    ]
    tasks = [{"netops.underlay.map_ledger": {}, "register": "said"}, {"ansible.builtin.assert": {"that": holds}}]
    playbook = fleet.directory.parent / "many.yml"
    playbook.write_text(json.dumps([{"hosts": "h1", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    done = fleet.run("ansible-playbook", "--diff", str(playbook))
    assert done.returncode == 0, output(done)[-600:]
    assert fleet.read("ledger.yml").count("shop-") == 9_000


def test_the_address_of_an_endpoint_for_any_template(fleet: Any) -> None:
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    for host, words, said in (
        ("h2", "'web/h1/shop-h1'", '"172.16.80.2"'),
        ("h1", "'web/shop-h1'", '"172.16.80.2"'),
        ("h2", "'web/h3/shop'", '"172.16.80.200"'),
        ("h2", "'web/h1/shop-h1', version=6", "endpoint shop-h1 of h1 has no IPv6 address in network web"),
        (
            "h2",
            "'web/h3/six', version=6",
            "endpoint six of h3 has its IPv6 address by SLAAC, which only its host knows",
        ),
        ("h2", "'web/h9/shop'", "there is no host h9 in the inventory"),
        ("h2", "'web'", "'web' is not an endpoint; write NETWORK/ENDPOINT or NETWORK/HOST/ENDPOINT"),
    ):
        message = f"msg={{{{ lookup('netops.underlay.endpoint_address', {words}) }}}}"
        assert said in output(fleet.run("ansible", host, "-m", "ansible.builtin.debug", "-a", message)), words


def test_all_faults_of_a_bad_map_are_named_and_none_of_it_is_used(fleet: Any) -> None:
    fleet.write(
        a_csv=CSV.replace(",26,", ",20,").replace("20,db", "5000,db"),
        b_yml=YML,
        netops_map_yml=CONFIG + "defaults: {colour: red}\n",
    )
    done = fleet.run("ansible-inventory", "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
    assert done.returncode != 0
    texts = [
        "6 faults in the map:",
        "netops_map.yml, line 4, column 12 (defaults): there is no column colour; known are name, vlan,",
        "a.csv, line 2, column 7 (per_host): 172.16.80.0/24 cannot be divided into slices of /20; give 24 to 32",
        "a.csv, line 3, column 1 (vlan): '5000' is not a whole number from 1 to 4094; give one",
        "b.yml, line 2, column 10 (name): '{{ x }}' is not a usable name;",
        "b.yml, line 2, column 3 (trunk): is missing; every row needs it",
    ]
    for text in texts:
        assert text in output(done)
    # Where Ansible goes on all the same, the roles get an error for a map, not an empty one.
    done = fleet.run(
        "ansible", "h1", "-m", "ansible.builtin.debug", "-a", "msg={{ query('netops.underlay.map_rows', 'networks') }}"
    )
    assert done.returncode != 0
    assert "the map has faults" in output(done)
    assert all(text in output(done) for text in texts[1:])


def test_a_map_without_a_ledger(fleet: Any) -> None:
    fleet.write(netops_map_yml=CONFIG.replace("ledger: ../map/ledger.yml\n", ""))
    assert (
        "a.csv, line 2, column 7 (per_host): slices come from a ledger, and there is none; set ledger: FILE in netops_map.yml"
        in output(fleet.run("ansible-inventory", "--list"))
    )
    fleet.write(
        netops_map_yml=CONFIG.replace("ledger: ../map/ledger.yml\n", "groups: [site]\nhosts_of: site_ams\n"),
        a_csv=CSV.replace(",26,", ",,"),
        b_yml=GOOD.replace("group: prod, ", ""),
    )
    found = fleet.export()
    assert not [name for name in found if name.startswith(("vlan_", "trunk_"))]
    assert found["netops_map"]["children"] == ["site_ams"]
    assert rows(fleet, "h2", "endpoints") == []
    assert "ip_range" not in rows(fleet, "h2", "networks")[0]["subnets"][0]


def test_a_file_that_is_not_there(fleet: Any) -> None:
    (fleet.map / "b.yml").unlink()
    assert "b.yml cannot be read: No such file or directory" in output(fleet.run("ansible-inventory", "--list"))


# --- ways to run it ------------------------------------------------------------------------------


def plays() -> Iterator[Tuple[str, Dict[str, Any], str]]:
    """Every play, with the text of all that it does."""
    for path in sorted((CHECKOUT / "playbooks").glob("*.yml")):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            text = yaml.safe_dump(play)
            for name in re.findall(r"import_tasks: (\S+)", text):
                text += (CHECKOUT / "playbooks" / name).read_text(encoding="utf-8")
            yield f"{path.name}: {play.get('name')}", play, text


def test_what_is_done_once_for_all_hosts_waits_for_all_of_them() -> None:
    """With the strategy ``free`` the first host would judge the fleet by its own result."""
    once = {name: play.get("strategy") for name, play, text in plays() if "run_once: true" in text}
    assert set(once.values()) == {"ansible.builtin.linear"} and len(once) >= 5, once


def test_allocating_with_the_strategy_free(fleet: Any) -> None:
    done = fleet.run("ansible-playbook", "netops.underlay.allocate", ANSIBLE_STRATEGY="free")
    assert done.returncode == 0, output(done)
    free = fleet.read("ledger.yml")
    (fleet.map / "ledger.yml").unlink()
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    assert fleet.read("ledger.yml") == free


@pytest.mark.parametrize(
    "variables", ["ansible_connection: local", "ansible_connection: local, trunk_nics: {fabric_a: eth0}"]
)
def test_an_explicit_localhost_is_no_host_of_the_map_unless_it_has_trunks(fleet: Any, variables: str) -> None:
    fleet.write(hosts_yml=HOSTS.replace("  hosts:\n", f"  hosts:\n    localhost: {{{variables}}}\n", 1))
    found = fleet.export()
    there = "localhost" in found["netops_map"]["hosts"]
    assert there == ("trunk_nics" in variables)
    assert "localhost" not in found["site_ams"]["hosts"]


@pytest.mark.parametrize(
    "why",
    [
        "ansible_host: 127.0.0.1, ansible_port: 1, ansible_ssh_retries: 0",
        "ansible_connection: local, ansible_become: false, ansible_python_interpreter: /no/python",
    ],
)
def test_the_plan_of_a_fleet_in_which_every_host_fails(fleet: Any, why: str) -> None:
    """The summary is text for people and data for programs all the same, and the run fails."""
    assert fleet.run("ansible-playbook", "netops.underlay.allocate").returncode == 0
    fleet.write(hosts_yml=HOSTS.replace("\n  hosts:\n", f"\n  vars: {{{why}}}\n  hosts:\n", 1))
    done = fleet.run("ansible-playbook", "netops.underlay.plan", ANSIBLE_SHOW_CUSTOM_STATS="1")
    said = output(done)
    assert done.returncode != 0
    assert "h1: cannot be planned: " in said and "3 hosts cannot be planned" in said
    assert '"failed": [ "h1", "h2", "h3" ]' in said.partition("CUSTOM STATS")[2], said[-2000:]
