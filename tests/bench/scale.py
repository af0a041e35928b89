# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole host costs here, beside ``ip`` where it does the same; and the goals of the design."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.netops.underlay.plugins.module_utils._engine.service import watch
from rooms import Case, Figures, KernelClock, again, cpu, engine, fresh, networks, play, room, run, seconds

ROUNDS = 3
SIZES = (8, 32, 128, 512, 1024, 2048, 4094)
ALL = SIZES[-1]
#: Endpoints on one parent.
CROWDS = (500, 1000, 2000, 4000)
#: The kernel tells of some 100 links a second after a flap, and nothing of it may cost anything.
WATCHED = 45.0

# The figures that become lines over the size, too.
IP, FLOOR, OURS = "ip -batch, bare links", "the kernel's part of vlan_map", "vlan_map"
TEMPLATE, SRC, BY_MAP, ENGINE = (
    "ansible-playbook, nothing to do, by a template",
    "ansible-playbook, nothing to do, by src",
    "ansible-playbook, nothing to do, by the inventory's map",
    "the engine alone, nothing to do",
)
AGAIN, SHOW = "vlan_map again, nothing to do", "ip -d -j link show"


def full_trunk(count: int) -> Figures:
    """Sub-interfaces with a network each, isolated; beside ``ip -batch`` with the bare links."""
    with room():
        add = "".join(f"link add link trunk name trunk.{vlan} up type vlan id {vlan}\n" for vlan in range(1, count + 1))
        yield IP, seconds(lambda: run("ip -batch -", add))
        yield SHOW, seconds(lambda: run("ip -d -j link show > /dev/null"))
        remove = "".join(f"link del trunk.{vlan}\n" for vlan in range(1, count + 1))
        yield "ip -batch, removing them", seconds(lambda: run("ip -batch -", remove))
    with room() as state:
        rows = networks(count)
        with KernelClock() as kernel:
            took = seconds(lambda: engine(state, networks=rows))
        yield OURS, took
        yield FLOOR, kernel.seconds
        yield AGAIN, again(state, networks=rows)
        yield "vlan_map, removing them", seconds(lambda: engine(state, purge=True))
    yield "peak memory of the engine, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def beside_foreign_links(count: int) -> Figures:
    """Nothing to do, with as many links of somebody else beside."""
    with room() as state:
        run("ip link add other type dummy; ip link set other up")
        run(
            "ip -batch -",
            "".join(f"link add link other name o.{vlan} type vlan id {vlan}\n" for vlan in range(1, count + 1)),
        )
        rows = networks(count)
        engine(state, networks=rows)
        yield SHOW, seconds(lambda: run("ip -d -j link show > /dev/null"))
        yield AGAIN, again(state, networks=rows)


def endpoints(count: int) -> Figures:
    """Endpoints of one network, in a namespace each."""
    row = {"name": "n", "driver": "macvlan", "parent": "trunk.5", "subnets": [{"subnet": "10.5.0.0/16"}]}
    rows = [{"network": "n", "name": f"e{number}", "netns": f"s{number}"} for number in range(count)]
    with room() as state:
        yield "vlan_map", seconds(lambda: engine(state, networks=[row], endpoints=rows))
        yield AGAIN, again(state, networks=[row], endpoints=rows)
        yield "vlan_map, removing them", seconds(lambda: engine(state, purge=True))


def service(count: int, watched: float) -> Figures:
    """What the service takes after every link of a trunk went down and up, and how soon it brings back one."""
    with room() as state:
        engine(state, networks=networks(count))
        child = os.fork()
        if child == 0:
            os._exit(watch.Watcher(state, heal=True, sandboxed=False).run())
        try:
            _settle(child)
            before = cpu(child)
            run("ip link set trunk down; ip link set trunk up")
            time.sleep(watched)
            yield f"the service, CPU after a flap of {count} links", cpu(child) - before
            index = socket.if_nametoindex("trunk.5")
            run("ip link del trunk.5")
            yield "until one removed link is there again", seconds(lambda: _until_back("trunk.5", index))
        finally:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


