# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Shared by all modules: passes Ansible's parameters to the engine, and turns its outcome into a result."""

from __future__ import annotations

import gc
import json
import os
import shutil
from typing import Any, Callable, Dict, List, Mapping, NoReturn, cast

from . import _argspec, _result
from ._base import OF_THE_ACTION, BaseModule
from ._engine.core.endpoint_specs import is_tap
from ._engine.core.errors import InputError, Problem, UnderlayError
from ._engine.declare import model
from ._engine.declare.declaration import Declaration
from ._engine.plan import simulate
from ._engine.report import summary
from ._engine.run import guard_probes
from ._engine.run.converge import Outcome, converge, is_persistent, may_make_taps
from ._engine.run.guard import HostGuard
from ._engine.run.memory import Answer, Memory
from ._engine.run.transact import DEFAULT_STATE_DIR, RunOptions
from ._engine.store import installed

#: Options of vlan_map that its action plugin turns into rows.
CONTROLLER = ("src", "inventory_map")

Declare = Callable[[Mapping[str, Any]], Declaration]


class Module(BaseModule):
    """A module that reports all errors of its input together, each with its location and a fix."""

    _declare: Declare
    _started = False

    def __init__(self, options: _argspec.Options, declare: Declare, **kwargs: Any) -> None:
        gc.disable()  # the process ends soon, and with 4,094 VLANs a collection takes long
        self._declare = declare
        super().__init__(argument_spec=options, supports_check_mode=True, **kwargs)
        self._started = True

    def _load_params(self) -> None:
        super()._load_params()
        earlier, who = (self.params.pop(name, None) for name in OF_THE_ACTION)
        self._earlier, self._who = str(earlier or ""), str(who or _who())
        _expand_short_forms(self.params)
        for name, option in self.argument_spec.items():
            for called in (name, *option.get("aliases", ())):
                if "options" in option and self.params.get(called) is not None:
                    self.params[called] = _readable(self.params[called])

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """Fail; before the run with all problems of the options, where Ansible stops at the first."""
        result = {"msg": msg, **kwargs}
        if not self._started:
            # Ansible stops at the first bad option, does not say in which row, and drops rows that it cannot read.
            lost = {
                key: value
                for key, value in json.loads(self._given).items()
                if _is_lost(value, self.params.get(key), self.argument_spec.get(key, {}).get("elements") == "dict")
            }
            problems = self._with_the_host(self._declare({**self.params, **lost}))
            if problems:
                result.update(_result.refusal(problems))
        super().fail_json(**self._arguments(), **result)

    def _with_the_host(self, declared: Declaration) -> List[Problem]:
        """What is wrong with the input, and with what of it can be read on this host."""
        if not declared.problems:
            return []
        state_dir = self.params.get("state_dir") or DEFAULT_STATE_DIR
        try:
            converge(declared, RunOptions(str(state_dir), True, 0, ""))
        except InputError as error:
            return error.problems
        except UnderlayError:
            pass  # it will be said once the input is right
        return declared.problems

    def _arguments(self) -> Dict[str, Any]:
        """Ansible puts a task's arguments into its result, those of a whole host too."""
        return {"invocation": _result.NO_ARGUMENTS} if len(self._given) > _result.BYTES // 3 else {}

    def converge(self, describe: Callable[[Outcome], Dict[str, Any]]) -> NoReturn:
        """Converge the host on the declared items, and exit with the result; ``describe`` adds what users of the object need."""
        run = RunOptions(self.params["state_dir"], self.check_mode, self.params["lock_timeout"], self._who)
        run.dhcp_timeout = self.params["dhcp_timeout"]
        timeout = self.params["guard_timeout"]
        if timeout > 0 and not self.check_mode:
            run.guard = HostGuard(timeout, self.params["state_dir"])
        if self.check_mode and self._earlier:
            run.earlier = simulate.unpack(self._earlier)
        managed_from = self.params["managed_from"]
        problems = guard_probes.problems(
            timeout, cast(guard_probes.GuardProbe, self.params["guard_probe"] or {}), managed_from or ()
        )
        # With a guard the address of the controller need not be known.
        run.managed_from = () if problems or (timeout and managed_from is None) else managed_from
        problems += self.common_problems()
        try:
            answer = self._answer(run, problems, describe)
        except InputError as error:
            self.fail_json(**_result.refusal(error.problems))
        except UnderlayError as error:
            self.fail_json(str(error))
        for text in _result.warnings(answer.warnings):
            self.warn(text)
        self.exit_json(**answer.result)

    def _answer(
        self, run: RunOptions, problems: List[Problem], describe: Callable[[Outcome], Dict[str, Any]]
    ) -> Answer:
        """What is remembered of this very task on this very host as it is now; else what the road ends in."""
        memory = None if run.check or problems else Memory(run, self._given, *self._asked())
        remembered = memory.recall() if memory else None
        if remembered is not None:
            return remembered
        declared = self._declare({**self.params, **_texts_of_numbers(self._given, self.argument_spec)})
        declared.problems += problems
        outcome = converge(declared, run)
        answer = Answer(self._result(outcome, run, describe(outcome)), outcome.warnings)
        if memory:
            memory.keep(outcome, answer)
        return answer

    def _asked(self) -> List[object]:
        """All that a result depends on, beside the code, the arguments, the registry and what is observed."""
        spec = json.dumps(self.argument_spec, sort_keys=True, default=str)
        state_dir = self.params["state_dir"]
        engine = _only_engine() if '"container"' in self._given else ""
        return [
            engine,
            spec,
            self.ansible_version,
            self._diff,
            is_persistent(state_dir),
            bool(self._arguments()),
            self._earlier,
        ]

    def _result(self, outcome: Outcome, run: RunOptions, more: Dict[str, Any]) -> Dict[str, Any]:
        state_dir = self.params["state_dir"]
        persistent = is_persistent(state_dir)
        if outcome.changed and not persistent and not self.check_mode:
            why = "run the role netops.underlay.prepare, whose service restores it"
            if is_persistent(DEFAULT_STATE_DIR):
                own = f"underlay --state-dir {state_dir} restore --boot"
                why = f"the service restores only {DEFAULT_STATE_DIR}; leave out state_dir, or run at boot {own}"
            outcome.warnings.append(f"will not survive a reboot: {why}")
        if outcome.changed and persistent and not self.check_mode and _has_tap(outcome) and not may_make_taps():
            outcome.warnings.append(
                "the device nodes of taps will not survive a reboot: run the role netops.underlay.prepare again, whose service "
                "keeps them once there is a tap"
            )
        result = {
            "changed": outcome.changed,
            "plan": summary.summary(outcome.changes, outcome.plan_file),
            "persistent": persistent,
            "transaction": outcome.number,
            **more,
        }
        if outcome.undeclared:
            result["undeclared"] = outcome.undeclared
        if run.guard and outcome.number:
            # For the action plugin, which confirms it over a new connection.
            result["_guard"] = {"command": _confirm(run, outcome.number, self.params), "timeout": run.guard.timeout}
        ahead = [*run.earlier, *outcome.changes] if self.check_mode else []
        earlier = simulate.pack(ahead) if ahead else ""
        if earlier != self._earlier:
            if len(earlier) <= _result.BYTES // 2:
                result["ansible_facts"] = {simulate.FACT: earlier}
            else:
                outcome.warnings.append("too many changes to carry over; later tasks use the host's current state")
        if self._diff:
            result["diff"] = summary.diff(outcome.changes)
        result.update(self._arguments())
        return _result.fitting(result, more)


