# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Tables as spreadsheets export them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Iterator, List, Optional, Tuple

from .cells import Fault, Place, Row, Table
from .headings import Headings, normalized

_DELIMITERS = ",;\t"
#: What spreadsheets write into a cell whose formula failed.
ERRORS = frozenset(
    (
        "#REF!",
        "#N/A",
        "#NAME?",
        "#VALUE!",
        "#DIV/0!",
        "#NULL!",
        "#NUM!",
        "#SPILL!",
        "#CALC!",
        "#BEZUG!",
        "#NV",
        "#WERT!",
    )
)


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written. Without a delimiter it is the one of comma, semicolon and tab that the headings have."""

    delimiter: Optional[str] = None
    comment: Optional[str] = None  # lines that begin with it are passed over
    skip_lines: int = 0  # title lines above the headings


def read(text: str, file: str, headings: Headings, form: CsvFormat) -> Table:
    """The rows of a CSV file."""
    table = Table(file)
    records = _records(text, table, form)
    head = next(records, None)
    if head is None:
        if not table.faults:
            table.faults.append(Fault(Place(file, 1, 1), "", "the file is empty", "its first line names the columns"))
        return table
    columns = _head(head[0], head[1], headings, table)
    names = [normalized(heading) for heading in head[1]]
    unnamed = False
    values: List[str] = head[1]
    for line, values in records:
        row = Row(Place(file, line, 1))
        for position, value in enumerate(values):
            value = value.strip()
            place = Place(file, line, position + 1)
            column = columns[position] if position < len(columns) else None
            if value in ERRORS:
                row.bad.add(column or "")
                message, fix = f"this cell has {value}", "correct the formula and export the table again"
                table.faults.append(Fault(place, column or "", message, fix))
                continue
            if position >= len(columns) or not names[position]:
                if value and not unnamed:
                    unnamed = True  # said once: such a column has a value in every line
                    table.faults.append(
                        Fault(
                            place,
                            "",
                            f"{value!r} has no column",
                            "give the column a heading, or quote a cell that holds the delimiter",
                        )
                    )
                continue
            if column is None:
                row.others[names[position]] = value
                continue
            row.places[column] = place
            if value:
                row.cells[column] = value
        table.rows.append(row)
    _whole(text, values, names, table)
    return table


def _whole(text: str, last: List[str], names: List[str], table: Table) -> None:
    """A download that broke off ends in a row without its last cells: they are not empty, they are unknown."""
    if len(last) < len(names) and not text.endswith(("\n", "\r")):
        message = f"the file ends in the middle of a row, after {len(last)} of {len(names)} cells"
        fix = "export the table again; if the row is whole, end its line"
        table.faults.append(Fault(table.rows[-1].place, "", message, fix))


def _head(line: int, values: List[str], headings: Headings, table: Table) -> List[Optional[str]]:
    """The columns that the headings mean; what is wrong with a heading is said once, there."""
    columns: List[Optional[str]] = []
    for position, heading in enumerate(values):
        place = Place(table.file, line, position + 1)
        table.headings.add(normalized(heading))
        try:
            column = headings.column(heading)
        except KeyError:
            table.faults.append(Fault(place, heading.strip(), "unknown column", headings.fix(heading.strip())))
            column = None
        if column is not None and column in columns:
            table.faults.append(Fault(place, column, "appears in two columns", "give each column its own name"))
            column = None
        elif column is not None:
            table.head[column] = place
        columns.append(column)
    return columns


def _records(text: str, table: Table, form: CsvFormat) -> Iterator[Tuple[int, List[str]]]:
    """The records of a CSV file, each with its first line; blank ones, titles and comments are passed over."""
    lines = text.lstrip("\ufeff").splitlines(keepends=True)
    body = lines[form.skip_lines :]
    head = next((line for line in body if line.strip() and not (form.comment and line.startswith(form.comment))), "")
    delimiter = form.delimiter or max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO("".join(body), newline=""), delimiter=delimiter, strict=True)
    last = form.skip_lines
    try:
        for values in reader:
            if any(value.strip() for value in values) and not (form.comment and values[0].startswith(form.comment)):
                yield last + 1, values
            last = form.skip_lines + reader.line_num
    except csv.Error as error:
        table.faults.append(
            Fault(Place(table.file, last + 1, 1), "", f"the line is not valid CSV ({error})", "look for an extra quote")
        )
