# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A crash at every system call that changes something: a sample, and in ``make soak`` every one of them in every way.

The calls of a whole run are held, each before it happens (``system_calls``). How many there are is counted in a clean run; then the run is
repeated once for each of them and for each way to be disturbed there, from the same host. The next one must find the host as before or as
wanted, and nothing of others touched: all that the kernel has is compared, sysctls included.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP, PROTOCOL
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import RegistryBusy
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.rollback import recover
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import statedir

from tests.kernel.test_faults import EMPTY, FIRST, OTHER
from tests.support.engine_host import Armed, Host
from tests.support.host_picture import differences, picture, settled
from tests.support.network_host import fresh_host, nic, run
from tests.support.soak import SOAK, some
from tests.support.system_calls import GO, INTERRUPT, INTERRUPTED, KILL, KILLED, TRACEBACK, Call, Ended, Watched

STOP, FULL = "stop", "full from here on"
#: How a run is disturbed: killed, interrupted, stopped while another comes, or refused the call.
WAYS: Dict[Any, str] = {
    KILL: "killed", INTERRUPT: "interrupted", STOP: "stopped", FULL: FULL,
    **{number: errno.errorcode[number] for number in (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EINTR, errno.EDQUOT, errno.ENOMEM)},
}  # fmt: skip
#: What others have, as near to ours as it can be.
STRANGERS = f"""
    ip link add theirs group {LINK_GROUP} type dummy; ip addr add 10.77.0.1/24 proto {PROTOCOL} dev theirs; ip link set theirs up
    ip link add link nica name nica.99 type vlan id 99; ip addr add 10.99.9.1/24 dev nica.99; ip link set nica.99 up
    ip link add link nica.99 name theirs1 type macvlan mode bridge; ip link set theirs1 up
    ip addr add 10.88.0.1/24 dev nica; ip route add 10.78.0.0/16 dev theirs proto {PROTOCOL}; ip route add default via 10.88.0.254
    ip netns add alien; ip -n alien link add eth0 group {LINK_GROUP} type dummy; ip -n alien addr add 10.1.1.1/24 dev eth0
    ip link set nicb down
"""


class Scene(NamedTuple):
    """Something that a host does, and must do wholly or not at all."""

    before: Callable[[Host], None]  # makes the host that it begins on, wherever it is
    act: Callable[[Host], Any]
    again: Callable[[Host], Any]  # what comes next, after a crash
    whole: bool = True  # a failure leaves the host as before; else as far as it could get
    same: bool = True  # it always begins on the same host


def empty(host: Host) -> None:
    host.engine.map(**EMPTY)
    subprocess.run(["ip", "link", "set", "nicb", "down"], check=True)


def unused(host: Host) -> None:
    """No run was ever here."""
    empty(host)
    shutil.rmtree(host.engine.state_dir)


def applied(*maps: Dict[str, Any]) -> Callable[[Host], None]:
    def apply(host: Host) -> None:
        for it in maps:
            host.engine.map(**it)

    return apply


def then(*steps: Callable[[Host], Any]) -> Callable[[Host], None]:
    def take(host: Host) -> None:
        for step in steps:
            step(host)

    return take


def unconfirmed(host: Host) -> None:
    armed = host.registry.armed()
    if armed:
        host.expire()
    host.engine.map(**FIRST)
    host.engine.map(guard=Armed(), **OTHER)


def half_done(host: Host) -> None:
    """Killed in the midst of a change, at its first sysctl."""
    host.engine.map(**FIRST)
    with Watched(lambda _: host.engine.map(**OTHER)) as watched:
        ended = watched.run(lambda call: KILL if call.name == "write" else GO)
    assert ended.how == KILLED and host.engine.pending()


SCENES = {
    "first run": Scene(unused, applied(FIRST), applied(FIRST)),
    "made": Scene(empty, applied(FIRST), applied(FIRST)),
    "changed": Scene(applied(FIRST), applied(OTHER), applied(OTHER)),
    "removed": Scene(applied(OTHER), applied(EMPTY), applied(EMPTY)),
    "undone": Scene(applied(FIRST, OTHER), Host.undo, applied(FIRST)),
    "undo undone": Scene(then(applied(FIRST, OTHER), Host.undo), Host.undo, applied(OTHER)),
    "recovered": Scene(half_done, Host.restore, Host.restore, whole=False, same=False),
    "guard": Scene(unconfirmed, Host.expire, Host.expire, whole=False),
    "boot": Scene(then(applied(FIRST), Host.power_cut), Host.restore, Host.restore, whole=False),
    "boot, unconfirmed": Scene(then(unconfirmed, Host.power_cut), Host.restore, Host.restore, whole=False),
}  # fmt: skip


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Host]]:
    """Makes a host, in the place of the one before."""
    with contextlib.ExitStack() as stack:

        def make() -> Host:
            stack.close()
            stack.enter_context(fresh_host())
            nic("nica")
            nic("nicb")
            run(STRANGERS)
            made = Host(Path(tempfile.mkdtemp(dir=tmp_path)))
            monkeypatch.setattr(statedir, "boot", made.boot_id)
            return made

        yield make


