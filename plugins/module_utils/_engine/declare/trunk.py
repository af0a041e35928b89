# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A logical trunk of a map: which NIC it is."""

from __future__ import annotations

from typing import Any, Dict, List, cast

from ..core.errors import Problem
from ..core.link_specs import TrunkSpec
from . import fields

OPTIONS = {"name": fields.link_name, "match": lambda value: value}
MATCH_OPTIONS: Dict[str, fields.Parser] = {"mac": fields.mac, "pci": str, "altname": fields.link_name}


def build(row: Any, path: str, problems: List[Problem]) -> TrunkSpec:
    """A logical trunk: the name of a NIC, or what to know it by."""
    if isinstance(row, str):
        row = {"name": row}
    spec = fields.items(row, OPTIONS, path, problems)
    if len(spec) != 1:
        problems.append(
            Problem(path, "needs exactly one of name and match", "give the NIC's name, or match: {mac: ...}")
        )
    if "match" in spec:
        before = len(problems)
        by = fields.items(spec["match"], MATCH_OPTIONS, f"{path}.match", problems)
        if len(by) != 1 and len(problems) == before:
            problems.append(Problem(f"{path}.match", "needs exactly one of " + ", ".join(MATCH_OPTIONS), "give one"))
        spec["match"] = by
    return cast(TrunkSpec, spec)
