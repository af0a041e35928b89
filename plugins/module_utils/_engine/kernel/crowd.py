# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings many macvlan endpoints up on one parent in a time that grows with their number, not with its square.

Each announces its addresses by broadcasts, which the kernel copies to every link of the parent that is up and in bridge
mode. So a new one is private as soon as it has announced itself: the neighbours on the wire and the older endpoints hear
it, those that come with it do not, and have nothing to forget. When all are up, they become what they are to be.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import List, Sequence, Set, Tuple

from ..core.change import Change
from ..core.specs import Spec
from ..netlink import decode, encode
from .session import Session

#: From so many endpoints of a parent on; fewer hear each other in less time than this takes.
_CROWD = 256
#: Seconds for the detection of duplicates of the link-local addresses, which each announces at its end.
_DETECTION = 4.0
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40


def hushed(changes: Sequence[Change]) -> Tuple[List[Change], List[Change]]:
    """The changes, with the links of each crowd private once they are up; and those that make them hear each other."""
    parents = {change.key: change.after["parent"] for change in changes if _is_bridged(change) and change.after}
    raised = {change.key for change in changes if _is_raised(change) and change.key in parents}
    sizes = Counter(parents[key] for key in raised)
    crowded: Set[str] = {key for key in raised if sizes[parents[key]] >= _CROWD}
    found: List[Change] = []
    hearing: List[Change] = []
    for change in changes:
        found.append(change)
        if change.key in crowded and _is_raised(change):
            bridge, private = _in_mode(change, "bridge"), _in_mode(change, "private")
            found.append(change._replace(before=bridge, after=private))
            hearing.append(change._replace(before=private, after=bridge))
    return found, hearing


def wait_for_detection(session: Session, changes: Sequence[Change], until: float) -> None:
    """Wait until no link of the changes has an address that it may still announce. Raises NetlinkError."""
    if not session.observed.ipv6:
        return
    indexes = {session.link(str(change.after["name"]), change).ifindex for change in changes if change.after}
    while any(
        address.ifindex in indexes and address.flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED) == _IFA_F_TENTATIVE
        for address in session.kernel.dump(encode.all_addresses(), decode.address)
    ):
        if time.monotonic() > until:
            return
        time.sleep(0.1)


def deadline() -> float:
    """Until when to wait, from now on, for all namespaces."""
    return time.monotonic() + _DETECTION


def _is_bridged(change: Change) -> bool:
    spec = change.after or {}
    return change.kind == "link" and change.before is None and (spec["kind"], spec.get("mode")) == ("macvlan", "bridge")


def _is_raised(change: Change) -> bool:
    return change.kind == "link" and change.before is not None and bool((change.after or {}).get("up"))


def _in_mode(change: Change, mode: str) -> Spec:
    spec = change.after or {}
    return {"netns": spec["netns"], "name": spec["name"], "mode": mode}
