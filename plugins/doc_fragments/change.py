# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module that changes the wire has: one to one with ``module_utils/_argspec.py: change()``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  _foretold:
    description:
      - What earlier tasks of the same check run would have changed on the host. The action plugin of this collection sets it, so that a
        check run knows of a network that an earlier task would make. Leave it out.
    type: str
  _who:
    description:
      - Who wants the change, for the record that the host keeps of it. The action plugin of this collection sets it where AWX tells the user
        and the job. Leave it out.
    type: str
  adopt:
    description:
      - Whether to take over what exists and was not made by this collection, or what belongs to another owner.
      - After the registry was lost, a run with it takes back every link that bears the mark of this collection.
    type: bool
    default: false
  managed_from:
    description:
      - The addresses from which this host is managed. No route or address that takes the path there is ever set up.
      - Those of the SSH connection of the task are found by themselves, also with C(become) and through jump hosts. A task with C(async), and
        one that came by something else than OpenSSH, is told them here, or guarded by O(guard_timeout); else it changes no address and no
        route of the host. An empty list says that no network is needed to reach it, which the connection P(ansible.builtin.local#connection)
        implies.
    type: list
    elements: str
  guard_timeout:
    description:
      - Within how many seconds a change has to be confirmed. Where it is not, the host undoes all of it by itself.
      - The same task confirms it, over a new connection. So a change that cuts the controller off is undone, also when the
        controller dies.
      - V(0) is no guard. It needs the copy of the engine that M(netops.underlay.vlan_service) installs, and no C(async).
      - A second run on the host waits for it, as long as O(lock_timeout) says, and a reboot undoes what was not confirmed.
    type: int
    default: 0
  guard_probe:
    description:
      - What has to be reached besides before the change is confirmed. Where it is not, the change is undone at once.
    type: dict
    suboptions:
      ping:
        description: Addresses that have to answer.
        type: list
        elements: str
      url:
        description: URLs of HTTP that have to answer with a status below 400.
        type: list
        elements: str
      endpoint:
        description: The endpoint that asks, as C(network/name). The host does without it.
        type: str
"""