def _readable(value: Any) -> Any:
    """Ansible raises a traceback for a number in the place of a mapping; for a text it has a message."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value if isinstance(value, (str, dict)) else str(value)


def _is_lost(given: Any, read: Any, rows: bool = False) -> bool:
    """Whether an option's value was dropped, all of it or rows of it, or a text was split into rows."""
    split = rows and isinstance(given, str)
    return bool(given) and (split or not read or (isinstance(given, list) and len(given) != len(read)))


def _texts_of_numbers(given: str, options: _argspec.Options) -> Dict[str, str]:
    """Whole numbers as they were written: Ansible takes ``1_0`` and ``010`` for 10, which the model refuses."""
    params = json.loads(given)
    return {
        name: params[name]
        for name, option in options.items()
        if option["type"] == "int" and name not in _NOT_OF_THE_ITEM and isinstance(params.get(name), str)
    }


def _expand_short_forms(params: Dict[str, Any]) -> None:
    """``subnets: [10.0.0.0/24]`` and ``container: web``, of a task and of the rows of a map, in the long form.

    A container without its engine is that of the only engine on this host; where there are two, the model refuses it.
    """
    rows = [params]
    for section in ("networks", "endpoints"):
        listed = params.get(section)
        rows += [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    for row in rows:
        for name in ("subnets", "ipam_config"):
            if isinstance(row.get(name), list):
                row[name] = [{"subnet": part} if isinstance(part, str) else part for part in row[name]]
        text = row.get("container")
        if isinstance(text, str) and text:
            engine, colon, name = text.partition(":")
            if not colon:
                engine, name = _only_engine(), text
            if engine:
                row["container"] = {"engine": engine, "name": name}


def _has_tap(outcome: Outcome) -> bool:
    return any(map(is_tap, outcome.items["endpoint"].values()))


def _only_engine() -> str:
    """The container engine of this host; empty where there is none, or more than one."""
    found = {engine for engine in ("docker", "podman") if shutil.which(engine)}
    if os.path.exists("/run/docker.sock"):
        found.add("docker")
    return found.pop() if len(found) == 1 else ""


def _confirm(run: RunOptions, number: int, params: Mapping[str, Any]) -> List[str]:
    words = [installed.COMMAND, f"--state-dir={run.state_dir}", "confirm", str(number)]
    return [*words, *guard_probes.options(cast(guard_probes.GuardProbe, params["guard_probe"] or {}))]


def _who() -> str:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
    return f"{user}, Ansible"


#: Options of how a task runs, not of the item.
_NOT_OF_THE_ITEM = frozenset(("state", *_argspec.common(), *_argspec.change(), *CONTROLLER))


def given(params: Mapping[str, Any]) -> Dict[str, Any]:
    """The options of the item alone, those that were given."""
    return {
        key: value
        for key, value in params.items()
        if key not in _NOT_OF_THE_ITEM and not key.startswith("_") and value is not None
    }


def map_of(params: Mapping[str, Any]) -> Dict[str, Any]:
    """A whole map, as :func:`model.declare_map` takes it."""
    return {**given(params), "adopt": params["adopt"]}


def run_item(kind: str, options: _argspec.Options, tell: Callable[[str, Any, Outcome], Dict[str, Any]]) -> NoReturn:
    """Run a module that manages one item; ``tell`` adds what its user needs next to the result."""

    def describe(outcome: Outcome) -> Dict[str, Any]:
        items = cast(Dict[str, Dict[str, Any]], outcome.items)
        for key, spec in items[kind].items():
            return tell(key, spec, outcome)
        return {}

    Module(
        {**_argspec.common(), **_argspec.change(), **options},
        lambda params: model.declare(kind, given(params), params["state"], params["adopt"]),
    ).converge(describe)
