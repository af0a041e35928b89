# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces by every name, endpoints in them, and who sits on a link of the host."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from typing import Any, Dict, Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import namespaces
from ansible_collections.netops.underlay.plugins.module_utils._engine.apply import Refused, apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.observe import observe
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import (
    HOST,
    LINK_GROUP,
    Change,
    Need,
)
from conftest import (
    GROUP,
    HAS_IPV6,
    changed,
    do,
    inside,
    ip,
    link,
    links,
    made,
    missing,
    needs_ipv6,
    new_address,
    new_link,
    new_route,
    run,
    sysctl,
)

BLUE = "netns:blue"
NEW_BLUE = made("netns", {"netns": BLUE})


@contextlib.contextmanager
def process_in(netns: str) -> Iterator[int]:
    """A process that lives in a named namespace; its PID."""
    command = ["ip", "netns", "exec", netns, "sleep", "60"]
    with subprocess.Popen(command) as sleeper:
        try:
            want = os.stat(f"/run/netns/{netns}").st_ino
            while os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino != want:
                time.sleep(0.01)
            yield sleeper.pid
        finally:
            sleeper.kill()


# --- names ---------------------------------------------------------------------------------------


def test_made_and_removed_as_iproute2_does() -> None:
    namespaces.create("blue")
    assert [row["name"] for row in ip("netns", "list")] == ["blue"]
    assert run("ip netns exec blue ip -br link | cut -d' ' -f1") == "lo\n"
    assert "UP" in link("lo", "blue")["flags"]
    assert "shared" in run("grep ' /run/netns ' /proc/self/mountinfo")
    with pytest.raises(
        namespaces.NamespaceError, match="there is a network namespace blue already"
    ):
        namespaces.create("blue")
    namespaces.remove("blue")
    namespaces.remove("blue")
    assert ip("netns", "list") == [] and os.listdir("/run/netns") == []


def test_iproute2_removes_what_we_made_and_we_what_it_made() -> None:
    namespaces.create("blue")
    run("ip netns add red; ip netns del blue")
    namespaces.remove("red")
    assert os.listdir("/run/netns") == []


def test_one_stays_where_it_was() -> None:
    here = namespaces.identity(namespaces.OWN)
    namespaces.create("blue")
    with namespaces.entered(namespaces.resolve(BLUE)):
        assert namespaces.identity(namespaces.OWN) == namespaces.identity("/run/netns/blue") != here
    with pytest.raises(RuntimeError), namespaces.entered(namespaces.resolve(BLUE)):
        raise RuntimeError
    assert namespaces.identity(namespaces.OWN) == here


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../blue", "/etc/passwd", "a/b", "x" * 256, "a\0b"]
)
def test_path_tricks(name: str) -> None:
    for action in (
        lambda: namespaces.resolve(f"netns:{name}"),
        lambda: namespaces.create(name),
        lambda: namespaces.remove(name),
    ):
        with pytest.raises(
            namespaces.NamespaceError, match="cannot be the name of a network namespace"
        ):
            action()


def test_what_is_no_namespace() -> None:
    run("touch /run/netns/stale; ln -s /proc/1/ns/net /run/netns/trick; mkdir /run/netns/dir")
    for name in ("stale", "trick", "dir"):
        with pytest.raises(
            namespaces.NamespaceError, match="no network namespace is mounted on it"
        ):
            namespaces.resolve(f"netns:{name}")
    with pytest.raises(namespaces.Missing, match="there is no network namespace nowhere"):
        namespaces.resolve("netns:nowhere")
    with pytest.raises(namespaces.NamespaceError, match="there is no such process"):
        namespaces.resolve("pid:4194303")
    with pytest.raises(namespaces.NamespaceError, match="is not a workload"):
        namespaces.resolve("vm:blue")


def test_everything_once() -> None:
    run("ip netns add blue; ip netns add red; ip netns attach same $$ 2>/dev/null || true")
    with process_in("red") as pid:
        found = list(namespaces.everything())
        assert namespaces.identity("/run/netns/red") in namespaces.inhabited()
        assert namespaces.resolve(f"pid:{pid}") == f"/proc/{pid}/ns/net"
    assert [label for label, _path, _which in found][:2] == ["netns:blue", "netns:red"]
    assert len({which for _label, _path, which in found}) == len(found)
    assert namespaces.identity(namespaces.OWN) in {which for _label, _path, which in found}


# --- endpoints -----------------------------------------------------------------------------------


