# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks on a real kernel: every mode and flag, parents of every sort, addresses, and who reaches whom."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    InputError,
    RegistryError,
    RolledBack,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.network import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.converge import Outcome
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.transact import RunOptions
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import data, ip, link, links, needs_ipv6, run, sysctl
from tests.support.traffic import addresses, default, reachable, reaches

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]

MACVLAN: List[Tuple[str, str, Optional[str]]] = [("macvlan", mode, None) for mode in MACVLAN_MODES]
IPVLAN: List[Tuple[str, str, Optional[str]]] = [
    ("ipvlan", mode, flag) for mode in IPVLAN_MODES for flag in IPVLAN_FLAGS
]


def subnets(*texts: str, **more: Any) -> List[Dict[str, Any]]:
    return [{"subnet": text, **more} for text in texts]


def network(engine: Engine, name: str = "blue", driver: str = "macvlan", **options: Any) -> Outcome:
    """A network: check mode says what the run then does, and a second run has nothing to do."""
    earlier = engine.network(name, driver, check=True, **options)
    done = engine.network(name, driver, **options)
    assert earlier.changes == done.changes
    again = engine.network(name, driver, check=True, **options)
    assert again.changes == []
    return done


def no_network(engine: Engine, name: str = "blue") -> Outcome:
    earlier = engine.task("network", "absent", check=True, name=name)
    done = engine.task("network", "absent", name=name)
    assert earlier.changes == done.changes
    assert engine.task("network", "absent", name=name).changes == []
    return done


def refusal(engine: Engine, name: str = "blue", driver: str = "macvlan", **options: Any) -> str:
    """Why a network is refused, in check mode as in a run; the host stays as it was."""
    before = picture(engine)
    said = []
    for check in (True, False):
        with pytest.raises(InputError) as caught:
            engine.network(name, driver, check=check, **options)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert picture(engine) == before
    return said[0]


def picture(engine: Engine) -> Any:
    """The host, but for what comes and goes by itself."""
    shown = [
        (
            row["ifname"],
            row["ifindex"],
            row["mtu"],
            "UP" in row["flags"],
            row.get("linkinfo"),
            [own["local"] for own in row["addr_info"]],
        )
        for row in ip("addr")
    ]
    return shown, engine.records("network"), engine.records("link")


def mode_of(name: str, dev: str = "eth0") -> List[str]:
    """Mode and flag of an endpoint's link."""
    shown = data(dev, name)
    return [shown["mode"], *(flag for flag in IPVLAN_FLAGS if shown.get(flag) is True)]


# --- modes and flags -----------------------------------------------------------------------------


@pytest.mark.parametrize(("driver", "mode", "flag"), MACVLAN + IPVLAN)
def test_every_mode_and_flag_comes_and_goes(engine: Engine, driver: str, mode: str, flag: Optional[str]) -> None:
    network(engine, driver=driver, mode=mode, flag=flag)
    shown = link("trunk.10")
    assert (shown["link"], shown["linkinfo"]["info_data"]["id"]) == ("trunk", 10)
    assert shown["group"] in ("netops-underlay", str(LINK_GROUP))  # by name where iproute2 knows ours
    names = ["one"] if mode == "passthru" else ["one", "two"]
    listed = {"source_macs": ["02:00:00:00:00:01"]} if mode == "source" else {}
    for name in names:
        engine.endpoint(name, **listed)
        assert mode_of(name) == [mode, *([flag] if flag else [])]
        assert "UP" in link("eth0", name)["flags"]
        engine.same(name, **listed)
    for name in names:
        engine.absent(name)
    assert ip("netns") == []
    no_network(engine)
    assert sorted(links()) == ["far", "trunk"]
    assert not any(engine.records(kind) for kind in ("network", "endpoint", "link", "address", "route", "netns"))


def test_modes_of_macvlan_change_in_place(engine: Engine) -> None:
    network(engine)
    lease = engine.endpoint("one")["addresses"]
    index = link("eth0", "one")["ifindex"]
    for mode in ("private", "vepa", "bridge"):
        network(engine, mode=mode)
        assert (mode_of("one"), link("eth0", "one")["ifindex"], addresses("eth0", "one")) == ([mode], index, lease)


def test_modes_and_flags_of_ipvlan_change_in_place(engine: Engine) -> None:
    network(engine, driver="ipvlan")
    lease = engine.endpoint("one")["addresses"]
    index = link("eth0", "one")["ifindex"]
    for mode, flag in (("l2", "private"), ("l2", "vepa"), ("l3", "vepa"), ("l3s", "bridge"), ("l2", "bridge")):
        network(engine, driver="ipvlan", mode=mode, flag=flag)
        assert (mode_of("one"), link("eth0", "one")["ifindex"], addresses("eth0", "one")) == (
            [mode, flag],
            index,
            lease,
        )


