# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bandwidth of a link, as the kernel counts it and as people write it.

A rate is in bits per second, a burst in bytes. Of what the kernel is sent, only the rate is exact: it keeps a burst as the time in which
the rate makes up for it, in ticks of 64 ns (``PSCHED_SHIFT``), so that a burst is read back as :func:`burst_of` of its ticks.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

INGRESS, EGRESS = "ingress", "egress"
#: What reaches an endpoint, and what it sends.
DIRECTIONS = (INGRESS, EGRESS)

#: Our mark: the major number of the root qdisc, and the preference and handle of the filter. ``tc`` shows it as 1f55.
MARK = 8021

#: What the kernel needs for each direction: the modules, which it loads by itself.
MODULES: Dict[str, Tuple[str, ...]] = {EGRESS: ("sch_tbf",), INGRESS: ("sch_ingress", "cls_matchall", "act_police")}

_TICKS_PER_SECOND = 15_625_000
#: The kernel has 32 bits of nanoseconds for the time of a burst, which is a little more.
LONGEST = 4
#: What waits to be sent, beyond the burst: 50 ms of the rate.
_QUEUE = 20
#: The least burst of what was given none, in bytes, and the part of a second of the rate. A policer drops, also packets of 64 KiB that the NIC
#: has put together (GRO): TCP comes near the rate only with a burst of some 250 ms.
_USUAL = {EGRESS: (32 << 10, 100), INGRESS: (256 << 10, 4)}
#: Of Ethernet, which the MTU does not count.
HEADER = 14

_RATE_UNITS = (("gbit", 10**9), ("mbit", 10**6), ("kbit", 10**3))
_SIZE_UNITS = (("mb", 1 << 20), ("kb", 1 << 10))


class Rate(NamedTuple):
    """What limits a direction of a link: ours, or what somebody else has in its place."""

    rate: int
    burst: int
    limit: int  # of the queue, in bytes; 0 for ingress, which has none
    foreign: str = ""  # what it is, where it is not ours
    shared: bool = False  # filters of others are on the qdisc of ours


def ticks(rate: int, burst: int) -> int:
    """The time of a burst at a rate, at least."""
    return -(-burst * 8 * _TICKS_PER_SECOND // rate)


def burst_of(rate: int, time: int) -> int:
    """The burst of so many ticks."""
    return time * rate // (8 * _TICKS_PER_SECOND)


def largest_burst(rate: int) -> int:
    """The largest burst that the kernel takes."""
    return int(min(rate * LONGEST // 8, 2**32 - 1))


def least_rate(mtu: int) -> int:
    """The rate at which a burst can hold a packet."""
    return (mtu + HEADER) * 8 // LONGEST + 8


def usual_burst(direction: str, rate: int, mtu: int) -> int:
    """The burst of a direction that was given none."""
    least, part = _USUAL[direction]
    return max(min(max(least, rate // 8 // part), largest_burst(rate)), mtu + HEADER)


def queue(direction: str, rate: int, burst: int) -> int:
    """How much may wait, in bytes."""
    return int(min(burst + rate // 8 // _QUEUE, 2**32 - 1)) if direction == EGRESS else 0


def rate_text(rate: int) -> str:
    """As iproute2 takes it: 100mbit."""
    return _text(rate, _RATE_UNITS, "bit")


def size_text(size: int) -> str:
    """As iproute2 takes it: 64kb."""
    return _text(size, _SIZE_UNITS, "b")


def _text(number: int, units: Tuple[Tuple[str, int], ...], plain: str) -> str:
    return next(
        (f"{number // factor}{unit}" for unit, factor in units if number and number % factor == 0), f"{number}{plain}"
    )
