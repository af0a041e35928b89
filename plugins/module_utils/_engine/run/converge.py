# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way from a declaration to a converged host.

    declaration -> observe kernel + registry -> plan -> apply -> re-observe -> record

Every module uses it, and the engine's other tools use parts of it.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypedDict

from ..core import identity, rates
from ..core.change import HOST, Change, Records, has_senders
from ..core.endpoint_specs import DHCP
from ..core.errors import InputError, Problem, RegistryError, RollbackFailed, RolledBack, UnderlayError
from ..core.fingerprint import fingerprint
from ..core.lease_specs import lease_of
from ..core.network_specs import NetworkSpec
from ..core.resolver import KEYWORDS
from ..core.specs import Generic, Items, Spec
from ..core.state import HostState, Need, wants_leases
from ..declare.declaration import Declaration, Item
from ..kernel import lease_socket, management
from ..kernel.observe import observe
from ..plan import plan as planning
from ..plan import simulate
from ..plan.pages import followed
from ..plan.plan import Plan
from ..store import hostlock
from ..store.registry import Registry
from . import undo
from .guard import at_work
from .transact import DEFAULT_STATE_DIR, PlannedRun, RunOptions, execute, write_plan

#: The service that restores everything at boot; installed and enabled by the role ``prepare``.
SERVICE = "netops-underlay.service"


class Alone(TypedDict):
    """The parts of a Need for which no record is read; a look with no others sees the same whatever is recorded."""

    everywhere: bool
    routes: bool
    kinds: Tuple[str, ...]
    load: bool


class Basis(NamedTuple):
    """What a plan was made from, beside the declaration."""

    need: Alone
    registry: str  # a digest
    host: str  # a fingerprint


@dataclass
class Outcome:
    """What a run did, or would do in check mode."""

    changes: List[Change]
    warnings: List[str]
    items: Items  # the declared ones, complete
    networks: Dict[str, NetworkSpec]  # all of the host
    observed: HostState  # after the run
    number: Optional[int] = None  # of the transaction, where there was one
    plan_file: Optional[str] = None  # every change of it, on this host
    undeclared: Dict[str, Dict[str, object]] = field(default_factory=dict)  # what a map's owner declares no longer
    staying: Dict[str, Dict[str, str]] = field(default_factory=dict)  # network -> address -> endpoint, of those of them
    machine: str = ""  # what tells this host from its clones, as a digest
    basis: Optional[Basis] = None  # of a run that had nothing to do, where that is known: see ``memory``

    @property
    def changed(self) -> bool:
        """Whether the run changed something, or would have."""
        return bool(self.changes)


def converge(declared: Declaration, run: RunOptions) -> Outcome:
    """Converge the host on a declaration, all of it or nothing.

    Raises InputError (nothing was touched, or all of it is undone), RolledBack or RollbackFailed, GuardError, and what the registry and the observation raise.
    """
    if os.geteuid() != 0:
        raise InputError(
            [Problem("", "only root can change links", "run the task with become: true"), *declared.problems]
        )
    registry = Registry(run.state_dir)
    if run.check:
        hostlock.check(registry)
        pending = registry.pending()
        if pending:
            run.notes.append(f"transaction {pending.number} was interrupted: the next real run undoes it first")
        return _check(declared, run, registry)
    with at_work(registry, run):
        return _apply(declared, run, registry)


def _plan(declared: Declaration, run: RunOptions, registry: Registry) -> PlannedRun:
    records = registry.load()
    simulate.record(records, run.earlier)
    nics = {handle: record.spec for handle, record in records.get("nic", {}).items()}
    need = replace(observation_needed(declared, records, run.state_dir), load=not run.check)
    observed, seen = survey(need, run)
    simulate.overlay(observed, run.earlier)
    records = followed(records, observed)

    def replan(held: Dict[str, Dict[str, str]]) -> Plan:
        """The plan on the same host, once the probes have shown who holds what."""
        return planning.plan(
            declared, followed(registry.load(), observed), replace(observed, held=held), registry.seed()
        )

    plan = planning.plan(declared, records, observed, registry.seed())
    need = replace(need, workloads=_each((*need.workloads, *observed.namespaces)), hidden=tuple(observed.hidden))
    planned = PlannedRun(plan, observed, need, records, replan, nics, seen)
    if run.managed_from is None and not observed.directed:
        _leave_management_path(planned.plan.changes)
    return planned


