# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's packages import in one direction, and the pure ones reach nothing outside, however long the chain of imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Dict, Set

import pytest

from tests.support.checkout import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "docs"))
from pages.house import COLUMNS, ENGINE, PURE

#: From left to right, as the page of the architecture draws them: a file imports from its own package or from one further left.
RANK = {package: rank for rank, column in enumerate(COLUMNS) for package in column}
#: What reaches out of the program: files, sockets, processes, clocks.
OUTSIDE = {"os", "io", "socket", "sqlite3", "subprocess", "ctypes", "time", "datetime", "fcntl", "select", "http", "signal", "shutil",
           "glob", "tempfile", "pathlib", "random", "secrets", "threading"}  # fmt: skip
#: Names, not system calls: ``os.strerror`` and the errno numbers are tables.
TABLES = {"core.errors": {"os"}}


def imports(path: Path) -> Set[str]:
    """What a file imports at run time: the engine's own files as ``package.module``, others by their first name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        part
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for part in ast.walk(node)
    }
    found: Set[str] = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ENGINE).parts[: -node.level]
            base = ".".join([*here, *([node.module] if node.module else [])])
            if (ENGINE / base.replace(".", "/")).is_dir():
                found |= {f"{base}.{alias.name}" for alias in node.names}
            else:
                found.add(base)
    return found


FILES: Dict[str, Set[str]] = {
    ".".join(path.relative_to(ENGINE).with_suffix("").parts): imports(path)
    for path in sorted(ENGINE.glob("*/*.py"))
    if path.stem != "__init__"
}


def reachable(name: str) -> Dict[str, str]:
    """Everything that a file imports, directly or not, each with the file that does."""
    found: Dict[str, str] = {}
    todo = [name]
    while todo:
        at = todo.pop()
        for target in FILES.get(at, ()):
            if target not in found:
                found[target] = at
                todo.append(target)
    return found


def test_every_package_has_its_place() -> None:
    assert {path.name for path in ENGINE.iterdir() if (path / "__init__.py").is_file()} == RANK.keys()
    assert [path.name for path in ENGINE.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_its_own_package_or_one_further_left(name: str) -> None:
    own = name.partition(".")[0]
    for target in FILES[name]:
        package = target.partition(".")[0]
        if target in FILES and package != own:
            assert RANK[package] < RANK[own], f"{name} imports {target}"


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(PURE)])
def test_a_pure_file_reaches_nothing_outside(name: str) -> None:
    for target, through in reachable(name).items():
        if target in OUTSIDE:
            assert target in TABLES.get(through, ()), f"{name} reaches {target} through {through}"


def test_no_two_files_import_each_other() -> None:
    circles = {
        tuple(sorted((name, target)))
        for name in FILES
        for target in reachable(name)
        if target in FILES and name in reachable(target)
    }
    assert circles == set()
