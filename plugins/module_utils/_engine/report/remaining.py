# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of ours on a host, for the warning when its service is removed."""

from __future__ import annotations

from typing import Iterator

from ..core.change import Records
from ..core.errors import RegistryError
from ..store import hostlock
from ..store.registry import Registry

#: Kind of record -> what one, and what several are called.
_COUNTED = {
    "network": ("network", "networks"),
    "endpoint": ("endpoint", "endpoints"),
    "vlan": ("sub-interface", "sub-interfaces"),
    "routes": ("set of routes", "sets of routes"),
    "link": ("link", "links"),
}


def warning(state_dir: str) -> str:
    """One sentence that counts what is recorded of this host; empty where that is nothing.

    ``state_dir`` is where the registry is, unless this host last used another.
    """
    try:
        records, faults = Registry(hostlock.noted() or state_dir).sound()
    except RegistryError as error:
        return f"what this host still has cannot be read: {error}"
    found = list(_counts(records))
    if faults:
        found.append(f"{len(faults)} records that cannot be used")
    if not found:
        return ""
    return (
        f"this host still has {', '.join(found)}, and nothing restores them any more after a reboot; remove them first,"
        " for example with the playbook netops.underlay.teardown"
    )


def _counts(records: Records) -> Iterator[str]:
    for kind, words in _COUNTED.items():
        count = len(records.get(kind, {}))
        if count:
            yield f"{count} {words[count != 1]}"
    leases = sum(len(record.spec["addresses"]) for record in records.get("endpoint", {}).values())
    if leases:
        yield f"{leases} {'lease' if leases == 1 else 'leases'}"
