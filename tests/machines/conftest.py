# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays against hosts that are whole machines: tests/lab/run --rack -- python -m pytest tests/machines"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rack import KERNEL, Host, Rack

from tests.support.machines import prepare

collect_ignore = [] if KERNEL.is_dir() else ["test_reboot.py", "test_guard.py", "test_rollout.py"]


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One prepared host, where a module does not boot others."""
    with Rack([Host("h1")]) as rack:
        prepare(rack)
        yield rack
