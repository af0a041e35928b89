# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process a container is, asked of engines that are played by a few lines each."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import NamespaceError, WorkloadGone
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import containers
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.containers import process

RUNNING = {"Name": "web", "Id": "0a1b2c", "State": {"Pid": 4711, "Running": True, "Status": "running"}}
STOPPED = {"Name": "old", "Id": "0d1e2f", "State": {"Pid": 0, "Running": False, "Status": "exited"}}


@contextlib.contextmanager
def docker(path: Path, answers: Dict[str, Any]) -> Iterator[None]:
    """A daemon that knows what it was given: path -> what it answers, an int for a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path, 404)
            body = b"" if isinstance(found, int) else json.dumps(found).encode()
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            pass

    with socketserver.UnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setattr(containers, "_DOCKER_SOCKET", str(path))
    with pytest.raises(NamespaceError, match="Docker does not answer at"):
        process("docker", "web")
    answers = {
        "/containers/web/json": RUNNING,
        "/containers/old/json": STOPPED,
        "/containers/odd/json": [],
        "/containers/ill/json": 500,
        "/containers/0a/json": RUNNING,
    }
    with docker(path, answers):
        assert process("docker", "web") == 4711
        with pytest.raises(NamespaceError, match=r"container old is not running \(exited\)"):
            process("docker", "old")
        with pytest.raises(WorkloadGone, match="there is no docker container 0a"):
            process("docker", "0a")
        with pytest.raises(NamespaceError, match="there is no docker container none"):
            process("docker", "none")
        with pytest.raises(NamespaceError, match="an answer that is not understood"):
            process("docker", "odd")
        with pytest.raises(NamespaceError, match="Docker refused to describe the container ill"):
            process("docker", "ill")


def test_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NamespaceError, match="podman is not installed here"):
        process("podman", "web")
    command = tmp_path / "podman"
    command.write_text(
        "#!/bin/sh\n"
        "status=0; shift 4; echo $# >> " + str(tmp_path / "asked") + "\n"
        f"for name; do case $name in web | 0a) echo '{json.dumps(RUNNING)}';; old | 0d1e2f) echo '{json.dumps(STOPPED)}';;\n"
        "odd) echo nonsense;; ill) echo 'Error: no storage' >&2; exit 125;;\n"
        '*) echo "Error: no such container $name" >&2; status=125;; esac; done; exit $status\n'
    )
    os.chmod(command, 0o755)
    assert process("podman", "web") == 4711
    with pytest.raises(NamespaceError, match=r"container old is not running \(exited\)"):
        process("podman", "old")
    with pytest.raises(WorkloadGone, match="there is no podman container none"):
        process("podman", "none")
    with pytest.raises(WorkloadGone, match="there is no podman container 0a"):
        process("podman", "0a")  # the first digits of web's id are no name
    with pytest.raises(NamespaceError, match="podman failed: Error: no storage"):
        process("podman", "ill")
    with pytest.raises(NamespaceError, match="an answer that is not understood"):
        process("podman", "odd")
    (tmp_path / "asked").unlink()
    containers.ask(
        ["podman:web", "netns:web", "podman:none", "podman:0d1e2f", "podman:web", "docker:no/way", "podman:-x"]
    )
    assert process("podman", "web") == 4711
    with pytest.raises(WorkloadGone, match="is not running"):
        process("podman", "0d1e2f")
    with pytest.raises(WorkloadGone, match="there is no podman container none"):
        process("podman", "none")
    assert (tmp_path / "asked").read_text() == "3\n"  # all of them in one go, and only once
    containers.ask(["podman:web", "podman:ill"])
    with pytest.raises(NamespaceError, match="podman failed"):
        process("podman", "web")
    containers.ask([])
    assert process("podman", "web") == 4711


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize("name", ["", "-rm", "../web", "a/b", "web json", "web\n", "--help", "ü"])
def test_names_that_none_has(engine: str, name: str) -> None:
    with pytest.raises(NamespaceError, match="is not a valid container name"):
        process(engine, name)


def test_a_container_that_lives_on_is_asked_for_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[List[str]] = []
    pids = {"web": os.getpid(), "db": 2**22 + 1}

    def podman(names: List[str]) -> Dict[str, Any]:
        asked.append(names)
        return {name: {"State": {"Pid": pids[name], "Running": True}} for name in names}

    monkeypatch.setattr(containers, "_podman", podman)
    for again in (False, True, True, False):
        containers.ask(["podman:web", "podman:db"], again)
    assert asked == [["web", "db"], ["db"], ["db"], ["web", "db"]], "no process of db lives"
    assert process("podman", "web") == os.getpid()


def test_an_engine_that_does_not_answer_is_asked_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question may take as long as the first."""
    monkeypatch.setattr(containers, "_DOCKER_SOCKET", str(tmp_path / "docker.sock"))
    monkeypatch.setenv("PATH", str(tmp_path))
    command = tmp_path / "podman"
    command.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 125\n")
    os.chmod(command, 0o755)
    workloads = [f"{engine}:{name}" for engine in ("podman", "docker") for name in ("web", "db")]
    containers.ask(workloads)
    containers.ask([*workloads, "podman:more"], again=True)
    with docker(tmp_path / "docker.sock", {"/containers/web/json": RUNNING}):
        for engine, name in (("podman", "0a1b2c3d4e5f"), ("docker", "web")):
            with pytest.raises(NamespaceError, match="podman failed: 125|Docker does not answer"):
                process(engine, name)
        assert (tmp_path / "asked").read_text() == "asked\n"
        containers.ask(workloads)  # the next run
        assert process("docker", "web") == 4711
    assert (tmp_path / "asked").read_text() == "asked\n" * 2
    containers.ask([])
