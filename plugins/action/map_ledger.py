# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Dict, List, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils import _result
from ..plugin_utils._files import put
from ..plugin_utils._fleet import ledger, rows, source
from ..plugin_utils._fleet.ledger import Fleet, Host, Ledger


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _rest, options = self.validate_argument_spec(
            {
                "path": {"type": "path"},
                "release": {"type": "list", "elements": "str", "default": []},
                "state": {"type": "str", "choices": ["present", "complete"], "default": "present"},
            }
        )
        if not rows.HAS_NETADDR:
            raise AnsibleActionFail("netops.underlay.map_ledger needs the Python library netaddr on the controller")
        known = self._map(task_vars or {})
        fleet = self._fleet(known, task_vars or {})
        _refuse("the endpoints of the inventory are wrong", fleet.problems)
        if options["state"] == "complete":
            return {**result, "changed": False, **self._judge(fleet, known)}
        path = options["path"] or known.get(source.LEDGER_FILE)
        if not path:
            raise AnsibleActionFail("the inventory names no ledger: say ledger: FILE in its netops_map.yml, or give path")
        return {**result, **self._give(fleet, os.path.realpath(path), options["release"])}

    def _map(self, task_vars: Dict[str, Any]) -> Any:
        """The variables of a host that the map is for: the map is the same for all."""
        members = task_vars["groups"].get(source.GROUP)
        if not members:
            raise AnsibleActionFail("the inventory has no map, or no host that it is for: say so in a file netops_map.yml")
        known = task_vars["hostvars"][members[0]]
        if known.get(source.FAULTS):
            _refuse("the map has faults", known[source.FAULTS])
        return known

    def _fleet(self, known: Any, task_vars: Dict[str, Any]) -> Fleet:
        hosts = {}
        for name in task_vars["groups"][source.GROUP]:
            there = task_vars["hostvars"][name]
            endpoints = there.get(source.ENDPOINTS) or []
            hosts[str(name)] = Host(list(there["group_names"]), list(endpoints) if isinstance(endpoints, (list, tuple)) else [endpoints])
        return Fleet(known[source.ROWS], hosts)

    def _judge(self, fleet: Fleet, known: Any) -> Dict[str, Any]:
        """Nothing is missing, and nothing is had twice. Without a ledger only the latter can be said."""
        data = known.get(source.LEDGER)
        given = Ledger.of(data) if data is not None else Ledger()
        _refuse("the ledger and the inventory do not agree", fleet.conflicts(given))
        if data is not None:
            lacking = [want.text for want in fleet.missing(given)]
            _refuse(f"the ledger lacks {len(lacking)} entries; run netops.underlay.allocate", lacking)
        return {"stale": fleet.stale(given)}

    def _give(self, fleet: Fleet, path: str, words: List[str]) -> Dict[str, Any]:
        with _alone(path):
            before = _text(path)
            given, faults = ledger.read(before, os.path.basename(path))
            _refuse("the ledger cannot be used", faults)
            kept, released, problems = fleet.release(given, words)
            _refuse("nothing was released or given", problems)
            new, _rest, problems = fleet.complete(kept)
            _refuse("nothing was released or given", [*problems, *fleet.conflicts(new)])
            after = new.text()
            changed = new.data() != given.data() or not before
            if changed and not self._task.check_mode:
                _write(path, after)
        lists = {"given": sorted(_entries(new) - _entries(kept)), "released": released, "stale": fleet.stale(new)}
        result = {"changed": changed, "path": path, **lists}
        if self._task.diff:
            result["diff"] = {"before_header": path, "after_header": path, "before": before, "after": after if changed else before}
        return _result.fitting(result, lists)


def _refuse(what: str, problems: Sequence[Any]) -> None:
    if problems:
        raise AnsibleActionFail(f"{what}:\n{_result.lines(problems)}")


def _entries(given: Ledger) -> set[str]:
    return {
        f"{network}/{holder}: {text}" for content in (given.slices, given.addresses) for network, entries in content.items() for text, holder in entries.items()
    }


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Two who allocate at once on one controller do so one after the other. The lock leaves no file behind."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise AnsibleActionFail(f"{path} cannot be written: there is no directory {directory}")
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise AnsibleActionFail(f"{path} cannot be read: {error}") from None


def _write(path: str, text: str) -> None:
    """The whole file or the one of before, whatever happens meanwhile."""
    try:
        put(path, text, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from None
