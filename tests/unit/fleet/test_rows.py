# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetOps' map as a table: what is read, and that every bad cell is named at its place, all at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Dict, List

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.network import IPVLAN_MODES, MACVLAN_MODES
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import columns as known_columns
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import mapfile, rows, scope
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.csv_table import CsvFormat

SCHEMA = Path(__file__).parents[3] / "docs" / "netops_map.schema.json"
HEAD = "vlan,name,trunk,driver,mode,subnets,gateways,ranges,reservations,per_host,site\n"


def judged(text: str, file: str = "map.csv", **names: Any) -> rows.Map:
    return mapfile.parse(
        mapfile.Settings("netops_map.yml", columns=names, form=CsvFormat(comment="#"), allow_empty=True),
        mapfile.Texts({file: text}, ledger=("ledger.yml", "")),
    ).map


def one(row: Dict[str, Any]) -> rows.Map:
    return judged(yaml.safe_dump([row]), "map.yml")


def faults(found: rows.Map) -> List[str]:
    return [str(fault) for fault in found.faults]


def test_the_same_map_in_csv_and_yaml() -> None:
    text = HEAD + (
        '10,web,fabric_a,macvlan,,172.16.80.0/24,172.16.80.1,172.16.80.128-172.16.80.255,"printer=172.16.80.9, pool=172.16.80.20-172.16.80.21",26,\n'
        "20,db,fabric_a,ipvlan,l2,172.16.50.0/22 2001:db8::/64,172.16.50.1 fe80::1,,,,ams\n"
    )
    document = """
    - {vlan: 10, name: web, trunk: fabric_a, driver: macvlan, subnets: 172.16.80.0/24, gateways: [172.16.80.1],
       ranges: 172.16.80.128/25, reservations: {printer: 172.16.80.9, pool: 172.16.80.20-172.16.80.21}, per_host: 26}
    - {vlan: 20, name: db, trunk: fabric_a, driver: ipvlan, mode: l2, site: ams,
       subnets: [172.16.50.0/22, "2001:db8::/64"], gateways: [172.16.50.1, "fe80::1"]}
    """
    csv, yml = judged(text), judged(document, "map.yaml")
    assert csv.faults == yml.faults == []
    assert [network.data() for network in csv.networks] == [network.data() for network in yml.networks]
    assert csv.networks[0].data() == {
        "network": {
            "name": "web", "driver": "macvlan", "parent": "fabric_a.10",
            "subnets": [{
                "subnet": "172.16.80.0/24", "gateway": "172.16.80.1", "ip_range": "172.16.80.128/25",
                "aux_addresses": {"printer": "172.16.80.9", "pool-1": "172.16.80.20", "pool-2": "172.16.80.21"},
            }],
        },
        "vlan": 10, "trunk": "fabric_a", "per_host": [26],
    }  # fmt: skip
    assert csv.networks[1].options["subnets"] == [
        {"subnet": "172.16.48.0/22", "gateway": "172.16.50.1"},
        {"subnet": "2001:db8::/64", "gateway": "fe80::1"},
    ]
    assert csv.warnings == [
        "map.csv, line 3, column 6 (subnets): 172.16.50.0/22 has host bits set; using 172.16.48.0/22"
    ]
    assert yml.warnings[0].startswith("map.yaml, line 5, column 18 (subnets): ")


def test_every_bad_cell_at_once_in_csv() -> None:
    text = HEAD + (
        "# a remark\n"
        "5000,web,fabric_a,macvlan,l2,172.16.80.0/33,172.16.80.1,,,,\n"
        '"30","a b",,vxlan,,10.0.0.0/8,11.0.0.1,10.1.0.5-10.1.0.1,printer,40,\n'
        "\n"
        "40,ok,fabric_a,macvlan,,10.40.0.0/24,10.40.0.255,10.41.0.0/24,printer=10.41.0.1,8,ams\n"
    )
    assert faults(judged(text)) == [
        "map.csv, line 3, column 1 (vlan): '5000' is not a whole number from 1 to 4094; give one",
        "map.csv, line 3, column 5 (mode): macvlan has no mode l2; give one of bridge, private, vepa, passthru, source",
        "map.csv, line 3, column 6 (subnets): '172.16.80.0/33' is not a subnet; write it as 192.0.2.0/24",
        "map.csv, line 4, column 2 (name): 'a b' is not a usable name; start with a letter or digit, then letters, digits, "
        "'_', '.', '-', 128 at most",
        "map.csv, line 4, column 3 (trunk): is missing; every row needs it",
        "map.csv, line 4, column 4 (driver): 'vxlan' is not a choice; give one of macvlan, ipvlan",
        "map.csv, line 4, column 7 (gateways): 11.0.0.1 is in no subnet of the row; its subnets are 10.0.0.0/8",
        "map.csv, line 4, column 8 (ranges): 10.1.0.5-10.1.0.1 is reversed; write the first address, then the last",
        "map.csv, line 4, column 9 (reservations): 'printer' is not a name and an address; write printer=192.0.2.9, or "
        "pool=192.0.2.200-192.0.2.209, each name once",
        "map.csv, line 6, column 7 (gateways): 10.40.0.255 is the broadcast address of 10.40.0.0/24; give an address of 10.40.0.0/24, or none",
        "map.csv, line 6, column 8 (ranges): 10.41.0.0-10.41.0.255 is in no subnet of the row; its subnets are 10.40.0.0/24",
        "map.csv, line 6, column 9 (reservations): 10.41.0.1 is in no subnet of the row; its subnets are 10.40.0.0/24",
    ]


