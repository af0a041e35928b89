# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried of every system, and how: each feature is a function of ``SYSTEM.sh``, whose last command asks the kernel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, NamedTuple

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


class System(NamedTuple):
    title: str
    place: str  # where it runs: "namespaces" of its own, the "guest" as it is, or a "host" with systemd


SYSTEMS: Dict[str, System] = {
    "ours": System("netops.underlay", "namespaces"),
    "docker": System("Docker", "guest"),
    "podman": System("netavark (Podman)", "namespaces"),
    "cni": System("CNI plugins", "namespaces"),
    "ifstate": System("IfState", "namespaces"),
    "networkd": System("systemd-networkd", "host"),
    "netplan": System("netplan", "host"),
    "networkmanager": System("NetworkManager", "host"),
}

#: The function of each feature -> what holds if it succeeds.
FEATURES: Dict[str, str] = {
    "check": "It says what a change would do, and does nothing (check mode).",
    "undo": "One command takes the last change back.",
    "quiet_parent": "It makes the 802.1q sub-interface, and the host has no address on it, not even a link-local one.",
    "heal": "A link that somebody removed is back within 15 s, without a command.",
    "others": "When it removes what it made, the link of somebody else on the sub-interface stays.",
    "several": "A link has several addresses.",
    "mac_list": "A macvlan link hears only the MACs of a list (mode source).",
    "rate": "A rate limits a macvlan link.",
    "vlan_list": "One declaration gives a workload a list of VLANs.",
    "slaac": "A link gets its IPv6 address from a router (SLAAC).",
    "source_routing": "A link answers over the way that a request came, by routing rules for its address.",
    "tap": "It makes a macvtap for a virtual machine.",
    "dns": "A workload gets nameservers of its own.",
}


def scripts(system: str) -> Dict[str, str]:
    """The functions of a system by feature; one that is not there is not tried."""
    text = (HERE / f"{system}.sh").read_text(encoding="utf-8")
    found = dict(re.findall(r"^(\w+)\(\) \{ (.*?);? \}$", text, re.MULTILINE | re.DOTALL))
    return {feature: found[feature] for feature in FEATURES if feature in found}


def recorded() -> Dict[str, Any]:
    """What was seen, by system."""
    files = {system: RESULTS / f"{system}.json" for system in SYSTEMS}
    return {system: json.loads(file.read_text(encoding="utf-8")) for system, file in files.items() if file.exists()}
