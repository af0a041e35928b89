# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``network``: a driver and its mode, a parent, and subnets."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Dict, List, Optional, Sequence, Tuple, cast

from ..core.endpoint_specs import DHCP
from ..core.errors import Problem
from ..core.formats import PARTS, version_of
from ..core.network_specs import NetworkSpec, SubnetSpec, has_pool
from ..core.specs import Spec, is_l3
from . import fields, ipam, resolver
from .declaration import Declaration, join

MACVLAN_MODES = ("bridge", "private", "vepa", "passthru", "source")
IPVLAN_MODES = ("l2", "l3", "l3s")
IPVLAN_FLAGS = ("bridge", "private", "vepa")

SUBNET_OPTIONS: Dict[str, fields.Parser] = {
    "subnet": fields.network,
    "gateway": lambda value: "none" if value == "none" else fields.address()(value),
    "ip_range": fields.address_ranges,
    "aux_addresses": fields.mapping(fields.name, fields.address_range),
}
_SUBNET_ALIASES = {"iprange": "ip_range"}


def _host_access(value: Any) -> Any:
    """true, or the addresses that the host itself takes in the network."""
    return fields.sequence(fields.address())(value) if isinstance(value, (list, tuple)) else fields.boolean(value)


OPTIONS: Dict[str, fields.Parser] = {
    "name": fields.name,
    "driver": fields.choice("macvlan", "ipvlan"),
    "mode": fields.choice(*MACVLAN_MODES, *IPVLAN_MODES),
    "flag": fields.choice(*IPVLAN_FLAGS),
    "parent": fields.link_name,
    "internal": fields.boolean,
    "subnets": fields.rows,
    "enable_ipv4": fields.boolean,
    "enable_ipv6": fields.boolean,
    "mtu": fields.MTU,
    "share_parent": fields.boolean,
    "bring_up_parent": fields.boolean,
    "host_access": _host_access,
    "probe": fields.boolean,
    "source_routing": fields.boolean,
    "spoof_check": fields.boolean,
    "recreate": fields.boolean,
    "bcqueuelen": fields.integer(1, 4294967295, " packets"),
    "bclim": fields.integer(-1, 2147483647),
    "nopromisc": fields.boolean,
    "addressing": fields.choice("pool", DHCP),
    **resolver.OPTIONS,
    "labels": fields.mapping(str, str),
}
_NETWORK_DEFAULTS: Spec = {
    "parent": None, "internal": False, "mtu": None, "share_parent": False, "bring_up_parent": True,
    "host_access": False, "probe": False, "source_routing": False, "spoof_check": False, "recreate": False, "host_addresses": [], "labels": {}, "flag": None,
    "bcqueuelen": None, "bclim": None, "nopromisc": False, "addressing": "pool",
}  # fmt: skip


#: Options of other tools, and where theirs are here.
_HINTS = {
    "driver_options": "write its keys as options of the network: parent, mode, flag",
    "driver_opts": "write its keys as options of the network: parent, mode, flag",
    "ipam": "write its config as subnets",
    "macvlan_mode": "write it as mode",
    "ipvlan_mode": "write it as mode",
    "ipvlan_flag": "write it as flag",
    "vlan": "write it into parent, as in eth0.50",
    "vlan_id": "write it into parent, as in eth0.50",
    "gateway": "write it into a row of subnets",
    "subnet": "write it into a row of subnets",
}


def build(row: Any, path: str, into: Declaration) -> NetworkSpec:
    """The spec of a network's row; what is wrong with it is added to the problems of ``into``."""
    if isinstance(row, Mapping) and "ipam_config" in row:
        row = {**row, "subnets": row.get("subnets") or row["ipam_config"]}
        del row["ipam_config"]
    asked = fields.items(row, OPTIONS, path, into.problems, ("name", "driver"), _HINTS)
    spec = cast(NetworkSpec, {**_NETWORK_DEFAULTS, **asked})
    if "driver" in asked:
        _driver_options(spec, asked, path, into.problems)
    if spec["internal"] and spec["parent"]:
        into.problems.append(
            Problem(
                join(path, "internal"),
                "an internal network has its own dummy, and no parent",
                "leave out parent, or set gateway: none on the subnets to have no default route",
            )
        )
    if spec["probe"] and not spec["host_access"] and not fields.is_bad(row, asked, "host_access"):
        into.problems.append(Problem(join(path, "probe"), "has no effect without host_access",
                                     "set host_access too, or leave probe out; endpoints have their own probe option"))  # fmt: skip
    # The guide's L3 networks without a parent have a default route, its L2 networks without one have none.
    spec["internal"] = spec["internal"] or not (spec["parent"] or is_l3(spec))
    spec["dns"] = asked.get("dns", [])
    spec["dns_search"] = asked.get("dns_search", [])
    spec["dns_options"] = asked.get("dns_options", [])
    spec["subnets"] = [
        _subnet(subnet, f"{join(path, 'subnets')}[{position}]", spec, into)
        for position, subnet in enumerate(asked.get("subnets", ()))
    ]
    _families(spec, asked, path, into.problems)
    _dhcp(spec, asked, path, into)
    _no_overlap(spec["subnets"], path, into.problems)
    return spec