def test_broadcast_options_change_in_place(engine: Engine) -> None:
    network(engine, bcqueuelen=500)
    engine.endpoint("one")
    assert data("eth0", "one")["bcqueuelen"] == 500
    network(engine, bcqueuelen=2000)
    assert data("eth0", "one")["bcqueuelen"] == 2000
    assert "bclim" not in data("eth0", "one")
    for limit in (-1, 5):
        network(engine, bcqueuelen=2000, bclim=limit)
        assert (data("eth0", "one")["bcqueuelen"], data("eth0", "one")["bclim"]) == (2000, limit)


@pytest.mark.one_kernel
def test_labels_are_kept_and_change_nothing_else(engine: Engine) -> None:
    network(engine, labels={"rack": "a7"})
    engine.endpoint("one")
    changed = network(engine, labels={"rack": "a7", "room": "north"})
    assert [(change.kind, change.key) for change in changed.changes] == [("network", "blue")]
    assert describe.host(engine.state_dir, ("networks",))["networks"][0]["labels"] == {"rack": "a7", "room": "north"}
    network(engine)
    assert engine.records("network")["blue"]["labels"] == {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "passthru"}, "mode: is bridge and cannot become passthru under the endpoints one"),
        ({"driver": "ipvlan"}, "driver: is macvlan and cannot become ipvlan under the endpoints one"),
        ({"parent": "trunk.11"}, "parent: is trunk.10 and cannot become trunk.11 under the endpoints one"),
    ],
)
def test_what_cannot_change_under_an_endpoint_recreates_it_with_recreate(
    engine: Engine, options: Dict[str, Any], text: str
) -> None:
    network(engine)
    before = engine.endpoint("one")
    assert text in refusal(engine, **options) and "set recreate: true" in refusal(engine, **options)
    network(engine, recreate=True, **options)
    shown = link("eth0", "one")
    assert (
        shown["linkinfo"]["info_kind"] == options.get("driver", "macvlan")
        and addresses("eth0", "one") == before["addresses"]
    )
    if "parent" in options:
        assert shown["address"] == before["mac"]
        assert "trunk.10" not in links() and "trunk.11" in links()
    engine.same("one")


def test_a_network_without_endpoints_changes_freely(engine: Engine) -> None:
    network(engine)
    network(engine, driver="ipvlan", mode="l3s", parent="trunk.11")
    assert sorted(links()) == ["far", "trunk", "trunk.11"]


@pytest.mark.one_kernel
def test_passthru_leaves_the_hosts_own_addresses_and_the_mac_of_its_nic_alone(engine: Engine) -> None:
    """All that comes for the NIC goes to the endpoint, so its addresses would be of no use; and a MAC of the endpoint is the NIC's."""
    run("ip addr add 192.0.2.9/24 dev trunk")
    text = "mode: trunk has the address 192.0.2.9/24, and passthru takes all its traffic away from the host; use a VLAN of it, or another mode"
    assert text in refusal(engine, parent="trunk", mode="passthru")
    network(engine, parent="trunk", subnets=subnets("192.0.2.0/24"))
    assert text in refusal(engine, parent="trunk", mode="passthru", subnets=subnets("192.0.2.0/24"))
    no_network(engine)
    links_row = {"parent": "trunk", "vlan_id": 10, "addresses": ["198.51.100.9/24"]}
    with pytest.raises(InputError, match="mode: trunk.10 has the address 198.51.100.9/24, and passthru takes all"):
        engine.map(
            links=[links_row],
            networks=[{"name": "blue", "driver": "macvlan", "mode": "passthru", "parent": "trunk.10"}],
        )
    network(engine, mode="passthru")
    mac = link("trunk.10")["address"]
    for _twice in range(2):
        with pytest.raises(
            InputError,
            match="mac_address: a passthru endpoint has the MAC of its parent; leave it out, or use another mode",
        ):
            engine.endpoint("one", mac_address="02:00:5e:00:00:01")
        assert link("trunk.10")["address"] == mac
        engine.endpoint("one")


# --- parents -------------------------------------------------------------------------------------


def test_a_network_on_the_nic_itself(engine: Engine) -> None:
    network(engine, parent="trunk")
    engine.endpoint("one")
    assert link("eth0", "one")["link_index"] == link("trunk")["ifindex"]
    engine.absent("one")
    no_network(engine)
    assert sorted(links()) == ["far", "trunk"]


def test_a_foreign_sub_interface_of_any_name_is_used_and_left_alone(engine: Engine) -> None:
    run("ip link add link trunk name foo type vlan id 40; ip link set foo up")
    before = link("foo")
    network(engine, parent="foo")
    engine.endpoint("one")
    engine.absent("one")
    no_network(engine)
    assert {key: link("foo")[key] for key in ("ifindex", "group", "flags", "mtu")} == {
        key: before[key] for key in ("ifindex", "group", "flags", "mtu")
    }
    assert "parent: VLAN 40 of trunk already exists as foo; give parent: foo" in refusal(engine, parent="trunk.40")


