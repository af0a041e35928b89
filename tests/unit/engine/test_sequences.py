# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sequences of tasks on a simulated kernel: whatever is asked, the host stays within the rules."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    FILE_KINDS,
    LINK_GROUPS,
    link_key,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import compare, inverse, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.simulated_kernel import SimulatedKernel
from tests.support.soak import examples

NETWORKS = ["red", "green", "blue"]
PARENTS = ["eth0", "eth0.10", "eth0.20", "eth1.10", "bond0.100.200", "a-very-long-bond.7", None]
SUBNETS = [
    "10.0.0.0/29",
    "10.0.0.4/30",
    "10.1.0.0/31",
    "10.2.0.1/32",
    "2001:db8::/64",
    "2001:db8:1::/126",
    "192.168.0.0/16",
]


@st.composite
def networks(draw: st.DrawFn) -> Tuple[str, Dict[str, Any]]:
    driver = draw(st.sampled_from(["macvlan", "ipvlan"]))
    modes = ["bridge", "private", "vepa", "passthru"] if driver == "macvlan" else ["l2", "l3", "l3s"]
    options = {
        "name": draw(st.sampled_from(NETWORKS)),
        "driver": driver,
        "mode": draw(st.sampled_from(modes)),
        "parent": draw(st.sampled_from(PARENTS)),
        "subnets": [{"subnet": text} for text in draw(st.lists(st.sampled_from(SUBNETS), max_size=2, unique=True))],
        "share_parent": draw(st.booleans()),
        "host_access": draw(st.booleans()),
        "mtu": draw(st.sampled_from([None, 1400, 1500, 9000])),
        "recreate": draw(st.booleans()),
        "dns": draw(st.sampled_from([None, None, ["192.0.2.55"]])),
    }
    return "network", {key: value for key, value in options.items() if value is not None}


@st.composite
def endpoints(draw: st.DrawFn) -> Tuple[str, Dict[str, Any]]:
    options = {
        "network": draw(st.sampled_from(NETWORKS)),
        "name": draw(st.sampled_from(["a", "b", "c", "d"])),
        "netns": draw(st.sampled_from(["one", "two"])),
        "interface": draw(st.sampled_from([None, None, "eth0", "data0"])),
        "ipv4_address": draw(st.sampled_from([None, None, "10.0.0.3", "10.0.0.5", "192.168.1.1"])),
        "gw_priority": draw(st.integers(-1, 1)),
        "ingress_rate": draw(st.sampled_from([None, None, "8mbit", "20mbit"])),
        "egress_rate": draw(st.sampled_from([None, None, "8mbit", "20mbit"])),
        "dns": draw(st.sampled_from([None, None, [], ["192.0.2.53"], ["192.0.2.54", "192.0.2.53"]])),
        "vlans": draw(st.sampled_from([None, None, None, [10], [20, "10-11"]])),
    }
    return "endpoint", {key: value for key, value in options.items() if value is not None}


@st.composite
def vlans(draw: st.DrawFn) -> Tuple[str, Dict[str, Any]]:
    options = {
        "parent": draw(st.sampled_from(["eth0", "eth1", "bond0", "bond0.100"])),
        "vlan_id": draw(st.sampled_from([10, 20, 100])),
        "gvrp": draw(st.booleans()),
        "addresses": draw(st.lists(st.sampled_from(["10.9.0.1/24", "2001:db8:9::1/64"]), max_size=2, unique=True)),
    }
    return "vlan", options


TASKS = st.tuples(
    st.one_of(networks(), endpoints(), vlans()), st.sampled_from(["present", "present", "present", "absent"])
)


def host() -> SimulatedKernel:
    kernel = SimulatedKernel("eth0", "eth1", "bond0", "a-very-long-bo")
    kernel.observed.host.names["eth1"].up = False
    longer = kernel.observed.host.names["a-very-long-bo"]
    longer.altnames = ("a-very-long-bond",)
    kernel.observed.host.names["a-very-long-bond"] = longer
    kernel.add("", "foreign", kind="vlan", parent=longer.index, data={"vlan_id": 8, "protocol": "802.1q"})
    return kernel


