# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One endpoint's DHCP client: pyroute2's, with what it leaves to others.

Of pyroute2 are the state machine, its timers, what is sent, and the frames around that. Of ours are the socket in another namespace, the
reading of answers (``packet``), the probe before an address is used, DECLINE, and what happens where no server answers or one lies.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import Any, Iterator, List, Optional

from ..core.lease_specs import Lease
from ..core.state import Link
from . import packet
from .held import Held, Keeper, Want
from .place import Place

try:
    from pyroute2.dhcp import CodeMapping, messages
    from pyroute2.dhcp.client import AsyncDHCPClient, ClientConfig
    from pyroute2.dhcp.dhcp4msg import dhcp4msg
    from pyroute2.dhcp.dhcp4socket import AsyncDHCP4Socket, listen_udp_port
    from pyroute2.dhcp.enums import bootp, dhcp
    from pyroute2.dhcp.fsm import State, state_guard
    from pyroute2.dhcp.xids import Xid
    from pyroute2.ext import bpf

    LACKING = ""
except ImportError as error:  # it is beside the engine only on hosts that ask for leases
    LACKING = str(error)

    class _Absent:
        """Stands for what is missing, so that this can be imported everywhere."""

        def __getattr__(self, _name: str) -> Any:
            return object

    AsyncDHCPClient = AsyncDHCP4Socket = object
    messages = State = _Absent()

    def state_guard(*_states: Any) -> Any:
        return lambda method: method


_ETH_P_IP, _CLIENT_PORT = 0x0800, 68
_SO_ATTACH_FILTER = 26
#: Seconds in a state before it is left: in REBOOTING no server answers for the address of before, in REQUESTING the server is silent.
TIMEOUTS = {"REBOOTING": 8.0, "REQUESTING": 10.0, "SELECTING": 600.0}
#: Seconds until it begins again after an address that another host has (RFC 2131, 3.1), and at most after a server that takes back its offers.
DECLINED, LONGEST = 10.0, 60.0
#: Seconds until a message is repeated: the first of RFC 2131, 4.1, and the longest there.
_FIRST, _LAST = 4.0, 64.0
_LARGEST_MESSAGE = 1472


class _Loader:
    """Stands where pyroute2 expects a class of leases."""

    def __init__(self, held: Optional[Held]) -> None:
        self._held = held

    def load(self, _interface: str) -> Optional[Held]:
        return self._held


class _Received(messages.ReceivedDHCPMessage):
    """An answer as pyroute2 reads one, and as it came."""

    def __init__(self, reply: packet.Reply) -> None:
        options = {"message_type": reply.type, "server_id": reply.server}
        super().__init__({"yiaddr": reply.address, "xid": reply.xid, "options": options}, reply.sender)
        self.reply = reply


class _Wire(AsyncDHCP4Socket):
    """The socket on the endpoint's link, wherever that is."""

    def __init__(self, place: Place, link: Link) -> None:
        super().__init__(link.name)
        self._place, self._link = place, link
        self._shield: Optional[socket.socket] = None

    async def __aenter__(self) -> _Wire:
        with self._place.packets(self._link, 0) as other:
            socket.socket.__init__(self, fileno=other.detach())
        self.setblocking(False)
        fields, self._program = bpf.compile(listen_udp_port(_CLIENT_PORT))
        self.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fields)
        self.bind((self._link.name, _ETH_P_IP))
        self.l2addr, self.ifindex = self._link.mac, self._link.index
        self._shield = self._place.shield(self._link, _CLIENT_PORT)
        return self

    async def __aexit__(self, *_rest: object) -> None:
        self.close()
        if self._shield is not None:
            self._shield.close()

    async def get(self) -> _Received:
        """The next answer to this client. A link that is down says so once, and may come back."""
        while True:
            try:
                frame = await self.loop.sock_recv(self, 4096)
            except OSError:
                await asyncio.sleep(0.5)
                continue
            reply = packet.parse(frame)
            if reply is not None and reply.mac == self.l2addr and reply.xid != 2**32 - 1:  # no Xid of pyroute2's
                return _Received(reply)


