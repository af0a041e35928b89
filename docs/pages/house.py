# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house: the files of the engine on floors, as their imports have it, and the rules that the drawing must keep."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, List, NamedTuple, Set

from . import HEAD

CHECKOUT = Path(__file__).resolve().parents[2]
ENGINE = CHECKOUT / "plugins" / "module_utils" / "_engine"
#: The rooms that must do without the world: no file, socket, clock or process.
PURE = ("model", "ipam", "plan", "rules", "derive", "addressing", "target", "fields", "names", "report", "world")
#: What reaches out of the program.
_OUTSIDE = {"os", "socket", "sqlite3", "subprocess", "ctypes", "time", "fcntl", "select", "http", "signal", "shutil", "glob", "tempfile"}

WIDTH, HEIGHT, GAP, MARGIN, LABEL = 118, 34, 10, 8, 0


class Room(NamedTuple):
    name: str
    about: str
    below: Set[str]  # rooms that it imports
    later: Set[str]  # rooms that one of its functions imports when it needs them
    outside: Set[str]  # modules of the standard library that reach out


def rooms() -> Dict[str, Room]:
    found = {}
    for path in sorted(ENGINE.glob("*.py")):
        if path.stem.startswith("__"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        below: Set[str] = set()
        later: Set[str] = set()
        outside: Set[str] = set()
        told = {part for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) for part in ast.walk(node)}
        for node in ast.walk(tree):
            if node in told:
                continue  # for the type checker alone
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                into = below if node in tree.body else later
                into |= {node.module.partition(".")[0]} if node.module else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                outside.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                outside |= {alias.name.partition(".")[0] for alias in node.names}
        about = (ast.get_docstring(tree) or " ").splitlines()[0]
        found[path.stem] = Room(path.stem, about, below - {path.stem}, later - below, outside)
    return found


def floors(house: Dict[str, Room]) -> List[List[str]]:
    """The rooms from the ground up: each imports only from floors below its own. Raises ValueError where that cannot be."""
    left = {name: room.below & house.keys() for name, room in house.items()}
    found: List[List[str]] = []
    while left:
        floor = sorted(name for name, below in left.items() if not below & left.keys())
        if not floor:
            raise ValueError("these import each other in a circle: " + ", ".join(sorted(left)))
        found.append(floor)
        for name in floor:
            del left[name]
    return found


def faults(house: Dict[str, Room]) -> List[str]:
    """What the house must not have."""
    found = [f"{room.name} imports {name}" for room in house.values() for name in sorted(room.outside) if name.startswith("ansible")]
    found += [f"{name} is pure and imports {what}" for name in PURE if name in house for what in sorted(house[name].outside & _OUTSIDE)]
    return found


def _box(x: int, y: int, text: str, style: str, width: int = WIDTH, link: str = "") -> List[str]:
    return [
        f'<g class="{style}"><title>{link}</title><rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4"/>',
        f'<text x="{x + width // 2}" y="{y + HEIGHT // 2 + 4}" text-anchor="middle">{text}</text></g>',
    ]


_ABOVE = [
    ("playbooks/", "roles/", "netops.underlay.site, plan, canary, verify ..."),
    ("plugins/action/", "plugins/modules/", "the guard's connection; documentation and one call"),
    ("module_utils/_argspec.py", "module_utils/_module.py", "from options to the engine and back"),
]


def drawing(house: Dict[str, Room]) -> List[str]:
    """The house as SVG, the roof first."""
    stack = floors(house)[::-1]
    columns = 6
    full = columns * (WIDTH + GAP) - GAP
    lines: List[str] = []
    y = MARGIN
    for left, right, about in _ABOVE:
        half = (full - GAP) // 2
        lines += _box(MARGIN, y, left, "above", half, about) + _box(MARGIN + half + GAP, y, right, "above", half, about)
        y += HEIGHT + GAP
    y += GAP
    for floor in stack:
        top = y
        for start in range(0, len(floor), columns):
            row = floor[start : start + columns]
            for position, name in enumerate(row):
                pure = not house[name].outside & _OUTSIDE
                lines += _box(MARGIN + position * (WIDTH + GAP), y, name, "pure" if pure else "edge", WIDTH, house[name].about.replace("<", "&lt;"))
            y += HEIGHT + GAP
        lines.append(f'<line x1="{MARGIN}" y1="{y - GAP // 2 + 1}" x2="{MARGIN + full}" y2="{y - GAP // 2 + 1}"/>')
        y += 4
        assert y > top
    lines += _box(MARGIN, y, "the Linux kernel (rtnetlink, /proc/sys, /run/netns) and /var/lib/netops-underlay", "ground", full)
    y += HEIGHT + MARGIN
    head = f'<svg class="house" role="img" aria-label="The files of the engine, by floors" viewBox="0 0 {full + 2 * MARGIN} {y}" xmlns="http://www.w3.org/2000/svg">'
    return [head, *lines, "</svg>"]


def page() -> str:
    house = rooms()
    stack = floors(house)
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.architecture:", "",
        "Architecture", "============", "",
        "Every change goes one road: options, model, observation of kernel and registry, plan, apply, observation, record. The",
        "restore at boot, the healing, the drift report and the undo go parts of the same road.", "",
        "A room imports only from the floors below its own. Light rooms compute, dark ones reach out: to the kernel, the disk or a",
        "process. The engine imports nothing of Ansible, because the same directory is copied to the host and restores it at boot.", "",
        ".. raw:: html", "",
        *(f"   {line}" for line in drawing(house)), "",
        "The rooms", "---------", "",
        ".. list-table::", "   :header-rows: 1", "   :widths: 8 18 44 30", "",
        "   * - floor", "     - file", "     - what it does", "     - imports",
    ]  # fmt: skip
    for number, floor in enumerate(stack):
        for name in floor:
            below = ", ".join(sorted(house[name].below & house.keys())) or "--"
            if house[name].later:
                below += "; when needed: " + ", ".join(sorted(house[name].later))
            lines += [f"   * - {number}", f"     - ``{name}.py``", f"     - {house[name].about}", f"     - {below}"]
    return "\n".join(lines) + "\n"
