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
  - Does on any Linux host what C(docker network create) and C(docker network rm) do on a Docker host. A network has a driver, a mode, a
    parent and subnets; endpoints join it with M(netops.underlay.vlan_endpoint).
  - A parent such as V(eth0.50) that does not exist is created, and removed with the last network that uses it.
options:
  name:
    description: The name of the network.
    type: str
    required: true
  driver:
    description:
      - V(macvlan) gives every endpoint its own MAC. With V(ipvlan) all endpoints share the MAC of the parent, as switch ports with a MAC
        limit and most clouds require.
      - Required, unless O(state=absent).
    type: str
    choices: [macvlan, ipvlan]
  mode:
    description:
      - macvlan has V(bridge) (the default), V(private), V(vepa), V(passthru) and V(source).
      - ipvlan has V(l2) (the default), V(l3) and V(l3s).
      - V(passthru) gives the whole parent, including its MAC, to a single endpoint. The host cannot have an address on it.
      - With V(source) an endpoint receives every frame that comes from a MAC on its list, whatever MAC it is for, and no others. The list
        is the option C(source_macs) of M(netops.underlay.vlan_endpoint).
      - All modes except V(passthru) can be changed in place.
    type: str
    choices: [bridge, private, vepa, passthru, source, l2, l3, l3s]
  flag:
    description: ipvlan only, any mode. Defaults to V(bridge). With V(private) and V(vepa), endpoints on the parent do not reach each other.
    type: str
    choices: [bridge, private, vepa]
  parent:
    description:
      - The link that the network is attached to. A NIC, a bond, a VLAN sub-interface or any other existing link, by name or alternative
        name.
      - C(NAME.VID), with a VID from 1 to 4094, is created if it does not exist. C(NAME) must exist or be declared.
      - Without a parent, the network is confined to this host, on a dummy link.
    type: str
  internal:
    description: Whether the network is confined to this host, on a dummy link. It cannot have a O(parent).
    type: bool
    default: false
  subnets:
    description:
      - The subnets, IPv4 and IPv6. For an enabled family without a subnet, one that the host does not reach yet is chosen.
    type: list
    elements: dict
    aliases: [ipam_config]
    suboptions:
      subnet:
        description: The subnet in CIDR notation. Host bits are cleared, with a warning.
        type: str
        required: true
      gateway:
        description:
          - The next hop of the endpoints' default route, an address of the subnet or an IPv6 link-local address. It is reserved.
          - Defaults to the first usable address, unless the subnet is too small or the network is internal.
          - V(none) disables the default route.
          - Not used in the modes V(l3) and V(l3s), whose default route is to the device.
        type: str
      ip_range:
        description: The part of the subnet to allocate addresses from, or several parts, as prefix or C(FIRST-LAST). A requested address can
          be outside.
        type: list
        elements: str
        aliases: [iprange]
      aux_addresses:
        description: What is never allocated, such as addresses of other hosts, each an address, a prefix or C(FIRST-LAST) with a name.
        type: dict
  enable_ipv4:
    description: Whether the network has IPv4. Enabled by default.
    type: bool
  enable_ipv6:
    description: Whether the network has IPv6. Enabled by default if there is an IPv6 subnet.
    type: bool
  mtu:
    description: The MTU, in bytes, of the endpoints and of a sub-interface or dummy created for the network. At most that of the base.
    type: int
  share_parent:
    description:
      - Whether other networks of the same driver may use the same parent. They must set it too.
      - ipvlan networks must have the same mode and flag. A V(passthru) parent cannot be shared.
    type: bool
    default: false
  bring_up_parent:
    description: Bring the parent or base up if it is down.
    type: bool
    default: true
  host_access:
    description:
      - Whether the host itself can reach the endpoints, through its own link on the parent and a route for each endpoint.
      - V(true) allocates the next free address for it, if the mode needs one. A list sets its addresses.
      - Not possible with V(private), V(vepa), V(passthru) and V(source), which isolate the host.
    type: raw
    default: false
  probe:
    description:
      - Whether to check on the wire first that no other host uses the address for O(host_access) (RFC 5227, RFC 4862). If one does, the
        next free address is taken. A listed address is refused instead, with the MAC of its holder.
      - For endpoints, use the C(probe) option of M(netops.underlay.vlan_endpoint). Check mode sends nothing and says so.
      - Refused in L3 modes, which have no neighbours.
    type: bool
    default: false
  source_routing:
    description: The default of the C(source_routing) option of M(netops.underlay.vlan_endpoint) for the network's endpoints.
    type: bool
    default: false
  spoof_check:
    description:
      - Whether each endpoint sends only from its own MAC and its own addresses, including its C(allowed_addresses) and the IPv6 link-local
        address that its MAC gives. Nothing else leaves its link, so neither neighbours on the same parent nor other hosts get it.
      - Stopped are ARP and neighbour discovery in another's name, router advertisements, redirects and DHCP server replies of an endpoint,
        frames with VLAN tags, and what is neither ARP nor IPv4 nor IPv6. Also stopped are IPv4 options other than those of IGMP, and the
        IPv6 headers behind which such a message could hide.
      - A table of nf_tables on each endpoint's link, in its workload's namespace, enforces it. It needs Linux 5.16 or newer, and is refused
        where the kernel lacks the means.
      - A workload with C(CAP_NET_ADMIN) can remove the table, until the service or the next run puts it back. One with C(CAP_NET_RAW) can
        send around it through an C(AF_XDP) socket. The guest of a tap can do neither.
      - macvlan only, and not with V(passthru), because an endpoint with the MAC of its parent cannot be identified by it. Refused with the
        options C(accept_ra) and C(ipv6_address=slaac) of M(netops.underlay.vlan_endpoint), because the addresses that a router makes up are not known.
    type: bool
    default: false
  dns:
    description: The default of the C(dns) option of M(netops.underlay.vlan_endpoint) for the network's endpoints.
    type: list
    elements: str
  dns_search:
    description: The default of the C(dns_search) option of M(netops.underlay.vlan_endpoint) for the network's endpoints.
    type: list
    elements: str
  dns_options:
    description: The default of the C(dns_options) option of M(netops.underlay.vlan_endpoint) for the network's endpoints.
    type: list
    elements: str
  recreate:
    description:
      - Whether to recreate endpoints if a change, such as another driver or parent, cannot be made in place.
      - They keep their names, addresses and MACs.
    type: bool
    default: false
  bcqueuelen:
    description: macvlan only. How many broadcast packets may be queued for the parent's endpoints.
    type: int
  bclim:
    description: macvlan only. Broadcasts to more endpoints than this are queued instead of delivered at once; V(-1) never queues (Linux
      6.4).
    type: int
  nopromisc:
    description:
      - V(passthru) only. Whether to leave the parent's NIC out of promiscuous mode. It then filters, and the endpoint receives only what is
        for the parent's MAC, for everybody or for a group that it joined.
      - It can be changed in place.
    type: bool
    default: false
  addressing:
    description:
      - Where the addresses of the network's endpoints come from. V(pool) is the pools of O(subnets). V(dhcp) is a DHCP server in the
        network, see O(netops.underlay.vlan_endpoint#module:ipv4_address=dhcp); an endpoint with an address of its own keeps that.
      - With V(dhcp) the network needs no IPv4 subnet. IPv6 is asked for too with O(enable_ipv6=true) and no IPv6 subnet among O(subnets), and
        alone with O(enable_ipv4=false) beside that; with an IPv6 subnet, IPv6 addresses are of its pool.
      - V(dhcp) is refused for ipvlan and internal networks, with O(spoof_check) and O(source_routing).
      - It can be changed in place. Endpoints without an address of their own follow.
    type: str
    choices: [pool, dhcp]
    default: pool
  labels:
    description: Free-form key/value metadata.
    type: dict
  state:
    description: V(absent) removes the network. Fails, listing them, while it has endpoints.
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
    description: Routes to the endpoints of the modes V(l3) and V(l3s) for other hosts.
"""

EXAMPLES = r"""
# Before:
#   # ip -br link
#   eth0  UP

- name: VLAN 50, with its sub-interface created as needed
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

- name: A network confined to this host
  netops.underlay.vlan_network:
    name: isolated
    driver: ipvlan
    internal: true

# Before:
#   # ip -br link
#   eth0          UP
#   eth0.50@eth0  UP

- name: Remove a network, and the sub-interface that was created for it
  netops.underlay.vlan_network:
    name: macvlan50
    state: absent

# After:
#   # ip -br link
#   eth0  UP
"""

RETURN = r"""
network:
  description: The network, including allocated values.
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
  description: The kernel name of the network's parent.
  returned: success and O(state=present)
  type: str
  sample: eth0.50
interface:
  description: The host's own link in the network; none without O(host_access).
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
  description: What was changed, or in check mode would be.
  returned: success
  type: dict
  contains:
    counts:
      description: The number of changes by kind and verb.
      type: dict
      sample: {"link": {"create": 1}, "network": {"create": 1}}
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
      sample: subnets[0].gateway
    what:
      description: What is wrong.
      type: str
      sample: 192.168.51.1 is not inside 192.168.50.0/24
    cure:
      description: How to fix it.
      type: str
      sample: "give an address of 192.168.50.0/24, or none"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine.core.network_specs import NetworkSpec
from ..module_utils._engine.report import describe
from ..module_utils._engine.run.converge import Outcome


def _tell(key: str, spec: NetworkSpec, outcome: Outcome) -> Dict[str, Any]:
    found = describe.network(key, spec, outcome.observed)
    return {"network": found, **{option: found[option] for option in ("parent", "interface", "addresses")}}


def main() -> None:
    _module.run_item("network", _argspec.vlan_network(), _tell)


if __name__ == "__main__":
    main()
