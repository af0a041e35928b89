# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address: pools with their reservations and leases, automatic subnets, slices, MACs.

Pure arithmetic on integers; ``ipaddress`` is only at the edges, where text comes in and goes out.
"""

from __future__ import annotations

import hashlib
import heapq
import ipaddress
from bisect import bisect_left
from typing import (
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from ..core.errors import AddressError
from ..core.formats import PARTS, Network, parse_subnet

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Label = TypeVar("Label")

#: Where automatic subnets come from: Docker's local pools, of RFC 1918's space.
_DEFAULTS_V4 = (("172.17.0.0", "172.31.255.255", 16), ("192.168.0.0", "192.168.255.255", 20))


# --- pools ---------------------------------------------------------------------------------------


class Pool:
    """The addresses of one subnet: lowest free first, each held by one endpoint at a time.

    ``ip_range``, one or several, bounds what is handed out, not what may be claimed. ``reserved`` maps addresses, prefixes and
    ``FIRST-LAST`` ranges to the reason, in words that follow "is" ("the gateway"); ``taken`` maps addresses to their
    holders. What the protocol itself keeps (network, broadcast, subnet-router anycast) is always reserved.

    A free address was never used, or was given back. Those that were ever used are runs that only grow, so the ends
    of each are enough; those given back are in a heap. So the next address takes no longer among a million leases
    than among ten, but for the heap's logarithm.
    """

    def __init__(
        self,
        subnet: str,
        ip_range: Optional[str] = None,
        reserved: Optional[Mapping[str, str]] = None,
        taken: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.subnet = parse_subnet(subnet)
        self._ranges = spans(ip_range or subnet)
        self._low, self._high = self._ranges[0][0], self._ranges[-1][1]
        self._address = _address_class(self.subnet.version)
        self._reserved = _kept(self.subnet)
        self._blocks: List[Tuple[int, int, str]] = []  # reserved ranges: first, last, reason
        for text, why in (reserved or {}).items():
            low, high = span(text)
            if low == high:
                self._reserved[low] = why
            else:
                self._blocks.append((low, high, why))
        self._holders = self._numbered(taken)
        self._last: Dict[int, int] = {}  # of every run of used addresses: first -> last
        self._first: Dict[int, int] = {}  # and last -> first
        self._returned: List[int] = []  # heap of every used address that is free again, and others
        self._in_heap: Set[int] = set()
        self._used = 0
        #: How many addresses can be handed out at all, reservations aside.
        self.size = sum(high - low + 1 for low, high in self._ranges) - self._keep()
        for value in self._holders:
            if not self._why(value):
                self._mark(value)
                self._used += self._inside(value)

    @property
    def used(self) -> int:
        """How many of ``size`` are held."""
        return self._used

    @property
    def available(self) -> int:
        """How many addresses can still be handed out."""
        return self.size - self._used

    def free(self) -> Optional[str]:
        """The lowest free address, without taking it; None when there is none."""
        while self._returned and self._returned[0] in self._holders:
            self._in_heap.discard(heapq.heappop(self._returned))
        value = min([self._skip(self._low), *self._returned[:1]])
        return str(self._address(value)) if value <= self._high else None

    def candidates(self) -> Iterator[str]:
        """The free addresses, lowest first; a pool that changes meanwhile is not followed."""
        returned = sorted(value for value in self._in_heap if value not in self._holders)
        for value in heapq.merge(returned, self._never_used()):
            yield str(self._address(value))

    def claim(self, address: str, holder: str) -> None:
        """Give one address of the subnet to an endpoint, which may have it already.

        Raises AddressError where the address is another's, reserved, or of another subnet.
        """
        ip = ipaddress.ip_address(address)
        if ip not in self.subnet:
            what = f"{ip} is not inside {self.subnet}"
            raise AddressError(what, f"give an address of {self.subnet}")
        value = int(ip)
        why = self._why(value)
        if why:
            raise AddressError(f"{ip} is {why}", "give another address")
        if value in self._holders:
            if self._holders[value] == holder:
                return
            raise AddressError(f"{ip} is held by {self._holders[value]}", "give another address")
        self._holders[value] = holder
        self._used += self._inside(value)
        if value not in self._in_heap:
            self._mark(value)

    def release(self, address: str) -> None:
        """Take an address back; it can be had again at once. That of a free one is not an error."""
        value = int(ipaddress.ip_address(address))
        if self._holders.pop(value, None) is None or self._why(value):
            return
        if self._inside(value):
            self._used -= 1
            if value not in self._in_heap:
                self._in_heap.add(value)
                heapq.heappush(self._returned, value)

    def holder(self, address: str) -> Optional[str]:
        """The endpoint that has an address; None where it is free."""
        return self._holders.get(int(ipaddress.ip_address(address)))

    def _numbered(self, addresses: Optional[Mapping[str, str]]) -> Dict[int, str]:
        return {int(self._address(text)): what for text, what in (addresses or {}).items()}

    def _keep(self) -> int:
        """Count what is reserved, or between two ranges, among the used ones; returns how many of the ranges are reserved."""
        kept = [(value, value) for value in self._reserved if self._inside(value)]
        kept += [
            (max(low, first), min(high, last))
            for low, high, _why in self._blocks
            for first, last in self._ranges
            if low <= last and high >= first
        ]
        between = [(one[1] + 1, other[0] - 1) for one, other in zip(self._ranges, self._ranges[1:])]
        for low, high in _merged([*kept, *between]):
            self._last[low], self._first[high] = high, low
        return sum(high - low + 1 for low, high in _merged(kept))

    def _why(self, value: int) -> Optional[str]:
        """Why an address is reserved; None where it is not."""
        if value in self._reserved:
            return self._reserved[value]
        return next((why for low, high, why in self._blocks if low <= value <= high), None)

    def _inside(self, value: int) -> bool:
        return is_within(value, self._ranges)

    def _mark(self, value: int) -> None:
        """Count an address that was never used before among the used ones."""
        if self._inside(value):
            first = self._first.pop(value - 1, value)
            last = self._last.pop(value + 1, value)
            self._last[first], self._first[last] = last, first

    def _skip(self, value: int) -> int:
        """The lowest never used address from ``value`` on, which is not in the midst of a run."""
        return self._last[value] + 1 if value in self._last else value

    def _never_used(self) -> Iterator[int]:
        value = self._skip(self._low)
        while value <= self._high:
            yield value
            value = self._skip(value + 1)


def span(text: str) -> Tuple[int, int]:
    """The first and the last address of an address, a prefix or a ``FIRST-LAST`` range."""
    first, dash, last = text.partition("-")
    if dash:
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    return _bounds(parse_subnet(text))


def spans(text: str) -> List[Tuple[int, int]]:
    """The first and the last addresses of a pool's ranges, in order; those that touch as one."""
    return _merged(map(span, text.split(PARTS)))