def test_whether_the_hosts_themselves_are_in_it_and_ask_first() -> None:
    row = {
        "name": "web",
        "vlan": 10,
        "trunk": "fabric_a",
        "driver": "macvlan",
        "subnets": "10.0.0.0/24",
        "per_host": 26,
    }
    (network,) = one({**row, "host_access": "yes", "probe": "yes"}).networks
    assert network.options["host_access"] is True and network.options["probe"] is True
    (fault,) = faults(one({**row, "probe": "yes"}))
    assert "(probe): has no effect without host_access; set host_access too" in fault


def test_every_bad_cell_at_once_in_yaml() -> None:
    document = """\
- name: web
  vlan: 10
  trunk: fabric_a
  driver: macvlan
  colour: red
  subnets:
    - 10.9.0.0
    - 10.0.0.0/24
    - 10.0.0.128/25
  reservations:
    printer: 10.0.0.300
  host_access: true
- name: web
  vlan: 4095
  trunk: fabric_a
  driver: [ipvlan]
- web
"""
    assert faults(judged(document, "map.yml")) == [
        "map.yml, line 5, column 3 (colour): unknown column; to ignore it: columns: {colour: }",
        "map.yml, line 7, column 7 (subnets): 10.9.0.0 has no prefix length; write it as 10.9.0.0/32, or the subnet's own length",
        "map.yml, line 9, column 7 (subnets): 10.0.0.128/25 overlaps 10.0.0.0/24 of subnets[0]; give each subnet once",
        "map.yml, line 11, column 14 (reservations): '10.0.0.300' is not an IP address; write it as 192.0.2.10 or 2001:db8::10",
        "map.yml, line 13, column 9 (name): network web is already in map.yml, line 1, column 3; give each network its own name",
        "map.yml, line 14, column 9 (vlan): 4095 is not a whole number from 1 to 4094; give one",
        "map.yml, line 16, column 11 (driver): ['ipvlan'] is not a choice; give one of macvlan, ipvlan",
        "map.yml, line 17, column 3: the row is not a mapping; write it as column: value",
    ]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("a.csv", "", "a.csv, line 1, column 1: the file is empty; its first line names the columns"),
        ("a.csv", "name,driver,name\n", "a.csv, line 1, column 3 (name): appears in two columns; give each column its own name"),
        ("a.csv", "name,driver\nweb,macvlan,x\n", "a.csv, line 2, column 3: 'x' has no column; give the column a heading, or "
            "quote a cell that holds the delimiter"),
        ("a.csv", 'name\nb\n"a', "a.csv, line 3, column 1: the line is not valid CSV (unexpected end of data); look for an extra quote"),
        ("a.yml", "a: b", "a.yml, line 1, column 1: the file is not a list of rows; write one network an item, each with '- ', or set rows_at: KEY"),
        ("a.yml", "- {", "a.yml, line 2, column 1: the file is not valid YAML (did not find expected node content); "
                         "check the indentation, and quote values that contain ': '"),
        ("a.yml", "- {name: a, name: b}", "a.yml, line 1, column 13 (name): appears twice in the row; give it once"),
        ("a.yml", "- {name: a, reservations: {x: 1.1.1.1, x: 1.1.1.2}}",
         "a.yml, line 1, column 40 (reservations): x appears twice; give it once"),
        ("a.yml", "- {name: 2026-99-99}", "a.yml, line 1, column 10 (name): '2026-99-99' is not a plain value; write a string or a number"),
    ],
)  # fmt: skip
def test_files_that_are_no_tables(file: str, text: str, said: str) -> None:
    assert said in faults(judged(text, file))


