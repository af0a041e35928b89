# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory directory for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.inventories import Inventory


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    directory = tmp_path / "inventory"
    found = Inventory(directory)
    directory.mkdir()
    found.map.mkdir()
    return found
