# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of a Python file: the one small change each, and how a running process gets it."""

from __future__ import annotations

import ast
import copy
import functools
import gc
import types
from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

_COMPARISONS: Dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

#: A function or module-level statement in which a mutant lies: its qualified name and first line. None: no function.
Place = Optional[Tuple[str, int]]


@dataclass(frozen=True)
class Mutant:
    """One change to one file."""

    file: str  #: relative to the engine, such as ``plan/expand.py``
    line: int
    function: Place
    before: str  #: the smallest expression around the change, as source
    after: str
    number: int  #: position among the file's mutants

    @property
    def key(self) -> Tuple[str, str, str, str]:
        """What names it as long as the code around it stays: lines may move."""
        return self.file, self.function[0] if self.function else "", self.before, self.after


def mutants(file: str, source: str) -> List[Mutant]:
    """Every mutant of a file, in the order of the source."""
    found = []
    for number, site in enumerate(_sites(ast.parse(source))):
        before, after = _texts(site)
        found.append(Mutant(file, site.node.lineno, site.function, before, after, number))
    return found


def mutated(source: str, number: int) -> ast.Module:
    """The file with its mutant of this number."""
    tree = ast.parse(source)
    for position, site in enumerate(_sites(tree)):
        if position == number:
            site.change(site.node)
            return ast.fix_missing_locations(tree)
    raise IndexError(number)


# --- where something can be changed, and how -----------------------------------------------------


class _Site(NamedTuple):
    node: ast.expr
    around: ast.AST  #: what shows the change to a reader: the node, or what it is a part of
    function: Place
    change: Callable[[ast.expr], None]  #: in place


def _texts(site: _Site) -> Tuple[str, str]:
    kind, fields = type(site.node), dict(site.node.__dict__)
    before = ast.unparse(site.around)
    site.change(site.node)
    after = ast.unparse(site.around)
    site.node.__class__ = kind  # type: ignore[assignment]
    site.node.__dict__.clear()
    site.node.__dict__.update(fields)
    return _shorten(before, after)


def _shorten(before: str, after: str, most: int = 100) -> Tuple[str, str]:
    """Where the two differ, with what is around it."""
    if max(len(before), len(after)) <= most and "\n" not in before:
        return before, after
    same = next((at for at, pair in enumerate(zip(before, after)) if len(set(pair)) > 1), min(len(before), len(after)))
    start = max(before.rfind("\n", 0, same) + 1, same - most // 2)
    ends = [text.find("\n", same) for text in (before, after)]
    cut = [
        text[start : min(len(text) if end < 0 else end, same + most // 2)] for text, end in zip((before, after), ends)
    ]
    return cut[0].strip(), cut[1].strip()


def _sites(tree: ast.Module) -> Iterator[_Site]:
    yield from _walk(tree, None, "")


def _walk(node: ast.AST, function: Place, prefix: str) -> Iterator[_Site]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _visit(child, node, function, prefix)


def _visit(node: ast.AST, parent: ast.AST, function: Place, prefix: str) -> Iterator[_Site]:
    if isinstance(node, ast.ClassDef):
        yield from _walk(node, function, f"{prefix}{node.name}.")
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for outside in (*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)):
            yield from _visit(outside, node.args, function, prefix)
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        inner = function or (f"{prefix}{node.name}", first)
        for statement in node.body:
            yield from _visit(statement, node, inner, f"{prefix}{node.name}.<locals>.")
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.expr):
        around = parent if isinstance(node, ast.Constant) else node
        for change in _changes(node):
            yield _Site(node, around, function, change)
    for test in _conditions(node):
        yield _Site(test, test, function, _negate)
    yield from _walk(node, function, prefix)


def _changes(node: ast.expr) -> Iterator[Callable[[ast.expr], None]]:
    if isinstance(node, ast.Compare):
        for position in range(len(node.ops)):
            yield functools.partial(_compare_otherwise, position)
    elif isinstance(node, ast.BoolOp):
        yield lambda node: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda node: setattr(node, "value", not node.value)  # type: ignore[attr-defined]
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield lambda node: setattr(node, "value", node.value + 1)  # type: ignore[attr-defined]


def _compare_otherwise(position: int, node: ast.expr) -> None:
    assert isinstance(node, ast.Compare)
    other = _COMPARISONS[type(node.ops[position])]()
    node.ops = [*node.ops[:position], other, *node.ops[position + 1 :]]


def _conditions(node: ast.AST) -> List[ast.expr]:
    """Conditions to be turned into their contrary: those that no comparison in them turns already."""
    tests = [node.test] if isinstance(node, (ast.If, ast.While, ast.IfExp)) else []
    tests += node.ifs if isinstance(node, ast.comprehension) else []
    return [test for test in tests if not isinstance(test, (ast.Compare, ast.Constant))]


def _negate(node: ast.expr) -> None:
    """In place: what the node was becomes the operand of a ``not``."""
    operand = copy.copy(node)
    position = {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    node.__class__ = ast.UnaryOp  # type: ignore[assignment]
    node.__dict__.clear()
    node.__dict__.update(op=ast.Not(), operand=operand, **position)


# --- how a process gets it -----------------------------------------------------------------------


def install(path: str, source: str, tree: ast.Module) -> int:
    """Give the mutant's code to the functions of this file that exist already; how many got it."""
    new = dict(_named(compile(tree, path, "exec", dont_inherit=True)))
    pairs = {old: new.get(name) for name, old in _named(compile(source, path, "exec", dont_inherit=True))}
    changed = 0
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper):
            found.cache_clear()  # what it remembers is from before
        elif isinstance(found, types.FunctionType) and found.__code__.co_filename == path:
            code = pairs.get(found.__code__)
            if code is not None and code != found.__code__:
                found.__code__ = code
                changed += 1
    return changed


def _named(code: types.CodeType) -> Iterator[Tuple[Tuple[str, int, int], types.CodeType]]:
    """All code of a file by its qualified name and line, and its position among those that share both."""
    seen: Counter[Tuple[str, int]] = Counter()
    for found in _codes(code):
        name = (found.co_qualname, found.co_firstlineno)
        yield (*name, seen[name]), found
        seen[name] += 1


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)
