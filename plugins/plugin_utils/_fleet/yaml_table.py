# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Tables in YAML or JSON, also as an API answers them."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import yaml

from .cells import Fault, Place, Row, Table
from .headings import Headings, normalized

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


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
                    faults.append(Fault(self.place(key), path, f"{name} appears twice", "give it once"))
                places[f"{path}.{name}"] = self.place(item)
                mapping[name] = self.value(item, f"{path}.{name}", places, faults)
            return mapping
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            faults.append(
                Fault(self.place(node), path, f"{node.value!r} is not a plain value", "write a string or a number")
            )
            return None


def unreadable(error: yaml.YAMLError, file: str) -> Fault:
    """A document that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    place = Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    return Fault(
        place, "", f"the file is not valid YAML ({said})", "check the indentation, and quote values that contain ': '"
    )


def read(text: str, file: str, headings: Headings, rows_at: Optional[str] = None) -> Table:
    """The rows of a YAML or JSON file; ``rows_at`` is the key that has them, where the file is a mapping."""
    table = Table(file)
    try:
        document = Document(text, file)
    except yaml.YAMLError as error:
        table.faults.append(unreadable(error, file))
        return table
    unknown: Dict[str, Place] = {}
    for node in _rows(document, rows_at, table):
        row = Row(document.place(node))
        if isinstance(node, yaml.MappingNode):
            _cells(node, row, document, headings, table, unknown)
            table.rows.append(row)
        else:
            table.faults.append(Fault(row.place, "", "the row is not a mapping", "write it as column: value"))
    table.faults += [
        Fault(place, heading, "unknown column", headings.fix(heading)) for heading, place in unknown.items()
    ]
    return table


def _rows(document: Document, rows_at: Optional[str], table: Table) -> List[yaml.Node]:
    node = document.root
    for key in rows_at.split(".") if rows_at else ():
        there = {str(name.value): value for name, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        if key not in there:
            place = document.place(node) if node is not None else Place(table.file, 1, 1)
            table.faults.append(
                Fault(place, "", f"there is no {key}, of rows_at: {rows_at}", "name the key that has the list of rows")
            )
            return []
        node = there[key]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    place = document.place(node) if node is not None else Place(table.file, 1, 1)
    table.faults.append(
        Fault(
            place,
            "",
            "the file is not a list of rows",
            "write one network an item, each with '- ', or set rows_at: KEY",
        )
    )
    return []


def _cells(
    node: yaml.MappingNode, row: Row, document: Document, headings: Headings, table: Table, unknown: Dict[str, Place]
) -> None:
    """The cells of one row. An unknown key is said once, at its first place."""
    outer = {heading.partition(".")[0] for heading in headings.nested()}  # what is inside of these is named by itself
    for heading, key, value in [*_pairs(node), *_nested(node, headings)]:
        table.headings.add(normalized(heading))
        if heading in outer:
            continue
        try:
            column = headings.column(heading)
        except KeyError:
            unknown.setdefault(heading, document.place(key))
            continue
        if column is None:
            row.others[normalized(heading)] = document.value(value, heading, {}, [])
        elif column in row.places:
            table.faults.append(Fault(document.place(key), column, "appears twice in the row", "give it once"))
        else:
            row.places[column] = document.place(value)
            found = document.value(value, column, row.places, table.faults)
            if found not in (None, "", [], {}):
                row.cells[column] = found


def _pairs(node: yaml.MappingNode) -> List[Tuple[str, yaml.Node, yaml.Node]]:
    return [(str(key.value), key, value) for key, value in node.value]


def _nested(node: yaml.MappingNode, headings: Headings) -> List[Tuple[str, yaml.Node, yaml.Node]]:
    """The values inside of values that the headings name, such as ``vlan.vid`` of an API's answer."""
    found = []
    for heading in headings.nested():
        here: Any = node
        key: Any = node
        for part in heading.split("."):
            there = (
                {str(name.value): (name, value) for name, value in here.value}
                if isinstance(here, yaml.MappingNode)
                else {}
            )
            if part not in there:
                break
            key, here = there[part]
        else:
            found.append((heading, key, here))
    return found
