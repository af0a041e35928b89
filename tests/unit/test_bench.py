# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of the bench's results: on its page, and of two of them. The bench itself needs a kernel and a quiet machine."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.bench import page

BENCH = Path(__file__).absolute().parents[1] / "bench"

IP = "ip -batch, bare links"


def result(speed: float = 1.0) -> Dict[str, Any]:
    """Of a machine that is so many times as slow as the first."""
    full = {IP: 3.0, "vlan_map": 1.5, "the kernel's part of vlan_map": 1.0, "vlan_map again, nothing to do": 0.02}
    scaled = {name: value * speed for name, value in full.items()}
    return {
        "commit": "abc1234",
        "kernel": "7.2",
        "python": "3.13",
        "quick": False,
        "cases": {"full trunk 4094": scaled, "endpoints": {"vlan_map": 2.0 * speed}},
        "series": {
            "vlan_map": {"4094": 1.5 * speed},
            IP: {"512": 0.4 * speed, "4094": 3.0 * speed},
            "IfState": {"8": 0.75},
        },
        "failed": {"docker network create": "it has\nno daemon"},
        "targets": [
            {"what": "fast", "is": 0.5, "spread": [0.4, 0.7], "goal": 0.6, "met": True},
            {"what": "small", "is": None, "goal": 1.0, "met": False},
        ],
    }


def compare(
    tmp_path: Path, old: Dict[str, Any], new: Dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    for name, data in (("old.json", old), ("new.json", new)):
        (tmp_path / name).write_text(json.dumps(data))
    words = [
        sys.executable,
        str(BENCH / "compare.py"),
        str(tmp_path / "old.json"),
        str(tmp_path / "new.json"),
        *options,
    ]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_slower_machine_is_no_slower_commit(tmp_path: Path) -> None:
    done = compare(tmp_path, result(), result(3.0))
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.500" not in done.stdout and "0.500   0.500" in done.stdout
    assert done.stdout.count("+0%") == 3


@pytest.mark.parametrize(
    ("case", "seconds", "status"),
    [("full trunk 4094", 1.8, 0), ("full trunk 4094", 2.0, 1), ("endpoints", 2.6, 1), ("endpoints", 1.0, 0)],
)
def test_a_ratio_that_is_worse_by_more_than_a_quarter_is_reported(
    tmp_path: Path, case: str, seconds: float, status: int
) -> None:
    new = result()
    new["cases"][case]["vlan_map"] = seconds
    done = compare(tmp_path, result(), new)
    assert done.returncode == status
    assert done.stderr.startswith(f"WORSE {case}: vlan_map") == bool(status), done.stderr


def test_the_margin_is_a_choice(tmp_path: Path) -> None:
    new = result()
    new["cases"]["endpoints"]["vlan_map"] = 2.2
    assert compare(tmp_path, result(), new).returncode == 0
    assert compare(tmp_path, result(), new, "--margin", "0.05").returncode == 1


def test_what_is_short_is_not_judged_and_what_is_missing_is(tmp_path: Path) -> None:
    new = result()
    new["cases"]["full trunk 4094"]["vlan_map again, nothing to do"] = 0.04
    assert compare(tmp_path, result(), new).returncode == 0
    del new["cases"]["endpoints"]
    done = compare(tmp_path, result(), new)
    assert done.returncode == 1 and "endpoints: vlan_map is missing" in done.stderr


def test_without_a_common_measure_nothing_is_claimed(tmp_path: Path) -> None:
    new = copy.deepcopy(result())
    new["series"][IP] = {"8": 0.1}
    done = compare(tmp_path, result(), new)
    assert done.returncode == 1 and "no size of ip -batch in common" in done.stderr


def test_the_page_tells_goals_ratios_and_failures() -> None:
    text = page.render(result())
    assert "   * - fast\n     - 0.5\n     - 0.4, 0.7\n     - 0.6\n     - met\n" in text
    assert "   * - small\n     - not measured\n     -\n     - 1\n     - **MISSED**\n" in text
    seconds, ratios = text.split("as multiples of ``ip -batch``")
    assert "   * - vlan_map\n     -\n     -\n     - 1.5\n" in seconds
    assert "   * - vlan_map\n     -\n     -\n     - 0.5\n" in ratios
    assert "- docker network create: ``it has no daemon``\n" in text
    assert "commit ``abc1234``" in text and "Linux 7.2" in text and "Python 3.13" in text
