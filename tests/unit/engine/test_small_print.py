# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits, defaults and order: each is a number, an operator or a condition that no scene of the other files decides."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import identity, isolation, rates
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST,
    LINK_GROUP,
    PROTOCOL,
    Change,
    Record,
    address_key,
    differences,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    AddressError,
    InputError,
    InvalidValue,
    NetlinkError,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address, Namespace, Need, Route
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.text import printable
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import (
    declaration,
    endpoint,
    fields,
    ipam,
    model,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.naming import link_names
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import (
    compare,
    dependants,
    desired,
    plan,
    simulate,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan.order import order_changes

from tests.support.planning import declare, mapped, refusal, task
from tests.support.simulated_kernel import SimulatedKernel

BLUE: Dict[str, Any] = {
    "name": "blue",
    "driver": "macvlan",
    "parent": "eth0.10",
    "subnets": [{"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"}],
}


def blue(**more: Any) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("network", **{**BLUE, **more}))
    return kernel


def join(kernel: SimulatedKernel, name: str = "a", **more: Any) -> plan.Plan:
    where = {} if {"container", "pid"} & set(more) else {"netns": name}
    return declare(kernel, task("endpoint", **{"network": "blue", "name": name, **where, **more}))


def problems(kind: str, **row: Any) -> List[str]:
    return [str(problem) for problem in task(kind, **row).problems]


# --- words and numbers ---------------------------------------------------------------------------


def test_a_refusal_of_the_kernel_has_its_own_words() -> None:
    assert str(NetlinkError(22)) == "Invalid argument"
    assert str(NetlinkError(22, "Unknown device type")) == "Invalid argument: Unknown device type"


def test_a_long_value_is_cut_in_messages() -> None:
    short, long = "?" * 58, "?" * 59  # with their quotes 60 and 61
    with pytest.raises(InvalidValue, match="'[?]{58}' is not"):
        fields.name(short)
    with pytest.raises(InvalidValue, match="'[?]{56}[.]{3} is not"):
        fields.name(long)


def test_link_names_have_127_characters_at_most() -> None:
    assert fields.link_name("x" * 127) == "x" * 127
    for wrong in ("", "x" * 128):
        with pytest.raises(InvalidValue, match="is not a link name"):
            fields.link_name(wrong)


@pytest.mark.parametrize(
    ("wanted", "tail"),
    [("a-very-long-parent.1234", ".1234"), ("a-very-long-parent.12345", ""), ("a-very-long-parent.abcd", "")],
)
def test_a_short_name_keeps_its_vlan_id(wanted: str, tail: str) -> None:
    name, altnames = link_names(wanted)
    assert (len(name), altnames, name.endswith(tail), "." in name) == (15, [wanted], True, bool(tail))


def test_a_prefix_is_carved_down_to_single_addresses_and_up_to_itself() -> None:
    assert ipam.carve("10.0.0.0/30", 30, ["a"], {}) == {"a": "10.0.0.0/30"}
    assert ipam.carve("10.0.0.0/30", 32, ["a"], {}) == {"a": "10.0.0.0/32"}
    for length in (29, 33):
        with pytest.raises(AddressError, match="cannot be divided"):
            ipam.carve("10.0.0.0/30", length, ["a"], {})


@pytest.mark.parametrize(
    ("number", "good"), [(-(2**31), True), (2**31 - 1, True), (-(2**31) - 1, False), (2**31, False)]
)
def test_sysctls_are_of_32_bits(number: int, good: bool) -> None:
    found = problems("endpoint", network="blue", name="a", netns="a", sysctls={"ipv4.arp_notify": number})
    assert (found == []) == good
    assert "sysctls" in endpoint.OPTIONS


def test_the_least_of_each_number() -> None:
    assert problems("network", name="blue", driver="macvlan", parent="eth0", bcqueuelen=1) == []
    assert len(problems("network", name="blue", driver="macvlan", parent="eth0", bcqueuelen=0)) == 1
    route = {"prefix": "10.0.0.0/24", "dev": "eth0", "metric": 0, "table": 1}
    assert problems("routes", name="all", routes=[route]) == []


def test_a_route_is_in_a_table_or_in_a_vrf() -> None:
    route = {"prefix": "10.0.0.0/24", "dev": "eth0"}
    for more in ({"table": 7}, {"vrf": "red"}, {}):
        assert problems("routes", name="all", routes=[{**route, **more}]) == []
    found = problems("routes", name="all", routes=[{**route, "table": 7, "vrf": "red"}])
    assert found == ["routes[0].vrf: table is given too; give one of the two"]


@pytest.mark.parametrize(
    ("prefix", "warned"),
    [("10.0.0.0/24", 0), ("10.0.0.5/24", 1), ("10.0.0.5", 0), ("2001:DB8::/64", 0), ("2001:DB8::1/64", 1)],
)
def test_host_bits_are_warned_of_and_nothing_else_is(prefix: str, warned: int) -> None:
    assert len(task("routes", name="all", routes=[{"prefix": prefix, "dev": "eth0"}]).warnings) == warned
    if "/" in prefix:
        assert len(task("network", name="n", driver="macvlan", parent="eth0", subnets=[prefix]).warnings) == warned


def test_what_is_asked_of_an_observation_by_default() -> None:
    need = Need()
    assert not (need.everywhere or need.routes or need.load)
    assert Namespace("netns:a", "", (4, 1)).cookie == 0


#: enum { IPV4_DEVCONF_FORWARDING = 1, ... } of include/uapi/linux/ip.h, in its order.
DEVCONF4 = [
    "forwarding", "mc_forwarding", "proxy_arp", "accept_redirects", "secure_redirects", "send_redirects",
    "shared_media", "rp_filter", "accept_source_route", "bootp_relay", "log_martians", "tag", "arp_filter",
    "medium_id", "disable_xfrm", "disable_policy", "force_igmp_version", "arp_announce", "arp_ignore",
    "promote_secondaries", "arp_accept", "arp_notify", "accept_local", "src_valid_mark", "proxy_arp_pvlan",
    "route_localnet",
]  # fmt: skip


#: enum { DEVCONF_FORWARDING = 0, ... } of include/uapi/linux/ipv6.h, in its order, up to the last one that we use but one.
DEVCONF6 = [
    "forwarding", "hop_limit", "mtu", "accept_ra", "accept_redirects", "autoconf", "dad_transmits", "router_solicitations",
    "router_solicitation_interval", "router_solicitation_delay", "use_tempaddr", "temp_valid_lft", "temp_prefered_lft",
    "regen_max_retry", "max_desync_factor", "max_addresses", "force_mld_version", "accept_ra_defrtr", "accept_ra_pinfo",
    "accept_ra_rtr_pref", "router_probe_interval", "accept_ra_rt_info_max_plen", "proxy_ndp", "optimistic_dad",
    "accept_source_route", "mc_forwarding", "disable_ipv6", "accept_dad", "force_tllao", "ndisc_notify",
]  # fmt: skip


def test_sysctls_are_where_the_kernel_has_them() -> None:
    assert all(DEVCONF4[number - 1] == name for name, number in isolation.IPV4.items())
    six = {name: number for name, number in isolation.IPV6.items() if name != "addr_gen_mode"}
    assert all(DEVCONF6[number] == name for name, number in six.items()) and isolation.IPV6["addr_gen_mode"] == 47


@pytest.mark.parametrize("profile", ["none", "routed", "access", "host"])
def test_no_profile_listens_to_routers(profile: str) -> None:
    settings = isolation.settings(profile)
    assert settings["ipv6.accept_ra"] == 0
    assert settings["ipv6.disable_ipv6"] == (profile == "none")
    if profile in ("routed", "access"):
        assert settings["ipv6.forwarding"] == settings["ipv6.accept_redirects"] == settings["ipv4.forwarding"] == 0


# --- addresses -----------------------------------------------------------------------------------


def held(kernel: SimulatedKernel, *addresses: str, name: str = "eth1") -> None:
    """Somebody's addresses on another NIC."""
    link = kernel.observed.host.names.get(name) or kernel.add(HOST, name)
    kernel.observed.host.addresses[link.index] = [Address(link.index, address, 0, 0, 0) for address in addresses]


def test_no_reservation_takes_the_address_of_an_endpoint() -> None:
    kernel = blue()
    join(kernel)
    mine = kernel.records["endpoint"]["blue/a"].spec["addresses"][0].partition("/")[0]
    subnets = [{"subnet": "10.0.0.0/24", "aux_addresses": {"fw": mine}}, BLUE["subnets"][1]]
    assert refusal(kernel, task("network", **{**BLUE, "subnets": subnets})) == [
        f"subnets: {mine} cannot be reserved, it belongs to a; remove those endpoints first, or keep it"
    ]


def addresses(kernel: SimulatedKernel, name: str = "a") -> List[str]:
    return list(kernel.records["endpoint"][f"blue/{name}"].spec["addresses"])


def test_no_endpoint_gets_the_address_of_a_nameserver() -> None:
    kernel = blue(dns=["10.0.0.2", "192.0.2.53", "2001:db8::5"])
    join(kernel, dns=["10.0.0.3", "2001:db8::2"])
    assert addresses(kernel) == ["10.0.0.4/24", "2001:db8::3/64"]
    join(kernel, "b", ipv4_address="10.0.0.3", ipv6_address="2001:db8::2")
    assert addresses(kernel, "b") == ["10.0.0.3/24", "2001:db8::2/64"], "it is the nameserver"
    join(kernel, "c", ipv4_addresses=["10.0.0.2"], allowed_addresses=["2001:db8::5"])
    assert addresses(kernel, "c")[:2] == ["10.0.0.5/24", "10.0.0.2/32"], "an address of c, which is the nameserver"
    assert not join(kernel, dns=["10.0.0.3", "2001:db8::2"]).changes


@pytest.mark.parametrize("access", [True, ["10.0.0.2"]])
def test_the_host_may_be_the_nameserver(access: object) -> None:
    kernel = blue(host_access=access)
    mine = kernel.records["network"]["blue"].spec["host_addresses"]
    asked = {**BLUE, "host_access": access, "dns": ["10.0.0.2"]}
    assert mine[0] == "10.0.0.2/32"
    declare(kernel, task("network", **asked))
    assert kernel.records["network"]["blue"].spec["host_addresses"] == mine
    assert not declare(kernel, task("network", **asked)).changes


def test_a_nameserver_with_the_address_of_an_endpoint_is_refused() -> None:
    kernel = blue()
    join(kernel)
    what = "dns: 10.0.0.2 was assigned to a of blue; give another nameserver, or, if a is the nameserver, set its ipv4_address first"
    assert refusal(kernel, task("network", **{**BLUE, "dns": ["10.0.0.2"]})) == [what]
    assert refusal(kernel, task("endpoint", network="blue", name="b", netns="b", dns=["10.0.0.2"])) == [what]
    join(kernel, ipv4_address="10.0.0.2")
    declare(kernel, task("network", **{**BLUE, "dns": ["10.0.0.2"]}))
    assert addresses(kernel)[0] == "10.0.0.2/24"


@pytest.mark.parametrize(("taken", "given"), [("10.0.0.2/32", "10.0.0.3"), ("10.0.0.3/32", "10.0.0.2")])
def test_the_ends_of_a_subnet_may_be_in_use_too(taken: str, given: str) -> None:
    kernel = SimulatedKernel("eth0")
    held(kernel, taken)
    declare(kernel, task("network", **{**BLUE, "subnets": [{"subnet": "10.0.0.2/31"}]}))
    join(kernel)
    assert kernel.records["endpoint"]["blue/a"].spec["addresses"] == [f"{given}/31"]


@pytest.mark.parametrize(("taken", "said"), [("10.0.0.8", True), ("10.0.0.9", False), ("10.0.0.7", False)])
def test_a_skipped_address_is_said_if_a_lower_one_was_to_be_had(taken: str, said: bool) -> None:
    kernel = SimulatedKernel("eth0")
    held(kernel, f"{taken}/32")
    declare(kernel, task("network", **{**BLUE, "subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.8/29"}]}))
    found = join(kernel).warnings
    assert any(f"{taken} is not assigned" in text for text in found) == said


