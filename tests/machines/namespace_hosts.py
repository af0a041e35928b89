# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Many hosts on one machine of a rack: each a network, mounts, processes, an sshd and a registry of its own.

They have the kernel, the users and the installed engine of the machine, and no systemd.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rack import NETWORK_4, SSH_OPTIONS, Host, Rack

_FIRST = 100  # of their addresses in the network of the controller
_OWN = ("/run", "/tmp", "/var/lib", "/etc/netns")
_START = """\
set -e
for place in {own}; do mkdir -p $place; done
ip netns add {name}
{cable}
ip -n {name} link set lo up
ip -n {name} link set eth0 up
ip -n {name} address add {address}/24 dev eth0
ip -n {name} link add eth1 up type dummy
systemd-run --quiet --collect --unit=space-{name} ip netns exec {name} unshare --mount --uts --pid --fork --mount-proc \
--propagation private sh -ec 'hostname {name}; for place in {own}; do mount -t tmpfs none $place; done; mkdir /run/sshd; exec /usr/sbin/sshd -D'
"""
_ON_THE_WIRE = (
    "ip link add link eth0 name on-{name} type macvlan mode bridge; ip link set on-{name} netns {name} name eth0"
)
_BEHIND = "ip link add to-{name} type veth peer name eth0 netns {name}; ip address add {gateway}/24 dev to-{name}; ip link set to-{name} up"


@dataclass
class Space(Host):
    """Speaks as the rack's hosts do, but is reached by the words of ``way`` and never reboots."""

    way: Sequence[str] = ()
    at: str = ""

    @property
    def address(self) -> str:
        return self.at

    def ssh_words(self) -> list[str]:
        return [*super().ssh_words(), *self.way]


def start(machine: Host, count: int) -> list[Space]:
    """Hosts in the controller's own network."""
    found = [Space(f"s{number}", at=str(NETWORK_4[_FIRST + number])) for number in range(count)]
    _start(machine, found, _ON_THE_WIRE)
    return found


def behind(machine: Host, config: Path) -> Space:
    """A host in a network that only the machine is in, so that it is the only way there."""
    found = Space("inner", at="10.77.0.2", way=["-F", os.fspath(config)])
    options = "".join(f"  {option[2:].replace('=', ' ', 1)}\n" for option in SSH_OPTIONS)
    config.write_text(
        f"Host *\n{options}  IdentityFile {machine.key}\nHost {found.address}\n  ProxyJump root@{machine.address}\n"
    )
    _start(machine, [found], _BEHIND.replace("{gateway}", "10.77.0.1"))
    return found


def _start(machine: Host, spaces: Sequence[Space], cable: str) -> None:
    text = ""
    for space in spaces:
        space.key = machine.key
        text += _START.format(
            name=space.name, address=space.address, own=" ".join(_OWN), cable=cable.format(name=space.name)
        )
    machine.ssh(text)


def inventory(rack: Rack, name: str, spaces: Sequence[Host], **more: str) -> str:
    """The path of an inventory with these hosts alone."""
    path = rack.directory / f"{name}.ini"
    lines = ["[rack]"]
    for space in spaces:
        words = [*SSH_OPTIONS, *getattr(space, "way", ())]
        lines.append(f"{space.name} ansible_host={space.address} ansible_ssh_common_args='{' '.join(words)}'")
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": os.fspath(rack.key),
        "ansible_python_interpreter": "/usr/bin/python3",
        **more,
    }
    lines += ["[rack:vars]", *(f"{key}={value}" for key, value in variables.items())]
    path.write_text("\n".join(lines) + "\n")
    return os.fspath(path)