def is_within(value: int, ranges: Sequence[Tuple[int, int]]) -> bool:
    """Whether an address is in one of some ranges that are in order."""
    at = bisect_left(ranges, (value + 1,))
    return at > 0 and value <= ranges[at - 1][1]


def _merged(given: Iterable[Tuple[int, int]]) -> List[Tuple[int, int]]:
    """Spans that overlap or touch as one, in order."""
    found: List[Tuple[int, int]] = []
    for low, high in sorted(given):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def first_usable(subnet: str) -> Optional[str]:
    """The default gateway of a subnet, its first usable address.

    None for /31, /32, /127 and /128: there a gateway is never guessed.
    """
    return first_of(parse_subnet(subnet))


def first_of(network: Network) -> Optional[str]:
    """The same of a subnet that was parsed."""
    low, high = _bounds(network)
    return None if high - low < 2 else str(network.network_address + 1)


def usable_error(subnet: str, address: str) -> Optional[str]:
    """What is wrong with an address as that of a gateway or host of a subnet; None for nothing.

    A router may have the subnet-router anycast address: that is what it is for (RFC 4291, 2.6.1).
    """
    network, ip = parse_subnet(subnet), ipaddress.ip_address(address)
    if ip not in network:
        return f"{ip} is not inside {network}"
    why = _kept(network).get(int(ip))
    return f"{ip} is {why} of {network}" if why and network.version == 4 else None


def _kept(network: Network) -> Dict[int, str]:
    """The addresses of a subnet that no endpoint may have, each with the reason.

    RFC 1122, 3.2.1.3 (but RFC 3021: not on /31); RFC 4291, 2.6.1 (but RFC 6164: not on /127).
    """
    low, high = _bounds(network)
    if high - low < 2:
        return {}
    if network.version == 6:
        return {low: "the subnet-router anycast address"}
    return {low: "the network's own address", high: "the broadcast address"}


# --- subnets -------------------------------------------------------------------------------------


def overlaps(entries: Iterable[Tuple[Label, str]]) -> List[Tuple[Label, Label]]:
    """The pairs of labels whose subnets overlap, for labels and subnets in any order."""
    sized = []
    for position, (label, text) in enumerate(entries):
        network = parse_subnet(text)
        sized.append((network.version, *_bounds(network), position, label))
    # Subnets overlap only where one is inside the other: those around the present one are a stack.
    sized.sort(key=lambda entry: (entry[0], entry[1], -entry[2], entry[3]))
    found: List[Tuple[Label, Label]] = []
    around: List[Tuple[int, int, Label]] = []
    for version, low, high, _rest, label in sized:
        while around and (around[-1][0] != version or around[-1][1] < low):
            around.pop()
        found += [(other, label) for _rest, _rest, other in around]
        around.append((version, high, label))
    return found


