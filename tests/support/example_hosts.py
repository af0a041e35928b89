# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the examples of the documentation: each a network namespace of its own with the NICs that the example names.

All are in one machine of a rack, and Ansible is outside, where it is four times as fast. It runs its modules there because
the host's Python is a script that enters the machine and the namespace first.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import yaml
from rack import SELF, Host, Rack

from tests.support.checkout import CHECKOUT

EXAMPLES = CHECKOUT / "docs" / "examples"
PLUGINS = CHECKOUT / "plugins"

#: The container that some examples name.
CONTAINER = "podman import -q /opt/images/busybox.tar busybox >/dev/null 2>&1; podman run -d --network none --name proxy busybox sleep 3600 >/dev/null"
NO_CONTAINER = "podman rm -f -t 0 proxy >/dev/null"

#: The connection to the machine that all modules share.
SOCKET = "/tmp/examples-%C"

#: What a host has to itself beside its network: the registry and the names of its namespaces.
_OWN = ("/run/netns", "/run/systemd", "/var/lib", "/etc/netns")


#: What check mode must predict. In a loop only whether anything changes: a later item may build on an earlier one.
_FORETOLD = [
    "before.changed == real.changed",
    "'results' in real or before.plan.total | default(0) == real.plan.total | default(0)",
]


def twice(task: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """A task of ours in check mode and for real; any other as it is."""
    if not any(key.startswith("netops.underlay.") for key in task) or any(
        key in task for key in ("check_mode", "ignore_errors", "failed_when")
    ):
        yield task
        return
    before, real = copy.deepcopy(task), copy.deepcopy(task)
    name = real.setdefault("register", "example_real")
    before.update(name=f"check: {task['name']}", check_mode=True, register="example_before")
    yield from (before, real)
    yield {
        "name": f"Check mode predicted it: {task['name']}",
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


class Example:
    """A namespace that plays a host, in the machine of all examples."""

    def __init__(self, machine: Host, name: str, links: Dict[str, List[str]], mtu: int, directory: Path) -> None:
        self._machine = machine
        begin = [f"mkdir -p {place}; mount -t tmpfs none {place}" for place in _OWN]
        begin.append("ip link set lo up")
        for link, addresses in links.items():
            begin.append(f"ip link add {link} mtu {mtu} type veth peer name far-{link} mtu {mtu}")
            begin += [f"ip link set {end} up" for end in (f"far-{link}", link)]
            begin += [f"ip address add {address} dev {link}" for address in addresses]
        unshare = "setsid unshare --net --mount --propagation private sh -ec"
        keeper = f"{unshare} {shlex.quote('; '.join([*begin, 'echo $$; exec sleep infinity']))}"
        wait = f"for try in $(seq 200); do [ -s /run/{name}.said ] && break; sleep 0.05; done"
        self._pid = machine.ssh(
            f"{keeper} </dev/null >/run/{name}.said 2>&1 & {wait}; cat /run/{name}.said; rm /run/{name}.said"
        ).stdout.strip()
        assert self._pid.isdigit(), self._pid
        self.enter = f"nsenter --net=/proc/{self._pid}/ns/net --mount=/proc/{self._pid}/ns/mnt"
        # No child of sshd: what leads to the controller is not in this namespace. What a module leaves running runs on.
        start = f"systemd-run --quiet --collect --pipe --wait -p KillMode=process -p WorkingDirectory=/root {self.enter} /usr/bin/python3"
        self.python = directory / f"python-{name}"
        ssh = shlex.join(
            [*machine.ssh_words(), "-oControlMaster=no", f"-oControlPath={SOCKET}", f"root@{machine.address}"]
        )
        self.python.write_text(f'#!/bin/bash\nexec {ssh} {shlex.quote(start)} "${{@@Q}}"\n')
        self.python.chmod(0o755)

    def run(self, command: str) -> str:
        """Carry out lines of shell there; what they print. Raises RackError."""
        return self._machine.ssh(f"{self.enter} sh -ec {shlex.quote(command)}").stdout

    def end(self) -> None:
        self._machine.ssh(f"kill {self._pid}")


@contextlib.contextmanager
def examples_machine(shared: Path) -> Iterator[Host]:
    """The machine whose namespaces play hosts. It sees the directory under its name, where Ansible leaves files for its modules."""
    with Rack([Host("examples", root=SELF, nics={"eth0": "mgmt"}, mem="3G")]) as rack:
        (machine,) = rack
        machine.ssh(
            f"mkdir -p {shared}; mount -t hostfs -o hostfs={shared} none {shared}; mount -t tmpfs tmpfs /var/lib/containers"
        )
        words = [
            *machine.ssh_words(),
            "-N",
            "-oControlMaster=yes",
            f"-oControlPath={SOCKET}",
            f"root@{machine.address}",
        ]
        with subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as master:
            yield machine
            master.kill()  # what runs in the lab ignores SIGTERM


class Lab:
    """The hosts of an inventory, and Ansible on them."""

    def __init__(self, machine: Host, inventory: Dict[str, Any], directory: Path) -> None:
        self.directory = directory
        self.inventory = inventory
        self.hosts = {
            name: Example(machine, name, row.get("links", {}), row.get("mtu", 1500), directory)
            for name, row in _hosts(inventory).items()
        }
        for name, row in _hosts(inventory).items():
            row.update(ansible_connection="local", ansible_python_interpreter=str(self.hosts[name].python))
        (directory / "inventory.yml").write_text(yaml.safe_dump(inventory))

    def play(self, playbook: Path, *options: str) -> str:
        """Run a playbook; what Ansible says. Where it fails, that is shown."""
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.directory / "inventory.yml"), *options, str(playbook)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1",
                 "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3", "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote")},
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
