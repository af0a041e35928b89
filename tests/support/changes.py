# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes as a plan has them, carried out by ``do``."""

from __future__ import annotations

from typing import Any, Callable, List, Optional, Sequence

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    LINK_GROUP,
    PRIVATE_GROUPS,
    PROTOCOL,
    Change,
    Spec,
    address_key,
    link_key,
    route_key,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import HostState, Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.apply import apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe

#: The group that the transaction of a test has to itself.
GROUP = PRIVATE_GROUPS[4711]


def made(kind: str, spec: Spec) -> Change:
    """The creation of an object."""
    key: Callable[[Spec], str] = {
        "netns": lambda spec: str(spec["netns"]),
        "link": lambda spec: link_key(spec["netns"], spec["name"]),
        "address": address_key,
        "route": route_key,
    }[kind]
    return Change(kind, key(spec), None, spec, "test")


def new_link(name: str, kind: str, parent: Optional[str] = "trunk", netns: str = "", **more: Any) -> Change:
    spec = {
        "netns": netns,
        "name": name,
        "kind": kind,
        "up": True,
        "group": LINK_GROUP,
        "isolation": None if netns else "none",
    }
    return made("link", {**spec, **({"parent": parent} if parent else {}), **more})


def new_vlan(vlan_id: int, parent: str = "trunk", **more: Any) -> Change:
    return new_link(f"{parent}.{vlan_id}", "vlan", parent, **{"vlan_id": vlan_id, "protocol": "802.1q", **more})


def new_address(link_name: str, address: str, netns: str = "") -> Change:
    return made("address", {"netns": netns, "link": link_name, "address": address})


def new_route(prefix: str, dev: Optional[str] = None, netns: str = "", **more: Any) -> Change:
    spec = {"netns": netns, "prefix": prefix, "type": "unicast", "via": None, "dev": dev,
            "src": None, "table": 254, "protocol": PROTOCOL}  # fmt: skip
    return made("route", {**spec, "metric": 1024 if ":" in prefix else 0, **more})


def changed(change: Change, **after: Any) -> Change:
    """A change in place of a link that was made."""
    spec = change.after or {}
    identity = {key: spec[key] for key in ("netns", "name")}
    now = observe(Need((spec["netns"],))).find("link", spec) or {}
    before = {**identity, **{key: now.get(key) for key in after}}
    if "sysctls" in after:
        before["sysctls"] = {name: now["sysctls"].get(name) for name in after["sysctls"]}
    return Change(change.kind, change.key, before, {**identity, **after}, "test")


def do(*changes: Change, workloads: Sequence[str] = (), everywhere: bool = False) -> HostState:
    """Observe, apply, observe again."""
    need = Need(tuple(workloads), everywhere, True)
    apply(changes, observe(need), GROUP)
    return observe(need)


def missing(observed: HostState, *changes: Change) -> List[str]:
    """Of what was made, the options that the kernel has otherwise."""
    found = []
    for change in changes:
        spec = change.after or {}
        now = observed.find(change.kind, spec)
        if now is None:
            found.append(f"{change.key} is not there")
        else:
            for key, value in spec.items():
                if value is not None and now.get(key) != value:
                    found.append(f"{change.key} {key}: {now.get(key)!r} for {value!r}")
    return found
