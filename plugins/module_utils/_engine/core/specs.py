# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of every spec, and what is asked of one again and again.

A spec is a flat dict of JSON values, so it can be stored, compared and sent as it is. An item's spec is what a user
declared, with every default filled in; an object's spec is what the kernel must have. In a change, ``before`` and
``after`` of an update name the identity and what differs, so there any key may be missing.

``validate`` makes its checks of these types, also of what their annotations say beyond a Python type.
"""

from __future__ import annotations

import copy
from typing import (
    Annotated,
    Any,
    Dict,
    Iterator,
    List,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypedDict,
    Union,
    get_args,
)

from .formats import (
    S32,
    TAP_DIRECTORY,
    U32,
    Account,
    AddressPart,
    AddressParts,
    AnyRouteType,
    Digits,
    EndpointKind,
    FileMode,
    Flag,
    Format,
    Interface,
    Ip,
    Ip4,
    Ip6,
    IpvlanMode,
    Isolation,
    KernelName,
    LinkName,
    Mac,
    MacvlanMode,
    Name,
    Netns,
    NodePath,
    Protocol,
    RouteType,
    Subnet,
    SysctlName,
    Text,
    VlanId,
    When,
    Workload,
    between,
    matching,
)

#: A spec of which each option is treated alike, whatever it is called: to compare, to show, to store.
Generic = Mapping[str, Any]

MAIN_TABLE = 254  # RT_TABLE_MAIN
#: Metric of an IPv6 route that was given none, or 0 (IP6_RT_PRIO_USER).
IPV6_METRIC = 1024


_MACVLAN_MODES = get_args(MacvlanMode)


def _asked(row: List[str]) -> None:
    if len(row) != 3 or row[1] not in ("name", "mac", "pci", "altname"):
        raise ValueError


def _own_table(route: Generic) -> None:
    if (route["table"] is None) == (route["vrf"] is None):
        raise ValueError


def _own_mode(network: Generic) -> None:
    macvlan = network["driver"] == "macvlan"
    if (network["mode"] in _MACVLAN_MODES) != macvlan or (network["flag"] is None) != macvlan:
        raise ValueError


# --- items: what users declare -------------------------------------------------------------------


class _VlanOptions(TypedDict):
    """What a sub-interface is, as declared and as the kernel has it."""

    vlan_id: VlanId
    protocol: Protocol
    gvrp: bool
    mvrp: bool
    loose_binding: bool
    reorder_headers: bool


class _QosMaps(TypedDict, total=False):
    ingress_qos_map: Dict[Digits, U32]
    egress_qos_map: Dict[Digits, U32]


class _Vlan(_VlanOptions):
    name: LinkName
    parent: LinkName
    bring_up_parent: bool
    owner: Text


class VlanSpec(_Vlan, _QosMaps, total=False):
    """A declared 802.1q or 802.1ad sub-interface."""

    mtu: Optional[U32]  # None: the parent's
    addresses: Optional[List[Interface]]  # the host's own


class _Subnet(TypedDict):
    subnet: Subnet
    gateway: Optional[Ip]
    ip_range: Optional[AddressParts]
    aux_addresses: Dict[Name, AddressPart]


class SubnetSpec(_Subnet, total=False):
    """One subnet of a network."""

    auto: bool  # picked, not given


class NetworkSpec(TypedDict):
    """A network: driver, mode, parent and subnets."""

    name: Name
    driver: Literal["macvlan", "ipvlan"]
    mode: Union[MacvlanMode, IpvlanMode]
    flag: Optional[Flag]  # ipvlan only
    parent: Optional[LinkName]  # None: a dummy of its own
    internal: bool
    subnets: List[SubnetSpec]
    enable_ipv4: bool
    enable_ipv6: bool
    mtu: Optional[U32]
    share_parent: bool
    bring_up_parent: bool
    host_access: Union[bool, List[Ip]]
    host_addresses: List[Interface]  # the host's own in the network
    probe: bool
    source_routing: bool
    recreate: bool
    bcqueuelen: Optional[U32]
    bclim: Optional[S32]
    nopromisc: bool  # passthru only
    labels: Dict[Text, Text]
    owner: Text


class _EndpointRoute(TypedDict):
    prefix: Subnet


class EndpointRouteSpec(_EndpointRoute, total=False):
    """A route of an endpoint, over its link."""

    via: Ip
    metric: U32
    table: U32


class DefaultRoute(TypedDict):
    """When an endpoint gives its workload a default route, for each IP version."""

    ipv4: When
    ipv6: When


class EndpointSpec(TypedDict):
    """One macvlan or ipvlan link inside a workload."""

    network: Name
    name: Name
    workload: Workload
    interface: Optional[KernelName]
    ipv4_address: Optional[Ip4]
    ipv6_address: Optional[Ip6]
    ipv4_addresses: List[Ip4]  # more of its own
    ipv6_addresses: List[Ip6]
    allowed_addresses: List[Ip]  # which its workload may take, as may others
    subnet: Optional[Subnet]
    mac_address: Optional[Mac]  # as asked for
    mtu: Optional[U32]
    aliases: List[Name]
    hosts: Dict[Name, Ip]
    gw_priority: S32
    default_route: DefaultRoute
    routes: List[EndpointRouteSpec]
    source_routing: Optional[bool]  # None: as its network has it
    sysctls: Dict[SysctlName, Optional[S32]]  # None, in a change: not asked for any more
    accept_ra: bool
    probe: bool
    addresses: List[Interface]  # as assigned
    mac: Optional[Mac]  # as assigned
    routing_table: Optional[U32]  # as assigned, where it has source routing
    source_macs: List[Mac]  # sorted; of a source network only
    kind: EndpointKind
    tap_owner: Optional[Account]
    tap_group: Optional[Account]
    tap_mode: Optional[FileMode]
    owner: Text


class RouteRow(TypedDict):
    """One route of a set."""

    prefix: Subnet
    type: RouteType
    via: Optional[Ip]
    dev: Optional[LinkName]
    metric: U32
    table: Optional[U32]  # None: that of ``vrf``
    vrf: Optional[LinkName]


class RoutesSpec(TypedDict):
    """A named set of routes."""

    name: Name
    network: Optional[Name]
    routes: List[Annotated[RouteRow, Format("a route with a table or a VRF", _own_table)]]
    owner: Text


class RemovedRoute(TypedDict):
    """What identifies a route to remove from a set; None matches any value."""

    prefix: Subnet
    metric: Optional[U32]
    table: Optional[U32]
    vrf: Optional[LinkName]


class RoutesRequest(TypedDict):
    """What a task asks of a set of routes: exactly these, these too (not ``exact``), or none of these (``absent``)."""

    name: Name
    network: Optional[Name]
    exact: bool
    absent: bool
    routes: Sequence[Union[RouteRow, RemovedRoute]]


class Items(TypedDict):
    """The items of a host, by kind and key."""

    vlan: Dict[str, VlanSpec]
    network: Dict[str, NetworkSpec]
    endpoint: Dict[str, EndpointSpec]
    routes: Dict[str, RoutesSpec]


# --- objects: what the kernel has ----------------------------------------------------------------


class _Link(TypedDict):
    netns: Netns
    name: KernelName
    up: bool
    group: U32


class _LinkOptions(TypedDict, total=False):
    mtu: Optional[U32]  # None: the parent's, down and up
    mac: Mac
    altnames: List[LinkName]
    isolation: Optional[Isolation]


class _Sysctls(TypedDict):
    sysctls: Dict[SysctlName, Optional[S32]]  # None: the host's default


class _MoreSysctls(TypedDict, total=False):
    sysctls: Dict[SysctlName, Optional[S32]]  # what its profile replaced, after an undo


class _PortOptions(_LinkOptions, total=False):
    bcqueuelen: U32
    bclim: S32


class _MacvlanOptions(_PortOptions, total=False):
    source_macs: List[Mac]
    nopromisc: bool


class NodeSpec(TypedDict):
    """The device node of a tap."""

    path: NodePath
    uid: U32
    gid: U32
    mode: FileMode


class VlanLinkSpec(_Link, _VlanOptions, _LinkOptions, _MoreSysctls, _QosMaps):
    """A sub-interface of ours."""

    kind: Literal["vlan"]
    parent: LinkName


class MacvlanLinkSpec(_Link, _Sysctls, _MacvlanOptions):
    """A macvlan of ours."""

    kind: Literal["macvlan"]
    parent: LinkName
    mode: MacvlanMode


class IpvlanLinkSpec(_Link, _Sysctls, _PortOptions):
    """An ipvlan of ours."""

    kind: Literal["ipvlan"]
    parent: LinkName
    mode: IpvlanMode
    flag: Flag


class MacvtapLinkSpec(_Link, _Sysctls, _MacvlanOptions):
    """A macvtap of ours."""

    kind: Literal["macvtap"]
    parent: LinkName
    mode: MacvlanMode
    node: NodeSpec


class DummyLinkSpec(_Link, _LinkOptions, _MoreSysctls):
    """The parent of a network that was given none."""

    kind: Literal["dummy"]


class _AnyKind(TypedDict, total=False):
    """Options of links that are of one type in every spec."""

    # vlan
    vlan_id: VlanId
    gvrp: bool
    mvrp: bool
    loose_binding: bool
    reorder_headers: bool
    ingress_qos_map: Dict[str, U32]
    egress_qos_map: Dict[str, U32]
    # macvlan and ipvlan
    mode: str
    source_macs: List[str]
    nopromisc: bool


class KindOptions(_AnyKind, total=False):
    """What a link has by its kind, under the names of the link specs."""

    protocol: str
    flag: str
    bcqueuelen: U32
    bclim: S32
    node: Optional[NodeSpec]  # of a tap
    # of links that are never ours
    table: U32  # of a VRF
    vlan_filtering: bool  # of a bridge


class LinkSpec(KindOptions, total=False):
    """A link as the kernel has it, ours or not."""

    netns: Netns
    name: str
    kind: str
    parent: Optional[str]
    mtu: Optional[U32]  # None: the parent's, down and up
    parent_mtu: U32  # as observed
    mac: str
    up: bool
    group: U32
    altnames: List[str]
    isolation: Optional[str]  # the name of a profile
    sysctls: Any  # Dict[str, int], or a view that compares like one


class AddressSpec(TypedDict):
    """An address of a link."""

    netns: Netns
    link: KernelName
    address: Interface


class _Route(TypedDict):
    netns: Netns
    prefix: Subnet
    type: AnyRouteType
    via: Optional[Ip]
    metric: U32
    table: U32
    protocol: Annotated[int, between(0, 255)]


class RouteSpec(_Route, total=False):
    """A route of the host or of a workload."""

    dev: Optional[LinkName]
    src: Optional[Ip]


class RuleSpec(TypedDict):
    """A rule of a workload: what has a source address goes by a table of its own."""

    netns: Netns
    link: KernelName  # of the endpoint that has the address
    source: Subnet
    table: U32
    priority: U32
    protocol: Annotated[int, between(0, 255)]


class NetnsSpec(TypedDict):
    """A namespace of ours."""

    netns: Workload


class HostsSpec(TypedDict):
    """Our block in a workload's hosts file."""

    netns: Workload
    digest: Annotated[str, matching("the digest of a block", "[0-9a-f]{16}")]


