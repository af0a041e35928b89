# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""What the lab says while it works: on standard error, a line at a time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_speaking = threading.Lock()


def say(line: str) -> None:
    with _speaking:
        print(f"lab: {line}", file=sys.stderr, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what begins, and when it is over in how many seconds."""
    say(f"{what} ...")
    started = time.monotonic()
    yield
    say(f"{what}: done in {time.monotonic() - started:.0f} s")
