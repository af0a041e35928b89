#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_service
short_description: Restore underlay networks at boot and repair them
version_added: "1.0.0"
description:
  - Installs a copy of the engine on the host, the command C(underlay), which guards need, and a service that restores everything at boot
    and repairs losses.
  - It comes with a manual page, C(man underlay), and completion for bash, which the package C(bash-completion) loads. Only root is offered
    the names of objects and the numbers of transactions.
  - The copy needs only Python. It is in C(/usr/local/lib/netops-underlay), one directory for each version, and a symbolic link selects the
    version in use.
  - Two files for udev and two for systemd-networkd keep NetworkManager, systemd-networkd and NIC renaming away from the links of this
    collection.
  - It creates no link, and needs no driver. If systemd is not running, as in most containers, the service is enabled but not started.
options:
  heal:
    description:
      - Whether the service also repairs losses while the host runs, within two seconds.
      - With V(false) it restores at boot only, and exits when everything is in place.
      - C(underlay hold) exempts an object from repair while you work on it. An object that is removed three times in a minute is held
        automatically. Isolation is put back each time.
    type: bool
    default: true
  interpreter:
    description:
      - The path of the Python that runs the copy, 3.9 or newer with its module sqlite3. It must be permanent.
      - Root runs it, so only root may be able to change it, its modules, and the directories and links on the way.
      - Defaults to the Python that Ansible uses on the host.
    type: path
  taps:
    description:
      - Whether the service may make the device nodes of taps, the endpoints with C(kind=tap). It gets two more capabilities for that, and
        sees the devices of the host.
      - Defaults to whether the registry records a tap. Set it on a host that will get its first one.
    type: bool
  dhcp:
    description:
      - Whether the host gets a second service, C(netops-underlay-dhcp), which asks DHCP servers for the leases of endpoints and keeps them.
      - It stands on the Python package pyroute2, 0.9 or newer. The controller's is sent along, so that the host needs none and no way to the
        internet.
      - Defaults to whether the registry records an endpoint that wants a lease. Set it on a host that will get its first one.
    type: bool
  forget:
    description:
      - Whether O(state=absent) also removes the registry, the directory C(/var/lib/netops-underlay).
      - It stays, with a warning, while anything is recorded in it. Remove the networks first, for example with the playbook
        C(netops.underlay.teardown).
    type: bool
    default: false
  state:
    description:
      - V(absent) stops the services and removes everything that this module installed, and the file for Prometheus that the service
        wrote. The networks and the registry stay, and a warning counts what the host still has.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Predicts exactly what a run does.
  diff_mode:
    support: full
    description: Shows the service and all files except those of the engine.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Needs systemd.
seealso:
  - module: netops.underlay.vlan_host
author:
  - netops.underlay contributors (@netops)
"""

EXAMPLES = r"""
# Before:
#   # underlay --version
#   -bash: underlay: command not found

- name: Restore at boot, and repair losses
  netops.underlay.vlan_service:

# After:
#   # underlay --version
#   1.0.0
#   # systemctl is-enabled netops-underlay.service
#   enabled

# With pyroute2 0.9 on the controller, also ask DHCP servers for the addresses of endpoints:
#   - name: Restore at boot, repair losses, and keep leases
#     netops.underlay.vlan_service:
#       dhcp: true

- name: Restore at boot only
  netops.underlay.vlan_service:
    heal: false

# Before:
#   # ls -d /usr/local/lib/netops-underlay /var/lib/netops-underlay
#   /usr/local/lib/netops-underlay  /var/lib/netops-underlay

- name: Remove it, and the registry
  netops.underlay.vlan_service:
    state: absent
    forget: true

# After:
#   # ls -d /usr/local/lib/netops-underlay /var/lib/netops-underlay
#   (nothing)
"""

RETURN = r"""
version:
  description: The version of the copy, with a hash of its files.
  returned: success and O(state=present)
  type: str
  sample: 1.0.0-5b1f0e9c2a7d
command:
  description: The path of the command.
  returned: success and O(state=present)
  type: str
  sample: /usr/local/sbin/underlay
persistent:
  description: Whether the configuration survives a reboot.
  returned: success
  type: bool
  sample: true
