# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is called what inside a workload: the lines of its hosts file that are ours.

The members of a network know each other by name and by alias, as on Docker's networks (hosts(5) format).
The lines follow from the endpoints alone, so a plan and the registry carry only a digest of them.
"""

from __future__ import annotations

import hashlib
from typing import Dict, Iterable, List, Mapping, Set

from .world import Spec


class Book:
    """The names that every workload shall know, made from the endpoints of a host."""

    def __init__(self, endpoints: Mapping[str, Spec]) -> None:
        self._members: Dict[str, List[Spec]] = {}
        self._networks: Dict[str, Dict[str, None]] = {}
        self._more: Dict[str, List[str]] = {}
        for key in sorted(endpoints):
            endpoint = endpoints[key]
            self._members.setdefault(endpoint["network"], []).append(endpoint)
            self._networks.setdefault(endpoint["workload"], {})[endpoint["network"]] = None
            more = [f"{address}\t{name}" for name, address in sorted(endpoint["hosts"].items())]
            self._more.setdefault(endpoint["workload"], []).extend(more)
        self._pages: Dict[str, str] = {}

    def text(self, workload: str) -> str:
        """The lines for one workload, each ended; empty where it belongs to no network."""
        pages = "".join(self._page(network) for network in self._networks.get(workload, ()))
        return pages + "".join(line + "\n" for line in self._more.get(workload, ()))

    def _page(self, network: str) -> str:
        """The members of one network: the same for all of them, so it is made once."""
        page = self._pages.get(network)
        if page is None:
            page = self._pages[network] = "".join(
                "\t".join((address.partition("/")[0], " ".join((member["name"], *member["aliases"])))) + "\n"
                for member in self._members[network]
                for address in member["addresses"]
            )
        return page

    def readers(self, networks: Iterable[str]) -> Set[str]:
        """The workloads that know the members of these networks."""
        return {member["workload"] for network in networks for member in self._members.get(network, ())}


def digest(text: str) -> str:
    """What a plan and the registry say of the lines."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
