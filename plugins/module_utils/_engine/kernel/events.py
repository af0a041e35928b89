# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events that the service listens to: the kernel's links, addresses and routes, named namespaces, the registry, and container engines.

Each source has a descriptor to poll and says whether an event may concern something of ours: the service is not woken for
the rest of the host's life.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
import urllib.parse
from typing import Any, Dict, Iterable, Iterator, Optional, Protocol, Sequence, Set, Tuple

from ..core import errors
from ..core.change import LINK_GROUPS, PROTOCOL
from ..core.state import RTPROT_KERNEL, Link
from ..netlink import decode, encode, nftables, rtnetlink, tc
from ..netlink.rtnetlink import attributes
from ..store import leases
from ..store.registry import STAMPED, Registry
from . import barrier, senders

_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, _SO_MEMINFO = 270, 8, 55
#: The number that stands for the namespace of the service itself.
OWN = -1
_RTM_NEWNSID, _RTM_DELNSID = 88, 89
#: RTNLGRP_LINK, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV6_RULE, _IPV4_NETCONF, _IPV6_NETCONF, _NSID
_GROUPS = (1, 4, 5, 7, 8, 9, 11, 19, 24, 25, 28)
#: A sysctl of a link changed: forwarding or source validation, also where ip_forward or conf.all changed them.
_RTM_NEWNETCONF = 80
_NETCONFA_IFINDEX = 1
_NFNLGRP_NFTABLES = 7
_RECEIVE = 1 << 20  # bytes of events that may wait; more is ENOBUFS, and then the host is looked at
_IFA_PROTO = 11
_MESSAGES = (
    rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK, rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR, rtnetlink.RTM_DELROUTE, rtnetlink.RTM_DELRULE, _RTM_DELNSID,
    _RTM_NEWNETCONF, rtnetlink.RTM_NEWQDISC, rtnetlink.RTM_DELQDISC, rtnetlink.RTM_NEWTFILTER, rtnetlink.RTM_DELTFILTER,
)  # fmt: skip


class EventSource(Protocol):
    """What is polled, and then asked."""

    def fileno(self) -> int:
        """Of what is to be polled; negative for nothing."""

    def read_events(self) -> bool:
        """Whether something since the last time may be about us."""


def subscribe() -> socket.socket:
    """A socket that hears rtnetlink's events from now on, of this namespace and of every other with a number here."""
    found = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
    found.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    found.bind((0, sum(1 << (group - 1) for group in _GROUPS)))
    return found


def fingerprint(link: Link) -> int:
    """What tells a link from the same one after a change that a look would decode."""
    return hash((
        link.name, link.kind, link.up, link.noarp, link.mtu, link.group, link.parent, link.master, link.lowers, link.mac,
        link.alias, link.altnames, link.conf4, link.conf6, repr(link.data),
    ))  # fmt: skip


