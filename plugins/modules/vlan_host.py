#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_host
short_description: Prepare a host for underlay networks
version_added: "1.0.0"
description:
  - Loads the kernel drivers now and at every boot, raises the limits of the neighbour tables, and names the numbers that mark
    what this collection makes in the tables of iproute2, so that C(ip link show group netops-underlay) works.
  - Installs the packages of C(ip) and C(modprobe) first, where they are missing; the package manager is not called otherwise, so that a
    host that is prepared needs no mirror to be reachable.
  - It makes no link and changes none. Where a driver makes a link when it is loaded, as C(dummy) does, it is kept from it.
options:
  _unless_missing:
    description: Do nothing where a package is missing. The action plugin sets it, and installs what is missing before it calls again. Leave it out.
    type: bool
    default: false
  install:
    description: Whether packages that are missing are installed from the distribution.
    type: bool
    default: true
  drivers:
    description:
      - The drivers that the host shall have.
      - V(macvlan) needs Linux 3.9, V(ipvlan) Linux 4.2.
    type: list
    elements: str
    choices: ["8021q", "macvlan", "ipvlan", "dummy"]
    default: ["8021q", "macvlan", "ipvlan", "dummy"]
  neighbours:
    description:
      - How many neighbours the host and all its endpoints together can know, in IPv4 and in IPv6.
      - The kernel's default of 1024 is too few for some hundred networks; a full table makes addresses unreachable at random.
      - Limits that are higher already are left as they are. V(0) leaves all of them.
    type: int
    default: 16384
  names:
    description:
      - Whether to name the link group and the route protocol of this collection in the tables of iproute2.
    type: bool
    default: true
  state:
    description:
      - V(absent) removes the files that this module wrote, or its lines in them.
        Drivers that are loaded stay so, and limits stay as high as they are until the next boot.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Tells exactly what a real run then does, also where the packages are not installed yet.
  diff_mode:
    support: full
    description: Shows the files, drivers and limits before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Files below C(/etc) are in the places where systemd, kmod and iproute2 read them.
seealso:
  - module: netops.underlay.vlan_map
author:
  - netops.underlay contributors (@netops)
"""

EXAMPLES = r"""
- name: Drivers, names and room for neighbours
  netops.underlay.vlan_host:
    neighbours: 32768

- name: A host that carries ipvlan networks only
  netops.underlay.vlan_host:
    drivers: ["8021q", "ipvlan"]
"""

RETURN = r"""
drivers:
  description: The drivers asked for that the kernel has, loaded or built in.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["8021q", "macvlan", "ipvlan", "dummy"]
kernel:
  description: The release of the kernel that runs.
  returned: success
  type: str
  sample: 6.12.48+deb13-amd64
limits:
  description: The limits of the neighbour tables; empty where the host does not show them, as in a container.
  returned: success
  type: dict
  sample: {"net.ipv4.neigh.default.gc_thresh3": 16384}
packages_installed:
  description: The packages that were installed, or in check mode would be.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["kmod"]
packages_missing:
  description: The packages, by the names of the host's distribution, whose commands are not there. Empty unless O(install=false).
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["iproute2", "kmod"]
problems:
  description: Everything that speaks against the task, each with its cure.
  returned: when the host cannot be prepared
  type: list
  elements: dict
  contains:
    path:
      description: The option.
      type: str
    what:
      description: What is wrong.
      type: str
    cure:
      description: What to do about it.
      type: str
