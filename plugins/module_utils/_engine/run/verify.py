# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies a map on a host and on its wire: failures, each with location and likely cause.

The kernel's side is the plan: what a run would still do has drifted. The wire's side is what the gateways answer, and
who else answers for the addresses of this host's endpoints.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..core.change import Change
from ..core.endpoint_specs import EndpointSpec, is_dhcp, is_slaac
from ..core.errors import Problem
from ..core.formats import ip_of
from ..core.lease_specs import Lease, lease_key
from ..core.network_specs import NetworkSpec
from ..core.specs import is_l3
from ..core.state import HostState, Link
from ..declare.declaration import Declaration, specs
from ..report import summary
from ..wire import arping
from ..wire.arping import Advertisement, Answers, ProbeRequest, TrunkSocket

Finding = Dict[str, Any]


class Location(NamedTuple):
    """Where a network is attached."""

    trunk: str  # as the map calls it
    nic: str
    vlan: int  # 0 for none

    def text(self) -> str:
        """Trunk and VLAN for people."""
        name = self.trunk if self.trunk == self.nic else f"{self.trunk} ({self.nic})"
        return f"{name}, VLAN {self.vlan}" if self.vlan else f"{name}, untagged"


@dataclass
class Network:
    """A network of the map that has a wire."""

    name: str
    place: Location
    mac: str  # of the NIC
    mtu: int  # of the NIC
    wanted: int  # what its endpoints may send
    gateways: List[str]
    endpoints: Dict[str, str] = field(default_factory=dict)  # address -> endpoint of this host
    unleased: List[str] = field(default_factory=list)  # endpoints of this host that no DHCP server gave an address
    slaac: List[str] = field(default_factory=list)  # the endpoints that get addresses from a router
    trunks: Dict[str, List[int]] = field(default_factory=dict)  # the endpoints that are trunks, each with its VLANs


@dataclass
class Wire:
    """The probe results of one NIC."""

    small: Answers = field(default_factory=dict)
    large: Answers = field(default_factory=dict)
    routers: Dict[int, List[Advertisement]] = field(default_factory=dict)  # by VLAN
    alive: Set[int] = field(default_factory=set)  # the VLANs of trunks in which anything was heard
    trouble: str = ""  # why it cannot be asked


def finding(kind: str, place: Optional[Location], text: str, **more: Any) -> Finding:
    """One row of the report: its kind, where it was found, and what in words."""
    where = (
        {"trunk": place.trunk, "nic": place.nic, "vlan": place.vlan or None}
        if place
        else {"trunk": None, "nic": None, "vlan": None}
    )
    return {"kind": kind, **where, "text": f"{place.text()}: {text}" if place else text, **more}


def drift(changes: Sequence[Change]) -> List[Finding]:
    """Where the kernel differs from the map."""
    return [finding("drift", None, summary.line(change), object=change.key) for change in changes]


_ROW = re.compile(r"networks\[(\d+)\]\.?([a-z_]*)")


def refused(declared: Declaration, problems: Sequence[Problem]) -> List[Finding]:
    """Why a run would refuse the rows on this host."""
    rows = {item.path: item.spec for item in declared.items if item.kind == "network" and item.spec}
    found = []
    for problem in problems:
        match = _ROW.match(problem.path)
        row = rows.get(f"networks[{match[1]}]") if match else None
        if match is None or row is None or not row["parent"]:
            found.append(finding("drift", None, str(problem)))
            continue
        trunk, _rest, vlan = str(row["parent"]).rpartition(".")
        place = (
            Location(trunk, _nic(declared, trunk), int(vlan))
            if vlan.isdigit() and trunk
            else Location(vlan, _nic(declared, vlan), 0)
        )
        kind = "mtu" if match[2] == "mtu" else "drift"
        found.append(
            finding(kind, place, f"{row['name']}, {match[2]}: {problem.message}; {problem.fix}", network=row["name"])
        )
    return found


def _nic(declared: Declaration, trunk: str) -> str:
    """The NIC of a trunk, if the rows give it."""
    return str(declared.trunks.get(trunk, {}).get("name", trunk))


def networks(
    declared: Declaration,
    complete: Mapping[str, NetworkSpec],
    endpoints: Mapping[str, EndpointSpec],
    observed: HostState,
    leases: Mapping[str, Lease],
) -> List[Network]:
    """Where the declared networks are attached; those on a dummy have no wire, and missing ones are drift."""
    found: Dict[str, Network] = {}
    for item in specs(declared.items, "network"):
        spec = complete.get(item.key)
        if spec is None or not (item.spec or {}).get("parent"):
            continue
        link = observed.host.names.get(spec["parent"] or "")
        base, vlan = _base(observed, link) if link is not None else (None, 0)
        if base is None or link is None:
            continue
        trunk = str((item.spec or {})["parent"])
        if vlan and trunk.endswith(f".{vlan}"):
            trunk = trunk.rpartition(".")[0]
        gateways = [row["gateway"] for row in spec["subnets"] if row["gateway"]]
        found[item.key] = Network(
            item.key, Location(trunk, base.name, vlan), base.mac, base.mtu, spec["mtu"] or link.mtu, gateways
        )
    for key, endpoint in endpoints.items():
        network = found.get(endpoint["network"])
        if network is not None and not is_l3(complete[endpoint["network"]]):
            _join(network, endpoint, [leases.get(lease_key(key, it)) for it in (4, 6) if is_dhcp(endpoint, it)])
    for network in found.values():
        network.gateways = [address for address in network.gateways if address not in network.endpoints]
    return list(found.values())


