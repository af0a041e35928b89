# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service remembers between looks: which objects it healed, which are refused, and when those are tried again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Set

from ..run import restore_plan
from .inspection import LookReport

#: An object that was healed twice within so many seconds and is lost again is held.
WINDOW, TIMES = 60.0, 3
LONGEST = 300.0
#: Containers of Podman, whose service may be off, are asked for this often, at last; and while something happens on the
#: host, EAGERNESS seconds from then, more often: nothing tells when one that starts has come so far.
CONTAINERS, EAGERNESS, EAGER = 15.0, 15.0, 0.7


@dataclass
class FailingObject:
    """An object that could not be restored: how often, and when it is tried again."""

    times: int = 0
    due: float = 0.0


@dataclass
class HealHistory:
    """What the service remembers between looks."""

    healed: Dict[str, List[float]] = field(default_factory=dict)  # when each was, lately
    refused: Dict[str, FailingObject] = field(default_factory=dict)
    left: Set[str] = field(default_factory=set)  # what was not there after the last look
    waiting: FailingObject = field(default_factory=FailingObject)
    supports: Dict[str, str] = field(default_factory=dict)  # what each link stood on when it was seen last
    hinted: float = float("-inf")  # when something was heard last
    heals: int = 0  # since the start

    def fragile(self, now: float) -> List[str]:
        """What was repaired so often of late that once more is too often. ``now`` is in seconds of the monotonic clock, as below."""
        for name in list(self.healed):
            self.healed[name] = [when for when in self.healed[name] if when > now - WINDOW]
            if not self.healed[name]:
                del self.healed[name]
        return [name for name, times in self.healed.items() if len(times) >= TIMES - 1]

    def take_in(self, found: LookReport, now: float, is_boot: bool) -> None:
        """Add what a look found, and work out when the next one is due."""
        healed = [] if is_boot else found["healed"]
        self.heals += len(healed)
        # What went with a link, a namespace or a parent was not removed by itself, and what only came late was not removed.
        lost = [] if is_boot else found["lost"]
        roots = [name for name in lost if name.startswith(("link ", "netns "))] or lost
        for name in roots:
            went = name in self.supports and self.supports[name] != found["supports"].get(name)
            if name not in self.left and not went:
                self.healed.setdefault(name, []).append(now)
        self.supports.update(found["supports"])
        self.left = set(found["left"])
        refused = {name for name, how in found["left"].items() if how == restore_plan.REFUSED}
        for name in set(self.refused) - refused:
            del self.refused[name]
        for name in refused:
            trouble = self.refused.setdefault(name, FailingObject())
            if trouble.due <= now:
                trouble.times += 1
                trouble.due = now + min(LONGEST, 2.0**trouble.times)
            if healed:
                trouble.due = now  # it may have waited for just that
        if restore_plan.WAITS in found["left"].values():
            self.waiting.times += 1
            longest = CONTAINERS if "podman" in found["engines"] else LONGEST
            if found["awaited"] and now < self.hinted + EAGERNESS:
                longest = EAGER
            self.waiting.due = now + min(longest, 2.0**self.waiting.times)
        else:
            self.waiting = FailingObject()

    def hint(self, now: float) -> None:
        """An event on the host: an awaited object may appear soon."""
        self.hinted = now

    def due(self) -> float:
        """The time of the next retry."""
        times = [trouble.due for trouble in self.refused.values()]
        if self.waiting.times:
            times.append(self.waiting.due)
        return min(times, default=float("inf"))
