# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Tables in YAML or JSON, also as an API answers them."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import yaml

from .cells import Fault, Place, Row, Table
from .headings import Headings, normalized

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: the same, slower
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]


#: How deep values are in values, and how many an alias may make of those that are written down.
_DEEPEST, _REPEATED = 50, 100_000
_MERGE = "tag:yaml.org,2002:merge"


class Unusable(yaml.MarkedYAMLError):
    """A document that is YAML, and no table: ``note`` is the fix."""


class Document:
    """A YAML document as nodes, which know their places; keys that ``<<`` merges are in place. Raises yaml.YAMLError."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self._loader = _Loader(text)
        try:
            self.root: Optional[yaml.Node] = self._loader.get_single_node()
            if self.root is not None:
                _finished(self.root)
        except RecursionError:
            raise Unusable(problem="values are nested too deeply", note="write rows of plain values") from None
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
            found = self._loader.construct_object(node)
            if isinstance(found, int) and not isinstance(found, bool) and str(found) != node.value:
                faults.append(
                    Fault(self.place(node), path, f"{node.value} is {found} in YAML", f"write {found}, or quote it")
                )
            return found
        except (yaml.YAMLError, ValueError):
            faults.append(
                Fault(self.place(node), path, f"{node.value!r} is not a plain value", "write a string or a number")
            )
            return None


def _finished(root: yaml.Node) -> None:
    """Merge what ``<<`` names. Raises Unusable for values in themselves, and for more of them than any table has."""
    sizes: Dict[int, int] = {}  # of nodes that are done, with all that is in them
    around: Set[int] = set()  # those that are being looked at
    stack: List[Tuple[yaml.Node, Iterator[yaml.Node]]] = [(root, iter(_inside(root)))]
    around.add(id(root))
    while stack:
        node, rest = stack[-1]
        part = next(rest, None)
        if part is None:
            stack.pop()
            around.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(one)] for one in _inside(node))
            if isinstance(node, yaml.MappingNode):
                _merge(node)
        elif id(part) in around:
            raise Unusable(problem="a value contains itself", problem_mark=part.start_mark, note="write it out")
        elif id(part) not in sizes:
            stack.append((part, iter(_inside(part))))
            around.add(id(part))
            if len(stack) > _DEEPEST:
                raise Unusable(
                    problem=f"values are nested more than {_DEEPEST} deep", problem_mark=part.start_mark,
                    note="write rows of plain values",
                )  # fmt: skip
    if sizes[id(root)] > _REPEATED + 10 * len(sizes):
        raise Unusable(
            problem=f"its aliases make {sizes[id(root)]} values of {len(sizes)}", problem_mark=root.start_mark,
            note="write the rows out",
        )  # fmt: skip


def _inside(node: yaml.Node) -> List[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _merge(node: yaml.MappingNode) -> None:
    """The keys that ``<<`` names, where the mapping has none of its own; of several mappings the first one's."""
    own = [pair for pair in node.value if pair[0].tag != _MERGE]
    if len(own) == len(node.value):
        return
    known = {str(key.value) for key, _value in own}
    more = []
    for key, value in node.value:
        for source in (value.value if isinstance(value, yaml.SequenceNode) else [value]) if key.tag == _MERGE else ():
            if not isinstance(source, yaml.MappingNode):
                raise Unusable(
                    problem="<< names no mapping", problem_mark=key.start_mark, note="write <<: *NAME, of a row &NAME"
                )
            new = [pair for pair in source.value if str(pair[0].value) not in known]
            known |= {str(name.value) for name, _value in new}
            more += new
    node.value = [*more, *own]


def unreadable(error: yaml.YAMLError, file: str) -> Fault:
    """A document that is no YAML, or no table."""
    mark = getattr(error, "problem_mark", None)
    place = Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file, 1, 1)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    if isinstance(error, Unusable):
        return Fault(place, "", said, error.note or "")
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
            if column is None and not (normalized(heading) or "*" in headings.given):
                raise KeyError(heading)
        except KeyError:
            unknown.setdefault(heading, document.place(key))
            continue
        if column is None:
            row.others[normalized(heading)] = document.value(value, heading, {}, [])
        elif column in row.places:
            table.faults.append(Fault(document.place(key), column, "appears twice in the row", "give it once"))
        else:
            row.places[column] = document.place(value)
            known = len(table.faults)
            found = document.value(value, column, row.places, table.faults)
            if len(table.faults) > known:
                row.bad.add(column)
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
