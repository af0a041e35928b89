# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: report
short_description: The data of a fleet's report
version_added: "1.0.0"
author: netops.underlay contributors (@netops)
description:
  - Combines the results of M(netops.underlay.vlan_info) on many hosts. It merges rows that are the same on several hosts, finds addresses
    that two hosts hold in one VLAN, and counts the usage of each pool over all hosts that share it.
  - The result is the input of P(netops.underlay.report_html#filter) and P(netops.underlay.report_mermaid#filter), and the JSON form of the
    report.
positional: title
options:
  _input:
    description:
      - For each host, the registered result of M(netops.underlay.vlan_info), including hosts that were not reached.
      - If C(dest) was given, the data is read from that file.
    type: dict
    required: true
  title:
    description: The title of the report.
    type: str
    required: true
  made:
    description: When the report was made, as text.
    type: str
    default: ""
  plans:
    description: For each host, a list of results of this collection's modules. Those of check mode are the plan, those that failed are errors.
    type: dict
    default: {}
  verified:
    description: For each host, the result of M(netops.underlay.vlan_verify).
    type: dict
    default: {}
seealso:
  - module: netops.underlay.vlan_info
  - module: netops.underlay.vlan_verify
  - plugin: netops.underlay.report_html
    plugin_type: filter
  - plugin: netops.underlay.report_mermaid
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read this host back
  netops.underlay.vlan_info:
  register: underlay

- name: Write the report of this host as JSON
  ansible.builtin.copy:
    dest: /var/tmp/underlay.json
    mode: "0644"
    content: "{{ {inventory_hostname: underlay} | netops.underlay.report('This host') | ansible.builtin.to_json }}"
"""

RETURN = r"""
_value:
  description:
    - C(format), the number of this form, C(title) and C(made).
    - C(hosts), by whose positions every other row names its hosts, as C([first, last]) pairs or as the one C(host).
    - C(networks), C(links), C(leases), C(pools), C(routes), and, where they were given, C(plan) and C(checks).
    - C(findings), the worst first. Each has a C(level), which is C(error), C(drift) or C(warning), and a C(text).
  type: dict
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._report.document import document

Results = Mapping[str, Mapping[str, Any]]
Lists = Mapping[str, Sequence[Mapping[str, Any]]]


def report(
    found: Results, title: str, made: str = "", plans: Lists | None = None, verified: Results | None = None
) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise AnsibleFilterError("report: give a dict, host name to result of netops.underlay.vlan_info")
    for host, info in found.items():
        if not isinstance(info, Mapping) or not ({"unreachable", "failed", "networks", "dest"} & set(info)):
            raise AnsibleFilterError(
                f"report: the value of {host} is not a result of netops.underlay.vlan_info; register one with gather_subset: [all]"
            )
    try:
        return document(found, str(title), str(made), plans or {}, verified or {})
    except KeyError as error:
        raise AnsibleFilterError(
            f"report: a row has no {error}; give whole results of this collection's modules, of this version"
        ) from None


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"report": report}