class Kernel:
    """rtnetlink's events, held against what the last look at the host saw.

    A look makes a socket anew just before it reads the kernel: what it has seen, or has done itself, does not wake it.
    """

    def __init__(self) -> None:
        self._socket = subscribe()
        self._queued = (0, 0)
        self.names: Set[str] = set()  # of links that are ours, or that ours stand on
        self.indexes: Set[int] = set()  # of links of the host that are ours
        self.eager = False  # something waits: whatever comes may be it
        self.seen: Dict[int, Dict[int, int]] = {}  # number of a namespace (OWN) -> ifindex -> fingerprint

    def adopt(self, new: socket.socket) -> None:
        """Go on with a socket that was made meanwhile; what the old one heard is forgotten."""
        self._socket.close()
        self._socket = new
        self._queued = (0, 0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def is_growing(self) -> bool:
        """Whether more came since this was asked last, nothing of which is read."""
        try:
            memory = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        except OSError:
            return False
        numbers = struct.unpack("=9I", memory)
        before, self._queued = self._queued, (numbers[0], numbers[8])
        return self._queued != before

    def read_events(self) -> bool:
        """Whether anything since the last time may be about us; also where the kernel had to drop some.

        Then the rest is left unread: the look that follows sees it.
        """
        while True:
            try:
                data, ancillary, _flags, _sender = self._socket.recvmsg(65536, 64)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                return True
            if any(self._concerns(_namespace(ancillary), *message) for message in _split(data)):
                return True

    def _concerns(self, where: int, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind not in _MESSAGES:
            return False
        if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            return self._link_concerns(where, kind, data, start, end)
        if kind == _RTM_NEWNETCONF:
            return any(
                what == _NETCONFA_IFINDEX
                and int.from_bytes(data[first:last], sys.byteorder, signed=True) in self.indexes
                for what, first, last in attributes(data, start + 4, end)
            )
        if kind == rtnetlink.RTM_NEWADDR:
            return self.eager
        if kind == rtnetlink.RTM_DELADDR:
            protocols = [data[first] for what, first, _last in attributes(data, start + 8, end) if what == _IFA_PROTO]
            return not protocols or protocols[0] == PROTOCOL
        if kind == rtnetlink.RTM_DELROUTE:
            return data[start + 5] == PROTOCOL or self._cuts_off(where, data, start, end)
        if kind in (rtnetlink.RTM_NEWQDISC, rtnetlink.RTM_DELQDISC, rtnetlink.RTM_NEWTFILTER, rtnetlink.RTM_DELTFILTER):
            return tc.may_be_marked(kind, data, start)
        if kind == rtnetlink.RTM_DELRULE:
            found = decode.rule(data, start, end)
            return found is not None and found.protocol == PROTOCOL
        return True

    def _cuts_off(self, where: int, data: bytes, start: int, end: int) -> bool:
        """Whether a route that is gone is the connected one of a link that may be ours."""
        ours = self.indexes if where == OWN else self.seen.get(where, ())
        found = decode.routes(data, start, end) or () if ours else ()
        return any(route.protocol == RTPROT_KERNEL and route.oif in ours for route in found)

    def _link_concerns(self, where: int, kind: int, data: bytes, start: int, end: int) -> bool:
        if data[start]:  # the settings of one family, or of a bridge's port, which name no other change
            return False
        seen = self.seen.get(where)
        link = decode.link(data, start, end)
        before = None if seen is None else seen.get(link.index)
        if kind == rtnetlink.RTM_NEWLINK and before is not None and before == fingerprint(link):
            return False  # a flap of a trunk tells this of thousands
        named = link.name in self.names or link.group in LINK_GROUPS
        if kind == rtnetlink.RTM_DELLINK:
            return named and (seen is None or before is not None)
        return named or self.eager


def _namespace(ancillary: Sequence[Tuple[int, int, bytes]]) -> int:
    """The number of the namespace that a message is from; OWN for the socket's."""
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID):
            return int.from_bytes(data[:4], sys.byteorder, signed=True)
    return OWN


class Filter:
    """nf_tables' events: somebody removed a table of ours, here or in a workload's namespace, or something in it. None where the kernel has no nfnetlink."""

    def __init__(self) -> None:
        self._socket: Optional[socket.socket] = None
        with contextlib.suppress(OSError):
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                nftables.NETLINK_NETFILTER,
            )
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
            self._socket.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket else -1

    def read_events(self) -> bool:
        """Read all that came. Whether our table is gone, or something was missed."""
        found = False
        while self._socket is not None:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            found = found or any(
                table == barrier.TABLE or table.startswith(senders.PREFIX) for table in nftables.removed_from(data)
            )
        return found


def _split(data: bytes) -> Iterator[Tuple[int, bytes, int, int]]:
    start = 0
    while start + 16 <= len(data):
        length, kind = rtnetlink.HEADER.unpack_from(data, start)[:2]
        if length < 16:
            return
        yield kind, data, start + 16, start + length
        start += (length + 3) & ~3


