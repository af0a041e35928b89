# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel holds, in words that are the same for Docker's objects and for ours.

Not looked at, because it says only who made a link: its number, its group, its random MAC (whether it is
the parent's is said), and the part of a dummy's name that is a digest or an identifier.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from typing import Any, Dict, List, Mapping

from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespaces

Facts = Dict[str, str]

#: As Docker and we name the dummy of a network without a parent.
DUMMY = re.compile(r"\b(d[im])-[0-9a-f]{12}\b")
#: How MACs begin that scenarios ask for: they are looked at.
GIVEN = "02:00:5e:"
_LINK_LOCAL = ("fe80::/64", "ff00::/8")


def take(spaces: Mapping[str, str]) -> Facts:
    """The host, and the namespaces of endpoints by their names."""
    rows = _ip("addr")
    host = {row["ifindex"]: row for row in rows}
    facts: Facts = {}
    for row in rows:
        if row["ifname"] != "lo":
            name = plain(row["ifname"])
            facts[f"host {name}"] = _words(row, host) + _addresses(row)
            facts[f"host {name} isolation"] = _isolation(row["ifname"])
    facts["host routes"] = _routes()
    for endpoint, path in sorted(spaces.items()):
        with namespaces.entered(path):
            for row in _ip("addr"):
                if row["ifname"] != "lo":
                    where = f"{endpoint} {row['ifname']}"
                    parent = host.get(row.get("link_index", 0), {})
                    mac = "" if row["address"] == parent.get("address") else ", own MAC"
                    mac = f", MAC {row['address']}" if row["address"].startswith(GIVEN) else mac
                    facts[where] = _words(row, host) + mac
                    facts[f"{where} addresses"] = _addresses(row).lstrip(", ") or "none"
            facts[f"{endpoint} routes"] = _routes()
    return facts


def plain(text: str) -> str:
    return DUMMY.sub(r"\1-DIGEST", text)


def _ip(*arguments: str) -> List[Dict[str, Any]]:
    done = subprocess.run(["ip", "-d", "-j", *arguments], check=True, text=True, stdout=subprocess.PIPE)
    return [row for row in json.loads(done.stdout or "[]") if row]


def _words(row: Mapping[str, Any], host: Mapping[int, Mapping[str, Any]]) -> str:
    info = row["linkinfo"]
    kind, data = info.get("info_kind", "device"), info.get("info_data", {})
    words = [kind]
    if kind == "vlan":
        words = [f"vlan {data['id']} ({data['protocol'].lower()})"]
    elif kind == "macvlan":
        words.append(data["mode"])
    elif kind == "ipvlan":
        words += [data["mode"], next(flag for flag in ("private", "vepa", "bridge") if data.get(flag))]
    below = row.get("link") or host.get(row.get("link_index", 0), {}).get("ifname")
    if below and kind != "veth":
        words.append("on " + plain(below))
    words.append("up" if "UP" in row["flags"] else "down")
    words.append(f"mtu {row['mtu']}")
    return " ".join(words)


def _addresses(row: Mapping[str, Any]) -> str:
    """Those that somebody chose; of link-local ones only that there are some."""
    found = [f"{own['local']}/{own['prefixlen']}" for own in row["addr_info"] if own.get("scope") == "global"]
    return "".join(f", {address}" for address in found)


def _routes() -> str:
    found = []
    for family in ("-4", "-6"):
        for row in _ip(family, "route", "show", "table", "main"):
            if row["dst"] not in _LINK_LOCAL:
                kind = row.get("type", "unicast")
                via = f" via {row['gateway']}" if "gateway" in row else ""
                prefix = row["dst"] if row["dst"] != "default" else f"default {family[1]}"
                head = "" if kind == "unicast" else f"{kind} "
                found.append(f"{head}{prefix}{via} dev {plain(row.get('dev', '-'))}")
    return ", ".join(sorted(found)) or "none"


def _isolation(name: str) -> str:
    """Whether a link lets the host into the VLAN behind it."""
    closed = {"ipv4": {"arp_ignore": 8, "rp_filter": 1, "forwarding": 0}, "ipv6": {"disable_ipv6": 1}}
    for family, settings in closed.items():
        for key, value in settings.items():
            with (
                contextlib.suppress(FileNotFoundError),
                open(f"/proc/sys/net/{family}/conf/{name}/{key}", encoding="ascii") as file,
            ):
                if int(file.read()) != value:
                    return "as the host"
    return "nothing of the host"