def _join(network: Network, endpoint: EndpointSpec, leases: Sequence[Optional[Lease]]) -> None:
    """What there is to ask for an endpoint of this host."""
    network.endpoints.update((ip_of(address), endpoint["name"]) for address in endpoint.get("addresses", ()))
    for lease in leases:
        if lease is not None:
            network.endpoints[ip_of(lease["address"])] = endpoint["name"]
            network.gateways += [router for router in lease["routers"] if router not in network.gateways]
        elif endpoint["name"] not in network.unleased:
            network.unleased.append(endpoint["name"])
    if is_slaac(endpoint):
        network.slaac.append(endpoint["name"])
    if endpoint["vlans"]:
        network.trunks[endpoint["name"]] = endpoint["vlans"]


def _base(observed: HostState, link: Link) -> Tuple[Optional[Link], int]:
    """The NIC below a link, and the tag that frames have there."""
    if link.kind != "vlan":
        return link, 0
    return observed.host.links.get(link.parent), int(link.data["vlan_id"])


def listen(there: Sequence[Network]) -> Dict[str, Wire]:
    """Probe the wire behind every NIC, all at once: what does not answer is waited for."""
    by_nic: Dict[str, List[Network]] = defaultdict(list)
    for network in there:
        by_nic[network.place.nic].append(network)
    with ThreadPoolExecutor(max(1, len(by_nic))) as pool:
        return dict(zip(by_nic, pool.map(_ask, by_nic, by_nic.values())))


def _ask(nic: str, there: Sequence[Network]) -> Wire:
    wire = Wire()
    gateways = {ProbeRequest(network.place.vlan, address): network for network in there for address in network.gateways}
    others = [ProbeRequest(network.place.vlan, address) for network in there for address in network.endpoints]
    try:
        with TrunkSocket(nic, there[0].mac) as trunk:
            wire.small = trunk.ask([*gateways, *others])
            # What does not fit the NIC cannot be sent, and is said without asking.
            large = {
                ask: network.wanted
                for ask, network in gateways.items()
                if ask in wire.small and network.wanted <= network.mtu
            }
            wire.large = trunk.ask(list(large), large)
            wire.routers = trunk.routers(network.place.vlan for network in there if network.slaac)
            known = {ask.vlan for ask in wire.small} | wire.routers.keys()
            trunks = [network.trunks for network in there if not network.place.vlan]
            asked = {vlan for found in trunks for vlans in found.values() for vlan in vlans}
            wire.alive = (asked & known) | (trunk.alive(asked - known) if asked - known else set())
    except OSError as error:
        wire.trouble = (
            f"{nic} is down"
            if error.errno == errno.ENETDOWN
            else f"{nic} cannot be probed: {os.strerror(error.errno or 0)}"
        )
    return wire


def judge(there: Sequence[Network], wires: Mapping[str, Wire], own: Sequence[str]) -> List[Finding]:
    """All failures found on the wire."""
    found: List[Finding] = []
    trunks: Dict[Tuple[str, str], List[Network]] = defaultdict(list)
    for network in there:
        trunks[network.place.trunk, network.place.nic].append(network)
    for (trunk, nic), some in trunks.items():
        wire = wires[nic]
        if wire.trouble:
            found.append(_whole("arrival", trunk, nic, wire.trouble))
            continue
        found += _arrival(trunk, nic, some, wire)
        found += _sizes(trunk, nic, some, wire)
        for network in some:
            found += _owners(network, wire, own)
            found += [_unleased(network, endpoint) for endpoint in network.unleased]
            found += _routers(network, wire)
    return found


def _unleased(network: Network, endpoint: str) -> Finding:
    text = f"no DHCP server gave endpoint {endpoint} of {network.name} an address: check the server, and systemctl status netops-underlay-dhcp"
    return finding("arrival", network.place, text, network=network.name)


def _whole(kind: str, trunk: str, nic: str, text: str) -> Finding:
    """Something about a trunk as a whole."""
    name = trunk if trunk == nic else f"{trunk} ({nic})"
    return {"kind": kind, "trunk": trunk, "nic": nic, "vlan": None, "text": f"{name}: {text}"}


