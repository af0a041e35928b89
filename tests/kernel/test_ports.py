# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of endpoints: what they let through, and the taps of virtual machines."""

from __future__ import annotations

import os
import select
import stat
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import events, taps
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import HAS_IPV6, data, ip, link, run
from tests.support.traffic import addresses, reachable, reaches
from tests.support.waiting import until

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]

LISTED, OTHER = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
NEIGHBOUR = "ip netns exec neighbour"


@pytest.fixture
def neighbour(trunk: str) -> Callable[[str], None]:
    """A host in VLAN 10 at the other end of the trunk; called, it gets another MAC."""
    run(f"""
        ip netns add neighbour; ip link set far netns neighbour
        ip -n neighbour link set far up
        ip -n neighbour link add link far name far.10 address {LISTED} type vlan id 10
        ip -n neighbour link set far.10 up
        ip -n neighbour addr add 192.0.2.200/24 dev far.10
    """)

    def change(mac: str) -> None:
        run(
            f"ip -n neighbour link set far.10 address {mac}; ip -n neighbour neigh flush all; ip -n one neigh flush all"
        )

    return change


def repair(engine: Engine) -> List[str]:
    done = restore.restore(transact.RunOptions(engine.state_dir, who="a test"))
    assert done.left == []
    return [change.key for change in done.done]


def undone(engine: Engine) -> None:
    """Take the last transaction back."""
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir, who="a test")
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)


def macs_of(name: str) -> Any:
    return data("eth0", name).get("macaddr_data")


# --- mode source ---------------------------------------------------------------------------------


def test_a_source_endpoint_hears_the_listed_macs_and_no_others(
    engine: Engine, neighbour: Callable[[str], None]
) -> None:
    engine.network(mode="source")
    engine.endpoint("one", source_macs=[LISTED.upper(), LISTED])
    engine.endpoint("two", source_macs=[LISTED])
    assert (data("eth0", "one")["mode"], macs_of("one")) == ("source", [LISTED])
    engine.same("one", source_macs=[LISTED])
    assert reachable(NEIGHBOUR, "192.0.2.1") and reachable("ip netns exec one", "192.0.2.200")
    assert not reaches("ip netns exec one", "192.0.2.2")
    neighbour(OTHER)
    assert not reaches(NEIGHBOUR, "192.0.2.1") and not reaches("ip netns exec one", "192.0.2.200")
    index = link("eth0", "one")["ifindex"]
    engine.endpoint("one", source_macs=[OTHER])
    assert macs_of("one") == [OTHER] and link("eth0", "one")["ifindex"] == index
    assert reachable(NEIGHBOUR, "192.0.2.1")


def test_a_list_is_healed_undone_and_survives_other_modes(engine: Engine) -> None:
    engine.network(mode="source")
    engine.endpoint("one", source_macs=[LISTED, OTHER])
    run("ip -n one link set eth0 type macvlan macaddr flush")
    assert repair(engine) == ["netns:one/eth0"] and sorted(macs_of("one")) == [LISTED, OTHER]
    run("ip -n one link set eth0 type macvlan macaddr add 02:00:00:00:00:0c")
    assert repair(engine) == ["netns:one/eth0"] and sorted(macs_of("one")) == [LISTED, OTHER]
    done = engine.network(mode="bridge")
    assert done.warnings == ["endpoint blue/one.source_macs: blue is bridge now, where source_macs have no effect"]
    assert (data("eth0", "one")["mode"], macs_of("one")) == ("bridge", None)
    assert repair(engine) == []
    undone(engine)
    assert (data("eth0", "one")["mode"], sorted(macs_of("one"))) == ("source", [LISTED, OTHER])
    engine.same("one", source_macs=[LISTED, OTHER])
    engine.network(mode="bridge")
    engine.endpoint("one")
    engine.same("one")
    done = engine.network(mode="source")
    assert done.warnings == [
        "endpoint blue/one.source_macs: blue is source now, so the endpoint receives nothing until it has source_macs"
    ]
    engine.endpoint("one", source_macs=[LISTED])
    assert macs_of("one") == [LISTED] and repair(engine) == []


