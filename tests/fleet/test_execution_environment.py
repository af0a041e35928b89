# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX's image is made of: ansible-builder takes the definition, and finds what the collection needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).absolute().parents[2]


def test_ansible_builder_takes_the_definition(tmp_path: Path) -> None:
    definition = CHECKOUT / "examples" / "awx" / "execution-environment.yml"
    subprocess.run(["ansible-builder", "create", "-f", os.fspath(definition), "-c", os.fspath(tmp_path)], check=True, capture_output=True)
    wanted = yaml.safe_load((tmp_path / "_build" / "requirements.yml").read_text(encoding="utf-8"))
    assert [collection["name"] for collection in wanted["collections"]] == ["netops.underlay"]
    assert "fedora-minimal" in (tmp_path / "Containerfile").read_text(encoding="utf-8")


def test_the_collection_tells_what_the_controller_needs(tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections" / "netops" / "underlay"
    place.parent.mkdir(parents=True)
    place.symlink_to(CHECKOUT, target_is_directory=True)
    done = subprocess.run(["ansible-builder", "introspect", os.fspath(tmp_path)], check=True, capture_output=True, text=True)
    assert "netaddr>=0.10  # from collection netops.underlay" in done.stdout
