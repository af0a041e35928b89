# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning on a simulated kernel: thousands of hosts without one real link."""

from __future__ import annotations

import copy
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare, inverse, plan

from tests.support.planning import declare, mapped, refusal, task
from tests.support.simulated_kernel import SimulatedKernel

NETOPS = [
    {
        "name": "vlan10",
        "driver": "macvlan",
        "parent": "eth0.10",
        "subnets": [{"subnet": "172.16.80.0/24", "gateway": "172.16.80.1"}],
    },
    {
        "name": "vlan20",
        "driver": "macvlan",
        "parent": "eth0.20",
        "subnets": [{"subnet": "172.16.50.0/22", "gateway": "172.16.50.1"}],
    },
    {
        "name": "vlan30",
        "driver": "ipvlan",
        "parent": "eth0.30",
        "subnets": [{"subnet": "10.1.100.0/16", "gateway": "10.1.100.1"}],
    },
]


def test_netops_table_becomes_sub_interfaces_and_stays() -> None:
    kernel = SimulatedKernel("eth0")
    first = declare(kernel, mapped(networks=NETOPS))
    host = kernel.observed.host
    assert {name: host.names[name].data["vlan_id"] for name in ("eth0.10", "eth0.20", "eth0.30")} == {
        "eth0.10": 10, "eth0.20": 20, "eth0.30": 30,
    }  # fmt: skip
    assert all(host.names[name].up and host.names[name].group == 8021 for name in ("eth0.10", "eth0.20", "eth0.30"))
    assert any("172.16.50.0/22 has host bits set; using 172.16.48.0/22" in text for text in first.warnings)
    assert declare(kernel, mapped(networks=NETOPS)).changes == []


def test_endpoints_get_the_lowest_free_address_and_keep_it() -> None:
    kernel = SimulatedKernel("eth0")
    rows: List[Dict[str, Any]] = [
        {"network": "vlan10", "name": name, "netns": name} for name in ("a", "b")
    ] + [{"network": "vlan10", "name": "c", "netns": "c", "ipv4_address": "172.16.80.2"}]  # fmt: skip
    found = declare(kernel, mapped(networks=NETOPS, endpoints=rows))
    addresses = {key: spec["addresses"] for key, spec in found.items["endpoint"].items()}
    assert addresses == {"vlan10/a": ["172.16.80.3/24"], "vlan10/b": ["172.16.80.4/24"], "vlan10/c": ["172.16.80.2/24"]}
    assert [route.via for route in kernel.observed.namespaces["netns:a"].routes] == [None, "172.16.80.1"]
    assert declare(kernel, mapped(networks=NETOPS, endpoints=rows)).changes == []


def test_the_last_network_takes_its_sub_interface_along() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, mapped(networks=NETOPS, endpoints=[{"network": "vlan10", "name": "a", "netns": "a"}]))
    declare(kernel, mapped(purge=True))
    assert set(kernel.observed.host.names) == {"lo", "eth0"}
    assert kernel.observed.namespaces == {}
    assert not any(kernel.records.values())


def test_a_foreign_sub_interface_is_used_and_left_alone() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.add(
        "",
        "foo",
        kind="vlan",
        parent=kernel.observed.host.names["eth0"].index,
        data={"vlan_id": 40, "protocol": "802.1q"},
    )
    network = {"name": "n40", "driver": "ipvlan", "parent": "foo", "subnets": [{"subnet": "192.168.40.0/24"}]}
    declare(kernel, task("network", **network))
    declare(kernel, task("network", state="absent", name="n40"))
    assert "foo" in kernel.observed.host.names
    assert refusal(kernel, task("network", **{**network, "parent": "eth0.40"})) == [
        "parent: VLAN 40 of eth0 already exists as foo; give parent: foo"
    ]