def picture(kernel: SimulatedKernel) -> Any:
    """Everything that a kernel holds, without the numbers that it gives out itself."""
    spaces = {"": kernel.observed.host, **kernel.observed.namespaces}
    return {
        name: (
            {
                link.name: {**kernel.observed.link_spec(space, link), "sysctls": (link.conf4, link.conf6)}
                for link in space.links.values()
            },
            sorted(
                (space.links[index].name, sorted(address.address for address in found))
                for index, found in space.addresses.items()
                if found
            ),
            sorted(str({**kernel.observed.route_spec(space, route)}) for route in space.routes),
            [kernel.observed.blocks.get((kind, name), "") for kind in FILE_KINDS],
        )
        for name, space in spaces.items()
    }


def check_rules(kernel: SimulatedKernel) -> None:
    items: Dict[str, Dict[str, Any]] = {
        kind: {key: record.spec for key, record in kernel.records.get(kind, {}).items()}
        for kind in ("network", "endpoint", "link")
    }
    marked = {
        link_key(space.workload, link.name)
        for space in (kernel.observed.host, *kernel.observed.namespaces.values())
        for link in space.links.values()
        if link.group in LINK_GROUPS
    }
    assert marked == set(items["link"]), "a link of ours without a record, or a record without its link"
    assert {"eth0", "eth1", "bond0", "a-very-long-bo", "foreign", "lo"} <= set(kernel.observed.host.names)
    for name, network in items["network"].items():
        held = [a for e in items["endpoint"].values() if e["network"] == name for a in e["addresses"]]
        held = [a.partition("/")[0] for a in held + network.get("host_addresses", [])]
        assert len(held) == len(set(held)), "one address twice"
        for row in network["subnets"]:
            assert row["gateway"] not in held
    workloads = {endpoint["workload"] for endpoint in items["endpoint"].values()}
    asking = {
        endpoint["workload"]
        for endpoint in items["endpoint"].values()
        if (items["network"][endpoint["network"]]["dns"] if endpoint["dns"] is None else endpoint["dns"])
    }
    assert {where for where, digest in kernel.observed.blocks.items() if digest} == {
        *(("hosts", each) for each in workloads),
        *(("resolver", each) for each in asking),
    }
    for key in items["endpoint"]:
        assert items["endpoint"][key]["network"] in items["network"]


@settings(examples(sample=800, soak=20000))
@given(st.lists(TASKS, min_size=1, max_size=8))
def test_any_sequence_keeps_the_rules(tasks: List[Any]) -> None:
    kernel = host()
    for (kind, options), state in tasks:
        before, records = picture(kernel), copy.deepcopy(kernel.records)
        declared = model.declare(kind, copy.deepcopy(options), state, False)
        try:
            found = plan.plan(declared, copy.deepcopy(kernel.records), kernel.observed, "seed")
        except InputError as error:
            assert all(problem.message and problem.fix for problem in error.problems)
            assert (picture(kernel), kernel.records) == (before, records)
            continue
        kernel.apply(found.changes)
        assert list(compare.unapplied(found.changes, kernel.observed)) == []
        back = copy.deepcopy(kernel)
        how = inverse.Undoing(recorded={(kind, key) for kind, rows in kernel.records.items() for key in rows})
        back.apply(inverse.invert(found.changes, back.observed, LINK_GROUPS, how).changes)
        assert picture(back) == before
        kernel.record(found.changes)
        check_rules(kernel)
        assert compare.drift(kernel.records, kernel.observed) == []
        again = plan.plan(
            model.declare(kind, copy.deepcopy(options), state, False),
            copy.deepcopy(kernel.records),
            kernel.observed,
            "seed",
        )
        assert again.changes == []
