# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""The service that asks for leases, as systemd runs it, in its sandbox: sent to the host, and there again after a reboot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rack import Host, Rack

from tests.support.machines import play
from tests.support.waiting import until

SERVICE = "  tasks:\n    - name: service\n      netops.underlay.vlan_service: {dhcp: %s}\n"
ENDPOINT = """\
  tasks:
    - name: network
      netops.underlay.vlan_network: {name: blue, driver: macvlan, parent: eth1.20, addressing: dhcp, enable_ipv6: true}
    - name: endpoint
      netops.underlay.vlan_endpoint: {network: blue, name: one, netns: one}
"""


def address(host: Host) -> str:
    return host.ssh("ip -n one -br addr show dev eth0 scope global", check=False).stdout.strip()


@pytest.mark.soak
def test_the_service_asks_and_asks_again_after_a_reboot(rack: Rack, dhcp_server: Callable[[Rack, str], Path]) -> None:
    host, server = rack["h1"], dhcp_server(rack, "h1")
    said = play(rack, SERVICE % "true")["service"]["h1"]
    assert said["changed"] and "_wants_pyroute2" not in said
    assert not play(rack, SERVICE % "true")["service"]["h1"]["changed"]
    assert host.ssh(
        "systemctl is-active netops-underlay-dhcp; systemctl is-enabled netops-underlay-dhcp"
    ).stdout.split() == ["active", "enabled"]
    assert host.ssh("systemd-analyze verify netops-underlay-dhcp.service 2>&1").stdout.strip() == ""
    assert play(rack, ENDPOINT)["endpoint"]["h1"]["changed"]
    found = address(host)
    assert "10.9.0." in found and "2001:db8:20::1" in found, host.ssh("journalctl -u netops-underlay-dhcp").stdout
    assert not play(rack, ENDPOINT)["endpoint"]["h1"]["changed"]
    host.reboot()
    assert until(lambda: address(host) == found), host.ssh("journalctl -b -u netops-underlay-dhcp").stdout
    assert "DHCPDECLINE" not in server.read_text() and "DHCPCONFIRM" in server.read_text()
    assert host.ssh("systemctl show -P NRestarts netops-underlay-dhcp").stdout.strip() == "0"
    assert play(rack, SERVICE % "false")["service"]["h1"]["changed"]
