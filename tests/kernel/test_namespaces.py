# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces by every name, endpoints in them, and who sits on a link of the host."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import HOST, LINK_GROUP, Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError, KernelRefused
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import (
    libc,
    named_namespaces,
    namespace_search,
    namespaces,
    workload_namespaces,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.apply import apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.changes import GROUP, changed, do, made, missing, new_address, new_link, new_route
from tests.support.engine import Engine
from tests.support.fault_points import in_child
from tests.support.network_host import (
    CLONE_NEWNS,
    HAS_IPV6,
    MS_REC,
    inside,
    ip,
    link,
    links,
    needs_ipv6,
    process_in,
    run,
    sysctl,
)

pytestmark = pytest.mark.every_kernel

MS_SLAVE = 1 << 19
BLUE = "netns:blue"
NEW_BLUE = made("netns", {"netns": BLUE})


# --- names ---------------------------------------------------------------------------------------


def test_made_and_removed_as_iproute2_does() -> None:
    named_namespaces.create("blue", "netops-underlay 802100001")
    assert [row["name"] for row in ip("netns", "list")] == ["blue"]
    assert run("ip netns exec blue ip -br link | cut -d' ' -f1") == "lo\n"
    assert "UP" in link("lo", "blue")["flags"]
    assert "shared" in run("grep ' /run/netns ' /proc/self/mountinfo")
    with pytest.raises(errors.NamespaceError, match="there is a network namespace blue already"):
        named_namespaces.create("blue", "netops-underlay 802100001")
    named_namespaces.remove("blue")
    named_namespaces.remove("blue")
    assert ip("netns", "list") == [] and os.listdir("/run/netns") == []


def test_iproute2_removes_what_we_made_and_we_what_it_made() -> None:
    named_namespaces.create("blue", "netops-underlay 802100001")
    run("ip netns add red; ip netns del blue")
    named_namespaces.remove("red")
    assert os.listdir("/run/netns") == []


def test_one_stays_where_it_was() -> None:
    here = namespaces.identity(namespaces.OWN)
    named_namespaces.create("blue", "netops-underlay 802100001")
    with namespaces.entered(workload_namespaces.resolve(BLUE)):
        assert namespaces.identity(namespaces.OWN) == namespaces.identity("/run/netns/blue") != here
    with pytest.raises(RuntimeError), namespaces.entered(workload_namespaces.resolve(BLUE)):
        raise RuntimeError
    assert namespaces.identity(namespaces.OWN) == here


@pytest.mark.parametrize("name", ["", ".", "..", "../blue", "/etc/passwd", "a/b", "x" * 256, "a\0b"])
def test_path_tricks(name: str) -> None:
    for action in (
        lambda: workload_namespaces.resolve(f"netns:{name}"),
        lambda: named_namespaces.create(name, "netops-underlay 802100001"),
        lambda: named_namespaces.remove(name),
    ):
        with pytest.raises(errors.NamespaceError, match="is not a valid name for a network namespace"):
            action()


def test_what_is_no_namespace() -> None:
    run("touch /run/netns/stale; ln -s /proc/1/ns/net /run/netns/trick; mkdir /run/netns/dir")
    for name in ("stale", "trick", "dir"):
        with pytest.raises(errors.NamespaceError, match="no network namespace is mounted on it"):
            workload_namespaces.resolve(f"netns:{name}")
    with pytest.raises(errors.NamespaceMissing, match="there is no network namespace nowhere"):
        workload_namespaces.resolve("netns:nowhere")
    with pytest.raises(errors.NamespaceError, match="there is no such process"):
        workload_namespaces.resolve("pid:4194303")
    with pytest.raises(errors.NamespaceError, match="is not a workload"):
        workload_namespaces.resolve("vm:blue")


def test_everything_once() -> None:
    run("ip netns add blue; ip netns add red; ip netns attach same $$ 2>/dev/null || true")
    with process_in("red") as pid:
        found = list(namespace_search.everything())
        assert namespaces.identity("/run/netns/red") in namespace_search.inhabited()
        assert workload_namespaces.resolve(f"pid:{pid}") == f"/proc/{pid}/ns/net"
    assert [label for label, _path, _which in found][:2] == ["netns:blue", "netns:red"]
    assert len({which for _label, _path, which in found}) == len(found)
    assert namespaces.identity(namespaces.OWN) in {which for _label, _path, which in found}


def test_a_file_system_that_never_answers_stops_no_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel does not list namespaces (before 6.19), they are looked for among mounts and open files."""
    run("modprobe fuse; ip netns add blue; ip netns add red")
    blue, red = (namespaces.identity(f"/run/netns/{name}") for name in ("blue", "red"))
    silent = [os.open("/dev/fuse", os.O_RDWR) for _ in range(2)]
    run(f"""
        cd {tmp_path}; mkdir -p sub; touch file plain sub/ns
        mount --bind /run/netns/blue plain; mount --bind /run/netns/red sub/ns; ip netns del blue; ip netns del red
    """)
    try:
        for name, kind, descriptor in (("file", "100644", silent[0]), ("sub", "40000", silent[1])):
            options = f"fd={descriptor},rootmode={kind},user_id=0,group_id=0"
            libc.call("mount", b"silent", os.fsencode(tmp_path / name), b"fuse", 0, options.encode())
        held = os.open(tmp_path / "file", os.O_PATH)
        monkeypatch.setattr(namespace_search, "_known_to_the_kernel", lambda: None)

        def look() -> None:
            signal.alarm(30)
            found = {which for _label, _path, which in namespace_search.everything()}
            assert blue in found and red not in found

        assert in_child(look) == 0
        os.close(held)
    finally:
        for descriptor in silent:
            os.close(descriptor)
        run(f"cd {tmp_path}; umount -l file; umount -l sub; umount -l sub/ns; umount -l plain")


# --- endpoints -----------------------------------------------------------------------------------


def endpoint(kind: str = "macvlan", name: str = "eth0", number: int = 10, **options: Any) -> list[Change]:
    """The changes that attach one, in the order of a plan."""
    mode: Dict[str, Any] = {"mode": "bridge"} if kind == "macvlan" else {"mode": "l2", "flag": "bridge"}
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
    """What must be there at the end: the raising of a link says it twice."""
    made_ones = [change for change in changes if change.before is None]
    return [
        change._replace(after={**(change.after or {}), "up": True}) if change.kind == "link" else change
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
    before = sorted(links())
    changes = [
        NEW_BLUE,
        *endpoint(kind, **({"mac": "02:00:00:00:00:07"} if kind == "macvlan" else {})),
    ]
    observed = do(*changes, workloads=[BLUE])
    assert missing(observed, *seen(changes)) == []
    assert observed.namespaces[BLUE].names["eth0"].parent_ns == HOST
    assert sysctl("ipv4.conf.eth0.arp_notify", "blue") == 1
    shown = link("eth0", "blue")
    assert shown["group"] == str(LINK_GROUP) and "UP" in shown["flags"]
    with inside("blue"):
        assert run("ip -4 route show default").startswith("default via 192.0.2.1 dev eth0 proto 201")
        assert "proto 0xc9" in run("ip addr show eth0")
        if HAS_IPV6:
            assert "tentative" not in run("ip -6 addr show eth0 scope global")
    assert links("blue") == ["eth0"]
    undo = [change.inverse() for change in reversed(changes)]
    assert BLUE not in do(*undo, workloads=[BLUE]).namespaces
    assert sorted(links()) == before


def test_many_endpoints_in_many_namespaces(trunk: str) -> None:
    changes = []
    for number in range(2, 40):
        blue = f"netns:blue{number}"
        changes.append(made("netns", {"netns": blue}))
        for change in endpoint("ipvlan", number=number):
            specs = [None if spec is None else {**spec, "netns": blue} for spec in (change.before, change.after)]
            changes.append(change._replace(key=change.key.replace(BLUE, blue), before=specs[0], after=specs[1]))
    workloads = [f"netns:blue{number}" for number in range(2, 40)]
    observed = do(*changes, workloads=workloads)
    assert missing(observed, *seen(changes)) == []
    assert len(observed.children[observed.host.names["trunk"].index]) == 38


def test_a_name_that_is_taken_in_the_namespace(trunk: str) -> None:
    run("ip netns add blue; ip -n blue link add eth0 type dummy")
    with pytest.raises(KernelRefused, match="eth0 is taken") as caught:
        do(*endpoint(), workloads=[BLUE])
    assert caught.value.errno == errno.EEXIST
    assert links("blue") == ["eth0"] and "eth0" not in links()


def test_a_name_that_is_taken_on_both_sides_leaves_nothing_outside_the_journals_group(
    trunk: str,
) -> None:
    run("ip netns add blue; ip -n blue link add eth0 type dummy; ip link add eth0 type dummy")
    with pytest.raises(KernelRefused, match="eth0 is taken"):
        do(*endpoint(), workloads=[BLUE])
    left = [row for row in ip("link", "show", netns="blue") if row["ifname"] not in ("lo", "eth0")]
    assert [int(row["group"]) for row in left] in ([], [GROUP])


def test_an_address_in_use_on_the_same_parent(trunk: str) -> None:
    do(NEW_BLUE, *endpoint("ipvlan"), workloads=[BLUE])
    change = new_link("i1", "ipvlan", mode="l2", flag="bridge", isolation="access")
    with pytest.raises(KernelRefused, match="another ipvlan endpoint on the same parent has 192.0.2.10/32"):
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
    observed = observe(Need((BLUE,)))
    run("ip netns del blue; ip netns add blue")
    with pytest.raises(KernelRefused, match="has changed its network namespace meanwhile"):
        apply(endpoint(), observed, GROUP)


def test_a_process_namespace_is_not_ours_to_make() -> None:
    with pytest.raises(KernelRefused, match="is not a named network namespace"):
        do(made("netns", {"netns": "pid:1"}))


def test_a_link_of_a_namespace_that_is_missing(trunk: str) -> None:
    with pytest.raises(KernelRefused, match="there is no network namespace blue"):
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
    observed = observe(Need((BLUE,), everywhere=True))
    trunk_index = observed.host.names["trunk"].index
    sitting = {(space.workload, child.name) for space, child in observed.children[trunk_index]}
    assert sitting == {("", "v5"), (BLUE, "m0"), ("netns:red", "m1")}
    assert {space.workload for space in observed.others} == {"netns:red"}
    assert observed.namespaces[BLUE].names["y"].parent_ns == "?"
    assert observed.host.names["trunk"].parent == 0  # the other end of a cable is nothing below
    assert observed.host.identity not in {space.identity for space in observed.others}


def test_a_child_far_away_whose_parent_went_there_too(trunk: str) -> None:
    run(
        "ip netns add blue; ip link add d0 type dummy;"
        "ip link add link d0 name v5 type vlan id 5; ip link set v5 netns blue"
    )
    observed = observe(Need((), everywhere=True))
    assert [child.name for _space, child in observed.children[observed.host.names["d0"].index]] == ["v5"]
    run("ip link set d0 netns blue")
    observed = observe(Need((BLUE,), everywhere=True))
    assert observed.namespaces[BLUE].names["v5"].parent_ns is None
    assert observed.children == {}


def test_a_process_in_a_namespace() -> None:
    run("ip netns add blue; ip netns add red")
    with process_in("blue") as pid:
        observed = observe(Need((BLUE, "netns:red", f"pid:{pid}"), everywhere=True))
    assert observed.namespaces[BLUE].processes and not observed.namespaces["netns:red"].processes
    assert observed.namespaces[f"pid:{pid}"].identity == observed.namespaces[BLUE].identity


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
    observed = observe(Need(workloads))
    assert observed.namespaces == {}
    assert set(observed.refusals) == set(workloads) - {"netns:nowhere"}
    assert "is in the host's own network namespace" in observed.refusals[f"pid:{os.getpid()}"]


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


# --- namespaces without a name -------------------------------------------------------------------


def refuse(_number: int) -> int:
    raise PermissionError(errno.EPERM, "no CAP_DAC_READ_SEARCH")


@pytest.fixture(params=["listns", "scan", "listns without a capability"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How namespaces are found: by the kernel's own list where it has one, else by looking wherever one may be held."""
    if request.param.startswith("listns "):
        monkeypatch.setattr(namespace_search, "_open_known", refuse)
    if request.param == "scan":
        monkeypatch.setattr(namespace_search, "_known_to_the_kernel", lambda: None)
    elif namespace_search._known_to_the_kernel() is None:
        pytest.skip("listns came with Linux 6.19")


@contextlib.contextmanager
def hidden(how: str, commands: str) -> Iterator[None]:
    """A namespace that no process is in and /run/netns does not name."""
    run(f"ip netns add hidden; {commands}")
    with contextlib.ExitStack() as stack:
        if how == "mount":
            run("mkdir -p '/tmp/a b'; touch '/tmp/a b/ns'; mount --bind /run/netns/hidden '/tmp/a b/ns'")
            stack.callback(run, "umount '/tmp/a b/ns'")
        elif how == "socket":
            with inside("hidden"):
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        else:
            descriptor = os.open("/run/netns/hidden", os.O_RDONLY)
            stack.callback(os.close, descriptor)
        run("umount -l /run/netns/hidden; rm /run/netns/hidden")
        yield


@pytest.mark.parametrize("how", ["mount", "descriptor", "socket"])
def test_what_is_in_a_namespace_without_a_name_is_seen(trunk: str, tmp_path: Path, road: None, how: str) -> None:
    engine = Engine(str(tmp_path))
    commands = """
        ip link add link trunk name i0 type ipvlan mode l2; ip link set i0 netns hidden
        ip link add link trunk name v9 netns hidden type vlan id 9
    """
    rows = {"driver": "ipvlan", "mode": "l3", "parent": "trunk", "subnet": "192.0.2.0/24"}
    with hidden(how, commands):
        with pytest.raises(InputError, match=r"i0 in .* is l2 bridge, and the kernel would switch it to l3 bridge"):
            engine.network("blue", check=True, **rows)
        with pytest.raises(
            InputError, match=r"parent: VLAN 9 of trunk is that of v9 in .*; a NIC can have each VLAN only once"
        ):
            engine.task("vlan", check=True, parent="trunk", vlan_id=9)
        with pytest.raises(InputError, match="VLAN 9 of trunk is that of v9 in"):
            engine.network("red", check=True, parent="trunk.9")


def test_a_mode_is_not_set_where_others_may_not_be_seen(
    trunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = "from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespace_search as n; print(n.unseen())"
    for command, seen in (
        ("", ""),
        ("unshare -pf --mount-proc", ""),  # with NICs of its own
        ("nsenter --net=/proc/1/ns/net", ""),
        ("nsenter --net=/proc/1/ns/net unshare -pf --mount-proc", "the run is in a pid namespace of its own"),
    ):
        assert run(f"PYTHONPATH=/opt/collections {command} {sys.executable} -c '{look}'").startswith(seen or "\n")
    engine = Engine(str(tmp_path))
    monkeypatch.setattr(namespace_search, "unseen", lambda: "of a test")
    rows = {"driver": "ipvlan", "mode": "l3", "subnet": "192.0.2.0/24"}
    with pytest.raises(InputError, match=r"mode: ipvlan links on trunk .* l3 bridge, and not all .* seen: of a test"):
        engine.network("blue", check=True, parent="trunk", **rows)
    engine.network("blue", parent="trunk.7", **rows)  # there is none yet on what does not exist
    run("ip link add link trunk name i0 type ipvlan mode l3")
    engine.network("red", parent="trunk", **{**rows, "subnet": "198.51.100.0/24"})


@pytest.mark.parametrize(("kind", "driver"), [("macvtap", "macvlan"), ("ipvtap", "ipvlan")])
def test_a_tap_shares_the_port_of_its_driver_and_of_no_other(
    trunk: str, tmp_path: Path, kind: str, driver: str
) -> None:
    engine = Engine(str(tmp_path))
    mode = "bridge" if kind == "macvtap" else "l2"
    run(f"ip link add link trunk name tap0 type {kind} mode {mode}")
    other = "ipvlan" if driver == "macvlan" else "macvlan"
    with pytest.raises(InputError, match=f"trunk carries tap0 in the host .{kind}., which is not ours"):
        engine.network("red", other, parent="trunk")
    engine.network("blue", driver, parent="trunk")
    engine.endpoint("web")
    assert links("web") == ["eth0"] and "tap0" in links()


def test_two_names_of_one_namespace_join_a_network_once(trunk: str, tmp_path: Path) -> None:
    engine = Engine(str(tmp_path))
    run("ip netns add web; touch /run/netns/alias; mount --bind /run/netns/web /run/netns/alias")
    engine.network()
    engine.endpoint("web")
    with process_in("web") as pid:
        for workload in ({"netns": "alias"}, {"pid": pid}):
            for adopt in (False, True):
                with pytest.raises(InputError, match="and netns:web are one network namespace, which has blue/web"):
                    engine.task("endpoint", network="blue", name="side", adopt=adopt, **workload)
    assert links("web") == ["eth0"] and engine.records("endpoint").keys() == {"blue/web"}
    engine.same("web")


def test_a_number_that_another_process_got(trunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in its namespace stays; the endpoint of the one that ended goes, and then it can be attached itself."""
    engine = Engine(str(tmp_path))
    run("ip netns add shop")
    engine.network()
    shop = engine.endpoint("shop")
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    with process_in("shop") as pid:
        first = engine.endpoint("job", "red", pid=pid)
        engine.same("job", "red", pid=pid)
        run("ip -n shop link del eth1")  # its own namespace went with it
        began = workload_namespaces.started
        monkeypatch.setattr(workload_namespaces, "started", lambda workload: began(workload) and began(workload) + "1")
        before = (link("eth0", "shop"), engine.records("link")["netns:shop/eth0"])
        with pytest.raises(InputError, match=f"pid:{pid} is not the process that was attached, which has ended"):
            engine.endpoint("job", "red", pid=pid)
        engine.absent("job", "red")
        assert (link("eth0", "shop"), engine.records("link")["netns:shop/eth0"]) == before
        assert not [key for key in engine.records("link") if "pid:" in key] and engine.records("process") == {}
        assert engine.endpoint("job", "red", pid=pid)["addresses"] == first["addresses"]
    engine.same("shop")
    assert engine.records("endpoint")["blue/shop"] == shop


# --- one namespace under two names ---------------------------------------------------------------


@pytest.fixture
def shared(trunk: str, tmp_path: Path) -> Engine:
    """Two networks with gateways, and a namespace that is called ``web`` and ``alias``."""
    engine = Engine(str(tmp_path / "state"))
    run("ip netns add web; touch /run/netns/alias; mount --bind /run/netns/web /run/netns/alias")
    for number, name in ((10, "blue"), (20, "red")):
        engine.network(name, parent=f"trunk.{number}", subnets=[{"subnet": f"10.0.{number}.0/24"}])
    return engine


def way_out() -> str:
    return run("ip -n web -4 route show default")


def is_settled(engine: Engine) -> bool:
    """The service has nothing to do, and nothing that it cannot do."""
    found = restore.restore(transact.RunOptions(engine.state_dir))
    return not found.done and not found.left


def test_the_endpoints_of_two_names_are_planned_together(shared: Engine) -> None:
    shared.endpoint("web")
    side = shared.endpoint("side", "red", netns="alias", gw_priority=10)
    assert side["interface"] == "eth1", "eth0 is that of the other name"
    assert way_out().splitlines() == ["default via 10.0.20.1 dev eth1 proto 201 "] and is_settled(shared)
    shared.same("web")
    shared.same("side", "red", netns="alias", gw_priority=10)
    shared.endpoint("web", gw_priority=20)
    assert way_out().splitlines() == ["default via 10.0.10.1 dev eth0 proto 201 "] and is_settled(shared)
    index = link("eth0", "web")["ifindex"]
    shared.absent("side", "red", netns="alias")
    assert links("web") == ["eth0"] and link("eth0", "web")["ifindex"] == index
    assert way_out().splitlines() == ["default via 10.0.10.1 dev eth0 proto 201 "] and is_settled(shared)
    shared.endpoint("side", "red", netns="alias", gw_priority=30)
    shared.absent("web")
    assert links("web") == ["eth1"] and is_settled(shared)
    assert way_out().splitlines() == ["default via 10.0.20.1 dev eth1 proto 201 "]
    shared.absent("side", "red", netns="alias")
    assert links("web") == [] == way_out().splitlines()
    assert not shared.records("link").keys() - {"trunk.10", "trunk.20"} and shared.records("route") == {}


def test_two_names_of_one_namespace_in_one_map(shared: Engine) -> None:
    rows = [
        {"network": "blue", "name": "web", "netns": "web"},
        {"network": "red", "name": "side", "netns": "alias", "gw_priority": 10},
    ]
    shared.map(endpoints=rows)
    assert sorted(links("web")) == ["eth0", "eth1"] and way_out().count("default") == 1 and "10.0.20.1" in way_out()
    assert is_settled(shared) and shared.map(check=True, endpoints=rows).changes == []
    shared.map(endpoints=[], purge=True)
    assert links("web") == [] and shared.records("link").keys() == {"trunk.10", "trunk.20"}


def test_the_link_of_another_name_is_not_taken_over(shared: Engine) -> None:
    shared.endpoint("web")
    for adopt in (False, True):
        with pytest.raises(InputError, match="interface: eth0 is that of blue/web"):
            shared.task("endpoint", network="red", name="side", netns="alias", interface="eth0", adopt=adopt)


def test_a_namespace_of_ours_stays_for_what_is_in_it_by_another_name(shared: Engine) -> None:
    shared.endpoint("own", netns="own")
    run("touch /run/netns/other; mount --bind /run/netns/own /run/netns/other")
    shared.endpoint("side", "red", netns="other")
    outcome = shared.absent("own")
    assert links("own") == ["eth1"] and is_settled(shared), outcome.warnings
    shared.absent("side", "red", netns="other")
    assert links("other") == [] and not shared.records("netns")


def test_two_workloads_that_came_to_share_a_namespace(shared: Engine) -> None:
    """Recorded apart, as a container that now joins another's: nothing fights, and what cannot be is named."""
    run("umount /run/netns/alias; rm /run/netns/alias; ip netns add alias")
    shared.endpoint("web")
    shared.endpoint("side", "red", netns="alias", gw_priority=10)
    run("umount /run/netns/alias; mount --bind /run/netns/web /run/netns/alias")
    before = link("eth0", "web")
    for _round in range(3):
        found = restore.restore(transact.RunOptions(shared.state_dir))
    assert found.done == [] and link("eth0", "web") == before and way_out().count("default") == 1
    assert {left.why for left in found.left if left.kind == "link"} == {
        "netns:alias and netns:web are one network namespace, where eth0 is that of blue/web: run the play again"
    }
    shared.endpoint("side", "red", netns="alias", gw_priority=10)
    assert links("web") == ["eth0", "eth1"] and "10.0.20.1" in way_out() and way_out().count("default") == 1
    assert is_settled(shared) and link("eth0", "web")["address"] == before["address"]


# --- a shared namespace whose owner starts anew --------------------------------------------------


@contextlib.contextmanager
def orphaned(engine: Engine, kind: str, driver: str) -> Iterator[Dict[str, Any]]:
    """An endpoint's owner ended and began again in a namespace of its own, while a side-car lives on in the first.

    Yields what the owner is called now.
    """
    options = {"driver": driver, **({"mode": "l2"} if driver == "ipvlan" else {})}
    engine.network(**options, subnets=[{"subnet": "192.0.2.0/24"}])
    run("ip netns add web")
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_in("web"))  # the side-car
        if kind == "netns":
            engine.endpoint("web")
            run("ip netns del web; ip netns add web")
            yield {"netns": "web"}
            return
        with process_in("web") as pid:
            engine.endpoint("web", pid=pid)
        run("ip netns del web; ip netns add next")
        yield {"pid": stack.enter_context(process_in("next"))}


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("netns", "restore"),
        *((kind, state) for kind in ("netns", "pid") for state in ("present", "absent", "released")),
    ],
)
def test_what_lives_on_beside_a_side_car_is_ours(
    trunk: str, tmp_path: Path, kind: str, state: str, driver: str
) -> None:
    engine = Engine(str(tmp_path / "state"))
    opened = len(os.listdir("/proc/self/fd"))
    with orphaned(engine, kind, driver) as workload:
        first = engine.records("endpoint")["blue/web"]
        old = next(space for space in observe(Need(everywhere=True)).others if "eth0" in space.names)
        if state == "present":
            assert engine.task("endpoint", check=True, network="blue", name="web", **workload).changes
            again = engine.endpoint("web", **workload)
            assert (again["addresses"], again["mac"]) == (first["addresses"], first["mac"])
            engine.same("web", **workload)
            newest = Registry(engine.state_dir).transactions()[0]
            removed = [
                one.before["netns"] for one in newest.changes if one.kind == "link" and one.before and not one.after
            ]
            assert removed[0].startswith("net:["), "the journal can be read, and names what it was"
        elif state == "restore":
            assert restore.restore(transact.RunOptions(engine.state_dir)).left == []
        else:
            engine.task("endpoint", state, network="blue", name="web")
        observed = observe(Need(everywhere=True))
        there = [space for space in observed.others if space.identity == old.identity]
        assert not any("eth0" in space.names for space in there), "it lives in the old namespace no more"
        if state in ("present", "restore"):
            new = run(f"ip -n {'web' if kind == 'netns' else 'next'} -br -4 addr show eth0")
            assert (first["addresses"][0] in new and is_settled(engine)) or kind == "pid"
        else:
            assert engine.endpoint("next", netns="third")["addresses"] == first["addresses"], "the lease is free"
    assert len(os.listdir("/proc/self/fd")) == opened, (
        "no namespace is held, or it would live on with all that is in it"
    )


