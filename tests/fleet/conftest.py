# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Plays against hosts that are whole machines: tests/lab/run --fleet -- python -m pytest tests/fleet"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.fspath(Path(__file__).parents[1] / "lab"))

from fleet import KERNEL, Fleet, Host

collect_ignore = [] if KERNEL.is_dir() else ["test_reboot.py", "test_guard.py"]

#: Until when something has to have happened; a machine that is busy is no fault.
DEADLINE = 90.0

HEAD = """\
- hosts: all
  gather_facts: false
  become: true
"""


def until(what: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def play(fleet: Fleet, body: str, *options: str, check: bool = True, **env: str) -> Rows:
    """A play with a body of YAML: what each task said, by its name and by the host's."""
    path = fleet.directory / f"play-{time.monotonic_ns()}.yml"
    path.write_text(HEAD + body)
    done = fleet.run("ansible-playbook", os.fspath(path), *options, check=False, env={**CALLBACK, **env})
    return rows(done.stdout, done.stderr, check)


#: Results as lines of JSON.
CALLBACK = {"ANSIBLE_STDOUT_CALLBACK": "rows", "ANSIBLE_CALLBACK_PLUGINS": os.fspath(Path(__file__).parent / "callbacks")}
Rows = dict[str, dict[str, dict[str, Any]]]


def rows(said: str, errors: str = "", check: bool = True) -> Rows:
    """What the tasks of a play said: task -> host -> result."""
    found: Rows = {}
    for line in said.splitlines():
        if line.startswith("ROW "):
            row = json.loads(line[4:])
            name = row["task"].rpartition(" : ")[2]
            found.setdefault(name, {})[row["host"]] = {**row["result"], "failed": row["failed"]}
    failed = [result for hosts in found.values() for result in hosts.values() if result["failed"]]
    assert found and not (check and failed), (failed, said[-2000:], errors[-2000:])
    return found


def events(private: Path) -> list[dict[str, Any]]:
    """What ansible-runner wrote down of a run in this directory."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(private.glob("artifacts/*/job_events/*.json"))]


def prepare(fleet: Fleet, **options: Any) -> None:
    role = json.dumps({"role": "netops.underlay.prepare", "prepare_install": False, **options})
    play(fleet, f"  roles: [{role}]\n")


def ip(host: Host, *words: str) -> list[dict[str, Any]]:
    """What ``ip -d -j`` says on a host; nothing where it fails."""
    said = host.ssh(f"ip -d -j {' '.join(words)}", check=False).stdout
    return [row for row in json.loads(said or "[]") if row]


def links(host: Host, netns: str = "") -> list[str]:
    return [row["ifname"] for row in ip(host, *(["-n", netns] if netns else []), "link", "show")]


def picture(host: Host, *spaces: str) -> Any:
    """What is ours on a host and in its namespaces, without what the kernel numbers anew."""
    found = {}
    for space in ("", *spaces):
        inside = ["-n", space] if space else []
        for row in ip(host, *inside, "addr", "show"):
            addresses = sorted(f"{entry['local']}/{entry['prefixlen']}" for entry in row["addr_info"] if entry["scope"] == "global")
            found[f"{space}/{row['ifname']}"] = (
                row.get("link"), row["mtu"], "UP" in row["flags"], row.get("group"), row.get("linkinfo", {}).get("info_data"), addresses
            )  # fmt: skip
        routes = [row for row in ip(host, *inside, "route", "show", "table", "all") if row.get("protocol") in ("201", "netops-underlay")]
        found[f"{space} routes"] = sorted((row["dst"], row.get("dev", ""), row.get("gateway", "")) for row in routes)
    return found
