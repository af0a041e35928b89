# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mypy makes of the types that the engine declares, and that the engine declares them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, get_args, is_typeddict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import (
    endpoint_specs,
    link_specs,
    network_specs,
    records,
    route_specs,
    specs,
)

from tests.support.checkout import CHECKOUT, collections_path

pytest.importorskip("mypy")  # the lab has none

FILES = (endpoint_specs, link_specs, network_specs, route_specs, specs)
SPECS = {
    name: found
    for file in FILES
    for name, found in sorted(vars(file).items())
    if is_typeddict(found) and name.endswith("Spec") and found.__module__ == file.__name__
}
CODE = """\
def read_{name}(spec: {file}.{name}) -> object:
    return spec["{right}"], spec["{wrong}"]


def write_{name}(spec: {file}.{name}) -> None:
    spec["{wrong}"] = None


def make_{name}() -> {file}.{name}:
    return {{"{wrong}": None}}
"""
#: What hands a spec from one package to another -> an expression of it that is a spec.
CARRIERS = {
    "core.change.Record": "it.spec",
    "core.change.Change": "it.after or it.before or {}",
    "core.state.Link": "it.data",
    "core.state.HostState": 'it.find("link", {"netns": "", "name": "eth0"}) or {}',
    "declare.declaration.Item": "it.spec or {}",
    "declare.declaration.Declaration": 'it.trunks["fabric"]',
    "plan.compare.ObjectState": "it.spec or it.old or {}",
    "plan.desired.DesiredState": 'it.before("network", "web") or {}',
    "plan.order.Step": "it.before or it.after or {}",
    "plan.wanted.DesiredObject": "it.spec",
}
ENGINE = CHECKOUT / "plugins/module_utils/_engine"


def mypy(directory: Path, lines: list[str]) -> dict[int, list[str]]:
    """The errors of mypy about a file with these lines, by line."""
    (directory / "misspelt.py").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(CHECKOUT / "pyproject.toml"), "--cache-dir",
         str(CHECKOUT / ".mypy_cache"), "--no-pretty", "--hide-error-context", str(directory / "misspelt.py")],
        cwd=CHECKOUT, env={**os.environ, "MYPYPATH": str(collections_path(CHECKOUT))}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    found: dict[int, list[str]] = {}
    for line, text in re.findall(r"misspelt\.py:(\d+): error: (.*)", done.stdout):
        found.setdefault(int(line), []).append(text)
    return found


def test_a_misspelt_key_of_a_spec_is_an_error(tmp_path: Path) -> None:
    """Read, written or made with it, in every spec; the right key beside it is none."""
    assert {"Spec", "NetworkSpec", "EndpointSpec", "VlanSpec", "LinkSpec", "ProcessSpec", "TrunkSpec"} <= SPECS.keys()
    core = specs.__name__.rpartition(".")[0]
    lines = [f"from {core} import {', '.join(file.__name__.rpartition('.')[2] for file in FILES)}", ""]
    expected = {}
    for name, spec in SPECS.items():
        file = spec.__module__.rpartition(".")[2]
        right = next(iter(spec.__annotations__))
        wrong = f"{right}x"
        start = len(lines)
        lines += CODE.format(file=file, name=name, right=right, wrong=wrong).splitlines()
        expected.update({start + offset: wrong for offset in (2, 6, 10)})
    found = mypy(tmp_path, lines)
    assert found.keys() == expected.keys(), found
    for line, wrong in expected.items():
        assert any(f'"{wrong}"' in text for text in found[line])


def test_so_it_is_in_what_the_packages_hand_to_each_other(tmp_path: Path) -> None:
    """What is read of a change, a record, a link or an item is held to the keys of specs."""
    lines = [f"import {specs.__name__.rpartition('.core.')[0]}.{carrier.rpartition('.')[0]}" for carrier in CARRIERS]
    start = len(lines)
    for number, (carrier, spec) in enumerate(CARRIERS.items()):
        lines += [
            f"def read_{number}(it: {specs.__name__.rpartition('.core.')[0]}.{carrier}) -> object:",
            f'    return ({spec})["namex"]',
        ]
    found = mypy(tmp_path, lines)
    assert list(found) == [start + 2 * number + 2 for number in range(len(CARRIERS))], found
    assert all('"namex"' in text for texts in found.values() for text in texts)


def _members(hint: Any) -> Iterator[Any]:
    """The TypedDicts of a kind of record."""
    if is_typeddict(hint):
        yield hint
    else:
        for part in get_args(hint):
            yield from _members(part)


def test_the_spec_of_any_kind_has_the_keys_of_all_kinds() -> None:
    known = {key for hint in records.RECORDS.values() for member in _members(hint) for key in member.__annotations__}
    assert known - specs.Spec.__annotations__.keys() == set()
    also = set(specs.LinkSpec.__annotations__)  # a link as observed
    assert specs.Spec.__annotations__.keys() - known - also == set()


def test_a_mapping_of_anything_has_a_name() -> None:
    """No function of the engine takes or gives ``Dict[str, Any]``: an alias says what such a mapping is, and why."""
    found = []
    for path in sorted(ENGINE.glob("*/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                hints = [argument.annotation for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
                found += [
                    f"{path.relative_to(ENGINE)}:{node.lineno}: {node.name}"
                    for hint in (*hints, node.returns)
                    if hint is not None and re.search(r"(Dict|dict|Mapping)\[str, Any\]", ast.unparse(hint))
                ]
    assert not found, "\n".join(found)
