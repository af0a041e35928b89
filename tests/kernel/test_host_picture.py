# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests compare of a host has all that a task may change: else "nothing changed" would say little."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.support.module_tasks import changes, everything
from tests.support.network_host import HAS_IPV6, link, needs_ipv6, run
from tests.support.waiting import until

CHANGES = [
    "ip link set {} mtu 1400", "ip link set {} alias x", "ip link set {} group 5", "ip link set {} txqueuelen 7", "ip link set {} address 02:00:00:00:00:07",
    "ip link property add dev {} altname other", "ip link set {} promisc on", "ip link add dummy type dummy",
    "ip link add link {} name {}.5 type vlan id 5", "ip link set {}.5 type vlan loose_binding on", "ip link set {} down",
    "ip addr add 192.0.2.1/24 dev {}", "ip addr change 192.0.2.1/24 dev {} proto 9", "ip route add unreachable 10.7.0.0/16", "ip link set {} up",
    "ip route change unreachable 10.7.0.0/16 realm 3", "ip route add 10.8.0.0/16 via 192.0.2.2 table 7", "ip rule add from 10.9.0.0/16 table 7",
    "ip netns add space", "ip -n space link set lo up", "ip -n space link add dummy type dummy", "ip -n space rule add from 10.9.0.0/16 table 7",
]  # fmt: skip
if HAS_IPV6:
    CHANGES += ["ip link set {} addrgenmode none", "ip addr add 2001:db8::1/64 dev {} nodad"]
    CHANGES += ["ip -6 route add unreachable fd07::/64", "ip -6 rule add from fd09::/64 table 7"]


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def test_every_change_is_seen(trunk: str, state_dir: str) -> None:
    for command in CHANGES:
        before = everything(state_dir)
        run(command.replace("{}", trunk))
        assert changes(before, everything(state_dir)), command


@pytest.mark.parametrize("family", ["ipv4", *(["ipv6"] if HAS_IPV6 else [])])
def test_every_sysctl_of_a_link_is_seen(trunk: str, state_dir: str, family: str) -> None:
    tried, unseen = 0, []
    for path in sorted(Path(f"/proc/sys/net/{family}/conf/{trunk}").iterdir()):
        with contextlib.suppress(OSError, ValueError):  # a secret that is not set
            old = path.read_text(encoding="ascii")
            for number in (int(old) + 1, 0, int(old) - 1):
                before = everything(state_dir)
                with contextlib.suppress(OSError):
                    path.write_text(str(number), encoding="ascii")
                if path.read_text(encoding="ascii") != old:
                    tried += 1
                    unseen += [] if changes(before, everything(state_dir)) else [path.name]
                    break
    assert tried > 20 and unseen == []


def test_a_carrier_that_goes_is_no_change(trunk: str, state_dir: str) -> None:
    run(
        f"ip addr add 192.0.2.1/24 dev {trunk}; ip route add 10.8.0.0/16 via 192.0.2.2; ip netns add away; ip link set far netns away"
    )
    run("ip -n away link set far up")
    assert until(lambda: link(trunk)["operstate"] == "UP")
    before = everything(state_dir)["namespace "]
    run("ip -n away link set far down")
    assert until(lambda: link(trunk)["operstate"] != "UP")
    assert changes(before, everything(state_dir)["namespace "]) == []


@needs_ipv6
def test_an_address_that_settles_is_no_change(trunk: str, state_dir: str) -> None:
    run(f"ip addr add 2001:db8::1/64 dev {trunk}")
    assert "tentative" in run(f"ip addr show dev {trunk}")
    before = everything(state_dir)
    assert until(lambda: "tentative" not in run("ip addr show"))
    assert changes(before, everything(state_dir)) == []
