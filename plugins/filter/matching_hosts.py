# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: matching_hosts
short_description: Refuse a pattern of hosts that matches none
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Returns the pattern as it is, and fails if no host of the inventory matches it. Ansible itself warns of such a pattern, runs the play
    on no host, and reports success.
  - An inventory without hosts has nothing to match. There the pattern is always returned.
positional: _groups
options:
  _input:
    description: The pattern, as in C(hosts) of a play.
    type: raw
    required: true
  _groups:
    description: The variable C(groups) of Ansible.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the pattern of a play, which fails if it matches no host
  ansible.builtin.debug:
    msg: "{{ underlay_hosts | default('all') | netops.underlay.matching_hosts(groups) }}"
"""

RETURN = r"""
_value:
  description: The pattern.
  type: raw
"""

from typing import Any, Callable, Dict, List

from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader


def matching_hosts(pattern: Any, groups: Dict[str, List[str]]) -> Any:
    if not groups.get("all") or (isinstance(pattern, str) and groups.get(pattern)):
        return pattern
    manager = InventoryManager(DataLoader(), parse=False)
    for group, hosts in groups.items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    if not manager.get_hosts(pattern):
        raise AnsibleFilterError(
            f"no host matches {pattern}: give underlay_hosts, or canary_hosts of the playbook canary, a pattern that matches hosts of the inventory"
        )
    return pattern


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"matching_hosts": matching_hosts}
