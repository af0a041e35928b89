# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole modules on a host of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.module_tasks import Server, Tasks, served
from tests.support.network_host import HAS_IPV6, run, settle


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Tests of a kernel without IPv6 are for such a kernel alone."""
    elsewhere = [item for item in items if HAS_IPV6 and "without_ipv6" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


@pytest.fixture
def without_ipv6() -> None:
    """What a test on a kernel without IPv6 asks for."""
    assert not HAS_IPV6


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with served() as found:
        yield found


@pytest.fixture
def trunk(host: None) -> str:
    """A base that is up and settles at once, with a host's own address on it."""
    if HAS_IPV6:
        run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0")
    run(
        "ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up; ip address add 203.0.113.10/24 dev trunk"
    )
    settle("far", "trunk")
    return "trunk"


@pytest.fixture
def tasks(trunk: str, server: Server, tmp_path: Path) -> Tasks:
    return Tasks(server, str(tmp_path / "state"))
