# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays against hosts that are whole machines: tests/lab/run --rack -- python -m pytest tests/machines"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rack import KERNEL, Host, Rack

from tests.support.machines import prepare

collect_ignore = [] if KERNEL.is_dir() else ["test_reboot.py", "test_guard.py", "test_rollout.py"]


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One prepared host, where a module does not boot others."""
    with Rack([Host("h1")]) as rack:
        prepare(rack)
        yield rack


@pytest.fixture
def dhcp_server(tmp_path: Path) -> Iterator[Callable[[Rack, str], Path]]:
    """Has dnsmasq answer on VLAN 20 of a host's eth1, for both IP versions; where it says what it does."""
    with contextlib.ExitStack() as stack:

        def start(rack: Rack, name: str) -> Path:
            rack.switch.vlans(name, "eth1", {20})
            rack.switch.add_tap("lan20", untagged=20)
            there = "ip address add 10.9.0.1/24 dev lan20; ip link set lan20 up; ip address add 2001:db8:20::1/64 dev lan20 nodad"
            subprocess.run(there, shell=True, check=True)
            log = stack.enter_context(open(tmp_path / "dnsmasq.log", "wb"))
            command = [
                "dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null", "--interface=lan20", "--bind-interfaces", "--user=root",
                "--log-dhcp", "--no-ping", f"--dhcp-leasefile={tmp_path}/leases", "--dhcp-range=10.9.0.100,10.9.0.199,255.255.255.0,600",
                "--dhcp-authoritative", "--dhcp-range=2001:db8:20::100,2001:db8:20::1ff,64,600", "--enable-ra",
            ]  # fmt: skip
            stack.callback(stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log)).kill)
            return tmp_path / "dnsmasq.log"

        yield start
