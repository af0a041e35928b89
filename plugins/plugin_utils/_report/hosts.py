# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in the order that people expect, and sets of hosts in few numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_NUMBER = re.compile(r"([0-9]+)")


def natural(name: str) -> list[Any]:
    """A sorting key by which ``rack2`` comes before ``rack10``."""
    return [int(part) if at % 2 else part.casefold() for at, part in enumerate(_NUMBER.split(name))]


def ranges(positions: Iterable[int]) -> list[list[int]]:
    """Positions in rising order as ``[first, last]`` pairs: five hundred hosts that are alike are one pair."""
    found: list[list[int]] = []
    for position in positions:
        if found and position == found[-1][1] + 1:
            found[-1][1] = position
        else:
            found.append([position, position])
    return found
