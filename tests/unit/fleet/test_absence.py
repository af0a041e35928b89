# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Absence is never emptiness: a map that was not read whole gives no host any rows, and every fault names its cell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed, sources, view

HOSTS = """
all:
  hosts:
    h1: {site: ams, trunk_nics: {fabric_a: eth1}}
    h2: {site: fra, trunk_nics: {fabric_a: eth2, fabric_b: eth3}}
  children:
    prod: {hosts: {h1: }}
    empty: {}
"""
HEAD = "vlan,name,trunk,driver,subnets,site,group,hosts\n"
WEB = "10,web,fabric_a,macvlan,10.0.10.0/24,,,\n"
CONFIG = "plugin: netops.underlay.netops_map\nmaps: [../map/a.csv]\n"


@pytest.fixture
def fleet(inventory: Any) -> Any:
    inventory.write(hosts_yml=HOSTS, netops_map_yml=CONFIG, a_csv=HEAD + WEB)
    return inventory


def refuses(read: Any) -> str:
    """Why a host gets no rows."""
    with pytest.raises(packed.MapError) as error:
        view.networks(read.hosts["h1"])
    return str(error.value)


def names(read: Any, host: str) -> Any:
    return [row["name"] for row in view.networks(read.hosts[host])]


def test_a_good_map_gives_its_rows(fleet: Any) -> None:
    assert names(fleet.load(), "h1") == ["web"]


# --- the file of the map -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CONFIG.replace("maps:", "mapps:"), "maps"),
        (CONFIG + "groups: [vlans]\n", "vlans"),
        (CONFIG + "legder: x.yml\n", "netops_map.yml, line 3, column 1 (legder): unknown option; did you mean ledger?"),
        (CONFIG + "colums: {a: b}\n", "netops_map.yml, line 3, column 1 (colums): unknown option; did you mean columns?"),
        (CONFIG + "columns: {Nowhere: }\n", "netops_map.yml, line 3, column 11: no table has a heading Nowhere; correct it, or leave it out"),
        (CONFIG + "only: {Status: active}\n", "netops_map.yml, line 3, column 8: no table has a heading Status"),
        (CONFIG + "hosts_of: nowhere\n", "netops_map.yml, line 3, column 1 (hosts_of): there is no group nowhere"),
        (CONFIG + "hosts_of: empty\n", "(hosts_of): the map applies to no host"),
        (CONFIG.replace("a.csv", "b.csv"), "netops_map.yml, line 2, column 1 (maps): ../map/b.csv cannot be read: No such file or directory"),
        (CONFIG.replace("[../map/a.csv]", "[]"), "netops_map.yml, line 2, column 1 (maps): there is no table"),
        (CONFIG + "encoding: utf-61\n", "unknown encoding utf-61; write utf-8"),
    ],
)  # fmt: skip
def test_a_map_file_that_cannot_be_read_leaves_an_error_in_its_place(fleet: Any, config: str, said: str) -> None:
    fleet.write(netops_map_yml=config)
    read = fleet.load()
    assert "the map has faults" in refuses(read)
    assert any(said in text for text in read.faults), read.faults


def test_without_netaddr(fleet: Any) -> None:
    assert "needs the Python library netaddr" in refuses(fleet.load(without="netaddr"))


def test_a_map_that_ansible_never_gives_to_the_plugin(fleet: Any) -> None:
    """A YAML error, another name, a plugin that is not enabled: there is no group, and the ledger's task finds the file."""
    for config, name in (("plugin: netops.underlay.netops_map\nmaps: [\n", "netops_map.yml"), (CONFIG, "vlans.yml")):
        (fleet.directory / "netops_map.yml").unlink()
        (fleet.directory / name).write_text(config, encoding="utf-8")
        read = fleet.load()
        assert packed.GROUP not in read.groups
        assert "no map was loaded for this host" in refuses(read)
        assert sources.unread([str(fleet.directory)], []) == [str(fleet.directory / name)]
        (fleet.directory / name).unlink()
        fleet.write(netops_map_yml=CONFIG)
    loaded = [one["file"] for one in fleet.load().maps]
    assert sources.unread([str(fleet.directory)], loaded) == []


