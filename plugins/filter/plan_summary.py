# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_summary
short_description: Summarize the check run of a fleet
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Combines the results of the roles on many hosts. Hosts with the same changes share a line.
  - The risk is V(none), V(low) if there are only new objects, V(medium) if existing objects change, V(high) if objects are removed.
  - Says what would stop the playbook C(netops.underlay.site), such as an address that another host may still have.
positional: _moved, _lost
options:
  _input:
    description: Maps each host to a list of the results of its tasks, with nothing for tasks that did not run.
    type: dict
    required: true
  _moved:
    description: As O(netops.underlay.purge_summary#filter:_moved).
    type: list
    elements: dict
    default: []
  _lost:
    description: As O(netops.underlay.purge_summary#filter:_lost).
    type: list
    elements: str
    default: []
seealso:
  - module: netops.underlay.vlan_map
"""

EXAMPLES = r"""
- name: Two hosts
  ansible.builtin.debug:
    msg: "{{ {'node1': [trunk_result], 'node2': [{}]} | netops.underlay.plan_summary }}"
"""

RETURN = r"""
_value:
  description:
    - C(changed), C(unchanged) and C(failed) are lists of hosts, C(changes) is the total number of changes, C(risk) the highest risk of any
      host.
    - C(hosts) has the counts and the first changes of each host, C(text) is a list of lines to show.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError

from ..plugin_utils._fleet import summary


def plan_summary(value: Any, moved: Any = (), lost: Any = ()) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise AnsibleFilterError("plan_summary takes a dictionary of hosts, each with a list of results")
    return summary.plan(value, moved, summary.names(lost))


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"plan_summary": plan_summary}
