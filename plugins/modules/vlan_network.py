#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_network
short_description: Manage one macvlan or ipvlan network
version_added: "1.0.0"
description:
  - What C(docker network create) and C(docker network rm) are to a Docker host, this is to any Linux host. A driver, a mode, a parent and
    subnets; endpoints join it with M(netops.underlay.vlan_endpoint).
  - A parent such as V(eth0.50) that does not exist is made on the fly, and goes with the last network on it.
options:
  name:
    description: The name of the network, by which endpoints find it.
    type: str
    required: true
  driver:
    description:
      - V(macvlan) gives every endpoint a MAC of its own. V(ipvlan) gives all of them that of the parent, which is what a switch
        port with a limit of MACs, and most clouds, want.
      - Required, unless O(state=absent).
    type: str
    choices: [macvlan, ipvlan]
  mode:
    description:
      - V(bridge), V(private), V(vepa) and V(passthru) are of macvlan, whose default is V(bridge).
      - V(l2), V(l3) and V(l3s) are of ipvlan, whose default is V(l2).
      - V(passthru) gives the parent as a whole, its MAC too, to one endpoint. The host cannot have an address on it.
      - All modes but V(passthru) are changed in place.
    type: str
    choices: [bridge, private, vepa, passthru, l2, l3, l3s]
  flag:
    description: Of ipvlan alone, in any mode, V(bridge) if it is not given. The endpoints of V(private) and V(vepa) do not reach each other.
    type: str
    choices: [bridge, private, vepa]
  parent:
    description:
      - The link that the network hangs on. A NIC, a bond, a VLAN sub-interface, or any other that exists, by name or alternative name.
      - C(NAME.VID) that does not exist is made, from 1 to 4094, on C(NAME), which must exist or be declared.
      - None makes a dummy, and a network that ends on this host.
    type: str
  internal:
    description: A network that ends on this host, on a dummy of its own. It cannot have a O(parent).
    type: bool
    default: false
  subnets:
    description:
      - The subnets, IPv4 and IPv6. Without one of an enabled family, the network gets one that the host does not reach yet.
    type: list
    elements: dict
    aliases: [ipam_config]
    suboptions:
      subnet:
        description: In CIDR notation. Host bits are taken off, with a warning.
        type: str
        required: true
      gateway:
        description:
          - The next hop of the endpoints' default route, an address of the subnet or an IPv6 link-local one. It is reserved.
          - If not given, the first usable address, where the subnet has room for one and the network a way out.
          - V(none) for no default route.
          - Not used in the modes V(l3) and V(l3s), whose endpoints route by device.
        type: str
      ip_range:
        description: The part of the subnet that addresses are taken from. An address that is asked for may lie outside.
        type: str
        aliases: [iprange]
      aux_addresses:
        description: Addresses that are never handed out, each under a name, such as those of other hosts.
        type: dict
  enable_ipv4:
    description: V(false) for a network without IPv4. If not given, there is IPv4.
    type: bool
  enable_ipv6:
    description: V(true) for IPv6 also where no subnet is given. If not given, there is IPv6 where a subnet of it is given.
    type: bool
  mtu:
    description: In bytes, of the endpoints and of a sub-interface or dummy that is made for the network. Not more than the base has.
    type: int
  share_parent:
    description:
      - Whether other networks of the same driver may have the same parent; they must allow it too.
      - Those of ipvlan must have the same mode and flag. V(passthru) shares with nobody.
    type: bool
    default: false
  bring_up_parent:
    description: Whether a parent or base that is down is set up.
    type: bool
    default: true
  host_access:
    description:
      - Whether the host itself reaches the endpoints, through a small link of its own on the parent and a route for each endpoint.
      - V(true) takes the next free address for it, where the mode needs one. A list gives it the addresses listed.
      - Not possible in the modes and with the flags V(private), V(vepa) and V(passthru), which keep the host out.
    type: raw
    default: false
  probe:
    description:
      - Whether to ask on the wire first if somebody else has an address that O(host_access) takes (RFC 5227, RFC 4862). The next free one is
        taken then. One that was listed is refused, with the MAC of its holder.
      - Endpoints are asked for by the option of this name of M(netops.underlay.vlan_endpoint). Check mode sends nothing and says so.
      - Refused in L3 modes, where nobody is a neighbour.
    type: bool
    default: false
  recreate:
    description:
      - Whether endpoints are made anew where a change, such as that of the driver or the parent, cannot be made under them.
      - They keep their names, addresses and MACs.
    type: bool
    default: false
  bcqueuelen:
    description: Of macvlan. How many broadcast packets may wait for the parent's endpoints.
    type: int
  bclim:
    description: Of macvlan. Broadcasts to more endpoints than this are queued instead of delivered at once; V(-1) never queues (Linux 6.4).
    type: int
  labels:
    description: Whatever the network shall be remembered with.
    type: dict
  state:
    description: V(absent) removes the network. One that has endpoints is refused, and they are named.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_endpoint
  - module: netops.underlay.vlan_map
    description: Any number of networks in one task.
  - module: netops.underlay.ipvlan_l3_routes
    description: How other hosts reach the endpoints of the modes V(l3) and V(l3s).
