# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What links cost others on a host with systemd: udev, and Ansible's gathering of facts."""

from __future__ import annotations

from typing import List

from rooms import COLLECTIONS, Case, Figures, Host

ENGINE = """\
import rooms
rooms.engine("/var/lib/bench", {})
"""


def engine(host: Host, options: str) -> None:
    host.run(
        f"PYTHONPATH={COLLECTIONS}/ansible_collections/netops/underlay/tests/bench python3 -", ENGINE.format(options)
    )


def settle(count: int, with_rule: bool) -> Figures:
    """From the end of our work until udev has looked at each link."""
    with Host() as host:
        host.new_trunk()
        if with_rule:
            host.write_udev_rule()
        engine(host, f"networks=rooms.networks({count})")
        yield (
            f"udevadm settle after {count} links, {'with' if with_rule else 'without'} the rule",
            host.seconds("udevadm settle --timeout=600"),
        )


def facts(count: int) -> Figures:
    """Beside links that nothing looks at any longer."""
    setup = "cd /tmp; PATH=/opt/venv/bin:$PATH ansible -i localhost, -c local localhost -m ansible.builtin.setup -a 'gather_timeout=600{}'"
    with Host() as host:
        host.new_trunk()
        yield "facts, no links", host.seconds(setup.format(""))
        engine(host, f"networks=rooms.networks({count})")
        host.run("udevadm settle --timeout=600")
        yield (
            f"facts beside {count} links, gather_subset '!network'",
            host.seconds(setup.format(" gather_subset=!network")),
        )
        yield f"facts beside {count} links", host.seconds(setup.format(""))


def cases(quick: bool) -> List[Case]:
    links, few = (64, 16) if quick else (2048, 128)
    return [
        Case("udev without the collection's rule", lambda: settle(links, False), limit=400),
        Case("udev with the collection's rule", lambda: settle(links, True), limit=400),
        Case("Ansible's facts", lambda: facts(few)),
    ]
