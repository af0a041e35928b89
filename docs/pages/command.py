# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the command ``underlay``: its own parser, and what its JSON has."""

from __future__ import annotations

from typing import List

from . import HEAD, manual

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
        "It runs as root, with the same code as the modules.", "",
        ".. list-table::", "   :header-rows: 1", "   :widths: 34 66", "",
        "   * - Command", "     - What it does",
    ]  # fmt: skip
    for command in manual.commands():
        text = f"{command.text[0].upper()}{command.text[1:]}."
        text += "".join(f" ``{it.words}``: {it.text}." for it in command.arguments if it.text)
        lines += [f"   * - {_code(command.usage)}", f"     - {text}"]
    lines += ["", "Options", "-------", "", ".. list-table::", "   :widths: 34 66", ""]
    for option in manual.options(manual.cli._parser()):
        lines += [f"   * - {_code(option.words)}", f"     - {option.text[0].upper()}{option.text[1:]}."]
    lines += ["", "Exit status", "-----------", "", ".. list-table::", "   :widths: 10 90", ""]
    lines += _statuses()
    lines += [
        "", "JSON", "----", "",
        "With ``--json``, before or after the command, each command prints one object on one line. Keys are added in later versions, "
        "none is removed within 1.x.", "",
        ".. list-table::", "   :header-rows: 1", "   :widths: 14 30 56", "",
        "   * - Command", "     - Keys", "     - What they are",
    ]  # fmt: skip
    for command in manual.commands():
        keys, about = JSON[command.name]
        lines += [
            f"   * - {_code(command.name)}",
            f"     - {', '.join(map(_code, keys.replace(' ...', '').split(', ')))}",
            f"     - {about}",
        ]
    return "\n".join([*lines, "", *USE, ""])


def _statuses() -> List[str]:
    rows: List[List[str]] = []
    for line in manual.cli.EPILOG.splitlines()[1:]:
        number, _, text = line.strip().partition("  ")
        if number.isdigit():
            rows.append([number, text.strip()])
        else:
            rows[-1][1] += " " + line.strip()
    return [line for number, text in rows for line in (f"   * - {number}", f"     - {text[0].upper()}{text[1:]}.")]


USE = """\
In scripts
----------

.. code-block:: console

   $ underlay drift --json | jq -r '.drift[] | "\\(.kind) \\(.key)"'
   $ underlay drift > /dev/null || echo "drift, or an error: status $?"

``ip link show group netops-underlay`` and ``ip route show proto netops-underlay`` show the same objects without this command.""".splitlines()
