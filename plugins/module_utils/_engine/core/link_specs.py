# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of what is declared and recorded about links: sub-interfaces, our links with their addresses, NICs of others."""

from __future__ import annotations

from typing import Annotated, Dict, List, Literal, Optional, TypedDict

from .formats import (
    S32,
    U32,
    BitRate,
    Digits,
    Direction,
    FileMode,
    Flag,
    Format,
    Interface,
    Ip,
    IpvlanMode,
    Isolation,
    KernelName,
    LinkName,
    Mac,
    MacvlanMode,
    Netns,
    NodePath,
    Protocol,
    SysctlName,
    Text,
    VlanId,
)


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


class TrunkSpec(TypedDict, total=False):
    """The NIC that a map calls a trunk: by its name, or by what it is."""

    name: str
    match: Dict[str, str]  # mac, pci or altname, one of them


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
    senders: Optional[List[Ip]]  # from which alone it may send, sorted; None: from any


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


class _Address(TypedDict):
    netns: Netns
    link: KernelName
    address: Interface


class AddressSpec(_Address, total=False):
    """An address of a link."""

    protocol: U32  # of one with a lease, which only a journal names


class RateSpec(TypedDict):
    """The bandwidth of one direction of an endpoint's link."""

    netns: Netns
    link: KernelName
    direction: Direction
    rate: BitRate  # bits per second
    burst: U32  # bytes
    limit: U32  # of the queue, in bytes; 0 for ingress


def _asked(row: List[str]) -> None:
    if len(row) != 3 or row[1] not in ("name", "mac", "pci", "altname"):
        raise ValueError


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
