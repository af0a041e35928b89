# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address: pools with their reservations and leases, subnets that nobody named, slices, MACs.

Pure arithmetic on integers; ``ipaddress`` stands only at the edges, where text comes in and goes out.
"""

from __future__ import annotations

import hashlib
import ipaddress
from bisect import bisect_right
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Label = TypeVar("Label")

#: Docker's default local pools (RFC 1918 space), as the guide has them: 172.17.0.0/16 and on, then /20s.
POOLS_V4 = [f"172.{second}.0.0/16" for second in range(17, 32)] + [f"192.168.{third}.0/20" for third in range(0, 256, 16)]


class AddressError(ValueError):
    """An address cannot be had; the text says who has it."""


class Ranges:
    """A set of integers as sorted, disjoint, non-adjacent ranges; both ends are included."""

    def __init__(self, values: Iterable[Tuple[int, int]] = ()) -> None:
        self._starts: List[int] = []
        self._ends: List[int] = []
        for start, end in sorted(values):
            if self._ends and start <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def first_missing(self, low: int) -> int:
        """The lowest integer from ``low`` on that is not in the set."""
        at = bisect_right(self._starts, low) - 1
        return self._ends[at] + 1 if at >= 0 and self._ends[at] >= low else low

    def __contains__(self, value: int) -> bool:
        return self.first_missing(value) != value

    def add(self, value: int) -> None:
        at = bisect_right(self._starts, value)
        left = at > 0 and self._ends[at - 1] >= value - 1
        right = at < len(self._starts) and self._starts[at] == value + 1
        if left and self._ends[at - 1] >= value:
            return
        if left and right:
            self._ends[at - 1] = self._ends[at]
            del self._starts[at], self._ends[at]
        elif left:
            self._ends[at - 1] = value
        elif right:
            self._starts[at] = value
        else:
            self._starts.insert(at, value)
            self._ends.insert(at, value)

    def remove(self, value: int) -> None:
        at = bisect_right(self._starts, value) - 1
        if at < 0 or self._ends[at] < value:
            return
        start, end = self._starts[at], self._ends[at]
        if start == end:
            del self._starts[at], self._ends[at]
        elif value == start:
            self._starts[at] = value + 1
        elif value == end:
            self._ends[at] = value - 1
        else:
            self._ends[at] = value - 1
            self._starts.insert(at + 1, value + 1)
            self._ends.insert(at + 1, end)

    def count(self, low: int, high: int) -> int:
        """How many of the integers from ``low`` to ``high`` are in the set."""
        return sum(
            max(0, min(end, high) - max(start, low) + 1) for start, end in zip(self._starts, self._ends) if start <= high
        )


class Pool:
    """The addresses of one subnet: lowest free first, each held by one endpoint at a time.

    ``ip_range`` bounds what is handed out, not what may be claimed. ``reserved`` and ``taken`` map addresses
    to the reason and to the holder. Allocation and release cost O(log n) of the number of gaps.
    """

    def __init__(
        self, subnet: str, ip_range: Optional[str] = None,
        reserved: Optional[Mapping[str, str]] = None, taken: Optional[Mapping[str, str]] = None,
    ) -> None:  # fmt: skip
        self.subnet = ipaddress.ip_network(subnet)
        bounds = ipaddress.ip_network(ip_range) if ip_range else self.subnet
        self._low, self._high = int(bounds.network_address), int(bounds.broadcast_address)
        self._reserved: Dict[int, str] = {int(ipaddress.ip_address(ip)): why for ip, why in (reserved or {}).items()}
        self._reserved.update(_never(self.subnet))
        self._holders: Dict[int, str] = {int(ipaddress.ip_address(ip)): who for ip, who in (taken or {}).items()}
        self._used = Ranges((value, value) for value in (*self._reserved, *self._holders))

    def free(self) -> Optional[str]:
        """The lowest free address, without taking it; None when all are taken."""
        return next(self.candidates(), None)

    def candidates(self) -> Iterator[str]:
        """The free addresses, lowest first."""
        value = self._used.first_missing(self._low)
        while value <= self._high:
            yield self._text(value)
            value = self._used.first_missing(value + 1)

    def claim(self, address: str, holder: str) -> None:
        """Take one address for an endpoint. Raises AddressError where it is not to be had."""
        ip = ipaddress.ip_address(address)
        if ip not in self.subnet:
            raise AddressError(f"{address} is not inside {self.subnet}")
        value = int(ip)
        if value in self._reserved:
            raise AddressError(f"{address} is {self._reserved[value]}")
        if self._holders.get(value, holder) != holder:
            raise AddressError(f"{address} is held by {self._holders[value]}")
        self._holders[value] = holder
        self._used.add(value)

    def release(self, address: str) -> None:
        """Give an address back; it is the next one's at once. Releasing a free address is not an error."""
        value = int(ipaddress.ip_address(address))
        if self._holders.pop(value, None) is not None and value not in self._reserved:
            self._used.remove(value)

    def holder(self, address: str) -> Optional[str]:
        return self._holders.get(int(ipaddress.ip_address(address)))

    @property
    def size(self) -> int:
        """How many addresses can be handed out at all, reservations aside."""
        return self._high - self._low + 1 - sum(self._low <= value <= self._high for value in self._reserved)

    @property
    def available(self) -> int:
        return self._high - self._low + 1 - self._used.count(self._low, self._high)

    def _text(self, value: int) -> str:
        # An IPv6 address below 2**32 would be taken for IPv4 without its class.
        return str(ipaddress.IPv6Address(value) if self.subnet.version == 6 else ipaddress.IPv4Address(value))


