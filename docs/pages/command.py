# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the command ``underlay``: its own parser, and what its JSON has."""

from __future__ import annotations

import sys
from pathlib import Path

from . import HEAD

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
from module_utils import _manual as manual

#: Commands that the guard and the service call; people never need them.
INTERNAL = frozenset(("confirm", "dhcp", "expire", "watch"))

#: What a program finds in the JSON of each command.
JSON = {
    "show": ("networks, endpoints, leases, links, routes, drift ...", "The keys of :ansplugin:`netops.underlay.vlan_info#module`, ``left`` as in ``drift``, "
             "``held``, and ``unconfirmed`` (the number of a change that waits for its confirmation, or null)."),
    "drift": ("drift, left", "``drift``: a list of changes that would repair the host. ``left``: objects that cannot be repaired now, "
              "each with ``kind``, ``key`` and ``why``."),
    "plan": ("changes, left, notes", "``changes``: each with ``verb``, ``kind``, ``key``, ``before``, ``after`` and ``reason``. "
             "``left`` as above. ``notes``: sentences for people."),
    "restore": ("changes, left, notes", "As ``plan``, of what was done."),
    "undo": ("changes, left, notes", "As ``plan``, of what was done. Without a number: ``transactions``, each with ``number``, ``state``, ``time``, "
             "``who``, ``owner`` and ``why_not``, which is empty where the registry allows the undo."),
    "hold": ("held", "Every name that is held, with the reason."),
    "release": ("held", "As ``hold``."),
    "rehost": ("rehosted", "``clone`` or ``same``."),
}  # fmt: skip


def _code(text: str) -> str:
    return f"``{text}``"


def page() -> str:
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.command:", "",
        "The command ``underlay``", "========================", "",
        ":ansplugin:`netops.underlay.vlan_service#module`, and so the role ``prepare``, install it on a host.",
        "It runs as root, with the same code as the modules. Its manual page is installed beside it (``man underlay``), and so is completion",
        "for bash, which knows the commands, their options, the names of networks and endpoints, and the transactions that can be undone.", "",
        ".. list-table::", "   :header-rows: 1", "   :widths: 34 66", "",
        "   * - Command", "     - What it does",
    ]  # fmt: skip
    commands = [command for command in manual.commands() if command.name not in INTERNAL]
    for command in commands:
        text = manual.sentence(command.text)
        text += "".join(f" ``{it.words}``: {it.text}." for it in command.arguments if it.text)
        lines += [f"   * - {_code(command.usage)}", f"     - {text}"]
    lines += ["", "Options", "-------", "", ".. list-table::", "   :widths: 34 66", ""]
    for option in manual.options():
        lines += [f"   * - {_code(option.words)}", f"     - {manual.sentence(option.text)}"]
    lines += ["", "Exit status", "-----------", "", ".. list-table::", "   :widths: 10 90", ""]
    for number, text in manual.statuses():
        lines += [f"   * - {number}", f"     - {text}"]
    lines += [
        "", "JSON", "----", "",
        "With ``--json``, before or after the command, each command prints one object on one line. Keys are added in later versions, "
        "none is removed within 1.x.", "",
        ".. list-table::", "   :header-rows: 1", "   :widths: 14 30 56", "",
        "   * - Command", "     - Keys", "     - What they are",
    ]  # fmt: skip
    for command in commands:
        keys, about = JSON[command.name]
        lines += [
            f"   * - {_code(command.name)}",
            f"     - {', '.join(map(_code, keys.replace(' ...', '').split(', ')))}",
            f"     - {about}",
        ]
    return "\n".join([*lines, "", *USE, ""])


USE = """\
In scripts
----------

.. code-block:: console

   $ underlay drift --json | jq -r '.drift[] | "\\(.kind) \\(.key)"'
   $ underlay drift > /dev/null || echo "drift, or an error: status $?"

``ip link show group netops-underlay`` and ``ip route show proto netops-underlay`` show the same objects without this command.""".splitlines()
