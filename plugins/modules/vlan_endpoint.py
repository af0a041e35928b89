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
  - Does for any workload what C(docker network connect) does for a Docker container. A workload is a named network namespace, a process, or
    a container of Docker or Podman.
  - The endpoint is a macvlan or ipvlan link inside the workload. Its addresses are leased to its name, and stay with it across reboots and
    restarts of the workload until the endpoint is absent.
  - A named namespace that does not exist is created. It is removed with its last endpoint, unless something else uses it.
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
    description: The ID of a process, whose network namespace is used. It does not survive a reboot.
    type: int
  container:
    description:
      - A running container. After a restart, or if the container was recreated, the next run attaches it again with the same addresses.
      - A renamed container is attached by its new name and keeps its link. The old name is refused while the container lives.
      - Where another container shares its network namespace and keeps the old one alive, the endpoint still follows its owner.
    type: dict
    suboptions:
      engine:
        description: The container engine.
        type: str
        choices: [docker, podman]
        required: true
      name:
        description: The name or ID of the container.
        type: str
        required: true
  interface:
    description:
      - The name of the link inside, 15 characters at most.
      - Defaults to the first free C(ethN), or C(netN) in a container that also has networks of its engine.
    type: str
  ipv4_address:
    description:
      - An address in one of the network's subnets, inside or outside its C(ip_range), or V(dhcp) for a lease of a DHCP server in the network.
      - Defaults to the lowest free address, or to V(dhcp) with O(netops.underlay.vlan_network#module:addressing=dhcp) of the network.
      - With V(dhcp) the endpoint gets no IPv4 address of the network's pools. The DHCP client of M(netops.underlay.vlan_service) asks for the
        lease, keeps it for as long as the endpoint lives, and gives it back before its link goes. The address is on the link, the
        server's routes (options 3 and 121) in the main table of the workload, and its nameservers and domains in C(resolv.conf), see O(dns).
      - The task waits for the lease, see O(dhcp_timeout). Check mode does not know the address. RV(endpoint) and
        M(netops.underlay.vlan_info) show it as C(lease).
      - Other members of the network do not know the address by the endpoint's name, and the host does not reach it through C(host_access).
      - When V(dhcp) is no longer asked for, the lease is given back, and its address and routes are removed.
      - Refused for ipvlan, whose endpoints have one MAC, for internal networks, with C(spoof_check), O(source_routing), O(vlans) and
        O(kind=tap), and on a host without the client, see O(netops.underlay.vlan_service#module:dhcp).
    type: str
  dhcp_client_id:
    description:
      - What the endpoint names itself by to a DHCP server (option 61), a text or octets such as V("01:02:00:51:aa:bb:cc"), in quotes.
      - By default it derives from the host's registry, the network and the name, so that an endpoint that is made again gets its address again.
      - A DHCPv6 server goes by the DUID in it, which octets after RFC 4361 have, V(ff), an IAID of four and the DUID, as
        V("ff:00:00:00:01:00:03:00:01:02:00:51:aa:bb:cc"). Any other is for IPv4 alone, and refused where only O(ipv6_address=dhcp) is asked for.
      - Another one gives the lease back, and asks for a new one.
    type: str
  dhcp_hostname:
    description: The host name that a DHCP server gets (option 12, and 39 for IPv6), for its DNS. Defaults to the name of the endpoint.
    type: str
  ipv6_address:
    description:
      - As O(ipv4_address), or V(slaac) for the addresses that the kernel makes of what the routers of the network advertise (RFC 4862).
      - With V(dhcp) the endpoint has one address of a DHCPv6 server (RFC 8415), with the lifetimes that it gave, and its nameservers and domains,
        if O(dns) is not given. DHCPv6 has no routes, so the subnet and the default route are those that routers advertise, unless
        O(default_route.ipv6) is V(never); no other address is made of that, but with O(accept_ra). The endpoint asks whether or not a
        router says that there is a server. It is C(lease_ipv6) in RV(endpoint) and M(netops.underlay.vlan_info). Otherwise as for IPv4, also
        on ipvlan networks in mode l2.
      - With V(slaac) the endpoint gets no IPv6 address of the network's pools, and its default route is the router's, unless
        O(default_route.ipv6) is V(never). The network needs no IPv6 subnet. The task does not wait for a router, and check mode does not
        know the addresses. RV(endpoint) and M(netops.underlay.vlan_info) show those that there are as C(slaac_addresses).
      - The workload may forward. The addresses derive from the MAC, so on a macvlan network they stay the same. Other members of the
        network do not know them by the endpoint's name, and the host does not reach them through C(host_access).
      - When V(slaac) is no longer asked for, the addresses and the default route of the router are removed.
      - Both are refused for L3 and internal networks, with C(spoof_check) and for O(kind=tap).
    type: str
  ipv4_addresses:
    description:
      - Further addresses of the endpoint, in addition to its first one, each in one of the network's subnets.
      - The workload sends from the first one. Of several in one subnet, only the first has the subnet's prefix length.
    type: list
    elements: str
  ipv6_addresses:
    description: As O(ipv4_addresses).
    type: list
    elements: str
  allowed_addresses:
    description:
      - Addresses that the workload takes and gives up by itself, such as a virtual address of VRRP (keepalived). Several endpoints of the
        network may list the same.
      - They are reserved, so no endpoint gets one. They are not assigned, and those that a workload has taken are
        not removed.
      - On an ipvlan network, the kernel lets only one endpoint of a parent have an address at a time.
    type: list
    elements: str
  subnet:
    description: The subnet to allocate the address from, if the network has several.
    type: str
  mac_address:
    description:
      - Defaults to a MAC derived from host, network and name, so it is always the same.
      - Refused for ipvlan and for passthru mode, whose endpoints have the MAC of their parent.
    type: str
  kind:
    description:
      - V(tap) makes a macvtap for a virtual machine instead of a link for the namespace. QEMU opens its device node, which is
        C(/dev/netops-underlay/NETWORK/NAME) and returned as C(device) of RV(endpoint). The kernel's own node, C(/dev/tapN), gets another
        number at every boot and is left alone.
      - The node is back after a reboot if the service may make it, see O(netops.underlay.vlan_service#module:taps).
      - The addresses are leased and reserved as usual, and other members of the network know the endpoint by its name. They are for the
        guest and not set on the link, so give the guest RV(addresses), RV(gateway) and RV(mac).
      - A tap needs Linux 5.2, a macvlan network, and O(netns), even if nothing else uses that namespace.
      - What a guest configures itself is refused, such as O(routes), O(default_route), O(hosts), O(dns), O(sysctls), O(accept_ra) and O(probe).
    type: str
    choices: [link, tap]
    default: link
  tap_owner:
    description: The user that the device node belongs to, by name or number. Defaults to root.
    type: str
  tap_group:
    description: The group that the device node belongs to, by name or number. Defaults to root's.
    type: str
  tap_mode:
    description: The mode of the device node, in quotes. Defaults to V("0660").
    type: raw
  source_macs:
    description:
      - The MACs that an endpoint of a macvlan network in mode V(source) receives from, 1,000 at most. Required there, and refused in any
        other mode. A neighbour that is not listed cannot even resolve the endpoint's address, so list the gateway too.
      - The list can be changed in place. Endpoints on one parent do not hear each other.
    type: list
    elements: str
  mtu:
    description: The MTU in bytes. Defaults to that of the network.
    type: int
  aliases:
    description: Additional names for the endpoint in the network.
    type: list
    elements: str
  hosts:
    description:
      - Additional host names and addresses for the workload, such as members on other hosts.
      - They are written, with the names of the network's members, to a marked block of C(/etc/netns/NAME/hosts) or of a container's
        C(/etc/hosts). A process given by O(pid) has no known hosts file.
      - Writing a container's file needs Linux 5.6 or later. On older kernels it is left alone, with a warning.
    type: dict
  dns:
    description:
      - The nameservers of the workload, 3 at most, because resolvers use no more. As C(--dns) of Docker.
      - They are written, with O(dns_search) and O(dns_options), to a marked block of C(/etc/netns/NAME/resolv.conf), which C(ip netns exec)
        shows as C(/etc/resolv.conf), or of a container's C(/etc/resolv.conf). Lines of others that say the same thing there, such as other
        nameservers, become comments for as long as the block is there.
      - A workload with several endpoints has one resolver. Their lists are joined, the endpoint with the highest O(gw_priority) first, then by
        name; more than a resolver uses is refused.
      - No endpoint is assigned a nameserver's address in a subnet of its network; the nameserver itself gets it by O(ipv4_address),
        O(ipv6_address) or O(netops.underlay.vlan_network#module:host_access). Refused where another endpoint was assigned it before.
      - Defaults to O(netops.underlay.vlan_network#module:dns) of the network, as do O(dns_search) and O(dns_options); V([]) means none.
        Where neither gives any, the nameservers and domains of a DHCP server count, as far as a resolver uses them.
      - A process given by O(pid) has no known C(resolv.conf). Refused where the file is not the workload's own, such as the host's mounted
        into a container, or a symbolic link. A container's needs Linux 5.6 or later.
      - A container without a C(resolv.conf), as Podman starts it with C(--network none), gets one, which goes with its last line of ours.
      - An endpoint that is removed while its container is stopped leaves the block in the file. Docker writes the file anew at the next start;
        with Podman, remove the block by hand.
    type: list
    elements: str
  dns_search:
    description:
      - The domains in which the workload looks up short names, 6 with 247 characters at most. As C(--dns-search) of Docker.
      - A named namespace needs O(dns) too, because its file stands for the host's.
    type: list
    elements: str
  dns_options:
    description: Options of the workload's resolver, as in C(resolv.conf), such as V(ndots:2). As C(--dns-option) of Docker. Of an option that
      several endpoints of a workload give, the first counts.
    type: list
    elements: str
  gw_priority:
    description:
      - In a workload with several endpoints, the one with the highest priority provides the default route; among equals, the first by name.
      - Beside an endpoint that heeds routers (O(accept_ra), O(ipv6_address)) or has a lease (O(ipv4_address=dhcp)), whose default route has
        metric 1024, that of another one has metric 512 if its priority is the higher one, else 2048, for the time that the other is away.
    type: int
    default: 0
  default_route:
    description: Whether the endpoint provides the workload's default route, for each family.
    type: dict
    suboptions:
      ipv4:
        description:
          - V(auto) keeps an existing foreign default route, V(always) fails if there is one, V(never) adds none.
          - With O(ipv4_address=dhcp), V(auto) uses that of the server, and V(always) is refused.
        type: str
        choices: [auto, always, never]
        default: auto
      ipv6:
        description:
          - As O(default_route.ipv4). With O(accept_ra), V(auto) uses the default route from router advertisements; the other values ignore
            it. V(always) is refused with O(ipv6_address=slaac) and O(ipv6_address=dhcp).
        type: str
        choices: [auto, always, never]
        default: auto
  routes:
    description: Additional routes of the workload through this endpoint.
    type: list
    elements: dict
    suboptions:
      prefix:
        description: The destination, in CIDR notation.
        type: str
        required: true
      via:
        description: The next hop. Without it, the route is to the device.
        type: str
      metric:
        description: The metric of the route.
        type: int
      table:
        description: The number of the routing table. Defaults to the main table and, with O(source_routing), the endpoint's own.
        type: int
  source_routing:
    description:
      - Whether a workload with several networks replies over the network that the request came in on. Packets from an address of this
        endpoint use the endpoint's own routing table, with the network's gateway and O(routes).
      - Rules with protocol 201 and priority 8021 select the table. The numbers of the tables start at 8021.
      - Defaults to that of the network.
    type: bool
  sysctls:
    description:
      - Sysctls of the link, such as C(net.ipv4.conf.IFNAME.arp_ignore), with the literal C(IFNAME) in place of its name.
    type: dict
  accept_ra:
    description:
      - Whether the workload accepts router advertisements, and addresses from them, beside those of the network's pools. O(ipv6_address=slaac)
        implies it.
    type: bool
    default: false
  probe:
    description:
      - Whether to check on the wire first that no other host uses the address (RFC 5227, RFC 4862). If one does, the next free address is
        taken. A requested address is refused instead, with the MAC of its holder.
      - Takes two seconds for all endpoints of a task together, and only if addresses are added. Check mode sends nothing and says so.
      - Refused in L3 modes, where an endpoint has no neighbours.
    type: bool
    default: false
  ingress_rate:
    description:
      - The bandwidth of what reaches the endpoint, in bits per second or with a unit of iproute2, such as V(100mbit) or V(1gbit). Not limited
        by default.
      - Packets beyond it are dropped by a policer at the link (C(matchall) and C(police) of C(tc)). UDP gets the rate. TCP, which slows down
        with each loss, gets some 80 to 95 percent of it.
      - Works for macvlan, ipvlan and taps. Refused in mode V(l3s) of ipvlan, whose packets reach the endpoint past its qdisc, and where
        somebody else has an ingress qdisc on the link.
    type: str
  ingress_burst:
    description:
      - How many bytes may arrive at once beyond O(ingress_rate), such as V(512kb). At least a packet of the MTU, and at most what the rate
        takes four seconds for.
      - Defaults to 250 ms of the rate, at least V(256kb). NICs hand packets over in pieces of up to 64 kB (GRO), and TCP is slow with less.
    type: str
  egress_rate:
    description:
      - The bandwidth of what the endpoint sends, written as O(ingress_rate). Packets beyond it wait up to 50 ms (C(tbf) of C(tc)).
      - Refused where somebody else has a qdisc on the link.
    type: str
  egress_burst:
    description:
      - How many bytes may be sent at once beyond O(egress_rate), as O(ingress_burst). Defaults to 10 ms of the rate, at least V(32kb).
    type: str
  vlans:
    description:
      - The VLANs of a trunk, for a router or a firewall, as VLAN IDs and ranges such as V(20-29). The endpoint then has a link for each,
        V(eth0.10) and so on, and none without a tag. They all have its MAC, and its workload gives them their addresses.
      - Each is a macvlan on the host's sub-interface for that VLAN, which is made as needed. So frames of other VLANs never arrive, whatever the
        workload may do. A VLAN that joins or leaves the list does not touch the links of the others.
      - Needs a macvlan network in mode V(bridge), V(private) or V(vepa) with a parent, and without C(spoof_check). A VLAN that is also the
        parent of another network needs C(share_parent) on both networks.
      - Refused with addresses, routes and what else belongs to a link that we configure, with bandwidths, and with O(kind=tap).
      - O(interface) is what the names of the links begin with.
    type: list
    elements: str
  state:
    description:
      - V(absent) removes the endpoint and releases its addresses.
      - Removing an endpoint does not need the container engine. If the engine does not answer, the host looks for the link in every network
        namespace. The lines in the container's hosts file then stay until the container restarts, and a warning says so.
      - V(released) only releases the addresses of a workload that is gone, and fails while it lives.
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

- name: A Podman container with fixed addresses
  netops.underlay.vlan_endpoint:
    network: web
    name: proxy
    container: {engine: podman, name: proxy}
    ipv4_address: 172.16.50.80
    ipv6_address: 2001:db8:50::80
    aliases: [www]

- name: A server with a second address, and a virtual one that keepalived moves between this server and another
  netops.underlay.vlan_endpoint:
    network: web
    name: www1
    netns: www1
    ipv4_addresses: [172.16.50.91]
    allowed_addresses: [172.16.50.100, "2001:db8:50::100"]
    dns: [172.16.50.53, "2001:db8:50::53"]
    dns_search: [example.com]

# After:
#   # ip netns exec www1 grep -v '^#' /etc/resolv.conf
#   nameserver 172.16.50.53
#   nameserver 2001:db8:50::53
#   search example.com

- name: The same namespace on a second network, without a default route through it
  netops.underlay.vlan_endpoint:
    network: backup
    name: shop
    netns: shop
    default_route: {ipv4: never}
    source_routing: true
    routes:
      - prefix: 10.9.0.0/16
        via: 10.1.0.1

# After:
#   # ip -n shop rule
#   0:      from all lookup local
#   8021:   from 10.1.0.2 lookup 8021 proto 201
#   32766:  from all lookup main
#   32767:  from all lookup default
#   # ip -n shop route show table 8021
#   default via 10.1.0.1 dev eth1 proto 201
#   10.1.0.0/24 dev eth1 proto 201 scope link
#   10.9.0.0/16 via 10.1.0.1 dev eth1 proto 201

# Before:
#   # ip netns
#   shop

- name: Detach it; the namespace is removed with its last endpoint
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    state: absent

# After:
#   # ip netns
#   (nothing)

# A container or a daemon can also be started in the namespace, which then has its addresses and names:
#
#   podman run --network ns:/run/netns/shop -v /etc/netns/shop/hosts:/etc/hosts:ro IMAGE
#
#   # of a systemd unit
#   [Unit]
#   After=netops-underlay.service
#   [Service]
#   NetworkNamespacePath=/run/netns/shop
#   BindReadOnlyPaths=/etc/netns/shop/hosts:/etc/hosts
- name: Create a namespace before its daemon starts
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    netns: shop
    probe: true

# Before: the container is removed, and its addresses are kept for the next one of its name
#   # underlay show web/proxy
#   ENDPOINT   INTERFACE    WORKLOAD      ADDRESS
#   web/proxy  eth0 (gone)  podman:proxy  172.16.50.80/24
#                                         2001:db8:50::80/64

- name: Release the addresses of a container that will not be started again
  netops.underlay.vlan_endpoint:
    network: web
    name: proxy
    state: released

# After:
#   # underlay show web/proxy
#   underlay: this host has no network, endpoint, link or set of routes web/proxy; see underlay show

- name: A tap for a virtual machine
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: vm1
    netns: vm1
    kind: tap
    tap_group: kvm

# After:
#   # ls -l /dev/netops-underlay/macvlan50
#   crw-rw---- 1 root kvm 251, 1 Nov 30 12:00 vm1
#
# The shell opens the node and hands it to QEMU. MAC is the mac that the task returns; the guest is given its addresses and gateway:
#
#   qemu-system-x86_64 -m 512 -drive file=vm1.qcow2 \
#     -netdev tap,id=net0,fd=3 -device virtio-net-pci,netdev=net0,mac=MAC 3<>/dev/netops-underlay/macvlan50/vm1
#
# udev manages nodes of the kernel's names only. If the node is missing or has another owner, the service or the next run puts it right.

- name: A namespace that receives 100 Mbit/s at most, and sends 20
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: guest
    netns: guest
    ingress_rate: 100mbit
    egress_rate: 20mbit

# After:
#   # tc -n guest qdisc show dev eth0
#   qdisc tbf 1f55: root refcnt 2 rate 20Mbit burst 32Kb lat 50ms
#   qdisc ingress ffff: parent ffff:fff1 ----------------
#
# Change either in place by another value, or leave it out to lift the limit.

- name: IPv4 from the pool of the network, IPv6 from the routers of the VLAN
  netops.underlay.vlan_endpoint:
    network: macvlan50
    name: shop
    netns: shop
    ipv6_address: slaac

# A lease of the DHCP server of the VLAN, on a host with dhcp: true of vlan_service:
#
# - name: Ask the DHCP server, under a name of its own
#   netops.underlay.vlan_endpoint:
#     network: macvlan50
#     name: web
#     netns: web
#     ipv4_address: dhcp
#     dhcp_hostname: web.example.com
#     dhcp_client_id: "01:02:00:51:aa:bb:cc"
#
# - name: Ask for both versions; the router is that of IPv6
#   netops.underlay.vlan_endpoint:
#     network: macvlan50
#     name: shop
#     netns: shop
#     ipv4_address: dhcp
#     ipv6_address: dhcp

- name: A firewall with the VLANs 10 and 20 to 29 of the NIC that a network is on
  netops.underlay.vlan_endpoint:
    network: uplink
    name: fw
    netns: fw
    vlans: [10, 20-29]

# After:
#   # ip -n fw -br link
#   lo              UNKNOWN  00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP>
#   eth0.10@if20    UP       62:de:5b:34:8a:01 <BROADCAST,MULTICAST,UP,LOWER_UP>
#   eth0.20@if21    UP       62:de:5b:34:8a:01 <BROADCAST,MULTICAST,UP,LOWER_UP>
#   ...

- name: On a network in mode source, hear the two routers of the VLAN and no others
  netops.underlay.vlan_endpoint:
    network: listening
    name: sensor
    netns: sensor
    source_macs: ["00:00:5e:00:01:3c", "52:54:00:12:60:01"]
"""

RETURN = r"""
endpoint:
  description:
    - The endpoint, including allocated values. C(lease), with O(ipv4_address=dhcp), has C(address), C(server), C(routers), C(dns) and
      C(expires), in UTC; none while no server has answered. C(lease_ipv6), with O(ipv6_address=dhcp), has the same.
    - C(slaac_addresses), where it heeds routers, are those that the kernel has made of their advertisements by now; C(gateway) then has the router.
  returned: success and O(state=present)
  type: dict
  sample:
    network: macvlan50
    name: shop
    workload: netns:shop
    interface: eth0
    addresses: [192.168.50.64/24]
    allowed_addresses: []
    routing_table: null
    mac: "92:1d:6f:3c:50:0e"
    gateway: {ipv4: 192.168.50.1, ipv6: null}
    parent: eth0.50
    owner: task
interface:
  description: The name of the link inside the workload. Of a trunk C(endpoint.interfaces) lists those of all its links.
  returned: success and O(state=present)
  type: str
  sample: eth0
addresses:
  description: The endpoint's addresses, each with the prefix length of its subnet.
  returned: success and O(state=present)
  type: list
  elements: str
  sample: [192.168.50.64/24]
mac:
  description: The MAC; none in check mode for a new ipvlan link.
  returned: success and O(state=present)
  type: str
  sample: "92:1d:6f:3c:50:0e"
gateway:
  description: The gateways of the network, whether or not the workload's default route uses them, or the router that was heeded.
  returned: success and O(state=present)
  type: dict
  sample: {ipv4: 192.168.50.1, ipv6: null}
parent:
  description: The kernel name of the endpoint's parent.
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
      sample: {"netns": {"create": 1}, "link": {"create": 1, "change": 1}, "address": {"create": 1}, "route": {"create": 1}, "endpoint": {"create": 1}}
    total:
      description: The number of changes.
      type: int
      sample: 6
    first:
      description: The first changes, one line each.
      type: list
      elements: str
      sample: ["create netns netns:shop: a namespace that does not exist yet"]
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
      sample: ipv4_address
    what:
      description: What is wrong.
      type: str
      sample: 192.168.50.1 is the gateway
    cure:
      description: How to fix it.
      type: str
      sample: "give another address, or leave it to us"
"""

from typing import Any, Dict

from ..module_utils import _argspec, _module
from ..module_utils._engine.core.endpoint_specs import EndpointSpec
from ..module_utils._engine.report import describe
from ..module_utils._engine.run.converge import Outcome


def _tell(key: str, spec: EndpointSpec, outcome: Outcome) -> Dict[str, Any]:
    found = describe.endpoint(spec, outcome.networks, outcome.observed)
    return {
        "endpoint": found,
        **{option: found[option] for option in ("interface", "addresses", "mac", "gateway", "parent")},
    }


def main() -> None:
    _module.run_item("endpoint", _argspec.vlan_endpoint(), _tell)


if __name__ == "__main__":
    main()
