# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DHCP servers on VLAN 10, in a namespace of their own, and the client of a host, for tests in the lab."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional

from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import lease_socket

from tests.support.network_host import ip, run
from tests.support.waiting import DEADLINE, until

RUNTIME = os.path.dirname(lease_socket.PATH)


def wire() -> None:
    """VLAN 10 of the trunk leads to the namespace of servers, and /run/netops-underlay is the test's own."""
    os.makedirs(RUNTIME, exist_ok=True)
    run(f"mount -t tmpfs none {RUNTIME}")
    run("ip netns add lan; ip link set far netns lan; ip -n lan link set lo up; ip -n lan link set far up")
    run("ip -n lan link add lan10 link far type vlan id 10; ip -n lan link set lan10 up")
    run("ip -n lan addr add 10.9.0.1/24 dev lan10")


def wire_ipv6() -> None:
    """As ``wire``; the servers are at fe80::1 and 2001:db8:9::1, and beyond those is 2001:db8:ffff::1."""
    wire()
    run("ip -n lan addr add fe80::1/64 dev lan10 nodad; ip -n lan addr add 2001:db8:9::1/64 dev lan10 nodad")
    run("ip -n lan addr add 2001:db8:ffff::1/64 dev lan10 nodad")


class Client:
    """``underlay dhcp``, as systemd starts it; forked here, where pyroute2 is loaded once for all tests."""

    def __init__(self, state_dir: str, directory: Path) -> None:
        self.state_dir, self.journal = state_dir, directory / "dhcp-journal"
        self.pid = 0

    def __enter__(self) -> Client:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp import client, client6, daemon, place

        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                client.DECLINED, client.TIMEOUTS["REBOOTING"] = 1.0, 2.0
                client6.DECLINED, client6.CONFIRM = 1.0, client6.CONFIRM._replace(all=2.0)
                client6.RENEW = client6.RENEW._replace(first=1.0)
                place.APART = 0.1
                journal = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(journal, 1)
                os.dup2(journal, 2)
                sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
                os.environ["RUNTIME_DIRECTORY"] = RUNTIME
                daemon.main(self.state_dir, False)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        assert soon(lambda: lease_socket.answers() or self.ended()) and self.pid, self.text()

    def ended(self) -> bool:
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid

    def text(self) -> str:
        return self.journal.read_text(encoding="utf-8")

    def says(self, words: str, times: int = 1) -> bool:
        return bool(soon(lambda: self.text().count(words) >= times))

    def stop(self, number: int = signal.SIGKILL) -> None:
        if not self.ended():
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
            self.pid = 0


class Server:
    """A process in ``lan``, which has ``started`` once it says so."""

    def __init__(
        self, log: Path, command: List[str], started: str, environment: Optional[Dict[str, str]] = None
    ) -> None:
        self.log = log
        before = len(self.text()) if log.exists() else 0  # of one that was stopped
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", "lan", *command], stdout=file, stderr=file, env=environment
            )
        assert soon(lambda: started in self.text()[before:] or self._process.poll() is not None, DEADLINE), self.text()
        assert self._process.poll() is None, self.text()

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Dnsmasq(Server):
    """dnsmasq in ``lan``; its leases last 2 minutes at least."""

    def __init__(self, directory: Path, *options: str, pool: str = "10.9.0.100,10.9.0.199", seconds: int = 120) -> None:
        self.leases = directory / "dnsmasq.leases"
        command = [
            "dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null", "--interface=lan10", "--no-ping",
            "--bind-interfaces", "--user=root", "--log-dhcp", f"--dhcp-range={pool},255.255.255.0,{seconds}", f"--dhcp-leasefile={self.leases}",
            "--dhcp-authoritative", *options,
        ]  # fmt: skip
        super().__init__(directory / "dnsmasq.log", command, "DHCP, IP range")

    def count(self, kind: str) -> int:
        return len(re.findall(rf"DHCP{kind}\(", self.text()))


class Dnsmasq6(Server):
    """dnsmasq in ``lan`` for IPv6, which also advertises itself as a router whose hosts ask for their addresses."""

    def __init__(self, directory: Path, *options: str, pool: str = "2001:db8:9::100,2001:db8:9::1ff") -> None:
        self.leases = directory / "dnsmasq6.leases"
        command = [
            "dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null", "--interface=lan10", "--bind-interfaces", "--user=root",
            "--log-dhcp", f"--dhcp-range={pool},64,600", f"--dhcp-leasefile={self.leases}", "--dhcp-authoritative", "--enable-ra",
            "--dhcp-option=option6:dns-server,[2001:db8:9::53]", "--dhcp-option=option6:domain-search,lab.example", *options,
        ]  # fmt: skip
        super().__init__(directory / "dnsmasq6.log", command, "DHCPv6, IP range")

    def count(self, kind: str) -> int:
        return len(re.findall(rf"DHCP{kind}\(", self.text()))


