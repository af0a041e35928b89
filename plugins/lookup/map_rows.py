# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: map_rows
short_description: What a host takes of NetOps' map
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - The rows of the inventory's map that are for the present host, with the slices and addresses that the ledger gives it.
  - P(netops.underlay.netops_map#inventory) makes C(trunk_networks) and C(endpoints_list) of it, which is where you meet it.
options:
  _terms:
    description:
      - V(networks) for rows of M(netops.underlay.vlan_network), V(endpoints) for the rows of C(netops_endpoints) with their addresses.
    type: list
    elements: str
    choices: [networks, endpoints]
    required: true
notes:
  - It is an error, and names each entry, where the ledger lacks one that the host needs.
seealso:
  - plugin: netops.underlay.netops_map
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: The networks of this host, as the map and the ledger say
  ansible.builtin.debug:
    msg: "{{ query('netops.underlay.map_rows', 'networks') }}"
"""

RETURN = r"""
_raw:
  description: The rows.
  type: list
  elements: dict
"""

from typing import Any, Dict, List, Optional

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils._fleet import ledger, source


class LookupModule(LookupBase):
    def run(self, terms: List[Any], variables: Optional[Dict[str, Any]] = None, **kwargs: Any) -> List[Any]:
        known = variables or {}
        self.set_options(var_options=known, direct=kwargs)
        if known.get(source.FAULTS):
            raise AnsibleLookupError("the map has faults:\n" + "\n".join(known[source.FAULTS]))
        if source.ROWS not in known:
            raise AnsibleLookupError("this host has no map: say so in a file netops_map.yml of the inventory")
        rows, given = known[source.ROWS], known.get(source.LEDGER)
        host, groups = known["inventory_hostname"], known["group_names"]
        found: List[Any] = []
        for what in terms:
            if what == "networks":
                some, lacking = ledger.rows_for(rows, host, groups, given)
            elif what == "endpoints":
                endpoints = self._templar.template(known.get(source.ENDPOINTS, []))
                some, lacking = ledger.endpoints_for(rows, endpoints, host, groups, given)
            else:
                raise AnsibleLookupError(f"{what!r} is not a choice; give networks or endpoints")
            if lacking:
                raise AnsibleLookupError("the ledger lacks what this host needs; run netops.underlay.allocate:\n" + "\n".join(lacking))
            found += some
        return found
