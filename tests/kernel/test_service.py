# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service on a real kernel: when it is ready, what it tells, and what wakes it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import validate
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import barrier, events
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import inspection, watch
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import links, nic, run
from tests.support.service import Service
from tests.support.waiting import until


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def engine(service: Service) -> Engine:
    for name in ("nica", "nicb"):
        nic(name)
    return Engine(service.state_dir)


@pytest.mark.parametrize("options", [(), ("--no-heal",)])
def test_a_damaged_registry_keeps_no_boot_waiting(engine: Engine, service: Service, options: List[str]) -> None:
    engine.network(parent="nica.10")
    Path(service.state_dir, "registry.db").write_bytes(b"nonsense" * 1000)
    service.start(*options)
    assert service.ready(5)
    time.sleep(1)
    run(f"touch {service.state_dir}/registry.db; ip link set nica down; ip link set nica up")
    time.sleep(2)
    assert len([line for line in service.lines() if "damaged" in line]) == 1, "one line a cause"


def test_a_systemd_that_hangs_stops_no_repair(engine: Engine, service: Service) -> None:
    """What the service says of itself is not read, and the socket takes ten messages."""
    engine.network(parent="nica.10")
    service.start()
    sysctl = Path("/proc/sys/net/ipv4/conf/nica.10/rp_filter")
    for _ in range(14):
        sysctl.write_text("0", encoding="ascii")
        assert until(lambda: sysctl.read_text(encoding="ascii") == "1\n", 20)
    assert service.ready(5), "it hears of it all the same"


def test_who_is_at_work_keeps_no_boot_waiting(engine: Engine, service: Service) -> None:
    engine.network(parent="nica.10")
    run("ip link del nica.10")
    with Registry(service.state_dir).lock(1, "eve"):
        service.start()
        assert service.ready(15)
    assert until(lambda: "nica.10" in links())


