# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random requests on random hosts: what check mode says is what a real run then says and does, and the kernel refuses nothing."""

from __future__ import annotations

import copy
import re
import subprocess
import tempfile
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.converge import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine import Engine
from tests.support.host_picture import picture
from tests.support.network_host import HAS_IPV6, fresh_host, run
from tests.support.soak import examples

Options = Dict[str, Any]
MACS = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]  # those of strangers' links, where they have one
#: What strangers have on the host before the first task ...
HOSTS = {
    "large": "ip link set trunk mtu 9000",
    "addresses": "ip addr add 192.0.2.9/24 dev trunk; ip addr add 10.1.0.2/24 dev old",
    "bond": "ip link add bond0 type bond mode active-backup; ip link set bond0 up",
    "bridge": "ip link add br0 type bridge vlan_filtering 1; ip link set br0 up",
    "tunnel": "ip tuntap add dev tun0 mode tun; ip link set tun0 up",
    "macvlan": f"ip link add link trunk name mv0 address {MACS[1]} type macvlan mode bridge; ip link set mv0 up",
    "ipvlan": "ip link add link old name iv0 type ipvlan mode l3; ip link set iv0 up",
    "vrf": "ip link add leg type dummy; ip link add red type vrf table 7; ip link set leg master red; ip link set leg up; ip link set red up",
    "silent": "ip link set trunk arp off",
    "down": "ip link set trunk down",
    "sub-interface": "ip link add link trunk name other type vlan id 10",
    "sub-interface elsewhere": "ip netns add tenant; ip link add link trunk name other netns tenant type vlan id 20",
    "tenant": f"ip netns add one; ip link add link trunk name data0 netns one address {MACS[0]} type macvlan mode bridge",
    "routes": "ip addr add 203.0.113.9/24 dev old; ip route add 10.9.0.0/16 via 203.0.113.1",
    "no IPv6": "echo 1 > /proc/sys/net/ipv6/conf/trunk/disable_ipv6" if HAS_IPV6 else ":",
}
#: ... and what they do to it between two of them.
EVENTS = [
    "ip link set trunk up", "ip link set trunk down", "ip link set trunk mtu 1500", "ip link set trunk mtu 9000", "ip link set trunk mtu 1200",
    "ip link del trunk.10", "ip link del trunk.20", "ip link set trunk.10 name moved", "ip link set trunk.10 group default",
    "ip -n one link del eth0", "ip -n one addr flush dev eth0", "ip -n one link set eth0 down", "ip -n one link set eth0 name eth7",
    "ip -n two link set eth0 address 02:00:00:00:00:99", "ip -n two route add 10.8.0.0/16 dev eth0", "ip -n two route flush table main",
    "ip -n one route del 10.0.0.0/29 dev eth0", "ip -n one -6 route flush table main", "ip -n two route replace default via 10.0.0.3",
    "ip route flush dev trunk.10", "ip netns del one", "ip addr add 10.0.0.2/29 dev old", "ip link add link trunk.10 name rider type vlan id 9",
]  # fmt: skip


class Request(NamedTuple):
    kind: str  # of an item, or "map", or "event"
    options: Options
    state: str = "present"
    adopt: bool = False


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def rows(always: Dict[str, st.SearchStrategy[Any]], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Options]:
    """What a row has in any case, and three of its other options at most: of more, one or another is wrong nearly always."""
    some = st.lists(st.sampled_from(sorted(more)), max_size=3, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({**always, **{name: more[name] for name in names}}))


FLAG = st.booleans()
MTU = one_of(1400, 1400, 1500, 1280, 68, 1000, 1600, 9000)
SUBNETS = st.lists(
    one_of(
        *[{"subnet": "10.0.0.0/29"}] * 3, {"subnet": "10.0.0.0/29", "ip_range": "10.0.0.4/30"}, {"subnet": "10.0.0.0/29", "gateway": "none"},
        {"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/24", "gateway": "10.1.0.254", "ip_range": "10.1.0.64/26"}, {"subnet": "192.0.2.0/24"},
        *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else []),
    ),
    min_size=1, max_size=2, unique_by=lambda row: row["subnet"],
)  # fmt: skip
PARENT = one_of(
    *["trunk.10", "trunk.20", "trunk"] * 4,
    "bond0.10",
    "br0.30",
    "tun0",
    "mv0",
    "iv0",
    "leg",
    "old",
    "old.10",
    "lo",
    "none.5",
)


