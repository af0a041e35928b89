# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole modules on a disk that is full or read-only, with a registry that is damaged or lost, and many at once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.module_tasks import ENVIRONMENT, PYTHON, WIRE, Tasks, changes, everything
from tests.support.network_host import ip, links, run

BLUE: Dict[str, Any] = {
    "name": "blue",
    "driver": "macvlan",
    "parent": "trunk.10",
    "subnets": [{"subnet": "192.0.2.0/24"}],
}
RACK: Dict[str, Any] = {
    "name": "rack",
    "networks": [BLUE],
    "endpoints": [{"network": "blue", "name": "one", "netns": "one"}],
}
TASKS: Dict[str, Dict[str, Any]] = {
    "vlan_link": {"parent": "trunk", "vlan_id": 5},
    "vlan_network": {**BLUE, "name": "red", "parent": "trunk.11"},
    "vlan_endpoint": {"network": "blue", "name": "two", "netns": "two"},
    "ipvlan_l3_routes": {"name": "set", "routes": [{"prefix": "10.77.0.0/16", "via": "203.0.113.1"}]},
    "vlan_map": {"name": "more", "links": [{"parent": "trunk", "vlan_id": 6}]},
}


@pytest.fixture
def furnished(tasks: Tasks) -> Tasks:
    """A host with something of ours, whose state is on a disk of its own."""
    Path(tasks.state_dir).mkdir(mode=0o700)
    run(f"mount -t tmpfs -o size=1m,mode=700 none {tasks.state_dir}")
    tasks.ok("vlan_map", **RACK)
    return tasks


def kernel(state_dir: str) -> Dict[str, Any]:
    """The host but for what is on that disk."""
    return {key: value for key, value in everything(state_dir).items() if key != state_dir}


def is_told(tasks: Tasks, *parts: str) -> bool:
    """Every module that changes the wire says so, in one line, and changes nothing."""
    before = kernel(tasks.state_dir)
    for module in WIRE:
        found = tasks.run(module, TASKS[module])
        assert found.data.get("failed") and "Traceback" not in found.text, (module, found.text)
        assert len(found.message) == 1 and all(part in found.message[0] for part in parts), (module, found.message)
    return changes(before, kernel(tasks.state_dir)) == []


def test_a_full_disk(furnished: Tasks) -> None:
    filled = Path(furnished.state_dir, "filled")
    with contextlib.suppress(OSError), open(filled, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    assert is_told(furnished, "make room on its file system")
    furnished.same("vlan_map", **RACK)
    assert [row["name"] for row in furnished.ok("vlan_info")["networks"]] == ["blue"]
    run("ip -n one link del eth0")
    assert restore.restore(transact.RunOptions(furnished.state_dir), restore.RestoreScope()).left == [], (
        "and what is recorded stays readable"
    )
    assert links("one") == ["eth0"]
    filled.unlink()
    for module in WIRE:
        furnished.becomes(module, **TASKS[module])


def test_a_disk_without_room_for_another_file(furnished: Tasks) -> None:
    used = run(f"df --output=iused {furnished.state_dir} | tail -n 1").strip()
    run(f"mount -o remount,nr_inodes={used} {furnished.state_dir}")
    assert is_told(furnished, "make room on its file system")
    assert [row["name"] for row in furnished.ok("vlan_info")["networks"]] == ["blue"]
    run(f"mount -o remount,nr_inodes=10000 {furnished.state_dir}")
    for module in WIRE:
        furnished.becomes(module, **TASKS[module])


def test_a_read_only_disk(furnished: Tasks) -> None:
    run(f"mount -o remount,ro {furnished.state_dir}")
    assert is_told(furnished, "Read-only file system", "make its file system writable")
    assert [row["name"] for row in furnished.ok("vlan_info")["networks"]] == ["blue"]
    run(f"mount -o remount,rw {furnished.state_dir}")
    for module in WIRE:
        furnished.becomes(module, **TASKS[module])


def test_a_damaged_registry(furnished: Tasks) -> None:
    file = Path(furnished.state_dir, "registry.db")
    whole = file.read_bytes()
    for damaged in (whole[:5000], b"x" * 8192, whole[:4096] + os.urandom(len(whole) - 4096)):
        file.write_bytes(damaged)
        assert is_told(furnished, f"{file}", ";")
        assert file.read_bytes() == damaged, "it is kept for repair by hand"
    file.write_bytes(whole)
    furnished.same("vlan_map", **RACK)


def test_a_lost_registry(furnished: Tasks) -> None:
    """What has our mark has no owner until somebody says whose it is; the address comes back with its endpoint."""
    before = kernel(furnished.state_dir)
    run(f"rm {furnished.state_dir}/registry.db*")
    found = furnished.run("vlan_map", RACK)
    assert found.data["failed"] and all("adopt: true" in text for text in found.message), found.message
    furnished.ok("vlan_map", **RACK, adopt=True)
    assert changes(before, kernel(furnished.state_dir)) == []
    furnished.same("vlan_map", **RACK)


# --- many at once --------------------------------------------------------------------------------


@contextlib.contextmanager
def at_once(*commands: List[str]) -> Iterator[List[subprocess.Popen[str]]]:
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
               for command in commands]  # fmt: skip
    yield running
    for process in running:
        process.wait()


