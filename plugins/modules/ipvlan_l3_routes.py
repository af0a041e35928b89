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
  - Endpoints of ipvlan in the modes V(l3) and V(l3s) are reached by routes alone, nobody answers ARP for them. On every other host, and on
    routers that run Linux, this makes the route to each prefix via the underlay address of the host that owns it.
  - On the owner itself no route is needed, and one that leads to the parent would cut the host off. With O(network) it gets a route
    that answers V(unreachable) for addresses that nobody has, which keeps them from going round between host and router.
  - A set has a name, and its routes bear the protocol number 201. Routes of anybody else are never replaced or removed.
options:
  name:
    description: The name of the set.
    type: str
    required: true
  routes:
    description:
      - The routes. With O(state=absent), those that shall not be in the set any more, by O(routes[].prefix) and what else is given of
        metric, table and VRF.
    type: list
    elements: dict
    suboptions:
      prefix:
        description: Where to, in CIDR notation.
        type: str
        required: true
      via:
        description: The next hop, on a wire of this host.
        type: str
      dev:
        description: The device, for a route without a next hop, or to say on which of several.
        type: str
      type:
        description: V(unicast) leads somewhere, the others say that nothing does.
        type: str
        choices: [unicast, unreachable, blackhole, prohibit]
        default: unicast
      metric:
        description: The metric; if not given, 0 for IPv4 and 1024 for IPv6.
        type: int
      table:
        description: The number of a routing table; if not given, the main one.
        type: int
      vrf:
        description: A VRF device, whose table it shall be.
        type: str
  network:
    description:
      - An L3 network of this host, whose unused addresses shall be unreachable. The routes follow the network's subnets, and go with it.
      - Endpoints ask this route too. Where they shall reach L3 networks on another parent of this host, by way of a router, leave it out.
    type: str
  exact:
    description: Whether routes of the set that O(routes) does not list are removed.
    type: bool
    default: false
  state:
    description: V(absent) removes the whole set, or of it the O(routes) that are listed.
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

- name: The L3 prefixes of two other hosts
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

- name: Exactly these, whatever the set had before
  netops.underlay.ipvlan_l3_routes:
    name: fabric
    exact: true
    routes:
      - {prefix: 10.200.1.0/26, via: 192.0.2.11}

- name: On the owner, so that unused addresses do not loop
  netops.underlay.ipvlan_l3_routes:
    name: l3net
    network: l3net

- name: Remove the set
  netops.underlay.ipvlan_l3_routes:
    name: fabric
    state: absent
"""

RETURN = r"""
routes:
  description: All the routes of the set.
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
  description: What was changed, or in check mode what would be.
  returned: success
  type: dict
  contains:
    counts:
      description: How many changes there are of each kind and verb.
      type: dict
      sample: {"route": {"create": 1}, "routes": {"create": 1}}
    total:
      description: How many changes there are.
      type: int
      sample: 2
    first:
      description: The first of them, a line each.
      type: list
      elements: str
      sample: ["create route 10.200.1.0/26 table 254 metric 0: route of the set fabric"]
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
      sample: routes[0].via
    what:
      description: What is wrong.
      type: str
      sample: 203.0.113.1 is in no subnet of this host
    cure:
      description: What to do about it.
      type: str
      sample: "give a next hop on the host's own wire"
"""

from ..module_utils import _argspec, _module


def main() -> None:
    _module.run_item("routes", _argspec.ipvlan_l3_routes(), lambda key, spec, outcome: {"routes": spec["routes"]})


if __name__ == "__main__":
    main()
