# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Completing a ledger: what is missing is given, and what has to move moves, if that was asked for."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

try:
    import netaddr
except ImportError:  # the plugins say so
    pass

from ...module_utils._engine.core.errors import AddressError, Problem
from ...module_utils._engine.core.formats import version_of
from ...module_utils._engine.core.network_specs import SubnetSpec
from ...module_utils._engine.core.specs import is_l3
from ...module_utils._engine.declare import ipam
from .fitting import Slices, Who, fits, held_by, is_current, needed_by, slices_of, wants_of
from .ledger import Ledger, inside
from .needs import Fleet, Want
from .rows import is_in_pool, pool, slice_length


@dataclass
class Completed:
    """A ledger in which nothing is missing, and how it came to be that."""

    ledger: Ledger
    given: List[Want] = field(default_factory=list)
    moves: List[str] = field(default_factory=list)  # what changes its address, slice, host or name
    waits: List[str] = field(default_factory=list)  # what has to move, and does not without being asked
    problems: List[Problem] = field(default_factory=list)


def complete(fleet: Fleet, ledger: Ledger, move: bool = False) -> Completed:
    """The ledger with everything that was missing. What was given stays; without ``move`` that which has to move is only named."""
    done = Completed(ledger.copy())
    _renamed_networks(fleet, done)
    giver = _Giver(fleet, done, move)
    giver.slices()
    giver.addresses()
    return done


def _renamed_networks(fleet: Fleet, done: Completed) -> None:
    """A network that is gone, and a new one with its subnets: the same under another name. Nothing of it moves."""
    ledger = done.ledger
    known = {*ledger.slices, *ledger.addresses}
    gone = [name for name in sorted(known) if name not in fleet.rows]
    fresh = [name for name in fleet.rows if name not in known]
    for old in gone:
        entries = [*ledger.slices.get(old, {}), *ledger.addresses.get(old, {})]
        heirs = [
            name for name in fresh
            if entries and all(any(inside(text, row["subnet"]) for row in fleet.spec(name)["subnets"]) for text in entries)
            and any(want.network == name for want in (*fleet.slices, *fleet.addresses))
        ]  # fmt: skip
        if len(heirs) == 1:
            fresh.remove(heirs[0])
            for content in (ledger.slices, ledger.addresses):
                if old in content:
                    content[heirs[0]] = content.pop(old)
            done.moves.append(f"network {old} is now {heirs[0]}; its addresses stay")


