# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``examples/awx/controller`` as a controller would take it.

Ansible runs its playbook with modules that have the options of awx.awx, as recorded in tests/support/awx_modules.yml, and that
note what they were given. What AWX's API asks of it beyond that is checked here: awx/api/views (surveys), awx/api/serializers
(schedules), and what the nodes of a workflow are looked up by.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest
import yaml

from tests.support.checkout import CHECKOUT

PROJECT = CHECKOUT / "examples" / "awx"
RECORDED: Dict[str, Any] = yaml.safe_load((CHECKOUT / "tests/support/awx_modules.yml").read_text(encoding="utf-8"))

MODULE = """
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={options!r})
with open({given!r}, "a") as file:
    file.write(json.dumps([{name!r}, {{option: value for option, value in module.params.items() if value is not None}}]) + "\\n")
module.exit_json(changed=True)
"""
#: The types of a survey's questions, and of their defaults.
QUESTIONS = {"text": str, "textarea": str, "password": str, "multiplechoice": str, "multiselect": str, "integer": int,
             "float": (float, int)}  # fmt: skip


class Given(NamedTuple):
    """What a module was given."""

    module: str
    options: Dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.options["name"])


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> List[Given]:
    """All that the playbook would have the modules of awx.awx do, in its order."""
    directory = tmp_path_factory.mktemp("awx")
    given = directory / "given"
    modules = directory / "ansible_collections/awx/awx/plugins/modules"
    modules.mkdir(parents=True)
    for name, options in RECORDED.items():
        (modules / f"{name}.py").write_text(MODULE.format(options=options, given=os.fspath(given), name=name))
    command = [os.fspath(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,",
               "-eansible_python_interpreter={{ ansible_playbook_python }}",
               "-eawx_scm_url=https://git.example.org/underlay.git", "controller/configure.yml"]  # fmt: skip
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.fspath(directory), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [Given(*json.loads(line)) for line in given.read_text(encoding="utf-8").splitlines()]


def of(configured: List[Given], *modules: str) -> List[Given]:
    return [it for it in configured if it.module in modules]


def test_what_is_named_was_made_before(configured: List[Given]) -> None:
    made: Dict[str, List[str]] = {name: [] for name in RECORDED}
    for it in configured:
        for option, module in {
            "execution_environment": "execution_environment",
            "default_environment": "execution_environment",
            "project": "project",
            "source_project": "project",
            "inventory": "inventory",
            "unified_job_template": "job_template",
        }.items():
            if option in it.options:
                assert it.options[option] in made[module], f"{it.module} {it.name}: {option}"
        assert it.name not in made[it.module]
        made[it.module].append(it.name)
    assert all(made.values()), "each recorded module is used"


def test_the_playbooks_and_the_inventory_are_in_the_project(configured: List[Given]) -> None:
    for it in of(configured, "job_template"):
        assert (PROJECT / it.options["playbook"]).is_file()
    (source,) = of(configured, "inventory_source")
    assert (PROJECT / source.options["source_path"]).is_dir()


def test_the_api_takes_the_surveys(configured: List[Given]) -> None:
    asked = [it.options for it in of(configured, "job_template") if it.options["survey_enabled"]]
    assert len(asked) == 5
    for options in asked:
        survey = options["survey_spec"]
        assert isinstance(survey["name"], str) and isinstance(survey["description"], str) and survey["spec"]
        assert len({question["variable"] for question in survey["spec"]}) == len(survey["spec"])
        for question in survey["spec"]:
            assert all(isinstance(question[key], str) for key in ("question_name", "variable"))
            assert question["required"] in (True, False)
            assert question["default"] == "" or isinstance(question["default"], QUESTIONS[question["type"]])
            if question["type"] == "multiplechoice":
                assert question["default"] in question["choices"]
            else:
                assert "choices" not in question
    assert all(not it.options["survey_spec"] for it in of(configured, "job_template") if it.options not in asked)


def test_a_survey_asks_for_what_its_playbook_reads(configured: List[Given]) -> None:
    for it in of(configured, "job_template"):
        both = (PROJECT / it.options["playbook"], CHECKOUT / "playbooks" / it.options["playbook"])
        playbook = "".join(path.read_text(encoding="utf-8") for path in both)
        for question in it.options["survey_spec"].get("spec", ()):
            assert re.search(rf"\b{question['variable']}\b", playbook), f"{it.name}: {question['variable']}"


def test_each_node_of_the_workflow_is_found(configured: List[Given]) -> None:
    (workflow,) = of(configured, "workflow_job_template")
    names = {module: {it.name for it in of(configured, module)} for module in RECORDED}
    (inventory,) = of(configured, "inventory")
    nodes = {node["identifier"]: node for node in workflow.options["workflow_nodes"]}
    assert len(nodes) == len(workflow.options["workflow_nodes"]) == 8
    for node in nodes.values():
        template = node["unified_job_template"]
        assert template["type"] == "workflow_approval" or template["name"] in names[template["type"]]
        if template["type"] == "inventory_source":
            assert template["inventory"]["name"] == inventory.name
        elif template["type"] != "workflow_approval":
            assert template["organization"]["name"] == workflow.options["organization"]
        for relation in ("success_nodes", "failure_nodes", "always_nodes"):
            assert {following["identifier"] for following in node["related"][relation]} <= set(nodes)


def test_the_api_takes_the_schedules(configured: List[Given]) -> None:
    schedules = of(configured, "schedule")
    assert len(schedules) == 2
    for it in schedules:
        rule = it.options["rrule"]
        assert re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:[A-Z]+=\S+", rule) and ";INTERVAL=" in rule
        assert re.search(r"RRULE:FREQ=(MINUTELY|HOURLY|DAILY|WEEKLY|MONTHLY|YEARLY);", rule)
