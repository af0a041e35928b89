# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What spreadsheets, editors, merges and broken downloads make of a table: refused with its place and a fix, or taken as meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import pytest
from ansible_collections.netops.underlay.plugins.plugin_utils import _files
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import mapfile, rows

HEAD = "vlan,name,trunk,driver,mode,subnets,gateways,mtu\n"
ROW = "10,web,a,macvlan,bridge,10.0.10.0/24,10.0.10.1,1500\n"
GOOD = HEAD + ROW
YAML = "- {vlan: 10, name: web, trunk: a, driver: macvlan, subnets: 10.0.10.0/24}\n"
LAUGHS = "- &a {x: [1,2,3,4,5,6,7,8,9]}\n" + "".join(
    f"- &{new} {{x: [{','.join(['*' + old] * 9)}]}}\n" for old, new in zip("abcdefg", "bcdefgh")
)


def parsed(text: str, file: str) -> rows.Map:
    return mapfile.parse(mapfile.Settings("netops_map.yml"), mapfile.Texts({file: text})).map


def sliced(cell: str) -> str:
    return GOOD.replace("mode", "per_host").replace("bridge", cell)


def vlan(cell: str) -> str:
    return GOOD.replace("10,web", f"{cell},n{{vlan}}")


def mtu(cell: str) -> str:
    return GOOD.replace("1500", cell)


def name(cell: str) -> str:
    return GOOD.replace("web", cell)


TAKEN = {
    "a byte order mark": "\ufeff" + GOOD,
    "line ends of Windows": GOOD.replace("\n", "\r\n"),
    "line ends of an old Mac": GOOD.replace("\n", "\r"),
    "semicolons": GOOD.replace(",", ";"),
    "tabs": GOOD.replace(",", "\t"),
    "blanks around cells": GOOD.replace(",", " , ").replace("\n", " \n"),
    "blanks that do not break": GOOD.replace("web", "\u00a0web\u00a0"),
    "a heading with one": GOOD.replace("gateways", "Default\u00a0gateway"),
    "a heading in wide letters": GOOD.replace("vlan", "\uff36\uff2c\uff21\uff2e", 1),
    "nothing after the last cell": GOOD.rstrip("\n"),
    "Excel's row without the last cells": HEAD + ROW.replace(",1500", "") + "\n",
    "quoted cells": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in GOOD.splitlines()),
}


@pytest.mark.parametrize("what", TAKEN)
def test_taken_as_meant(what: str) -> None:
    found = parsed(TAKEN[what], "a.csv")
    assert found.faults == []
    (network,) = found.networks
    assert (network.name, network.vlan, network.trunk) == ("web", 10, "a")
    assert network.options["subnets"] == [{"subnet": "10.0.10.0/24", "gateway": "10.0.10.1"}]


