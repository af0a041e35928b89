#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All cases, beside their peers in one run, into one file.

    tests/lab/run --mem 8G -- python3 tests/bench/run.py [--quick] [--only WORD] RESULT.json

``tests/bench/bench`` calls it. Every figure is the median of its rounds, each in a process of its own. What fails or takes
too long is noted in the result, and the others go on. The file is rewritten after each case.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import burden
import peers
import scale
from rooms import Case


class TooLong(Exception):
    """A round is over its limit."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def round_of(case: Case) -> Tuple[Dict[str, float], Optional[str]]:
    """The figures of one round, and why there are not more of them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _perform(case, writer)
    os.close(writer)
    found: Dict[str, float] = {}
    why: Optional[str] = "it ended without a word"
    with open(reader) as lines:
        for line in lines:
            name, value = json.loads(line)
            if name is None:
                why = value
            else:
                found[name] = value
                say(f"    {name:<58} {value:9.3f}{'' if name.endswith('MB') else ' s'}")
    os.waitpid(child, 0)
    try:
        os.killpg(child, signal.SIGKILL)  # what a command that was cut off has left
    except ProcessLookupError:
        pass
    return found, why


def _perform(case: Case, writer: int) -> None:
    """In the child: every figure as a line, and at the end a line that says how it went."""

    def too_long(*_signal: object) -> None:
        raise TooLong

    why = None
    os.setsid()
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(case.limit)
    try:
        for name, value in case.work():
            os.write(writer, f"{json.dumps([name, round(value, 4)])}\n".encode())
    except TooLong:
        why = f"not done after {case.limit} s"
    except BaseException as error:
        why = str(error) or type(error).__name__
    os.write(writer, f"{json.dumps([None, why])}\n".encode())
    os._exit(0)


def measure(case: Case) -> Tuple[List[Dict[str, float]], Optional[str]]:
    """The figures of each round, and the first failure."""
    rounds: List[Dict[str, float]] = []
    failure = None
    for _ in range(case.rounds):
        found, why = round_of(case)
        rounds.append(found)
        if why:
            say(f"    FAILED: {why}")
            failure = why
            break
    return rounds, failure


def medians(rounds: List[Dict[str, float]]) -> Dict[str, float]:
    names = dict.fromkeys(name for found in rounds for name in found)
    return {name: round(statistics.median(found[name] for found in rounds if name in found), 4) for name in names}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    gc.disable()  # as every module does
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes and one round, to see that it works: no figure of it means much",
    )
    parser.add_argument("--only", default="", metavar="WORD", help="the cases with WORD in their names")
    parser.add_argument("result", type=Path)
    wish = parser.parse_args()
    ours, others = scale.cases(wish.quick), peers.cases(wish.quick)
    everything = [case for case in [*ours, *others, *burden.cases(wish.quick)] if wish.only in case.name]
    report: Dict[str, Any] = {
        "commit": git("rev-parse", "--short", "HEAD")
        + ("-dirty" if git("status", "--porcelain", "--untracked-files=no", "plugins") else ""),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "quick": wish.quick,
        "cases": {},
        "rounds": {},
        "series": {scale.OURS: {}, scale.FLOOR: {}, scale.IP: {}},
        "failed": {},
    }
    begin = time.monotonic()
    for number, case in enumerate(everything, 1):
        say(
            f"[{number}/{len(everything)}, {time.monotonic() - begin:.0f} s] {case.name}"
            + (f", {case.rounds} rounds" if case.rounds > 1 else "")
        )
        rounds, why = measure(case)
        found = medians(rounds)
        report["rounds"][case.name] = rounds
        report["series" if case in others else "cases"][case.name] = found
        if why:
            report["failed"][case.name] = why
        for size in scale.SIZES:
            for name in (scale.OURS, scale.FLOOR, scale.IP):
                if case.name == scale.trunk(size) and name in found:
                    report["series"][name][str(size)] = found[name]
        report["seconds"] = round(time.monotonic() - begin)
        report["targets"] = [] if wish.quick else scale.targets(report["rounds"])
        wish.result.write_text(json.dumps(report, indent=1) + "\n")
    for row in report["targets"]:
        low, high = row["spread"] or ("", "")
        say(
            f"{'met   ' if row['met'] else 'MISSED'} {row['is']!s:>8} ({low} to {high}) of {row['goal']:<6} {row['what']}"
        )
    for name, why in report["failed"].items():
        say(f"FAILED {name}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