def test_the_host_has_the_address_that_it_is_given_in_each_subnet() -> None:
    subnets = [{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.1.0/24"}, {"subnet": "2001:db8::/64"}]
    kernel = blue(subnets=subnets, host_access=["10.0.1.77", "2001:db8::77"])
    assert kernel.records["network"]["blue"].spec["host_addresses"] == ["10.0.1.77/32", "2001:db8::77/128"]


def test_a_new_static_address_leaves_that_of_the_other_family() -> None:
    kernel = blue()
    join(kernel)
    four, _six = kernel.records["endpoint"]["blue/a"].spec["addresses"]
    join(kernel, ipv6_address="2001:db8::99")
    assert kernel.records["endpoint"]["blue/a"].spec["addresses"] == [four, "2001:db8::99/64"]
    join(kernel, ipv4_address="10.0.0.99", ipv6_address="2001:db8::99")
    assert kernel.records["endpoint"]["blue/a"].spec["addresses"] == ["10.0.0.99/24", "2001:db8::99/64"]


def test_what_the_parent_has_in_the_subnet_is_no_reason_to_warn() -> None:
    for address, warned in (("10.0.0.250/24", False), ("192.168.7.1/24", True)):
        kernel = SimulatedKernel("eth0")
        held(kernel, address, name="eth0")
        found = declare(kernel, task("network", **{**BLUE, "parent": "eth0"})).warnings
        assert any("no subnet holds" in text for text in found) == warned


# --- what is in scope ----------------------------------------------------------------------------


def test_an_unchanged_network_leaves_its_endpoints_to_their_own_tasks() -> None:
    kernel = blue()
    join(kernel)
    space = kernel.observed.namespaces["netns:a"]
    space.names.pop("eth0")
    space.links = {index: link for index, link in space.links.items() if link.name == "lo"}
    assert declare(kernel, task("network", **BLUE)).changes == []


def test_a_trunk_that_is_not_there_is_one_problem() -> None:
    rows = [{**BLUE, "name": f"n{vid}", "parent": f"uplink.{vid}"} for vid in (5, 6)]
    with pytest.raises(InputError) as caught:
        declare(SimulatedKernel("eth0"), mapped(networks=rows, trunks={"uplink": "eth7"}))
    assert [problem.path for problem in caught.value.problems] == ["trunks.uplink"]


@pytest.mark.parametrize(
    ("where", "option"),
    [({"netns": "x"}, "netns"), ({"container": {"engine": "docker", "name": "x"}}, "container"), ({"pid": 9}, "pid")],
)
def test_a_workload_that_cannot_be_entered_is_refused_by_its_option(where: Dict[str, Any], option: str) -> None:
    kernel = blue()
    declared = task("endpoint", **{"network": "blue", "name": "a", **where})
    workload = declared.items[0].spec["workload"]
    kernel.observed.refusals[workload] = "it is not to be had"
    said = f"{option}: it is not to be had"
    assert refusal(kernel, declared) == [f"{said}; fix that first, or give another workload"]
    kernel.observed.gone.update(kernel.observed.refusals)
    assert refusal(kernel, declared) == [f"{said}; start it first, or correct the name"]


def test_a_foreign_namespace_is_joined_and_never_made_ours() -> None:
    kernel = blue()
    kernel.observed.namespaces["netns:a"] = Namespace("netns:a", "", (4, 9))
    kernel.add("netns:a", "lo")
    assert "netns" not in [change.kind for change in join(kernel).changes]


@pytest.mark.parametrize(
    ("ra", "choice", "off"), [(True, "never", True), (True, "auto", False), (False, "never", False)]
)
def test_a_default_route_of_a_router_is_refused_where_that_was_asked_for(ra: bool, choice: str, off: bool) -> None:
    kernel = blue()
    found = join(kernel, accept_ra=ra, default_route={"ipv6": choice})
    (made,) = [
        change.after for change in found.changes if change.kind == "link" and change.after and change.before is None
    ]
    assert ("ipv6.accept_ra_defrtr" in made["sysctls"]) == off


@pytest.mark.parametrize(("prefix", "kept"), [("0.0.0.0/0", True), ("10.99.0.0/16", False)])
def test_a_foreign_default_route_is_left_alone(prefix: str, kept: bool) -> None:
    kernel = blue()
    kernel.observed.namespaces["netns:a"] = space = Namespace("netns:a", "", (4, 9))
    foreign = kernel.add("netns:a", "eth9")
    space.routes = [Route(prefix, "unicast", "192.0.2.1", foreign.index, None, 0, 254, 4, 0)]
    join(kernel, interface="eth0")
    ours = [route.prefix for route in space.routes if route.protocol == PROTOCOL and ":" not in route.prefix]
    assert ours == ([] if kept else ["0.0.0.0/0"])


def test_names_of_a_workload_that_ended_are_not_written() -> None:
    kernel = blue()
    kernel.observed.namespaces["docker:web"] = Namespace("docker:web", "", (4, 9))
    kernel.add("docker:web", "lo")
    join(kernel, "web", container={"engine": "docker", "name": "web"})
    assert kernel.observed.blocks["hosts", "docker:web"]
    kernel.observed.gone.add("docker:web")
    del kernel.observed.namespaces["docker:web"]
    assert "hosts" not in [change.kind for change in join(kernel, "b").changes if "docker" in change.key]


def test_five_names_are_listed_and_a_sixth_is_counted() -> None:
    kernel = blue()
    for name in "abcde":
        join(kernel, name)
    gone = task("network", "absent", name="blue")
    assert "has the endpoints a, b, c, d, e;" in refusal(kernel, gone)[0]
    join(kernel, "f")
    assert "has the endpoints a, b, c, d, e and 1 more;" in refusal(kernel, gone)[0]


def test_a_driver_that_the_kernel_lacks_is_named_by_who_needs_it() -> None:
    kernel = blue()
    kernel.observed.lacking.add("macvlan")
    assert refusal(kernel, task("endpoint", network="blue", name="a", netns="a"))[0].startswith(
        "network: the kernel of this host"
    )


def test_a_sub_interface_stays_while_a_network_is_on_it_or_above_it() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("vlan", parent="eth0", vlan_id=10))
    declare(kernel, task("vlan", parent="eth0.10", vlan_id=20))
    declare(kernel, task("network", **{**BLUE, "parent": "eth0.10.20"}))
    for name in ("eth0.10.20", "eth0.10"):
        said = refusal(kernel, task("vlan", "absent", name=name))
        assert said[0] == f"state: {name} is the parent of blue; make those networks absent first"


def test_what_somebody_put_in_the_place_of_ours_is_left_alone() -> None:
    kernel = blue()
    kernel.observed.host.names["eth0.10"].group = 0
    declare(kernel, task("network", "absent", name="blue"))
    assert "eth0.10" in kernel.observed.host.names and kernel.records["link"] == {}


# --- routes --------------------------------------------------------------------------------------


def routes(*rows: Dict[str, Any]) -> Any:
    return task("routes", name="all", routes=list(rows))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"dev": "eth7"}, "routes[0].dev: eth7 does not exist"),
        ({"dev": "eth1"}, "routes[0].dev: eth1 is down"),
        ({"via": "203.0.113.9"}, ""),
        ({"via": "203.0.114.9"}, "routes[0].via: 203.0.114.9 is on no wire"),
        ({"via": "198.51.100.9"}, "routes[0].via: 198.51.100.9 is on no wire"),
    ],
)
def test_a_way_that_leads_somewhere(row: Dict[str, Any], text: str) -> None:
    """203.0.113.0/24 is on eth0 by a route alone, 198.51.100.0/24 is blackholed."""
    kernel = SimulatedKernel("eth0")
    index = kernel.observed.host.names["eth0"].index
    kernel.add(HOST, "eth1", up=False)
    kernel.observed.host.routes = [
        Route("203.0.113.0/24", "unicast", None, index, None, 0, 254, 4, 0),
        Route("198.51.100.0/24", "blackhole", None, index, None, 0, 254, 4, 0),
    ]
    declared = routes({"prefix": "172.16.0.0/16", **row})
    if text:
        assert refusal(kernel, declared)[0].startswith(text)
    else:
        declare(kernel, declared)
        assert kernel.observed.host.routes[-1].via == row["via"]


