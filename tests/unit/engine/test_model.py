# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users write: every refusal of a row, by its text, and what a good row becomes."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import fields, model
from messages import texts_without_a_test

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
    ("vlan", {**VLAN, "parent": "eth 0"}, ["parent: 'eth 0' is not a link name; no blank, '/', ':' or '%' may be in it"]),
    ("vlan", {**VLAN, "parent": "lo"}, ["parent: lo is the loopback; give a NIC, a bond, a VLAN sub-interface or a dummy"]),
    ("vlan", {**VLAN, "protocol": "qinq"}, ["protocol: 'qinq' is not a choice; give one of 802.1q, 802.1ad"]),
    ("vlan", {**VLAN, "gvrp": "perhaps"}, ["gvrp: 'perhaps' is not a boolean; give true or false"]),
    ("vlan", {**VLAN, "gvrp": True, "mvrp": True}, ["mvrp: GVRP and MVRP announce the same VLAN twice; choose the one that the switch speaks"]),
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
    ("network", {**NETWORK, "mode": "l3"}, ["mode: macvlan has no mode l3; give one of bridge, private, vepa, passthru"]),
    ("network", {**NETWORK, "driver": "ipvlan", "mode": "bridge"}, ["mode: ipvlan has no mode bridge; give one of l2, l3, l3s"]),
    ("network", {**NETWORK, "flag": "private"}, ["flag: macvlan has no flag; leave it out, or use mode: private or vepa"]),
    ("network", {**NETWORK, "driver": "ipvlan", "bclim": 3, "bcqueuelen": 3}, [
        "bcqueuelen: ipvlan has no broadcast queue; leave it out, or use macvlan", "bclim: ipvlan has no broadcast queue; leave it out, or use macvlan"]),
    ("network", {**NETWORK, "parent": "eth0", "internal": True}, [
        "internal: an internal network has a dummy of its own, no parent; "
        "leave out parent, or use gateway: none on the subnets for a network on a parent without a way out"]),
    ("network", {**NETWORK, "probe": True}, [
        "probe: asks for the addresses of host_access, which is off; set host_access too, or leave it out; endpoints have a probe of their own"]),
    ("network", {**NETWORK, "subnets": [{}]}, ["subnets[0].subnet: is missing; it is required"]),
    ("network", subnet(subnet="192.0.2.0/33"), ["subnets[0].subnet: '192.0.2.0/33' is not a subnet; write it as 192.0.2.0/24"]),
    ("network", subnet(subnet="192.0.2.0"), [
        "subnets[0].subnet: 192.0.2.0 has no prefix length; write it as 192.0.2.0/32, or the subnet's own length"]),
    ("network", subnet(subnet="::/0"), ["subnets[0].subnet: ::/0 is everything there is; give the network's own subnet"]),
    ("network", subnet(subnet="224.0.1.0/24"), ["subnets[0].subnet: 224.0.1.0/24 is multicast; no host has an address there, give a unicast subnet"]),
    ("network", subnet(subnet="ff05::/64"), ["subnets[0].subnet: ff05::/64 is multicast; no host has an address there, give a unicast subnet"]),
    ("network", subnet(subnet="127.1.0.0/16"), ["subnets[0].subnet: 127.1.0.0/16 is loopback; no host has an address there, give a unicast subnet"]),
    ("network", subnet(subnet="0.0.0.0/24"), ["subnets[0].subnet: 0.0.0.0/24 is unspecified; no host has an address there, give a unicast subnet"]),
    ("network", subnet(subnet="fe80::/64"), [
        "subnets[0].subnet: fe80::/64 is link-local, which every link has by itself; give a subnet of the network's own"]),
    ("network", subnet(ip_range="198.51.100.0/26"), ["subnets[0].ip_range: 198.51.100.0/26 is not inside 192.0.2.0/24; give a part of 192.0.2.0/24"]),
    ("network", subnet(iprange="2001:db8::/64"), ["subnets[0].ip_range: 2001:db8::/64 is not inside 192.0.2.0/24; give a part of 192.0.2.0/24"]),
    ("network", subnet(aux_addresses={"r": "198.51.100.1"}), [
        "subnets[0].aux_addresses.r: 198.51.100.1 is not inside 192.0.2.0/24; give an address of 192.0.2.0/24"]),
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
    ("endpoint", {**ENDPOINT, "interface": "a-name-too-long-0"}, ["interface: a-name-too-long-0 has 17 characters; the kernel takes 15 at most"]),
    ("endpoint", {**ENDPOINT, "ipv4_address": "2001:db8::1"}, ["ipv4_address: 2001:db8::1 is not an IPv4 address; give an IPv4 address"]),
    ("endpoint", {**ENDPOINT, "mac_address": "1:2"}, ["mac_address: '1:2' is not a MAC address; write it as 02:42:ac:11:00:02"]),
    ("endpoint", {**ENDPOINT, "mac_address": "01:00:5e:00:00:01"}, [
        "mac_address: 01:00:5e:00:00:01 is not a unicast MAC address; the first octet must be even, and not all may be 0"]),
    ("endpoint", {**ENDPOINT, "sysctls": {"kernel.hostname": 1}}, [
        "sysctls.kernel.hostname: kernel.hostname is not a sysctl of a link; "
        "write net.ipv4.conf.IFNAME.KEY or net.ipv6.conf.IFNAME.KEY, IFNAME as it is"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "0.0.0.0/0"}]}, ["routes[0].prefix: 0.0.0.0/0 is the default route; see default_route and gw_priority"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "10.0.0.0/8", "via": "fe80::1"}]}, [
        "routes[0].via: fe80::1 is not of the family of 10.0.0.0/8; give a next hop of the same family"]),
    ("endpoint", {**ENDPOINT, "routes": [{"prefix": "10.0.0.0/8"}, {"prefix": "10.0.0.0/8"}]}, [
        "routes[1].prefix: 10.0.0.0/8 stands in routes[0] already; give another metric"]),
    ("routes", route(prefix="0.0.0.0/0", via="192.0.2.1"), ["routes[0].prefix: 0.0.0.0/0 is the default route; give the prefix of an L3 network"]),
    ("routes", route(via="2001:db8::1"), ["routes[0].via: 2001:db8::1 is not of the family of 10.1.0.0/16; give a next hop of the same family"]),
    ("routes", route(), ["routes[0].via: is missing, and so is dev; give the next hop, or the device"]),
    ("routes", route(type="blackhole", dev="eth0"), ["routes[0].type: an blackhole route leads nowhere; leave out via and dev"]),
    ("routes", route(via="192.0.2.1", table=7, vrf="red"), ["routes[0].vrf: table is given too; give one of the two"]),
    ("routes", route(prefix="2001:db8::/32", via="fe80::1"), ["routes[0].dev: is missing, and fe80::1 is on every link; give the device"]),
]  # fmt: skip

