# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as a page of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

from tests.conformance.purposes import PURPOSES
from tests.conformance.runner import Difference, Line, Result

PATH = Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst" / "conformance.rst"

_HEAD = """..
  Copyright: netops.underlay contributors
  SPDX-License-Identifier: GPL-3.0-or-later
  Made by tests/conformance (tests/lab/run -- python -m tests.conformance --write): do not edit.

.. _ansible_collections.netops.underlay.docsite.conformance:

Side by side with Docker
========================

Every example of Docker's guide to its macvlan and ipvlan drivers, and what these drivers do beyond it, is carried out twice on the same
kernel: once by Docker %(version)s, once by this collection. Then both hosts are compared: links, modes, flags, MTU, addresses, routes,
parents that were made and removed, success and refusal, who answers whose pings, and what is heard on the wire. ``docker run`` stands
here without its image; an endpoint lives in a network namespace of its own name. Two refusals are equal if they have one reason.

%(total)d scenarios ran on both sides: %(equal)d come out equal, %(different)d are different on purpose.

%(known)d more ran here only, and are not counted: this version of Docker does not have them yet. Their facts are what is known of the
version that is named.

Not compared
------------

Routes' metric, scope, source address and protocol; routing tables but the main one; link-local addresses; hosts files and name servers;
``docker network inspect``, labels and Docker's own bridge networks; names that Docker's resolver answers, because it needs a firewall
that the lab's kernel does not have: where a ping by name stands, Docker's side is what its guide shows.

Missing here, without a purpose: a size in place of a subnet, and how often an endpoint announces itself.

Purposes
--------

What is different has one of these reasons, and no other.

.. list-table::
   :header-rows: 1
   :widths: 10 90

   * - Purpose
     - Rule
"""


def render(sections: Mapping[str, Sequence[Result]], version: str) -> str:
    results = [result for found in sections.values() for result in found]
    head = _HEAD % {"version": version, **counts(results)}
    lines = [f"   * - {number}\n     - {text}" for number, text in PURPOSES.items()]
    parts = [head + "\n".join(lines) + "\n"]
    for title, found in sections.items():
        parts.append(_heading(title, "-"))
        parts += [_scenario(result) for result in found]
    return "\n".join(parts)


def counts(results: Sequence[Result]) -> Dict[str, int]:
    """What ran on both sides, and what of it is equal; and what is only known of one."""
    both = [result for result in results if not result.scenario.since]
    different = sum(bool(result.differences) for result in both)
    return {
        "total": len(both),
        "equal": len(both) - different,
        "different": different,
        "known": len(results) - len(both),
    }


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _scenario(result: Result) -> str:
    scenario = result.scenario
    rows = [_heading(scenario.name[0].upper() + scenario.name[1:], "~")]
    if scenario.since:
        rows.append(f"Not run: Docker {scenario.since} and newer, as it is known of them.\n")
    rows.append(
        f"On a host made by {_code(scenario.host)}\n" if scenario.host != "true" else "On a host without a NIC.\n"
    )
    rows.append(".. list-table::\n   :header-rows: 1\n   :widths: 42 42 16\n")
    rows.append("   * - Docker\n     - Here\n     - Outcome")
    rows += [_row(line) for line in result.lines]
    rows.append("")
    rows += _told(result)
    return "\n".join(rows)


def _row(line: Line) -> str:
    one, other = line.outcome_of_docker, line.outcome_of_ours
    outcome = f"**{one}**, here **{other}**" if one and one != other else other
    ours = line.ours if line.ours in ("the same", "nothing") else _code(line.ours)
    return f"   * - {_code(line.docker)}\n     - {ours}\n     - {outcome}"


def _told(result: Result) -> List[str]:
    rows = [_difference(found) for found in result.differences] or ["Equal."]
    for line in result.lines:
        said = [f"Docker says {_code(line.said_by_docker)}"] if line.said_by_docker else []
        said += [f"here it is {_code(line.said_by_us)}"] if line.said_by_us else []
        if said:
            text = ", ".join(said)
            rows.append(f"* {text[0].upper()}{text[1:]}")
    return ["\n".join(rows) if result.differences else "\n\n".join([rows[0], "\n".join(rows[1:])]).rstrip(), ""]


def _difference(found: Difference) -> str:
    return f"* {found.purpose}: {found.fact}: Docker {_code(found.docker)}, here {_code(found.ours)}"


def _code(text: str) -> str:
    return f"``{re.sub('[`]+', chr(39), ' '.join(text.split()))}``"
