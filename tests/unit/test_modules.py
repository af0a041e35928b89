# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is given to a module becomes items in their normal form, or words that help; never anything else."""

from __future__ import annotations

import json
from typing import Any, Dict, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils import _module, _result
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import Problem
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from hypothesis import given

from tests.support.inputs import MAPS, WILD, items
from tests.support.soak import examples

FUZZ = examples(sample=200, soak=4000)


def helps(declared: Declaration) -> None:
    """Good items are plain data, and bad ones are reported with place, fault and fix, a line each."""
    for problem in declared.problems:
        assert problem.message and problem.fix and len(str(problem).splitlines()) == 1, problem
        assert len(problem.message) < 1000
    for item in declared.items:
        assert json.loads(json.dumps(item.spec)) == item.spec


@FUZZ
@given(MAPS)
def test_maps(options: Dict[str, Any]) -> None:
    helps(model.declare_map(options))


@pytest.mark.parametrize("kind", ["vlan", "network", "endpoint", "routes"])
def test_items(kind: str) -> None:
    @FUZZ
    @given(items(kind))
    def fuzz(case: Tuple[Any, str, bool]) -> None:
        declared = model.declare(kind, *case)
        helps(declared)
        assert declared.problems or len(declared.items) == 1

    fuzz()


@pytest.mark.parametrize("kind", ["vlan", "network", "endpoint", "routes"])
def test_rows_that_are_no_rows(kind: str) -> None:
    @FUZZ
    @given(WILD)
    def fuzz(row: Any) -> None:
        declared = model.declare(kind, row, "present", False)
        helps(declared)
        assert declared.problems

    fuzz()


def test_a_good_item_is_a_fixed_point() -> None:
    """What is in its normal form is not changed by being declared once more."""
    row = {
        "parent": "eth0",
        "vlan_id": "50",
        "mtu": "1400",
        "gvrp": "yes",
        "egress_qos_map": {0: "3", "6": 0},
        "addresses": ["2001:DB8::1/64"],
    }
    once = model.declare("vlan", row, "present", False).items[0].spec
    assert once is not None
    assert (
        once["mtu"] == 1400
        and once["gvrp"] is True
        and once["egress_qos_map"] == {"0": 3}
        and once["addresses"] == ["2001:db8::1/64"]
    )
    assert model.declare("vlan", once, "present", False).items[0].spec == once


# --- results ------------------------------------------------------------------------------------


def test_a_result_that_is_too_large_leaves_out_its_largest_parts_and_says_which() -> None:
    more = {"links": ["x" * 10], "networks": ["y" * 200_000], "endpoints": ["z" * 200_000]}
    result = _result.fitting({"changed": True, "diff": {"after": "d" * 10}, **more}, more)
    assert len(json.dumps(result)) <= _result.BYTES
    assert len(result["left_out"]) == 1 and "links" in result and "diff" in result


def test_a_refusal_tells_of_thousands_as_much_as_a_result_holds() -> None:
    few = [
        Problem(f"networks[{number}].parent", f"t{number} does not exist", "this host has eth0")
        for number in range(100)
    ]
    assert _result.refusal(few) == {
        "msg": "\n".join(map(str, few)),
        "problems": [{"path": problem.path, "what": problem.message, "cure": problem.fix} for problem in few],
    }
    many = [problem._replace(message=f"{turn}: {problem.message}") for turn in range(100) for problem in few]
    refusal = _result.refusal(many)
    assert len(json.dumps(refusal)) < _result.BYTES
    *lines, more = refusal["msg"].split("\n")
    assert lines == list(map(str, many[: len(lines)])) and len(lines) > 1000
    assert more == f"and {10_000 - len(lines):,} more, shown once these are fixed"
    rows = [{"path": problem.path, "what": problem.message, "cure": problem.fix} for problem in many]
    assert refusal["problems"] == rows[: len(refusal["problems"])] and len(refusal["problems"]) > 1000


def test_of_thousands_of_warnings_as_many_as_a_result_holds() -> None:
    """A dummy as a trunk gives each of its 4,094 networks one; with 820 kB of them AWX dropped the whole result."""
    few = [f"networks[{number}].parent: t0.{number} has ARP disabled" for number in range(100)]
    assert _result.warnings(few) == few
    many = [f"{turn} {text}" for turn in range(100) for text in few]
    *shown, more = _result.warnings(many)
    assert shown == many[: len(shown)] and len(shown) > 1000
    assert len(json.dumps(shown)) < _result.BYTES / 2
    assert more == f"and {10_000 - len(shown):,} more warnings"


def test_one_cause_is_one_line_of_a_refusal() -> None:
    alike = [Problem(f"networks[{number}].parent", "eth1 does not exist", "this host has eth0") for number in range(15)]
    other = Problem("networks[3].mtu", "9000 is more than the 1500 of eth0", "give 1500 at most")
    found = _result.refusal([*alike[:4], other, *alike[4:]])
    assert found["msg"].split("\n") == [
        "networks[0].parent, networks[1].parent and 13 more: eth1 does not exist; this host has eth0",
        str(other),
    ]
    assert len(found["problems"]) == 16
    assert _result.refusal(alike[:2])["msg"].split("\n") == list(map(str, alike[:2]))


def test_the_options_of_the_item_alone_are_declared() -> None:
    params = {
        "parent": "eth0",
        "vlan_id": 5,
        "mtu": None,
        "state": "present",
        "state_dir": "/x",
        "lock_timeout": 1,
        "adopt": True,
        "_private": 1,
    }
    assert _module.given(params) == {"parent": "eth0", "vlan_id": 5}
    assert _module.map_of({"name": "m", "links": [], "adopt": True, "state_dir": "/x"}) == {
        "name": "m",
        "links": [],
        "adopt": True,
    }


@pytest.mark.parametrize(
    ("given_value", "read", "lost"),
    [
        (["a"], [], True),
        (["a", {}], [{}], True),
        ("a", None, True),
        ([{}], [{}], False),
        ("yes", True, False),
        (None, None, False),
        ([], [], False),
    ],
)
def test_rows_that_ansible_dropped_are_seen(given_value: Any, read: Any, lost: bool) -> None:
    assert _module._is_lost(given_value, read) is lost


def test_a_change_knows_its_verb_and_its_inverse() -> None:
    change = Change("link", "eth0.5", None, {"name": "eth0.5"}, "because")
    assert change.verb == "create" and change.inverse().verb == "remove" and change.inverse().inverse().verb == "create"
