# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's directory, copied alone, runs isolated on every Python that a host may have, and brings nothing along."""

from __future__ import annotations

import ast
import glob
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Set, Tuple

import pytest

ENGINE = Path(__file__).absolute().parents[3] / "plugins/module_utils/_engine"
WANTED = ((3, 9), (3, 10), (3, 11), (3, 12), (3, 13))
#: Set where all of WANTED have to be there, such as in CI.
ALL_OF_THEM = "UNDERLAY_ALL_PYTHONS"

#: What may be imported when it is needed, and only inside a function that says what is missing.
LATE = {"sqlite3"}


def _version(python: str) -> Tuple[int, ...]:
    try:
        done = subprocess.run(
            [python, "-I", "-c", "import sys; print(*sys.version_info[:2])"], check=True, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()  # such as a shim of a version that is not active
    return tuple(map(int, done.stdout.split()))


def pythons() -> Dict[Tuple[int, ...], str]:
    """One interpreter of each version: this one, those on PATH and those of a version manager."""
    found: Dict[Tuple[int, ...], str] = {sys.version_info[:2]: sys.executable}
    for major, minor in WANTED:
        places = [shutil.which(f"python{major}.{minor}")]
        places += sorted(glob.glob(os.path.expanduser(f"~/.pyenv/versions/{major}.{minor}.*/bin/python")))
        for python in filter(None, places):
            if (major, minor) not in found and _version(python) == (major, minor):
                found[major, minor] = python
    return found


PYTHONS = pythons()

#: All of the road but the kernel, which a machine without root does not let change.
ROAD = """
import sys
sys.path.insert(0, sys.argv[1])
import importlib, json, pkgutil
import copied
before = set(sys.modules)
names = [module.name for module in pkgutil.walk_packages(copied.__path__, "copied.")]
for name in names:  # the client for DHCP, a service of its own, stands on pyroute2 where that is beside the engine
    name.startswith("copied.dhcp.") or importlib.import_module(name)
outside = sorted(name for name in set(sys.modules) - before if name.split(".")[0] in ("ansible", "ansible_collections", "pyroute2", "yaml"))
for name in names:
    importlib.import_module(name)
from copied.core.change import HOST
from copied.core.state import HostState, Namespace
from copied.declare import model
from copied.plan import plan
from copied.report import summary
good = model.declare_map({"name": "m", "networks": [{"name": "n", "driver": "ipvlan", "mode": "l3", "subnets": [{"subnet": "10.1.0.0/24"}]}],
                          "endpoints": [{"network": "n", "name": "e", "netns": "e"}]})
found = plan.plan(good, {}, HostState(Namespace(HOST, "", (0, 0))), "seed")
bad = model.declare("vlan", {"parent": "lo", "vlan_id": 0, "nmae": 1}, "present", False)
print(json.dumps({"outside": outside, "plan": summary.summary(found.changes, None)["counts"], "problems": [str(p) for p in bad.problems]}))
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("host")
    shutil.copytree(ENGINE, directory / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.mark.parametrize("version", sorted(PYTHONS), ids=lambda version: ".".join(map(str, version)))
def test_the_engine_alone_runs_in_an_empty_environment(copied: Path, version: Tuple[int, ...]) -> None:
    done = subprocess.run(
        [PYTHONS[version], "-I", "-B", "-W", "error", "-c", ROAD, str(copied)], env={}, cwd="/", text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["outside"] == []
    assert said["plan"]["link"] == {"create": 2, "change": 1} and said["plan"]["endpoint"] == {"create": 1}
    assert len(said["problems"]) == 3


def test_which_pythons_were_tried(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(
            "\nthe engine alone ran on Python " + ", ".join(".".join(map(str, version)) for version in sorted(PYTHONS))
        )
    if os.environ.get(ALL_OF_THEM):
        assert set(WANTED) <= set(PYTHONS)


@pytest.mark.skipif(
    sys.version_info < (3, 10), reason="sys.stdlib_module_names is of 3.10; every newer Python looks at the same files"
)
def test_what_the_engine_imports_is_of_the_standard_library_or_its_own() -> None:
    """No absolute import that a host could lack, at the top; no import of the collection at all."""
    for path in sorted(ENGINE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        late = {
            node
            for function in ast.walk(tree)
            if isinstance(function, (ast.FunctionDef, ast.If))
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            names: Set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = {str(node.module)}
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= len(path.relative_to(ENGINE).parts), f"{path.name} reaches out of its directory"
            for name in names:
                top = name.partition(".")[0]
                beside = top == "pyroute2" and path == ENGINE / "dhcp" / "client.py"  # where it is beside the engine
                assert beside or top in sys.stdlib_module_names, f"{path.name} imports {name}"
                assert top not in LATE or node in late, f"{path.name} imports {name} at its top"
