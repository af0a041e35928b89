# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The results of many hosts in a few lines: what a run would do, what it would remove, what was verified."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple, TypedDict

#: From harmless to what cuts somebody off.
RISKS = ("none", "low", "medium", "high")
WHY = {
    "none": "nothing changes",
    "low": "only new objects, and links that come up",
    "medium": "existing objects change",
    "high": "objects are removed",
}
#: What traffic depends on; everything else is a record.
_LIVE = ("link", "address", "route", "netns")
_FIRST = 3  # changes of a host that are shown; its plan has them all
_NAMED = 5
#: However few objects there are, so many may go at once, as on a host.
_FEW = 5


class HostPlan(TypedDict):
    """What would change on one host."""

    changed: bool
    changes: int
    risk: str
    counts: Dict[str, int]  # "create link" -> 3
    first: List[str]
    failed: str  # why there is no plan
    orphans: List[str]  # what the rows no longer name and stays, because nothing is purged


def plan(results: Mapping[str, Sequence[Any]]) -> Dict[str, Any]:
    """What would change on all hosts. ``results``: host -> the results of its tasks in check mode, or nothing for those that did not run."""
    hosts = {host: _host(results[host]) for host in sorted(results)}
    found: Dict[str, Any] = {"changed": [], "unchanged": [], "failed": [], "changes": 0, "risk": "none", "hosts": hosts}
    for host, one in hosts.items():
        found["changes"] += one["changes"]
        found["failed" if one["failed"] else "changed" if one["changed"] else "unchanged"].append(host)
        if not one["failed"]:
            found["risk"] = max(found["risk"], one["risk"], key=RISKS.index)
    found["text"] = _text(found)
    return found


def _host(steps: Sequence[Any]) -> HostPlan:
    one: HostPlan = {
        "changed": False, "changes": 0, "risk": "none", "counts": {}, "first": [], "failed": "", "orphans": []
    }  # fmt: skip
    raised = 0
    for result in steps:
        if not result:
            one["failed"] = one["failed"] or "the host was not reached, or failed before"
        elif result.get("failed") or result.get("unreachable"):
            one["failed"] = one["failed"] or str(result.get("msg") or "no reason given")
        else:
            one["orphans"] += orphans(result)
            if result.get("changed"):
                raised += _count(one, result)
    if one["changed"]:
        one["risk"] = _risk(one["counts"], raised)
    one["first"] = one["first"][:_FIRST]
    return one


def _count(one: HostPlan, result: Mapping[str, Any]) -> int:
    """Add the changes of one task; returns how many of them only set a link up."""
    one["changed"] = True
    counted = result.get("plan") or {}
    for kind, verbs in (counted.get("counts") or {}).items():
        for verb, count in verbs.items():
            one["counts"][f"{verb} {kind}"] = one["counts"].get(f"{verb} {kind}", 0) + count
    one["changes"] += counted.get("total", 1)
    one["first"] += [str(text) for text in counted.get("first") or ["the host is prepared"]]
    return int(counted.get("raised") or 0)


def _risk(counts: Mapping[str, int], raised: int) -> str:
    """New objects are a low risk, and a link that only comes up is no change of one in use."""
    live = {text: count for text, count in counts.items() if text.split(" ", 1)[1] in _LIVE}
    if any(text.startswith("remove ") for text in live):
        return "high"
    changed = sum(count for text, count in live.items() if text.startswith("change "))
    return "medium" if changed > raised else "low"


#: What is said of an orphan, after its kind and name.
LEFT = "no longer in the map, left in place, because trunk_purge is off"


def orphans(result: Mapping[str, Any]) -> List[str]:
    """What the rows no longer name and no purge removes, one text a kind."""
    counts = (result.get("plan") or {}).get("counts") or {}
    found = []
    for kind, counted in (result.get("undeclared") or {}).items():
        if counted["undeclared"] > (counts.get(kind) or {}).get("remove", 0):
            more = counted["undeclared"] - len(counted["first"][:_NAMED])
            names = ", ".join(counted["first"][:_NAMED]) + (f" and {more} more" if more > 0 else "")
            found.append(f"{kind} {names}")
    return found


def _text(found: Mapping[str, Any]) -> List[str]:
    lines = []
    for host in found["failed"]:
        for number, line in enumerate(found["hosts"][host]["failed"].splitlines()):
            lines.append(f"    {line}" if number else f"{host}: cannot be planned: {line}")
    alike: Dict[Any, List[str]] = {}
    for host in found["changed"]:
        one = found["hosts"][host]
        alike.setdefault((tuple(sorted(one["counts"].items())), one["risk"]), []).append(host)
    for (counts, risk), hosts in alike.items():
        what = ", ".join(f"{text} {count}" for text, count in counts) or "prepared"
        lines.append(f"{', '.join(hosts)}: {what}; risk {risk}: {WHY[risk]}")
        lines += [f"    {text}" for text in found["hosts"][hosts[0]]["first"]]
    for host, one in found["hosts"].items():
        lines += [f"{host}: {text}: {LEFT}" for text in one["orphans"]]
    if found["unchanged"]:
        lines.append(f"unchanged: {', '.join(found['unchanged'])}")
    where = f"{len(found['changed'])} of {_many(len(found['hosts']), 'host')}"
    total = f"{_many(found['changes'], 'change')} on {where}, risk {found['risk']}: {WHY[found['risk']]}"
    failed = f"; {_many(len(found['failed']), 'host')} cannot be planned" if found["failed"] else ""
    return [*lines, total + failed]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# --- what would go -------------------------------------------------------------------------------


