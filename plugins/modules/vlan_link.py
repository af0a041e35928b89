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
  - Creates, changes and removes one VLAN sub-interface of a NIC, a bond or another sub-interface (QinQ).
  - Without O(addresses) the host has no presence in the VLAN. The sub-interface has no address of any kind, answers no ARP for the host's
    addresses, ignores router advertisements, and neither accepts nor forwards packets.
  - Networks create their sub-interface themselves, see M(netops.underlay.vlan_network). Use this module for sub-interfaces that need more
    than a VLAN ID, such as an address of the host, a QoS map or a second tag.
options:
  parent:
    description:
      - The link that carries the tagged frames, by name or alternative name.
      - Required, unless O(state=absent) and O(name) is given.
    type: str
  vlan_id:
    description:
      - The VLAN, from 1 to 4094.
      - Required, unless O(state=absent) and O(name) is given.
    type: int
  name:
    description:
      - The name of the sub-interface. Defaults to O(parent).O(vlan_id).
      - A name of more than 15 characters becomes an alternative name, which can be used in its place.
    type: str
  protocol:
    description: V(802.1ad) for the outer tag of QinQ.
    type: str
    choices: ["802.1q", "802.1ad"]
    default: "802.1q"
  mtu:
    description: The MTU in bytes, from 68 to that of the parent. Defaults to that of the parent.
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
    description: Whether to remove the tag before taps such as tcpdump see the frame.
    type: bool
    default: true
  ingress_qos_map:
    description: Maps the PCP of incoming frames (0 to 7) to the kernel's priority.
    type: dict
  egress_qos_map:
    description: Maps the kernel's priority to the PCP of outgoing frames (0 to 7).
    type: dict
  bring_up_parent:
    description: Bring the parent up if it is down.
    type: bool
    default: true
  state:
    description:
      - V(absent) removes the sub-interface, unless a network or a foreign link uses it.
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

- name: A sub-interface without presence of the host
  netops.underlay.vlan_link:
    parent: eth0
    vlan_id: 50

# After:
#   # ip -d -br link show type vlan
#   eth0.50@eth0  UP  (vlan protocol 802.1Q id 50)
#   # ip -br address show eth0.50
#   eth0.50@eth0  UP

- name: The host's own addresses in the VLAN that L3 networks route over
  netops.underlay.vlan_link:
    parent: bond0
    vlan_id: 100
    addresses: [192.0.2.10/24, "2001:db8:100::10/64"]
    mtu: 9000

- name: Change it in place; the link and what uses it stay
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

# Before:
#   # ip -br link show type vlan
#   eth0.50@eth0            UP
#   bond0.100@bond0         UP
#   bond0.200@bond0         UP
#   bond0.200.30@bond0.200  UP

- name: Remove a sub-interface by name
  netops.underlay.vlan_link:
    name: bond0.200.30
    state: absent

# After:
#   # ip -br link show type vlan
#   eth0.50@eth0            UP
#   bond0.100@bond0         UP
#   bond0.200@bond0         UP
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
  description: The kernel name of the sub-interface.
  returned: success and O(state=present)
  type: str
  sample: eth0.50
plan:
  description: What was changed, or in check mode would be.
  returned: success
  type: dict
  contains:
    counts:
      description: The number of changes by kind and verb.
      type: dict
      sample: {"link": {"create": 1}, "vlan": {"create": 1}}
    total:
      description: The number of changes.
      type: int
      sample: 2
    first:
      description: The first changes, one line each.
      type: list
      elements: str
      sample: ["create link eth0.50: VLAN 50 of eth0"]
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
  description: All errors of the input, each with its fix. Nothing was changed.
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
      description: How to fix it.
      type: str
      sample: give one
"""

from ..module_utils import _argspec, _module
from ..module_utils._engine.report import describe


def main() -> None:
    _module.run_item(
        "vlan",
        _argspec.vlan_link(),
        lambda key, spec, outcome: {
            "link": (found := describe.vlan(key, spec, outcome.observed)),
            "interface": found["interface"],
        },
    )


if __name__ == "__main__":
    main()
