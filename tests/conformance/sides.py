# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two that are held side by side: Docker's drivers and ours, each with a step to carry out and a host to look at."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Optional, Set, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    InputError,
    RollbackFailed,
    RolledBack,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact

from tests.conformance import picture
from tests.conformance.picture import Facts
from tests.conformance.scenarios import Hear, Look, Ping, Shell, Step, Task

LAB = Path(__file__).resolve().parents[1] / "lab"
STATE = "/run/conformance"
ETH_P_ALL = 3
#: How long an answer may take to come that is expected, in seconds: the machine may be busy.
PATIENCE = 60

Outcome = Tuple[str, str]  # "done" or "refused", and what was said


def shell(command: str) -> Outcome:
    done = subprocess.run(
        ["sh", "-c", command], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return ("done" if done.returncode == 0 else "refused", done.stdout.strip())


class Wire:
    """What comes to a link of the host, from now on: announcements, in words."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind((name, 0))
        self.heard: Set[str] = set()

    def hear(self, what: str, expected: bool) -> str:
        """One that is expected may take its time; for one that is not, what came before this question counts."""
        end = time.monotonic() + (PATIENCE if expected else 0)
        while what not in self.heard:
            self.socket.settimeout(max(0, end - time.monotonic()))
            try:
                self.heard.add(_announced(self.socket.recv(2048)))
            except (BlockingIOError, socket.timeout):
                return "not heard"
        return "heard"

    def close(self) -> None:
        self.socket.close()


def _announced(frame: bytes) -> str:
    """A gratuitous ARP or an unsolicited neighbour advertisement, in words; of other frames nothing."""
    kind, rest = frame[12:14], frame[14:]
    if kind == b"\x08\x06" and rest[14:18] == rest[24:28]:
        return f"gratuitous ARP for {ipaddress.ip_address(rest[14:18])}"
    if kind == b"\x86\xdd" and rest[6] == 58 and rest[40] == 136 and rest[24] == 0xFF:
        return f"neighbour advertisement for {ipaddress.ip_address(rest[48:64])}"
    return ""


class Side:
    """Both have this: a fresh host, steps, and the namespaces of the endpoints that live."""

    is_docker = False

    def fresh(self, host: str, again: bool = False) -> None:
        self.clear()
        if again:
            self.restart()
        for name in os.listdir("/sys/class/net"):
            if name not in ("lo", "bonding_masters") and os.path.exists(f"/sys/class/net/{name}"):
                shell(f"ip link del {name}")
        subprocess.run(["sh", "-ec", "ip link set lo up; " + host], check=True)

    def clear(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        """Forget what is in no registry."""

    def carry_out(self, step: Step) -> Outcome:
        raise NotImplementedError

    def spaces(self) -> Dict[str, str]:
        raise NotImplementedError

    def enter(self, name: str) -> str:
        """The words before a command that carry it out in an endpoint's namespace, with its names."""
        raise NotImplementedError

    def ping(self, ping: Ping) -> str:
        """Whether an answer comes: one that is expected, before long; one that is not, to the first questions."""
        command = f"ping -c 1 -W 1 {ping.target}" if self.expects(ping) else f"ping -c 2 -i 0.2 -W 0.5 {ping.target}"
        if ping.start != "host":
            command = f"{self.enter(ping.start)} {command}"
        end = time.monotonic() + (PATIENCE if self.expects(ping) else 0)
        while True:
            outcome, _ = shell(command)
            if outcome == "done" or time.monotonic() >= end:
                return "answers" if outcome == "done" else "no answer"

    def expects(self, ping: Ping) -> bool:
        return ping.answers

    def hears(self, hear: Hear) -> bool:
        return True

    def look(self, look: Look) -> str:
        if look.start not in self.spaces():
            return "not there"
        return shell(f"{self.enter(look.start)} sh -c {shlex.quote(look.command)}")[1]

    def take(self) -> Facts:
        return picture.take(self.spaces())


class _Local(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")


class Docker(Side):
    """dockerd of the lab, by its own command."""

    is_docker = True

    def __init__(self) -> None:
        subprocess.run([str(LAB / "dockerd"), "start"], check=True)

    def restart(self) -> None:
        subprocess.run(f"{LAB}/dockerd stop && {LAB}/dockerd start", shell=True, check=True)

    def stop(self) -> None:
        self.clear()
        subprocess.run([str(LAB / "dockerd"), "stop"], check=True)

    @staticmethod
    def _ask(path: str) -> Any:
        connection = _Local("docker")
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return json.loads(answer.read())

    def version(self) -> str:
        return str(self._ask("/version")["Version"])

    def clear(self) -> None:
        there = [row["Id"] for row in self._ask("/containers/json?all=1")]
        if there:
            subprocess.run(["docker", "rm", "-f", *there], check=True, stdout=subprocess.DEVNULL)
        networks = [row["Id"] for row in self._ask("/networks") if row["Driver"] in ("macvlan", "ipvlan")]
        networks += [row["Id"] for row in self._ask("/networks") if row["ConfigOnly"]]  # those made of them first
        if networks:
            subprocess.run(["docker", "network", "rm", *networks], check=True, stdout=subprocess.DEVNULL)

    def carry_out(self, step: Step) -> Outcome:
        if isinstance(step.docker, Shell):
            return shell(step.docker.command)
        if step.docker == "restart of dockerd":
            return shell(f"{LAB}/dockerd stop && {LAB}/dockerd start")
        words = shlex.split(step.docker)
        if words[:2] == ["docker", "run"]:
            words = ["docker", "run", "-d", "--stop-timeout", "0", *words[2:], "busybox", "sleep", "100000"]
        done = subprocess.run(words, check=False, text=True, capture_output=True)
        if words[1] == "run" and done.returncode != 0 and "--name" in words:
            shell("docker rm -f " + words[words.index("--name") + 1])
        if words[1] == "stop":
            self._wait_for_the_end(words[-1])
        return ("done" if done.returncode == 0 else "refused", _said(done.stderr))

    def _wait_for_the_end(self, name: str) -> None:
        """``docker stop`` returns when the process is gone; that the daemon counts it among the living ends a moment later."""
        end = time.monotonic() + PATIENCE
        while name in self.spaces():
            if time.monotonic() > end:
                raise TimeoutError(f"{name} does not end")
            time.sleep(0.05)

    def spaces(self) -> Dict[str, str]:
        running = [row["Names"][0].lstrip("/") for row in self._ask("/containers/json")]
        return {name: self._ask(f"/containers/{name}/json")["NetworkSettings"]["SandboxKey"] for name in running}

    def enter(self, name: str) -> str:
        return f"nsenter --net={self.spaces()[name]}"

    def expects(self, ping: Ping) -> bool:
        return ping.answers if ping.docker is None else ping.docker

    def hears(self, hear: Hear) -> bool:
        return hear.docker


def _said(text: str) -> str:
    """What Docker said, without the words around it and without identifiers."""
    lines = [
        line
        for line in text.strip().splitlines()
        if line and "--help" not in line and not re.fullmatch(r"[0-9a-f]{64}", line)
    ]
    said = " ".join(lines)
    said = re.sub(r"^docker: ", "", said)
    said = re.sub(r"Error response from daemon: ", "", said)
    said = re.sub(
        r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b|(?<=\bveth)[0-9a-f]{7}\b|(?<=\bIfindex: )[0-9]+\b",
        "ID",
        picture.plain(said),
    )
    return said.strip()


class Ours(Side):
    """The engine, driven as the modules drive it."""

    def clear(self) -> None:
        for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else ():
            shell(f"ip netns del {name}")
        for path in (STATE, "/etc/netns"):
            shutil.rmtree(path, ignore_errors=True)

    def carry_out(self, step: Step) -> Outcome:
        if isinstance(step.ours, Shell):
            return shell(step.ours.command)
        outcome: Outcome = ("done", "")
        for task in step.tasks:
            outcome = self._task(task)
            if outcome[0] != "done":
                break
        return outcome

    @staticmethod
    def _task(task: Task) -> Outcome:
        declared = model.declare(task.kind, task.options, task.state, False)
        try:
            done = converge.converge(declared, transact.RunOptions(STATE))
        except (InputError, RolledBack, RollbackFailed) as error:
            return ("refused", picture.plain(str(error)))
        return ("done", picture.plain(" ".join(done.warnings)))

    def spaces(self) -> Dict[str, str]:
        return {name: f"/run/netns/{name}" for name in os.listdir("/run/netns")} if os.path.isdir("/run/netns") else {}

    def enter(self, name: str) -> str:
        return f"ip netns exec {name}"


def is_lab() -> Optional[str]:
    """Why this is no place for the comparison; None in the lab."""
    if os.geteuid() != 0 or not os.path.exists("/opt/images/busybox.tar"):
        return "needs the lab: tests/lab/run -- pytest tests/conformance"
    return None
