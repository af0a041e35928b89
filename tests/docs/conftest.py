# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the examples of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from rack import Host

from tests.support.example_hosts import Lab, examples_machine


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with examples_machine(tmp_path_factory.getbasetemp()) as found:
        yield found


@pytest.fixture
def lab(machine: Host, tmp_path: Path) -> Iterator[Any]:
    """Makes a lab from an inventory; it ends with the test."""
    labs: List[Lab] = []

    def make(inventory: Dict[str, Any]) -> Lab:
        labs.append(Lab(machine, inventory, tmp_path))
        return labs[-1]

    yield make
    for one in labs:
        one.end()
