# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What a fleet needs against what the ledger gives: what is missing, stale or in conflict, released, renamed or remembered.

What is given stays, until it is released by name.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections import Counter
from typing import Any, Collection, Dict, Iterator, List, Mapping, Sequence, Set, Tuple

from ...module_utils._engine.core.errors import Problem
from .completing import Completed, complete
from .fitting import fits, held_by, is_current, slices_of, wants_of
from .ledger import Holder, Ledger, inside
from .needs import Fleet, Want

__all__ = ["Completed", "complete", "conflicts", "missing", "outside", "release", "remember", "rename", "stale"]


def missing(fleet: Fleet, ledger: Ledger) -> List[Want]:
    """What is needed and not given."""
    held = held_by(ledger)
    return [
        want
        for want in (*fleet.slices, *fleet.addresses)
        if not any(fits(text, want) for text in held.get(want.who, ()))
    ]


def stale(fleet: Fleet, ledger: Ledger) -> List[str]:
    """What is given and no longer needed, in the words that release it."""
    needed = wants_of(fleet)
    found: Set[str] = set()
    for (is_slice, network, holder), texts in held_by(ledger).items():
        wants = needed.get((is_slice, network, holder), [])
        if not all(any(fits(text, want) for want in wants) for text in texts):
            found.add(f"{network}/{holder}")
    return sorted(found)


def outside(fleet: Fleet, ledger: Ledger) -> List[str]:
    """Addresses and slices that are in use and no longer in the pool, because the map's ranges or slices changed."""
    found = []
    held, slices = held_by(ledger), slices_of(ledger)
    for want in (*fleet.slices, *fleet.addresses):
        for text in held.get(want.who, ()):
            if fits(text, want) and not is_current(fleet, slices, text, want):
                found.append(f"{want.network}/{want.holder}: {text}")
    return sorted(found)


def conflicts(fleet: Fleet, ledger: Ledger) -> List[Problem]:
    """What is given or asked for twice in the fleet, or can no longer be had."""
    return [
        *_given_to_others(fleet, ledger),
        *_in_slices_of_others(fleet, ledger),
        *_reserved(fleet, ledger),
        *_held_twice(fleet, ledger),
    ]


def _given_to_others(fleet: Fleet, ledger: Ledger) -> Iterator[Problem]:
    for network, asked in fleet.static.items():
        given = ledger.addresses.get(network, {})
        for address, holder in sorted(asked.items()):
            if given.get(address, holder) != holder:
                yield Problem(f"{holder} in {network}", f"{address} is given to {given[address]} in the ledger",
                              "request another address, or let the ledger assign one")  # fmt: skip


def _in_slices_of_others(fleet: Fleet, ledger: Ledger) -> Iterator[Problem]:
    for network in sorted({*fleet.static, *ledger.addresses}):
        if network in fleet.rows and fleet.rows[network].get("per_host"):
            taken = {**fleet.static.get(network, {}), **ledger.addresses.get(network, {})}
            yield from _in_others(network, taken, ledger.slices.get(network, {}))


def _reserved(fleet: Fleet, ledger: Ledger) -> Iterator[Problem]:
    for network, given in ledger.addresses.items():
        for subnet in fleet.spec(network)["subnets"] if network in fleet.rows else ():
            for address, why in fleet.reserved(network, subnet).items():
                if address in given:
                    yield Problem(f"{given[address]} in {network}", f"its address {address} is now {why}",
                                  "revert that in the map, release the endpoint, or allocate with move: true")  # fmt: skip


def _held_twice(fleet: Fleet, ledger: Ledger) -> Iterator[Problem]:
    held = held_by(ledger)
    for want in (*fleet.slices, *fleet.addresses):
        texts = [text for text in held.get(want.who, ()) if fits(text, want)]
        if len({subnet for text in texts for subnet in want.subnets if inside(text, subnet)}) < len(texts):
            yield Problem(
                f"{want.holder} in {want.network}",
                f"has {' and '.join(texts)} in the ledger",
                "remove one of the lines",
            )


def release(fleet: Fleet, ledger: Ledger, words: Sequence[Any]) -> Tuple[Ledger, List[str], List[Problem]]:
    """The ledger without what the words name: NETWORK/HOST, NETWORK/HOST/ENDPOINT, ``gone`` for all that is not needed.

    ``settled`` forgets former holders: every host has been converged since the last allocation.
    """
    unneeded = set(stale(fleet, ledger))
    held = {f"{network}/{holder}": (is_slice, network, holder) for is_slice, network, holder in held_by(ledger)}
    wanted: List[str] = []
    problems: List[Problem] = []
    for position, word in enumerate(map(str, words)):
        if word == "gone":
            wanted += sorted(unneeded)
        elif word == "settled":
            continue
        elif word not in held:
            problems.append(
                Problem(
                    f"release[{position}]",
                    f"the ledger has no {word}",
                    "name NETWORK/HOST or NETWORK/HOST/ENDPOINT, gone, or settled",
                )
            )
        elif word not in unneeded:
            problems.append(
                Problem(f"release[{position}]", f"{word} is still needed by the inventory", "remove it there first")
            )
        else:
            wanted.append(word)
    new = ledger.copy()
    if "settled" in words:
        new.former = {}
    needed = wants_of(fleet)
    for word in set(wanted):
        is_slice, network, holder = held[word]
        given = (new.slices if is_slice else new.addresses)[network]
        for text in [text for text, who in given.items() if who == holder]:
            if not any(fits(text, want) for want in needed.get(held[word], ())):
                del given[text]
    return new, sorted(set(wanted)), problems