"""

import os
import platform

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _host, _result
from ..module_utils._engine.drivers import DRIVERS, has_kind
from ..module_utils._engine.fields import Problem
from ..module_utils._host import Host, Step, Survey, Wanted


class Impossible(Exception):
    """A step that the host refuses."""


class Preparation:
    """Carries out a survey: every step, or none."""

    def __init__(self, module: AnsibleModule, host: Host) -> None:
        self.module = module
        self.host = host

    def carry_out(self, steps: list[Step]) -> None:
        # What the host may refuse comes first, the files last.
        done: list[Step] = []
        try:
            for step in sorted(steps, key=lambda step: ("driver", "limit", "file").index(step.kind)):
                done.append(step)
                self._do(step)
        except (Impossible, OSError) as error:
            for step in reversed(done):
                self._undo(step)
            self.module.fail_json(msg=f"{error}; everything else of this run was undone")

    def _do(self, step: Step) -> None:
        if step.kind == "driver":
            self._load(step.name)
        elif step.kind == "limit":
            self.host.write("proc/sys/" + step.name.replace(".", "/"), step.after or "")
        else:
            self._file(step.name, step.after)

    def _undo(self, step: Step) -> None:
        if step.kind == "driver":
            self.module.run_command([self._modprobe(), "--quiet", "--remove", step.name])
        elif step.kind == "limit":
            self.host.write("proc/sys/" + step.name.replace(".", "/"), step.before or "")
        else:
            self._file(step.name, step.before)

    def _modprobe(self) -> str:
        return self.module.get_bin_path("modprobe", opt_dirs=["/usr/sbin", "/sbin"]) or "modprobe"

    def _load(self, driver: str) -> None:
        """By modprobe; but only the kernel can say whether the driver is there then (a container has no modules)."""
        options = ["numdummies=0"] if driver == "dummy" else []
        self.module.run_command([self._modprobe(), "--quiet", driver, *options])
        if not has_kind(next(kind for kind, name in DRIVERS.items() if name == driver)):
            raise Impossible(str(self.host.driver_missing(driver)))

    def _file(self, name: str, text: str | None) -> None:
        path = self.host.path(name)
        if text is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        new = os.path.join(self.module.tmpdir, os.path.basename(path))
        with open(new, "w", encoding="utf-8") as file:
            file.write(text)
        self.module.atomic_move(new, path)
        self.module.set_mode_if_different(path, "0644", False)


def diff(found: Survey) -> list[dict[str, str]]:
    """A file as a whole; drivers and limits as a line each, together."""
    shown = [
        {"before_header": f"/{step.name}", "after_header": f"/{step.name}", "before": step.before or "", "after": step.after or ""}
        for step in found.steps
        if step.kind == "file"
    ]
    live = [step for step in found.steps if step.kind != "file"]
    if live:
        sides = ["".join(f"{step.kind} {step.name}: {text}\n" for step, text in zip(live, side)) for side in
                 ([step.before for step in live], [step.after for step in live])]  # fmt: skip
        shown.append({"before_header": "kernel as it is", "after_header": "kernel prepared", "before": sides[0], "after": sides[1]})
    return shown


def main() -> None:
    drivers = list(_host.DRIVERS)
    module = AnsibleModule(
        argument_spec={
            "install": {"type": "bool", "default": True},
            "_unless_missing": {"type": "bool", "default": False},  # the action plugin, which then installs them
            "drivers": {"type": "list", "elements": "str", "choices": drivers, "default": drivers},
            "neighbours": {"type": "int", "default": 16384},
            "names": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(params["drivers"], params["neighbours"], params["names"], params["state"] == "present")
    host = Host(platform.release())
    found = _host.survey(host, wanted)
    if wanted.neighbours < 0:
        found.problems.append(Problem("neighbours", f"{wanted.neighbours} is less than none", "give 0 to leave the tables alone"))
    if found.steps and os.geteuid() != 0:
        found.problems.append(Problem("", "a host is prepared by root only", "run the task with become: true"))
    if found.problems:
        module.fail_json(**_result.refusal(found.problems))
    for text in found.warnings:
        module.warn(text)
    missing = host.packages_missing() if wanted.present else []
    if not module.check_mode and not (missing and params["_unless_missing"]):
        Preparation(module, host).carry_out(found.steps)
        # A driver that is built in is there without having been loaded.
        found.steps = [step for step in found.steps if step.kind != "driver" or host.drivers.is_loaded(step.name)]
    result = {"changed": bool(found.steps), "kernel": host.release, "limits": found.limits}
    if wanted.present:
        result["drivers"] = wanted.drivers
        result["packages_missing"] = missing
        result["packages_installed"] = []
    if module._diff:
        result["diff"] = diff(found)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
