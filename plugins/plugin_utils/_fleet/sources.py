# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The map files in the inventory's sources, whether Ansible read them or not.

Where a plugin is disabled, a file has another name or is no YAML, Ansible warns and goes on without the map.
"""

from __future__ import annotations

import os
from typing import Collection, Iterable, Iterator, List

_PLUGIN = b"netops.underlay.netops_map"
_ENDINGS = (".yml", ".yaml", ".json")
_BYTES = 65536


def unread(inventory_sources: Iterable[str], loaded: Collection[str]) -> List[str]:
    """The map files of the sources that are not among those that were loaded, by their real paths."""
    return [
        path
        for source in inventory_sources
        for path in _files(str(source))
        if os.path.realpath(path) not in loaded and _is_map(path)
    ]


def _files(source: str) -> Iterator[str]:
    if os.path.isfile(source):
        yield source
    elif os.path.isdir(source):
        for name in sorted(os.listdir(source)):
            path = os.path.join(source, name)
            if os.path.isdir(path) and name not in ("group_vars", "host_vars"):
                yield from _files(path)
            elif os.path.isfile(path) and not name.startswith("."):
                yield path


def _is_map(path: str) -> bool:
    """Whether a file says that it is for the plugin, or is called like one."""
    if path.endswith(("netops_map.yml", "netops_map.yaml")):
        return True
    if not path.endswith(_ENDINGS):
        return False
    try:
        with open(path, "rb") as file:
            return any(
                line.replace(b'"', b"").replace(b"'", b"").split() == [b"plugin:", _PLUGIN]
                for line in file.read(_BYTES).splitlines()
            )
    except OSError:
        return False
