# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about other systems is what was seen of them, and of the scripts as they are."""

from __future__ import annotations

import pytest

from tests.peers import page
from tests.peers.features import FEATURES, SYSTEMS, recorded, scripts


def test_the_page_is_what_was_recorded() -> None:
    assert page.PATH.read_text(encoding="utf-8") == page.render(recorded()), "make peers"


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_script_was_run_as_it_is(system: str) -> None:
    found = recorded()[system]
    assert found["version"]
    assert {name: one["ran"] for name, one in found["features"].items()} == scripts(system), f"make peers ONLY={system}"


def test_every_feature_is_tried_here_and_with_most_others() -> None:
    results = recorded()
    for feature in FEATURES:
        assert results["ours"]["features"][feature]["holds"], feature
        assert sum(feature in found["features"] for found in results.values()) >= 5, feature


def test_what_does_not_hold_says_what_was_seen() -> None:
    silent = [
        f"{system} {feature}"
        for system, found in recorded().items()
        for feature, one in found["features"].items()
        if not one["holds"] and not one["seen"]
    ]
    assert silent == []
