# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines behind the digests: what stands in our blocks in the files of workloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Set

from ..core.change import Record, Records, digest, items_of
from ..core.lease_specs import Lease
from ..core.specs import Items
from ..core.state import HostState
from .hosts_lines import HostsEntries, hosts_entries
from .resolver_lines import ResolverLines, resolver_lines


@dataclass
class Pages:
    """The lines of the files of each workload."""

    hosts: HostsEntries = field(default_factory=HostsEntries)
    resolver: ResolverLines = field(default_factory=lambda: ResolverLines({}, {}))

    def text(self, kind: str, workload: str) -> str:
        """The lines of a kind of ``change.FILE_KINDS``, each with a line end; empty for none."""
        return self.hosts.text(workload) if kind == "hosts" else self.resolver.text(workload)


def pages(items: Items, leases: Mapping[str, Lease]) -> Pages:
    """The lines that the items of a host ask for, and the leases of its endpoints; of endpoints, those that have their addresses by now."""
    endpoints = {key: spec for key, spec in items["endpoint"].items() if "addresses" in spec}
    return Pages(hosts_entries(endpoints), resolver_lines(endpoints, items["network"], leases))


def followed(records: Records, observed: HostState) -> Records:
    """The records of a run, with what leases made of each resolv.conf since: it is ours, and no run wrote it down."""
    blocks = {workload: observed.blocks.get(("resolver", workload), "") for workload in _leasing(records)}
    return _with_blocks(records, {workload: block for workload, block in blocks.items() if block})


def expected(records: Records, leases: Mapping[str, Lease]) -> Records:
    """The records, with what each resolv.conf has to have by the leases as they are now; nothing where there are none."""
    lines = pages(items_of(records), leases).resolver
    texts = {workload: lines.text(workload) for workload in _leasing(records)}
    return _with_blocks(records, {workload: digest(text) if text else "" for workload, text in texts.items()})


def _leasing(records: Records) -> Set[str]:
    """The workloads with a resolv.conf that leases may fill."""
    specs = [record.spec for record in records.get("endpoint", {}).values()]
    return {
        spec["workload"]
        for spec in specs
        if (spec["dhcp"] or spec["dhcp6"]) and not spec["workload"].startswith("pid:")
    }


def _with_blocks(records: Records, blocks: Mapping[str, str]) -> Records:
    if not blocks:
        return records
    found = {workload: record for workload, record in records.get("resolver", {}).items() if workload not in blocks}
    for workload, block in blocks.items():
        if block:
            found[workload] = Record({"netns": workload, "digest": block}, f"workload:{workload}")
    return {**records, "resolver": found}
