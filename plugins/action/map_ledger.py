# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Dict, List, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..module_utils import _result
from ..plugin_utils import _files
from ..plugin_utils._fleet import allocate, ledger, packed, sources, subnets, view
from ..plugin_utils._fleet.ledger import Ledger
from ..plugin_utils._fleet.needs import Fleet, Host
from ..plugin_utils._fleet.packed import LoadedMap

MOVE = "revert the map, or allocate with move: true (the playbook: -e allocate_move=true)"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _rest, options = self.validate_argument_spec(
            {
                "path": {"type": "path"},
                "release": {"type": "list", "elements": "str", "default": []},
                "rename": {"type": "dict", "default": {}},
                "move": {"type": "bool", "default": False},
                "state": {"type": "str", "choices": ["present", "complete"], "default": "present"},
            }
        )
        if not subnets.HAS_NETADDR:
            raise AnsibleActionFail("netops.underlay.map_ledger needs the Python library netaddr on the controller")
        known = task_vars or {}
        maps = self._maps(known, options["state"] == "complete")
        if not maps:
            return {**result, "changed": False, "stale": []}
        together = _by_ledger(maps, options["path"], options["state"])
        hosts = self._hosts(maps, known)
        fleets = {
            path: Fleet([row for loaded in some for row in loaded["rows"]], hosts, whole=len(together) == 1)
            for path, some in together.items()
        }
        _refuse(
            "the endpoints of the inventory are wrong",
            [problem for fleet in fleets.values() for problem in fleet.problems],
        )
        if options["state"] == "complete":
            stale = [text for path, some in together.items() for text in self._judge(fleets[path], some)]
            return {**result, "changed": False, "stale": stale}
        return {**result, **self._give(fleets, options)}

    def _maps(self, known: Mapping[str, Any], may_lack: bool) -> List[LoadedMap]:
        """Every map of the inventory. Raises AnsibleActionFail where one has faults, or was not loaded."""
        members = known["groups"].get(packed.GROUP)
        there = known["hostvars"][members[0]] if members else {}
        loaded = packed.unpack(there[packed.VARIABLE]) if packed.VARIABLE in there else []
        _refuse("the map has faults", [text for one in loaded for text in one["faults"]])
        lost = sources.unread(known.get("ansible_inventory_sources") or (), {one["file"] for one in loaded})
        _refuse(
            "a map of the inventory was not loaded; check Ansible's warnings about sources that it could not parse",
            lost,
        )
        if not loaded and not may_lack:
            raise AnsibleActionFail("the inventory has no map, or none of its hosts is in one: check netops_map.yml")
        return loaded

    def _hosts(self, maps: Sequence[LoadedMap], known: Mapping[str, Any]) -> Dict[str, Host]:
        hosts = {}
        for name in known["groups"].get(packed.GROUP, ()):
            there = known["hostvars"][name]
            hosts[str(name)] = Host(
                list(there["group_names"]), view.declared(maps, str(name), view.own_endpoints(there))
            )
        return hosts

    def _judge(self, fleet: Fleet, maps: Sequence[LoadedMap]) -> List[str]:
        """Nothing is missing, and nothing is had twice. Without a ledger only the latter can be said."""
        data = maps[0]["ledger"]
        given = Ledger.of(data) if data is not None else Ledger()
        _refuse("the ledger and the inventory do not agree", allocate.conflicts(fleet, given))
        if data is not None:
            lacking = [want.text for want in allocate.missing(fleet, given)]
            _refuse(f"the ledger lacks {len(lacking)} entries; run netops.underlay.allocate", lacking)
        return allocate.stale(fleet, given)

    def _give(self, fleets: Mapping[str, Fleet], options: Mapping[str, Any]) -> Dict[str, Any]:
        result: Dict[str, Any] = {"changed": False, "path": ", ".join(fleets)}
        lists: Dict[str, List[str]] = {"given": [], "released": [], "moved": [], "outside": [], "stale": []}
        for path, fleet in fleets.items():
            with _alone(path):
                self._give_one(path, fleet, options, result, lists)
        return _result.fitting({**result, **lists}, lists)

    def _give_one(
        self, path: str, fleet: Fleet, options: Mapping[str, Any], result: Dict[str, Any], lists: Dict[str, List[str]]
    ) -> None:
        before = _text(path)
        given, faults = ledger.read(before, os.path.basename(path))
        _refuse("the ledger cannot be used", faults)
        renamed, names, problems = allocate.rename(given, options["rename"])
        kept, released, more = allocate.release(fleet, renamed, options["release"])
        _refuse("nothing was released or allocated", [*problems, *more])
        waits = [] if options["move"] else allocate.complete(fleet, kept).waits
        if not self._task.check_mode:
            _refuse(f"{len(waits)} addresses would move; {MOVE}", waits)
        done = allocate.complete(fleet, kept, options["move"] or self._task.check_mode)
        _refuse("nothing was released or allocated", [*done.problems, *allocate.conflicts(fleet, done.ledger)])
        new = done.ledger
        allocate.remember(fleet, given, new, "gone" in options["release"])
        after = new.text()
        changed = new.data() != given.data() or not before
        if changed and not self._task.check_mode:
            _write(path, after)
        result["changed"] = result["changed"] or changed
        lists["given"] += sorted(new.entries() - kept.entries())
        lists["released"] += released
        lists["moved"] += [*names, *done.moves]
        lists["outside"] += allocate.outside(fleet, new)
        lists["stale"] += allocate.stale(fleet, new)
        if waits:
            result.setdefault("warnings", []).append(
                f"{len(waits)} addresses would move: a run outside check mode needs move: true (-e allocate_move=true)"
            )
        if self._task.diff:
            difference = {
                "before_header": path,
                "after_header": path,
                "before": before,
                "after": after if changed else before,
            }
            result["diff"] = difference if "diff" not in result else [*_list(result["diff"]), difference]


def _by_ledger(maps: Sequence[LoadedMap], path: Optional[str], state: str) -> Dict[str, List[LoadedMap]]:
    """The maps by the file of their ledger; several may have one."""
    found: Dict[str, List[LoadedMap]] = {}
    for loaded in maps:
        file = path or loaded["ledger_file"]
        if file is None and state == "present":
            continue
        found.setdefault(os.path.realpath(file) if file else "", []).append(loaded)
    if not found:
        raise AnsibleActionFail("the inventory names no ledger: set ledger: FILE in its netops_map.yml, or give path")
    return found


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [value]


def _refuse(what: str, problems: Sequence[Any]) -> None:
    if problems:
        raise AnsibleActionFail(f"{what}:\n{_result.lines(problems)}")


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
        return _files.read(path, os.path.basename(path)).decode()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise AnsibleActionFail(f"{path} cannot be read: {error}") from None


def _write(path: str, text: str) -> None:
    """The whole file or the one of before, whatever happens meanwhile."""
    try:
        _files.put(path, text, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644)
    except OSError as error:
        raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from None