def test_cells_of_several_lines_and_the_spreadsheets_own_delimiter() -> None:
    text = '\ufeffVLAN;Name;Trunk;Driver;Subnets\n10;web;fabric_a;macvlan;"10.0.0.0/24\n2001:db8::/64"\n20;db;fabric_a;macvlan;nonsense\n'
    found = judged(text, VLAN="vlan", Name="name", Trunk="trunk", Driver="driver")
    assert [subnet["subnet"] for subnet in found.networks[0].options["subnets"]] == ["10.0.0.0/24", "2001:db8::/64"]
    assert [fault.place for fault in found.faults] == [("map.csv", 4, 5)]


def test_headings_of_other_tables_are_translated_or_ignored() -> None:
    found = judged(
        "ID,VID,name,Tenant,trunk,driver,cidr\n1,10,web,acme,fabric_a,macvlan,10.0.0.0/24\n",
        ID=None,
        VID="vlan",
        Tenant=None,
    )
    assert found.faults == []
    assert found.networks[0].options == {
        "name": "web",
        "driver": "macvlan",
        "parent": "fabric_a.10",
        "subnets": [{"subnet": "10.0.0.0/24"}],
    }


BESIDE = "- {name: a, driver: macvlan, trunk: t, vlan: 5, subnets: 10.0.0.0/24%s}\n- {name: b, driver: macvlan, trunk: t, vlan: 5, subnets: %s%s}\n"


@pytest.mark.parametrize(
    ("first", "subnet", "second", "said"),
    [
        ("", "10.1.0.0/24", "", "line 2, column 46 (vlan): VLAN 5 on t carries a already (map.yml, line 1, column 3); "
                                "give it its own VLAN, or set share_parent on both rows"),
        (", share_parent: true", "10.0.0.128/25", ", share_parent: yes",
         "line 2, column 58 (subnets): 10.0.0.128/25 overlaps 10.0.0.0/24 of a (map.yml, line 1, column 3) in VLAN 5 on t; "
         "a broadcast domain can have each subnet only once: use another VLAN, or other subnets"),
        (", share_parent: true", "10.1.0.0/24", ", share_parent: true", None),
        (", site: ams", "10.0.0.0/24", ", site: fra", None),
        (", site: ams", "10.1.0.0/24", "", "carries a already"),
    ],
)  # fmt: skip
def test_rows_on_one_segment(first: str, subnet: str, second: str, said: str) -> None:
    found = faults(judged(BESIDE % (first, subnet, second), "map.yml"))
    if said is None:
        assert found == []
    else:
        assert len(found) == 1 and said in found[0]


def test_the_same_subnet_in_two_vlans_is_allowed() -> None:
    document = "[{name: a, driver: macvlan, trunk: t, vlan: 5, subnets: 10.0.0.0/24}, {name: b, driver: macvlan, trunk: t, vlan: 6, subnets: 10.0.0.0/24}]"
    assert faults(judged(document, "map.yml")) == []


NETWORK = {"name": "web", "driver": "macvlan", "trunk": "t", "vlan": 5, "subnets": ["10.0.0.0/24", "2001:db8::/64"]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"per_host": 26}, "per_host): gives no length for 2001:db8::/64, which is IPv6; give a length above 32 too"),
        ({"per_host": [26, 27]}, "per_host): gives two lengths for one IP version"),
        ({"per_host": "20 80"}, "per_host): 10.0.0.0/24 cannot be divided into slices of /20; give 24 to 32"),
        ({"per_host": 26, "subnets": None}, "per_host): there is no subnet to take slices of"),
        ({"host_access": True}, "host_access): every host would take the same address of the subnet; give per_host"),
        ({"internal": True}, "trunk): an internal network has no trunk"),
        ({"hosts": "rack1:&prod"}, "hosts): 'rack1:&prod' is not a pattern of host names"),
        ({"ranges": "10.0.0.70/26"}, "ranges): 10.0.0.70/26 has host bits set; write 10.0.0.64/26"),
        ({"vlan": None}, "vlan): is missing; give the VLAN ID, or untagged for a network on the trunk itself"),
        ({"subnets": None}, "subnets): there is no IPv4 subnet, and every host would pick the same one; give one, or enable_ipv4: false"),
        ({"subnets": "2001:db8::/64"}, "subnets): there is no IPv4 subnet, and every host would pick the same one"),
        ({"reservations": {"fw": "10.0.0.2-10.0.0.3", "fw-1": "10.0.0.9"}}, "reservations): fw-1 of 10.0.0.9 is a name of fw too"),
        ({"mask": "255.0.255.0", "subnets": "10.0.0.0"}, "mask): '255.0.255.0' is not a mask; write 255.255.252.0, or /22"),
        ({"gateways": "10.0.0.1, 10.0.0.2"}, "gateways): 10.0.0.0/24 has 10.0.0.1 already"),
        ({"reservations": {"x": "2001:db8::-2001:db8::ffff"}}, "reservations): 2001:db8::-2001:db8::ffff is more than 1024 addresses"),
    ],
)  # fmt: skip
def test_what_a_row_may_not_say(changed: Dict[str, Any], said: str) -> None:
    found = faults(one({**NETWORK, **changed}))
    assert any(said in text for text in found), found


