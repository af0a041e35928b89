# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""The top-of-rack switch of a rack: learns addresses, keeps VLANs apart, and lets cables be pulled.

It is a program, because not every machine's kernel has a bridge that filters VLANs. A port is a socket of packets that
a host's NIC connects to whenever it comes up, or a tap device on the controller's side.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

NATIVE = 1  # the VLAN of frames without a tag, unless a port says otherwise: the controller is in it
TAG = 0x8100
TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
PCAP_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 16, 1)


@dataclass
class Port:
    name: str
    untagged: int | None = None  # the VLAN of what comes and goes without a tag
    tagged: frozenset[int] = frozenset()
    plugged: bool = True
    mtu: int | None = None  # the largest packet that it lets through, either way; None for any
    seen: Counter[int | None] = field(default_factory=Counter)  # frames that came in, by their tag, carried or not
    descriptor: int | None = None  # None while there is no other end

    def carries(self, vlan: int) -> bool:
        return self.plugged and (vlan == self.untagged or vlan in self.tagged)

    def fits(self, untagged: bytes) -> bool:
        return self.mtu is None or len(untagged) <= 14 + self.mtu


class Switch:
    """Runs from `start` to `stop` in a thread of its own; all else may be called from any other at any time."""

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}
        self._learned: dict[tuple[int, bytes], Port] = {}
        self._waiting = selectors.DefaultSelector()
        self._wake, self._woken = os.pipe()
        self._lock = threading.RLock()
        self._record: int | None = None
        self._thread = threading.Thread(target=self._work, name="switch", daemon=True)
        self._waiting.register(self._wake, selectors.EVENT_READ)

    # --- what NetOps do ---

    def vlans(self, host: str, nic: str, tagged: Iterable[int]) -> None:
        """Carry exactly these VLANs, tagged, on the port of a host's NIC; its untagged one stays."""
        with self._lock:
            self.port(host, nic).tagged = frozenset(tagged)
            self._learned.clear()

    def untagged(self, host: str, nic: str, vlan: int | None) -> None:
        """What the port does with frames without a tag: into this VLAN, or dropped."""
        with self._lock:
            self.port(host, nic).untagged = vlan
            self._learned.clear()

    def mtu(self, host: str, nic: str, largest: int | None) -> None:
        """Drop packets of more bytes on the port of a host's NIC; None for none."""
        self.port(host, nic).mtu = largest

    def unplug(self, host: str, nic: str) -> None:
        """Frames are lost in both directions; the NIC does not notice, as behind a media converter."""
        with self._lock:
            self.port(host, nic).plugged = False
            self._learned.clear()

    def plug(self, host: str, nic: str) -> None:
        self.port(host, nic).plugged = True

    def port(self, host: str, nic: str) -> Port:
        return self._ports[f"{host}-{nic}"]

    def record(self, file: Path) -> None:
        """From now on, every frame that comes in at a port, as it came, for `tcpdump -r`."""
        with self._lock:
            if self._record is not None:
                os.close(self._record)
            self._record = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
            os.write(self._record, PCAP_HEADER)

    # --- cabling ---

    def add_host(self, host: str, nic: str, at: Path, untagged: int | None) -> None:
        """A port that a NIC of User-Mode Linux connects to (its transport `bess`)."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(os.fspath(at))
        listener.listen()
        listener.setblocking(False)
        port = Port(f"{host}-{nic}", untagged)
        with self._lock:
            self._ports[port.name] = port
            self._waiting.register(listener, selectors.EVENT_READ, (listener, port))
        self._nudge()

    def add_tap(self, name: str, untagged: int | None = NATIVE, tagged: Iterable[int] = ()) -> None:
        """A port whose other end is a network device of this namespace, made here."""
        tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        port = Port(name, untagged, frozenset(tagged), descriptor=tap)
        with self._lock:
            self._ports[name] = port
            self._waiting.register(tap, selectors.EVENT_READ, (None, port))
        self._nudge()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        os.close(self._woken)
        self._thread.join()
        for key in list(self._waiting.get_map().values()):
            if key.data and key.data[0]:
                key.data[0].close()
        for port in self._ports.values():
            if port.descriptor is not None:
                os.close(port.descriptor)
        self._waiting.close()
        os.close(self._wake)
        if self._record is not None:
            os.close(self._record)

    def _nudge(self) -> None:
        os.write(self._woken, b".")

    # --- frames ---

    def _work(self) -> None:
        while True:
            for key, _ in self._waiting.select():
                if key.fd == self._wake:
                    if not os.read(self._wake, 64):
                        return
                    continue
                with self._lock:
                    listener, port = key.data
                    if listener is not None:
                        self._connect(listener, port)
                    else:
                        self._receive(port)

    def _connect(self, listener: socket.socket, port: Port) -> None:
        """A NIC came up. There is one at a port: an older connection is that of a host that is gone."""
        self._disconnect(port)
        connection, _ = listener.accept()
        connection.setblocking(False)
        port.descriptor = connection.detach()
        self._waiting.register(port.descriptor, selectors.EVENT_READ, (None, port))

    def _disconnect(self, port: Port) -> None:
        if port.descriptor is not None:
            self._waiting.unregister(port.descriptor)
            os.close(port.descriptor)
            port.descriptor = None

    def _receive(self, port: Port) -> None:
        for _ in range(64):  # then the others have their turn
            if port.descriptor is None:
                return
            try:
                frame = os.read(port.descriptor, 1 << 16)
            except BlockingIOError:
                return
            except OSError:
                frame = b""
            if not frame:
                self._disconnect(port)
                return
            self._forward(port, frame)

    def _forward(self, source: Port, frame: bytes) -> None:
        if len(frame) < 14:
            return
        if self._record is not None:
            now = time.time_ns()
            stamp = struct.pack("=IIII", now // 10**9, now % 10**9 // 1000, len(frame), len(frame))
            os.write(self._record, stamp + frame)
        tag: int | None = None
        if frame[12:14] == b"\x81\x00" and len(frame) >= 18:
            tag = struct.unpack_from("!H", frame, 14)[0] & 0x0FFF
        source.seen[tag] += 1
        # A tag of VLAN 0 carries a priority only. Any other is carried where its VLAN is, tagged, or not at all.
        vlan = tag if tag else source.untagged
        if vlan is None or not source.plugged or (tag and vlan not in source.tagged):
            return
        untagged = frame if tag is None else frame[:12] + frame[16:]
        tagged = frame if tag else untagged[:12] + struct.pack("!HH", TAG, vlan) + untagged[12:]
        if not source.fits(untagged):
            return
        self._learned[vlan, frame[6:12]] = source
        known = None if frame[0] & 1 else self._learned.get((vlan, frame[:6]))
        for port in (known,) if known else self._ports.values():
            if port is source or port.descriptor is None or not port.carries(vlan) or not port.fits(untagged):
                continue
            with suppress(OSError):  # full, down or gone: a switch drops
                os.write(port.descriptor, tagged if vlan in port.tagged else untagged)