class _Giver:
    """Completes a ledger, first the slices and then the addresses in them."""

    def __init__(self, fleet: Fleet, done: Completed, move: bool) -> None:
        self.fleet = fleet
        self.done = done
        self.new = done.ledger
        self.move = move
        self._pools: Dict[Tuple[str, str], ipam.Pool] = {}
        self._own: Slices = slices_of(self.new)
        self._by_block: Dict[str, Dict[str, Dict[str, str]]] = {}  # network -> slice -> address -> holder

    # -- slices -----------------------------------------------------------------------------------

    def slices(self) -> None:
        held, needed = held_by(self.new), wants_of(self.fleet)
        together: Dict[Tuple[str, str], List[Want]] = {}
        before: Dict[Want, List[str]] = {}
        for want in self.fleet.slices:
            own = held.get(want.who, [])
            fitting = [text for text in own if fits(text, want)]
            if any(is_current(self.fleet, self._own, text, want) for text in fitting):
                continue
            # One that fits but is of another size is good until somebody asks for the move.
            old = fitting or [
                text for text in own if version_of(text) == want.version and not needed_by(text, want, needed)
            ]
            if old and not self.move:
                if not fitting:
                    self.done.waits.append(
                        f"{want.network}/{want.holder}: slice {', '.join(old)} has to move to {want.subnets[0]}"
                    )
                continue
            before[want] = old
            together.setdefault((want.network, want.subnets[0]), []).append(want)
        for (network, text), wants in together.items():
            self._carve(network, text, wants, before)
        self._own = slices_of(self.new)

    def _carve(self, network: str, text: str, wants: List[Want], before: Mapping[Want, List[str]]) -> None:
        subnet = next(row for row in self.fleet.spec(network)["subnets"] if row["subnet"] == text)
        within, length = pool(subnet), int(slice_length(self.fleet.rows[network]["per_host"], text) or 0)
        given = self.new.slices.setdefault(network, {})
        for want in wants:
            for entry in before[want]:
                del given[entry]
        for want in wants:
            again = self._near(network, before[want], within, length, want.holder)
            if again is not None:
                given[again] = want.holder
        placed = {holder for entry, holder in given.items() if inside(entry, text)}
        hosts = [want.holder for want in wants if want.holder not in placed]
        near = {f"{entry} of {holder}": entry for entry, holder in given.items() if inside(entry, text)}
        # An address that an endpoint has by name is in no new slice.
        movers = {want.holder for want in wants if before[want]}
        taken = {**self.fleet.static.get(network, {}),
                 **{address: who for address, who in self.new.addresses.get(network, {}).items() if who.rpartition("/")[0] not in movers}}  # fmt: skip
        loose = netaddr.IPSet([address for address in taken if inside(address, text)]) - netaddr.IPSet(
            list(near.values())
        )
        near.update((f"{block} in use", str(block)) for block in loose.iter_cidrs())
        try:
            slices = ipam.carve(within, length, hosts, near)
        except AddressError as error:
            self.done.problems.append(
                Problem(
                    f"network {network}", str(error), "release hosts that are gone, or enlarge the range in the map"
                )
            )
            return
        given.update((slices[host], host) for host in hosts)
        now = {holder: entry for entry, holder in given.items() if inside(entry, text)}
        for want in wants:
            if before[want]:
                self.done.moves.append(
                    f"{network}/{want.holder}: slice {', '.join(before[want])} becomes {now[want.holder]}"
                )
            else:
                self.done.given.append(want)

    def _near(self, network: str, before: Sequence[str], within: str, length: int, host: str) -> Optional[str]:
        """A slice of the new size that keeps the addresses of a host, where there is one that is free."""
        addresses = [
            text for text, who in self.new.addresses.get(network, {}).items() if who.rpartition("/")[0] == host
        ]
        for entry in before:
            network_of = ipaddress.ip_network(entry)
            if length <= network_of.prefixlen:
                block = str(network_of.supernet(new_prefix=length))
            else:
                first = next(
                    (address for address in addresses if inside(address, entry)), str(network_of.network_address)
                )
                block = str(ipaddress.ip_network(f"{first}/{length}", strict=False))
            others = self.new.slices.get(network, {})
            if inside(block, within) and not any(inside(other, block) or inside(block, other) for other in others):
                return block
        return None

    # -- addresses --------------------------------------------------------------------------------

    def addresses(self) -> None:
        held, needed = held_by(self.new), wants_of(self.fleet)
        lacking: List[Want] = []
        for want in self.fleet.addresses:
            fitting = [text for text in held.get(want.who, ()) if fits(text, want)]
            if not fitting or (
                self.move and not any(is_current(self.fleet, self._own, text, want) for text in fitting)
            ):
                lacking.append(want)
        heirs = self._moved_endpoints(lacking, held, needed)
        for want in lacking:
            # What a holder has in subnets that the row no longer names goes with the move.
            old = [
                text
                for text in held.get(want.who, ())
                if version_of(text) == want.version and not needed_by(text, want, needed)
            ]
            if want in heirs:
                self._inherit(want, heirs[want])
            elif old and not self.move:
                self.done.waits.append(
                    f"{want.network}/{want.holder}: {', '.join(old)} has to move to {' or '.join(want.subnets)}"
                )
            else:
                self._replace(want, old)

    def _replace(self, want: Want, old: Sequence[str]) -> None:
        """Give an address in the place of others, or of none."""
        given = self.new.addresses.setdefault(want.network, {})
        for text in old:
            del given[text]
        address = self._give(want)
        if address is None:
            given.update((text, want.holder) for text in old)
        elif old:
            self.done.moves.append(f"{want.network}/{want.holder}: {', '.join(old)} becomes {address}")
        else:
            self.done.given.append(want)

    def _moved_endpoints(
        self, lacking: Sequence[Want], held: Mapping[Who, List[str]], needed: Mapping[Who, List[Want]]
    ) -> Dict[Want, Tuple[str, str]]:
        """Endpoints that left one host of the fleet and came to another: want -> address and old holder. They take their address along."""
        left: Dict[Tuple[str, str, int], List[Tuple[str, str]]] = {}
        for (is_slice, network, holder), texts in held.items():
            host, _slash, name = holder.rpartition("/")
            if is_slice or (is_slice, network, holder) in needed or host not in self.fleet.hosts:
                continue
            for text in texts:
                left.setdefault((network, name, version_of(text)), []).append((text, holder))
        came: Dict[Tuple[str, str, int], List[Want]] = {}
        for want in lacking:
            if not held.get(want.who):
                came.setdefault((want.network, want.holder.rpartition("/")[2], want.version), []).append(want)
        found = {}
        for key, wants in came.items():
            before = left.get(key, [])
            if (
                len(wants) == len(before) == 1
                and fits(before[0][0], wants[0])
                and not self.fleet.rows[wants[0].network].get("per_host")
            ):
                found[wants[0]] = before[0]
        return found

    def _inherit(self, want: Want, before: Tuple[str, str]) -> None:
        address, holder = before
        if self.move:
            self.new.addresses[want.network][address] = want.holder
            self.done.moves.append(f"{want.network}/{holder}: {address} moves along to {want.network}/{want.holder}")
        else:
            self.done.waits.append(
                f"{want.network}/{holder}: {address} has to move along to {want.network}/{want.holder}, or be released first"
            )

    def _give(self, want: Want) -> Optional[str]:
        host = want.holder.rpartition("/")[0]
        given = self.new.addresses.setdefault(want.network, {})
        tried = []
        for text in want.subnets:
            subnet = next(row for row in self.fleet.spec(want.network)["subnets"] if row["subnet"] == text)
            within = pool(subnet)
            if self.fleet.rows[want.network].get("per_host"):
                own = [entry for entry in self._own.get((want.network, host), ()) if inside(entry, text)]
                if not own:
                    continue  # said already, of the slice
                within = own[0]
            key = (want.network, within)
            if key not in self._pools:
                self._pools[key] = self._pool(want.network, subnet, within)
            tried.append(within)
            address = self._pools[key].free()
            if address is not None:
                self._pools[key].claim(address, want.holder)
                given[address] = want.holder
                return address
        if tried:
            self.done.problems.append(Problem(f"{want.network}, endpoint {want.holder}", f"no address is free in {', '.join(tried)}",
                                              "release endpoints that are gone, or enlarge the pool in the map"))  # fmt: skip
        return None

    def _pool(self, network: str, subnet: SubnetSpec, within: str) -> ipam.Pool:
        taken = self._taken(network, within)
        reserved = {
            address: why
            for address, why in self.fleet.reserved(network, subnet).items()
            if inside(address, subnet["subnet"])
        }
        if is_l3(self.fleet.spec(network)) and self.fleet.rows[network].get("per_host"):
            # The slice is the host's own subnet: its first address stays free, as that of every L3 network.
            first = ipam.first_usable(within)
            if first:
                reserved[first] = "the gateway"
            return ipam.Pool(
                within, None, {address: why for address, why in reserved.items() if inside(address, within)}, taken
            )
        return ipam.Pool(subnet["subnet"], within, reserved, taken)

    def _taken(self, network: str, within: str) -> Dict[str, str]:
        """The addresses in a pool that have a holder. Those of a network are put by slices once, not looked through for each."""
        if network not in self._by_block:
            blocks: Dict[str, Dict[str, str]] = {}
            lengths = {ipaddress.ip_network(entry).prefixlen for entry in self.new.slices.get(network, {})}
            for address, holder in {
                **self.new.addresses.get(network, {}),
                **self.fleet.static.get(network, {}),
            }.items():
                ip = ipaddress.ip_network(address)
                for length in lengths:
                    if length <= ip.max_prefixlen:
                        blocks.setdefault(str(ip.supernet(new_prefix=length)), {})[address] = holder
            self._by_block[network] = blocks
        if within in self.new.slices.get(network, {}):
            return dict(self._by_block[network].get(within, {}))
        every = {**self.new.addresses.get(network, {}), **self.fleet.static.get(network, {})}
        return {address: holder for address, holder in every.items() if is_in_pool(address, within)}