def purge(results: Mapping[str, Any], host_limit: str, fleet_limit: str) -> Dict[str, Any]:
    """What would be removed from all hosts, and what of it is beyond a limit. Raises ValueError for a limit that is none."""
    beyond: List[str] = []
    total = {"network": [0, 0], "endpoint": [0, 0]}
    for host in sorted(results):
        for kind, counted in ((results[host] or {}).get("undeclared") or {}).items():
            gone, owned = counted["undeclared"], counted["of"]
            total[kind][0] += gone
            total[kind][1] += owned
            if gone > _most(host_limit, owned):
                names = ", ".join(counted["first"][:_NAMED]) + (f" and {gone - _NAMED} more" if gone > _NAMED else "")
                beyond.append(
                    f"{host}: {gone} of {_many(owned, kind)} would be removed, more than {host_limit}: {names}"
                )
    for kind, (gone, owned) in total.items():
        if gone > _most(fleet_limit, owned):
            beyond.append(f"all hosts: {gone} of {_many(owned, kind)} would be removed, more than {fleet_limit}")
    if beyond:
        beyond.append("nothing was changed; check the map, or allow it with -e purge_limit=100%")
    removed = {kind: gone for kind, (gone, _owned) in total.items()}
    return {"beyond": beyond, "removed": removed, "handover": handover(results)}


def handover(results: Mapping[str, Any]) -> Dict[str, List[Dict[str, str]]]:
    """The endpoints that have to leave each host before another host takes an address of theirs.

    The VLAN may go to a network of another name, so the name says nothing, unless the host itself takes the address again there.
    """
    takers: Dict[str, List[Tuple[str, str]]] = {}  # address -> hosts and networks
    unknown = set()  # hosts whose result was too large to say what they take
    for host, result in results.items():
        if "arriving" in ((result or {}).get("left_out") or ()):
            unknown.add(host)
        for network, addresses in ((result or {}).get("arriving") or {}).items():
            for address in addresses:
                takers.setdefault(address, []).append((host, network))
    found: Dict[str, List[Dict[str, str]]] = {}
    for host in sorted(results):
        names = {
            (network, name)
            for network, addresses in ((results[host] or {}).get("leaving") or {}).items()
            for address, name in addresses.items()
            if unknown - {host} or _is_handed_over(host, network, takers.get(address, ()))
        }
        if names:
            found[host] = [{"network": network, "name": name} for network, name in sorted(names)]
    return found


def _is_handed_over(host: str, network: str, takers: Sequence[Tuple[str, str]]) -> bool:
    stays = any(taker == host for taker, _there in takers)
    return any(taker != host and (there == network or not stays) for taker, there in takers)


def _most(limit: str, owned: int) -> int:
    text = limit.strip()
    if not text.rstrip("%").isdigit():
        raise ValueError(f"{limit!r} is not a limit; give a number, or a percentage such as 20%")
    return max(_FEW, owned * int(text[:-1]) // 100) if text.endswith("%") else int(text)


# --- what was verified ---------------------------------------------------------------------------


def verification(results: Mapping[str, Any]) -> Dict[str, Any]:
    """What vlan_verify found on all hosts. A host without anything that could be verified is not good, but unproved."""
    found: Dict[str, Any] = {"good": [], "bad": [], "unproved": [], "proved": 0, "text": []}
    for host in sorted(results):
        result = results[host] or {"failed": True, "msg": "the host was not reached"}
        findings = result.get("findings") or []
        proved = result.get("proved") or 0
        found["proved"] += proved
        found["text"] += [f"{host}: {text}: {LEFT}" for text in orphans(result)]
        if result.get("failed") or result.get("unreachable") or findings:
            found["bad"].append(host)
            texts = [finding["text"] for finding in findings] or str(
                result.get("msg") or "no reason given"
            ).splitlines()
            found["text"] += [f"{host}: {text}" for text in texts]
        elif proved:
            found["good"].append(host)
        else:
            found["unproved"].append(host)
            found["text"].append(f"{host}: nothing could be verified: it has no network with a gateway")
    unproved = f", {len(found['unproved'])} could not be verified" if found["unproved"] else ""
    good = _many(len(found["good"]), "host")
    arrive = f"{found['proved']} network works" if found["proved"] == 1 else f"{found['proved']} networks work"
    found["text"].append(f"{arrive}; {good} good, {len(found['bad'])} bad{unproved}")
    return found