def test_eight_tasks_the_service_and_a_person_at_once(tasks: Tasks) -> None:
    tasks.ok("vlan_link", parent="trunk", vlan_id=99)
    engine = Path(restore.__file__).parents[2]
    underlay = (
        f"import sys; sys.path.insert(0, {str(engine)!r}); from _engine.service.cli import main; sys.exit(main())"
    )
    person = [PYTHON, "-I", "-c", underlay, "--state-dir", tasks.state_dir, "--lock-timeout", "300"]

    def payload(number: int) -> str:
        options = {
            "name": f"map{number}", "lock_timeout": 300,
            "networks": [{**BLUE, "name": f"net{number}", "parent": f"trunk.{100 + number}", "subnets": [{"subnet": f"10.{number}.0.0/24"}]}],
            "endpoints": [{"network": f"net{number}", "name": "one", "netns": f"one{number}"}],
        }  # fmt: skip
        text = (tasks.server.payloads / "vlan_map").read_text(encoding="utf-8")
        return text.replace(
            "params='{\"ANSIBLE_MODULE_ARGS\": {}}'",
            f"params={json.dumps({'ANSIBLE_MODULE_ARGS': tasks.arguments('vlan_map', options)})!r}",
        )

    run("ip link del trunk.99")  # something to restore
    with at_once(*[[PYTHON]] * 8, [*person, "restore"], [*person, "hold", "vlan:trunk.99", "at", "work"]) as running:
        for number, process in enumerate(running[:8]):
            assert process.stdin is not None
            process.stdin.write(payload(number))
            process.stdin.close()
        said = [process.stdout.read() for process in running if process.stdout is not None]
    statuses = [process.returncode for process in running]
    assert statuses.pop(8) in (0, 3) and statuses == [0] * 9, said  # 3: the person was faster, and what is held is left
    done = [json.loads(text[text.index("{") :]) for text in said[:8]]
    assert len({row["transaction"] for row in done}) == 8 and all(
        row["plan"]["counts"] == done[0]["plan"]["counts"] for row in done
    )
    assert {f"trunk.{100 + number}" for number in range(8)} <= set(links())
    for number in range(8):
        (row,) = ip("address", "show", "dev", "eth0", netns=f"one{number}")
        assert f"10.{number}.0.2" in [entry["local"] for entry in row["addr_info"]]
    subprocess.run([*person, "release", "everything"], check=True, stdout=subprocess.DEVNULL)
    restore.restore(transact.RunOptions(tasks.state_dir), restore.RestoreScope())
    left, _more, _rest = restore.drift(Registry(tasks.state_dir))
    assert left == [] and Registry(tasks.state_dir).pending() is None
