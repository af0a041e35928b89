#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_endpoint
short_description: Attach a namespace or a container to a network
version_added: "1.0.0"
description:
  - What C(docker network connect) is to a Docker container, this is to any workload. A named network namespace, a process, a
    container of Docker or Podman.
  - The endpoint is a macvlan or ipvlan link inside the workload, with a lease of addresses that belongs to its name and stays with it
    over restarts of the workload and reboots, until it is absent.
  - A named namespace that does not exist is made, and goes with its last endpoint unless somebody else lives in it.
options:
  network:
    description: The network to attach to.
    type: str
    required: true
  name:
    description: The name of the endpoint. Other members of the network know it by this name.
    type: str
    required: true
  netns:
    description: A named network namespace, as C(ip netns list) shows it. One of O(netns), O(pid) and O(container) is required.
    type: str
  pid:
    description: A process, whose network namespace it is. Nothing makes it the same process after a reboot.
    type: int
  container:
    description:
      - A running container. After it was restarted, or removed and made anew, the next run attaches it again, with the same addresses.
      - One that was renamed is attached by its new name, and keeps its link as it is. By the old one it is refused as long as it lives.
    type: dict
    suboptions:
      engine:
        description: Whose container it is.
        type: str
        choices: [docker, podman]
        required: true
      name:
        description: Its name or id.
        type: str
        required: true
  interface:
    description:
      - The name of the link inside, 15 characters at most.
      - If not given, C(ethN), the lowest that is free; in a container that its engine gives networks too, C(netN), which no engine picks.
    type: str
  ipv4_address:
    description: An address of one of the network's subnets, which need not be in its C(ip_range). If not given, the lowest that is free.
    type: str
  ipv6_address:
    description: As O(ipv4_address).
    type: str
  subnet:
    description: Which of several subnets the address shall be of.
    type: str
  mac_address:
    description:
      - If not given, one that follows from host, network and name, and so is always the same.
      - Refused for ipvlan and for the mode passthru, whose endpoints have the MAC of their parent.
    type: str
  mtu:
    description: In bytes; if not given, that of the network.
    type: int
  aliases:
    description: More names by which other members of the network know the endpoint.
    type: list
    elements: str
  hosts:
    description:
      - Names and addresses of others, such as of members on other hosts, that the workload shall know.
      - They and the names of the network's members stand in a marked block of C(/etc/netns/NAME/hosts), or of a container's C(/etc/hosts).
        A process given by O(pid) has no such file that is known.
      - A container's file is written by means that only Linux 5.6 and later have. Before, it is left alone, with a warning.
    type: dict
  gw_priority:
    description: In a workload with several endpoints, the one with the highest priority gives the default route; of equal ones the first by name.
    type: int
    default: 0
  default_route:
    description: Whether the endpoint may give the workload its default route, for each family.
    type: dict
    suboptions:
      ipv4:
        description: V(auto) leaves one that is not of this collection alone, V(always) refuses where there is such a one, V(never) gives none.
        type: str
        choices: [auto, always, never]
        default: auto
      ipv6:
        description:
          - As O(default_route.ipv4). With O(accept_ra), V(auto) leaves it to the router that advertises itself,
            and the other two take no default route from an advertisement.
        type: str
        choices: [auto, always, never]
        default: auto
  routes:
    description: More routes of the workload, by this endpoint.
    type: list
    elements: dict
    suboptions:
      prefix:
        description: Where to, in CIDR notation.
        type: str
        required: true
      via:
        description: The next hop; none for a route by device.
        type: str
      metric:
        description: The metric of the route.
        type: int
  sysctls:
    description:
      - Settings of the link inside, as in C(net.ipv4.conf.IFNAME.arp_ignore), with the word C(IFNAME) for its name.
    type: dict
  accept_ra:
    description: Whether the workload believes router advertisements, and takes addresses from them.
    type: bool
    default: false
  probe:
    description:
      - Whether to ask on the wire first if somebody else has the address (RFC 5227, RFC 4862). The next free one is taken then.
        One that was asked for is refused, with the MAC of its holder.
      - It takes two seconds, for all endpoints of a task together, and only where an address comes. Check mode sends nothing and says so.
      - Refused in L3 modes, where an endpoint has no neighbours.
    type: bool
    default: false
  state:
    description:
      - V(absent) removes the endpoint and gives its addresses back.
      - V(released) only drops the lease of a workload that is gone, and refuses where it lives.
    type: str
    choices: [present, absent, released]
    default: present