def test_qinq_and_its_removal(engine: Engine) -> None:
    network(engine, "outer", parent="trunk.100")
    network(engine, "inner", parent="trunk.100.200", subnet="198.51.100.0/24")
    assert link("trunk.100.200")["link"] == "trunk.100"
    no_network(engine, "outer")
    assert {"trunk.100", "trunk.100.200"} <= set(links())
    no_network(engine, "inner")
    assert sorted(links()) == ["far", "trunk"]
    assert "trunk.7 does not exist" in refusal(engine, parent="trunk.7.8")


def test_alternative_and_long_names(engine: Engine) -> None:
    run("ip link property add dev trunk altname averylongnicname altname lan")
    network(engine, parent="averylongnicname.10")
    (made,) = [name for name in links() if name not in ("trunk", "far")]
    shown = link(made)
    assert (
        len(made) <= 15 and shown["altnames"] == ["averylongnicname.10"] and shown["linkinfo"]["info_data"]["id"] == 10
    )
    network(engine, "red", parent="lan", subnet="198.51.100.0/24")
    assert "parent: trunk is the parent of red already" in refusal(
        engine, "green", parent="trunk", subnet="203.0.113.0/24"
    )
    no_network(engine)
    assert made not in links()


@pytest.mark.parametrize("options", [{}, {"internal": True}])
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_dummy_where_there_is_no_parent(engine: Engine, driver: str, options: Dict[str, Any]) -> None:
    earlier = engine.task(
        "network", check=True, name="blue", driver=driver, subnets=subnets("192.0.2.0/24"), mtu=1400, **options
    )
    done = engine.task("network", name="blue", driver=driver, subnets=subnets("192.0.2.0/24"), mtu=1400, **options)
    assert earlier.changes == done.changes
    (made,) = [name for name in links() if name not in ("trunk", "far")]
    assert (
        made.startswith("dm-" if driver == "macvlan" else "di-")
        and link(made)["linkinfo"]["info_kind"] == "dummy"
        and link(made)["mtu"] == 1400
        and link(made)["address"] == engine.records("link")[made]["mac"]
    )
    engine.endpoint("one")
    engine.endpoint("two")
    assert (link("eth0", "one")["address"] == link(made)["address"]) == (driver == "ipvlan")
    assert default("one") == {} and addresses("eth0", "one") == ["192.0.2.1/24"]
    assert reachable("ip netns exec one", "192.0.2.2")
    engine.absent("one")
    engine.absent("two")
    no_network(engine)
    assert sorted(links()) == ["far", "trunk"]


def test_networks_share_a_parent_where_both_want_it(engine: Engine) -> None:
    network(engine, share_parent=True)
    assert "parent: trunk.10 is the parent of blue already" in refusal(engine, "red", subnet="198.51.100.0/24")
    network(engine, "red", subnet="198.51.100.0/24", share_parent=True, mode="private")
    assert "mode: trunk.10 carries" in refusal(
        engine, "green", subnet="203.0.113.0/24", share_parent=True, mode="passthru"
    )
    assert "macvlan and ipvlan cannot share a parent" in refusal(
        engine, "green", "ipvlan", subnet="203.0.113.0/24", share_parent=True
    )
    assert "192.0.2.0/25 overlaps 192.0.2.0/24 of blue on the same trunk.10" in refusal(
        engine, "green", subnet="192.0.2.0/25", share_parent=True
    )
    engine.endpoint("one")
    engine.endpoint("two", "red")
    assert (mode_of("one"), mode_of("two")) == (["bridge"], ["private"])
    engine.absent("one")
    no_network(engine)
    assert "trunk.10" in links() and mode_of("two") == ["private"]
    engine.absent("two", "red")
    no_network(engine, "red")
    assert "trunk.10" not in links()


@pytest.mark.one_kernel
def test_ipvlan_networks_that_share_a_parent_have_one_mode_and_flag(engine: Engine) -> None:
    network(engine, driver="ipvlan", share_parent=True)
    text = refusal(engine, "red", "ipvlan", mode="l3", subnet="198.51.100.0/24", share_parent=True)
    assert "mode: blue on trunk.10 is l2 bridge, and a parent has one mode and flag for all" in text
    network(engine, "red", "ipvlan", subnet="198.51.100.0/24", share_parent=True)
    assert "blue on trunk.10 is l2 bridge" in refusal(
        engine, "red", "ipvlan", flag="private", subnet="198.51.100.0/24", share_parent=True
    )


def test_a_base_that_is_down_is_set_up_or_left(engine: Engine) -> None:
    run("ip link set trunk down")
    done = network(engine, bring_up_parent=False)
    assert any("trunk is down and is left down (bring_up_parent: false)" in text for text in done.warnings)
    assert "UP" not in link("trunk")["flags"] and "UP" not in link("trunk.10")["flags"]
    done = network(engine)
    assert [change.key for change in done.changes if change.kind == "link"] == ["trunk", "trunk.10"]
    assert "UP" in link("trunk")["flags"] and "UP" in link("trunk.10")["flags"]
    no_network(engine)
    assert "UP" in link("trunk")["flags"]


