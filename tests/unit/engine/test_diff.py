# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``--diff`` shows: what was declared, and what changes in the kernel."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.netops.underlay.plugins.module_utils._engine.report import summary

from tests.support.planning import declare, mapped
from tests.support.simulated_kernel import SimulatedKernel

WEB = {"name": "web", "driver": "macvlan", "parent": "eth0.10", "subnets": [{"subnet": "10.0.10.0/24"}]}
HOST: Dict[str, Any] = {
    "networks": [WEB],
    "endpoints": [{"network": "web", "name": "a", "netns": "a"}],
    "links": [{"parent": "eth0", "vlan_id": 20, "addresses": ["10.9.0.1/24"]}],
    "routes": [{"name": "r", "routes": [{"prefix": "10.99.0.0/16", "via": "10.9.0.254"}]}],
}
MADE = """\
netns netns:a
link eth0.20
  kind: vlan
  parent: eth0
  vlan_id: 20
link eth0.10
  kind: vlan
  parent: eth0
  vlan_id: 10
address eth0.20 10.9.0.1/24
link netns:a/eth0
  kind: macvlan
  mac: MAC
  mode: bridge
  parent: eth0.10
address netns:a/eth0 10.0.10.2/24
route netns:a/0.0.0.0/0
  dev: eth0
  via: 10.0.10.1
hosts netns:a
route 10.99.0.0/16
  via: 10.9.0.254
vlan eth0.20
  addresses: 10.9.0.1/24
  owner: map:fabric
  parent: eth0
  vlan_id: 20
network web
  driver: macvlan
  mode: bridge
  owner: map:fabric
  parent: eth0.10
  subnets: gateway=10.0.10.1, subnet=10.0.10.0/24
endpoint web/a
  addresses: 10.0.10.2/24
  interface: eth0
  mac: MAC
  owner: map:fabric
  workload: netns:a
routes r
  owner: map:fabric
  routes: prefix=10.99.0.0/16, via=10.9.0.254
"""


def shown(kernel: SimulatedKernel, **sections: Any) -> Dict[str, str]:
    return summary.diff(declare(kernel, mapped(**sections)).changes)


def test_no_default_that_was_not_written() -> None:
    kernel = SimulatedKernel("eth0")
    found = shown(kernel, **HOST)
    mac = kernel.records["endpoint"]["web/a"].spec["mac"]
    assert (found["before"], found["after"].replace(mac, "MAC")) == ("", MADE)
    found = shown(kernel, **{section: [] for section in HOST}, purge=True)
    assert found["after"] == "" and sorted(found["before"].replace(mac, "MAC").splitlines()) == sorted(
        MADE.splitlines()
    )


def test_what_is_declared_differently_is_shown() -> None:
    kernel = SimulatedKernel("eth0")
    link = {"parent": "eth0", "vlan_id": 20, "gvrp": True, "reorder_headers": False}
    route = {"prefix": "10.99.0.0/16", "metric": 50, "type": "blackhole", "table": 100}
    after = shown(
        kernel, links=[link], networks=[{**WEB, "host_access": True}], routes=[{"name": "r", "routes": [route]}]
    )["after"]
    for text in ("  gvrp: true\n", "  reorder_headers: false\n", "  host_access: true\n", "route 10.99.0.0/16 table 100 metric 50\n",
                 "  routes: metric=50, prefix=10.99.0.0/16, table=100, type=blackhole\n"):  # fmt: skip
        assert text in after, after


def test_a_change_names_both_sides() -> None:
    kernel = SimulatedKernel("eth0")
    declare(kernel, mapped(**HOST))
    kernel.observed.host.names["eth0.20"].data["gvrp"] = True
    found = shown(
        kernel, endpoints=[{"network": "web", "name": "a", "netns": "a", "aliases": ["www"]}], links=HOST["links"]
    )
    assert "  gvrp: true\n" in found["before"] and "  gvrp: false\n" in found["after"]
    assert "hosts netns:a\n  names: as they are\n" in found["before"]
    assert "hosts netns:a\n  names: rewritten\n" in found["after"]
