# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``underlay``, the command on the host: for the boot, for a guard that fires, and for people at 3 a.m."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, TypeVar

from ..core import errors
from ..core.change import Change
from ..core.errors import RegistryBusy, RegistryError, UnderlayError
from ..core.text import printable
from ..core.version import VERSION
from ..plan import compare
from ..report import describe, tables
from ..report.summary import line
from ..run import findings, guard, guard_probes, restore, restore_plan, undo
from ..run.transact import DEFAULT_STATE_DIR, RunOptions
from ..store import holds
from ..store.registry import Registry
from . import watch

OK, FAILED, _USAGE, DRIFT, BUSY = range(5)

EPILOG = """\
exit status:
  0  done; for drift and plan: there is nothing to do
  1  refused or failed: one line says what, where, and the fix
  2  the command line is wrong
  3  the host has drifted (drift, plan), or not all of it could
     be restored (restore)
  4  another run holds the lock; the message names it
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run a command line. Returns the exit status."""
    options = parser().parse_args(arguments)
    if os.geteuid() != 0:
        return _fail("underlay: only root can use this command: sudo underlay ...", FAILED)
    try:
        act: Callable[[argparse.Namespace], int] = options.act
        return act(options)
    except RegistryBusy as error:
        return _fail(f"underlay: {error}", BUSY)
    except UnderlayError as error:
        return _fail("".join(f"underlay: {text}\n" for text in str(error).splitlines()).rstrip(), FAILED)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # so that the flush at the exit has nowhere to fail
        return OK


def _fail(text: str, status: int) -> int:
    sys.stderr.write(text + "\n")
    return status


def parser() -> argparse.ArgumentParser:
    """The command line; the manual page and the completion of shells are made from it."""
    parser = argparse.ArgumentParser(
        prog="underlay",
        description="Shows, checks and restores the underlay networks of this host.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    _add_common(parser, DEFAULT_STATE_DIR, 30.0, False)
    anywhere = argparse.ArgumentParser(add_help=False)  # the same options after the command
    _add_common(anywhere, *[argparse.SUPPRESS] * 3)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        described = text[0].upper() + text[1:] + "."
        added = commands.add_parser(name, help=text, description=described, parents=[anywhere])
        added.set_defaults(act=act)
        return added

    command("show", _show, "networks, endpoints, held objects, recent transactions").add_argument(
        "name", nargs="*", metavar="NAME", help="only objects with this name, and those of a network with this name"
    )
    command("drift", _drift, "what has drifted, one line for each cause")
    command("plan", _plan, "the changes that restore, or undo N, would make").add_argument(
        "number", nargs="?", type=int, metavar="N"
    )
    command("restore", _restore, "restore what is recorded, object by object").add_argument(
        "--boot", action="store_true", help="also set up the NICs underneath"
    )
    command("undo", _undo, "undo transaction N; without N, list what can be undone").add_argument(
        "number", nargs="?", type=int, metavar="N"
    )
    held = command(
        "hold", _hold, "exempt an object, an item (network:web) or everything from repair until the next boot"
    )
    held.add_argument("name", metavar="NAME", help="the object or item")
    held.add_argument("why", nargs="*", metavar="WHY", help="the reason")
    command("release", _release, "end a hold").add_argument("name", metavar="NAME", help="what is held")
    rehosted = command("rehost", _rehost, "settle whose registry this is, if it was made under another machine-id")
    rehosted.add_argument(
        "machine",
        choices=("clone", "same"),
        help="clone: another machine's, so start over with other MACs and addresses; same: this machine's, whose machine-id changed",
    )
    confirmed = command("confirm", _confirm, "confirm a guarded transaction; undo it at once if a probe fails")
    confirmed.add_argument("number", type=int, metavar="N")
    guard_probes.add_options(confirmed)
    expired = command("expire", _expire, "undo a guarded transaction unless it is confirmed")
    expired.add_argument("number", type=int, metavar="N")
    expired.add_argument("--after", type=float, default=0.0, metavar="S", help="seconds to wait first")
    watched = command("watch", _watch, "the service: restore, then repair losses")
    watched.add_argument("--no-heal", action="store_true", help="exit when everything is restored")
    watched.add_argument("--sandboxed", action="store_true", help="run as a service with its own mounts")
    asking = command("dhcp", _dhcp, "the service that asks DHCP servers for the leases of endpoints")
    asking.add_argument("--sandboxed", action="store_true", help="run as a service with its own mounts")
    completed = commands.add_parser("complete", parents=[anywhere])  # for shells, so no line of the help
    completed.add_argument("command", choices=CANDIDATES)
    completed.set_defaults(act=_complete)
    return parser


def _add_common(parser: argparse.ArgumentParser, state_dir: str, lock_timeout: Any, as_json: Any) -> None:
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=state_dir,
        help=f"directory of the registry (default: {DEFAULT_STATE_DIR})",
    )
    parser.add_argument(
        "--lock-timeout",
        metavar="S",
        type=float,
        default=lock_timeout,
        help="seconds to wait for another run (default: 30)",
    )
    parser.add_argument("--json", action="store_true", default=as_json, help="print JSON")


