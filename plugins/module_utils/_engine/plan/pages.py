# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines behind the digests: what stands in our blocks in the files of workloads."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.specs import Items
from .hosts_lines import HostsEntries, hosts_entries
from .resolver_lines import ResolverLines, resolver_lines


@dataclass
class Pages:
    """The lines of the files of each workload."""

    hosts: HostsEntries = field(default_factory=HostsEntries)
    resolver: ResolverLines = field(default_factory=lambda: ResolverLines({}))

    def text(self, kind: str, workload: str) -> str:
        """The lines of a kind of ``change.FILE_KINDS``, each with a line end; empty for none."""
        return self.hosts.text(workload) if kind == "hosts" else self.resolver.text(workload)


def pages(items: Items) -> Pages:
    """The lines that the items of a host ask for; of endpoints, those that have their addresses by now."""
    endpoints = {key: spec for key, spec in items["endpoint"].items() if "addresses" in spec}
    return Pages(hosts_entries(endpoints), resolver_lines(endpoints, items["network"]))
