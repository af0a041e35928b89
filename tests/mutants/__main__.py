# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the unit tests notice when the engine is changed? ``make mutants``, or ``python -m tests.mutants --help``.

A seeded sample of small changes to the pure packages, one at a time: a comparison, a boolean operator, a number or a
condition. The tests are collected once, and a first run records which lines each of them passes. Each mutant then is
a fork in which the changed function is put in place of the old one, and the tests that pass its line run, the fastest
first, until one fails. A mutant outside of functions is imported instead, in a process that has not seen the engine.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import pytest
from hypothesis import settings

import tests.conftest  # noqa: F401  makes the collection importable
from tests.mutants.mutate import Mutant, install, mutants, mutated
from tests.support.checkout import CHECKOUT, collections_path

PACKAGES = ("core", "declare", "plan")
ENGINE = collections_path(CHECKOUT) / "ansible_collections/netops/underlay/plugins/module_utils/_engine"
HERE = Path(__file__).parent
CACHE = CHECKOUT / ".cache" / "mutants"
#: Tests of other packages, in processes of their own or of files: none of them looks into the pure packages.
ELSEWHERE = (
    "containers",
    "packages",
    "portable",
    "registry",
    "registry_faults",
    "registry_kills",
    "rtnetlink",
    "watch",
)
TESTS = [
    *(str(path.relative_to(CHECKOUT)) for path in sorted((CHECKOUT / "tests/unit/engine").glob("test_*.py"))
      if path.stem[len("test_") :] not in ELSEWHERE),
    "tests/unit/test_modules.py", "tests/unit/test_argspec.py",
]  # fmt: skip
PYTEST = [
    "-q",
    "-s",
    "-p",
    "no:xdist",
    "-o",
    "timeout=0",
    "-o",
    "addopts=--strict-markers --import-mode=importlib -p no:cacheprovider",
]
EXAMPLES = 60
IDLE = 200
QUICK = 0.05
KILLED, SURVIVED = 10, 11
MEMORY = 4 << 30


class Known:
    """How long each test takes, and which lines of the pure packages it passes."""

    def __init__(self, seconds: Dict[str, float], lines: Dict[str, Dict[str, List[int]]]) -> None:
        self.seconds, self.lines = seconds, lines

    def tests_of(self, mutant: Mutant) -> List[str]:
        """The tests that can notice a mutant, the fastest first."""
        touched = {test: files.get(mutant.file, []) for test, files in self.lines.items()}
        if mutant.function:
            names = [test for test, lines in touched.items() if mutant.line in lines]
        else:  # what only reads a constant passes no line
            names = [test for test, lines in touched.items() if lines or self.seconds[test] < QUICK]
        return sorted(names, key=lambda test: self.seconds[test])


# --- the first run -------------------------------------------------------------------------------


class Tracer:
    """Records the lines that run. A function that showed nothing new for ``IDLE`` calls is not looked at any longer."""

    def __init__(self, files: Dict[str, str]) -> None:
        self.files = files
        self.lines: Dict[str, Set[int]] = {}
        self.left: Dict[Any, int] = {}

    def start(self) -> None:
        self.lines, self.left = {}, {}
        sys.settrace(self._call)

    def _call(self, frame: Any, event: str, argument: Any) -> Optional[Callable[..., Any]]:
        code = frame.f_code
        left = self.left.get(code)
        if left is None:
            left = IDLE if code.co_filename in self.files else 0
        self.left[code] = left - 1
        if left < 1:
            return None
        seen = self.lines.setdefault(self.files[code.co_filename], set())

        def line(frame: Any, event: str, argument: Any) -> Optional[Callable[..., Any]]:
            if frame.f_lineno not in seen:
                seen.add(frame.f_lineno)
                self.left[code] = IDLE
            return line

        return line


