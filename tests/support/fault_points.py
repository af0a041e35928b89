# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Points of a run at which something happens to a workload. ``system_calls`` has those at which a run is killed or refused."""

from __future__ import annotations

import os
from typing import Any, Callable, List, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import (
    blocks,
    named_namespaces,
    namespaces,
    session,
    workload_namespaces,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink.rtnetlink import Failure, Message, Socket

KILLED = 77


class Steps:
    """Counts each message to the kernel, sysctl, system call on a namespace and hosts file, and has something happen at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start(-1, lambda: None)
        for where, name in (
            (session, "_write"),
            (namespaces, "_call"),
            (named_namespaces, "_call"),
            (workload_namespaces, "resolve"),
            (blocks, "write"),
        ):
            monkeypatch.setattr(where, name, self._before(getattr(where, name)))
        monkeypatch.setattr(Socket, "batch", self._batch(Socket.batch))

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.happens()

    def start(self, at: int, happens: Callable[[], None]) -> None:
        self.passed, self.at, self.happens = 0, at, happens

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.point()
            return real(*args, **kwargs)

        return wrapped

    def _batch(self, real: Callable[..., List[Failure]]) -> Callable[..., List[Failure]]:
        """Each message in a send of its own, so that there is a point before each."""

        def wrapped(kernel: Socket, messages: Sequence[Message]) -> List[Failure]:
            failures = []
            for position, message in enumerate(messages):
                self.point()
                failures += [failure._replace(position=position) for failure in real(kernel, (message,))]
            return failures

        return wrapped


def in_child(work: Callable[[], None]) -> int:
    """The exit status of a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