def test_a_look_works_out_only_what_follows_from_something_new(
    engine: Engine, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = watch.Watcher(service.state_dir, heal=True, sandboxed=False)

    def look() -> inspection.LookReport:
        scope = restore.RestoreScope()
        found = inspection.Inspection(service.state_dir, scope, 0, False, watcher._earlier).carry_out(lambda: None)
        if "registry" in found:
            watcher._remember(found)
        return found

    for name in ("nica", "nica-far", "nicb", "nicb-far"):  # whose addresses settle in their own time
        run(f"sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1")
    engine.network(parent="nica.10")
    first = look()
    with monkeypatch.context() as patch:
        patch.setattr(validate, "faults", lambda records: 1 / 0)
        assert list(look()) == ["unchanged", "stamp"]
        run("ip link set nica down; ip link set nica up")
        assert list(look()) == ["unchanged", "stamp"], "after a flap it is as it was"
        run("ip link del nica.10")
        assert look()["healed"] == ["link nica.10"]
        assert look()["healed"] == [], "what it wrote of that is no object"
        assert list(look()) == ["unchanged", "stamp"]
        run("ip link set nica.10 down")
        assert look()["healed"] == ["link nica.10"]
        if barrier.why_not() is None:
            look()
            barrier.remove()
            assert look()["healed"] == [f"filter {barrier.TABLE}"]
    engine.network(name="other", parent="nicb.20")
    with monkeypatch.context() as patch:
        patch.setattr(validate, "faults", lambda records: 1 / 0)
        assert "ZeroDivisionError" in look()["failed"]
    assert look()["objects"] == 2 * first["objects"]


@pytest.mark.slow
def test_a_full_trunk_that_flaps_is_one_look_and_few_lines(engine: Engine, service: Service) -> None:
    rows = [
        {"name": f"n{number}", "driver": "macvlan", "parent": f"nica.{number}", "gateway": "none"}
        for number in range(1, 4095)
    ]
    for number, row in enumerate(rows):
        row["subnets"] = [{"subnet": f"10.{number // 250}.{number % 250}.0/24", "gateway": row.pop("gateway")}]  # type: ignore[assignment]
    engine.map(networks=rows)
    service.start()
    assert service.ready(60)
    time.sleep(3)
    known = len(service.lines())
    before = service.cpu()
    print(f"\nthe first look: {before:.2f} s of CPU")
    run("ip link set nica down; ip link set nica up")
    time.sleep(8)
    spent = service.cpu() - before
    print(f"\nafter a flap: {spent:.2f} s of CPU")
    assert spent < 2 * before, "one look is as long as the first, and a busy machine makes two of one"
    assert len(service.lines()) - known <= 2
    run("ip link del nica")
    nic("nica")
    assert until(lambda: "nica.4094" in links())
    time.sleep(4)
    print(f"recreated: {service.cpu() - before - spent:.2f} s of CPU")
    said = service.lines()[known:]
    assert any(line.endswith("link nica.1, link nica.10, link nica.100 and 4091 more") for line in said)
    assert len(said) <= 6 and not any("Traceback" in line for line in said)


def test_a_namespace_that_its_owner_recreates_keeps_its_links(engine: Engine, service: Service) -> None:
    run("ip netns add web")
    engine.network(parent="nica.10")
    engine.endpoint("web")
    service.start()
    assert service.ready(15)
    for _ in range(5):
        run("ip netns del web; ip netns add web")
        begun = time.monotonic()
        assert until(lambda: "eth0" in links("web"), 20), service.lines()
        print(f"back after {time.monotonic() - begun:.1f} s")
    run("ip link del nica; ip link del nicb")
    for _ in range(3):
        nic("nica")
        assert until(lambda: "eth0" in links("web"), 20), service.lines()
        run("ip link del nica")
    assert not any("held" in line for line in service.lines())
    nic("nica")
    assert until(lambda: "eth0" in links("web"))
    for _ in range(3):
        assert until(lambda: "eth0" in links("web"))
        run("ip -n web link del eth0")
    assert until(lambda: any("held" in line for line in service.lines())), "somebody does remove it now"


def test_only_what_a_look_would_see_differently_wakes_the_service(engine: Engine) -> None:
    engine.network(parent="nica.10")
    run("ip netns add web")
    engine.endpoint("web")

    def listen(eager: bool = False) -> events.Kernel:
        """As after a look."""
        kernel = events.Kernel()
        numbers = events.number({"netns:web": "/run/netns/web"})
        observed = observe(Need(("netns:web",)))
        spaces = {events.OWN: observed.host, numbers["netns:web"]: observed.namespaces["netns:web"]}
        kernel.seen = {
            number: {index: events.fingerprint(link) for index, link in space.links.items()}
            for number, space in spaces.items()
        }
        kernel.names, kernel.eager = {"nica", "nica.10", "eth0"}, eager
        return kernel

    def wakes(command: str, eager: bool = False) -> bool:
        kernel = listen(eager)
        run(command)
        time.sleep(0.3)
        found = kernel.read_events()
        kernel.adopt(events.subscribe())
        return found

    assert not wakes("ip link set nica-far down; ip link set nica-far up"), "carrier, which no plan asks for"
    assert not wakes("ip link add foreign type dummy; ip link set foreign up"), "nothing waits"
    assert wakes("ip link add foreign2 type dummy", eager=True)
    time.sleep(3)  # addresses settle, which somebody may wait for
    assert not wakes("ip link set nica txqueuelen 77", eager=True), "it is what it was, as far as a plan goes"
    rule = "rule add from 192.0.2.2 lookup 9 priority 9 protocol {0}; ip -n web rule del from 192.0.2.2 lookup 9 priority 9 protocol {0}"
    assert not wakes("ip -n web " + rule.format(77)), "somebody's own"
    run("ip addr add 203.0.113.1/24 dev foreign")
    assert not wakes("ip route del 203.0.113.0/24 dev foreign"), "the connected route of somebody's own"
    for loud in (
        "ip -n web route del 192.0.2.0/24 dev eth0",
        "ip -n web " + rule.format(201),
        "ip link set nica mtu 1400",
        "ip link set nica alias cable",
        "ip -n web link set eth0 mtu 1300",
        "ip -n web link set eth0 name other",
        "ip link set nica.10 group 0",
        "ip -n web link del other",
        "ip link del nica.10",
    ):
        assert wakes(loud), loud
