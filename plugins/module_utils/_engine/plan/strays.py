# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links of ours that are not where the registry has them: what goes all the same, and what is named because it stays.

A workload may be gone or another by now, or not tell where it is, as a container whose engine does not answer. Its links are
then found by what they are, in whichever namespace: see ``identity.moved``.
"""

from __future__ import annotations

from typing import Dict, Iterable, Iterator

from ..core import identity, rates
from ..core.change import FILE_KINDS, LINK_GROUPS, Record, link_key, rate_key
from ..core.endpoint_specs import AnyEndpoint, interfaces
from ..core.specs import Spec
from ..core.state import Link
from .desired import DesiredState
from .order import Step


def left_behind(desired: DesiredState) -> Iterator[Step]:
    """The links of endpoints whose workload cannot be asked where it is, or ended or began anew while others keep its old
    namespace alive.
    """
    observed = desired.observed
    for key, item in desired.scope["endpoint"].items():
        before, found = desired.before("endpoint", key), desired.moved_links(key)
        why = "is gone or was replaced"
        if before and observed.is_silent(before["workload"]):
            why = f"does not tell where it is ({observed.refusals[before['workload']]})"
            if observed.searched:
                observed.traced.add(before["workload"])
        if before is None or (item.spec and item.spec["workload"] in desired.moved_workloads):
            continue
        reason = f"{key} lived on in it, while {before['workload']} {why}"
        for old, there in found:
            desired.leaving.add(there[1])
            for kind, name, spec in identity.left_behind(observed, desired.records, old, there):
                yield Step(kind, name, spec, None, "", reason)


def limits(desired: DesiredState, endpoints: Iterable[str]) -> Iterator[Step]:
    """What still limits the links that a run adopts, with our mark, and is asked for no more: no registry knows of it."""
    for key in endpoints if desired.declared.adopt else ():
        endpoint: AnyEndpoint = desired.items["endpoint"][key]
        for name in interfaces(endpoint):
            for direction in rates.DIRECTIONS:
                place: Spec = {"netns": endpoint["workload"], "link": name, "direction": direction}
                limit = desired.observed.rate_spec(place)
                if (
                    limit
                    and limit["rate"]
                    and not (endpoint[f"{direction}_rate"] or desired.record("rate", rate_key(place)))
                ):
                    yield Step(
                        "rate", rate_key(place), limit, None, f"endpoint:{key}", "no endpoint asks for it any more"
                    )


def outlasts(desired: DesiredState, kind: str, record: Record) -> bool:
    """Whether what the endpoints of a workload share is still there for those that stay, where that cannot be seen."""
    workload, spec = record.of.partition(":")[2], record.spec
    if not record.of.startswith("workload:") or not desired.observed.is_silent(workload):
        return False
    interface = spec.get("dev") or spec.get("link")
    return any(
        kind in FILE_KINDS or interface in interfaces(desired.items["endpoint"][key])
        for key in desired.attached([workload])
    )


def name_left(desired: DesiredState) -> None:
    """Warn about what cannot be removed of the endpoints whose workload cannot be asked where it is."""
    observed = desired.observed
    if not observed.traced:
        return
    found = {key: desired.moved_links(key) for key in desired.records["endpoint"]}
    known = {where[1] for links in found.values() for _key, where in links}
    silent: Dict[str, Spec] = {}
    for key in desired.scope["endpoint"]:
        before = desired.before("endpoint", key)
        if before and before["workload"] in observed.traced:
            silent[key] = before
    for workload in sorted({before["workload"] for key, before in silent.items() if found[key]}):
        kept = [] if desired.attached([workload]) else [kind for kind in FILE_KINDS if desired.record(kind, workload)]
        if "hosts" in kept and (why := observed.unwritable.get(("hosts", workload))):
            desired.warnings.append(
                f"{workload} keeps the names of its networks in its hosts file: {why}; restart it, and its engine writes the file anew"
            )
        if "resolver" in kept and (why := observed.unwritable.get(("resolver", workload))):
            desired.warnings.append(
                f"{workload} keeps the dns of its endpoints in its resolv.conf: {why}; remove our block there by hand"
            )
    for key in [key for key in silent if not found[key]]:
        lost = link_key(silent[key]["workload"], interfaces(silent[key])[0])
        record = desired.record("link", lost)
        parent = observed.host.names.get(record.spec["parent"] or "") if record else None
        for namespace, link in observed.children.get(parent.index, ()) if parent else ():
            ours = link in known or namespace is observed.host or desired.is_recorded_in(namespace, link)
            if link.group in LINK_GROUPS and not ours:
                _name(desired, link, namespace.workload, f"{lost}, which somebody changed")


def name_renamed(desired: DesiredState, removals: Iterable[Step]) -> None:
    """Of a link that is to go and is not there, the links with our mark that may be it: nothing proves which."""
    lost = {
        (step.before["netns"], step.before["kind"]): step.key
        for step in removals
        if step.kind == "link"
        and step.before
        and desired.observed.link(step.before["netns"], step.before["name"]) is None
        and step.after is None
    }
    spaces = {netns: namespace for netns, _kind in lost if (namespace := desired.observed.namespace(netns))}
    for netns, namespace in spaces.items():
        for link in namespace.links.values():
            key = lost.get((netns, link.kind))
            if key and link.group in LINK_GROUPS and not desired.is_recorded_in(namespace, link):
                _name(desired, link, netns or "the host", f"{key}, which somebody renamed")


def _name(desired: DesiredState, link: Link, where: str, key: str) -> None:
    desired.warnings.append(
        f"{link.name} in {where} has our mark but is in no registry, so it stays; if it is {key}, remove it by ip link del"
    )
