# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: module ``vlan_service``, to which the controller's pyroute2 is sent where the host asks for leases and has none.

The later tasks of a check run go on as if the host asked by then.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import typing as t
import zipfile

from ansible.plugins.action import ActionBase
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import simulate

Result = dict[str, t.Any]
FIX = "install it there: pip install 'pyroute2>=0.9'"


class ActionModule(ActionBase):
    """Ask the host first: most of them need nothing."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Result | None = None) -> Result:
        super().run(tmp, task_vars)
        directory, version = _installed()
        problem = ""
        if _numbers(version) < (0, 9):
            has = f"has {version}" if version else "has none"
            problem = (
                f"dhcp: the service that asks for leases needs pyroute2 0.9 or newer, and the controller {has}; {FIX}"
            )
        sent = {"version": version, "problem": problem, "archive": ""}
        result = self._run(sent, task_vars)
        if result.pop("_wants_pyroute2", False):
            sent["archive"] = self._send(directory)
            result = self._run(sent, task_vars)
            self._remove_tmp_path(self._connection._shell.tmpdir)
        if result.pop("_would_ask_for_leases", False):
            earlier = ((task_vars or {}).get("ansible_facts") or {}).get(simulate.FACT)
            planned = [*(simulate.unpack(earlier) if earlier else []), simulate.CLIENT]
            result["ansible_facts"] = {simulate.FACT: simulate.pack(planned)}
        return result

    def _run(self, sent: dict[str, str], task_vars: Result | None) -> Result:
        found: Result = self._execute_module(module_args={**self._task.args, "_pyroute2": sent}, task_vars=task_vars)
        return found

    def _send(self, directory: str) -> str:
        """The path of the package on the host."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        there = self._connection._shell.join_path(self._connection._shell.tmpdir, "pyroute2.zip")
        with tempfile.TemporaryDirectory() as own:
            archive = os.path.join(own, "pyroute2.zip")
            _pack(directory, archive)
            self._transfer_file(archive, there)
        self._fixup_perms2((self._connection._shell.tmpdir, there))
        return str(there)


def _installed() -> tuple[str, str]:
    """Where the controller has pyroute2, and its version; empty for none. It is not imported, which takes long."""
    spec = importlib.util.find_spec("pyroute2")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        try:
            with open(os.path.join(directory, "config", "version.py"), encoding="utf-8") as file:
                found = re.search(r"__version__ = ['\"]([0-9][^'\"]*)['\"]", file.read())
        except OSError:
            continue
        if found:
            return directory, found.group(1)
    return "", ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:2])


def _pack(directory: str, archive: str) -> None:
    """The Python of a package, as it is."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for at, directories, names in os.walk(directory):
            directories[:] = sorted(name for name in directories if name != "__pycache__")
            for name in sorted(names):
                if name.endswith(".py"):
                    path = os.path.join(at, name)
                    file.write(path, os.path.relpath(path, directory))
