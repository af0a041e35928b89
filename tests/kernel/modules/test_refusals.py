# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input: a line for each thing that is wrong, with its place and its cure, all at once, and the host untouched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from tests.support.module_tasks import PYTHON, Tasks, changes, everything, refused
from tests.support.network_host import links, run

BLUE: Dict[str, Any] = {
    "name": "blue",
    "driver": "macvlan",
    "parent": "trunk.10",
    "subnets": [{"subnet": "192.0.2.0/24"}],
}


def blue(**more: Any) -> Dict[str, Any]:
    return {**BLUE, **more}


def with_subnet(**more: Any) -> Dict[str, Any]:
    return blue(subnets=[{"subnet": "192.0.2.0/24", **more}])


# --- one thing ----------------------------------------------------------------------------------


NO_VLAN_ID = [0, 4095, -1, "abc", 4096, 1.5, True, "0x10"]


def test_a_vlan_id_that_is_none(tasks: Tasks) -> None:
    line = r"^vlan_id: .* is not a whole number from 1 to 4094; give one$"
    tasks.refuses_all(("vlan_link", {"parent": "trunk", "vlan_id": number}, [line]) for number in NO_VLAN_ID)


def test_each_vlan_id_that_is_none_in_its_row(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        *(
            rf"^links\[{row}\]\.vlan_id: .* is not a whole number from 1 to 4094; give one$"
            for row in range(len(NO_VLAN_ID))
        ),
        name="m",
        links=[{"parent": "trunk", "vlan_id": number} for number in NO_VLAN_ID],
    )


#: Numbers that are none, and at which Ansible's own conversion ended in a traceback.
ENDLESS = [float("nan"), float("-inf"), "inf", 2**63, "9" * 5000]


