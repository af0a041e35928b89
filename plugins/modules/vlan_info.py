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
  - Tells from the registry and from the kernel which sub-interfaces, networks, endpoints and routes there are, who holds which
    address, what the kernel has otherwise than it was made, and which links a lost registry left behind.
  - It changes nothing and waits for nobody.
options:
  gather_subset:
    description: What to tell.
    type: list
    elements: str
    choices: [all, links, networks, endpoints, routes, drift, adoptable, transactions]
    default: [all]
  name:
    description: Only what has one of these names, or belongs to a network that has.
    type: list
    elements: str
  dest:
    description:
      - A file on the controller, relative to the playbook, that all of it is written to as JSON, also in check mode. Directories are made.
      - Then the result has O(dest) and how many of each there are, and nothing else, however large the host.
    type: str
extends_documentation_fragment:
  - netops.underlay.common
attributes:
  action:
    support: full
    description: A result that is too large is cut, and O(dest) is written, on the controller.
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

- name: Who holds which address in one network
  netops.underlay.vlan_info:
    gather_subset: [endpoints]
    name: [macvlan50]

- name: Is the host as it was made?
  netops.underlay.vlan_info:
    gather_subset: [drift]
  register: found
  failed_when: found.drift | length > 0

- name: Keep all of a host with thousands of networks, which is more than a result holds
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
    - The networks, as M(netops.underlay.vlan_network) returns each, with the trunk and the VLAN that carry each,
      the names of their endpoints and how much of each pool is used.
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
  description: The endpoints, as M(netops.underlay.vlan_endpoint) returns each, with whether each is there now. Leases of those that are not are kept.
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
  description: What the kernel has otherwise than it was made, as the changes that would mend it.
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
  description: Links that bear the mark of this collection and stand in no registry. A task with O(netops.underlay.vlan_map#module:adopt) takes them back.
  returned: when asked for
  type: list
  elements: dict
  sample:
    - namespace: the host
      interface: eth0.50
      kind: vlan
transactions:
  description: The last changes of this host, the newest first.
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
  description: Where on the controller all of it was written to.
  returned: with O(dest)
  type: str
  sample: /srv/plays/underlay/node1.json
counts:
  description: How many of each there are.
  returned: with O(dest)
  type: dict
  sample: {links: 0, networks: 4094, endpoints: 12, routes: 0, drift: 0, adoptable: 0, transactions: 20}
left_out:
  description:
    - What is not here because a result has at most 300 kB.
    - O(dest) gives all of it, O(name) and O(gather_subset) a part.
  returned: when something is
  type: list
  elements: str
  sample: [networks]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _argspec, _module
from ..module_utils._engine import describe


def main() -> None:
    module = AnsibleModule(argument_spec={**_argspec.common(), **_argspec.vlan_info()}, supports_check_mode=True)
    asked = module.params["gather_subset"]
    subsets = describe.SUBSETS if "all" in asked else asked
    try:
        found = describe.host(module.params["state_dir"], subsets, module.params["name"] or ())
    except _module.EXPECTED as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
