# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""How much a result holds."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable

#: The most that a result of a module has, as JSON: AWX drops one over 700,000 bytes, and keeps every other.
BYTES = 300_000


def fitting(result: Dict[str, Any], parts: Iterable[str]) -> Dict[str, Any]:
    """Leave the largest of these parts, and of the diff, out of a result until the rest fits, and name them in ``left_out``."""
    sizes = {key: len(json.dumps({key: value}, default=str)) for key, value in result.items()}
    total = sum(sizes.values())
    for size, key in sorted(((sizes[key], key) for key in (*parts, "diff") if key in result), reverse=True):
        if total <= BYTES:
            break
        del result[key]
        result.setdefault("left_out", []).append(key)
        total -= size
    return result
