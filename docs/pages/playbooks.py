# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks: what each says of itself in its head, and the variables that it reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List

import yaml

from . import HEAD

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


def about(path: Path) -> str:
    """The comment at the head of a playbook, after the licence."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "SPDX" not in line and "Copyright" not in line:
            lines.append(line[1:].removeprefix(" "))
        elif lines and not line.startswith("#"):
            break
    return "\n".join(lines).strip()


def _prose(text: str) -> List[str]:
    """A comment as reStructuredText: what is indented, or a list of variables, keeps its form."""
    return ["  | " + line if line else "  |" for line in text.replace("*", r"\*").replace("|", r"\|").replace("`", "'").splitlines()]


def variables(path: Path) -> Dict[str, str]:
    """The variables of a play that have a default in it, and that default."""
    return dict(re.findall(r"\{\{\s*([a-z]\w+)\s*\|\s*default\(([^)]*)\)", path.read_text(encoding="utf-8")))


def page() -> str:
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.playbooks:", "",
        "Playbooks", "=========", "",
        "All run by name: ``ansible-playbook -i inventory netops.underlay.site``.", "",
    ]  # fmt: skip
    for path in sorted(PLAYBOOKS.glob("*.yml")):
        if path.name.endswith(".meta.yml"):
            continue
        plays = yaml.safe_load(path.read_text(encoding="utf-8"))
        title = f"netops.underlay.{path.stem}"
        lines += [title, "-" * len(title), "", *_prose(about(path)), ""]
        used = variables(path)
        if used:
            lines += [".. list-table::", "   :header-rows: 1", "", "   * - variable", "     - default"]
            lines += [line for name, value in sorted(used.items()) for line in (f"   * - ``{name}``", f"     - ``{value or 'none'}``")] + [""]
        lines += ["Plays: " + "; ".join(str(play.get("name", play.get("ansible.builtin.import_playbook", "?"))) for play in plays) + ".", ""]
    return "\n".join(lines)
