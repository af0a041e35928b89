# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file for the textfile collector of Prometheus' node_exporter."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import Dict, List, Tuple

from ..core.errors import RegistryError
from ..core.formats import PARTS, version_of
from ..declare import ipam
from ..run.restore import Restored
from ..store import statedir
from ..store.holds import Holds
from ..store.registry import Registry

NAME = "netops_underlay.prom"


def write(text: str) -> None:
    """Put the file into the service's own directory (RuntimeDirectory=), where it has one. A full disk is no trouble."""
    directory = os.environ.get("RUNTIME_DIRECTORY", "")
    if directory:
        with contextlib.suppress(RegistryError), statedir.replace(os.path.join(directory, NAME), 0o644) as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is: node_exporter is another user
            file.write(text)


def text(registry: Registry, found: Restored, heals: int, held: Holds) -> str:
    """What the file says."""
    return "".join(line + "\n" for line in _lines(registry, found, heals, held))


def _lines(registry: Registry, found: Restored, heals: int, held: Holds) -> List[str]:
    confirmed = next(
        (transaction.number for transaction in registry.transactions() if transaction.state == "applied"), 0
    )
    lines = [
        *_metric("drift", "gauge", "Objects that have drifted.", {"": len(found.left)}),
        *_metric("held", "gauge", "Objects that are held, so not repaired.", {"": len(held)}),
        *_metric("heals_total", "counter", "Objects repaired since the service started.", {"": heals}),
        *_metric(
            "last_confirmed_transaction", "gauge", "The number of the last confirmed transaction.", {"": confirmed}
        ),
    ]
    used: Dict[str, int] = {}
    size: Dict[str, int] = {}
    leases: Dict[str, List[Tuple[int, int]]] = {}
    for endpoint in found.records.get("endpoint", {}).values():
        held_by = leases.setdefault(endpoint.spec["network"], [])
        held_by += ((version_of(it), int(ipaddress.ip_interface(it).ip)) for it in endpoint.spec["addresses"])
    for name, record in sorted(found.records.get("network", {}).items()):
        for row in record.spec["subnets"]:
            pool = row["ip_range"] or row["subnet"]
            label = f'{{network="{_escaped(name)}",pool="{pool}"}}'
            version, length = version_of(pool), pool.rpartition("/")[2]
            if name not in leases and PARTS not in pool and length.isdecimal():  # thousands, which need no parsing
                used[label], size[label] = 0, 1 << (32 if version == 4 else 128) - int(length)
                continue
            ranges = ipam.spans(pool)
            size[label] = sum(high - low + 1 for low, high in ranges)
            used[label] = sum(of == version and ipam.is_within(it, ranges) for of, it in leases.get(name, ()))
    lines += _metric("pool_leases", "gauge", "Addresses of a pool that belong to an endpoint.", used)
    return lines + _metric("pool_size", "gauge", "Addresses that a pool spans, reserved ones included.", size)


def _metric(name: str, kind: str, text: str, values: Dict[str, int]) -> List[str]:
    name = f"netops_underlay_{name}"
    return [
        f"# HELP {name} {text}",
        f"# TYPE {name} {kind}",
        *(f"{name}{label} {value}" for label, value in values.items()),
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
