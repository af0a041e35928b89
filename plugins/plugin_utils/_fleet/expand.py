# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""From the rows of tables as people keep them to one row a network: filtered, filled, named, VLAN ranges spread."""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from .cells import Fault, Row, Table, several
from .headings import normalized

#: Letters whose usual transcription is not their base letter.
_LETTERS = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "Ä": "Ae",
        "Ö": "Oe",
        "Ü": "Ue",
        "ß": "ss",
        "æ": "ae",
        "Æ": "Ae",
        "ø": "oe",
        "Ø": "Oe",
    }
)
#: VLAN IDs and ranges of them. No leading zero: 1,024 is a thousand and more to a spreadsheet, not VLANs 1 and 24.
_VLANS = re.compile(r"{0}(-{0})?(,{0}(-{0})?)*\Z".format("(0|[1-9][0-9]{0,3})"))
#: Columns in which {vlan} stands for the VLAN id of each network of a range.
_WITH_VLAN = ("name", "subnets", "gateways", "ranges", "reservations")
#: In the place of a VLAN id: the network is on the trunk itself.
UNTAGGED = ("untagged", "none", "-")


@dataclass(frozen=True)
class Rules:
    """What a map file says of all rows of its tables."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    fill_down: Sequence[str] = ()  # columns whose empty cells repeat the cell above
    only: Mapping[str, Any] = field(default_factory=dict)  # heading -> the value, or values, of rows that count
    name_template: Optional[str] = None  # how a name is made of the cells of a row


def expand(table: Table, rules: Rules) -> List[Row]:
    """The rows of a table, one for each network; what is wrong goes to the table's faults."""
    found: List[Row] = []
    above: Dict[str, Any] = {}
    for row in table.rows:
        for column in rules.fill_down:
            if column in row.cells:
                above[column] = row.cells[column]
            elif column in above:
                row.cells[column] = above[column]
        if not _counts(row, rules.only):
            continue
        for column, value in rules.defaults.items():
            # An internal network is on no trunk, whatever the others are on.
            if column not in row.cells and not (column in ("trunk", "vlan") and row.cells.get("internal")):
                row.cells[column] = value
        for single in _spread(row, table.faults):
            if rules.name_template is not None:
                _name(single, rules.name_template, table.faults)
            found.append(single)
    return found


def _counts(row: Row, only: Mapping[str, Any]) -> bool:
    """Whether a row is among those that the filter lets through; case does not matter."""
    for heading, wanted in only.items():
        name = normalized(heading)
        value = row.others.get(name, row.cells.get(name, ""))
        values = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        if str(value).strip().lower() not in {str(item).strip().lower() for item in values}:
            return False
    return True


def _spread(row: Row, faults: List[Fault]) -> Iterator[Row]:
    """A row for each VLAN of a cell such as ``10-20,30``."""
    vlans = row.cells.get("vlan")
    text = ",".join(map(str, several(vlans))) if vlans is not None else ""
    if not _VLANS.match(text) or text.isdigit():
        yield row
        return
    numbers: List[int] = []
    for part in several(text):
        first, _dash, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
        if len(numbers) > 4094 or int(last or first) < int(first):
            faults.append(
                Fault(
                    row.find("vlan"),
                    "vlan",
                    f"{part} is not a range of VLAN IDs",
                    "write the first, then the last, both from 1 to 4094",
                )
            )
            return
    if len(numbers) > 1 and "{vlan}" not in str(row.cells.get("name", "")):
        faults.append(
            Fault(
                row.find("name"),
                "name",
                f"{len(numbers)} VLANs would have one name",
                "write {vlan} where the VLAN ID belongs, as in net{vlan}",
            )
        )
        return
    for number in numbers:
        single = row.copy()
        single.cells["vlan"] = number
        for column in _WITH_VLAN:
            if column in single.cells:
                single.cells[column] = _with_vlan(single.cells[column], number)
        yield single


def _with_vlan(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return value.replace("{vlan}", str(number))
    if isinstance(value, list):
        return [_with_vlan(item, number) for item in value]
    return value


def slug(text: str) -> str:
    """A name of the letters that every system takes: ``Büro Süd`` is ``buero-sued``."""
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_.]+", "-", plain.lower()).strip("-.")


def _name(row: Row, template: str, faults: List[Fault]) -> None:
    """Make the name of a row by a template such as ``{site}-{name}``."""
    values = {**row.others, **row.cells}
    parts = []
    for before, column, _format, _conversion in string.Formatter().parse(template):
        parts.append(before)
        if column is not None:
            value = values.get(column, values.get(normalized(column)))
            if value in (None, ""):
                faults.append(
                    Fault(
                        row.find(column),
                        column,
                        f"is empty, and the name template {template} needs it",
                        "fill it in",
                    )
                )
                row.cells["name"] = slug(str(row.cells.get("name", "unnamed")))
                return
            parts.append(str(value))
    row.cells["name"] = slug("".join(parts))
