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
from typing import Any, Dict, Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import containers
from ansible_collections.netops.underlay.plugins.module_utils._engine.containers import process
from ansible_collections.netops.underlay.plugins.module_utils._engine.namespaces import (
    NamespaceError,
)

RUNNING = {"State": {"Pid": 4711, "Running": True, "Status": "running"}}
STOPPED = {"State": {"Pid": 0, "Running": False, "Status": "exited"}}


@contextlib.contextmanager
def docker(path: Path, answers: Dict[str, Any]) -> Iterator[None]:
    """A daemon that knows what it is told: path -> what it answers, an int for a status."""

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
    }
    with docker(path, answers):
        assert process("docker", "web") == 4711
        with pytest.raises(NamespaceError, match=r"container old is not running \(exited\)"):
            process("docker", "old")
        with pytest.raises(NamespaceError, match="there is no docker container none"):
            process("docker", "none")
        with pytest.raises(NamespaceError, match="something that is not understood"):
            process("docker", "odd")
        with pytest.raises(NamespaceError, match="Docker refused to tell about the container ill"):
            process("docker", "ill")


def test_podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NamespaceError, match="podman is not installed here"):
        process("podman", "web")
    command = tmp_path / "podman"
    command.write_text(
        "#!/bin/sh\n"
        "for name; do :; done\n"
        f"case $name in web) echo '{json.dumps(RUNNING)}';; old) echo '{json.dumps(STOPPED)}';;\n"
        "odd) echo nonsense;; *) echo 'Error: no such container' >&2; exit 125;; esac\n"
    )
    os.chmod(command, 0o755)
    assert process("podman", "web") == 4711
    with pytest.raises(NamespaceError, match=r"container old is not running \(exited\)"):
        process("podman", "old")
    with pytest.raises(
        NamespaceError, match="there is no podman container none .*no such container"
    ):
        process("podman", "none")
    with pytest.raises(NamespaceError, match="something that is not understood"):
        process("podman", "odd")


@pytest.mark.parametrize("engine", ["docker", "podman"])
@pytest.mark.parametrize("name", ["", "-rm", "../web", "a/b", "web json", "web\n", "--help", "ü"])
def test_names_that_none_has(engine: str, name: str) -> None:
    with pytest.raises(NamespaceError, match="cannot be the name of a container"):
        process(engine, name)