def test_a_run_that_fails_puts_it_back(trunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(str(tmp_path / "state"))
    with orphaned(engine, "netns", "macvlan"):
        run("ip -n web link add eth0 type dummy")
        with pytest.raises(InputError, match="eth0 .dummy. no longer has our mark"):
            engine.endpoint("web")
        run("ip -n web link del eth0")
        before = observe(Need(everywhere=True)).others
        monkeypatch.setattr(transact.compare, "unapplied", lambda *_all: [(Change("link", "x", None, {}, ""), {})])
        with pytest.raises(errors.RolledBack):
            engine.endpoint("web")
        monkeypatch.undo()
        after = observe(Need(everywhere=True)).others
        shown = [[(name, one.mac) for space in each for name, one in space.names.items()] for each in (before, after)]
        assert shown[0] == shown[1] and links("web") == []
        engine.endpoint("web")
        assert links("web") == ["eth0"]


def test_a_namespace_that_was_renamed_keeps_what_it_has(trunk: str, tmp_path: Path) -> None:
    """It is there by another name, so nothing is guessed."""
    engine = Engine(str(tmp_path / "state"))
    engine.network()
    engine.endpoint("web")
    run("touch /run/netns/shop; mount --bind /run/netns/web /run/netns/shop; umount /run/netns/web; rm /run/netns/web")
    lives = "blue/web lives on as eth0 in netns:shop, while netns:web is gone or was replaced; if it was renamed"
    for state in ("present", "absent", "released"):
        with pytest.raises(InputError, match=lives):
            engine.task(
                "endpoint", state, network="blue", name="web", **({"netns": "web"} if state == "present" else {})
            )
    before = engine.records("endpoint")["blue/web"]
    assert engine.endpoint("web", netns="shop") == {**before, "workload": "netns:shop"}
    engine.same("web", netns="shop")
    assert links("shop") == ["eth0"]


def test_a_run_with_mounts_of_its_own_names_namespaces_for_the_host(
    trunk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ``ip netns exec`` what is mounted stays there, while the file on which it is mounted is seen by all."""
    monkeypatch.setattr(named_namespaces, "FIRST_PROCESS", os.getpid())
    engine = Engine(str(tmp_path / "state"))
    run("ip netns add first")

    def apart(action: Callable[[], object]) -> None:
        child = os.fork()
        if child == 0:
            try:
                libc.call("unshare", CLONE_NEWNS)
                libc.call("mount", b"none", b"/", None, MS_REC | MS_SLAVE, None)  # as iproute2 does
                action()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

    apart(lambda: (engine.network(), engine.endpoint("web"), engine.same("web")))
    assert links("web") == ["eth0"] and is_settled(engine)
    engine.same("web")
    apart(lambda: engine.absent("web"))
    assert [row["name"] for row in ip("netns", "list")] == ["first"] and os.listdir("/run/netns") == ["first"]
    with pytest.raises(errors.NamespaceError, match="there is a network namespace first already"):
        named_namespaces._where_the_host_sees_it(lambda: named_namespaces._create("first", "x"))


# --- kinds, not names ----------------------------------------------------------------------------


def test_the_loopback_and_the_kernels_tunnels_are_known_by_their_kind(trunk: str, tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "state"))
    engine.network()
    engine.endpoint("web")
    run("ip -n web link set lo down; ip -n web link set lo name loop; ip -n web link add gre0 type dummy")
    assert engine.absent("web").warnings == [
        "netns:web stays, although nothing of ours needs it any more: the link gre0 is in it"
    ]
    run("ip -n web link del gre0")
    engine.endpoint("web")
    assert engine.absent("web").warnings == [] and ip("netns", "list") == []
    run("ip link set lo down; ip link set lo name loop")
    for parent in ("loop", "loop.5"):
        with pytest.raises(InputError, match="parent: loop is the loopback"):
            engine.network("red", parent=parent, subnet="198.51.100.0/24")
