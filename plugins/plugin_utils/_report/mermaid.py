# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The topology as a Mermaid flowchart, which merge requests and wikis draw by themselves.

They draw no more than 500 lines between boxes, so beyond :data:`MOST` boxes the rest is only counted. What
is wrong comes before what is right, and who has endpoints before who has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from .pools import L3

MOST = 150
#: Names of Mermaid's own classes, and what they look like on light and on dark.
_STYLES = {
    "error": "stroke:#d0342c,stroke-width:3px",
    "drift": "stroke:#b26b00,stroke-width:3px,stroke-dasharray:5 3",
    "warning": "stroke:#8a7a00,stroke-width:2px",
    "away": "stroke-dasharray:3 3",
}
_WORST = {"error": 3, "drift": 2, "warning": 1}


class _Chart:
    def __init__(self, doc: Mapping[str, Any]) -> None:
        self.doc = doc
        self.lines: list[str] = []
        self.used: set[str] = set()
        self._sub: dict[tuple[int, str], str] = {}  # the box of each sub-interface: several networks may share one
        self._marks: dict[tuple[int, str, str], str] = {}
        for row in reversed(doc["findings"]):  # the worst come first, so they have the last word
            for host in _each(row["hosts"]):
                self._marks[host, row["kind"], row["key"]] = row["level"]
        self._networks: dict[int, list[int]] = defaultdict(list)
        for at, row in enumerate(doc["networks"]):
            for host in _each(row["hosts"]):
                self._networks[host].append(at)
        self._leases: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
        for lease in doc["leases"]:
            if lease["network"] is not None:
                self._leases[lease["host"], lease["network"]].append(lease)

    def draw(self) -> str:
        hosts = sorted(
            range(len(self.doc["hosts"])), key=lambda host: (-_WORST.get(self.doc["hosts"][host]["state"], 0), host)
        )
        shown = sorted(hosts[: MOST // 4])
        room = (MOST - len(shown)) // max(1, len(shown))  # boxes below each host
        self.box("switch", "Switch", None, shape=('(["', '"])'))
        for host in shown:
            self.host(host, room)
        if len(hosts) > len(shown):
            self.box("hosts", f"and {len(hosts) - len(shown)} more hosts", None)
            self.lines.append("  switch --- hosts")
        styles = [f"  classDef {name} {style}" for name, style in _STYLES.items() if name in self.used]
        return "\n".join(["flowchart LR", *self.lines, *styles]) + "\n"

    def host(self, host: int, room: int) -> None:
        row = self.doc["hosts"][host]
        name = f"h{host}"
        trunks = {self.doc["networks"][at]["trunk"] for at in self._networks[host]} - {None}
        under = ", ".join(sorted(trunks)) if row["read"] else "not read"
        self.box(name, row["name"], under, row["state"] if row["state"] != "ok" else "")
        self.lines.append(f"  switch --- {name}")
        networks = sorted(self._networks[host], key=lambda at: -self._weight(host, at))
        # A network takes a box for its sub-interface, one for itself and one for each of its endpoints.
        kept = sorted(networks[: max(1, room // 3)])
        room -= 2 * len(kept)
        for at in kept:
            room -= self.network(host, at, max(1, room))
        if len(networks) > len(kept):
            self.box(f"{name}m", f"and {len(networks) - len(kept)} more networks", None)
            self.lines.append(f"  {name} --- {name}m")

    def network(self, host: int, at: int, room: int) -> int:
        """Draw a network with at most ``room`` endpoints; returns how many boxes they took."""
        row = self.doc["networks"][at]
        name, parent = f"h{host}n{at}", f"h{host}"
        if row["vlan_id"] is not None:
            sub = self._sub.setdefault((host, row["parent"]), f"h{host}s{at}")
            if sub == f"h{host}s{at}":
                self.box(
                    sub, row["parent"], f"VLAN {row['vlan_id']}", self._marks.get((host, "link", row["parent"]), "")
                )
                self.lines.append(f"  {parent} --- {sub}")
            parent = sub
        subnets = ", ".join(subnet["subnet"] for subnet in row["subnets"])
        kind = f"{row['driver']} {row['mode']}"
        shape = ('[["', '"]]') if row["mode"] in L3 else ('("', '")')
        self.box(
            name,
            row["name"],
            f"{subnets}, {kind}" if subnets else kind,
            self._marks.get((host, "network", row["name"]), ""),
            shape,
        )
        self.lines.append(f"  {parent} {'---' if row['trunk'] else '-.-'} {name}")
        leases = self._leases[host, at]
        for position, lease in enumerate(leases[:room]):
            mark = self._marks.get(
                (host, "endpoint", f"{lease['of']}/{lease['name']}"), "" if lease["alive"] else "away"
            )
            held = (*lease["leased_addresses"], *lease["addresses"], *lease["slaac_addresses"])
            addresses = ", ".join(address.partition("/")[0] for address in held)
            self.box(f"{name}e{position}", lease["name"], addresses, mark)
            self.lines.append(f"  {name} --- {name}e{position}")
        if len(leases) > room:
            self.box(f"{name}m", f"and {len(leases) - room} more endpoints", None)
            self.lines.append(f"  {name} --- {name}m")
        return min(len(leases), room)

    def _weight(self, host: int, at: int) -> int:
        """How much a network is worth its place: what is wrong first, then who has endpoints."""
        row = self.doc["networks"][at]
        leases = self._leases[host, at]
        marks = [self._marks.get((host, "network", row["name"])), self._marks.get((host, "link", row["parent"]))]
        marks += [self._marks.get((host, "endpoint", f"{lease['of']}/{lease['name']}")) for lease in leases]
        return max(_WORST.get(mark or "", 0) for mark in marks) * 1000 + min(len(leases), 999)

    def box(
        self, name: str, label: str, under: Optional[str], mark: str = "", shape: tuple[str, str] = ('["', '"]')
    ) -> None:
        text = _escaped(label) + (f"<br>{_escaped(under)}" if under else "")
        if mark:
            self.used.add(mark)
        if mark in _WORST:
            text += f"<br>{mark}"
        self.lines.append(f"  {name}{shape[0]}{text}{shape[1]}" + (f":::{mark}" if mark else ""))


def mermaid(doc: Mapping[str, Any]) -> str:
    """The chart alone, without the fence that Markdown wants around it."""
    return _Chart(doc).draw()


def _each(pairs: Iterable[Iterable[int]]) -> Iterable[int]:
    for first, last in pairs:
        yield from range(first, last + 1)


def _escaped(text: str) -> str:
    """Everything but letters, digits and what addresses are made of becomes an entity of Mermaid's, such as ``#34;``."""
    plain = " ".join(text.split())
    return "".join(char if char.isalnum() or char in " .:/-_,+" else f"#{ord(char)};" for char in plain[:80])
