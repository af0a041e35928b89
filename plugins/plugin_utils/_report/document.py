# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as data: what the page shows and what the JSON form is.

Each host is listed once in ``hosts``; every other row has the positions of its hosts as ``[first, last]``
pairs, or the one ``host`` where it is one of a kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from .findings import Findings
from .gather import Fleet, Grouped, Row
from .pools import Pools

#: Incremented by a change that readers of the JSON form have to follow.
FORMAT = 1

Results = Mapping[str, Mapping[str, Any]]
#: Several of each host.
Lists = Mapping[str, Sequence[Mapping[str, Any]]]


def document(found: Results, title: str, made: str, plans: Lists, verified: Results) -> dict[str, Any]:
    """The whole report from what ``vlan_info``, a run in check mode and ``vlan_verify`` returned for each host."""
    fleet = Fleet(found)
    pools = Pools(fleet)
    rows = pools.rows()
    findings = Findings(fleet)
    findings.of_pools(pools, rows)
    for host, name in enumerate(fleet.names):
        findings.of_host(host, fleet.answers[host])
        for result in plans.get(name) or ():
            findings.of_plan(host, result)
        findings.of_verify(host, verified.get(name) or {})
    listed = findings.rows()
    return {
        "format": FORMAT,
        "title": title,
        "made": made,
        "hosts": _hosts(fleet, listed),
        "networks": fleet.networks.finished(),
        "links": fleet.links.finished(),
        "leases": fleet.leases,
        "pools": rows,
        "routes": fleet.routes.finished(),
        "plan": _plan(fleet, plans),
        "checks": _checks(fleet, verified),
        "findings": listed,
    }


def _hosts(fleet: Fleet, findings: Sequence[Row]) -> list[Row]:
    """Every host with its worst finding as its state, and when it was last changed by whom."""
    state = ["ok"] * len(fleet.names)
    for row in reversed(findings):  # the worst come first, so they have the last word
        for first, last in row["hosts"]:
            state[first : last + 1] = [row["level"]] * (last - first + 1)
    endpoints = Counter(lease["host"] for lease in fleet.leases)
    networks: Counter[int] = Counter()
    for row in fleet.networks.finished():
        for first, last in row["hosts"]:
            networks.update(range(first, last + 1))
    return [
        {
            "name": name,
            "state": state[host],
            "read": not (info.get("unreachable") or info.get("failed")),
            "networks": networks[host],
            "leases": endpoints[host],
            "changed": _last(info),
        }
        for host, (name, info) in enumerate(zip(fleet.names, fleet.answers))
    ]


def _last(info: Mapping[str, Any]) -> Any:
    last = next(iter(info.get("transactions") or ()), None)
    return (
        {"number": last["number"], "time": last["time"], "who": last["who"], "state": last["state"]} if last else None
    )


def _plan(fleet: Fleet, plans: Lists) -> list[Row]:
    """The changes that a run would make, as listed in its results; a finished run is no plan."""
    rows = Grouped()
    for host, name in enumerate(fleet.names):
        for result in plans.get(name) or ():
            plan = result.get("plan")
            if not plan or result.get("transaction") is not None:
                continue
            for line in plan["first"]:
                verb, text = [*line.split(" ", 1), ""][:2]
                rows.add((verb, text), host, _change, verb, text)
            rest = plan["total"] - len(plan["first"])
            if rest > 0:
                text = f"{rest} more changes" + (
                    f", all of them in {plan['plan_file']}" if plan.get("plan_file") else ""
                )
                rows.add(("and", text), host, _change, "and", text)
    return rows.finished()


def _change(verb: str, text: str) -> Row:
    return {"verb": verb, "text": text}


def _checks(fleet: Fleet, verified: Results) -> list[Row]:
    """What ``vlan_verify`` probed, and what answered."""
    rows = Grouped()
    for host, name in enumerate(fleet.names):
        result = verified.get(name) or {}
        if "proved" not in result:
            continue
        found = [_check(False, finding["kind"], finding["text"], finding.get("vlan")) for finding in result["findings"]]
        if result.get("left_out"):
            found.append(_check(False, "more", f"{result['left_out']} more findings", None))
        if result["proved"]:
            found.append(_check(True, "arrival", _answers(result["proved"]), None))
        if result["unproved"]:
            found.append(_check(None, "arrival", f"nothing to probe: {', '.join(result['unproved'])}", None))
        for row in found:
            rows.add(tuple(row.values()), host, dict, row)
    return rows.finished()


def _answers(count: int) -> str:
    return "the gateway of 1 network answers" if count == 1 else f"the gateways of {count} networks answer"


def _check(ok: Optional[bool], kind: str, text: str, vlan: Optional[int]) -> Row:
    return {"ok": ok, "kind": kind, "text": text, "vlan_id": vlan}
