# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From desired and observed state to an ordered list of changes, each with its reason and its inverse.

Nothing else in the engine decides. A user's run, the undo, the restore at boot and the drift report are all
a set of objects with the state that they must have, compared with the host and put in order by
:func:`arrange`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ..core.change import (
    HOST,
    HOST_KINDS,
    KERNEL_KINDS,
    LINK_GROUPS,
    Change,
    Record,
    Records,
    differences,
    items_of,
    link_key,
)
from ..core.endpoint_specs import SLAAC
from ..core.errors import InputError
from ..core.lease_specs import lease_of
from ..core.network_specs import NetworkSpec
from ..core.specs import Items, Spec
from ..core.state import PLACED, HostState, Link, Namespace
from ..declare.declaration import Declaration
from ..declare.naming import link_names
from . import dependants as foreign
from . import dhcp, purge, rules, strays
from .compare import ObjectState, diff, is_another, update_step, with_recorded
from .desired import ITEM_KINDS, DesiredState, desired_state
from .expand import Expansion, expand
from .order import Step, order_changes
from .pages import Pages
from .wanted import DesiredObject, Key


class AddressProbe(NamedTuple):
    """A probe to send before an endpoint, or the host itself, takes an address: whether it is in use."""

    endpoint: str  # its key; of the host's own link that of its network
    network: str
    netns: str  # from where it is asked: the endpoint's own link, or the parent whose MAC it has
    link: str
    candidates: List[str]  # the first one is in the plan, a later one takes its place where that is held


@dataclass
class Plan:
    """What a run will do. Check mode, diff, drift and undo are the plan, either not applied or inverted."""

    changes: List[Change] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    items: Items = field(default_factory=lambda: items_of({}))  # the declared ones, complete
    networks: Dict[str, NetworkSpec] = field(default_factory=dict)  # all of the host, once the plan is applied
    pages: Pages = field(default_factory=Pages)  # the lines behind the digests of changes of files
    probes: List[AddressProbe] = field(default_factory=list)
    undeclared: Dict[str, Dict[str, object]] = field(default_factory=dict)  # what a map's owner declares no longer
    staying: Dict[str, Dict[str, str]] = field(default_factory=dict)  # network -> address -> endpoint, of those of them
    asked: Dict[str, List[List[str]]] = field(default_factory=dict)  # NIC -> what the run asked for it by
    leases: List[str] = field(
        default_factory=list
    )  # those that endpoints ask for, by lease_key, once the plan is applied

    def provisional(self) -> List[str]:
        """Warnings about a plan that is not carried out."""
        return (
            [
                f"{question.endpoint}: {question.candidates[0]} is provisional, only a real run checks the wire for conflicts"
                for question in self.probes
            ]
            + [
                f"{change.key}: its IPv6 addresses are provisional, only a router makes them known after a real run"
                for change in self.changes
                if change.kind == "endpoint"
                and (change.after or {}).get("ipv6_address") == SLAAC != (change.before or {}).get("ipv6_address")
            ]
            + [
                f"{endpoint}: its IPv{version} address is provisional, only a DHCP server makes it known after a real run"
                for endpoint, version in map(lease_of, self.leases)
            ]
        )

    def opening(self) -> List[Change]:
        """The changes needed before probing: namespaces, links (down if addresses follow), and the host's own."""
        return self._split()[0]

    def rest(self) -> List[Change]:
        """The changes after probing, in order."""
        return self._split()[1]

    def _split(self) -> Tuple[List[Change], List[Change]]:
        own = {
            link_key(HOST, change.after["link"]) for change in self.changes if _is_of_access(change) and change.after
        }
        parts: Tuple[List[Change], List[Change]] = ([], [])
        for change in self.changes:
            raised = (
                change.kind == "link" and change.key in own and change.before is not None and change.after is not None
            )
            parts[not _opens(change) or raised].append(change)
        return parts


def _is_of_access(change: Change) -> bool:
    """Whether it is about an address of the host's own in a network, which the wire may be asked for too."""
    return change.kind == "address" and change.of.startswith("network:")


def _opens(change: Change) -> bool:
    if change.kind == "netns":
        return change.before is None
    if change.kind not in ("link", "address") or _is_of_access(change):
        return False
    here = (change.after if change.after is not None else change.before or {})["netns"] == HOST
    return here or (change.kind == "link" and (change.before is None or change.after is None))


