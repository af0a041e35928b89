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
        from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp import client, daemon, place

        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                client.DECLINED, client.TIMEOUTS["REBOOTING"] = 1.0, 2.0
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
        config = {
            "interfaces-config": {"interfaces": ["lan10"]},
            "lease-database": {"type": "memfile", "persist": False},
            "valid-lifetime": seconds, "calculate-tee-times": True, "authoritative": True,
            "subnet4": [{**subnet, **options}],
            "loggers": [{"name": "kea-dhcp4", "severity": "DEBUG", "debuglevel": 50, "output_options": [{"output": "stdout"}]}],
        }  # fmt: skip
        (directory / "kea.json").write_text(json.dumps({"Dhcp4": config}))
        environment = {
            **os.environ,
            "KEA_PIDFILE_DIR": str(directory),
            "KEA_LOCKFILE_DIR": str(directory),
            "KEA_LOG_FILE_DIR": str(directory),
        }
        command = ["kea-dhcp4", "-c", str(directory / "kea.json")]
        super().__init__(directory / "kea.log", command, "DHCP4_STARTED", environment)


def leased(netns: str = "one", dev: str = "eth0") -> List[Dict[str, Any]]:
    """The IPv4 addresses of a link that have a lifetime, as ``ip`` shows them."""
    rows = ip("-4", "addr", "show", "dev", dev, netns=netns)
    return [row for row in (rows[0]["addr_info"] if rows else []) if row.get("dynamic")]


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
