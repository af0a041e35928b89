# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The maps of an inventory as one variable of one group.

Ansible copies the variables of a group for each host that it lists or templates. Thousands of rows as a structure cost
seconds a host; as one compressed string they cost nothing, and each plugin that needs rows unpacks them in milliseconds.
"""

from __future__ import annotations

import base64
import json
import zlib
from functools import lru_cache
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, TypedDict

#: The group of all hosts that a map is for.
GROUP = "netops_map"
#: Its variable that holds every map, packed.
VARIABLE = "netops_map_data"
#: A host's own variable with its endpoints.
ENDPOINTS = "netops_endpoints"


class _Scope(TypedDict, total=False):
    vlan: int
    trunk: str
    site: str
    group: str
    hosts: List[str]
    per_host: List[int]


class MapRow(_Scope):
    """A network of the map: the options of ``vlan_network``, and the hosts that it is for."""

    network: Dict[str, Any]


class EndpointRow(TypedDict):
    """An endpoint of a table: its host, and the options of ``vlan_endpoint``."""

    host: str
    endpoint: Dict[str, Any]


class LedgerData(TypedDict):
    """The ledger by holder: network -> host -> slices, network -> host -> endpoint -> addresses; and address -> who had it before."""

    slices: Dict[str, Dict[str, List[str]]]
    addresses: Dict[str, Dict[str, Dict[str, List[str]]]]
    former: Dict[str, List[str]]


class LoadedMap(TypedDict):
    """One map file. Where it has faults, it has no rows, and nothing of it may be used."""

    file: str
    owner: Optional[str]  # of what is made from it; None where the file does not say
    hosts_of: str  # the group whose hosts it is for, or "all"
    faults: List[str]
    rows: List[MapRow]
    endpoints: List[EndpointRow]
    ledger: Optional[LedgerData]
    ledger_file: Optional[str]


class MapError(ValueError):
    """Why a host gets no rows: everything at once, a line each."""

    def __init__(self, message: str, lines: Sequence[object] = ()) -> None:
        super().__init__("\n".join([message, *map(str, lines)]))
        self.lines = list(map(str, lines))


def faulty(file: str, faults: Sequence[str]) -> LoadedMap:
    """A map that could not be read: its faults take the place of its rows."""
    return {
        "file": file,
        "owner": None,
        "hosts_of": "all",
        "faults": list(faults),
        "rows": [],
        "endpoints": [],
        "ledger": None,
        "ledger_file": None,
    }


def pack(maps: Sequence[LoadedMap]) -> str:
    """The value of the group's variable."""
    return base64.b64encode(zlib.compress(json.dumps(list(maps)).encode(), 1)).decode()


@lru_cache(maxsize=4)
def _unpacked(text: str) -> Tuple[LoadedMap, ...]:
    return tuple(json.loads(zlib.decompress(base64.b64decode(text))))


def unpack(text: object) -> List[LoadedMap]:
    """The maps that :func:`pack` was given. Not to be changed: plugins of one process share them."""
    return list(_unpacked(str(text)))


#: The owner of maps that name none, where others do: the default of the role trunk.
OWNER = "trunk"


def owner_of(loaded: LoadedMap) -> str:
    return loaded.get("owner") or OWNER


def maps_for(variables: Mapping[str, Any], owner: Optional[str] = None) -> List[LoadedMap]:
    """The maps of a host, by its variables; with ``owner`` those of that owner. Where no map names one, all are everybody's.

    Raises MapError where there is none, or where one has faults: no host is configured from half a map.
    """
    if VARIABLE not in variables:
        raise MapError("no map was loaded for this host; check the warnings above, and the inventory file of netops.underlay.netops_map")  # fmt: skip
    found = unpack(variables[VARIABLE])
    faults = [text for loaded in found for text in loaded["faults"]]
    if faults:
        raise MapError("the map has faults:", faults)
    if owner is not None and any(loaded.get("owner") for loaded in found):
        owners = sorted(set(map(owner_of, found)))
        if owner not in owners:
            raise MapError(
                f"no map of the inventory has the owner {owner}; they have {', '.join(owners)}: set trunk_owner to one of them"
            )
        found = [loaded for loaded in found if owner_of(loaded) == owner]
    groups = set(variables.get("group_names") or ())
    return [loaded for loaded in found if loaded["hosts_of"] == "all" or loaded["hosts_of"] in groups]
