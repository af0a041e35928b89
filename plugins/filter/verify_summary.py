# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_summary
short_description: Summarize the verification of a fleet
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Combines the results of M(netops.underlay.vlan_verify) on many hosts, with one line for each finding.
options:
  _input:
    description: Maps each host to the result of its task, or to nothing if it did not run.
    type: dict
    required: true
seealso:
  - module: netops.underlay.vlan_verify
"""

EXAMPLES = r"""
- name: All hosts of the play
  ansible.builtin.debug:
    msg: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='verify_result', default={})))
      | netops.underlay.verify_summary }}"
"""

RETURN = r"""
_value:
  description: C(good) and C(bad) are lists of hosts, C(proved) is the number of networks that were verified, C(text) is a list of lines to
    show.
  type: dict
"""

from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError

from ..plugin_utils._fleet import summary


def verify_summary(value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise AnsibleFilterError("verify_summary takes a dictionary of hosts, each with the result of vlan_verify")
    return summary.verification(value)


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"verify_summary": verify_summary}
