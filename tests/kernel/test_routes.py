# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of routes: merged or exact, replaced without a gap, and what of others is never touched."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import summary
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.converge import Outcome

from tests.support.engine import Engine
from tests.support.network_host import ip, needs_ipv6, run
from tests.support.waiting import until

pytestmark = pytest.mark.every_kernel

A, B, C = "10.200.1.0/26", "10.200.1.64/26", "10.200.1.128/26"
SIX = "fd00:200:1::/64"


@pytest.fixture
def engine(tmp_path: Path, host: None) -> Engine:
    """A host with 192.0.2.1 and 2001:db8::1 on its trunk, and namespace ``far`` with .11 and .12 at the other end."""
    run(
        """
        ip netns add far
        ip link add trunk type veth peer name eth0 netns far
        ip link set trunk up; ip -n far link set lo up; ip -n far link set eth0 up
        ip address add 192.0.2.1/24 dev trunk
        for n in 11 12; do ip -n far address add 192.0.2.$n/24 dev eth0; done
        if [ -d /proc/sys/net/ipv6 ]; then
            ip address add 2001:db8::1/64 dev trunk nodad
            for n in 11 12; do ip -n far address add 2001:db8::$n/64 dev eth0 nodad; done
        fi
        """
    )
    return Engine(str(tmp_path))


def routes(table: str = "main", protocol: str = "201") -> Dict[Tuple[str, int], str]:
    """What the kernel has of ours, or of another protocol: (prefix, metric) -> where to."""
    found = {}
    for family, usual in (("-4", 0), ("-6", 1024)):
        for row in ip(family, "route", "show", "table", "all", "proto", protocol):
            if row.get("table", "main") != table:
                continue
            kind = row.get("type", "unicast")
            way = row.get("gateway") or (row.get("dev") if kind == "unicast" else kind)
            assert found.setdefault((row["dst"], row.get("metric", usual)), way) == way
    return found


def listed(*rows: Tuple[str, str], **more: Any) -> List[Dict[str, Any]]:
    return [{"prefix": prefix, "via": via, **more} for prefix, via in rows]


def task(engine: Engine, state: str = "present", name: str = "fabric", **options: Any) -> Outcome:
    """A task on a set: check mode predicts it, and the same once more changes nothing."""
    earlier = engine.task("routes", state, check=True, name=name, **options)
    done = engine.task("routes", state, name=name, **options)
    assert earlier.changes == done.changes
    for check in (True, False):
        assert engine.task("routes", state, check=check, name=name, **options).changes == []
    return done


def refused(engine: Engine, name: str = "fabric", **options: Any) -> List[str]:
    """What a task is refused for, in check mode and else, with nothing changed."""
    before = (
        run("ip -d route show table all; ip -6 -d route show table all"),
        engine.records("routes"),
        engine.records("route"),
    )
    texts = []
    for check in (True, False):
        with pytest.raises(InputError) as caught:
            engine.task("routes", check=check, name=name, **options)
        texts.append([str(problem) for problem in caught.value.problems])
    assert texts[0] == texts[1]
    after = (
        run("ip -d route show table all; ip -6 -d route show table all"),
        engine.records("routes"),
        engine.records("route"),
    )
    assert before == after
    return texts[1]


# --- a set ---------------------------------------------------------------------------------------


