# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook: its files, whatever the hosts say. What it says of real networks is in tests/kernel/modules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ansible_collections
from selenium import webdriver

from tests.support.browser import Page

INVENTORY = f"""\
all:
  vars:
    ansible_become: false
    ansible_python_interpreter: {sys.executable}
  hosts:
    here:
      ansible_connection: local
      verify_result: {{findings: [{{kind: arrival, vlan: 5, text: "eth9, VLAN 5: no answer"}}], proved: 0, unproved: []}}
    gone: {{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 9, ansible_ssh_args: -F none}}
"""


def test_it_writes_the_report_of_hosts_that_answer_and_hosts_that_do_not(
    tmp_path: Path, chrome: webdriver.Chrome
) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    environment = {
        **os.environ,
        "PWD": str(tmp_path),
        "ANSIBLE_COLLECTIONS_PATH": str(Path(next(iter(ansible_collections.__path__))).parent),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
    }
    command = [
        sys.executable,
        "-m",
        "ansible",
        "playbook",
        "-i",
        "hosts.yml",
        "--check",
        "--diff",
        "netops.underlay.report",
        "-e",
        "report_title='<b>'",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout
    assert len(done.stdout) < 10_000, "the page is in its file, not on the terminal"
    there = tmp_path / "underlay-report"
    assert sorted(path.name for path in there.iterdir()) == ["hosts", "report.html", "report.json", "report.md"]
    assert [path.name for path in (there / "hosts").iterdir()] == ["here.json"]

    doc = json.loads((there / "report.json").read_text())
    assert [(row["name"], row["read"]) for row in doc["hosts"]] == [("gone", False), ("here", True)]
    assert [row["text"].split(":")[0] for row in doc["findings"]] == ["cannot be reached", "eth9, VLAN 5"]
    chart = (there / "report.md").read_text()
    assert chart.startswith("# <b>\n\n```mermaid\nflowchart LR\n") and chart.endswith("\n```\n")

    page = Page(chrome, there / "report.html").open()
    assert page.one("h1").text == "<b>"
    assert page.one(".verdict").text == "2 errors on 2 of 2 hosts"
    assert page.complaints() == []