# --- tables that are no map ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (HEAD, "../map/a.csv, line 1, column 1: the table has no rows; for a map that is meant to be empty, set allow_empty: true in netops_map.yml"),
        (HEAD + "\n ,,\n\n", "the table has no rows"),
        ("", "the file is empty"),
        (HEAD + WEB.replace("10,", "#REF!,", 1), "../map/a.csv, line 2, column 1 (vlan): this cell has #REF!; correct the formula"),
        ("#" + HEAD + WEB, None),
        (HEAD + "# a remark,,,,,,,\n" + WEB, "../map/a.csv, line 2, column 1 (vlan): '# a remark' is not a whole number"),
        (HEAD + WEB.replace(",,,\n", ",AMS,,\n"),
         "../map/a.csv, line 2, column 6 (site): no host is at site AMS; their variable site says ams, fra"),
        (HEAD + WEB.replace(",,,\n", ",,nowhere,\n"), "../map/a.csv, line 2, column 7 (group): there is no group nowhere"),
        (HEAD + WEB.replace(",,,\n", ",,empty,\n"), "../map/a.csv, line 2, column 7 (group): group empty has no host of the map"),
        (HEAD + WEB.replace(",,,\n", ",,,h1 x*\n"), "../map/a.csv, line 2, column 8 (hosts): no host matches x*; it applies to h1, h2"),
        (HEAD + WEB.replace(",,,\n", ",fra,prod,\n"), "../map/a.csv, line 2, column 6 (site): network web applies to no host: none matches all"),
        (HEAD + WEB.replace("fabric_a", "fabric_c"),
         "../map/a.csv, line 2, column 3 (trunk): no host has a trunk fabric_c in trunk_nics; they have fabric_a, fabric_b"),
    ],
)  # fmt: skip
def test_a_table_without_a_wish(fleet: Any, table: str, said: Any) -> None:
    fleet.write(a_csv=table)
    read = fleet.load()
    if said is None:
        assert names(read, "h1") == ["web"]
        return
    assert said in refuses(read)
    assert len(read.faults) == 1 or "remark" in said


def test_a_fault_of_many_rows_is_reported_once(fleet: Any) -> None:
    many = "".join(f"{vlan},n{vlan},fabric_a,macvlan,10.1.{vlan}.0/24,oslo,,\n" for vlan in range(1, 200))
    fleet.write(a_csv=HEAD + many)
    assert len(fleet.load().faults) == 1
    fleet.write(a_csv=HEAD.replace("vlan,", "wlan,") + many.replace("oslo", ""))
    faults = fleet.load().faults
    assert faults[0].startswith(
        "../map/a.csv, line 1, column 1 (vlan): there is no such column; add it, or give vlan in defaults"
    )
    assert (
        "../map/a.csv, line 1, column 1 (wlan): unknown column; did you mean vlan? To ignore it: columns: {wlan: }"
        in faults
    )
    assert len(faults) == 2


def test_an_empty_map_says_so(fleet: Any) -> None:
    fleet.write(a_csv=HEAD, netops_map_yml=CONFIG + "allow_empty: true\n")
    assert names(fleet.load(), "h1") == []


@pytest.mark.parametrize("text", ["[]", "", "{}"])
def test_empty_yaml(fleet: Any, text: str) -> None:
    fleet.write(b_yml=text, netops_map_yml=CONFIG.replace("a.csv", "b.yml"))
    assert "the map has faults" in refuses(fleet.load())


def test_a_table_that_never_opens_and_a_ledger_that_cannot_be_looked_at(fleet: Any) -> None:
    (fleet.map / "a.csv").unlink()
    os.mkfifo(fleet.map / "a.csv")
    assert "netops_map.yml, line 2, column 1 (maps): ../map/a.csv is not a regular file; write" in refuses(fleet.load())
    (fleet.map / "a.csv").unlink()
    (fleet.map / "ledger.yml").symlink_to("ledger.yml")
    fleet.write(a_csv=HEAD + WEB, netops_map_yml=CONFIG + "ledger: ../map/ledger.yml\n")
    assert "(ledger): ../map/ledger.yml cannot be read: Too many levels of symbolic links" in refuses(fleet.load())