def test_links_without_an_mtu_follow_the_trunk_down_and_up(engine: Engine) -> None:
    run("ip link set trunk mtu 9000")
    network(engine)
    engine.endpoint("one")
    run("ip link set trunk mtu 1500; ip link set trunk mtu 9000")
    assert (link("trunk.10")["mtu"], link("eth0", "one")["mtu"]) == (1500, 1500)
    network(engine)
    assert (link("trunk.10")["mtu"], link("eth0", "one")["mtu"]) == (9000, 9000)
    engine.endpoint("two")
    assert link("eth0", "two")["mtu"] == 9000
    engine.same("one")


def test_an_mtu_is_that_of_the_sub_interface_and_of_the_endpoints(engine: Engine) -> None:
    network(engine, mtu=1400)
    engine.endpoint("one")
    assert (link("trunk.10")["mtu"], link("eth0", "one")["mtu"]) == (1400, 1400)
    network(engine, mtu=1300)
    assert (link("trunk.10")["mtu"], link("eth0", "one")["mtu"]) == (1300, 1300)
    network(engine, mtu=1450)
    assert (link("trunk.10")["mtu"], link("eth0", "one")["mtu"]) == (1450, 1450)
    assert "mtu: 9000 is more than the 1500 of trunk; give 1500 at most, or raise trunk" in refusal(engine, mtu=9000)


IPV6_SETTINGS = (
    "disable_ipv6",
    "accept_ra",
    "autoconf",
    "ndisc_notify",
    "addr_gen_mode",
    "accept_redirects",
    "forwarding",
)


def ipv6_settings() -> List[Any]:
    places = (("trunk|10", None), ("eth0", "one"), ("eth0", "two"))
    return [sysctl(f"ipv6.conf.{name}.{setting}", netns) for name, netns in places for setting in IPV6_SETTINGS]


@needs_ipv6
@pytest.mark.parametrize(("driver", "mode"), [("macvlan", "bridge"), ("ipvlan", "l3")])
def test_ipv6_that_comes_with_a_larger_mtu_has_our_settings(driver: str, mode: str, engine: Engine) -> None:
    """The kernel takes it from a link with an MTU below 1280, and gives it back with the defaults."""
    options: Dict[str, Any] = {"driver": driver, "mode": mode}
    network(engine, **options)
    engine.endpoint("one", sysctls={"ipv6.hop_limit": 9})
    engine.endpoint("two")
    before = ipv6_settings()
    network(engine, mtu=1000, **options)
    with pytest.raises(FileNotFoundError):
        ipv6_settings()
    network(engine, mtu=1280, **options)
    assert ipv6_settings() == before and sysctl("ipv6.conf.eth0.hop_limit", "one") == 9
    network(engine, mtu=1000, **options)
    registry = Registry(engine.state_dir)
    with registry.lock(10, "a test"):
        undo.undo(registry.transactions()[0].number, registry, RunOptions(engine.state_dir))
    assert ipv6_settings() == before and sysctl("ipv6.conf.eth0.hop_limit", "one") == 9
    assert describe.host(engine.state_dir, ("drift",)) == {"drift": []}


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_links_on_a_sub_interface_that_the_same_run_makes_without_ipv6(driver: str, engine: Engine) -> None:
    """The trunk's MTU is below 1280, and the sub-interface gets it: nothing on it has IPv6."""
    run("ip link set trunk mtu 1200")
    subnets = [{"subnet": "192.0.2.0/24", "gateway": "none"}]
    rows = {"networks": [{"name": "blue", "driver": driver, "parent": "trunk.10", "subnets": subnets, "host_access": True}],
            "endpoints": [{"network": "blue", "name": "one", "netns": "one"}]}  # fmt: skip
    engine.map(**rows)
    assert {link("eth0", "one")["mtu"], *(link(name)["mtu"] for name in links() if name.startswith("ha-"))} == {1200}
    assert engine.map(**rows).changes == []


