# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live renames: whatever is called otherwise now, the networks on it stay, and every way of the engine follows.

Each case goes all the ways in turn, on one host, while an endpoint pings its neighbour: not one packet is lost.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    InputError,
    RegistryError,
    RolledBack,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, restore_plan, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import link, links, nic, run

NEIGHBOUR = "ip link add link nica-far name far netns far type vlan id 10; ip -n far addr add 192.0.2.254/24 dev far; ip -n far link set far up"


class Case(NamedTuple):
    before: str  # what makes the trunk
    rename: str
    trunk: str = "nica"  # its name before
    repaired: bool = False  # ours: the engine gives it its name back
    tagged: bool = True


CASES = {
    "NIC": Case("", "ip link set nica name ens3f0np0"),
    "NIC that keeps its old name as another": Case(
        "", "ip link set nica name ens3; ip link property add dev ens3 altname nica"
    ),
    "bond": Case(
        "ip link add bond0 type bond mode active-backup; ip link set nica down; ip link set nica master bond0; ip link set bond0 up",
        "ip link set bond0 name uplink9",
        "bond0",
    ),
    "bridge": Case(
        "ip link add br0 type bridge; ip link set nica master br0; ip link set br0 up",
        "ip link set br0 name br7",
        "br0",
    ),
    "sub-interface of others": Case(
        "ip link add link nica name tenant type vlan id 10; ip link set tenant up",
        "ip link set tenant name lodger",
        "tenant",
        tagged=False,
    ),
    "sub-interface of ours": Case("", "ip link set nica.10 name blue", repaired=True),
    "link of an endpoint": Case("", "ip -n web link set eth0 name lan0", repaired=True),
}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    for name in ("nica", "nicb"):
        nic(name)
    run("ip netns add far; " + NEIGHBOUR)
    return Engine(str(tmp_path / "state"))


@contextlib.contextmanager
def nothing_lost(netns: str = "web") -> Iterator[None]:
    """Every ping between an endpoint and its neighbour is answered."""
    run(f"ip netns exec {netns} ping -c 1 -W 5 192.0.2.254 >/dev/null")
    command = ["ip", "netns", "exec", netns, "ping", "-q", "-i", "0.005", "-W", "5", "192.0.2.254"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ping:
        try:
            yield
        finally:
            time.sleep(0.3)  # also where the renaming was over sooner: some thirty packets afterwards
            ping.send_signal(signal.SIGINT)
            said = ping.communicate()[0]
    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", said)[0])
    print(f"{sent} packets, {sent - received} lost")
    assert sent >= 20 and received == sent, said


def network(name: str, parent: str, subnet: str = "192.0.2.0/24") -> Dict[str, Any]:
    return {"name": name, "driver": "macvlan", "parent": parent, "subnets": [{"subnet": subnet, "gateway": "none"}]}


def repair(engine: Engine) -> List[Change]:
    """What the service does."""
    found = restore.restore(transact.RunOptions(engine.state_dir))
    assert found.left == [], found.left
    return found.done


def drift(engine: Engine) -> List[Change]:
    changes, left, _records = restore.drift(Registry(engine.state_dir))
    assert left == [], left
    return changes


def turn_last(engine: Engine) -> None:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)