# --- what the registry knows a thing by ----------------------------------------------------------


class TrunkSpec(TypedDict, total=False):
    """The NIC that a map calls a trunk: by its name, or by what it is."""

    name: str
    match: Dict[str, str]  # mac, pci or altname, one of them


class NicSpec(TypedDict):
    """What a link of others was when something of ours was put on it; its key is the registry's name for it."""

    kind: str  # IFLA_INFO_KIND, "" for a physical NIC
    index: U32  # the ifindex, in the namespace and boot ``era``
    era: str
    mac: str  # permanent; "" for none, as everywhere below
    device: str  # such as a PCI address
    port: str  # phys_port_id
    driver: str
    vlan_id: VlanId  # 0 where it is no VLAN
    below: List[str]  # the permanent MACs of the NICs that a bond, bridge or VLAN is made of
    asked: List[Annotated[List[str], Format("a trunk, name or match, and its value", _asked)]]


class ProcessSpec(TypedDict, total=False):
    """The process or container of a workload, whose number or name another may get."""

    started: str
    container: str


# --- a spec of any kind --------------------------------------------------------------------------


class Spec(_AnyKind, total=False):
    """The spec of a record or a change whose kind only the caller knows: the keys of all kinds, any of which may be missing.

    A value is Any where the kinds differ, such as a network's parent, which may be None, and a sub-interface's, which may not.
    """

    # of objects
    netns: str
    name: str
    kind: str
    parent: Any
    mtu: Optional[int]  # None: the parent's, down and up
    parent_mtu: int  # as observed
    mac: Any
    up: bool
    group: int
    altnames: List[str]
    isolation: Optional[str]
    sysctls: Any  # Dict[str, Optional[int]], or a view that compares like one
    protocol: Any
    flag: Any
    bcqueuelen: Any
    bclim: Any
    node: Any  # None where a tap has none of ours
    link: str
    address: str
    prefix: str
    type: str
    via: Optional[str]
    dev: Optional[str]
    src: Optional[str]
    metric: int
    table: int
    source: str
    priority: int
    digest: str
    # of links of others
    vlan_filtering: bool
    # of items
    owner: str
    bring_up_parent: bool
    addresses: Any
    driver: str
    internal: bool
    subnets: List[SubnetSpec]
    enable_ipv4: bool
    enable_ipv6: bool
    share_parent: bool
    host_access: Union[bool, List[str]]
    host_addresses: List[str]
    probe: bool
    recreate: bool
    labels: Dict[str, str]
    network: Any
    workload: str
    interface: Any  # None before it is named
    ipv4_address: Optional[str]
    ipv6_address: Optional[str]
    ipv4_addresses: List[str]
    ipv6_addresses: List[str]
    allowed_addresses: List[str]
    subnet: Optional[str]
    mac_address: Optional[str]
    aliases: List[str]
    hosts: Dict[str, str]
    gw_priority: int
    default_route: DefaultRoute
    routes: Any
    source_routing: Any
    routing_table: Optional[int]
    tap_owner: Optional[str]
    tap_group: Optional[str]
    tap_mode: Optional[str]
    accept_ra: bool
    # of what the registry knows a thing by
    index: int
    era: str
    device: str
    port: str
    below: List[str]
    asked: List[List[str]]
    started: str
    container: str


