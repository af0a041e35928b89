#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_info
short_description: Read back what this collection made on a host
version_added: "1.0.0"
description:
  - Reports, from the registry and the kernel, the sub-interfaces, networks, endpoints and routes, who holds which address, what has
    drifted, and which links a lost registry left behind.
  - It changes nothing and does not wait for other runs.
options:
  gather_subset:
    description: What to report.
    type: list
    elements: str
    choices: [all, links, networks, endpoints, routes, drift, adoptable, transactions]
    default: [all]
  name:
    description: Only objects with one of these names, and what belongs to networks with one of them.
    type: list
    elements: str
  dest:
    description:
      - A file on the controller, relative to the playbook, to write the whole result to as JSON, also in check mode. Directories are
        created.
      - The task's result then has only O(dest) and the number of objects of each kind, whatever the size of the host.
    type: str
extends_documentation_fragment:
  - netops.underlay.common
attributes:
  action:
    support: full
    description: Cuts a result that is too large, and writes O(dest), on the controller.
  check_mode:
    support: full
    description: It never changes anything on the host.
  diff_mode:
    support: N/A
    description: It never changes anything.
  idempotent:
    support: N/A
    description: It never changes anything.
  platform:
    support: full
    platforms: Linux
    description: Links, addresses and routes are read through rtnetlink.
"""

EXAMPLES = r"""
- name: Everything
  netops.underlay.vlan_info:
  register: underlay

- name: Show who holds which address in one network
  netops.underlay.vlan_info:
    gather_subset: [endpoints]
    name: [macvlan50]

- name: Fail if the host has drifted
  netops.underlay.vlan_info:
    gather_subset: [drift]
  register: found
  failed_when: found.drift | length > 0

- name: Save everything of a host with thousands of networks, which exceeds the limit of a result
  netops.underlay.vlan_info:
    dest: "underlay/{{ inventory_hostname }}.json"
"""

RETURN = r"""
links:
  description: The declared sub-interfaces, as M(netops.underlay.vlan_link) returns each.
  returned: when asked for
  type: list
  elements: dict
  sample: []
networks:
  description:
    - The networks, as M(netops.underlay.vlan_network) returns each, with their trunk and VLAN, the names of their endpoints and the usage
      of each pool.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - name: macvlan50
      driver: macvlan
      mode: bridge
      flag: null
      parent: eth0.50
      internal: false
      mtu: null
      subnets: [{subnet: 192.168.50.0/24, gateway: 192.168.50.1, ip_range: null, aux_addresses: {}}]
      interface: null
      addresses: []
      labels: {}
      owner: task
      trunk: eth0
      vlan_id: 50
      endpoints: [shop]
      pools: [{pool: 192.168.50.0/24, used: 1, free: 252}]
endpoints:
  description: The endpoints, as M(netops.underlay.vlan_endpoint) returns each, and whether each is attached now. Those that are not keep
    their leases.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - network: macvlan50
      name: shop
      workload: netns:shop
      interface: eth0
      addresses: [192.168.50.2/24]
      mac: "92:1d:6f:3c:50:0e"
      gateway: {ipv4: 192.168.50.1, ipv6: null}
      parent: eth0.50
      owner: task
      alive: true
routes:
  description: The sets of routes.
  returned: when asked for
  type: list
  elements: dict
  sample: []
drift:
  description: What has drifted, as the changes that would repair it.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - object: link eth0.50
      of: parent
      verb: change
      before: {netns: "", name: eth0.50, up: false}
      after: {netns: "", name: eth0.50, up: true}
adoptable:
  description: Links with the mark of this collection that are in no registry. A task with O(netops.underlay.vlan_map#module:adopt) takes
    them back.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - namespace: the host
      interface: eth0.50
      kind: vlan
transactions:
  description: The last transactions of this host, newest first.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - number: 7
      state: applied
      time: "2026-11-24T12:00:00Z"
      who: alice, Ansible
      owner: map:rack1
dest:
  description: The file on the controller with the whole result.
  returned: with O(dest)
  type: str
  sample: /srv/plays/underlay/node1.json
counts:
  description: The number of objects of each kind.
  returned: with O(dest)
  type: dict
  sample: {links: 0, networks: 4094, endpoints: 12, routes: 0, drift: 0, adoptable: 0, transactions: 20}
left_out:
  description:
    - Keys that were omitted because results are limited to 300 kB.
    - Use O(dest) to get everything, or O(name) and O(gather_subset) to get a part.
  returned: when something was omitted
  type: list
  elements: str
  sample: [networks]
"""

from ..module_utils import _argspec, _result
from ..module_utils._base import BaseModule
from ..module_utils._engine.core.errors import UnderlayError
from ..module_utils._engine.report import describe


def main() -> None:
    module = BaseModule(argument_spec={**_argspec.common(), **_argspec.vlan_info()}, supports_check_mode=True)
    problems = module.common_problems()
    if problems:
        module.fail_json(**_result.refusal(problems))
    asked = module.params["gather_subset"]
    subsets = describe.SUBSETS if "all" in asked else asked
    try:
        found = describe.host(module.params["state_dir"], subsets, module.params["name"] or ())
    except UnderlayError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
