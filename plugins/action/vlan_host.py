# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: module ``vlan_host``, and before it the package manager where the host lacks something."""

from __future__ import annotations

import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

Result = dict[str, t.Any]


class ActionModule(ActionBase):
    """Prepare; where something is missing, install it first. In check mode the package manager is not run: it predicts nothing on a bare host."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        wanted = boolean(arguments.get("install", True), strict=False)
        result: Result = self._execute_module(module_args={**arguments, "_unless_missing": wanted}, task_vars=task_vars)
        missing = result.get("packages_missing", []) if wanted and not result.get("failed") else []
        if missing and not self._task.check_mode:
            installed = self._install(missing, task_vars)
            if installed.get("failed"):
                return installed
            result = self._execute_module(module_args=arguments, task_vars=task_vars)
        return self._with(result, missing)

    @staticmethod
    def _with(result: Result, installed: list[str]) -> Result:
        if installed and not result.get("failed"):
            result.update(changed=True, packages_installed=installed, packages_missing=[])
        return result

    def _install(self, packages: list[str], task_vars: Result | None) -> Result:
        task = self._task.copy()
        task.args = {"name": packages, "state": "present", "update_cache": True}
        package = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.package",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        found: Result = package.run(task_vars=task_vars)
        return found
