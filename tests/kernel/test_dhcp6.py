# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""DHCPv6 against real servers, dnsmasq and Kea, and a router beside them: on the road of a task, and over the life of a lease."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import lease_socket
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import leases
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.dhcp import Client, Dnsmasq, Dnsmasq6, Kea, Kea6, Server, leased, soon, wire_ipv6
from tests.support.engine import Engine
from tests.support.network_host import link, needs_ipv6, run, sysctl
from tests.support.traffic import addresses, default, reachable
from tests.support.waiting import until

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("lan"), needs_ipv6]
ONE = {"ipv6_address": "dhcp"}
V4 = {"subnets": [{"subnet": "192.0.2.0/24", "gateway": "none"}]}
PREFIX = "2001:db8:9::"


@pytest.fixture
def lan(trunk: str) -> None:
    wire_ipv6()


@pytest.fixture
def server(tmp_path: Path, servers: List[Server]) -> Callable[..., Dnsmasq6]:
    def start(*options: str, **more: str) -> Dnsmasq6:
        servers.append(found := Dnsmasq6(tmp_path, *options, **more))
        return found

    return start


@pytest.fixture
def kea(tmp_path: Path, servers: List[Server]) -> Callable[..., Kea6]:
    def start(**more: Any) -> Kea6:
        servers.append(found := Kea6(tmp_path, **more))
        return found

    return start


def made(dev: str = "eth0") -> List[Dict[str, Any]]:
    return leased(dev=dev, version=6)


def leased_at(prefix: str = PREFIX) -> str:
    """The one address that a lease gave."""
    (row,) = soon(made)
    assert row["local"].startswith(prefix), row
    return str(row["local"])


def shown(engine: Engine) -> Dict[str, Any]:
    (found,) = describe.host(engine.state_dir, ["endpoints"], ["blue/one"])["endpoints"]
    return dict(found)


def drift(engine: Engine) -> List[Any]:
    return describe.host(engine.state_dir, ["drift"])["drift"]


def undo_last(engine: Engine) -> None:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with registry.lock(10, "test"):
        undo.undo(registry.transactions()[0].number, registry, options)


def asked_briefly(engine: Engine, seconds: float = 4.0) -> None:
    declared = model.declare("endpoint", {"network": "blue", "name": "one", "netns": "one", **ONE}, "present", False)
    converge.converge(declared, transact.RunOptions(engine.state_dir, dhcp_timeout=seconds))


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_task_ends_with_a_lease_and_the_next_changes_nothing(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq6], driver: str
) -> None:
    """The address is the server's, the way out that of the router, and no address is made of its prefix."""
    dnsmasq = server()
    engine.network(driver=driver, **V4)
    planned = engine.task("endpoint", check=True, network="blue", name="one", netns="one", **ONE)
    assert [text for text in planned.warnings if "provisional" in text] == [
        "blue/one: its IPv6 address is provisional, only a DHCP server makes it known after a real run"
    ]
    assert dnsmasq.count("SOLICIT") == 0
    one = engine.endpoint("one", **ONE)
    assert one["addresses"] == ["192.0.2.1/24"]
    address = leased_at()
    assert [row["prefixlen"] for row in made()] == [128]
    assert until(lambda: default("one", "-6"))["gateway"] == "fe80::1"
    assert reachable("ip netns exec one", "-6 2001:db8:ffff::1")
    assert (sysctl("ipv6.conf.eth0.accept_ra", "one"), sysctl("ipv6.conf.eth0.autoconf", "one")) == (2, 0)
    lines = run("ip netns exec one cat /etc/resolv.conf").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["nameserver 2001:db8:9::53", "search lab.example"]
    assert "one" in dnsmasq.leases.read_text().split(), "the host name is the endpoint's"
    engine.same("one", **ONE)
    assert drift(engine) == []
    found = shown(engine)
    assert (found["lease_ipv6"]["address"], found["lease_ipv6"]["server"]) == (f"{address}/128", "fe80::1")
    assert (found["slaac_addresses"], found["gateway"]["ipv6"]) == ([], "fe80::1")
    engine.absent("one")
    assert soon(lambda: dnsmasq.count("RELEASE")), dnsmasq.text()
    assert f"{address}" not in dnsmasq.leases.read_text() and leases.load(engine.state_dir) == {}
    assert "one" not in run("ip netns list") and lease_socket.release("blue/one ipv6") is False
    engine.endpoint("one", **ONE)
    assert leased_at() == address, "the same client gets its address again"


