# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stranger at work beside the engine, with our names, our link group and our protocol number: what is theirs stays as they left it.

Runs, undos, guards and restores go on, in a random order that a seed fixes. The stranger acts between them, and in the midst of them: the
engine is held before some system call meanwhile (``system_calls``). All that the stranger made is compared each time, by what it is
(ifindex, inode), and at last a run converges.

In the midst of a run the stranger builds nothing on what is ours: no kernel can remove a link unless somebody depends on it.
"""

from __future__ import annotations

import os
import random
import subprocess
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Set, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST_LINK_GROUP,
    LINK_GROUP,
    PRIVATE_GROUPS,
    PROTOCOL,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.store import statedir

from tests.kernel.test_faults import EMPTY, FIRST, OTHER
from tests.support.engine_host import Armed, Host
from tests.support.host_picture import objects, settled
from tests.support.network_host import fresh_host, ip, nic, run
from tests.support.soak import SOAK
from tests.support.system_calls import GO, KILL, TRACEBACK, Call, Watched

NICS = ["nica", "nicb"]
OURS = ["nica.10", "nica.30", "nicb.20"]
PARENTS = ["nica.10", "nicb.20"]
SPACES = ["", "web", "db", "alien"]
GROUPS = [0, 0, LINK_GROUP, HOST_LINK_GROUP, PRIVATE_GROUPS[0]]
PROTOCOLS = [4, PROTOCOL]
#: Ours, and others.
ADDRESSES = [
    "10.30.0.1/24",
    "10.30.0.2/24",
    "192.0.2.3/24",
    "10.30.0.77/24",
    "192.0.2.77/24",
    "203.0.113.7/32",
    "fe80::77/64",
]
PREFIXES = ["10.99.0.0/16", "10.98.0.0/16", "192.0.2.3/32"]

Key = Tuple[Any, ...]


class Stranger:
    """Somebody else on the host, who keeps a list of what is theirs and how it was left."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.theirs: Dict[Key, Any] = {}
        self.seen: Dict[Key, Any] = {}  # of the host, before what they do next
        self.displaced: Set[Key] = set()  # links of ours that were renamed or moved
        self.did: List[str] = []
        self._number = 0

    def check(self) -> None:
        """All of theirs is as it was left."""
        self.seen = now = objects()
        for key, row in now.items():
            if key[0] == "link" and row["name"] in PARENTS and key in self.theirs:
                row["up"] = self.theirs[key]["up"]  # a foreign parent too is used, and set up (bring_up_parent)
        for key, left in self.theirs.items():
            if now.get(key) != left:
                raise AssertionError(f"{key} was {left} and is {now.get(key)}")

    def act(self, apart: bool) -> None:
        """Something at random; in the midst of a run (``apart``) nothing that stands on what is ours."""
        self.check()
        before = self.seen
        what = self.chance.choice(self._apart if apart else [*self._apart, *self._beside])
        keeps = what(self)
        now = objects()
        new = {key: value for key, value in now.items() if key not in before} if keeps else {}
        self.theirs = {key: now[key] for key in {*self.theirs, *new} if key in now}

    def leave(self) -> None:
        """Everything of theirs goes, and what of ours they put elsewhere."""
        for key in sorted({*self.theirs, *self.displaced}, key=str, reverse=True):
            if key in objects():
                self._remove(key)
        self.theirs = {}

    # -- what they do -----------------------------------------------------------------------------

    def _do(self, space: str, *command: str) -> bool:
        """One command of ``ip``; whether it was carried out."""
        command = ("ip", *(["-n", space] if space else []), *command)
        try:
            failed = subprocess.run(command, check=False, capture_output=True, timeout=3).returncode
        except subprocess.TimeoutExpired:
            failed = 0  # the engine is held while it has the lock of ip netns; or it was slow, and done
        self.did.append(f"{' '.join(command)}{' (refused)' if failed else ''}")
        return not failed

    def _pick(self, things: Any) -> Any:
        return self.chance.choice(list(things))

    def _space(self) -> str:
        """A namespace that is there."""
        return str(self._pick([space for space in SPACES if not space or Path(f"/run/netns/{space}").exists()]))

    def _links(self, space: str, theirs: bool) -> List[str]:
        """The names of their links, or of ours, in a namespace."""
        now = self.seen
        inodes = {name: key[1] for key, name in now.items() if key[0] == "netns"}
        return [
            row["name"]
            for key, row in now.items()
            if key[0] == "link"
            and key[1] == inodes.get(space)
            and row["kind"] not in ("", "veth")
            and (key in self.theirs) == theirs
        ]

    def _name(self) -> Tuple[str, int]:
        """A new name, or one that we use, and a group: both of ours on one link is what makes it ours."""
        if self.chance.random() < 0.4:
            return self._pick([*OURS, "eth0", "eth1", "ha-7692c3ad3540"]), 0
        self._number += 1
        return f"theirs{self._number}", self._pick(GROUPS)

    def make_link(self) -> bool:
        name, group = self._name()
        space = self._space() if self.chance.random() < 0.3 else ""
        if space in ("web", "db"):
            space = "alien" if Path("/run/netns/alien").exists() else ""
        kind = self._pick(["dummy", "vlan", "macvlan"]) if not space else "dummy"
        on = [] if kind == "dummy" else ["link", self._pick(NICS)]
        more = {"vlan": ["id", str(self._pick([10, 20, 30, 77, 78, 79]))], "macvlan": ["mode", "bridge"]}.get(kind, [])
        return self._do(space, "link", "add", *on, "name", name, "group", str(group), "type", kind, *more)

    def remove_link(self) -> bool:
        space = self._space()
        names = self._links(space, True)
        return bool(names) and self._do(space, "link", "del", self._pick(names))

    def rename_link(self) -> bool:
        space = self._space()
        names = self._links(space, True)
        if names:
            self._number += 1
            self._do(space, "link", "set", self._pick(names), "name", f"theirs{self._number}")
        return False

    def turn_link(self) -> bool:
        space = self._space()
        names = self._links(space, True)
        return bool(names) and self._do(space, "link", "set", self._pick(names), self._pick(["up", "down"]))

    def remove_ours(self) -> bool:
        space = self._space()
        names = self._links(space, False)
        if names:
            self._do(space, "link", "del", self._pick(names))
        return False

    def change_ours(self) -> bool:
        space = self._space()
        names = self._links(space, False)
        if names:
            self._displacing(
                space, self._pick(names), *self._pick([("down",), ("up",), ("mtu", "1300"), ("group", "0")])
            )
        return False

    def _displacing(self, space: str, name: str, *change: str) -> None:
        """A change of a link of ours after which it may be ours no more, by its name, its place or its mark."""
        self._do(space, "link", "set", name, *change)
        if change[0] in ("name", "netns", "group"):
            self.displaced |= {key for key, row in objects().items() if key[0] == "link" and self.seen.get(key) != row}

    def displace_ours(self) -> bool:
        """Under another name, or into another namespace."""
        space = self._space()
        names = self._links(space, False)
        if not names:
            return False
        self._number += 1
        to = ("name", f"moved{self._number}")
        if self.chance.random() < 0.4 and Path("/run/netns/alien").exists():
            to = ("netns", "alien")
        self._displacing(space, self._pick(names), *to)
        return False

    def make_space(self) -> bool:
        name = self._pick(SPACES[1:])
        return self._do("", "netns", "add", name)

    def remove_space(self) -> bool:
        name = self._pick(SPACES[1:])
        self._do("", "netns", "del", name)
        return False

    def remake_space(self) -> bool:
        name = self._pick(["web", "db"])
        return self._do("", "netns", "del", name) and self._do("", "netns", "add", name)

    def address_theirs(self) -> bool:
        space = self._space()
        names = self._links(space, True)
        return bool(names) and self._address(space, self._pick(names))

    def address_ours(self) -> bool:
        space = self._space()
        names = self._links(space, False)
        there = bool(names) and self._address(space, self._pick([*names, *(NICS if not space else [])]))
        return there and not space  # what is on an endpoint's link is its workload's, and goes with the link by design

    def _address(self, space: str, link: str) -> bool:
        address = self._pick(ADDRESSES)
        protocol = [] if address in ADDRESSES[:3] else ["proto", str(self._pick(PROTOCOLS))]
        return self._do(space, "addr", "add", address, "dev", link, *protocol)

    def route(self) -> bool:
        names = [name for name in self._links("", True) if ip("link", "show", "dev", name, "up")]
        prefix = self._pick(PREFIXES)
        way = ["dev", self._pick(names)] if names else ["type", "blackhole"]
        protocol = str(self._pick(PROTOCOLS)) if prefix == PREFIXES[1] else "4"
        kind = [] if names else ["blackhole"]
        return self._do(
            "",
            "route",
            "add",
            *kind,
            prefix,
            *(way if names else []),
            "metric",
            self._pick(["0", "7"]),
            "proto",
            protocol,
        )

    def link_in_ours(self) -> bool:
        """Something of theirs in a namespace of ours, or on a link of ours."""
        name, group = self._name()
        space = self._space()
        names = self._links(space, False)
        if space in ("web", "db") or not names:
            return self._do(space, "link", "add", name, "group", str(group), "type", "dummy")
        return self._do(
            space,
            "link",
            "add",
            "link",
            self._pick(names),
            "name",
            name,
            "group",
            str(group),
            "type",
            "macvlan",
            "mode",
            "bridge",
        )

    _apart: List[Callable[[Stranger], bool]] = [
        make_link, make_link, remove_link, rename_link, turn_link, remove_ours, change_ours, displace_ours, make_space, remove_space,
        remake_space, address_theirs, route,
    ]  # fmt: skip
    _beside: List[Callable[[Stranger], bool]] = [address_ours, address_ours, link_in_ours, link_in_ours]

    def _remove(self, key: Key) -> None:
        now = objects()
        space = str(now.get(("netns", key[1]), ""))
        if key[0] == "netns":
            self._do("", "netns", "del", space)
        elif key[0] == "link":
            self._do(space, "link", "del", now[key]["name"])
        elif key[0] == "address":
            link = now.get(("link", key[1], key[2]))
            family = ".".join(map(str, bytes.fromhex(key[3]))) if len(key[3]) == 8 else None
            if link and family:
                self._do(space, "addr", "del", f"{family}/{key[4]}", "dev", link["name"])
        elif key[0] == "route":
            prefix = ".".join(map(str, bytes.fromhex(key[2][1])))
            self._do(space, "route", "del", f"{prefix}/{key[2][2]}", "metric", str(key[2][10]), "proto", str(key[2][4]))


