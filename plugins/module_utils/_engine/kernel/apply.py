# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a plan's changes to the kernel, in order and in as few messages as possible."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import itertools
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple, cast

from ..core.change import HOST, KERNEL_KINDS, Change, namespace_mark
from ..core.errors import KernelRefused, NamespaceError, NetlinkError
from ..core.isolation import BARRED, IPV4
from ..core.route_specs import RouteSpec, RuleSpec
from ..core.state import PLACED, HostState
from ..netlink import encode
from ..netlink.rtnetlink import Message
from . import barrier, crowd, links, named_namespaces, rates
from .errno_text import refusal
from .session import Session, names_of

_ADDRESS_GONE = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV))
_ROUTE_GONE = frozenset((errno.ESRCH, errno.ENOENT, errno.ENODEV))
_RULE_GONE = frozenset((errno.ENOENT,))


def apply(changes: Sequence[Change], observed: HostState, journal_group: Optional[int] = None) -> None:
    """Apply the changes of kernel objects; others are skipped. ``world`` is the observation that they were planned on. Links are made in
    the link group
        ``journal_group`` (of ``PRIVATE_GROUPS``) until they are as wanted, so that a run that was
        killed can be recognised by it. Raises KernelRefused for the first change that is refused; what was done
        before it stays.
    """
    if any(_is_barred(change) for change in changes) and not barrier.is_whole():
        barrier.install()  # a kernel without nf_tables has the sysctls alone
    succeeded = observed.succeeded(changes)
    changes = [
        change for change in _with_mtus(changes, observed) if change.kind not in PLACED or change.key not in succeeded
    ]
    group = links.free_group(observed, journal_group, changes)
    mark = namespace_mark(group if journal_group is None else journal_group)
    changes, hearing = crowd.hushed(changes)
    with _Sessions(observed) as sessions:
        for stage, run in _runs(changes):
            with _blamed_on(run[0]):
                if stage == "netns":
                    _namespaces(sessions, run, mark)
                else:
                    _apply(sessions, stage, run, group)
        sessions.flush()
        until = crowd.deadline()
        for _stage, run in _runs(hearing):
            with _blamed_on(run[0]):
                session = sessions.enter(_workload(run[0]), run[0])
                crowd.wait_for_detection(session, run, until)
                _carry_out(session, run)
        sessions.flush()


@contextlib.contextmanager
def _blamed_on(change: Change) -> Iterator[None]:
    """Errors that know of no change are refusals of this one."""
    try:
        yield
    except NamespaceError as error:
        raise KernelRefused(change, 0, str(error)) from None
    except NetlinkError as error:
        raise refusal(change, error.errno, error.text) from None
    except OSError as error:
        raise refusal(change, error.errno or 0, str(error)) from None


def _with_mtus(changes: Sequence[Change], observed: HostState) -> List[Change]:
    """The changes with a number in the place of None, the MTU of a link that follows its parent's."""
    found: List[Change] = []
    planned: Dict[str, int] = {}
    for change in changes:
        after = change.after or {}
        if change.kind == "link" and "mtu" in after:
            link = observed.link(after["netns"], after["name"])
            if after["mtu"] is None and link is not None and (change.before or {}).get("mtu") is not None:
                parent = observed.host.links.get(link.parent)
                mtu = planned.get(parent.name, parent.mtu) if parent else link.mtu
                change = change._replace(after={**after, "mtu": mtu})
                after = change.after or {}
            if after["netns"] == HOST and after["mtu"] is not None:
                planned[after["name"]] = after["mtu"]
        found.append(change)
    return found


def _apply(sessions: _Sessions, stage: str, run: Sequence[Change], group: int) -> None:
    if all(change.after is None for change in run) and sessions.is_gone(_workload(run[0])):
        links.remove_nodes(run)
        return  # with all that was in it
    session = sessions.enter(_workload(run[0]), run[0])
    if stage == "create":
        session.flush()
        links.create(sessions.enter(HOST, run[0]), session, run, group)
    elif stage == "remove":
        session.flush()
        links.remove(session, run, group)
    else:
        _carry_out(session, run)


def _is_barred(change: Change) -> bool:
    """Whether a link of the host is to expose less than all of the host."""
    spec = change.after or {}
    return change.kind == "link" and spec["netns"] == HOST and spec.get("isolation") in BARRED if spec else False


def _namespaces(sessions: _Sessions, run: Sequence[Change], mark: str) -> None:
    for change in run:
        sessions.drop(_workload(change))
        _namespace(change, sessions.observed, mark)


def _workload(change: Change) -> str:
    return str((change.after if change.after is not None else change.before or {})["netns"])


def _runs(changes: Sequence[Change]) -> Iterator[Tuple[str, List[Change]]]:
    """Consecutive changes of one namespace that go together, with what they are."""
    wanted = (change for change in changes if change.kind in KERNEL_KINDS)
    for (stage, _rest), run in itertools.groupby(wanted, lambda change: (_stage(change), _workload(change))):
        yield stage, list(run)


def _stage(change: Change) -> str:
    if change.kind == "netns":
        return "netns"
    return change.verb if change.kind == "link" and change.verb != "change" else "change"


