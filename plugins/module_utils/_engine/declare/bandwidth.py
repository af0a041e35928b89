# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bandwidth of an endpoint as users write it: rates and bursts, in the units of iproute2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Dict, List, Optional, Tuple

from ..core import rates
from ..core.errors import InvalidValue, Problem
from ..core.specs import Generic
from .declaration import join

_NUMBER = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([a-z]*)\Z", re.ASCII | re.IGNORECASE)
_BITS = {
    "": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12, "kibit": 1 << 10, "mibit": 1 << 20, "gibit": 1 << 30,
}  # fmt: skip
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
#: The kernel counts whole bytes per second.
_LEAST_RATE, _LARGEST_RATE = 8, 10**12
_LARGEST_BURST = 2**32 - 1


def rate(value: Any) -> int:
    """Bits per second, rounded down to whole bytes."""
    number, unit = _read(value, _BITS)
    if unit.endswith("bps"):
        what = f"{value}: {unit} is bytes per second in tc, and bits elsewhere"
        raise InvalidValue(what, f"write it as {str(value).strip()[:-3]}bit")
    if number is None:
        raise InvalidValue(
            f"{value!r} is not a rate", "write it as 100mbit or 1gbit; a number alone is bits per second"
        )
    if not _LEAST_RATE <= number <= _LARGEST_RATE:
        raise InvalidValue(f"{value} is not a rate from 8bit to 1tbit", "give one, or leave it out for no limit")
    return number - number % _LEAST_RATE


def burst(value: Any) -> int:
    """Bytes."""
    number, _unit = _read(value, _BYTES)
    if number is None:
        raise InvalidValue(f"{value!r} is not a burst", "write it as 64kb or 1mb; a number alone is bytes")
    if not 0 < number <= _LARGEST_BURST:
        raise InvalidValue(f"{value} is not a burst from 1b to 4gb", "give one, or leave it out for the usual one")
    return number


def _read(value: Any, units: Dict[str, int]) -> Tuple[Optional[int], str]:
    """The number that was written, None where it is none of these units, and the unit."""
    match = None if isinstance(value, bool) else _NUMBER.match(str(value).strip())
    if match is None:
        return None, ""
    unit, fraction = match[3].lower(), match[2] or ""
    factor = units.get(unit)
    return (None if factor is None else int(match[1] + fraction) * factor // int(10 ** len(fraction))), unit


OPTIONS: Dict[str, Any] = {
    "ingress_rate": rate,
    "ingress_burst": burst,
    "egress_rate": rate,
    "egress_burst": burst,
}


def check(spec: Generic, row: Any, path: str, problems: List[Problem]) -> None:
    """A burst goes with a rate, and the rate makes up for it in time. What depends on the MTU is up to the plan."""
    for direction in rates.DIRECTIONS:
        number, size = spec[f"{direction}_rate"], spec[f"{direction}_burst"]
        at = join(path, f"{direction}_burst")
        given = isinstance(row, Mapping) and row.get(f"{direction}_rate") is not None
        if size and not given:
            problems.append(
                Problem(at, f"is nothing without {direction}_rate", f"give {direction}_rate, or leave it out")
            )
        elif size and number and size > rates.largest_burst(number):
            most = rates.largest_burst(number)
            what = f"{rates.size_text(size)} takes more than {rates.LONGEST} s at {rates.rate_text(number)}"
            problems.append(Problem(at, what, f"give {most} at most, or leave it out"))
