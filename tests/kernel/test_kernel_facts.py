# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the kernel that the engine relies on, each by iproute2 or a bare socket: docs/docsite/rst/kernel_facts.rst lists them."""

from __future__ import annotations

import errno
import json
import socket
import struct
from typing import Any, Dict, Iterator, List

import pytest

from tests.support.network_host import HAS_IPV6, needs_ipv6, run
from tests.support.traffic import reachable

pytestmark = pytest.mark.usefixtures("trunk")


@pytest.fixture
def there() -> Iterator[str]:
    """Another namespace."""
    run("ip netns add facts")
    yield "facts"
    run("ip netns del facts")


def shown(name: str, namespace: str = "") -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(run(f"ip {namespace and '-n ' + namespace} -d -j address show dev {name}"))[0]
    return found


def setting(path: str, namespace: str = "") -> str:
    return run(f"{namespace and 'ip netns exec ' + namespace} cat /proc/sys/net/{path}").strip()


def test_another_ipvlan_mode_switches_all_of_the_parent(there: str) -> None:
    run(
        f"ip link add one link trunk netns {there} type ipvlan mode l2 bridge; ip link add two link trunk type ipvlan mode l3 private"
    )
    data = shown("one", there)["linkinfo"]["info_data"]
    assert data["mode"] == "l3" and data.get("private")


def test_a_base_that_comes_back_raises_its_vlans() -> None:
    run(
        "ip link add link trunk name v50 type vlan id 50; ip link set v50 down; ip link set trunk down; ip link set trunk up"
    )
    assert "UP" in shown("v50")["flags"]


def test_the_parents_mtu_moves_ipvlan_and_caps_the_others() -> None:
    run(
        "ip link add other type veth peer name off; ip link add i0 link trunk type ipvlan; ip link add m0 link other type macvlan"
    )
    run("ip link add link trunk name v50 type vlan id 50; ip link set i0 mtu 1300")
    run("for nic in trunk other; do ip link set $nic mtu 1400; done")
    assert [shown(name)["mtu"] for name in ("i0", "m0", "v50")] == [1400, 1400, 1400]
    run("for nic in trunk other; do ip link set $nic mtu 1500; done")
    assert [shown(name)["mtu"] for name in ("i0", "m0", "v50")] == [1500, 1400, 1400]


@needs_ipv6
def test_the_last_ipv4_address_takes_the_routes_along() -> None:
    run("ip address add 192.0.2.1/24 dev trunk; ip address add 2001:db8::1/64 dev trunk nodad")
    run("ip route add 198.51.100.0/24 via 192.0.2.2; ip -6 route add 2001:db8:9::/48 via 2001:db8::2")
    run("ip address del 192.0.2.1/24 dev trunk")
    assert "198.51.100.0" not in run("ip route show")
    assert "2001:db8:9::" in run("ip -6 route show")


def test_a_connected_route_comes_back_with_its_address_replaced() -> None:
    def routes(script: str, family: str = "") -> str:
        run(script)
        return run(f"ip {family} route show dev trunk")

    before = routes("ip addr add 192.0.2.1/24 dev trunk; ip route add 10.9.0.0/16 dev trunk")
    assert routes("ip route del 192.0.2.0/24 dev trunk; ip addr change 192.0.2.1/24 dev trunk") != before
    assert (
        routes("ip addr change 192.0.2.1/24 dev trunk metric 1; ip addr change 192.0.2.1/24 dev trunk metric 0")
        == before
    )
    if HAS_IPV6:
        before = routes("ip addr add 2001:db8::1/64 dev trunk nodad", "-6")
        assert routes("ip route del 2001:db8::/64 dev trunk", "-6") != before
        assert routes("ip addr change 2001:db8::1/64 dev trunk nodad", "-6") == before


def test_another_vlan_id_is_acknowledged_and_ignored() -> None:
    run("ip link add link trunk name v50 type vlan id 50; ip link set v50 type vlan id 60")
    assert shown("v50")["linkinfo"]["info_data"]["id"] == 50


def test_replace_takes_the_route_of_somebody_else() -> None:
    run("ip address add 192.0.2.1/24 dev trunk; ip route add 198.51.100.0/24 via 192.0.2.2 proto 77")
    run("ip route replace 198.51.100.0/24 via 192.0.2.3 proto 201")
    assert [row["protocol"] for row in json.loads(run("ip -j route show 198.51.100.0/24"))] == ["201"]


def test_a_vlan_id_is_unique_over_all_namespaces(there: str) -> None:
    run(f"ip link add link trunk name v50 type vlan id 50; ip link set v50 netns {there}")
    assert "exists" in run("ip link add link trunk name again type vlan id 50 2>&1 || :").lower()
    run("ip link add link trunk name v0 type vlan id 0")
    assert "Invalid VLAN id" in run("ip link add link trunk name v4095 type vlan id 4095 2>&1 || :") or "4095" in run(
        "ip link add link trunk name v4095 type vlan id 4095 2>&1 || :"
    )


def test_a_new_namespace_copies_ipv4_settings_and_no_ipv6_settings() -> None:
    """Of the first namespace, which a test must not change: so the two are compared as they are."""
    run("ip netns add fresh")
    first = "nsenter --net=/proc/1/ns/net"
    try:
        assert (
            setting("ipv4/conf/default/rp_filter", "fresh")
            == run(f"{first} cat /proc/sys/net/ipv4/conf/default/rp_filter").strip()
        )
        if run("ls /proc/sys/net").find("ipv6") >= 0:
            assert [
                setting(f"ipv6/conf/default/{key}", "fresh") for key in ("accept_ra", "forwarding", "disable_ipv6")
            ] == ["1", "0", "0"]
    finally:
        run("ip netns del fresh")


