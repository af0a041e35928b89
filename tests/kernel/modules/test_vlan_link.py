# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vlan_link``: every option, on the kernel."""

from __future__ import annotations

import re
from typing import Any, Dict, List

import pytest

from tests.support.module_tasks import PYTHON, Tasks, warnings
from tests.support.network_host import HAS_IPV6, data, ip, link, links, run, sysctl

pytestmark = pytest.mark.ipv6_off

OURS = "8021"


def addresses(name: str) -> List[str]:
    """All of a link, link-local ones too."""
    return [f"{row['local']}/{row['prefixlen']}" for row in ip("address", "show", "dev", name)[0]["addr_info"]]


def test_made_found_and_removed(tasks: Tasks) -> None:
    before = links()
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50)
    shown = link("trunk.50")
    assert (shown["link"], shown["group"], shown["mtu"]) == ("trunk", OURS, 1500)
    assert "UP" in shown["flags"]
    assert (data("trunk.50")["protocol"], data("trunk.50")["id"]) == ("802.1Q", 50)
    assert done["interface"] == "trunk.50"
    assert done["link"] == {
        "name": "trunk.50", "interface": "trunk.50", "altnames": [], "parent": "trunk", "vlan_id": 50, "protocol": "802.1q",
        "mtu": 1500, "mac": shown["address"], "addresses": [], "owner": "task",
    }  # fmt: skip
    tasks.same("vlan_link", check=True, parent="trunk", vlan_id=50)

    tasks.becomes("vlan_link", name="trunk.50", state="absent")
    assert links() == before
    tasks.same("vlan_link", parent="trunk", vlan_id=50, state="absent")


def test_the_diff_is_for_people(tasks: Tasks) -> None:
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50)
    assert done["diff"]["before_header"] == "host as it is" and done["diff"]["after_header"] == "host as declared"
    assert done["diff"]["before"] == ""
    shown = done["diff"]["after"].splitlines()
    assert shown[0] == "link trunk.50"
    assert {"  parent: trunk", "  vlan_id: 50", "  kind: vlan", "vlan trunk.50"} <= set(shown)
    assert done["plan"]["counts"] == {"link": {"create": 1}, "vlan": {"create": 1}}
    assert done["plan"]["first"] == ["create link trunk.50: VLAN 50 of trunk", "create vlan trunk.50: declared"]

    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50, mtu=1400)
    assert "link trunk.50\n  mtu: 1500\n" in done["diff"]["before"]
    assert "link trunk.50\n  mtu: 1400\n" in done["diff"]["after"]
    assert done["plan"]["first"][0] == "change link trunk.50: VLAN 50 of trunk"

    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50, state="absent")
    assert done["diff"]["after"] == "" and "  vlan_id: 50\n" in done["diff"]["before"]


def test_without_diff_there_is_none(tasks: Tasks) -> None:
    assert "diff" not in tasks.run("vlan_link", {"parent": "trunk", "vlan_id": 50}, diff=False).data


def test_a_reboot_is_reported_of(tasks: Tasks) -> None:
    done = tasks.ok("vlan_link", parent="trunk", vlan_id=50)
    assert done["persistent"] is False
    assert any(text.startswith("will not survive a reboot: ") for text in warnings(done))
    assert not any("reboot" in text for text in warnings(tasks.same("vlan_link", parent="trunk", vlan_id=50)))


def test_a_priority_that_goes_to_none_is_no_entry(tasks: Tasks) -> None:
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, egress_qos_map={"0": 0, "6": 5}, ingress_qos_map={"3": 0})
    assert data("trunk.50")["egress_qos"] == [{"from": 6, "to": 5}] and data("trunk.50").get("ingress_qos", []) == []


EVERY_OPTION: Dict[str, Any] = {
    "mtu": 1400, "mvrp": True, "loose_binding": True, "reorder_headers": False,
    "ingress_qos_map": {"1": 6, "2": 5}, "egress_qos_map": {"0": 3, "6": 5}, "addresses": ["192.0.2.10/24"],
}  # fmt: skip


