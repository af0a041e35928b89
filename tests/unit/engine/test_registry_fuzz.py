# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registries that were damaged or edited: whatever is then asked of the host works, or ends in a sentence."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import os
import pickle
import random
import shutil
import sqlite3
import tempfile
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import UnderlayError
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.simulated_host import SimulatedHost
from tests.support.soak import SOAK, some

MAP: Dict[str, Any] = {
    "links": [
        {"parent": "eth0", "vlan_id": 7, "addresses": ["198.51.100.1/24"], "ingress_qos_map": {"1": 2}, "mtu": 1400}
    ],
    "networks": [
        {
            "name": "a", "driver": "macvlan", "parent": "eth0.10", "host_access": True, "labels": {"a": "b"},
            "subnets": [{"subnet": "192.0.2.0/24", "ip_range": "192.0.2.64/26", "aux_addresses": {"x": "192.0.2.9"}}],
        },
        {"name": "b", "driver": "ipvlan", "mode": "l3", "parent": "eth1.20", "subnets": ["10.9.0.0/24", "2001:db8::/64"]},
        {"name": "c", "driver": "ipvlan", "internal": True, "mtu": 1400},
    ],
    "endpoints": [
        {
            "network": "a", "name": "w", "netns": "w", "ingress_rate": "8mbit", "egress_rate": "4mbit", "aliases": ["q"], "hosts": {"z": "192.0.2.1"},
            "dns": ["192.0.2.53"], "dns_search": ["example.com"], "dns_options": ["ndots:2"],
            "routes": [{"prefix": "10.0.0.0/8", "via": "192.0.2.1"}], "sysctls": {"ipv4.forwarding": 1},
        },
        {"network": "b", "name": "w", "netns": "w2", "source_routing": True},
        {"network": "c", "name": "w", "netns": "w2"},
    ],
    "routes": [{"name": "r", "network": "b", "routes": [{"prefix": "10.50.0.0/16", "via": "198.51.100.9"}]}],
}  # fmt: skip
#: What else may stand where something else is expected.
VALUES: List[Any] = [
    None,
    True,
    0,
    -1,
    17,
    2**40,
    1.5,
    "",
    "x",
    "eth0",
    "192.0.2.77",
    "::1/64",
    "\udcff",
    [],
    [None],
    {},
    {"x": []},
]
KINDS = (
    "vlan",
    "network",
    "endpoint",
    "routes",
    "netns",
    "link",
    "address",
    "route",
    "rule",
    "rate",
    "hosts",
    "resolver",
    "nic",
)
FEW = [None, 17, "x", [None], {}]


class Edited(NamedTuple):
    """One thing that a person, or another version, has in a registry."""

    where: str
    edit: Callable[[sqlite3.Connection], object]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedHost]:
    """A host with something of every kind, and a registry that knows what NICs it is on."""
    if os.geteuid() != 0:
        pytest.skip("the engine works as root")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:  # a disk would take most of the time
        found = SimulatedHost(os.path.join(directory, "state"), monkeypatch, "eth0", "eth1")
        found.map(**MAP)
        found.task("network", name="d", driver="macvlan", parent="eth1.30", subnets=["203.0.113.0/24"])
        yield found


def questions(host: SimulatedHost) -> Iterator[Tuple[str, Callable[[], object]]]:
    """Everything that is asked of a host; each of a registry of its own."""
    changed = copy.deepcopy(MAP)
    changed["networks"][0].update(mtu=1300, host_access=False)
    changed["endpoints"][1]["netns"] = "w3"
    yield "check", lambda: host.map(check=True, **changed)
    yield "run", lambda: host.map(**changed)
    yield "purge", lambda: host.map(purge=True, **{**MAP, "endpoints": []})
    yield "absent", lambda: host.task("network", "absent", name="d", driver="macvlan")
    for command in ("drift", "show", "plan", "restore", "restore --boot", "plan 1", "undo 2", "undo 1", "confirm 1",
                    "hold network:a", "rehost same", "rehost clone"):  # fmt: skip
        yield command, lambda: host.command(*command.split())  # noqa: B023


