# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Plays against hosts that are whole machines: tests/lab/run --rack -- python -m pytest tests/machines"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from rack import Host, Rack

HEAD = """\
- hosts: all
  gather_facts: false
  become: true
"""


def play(rack: Rack, body: str, *options: str, check: bool = True, **env: str) -> Rows:
    """A play with a body of YAML: what each task said, by its name and by the host's."""
    path = rack.directory / f"play-{time.monotonic_ns()}.yml"
    path.write_text(HEAD + body)
    done = rack.run("ansible-playbook", os.fspath(path), *options, check=False, env={**CALLBACK, **env})
    return rows(done.stdout, done.stderr, check)


#: Results as lines of JSON, and each task by one command over the connection instead of six.
CALLBACK = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_STDOUT_CALLBACK": "rows",
    "ANSIBLE_CALLBACK_PLUGINS": f"{Path(__file__).parents[1] / 'machines' / 'callbacks'}:{os.environ.get('ANSIBLE_CALLBACK_PLUGINS', '')}",
}
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
    return [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(private.glob("artifacts/*/job_events/*.json"))
    ]


def prepare(rack: Rack, **options: Any) -> None:
    role = json.dumps({"role": "netops.underlay.prepare", "prepare_install": False, **options})
    play(rack, f"  roles: [{role}]\n")


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
            addresses = sorted(
                f"{entry['local']}/{entry['prefixlen']}" for entry in row["addr_info"] if entry["scope"] == "global"
            )
            found[f"{space}/{row['ifname']}"] = (
                row.get("link"), row["mtu"], "UP" in row["flags"], row.get("group"), row.get("linkinfo", {}).get("info_data"), addresses
            )  # fmt: skip
        routes = [
            row
            for row in ip(host, *inside, "route", "show", "table", "all")
            if row.get("protocol") in ("201", "netops-underlay")
        ]
        found[f"{space} routes"] = sorted((row["dst"], row.get("dev", ""), row.get("gateway", "")) for row in routes)
    return found