def _registry(options: argparse.Namespace) -> Registry:
    return Registry(options.state_dir)


def _run(options: argparse.Namespace) -> RunOptions:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    return RunOptions(options.state_dir, lock_timeout=options.lock_timeout, who=f"{user}, underlay")


def _tell(options: argparse.Namespace, value: describe.Described, lines: Sequence[str]) -> None:
    if options.json:
        sys.stdout.write(json.dumps(value) + "\n")
    else:
        sys.stdout.write(printable("\n".join([*lines, ""])))


# --- looking -------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    found = describe.host(options.state_dir, describe.SUBSETS, options.name)
    _known(options.name, found)
    found["held"] = holds.load(options.state_dir)
    registry = _registry(options)
    armed = registry.armed()
    found["unconfirmed"] = armed.number if armed else None
    changes, left, _rest = restore.drift(registry)
    if options.name:
        changes, left = _of(changes, found), _of(left, found)
    changes = compare.by_object(changes)
    found["drift"] = [describe.drifted(change) for change in changes]
    found["left"] = [it._asdict() for it in left]
    lines = tables.host(found)
    differing = len(changes) + len(left)
    if differing and options.name:
        lines += findings.lines(changes, left)
    elif differing:
        lines.append(f"{differing} object{'s have' if differing > 1 else ' has'} drifted: see underlay drift")
    _tell(options, found, lines)
    return OK


def _known(names: Sequence[str], found: describe.Described) -> None:
    """Raises RegistryError for a name that nothing has."""
    there = {row.get(option) for kind in _NAMED for row in found[kind] for option in ("name", "network")}
    there.update(f"{row['network']}/{row['name']}" for row in found["endpoints"])
    unknown = [name for name in names if name not in there]
    if unknown:
        raise RegistryError(
            f"this host has no network, endpoint, link or set of routes {', '.join(unknown)}; see underlay show"
        )


_NAMED = ("networks", "endpoints", "links", "routes")
_Object = TypeVar("_Object", Change, restore_plan.NotRestored)


def _of(objects: Sequence[_Object], found: describe.Described) -> List[_Object]:
    """The objects that belong to what is shown, and the parents of its networks."""
    items = {f"network:{row['name']}" for row in found["networks"]} | {f"vlan:{row['name']}" for row in found["links"]}
    items |= {f"endpoint:{row['network']}/{row['name']}" for row in found["endpoints"]}
    items |= {f"routes:{row['name']}" for row in found["routes"]}
    parents = {("link", row["parent"]) for row in found["networks"]}
    return [it for it in objects if it.of in items or (it.kind, it.key) in parents]


def _drift(options: argparse.Namespace) -> int:
    _registry(options).check_machine()
    changes, left, _rest = restore.drift(_registry(options))
    changes = compare.by_object(changes)
    lines = findings.lines(changes, left)
    value = {"drift": [change._asdict() for change in changes], "left": [it._asdict() for it in left]}
    _tell(options, value, lines or ["no drift"])
    return DRIFT if lines else OK


def _plan(options: argparse.Namespace) -> int:
    _registry(options).check_machine()
    if options.number is None:
        changes, left, _rest = restore.drift(_registry(options))
    else:
        changes, left = undo.survey(options.number, _registry(options)).plan.changes, []
    _changes(options, changes, left)
    return DRIFT if changes or left else OK


def _changes(
    options: argparse.Namespace,
    changes: Sequence[Change],
    left: Sequence[restore_plan.NotRestored],
    notes: Sequence[str] = (),
) -> None:
    lines = [line(change) for change in changes] + [f"left: {text}" for text in findings.waiting(left)] + list(notes)
    value = {
        "changes": [change._asdict() for change in changes],
        "left": [it._asdict() for it in left],
        "notes": list(notes),
    }
    _tell(options, value, lines or ["nothing to do"])


# --- changing ------------------------------------------------------------------------------------


def _restore(options: argparse.Namespace) -> int:
    found = restore.restore(_run(options), restore.RestoreScope(boot=options.boot))
    _changes(options, found.done, found.left, found.notes)
    return DRIFT if found.left else OK