class Kea(Server):
    """Kea in ``lan``, whose leases may last seconds."""

    def __init__(
        self, directory: Path, seconds: int = 8, pool: str = "10.9.0.100 - 10.9.0.199", **options: Any
    ) -> None:
        subnet = {
            "id": 1,
            "subnet": "10.9.0.0/24",
            "pools": [{"pool": pool}],
            "option-data": [{"name": "routers", "data": "10.9.0.1"}],
        }
        config = {"valid-lifetime": seconds, "authoritative": True, "subnet4": [{**subnet, **options}]}
        self._run(directory, 4, config)

    def _run(self, directory: Path, version: int, config: Dict[str, Any]) -> None:
        program, file = f"kea-dhcp{version}", directory / f"kea{version}.json"
        common = {
            "interfaces-config": {"interfaces": ["lan10"]},
            "lease-database": {"type": "memfile", "persist": False}, "calculate-tee-times": True,
            "loggers": [{"name": program, "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}],
        }  # fmt: skip
        file.write_text(json.dumps({f"Dhcp{version}": {**common, **config}}))
        environment = {
            **os.environ,
            "KEA_PIDFILE_DIR": str(directory),
            "KEA_LOCKFILE_DIR": str(directory),
            "KEA_LOG_FILE_DIR": str(directory),
        }
        log = directory / f"kea{version}.log"
        super().__init__(log, [program, "-c", str(file)], f"DHCP{version}_STARTED", environment)


class Kea6(Kea):
    """Kea in ``lan`` for IPv6. It forgets its leases when it ends, and is the same server when it starts again, unless ``other``."""

    def __init__(
        self,
        directory: Path,
        seconds: int = 8,
        preferred: Optional[int] = None,
        subnet: str = "2001:db8:9::/64",
        other: bool = False,
        **options: Any,
    ) -> None:
        pool = subnet.replace("/64", "100") + " - " + subnet.replace("/64", "1ff")
        row = {"id": 1, "subnet": subnet, "interface": "lan10", "pools": [{"pool": pool}]}
        duid = {"type": "EN", "enterprise-id": 2495, "identifier": "0B" if other else "0A", "persist": False}
        config = {
            "preferred-lifetime": preferred or seconds,
            "valid-lifetime": seconds,
            "server-id": duid,
            "subnet6": [{**row, **options}],
        }
        self._run(directory, 6, config)

    def count(self, kind: str) -> int:
        """How many messages of a type came, such as RENEW."""
        return len(re.findall(rf"DHCP6_PACKET_RECEIVED .* {kind} \(type ", self.text()))


def leased(netns: str = "one", dev: str = "eth0", version: int = 4) -> List[Dict[str, Any]]:
    """The addresses of a link that have a lifetime and are usable, as ``ip`` shows them."""
    rows = ip(f"-{version}", "addr", "show", "dev", dev, netns=netns)
    found = rows[0]["addr_info"] if rows else []
    return [row for row in found if row.get("dynamic") and not row.get("tentative")]


def routes(netns: str = "one") -> List[Dict[str, Any]]:
    return ip("-4", "route", "show", "proto", "dhcp", netns=netns)


def soon(what: Any, seconds: float = 20.0) -> Any:
    """As ``until``, at shorter intervals, for what takes tenths of a second."""
    return until(what, seconds, every=0.02)


#: A server that lies: each DISCOVER is answered with all of the offers argv[1] (JSON: [address, mask, [[option, hex], ...]]), each REQUEST with what
#: argv[2] says: ack, nak, or nothing; and between them it sends what is no message at all.
ROGUE = """
import json, os, socket, struct, sys
offers, answer = json.loads(sys.argv[1]), sys.argv[2]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lan10")
server.bind(("0.0.0.0", 67))
print("ready", flush=True)

def say(asked, kind, address, mask, more, ours=True):
    body = b"\\x02" + asked[1:16] + socket.inet_aton(address) + bytes(8) + asked[28:236] + b"\\x63\\x82\\x53\\x63"
    body += bytes((53, 1, kind, 54, 4)) + socket.inet_aton("10.9.0.66") + struct.pack("!BBI", 51, 4, 600) + bytes((1, 4)) + socket.inet_aton(mask)
    for option, value in more:
        body += bytes((option, len(bytes.fromhex(value)))) + bytes.fromhex(value)
    server.sendto(body + b"\\xff", ("255.255.255.255", 68))

while True:
    asked = server.recv(2048)
    kind = asked[242]
    print(kind, flush=True)
    for junk in (b"", asked, asked[:240] + b"\\x35", b"\\x02" + asked[1:4] + b"\\xff" * 4 + asked[8:], b"\\x02" + asked[1:240] + b"\\x35\\x01\\x09\\xff"):
        server.sendto(junk, ("255.255.255.255", 68))
    for address, mask, more in offers:
        if kind == 1:
            say(asked, 2, address, mask, more)
        elif kind == 3 and answer != "nothing":
            say(asked, 5 if answer == "ack" else 6, address, mask, more)
"""


class Rogue(Server):
    """A server in ``lan`` that lies."""

    def __init__(self, directory: Path, offers: List[Any], answer: str = "ack") -> None:
        super().__init__(directory / "rogue.log", [sys.executable, "-c", ROGUE, json.dumps(offers), answer], "ready")

    def heard(self, kind: int) -> int:
        """How many messages of a type came: 1 DISCOVER, 3 REQUEST, 4 DECLINE."""
        return self.text().split().count(str(kind))
