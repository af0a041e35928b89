#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ipvlan_l3_routes
short_description: Manage a set of routes to the prefixes of L3 networks
version_added: "1.0.0"
description:
  - ipvlan endpoints in the modes V(l3) and V(l3s) answer no ARP and are reached only through routes. On other hosts, and on Linux routers,
    this module adds a route to each prefix via the underlay address of the host that owns it.
  - The owner itself needs no route; one to the parent would cut the host off. With O(network) it gets an V(unreachable) route, so that
    packets for unused addresses do not loop between host and router.
  - A set of routes has a name, and its routes have protocol 201. Other routes are never replaced or removed.
options:
  name:
    description: The name of the set.
    type: str
    required: true
  routes:
    description:
      - The routes. With O(state=absent), the routes to remove from the set, by O(routes[].prefix) and, if given, metric, table and VRF.
    type: list
    elements: dict
    suboptions:
      prefix:
        description: The destination, in CIDR notation.
        type: str
        required: true
      via:
        description: The next hop, on a link of this host.
        type: str
      dev:
        description: The device, for a route without a next hop, or to choose one of several.
        type: str
      type:
        description: V(unicast) forwards; the other types reject or drop.
        type: str
        choices: [unicast, unreachable, blackhole, prohibit]
        default: unicast
      metric:
        description: The metric. Defaults to 0 for IPv4 and 1024 for IPv6.
        type: int
      table:
        description: The number of the routing table. Defaults to the main table.
        type: int
      vrf:
        description: A VRF device whose table to use.
        type: str
  network:
    description:
      - An L3 network of this host whose unused addresses become unreachable. The routes follow the network's subnets, and are removed with
        it.
      - The route also applies to endpoints. Leave it out if they have to reach L3 networks on another parent of this host through a router.
    type: str
  exact:
    description: Whether to remove routes of the set that O(routes) does not list.
    type: bool
    default: false
  state:
    description: V(absent) removes the whole set, or only the listed O(routes).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_network
"""

EXAMPLES = r"""
# Before:
#   # ip route show proto 201
#   (nothing)

- name: Routes to the L3 prefixes of two other hosts
  netops.underlay.ipvlan_l3_routes:
    name: fabric
    routes:
      - {prefix: 10.200.1.0/26, via: 192.0.2.11}
      - {prefix: 10.200.1.64/26, via: 192.0.2.12}
      - {prefix: "fd00:200:1::/64", via: "2001:db8::11"}

# After:
#   # ip route show proto 201
#   10.200.1.0/26 via 192.0.2.11 dev eth0
#   10.200.1.64/26 via 192.0.2.12 dev eth0

- name: Exactly these routes, whatever the set had before
  netops.underlay.ipvlan_l3_routes:
    name: fabric
    exact: true
    routes:
      - {prefix: 10.200.1.0/26, via: 192.0.2.11}

- name: On the owner, keep packets for unused addresses from looping
  netops.underlay.ipvlan_l3_routes:
    name: l3net
    network: l3net

# Before:
#   # ip route show proto 201
#   10.200.1.0/26 via 192.0.2.11 dev eth0
#   unreachable 10.1.214.0/24

- name: Remove the set
  netops.underlay.ipvlan_l3_routes:
    name: fabric
    state: absent

# After:
#   # ip route show proto 201
#   unreachable 10.1.214.0/24
"""

RETURN = r"""
routes:
  description: All routes of the set.
  returned: success and O(state=present)
  type: list
  elements: dict
  sample:
    - prefix: 10.200.1.0/26
      type: unicast
      via: 192.0.2.11
      dev: null
      metric: 0
      table: 254
      vrf: null
plan:
  description: What was changed, or in check mode would be.
  returned: success
  type: dict
  contains:
    counts:
      description: The number of changes by kind and verb.
      type: dict
      sample: {"route": {"create": 1}, "routes": {"create": 1}}
    total:
      description: The number of changes.
      type: int
      sample: 2
    first:
      description: The first changes, one line each.
      type: list
      elements: str
      sample: ["create route 10.200.1.0/26 table 254 metric 0: route of the set fabric"]
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
      sample: routes[0].via
    what:
      description: What is wrong.
      type: str
      sample: 203.0.113.1 is in no subnet of this host
    cure:
      description: How to fix it.
      type: str
      sample: "give a next hop on the host's own wire"
"""

from ..module_utils import _argspec, _module


def main() -> None:
    _module.run_item("routes", _argspec.ipvlan_l3_routes(), lambda key, spec, outcome: {"routes": spec["routes"]})


if __name__ == "__main__":
    main()
