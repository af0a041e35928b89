# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports from an archive like Ansible's, counted in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ..support.checkout import CHECKOUT

#: Imports the package of an archive; prints how often its files were compiled and where Python says that they are.
COUNT = """
import json, sys, zipimport
compile_source, compiled = zipimport._compile_source, []
def count(path, source):
    compiled.append(path)
    return compile_source(path, source)
zipimport._compile_source = count
sys.path.insert(0, sys.argv[1])
import before
if sys.argv[2:]:
    import _archive
import package.inner.leaf
try:
    import package.missing
except ModuleNotFoundError as error:
    missing = error.name
names = ("package", "package.inner", "package.inner.leaf")
print(json.dumps([len(compiled), [sys.modules[name].__file__ for name in names], missing, package.inner.leaf.failed()]))
"""
FAILS = "import traceback\n\ndef failed():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        return traceback.format_exc()\n"
FILES = {
    "before.py": "",
    "package/__init__.py": "",
    "package/inner/__init__.py": "",
    "package/inner/leaf.py": FAILS,
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    found = tmp_path / "payload.zip"
    with zipfile.ZipFile(found, "w") as written:
        for name, text in FILES.items():
            written.writestr(name, text)
        written.write(CHECKOUT / "plugins/module_utils/_archive.py", "_archive.py")
    return found


def counted(archive: Path, *arguments: str) -> list[object]:
    run = subprocess.run(
        [sys.executable, "-B", "-c", COUNT, archive, *arguments], capture_output=True, text=True, check=True
    )
    found: list[object] = json.loads(run.stdout)
    return found


def test_each_file_is_compiled_once(archive: Path) -> None:
    """All that is imported after ours: three files of the archive; ``before`` and ours itself are compiled twice."""
    count, *ours = counted(archive, "with ours")
    as_python_does, *by_python = counted(archive)
    assert (count, as_python_does) == (2 * 2 + 3, 2 * 4)
    assert ours == by_python
    assert ours[:2] == [[f"{archive}/{name}" for name in FILES if name != "before.py"], "package.missing"]
    assert f'File "{archive}/package/inner/leaf.py", line 5, in failed\n    1 / 0' in str(ours[2])
