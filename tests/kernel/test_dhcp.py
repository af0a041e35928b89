# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DHCP client against real servers, dnsmasq and Kea: what the kernel has of a lease, and what the servers saw."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Callable, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.dhcp import daemon, place
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import lease_socket
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import leases

from tests.support.dhcp import Client, Dnsmasq, Kea, Rogue, Server, leased, routes, soon, wire
from tests.support.engine import Engine
from tests.support.network_host import run

pytestmark = [pytest.mark.usefixtures("lan")]
ONE = {"ipv4_address": "dhcp"}


@pytest.fixture
def lan(trunk: str) -> None:
    wire()


@pytest.fixture
def server(tmp_path: Path, servers: List[Server]) -> Callable[..., Dnsmasq]:
    def start(*options: str, **more: object) -> Dnsmasq:
        servers.append(found := Dnsmasq(tmp_path, *options, **more))  # type: ignore[arg-type]
        return found

    return start


@pytest.fixture
def kea(tmp_path: Path, servers: List[Server]) -> Callable[..., Kea]:
    def start(**more: object) -> Kea:
        servers.append(found := Kea(tmp_path, **more))  # type: ignore[arg-type]
        return found

    return start


def leased_at(prefix: str = "10.9.0.") -> str:
    """The one address that a lease gave."""
    (row,) = soon(leased)
    assert row["local"].startswith(prefix), row
    return str(row["local"])


def asked_briefly(engine: Engine) -> None:
    declared = model.declare("endpoint", {"network": "blue", "name": "one", "netns": "one", **ONE}, "present", False)
    converge.converge(declared, transact.RunOptions(engine.state_dir, dhcp_timeout=2.5))


