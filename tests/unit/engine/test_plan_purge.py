# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a purge removes: no kind of rows that was not given, and no more than its limit."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model

from tests.support.planning import declare, mapped, refusal
from tests.support.simulated_kernel import SimulatedKernel


def networks(*vlans: int) -> List[Dict[str, Any]]:
    return [
        {
            "name": f"n{vlan}",
            "driver": "macvlan",
            "parent": f"eth0.{vlan}",
            "subnets": [{"subnet": f"10.0.{vlan}.0/24"}],
        }
        for vlan in vlans
    ]


def host(count: int = 40) -> SimulatedKernel:
    kernel = SimulatedKernel("eth0")
    declare(
        kernel,
        mapped(networks=networks(*range(1, count + 1)), endpoints=[{"network": "n1", "name": "a", "netns": "a"}]),
    )
    return kernel


def test_what_was_not_given_is_absent_and_not_empty() -> None:
    kernel = host()
    assert refusal(kernel, model.declare_map({"name": "fabric", "purge": True})) == [
        "purge: no rows were given, and what was not given is not removed; "
        "give networks, or networks: [] to remove all of this owner"
    ]
    # The networks were given, the endpoints were not: they stay, and so the network that has one is refused.
    fewer = {"name": "fabric", "purge": True, "networks": networks(*range(2, 41))}
    (problem,) = refusal(kernel, model.declare_map(fewer))
    assert "network n1 has the endpoints a" in problem
    done = declare(kernel, model.declare_map({**fewer, "endpoints": []}))
    assert {change.key for change in done.changes if change.kind in ("network", "endpoint")} == {"n1/a", "n1"}


def test_a_purge_beyond_its_limit_is_refused() -> None:
    kernel = host()
    rows = {"networks": networks(*range(10, 41)), "endpoints": []}
    assert refusal(kernel, mapped(purge=True, purge_limit="20%", **rows)) == [
        "purge_limit: 9 of 40 networks would be removed, more than 20%: n1, n2, n3, n4, n5 and 4 more; "
        "check the rows; purge_limit: 9 removes them"
    ]
    found = declare(kernel, mapped(purge=True, purge_limit="9", **rows))
    assert found.undeclared["network"] == {
        "undeclared": 9,
        "removed": 9,
        "of": 40,
        "first": [f"n{vlan}" for vlan in range(1, 10)],
    }


def test_a_few_may_go_in_any_case_and_without_purge_nothing_goes() -> None:
    kernel = host(6)
    rows = {"networks": networks(6), "endpoints": []}
    kept = declare(kernel, mapped(purge_limit="20%", **rows))
    assert kept.changes == [] and kept.undeclared["network"]["undeclared"] == 5
    assert declare(kernel, mapped(purge=True, purge_limit="20%", **rows)).changes
    assert (
        "is not a limit; give a number, or a percentage such as 20%"
        in refusal(kernel, mapped(purge=True, purge_limit="many"))[0]
    )