def _driver_options(spec: NetworkSpec, asked: fields.Given, path: str, problems: List[Problem]) -> None:
    driver = spec["driver"]
    modes: Tuple[str, ...] = MACVLAN_MODES if driver == "macvlan" else IPVLAN_MODES
    spec.setdefault("mode", "bridge" if driver == "macvlan" else "l2")
    if spec["mode"] not in modes:
        problems.append(
            Problem(join(path, "mode"), f"{driver} has no mode {spec['mode']}", "give one of " + ", ".join(modes))
        )
    if driver == "ipvlan":
        spec["flag"] = spec["flag"] or "bridge"
        for option in ("bcqueuelen", "bclim"):
            if option in asked:
                problems.append(
                    Problem(join(path, option), "ipvlan has no broadcast queue", "leave it out, or use macvlan")
                )
    elif "flag" in asked:
        problems.append(
            Problem(join(path, "flag"), "macvlan has no flag", "leave it out, or use mode: private or vepa")
        )
    if spec["nopromisc"] and spec["mode"] in modes and spec["mode"] != "passthru":
        # The kernel takes the flag in every mode, and heeds it in passthru alone.
        problems.append(
            Problem(
                join(path, "nopromisc"),
                f"mode {spec['mode']} does not make its parent promiscuous",
                "leave it out, or use " + ("mode: passthru" if driver == "macvlan" else "macvlan with mode: passthru"),
            )
        )

    if spec["spoof_check"] and (driver == "ipvlan" or spec["mode"] == "passthru"):
        problems.append(
            Problem(
                join(path, "spoof_check"),
                "endpoints that have the MAC of their parent cannot be identified by it",
                "leave it out, or use macvlan with mode: bridge",
            )
        )


def _subnet(row: Any, path: str, network: NetworkSpec, into: Declaration) -> SubnetSpec:
    if isinstance(row, str):
        row = {"subnet": row}
    if isinstance(row, Mapping):
        row = {_SUBNET_ALIASES.get(key, key): value for key, value in row.items()}
    spec = fields.items(row, SUBNET_OPTIONS, path, into.problems, ("subnet",))
    subnet = spec.get("subnet")
    if subnet is None:
        return {"subnet": "", "gateway": None, "ip_range": None, "aux_addresses": {}}  # refused already
    given, text = str(row["subnet"]), str(subnet)
    if text != given and ipaddress.ip_interface(given).ip != subnet.network_address:
        into.warnings.append(f"{path}.subnet: {given} has host bits set; using {subnet}")
    _usable(subnet, path, into)
    if "ip_range" in spec:
        _ranges(spec["ip_range"], subnet, f"{path}.ip_range", into)
    for label, part in spec.get("aux_addresses", {}).items():
        _inside(part, subnet, f"{path}.aux_addresses.{label}", into)
    return {
        "subnet": text,
        "gateway": _gateway(spec.get("gateway"), subnet, path, network, into),
        "ip_range": spec.get("ip_range"),
        "aux_addresses": spec.get("aux_addresses", {}),
    }


def _usable(subnet: fields.Network, path: str, into: Declaration) -> None:
    """Endpoints can have addresses of a subnet."""
    if subnet.prefixlen == 0:
        into.refuse(path, "subnet", f"{subnet} covers every address", "give the network's own subnet")
    elif what := fields.reserved_range(subnet):
        into.refuse(path, "subnet", f"{subnet} is {what}", "give a unicast subnet")
    elif subnet.version == 6 and subnet.is_link_local:
        into.refuse(
            path, "subnet", f"{subnet} is link-local, as every link has it", "give a subnet of the network's own"
        )


