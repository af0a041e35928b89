# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the cases of the bench happen: rooms of their own, a host with systemd, a play; and the clocks."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

COLLECTIONS = "/opt/collections"
sys.path.insert(0, COLLECTIONS)

from ansible_collections.netops.underlay.plugins.module_utils import _archive, _service_files
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import session
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import rtnetlink
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, memory, transact

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

#: What a case tells, as soon as it knows it: the name of a figure, and seconds.
Figures = Iterator[Tuple[str, float]]


class Case(NamedTuple):
    """``limit`` is the seconds that a round may take, on a machine that is busy too: then the others go on without it."""

    name: str
    work: Callable[[], Figures]
    rounds: int = 1
    limit: int = 300


@contextlib.contextmanager
def room() -> Iterator[str]:
    """A prepared host that no other process sees, with a base ``trunk``; its state directory."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    state, directory = tempfile.mkdtemp(prefix="bench"), os.getcwd()
    try:
        libc.unshare(CLONE_NEWNS | CLONE_NEWNET)
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        os.makedirs("/run/netns", exist_ok=True)
        libc.mount(b"tmpfs", b"/run/netns", b"tmpfs", 0, None)
        os.makedirs(_archive.DIRECTORY, exist_ok=True)  # where a host that was prepared keeps what Python compiled
        libc.mount(b"tmpfs", _archive.DIRECTORY.encode(), b"tmpfs", 0, b"mode=700")
        run(
            "ip link set lo up; ip link add trunk type dummy; ip link set trunk addrgenmode none; ip link set trunk arp on up"
        )
        yield state
    finally:
        # Here and now: the kernel would take a namespace's links away in the background, while the next case is timed.
        run("ip -br link show type dummy | while read -r name _; do ip link del $name; done")
        libc.setns(before[0], CLONE_NEWNET)
        libc.setns(before[1], CLONE_NEWNS)
        os.chdir(directory)  # another mount namespace is another root
        for descriptor in before:
            os.close(descriptor)
        shutil.rmtree(state)


def run(command: str, text: str = "") -> str:
    done = subprocess.run(["sh", "-ec", command], input=text, text=True, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(
            f"{command[:60]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}"
        )
    return done.stdout


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class KernelClock:
    """The time between a message's way into the kernel and its answer, and that of sysctls: the floor of every run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> KernelClock:
        self._real = {name: getattr(rtnetlink.socket.socket, name) for name in ("send", "recv", "recv_into")}
        for name, real in self._real.items():
            setattr(rtnetlink.socket.socket, name, self._timed(real))
        self._write = session._write
        session._write = self._timed(self._write)
        return self

    def __exit__(self, *_error: object) -> None:
        session._write = self._write
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


# --- our side ------------------------------------------------------------------------------------


def networks(count: int, trunk: str = "trunk") -> List[Dict[str, Any]]:
    return [
        {
            "name": f"{trunk}-{vlan}",
            "driver": "macvlan",
            "parent": f"{trunk}.{vlan}",
            "subnets": [{"subnet": f"10.{vlan >> 8}.{vlan & 255}.0/24"}],
        }
        for vlan in range(1, count + 1)
    ]


def engine(state: str, **options: Any) -> int:
    rows = (
        {section: [] for section in model.SECTIONS} if options.get("purge") else {}
    )  # what is not given is not purged
    declared = model.declare_map({"name": "bench", **rows, **options})
    return len(converge.converge(declared, transact.RunOptions(state)).changes)


def task(state: str, given: str, **options: Any) -> None:
    """As a module does it: by the answer that it remembers, where nothing is new, else by the road."""
    run = transact.RunOptions(state)
    remembered = memory.Memory(run, given)
    if remembered.recall() is None:
        outcome = converge.converge(model.declare_map({"name": "bench", **options}), run)
        remembered.keep(outcome, memory.Answer({}, outcome.warnings))


FRESH = """\
import gc, json, sys, rooms
gc.disable()
given = sys.stdin.read()
state, options = json.loads(given)
print(rooms.seconds(lambda: rooms.task(state, given, **options)))
"""


def again(state: str, **options: Any) -> float:
    """Seconds of a task that has nothing to do, nor had the last time, which is what most runs of a fleet are."""
    fresh(state, **options)
    return fresh(state, **options)


def fresh(state: str, **options: Any) -> float:
    """Seconds of the engine in a new process, as every module is one."""
    words = ["env", f"PYTHONPATH={Path(__file__).parent}", sys.executable, "-c", FRESH]
    return float(run(shlex.join(words), json.dumps([state, options])))


def cpu(process: int) -> float:
    """Seconds of CPU that a process and those that it waited for have taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


PLAYBOOK = """\
- hosts: all
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
    rows: {}
  tasks: {}
"""


def play(
    tasks: List[Dict[str, Any]], directory: str, rows: Sequence[Dict[str, Any]] = (), inventory: str = "localhost,"
) -> None:
    """Run tasks in a play that has ``rows`` as a variable."""
    book = Path(directory, "play.yml")
    book.write_text(PLAYBOOK.format(json.dumps(rows), json.dumps(tasks)))
    settings = f"ANSIBLE_COLLECTIONS_PATH={COLLECTIONS} ANSIBLE_PIPELINING=1 ANSIBLE_DEPRECATION_WARNINGS=0"
    settings += " ANSIBLE_INVENTORY_ENABLED=host_list,netops.underlay.netops_map,ini"
    run(f"{settings} ansible-playbook -i {inventory} {book}")


# --- a host with systemd and udev ----------------------------------------------------------------


class Host:
    """A container that boots, with a ``trunk``. Ansible and the collection are in it, where they are here."""

    NAME = "bench-host"

    def __enter__(self) -> Host:
        self._remove()
        volumes = " ".join(
            f"--volume {place}:{place}:ro"
            for place in ("/usr/lib/modules", "/opt/venv", COLLECTIONS)
            if os.path.isdir(place)
        )
        run(
            f"podman run --quiet --detach --name {self.NAME} --privileged --systemd=always --network none {volumes} --rootfs /opt/hosts/debian13:O /sbin/init"
        )
        self.run("until systemctl is-system-running 2>/dev/null | grep -Eq 'running|degraded'; do sleep 0.2; done")
        return self

    def __exit__(self, *_error: object) -> None:
        self._remove()

    def _remove(self) -> None:
        run(f"podman rm --force --time 0 --ignore {self.NAME}")

    def run(self, command: str, text: str = "") -> str:
        """What it takes to begin one, a second or so, is not the command's: time what is longer, or let it time itself."""
        words = ["podman", "exec", "--interactive", self.NAME, "sh", "-ec", command]
        done = subprocess.run(words, input=text, text=True, check=False, capture_output=True)
        if done.returncode:
            raise RuntimeError(
                f"{command[:60]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}"
            )
        return done.stdout

    def seconds(self, command: str) -> float:
        """As the host's own clock has it."""
        return (
            float(self.run(f"begin=$(date +%s%N); {{ {command}; }} >&2; echo $(($(date +%s%N) - begin))").split()[-1])
            / 1e9
        )

    def write_udev_rule(self) -> None:
        rule = _service_files._UDEV_RULE.format(groups=_service_files.UDEV_GROUPS)
        self.run(f"cat > /{_service_files.UDEV}; udevadm control --reload", rule)

    def new_trunk(self) -> None:
        """Without its links, and with udev at rest."""
        self.run(
            "ip link del trunk 2>/dev/null || true; udevadm settle --timeout=600; ip link add trunk up type dummy; udevadm settle --timeout=600"
        )