def plan(declared: Declaration, records: Records, observed: HostState, seed: str) -> Plan:
    """The plan that fulfils a declaration. Raises InputError with all problems."""
    desired = desired_state(declared, records, observed, seed)
    rules.check(desired)
    derivation = expand(desired)
    removals = [
        *strays.left_behind(desired),
        *_removals(desired, derivation),
        *dhcp.what_ends(desired, derivation.wanted),
        *strays.limits(desired, derivation.endpoints),
    ]
    strays.name_left(desired)
    strays.name_renamed(desired, removals)
    steps = [*_steps(desired, derivation.wanted, removals), *removals]
    steps += _by_another_name(desired, derivation.wanted, removals, steps)
    _allowed(desired, steps)
    if desired.problems:
        raise InputError(desired.problems)
    ordered = order_changes(steps)
    changes = ordered + _record_changes(desired, derivation)
    return Plan(
        changes,
        desired.warnings,
        desired.in_scope(),
        desired.items["network"],
        derivation.pages,
        list(_probes(desired, derivation, ordered)),
        purge.summary(declared, records),
        purge.staying(declared, records),
        desired.asked,
        dhcp.begins(changes, derivation.wanted, desired.items["endpoint"]),
    )


def _allowed(desired: DesiredState, steps: Iterable[Step]) -> None:
    """Whether this process may make such changes at all, as root in a container may not."""
    kinds = {step.kind for step in steps}
    written = any(
        step.after.get("sysctls") or step.after.get("isolation") for step in steps if step.kind == "link" and step.after
    )
    if not desired.observed.is_admin and kinds & {*KERNEL_KINDS}:
        what = "this process has no CAP_NET_ADMIN, so the kernel lets it change nothing"
        desired.refuse_at("", what, "run the task on the host itself, as root")
    elif written and desired.observed.ipv6 and not desired.observed.writable_sysctls:
        what = "/proc/sys is not writable here, as in an unprivileged container"
        desired.refuse_at("", what, "run the task on the host itself, or in a container that may write there")


def _probes(desired: DesiredState, derivation: Expansion, changes: Iterable[Change]) -> Iterator[AddressProbe]:
    """One for each address that an endpoint with ``probe`` is to get, or the host in a network with it."""
    for change in changes:
        kind, _colon, key = change.of.partition(":")
        if change.kind != "address" or change.before is not None or kind not in ("endpoint", "network"):
            continue
        endpoint, after = desired.items["endpoint"].get(key) if kind == "endpoint" else None, change.after or {}
        network = desired.items["network"][endpoint["network"] if endpoint else key]
        if not (endpoint or network)["probe"]:
            continue
        ip, netns, link = after["address"].partition("/")[0], after["netns"], after["link"]
        rest = (
            derivation.addressing.next_best(endpoint, ip)
            if endpoint
            else derivation.addressing.next_best_for_host(network, ip)
        )
        if (
            network["driver"] == "ipvlan"
        ):  # answers go to the MAC of the parent, which passes them only to the owner of the address
            parent = desired.parent(network)
            netns, link = HOST, parent.name if parent else ""
        yield AddressProbe(key, network["name"], netns, link, [ip, *rest])


# --- comparing -----------------------------------------------------------------------------------


def _steps(desired: DesiredState, wanted: Mapping[Key, DesiredObject], removals: Iterable[Step]) -> Iterator[Step]:
    """The steps for desired objects that are missing or differ."""
    leaving = [step.before for step in removals if step.kind == "address" and step.before]
    states: List[ObjectState] = []
    records: Dict[Key, Record] = {}
    for (kind, key), want in wanted.items():
        record = _record(desired, kind, key, want)
        if record is not None:
            records[kind, key] = record
        if kind == "link" and want.of:
            now = desired.observed.link(want.spec["netns"], want.spec["name"])
            if now is not None and not _is_own(desired, key, want, now):
                continue
        states.append(ObjectState(kind, key, want.spec, want.of, want.reason, record.spec if record else None))
    stated = set()
    for step in diff(states, desired.observed, leaving):
        record = records.get((step.kind, step.key))
        stated.add((step.kind, step.key))
        if record and step.before and step.after:
            step = with_recorded(step, wanted[step.kind, step.key].spec, record.spec)
        yield step
    for (kind, key), record in records.items():
        want = wanted[kind, key]
        if (kind, key) not in stated and (record.of != want.of or differences(record.spec, want.spec)):
            # The kernel has it so already; the record follows.
            same = (want.spec, want.spec) if kind == "route" else ({}, {})  # which is sent whole
            yield with_recorded(update_step(kind, key, want.spec, same, want.of, want.reason), want.spec, record.spec)


