# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file for the textfile collector of Prometheus' node_exporter, where the host has a directory for it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Dict, List

from .holds import Holds
from .registry import Registry
from .restore import Restored

DIRECTORIES = ("/var/lib/prometheus/node-exporter", "/var/lib/node_exporter/textfile_collector")
NAME = "netops_underlay.prom"


def write(registry: Registry, found: Restored, heals: int, held: Holds) -> None:
    """A disk that is full, or a directory that is not there, is nobody's trouble."""
    for directory in filter(os.path.isdir, DIRECTORIES):
        path = os.path.join(directory, NAME)
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(path + ".new", flags, 0o644), "w", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in _lines(registry, found, heals, held)))
            os.replace(path + ".new", path)


def _lines(registry: Registry, found: Restored, heals: int, held: Holds) -> List[str]:
    confirmed = next((transaction.number for transaction in registry.transactions() if transaction.state == "applied"), 0)
    lines = [
        *_metric("drift", "gauge", "Objects that are not as they were made.", {"": len(found.left)}),
        *_metric("held", "gauge", "Objects that healing keeps its hands off.", {"": len(held)}),
        *_metric("heals_total", "counter", "Objects that were brought back since the service began.", {"": heals}),
        *_metric("last_confirmed_transaction", "gauge", "The number of the last transaction that stands.", {"": confirmed}),
    ]
    used: Dict[str, int] = {}
    size: Dict[str, int] = {}
    for name, record in sorted(found.records.get("network", {}).items()):
        for row in record.spec["subnets"]:
            pool = ipaddress.ip_network(row["ip_range"] or row["subnet"])
            label = f'{{network="{_escaped(name)}",pool="{pool}"}}'
            size[label] = pool.num_addresses
            used[label] = sum(
                ipaddress.ip_interface(address).ip in pool
                for endpoint in found.records.get("endpoint", {}).values()
                if endpoint.spec["network"] == name
                for address in endpoint.spec["addresses"]
            )
    lines += _metric("pool_leases", "gauge", "Addresses of a pool that belong to an endpoint.", used)
    return lines + _metric("pool_size", "gauge", "Addresses that a pool spans, reserved ones included.", size)


def _metric(name: str, kind: str, text: str, values: Dict[str, int]) -> List[str]:
    name = f"netops_underlay_{name}"
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *(f"{name}{label} {value}" for label, value in values.items())]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
