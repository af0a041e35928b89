# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The hosts that a map is for, and the rows that none of them, or two maps at once, would take."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from .cells import Fault
from .endpoint_table import Endpoint
from .mapfile import Settings
from .packed import LoadedMap, MapRow
from .rows import Network
from .scope import group_name, is_for

_SHOWN = 5


@dataclass
class Member:
    """A host that a map is for, as the inventory has it before any template is made."""

    groups: Set[str]
    variables: Mapping[str, Any]

    @property
    def sites(self) -> List[str]:
        """What its variable ``site`` says; a template of it is nothing that an inventory could know."""
        found = self.variables.get("site")
        values = found if isinstance(found, (list, tuple)) else [found]
        return [str(value) for value in values if value is not None and "{{" not in str(value)]

    @property
    def trunks(self) -> Optional[Set[str]]:
        """The logical trunks that it has; None where that is a template."""
        found = self.variables.get("trunk_nics") or {}
        return set(map(str, found)) if isinstance(found, Mapping) else None


class Audience:
    """The hosts of a map, and its rows beside them."""

    def __init__(self, settings: Settings, members: Mapping[str, Member], groups: Collection[str]) -> None:
        self._settings = settings
        self._members = members
        self._groups = groups
        self._takers: Dict[Tuple[Any, ...], Set[str]] = {}

    def check(self, networks: Sequence[Network], endpoints: Sequence[Endpoint], hosts_of: str) -> List[Fault]:
        """Rows that no host would take, each cell once."""
        if hosts_of != "all" and hosts_of not in self._groups:
            place = self._settings.place("hosts_of")
            return [
                Fault(
                    place,
                    "hosts_of",
                    f"there is no group {hosts_of}",
                    "name a group of an inventory that is read before this file",
                )
            ]
        if not self._members:
            place, fix = (
                self._settings.place("hosts_of"),
                "read the inventories with the hosts before this file: Ansible reads files in the order of their names",
            )
            return [Fault(place, "hosts_of", "the map applies to no host", fix)]
        found: Dict[Tuple[str, str], Fault] = {}
        for network in networks:
            for fault in self._astray(network):
                found.setdefault((fault.column, fault.message), fault)
        for endpoint in endpoints:
            if endpoint.host not in self._members:
                found.setdefault(
                    ("host", endpoint.host),
                    Fault(
                        endpoint.row.find("host"),
                        "host",
                        f"the map does not apply to host {endpoint.host}",
                        self._there(),
                    ),
                )
        return list(found.values())

    def _there(self) -> str:
        return f"it applies to {_names(self._members)}"

    def _astray(self, network: Network) -> Iterator[Fault]:
        """What of the scope of a row no host matches, or of its trunk."""
        wrong = [*self._of_site(network), *self._of_group(network), *self._of_hosts(network)]
        yield from wrong
        row = network.data()
        takers = self.takers(row)
        if not wrong and not takers:
            column = next((column for column in ("site", "group") if row.get(column)), "hosts")
            yield Fault(
                network.row.find(column),
                column,
                f"network {network.name} applies to no host: none matches all of site, group and hosts",
                self._there(),
            )
        if network.trunk is None or wrong or not takers:
            return
        trunks = [self._members[host].trunks for host in takers]
        known = set().union(*(some for some in trunks if some))
        if known and all(some is not None for some in trunks) and network.trunk not in known:
            yield Fault(
                network.row.find("trunk"),
                "trunk",
                f"no host has a trunk {network.trunk} in trunk_nics",
                f"they have {_names(sorted(known))}",
            )

    def _of_site(self, network: Network) -> Iterator[Fault]:
        if network.site and not any(
            group_name("site", network.site) in member.groups for member in self._members.values()
        ):
            sites = sorted({site for member in self._members.values() for site in member.sites})
            templates = any("{{" in str(member.variables.get("site")) for member in self._members.values())
            fix = (
                f"their variable site says {_names(sites)}"
                if sites
                else "give hosts the variable site, or a group " + group_name("site", network.site)
            )
            fix += "; an inventory cannot read templates there" if templates else ""
            yield Fault(network.row.find("site"), "site", f"no host is at site {network.site}", fix)

    def _of_group(self, network: Network) -> Iterator[Fault]:
        if network.group and not any(network.group in member.groups for member in self._members.values()):
            message = (
                f"group {network.group} has no host of the map"
                if network.group in self._groups
                else f"there is no group {network.group}"
            )
            yield Fault(
                network.row.find("group"),
                "group",
                message,
                "name a group of an inventory that is read before this file",
            )

    def _of_hosts(self, network: Network) -> Iterator[Fault]:
        for position, pattern in enumerate(network.hosts):
            if not any(fnmatchcase(host, pattern.lstrip("!")) for host in self._members):
                yield Fault(
                    network.row.find(f"hosts[{position}]"), "hosts", f"no host matches {pattern}", self._there()
                )

    def takers(self, row: MapRow) -> Set[str]:
        """The hosts that a row is for. Rows of one scope are asked once."""
        scope = (row.get("site"), row.get("group"), tuple(row.get("hosts") or ()))
        if scope not in self._takers:
            self._takers[scope] = {host for host, member in self._members.items() if is_for(row, host, member.groups)}
        return self._takers[scope]

    def clashes(self, networks: Iterable[Network], others: Sequence[LoadedMap]) -> List[Fault]:
        """Networks and VLANs that another map gives to the same hosts."""
        by_name: Dict[str, LoadedMap] = {}
        by_segment: Dict[Tuple[Any, Any], List[Tuple[MapRow, LoadedMap]]] = {}
        for loaded in others:
            for row in loaded["rows"]:
                by_name.setdefault(str(row["network"]["name"]), loaded)
                if row.get("trunk"):
                    by_segment.setdefault((row.get("trunk"), row.get("vlan")), []).append((row, loaded))
        found = []
        for network in networks:
            if network.name in by_name:
                found.append(Fault(network.row.find("name"), "name", f"{by_name[network.name]['file']} has a network {network.name} too",
                                   "give each network its own name in the whole inventory"))  # fmt: skip
            for row, loaded in by_segment.get((network.trunk, network.vlan), ()) if network.trunk else ():
                both = self.takers(network.data()) & self._of_other(row, loaded)
                if both and not (network.options.get("share_parent") and row["network"].get("share_parent")):
                    where = f"VLAN {network.vlan} on {network.trunk}" if network.vlan else f"{network.trunk} untagged"
                    found.append(Fault(network.row.find("vlan"), "vlan",
                                       f"{where} of {_names(sorted(both))} carries {row['network']['name']} of {loaded['file']} already",
                                       "give it its own VLAN, or set share_parent on both rows"))  # fmt: skip
        return found

    def _of_other(self, row: MapRow, loaded: LoadedMap) -> Set[str]:
        return {
            host
            for host in self.takers(row)
            if loaded["hosts_of"] == "all" or loaded["hosts_of"] in self._members[host].groups
        }


def _names(names: Iterable[str]) -> str:
    there = list(names)
    return ", ".join(there[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
