# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: module ``vlan_verify``, and before it the rows of the inventory's map."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.netops.underlay.plugins.plugin_utils import _rows


class ActionModule(ActionBase):
    """Takes the rows, then runs the module."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        try:
            arguments = _rows.filled(self, task_vars or {})
        except _rows.RowsError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        wrap_async = self._task.async_val and not self._connection.has_native_async
        result: dict[str, t.Any] = self._execute_module(
            module_args=arguments, task_vars=task_vars, wrap_async=wrap_async
        )
        return result
