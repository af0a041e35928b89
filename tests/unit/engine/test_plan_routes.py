# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning sets of routes on a simulated kernel: what tests/kernel/test_routes.py cannot have, or need not."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Address

from tests.support.planning import declare, mapped, refusal, task
from tests.support.simulated_kernel import SimulatedKernel


def test_no_route_takes_the_path_of_the_controller() -> None:
    kernel = SimulatedKernel("eth0")
    eth0 = kernel.observed.host.names["eth0"]
    kernel.observed.host.addresses[eth0.index] = [Address(eth0.index, "192.0.2.1/24", 0, 0, 0)]
    kernel.observed.controllers = ("10.1.2.3", "2001:db8:1::9")
    rows = [
        {"prefix": prefix, "type": "unreachable"}
        for prefix in ("10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48", "10.1.2.3/32")
    ]
    refused = refusal(kernel, mapped(routes=[{"name": "fabric", "routes": rows}]))
    assert refused == [
        f"routes[0].routes[{position}].prefix: {prefix} holds {peer}, from which this host is managed; "
        "give a prefix without it: the connection would be cut"
        for position, prefix, peer in (
            (0, "10.1.0.0/16", "10.1.2.3"),
            (2, "2001:db8:1::/48", "2001:db8:1::9"),
            (3, "10.1.2.3/32", "10.1.2.3"),
        )
    ]
    network = {"name": "n", "driver": "ipvlan", "mode": "l3", "parent": "eth0", "subnets": [{"subnet": "10.1.2.0/24"}]}
    refused = refusal(kernel, mapped(networks=[network], routes=[{"name": "fabric", "network": "n"}]))
    assert refused == [
        "routes[0].network: 10.1.2.0/24 holds 10.1.2.3, from which this host is managed; "
        "give a prefix without it: the connection would be cut"
    ]


def test_unused_addresses_follow_their_network() -> None:
    kernel = SimulatedKernel("eth0")

    def network(*subnets: str) -> Dict[str, Any]:
        return {
            "name": "n",
            "driver": "ipvlan",
            "mode": "l3",
            "parent": "eth0.5",
            "subnets": [{"subnet": subnet} for subnet in subnets],
        }

    declare(kernel, task("network", **network("10.1.2.0/24")))
    declare(kernel, task("routes", name="n", network="n"))

    def there() -> List[str]:
        return sorted(route.prefix for route in kernel.observed.host.routes if route.type == "unreachable")

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
    assert kernel.observed.host.routes == [] and not kernel.records["route"]
    assert refusal(kernel, task("routes", name="n", network="m")) == [
        "network: m is not an L3 network of this host; give a network with mode: l3 or l3s, or leave it out"
    ]


def test_a_route_over_what_the_same_map_makes() -> None:
    kernel = SimulatedKernel("eth0")
    sections = {
        "trunks": {"uplink": "eth0"},
        "links": [{"parent": "uplink", "vlan_id": 7, "addresses": ["192.0.2.1/24"]}],
        "routes": [{"name": "fabric", "routes": [{"prefix": "10.1.0.0/16", "via": "192.0.2.9", "dev": "uplink.7"}]}],
    }
    declare(kernel, mapped(**sections))
    connected, route = kernel.observed.host.routes
    assert (connected.prefix, connected.oif) == ("192.0.2.0/24", route.oif)
    assert (route.via, kernel.observed.host.links[route.oif].name) == ("192.0.2.9", "eth0.7")
    assert declare(kernel, mapped(**sections)).changes == []


def test_a_sub_interface_of_a_logical_trunk_is_called_after_its_nic() -> None:
    kernel = SimulatedKernel("eth0")
    sections = {
        "trunks": {"uplink": "eth0"},
        "purge": True,
        "links": [{"parent": "uplink", "vlan_id": 7, "addresses": ["192.0.2.1/24"]}],
        "networks": [
            {
                "name": "n",
                "driver": "ipvlan",
                "mode": "l3",
                "parent": "uplink.7",
                "subnets": [{"subnet": "10.1.2.0/24"}],
            }
        ],
    }
    assert declare(kernel, mapped(**sections)).warnings == []
    assert set(kernel.observed.host.names) == {"lo", "eth0", "eth0.7"}
    assert declare(kernel, mapped(**sections)).changes == []


def test_a_route_that_was_changed_by_hand_to_what_is_then_asked() -> None:
    """Only the record follows, and what the kernel is sent is a whole route all the same."""
    kernel = SimulatedKernel("eth0")
    eth0 = kernel.observed.host.names["eth0"]
    kernel.observed.host.addresses[eth0.index] = [Address(eth0.index, "192.0.2.1/24", 0, 0, 0)]

    def asked(via: str) -> Dict[str, Any]:
        return {"name": "fabric", "routes": [{"prefix": "10.1.0.0/16", "via": via}]}

    declare(kernel, task("routes", **asked("192.0.2.8")))
    (route,) = kernel.observed.host.routes
    kernel.observed.host.routes[0] = route._replace(via="192.0.2.9")
    declare(kernel, task("routes", **asked("192.0.2.9")))
    (record,) = kernel.records["route"].values()
    assert record.spec["via"] == kernel.observed.host.routes[0].via == "192.0.2.9"
    assert not declare(kernel, task("routes", **asked("192.0.2.9"))).changes