def first_run(items: Sequence[pytest.Item], state: str, files: Dict[str, str]) -> Known:
    """Run all tests, unless neither they nor the engine changed since the last time."""
    path = CACHE / "coverage.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["state"] == state:
            return Known(kept["seconds"], kept["lines"])
    from _pytest.runner import runtestprotocol

    tracer = Tracer(files)
    progress = (CACHE / "first-run.log").open("w")
    seconds, lines, failed = {}, {}, []
    for item in items:
        begin = time.monotonic()
        tracer.start()
        try:
            reports = runtestprotocol(item, nextitem=None, log=False)
        finally:
            sys.settrace(None)
        seconds[item.nodeid] = time.monotonic() - begin
        print(f"{seconds[item.nodeid]:6.1f} s  {item.nodeid}", file=progress, flush=True)
        lines[item.nodeid] = {file: sorted(found) for file, found in tracer.lines.items()}
        failed += [item.nodeid for report in reports if report.failed]
    for name in dict.fromkeys(failed):
        print(f"left out, for it fails without a mutant: {name}", flush=True)
        del seconds[name], lines[name]
    path.write_text(json.dumps({"state": state, "seconds": seconds, "lines": lines}))
    return Known(seconds, lines)


# --- one mutant ----------------------------------------------------------------------------------


