# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages that a module of the engine can give, read from its source, so that each has a test."""

from __future__ import annotations

import ast
import re
from types import ModuleType
from typing import Iterable, Iterator, List, Optional, Tuple

#: What makes a message of two texts, its last arguments: what is wrong, and the fix.
_MAKERS = {"Problem", "InvalidValue", "refuse", "refuse_at"}


def texts_without_a_test(seen: Iterable[str], *modules: ModuleType) -> List[str]:
    """The messages of modules that fit none of the texts that tests saw, each by its place."""
    seen = list(seen)
    found = []
    for module in modules:
        path = module.__file__ or ""
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        for line, pattern in _messages(tree):
            if not any(re.search(pattern, text) for text in seen):
                found.append(f"{path.rpartition('/')[2]}:{line}: {pattern}")
    return found


def _messages(tree: ast.AST) -> Iterator[Tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else node.func.id
                if isinstance(node.func, ast.Name)
                else ""
            )
            last = node.args[-2:]
            if name in _MAKERS and len(last) == 2 and not any(isinstance(part, ast.Starred) for part in last):
                what, cure = map(_pattern, last)
                if what is not None or cure is not None:
                    yield node.lineno, f"{what or '.*'}; {cure or '.*'}$"


def _pattern(node: ast.expr) -> Optional[str]:
    """A regular expression for a text; None for one that is only handed on."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) or ".*" if isinstance(part, ast.Constant) else ".*" for part in node.values)
    if isinstance(node, ast.BinOp):
        return (_pattern(node.left) or ".*") + (_pattern(node.right) or ".*")
    return None