def test_numbers_without_an_end(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    route = {"prefix": "10.9.0.0/16", "dev": "trunk"}
    cases = (
        ("vlan_link", "mtu", {"parent": "trunk", "vlan_id": 11}, r"^mtu: .* is not a whole number from 68 to 65535 bytes; give one$"),
        ("vlan_network", "bclim", blue(), r"^bclim: .* is not a whole number from .*; give one$"),
        ("vlan_endpoint", "gw_priority", {"network": "blue", "name": "one", "netns": "one"}, r"^gw_priority: .* is not a whole number .*$"),
        ("ipvlan_l3_routes", "metric", {"name": "up"}, r"^routes\[0\]\.metric: .* is not a whole number .*$"),
    )  # fmt: skip
    for module, name, options, line in cases:
        for number in ENDLESS:
            given = {"routes": [{**route, name: number}]} if name == "metric" else {name: number}
            assert refused(tasks.run(module, {**options, **given}, True), line), (module, name, number)
    for number in (*ENDLESS, -1, 86401):
        for module, options in (("vlan_link", {"parent": "trunk", "vlan_id": 11}), ("vlan_info", {})):
            found = tasks.run(module, {**options, "lock_timeout": number}, True)
            assert found.data["failed"] and "lock_timeout" in found.data["msg"] and "Traceback" not in found.text, (
                found.text
            )
    for number in (*ENDLESS, -1, 2**24 + 1):
        found = tasks.run("vlan_host", {"neighbours": number, "install": False}, True)
        assert found.data["failed"] and "neighbours" in found.data["msg"] and "Traceback" not in found.text, found.text


def test_parents_made_on_the_fly_have_vlan_ids_too(tasks: Tasks) -> None:
    ids = ["0", "4095", "-1", "abc", "4096", "010"]
    tasks.refuses(
        "vlan_map",
        *(rf"^networks\[{row}\]\.parent: .*trunk\.{number}\b.*; " for row, number in enumerate(ids)),
        name="m",
        networks=[blue(name=f"n{row}", parent=f"trunk.{number}") for row, number in enumerate(ids)],
    )


NOWHERE = r"eth9 does not exist; this host has far, trunk$"
NETWORKS: Dict[str, tuple[Dict[str, Any], str]] = {
    "no parent": (blue(parent="eth9"), r"^parent: " + NOWHERE),
    "no base": (blue(parent="eth9.5"), r"^parent: " + NOWHERE),
    "loopback": (blue(parent="lo"), r"^parent: lo is the loopback; give a NIC, a bond, a VLAN sub-interface or a dummy$"),
    "loopback's vlan": (blue(parent="lo.5"), r"^parent: lo is the loopback, and has no VLANs; "),
    "gateway": (with_subnet(gateway="192.0.3.1"), r"^subnets\[0\]\.gateway: 192\.0\.3\.1 is not inside 192\.0\.2\.0/24; give an address of 192"),
    "network address as gateway": (with_subnet(gateway="192.0.2.0"), r"^subnets\[0\]\.gateway: 192\.0\.2\.0 is .*; give"),
    "gateway of the other family": (with_subnet(gateway="2001:db8::1"), r"^subnets\[0\]\.gateway: 2001:db8::1 is .*; give"),
    "range": (with_subnet(ip_range="192.0.3.0/25"), r"^subnets\[0\]\.ip_range: 192\.0\.3\.0/25 is not inside 192\.0\.2\.0/24; give a part of"),
    "wider range": (with_subnet(ip_range="192.0.0.0/16"), r"^subnets\[0\]\.ip_range: 192\.0\.0\.0/16 is not inside"),
    "reservation": (with_subnet(aux_addresses={"r": "198.51.100.1"}), r"^subnets\[0\]\.aux_addresses\.r: 198\.51\.100\.1 is not inside"),
    "overlap": (
        blue(subnets=[{"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0/16"}]),
        r"^subnets\[1\]\.subnet: 10\.1\.0\.0/16 overlaps 10\.0\.0\.0/8 of subnets\[0\]; give each subnet once$",
    ),
    "unknown option in a row": (with_subnet(gatway="192.0.2.1"), r"^subnets\[0\]\.gatway: unknown option; did you mean gateway\?$"),
    "no subnet in a row": (blue(subnets=[{"gateway": "192.0.2.1"}]), r"^subnets\[0\]\.subnet: is missing; it is required$"),
    "subnet": (blue(subnets=[{"subnet": "192.0.2.0/33"}]), r"^subnets\[0\]\.subnet: '192\.0\.2\.0/33' is not a subnet; write it as"),
    "mode of the other driver": (blue(mode="l3"), r"^mode: macvlan has no mode l3; give one of bridge, private, vepa, passthru, source$"),
    "flag": (blue(flag="vepa"), r"^flag: macvlan has no flag; "),
    "mode": (blue(mode="brdige"), r"^mode: 'brdige' is not a choice; give one of "),
    "driver": (blue(driver="bridge"), r"^driver: 'bridge' is not a choice; give one of macvlan, ipvlan$"),
    "internal with a parent": (blue(internal=True), r"^internal: an internal network has its own dummy, and no parent; "),
    "mtu": (blue(mtu=67), r"^mtu: 67 is not a whole number from 68 to 65535 bytes; give one$"),
    "mtu of the base": (blue(mtu=9000), r"^mtu: 9000 is more than the 1500 of trunk; give 1500 at most, or raise trunk$"),
    "family": (blue(enable_ipv4=False), r"^enable_ipv4: is false, but an IPv4 subnet is given; remove one of the two$"),
    "name": (blue(name="a/b"), r"^name: 'a/b' is not a usable name; "),
    "l3 over the parent's subnet": (
        {"name": "l3", "driver": "ipvlan", "mode": "l3", "parent": "trunk", "subnets": [{"subnet": "203.0.113.0/25"}]},
        r"^subnets\[0\]\.subnet: 203\.0\.113\.0/25 overlaps 203\.0\.113\.10/24 of trunk; ",
    ),
}  # fmt: skip


def test_networks_that_cannot_be(tasks: Tasks) -> None:
    tasks.refuses_all(("vlan_network", options, [line]) for options, line in NETWORKS.values())


def test_other_items_that_cannot_be(tasks: Tasks) -> None:
    tasks.refuses_all([
        ("vlan_link", {"parent": "lo", "vlan_id": 5}, ["^parent: lo is the loopback; "]),
        ("vlan_link", {"parent": "eth9", "vlan_id": 5}, ["^parent: " + NOWHERE]),
        ("vlan_link", {}, ["^parent: is missing; it is required$", "^vlan_id: is missing; it is required$"]),
        ("vlan_link", {"state": "absent"}, ["^parent: is missing; it identifies", "^vlan_id: is missing; it identifies"]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "vlan": 6}, ["^vlan: unknown option; did you mean vlan_id\\?$"]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "addresses": ["192.0.2.1", "x/24"]}, ["^addresses\\[0\\]: ", "^addresses\\[1\\]: "]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "egress_qos_map": {"0": 8, "x": 1}}, ["^egress_qos_map.0: ", "^egress_qos_map.x: "]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "gvrp": True, "mvrp": True}, ["^mvrp: GVRP and MVRP announce the same VLAN twice; "]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "protocol": "802.1x"}, ["^protocol: '802.1x' is not a choice; give one of 802.1q"]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "gvrp": "perhaps"}, ["^gvrp: 'perhaps' is not a boolean; give true or false$"]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "mtu": 1501}, ["^mtu: 1501 is more than the 1500 of trunk; "]),
        ("vlan_link", {"parent": "trunk", "vlan_id": 5, "name": "a b"}, ["^name: 'a b' is not a link name; "]),
        ("vlan_endpoint", {"network": "no", "name": "e", "netns": "e"}, ["^network: there is no network no; create it first, with"]),
        ("vlan_endpoint", {"network": "no", "name": "e"}, ["^netns: no workload given; give netns, pid or container$"]),
        ("vlan_endpoint", {"network": "no", "name": "e", "netns": "a", "pid": 1}, ["^pid: several of netns, pid given; give"]),
        ("vlan_endpoint", {"network": "no", "name": "e", "netns": "../a"}, ["^netns: '../a' is not the name of a namespace; "]),
        ("vlan_endpoint", {"network": "n", "name": "e", "netns": "e", "mac_address": "01:00:5e:00:00:01"}, ["^mac_address: .* not a unicast"]),
        ("vlan_endpoint", {"network": "n", "name": "e", "container": {"engine": "lxc"}}, ["^container.engine: 'lxc'", "^container.name: is missing"]),
        ("vlan_endpoint", {"network": "n", "name": "e", "netns": "e", "sysctls": {"kernel.x": 1}}, ["^sysctls.kernel.x: .*; write net.ipv4.conf"]),
        ("ipvlan_l3_routes", {"name": "r", "routes": [{"prefix": "0.0.0.0/0", "via": "203.0.113.1"}]}, ["^routes\\[0\\].prefix: .* default route; "]),
        ("ipvlan_l3_routes", {"name": "r", "routes": [{"prefix": "10.1.0.0/16"}]}, ["^routes\\[0\\].via: is missing, and so is dev; "]),
        ("ipvlan_l3_routes", {"name": "r", "routes": [{"prefix": "10.1.0.0/16", "via": "10.9.9.9"}]}, ["^routes\\[0\\].via: 10.9.9.9 .*; "]),
        ("ipvlan_l3_routes", {"name": "r", "routes": [{"prefix": "10.1.0.0/16", "dev": "eth9"}]}, ["^routes\\[0\\].dev: eth9 does not exist; "]),
        ("ipvlan_l3_routes", {"name": "r", "network": "no"}, ["^network: no is not an L3 network of this host; "]),
        ("vlan_map", {"name": "m", "trunks": {"up": "eth9"}}, ["^trunks.up: fits no link of this host; this host has far, trunk$"]),
        ("vlan_map", {"name": "m", "trunks": {"up": {"match": {"mac": "zz"}}}}, ["^trunks.up.match.mac: "]),
        ("vlan_map", {}, ["^name: is missing; it is required$"]),
        ("vlan_map", {"name": "m", "network": []}, ["^network: unknown option; did you mean networks\\?$"]),
        ("vlan_map", {"name": "m", "networks": "blue"}, ["^networks: 'blue' is not a list; "]),
        ("vlan_map", {"name": "m", "networks": ["blue"]}, ["^networks\\[0\\]: 'blue' is not a mapping; "]),
    ])  # fmt: skip


