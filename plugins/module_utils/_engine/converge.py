# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one road from a declaration to a host that is so.

    declaration -> observe kernel + registry -> plan -> apply -> re-observe -> record

Every module goes it, and the engine's other tools go parts of it.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, replace
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from . import controller, foretell
from . import plan as planning
from .fields import Problem, Refusal
from .guard import at_work
from .model import Declaration, Item
from .observe import observe
from .plan import Plan
from .registry import Registry
from .transact import DEFAULT_STATE_DIR, GuardError, Run, Scene, Stuck, Undone, execute, write_plan
from .world import HOST, Change, Need, Records, Spec, World

__all__ = ["DEFAULT_STATE_DIR", "GuardError", "Outcome", "Run", "Stuck", "Undone", "converge", "is_persistent"]

#: The service that restores everything at boot; installed and enabled by the role ``prepare``.
SERVICE = "netops-underlay.service"


@dataclass
class Outcome:
    """What a run did, or in check mode what it would do."""

    changes: List[Change]
    warnings: List[str]
    items: Dict[str, Dict[str, Spec]]  # the declared ones, complete
    networks: Dict[str, Spec]  # all of the host
    world: World  # after the run
    number: Optional[int] = None  # of the transaction, where there was one
    plan_file: Optional[str] = None  # every change of it, on this host

    @property
    def changed(self) -> bool:
        return bool(self.changes)


def converge(declared: Declaration, run: Run) -> Outcome:
    """Make a declaration true, all of it or nothing.

    Raises Refusal (nothing was touched, or all of it is undone), Undone or Stuck, GuardError, and what the registry and the observation raise.
    """
    if os.geteuid() != 0:
        raise Refusal([Problem("", "links are changed by root only", "run the task with become: true"), *declared.problems])
    registry = Registry(run.state_dir)
    if run.check:
        pending = registry.pending()
        if pending:
            run.notes.append(f"transaction {pending.number} was interrupted: a real run undoes it first")
        return _rehearse(declared, run, registry)
    with at_work(registry, run):
        return _perform(declared, run, registry)


def _survey(declared: Declaration, run: Run, registry: Registry) -> Scene:
    records = registry.load()
    foretell.record(records, run.foretold)
    need = replace(needed(declared, records), load=not run.check)
    world = observe(need)
    peers, world.managed_at, world.directed = controller.find()
    world.controllers = (*peers, *(run.managed_from or ()))
    foretell.lay(world, run.foretold)

    def replan(held: Dict[str, Dict[str, str]]) -> Plan:
        """The plan on the same host, once the wire has told who holds what."""
        return planning.plan(declared, registry.load(), replace(world, held=held), registry.seed())

    scene = Scene(planning.plan(declared, records, world, registry.seed()), world, need, records, replan)
    if run.managed_from is None and not world.directed:
        _takes_no_path(scene.plan.changes)
    return scene


def _takes_no_path(changes: Sequence[Change]) -> None:
    """Raises Refusal for a change that nobody can tell to leave alone the path to whoever manages this host."""
    for change in changes:
        if change.kind in ("address", "route") and (change.after or change.before or {})["netns"] == HOST:
            what = f"nothing tells from where this host is managed, and the {change.kind} {change.key} may take the path there"
            raise Refusal([Problem("guard_timeout", what, "give guard_timeout: 60, or the addresses as managed_from")])


def _rehearse(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    scene = _survey(declared, run, registry)
    for change in scene.plan.changes:
        if change.kind == "link" and change.before and change.after:
            _foretell(scene.world, change.after)
    notes = run.notes + scene.plan.warnings + scene.plan.provisional()
    return Outcome(scene.plan.changes, notes, scene.plan.items, scene.plan.networks, scene.world)


def _foretell(world: World, after: Spec) -> None:
    """What people are told of a link is as it will be."""
    link = world.link(after["netns"], after["name"])
    for option in ("mtu", "mac"):
        if link is not None and after.get(option) is not None:
            setattr(link, option, after[option])


def _perform(declared: Declaration, run: Run, registry: Registry) -> Outcome:
    scene = _survey(declared, run, registry)
    number, world, plan_file = None, scene.world, None
    if scene.plan.changes:
        number, world = execute(scene, declared.owner, run, registry)
        plan_file = write_plan(run.state_dir, scene.plan.changes)
    plan = scene.plan  # as the wire let it be
    return Outcome(plan.changes, run.notes + plan.warnings, plan.items, plan.networks, world, number, plan_file)


def is_persistent() -> bool:
    """Whether a reboot keeps what is recorded: the service is enabled."""
    return bool(glob.glob(f"/etc/systemd/system/*.wants/{SERVICE}"))


def needed(declared: Declaration, records: Records) -> Need:
    """What an observation must cover for a declaration: its workloads, and those of the networks it touches."""
    endpoints = {key: record.spec for key, record in records.get("endpoint", {}).items()}
    networks = {item.key for item in declared.items if item.kind == "network"}
    removing = declared.purge or any(item.spec is None or _leaves(item, records) for item in declared.items)
    touched = [spec for spec in endpoints.values() if spec["network"] in networks]
    touched += [spec for spec in endpoints.values() if declared.purge and spec["owner"] == declared.owner]
    for item in declared.items:
        if item.kind == "endpoint":
            touched += [spec for spec in (item.spec, endpoints.get(item.key)) if spec]
    joined = {spec["network"] for spec in touched}
    readers = touched + [spec for spec in endpoints.values() if spec["network"] in joined]
    unnumbered = any(item.kind == "network" and item.spec and not item.spec["subnets"] for item in declared.items)
    routed = any(item.kind == "routes" or (item.spec or {}).get("host_access") for item in declared.items) or any(
        record.spec["host_access"] for record in records.get("network", {}).values()
    )
    routed = routed or any(record.spec["network"] in networks for record in records.get("routes", {}).values())
    # Namespaces of ours that stay although nobody needs them: what sits there may have left.
    left = set(records.get("netns", {})) - {spec["workload"] for spec in endpoints.values()} if removing else ()
    return Need(
        _each((*(spec["workload"] for spec in touched), *sorted(left))),
        everywhere=bool(networks) or removing or any(_settles(item, endpoints) for item in declared.items),
        routes=removing or unnumbered or routed,
        kinds=_each(_kinds(declared, records)),
        readers=_each(spec["workload"] for spec in readers if not spec["workload"].startswith("pid:")),
    )


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
                yield network["driver"]
                if not network["parent"]:
                    yield "dummy"
                elif "." in network["parent"]:
                    yield "vlan"


def _leaves(item: Item, records: Records) -> bool:
    """Whether a network or an endpoint moves, and so may leave something behind that nobody else needs."""
    option = {"network": "parent", "endpoint": "workload"}.get(item.kind)
    before = records.get(item.kind, {}).get(item.key)
    return bool(option and item.spec and before and before.spec[option] != item.spec[option])


def _settles(item: Item, endpoints: Mapping[str, Spec]) -> bool:
    """Whether an endpoint will take an address, which no stranger on its parent may have, in whatever namespace."""
    if item.kind != "endpoint" or item.spec is None:
        return False
    before = endpoints.get(item.key)
    if item.spec["workload"].startswith(("docker:", "podman:")):
        return True  # and the name of a container may be another's by now, while it lives on under a new one
    return before is None or any(before[option] != item.spec[option] for option in ("ipv4_address", "ipv6_address", "subnet"))


def _each(values: Iterable[str]) -> Tuple[str, ...]:
    """Each value once, in order."""
    return tuple(dict.fromkeys(values))