REFUSED = [
    ("", "line 1, column 1: the file is empty"),
    ("\n,,,\n\n", "line 1, column 1: the file is empty"),
    ("<!DOCTYPE html>\n<html>Sign in</html>\n", "line 1, column 1 (<!DOCTYPE html>): unknown column"),
    ("sep=,\n" + GOOD, "line 1, column 1 (sep=): unknown column"),
    (GOOD.replace(",", "|"), "line 1, column 1 (vlan|name"),
    (GOOD.replace("mode", "Name"), "line 1, column 5 (name): appears in two columns"),
    (GOOD.replace("mode", "VID"), "line 1, column 5 (vlan): appears in two columns"),
    (GOOD + HEAD.replace("gateways", "Router"), "line 3, column 1 (vlan): 'vlan' is not a whole number"),
    (HEAD + "<<<<<<< HEAD\n" + ROW, "line 2, column 1 (vlan): '<<<<<<< HEAD' is not a whole number"),
    (GOOD + "Total,1,,,,,,\n", "line 3, column 1 (vlan): 'Total' is not a whole number"),
    (GOOD + "\x1a", "line 3, column 1 (vlan): '\\x1a' is not a whole number"),
    (GOOD.replace("\n", ",x\n").replace(",x", "", 1), "line 2, column 9: 'x' has no column"),
    (GOOD + "11,app,a,macvlan,bridge,10.0.11.0/24",
     "line 3, column 1: the file ends in the middle of a row, after 6 of 8 cells; export the table again; if the row is whole, end its line"),
    (HEAD + '10,"web,a,macvlan\n', "line 2, column 1: the line is not valid CSV"),
    (name('"we\nb"'), "line 2, column 2 (name): 'we\\nb' is not a usable name"),
    (name("we\u200bb"), "line 2, column 2 (name): 'we\\u200bb' is not a usable name"),
    (name("\u201cweb\u201d"), "line 2, column 2 (name): '\u201cweb\u201d' is not a usable name"),
    (name("=A1+1"), "line 2, column 2 (name): '=A1+1' is not a usable name"),
    (name("1E+03"), "line 2, column 2 (name): '1E+03' is not a usable name"),
    (name("#REF!"), "line 2, column 2 (name): this cell has #REF!; correct the formula"),
    (name("w" * 200_000), "line 2, column 1: the line is not valid CSV (field larger"),
    (vlan("=A1+1"), "(vlan): '=A1+1' is not a whole number"),
    (vlan("10.0"), "(vlan): '10.0' is not a whole number"),
    (vlan("1E+03"), "(vlan): '1E+03' is not a whole number"),
    (vlan("TRUE"), "(vlan): 'TRUE' is not a whole number"),
    (vlan("12-Oct"), "(vlan): '12-Oct' is not a whole number"),
    (vlan("2026-10-12"), "(vlan): '2026-10-12' is not a whole number"),
    (vlan("10\u201312"), "(vlan): '10\u201312' is not a whole number"),
    (vlan("\uff11\uff10"), "(vlan): '\uff11\uff10' is not a whole number from 1 to 4094; write it as 10"),
    (vlan("\uff11\uff10-\uff11\uff12"), "(vlan): '\uff11\uff10-\uff11\uff12' is not a whole number"),
    (vlan("1\u00b2"), "(vlan): '1\u00b2' is not a whole number"),
    (vlan("'10"), "(vlan): \"'10\" is not a whole number"),
    (vlan('"1,024"'), "(vlan): '1,024' is not a whole number"),
    (vlan("1'024"), "(vlan): \"1'024\" is not a whole number"),
    (vlan("20-10"), "(vlan): 20-10 is not a range of VLAN IDs"),
    (vlan("1-999999999999"), "(vlan): '1-999999999999' is not a whole number"),
    (vlan("9" * 5000), "(vlan): '99999"),
    (mtu('"1,500"'), "column 8 (mtu): '1,500' is not a whole number"),
    (mtu("1\u00a0500"), "column 8 (mtu): '1\\xa0500' is not a whole number"),
    (mtu("\u22121500"), "column 8 (mtu): '\u22121500' is not a whole number"),
    (mtu("####"), "column 8 (mtu): '####' is not a whole number"),
    (mtu("9" * 5000), "column 8 (mtu): '99999"),
    (sliced("\u00b27"), "column 5 (per_host): '\u00b27' is not a whole number"),
    (sliced("9" * 5000), "column 5 (per_host): '99999"),
    (GOOD.replace("/24", "/\u00b24"), "column 6 (subnets): '10.0.10.0/\u00b24' is not a subnet"),
    (GOOD.replace("10.0.10.0/24", "10.10.2024"), "column 6 (subnets): '10.10.2024' is not a subnet"),
    (GOOD.replace("10.0.10.1", "010.000.010.001"), "column 7 (gateways): '010.000.010.001' is not an IP address"),
]  # fmt: skip
REFUSED_YAML = [
    ("-\tname: web\n\tvlan: 10\n", "line 1, column 2: the file is not valid YAML"),
    (YAML + "---\n" + YAML, "line 2, column 1: the file is not valid YAML"),
    (YAML.replace("{", "{vlan: 11, "), "line 1, column 14 (vlan): appears twice in the row"),
    (YAML.replace("{", "{VID: 11, "), "line 1, column 13 (vlan): appears twice in the row"),
    (YAML.replace("{", "{\u540d\u524d: x, "), "line 1, column 4 (\u540d\u524d): unknown column"),
    (YAML.replace("{", "{'***': x, "), "line 1, column 4 (***): unknown column"),
    (YAML.replace("10,", "010,"), "line 1, column 10 (vlan): 010 is 8 in YAML; write 8, or quote it"),
    (YAML.replace("10,", "1:30,"), "line 1, column 10 (vlan): 1:30 is 90 in YAML; write 90, or quote it"),
    (YAML.replace("web", "0x10"), "line 1, column 20 (name): 0x10 is 16 in YAML; write 16, or quote it"),
    (YAML.replace("web", "no"), "line 1, column 20 (name): False is not a name"),
    (YAML.replace("web", "2026-10-12"), "line 1, column 20 (name): datetime.date(2026, 10, 12) is not a name"),
    (YAML.replace("web", "!vault x"), "line 1, column 20 (name): 'x' is not a plain value"),
    (YAML.replace("10,", "10.0,"), "line 1, column 10 (vlan): 10.0 is not a whole number"),
    (YAML.replace("10,", "9" * 5000 + ","), "line 1, column 10 (vlan): '99999"),
    ("- *x\n", "line 1, column 3: the file is not valid YAML (found undefined alias)"),
    ("- {<<: a}\n", "line 1, column 4: << names no mapping; write <<: *NAME, of a row &NAME"),
    (YAML.replace("- {", "- &r {reservations: *r, "), "line 1, column 3: a value contains itself; write it out"),
    (LAUGHS, "values of 34; write the rows out"),
    (YAML.replace("10.0.10.0/24", "[" * 90 + "]" * 90), "values are nested more than 50 deep; write rows of plain values"),
    (YAML.replace("10.0.10.0/24", "[" * 5000 + "]" * 5000), "the file is not valid YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "text", "said"), [*(("a.csv", *case) for case in REFUSED), *(("a.yml", *case) for case in REFUSED_YAML)])  # fmt: skip
def test_refused_with_its_place_and_a_fix(file: str, text: str, said: str) -> None:
    faults: List[str] = [str(fault) for fault in parsed(text, file).faults]
    assert any(said in fault for fault in faults), faults
    assert all(fault.startswith(f"{file}, line ") and "; " in fault for fault in faults)


def test_a_row_that_merges_another_one() -> None:
    found = parsed(
        "- &web {vlan: 10, name: web, trunk: a, driver: macvlan, site: ams, subnets: 10.0.10.0/24}\n"
        "- {<<: *web, vlan: 11, name: app, subnets: 10.0.11.0/24}\n",
        "a.yml",
    )
    assert found.faults == []
    assert [(network.name, network.vlan, network.site) for network in found.networks] == [
        ("web", 10, "ams"),
        ("app", 11, "ams"),
    ]


def test_a_heading_without_latin_letters_is_one() -> None:
    text = GOOD.replace("name", "\u540d\u524d", 1)
    assert any("(\u540d\u524d): unknown column" in str(fault) for fault in parsed(text, "a.csv").faults)
    settings = mapfile.Settings("netops_map.yml", columns={"\u540d\u524d": "name"})
    found = mapfile.parse(settings, mapfile.Texts({"a.csv": text}))
    assert found.faults == [] and found.map.networks[0].name == "web"


@pytest.mark.parametrize("kind", ["fifo", "directory", "loop", "huge", "device"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.csv"
    make: Any = {
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "huge": lambda: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 200 << 20),
        "device": lambda: path.symlink_to("/dev/zero"),
    }
    make[kind]()
    said = {
        "fifo": "a.csv is not a regular file; ",
        "directory": "Is a directory",
        "loop": "Too many levels of symbolic links",
        "huge": "a.csv is larger than 64 MiB; ",
        "device": "a.csv is not a regular file; ",
    }
    with pytest.raises((OSError, ValueError)) as error:
        _files.read(str(path), "a.csv")
    assert said[kind] in str(error.value)