def test_a_move_resets_the_settings_of_a_link(there: str) -> None:
    run("ip link add link trunk name v50 type vlan id 50; echo 8 > /proc/sys/net/ipv4/conf/v50/arp_ignore")
    run(f"ip link set v50 netns {there}")
    assert setting("ipv4/conf/v50/arp_ignore", there) == setting("ipv4/conf/default/arp_ignore", there) != "8"


@needs_ipv6
def test_a_flap_of_the_base_costs_ipv6_addresses_and_static_routes() -> None:
    run("ip link add link trunk name v50 up type vlan id 50; ip address add 192.0.2.1/24 dev v50")
    run("ip address add 2001:db8::1/64 dev v50 nodad; ip route add 198.51.100.0/24 via 192.0.2.2")
    run("ip link set trunk down; ip link set trunk up")
    assert [row["local"] for row in shown("v50")["addr_info"] if row["scope"] == "global"] == ["192.0.2.1"]
    routes = run("ip route show")
    assert "192.0.2.0/24" in routes and "198.51.100.0/24" not in routes


def test_children_in_other_namespaces_go_with_their_parent(there: str) -> None:
    run(
        f"ip link add link trunk name v50 type vlan id 50; ip link add m0 link v50 netns {there} type macvlan; ip link del v50"
    )
    assert "m0" not in run(f"ip -n {there} link show")


def test_a_group_does_not_guard_a_deletion_by_name() -> None:
    run("ip link add d0 group 600 type dummy")
    ifi_dellink, group = 17, struct.pack("=HHI", 8, 27, 601)
    name = struct.pack("=HH4s", 7, 3, b"d0\0")
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + group + name
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), ifi_dellink, 5, 1, 0) + body)
        assert struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0
    assert "d0" not in run("ip -br link show")


def test_a_link_keeps_its_group_when_it_moves(there: str) -> None:
    run(f"ip link add d0 group 600 type dummy; ip link set d0 netns {there}")
    assert shown("d0", there)["group"] == "600"


def test_errors_beyond_the_receive_buffer_are_lost() -> None:
    """A thousand deletions of what is not there, each an error with a copy of the message."""
    body = struct.pack("=BxHiII", 0, 0, 999_999, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 106_496)
        netlink.setblocking(False)
        netlink.send(
            b"".join(struct.pack("=IHHII", 16 + len(body), 17, 5, number, 0) + body for number in range(1, 1001))
        )
        heard, lost = [], False
        while True:
            try:
                answer = netlink.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                assert error.errno == errno.ENOBUFS
                lost = True
                continue
            heard.append(struct.unpack_from("=I", answer, 8)[0])
    assert lost and heard[:3] == [1, 2, 3] and 128 < len(heard) < 1000 and 1000 not in heard


@needs_ipv6
@pytest.mark.parametrize(("mode", "with_forwarding"), [("l3", [False, True]), ("l3s", [True, True])])
def test_the_host_answers_for_l3_endpoints_at_most_while_it_forwards(
    there: str, mode: str, with_forwarding: List[bool]
) -> None:
    """With a proxy neighbour for each address, as ``ip neighbour add proxy`` makes it, and a route that leads elsewhere."""
    endpoints = ("192.0.2.65", "2001:db8::65")
    run(f"""
        ip netns add within; ip link set far netns {there}; ip -n {there} link set far up
        ip -n {there} address add 192.0.2.2/24 dev far; ip -n {there} address add 2001:db8::2/64 dev far nodad
        ip address add 192.0.2.1/24 dev trunk; ip address add 2001:db8::1/64 dev trunk nodad
        ip link add e0 link trunk netns within type ipvlan mode {mode}; ip -n within link set e0 up
        ip link add d0 type dummy; ip link set d0 up
        for ip in {" ".join(endpoints)}; do
            ip -n within address add $ip dev e0
            ip route add $ip dev d0; ip neighbour add proxy $ip dev trunk
        done
        ip -n within route add default dev e0; ip -n within -6 route add default dev e0
        echo 1 > /proc/sys/net/ipv6/conf/trunk/proxy_ndp
        for version in 4 6; do echo 0 > /proc/sys/net/ipv$version/neigh/trunk/proxy_delay; done
    """)

    def answered(forwarding: int) -> List[bool]:
        run(f"for version in 4 6; do echo {forwarding} > /proc/sys/net/ipv$version/conf/trunk/forwarding; done")
        run(f"ip -n {there} neighbour flush dev far")
        ping = f"ip netns exec {there} ping -c 1 -W 1"
        found = run(f"for ip in {' '.join(endpoints)}; do {ping} $ip >/dev/null 2>&1 && echo $ip & done; wait").split()
        return [ip in found for ip in endpoints]

    try:
        mac = shown("trunk")["address"]
        for ip in endpoints:  # all that a neighbour lacks is the answer
            run(f"ip -n {there} neighbour replace {ip} lladdr {mac} dev far nud permanent")
            assert reachable(f"ip netns exec {there}", ip)
            run(f"ip -n {there} neighbour del {ip} dev far")
        assert answered(forwarding=0) == [False, False]
        assert answered(forwarding=1) == with_forwarding
    finally:
        run("ip netns del within")
