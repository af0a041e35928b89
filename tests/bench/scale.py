# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole host costs here, beside ``ip`` where it does the same; and the goals of the design."""

from __future__ import annotations

import resource
from typing import Any, Callable, Dict, List, Mapping

from rooms import Case, Figures, KernelClock, engine, networks, play, room, run, seconds

ROUNDS = 3
SIZES = (8, 32, 128, 512, 1024, 2048, 4094)
ALL = SIZES[-1]

# The figures that become lines over the size, too.
IP, FLOOR, OURS = "ip -batch, bare links", "the kernel's part of vlan_map", "vlan_map"


def full_trunk(count: int) -> Figures:
    """Sub-interfaces with a network each, isolated; beside ``ip -batch`` with the bare links."""
    with room():
        add = "".join(f"link add link trunk name trunk.{vlan} up type vlan id {vlan}\n" for vlan in range(1, count + 1))
        yield IP, seconds(lambda: run("ip -batch -", add))
        yield "ip -d -j link show", seconds(lambda: run("ip -d -j link show > /dev/null"))
        remove = "".join(f"link del trunk.{vlan}\n" for vlan in range(1, count + 1))
        yield "ip -batch, removing them", seconds(lambda: run("ip -batch -", remove))
    with room() as state:
        rows = networks(count)
        with KernelClock() as kernel:
            took = seconds(lambda: engine(state, networks=rows))
        yield OURS, took
        yield FLOOR, kernel.seconds
        yield "vlan_map again, nothing to do", seconds(lambda: engine(state, networks=rows))
        yield "vlan_map, removing them", seconds(lambda: engine(state, purge=True))
    yield "peak memory of the engine, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside_foreign_links(count: int) -> Figures:
    """Nothing to do, with as many links of somebody else beside."""
    with room() as state:
        run("ip link add other type dummy; ip link set other up")
        run("ip -batch -", "".join(f"link add link other name o.{vlan} type vlan id {vlan}\n" for vlan in range(1, count + 1)))
        rows = networks(count)
        engine(state, networks=rows)
        yield "ip -d -j link show", seconds(lambda: run("ip -d -j link show > /dev/null"))
        yield "vlan_map again, nothing to do", seconds(lambda: engine(state, networks=rows))


def endpoints(count: int, spread: bool) -> Figures:
    """Endpoints of one network, in a namespace each or all in ten."""
    row = {"name": "n", "driver": "macvlan", "parent": "trunk.5", "subnets": [{"subnet": "10.5.0.0/16"}]}
    rows = [{"network": "n", "name": f"e{number}", "netns": f"s{number if spread else number % 10}"} for number in range(count)]
    with room() as state:
        yield "vlan_map", seconds(lambda: engine(state, networks=[row], endpoints=rows))
        yield "vlan_map again, nothing to do", seconds(lambda: engine(state, networks=[row], endpoints=rows))
        yield "vlan_map, removing them", seconds(lambda: engine(state, purge=True))


def many_trunks(trunks: int, vlans: int) -> Figures:
    with room() as state:
        names = [f"t{number}" for number in range(trunks)]
        run("ip -batch -", "".join(f"link add {name} type dummy\nlink set {name} up\n" for name in names))
        rows = [row for name in names for row in networks(vlans, name)]
        for number, row in enumerate(rows):
            row["subnets"] = [{"subnet": f"10.{number >> 8}.{number & 255}.0/24"}]
        yield "vlan_map", seconds(lambda: engine(state, networks=rows))