def survey(need: Need, run: RunOptions) -> Tuple[HostState, str]:
    """The host, and the fingerprint of all that planning reads of it; none where the look depends on records."""
    alone = Need(**_alone(need))
    is_alone = replace(need, records={}) == alone
    observed = observe(alone if is_alone else need)
    peers, observed.managed_at, observed.directed = management.find()
    observed.controllers = (*peers, *(run.managed_from or ()))
    seen = ""
    if is_alone:
        with contextlib.suppress(ValueError):
            seen = fingerprint(observed)
        identity.identify(observed, need.records)
    return observed, seen


def _alone(need: Need) -> Alone:
    return {"everywhere": need.everywhere, "routes": need.routes, "kinds": need.kinds, "load": need.load}


def _leave_management_path(changes: Sequence[Change]) -> None:
    """Raises InputError for a change that may divert the path to the controller, if that path is unknown."""
    for change in changes:
        if change.kind in ("address", "route") and (change.after or change.before or {})["netns"] == HOST:
            what = f"it is unknown from where this host is managed, and the {change.kind} {change.key} may divert that path"
            raise InputError(
                [Problem("guard_timeout", what, "give guard_timeout: 60, or the addresses as managed_from")]
            )


def _check(declared: Declaration, run: RunOptions, registry: Registry) -> Outcome:
    planned = _plan(declared, run, registry)
    for change in planned.plan.changes:
        if change.kind == "link" and change.before and change.after:
            _show_as_planned(planned.observed, change.after)
    notes = run.notes + planned.plan.warnings + planned.plan.provisional()
    plan = planned.plan
    return Outcome(
        plan.changes,
        notes,
        plan.items,
        plan.networks,
        planned.observed,
        undeclared=plan.undeclared,
        staying=plan.staying,
        machine=_machine(registry),
    )


def _machine(registry: Registry) -> str:
    """A digest of what MACs are made of: a machine-id itself is to be kept from others."""
    return hashlib.sha256(f"netops.underlay {registry.seed()}".encode()).hexdigest()[:16]


def _show_as_planned(observed: HostState, after: Spec) -> None:
    """What a result says of a link is as it will be."""
    link = observed.link(after["netns"], after["name"])
    parent = observed.host.links.get(link.parent) if link else None
    if link is not None and parent is not None and after.get("mtu", 0) is None:
        link.mtu = parent.mtu
    if link is not None:
        link.mtu = after.get("mtu") or link.mtu
        link.mac = after.get("mac") or link.mac


def _apply(declared: Declaration, run: RunOptions, registry: Registry) -> Outcome:
    recorded = ""
    with contextlib.suppress(RegistryError):  # there is none yet
        recorded = registry.digest()  # before it is read: an edit by hand in between is then seen the next time
    planned = _plan(declared, run, registry)
    number, observed, plan_file, basis = None, planned.observed, None, None
    if planned.plan.changes:
        number, observed = execute(planned, declared.owner, run, registry)
        observed = _lease(declared, planned.plan.leases, number, run, registry) or observed
        plan_file = write_plan(run.state_dir, planned.plan.changes)
    elif not _learn_nics(planned, registry) and recorded and planned.seen:
        basis = Basis(_alone(planned.need), recorded, planned.seen)
    plan = planned.plan  # as the wire let it be
    notes = run.notes + plan.warnings
    return Outcome(
        plan.changes,
        notes,
        plan.items,
        plan.networks,
        observed,
        number,
        plan_file,
        plan.undeclared,
        plan.staying,
        _machine(registry),
        basis,
    )


def _lease(
    declared: Declaration, wanted: Sequence[str], number: int, run: RunOptions, registry: Registry
) -> Optional[HostState]:
    """Wait for the leases that endpoints ask for since a transaction, and let resolv.conf have what comes with them.

    Returns the host after that, None where nothing was waited for. Raises RolledBack where one does not come, and RollbackFailed.
    """
    if not wanted or not run.dhcp_timeout:
        run.notes += [
            f"{endpoint} has no IPv{version} address until a DHCP server answers, which dhcp_timeout: 0 does not wait for"
            for endpoint, version in map(lease_of, wanted)
        ]
        return None
    missing = lease_socket.lacking(wanted, run.dhcp_timeout)
    alone = replace(run, guard=None)
    if missing:
        what = "; ".join(missing.values())
        try:
            undo.undo(number, registry, alone)
        except UnderlayError as error:
            raise RollbackFailed(f"{what}. The run could not be undone: {error}") from None
        if run.guard:
            run.guard.disarm(number)
        raise RolledBack(f"{what}. The run was rolled back, and the host is as it was")
    planned = _plan(declared, run, registry)
    if not planned.plan.changes:
        return planned.observed
    try:
        return execute(planned, declared.owner, alone, registry)[1]
    except UnderlayError as error:
        run.notes.append(f"the dns of the leases is not in resolv.conf yet: {error}")
        return planned.observed