def test_every_option_at_once_and_taken_back(tasks: Tasks) -> None:
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, **EVERY_OPTION)
    options = data("trunk.50")
    assert set(options["flags"]) == {"MVRP", "LOOSE_BINDING"}
    assert options["ingress_qos"] == [{"from": 1, "to": 6}, {"from": 2, "to": 5}]
    assert options["egress_qos"] == [{"from": 0, "to": 3}, {"from": 6, "to": 5}]
    assert link("trunk.50")["mtu"] == 1400
    index = link("trunk.50")["ifindex"]

    tasks.becomes(
        "vlan_link", parent="trunk", vlan_id=50, gvrp=True, egress_qos_map={"6": 4}, addresses=["192.0.2.11/24"]
    )
    options = data("trunk.50")
    assert set(options["flags"]) == {"GVRP", "REORDER_HDR"}
    assert options.get("ingress_qos", []) == [] and options["egress_qos"] == [{"from": 6, "to": 4}]
    assert [row for row in addresses("trunk.50") if "." in row] == ["192.0.2.11/24"]
    assert link("trunk.50")["ifindex"] == index, "it was changed in place"


@pytest.mark.parametrize(
    "change",
    [{"mtu": 1300}, {"gvrp": True}, {"mvrp": True}, {"loose_binding": True}, {"reorder_headers": False}, {"addresses": ["192.0.2.1/24"]},
     {"ingress_qos_map": {"7": 1}}, {"egress_qos_map": {"1": 7}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_each_option_changes_in_place_and_back(tasks: Tasks, change: Dict[str, Any]) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=50)
    before = [link("trunk.50"), addresses("trunk.50"), sysctl("ipv4.conf.trunk|50.arp_ignore")]
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, **change)
    assert [link("trunk.50"), addresses("trunk.50")] != before[:2]
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50)
    assert [link("trunk.50"), addresses("trunk.50"), sysctl("ipv4.conf.trunk|50.arp_ignore")] == before


def test_qinq(tasks: Tasks) -> None:
    tasks.becomes("vlan_link", parent="trunk", vlan_id=200, protocol="802.1ad")
    done = tasks.becomes("vlan_link", parent="trunk.200", vlan_id=30)
    assert data("trunk.200")["protocol"] == "802.1ad" and done["interface"] == "trunk.200.30"
    assert (link("trunk.200.30")["link"], data("trunk.200.30")["id"]) == ("trunk.200", 30)
    tasks.refuses(
        "vlan_link",
        r"^state: trunk\.200 cannot be removed: trunk\.200\.30 uses it; remove that first",
        name="trunk.200",
        state="absent",
    )
    tasks.becomes("vlan_link", name="trunk.200.30", state="absent")
    tasks.becomes("vlan_link", name="trunk.200", state="absent")
    assert links() == ["far", "trunk"]


def test_the_same_id_with_both_tags_stands_side_by_side(tasks: Tasks) -> None:
    tasks.becomes("vlan_link", parent="trunk", vlan_id=7)
    tasks.becomes("vlan_link", parent="trunk", vlan_id=7, name="outer7", protocol="802.1ad")
    assert (data("trunk.7")["protocol"], data("outer7")["protocol"]) == ("802.1Q", "802.1ad")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"vlan_id": 51},
            r"^vlan_id: v50 has vlan_id 50, which the kernel cannot change in place; make it absent first, or give another name",
        ),
        ({"vlan_id": 50, "protocol": "802.1ad"}, r"^protocol: v50 has protocol 802\.1q, which the kernel"),
        ({"vlan_id": 50, "parent": "other"}, r"^parent: v50 has parent trunk, which the kernel"),
    ],
    ids=["vlan_id", "protocol", "parent"],
)
def test_what_no_kernel_changes_is_refused(tasks: Tasks, options: Dict[str, Any], line: str) -> None:
    run("ip link add other type veth peer name other-far")
    tasks.ok("vlan_link", parent="trunk", vlan_id=50, name="v50")
    found = tasks.run("vlan_link", {"parent": "trunk", "name": "v50", **options})
    assert any(re.search(line, text) for text in found.message), found.message
    assert data("v50")["id"] == 50 and data("v50")["protocol"] == "802.1Q" and link("v50")["link"] == "trunk"


def test_long_names_become_alternative_names(tasks: Tasks) -> None:
    name = "a-name-of-more-than-15-characters"
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50, name=name)
    shown = link(name)
    assert shown["altnames"] == [name] and shown["ifname"] == done["interface"] != name and len(shown["ifname"]) <= 15
    assert done["link"]["altnames"] == [name]
    run("ip link add a-trunk-of-15-c up type dummy")
    done = tasks.becomes("vlan_link", parent="a-trunk-of-15-c", vlan_id=4094)
    assert link("a-trunk-of-15-c.4094")["ifname"] == done["interface"]
    assert done["interface"].endswith(".4094")
    tasks.becomes("vlan_link", name="a-trunk-of-15-c.4094", state="absent")


