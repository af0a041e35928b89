#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: map_ledger
short_description: Allocate the slices and addresses of a fleet in its ledger
version_added: "1.0.0"
description:
  - Maintains the ledger of P(netops.underlay.netops_map#inventory), a text file that belongs in git beside the map. It runs on the
    controller and contacts no host; run it once for the whole fleet.
  - With O(state=present) every host gets a slice of each pool that has C(per_host), and every endpoint of C(netops_endpoints) the lowest
    address that is free in the fleet. Existing allocations never change when hosts and endpoints come and go.
  - With O(state=complete) nothing is written. It fails, reporting all errors together, if a map of the inventory was not loaded, an entry
    is missing, two endpoints request the same address, or the map or an endpoint has a fault.
  - The playbook C(netops.underlay.allocate) uses V(present), the playbooks that touch hosts use V(complete).
options:
  path:
    description:
      - The file, on the controller. Defaults to the ledger of the inventory.
      - A ledger in which a merge assigned something twice is refused, with the lines.
    type: path
  release:
    description:
      - What to release, each as V(NETWORK/HOST) for a slice or as V(NETWORK/HOST/ENDPOINT) for an address; V(gone) means everything that
        the map, the hosts and their endpoints no longer need.
      - What is still needed is not released.
      - The ledger remembers which hosts had an address before, because a host that is down still has it. V(settled) forgets that. Give it
        if every host was converged since the last allocation. V(gone) forgets it for hosts that the inventory no longer has.
    type: list
    elements: str
    default: []
  rename:
    description:
      - >-
        New names for hosts, such as C({node2: node9}), or for endpoints as NETWORK/HOST/ENDPOINT,
        such as C({web/node1/shop: web/node1/store}).
      - Two may exchange their names. A new name that is in use otherwise is refused.
      - Addresses do not change. A network that is renamed in the map keeps its addresses without this option if its subnets are the same.
    type: dict
    default: {}
  move:
    description:
      - Whether addresses and slices may move if the map no longer allows them to stay, because a subnet was renumbered, a slice has another
        size, or an address is now outside the ranges or reserved. An endpoint that moves to another host keeps its address.
      - Without it such a run fails and lists the moves. Check mode only lists them.
    type: bool
    default: false
  state:
    description: Whether to allocate what is missing, or to fail.
    type: str
    choices: [present, complete]
    default: present
attributes:
  action:
    support: full
    description: Runs on the controller, as an action.
  check_mode:
    support: full
    description: Reports what would be allocated, and writes nothing.
  diff_mode:
    support: full
    description: Shows the lines of the file.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: posix
    description: Hosts are not touched.
seealso:
  - plugin: netops.underlay.netops_map
    plugin_type: inventory
requirements:
  - netaddr on the controller
author:
  - netops.underlay contributors (@netops)
"""

EXAMPLES = r"""
# Before: node2 and its endpoint are new
#   # cat ledger.yml
#   version: 1
#   slices:
#     web:
#       172.16.80.0/26: node1
#   addresses:
#     web:
#       172.16.80.2: node1/shop

- name: Allocate what is missing, once for the fleet
  netops.underlay.map_ledger:
  run_once: true

# After:
#   # cat ledger.yml
#   version: 1
#   slices:
#     web:
#       172.16.80.0/26: node1
#       172.16.80.64/26: node2
#   addresses:
#     web:
#       172.16.80.2: node1/shop
#       172.16.80.64: node2/shop

- name: Release what is no longer needed, and the slice of one host
  netops.underlay.map_ledger:
    release: [gone, web/node7]
  run_once: true

# Before: every host and endpoint of the map is in the ledger

- name: Fail if something is missing
  netops.underlay.map_ledger:
    state: complete
  run_once: true

# After: nothing changed; hosts can be converged
"""

RETURN = r"""
given:
  description: New allocations.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["web/node1: 172.16.80.64/26", "web/node1/shop: 172.16.80.66"]
released:
  description: Released entries.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["web/node7"]
moved:
  description: Entries with another address, slice, host or name.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["app/node1/api: 10.0.11.2 becomes 10.9.11.2"]
outside:
  description: Entries outside the ranges, or in a slice of another size, because the map changed. They stay until O(move).
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["web/node3/shop: 172.16.80.250"]
stale:
  description: Entries that are no longer needed. They stay until they are released.
  returned: success
  type: list
  elements: str
  sample: ["web/node9/shop"]
left_out:
  description: Keys that were omitted because results are limited to 300 kB. The file has everything.
  returned: when something was omitted
  type: list
  elements: str
  sample: [given]
path:
  description: The file.
  returned: success and O(state=present)
  type: str
  sample: /srv/inventory/ledger.yml
"""
