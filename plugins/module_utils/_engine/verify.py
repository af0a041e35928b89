# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a map is not true on a host and on its wire, each with its place and the likely cause.

The kernel's side is the plan: what a run would still do has drifted. The wire's side is what the gateways answer, and
who else answers for the addresses of this host's endpoints.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from . import arrive, model, report
from .arrive import Answers, Ask, Trunk
from .fields import Problem
from .world import Change, Link, Spec, World

Finding = Dict[str, Any]


class Place(NamedTuple):
    """Where a network hangs."""

    trunk: str  # as the map calls it
    nic: str
    vlan: int  # 0 for none

    def text(self) -> str:
        name = self.trunk if self.trunk == self.nic else f"{self.trunk} ({self.nic})"
        return f"{name}, VLAN {self.vlan}" if self.vlan else f"{name}, untagged"


@dataclass
class Network:
    """A network of the map that has a wire."""

    name: str
    place: Place
    mac: str  # of the NIC
    mtu: int  # of the NIC
    wanted: int  # what its endpoints may send
    gateways: List[str]
    endpoints: Dict[str, str] = field(default_factory=dict)  # address -> endpoint of this host


@dataclass
class Wire:
    """What the wire behind one NIC said."""

    small: Answers = field(default_factory=dict)
    large: Answers = field(default_factory=dict)
    trouble: str = ""  # why it cannot be asked


def finding(kind: str, place: Optional[Place], text: str, **more: Any) -> Finding:
    where = {"trunk": place.trunk, "nic": place.nic, "vlan": place.vlan or None} if place else {"trunk": None, "nic": None, "vlan": None}
    return {"kind": kind, **where, "text": f"{place.text()}: {text}" if place else text, **more}


def drift(changes: Sequence[Change]) -> List[Finding]:
    """What the kernel has otherwise than the map says."""
    return [finding("drift", None, report.line(change), object=change.key) for change in changes]


_ROW = re.compile(r"networks\[(\d+)\]\.?([a-z_]*)")


def refused(declared: model.Declaration, problems: Sequence[Problem]) -> List[Finding]:
    """Why a run would refuse the rows on this host as it is."""
    rows = {item.path: item.spec for item in declared.items if item.kind == "network" and item.spec}
    found = []
    for problem in problems:
        match = _ROW.match(problem.path)
        row = rows.get(f"networks[{match[1]}]") if match else None
        if match is None or row is None or not row["parent"]:
            found.append(finding("drift", None, str(problem)))
            continue
        trunk, _rest, vlan = str(row["parent"]).rpartition(".")
        place = Place(trunk, _nic(declared, trunk), int(vlan)) if vlan.isdigit() and trunk else Place(vlan, _nic(declared, vlan), 0)
        kind = "mtu" if match[2] == "mtu" else "drift"
        found.append(finding(kind, place, f"{row['name']}, {match[2]}: {problem.what}; {problem.cure}", network=row["name"]))
    return found


def _nic(declared: model.Declaration, trunk: str) -> str:
    """The NIC of a trunk, as far as the rows say it."""
    return str(declared.trunks.get(trunk, {}).get("name", trunk))


def networks(declared: model.Declaration, complete: Mapping[str, Spec], endpoints: Mapping[str, Spec], world: World) -> List[Network]:
    """Where the declared networks hang; those on a dummy have no wire, and what is not there yet is drift."""
    found: Dict[str, Network] = {}
    for item in model.specs(declared.items, "network"):
        spec = complete.get(item.key)
        if spec is None or not (item.spec or {}).get("parent"):
            continue
        link = world.host.names.get(spec["parent"])
        base, vlan = _base(world, link) if link is not None else (None, 0)
        if base is None or link is None:
            continue
        trunk = str((item.spec or {})["parent"])
        if vlan and trunk.endswith(f".{vlan}"):
            trunk = trunk.rpartition(".")[0]
        gateways = [row["gateway"] for row in spec["subnets"] if row["gateway"]]
        found[item.key] = Network(item.key, Place(trunk, base.name, vlan), base.mac, base.mtu, spec["mtu"] or link.mtu, gateways)
    for spec in endpoints.values():
        network = found.get(spec["network"])
        if network is not None and not model.is_l3(complete[spec["network"]]):
            network.endpoints.update((address.partition("/")[0], spec["name"]) for address in spec.get("addresses", ()))
    for network in found.values():
        network.gateways = [address for address in network.gateways if address not in network.endpoints]
    return list(found.values())


def _base(world: World, link: Link) -> Tuple[Optional[Link], int]:
    """The NIC below a link, and the tag that frames have there."""
    if link.kind != "vlan":
        return link, 0
    return world.host.links.get(link.parent), int(link.data["vlan_id"])


