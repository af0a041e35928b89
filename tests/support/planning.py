# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations, planned and carried out on the simulated kernel."""

from __future__ import annotations

import copy
import json
from typing import Any, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import validate
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import plan

from tests.support.simulated_kernel import SimulatedKernel


def declare(kernel: SimulatedKernel, declared: Declaration) -> plan.Plan:
    found = plan.plan(declared, copy.deepcopy(kernel.records), kernel.observed, "seed")
    kernel.apply(found.changes)
    kernel.record(found.changes)
    _can_be_kept(kernel, found)
    return found


def _can_be_kept(kernel: SimulatedKernel, planned: plan.Plan) -> None:
    """The registry takes what a plan records, and what it does."""
    for change in json.loads(json.dumps(planned.changes)):
        validate.change(change)
    assert validate.faults(kernel.records) == []


def mapped(**sections: Any) -> Declaration:
    rows = (
        {section: [] for section in model.SECTIONS} if sections.get("purge") else {}
    )  # what is not given is not purged
    return model.declare_map({"name": "fabric", **rows, **sections})


def task(kind: str, state: str = "present", adopt: bool = False, **options: Any) -> Declaration:
    return model.declare(kind, options, state, adopt)


def refusal(kernel: SimulatedKernel, declared: Declaration) -> List[str]:
    before = copy.deepcopy((kernel.observed, kernel.records))
    with pytest.raises(InputError) as caught:
        declare(kernel, declared)
    assert str(before[1]) == str(kernel.records)
    return [str(problem) for problem in caught.value.problems]
