# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The cells of a table with their places, whatever kind of file it was.

A spreadsheet counts columns, a text editor counts characters: a cell of a CSV file has the number of its column, a
value in a YAML file the place of its first character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Set, Tuple

#: What separates several values in one cell: blanks, commas or semicolons.
_SEPARATORS = re.compile(r"[\s,;]+")
_LAST_PART = re.compile(r"(^|\.|\[)[^.\[]*$")


class Place(NamedTuple):
    """The place of a cell; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, column {self.column}"


class Fault(NamedTuple):
    """Something wrong with a cell, a row or a file."""

    place: Place
    column: str  # the name of the column; "" for a whole row or file
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.place} ({self.column})" if self.column else str(self.place)
        return f"{where}: {self.message}; {self.fix}"


@dataclass
class Row:
    """The cells of one row, by the names of our columns. Empty cells are left out."""

    place: Place
    cells: Dict[str, Any] = field(default_factory=dict)
    places: Dict[str, Place] = field(
        default_factory=dict
    )  # "subnets", and in YAML "subnets[1]" or "reservations.printer"
    bad: Set[str] = field(default_factory=set)  # columns of which a fault tells already
    others: Dict[str, Any] = field(default_factory=dict)  # cells of headings that are no column of ours, for filters

    def find(self, path: str) -> Place:
        """The place of a cell or of a part of it, or else that of the row."""
        while path:
            if path in self.places:
                return self.places[path]
            path = _LAST_PART.sub("", path)
        return self.place

    def copy(self) -> Row:
        return Row(self.place, dict(self.cells), self.places, self.bad, self.others)


@dataclass
class Table:
    """The rows of one file, and what is wrong with it."""

    file: str
    rows: List[Row] = field(default_factory=list)
    faults: List[Fault] = field(default_factory=list)
    head: Dict[str, Place] = field(default_factory=dict)  # in CSV: our columns that have a heading
    headings: Set[str] = field(default_factory=set)  # every heading, normalized


def several(value: Any) -> List[Any]:
    """The values of a cell that may hold more than one; of a list, each in its position."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str):
        return [part for part in _SEPARATORS.split(value) if part]
    return [value]


def pairs(value: Any) -> Tuple[Dict[str, Any], List[str]]:
    """A cell of ``name=value`` pairs, or a mapping; and the parts that are no pair."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}, []
    found: Dict[str, Any] = {}
    bad = []
    for part in several(value):
        name, equals, item = str(part).partition("=")
        if equals and name and item and name not in found:
            found[name] = item
        else:
            bad.append(str(part))
    return found, bad