def test_a_network_has_its_endpoints_ask_for_both_versions(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq6], tmp_path: Path, servers: List[Server]
) -> None:
    servers.append(Dnsmasq(tmp_path, "--dhcp-option=option:dns-server,10.9.0.53"))
    server()
    engine.network(subnets=[], addressing="dhcp", enable_ipv6=True)
    assert engine.endpoint("one")["addresses"] == []
    assert [address.partition("::")[0].rpartition(".")[0] or address[:10] for address in addresses("eth0", "one")] == [
        "10.9.0",
        "2001:db8:9",
    ]
    assert set(leases.load(engine.state_dir)) == {"blue/one", "blue/one ipv6"}
    assert "nameserver 10.9.0.53\nnameserver 2001:db8:9::53\n" in run("ip netns exec one cat /etc/resolv.conf")
    engine.same("one")
    engine.network(subnets=[], addressing="dhcp", enable_ipv6=True, enable_ipv4=False)
    assert soon(lambda: set(leases.load(engine.state_dir)) == {"blue/one ipv6"})
    assert [address[:10] for address in addresses("eth0", "one")] == ["2001:db8:9"]


def test_it_begins_ends_and_is_undone_while_the_endpoint_lives(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq6]
) -> None:
    dnsmasq = server()
    engine.network(enable_ipv4=False, subnets=[{"subnet": f"{PREFIX}/64"}])
    assert engine.endpoint("one")["addresses"] == [f"{PREFIX}2/64"]
    index = link("eth0", "one")["ifindex"]
    engine.endpoint("one", **ONE, dhcp_hostname="shop", dhcp_client_id="ff:00:00:00:07:00:03:00:01:02:00:51:aa:bb:cc")
    address = leased_at()
    assert addresses("eth0", "one") == [f"{address}/128"]
    assert until(lambda: default("one", "-6"))["gateway"] == "fe80::1"
    assert "7 " in dnsmasq.leases.read_text() and "shop 00:03:00:01:02:00:51:aa:bb:cc" in dnsmasq.leases.read_text()
    engine.endpoint("one")
    assert addresses("eth0", "one") == [f"{PREFIX}2/64"] and dnsmasq.count("RELEASE")
    assert default("one", "-6")["gateway"] == f"{PREFIX}1"
    assert drift(engine) == []
    undo_last(engine)
    assert leased_at() == address
    assert until(lambda: default("one", "-6"))["gateway"] == "fe80::1" and link("eth0", "one")["ifindex"] == index


def test_no_lease_in_time_and_the_host_is_as_before(engine: Engine, client: Client) -> None:
    engine.network(**V4)
    before = Registry(engine.state_dir).load()
    with pytest.raises(
        errors.RolledBack, match=r"blue/one ipv6 got no lease within [0-9.]+ s: no DHCP server answered on eth0"
    ):
        asked_briefly(engine, 2.0)
    assert Registry(engine.state_dir).load() == before and "one" not in run("ip netns list")


def test_what_somebody_removes_comes_back(engine: Engine, client: Client, server: Callable[..., Dnsmasq6]) -> None:
    server()
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    address = leased_at()
    run(f"ip -n one addr del {address}/128 dev eth0")
    assert leased_at() == address
    run("ip -n one link set eth0 down; ip -n one link set eth0 up")
    assert leased_at() == address


def test_a_lease_is_renewed_and_ends_with_its_server(engine: Engine, client: Client, kea: Callable[..., Kea6]) -> None:
    server = kea(seconds=8, preferred=6)
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    (row,) = soon(made)
    solicits = server.count("SOLICIT")
    assert 0 < row["preferred_life_time"] <= 6 and row["preferred_life_time"] < row["valid_life_time"] <= 8
    assert soon(lambda: server.count("RENEW") >= 2), server.text()[-3000:]
    assert leased_at() == row["local"] and server.count("SOLICIT") == solicits
    server.stop()
    assert soon(lambda: not made())
    assert client.says("the lease has expired") and soon(lambda: leases.load(engine.state_dir) == {})
    kea(seconds=60)
    assert leased_at()


def test_a_server_that_forgot_gives_the_same_again(
    engine: Engine, client: Client, server: Callable[..., Dnsmasq6]
) -> None:
    """NoBinding in the answer to RENEW (RFC 8415, 18.2.10.1): the address stays meanwhile."""
    dnsmasq = server()
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    address = leased_at()
    client.stop()
    solicits, requests = dnsmasq.count("SOLICIT"), dnsmasq.count("REQUEST")
    dnsmasq.stop()
    (duid,) = [line for line in dnsmasq.leases.read_text().splitlines() if line.startswith("duid ")]
    dnsmasq.leases.write_text(duid + "\n")
    (lease,) = leases.load(engine.state_dir).values()
    leases.save(engine.state_dir, {**lease, "renew": lease["obtained"]})
    server()
    client.start()
    assert soon(lambda: address in dnsmasq.leases.read_text()), dnsmasq.text()
    assert dnsmasq.count("CONFIRM") and dnsmasq.count("RENEW") and dnsmasq.count("REQUEST") > requests
    assert dnsmasq.count("SOLICIT") == solicits
    assert leased_at() == address and not client.text().count("lost")