def _undo(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    if options.number is None:
        return _undoable(options, registry)
    with guard.at_work(registry, run):
        number, changes = undo.undo(options.number, registry, run)
    _changes(options, changes, [], [*run.notes, f"transaction {options.number} is undone, by transaction {number}"])
    return OK


def _undoable(options: argparse.Namespace, registry: Registry) -> int:
    found = undo.candidates(registry)
    value = {"transactions": [{**describe.transaction(it), "why_not": why} for it, why in found]}
    rows = [[str(it.number), it.time, it.who, it.owner, why or "yes"] for it, why in found]
    lines = tables.table(["TRANSACTION", "TIME", "WHO", "OWNER", "CAN BE UNDONE"], rows)
    _tell(options, value, lines or ["no transactions are kept on this host"])
    return OK


def _hold(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    known = {options.name} & _holdable(registry)
    if not known:
        raise RegistryError(
            f"{options.name} is not an object of ours; see underlay show and underlay drift, or hold everything"
        )
    with registry.lock(run.lock_timeout, run.who):
        holds.hold(
            options.state_dir, options.name, ", ".join(filter(None, [" ".join(options.why), run.who.partition(",")[0]]))
        )
    _tell(
        options,
        {"held": holds.load(options.state_dir)},
        [f"{options.name} is held until it is released or the host reboots"],
    )
    return OK


def _holdable(registry: Registry) -> set[str]:
    found = {holds.EVERYTHING}
    for kind, records in registry.load().items():
        for key, record in records.items():
            found.update((key, f"{kind} {key}", record.of))
    return found


def _release(options: argparse.Namespace) -> int:
    with _registry(options).lock(options.lock_timeout, _run(options).who):
        holds.release(options.state_dir, options.name)
    _tell(options, {"held": holds.load(options.state_dir)}, [f"{options.name} is released"])
    return OK


def _rehost(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    with registry.lock(run.lock_timeout, run.who):
        if options.machine == "same":
            registry.rehost()
            text = f"the registry in {registry.directory} is this machine's"
        else:
            restore.check_clone(registry)
            text = f"this machine has no networks now; those of the other one are in {registry.set_aside()}"
    _tell(options, {"rehosted": options.machine}, [text])
    return OK


# --- completion ----------------------------------------------------------------------------------


def _names(registry: Registry) -> Iterable[str]:
    records = registry.load()
    return [key for kind in ("network", "endpoint", "vlan", "routes") for key in records.get(kind, {})]


def _undoable_numbers(registry: Registry) -> Iterable[str]:
    return [str(it.number) for it, why in undo.candidates(registry) if not why]


def _unconfirmed_number(registry: Registry) -> Iterable[str]:
    armed = registry.armed()
    return [str(armed.number)] if armed else []


#: What the first argument of a command may be, as the registry alone tells it: a shell asks for it at every press of a key.
CANDIDATES: Dict[str, Callable[[Registry], Iterable[str]]] = {
    "show": _names,
    "plan": _undoable_numbers,
    "undo": _undoable_numbers,
    "hold": lambda registry: sorted(_holdable(registry)),
    "release": lambda registry: holds.load(registry.directory),
    "confirm": _unconfirmed_number,
    "expire": _unconfirmed_number,
}
#: Words that a shell takes for nothing else.
_PLAIN = re.compile(r"[A-Za-z0-9_./:-]+\Z")


def _complete(options: argparse.Namespace) -> int:
    found = CANDIDATES[options.command](_registry(options))
    _tell(options, {"candidates": list(found)}, list(filter(_PLAIN.match, found)))
    return OK


# --- the guard and the service -------------------------------------------------------------------


def _confirm(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    _to_be_confirmed(options.number, registry)
    try:
        guard_probes.carry_out(options, registry)
    except errors.ProbeFailed as error:
        if not guard.expire(options.number, registry, run):
            _to_be_confirmed(options.number, registry)
        guard.disarm(options.number, registry.directory)
        raise errors.ProbeFailed(f"{error}; transaction {options.number} is undone") from None
    if not guard.confirm(options.number, registry, run):
        _to_be_confirmed(options.number, registry)
    _tell(options, {"confirmed": options.number}, [f"transaction {options.number} is confirmed"])
    return OK


def _to_be_confirmed(number: int, registry: Registry) -> None:
    """Raises RegistryError where a transaction does not wait for it."""
    state = registry.transaction(number).state
    if state == "undone":
        raise RegistryError(
            f"transaction {number} was not confirmed in time and is undone; if the host was reached all the while, give a"
            " longer guard_timeout"
        )
    if state != "unconfirmed":
        raise RegistryError(f"transaction {number} is {state}: there is nothing to confirm")


def _expire(options: argparse.Namespace) -> int:
    if options.after:
        guard.sleep(options.after)
    run = _run(options)
    run.lock_timeout = max(run.lock_timeout, 600.0)  # the run that has the lock ends some time
    fired = guard.expire(options.number, _registry(options), run)
    lines: List[str] = [*run.notes] if fired else [f"transaction {options.number} is already settled"]
    _tell(options, {"undone": fired}, lines)
    return OK


def _dhcp(options: argparse.Namespace) -> int:
    from ..dhcp import daemon  # with asyncio, which no other command needs

    return daemon.main(options.state_dir, options.sandboxed)


def _watch(options: argparse.Namespace) -> int:
    return watch.Watcher(options.state_dir, not options.no_heal, options.sandboxed).run()
