# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""All files of a map together: headings translated, gaps filled, rows judged beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import cells, ledger, rows
from .cells import Fault, Place

#: The group of all hosts that the map is for, and the variables that it has.
GROUP = "netops_map"
ROWS = "netops_map_rows"
FAULTS = "netops_map_faults"
LEDGER = "netops_ledger"
LEDGER_FILE = "netops_ledger_file"
ENDPOINTS = "netops_endpoints"


@dataclass
class Source:
    """What a configuration says, with the texts of its files by their names as people write them."""

    file: str
    maps: Dict[str, str]
    columns: Mapping[str, Optional[str]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ledger: Optional[Tuple[str, str]] = None  # its name and text


@dataclass
class Result:
    map: rows.Map
    ledger: Optional[ledger.Ledger]

    @property
    def faults(self) -> List[Fault]:
        return self.map.faults


def parse(source: Source) -> Result:
    """The map and the ledger of a configuration, or everything that is wrong with them."""
    faults = _settings(source)
    found: List[cells.Row] = []
    columns = {heading: column if column in rows.COLUMNS else None for heading, column in source.columns.items()}
    defaults = {column: value for column, value in source.defaults.items() if column in rows.COLUMNS}
    for name, text in source.maps.items():
        table = cells.read(text, name, columns)
        faults += table.faults
        found += table.rows
    for row in found:
        for column, value in defaults.items():
            # An internal network is on no trunk, whatever the others are on.
            if column not in row.cells and not (column in ("trunk", "vlan") and row.cells.get("internal")):
                row.cells[column] = value
    judged = rows.judge(found)
    given = None
    if source.ledger is not None:
        given, wrong = ledger.read(source.ledger[1], source.ledger[0])
        faults += wrong
    else:
        what, cure = "slices are given by a ledger, and there is none", f"say ledger: FILE in {source.file}, and run netops.underlay.allocate"
        faults += [Fault(network.row.find("per_host"), "per_host", what, cure) for network in judged.networks if network.per_host]
    judged.faults = sorted({*faults, *judged.faults}, key=lambda fault: (fault.place, fault.column, fault.what))
    return Result(judged, given)


def _settings(source: Source) -> List[Fault]:
    known = "known are " + ", ".join(rows.COLUMNS)
    start = Place(source.file, 1, 1)
    named = [("columns", column) for column in source.columns.values() if column is not None] + [("defaults", column) for column in source.defaults]
    return [Fault(start, option, f"there is no column {column}", known) for option, column in named if column not in rows.COLUMNS]
