# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of records that the registry keeps: the shape of each, and what an older registry lacks of it.

``validate`` makes its checks of these types, also of what their annotations say beyond a Python type.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Mapping, Union, get_args

from .endpoint_specs import BlockSpec, EndpointSpec, NetnsSpec, ProcessSpec
from .formats import Format, MacvlanMode, matching
from .link_specs import (
    AddressSpec,
    DummyLinkSpec,
    IpvlanLinkSpec,
    MacvlanLinkSpec,
    MacvtapLinkSpec,
    NicSpec,
    RateSpec,
    VlanLinkSpec,
    VlanSpec,
)
from .network_specs import NetworkSpec
from .route_specs import RouteSpec, RoutesSpec, RuleSpec

#: The item that an object belongs to, or what it is shared by.
Of = Annotated[
    str,
    matching("an item", r"parent|netns|nic|process|(vlan|network|endpoint|routes|workload):[^\x00-\x1f\ud800-\udfff]+"),
]

_MACVLAN_MODES = get_args(MacvlanMode)


def _own_mode(network: NetworkSpec) -> None:
    macvlan = network["driver"] == "macvlan"
    if (network["mode"] in _MACVLAN_MODES) != macvlan or (network["flag"] is None) != macvlan:
        raise ValueError


#: Kind of record -> its spec, complete.
RECORDS: Mapping[str, Any] = {
    "vlan": VlanSpec,
    "network": Annotated[NetworkSpec, Format("a driver with a mode and a flag of its own", _own_mode)],
    "endpoint": EndpointSpec,
    "routes": RoutesSpec,
    "netns": NetnsSpec,
    "link": Union[VlanLinkSpec, MacvlanLinkSpec, IpvlanLinkSpec, MacvtapLinkSpec, DummyLinkSpec],
    "address": AddressSpec,
    "route": RouteSpec,
    "rule": RuleSpec,
    "rate": RateSpec,
    "hosts": BlockSpec,
    "resolver": BlockSpec,
    "nic": NicSpec,
    "process": ProcessSpec,
}

#: What the items of an older registry lack: the options that came later, each with what there was before.
LATER: Mapping[str, Mapping[str, Any]] = {
    "network": {"source_routing": False, "nopromisc": False, "spoof_check": False, "dns": [], "dns_search": [], "dns_options": [],
                "addressing": "pool"},
    "endpoint": {
        "ipv4_addresses": [], "ipv6_addresses": [], "allowed_addresses": [], "source_routing": None, "routing_table": None,
        "source_macs": [], "kind": "link", "tap_owner": None, "tap_group": None, "tap_mode": None,
        "ingress_rate": None, "ingress_burst": None, "egress_rate": None, "egress_burst": None,
        "dns": None, "dns_search": None, "dns_options": None, "vlans": [], "dhcp": False, "dhcp_client_id": None, "dhcp_hostname": None,
        "dhcp6": False,
    },
}  # fmt: skip


def complete(kind: str, spec: Any) -> Any:
    """A recorded spec with the options that came after it was written."""
    if kind not in LATER or not isinstance(spec, dict):
        return spec
    lacking = {option: value for option, value in LATER[kind].items() if option not in spec}
    return {**spec, **copy.deepcopy(lacking)} if lacking else spec