def _learn_nics(planned: PlannedRun, registry: Registry) -> bool:
    """Record how NICs are identified, even in a run that changes nothing else; whether that was news."""
    nics = identity.nics(planned.need.records, (), planned.observed, planned.plan.asked)
    if nics == planned.nics:
        return False
    registry.learn({"nic": nics})
    return True


def is_persistent(state_dir: str) -> bool:
    """Whether the registry in a directory survives a reboot: the service is enabled, and restores it."""
    return os.path.realpath(state_dir) == os.path.realpath(DEFAULT_STATE_DIR) and bool(
        glob.glob(f"/etc/systemd/system/*.wants/{SERVICE}")
    )


def may_make_taps() -> bool:
    """Whether the service makes the device nodes of taps anew: by default vlan_service does not let it."""
    with contextlib.suppress(OSError), open(f"/etc/systemd/system/{SERVICE}", encoding="utf-8") as unit:
        return "CAP_MKNOD" in unit.read()
    return False


def observation_needed(declared: Declaration, records: Records, state_dir: str) -> Need:
    """What an observation must cover for a declaration: its workloads, and those of the networks it touches."""
    endpoints = {key: record.spec for key, record in records.get("endpoint", {}).items()}
    removing = declared.purge or any(item.spec is None or _leaves(item, records) for item in declared.items)
    touched = _touched(declared, endpoints)
    joined = {spec["network"] for spec in touched}
    readers = touched + [spec for spec in endpoints.values() if spec["network"] in joined]
    modules = _each(_modules(declared))
    # Namespaces of ours that outlived their last endpoint: what kept them may have left.
    left = set(records.get("netns", {})) - {spec["workload"] for spec in endpoints.values()} if removing else ()
    return Need(
        _each((*(spec["workload"] for spec in touched), *sorted(left))),
        everywhere=removing
        or any(item.kind == "network" or _comes(item, records) or _settles(item, endpoints) for item in declared.items),
        routes=removing or _needs_routes(declared, records, endpoints),
        rules=_needs_rules(declared, records),
        senders=_needs_senders(declared, records),
        rates=bool(records.get("rate") or modules or declared.adopt),
        modules=modules,
        kinds=_each(_kinds(declared, records)),
        accounts=_each(_accounts(touched)),
        readers=_each(spec["workload"] for spec in readers if not spec["workload"].startswith("pid:")),
        resolvers=_each(spec["workload"] for spec in touched) if _needs_resolvers(declared, records) else (),
        siblings=_each(spec["workload"] for spec in endpoints.values()) if touched or removing else (),
        leases=state_dir if _needs_leases(declared, records) else "",
        records=records,
    )


def _touched(declared: Declaration, endpoints: Mapping[str, Spec]) -> List[Spec]:
    """The endpoints that a declaration may change: its own, those of its networks, and those that it purges."""
    networks = {item.key for item in declared.items if item.kind == "network"}
    touched = [
        spec
        for spec in endpoints.values()
        if spec["network"] in networks or (declared.purge and spec["owner"] == declared.owner)
    ]
    for item in declared.items:
        if item.kind == "endpoint":
            touched += [spec for spec in (item.spec, endpoints.get(item.key)) if spec]
    return touched


def _needs_routes(declared: Declaration, records: Records, endpoints: Mapping[str, Spec]) -> bool:
    """Whether the host's routes matter: for sets of routes, access of the host, and where subnets or addresses are picked."""
    networks = {item.key for item in declared.items if item.kind == "network"}
    return (
        any(
            item.kind == "routes" or _has_addresses(item) or _settles(item, endpoints) or _renumbers(item, records)
            for item in declared.items
        )
        or any(record.spec["host_access"] for record in records.get("network", {}).values())
        or any(record.spec["network"] in networks for record in records.get("routes", {}).values())
    )


def _has_addresses(item: Item) -> bool:
    """Whether the host has addresses of its own on a sub-interface, whose connected routes may be gone."""
    return item.kind == "vlan" and item.spec is not None and bool(item.spec.get("addresses"))


def _needs_leases(declared: Declaration, records: Records) -> bool:
    """Whether endpoints have, or get, leases of DHCP servers."""
    specs: List[Generic] = [item.spec for item in declared.items if item.spec]
    asked = any(spec.get("dhcp") or spec.get("dhcp6") or spec.get("addressing") == DHCP for spec in specs)
    networks = records.get("network", {}).values()
    return asked or wants_leases(records) or any(record.spec["addressing"] == DHCP for record in networks)


