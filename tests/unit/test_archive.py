# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports from an archive like Ansible's, counted in a process of their own: what compiles a file, and what an earlier task has kept."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import transact

from ..support.checkout import CHECKOUT

#: Imports the package of an archive; prints how often its files were compiled and where Python says that they are.
COUNT = """
import builtins, json, sys, zipimport
compiled, builtin = [], builtins.compile
def count(source, path, *rest, **more):
    compiled.append(path)
    return builtin(source, path, *rest, **more)
builtins.compile = zipimport.compile = count
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


def pack(place: Path, kept: Path, files: Dict[str, str]) -> Path:
    """An archive with these files and ours, which keeps code in a directory."""
    ours = (CHECKOUT / "plugins/module_utils/_archive.py").read_text()
    with zipfile.ZipFile(place, "w") as written:
        for name, text in {**files, "_archive.py": ours.replace(transact.DEFAULT_STATE_DIR, str(kept))}.items():
            written.writestr(name, text)
    return place


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    place = tmp_path / "kept"
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def archive(tmp_path: Path, kept: Path) -> Path:
    return pack(tmp_path / "payload.zip", kept, FILES)


def counted(archive: Path, *arguments: str) -> List[Any]:
    run = subprocess.run(
        [sys.executable, "-B", "-c", COUNT, archive, *arguments], capture_output=True, text=True, check=True
    )
    found: List[Any] = json.loads(run.stdout)
    return found


def compiled(archive: Path) -> int:
    """How many of the three files that are imported after ours were compiled; ``before`` and ours are compiled twice."""
    count: int = counted(archive, "with ours")[0]
    return count - 2 * 2


def test_each_file_is_compiled_once(archive: Path) -> None:
    count, *ours = counted(archive, "with ours")
    as_python_does, *by_python = counted(archive)
    assert (count, as_python_does) == (2 * 2 + 3, 2 * 4)
    assert ours[:2] == by_python[:2]
    assert ours[:2] == [[f"{archive}/{name}" for name in FILES if name != "before.py"], "package.missing"]
    assert ours[2] == by_python[2].replace(f"{archive}/", "")
    assert 'File "package/inner/leaf.py", line 5, in failed\n    1 / 0' in ours[2]


def test_a_later_task_compiles_what_has_changed(archive: Path, kept: Path) -> None:
    assert [compiled(archive) for _task in range(2)] == [3, 0]
    (file,) = kept.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pack(archive, kept, {**FILES, "package/inner/leaf.py": FAILS.replace("1 / 0", "2 / 0")})
    assert compiled(archive) == 1
    assert "2 / 0" in counted(archive, "with ours")[3]
    other = pack(archive.with_name("elsewhere.zip"), kept, {**FILES, "more.py": ""})
    assert compiled(other) == 1  # leaf.py is again as it was first


@pytest.mark.parametrize("how", ["cut off", "bit flipped", "of another Python", "empty", "directory"])
def test_a_damaged_file_is_written_anew(archive: Path, kept: Path, how: str) -> None:
    compiled(archive)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    damaged = {
        "cut off": whole[:-9],
        "bit flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "of another Python": b"2" + whole[1:],
        "empty": b"",
    }
    if how == "directory":
        file.unlink()
        file.mkdir()
        assert [compiled(archive) for _task in range(2)] == [3, 3]
    else:
        file.write_bytes(damaged[how])
        assert [compiled(archive) for _task in range(2)] == [3, 0]


@pytest.mark.parametrize("who", ["directory for others", "file for others", "link", "nowhere"])
def test_what_others_could_have_written_is_not_run(archive: Path, kept: Path, who: str) -> None:
    compiled(archive)
    (file,) = kept.iterdir()
    if who == "directory for others":
        kept.chmod(0o777)
    elif who == "file for others":
        file.chmod(0o666)
    elif who == "link":
        file.symlink_to(file.rename(file.with_name("theirs")))
    else:
        file.unlink()
        kept.rmdir()
    assert compiled(archive) == 3
    assert kept.exists() == (who != "nowhere")


def test_the_place_is_that_of_the_registry() -> None:
    assert (
        f'DIRECTORY = "{transact.DEFAULT_STATE_DIR}"\n' in (CHECKOUT / "plugins/module_utils/_archive.py").read_text()
    )