def test_files_that_are_not_utf_8(fleet: Any) -> None:
    path = Path(fleet.map / "a.csv")
    path.write_bytes((HEAD + WEB).encode("utf-16"))
    assert "(maps): ../map/a.csv is UTF-16; export it as UTF-8, or set encoding: utf-16" in refuses(fleet.load())
    fleet.write(netops_map_yml=CONFIG + "encoding: utf-16\n")
    assert names(fleet.load(), "h1") == ["web"]
    path.write_bytes((HEAD + "\xfc" + WEB).encode("cp1252"))
    fleet.write(netops_map_yml=CONFIG)
    assert "is not UTF-8 (byte 48)" in refuses(fleet.load())


# --- the site of a host --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("host_vars/h1.yml", "site: oslo\n", None),
        ("group_vars/prod.yml", "site: [oslo, bergen]\n", None),
        ("group_vars/prod.yml", 'site: "{{ place }}"\n', "an inventory cannot read templates there"),
    ],
)
def test_the_site_of_a_host_in_its_other_files(fleet: Any, file: str, text: str, said: Any) -> None:
    fleet.write(hosts_yml=HOSTS.replace("site: ams, ", ""), a_csv=HEAD + WEB.replace(",,,\n", ",oslo,,\n"))
    path = fleet.directory / file
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    read = fleet.load()
    if said:
        assert said in refuses(read)
    else:
        assert (names(read, "h1"), names(read, "h2")) == (["web"], [])


# --- several maps --------------------------------------------------------------------------------


def second(fleet: Any, table: str, more: str = "") -> Any:
    (fleet.map / "two.csv").write_text(HEAD + table, encoding="utf-8")
    (fleet.directory / "z-netops_map.yml").write_text(CONFIG.replace("a.csv", "two.csv") + more, encoding="utf-8")
    return fleet.load()


def test_two_maps_are_one(fleet: Any) -> None:
    read = second(fleet, "20,db,fabric_b,macvlan,10.0.20.0/24,,,h2\n")
    assert (names(read, "h1"), names(read, "h2")) == (["web"], ["web", "db"])
    read = second(fleet, "10,other,fabric_a,macvlan,10.0.20.0/24,,,\n", "hosts_of: prod\n")
    assert "VLAN 10 on fabric_a of h1 carries web of" in refuses(read)
    assert "has a network web too" in refuses(second(fleet, "20,web,fabric_b,macvlan,10.0.20.0/24,,,h2\n"))
    # A second map that cannot be read leaves no host with the rows of the first alone.
    assert "the map has faults" in refuses(second(fleet, ""))


def test_two_maps_for_two_groups(fleet: Any) -> None:
    fleet.write(
        hosts_yml=HOSTS.replace("empty: {}", "lab: {hosts: {h2: }}"), netops_map_yml=CONFIG + "hosts_of: prod\n"
    )
    read = second(fleet, "10,lab,fabric_a,macvlan,10.0.20.0/24,,,\n", "hosts_of: lab\n")
    assert (names(read, "h1"), names(read, "h2")) == (["web"], ["lab"])


# --- endpoints as a table ------------------------------------------------------------------------

ENDPOINTS = "host,network,name,container,ipv4_address\nh1,web,shop,,10.0.10.9\nh2,web,api,docker:api,\n"


def test_endpoints_of_a_table(fleet: Any) -> None:
    fleet.write(e_csv=ENDPOINTS, netops_map_yml=CONFIG + "endpoints: [../map/e.csv]\nledger: ../map/ledger.yml\n")
    (fleet.map / "ledger.yml").write_text("version: 1\naddresses:\n  web:\n    10.0.10.3: h2/api\n", encoding="utf-8")
    read = fleet.load()
    found: Dict[str, Any] = {host: view.endpoints(read.hosts[host], []) for host in ("h1", "h2")}
    assert found == {
        "h1": [{"network": "web", "name": "shop", "netns": "shop", "ipv4_address": "10.0.10.9"}],
        "h2": [
            {
                "network": "web",
                "name": "api",
                "container": {"engine": "docker", "name": "api"},
                "ipv4_address": "10.0.10.3",
            }
        ],
    }
    fleet.write(e_csv=ENDPOINTS.replace("h1,web", "h7,wbe").replace("10.0.10.9", "ten"))
    faults = fleet.load().faults
    assert [text.partition("; ")[0] for text in faults] == [
        "../map/e.csv, line 2, column 2 (network): no row of the map is network wbe",
        "../map/e.csv, line 2, column 5 (ipv4_address): 'ten' is not an IP address",
    ]
    fleet.write(e_csv=ENDPOINTS.replace("h1,web", "h7,web"))
    assert "../map/e.csv, line 2, column 1 (host): the map does not apply to host h7" in refuses(fleet.load())