@pytest.mark.parametrize("way", ["map", "map with trunks", "module"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_live_rename(engine: Engine, case: Case, way: str) -> None:
    run(case.before or ":")
    trunks = {"trunks": {"uplink": case.trunk}} if way == "map with trunks" else {}
    trunk = "uplink" if trunks else case.trunk
    blue, more = (f"{trunk}.10", f"{trunk}.11") if case.tagged else (trunk, trunk)
    rows = [network("blue", blue)]
    endpoints = [{"network": "blue", "name": "web", "netns": "web"}]

    def declare(check: bool = False) -> List[Change]:
        if way != "module":
            return engine.map(check, networks=rows, endpoints=endpoints, **trunks).changes
        outcomes = [engine.task("network", check=check, **row) for row in rows]
        outcomes += [engine.task("endpoint", check=check, **row) for row in endpoints]
        return [change for outcome in outcomes for change in outcome.changes]

    declare()
    index = link("eth0", "web")["ifindex"]
    with nothing_lost():
        run(case.rename)
        changed = [("link", {"name"} if case.repaired else set())] if case.repaired else []
        assert [(one.kind, set(one.after or ()) - {"netns"}) for one in drift(engine)] == changed
        assert [(one.kind, set(one.after or ()) - {"netns"}) for one in declare(check=True)] == changed
        if way == "map":
            assert len(repair(engine)) == len(changed)
        assert len(declare()) == (len(changed) if way != "map" else 0)
        assert declare(check=True) == [] and drift(engine) == [] and repair(engine) == []
        if case.tagged:  # a new row goes to the same NIC, and can be undone
            rows.append(network("more", more, "198.51.100.0/24"))
            assert declare()
            assert link(f"{case.trunk}.11")["link"] == link(f"{case.trunk}.10")["link"]
            turn_last(engine)
            assert f"{case.trunk}.11" not in links() and drift(engine) == []
            rows.pop()
        assert link("eth0", "web")["ifindex"] == index
    if way == "module":
        engine.task("endpoint", "absent", network="blue", name="web")
        engine.task("network", "absent", name="blue")
    else:
        engine.map(purge=True, **trunks)
    assert run("ip -o link show group 8021") == "" and "web" not in run("ip netns list")
    assert not any(engine.records(kind) for kind in ("link", "network", "nic"))


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
@pytest.mark.parametrize("parent", ["nica.10", None])
def test_what_was_renamed_goes_with_its_network(engine: Engine, parent: Optional[str], driver: str) -> None:
    """The parent, the host's own link and the endpoint's: ours by mark and record, whatever they are called."""
    before = links()
    rows = {"subnets": [{"subnet": "192.0.2.0/24", "gateway": "none"}], "host_access": True}
    engine.task("network", name="blue", driver=driver, parent=parent, **rows)
    engine.endpoint("web")
    ours = [name for name in links() if name not in before]
    assert len(ours) == 2
    for position, name in enumerate(reversed(ours)):
        run(f"ip link set {name} name stray{position}")
    run("ip -n web link set eth0 name lan0")
    assert engine.absent("web").changed
    assert engine.task("network", "absent", name="blue").changed
    assert links() == before and not engine.records("link") and "web" not in run("ip netns list")


RENAME_SPACE = """
    touch /run/netns/shop; mount --bind /run/netns/web /run/netns/shop; umount /run/netns/web; rm /run/netns/web
"""


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_an_endpoint_moves_on_a_sub_interface_that_was_renamed(
    engine: Engine, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is about the endpoint alone, so the sub-interface keeps the name that somebody gave it."""
    engine.task("network", **{**network("blue", "nica.10"), "driver": driver})
    engine.endpoint("one", netns="a")
    run("ip link set nica.10 name moved")
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "finish", lambda *_: (_ for _ in ()).throw(RegistryError("full")))
        with pytest.raises(RolledBack):
            engine.endpoint("one", netns="b")
    engine.same("one", netns="a")
    engine.endpoint("one", netns="b")
    assert "eth0" in links("b") and "moved" in links()
    engine.same("one", netns="b")
    run("ip link set moved name again")
    engine.endpoint("two", netns="c")
    assert "eth0" in links("c")
    engine.absent("two")


@pytest.mark.parametrize("way", ["map", "module"])
def test_a_namespace_that_was_renamed(engine: Engine, way: str) -> None:
    """It may be meant, or another that will have its name: it is refused by name, left alone, and followed once corrected."""
    rows = [network("blue", "nica.10")]

    def declare(netns: str, check: bool = False, **options: Any) -> List[Change]:
        endpoints = [{"network": "blue", "name": "web", "netns": netns}]
        if way == "map":
            return engine.map(check, networks=rows, endpoints=endpoints, **options).changes
        outcomes = [engine.task("network", check=check, **row) for row in rows]
        return [
            change
            for outcome in (*outcomes, *(engine.task("endpoint", check=check, **row) for row in endpoints))
            for change in outcome.changes
        ]

    declare("web")
    index = link("eth0", "web")["ifindex"]
    lives = "blue/web lives on as eth0 in netns:shop, while netns:web is gone or was replaced"
    with nothing_lost("web"):
        run(RENAME_SPACE)
        for check in (True, False):
            with pytest.raises(InputError, match=lives):
                declare("web", check)
        with pytest.raises(InputError, match=lives):
            engine.map(purge=True) if way == "map" else engine.task("endpoint", "absent", network="blue", name="web")
        changes, left, _records = restore.drift(Registry(engine.state_dir))
        assert not [change for change in changes if change.kind != "netns"], changes
        assert "lives on as eth0 in netns:shop, which netns:web may be called now" in {one.why for one in left}
        restore.restore(transact.RunOptions(engine.state_dir))  # makes the empty namespace of the old name, and no link
        assert run("ip -n web -br link show type macvlan") == "" and link("eth0", "shop")["ifindex"] == index
        assert {one.kind for one in declare("shop", check=True)} == {one.kind for one in declare("shop")}
        assert declare("shop") == [] == drift(engine) and link("eth0", "shop")["ifindex"] == index
        rows.append(network("more", "nica.11", "198.51.100.0/24"))
        assert declare("shop")
        turn_last(engine)
        assert "nica.11" not in links() and link("eth0", "shop")["ifindex"] == index
    engine.map(purge=True) if way == "map" else engine.task("endpoint", "absent", network="blue", name="web")
    assert run("ip -n shop -br link show type macvlan") == "" and not engine.records("endpoint")


SWAP = "ip link set nica name x; ip link set nicb name nica; ip link set x name nicb"


@pytest.mark.parametrize("both", [False, True], ids=["one in use", "both in use"])
@pytest.mark.parametrize("way", ["map", "module"])
def test_two_nics_swap_their_names(engine: Engine, way: str, both: bool) -> None:
    """A name alone then means nothing: it is refused, and the corrected one goes on where it was."""
    subnets = ("192.0.2.0/24", "198.51.100.0/24")

    def declare(up: str, down: str) -> List[Change]:
        pairs = list(zip(("blue", "red"), (up, down), subnets))[: 2 if both else 1]
        endpoints = [{"network": name, "name": "web", "netns": f"web-{name}"} for name, _nic, _subnet in pairs]
        if way == "map":
            rows = [network(name, f"{name}-trunk.10", subnet) for name, _nic, subnet in pairs]
            trunks = {f"{name}-trunk": nic for name, nic, _subnet in pairs}
            return engine.map(networks=rows, endpoints=endpoints, trunks=trunks).changes
        outcomes = [engine.task("network", **network(name, f"{nic}.10", subnet)) for name, nic, subnet in pairs]
        outcomes += [engine.task("endpoint", **row) for row in endpoints]
        return [change for outcome in outcomes for change in outcome.changes]

    declare("nica", "nicb")
    with nothing_lost("web-blue"):
        run(SWAP)
        assert drift(engine) == [] and repair(engine) == []
        with pytest.raises(InputError, match=r"nica was .*, which is called nicb now; nica is .* now; give the name"):
            declare("nica", "nicb")
        assert declare("nicb", "nica") == [] and drift(engine) == []
    assert link("nica.10")["link"] == "nicb"
    run("ip -n web-blue link del eth0; ip link del nica.10")
    assert repair(engine) and link("nica.10")["link"] == "nicb", (
        "what was corrected is restored on the NIC that is meant"
    )
    assert declare("nicb", "nica") == []


def test_links_and_routes_on_nics_that_swap_their_names(engine: Engine) -> None:
    """A map without logical trunks is corrected by the names alone."""

    def declare(up: str, down: str) -> List[Change]:
        rows = [network("blue", f"{up}.10"), network("red", f"{down}.10", "198.51.100.0/24")]
        more = [{"parent": up, "vlan_id": 30, "addresses": ["203.0.113.1/24"]}]
        routes = [{"name": "more", "routes": [{"prefix": "10.9.0.0/16", "dev": up}]}]
        return engine.map(networks=rows, links=more, routes=routes).changes

    declare("nica", "nicb")
    run(SWAP)
    with pytest.raises(InputError, match=r"links\[0\].parent: nica was .*, which is called nicb now; nica is .* now"):
        declare("nica", "nicb")
    assert declare("nicb", "nica") == [] == drift(engine)
    assert declare("nicb", "nica") == [] and engine.records("vlan").keys() == {"nica.30"}
    with pytest.raises(InputError, match="nica was .*, which is called nicb now"):
        declare("nica", "nicb")
    assert engine.task("vlan", "absent", adopt=True, name="nicb.30").changes and "nica.30" not in links()


def test_what_is_in_dispute_is_not_built(engine: Engine) -> None:
    engine.task("network", **network("blue", "nica.10"))
    run(SWAP + "; ip link del nica.10")
    found = restore.restore(transact.RunOptions(engine.state_dir), restore.RestoreScope(boot=True))
    assert found.done == [] and links() == ["nica-far", "nicb", "nicb-far", "nica"]
    (left,) = found.left
    assert left.key == "nica.10" and left.how == restore_plan.WAITS
    assert re.fullmatch(r"waits for nica: nica was a veth, which is called nicb now; nica is a veth now", left.why), (
        left.why
    )
    with pytest.raises(InputError, match="set adopt: true to use the one with this name now"):
        engine.task("network", **network("blue", "nica.10"))
    assert engine.task("network", adopt=True, **network("blue", "nica.10")).changes
    assert link("nica.10")["link"] == "nica"
    assert engine.task("network", **network("blue", "nica.10")).changes == [] == drift(engine)


def test_a_parent_that_was_made_again(engine: Engine) -> None:
    """With the same name and kind it is the parent; of another kind it is another link."""
    run("ip link add d0 type dummy; ip link set d0 up")
    engine.task("network", **network("blue", "d0.10"))
    run("ip link del d0; ip link add d0 type dummy; ip link set d0 up")
    assert [change.key for change in repair(engine)] == ["d0.10"] and link("d0.10")["link"] == "d0"
    run("ip link del d0; ip link add d0 type bridge; ip link set d0 up")
    (left,) = restore.restore(transact.RunOptions(engine.state_dir)).left
    assert left.why == "waits for d0: d0 was a dummy, which is not there; d0 is a bridge now"
    with pytest.raises(InputError, match="d0 was a dummy, which is not there; d0 is a bridge now"):
        engine.task("network", **network("blue", "d0.10"))
    assert "d0.10" not in links()


def test_an_alternative_name_that_another_nic_took(engine: Engine) -> None:
    run("ip link property add dev nica altname enp5s0")
    by = {"uplink": {"match": {"altname": "enp5s0"}}}
    rows = [network("blue", "uplink.10")]
    engine.map(networks=rows, trunks=by)
    run("ip link set nica name ens5")
    assert engine.map(networks=rows, trunks=by).changes == []
    run("ip link property del dev ens5 altname enp5s0")
    assert engine.map(networks=rows, trunks=by).changes == [], "what it is, is still known"
    run("ip link property add dev nicb altname enp5s0")
    with pytest.raises(InputError, match=r"trunks.uplink: enp5s0 was a veth, which is called ens5 now"):
        engine.map(networks=rows, trunks=by)
    assert engine.map(networks=rows, trunks={"uplink": "ens5"}).changes == []


def test_a_nic_that_was_away_in_another_namespace(engine: Engine) -> None:
    engine.task("network", **network("blue", "nica.10"))
    run("ip netns add guest; ip link set nica netns guest")
    assert [left.why for left in restore.restore(transact.RunOptions(engine.state_dir)).left] == [
        "waits for nica, which is not there"
    ]
    run("ip -n guest link set nica netns $$; ip link set nica up")
    assert repair(engine) == [] == drift(engine)


def test_an_endpoint_that_moved_is_undone(engine: Engine) -> None:
    """Its link in the new namespace goes with the undo: it is no stray that came to be called otherwise."""
    engine.task("network", **network("blue", "nica.10"))
    engine.endpoint("web", netns="one")
    engine.endpoint("web", netns="two")
    turn_last(engine)
    assert link("eth0", "one")["linkinfo"]["info_kind"] == "macvlan" and "two" not in run("ip netns list")
    assert drift(engine) == []


def test_a_sub_interface_of_ours_that_was_away_in_another_namespace(engine: Engine) -> None:
    """It is named where it is, not made twice; and back again it is as it was."""
    engine.task("network", **network("blue", "nica.10"))
    engine.task("endpoint", network="blue", name="web", netns="web")
    mac = link("nica.10")["address"]
    run("ip netns add guest; ip link set nica.10 netns guest")
    for check in (True, False):
        with pytest.raises(
            InputError, match=r"VLAN 10 of nica is that of nica.10 in netns:guest; a NIC can have each VLAN only once"
        ):
            engine.task("network", check=check, **network("blue", "nica.10"))
    found = restore.restore(transact.RunOptions(engine.state_dir))
    assert "nica.10" not in links() and any(left.key == "nica.10" for left in found.left), found
    with pytest.raises(InputError, match="blue has the endpoints web|network blue has the endpoints"):
        engine.task("network", "absent", name="blue")
    run("ip -n guest link set nica.10 netns $$")
    repair(engine)
    assert drift(engine) == [] and engine.task("network", **network("blue", "nica.10")).changes == []
    assert link("nica.10")["address"] == mac and "UP" in link("nica.10")["flags"]
    run("ip netns exec web ping -c 1 -W 5 192.0.2.254 >/dev/null")


def test_the_link_of_an_endpoint_that_was_away_in_another_namespace(engine: Engine) -> None:
    engine.task("network", **network("blue", "nica.10"))
    engine.task("endpoint", network="blue", name="web", netns="web")
    index = link("eth0", "web")["ifindex"]
    run("ip netns add guest; ip -n web link set eth0 netns guest")
    with pytest.raises(InputError, match="blue/web lives on as eth0 in netns:guest"):
        engine.task("endpoint", network="blue", name="web", netns="web")
    found = restore.restore(transact.RunOptions(engine.state_dir))
    assert any("lives on as eth0 in netns:guest" in left.why for left in found.left) and links("guest") == ["eth0"]
    run("ip -n guest link set eth0 netns web")
    repair(engine)
    assert drift(engine) == [] and link("eth0", "web")["ifindex"] == index
    run("ip netns exec web ping -c 1 -W 5 192.0.2.254 >/dev/null")
