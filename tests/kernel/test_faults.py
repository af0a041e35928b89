# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel refusing one message, or losing an answer, at points of plans of each kind: a sample, and in ``make soak`` at every one.

How many messages there are is counted in a clean run; then the run is repeated once for each, from the same host, and has to leave the
same behind in the end. ``test_crashes`` does it at every system call.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import (
    AnswersLost,
    KernelError,
    RollbackFailed,
    RolledBack,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import rtnetlink
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink.encode import IFLA_TARGET_NETNSID
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink.rtnetlink import (
    RTM_GETLINK,
    RTM_GETNSID,
    Failure,
    Message,
    Socket,
    attributes,
)

from tests.support.engine import Engine
from tests.support.host_picture import picture
from tests.support.network_host import nic
from tests.support.soak import some

ONE = {
    "name": "one",
    "driver": "macvlan",
    "parent": "nica.10",
    "subnets": [{"subnet": "192.0.2.0/24"}],
    "host_access": True,
}
TWO = {"name": "two", "driver": "ipvlan", "parent": "nicb.20", "subnets": [{"subnet": "198.51.100.0/24"}]}
WEB = {"network": "one", "name": "web", "netns": "web", "mtu": 1500}
ROUTES = {"name": "up", "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.254"}]}
LINK = {"parent": "nica", "vlan_id": 30, "addresses": ["10.30.0.1/24"]}

EMPTY: Dict[str, Any] = {"purge": True, "networks": [], "endpoints": [], "links": [], "routes": []}
FIRST = {"networks": [ONE, TWO], "endpoints": [WEB, {"network": "two", "name": "db", "netns": "db"}], "links": [LINK], "routes": [ROUTES],
         "purge": True}  # fmt: skip
#: Everything otherwise in place, one thing gone, one new.
OTHER = {
    "networks": [{**ONE, "mode": "private", "host_access": False}, {**TWO, "mode": "l3"}],
    "endpoints": [{**WEB, "mtu": 1400}, {"network": "two", "name": "new", "netns": "db"}],
    "links": [{**LINK, "gvrp": True, "addresses": ["10.30.0.2/24"]}],
    "routes": [{**ROUTES, "routes": [{"prefix": "10.99.0.0/16", "via": "10.30.0.253"}]}],
    "purge": True,
}  # fmt: skip
KINDS = {"made": (EMPTY, FIRST), "changed": (FIRST, OTHER), "removed": (OTHER, EMPTY)}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    nic("nica")
    nic("nicb")
    return Engine(str(tmp_path / "state"))


def clean(engine: Engine, before: Dict[str, Any], after: Dict[str, Any]) -> List[Any]:
    """The host before and after, without a fault."""
    engine.map(**before)
    found = [picture()]
    engine.map(**after)
    found.append(picture())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_of_the_kernel_at_every_message(engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before, after = KINDS[kind]
    pictures = clean(engine, before, after)
    refuser = Refuser(monkeypatch)
    undone = done = 0
    engine.map(**before)
    refuser.start(-1)
    engine.map(**after)
    total = refuser.passed
    assert total > 25 and picture() == pictures[1]
    for number in some(range(1, total + 1), every=3):
        refuser.start(-1)
        engine.map(**before)
        refuser.start(number)
        try:
            engine.map(**after)
        except (RolledBack, KernelError):
            undone += 1
            assert refuser.passed >= number
            refuser.start(-1)
            assert picture() == pictures[0], f"half of it is left, refused at message {number}"
            assert not engine.pending()
            continue
        except RollbackFailed:
            raise AssertionError(f"stuck at message {number}") from None
        assert picture() == pictures[1], number
        assert refuser.passed >= number
        done += 1  # one message for many failed, and each was sent by itself
    print(f"{kind}: refused at messages of {total}; {undone} undone, {done} done another way")
    assert undone


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_while_its_answers_were_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The kernel has carried out all messages of a batch, and the socket had no room for what it says (netlink(7), ENOBUFS)."""
    before, after = KINDS[kind]
    pictures = clean(engine, before, after)
    passed, at = 0, -1
    batch = Socket.batch

    def lose(kernel: Socket, messages: Sequence[Message]) -> List[Failure]:
        nonlocal passed
        failures = batch(kernel, messages)
        passed += 1
        if passed == at:
            raise AnswersLost(errno.ENOBUFS, "injected")
        return failures

    monkeypatch.setattr(rtnetlink.Socket, "batch", lose)
    engine.map(**before)
    passed = 0
    engine.map(**after)
    for number in range(1, passed + 1):
        at = -1
        engine.map(**before)
        passed, at = 0, number
        try:
            engine.map(**after)
        except (RolledBack, KernelError):
            assert passed >= number
            assert picture() == pictures[0], f"half of it is left, answers lost of batch {number}"
            assert not engine.pending()
        else:
            assert picture() == pictures[1], number
    print(f"{kind}: {number} batches")


class Refuser:
    """Has the kernel refuse one message, or lose the answer to one question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self.at = -1
        batch, ask, dump = Socket.batch, Socket.ask, Socket.dump

        def refuse_batch(kernel: Socket, messages: Sequence[Message]) -> List[Failure]:
            failures = []
            for position, message in enumerate(messages):
                if self._is_it():
                    failures.append(Failure(position, errno.EIO, "injected"))
                else:
                    failures += [failure._replace(position=position) for failure in batch(kernel, (message,))]
            return failures

        def is_about_a_namespace(question: Any) -> bool:
            """How often these are put depends on how soon the kernel is done with a namespace that was removed."""
            if not isinstance(question, Message):
                return [message.type for message in question] == [RTM_GETNSID]
            return question.type == RTM_GETLINK and any(
                kind == IFLA_TARGET_NETNSID for kind, _first, _last in attributes(question.body, 16, len(question.body))
            )

        def lose(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(kernel: Socket, *args: Any) -> Any:
                if not is_about_a_namespace(args[0]) and self._is_it():
                    raise AnswersLost(errno.ENOBUFS, "injected")
                return real(kernel, *args)

            return wrapped

        monkeypatch.setattr(rtnetlink.Socket, "batch", refuse_batch)
        monkeypatch.setattr(rtnetlink.Socket, "ask", lose(ask))
        monkeypatch.setattr(rtnetlink.Socket, "dump", lose(dump))

    def _is_it(self) -> bool:
        self.passed += 1
        return self.passed == self.at

    def start(self, at: int) -> None:
        self.passed, self.at = 0, at