def test_a_lease_and_what_comes_with_it(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    """Option 121 wins over option 3; its /32 is reached over the link; nothing of it is taken where it would harm."""
    dnsmasq = server(
        "--dhcp-option=option:router,10.9.0.9", "--dhcp-option=option:mtu,1400", "--dhcp-option=option:domain-search,a.example,b.a.example",
        "--dhcp-option=121,0.0.0.0/0,10.9.0.1,192.0.2.0/24,10.9.0.2,198.51.100.1/32,0.0.0.0,127.0.0.0/8,10.9.0.1",
        "--dhcp-option=option:dns-server,10.9.0.1", "--domain=lan.example",
    )  # fmt: skip
    engine.network()
    engine.endpoint("one", **ONE)
    ip_address = leased_at()
    (row,) = leased()
    assert (row["prefixlen"], row["protocol"]) == (24, "0x10") and 100 < row["valid_life_time"] <= 120
    found = {(it["dst"], it.get("gateway")) for it in soon(lambda: len(routes()) == 3 and routes())}
    assert found == {("default", "10.9.0.1"), ("192.0.2.0/24", "10.9.0.2"), ("198.51.100.1", None)}
    assert {it["metric"] for it in routes()} == {1024}
    assert "mtu 1400" in run("ip -n one route show default")
    (connected,) = run("ip -n one route show 10.9.0.0/24").splitlines()
    assert connected.split() == f"10.9.0.0/24 dev eth0 proto kernel scope link src {ip_address} mtu 1400".split()
    (lease,) = leases.load(engine.state_dir).values()
    assert (lease["address"], lease["server"], lease["dns"]) == (f"{ip_address}/24", "10.9.0.1", ["10.9.0.1"])
    assert (lease["domain"], lease["search"], lease["mtu"]) == ("lan.example", ["a.example", "b.a.example"], 1400)
    assert "one" in dnsmasq.leases.read_text().split(), "the host name is the endpoint's"
    assert run("ip netns exec one ping -c 1 -W 2 10.9.0.1")
    assert lease_socket.wait("blue/one", 1)["address"] == lease["address"]
    engine.same("one", **ONE)


def test_a_lease_with_another_mtu(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    """The connected route of another link in the same subnet is not the lease's to change."""
    server("--dhcp-option=option:mtu,1400")
    engine.network()
    run("ip netns add one; ip -n one link add theirs type dummy; ip -n one link set theirs up")
    run("ip -n one addr add 10.9.0.77/24 dev theirs")
    engine.endpoint("one", **ONE)
    ip_address = leased_at()
    (lease,) = leases.load(engine.state_dir).values()
    client.stop()
    here = place.Place(os.open("/run/netns/one", os.O_RDONLY))
    link = here.link("eth0", lease["mac"])
    assert link is not None
    for mtu in (1400, 1300, None, 1400):
        here.put(link, {**lease, "mtu": mtu}, 100, place.Way(1024, True))
        limited = f" mtu {mtu}" if mtu else ""
        assert run("ip -n one route show 10.9.0.0/24 proto kernel").replace(" \n", "\n").splitlines() == [
            "10.9.0.0/24 dev theirs scope link src 10.9.0.77",
            f"10.9.0.0/24 dev eth0 scope link src {ip_address}{limited}",
        ]
    here.close()
    run(f"ip -n one addr del {lease['address']} dev eth0")
    assert "eth0" not in run("ip -n one route show 10.9.0.0/24"), "it goes with the address, as any other"


def test_what_somebody_removes_comes_back(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    server("--dhcp-option=option:router,10.9.0.1")
    engine.network()
    engine.endpoint("one", **ONE)
    address = leased_at()
    assert soon(routes)
    run("ip -n one addr flush dev eth0")
    assert leased_at() == address and soon(routes)
    run("ip -n one link set eth0 down; ip -n one link set eth0 up")
    assert soon(routes)
    run("ip -n one route del default proto dhcp")
    assert soon(routes)


def test_a_lease_is_renewed_and_ends_with_its_server(engine: Engine, client: Client, kea: Callable[..., Kea]) -> None:
    server = kea(seconds=6)
    engine.network()
    engine.endpoint("one", **ONE)
    address = leased_at()
    assert soon(lambda: server.text().count("DHCP4_LEASE_ALLOC") + server.text().count("DHCP4_LEASE_REUSE") >= 3), (
        server.text()[-3000:]
    )
    assert leased_at() == address
    server.stop()
    assert soon(lambda: not leased()) and soon(lambda: not routes())
    assert client.says("the lease has expired") and leases.load(engine.state_dir) == {}
    kea(seconds=60)
    assert leased_at()


def test_a_restart_asks_for_the_same_address(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    """Killed at any time: the address stays, and the next client goes on with it, whether the server answers or not."""
    dnsmasq = server()
    engine.network()
    engine.endpoint("one", **ONE)
    address = leased_at()
    discovers = dnsmasq.count("DISCOVER")
    client.stop()
    assert leased_at() == address
    client.start()
    assert soon(lambda: dnsmasq.count("ACK") == 2) and leased_at() == address
    assert dnsmasq.count("DISCOVER") == discovers, "INIT-REBOOT"
    client.stop()
    dnsmasq.stop()
    run("ip -n one addr flush dev eth0")
    client.start()
    assert leased_at() == address, "no server says no, so the lease holds"
    assert lease_socket.wait("blue/one", 1)["address"] == f"{address}/24"


def test_a_server_that_forgot_says_no(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    dnsmasq = server(pool="10.9.0.100,10.9.0.100")
    engine.network()
    engine.endpoint("one", **ONE)
    assert leased_at() == "10.9.0.100"
    client.stop()
    dnsmasq.stop()
    dnsmasq.leases.unlink()
    again = server(pool="10.9.0.150,10.9.0.150")
    client.start()
    assert soon(lambda: [row["local"] for row in leased()] == ["10.9.0.150"]), client.text()
    assert again.count("NAK") == 1


def test_an_endpoint_that_goes_gives_its_lease_back(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq]
) -> None:
    dnsmasq = server()
    engine.network()
    engine.endpoint("one", **ONE)
    assert leased_at()
    engine.absent("one")
    assert soon(lambda: dnsmasq.count("RELEASE") == 1), dnsmasq.text()
    assert dnsmasq.leases.read_text() == "" and leases.load(engine.state_dir) == {}
    assert dnsmasq.count("DISCOVER") == 1, "and it asked for no other on the way"
    assert lease_socket.release("blue/one") is False


def test_an_address_that_another_has_is_declined(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq]
) -> None:
    """dnsmasq takes it out of its pool then; it asks again after 10 s (RFC 2131, 3.1)."""
    dnsmasq = server(pool="10.9.0.100,10.9.0.101")
    run("ip -n lan addr add 10.9.0.100/24 dev lan10; ip -n lan addr add 10.9.0.101/24 dev lan10")
    engine.network()
    with pytest.raises(errors.RolledBack, match=r"10\.9\.0\.10[01], which 10\.9\.0\.1 gave, is at [0-9a-f:]+ already"):
        asked_briefly(engine)
    assert dnsmasq.count("DECLINE") >= 1, dnsmasq.text()
    run("ip -n lan addr del 10.9.0.100/24 dev lan10; ip -n lan addr del 10.9.0.101/24 dev lan10")
    dnsmasq.stop()
    server()
    engine.endpoint("one", **ONE)
    assert leased_at()


def test_two_endpoints_of_a_workload(engine: Engine, client: Client, server: Callable[..., Dnsmasq]) -> None:
    """Each has an address of its own, and the one with the higher priority provides the way out."""
    server("--dhcp-option=option:router,10.9.0.1")
    engine.network(share_parent=True)
    engine.network("green", subnet="198.51.100.0/24", share_parent=True)
    engine.endpoint("one", **ONE)
    engine.endpoint("two", "green", netns="one", interface="eth1", gw_priority=5, **ONE)
    assert leased_at() and soon(lambda: leased(dev="eth1"))
    assert soon(lambda: [(row["dev"], row["metric"]) for row in routes()] == [("eth1", 1024), ("eth0", 1025)]), routes()
    engine.absent("two", "green")
    assert soon(lambda: [(row["dev"], row["metric"]) for row in routes()] == [("eth0", 1024)]), routes()


def test_a_workload_that_is_started_again_has_its_address_again(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq]
) -> None:
    """Nothing keeps the old namespace alive, in which a link would hold the MAC."""
    server()
    engine.network()
    run("ip netns add one")
    engine.endpoint("one", **ONE)
    address = leased_at()
    run("ip netns del one")
    run("ip netns add one")
    assert soon(lambda: restore.restore(transact.RunOptions(engine.state_dir)).left == [])
    assert leased_at() == address


def test_without_a_server_a_wait_says_so(engine: Engine, client: Client) -> None:
    engine.network()
    with pytest.raises(errors.LeaseError, match="the registry does not say that it wants one"):
        lease_socket.wait("blue/two", 1)


@pytest.fixture
def rogue(tmp_path: Path, servers: List[Server]) -> Callable[..., Rogue]:
    def start(*offers: object, answer: str = "ack") -> Rogue:
        servers.append(found := Rogue(tmp_path, list(offers), answer))
        return found

    return start


def test_a_server_that_lies_gets_nowhere(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq], rogue: Callable[..., Rogue]
) -> None:
    """What it offers is named and refused, what it sends beside that is no crash, and an honest server is heard."""
    run(
        "ip addr add 10.77.0.1/24 dev trunk; ip netns add one; ip -n one link add other type dummy; ip -n one link set other up"
    )
    run("ip -n one addr add 172.16.0.1/16 dev other")
    mask = "255.255.255.0"
    liar = rogue(
        ["127.0.0.1", mask, []], ["224.0.0.5", mask, []], ["10.77.0.1", mask, []], ["172.16.0.1", mask, []], ["172.16.5.5", mask, []],
        ["10.9.0.7", "255.0.255.0", []],
    )  # fmt: skip
    engine.network()
    with pytest.raises(errors.RolledBack, match=r"the offer of 10\.9\.0\.66 is refused: "):
        asked_briefly(engine)
    assert liar.heard(3) == 0, "it is not even asked"
    for why in (
        "127.0.0.1/24 is no",
        "10.77.0.1 is an address of this host",
        "172.16.0.1 is on another",
        "is part of 172.16.0.0/16",
        "subnet mask",
    ):
        assert why in client.text(), client.text()
    server()
    engine.endpoint("one", **ONE)
    assert leased_at() and client.text().count("Traceback") == 0


def test_routes_of_a_server_that_lies(engine: Engine, client: Client, rogue: Callable[..., Rogue]) -> None:
    """CVE-2024-3661: what the workload reaches over another link, no server draws away."""
    run(
        "ip netns add one; ip -n one link add other type dummy; ip -n one link set other up; ip -n one addr add 172.16.0.1/16 dev other"
    )
    run("ip -n one route add default via 172.16.0.2 metric 1024")
    drawn = "18" + "ac1005" + "0a090001" + "08" + "7f" + "0a090001" + "00" + "0a090001" + "18" + "c00002" + "0a090001"
    rogue(["10.9.0.7", "255.255.255.0", [[121, drawn], [15, "610a6e616d65736572766572"], [119, "0362000a00"]]])
    engine.network()
    engine.endpoint("one", **ONE)
    assert leased_at() == "10.9.0.7"
    assert [(it["dst"], it["gateway"]) for it in soon(routes)] == [("192.0.2.0/24", "10.9.0.1")]
    assert run("ip -n one route show default").strip().startswith("default via 172.16.0.2")
    (lease,) = leases.load(engine.state_dir).values()
    assert (lease["domain"], lease["search"]) == (None, [])


def test_a_server_that_takes_back_its_offers_is_not_asked_without_end(
    engine: Engine, client: Client, rogue: Callable[..., Rogue]
) -> None:
    liar = rogue(["10.9.0.7", "255.255.255.0", []], answer="nak")
    engine.network()
    with pytest.raises(errors.RolledBack, match="refuses the address"):
        asked_briefly(engine)
    assert 2 <= liar.heard(3) <= 4, liar.log.read_text()


def test_what_is_written_to_the_files_and_the_socket_of_the_client(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq]
) -> None:
    """Damaged, of another endpoint, a link, a FIFO: a file that cannot be used is as none; and no request ends the client."""
    server()
    engine.network()
    engine.endpoint("one", **ONE)
    (lease,) = leases.load(engine.state_dir).values()
    path = Path(leases.path(engine.state_dir, "blue/one"))
    whole = path.read_text(encoding="utf-8")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for text in (
        "",
        "{",
        "[" * 100000,
        whole[:-9],
        whole.replace("blue/one", "blue/two"),
        whole.replace('"10.9', '"x10.9'),
    ):
        path.write_text(text, encoding="utf-8")
        assert leases.load(engine.state_dir) == {}, text[:80]
    path.unlink()
    os.mkfifo(path)
    assert leases.load(engine.state_dir) == {}
    client.stop()
    client.start()
    assert soon(lambda: lease_socket.wait("blue/one", 10)["address"] == lease["address"])
    assert path.is_file(), "and is written anew"
    for line in (
        b"",
        b"\n",
        b"x" * 100000,
        b"[]\n",
        b"{}\n",
        b'{"do": "wait", "endpoint": [], "timeout": "x"}\n',
        b'{"do": "release"}\n',
    ):
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(lease_socket.PATH)
            with contextlib.suppress(OSError):
                there.sendall(line)
                there.shutdown(socket.SHUT_WR)
                there.settimeout(5)
                there.recv(4096)
    assert lease_socket.wait("blue/one", 1)["address"] == lease["address"]
    assert oct(os.stat(lease_socket.PATH).st_mode & 0o777) == "0o600"


