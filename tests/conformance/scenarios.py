# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried with Docker and with the collection, one entry a scenario.

``docker run`` stands without the image and its command. A step's tasks are those of the modules vlan_network
and vlan_endpoint; an endpoint lives in a namespace of its own name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple, Union


@dataclass(frozen=True)
class Task:
    kind: str
    options: Dict[str, Any]
    state: str = "present"


@dataclass(frozen=True)
class Shell:
    """What neither of the two does: the owner of the host."""

    command: str


class Step(NamedTuple):
    docker: Union[str, Shell]
    ours: Union[Task, Tuple[Task, ...], Shell]

    @property
    def tasks(self) -> Tuple[Task, ...]:
        if isinstance(self.ours, tuple):
            return self.ours
        return (self.ours,) if isinstance(self.ours, Task) else ()


class Ping(NamedTuple):
    start: str  # an endpoint, or ``host``
    target: str
    answers: bool
    docker: Optional[bool] = None  # where Docker's answer is known to be another
    named: bool = (
        False  # a name: the lab's Docker has no firewall to lead questions to its resolver, so the guide answers for it
    )


class Look(NamedTuple):
    """What a command prints in an endpoint's namespace."""

    start: str
    about: str
    command: str


class Hear(NamedTuple):
    """Whether something was sent that the wire of a scenario carries: one that is expected is waited for."""

    what: str
    docker: bool = True  # whether it is expected of Docker


AnyStep = Union[Step, Ping, Look, Hear]


@dataclass(frozen=True)
class Scenario:
    name: str
    steps: Sequence[AnyStep]
    host: str = "ip link add eth0 type dummy; ip link set eth0 up"
    again: bool = False  # with a dockerd that has just started: it goes on in its default pools where it was
    wire: str = ""  # a link of the host where what comes is listened to
    #: a fact (``*`` for any part of it) -> the purpose of its difference
    differs: Mapping[str, str] = field(default_factory=dict)
    #: Where the lab's Docker is too old: the version that has it, and the facts as its description has them.
    since: str = ""
    expected: Mapping[str, str] = field(default_factory=dict)


def subnet(text: str, **more: Any) -> Dict[str, Any]:
    return {"subnet": text, **more}


def network(name: str, driver: str, parent: Optional[str] = None, *subnets: Dict[str, Any], **more: Any) -> Task:
    options = {"name": name, "driver": driver, "parent": parent, "subnets": list(subnets) or None, **more}
    return Task("network", {key: value for key, value in options.items() if value is not None})


def endpoint(network_name: str, name: str, netns: Optional[str] = None, **more: Any) -> Task:
    return Task("endpoint", {"network": network_name, "name": name, "netns": netns or name, **more})


def no_network(name: str) -> Task:
    return Task("network", {"name": name}, "absent")


def no_endpoint(network_name: str, name: str) -> Task:
    return Task("endpoint", {"network": network_name, "name": name}, "absent")


def on_host(command: str) -> Step:
    return Step(Shell(command), Shell(command))


def ran(network_name: str, name: str, arguments: str = "", **more: Any) -> Step:
    """``docker run`` on a network."""
    docker = f"docker run --net={network_name} --name {name} {arguments}".strip()
    return Step(docker, endpoint(network_name, name, **more))


def removed(name: str) -> Step:
    return Step(f"docker network rm {name}", no_network(name))


def ended(network_name: str, name: str) -> Step:
    return Step(f"docker rm -f {name}", no_endpoint(network_name, name))


ETH0 = "ip link add eth0 type dummy; ip link set eth0 up"
#: A NIC, the other end of its cable, and a neighbour there.
WIRE = "ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up; ip addr add 192.0.2.99/24 dev wire"
#: The MAC of an endpoint.
MAC = "ip -o link show dev eth0 | sed 's/.*ether //; s/ .*//'"
#: What the loopback of a namespace has.
LOOPBACK = "ip -br address show dev lo | tr -s ' '"
#: A sub-interface that a network creates: Docker's is open to the VLAN.
QUIET = {"host eth0.* isolation": "N7"}
QUIET_DUMMY = {"host d?-DIGEST isolation": "N7"}


def addressed(address: str) -> str:
    return f"{ETH0}; ip addr add {address} dev eth0"


PUB_NET = network("pub_net", "macvlan", "eth0", subnet("172.16.86.0/24", gateway="172.16.86.1"))
PUB_NET_DOCKER = "docker network create -d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1"

