# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on a real kernel, each in a network namespace of its own: run them as root in the lab."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.dhcp import Client, Server
from tests.support.engine import Engine
from tests.support.network_host import fresh_host, run, settle


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage need not look at it, and forked processes need not copy it for that."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host of its own for each test."""
    with fresh_host():
        yield


@pytest.fixture
def trunk(host: None) -> str:
    """A base that is up: one end of a cable whose other end is up too."""
    run("ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up")
    settle("far", "trunk")
    return "trunk"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The engine, with a registry of the test's own."""
    return Engine(str(tmp_path / "state"))


@pytest.fixture
def client(engine: Engine, tmp_path: Path, lan: None) -> Iterator[Client]:
    """The DHCP client of the host, on the network ``lan`` that a module of tests makes."""
    with Client(engine.state_dir, tmp_path) as found:
        yield found


@pytest.fixture
def servers(lan: None) -> Iterator[List[Server]]:
    """The DHCP servers that a test started."""
    started: List[Server] = []
    yield started
    for it in started:
        it.stop()