extends_documentation_fragment:
  - netops.underlay.common
  - netops.underlay.common.attributes
  - netops.underlay.change
seealso:
  - module: netops.underlay.vlan_network
  - module: netops.underlay.vlan_map
    description: Any number of endpoints in one task.
"""

EXAMPLES = r"""
# Before:
#   # ip netns
#   (nothing)

- name: A namespace on the network macvlan50
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    netns: shop

# After:
#   # ip -n shop -br address
#   lo    UNKNOWN  127.0.0.1/8
#   eth0  UP  192.168.50.64/24
#   # ip -n shop route
#   default via 192.168.50.1 dev eth0 proto 201
#   192.168.50.0/24 dev eth0 proto kernel scope link src 192.168.50.64

- name: A container of Podman, with an address of its own choice
  netops.underlay.vlan_endpoint:
    network: web
    name: proxy
    container: {engine: podman, name: proxy}
    ipv4_address: 172.16.50.80
    ipv6_address: 2001:db8:50::80
    aliases: [www]

- name: The same namespace on a second network, which shall not give it a default route
  netops.underlay.vlan_endpoint:
    network: backup
    name: shop
    netns: shop
    default_route: {ipv4: never}
    routes:
      - prefix: 10.9.0.0/16
        via: 10.1.0.1

# Before:
#   # ip netns
#   shop

- name: Detach it; the namespace goes with its last endpoint
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    state: absent

# After:
#   # ip netns
#   (nothing)

# A container or a daemon can also be started into the namespace, which then is complete, names and all:
#
#   podman run --network ns:/run/netns/shop -v /etc/netns/shop/hosts:/etc/hosts:ro IMAGE
#
#   # of a systemd unit
#   [Unit]
#   After=netops-underlay.service
#   [Service]
#   NetworkNamespacePath=/run/netns/shop
#   BindReadOnlyPaths=/etc/netns/shop/hosts:/etc/hosts
- name: A namespace that is there before its daemon starts
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    netns: shop
    probe: true

- name: Give back the addresses of a container that nobody will start again
  netops.underlay.vlan_endpoint:
    network: web
    name: proxy
    state: released
"""

RETURN = r"""
endpoint:
  description: The endpoint, with everything that was decided for it.
  returned: success and O(state=present)
  type: dict
  sample:
    network: macvlan50
    name: shop
    workload: netns:shop
    interface: eth0
    addresses: [192.168.50.64/24]
    mac: "92:1d:6f:3c:50:0e"
    gateway: {ipv4: 192.168.50.1, ipv6: null}
    parent: eth0.50
    owner: task
interface:
  description: The name of the link inside the workload.
  returned: success and O(state=present)
  type: str
  sample: eth0
addresses:
  description: The addresses that it holds, each with the prefix length of its subnet.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: [192.168.50.64/24]
mac:
  description: Its MAC; none in check mode where the kernel has yet to tell that of an ipvlan link.
  returned: success and O(state=present)
  type: str
  sample: "92:1d:6f:3c:50:0e"
gateway:
  description: The next hops that its network gives it, whether or not the workload's default route uses them.
  returned: success and O(state=present)
  type: dict
  sample: {ipv4: 192.168.50.1, ipv6: null}
parent:
  description: The kernel's name of the host's link that the endpoint sits on.
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
      sample: {"netns": {"create": 1}, "link": {"create": 1, "change": 1}, "address": {"create": 1}, "route": {"create": 1}, "endpoint": {"create": 1}}
    total:
      description: How many changes there are.
      type: int
      sample: 6
    first:
      description: The first of them, a line each.
      type: list
      elements: str
      sample: ["create netns netns:shop: a namespace that is not there yet"]
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
      sample: ipv4_address
    what:
      description: What is wrong.
      type: str
      sample: 192.168.50.1 is the gateway
    cure:
      description: What to do about it.
      type: str
      sample: "give another address, or leave it to us"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine import describe
from ..module_utils._engine.converge import Outcome
from ..module_utils._engine.world import Spec


def _tell(key: str, spec: Spec, outcome: Outcome) -> Dict[str, Any]:
    found = describe.endpoint(spec, outcome.networks, outcome.world)
    return {"endpoint": found, **{option: found[option] for option in ("interface", "addresses", "mac", "gateway", "parent")}}


def main() -> None:
    _module.run_item("endpoint", _argspec.vlan_endpoint(), _tell)


if __name__ == "__main__":
    main()
