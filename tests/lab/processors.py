# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Which processor a guest runs on.

User-Mode Linux and its programs take turns, at every system call and every page fault. On one processor such a turn
takes 8 µs; between two, which wake each other, 48. So each guest has one, and no two have the same while one is free.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from pathlib import Path

FIRST = "LAB_FIRST_PROCESSOR"  # in the environment of a rack's controller


def take(cache: Path) -> int:
    """Run this process, and all that it starts, on the processor with the fewest guests.

    It counts for as long as the descriptor that is returned is open, here or in a child.
    """
    processor, descriptor = claim(cache)
    os.sched_setaffinity(0, {processor})
    return descriptor


def claim(cache: Path) -> tuple[int, int]:
    """The processor with the fewest guests, and the descriptor that counts one more on it."""
    allowed = sorted(os.sched_getaffinity(0))
    seats = (
        (processor, _claim(cache / f"processor{processor}.{guests}"))
        for guests in itertools.count()
        for processor in allowed
    )
    return next((processor, claimed) for processor, claimed in seats if claimed is not None)


def _claim(seat: Path) -> int | None:
    """None where somebody has it."""
    descriptor = os.open(seat, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def of_host(position: int) -> set[int]:
    """The one for a host of a rack. They take turns, from the one that run claimed; the controller, which starts them, runs on any."""
    allowed = sorted(os.sched_getaffinity(0))
    first = int(os.environ.get(FIRST, allowed[0]))
    return {allowed[(allowed.index(first) + position) % len(allowed)]}