def test_a_parent_by_its_alternative_name(tasks: Tasks) -> None:
    run("ip link property add dev trunk altname the-uplink-of-rack-one")
    done = tasks.becomes("vlan_link", parent="the-uplink-of-rack-one", vlan_id=50)
    assert link(done["interface"])["link"] == "trunk"


def test_addresses_come_change_and_go(tasks: Tasks) -> None:
    six = ["2001:db8:100::10/64"] if HAS_IPV6 else []
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=100, addresses=["192.0.2.10/24", *six])
    assert done["link"]["addresses"] == ["192.0.2.10/24", *six]
    assert [row for row in addresses("trunk.100") if not row.startswith("fe80")] == ["192.0.2.10/24", *six]
    assert [row["dst"] for row in ip("-4", "route", "show", "dev", "trunk.100")] == ["192.0.2.0/24"]
    tasks.becomes("vlan_link", parent="trunk", vlan_id=100, addresses=["192.0.2.10/24", "198.51.100.1/32"])
    assert [row for row in addresses("trunk.100") if not row.startswith("fe80")] == ["192.0.2.10/24", "198.51.100.1/32"]
    tasks.becomes("vlan_link", parent="trunk", vlan_id=100)
    assert addresses("trunk.100") == []


def test_addresses_of_others_stay(tasks: Tasks) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=100, addresses=["192.0.2.10/24"])
    run("ip address add 198.51.100.99/24 dev trunk.100")
    tasks.same("vlan_link", parent="trunk", vlan_id=100, addresses=["192.0.2.10/24"])
    tasks.refuses(
        "vlan_link",
        r"^state: trunk\.100 cannot be removed: it has the address 198\.51\.100\.99/24; remove that first",
        name="trunk.100",
        state="absent",
    )
    run("ip address del 198.51.100.99/24 dev trunk.100")
    tasks.becomes("vlan_link", name="trunk.100", state="absent")


#: Rule 7: what a link of ours in a tenant's VLAN is set to.
SILENT = {
    "ipv4": {"arp_ignore": 8, "rp_filter": 1, "forwarding": 0},
    "ipv6": {"accept_ra": 0, "autoconf": 0, "forwarding": 0},
}


def test_the_host_has_no_presence_in_the_vlan(tasks: Tasks) -> None:
    run("sysctl -qw net.ipv4.ip_forward=1")
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50)
    assert addresses("trunk.50") == []
    for name, value in SILENT["ipv4"].items():
        assert sysctl(f"ipv4.conf.trunk|50.{name}") == value, name
    assert ip("-4", "route", "show", "dev", "trunk.50") == []
    if HAS_IPV6:
        assert link("trunk.50")["inet6_addr_gen_mode"] == "none"
        assert ip("-6", "route", "show", "dev", "trunk.50") == []
        if sysctl("ipv6.conf.trunk|50.disable_ipv6") == 0:
            for name, value in SILENT["ipv6"].items():
                assert sysctl(f"ipv6.conf.trunk|50.{name}") == value, name


#: A router advertisement with a prefix and a default route, to all nodes of VLAN 50.
ADVERTISE = """
import socket, struct
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 86400, 86400, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"))
raw.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, socket.if_nametoindex("far.50")))
"""


def test_what_a_tenant_sends_comes_to_nothing(tasks: Tasks) -> None:
    """From the other end of the cable, in the VLAN: an advertisement, an ARP request for the host's address, a call."""
    tasks.ok("vlan_link", parent="trunk", vlan_id=50)
    run(
        "ip netns add tenant; ip link set far netns tenant; ip link set trunk up;"
        "ip netns exec tenant sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad' 2>/dev/null || true;"
        "ip -n tenant link set far up; ip -n tenant link add link far name far.50 type vlan id 50; ip -n tenant link set far.50 up;"
        "ip -n tenant address add 203.0.113.77/24 dev far.50"
    )
    if HAS_IPV6:
        run(f"ip netns exec tenant {PYTHON} -c '{ADVERTISE}'")
    call = "ip netns exec tenant ping -c 1 -W 1 -I far.50 203.0.113.10"
    assert "100% packet loss" in run(f"{call} || true")
    known = ip("neigh", "show", "203.0.113.10", netns="tenant")
    assert not any("lladdr" in row for row in known), "the host answered a request for its own address"
    run(f"ip -n tenant neigh replace 203.0.113.10 lladdr {link('trunk.50')['address']} dev far.50 nud permanent")
    received = ip("-s", "link", "show", "dev", "trunk.50")[0]["stats64"]["rx"]["packets"]
    assert "100% packet loss" in run(f"{call} || true"), "the host took in a packet from the tenant's VLAN"
    assert ip("-s", "link", "show", "dev", "trunk.50")[0]["stats64"]["rx"]["packets"] > received, "it never came"
    assert addresses("trunk.50") == []
    if HAS_IPV6:
        assert ip("-6", "route", "show", "dev", "trunk.50") == [] and ip("-6", "route", "show", "default") == []


