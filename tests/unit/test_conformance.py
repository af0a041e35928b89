# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the conformance page counts, and when two refusals are one."""

from __future__ import annotations

import pytest

from tests.conformance import page, runner
from tests.conformance.runner import Difference, Result
from tests.conformance.scenarios import SECTIONS, Scenario

PAIRS = [
    ("no matching subnet for gateway 198.51.100.1", "subnets[0].gateway: 198.51.100.1 is not inside 192.0.2.0/24; give an address"),
    ("no matching subnet for gateway 192.0.2.x", "subnets[0].gateway: '192.0.2.x' is not an IP address; write it as 192.0.2.10"),
    ("failed to create lo.10 vlan link: operation not supported", "parent: lo is the loopback, and has no VLANs; this host has eth0"),
    ("network n9 not found.", "network: there is no network n9; create it first"),
    ("Address already in use.", "ipv4_address: 192.0.2.1 is the gateway; give another address, or leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(("docker", "ours"), PAIRS)
def test_refusals_for_one_reason(docker: str, ours: str) -> None:
    assert runner.reason(docker) == runner.reason(ours) in runner.REASONS


def test_refusals_for_two_reasons() -> None:
    """An option that does not exist is not what Docker refuses."""
    docker = "null ipam driver does not handle specific address pool requests"
    assert runner.reason(docker) != runner.reason("ipam_driver: unknown option; did you mean driver?")
    assert runner.reason("the kernel said no") == "the kernel said no"


def test_only_what_ran_on_both_sides_is_counted() -> None:
    both = [Result(Scenario("a", [])), Result(Scenario("b", []), differences=[Difference("x", "1", "2", "N1")])]
    assert page.counts([*both, Result(Scenario("c", [], since="28.0"))]) == {
        "total": 2,
        "equal": 1,
        "different": 1,
        "known": 1,
    }


def test_a_purpose_covers_the_property_that_differs_and_no_other() -> None:
    """A star in place of a property would hide any other difference of it."""
    wide = [
        f"{scenario.name}: {pattern}"
        for found in SECTIONS.values()
        for scenario in found
        for pattern in scenario.differs
        if pattern.endswith("*") or " *" in pattern
    ]
    assert wide == []
