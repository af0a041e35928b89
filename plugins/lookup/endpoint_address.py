# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: endpoint_address
short_description: The address of an endpoint, from the ledger
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Returns addresses of endpoints on any host of the fleet, for templates such as those of a load balancer or a firewall.
  - No host is contacted. The addresses come from the ledger of P(netops.underlay.netops_map#inventory), or from the endpoint's own row.
options:
  _terms:
    description: Endpoints, each as C(NETWORK/ENDPOINT) on the current host or as C(NETWORK/HOST/ENDPOINT) on any host.
    type: list
    elements: str
    required: true
  version:
    description: The IP version of the address. Defaults to IPv4 if the endpoint has an IPv4 address, else IPv6.
    type: int
    choices: [4, 6]
seealso:
  - plugin: netops.underlay.netops_map
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: The address of shop on node1
  ansible.builtin.debug:
    msg: "{{ lookup('netops.underlay.endpoint_address', 'web/node1/shop') }}"

- name: Its IPv6 address, and that of shop on this host
  ansible.builtin.debug:
    msg: "{{ query('netops.underlay.endpoint_address', 'web/node1/shop', 'web/shop', version=6) }}"
"""

RETURN = r"""
_raw:
  description: One address for each endpoint.
  type: list
  elements: str
"""

from typing import Any, Dict, List, Mapping, Optional

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils._engine.core.endpoint_specs import DHCP, SLAAC
from ..plugin_utils._fleet import packed, view


class LookupModule(LookupBase):
    def run(self, terms: List[Any], variables: Optional[Dict[str, Any]] = None, **kwargs: Any) -> List[Any]:
        known = variables or {}
        self.set_options(var_options=known, direct=kwargs)
        return [self._address(str(term), known, self.get_option("version")) for term in terms]

    def _address(self, term: str, known: Mapping[str, Any], version: Optional[int]) -> str:
        network, _rest, rest = term.partition("/")
        host, _rest, endpoint = rest.rpartition("/")
        host = host or known["inventory_hostname"]
        if not (network and endpoint):
            raise AnsibleLookupError(f"{term!r} is not an endpoint; write NETWORK/ENDPOINT or NETWORK/HOST/ENDPOINT")
        row = next(
            (
                row
                for row in self._rows(term, host, known)
                if (row.get("network"), row.get("name")) == (network, endpoint)
            ),
            {},
        )
        for wanted in (version,) if version else (4, 6):
            if row.get(f"ipv{wanted}_address") not in (None, "", SLAAC, DHCP):
                return str(row[f"ipv{wanted}_address"])
        for number, value, option in ((4, DHCP, "DHCP"), (6, SLAAC, "SLAAC"), (6, DHCP, "DHCP")):
            if row.get(f"ipv{number}_address") == value and version in (None, number):
                raise AnsibleLookupError(
                    f"endpoint {endpoint} of {host} has its IPv{number} address by {option}, which only its host knows; see netops.underlay.vlan_info there"
                )
        which = f"IPv{version} address" if version else "address"
        raise AnsibleLookupError(
            f"endpoint {endpoint} of {host} has no {which} in network {network}; run netops.underlay.allocate"
        )

    def _rows(self, term: str, host: str, known: Mapping[str, Any]) -> List[Mapping[str, Any]]:
        """The endpoints of a host, with what the ledger gives them by the map of today."""
        if host == known["inventory_hostname"]:
            there, own = known, self._templar.template(known.get(packed.ENDPOINTS)) or []
        elif host in known["hostvars"]:
            there = known["hostvars"][host]
            own = view.own_endpoints(there)
        else:
            raise AnsibleLookupError(f"{term}: there is no host {host} in the inventory")
        variables = {name: there[name] for name in (packed.VARIABLE, "group_names") if name in there}
        try:
            rows = view.endpoints(
                {**variables, "inventory_hostname": host}, own if isinstance(own, list) else [own], strict=False
            )
        except packed.MapError as error:
            raise AnsibleLookupError(f"{term}: {error}") from None
        return [row for row in rows if isinstance(row, Mapping)]