#: In ``make soak`` every way has a test, so that one can be had alone: ``-k "killed"``.
TOGETHER = {words.replace(" ", "-"): [way] for way, words in WAYS.items()} if SOAK else {"sample": list(WAYS)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("ways", TOGETHER)
def test_a_crash_at_every_system_call(hosts: Callable[[], Host], name: str, ways: str) -> None:
    failures: List[str] = []
    cases: Optional[List[Tuple[int, Any]]] = None
    total = done = 0
    while cases or cases is None:
        with Watching(hosts(), SCENES[name]) as watching:
            if cases is None:
                total = len(watching.calls)
                cases = some(list(itertools.product(range(1, total + 1), TOGETHER[ways])), every=307)
            while cases and not watching.failure:
                watching.crash(*cases.pop())
                done += 1
            failures += [watching.failure] if watching.failure else []
    print(
        f"{name}, {ways}: {total} system calls that change something, {done} crashes of {total * len(TOGETHER[ways])}"
    )
    assert not failures, "\n".join([f"{len(failures)} of {done}:", *failures[:50]])


#: After SQLite has committed and removed its journal, the directory is synced; a namespace's file goes after its mount.
HALF_WAY = {"changed": ("fsync", "fdatasync"), "removed": ("unlink", "umount"), "made": ("mount", "umount", "fchown")}


@pytest.mark.parametrize("name", HALF_WAY)
def test_what_fails_half_way(hosts: Callable[[], Host], name: str) -> None:
    with Watching(hosts(), SCENES[name]) as watching:
        numbers = [number for number, call in enumerate(watching.calls, 1) if call in HALF_WAY[name]]
        assert len(numbers) > 2, watching.calls
        for number in numbers:
            for _again in range(2):  # on what the first time has left
                watching.crash(number, errno.EIO)
                assert not watching.failure, watching.failure


class Watching:
    """One host on which a scene is played until it goes wrong."""

    def __init__(self, host: Host, scene: Scene) -> None:
        self.host = host
        self.scene = scene
        self.failure = ""

    def __enter__(self) -> Watching:
        self.scene.before(self.host)
        self.before = picture()
        self.watched = Watched(lambda _: self.scene.act(self.host))
        ended = self.watched.run()
        assert ended.how == "", ended
        self.calls = ended.calls
        self.after = picture()
        settled(self.host.engine)
        return self

    def __exit__(self, *_rest: object) -> None:
        self.watched.close()

    def crash(self, number: int, way: Any) -> None:
        """Disturb the scene at one call, and judge what is left."""
        if not self.scene.same or picture() != self.before or self.host.registry.armed():
            self.scene.before(self.host)
        if self.scene.same:
            assert list(differences(self.before, picture())) == [], "the test does not get back to where it began"
        ended = self.watched.run(lambda call: self._decide(call, number, way))
        name = ended.calls[number - 1] if number <= len(ended.calls) else "nothing"
        try:
            self._judge(ended, number)
        except Exception as problem:
            self.failure = f"{WAYS[way]} at {name}, {number} of {len(self.calls)}: {problem}"
            self.failure += f"; it ended {ended.how or 'well'}: {ended.text}"

    def _decide(self, call: Call, number: int, way: Any) -> int:
        if way == FULL:
            on_disk = call.number >= number and call.path.startswith(f"{self.host.engine.state_dir}/")
            return errno.ENOSPC if on_disk else GO
        if call.number != number:
            return GO
        if way == STOP:
            self._another()
            return GO
        return int(way)

    def _another(self) -> None:
        """Somebody else's run while this one is stopped: it has to wait, or comes first and finds nothing to do."""
        with contextlib.suppress(RegistryBusy), self.host.registry.lock(0, "another"):
            recover(self.host.registry, self.host.options())

    def _judge(self, ended: Ended, number: int) -> None:
        """Repaired by the service, or by the next run, or whole as it is: as before or as wanted, and nothing is under way."""
        if ended.how == TRACEBACK:
            raise AssertionError("a traceback")
        crashed = ended.how in (KILLED, INTERRUPTED)
        if self.scene.whole and (number % 3 or not crashed):
            if crashed or not ended.how:  # one that ended well could still not write a hosts file
                self.host.restore()
            left = list(differences(self.before, picture()))
            if not left and ended.how and number % 12:
                if self.host.registry.pending():  # the disk did not take that it was undone
                    self.host.restore()
                settled(self.host.engine)
                return  # which is where everything began
            if left and ended.how and not crashed:
                raise AssertionError(f"it is not as before: {left}")
            if left:
                self._is_as_wanted("half of it is left")
        if ended.how or not self.scene.whole:
            self.scene.again(self.host)
        self._is_as_wanted("it never comes to what was wanted")
        settled(self.host.engine)

    def _is_as_wanted(self, what: str) -> None:
        left = list(differences(self.after, picture()))
        if left:
            raise AssertionError(f"{what}: {left}")
