#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_service
short_description: What brings underlay networks back without Ansible
version_added: "1.0.0"
description:
  - Installs a copy of the engine on the host, with C(underlay), the command for people and for guards, and a service that restores
    everything at boot and heals what gets lost.
  - The copy needs nothing but Python. It lies in C(/usr/local/lib/netops-underlay), a directory for each version, and a link says
    which is in use.
  - A rule and a file for udev, and two files for systemd-networkd, keep NetworkManager, systemd-networkd and files that name or number NICs
    away from the links of this collection.
  - It makes no link by itself, and needs no driver; where systemd is not the first process, as in most containers, the service is
    enabled and not started.
options:
  heal:
    description:
      - Whether the service brings back what gets lost while the host runs, within two seconds.
      - With V(false) it restores at boot only, and ends when everything is there.
      - C(underlay hold) keeps it off an object while a person works there, and what is removed three times in a minute is held by itself.
    type: bool
    default: true
  interpreter:
    description:
      - The Python that the copy runs on, 3.9 or newer with its module sqlite3. A path, which has to last.
      - Without it, the Python that Ansible uses on the host.
    type: path
  state:
    description:
      - V(absent) stops the service and removes everything that this module wrote. The networks and the registry stay.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Tells exactly what a real run then does.
  diff_mode:
    support: full
    description: Shows the files, but for those of the engine, and the service.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: The service is one of systemd.
seealso:
  - module: netops.underlay.vlan_host
author:
  - netops.underlay contributors (@netops)
"""

EXAMPLES = r"""
- name: A host whose networks survive a reboot and heal
  netops.underlay.vlan_service:

- name: Restored at boot only
  netops.underlay.vlan_service:
    heal: false
"""

RETURN = r"""
version:
  description: The version of the copy, by what it is made of.
  returned: success and O(state=present)
  type: str
  sample: 1.0.0-5b1f0e9c2a7d
command:
  description: The command for people.
  returned: success and O(state=present)
  type: str
  sample: /usr/local/sbin/underlay
persistent:
  description: Whether a reboot keeps what is recorded.
  returned: success
  type: bool
  sample: true
"""

import json
import os
import subprocess
import sys
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _service
from ..module_utils._engine import installed, programs
from ..module_utils._engine.converge import is_persistent
from ..module_utils._service import Host, Step, Wanted


def interpreter_problem(path: str) -> str:
    """What is wrong with a Python, in words with the cure; empty for nothing."""
    cure = f"give interpreter the path of Python {'.'.join(map(str, _service.PYTHON))} or newer with its module sqlite3"
    if not os.path.isabs(path) or any(letter.isspace() for letter in path) or len(path) > 120:
        return f"interpreter: {path!r} cannot stand in the first line of a command; {cure}"
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        return f"interpreter: {path} is no command of this host; {cure}"
    ask = "import json, sqlite3, sys; print(json.dumps(list(sys.version_info[:2])))"
    try:
        done = programs.run([path, "-I", "-c", ask], 60)
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError):
        found = None
    if found is None:
        return f"interpreter: {path} is no Python with sqlite3; {cure}"
    if tuple(found) < _service.PYTHON:
        return f"interpreter: {path} is Python {found[0]}.{found[1]}; {cure}"
    return ""


def diff(steps: list[Step], root: str) -> list[dict[str, str]]:
    """The files in full, but for those of the engine, of which only the version says something."""
    shown = [
        {"before_header": f"/{step.path}", "after_header": f"/{step.path}", "before": step.before or "", "after": step.after or ""}
        for step in steps
        if step.kind == "file" and not step.path.startswith(root)
    ]
    rest = [step for step in steps if step.kind != "file"]
    if rest:
        sides = ["".join(f"{step.kind} {step.path}: {text or 'absent'}\n" for step, text in zip(rest, side)) for side in
                 ([step.before for step in rest], [step.after for step in rest])]  # fmt: skip
        shown.append({"before_header": "host as it is", "after_header": "host with the service", "before": sides[0], "after": sides[1]})
    return shown


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "heal": {"type": "bool", "default": True},
            "interpreter": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    wanted = Wanted(module.params["interpreter"] or sys.executable, module.params["heal"], module.params["state"] == "present")
    if wanted.present:
        problem = interpreter_problem(wanted.interpreter)
        if problem:
            module.fail_json(msg=problem)
    host = Host()
    steps = _service.survey(host, wanted)
    if steps and os.geteuid() != 0:
        module.fail_json(msg="a service is installed by root only: run the task with become: true")
    if not module.check_mode:
        try:
            _service.carry_out(host, steps, wanted)
        except subprocess.CalledProcessError as error:
            module.fail_json(msg=f"{' '.join(error.cmd)}: {error.stderr.strip()}; journalctl -u netops-underlay tells more")
        except OSError as error:
            module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror}; make it writable, and give it room")
    result: dict[str, Any] = {"changed": bool(steps), "persistent": wanted.present if module.check_mode else is_persistent()}
    if wanted.present:
        result["version"] = _service.version(_service.engine())
        result["command"] = installed.COMMAND
    if module._diff:
        result["diff"] = diff(steps, installed.ROOT.lstrip("/"))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
