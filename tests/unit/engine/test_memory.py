# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer that is remembered for one input: nothing that planning reads is left out of it."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import pickle
import random
import sqlite3
import struct
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import errors, version
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import HOST
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.fingerprint import fingerprint
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import (
    Address,
    HostState,
    Link,
    Namespace,
    Route,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.netlink import decode, encode
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, memory, transact
from hypothesis import given
from hypothesis import strategies as st

from tests.support.simulated_host import SimulatedHost
from tests.support.simulated_kernel import SimulatedKernel
from tests.support.soak import examples

# --- the fingerprint -----------------------------------------------------------------------------


def link(index: int, name: str, **values: Any) -> Link:
    found = Link()
    for slot in Link.__annotations__:
        setattr(found, slot, "")
    found.index, found.name, found.parent, found.master, found.mtu, found.group = index, name, 2, 0, 1500, 8021
    found.lowers, found.altnames, found.conf4, found.conf6, found.up = (), (), (0,) * 33, (0,) * 60, True
    found.data = {"vlan_id": index, "ingress_qos_map": {"1": 2}}
    for slot, value in values.items():
        setattr(found, slot, value)
    return found


def space(workload: str, *links: Link) -> Namespace:
    found = Namespace(workload, "/proc/self/ns/net", (4, 1))
    for one in links:
        found.add(one)
    found.addresses = {2: [Address(2, "192.0.2.1/24", 0, 0, 0x80)]}
    found.routes = [Route("0.0.0.0/0", "unicast", "192.0.2.254", 2, None, 0, 254, 3, 0)]
    return found


def state() -> HostState:
    found = HostState(space(HOST, link(2, "eth0"), link(3, "eth0.3"), link(4, "eth0.4")))
    found.others = [space("/proc/7/ns/net", link(2, "far"))]
    found.namespaces = {"netns:a": space("netns:a", link(2, "eth0"))}
    return found


def another(value: Any) -> Any:
    """A value of the same type that is not the same."""
    if isinstance(value, (bool, type(None))):
        return value is False
    if isinstance(value, (int, str)):
        return value + type(value)(1)
    if isinstance(value, Namespace):
        return dataclasses.replace(value, path="/elsewhere")
    if isinstance(value, dict):
        return {**value, "x": "y"}
    return type(value)((*value, "x"))


Differing = Iterator[Tuple[str, Callable[[HostState], None]]]


def differing() -> Differing:
    """Each field of a state, and of everything in it, made different."""
    for field in dataclasses.fields(HostState):
        if field.name not in ("host", "others", "namespaces"):
            yield field.name, _change(lambda host: host, field.name)
    parts: Dict[str, Callable[[HostState], Namespace]] = {
        "host": lambda host: host.host, "others": lambda host: host.others[0], "namespaces": lambda host: host.namespaces["netns:a"],
    }  # fmt: skip
    for label, part in parts.items():
        for what, change in _differing_in(part):
            yield f"{label} {what}", change


def _differing_in(part: Callable[[HostState], Namespace]) -> Differing:
    for field in dataclasses.fields(Namespace):
        if field.init and field.name not in ("links", "names", "addresses", "routes"):
            yield field.name, _change(part, field.name)
    for index in part(state()).links:
        for slot in Link.__annotations__:
            yield f"link {index} {slot}", _change(lambda host, index=index: part(host).links[index], slot)  # type: ignore[misc]
    for position, name in enumerate(Address._fields):
        yield f"address {name}", lambda host, position=position: _tuple(part(host).addresses[2], position)  # type: ignore[misc]
    for position, name in enumerate(Route._fields):
        yield f"route {name}", lambda host, position=position: _tuple(part(host).routes, position)  # type: ignore[misc]
    yield "one less", lambda host: part(host).routes.clear()
    yield "names", lambda host: part(host).names.update(alias=part(host).links[2])


def _change(part: Callable[[HostState], Any], name: str) -> Callable[[HostState], None]:
    return lambda host: setattr(part(host), name, another(getattr(part(host), name)))


def _tuple(rows: List[Any], position: int) -> None:
    values = list(rows[0])
    values[position] = another(values[position])
    rows[0] = type(rows[0])(*values)


def test_each_field_of_all_that_is_observed_counts() -> None:
    before = fingerprint(state())
    assert before == fingerprint(pickle.loads(pickle.dumps(state())))
    seen = {before}
    for what, change in differing():
        host = state()
        change(host)
        found = fingerprint(host)
        assert found not in seen, what
        seen.add(found)


def test_the_order_of_what_was_dumped_counts() -> None:
    one, other = state(), state()
    other.host.links = dict(reversed(list(other.host.links.items())))
    assert fingerprint(one) != fingerprint(other)


def test_only_plain_values_have_a_fingerprint() -> None:
    host = state()
    host.nics = {"eth0": host.host.links[2]}
    with pytest.raises(ValueError, match="unmarshallable"):
        fingerprint(host)


def message(vlan_id: int, name: str) -> bytes:
    """A link as the kernel describes it: the options of its kind, and the settings of both families."""
    spec = {"kind": "vlan", "name": name, "vlan_id": vlan_id, "protocol": "802.1q", "mtu": 1500, "mac": "02:00:00:00:00:09", "group": 8021,
            "gvrp": False, "mvrp": True, "loose_binding": False, "reorder_headers": True, "ingress_qos_map": {"1": 2}, "egress_qos_map": {}}  # fmt: skip
    created = encode.create_link(spec, name, 2, 8021).body  # type: ignore[arg-type]
    four = encode.attribute(2, encode.attribute(1, struct.pack("=33i", *range(33))))
    timing = encode.attribute(encode.IFLA_INET6_CACHEINFO, bytes(16))
    six = encode.attribute(10, encode.attribute(2, struct.pack("=60i", *range(60))) + timing)
    head = encode.IFINFOMSG.pack(0, 1, 9, 0x1043, 0)
    return head + created[encode.IFINFOMSG.size :] + encode.attribute(26, four + six)


def test_each_bit_that_is_read_of_a_link_counts_and_no_other() -> None:
    """Read by its shape, as all but the first of thousands are."""
    whole = message(10, "eth0.10")

    def seen(data: bytes) -> Optional[Tuple[str, List[Any]]]:
        decode._shapes.clear()
        decode.link(whole, 0, len(whole))
        try:
            one = decode._link(data)
            return fingerprint(HostState(space(HOST, decode.link(data, 0, len(data))))), [
                getattr(one, slot) for slot in Link.__annotations__
            ]
        except (struct.error, AttributeError, KeyError, IndexError, ValueError):  # no kernel sends that
            return None

    before = seen(whole)
    assert before is not None
    counted, end = 0, whole.index(b"eth0.10\0") + 7  # each text of the kernel's ends in a zero
    for bit in (bit for bit in range(8 * len(whole)) if bit // 8 != end):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        after = seen(bytes(data))
        if after is not None:
            assert (after[0] != before[0]) == (after[1] != before[1]), f"bit {bit}"
            counted += after[0] != before[0]
    assert counted > 3500


# --- the memory ----------------------------------------------------------------------------------

ROWS: Dict[str, Any] = {
    "name": "fabric",
    "links": [{"parent": "eth0", "vlan_id": 7, "addresses": ["198.51.100.1/24"]}],
    "networks": [
        {"name": f"n{vlan}", "driver": "macvlan" if vlan % 2 else "ipvlan", "parent": f"eth0.{vlan}", "subnets": [f"10.0.{vlan}.0/24"]}
        for vlan in (10, 11, 12)
    ],
}  # fmt: skip


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    monkeypatch.setattr(os, "geteuid", lambda: 0) if os.geteuid() else None
    return SimulatedHost(str(tmp_path / "state"), monkeypatch, "eth0", "eth1")


def ask(host: SimulatedHost, rows: Dict[str, Any]) -> Tuple[bool, Dict[str, Any]]:
    """A run as a module makes it: whether its answer was remembered, and the answer."""
    run = transact.RunOptions(host.state_dir)
    known = memory.Memory(run, json.dumps(rows))
    remembered = known.recall()
    if remembered is not None:
        return True, {**remembered.result, "warnings": remembered.warnings}
    outcome = converge.converge(model.declare_map(rows), run)
    networks = {key: describe.network(key, spec, outcome.observed) for key, spec in outcome.items["network"].items()}
    links = {key: describe.vlan(key, spec, outcome.observed) for key, spec in outcome.items["vlan"].items()}
    result = {"changed": outcome.changed, "networks": networks, "links": links, "undeclared": outcome.undeclared}
    known.keep(outcome, memory.Answer(result, outcome.warnings))
    return False, {**result, "warnings": outcome.warnings}


def forget(host: SimulatedHost) -> None:
    Path(host.state_dir, memory.FILE).unlink(missing_ok=True)


def _foreign(kernel: SimulatedKernel, names: Dict[str, Link], chance: random.Random) -> None:
    parent = names[chance.choice(["eth0", "eth1"])].index
    kernel.add(HOST, f"f{chance.randrange(10**6)}", kind="macvlan", parent=parent, data={"mode": "bridge"})


def _address(kernel: SimulatedKernel, names: Dict[str, Link], chance: random.Random) -> None:
    there = kernel.observed.host.addresses.setdefault(names[chance.choice(sorted(names))].index, [])
    there.append(Address(names["eth0"].index, f"192.0.2.{chance.randrange(1, 250)}/24", 0, 0, 0))


def _attribute(kernel: SimulatedKernel, names: Dict[str, Link], chance: random.Random) -> None:
    one = names[chance.choice(sorted(set(names) - {"lo"}))]
    name, values = chance.choice(
        [("mtu", [1280, 1400, 1500]), ("up", [True, False]), ("mac", ["02:00:00:00:00:77", "02:00:00:00:00:78"]),
         ("altnames", [(), ("other",)]), ("alias", ["", "somebody's"]), ("conf4", [(0,) * 33, (1,) * 33]), ("noarp", [True, False])]
    )  # fmt: skip
    setattr(one, name, chance.choice(values))


def _nothing(kernel: SimulatedKernel, names: Dict[str, Link], chance: random.Random) -> None:
    pass


@examples(12, 3000)
@given(seed=st.integers(0, 2**32))
def test_answers_are_the_same_with_and_without_a_memory(seed: int) -> None:
    """Whatever strangers do, and whatever is asked in between."""
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(os, "geteuid", lambda: 0)
        found = SimulatedHost(os.path.join(directory, "state"), patch, "eth0", "eth1")
        for _ in range(8):
            rows = copy.deepcopy(ROWS)
            rows["networks"] = rows["networks"][: chance.choice([2, 3, 3, 3])]
            change = chance.choice([_foreign, _address, _attribute, _attribute, _nothing, _nothing])
            change(found.kernel, dict(found.kernel.observed.host.names), chance)
            before = json.dumps(ask_safely(found, rows))
            if '"changed": false' not in before:
                continue
            is_remembered, again = ask(found, rows)
            assert is_remembered and [json.loads(before)[1], True] == [again, is_remembered]
            forget(found)
            assert ask(found, rows) == (False, again)


def ask_safely(host: SimulatedHost, rows: Dict[str, Any]) -> Any:
    try:
        return ask(host, rows)
    except converge.InputError as error:
        return str(error)


def test_another_engine_python_machine_or_address_of_the_controller_is_another_question(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = transact.RunOptions(host.state_dir)
    questions = {
        memory.Memory(run, "{}").question,
        memory.Memory(run, "{} ").question,
        memory.Memory(run, "{}", 1).question,
    }
    questions.add(memory.Memory(dataclasses.replace(run, managed_from=("192.0.2.1",)), "{}").question)
    monkeypatch.setattr(memory, "_code", lambda: [("edited.py", 1, 2)])
    questions.add(memory.Memory(run, "{}").question)
    monkeypatch.setattr(version, "VERSION", "0.0.0")
    questions.add(memory.Memory(run, "{}").question)
    monkeypatch.setattr(memory.sys, "version", "3.0")
    questions.add(memory.Memory(run, "{}").question)
    monkeypatch.setattr(memory.statedir, "machine", lambda: "a clone")
    questions.add(memory.Memory(run, "{}").question)
    assert len(questions) == 8


def test_what_an_endpoint_has_a_part_in_is_looked_up_each_time(host: SimulatedHost) -> None:
    rows = {**ROWS, "endpoints": [{"network": "n10", "name": "a", "netns": "a"}]}
    for _ in range(3):
        assert ask(host, rows)[0] is False


def test_what_an_interrupted_run_left_is_said_once(host: SimulatedHost) -> None:
    for _ in range(3):
        ask(host, ROWS)
    registry = transact.Registry(host.state_dir)
    with registry.lock(1, "eve"):
        registry.begin("eve", "map:fabric", [], 7)
    said = [ask(host, ROWS) for _ in range(3)]
    assert [is_remembered for is_remembered, _answer in said] == [False, False, True]
    assert (
        "had been interrupted" in str(said[0][1]["warnings"]) and said[1][1]["warnings"] == said[2][1]["warnings"] == []
    )


def test_a_registry_that_is_as_it_was_is_not_opened(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose it is, and that nothing is pending in it and no guard armed, was seen when the answer was kept."""
    for _ in range(2):
        ask(host, ROWS)

    def refuse(*_rest: object, **_more: object) -> None:
        raise sqlite3.OperationalError("unable to open")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", refuse)
        assert ask(host, ROWS)[0] is True
    registry = Path(host.state_dir, "registry.db")
    with contextlib.closing(sqlite3.connect(registry)) as database, database:
        database.execute("INSERT INTO meta VALUES ('note', 'by hand')")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", refuse)
        with pytest.raises(errors.RegistryError):
            ask(host, ROWS)
    assert [ask(host, ROWS)[0] for _ in range(2)] == [False, True]
    Path(f"{registry}-journal").write_bytes(b"")  # of a run that was killed
    assert ask(host, ROWS)[0] is False


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: whole[:-1], lambda whole: whole[:65], lambda whole: b"\xff" * (3 << 20),
                                    lambda whole: whole.replace(b"n10", b"n99"), lambda whole: whole.partition(b"\n")[2]])  # fmt: skip
def test_a_damaged_memory_is_none(host: SimulatedHost, damage: Callable[[bytes], bytes]) -> None:
    for _ in range(2):
        ask(host, ROWS)
    file = Path(host.state_dir, memory.FILE)
    assert file.stat().st_mode & 0o777 == 0o600
    known = ask(host, ROWS)
    assert known[0] is True
    file.write_bytes(damage(file.read_bytes()))
    assert ask(host, ROWS) == (False, known[1])
    assert ask(host, ROWS) == known
    file.unlink()
    os.mkfifo(file)
    assert ask(host, ROWS) == (False, known[1])


def test_an_answer_that_is_too_large_is_not_kept(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BYTES", 500)
    for _ in range(3):
        assert ask(host, ROWS)[0] is False
    assert not Path(host.state_dir, memory.FILE).exists()