def test_the_longest_list_is_set_and_read_back(engine: Engine) -> None:
    engine.network(mode="source")
    many = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(1000)]
    engine.endpoint("one", source_macs=many)
    engine.same("one", source_macs=many)


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("mode", "options", "text"),
    [
        ("bridge", {"source_macs": [LISTED]}, "source_macs: blue is bridge, where source_macs have no effect"),
        ("source", {}, "source_macs: blue is source, where an endpoint receives from source_macs alone"),
        ("source", {"source_macs": [LISTED], "probe": True}, "probe: a holder of the address that is not in source_macs would"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be(engine: Engine, mode: str, options: Any, text: str) -> None:
    engine.network(mode=mode)
    with pytest.raises(InputError, match=text):
        engine.endpoint("one", **options)
    assert engine.records("endpoint") == {}


# --- promiscuity ---------------------------------------------------------------------------------


def test_a_passthru_parent_is_promiscuous_unless_it_must_not_be(engine: Engine) -> None:
    def promiscuity() -> int:
        return int(link("trunk.10")["promiscuity"])

    engine.network(mode="passthru", nopromisc=True)
    engine.endpoint("one")
    assert data("eth0", "one")["nopromisc"] is True and promiscuity() == 0
    index = link("eth0", "one")["ifindex"]
    engine.network(mode="passthru")
    assert "nopromisc" not in data("eth0", "one") and promiscuity() == 1
    undone(engine)
    assert promiscuity() == 0
    run("ip -n one link set eth0 type macvlan mode passthru flag null")
    assert promiscuity() == 1
    assert repair(engine) == ["netns:one/eth0"] and promiscuity() == 0
    assert link("eth0", "one")["ifindex"] == index
    assert engine.network(mode="passthru", nopromisc=True).changes == []


# --- taps ----------------------------------------------------------------------------------------

NODE = "/dev/netops-underlay/blue/vm"
SUBNETS = [{"subnet": "192.0.2.0/24", "gateway": "none"}, *([{"subnet": "2001:db8::/64"}] if HAS_IPV6 else [])]


def node(path: str = NODE) -> Optional[Tuple[int, int, int]]:
    """The owner, the group and the mode of a device node; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    assert stat.S_ISCHR(found.st_mode)
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def asks(path: str, mac: str, own: str, target: str) -> bytes:
    """What a guest with an address on a tap hears from a neighbour that it asks for its MAC, by ARP; empty for nothing."""
    packed, me = bytes.fromhex(mac.replace(":", "")), bytes(map(int, own.split(".")))
    wanted = bytes(map(int, target.split(".")))
    request = b"\xff" * 6 + packed + bytes.fromhex("0806 0001 0800 0604 0001") + packed + me + bytes(6) + wanted
    tap = os.open(path, os.O_RDWR)
    try:
        end = time.monotonic() + 3
        os.write(tap, bytes(10) + request.ljust(60, b"\0"))  # after an empty struct virtio_net_hdr
        while select.select([tap], [], [], max(0, end - time.monotonic()))[0]:
            frame = os.read(tap, 2048)[10:]
            if frame[12:14] == b"\x08\x06" and frame[28:32] == wanted:
                return frame
        return b""
    finally:
        os.close(tap)


def test_a_guest_on_a_tap_speaks_with_a_neighbour_and_its_namespace_is_silent(
    engine: Engine, neighbour: Callable[[str], None]
) -> None:
    engine.network(subnets=SUBNETS)
    options: Dict[str, Any] = {
        "kind": "tap",
        "netns": "one",
        "tap_owner": "daemon",
        "tap_group": "7",
        "tap_mode": "640",
    }
    made = engine.endpoint("vm", **options)
    assert link("eth0", "one")["linkinfo"]["info_kind"] == "macvtap" and node() == (1, 7, 0o640)
    assert run("ip -n one addr show dev eth0").count("inet") == 0 and run("ip -n one route; ip -n one -6 route") == ""
    own = made["addresses"][0].partition("/")[0]
    assert len(made["addresses"]) == len(SUBNETS) and not reaches(NEIGHBOUR, own)
    answer = until(lambda: asks(NODE, made["mac"], own, "192.0.2.200"))
    assert answer[22:28].hex(":") == LISTED, "the neighbour's answer, with its MAC"
    engine.same("vm", **options)
    engine.absent("vm")
    assert node() is None and not os.path.exists("/dev/netops-underlay")
    assert not os.path.exists("/run/netns/one")


def test_an_ipvtap_does_not_say_which_parent_it_has(engine: Engine) -> None:
    """Why taps are macvtap: the kernel names the parent by its ifindex there, as if that were one in this namespace."""
    run("ip netns add one; ip link add name tap netns one link trunk type ipvtap mode l2")
    shown = ip("link", "show", "tap", netns="one")[0]
    assert "link_netnsid" not in shown
    engine.network(driver="ipvlan", parent="trunk.10")
    with pytest.raises(InputError, match="kind: the kernel does not say which parent an ipvtap in a namespace has"):
        engine.endpoint("vm", kind="tap")


def test_two_taps_have_nodes_of_their_own_though_the_kernels_are_one_file(engine: Engine) -> None:
    engine.network()
    for name in ("vm", "vm2"):
        engine.endpoint(name, kind="tap")
    assert link("eth0", "vm")["ifindex"] == link("eth0", "vm2")["ifindex"], "so that /dev/tapN is that of one alone"
    devices = {os.stat(f"/dev/netops-underlay/blue/{name}").st_rdev for name in ("vm", "vm2")}
    assert len(devices) == 2
    assert engine.endpoint("three")["addresses"] == ["192.0.2.3/24"]
    lines = Path("/etc/netns/three/hosts").read_text()
    assert "192.0.2.1\tvm\n" in lines and not Path("/etc/netns/vm").exists()


def test_a_node_is_changed_healed_undone_and_made_anew(engine: Engine) -> None:
    engine.network()
    engine.endpoint("vm", kind="tap")
    assert node() == (0, 0, 0o660)
    engine.endpoint("vm", kind="tap", tap_group="nogroup")
    assert node() == (0, 65534, 0o660)
    undone(engine)
    assert node() == (0, 0, 0o660)
    for loss in (f"rm {NODE}", f"chmod 666 {NODE}", f"chown daemon {NODE}", f"rm {NODE}; mknod {NODE} c 1 3"):
        run(loss)
        assert repair(engine) == ["netns:vm/eth0"] and node() == (0, 0, 0o660), loss
    mac = link("eth0", "vm")["address"]
    run("ip -n vm link del eth0")
    repair(engine)
    assert node() == (0, 0, 0o660) and link("eth0", "vm")["address"] == mac
    run("ip netns del vm")
    repair(engine)
    assert node() == (0, 0, 0o660) and link("eth0", "vm")["address"] == mac
    engine.endpoint("vm")  # the machine becomes a plain endpoint, and keeps its address
    assert node() is None and addresses("eth0", "vm") == ["192.0.2.1/24"]
    undone(engine)
    assert node() == (0, 0, 0o660) and addresses("eth0", "vm") == []
    run("ip netns del vm")
    engine.absent("vm")
    assert node() is None


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tap_owner": "stranger"}, "tap_owner: this host has no user stranger"),
        ({"tap_group": "strangers"}, "tap_group: this host has no group strangers"),
        ({"netns": None, "container": "podman:web"}, "container: a tap is for a virtual machine of the host"),
        ({"hosts": {"db": "192.0.2.9"}}, "hosts: is the guest's to configure"),
    ],
)
def test_taps_that_cannot_be(engine: Engine, options: Dict[str, Any], text: str) -> None:
    engine.network()
    with pytest.raises(InputError, match=text):
        engine.endpoint("vm", **{"kind": "tap", "netns": "vm", **options})
    assert engine.records("endpoint") == {} and node() is None


def test_the_service_hears_of_a_node_that_goes_or_changes(engine: Engine) -> None:
    engine.network()
    engine.endpoint("vm", kind="tap")
    files = events.Files("/run/netns", engine.state_dir)
    files.follow(taps.directories())
    files.read_events()
    assert not files.read_events()
    for change in (f"chmod 666 {NODE}", f"chown daemon {NODE}", f"mv {NODE} {NODE}.old", f"rm {NODE}.old"):
        run(change)
        assert files.read_events(), change
    os.close(files.fileno())
