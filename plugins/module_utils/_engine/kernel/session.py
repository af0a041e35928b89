# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network namespace while changes are carried out in it: socket, ifindexes, sysctls."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from typing import (
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ..core.change import HOST, Change
from ..core.errors import AnswersLost, KernelRefused, NamespaceError, NetlinkError
from ..core.specs import Generic
from ..core.state import HostState
from ..netlink import decode, encode
from ..netlink.rtnetlink import Message, Socket
from . import namespaces, workload_namespaces
from .errno_text import refusal

#: A message, the change that it belongs to, and the errors that are as good as success.
Step = Tuple[Message, Change, FrozenSet[int]]

NOTHING: FrozenSet[int] = frozenset()


class KnownLink(NamedTuple):
    """A link that a change may speak of."""

    ifindex: int
    kind: str
    mtu: int = 0  # as observed, as this run changed it, or as it was made; 0 while that is unknown


class Session:
    """What is known of a namespace and, while it is open, its socket.

    ``as_seen``: it is still the one of the world.
    """

    def __init__(self, observed: HostState, workload: str, as_seen: bool) -> None:
        self.workload = workload
        self.observed = observed
        self.known = observed.namespace(workload) if as_seen else None
        self.links: Dict[str, KnownLink] = {}
        if self.known is not None:
            self.links = {name: KnownLink(link.index, link.kind, link.mtu) for name, link in self.known.names.items()}
        self.ipv6_mtus: Dict[str, int] = {}  # link -> what was written, which the kernel forgets
        self._pending: List[Step] = []
        self._defaults: Dict[str, int] = {}
        self.nsid = self.known.nsid if self.known else None  # of a namespace that cannot be entered
        self.descriptor: Optional[int] = None  # None for the host, which need not be entered

    def open(self, change: Change) -> None:
        """Get a socket in it. Raises KernelRefused for ``change``, the first that needs it."""
        try:
            if self.workload == HOST or self.nsid is not None:
                self.kernel = Socket()
                return
            path = (self.known.path if self.known else "") or workload_namespaces.resolve(self.workload)
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            with namespaces.entered(self.descriptor):
                self.kernel = Socket()
            found = os.fstat(self.descriptor)
            which = (self.kernel.cookie, found.st_dev, found.st_ino)
            if self.known and which != (self.known.cookie, *self.known.identity):
                self.close()
                raise NamespaceError(f"{self.workload} has changed its network namespace meanwhile")
        except NamespaceError as error:
            raise KernelRefused(change, 0, str(error)) from None
        except OSError as error:
            raise KernelRefused(change, error.errno or 0, f"{self.workload or 'the host'}: {error.strerror}") from None

    def close(self) -> None:
        """Close the socket and let go of the namespace."""
        self.kernel.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    # -- messages ---------------------------------------------------------------------------------

    def queue(self, change: Change, message: Message, tolerated: FrozenSet[int] = NOTHING) -> None:
        """A message for the next send."""
        self._pending.append((message, change, tolerated))

    def flush(self) -> None:
        """Send what is queued. Raises KernelRefused for the first change that the kernel refused."""
        pending, self._pending = self._pending, []
        self.send(pending)

    def send(self, steps: Sequence[Step]) -> None:
        """Carry out steps at once. Raises KernelRefused for the first change that the kernel refused."""
        if not steps:
            return
        try:
            failures = self.kernel.batch([step[0] for step in steps])
        except AnswersLost as error:
            raise refusal(steps[0][1], error.errno, error.text) from None
        for failure in failures:
            _message, change, tolerated = steps[failure.position]
            if failure.errno not in tolerated:
                refused = refusal(change, failure.errno, failure.text)
                refused.existing = [
                    steps[each.position][1] for each in failures if _exists(steps[each.position][1], each.errno)
                ]
                raise refused

    # -- links ------------------------------------------------------------------------------------

    def look_up(self, names: Iterable[str]) -> None:
        """Learn the ifindexes and the MTUs of links that were made since the world was observed."""
        new = [name for name in dict.fromkeys(names) if name in self.links and not self.links[name].ifindex]
        for name, link in zip(new, self.kernel.ask([encode.get_link(name) for name in new], decode.link)):
            if link:
                self.links[name] = KnownLink(link.index, self.links[name].kind, link.mtu)

    def link(self, name: str, change: Change) -> KnownLink:
        """A link by its name. Raises KernelRefused where there is none."""
        found = self.links.get(name)
        if found is not None and not found.ifindex:
            self.look_up((name,))
            found = self.links[name]
        if found is None or not found.ifindex:
            where = f" in {self.workload}" if self.workload else ""
            raise KernelRefused(change, errno.ENODEV, f"there is no link {name}{where}")
        return found

    def is_still_there(self, index: int) -> bool:
        """Whether a link is the one that was seen, in a namespace that is known by its nsid: that may be another's by now."""
        seen = self.known.links[index] if self.known else None
        with contextlib.suppress(NetlinkError):  # the number is not in use
            for link in self.kernel.dump(encode.all_links(self.nsid), decode.link):
                if link.index == index and seen is not None:
                    return all(
                        getattr(link, it) == getattr(seen, it) for it in ("name", "kind", "mac", "group", "parent")
                    )
        return False

    def forget(self, name: str) -> None:
        """A link is gone, with its other names."""
        gone = self.links.pop(name)
        seen = self.known.links.get(gone.ifindex) if self.known else None
        for other in (seen.name, *seen.altnames) if seen else ():
            self.links.pop(other, None)

    @functools.cached_property
    def places(self) -> Optional[Dict[Tuple[str, int, int], List[int]]]:
        """The protocols of the routes that were there, by prefix, metric and table."""
        if self.known is None:
            return None
        found: Dict[Tuple[str, int, int], List[int]] = {}
        for route in self.known.routes:
            found.setdefault((route.prefix, route.metric, route.table), []).append(route.protocol)
        return found

    # -- sysctls ----------------------------------------------------------------------------------

    def write_ipv6(self, settings: Iterable[Tuple[Change, str, Dict[str, int]]], new: bool) -> None:
        """Write IPv6 sysctls of links (change, name, settings); there is no message for them.

        ``new`` links have the defaults. Raises KernelRefused, and NamespaceError.
        """
        with self.inside():
            for change, name, values in settings:
                # With addresses generated as wanted before IPv6 comes on.
                for key in sorted(values, key="disable_ipv6".__eq__):
                    if key == "mtu":
                        self.ipv6_mtus[name] = values[key]
                    elif new and self.default("ipv6", key) == values[key]:
                        continue
                    try:
                        _write(f"/proc/sys/net/ipv6/conf/{name}/{key}", values[key])
                    except OSError as error:
                        text = f"sysctl {key} of {name}: {error.strerror}"
                        raise refusal(change, error.errno or 0, text) from None

    def default(self, family: str, key: str) -> int:
        """What a new link gets here. Raises OSError, and NamespaceError."""
        path = f"/proc/sys/net/{family}/conf/default/{key}"
        if path not in self._defaults:
            with self.inside(), open(path, encoding="ascii") as file:
                self._defaults[path] = int(file.read())
        return self._defaults[path]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """/proc/sys/net shows the namespace of the thread that looks."""
        if self.descriptor is None:
            yield
        else:
            with namespaces.entered(self.descriptor):
                yield


def _exists(change: Change, number: int) -> bool:
    """Whether what was to be made is there already, made by somebody else since the host was observed."""
    return number == errno.EEXIST and change.kind in ("address", "route", "rule", "rate") and change.before is None


def _write(path: str, value: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % value)
    finally:
        os.close(descriptor)


def names_of(changes: Collection[Change]) -> List[str]:
    """The links that changes of addresses, routes, rules, rates and links speak of."""
    found: List[str] = []
    for change in changes:
        spec: Generic = change.after if change.after is not None else change.before or {}
        name = {"address": "link", "route": "dev", "rule": "link", "rate": "link", "link": "name"}[change.kind]
        if spec.get(name):
            found.append(str(spec[name]))
    return found
