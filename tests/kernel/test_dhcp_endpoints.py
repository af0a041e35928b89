# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases on the road of a task: asked for, waited for, given back, undone; by a real server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, RolledBack
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.dhcp import Dnsmasq, Server, wire
from tests.support.engine import Engine
from tests.support.network_host import ip, link, links, run
from tests.support.traffic import addresses, default, reachable
from tests.support.waiting import until

DHCP = {"ipv4_address": "dhcp"}
OPTIONS = ("--dhcp-option=option:router,10.9.0.1", "--dhcp-option=option:dns-server,10.9.0.53", "--domain=lab.example")


class Armed:
    """A guard that undoes nothing by itself."""

    timeout = 60.0

    def __init__(self) -> None:
        self.numbers: List[int] = []

    def arm(self, number: int) -> None:
        self.numbers.append(number)

    def disarm(self, number: int) -> None:
        self.numbers.remove(number)


@pytest.fixture
def lan(trunk: str) -> None:
    wire()


@pytest.fixture
def server(servers: List[Server], tmp_path: Path) -> Dnsmasq:
    """A server on VLAN 10 with a router, a nameserver and a domain to give."""
    servers.append(found := Dnsmasq(tmp_path, *OPTIONS))
    return found


def held(server: Dnsmasq) -> Dict[str, str]:
    """The leases that the server has given: host name -> address."""
    lines = server.leases.read_text(encoding="utf-8").splitlines() if server.leases.exists() else []
    return {line.split()[3]: line.split()[2] for line in lines}


def shown(engine: Engine, key: str = "blue/one") -> Dict[str, Any]:
    (found,) = describe.host(engine.state_dir, ["endpoints"], [key])["endpoints"]
    return dict(found)


def drift(engine: Engine) -> List[Any]:
    return describe.host(engine.state_dir, ["drift"])["drift"]


def resolver(name: str = "one") -> str:
    text = run(f"ip netns exec {name} cat /etc/resolv.conf")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def undo_last(engine: Engine) -> None:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with registry.lock(10, "test"):
        undo.undo(registry.transactions()[0].number, registry, options)


@pytest.mark.usefixtures("client")
def test_a_task_ends_with_a_lease_and_the_next_changes_nothing(engine: Engine, server: Dnsmasq) -> None:
    engine.network(subnets=[], addressing="dhcp")
    planned = engine.task("endpoint", check=True, network="blue", name="one", netns="one")
    assert [text for text in planned.warnings if "provisional" in text] == [
        "blue/one: its IPv4 address is provisional, only a DHCP server makes it known after a real run"
    ]
    assert server.count("DISCOVER") == 0
    engine.endpoint("one")
    (address,) = addresses("eth0", "one")
    assert held(server) == {"one": address.partition("/")[0]}
    assert (default("one")["gateway"], default("one")["protocol"]) == ("10.9.0.1", "dhcp")
    assert reachable("ip netns exec one", "10.9.0.1")
    assert resolver() == "nameserver 10.9.0.53\nsearch lab.example\n"
    engine.same("one")
    assert drift(engine) == []
    found = shown(engine)
    assert (found["addresses"], found["lease"]["address"], found["lease"]["server"]) == ([], address, "10.9.0.1")
    assert found["gateway"]["ipv4"] == "10.9.0.1"
    engine.absent("one")
    assert "one" not in run("ip netns list") and held(server) == {}
    assert not os.path.exists("/etc/netns/one/resolv.conf")
    engine.endpoint("one")
    assert addresses("eth0", "one") == [address], "the same client gets its address again"


@pytest.mark.usefixtures("client")
def test_it_begins_ends_and_is_undone_while_the_endpoint_lives(engine: Engine, server: Dnsmasq) -> None:
    engine.network(subnets=[{"subnet": "10.9.0.0/24"}])
    assert engine.endpoint("one")["addresses"] == ["10.9.0.2/24"]
    index = link("eth0", "one")["ifindex"]
    engine.endpoint("one", **DHCP, dhcp_hostname="shop")
    (address,) = addresses("eth0", "one")
    assert held(server) == {"shop": address.partition("/")[0]}
    engine.endpoint("one")
    assert (addresses("eth0", "one"), held(server)) == (["10.9.0.2/24"], {})
    assert [row["protocol"] for row in ip("-4", "route", "show", "default", netns="one")] == ["201"]
    assert drift(engine) == []
    undo_last(engine)
    assert until(lambda: addresses("eth0", "one")) == [address]
    assert until(lambda: default("one"))["protocol"] == "dhcp"
    run("ip -n lan addr add 10.9.0.9/24 dev lan10")
    with pytest.raises(InputError, match="10.9.0.9 is held by"):
        engine.endpoint("one", ipv4_address="10.9.0.9", probe=True)
    assert until(lambda: addresses("eth0", "one")) == [address], "what was given back is asked for again"
    assert link("eth0", "one")["ifindex"] == index
    assert restore.restore(transact.RunOptions(engine.state_dir)).left == []  # as the service does: resolv.conf
    engine.same("one", **DHCP, dhcp_hostname="shop")
    engine.endpoint("one", **DHCP, netns="two")
    assert (links("one") if "one" in run("ip netns list") else []) == [] and addresses("eth0", "two") == [address]
    undo_last(engine)
    assert until(lambda: addresses("eth0", "one")) == [address]


@pytest.mark.usefixtures("client")
def test_no_lease_in_time_and_the_host_is_as_before(engine: Engine, server: Dnsmasq) -> None:
    server.stop()
    engine.network(subnets=[], addressing="dhcp")
    before = Registry(engine.state_dir).load()
    guard, declared = (
        Armed(),
        model.declare("endpoint", {"network": "blue", "name": "one", "netns": "one"}, "present", False),
    )
    with pytest.raises(RolledBack, match=r"^blue/one.*The run was rolled back, and the host is as it was$"):
        converge.converge(declared, transact.RunOptions(engine.state_dir, dhcp_timeout=1, guard=guard))
    assert (guard.numbers, Registry(engine.state_dir).armed()) == ([], None)
    assert Registry(engine.state_dir).load() == before and "one" not in run("ip netns list")


@pytest.mark.usefixtures("client")
def test_a_lease_that_is_not_waited_for_fills_resolv_conf_by_the_service(engine: Engine, server: Dnsmasq) -> None:
    engine.network(subnets=[], addressing="dhcp")
    declared = model.declare("endpoint", {"network": "blue", "name": "one", "netns": "one"}, "present", False)
    found = converge.converge(declared, transact.RunOptions(engine.state_dir, dhcp_timeout=0))
    assert any("dhcp_timeout: 0" in text for text in found.warnings), found.warnings
    assert until(lambda: addresses("eth0", "one"))
    assert until(lambda: shown(engine)["lease"])
    assert [row["object"] for row in drift(engine)] == ["resolver netns:one"]
    assert restore.restore(transact.RunOptions(engine.state_dir)).left == []
    assert resolver() == "nameserver 10.9.0.53\nsearch lab.example\n"
    engine.same("one")


def test_without_a_client_it_is_refused_in_check_mode_too(engine: Engine) -> None:
    run("ip link add trunk type dummy; ip link set trunk up")
    engine.network(subnets=[], addressing="dhcp")
    for check in (True, False):
        with pytest.raises(InputError, match="no DHCP client runs on this host; set dhcp: true of vlan_service"):
            engine.task("endpoint", check=check, network="blue", name="one", netns="one")