def _ranges(given: str, subnet: fields.Network, path: str, into: Declaration) -> None:
    """The ranges of a pool, which belong to its subnet and share no address."""
    parts = given.split(PARTS)
    for position, part in enumerate(parts):
        _inside(part, subnet, f"{path}[{position}]" if len(parts) > 1 else path, into)
    order = sorted((*ipam.span(part), position) for position, part in enumerate(parts))
    for (_low, high, one), (low, _high, other) in zip(order, order[1:]):
        if low <= high:
            first, second = sorted((one, other))
            what = f"{parts[second]} overlaps the range {parts[first]}"
            into.refuse(f"{path}[{second}]", "", what, "give each address once")


def _inside(part: str, subnet: fields.Network, path: str, into: Declaration) -> None:
    """An address, a prefix or a range that belongs to a subnet."""
    low, high = ipam.span(part)
    if version_of(part) != subnet.version or not int(subnet[0]) <= low <= high <= int(subnet[-1]):
        into.refuse(path, "", f"{part} is not inside {subnet}", f"give a part of {subnet}")


def _gateway(
    given: Optional[str], subnet: fields.Network, path: str, network: NetworkSpec, into: Declaration
) -> Optional[str]:
    """The gateway that endpoints of a subnet get; None for none."""
    if given == "none":
        return None
    if is_l3(network):
        if given:
            into.warnings.append(f"{path}.gateway: {given} is not used: endpoints of L3 networks route by device")
        return None
    if given is None:
        return None if network["internal"] else ipam.first_of(subnet)
    address = ipaddress.ip_address(given)
    if address.version == 6 and address.is_link_local:
        return given
    fault = ipam.usable_error(str(subnet), given)
    if fault:
        into.problems.append(Problem(f"{path}.gateway", fault, f"give an address of {subnet}, or none"))
    return given


def _families(spec: NetworkSpec, asked: fields.Given, path: str, problems: List[Problem]) -> None:
    """Which IP versions a network has: those of its subnets, and IPv4 unless it is switched off."""
    versions = {version_of(row["subnet"]) for row in spec["subnets"] if row["subnet"]}
    for version in (4, 6):
        option, there = f"enable_ipv{version}", version in versions
        if asked.get(option) is False and there:
            problems.append(
                Problem(join(path, option), f"is false, but an IPv{version} subnet is given", "remove one of the two")
            )
        enabled = asked.get(option, there or version == 4)
        if version == 6:
            spec["enable_ipv6"] = enabled
        else:
            spec["enable_ipv4"] = enabled


def _dhcp(spec: NetworkSpec, asked: fields.Given, path: str, into: Declaration) -> None:
    """What a network cannot have whose endpoints get leases of a DHCP server."""
    if spec["addressing"] != DHCP:
        return
    fix = "leave it out, or leave out addressing: dhcp"
    if spec["driver"] == "ipvlan":
        what = "endpoints of ipvlan have one MAC, by which a DHCP server gives them one address"
        into.refuse(path, "addressing", what, "leave it out, or use macvlan")
    if spec["internal"]:
        into.refuse(path, "addressing", "an internal network has no DHCP server", "leave it out, or give it a parent")
    asks_for_ipv6 = spec["enable_ipv6"] and not has_pool(spec, 6)
    if asked.get("enable_ipv4") is False and not asks_for_ipv6:
        into.refuse(path, "enable_ipv4", "is false, but a DHCP server gives IPv4 addresses", fix)
    for option, what in (
        ("spoof_check", "lets no address through that a DHCP server gave"),
        ("source_routing", "routes by addresses that are known, and a DHCP server gives others"),
    ):
        if spec[option]:  # type: ignore[literal-required]
            into.refuse(path, option, what, fix)


def _no_overlap(subnets: Sequence[SubnetSpec], path: str, problems: List[Problem]) -> None:
    texts = [row["subnet"] for row in subnets]
    for first, second in _overlapping(texts):
        problems.append(
            Problem(
                f"{join(path, 'subnets')}[{second}].subnet",
                f"{texts[second]} overlaps {texts[first]} of subnets[{first}]",
                "give each subnet once",
            )
        )


def _overlapping(texts: Sequence[Optional[str]]) -> List[Tuple[int, int]]:
    """The positions of overlapping subnets, the earlier one first."""
    if len(texts) < 2:
        return []
    found = ipam.overlaps([(position, text) for position, text in enumerate(texts) if text])
    return sorted((min(pair), max(pair)) for pair in found)
