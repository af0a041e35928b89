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
  - Loads the kernel drivers now and at every boot, raises the limits of the neighbour tables, and names the collection's link group and
    route protocol in iproute2's tables, so that C(ip link show group netops-underlay) works.
  - Installs the packages of C(ip) and C(modprobe) if they are missing. Otherwise the package manager is not called, so a prepared host
    needs no reachable mirror.
  - Installs the nf_tables table C(netops_underlay), with one rule for all our links, so that the host neither accepts nor forwards packets
    from a tenant's VLAN. It needs no program, and touches no other table.
  - Creates no link and changes none. Drivers that create a link when loaded, as C(dummy) does, are kept from doing so.
options:
  _unless_missing:
    description: Internal, set by the action plugin, which installs missing packages and calls the module again.
    type: bool
    default: false
  install:
    description: Whether to install missing packages from the distribution.
    type: bool
    default: true
  drivers:
    description:
      - The drivers to load.
      - V(macvlan) needs Linux 3.9, V(ipvlan) Linux 4.2.
    type: list
    elements: str
    choices: ["8021q", "macvlan", "ipvlan", "dummy"]
    default: ["8021q", "macvlan", "ipvlan", "dummy"]
  neighbours:
    description:
      - How many neighbours the host and all its endpoints together can have, for IPv4 and for IPv6.
      - The kernel's default of 1024 is too low for several hundred networks; a full table makes random addresses unreachable.
      - Never lowers a limit. V(0) leaves all limits alone.
    type: int
    default: 16384
  names:
    description:
      - Whether to name the collection's link group and route protocol in iproute2's tables.
    type: bool
    default: true
  state:
    description:
      - V(absent) removes the files and lines that this module wrote. Loaded drivers stay, and limits stay raised until the next boot.
      - With V(absent) a warning counts the networks, endpoints, links and leases that the host still has.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Predicts exactly what a run does, even if the packages are not installed yet.
  diff_mode:
    support: full
    description: Shows the files, drivers and limits before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Writes files below C(/etc) for systemd, kmod and iproute2.
seealso:
  - module: netops.underlay.vlan_map
author:
  - netops.underlay contributors (@netops)
"""

EXAMPLES = r"""
# Before:
#   # lsmod | grep -c -e ^8021q -e ^macvlan -e ^ipvlan -e ^dummy
#   0
#   # sysctl net.ipv4.neigh.default.gc_thresh3
#   net.ipv4.neigh.default.gc_thresh3 = 1024

- name: Drivers, names and neighbour limits
  netops.underlay.vlan_host:
    neighbours: 32768

# After:
#   # lsmod | grep -c -e ^8021q -e ^macvlan -e ^ipvlan -e ^dummy
#   4
#   # sysctl net.ipv4.neigh.default.gc_thresh3
#   net.ipv4.neigh.default.gc_thresh3 = 32768
#   # ls /etc/*/*netops-underlay* /etc/iproute2/*/*netops-underlay*
#   /etc/iproute2/rt_addrprotos.d/netops-underlay.conf  /etc/modprobe.d/netops-underlay.conf
#   /etc/iproute2/rt_protos.d/netops-underlay.conf      /etc/modules-load.d/netops-underlay.conf
#   /etc/sysctl.d/10-netops-underlay.conf

- name: A host with ipvlan networks only
  netops.underlay.vlan_host:
    drivers: ["8021q", "ipvlan"]

# Before:
#   # ls /etc/*/*netops-underlay* /etc/iproute2/*/*netops-underlay*
#   /etc/iproute2/rt_addrprotos.d/netops-underlay.conf  /etc/modules-load.d/netops-underlay.conf
#   /etc/iproute2/rt_protos.d/netops-underlay.conf      /etc/sysctl.d/10-netops-underlay.conf

- name: Remove the files; drivers and packages stay
  netops.underlay.vlan_host:
    state: absent

# After:
#   # ls /etc/*/*netops-underlay* /etc/iproute2/*/*netops-underlay*
#   (nothing)
"""

RETURN = r"""
drivers:
  description: The requested drivers that are loaded or built in.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["8021q", "macvlan", "ipvlan", "dummy"]
kernel:
  description: The release of the running kernel.
  returned: success
  type: str
  sample: 6.12.48+deb13-amd64
limits:
  description: The limits of the neighbour tables; empty if the host does not show them, as in a container.
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
  description: The packages, as named by the host's distribution, whose commands are missing. Empty unless O(install=false).
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["iproute2", "kmod"]
packet_filter:
  description:
    - Whether the nf_tables table C(netops_underlay) is installed, which isolates the host from tenants' VLANs where sysctls cannot.
      V(false) if the kernel does not support it; a warning then names the remaining gaps.
  returned: success and O(state=present)
  type: bool
  sample: true
