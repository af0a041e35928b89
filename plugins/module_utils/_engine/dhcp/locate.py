# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the namespaces of workloads are, found without keeping the client waiting: container engines take their time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from typing import Dict, Iterable, List, NamedTuple, Union

from ..core.errors import NamespaceError
from ..kernel import containers, namespaces, workload_namespaces

#: Seconds for all engines together.
_TIMEOUT = 60.0
_OF_PROCESS = re.compile(r"/proc/([0-9]+)/ns/net")


class Found(NamedTuple):
    """A namespace: a descriptor, and the process with which it ends, 0 for a named one."""

    descriptor: int
    pid: int


#: A namespace, or why there is none.
Answer = Union[Found, str]


async def locate(workloads: Iterable[str], sandboxed: bool) -> Dict[str, Answer]:
    """The namespace of each workload. The descriptors are the caller's."""
    found: Dict[str, Answer] = {}
    asked: List[str] = []
    for workload in dict.fromkeys(workloads):
        if workload.partition(":")[0] in ("docker", "podman"):
            asked.append(workload)
        else:
            found[workload] = _open(workload)
    if asked:
        found.update(await _ask(asked, sandboxed))
    return found


def _open(workload: str) -> Answer:
    try:
        path = workload_namespaces.resolve(workload)
        process = _OF_PROCESS.fullmatch(path)
        return Found(os.open(path, os.O_RDONLY | os.O_CLOEXEC), int(process.group(1)) if process else 0)
    except NamespaceError as error:
        return str(error)
    except OSError as error:
        return f"{workload}: {error.strerror}"


async def _ask(workloads: List[str], sandboxed: bool) -> Dict[str, Answer]:
    """In a process of its own, as a look of the service: engines want files and mounts that the sandbox hides."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        reading.close()
        _child(writing, workloads, sandboxed)
    writing.close()
    found: Dict[str, Answer] = {}
    with reading:
        reading.setblocking(False)
        try:
            await asyncio.wait_for(_gather(reading, found), _TIMEOUT)
        except asyncio.TimeoutError:
            os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {workload: found.get(workload, f"{workload}: its container engine did not answer") for workload in workloads}


async def _gather(reading: socket.socket, found: Dict[str, Answer]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        loop.add_reader(reading, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(reading)
        data, descriptors, _flags, _sender = socket.recv_fds(reading, 65536, 1)
        if not data:
            return
        workload, pid, why = json.loads(data)
        found[workload] = Found(descriptors[0], pid) if descriptors else why


def _child(writing: socket.socket, workloads: List[str], sandboxed: bool) -> None:
    """Never returns, whatever happens in it."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if sandboxed:
            namespaces.use_mounts_of(1)
        containers.ask(workloads)
        for workload in workloads:
            answer = _open(workload)
            if isinstance(answer, str):
                writing.send(json.dumps([workload, 0, answer[:1000]]).encode())
            else:
                socket.send_fds(writing, [json.dumps([workload, answer.pid, ""]).encode()], [answer.descriptor])
    finally:
        os._exit(0)