@needs_ipv6
def test_a_smaller_mtu_that_is_rolled_back_leaves_our_settings(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    network(engine)
    engine.endpoint("one")
    engine.endpoint("two")
    before = ipv6_settings()
    monkeypatch.setattr(Registry, "finish", lambda *_: (_ for _ in ()).throw(RegistryError("full")))
    with pytest.raises(RolledBack):
        engine.network(mtu=1000)
    assert ipv6_settings() == before and link("eth0", "one")["mtu"] == 1500


def test_parents_that_go_come_back_with_the_next_run(engine: Engine) -> None:
    network(engine)
    lease = engine.endpoint("one")["addresses"]
    engine.endpoint("two")
    run("ip link del trunk.10")
    assert links("one") == []
    network(engine)
    assert addresses("eth0", "one") == lease and reachable("ip netns exec one", "192.0.2.2")
    run("ip link del trunk")
    assert "trunk does not exist" in refusal(engine)
    run("ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up")
    engine.endpoint("two")
    assert "trunk.10" in links() and links("two") == ["eth0"] and links("one") == []
    engine.endpoint("one")
    assert reachable("ip netns exec one", "192.0.2.2")


def test_the_limits_of_vlan_ids(engine: Engine) -> None:
    for number in (1, 4094):
        network(engine, f"vlan{number}", parent=f"trunk.{number}")
        assert data(f"trunk.{number}")["id"] == number
    for number in (0, 4095, 5000):
        assert f"'{number}' is no VLAN ID; write trunk.VID, from 1 to 4094" in refusal(engine, parent=f"trunk.{number}")


def test_members_of_a_bridge_are_no_parents(engine: Engine) -> None:
    run("ip link add br0 type bridge; ip link set trunk master br0")
    assert (
        "parent: trunk belongs to bridge br0, which takes all its frames; give parent: br0, or a VLAN of it"
        in refusal(engine, parent="trunk")
    )
    network(engine, parent="br0")


def test_a_bond_is_a_parent_and_its_members_are_none(engine: Engine) -> None:
    run(
        "ip link set trunk down; ip link add bond0 type bond mode active-backup; ip link set trunk master bond0; ip link set bond0 up"
    )
    assert "parent: trunk belongs to bond bond0" in refusal(engine, parent="trunk")
    network(engine, parent="bond0.10")
    engine.endpoint("one")
    assert link("trunk.10" if "trunk.10" in links() else "bond0.10")["link"] == "bond0"


# --- others on the parent ------------------------------------------------------------------------


def foreign(kind: str, mode: str, parent: str = "trunk") -> None:
    run(
        f"ip netns add alien; ip link add name alien0 link {parent} type {kind} mode {mode}; ip link set alien0 netns alien"
    )


def test_a_foreign_ipvlan_of_another_mode_is_never_switched(engine: Engine) -> None:
    foreign("ipvlan", "l3")
    text = refusal(engine, driver="ipvlan", parent="trunk")
    assert "mode: alien0 in netns:alien is l3 bridge, and the kernel would switch it to l2 bridge" in text
    assert data("alien0", "alien")["mode"] == "l3"
    assert "mode: alien0 in netns:alien is l3 bridge" in refusal(
        engine, driver="ipvlan", parent="trunk", mode="l3", flag="private"
    )
    network(engine, driver="ipvlan", parent="trunk", mode="l3")
    engine.endpoint("one")
    assert data("alien0", "alien")["mode"] == "l3" and data("alien0", "alien")["bridge"] is True


@pytest.mark.parametrize(("kind", "driver"), [("macvlan", "ipvlan"), ("ipvlan", "macvlan")])
def test_the_other_driver_of_somebody_else(engine: Engine, kind: str, driver: str) -> None:
    foreign(kind, "bridge" if kind == "macvlan" else "l2")
    assert f"parent: trunk carries alien0 in netns:alien ({kind}), which is not ours" in refusal(
        engine, driver=driver, parent="trunk"
    )


def test_passthru_beside_somebody_else(engine: Engine) -> None:
    foreign("macvlan", "bridge")
    assert "mode: trunk carries alien0 in netns:alien, and passthru does not share its parent" in refusal(
        engine, parent="trunk", mode="passthru"
    )


@pytest.mark.parametrize(
    ("made", "gone", "text"),
    [
        ("ip netns add alien; ip link add alien0 link trunk.10 type macvlan; ip link set alien0 netns alien", "ip netns del alien",
         "alien0 in netns:alien uses it"),
        ("ip addr add 198.51.100.1/24 dev trunk.10", "ip addr del 198.51.100.1/24 dev trunk.10", "it has the address 198.51.100.1/24"),
        ("ip route add 203.0.113.0/24 dev trunk.10 proto static", "ip route del 203.0.113.0/24", "the route 203.0.113.0/24 uses it"),
        ("ip link add br0 type bridge; ip link set trunk.10 master br0", "ip link del br0", "it belongs to br0"),
    ],
)  # fmt: skip
def test_a_sub_interface_that_others_use_stays(engine: Engine, made: str, gone: str, text: str) -> None:
    network(engine)
    run(made)
    done = engine.task("network", "absent", name="blue")
    assert any(
        f"trunk.10 stays, although nothing of ours needs it any more: {text}" in warning for warning in done.warnings
    ), done.warnings
    assert "trunk.10" in links()
    run(gone)
    network(engine)
    no_network(engine)
    assert "trunk.10" not in links()


@pytest.fixture
def docker() -> Iterator[None]:
    """A Docker daemon in the host's namespace."""
    command = str(Path(__file__).resolve().parents[1] / "lab" / "dockerd")
    subprocess.run([command, "start"], check=True)
    yield
    run(
        "docker ps -aq | xargs -r docker rm -f; docker network ls -q --filter driver=ipvlan | xargs -r docker network rm"
    )
    subprocess.run([command, "stop"], check=True)


@pytest.mark.usefixtures("docker")
def test_docker_beside_us(engine: Engine) -> None:
    run("docker network create -d ipvlan --subnet 198.51.100.0/24 -o parent=trunk -o ipvlan_mode=l3 theirs")
    run("docker run -d --name c1 --network theirs busybox sleep 100000")
    text = refusal(engine, driver="ipvlan", parent="trunk")
    assert re.search(
        "mode: eth0 in /run/docker/netns/.* is l3 bridge, and the kernel would switch it to l2 bridge", text
    ), text
    network(engine, driver="ipvlan", parent="trunk", mode="l3")
    engine.endpoint("one")
    network(engine, "red", "ipvlan", subnet="203.0.113.0/24")
    run("docker network create -d ipvlan --subnet 203.0.113.0/24 -o parent=trunk.10 onours")
    run("docker run -d --name c2 --network onours busybox sleep 100000")
    done = engine.task("network", "absent", name="red")
    text = "trunk.10 stays, although nothing of ours needs it any more: eth0 in /run/docker/netns/.* uses it"
    assert any(re.search(text, warning) for warning in done.warnings), done.warnings
    assert "trunk.10" in links()


# --- the registry is lost ------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_adopt_takes_back_everything_that_bears_our_mark(engine: Engine) -> None:
    options: Dict[str, Any] = {
        "networks": [
            {"name": "blue", "driver": "macvlan", "parent": "trunk.10", "subnets": subnets("192.0.2.0/24")},
            {"name": "red", "driver": "ipvlan", "subnets": subnets("198.51.100.0/24")},
        ],
        "endpoints": [
            {"network": "blue", "name": "one", "netns": "one"},
            {"network": "red", "name": "two", "netns": "two"},
        ],
    }
    engine.map(**options)
    before = {name: (link("eth0", name)["ifindex"], addresses("eth0", name)) for name in ("one", "two")}
    made = sorted(links())
    shutil.rmtree(engine.state_dir)
    run("ip netns add another-host; ip -n another-host link add eth1 group 8021 type dummy")
    found = describe.host(engine.state_dir, ("adoptable",))["adoptable"]
    assert sorted(row["interface"] for row in found) == sorted(
        ["trunk.10", *(name for name in made if name.startswith("di-")), "eth0", "eth0"]
    )
    with pytest.raises(InputError, match="adopt"):
        engine.map(**options)
    engine.map(adopt=True, **options)
    assert {name: (link("eth0", name)["ifindex"], addresses("eth0", name)) for name in ("one", "two")} == before
    assert engine.map(**options).changes == []
    assert describe.host(engine.state_dir, ("adoptable", "drift")) == {"adoptable": [], "drift": []}
    engine.map(purge=True)
    assert sorted(links()) == ["far", "trunk"]


# --- what is in use ------------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_a_network_with_endpoints_is_not_removed(engine: Engine) -> None:
    network(engine)
    engine.endpoint("one")
    engine.endpoint("two")
    with pytest.raises(InputError, match="state: network blue has the endpoints one, two; make those absent first"):
        engine.task("network", "absent", name="blue")
    assert "trunk.10" in links() and links("one") == ["eth0"]


@pytest.mark.one_kernel
def test_subnets_come_and_go_under_endpoints(engine: Engine) -> None:
    rows = subnets("192.0.2.0/24", "198.51.100.0/24")
    network(engine, subnets=rows[:1])
    engine.endpoint("one")
    network(engine, subnets=rows)
    engine.endpoint("two", subnet="198.51.100.0/24")
    assert addresses("eth0", "two") == ["198.51.100.2/24"] and addresses("eth0", "one") == ["192.0.2.2/24"]
    assert "subnets: 198.51.100.0/24 is in use by two; remove those endpoints first, or keep it" in refusal(
        engine, subnets=rows[:1]
    )
    assert "subnets: 192.0.2.0/24 is in use by one" in refusal(engine, subnets=rows[1:])
    engine.absent("two")
    network(engine, subnets=rows[:1])
    assert addresses("eth0", "one") == ["192.0.2.2/24"]


@pytest.mark.one_kernel
def test_reservations_and_ranges_change_under_endpoints(engine: Engine) -> None:
    network(engine, subnets=subnets("192.0.2.0/24"))
    engine.endpoint("one")
    text = refusal(engine, subnets=subnets("192.0.2.0/24", aux_addresses={"router": "192.0.2.2"}))
    assert "subnets: 192.0.2.2 cannot be reserved, it belongs to one" in text
    network(engine, subnets=subnets("192.0.2.0/24", aux_addresses={"router": "192.0.2.3"}))
    assert engine.endpoint("two")["addresses"] == ["192.0.2.4/24"]
    network(engine, subnets=subnets("192.0.2.0/24", ip_range="192.0.2.128/30"))
    assert [engine.endpoint(name)["addresses"] for name in ("one", "two", "three")] == [
        ["192.0.2.2/24"],
        ["192.0.2.4/24"],
        ["192.0.2.128/24"],
    ]
    network(engine, subnets=subnets("192.0.2.0/24"))
    assert engine.endpoint("four")["addresses"] == ["192.0.2.3/24"]


def test_a_gateway_changes_under_endpoints(engine: Engine) -> None:
    network(engine, subnets=subnets("192.0.2.0/24"))
    engine.endpoint("one")
    assert default("one")["gateway"] == "192.0.2.1"
    assert "192.0.2.2 cannot be reserved, it belongs to one" in refusal(
        engine, subnets=subnets("192.0.2.0/24", gateway="192.0.2.2")
    )
    network(engine, subnets=subnets("192.0.2.0/24", gateway="192.0.2.254"))
    assert default("one")["gateway"] == "192.0.2.254"
    network(engine, subnets=subnets("192.0.2.0/24", gateway="none"))
    assert default("one") == {}
    assert engine.endpoint("two")["addresses"] == ["192.0.2.1/24"]


@needs_ipv6
@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_released_ipv6_address_is_taken_again_at_once(engine: Engine, driver: str) -> None:
    network(engine, driver=driver, subnets=subnets("192.0.2.0/24", "2001:db8::/64"))
    for name in ("one", "two", "three"):
        assert "2001:db8::10/64" in engine.endpoint(name, ipv6_address="2001:db8::10")["addresses"]
        assert "2001:db8::10/64" in addresses("eth0", name)
        assert "dadfailed" not in run(f"ip -n {name} -6 addr show dev eth0")
        engine.absent(name)


# --- subnets -------------------------------------------------------------------------------------


@pytest.mark.one_kernel
def test_automatic_subnets(engine: Engine) -> None:
    run("ip addr add 172.17.0.1/16 dev trunk; ip route add 172.18.5.0/24 dev trunk proto static")
    network(engine, subnets=None)
    network(engine, "red", subnets=None, parent="trunk.20")
    picked = {name: [row["subnet"] for row in spec["subnets"]] for name, spec in engine.records("network").items()}
    assert picked == {"blue": ["172.19.0.0/16"], "red": ["172.20.0.0/16"]}
    network(engine, subnets=None, mode="private")
    assert [row["subnet"] for row in engine.records("network")["blue"]["subnets"]] == ["172.19.0.0/16"]
    assert engine.endpoint("one")["addresses"] == ["172.19.0.2/16"]


@pytest.mark.one_kernel
def test_an_automatic_subnet_is_not_that_of_a_nameserver(engine: Engine, tmp_path: Path) -> None:
    """Endpoints get the same nameservers, and would look for them on their own wire."""
    names = tmp_path / "resolv.conf"
    names.write_text(
        "search example.org\nnameserver\nnameserver 172.17.0.53\nnameserver fe80::1%trunk\nnameserver none\n",
        encoding="utf-8",
    )
    run(f"touch /etc/resolv.conf; mount --bind {names} /etc/resolv.conf")
    network(engine, subnets=None)
    assert [row["subnet"] for row in engine.records("network")["blue"]["subnets"]] == ["172.18.0.0/16"]


@pytest.mark.one_kernel
@needs_ipv6
def test_automatic_ipv6_subnets_are_the_hosts_own_and_stay(engine: Engine) -> None:
    network(engine, enable_ipv6=True)
    network(engine, "red", enable_ipv6=True, parent="trunk.20")
    first, second = (
        [row["subnet"] for row in engine.records("network")[name]["subnets"]][1] for name in ("blue", "red")
    )
    assert first.startswith("fd") and first.endswith("::/64") and first != second
    assert first.split(":")[:3] == second.split(":")[:3]
    no_network(engine)
    network(engine, enable_ipv6=True)
    assert [row["subnet"] for row in engine.records("network")["blue"]["subnets"]][1] == first


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("subnet", "gateway", "leases"),
    [
        ("192.0.2.0/30", "192.0.2.1", ["192.0.2.2/30"]),
        ("192.0.2.0/31", None, ["192.0.2.0/31", "192.0.2.1/31"]),
        ("192.0.2.7/32", None, ["192.0.2.7/32"]),
        pytest.param("2001:db8::/126", "2001:db8::1", ["2001:db8::2/126", "2001:db8::3/126"], marks=needs_ipv6),
        pytest.param("2001:db8::/127", None, ["2001:db8::/127", "2001:db8::1/127"], marks=needs_ipv6),
        pytest.param("2001:db8::7/128", None, ["2001:db8::7/128"], marks=needs_ipv6),
        ("10.0.0.0/8", "10.0.0.1", None),
    ],
)
def test_small_and_large_subnets(engine: Engine, subnet: str, gateway: str, leases: List[str]) -> None:
    network(engine, subnets=subnets(subnet), enable_ipv4=False if ":" in subnet else None)
    for position, lease in enumerate(leases or ["10.0.0.2/8"]):
        name = f"e{position}"
        engine.endpoint(name)
        assert addresses("eth0", name) == [lease]
        family = "-6" if ":" in subnet else "-4"
        assert default(name, family).get("gateway") == gateway
    if leases:
        with pytest.raises(InputError, match=f"no address is free in {subnet} of blue"):
            engine.endpoint("more")


