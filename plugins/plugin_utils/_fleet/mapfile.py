# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""A map file: its settings, and all of its tables together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Dict, List, Mapping, Optional, Tuple

import yaml

from . import csv_table, endpoint_table, ledger, rows, segments, yaml_table
from .cells import Fault, Place, Row, Table
from .columns import COLUMNS
from .expand import Rules, expand
from .headings import SYNONYMS, Headings

_YAML = (".yml", ".yaml", ".json")


@dataclass
class Texts:
    """The files of a map by their names, as people write them."""

    maps: Dict[str, str]
    endpoints: Dict[str, str] = field(default_factory=dict)
    ledger: Optional[Tuple[str, str]] = None  # its name and text


@dataclass
class Settings:
    """What a map file says."""

    file: str
    text: str = ""
    columns: Mapping[str, Optional[str]] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    form: csv_table.CsvFormat = field(default_factory=csv_table.CsvFormat)
    rows_at: Optional[str] = None
    allow_empty: bool = False

    def place(self, option: str, key: str = "") -> Place:
        """The place of an option of the map file, or of a key below it."""
        try:
            document = yaml_table.Document(self.text, self.file)
        except yaml.YAMLError:
            return Place(self.file, 1, 1)
        node = document.root
        place = Place(self.file, 1, 1)
        for name in (option, key):
            if not name or not isinstance(node, yaml.MappingNode):
                break
            pair = next((pair for pair in node.value if str(pair[0].value) == name), None)
            if pair is None:
                break
            place, node = document.place(pair[0]), pair[1]
        return place


@dataclass
class Result:
    """The good rows of a map, its ledger, and everything that is wrong."""

    map: rows.Map
    endpoints: List[endpoint_table.Endpoint]
    ledger: Optional[ledger.Ledger]

    @property
    def faults(self) -> List[Fault]:
        return self.map.faults


def parse(settings: Settings, texts: Texts) -> Result:
    """The map and the ledger of a map file, or everything that is wrong with them."""
    faults = _settings(settings)
    known = {heading: column if column in COLUMNS else None for heading, column in settings.columns.items()}
    headings = Headings(COLUMNS, known, tuple(settings.rules.only), SYNONYMS)
    rules = _usable(settings.rules)
    found: List[Row] = []
    heads: Dict[str, Mapping[str, Place]] = {}
    tables = [read(text, name, headings, settings) for name, text in texts.maps.items()]
    unused = headings.unused() if all(table.headings for table in tables) else []
    for heading in unused:
        option = "columns" if heading in settings.columns else "only"
        faults.append(
            Fault(
                settings.place(option, heading), "", f"no table has a heading {heading}", "correct it, or leave it out"
            )
        )
    for table in tables:
        expanded = expand(table, rules)
        if not (expanded or table.faults or unused or settings.allow_empty):
            message = "no row of the table is selected" if table.rows else "the table has no rows"
            fix = f"for a map that is meant to be empty, set allow_empty: true in {settings.file}"
            table.faults.append(Fault(Place(table.file, 1, 1), "", message, fix))
        if table.head:
            heads[table.file] = table.head
        faults += table.faults
        found += expanded
    judged = rows.judge(found, heads)
    judged.faults += segments.check(judged.networks)
    given = None
    if texts.ledger is not None:
        given, wrong = ledger.read(texts.ledger[1], texts.ledger[0])
        faults += wrong
    else:
        message, fix = (
            "slices come from a ledger, and there is none",
            f"set ledger: FILE in {settings.file}, and run netops.underlay.allocate",
        )
        faults += [
            Fault(network.row.find("per_host"), "per_host", message, fix)
            for network in judged.networks
            if network.per_host
        ]
    endpoints, wrong = endpoint_table.read(
        texts.endpoints, settings.form, {network.name for network in judged.networks}
    )
    judged.faults = sorted(
        {*faults, *wrong, *judged.faults}, key=lambda fault: (fault.place, fault.column, fault.message)
    )
    return Result(judged, endpoints, given)


def read(text: str, file: str, headings: Headings, settings: Settings) -> Table:
    """The rows of one table."""
    if file.lower().endswith(_YAML):
        return yaml_table.read(text, file, headings, settings.rows_at)
    return csv_table.read(text, file, headings, settings.form)


def _usable(rules: Rules) -> Rules:
    """Without the columns that there are not, of which the faults tell."""
    return Rules(
        {column: value for column, value in rules.defaults.items() if column in COLUMNS},
        rules.fill_down,
        rules.only,
        rules.name_template,
    )


def _settings(settings: Settings) -> List[Fault]:
    known = "known are " + ", ".join(COLUMNS)
    named = [("columns", heading, column) for heading, column in settings.columns.items() if column is not None]
    named += [("defaults", column, column) for column in settings.rules.defaults]
    named += [("fill_down", "", column) for column in settings.rules.fill_down]
    found = [
        Fault(settings.place(option, key), option, f"there is no column {column}", known)
        for option, key, column in named
        if column not in COLUMNS
    ]
    delimiter = settings.form.delimiter
    if delimiter is not None and len(delimiter) != 1:
        found.append(
            Fault(
                settings.place("delimiter"),
                "delimiter",
                f"{delimiter!r} is not a single character",
                'write ";", or "\\t" for a tab',
            )
        )
    return found


def unknown_options(settings: Settings, given: Collection[str], known: Collection[str]) -> List[Fault]:
    """The options of a map file that there are not, with what was probably meant."""
    import difflib

    found = []
    for option in given:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            fix = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(known))
            found.append(Fault(settings.place(option), option, "unknown option", fix))
    return found


def decoded(data: bytes, name: str, encoding: str) -> str:
    """The text of a file. Raises ValueError with what is wrong and the fix."""
    if encoding.lower().replace("-", "") == "utf8" and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{name} is UTF-16; export it as UTF-8, or set encoding: utf-16")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not {encoding.upper()} (byte {error.start}); export it as UTF-8, or set its encoding, such as cp1252"
        ) from None
    except LookupError:
        raise ValueError(f"encoding: unknown encoding {encoding}; write utf-8, utf-16, cp1252 or iso-8859-15") from None
    if "\0" in text:
        raise ValueError(
            f"{name} has NUL bytes, so it is not {encoding.upper()}; export it as UTF-8, or set its encoding"
        )
    return text


def values(options: Mapping[str, Any]) -> Tuple[Rules, csv_table.CsvFormat]:
    """The rules and the format of the options of the inventory plugin."""
    rules = Rules(options["defaults"], options["fill_down"], options["only"], options["name_template"])
    return rules, csv_table.CsvFormat(options["delimiter"], options["comment"], options["skip_lines"])
