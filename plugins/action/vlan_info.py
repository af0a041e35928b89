# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: what module ``vlan_info`` read is written to a file, or cut to what a result holds."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.netops.underlay.plugins.module_utils import _result
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.plugin_utils._files import put


class ActionModule(ActionBase):
    """Runs the module, and keeps its answer from being more than Ansible, its callbacks and AWX take."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        dest = self._task.args.get("dest")
        if dest and self._task.async_val:
            raise AnsibleActionFail(
                "dest: a task with async ends before there is anything to write; leave one of them out"
            )
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result: dict[str, t.Any] = self._execute_module(task_vars=task_vars, wrap_async=wrap_async)
        parts = [part for part in describe.SUBSETS if part in result]
        if dest and not result.get("failed"):
            found = {part: result.pop(part) for part in parts}
            result.update(dest=self._keep(dest, found), counts={part: len(rows) for part, rows in found.items()})
        result = _result.fitting(result, parts)
        if result.get("left_out"):
            what = ", ".join(result["left_out"])
            result.setdefault("warnings", []).append(
                f"omitted, results are limited to 300 kB: {what}; use dest to get everything, or name to get a part"
            )
        return result

    def _keep(self, dest: str, found: dict[str, t.Any]) -> str:
        """Where it is then, for its owner alone: it tells who is where."""
        path: str = self._loader.path_dwim(dest)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            put(path, json.dumps(found), 0o600)
        except OSError as error:
            raise AnsibleActionFail(
                f"dest: {path} cannot be written on the controller: {error.strerror}; give another path"
            ) from None
        return path
