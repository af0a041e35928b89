# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs attention, worst first, each with its place in the topology.

``error``: it does not work, or will not. ``drift``: an object differs from its record.
``warning``: it works, and will not for long, or somebody has to decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from .._fleet import summary
from .gather import Fleet, Grouped, Row
from .pools import Pools

LEVELS = ("error", "drift", "warning")
#: From here on a pool is called nearly full, in percent.
NEARLY_FULL = 90


class Findings:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._rows = Grouped()
        self._vlans = self._index()

    def add(
        self, level: str, host: int, text: str, kind: str = "host", key: str = "", vlan: Optional[int] = None
    ) -> None:
        if vlan is None:
            vlan = self._vlan(host, kind, key)
        row = {"level": level, "kind": kind, "key": key, "vlan_id": vlan, "text": text}
        self._rows.add(tuple(row.values()), host, dict, row)

    def rows(self) -> list[Row]:
        return sorted(self._rows.finished(), key=lambda row: (LEVELS.index(row["level"]), row["hosts"]))

    def _vlan(self, host: int, kind: str, key: str) -> Optional[int]:
        """The VLAN of what a finding is about."""
        return next(
            (
                vlan
                for hosts, vlan in self._vlans.get((kind, key), ())
                if any(first <= host <= last for first, last in hosts)
            ),
            None,
        )

    def _index(self) -> dict[tuple[str, str], list[tuple[Sequence[Sequence[int]], int]]]:
        """Everything that a finding may be about: the VLAN that it is in, and the hosts where it is."""
        found: dict[tuple[str, str], list[tuple[Sequence[Sequence[int]], int]]] = {}

        def note(kind: str, key: str, hosts: Sequence[Sequence[int]], vlan: Optional[int]) -> None:
            if vlan is not None:
                found.setdefault((kind, key), []).append((hosts, vlan))

        for row in self.fleet.links.finished():
            note("link", row["interface"], row["hosts"], row["vlan_id"])
        for row in self.fleet.networks.finished():
            note("link", row["parent"], row["hosts"], row["vlan_id"])
            note("network", row["name"], row["hosts"], row["vlan_id"])
        for lease in self.fleet.leases:
            if lease["network"] is not None:
                vlan = self.fleet.networks.rows[lease["network"]]["vlan_id"]
                note("endpoint", f"{lease['of']}/{lease['name']}", [[lease["host"], lease["host"]]], vlan)
        return found

    # -- where they come from ---------------------------------------------------------------------

    def of_host(self, host: int, info: Mapping[str, Any]) -> None:
        """What ``vlan_info`` itself says of a host."""
        if info.get("unreachable") or info.get("failed"):
            what = "cannot be reached" if info.get("unreachable") else "could not be read"
            self.add("error", host, _sentence(what, info.get("msg")))
        for drift in _causes(info.get("drift") or ()):
            kind, key = _place(drift)
            self.add("drift", host, _drift(drift), kind, key)
        for link in info.get("adoptable") or ():
            where = f"{link['interface']} in {link['namespace']}"
            self.add(
                "warning",
                host,
                f"{where} has link group 8021 but is in no registry: a task with adopt: true takes it over",
            )
        last = next(iter(info.get("transactions") or ()), None)
        if last and last["state"] == "pending":
            self.add(
                "warning", host, f"change {last['number']} by {last['who']} was interrupted: the next run undoes it"
            )

    def of_pools(self, pools: Pools, rows: Iterable[Row]) -> None:
        for row in rows:
            if not row["size"] or row["used"] * 100 < NEARLY_FULL * row["size"]:
                continue
            full = row["used"] >= row["size"]
            network = row["networks"][0]
            name = self.fleet.networks.rows[network]["name"]
            what = "is full" if full else "is nearly full"
            text = f"pool {row['pool']} of {name} {what}: {row['used']} of {row['size']} addresses held"
            hosts = [row["fullest"]] if row["fullest"] is not None else _each(row["hosts"])
            for host in hosts:
                self.add("error" if full else "warning", host, text, "network", name)
        for address, vlan, leases in pools.doubled():
            holders = " and ".join(
                f"{lease['of']}/{lease['name']} on {self.fleet.names[lease['host']]}" for lease in leases[:4]
            )
            for lease in sorted(leases, key=lambda lease: lease["host"]):
                key = f"{lease['of']}/{lease['name']}"
                self.add("error", lease["host"], f"{address} in VLAN {vlan} is held by {holders}", "endpoint", key)

    def of_plan(self, host: int, result: Mapping[str, Any]) -> None:
        if result.get("failed"):
            self.add("error", host, _sentence("cannot be changed as declared", result.get("msg")))
        self._orphans(host, result)

    def _orphans(self, host: int, result: Mapping[str, Any]) -> None:
        """What the map no longer has, and no run removes."""
        for text in summary.orphans(result):
            self.add("warning", host, f"{text}: {summary.LEFT}")

    def of_verify(self, host: int, result: Mapping[str, Any]) -> None:
        """What ``vlan_verify`` found on the wire, or why it could not look."""
        if result.get("failed") and "findings" not in result:
            self.add("error", host, _sentence("could not be verified", result.get("msg")))
        self._orphans(host, result)
        for finding in result.get("findings") or ():
            network, level = finding.get("network") or "", "drift" if finding["kind"] == "drift" else "error"
            self.add(level, host, finding["text"], "network" if network else "host", network, vlan=finding.get("vlan"))


def _each(pairs: Iterable[Iterable[int]]) -> list[int]:
    return [host for first, last in pairs for host in range(first, last + 1)]


def _sentence(what: str, why: object) -> str:
    return f"{what}: {why}" if why else what


def _causes(drifts: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The drifts without those that only follow: a link that is missing has no addresses and routes, of course."""
    missing = {drift["object"] for drift in drifts if drift["before"] is None}
    for drift in drifts:
        spec = drift["after"] or {}
        netns, device = spec.get("netns"), spec.get("link") or spec.get("dev")
        inside = f"netns {netns}" in missing and drift["object"] != f"netns {netns}"
        follows = "link " + (f"{netns}/{device}" if netns else str(device)) in missing
        again = drift["before"] is not None and drift["object"] in missing
        if not (inside or follows or again):
            yield drift


def _place(drift: Mapping[str, Any]) -> tuple[str, str]:
    """The node of the topology that a drifted object belongs to."""
    kind, key = [*drift["of"].split(":", 1), ""][:2]
    if kind in ("network", "endpoint", "workload"):
        return kind, key
    return ("link", drift["object"].partition(" ")[2]) if drift["object"].startswith("link ") else ("host", "")


def _drift(drift: Mapping[str, Any]) -> str:
    """A drifted object in words. A drift is the change that would repair it."""
    before, after = drift["before"], drift["after"]
    if before is None:
        return f"{drift['object']} is missing"
    if after is None:
        return f"{drift['object']} is still there"
    differ = [option for option in after if before.get(option) != after[option]]
    changed = [_differs(option, before.get(option), after[option]) for option in differ]
    return f"{drift['object']}: {'; '.join(changed)}" if changed else f"{drift['object']} differs from its record"


def _differs(option: str, now: Any, wanted: Any) -> str:
    if option == "up":
        return "is down, should be up" if wanted else "is up, should be down"
    return f"{option} is {_word(now)}, should be {_word(wanted)}"


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
