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
    """A comment as reStructuredText: its paragraphs run on, indented commands keep their form, and options are literals."""
    lines: List[str] = []
    for paragraph in re.split(r"\n(?=  )|\n\n|(?<=\S)\n(?=[a-z_]+: )", text.replace("`", "'")):
        if paragraph.startswith("  "):
            lines += [".. code-block:: console", "", f"   $ {' '.join(paragraph.split())}", ""]
            continue
        words = " ".join(paragraph.split()).replace("*", r"\*").replace("|", r"\|")
        lines += [re.sub(r"(?<![\w`])(-e \S+=\S+|--[a-z]+(?: --[a-z]+)*|-e(?= |\b))", r"``\1``", words), ""]
    return lines


#: Every variable of a playbook that a user may set, and what it does. Those of roles are on the pages of the roles.
VARIABLES: Dict[str, str] = {
    "allocate_move": "Whether addresses of endpoints in use may move.",
    "allocate_release": "What is to be released: ``gone``, ``settled``, or a list of entries.",
    "allocate_rename": "Hosts that got another name, as ``{old: new}``.",
    "canary_hosts": "The pattern of the hosts that go first.",
    "l3_routing_mode": "On hosts that have it, the role ``l3_routing`` runs too.",
    "plan_fail_on_change": "Whether any change is a failure.",
    "purge_limit": "For one run, in place of ``trunk_purge_limit`` and ``site_purge_limit``, such as ``100%``.",
    "report_dir": "Where the files of the report are written, on the controller.",
    "report_title": "The title of the report.",
    "site_batch": "How many hosts are changed at a time: a number, or a percentage. Give it with ``-e``.",
    "site_lost_hosts": "Hosts that are lost for good, or of which nothing is left: other hosts may take their addresses though they cannot be asked.",
    "site_purge_limit": "The most of all hosts' networks or endpoints together that a purge may remove.",
    "teardown_uninstall": "Whether to uninstall the service, the command, the settings and the registry of the host too.",
    "underlay_hosts": "The pattern of the hosts. By default the hosts of the map, or all hosts if there is no map.",
}
#: What playbooks and their tasks set for themselves.
_INTERNAL = re.compile(
    r"(plan|report|verify|limits)_(vars|results?|found|none|frr|data|trunks|endpoints|verified|plans|goes_on|always|handover|waiting|failed)$|inventory_map$"
)
_READ = re.compile(r"(?<![\w.])([a-z]\w+)\)?\s*(?:\|\s*default\(|is defined)")
_ROLE = re.compile(r"(trunk|endpoints|prepare|l3_routing)_")


def variables(path: Path) -> Dict[str, str]:
    """The variables that a playbook and the tasks that it imports read, and their defaults."""
    text = path.read_text(encoding="utf-8")
    plays = yaml.safe_load(text)
    for name in re.findall(r"import_tasks: (tasks/\S+)", text):
        text += (PLAYBOOKS / name).read_text(encoding="utf-8")
    found = dict.fromkeys(_READ.findall(text), "")
    for name in found:
        default = re.search(rf"\b{name}\)?\s*\|\s*default\(((?:[^()]|\([^()]*\))*)\)", text)
        found[name] = default.group(1) if default else ""
    for play in plays:
        if "hosts" in play:
            found.update({name: str(value) for name, value in play.get("vars", {}).items()})
    return {name: value for name, value in found.items() if not _INTERNAL.search(name)}


def lacking() -> List[str]:
    """The variables that have no description, and the descriptions that no playbook reads."""
    read = {name for path in PLAYBOOKS.glob("*.yml") for name in variables(path)}
    missing = [name for name in read - set(VARIABLES) if not _ROLE.match(name)]
    return [
        f"{name}: a variable of a playbook without a description in docs/pages/playbooks.py" for name in sorted(missing)
    ] + [f"{name}: described, and no playbook reads it" for name in sorted(set(VARIABLES) - read)]


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
        lines += [title, "-" * len(title), "", *_prose(about(path))]
        used = variables(path)
        own = {name: value for name, value in used.items() if name in VARIABLES}
        if own:
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 22 30 48", ""]
            lines += ["   * - Variable", "     - Default", "     - What it does"]
            for name, value in sorted(own.items()):
                lines += [f"   * - ``{name}``", f"     - ``{value or 'none'}``", f"     - {VARIABLES[name]}"]
            lines.append("")
        roles = sorted(name for name in used if _ROLE.match(name) and name not in VARIABLES)
        if roles:
            lines += [f"Of its roles it reads {', '.join(f'``{name}``' for name in roles)}.", ""]
        lines += [
            "Plays: "
            + "; ".join(str(play.get("name", play.get("ansible.builtin.import_playbook", "?"))) for play in plays)
            + ".",
            "",
        ]
    return "\n".join(lines)
