# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Tables as NetOps hand them over, CSV or YAML, as cells that know where they stand.

A spreadsheet counts columns, a text editor counts characters: a cell of a CSV file has the number of its column, a
value in a YAML file the place of its first character.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

_DELIMITERS = ",;\t"
#: What stands in one cell where there are several: blanks, commas or semicolons between them.
_BETWEEN = re.compile(r"[\s,;]+")


class Place(NamedTuple):
    """Where something stands; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, column {self.column}"


class Fault(NamedTuple):
    """Something wrong with a cell."""

    place: Place
    column: str  # the name of the column; "" for a whole row or file
    what: str
    cure: str

    def __str__(self) -> str:
        where = f"{self.place} ({self.column})" if self.column else str(self.place)
        return f"{where}: {self.what}; {self.cure}"


@dataclass
class Row:
    """The cells of one network, by the names of our columns. Empty cells are left out."""

    place: Place
    cells: Dict[str, Any] = field(default_factory=dict)
    places: Dict[str, Place] = field(default_factory=dict)  # "subnets", and in YAML "subnets[1]" or "reservations.printer"

    def find(self, path: str) -> Place:
        """The place of a cell or of a part of it; that of the row, where there is none."""
        while path:
            if path in self.places:
                return self.places[path]
            path = re.sub(r"(^|\.|\[)[^.\[]*$", "", path)
        return self.place


@dataclass
class Table:
    rows: List[Row] = field(default_factory=list)
    faults: List[Fault] = field(default_factory=list)


def several(value: Any) -> List[Any]:
    """The values of a cell that may hold more than one; of a list, each in its position."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str):
        return [part for part in _BETWEEN.split(value) if part]
    return [value]


def pairs(value: Any) -> Tuple[Dict[str, Any], List[str]]:
    """A cell of ``name=value`` pairs, or a mapping; and what is no pair."""
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


def read(text: str, file: str, names: Mapping[str, Optional[str]]) -> Table:
    """The rows of a table. ``names`` leads from the headings in the file to our columns, or to None for those to ignore."""
    if file.rpartition(".")[2].lower() in ("yml", "yaml", "json"):
        return _yaml(text, file, names)
    return _csv(text, file, names)


# --- CSV -----------------------------------------------------------------------------------------


def _csv(text: str, file: str, names: Mapping[str, Optional[str]]) -> Table:
    table = Table()
    records = _records(text, file, table)
    head = next(records, None)
    if head is None:
        table.faults.append(Fault(Place(file, 1, 1), "", "the file is empty", "its first line names the columns"))
        return table
    columns = [names.get(heading.strip(), heading.strip().lower().replace(" ", "_")) for heading in head[1]]
    for position, column in enumerate(columns):
        if column is not None and column in columns[:position]:
            what = "stands in two columns" if column else "a column has no name"
            table.faults.append(Fault(Place(file, head[0], position + 1), column, what, "give each column a name of its own"))
    for line, values in records:
        row = Row(Place(file, line, 1))
        for position, value in enumerate(values):
            place = Place(file, line, position + 1)
            value = value.strip()
            if position >= len(columns):
                if value:
                    table.faults.append(Fault(place, "", f"{value!r} has no column", "quote a cell that holds the delimiter"))
            elif columns[position] is not None and value:
                row.cells[str(columns[position])] = value
                row.places[str(columns[position])] = place
            elif columns[position] is not None:
                row.places[str(columns[position])] = place
        table.rows.append(row)
    return table


def _records(text: str, file: str, table: Table) -> Iterator[Tuple[int, List[str]]]:
    """The records of a CSV file, each with its first line; blank ones and comments are passed over."""
    text = text.lstrip("\ufeff")
    head = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=head.count), strict=True)
    last = 0
    try:
        for values in reader:
            if any(value.strip() for value in values) and not values[0].startswith("#"):
                yield last + 1, values
            last = reader.line_num
    except csv.Error as error:
        table.faults.append(Fault(Place(file, last + 1, 1), "", f"the line is no CSV ({error})", "look for a quote too many"))


# --- YAML ----------------------------------------------------------------------------------------


def _yaml(text: str, file: str, names: Mapping[str, Optional[str]]) -> Table:
    table = Table()
    try:
        document = Document(text, file)
    except yaml.YAMLError as error:
        table.faults.append(unreadable(error, file))
        return table
    root = document.root
    if not isinstance(root, yaml.SequenceNode):
        place = document.place(root) if root is not None else Place(file, 1, 1)
        table.faults.append(Fault(place, "", "the file is not a list of rows", "write one network an item, each with '- '"))
        return table
    for node in root.value:
        row = Row(document.place(node))
        if not isinstance(node, yaml.MappingNode):
            table.faults.append(Fault(row.place, "", "the row is not a mapping", "write it as column: value"))
            continue
        for key, value in node.value:
            heading = str(key.value)
            name = names.get(heading, heading)
            if name is None:
                continue
            if name in row.places:
                table.faults.append(Fault(document.place(key), name, "stands twice in the row", "give it once"))
                continue
            row.places[name] = document.place(value)
            found = document.value(value, name, row.places, table.faults)
            if found not in (None, "", [], {}):
                row.cells[name] = found
        table.rows.append(row)
    return table


class Document:
    """A YAML document as nodes, which know their places. Raises yaml.YAMLError."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._loader = _Loader(text)
        try:
            self.root: Optional[yaml.Node] = self._loader.get_single_node()
        finally:
            self._loader.dispose()

    def place(self, node: yaml.Node) -> Place:
        return Place(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def value(self, node: yaml.Node, path: str, places: Dict[str, Place], faults: List[Fault]) -> Any:
        """What a node means; the places of its parts go to ``places``."""
        if isinstance(node, yaml.SequenceNode):
            found = []
            for position, item in enumerate(node.value):
                places[f"{path}[{position}]"] = self.place(item)
                found.append(self.value(item, f"{path}[{position}]", places, faults))
            return found
        if isinstance(node, yaml.MappingNode):
            mapping: Dict[Any, Any] = {}
            for key, item in node.value:
                name = str(key.value)
                if name in mapping:
                    faults.append(Fault(self.place(key), path, f"{name} stands twice", "give it once"))
                places[f"{path}.{name}"] = self.place(item)
                mapping[name] = self.value(item, f"{path}.{name}", places, faults)
            return mapping
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            faults.append(Fault(self.place(node), path, f"{node.value!r} is no plain value", "write a text or a number"))
            return None


def unreadable(error: yaml.YAMLError, file: str) -> Fault:
    """A document that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    place = Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    return Fault(place, "", f"the file is no YAML ({said})", "look at the indentation, and quote what holds ': '")
