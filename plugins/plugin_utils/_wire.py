# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What happens on the controller in the same task as a module that changes the wire."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

#: The fact by which a check run hands on what its tasks would have changed on a host.
FORETOLD = "netops_underlay_foretold"


class WireAction(ActionBase):
    """Runs the module of the same name, and tells it what earlier tasks of a check run have foretold."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        result.pop("invocation", None)
        facts = (task_vars or {}).get("ansible_facts") or {}
        arguments = dict(self._task.args)
        if facts.get(FORETOLD):
            arguments["_foretold"] = facts[FORETOLD]
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
        return result
