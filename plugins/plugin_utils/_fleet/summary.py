# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The results of many hosts in a few lines: what a run would do, what it would remove, what was verified."""

from __future__ import annotations

import json
from typing import Any, Collection, Dict, Iterator, List, Mapping, Sequence, Set, Tuple, TypedDict

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
    detached: List[str]  # the endpoints whose addresses other hosts take


def plan(results: Mapping[str, Sequence[Any]], moved: Sequence[Moved] = (), lost: Sequence[str] = ()) -> Dict[str, Any]:
    """What would change on all hosts, and what would stop the run.

    ``results``: host -> the results of its tasks in check mode, or nothing for those that did not run.
    """
    maps = {host: _of_map(steps) for host, steps in results.items()}
    detached = {
        host: {f"{endpoint['network']}/{endpoint['name']}" for endpoint in endpoints}
        for host, endpoints in handover(maps).items()
    }
    hosts = {host: _host(results[host], detached.get(host, set())) for host in sorted(results)}
    found: Dict[str, Any] = {"changed": [], "unchanged": [], "failed": [], "changes": 0, "risk": "none", "hosts": hosts}
    for host, one in hosts.items():
        found["changes"] += one["changes"]
        found["failed" if one["failed"] else "changed" if one["changed"] else "unchanged"].append(host)
        if not one["failed"]:
            found["risk"] = max(found["risk"], one["risk"], key=RISKS.index)
    found["text"] = [*_text(found), *(f"site would stop: {text}" for text in stops(maps, moved, lost))]
    return found


def _of_map(steps: Sequence[Any]) -> Dict[str, Any]:
    """What vlan_map returned on a host, or why it did not."""
    bad = next((step for step in steps if step and (step.get("failed") or step.get("unreachable"))), None)
    return bad or next((step for step in steps if step and "machine" in step), {})


def _host(steps: Sequence[Any], detached: Collection[str] = ()) -> HostPlan:
    one: HostPlan = {
        "changed": False, "changes": 0, "risk": "none", "counts": {}, "first": [], "failed": "", "orphans": [],
        "detached": sorted(detached),
    }  # fmt: skip
    raised = 0
    for result in steps:
        if not result:
            one["failed"] = one["failed"] or "the host was not reached, or failed before"
        elif result.get("failed") or result.get("unreachable"):
            one["failed"] = one["failed"] or str(result.get("msg") or "no reason given")
        else:
            one["orphans"] += orphans(result, detached)
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


def orphans(result: Mapping[str, Any], detached: Collection[str] = ()) -> List[str]:
    """What the rows no longer name and no purge removes, nor a handover, one text a kind."""
    found = []
    for kind, counted in (result.get("undeclared") or {}).items():
        going = detached if kind == "endpoint" and not counted["removed"] else ()
        left = counted["undeclared"] - counted["removed"] - len(going)
        if left > 0:
            first = [name for name in counted["first"] if name not in going][:_NAMED]
            names = ", ".join(first) + (f" and {left - len(first)} more" if left > len(first) else "")
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
        lines += [
            f"{host}: endpoint {name} is detached first: another host takes its address" for name in one["detached"]
        ]
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


def purge(
    results: Mapping[str, Any],
    host_limit: str,
    fleet_limit: str,
    moved: Sequence[Moved] = (),
    lost: Sequence[str] = (),
) -> Dict[str, Any]:
    """What would be removed from all hosts, and why the run has to stop: what is beyond a limit, and :func:`stops`.

    Raises ValueError for a limit that is none.
    """
    beyond: List[str] = []
    total = {"network": [0, 0], "endpoint": [0, 0]}
    for host in sorted(results):
        for kind, counted in ((results[host] or {}).get("undeclared") or {}).items():
            gone, owned = counted["removed"], counted["of"]
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
    found = [*beyond, *stops(results, moved, lost)]
    return {
        "beyond": beyond,
        "stops": found,
        "removed": removed,
        "handover": handover(results),
        "waiting": waiting(results, moved, lost),
    }


class Moved(TypedDict):
    """An address of the ledger that hosts had before; they may have it still."""

    address: str
    hosts: List[str]  # that have it now
    former: List[str]  # NETWORK/HOST/ENDPOINT


#: The sides of a result that say what a host gives up, or would keep only because nothing is purged.
_GOING = ("leaving", "staying")