def listen(there: Sequence[Network]) -> Dict[str, Wire]:
    """Ask the wire behind every NIC."""
    by_nic: Dict[str, List[Network]] = defaultdict(list)
    for network in there:
        by_nic[network.place.nic].append(network)
    return {nic: _ask(nic, some) for nic, some in by_nic.items()}


def _ask(nic: str, there: Sequence[Network]) -> Wire:
    wire = Wire()
    gateways = {Ask(network.place.vlan, address): network for network in there for address in network.gateways}
    others = [Ask(network.place.vlan, address) for network in there for address in network.endpoints]
    try:
        with Trunk(nic, there[0].mac) as trunk:
            wire.small = trunk.ask([*gateways, *others])
            # What does not fit the NIC cannot be sent, and is said without asking.
            large = {ask: network.wanted for ask, network in gateways.items() if ask in wire.small and network.wanted <= network.mtu}
            wire.large = trunk.ask(list(large), large)
    except OSError as error:
        wire.trouble = f"{nic} is down" if error.errno == errno.ENETDOWN else f"{nic} cannot be asked: {os.strerror(error.errno or 0)}"
    return wire


def judge(there: Sequence[Network], wires: Mapping[str, Wire], own: Sequence[str]) -> List[Finding]:
    """Everything that the wire says against the map."""
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
    return found


def _whole(kind: str, trunk: str, nic: str, text: str) -> Finding:
    """Something about a trunk as a whole."""
    name = trunk if trunk == nic else f"{trunk} ({nic})"
    return {"kind": kind, "trunk": trunk, "nic": nic, "vlan": None, "text": f"{name}: {text}"}


def _arrival(trunk: str, nic: str, there: Sequence[Network], wire: Wire) -> List[Finding]:
    askable = [network for network in there if network.gateways]
    arrived = [network for network in askable if any(Ask(network.place.vlan, address) in wire.small for address in network.gateways)]
    if askable and not arrived and len(askable) > 1:
        text = f"none of {len(askable)} VLANs arrives (no gateway answers): look at the cable and at the switch port's trunk"
        return [_whole("arrival", trunk, nic, text)]
    found = []
    for network in askable:
        silent = [address for address in network.gateways if Ask(network.place.vlan, address) not in wire.small]
        if not silent:
            continue
        if network in arrived:
            text = f"gateway {', '.join(silent)} of {network.name} does not answer, though the VLAN arrives: the gateway is down"
        elif network.place.vlan and arrived:
            text = (f"no answer from gateway {', '.join(silent)} of {network.name}, while other VLANs of the trunk arrive: "
                    f"the switch port does not carry VLAN {network.place.vlan}, or the gateway is down")  # fmt: skip
        else:
            text = f"no answer from gateway {', '.join(silent)} of {network.name}: look at the switch port, and at the gateway"
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
        asked = [Ask(network.place.vlan, address) for address in network.gateways]
        small = [ask for ask in asked if ask in wire.small]
        if small and not any(ask in wire.large for ask in small):
            lost.append(network)
        passed += any(ask in wire.large for ask in small)
    if len(lost) > 1 and not passed:
        sizes = ", ".join(map(str, sorted({network.wanted for network in lost})))
        text = f"packets of {sizes} bytes get lost in all {len(lost)} VLANs, small ones pass: the MTU of the switch port is too low"
        return [*found, _whole("mtu", trunk, nic, text)]
    for network in lost:
        text = f"packets of {network.wanted} bytes to the gateway of {network.name} get lost, small ones pass: a MTU on the way is too low"
        found.append(finding("mtu", network.place, text, network=network.name))
    return found


def _owners(network: Network, wire: Wire, own: Sequence[str]) -> List[Finding]:
    found = []
    for address in network.gateways:
        macs = wire.small.get(Ask(network.place.vlan, address), set())
        if len(macs) > 1:
            text = f"{address}, the gateway of {network.name}, is answered for by {' and by '.join(sorted(macs))}: it is in use twice"
            found.append(finding("duplicate", network.place, text, network=network.name, address=address))
    foreign = arrive.answered_by_others(wire.small, own)
    for address, endpoint in network.endpoints.items():
        macs = foreign.get(Ask(network.place.vlan, address), set())
        if macs:
            text = f"{address} of endpoint {endpoint} in {network.name} is in use at {', '.join(sorted(macs))} too: find that machine, or release the address"
            found.append(finding("duplicate", network.place, text, network=network.name, address=address))
    return found


def macs(*worlds: World) -> List[str]:
    """Every MAC of this host."""
    return sorted({
        link.mac for world in worlds for space in (world.host, *world.namespaces.values(), *world.others) for link in space.links.values()
    })  # fmt: skip


def unproved(there: Sequence[Network]) -> List[str]:
    """The networks of which the wire can say nothing, because they have no gateway to ask."""
    return sorted(network.name for network in there if not network.gateways)
