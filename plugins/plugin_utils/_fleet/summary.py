# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What a whole fleet would do, or said, in a few lines: the results of many hosts put together."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

#: From harmless to what cuts somebody off.
RISKS = ("none", "low", "medium", "high")
WHY = {
    "none": "nothing changes",
    "low": "only new objects",
    "medium": "objects in use change",
    "high": "objects go away",
}
#: What traffic depends on; everything else is a record.
_LIVE = ("link", "address", "route", "netns")
_FIRST = 3  # changes of a host that are shown; its plan has them all


def plan(results: Mapping[str, Sequence[Any]]) -> Dict[str, Any]:
    """What the check runs of all hosts foretell. ``results``: host -> the result of each task, or nothing where it did not run."""
    found: Dict[str, Any] = {"changed": [], "unchanged": [], "failed": [], "changes": 0, "risk": "none", "hosts": {}, "text": []}
    for host in sorted(results):
        one = _host(results[host])
        found["hosts"][host] = one
        found["changes"] += one["changes"]
        found["failed" if one["failed"] else "changed" if one["changed"] else "unchanged"].append(host)
        if not one["failed"]:
            found["risk"] = max(found["risk"], one["risk"], key=RISKS.index)
    found["text"] = _text(found)
    return found


def _host(steps: Sequence[Any]) -> Dict[str, Any]:
    one: Dict[str, Any] = {"changed": False, "changes": 0, "risk": "none", "counts": {}, "first": [], "failed": ""}
    for result in steps:
        if not result:
            one["failed"] = one["failed"] or "the host was not reached, or failed before"
        elif result.get("failed") or result.get("unreachable"):
            one["failed"] = one["failed"] or str(result.get("msg") or "no reason given")
        elif result.get("changed"):
            one["changed"] = True
            told = result.get("plan") or {}
            for kind, verbs in (told.get("counts") or {}).items():
                for verb, count in verbs.items():
                    one["counts"][f"{verb} {kind}"] = one["counts"].get(f"{verb} {kind}", 0) + count
            one["changes"] += told.get("total", 1)
            one["first"] += [str(text) for text in told.get("first") or ["the host is prepared"]]
    if one["changed"]:
        live = [text.split(" ", 1)[0] for text in one["counts"] if text.split(" ", 1)[1] in _LIVE]
        one["risk"] = "high" if "remove" in live else "medium" if "change" in live else "low"
    one["first"] = one["first"][:_FIRST]
    return one


def _text(found: Mapping[str, Any]) -> List[str]:
    lines = []
    for host in found["failed"]:
        lines += [f"{host}: cannot be foretold: {line}" if number == 0 else f"    {line}"
                  for number, line in enumerate(found["hosts"][host]["failed"].splitlines())]  # fmt: skip
    alike: Dict[Any, List[str]] = {}
    for host in found["changed"]:
        one = found["hosts"][host]
        alike.setdefault((tuple(sorted(one["counts"].items())), one["risk"]), []).append(host)
    for (counts, risk), hosts in alike.items():
        what = ", ".join(f"{text} {count}" for text, count in counts) or "prepared"
        lines.append(f"{', '.join(hosts)}: {what}; risk {risk}: {WHY[risk]}")
        first = found["hosts"][hosts[0]]["first"]
        lines += [f"    {text}" for text in first]
    if found["unchanged"]:
        lines.append(f"unchanged: {', '.join(found['unchanged'])}")
    total = f"{found['changes']} changes on {len(found['changed'])} of {len(found['hosts'])} hosts, risk {found['risk']}: {WHY[found['risk']]}"
    return [*lines, total + (f"; {len(found['failed'])} hosts cannot be foretold" if found["failed"] else "")]


def verification(results: Mapping[str, Any]) -> Dict[str, Any]:
    """What vlan_verify found on all hosts."""
    found: Dict[str, Any] = {"good": [], "bad": [], "proved": 0, "text": []}
    for host in sorted(results):
        result = results[host] or {"failed": True, "msg": "the host was not reached"}
        findings = result.get("findings") or []
        found["proved"] += result.get("proved") or 0
        if result.get("failed") or result.get("unreachable") or findings:
            found["bad"].append(host)
            texts = [finding["text"] for finding in findings] or str(result.get("msg") or "no reason given").splitlines()
            found["text"] += [f"{host}: {text}" for text in texts]
        else:
            found["good"].append(host)
    found["text"].append(f"{found['proved']} networks arrive; {len(found['good'])} hosts are good, {len(found['bad'])} are not")
    return found
