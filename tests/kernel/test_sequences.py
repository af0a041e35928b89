# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random sequences of tasks on a real kernel, always the same ones: the host stays within the rules."""

from __future__ import annotations

import copy
import platform
import tempfile
from ipaddress import ip_address
from typing import Any, Dict, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP, link_key
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.engine import Engine
from tests.support.host_picture import picture
from tests.support.network_host import HAS_IPV6, fresh_host, ip, run
from tests.support.soak import examples

NETWORKS = ["red", "blue"]
PARENTS = ["trunk", "trunk.10", "trunk.20", "trunk.100.200", "averylongnicname.7", "foo", None]
SUBNETS = [
    "10.0.0.0/29",
    "10.1.0.0/31",
    "10.2.0.1/32",
    "192.168.0.0/16",
    *(["2001:db8::/64", "2001:db8:1::/126"] if HAS_IPV6 else []),
]

KINDS = ("network", "endpoint", "link", "address", "route", "rate", "netns", "hosts", "resolver")

Task = Tuple[str, str, Dict[str, Any]]


@st.composite
def networks(draw: st.DrawFn) -> Task:
    driver = draw(st.sampled_from(["macvlan", "ipvlan"]))
    modes = ["bridge", "private", "vepa", "passthru"] if driver == "macvlan" else ["l2", "l3", "l3s"]
    options = {
        "name": draw(st.sampled_from(NETWORKS)),
        "driver": driver,
        "mode": draw(st.sampled_from(modes)),
        "flag": draw(st.sampled_from(["bridge", "private"])) if driver == "ipvlan" else None,
        "parent": draw(st.sampled_from(PARENTS)),
        "subnets": [{"subnet": text} for text in draw(st.lists(st.sampled_from(SUBNETS), max_size=2, unique=True))],
        "share_parent": draw(st.booleans()),
        "host_access": draw(st.booleans()),
        "mtu": draw(st.sampled_from([None, None, None, 1400, 1500, 9000])),
        "recreate": draw(st.booleans()),
        "dns": draw(st.sampled_from([None, None, ["192.0.2.55"]])),
    }
    return "network", "present", {key: value for key, value in options.items() if value is not None}


@st.composite
def endpoints(draw: st.DrawFn) -> Task:
    options = {
        "network": draw(st.sampled_from(NETWORKS)),
        "name": draw(st.sampled_from(["a", "b", "c"])),
        "netns": draw(st.sampled_from(["one", "two"])),
        "ipv4_address": draw(st.sampled_from([*[None] * 6, "10.0.0.3", "192.168.1.1"])),
        "gw_priority": draw(st.integers(-1, 1)),
        "ingress_rate": draw(st.sampled_from([None, None, "8mbit", "20mbit"])),
        "egress_rate": draw(st.sampled_from([None, None, "8mbit", "20mbit"])),
        "dns": draw(st.sampled_from([None, None, [], ["192.0.2.53"], ["192.0.2.54", "192.0.2.53"]])),
    }
    return "endpoint", "present", {key: value for key, value in options.items() if value is not None}


@st.composite
def absent(draw: st.DrawFn) -> Task:
    kind = draw(st.sampled_from(["network", "endpoint", "endpoint"]))
    options = {"name": draw(st.sampled_from(NETWORKS if kind == "network" else ["a", "b", "c"]))}
    if kind == "endpoint":
        options["network"] = draw(st.sampled_from(NETWORKS))
    return kind, "absent", options


#: Two networks to begin with, then whatever comes.
TASKS = st.tuples(
    st.tuples(networks(), networks(), endpoints()),
    st.lists(st.one_of(networks(), endpoints(), endpoints(), endpoints(), absent()), min_size=6, max_size=14),
).map(lambda parts: [*parts[0], *parts[1]])

#: What the host has before, and must have afterwards.
HOST = """
    ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up
    ip link property add dev trunk altname averylongnicname
    ip link add link trunk name trunk.100 type vlan id 100; ip link set trunk.100 up
    ip link add link trunk name foo type vlan id 40; ip link set foo up
"""
FOREIGN = {"lo", "trunk", "far", "trunk.100", "foo"}


class Model:
    """The rules in plain words, of which a host must never stray."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def check(self) -> None:
        networks, endpoints = self.engine.records("network"), self.engine.records("endpoint")
        shown = {space: {row["name"]: row for row in rows} for space, (rows, *_rest) in picture().items()}
        ours = {
            link_key(f"netns:{space}" if space else "", name)
            for space, rows in shown.items()
            for name, row in rows.items()
            if row["group"] == LINK_GROUP
        }
        assert ours == set(self.engine.records("link")), "a link of ours without a record, or a record without its link"
        assert shown[""].keys() - {key for key in ours if "/" not in key} == FOREIGN
        assert shown.keys() - {""} == {spec["workload"].partition(":")[2] for spec in endpoints.values()}, (
            "namespaces without endpoints"
        )
        for name, network in networks.items():
            held = [address for spec in endpoints.values() if spec["network"] == name for address in spec["addresses"]]
            held = [address.partition("/")[0] for address in held + network.get("host_addresses", [])]
            assert len(held) == len(set(held)), "one address twice"
            assert not {row["gateway"] for row in network["subnets"]} & set(held)
        for key, spec in endpoints.items():
            there = shown[spec["workload"].partition(":")[2]][spec["interface"]]
            assert there["up"]
            found = {f"{ip_address(bytes.fromhex(own))}/{length}" for own, length, _protocol in there["addresses"]}
            assert found == set(spec["addresses"]), key
        assert describe.host(self.engine.state_dir, ("drift", "adoptable")) == {"drift": [], "adoptable": []}


def carry_out(engine: Engine, task: Task) -> Optional[str]:
    """One task, predicted by check mode, with nothing left to do after it; why it was refused, if so."""
    kind, state, options = task
    try:
        earlier = engine.task(kind, state, check=True, **copy.deepcopy(options)).changes
    except InputError as error:
        assert all(problem.message and problem.fix for problem in error.problems)
        with pytest.raises(InputError):
            engine.task(kind, state, **copy.deepcopy(options))
        return str(error)
    assert engine.task(kind, state, **copy.deepcopy(options)).changes == earlier
    assert engine.task(kind, state, **copy.deepcopy(options)).changes == []
    return None


def empty(engine: Engine) -> None:
    """Everything goes, and nothing of it stays."""
    for key in list(engine.records("endpoint")):
        network, _, name = key.partition("/")
        engine.absent(name, network)
    for name in list(engine.records("network")):
        engine.task("network", "absent", name=name)
    assert {row["ifname"] for row in ip("link")} == FOREIGN
    assert ip("netns") == [] and not any(engine.records(kind) for kind in KINDS)


def keeps_the_rules(tasks: List[Task]) -> None:
    with fresh_host(), tempfile.TemporaryDirectory() as state_dir:
        run(HOST)
        engine = Engine(f"{state_dir}/state")
        model = Model(engine)
        for task in tasks:
            before = {kind: engine.records(kind) for kind in KINDS}
            if carry_out(engine, task) is None:
                model.check()
            else:
                assert {kind: engine.records(kind) for kind in KINDS} == before
        model.check()
        empty(engine)


@pytest.mark.every_kernel
@settings(examples(sample=15 if platform.release().startswith("6.") else 60, soak=600))
@given(TASKS)
def test_any_sequence_keeps_the_rules(tasks: List[Task]) -> None:
    keeps_the_rules(tasks)
