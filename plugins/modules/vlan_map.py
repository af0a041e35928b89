#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_map
short_description: Converge a whole host in one transaction
version_added: "1.0.0"
description:
  - Makes any number of sub-interfaces, networks, endpoints and routes what NetOps' table says, in one transaction. All of it is done,
    or the host is as it was.
  - A full trunk, 4094 VLANs with a network each, is one task.
  - Every row is checked before anything is touched, and everything that is wrong is told at once, each by its place such as
    C(networks[3].subnets[0].gateway).
options:
  name:
    description: The owner of what is declared. Two maps on one host need two names; what one owns, the other cannot change.
    type: str
    required: true
  trunks:
    description:
      - Logical names to NICs, so that one set of rows fits hosts whose NICs are called otherwise. A row's C(parent) may then be C(uplink.50).
      - A NIC is a name, or C(match) with one of C(mac) (the permanent one), C(pci) (such as C(0000:03:00.0)) and C(altname).
    type: dict
  links:
    description: Rows with the options of M(netops.underlay.vlan_link), without C(state).
    type: list
    elements: dict
  networks:
    description: Rows with the options of M(netops.underlay.vlan_network), without C(state).
    type: list
    elements: dict
  endpoints:
    description: Rows with the options of M(netops.underlay.vlan_endpoint), without C(state).
    type: list
    elements: dict
  routes:
    description: Rows with the options of M(netops.underlay.ipvlan_l3_routes), without C(state).
    type: list
    elements: dict
  purge:
    description: Whether what this owner declared once, and does not any more, is removed.
    type: bool
    default: false
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_info
  - ref: netops.underlay.trunk role <ansible_collections.netops.underlay.trunk_role>
    description: The role that gives rows of the inventory to this module.
"""

EXAMPLES = r"""
# Before:
#   # ip -br link
#   eth1  DOWN

- name: NetOps' table
  netops.underlay.vlan_map:
    name: rack1
    purge: true
    trunks:
      uplink: eth1
    networks:
      - {name: vlan10, driver: macvlan, parent: uplink.10, subnets: [{subnet: 172.16.80.0/24, gateway: 172.16.80.1}]}
      - {name: vlan20, driver: macvlan, parent: uplink.20, subnets: [{subnet: 172.16.48.0/22, gateway: 172.16.50.1}]}
      - {name: vlan30, driver: ipvlan, parent: uplink.30, subnets: [{subnet: 10.1.0.0/16, gateway: 10.1.100.1}]}
    endpoints:
      - {network: vlan10, name: shop, netns: shop}

# After:
#   # ip -br link
#   eth1          UP
#   eth1.10@eth1  UP
#   eth1.20@eth1  UP
#   eth1.30@eth1  UP
#   # ip -n shop -br address show eth0
#   eth0  UP  172.16.80.2/24

- name: One VLAN less; the rest stays untouched
  netops.underlay.vlan_map:
    name: rack1
    purge: true
    trunks:
      uplink: eth1
    networks:
      - {name: vlan10, driver: macvlan, parent: uplink.10, subnets: [{subnet: 172.16.80.0/24, gateway: 172.16.80.1}]}
      - {name: vlan20, driver: macvlan, parent: uplink.20, subnets: [{subnet: 172.16.48.0/22, gateway: 172.16.50.1}]}
    endpoints:
      - {network: vlan10, name: shop, netns: shop}

- name: Everything of this owner away
  netops.underlay.vlan_map:
    name: rack1
    purge: true
"""

RETURN = r"""
links:
  description: The sub-interfaces of O(links), by name, as M(netops.underlay.vlan_link) returns each.
  returned: success, and where the result stays under 300 kB
  type: dict
  sample: {}
networks:
  description: The networks, by name, as M(netops.underlay.vlan_network) returns each.
  returned: success, and where the result stays under 300 kB
  type: dict
  sample:
    vlan10:
      name: vlan10
      driver: macvlan
      mode: bridge
      flag: null
      parent: eth1.10
      internal: false
      mtu: null
      subnets: [{subnet: 172.16.80.0/24, gateway: 172.16.80.1, ip_range: null, aux_addresses: {}}]
      interface: null
      addresses: []
      labels: {}
      owner: map:rack1
endpoints:
  description: The endpoints, by network and name, as M(netops.underlay.vlan_endpoint) returns each.
  returned: success, and where the result stays under 300 kB
  type: dict
  sample:
    vlan10/shop:
      network: vlan10
      name: shop
      workload: netns:shop
      interface: eth0
      addresses: [172.16.80.2/24]
      mac: "92:1d:6f:3c:50:0e"
      gateway: {ipv4: 172.16.80.1, ipv6: null}
      parent: eth1.10
      owner: map:rack1
routes:
  description: The sets of routes, by name.
  returned: success, and where the result stays under 300 kB
  type: dict
  sample: {}
left_out:
  description: What would have made the result larger than 300 kB; M(netops.underlay.vlan_info) reads it back.
  returned: when something was left out
  type: list
  elements: str
  sample: [networks]
plan:
  description: What was changed, or in check mode what would be.
  returned: success
  type: dict
  contains:
    counts:
      description: How many changes there are of each kind and verb.
      type: dict
      sample: {"link": {"create": 4, "change": 2}, "network": {"create": 3}, "endpoint": {"create": 1}}
    total:
      description: How many changes there are.
      type: int
      sample: 10
    first:
      description: The first of them, a line each.
      type: list
      elements: str
      sample: ["create link eth1.10: VLAN 10 of eth1"]
    plan_file:
      description: A file on the host with all of them; none in check mode, and where nothing changed.
      type: str
      sample: /var/lib/netops-underlay/last-plan.json
persistent:
  description: Whether a reboot keeps what was made. The service that the role P(netops.underlay.prepare#role) installs restores it.
  returned: success
  type: bool
transaction:
  description: The number of this change among those of the host; none where nothing changed.
  returned: success
  type: int
  sample: 7
problems:
  description:
    - Everything that speaks against the task, each with its cure. Nothing was touched.
    - Of thousands as many as a result has room for; the last line of the message then says how many more there are.
  returned: when the input is refused
  type: list
  elements: dict
  contains:
    path:
      description: The option.
      type: str
      sample: networks[3].subnets[0].gateway
    what:
      description: What is wrong.
      type: str
      sample: 172.16.81.1 is not inside 172.16.80.0/24
    cure:
      description: What to do about it.
      type: str
      sample: "give an address of 172.16.80.0/24, or none"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine import describe, model
from ..module_utils._engine.converge import Outcome


def _tell(outcome: Outcome) -> Dict[str, Any]:
    world, items = outcome.world, outcome.items
    return {
        "links": {key: describe.vlan(key, spec, world) for key, spec in items["vlan"].items()},
        "networks": {key: describe.network(key, spec, world) for key, spec in items["network"].items()},
        "endpoints": {key: describe.endpoint(spec, outcome.networks, world) for key, spec in items["endpoint"].items()},
        "routes": {key: describe.routes(key, spec) for key, spec in items["routes"].items()},
    }


def main() -> None:
    options = {**_argspec.common(), **_argspec.change(), **_argspec.vlan_map()}
    _module.Module(options, lambda params: model.declare_map(_module.map_of(params))).converge(_tell)


if __name__ == "__main__":
    main()
