# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What happens on the controller in the same task as a module that changes the wire."""

from __future__ import annotations

import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import simulate

from . import _role

#: After a guard's time the host is as it was, and answers: so many seconds are left to it.
LATE = 30.0
#: Lists of more rows than this are not shown to callbacks.
MANY = 256


def _short(value: t.Any) -> t.Any:
    """An argument for callbacks. Ansible sends those of a task back with its result, which takes longer than 4,094 VLANs."""
    return f"{len(value)} rows, see the task" if isinstance(value, list) and len(value) > MANY else value


class WireAction(ActionBase):
    """Runs the module of the same name, passes it what earlier tasks of a check run have planned, and confirms what it guards.

    The confirmation is part of the task, so that its time does not depend on forks, strategy or serial.
    """

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        result.pop("invocation", None)
        facts = (task_vars or {}).get("ansible_facts") or {}
        arguments = dict(self._task.args)
        if facts.get(simulate.FACT):
            arguments["_earlier"] = facts[simulate.FACT]
        job = _job(task_vars or {})
        if job:
            arguments["_who"] = job
        if self._connection.transport == "local":
            arguments.setdefault("managed_from", [])  # no network between them: only other connections need one
        if self._task.async_val and arguments.get("guard_timeout") not in (None, 0, "0"):
            result.update(
                failed=True, msg="guard_timeout: a task with async cannot be confirmed; leave one of them out"
            )
            return result
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
        guard = result.pop("_guard", None)
        if guard is not None:
            self._confirm(guard, result)
        _role.translate(result, _role.of(self._task))
        if not self._task.until:  # which would run this again
            self._task.args = {key: _short(value) for key, value in self._task.args.items()}
        return result

    def _confirm(self, guard: dict[str, t.Any], result: dict[str, t.Any]) -> None:
        """Over a connection that did not exist before the change; the host undoes it otherwise."""
        number, command = result["transaction"], shlex.join(guard["command"])
        until = time.monotonic() + guard["timeout"] + LATE
        while True:
            try:
                if type(self._connection).reset is not ConnectionBase.reset:
                    self._connection.reset()
                said = self._low_level_execute_command(command)
                break
            except (AnsibleConnectionFailure, AnsibleError) as error:
                if time.monotonic() > until:
                    what = f"the host does not answer a new connection after transaction {number} ({error})"
                    result.update(
                        failed=True,
                        changed=False,
                        msg=f"{what}; the host reverts it within {guard['timeout']:.0f} s",
                    )
                    return
                time.sleep(1)
        if said["rc"]:
            # With a terminal, all that the host says is in stdout, and what ssh says of itself in the other.
            lines = f"{said['stdout']}\n{said['stderr']}".splitlines()
            text = " ".join(
                " ".join(line for line in lines if not line.startswith("Shared connection to "))
                .replace("underlay: ", "")
                .split()
            )
            if not text.startswith(f"transaction {number} was not confirmed"):
                text = f"transaction {number} was not confirmed: {text}"
            result.update(failed=True, changed=False, msg=text)


def _job(variables: dict[str, t.Any]) -> str:
    """Whose job of AWX or Automation Controller this is, for the record; empty where it is none."""
    for prefix in ("awx", "tower"):
        if variables.get(f"{prefix}_job_id"):
            return f"{variables.get(f'{prefix}_user_name') or prefix}, job {variables[f'{prefix}_job_id']}"
    return ""
