# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: purge_summary
short_description: Check a run against the purge limits of a fleet
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Combines C(undeclared) from check runs of M(netops.underlay.vlan_map) on many hosts, and compares it with two limits.
  - A limit is a number or a percentage. With a percentage, 5 are always allowed. V(100%) disables the limit.
  - Names what else stops a run - an address that another host may still have, and hosts that are clones of each other.
positional: _host_limit, _fleet_limit, _moved, _lost
options:
  _input:
    description: Maps each host to the result of its check run, or to nothing if it did not run.
    type: dict
    required: true
  _host_limit:
    description: The most networks, and the most endpoints, to remove from one host.
    type: str
    default: 20%
  _fleet_limit:
    description: The most to remove from all hosts together.
    type: str
    default: 10%
  _moved:
    description: The addresses that hosts had before, as V(moved) of P(netops.underlay.map_rows#lookup) returns them.
    type: list
    elements: dict
    default: []
  _lost:
    description: Hosts that are lost for good, or of which nothing is left.
    type: list
    elements: str
    default: []
seealso:
  - module: netops.underlay.vlan_map
"""

EXAMPLES = r"""
- name: A fleet of one
  ansible.builtin.debug:
    msg: "{{ {'node1': {'undeclared': {'network': {'undeclared': 9, 'removed': 9, 'of': 40, 'first': ['web']}}}} | netops.underlay.purge_summary('20%') }}"
"""

RETURN = r"""
_value:
  description:
    - C(beyond) is a list of lines, empty if no limit is exceeded. C(removed) is how many networks and endpoints would be removed.
    - C(stops) is C(beyond) and every other reason not to change any host. C(waiting) has for each host that may not be changed the reason.
    - C(handover) lists for each host the endpoints, as C(network) and C(name), whose addresses other hosts take. They have to leave first.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError

from ..plugin_utils._fleet import summary


def purge_summary(
    value: Any, host_limit: Any = "20%", fleet_limit: Any = "10%", moved: Any = (), lost: Any = ()
) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise AnsibleFilterError("purge_summary takes a dictionary of hosts, each with the result of vlan_map")
    try:
        return summary.purge(value, str(host_limit), str(fleet_limit), moved, summary.names(lost))
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"purge_summary": purge_summary}
