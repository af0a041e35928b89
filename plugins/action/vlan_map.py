# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: module ``vlan_map``, and before it the rows of a file or of the inventory's map."""

from __future__ import annotations

import typing as t

from ansible_collections.netops.underlay.plugins.plugin_utils import _role, _rows
from ansible_collections.netops.underlay.plugins.plugin_utils._wire import WireAction


class ActionModule(WireAction):
    """Takes the rows, then does what every module that changes the host has in common."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        given = self._task.args
        try:
            self._task.args = _rows.filled(self, task_vars or {})
        except _rows.RowsError as error:
            refused: dict[str, t.Any] = {"failed": True, "changed": False, "msg": str(error)}
            _role.translate(refused, _role.of(self._task))
            return refused
        result = super().run(tmp, task_vars)
        self._task.args = given if self._task.until else self._task.args
        return result
