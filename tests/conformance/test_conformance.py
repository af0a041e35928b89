# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's drivers and ours, side by side: equal, or different on purpose."""

from __future__ import annotations

from typing import Dict, Iterator

import pytest

from tests.conformance import page, runner
from tests.conformance.runner import Result
from tests.conformance.scenarios import SECTIONS, Scenario
from tests.conformance.sides import Docker, Ours, is_lab

SCENARIOS = [scenario for found in SECTIONS.values() for scenario in found]


class Bench:
    """Both sides, and what came out so far."""

    def __init__(self) -> None:
        self.docker = Docker()
        self.ours = Ours()
        self.version = self.docker.version()
        self._results: Dict[str, Result] = {}

    def result(self, scenario: Scenario) -> Result:
        if scenario.name not in self._results:
            self._results[scenario.name] = runner.run(scenario, self.docker, self.ours)
        return self._results[scenario.name]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    fault = is_lab()
    if fault:
        pytest.fail(fault)
    found = Bench()
    yield found
    found.docker.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_equal_or_different_on_purpose(bench: Bench, scenario: Scenario) -> None:
    assert bench.result(scenario).faults == []


def test_every_purpose_is_needed_and_they_are_few(bench: Bench) -> None:
    assert runner.list_faults(map(bench.result, SCENARIOS)) == []


def test_the_page_is_what_came_out(bench: Bench) -> None:
    sections = {title: list(map(bench.result, found)) for title, found in SECTIONS.items()}
    assert page.PATH.read_text(encoding="utf-8") == page.render(sections, bench.version), (
        "tests/lab/run -- python -m tests.conformance --write"
    )