# --- several things -----------------------------------------------------------------------------


def test_everything_in_three_rows_of_one_input(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        r"^links\[0\]\.vlan_id: 'abc' is not a whole number from 1 to 4094; give one$",
        r"^networks\[0\]\.drvier: unknown option; did you mean driver\?$",
        r"^networks\[0\]\.driver: is missing; it is required$",
        r"^networks\[1\]\.subnets\[0\]\.gateway: 10\.9\.9\.9 is not inside 192\.0\.2\.0/24; give an address of 192\.0\.2\.0/24, or none$",
        name="rack1",
        links=[{"parent": "trunk", "vlan_id": "abc"}],
        networks=[{"name": "typo", "drvier": "macvlan", "parent": "trunk.10"}, with_subnet(gateway="10.9.9.9")],
    )


def test_what_the_model_says_and_what_the_host_says_together(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        r"^links\[0\]\.parent: eth9 does not exist; ",
        r"^networks\[0\]\.parent: eth8 does not exist; ",
        r"^networks\[1\]\.mtu: 'big' is not a whole number",
        r"^endpoints\[0\]\.network: there is no network green; ",
        name="rack1",
        links=[{"parent": "eth9", "vlan_id": 5}],
        networks=[blue(parent="eth8.1"), blue(name="red", parent="trunk.11", mtu="big")],
        endpoints=[{"network": "green", "name": "one", "netns": "one"}],
    )