def networks_with_endpoints(count: int) -> Figures:
    """A hundred networks with an endpoint each: one task, and the loops that people write today, a fifth of them."""
    rows = networks(count)
    ends = [{"network": row["name"], "name": "e", "netns": f"s{number}"} for number, row in enumerate(rows)]
    shell = []
    for number in range(1, count + 1):
        space, link = f"s{number}", f"trunk.{number}"
        shell += [
            f"ip link add link trunk name {link} up type vlan id {number}",
            f"ip netns add {space}",
            f"ip link add m{number} link {link} type macvlan mode bridge",
            f"ip link set m{number} netns {space} name eth0",
            f"ip -n {space} address add 10.0.{number}.2/24 dev eth0",
            f"ip -n {space} link set eth0 up",
            f"ip -n {space} route add default via 10.0.{number}.1",
        ]
    with room() as state:
        task: Dict[str, Any] = {"netops.underlay.vlan_map": {"name": "b", "networks": rows, "endpoints": ends, "state_dir": state}}
        yield "one task of vlan_map", seconds(lambda: play([task], state))
    with room() as state:
        loop: Dict[str, Any] = {"ansible.builtin.command": {"cmd": "{{ item }}"}, "loop": shell[: len(shell) // 5]}
        yield "a loop of command: ip (a fifth of it, times 5)", 5 * seconds(lambda: play([loop], state))


def whole_task(count: int) -> Figures:
    """What Ansible adds to the engine: beside the same play without a task, with a ping, and with a task of ours that has nothing in it."""
    rows = networks(count)
    with room() as state:
        task = {"netops.underlay.vlan_map": {"name": "b", "networks": "{{ rows }}", "state_dir": state}}
        empty = {"netops.underlay.vlan_map": {"name": "c", "state_dir": state}}
        yield "ansible-playbook, no task", seconds(lambda: play([{"ansible.builtin.meta": "noop"}], state, rows))
        yield "ansible-playbook, ansible.builtin.ping", seconds(lambda: play([{"ansible.builtin.ping": {}}], state, rows))
        yield "ansible-playbook, a task with nothing in it", seconds(lambda: play([empty], state, rows))
        yield f"ansible-playbook, {count} networks", seconds(lambda: play([task], state, rows))
        yield "ansible-playbook, nothing to do", seconds(lambda: play([task], state, rows))
    with room() as state:
        yield f"the engine alone, {count} networks", seconds(lambda: engine(state, networks=rows))
        yield "the engine alone, nothing to do", seconds(lambda: engine(state, networks=rows))


def cases(quick: bool) -> List[Case]:
    rounds, many, some = (1, 128, 20) if quick else (ROUNDS, ALL, 100)

    def case(name: str, work: Callable[[], Figures], often: int = rounds) -> Case:
        return Case(name, work, often)

    found = [case(trunk(size), lambda size=size: full_trunk(size)) for size in SIZES if size <= many]  # type: ignore[misc]
    return [
        *found,
        case("beside foreign links", lambda: beside_foreign_links(many)),
        case("endpoints in a namespace each", lambda: endpoints(10 * some, True)),
        case("endpoints in ten namespaces", lambda: endpoints(10 * some, False)),
        case("64 trunks of 256 VLANs" if not quick else "4 trunks of 16 VLANs", lambda: many_trunks(*((4, 16) if quick else (64, 256))), 1),
        case("networks with an endpoint each", lambda: networks_with_endpoints(some), 1),
        case("the whole task", lambda: whole_task(many)),
    ]


def trunk(size: int) -> str:
    return f"full trunk {size}"


Found = Mapping[str, Mapping[str, float]]

#: What, how it is read from the figures of a whole run, and the most that it may be.
GOALS: List[Any] = [
    ("4,094 VLANs with a network each, to ip -batch with the bare links", lambda of: of[trunk(ALL)][OURS] / of[trunk(ALL)][IP], 0.6),
    ("nothing to do, to ip -d -j link show", lambda of: of[trunk(ALL)]["vlan_map again, nothing to do"] / of[trunk(ALL)]["ip -d -j link show"], 1.0),
    ("the same beside 4,094 links of somebody else",
     lambda of: of["beside foreign links"]["vlan_map again, nothing to do"] / of["beside foreign links"]["ip -d -j link show"], 1.0),
    ("removing them all, to ip -batch", lambda of: of[trunk(ALL)]["vlan_map, removing them"] / of[trunk(ALL)]["ip -batch, removing them"], 0.5),
    ("growth from 512 to 4,094", lambda of: of[trunk(ALL)][OURS] / of[trunk(512)][OURS], 8.5),
    ("what the whole task takes over the engine, seconds", lambda of: _over_the_engine(of["the whole task"]), 1.5),
    ("100 networks with an endpoint each, to a loop of command: ip",
     lambda of: of["networks with an endpoint each"]["one task of vlan_map"]
     / of["networks with an endpoint each"]["a loop of command: ip (a fifth of it, times 5)"], 0.1),
    ("peak memory of the engine, MB", lambda of: of[trunk(ALL)]["peak memory of the engine, MB"], 150.0),
]  # fmt: skip


def _over_the_engine(task: Mapping[str, float]) -> float:
    whole = task[f"ansible-playbook, {ALL} networks"] - task["ansible-playbook, no task"]
    return whole - task[f"the engine alone, {ALL} networks"]


def targets(found: Found) -> List[Dict[str, Any]]:
    """The goals of the design, by this run; a goal whose figures are not there is not met."""
    rows = []
    for what, read, goal in GOALS:
        try:
            value = round(read(found), 3)
        except KeyError:
            value = None
        rows.append({"what": what, "is": value, "goal": goal, "met": value is not None and value <= goal})
    return rows
