# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of what the kernel can refuse, made of docs/kernel_errors.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import yaml

from . import HEAD

TABLE = Path(__file__).resolve().parents[1] / "kernel_errors.yml"
TITLES = {
    "vlan": "VLAN sub-interfaces", "macvlan": "macvlan", "ipvlan": "ipvlan", "address": "Addresses", "route": "Routes", "sysctl": "Sysctls",
    "namespace": "Namespaces, and everything else",
}  # fmt: skip


def page() -> str:
    rows: Dict[str, List[Dict[str, Any]]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.kernel_errors:", "",
        "What the kernel refuses", "=======================", "",
        "What check mode says, a real run does. So each errno that the kernel can answer to a request of the engine has a rule that says it",
        "before anything is sent, or a reason why only the kernel can know. In the second case a user's run is rolled back and the message",
        "names the errno. **none** stands for a request that the kernel acknowledges and carries out otherwise.", "",
        "The table is ``docs/kernel_errors.yml``. ``tests/kernel/test_kernel_errors.py`` tries each row on every kernel of the lab: that check",
        "mode and the run refuse it in these words, and that the kernel gives this errno. A new request of the engine gets its rows here first.", "",
        ".. contents::", "   :local:", "",
    ]  # fmt: skip
    for kind, title in TITLES.items():
        lines += [title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", "   :widths: 15 45 40", ""]
        lines += ["   * - Errno", "     - When", "     - Said before"]
        for row in rows.pop(kind):
            said = f"``{row['said']}``" if "said" in row else row["only"]
            lines += [f"   * - {row['errno']}", f"     - {row['when'][0].upper()}{row['when'][1:]}.", f"     - {said}"]
        lines.append("")
    assert not rows, f"sections without a title: {', '.join(rows)}"
    return "\n".join(lines)