def _needs_resolvers(declared: Declaration, records: Records) -> bool:
    """Whether workloads have, or get, lines in their resolv.conf."""
    if _needs_leases(declared, records):
        return True
    recorded = (record.spec for kind in ("network", "endpoint") for record in records.get(kind, {}).values())
    specs = (*recorded, *(item.spec for item in declared.items if item.spec))
    return any(spec.get(option) for spec in specs for option in KEYWORDS)


def _needs_rules(declared: Declaration, records: Records) -> bool:
    """Whether workloads have, or get, routes by source."""
    declared_so = any(item.spec and item.spec.get("source_routing") for item in declared.items)
    networks = records.get("network", {}).values()
    return bool(records.get("rule")) or declared_so or any(record.spec["source_routing"] for record in networks)


def _needs_senders(declared: Declaration, records: Records) -> bool:
    """Whether links are held to their own addresses, or will be."""
    declared_so = any(item.kind == "network" and item.spec and item.spec["spoof_check"] for item in declared.items)
    return declared_so or has_senders(records)


def _modules(declared: Declaration) -> Iterator[str]:
    """The modules of the kernel that the declared rates need."""
    for item in declared.items:
        spec: Generic = item.spec or {}
        for direction, modules in rates.MODULES.items():
            if spec.get(f"{direction}_rate"):
                yield from modules


def _renumbers(item: Item, records: Records) -> bool:
    """Whether a network gets other subnets, or the host an address in it."""
    if item.kind != "network" or item.spec is None:
        return False
    before = records.get("network", {}).get(item.key)
    subnets = item.spec["subnets"]
    return bool(item.spec["host_access"]) or not subnets or before is None or before.spec["subnets"] != subnets


def _kinds(declared: Declaration, records: Records) -> Iterator[str]:
    """The kinds of links that the declared items may have to make."""
    networks = {key: record.spec for key, record in records.get("network", {}).items()}
    networks.update((item.key, item.spec) for item in declared.items if item.kind == "network" and item.spec)
    for item in declared.items:
        if item.spec and item.kind == "vlan":
            yield "vlan"
        elif item.spec and item.kind in ("network", "endpoint"):
            network = networks.get(item.key if item.kind == "network" else item.spec["network"])
            if network:
                is_tap = item.kind == "endpoint" and item.spec["kind"] == "tap"
                yield "macvtap" if is_tap else network["driver"]
                if not network["parent"]:
                    yield "dummy"
                elif "." in network["parent"] or (item.kind == "endpoint" and item.spec["vlans"]):
                    yield "vlan"


def _accounts(endpoints: Iterable[Spec]) -> Iterator[str]:
    """The users and groups that taps are given to by name."""
    for endpoint in endpoints:
        for kind, name in (("user", endpoint["tap_owner"]), ("group", endpoint["tap_group"])):
            if name and not name.isdecimal():
                yield f"{kind}:{name}"


def _leaves(item: Item, records: Records) -> bool:
    """Whether a network or an endpoint moves, or a trunk gets fewer VLANs, and may leave unused objects behind."""
    option = {"network": "parent", "endpoint": "workload"}.get(item.kind)
    before = records.get(item.kind, {}).get(item.key)
    was: Generic = before.spec if before else {}
    wanted: Generic = item.spec or {}
    fewer = item.kind == "endpoint" and not set(was.get("vlans", ())) <= set(wanted.get("vlans", ()))
    return bool(option and was and wanted and (fewer or was[option] != wanted[option]))


def _comes(item: Item, records: Records) -> bool:
    """Whether a sub-interface will be made, whose VLAN no other namespace may hold."""
    return item.kind == "vlan" and item.spec is not None and item.key not in records.get("vlan", {})


def _settles(item: Item, endpoints: Mapping[str, Spec]) -> bool:
    """Whether an endpoint will take an address or a VLAN, which no stranger may have, possibly in another namespace."""
    if item.kind != "endpoint" or item.spec is None:
        return False
    before: Optional[Generic] = endpoints.get(item.key)
    if item.spec["workload"].startswith(("docker:", "podman:")):
        return True  # and the name of a container may be another's by now, while it lives on under a new one
    return before is None or any(
        before[option] != item.spec[option]
        for option in ("ipv4_address", "ipv6_address", "ipv4_addresses", "ipv6_addresses", "subnet", "vlans")
    )


def _each(values: Iterable[str]) -> Tuple[str, ...]:
    """The distinct values, in order."""
    return tuple(dict.fromkeys(values))
