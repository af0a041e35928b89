# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tool behind ``make mutants``: what it changes, and that a running process gets it."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

from tests.mutants.mutate import install, mutants, mutated

SOURCE = '''\
"""A module of 3 lines, 1 of them long."""
from functools import lru_cache
LIMIT = 4

@lru_cache(maxsize=None)
def fits(size: "int", known=(1,)) -> bool:
    """Whether 1 < 2."""
    if not size or size in known:
        return False
    return all(part < LIMIT for part in range(size) if part)

class Pool:
    def free(self):
        return [lambda: 1 == 2 and self]
'''


def test_what_is_changed() -> None:
    found = [(one.function[0] if one.function else "", one.before, one.after) for one in mutants("a.py", SOURCE)]
    assert sorted(found) == sorted([
        ("", "LIMIT = 4", "LIMIT = 5"),
        ("", "(1,)", "(2,)"),
        ("fits", "not size or size in known", "not size and size in known"),
        ("fits", "size in known", "size not in known"),
        ("fits", "not size or size in known", "not (not size or size in known)"),
        ("fits", "return False", "return True"),
        ("fits", "part < LIMIT", "part <= LIMIT"),
        ("fits", "part", "not part"),
        ("Pool.free", "1 == 2 and self", "1 == 2 or self"),
        ("Pool.free", "1 == 2", "1 != 2"),
        ("Pool.free", "1 == 2", "2 == 2"),
        ("Pool.free", "1 == 2", "1 == 3"),
    ])  # fmt: skip


def test_each_is_a_module_that_differs_from_the_others() -> None:
    found = mutants("a.py", SOURCE)
    texts = {ast.unparse(mutated(SOURCE, one.number)) for one in found}
    assert len(texts) == len(found) and ast.unparse(ast.parse(SOURCE)) not in texts


def test_functions_that_exist_already_get_it(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("subject", path)
    assert spec is not None and spec.loader is not None
    subject: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(subject)
    fits = subject.fits
    assert fits(5) is False
    (number,) = [one.number for one in mutants("a.py", SOURCE) if one.after == "part <= LIMIT"]
    assert install(str(path), SOURCE, mutated(SOURCE, number)) == 1
    assert fits(5) is True, "what lru_cache remembers is of the mutant too"
