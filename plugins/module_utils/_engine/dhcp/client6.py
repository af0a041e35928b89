# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One endpoint's DHCPv6 client: one address, asked for and kept (RFC 8415, 18.2).

It is ours, for no client of others fits: docs/decisions/9-a-dhcpv6-client.md. It does without what an endpoint has no use for: prefixes,
temporary addresses, rapid commit, reconfiguration and authentication. The kernel finds duplicates, and takes the routes that routers advertise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from typing import Callable, List, NamedTuple, Optional, Tuple, TypeVar, Union

from ..core.lease_specs import Lease
from ..core.state import Link
from . import packet6
from .held import Held, Keeper, Want
from .packet import Nonsense
from .packet6 import Option, Refused, Reply
from .place import Place

_CLIENT_PORT, _SERVER_PORT = 546, 547
#: All servers and relays of a link (RFC 8415, 7.1).
_SERVERS = "ff02::1:2"
#: Seconds until what could not be sent is sent again, and for which that is no news: duplicates of a link-local address are looked for first.
_UNSENT, _USUAL = 0.2, 5.0
#: So many answers wait to be judged; the next are not heard.
_MOST = 64
T = TypeVar("T")
Judge = Callable[[Reply], Optional[T]]
#: What an answer gives, or why it gives nothing; None where it does not count.
Judged = Union[Lease, str, None]


class Waits(NamedTuple):
    """Seconds until a message is repeated, first and at most, how often it is sent, and seconds for all (RFC 8415, 15); 0 for no end."""

    first: float
    most: float
    times: int = 0
    all: float = 0.0


#: RFC 8415, 7.6; but SOLICIT as often as RFC 3315 had it, for a task that waits, and RELEASE briefly: many may go in one task.
SOLICIT, REQUEST, CONFIRM = Waits(1.0, 120.0), Waits(1.0, 30.0, 10), Waits(1.0, 4.0, 0, 10.0)
RENEW, DECLINE, RELEASE = Waits(10.0, 600.0), Waits(1.0, 4.0, 4, 15.0), Waits(0.2, 0.4, 2, 1.0)
#: Seconds until it begins again after an address that another host has, and at most after a server that takes back what it offers.
DECLINED, LONGEST = 10.0, 60.0


