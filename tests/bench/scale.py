#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a whole host costs, side by side with its peers in one run; not a test.

    tests/lab/run --mem 6G -- python3 tests/bench/scale.py [--quick] RESULT.json

Runs as root inside the lab, each case in a network namespace of its own. Every figure is the median of ROUNDS runs; a
targets line is a ratio of two figures of this same run. ``page.py`` makes the page of the documentation from the result.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

COLLECTIONS = "/opt/collections"
sys.path.insert(0, COLLECTIONS)

from ansible_collections.netops.underlay.plugins.module_utils._engine import converge, model, rtnetlink

ROUNDS = 3
SIZES = (512, 1024, 2048, 4094)
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


# --- rooms of their own --------------------------------------------------------------------------


@contextlib.contextmanager
def room() -> Iterator[str]:
    """A network namespace, a /run/netns and a state directory that nobody else sees; with a base ``trunk``."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    state, directory = tempfile.mkdtemp(prefix="bench"), os.getcwd()
    try:
        libc.unshare(CLONE_NEWNS | CLONE_NEWNET)
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        os.makedirs("/run/netns", exist_ok=True)
        libc.mount(b"tmpfs", b"/run/netns", b"tmpfs", 0, None)
        run("ip link set lo up; ip link add trunk type dummy; ip link set trunk up")
        yield state
    finally:
        libc.setns(before[0], CLONE_NEWNET)
        libc.setns(before[1], CLONE_NEWNS)
        os.chdir(directory)  # another mount namespace is another root
        for descriptor in before:
            os.close(descriptor)
        shutil.rmtree(state)


def run(command: str, text: str = "") -> None:
    subprocess.run(["sh", "-ec", command], input=text, text=True, check=True, stdout=subprocess.DEVNULL)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def median(case: Callable[[], Dict[str, float]], rounds: int) -> Dict[str, float]:
    """The median of each figure of a case."""
    found = [case() for _ in range(rounds)]
    return {name: round(statistics.median(row[name] for row in found), 4) for name in found[0]}


class KernelClock:
    """The time that passes between a message's way into the kernel and its answer: the floor of every run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> KernelClock:
        self._real = {name: getattr(rtnetlink.socket.socket, name) for name in ("send", "recv", "recv_into")}
        for name, real in self._real.items():
            setattr(rtnetlink.socket.socket, name, self._timed(real))
        return self

    def __exit__(self, *_error: object) -> None:
        for name in self._real:
            delattr(rtnetlink.socket.socket, name)

    def _timed(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*arguments, **more)
            finally:
                self.seconds += time.perf_counter() - start

        return call


# --- the cases -----------------------------------------------------------------------------------


def networks(count: int, trunk: str = "trunk") -> List[Dict[str, Any]]:
    return [
        {"name": f"{trunk}-{vlan}", "driver": "macvlan", "parent": f"{trunk}.{vlan}", "subnets": [{"subnet": f"10.{vlan >> 8}.{vlan & 255}.0/24"}]}
        for vlan in range(1, count + 1)
    ]


def engine(state: str, **options: Any) -> int:
    declared = model.declare_map({"name": "bench", **options})
    return len(converge.converge(declared, converge.Run(state)).changes)


def full_trunk(count: int) -> Callable[[], Dict[str, float]]:
    """Sub-interfaces with a network each, isolated; beside ``ip -batch`` with the bare links."""

    def case() -> Dict[str, float]:
        found: Dict[str, float] = {}
        with room():
            add = "".join(f"link add link trunk name trunk.{vlan} up type vlan id {vlan}\n" for vlan in range(1, count + 1))
            found["ip -batch, bare links"] = seconds(lambda: run("ip -batch -", add))
            found["ip -d -j link show"] = seconds(lambda: run("ip -d -j link show"))
            remove = "".join(f"link del trunk.{vlan}\n" for vlan in range(1, count + 1))
            found["ip -batch, removing them"] = seconds(lambda: run("ip -batch -", remove))
        with room() as state:
            rows = networks(count)
            with KernelClock() as kernel:
                found["vlan_map"] = seconds(lambda: engine(state, networks=rows))
            found["the kernel's part of vlan_map"] = kernel.seconds
            found["vlan_map again, nothing to do"] = seconds(lambda: engine(state, networks=rows))
            found["vlan_map, removing them"] = seconds(lambda: engine(state, purge=True))
        return found

    return case


