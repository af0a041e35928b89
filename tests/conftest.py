# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes ``ansible_collections.netops.underlay`` importable from wherever the checkout lies."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from typing import Dict, List

import pytest

from tests.support.checkout import CHECKOUT, collections_path

sys.path.insert(0, str(collections_path(CHECKOUT)))
os.environ.setdefault(
    "HYPOTHESIS_STORAGE_DIRECTORY", str(CHECKOUT / ".cache" / "hypothesis")
)  # what is made here lies there
if importlib.util.find_spec("hypothesis"):
    from hypothesis import HealthCheck, settings

    # A machine that is busy is no fault of what is tested.
    settings.register_profile(
        "any machine",
        settings.get_profile(settings.get_current_profile_name()),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("any machine")
#: Whether this is make soak; the same as in tests.support.soak, which wants hypothesis.
SOAK = bool(os.environ.get("UNDERLAY_SOAK"))
#: The lab has no browser.
collect_ignore = [] if importlib.util.find_spec("selenium") else ["report"]

# --- what takes long is for make soak -------------------------------------------------------------


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Tests marked ``soak`` are left to ``make soak``."""
    left = [] if SOAK else [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


# --- what each test took, for tests/suites --------------------------------------------------------

SUITE = os.environ.get("UNDERLAY_SUITE")
_seconds: Dict[str, float] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = round(_seconds.get(report.nodeid, 0.0) + report.duration, 3)


def pytest_sessionfinish() -> None:
    if SUITE and _seconds:
        directory = CHECKOUT / ".cache" / "times" / SUITE
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{time.time_ns()}.json").write_text(json.dumps(_seconds))
