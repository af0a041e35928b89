# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is tried: ``make test`` takes a sample, the same each time, and ``make soak`` all of it, with new seeds."""

from __future__ import annotations

import os
from typing import List, Sequence, TypeVar

from hypothesis import Phase, settings

Case = TypeVar("Case")

#: Whether this is ``make soak``.
SOAK = bool(os.environ.get("UNDERLAY_SOAK"))


def examples(sample: int, soak: int) -> settings:
    """How many inputs a property is tried with. What ``make soak`` finds it prints, as code to repeat it."""
    return settings(
        deadline=None,
        derandomize=not SOAK,
        database=None,
        print_blob=True,
        max_examples=soak if SOAK else sample,
        phases=(Phase.explicit, Phase.generate),
    )


def some(cases: Sequence[Case], every: int) -> List[Case]:
    """Each ``every``-th of the cases, the last one included; all of them in ``make soak``."""
    return list(cases) if SOAK else list(reversed(cases[::-1][::every]))
