# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``underlay``, the command on the host: for the boot, for a guard that fires, and for people at 3 a.m."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Sequence

from . import describe, guard, holds, probes, restore, tables, undo, watch
from .apply import Refused
from .fields import Refusal
from .namespaces import NamespaceError
from .observe import KernelError
from .registry import Busy, Registry, RegistryError
from .report import line
from .transact import DEFAULT_STATE_DIR, GuardError, Run, Stuck, Undone
from .version import VERSION
from .world import Change

OK, FAILED, _USAGE, DRIFT, BUSY = range(5)

EPILOG = """\
exit status:
  0  done; for drift and plan: there is nothing to do
  1  refused or failed: one line says what, where, and the cure
  2  the command line is wrong
  3  the host is not as it is recorded (drift, plan), or not all of it could be
     brought back (restore)
  4  somebody else is at work on this host, who is named
"""

_EXPECTED = (Refusal, Undone, Stuck, Refused, NamespaceError, KernelError, RegistryError, probes.Failed, GuardError)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        return _fail("underlay: links and their registry are for root only: sudo underlay ...", FAILED)
    try:
        act: Callable[[argparse.Namespace], int] = options.act
        return act(options)
    except Busy as error:
        return _fail(f"underlay: {error}", BUSY)
    except _EXPECTED as error:
        return _fail("".join(f"underlay: {text}\n" for text in str(error).splitlines()).rstrip(), FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at the exit has nowhere to fail
        return OK


def _fail(text: str, status: int) -> int:
    sys.stderr.write(text + "\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="underlay",
        description="The underlay networks of this host: what is recorded, what is otherwise,\nand the way back.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--state-dir", metavar="DIR", default=DEFAULT_STATE_DIR, help="of the registry (default: %(default)s)")
    parser.add_argument("--lock-timeout", metavar="S", type=float, default=30.0, help="seconds to wait for another run (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="for programs")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, act: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(act=act)
        return added

    command("show", _show, "networks, endpoints, what is held, the last transactions").add_argument(
        "name", nargs="*", help="only what is called, or belongs to the network, so"
    )
    command("drift", _drift, "what is otherwise than it was made")
    command("plan", _plan, "the changes that restore, or undo N, would make").add_argument("number", nargs="?", type=int, metavar="N")
    command("restore", _restore, "bring back what is recorded, object by object").add_argument(
        "--boot", action="store_true", help="and set up the NICs that lie under it"
    )
    command("undo", _undo, "turn a transaction round").add_argument("number", type=int, metavar="N")
    held = command("hold", _hold, "keep the healing off an object, an item (network:web) or everything, until the next boot")
    held.add_argument("name")
    held.add_argument("why", nargs="*", help="for the next person")
    command("release", _release, "let the healing see to it again").add_argument("name")
    confirmed = command("confirm", _confirm, "keep a guarded transaction; undo it at once where a probe fails")
    confirmed.add_argument("number", type=int, metavar="N")
    probes.add_options(confirmed)
    expired = command("expire", _expire, "undo a guarded transaction unless it was confirmed")
    expired.add_argument("number", type=int, metavar="N")
    expired.add_argument("--after", type=float, default=0.0, metavar="S", help="seconds to wait before")
    watched = command("watch", _watch, "the service: restore, then heal what gets lost")
    watched.add_argument("--no-heal", action="store_true", help="end when everything is restored once")
    watched.add_argument("--sandboxed", action="store_true", help="as a service with mounts of its own")
    return parser


def _registry(options: argparse.Namespace) -> Registry:
    return Registry(options.state_dir)


def _run(options: argparse.Namespace) -> Run:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    return Run(options.state_dir, lock_timeout=options.lock_timeout, who=f"{user}, underlay")


def _tell(options: argparse.Namespace, value: Dict[str, Any], lines: Sequence[str]) -> None:
    if options.json:
        sys.stdout.write(json.dumps(value) + "\n")
    else:
        sys.stdout.write("\n".join([*lines, ""]))


# --- looking -------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    found = describe.host(options.state_dir, describe.SUBSETS, options.name)
    found["held"] = holds.load(options.state_dir)
    armed = _registry(options).armed()
    found["unconfirmed"] = armed.number if armed else None
    _tell(options, found, tables.host(found))
    return OK


def _drift(options: argparse.Namespace) -> int:
    changes, left, _rest = restore.drift(_registry(options))
    first = {(change.kind, change.key): change for change in reversed(changes)}  # it is gone; that it comes up last is no news
    changes = [change for change in changes if first[change.kind, change.key] is change]
    lines = [restore.words(change) for change in changes] + [f"{it.kind} {it.key}: {it.why}" for it in left]
    value = {"drift": [change._asdict() for change in changes], "left": [it._asdict() for it in left]}
    _tell(options, value, lines or ["nothing is otherwise than it was made"])
    return DRIFT if lines else OK


def _plan(options: argparse.Namespace) -> int:
    if options.number is None:
        changes, left, _rest = restore.drift(_registry(options))
    else:
        changes, left = undo.survey(options.number, _registry(options)).plan.changes, []
    _changes(options, changes, left)
    return DRIFT if changes or left else OK


def _changes(options: argparse.Namespace, changes: Sequence[Change], left: Sequence[restore.Left], notes: Sequence[str] = ()) -> None:
    lines = [line(change) for change in changes] + [f"left: {it.kind} {it.key}: {it.why}" for it in left] + list(notes)
    value = {"changes": [change._asdict() for change in changes], "left": [it._asdict() for it in left], "notes": list(notes)}
    _tell(options, value, lines or ["nothing to do"])


# --- changing ------------------------------------------------------------------------------------


def _restore(options: argparse.Namespace) -> int:
    found = restore.restore(_run(options), restore.Aims(boot=options.boot))
    _changes(options, found.done, found.left, found.notes)
    return DRIFT if found.left else OK


def _undo(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    with guard.at_work(registry, run):
        number, changes = undo.undo(options.number, registry, run)
    _changes(options, changes, [], [*run.notes, f"transaction {options.number} is undone, by transaction {number}"])
    return OK


def _hold(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    known = {options.name} & _holdable(registry)
    if not known:
        raise RegistryError(f"{options.name} is nothing of ours; see underlay show and underlay drift, or hold everything")
    with registry.lock(run.lock_timeout, run.who):
        holds.hold(options.state_dir, options.name, ", ".join(filter(None, [" ".join(options.why), run.who.partition(",")[0]])))
    _tell(options, {"held": holds.load(options.state_dir)}, [f"{options.name} is held until it is released, or the host boots"])
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


# --- the guard and the service -------------------------------------------------------------------


def _confirm(options: argparse.Namespace) -> int:
    registry, run = _registry(options), _run(options)
    try:
        probes.carry_out(options, registry)
    except probes.Failed as error:
        guard.expire(options.number, registry, run)
        guard.disarm(options.number)
        raise probes.Failed(f"{error}; transaction {options.number} is undone") from None
    if not guard.confirm(options.number, registry, run):
        raise RegistryError(f"transaction {options.number} is {registry.transaction(options.number).state}: there is nothing to confirm")
    _tell(options, {"confirmed": options.number}, [f"transaction {options.number} is confirmed"])
    return OK


def _expire(options: argparse.Namespace) -> int:
    if options.after:
        guard.sleep(options.after)
    run = _run(options)
    run.lock_timeout = max(run.lock_timeout, 600.0)  # whoever has the lock now ends some time
    fired = guard.expire(options.number, _registry(options), run)
    lines: List[str] = [*run.notes] if fired else [f"transaction {options.number} is settled already"]
    _tell(options, {"undone": fired}, lines)
    return OK


def _watch(options: argparse.Namespace) -> int:
    return watch.Watcher(options.state_dir, not options.no_heal, options.sandboxed).run()
