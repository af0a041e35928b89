# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From where a host is managed: by the sockets of root's sshd, not of whatever is called so."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
from typing import Iterator

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import management

from tests.support.network_host import run

UNPRIVILEGED = 65534


@contextlib.contextmanager
def called(name: bytes, user: int, near: str, far: str) -> Iterator[None]:
    """A process by this name, of this user, that far is connected to at near."""
    listening = socket.create_server((near, 0))
    peer = socket.socket()
    peer.bind((far, 0))
    peer.connect(listening.getsockname())
    accepted, _address = listening.accept()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        peer.close()
        os.setresuid(user, user, user)
        ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
        os.write(writing, b"ready")
        signal.pause()
    try:
        os.read(reading, 5)
        accepted.close()
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for one in (listening, peer):
            one.close()
        os.close(reading)
        os.close(writing)


@pytest.mark.usefixtures("trunk")
def test_who_is_connected_to_a_process_that_is_only_called_sshd_manages_nothing() -> None:
    run("ip addr add 198.51.100.1/32 dev lo; ip addr add 203.0.113.9/32 dev lo")
    with called(b"sshd-x", UNPRIVILEGED, "198.51.100.1", "203.0.113.9"):
        assert management.find() == ((), (), False)
    with called(b"sshd-session", 0, "198.51.100.1", "203.0.113.9"):
        assert management.find() == (("203.0.113.9",), ("198.51.100.1",), False)