@needs_ipv6
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "2001:db8::1"),
        ({"gateway": "2001:db8::22"}, "2001:db8::22"),
        ({"gateway": "fe80::1"}, "fe80::1"),
        ({"gateway": "none"}, None),
    ],
)
def test_gateways_of_ipv6(engine: Engine, given: Dict[str, str], expected: str) -> None:
    network(engine, subnets=subnets("2001:db8::/64", **given), enable_ipv4=False)
    engine.endpoint("one")
    assert default("one", "-6").get("gateway") == expected


@pytest.mark.one_kernel
def test_the_parents_own_addresses_are_reserved(engine: Engine) -> None:
    run("ip addr add 192.0.2.2/24 dev trunk")
    network(engine, parent="trunk", subnets=subnets("192.0.2.0/24"))
    assert engine.endpoint("one")["addresses"] == ["192.0.2.3/24"]
    with pytest.raises(InputError, match="ipv4_address: 192.0.2.2 is an address of this host, on trunk"):
        engine.endpoint("two", ipv4_address="192.0.2.2")


@pytest.mark.one_kernel
def test_the_next_subnet_when_the_first_is_full(engine: Engine) -> None:
    network(engine, subnets=[*subnets("192.0.2.0/30"), *subnets("198.51.100.0/24")])
    assert [engine.endpoint(name)["addresses"] for name in ("one", "two")] == [["192.0.2.2/30"], ["198.51.100.2/24"]]
    assert default("two")["gateway"] == "198.51.100.1"


