# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint that wants a lease: its place, its client, and what became of the lease."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import time
from typing import Callable, NamedTuple, Optional, Set, Tuple, Union

from ..core.errors import NamespaceError, NetlinkError, RegistryError
from ..core.formats import ip_of
from ..core.lease_specs import Lease
from ..core.state import Link
from ..store import leases
from .client import Client
from .client6 import Client6
from .held import Held, Want
from .locate import Answer
from .place import Place, Way

#: Events come in bursts: the place is looked at so many seconds after the first, and no more often than this.
SETTLE, APART = 0.05, 1.0
#: Seconds until a client that failed is started again.
RETRY = 5.0


class Rules(NamedTuple):
    """What an endpoint has to know of others, asked anew each time."""

    refuses: Callable[[str, Lease], str]  # why an endpoint may not have a lease; empty where it may
    way: Callable[[str], Way]
    is_held: Callable[[str], bool]  # by a person, so not repaired
    log: Callable[[int, str], None]  # to the journal, with a priority of syslog(3)
    seek: Callable[[], None]  # a workload has gone: another may come in its place
    tell: Callable[[], None]  # there is a lease, or no longer


class Asker:
    """Keeps the lease of one endpoint."""

    def __init__(self, state_dir: str, want: Want, rules: Rules) -> None:
        self.want = want
        self.place: Optional[Place] = None
        self.held: Optional[Held] = None
        self.why = ""  # there is no lease
        self.given_back = ""  # the stamp of the registry then: until it is written again, no other lease is asked for
        self._state_dir, self._rules = state_dir, rules
        self._waiting: Set[asyncio.Future[None]] = set()
        self._process: Optional[int] = None
        self._client: Union[Client, Client6, None] = None
        self._link: Optional[Link] = None
        self._job: Optional[asyncio.Task[None]] = None
        self._next: Optional[asyncio.TimerHandle] = None
        self._looked = 0.0
        self._told = ""

    # -- the place --------------------------------------------------------------------------------

    def settle(self, found: Answer) -> None:
        """The workload is there, or why it is not."""
        if isinstance(found, str):
            self.leave(found)
            return
        status = os.fstat(found.descriptor)
        if self.place is not None and self.place.identity == (status.st_dev, status.st_ino):
            os.close(found.descriptor)
            return
        self.leave("")
        try:
            self.place = Place(found.descriptor)
        except (OSError, NamespaceError) as error:
            self.why = str(error)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self.place.ear, self._hear)
        if found.pid:
            with contextlib.suppress(OSError):  # it has ended, or the kernel is older than 5.3: the next search tells
                self._process = os.pidfd_open(found.pid)
                loop.add_reader(self._process, self._end)
        self.look()

    def _end(self) -> None:
        self.leave("the workload has ended")
        self._rules.seek()

    def leave(self, why: str) -> None:
        """Let go of the place, so that it can end. The lease goes on: its file tells the next client of it."""
        self._stop()
        self.held, self.why = None, why
        loop = asyncio.get_running_loop()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._process is not None:
            loop.remove_reader(self._process)
            os.close(self._process)
            self._process = None
        if self.place is not None:
            loop.remove_reader(self.place.ear)
            self.place.close()
            self.place = None

    def _hear(self) -> None:
        if self.place is not None and self.place.heard():
            self._soon(max(SETTLE, self._looked + APART - time.monotonic()) if self.held else SETTLE)

    def _soon(self, seconds: float) -> None:
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(seconds, self.look)

    def look(self) -> None:
        """Have a client where there is the link, and what the lease gave on it."""
        if self._next is not None:
            self._next.cancel()
        self._next, self._looked = None, time.monotonic()
        if self.place is None or self.given_back:
            return
        try:
            link = self.place.link(self.want.interface, self.want.mac)
            if link is None or (self._link is not None and link.index != self._link.index):
                self._stop()
                self.held = None
            if link is None or not link.up:
                self.why = f"{self.want.interface} is {'down' if link else 'not there'}"
                return
            if self._client is None:
                self._start(self.place, link)
            elif self.held is not None and not self._rules.is_held(self.want.key):
                self._put(self.held)
        except (NetlinkError, OSError) as error:
            self._fail(str(error))

    def _start(self, place: Place, link: Link) -> None:
        self._link, self.why = link, ""
        kind = Client6 if self.want.version == 6 else Client
        self._client = kind(self.want, place, link, self._earlier(), self)
        self._job = asyncio.get_running_loop().create_task(self._client.run())
        self._job.add_done_callback(self._ended)

    def _earlier(self) -> Optional[Held]:
        """The lease of before the service, the host or the workload was started again."""
        lease = leases.load_one(self._state_dir, self.want.key)
        if lease is None or lease["client_id"] != self.want.client_id.hex():
            return None
        held = Held(lease)
        # A clock that went back would stretch it: then a server has to say how long it lasts.
        return None if held.expired or lease["obtained"] > time.time() else held

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
        self._client = self._job = self._link = None

    def _ended(self, job: asyncio.Task[None]) -> None:
        """A client does not end by itself."""
        if job.cancelled() or job is not self._job:
            return
        self._stop()
        self.held = None
        self._fail(f"the client failed: {job.exception()!r}")

    def _fail(self, why: str) -> None:
        self.trouble(why)
        self._soon(RETRY)

    # -- what the client says ---------------------------------------------------------------------

    def refuses(self, lease: Lease) -> str:
        """Why a lease is not taken; empty where it is."""
        if self.place is None or self._link is None:
            return "the link is gone"
        for it in self.place.addresses(self.want.version):
            if it.ifindex == self._link.index:
                continue
            if ip_of(it.address) == ip_of(lease["address"]):
                return f"{ip_of(it.address)} is on another link of the workload"
            if self.want.version == 6:
                continue  # of which a lease says nothing but the address itself
            given, other = (ipaddress.IPv4Interface(address).network for address in (lease["address"], it.address))
            if given != other and given.subnet_of(other):
                return f"{given} is part of {other}, which is behind another link of the workload"
        return self._rules.refuses(self.want.key, lease)

    def bound(self, held: Held) -> None:
        """There is a lease, or the same for longer."""
        if self.given_back:
            return
        before, self.held = self.held, held
        try:
            self._put(held)
            leases.save(self._state_dir, held.lease)
        except (NetlinkError, RegistryError, OSError) as error:
            self._fail(str(error))
            return
        self.why = self._told = ""
        self._rules.tell()
        if before is None or before.lease["address"] != held.lease["address"]:
            seconds = f"for {held.left} s" if held.expiration_in is not None else "forever"
            self._rules.log(6, f"{self.want.key}: {held.lease['address']} from {held.server_id} {seconds}")
        self._wake()

    def lost(self, why: str) -> None:
        """There is none any more."""
        self.held = None
        self._forget()
        self.trouble(why)
        self._rules.tell()

    def trouble(self, why: str) -> None:
        """Why there is none yet: to the journal once."""
        self.why = why
        if why != self._told:
            self._told = why
            self._rules.log(4, f"{self.want.key}: {why}")

    def _put(self, held: Held) -> None:
        if self.place is None or self._link is None:
            return
        if self.want.version == 6:
            self.place.put_ipv6(self._link, held)
        else:
            for note in self.place.put(self._link, held.lease, held.left, self._rules.way(self.want.endpoint)):
                if note != self._told:
                    self._told = note
                    self._rules.log(4, f"{self.want.key}: {note}")

    def _forget(self) -> None:
        """What the lease gave goes, and its file."""
        with contextlib.suppress(NetlinkError, OSError):
            if self.place is not None and self._link is not None:
                self.place.take(self._link, self.want.version)
        with contextlib.suppress(RegistryError):
            leases.remove(self._state_dir, self.want.key)

    # -- what others ask --------------------------------------------------------------------------

    async def wait(self, seconds: float) -> Tuple[Optional[Lease], str]:
        """The lease, as soon as there is one; else why there is none."""
        if self.given_back:
            self.given_back = ""
            self.look()
        if self.held is None:
            ready = asyncio.get_running_loop().create_future()
            self._waiting.add(ready)
            try:
                await asyncio.wait_for(ready, seconds)
            except asyncio.TimeoutError:
                return None, self.why or f"no DHCP server answered on {self.want.interface}"
            finally:
                self._waiting.discard(ready)
        return (self.held.lease, "") if self.held is not None else (None, self.why)

    def _wake(self) -> None:
        for ready in self._waiting:
            if not ready.done():
                ready.set_result(None)

    async def release(self, stamp: str) -> bool:
        """Give the lease back and ask for no other. Whether there was one."""
        self.given_back, self.held = stamp, None
        found = self._client is not None and self._client.lease is not None
        if self._client is not None:
            with contextlib.suppress(Exception):  # whatever the network does, the link is about to go
                await self._client.give_back()
        self._forget()
        self._stop()
        self._wake()
        return found
