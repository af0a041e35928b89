# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Rows beside each other: a broadcast domain carries one network, or those that agreed to share it, and each subnet once."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from ...module_utils._engine.declare import ipam
from .cells import Fault
from .rows import Network

_Segment = Tuple[Optional[str], Optional[int]]


def check(networks: Sequence[Network]) -> List[Fault]:
    """What is wrong between rows of one VLAN of one trunk. A row is reported with the first one that it conflicts with."""
    segments: Dict[_Segment, List[Network]] = {}
    for network in networks:
        if network.trunk is not None:
            segments.setdefault((network.trunk, network.vlan), []).append(network)
    faults: List[Fault] = []
    for segment, beside in segments.items():
        if len(beside) > 1:
            sites = sorted({network.site for network in beside if network.site})
            for site in sites or [""]:
                _one(segment, [network for network in beside if not site or network.site in (None, site)], faults)
    return list(dict.fromkeys(faults))


def _one(segment: _Segment, beside: Sequence[Network], faults: List[Fault]) -> None:
    where = f"VLAN {segment[1]} on {segment[0]}" if segment[1] else f"{segment[0]} untagged"
    for network in beside[1:]:
        other = (
            beside[0] if not (network.options.get("share_parent") and beside[0].options.get("share_parent")) else None
        )
        if other is not None:
            faults.append(Fault(network.row.find("vlan"), "vlan", f"{where} carries {other.name} already ({other.row.place})",
                                "give it its own VLAN, or set share_parent on both rows"))  # fmt: skip
    sharing = [network.options.get("share_parent") for network in beside]
    entries = [
        ((number, position), subnet["subnet"])
        for number, network in enumerate(beside)
        if sharing[number]  # of the others it is said already that they are in the way
        for position, subnet in enumerate(network.spec["subnets"])
    ]
    subnets = dict(entries)
    reported = set()
    for first, second in ipam.overlaps((entry, entry[1]) for entry in entries):
        (mine, at), (theirs, _at) = sorted((first[0], second[0]), reverse=True)
        if mine == theirs or mine in reported:
            continue
        reported.add(mine)
        network, other = beside[mine], beside[theirs]
        faults.append(Fault(network.row.find(f"subnets[{at}]"), "subnets",
                            f"{subnets[mine, at]} overlaps {subnets[theirs, _at]} of {other.name} ({other.row.place}) in {where}",
                            "a broadcast domain can have each subnet only once: use another VLAN, or other subnets"))  # fmt: skip