GUIDE = [
    Scenario(
        "macvlan bridge on a NIC",
        [
            Step(f"{PUB_NET_DOCKER} -o parent=eth0 pub_net", PUB_NET),
            ran("pub_net", "c1", "--ip=172.16.86.10", ipv4_address="172.16.86.10"),
            ran("pub_net", "c2"),
            Ping("c2", "172.16.86.10", True),
            Ping("c2", "172.16.86.250", False),
            Ping("host", "172.16.86.10", False),
        ],
        host=addressed("172.16.86.250/24"),
    ),
    Scenario(
        "macvlan bridge, the mode explicit, the host's address excluded",
        [
            Step(
                f"{PUB_NET_DOCKER} --aux-address=exclude_host=172.16.86.2 -o macvlan_mode=bridge -o parent=eth0 pub_net",
                network(
                    "pub_net",
                    "macvlan",
                    "eth0",
                    subnet("172.16.86.0/24", gateway="172.16.86.1", aux_addresses={"exclude_host": "172.16.86.2"}),
                    mode="bridge",
                ),
            ),
            ran("pub_net", "c1"),
        ],
        host=addressed("172.16.86.2/24"),
    ),
    Scenario(
        "an ip-range: addresses from 192.168.32.128 on",
        [
            Step(
                "docker network create -d macvlan --subnet=192.168.32.0/24 --ip-range=192.168.32.128/25 --gateway=192.168.32.254 "
                "-o parent=eth0 macnet32",
                network(
                    "macnet32",
                    "macvlan",
                    "eth0",
                    subnet("192.168.32.0/24", ip_range="192.168.32.128/25", gateway="192.168.32.254"),
                ),
            ),
            ran("macnet32", "c1"),
            ran("macnet32", "c2"),
        ],
    ),
    Scenario(
        "ipvlan L2 on a NIC",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.1.0/24 --gateway=192.168.1.1 -o ipvlan_mode=l2 -o parent=eth0 db_net",
                network("db_net", "ipvlan", "eth0", subnet("192.168.1.0/24", gateway="192.168.1.1"), mode="l2"),
            ),
            ran("db_net", "c1"),
            Ping("c1", "192.168.1.250", False),
            Ping("host", "192.168.1.2", False),
        ],
        host=addressed("192.168.1.250/24"),
    ),
    Scenario(
        "ipvlan with every default, and names",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.1.0/24 -o parent=eth0 db_net_ipv",
                network("db_net_ipv", "ipvlan", "eth0", subnet("192.168.1.0/24")),
            ),
            ran("db_net_ipv", "ipv1"),
            ran("db_net_ipv", "ipv2"),
            Ping("ipv2", "ipv1", True, named=True),
        ],
        host=addressed("192.168.1.250/24"),
    ),
    Scenario(
        "no parent, internal, and not even a subnet",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.10.0/24 isolated1",
                network("isolated1", "ipvlan", None, subnet("192.168.10.0/24")),
            ),
            Step(
                "docker network create -d ipvlan --subnet=192.168.11.0/24 --internal isolated2",
                network("isolated2", "ipvlan", None, subnet("192.168.11.0/24"), internal=True),
            ),
            Step("docker network create -d ipvlan isolated3", network("isolated3", "ipvlan")),
            ran("isolated1", "cid1"),
            ran("isolated2", "cid2"),
            ran("isolated3", "cid3"),
            Ping("cid1", "192.168.11.1", False),
            Step("docker rm -f cid3", no_endpoint("isolated3", "cid3")),
            removed("isolated3"),
        ],
        host="true",
        again=True,
        differs={**QUIET_DUMMY, "cid? eth0 addresses": "R2"},
    ),
    Scenario(
        "a macvlan trunk: VLANs 50 and 60",
        [
            Step(
                "docker network create -d macvlan --subnet=192.168.50.0/24 --gateway=192.168.50.1 -o parent=eth0.50 macvlan50",
                network("macvlan50", "macvlan", "eth0.50", subnet("192.168.50.0/24", gateway="192.168.50.1")),
            ),
            ran("macvlan50", "macvlan_test5"),
            ran("macvlan50", "macvlan_test6"),
            Ping("macvlan_test6", "192.168.50.2", True),
            Step(
                "docker network create -d macvlan --subnet=192.168.60.0/24 --gateway=192.168.60.1 -o parent=eth0.60 -o macvlan_mode=bridge macvlan60",
                network(
                    "macvlan60", "macvlan", "eth0.60", subnet("192.168.60.0/24", gateway="192.168.60.1"), mode="bridge"
                ),
            ),
            ran("macvlan60", "macvlan_test7"),
            ran("macvlan60", "macvlan_test8"),
            Ping("macvlan_test8", "192.168.60.2", True),
            Ping("macvlan_test7", "192.168.50.2", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "a macvlan trunk with several subnets",
        [
            Step(
                "docker network create -d macvlan --subnet=192.168.216.0/24 --subnet=192.168.218.0/24 --gateway=192.168.216.1 "
                "--gateway=192.168.218.1 -o parent=eth0.218 -o macvlan_mode=bridge macvlan216",
                network(
                    "macvlan216",
                    "macvlan",
                    "eth0.218",
                    subnet("192.168.216.0/24", gateway="192.168.216.1"),
                    subnet("192.168.218.0/24", gateway="192.168.218.1"),
                    mode="bridge",
                ),
            ),
            ran("macvlan216", "c1", "--ip=192.168.216.10", ipv4_address="192.168.216.10"),
            ran("macvlan216", "c2", "--ip=192.168.216.11", ipv4_address="192.168.216.11"),
            ran("macvlan216", "c3", "--ip=192.168.218.10", ipv4_address="192.168.218.10"),
            Ping("c2", "192.168.216.10", True),
            Ping("c2", "192.168.218.10", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "ipvlan L2 with several subnets and no parent",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 --gateway=192.168.210.254 "
                "--gateway=192.168.212.254 -o ipvlan_mode=l2 ipvlan210",
                network(
                    "ipvlan210",
                    "ipvlan",
                    None,
                    subnet("192.168.210.0/24", gateway="192.168.210.254"),
                    subnet("192.168.212.0/24", gateway="192.168.212.254"),
                    mode="l2",
                ),
            ),
            ran("ipvlan210", "c1", "--ip=192.168.210.10", ipv4_address="192.168.210.10"),
            ran("ipvlan210", "c2", "--ip=192.168.210.9", ipv4_address="192.168.210.9"),
            ran("ipvlan210", "c3", "--ip=192.168.212.9", ipv4_address="192.168.212.9"),
            Ping("c2", "192.168.210.10", True),
            Ping("c3", "192.168.210.10", False),
        ],
        host="true",
        differs=QUIET_DUMMY,
    ),
    Scenario(
        "an ipvlan trunk: VLANs 20 and 30, and the gateway inside",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.20.0/24 --gateway=192.168.20.1 -o parent=eth0.20 ipvlan20",
                network("ipvlan20", "ipvlan", "eth0.20", subnet("192.168.20.0/24", gateway="192.168.20.1")),
            ),
            ran("ipvlan20", "ivlan_test1"),
            ran("ipvlan20", "ivlan_test2"),
            Ping("ivlan_test2", "192.168.20.2", True),
            Step(
                "docker network create -d ipvlan --subnet=192.168.30.0/24 --gateway=192.168.30.1 -o parent=eth0.30 -o ipvlan_mode=l2 ipvlan30",
                network("ipvlan30", "ipvlan", "eth0.30", subnet("192.168.30.0/24", gateway="192.168.30.1"), mode="l2"),
            ),
            ran("ipvlan30", "ivlan_test3"),
            ran("ipvlan30", "ivlan_test4"),
            Ping("ivlan_test4", "192.168.30.2", True),
            Ping("ivlan_test3", "192.168.20.2", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "an ipvlan trunk with several subnets",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.114.0/24 --subnet=192.168.116.0/24 --gateway=192.168.114.254 "
                "--gateway=192.168.116.254 -o parent=eth0.114 -o ipvlan_mode=l2 ipvlan114",
                network(
                    "ipvlan114",
                    "ipvlan",
                    "eth0.114",
                    subnet("192.168.114.0/24", gateway="192.168.114.254"),
                    subnet("192.168.116.0/24", gateway="192.168.116.254"),
                    mode="l2",
                ),
            ),
            ran("ipvlan114", "c1", "--ip=192.168.114.10", ipv4_address="192.168.114.10"),
            ran("ipvlan114", "c2", "--ip=192.168.114.11", ipv4_address="192.168.114.11"),
            ran("ipvlan114", "c3", "--ip=192.168.116.10", ipv4_address="192.168.116.10"),
            Ping("c1", "192.168.114.11", True),
            Ping("c3", "192.168.114.11", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "the table of NetOps: VLANs 10, 20 and 30",
        [
            Step(
                "docker network create -d macvlan --subnet=172.16.80.0/24 --gateway=172.16.80.1 -o parent=eth0.10 macvlan10",
                network("macvlan10", "macvlan", "eth0.10", subnet("172.16.80.0/24", gateway="172.16.80.1")),
            ),
            Step(
                "docker network create -d macvlan --subnet=172.16.50.0/22 --gateway=172.16.50.1 -o parent=eth0.20 macvlan20",
                network("macvlan20", "macvlan", "eth0.20", subnet("172.16.50.0/22", gateway="172.16.50.1")),
            ),
            Step(
                "docker network create -d ipvlan --subnet=10.1.100.0/16 --gateway=10.1.100.1 -o parent=eth0.30 ipvlan30",
                network("ipvlan30", "ipvlan", "eth0.30", subnet("10.1.100.0/16", gateway="10.1.100.1")),
            ),
        ],
        differs={
            **QUIET,
            "network macvlan20": "R5",
            "network ipvlan30": "R5",
            "host eth0.20": "R5",
            "host eth0.30": "R5",
        },
    ),
    Scenario(
        "ipvlan L3 without a parent",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.120.0/24 -o ipvlan_mode=l3 ipnet120",
                network("ipnet120", "ipvlan", None, subnet("192.168.120.0/24"), mode="l3"),
            ),
            ran("ipnet120", "c1"),
        ],
        host="true",
        differs={**QUIET_DUMMY, "c1 routes": "R3"},
    ),
    Scenario(
        "ipvlan L3 routes between its subnets",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.214.0/24 --subnet=10.1.214.0/24 -o ipvlan_mode=l3 ipnet210",
                network("ipnet210", "ipvlan", None, subnet("192.168.214.0/24"), subnet("10.1.214.0/24"), mode="l3"),
            ),
            ran("ipnet210", "c1", "--ip=192.168.214.10", ipv4_address="192.168.214.10"),
            ran("ipnet210", "c2", "--ip=10.1.214.10", ipv4_address="10.1.214.10"),
            Ping("c1", "10.1.214.10", True, docker=False),
            Ping("c2", "192.168.214.10", True, docker=False),
        ],
        host="true",
        differs={
            **QUIET_DUMMY,
            "c? routes": "R3",
            "ping from c1 to 10.1.214.10": "R3",
            "ping from c2 to 192.168.214.10": "R3",
        },
    ),
    Scenario(
        "ipvlan L3 on a NIC, in another subnet than that",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.214.0/24 --subnet=10.1.214.0/24 -o parent=eth0 -o ipvlan_mode=l3 ipnet210",
                network("ipnet210", "ipvlan", "eth0", subnet("192.168.214.0/24"), subnet("10.1.214.0/24"), mode="l3"),
            ),
            ran("ipnet210", "c1", "--ip=192.168.214.10", ipv4_address="192.168.214.10"),
            ran("ipnet210", "c2", "--ip=10.1.214.10", ipv4_address="10.1.214.10"),
            Ping("c1", "10.1.214.10", True),
            Ping("c2", "192.168.1.250", False),
            Ping("host", "192.168.214.10", False),
        ],
        host=addressed("192.168.1.250/24"),
    ),
    Scenario(
        "VLAN 139: an IPv6 subnet, and an automatic IPv4 subnet",
        [
            Step(
                "docker network create -d ipvlan --ipv6 --subnet=2001:db8:abc2::/64 --gateway=2001:db8:abc2::22 -o parent=eth0.139 v6ipvlan139",
                network("v6ipvlan139", "ipvlan", "eth0.139", subnet("2001:db8:abc2::/64", gateway="2001:db8:abc2::22")),
            ),
            ran("v6ipvlan139", "c1"),
            ran("v6ipvlan139", "c2"),
            Ping("c2", "2001:db8:abc2::1", True),
        ],
        again=True,
        differs=QUIET,
    ),
    Scenario(
        "VLAN 140: two IPv4 subnets and one of IPv6",
        [
            Step(
                "docker network create -d ipvlan --ipv6 --subnet=192.168.140.0/24 --subnet=192.168.142.0/24 --gateway=192.168.140.1 "
                "--gateway=192.168.142.1 --subnet=2001:db8:abc9::/64 --gateway=2001:db8:abc9::22 -o parent=eth0.140 -o ipvlan_mode=l2 ipvlan140",
                network(
                    "ipvlan140",
                    "ipvlan",
                    "eth0.140",
                    subnet("192.168.140.0/24", gateway="192.168.140.1"),
                    subnet("192.168.142.0/24", gateway="192.168.142.1"),
                    subnet("2001:db8:abc9::/64", gateway="2001:db8:abc9::22"),
                    mode="l2",
                ),
            ),
            ran("ipvlan140", "c1", "--ip=192.168.140.10", ipv4_address="192.168.140.10"),
            ran("ipvlan140", "c2", "--ip=192.168.142.10", ipv4_address="192.168.142.10"),
            Ping("c2", "192.168.140.10", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "macvlan with both families, gateways given",
        [
            Step(
                "docker network create -d macvlan --ipv6 --subnet=192.168.216.0/24 --subnet=192.168.218.0/24 --gateway=192.168.216.1 "
                "--gateway=192.168.218.1 --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 -o parent=eth0.218 -o macvlan_mode=bridge macvlan216",
                network(
                    "macvlan216",
                    "macvlan",
                    "eth0.218",
                    subnet("192.168.216.0/24", gateway="192.168.216.1"),
                    subnet("192.168.218.0/24", gateway="192.168.218.1"),
                    subnet("2001:db8:abc8::/64", gateway="2001:db8:abc8::10"),
                ),
            ),
            ran("macvlan216", "c1", "--ip=192.168.216.11", ipv4_address="192.168.216.11"),
            ran(
                "macvlan216",
                "c2",
                "--ip=192.168.218.11 --ip6=2001:db8:abc8::20",
                ipv4_address="192.168.218.11",
                ipv6_address="2001:db8:abc8::20",
            ),
            Ping("c2", "2001:db8:abc8::1", True),
        ],
        differs=QUIET,
    ),
    Scenario(
        "ipvlan L3 with both families, default routes by device",
        [
            Step(
                "docker network create -d ipvlan --ipv6 --subnet=192.168.110.0/24 --subnet=192.168.112.0/24 --subnet=2001:db8:abc6::/64 "
                "-o parent=eth0 -o ipvlan_mode=l3 ipnet110",
                network(
                    "ipnet110",
                    "ipvlan",
                    "eth0",
                    subnet("192.168.110.0/24"),
                    subnet("192.168.112.0/24"),
                    subnet("2001:db8:abc6::/64"),
                    mode="l3",
                ),
            ),
            ran(
                "ipnet110",
                "c1",
                "--ip=192.168.110.2 --ip6=2001:db8:abc6::10",
                ipv4_address="192.168.110.2",
                ipv6_address="2001:db8:abc6::10",
            ),
            ran(
                "ipnet110",
                "c2",
                "--ip=192.168.112.2 --ip6=2001:db8:abc6::50",
                ipv4_address="192.168.112.2",
                ipv6_address="2001:db8:abc6::50",
            ),
            Ping("c2", "2001:db8:abc6::10", True),
            Ping("c2", "192.168.110.2", True),
        ],
    ),
    Scenario(
        "an IPv6 address is taken again the moment it is free",
        [
            Step(
                "docker network create -d ipvlan --ipv6 --subnet=192.168.140.0/24 --subnet=2001:db8:abc9::/64 -o parent=eth0.140 ipvlan140",
                network("ipvlan140", "ipvlan", "eth0.140", subnet("192.168.140.0/24"), subnet("2001:db8:abc9::/64")),
            ),
            ran("ipvlan140", "c1", "--ip6=2001:db8:abc9::10", ipv6_address="2001:db8:abc9::10"),
            ended("ipvlan140", "c1"),
            ran("ipvlan140", "c2", "--ip6=2001:db8:abc9::10", ipv6_address="2001:db8:abc9::10"),
        ],
        differs=QUIET,
    ),
    Scenario(
        "a sub-interface that was made by hand stays",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.40.0/24 --gateway=192.168.40.1 -o parent=eth0.40 ipvlan40",
                network("ipvlan40", "ipvlan", "eth0.40", subnet("192.168.40.0/24", gateway="192.168.40.1")),
            ),
            ran("ipvlan40", "ivlan_test5"),
            ran("ipvlan40", "ivlan_test6"),
            Ping("ivlan_test6", "192.168.40.2", True),
            Step(
                "docker rm -f ivlan_test5 ivlan_test6",
                (no_endpoint("ipvlan40", "ivlan_test5"), no_endpoint("ipvlan40", "ivlan_test6")),
            ),
            removed("ipvlan40"),
        ],
        host=f"{ETH0}; ip link add link eth0 name eth0.40 type vlan id 40; ip link set eth0.40 up",
    ),
    Scenario(
        "a sub-interface of any name",
        [
            Step(
                "docker network create -d ipvlan --subnet=192.168.40.0/24 --gateway=192.168.40.1 -o parent=foo ipvlan40",
                network("ipvlan40", "ipvlan", "foo", subnet("192.168.40.0/24", gateway="192.168.40.1")),
            ),
            ran("ipvlan40", "ivlan_test5"),
            ended("ipvlan40", "ivlan_test5"),
            removed("ipvlan40"),
            on_host("ip link del foo"),
        ],
        host=f"{ETH0}; ip link add link eth0 name foo type vlan id 40; ip link set foo up",
    ),
    Scenario(
        "a sub-interface that a network created comes back and goes with its network",
        [
            Step(
                "docker network create -d macvlan --subnet=192.168.50.0/24 -o parent=eth0.50 macvlan50",
                network("macvlan50", "macvlan", "eth0.50", subnet("192.168.50.0/24")),
            ),
            on_host("ip link del eth0.50"),
            Step("restart of dockerd", network("macvlan50", "macvlan", "eth0.50", subnet("192.168.50.0/24"))),
            removed("macvlan50"),
        ],
        differs=QUIET,
    ),
]