def test_a_base_that_is_down_is_raised_with_its_inverse_in_the_plan(tasks: Tasks) -> None:
    run("ip link set trunk down")
    done = tasks.ok("vlan_link", parent="trunk", vlan_id=5, bring_up_parent=False)
    assert "parent: trunk is down and is left down (bring_up_parent: false)" in warnings(done)
    assert "UP" not in link("trunk")["flags"] and "UP" not in link("trunk.5")["flags"]
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=5)
    assert "change link trunk: trunk is down" in done["plan"]["first"]
    assert "UP" in link("trunk")["flags"] and "UP" in link("trunk.5")["flags"]
    tasks.becomes("vlan_link", name="trunk.5", state="absent")
    assert "UP" in link("trunk")["flags"], "what is not ours is not taken down"


# --- what others made ----------------------------------------------------------------------------


def test_a_link_that_existed_before_is_refused_or_adopted(tasks: Tasks) -> None:
    run("ip link add link trunk name trunk.50 type vlan id 50; ip link set trunk.50 up")
    index = link("trunk.50")["ifindex"]
    tasks.refuses(
        "vlan_link",
        r"trunk\.50 exists and was not created by us; use it as it is, or set adopt: true",
        parent="trunk",
        vlan_id=50,
    )
    done = tasks.becomes("vlan_link", parent="trunk", vlan_id=50, adopt=True)
    assert link("trunk.50")["group"] == OURS and link("trunk.50")["ifindex"] == index
    assert done["link"]["owner"] == "task" and addresses("trunk.50") == []
    tasks.same("vlan_link", parent="trunk", vlan_id=50)
    tasks.becomes("vlan_link", name="trunk.50", state="absent")
    assert "trunk.50" not in links()


def test_a_name_that_another_link_has_is_refused_with_adopt_too(tasks: Tasks) -> None:
    run("ip link add v50 type dummy")
    for adopt in (False, True):
        tasks.refuses(
            "vlan_link",
            r"v50 exists and is not VLAN 50 \(802\.1q\) of trunk; ",
            parent="trunk",
            vlan_id=50,
            name="v50",
            adopt=adopt,
        )


def test_a_vlan_that_another_link_has_is_named(tasks: Tasks) -> None:
    run("ip link add link trunk name storage type vlan id 50")
    tasks.refuses("vlan_link", r"VLAN 50 of trunk already exists as storage", parent="trunk", vlan_id=50)


def test_a_foreign_link_is_not_removed(tasks: Tasks) -> None:
    run("ip link add link trunk name trunk.50 type vlan id 50")
    tasks.refuses(
        "vlan_link",
        r"^name: trunk\.50 exists and was not created by us; remove it by hand, or set adopt",
        name="trunk.50",
        state="absent",
    )


def test_what_sits_on_it_keeps_it(tasks: Tasks) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=50)
    run("ip netns add theirs; ip link add link trunk.50 name theirs0 type macvlan; ip link set theirs0 netns theirs")
    tasks.refuses(
        "vlan_link",
        r"^state: trunk\.50 cannot be removed: theirs0 in netns:theirs uses it; ",
        name="trunk.50",
        state="absent",
    )
    assert links("theirs") == ["theirs0"]


def test_a_link_that_was_removed_by_hand_is_made_again(tasks: Tasks) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=50, addresses=["192.0.2.1/24"])
    run("ip link del trunk.50")
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, addresses=["192.0.2.1/24"])
    run("ip link del trunk.50")
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, state="absent")


def test_the_mark_taken_off_makes_it_foreign(tasks: Tasks) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=50)
    run("ip link set trunk.50 group default")
    tasks.refuses(
        "vlan_link",
        r"exists and was not created by us|no longer has our mark",
        parent="trunk",
        vlan_id=50,
        mtu=1400,
    )
    tasks.becomes("vlan_link", parent="trunk", vlan_id=50, mtu=1400, adopt=True)
    assert link("trunk.50")["group"] == OURS
