# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: which process a running one of Docker or Podman is, asked of the engine itself.

What speaks HTTP takes 20 ms to import, so it is imported only where there is a container.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any, Dict

from .namespaces import NamespaceError

_DOCKER_SOCKET = "/var/run/docker.sock"
_TIMEOUT = 20.0  # seconds
#: What both engines take for a name or an id; nothing else reaches a path or a command line.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


def process(engine: str, name: str) -> int:
    """The PID of a running container's first process. ``engine`` is ``docker`` or ``podman``.

    Raises NamespaceError where there is no such container, where it does not run, and where the
    engine does not answer.
    """
    found = _inspect(engine, name)
    state = found.get("State") or {}
    pid = int(state.get("Pid") or 0)
    if pid <= 0 or not state.get("Running", False):
        status = state.get("Status", "stopped")
        raise NamespaceError(f"the {engine} container {name} is not running ({status}): start it")
    return pid


def managed(engine: str, name: str) -> bool:
    """Whether the engine itself gives a container networks, now or by a later ``network connect``.

    It then expects the names ``ethN`` to be its own. Raises as :func:`process` does.
    """
    found = _inspect(engine, name)
    mode = str((found.get("HostConfig") or {}).get("NetworkMode"))
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return not mode.startswith("ns:") and (mode != "none" or bool(set(networks) - {"none"}))


def _inspect(engine: str, name: str) -> Dict[str, Any]:
    if not _NAME.match(name):
        raise NamespaceError(f"{name!r} cannot be the name of a container")
    return _docker(name) if engine == "docker" else _podman(name)


def _docker(name: str) -> Dict[str, Any]:
    import http.client

    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_TIMEOUT)
        connection.sock.connect(_DOCKER_SOCKET)
        connection.request("GET", f"/containers/{name}/json")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NamespaceError(f"Docker does not answer at {_DOCKER_SOCKET}: {error}") from None
    finally:
        connection.close()
    if answer.status == 404:
        raise NamespaceError(f"there is no docker container {name}")
    if answer.status != 200:
        raise NamespaceError(
            f"Docker refused to tell about the container {name}: {answer.status} {answer.reason}"
        )
    return _read(body, "Docker")


def _podman(name: str) -> Dict[str, Any]:
    import subprocess

    command = ["podman", "container", "inspect", "--format", "{{json .}}", name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise NamespaceError("podman is not installed here") from None
    except subprocess.TimeoutExpired:
        raise NamespaceError(f"podman did not answer within {_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NamespaceError(
            f"there is no podman container {name} ({said[-1] if said else done.returncode})"
        )
    return _read(done.stdout, "podman")


def _read(text: bytes, who: str) -> Dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NamespaceError(f"{who} answered something that is not understood")
    return found
