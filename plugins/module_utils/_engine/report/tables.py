# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of a host for people: cut to the terminal's width, complete in a pipe."""

from __future__ import annotations

import itertools
import os
import sys
from typing import List, Optional, Sequence

from ..core import rates
from .describe import Described

#: The columns that may be cut: a number, an address or a time that lacks its end is another one.
_CUT = frozenset(("NETWORK", "DRIVER", "PARENT", "ENDPOINT", "INTERFACE", "WORKLOAD", "LIMITED", "LINK", "ROUTES", "WHO", "OWNER",
                  "WHY"))  # fmt: skip
#: Of a larger pool only what is used is shown: no host fills a /64.
_COUNTED = 1 << 32


def width() -> Optional[int]:
    """The columns of the terminal; None where the output is read by a program or a file."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80 if sys.stdout.isatty() else None
    except OSError:
        return None


def host(found: Described) -> List[str]:
    """What ``describe.host`` found, what is held, and what waits to be confirmed."""
    lines = table(
        ["NETWORK", "DRIVER", "PARENT", "SUBNET", "USED", "OWNER"],
        [row for network in found["networks"] for row in _network(network)],
    )
    lines += table(
        ["ENDPOINT", "INTERFACE", "WORKLOAD", "ADDRESS"],
        [row for endpoint in found["endpoints"] for row in _endpoint(endpoint)],
    )
    lines += table(
        ["LIMITED", "INGRESS", "EGRESS"], [row for endpoint in found["endpoints"] for row in _limits(endpoint)]
    )
    lines += table(["LINK", "PARENT", "VLAN", "ADDRESS"], [row for link in found["links"] for row in _link(link)])
    lines += table(["ROUTES", "TO", "VIA"], [
        [routes["name"], route["prefix"], route["via"] or route["dev"] or route["type"]]
        for routes in found["routes"] for route in routes["routes"]
    ])  # fmt: skip
    lines += table(["TRANSACTION", "STATE", "TIME", "WHO", "OWNER"], [
        [str(row["number"]), row["state"], row["time"], row["who"], row["owner"]] for row in found["transactions"][:10]
    ])  # fmt: skip
    lines += table(["HELD", "WHY"], [[name, why] for name, why in sorted(found["held"].items())])
    if found["unconfirmed"]:
        lines.append(
            f"transaction {found['unconfirmed']} waits for confirmation: underlay confirm {found['unconfirmed']}"
        )
    return lines or ["this host has no underlay network"]


def _network(network: Described) -> List[List[str]]:
    rows = []
    for position, (subnet, pool) in enumerate(zip(network["subnets"], network["pools"])):
        head = (
            [network["name"], f"{network['driver']} {network['mode']}", network["parent"]]
            if not position
            else ["", "", ""]
        )
        total = pool["used"] + pool["free"] if pool["free"] is not None and pool["free"] < _COUNTED else None
        used = f"{pool['used']}/{total}" if total is not None else str(pool["used"])
        rows.append([*head, subnet["subnet"], used, "" if position else network["owner"]])
    return rows or [
        [network["name"], f"{network['driver']} {network['mode']}", network["parent"], "-", "-", network["owner"]]
    ]


def _endpoint(endpoint: Described) -> List[List[str]]:
    name = f"{endpoint['network']}/{endpoint['name']}"
    vlans = f".{_ranges(endpoint['vlans'])}" if "vlans" in endpoint else ""
    where = endpoint["interface"] + vlans + ("" if endpoint["alive"] else " (gone)")
    learnt = [f"{address} (SLAAC)" for address in endpoint.get("slaac_addresses", ())]
    for kind, dhcp in (("lease_ipv6", "DHCPv6"), ("lease", "DHCP")):
        if kind in endpoint:
            learnt.insert(0, f"{endpoint[kind]['address']} ({dhcp})" if endpoint[kind] else f"none yet ({dhcp})")
    first, *rest = [*endpoint["addresses"], *learnt] or ["-"]
    return [[name, where, endpoint["workload"], first], *(["", "", "", address] for address in rest)]


def _limits(endpoint: Described) -> List[List[str]]:
    """What an endpoint may receive and send, where it is limited."""
    limits = [endpoint.get(f"{direction}_rate") for direction in rates.DIRECTIONS]
    texts = [rates.rate_text(rate) if rate else "-" for rate in limits]
    return [[f"{endpoint['network']}/{endpoint['name']}", *texts]] if any(limits) else []


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers as people write them: ``10,20-29``."""
    runs = [list(run) for _offset, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    ends = [(run[0][1], run[-1][1]) for run in runs]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ends)


def _link(link: Described) -> List[List[str]]:
    first, *rest = link["addresses"] or ["-"]
    return [[link["name"], link["parent"], str(link["vlan_id"]), first], *(["", "", "", address] for address in rest)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Columns as wide as they need to be; on a terminal the widest columns are cut until all fit. An empty table is left out."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    elastic = [column for column, name in enumerate(head) if name in _CUT]
    room = width()
    while room is not None and sum(widths) + 2 * (len(widths) - 1) > room:
        widest = max(elastic, key=lambda column: widths[column], default=None)
        if widest is None or widths[widest] <= 8:
            break
        widths[widest] -= 1
    return ["  ".join(_cell(text, size) for text, size in zip(row, widths)).rstrip() for row in (head, *rows)] + [""]


def _cell(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1] + "~"