class Client(AsyncDHCPClient):
    """Asks for a lease and keeps it, until it is stopped."""

    def __init__(self, want: Want, place: Place, link: Link, held: Optional[Held], keeper: Keeper) -> None:
        config = ClientConfig(
            interface=link.name,
            lease_type=_Loader(held),
            requested_parameters=[dhcp.Option(number) for number in packet.WANTED],
            timeouts={getattr(State, name): seconds for name, seconds in TIMEOUTS.items()},
            retransmission=self._waits,
            release=False,
            handle_signals=False,
            vendor_id=None,
            host_name=want.hostname,
        )
        super().__init__(config)
        self._sock = _Wire(place, link)
        self.want, self.place, self.link, self.keeper = want, place, link, keeper
        self._server = held.server_id if held else ""  # whom the request is for
        self._failures = 0
        self._again: Optional[asyncio.TimerHandle] = None
        self._jobs: List[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Ask and keep, until it is cancelled."""
        async with self:
            try:
                await self.bootstrap()
                await asyncio.wait(
                    {self._receiver_task, self._sender_task}, return_when=asyncio.FIRST_COMPLETED
                )  # neither ends by itself
            finally:
                if self._again is not None:
                    self._again.cancel()
                if self._state_watchdog:
                    self._state_watchdog.cancel()

    async def give_back(self) -> None:
        """Tell the server that the address is free. No answer comes to that."""
        if self._lease is not None and not self._lease.expired:
            await self._send_message(messages.release(lease=self._lease))

    # -- what is sent -----------------------------------------------------------------------------

    async def _send_message(self, msg: Any) -> None:
        msg.dhcp["secs"] = min(int(time.time() - self.last_state_change), 0xFFFF) if self.last_state_change else 0
        msg.dhcp["xid"] = self.xid.for_state(self.state)
        options = msg.dhcp["options"]
        msg.dhcp._encode_map["client_id"] = CodeMapping("client_id", dhcp.Option.CLIENT_ID, "array8")
        options["client_id"] = list(self.want.client_id)
        if options["message_type"] not in (dhcp.MessageType.RELEASE, dhcp.MessageType.DECLINE):
            options["host_name"] = self.want.hostname
            options["max_msg_size"] = _LARGEST_MESSAGE
        try:
            await self._sock.put(msg)
        except OSError as error:  # the link is down, or its queue is full: there is a next time
            self.keeper.trouble(f"nothing can be sent on {self.link.name}: {error.strerror}")

    def _waits(self) -> Iterator[float]:
        """Seconds until the next repetition (RFC 2131, 4.1 and 4.4.5)."""
        wait = _FIRST
        while True:
            if self.state in (State.RENEWING, State.REBINDING) and self._lease is not None:
                until = self._lease.rebinding_in if self.state is State.RENEWING else self._lease.expiration_in
                yield max(60.0, (until or 0.0) / 2)
            else:
                yield wait + random.uniform(-1.0, 1.0)
                wait = min(2 * wait, _LAST)

    # -- what is heard ----------------------------------------------------------------------------

    async def _process_msg(self, msg: _Received) -> None:
        if self.xid.matches(msg.xid):
            handler = {packet.OFFER: self.offer_received, packet.ACK: self.ack_received, packet.NAK: self.nak_received}
            if msg.reply.type in handler:
                await handler[msg.reply.type](msg)

    def _judged(self, reply: packet.Reply) -> Optional[Lease]:
        """What an answer gives, where it can be used."""
        want = self.want
        try:
            lease = packet.lease(reply, want.endpoint, want.mac, want.client_id, self.last_state_change)
            why = self.keeper.refuses(lease)
        except packet.Nonsense as error:
            why = str(error)
        if why:
            self.keeper.trouble(f"the offer of {reply.server or reply.sender} is refused: {why}")
            return None
        return lease

    @state_guard(State.SELECTING)  # type: ignore[untyped-decorator]
    async def offer_received(self, msg: _Received) -> None:
        if self._judged(msg.reply) is not None:
            self._server = msg.reply.server
            offer = messages.request_for_offer(parameter_list=self.config.requested_parameters, offer=msg)
            await self.transition(to=State.REQUESTING, send=offer)

    @state_guard(State.REQUESTING, State.REBOOTING, State.RENEWING, State.REBINDING)  # type: ignore[untyped-decorator]
    async def ack_received(self, msg: _Received) -> None:
        state, reply = self.state, msg.reply
        if state in (State.REQUESTING, State.RENEWING) and reply.server != self._server:
            return
        lease = self._judged(reply)
        if lease is None:
            return
        held = Held(lease, reply.sender)
        rival = await self._rival(held)
        if self.state is not state:  # it took too long
            return
        if rival:
            await self._decline(held, rival)
            return
        self._server, self._failures = reply.server, 0
        self.lease = held
        await self.transition(to=State.BOUND)
        self.keeper.bound(held)

    @state_guard(State.REQUESTING, State.REBOOTING, State.RENEWING, State.REBINDING)  # type: ignore[untyped-decorator]
    async def nak_received(self, msg: _Received) -> None:
        if self.state in (State.REQUESTING, State.RENEWING) and msg.reply.server not in ("", self._server):
            return
        self._failures += 1
        why = f"the server {msg.reply.server or msg.reply.sender} refuses the address"
        if self._lease is not None:
            self.keeper.lost(why)
        else:
            self.keeper.trouble(why)
        # Once at once, for an address of another network; a server that takes back each offer is not asked without end.
        await self._begin(0.0 if self._failures == 1 else min(LONGEST, 2.0**self._failures))

    async def _rival(self, held: Held) -> str:
        """Who else has the address of a lease, where the link does not have it already."""
        there = {(it.ifindex, it.address) for it in self.place.addresses(4)}
        return "" if (self.link.index, held.lease["address"]) in there else await self.place.holder(self.link, held.ip)

    async def _decline(self, held: Held, rival: str) -> None:
        """RFC 2131, 4.4.4"""
        if self._lease is not None:
            self.keeper.lost(f"{held.ip} is at {rival} already")
        self.keeper.trouble(f"{held.ip}, which {held.server_id} gave, is at {rival} already")
        options = {"message_type": dhcp.MessageType.DECLINE, "requested_ip": held.ip, "server_id": held.server_id}
        content = {"op": bootp.MessageType.BOOTREQUEST, "flags": bootp.Flag.BROADCAST, "options": options}
        await self._send_message(messages.SentDHCPMessage(dhcp=dhcp4msg(content)))
        await self._begin(DECLINED)

    # -- beginning again --------------------------------------------------------------------------

    async def reset(self, delay: float = 0.0, signal: Any = None) -> None:
        """pyroute2 calls it as a task of its own, which the next change of state would cancel."""
        await asyncio.sleep(delay)
        self._state_watchdog = None
        if self.state is State.REBOOTING and self._lease is not None and not self._lease.expired:
            await self._resume(self._lease)  # no answer, which says nothing against the lease (RFC 2131, 3.2)
        else:
            await self._begin(0.0)

    async def _resume(self, held: Held) -> None:
        rival = await self._rival(held)
        if self.state is not State.REBOOTING:
            return
        if rival or self.keeper.refuses(held.lease):
            self.keeper.lost(f"{held.ip} is at {rival} already" if rival else self.keeper.refuses(held.lease))
            await self._begin(0.0)
            return
        self.lease = held
        await self.transition(to=State.BOUND)
        self.keeper.bound(held)

    async def _expire_lease(self) -> None:
        self.keeper.lost("the lease has expired")
        await self._begin(0.0)

    async def _begin(self, wait: float) -> None:
        """Without a lease, after so many seconds."""
        if self.state is not State.INIT:
            await self.transition(to=State.INIT)
        self._lease = None
        self.lease_timers.cancel()
        self._xid = Xid()
        loop = asyncio.get_running_loop()
        self._again = loop.call_later(wait, lambda: self._jobs.append(loop.create_task(self._start())))

    async def _start(self) -> None:
        self._jobs = [job for job in self._jobs if not job.done()]
        await self.bootstrap()
