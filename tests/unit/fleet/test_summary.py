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
        "h7: cannot be foretold: networks[0].vlan: no",
        "    networks[1].vlan: no",
        "h8: cannot be foretold: the host was not reached, or failed before",
        "h1, h2: create link 2, create network 1; risk low: only new objects",
        "    create link eth1.10: network web",
        "h3: remove link 2; risk high: objects go away",
        "    create link eth1.10: network web",
        "    create link eth1.10: network web",
        "h4: change link 1, remove network 1; risk medium: objects in use change",
        "    create link eth1.10: network web",
        "h5: prepared; risk low: only new objects",
        "    the host is prepared",
        "unchanged: h6",
        "11 changes on 5 of 8 hosts, risk high: objects go away; 2 hosts cannot be foretold",
    ]


def test_a_fleet_in_which_nothing_changes() -> None:
    found = summary.plan({"h1": [SAME]})
    assert (found["risk"], found["changes"]) == ("none", 0)
    assert found["text"] == ["unchanged: h1", "0 changes on 0 of 1 hosts, risk none: nothing changes"]


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
        "5 networks arrive; 1 hosts are good, 3 are not",
    ]