def child(work: Callable[[], int]) -> int:
    """The PID of a process of its own group, silent, that ends with what ``work`` returns."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = KILLED
        try:
            os.setpgid(0, 0)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            status = work()
        finally:
            os._exit(status)
    return pid


def judge(items: Iterable[pytest.Item], known: Known, most: float) -> int:
    """Run tests until one fails; one that takes far longer than it should ends the process by SIGALRM."""
    from _pytest.runner import runtestprotocol

    end = time.monotonic() + most
    for item in items:
        if time.monotonic() > end:
            break
        signal.setitimer(signal.ITIMER_REAL, 10 + 10 * known.seconds[item.nodeid])
        if any(report.failed for report in runtestprotocol(item, nextitem=None, log=False)):
            return KILLED
    return SURVIVED


def each(sample: Sequence[Mutant], start: Callable[[Mutant], int], jobs: int) -> Dict[Mutant, str]:
    """Start a process for each mutant, some at once; what became of it."""
    found: Dict[Mutant, str] = {}
    running: Dict[int, Mutant] = {}
    left = list(sample)
    while left or running:
        while left and len(running) < jobs:
            mutant = left.pop(0)
            running[start(mutant)] = mutant
        pid, status = os.wait()
        mutant = running.pop(pid)
        found[mutant] = "survived" if os.waitstatus_to_exitcode(status) == SURVIVED else "killed"
        try:
            os.killpg(pid, signal.SIGKILL)  # what its tests left running
        except ProcessLookupError:
            pass
        if found[mutant] == "survived":
            print(f"survived: {describe(mutant)}", flush=True)
    return found


class Mutants:
    """A plugin of pytest: the first run, and then the mutants of functions."""

    def __init__(self, sample: Sequence[Mutant], options: argparse.Namespace, state: str) -> None:
        self.sample, self.options, self.state = sample, options, state

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        files = {str(ENGINE / file): file for file in sources()}
        known = first_run(session.items, self.state, files)
        items = {item.nodeid: item for item in session.items}

        def start(mutant: Mutant) -> int:
            def work() -> int:
                path, source = str(ENGINE / mutant.file), sources()[mutant.file]
                if not install(path, source, mutated(source, mutant.number)):
                    return SURVIVED
                return judge((items[test] for test in known.tests_of(mutant)), known, self.options.seconds)

            return child(work)

        found = each(self.sample, start, self.options.jobs)
        survived = [position for position, mutant in enumerate(self.sample) if found[mutant] == "survived"]
        (CACHE / "functions.json").write_text(json.dumps(survived))
        return True


class Judge:
    """A plugin of pytest in a process whose engine is a mutant: the tests that can notice."""

    def __init__(self, tests: Sequence[str], known: Known, most: float) -> None:
        self.tests, self.known, self.most = tests, known, most

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        os._exit(judge((items[test] for test in self.tests if test in items), self.known, self.most))


def imported(mutant: Mutant, known: Known, most: float) -> int:
    """Run the tests on an engine that is imported as the mutant."""
    from importlib.machinery import SourceFileLoader

    path, source = str(ENGINE / mutant.file), sources()[mutant.file]
    tree = mutated(source, mutant.number)
    read = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str) -> Any:
        return compile(tree, path, "exec", dont_inherit=True) if loader.path == path else read(loader, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]
    tests = known.tests_of(mutant)
    files = sorted({test.partition("::")[0] for test in tests})
    pytest.main([*PYTEST, *files], plugins=[Judge(tests, known, most)])
    return KILLED  # it cannot even be imported


# --- the whole -----------------------------------------------------------------------------------


@functools.cache
def sources() -> Dict[str, str]:
    return {
        str(path.relative_to(ENGINE)): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in sorted((ENGINE / package).glob("*.py"))
    }


def state_of_the_tree() -> str:
    """A digest of all that a run depends on."""
    found = hashlib.sha256(sys.version.encode())
    for directory in (ENGINE.parents[1], CHECKOUT / "tests" / "unit", CHECKOUT / "tests" / "support"):
        for path in sorted(directory.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def describe(mutant: Mutant) -> str:
    place = f"{mutant.file}:{mutant.line}"
    return f"{place}  {mutant.function[0] if mutant.function else '(module)'}: {mutant.before}  ->  {mutant.after}"


def equivalents() -> Dict[Tuple[str, ...], str]:
    """The mutants that no test can kill, and why: blocks of ``equivalent.txt``."""
    found = {}
    for block in (HERE / "equivalent.txt").read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            place, before, after, *reason = lines
            file, _, function = place.partition(" ")
            found[file, function, before.strip(), after.strip()] = " ".join(map(str.strip, reason))
    return found


def choose(options: argparse.Namespace) -> List[Mutant]:
    all_of_them = [
        mutant for file, source in sources().items() for mutant in mutants(file, source) if options.only in file
    ]
    if options.line:
        all_of_them = [mutant for mutant in all_of_them if mutant.line == options.line]
    chosen = random.Random(options.seed).sample(all_of_them, min(options.count, len(all_of_them)))
    return sorted(chosen, key=lambda mutant: (mutant.file, mutant.number))


def fewer_examples() -> None:
    """The same examples each time, and of no test more than ``EXAMPLES``: what they miss counts as survived."""
    settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    settings.load_profile("mutants")
    own = settings.max_examples
    type.__setattr__(settings, "max_examples", property(lambda found: min(EXAMPLES, own.fget(found))))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=300, help="how many mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: %(default)s)")
    parser.add_argument(
        "--only", default="", metavar="PATH", help="those of one file or package, such as plan/expand.py"
    )
    parser.add_argument("--line", type=int, help="those of one line")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once (default: one a processor)")
    parser.add_argument("--seconds", type=float, default=60, help="of tests a mutant (default: %(default)s)")
    parser.add_argument("--least", type=float, default=0, metavar="PERCENT", help="fail if fewer are killed")
    options = parser.parse_args()
    fewer_examples()
    CACHE.mkdir(parents=True, exist_ok=True)
    sample = choose(options)
    state = state_of_the_tree()
    begin = time.monotonic()

    inside = [mutant for mutant in sample if mutant.function]
    if os.fork() == 0:  # what follows starts from a process that has not imported the engine
        status = pytest.main([*PYTEST, *TESTS], plugins=[Mutants(inside, options, state)])
        os._exit(0 if status in (0, pytest.ExitCode.NO_TESTS_COLLECTED) else 1)
    if os.waitstatus_to_exitcode(os.wait()[1]) != 0:
        return 2
    survived = [inside[position] for position in json.loads((CACHE / "functions.json").read_text())]
    kept = json.loads((CACHE / "coverage.json").read_text())
    known = Known(kept["seconds"], kept["lines"])
    outside = [mutant for mutant in sample if not mutant.function]
    found = each(outside, lambda mutant: child(lambda: imported(mutant, known, options.seconds)), options.jobs)
    survived += [mutant for mutant in outside if found[mutant] == "survived"]
    return report(sample, survived, time.monotonic() - begin, options)


def report(sample: Sequence[Mutant], survived: Sequence[Mutant], seconds: float, options: argparse.Namespace) -> int:
    listed = equivalents()
    equal = [mutant for mutant in survived if mutant.key in listed]
    open_ones = [mutant for mutant in survived if mutant.key not in listed]
    for mutant in open_ones:
        print(f"survived: {describe(mutant)}")
    killed = len(sample) - len(survived)
    percent = 100 * killed / max(1, len(sample) - len(equal))
    print(f"seed {options.seed}: {len(sample)} mutants, {killed} killed, {len(equal)} equivalent, {len(open_ones)} survived: "
          f"{percent:.1f} % killed, in {seconds:.0f} s")  # fmt: skip
    return int(percent < options.least)


if __name__ == "__main__":
    sys.exit(main())