#: whole maps, and everything that is wrong with them
MAPS: List[Tuple[Dict[str, Any], List[str]]] = [
    ({"trunks": {"t": {}}}, ["trunks.t: says not exactly one of name and match; give the NIC's name, or match: {mac: ...}"]),
    ({"trunks": {"t": {"match": {}}}}, ["trunks.t.match: says not exactly one of mac, pci, altname; give one"]),
    ({"networks": [NETWORK, {**NETWORK, "mode": "vepa"}]}, ["networks[1]: network n stands in networks[0] already; give each once"]),
    (
        {"networks": [{**NETWORK, "mode": "l2"}], "links": [{"parent": "eth0"}], "endpoints": "x"},
        [
            "endpoints: 'x' is not a list; write one item a line, each with '- '",
            "links[0].vlan_id: is missing; it is required",
            "networks[0].mode: macvlan has no mode l2; give one of bridge, private, vepa, passthru",
        ],
    ),
]

#: kind and row of what shall be absent, and what is wrong with it
ABSENT: List[Tuple[str, Dict[str, Any], List[str]]] = [
    ("network", {}, ["name: is missing; it says which one shall be absent"]),
    ("endpoint", {"name": "e"}, ["network: is missing; it says which one shall be absent"]),
    ("vlan", {"parent": "eth0"}, ["vlan_id: is missing; it says which one shall be absent"]),
]


def said(declared: model.Declaration) -> List[str]:
    return [str(problem) for problem in declared.problems]


@pytest.mark.parametrize(("kind", "row", "expected"), ROWS)
def test_a_bad_row_is_refused_with_what_and_cure(kind: str, row: Any, expected: List[str]) -> None:
    assert said(model.declare(kind, row, "present", False)) == expected


@pytest.mark.parametrize(("options", "expected"), MAPS)
def test_a_bad_map_is_refused_whole(options: Dict[str, Any], expected: List[str]) -> None:
    assert said(model.declare_map({"name": "m", **options})) == expected


@pytest.mark.parametrize(("kind", "row", "expected"), ABSENT)
def test_what_shall_be_absent_must_be_named(kind: str, row: Dict[str, Any], expected: List[str]) -> None:
    assert said(model.declare(kind, row, "absent", False)) == expected


def test_every_message_has_a_test() -> None:
    seen = [text for *_, expected in (*ROWS, *MAPS, *ABSENT) for text in expected]
    assert texts_without_a_test(seen, model, fields) == []


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
    for options, expected in (({"parent": "eth0"}, gateway), ({"parent": "eth0", "driver": "ipvlan", "mode": "l3"}, None)):
        (item,) = model.declare("network", {**NETWORK, **options, "subnets": [row]}, "present", False).items
        assert item.spec is not None and item.spec["subnets"][0]["gateway"] == expected
    (item,) = model.declare("network", {**NETWORK, "subnets": [row]}, "present", False).items
    given = row.get("gateway", "none")
    assert item.spec is not None and item.spec["subnets"][0]["gateway"] == (None if given == "none" else given)


@pytest.mark.parametrize(("name", "short", "longer"), [
    ("eth0.50", "eth0.50", []), ("enp99s0f0np0.50", "enp99s0f0np0.50", []), ("averylongname.50", None, ["averylongname.50"]),
])  # fmt: skip
def test_names_that_the_kernel_does_not_take(name: str, short: str, longer: List[str]) -> None:
    found, altnames = model.link_names(name)
    assert len(found) <= 15 and altnames == longer and (found == short or found.endswith(".50"))
    assert model.link_names(name) == (found, altnames)