class Client6:
    """Asks for a lease and keeps it, until it is stopped."""

    def __init__(self, want: Want, place: Place, link: Link, held: Optional[Held], keeper: Keeper) -> None:
        self.want, self.place, self.link, self.keeper = want, place, link, keeper
        self.lease = held
        self._wire: Optional[socket.socket] = None
        self._work: Optional[asyncio.Task[None]] = None
        self._ending = False
        self._xid = b""  # of the answers that are heard
        self._heard: asyncio.Queue[Reply] = asyncio.Queue(_MOST)
        self._times = 0  # that the message of the exchange was sent
        self._sent = 0.0  # when the first message of the exchange was, in seconds since the epoch
        self._failures = 0

    async def run(self) -> None:
        """Ask and keep, until it is cancelled. Raises OSError and NetlinkError."""
        loop = asyncio.get_running_loop()
        with self.place.datagrams(self.link, _CLIENT_PORT) as wire:
            self._wire = wire
            loop.add_reader(wire, self._read, wire)
            try:
                self._work = loop.create_task(self._ask_and_keep())
                await asyncio.wait({self._work})
                if self._ending:
                    await asyncio.Event().wait()
                self._work.result()
            finally:
                loop.remove_reader(wire)
                self._wire = None
                if self._work is not None:
                    self._work.cancel()

    async def give_back(self) -> None:
        """Tell the server that the address is free, and wait for its answer as long as the task may."""
        if self.lease is None or self.lease.expired or self._work is None:
            return
        self._ending = True
        self._work.cancel()
        lease = self.lease.lease
        await self._ask(packet6.RELEASE, self._of(lease), RELEASE, lambda reply: reply.type == packet6.REPLY or None)

    # -- the life of a lease ----------------------------------------------------------------------

    async def _ask_and_keep(self) -> None:
        held = await self._confirm(self.lease) if self.lease is not None else None
        while True:
            if held is None:
                self.lease = None
                held = await self._begin()
            self.lease, self._failures = held, 0
            self.keeper.bound(held)
            held = await self._extend(held)

    async def _begin(self) -> Held:
        """A lease of the server that wants to be taken most, however long that takes."""
        while True:
            found = await self._request(await self._solicit())
            if isinstance(found, Held) and await self._take(found):
                return found
            self._failures += 1
            if not isinstance(found, Held):
                self.keeper.trouble(found)
            # Once at once; a server that takes back each offer is not asked without end.
            await asyncio.sleep(0.0 if self._failures == 1 else min(LONGEST, 2.0**self._failures))

    async def _solicit(self) -> Lease:
        offers: List[Tuple[int, Lease]] = []

        def judge(reply: Reply) -> Optional[Lease]:
            lease = self._judged(reply, packet6.ADVERTISE, "")
            if isinstance(lease, str):
                self.keeper.trouble(lease)
            elif lease is not None:
                offers.append((-reply.preference, lease))
                if reply.preference == packet6.MOST_PREFERRED or self._times > 1:
                    return lease
            return None

        def best() -> Optional[Lease]:
            return min(offers, key=lambda offer: offer[0])[1] if offers else None

        options = [packet6.wants(self.want.client_id), *packet6.asks(self.want.hostname)]
        while True:
            found = await self._ask(packet6.SOLICIT, options, SOLICIT, judge, best)
            if found is not None:
                return found

    async def _request(self, offer: Lease) -> Union[Held, str]:
        options = [*self._of(offer), *packet6.asks(self.want.hostname)]
        found: Judged = await self._ask(
            packet6.REQUEST, options, REQUEST, lambda reply: self._judged(reply, packet6.REPLY, offer["server_duid"])
        )
        if found is None:
            return f"the server {offer['server']} does not answer a request for its offer"
        return found if isinstance(found, str) else Held(found)

    async def _confirm(self, held: Held) -> Optional[Held]:
        """Whether the link still is where a lease is from. No answer says nothing against it (RFC 8415, 18.2.3)."""

        def judge(reply: Reply) -> Optional[str]:
            if reply.type != packet6.REPLY:
                return None
            try:
                reply.check()
            except Refused as error:
                return (
                    f"the server {reply.sender} refuses the address: {error}"
                    if error.status == packet6.NOT_ON_LINK
                    else None
                )
            return "yes"

        options = [packet6.wants(self.want.client_id, held.lease["address"])]
        said = await self._ask(packet6.CONFIRM, options, CONFIRM, judge)
        why = (self.keeper.refuses(held.lease) if said in (None, "yes") else said) or ""
        if why or held.expired:
            self.keeper.lost(why or "the lease has expired")
            return None
        return held if await self._take(held) else None

    async def _extend(self, held: Held) -> Optional[Held]:
        """The same lease for longer, or another in its place; None where there is none any more."""
        await _sleep(held.renewal_in)
        lease = held.lease
        for kind, server, options, end in (
            (packet6.RENEW, lease["server_duid"], self._of(lease), held.rebinding_in),
            (packet6.REBIND, "", self._of(lease)[1:], held.expiration_in),
        ):
            found: Judged = await self._ask(
                kind,
                [*options, *packet6.asks(self.want.hostname)],
                RENEW._replace(all=end or 0.05),
                lambda reply, server=server: self._judged(reply, packet6.REPLY, server),  # type: ignore[misc]
            )
            if found is not None:
                break
        if found is None:
            self.keeper.lost("the lease has expired")
            return None
        later: Union[Held, str] = found if isinstance(found, str) else Held(found)
        if (
            isinstance(later, str) and kind == packet6.RENEW
        ):  # a server that knows of none is asked for the same again (18.2.10.1)
            later = await self._request(lease)
        if isinstance(later, str):
            self.keeper.lost(later)
            return None
        if later.ip != held.ip and not await self._take(later):
            self.keeper.lost(f"{held.ip} is no longer given")
            return None
        return later

    async def _take(self, held: Held) -> bool:
        """Have the address of a lease; False where another host has it already, which the server hears."""
        if await self.place.claim(self.link, held):
            return True
        why = f"{held.ip}, which {held.server_id} gave, is at another host already"
        self.keeper.lost(why)
        self.lease = None
        await self._ask(
            packet6.DECLINE, self._of(held.lease), DECLINE, lambda reply: reply.type == packet6.REPLY or None
        )
        await asyncio.sleep(DECLINED)
        return False

    def _of(self, lease: Lease) -> List[Option]:
        """A lease, as its server knows it."""
        return [packet6.to(lease["server_duid"]), packet6.wants(self.want.client_id, lease["address"])]

    def _judged(self, reply: Reply, kind: int, server: str) -> Judged:
        """An answer, where it is of a kind, and of a server, if one is given."""
        if reply.type != kind or (server and reply.server.hex() != server):
            return None
        try:
            lease = packet6.lease(reply, self.want.endpoint, self.link.mac, self.want.client_id, self._sent)
            why = self.keeper.refuses(lease)
        except Nonsense as error:
            why = str(error)
        except Refused as error:
            return f"the server {reply.sender} gives no address: {error}"
        if why:
            self.keeper.trouble(f"the offer of {reply.sender} is refused: {why}")
            return None
        return lease

    # -- the wire ---------------------------------------------------------------------------------

    async def _ask(
        self,
        kind: int,
        options: List[Option],
        waits: Waits,
        judge: Judge[T],
        instead: Callable[[], Optional[T]] = lambda: None,
    ) -> Optional[T]:
        """The first answer that counts, or else what there is ``instead`` when the message would be sent again."""
        self._xid = os.urandom(3)
        began, self._sent = time.monotonic(), time.time()
        end = began + waits.all if waits.all else float("inf")
        self._times, wait = 0, 0.0
        while True:
            elapsed = time.monotonic() - began
            why = self._send(packet6.message(kind, self._xid, self.want.client_id, elapsed, options))
            if not why:
                self._times += 1
                least = 0.0 if kind == packet6.SOLICIT and not wait else -0.1
                usual = min(2 * wait, waits.most) if wait else waits.first
                wait = usual * (1 + random.uniform(least, 0.1))
            elif elapsed > _USUAL:
                self.keeper.trouble(f"nothing can be sent on {self.link.name}: {why}")
            until = time.monotonic() + (_UNSENT if why else wait)
            while True:
                reply = await self._hear(min(until, end))
                found = judge(reply) if reply is not None else instead()
                if found is not None or reply is None:
                    break
            if found is not None or time.monotonic() >= end or 0 < waits.times <= self._times:
                self._xid = b""
                return found

    def _send(self, data: bytes) -> str:
        """Why a message could not be sent; empty where it was. There may be no link-local address yet, or the link is down."""
        if self._wire is None:
            return "the link is gone"
        try:
            self._wire.sendto(data, (_SERVERS, _SERVER_PORT, 0, self.link.index))
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _read(self, wire: socket.socket) -> None:
        """Take in what came: all of it, for what is left would be reported without end."""
        with contextlib.suppress(OSError, asyncio.QueueFull):
            while True:
                data, sender = wire.recvfrom(65536)
                reply = packet6.parse(data, sender[0])
                if reply is not None and (reply.xid, reply.client) == (self._xid, self.want.client_id[4:]):
                    self._heard.put_nowait(reply)

    async def _hear(self, until: float) -> Optional[Reply]:
        """The next answer to the message that was sent last."""
        while (left := until - time.monotonic()) > 0:
            try:
                reply = await asyncio.wait_for(self._heard.get(), left)
            except asyncio.TimeoutError:
                break
            if reply.xid == self._xid:
                return reply
        return None


async def _sleep(seconds: Optional[float]) -> None:
    """None: until it is cancelled."""
    if seconds is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(seconds)