def test_a_map_without_its_name_tells_of_the_host_too(tasks: Tasks) -> None:
    """And not that each row of it belongs to the map that it is."""
    made = tasks.run("vlan_map", {"name": "rack1", "networks": [blue(name="red", parent="trunk.11")]}, False)
    assert made.data["changed"], made.text
    rows = {"networks": [blue(name="red", parent="trunk.11"), blue(parent="eth8.1")]}
    for name, said in (
        ({}, r"^name: is missing; it is required$"),
        ({"name": "-"}, r"^name: '-' is not a usable name; "),
    ):
        tasks.refuses("vlan_map", said, r"^networks\[1\]\.parent: eth8 does not exist; ", **name, **rows)


def test_a_list_that_is_a_string_is_reported_once(tasks: Tasks) -> None:
    text = "".join(f"- {{name: n{row}, driver: macvlan, parent: trunk.{row}}}\n" for row in range(1, 3001))
    links = [{"parent": "eth9", "vlan_id": 5}]
    tasks.refuses(
        "vlan_map", r"^networks: is a string of 3,000 lines, not a list; parse it first: ",
        r"^links\[0\]\.parent: eth9 does not exist; ", name="rack1", networks=text, links=links,
    )  # fmt: skip


def test_a_value_where_a_mapping_belongs(tasks: Tasks) -> None:
    """Over some of them Ansible itself ends in a traceback."""
    for value in (-1, 1.5, True, [None], [[]]):
        tasks.refuses_all([
            ("vlan_endpoint", {"network": "blue", "name": "one", "container": value}, [r"^container: .*(is not a mapping|does not say which engine); "]),
            ("vlan_network", {"name": "blue", "ipam_config": value}, [r"^subnets.*; ", r"^driver: is missing; "]),
        ])  # fmt: skip


def test_two_rows_with_one_name_and_two_that_overlap(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_map",
        r"^networks\[1\]: network blue is already listed in networks\[0\]; list each once$",
        r"^links\[1\]: vlan trunk\.5 is already listed in links\[0\]; list each once$",
        name="rack1",
        links=[{"parent": "trunk", "vlan_id": 5}, {"parent": "trunk", "vlan_id": 5}],
        networks=[blue(), blue(parent="trunk.11")],
    )
    shared = {"parent": "trunk.10", "share_parent": True}
    tasks.refuses(
        "vlan_map",
        r"^networks\[0\]\.subnets: 192\.0\.2\.0/24 overlaps 192\.0\.2\.128/25 of red on the same trunk\.10; ",
        r"^networks\[1\]\.subnets: 192\.0\.2\.128/25 overlaps 192\.0\.2\.0/24 of blue on the same trunk\.10; ",
        name="rack1",
        networks=[blue(**shared), blue(name="red", subnets=[{"subnet": "192.0.2.128/25"}], **shared)],
    )


def test_macvlan_and_ipvlan_on_one_parent(tasks: Tasks) -> None:
    red = {"name": "red", "driver": "ipvlan", "parent": "trunk.10", "subnets": [{"subnet": "198.51.100.0/24"}]}
    cure = "macvlan and ipvlan cannot share a parent: use another, or the same driver and share_parent: true on both$"
    tasks.refuses(
        "vlan_map",
        rf"^networks\[0\]\.driver: trunk\.10 carries red \(ipvlan\); {cure}",
        rf"^networks\[1\]\.driver: trunk\.10 carries blue \(macvlan\); {cure}",
        name="rack1",
        networks=[BLUE, red],
    )
    tasks.ok("vlan_network", **BLUE)
    tasks.refuses("vlan_network", rf"^driver: trunk\.10 carries blue \(macvlan\); {cure}", **red)
    run(
        "ip netns add theirs; ip link add link trunk name theirs0 type ipvlan mode l2; ip link set theirs0 netns theirs"
    )
    tasks.refuses(
        "vlan_network",
        r"^parent: trunk carries theirs0 in netns:theirs \(ipvlan\), which is not ours; ",
        **blue(name="green", parent="trunk"),
    )