def test_nothing_of_a_process_that_ended_is_kept(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq]
) -> None:
    """A socket in its namespace would keep that alive, and in it a link with the MAC of the next one."""
    server()
    engine.network()
    with subprocess.Popen(["unshare", "-n", "sleep", "300"]) as process:
        assert soon(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
        mac = engine.endpoint("one", pid=process.pid, **ONE)["mac"]
        run(f"ip link add next link trunk.10 address {mac} type macvlan mode bridge")
        assert not takes("next"), "the MAC is in use"
        process.kill()
    assert soon(lambda: takes("next"))


def takes(name: str) -> bool:
    """Whether a link comes up."""
    return subprocess.run(["ip", "link", "set", name, "up"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_a_second_client_is_refused(engine: Engine, client: Client) -> None:
    with pytest.raises(errors.RegistryBusy, match="the DHCP client"):
        daemon.main(engine.state_dir, False)
    assert lease_socket.answers()


def test_hundreds_may_ask_at_once(client: Client) -> None:
    """As a map does, while the client is busy: none of them is refused."""
    os.kill(client.pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        stack.callback(os.kill, client.pid, signal.SIGCONT)
        for _number in range(256):
            there = stack.enter_context(socket.socket(socket.AF_UNIX))
            there.settimeout(1.0)
            there.connect(lease_socket.PATH)
    assert soon(lease_socket.answers)
