# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what takes its time."""

from __future__ import annotations

import time
from typing import Any, Callable

#: Until when something has to have happened; a machine that is busy is no fault.
DEADLINE = 90.0


def until(what: Callable[[], Any], seconds: float = DEADLINE, every: float = 0.1) -> Any:
    """Wait for something to become true, and return it; ``every`` is how often it is asked, in seconds."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            return found
        time.sleep(every)
