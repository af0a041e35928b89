# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker and Podman say by their sockets, and commands in their containers. Their own programs take 0.2 s to start, each time."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
from typing import Any, Iterator, Set

from tests.support.waiting import until

#: That of Podman is none that the service would look for.
SOCKETS = {"docker": "/var/run/docker.sock", "podman": "/run/podman-of-tests.sock"}
#: Where Podman imitates Docker it does not read the timeout, and waits ten seconds for each.
_REMOVE = {"docker": "/containers", "podman": "/v4.0.0/libpod/containers"}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@contextlib.contextmanager
def podman_answers() -> Iterator[None]:
    """Podman's side of its socket, as systemd would start it."""
    command = ["podman", "system", "service", "--time=0", f"unix://{SOCKETS['podman']}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            assert until(lambda: os.path.exists(SOCKETS["podman"]))
            yield
        finally:
            service.terminate()


def ask(kind: str, path: str, method: str = "GET") -> Any:
    """The answer of an engine, of which every request has to succeed."""
    with contextlib.closing(_Connection(SOCKETS[kind])) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read()
    assert answer.status < 300, (kind, method, path, text)
    return json.loads(text) if text.strip() else None


def pid_of(kind: str, name: str) -> int:
    """A container's first process; 0 for one that is stopped."""
    return int(ask(kind, f"/containers/{name}/json")["State"]["Pid"])


def within(kind: str, name: str, *spaces: str) -> str:
    """What a command begins with that runs in all namespaces of a container, or in some, such as ``--net``."""
    return f"nsenter -t {pid_of(kind, name)} {' '.join(spaces or ('--all',))}"


def remove_all(kind: str) -> None:
    """All containers of an engine, those that run too."""
    found: Set[str] = {row["Id"] for row in ask(kind, "/containers/json?all=true")}
    while found:
        for number in list(found):  # one whose namespace another joined goes after it
            with contextlib.suppress(AssertionError):
                ask(kind, f"{_REMOVE[kind]}/{number}?force=true&v=true&timeout=0", "DELETE")
        left = {row["Id"] for row in ask(kind, "/containers/json?all=true")}
        assert left < found, left
        found = left