def endpoint(
    kind: str = "macvlan", name: str = "eth0", number: int = 10, **options: Any
) -> list[Change]:
    """The changes that attach one, in the order of a plan."""
    mode: Dict[str, Any] = (
        {"mode": "bridge"} if kind == "macvlan" else {"mode": "l2", "flag": "bridge"}
    )
    sysctls = {
        "ipv4.arp_notify": 1,
        **({"ipv6.accept_ra": 0, "ipv6.ndisc_notify": 1} if HAS_IPV6 else {}),
    }
    low = new_link(name, kind, netns=BLUE, up=False, sysctls=sysctls, **{**mode, **options})
    raised = Change(
        "link",
        low.key,
        {"netns": BLUE, "name": name, "up": False},
        {"netns": BLUE, "name": name, "up": True},
        "test",
    )
    addresses = [new_address(name, f"192.0.2.{number}/24", BLUE)]
    routes = [new_route("0.0.0.0/0", name, BLUE, via="192.0.2.1")]
    if HAS_IPV6:
        addresses.append(new_address(name, f"2001:db8::{number}/64", BLUE))
        routes.append(new_route("::/0", name, BLUE, via="fe80::1"))
    return [low, *addresses, raised, *routes]


def seen(changes: list[Change]) -> list[Change]:
    """What shall be there at the end: the raising of a link says it twice."""
    made_ones = [change for change in changes if change.before is None]
    return [
        change._replace(after={**(change.after or {}), "up": True})
        if change.kind == "link"
        else change
        for change in made_ones
    ]


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    "taken",
    [
        "",
        "ip link add eth0 type dummy",
        "ip link add x type dummy; ip link property add dev x altname eth0",
    ],
)
def test_an_endpoint(trunk: str, kind: str, taken: str) -> None:
    run(taken)
    changes = [
        NEW_BLUE,
        *endpoint(kind, **({"mac": "02:00:00:00:00:07"} if kind == "macvlan" else {})),
    ]
    world = do(*changes, workloads=[BLUE])
    assert missing(world, *seen(changes)) == []
    assert world.namespaces[BLUE].names["eth0"].parent_ns == HOST
    assert sysctl("ipv4.conf.eth0.arp_notify", "blue") == 1
    shown = link("eth0", "blue")
    assert shown["group"] == str(LINK_GROUP) and "UP" in shown["flags"]
    with inside("blue"):
        assert run("ip -4 route show default").startswith(
            "default via 192.0.2.1 dev eth0 proto 201"
        )
        assert "proto 0xc9" in run("ip addr show eth0")
        if HAS_IPV6:
            assert "tentative" not in run("ip -6 addr show eth0 scope global")
    assert links("blue") == ["eth0"]
    undo = [change.inverse() for change in reversed(changes)]
    assert BLUE not in do(*undo, workloads=[BLUE]).namespaces
    assert "eth0" not in links() or taken


def test_many_endpoints_in_many_namespaces(trunk: str) -> None:
    changes = []
    for number in range(2, 40):
        blue = f"netns:blue{number}"
        changes.append(made("netns", {"netns": blue}))
        for change in endpoint("ipvlan", number=number):
            specs = [
                None if spec is None else {**spec, "netns": blue}
                for spec in (change.before, change.after)
            ]
            changes.append(
                change._replace(key=change.key.replace(BLUE, blue), before=specs[0], after=specs[1])
            )
    workloads = [f"netns:blue{number}" for number in range(2, 40)]
    world = do(*changes, workloads=workloads)
    assert missing(world, *seen(changes)) == []
    assert len(world.children[world.host.names["trunk"].index]) == 38


def test_a_name_that_is_taken_in_the_namespace(trunk: str) -> None:
    run("ip netns add blue; ip -n blue link add eth0 type dummy")
    with pytest.raises(Refused, match="eth0 is taken") as caught:
        do(*endpoint(), workloads=[BLUE])
    assert caught.value.errno == errno.EEXIST
    assert links("blue") == ["eth0"] and "eth0" not in links()


def test_a_name_that_is_taken_on_both_sides_leaves_nothing_outside_the_journals_group(
    trunk: str,
) -> None:
    run("ip netns add blue; ip -n blue link add eth0 type dummy; ip link add eth0 type dummy")
    with pytest.raises(Refused, match="eth0 is taken"):
        do(*endpoint(), workloads=[BLUE])
    left = [row for row in ip("link", "show", netns="blue") if row["ifname"] not in ("lo", "eth0")]
    assert [int(row["group"]) for row in left] in ([], [GROUP])


def test_an_address_in_use_on_the_same_parent(trunk: str) -> None:
    do(NEW_BLUE, *endpoint("ipvlan"), workloads=[BLUE])
    change = new_link("i1", "ipvlan", mode="l2", flag="bridge", presence="access")
    with pytest.raises(
        Refused, match="another ipvlan endpoint on the same parent has 192.0.2.10/32"
    ):
        do(change, new_address("i1", "192.0.2.10/32"))


def test_changes_in_place_inside(trunk: str) -> None:
    changes = endpoint()
    do(NEW_BLUE, *changes, workloads=[BLUE])
    wanted = {
        "mtu": 1400,
        "sysctls": {"ipv4.arp_notify": 0, **({"ipv6.accept_ra": 2} if HAS_IPV6 else {})},
    }
    update = changed(changes[0], **wanted)
    found = do(update, workloads=[BLUE]).find("link", changes[0].after or {})
    assert found and found["mtu"] == 1400 and found["sysctls"] == wanted["sysctls"]
    if HAS_IPV6:
        assert sysctl("ipv6.conf.eth0.accept_ra", "blue") == 2


