# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: which process a running one of Docker or Podman is, asked of the engine itself.

What speaks HTTP takes 20 ms to import, so it is imported only where there is a container.
"""

from __future__ import annotations

import json
import re
import socket
from typing import Any, Dict, Iterable, List, Tuple, Union

from . import programs
from .namespaces import Gone, NamespaceError

_DOCKER_SOCKET = "/var/run/docker.sock"
_TIMEOUT = 20.0  # seconds
#: What both engines take for a name or an id; nothing else reaches a path or a command line.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


#: What :func:`ask` was told last; what is not in here is asked for when it is needed.
_told: Dict[Tuple[str, str], Union[Dict[str, Any], NamespaceError]] = {}


def ask(workloads: Iterable[str]) -> None:
    """Ask the engines anew for the containers among some workloads, podman for all of its at once.

    To start podman takes longer than all that it then has to say.
    """
    _told.clear()
    wanted = [(engine, name) for engine, _colon, name in (it.partition(":") for it in workloads)]
    pods = [name for engine, name in dict.fromkeys(wanted) if engine == "podman" and _NAME.match(name)]
    if pods:
        try:
            found = _podman(pods)
        except NamespaceError as error:
            found = {}
            _told.update((("podman", name), error) for name in pods)
        _told.update((("podman", name), answer) for name, answer in found.items())
    for engine, name in dict.fromkeys(wanted):
        if engine == "docker":
            try:
                _told[engine, name] = _inspect(engine, name)
            except NamespaceError as error:
                _told[engine, name] = error


def process(engine: str, name: str) -> int:
    """The PID of a running container's first process. ``engine`` is ``docker`` or ``podman``.

    Raises Gone where there is no such container and where it does not run, NamespaceError where the
    engine does not answer.
    """
    found = _inspect(engine, name)
    state = found.get("State") or {}
    pid = int(state.get("Pid") or 0)
    if pid <= 0 or not state.get("Running", False):
        status = state.get("Status", "stopped")
        raise Gone(f"the {engine} container {name} is not running ({status})")
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
    found = _told.get((engine, name))
    if found is None:
        found = _docker(name) if engine == "docker" else _podman([name])[name]
    if isinstance(found, NamespaceError):
        raise found
    return found


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
        raise Gone(f"there is no docker container {name}")
    if answer.status != 200:
        raise NamespaceError(
            f"Docker refused to tell about the container {name}: {answer.status} {answer.reason}"
        )
    return _read(body, "Docker")


def _podman(names: List[str]) -> Dict[str, Union[Dict[str, Any], NamespaceError]]:
    """What podman says of each of its containers. Raises NamespaceError where it says nothing at all."""
    command = ["podman", "container", "inspect", "--format", "{{json .}}", *names]
    try:
        done = programs.run(command, _TIMEOUT)
    except FileNotFoundError:
        raise NamespaceError("podman is not installed here") from None
    except TimeoutError:
        raise NamespaceError(f"podman did not answer within {_TIMEOUT:.0f} s") from None
    said = done.stderr.strip().splitlines()
    if done.returncode != 0 and not any("no such container" in line for line in said):
        raise NamespaceError(f"podman failed: {said[-1] if said else done.returncode}")
    answers = [_read(line, "podman") for line in done.stdout.split("\n") if line]
    found: Dict[str, Union[Dict[str, Any], NamespaceError]] = {}
    for name in names:
        named = [answer for answer in answers if answer.get("Name") == name]
        named += [answer for answer in answers if str(answer.get("Id")).startswith(name)]
        found[name] = named[0] if named else Gone(f"there is no podman container {name}")
    return found


def _read(text: Union[bytes, str], who: str) -> Dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NamespaceError(f"{who} answered something that is not understood")
    return found