def handover(results: Mapping[str, Any]) -> Dict[str, List[Dict[str, str]]]:
    """The endpoints that have to leave each host before another host takes an address of theirs, with a purge or without.

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
            for side in _GOING
            for network, addresses in ((results[host] or {}).get(side) or {}).items()
            for address, name in addresses.items()
            if unknown - {host} or _is_handed_over(host, network, takers.get(address, ()))
        }
        if names:
            found[host] = [{"network": network, "name": name} for network, name in sorted(names)]
    return found


def _is_handed_over(host: str, network: str, takers: Sequence[Tuple[str, str]]) -> bool:
    stays = any(taker == host for taker, _there in takers)
    return any(taker != host and (there == network or not stays) for taker, there in takers)


def stops(results: Mapping[str, Any], moved: Sequence[Moved] = (), lost: Sequence[str] = ()) -> List[str]:
    """Why no host may be changed: an address would be announced by two, or two hosts are clones. ``lost``: hosts that are gone for good."""
    kept = list(_kept(results, moved, set(lost)))
    former = {holder.partition("/")[2].rpartition("/")[0] for row in moved for holder in row["former"]}
    unknown = [
        f"site_lost_hosts: {host} is no host of this run, and the ledger took nothing from it; correct the name, or leave it out"
        for host in lost
        if host not in results and host not in former
    ]
    if kept:
        hosts = sorted({host for host, _text in kept})
        kept_texts = [text for _host, text in kept]
        fix = (
            f"nothing was changed; make {', '.join(hosts)} reachable and part of the run, so that the address leaves there first, "
            f"or, if nothing of it is left there, -e '{{\"site_lost_hosts\": {json.dumps(hosts)}}}'"
        )
        return [*unknown, *kept_texts, fix, *_clones(results)]
    return [*unknown, *_clones(results)]


def names(given: Any) -> List[str]:
    """Names of hosts, as a list or, as -e gives them, a text."""
    return given.replace(",", " ").split() if isinstance(given, str) else list(map(str, given))


def _kept(results: Mapping[str, Any], moved: Sequence[Moved], lost: Set[str]) -> Iterator[Tuple[str, str]]:
    """Addresses that a host would take, and that another one, which cannot be asked, had before: that one, and a text."""
    takers: Dict[str, Set[str]] = {}
    unknown = {host for host, result in results.items() if "arriving" in ((result or {}).get("left_out") or ())}
    for host, result in results.items():
        for addresses in ((result or {}).get("arriving") or {}).values():
            for address in addresses:
                takers.setdefault(address, set()).add(host)
    for row in moved:
        for taker in sorted(takers.get(row["address"], set()) | unknown.intersection(row["hosts"])):
            for holder in row["former"]:
                network, _slash, rest = holder.partition("/")
                host, _slash, name = rest.rpartition("/")
                why = _unseen(results, host) if host not in (taker, *lost) else ""
                if why:
                    yield host, f"{taker}: {row['address']} stays with endpoint {network}/{name} of {host}, which {why}"


def waiting(results: Mapping[str, Any], moved: Sequence[Moved], lost: Sequence[str] = ()) -> Dict[str, str]:
    """The hosts that could not be asked what they take, and may not take it in this run either: another one may have it still."""
    found: Dict[str, str] = {}
    for row in moved:
        for taker in row["hosts"]:
            why = _unseen(results, taker) if taker in results else ""
            for holder in row["former"] if why else ():
                network, _slash, rest = holder.partition("/")
                host, _slash, name = rest.rpartition("/")
                if host not in (taker, *lost) and (_unseen(results, host) or _has(results[host], row["address"])):
                    text = f"{row['address']}, which endpoint {network}/{name} of {host} may still have, is to be this host's, which {why}"
                    found.setdefault(taker, f"{text}; it is left out of this run: correct that, then run site again")
    return found


def _has(result: Mapping[str, Any], address: str) -> bool:
    """Whether a host has an address that it would give up, or keep only because nothing is purged."""
    return any(address in addresses for side in _GOING for addresses in (result.get(side) or {}).values())


def _unseen(results: Mapping[str, Any], host: str) -> str:
    """Why it is unknown what a host would give up; empty where it is known."""
    if host not in results:
        return "is not part of this run"
    result = results[host] or {}
    if not result or result.get("unreachable"):
        return "cannot be reached"
    if result.get("failed"):
        return "cannot be planned: " + (str(result.get("msg") or "").splitlines() or ["no reason given"])[0]
    lacking = [side for side in _GOING if side in (result.get("left_out") or ())]
    return "gives up more addresses than a result can list" if lacking else ""


def _clones(results: Mapping[str, Any]) -> List[str]:
    """Hosts that would make the same MACs."""
    alike: Dict[str, List[str]] = {}
    for host in sorted(results):
        machine = (results[host] or {}).get("machine")
        if machine:
            alike.setdefault(machine, []).append(host)
    return [
        f"{' and '.join(hosts)} have the same machine-id and host name, so their endpoints would have the same MACs; nothing was changed: "
        "on a clone, give it its own host name, and run rm /etc/machine-id && systemd-machine-id-setup, then underlay rehost clone if it has "
        "the service; if it is one machine, keep one of its names in the inventory"
        for hosts in alike.values()
        if len(hosts) > 1
    ]


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
