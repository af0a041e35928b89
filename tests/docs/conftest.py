# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the examples of the documentation: each a network namespace of its own with the NICs that the example names.

Ansible runs its modules there because the host's Python is a script that enters the namespace first.
"""

from __future__ import annotations

import ast
import copy
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import yaml

CHECKOUT = Path(__file__).absolute().parents[2]
EXAMPLES = CHECKOUT / "docs" / "examples"
PLUGINS = CHECKOUT / "plugins"

#: The container that some examples name.
CONTAINER = "podman import -q /opt/images/busybox.tar busybox >/dev/null 2>&1; podman run -d --network none --name proxy busybox sleep 3600 >/dev/null"
NO_CONTAINER = "podman rm -f -t 0 proxy >/dev/null"

#: What a host has to itself beside its network: the registry and the names of its namespaces.
_OWN = ("/run/netns", "/var/lib", "/etc/netns")


#: What check mode must foretell. In a loop only whether anything changes: a later item may build on an earlier one.
_FORETOLD = ["before.changed == real.changed", "'results' in real or before.plan.total | default(0) == real.plan.total | default(0)"]


def twice(task: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """A task of ours in check mode and for real; any other as it is."""
    if not any(key.startswith("netops.underlay.") for key in task) or any(key in task for key in ("check_mode", "ignore_errors", "failed_when")):
        yield task
        return
    before, real = copy.deepcopy(task), copy.deepcopy(task)
    name = real.setdefault("register", "example_real")
    before.update(name=f"check: {task['name']}", check_mode=True, register="example_before")
    yield from (before, real)
    yield {
        "name": f"Check mode foretold it: {task['name']}",
        "vars": {"before": "{{ example_before }}", "real": f"{{{{ {name} }}}}"},
        "ansible.builtin.assert": {
            "that": _FORETOLD,
            "fail_msg": f"before {{{{ example_before }}}} real {{{{ {name} }}}}",
            "quiet": True,
        },
    }


def text_of_examples(plugin: Path) -> str:
    """EXAMPLES of a plugin, as they are shown."""
    (text,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(plugin.read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXAMPLES"
    )
    return str(text)


def examples(module: str) -> List[Dict[str, Any]]:
    """The tasks in EXAMPLES of a module."""
    found: List[Dict[str, Any]] = yaml.safe_load(text_of_examples(PLUGINS / "modules" / f"{module}.py"))
    return found


class Host:
    """A namespace that plays a host."""

    def __init__(self, name: str, links: Dict[str, List[str]], mtu: int, directory: Path) -> None:
        mounts = "; ".join(f"mkdir -p {place}; mount -t tmpfs none {place}" for place in _OWN)
        self._keeper = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", f"{mounts}; echo ready; exec sleep infinity"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._keeper.stdout and self._keeper.stdout.readline() == "ready\n"
        self.enter = ["nsenter", f"--net=/proc/{self._keeper.pid}/ns/net", f"--mount=/proc/{self._keeper.pid}/ns/mnt"]
        self.python = directory / f"python-{name}"
        self.python.write_text(f'#!/bin/sh\nexec {" ".join(self.enter)} --wd="$PWD" /usr/bin/python3 "$@"\n')
        self.python.chmod(0o755)
        self.run("ip link set lo up")
        for link, addresses in links.items():
            self.run(f"ip link add {link} mtu {mtu} type veth peer name far-{link} mtu {mtu}; ip link set far-{link} up; ip link set {link} up")
            for address in addresses:
                self.run(f"ip address add {address} dev {link}")

    def run(self, command: str) -> str:
        """Carry out lines of shell there; what they print. Raises CalledProcessError."""
        return subprocess.run([*self.enter, "sh", "-ec", command], check=True, text=True, stdout=subprocess.PIPE).stdout

    def end(self) -> None:
        self._keeper.kill()
        self._keeper.wait()


class Lab:
    """The hosts of an inventory, and Ansible on them."""

    def __init__(self, inventory: Dict[str, Any], directory: Path) -> None:
        self.directory = directory
        self.inventory = inventory
        self.hosts = {name: Host(name, row.get("links", {}), row.get("mtu", 1500), directory) for name, row in _hosts(inventory).items()}
        for name, row in _hosts(inventory).items():
            row.update(ansible_connection="local", ansible_python_interpreter=str(self.hosts[name].python))
        (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))

    def play(self, playbook: Path, *options: str) -> str:
        """Run a playbook; what Ansible says. Where it fails, that is shown."""
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.directory / "inventory.yml"), *options, str(playbook)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1",
                 "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def end(self) -> None:
        for host in self.hosts.values():
            host.end()


def _hosts(inventory: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    """Every host of an inventory with its variables."""
    found: Dict[str, Dict[str, Any]] = {}
    for group in inventory.values():
        found.update(group.get("hosts", {}))
        found.update(_hosts(group.get("children", {})))
    return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    """Makes a lab from an inventory; it ends with the test."""
    labs: List[Lab] = []

    def make(inventory: Dict[str, Any]) -> Lab:
        labs.append(Lab(inventory, tmp_path))
        return labs[-1]

    yield make
    for one in labs:
        one.end()
