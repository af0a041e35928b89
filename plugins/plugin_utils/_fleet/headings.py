# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""From the headings of a table to our columns."""

from __future__ import annotations

import difflib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Collection, Dict, List, Mapping, Optional, Set

#: Headings that other tools and people use, normalized, and the column that each means.
SYNONYMS = {
    "vlan_id": "vlan", "vid": "vlan", "vlanid": "vlan", "vlan_no": "vlan", "vlan_number": "vlan", "tag": "vlan",
    "vlan_name": "name", "network_name": "name",
    "uplink": "trunk", "fabric": "trunk", "parent": "trunk",
    "type": "driver",
    "subnet": "subnets", "prefix": "subnets", "prefixes": "subnets", "cidr": "subnets", "ip_subnet": "subnets",
    "netmask": "mask", "subnet_mask": "mask", "masks": "mask", "subnetmask": "mask",
    "gateway": "gateways", "gw": "gateways", "default_gateway": "gateways", "router": "gateways",
    "range": "ranges", "ip_range": "ranges", "iprange": "ranges", "pool": "ranges", "pools": "ranges",
    "dhcp_range": "ranges", "dhcp_ranges": "ranges", "dhcp": "ranges",
    "reservation": "reservations", "reserved": "reservations", "aux_addresses": "reservations",
    "ipv4": "enable_ipv4", "ipv6": "enable_ipv6", "host": "hosts", "location": "site",
}  # fmt: skip


def normalized(heading: str) -> str:
    """A heading without regard to case, blanks and punctuation, and to how wide its letters are."""
    return re.sub(r"(?:[^\w.]|_)+", "_", unicodedata.normalize("NFKC", heading).lower()).strip("_")


@dataclass
class Headings:
    """What the headings of the tables mean.

    ``given`` leads from headings to columns, or to None for those to ignore ("*" for all that are unknown); ``filtered`` are headings that only
    select rows; ``columns`` are the columns that there are.
    """

    columns: Collection[str]
    given: Mapping[str, Optional[str]] = field(default_factory=dict)
    filtered: Collection[str] = ()
    synonyms: Mapping[str, str] = field(default_factory=lambda: SYNONYMS)
    seen: Set[str] = field(default_factory=set)  # the headings of all files, normalized

    def __post_init__(self) -> None:
        self._given: Dict[str, Optional[str]] = {normalized(heading): column for heading, column in self.given.items()}
        self._filtered = {normalized(heading) for heading in self.filtered}

    def column(self, heading: str) -> Optional[str]:
        """The column that a heading means; None for one that is to be ignored. Raises KeyError for an unknown one."""
        name = normalized(heading)
        self.seen.add(name)
        if name in self._given:
            return self._given[name]
        if name in self.columns:
            return name
        if name in self.synonyms and self.synonyms[name] in self.columns:
            return self.synonyms[name]
        if not name or name in self._filtered or "*" in self.given:
            return None
        raise KeyError(heading)

    def nested(self) -> List[str]:
        """The headings that name a value inside of a value, such as ``vlan.vid``."""
        return [heading for heading in (*self.given, *self.filtered) if "." in heading]

    def unused(self) -> List[str]:
        """The headings that were given and are in no file."""
        return [
            heading
            for heading in (*self.given, *self.filtered)
            if heading != "*" and normalized(heading) not in self.seen
        ]

    def fix(self, heading: str) -> str:
        """What to do about an unknown heading."""
        near = difflib.get_close_matches(normalized(heading), [*self.columns, *self.synonyms], 1)
        first = f"did you mean {self.synonyms.get(near[0], near[0])}? To" if near else "to"
        return f"{first} ignore it: columns: {{{heading}: }}"
