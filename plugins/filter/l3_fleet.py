# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter l3_fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: l3_fleet
short_description: The L3 prefixes and underlay addresses of every host
version_added: "1.0.0"
author: netops.underlay contributors (@netops)
description:
  - Collects the L3 networks of each host, and the addresses of their parents, from its variables.
  - It reads the rows of the inventory's map, C(trunk_networks), C(trunk_links), C(trunk_nics), C(trunk_state), C(l3_routing_underlay), C(l3_routing_vrfs),
    C(l3_routing_mode) and C(l3_routing_state) from the inventory, and no facts, so that a run with C(--limit) knows the other hosts too.
positional: _hosts
options:
  _input:
    description: The variable C(hostvars).
    type: dict
    required: true
  _hosts:
    description: The hosts of the mesh.
    type: list
    elements: str
    required: true
seealso:
  - plugin: netops.underlay.l3_mesh
    plugin_type: filter
"""

EXAMPLES = r"""
# host_vars/node1.yml:
#   l3_routing_underlay: {eth1: [192.0.2.11/24]}
#   trunk_networks:
#     - {name: red, driver: ipvlan, mode: l3, parent: eth1, subnets: [{subnet: 10.200.1.0/26}]}

- name: Show who has what
  ansible.builtin.debug:
    msg: "{{ hostvars | netops.underlay.l3_fleet(groups.rack) }}"

# node1:
#   mode: static
#   prefixes: [{prefix: 10.200.1.0/26, network: red, parent: eth1, vrf: '', host_access: false}]
#   underlay: {eth1: [192.0.2.11/24]}
#   vrfs: {}
#   elsewhere: []
"""

RETURN = r"""
_value:
  description: For each host its C(mode), its C(prefixes) with the network, parent and VRF of each, its C(underlay) addresses by parent, and
    the C(vrfs) of its parents. C(elsewhere) lists hosts that are in the ledger but not in this inventory, such as those of another job
    slice.
  type: dict
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils import _l3


def l3_fleet(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, Any]:
    try:
        names = [str(host) for host in hosts]
        absent = _l3.elsewhere(hostvars[names[0]], hostvars) if names else []
        return {host: {**_l3.of_host(host, hostvars[host]), "elsewhere": absent} for host in names}
    except _l3.MeshError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"l3_fleet": l3_fleet}