problems:
  description: All errors, each with its fix.
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
      description: How to fix it.
      type: str
"""

import contextlib
import os
import platform

from ..module_utils import _host, _result
from ..module_utils._base import BaseModule
from ..module_utils._engine.core.change import DRIVERS
from ..module_utils._engine.core.errors import Problem
from ..module_utils._engine.kernel import barrier
from ..module_utils._engine.kernel.drivers import has_kind
from ..module_utils._engine.report import remaining
from ..module_utils._engine.run.transact import DEFAULT_STATE_DIR
from ..module_utils._host import Host, Step, Survey, Wanted


class Impossible(Exception):
    """A step that the host refuses."""


class Preparation:
    """Carries out a survey: every step, or none."""

    def __init__(self, module: BaseModule, host: Host) -> None:
        self.module = module
        self.host = host

    def carry_out(self, steps: list[Step]) -> None:
        # What the host may refuse comes first, the files last.
        done: list[Step] = []
        try:
            for step in sorted(steps, key=lambda step: ("driver", "limit", "filter", "file").index(step.kind)):
                done.append(step)
                self._do(step)
        except (Impossible, OSError) as error:
            for step in reversed(done):
                self._undo(step)
            self.module.fail_json(msg=f"{error}; everything else of this run was rolled back")

    def _do(self, step: Step) -> None:
        if step.kind == "driver":
            self._load(step.name)
        elif step.kind == "limit":
            self.host.write("proc/sys/" + step.name.replace(".", "/"), step.after or "")
        elif step.kind == "filter":
            self._filter(step.after)
        else:
            self._file(step.name, step.after)

    def _undo(self, step: Step) -> None:
        if step.kind == "driver":
            self.module.run_command([self._modprobe(), "--quiet", "--remove", step.name])
        elif step.kind == "limit":
            self.host.write("proc/sys/" + step.name.replace(".", "/"), step.before or "")
        elif step.kind == "filter":
            self._filter(step.before)
        else:
            self._file(step.name, step.before)

    @staticmethod
    def _filter(wanted: str | None) -> None:
        if wanted is None:
            barrier.remove()
            return
        why = barrier.install()
        if why:
            raise Impossible(why)

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
            for directory in _host.OUR_DIRECTORIES:
                with contextlib.suppress(OSError):  # there is something else in it
                    os.rmdir(self.host.path(directory))
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
        {
            "before_header": f"/{step.name}",
            "after_header": f"/{step.name}",
            "before": step.before or "",
            "after": step.after or "",
        }
        for step in found.steps
        if step.kind == "file"
    ]
    live = [step for step in found.steps if step.kind != "file"]
    if live:
        sides = ["".join(f"{step.kind} {step.name}: {text}\n" for step, text in zip(live, side)) for side in
                 ([step.before for step in live], [step.after for step in live])]  # fmt: skip
        shown.append(
            {
                "before_header": "kernel as it is",
                "after_header": "kernel prepared",
                "before": sides[0],
                "after": sides[1],
            }
        )
    return shown


def packet_filter(found: Survey, present: bool) -> bool:
    """Whether the table of nf_tables will be there; the step that takes is added to the survey."""
    there = barrier.is_whole()
    if present and not there:
        why = barrier.why_not()
        if why:
            found.warnings.append(
                f"{why}. Only sysctls isolate tenants here: a datagram from 0.0.0.0 to a broadcast address still reaches the host"
            )
            return False
        found.steps.append(Step("filter", barrier.TABLE, None, "present"))
    elif not present and there:
        found.steps.append(Step("filter", barrier.TABLE, "present", None))
    return present


#: More than a host has memory for: an entry takes half a kilobyte.
MOST_NEIGHBOURS = 2**24


def main() -> None:
    drivers = list(_host.DRIVERS)
    module = BaseModule(
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
    filtered = os.geteuid() == 0 and packet_filter(found, wanted.present)
    if not 0 <= wanted.neighbours <= MOST_NEIGHBOURS:
        what = f"{str(wanted.neighbours)[:20]} is not between 0 and {MOST_NEIGHBOURS}"
        found.problems.append(Problem("neighbours", what, "give 16384, or 0 to leave the tables alone"))
    if found.steps and os.geteuid() != 0:
        found.problems.append(Problem("", "only root can prepare a host", "run the task with become: true"))
    if found.problems:
        module.fail_json(**_result.refusal(found.problems))
    if not wanted.present and os.geteuid() == 0:
        found.warnings += filter(None, [remaining.warning(DEFAULT_STATE_DIR)])
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
        result["packet_filter"] = filtered
        result["packages_missing"] = missing
        result["packages_installed"] = []
    if module._diff:
        result["diff"] = diff(found)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
