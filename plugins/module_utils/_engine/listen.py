# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service hears: the kernel's links, addresses and routes, named namespaces, the registry, and container engines.

Each ear has a descriptor to poll and says whether what it heard may be about something of ours: nobody is woken for
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
from typing import Any, Dict, Iterator, Optional, Protocol, Set, Tuple

from . import rtnetlink
from .rtnetlink import attributes
from .world import LINK_GROUP, PROTOCOL

_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID = 270, 8
_RTM_NEWNSID, _RTM_DELNSID = 88, 89
#: RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _NSID
_GROUPS = (1, 5, 7, 9, 11, 28)
_RECEIVE = 1 << 20  # bytes of events that may wait; more is ENOBUFS, and then the host is looked at
_IFLA_IFNAME, _IFLA_GROUP, _IFA_PROTO = 3, 27, 11
_MESSAGES = (
    rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK, rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR, rtnetlink.RTM_DELROUTE, _RTM_DELNSID,
)  # fmt: skip


class Ear(Protocol):
    """What is polled, and then asked."""

    def fileno(self) -> int:
        """Of what is to be polled; negative for nothing."""

    def heard(self) -> bool:
        """Whether something since the last time may be about us."""


class Kernel:
    """rtnetlink's events, of this namespace and of every other that has a number here (see ``number``)."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
        self._socket.bind((0, sum(1 << (group - 1) for group in _GROUPS)))
        self.names: Set[str] = set()  # of links that are ours, or that ours stand on
        self.eager = False  # something waits: whatever comes may be it

    def fileno(self) -> int:
        return self._socket.fileno()

    def heard(self) -> bool:
        """Whether anything since the last time may be about us; also where the kernel had to drop some."""
        found = False
        while True:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True
                continue
            found = found or any(self._concerns(*message) for message in _split(data))

    def _concerns(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind not in _MESSAGES:
            return False
        if kind in (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK):
            for what, first, last in attributes(data, start + 16, end):
                if what == _IFLA_IFNAME and data[first:last].rstrip(b"\0").decode("utf-8", "replace") in self.names:
                    return True
                if what == _IFLA_GROUP and int.from_bytes(data[first:last], sys.byteorder) == LINK_GROUP:
                    return True
            return self.eager and kind == rtnetlink.RTM_NEWLINK
        if kind == rtnetlink.RTM_NEWADDR:
            return self.eager
        if kind == rtnetlink.RTM_DELADDR:
            protocols = [data[first] for what, first, _last in attributes(data, start + 8, end) if what == _IFA_PROTO]
            return not protocols or protocols[0] == PROTOCOL
        if kind == rtnetlink.RTM_DELROUTE:
            return data[start + 5] == PROTOCOL
        return True


def _split(data: bytes) -> Iterator[Tuple[int, bytes, int, int]]:
    start = 0
    while start + 16 <= len(data):
        length, kind = rtnetlink.HEADER.unpack_from(data, start)[:2]
        if length < 16:
            return
        yield kind, data, start + 16, start + length
        start += (length + 3) & ~3


def number(paths: Dict[str, str]) -> None:
    """Give namespaces numbers here, by which their events are heard; the kernel keeps those that have one."""
    with rtnetlink.Socket() as kernel:
        for path in paths.values():
            with contextlib.suppress(OSError, rtnetlink.NetlinkError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    body = struct.pack("=Bxxx", 0) + struct.pack("=HHi", 8, 1, -1) + struct.pack("=HHI", 8, 3, descriptor)
                    kernel.request(rtnetlink.Message(_RTM_NEWNSID, 0, body))
                finally:
                    os.close(descriptor)


class Files:
    """inotify(7): named namespaces that come and go, and a registry or holds that somebody else wrote."""

    _MODIFY, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x80, 0x100, 0x200
    _NAMES = (b"registry.db", b"holds.json")

    def __init__(self, namespaces: str, state_dir: str) -> None:
        import ctypes

        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        self._watches: Dict[int, str] = {}
        os.makedirs(namespaces, 0o755, exist_ok=True)
        self._state = self._add(state_dir, self._MODIFY | self._MOVED_TO)
        self._add(namespaces, self._CREATE | self._DELETE)

    def _add(self, path: str, mask: int) -> int:
        return int(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))

    def fileno(self) -> int:
        return self._descriptor

    def heard(self) -> bool:
        found = False
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return found
            start = 0
            while start < len(data):
                watch, _mask, _cookie, length = struct.unpack_from("=iIII", data, start)
                name = data[start + 16 : start + 16 + length].rstrip(b"\0")
                found = found or watch != self._state or name in self._NAMES
                start += 16 + length


#: Where the engines answer; of podman it is a service that systemd starts for whoever asks.
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

    def heard(self) -> bool:
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