"""

import json
import os
import stat
import subprocess
import sys
import zipfile
from typing import Any, Iterator

from ..module_utils import _service
from ..module_utils._base import BaseModule
from ..module_utils._engine.core.errors import RegistryError
from ..module_utils._engine.core.text import printable
from ..module_utils._engine.kernel import programs
from ..module_utils._engine.report import remaining
from ..module_utils._engine.run.converge import is_persistent
from ..module_utils._engine.run.transact import DEFAULT_STATE_DIR
from ..module_utils._engine.store import installed
from ..module_utils._service import Host, Step, Wanted

NO_CONTROLLER = "dhcp: this module was not run by its action plugin, which sends pyroute2; run it by ansible-playbook, or leave dhcp out"
#: The first group that people have; those below are of the system, such as Debian's staff, which has /usr/local.
PEOPLE = 1000


def interpreter_problem(path: str) -> str:
    """What is wrong with a Python, in words with the fix; empty for nothing."""
    fix = f"give interpreter the path of Python {'.'.join(map(str, _service.PYTHON))} or newer with its module sqlite3"
    if not os.path.isabs(path) or any(letter.isspace() for letter in path) or len(path) > 120:
        return f"interpreter: {path!r} cannot be used in the first line of a script; {fix}"
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        return f"interpreter: {path} is not a command on this host; {fix}"
    problem = _ownership_problem(path, [path])
    if problem:
        return problem
    ask = "import json, sqlite3, sys; print(json.dumps([list(sys.version_info[:2]), sys.path]))"
    try:
        done = programs.run([path, "-I", "-c", ask], 60)
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError):
        found = None
    if found is None:
        return f"interpreter: {path} is not a Python with sqlite3; {fix}"
    version, places = found
    if tuple(version) < _service.PYTHON:
        return f"interpreter: {path} is Python {version[0]}.{version[1]}; {fix}"
    return _ownership_problem(path, places)


def _ownership_problem(path: str, places: list[str]) -> str:
    """What another user could change of a Python, by what it consists of; empty for nothing."""
    for place in places:
        for part in _way(place):
            found = os.lstat(part)
            others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid >= PEOPLE)
            safe = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX  # as /tmp: what is root's stays root's
            if found.st_uid != 0 or (others and not safe):
                return (
                    f"interpreter: {path} is run by root, and others than root can change {part};"
                    " give interpreter a Python that only root can replace, such as /usr/bin/python3"
                )
    return ""


def _way(path: str) -> Iterator[str]:
    """Every directory, link and file on the way to what a path is, as far as it exists."""
    at, rest, links = "/", path.split("/"), 0
    while rest and links < 40:  # as many as the kernel follows
        part = rest.pop(0)
        if part in ("", "."):
            continue
        at = os.path.dirname(at) if part == ".." else os.path.join(at, part)
        if not os.path.lexists(at):
            return
        yield at
        if os.path.islink(at):
            links += 1
            target = os.readlink(at)
            at, rest = "/" if target.startswith("/") else os.path.dirname(at), [*target.split("/"), *rest]


def diff(steps: list[Step], root: str) -> list[dict[str, str]]:
    """The files in full, but for those of the engine, of which only the version says something."""
    shown = [
        {
            "before_header": f"/{step.path}",
            "after_header": f"/{step.path}",
            "before": step.before or "",
            "after": step.after or "",
        }
        for step in steps
        if step.kind == "file" and not step.path.startswith(root)
    ]
    rest = [step for step in steps if step.kind != "file"]
    if rest:
        sides = ["".join(f"{step.kind} {step.path}: {text or 'absent'}\n" for step, text in zip(rest, side)) for side in
                 ([step.before for step in rest], [step.after for step in rest])]  # fmt: skip
        shown.append(
            {
                "before_header": "host as it is",
                "after_header": "host with the service",
                "before": sides[0],
                "after": sides[1],
            }
        )
    return shown


def carry_out(module: BaseModule, host: Host, steps: list[Step], wanted: Wanted, archive: str) -> None:
    """Install or remove the service; the module fails where the host does not let it."""
    try:
        _service.carry_out(host, steps, wanted, archive)
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{' '.join(error.cmd)}: {error.stderr.strip()}; see journalctl -u netops-underlay")
    except zipfile.BadZipFile:
        module.fail_json(msg="pyroute2 did not arrive as it was sent; run the task again")
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror}; make it writable, and free some space")


class Module(BaseModule):
    """``sent`` is what the action plugin says of the controller's pyroute2: its ``version``, a ``problem`` with it, its ``archive`` here."""

    def _load_params(self) -> None:
        super()._load_params()
        self.sent: dict[str, str] = self.params.pop("_pyroute2", None) or {}


def check_supply(module: Module) -> None:
    """Go on where pyroute2 is here; the module ends where it is not, and its action plugin sends it and comes again."""
    problem = module.sent.get("problem", NO_CONTROLLER)
    if problem:
        module.fail_json(msg=problem)
    if not module.check_mode and not module.sent["archive"]:
        module.exit_json(changed=False, _wants_pyroute2=True)


def survey(module: Module, host: Host, wanted: Wanted) -> tuple[list[Step], list[str]]:
    """What there is to do, and what of the registry keeps it from being forgotten."""
    try:
        steps = _service.survey(host, wanted)
        return steps, _service.recorded(host) if wanted.forget and not wanted.present else []
    except RegistryError as error:
        module.fail_json(msg=str(error))


def main() -> None:
    module = Module(
        argument_spec={
            "dhcp": {"type": "bool"},
            "forget": {"type": "bool", "default": False},
            "heal": {"type": "bool", "default": True},
            "interpreter": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "taps": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(
        params["interpreter"] or sys.executable,
        params["heal"],
        params["taps"],
        params["dhcp"],
        module.sent.get("version", ""),
        params["state"] == "present",
        params["forget"],
    )
    if wanted.present:
        problem = interpreter_problem(wanted.interpreter)
        if problem:
            module.fail_json(msg=problem)
    host = Host()
    wanted = _service.settled(host, wanted)
    steps, kept = survey(module, host, wanted)
    if kept:
        module.warn(
            f"the registry stays: it records {kept[0]} and {len(kept) - 1} more objects; remove them first, then run again"
        )
    elif not wanted.present and os.geteuid() == 0 and (left := remaining.warning(DEFAULT_STATE_DIR)):
        module.warn(printable(left))
    if steps and os.geteuid() != 0:
        module.fail_json(msg="only root can install a service: run the task with become: true")
    if _service.lacks_pyroute2(steps):
        check_supply(module)
    if not module.check_mode:
        carry_out(module, host, steps, wanted, module.sent.get("archive", ""))
    result: dict[str, Any] = {
        "changed": bool(steps),
        "persistent": wanted.present if module.check_mode else is_persistent(DEFAULT_STATE_DIR),
    }
    if wanted.present:
        result["version"] = _service.version(wanted)
        result["command"] = installed.COMMAND
        result["_would_ask_for_leases"] = module.check_mode and wanted.dhcp
    if module._diff:
        result["diff"] = diff(steps, installed.ROOT.lstrip("/"))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