def _settle(process: int) -> None:
    """Until a process that looks at the host rests."""
    known = -1.0
    while known != cpu(process) or not known:
        known = cpu(process)
        time.sleep(3)


def _until_back(name: str, before: int) -> None:
    """By asking for one name: to list all links each time would take what the service needs to repair one."""
    while True:
        with contextlib.suppress(OSError):  # there is no such link
            if socket.if_nametoindex(name) != before:
                return
        time.sleep(0.005)


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
        task: Dict[str, Any] = {
            "netops.underlay.vlan_map": {"name": "b", "networks": rows, "endpoints": ends, "state_dir": state}
        }
        yield "one task of vlan_map", seconds(lambda: play([task], state))
    with room() as state:
        loop: Dict[str, Any] = {"ansible.builtin.command": {"cmd": "{{ item }}"}, "loop": shell[: len(shell) // 5]}
        yield "a loop of command: ip (a fifth of it, times 5)", 5 * seconds(lambda: play([loop], state))


MAP = {
    "hosts": "here ansible_connection=local\n",
    "netops_map.yml": "plugin: netops.underlay.netops_map\nmaps: [vlans.csv]\n",
}


def whole_task(count: int) -> Figures:
    """What Ansible adds to the engine: beside the same play without a task, with a ping, and with a task of ours that has nothing in it."""
    rows = networks(count)

    def task(**options: Any) -> List[Dict[str, Any]]:
        return [{"netops.underlay.vlan_map": {"name": "bench", "state_dir": state, **options}}]

    with room() as state:
        source, inventory = Path(state, "rows.yml"), Path(state, "inventory")
        source.write_text("networks:\n" + "".join(f"  - {json.dumps(row)}\n" for row in rows))
        inventory.mkdir()
        lines = [
            f"{vlan},{row['name']},trunk,macvlan,{row['subnets'][0]['subnet']}" for vlan, row in enumerate(rows, 1)
        ]
        for name, text in {**MAP, "vlans.csv": "vlan,name,trunk,driver,subnets\n" + "\n".join(lines) + "\n"}.items():
            (inventory / name).write_text(text)
        with_map = f"{inventory}/hosts -i {inventory}/netops_map.yml"
        yield "ansible-playbook, no task", seconds(lambda: play([{"ansible.builtin.meta": "noop"}], state))
        yield "ansible-playbook, no task, rows", seconds(lambda: play([{"ansible.builtin.meta": "noop"}], state, rows))
        yield (
            "ansible-playbook, no task, the map",
            seconds(lambda: play([{"ansible.builtin.meta": "noop"}], state, inventory=with_map)),
        )
        yield (
            "ansible-playbook, ansible.builtin.ping",
            seconds(lambda: play([{"ansible.builtin.ping": {}}], state)),
        )
        yield "ansible-playbook, a task with nothing in it", seconds(lambda: play(task(), state))
        templated = task(networks="{{ rows }}")
        yield f"ansible-playbook, {count} networks", seconds(lambda: play(templated, state, rows))
        yield TEMPLATE, seconds(lambda: play(templated, state, rows))
        yield SRC, seconds(lambda: play(task(src=str(source)), state))
        yield BY_MAP, seconds(lambda: play(task(inventory_map=True), state, inventory=with_map))
        yield ENGINE, fresh(state, networks=rows)
    with room() as state:
        yield f"the engine alone, {count} networks", seconds(lambda: engine(state, networks=rows))


def cases(quick: bool) -> List[Case]:
    rounds, many, some, crowds = (1, 128, 20, (50,)) if quick else (ROUNDS, ALL, 100, CROWDS)

    def case(name: str, work: Callable[[], Figures], often: int = rounds) -> Case:
        return Case(name, work, often)

    found = [case(trunk(size), lambda size=size: full_trunk(size)) for size in SIZES if size <= many]  # type: ignore[misc]
    return [
        *found,
        case("beside foreign links", lambda: beside_foreign_links(many)),
        *(Case(crowd(size), lambda size=size: endpoints(size), rounds, 900) for size in crowds),  # type: ignore[misc]
        case("the service", lambda: service(many, 5.0 if quick else WATCHED)),
        case(
            "64 trunks of 256 VLANs" if not quick else "4 trunks of 16 VLANs",
            lambda: many_trunks(*((4, 16) if quick else (64, 256))),
            1,
        ),
        case("networks with an endpoint each", lambda: networks_with_endpoints(some)),
        Case("the whole task", lambda: whole_task(many), rounds, 900),
    ]


def trunk(size: int) -> str:
    return f"full trunk {size}"


def crowd(size: int) -> str:
    return f"{size} endpoints on one parent"


Found = Mapping[str, Mapping[str, float]]


def _ratio(of: Found, case: str, what: str, to: str) -> float:
    return of[case][what] / of[case][to]


def _own(figures: Mapping[str, float]) -> float:
    return figures[OURS] - figures[FLOOR]


def _over_the_engine(task: Mapping[str, float], how: str, without: str) -> float:
    return task[how] - task[without] - task[ENGINE]


#: What, how it is read from the figures of a round, and the most that it may be.
GOALS: List[Any] = [
    ("4,094 VLANs with a network each, to ip -batch with the bare links", lambda of: _ratio(of, trunk(ALL), OURS, IP), 0.35),
    ("nothing to do, in a new process, to ip -d -j link show", lambda of: _ratio(of, trunk(ALL), AGAIN, SHOW), 0.6),
    ("the same beside 4,094 links of somebody else", lambda of: _ratio(of, "beside foreign links", AGAIN, SHOW), 0.6),
    ("removing them all, to ip -batch", lambda of: _ratio(of, trunk(ALL), "vlan_map, removing them", "ip -batch, removing them"), 0.2),
    ("growth from 512 to 4,094 of what is ours", lambda of: _own(of[trunk(ALL)]) / _own(of[trunk(512)]), 8.5),
    ("growth from 512 to 4,094 of the whole, the kernel's part included", lambda of: of[trunk(ALL)][OURS] / of[trunk(512)][OURS], 8.5),
    ("growth from 500 to 4,000 endpoints on one parent", lambda of: of[crowd(4000)][OURS] / of[crowd(500)][OURS], 8.5),
    ("what a task takes over the engine by src, seconds", lambda of: _over_the_engine(of["the whole task"], SRC, "ansible-playbook, no task"), 1.0),
    ("what a task takes over the engine by the inventory's map, seconds",
     lambda of: _over_the_engine(of["the whole task"], BY_MAP, "ansible-playbook, no task, the map"), 1.0),
    ("CPU of the service after a flap of 4,094 links, seconds", lambda of: of["the service"][f"the service, CPU after a flap of {ALL} links"], 1.0),
    ("until one removed link of 4,094 is there again, seconds", lambda of: of["the service"]["until one removed link is there again"], 0.3),
    ("100 networks with an endpoint each, to a loop of command: ip",
     lambda of: _ratio(of, "networks with an endpoint each", "one task of vlan_map", "a loop of command: ip (a fifth of it, times 5)"), 0.01),
    ("peak memory of the engine, MB", lambda of: of[trunk(ALL)]["peak memory of the engine, MB"], 100.0),
]  # fmt: skip


def targets(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> List[Dict[str, Any]]:
    """The goals of the design, by this run, each round by itself; a goal whose figures are not there is not met."""
    rows = []
    for what, read, goal in GOALS:
        values = sorted(value for number in range(ROUNDS) if (value := _value(read, rounds, number)) is not None)
        middle = values[len(values) // 2] if values else None
        rows.append({
            "what": what, "is": middle, "spread": [values[0], values[-1]] if values else None, "goal": goal,
            "met": middle is not None and middle <= goal,
        })  # fmt: skip
    return rows


def _value(
    read: Callable[[Found], float], rounds: Mapping[str, Sequence[Mapping[str, float]]], number: int
) -> Optional[float]:
    try:
        return round(read({case: found[number] for case, found in rounds.items() if number < len(found)}), 3)
    except KeyError:
        return None
