# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_html."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: report_html
short_description: The report as one HTML page
version_added: "1.0.0"
author: netops.underlay contributors (@netops)
description:
  - The page needs no other file and no server. It loads and sends nothing, as its Content-Security-Policy enforces.
  - It shows the topology, what needs attention, and tables of hosts, VLANs, networks, pools, leases and routes that can be sorted and
    filtered.
  - At 500 hosts with the same 4,094 VLANs and 10,000 endpoints the page has 4 MB and opens within a second.
options:
  _input:
    description: The result of P(netops.underlay.report#filter).
    type: dict
    required: true
seealso:
  - plugin: netops.underlay.report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read this host back
  netops.underlay.vlan_info:
  register: underlay

- name: Write the report
  ansible.builtin.copy:
    dest: /var/tmp/underlay.html
    mode: "0644"
    content: "{{ {inventory_hostname: underlay} | netops.underlay.report('This host') | netops.underlay.report_html }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._report.document import FORMAT
from ..plugin_utils._report.page import page


def report_html(data: Mapping[str, Any]) -> str:
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise AnsibleFilterError("report_html: give what the filter netops.underlay.report of this version returns")
    return page(data)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"report_html": report_html}
