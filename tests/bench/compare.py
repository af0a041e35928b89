#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Did it become slower? Compare two results of the bench, which may come from two machines.

    tests/bench/compare.py OLD.json NEW.json [--margin 0.25]

Seconds are not compared: each of our figures is divided by what ``ip -batch`` took in the same run for the bare links, of the
same size where the case has it, or else of the largest that both runs have. Exit status 1: a ratio became worse by more
than the margin, or a figure is missing that was there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

IP = "ip -batch, bare links"
#: How the names of our own figures begin; the floor is the kernel's.
OURS = ("vlan_map", "the engine alone", "one task of vlan_map", "ansible-playbook")
#: What takes less than this, in seconds, is noise.
SHORT = 0.05


def ours(result: Mapping[str, Any]) -> Dict[Tuple[str, str], float]:
    return {
        (case, name): value
        for case, figures in result["cases"].items()
        for name, value in figures.items()
        if name.startswith(OURS)
    }


def compare(old: Mapping[str, Any], new: Mapping[str, Any], margin: float) -> Tuple[List[str], List[str]]:
    """A line for each figure, and the faults."""
    sizes = set(old["series"].get(IP, {})) & set(new["series"].get(IP, {}))
    if not sizes:
        return [], ["the two have no size of ip -batch in common, which everything is measured by"]
    most = max(sizes, key=int)

    def measure(result: Mapping[str, Any], case: str) -> float:
        figures = result["cases"][case]
        return float(figures[IP] if IP in figures else result["series"][IP][most])

    lines, faults = [], []
    before, after = ours(old), ours(new)
    for (case, name), seconds in before.items():
        if (case, name) not in after:
            faults.append(f"{case}: {name} is missing")
            continue
        was, now = seconds / measure(old, case), after[case, name] / measure(new, case)
        change = round(now / was - 1, 4) + 0.0  # no minus for nothing
        lines.append(f"{case:<36} {name:<52} {was:7.3f} {now:7.3f} {change:+7.0%}")
        if change > margin and max(seconds, after[case, name]) >= SHORT:
            faults.append(f"{case}: {name} took {was:.3f} of ip -batch, and takes {now:.3f} now: {change:+.0%}")
    return lines, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument(
        "--margin", type=float, default=0.25, help="how much worse a ratio may be (default: %(default)s, a quarter)"
    )
    wish = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (wish.old, wish.new))
    lines, faults = compare(old, new, wish.margin)
    print(
        f"{old['commit']} on {old['kernel']} and {new['commit']} on {new['kernel']}, as shares of ip -batch in the same run"
    )
    print("\n".join(lines))
    for fault in faults:
        print(f"WORSE {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
