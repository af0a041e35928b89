# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: map_rows
short_description: The rows of the map that apply to a host
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Returns the rows of the inventory's map that apply to the current host, with its slices and addresses from the ledger.
  - The roles do not need it, because O(netops.underlay.vlan_map#module:inventory_map) uses the same rows. Use it to show the rows, or in
    other tasks.
options:
  _terms:
    description:
      - V(networks) for rows of M(netops.underlay.vlan_network), V(endpoints) for rows of M(netops.underlay.vlan_endpoint) with their
        addresses, V(all) for every row of the map, for any host, V(moved) for the addresses that hosts had before, by the ledger.
    type: list
    elements: str
    choices: [networks, endpoints, all, moved]
    required: true
notes:
  - Fails, naming the entries, if the ledger lacks any that the host needs.
seealso:
  - plugin: netops.underlay.netops_map
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: The networks of this host, from the map and the ledger
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

from ..plugin_utils._fleet import packed, view


class LookupModule(LookupBase):
    def run(self, terms: List[Any], variables: Optional[Dict[str, Any]] = None, **kwargs: Any) -> List[Any]:
        known = variables or {}
        self.set_options(var_options=known, direct=kwargs)
        found: List[Any] = []
        for what in terms:
            try:
                found += self._rows(str(what), known)
            except packed.MapError as error:
                raise AnsibleLookupError(str(error)) from None
        return found

    def _rows(self, what: str, known: Dict[str, Any]) -> List[Any]:
        if what == "networks":
            return view.networks(known)
        if what == "endpoints":
            own = self._templar.template(known.get(packed.ENDPOINTS)) or []
            return view.endpoints(known, own if isinstance(own, list) else [own])
        if what == "all":
            return [row for loaded in packed.maps_for(known) for row in loaded["rows"]]
        if what == "moved":
            return view.moved(known)
        raise AnsibleLookupError(f"{what!r} is not a choice; give networks, endpoints, all or moved")