@pytest.mark.one_kernel
def test_an_l3_network_and_the_subnet_of_its_parent(engine: Engine) -> None:
    run("ip addr add 192.0.2.9/24 dev trunk")
    text = refusal(engine, driver="ipvlan", mode="l3", parent="trunk", subnets=subnets("192.0.2.128/25"))
    assert (
        "subnets[0].subnet: 192.0.2.128/25 overlaps 192.0.2.9/24 of trunk; an L3 network needs its own subnet" in text
    )
    done = network(engine, parent="trunk", subnets=subnets("198.51.100.0/24"))
    assert any("no subnet holds 192.0.2.9/24 of trunk" in text for text in done.warnings)


# --- the data path, of which more is in test_paths.py --------------------------------------------


@pytest.fixture
def router(trunk: str) -> str:
    """A router in a namespace of its own, at the other end of the trunk, in VLANs 10 and 20."""
    run("""
        ip netns add router; ip link set far netns router
        ip -n router link set far up
        for vlan in 10 20; do
            ip -n router link add link far name far.$vlan type vlan id $vlan
            ip -n router link set far.$vlan up
        done
        ip -n router addr add 192.0.2.1/24 dev far.10
        ip -n router addr add 198.51.100.1/24 dev far.20
        ip netns exec router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    """)
    return "ip netns exec router"