def _never(subnet: Network) -> Dict[int, str]:
    """What no endpoint may have: RFC 1122 3.2.1.3 (not on /31, RFC 3021), RFC 4291 2.6.1 (not on /127, RFC 6164)."""
    if subnet.max_prefixlen - subnet.prefixlen < 2:
        return {}
    first = {int(subnet.network_address): "the network's own address"}
    if subnet.version == 6:
        return {int(subnet.network_address): "the subnet-router anycast address"}
    return {**first, int(subnet.broadcast_address): "the broadcast address"}


def first_usable(subnet: str) -> Optional[str]:
    """The default gateway of a subnet: its first usable address; None where a gateway would leave too little."""
    network = ipaddress.ip_network(subnet)
    if network.max_prefixlen - network.prefixlen < 2:
        return None
    return str(network.network_address + 1)


def usable_error(subnet: str, address: str) -> Optional[str]:
    """Why an address cannot be that of a host in a subnet; None where it can."""
    network, ip = ipaddress.ip_network(subnet), ipaddress.ip_address(address)
    if ip not in network:
        return f"{address} is not inside {subnet}"
    why = _never(network).get(int(ip))
    # A router may answer at the subnet-router anycast address: that is what it is for.
    return f"{address} is {why} of {subnet}" if why and network.version == 4 else None


def overlaps(entries: Iterable[Tuple[Label, str]]) -> List[Tuple[Label, Label]]:
    """The pairs of labels whose subnets overlap, by a sweep over the sorted bounds."""
    found: List[Tuple[Label, Label]] = []
    bounds = sorted(
        (network.version, int(network.network_address), int(network.broadcast_address), position, label)
        for position, (label, network) in enumerate((label, ipaddress.ip_network(text)) for label, text in entries)
    )
    open_ones: List[Tuple[int, int, Label]] = []
    for version, start, end, _, label in bounds:
        open_ones = [other for other in open_ones if other[0] == version and other[1] >= start]
        found += [(other[2], label) for other in open_ones]
        open_ones.append((version, end, label))
    return found


def pick_subnet(version: int, avoid: Iterable[str], seed: str) -> str:
    """A subnet for a network that named none, apart from everything in ``avoid`` (subnets or addresses with length).

    IPv4 comes from Docker's default pools in their order, IPv6 is the lowest free /64 of a /48 that is made of
    ``seed`` (RFC 4193), so that a host keeps its own. Raises AddressError when all are in use.
    """
    used = [network for network in (ipaddress.ip_interface(text).network for text in avoid) if network.version == version]
    taken = Ranges((int(network.network_address), int(network.broadcast_address)) for network in used)
    for candidate in map(ipaddress.ip_network, POOLS_V4) if version == 4 else _ula(seed):
        low = int(candidate.network_address)
        if taken.first_missing(low) == low and not taken.count(low, int(candidate.broadcast_address)):
            return str(candidate)
    raise AddressError(f"all default IPv{version} subnets are in use")


def _ula(seed: str) -> Iterator[ipaddress.IPv6Network]:
    prefix = bytes([0xFD]) + hashlib.sha256(seed.encode()).digest()[:5]
    base = int.from_bytes(prefix, "big") << 80
    for subnet in range(2**16):
        yield ipaddress.IPv6Network((base + (subnet << 64), 64))


def carve(prefix: str, length: int, owners: Sequence[str], given: Mapping[str, str]) -> Dict[str, str]:
    """A slice of a large prefix for every owner: given ones stay, new owners get the lowest free, in sorted order.

    Raises AddressError when the prefix is used up.
    """
    whole = ipaddress.ip_network(prefix)
    if length < whole.prefixlen:
        raise AddressError(f"a /{length} is larger than {prefix}")
    step = 2 ** (whole.max_prefixlen - length)
    used = {int(ipaddress.ip_network(text).network_address) for text in given.values()}
    found = dict(given)
    value, end = int(whole.network_address), int(whole.broadcast_address)
    for owner in sorted(set(owners) - set(given)):
        while value in used:
            value += step
        if value > end:
            raise AddressError(f"{prefix} has no /{length} left for {owner}")
        network = ipaddress.ip_network((value, length)) if whole.version == 6 else ipaddress.IPv4Network((value, length))
        found[owner] = str(network)
        value += step
    return found


def mac_for(network: str, endpoint: str) -> str:
    """A MAC that an endpoint always has: locally administered, unicast (IEEE 802c), from a digest of its names."""
    digest = hashlib.sha256(f"{network}/{endpoint}".encode()).digest()
    return ":".join(f"{octet:02x}" for octet in bytes([(digest[0] & 0xFC) | 0x02]) + digest[1:6])