def test_all_conflicts_of_one_input_are_reported_at_once() -> None:
    kernel = SimulatedKernel("eth0")
    rows = [
        {"name": "a", "driver": "macvlan", "parent": "eth9"},
        {"name": "b", "driver": "macvlan", "parent": "eth0.10", "gatway": "x"},
        {
            "name": "c",
            "driver": "macvlan",
            "parent": "eth0.11",
            "subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}],
        },
        {"name": "d", "driver": "ipvlan", "parent": "eth0.12", "subnets": [{"subnet": "10.1.0.0/24"}]},
        {"name": "e", "driver": "macvlan", "parent": "eth0.12", "subnets": [{"subnet": "10.2.0.0/24"}]},
    ]
    lines = refusal(kernel, mapped(networks=rows, links=[{"parent": "eth0", "vlan_id": "abc"}]))
    assert [line.partition(":")[0] for line in lines] == [
        "links[0].vlan_id", "networks[1].gatway", "networks[2].subnets[0].gateway", "networks[3].driver", "networks[4].driver",
        "networks[0].parent",
    ]  # fmt: skip


def test_undo_restores() -> None:
    kernel = SimulatedKernel("eth0")
    kernel.observed.host.names["eth0"].up = False
    before = sorted(kernel.observed.host.names)
    found = plan.plan(
        mapped(networks=NETOPS, endpoints=[{"network": "vlan30", "name": "a", "netns": "a"}]),
        {},
        kernel.observed,
        "seed",
    )
    kernel.apply(found.changes)
    assert list(compare.unapplied(found.changes, kernel.observed)) == []
    kernel.apply(inverse.invert(found.changes, kernel.observed, (8021,)).changes)
    assert sorted(kernel.observed.host.names) == before
    assert kernel.observed.host.names["eth0"].up is False
    assert kernel.observed.namespaces == {}


@pytest.mark.parametrize(("driver", "mode"), [("macvlan", "bridge"), ("ipvlan", "l2"), ("ipvlan", "l3")])
def test_host_access_reaches_the_endpoints_and_nothing_else(driver: str, mode: str) -> None:
    kernel = SimulatedKernel("eth0")
    network = {
        "name": "n50",
        "driver": driver,
        "mode": mode,
        "parent": "eth0.50",
        "subnets": [{"subnet": "192.168.50.0/24"}],
    }
    endpoint = {"network": "n50", "name": "a", "netns": "a", "ipv4_address": "192.168.50.10"}
    declare(kernel, mapped(networks=[{**network, "host_access": True}], endpoints=[endpoint]))
    (shim,) = [link for link in kernel.observed.host.links.values() if link.kind == driver]
    assert [address.address for address in kernel.observed.host.addresses.get(shim.index, [])] == ["192.168.50.2/32"]
    assert [(route.prefix, route.oif) for route in kernel.observed.host.routes] == [("192.168.50.10/32", shim.index)]
    assert declare(kernel, mapped(networks=[{**network, "host_access": True}], endpoints=[endpoint])).changes == []
    declare(kernel, mapped(networks=[network], endpoints=[endpoint]))
    assert set(kernel.observed.host.names) == {"lo", "eth0", "eth0.50"}
    assert kernel.observed.host.routes == []


def test_a_plan_that_the_wire_has_to_confirm() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, mapped(networks=NETOPS))
    options = {"network": "vlan10", "name": "a", "netns": "a", "probe": True}
    first = plan.plan(task("endpoint", **options), copy.deepcopy(kernel.records), kernel.observed, "seed")
    (question,) = first.probes
    assert (question.netns, question.link) == ("netns:a", "eth0") and len(question.candidates) == 9
    assert question.candidates[:3] == ["172.16.80.2", "172.16.80.3", "172.16.80.4"]
    assert first.opening() + first.rest() == first.changes
    assert not any(change.kind in ("address", "route", "hosts", "endpoint") for change in first.opening())
    kernel.observed.held = {"vlan10": {"172.16.80.2": "02:00:00:00:00:aa", "172.16.80.3": "02:00:00:00:00:aa"}}
    second = plan.plan(task("endpoint", **options), copy.deepcopy(kernel.records), kernel.observed, "seed")
    assert (
        second.items["endpoint"]["vlan10/a"]["addresses"] == ["172.16.80.4/24"] and second.opening() == first.opening()
    )
    assert refusal(kernel, task("endpoint", **options, ipv4_address="172.16.80.2")) == [
        "ipv4_address: 172.16.80.2 is held by 02:00:00:00:00:aa on the wire; give another address, or leave it out"
    ]
    parent = plan.plan(
        task("endpoint", **{**options, "network": "vlan30"}), copy.deepcopy(kernel.records), kernel.observed, "seed"
    )
    assert (parent.probes[0].netns, parent.probes[0].link) == (
        "",
        "eth0.30",
    )  # ipvlan: who has the MAC gets the answers


