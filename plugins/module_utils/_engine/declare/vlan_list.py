# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VLANs of an endpoint that is a trunk, and which of its other options mean nothing then."""

from __future__ import annotations

import re
from typing import Any, List, Set

from ..core.errors import InvalidValue, Problem
from ..core.formats import NAME_MAX
from . import fields
from .declaration import join

_RANGE = re.compile(r"(\d+)-(\d+)\Z", re.ASCII)
#: What is of one link with addresses that we know. The workload configures the links of a trunk itself, as a router does.
_OF_ONE_LINK = (
    "ipv4_address", "ipv6_address", "ipv4_addresses", "ipv6_addresses", "allowed_addresses", "subnet", "routes",
    "gw_priority", "default_route", "source_routing", "aliases", "probe", "dhcp_client_id", "dhcp_hostname",
)  # fmt: skip
#: What there is a way to for each VLAN: an endpoint of its own.
_OF_EACH_LINK = ("source_macs", "ingress_rate", "ingress_burst", "egress_rate", "egress_burst")


def parse(value: Any) -> List[int]:
    """VLAN IDs and ranges such as ``20-29``, each VLAN once. Raises InvalidValue."""
    found: Set[int] = set()
    faults = []
    for position, item in enumerate(fields.rows(value)):
        try:
            ids = _ids(item)
        except InvalidValue as error:
            faults.append((f"[{position}]", error))
            continue
        vlan_id = min(found.intersection(ids), default=0)
        if vlan_id:
            what = f"VLAN {vlan_id} is listed already"
            faults.append((f"[{position}]", InvalidValue(what, "list each VLAN once")))
        found.update(ids)
    if faults:
        raise InvalidValue.within(faults)
    if not found:
        raise InvalidValue("lists no VLAN", "list one at least, or leave it out for an endpoint without tags")
    return sorted(found)


def _ids(part: Any) -> range:
    match = _RANGE.match(part.strip()) if isinstance(part, str) else None
    first, last = match.groups() if match else (part, part)
    low, high = int(fields.VLAN_ID(first)), int(fields.VLAN_ID(last))
    if low > high:
        raise InvalidValue(f"{part} ends before it begins", f"write it as {high}-{low}")
    return range(low, high + 1)


def check(asked: fields.Given, path: str, problems: List[Problem]) -> None:
    """Refuse beside ``vlans`` what has no effect on a trunk, or no one link to have it on."""
    if "vlans" not in asked:
        return
    for option in _OF_ONE_LINK:
        if asked.get(option):
            what = "is the workload's to configure, for a trunk gives it links alone"
            problems.append(Problem(join(path, option), what, "leave it out, and set it in the workload"))
    for option in _OF_EACH_LINK:
        if asked.get(option):
            what = "is of one link, and a trunk has one for each VLAN"
            fix = "leave it out, or make an endpoint of its own in a network on that VLAN"
            problems.append(Problem(join(path, option), what, fix))
    if asked.get("kind") == "tap":
        what = "a tap carries one VLAN, without a tag"
        fix = "leave vlans out, and give the virtual machine a tap in a network on each VLAN"
        problems.append(Problem(join(path, "kind"), what, fix))
    name = f"{asked.get('interface', '')}.{asked['vlans'][-1]}"
    if len(name) > NAME_MAX:
        most = NAME_MAX - len(f".{asked['vlans'][-1]}")
        what = f"its links would be called {name}, and a link's name has {NAME_MAX} characters at most"
        problems.append(Problem(join(path, "interface"), what, f"give a name of {most} at most"))
