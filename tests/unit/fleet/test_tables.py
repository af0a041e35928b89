# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as NetOps keep them: spreadsheets with masks, ranges, merged cells and titles, and the answers of APIs."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import mapfile, rows
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.csv_table import CsvFormat
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.expand import Rules, slug


def read(text: str, file: str = "map.csv", **settings: Any) -> rows.Map:
    found = mapfile.parse(
        mapfile.Settings("netops_map.yml", **settings), mapfile.Texts({file: text}, ledger=("l.yml", ""))
    )
    return found.map


def subnets(text: str, **settings: Any) -> List[Dict[str, Any]]:
    found = read("vlan,name,trunk,driver," + text, **settings)
    assert found.faults == []
    return [subnet for network in found.networks for subnet in network.options["subnets"]]


ROW = "10,web,t,macvlan,"


@pytest.mark.parametrize(
    "text",
    [
        f"subnets\n{ROW}10.0.0.0/22\n",
        f"subnets,mask\n{ROW}10.0.0.0,255.255.252.0\n",
        f"subnets,Netmask\n{ROW}10.0.0.0,/22\n",
        f"subnets,Subnet mask\n{ROW}10.0.0.0,22\n",
        f"subnets\n{ROW}10.0.0.0 /22\n",
        f"Prefix\n{ROW}10.0.0.0 255.255.252.0\n",
        f"CIDR,,\n{ROW}10.0.0.0/255.255.252.0,,\n",
    ],
)
def test_masks(text: str) -> None:
    assert subnets(text) == [{"subnet": "10.0.0.0/22"}]


def test_a_mask_that_is_not_that_of_the_subnet() -> None:
    found = read(f"vlan,name,trunk,driver,subnets,mask\n{ROW}10.0.0.0/22,255.255.255.0\n")
    assert [str(fault) for fault in found.faults] == [
        "map.csv, line 2, column 6 (mask): /24 is not that of 10.0.0.0/22; leave one of them out"
    ]