#: What the engine does, by the order that it gets.
WORK: Dict[str, Callable[[Host], Any]] = {
    "first": lambda host: host.engine.map(**FIRST) and None,
    "other": lambda host: host.engine.map(**OTHER) and None,
    "empty": lambda host: host.engine.map(**EMPTY) and None,
    "undo": lambda host: host.last() and host.undo(),
    "guarded": lambda host: host.engine.map(guard=Armed(), **OTHER) and None,
    "expire": lambda host: host.registry.armed() and host.expire(),
    "restore": Host.restore,
}


def chaos(host: Host, stranger: Stranger, steps: int) -> None:
    """So many acts of the engine, each with what the stranger does before and meanwhile."""
    with Watched(lambda order: WORK[order](host)) as watched:
        guarded = False
        for _step in range(steps):
            for _act in range(stranger.chance.randrange(3)):
                stranger.act(apart=False)
            order = "expire" if guarded else stranger.chance.choice(["first", "other", *WORK])
            guarded = order == "guarded"
            at = stranger.chance.choices(range(1, 120), k=stranger.chance.randrange(3))
            kill = stranger.chance.random() < 0.2

            def decide(call: Call) -> int:
                if call.number in at:  # noqa: B023
                    stranger.did.append(f"  at {call.number}, {call.name}:")
                    stranger.act(apart=True)
                    return KILL if kill else GO  # noqa: B023
                return GO

            stranger.did.append(order)
            ended = watched.run(decide, order)
            stranger.did.append(f"  {ended.how} {ended.text[-300:]}")
            if ended.how == TRACEBACK:
                raise AssertionError(ended.text)
            stranger.check()


