# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples are whole: what they name is there, and Ansible reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed

from tests.support.checkout import CHECKOUT, collections_path
from tests.support.inventories import Inventory

EXAMPLES = CHECKOUT / "examples"
CONTROLLER = EXAMPLES / "awx" / "controller"


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_map_out_of_netbox() -> None:
    found = Inventory(EXAMPLES / "netbox" / "inventory").export()
    (table,) = packed.unpack(found["netops_map"]["vars"]["netops_map_data"])
    assert [row.get("vlan") for row in table["rows"]] == [10, 20, 30]
    assert found["vlan_30"]["children"] == ["site_fra"]
    assert found["site_fra"]["hosts"] == ["node2"]


def test_every_template_has_its_playbook_and_a_survey_that_awx_takes() -> None:
    settings: Dict[str, Any] = loaded(CONTROLLER / "templates.yml")
    names = [template["name"] for template in settings["awx_job_templates"]]
    for template in settings["awx_job_templates"]:
        play = loaded(EXAMPLES / "awx" / f"{template['name']}.yml")[0]["ansible.builtin.import_playbook"]
        assert play == f"netops.underlay.{template['name']}"
        assert (CHECKOUT / "playbooks" / f"{template['name']}.yml").exists()
        for question in template.get("survey", []):
            assert {"question_name", "variable", "type", "required", "default"} <= set(question)
            if question["type"] == "multiplechoice":
                assert question["default"] in question["choices"]
    nodes = {node["identifier"]: node for node in settings["awx_workflow"]}
    order = ["allocate", "project", "inventory", "plan", "approve", "canary", "site", "verify"]
    assert list(nodes) == order
    for name, following in zip(order, [*order[1:], None]):
        assert nodes[name]["related"]["success_nodes"] == ([{"identifier": following}] if following else [])
        template = nodes[name]["unified_job_template"]
        if template["type"] == "job_template":
            assert template["name"].split()[-1] in names
    assert all(schedule["template"] in names for schedule in settings["awx_schedules"])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project as a checkout of a repository that can be pushed to."""
    origin, checkout = tmp_path / "origin.git", tmp_path / "checkout"
    shutil.copytree(EXAMPLES / "awx", checkout)
    for words in (
        ["init", "-q", "--bare", os.fspath(origin)],
        ["-C", os.fspath(checkout), "init", "-q", "-b", "main"],
        ["-C", os.fspath(checkout), "remote", "add", "origin", os.fspath(origin)],
        ["-C", os.fspath(checkout), "add", "."],
        ["-C", os.fspath(checkout), "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "as it is"],
    ):
        subprocess.run(["git", *words], check=True)
    return checkout


def test_a_controller_that_allocates_pushes_the_ledger(project: Path) -> None:
    def allocate(*words: str) -> str:
        command = [os.fspath(Path(sys.executable).parent / "ansible-playbook"), "allocate.yml", *words]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": os.fspath(collections_path(CHECKOUT)),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pushed() -> str:
        done = subprocess.run(
            ["git", "-C", "../origin.git", "show", "main:map/ledger.yml"],
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    allocate()
    assert pushed() == ""
    allocate("-e", "allocate_push=main")
    assert "    172.16.80.2: node1/shop\n" in pushed()
    assert "changed=0" in allocate("-e", "allocate_push=main").partition("localhost")[2].replace("localhost", "")
