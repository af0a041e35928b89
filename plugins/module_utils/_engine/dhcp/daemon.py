# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service that asks DHCP servers for the leases of endpoints, and keeps them.

What is wanted stands in the registry, the leases in files beside it. A run that changes the host asks over a socket: see
``kernel.lease_socket``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import os
import resource
import signal
import socket
import struct
from typing import Any, Dict, List, Optional, Set, Tuple, cast

from ..core.change import Record, Records, link_key
from ..core.endpoint_specs import EndpointSpec, client_id, default_route, duid, is_dhcp
from ..core.errors import LeaseError, NetlinkError, UnderlayError
from ..core.formats import ip_of
from ..core.lease_specs import Lease, lease_key, lease_of
from ..kernel import events, lease_socket, named_namespaces
from ..kernel.manager import Manager
from ..netlink import decode, encode, rtnetlink
from ..store import holds, statedir
from ..store.registry import Registry
from .asker import Asker, Rules
from .client import LACKING
from .held import Want
from .locate import locate
from .place import Way

#: A workload that is not there is looked for again after so many seconds, and ever later; events of engines come first.
RETRY, LONGEST = 5.0, 300.0
#: What systemd has not taken is sent again so often.
BEHIND = 1.0
#: The first metric of default routes from leases, between those of endpoints that come before and behind (plan.default_routes).
METRIC = 1024
_LONGEST_LINE = 4096
#: So many wait to be heard, as a map asks for all of its endpoints at once; the next is refused. The kernel allows no more (somaxconn).
_BACKLOG = 4096
_SO_PEERCRED = struct.Struct("=iII")