def test_a_namespace_that_was_replaced_meanwhile(trunk: str) -> None:
    run("ip netns add blue")
    world = observe(Need((BLUE,)))
    run("ip netns del blue; ip netns add blue")
    with pytest.raises(Refused, match="has got another network namespace meanwhile"):
        apply(endpoint(), world, GROUP)


def test_a_process_namespace_is_not_ours_to_make() -> None:
    with pytest.raises(Refused, match="is not a named network namespace"):
        do(made("netns", {"netns": "pid:1"}))


def test_a_link_of_a_namespace_that_is_missing(trunk: str) -> None:
    with pytest.raises(Refused, match="there is no network namespace blue"):
        do(*endpoint())


# --- observing -----------------------------------------------------------------------------------


def test_who_sits_on_a_parent(trunk: str) -> None:
    run("""
        ip netns add blue; ip netns add red; ip netns add green
        ip link add link trunk name v5 type vlan id 5
        ip link add link trunk name m0 netns blue type macvlan
        ip link add link trunk name m1 type macvlan; ip link set m1 netns red
        ip -n green link add x type dummy; ip -n green link add link x name y type vlan id 3
        ip -n green link set y netns blue
        ip link set far netns red
    """)
    world = observe(Need((BLUE,), everywhere=True))
    trunk_index = world.host.names["trunk"].index
    sitting = {(space.workload, child.name) for space, child in world.children[trunk_index]}
    assert sitting == {("", "v5"), (BLUE, "m0"), ("netns:red", "m1")}
    assert {space.workload for space in world.others} == {"netns:red"}
    assert world.namespaces[BLUE].names["y"].parent_ns == "?"
    assert world.host.names["trunk"].parent == 0  # the other end of a cable is nothing below
    assert world.host.identity not in {space.identity for space in world.others}


def test_a_child_far_away_whose_parent_went_there_too(trunk: str) -> None:
    run(
        "ip netns add blue; ip link add d0 type dummy;"
        "ip link add link d0 name v5 type vlan id 5; ip link set v5 netns blue"
    )
    world = observe(Need((), everywhere=True))
    assert [child.name for _space, child in world.children[world.host.names["d0"].index]] == ["v5"]
    run("ip link set d0 netns blue")
    world = observe(Need((BLUE,), everywhere=True))
    assert world.namespaces[BLUE].names["v5"].parent_ns is None
    assert world.children == {}


def test_a_process_in_a_namespace() -> None:
    run("ip netns add blue; ip netns add red")
    with process_in("blue") as pid:
        world = observe(Need((BLUE, "netns:red", f"pid:{pid}"), everywhere=True))
    assert world.namespaces[BLUE].processes and not world.namespaces["netns:red"].processes
    assert world.namespaces[f"pid:{pid}"].identity == world.namespaces[BLUE].identity


def test_what_cannot_be_described() -> None:
    run("touch /run/netns/stale")
    workloads = (
        "netns:nowhere",
        "netns:stale",
        "pid:4194303",
        f"pid:{os.getpid()}",
        "docker:no/way",
        "podman:none",
    )
    world = observe(Need(workloads))
    assert world.namespaces == {}
    assert set(world.refusals) == set(workloads) - {"netns:nowhere"}
    assert "is in the host's own network namespace" in world.refusals[f"pid:{os.getpid()}"]


def test_links_in_full(trunk: str) -> None:
    run("""
        ip link set trunk alias 'to the switch' mtu 1400
        ip link property add dev trunk altname a-name-of-more-than-fifteen
        ip link add br0 type bridge; ip link set far master br0
    """)
    found = observe(Need()).host
    shown = {row["ifname"]: row for row in ip("link", "show")}
    assert set(found.links) == {row["ifindex"] for row in shown.values()}
    for one in found.links.values():
        row = shown[one.name]
        assert (one.index, one.mtu, one.mac, one.up) == (
            row["ifindex"],
            row["mtu"],
            row["address"],
            "UP" in row["flags"],
        )
        assert one.kind == row.get("linkinfo", {}).get("info_kind", "")
        assert one.alias == row.get("ifalias", "") and list(one.altnames) == row.get("altnames", [])
        assert one.conf4 and one.conf4[18] == sysctl(f"ipv4.conf.{one.name}.arp_ignore")
        assert (one.conf6 is not None) == HAS_IPV6
    assert found.names["a-name-of-more-than-fifteen"] is found.names["trunk"]
    assert found.names["far"].master == found.names["br0"].index


@needs_ipv6
def test_genmode() -> None:
    run("ip link add d0 type dummy; ip link set d0 addrgenmode none; ip link add d1 type dummy")
    found = observe(Need()).host.names
    assert (found["d0"].genmode, found["d1"].genmode) == (1, 0)
