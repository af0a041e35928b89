# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What the modules have in common: from Ansible's parameters to the engine, and from its outcome to a result."""

from __future__ import annotations

import gc
import json
import os
from typing import Any, Callable, Dict, List, Mapping, NoReturn

from ansible.module_utils.basic import AnsibleModule

from . import _argspec, _result
from ._engine import foretell, installed, model, probes, report
from ._engine.apply import Refused
from ._engine.converge import GuardError, Outcome, Run, Stuck, Undone, converge, is_persistent
from ._engine.fields import Refusal
from ._engine.guard import HostGuard
from ._engine.model import Declaration
from ._engine.namespaces import NamespaceError
from ._engine.observe import KernelError
from ._engine.registry import RegistryError
from ._engine.world import Spec

#: What a person can do something about; anything else is a defect and may show its traceback.
EXPECTED = (Undone, Stuck, GuardError, Refused, NamespaceError, KernelError, RegistryError)

Declare = Callable[[Mapping[str, Any]], Declaration]


class Module(AnsibleModule):
    """A module whose bad input is reported whole: by the model, every row, every option, at once."""

    _declare: Declare
    _started = False

    def __init__(self, options: _argspec.Options, declare: Declare, **kwargs: Any) -> None:
        gc.disable()  # a process that ends soon gains nothing from looking for garbage, and with 4,094 VLANs it looks long
        self._declare = declare
        super().__init__(argument_spec=options, supports_check_mode=True, **kwargs)
        self._started = True
        self._foretold = self.params.pop("_foretold") or ""
        self._who = self.params.pop("_who") or _who()

    def _load_params(self) -> None:
        super()._load_params()
        self._given = json.dumps(self.params, default=str)
        for name, option in self.argument_spec.items():
            for called in (name, *option.get("aliases", ())):
                if "options" in option and self.params.get(called) is not None:
                    self.params[called] = _readable(self.params[called])

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        told = {"msg": msg, **kwargs}
        if not self._started:
            # Ansible stops at the first bad option, does not say in which row, and drops rows that it cannot read.
            lost = {key: value for key, value in json.loads(self._given).items() if _is_lost(value, self.params.get(key))}
            problems = self._declare({**self.params, **lost}).problems
            if problems:
                told.update(_result.refusal(problems))
        super().fail_json(**self._arguments(), **told)

    def _arguments(self) -> Dict[str, Any]:
        """Ansible puts a task's arguments into its result, those of a whole host too."""
        return {"invocation": _result.NO_ARGUMENTS} if len(self._given) > _result.BYTES // 3 else {}

    def converge(self, describe: Callable[[Outcome], Dict[str, Any]]) -> NoReturn:
        run = Run(self.params["state_dir"], self.check_mode, self.params["lock_timeout"], self._who)
        timeout = self.params["guard_timeout"]
        if timeout > 0 and not self.check_mode:
            run.guard = HostGuard(timeout, self.params["state_dir"])
        if self.check_mode and self._foretold:
            run.foretold = foretell.unpack(self._foretold)
        declared = self._declare(self.params)
        managed_from = self.params["managed_from"]
        problems = probes.problems(timeout, self.params["guard_probe"] or {}, managed_from or ())
        declared.problems += problems
        # Whoever is guarded need not be known.
        run.managed_from = () if problems or (timeout and managed_from is None) else managed_from
        try:
            outcome = converge(declared, run)
        except Refusal as error:
            self.fail_json(**_result.refusal(error.problems))
        except EXPECTED as error:
            self.fail_json(str(error))
        self.exit_json(**self._result(outcome, run, describe(outcome)))

    def _result(self, outcome: Outcome, run: Run, more: Dict[str, Any]) -> Dict[str, Any]:
        for text in outcome.warnings:
            self.warn(text)
        persistent = is_persistent()
        if outcome.changed and not persistent and not self.check_mode:
            self.warn("a reboot forgets this: the role netops.underlay.prepare installs the service that restores it")
        result = {
            "changed": outcome.changed,
            "plan": report.summary(outcome.changes, outcome.plan_file),
            "persistent": persistent,
            "transaction": outcome.number,
            **more,
        }
        if run.guard and outcome.number:
            # For the action plugin, which confirms it over a new connection.
            result["_guard"] = {"command": _confirm(run, outcome.number, self.params), "timeout": run.guard.timeout}
        ahead = [*run.foretold, *outcome.changes] if self.check_mode else []
        foretold = foretell.pack(ahead) if ahead else ""
        if foretold != self._foretold:
            if len(foretold) <= _result.BYTES // 2:
                result["ansible_facts"] = {foretell.FACT: foretold}
            else:
                self.warn("so much would change that later tasks of this check run plan on the host as it is now")
        if self._diff:
            result["diff"] = report.diff(outcome.changes)
        result.update(self._arguments())
        return _result.fitting(result, more)


def _readable(value: Any) -> Any:
    """Where it wants a mapping, Ansible ends in a traceback over a number; a text it refuses in words."""
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value if isinstance(value, (str, dict)) else str(value)


def _is_lost(given: Any, read: Any) -> bool:
    """Whether an option's value was dropped, all of it or rows of it."""
    return bool(given) and (not read or (isinstance(given, list) and len(given) != len(read)))


def _confirm(run: Run, number: int, params: Mapping[str, Any]) -> List[str]:
    words = [installed.COMMAND, f"--state-dir={run.state_dir}", "confirm", str(number)]
    return [*words, *probes.options(params["guard_probe"] or {})]


def _who() -> str:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
    return f"{user}, Ansible"


#: Options that say how a task is carried out, not what the item is.
_NOT_OF_THE_ITEM = frozenset(("state", *_argspec.common(), *_argspec.change()))


def given(params: Mapping[str, Any]) -> Dict[str, Any]:
    """The options of the item alone, those that were given."""
    return {key: value for key, value in params.items() if key not in _NOT_OF_THE_ITEM and not key.startswith("_") and value is not None}


def map_of(params: Mapping[str, Any]) -> Dict[str, Any]:
    """A whole map, as :func:`model.declare_map` takes it."""
    return {**given(params), "adopt": params["adopt"]}


def run_item(kind: str, options: _argspec.Options, tell: Callable[[str, Spec, Outcome], Dict[str, Any]]) -> NoReturn:
    """The whole of a module that is about one item; ``tell`` says of it what its user needs next."""

    def describe(outcome: Outcome) -> Dict[str, Any]:
        for key, spec in outcome.items[kind].items():
            return tell(key, spec, outcome)
        return {}

    Module(
        {**_argspec.common(), **_argspec.change(), **options},
        lambda params: model.declare(kind, given(params), params["state"], params["adopt"]),
    ).converge(describe)