@pytest.mark.parametrize("dev", ["eth0.10", "eth1"])
def test_a_route_over_a_parent_that_the_same_map_makes_or_sets_up(dev: str) -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "eth1", up=False)
    network = {**BLUE, "driver": "ipvlan", "mode": "l3", "parent": dev}
    row = {"name": "all", "routes": [{"prefix": "172.16.0.0/16", "dev": dev}]}
    declare(kernel, mapped(networks=[network], routes=[row]))
    assert "172.16.0.0/16" in [route.prefix for route in kernel.observed.host.routes]


def test_a_route_is_replaced_before_the_old_one_goes() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, routes({"prefix": "172.16.0.0/16", "dev": "eth0", "metric": 5}))
    row = {"name": "all", "exact": True, "routes": [{"prefix": "172.16.0.0/16", "dev": "eth0", "metric": 9}]}
    found = declare(kernel, task("routes", **row))
    assert [change.after is not None for change in found.changes if change.kind == "route"] == [True, False]


# --- order ---------------------------------------------------------------------------------------


def order(found: plan.Plan) -> List[str]:
    return [change.key for change in found.changes if change.kind in ("netns", "link", "address", "route")]


def test_a_network_goes_from_its_top() -> None:
    kernel = blue(host_access=True)
    found = order(declare(kernel, task("network", "absent", name="blue")))
    assert found[-1] == "eth0.10" and len([key for key in found if " " not in key]) == 2


def test_the_dummy_of_a_network_without_parent_is_up() -> None:
    kernel = SimulatedKernel()
    declare(kernel, task("network", **{**BLUE, "parent": None}))
    (dummy,) = [link for link in kernel.observed.host.links.values() if link.kind == "dummy"]
    assert dummy.up and dummy.group == LINK_GROUP


# --- comparing -----------------------------------------------------------------------------------


