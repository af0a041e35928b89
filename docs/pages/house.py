# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The architecture page: the engine's packages and files as they are, drawn from left to right as they may import.

tests/unit/engine/test_packages.py holds the import rule; this page only shows the result.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path
from typing import List, NamedTuple

from . import HEAD

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE = CHECKOUT / "plugins" / "module_utils" / "_engine"
#: Each column imports only itself and what is further left.
COLUMNS = (
    ("core",),
    ("declare", "netlink", "store"),
    ("plan", "kernel"),
    ("wire", "report"),
    ("run",),
    ("dhcp",),
    ("service",),
)
PURE = ("core", "declare", "plan")

WIDTH, ROW, GAP, MARGIN = 122, 20, 14, 8


class File(NamedTuple):
    name: str
    about: str  # the first line of its docstring


class Package(NamedTuple):
    name: str
    about: str
    files: List[File]


def _about(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or " ").splitlines()[0]


def packages() -> List[Package]:
    """The packages of the engine, from left to right, each with its files."""
    return [
        Package(
            name,
            _about(ENGINE / name / "__init__.py"),
            [File(path.stem, _about(path)) for path in sorted((ENGINE / name).glob("*.py")) if path.stem != "__init__"],
        )
        for column in COLUMNS
        for name in column
    ]


def drawing(house: List[Package]) -> List[str]:
    """The house as SVG: a column a stage, a box a package, a line a file."""
    by_name = {package.name: package for package in house}
    lines: List[str] = []
    height = 0
    for number, column in enumerate(COLUMNS):
        x, y = MARGIN + number * (WIDTH + GAP), MARGIN
        for name in column:
            package = by_name[name]
            tall = ROW * (len(package.files) + 1) + 8
            style = "pure" if name in PURE else "edge"
            lines += [
                f'<g class="{style}"><title>{escape(package.about)}</title>',
                f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{tall}" rx="4"/>',
                f'<text class="package" x="{x + 8}" y="{y + 16}">{name}</text>',
            ]
            for position, file in enumerate(package.files, 1):
                at = y + 16 + position * ROW
                lines.append(f'<text x="{x + 16}" y="{at}"><title>{escape(file.about)}</title>{file.name}</text>')
            lines.append("</g>")
            y += tall + GAP
        height = max(height, y)
    width = 2 * MARGIN + len(COLUMNS) * (WIDTH + GAP) - GAP
    head = (
        '<svg class="house" role="img" aria-label="The packages of the engine, from left to right as they may import" '
        f'viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
    )
    return [head, *lines, "</svg>"]


def page() -> str:
    house = packages()
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.architecture:", "",
        "Architecture", "============", "",
        "Every change takes one path: options, model, observation of kernel and registry, plan, apply, observation, record. The",
        "restore at boot, healing, the drift report and undo use parts of the same path.", "",
        "A file imports its own package or one further left. Light packages are pure: they compute, and reach no file, socket,",
        "process or clock, however long the chain of imports. The engine imports nothing from Ansible, because the same directory",
        "is copied to the host, where it restores the configuration at boot.", "",
        ".. raw:: html", "",
        *(f"   {line}" for line in drawing(house)), "",
        "The packages", "------------", "",
    ]  # fmt: skip
    for package in house:
        lines += [f"``{package.name}``", "~" * (len(package.name) + 4), "", package.about, ""]
        lines += [".. list-table::", "   :widths: 20 80", ""]
        for file in package.files:
            lines += [f"   * - ``{file.name}.py``", f"     - {file.about}"]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"