def _record(desired: DesiredState, kind: str, key: str, want: DesiredObject) -> Optional[Record]:
    """What the registry has of an object; of one that is there and to be adopted, or was recorded by another name, an empty record."""
    record = desired.record(kind, key)
    taken = (desired.declared.adopt and kind != "netns") or want.spec["netns"] in desired.moved_workloads
    if record is None and want.of and taken and desired.observed.find(kind, want.spec):
        return Record({}, "")
    return record


def _is_own(desired: DesiredState, key: str, want: DesiredObject, now: Link) -> bool:
    """Whether a link in the place of ours is ours, or may be taken over; else it is refused."""
    if now.group in LINK_GROUPS and (desired.record("link", key) or want.spec["netns"] in desired.moved_workloads):
        return True
    kind, _rest, item = want.of.partition(":")
    option = "interface" if kind == "endpoint" else "name"
    path = desired.path(kind, item, option) if kind in ITEM_KINDS else want.spec["name"]
    if _is_of_another_name(desired, want, path):
        return False
    there = desired.observed.find("link", want.spec)
    # What others made is not removed to be recreated as we want it.
    alike = now.kind == want.spec["kind"] and (
        now.group in LINK_GROUPS or (there is not None and not is_another(there, want.spec))
    )
    if desired.declared.adopt and alike:
        return True
    what = "no longer has our mark" if desired.record("link", key) else "exists and was not created by us"
    fix = "set adopt: true to take it over, or give another name" if alike else "remove it, or give another name"
    desired.refuse_at(path, f"{key} ({now.kind or 'a NIC'}) {what}", fix)
    return False


def _is_of_another_name(desired: DesiredState, want: DesiredObject, path: str) -> bool:
    """Whether a link belongs to an endpoint by another name of its namespace, which is refused."""
    netns, name = want.spec["netns"], want.spec["name"]
    keys = (link_key(other, name) for other in desired.observed.shared(netns)[1:])
    holder = next((record.of.partition(":")[2] for key in keys if (record := desired.record("link", key))), None)
    if holder is not None and holder not in desired.items["endpoint"]:  # else the rule about names refuses it already
        desired.refuse_at(
            path,
            f"{name} in {netns} is that of {holder}, which this run removes",
            "give another name, or do it in two runs",
        )
    return holder is not None


def _removals(desired: DesiredState, derivation: Expansion) -> Iterator[Step]:
    """The recorded objects that the items in scope no longer stand for, and shared ones that nothing needs."""
    wanted = derivation.wanted
    gone = {f"{kind}:{key}" for kind in ITEM_KINDS for key in desired.scope[kind]}
    gone |= {f"endpoint:{key}" for key in derivation.endpoints}
    gone |= {f"workload:{workload}" for workload in derivation.workloads}
    gone |= {f"routes:{key}" for key in derivation.sets}
    for kind in HOST_KINDS:
        for key, record in desired.records.get(kind, {}).items():
            if record.of not in gone or (kind, key) in wanted or strays.outlasts(desired, kind, record):
                continue
            if desired.observed.is_replaced(kind, record.spec):
                yield _forgotten(desired, kind, key, record)
                continue
            sitting = dependants(desired, record.spec) if kind == "link" else ""
            if sitting and record.of.startswith("network:"):
                desired.warnings.append(f"{key} stays, although nothing of ours needs it any more: {sitting}")
            elif sitting:
                item_kind, _rest, item = record.of.partition(":")
                desired.refuse(item_kind, item, "state", f"{key} cannot be removed: {sitting}", "remove that first")
            else:
                yield Step(kind, key, record.spec, None, record.of, f"{record.of.partition(':')[2]} no longer needs it")
    if any(
        item.spec is None or desired.before(kind, item.key)
        for kind in ITEM_KINDS
        for item in desired.scope[kind].values()
    ):
        yield from _unshared(desired, wanted)


def _by_another_name(
    desired: DesiredState, wanted: Mapping[Key, DesiredObject], removals: Iterable[Step], steps: Iterable[Step]
) -> Iterator[Step]:
    """Routes and rules that stay as they are, while they are recorded no more under another name of their namespace.

    They are said once more, so that the record's end is not taken for theirs: see ``HostState.succeeded``.
    """
    going = {desired.observed.place(step.before) for step in removals if step.kind in PLACED and step.before}
    stated = {step.key for step in steps if step.kind in PLACED}
    for (kind, key), want in wanted.items():
        if kind in PLACED and key not in stated and desired.observed.place(want.spec) in going:
            yield update_step(kind, key, want.spec, ({}, {}), want.of, "is recorded by this name of its namespace")