# --- several teams in one inventory --------------------------------------------------------------


def test_each_team_converges_its_own_map(fleet: Any) -> None:
    """A map with an owner is for the tasks of that owner alone; the others neither apply nor purge its rows."""
    read = second(fleet, "20,db,fabric_b,macvlan,10.0.20.0/24,,,h2\n", "owner: team-b\n")
    here = {host: {owner: [row["name"] for row in view.networks(read.hosts[host], owner=owner)] for owner in ("trunk", "team-b")}
            for host in ("h1", "h2")}  # fmt: skip
    assert here == {"h1": {"trunk": ["web"], "team-b": []}, "h2": {"trunk": ["web"], "team-b": ["db"]}}
    assert names(read, "h2") == ["web", "db"], "for people and templates they are one map"
    own = [{"network": "web", "name": "a", "netns": "a"}, {"network": "db", "name": "b", "netns": "b"}]
    shares = {
        owner: [row["name"] for row in view.endpoints(read.hosts["h2"], own, owner=owner)]
        for owner in ("trunk", "team-b")
    }
    assert shares == {"trunk": ["a"], "team-b": ["b"]}
    with pytest.raises(packed.MapError, match="no map of the inventory has the owner team-c; they have team-b, trunk"):
        view.networks(read.hosts["h2"], owner="team-c")


def test_an_endpoint_in_a_network_of_no_map_is_of_every_owner_and_so_refused(fleet: Any) -> None:
    read = second(fleet, "20,db,fabric_b,macvlan,10.0.20.0/24,,,h2\n", "owner: team-b\n")
    lost = [{"network": "wbe", "name": "a", "netns": "a"}, "text"]
    assert view.endpoints(read.hosts["h2"], lost, owner="team-b") == lost


def test_without_an_owner_in_any_map_every_task_takes_them(fleet: Any) -> None:
    read = second(fleet, "20,db,fabric_b,macvlan,10.0.20.0/24,,,h2\n")
    assert [row["name"] for row in view.networks(read.hosts["h2"], owner="rack1")] == ["web", "db"]


def test_clashes_between_teams_are_named(fleet: Any) -> None:
    read = second(fleet, "10,other,fabric_a,macvlan,10.0.20.0/24,,,\n", "owner: team-b\n")
    assert "VLAN 10 on fabric_a of h1" in refuses(read)
    read = second(fleet, "20,db,fabric_b,macvlan,10.0.20.0/24,,,h2\n", "owner: ''\n")
    assert "(owner): an owner needs a name" in refuses(read)


# --- the pattern of a run ------------------------------------------------------------------------


@pytest.mark.parametrize("playbook", ["canary", "plan", "report", "site", "teardown", "verify"])
def test_a_pattern_that_matches_no_host_is_an_error(fleet: Any, playbook: str) -> None:
    pattern = "canary_hosts" if playbook == "canary" else "underlay_hosts"
    done = fleet.run("ansible-playbook", f"netops.underlay.{playbook}", "--list-hosts", "-e", f"{pattern}=prd")
    assert done.returncode and "no host matches prd: give" in done.stderr, done.stdout + done.stderr


def test_patterns_with_hosts_are_taken_as_they_are(fleet: Any) -> None:
    for pattern, host in (("prod", "h1"), ("h*:!h1", "h2"), ("all:&prod", "h1")):
        done = fleet.run(
            "ansible-playbook", "netops.underlay.verify", "--list-hosts", "-e", f"underlay_hosts={pattern}"
        )
        assert not done.returncode and "hosts (1):" in done.stdout and host in done.stdout, done.stdout + done.stderr
    done = fleet.run("ansible-playbook", "netops.underlay.verify", "--list-hosts", "-e", "underlay_hosts=empty")
    assert done.returncode and "no host matches empty: give" in done.stderr