class _Sessions:
    """The host and one other namespace, left for the next: a descriptor for each is too much."""

    def __init__(self, observed: HostState) -> None:
        self.observed = observed
        self._open: Dict[str, Session] = {}
        self._left: Dict[str, Session] = {}
        self._remade: Set[str] = set()

    def enter(self, workload: str, change: Change) -> Session:
        if workload not in self._open:
            for other in [name for name in self._open if name != HOST and workload != HOST]:
                self._leave(other)
            session = self._left.pop(workload, None) or Session(self.observed, workload, workload not in self._remade)
            session.open(change)
            self._open[workload] = session
        for name, session in self._open.items():
            if name != workload:
                session.flush()
        return self._open[workload]

    def _leave(self, workload: str) -> None:
        session = self._open.pop(workload)
        self._left[workload] = session
        try:
            session.flush()
        finally:
            session.close()

    def is_gone(self, workload: str) -> bool:
        """Whether a namespace was not there when the world was observed, nor made since."""
        observed = self.observed
        unseen = observed.is_silent(workload) and workload not in observed.traced  # it may well be there
        return observed.namespace(workload) is None and not unseen and workload not in self._remade

    def drop(self, workload: str) -> None:
        """A namespace comes or goes: nothing that was known of it holds."""
        if workload in self._open:
            self._leave(workload)
        self._left.pop(workload, None)
        self._remade.add(workload)

    def flush(self) -> None:
        for session in self._open.values():
            session.flush()

    def __enter__(self) -> _Sessions:
        return self

    def __exit__(self, *_rest: object) -> None:
        for session in self._open.values():
            session.close()


def _namespace(change: Change, observed: HostState, mark: str) -> None:
    kind, _rest, name = _workload(change).partition(":")
    if kind != "netns":
        raise KernelRefused(
            change,
            0,
            f"{change.key} is not a named network namespace: only its owner can create or remove it",
        )
    try:
        if change.before is None:
            named_namespaces.create(name, mark)
        elif change.after is None:
            known = observed.namespace(change.key)
            if known is not None and known.is_marked:
                named_namespaces.remove(name, known.identity)
    except NamespaceError as error:
        raise KernelRefused(change, 0, str(error)) from None


def _carry_out(session: Session, run: Sequence[Change]) -> None:
    """Addresses, routes, rules, rates, and changes of links, in one send where no sysctl stands between."""
    session.look_up(names_of(run))
    for change in run:
        if change.kind == "link":
            links.change(session, change)
        elif change.kind == "address":
            _address(session, change)
        elif change.kind == "rule":
            _rule(session, change)
        elif change.kind == "rate":
            rates.apply(session, change)
        else:
            _route(session, change)


def _address(session: Session, change: Change) -> None:
    if change.after is not None:
        if change.before is None:
            link = session.link(change.after["link"], change)
            session.queue(change, encode.create_address(change.after["address"], link.ifindex))
        elif session.observed.is_cut_off(change.after):
            link = session.link(change.after["link"], change)
            for message in encode.connect_address(change.after["address"], link.ifindex):
                session.queue(change, message)
        return
    spec = change.before or {}
    if spec["link"] not in session.links or session.observed.is_replaced("address", spec):
        return
    index = session.link(spec["link"], change).ifindex
    remove = encode.remove_address(spec["address"], index)
    if _carries_others(session, index, spec["address"]):
        # Else the kernel removes the others of the subnet with the first of them.
        session.queue(change, _promotion(index, 1))
        session.queue(change, remove, _ADDRESS_GONE)
        session.queue(change, _promotion(index, 0))  # as it was
    else:
        session.queue(change, remove, _ADDRESS_GONE)


def _promotion(index: int, value: int) -> Message:
    return encode.change_link(index, encode.interface_settings({"promote_secondaries": value}, None))


def _carries_others(session: Session, index: int, address: str) -> bool:
    """Whether others of its subnet may go with an IPv4 address: where it is the first, or will be once those before it are gone."""
    if session.known is None or ":" in address or len(session.known.addresses.get(index, ())) < 2:
        return False
    settings = session.known.links[index].conf4
    if settings and settings[IPV4["promote_secondaries"] - 1]:
        return False
    subnet = ipaddress.ip_interface(address).network
    return any(
        other.address != address and ipaddress.ip_interface(other.address).network == subnet
        for other in session.known.addresses[index]
    )


def _rule(session: Session, change: Change) -> None:
    before, after = cast(Optional[RuleSpec], change.before), cast(Optional[RuleSpec], change.after)
    if after is None and before is not None:
        session.queue(change, encode.remove_rule(before), _RULE_GONE)
    elif after is not None and before is None:
        session.queue(change, encode.create_rule(after))


def _route(session: Session, change: Change) -> None:
    before, after = cast(Optional[RouteSpec], change.before), cast(Optional[RouteSpec], change.after)
    if after is None:
        # One of metric 0 that is gone already would take another to the same prefix with it.
        if before and (session.places is None or before["protocol"] in session.places.get(_place(before), ())):
            session.queue(change, encode.remove_route(before), _ROUTE_GONE)
        return
    if "type" not in after:
        return  # the kernel has it already, only the record follows
    device = after.get("dev")
    oif = session.link(device, change).ifindex if device else 0
    replace = before is not None and _is_alone(session, before, after)
    if before is not None and not replace:
        session.queue(change, encode.remove_route(before), _ROUTE_GONE)
    session.queue(change, encode.create_route(after, oif, replace))


def _is_alone(session: Session, before: RouteSpec, after: RouteSpec) -> bool:
    """Whether a replacement, which leaves no gap, can only hit the route that is meant."""
    there = (session.places or {}).get(_place(after), [])
    # IPv6 replaces a route to a device by one to a device only, and the same with gateways.
    same_sort = ":" not in after["prefix"] or bool(before.get("via")) == bool(after.get("via"))
    return same_sort and there == [before["protocol"]]


def _place(spec: RouteSpec) -> Tuple[str, int, int]:
    return (spec["prefix"], spec["metric"], spec["table"])