def test_one_parent_is_one_whatever_it_is_called(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    run("ip link property add dev trunk.10 altname the-tenth-vlan-of-rack-one")
    tasks.refuses(
        "vlan_network", r"^parent: the-tenth-vlan-of-rack-one is the parent of blue already; ",
        **blue(name="red", parent="the-tenth-vlan-of-rack-one", subnets=[{"subnet": "198.51.100.0/24"}]),
    )  # fmt: skip


def test_what_another_owner_has(tasks: Tasks) -> None:
    tasks.ok("vlan_map", name="rack1", networks=[BLUE])
    tasks.refuses(
        "vlan_network", r"network blue belongs to map rack1; change it there, or set adopt: true$", **blue(mtu=1400)
    )
    tasks.becomes("vlan_network", adopt=True, **blue(mtu=1400))


def test_a_refusal_of_a_host_that_has_something_leaves_it(tasks: Tasks) -> None:
    tasks.ok("vlan_map", name="rack1", networks=[BLUE], endpoints=[{"network": "blue", "name": "one", "netns": "one"}])
    tasks.refuses(
        "vlan_network",
        r"^state: network blue has the endpoints one; make those absent first$",
        name="blue",
        state="absent",
        adopt=True,
    )
    tasks.refuses(
        "vlan_map", r"^networks\[0\]\.subnets: 192\.0\.2\.0/24 is in use by one; remove those endpoints first, or keep it$",
        name="rack1", networks=[blue(subnets=[{"subnet": "198.51.100.0/24"}])],
    )  # fmt: skip


# --- from where the host is managed -------------------------------------------------------------

ADDRESS = {"parent": "trunk", "vlan_id": 5, "addresses": ["10.0.5.1/24"]}
ROUTE = {"name": "r", "routes": [{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}]}


def test_a_change_that_may_divert_an_unknown_path_needs_a_guard(tasks: Tasks) -> None:
    """There is no SSH here, as with a task that runs on by itself."""
    unknown = {"managed_from": None}
    diverts = r"^guard_timeout: it is unknown from where this host is managed, and the {} may divert that path; give guard_timeout: 60, or .*managed_from$"
    tasks.refuses("vlan_link", diverts.format(r"address trunk\.5 10\.0\.5\.1/24"), **ADDRESS, **unknown)
    tasks.refuses("ipvlan_l3_routes", diverts.format(r"route 10\.77\.0\.0/16.*"), **ROUTE, **unknown)
    tasks.becomes("vlan_network", **BLUE, **unknown)
    tasks.becomes("vlan_endpoint", network="blue", name="one", netns="one", **unknown)
    found = tasks.run("vlan_link", {**ADDRESS, **unknown, "guard_timeout": 60})  # which takes it one step further
    assert len(found.message) == 1 and found.message[0].startswith("nothing on this host could revert the change"), (
        found.message
    )
    tasks.becomes("vlan_link", **ADDRESS, managed_from=[])
    tasks.same("vlan_link", **ADDRESS, **unknown)
    tasks.refuses("vlan_link", diverts.format("address .*"), name="trunk.5", state="absent", **unknown)


def test_the_path_of_whom_the_task_names_is_left_alone(tasks: Tasks) -> None:
    tasks.refuses(
        "vlan_link", r"^addresses\[0\]: 10\.0\.5\.0/24 holds 10\.0\.5\.77, from which this host is managed; ",
        **ADDRESS, managed_from=["192.0.2.9", "10.0.5.77"],
    )  # fmt: skip
    tasks.refuses(
        "ipvlan_l3_routes",
        r"^routes\[0\]\.prefix: 10\.77\.0\.0/16 holds 10\.77\.8\.9, ",
        **ROUTE,
        managed_from=["10.77.8.9"],
    )
    tasks.refuses(
        "vlan_link", r"^managed_from\[1\]: 'x/24' is no address; ", **ADDRESS, managed_from=["192.0.2.9", "x/24"]
    )


# --- the host that cannot -----------------------------------------------------------------------

UNPRIVILEGED = 65534


@pytest.mark.parametrize(
    ("module", "options"),
    [("vlan_link", {"parent": "trunk", "vlan_id": 5}), ("vlan_network", BLUE), ("vlan_map", {"name": "m", "networks": [BLUE]}),
     ("vlan_endpoint", {"network": "blue", "name": "one", "netns": "one"}), ("ipvlan_l3_routes", {"name": "r", "network": "l3"})],
)  # fmt: skip
def test_not_root(tasks: Tasks, module: str, options: Dict[str, Any]) -> None:
    before = everything(tasks.state_dir)
    for check in (False, True):
        found = tasks.run(module, options, check, user=UNPRIVILEGED)
        assert refused(found, r"^only root can change links; run the task with become: true$")
    assert changes(before, everything(tasks.state_dir)) == []


def test_not_root_and_bad_input_too(tasks: Tasks) -> None:
    found = tasks.run("vlan_link", {"parent": "trunk", "vlan_id": 0}, user=UNPRIVILEGED)
    assert refused(found, r"become: true$", r"^vlan_id: 0 is not a whole number")


def test_info_not_as_root_says_so(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    found = tasks.run("vlan_info", {}, user=UNPRIVILEGED)
    assert found.data["failed"] and "Traceback" not in found.text
    assert found.message == [text for text in found.message if "become: true" in text]


@pytest.fixture
def without_driver(trunk: str) -> Iterator[None]:
    """A kernel without ipvlan, which cannot load it either."""
    path = Path("/proc/sys/kernel/modprobe")
    before = path.read_text(encoding="ascii")
    path.write_text("/bin/false\n", encoding="ascii")
    run("modprobe -r ipvtap ipvlan 2>/dev/null || modprobe -r ipvlan")
    yield
    path.write_text(before, encoding="ascii")
    run("modprobe ipvlan")


NO_IPVLAN = (
    r"driver: the kernel of this host has no driver ipvlan; "
    r"install the package with the other modules of this kernel \(the role prepare names it\), or boot one that has it"
)
RED: Dict[str, Any] = {
    "name": "red",
    "driver": "ipvlan",
    "parent": "trunk.11",
    "subnets": [{"subnet": "198.51.100.0/24"}],
}


def test_a_driver_that_is_missing(tasks: Tasks, without_driver: None) -> None:
    """Refused by item, in check mode too, where the modules of the kernel show that it has none."""
    run("mount -t tmpfs none /usr/lib/modules")
    try:
        rows = [{**BLUE, "name": "first"}, RED]
        tasks.refuses(
            "vlan_map",
            r"^networks\[1\]\." + NO_IPVLAN,
            name="rack1",
            networks=rows,
            endpoints=[{"network": "red", "name": "a", "netns": "a"}],
        )
        tasks.refuses("vlan_network", "^" + NO_IPVLAN, **RED)
    finally:
        run("umount /usr/lib/modules")


def test_a_driver_that_is_there_and_does_not_load(tasks: Tasks, without_driver: None) -> None:
    """Check mode loads nothing, so only a run finds out; before it makes anything."""
    before = everything(tasks.state_dir)
    assert tasks.ok("vlan_network", check=True, **RED)["changed"]
    assert refused(tasks.run("vlan_network", RED), "^" + NO_IPVLAN)
    assert changes(before, everything(tasks.state_dir)) == []


def test_python_without_sqlite3(tasks: Tasks) -> None:
    """As where a distribution packs it apart: the import fails."""
    block = "import sys; sys.modules['sqlite3'] = None; exec(compile(sys.stdin.read(), 'payload', 'exec'))"
    found = tasks.send("vlan_link", {"parent": "trunk", "vlan_id": 5}, python=(PYTHON, "-c", block))
    assert found.data["failed"] and "Traceback" not in found.text, found.text
    assert len(found.message) == 1 and "sqlite3" in found.message[0] and ";" in found.message[0]
    assert links() == ["far", "trunk"]


def test_a_state_directory_that_cannot_be(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    os.chmod(tmp_path / "open", 0o777)
    for directory in ("/nowhere/at/all", str(tmp_path / "open"), "/proc/underlay", "relative/one"):
        found = tasks.run("vlan_link", {"parent": "trunk", "vlan_id": 5, "state_dir": directory})
        assert (
            found.data["failed"]
            and "Traceback" not in found.text
            and len(found.message) == 1
            and "; " in found.message[0]
        ), found.text
    assert links() == ["far", "trunk"]


def test_a_run_that_is_under_way_is_named(tasks: Tasks) -> None:
    tasks.ok("vlan_network", **BLUE)
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.flock(f, 2); f.write('bob'); f.flush();"
         "print('held', flush=True); sys.stdin.read()", f"{tasks.state_dir}/lock"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    found = tasks.run("vlan_link", {"parent": "trunk", "vlan_id": 5, "lock_timeout": 0})
    holder.communicate()
    assert found.message == ["this host is being changed by bob; wait for it, or give a longer lock_timeout"]
    tasks.becomes("vlan_link", parent="trunk", vlan_id=5, lock_timeout=0)
