# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of endpoints inside a workload: our lines of its hosts file.

The members of a network know each other by name and by alias, as on Docker's networks (hosts(5) format).
The lines follow from the endpoints alone, so a plan and the registry carry only a digest of them.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Set

from ..core.endpoint_specs import EndpointSpec, is_tap


def hosts_entries(endpoints: Mapping[str, EndpointSpec]) -> HostsEntries:
    """The hosts file entries of each workload, from the endpoints of a host."""
    entries = HostsEntries()
    for key in sorted(endpoints):
        entries.add(endpoints[key])
    return entries


class HostsEntries:
    """The lines of the workloads' hosts files."""

    def __init__(self) -> None:
        self._members: Dict[str, List[EndpointSpec]] = {}
        self._networks: Dict[str, Dict[str, None]] = {}
        self._more: Dict[str, List[str]] = {}
        self._pages: Dict[str, str] = {}

    def add(self, endpoint: EndpointSpec) -> None:
        """Add an endpoint to the entries of its network."""
        self._members.setdefault(endpoint["network"], []).append(endpoint)
        if is_tap(endpoint):
            return  # its guest has a hosts file of its own
        self._networks.setdefault(endpoint["workload"], {})[endpoint["network"]] = None
        more = [f"{address}\t{name}" for name, address in sorted(endpoint["hosts"].items())]
        self._more.setdefault(endpoint["workload"], []).extend(more)

    def text(self, workload: str) -> str:
        """The lines for one workload, each with a line end; empty if it belongs to no network."""
        pages = "".join(self._page(network) for network in self._networks.get(workload, ()))
        return pages + "".join(line + "\n" for line in self._more.get(workload, ()))

    def _page(self, network: str) -> str:
        """The members of one network: the same for all, so it is built once."""
        page = self._pages.get(network)
        if page is None:
            page = self._pages[network] = "".join(
                "\t".join((address.partition("/")[0], " ".join((member["name"], *member["aliases"])))) + "\n"
                for member in self._members[network]
                for address in member["addresses"]
            )
        return page

    def readers(self, networks: Iterable[str]) -> Set[str]:
        """The workloads whose hosts files have members of these networks."""
        return {
            member["workload"]
            for network in networks
            for member in self._members.get(network, ())
            if not is_tap(member)
        }
