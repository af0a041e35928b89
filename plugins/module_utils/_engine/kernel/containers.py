# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers: which process a running one of Docker or Podman is, asked of the engine itself.

What speaks HTTP takes 20 ms to import, so it is imported only where there is a container.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import Any, Dict, Iterable, List, Tuple, Union

from ..core.errors import EngineSilent, NamespaceError, WorkloadGone
from . import programs

_DOCKER_SOCKET = "/var/run/docker.sock"
_TIMEOUT = 20.0  # seconds
_SHORT_ID = 12  # digits, as engines show one
#: What both engines take for a name or an id; nothing else reaches a path or a command line.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


#: What an engine says of a container: JSON, under the names that Docker gives it.
Inspected = Dict[str, Any]

#: The latest answers to :func:`ask`; what is missing here is requested when it is needed.
_answers: Dict[Tuple[str, str], Union[Inspected, NamespaceError]] = {}


#: When the process of each of those began.
_began: Dict[Tuple[str, str], str] = {}

#: The engines that did not answer in this run. Each question may take as long as the first, so they are not asked again.
_silent: Dict[str, EngineSilent] = {}


def ask(workloads: Iterable[str], again: bool = False) -> None:
    """Ask the engines for the containers among some workloads, podman for all of its at once.

    Starting podman takes longer than all its answers. ``again``, later in the same run, asks only for
    those whose process has ended since.
    """
    if not again:
        _silent.clear()
    for which, answer in list(_answers.items()):
        if not again or isinstance(answer, NamespaceError) or not _began[which] or _start(answer) != _began[which]:
            del _answers[which]
    parts = (it.partition(":") for it in workloads)
    wanted = [(engine, name) for engine, _colon, name in parts if (engine, name) not in _answers]
    pods = [name for engine, name in dict.fromkeys(wanted) if engine == "podman" and _NAME.match(name)]
    dockers = [[name] for engine, name in dict.fromkeys(wanted) if engine == "docker" and _NAME.match(name)]
    for engine, names in (*([("podman", pods)] if pods else []), *(("docker", names) for names in dockers)):
        try:
            _answers.update(((engine, name), answer) for name, answer in _unless_silent(engine, names).items())
        except NamespaceError as error:
            _answers.update(((engine, name), error) for name in names)
            if isinstance(error, EngineSilent):
                _silent[engine] = error
    _began.update((which, _start(answer)) for which, answer in _answers.items() if which in wanted)


def _start(answer: Union[Inspected, NamespaceError]) -> str:
    """When the process of a container that was described began, in ticks; empty where none lives."""
    if isinstance(answer, NamespaceError):
        return ""
    pid = (answer.get("State") or {}).get("Pid")
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[19]  # starttime (proc_pid_stat(5))
    return ""


def process(engine: str, name: str) -> int:
    """The PID of a running container's first process. ``engine`` is ``docker`` or ``podman``.

    Raises WorkloadGone where there is no such container and where it does not run, NamespaceError where the
    engine does not answer.
    """
    found = _inspect(engine, name)
    state = found.get("State") or {}
    pid = int(state.get("Pid") or 0)
    if pid <= 0 or not state.get("Running", False):
        status = state.get("Status", "stopped")
        raise WorkloadGone(f"the {engine} container {name} is not running ({status})")
    return pid


def number(engine: str, name: str) -> str:
    """The id of a container, which no other ever has. Raises as :func:`process` does."""
    return str(_inspect(engine, name).get("Id") or "")


def managed(engine: str, name: str) -> bool:
    """Whether the engine itself gives a container networks, now or by a later ``network connect``.

    It then expects the names ``ethN`` to be its own. Raises as :func:`process` does.
    """
    found = _inspect(engine, name)
    mode = str((found.get("HostConfig") or {}).get("NetworkMode"))
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return not mode.startswith("ns:") and (mode != "none" or bool(set(networks) - {"none"}))


def _inspect(engine: str, name: str) -> Inspected:
    if not _NAME.match(name):
        raise NamespaceError(f"{name!r} is not a valid container name")
    found = _answers.get((engine, name))
    if found is None:
        found = _unless_silent(engine, [name])[name]
    if isinstance(found, NamespaceError):
        raise found
    return found


def _unless_silent(engine: str, names: List[str]) -> Dict[str, Union[Inspected, NamespaceError]]:
    """What an engine says of some containers. Raises NamespaceError, at once for one that did not answer in this run."""
    if engine in _silent:
        raise _silent[engine]
    return {names[0]: _docker(names[0])} if engine == "docker" else _podman(names)


def _is_called(found: Inspected, name: str) -> bool:
    """Whether an engine's answer is about what was asked for: they take the first digits of an id for it, ``db`` too."""
    whole = str(found.get("Id"))
    return name in (str(found.get("Name")).lstrip("/"), whole) or (len(name) >= _SHORT_ID and whole.startswith(name))


def _docker(name: str) -> Inspected:
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
        raise EngineSilent(f"Docker does not answer at {_DOCKER_SOCKET}: {error}") from None
    finally:
        connection.close()
    if answer.status not in (200, 404):
        raise NamespaceError(f"Docker refused to describe the container {name}: {answer.status} {answer.reason}")
    found = _read(body, "Docker") if answer.status == 200 else {}
    if not _is_called(found, name):
        raise WorkloadGone(f"there is no docker container {name}")
    return found


def _podman(names: List[str]) -> Dict[str, Union[Inspected, NamespaceError]]:
    """What podman says of each of its containers. Raises NamespaceError where it says nothing at all."""
    command = ["podman", "container", "inspect", "--format", "{{json .}}", *names]
    try:
        done = programs.run(command, _TIMEOUT)
    except FileNotFoundError:
        raise EngineSilent("podman is not installed here") from None
    except TimeoutError:
        raise EngineSilent(f"podman did not answer within {_TIMEOUT:.0f} s") from None
    said = done.stderr.strip().splitlines()
    if done.returncode != 0 and not any("no such container" in line for line in said):
        raise EngineSilent(f"podman failed: {said[-1] if said else done.returncode}")
    answers = [_read(line, "podman") for line in done.stdout.split("\n") if line]
    found: Dict[str, Union[Inspected, NamespaceError]] = {}
    for name in names:
        named = [answer for answer in answers if answer.get("Name") == name]
        named += [answer for answer in answers if _is_called(answer, name)]
        found[name] = named[0] if named else WorkloadGone(f"there is no podman container {name}")
    return found


def _read(text: Union[bytes, str], who: str) -> Inspected:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NamespaceError(f"{who} gave an answer that is not understood")
    return found
