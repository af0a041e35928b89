# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module that changes the wire has: one to one with ``module_utils/_argspec.py: change()``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  adopt:
    description:
      - Whether to take over what this collection did not create, or what belongs to another owner. A link that would have to be
        recreated, such as one on another parent, is refused.
      - If the registry was lost, this takes back every link that has the mark of this collection.
    type: bool
    default: false
  managed_from:
    description:
      - The addresses from which this host is managed. No route or address that diverts traffic to them is ever created.
      - Detected from the task's SSH connection, also with C(become) and through jump hosts. A task with C(async), or over another
        connection than OpenSSH, needs this option or O(guard_timeout) to change addresses and routes of the host. An empty list means that
        the host is reached without a network, as with the connection P(ansible.builtin.local#connection).
    type: list
    elements: str
  dhcp_timeout:
    description:
      - How many seconds the task waits for the leases of DHCP servers that its endpoints ask for, all of them together. If one does not come,
        the task fails, and the host is as before.
      - V(0) does not wait. The DHCP client of M(netops.underlay.vlan_service) then asks on until a server answers.
    type: int
    default: 30
  guard_timeout:
    description:
      - Commit confirmed. Seconds within which the change must be confirmed; otherwise the host reverts all of it.
      - The same task confirms it, over a new connection. So a change that cuts off the controller is reverted, even if the controller dies.
      - V(0) disables the guard. Needs the copy of the engine that M(netops.underlay.vlan_service) installs. Not possible with C(async).
      - Another run on the host waits for the confirmation, up to O(lock_timeout). A reboot reverts an unconfirmed change.
    type: int
    default: 0
  guard_probe:
    description:
      - Additional checks that must pass before the change is confirmed. If one fails, the change is reverted at once.
    type: dict
    suboptions:
      ping:
        description: Addresses that must answer a ping.
        type: list
        elements: str
      url:
        description: HTTP URLs that must answer with a status below 400.
        type: list
        elements: str
      endpoint:
        description: Endpoint to probe from, as C(network/name). Defaults to the host itself.
        type: str
"""
