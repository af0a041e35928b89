# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The qdiscs and filters that limit a link: requests and answers in the kernel's encoding.

What a link sends waits in a token bucket (tbf) at its root; what reaches it is policed by the one filter of its ingress qdisc. Numbers are
those of include/uapi/linux/pkt_sched.h, pkt_cls.h and tc_act/tc_police.h.
"""

from __future__ import annotations

import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..core import rates
from ..core.link_specs import RateSpec
from . import rtnetlink as nl
from .encode import attribute
from .rtnetlink import Message, attributes

TCMSG = struct.Struct("=BxxxiIII")  # family, ifindex, handle, parent, info
_RATESPEC = "BBHhHI"  # struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate in bytes
_TBF = struct.Struct(f"={2 * _RATESPEC}III")  # struct tc_tbf_qopt: rate, peakrate, limit, buffer, mtu
#: struct tc_police: index, action, limit, burst, mtu, rate, peakrate, refcnt, bindcnt, capab
_POLICE = struct.Struct(f"=IiIII{2 * _RATESPEC}iiI")
_U64 = struct.Struct("=Q")

TCA_KIND, TCA_OPTIONS = 1, 2
_TCA_TBF_PARMS, _TCA_TBF_RATE64 = 1, 4
_TCA_MATCHALL_ACT = 2
_TCA_ACT_KIND, _TCA_ACT_OPTIONS = 1, 2
_TCA_POLICE_TBF, _TCA_POLICE_RATE, _TCA_POLICE_RATE64 = 1, 2, 8
_NESTED = 0x8000

ROOT, INGRESS = 0xFFFFFFFF, 0xFFFFFFF1  # TC_H_ROOT, TC_H_INGRESS
#: The handle of an ingress qdisc, which the kernel gives to every one.
_INGRESS_HANDLE = 0xFFFF0000
HANDLE = rates.MARK << 16
_PREFERENCE = rates.MARK << 16
_ETH_P_ALL = 0x0300  # 3 in network byte order
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: without it the kernel guesses by a table
_NO_TABLE = bytes(1024)  # which it wants all the same, and does not read
_DROP = 2  # TC_ACT_SHOT
#: Packets that the NIC has put together are no larger (act_police drops what is).
_ANY_SIZE = 2**31 - 1


class Qdisc(NamedTuple):
    """A qdisc that somebody made; those that the kernel gives each link have no handle."""

    ifindex: int
    handle: int
    parent: int
    kind: str
    rate: int  # of a tbf, and so are the following
    burst: int
    limit: int


class Filter(NamedTuple):
    """A filter of an ingress qdisc."""

    preference: int
    handle: int
    kind: str
    rate: int  # 0 where it does anything but drop what is beyond a rate
    burst: int

    @property
    def is_marked(self) -> bool:
        """Whether it has our mark."""
        return (self.preference, self.handle, self.kind) == (rates.MARK, rates.MARK, "matchall")


# --- requests ------------------------------------------------------------------------------------


def create_shaper(spec: RateSpec, index: int) -> Message:
    """The queue of what a link sends. EXCL: without it the kernel would replace the one that somebody made."""
    return Message(nl.RTM_NEWQDISC, nl.NLM_F_CREATE | nl.NLM_F_EXCL, _shaper(spec, index))


def change_shaper(spec: RateSpec, index: int) -> Message:
    """The kernel refuses it where there is none of our handle and kind."""
    return Message(nl.RTM_NEWQDISC, 0, _shaper(spec, index))


def remove_shaper(index: int) -> Message:
    """Remove the queue of what a link sends, by our handle."""
    return Message(nl.RTM_DELQDISC, 0, TCMSG.pack(0, index, HANDLE, ROOT, 0))


def create_ingress(index: int) -> Message:
    """The ingress qdisc of a link, which our filter needs. One that is there already is an error (EEXIST)."""
    body = TCMSG.pack(0, index, _INGRESS_HANDLE, INGRESS, 0) + _text(TCA_KIND, "ingress")
    return Message(nl.RTM_NEWQDISC, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body)


def remove_ingress(index: int) -> Message:
    """Remove the ingress qdisc of a link, with all of its filters."""
    return Message(nl.RTM_DELQDISC, 0, TCMSG.pack(0, index, _INGRESS_HANDLE, INGRESS, 0))


def create_policer(spec: RateSpec, index: int) -> Message:
    """The filter of an ingress qdisc."""
    rate, burst = spec["rate"], rates.ticks(spec["rate"], spec["burst"])
    # The table that the kernel wants is of a rate with a cell_log.
    parameters = _POLICE.pack(0, _DROP, 0, burst, _ANY_SIZE, *_ratespec(rate, 1), *_NO_RATE, 0, 0, 0)
    options = attribute(_TCA_POLICE_TBF, parameters) + attribute(_TCA_POLICE_RATE, _NO_TABLE)
    options += _rate64(_TCA_POLICE_RATE64, rate)
    action = _text(_TCA_ACT_KIND, "police") + attribute(_TCA_ACT_OPTIONS | _NESTED, options)
    matchall = attribute(_TCA_MATCHALL_ACT | _NESTED, attribute(1 | _NESTED, action))
    body = _filter(index, rates.MARK) + _text(TCA_KIND, "matchall") + attribute(TCA_OPTIONS | _NESTED, matchall)
    return Message(nl.RTM_NEWTFILTER, nl.NLM_F_CREATE | nl.NLM_F_EXCL, body)


def remove_policer(index: int) -> Message:
    """Remove our filter from the ingress qdisc of a link."""
    return Message(nl.RTM_DELTFILTER, 0, _filter(index, rates.MARK) + _text(TCA_KIND, "matchall"))


def all_qdiscs() -> Message:
    """Of every link of the socket's namespace."""
    return Message(nl.RTM_GETQDISC, 0, TCMSG.pack(0, 0, 0, 0, 0))