def test_after_the_registry_is_lost_adopt_takes_everything_back() -> None:
    kernel = SimulatedKernel("eth0")
    endpoint = {"network": "vlan10", "name": "b", "netns": "b"}
    declare(kernel, mapped(networks=NETOPS, endpoints=[{"network": "vlan10", "name": "a", "netns": "a"}, endpoint]))
    kernel.records.clear()
    assert refusal(kernel, mapped(networks=NETOPS, endpoints=[endpoint])) == [
        "endpoints[0].name: eth0 in netns:b has our mark but is in no registry; "
        "the registry was lost: set adopt: true to take it back, or remove it"
    ]
    found = declare(kernel, mapped(networks=NETOPS, endpoints=[endpoint], adopt=True))
    assert found.items["endpoint"]["vlan10/b"]["addresses"] == ["172.16.80.3/24"]
    assert {change.verb for change in found.changes if change.kind in ("link", "address")} == {"change"}
    assert set(kernel.records["link"]) == {"eth0.10", "eth0.20", "eth0.30", "netns:b/eth0"}
    assert declare(kernel, mapped(networks=NETOPS, endpoints=[endpoint])).changes == []


def test_recreate_moves_endpoints_and_keeps_what_they_have() -> None:
    kernel = SimulatedKernel("eth0")
    network = {"name": "n", "driver": "macvlan", "parent": "eth0.10", "subnets": [{"subnet": "10.0.0.0/24"}]}
    declare(kernel, mapped(networks=[network], endpoints=[{"network": "n", "name": "a", "netns": "a"}]))
    mac = kernel.observed.namespaces["netns:a"].names["eth0"].mac
    moved = {**network, "parent": "eth0.11"}
    assert refusal(kernel, task("network", **moved)) == [
        "network n belongs to map fabric; change it there, or set adopt: true"
    ]
    assert "networks[0].parent: is eth0.10 and cannot become eth0.11" in refusal(kernel, mapped(networks=[moved]))[0]
    declare(kernel, mapped(networks=[{**moved, "recreate": True}]))
    link = kernel.observed.namespaces["netns:a"].names["eth0"]
    assert kernel.observed.host.links[link.parent].name == "eth0.11"
    assert link.mac == mac
    assert [address.address for address in kernel.observed.namespaces["netns:a"].addresses[link.index]] == [
        "10.0.0.2/24"
    ]
    assert "eth0.10" not in kernel.observed.host.names


def test_a_lease_is_released_only_when_its_workload_is_gone() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, task("network", name="n", driver="macvlan", parent="eth0.10", subnets=[{"subnet": "10.0.0.0/24"}]))
    declare(kernel, task("endpoint", network="n", name="a", netns="a"))
    assert refusal(kernel, task("endpoint", state="released", network="n", name="a")) == [
        "state: n/a lives, as eth0 in netns:a; use state: absent to remove it"
    ]
    kernel.observed.namespaces.clear()
    declare(kernel, task("endpoint", state="released", network="n", name="a"))
    assert "n/a" not in kernel.records["endpoint"]


class _Counted(Dict[int, Any]):
    """The links of a host, with how often all of them were gone through."""

    walks = 0

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def test_a_host_is_gone_through_as_often_for_forty_networks_as_for_four() -> None:
    walks = []
    for count in (4, 40):
        kernel = SimulatedKernel("eth0")
        rows = [
            {"name": f"n{vlan}", "driver": "macvlan", "parent": f"eth0.{vlan}", "subnets": [{"subnet": f"10.0.{vlan}.0/24"}]}
            for vlan in range(1, count + 1)
        ]  # fmt: skip
        declare(kernel, mapped(networks=rows))
        kernel.observed.host.links = links = _Counted(kernel.observed.host.links)
        assert declare(kernel, mapped(networks=rows)).changes == []
        walks.append(links.walks)
    assert walks[0] == walks[1]
