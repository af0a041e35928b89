# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the clients of both IP versions and those who keep their leases say to each other."""

from __future__ import annotations

import time
from typing import NamedTuple, Optional, Protocol

from ..core.lease_specs import Lease, lease_key
from . import packet


class Want(NamedTuple):
    """What an endpoint asks with, and where."""

    endpoint: str  # NETWORK/NAME
    version: int
    workload: str
    interface: str
    mac: str  # empty for that of the link
    client_id: bytes  # for IPv6 the IAID and the DUID
    hostname: str

    @property
    def key(self) -> str:
        """What the lease is known by."""
        return lease_key(self.endpoint, self.version)


class Keeper(Protocol):
    """Who puts a lease where it belongs."""

    def refuses(self, lease: Lease) -> str:
        """Why a lease is not taken; empty where it is."""

    def bound(self, held: Held) -> None:
        """There is a lease, or the same for longer."""

    def lost(self, why: str) -> None:
        """There is none any more."""

    def trouble(self, why: str) -> None:
        """Why there is none yet."""


class Held:
    """A lease that is held, as pyroute2 asks of one; by a clock that is never set."""

    def __init__(self, lease: Lease, server_mac: str = "ff:ff:ff:ff:ff:ff") -> None:
        self.lease = lease
        self.server_mac = server_mac
        self._origin = time.monotonic() - time.time()

    @property
    def ip(self) -> str:
        return self.lease["address"].partition("/")[0]

    @property
    def server_id(self) -> str:
        return self.lease["server"]

    @property
    def left(self) -> int:
        """Seconds that it lasts, as the kernel counts them."""
        return self._seconds(self.lease["expires"])

    @property
    def preferred(self) -> int:
        """Seconds for which new connections may begin from its address, as the kernel counts them."""
        return self._seconds(self.lease["preferred"])

    def _seconds(self, then: int) -> int:
        if then - self.lease["obtained"] >= packet.FOREVER:
            return packet.FOREVER
        return max(0, min(packet.FOREVER - 1, round(self._until(then))))

    @property
    def expired(self) -> bool:
        return self._until(self.lease["expires"]) <= 0

    @property
    def renewal_in(self) -> Optional[float]:
        return self._timer(self.lease["renew"])

    @property
    def rebinding_in(self) -> Optional[float]:
        return self._timer(self.lease["rebind"])

    @property
    def expiration_in(self) -> Optional[float]:
        return self._timer(self.lease["expires"])

    def _until(self, then: int) -> float:
        return then + self._origin - time.monotonic()

    def _timer(self, then: int) -> Optional[float]:
        """None: never. What is past is due now, which pyroute2 would take for never."""
        return None if packet.is_forever(self.lease) else max(0.05, self._until(then))

    def dump(self) -> None:
        """The keeper does that, once the lease is where it belongs."""