def test_the_flags_of_ipvlan_keep_endpoints_apart(engine: Engine, router: str) -> None:
    network(engine, driver="ipvlan", subnets=subnets("192.0.2.0/24"))
    engine.endpoint("one")
    engine.endpoint("two")
    assert reachable("ip netns exec one", "192.0.2.3")
    for flag in ("private", "vepa"):
        network(engine, driver="ipvlan", flag=flag, subnets=subnets("192.0.2.0/24"))
        run("ip -n one neigh flush all; ip -n two neigh flush all")
        assert not reaches("ip netns exec one", "192.0.2.3")
        assert reachable("ip netns exec one", "192.0.2.1")


def test_subnets_of_one_network_need_the_router_in_l2_and_none_in_l3(engine: Engine, router: str) -> None:
    rows = [*subnets("192.0.2.0/24", gateway="none"), *subnets("203.0.113.0/24", gateway="none")]
    network(engine, driver="ipvlan", subnets=rows)
    engine.endpoint("one")
    engine.endpoint("two", subnet="203.0.113.0/24")
    assert not reaches("ip netns exec one", "203.0.113.1")
    network(engine, driver="ipvlan", mode="l3", subnets=rows)
    assert reachable("ip netns exec one", addresses("eth0", "two")[0].partition("/")[0])


@needs_ipv6
def test_the_host_has_no_presence_in_the_vlan(engine: Engine, router: str) -> None:
    run("ip addr add 203.0.113.77/32 dev lo")
    network(engine, subnets=subnets("192.0.2.0/24", "2001:db8::/64"))
    assert link("trunk.10")["inet6_addr_gen_mode"] == "none" and sysctl("ipv6.conf.trunk|10.disable_ipv6") == 1
    run("ip -n router route add 203.0.113.77/32 dev far.10; ip -n router addr add 2001:db8::1/64 dev far.10 nodad")
    assert not reaches(router, "203.0.113.77")
    engine.endpoint("one")
    assert reachable(router, "-6 2001:db8::2")
    assert "FAILED" in run("ip -n router neigh show dev far.10 203.0.113.77") or "INCOMPLETE" in run(
        "ip -n router neigh show dev far.10 203.0.113.77"
    )
