# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What limits the links of workloads: a queue for what they send, a policer for what reaches them.

Everything of others stays: a qdisc at the place of ours is never replaced, and filters beside ours keep their ingress qdisc.
"""

from __future__ import annotations

import errno
from typing import cast

from ..core.change import PORTS, Change
from ..core.link_specs import RateSpec
from ..core.rates import EGRESS, INGRESS, MARK, Rate
from ..core.state import Namespace
from ..netlink import tc
from ..netlink.rtnetlink import Socket
from .session import Session

#: What is gone already: the link, the qdisc, or (EINVAL) a filter with its qdisc.
_GONE = frozenset((errno.ENODEV, errno.ENOENT, errno.EINVAL))


def observe(kernel: Socket, namespace: Namespace) -> None:
    """What limits the links of a namespace that may be ours. Raises NetlinkError, and AnswersLost."""
    for qdisc in kernel.dump(tc.all_qdiscs(), tc.qdisc):
        link = namespace.links.get(qdisc.ifindex)
        if link is None or link.kind not in PORTS:
            continue
        egress, called = (link.index, EGRESS), f"qdisc {qdisc.kind} {qdisc.handle >> 16:x}:"
        if qdisc.parent == tc.ROOT:
            ours = (qdisc.kind, qdisc.handle) == ("tbf", tc.HANDLE)
            namespace.rates[egress] = Rate(qdisc.rate, qdisc.burst, qdisc.limit, "" if ours else called)
        elif qdisc.parent == tc.INGRESS:
            namespace.rates[link.index, INGRESS] = _ingress(
                kernel, link.index, "" if qdisc.kind == "ingress" else called
            )
        elif qdisc.parent >> 16 == MARK and egress in namespace.rates:  # it would go with the one that it is in
            namespace.rates[egress] = namespace.rates[egress]._replace(foreign=called)


def _ingress(kernel: Socket, index: int, qdisc: str) -> Rate:
    """What is on the ingress qdisc of a link, which is named where it is of another kind than ours."""
    filters = kernel.dump(tc.all_filters(index), tc.policer)
    ours = next((one for one in filters if one.is_marked), None)
    others = [one for one in filters if (one.preference, one.kind) != (MARK, "matchall")]
    foreign = next((f"filter pref {one.preference} {one.kind}" for one in others), "")
    if qdisc or (foreign and ours is None):
        return Rate(0, 0, 0, qdisc or foreign)
    return Rate(ours.rate, ours.burst, 0, shared=bool(others)) if ours else Rate(0, 0, 0)


def apply(session: Session, change: Change) -> None:
    """Queue the messages of a change."""
    spec = change.after if change.after is not None else change.before or {}
    if change.after is None and (spec["link"] not in session.links or session.observed.is_replaced("rate", spec)):
        return
    if change.after is not None and not {"rate", "burst", "limit"} <= change.after.keys():
        return  # the kernel has it already, only the record follows
    index = session.link(spec["link"], change).ifindex
    (_egress if spec["direction"] == EGRESS else _ingress_of)(session, change, index)


def _egress(session: Session, change: Change, index: int) -> None:
    if change.after is None:
        session.queue(change, tc.remove_shaper(index), _GONE)
        return
    message = tc.create_shaper if change.before is None else tc.change_shaper
    session.queue(change, message(cast(RateSpec, change.after), index))


def _ingress_of(session: Session, change: Change, index: int) -> None:
    """The kernel changes no filter of this kind in place: another takes its place, within the same send."""
    if change.before is None:
        session.queue(change, tc.create_ingress(index))
        session.flush()  # no filter of ours on a qdisc that somebody made meanwhile
    else:
        session.queue(change, tc.remove_policer(index), _GONE)
    if change.after is not None:
        session.queue(change, tc.create_policer(cast(RateSpec, change.after), index))
        return
    there = session.observed.rate(change.before or {})
    if there is None or not there.shared:
        session.queue(change, tc.remove_ingress(index), _GONE)
