# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory directory, and Ansible's own commands to read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.conftest import CHECKOUT, collections_path


class Inventory:
    """Files of an inventory, and what Ansible makes of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.map = directory.parent / "map"

    def write(self, **files: str) -> None:
        for name, text in files.items():
            stem, _, end = name.rpartition("_")
            place = self.directory if stem in ("hosts", "netops_map") else self.map
            (place / f"{stem}.{end}").write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        return (self.map / name).read_text(encoding="utf-8")

    def run(self, command: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [os.fspath(Path(sys.executable).parent / command), "-i", os.fspath(self.directory), *words],
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.fspath(collections_path(CHECKOUT)), "ANSIBLE_NOCOLOR": "1", **environment},
            cwd=self.directory.parent, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def export(self) -> Dict[str, Any]:
        done = self.run("ansible-inventory", "--list", "--export", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1")
        assert done.returncode == 0, done.stderr
        found: Dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    directory = tmp_path / "inventory"
    found = Inventory(directory)
    directory.mkdir()
    found.map.mkdir()
    return found
