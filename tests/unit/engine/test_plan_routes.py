# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning sets of routes on a paper kernel: what tests/kernel/test_routes.py cannot have, or need not."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.netops.underlay.plugins.module_utils._engine.world import Address
from paper_kernel import PaperKernel
from test_plan import declare, mapped, refusal, task


def test_no_route_takes_the_path_of_the_controller() -> None:
    kernel = PaperKernel("eth0")
    eth0 = kernel.world.host.names["eth0"]
    kernel.world.host.addresses[eth0.index] = [Address(eth0.index, "192.0.2.1/24", 0, 0, 0)]
    kernel.world.controllers = ("10.1.2.3", "2001:db8:1::9")
    rows = [{"prefix": prefix, "type": "unreachable"} for prefix in ("10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48", "10.1.2.3/32")]
    told = refusal(kernel, mapped(routes=[{"name": "fabric", "routes": rows}]))
    assert told == [
        f"routes[0].routes[{position}].prefix: {prefix} holds {peer}, from where this host is managed; "
        "give a prefix without it: the connection would be cut"
        for position, prefix, peer in ((0, "10.1.0.0/16", "10.1.2.3"), (2, "2001:db8:1::/48", "2001:db8:1::9"), (3, "10.1.2.3/32", "10.1.2.3"))
    ]
    network = {"name": "n", "driver": "ipvlan", "mode": "l3", "parent": "eth0", "subnets": [{"subnet": "10.1.2.0/24"}]}
    told = refusal(kernel, mapped(networks=[network], routes=[{"name": "fabric", "network": "n"}]))
    assert told == [
        "routes[0].network: 10.1.2.0/24 holds 10.1.2.3, from where this host is managed; "
        "give a prefix without it: the connection would be cut"
    ]


def test_unused_addresses_follow_their_network() -> None:
    kernel = PaperKernel("eth0")

    def network(*subnets: str) -> Dict[str, Any]:
        return {"name": "n", "driver": "ipvlan", "mode": "l3", "parent": "eth0.5", "subnets": [{"subnet": subnet} for subnet in subnets]}

    declare(kernel, task("network", **network("10.1.2.0/24")))
    declare(kernel, task("routes", name="n", network="n"))

    def there() -> List[str]:
        return sorted(route.prefix for route in kernel.world.host.routes if route.type == "unreachable")

    assert there() == ["10.1.2.0/24"]
    declare(kernel, task("network", **network("10.1.2.0/24", "fd00:7::/64")))
    assert there() == ["10.1.2.0/24", "fd00:7::/64"]
    declare(kernel, task("network", **network("fd00:7::/64", "10.1.3.0/24")))
    assert there() == ["10.1.3.0/24", "fd00:7::/64"]
    declare(kernel, task("routes", name="n", routes=[{"prefix": "10.9.0.0/16", "type": "blackhole"}]))
    assert there() == ["10.1.3.0/24", "fd00:7::/64"]
    declare(kernel, task("network", "absent", name="n"))
    assert there() == []
    declare(kernel, task("network", **network("10.1.2.0/24")))
    assert there() == ["10.1.2.0/24"]
    assert declare(kernel, task("routes", name="n", network="n")).changes == []
    declare(kernel, task("routes", "absent", name="n"))
    assert kernel.world.host.routes == [] and not kernel.records["route"]
    assert refusal(kernel, task("routes", name="n", network="m")) == [
        "network: m is no L3 network of this host; give a network with mode: l3 or l3s, or leave it out"
    ]


def test_a_route_over_what_the_same_map_makes() -> None:
    kernel = PaperKernel("eth0")
    sections = {
        "trunks": {"uplink": "eth0"},
        "links": [{"parent": "uplink", "vlan_id": 7, "addresses": ["192.0.2.1/24"]}],
        "routes": [{"name": "fabric", "routes": [{"prefix": "10.1.0.0/16", "via": "192.0.2.9", "dev": "uplink.7"}]}],
    }
    declare(kernel, mapped(**sections))
    (route,) = kernel.world.host.routes
    assert (route.via, kernel.world.host.links[route.oif].name) == ("192.0.2.9", "eth0.7")
    assert declare(kernel, mapped(**sections)).changes == []


def test_a_sub_interface_of_a_logical_trunk_is_called_after_its_nic() -> None:
    kernel = PaperKernel("eth0")
    sections = {
        "trunks": {"uplink": "eth0"},
        "purge": True,
        "links": [{"parent": "uplink", "vlan_id": 7, "addresses": ["192.0.2.1/24"]}],
        "networks": [{"name": "n", "driver": "ipvlan", "mode": "l3", "parent": "uplink.7", "subnets": [{"subnet": "10.1.2.0/24"}]}],
    }
    assert declare(kernel, mapped(**sections)).warnings == []
    assert set(kernel.world.host.names) == {"lo", "eth0", "eth0.7"}
    assert declare(kernel, mapped(**sections)).changes == []