def rename(ledger: Ledger, names: Mapping[str, str]) -> Tuple[Ledger, List[str], List[Problem]]:
    """The ledger with other holders: HOST to HOST, or NETWORK/HOST/ENDPOINT to the same with another host or endpoint.

    In their order, but those of hosts, or of endpoints, that follow each other at once: two may exchange their names.
    """
    new = ledger.copy()
    done: List[str] = []
    problems: List[Problem] = []
    texts = [(str(old), str(now)) for old, now in names.items()]
    for is_endpoint, some in itertools.groupby(texts, lambda item: "/" in item[0]):
        (_rename_endpoints if is_endpoint else _rename_hosts)(new, dict(some), done, problems)
    return new, done, problems


def _rename_hosts(new: Ledger, names: Mapping[str, str], done: List[str], problems: List[Problem]) -> None:
    holding = {host for given in new.slices.values() for host in given.values()}
    holding |= {holder.host for _address, holder in new.holders()}
    known = holding | {holder.host for holders in new.former.values() for holder in holders}
    for old in names:
        if old not in known:
            fix = "name a HOST, or NETWORK/HOST/ENDPOINT"
            problems.append(Problem(f"rename.{old}", f"the ledger has no {old}", fix))
    problems += _taken(names, holding)
    new.former = {
        address: sorted({holder._replace(host=names.get(holder.host, holder.host)) for holder in holders})
        for address, holders in new.former.items()
    }
    for network, given in new.slices.items():
        _rename(given, names, network, done)
    for network, given in new.addresses.items():
        split = {who: who.rpartition("/") for who in given.values()}
        _rename(
            given,
            {who: f"{names[host]}/{name}" for who, (host, _slash, name) in split.items() if host in names},
            network,
            done,
        )


def _rename_endpoints(new: Ledger, names: Mapping[str, str], done: List[str], problems: List[Problem]) -> None:
    holding = {str(holder) for _address, holder in new.holders()}
    good: Dict[str, Dict[str, str]] = {}
    for old, now in names.items():
        network, _slash, holder = old.partition("/")
        target, _slash, successor = now.partition("/")
        if target != network or successor.count("/") < 1:
            what = f"{now} is not an endpoint of network {network}"
            fix = "write NETWORK/HOST/ENDPOINT, with the same network"
            problems.append(Problem(f"rename.{old}", what, fix))
        elif old not in holding:
            fix = "name a HOST, or NETWORK/HOST/ENDPOINT"
            problems.append(Problem(f"rename.{old}", f"the ledger has no {old}", fix))
        else:
            good.setdefault(network, {})[holder] = successor
    problems += _taken(names, holding)
    for network, holders in good.items():
        _rename(new.addresses[network], holders, network, done)


def _taken(names: Mapping[str, str], holding: Collection[str]) -> Iterator[Problem]:
    """New names that are in use: what two holders had would be one's, and nothing could tell it apart again."""
    counts = Counter(names.values())
    for old, now in names.items():
        if counts[now] > 1:
            yield Problem(f"rename.{old}", f"{now} is to be the name of another one too", "give each its own name")
        elif now in holding and now not in names:
            yield Problem(f"rename.{old}", f"{now} is in the ledger already", f"release {now}, or rename it too")


def remember(fleet: Fleet, before: Ledger, after: Ledger, gone: bool) -> None:
    """Note in the ledger who had an address before: what a host is to give up it has until it was converged.

    Hosts that the fleet no longer has are forgotten with ``gone``, as all that they had.
    """
    now = {(address, holder.network, holder.host) for address, holder in after.holders()}
    anywhere = {(address, host) for address, _network, host in now}

    def has_it_still(address: str, holder: Holder) -> bool:
        if holder.network in fleet.rows:
            return (address, holder.network, holder.host) in now
        return (address, holder.host) in anywhere  # the network has another name now

    found: Dict[str, Set[Holder]] = {address: set(holders) for address, holders in after.former.items()}
    for address, holder in before.holders():
        if holder.host in fleet.hosts:
            found.setdefault(address, set()).add(holder)
    after.former = {}
    for address, holders in found.items():
        left = {
            holder
            for holder in holders
            if not has_it_still(address, holder) and (holder.host in fleet.hosts or not gone)
        }
        if left:
            after.former[address] = sorted(left)


def _rename(given: Dict[str, str], holders: Mapping[str, str], network: str, done: List[str]) -> None:
    for text, who in given.items():
        if who in holders:
            given[text] = holders[who]
            done.append(f"{network}/{who}: {text} is {network}/{holders[who]}'s")


def _in_others(network: str, taken: Mapping[str, str], slices: Mapping[str, str]) -> Iterator[Problem]:
    """Addresses of endpoints that lie in the slice of another host."""
    lengths: Dict[int, Dict[str, str]] = {}
    for text, host in slices.items():
        lengths.setdefault(ipaddress.ip_network(text).prefixlen, {})[text] = host
    for address, holder in taken.items():
        ip = ipaddress.ip_network(address)
        for length, hosts in lengths.items():
            block = str(ip.supernet(new_prefix=length)) if length <= ip.max_prefixlen else ""
            if hosts.get(block, holder.rpartition("/")[0]) != holder.rpartition("/")[0]:
                yield Problem(f"{holder} in {network}", f"{address} is in {block}, the slice of {hosts[block]}",
                              "request an address of its own host's slice, or let the ledger assign one")  # fmt: skip
