# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory directory, and Ansible's own commands to read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed

from tests.support.checkout import CHECKOUT, collections_path


class Read(NamedTuple):
    """An inventory as Ansible read it."""

    hosts: Dict[str, Dict[str, Any]]  # the variables of each that matter here
    groups: Dict[str, Any]  # each with its maps, packed

    @property
    def maps(self) -> List[packed.LoadedMap]:
        return packed.unpack(self.groups[packed.GROUP])

    @property
    def faults(self) -> List[str]:
        return [text for loaded in self.maps for text in loaded["faults"]]


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

    def load(self, without: str = "") -> Read:
        """The inventory by Ansible's own manager and plugin loader, ``without`` a library that the plugin needs."""
        reader = _reader()
        assert reader.stdin and reader.stdout
        reader.stdin.write(json.dumps({"source": os.fspath(self.directory), "without": without}) + "\n")
        reader.stdin.flush()
        found = json.loads(reader.stdout.readline())
        return Read(found["hosts"], found["groups"])

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


@lru_cache(maxsize=1)
def _reader() -> subprocess.Popen[str]:
    """One Ansible for all tests. It ends with this process, whose pipe it reads."""
    script = Path(__file__).with_name("inventory_reader.py")
    command = [sys.executable, os.fspath(script), os.fspath(collections_path(CHECKOUT))]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