def created(
    name: str, driver: str, parent: Optional[str] = None, cidr: str = "192.0.2.0/24", arguments: str = "", **more: Any
) -> Step:
    """``docker network create`` with one subnet; ``more`` are options of ours, those of a subnet too."""
    row = {key: more.pop(key) for key in ("gateway", "ip_range", "aux_addresses") if key in more}
    words = [
        "docker network create",
        f"-d {driver}",
        f"--subnet={cidr}",
        arguments,
        f"-o parent={parent}" if parent else "",
        name,
    ]
    return Step(" ".join(filter(None, words)), network(name, driver, parent, subnet(cidr, **row), **more))


def dual(
    name: str, driver: str, parent: str, four: str = "192.0.2.0/24", six: str = "2001:db8::/64", **more: Any
) -> Step:
    """The same with a subnet of each family."""
    return Step(
        f"docker network create -d {driver} --ipv6 --subnet={four} --subnet={six} -o parent={parent} {name}",
        network(name, driver, parent, subnet(four), subnet(six), **more),
    )


def connected(network_name: str, name: str) -> Step:
    """A second network for what runs already."""
    return Step(f"docker network connect {network_name} {name}", endpoint(network_name, name))


def refused_names(driver: str, *parents: str) -> Sequence[Step]:
    return [created(f"n{position}", driver, parent) for position, parent in enumerate(parents)]