# --- what the registry keeps ---------------------------------------------------------------------

#: The item that an object belongs to, or what it is shared by.
Of = Annotated[
    str,
    matching("an item", r"parent|netns|nic|process|(vlan|network|endpoint|routes|workload):[^\x00-\x1f\ud800-\udfff]+"),
]

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
    "hosts": HostsSpec,
    "nic": NicSpec,
    "process": ProcessSpec,
}


#: What the items of an older registry lack: the options that came later, each with what there was before.
LATER: Mapping[str, Mapping[str, Any]] = {
    "network": {"source_routing": False, "nopromisc": False},
    "endpoint": {
        "ipv4_addresses": [], "ipv6_addresses": [], "allowed_addresses": [], "source_routing": None, "routing_table": None,
        "source_macs": [], "kind": "link", "tap_owner": None, "tap_group": None, "tap_mode": None,
    },
}  # fmt: skip


def complete(kind: str, spec: Any) -> Any:
    """A recorded spec with the options that came after it was written."""
    if kind not in LATER or not isinstance(spec, dict):
        return spec
    lacking = {option: value for option, value in LATER[kind].items() if option not in spec}
    return {**spec, **copy.deepcopy(lacking)} if lacking else spec


# --- what is asked of a spec ---------------------------------------------------------------------


