#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: map_ledger
short_description: Which slice belongs to which host of the fleet, and which address to which endpoint
version_added: "1.0.0"
description:
  - Keeps the ledger of P(netops.underlay.netops_map#inventory), a text file that belongs into git beside the map. It works on the controller
    and asks nothing of any host; run it once for the whole fleet.
  - With O(state=present) every host gets its slice of each pool that has C(per_host), and every endpoint of C(netops_endpoints) its address,
    the lowest that is free in the fleet. What is given stays as it is, however hosts and endpoints come and go.
  - With O(state=complete) nothing is written, and it is an error where an entry is missing, where two ask for one address, or where the map
    or an endpoint is wrong; everything is named at once.
  - The playbook C(netops.underlay.allocate) uses the former, the playbooks that touch hosts the latter.
options:
  path:
    description:
      - The file, on the controller. The default is the one that the inventory names.
      - A ledger in which a merge gave something twice is refused, with the lines.
    type: path
  release:
    description:
      - What is given back, each as V(NETWORK/HOST) for a slice or as V(NETWORK/HOST/ENDPOINT) for an address; V(gone) stands for
        everything that the map, the hosts and their endpoints no longer need.
      - What they still need is not given back.
    type: list
    elements: str
    default: []
  state:
    description: Whether what is missing is given, or an error.
    type: str
    choices: [present, complete]
    default: present
attributes:
  action:
    support: full
    description: It runs on the controller, as an action.
  check_mode:
    support: full
    description: Tells what would be given, and writes nothing.
  diff_mode:
    support: full
    description: Shows the lines of the file.
  idempotent:
    support: full
    description: A second run gives nothing.
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
- name: Give what is missing, once for the fleet
  netops.underlay.map_ledger:
  run_once: true

- name: Give back what nobody needs any more, and the slice of a host by name
  netops.underlay.map_ledger:
    release: [gone, web/node7]
  run_once: true

- name: Refuse to go on where something is missing
  netops.underlay.map_ledger:
    state: complete
  run_once: true
"""

RETURN = r"""
given:
  description: What was missing and is given now.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["web/node1: 172.16.80.64/26", "web/node1/shop: 172.16.80.66"]
released:
  description: What was given back.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: ["web/node7"]
stale:
  description: What is given and no longer needed. It stays given until it is released.
  returned: success
  type: list
  elements: str
  sample: ["web/node9/shop"]
left_out:
  description: What is not here because a result has at most 300 kB. The file has all of it.
  returned: when something is
  type: list
  elements: str
  sample: [given]
path:
  description: The file.
  returned: success and O(state=present)
  type: str
  sample: /srv/inventory/ledger.yml
"""
