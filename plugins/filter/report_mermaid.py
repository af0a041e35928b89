# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_mermaid."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: report_mermaid
short_description: The topology of a report as a Mermaid chart
version_added: "1.0.0"
author: netops.underlay contributors (@netops)
description:
  - For merge requests and wikis, which render such charts in a C(mermaid) code block.
  - Renderers have limits. Beyond 150 boxes only the number of the rest is shown; boxes with errors come first.
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
    dest: /var/tmp/underlay.mmd
    mode: "0644"
    content: "{{ {inventory_hostname: underlay} | netops.underlay.report('This host') | netops.underlay.report_mermaid }}"
"""

RETURN = r"""
_value:
  description: The chart, without the code block around it.
  type: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._report.document import FORMAT
from ..plugin_utils._report.mermaid import mermaid


def report_mermaid(data: Mapping[str, Any]) -> str:
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise AnsibleFilterError("report_mermaid: give what the filter netops.underlay.report of this version returns")
    return mermaid(data)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"report_mermaid": report_mermaid}
