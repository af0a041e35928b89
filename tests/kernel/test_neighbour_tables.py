# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand endpoints that talk at once: more neighbours than a kernel knows by itself, and fewer than ``prepare`` makes room for.

The tables are the kernel's, one for each family and all of its namespaces; only its first namespace shows them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespaces

from tests.support.engine import Engine
from tests.support.network_host import inside, needs_ipv6, run
from tests.support.waiting import DEADLINE

pytestmark = [pytest.mark.slow, needs_ipv6, pytest.mark.usefixtures("trunk")]

COUNT = 1000
FIRST = "/proc/1/ns/net"
#: gc_thresh1 to 3 of every kernel (net/ipv4/arp.c, net/ipv6/ndisc.c)
BY_ITSELF = (128, 512, 1024)
CACHES = {"ipv4": "arp_cache", "ipv6": "ndisc_cache"}

PREPARE = """
- hosts: localhost
  connection: local
  gather_facts: false
  roles: [netops.underlay.prepare]
  vars: {prepare_install: false, prepare_service: false, prepare_names: false, prepare_drivers: [macvlan]}
"""


def threshold(family: str, number: int) -> Path:
    return Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh{number}")


def limit(values: Dict[Path, int]) -> None:
    with namespaces.entered(FIRST):
        for path, value in values.items():
            path.write_text(str(value), encoding="ascii")


def overflows(family: str) -> int:
    """How often the table had no room (``table_fulls``, hexadecimal, one row for each processor)."""
    head, *rows = Path(f"/proc/1/net/stat/{CACHES[family]}").read_text(encoding="ascii").splitlines()
    return sum(int(row.split()[head.split().index("table_fulls")], 16) for row in rows)


@pytest.fixture(scope="module")
def families() -> List[str]:
    """Both, where the machine shows its tables: in a container of the machine's own kernel it does not."""
    if not Path("/proc/1/net/stat/arp_cache").exists():
        pytest.skip("this machine does not show its neighbour tables")
    return list(CACHES)


@pytest.fixture
def by_itself(families: List[str]) -> Iterator[None]:
    """The limits that a kernel has by itself; afterwards those that it had."""
    paths = [threshold(family, number) for family in families for number in (1, 2, 3)]
    with namespaces.entered(FIRST):
        before = {path: int(path.read_text(encoding="ascii")) for path in paths}
    limit(dict(zip(paths, BY_ITSELF * 2)))
    yield
    limit(before)


@pytest.fixture
def thousand(tmp_path: Path) -> Iterator[Engine]:
    """A network with a thousand endpoints in as many namespaces, and its gateway at the other end of the cable."""
    engine = Engine(str(tmp_path / "state"))
    subnets = [
        {"subnet": "10.7.0.0/16", "gateway": "10.7.255.254"},
        {"subnet": "fd00:7::/64", "gateway": "fd00:7::ffff"},
    ]
    run("""
        ip netns add wire; ip link set far netns wire; ip -n wire link set far up
        ip -n wire link add link far name far.10 type vlan id 10; ip -n wire link set far.10 up
        ip -n wire addr add 10.7.255.254/16 dev far.10; ip -n wire addr add fd00:7::ffff/64 dev far.10 nodad
    """)
    engine.map(networks=[{"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": subnets}],
               endpoints=[{"network": "blue", "name": f"n{number}", "netns": f"n{number}"} for number in range(COUNT)])  # fmt: skip
    return engine


class Ping:
    """Echo requests by raw sockets of several namespaces, and who answered."""

    def __init__(self, family: int) -> None:
        self.family = family
        self.sockets: List[socket.socket] = []

    def add(self, netns: str) -> None:
        with inside(netns):
            found = socket.socket(
                self.family,
                socket.SOCK_RAW,
                socket.IPPROTO_ICMPV6 if self.family == socket.AF_INET6 else socket.IPPROTO_ICMP,
            )
        found.setblocking(False)
        self.sockets.append(found)

    def close(self) -> None:
        for found in self.sockets:
            found.close()

    def answered(self, asks: Sequence[Tuple[int, str]], seconds: float, again: bool = False) -> int:
        """How many of (the number of a socket, whom it asks) are answered; ``again``: as long as some are missing they are asked again."""
        six = self.family == socket.AF_INET6
        request = b"\x80\0\0\0\0\1\0\1" if six else b"\x08\0\xf7\xfd\0\1\0\1"
        answer, at = (b"\x81", 0) if six else (b"\0", 20)
        left = set(asks)
        poll = select.poll()
        numbers = {self.sockets[number].fileno(): number for number, _address in left}
        for descriptor in numbers:
            poll.register(descriptor, select.POLLIN)
        end = time.monotonic() + seconds
        asked = 0.0
        while left and time.monotonic() < end:
            if not asked or (again and time.monotonic() > asked + 3):
                for number, address in sorted(left):
                    with contextlib.suppress(OSError):  # no room for a neighbour
                        self.sockets[number].sendto(request, (address, 0))
                asked = time.monotonic()
            for descriptor, _event in poll.poll(200):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data, sender = self.sockets[numbers[descriptor]].recvfrom(256)
                        if data[at : at + 1] == answer:
                            left.discard((numbers[descriptor], sender[0].partition("%")[0]))
        return len(set(asks)) - len(left)


def prepare(state: str) -> None:
    """The role, in the kernel's first namespace, where a host lives."""
    subprocess.run(["nsenter", f"--net={FIRST}", "ansible-playbook", "/dev/stdin", "-e", f"prepare_state={state}"],
                   input=PREPARE, check=True, text=True, stdout=subprocess.DEVNULL)  # fmt: skip


def test_a_thousand_endpoints_are_neighbours_once_the_host_is_prepared(
    by_itself: None, thousand: Engine, families: List[str]
) -> None:
    gateway = [(number, "10.7.255.254") for number in range(COUNT)]
    members = [(0, f"fd00:7::{number:x}") for number in range(2, COUNT + 1)]
    assert {f"fd00:7::{number:x}/64" for number in range(1, COUNT + 1)} == {
        address for spec in thousand.records("endpoint").values() for address in spec["addresses"] if ":" in address
    }
    with contextlib.closing(Ping(socket.AF_INET)) as four, contextlib.closing(Ping(socket.AF_INET6)) as six:
        for number in range(COUNT):
            four.add(f"n{number}")
        six.add("n0")
        before = {family: overflows(family) for family in families}
        found = six.answered(members, 5.0), four.answered(gateway, 5.0)
        print(
            f"by itself: {found[0]} of {len(members)} members answer, {found[1]} of {COUNT} endpoints reach their gateway"
        )
        assert found[0] < len(members) and found[1] < COUNT
        full = {family: overflows(family) for family in families}
        assert all(full[family] > before[family] for family in families)
        prepare("present")
        try:
            with namespaces.entered(FIRST):
                assert [int(threshold(family, 3).read_text(encoding="ascii")) for family in families] == [16384, 16384]
            full = {family: overflows(family) for family in families}
            found = four.answered(gateway, 3 * DEADLINE, again=True), six.answered(members, 3 * DEADLINE, again=True)
            assert found == (COUNT, len(members))
            assert {family: overflows(family) for family in families} == full
        finally:
            prepare("absent")
