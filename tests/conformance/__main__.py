# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``tests/lab/run -- python -m tests.conformance``: compares, prints what is not intended; ``--write`` writes the page again."""

from __future__ import annotations

import argparse
import sys

import tests.conftest  # noqa: F401  makes the collection importable
from tests.conformance import page, runner
from tests.conformance.scenarios import SECTIONS
from tests.conformance.sides import Docker, Ours, is_lab


def main() -> int:
    parser = argparse.ArgumentParser(description="Docker's drivers and ours, side by side.")
    parser.add_argument("--write", action="store_true", help=f"write {page.PATH.name}")
    options = parser.parse_args()
    fault = is_lab()
    if fault:
        print(fault, file=sys.stderr)
        return 2
    docker, ours = Docker(), Ours()
    try:
        sections = {
            title: [runner.run(scenario, docker, ours) for scenario in found] for title, found in SECTIONS.items()
        }
        version = docker.version()
    finally:
        docker.stop()
    faults = [
        f"{result.scenario.name}: {fault}" for found in sections.values() for result in found for fault in result.faults
    ]
    faults += runner.list_faults(result for found in sections.values() for result in found)
    print("\n".join(faults) or "equal, or different on purpose")
    if options.write and not faults:
        page.PATH.write_text(page.render(sections, version), encoding="utf-8")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