REFERENCE = [
    Scenario(
        "1.1 the other modes of macvlan",
        [
            created("private", "macvlan", "eth0.11", "192.0.2.0/26", "-o macvlan_mode=private", mode="private"),
            created("vepa", "macvlan", "eth0.12", "192.0.2.64/26", "-o macvlan_mode=vepa", mode="vepa"),
            created("passthru", "macvlan", "eth0.13", "192.0.2.128/26", "-o macvlan_mode=passthru", mode="passthru"),
            ran("private", "c1"),
            ran("private", "c2"),
            ran("vepa", "c3"),
            ran("passthru", "c4"),
            Ping("c2", "192.0.2.2", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "1.1 the other modes and flags of ipvlan",
        [
            created("l3s", "ipvlan", "eth0.11", "192.0.2.0/26", "-o ipvlan_mode=l3s", mode="l3s"),
            created("private", "ipvlan", "eth0.12", "192.0.2.64/26", "-o ipvlan_flag=private", flag="private"),
            created(
                "vepa",
                "ipvlan",
                "eth0.13",
                "192.0.2.128/26",
                "-o ipvlan_mode=l3 -o ipvlan_flag=vepa",
                mode="l3",
                flag="vepa",
            ),
            ran("l3s", "c1"),
            ran("private", "c2"),
            ran("private", "c3"),
            ran("vepa", "c4"),
            Ping("c3", "192.0.2.66", False),
        ],
        differs=QUIET,
    ),
    Scenario(
        "1.1 modes and flags that there are not",
        [
            created("n1", "macvlan", "eth0", arguments="-o macvlan_mode=passthrough", mode="passthrough"),
            created("n2", "macvlan", "eth0", arguments="-o macvlan_mode=Bridge", mode="Bridge"),
            created("n3", "macvlan", "eth0", arguments="-o macvlan_mode=l2", mode="l2"),
            created("n4", "ipvlan", "eth0", arguments="-o ipvlan_mode=L2", mode="L2"),
            created("n5", "ipvlan", "eth0", arguments="-o ipvlan_mode=bridge", mode="bridge"),
            created("n6", "ipvlan", "eth0", arguments="-o ipvlan_flag=public", flag="public"),
        ],
    ),
    Scenario(
        "1.1 an unknown option",
        [created("n1", "macvlan", None, arguments="-o host_iface=eth0", host_iface="eth0")],
        differs={"network n1": "N6", "host dm-DIGEST": "N6", "host dm-DIGEST isolation": "N6"},
    ),
    Scenario(
        "1.1 an MTU",
        [
            created("n1", "macvlan", "eth0.10", arguments="-o com.docker.network.driver.mtu=1400", mtu=1400),
            ran("n1", "c1"),
        ],
        differs={**QUIET, "host eth0.10": "R9", "c1 eth0": "R9"},
    ),
    Scenario("1.1 the loopback", [*refused_names("macvlan", "lo", "lo.10"), created("n2", "ipvlan", "lo")]),
    Scenario(
        "1.2 internal with a parent",
        [created("n1", "macvlan", "eth0", arguments="--internal", internal=True)],
        differs={"network n1": "R3"},
    ),
    Scenario(
        "1.2 IPv6 without a subnet",
        [created("n1", "macvlan", "eth0", arguments="--ipv6", enable_ipv6=True)],
        differs={"network n1": "R6"},
    ),
    Scenario(
        "1.2 IPv6 without a subnet, of newer Docker",
        [created("n1", "macvlan", "eth0", arguments="--ipv6", enable_ipv6=True)],
        since="27.0",
        expected={"network n1": "done"},
    ),
    Scenario(
        "1.2 no addresses at all",
        [
            Step(
                "docker network create -d macvlan --ipv4=false -o parent=eth0 n1",
                network("n1", "macvlan", "eth0", enable_ipv4=False),
            ),
            ran("n1", "c1"),
        ],
        since="28.0",
        expected={"network n1": "done", "endpoint c1": "done", "c1 eth0 addresses": "none", "c1 routes": "none"},
    ),
    Scenario(
        "1.2 a name for the interface",
        [
            created("n1", "ipvlan", "eth0"),
            Step(
                "docker run --network name=n1,driver-opt=com.docker.network.endpoint.ifname=data0 --name c1",
                endpoint("n1", "c1", interface="data0"),
            ),
        ],
        since="28.0",
        expected={"endpoint c1": "done", "c1 data0": "ipvlan l2 bridge on eth0 up mtu 1500"},
    ),
    Scenario(
        "1.2 settings of an endpoint's interface",
        [
            created("n1", "macvlan", "eth0"),
            Step(
                "docker run --network name=n1,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 --name c1",
                endpoint("n1", "c1", sysctls={"net.ipv4.conf.IFNAME.log_martians": 1}),
            ),
            Look("c1", "log_martians", "cat /proc/sys/net/ipv4/conf/eth0/log_martians"),
        ],
        since="27.0",
        expected={"endpoint c1": "done", "c1 log_martians": "1"},
    ),
    Scenario(
        "1.2 settings that are none of an interface",
        [
            created("n1", "macvlan", "eth0"),
            Step(
                "docker run --network name=n1,driver-opt=com.docker.network.endpoint.sysctls=net.core.somaxconn=1 --name c1",
                endpoint("n1", "c1", sysctls={"net.core.somaxconn": 1}),
            ),
        ],
        since="27.0",
        expected={"endpoint c1": "refused"},
    ),
    Scenario(
        "1.2 labels",
        [created("n1", "macvlan", "eth0", arguments="--label rack=a7 --attachable", labels={"rack": "a7"})],
    ),
    Scenario(
        "1.2 a family that is switched neither on nor off",
        [
            created(
                "n1", "macvlan", "eth0", arguments="-o com.docker.network.enable_ipv6=perhaps", enable_ipv6="perhaps"
            )
        ],
        differs={"network n1": "N6"},
    ),
    Scenario(
        "1.2 a network that is made of another's configuration",
        [
            Step("docker network create --config-only --subnet=192.0.2.0/24 -o parent=eth0.50 plan", ()),
            Step(
                "docker network create -d macvlan --config-from plan n1",
                network("n1", "macvlan", "eth0.50", subnet("192.0.2.0/24")),
            ),
            ran("n1", "c1"),
        ],
        differs=QUIET,
    ),
    Scenario(
        "1.2 options of other drivers, and ports",
        [
            created(
                "n1",
                "macvlan",
                "eth0.10",
                arguments="-o com.docker.network.container_iface_prefix=net",
                container_iface_prefix="net",
            ),
            created("n2", "ipvlan", "eth0.20", "198.51.100.0/24"),
            ran("n2", "c1", "-p 8080:80", ports=["8080:80"]),
        ],
        differs={
            **QUIET,
            "network n1": "N6",
            "host eth0.10": "N6",
            "endpoint c1": "N6",
            "c1 eth0": "N6",
            "c1 eth0 addresses": "N6",
            "c1 routes": "N6",
        },
    ),
    Scenario(
        "2.1 the same network again",
        [created("n1", "macvlan", "eth0"), created("n1", "macvlan", "eth0")],
        differs={"network n1": "D2.1"},
    ),
    Scenario(
        "2.1 what was refused, and what was removed, holds nothing",
        [
            created("n1", "macvlan", "eth9"),
            created("n2", "macvlan", "eth0"),
            removed("n2"),
            created("n3", "ipvlan", "eth0"),
        ],
    ),
    Scenario("2.1 a subnet that is everything", [created("n1", "macvlan", "eth0", "0.0.0.0/0")]),
    Scenario(
        "2.1 an IPv6 subnet that is everything",
        [dual("n1", "macvlan", "eth0", six="::/0")],
        differs={"network n1": "N3"},
    ),
    Scenario(
        "2.1 no address management",
        [created("n1", "macvlan", "eth0", arguments="--ipam-driver=null", ipam_driver="null")],
        differs={"network n1": "N6"},
    ),
    Scenario(
        "2.2 a parent that is down",
        [created("n1", "macvlan", "eth0")],
        host="ip link add eth0 type dummy",
        differs={"host eth0": "R1"},
    ),
    Scenario(
        "2.2 a sub-interface on a base that is down",
        [created("n1", "macvlan", "eth0.10")],
        host="ip link add eth0 type dummy",
        differs={**QUIET, "host eth0": "R1", "host eth0.10": "R1", "network n1": "R1"},
    ),
    Scenario(
        "2.2 parents that cannot be had",
        refused_names("macvlan", "eth9", "eth9.10", "eth0.0", "eth0.4095", "eth0.abc", "eth0.-5", "eth0.20.200"),
    ),
    Scenario(
        "2.2 a VLAN ID with a zero in front",
        [created("n1", "ipvlan", "eth0.010")],
        differs={"network n1": "R1", "host eth0.010": "R1", "host eth0.010 isolation": "R1"},
    ),
    Scenario(
        "2.2 a VLAN that is there under another name",
        [created("n1", "macvlan", "eth0.40")],
        host=f"{ETH0}; ip link add link eth0 name foo type vlan id 40; ip link set foo up",
    ),
    Scenario(
        "2.2 QinQ",
        [created("n1", "macvlan", "eth0.20.200"), removed("n1")],
        host=f"{ETH0}; ip link add link eth0 name eth0.20 type vlan id 20; ip link set eth0.20 up",
        differs={
            "network n1": "R1",
            "network n1 absent": "R1",
            "host eth0.20.200": "R1",
            "host eth0.20.200 isolation": "R1",
        },
    ),
    Scenario(
        "2.2 a base with a dot in its name",
        [created("n1", "macvlan", "rack.a.10")],
        host="ip link add rack.a type dummy; ip link set rack.a up",
        differs={"network n1": "R1", "host rack.a.10": "R1", "host rack.a.10 isolation": "R1"},
    ),
    Scenario(
        "2.2 a name that is too long for the kernel",
        [created("n1", "macvlan", "averylongnicname.10")],
        host=f"{ETH0}; ip link property add dev eth0 altname averylongnicname",
        differs={"network n1": "R1", "host u0b21efdf099.10": "R1", "host u0b21efdf099.10 isolation": "R1"},
    ),
    Scenario(
        "2.2 alternative names",
        [
            created("n1", "macvlan", "averylongnicname"),
            removed("n1"),
            created("n2", "ipvlan", "lan", "198.51.100.0/24"),
            ran("n2", "c1"),
        ],
        host=f"{ETH0}; ip link property add dev eth0 altname averylongnicname altname lan",
    ),
    Scenario(
        "2.2 the MTU of the parent is that of all",
        [created("n1", "macvlan", "eth0.10"), ran("n1", "c1")],
        host=f"{ETH0}; ip link set eth0 mtu 9000",
        differs=QUIET,
    ),
    Scenario(
        "2.3 a dummy goes with its network", [created("n1", "macvlan"), removed("n1")], host="true", differs=QUIET_DUMMY
    ),
    Scenario(
        "2.3 a dummy that was lost comes back",
        [
            created("n1", "ipvlan"),
            on_host("for link in /sys/class/net/d[im]-*; do ip link del ${link##*/}; done"),
            Step("restart of dockerd", network("n1", "ipvlan", None, subnet("192.0.2.0/24"))),
        ],
        host="true",
        differs=QUIET_DUMMY,
    ),
    Scenario(
        "2.4 a second network on a parent",
        [
            created("n1", "ipvlan", "eth0"),
            created("n2", "ipvlan", "eth0", "198.51.100.0/24"),
            removed("n1"),
            created("n3", "macvlan", "eth0"),
            created("n4", "macvlan", "eth0", "198.51.100.0/24"),
        ],
    ),
    Scenario(
        "2.4 a parent that is shared, of newer Docker",
        [
            created("n1", "macvlan", "eth0.50", share_parent=True),
            created("n2", "macvlan", "eth0.50", "198.51.100.0/24", share_parent=True),
            removed("n1"),
        ],
        since="27.0",
        expected={
            "network n2": "done",
            "network n1 absent": "done",
            "host eth0.50": "vlan 50 (802.1q) on eth0 up mtu 1500",
        },
    ),
    Scenario(
        "2.4 the last network takes a shared sub-interface along, of newer Docker",
        [
            created("n1", "macvlan", "eth0.50", share_parent=True),
            created("n2", "macvlan", "eth0.50", "198.51.100.0/24", share_parent=True),
            removed("n1"),
            removed("n2"),
        ],
        since="27.0",
        expected={"network n2 absent": "done", "host eth0.50": "absent"},
    ),
    Scenario(
        "2.4 sharing without share_parent, of newer Docker",
        [created("n1", "macvlan", "eth0"), created("n2", "macvlan", "eth0", "198.51.100.0/24")],
        since="27.0",
        expected={"network n2": "done"},
        differs={"network n2": "R4"},
    ),
    Scenario(
        "2.4 passthru does not share its parent, of newer Docker",
        [
            created("n1", "macvlan", "eth0", share_parent=True),
            created(
                "n2",
                "macvlan",
                "eth0",
                "198.51.100.0/24",
                "-o macvlan_mode=passthru",
                mode="passthru",
                share_parent=True,
            ),
        ],
        since="27.0",
        expected={"network n2": "refused"},
    ),
    Scenario(
        "2.4 the parent of passthru, of newer Docker",
        [
            created("n1", "macvlan", "eth0", arguments="-o macvlan_mode=passthru", mode="passthru", share_parent=True),
            created("n2", "macvlan", "eth0", "198.51.100.0/24", share_parent=True),
        ],
        since="27.0",
        expected={"network n1": "done", "network n2": "refused"},
    ),
    Scenario(
        "2.4 modes of macvlan side by side, of newer Docker",
        [
            created("n1", "macvlan", "eth0", share_parent=True),
            created("n2", "macvlan", "eth0", "198.51.100.0/24", "-o macvlan_mode=vepa", mode="vepa", share_parent=True),
            ran("n1", "c1"),
            ran("n2", "c2"),
        ],
        since="27.0",
        expected={
            "c1 eth0": "macvlan bridge on eth0 up mtu 1500, own MAC",
            "c2 eth0": "macvlan vepa on eth0 up mtu 1500, own MAC",
        },
    ),
    Scenario(
        "2.4 a sub-interface of macvlan under ipvlan",
        [
            created("n1", "macvlan", "eth0.10"),
            created("n2", "ipvlan", "eth0.10", "198.51.100.0/24"),
            removed("n1"),
            ran("n2", "c2"),
        ],
        differs={**QUIET, "network n2": "R4", "endpoint c2": "N3"},
    ),
    Scenario(
        "2.4 macvlan and ipvlan on one parent",
        [
            created("n1", "macvlan", "eth0"),
            ran("n1", "c1"),
            created("n2", "ipvlan", "eth0", "198.51.100.0/24"),
            ran("n2", "c2"),
        ],
        differs={"network n2": "R4", "endpoint c2": "N3"},
    ),
    Scenario(
        "2.4 the same parent under another name",
        [created("n1", "ipvlan", "eth0"), created("n2", "ipvlan", "lan", "198.51.100.0/24")],
        host=f"{ETH0}; ip link property add dev eth0 altname lan",
        differs={"network n2": "R4"},
    ),
    Scenario(
        "2.4 a parent that belongs to a bridge",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1")],
        host=f"{ETH0}; ip link add br0 type bridge; ip link set eth0 master br0",
        differs={"network n1": "N3", "endpoint c1": "N3"},
    ),
    Scenario("2.5 a network that there is not", [removed("n1")], differs={"network n1 absent": "D2.5"}),
    Scenario(
        "2.5 a sub-interface that somebody else uses too",
        [
            created("n1", "macvlan", "eth0.50"),
            on_host("ip link add link eth0.50 name strange type macvlan mode bridge"),
            removed("n1"),
        ],
        differs={**QUIET, "host eth0.50": "N1", "host strange": "N1", "host strange isolation": "N1"},
    ),
    Scenario("3.1 a network that there is not", [ran("n9", "c1")]),
    Scenario(
        "3.1 automatic MACs",
        [
            created("n1", "macvlan", "eth0"),
            ran("n1", "c1"),
            Look("c1", "kind of MAC", f"{MAC} | grep -q '^.[26ae]' && echo local, unicast"),
            Look("c1", "MAC at first", f"{MAC} >/run/conformance.mac; echo kept in mind"),
            Step("docker stop -t 0 c1", Shell("ip netns del c1")),
            Step("docker start c1", endpoint("n1", "c1")),
            Look(
                "c1",
                "MAC after a restart",
                f"[ $({MAC}) = $(cat /run/conformance.mac) ] && echo the same || echo another",
            ),
        ],
    ),
    Scenario(
        "3.1 automatic MACs, of newer Docker",
        [
            created("n1", "macvlan", "eth0"),
            ran("n1", "c1"),
            Look("c1", "MAC at first", f"{MAC} >/run/conformance.mac; echo kept in mind"),
            Step(Shell("docker restart c1"), Shell("ip netns del c1")),
            ran("n1", "c1"),
            Look(
                "c1",
                "MAC after a restart",
                f"[ $({MAC}) = $(cat /run/conformance.mac) ] && echo the same || echo another",
            ),
        ],
        since="28.0",
        expected={"c1 MAC after a restart": "another"},
        differs={"c1 MAC after a restart": "N5"},
    ),
    Scenario(
        "3.1 MACs that are given",
        [
            created("n1", "macvlan", "eth0.10"),
            ran("n1", "c1", "--mac-address=02:00:5e:00:00:05", mac_address="02:00:5e:00:00:05"),
            created("n2", "ipvlan", "eth0.20", "198.51.100.0/24"),
            ran("n2", "c2", "--mac-address=02:00:5e:00:00:06", mac_address="02:00:5e:00:00:06"),
        ],
        differs=QUIET,
    ),
    Scenario(
        "3.2 a parent that is gone when the endpoint comes",
        [created("n1", "macvlan", "eth0"), on_host("ip link del eth0"), ran("n1", "c1")],
    ),
    Scenario(
        "3.2 IPv6 only where there is an address of it",
        [
            created("n1", "macvlan", "eth0.10"),
            ran("n1", "c1"),
            Look("c1", "disable_ipv6", "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"),
            Look("c1", "loopback", LOOPBACK),
            dual("n2", "ipvlan", "eth0.20", "198.51.100.0/24"),
            ran("n2", "c2"),
            Look("c2", "disable_ipv6", "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6"),
            Look("c2", "duplicate address detection", "ip -6 -o address show dev eth0 scope global | grep -o nodad"),
        ],
        differs=QUIET,
    ),
    Scenario(
        "3.2 two networks of one subnet in one namespace",
        [
            created("n1", "macvlan", "eth0.10", arguments="--ip-range=192.0.2.0/26", ip_range="192.0.2.0/26"),
            created("n2", "macvlan", "eth0.20", arguments="--ip-range=192.0.2.128/26", ip_range="192.0.2.128/26"),
            ran("n1", "c1"),
            connected("n2", "c1"),
        ],
        differs={**QUIET, "endpoint c1": "R5", "c1 eth1": "R5", "c1 eth1 addresses": "R5", "c1 routes": "R5"},
    ),
    Scenario(
        "3.2 the lowest interface name that is free, of newer Docker",
        [
            created("n1", "macvlan", "eth0.10"),
            created("n2", "macvlan", "eth0.20", "198.51.100.0/24"),
            ran("n1", "c1"),
            connected("n2", "c1"),
            Step("docker network disconnect n1 c1", no_endpoint("n1", "c1")),
            connected("n1", "c1"),
        ],
        since="29.7",
        expected={"c1 eth0 addresses": "192.0.2.2/24", "c1 eth1 addresses": "198.51.100.2/24"},
    ),
    Scenario(
        "3.2 two networks in one namespace, and the way out",
        [
            created("n2", "macvlan", "eth0.20"),
            ran("n2", "c1"),
            created("n1", "macvlan", "eth0.10", "198.51.100.0/24"),
            Step("docker network connect n1 c1", endpoint("n1", "c1")),
            Step("docker network disconnect n1 c1", no_endpoint("n1", "c1")),
        ],
        differs=QUIET,
    ),
    Scenario(
        "3.3 a network without a way out beside one with",
        [
            created("n1", "macvlan"),
            created("n2", "macvlan", "eth0", "198.51.100.0/24"),
            ran("n1", "c1"),
            connected("n2", "c1"),
        ],
        differs={**QUIET_DUMMY, "c1 eth0 addresses": "R2"},
    ),
    Scenario(
        "3.3 one family beside two",
        [
            created("n1", "macvlan", "eth0.10"),
            dual("n2", "macvlan", "eth0.20", "198.51.100.0/24"),
            ran("n1", "c1"),
            connected("n2", "c1"),
        ],
        differs={**QUIET, "c1 routes": "R10"},
    ),
    Scenario(
        "3.3 L3 beside a gateway, of newer Docker",
        [
            created("n1", "macvlan", "eth0.10"),
            created("n2", "ipvlan", "eth0.20", "198.51.100.0/24", "-o ipvlan_mode=l3", mode="l3"),
            ran("n1", "c1"),
            connected("n2", "c1"),
        ],
        since="28.0",
        expected={
            "endpoint c1": "done",
            "c1 routes": "192.0.2.0/24 dev eth0, 198.51.100.0/24 dev eth1, default 4 via 192.0.2.1 dev eth0",
        },
    ),
    Scenario(
        "3.3 an L3 network that is internal",
        [
            created("n1", "ipvlan", None, arguments="--internal -o ipvlan_mode=l3", mode="l3", internal=True),
            ran("n1", "c1"),
        ],
        host="true",
        differs={**QUIET_DUMMY, "c1 routes": "R3"},
    ),
    Scenario(
        "3.3 a priority for the way out",
        [
            created("n1", "macvlan", "eth0.10"),
            created("n2", "macvlan", "eth0.20", "198.51.100.0/24"),
            Step("docker run --network name=n1,gw-priority=1 --name c1", endpoint("n1", "c1", gw_priority=1)),
            Step("docker network connect --gw-priority=5 n2 c1", endpoint("n2", "c1", gw_priority=5)),
        ],
        since="28.0",
        expected={"c1 routes": "192.0.2.0/24 dev eth0, 198.51.100.0/24 dev eth1, default 4 via 198.51.100.1 dev eth1"},
    ),
    Scenario(
        "3.3 a gateway in L3 mode",
        [
            created(
                "n1",
                "ipvlan",
                "eth0",
                arguments="--gateway=192.0.2.1 -o ipvlan_mode=l3",
                mode="l3",
                gateway="192.0.2.1",
            ),
            ran("n1", "c1"),
        ],
    ),
    Scenario(
        "3.3 no gateway given, of newer Docker",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1")],
        since="29.0",
        expected={"c1 eth0 addresses": "192.0.2.1/24", "c1 routes": "192.0.2.0/24 dev eth0"},
        differs={"c1 eth0 addresses": "R2", "c1 routes": "R2"},
    ),
    Scenario(
        "3.4 an endpoint announces itself",
        [
            dual("n1", "macvlan", "eth0"),
            ran("n1", "c1"),
            Ping("c1", "192.0.2.99", True),
            Hear("gratuitous ARP for 192.0.2.2", docker=False),
            Hear("neighbour advertisement for 2001:db8::2", docker=False),
        ],
        host=WIRE,
        wire="wire",
        differs={"wire gratuitous ARP for 192.0.2.2": "D3.4", "wire neighbour advertisement for 2001:db8::2": "D3.4"},
    ),
    Scenario(
        "3.4 an endpoint announces itself, of newer Docker",
        [
            dual("n1", "ipvlan", "eth0"),
            ran("n1", "c1"),
            Hear("gratuitous ARP for 192.0.2.2"),
            Hear("neighbour advertisement for 2001:db8::2"),
        ],
        host=WIRE,
        wire="wire",
        since="29.3",
        expected={
            "wire gratuitous ARP for 192.0.2.2": "heard",
            "wire neighbour advertisement for 2001:db8::2": "heard",
        },
    ),
    Scenario(
        "3.4 how often an endpoint announces itself, of newer Docker",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
                arguments="-o com.docker.network.advertise_addr_nmsgs=2",
                advertise_addr_nmsgs=2,
            )
        ],
        since="28.0",
        expected={"network n1": "done"},
        differs={"network n1": "N6"},
    ),
    Scenario(
        "3.4 an address that a stranger holds",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1", probe=True)],
        host=f"{WIRE}; ip addr add 192.0.2.2/24 dev wire",
        differs={"c1 eth0 addresses": "D3.4"},
    ),
    Scenario(
        "3.5 an address that was given back is the next",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1"), ran("n1", "c2"), ended("n1", "c1"), ran("n1", "c3")],
    ),
    Scenario(
        "3.5 an endpoint that there is not",
        [created("n1", "macvlan", "eth0"), Step("docker network disconnect n1 c9", no_endpoint("n1", "c9"))],
        differs={"endpoint c9 absent": "D2.5"},
    ),
    Scenario(
        "4.2 endpoints while the daemon starts anew",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1"), Step("restart of dockerd", ())],
        differs={"c1 eth0": "D4.2", "c1 eth0 addresses": "D4.2", "c1 routes": "D4.2"},
    ),
    Scenario(
        "4.2 a sub-interface that was made by hand and lost",
        [
            created("n1", "macvlan", "eth0.40"),
            on_host("ip link del eth0.40"),
            Step("restart of dockerd", network("n1", "macvlan", "eth0.40", subnet("192.0.2.0/24"))),
            removed("n1"),
        ],
        host=f"{ETH0}; ip link add link eth0 name eth0.40 type vlan id 40; ip link set eth0.40 up",
        differs=QUIET,
    ),
    Scenario(
        "4.3 a parent that is lost under an endpoint",
        [
            created("n1", "macvlan", "eth0.10"),
            ran("n1", "c1"),
            on_host("ip link del eth0.10"),
            Step("docker restart -t 0 c1", endpoint("n1", "c1")),
        ],
        differs={
            "endpoint c1": "D4.3",
            "c1 eth0": "D4.3",
            "c1 eth0 addresses": "D4.3",
            "c1 routes": "D4.3",
            "host eth0.10 isolation": "D4.3",
            "host eth0.10": "D4.3",
        },
    ),
    Scenario(
        "4.3 a network whose parent never comes back",
        [
            created("n1", "macvlan", "eth7.10"),
            on_host("ip link del eth7"),
            Step("restart of dockerd", ()),
            removed("n1"),
            on_host("ip link add eth7 type dummy; ip link set eth7 up"),
            Step("restart of dockerd", ()),
            created("n2", "macvlan", "eth7.10"),
        ],
        host="ip link add eth7 type dummy; ip link set eth7 up",
        differs={"network n2": "D4.3", "host eth7.10 isolation": "D4.3"},
    ),
    Scenario(
        "4.3 a parent that comes late",
        [
            created("n1", "macvlan", "eth0.10"),
            on_host("ip link del eth0"),
            Step("restart of dockerd", ()),
            on_host(ETH0),
            ran("n1", "c1"),
        ],
        differs={
            "endpoint c1": "D4.3",
            "c1 eth0": "D4.3",
            "c1 eth0 addresses": "D4.3",
            "c1 routes": "D4.3",
            "host eth0.10 isolation": "D4.3",
            "host eth0.10": "D4.3",
        },
    ),
    Scenario(
        "5.1 the same subnet on two VLANs",
        [created("n1", "macvlan", "eth0.10"), created("n2", "macvlan", "eth0.20")],
        differs={**QUIET, "network n2": "R5", "host eth0.20": "R5"},
    ),
    Scenario(
        "5.1 the same subnet on two VLANs, in parts",
        [
            created("n1", "macvlan", "eth0.10", arguments="--ip-range=192.0.2.0/26", ip_range="192.0.2.0/26"),
            created("n2", "macvlan", "eth0.20", arguments="--ip-range=192.0.2.128/26", ip_range="192.0.2.128/26"),
        ],
        differs=QUIET,
    ),
    Scenario(
        "5.1 the same subnet on two VLANs, in parts that overlap",
        [
            created(
                "n1",
                "macvlan",
                "eth0.10",
                arguments="--ip-range=192.0.2.0/26 --gateway=192.0.2.254",
                ip_range="192.0.2.0/26",
                gateway="192.0.2.254",
            ),
            created("n2", "macvlan", "eth0.20", arguments="--ip-range=192.0.2.0/25", ip_range="192.0.2.0/25"),
            ran("n1", "c1"),
            ran("n2", "c2"),
        ],
        differs={**QUIET, "c1 eth0 addresses": "R5", "c2 eth0 addresses": "R5"},
    ),
    Scenario(
        "5.1 one gateway on two VLANs",
        [
            created(
                "n1",
                "macvlan",
                "eth0.10",
                arguments="--ip-range=192.0.2.0/26 --gateway=192.0.2.254",
                ip_range="192.0.2.0/26",
                gateway="192.0.2.254",
            ),
            created(
                "n2",
                "macvlan",
                "eth0.20",
                arguments="--ip-range=192.0.2.64/26 --gateway=192.0.2.254",
                ip_range="192.0.2.64/26",
                gateway="192.0.2.254",
            ),
        ],
        differs={**QUIET, "network n2": "R5", "host eth0.20": "R5"},
    ),
    Scenario(
        "5.1 subnets that overlap on one VLAN, of newer Docker",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
                "10.0.0.0/8",
                "--ip-range=10.0.0.0/16",
                ip_range="10.0.0.0/16",
                share_parent=True,
            ),
            created(
                "n2",
                "macvlan",
                "eth0",
                "10.0.0.0/16",
                "--ip-range=10.0.0.0/24",
                ip_range="10.0.0.0/24",
                share_parent=True,
            ),
        ],
        since="27.0",
        expected={"network n2": "done"},
        differs={"network n2": "R5"},
    ),
    Scenario(
        "5.1 a size instead of a subnet, of newer Docker",
        [created("n1", "macvlan", "eth0", "0.0.0.0/24")],
        since="29.0",
        expected={"network n1": "done"},
        differs={"network n1": "N3"},
    ),
    Scenario(
        "5.1 an automatic subnet is one that the host does not reach",
        [Step("docker network create -d macvlan -o parent=eth0 n1", network("n1", "macvlan", "eth0")), ran("n1", "c1")],
        host=addressed("172.17.0.1/16"),
        again=True,
    ),
    Scenario(
        "5.1 an automatic subnet is not that of a nameserver",
        [
            on_host("cp /etc/resolv.conf /run/resolv.conf; echo nameserver 172.17.0.53 >/etc/resolv.conf"),
            Step("docker network create -d macvlan -o parent=eth0 n1", network("n1", "macvlan", "eth0")),
            ran("n1", "c1"),
            on_host("cat /run/resolv.conf >/etc/resolv.conf"),
        ],
        again=True,
    ),
    Scenario(
        "5.1 no automatic subnet is left",
        [
            Step("docker network create -d macvlan -o parent=eth0.10 n1", network("n1", "macvlan", "eth0.10")),
            ran("n1", "c1"),
            Step("docker network create -d macvlan -o parent=eth0.20 n2", network("n2", "macvlan", "eth0.20")),
        ],
        host="; ".join(
            [
                ETH0,
                *(
                    f"ip addr add {text} dev eth0"
                    for text in (
                        "172.16.0.1/12",
                        "192.168.0.1/17",
                        "192.168.128.1/18",
                        "192.168.192.1/19",
                        "192.168.224.1/20",
                    )
                ),
            ]
        ),
        again=True,
        differs=QUIET,
    ),
    Scenario(
        "5.2 what does not fit into its subnet",
        [
            created("n1", "macvlan", "eth0", arguments="--ip-range=198.51.100.0/26", ip_range="198.51.100.0/26"),
            created("n2", "macvlan", "eth0", arguments="--ip-range=192.0.0.0/16", ip_range="192.0.0.0/16"),
            created("n3", "macvlan", "eth0", arguments="--ip-range=2001:db8::/80", ip_range="2001:db8::/80"),
            created("n4", "macvlan", "eth0", arguments="--gateway=198.51.100.1", gateway="198.51.100.1"),
            created(
                "n5",
                "macvlan",
                "eth0",
                arguments="--aux-address=router=198.51.100.1",
                aux_addresses={"router": "198.51.100.1"},
            ),
            created("n6", "macvlan", "eth0", arguments="--gateway=192.0.2.x", gateway="192.0.2.x"),
            created("n7", "macvlan", "eth0", "192.0.2.0/33"),
        ],
    ),
    Scenario(
        "5.2 a reservation that is no address",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
                arguments="--aux-address=router=192.0.2.x",
                aux_addresses={"router": "192.0.2.x"},
            )
        ],
    ),
    Scenario(
        "5.2 an IPv6 subnet without asking for IPv6",
        [
            Step(
                "docker network create -d macvlan --subnet=192.0.2.0/24 --subnet=2001:db8::/64 -o parent=eth0 n1",
                network("n1", "macvlan", "eth0", subnet("192.0.2.0/24"), subnet("2001:db8::/64")),
            ),
            ran("n1", "c1"),
        ],
        differs={"c1 eth0 addresses": "R6", "c1 routes": "R6"},
    ),
    Scenario(
        "5.2 a range with host bits",
        [
            created("n1", "macvlan", "eth0", arguments="--ip-range=192.0.2.70/26", ip_range="192.0.2.70/26"),
            ran("n1", "c1"),
        ],
    ),
    Scenario(
        "5.2 a gateway that is link-local",
        [
            Step(
                "docker network create -d macvlan --ipv6 --subnet=192.0.2.0/24 --subnet=2001:db8::/64 --gateway=fe80::1 -o parent=eth0 n1",
                network("n1", "macvlan", "eth0", subnet("192.0.2.0/24"), subnet("2001:db8::/64", gateway="fe80::1")),
            ),
            ran("n1", "c1"),
        ],
        differs={
            "network n1": "R2",
            "endpoint c1": "R2",
            "c1 eth0": "R2",
            "c1 eth0 addresses": "R2",
            "c1 routes": "R2",
        },
    ),
    Scenario(
        "5.3 a /30 and a /31",
        [
            created("n1", "macvlan", "eth0.10", "192.0.2.0/30"),
            ran("n1", "c1"),
            ran("n1", "c2"),
            created("n2", "macvlan", "eth0.20", "198.51.100.0/31"),
            ran("n2", "c3"),
        ],
        differs={**QUIET, "c3 eth0 addresses": "R2", "c3 routes": "R2"},
    ),
    Scenario(
        "5.3 a /32",
        [created("n1", "macvlan", "eth0", "192.0.2.7/32"), ran("n1", "c1")],
        differs={"endpoint c1": "R2", "c1 eth0": "R2", "c1 eth0 addresses": "R2", "c1 routes": "R2"},
    ),
    Scenario(
        "5.3 a /127",
        [
            Step(
                "docker network create -d macvlan --ipv6 --subnet=192.0.2.0/24 --subnet=2001:db8::/127 -o parent=eth0 n1",
                network("n1", "macvlan", "eth0", subnet("192.0.2.0/24"), subnet("2001:db8::/127")),
            ),
            ran("n1", "c1"),
        ],
        differs={"endpoint c1": "R2", "c1 eth0": "R2", "c1 eth0 addresses": "R2", "c1 routes": "R2"},
    ),
    Scenario(
        "5.3 a /126, a /128 and a /48",
        [
            dual("n1", "macvlan", "eth0.10", six="2001:db8::/126"),
            ran("n1", "c1"),
            dual("n2", "macvlan", "eth0.20", "198.51.100.0/24", "2001:db8:1::7/128"),
            ran("n2", "c2"),
            dual("n3", "macvlan", "eth0.30", "203.0.113.0/24", "2001:db8:2::/48"),
            ran("n3", "c3"),
        ],
        differs={
            **QUIET,
            "network n2": "R2",
            "endpoint c2": "R2",
            "c2 eth0": "R2",
            "c2 eth0 addresses": "R2",
            "c2 routes": "R2",
            "host eth0.20": "R2",
        },
    ),
    Scenario(
        "5.3 a range of one address",
        [
            created("n1", "macvlan", "eth0", arguments="--ip-range=192.0.2.9/32", ip_range="192.0.2.9/32"),
            ran("n1", "c1"),
        ],
        differs={"endpoint c1": "R2", "c1 eth0": "R2", "c1 eth0 addresses": "R2", "c1 routes": "R2"},
    ),
    Scenario(
        "5.3 the next subnet when one is full",
        [
            Step(
                "docker network create -d macvlan --subnet=192.0.2.0/30 --subnet=198.51.100.0/30 -o parent=eth0 n1",
                network("n1", "macvlan", "eth0", subnet("192.0.2.0/30"), subnet("198.51.100.0/30")),
            ),
            ran("n1", "c1", "--ip=192.0.2.2", ipv4_address="192.0.2.2"),
            ran("n1", "c2"),
            ran("n1", "c3"),
        ],
    ),
    Scenario(
        "5.3 reserved addresses are passed over, in a large subnet too",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
                "10.0.0.0/8",
                "--aux-address=a=10.0.0.2 --aux-address=b=10.0.0.3",
                aux_addresses={"a": "10.0.0.2", "b": "10.0.0.3"},
            ),
            ran("n1", "c1"),
        ],
    ),
    Scenario(
        "5.3 the gateway is not taken from the range",
        [
            created("n1", "macvlan", "eth0", arguments="--ip-range=192.0.2.128/25", ip_range="192.0.2.128/25"),
            ran("n1", "c1"),
        ],
        differs={"c1 eth0 addresses": "R2", "c1 routes": "R2"},
    ),
    Scenario(
        "5.3 addresses that are asked for",
        [
            created(
                "n1",
                "macvlan",
                "eth0",
                arguments="--ip-range=192.0.2.128/25 --gateway=192.0.2.1 --aux-address=router=192.0.2.9",
                ip_range="192.0.2.128/25",
                gateway="192.0.2.1",
                aux_addresses={"router": "192.0.2.9"},
            ),
            ran("n1", "c1", "--ip=192.0.2.5", ipv4_address="192.0.2.5"),
            ran("n1", "c2", "--ip=192.0.2.5", ipv4_address="192.0.2.5"),
            ran("n1", "c3", "--ip=192.0.2.1", ipv4_address="192.0.2.1"),
            ran("n1", "c4", "--ip=192.0.2.9", ipv4_address="192.0.2.9"),
            ran("n1", "c5", "--ip=192.0.2.0", ipv4_address="192.0.2.0"),
            ran("n1", "c6", "--ip=192.0.2.255", ipv4_address="192.0.2.255"),
            ran("n1", "c7", "--ip=198.51.100.7", ipv4_address="198.51.100.7"),
        ],
    ),
    Scenario(
        "5.3 a workload that ends and comes back",
        [
            created("n1", "macvlan", "eth0"),
            ran("n1", "c1"),
            Step("docker stop c1", Shell("ip netns del c1")),
            ran("n1", "c2"),
        ],
        differs={"c2 eth0 addresses": "N5"},
    ),
    Scenario(
        "5.3 the given address of a workload that ended",
        [
            created("n1", "macvlan", "eth0"),
            ran("n1", "c1", "--ip=192.0.2.7", ipv4_address="192.0.2.7"),
            Step("docker stop c1", Shell("ip netns del c1")),
            ran("n1", "c2", "--ip=192.0.2.7", ipv4_address="192.0.2.7"),
        ],
        differs={"endpoint c2": "N5", "c2 eth0": "N5", "c2 eth0 addresses": "N5", "c2 routes": "N5"},
    ),
    Scenario("6 a network that has endpoints", [created("n1", "macvlan", "eth0"), ran("n1", "c1"), removed("n1")]),
    Scenario(
        "6 a network whose endpoint has ended",
        [
            created("n1", "macvlan", "eth0.10"),
            ran("n1", "c1"),
            Step("docker stop c1", Shell("ip netns del c1")),
            removed("n1"),
            Step("docker start c1", endpoint("n1", "c1")),
        ],
        differs={
            **QUIET,
            "network n1 absent": "N5",
            "host eth0.10": "N5",
            "endpoint c1": "N5",
            "c1 eth0": "N5",
            "c1 eth0 addresses": "N5",
            "c1 routes": "N5",
        },
    ),
    Scenario(
        "6 what is unused goes, what is in use stays",
        [
            created("n1", "macvlan", "eth0.10"),
            created("n2", "ipvlan", "eth0.20", "198.51.100.0/24"),
            ran("n1", "c1"),
            Step("docker network prune -f", no_network("n2")),
        ],
        differs=QUIET,
    ),
    Scenario(
        "8 the parent's own address",
        [created("n1", "macvlan", "eth0"), ran("n1", "c1")],
        host=addressed("192.0.2.2/24"),
        differs={"c1 eth0 addresses": "R8"},
    ),
    Scenario(
        "8 an L3 network in the subnet of its parent",
        [created("n1", "ipvlan", "eth0", arguments="-o ipvlan_mode=l3", mode="l3")],
        host=addressed("192.0.2.2/24"),
        differs={"network n1": "R7"},
    ),
]
SECTIONS = {"The guide": GUIDE, "The drivers": REFERENCE}
