# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, subnets, slices and MACs, held against plain sets that do the same slowly."""

from __future__ import annotations

import ipaddress
import itertools
import statistics
import time
from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import ipam
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

Network = ipam.Network


def take(pool: ipam.Pool, holder: str) -> Optional[str]:
    """Give the lowest free address to an endpoint."""
    address = pool.free()
    if address is not None:
        pool.claim(address, holder)
    return address


def overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


# --- a pool against a set ------------------------------------------------------------------------

BASES = {4: int(ipaddress.ip_address("10.1.255.0")), 6: int(ipaddress.ip_address("2001:db8::"))}
FIRST = 40  # of a large subnet, the model looks at so many addresses at either end


@st.composite
def subnets(draw: st.DrawFn, version: Optional[int] = None) -> Network:
    """Every small prefix, and a few of the largest."""
    version = version or draw(st.sampled_from([4, 6]))
    width = {4: 32, 6: 128}[version]
    length = draw(st.one_of(st.integers(width - 5, width), st.sampled_from([8, 16, 24, width // 2])))
    value = BASES[version] + draw(st.integers(0, 63))
    return ipaddress.ip_network((value, width)).supernet(new_prefix=length)


@st.composite
def parts(draw: st.DrawFn, subnet: Network) -> Network:
    """A subnet of a subnet, near its lower end."""
    length = draw(st.integers(subnet.prefixlen, subnet.max_prefixlen))
    size = 2 ** (subnet.max_prefixlen - length)
    number = draw(st.integers(0, min(3, subnet.num_addresses // size - 1)))
    return ipaddress.ip_network((int(subnet.network_address) + number * size, length))


class Pools(RuleBasedStateMachine):
    """Random claims and releases; the model is two dicts, and everything else follows from them."""

    pool: ipam.Pool

    @initialize(data=st.data())
    def make(self, data: st.DataObject) -> None:
        self.subnet = data.draw(subnets())
        self.range = data.draw(st.one_of(st.just(self.subnet), parts(self.subnet)))
        reserved = data.draw(st.dictionaries(self.addresses(), st.just("the gateway"), max_size=4))
        taken = data.draw(st.dictionaries(self.addresses(), st.sampled_from("abc"), max_size=6))
        given_range = None if self.range == self.subnet else str(self.range)
        self.pool = ipam.Pool(str(self.subnet), given_range, reserved, taken)
        self.reserved = {ipaddress.ip_address(text) for text in reserved}
        if self.subnet.num_addresses > 2:
            self.reserved.add(self.subnet.network_address)
            if self.subnet.version == 4:
                self.reserved.add(self.subnet.broadcast_address)
        self.holders = {ipaddress.ip_address(text): holder for text, holder in taken.items()}

    def addresses(self) -> st.SearchStrategy[str]:
        """Addresses of the subnet, most of them where the range is."""
        low, high = int(self.subnet.network_address), int(self.subnet.broadcast_address)
        start = int(self.range.network_address)
        near = st.integers(start, min(start + FIRST, high))
        return st.one_of(near, near, st.integers(low, high)).map(lambda value: str(self.subnet[value - low]))

    def free_ones(self) -> List[str]:
        """The first of the free addresses."""
        return [str(ip) for ip in itertools.islice(self.range, FIRST + 20) if not self.known(ip)]

    def known(self, ip: Any) -> bool:
        return ip in self.reserved or ip in self.holders

    @rule(holder=st.sampled_from("abc"))
    def take(self, holder: str) -> None:
        free = self.free_ones()
        if free:
            got = take(self.pool, holder)
            assert got == free[0]
            self.holders[ipaddress.ip_address(got)] = holder
        elif self.range.num_addresses <= FIRST + 20:
            assert self.pool.free() is None

    @rule(data=st.data(), holder=st.sampled_from("abc"))
    def claim(self, data: st.DataObject, holder: str) -> None:
        text = data.draw(self.addresses())
        ip = ipaddress.ip_address(text)
        if ip in self.reserved:
            with pytest.raises(errors.AddressError, match=f"{ip} is (the|an) "):
                self.pool.claim(text, holder)
        elif self.holders.get(ip, holder) != holder:
            with pytest.raises(errors.AddressError, match=f"{ip} is held by {self.holders[ip]}"):
                self.pool.claim(text, holder)
        else:
            self.pool.claim(text, holder)
            self.holders[ip] = holder

    @rule(data=st.data())
    def release_any(self, data: st.DataObject) -> None:
        text = data.draw(self.addresses())
        self.pool.release(text)
        self.holders.pop(ipaddress.ip_address(text), None)

    @precondition(lambda self: bool(getattr(self, "holders", None)))
    @rule(data=st.data())
    def release_held(self, data: st.DataObject) -> None:
        ip = data.draw(st.sampled_from(sorted(self.holders)))
        self.pool.release(str(ip))
        del self.holders[ip]
        if ip in self.range and ip not in self.reserved:
            free = self.pool.free()
            assert free is not None
            assert int(ipaddress.ip_address(free)) <= int(ip), "it can be had again at once"

    @invariant()
    def as_the_model_says(self) -> None:
        if not hasattr(self, "holders"):
            return
        free = self.free_ones()
        count = 10
        assert list(itertools.islice(self.pool.candidates(), count))[: len(free)] == free[:count]
        if free or self.range.num_addresses <= FIRST + 20:
            assert self.pool.free() == (free[0] if free else None)
        kept = sum(ip in self.range for ip in self.reserved)
        held = sum(ip in self.range for ip in self.holders if ip not in self.reserved)
        assert self.pool.size == self.range.num_addresses - kept
        assert (self.pool.used, self.pool.available) == (held, self.pool.size - held)
        for ip, holder in self.holders.items():
            assert self.pool.holder(str(ip)) == holder


Pools.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestPools = Pools.TestCase


@pytest.mark.parametrize(
    ("subnet", "usable", "gateway"),
    [
        ("192.0.2.0/29", [f"192.0.2.{n}" for n in range(1, 7)], "192.0.2.1"),
        ("192.0.2.0/30", ["192.0.2.1", "192.0.2.2"], "192.0.2.1"),
        ("192.0.2.0/31", ["192.0.2.0", "192.0.2.1"], None),
        ("192.0.2.7/32", ["192.0.2.7"], None),
        ("2001:db8::/125", [f"2001:db8::{n}" for n in range(1, 8)], "2001:db8::1"),
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"], "2001:db8::1"),
        ("2001:db8::/127", ["2001:db8::", "2001:db8::1"], None),
        ("2001:db8::7/128", ["2001:db8::7"], None),
        ("::/126", ["::1", "::2", "::3"], "::1"),
    ],
)  # fmt: skip
def test_tiny_subnets(subnet: str, usable: List[str], gateway: Optional[str]) -> None:
    pool = ipam.Pool(subnet)
    assert list(pool.candidates()) == usable
    assert [take(pool, str(number)) for number in range(len(usable))] == usable
    assert (pool.size, pool.used, pool.available, pool.free()) == (
        len(usable),
        len(usable),
        0,
        None,
    )
    assert ipam.first_usable(subnet) == gateway
    if gateway:
        assert ipam.Pool(subnet, None, {gateway: "the gateway"}).free() == usable[1]


@pytest.mark.parametrize(
    ("subnet", "held", "back"),
    [
        ("10.1.0.0/16", 65533, None),
        ("10.1.0.0/16", 65534, 30000),
        ("2001:db8::/64", 100_000, None),
        ("2001:db8::/64", 100_000, 50_000),
    ],
)
def test_the_next_address_costs_the_same_however_many_are_held(subnet: str, held: int, back: Optional[int]) -> None:
    """A look at each of a hundred thousand leases would take thousands of times as long; tests/bench/ipam.py times a million."""
    first = ipaddress.ip_network(subnet).network_address
    pool = ipam.Pool(subnet, taken={str(first + number): "somebody" for number in range(1, held + 1)})
    if back:
        pool.release(str(first + back))
    assert _cost_of_the_next(pool, str(first + (back or held + 1))) < 50 * _cost_of_the_next(
        ipam.Pool(subnet), str(first + 1)
    )


def _cost_of_the_next(pool: ipam.Pool, address: str) -> float:
    """Taking the next address, which is this one: the median, in seconds."""
    costs = []
    for _round in range(101):
        start = time.perf_counter()
        taken = take(pool, "new")
        costs.append(time.perf_counter() - start)
        assert taken == address
        pool.release(address)
    return statistics.median(costs)


def test_a_range_bounds_what_is_handed_out_and_not_what_is_claimed() -> None:
    pool = ipam.Pool("172.28.0.0/16", "172.28.30.0/24", {"172.28.30.1": "reserved as nas"})
    # The first and the last address of a range are nothing special (Docker reference, 5.3).
    assert [take(pool, "a"), take(pool, "b")] == ["172.28.30.0", "172.28.30.2"]
    pool.claim("172.28.5.4", "c")
    assert (pool.size, pool.used, pool.holder("172.28.5.4")) == (255, 2, "c")
    pool.release("172.28.5.4")
    assert pool.free() == "172.28.30.3"
    pool.claim("172.28.30.255", "d")


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("10.0.0.0", "10.0.0.0 is the network's own address"),
        ("10.0.0.7", "10.0.0.7 is the broadcast address"),
        ("10.0.0.1", "10.0.0.1 is the gateway"),
        ("10.0.0.2", "10.0.0.2 is reserved as printer"),
        ("10.0.0.3", "10.0.0.3 is held by db1"),
        ("10.0.0.8", "10.0.0.8 is not inside 10.0.0.0/29"),
        ("2001:db8::1", "2001:db8::1 is not inside 10.0.0.0/29"),
    ],
)
def test_a_refused_claim_says_who_has_the_address(address: str, what: str) -> None:
    reserved = {"10.0.0.1": "the gateway", "10.0.0.2": "reserved as printer"}
    pool = ipam.Pool("10.0.0.0/29", None, reserved, {"10.0.0.3": "db1"})
    with pytest.raises(errors.AddressError) as caught:
        pool.claim(address, "db2")
    assert str(caught.value) == what
    assert caught.value.fix
    assert pool.holder(address) in (None, "db1")


def test_an_exhausted_pool_has_no_free_address() -> None:
    pool = ipam.Pool("10.0.0.0/29", None, {"10.0.0.1": "the gateway"})
    assert [take(pool, name) for name in "abcdef"] == [*(f"10.0.0.{last}" for last in range(2, 7)), None]
    assert (pool.used, pool.available, pool.size) == (5, 0, 5)


def test_ranges_and_prefixes_are_reserved_whole_and_a_range_is_a_pool() -> None:
    reserved = {"10.0.0.0-10.0.0.9": "reserved as old", "10.0.0.8/30": "reserved as dhcp", "10.0.0.14": "reserved as x"}
    pool = ipam.Pool("10.0.0.0/24", "10.0.0.5-10.0.0.15", reserved, {"10.0.0.9": "lost", "10.0.0.12": "a"})
    assert (pool.size, pool.used) == (3, 1)
    assert [take(pool, name) for name in "bcd"] == ["10.0.0.13", "10.0.0.15", None]
    pool.release("10.0.0.9")
    assert pool.free() is None
    with pytest.raises(errors.AddressError, match="10.0.0.11 is reserved as dhcp"):
        pool.claim("10.0.0.11", "e")
    assert ipam.Pool("2001:db8::/64", None, {"2001:db8::/65": "kept"}).free() == "2001:db8:0:0:8000::"


def test_several_ranges_are_one_pool() -> None:
    pool = ipam.Pool(
        "10.0.0.0/24",
        "10.0.0.20-10.0.0.21, 10.0.0.8/30, 10.0.0.22",
        {"10.0.0.9-10.0.0.20": "kept", "10.0.0.15": "kept"},
    )
    assert (pool.size, pool.used) == (3, 0)
    assert list(pool.candidates()) == ["10.0.0.8", "10.0.0.21", "10.0.0.22"]
    for expected in ("10.0.0.8", "10.0.0.21", "10.0.0.22", None):
        free = pool.free()
        assert free == expected
        if free is not None:
            pool.claim(free, free)
    pool.claim("10.0.0.30", "outside")
    assert (pool.used, pool.available) == (3, 0)
    for address in ("10.0.0.21", "10.0.0.30"):
        pool.release(address)
    assert (pool.free(), pool.available) == ("10.0.0.21", 1)


def test_a_holder_that_is_reserved_meanwhile_keeps_its_address_to_the_end() -> None:
    pool = ipam.Pool("10.0.0.0/30", None, {"10.0.0.1": "an address of eth0"}, {"10.0.0.1": "a"})
    assert (pool.holder("10.0.0.1"), pool.size, pool.used) == ("a", 1, 0)
    pool.release("10.0.0.1")
    assert pool.free() == "10.0.0.2"


def test_six_and_four_do_not_meet_at_the_low_end() -> None:
    assert take(ipam.Pool("::/64"), "a") == "::1"
    assert take(ipam.Pool("0.0.0.0/24"), "a") == "0.0.0.1"


# --- gateways ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "address", "fault"),
    [
        ("10.0.0.0/24", "10.0.0.1", None),
        ("10.0.0.0/24", "10.0.0.0", "10.0.0.0 is the network's own address of 10.0.0.0/24"),
        ("10.0.0.0/24", "10.0.0.255", "10.0.0.255 is the broadcast address of 10.0.0.0/24"),
        ("10.0.0.0/24", "10.0.1.1", "10.0.1.1 is not inside 10.0.0.0/24"),
        ("10.0.0.0/24", "2001:db8::1", "2001:db8::1 is not inside 10.0.0.0/24"),
        ("10.0.0.0/31", "10.0.0.0", None),
        ("10.0.0.0/32", "10.0.0.0", None),
        ("2001:db8::/64", "2001:db8::", None),  # a router's own, RFC 4291
        ("2001:db8::/64", "2001:db8:0:1::", "2001:db8:0:1:: is not inside 2001:db8::/64"),
    ],
)
def test_usable_addresses(subnet: str, address: str, fault: Optional[str]) -> None:
    assert ipam.usable_error(subnet, address) == fault


# --- subnets -------------------------------------------------------------------------------------

ENTRIES = st.lists(subnets(), max_size=25)


@given(ENTRIES)
def test_overlaps_are_those_that_a_comparison_of_all_pairs_finds(found: List[Network]) -> None:
    entries = list(enumerate(map(str, found)))
    pairs = {tuple(sorted(pair)) for pair in ipam.overlaps(entries)}
    wanted = {
        (one, other) for one, other in itertools.combinations(range(len(found)), 2) if overlap(found[one], found[other])
    }
    assert pairs == wanted
    assert len(ipam.overlaps(entries)) == len(wanted)


def test_labels_need_no_order() -> None:
    assert ipam.overlaps([({}, "10.0.0.0/24"), ({}, "10.0.0.0/24")]) == [({}, {})]


def test_default_subnets_come_in_order() -> None:
    picks = ipam.Subnets([], "seed")
    four = [picks.pick(4) for _ in range(31)]
    assert four[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert four[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert four[-1] == "192.168.240.0/20"
    with pytest.raises(errors.AddressError, match="all default IPv4 subnets") as caught:
        picks.pick(4)
    assert caught.value.fix
    six = [ipaddress.ip_network(picks.pick(6)) for _ in range(3)]
    assert [network.prefixlen for network in six] == [64, 64, 64]
    assert int(six[0].network_address) >> 120 == 0xFD, "RFC 4193: the L bit is set"
    assert [int(network.network_address) >> 64 & 0xFFFF for network in six] == [0, 1, 2]


def test_a_host_keeps_its_own_ula() -> None:
    assert ipam.Subnets([], "one").pick(6) == "fd76:92c3:ad35::/64", "a later version gives the same"
    assert ipam.Subnets([], "one").pick(6) != ipam.Subnets([], "two").pick(6)


@st.composite
def neighbours(draw: st.DrawFn) -> str:
    """What a host reaches, in or near the default subnets; some are addresses with host bits."""
    base = draw(st.sampled_from(["172.17.0.0", "172.20.0.0", "172.31.0.0", "192.168.0.0", "192.168.64.0", "10.0.0.0"]))
    length = draw(st.integers(8, 32))
    offset = draw(st.integers(0, 2**18))
    return f"{ipaddress.ip_address(base) + offset}/{length}"


@given(st.lists(neighbours(), max_size=12))
def test_picked_subnets_avoid_what_the_host_reaches(avoid: List[str]) -> None:
    near = [ipaddress.ip_interface(text).network for text in avoid]
    every = [ipaddress.ip_network(f"172.{n}.0.0/16") for n in range(17, 32)]
    every += [ipaddress.ip_network(f"192.168.{n}.0/20") for n in range(0, 256, 16)]
    wanted = [str(block) for block in every if not any(overlap(block, other) for other in near)]
    picks = ipam.Subnets([*avoid, "fe80::1/64"], "seed")
    assert [picks.pick(4) for _ in wanted] == wanted
    with pytest.raises(errors.AddressError):
        picks.pick(4)


def test_ulas_in_use_are_avoided() -> None:
    picks = ipam.Subnets([], "seed")
    first, second = (ipaddress.ip_network(picks.pick(6)) for _ in range(2))
    assert ipam.Subnets([f"{first[5]}/128"], "seed").pick(6) == str(second)
    quarter = ipam.Subnets([f"{first[5]}/50"], "seed").pick(6)
    assert ipaddress.ip_network(quarter).network_address == first.network_address + 2**78
    with pytest.raises(errors.AddressError, match="all default IPv6 subnets"):
        ipam.Subnets([str(first.supernet(16))], "seed").pick(6)


# --- slices --------------------------------------------------------------------------------------

NAMES = st.sets(st.sampled_from([f"host{number}" for number in range(12)]))
PREFIXES = st.sampled_from([("10.200.0.0/24", 28), ("10.200.0.0/22", 26), ("2001:db8::/60", 64), ("10.0.0.0/8", 30)])


@given(PREFIXES, st.lists(NAMES, max_size=6), st.randoms(use_true_random=False))
def test_slices_never_move(shape: Tuple[str, int], rounds: List[Any], random: Any) -> None:
    prefix, length = shape
    whole = ipaddress.ip_network(prefix)
    given_ones: Dict[str, str] = {}
    for owners in rounds:
        shuffled = sorted(owners)
        random.shuffle(shuffled)
        found = ipam.carve(prefix, length, shuffled, given_ones)
        assert found == {**found, **given_ones}
        assert set(found) == set(given_ones) | owners
        assert ipam.overlaps(found.items()) == []
        used = [ipaddress.ip_network(text) for text in given_ones.values()]
        lowest = (str(part) for part in whole.subnets(new_prefix=length) if part not in used)
        for owner in sorted(owners - set(given_ones)):
            assert found[owner] == next(lowest)
        given_ones = {name: found[name] for name in sorted(found) if random.random() < 0.8}


def test_slices_of_another_length_are_left_alone() -> None:
    found = ipam.carve("10.200.0.0/24", 26, ["b", "c"], {"a": "10.200.0.32/27", "z": "10.200.0.128/28"})
    assert found == {
        "a": "10.200.0.32/27",
        "z": "10.200.0.128/28",
        "b": "10.200.0.64/26",
        "c": "10.200.0.192/26",
    }


def test_slices_outside_the_prefix_are_left_alone() -> None:
    found = ipam.carve("10.200.0.0/24", 26, ["b"], {"a": "10.100.0.0/26", "z": "2001:db8::/64"})
    assert found["b"] == "10.200.0.0/26"


@pytest.mark.parametrize(
    ("length", "owners", "given_ones", "what"),
    [
        (26, "abcde", {}, "10.200.0.0/24 has no /26 left for e: 4 are given"),
        (23, "a", {}, "10.200.0.0/24 cannot be divided into slices of /23"),
        (33, "a", {}, "10.200.0.0/24 cannot be divided into slices of /33"),
        (26, "a", {"b": "10.200.0.0/26", "c": "10.200.0.0/26"},
         "b (10.200.0.0/26) and c (10.200.0.0/26) hold the same addresses"),
    ],
)  # fmt: skip
def test_slices_that_cannot_be_had(length: int, owners: str, given_ones: Dict[str, str], what: str) -> None:
    with pytest.raises(errors.AddressError) as caught:
        ipam.carve("10.200.0.0/24", length, owners, given_ones)
    assert str(caught.value) == what
    assert caught.value.fix


# --- MACs ----------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.text())
def test_macs_are_local_and_unicast(seed: str, network: str, endpoint: str) -> None:
    octets = bytes.fromhex(ipam.mac_for(seed, network, endpoint).replace(":", ""))
    assert len(octets) == 6
    assert octets[0] & 0x03 == 0x02


def test_macs_stay_and_differ() -> None:
    every = [ipam.mac_for(*names) for names in itertools.product(("h1", "h2"), ("red", "blue"), ("a", "b"))]
    assert len(set(every)) == len(every)
    assert every[0] == "ba:0b:b2:4c:cc:14", "a later version gives the same"
