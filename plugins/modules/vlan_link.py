#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_link
short_description: Manage one 802.1q or 802.1ad sub-interface
version_added: "1.0.0"
description:
  - Makes, changes and removes one VLAN sub-interface of a NIC, a bond or another sub-interface (QinQ).
  - A sub-interface takes no part in its VLAN unless O(addresses) ask for it. It has no address of any kind, answers no ARP for the
    host's addresses, believes no router advertisement, accepts and forwards nothing.
  - Networks make the sub-interface that they need by themselves, see M(netops.underlay.vlan_network). This module is for those that
    need more than a VLAN id, such as an address of the host, a QoS map or a second tag.
options:
  parent:
    description:
      - The link that carries the tagged frames, by its name or an alternative name.
      - Required, unless O(state=absent) and O(name) says which one.
    type: str
  vlan_id:
    description:
      - The VLAN, from 1 to 4094.
      - Required, unless O(state=absent) and O(name) says which one.
    type: int
  name:
    description:
      - What the sub-interface is called; O(parent).O(vlan_id) if it is not given.
      - A name of more than 15 characters becomes an alternative name, by which the link is found just as well.
    type: str
  protocol:
    description: V(802.1ad) for the outer tag of QinQ.
    type: str
    choices: ["802.1q", "802.1ad"]
    default: "802.1q"
  mtu:
    description: In bytes, from 68 to that of the parent; if not given, that of the parent.
    type: int
  addresses:
    description:
      - The host's own addresses in this VLAN, each with its prefix length. L3 networks on the sub-interface need one.
      - An empty list, or none, keeps the host out of the VLAN.
    type: list
    elements: str
  gvrp:
    description: Whether to announce the VLAN to the switch by GVRP.
    type: bool
    default: false
  mvrp:
    description: Whether to announce the VLAN to the switch by MVRP.
    type: bool
    default: false
  loose_binding:
    description: Whether the sub-interface stays up when its parent goes down.
    type: bool
    default: false
  reorder_headers:
    description: Whether the tag is taken off before taps such as tcpdump see the frame.
    type: bool
    default: true
  ingress_qos_map:
    description: PCP of incoming frames (0 to 7) to the kernel's priority.
    type: dict
  egress_qos_map:
    description: The kernel's priority to the PCP of outgoing frames (0 to 7).
    type: dict
  bring_up_parent:
    description: Whether a parent that is down is set up.
    type: bool
    default: true
  state:
    description:
      - V(absent) removes the sub-interface, unless a network, or something of somebody else, sits on it.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_network
  - module: netops.underlay.vlan_map
    description: Any number of sub-interfaces in one task, thousands of times faster than a loop.
"""

EXAMPLES = r"""
# Before:
#   # ip -d -br link show type vlan
#   (nothing)

- name: A sub-interface that carries tags and nothing of the host
  netops.underlay.vlan_link:
    parent: eth0
    vlan_id: 50

# After:
#   # ip -d -br link show type vlan
#   eth0.50@eth0  UP  (vlan protocol 802.1Q id 50)
#   # ip -br address show eth0.50
#   eth0.50@eth0  UP

- name: The host's own leg in the VLAN that L3 networks route over
  netops.underlay.vlan_link:
    parent: bond0
    vlan_id: 100
    addresses: [192.0.2.10/24, "2001:db8:100::10/64"]
    mtu: 9000

- name: Change it in place; the link stays, and so does what sits on it
  netops.underlay.vlan_link:
    parent: bond0
    vlan_id: 100
    addresses: [192.0.2.11/24]
    egress_qos_map: {0: 0, 6: 5}

- name: QinQ, the outer tag
  netops.underlay.vlan_link:
    parent: bond0
    vlan_id: 200
    protocol: 802.1ad

- name: QinQ, the inner tag
  netops.underlay.vlan_link:
    parent: bond0.200
    vlan_id: 30

- name: Remove one, whatever its parent is
  netops.underlay.vlan_link:
    name: bond0.200.30
    state: absent
"""

RETURN = r"""
link:
  description: The sub-interface.
  returned: success and O(state=present)
  type: dict
  sample:
    name: eth0.50
    interface: eth0.50
    altnames: []
    parent: eth0
    vlan_id: 50
    protocol: 802.1q
    mtu: 1500
    mac: "52:54:00:aa:bb:01"
    addresses: []
    owner: task
interface:
  description: The kernel's name of it, for tasks that follow.
  returned: success and O(state=present)
  type: str
  sample: eth0.50
plan:
  description: What was changed, or in check mode what would be.
  returned: success
  type: dict
  contains:
    counts:
      description: How many changes there are of each kind and verb.
      type: dict
      sample: {"link": {"create": 1}, "vlan": {"create": 1}}
    total:
      description: How many changes there are.
      type: int
      sample: 2
    first:
      description: The first of them, a line each.
      type: list
      elements: str
      sample: ["create link eth0.50: VLAN 50 of eth0"]
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
  description: Everything that speaks against the task, each with its cure. Nothing was touched.
  returned: when the input is refused
  type: list
  elements: dict
  contains:
    path:
      description: The option.
      type: str
      sample: vlan_id
    what:
      description: What is wrong.
      type: str
      sample: 4095 is not a whole number from 1 to 4094
    cure:
      description: What to do about it.
      type: str
      sample: give one
"""

from ..module_utils import _argspec, _module
from ..module_utils._engine import describe


def main() -> None:
    _module.run_item(
        "vlan",
        _argspec.vlan_link(),
        lambda key, spec, outcome: {"link": (found := describe.vlan(key, spec, outcome.world)), "interface": found["interface"]},
    )


if __name__ == "__main__":
    main()