def _arrival(trunk: str, nic: str, there: Sequence[Network], wire: Wire) -> List[Finding]:
    askable = [network for network in there if network.gateways]
    arrived = [
        network
        for network in askable
        if any(ProbeRequest(network.place.vlan, address) in wire.small for address in network.gateways)
    ]
    if askable and not arrived and len(askable) > 1:
        text = f"none of {len(askable)} VLANs works (no gateway answers): check the cable and the trunk configuration of the switch port"
        return [_whole("arrival", trunk, nic, text)]
    found = []
    for network in askable:
        silent = [
            address for address in network.gateways if ProbeRequest(network.place.vlan, address) not in wire.small
        ]
        if not silent:
            continue
        if network in arrived:
            text = f"gateway {', '.join(silent)} of {network.name} does not answer, although the VLAN works: the gateway is down"
        elif network.place.vlan and arrived:
            text = (f"no answer from gateway {', '.join(silent)} of {network.name}, while other VLANs of the trunk arrive: "
                    f"the switch port does not carry VLAN {network.place.vlan}, or the gateway is down")  # fmt: skip
        else:
            text = (
                f"no answer from gateway {', '.join(silent)} of {network.name}: check the switch port and the gateway"
            )
        found.append(finding("arrival", network.place, text, network=network.name))
    return found


def _sizes(trunk: str, nic: str, there: Sequence[Network], wire: Wire) -> List[Finding]:
    found = []
    lost: List[Network] = []
    passed = 0
    for network in there:
        if network.wanted > network.mtu:
            text = f"the MTU of {nic} is {network.mtu}, and {network.name} needs {network.wanted}: raise it"
            found.append(finding("mtu", network.place, text, network=network.name))
            continue
        asked = [ProbeRequest(network.place.vlan, address) for address in network.gateways]
        small = [ask for ask in asked if ask in wire.small]
        if small and not any(ask in wire.large for ask in small):
            lost.append(network)
        passed += any(ask in wire.large for ask in small)
    if len(lost) > 1 and not passed:
        sizes = ", ".join(map(str, sorted({network.wanted for network in lost})))
        text = f"packets of {sizes} bytes are lost in all {len(lost)} VLANs, small ones arrive: the MTU of the switch port is too low"
        return [*found, _whole("mtu", trunk, nic, text)]
    for network in lost:
        text = f"packets of {network.wanted} bytes to the gateway of {network.name} are lost, small ones arrive: an MTU on the path is too low"
        found.append(finding("mtu", network.place, text, network=network.name))
    return found


def _owners(network: Network, wire: Wire, own: Sequence[str]) -> List[Finding]:
    found = []
    for address in network.gateways:
        macs = wire.small.get(ProbeRequest(network.place.vlan, address), set())
        if len(macs) > 1:
            text = f"{address}, the gateway of {network.name}, is claimed by {' and by '.join(sorted(macs))}: it is in use twice"
            found.append(finding("duplicate", network.place, text, network=network.name, address=address))
    foreign = arping.answered_by_others(wire.small, own)
    for address, endpoint in network.endpoints.items():
        macs = foreign.get(ProbeRequest(network.place.vlan, address), set())
        if macs:
            holders = ", ".join(sorted(macs))
            text = f"{address} of endpoint {endpoint} in {network.name} is also in use by {holders}: find that machine, or release the address"
            found.append(finding("duplicate", network.place, text, network=network.name, address=address))
    return found


def _routers(network: Network, wire: Wire) -> List[Finding]:
    """Whether a router gives endpoints their addresses."""
    if not network.slaac:
        return []
    whose = f"{', '.join(sorted(network.slaac))} of {network.name}"
    said = wire.routers.get(network.place.vlan, [])
    if any(one.prefixes for one in said):
        return []
    text = (
        f"no router advertises there, so {whose} gets no address by SLAAC: check the switch port and the router"
        if not said
        else f"{', '.join(sorted({one.router for one in said}))} advertises no prefix to make addresses of, so {whose} gets none by SLAAC: "
        "let the router set the autonomous flag of one"
    )
    return [finding("arrival", network.place, text, network=network.name)]


def macs(*states: HostState) -> List[str]:
    """Every MAC of this host."""
    return sorted({
        link.mac for observed in states for namespace in (observed.host, *observed.namespaces.values(), *observed.others) for link in namespace.links.values()
    })  # fmt: skip


def unproved(there: Sequence[Network], wires: Mapping[str, Wire]) -> List[str]:
    """What cannot be verified: networks without a gateway, and the VLANs of trunks in which nothing was heard."""
    found = [network.name for network in there if not (network.gateways or network.slaac or network.trunks)]
    for network in there:
        for name, vlans in network.trunks.items():
            heard = wires[network.place.nic].alive if not network.place.vlan else ()  # else there are two tags
            silent = [vlan for vlan in vlans if vlan not in heard]
            if silent:
                found.append(f"{network.name}/{name}, VLAN {', '.join(arping.ranges(silent))}")
    return sorted(found)
