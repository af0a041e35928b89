# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others take for VLANs on a trunk, size by size; each as far as its patience reaches.

All of them make the links and raise them. Only vlan_map and vlan_network keep the host's presence off them, and remember
whose they are; only Docker has a network too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from rooms import Case, Figures, Host, networks, play, room, run, seconds

#: Where tests/bench/bench put IfState, for the Python of the lab.
IFSTATE = Path(__file__).resolve().parents[2] / ".cache" / "bench" / "ifstate"
LOOPS = (8, 32)


def playbook_of_map(sizes: Sequence[int]) -> Figures:
    for size in sizes:
        with room() as state:
            task = {"netops.underlay.vlan_map": {"name": "b", "networks": "{{ rows }}", "state_dir": state}}
            yield str(size), seconds(lambda: play([task], state, networks(size)))  # noqa: B023


def loop_of_network(sizes: Sequence[int]) -> Figures:
    for size in sizes:
        with room() as state:
            options: Dict[str, Any] = {
                "name": "{{ item.name }}",
                "driver": "macvlan",
                "parent": "{{ item.parent }}",
                "subnets": "{{ item.subnets }}",
            }
            task = {"netops.underlay.vlan_network": {**options, "state_dir": state}, "loop": "{{ rows }}"}
            yield str(size), seconds(lambda: play([task], state, networks(size)))  # noqa: B023


def loop_of_command(sizes: Sequence[int]) -> Figures:
    for size in sizes:
        with room() as state:
            commands = [
                f"ip link add link trunk name trunk.{vlan} up type vlan id {vlan}" for vlan in range(1, size + 1)
            ]
            task = {"ansible.builtin.command": {"cmd": "{{ item }}"}, "loop": commands}
            yield str(size), seconds(lambda: play([task], state))  # noqa: B023


def docker(sizes: Sequence[int]) -> Figures:
    """One after the other, as there is no other way; Docker makes the sub-interface too."""
    run("ip link add dock0 type dummy; ip link set dock0 up; tests/lab/dockerd start >/dev/null 2>&1")
    try:
        for size in sizes:
            commands = "".join(
                f"docker network create -d macvlan -o parent=dock0.{vlan} --subnet 10.77.{vlan}.0/24 b{vlan}\n"
                for vlan in range(1, size + 1)
            )
            yield str(size), seconds(lambda: run(commands))  # noqa: B023
            run("docker network prune --force")
    finally:
        run("tests/lab/dockerd stop; ip link del dock0")


def networkd(sizes: Sequence[int]) -> Figures:
    """systemd-networkd with a .netdev and a .network for each, from its start until every link is up."""
    up = "ip -br link show up type vlan | wc -l"
    with Host() as host:
        for size in sizes:
            host.run("systemctl stop systemd-networkd.socket systemd-networkd.service; rm -f /etc/systemd/network/*")
            host.new_trunk()
            units = 'cd /etc/systemd/network; printf "[Match]\\nName=trunk\\n[Network]\\nLinkLocalAddressing=no\\n" > 20-trunk.network\n'
            units += f"""for i in $(seq {size}); do
                echo VLAN=trunk.$i >> 20-trunk.network
                printf "[NetDev]\\nName=trunk.$i\\nKind=vlan\\n[VLAN]\\nId=$i\\n" > 10-trunk.$i.netdev
                printf "[Match]\\nName=trunk.$i\\n[Network]\\nLinkLocalAddressing=no\\n" > 30-trunk.$i.network
            done"""
            host.run(units)
            yield (
                str(size),
                host.seconds(f"systemctl start systemd-networkd; until [ $({up}) -eq {size} ]; do sleep 0.05; done"),
            )


def ifstate(sizes: Sequence[int]) -> Figures:
    """It wants to be in the network namespace of process 1, so it gets a process namespace of its own."""
    if not IFSTATE.is_dir():
        raise RuntimeError("IfState is not installed")
    for size in sizes:
        with room() as state:
            config = Path(state, "ifstate.yml")
            rows = [
                f"  trunk.{vlan}: {{link: {{kind: vlan, link: trunk, vlan_id: {vlan}, state: up}}}}\n"
                for vlan in range(1, size + 1)
            ]
            config.write_text("interfaces:\n  trunk: {link: {kind: dummy, state: up}}\n" + "".join(rows))
            command = f"PYTHONPATH={IFSTATE} unshare --pid --fork --mount-proc {sys.executable} -m ifstate.ifstate -q -c {config} apply"
            took = seconds(lambda: run(command))  # noqa: B023
            made = int(run("ip -br link show up type vlan | wc -l"))
            if made != size:
                raise RuntimeError(f"IfState made {made} links of {size}")
            yield str(size), took


def cases(quick: bool) -> List[Case]:
    def case(name: str, work: Callable[[Sequence[int]], Figures], sizes: Sequence[int], rounds: int = 1) -> Case:
        few = sizes[:1] if quick else sizes
        return Case(name, lambda: work(few), 1 if quick else rounds, 120 if quick else 300)

    return [
        case("a playbook with one task of vlan_map", playbook_of_map, (8, 32, 512, 4094)),
        case("a loop of vlan_network", loop_of_network, LOOPS),
        case("a loop of command: ip", loop_of_command, LOOPS),
        case("docker network create", docker, LOOPS),
        case("systemd-networkd, generated units", networkd, (8, 32, 128)),
        case("IfState", ifstate, (8, 32, 64)),
    ]