def _forgotten(desired: DesiredState, kind: str, key: str, record: Record) -> Step:
    """Of what somebody put in the place of ours only the record goes: see ``HostState.is_replaced``."""
    if kind in ("link", "netns"):
        desired.warnings.append(f"{key} no longer has our mark: left in place, dropped from the registry")
    return Step(kind, key, record.spec, None, record.of, "no longer ours, dropped from the registry")


def _unshared(desired: DesiredState, wanted: Mapping[Key, DesiredObject]) -> Iterator[Step]:
    """Sub-interfaces and namespaces created as needed go with their last user, unless something else uses them."""
    workloads = {
        name
        for workload in {endpoint["workload"] for endpoint in desired.items["endpoint"].values()}
        for name in desired.observed.shared(workload)
    }
    for kind, label, observation_needed in (
        ("link", "parent", _needed_links(desired, wanted)),
        ("netns", "netns", workloads),
    ):
        for key, record in desired.records.get(kind, {}).items():
            if record.of != label or key in observation_needed or (kind, key) in wanted:
                continue
            sitting = dependants(desired, record.spec) if kind == "link" else occupants(desired, key)
            if desired.observed.is_replaced(kind, record.spec):
                yield _forgotten(desired, kind, key, record)
            elif sitting:
                desired.warnings.append(f"{key} stays, although nothing of ours needs it any more: {sitting}")
            else:
                yield Step(kind, key, record.spec, None, record.of, "its last user is gone")


def _needed_links(desired: DesiredState, wanted: Mapping[Key, DesiredObject]) -> Set[str]:
    """The links that carry networks, trunks and declared sub-interfaces, and the bases of those."""
    found = {parent.name for parent in map(desired.parent, desired.items["network"].values()) if parent}
    found |= {link_names(key)[0] for key in desired.items["vlan"]}
    trunks = [endpoint for endpoint in desired.items["endpoint"].values() if endpoint["vlans"]]
    found |= {carrier.name for endpoint in trunks for carrier in desired.carriers(endpoint)}
    for name in list(found):
        while name:
            want, record = wanted.get(("link", name)), desired.record("link", name)
            name = str((want.spec if want else record.spec if record else {}).get("parent") or "")
            if name in found:
                break
            found.add(name)
    return found


def dependants(desired: DesiredState, spec: Spec) -> str:
    """Descriptions of foreign objects that depend on a link of ours; empty for none."""
    found = foreign.of_link(
        desired.observed,
        spec,
        lambda where, child: (
            child in desired.leaving or (desired.is_ours_in(where, child) and not _has_to_stay(desired, where, child))
        ),
        desired.records.get("address", {}).__contains__,
    )
    if spec["netns"] == HOST:
        link = desired.observed.host.names.get(spec["name"])
        found += [
            f"{key} uses it"
            for key, vlan in desired.items["vlan"].items()
            if link is not None and desired.observed.host.names.get(vlan["parent"]) is link
        ]
    return foreign.listed(found)


def _has_to_stay(desired: DesiredState, where: Namespace, link: Link) -> bool:
    """Whether a link of ours on the host has to stay, and with it all that it stands on."""
    record = desired.record("link", link.name) if where is desired.observed.host else None
    return record is not None and bool(dependants(desired, record.spec))


def occupants(desired: DesiredState, workload: str) -> str:
    """Descriptions of foreign objects in a namespace of ours; empty for none."""
    return foreign.listed(foreign.of_namespace(desired.observed, workload, desired.is_ours_in))


def _record_changes(desired: DesiredState, derivation: Expansion) -> List[Change]:
    """The items themselves, which only the registry keeps."""
    changes = []
    for kind in ITEM_KINDS:
        keys = dict.fromkeys(desired.scope[kind])
        if kind == "endpoint":
            keys.update(dict.fromkeys(derivation.endpoints))
        for key in keys:
            before, after = desired.before(kind, key), desired.of_kind(kind).get(key)
            label = f"{kind}:{key}"
            if before is None or after is None:
                if before is not after:
                    reason = "declared" if after else "no longer declared"
                    changes.append(Change(kind, key, before, after, reason, label))
            else:
                changed = differences(before, after)
                if changed:
                    changes.append(Change(kind, key, *changed, "declared differently", label))
    return changes