"""

EXAMPLES = r"""
# Before:
#   # ip -br link
#   eth0  UP

- name: VLAN 50, its sub-interface made on the fly
  netops.underlay.vlan_network:
    name: macvlan50
    driver: macvlan
    parent: eth0.50
    subnets:
      - subnet: 192.168.50.0/24
        gateway: 192.168.50.1
        ip_range: 192.168.50.64/26
        aux_addresses: {router2: 192.168.50.70}

# After:
#   # ip -br link
#   eth0          UP
#   eth0.50@eth0  UP

- name: ipvlan, dual stack, on a bond
  netops.underlay.vlan_network:
    name: web
    driver: ipvlan
    mode: l2
    parent: bond0.20
    subnets:
      - subnet: 172.16.50.0/24
      - subnet: 2001:db8:50::/64
        gateway: fe80::1

- name: A network that is routed, not bridged; the host reaches its endpoints
  netops.underlay.vlan_network:
    name: l3net
    driver: ipvlan
    mode: l3
    parent: eth0
    subnets: [{subnet: 10.1.214.0/24}]
    host_access: true

- name: Change it in place, under living endpoints
  netops.underlay.vlan_network:
    name: l3net
    driver: ipvlan
    mode: l3s
    parent: eth0
    subnets: [{subnet: 10.1.214.0/24}, {subnet: 192.168.214.0/24}]
    host_access: true

- name: A network that ends on this host
  netops.underlay.vlan_network:
    name: isolated
    driver: ipvlan
    internal: true

# Before:
#   # ip -br link
#   eth0          UP
#   eth0.50@eth0  UP

- name: Remove a network, and the sub-interface that was made for it
  netops.underlay.vlan_network:
    name: macvlan50
    state: absent

# After:
#   # ip -br link
#   eth0  UP
"""

RETURN = r"""
network:
  description: The network, with everything that was decided for it.
  returned: success and O(state=present)
  type: dict
  sample:
    name: macvlan50
    driver: macvlan
    mode: bridge
    flag: null
    parent: eth0.50
    internal: false
    mtu: null
    subnets:
      - subnet: 192.168.50.0/24
        gateway: 192.168.50.1
        ip_range: 192.168.50.64/26
        aux_addresses: {router2: 192.168.50.70}
    interface: null
    addresses: []
    labels: {}
    owner: task
parent:
  description: The kernel's name of the link that the network hangs on.
  returned: success and O(state=present)
  type: str
  sample: eth0.50
interface:
  description: The host's own link into the network; none without O(host_access).
  returned: success and O(state=present)
  type: str
  sample: ha-6f2c1d9e0a41
addresses:
  description: The host's own addresses in the network; none without O(host_access).
  returned: success and O(state=present)
  type: list
  elements: str
  sample: [192.168.50.64/32]
plan:
  description: What was changed, or in check mode what would be.
  returned: success
  type: dict
  contains:
    counts:
      description: How many changes there are of each kind and verb.
      type: dict
      sample: {"link": {"create": 1}, "network": {"create": 1}}
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
      sample: subnets[0].gateway
    what:
      description: What is wrong.
      type: str
      sample: 192.168.51.1 is not inside 192.168.50.0/24
    cure:
      description: What to do about it.
      type: str
      sample: "give an address of 192.168.50.0/24, or none"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine import describe
from ..module_utils._engine.converge import Outcome
from ..module_utils._engine.world import Spec


def _tell(key: str, spec: Spec, outcome: Outcome) -> Dict[str, Any]:
    found = describe.network(key, spec, outcome.world)
    return {"network": found, **{option: found[option] for option in ("parent", "interface", "addresses")}}


def main() -> None:
    _module.run_item("network", _argspec.vlan_network(), _tell)


if __name__ == "__main__":
    main()