def test_ranges_are_those_of_the_host() -> None:
    (subnet,) = subnets(f"subnets,dhcp range\n{ROW}10.0.0.0/24,10.0.0.10 - 10.0.0.14\n")
    assert subnet == {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.10-10.0.0.14"}
    (subnet,) = subnets(f"subnets,ranges\n{ROW}10.0.0.0/8,10.0.0.8-10.0.0.9 10.9.0.0/16 10.0.0.10-10.0.0.12\n")
    assert subnet == {"subnet": "10.0.0.0/8", "ip_range": "10.0.0.8-10.0.0.12, 10.9.0.0-10.9.255.255"}
    (subnet,) = subnets(f"subnets,ranges\n{ROW}10.0.0.0/24,10.0.0.8-10.0.0.9 10.0.0.10-10.0.0.15\n")
    assert subnet["ip_range"] == "10.0.0.8/29"


def test_ranges_that_are_cut_into_slices_become_the_block_around_them_and_reservations() -> None:
    (subnet,) = subnets(f"subnets,per_host,dhcp range\n{ROW}10.0.0.0/24,30,10.0.0.10 - 10.0.0.14\n")
    assert subnet["ip_range"] == "10.0.0.8/29"
    assert sorted(subnet["aux_addresses"].values()) == ["10.0.0.15", "10.0.0.8", "10.0.0.9"]
    (subnet,) = subnets(f"subnets,per_host,ranges\n{ROW}10.0.0.0/24,30,10.0.0.8-10.0.0.9 10.0.0.12-10.0.0.15\n")
    assert subnet["ip_range"] == "10.0.0.8/29"
    assert sorted(subnet["aux_addresses"].values()) == ["10.0.0.10", "10.0.0.11"]
    (fault,) = read(f"vlan,name,trunk,driver,subnets,per_host,ranges\n{ROW}10.0.0.0/8,30,10.0.0.1-10.9.0.1\n").faults
    assert "addresses; give a block such as 10.0.0.1/32" in str(fault)


def test_two_families_with_a_gateway_and_a_range_each() -> None:
    found = subnets(
        f"subnets,gw,range\n{ROW}10.0.0.0/24 2001:db8::/64,10.0.0.1 2001:db8::1,10.0.0.64/26 2001:db8::/96\n"
    )
    assert found == [
        {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.64/26"},
        {"subnet": "2001:db8::/64", "gateway": "2001:db8::1", "ip_range": "2001:db8::/96"},
    ]


def test_a_range_of_vlans_is_a_network_each() -> None:
    found = read('vlan,name,trunk,driver,subnets\n"10-12,30",cust{vlan},t,macvlan,10.0.{vlan}.0/24\n')
    assert found.faults == []
    assert [(network.name, network.vlan, network.options["subnets"][0]["subnet"]) for network in found.networks] == [
        ("cust10", 10, "10.0.10.0/24"),
        ("cust11", 11, "10.0.11.0/24"),
        ("cust12", 12, "10.0.12.0/24"),
        ("cust30", 30, "10.0.30.0/24"),
    ]
    (fault,) = read("vlan,name,trunk,driver,subnets\n10-12,cust,t,macvlan,10.0.0.0/24\n", allow_empty=True).faults
    assert "3 VLANs would have one name; write {vlan} where the VLAN ID belongs" in str(fault)
    (fault,) = read("vlan,name,trunk,driver,subnets\n12-10,c{vlan},t,macvlan,10.0.0.0/24\n", allow_empty=True).faults
    assert "12-10 is not a range of VLAN IDs" in str(fault)


def test_merged_cells_titles_comments_and_another_delimiter() -> None:
    text = "Data centre Amsterdam\n\n% of 2026\nVLAN ID|Name|Trunk|Driver|Prefix|\n10|web|t|macvlan|10.0.10.0/24|\n11|db|||10.0.11.0/24|\n"
    form = CsvFormat(delimiter="|", comment="%", skip_lines=1)
    found = read(text, form=form, rules=Rules(fill_down=["trunk", "driver"]))
    assert found.faults == []
    assert [network.options["parent"] for network in found.networks] == ["t.10", "t.11"]


def test_names_by_a_template() -> None:
    text = "vlan,name,site,trunk,driver,subnets\n10,Büro Süd,AMS,t,macvlan,10.0.10.0/24\n"
    (network,) = read(text, rules=Rules(name_template="{site}-{name}")).networks
    assert network.name == "ams-buero-sued"
    (fault,) = read(text.replace("AMS", ""), rules=Rules(name_template="{site}-{name}")).faults
    assert str(fault).startswith(
        "map.csv, line 2, column 3 (site): is empty, and the name template {site}-{name} needs it"
    )
    assert slug("Straße / Hof_2") == "strasse-hof_2"


def test_only_the_rows_that_count() -> None:
    text = "vlan,name,trunk,driver,subnets,Status\n10,web,t,macvlan,10.0.10.0/24,Active\n11,old,t,macvlan,10.0.11.0/24,retired\n"
    rules = Rules(only={"Status": ["active", "planned"]})
    assert [network.name for network in read(text, rules=rules).networks] == ["web"]
    (fault,) = read(text, rules=Rules(only={"Status": "lost"})).faults
    assert "no row of the table is selected; for a map that is meant to be empty, set allow_empty: true" in str(fault)


def test_the_answer_of_an_api() -> None:
    answer = {
        "count": 1,
        "results": [
            {
                "id": 7, "prefix": "10.0.10.0/24", "status": {"value": "active"}, "vlan": {"vid": 10, "name": "web"},
                "site": {"slug": "ams"}, "tags": ["a", {"b": 1}],
            }
        ],
    }  # fmt: skip
    columns = {"vlan.vid": "vlan", "vlan.name": "name", "site.slug": "site", "*": None}
    rules = Rules(defaults={"trunk": "t", "driver": "macvlan"}, only={"status.value": "active"})
    found = read(json.dumps(answer), "a.json", columns=columns, rules=rules, rows_at="results")
    assert found.faults == []
    assert [network.data() for network in found.networks] == [
        {
            "network": {"name": "web", "driver": "macvlan", "parent": "t.10", "subnets": [{"subnet": "10.0.10.0/24"}]},
            "vlan": 10, "trunk": "t", "site": "ams",
        }
    ]  # fmt: skip
    (fault,) = read(json.dumps(answer), "a.json", columns=columns, rules=rules, rows_at="result").faults
    assert "there is no result, of rows_at: result" in str(fault)


def test_a_wrong_heading_of_a_large_table_is_one_fault() -> None:
    lines = "".join(f"{vlan},n{vlan},t,macvlan,10.{vlan // 256}.{vlan % 256}.0/24,x\n" for vlan in range(1, 4095))
    (fault,) = read("vlan,name,trunk,driver,subnets,Comment\n" + lines).faults
    assert str(fault) == "map.csv, line 1, column 6 (Comment): unknown column; to ignore it: columns: {Comment: }"
    faults = read("id,name,trunk,driver,subnets\n" + lines.replace(",x\n", "\n"), columns={"id": None}).faults
    assert [str(fault) for fault in faults] == [
        "map.csv, line 1, column 1 (vlan): there is no such column; add it, or give vlan in defaults"
    ]


def test_untagged_is_said() -> None:
    found = read("vlan,name,trunk,driver,subnets\nuntagged,web,t,macvlan,10.0.10.0/24\n")
    assert found.faults == [] and found.networks[0].options["parent"] == "t"
    (fault,) = read("vlan,name,trunk,driver,subnets\n,web,t,macvlan,10.0.10.0/24\n").faults
    assert str(fault).endswith("(vlan): is missing; give the VLAN ID, or untagged for a network on the trunk itself")