def test_gateways_of_a_row() -> None:
    assert [
        subnet.get("gateway") for subnet in one({**NETWORK, "gateways": "none"}).networks[0].options["subnets"]
    ] == ["none", "none"]
    assert [
        subnet.get("gateway")
        for subnet in one({**NETWORK, "gateways": "none, 10.0.0.9"}).networks[0].options["subnets"]
    ] == ["10.0.0.9", "none"]
    l3 = one({**NETWORK, "driver": "ipvlan", "mode": "l3", "gateways": "10.0.0.1"})
    assert "gateway" not in l3.networks[0].options["subnets"][0]
    assert l3.warnings == []


@pytest.mark.parametrize(
    ("row", "hosts"),
    [
        ({}, "h1 h2 web1"),
        ({"site": "a-b"}, "h1"),
        ({"group": "prod"}, "h2 web1"),
        ({"hosts": ["h*"]}, "h1 h2"),
        ({"hosts": ["!h1"]}, "h2 web1"),
        ({"hosts": ["h*", "!h1"], "group": "prod"}, "h2"),
    ],
)
def test_whom_a_row_is_for(row: Dict[str, Any], hosts: str) -> None:
    groups = {"h1": ["site_a_b"], "h2": ["prod"], "web1": ["prod"]}
    assert [host for host in groups if scope.is_for(row, host, groups[host])] == hosts.split()


# --- the schema ----------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_parser() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == known_columns.schema()
    jsonschema.Draft202012Validator.check_schema(known_columns.schema())
    assert known_columns.schema()["items"]["properties"]["mode"]["enum"] == [*MACVLAN_MODES, *IPVLAN_MODES]


def test_the_schema_is_that_of_a_whole_map_and_of_the_guides() -> None:
    """Of the guide's CSV, as a list of rows; an object alone is no map."""
    with open(SCHEMA.parent / "examples" / "map" / "vlans.csv", encoding="utf-8") as file:
        table = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    validator = jsonschema.Draft202012Validator(known_columns.schema())
    assert list(validator.iter_errors(table)) == []
    assert [error.validator for error in validator.iter_errors(table[0])] == ["type"]
    assert [list(error.path) for error in validator.iter_errors([*table, {**table[0], "vlan": 5000}])] == [
        [len(table), "vlan"]
    ]


SHAPES: List[Dict[str, Any]] = [
    {},
    *(
        {key: value}
        for key in known_columns.COLUMNS
        for value in (None, {"a": 1}, True, 10, "10", "yes", ["x"], "private", "10.0.0.1")
    ),
    {"colour": "red"},
    {"internal": True, "trunk": None, "vlan": None},
    {"internal": True, "trunk": None},
]


@pytest.mark.parametrize("changed", SHAPES, ids=str)
def test_schema_and_parser_agree(changed: Dict[str, Any]) -> None:
    """What the schema refuses, the parser refuses in that column; what it lets pass has at most a value that is wrong."""
    row = {key: value for key, value in {**NETWORK, **changed}.items() if value is not None}
    errors = list(jsonschema.Draft202012Validator(known_columns.schema()["items"]).iter_errors(row))
    found = one(row)
    columns = {str(fault.column) for fault in found.faults}
    if errors:
        assert found.faults, [error.message for error in errors]
        for error in errors:
            if error.absolute_path:
                assert str(error.absolute_path[0]) in columns
    shapes = ("is not a boolean", "is not a choice", "unknown column", "is missing", "is on no trunk")
    if any(said in fault.message for fault in found.faults for said in shapes):
        assert errors, found.faults
