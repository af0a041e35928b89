#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one address costs in pools that are empty, full and scattered: less than LIMIT, or this fails.

PYTHONPATH=.cache/collections python3 -m ansible_collections.netops.underlay.tests.bench.ipam
"""

from __future__ import annotations

import ipaddress
import sys
import time
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import ipam

ROUNDS = 2000
#: In nanoseconds, of the mean.
LIMIT = 1_000_000


def nanoseconds(work: Callable[[], object]) -> Tuple[float, int]:
    """The mean of many rounds, and the worst of them."""
    worst = 0
    begin = time.perf_counter_ns()
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        work()
        worst = max(worst, time.perf_counter_ns() - start)
    return (time.perf_counter_ns() - begin) / ROUNDS, worst


def leases(subnet: str, numbers: Iterable[int]) -> Dict[str, str]:
    base = ipaddress.ip_network(subnet).network_address
    return {str(base + number): f"endpoint{number}" for number in numbers}


#: What is measured: the subnet, the numbers of the held addresses, and one that is given back.
POOLS: List[Tuple[str, str, Iterable[int], Optional[int]]] = [
    ("empty /16", "10.1.0.0/16", (), None),
    ("full /16 but for one", "10.1.0.0/16", range(1, 65534), None),
    ("full /16, the middle one comes back", "10.1.0.0/16", range(1, 65535), 30000),
    ("/8 with 100,000 leases", "10.0.0.0/8", range(1, 100001), None),
    ("/64 with 1,000,000 leases in a row", "2001:db8::/64", range(1, 1000001), None),
    ("/64 with 1,000,000 leases, every other", "2001:db8::/64", range(1, 2000001, 2), None),
    ("/64 with 1,000,000, the middle one comes back", "2001:db8::/64", range(1, 1000001), 500000),
]


def _take(pool: ipam.Pool, holder: str) -> str:
    address = pool.free() or ""
    pool.claim(address, holder)
    return address


def main() -> int:
    slow = []
    for name, subnet, numbers, back in POOLS:
        taken = leases(subnet, numbers)
        start = time.perf_counter()
        pool = ipam.Pool(subnet, taken=taken)
        built = time.perf_counter() - start
        if back is not None:
            pool.release(str(ipaddress.ip_network(subnet)[back]))
        mean, worst = nanoseconds(lambda: pool.release(_take(pool, "new")))  # noqa: B023
        slow += [name] if mean >= LIMIT else []
        print(
            f"{name:46} built in {built * 1e3:7.1f} ms; take and release {mean:6.0f} ns, at worst {worst / 1e3:5.1f} us"
        )
    pool = ipam.Pool("2001:db8::/64")
    start = time.perf_counter()
    for number in range(100000):
        _take(pool, str(number))
    print(f"{'100,000 in a row out of an empty /64':46} {(time.perf_counter() - start) * 1e4:.0f} ns each")
    rows = [(vlan, f"10.{vlan >> 4}.{(vlan & 15) << 4}.0/20") for vlan in range(1, 4095)]
    start = time.perf_counter()
    ipam.overlaps(rows)
    print(f"{'overlaps among 4,094 subnets':46} {(time.perf_counter() - start) * 1e3:.1f} ms")
    picks = ipam.Subnets([text for _, text in rows], "seed")
    start = time.perf_counter()
    for _ in range(4094):
        picks.pick(6)
    print(f"{'4,094 picks of an IPv6 subnet':46} {(time.perf_counter() - start) * 1e3:.1f} ms")
    hosts = [f"host{number}" for number in range(1000)]
    start = time.perf_counter()
    ipam.carve("10.200.0.0/16", 26, hosts, {})
    print(f"{'slices of a /16 for 1,000 hosts':46} {(time.perf_counter() - start) * 1e3:.1f} ms")
    print(f"the next address takes over {LIMIT / 1e6:.0f} ms in: {', '.join(slow) or 'none of them'}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