def test_what_cannot_be_changed_in_place_is_recreated_recorded_or_not() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "eth0.10", kind="dummy", group=LINK_GROUP)
    spec = {"netns": HOST, "name": "eth0.10", "kind": "vlan", "parent": "eth0", "vlan_id": 10, "protocol": "802.1q"}
    steps = list(compare.diff([compare.ObjectState("link", "eth0.10", spec, "network:a", "test")], kernel.observed))
    assert [(step.before is None, step.after is None) for step in steps] == [(False, True), (True, False)]
    assert steps[0].before and steps[0].before["kind"] == "dummy"


@pytest.mark.parametrize(("group", "said"), [(LINK_GROUP, True), (0, False)])
def test_a_removal_that_the_kernel_did_not_make(group: int, said: bool) -> None:
    """A link without our mark that has the name now is somebody else's."""
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "eth0.10", kind="vlan", group=group)
    spec = {"netns": HOST, "name": "eth0.10", "kind": "vlan", "group": 802100000}
    gone = Change("link", "eth0.10", spec, None, "test", "network:a")
    assert bool(list(compare.unapplied([gone], kernel.observed))) == said


def test_an_address_that_is_still_there_is_said() -> None:
    kernel = SimulatedKernel("eth0")
    held(kernel, "192.0.2.1/24")
    kernel.observed.host.names["eth1"].group = LINK_GROUP
    spec = {"netns": HOST, "link": "eth1", "address": "192.0.2.1/24"}
    gone = Change("address", address_key(spec), spec, None, "test", "vlan:eth1")
    assert [now for _change, now in compare.unapplied([gone], kernel.observed)] == [{"exists": True}]


def test_what_sits_on_the_first_link_of_a_host() -> None:
    kernel = SimulatedKernel()
    kernel.add(HOST, "eth0", index=1)
    kernel.add(HOST, "eth0.5", index=2, kind="vlan", parent=1)
    assert {below: [link.name for _where, link in above] for below, above in kernel.observed.children.items()} == {
        1: ["eth0.5"]
    }


# --- the simulation ------------------------------------------------------------------------------


def test_the_simulation_does_what_the_kernel_does() -> None:
    kernel = SimulatedKernel("eth0")
    link = {"netns": HOST, "name": "m0", "kind": "macvlan", "parent": "eth0", "bclim": 5, "mtu": 1400}
    address = {"netns": HOST, "link": "m0", "address": "192.0.2.1/24"}
    simulate.overlay(
        kernel.observed,
        [
            Change("netns", "netns:a", None, {"netns": "netns:a"}, "test"),
            Change("link", "m0", None, link, "test"),
            Change("link", "v0", None, {"netns": HOST, "name": "v0", "kind": "vlan", "parent": "eth0"}, "test"),
            Change("address", address_key(address), None, address, "test"),
            Change(
                "link",
                "gone",
                {"netns": HOST, "name": "gone"},
                {"netns": HOST, "name": "gone", "kind": "dummy"},
                "test",
            ),
            Change("link", "orphan", None, {"netns": HOST, "name": "orphan", "kind": "vlan", "parent": "eth9"}, "test"),
        ],
    )
    host = kernel.observed.host
    assert (host.names["m0"].data["bclim"], host.names["m0"].data["mode"], host.names["m0"].mtu) == (5, "bridge", 1400)
    assert host.names["m0"].data["bcqueuelen"] == 1000
    assert (host.names["v0"].data["vlan_id"], host.names["v0"].data["reorder_headers"]) == (1, True)
    assert kernel.observed.namespaces["netns:a"].names["lo"].up
    assert host.addresses[host.names["m0"].index] == [Address(host.names["m0"].index, "192.0.2.1/24", PROTOCOL, 0, 0)]
    assert "gone" not in host.names and "orphan" not in host.names
    route = {
        "prefix": "10.0.0.0/8",
        "type": "unicast",
        "dev": "m0",
        "metric": 0,
        "table": 254,
        "protocol": PROTOCOL,
        "netns": HOST,
    }
    simulate.overlay(kernel.observed, [Change("route", "r", None, route, "test")])
    assert host.routes == [Route("10.0.0.0/8", "unicast", None, host.names["m0"].index, None, 0, 254, PROTOCOL, 0)]


def test_a_declaration_knows_its_items_that_stay() -> None:
    declared = model.declare("network", {"name": "blue"}, "absent", False)
    assert declaration.specs(declared.items, "network") == []
    present = task("network", **BLUE).items + declared.items
    assert [item.key for item in declaration.specs(present, "network")] == ["blue"]
    assert declaration.specs(present, "vlan") == []


def test_names_that_lead_to_a_nic_by_another_task() -> None:
    """The NIC was eth1, was asked for as ens3 since, and is called x9 now."""
    kernel = SimulatedKernel()
    kernel.add(HOST, "x9", perm_mac="52:54:00:00:00:01")
    nic = {
        "kind": "",
        "index": 1,
        "era": "then",
        "mac": "52:54:00:00:00:01",
        "device": "",
        "port": "",
        "driver": "",
        "vlan_id": 0,
        "below": [],
    }
    asked = [["", "name", "ens3"]]
    for names, parent in ((asked, "ens3.60"), ([], "eth1.60")):
        kernel.records = {"nic": {"eth1": Record({**nic, "asked": names}, "nic")}}
        identity.identify(kernel.observed, kernel.records)
        found = plan.plan(task("network", **{**BLUE, "parent": parent}), kernel.records, kernel.observed, "seed")
        assert [change.key for change in found.changes if change.kind == "link"] == ["eth1.60"]
    for names, value in ((asked, "ens3"), ([], "eth1")):
        kernel.records = {"nic": {"eth1": Record({**nic, "asked": names}, "nic")}}
        row = {**BLUE, "parent": "uplink.60"}
        found = plan.plan(mapped(networks=[row], trunks={"uplink": value}), kernel.records, kernel.observed, "seed")
        assert [change.key for change in found.changes if change.kind == "link"] == ["eth1.60"]


# --- more conditions -----------------------------------------------------------------------------


def test_only_the_sysctls_that_differ_are_changed() -> None:
    now = {"sysctls": {"ipv4.arp_notify": 1, "ipv4.rp_filter": 0}}
    wanted = {"sysctls": {"ipv4.arp_notify": 1, "ipv4.rp_filter": 1}}
    assert differences(now, wanted) == (
        {"sysctls": {"ipv4.rp_filter": 0}},
        {"sysctls": {"ipv4.rp_filter": 1}},
    )


def test_a_route_is_found_after_the_table_has_changed() -> None:
    space = Namespace("netns:a", "", (4, 1))
    one, two = (Route(f"10.{n}.0.0/16", "unicast", None, 1, None, 0, 254, 201, 0) for n in (1, 2))
    space.routes.append(one)
    assert space.route("10.1.0.0/16", 0, 254, 201) is one and space.route("10.2.0.0/16", 0, 254, 201) is None
    space.routes.append(two)
    assert space.route("10.2.0.0/16", 0, 254, 201) is two
    space.routes = [two]
    assert space.route("10.1.0.0/16", 0, 254, 201) is None


def test_priorities_are_of_32_bits() -> None:
    for number, wrong in ((-(2**31), 0), (2**31 - 1, 0), (-(2**31) - 1, 1), (2**31, 1)):
        assert len(problems("endpoint", network="blue", name="a", netns="a", gw_priority=number)) == wrong


def test_one_name_is_suggested_for_a_misspelt_option() -> None:
    row = {"name": "n", "driver": "macvlan", "parent": "eth0"}
    assert problems("network", **row, drivr=1)[0] == "drivr: unknown option; did you mean driver?"
    assert problems("network", **row, qqq=1)[0].startswith("qqq: unknown option; known are ")