class Daemon:
    """One process for all endpoints."""

    def __init__(self, state_dir: str, sandboxed: bool, path: str = lease_socket.PATH) -> None:
        self._state_dir, self._sandboxed, self._path = state_dir, sandboxed, path
        self._registry = Registry(state_dir)
        self._askers: Dict[str, Asker] = {}  # by lease_key
        self._records: Dict[str, Record] = {}
        self._taken: Dict[str, Set[str]] = {}  # network -> the addresses that plans have given there
        self._stamp = ""
        self._failure = ""
        self._search = asyncio.Event()
        self._engines = {"docker": events.Engine(events.DOCKER), "podman": events.Engine(events.PODMAN)}
        self._manager = Manager()
        self._rules = Rules(
            self._refuses, self._way, self._is_held, self._manager.log, self._search.set, self._tell_soon
        )
        self._telling: Optional[asyncio.TimerHandle] = None
        self._jobs: Set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Until a signal comes. Nothing is given back then: the next start goes on with the leases. Raises RegistryBusy for a second one."""
        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if now != most:  # some of them for each endpoint; the unit says so too, and does not let it be changed
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        files = events.Files(named_namespaces.RUN_DIR, self._state_dir)
        loop.add_reader(files.fileno(), self._on_files, files)
        self._reload()
        server = await self._listen()
        searching = loop.create_task(self._search_for_workloads())
        self._manager.notify("READY=1")
        done, _rest = await asyncio.wait(
            {searching, loop.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        server.close()
        searching.cancel()
        for asker in self._askers.values():
            asker.leave("")
        await asyncio.sleep(0)
        if searching in done:  # which it never is, but for a fault
            searching.result()
        return 0

    # -- what is wanted ---------------------------------------------------------------------------

    def _on_files(self, files: events.Files) -> None:
        files.stamp = self._stamp
        if files.read_events():
            self._reload()
            self._search.set()

    def _reload(self) -> None:
        """Take in the registry. One that cannot be read, or is that of another machine, changes nothing."""
        stamp = self._registry.stamp()
        if stamp == self._stamp:
            return
        try:
            self._registry.check_machine()
            records, _faults = self._registry.sound()
            seed = self._registry.seed()
        except UnderlayError as error:
            if str(error) != self._failure:
                self._failure = str(error)
                self._manager.log(3, self._failure)
            return
        self._stamp, self._failure = stamp, ""
        self._records = records.get("endpoint", {})
        self._taken = _taken(records)
        wants = {
            lease_key(key, version): want(key, record, seed, version)
            for key, record in self._records.items()
            for version in (4, 6)
            if is_dhcp(_endpoint(record), version)
        }
        for key in [key for key in self._askers if key not in wants]:
            self._job(self._dismiss(self._askers.pop(key)))
        for key, wish in wants.items():
            self._want(key, wish)
        self._search.set()

    def _want(self, key: str, wish: Optional[Want]) -> None:
        asker = self._askers.get(key)
        if asker is not None and asker.want == wish:
            if asker.given_back and asker.given_back != self._stamp:
                asker.given_back = ""
            asker.look()  # its default route may stand elsewhere now
            return
        if asker is not None:
            asker.leave("")
            del self._askers[key]
        if wish is not None:
            self._askers[key] = Asker(self._state_dir, wish, self._rules)

    async def _dismiss(self, asker: Asker) -> None:
        """It no longer wants a lease; where its link is still there, the server hears of it."""
        await asker.release(self._stamp)
        asker.leave("")
        self._rank()

    def _rank(self) -> None:
        """Endpoints came or went: the default routes of the others may stand elsewhere now."""
        for asker in self._askers.values():
            if asker.held is not None:
                asker.look()

    def _job(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _search_for_workloads(self) -> None:
        """Whenever something was heard, and for those that are not there from time to time."""
        wait = RETRY
        while True:
            self._search.clear()
            sought = [asker for asker in self._askers.values() if asker.place is None or _is_named(asker.want.workload)]
            for engine in {asker.want.workload.partition(":")[0] for asker in sought} & self._engines.keys():
                self._follow(engine)
            found = await locate((asker.want.workload for asker in sought), self._sandboxed)
            for workload, answer in found.items():
                seekers = [asker for asker in self._askers.values() if asker.want.workload == workload]
                for asker in seekers:
                    own = answer if isinstance(answer, str) else answer._replace(descriptor=os.dup(answer.descriptor))
                    asker.settle(own)
                if not isinstance(answer, str):
                    os.close(answer.descriptor)
            self._rank()
            self._tell()
            missing = any(asker.place is None for asker in self._askers.values())
            wait = min(2 * wait, LONGEST) if missing else RETRY
            with contextlib.suppress(asyncio.TimeoutError):
                limit = wait if missing else None
                await asyncio.wait_for(self._search.wait(), BEHIND if self._manager.is_behind else limit)
                wait = RETRY

    def _follow(self, engine: str) -> None:
        """Hear of the containers of an engine that start."""
        ear, loop = self._engines[engine], asyncio.get_running_loop()
        if ear.fileno() < 0:
            ear.connect()
            if ear.fileno() >= 0:
                loop.add_reader(ear.fileno(), self._on_engine, ear, ear.fileno())

    def _on_engine(self, ear: events.Engine, descriptor: int) -> None:
        ear.read_events()
        if ear.fileno() < 0:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._search.set()

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(1.0, self._tell)

    def _tell(self) -> None:
        self._telling = None
        without = [f"{key}: {asker.why}" for key, asker in self._askers.items() if asker.held is None]
        status = f"STATUS={len(self._askers) - len(without)} leases"
        self._manager.notify(
            (status + (f"; {len(without)} without: {'; '.join(without[:3])}" if without else ""))[:1000]
        )

    # -- what an endpoint has to know of others ---------------------------------------------------

    def _refuses(self, key: str, lease: Lease) -> str:
        ip = ip_of(lease["address"])
        with contextlib.suppress(NetlinkError, OSError), rtnetlink.Socket() as kernel:
            if any(ip_of(it.address) == ip for it in kernel.dump(encode.all_addresses(), decode.address)):
                return f"{ip} is an address of this host"
        network = key.partition("/")[0]
        if ip in self._taken.get(network, ()):
            return f"{ip} is an address that another endpoint of {network} has"
        for other, asker in self._askers.items():
            if other != key and other.partition("/")[0] == network and asker.held and asker.held.ip == ip:
                return f"{ip} is leased to {lease_of(other)[0]}"
        return ""

    def _way(self, key: str) -> Way:
        """Of the endpoints that ask in one namespace for IPv4, each has a metric of its own: by priority, then by name."""
        spaces = {
            name: asker.place.identity
            for name, asker in self._askers.items()
            if asker.place is not None and asker.want.version == 4
        }
        here = [name for name, identity in spaces.items() if identity == spaces.get(key)]
        here.sort(key=lambda name: (-self._records[name].spec["gw_priority"], name))
        return Way(METRIC + here.index(key), default_route(_endpoint(self._records[key]), 4) != "never")

    def _is_held(self, key: str) -> bool:
        want = self._askers[key].want
        link = link_key(want.workload, want.interface)
        return bool(holds.reason(holds.load(self._state_dir), "link", link, f"endpoint:{want.endpoint}"))

    # -- the socket -------------------------------------------------------------------------------

    async def _listen(self) -> asyncio.AbstractServer:
        os.makedirs(os.path.dirname(self._path), 0o755, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._serve, self._path, limit=_LONGEST_LINE, backlog=_BACKLOG)
        finally:
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED.size)
            if _SO_PEERCRED.unpack(peer)[1] == os.geteuid():
                asked = asyncio.ensure_future(self._answer(await asyncio.wait_for(reader.readline(), 5.0)))
                gone = asyncio.ensure_future(reader.read(1))  # who asked has lost patience, or was killed
                await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                if asked.done():
                    writer.write(json.dumps(asked.result()).encode() + b"\n")
                    await writer.drain()
                asked.cancel()
        except (OSError, ValueError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> lease_socket.Line:
        try:
            request = json.loads(line)
            what, key = request["do"], str(request["endpoint"])
            seconds = min(3600.0, max(0.0, float(request.get("timeout", 0))))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {"failed": "that is no request"}
        self._reload()
        asker = self._askers.get(key)
        if what == "release":
            return {"released": asker is not None and await asker.release(self._stamp)}
        if what != "wait":
            return {"failed": "that is no request"}
        if asker is None:
            why = self._failure or "the registry does not say that it wants one"
            return {"failed": f"{key} gets no lease: {why}"}
        lease, why = await asker.wait(seconds)
        return {"lease": lease} if lease else {"failed": f"{key} got no lease within {seconds:g} s: {why}"}


#: The only identity association of an endpoint, and the type of a DUID that is a UUID (RFC 6355).
_IAID, _DUID_UUID = bytes((0, 0, 0, 1)), bytes((0, 4))


def want(key: str, record: Record, seed: str, version: int) -> Optional[Want]:
    """What an endpoint of the registry asks with; None before it has a link."""
    spec = _endpoint(record)
    if not spec["interface"] or not (spec["mac"] or version == 6):
        return None
    # Hosts have endpoints of the same names, also in one VLAN.
    own = hashlib.sha256(f"{seed}\0{key}".encode()).digest()[:16]
    named = (client_id(spec) or b"\0" + own) if version == 4 else (duid(spec) or _IAID + _DUID_UUID + own)
    return Want(
        key,
        version,
        spec["workload"],
        spec["interface"],
        spec["mac"] or "",
        named,
        spec["dhcp_hostname"] or spec["name"],
    )


def _endpoint(record: Record) -> EndpointSpec:
    return cast(EndpointSpec, record.spec)


def _taken(records: Records) -> Dict[str, Set[str]]:
    found: Dict[str, Set[str]] = {}
    rows: List[Tuple[str, str]] = [
        (record.spec["network"], address)
        for record in records.get("endpoint", {}).values()
        for address in record.spec["addresses"]
    ]
    rows += [
        (name, address) for name, it in records.get("network", {}).items() for address in it.spec["host_addresses"]
    ]
    for network, address in rows:
        found.setdefault(network, set()).add(str(ipaddress.ip_interface(address).ip))
    return found


def _is_named(workload: str) -> bool:
    return workload.startswith("netns:")


def main(state_dir: str, sandboxed: bool) -> int:
    """The service. Returns the exit status. Raises LeaseError where pyroute2 is not beside the engine."""
    if LACKING:
        raise LeaseError(f"the DHCP client has no pyroute2 ({LACKING}): set dhcp: true of vlan_service (role prepare)")
    directory = os.environ.get("RUNTIME_DIRECTORY") or os.path.dirname(lease_socket.PATH)
    path = os.path.join(directory, os.path.basename(lease_socket.PATH))
    return asyncio.run(_main(state_dir, sandboxed, path))


async def _main(state_dir: str, sandboxed: bool, path: str) -> int:
    statedir.make(state_dir)
    with statedir.lock(state_dir, 0.0, "the DHCP client", "dhcp-lock"):
        return await Daemon(state_dir, sandboxed, path).run()
