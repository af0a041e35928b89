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
  - Converges any number of sub-interfaces, networks, endpoints and routes on the network team's table, in one transaction. Either all of it
    is applied, or the host stays as it was.
  - A full trunk, 4094 VLANs with a network each, is one task.
  - Every row is checked before anything is touched. All errors are reported together, each with its location, such as
    C(networks[3].subnets[0].gateway), and a fix.
options:
  name:
    description: The owner of what is declared. Two maps on one host need two owners; neither can change what the other owns.
    type: str
    required: true
  trunks:
    description:
      - Maps logical names to NICs, so that the same rows work on hosts with different NIC names. A row's C(parent) can then be
        C(uplink.50).
      - A NIC is given by name, or by C(match) with one of C(mac) (the permanent one), C(pci) (such as C(0000:03:00.0)) and C(altname).
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
  src:
    description:
      - A YAML or JSON file on the controller with the rows, a mapping of O(trunks), O(links), O(networks), O(endpoints) and O(routes). It
        can be vaulted, and is searched for like O(ansible.builtin.copy#module:src) of M(ansible.builtin.copy).
      - Much faster than variables for thousands of rows, because the file is not templated.
    type: path
  inventory_map:
    description:
      - Whether to use the networks and endpoints of this host from the inventory's map, P(netops.underlay.netops_map#inventory), in
        addition to those of the task.
      - Fails if the map was not read or has faults, or if the ledger lacks an entry for this host.
    type: bool
    default: false
  purge:
    description:
      - Whether to remove what this owner declared and no longer lists.
      - At least one of O(links), O(networks), O(endpoints) and O(routes) must be given, in the task, by O(src) or by O(inventory_map). A
        kind that is not given is left alone; an empty list removes everything of that kind.
    type: bool
    default: false
  purge_limit:
    description:
      - The most networks, and the most endpoints, that O(purge) may remove. A run that would remove more fails before it changes anything,
        and lists them.
      - A number, or a percentage of what the owner has. With a percentage, 5 are always allowed. V(100%) disables the limit.
    type: str
    default: 20%
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_info
  - ref: netops.underlay.trunk role <ansible_collections.netops.underlay.trunk_role>
    description: The role that passes rows of the inventory to this module.
"""

EXAMPLES = r"""
# Before:
#   # ip -br link
#   eth1  DOWN

- name: The network team's table
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

- name: Remove everything of this owner
  netops.underlay.vlan_map:
    name: rack1
    purge: true
    purge_limit: 100%
    networks: []
    endpoints: []

# Thousands of rows, from a file beside the playbook with the keys networks: and endpoints:, which can be vaulted:
#
# - name: The rows of this rack
#   netops.underlay.vlan_map:
#     name: rack1
#     src: rack1.yml
"""

RETURN = r"""
links:
  description: The sub-interfaces of O(links), by name, as M(netops.underlay.vlan_link) returns each.
  returned: success, if the result stays below 300 kB
  type: dict
  sample: {}
networks:
  description: The networks, by name, as M(netops.underlay.vlan_network) returns each.
  returned: success, if the result stays below 300 kB
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
  returned: success, if the result stays below 300 kB
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
  returned: success, if the result stays below 300 kB
  type: dict
  sample: {}
undeclared:
  description: What this owner declared and no longer lists; removed with O(purge), left in place without it.
  returned: success
  type: dict
  sample: {"network": {"undeclared": 1, "removed": 0, "of": 40, "first": ["vlan30"]}}
leaving:
  description: The addresses that endpoints give up, by network, each with its endpoint; in check mode those that a run would give up.
  returned: success, if the result stays below 300 kB
  type: dict
  sample: {"vlan10": {"172.16.80.2": "shop"}}
arriving:
  description: The addresses that endpoints take, as RV(leaving).
  returned: success, if the result stays below 300 kB
  type: dict
  sample: {"vlan10": {"172.16.80.9": "db"}}
staying:
  description: The addresses of endpoints that this owner no longer lists and that stay without O(purge), as RV(leaving).
  returned: success, if the result stays below 300 kB
  type: dict
  sample: {"vlan30": {"172.16.30.2": "old"}}
machine:
  description: A digest of the machine-id and the name that the MACs of this host are made from. Two hosts with the same are clones.
  returned: success
  type: str
  sample: 5d1f0d6c2c8f4b7e
left_out:
  description: Keys that were omitted because results are limited to 300 kB. M(netops.underlay.vlan_info) reads them back.
  returned: when something was left out
  type: list
  elements: str
  sample: [networks]
plan:
  description: What was changed, or in check mode would be.
  returned: success
  type: dict
  contains:
    counts:
      description: The number of changes by kind and verb.
      type: dict
      sample: {"link": {"create": 4, "change": 2}, "network": {"create": 3}, "endpoint": {"create": 1}}
    total:
      description: The number of changes.
      type: int
      sample: 10
    first:
      description: The first changes, one line each.
      type: list
      elements: str
      sample: ["create link eth1.10: VLAN 10 of eth1"]
    plan_file:
      description: A file on the host with all changes; none in check mode, or if nothing changed.
      type: str
      sample: /var/lib/netops-underlay/last-plan.json
persistent:
  description: Whether the configuration survives a reboot. The service that the role P(netops.underlay.prepare#role) installs restores it.
  returned: success
  type: bool
transaction:
  description: The number of this transaction on the host; none if nothing changed.
  returned: success
  type: int
  sample: 7
problems:
  description:
    - All errors of the input, each with its fix. Nothing was changed.
    - Results are limited to 300 kB; the last line of the message says how many errors were omitted.
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
      description: How to fix it.
      type: str
      sample: "give an address of 172.16.80.0/24, or none"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine.declare import model
from ..module_utils._engine.report import describe
from ..module_utils._engine.run.converge import Outcome


def _tell(outcome: Outcome) -> Dict[str, Any]:
    observed, items = outcome.observed, outcome.items
    return {
        "links": {key: describe.vlan(key, spec, observed) for key, spec in items["vlan"].items()},
        "networks": {key: describe.network(key, spec, observed) for key, spec in items["network"].items()},
        "endpoints": {
            key: describe.endpoint(spec, outcome.networks, observed) for key, spec in items["endpoint"].items()
        },
        "routes": {key: describe.routes(key, spec) for key, spec in items["routes"].items()},
        **describe.moving(outcome.changes),
        "staying": outcome.staying,
        "machine": outcome.machine,
    }


def main() -> None:
    options = {**_argspec.common(), **_argspec.change(), **_argspec.vlan_map()}
    _module.Module(options, lambda params: model.declare_map(_module.map_of(params))).converge(_tell)


if __name__ == "__main__":
    main()
