# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What the ledger gives beside what is wanted: whether it fits, and whether it would be given like that today."""

from __future__ import annotations

import ipaddress
from typing import Dict, List, Mapping, Tuple

from .ledger import Ledger, inside
from .needs import Fleet, Want
from .rows import is_in_pool, pool, slice_length

Who = Tuple[bool, str, str]  # is a slice, network, holder
Slices = Dict[Tuple[str, str], List[str]]  # network, host -> slices


def wants_of(fleet: Fleet) -> Dict[Who, List[Want]]:
    found: Dict[Who, List[Want]] = {}
    for want in (*fleet.slices, *fleet.addresses):
        found.setdefault(want.who, []).append(want)
    return found


def held_by(ledger: Ledger) -> Dict[Who, List[str]]:
    found: Dict[Who, List[str]] = {}
    for is_slice, content in ((True, ledger.slices), (False, ledger.addresses)):
        for network, given in content.items():
            for text, holder in given.items():
                found.setdefault((is_slice, network, holder), []).append(text)
    return found


def needed_by(text: str, want: Want, needed: Mapping[Who, List[Want]]) -> bool:
    """Whether the holder needs something given for another of its wants."""
    return any(other != want and fits(text, other) for other in needed.get(want.who, ()))


def fits(text: str, want: Want) -> bool:
    """Whether something given is what is wanted: in one of the subnets that it may come from."""
    return any(inside(text, subnet) for subnet in want.subnets)


def slices_of(ledger: Ledger) -> Slices:
    found: Slices = {}
    for network, given in ledger.slices.items():
        for entry, host in given.items():
            found.setdefault((network, host), []).append(entry)
    return found


def is_current(fleet: Fleet, slices: Slices, text: str, want: Want) -> bool:
    """Whether something that fits would be given like that today: in the pool, of the right size, not reserved."""
    subnet = next((row for row in fleet.spec(want.network)["subnets"] if inside(text, row["subnet"])), None)
    if subnet is None or not is_in_pool(text, pool(subnet)):
        return False
    per_host = fleet.rows[want.network].get("per_host")
    if want.is_slice:
        return bool(per_host) and ipaddress.ip_network(text).prefixlen == slice_length(per_host or (), text)
    if text in fleet.reserved(want.network, subnet):
        return False
    if not per_host:
        return True
    host = want.holder.rpartition("/")[0]
    return any(inside(text, entry) for entry in slices.get((want.network, host), ()))