def is_l3(network: Generic) -> bool:
    """Whether a network routes between its endpoints instead of bridging them."""
    return network.get("mode") in ("l3", "l3s")


def version_of(text: str) -> int:
    """The IP version of an address, a prefix or a subnet."""
    return 6 if ":" in text else 4


def has_version(network: NetworkSpec, version: int) -> bool:
    """Whether a network has IPv4 or IPv6."""
    return network["enable_ipv6"] if version == 6 else network["enable_ipv4"]


def usual_metric(prefix: str) -> int:
    """The metric that the kernel gives a route without one."""
    return IPV6_METRIC if ":" in prefix else 0


def host_prefix(address: str) -> str:
    """An address, with or without a prefix length, as the prefix of a route to it alone."""
    ip = ip_of(address)
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def node_path(endpoint: EndpointSpec) -> str:
    """Where the device node of a tap is."""
    return f"{TAP_DIRECTORY}/{endpoint['network']}/{endpoint['name']}"


def is_tap(endpoint: EndpointSpec) -> bool:
    """Whether an endpoint is for a virtual machine, whose guest configures itself."""
    return endpoint["kind"] == "tap"


def static_address(endpoint: EndpointSpec, version: int) -> Optional[str]:
    """The address of an IP version that an endpoint was given; None for any that is free."""
    return endpoint["ipv6_address"] if version == 6 else endpoint["ipv4_address"]


def more_addresses(endpoint: EndpointSpec) -> List[str]:
    """The addresses that an endpoint has beside its first ones."""
    return [*endpoint["ipv4_addresses"], *endpoint["ipv6_addresses"]]


def given_addresses(endpoint: EndpointSpec) -> Iterator[Tuple[str, str]]:
    """The addresses that an endpoint was given for itself, each with its option."""
    if endpoint["ipv4_address"]:
        yield "ipv4_address", endpoint["ipv4_address"]
    if endpoint["ipv6_address"]:
        yield "ipv6_address", endpoint["ipv6_address"]
    yield from ((f"ipv4_addresses[{position}]", ip) for position, ip in enumerate(endpoint["ipv4_addresses"]))
    yield from ((f"ipv6_addresses[{position}]", ip) for position, ip in enumerate(endpoint["ipv6_addresses"]))


def default_route(endpoint: EndpointSpec, version: int) -> str:
    """When an endpoint gives its workload the default route of an IP version."""
    return endpoint["default_route"]["ipv6"] if version == 6 else endpoint["default_route"]["ipv4"]


def ip_of(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]