def beside_foreign_links(count: int) -> Callable[[], Dict[str, float]]:
    """Nothing to do, with as many links of somebody else beside."""

    def case() -> Dict[str, float]:
        with room() as state:
            run("ip link add other type dummy; ip link set other up")
            run("ip -batch -", "".join(f"link add link other name o.{vlan} type vlan id {vlan}\n" for vlan in range(1, count + 1)))
            rows = networks(count)
            engine(state, networks=rows)
            return {
                "ip -d -j link show": seconds(lambda: run("ip -d -j link show")),
                "vlan_map again, nothing to do": seconds(lambda: engine(state, networks=rows)),
            }

    return case


def endpoints(count: int, spread: bool) -> Callable[[], Dict[str, float]]:
    """Endpoints of one network, in a namespace each or all in ten."""

    def case() -> Dict[str, float]:
        row = {"name": "n", "driver": "macvlan", "parent": "trunk.5", "subnets": [{"subnet": "10.5.0.0/16"}]}
        rows = [{"network": "n", "name": f"e{number}", "netns": f"s{number if spread else number % 10}"} for number in range(count)]
        with room() as state:
            return {
                "vlan_map": seconds(lambda: engine(state, networks=[row], endpoints=rows)),
                "vlan_map again, nothing to do": seconds(lambda: engine(state, networks=[row], endpoints=rows)),
                "vlan_map, removing them": seconds(lambda: engine(state, purge=True)),
            }

    return case


def many_trunks() -> Dict[str, float]:
    """64 trunks of 256 VLANs."""
    with room() as state:
        trunks = [f"t{number}" for number in range(64)]
        run("ip -batch -", "".join(f"link add {name} type dummy\nlink set {name} up\n" for name in trunks))
        rows = [row for name in trunks for row in networks(256, name)]
        for number, row in enumerate(rows):
            row["subnets"] = [{"subnet": f"10.{number >> 8}.{number & 255}.0/24"}]
        return {"vlan_map": seconds(lambda: engine(state, networks=rows))}


PLAYBOOK = """\
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
    rows: {}
  tasks: {}
"""


def play(tasks: List[Dict[str, Any]], directory: str, rows: Sequence[Dict[str, Any]] = ()) -> None:
    """Run tasks in a play that has ``rows`` as a variable."""
    book = Path(directory, "play.yml")
    book.write_text(PLAYBOOK.format(json.dumps(rows), json.dumps(tasks)))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS, "ANSIBLE_PIPELINING": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
    subprocess.run(["ansible-playbook", "-i", "localhost,", book], check=True, stdout=subprocess.DEVNULL, env=environment)