def network(driver: str) -> st.SearchStrategy[Options]:
    modes = one_of("bridge", "private", "vepa", "passthru") if driver == "macvlan" else one_of("l2", "l3", "l3s")
    return rows(
        {"name": one_of("red", "blue"), "driver": st.just(driver), "parent": PARENT, "subnets": SUBNETS},
        mode=modes, share_parent=FLAG, bring_up_parent=FLAG, mtu=MTU, host_access=FLAG, recreate=FLAG, enable_ipv6=FLAG,
    )  # fmt: skip


ROUTES = st.lists(
    one_of({"prefix": "10.8.0.0/16", "via": "10.0.0.3"}, {"prefix": "10.8.0.0/16", "metric": 77}, {"prefix": "10.9.0.0/16", "via": "10.0.0.7"},
           {"prefix": "10.0.0.0/29"}, {"prefix": "10.9.0.0/16", "via": "192.0.2.1"}),
    max_size=2, unique_by=lambda row: row["prefix"],
)  # fmt: skip
HOST_ROUTES = st.lists(
    one_of({"prefix": "10.8.0.0/16", "via": "192.0.2.1"}, {"prefix": "10.8.0.0/16", "dev": "old"}, {"prefix": "10.8.0.0/16", "type": "unreachable"},
           {"prefix": "10.9.0.0/16", "dev": "tun0"}, {"prefix": "10.9.0.0/16", "via": "203.0.113.1", "metric": 77}, {"prefix": "10.9.0.0/16", "dev": "trunk"},
           {"prefix": "192.0.2.0/24", "dev": "old"}, {"prefix": "10.7.0.0/16", "dev": "leg", "vrf": "red"}),
    min_size=1, max_size=2, unique_by=lambda row: row["prefix"],
)  # fmt: skip
ADDRESSES = st.lists(
    one_of("192.0.2.9/24", "203.0.113.7/24", *(["2001:db8::9/64"] if HAS_IPV6 else [])), max_size=2, unique=True
)
ROWS: Dict[str, st.SearchStrategy[Options]] = {
    "vlan": rows(
        {"parent": one_of(*["trunk"] * 4, "old", "tun0", "bond0", "iv0"), "vlan_id": one_of(10, 20, 30)},
        name=one_of("up", "mv0"), mtu=MTU, protocol=one_of("802.1q", "802.1ad"), gvrp=FLAG, loose_binding=FLAG, reorder_headers=FLAG, bring_up_parent=FLAG,
        egress_qos_map=one_of({}, {"1": 2}), addresses=ADDRESSES,
    ),
    "network": one_of("macvlan", "ipvlan").flatmap(network),
    "endpoint": rows(
        {"network": one_of("red", "blue"), "name": one_of("a", "b", "c"), "netns": one_of("one", "two")},
        interface=one_of("eth0", "eth1", "data0"), ipv4_address=one_of("10.0.0.2", "10.0.0.3", "10.0.0.9", "10.1.0.7", "192.0.2.9"),
        **({"ipv6_address": one_of("slaac")} if HAS_IPV6 else {}),
        mac_address=one_of(*MACS, "02:00:00:00:00:0c"), mtu=MTU, gw_priority=st.integers(-1, 1), routes=ROUTES, accept_ra=FLAG,
        default_route=one_of({"ipv4": "always"}, {"ipv4": "never"}),
        sysctls=one_of({"ipv4.arp_notify": 0}, {"ipv4.forwarding": 1}, *([{"ipv6.disable_ipv6": 1}, {"ipv6.mtu": 1280}] if HAS_IPV6 else [])),
    ),
    "routes": rows({"name": one_of("mesh", "far"), "routes": HOST_ROUTES}, exact=FLAG),
}  # fmt: skip
IDENTITY = {"vlan": ("parent", "vlan_id"), "network": ("name",), "endpoint": ("network", "name"), "routes": ("name",)}
SECTIONS = {"vlan": "links", "network": "networks", "endpoint": "endpoints", "routes": "routes"}


def identity(kind: str, row: Options) -> Tuple[Any, ...]:
    return tuple(row[option] for option in IDENTITY[kind])