def test_another_server_of_the_link_prolongs_it(engine: Engine, client: Client, kea: Callable[..., Kea6]) -> None:
    """REBIND is for any server; this one says that it has no such lease, and a new one begins at once."""
    first = kea(seconds=8)
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    assert leased_at()
    first.stop()
    first.log.unlink()
    other = kea(seconds=60, other=True)
    assert soon(lambda: other.count("REBIND") >= 1), other.text()[-3000:]
    assert soon(lambda: made() and made()[0]["valid_life_time"] > 20), client.text()


def test_a_restart_goes_on_with_the_lease(engine: Engine, client: Client, server: Callable[..., Dnsmasq6]) -> None:
    """Killed at any time: the address stays, and the next client confirms it, whether a server answers or not."""
    dnsmasq = server()
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    address, solicits = leased_at(), dnsmasq.count("SOLICIT")
    client.stop()
    assert leased_at() == address
    client.start()
    assert lease_socket.wait("blue/one ipv6", 10)["address"] == f"{address}/128"
    assert dnsmasq.count("CONFIRM") and dnsmasq.count("SOLICIT") == solicits
    client.stop()
    dnsmasq.stop()
    run(f"ip -n one addr del {address}/128 dev eth0")
    client.start()
    assert leased_at() == address, "no server says no, so the lease holds"


def test_a_lease_of_another_link_is_given_up(engine: Engine, client: Client, kea: Callable[..., Kea6]) -> None:
    first = kea(seconds=60)
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    assert leased_at()
    client.stop()
    first.stop()
    kea(seconds=60, subnet="2001:db8:10::/64")
    client.start()
    assert soon(lambda: [row["local"][:11] for row in made()] == ["2001:db8:10"]), client.text()
    assert client.says("NotOnLink")


def test_an_address_that_another_has_is_declined(engine: Engine, client: Client, kea: Callable[..., Kea6]) -> None:
    """The kernel finds it (RFC 4862, 5.4), the server hears of it, and gives another."""
    server = kea(seconds=60)
    run(f"ip -n lan addr add {PREFIX}100/64 dev lan10 nodad")
    engine.network(**V4)
    engine.endpoint("one", **ONE)
    assert leased_at() == f"{PREFIX}101"
    assert client.says(f"blue/one ipv6: {PREFIX}100, which fe80::1 gave, is at another host already")
    assert server.count("DECLINE"), server.text()[-3000:]
    assert [lease["address"] for lease in leases.load(engine.state_dir).values()] == [f"{PREFIX}101/128"]


@pytest.mark.soak
def test_two_hundred_endpoints_renew_and_outlive_their_client(
    engine: Engine, client: Client, kea: Callable[..., Kea6], tmp_path: Path, servers: List[Server]
) -> None:
    """Each with a lease of both versions: renewed, kept while the client is away, and gone on with by the next one."""
    four = Kea(tmp_path, seconds=60, pool="10.9.0.20 - 10.9.0.250")
    servers.append(four)
    six = kea(seconds=60)
    names = [f"e{number}" for number in range(200)]
    network = {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "addressing": "dhcp", "enable_ipv6": True}
    rows = [{"network": "blue", "name": name, "netns": name} for name in names]
    declared = model.declare_map({"name": "fabric", "networks": [network], "endpoints": rows})
    converge.converge(declared, transact.RunOptions(engine.state_dir, dhcp_timeout=300))

    def held() -> Dict[str, str]:
        return {key: lease["address"] for key, lease in leases.current(engine.state_dir).items()}

    first = held()
    assert len(first) == len(set(first.values())) == 400
    renewed = six.count("RENEW"), four.text().count("DHCPREQUEST")
    assert until(
        lambda: six.count("RENEW") >= renewed[0] + 400 and four.text().count("DHCPREQUEST") >= renewed[1] + 400, 180
    )
    assert held() == first
    begun = six.count("SOLICIT")
    client.stop()
    client.start()
    for key in first:
        assert lease_socket.wait(key, 120)["address"] == first[key]
    assert all(set(addresses("eth0", name)) == {first[f"blue/{name}"], first[f"blue/{name} ipv6"]} for name in names)
    assert six.count("SOLICIT") == begun, "none began anew"
