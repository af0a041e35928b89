# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on a real kernel, each in a network namespace of its own: run them as root in the lab."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.engine import Engine
from tests.support.network_host import fresh_host, run


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
    return "trunk"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The engine, with a registry of the test's own."""
    return Engine(str(tmp_path / "state"))
