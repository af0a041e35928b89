# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: endpoint_address
short_description: The address that the ledger gives to an endpoint
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - The addresses of endpoints, of any host of the fleet, for templates such as those of a load balancer or a firewall.
  - Nothing is asked of a host. It is the ledger of P(netops.underlay.netops_map#inventory) that says so, or the endpoint's own row.
options:
  _terms:
    description: Endpoints, each as C(NETWORK/ENDPOINT) of the present host or as C(NETWORK/HOST/ENDPOINT) of any other.
    type: list
    elements: str
    required: true
  version:
    description: The IP version of the address. Without it, IPv4 where the endpoint has such an address, else IPv6.
    type: int
    choices: [4, 6]
seealso:
  - plugin: netops.underlay.netops_map
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Where the shop of node1 is
  ansible.builtin.debug:
    msg: "{{ lookup('netops.underlay.endpoint_address', 'web/node1/shop') }}"

- name: Its IPv6 address, and that of this host's own
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

from ..plugin_utils._fleet import source


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
            raise AnsibleLookupError(f"{term!r} is no endpoint; write NETWORK/ENDPOINT or NETWORK/HOST/ENDPOINT")
        variables = self._variables(term, host, known)
        given = variables.get(source.LEDGER) or {}
        found = list(given.get("addresses", {}).get(network, {}).get(host, {}).get(endpoint, []))
        for row in variables.get(source.ENDPOINTS) or []:
            if isinstance(row, Mapping) and (row.get("network"), row.get("name")) == (network, endpoint):
                found = [row[key] for key in ("ipv4_address", "ipv6_address") if row.get(key)] + found
        for wanted in (version,) if version else (4, 6):
            for address in found:
                if (":" in address) == (wanted == 6):
                    return str(address)
        which = f"IPv{version} address" if version else "address"
        raise AnsibleLookupError(f"endpoint {endpoint} of {host} has no {which} in network {network}; run netops.underlay.allocate")

    def _variables(self, term: str, host: str, known: Mapping[str, Any]) -> Mapping[str, Any]:
        if host == known["inventory_hostname"]:
            return {
                source.LEDGER: known.get(source.LEDGER),
                source.ENDPOINTS: self._templar.template(known.get(source.ENDPOINTS, [])),
            }
        if host not in known["hostvars"]:
            raise AnsibleLookupError(f"{term}: there is no host {host} in the inventory")
        there: Mapping[str, Any] = known["hostvars"][host]
        return there