def test_a_range_that_begins_where_a_reservation_ends() -> None:
    subnet = {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.8/30", "aux_addresses": {"dhcp": "10.0.0.11-10.0.0.20"}}
    kernel = blue(subnets=[subnet])
    for name in "abc":
        join(kernel, name)
    assert refusal(kernel, task("endpoint", network="blue", name="d", netns="d"))


def test_a_reservation_takes_the_address_that_the_host_has() -> None:
    """With host_access the host has the lowest free one until that is reserved."""
    kernel = blue(host_access=True)
    (four, _six) = kernel.records["network"]["blue"].spec["host_addresses"]
    ip = four.partition("/")[0]
    subnets = [{"subnet": "10.0.0.0/24", "aux_addresses": {"fw": ip}}, BLUE["subnets"][1]]
    declare(kernel, task("network", **{**BLUE, "host_access": True, "subnets": subnets}))
    assert ip not in kernel.records["network"]["blue"].spec["host_addresses"][0]
    assert len(kernel.records["network"]["blue"].spec["host_addresses"]) == 2


def test_the_addresses_of_the_parent_are_left_out_without_a_word() -> None:
    kernel = SimulatedKernel("eth0")
    held(kernel, "10.0.0.2/24", name="eth0")
    declare(kernel, task("network", **{**BLUE, "parent": "eth0"}))
    assert not any("is not assigned" in text for text in join(kernel).warnings)
    assert kernel.records["endpoint"]["blue/a"].spec["addresses"][0] == "10.0.0.3/24"
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("vlan", parent="eth0", vlan_id=10, addresses=["10.0.0.2/24"]))
    kernel.observed.host.addresses.clear()
    declare(kernel, task("network", **BLUE))
    assert not any("is not assigned" in text for text in join(kernel).warnings)


def test_a_route_goes_with_the_last_address_of_its_link_only() -> None:
    """Linux flushes the IPv4 routes of a link with its last IPv4 address."""
    kernel = SimulatedKernel("eth0")
    index = kernel.observed.host.names["eth0"].index
    kernel.observed.host.routes = [Route("172.16.0.0/16", "unicast", None, index, None, 0, 254, PROTOCOL, 0)]
    route = {
        "netns": HOST,
        "prefix": "172.16.0.0/16",
        "type": "unicast",
        "dev": "eth0",
        "metric": 0,
        "table": 254,
        "protocol": PROTOCOL,
    }
    address = {"netns": HOST, "link": "eth0", "address": "192.0.2.1/24"}
    states = [
        compare.ObjectState("address", "a", None, "x", "test", address),
        compare.ObjectState("route", "r", route, "x", "test", route),
    ]
    for others, remade in (
        (["192.0.2.1/24"], 2),
        (["192.0.2.1/24", "192.0.2.2/24"], 0),
        (["192.0.2.1/24", "2001:db8::1/64"], 2),
    ):
        held(kernel, *others, name="eth0")
        found = [step.key for step in compare.diff(states, kernel.observed)]
        assert found.count("r") == remade


def test_a_set_of_routes_without_routes_is_gone_unless_a_network_names_it() -> None:
    kernel = SimulatedKernel("eth0")
    row = {"prefix": "172.16.0.0/16", "dev": "eth0"}
    declare(kernel, routes(row))
    declare(kernel, task("routes", "absent", name="all", routes=[row]))
    assert kernel.records["routes"] == {}
    declare(kernel, task("network", **{**BLUE, "driver": "ipvlan", "mode": "l3"}))
    declare(kernel, task("routes", name="all", network="blue", routes=[row]))
    declare(kernel, task("routes", "absent", name="all", routes=[row]))
    assert kernel.records["routes"]["all"].spec["routes"] == []


def test_the_way_of_the_host_is_up_and_quiet() -> None:
    kernel = blue(host_access=True)
    (way,) = [link for link in kernel.observed.host.links.values() if link.kind == "macvlan"]
    assert way.up and way.group == LINK_GROUP and isolation.profile(way, "access") == "access"


def test_a_long_name_becomes_an_alternative_name_and_a_short_one_none() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "enp129s0f0np0")
    declare(kernel, task("network", **{**BLUE, "parent": "enp129s0f0np0.100"}))
    declare(kernel, task("network", **{**BLUE, "name": "red"}))
    made = {link.data["vlan_id"]: link.altnames for link in kernel.observed.host.links.values() if link.kind == "vlan"}
    assert made == {100: ("enp129s0f0np0.100",), 10: ()}


@pytest.mark.parametrize(
    ("more", "profile"),
    [
        ({}, "none"),
        ({"driver": "ipvlan", "mode": "l2"}, "none"),
        ({"driver": "ipvlan", "mode": "l3"}, "routed"),
        ({"driver": "ipvlan", "mode": "l3", "subnets": ["10.0.0.0/24"]}, "none"),
        ({"driver": "ipvlan", "mode": "l3s"}, "routed"),
    ],
)
def test_ipv6_stays_on_where_l3_networks_need_neighbours(more: Dict[str, Any], profile: str) -> None:
    kernel = SimulatedKernel("eth0")
    found = declare(kernel, task("network", **{**BLUE, **more}))
    (made,) = [change.after for change in found.changes if change.key == "eth0.10" and change.kind == "link"]
    assert made and made["isolation"] == profile


def test_what_a_router_advertised_over_our_link_is_no_foreign_default_route() -> None:
    kernel = blue()
    join(kernel)
    space = kernel.observed.namespaces["netns:a"]
    foreign = kernel.add("netns:a", "eth9")
    space.routes = [route for route in space.routes if route.prefix != "::/0"]
    for oif, protocol, ours in (
        (space.names["eth0"].index, 9, 1),
        (foreign.index, 9, 0),
        (space.names["eth0"].index, 4, 0),
    ):
        kept = list(space.routes)
        space.routes.append(Route("::/0", "unicast", "fe80::1", oif, None, 1024, 254, protocol, 0))
        found = plan.plan(
            task("endpoint", network="blue", name="a", netns="a"), kernel.records, kernel.observed, "seed"
        )
        assert len([change for change in found.changes if change.kind == "route" and change.after]) == ours
        space.routes = kept


def test_two_endpoints_of_one_namespace_in_one_subnet_are_warned_of() -> None:
    kernel = blue()
    declare(kernel, task("network", **{**BLUE, "name": "red", "parent": "eth0.11"}))
    join(kernel)
    declared = task("endpoint", network="red", name="a", netns="a")
    assert any("over one of the two alone" in text for text in declare(kernel, declared).warnings)
    kernel = blue()
    assert not any("over one of the two alone" in text for text in join(kernel).warnings)


def test_a_namespace_is_made_before_what_is_in_it_and_goes_after_it() -> None:
    kernel = blue()
    made = [
        (change.kind, change.key)
        for change in join(kernel).changes
        if change.kind in ("netns", "link", "address", "route")
    ]
    assert made[0] == ("netns", "netns:a")
    gone = [change.kind for change in declare(kernel, task("endpoint", "absent", network="blue", name="a")).changes]
    kinds = [kind for kind in gone if kind in ("netns", "link", "hosts", "route", "address")]
    assert kinds[-1] == "netns" and kinds.index("link") < kinds.index("netns")