class Asker:
    """Asks everything of a host whose registry was edited, and keeps what was no answer."""

    def __init__(self, host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
        self.host = host
        self.capsys = capsys
        self.state = Path(host.state_dir)
        self.whole = self.state.with_name("whole")
        shutil.copytree(self.state, self.whole)
        self.kernel = pickle.dumps(host.kernel)
        self.wrong: List[str] = []
        self.told: Dict[str, str] = {}  # where -> the last refusal

    def ask(self, where: str, edit: Callable[[Path], object]) -> None:
        registry = self.state / "registry.db"
        shutil.copy(self.whole / "registry.db", registry)
        edit(registry)
        data = registry.read_bytes()
        for name, question in questions(self.host):
            registry.write_bytes(data)
            registry.with_name("registry.db-journal").unlink(missing_ok=True)
            self.host.kernel = pickle.loads(self.kernel)
            try:
                question()
            except UnderlayError as error:
                self.told[where] = str(error)
                if not str(error).strip():
                    self.wrong.append(f"{where}: {name}: says nothing")
            except Exception as error:  # whatever it is, it is no answer
                self.wrong.append(f"{where}: {name}: {error!r}")
        self.capsys.readouterr()

    def edit(self, edited: Edited) -> None:
        def carry_out(path: Path) -> None:
            with (
                contextlib.closing(sqlite3.connect(path)) as database,
                database,
                contextlib.suppress(sqlite3.IntegrityError),
            ):
                edited.edit(database)

        self.ask(edited.where, carry_out)


@pytest.fixture
def asker(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> Asker:
    return Asker(host, capsys)


# --- what is edited ------------------------------------------------------------------------------


def variants(value: Any, values: Sequence[Any] = VALUES) -> Iterator[Tuple[str, Any]]:
    """A JSON value with one place of it otherwise, and where."""
    for other in values:
        if other != value or type(other) is not type(value):
            yield f" = {other!r}", other
    if isinstance(value, dict):
        yield " + more", {**value, "more": 1}
        for key in value:
            yield f" - {key}", {other: item for other, item in value.items() if other != key}
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in parts:
        for where, changed in variants(item, values):
            copied = copy.copy(value)
            copied[key] = changed
            yield f".{key}{where}", copied


def _objects(registry: Registry, kind: str) -> Iterator[Edited]:
    for key, record in registry.load()[kind].items():
        for where, spec in variants(record.spec):
            row = (json.dumps(spec), kind, key)
            yield Edited(
                f"{kind} {key}{where}",
                lambda database, row=row: database.execute(
                    "UPDATE objects SET spec = ? WHERE kind = ? AND key = ?", row
                ),
            )
        for column, value in itertools.product(
            ("kind", "key", "of", "spec"), ("x", "", "{", 7, None, b"\xff", "network:x", "a\nb")
        ):
            yield Edited(
                f"{kind} {key} {column} = {value!r}",
                lambda database, row=(value, kind, key), column=column: database.execute(
                    f"UPDATE objects SET {column} = ? WHERE kind = ? AND key = ?", row
                ),
            )
        yield Edited(
            f"{kind} {key} is missing",
            lambda database, row=(kind, key): database.execute("DELETE FROM objects WHERE kind = ? AND key = ?", row),
        )


def _plans(registry: Registry) -> Iterator[Edited]:
    for transaction in registry.transactions():
        rows = json.loads(zlib.decompress(transaction.plan))
        for position in {row[0]: position for position, row in enumerate(rows)}.values():  # one of each kind
            row = rows[position]
            for where, changed in variants(row, FEW):
                for state in ("pending", "applied"):
                    yield Edited(
                        f"transaction {transaction.number}, {state}: {row[0]} {row[1]}{where}",
                        functools.partial(
                            _write_plan, [*rows[:position], changed, *rows[position + 1 :]], state, transaction.number
                        ),
                    )


def _write_plan(rows: List[Any], state: str, number: int, database: sqlite3.Connection) -> None:
    plan = zlib.compress(json.dumps(rows).encode())
    database.execute("UPDATE transactions SET plan = ?, state = ? WHERE number = ?", (plan, state, number))


def _rest(registry: Registry) -> Iterator[Edited]:
    for column, value in itertools.product(
        ("state", "time", "who", "owner", "link_group", "plan"),
        ("x", "", None, 7, -1, 1.5, b"\xff", "pending", "unconfirmed"),
    ):
        yield Edited(
            f"transactions.{column} = {value!r}",
            lambda database, value=value, column=column: database.execute(
                f"UPDATE transactions SET {column} = ?", (value,)
            ),
        )
    for name, value in itertools.product(
        ("seed", "boot", "guard"),
        ("x", "", None, 7, b"\xff", "[]", "{}", '[1, "x", 1.5]', '["1", "x", 1.5]', '[99, "x", null]', "[" * 99999),
    ):
        yield Edited(
            f"meta {name} = {value!r:.40}",
            lambda database, row=(name, value): database.execute("REPLACE INTO meta VALUES (?, ?)", row),
        )
    for version in (-1, 0, 2, 99):
        yield Edited(
            f"version {version}", lambda database, version=version: database.execute(f"PRAGMA user_version = {version}")
        )
    for table in ("objects", "transactions", "meta"):
        yield Edited(f"no {table}", lambda database, table=table: database.execute(f"DROP TABLE {table}"))
        yield Edited(f"empty {table}", lambda database, table=table: database.execute(f"DELETE FROM {table}"))


@pytest.mark.parametrize("what", [*KINDS, "transactions", "rest"])
def test_an_edited_registry_is_reported_or_used(host: SimulatedHost, asker: Asker, what: str) -> None:
    registry = Registry(host.state_dir)
    made = {"transactions": _plans, "rest": _rest}.get(what)
    for edited in some(list(made(registry) if made else _objects(registry, what)), 911):
        asker.edit(edited)
    assert not asker.wrong, f"{len(asker.wrong)}: " + "\n".join(asker.wrong[:40])


def test_a_damaged_registry_is_reported_or_used(host: SimulatedHost, asker: Asker) -> None:
    """Truncated, bytes changed, pages swapped."""
    chance = random.Random(None if SOAK else 17)
    whole = Path(host.state_dir, "registry.db").read_bytes()

    def damage(path: Path) -> None:
        data = bytearray(whole)
        kind, at = chance.randrange(3), chance.randrange(len(data))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            size = chance.choice((1, 4, 100))
            data[at : at + size] = chance.randbytes(size)
        else:
            one, other = (chance.randrange(len(data) // 4096) * 4096 for _ in range(2))
            data[one : one + 4096], data[other : other + 4096] = data[other : other + 4096], data[one : one + 4096]
        path.write_bytes(data)

    for number in range(1000 if SOAK else 10):
        asker.ask(f"damage {number}", damage)
    assert not asker.wrong, "\n".join(asker.wrong[:40])
    assert asker.told


def test_it_says_which_row_and_how_to_go_on(host: SimulatedHost) -> None:
    with contextlib.closing(sqlite3.connect(Path(host.state_dir, "registry.db"))) as database, database:
        row = database.execute("SELECT spec FROM objects WHERE kind = 'network' AND key = 'a'").fetchone()
        spec = json.loads(row[0])
        spec["subnets"][0]["gateway"] = 17
        database.execute("UPDATE objects SET spec = ? WHERE kind = 'network' AND key = 'a'", (json.dumps(spec),))
    with pytest.raises(UnderlayError) as caught:
        host.map(check=True, **MAP)
    assert "network a: subnets[0].gateway is 17, not a text" in str(caught.value)
    assert "put back what was changed there, or move registry.db aside" in str(caught.value)


def test_a_restore_brings_back_what_can_be_used(host: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    """One record that cannot be used keeps no other network down."""
    with contextlib.closing(sqlite3.connect(Path(host.state_dir, "registry.db"))) as database, database:
        database.execute("UPDATE objects SET spec = '{}' WHERE kind = 'link' AND key = 'eth1.30'")
    host.reboot()
    assert host.command("restore", "--boot") == 3
    out = capsys.readouterr().out
    assert "left: link eth1.30: its record cannot be used: kind is missing" in out, out
    assert "eth0.10" in host.kernel.observed.host.names
