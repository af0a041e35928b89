# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arbitrary input through the whole road in check mode, on a kernel: a refusal in words or a plan, and nothing changed."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import summary
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact
from hypothesis import HealthCheck, given, settings

from tests.support.inputs import MAPS, TASKS, items
from tests.support.module_tasks import MODULES, WIRE, Tasks, changes, everything
from tests.support.soak import examples

FUZZ = settings(examples(sample=120, soak=2000), suppress_health_check=list(HealthCheck))


def rehearse(declared: Declaration, state_dir: str) -> None:
    try:
        outcome = converge.converge(declared, transact.RunOptions(state_dir, check=True))
    except InputError as refusal:
        assert refusal.problems
        for problem in refusal.problems:
            assert problem.message and problem.fix and "\n" not in str(problem)
    else:
        assert declared.problems == []
        assert summary.summary(outcome.changes, None)["total"] == len(outcome.changes)
        summary.diff(outcome.changes)


@pytest.fixture
def furnished(tasks: Tasks) -> Tasks:
    """A host that has something already, some of it under the names that the inputs like."""
    tasks.ok("vlan_map", name="a", networks=[{"name": "b", "driver": "macvlan", "parent": "trunk.2", "subnets": [{"subnet": "192.0.2.0/24"}]}],
             endpoints=[{"network": "b", "name": "a", "netns": "a"}], links=[{"parent": "trunk", "vlan_id": 3}])  # fmt: skip
    return tasks


def test_maps(furnished: Tasks) -> None:
    before = everything(furnished.state_dir)

    @FUZZ
    @given(MAPS)
    def fuzz(options: Dict[str, Any]) -> None:
        rehearse(model.declare_map(options), furnished.state_dir)

    fuzz()
    assert changes(before, everything(furnished.state_dir)) == []


@pytest.mark.parametrize("kind", ["vlan", "network", "endpoint", "routes"])
def test_items(furnished: Tasks, kind: str) -> None:
    before = everything(furnished.state_dir)

    @FUZZ
    @given(items(kind))
    def fuzz(case: tuple[Any, str, bool]) -> None:
        options, state, adopt = case
        rehearse(model.declare(kind, options, state, adopt), furnished.state_dir)

    fuzz()
    assert changes(before, everything(furnished.state_dir)) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_arguments_of_a_module(furnished: Tasks, module: str) -> None:
    """For real where it changes the wire: what is refused has changed nothing, and nothing ends in a traceback."""
    before = everything(furnished.state_dir)
    real = module in WIRE
    count = {"refused": 0, "done": 0}

    @settings(examples(sample=40, soak=600), suppress_health_check=list(HealthCheck))
    @given(TASKS[module])
    def fuzz(options: Dict[str, Any]) -> None:
        nonlocal before
        found = furnished.run(module, options, check=not real)
        assert found.data and "Traceback" not in found.text, (options, found.text[-3000:])
        if not found.data.get("failed"):
            count["done"] += 1
            before = everything(furnished.state_dir) if real else before
            return
        count["refused"] += 1
        assert found.message and all(text.strip() and text.isprintable() for text in found.message), (
            options,
            found.message,
        )
        assert not real or changes(before, everything(furnished.state_dir)) == [], options

    fuzz()
    print(module, count)
    assert changes(before, everything(furnished.state_dir)) == [], "check mode changed the host"
    assert count["refused"] and (count["done"] or real)