def test_routes_go_before_the_addresses_that_they_need() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("vlan", parent="eth0", vlan_id=10, addresses=["192.0.2.1/24"]))
    declare(kernel, routes({"prefix": "172.16.0.0/16", "via": "192.0.2.9"}))
    found = declare(kernel, mapped(links=[], routes=[]))
    assert found.changes == []
    gone = [
        Change("address", "a", {"netns": HOST, "link": "eth0.10", "address": "192.0.2.1/24"}, None, "test"),
        Change("route", "r", {"netns": HOST, "prefix": "172.16.0.0/16", "table": 254, "metric": 0}, None, "test"),
    ]
    steps = [compare.Step(change.kind, change.key, change.before, None, "", "test") for change in gone]
    assert [change.kind for change in order_changes(steps)] == ["route", "address"]


def test_a_removed_item_is_no_longer_declared() -> None:
    kernel = blue()
    found = plan.plan(task("network", "absent", name="blue"), kernel.records, kernel.observed, "seed")
    assert [change.reason for change in found.changes if change.kind == "network"] == ["no longer declared"]
    kernel = SimulatedKernel("eth0")
    found = plan.plan(task("network", **BLUE), kernel.records, kernel.observed, "seed")
    assert [change.reason for change in found.changes if change.kind == "network"] == ["declared"]


@pytest.mark.parametrize(("type", "way"), [("unicast", "dev eth0"), ("blackhole", "blackhole")])
def test_a_foreign_route_is_named_by_its_way(type: str, way: str) -> None:
    kernel = SimulatedKernel("eth0")
    index = kernel.observed.host.names["eth0"].index
    kernel.observed.host.routes = [
        Route("172.16.0.0/16", type, None, index if type == "unicast" else 0, None, 0, 254, 4, 0)
    ]
    assert f"({way}, protocol 4)" in refusal(kernel, routes({"prefix": "172.16.0.0/16", "dev": "eth0"}))[0]


def test_a_next_hop_on_a_nic_that_is_down_is_on_no_wire() -> None:
    kernel = SimulatedKernel("eth0")
    held(kernel, "192.0.2.1/24")
    declare(kernel, routes({"prefix": "172.16.0.0/16", "via": "192.0.2.9"}))
    kernel = SimulatedKernel("eth0")
    held(kernel, "192.0.2.1/24")
    kernel.observed.host.names["eth1"].up = False
    assert "is on no wire" in refusal(kernel, routes({"prefix": "172.16.0.0/16", "via": "192.0.2.9"}))[0]


def test_what_asks_for_ipv6_on_a_host_without_it() -> None:
    kernel = blue(subnets=["10.0.0.0/24"])
    kernel.observed.ipv6 = False
    kernel.observed.host.names["eth0.10"].conf6 = None
    row = {"network": "blue", "name": "a", "netns": "a"}
    for more, option in (
        ({"ipv6_address": "2001:db8::5"}, "ipv6_address"),
        ({"subnet": "2001:db8::/64"}, "subnet"),
        ({"accept_ra": True}, "accept_ra"),
        ({"sysctls": {"ipv6.accept_dad": 0}}, "sysctls"),
        ({"routes": [{"prefix": "2001:db8:9::/64"}]}, "routes[0].prefix"),
    ):
        assert f"{option}: " in "\n".join(refusal(kernel, task("endpoint", **row, **more)))
    declare(kernel, task("endpoint", **row, ipv4_address="10.0.0.9", sysctls={"ipv4.arp_notify": 0}))
    assert kernel.add(HOST, "eth5").conf6 is None


def test_an_address_that_was_there_may_stay_on_the_path_of_the_controller() -> None:
    """What would cut the connection is refused where it is new."""
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("vlan", parent="eth0", vlan_id=10, addresses=["198.51.100.1/24"]))
    kernel.observed.controllers = ("198.51.100.77",)
    declare(kernel, task("vlan", parent="eth0", vlan_id=10, addresses=["198.51.100.1/24"]))
    assert refusal(kernel, task("vlan", parent="eth0", vlan_id=11, addresses=["198.51.100.2/24"]))


def test_a_wire_can_be_asked_before_the_host_has_its_address() -> None:
    kernel = SimulatedKernel("eth0")
    found = plan.plan(task("network", **{**BLUE, "host_access": True, "probe": True}), {}, kernel.observed, "seed")
    first, rest = found.opening(), found.rest()
    assert [change.kind for change in first if change.kind in ("link", "address")] == ["link", "link"]
    assert {change.kind for change in rest} >= {"address", "link"}
    assert next(change.after for change in rest if change.kind == "link")["up"]
    assert len(first) + len(rest) == len(found.changes)


def test_hidden_links_are_another_workloads() -> None:
    kernel = blue()
    join(kernel)
    kernel.observed.hide("netns:a", "nothing")
    kernel.observed.hide("netns:zzz", "eth0")
    assert kernel.observed.link("netns:a", "eth0")
    kernel.observed.hide("netns:a", "eth0")
    assert kernel.observed.link("netns:a", "eth0") is None and kernel.observed.link("netns:a", "lo")


@pytest.mark.parametrize(("count", "tail"), [(5, "net-3, net-4"), (6, "net-4 and 1 more")])
def test_a_purge_names_five(count: int, tail: str) -> None:
    rows = [{**BLUE, "name": f"net-{n}", "parent": f"eth0.{n + 10}", "subnets": []} for n in range(count)]
    kernel = SimulatedKernel("eth0")
    declare(kernel, mapped(networks=rows))
    (said,) = refusal(kernel, mapped(networks=[], purge=True, purge_limit="2"))
    assert said.partition(";")[0].endswith(tail)


def test_what_the_kernel_gives_a_link_that_was_asked_for_nothing() -> None:
    """As ``ip -d link`` shows one that ``ip link add`` made without options."""
    kernel = SimulatedKernel("eth0")
    for kind in ("vlan", "macvlan", "ipvlan", "dummy"):
        spec = {
            "netns": HOST,
            "name": f"{kind}0",
            "kind": kind,
            "group": 0,
            "parent": None if kind == "dummy" else "eth0",
        }
        kernel.apply([Change("link", f"{kind}0", None, spec, "test")])
    names = kernel.observed.host.names
    assert names["vlan0"].data == {
        "vlan_id": 1, "protocol": "802.1q", "gvrp": False, "mvrp": False, "loose_binding": False, "reorder_headers": True,
        "ingress_qos_map": {}, "egress_qos_map": {},
    }  # fmt: skip
    assert names["macvlan0"].data == {"mode": "bridge", "bcqueuelen": 1000, "nopromisc": False, "source_macs": []}
    assert names["ipvlan0"].data == {"mode": "l3", "flag": "bridge"}
    for link in (names["vlan0"], names["dummy0"]):
        assert (link.up, link.master, link.group, link.mtu, link.parent_ns) == (False, 0, 0, 1500, None)
    assert names["dummy0"].parent == 0 and names["vlan0"].parent == names["eth0"].index


def test_metric_of_an_ipv6_route_that_names_none() -> None:
    """IP6_RT_PRIO_USER: the kernel gives 1024, and takes 0 for it."""
    kernel = SimulatedKernel("eth0")
    row = {"prefix": "2001:db8:9::/64", "dev": "eth0"}
    declare(kernel, routes(row))
    assert [route.metric for route in kernel.observed.host.routes] == [1024]
    declare(kernel, task("routes", "absent", name="all", routes=[{**row, "metric": 0}]))
    assert kernel.observed.host.routes == []


def test_a_change_between_passthru_and_another_mode_takes_a_new_link() -> None:
    for before, after, refused in (("bridge", "passthru", 1), ("passthru", "vepa", 1), ("bridge", "vepa", 0)):
        kernel = blue(mode=before)
        join(kernel)
        declared = task("network", **{**BLUE, "mode": after})
        if refused:
            assert "mode" in refusal(kernel, declared)[0]
        else:
            index = kernel.observed.namespaces["netns:a"].names["eth0"].index
            declare(kernel, declared)
            found = kernel.observed.namespaces["netns:a"].names["eth0"]
            assert (found.index, found.data["mode"]) == (index, "vepa")