def all_filters(index: int) -> Message:
    """Of the ingress qdisc of a link."""
    return Message(nl.RTM_GETTFILTER, 0, TCMSG.pack(0, index, 0, _INGRESS_HANDLE, 0))


_NO_RATE = (0, 0, 0, 0, 0, 0)


def _ratespec(rate: int, cell_log: int = 0) -> Tuple[int, ...]:
    return (cell_log, _ETHERNET, 0, 0, 0, min(rate // 8, 2**32 - 1))


def _rate64(kind: int, rate: int) -> bytes:
    """A rate that does not fit in 32 bits."""
    return attribute(kind, _U64.pack(rate // 8)) if rate // 8 >= 2**32 else b""


def _shaper(spec: RateSpec, index: int) -> bytes:
    rate = spec["rate"]
    parameters = _TBF.pack(*_ratespec(rate), *_NO_RATE, spec["limit"], rates.ticks(rate, spec["burst"]), 0)
    options = attribute(_TCA_TBF_PARMS, parameters) + _rate64(_TCA_TBF_RATE64, rate)
    head = TCMSG.pack(0, index, HANDLE, ROOT, 0) + _text(TCA_KIND, "tbf")
    return head + attribute(TCA_OPTIONS | _NESTED, options)


def _filter(index: int, handle: int) -> bytes:
    return TCMSG.pack(0, index, handle, _INGRESS_HANDLE, _PREFERENCE | _ETH_P_ALL)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


# --- answers -------------------------------------------------------------------------------------


def qdisc(data: bytes, start: int, end: int) -> Optional[Qdisc]:
    """A qdisc; None for one that a link has anyway."""
    _family, index, handle, parent, _info = TCMSG.unpack_from(data, start)
    if not handle:
        return None
    found = _parts(data, start + TCMSG.size, end)
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode("utf-8", "replace")
    options = _parts_of(found.get(TCA_OPTIONS, b"")) if kind == "tbf" else {}
    rate = burst = limit = 0
    if _TCA_TBF_PARMS in options:
        values = _TBF.unpack_from(options[_TCA_TBF_PARMS])
        rate = _rate(values[5], options.get(_TCA_TBF_RATE64))
        limit, burst = values[12], rates.burst_of(rate, values[13])
    return Qdisc(index, handle, parent, kind, rate, burst, limit)


def policer(data: bytes, start: int, end: int) -> Filter:
    """A filter; the kernel also tells of each preference once, without a handle."""
    _family, _index, handle, _parent, info = TCMSG.unpack_from(data, start)
    found = _parts(data, start + TCMSG.size, end)
    kind = found.get(TCA_KIND, b"").rstrip(b"\0").decode("utf-8", "replace")
    actions: List[bytes] = []
    if kind == "matchall":
        options = _parts_of(found.get(TCA_OPTIONS, b""))
        actions = list(_parts_of(options.get(_TCA_MATCHALL_ACT, b"")).values())
    rate, burst = _police(actions[0]) if len(actions) == 1 else (0, 0)
    return Filter(info >> 16, handle, kind, rate, burst)


def may_be_marked(kind: int, data: bytes, start: int) -> bool:
    """Whether an event is about what has our mark, or about an ingress qdisc that goes with all that is on it."""
    _family, _index, handle, parent, info = TCMSG.unpack_from(data, start)
    if kind in (nl.RTM_NEWTFILTER, nl.RTM_DELTFILTER):
        return parent >> 16 == 0xFFFF and info >> 16 in (rates.MARK, 0)  # 0: all of them
    return handle == HANDLE or (kind == nl.RTM_DELQDISC and parent == INGRESS)


def _police(action: bytes) -> Tuple[int, int]:
    """The rate and the burst of an action that drops what is beyond them."""
    found = _parts_of(action)
    options = _parts_of(found.get(_TCA_ACT_OPTIONS, b""))
    if found.get(_TCA_ACT_KIND, b"").rstrip(b"\0") != b"police" or _TCA_POLICE_TBF not in options:
        return 0, 0
    values = _POLICE.unpack_from(options[_TCA_POLICE_TBF])
    action_number, burst, mtu = values[1], values[3], values[4]
    if (action_number, mtu) != (_DROP, _ANY_SIZE):
        return 0, 0
    rate = _rate(values[10], options.get(_TCA_POLICE_RATE64))
    return rate, rates.burst_of(rate, burst)


def _rate(bytes_per_second: int, more: Optional[bytes]) -> int:
    return int(_U64.unpack_from(more)[0] if more else bytes_per_second) * 8


def _parts(data: bytes, start: int, end: int) -> Dict[int, bytes]:
    return {kind: data[first:last] for kind, first, last in attributes(data, start, end)}


def _parts_of(payload: bytes) -> Dict[int, bytes]:
    return _parts(payload, 0, len(payload))
