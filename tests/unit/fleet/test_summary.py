# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet would do and what its wires say, put together."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import summary


def changed(**counts: Dict[str, int]) -> Dict[str, Any]:
    total = sum(sum(verbs.values()) for verbs in counts.values())
    return {"changed": True, "plan": {"counts": counts, "total": total, "first": ["create link eth1.10: network web"]}}


SAME = {"changed": False, "plan": {"counts": {}, "total": 0, "first": []}}


def test_hosts_that_do_the_same_share_a_line_and_the_riskiest_says_the_risk() -> None:
    found = summary.plan({
        "h1": [SAME, changed(link={"create": 2}, network={"create": 1})],
        "h2": [SAME, changed(link={"create": 2}, network={"create": 1})],
        "h3": [SAME, changed(link={"remove": 1}), changed(link={"remove": 1})],
        "h4": [SAME, changed(link={"change": 1}, network={"remove": 1})],
        "h5": [{"changed": True}, SAME],
        "h6": [SAME, SAME],
        "h7": [SAME, {"failed": True, "msg": "networks[0].vlan: no\nnetworks[1].vlan: no"}],
        "h8": [{}, {}],
    })  # fmt: skip
    assert found["changed"] == ["h1", "h2", "h3", "h4", "h5"]
    assert (found["unchanged"], found["failed"]) == (["h6"], ["h7", "h8"])
    assert {host: one["risk"] for host, one in found["hosts"].items()} == {
        "h1": "low", "h2": "low", "h3": "high", "h4": "medium", "h5": "low", "h6": "none", "h7": "none", "h8": "none",
    }  # fmt: skip
    assert found["text"] == [
        "h7: cannot be planned: networks[0].vlan: no",
        "    networks[1].vlan: no",
        "h8: cannot be planned: the host was not reached, or failed before",
        "h1, h2: create link 2, create network 1; risk low: only new objects, and links that come up",
        "    create link eth1.10: network web",
        "h3: remove link 2; risk high: objects are removed",
        "    create link eth1.10: network web",
        "    create link eth1.10: network web",
        "h4: change link 1, remove network 1; risk medium: existing objects change",
        "    create link eth1.10: network web",
        "h5: prepared; risk low: only new objects, and links that come up",
        "    the host is prepared",
        "unchanged: h6",
        "11 changes on 5 of 8 hosts, risk high: objects are removed; 2 hosts cannot be planned",
    ]


def test_a_fleet_in_which_nothing_changes() -> None:
    found = summary.plan({"h1": [SAME]})
    assert (found["risk"], found["changes"]) == ("none", 0)
    assert found["text"] == ["unchanged: h1", "0 changes on 0 of 1 host, risk none: nothing changes"]


def test_what_the_wires_say() -> None:
    found = summary.verification({
        "h2": {"proved": 3, "findings": [], "changed": False},
        "h1": {"failed": True, "msg": "...", "proved": 2, "findings": [{"text": "fabric_a (eth1), VLAN 50: no answer"}]},
        "h3": {"failed": True, "msg": "networks[0].driver: is missing; it is required"},
        "h4": {},
    })  # fmt: skip
    assert (found["good"], found["bad"], found["proved"]) == (["h2"], ["h1", "h3", "h4"], 5)
    assert found["text"] == [
        "h1: fabric_a (eth1), VLAN 50: no answer",
        "h3: networks[0].driver: is missing; it is required",
        "h4: the host was not reached",
        "5 networks work; 1 host good, 3 bad",
    ]


def test_verification_that_proved_nothing_calls_no_host_good() -> None:
    found = summary.verification({"h1": {"proved": 0, "findings": []}, "h2": {"proved": 0, "findings": []}})
    assert (found["good"], found["bad"], found["unproved"]) == ([], [], ["h1", "h2"])
    assert found["text"][0] == "h1: nothing could be verified: it has no network with a gateway"
    assert found["text"][-1] == "0 networks work; 0 hosts good, 0 bad, 2 could not be verified"


def test_a_host_that_gets_new_objects_alone_is_a_low_risk() -> None:
    bare = changed(link={"create": 60, "change": 2}, network={"create": 60})
    bare["plan"]["raised"] = 2  # the trunks come up
    found = summary.plan({"h1": [bare]})
    assert found["risk"] == "low"
    bare["plan"]["raised"] = 1
    assert summary.plan({"h1": [bare]})["risk"] == "medium"
    assert summary.plan({"h1": [changed(link={"create": 1})]})["text"][-1].startswith(
        "1 change on 1 of 1 host, risk low"
    )