def test_what_the_kernel_puts_into_a_namespace_of_ours_is_no_reason_to_keep_it() -> None:
    """Fallback tunnels that are down, routes of the kernel and of routers, and addresses of links that are ours."""
    kernel = blue()
    join(kernel)
    space = kernel.observed.namespaces["netns:a"]
    kernel.add("netns:a", "tunl0", kind="ipip", up=False)
    eth0 = space.names["eth0"].index
    space.routes += [Route("10.9.0.0/16", "unicast", None, 0, None, 0, 254, protocol, 0) for protocol in (1, 2, 9)]
    space.addresses[eth0] = [*space.addresses[eth0], Address(eth0, "2001:db8::5054:ff:fe00:1/64", 2, 0, 0)]
    declare(kernel, task("endpoint", "absent", network="blue", name="a"))
    assert "netns:a" not in kernel.observed.namespaces


@pytest.mark.parametrize("what", ["a link", "an address", "a route"])
def test_a_namespace_of_ours_in_which_somebody_has_something_stays(what: str) -> None:
    kernel = blue()
    join(kernel)
    space = kernel.observed.namespaces["netns:a"]
    lo = space.names["lo"].index
    if what == "a link":
        kernel.add("netns:a", "tunl0", kind="ipip", up=True)
    elif what == "an address":
        space.addresses[lo] = [Address(lo, "203.0.113.5/32", 0, 0, 0)]
    else:
        space.routes.append(Route("10.9.0.0/16", "unicast", None, lo, None, 0, 254, 4, 0))
    declare(kernel, task("endpoint", "absent", network="blue", name="a"))
    assert "netns:a" in kernel.observed.namespaces and "eth0" not in space.names


def test_a_limit_in_percent_lets_a_few_go_in_any_case() -> None:
    rows = [{**BLUE, "name": f"net-{n}", "parent": f"eth0.{n + 10}", "subnets": []} for n in range(7)]
    for left, refused in ((2, False), (1, True)):
        kernel = SimulatedKernel("eth0")
        declare(kernel, mapped(networks=rows))
        declared = mapped(networks=rows[:left], purge=True, purge_limit="20%")
        if refused:
            assert refusal(kernel, declared)[0].startswith("purge_limit: 6 of 7 networks")
        else:
            declare(kernel, declared)


def test_a_parent_that_another_link_shadows_keeps_its_mac_to_itself() -> None:
    kernel = blue()
    mac = kernel.observed.host.names["eth0"].mac
    assert "mac_address" in refusal(kernel, task("endpoint", network="blue", name="a", netns="a", mac_address=mac))[0]


def test_dummies_have_names_that_say_for_what() -> None:
    names = []
    for driver in ("macvlan", "ipvlan"):
        kernel = SimulatedKernel()
        declare(kernel, task("network", **{**BLUE, "driver": driver, "parent": None}))
        names += [link.name for link in kernel.observed.host.links.values() if link.kind == "dummy"]
    assert [name[:2] for name in names] == ["dm", "di"]


def test_only_what_was_asked_to_probe_is_probed() -> None:
    for probe in (True, False):
        kernel = SimulatedKernel("eth0")
        row = {**BLUE, "host_access": True, "probe": probe}
        found = plan.plan(
            mapped(networks=[row], endpoints=[{"network": "blue", "name": "a", "netns": "a", "probe": not probe}]),
            {},
            kernel.observed,
            "seed",
        )
        assert {question.endpoint for question in found.probes} == ({"blue"} if probe else {"blue/a"})


def test_pids_names_and_vlans_at_their_ends() -> None:
    def good(**row: Any) -> bool:
        return problems("endpoint", network="blue", name="a", **row) == []

    assert good(pid=1) and good(pid=4194304) and not good(pid=0) and not good(pid=4194305)
    assert good(netns="x" * 255) and not good(netns="x" * 256) and not good(netns=".")
    assert problems("vlan", name="eth0.4094") == problems("vlan", name="eth0.1") == []
    assert problems("vlan", name="eth0.4095") and problems("vlan", name="eth0.0")


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable("eth0\x1b[31m") == r"eth0\x1b[31m"
    assert printable("one\ntwo\t") == "one\ntwo\\t"


def test_a_prefix_as_reservation_is_a_range_within_its_subnet() -> None:
    for given, good in (("10.0.0.0/24", True), ("10.0.0.128/25", True), ("10.0.0.0/23", False)):
        subnet = {"subnet": "10.0.0.0/24", "gateway": "none", "aux_addresses": {"dhcp": given}}
        assert (problems("network", name="n", driver="macvlan", parent="eth0", subnets=[subnet]) == []) == good


def test_the_kernels_own_addresses_by_their_protocol() -> None:
    """IFAPROT_KERNEL_LO, _RA and _LL of include/uapi/linux/if_addr.h."""
    kernel = SimulatedKernel("eth0")
    link = kernel.observed.host.names["eth0"]
    for protocol in range(6):
        address = Address(link.index, "2001:db8::9/64", protocol, 0, 0)
        assert dependants.is_made_by_kernel(address, link) == (protocol in (1, 2, 3))


def test_a_vrf_is_a_link_of_that_kind() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "red", kind="vrf", data={"table": 77})
    kernel.add(HOST, "blue", kind="dummy", data={"table": 78})
    declare(kernel, routes({"prefix": "172.16.0.0/16", "dev": "eth0", "vrf": "red"}))
    assert [route.table for route in kernel.observed.host.routes] == [77]
    for name in ("blue", "nothing"):
        row = {"prefix": "172.17.0.0/16", "dev": "eth0", "vrf": name}
        assert refusal(kernel, task("routes", name="more", routes=[row]))[0].startswith(
            f"routes[0].vrf: {name} is not a VRF"
        )


def test_a_route_is_in_one_set_whatever_table_its_vrf_has() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "red", kind="vrf", data={"table": 77})
    row = {"prefix": "172.16.0.0/16", "dev": "eth0"}
    declare(kernel, routes({**row, "vrf": "red"}))
    said = refusal(kernel, task("routes", name="more", routes=[{**row, "table": 77}]))
    assert said[0].startswith("routes[0].prefix: 172.16.0.0/16 is a route of the set all")
    declare(kernel, task("routes", name="more", routes=[row]))


def test_a_foreign_link_in_our_group_is_not_ours() -> None:
    """Ours by mark and record, and by neither alone."""
    kernel = SimulatedKernel("eth0")
    link = kernel.add(HOST, "eth0.10", kind="vlan", group=LINK_GROUP)
    state = desired.DesiredState(mapped(networks=[]), {}, kernel.observed, "seed")
    assert not state.is_ours(link, "eth0.10")
    recorded = {"link": {"eth0.10": Record({"netns": HOST, "name": "eth0.10", "kind": "vlan"}, "x")}}
    state = desired.DesiredState(mapped(networks=[]), recorded, kernel.observed, "seed")
    assert state.is_ours(link, "eth0.10")
    link.group = 0
    assert not state.is_ours(link, "eth0.10")