def hundred_networks() -> Dict[str, float]:
    """A hundred networks with an endpoint each: one task, and the loops that people write today."""
    count = 100
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
    found: Dict[str, float] = {}
    with room() as state:
        map_task: Dict[str, Any] = {"netops.underlay.vlan_map": {"name": "b", "networks": rows, "endpoints": ends, "state_dir": state}}
        found["one task of vlan_map"] = seconds(lambda: play([map_task], state))
    with room() as state:
        one: Dict[str, Any] = {"netops.underlay.vlan_network": {**rows[0], "name": "{{ item.name }}", "parent": "{{ item.parent }}",
                               "subnets": "{{ item.subnets }}", "state_dir": state}, "loop": rows[:20]}  # fmt: skip
        found["a loop of vlan_network (20 of them, times 5)"] = 5 * seconds(lambda: play([one], state))
    with room() as state:
        # A fifth of them, because all of them take minutes.
        loop: Dict[str, Any] = {"ansible.builtin.command": {"cmd": "{{ item }}"}, "loop": shell[: len(shell) // 5]}
        found["a loop of command: ip (a fifth of it, times 5)"] = 5 * seconds(lambda: play([loop], state))
    return found


def whole_task() -> Dict[str, float]:
    """What Ansible adds to the engine on a full trunk: beside the same play, which reads the rows and makes nothing of them."""
    rows = networks(4094)
    with room() as state:
        task = {"netops.underlay.vlan_map": {"name": "b", "networks": "{{ rows }}", "state_dir": state}}
        empty = {"netops.underlay.vlan_map": {"name": "c", "state_dir": state}}
        found = {
            "ansible-playbook, a task with nothing in it": seconds(lambda: play([empty], state, rows)),
            "ansible-playbook, 4094 networks": seconds(lambda: play([task], state, rows)),
            "ansible-playbook, nothing to do": seconds(lambda: play([task], state, rows)),
        }
    with room() as state:
        found["the engine alone, 4094 networks"] = seconds(lambda: engine(state, networks=rows))
        found["the engine alone, nothing to do"] = seconds(lambda: engine(state, networks=rows))
    return found


def docker() -> Dict[str, float]:
    """``docker network create``, one after the other, as there is no other way."""
    run("ip link add dock0 type dummy; ip link set dock0 up; tests/lab/dockerd start")
    try:
        return {
            "docker network create, each": seconds(
                lambda: [run(f"docker network create -d macvlan -o parent=dock0.{vlan} --subnet 10.77.{vlan}.0/24 b{vlan}") for vlan in range(1, 11)]
            )
            / 10
        }
    finally:
        run("tests/lab/dockerd stop; ip link del dock0")


def cases(quick: bool) -> Iterator[Tuple[str, Callable[[], Dict[str, float]]]]:
    for size in SIZES[:2] if quick else SIZES:
        yield f"full trunk {size}", full_trunk(size)
    yield "beside foreign links", beside_foreign_links(512 if quick else 4094)
    yield "1,000 endpoints in 1,000 namespaces", endpoints(100 if quick else 1000, True)
    yield "1,000 endpoints in ten namespaces", endpoints(100 if quick else 1000, False)
    if not quick:
        yield "64 trunks of 256 VLANs", many_trunks
    yield "a hundred networks with an endpoint each", hundred_networks
    yield "the whole task", whole_task
    yield "docker", docker


def targets(found: Dict[str, Dict[str, float]]) -> List[Dict[str, Any]]:
    """The goals of the design, as ratios of this run."""
    full = found["full trunk 4094"]
    loop = found["a hundred networks with an endpoint each"]
    beside = found["beside foreign links"]
    rows = [
        ("4,094 VLANs with a network each, to ip -batch with the bare links", full["vlan_map"] / full["ip -batch, bare links"], 0.6),
        ("nothing to do, to ip -d -j link show", full["vlan_map again, nothing to do"] / full["ip -d -j link show"], 1.0),
        ("the same beside 4,094 links of somebody else", beside["vlan_map again, nothing to do"] / beside["ip -d -j link show"], 1.0),
        ("removing them all, to ip -batch", full["vlan_map, removing them"] / full["ip -batch, removing them"], 0.5),
        ("growth from 512 to 4,094", full["vlan_map"] / found["full trunk 512"]["vlan_map"], 8.5),
        ("100 networks with an endpoint each, to a loop of command: ip",
         loop["one task of vlan_map"] / loop["a loop of command: ip (a fifth of it, times 5)"], 0.1),
        ("peak memory of the engine, MB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 150.0),
    ]  # fmt: skip
    return [{"what": what, "is": round(value, 3), "goal": goal, "met": value <= goal} for what, value, goal in rows]


def main() -> None:
    gc.disable()  # as every module does
    quick = "--quick" in sys.argv
    (result,) = [word for word in sys.argv[1:] if not word.startswith("--")]
    found: Dict[str, Dict[str, float]] = {}
    for name, case in cases(quick):
        print(name, file=sys.stderr, flush=True)
        found[name] = median(case, 1 if quick else ROUNDS)
        for what, value in found[name].items():
            print(f"    {what:<52} {value:9.3f} s", file=sys.stderr, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    report = {"commit": commit, "kernel": platform.release(), "python": platform.python_version(), "rounds": ROUNDS, "cases": found}
    if not quick:
        report["targets"] = targets(found)
        for row in report["targets"]:
            print(f"{'met   ' if row['met'] else 'MISSED'} {row['is']:8.3f} of {row['goal']:<6} {row['what']}", file=sys.stderr)
    Path(result).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
