# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive, installed into an empty directory and used by name on a real kernel: run in the lab."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.checkout import CHECKOUT

QUICK = CHECKOUT / "docs" / "examples" / "quick_start.yml"


def run(*words: object, where: Path) -> str:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(where), "ANSIBLE_HOME": str(where / "home"), "ANSIBLE_NOCOLOR": "1",
                   "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "minimal"}  # fmt: skip
    done = subprocess.run(
        [str(word) for word in words],
        env=environment,
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_quick_start_with_the_archive(tmp_path: Path) -> None:
    run("ansible-galaxy", "collection", "build", "--output-path", tmp_path, CHECKOUT, where=tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--offline", "-p", tmp_path, archive, where=tmp_path)
    assert str(tmp_path) in run("ansible-galaxy", "collection", "list", where=tmp_path)
    bare = run("ansible", "localhost", "-m", "netops.underlay.vlan_info", where=tmp_path)
    assert json.loads(bare[bare.index("{") :])["networks"] == []
    subprocess.run("ip link add eth1 type veth peer name far1; ip link set far1 up", shell=True, check=True)
    inventory = tmp_path / "inventory"
    inventory.write_text("start1 ansible_connection=local\n")
    run(
        "ansible",
        "all",
        "-b",
        "-i",
        inventory,
        "-m",
        "include_role",
        "-a",
        "name=netops.underlay.prepare",
        where=tmp_path,
    )
    run("ansible-playbook", "-i", inventory, QUICK, where=tmp_path)
    shown = subprocess.run(
        ["ip", "-n", "shop", "-j", "-4", "address", "show", "eth0"], check=True, stdout=subprocess.PIPE
    ).stdout
    assert json.loads(shown)[0]["addr_info"][0]["local"] == "172.16.80.2"