def test_a_link_without_addresses_comes_up_at_once_and_one_with_them_after_them() -> None:
    kernel = SimulatedKernel("eth0")
    declared = mapped(
        links=[{"parent": "eth0", "vlan_id": 10}, {"parent": "eth0", "vlan_id": 11, "addresses": ["192.0.2.1/24"]}]
    )
    found = [
        (change.kind, change.key, bool((change.after or {}).get("up"))) for change in declare(kernel, declared).changes
    ]
    first = found.index(("link", "eth0.11", False))
    address = found.index(("address", "eth0.11 192.0.2.1/24", False))
    assert first < address < found.index(("link", "eth0.11", True)) and ("link", "eth0.10", True) in found
    assert ("link", "eth0.10", False) not in found


def test_an_endpoint_is_as_large_as_its_parent_will_be() -> None:
    kernel = SimulatedKernel("eth0")
    row = {"network": "blue", "name": "a", "netns": "a"}
    for mtu, good in ((1500, True), (1501, False)):
        declared = mapped(networks=[BLUE], endpoints=[{**row, "mtu": mtu}])
        if good:
            declare(kernel, declared)
        else:
            assert "endpoints[0].mtu" in refusal(kernel, declared)[0]
            assert "mtu" in refusal(SimulatedKernel("eth0"), declared)[0]


def test_a_sub_interface_is_no_larger_than_its_base() -> None:
    assert "mtu" in refusal(SimulatedKernel("eth0"), task("network", **{**BLUE, "mtu": 1501}))[0]
    blue(mtu=1500)
    kernel = SimulatedKernel()
    kernel.add(HOST, "eth0", mtu=1280)
    declare(kernel, task("network", **BLUE))
    assert kernel.observed.host.names["eth0.10"].mtu == 1280


def test_two_networks_share_a_sub_interface_that_one_task_makes() -> None:
    rows = [
        {**BLUE, "name": name, "share_parent": True, "subnets": [subnet]}
        for name, subnet in (("a", "10.0.0.0/24"), ("b", "10.1.0.0/24"))
    ]
    kernel = SimulatedKernel("eth0")
    declare(kernel, mapped(networks=rows))
    assert sorted(kernel.records["network"]) == ["a", "b"]
    declare(kernel, task("network", "absent", True, name="a"))
    assert "eth0.10" in kernel.observed.host.names
    declare(kernel, task("network", "absent", True, name="b"))
    assert "eth0.10" not in kernel.observed.host.names


@pytest.mark.parametrize(("driver", "own"), [("macvlan", True), ("ipvlan", False)])
def test_the_way_of_the_host_has_a_mac_of_its_own_where_the_driver_has_one(driver: str, own: bool) -> None:
    kernel = SimulatedKernel("eth0")
    found = declare(kernel, task("network", **{**BLUE, "driver": driver, "host_access": True}))
    (way,) = [change.after for change in found.changes if change.after and change.after.get("kind") == driver]
    assert (bool(way.get("mac")), "flag" in way) == (own, not own)


def test_a_member_of_a_bridge_is_no_parent() -> None:
    kernel = SimulatedKernel("eth0")
    bridge = kernel.add(HOST, "br0", kind="bridge")
    kernel.observed.host.names["eth0"].master = bridge.index
    assert "belongs to bridge br0" in refusal(kernel, task("network", **{**BLUE, "parent": "eth0"}))[0]


def test_a_next_hop_of_a_vrf_is_named_with_it() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(HOST, "red", kind="vrf", data={"table": 77})
    for more, where in (({}, "this host"), ({"vrf": "red"}, "red")):
        said = refusal(kernel, routes({"prefix": "172.16.0.0/16", "via": "203.0.113.9", **more}))
        assert said[0].startswith(f"routes[0].via: 203.0.113.9 is on no wire of {where}")


def test_an_old_kernel_has_no_address_of_its_own_on_a_link_without_a_mac() -> None:
    """Before IFA_PROTO, by the address that follows from the MAC."""
    kernel = SimulatedKernel("eth0")
    link = kernel.observed.host.names["eth0"]
    link.mac = ""
    for address in ("fe80::1/64", "/64"):
        assert not dependants.is_made_by_kernel(Address(link.index, address, 0, 0, 0), link)


@pytest.mark.parametrize(
    ("address", "protocol", "scope", "flags", "leased"),
    [
        ("10.0.0.9/24", 0, 0, 0, True),
        ("10.0.0.9/24", 0, 0, 0x80, False),  # IFA_F_PERMANENT
        ("10.0.0.9/24", PROTOCOL, 0, 0, False),
        ("2001:db8::9/128", 0, 0, 0, True),
        ("2001:db8::9/64", 0, 0, 0x100, False),  # IFA_F_MANAGETEMPADDR: by a router
        ("2001:db8::9/64", 0, 0, 0x01, False),  # IFA_F_TEMPORARY
        ("fe80::9/64", 0, 253, 0, False),  # RT_SCOPE_LINK
    ],
)
def test_what_a_dhcp_client_gave(address: str, protocol: int, scope: int, flags: int, leased: bool) -> None:
    assert Address(2, address, protocol, scope, flags).is_leased == leased


# --- the order of things, and what stays ---------------------------------------------------------


def test_what_may_wait_for_a_rate_is_a_number_of_32_bits() -> None:
    assert rates.queue("egress", 1 << 60, 1) == 0xFFFFFFFF


def test_a_limit_is_there_before_its_link_sends() -> None:
    kernel = blue()
    changes = join(kernel, egress_rate="100mbit").changes
    limit = next(place for place, change in enumerate(changes) if change.kind == "rate")
    raised = [place for place, change in enumerate(changes) if change.kind == "link" and (change.after or {}).get("up")]
    assert limit < min(raised)


def test_the_host_keeps_its_address_when_a_lower_one_is_free_again() -> None:
    kernel = blue()
    join(kernel)
    declare(kernel, task("network", **BLUE, host_access=True))
    kept = list(kernel.records["network"]["blue"].spec["host_addresses"])
    assert kept == ["10.0.0.3/32", "2001:db8::3/128"]
    declare(kernel, task("endpoint", "absent", network="blue", name="a"))
    declare(kernel, task("network", **BLUE, host_access=True, labels={"a": "b"}))
    assert kernel.records["network"]["blue"].spec["host_addresses"] == kept


def test_an_address_on_a_nic_that_stays_down_reaches_nothing() -> None:
    way = [{"name": "fabric", "routes": [{"prefix": "10.9.0.0/16", "via": "10.5.0.1"}]}]
    row = {"parent": "eth0", "vlan_id": 5, "addresses": ["10.5.0.9/24"], "bring_up_parent": False}
    for up in (False, True):
        kernel = SimulatedKernel("eth0")
        kernel.observed.host.names["eth0"].up = up
        if up:
            declare(kernel, mapped(links=[row], routes=way))
        else:
            (line,) = refusal(kernel, mapped(links=[row], routes=way))
            assert line.startswith("routes[0].routes[0].via: ")


def test_what_takes_the_place_of_a_route_is_recorded_by_another_name() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.observed.spaces = {"netns:a": (4, 7), "netns:b": (4, 7), "netns:c": (4, 8)}

    def route(netns: str, prefix: str = "10.9.0.0/16") -> Any:
        return {"netns": netns, "prefix": prefix, "table": 254, "metric": 0}

    gone = [Change("route", f"{netns} {prefix}", route(netns, prefix), None, "")
            for netns, prefix in (("netns:a", "10.9.0.0/16"), ("netns:c", "10.9.0.0/16"), ("netns:a", "10.8.0.0/16"))]  # fmt: skip
    new = Change("route", "netns:b 10.9.0.0/16", None, route("netns:b"), "")
    assert kernel.observed.succeeded([*gone, new]) == {"netns:a 10.9.0.0/16"}
