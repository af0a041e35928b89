# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as data: what is grouped, counted and found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.netops.underlay.plugins.filter.report import report
from ansible_collections.netops.underlay.plugins.plugin_utils._report.hosts import natural, ranges

from tests.support import reports


def made(found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return report(found, "Rack", "now", **more)


def texts(doc: dict[str, Any], level: str) -> list[str]:
    return [row["text"] for row in doc["findings"] if row["level"] == level]


def test_what_is_the_same_on_several_hosts_is_one_row() -> None:
    doc = made(reports.rack())
    assert [(row["name"], row["hosts"]) for row in doc["networks"]] == [
        ("web", [[0, 1]]), ("shop", [[0, 1]]), ("edge", [[0, 0]]), ("lab", [[0, 1]]), ("edge", [[1, 1]]),
    ]  # fmt: skip
    assert [row["name"] for row in doc["hosts"]] == ["rack1-h1", "rack1-h2"]
    assert [(row["networks"], row["leases"]) for row in doc["hosts"]] == [(4, 6), (4, 5)]


def test_a_network_that_differs_in_anything_is_another_row() -> None:
    found = reports.rack()
    found["rack1-h2"]["networks"][0]["subnets"][0]["gateway"] = "172.16.50.254"
    found["rack1-h2"]["networks"][1]["labels"] = {"rack": "2"}
    assert [row["hosts"] for row in made(found)["networks"] if row["name"] in ("web", "shop")] == [
        [[0, 0]],
        [[0, 0]],
        [[1, 1]],
        [[1, 1]],
    ]


def test_hosts_stand_in_the_order_of_their_numbers() -> None:
    assert sorted(["h10", "H2", "h1", "rack2-h1", "rack10"], key=natural) == ["h1", "H2", "h10", "rack2-h1", "rack10"]
    assert ranges([0, 1, 2, 5, 7, 8]) == [[0, 2], [5, 5], [7, 8]]


def test_hosts_in_a_vlan_share_its_pool_and_others_have_their_own() -> None:
    found = reports.rack()
    edge = next(row for row in found["rack1-h1"]["networks"] if row["name"] == "edge")
    edge["pools"] = [{"pool": "10.30.1.0/25, 10.30.1.192-10.30.1.201", "used": 1, "free": 134}]
    pools = {(row["pool"], row["vlan_id"]): row for row in made(found)["pools"]}
    web = pools["172.16.50.0/24", 50]
    assert (web["used"], web["size"], web["reserved"], web["hosts"], web["fullest"]) == (4, 253, 3, [[0, 1]], None)
    six = pools["2001:db8:50::/64", 50]
    assert (six["used"], six["size"], six["reserved"]) == (4, None, 3), (
        "no reader of JSON would keep so large a number exactly"
    )
    several = pools["10.30.1.0/25, 10.30.1.192-10.30.1.201", None]
    assert (several["used"], several["size"], several["reserved"]) == (1, 135, 3)
    lab = pools["172.17.0.0/16", None]
    assert (lab["used"], lab["hosts"], lab["fullest"]) == (1, [[0, 1]], 0), (
        "the same address inside each host is no conflict"
    )


def test_an_address_that_two_hosts_hold_in_one_vlan_is_found_on_both() -> None:
    found = reports.rack()
    found["rack1-h2"]["endpoints"][0]["addresses"] = ["172.16.50.10/24"]
    doc = made(found)
    text = "172.16.50.10 in VLAN 50 is held by web/web-1 on rack1-h1 and web/web-2 on rack1-h2"
    doubled = [row for row in doc["findings"] if row["text"] == text]
    assert [(row["hosts"], row["key"], row["vlan_id"]) for row in doubled] == [
        ([[0, 0]], "web/web-1", 50),
        ([[1, 1]], "web/web-2", 50),
    ]
    assert [row["used"] for row in doc["pools"] if row["pool"] == "172.16.50.0/24"] == [3]


def test_a_pool_is_reported_before_it_is_full_and_when_it_is() -> None:
    net = reports.network("tiny", 7, ["192.0.2.0/28"])
    ends = [reports.endpoint(net, f"e{at}", f"192.0.2.{at}/28") for at in range(2, 14)]
    assert texts(made({"h": reports.host([net], ends[:11])}), "warning") == []
    assert texts(made({"h": reports.host([net], ends)}), "warning") == [
        "pool 192.0.2.0/28 of tiny is nearly full: 12 of 13 addresses held",
    ]
    ends.append(reports.endpoint(net, "last", "192.0.2.14/28"))
    doc = made({"h": reports.host([net], ends)})
    assert texts(doc, "error") == ["pool 192.0.2.0/28 of tiny is full: 13 of 13 addresses held"]
    assert doc["findings"][0]["vlan_id"] == 7 and doc["hosts"][0]["state"] == "error"


def test_drift_is_said_in_words_with_its_place() -> None:
    drifts = [row for row in made(reports.rack())["findings"] if row["level"] == "drift"]
    assert [(row["kind"], row["key"], row["vlan_id"], row["text"]) for row in drifts] == [
        ("link", "eth1.60", 60, "link eth1.60: is down, should be up"),
        ("endpoint", "shop/till-2", 60, "address netns:till-2/eth0 172.16.60.3/29 is missing"),
    ]


def test_what_only_follows_from_a_missing_link_or_namespace_is_not_reported() -> None:
    link = {"netns": "netns:a", "name": "eth0", "kind": "macvlan"}
    rows = [
        ("link netns:a/eth0", "endpoint:web/a", None, link),
        (
            "address netns:a/eth0 192.0.2.2/24",
            "endpoint:web/a",
            None,
            {"netns": "netns:a", "link": "eth0", "address": "192.0.2.2/24"},
        ),
        ("link netns:a/eth0", "endpoint:web/a", {"up": False}, {"netns": "netns:a", "name": "eth0", "up": True}),
        ("route netns:a/0.0.0.0/0 table 254 metric 0", "workload:netns:a", None, {"netns": "netns:a", "dev": "eth0"}),
        ("route 10.0.0.0/8 table 254 metric 0", "routes:x", None, {"netns": "", "dev": "eth1"}),
        ("netns netns:b", "netns", None, {"netns": "netns:b"}),
        ("link netns:b/eth0", "endpoint:web/b", None, {"netns": "netns:b", "name": "eth0"}),
        ("link eth1.5", "parent", {"netns": "", "name": "eth1.5"}, None),
    ]
    info = reports.host(
        [], [], drift=[{"object": o, "of": of, "verb": "", "before": b, "after": a} for o, of, b, a in rows]
    )
    assert texts(made({"h": info}), "drift") == [
        "link netns:a/eth0 is missing", "route 10.0.0.0/8 table 254 metric 0 is missing", "netns netns:b is missing", "link eth1.5 is still there",
    ]  # fmt: skip


def test_a_host_that_was_not_read_is_an_error_and_stays_in_the_report() -> None:
    found = {
        **reports.rack(),
        "rack1-h3": {"unreachable": True, "msg": "No route to host"},
        "rack1-h4": {"failed": True, "msg": "no python"},
    }
    doc = made(found)
    assert texts(doc, "error") == ["cannot be reached: No route to host", "could not be read: no python"]
    assert [(row["read"], row["state"]) for row in doc["hosts"]] == [
        (True, "ok"),
        (True, "drift"),
        (False, "error"),
        (False, "error"),
    ]


def test_leftovers_and_a_run_that_was_cut_short_are_warnings() -> None:
    info = reports.host([], [], adoptable=[{"namespace": "the host", "interface": "eth1.5", "kind": "vlan"}])
    info["transactions"][0]["state"] = "pending"
    assert texts(made({"h": info}), "warning") == [
        "eth1.5 in the host has link group 8021 but is in no registry: a task with adopt: true takes it over",
        "change 7 by alice, Ansible was interrupted: the next run undoes it",
    ]


def test_plan_and_verify() -> None:
    plans = reports.plans()
    plans["rack1-h2"].append({"transaction": 8, "plan": {"first": ["create link done"], "total": 1}})
    doc = made(reports.rack(), plans=plans, verified=reports.verified())
    assert [(row["verb"], row["text"]) for row in doc["plan"]] == [
        ("create", "link eth1.70: VLAN 70 of eth1"), ("create", "netns netns:mail-1: a namespace that does not exist yet"),
        ("and", "23 more changes, all of them in /var/lib/x/plan"),
    ]  # fmt: skip
    assert [(row["kind"], row["key"], row["vlan_id"], row["text"].split(":")[0]) for row in doc["findings"] if row["level"] == "error"] == [
        ("host", "", None, "cannot be changed as declared"), ("network", "web", 50, "eth1, VLAN 50"),
    ]  # fmt: skip
    assert [(row["ok"], row["kind"], row["vlan_id"], row["hosts"]) for row in doc["checks"]] == [
        (True, "arrival", None, [[0, 0]]), (None, "arrival", None, [[0, 1]]), (False, "arrival", 50, [[1, 1]]), (True, "arrival", None, [[1, 1]]),
    ]  # fmt: skip


def test_what_the_map_no_longer_has_is_a_warning_once() -> None:
    gone = {
        "undeclared": {
            "network": {"undeclared": 2, "removed": 0, "of": 9, "first": ["web", "lab"]},
            "endpoint": {"undeclared": 0, "removed": 0, "of": 0, "first": []},
        }
    }
    plans = {"rack1-h1": [{"plan": {"counts": {}, "total": 0, "first": []}, **gone}]}
    verified = {"rack1-h1": {"findings": [], "proved": 2, "unproved": [], **gone}}
    doc = made(reports.rack(), plans=plans, verified=verified)
    assert [text for text in texts(doc, "warning") if "map" in text] == [
        "network web, lab: no longer in the map, left in place, because trunk_purge is off"
    ]
    gone["undeclared"]["network"]["removed"] = 2
    assert [text for text in texts(made(reports.rack(), plans=plans), "warning") if "map" in text] == []


def test_what_could_not_be_verified_is_an_error_and_drift_on_the_wire_is_drift() -> None:
    finding = {"kind": "drift", "trunk": "eth1", "nic": "eth1", "vlan": None, "text": "eth1: is not as made"}
    results = {
        "rack1-h1": {"failed": True, "msg": "no such NIC"},
        "rack1-h2": {"findings": [finding], "left_out": 3, "proved": 0, "unproved": []},
    }
    found = reports.rack()
    found["rack1-h2"]["drift"] = []
    doc = made(found, verified=results)
    assert texts(doc, "error") == ["could not be verified: no such NIC"] and texts(doc, "drift") == [
        "eth1: is not as made"
    ]
    assert [row["text"] for row in doc["checks"]] == ["eth1: is not as made", "3 more findings"]


def test_the_addresses_of_the_host_itself_are_leases() -> None:
    net = reports.network("web", 5, ["192.0.2.0/24"], interface="ha-1", addresses=["192.0.2.2/32"])
    (lease,) = made({"h": reports.host([net], [])})["leases"]
    assert (lease["name"], lease["workload"], lease["addresses"], lease["interface"]) == (
        "the host",
        "",
        ["192.0.2.2/32"],
        "ha-1",
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "give a dict"),
        ({"h1": "text"}, "the value of h1 is not a result"),
        ({"h1": {"changed": False}}, "the value of h1 is not a result"),
        ({"h1": {"networks": [{"name": "x"}]}}, "a row has no"),
    ],
)
def test_wrong_input_is_one_line_that_says_what(found: Any, says: str) -> None:
    with pytest.raises(AnsibleFilterError, match=says) as error:
        report(found, "Rack")
    assert "\n" not in str(error.value)


def test_what_lies_in_a_file_is_read_from_there(tmp_path: Path) -> None:
    infos, results = reports.rack(), {}
    for host, info in infos.items():
        path = tmp_path / f"{host}.json"
        path.write_text(json.dumps({part: rows for part, rows in info.items() if part != "changed"}), encoding="utf-8")
        results[host] = {"changed": False, "dest": str(path), "counts": {}}
    assert made(results) == made(infos)
    (tmp_path / "rack1-h2.json").write_text('{"networks": [', encoding="utf-8")
    with pytest.raises(
        AnsibleFilterError, match=r"the answer of rack1-h2 cannot be read: .*; run netops.underlay.vlan_info again"
    ):
        made(results)
    (tmp_path / "rack1-h1.json").unlink()
    with pytest.raises(
        AnsibleFilterError,
        match=r"the answer of rack1-h1 cannot be read: .*No such file.*; run netops.underlay.vlan_info again",
    ):
        made(results)