def converges(host: Host, stranger: Stranger) -> None:
    """Once the stranger has gone, and taken along what of ours they had put elsewhere."""
    stranger.leave()
    stranger.did.append("at last")
    if host.registry.armed():
        host.expire()
    host.restore()
    host.engine.map(**EMPTY)
    host.engine.map(**FIRST)
    settled(host.engine)
    assert host.engine.map(**FIRST).changes == []
    host.engine.map(**EMPTY)


@pytest.mark.slow
def test_a_stranger_beside_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = random.sample(range(1 << 30), 60) if SOAK else [1, 2]
    acts, failures = 0, []
    for seed in seeds:
        stranger = Stranger(seed)
        with fresh_host():
            for name in NICS:
                nic(name)
            (tmp_path / str(seed)).mkdir()
            host = Host(tmp_path / str(seed))
            monkeypatch.setattr(statedir, "boot", host.boot_id)
            try:
                chaos(host, stranger, 40 if SOAK else 8)
                converges(host, stranger)
            except Exception:
                did = "\n".join(stranger.did[-40:])
                failures.append(f"--- seed {seed}\n{did}\n{traceback.format_exc()}")
        acts += len(stranger.did)
    print(f"{acts} acts")
    if failures:
        raise AssertionError(f"{len(failures)} of {len(seeds)}\n" + "\n".join(failures))


@pytest.mark.parametrize(("state", "moment"), [("present", "mount"), ("absent", "umount"), ("absent", "unlink")])
def test_a_namespace_recreated_at_the_last_moment_stays(tmp_path: Path, state: str, moment: str) -> None:
    """By its name it is ours, until the very calls that make or remove it."""
    nic("nica")
    host = Host(tmp_path)
    host.engine.network("blue", parent="nica.10")
    if state == "absent":
        host.engine.endpoint("one", netns="web")
    passed: List[str] = []
    theirs: List[int] = []

    def decide(call: Call) -> int:
        passed.append(call.name)
        if call.name == moment and ("umount" in passed or "unshare" in passed) and not theirs:
            run("ip netns del web 2>/dev/null || rm -f /run/netns/web; ip netns add web")
            theirs.append(os.stat("/run/netns/web").st_ino)
        return GO

    def work(_order: str) -> None:
        host.engine.task("endpoint", state, network="blue", name="one", netns="web")

    with Watched(work) as watched:
        ended = watched.run(decide)
    assert ended.how == ("RolledBack" if state == "present" else ""), ended
    assert theirs == [os.stat("/run/netns/web").st_ino]
    settled(host.engine)
