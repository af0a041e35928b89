# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan's changes in the kernel, in their order and in as few messages as it takes."""

from __future__ import annotations

import errno
import ipaddress
import itertools
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from . import encode, links, namespaces
from .encode import IFA_F_SECONDARY
from .namespaces import NamespaceError
from .refused import Refused, refusal
from .rtnetlink import NetlinkError
from .space import Space, names_of
from .world import HOST, KERNEL_KINDS, Change, Spec, World

__all__ = ["Refused", "apply"]

_ADDRESS_GONE = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV))
_ROUTE_GONE = frozenset((errno.ESRCH, errno.ENOENT, errno.ENODEV))


def apply(changes: Sequence[Change], world: World, journal_group: Optional[int] = None) -> None:
    """Carry out the changes of kernel objects; others are skipped.

    ``world`` is the observation that they were planned on. Links are made in the link group
    ``journal_group`` (of ``PRIVATE_GROUPS``) until they are as wanted, so that a run that was
    killed can be told by it. Raises Refused for the first change that is refused; what was done
    before it stays.
    """
    group = links.free_group(world, journal_group, changes)
    with _Spaces(world) as spaces:
        for stage, run in _runs(changes):
            try:
                _perform(spaces, stage, run, group)
            except NamespaceError as error:
                raise Refused(run[0], 0, str(error)) from None
            except NetlinkError as error:
                raise refusal(run[0], error.errno, error.text) from None
            except OSError as error:
                raise refusal(run[0], error.errno or 0, str(error)) from None
        spaces.flush()


def _perform(spaces: _Spaces, stage: str, run: Sequence[Change], group: int) -> None:
    if stage != "netns" and all(change.after is None for change in run) and spaces.is_gone(_workload(run[0])):
        return  # with all that was in it
    if stage == "netns":
        for change in run:
            spaces.drop(_workload(change))
            _namespace(change)
        return
    space = spaces.enter(_workload(run[0]), run[0])
    if stage == "create":
        space.flush()
        links.create(spaces.enter(HOST, run[0]), space, run, group)
    elif stage == "remove":
        space.flush()
        links.remove(space, run, group)
    else:
        _carry_out(space, run)


def _workload(change: Change) -> str:
    return str((change.after if change.after is not None else change.before or {})["netns"])


def _runs(changes: Sequence[Change]) -> Iterator[Tuple[str, List[Change]]]:
    """Consecutive changes of one namespace that go together, with what they are."""
    wanted = (change for change in changes if change.kind in KERNEL_KINDS)
    for (stage, _rest), run in itertools.groupby(
        wanted, lambda change: (_stage(change), _workload(change))
    ):
        yield stage, list(run)


def _stage(change: Change) -> str:
    if change.kind == "netns":
        return "netns"
    return change.verb if change.kind == "link" and change.verb != "change" else "change"


class _Spaces:
    """The host and one other namespace, left for the next: a descriptor for each is too much."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: Dict[str, Space] = {}
        self._left: Dict[str, Space] = {}
        self._remade: Set[str] = set()

    def enter(self, workload: str, change: Change) -> Space:
        if workload not in self._open:
            for other in [name for name in self._open if name != HOST and workload != HOST]:
                self._leave(other)
            space = self._left.pop(workload, None) or Space(
                self._world, workload, workload not in self._remade
            )
            space.open(change)
            self._open[workload] = space
        for name, space in self._open.items():
            if name != workload:
                space.flush()
        return self._open[workload]

    def _leave(self, workload: str) -> None:
        space = self._open.pop(workload)
        self._left[workload] = space
        try:
            space.flush()
        finally:
            space.close()

    def is_gone(self, workload: str) -> bool:
        """Whether a namespace was not there when the world was observed, nor made since."""
        world = self._world
        unseen = workload in world.refusals and workload not in world.gone  # it may well be there
        return world.namespace(workload) is None and not unseen and workload not in self._remade

    def drop(self, workload: str) -> None:
        """A namespace comes or goes: nothing that was known of it holds."""
        if workload in self._open:
            self._leave(workload)
        self._left.pop(workload, None)
        self._remade.add(workload)

    def flush(self) -> None:
        for space in self._open.values():
            space.flush()

    def __enter__(self) -> _Spaces:
        return self

    def __exit__(self, *_rest: object) -> None:
        for space in self._open.values():
            space.close()


def _namespace(change: Change) -> None:
    kind, _rest, name = _workload(change).partition(":")
    if kind != "netns":
        raise Refused(
            change,
            0,
            f"{change.key} is not a named network namespace: its owner makes it, and removes it",
        )
    try:
        if change.before is None:
            namespaces.create(name)
        elif change.after is None:
            namespaces.remove(name)
    except NamespaceError as error:
        raise Refused(change, 0, str(error)) from None


def _carry_out(space: Space, run: Sequence[Change]) -> None:
    """Addresses, routes, and changes of links, in one send where no sysctl stands between."""
    space.look_up(names_of(run))
    for change in run:
        if change.kind == "link":
            links.change(space, change)
        elif change.kind == "address":
            _address(space, change)
        else:
            _route(space, change)


def _address(space: Space, change: Change) -> None:
    if change.after is not None:
        if change.before is None:
            link = space.link(change.after["link"], change)
            space.queue(change, encode.create_address(change.after["address"], link.ifindex))
        return
    spec = change.before or {}
    if spec["link"] not in space.links or space.world.is_usurped("address", spec):
        return
    index = space.link(spec["link"], change).ifindex
    if _carries_others(space, index, spec["address"]):
        # Without it the kernel removes the others of the subnet with the first of them.
        space.queue(
            change,
            encode.change_link(index, encode.interface_settings({"promote_secondaries": 1}, None)),
        )
    space.queue(change, encode.remove_address(spec["address"], index), _ADDRESS_GONE)


def _carries_others(space: Space, index: int, address: str) -> bool:
    """Whether other IPv4 addresses depend on one, the first of its subnet."""
    addresses = space.known.addresses.get(index, ()) if space.known and ":" not in address else ()
    if len(addresses) < 2:
        return False
    subnet = ipaddress.ip_interface(address).network
    first = any(
        other.address == address and not other.flags & IFA_F_SECONDARY for other in addresses
    )
    return first and any(
        other.flags & IFA_F_SECONDARY and ipaddress.ip_interface(other.address).network == subnet
        for other in addresses
    )


def _route(space: Space, change: Change) -> None:
    before, after = change.before, change.after
    if after is None:
        # One of metric 0 that is gone already would take another to the same prefix with it.
        if before and (space.places is None or before["protocol"] in space.places.get(_place(before), ())):
            space.queue(change, encode.remove_route(before), _ROUTE_GONE)
        return
    if "type" not in after:
        return  # the kernel has it already, only the record follows
    oif = space.link(after["dev"], change).ifindex if after.get("dev") else 0
    replace = before is not None and _is_alone(space, before, after)
    if before is not None and not replace:
        space.queue(change, encode.remove_route(before), _ROUTE_GONE)
    space.queue(change, encode.create_route(after, oif, replace))


def _is_alone(space: Space, before: Spec, after: Spec) -> bool:
    """Whether a replacement, which leaves no gap, can only hit the route that is meant."""
    there = (space.places or {}).get(_place(after), [])
    # IPv6 replaces a route to a device by one to a device only, and the same with gateways.
    same_sort = ":" not in after["prefix"] or bool(before.get("via")) == bool(after.get("via"))
    return same_sort and there == [before["protocol"]]


def _place(spec: Spec) -> Tuple[str, int, int]:
    return (spec["prefix"], spec["metric"], spec["table"])
