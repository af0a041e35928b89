# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Endpoints as a table beside the map: one row an endpoint, with the host that it is on."""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, Iterator, List, Mapping, NamedTuple, Tuple

from ...module_utils._engine.declare import model
from . import csv_table, yaml_table
from .cells import Fault, Place, Row, several
from .headings import Headings

#: The columns. Those but host and container are options of vlan_endpoint.
COLUMNS = (
    "host", "network", "name", "netns", "container", "interface", "ipv4_address", "ipv6_address", "subnet", "mac_address", "mtu",
    "gw_priority", "source_routing", "probe", "aliases", "source_macs", "ipv4_addresses", "ipv6_addresses", "allowed_addresses",
    "kind", "tap_owner", "tap_group", "tap_mode", "ingress_rate", "ingress_burst", "egress_rate", "egress_burst",
    "dns", "dns_search", "dns_options", "vlans", "dhcp_client_id", "dhcp_hostname",
)  # fmt: skip
#: Those with several values in a cell.
_LISTS = (
    "aliases",
    "source_macs",
    "ipv4_addresses",
    "ipv6_addresses",
    "allowed_addresses",
    "dns",
    "dns_search",
    "dns_options",
    "vlans",
)
SYNONYMS = {"endpoint": "name", "node": "host", "server": "host", "ip": "ipv4_address", "ipv4": "ipv4_address", "ipv6": "ipv6_address",
            "mac": "mac_address", "namespace": "netns", "vip": "allowed_addresses", "vips": "allowed_addresses"}  # fmt: skip
_PATH = re.compile(r"endpoints\[(\d+)\]\.?([a-z_0-9]*)")


class Endpoint(NamedTuple):
    """An endpoint of a table, as ``vlan_endpoint`` takes it."""

    host: str
    options: Dict[str, Any]
    row: Row


def read(
    texts: Mapping[str, str], form: csv_table.CsvFormat, networks: Collection[str]
) -> Tuple[List[Endpoint], List[Fault]]:
    """The endpoints of all files, judged by the engine's model, and what is wrong with them."""
    headings = Headings(COLUMNS, synonyms=SYNONYMS)
    found: List[Row] = []
    faults: List[Fault] = []
    for name, text in texts.items():
        is_yaml = name.lower().endswith((".yml", ".yaml", ".json"))
        table = yaml_table.read(text, name, headings) if is_yaml else csv_table.read(text, name, headings, form)
        if not table.rows and not table.faults:
            faults.append(Fault(Place(name, 1, 1), "", "the table has no rows", "leave it out of endpoints"))
        faults += table.faults
        found += table.rows
    options = [_options(row) for row in found]
    for row in found:
        if not row.cells.get("host"):
            faults.append(Fault(row.find("host"), "host", "is missing", "name its host in the inventory"))
        network = row.cells.get("network")
        if network is not None and str(network) not in networks:
            faults.append(
                Fault(
                    row.find("network"),
                    "network",
                    f"no row of the map is network {network}",
                    "correct the name, or add the row",
                )
            )
    # Two hosts may have an endpoint of one name; within a host the model tells.
    by_host: Dict[str, List[int]] = {}
    for number, row in enumerate(found):
        by_host.setdefault(str(row.cells.get("host")), []).append(number)
    for here in by_host.values():
        faults += _judged([found[number] for number in here], [options[number] for number in here])
    return [Endpoint(str(row.cells.get("host")), given, row) for row, given in zip(found, options)], faults


def _judged(found: List[Row], options: List[Dict[str, Any]]) -> Iterator[Fault]:
    """What the model says of the endpoints of one host, at their cells."""

    def worded(text: str) -> str:
        return _PATH.sub(lambda at: str(found[int(at[1])].place), text)

    for problem in model.declare_map({"name": "endpoints", "endpoints": options}).problems:
        match = _PATH.match(problem.path)
        if match is not None:
            row = found[int(match[1])]
            column = {"engine": "container"}.get(match[2], match[2])
            yield Fault(row.find(column), column, worded(problem.message), problem.fix)


def _options(row: Row) -> Dict[str, Any]:
    """The options of vlan_endpoint. Without a workload it is the namespace of the endpoint's own name."""
    options = {key: value for key, value in row.cells.items() if key != "host"}
    container = options.get("container")
    if isinstance(container, str):
        engine, _colon, name = container.rpartition(":")
        options["container"] = {"engine": engine or "podman", "name": name}
    if "container" not in options and "netns" not in options and "name" in options:
        options["netns"] = str(options["name"])
    for option in _LISTS:
        if option in options:
            options[option] = several(options[option])
    return options
