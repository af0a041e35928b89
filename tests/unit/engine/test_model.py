# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users write: every refusal of a row, by its text, and what a good row becomes."""

from __future__ import annotations

import copy
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import fields, model, resolver
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.naming import link_names

from tests.support.engine_messages import texts_without_a_test

NETWORK: Dict[str, Any] = {"name": "n", "driver": "macvlan"}
ENDPOINT: Dict[str, Any] = {"network": "n", "name": "e", "netns": "e"}
VLAN: Dict[str, Any] = {"parent": "eth0", "vlan_id": 5}


def subnet(**row: Any) -> Dict[str, Any]:
    return {**NETWORK, "subnets": [{"subnet": "192.0.2.0/24", **row}]}


def route(**row: Any) -> Dict[str, Any]:
    return {"name": "r", "routes": [{"prefix": "10.1.0.0/16", **row}]}


#: kind, row, and everything that is wrong with it
ROWS: List[Tuple[str, Any, List[str]]] = [
    ("vlan", {}, ["parent: is missing; it is required", "vlan_id: is missing; it is required"]),
    ("vlan", "eth0.5", ["'eth0.5' is not a mapping; give the item's options as key: value"]),
    ("vlan", {**VLAN, "vlan_id": 4095}, ["vlan_id: 4095 is not a whole number from 1 to 4094; give one"]),
    ("vlan", {**VLAN, "vlan_id": True}, ["vlan_id: True is not a whole number from 1 to 4094; give one"]),
    ("vlan", {**VLAN, "vlan_id": "ten"}, ["vlan_id: 'ten' is not a whole number from 1 to 4094; give one"]),
    ("vlan", {**VLAN, "mtu": 9}, ["mtu: 9 is not a whole number from 68 to 65535 bytes; give one"]),
    ("vlan", {**VLAN, "vlanid": 5}, ["vlanid: unknown option; did you mean vlan_id?"]),
    ("vlan", {**VLAN, "parent": "eth 0"}, ["parent: 'eth 0' is not a link name; leave out spaces, '/', ':' and '%'"]),
    ("vlan", {**VLAN, "name": "all"}, ["name: all is not a link name; give another: the kernel keeps all and default for settings"]),
    ("vlan", {**VLAN, "addresses": ["127.0.0.5/8", "ff02::1/64", "0.0.0.0/24", "255.255.255.255/32", "::/64", "192.0.2.0/31"]}, [
        "addresses[0]: 127.0.0.5/8 is loopback; give a unicast address", "addresses[1]: ff02::1/64 is multicast; give a unicast address",
        "addresses[2]: 0.0.0.0/24 is unspecified; give a unicast address",
        "addresses[3]: 255.255.255.255/32 is the broadcast address; give a unicast address",
        "addresses[4]: ::/64 is unspecified; give a unicast address"]),
    ("vlan", {**VLAN, "parent": "lo"}, ["parent: lo is the loopback; give a NIC, a bond, a VLAN sub-interface or a dummy"]),
    ("vlan", {**VLAN, "protocol": "qinq"}, ["protocol: 'qinq' is not a choice; give one of 802.1q, 802.1ad"]),
    ("vlan", {**VLAN, "gvrp": "perhaps"}, ["gvrp: 'perhaps' is not a boolean; give true or false"]),
    ("vlan", {**VLAN, "gvrp": True, "mvrp": True}, ["mvrp: GVRP and MVRP announce the same VLAN twice; choose the one that the switch supports"]),
    ("vlan", {**VLAN, "addresses": "192.0.2.1/24"}, ["addresses: '192.0.2.1/24' is not a list; write one item a line, each with '- '"]),
    (
        "vlan",
        {**VLAN, "addresses": ["192.0.2.1/24", "192.0.2.1", "x"]},
        [
            "addresses[1]: '192.0.2.1' is not an address with prefix length; write it as 192.0.2.10/24",
            "addresses[2]: 'x' is not an address with prefix length; write it as 192.0.2.10/24",
        ],
    ),
    ("vlan", {**VLAN, "egress_qos_map": [0]}, ["egress_qos_map: [0] is not a mapping; write it as key: value"]),
    ("vlan", {**VLAN, "egress_qos_map": {0: 9}}, ["egress_qos_map.0: 9 is not a whole number from 0 to 7; give one"]),
    ("network", {**NETWORK, "name": "-n"}, [
        "name: '-n' is not a usable name; start with a letter or digit, then letters, digits, '_', '.', '-', 128 at most"]),
    ("network", {"name": "n"}, ["driver: is missing; it is required"]),
    ("network", {**NETWORK, "subnets": {"subnet": "x"}}, ["subnets: {'subnet': 'x'} is not a list; write one item a line, each with '- '"]),
    ("network", {**NETWORK, "mode": "l3"}, ["mode: macvlan has no mode l3; give one of bridge, private, vepa, passthru, source"]),
    ("network", {**NETWORK, "driver": "ipvlan", "mode": "bridge"}, ["mode: ipvlan has no mode bridge; give one of l2, l3, l3s"]),
    ("network", {**NETWORK, "flag": "private"}, ["flag: macvlan has no flag; leave it out, or use mode: private or vepa"]),
    ("network", {**NETWORK, "driver": "ipvlan", "bclim": 3, "bcqueuelen": 3}, [
        "bcqueuelen: ipvlan has no broadcast queue; leave it out, or use macvlan", "bclim: ipvlan has no broadcast queue; leave it out, or use macvlan"]),
    ("network", {**NETWORK, "nopromisc": True}, [
        "nopromisc: mode bridge does not make its parent promiscuous; leave it out, or use mode: passthru"]),
    ("network", {**NETWORK, "driver": "ipvlan", "nopromisc": True}, [
        "nopromisc: mode l2 does not make its parent promiscuous; leave it out, or use macvlan with mode: passthru"]),
    *(("network", {**NETWORK, **options, "spoof_check": True}, [
        "spoof_check: endpoints that have the MAC of their parent cannot be identified by it; leave it out, or use macvlan with mode: bridge"])
      for options in ({"driver": "ipvlan"}, {"mode": "passthru"})),
    ("endpoint", {**ENDPOINT, "kind": "tap", "tap_owner": "a b", "tap_mode": 432}, [
        "tap_owner: 'a b' is not a user or a group; give a name as in /etc/passwd, or a number",
        'tap_mode: 432 is not a file mode in quotes; write it as "0660"']),
    ("endpoint", {**ENDPOINT, "tap_owner": "0", "tap_group": 0, "tap_mode": "0600"}, [
        "tap_owner: has no effect without kind: tap; set kind: tap, or leave it out",
        "tap_group: has no effect without kind: tap; set kind: tap, or leave it out",
        "tap_mode: has no effect without kind: tap; set kind: tap, or leave it out"]),
    ("endpoint", {"network": "n", "name": "e", "kind": "tap", "container": "docker:web", "hosts": {"db": "192.0.2.9"}, "gw_priority": 5,
                  "accept_ra": True, "default_route": {"ipv4": "never"}}, [
        "container: a tap is for a virtual machine of the host; give netns, which is created where it does not exist",
        "hosts: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest",
        "gw_priority: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest",
        "accept_ra: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest",
        "default_route: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest"]),
    ("endpoint", {**ENDPOINT, "ipv6_address": "dhcp", "kind": "tap"}, [
        "ipv6_address: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest"]),
    ("endpoint", {**ENDPOINT, "ipv4_address": "dhcp", "dhcp_client_id": "x" * 254, "dhcp_hostname": "web 1"}, [
        f"dhcp_client_id: '{'x' * 60}' is not a client ID of DHCP; "
        "write it as 01:02:00:51:aa:bb:cc, or as a text of 253 characters at most, in quotes",
        "dhcp_hostname: 'web 1' is not a host name; write it as web1 or web1.example.com"]),
    ("endpoint", {**ENDPOINT, "ipv4_address": "dhcp", "kind": "tap", "dhcp_hostname": "web"}, [
        "dhcp_hostname: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest",
        "ipv4_address: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest"]),
    ("network", {**NETWORK, "driver": "ipvlan", "parent": "eth0.9", "addressing": "dhcp", "source_routing": True}, [
        "addressing: endpoints of ipvlan have one MAC, by which a DHCP server gives them one address; leave it out, or use macvlan",
        "source_routing: routes by addresses that are known, and a DHCP server gives others; leave it out, or leave out addressing: dhcp"]),
    ("network", {**NETWORK, "addressing": "dhcp", "enable_ipv4": False}, [
        "addressing: an internal network has no DHCP server; leave it out, or give it a parent",
        "enable_ipv4: is false, but a DHCP server gives IPv4 addresses; leave it out, or leave out addressing: dhcp"]),
    ("network", {**NETWORK, "parent": "eth0.9", "addressing": "dhcp", "spoof_check": True}, [
        "spoof_check: lets no address through that a DHCP server gave; leave it out, or leave out addressing: dhcp"]),
    ("endpoint", {**ENDPOINT, "ipv6_address": "slaac", "kind": "tap"}, [
        "ipv6_address: is the guest's to configure, for a tap is only the way to it; leave it out, and set it in the guest"]),
    ("endpoint", {**ENDPOINT, "ipv6_address": "slaac", "subnet": "2001:db8::/64", "default_route": {"ipv6": "always"},
                  "sysctls": {"ipv6.accept_ra": 0, "ipv6.autoconf": 0, "ipv6.disable_ipv6": 1}}, [
        "subnet: with SLAAC the router says which prefix the endpoint gets; leave it out",
        "default_route.ipv6: with SLAAC the router is the way out too, and always would ignore it; give auto or never",
        "sysctls.ipv6.accept_ra: 0 switches off SLAAC; leave it out",
        "sysctls.ipv6.autoconf: 0 switches off SLAAC; leave it out",
        "sysctls.ipv6.disable_ipv6: 1 switches off SLAAC; leave it out"]),
    ("endpoint", {**ENDPOINT, "ingress_rate": "fast", "egress_rate": "0mbit", "egress_burst": "0"}, [
        "ingress_rate: 'fast' is not a rate; write it as 100mbit or 1gbit; a number alone is bits per second",
        "egress_rate: 0mbit is not a rate from 8bit to 1tbit; give one, or leave it out for no limit",
        "egress_burst: 0 is not a burst from 1b to 4gb; give one, or leave it out for the usual one"]),
    ("endpoint", {**ENDPOINT, "ingress_rate": "-1mbit", "egress_rate": "10mbps", "ingress_burst": "8kbit"}, [
        "ingress_rate: '-1mbit' is not a rate; write it as 100mbit or 1gbit; a number alone is bits per second",
        "egress_rate: 10mbps: mbps is bytes per second in tc, and bits elsewhere; write it as 10mbit",
        "ingress_burst: '8kbit' is not a burst; write it as 64kb or 1mb; a number alone is bytes"]),
    ("endpoint", {**ENDPOINT, "ingress_burst": "64kb", "egress_rate": "1mbit", "egress_burst": "1mb"}, [
        "ingress_burst: is nothing without ingress_rate; give ingress_rate, or leave it out",
        "egress_burst: 1mb takes more than 4 s at 1mbit; give 500000 at most, or leave it out"]),
    ("endpoint", {**ENDPOINT, "dns": ["ns1", "0.0.0.0", "fe80::1"], "dns_search": ["exa mple.com", 5], "dns_options": ["ndot:2", "ndots:16", "rotate:1"]}, [
        "dns[0]: 'ns1' is not an IP address; write it as 192.0.2.10 or 2001:db8::10",
        "dns[1]: 0.0.0.0 is no nameserver's address; give that of one host",
        "dns[2]: fe80::1 is on every link, and it does not say which; give another of its addresses",
        "dns_search[0]: 'exa mple.com' is not a DNS domain; write it as example.com, other alphabets as xn--...",
        "dns_search[1]: 5 is not a DNS domain; write it as example.com, other alphabets as xn--...",
        "dns_options[0]: 'ndot:2' is not an option of a resolver; give one of attempts, debug, edns0, ndots, no-aaaa, no-reload, no-tld-query, "
        "rotate, single-request, single-request-reopen, strict-error, timeout, trust-ad, use-vc",
        "dns_options[1]: ndots:16 has no number from 0 to 15; write it as ndots:15, or with less",
        "dns_options[2]: rotate:1 has a number, which rotate has not; write it as rotate"]),
    ("network", {**NETWORK, "dns": [f"192.0.2.{number}" for number in range(1, 5)], "dns_search": [f"{'d' * 60}.example" for _ in range(2)] * 4}, [
        "dns: 4 are more than the 3 that every resolver uses; list 3 at most"]),
    ("endpoint", {**ENDPOINT, "dns": ["192.0.2.53"], "dns_search": [f"d{number}.example" for number in range(7)]}, [
        "dns_search: 7 are more than the 6 that every resolver uses; list 6 at most"]),
    ("endpoint", {**ENDPOINT, "dns": ["192.0.2.53"], "dns_search": [f"{letter * 60}.example" for letter in "abcd"]}, [
        "dns_search: 275 characters, spaces included, are more than the 247 that every resolver reads; list fewer domains"]),
    ("endpoint", {**ENDPOINT, "vlans": [0, "4095", "29-20", "20-5000", "x", 10, "8-12"]}, [
        "vlans[0]: 0 is not a whole number from 1 to 4094; give one",
        "vlans[1]: '4095' is not a whole number from 1 to 4094; give one",
        "vlans[2]: 29-20 ends before it begins; write it as 20-29",
        "vlans[3]: '5000' is not a whole number from 1 to 4094; give one",
        "vlans[4]: 'x' is not a whole number from 1 to 4094; give one",
        "vlans[6]: VLAN 10 is listed already; list each VLAN once"]),
    ("endpoint", {**ENDPOINT, "vlans": []}, [
        "vlans: lists no VLAN; list one at least, or leave it out for an endpoint without tags"]),
    ("endpoint", {**ENDPOINT, "vlans": [5, "20-4094"], "interface": "uplink-name", "kind": "tap"}, [
        "kind: a tap carries one VLAN, without a tag; leave vlans out, and give the virtual machine a tap in a network on each VLAN",
        "interface: its links would be called uplink-name.4094, and a link's name has 15 characters at most; give a name of 10 at most"]),
    ("endpoint", {**ENDPOINT, "vlans": [5], "ipv4_address": "192.0.2.5", "gw_priority": 1, "aliases": ["r"], "egress_rate": "1mbit"}, [
        "ipv4_address: is the workload's to configure, for a trunk gives it links alone; leave it out, and set it in the workload",
        "gw_priority: is the workload's to configure, for a trunk gives it links alone; leave it out, and set it in the workload",
        "aliases: is the workload's to configure, for a trunk gives it links alone; leave it out, and set it in the workload",
        "egress_rate: is of one link, and a trunk has one for each VLAN; "
        "leave it out, or make an endpoint of its own in a network on that VLAN"]),
    ("network", {**NETWORK, "parent": "eth0", "internal": True}, [
        "internal: an internal network has its own dummy, and no parent; "
        "leave out parent, or set gateway: none on the subnets to have no default route"]),
    ("network", {**NETWORK, "probe": True}, [
        "probe: has no effect without host_access; set host_access too, or leave probe out; endpoints have their own probe option"]),
    ("network", {**NETWORK, "subnets": [{}]}, ["subnets[0].subnet: is missing; it is required"]),
    ("network", subnet(subnet="192.0.2.0/33"), ["subnets[0].subnet: '192.0.2.0/33' is not a subnet; write it as 192.0.2.0/24"]),
    ("network", subnet(subnet="192.0.2.0"), [
        "subnets[0].subnet: 192.0.2.0 has no prefix length; write it as 192.0.2.0/32, or the subnet's own length"]),
    ("network", subnet(subnet="::/0"), ["subnets[0].subnet: ::/0 covers every address; give the network's own subnet"]),
    ("network", subnet(subnet="224.0.1.0/24"), ["subnets[0].subnet: 224.0.1.0/24 is multicast; give a unicast subnet"]),
    ("network", subnet(subnet="ff05::/64"), ["subnets[0].subnet: ff05::/64 is multicast; give a unicast subnet"]),
    ("network", subnet(subnet="127.1.0.0/16"), ["subnets[0].subnet: 127.1.0.0/16 is loopback; give a unicast subnet"]),
    ("network", subnet(subnet="0.0.0.0/24"), ["subnets[0].subnet: 0.0.0.0/24 is unspecified; give a unicast subnet"]),
    ("network", subnet(subnet="fe80::/64"), [
        "subnets[0].subnet: fe80::/64 is link-local, as every link has it; give a subnet of the network's own"]),
    ("network", subnet(ip_range="198.51.100.0/26"), ["subnets[0].ip_range: 198.51.100.0/26 is not inside 192.0.2.0/24; give a part of 192.0.2.0/24"]),
    ("network", subnet(iprange="2001:db8::/64"), ["subnets[0].ip_range: 2001:db8::/64 is not inside 192.0.2.0/24; give a part of 192.0.2.0/24"]),
    ("network", subnet(aux_addresses={"r": "198.51.100.1"}), [
        "subnets[0].aux_addresses.r: 198.51.100.1 is not inside 192.0.2.0/24; give a part of 192.0.2.0/24"]),
    ("network", subnet(gateway="198.51.100.1"), [
        "subnets[0].gateway: 198.51.100.1 is not inside 192.0.2.0/24; give an address of 192.0.2.0/24, or none"]),
    ("network", subnet(gateway="192.0.2.255"), [
        "subnets[0].gateway: 192.0.2.255 is the broadcast address of 192.0.2.0/24; give an address of 192.0.2.0/24, or none"]),
    ("network", subnet(gateway="192.0.2.1/24"), ["subnets[0].gateway: '192.0.2.1/24' is not an IP address; write it without a prefix length"]),
    ("network", {**subnet(), "enable_ipv4": False}, ["enable_ipv4: is false, but an IPv4 subnet is given; remove one of the two"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0/16"}]}, [
        "subnets[1].subnet: 10.1.0.0/16 overlaps 10.0.0.0/8 of subnets[0]; give each subnet once"]),
    ("endpoint", {"network": "n", "name": "e"}, ["netns: no workload given; give netns, pid or container"]),
    ("endpoint", {**ENDPOINT, "pid": 7}, ["pid: several of netns, pid given; give netns, pid or container"]),
    ("endpoint", {**ENDPOINT, "netns": "a/b"}, ["netns: 'a/b' is not the name of a namespace; give a name as in 'ip netns list', no path"]),
    ("endpoint", {**ENDPOINT, "interface": "a-name-too-long-0"}, ["interface: a-name-too-long-0 has 17 characters; the kernel allows at most 15"]),
    ("endpoint", {**ENDPOINT, "ipv4_address": "2001:db8::1"}, ["ipv4_address: 2001:db8::1 is not an IPv4 address; give an IPv4 address"]),
    ("endpoint", {**ENDPOINT, "mac_address": "1:2"}, ["mac_address: '1:2' is not a MAC address; write it as 02:42:ac:11:00:02"]),
    ("endpoint", {**ENDPOINT, "mac_address": "01:00:5e:00:00:01"}, [
        "mac_address: 01:00:5e:00:00:01 is not a unicast MAC address; the first octet must be even, and not all octets 0"]),
    ("endpoint", {**ENDPOINT, "sysctls": {"kernel.hostname": 1}}, [
        "sysctls.kernel.hostname: kernel.hostname is not a sysctl of a link; "
        "write net.ipv4.conf.IFNAME.KEY or net.ipv6.conf.IFNAME.KEY, IFNAME as it is"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "0.0.0.0/0"}]}, ["routes[0].prefix: 0.0.0.0/0 is the default route; see default_route and gw_priority"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "10.0.0.0/8", "via": "fe80::1"}]}, [
        "routes[0].via: fe80::1 is not of the same IP version as 10.0.0.0/8; give a next hop of the same version"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "10.0.0.0/8"}, {"prefix": "10.0.0.0/8"}]}, [
        "routes[1].prefix: 10.0.0.0/8 is already listed in routes[0]; give another metric"]),
    ("routes", route(prefix="0.0.0.0/0", via="192.0.2.1"), ["routes[0].prefix: 0.0.0.0/0 is the default route; give the prefix of an L3 network"]),
    ("routes", route(via="2001:db8::1"), ["routes[0].via: 2001:db8::1 is not of the same IP version as 10.1.0.0/16; give a next hop of the same version"]),
    ("vlan", {**VLAN, "vlan_id": "010"},
     ["vlan_id: '010' is not a whole number from 1 to 4094; write it without the leading zero: an unquoted 010 is 8 in YAML"]),
    ("vlan", {**VLAN, "vlan_id": "1_0"}, ["vlan_id: '1_0' is not a whole number from 1 to 4094; write it as 10"]),
    ("vlan", {**VLAN, "vlan_id": "+10"}, ["vlan_id: '+10' is not a whole number from 1 to 4094; write it as 10"]),
    ("vlan", {**VLAN, "vlan_id": "\uff11\uff10"}, ["vlan_id: '\uff11\uff10' is not a whole number from 1 to 4094; write it as 10"]),
    ("vlan", {**VLAN, "addresses": ["fe80::1%eth0/64"]},
     ["addresses[0]: 'fe80::1%eth0/64' has a scope; write it without %eth0"]),
    ("network", {**NETWORK, "subnets": "- subnet: 10.0.0.0/24\n- subnet: 10.0.1.0/24\n"},
     ["subnets: is a string of 2 lines, not a list; parse it first: {{ ... | from_yaml }} or {{ ... | from_json }}"]),
    ("network", {**NETWORK, "driver_options": {"parent": "eth0"}},
     ["driver_options: unknown option; write its keys as options of the network: parent, mode, flag"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": "192.168.0.100/28"}]},
     ["subnets[0].ip_range: 192.168.0.100/28 has host bits set; write 192.168.0.96/28, or the range 192.168.0.100-192.168.0.111"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": "192.168.0.9-192.168.0.1"}]},
     ["subnets[0].ip_range: '192.168.0.9-192.168.0.1' does not run from a lower to a higher address; write it as FIRST-LAST"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": "192.168.0.9-2001:db8::1"}]},
     ["subnets[0].ip_range: '192.168.0.9-2001:db8::1' has addresses of two IP versions; write it as FIRST-LAST"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": ["192.168.0.9", "192.168.0.0/28"]}]},
     ["subnets[0].ip_range[1]: 192.168.0.0/28 overlaps the range 192.168.0.9; give each address once"]),
    ("endpoint", {**ENDPOINT, "ipv4_address": "192.0.2.5", "ipv4_addresses": ["192.0.2.6", "192.0.2.5"]},
     ["ipv4_addresses[1]: 192.0.2.5 is ipv4_address already; give each address once"]),
    ("endpoint", {**ENDPOINT, "ipv4_addresses": ["192.0.2.6"], "allowed_addresses": ["192.0.2.7", "192.0.2.6"]},
     ["allowed_addresses[1]: 192.0.2.6 is ipv4_addresses[0] already; give each address once"]),
    ("endpoint", {**ENDPOINT, "allowed_addresses": ["192.0.2.7", "192.0.2.7"]},
     ["allowed_addresses[1]: 192.0.2.7 is allowed_addresses[0] already; give each address once"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": []}]},
     ["subnets[0].ip_range: is an empty list; give one range at least, or leave it out for the whole subnet"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": ["192.168.0.192/29", "192.168.0.201/29"]}]},
     ["subnets[0].ip_range[1]: 192.168.0.201/29 has host bits set; write 192.168.0.200/29, or the range 192.168.0.201-192.168.0.207"]),
    ("network", {**NETWORK, "subnets": [{"subnet": "192.168.0.0/24", "ip_range": "x-y"}]},
     ["subnets[0].ip_range: 'x-y' is not an address, a prefix or a range; write it as 192.0.2.10, 192.0.2.0/28 or 192.0.2.10-192.0.2.20"]),
    ("endpoint", {"network": "n", "name": "e", "container": "nginx"},
     ["container: nginx does not say which engine; write docker:nginx or podman:nginx"]),
    ("routes", route(), ["routes[0].via: is missing, and so is dev; give the next hop, or the device"]),
    ("routes", route(type="blackhole", dev="eth0"), ["routes[0].type: a route of type blackhole has no next hop; leave out via and dev"]),
    ("routes", route(via="192.0.2.1", table=7, vrf="red"), ["routes[0].vrf: table is given too; give one of the two"]),
    ("routes", route(prefix="2001:db8::/32", via="fe80::1"), ["routes[0].dev: is missing, and fe80::1 is link-local; give the device"]),
]  # fmt: skip

#: whole maps, and everything that is wrong with them
MAPS: List[Tuple[Dict[str, Any], List[str]]] = [
    (
        {"trunks": {"t": {}}},
        ["trunks.t: needs exactly one of name and match; give the NIC's name, or match: {mac: ...}"],
    ),
    ({"trunks": {"t": {"match": {}}}}, ["trunks.t.match: needs exactly one of mac, pci, altname; give one"]),
    ({"purge_limit": "half"}, ["purge_limit: 'half' is not a limit; give a number, or a percentage such as 20%"]),
    ({"purge_limit": True}, ["purge_limit: True is not a limit; give a number, or a percentage such as 20%"]),
    (
        {"purge": True},
        [
            "purge: no rows were given, and what was not given is not removed; "
            "give networks, or networks: [] to remove all of this owner"
        ],
    ),
    (
        {"networks": [NETWORK, {**NETWORK, "mode": "vepa"}]},
        ["networks[1]: network n is already listed in networks[0]; list each once"],
    ),
    (
        {"networks": [{**NETWORK, "mode": "l2"}], "links": [{"parent": "eth0"}], "endpoints": "x"},
        [
            "endpoints: 'x' is not a list; write one item a line, each with '- '",
            "links[0].vlan_id: is missing; it is required",
            "networks[0].mode: macvlan has no mode l2; give one of bridge, private, vepa, passthru, source",
        ],
    ),
]

#: kind and row of what must be absent, and what is wrong with it
ABSENT: List[Tuple[str, Dict[str, Any], List[str]]] = [
    ("network", {}, ["name: is missing; it identifies what to remove"]),
    ("endpoint", {"name": "e"}, ["network: is missing; it identifies what to remove"]),
    ("vlan", {"parent": "eth0"}, ["vlan_id: is missing; it identifies what to remove"]),
]


def said(declared: Declaration) -> List[str]:
    return [str(problem) for problem in declared.problems]


@pytest.mark.parametrize(("kind", "row", "expected"), ROWS)
def test_a_bad_row_is_refused_with_what_and_cure(kind: str, row: Any, expected: List[str]) -> None:
    assert said(model.declare(kind, row, "present", False)) == expected


@pytest.mark.parametrize(("options", "expected"), MAPS)
def test_a_bad_map_is_refused_whole(options: Dict[str, Any], expected: List[str]) -> None:
    assert said(model.declare_map({"name": "m", **options})) == expected


@pytest.mark.parametrize(("kind", "row", "expected"), ABSENT)
def test_an_absent_item_must_be_named(kind: str, row: Dict[str, Any], expected: List[str]) -> None:
    assert said(model.declare(kind, row, "absent", False)) == expected


def test_every_message_has_a_test() -> None:
    seen = [text for *_, expected in (*ROWS, *MAPS, *ABSENT) for text in expected]
    assert texts_without_a_test(seen, model, fields, resolver) == []


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("100mbit", 100_000_000), ("1gbit", 10**9), (64000, 64000), ("64000", 64000), ("1.5mbit", 1_500_000), ("2 Mbit", 2_000_000),
        ("1kibit", 1024), ("1tbit", 10**12), ("8bit", 8), ("1001", 1000),
    ],
)  # fmt: skip
def test_rates_are_bits_per_second_in_the_units_of_iproute2(written: object, rate: int) -> None:
    (item,) = model.declare("endpoint", {**ENDPOINT, "ingress_rate": written}, "present", False).items
    assert item.spec and item.spec["ingress_rate"] == rate and item.spec["egress_rate"] is None


@pytest.mark.parametrize(
    ("written", "burst"), [("64kb", 65536), ("64k", 65536), ("1m", 1 << 20), (3000, 3000), ("1.5kb", 1536)]
)
def test_bursts_are_bytes_in_the_units_of_iproute2(written: object, burst: int) -> None:
    row = {**ENDPOINT, "egress_rate": "1gbit", "egress_burst": written}
    (item,) = model.declare("endpoint", row, "present", False).items
    assert item.spec and item.spec["egress_burst"] == burst


def test_vlans_are_numbers_and_ranges_in_any_order() -> None:
    (item,) = model.declare(
        "endpoint", {**ENDPOINT, "vlans": ["20-22", 10, "1", " 4093-4094 "]}, "present", False
    ).items
    assert item.spec and item.spec["vlans"] == [1, 10, 20, 21, 22, 4093, 4094]


def test_source_macs_are_sorted_and_each_there_once() -> None:
    asked = ["02-00-00-00-00-0B", "02:00:00:00:00:0a", "02:00:00:00:00:0b"]
    (item,) = model.declare("endpoint", {**ENDPOINT, "source_macs": asked}, "present", False).items
    assert item.spec and item.spec["source_macs"] == ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]
    many = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(1001)]
    (problem,) = model.declare("endpoint", {**ENDPOINT, "source_macs": many}, "present", False).problems
    assert str(problem) == "source_macs: 1001 MACs are more than the 1000 that an endpoint can have; list 1000 at most"
    (problem,) = model.declare(
        "endpoint", {**ENDPOINT, "source_macs": ["01:00:5e:00:00:01"]}, "present", False
    ).problems
    assert str(problem).startswith("source_macs[0]: 01:00:5e:00:00:01 is not a unicast MAC address; ")


@pytest.mark.parametrize(
    ("row", "families"),
    [
        ({}, (True, False)),
        ({"subnets": [{"subnet": "2001:db8::/64"}]}, (True, True)),
        ({"subnets": [{"subnet": "2001:db8::/64"}], "enable_ipv4": False}, (False, True)),
        ({"subnets": [{"subnet": "192.0.2.0/24"}], "enable_ipv6": True}, (True, True)),
        ({"enable_ipv4": False}, (False, False)),
    ],
)
def test_the_families_of_a_network(row: Dict[str, Any], families: Tuple[bool, bool]) -> None:
    (item,) = model.declare("network", {**NETWORK, **row}, "present", False).items
    assert item.spec is not None
    assert (item.spec["enable_ipv4"], item.spec["enable_ipv6"]) == families


@pytest.mark.parametrize(
    ("row", "gateway"),
    [
        ({"subnet": "192.0.2.0/24"}, "192.0.2.1"),
        ({"subnet": "192.0.2.64/26", "ip_range": "192.0.2.96/27"}, "192.0.2.65"),
        ({"subnet": "192.0.2.0/30"}, "192.0.2.1"),
        ({"subnet": "192.0.2.0/31"}, None),
        ({"subnet": "192.0.2.0/32"}, None),
        ({"subnet": "2001:db8::/64"}, "2001:db8::1"),
        ({"subnet": "2001:db8::/126"}, "2001:db8::1"),
        ({"subnet": "2001:db8::/127"}, None),
        ({"subnet": "2001:db8::/128"}, None),
        ({"subnet": "2001:db8::/64", "gateway": "fe80::1"}, "fe80::1"),
        ({"subnet": "2001:db8::/64", "gateway": "2001:db8::"}, "2001:db8::"),
        ({"subnet": "192.0.2.0/24", "gateway": "none"}, None),
    ],
)
def test_the_gateway_of_a_subnet(row: Dict[str, Any], gateway: str) -> None:
    for options, expected in (
        ({"parent": "eth0"}, gateway),
        ({"parent": "eth0", "driver": "ipvlan", "mode": "l3"}, None),
    ):
        (item,) = model.declare("network", {**NETWORK, **options, "subnets": [row]}, "present", False).items
        assert item.spec is not None and item.spec["subnets"][0]["gateway"] == expected
    (item,) = model.declare("network", {**NETWORK, "subnets": [row]}, "present", False).items
    given = row.get("gateway", "none")
    assert item.spec is not None and item.spec["subnets"][0]["gateway"] == (None if given == "none" else given)


def test_short_forms() -> None:
    (item,) = model.declare(
        "network", {"name": "n", "driver": "macvlan", "subnets": ["10.0.0.0/24"]}, "present", False
    ).items
    assert item.spec is not None and item.spec["subnets"][0]["subnet"] == "10.0.0.0/24"
    (item,) = model.declare(
        "endpoint", {"network": "n", "name": "e", "container": "podman:web"}, "present", False
    ).items
    assert item.spec is not None and item.spec["workload"] == "podman:web"
    (item,) = model.declare("vlan", {"name": "eth1.10"}, "present", False).items
    assert item.spec is not None and (item.key, item.spec["parent"], item.spec["vlan_id"]) == ("eth1.10", "eth1", 10)


@pytest.mark.parametrize(("name", "short", "longer"), [
    ("eth0.50", "eth0.50", []), ("enp99s0f0np0.50", "enp99s0f0np0.50", []), ("averylongname.50", None, ["averylongname.50"]),
])  # fmt: skip
def test_names_that_the_kernel_does_not_take(name: str, short: str, longer: List[str]) -> None:
    found, altnames = link_names(name)
    assert len(found) <= 15 and altnames == longer and (found == short or found.endswith(".50"))
    assert link_names(name) == (found, altnames)


# --- one fault, one message ----------------------------------------------------------------------

FULL: Dict[str, Dict[str, Any]] = {
    "vlan": {**VLAN, "name": "up5", "protocol": "802.1q", "mtu": 1500, "addresses": ["192.0.2.1/24"], "gvrp": True, "egress_qos_map": {0: 1}},
    "network": {**NETWORK, "mode": "bridge", "mtu": 1500, "share_parent": True, "host_access": True, "enable_ipv6": True, "probe": True,
                "subnets": [{"subnet": "192.0.2.0/24", "gateway": "192.0.2.1", "ip_range": "192.0.2.64/26", "aux_addresses": {"a": "192.0.2.9"}},
                            {"subnet": "2001:db8::/64"}]},
    "endpoint": {"network": "n", "name": "a", "netns": "a", "interface": "eth0", "ipv4_address": "192.0.2.9", "ipv6_address": "2001:db8::9",
                 "mac_address": "02:00:00:00:00:01", "mtu": 1500, "routes": [{"prefix": "10.0.0.0/8", "via": "192.0.2.2", "metric": 5}],
                 "default_route": {"ipv4": "auto"}, "sysctls": {"ipv6.accept_ra": 0}, "accept_ra": True, "probe": True},
    "routes": {"name": "r", "network": "n", "exact": True, "routes": [{"prefix": "10.0.0.0/8", "via": "192.0.2.2", "dev": "eth0", "metric": 5}]},
}  # fmt: skip


def broken(value: Any) -> Iterator[Tuple[str, Any]]:
    """A value with one thing in it that is wrong, in each place, and where."""
    for bad in ("!", -7, ["!"], {"!": "!"}):
        if type(bad) is not type(value):
            yield "", bad
    for place, part in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        for at, wrong in broken(part):
            copied = copy.deepcopy(value)
            copied[place] = wrong
            yield (f".{place}" if isinstance(value, dict) else f"[{place}]") + at, copied


@pytest.mark.parametrize("kind", FULL)
def test_one_bad_value_is_one_message(kind: str) -> None:
    """And nothing is said of what follows from it."""
    assert model.declare(kind, FULL[kind], "present", False).problems == []
    wrong = []
    for at, row in broken(FULL[kind]):
        if at:
            said = [problem.path for problem in model.declare(kind, row, "present", False).problems]
            wrong += (
                [(at, row, said)] if [path for path in said if not path.startswith(at[1:])] or len(said) > 1 else []
            )
    assert wrong == []