def undeclared(gone: int, of: int, kind: str = "network", removed: int = 0) -> Dict[str, Any]:
    names = [f"n{number}" for number in range(gone)]
    return {**SAME, "undeclared": {kind: {"undeclared": gone, "removed": removed, "of": of, "first": names[:20]}}}


def test_what_the_map_no_longer_names_and_is_not_purged_is_shown() -> None:
    found = summary.plan({"h1": [undeclared(7, 40)], "h2": [undeclared(0, 40)]})
    assert found["text"][0] == (
        "h1: network n0, n1, n2, n3, n4 and 2 more: no longer in the map, left in place, because trunk_purge is off"
    )
    assert found["hosts"]["h2"]["orphans"] == []
    assert summary.plan({"h1": [undeclared(1, 40, removed=1)]})["hosts"]["h1"]["orphans"] == []


def test_the_verification_names_them_too_and_the_host_is_good() -> None:
    found = summary.verification({"h1": {**undeclared(1, 40), "proved": 3, "findings": []}})
    assert found["good"] == ["h1"]
    assert found["text"][0] == "h1: network n0: no longer in the map, left in place, because trunk_purge is off"


def test_a_purge_has_limits_for_a_host_and_for_the_fleet() -> None:
    fleet = {f"h{number}": undeclared(3, 40, removed=3) for number in range(10)}
    assert summary.purge(fleet, "20%", "10%")["beyond"] == []
    assert summary.purge({"h0": undeclared(9, 40)}, "20%", "10%")["beyond"] == [], "nothing is purged"
    assert summary.purge({**fleet, "h0": undeclared(9, 40, removed=9)}, "20%", "10%")["beyond"] == [
        "h0: 9 of 40 networks would be removed, more than 20%: n0, n1, n2, n3, n4 and 4 more",
        "nothing was changed; check the map, or allow it with -e purge_limit=100%",
    ]
    every = {host: undeclared(5, 40, removed=5) for host in fleet}
    assert (
        summary.purge(every, "20%", "10%")["beyond"][0]
        == "all hosts: 50 of 400 networks would be removed, more than 10%"
    )
    assert summary.purge(every, "100%", "100%")["beyond"] == []
    assert (
        summary.purge({"h0": undeclared(5, 6, removed=5), "h1": {}}, "20%", "10%")["beyond"] == []
    )  # a few may go in any case
    assert summary.purge({"h0": undeclared(2, 6, "endpoint", 2)}, "1", "10%")["beyond"][0].startswith(
        "h0: 2 of 6 endpoints"
    )


def test_what_leaves_a_host_before_another_takes_its_address() -> None:
    results = {
        "h1": {"leaving": {"web": {"10.0.0.2": "shop", "10.0.0.3": "db"}}, "arriving": {}},
        "h2": {"leaving": {"web": {"10.0.0.9": "own"}}, "arriving": {"web": {"10.0.0.2": "shop", "10.0.0.9": "new"}}},
        "h3": {},
    }  # fmt: skip
    assert summary.handover(results) == {"h1": [{"network": "web", "name": "shop"}]}
    results["h3"] = {"left_out": ["arriving"]}
    assert sorted(summary.handover(results)) == ["h1", "h2"], "what is unknown may be anything"


def test_a_vlan_that_goes_to_a_network_of_another_name() -> None:
    results = {
        "h1": {"leaving": {"lab": {"10.0.0.4": "x"}}},
        "h2": {"leaving": {"lab": {"10.0.0.5": "y"}}, "arriving": {"prod": {"10.0.0.4": "a", "10.0.0.5": "b"}}},
    }
    assert summary.handover(results) == {"h1": [{"network": "lab", "name": "x"}]}


def test_hosts_that_each_keep_their_address_under_another_name() -> None:
    """Such as the same subnet at two sites: no address is handed over, and no endpoint leaves before its host is converged."""
    one = {"leaving": {"lab": {"10.0.0.4": "x"}}, "arriving": {"prod": {"10.0.0.4": "x"}}}
    assert summary.handover({"h1": one, "h2": one}) == {}


def test_an_endpoint_that_goes_to_the_same_address_on_another_vlan() -> None:
    results = {
        "h1": {"leaving": {"lab": {"10.0.0.4": "x"}}, "arriving": {"prod": {"10.0.0.4": "x"}}},
        "h2": {"arriving": {"lab": {"10.0.0.4": "y"}}},
    }
    assert summary.handover(results) == {"h1": [{"network": "lab", "name": "x"}]}