class Subnets:
    """Subnets for networks that named none, apart from everything that a host reaches already.

    ``avoid`` are subnets, or addresses with prefix length. IPv4 comes from Docker's default pools
    in their order; IPv6 is the lowest free /64 of a /48 that is made of ``seed`` (RFC 4193, 3.2),
    so that a host keeps its own. What was picked once is not picked again.
    """

    def __init__(self, avoid: Iterable[str], seed: str) -> None:
        near: Dict[int, List[Tuple[int, int]]] = {4: [], 6: []}
        for text in avoid:
            network = ipaddress.ip_interface(text).network
            near[network.version].append(_bounds(network))
        self._free = {4: _defaults_v4(near[4]), 6: _defaults_v6(near[6], seed)}

    def pick(self, version: int) -> str:
        """The next free subnet of IPv4 or IPv6. Raises AddressError when all are in use."""
        for subnet in self._free[version]:
            return subnet
        what = f"all default IPv{version} subnets overlap what this host reaches"
        raise AddressError(what, "name the subnet")


def _defaults_v4(near: Iterable[Tuple[int, int]]) -> Iterator[str]:
    near = list(near)
    for first, last, length in _DEFAULTS_V4:
        bounds = int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last))
        for low in _blocks(bounds, 2 ** (32 - length), near):
            yield f"{ipaddress.IPv4Address(low)}/{length}"


def _defaults_v6(near: Iterable[Tuple[int, int]], seed: str) -> Iterator[str]:
    prefix = b"\xfd" + hashlib.sha256(seed.encode()).digest()[:5]
    low = int.from_bytes(prefix, "big") << 80
    for start in _blocks((low, low + 2**80 - 1), 2**64, near):
        yield f"{ipaddress.IPv6Address(start)}/64"


def carve(prefix: str, length: int, owners: Iterable[str], given: Mapping[str, str]) -> Dict[str, str]:
    """A slice of ``length`` out of a large prefix for every owner, stable however they come and go.

    ``given`` are the slices of before: they stay as they are, their owners too; new owners get the
    lowest free slices, in the order of their names. Raises AddressError when the prefix is used up,
    and where two owners of ``given`` hold the same addresses.
    """
    whole = parse_subnet(prefix)
    if not whole.prefixlen <= length <= whole.max_prefixlen:
        what = f"{prefix} cannot be divided into slices of /{length}"
        raise AddressError(what, f"give {whole.prefixlen} to {whole.max_prefixlen}")
    for one, other in overlaps(given.items()):
        what = f"{one} ({given[one]}) and {other} ({given[other]}) hold the same addresses"
        raise AddressError(what, "release one of the two")
    near = [_bounds(network) for network in map(parse_subnet, given.values())]
    free = _blocks(_bounds(whole), 2 ** (whole.max_prefixlen - length), near)
    found = dict(given)
    for owner in sorted(set(owners) - set(given)):
        low = next(free, None)
        if low is None:
            what = f"{prefix} has no /{length} left for {owner}: {len(found)} are given"
            raise AddressError(what, "release slices of hosts that are gone, or enlarge the prefix")
        found[owner] = f"{_address_class(whole.version)(low)}/{length}"
    return found


def _blocks(bounds: Tuple[int, int], size: int, near: Iterable[Tuple[int, int]]) -> Iterator[int]:
    """The starts of the aligned blocks inside ``bounds`` that overlap nothing in ``near``."""
    starts: List[int] = []
    ends: List[int] = []
    for start, end in sorted(near):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    low, last = bounds
    while low + size - 1 <= last:
        at = bisect_left(ends, low)
        if at < len(ends) and starts[at] < low + size:
            low += (ends[at] - low) // size * size
        else:
            yield low
        low += size


def _bounds(network: Network) -> Tuple[int, int]:
    low = int(network.network_address)
    return low, low + (1 << (network.max_prefixlen - network.prefixlen)) - 1


def _address_class(version: int) -> Type[Address]:
    return ipaddress.IPv6Address if version == 6 else ipaddress.IPv4Address


# --- MACs ----------------------------------------------------------------------------------------


def mac_for(seed: str, network: str, endpoint: str) -> str:
    """The MAC that an endpoint always has: locally administered and unicast (RFC 9542, 2.1).

    ``seed`` is the host's: endpoints of one name on two hosts share a VLAN, so they must not share
    a MAC. It is never all zero, because the locally administered bit is set.
    """
    digest = bytearray(hashlib.sha256(f"{seed}/{network}/{endpoint}".encode()).digest()[:6])
    digest[0] = digest[0] & 0xFC | 0x02
    return digest.hex(":")
