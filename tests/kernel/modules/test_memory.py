# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer "nothing to do" is remembered for one input: what changes on the host, in the registry or in the task is seen."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from tests.support.module_tasks import Result, Tasks
from tests.support.network_host import run

MAP: Dict[str, Any] = {
    "name": "rack1",
    "links": [{"parent": "trunk", "vlan_id": 40, "addresses": ["198.51.100.1/24"]}],
    "networks": [
        {"name": "a", "driver": "macvlan", "parent": "trunk.10", "subnets": [{"subnet": "172.16.10.0/24"}]},
        {"name": "b", "driver": "ipvlan", "parent": "trunk.20", "subnets": [{"subnet": "172.16.20.0/24"}]},
        {"name": "c", "driver": "ipvlan", "mode": "l3", "parent": "trunk.40", "subnets": [{"subnet": "10.4.0.0/24"}]},
        {"name": "d", "driver": "macvlan", "internal": True, "subnets": [{"subnet": "10.5.0.0/24"}]},
    ],
    "routes": [{"name": "others", "network": "c", "routes": [{"prefix": "10.215.0.0/24", "via": "198.51.100.2"}]}],
}  # fmt: skip

#: What somebody does to the host, and how it is taken back where the run does not.
STRANGERS: List[Tuple[str, str]] = [
    ("ip link set trunk.10 mtu 1400", ""),
    ("ip link set trunk.20 down", ""),
    ("echo 0 > /proc/sys/net/ipv4/conf/trunk.10/arp_ignore", ""),
    ("ip address add 192.0.2.9/24 dev trunk", "ip address del 192.0.2.9/24 dev trunk"),
    ("ip address add 172.16.10.9/24 dev trunk.10", "ip address del 172.16.10.9/24 dev trunk.10"),
    ("ip route del 10.215.0.0/24", ""),
    ("ip route add 192.0.2.0/24 via 203.0.113.1", "ip route del 192.0.2.0/24"),
    ("ip link add foreign link trunk.10 type macvlan", "ip link del foreign"),
    ("ip netns add other; ip link add there link trunk.20 netns other type ipvlan mode l2", "ip netns del other"),
    ("ip netns add other; ip link add there link trunk.20 netns other type ipvlan mode l3", "ip netns del other"),
    ("ip link set trunk.10 down; ip link set trunk.10 name ten; ip link set ten up", ""),
    ("ip link property add dev trunk altname uplink", "ip link property del dev trunk altname uplink"),
    ("ip link set trunk.10 group 0", "ip link set trunk.10 group 8021"),
    ("ip link del trunk.20", ""),
    ("ip link add name br0 type bridge; ip link set trunk.20 master br0", "ip link del br0"),
]  # fmt: skip


class Remembering:
    """The same task again and again, and whether its answer was remembered."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.file = Path(tasks.state_dir, "answer.json")

    def place(self) -> Optional[int]:
        """It is written anew whenever an answer was computed."""
        return self.file.stat().st_mtime_ns if self.file.exists() else None

    def ask(self, **options: Any) -> Tuple[bool, Result]:
        before = self.place()
        found = self.tasks.run("vlan_map", {**MAP, **options})
        return found.data.get("changed") is False and before is not None and self.place() == before, found

    def settles(self, **options: Any) -> Dict[str, Any]:
        """Once nothing is left to do that answer is computed once and then remembered; both are the same."""
        known = self.ask(**options)[1]
        for _ in range(3):
            before, (is_remembered, known) = known, self.ask(**options)
            if is_remembered:
                assert known.data == before.data
                return known.data
        raise AssertionError("it is computed each time")


def plan(found: Result) -> List[Any]:
    """What a run does, or would do; and what it says where it does nothing."""
    does = [found.data.get("changed"), found.data.get("plan", {}).get("counts")]
    return does if does[0] else [*does, found.data.get("warnings"), found.message]


def test_every_change_is_seen_and_answers_are_the_same_with_and_without_a_memory(tasks: Tasks) -> None:
    memory = Remembering(tasks)
    assert tasks.becomes("vlan_map", **MAP)
    memory.settles()
    assert oct(memory.file.stat().st_mode) == "0o100600"
    for change, back in STRANGERS:
        run(change)
        predicted = tasks.run("vlan_map", MAP, check=True)
        is_remembered, done = memory.ask()
        assert not is_remembered, change
        assert done.data.get("failed") == predicted.data.get("failed"), change
        assert plan(predicted) == plan(done), change
        run(back)
        memory.settles()


def test_another_task_registry_or_file_is_no_memory(tasks: Tasks) -> None:
    memory = Remembering(tasks)
    tasks.becomes("vlan_map", **MAP)
    first = memory.settles()
    assert not memory.ask(purge_limit=7)[0], "another option"
    assert memory.ask(purge_limit=7)[0]
    networks = [{**MAP["networks"][0], "labels": {"floor": "2"}}, *MAP["networks"][1:]]
    assert memory.ask(networks=networks)[1].data["changed"] is True
    assert memory.ask()[1].data["changed"] is True
    assert memory.settles() == first
    with contextlib.closing(sqlite3.connect(Path(tasks.state_dir, "registry.db"))) as database, database:
        database.execute("INSERT INTO meta VALUES ('note', 'by hand')")
    assert not memory.ask()[0], "another registry"
    memory.file.write_bytes(memory.file.read_bytes()[:-1])
    is_remembered, found = memory.ask()
    assert not is_remembered and found.data == first, "cut off"
    memory.file.chmod(0o666)
    assert not memory.ask()[0], "others could have written it"


def test_the_module_as_it_goes_over_a_connection_remembers_too(tasks: Tasks) -> None:
    """It comes in an archive that is another file each time."""
    memory = Remembering(tasks)
    tasks.ok("vlan_map", **MAP)
    computed = tasks.send("vlan_map", MAP)
    place = memory.place()
    remembered = tasks.send("vlan_map", MAP)
    assert place is not None and memory.place() == place
    assert remembered.data["changed"] is False and remembered.data == computed.data
