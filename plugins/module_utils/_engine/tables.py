# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as people read it on a terminal of 80 columns."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

WIDTH = 80


def host(found: Dict[str, Any]) -> List[str]:
    """What ``describe.host`` tells, and what is held."""
    lines = _table(["NETWORK", "DRIVER", "PARENT", "SUBNET", "USED"], [row for network in found["networks"] for row in _network(network)])
    lines += _table(["ENDPOINT", "INTERFACE", "WORKLOAD", "ADDRESS"], [row for endpoint in found["endpoints"] for row in _endpoint(endpoint)])
    lines += _table(["LINK", "PARENT", "VLAN", "ADDRESS"], [
        [link["name"], link["parent"], str(link["vlan_id"]), ", ".join(link["addresses"]) or "-"] for link in found["links"]
    ])  # fmt: skip
    lines += _table(["ROUTES", "TO", "VIA"], [
        [routes["name"], route["prefix"], route["via"] or route["dev"] or route["type"]]
        for routes in found["routes"] for route in routes["routes"]
    ])  # fmt: skip
    lines += _table(["TRANSACTION", "STATE", "TIME", "WHO"], [
        [str(row["number"]), row["state"], row["time"], row["who"]] for row in found["transactions"][:10]
    ])  # fmt: skip
    lines += _table(["HELD", "WHY"], [[name, why] for name, why in sorted(found["held"].items())])
    if found["drift"]:
        lines.append(f"{len(found['drift'])} objects are otherwise than they were made: underlay drift")
    if found["unconfirmed"]:
        lines.append(f"transaction {found['unconfirmed']} waits to be confirmed: underlay confirm {found['unconfirmed']}")
    return lines or ["this host has no underlay network"]


def _network(network: Dict[str, Any]) -> List[List[str]]:
    rows = []
    for position, (subnet, pool) in enumerate(zip(network["subnets"], network["pools"])):
        head = [network["name"], f"{network['driver']} {network['mode']}", network["parent"]] if not position else ["", "", ""]
        total = pool["used"] + pool["free"] if pool["free"] is not None else None
        rows.append([*head, subnet["subnet"], f"{pool['used']}/{total}" if total is not None else str(pool["used"])])
    return rows or [[network["name"], f"{network['driver']} {network['mode']}", network["parent"], "-", "-"]]


def _endpoint(endpoint: Dict[str, Any]) -> List[List[str]]:
    name = f"{endpoint['network']}/{endpoint['name']}"
    where = endpoint["interface"] + ("" if endpoint["alive"] else " (gone)")
    first, *rest = endpoint["addresses"] or ["-"]
    return [[name, where, endpoint["workload"], first], *(["", "", "", address] for address in rest)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Columns as wide as they need to be; the widest give way until all fit. An empty table is left out."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(_cell(text, width) for text, width in zip(row, widths)).rstrip() for row in (head, *rows)] + [""]


def _cell(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "~"