def test_routes_are_merged_into_the_set(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12")))
    assert routes() == {(A, 0): "192.0.2.11", (B, 0): "192.0.2.12"}
    task(engine, routes=listed((C, "192.0.2.12"), (A, "192.0.2.12")))
    assert routes() == {(A, 0): "192.0.2.12", (B, 0): "192.0.2.12", (C, 0): "192.0.2.12"}


@pytest.mark.one_kernel
def test_listing_some_of_the_set_in_another_order_changes_nothing(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12"), (C, "192.0.2.12")))
    for some in ([(A, "192.0.2.11")], [(C, "192.0.2.12"), (A, "192.0.2.11")]):
        assert engine.task("routes", name="fabric", routes=listed(*some)).changes == []
    every = [(C, "192.0.2.12"), (A, "192.0.2.11"), (B, "192.0.2.12")]
    assert engine.task("routes", name="fabric", exact=True, routes=listed(*every)).changes == []


@pytest.mark.one_kernel
def test_what_is_left_to_defaults_and_what_is_spelt_out_are_the_same(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11")))
    spelt = listed((A, "192.0.2.11"), metric=0, table=254, type="unicast")
    assert engine.task("routes", name="fabric", exact=True, routes=spelt).changes == []


def test_exact_removes_the_rest_of_this_set_alone(engine: Engine) -> None:
    run("ip route add 10.9.0.0/24 via 192.0.2.11 proto static; ip route add 10.9.1.0/24 via 192.0.2.11 proto 201")
    task(engine, name="other", routes=listed((C, "192.0.2.12")))
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12")))
    task(engine, exact=True, routes=listed((B, "192.0.2.12")))
    assert routes() == {(B, 0): "192.0.2.12", (C, 0): "192.0.2.12", ("10.9.1.0/24", 0): "192.0.2.11"}
    task(engine, exact=True, routes=[])
    assert routes() == {(C, 0): "192.0.2.12", ("10.9.1.0/24", 0): "192.0.2.11"}
    assert routes(protocol="static") == {("10.9.0.0/24", 0): "192.0.2.11"}


@pytest.mark.one_kernel
def test_absent_removes_those_that_are_listed_by_prefix_alone(engine: Engine) -> None:
    task(engine, routes=[*listed((A, "192.0.2.11")), *listed((B, "192.0.2.11"), metric=50), *listed((C, "192.0.2.12"))])
    task(engine, "absent", routes=[{"prefix": B}, {"prefix": "10.77.0.0/16"}])
    assert routes() == {(A, 0): "192.0.2.11", (C, 0): "192.0.2.12"}
    task(engine, "absent", routes=[{"prefix": C, "metric": 9}])
    assert routes() == {(A, 0): "192.0.2.11", (C, 0): "192.0.2.12"}


@pytest.mark.one_kernel
def test_absent_removes_the_set(engine: Engine) -> None:
    task(engine, name="other", routes=listed((C, "192.0.2.12")))
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12")))
    task(engine, "absent")
    assert routes() == {(C, 0): "192.0.2.12"}
    assert set(engine.records("routes")) == {"other"}


@pytest.mark.one_kernel
def test_a_set_whose_last_route_is_absent_is_no_set(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11")))
    task(engine, "absent", routes=[{"prefix": A}])
    assert engine.records("routes") == {} and routes() == {}


@pytest.mark.one_kernel
def test_absent_of_what_never_was(engine: Engine) -> None:
    assert task(engine, "absent").changes == []
    assert task(engine, "absent", routes=[{"prefix": A}]).changes == []
    assert engine.records("routes") == {}


def test_absent_when_the_routes_are_gone_already(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12")))
    run(f"ip route del {A}; ip link set trunk down; ip link set trunk up")
    task(engine, "absent")
    assert routes() == {}


def test_a_route_that_somebody_removed_comes_back(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.12")))
    run(f"ip route del {A}")
    task(engine, routes=listed((B, "192.0.2.12")))
    assert routes() == {(A, 0): "192.0.2.11", (B, 0): "192.0.2.12"}


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
def test_routes_to_nowhere(engine: Engine, kind: str) -> None:
    prefixes = [A, SIX] if _has_ipv6() else [A]
    task(engine, routes=[{"prefix": prefix, "type": kind} for prefix in prefixes])
    assert set(routes().values()) == {kind} and len(routes()) == len(prefixes)
    task(engine, routes=listed((A, "192.0.2.11")))
    assert routes()[A, 0] == "192.0.2.11"


def test_a_route_by_device(engine: Engine) -> None:
    task(engine, routes=[{"prefix": A, "dev": "trunk"}])
    assert routes() == {(A, 0): "trunk"}
    run("ip link property add dev trunk altname a-trunk-with-a-long-name")
    assert engine.task("routes", name="fabric", routes=[{"prefix": A, "dev": "a-trunk-with-a-long-name"}]).changes == []


@needs_ipv6
def test_ipv6(engine: Engine) -> None:
    task(engine, routes=listed((SIX, "2001:db8::11"), ("fd00:200:2::/64", "2001:DB8:0::12")))
    assert routes() == {(SIX, 1024): "2001:db8::11", ("fd00:200:2::/64", 1024): "2001:db8::12"}
    task(engine, routes=listed((SIX, "2001:db8::12")))
    task(engine, exact=True, routes=listed((SIX, "2001:db8::12")))
    assert routes() == {(SIX, 1024): "2001:db8::12"}
    # To the kernel a metric of 0 is the usual one.
    assert engine.task("routes", name="fabric", routes=listed((SIX, "2001:db8::12"), metric=0)).changes == []


@needs_ipv6
def test_ipv6_by_a_link_local_address(engine: Engine) -> None:
    task(engine, routes=listed((SIX, "fe80::11"), dev="trunk"))
    assert routes() == {(SIX, 1024): "fe80::11"}
    assert refused(engine, routes=listed(("fd00:200:2::/64", "fe80::11"))) == [
        "routes[0].dev: is missing, and fe80::11 is link-local; give the device"
    ]


def test_metrics_and_tables_are_routes_of_their_own(engine: Engine) -> None:
    rows = [*listed((A, "192.0.2.11")), *listed((A, "192.0.2.12"), metric=50), *listed((A, "192.0.2.12"), table=77)]
    task(engine, routes=[*rows, *listed((A, "192.0.2.11"), table=100000)])
    assert routes() == {(A, 0): "192.0.2.11", (A, 50): "192.0.2.12"}
    assert routes("77") == {(A, 0): "192.0.2.12"}
    assert routes("100000") == {(A, 0): "192.0.2.11"}
    task(engine, exact=True, routes=rows[:2])
    assert routes("77") == routes("100000") == {}


@pytest.mark.one_kernel
def test_diff(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11")))
    outcome = engine.task(
        "routes", check=True, name="fabric", exact=True, routes=listed((A, "192.0.2.12"), (B, "192.0.2.12"))
    )
    diff = summary.diff(outcome.changes)
    shown = [
        {side: part[side] for side in ("before", "after")} for part in (diff if isinstance(diff, list) else [diff])
    ]
    before, after = ("\n".join(part[side] for part in shown) for side in ("before", "after"))
    assert f"route {A}\n" in before and "via: 192.0.2.11" in before and B not in before
    assert f"route {A}\n" in after and "via: 192.0.2.12" in after and f"route {B}\n" in after


@pytest.mark.one_kernel
def test_in_a_map(engine: Engine) -> None:
    sets = [
        {"name": "one", "routes": listed((A, "192.0.2.11"))},
        {"name": "two", "exact": True, "routes": listed((B, "192.0.2.12"))},
    ]
    engine.map(routes=sets)
    assert routes() == {(A, 0): "192.0.2.11", (B, 0): "192.0.2.12"}
    assert engine.map(routes=sets).changes == []
    engine.map(routes=sets[1:], purge=True)
    assert routes() == {(B, 0): "192.0.2.12"}
    moved = [{"name": "two", "exact": True, "routes": []}, {"name": "one", "routes": listed((B, "192.0.2.12"))}]
    engine.map(routes=moved)
    assert routes() == {(B, 0): "192.0.2.12"} and engine.map(routes=moved).changes == []
    engine.map(routes=moved[:1])
    assert routes() == {(B, 0): "192.0.2.12"}


# --- VRFs ----------------------------------------------------------------------------------------


@pytest.fixture
def vrf(engine: Engine) -> str:
    """A VRF with a wire of its own, whose subnet the host has elsewhere too."""
    run(
        """
        ip link add blue type vrf table 1010; ip link set blue up
        ip link add second type veth peer name eth1 netns far
        ip link set second master blue; ip link set second up; ip -n far link set eth1 up
        ip address add 203.0.113.1/24 dev second
        """
    )
    return "blue"


def test_vrf(engine: Engine, vrf: str) -> None:
    task(engine, routes=[*listed((A, "203.0.113.2"), vrf=vrf), *listed((A, "192.0.2.11"))])
    assert routes("1010") == {(A, 0): "203.0.113.2"} and routes() == {(A, 0): "192.0.2.11"}
    task(engine, routes=listed((A, "203.0.113.3"), vrf=vrf))
    assert routes("1010") == {(A, 0): "203.0.113.3"}
    task(engine, exact=True, routes=listed((A, "192.0.2.11")))
    assert routes("1010") == {}


def test_vrf_is_where_next_hops_and_routes_of_others_are_looked_for(engine: Engine, vrf: str) -> None:
    run(f"ip route add {B} via 203.0.113.9 vrf {vrf} proto static; ip route add {C} via 192.0.2.11 proto static")
    assert refused(engine, routes=[
        *listed((A, "192.0.2.11"), (B, "203.0.113.2"), vrf=vrf), *listed((A, "203.0.113.2")), *listed((A, "203.0.113.2"), vrf="red"),
    ]) == [
        "routes[0].via: 192.0.2.11 is on no wire of blue; give a next hop that one of its links reaches itself",
        "routes[1].prefix: 10.200.1.64/26 is routed by somebody else (via 203.0.113.9, protocol 4); "
        "remove that route, or give another metric",
        "routes[2].via: 203.0.113.2 is on no wire of this host; give a next hop that one of its links reaches itself",
        "routes[3].vrf: red is not a VRF of this host; give the name of a VRF device, or table",
    ]  # fmt: skip
    task(engine, routes=listed((C, "203.0.113.2"), vrf=vrf))
    assert routes("1010") == {(C, 0): "203.0.113.2"}


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_next_hops_that_cannot_be(engine: Engine) -> None:
    run(
        "ip link add other type dummy; ip link set other up; ip address add 198.51.100.1/24 dev other; ip link add low type dummy"
    )
    run("ip address add 203.0.113.1/24 dev low")
    rows = [
        *listed((A, "198.18.0.1"), (B, "192.0.2.1"), (C, "2001:db8::11")),
        *listed(("10.0.1.0/24", "192.0.2.11"), dev="other"),
        *listed(("10.0.2.0/24", "192.0.2.11"), dev="eth9"),
        *listed(("10.0.3.0/24", "203.0.113.7")),
        {"prefix": "10.0.4.0/24", "dev": "low"},
        {"prefix": "10.0.5.0/24"},
        {"prefix": "10.0.6.0/24", "type": "unreachable", "via": "192.0.2.11"},
    ]
    assert refused(engine, routes=[rows[2], *rows[-2:]]) == [
        "routes[0].via: 2001:db8::11 is not of the same IP version as 10.200.1.128/26; give a next hop of the same version",
        "routes[1].via: is missing, and so is dev; give the next hop, or the device",
        "routes[2].type: a route of type unreachable has no next hop; leave out via and dev",
    ]
    assert refused(engine, routes=[*rows[:2], *rows[3:-2]]) == [
        "routes[0].via: 198.18.0.1 is on no wire of this host; give a next hop that one of its links reaches itself",
        "routes[1].via: 192.0.2.1 is an address of this host; give the address of another host",
        "routes[2].via: 192.0.2.11 is on no wire of other; give a directly connected next hop",
        "routes[3].dev: eth9 does not exist; this host has low, other, trunk",
        "routes[4].via: 203.0.113.7 is on no wire of this host; give a next hop that one of its links reaches itself",
        "routes[5].dev: low is down; set it up first",
    ]


@pytest.mark.one_kernel
def test_prefixes_that_cannot_be(engine: Engine) -> None:
    run(f"ip route add {A} via 192.0.2.12 proto static; ip route add unreachable {B} proto static")
    rows = listed(("0.0.0.0/0", "192.0.2.11"), ("10.1.2.3", "192.0.2.11"), ("nonsense", "192.0.2.11"))
    assert refused(engine, routes=rows) == [
        "routes[0].prefix: 0.0.0.0/0 is the default route; give the prefix of an L3 network",
        "routes[1].prefix: 10.1.2.3 has no prefix length; write it as 10.1.2.3/32, or the subnet's own length",
        "routes[2].prefix: 'nonsense' is not a subnet; write it as 192.0.2.0/24",
    ]
    rows = listed(
        (A, "192.0.2.11"), (B, "192.0.2.11"), ("192.0.2.0/24", "192.0.2.11"), (C, "192.0.2.11"), (C, "192.0.2.12")
    )
    assert refused(engine, routes=rows) == [
        "routes[0].prefix: 10.200.1.0/26 is routed by somebody else (via 192.0.2.12, protocol 4); "
        "remove that route, or give another metric",
        "routes[1].prefix: 10.200.1.64/26 is routed by somebody else (unreachable, protocol 4); "
        "remove that route, or give another metric",
        "routes[2].prefix: 192.0.2.0/24 is routed by somebody else (dev trunk, protocol 2); remove that route, or give another metric",
        "routes[4].prefix: 10.200.1.128/26 is already listed in routes[3]; list each once, or give another metric",
    ]
    task(engine, routes=listed((A, "192.0.2.11"), metric=20))
    assert routes() == {(A, 20): "192.0.2.11"} and routes(protocol="static") == {
        (A, 0): "192.0.2.12",
        (B, 0): "unreachable",
    }


@pytest.mark.one_kernel
def test_host_bits_are_taken_off_with_a_warning(engine: Engine) -> None:
    outcome = task(engine, routes=listed(("10.200.1.5/26", "192.0.2.11")))
    assert outcome.warnings == ["routes[0].prefix: 10.200.1.5/26 has host bits set; using 10.200.1.0/26"]
    assert routes() == {(A, 0): "192.0.2.11"}


@pytest.mark.one_kernel
def test_a_route_of_another_set(engine: Engine) -> None:
    task(engine, name="other", routes=listed((A, "192.0.2.11")))
    assert refused(engine, routes=listed((A, "192.0.2.12"))) == [
        "routes[0].prefix: 10.200.1.0/26 is a route of the set other; list it in one of them, or give another metric"
    ]


def test_a_route_with_our_protocol_that_stands_in_no_record(engine: Engine) -> None:
    run(f"ip route add {A} via 192.0.2.12 proto 201")
    assert refused(engine, routes=listed((A, "192.0.2.11"))) == [
        "routes[0].prefix: 10.200.1.0/26 has our protocol number but is in no registry; "
        "the registry was lost: set adopt: true to take it back, or remove it"
    ]
    for prefix in (A, B):
        engine.task("routes", adopt=True, name="fabric", routes=listed((prefix, "192.0.2.11")))
    assert routes() == {(A, 0): "192.0.2.11", (B, 0): "192.0.2.11"}
    task(engine, "absent")
    assert routes() == {}


def test_adopting_a_route_that_is_as_wanted_takes_it_into_the_set(engine: Engine) -> None:
    run(f"ip route add {A} via 192.0.2.11 proto 201")
    engine.task("routes", adopt=True, name="fabric", routes=listed((A, "192.0.2.11")))
    task(engine, "absent")
    assert routes() == {}


@pytest.mark.one_kernel
def test_sets_that_two_owners_speak_of(engine: Engine) -> None:
    task(engine, routes=listed((A, "192.0.2.11")))
    with pytest.raises(InputError, match="routes fabric belongs to a task of its own"):
        engine.map(routes=[{"name": "fabric", "routes": listed((B, "192.0.2.11"))}])


# --- what others have ----------------------------------------------------------------------------


def test_routes_of_others_are_never_touched(engine: Engine) -> None:
    run(
        f"""
        ip route add {A} via 192.0.2.12 metric 10 proto static
        ip route add {A} via 192.0.2.12 table 77 proto bgp
        ip route add {B} metric 7 nexthop via 192.0.2.11 nexthop via 192.0.2.12
        ip route add default via 192.0.2.12
        """
    )
    theirs = run("ip -d route show table all; ip -6 -d route show table all")
    task(engine, routes=listed((A, "192.0.2.11"), (B, "192.0.2.11")))
    task(engine, routes=listed((A, "192.0.2.12"), (B, "192.0.2.12")))
    task(engine, "absent")
    assert run("ip -d route show table all; ip -6 -d route show table all") == theirs


def test_one_that_somebody_else_put_in_front_meanwhile(engine: Engine) -> None:
    """The kernel replaces the first of a place, no matter who made it: ours has to go by itself."""
    task(engine, routes=listed((A, "192.0.2.11")))
    run(f"ip route prepend {A} via 192.0.2.11 proto static")
    assert "protocol 4" in refused(engine, routes=listed((A, "192.0.2.12")))[0]
    task(engine, "absent")
    assert routes(protocol="static") == {(A, 0): "192.0.2.11"} and routes() == {}


def test_one_of_metric_0_that_is_gone_already_takes_no_other_along(engine: Engine) -> None:
    task(engine, routes=[*listed((A, "192.0.2.11")), *listed((A, "192.0.2.12"), metric=50)])
    run(f"ip route del {A} metric 0")
    task(engine, exact=True, routes=listed((A, "192.0.2.12"), metric=50))
    assert routes() == {(A, 50): "192.0.2.12"}


# --- without a gap -------------------------------------------------------------------------------


@contextlib.contextmanager
def monitor(tmp_path: Path) -> Iterator[List[str]]:
    """What ``ip monitor route`` saw of 10.200.0.0/16 and fd00::/16, once the block is over."""
    seen: List[str] = []
    path = tmp_path / "monitor"
    with open(path, "w") as file:
        watcher = subprocess.Popen(["ip", "monitor", "route"], stdout=file)
    try:
        for mark in ("198.18.0.0/24", "198.18.1.0/24"):
            # Its own socket is there, and later it has read all before, when it tells of a route that comes and goes.
            def heard(mark: str = mark) -> bool:
                run(f"ip route add blackhole {mark}; ip route del blackhole {mark}")
                return mark in path.read_text()

            assert until(heard)
            if mark == "198.18.0.0/24":
                yield seen
    finally:
        watcher.kill()
        watcher.wait()
    seen += [line.strip() for line in path.read_text().splitlines() if "10.200." in line or "fd00:" in line]


def test_another_next_hop_or_metric_leaves_no_gap(engine: Engine, tmp_path: Path) -> None:
    six = [(SIX, "2001:db8::11")] if _has_ipv6() else []
    task(engine, exact=True, routes=listed((A, "192.0.2.11"), *six))
    six = [(SIX, "2001:db8::12")] if _has_ipv6() else []
    with monitor(tmp_path) as seen:
        task(engine, exact=True, routes=listed((A, "192.0.2.12"), *six))
    assert len(seen) == 1 + len(six) and not any(line.startswith("Deleted") for line in seen), seen
    with monitor(tmp_path) as seen:
        task(engine, exact=True, routes=listed((A, "192.0.2.12"), *six, metric=2000))
    assert set(routes()) == {(A, 2000), *((prefix, 2000) for prefix, _via in six)}
    comes = [position for position, line in enumerate(seen) if not line.startswith("Deleted")]
    goes = [position for position, line in enumerate(seen) if line.startswith("Deleted")]
    assert len(comes) == len(goes) == 1 + len(six) and max(comes) < min(goes), seen


def test_a_pinger_loses_nothing_while_routes_change(engine: Engine) -> None:
    families = [("10.200.1.1", A, "192.0.2."), ("fd00:200:1::1", SIX, "2001:db8::")][: 2 if _has_ipv6() else 1]
    for address, prefix, wire in families:
        run(f"ip -n far address add {address}/{128 if ':' in address else 32} dev lo; ip neigh flush dev trunk")
        task(engine, routes=listed((prefix, f"{wire}11")))
        for hop in ("11", "12"):
            assert until(lambda hop=hop, wire=wire: run(f"ping -c 1 -W 1 {wire}{hop} > /dev/null && echo y || true"))
    pingers = [
        subprocess.Popen(["ping", "-q", "-c", "300", "-i", "0.005", address], stdout=subprocess.PIPE, text=True)
        for address, _prefix, _wire in families
    ]
    turn = 0
    while any(pinger.poll() is None for pinger in pingers):
        hop, metric = ("12", "11")[turn % 2], (None, 500)[turn // 2 % 2]
        rows = [{"prefix": prefix, "via": wire + hop, "metric": metric} for _address, prefix, wire in families]
        assert engine.task("routes", name="fabric", exact=True, routes=rows).changed
        turn += 1
    said = [pinger.communicate()[0] for pinger in pingers]
    assert turn > 4 and all("300 packets transmitted, 300 received, 0%" in text for text in said), said


# --- many ----------------------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_five_thousand_in_one_task(engine: Engine) -> None:
    rows = [
        {"prefix": f"10.{number >> 8}.{number & 255}.0/26", "via": f"192.0.2.{11 + number % 2}"}
        for number in range(5000)
    ]
    for what, options in (
        ("made", {"routes": rows}),
        ("the same again", {"routes": rows}),
        ("each with another next hop", {"routes": [{**row, "via": "192.0.2.13"} for row in rows]}),
        ("removed", {"routes": []}),
    ):
        start = time.perf_counter()
        outcome = engine.task("routes", name="fabric", exact=True, **options)
        print(f"\n5000 routes {what}: {time.perf_counter() - start:.2f} s", end="")
        assert len(outcome.changes) == {"the same again": 0}.get(what, 5001)
        assert len(routes()) == (0 if what == "removed" else 5000)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB", end="")


def _has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").is_dir()