def of_kind(kind: str) -> st.SearchStrategy[Request]:
    return st.builds(lambda row, adopt: Request(kind, row, adopt=adopt), ROWS[kind], one_of(False, False, False, True))


def removal(kind: str) -> st.SearchStrategy[Request]:
    return ROWS[kind].map(lambda row: Request(kind, {option: row[option] for option in IDENTITY[kind]}, "absent"))


def section(kind: str) -> st.SearchStrategy[List[Options]]:
    return st.lists(ROWS[kind], max_size=2, unique_by=lambda row: identity(kind, row))


NETWORK, ENDPOINT = of_kind("network"), of_kind("endpoint")
MAP = st.builds(
    lambda rows, purge, adopt: Request("map", {**rows, **({"purge": True} if purge else {})}, adopt=adopt),
    st.fixed_dictionaries({SECTIONS[kind]: section(kind) for kind in ("network", "endpoint")},
                          optional={SECTIONS[kind]: section(kind) for kind in ("vlan", "routes")}),
    FLAG, FLAG,
)  # fmt: skip
EVENT = st.sampled_from(EVENTS).map(lambda script: Request("event", {"script": script}))
ANY = st.one_of(
    NETWORK, ENDPOINT, ENDPOINT, of_kind("vlan"), of_kind("routes"), MAP, *map(removal, SECTIONS), EVENT, EVENT
)
#: Two networks and an endpoint to begin with, then whatever comes.
REQUESTS = st.tuples(st.tuples(NETWORK, NETWORK, ENDPOINT), st.lists(ANY, min_size=5, max_size=12)).map(
    lambda parts: [*parts[0], *parts[1]]
)
HOST = st.lists(st.sampled_from(sorted(HOSTS)), max_size=4, unique=True)


#: Why an event may not happen on the host as it is then.
UNABLE = re.compile(
    "Cannot find device|does not exist|Cannot open network namespace|Cannot remove namespace file|File exists"
    "|Network is down|Operation not supported|No such process|Nexthop has invalid gateway"
)


def happen(script: str) -> None:
    done = subprocess.run(script.split(), text=True, capture_output=True)
    assert done.returncode == 0 or UNABLE.search(done.stderr), (script, done.stderr)


def carried_out(engine: Engine, request: Request, check: bool) -> Outcome:
    options = copy.deepcopy(request.options)
    if request.kind == "map":
        return engine.map(check, adopt=request.adopt, **options)
    return engine.task(request.kind, request.state, request.adopt, check, **options)


def host_as_seen() -> Dict[str, Any]:
    """The host and its named namespaces, but for what a bridge and a bond count."""
    found = picture()
    for space in found.values():
        for link in space[0]:
            if link["kind"] in ("bridge", "bond"):
                del link["options"]
    return found


#: What only check mode says: a router makes these addresses up, once the link is there.
PROVISIONAL = "its IPv6 addresses are provisional, only a router makes them known after a real run"


def verdict(run_it: Callable[[], Outcome]) -> Tuple[List[str], List[Change], List[str]]:
    try:
        outcome = run_it()
    except InputError as error:
        return sorted(map(str, error.problems)), [], []
    return [], outcome.changes, [text for text in outcome.warnings if not text.endswith(PROVISIONAL)]


def says_the_same(engine: Engine, request: Request) -> None:
    before = host_as_seen()
    planned = verdict(lambda: carried_out(engine, request, True))
    assert host_as_seen() == before, "check mode changed the host"
    assert verdict(lambda: carried_out(engine, request, False)) == planned
    if planned[0]:
        assert host_as_seen() == before, "a refused run changed the host"
    else:
        assert carried_out(engine, request, True).changes == [], "something is left to do"


@pytest.mark.slow
@settings(examples(sample=15, soak=1500))
@given(HOST, REQUESTS)
def test_check_mode_says_what_a_run_will_say(host: List[str], requests: List[Request]) -> None:
    with fresh_host(), tempfile.TemporaryDirectory() as state_dir:
        run(
            "ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up; ip link add old type dummy; ip link set old up"
        )
        for part in HOSTS:
            if part in host:
                run(HOSTS[part])
        engine = Engine(f"{state_dir}/state")
        for request in requests:
            if request.kind == "event":
                happen(request.options["script"])
            else:
                says_the_same(engine, request)
