# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen, as a page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List, Mapping

from tests.peers.features import FEATURES, SYSTEMS

PATH = Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst" / "peers.rst"

_HEAD = """..
  Copyright: netops.underlay contributors
  SPDX-License-Identifier: GPL-3.0-or-later
  Made by tests/peers (make peers): do not edit.

.. _ansible_collections.netops.underlay.docsite.peers:

What other systems cannot do
============================

Each of these features was tried with each system, on one kernel, by the script below the table. *Yes* means that the kernel showed it
afterwards, *no* that it did not, or that the system refused. A dash means that it was not tried. Where a system has no command or option for
a feature, the one that it would be was given, and what it said is below. Another way to the same end may exist: read the script.

What configures the host's own links (IfState, systemd-networkd, netplan, NetworkManager) was tried on those.

"""


def render(results: Mapping[str, Any]) -> str:
    rows = [_HEAD + ".. list-table::", "   :header-rows: 1", ""]
    rows += _row(["Feature", *(SYSTEMS[system].title for system in results)])
    for feature, text in FEATURES.items():
        rows += _row([text, *(_answer(results[system]["features"].get(feature)) for system in results)])
    rows += [
        "",
        "Versions: "
        + "; ".join(f"{SYSTEMS[system].title} {found['version']}" for system, found in results.items())
        + ".",
        "",
    ]
    for feature, text in FEATURES.items():
        rows += [text, "-" * len(text), ""]
        for system, found in results.items():
            one = found["features"].get(feature)
            if one is not None:
                rows.append(f"* {SYSTEMS[system].title}, {_answer(one)}: {_code(one['ran'])}")
                rows += [f"  -> {_code(one['seen'])}"] if one["seen"] else []
        rows.append("")
    return "\n".join(rows)


def _row(cells: List[str]) -> List[str]:
    return [f"   {'* ' if not position else '  '}- {cell}" for position, cell in enumerate(cells)]


def _answer(one: Any) -> str:
    if one is None:
        return "\\-"
    return "yes" if one["holds"] else "no"


def _code(text: str) -> str:
    return f"``{re.sub('[`]+', chr(39), ' '.join(text.split()))}``"