def number(paths: Dict[str, str]) -> Dict[str, int]:
    """Give namespaces numbers here, by which their events are heard; the kernel keeps those that have one.

    Returns the numbers, by the names of ``paths``.
    """
    found: Dict[str, int] = {}
    with rtnetlink.Socket() as kernel:
        for name, path in paths.items():
            with contextlib.suppress(OSError, errors.NetlinkError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    body = (
                        struct.pack("=Bxxx", 0) + struct.pack("=HHi", 8, 1, -1) + struct.pack("=HHI", 8, 3, descriptor)
                    )
                    with contextlib.suppress(errors.NetlinkError):
                        kernel.request(rtnetlink.Message(_RTM_NEWNSID, 0, body))
                    number = kernel.ask((encode.get_nsid(descriptor),), decode.nsid)[0]
                    if number is not None:
                        found[name] = number
                finally:
                    os.close(descriptor)
    return found


class Files:
    """inotify(7): named namespaces that come and go, device nodes of taps, leases, and a registry or holds that somebody else wrote."""

    _MODIFY, _ATTRIB, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
    _NAMES = tuple(map(os.fsencode, STAMPED))
    _LEASES = os.fsencode(leases.DIRECTORY)

    def __init__(self, namespaces: str, state_dir: str) -> None:
        import ctypes

        self._registry = Registry(state_dir)
        self.stamp = ""  # as the last look left those files

        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._watches: Dict[int, str] = {}
        os.makedirs(namespaces, 0o755, exist_ok=True)
        self._state = self._add(state_dir, self._MODIFY | self._MOVED_TO | self._CREATE)
        self._add(namespaces, self._CREATE | self._DELETE)

    def _add(self, path: str, mask: int) -> int:
        return int(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))

    def follow(self, directories: Iterable[str]) -> None:
        """Hear of device nodes and leases there that come, go, or change, a node also where it gets another owner or mode."""
        for path in directories:
            self._add(path, self._ATTRIB | self._MOVED_FROM | self._MOVED_TO | self._CREATE | self._DELETE)

    def fileno(self) -> int:
        return self._descriptor

    def read_events(self) -> bool:
        """Read all that came. Whether it may need a look: what the service itself writes to the registry does not."""
        found = written = False
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return found or (written and self._registry.stamp() != self.stamp)
            start = 0
            while start < len(data):
                watch, _mask, _cookie, length = struct.unpack_from("=iIII", data, start)
                name = data[start + 16 : start + 16 + length].rstrip(b"\0")
                found = found or watch != self._state or name == self._LEASES
                written = written or (watch == self._state and name in self._NAMES)
                start += 16 + length


#: Where the engines answer; of podman it is a service that systemd starts when it is asked.
DOCKER, PODMAN = "/run/docker.sock", "/run/podman/podman.sock"


class Engine:
    """Events of Docker or Podman: containers that start. There are none where the engine does not answer."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: Optional[socket.socket] = None

    def connect(self) -> None:
        """Begin to listen, where that is not so already and the engine runs."""
        if self._socket is not None:
            return
        wish = urllib.parse.quote(json.dumps({"type": ["container"], "event": ["start", "die"]}))
        request = f"GET /events?filters={wish} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            new.settimeout(2.0)
            new.connect(self._path)
            new.sendall(request.encode())
            new.setblocking(False)
        except OSError:
            new.close()
            return
        self._socket = new

    def fileno(self) -> int:
        return self._socket.fileno() if self._socket else -1

    def read_events(self) -> bool:
        """Read all that came, until the next ``connect`` where the engine has gone. True: it tells of containers alone."""
        while self._socket is not None:
            try:
                if not self._socket.recv(65536):
                    raise ConnectionResetError
            except BlockingIOError:
                break
            except OSError:
                self._socket.close()
                self._socket = None
        return True
