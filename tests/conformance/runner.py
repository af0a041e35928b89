# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a scenario with both sides, and says what is equal and what is different on purpose."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from tests.conformance.picture import Facts
from tests.conformance.purposes import MOST, PURPOSES
from tests.conformance.scenarios import AnyStep, Hear, Look, Ping, Scenario, Shell, Step, Task
from tests.conformance.sides import Docker, Ours, Side, Wire

ABSENT = "absent"


class Difference(NamedTuple):
    fact: str
    docker: str
    ours: str
    purpose: Optional[str]  # None: not intended


class Line(NamedTuple):
    """One step as the page shows it."""

    docker: str
    ours: str
    outcome_of_docker: str
    outcome_of_ours: str
    said_by_docker: str
    said_by_us: str


@dataclass
class Result:
    scenario: Scenario
    lines: List[Line] = field(default_factory=list)
    differences: List[Difference] = field(default_factory=list)
    faults: List[str] = field(default_factory=list)

    @property
    def purposes(self) -> Set[str]:
        return {difference.purpose for difference in self.differences if difference.purpose}


class _Course(NamedTuple):
    """What one side did: the facts after every step, and what it said."""

    facts: List[Facts]
    said: List[str]


def run(scenario: Scenario, docker: Docker, ours: Ours) -> Result:
    result = Result(scenario)
    mine = _go(scenario, ours)
    if scenario.since:
        theirs = _Course([], [])
        pictures = [facts for step, facts in zip(scenario.steps, mine.facts) if isinstance(step, Step)]
        there = {**pictures[-1], **{title(step): facts[title(step)] for step, facts in zip(scenario.steps, mine.facts)}}
        pairs = [(dict(scenario.expected), {fact: there.get(fact, ABSENT) for fact in scenario.expected})]
    else:
        theirs = _go(scenario, docker)
        pairs = [_with_reasons(scenario, position, theirs, mine) for position in range(len(scenario.steps))]
    seen: Dict[str, Difference] = {}
    for before, after in pairs:
        for fact in sorted({*before, *after}):
            one, other = before.get(fact, ABSENT), after.get(fact, ABSENT)
            if one != other:
                found = Difference(fact, one, other, _purpose(scenario, fact))
                seen.setdefault(str(found[:3]), found)
    result.differences = list(seen.values())
    for position, step in enumerate(scenario.steps):
        about = title(step)
        one = theirs.facts[position][about] if theirs.facts else scenario.expected.get(about, "")
        said = theirs.said[position] if theirs.said else ""
        result.lines.append(
            Line(_docker_words(step), _our_words(step), one, mine.facts[position][about], said, mine.said[position])
        )
    result.faults = _faults(result)
    return result


#: Why something is refused, by what either side says. The first that fits counts.
REASONS = {
    "a choice that there is not": "(mode|flag) '.*' is not valid|is not a choice|has no mode",
    "the loopback": r"loopback|\blo\.",
    "no VLAN ID": "vlan id|is no VLAN ID",
    "a VLAN that exists": "vlan link: file exists|already exists as",
    "no such parent": "invalid subinterface|interface name format|not found on the (Docker )?host|does not exist; this host|is gone: ",
    "a parent in use": "already using parent|is the parent of|device or resource busy",
    "no such network": "^network .* not found|there is no network",
    "endpoints of the network": "has active endpoints|has the endpoints",
    "host bits": "it should be|has host bits",
    "outside of the subnet": "no matching subnet for .*[0-9]$|is not inside|no configured subnet|is in no subnet",
    "no address": "invalid CIDR|is not an? (IP )?(address|subnet)|no matching subnet for .*x$",
    "no address is free": "no available|no address is free|non-overlapping|overlap what this host reaches",
    "an address that is taken": "already in use|is held by|is the gateway|is reserved|own address|broadcast address",
    "a MAC that cannot be given": "custom mac address|have the MAC of their parent",
    "a subnet that is everything": "pool is empty|covers every address",
}


def reason(said: str) -> str:
    """The class of a refusal; its own words where it is in none."""
    return next((name for name, pattern in REASONS.items() if re.search(pattern, said, re.IGNORECASE)), said)


def _with_reasons(scenario: Scenario, position: int, theirs: _Course, mine: _Course) -> Tuple[Facts, Facts]:
    """The facts of both sides after a step. Two refusals are equal only if they have one reason."""
    about = title(scenario.steps[position])
    one, other = theirs.facts[position], mine.facts[position]
    if one.get(about) == other.get(about) == "refused":
        reasons = reason(theirs.said[position]), reason(mine.said[position])
        if reasons[0] != reasons[1]:
            return {**one, about: f"refused: {reasons[0]}"}, {**other, about: f"refused: {reasons[1]}"}
    return one, other


def _go(scenario: Scenario, side: Side) -> _Course:
    side.fresh(scenario.host, scenario.again)
    facts: List[Facts] = []
    said: List[str] = []
    wire = Wire(scenario.wire) if scenario.wire else None
    try:
        for position, step in enumerate(scenario.steps):
            if not isinstance(step, Step):
                facts.append({title(step): _find_out(side, step, wire)})
                said.append("")
                continue
            outcome, words = side.carry_out(step)
            there = side.take() if _is_worth_a_look(scenario, position) else {}
            facts.append({**there, title(step): outcome})
            said.append(words)
    finally:
        if wire:
            wire.close()
        side.fresh("true")
    return _Course(facts, said)


def _find_out(side: Side, step: AnyStep, wire: Optional[Wire]) -> str:
    """The answer to a step that changes nothing."""
    if isinstance(step, Ping):
        return "answers" if step.named and side.is_docker else side.ping(step)
    if isinstance(step, Look):
        return side.look(step)
    if isinstance(step, Hear) and wire is not None:
        return wire.hear(step.what, side.hears(step))
    raise TypeError(step)


def _is_worth_a_look(scenario: Scenario, position: int) -> bool:
    """Whether what a step made might be gone after the next: to look costs as much as to make."""
    later = [step for step in scenario.steps[position + 1 :] if isinstance(step, Step)]
    return not later or not later[0].tasks or any(task.state != "present" for task in later[0].tasks)


def title(step: AnyStep) -> str:
    """What a step is about, the same words for both sides."""
    if isinstance(step, Ping):
        return f"ping from {step.start} to {step.target}"
    if isinstance(step, Look):
        return f"{step.start} {step.about}"
    if isinstance(step, Hear):
        return f"wire {step.what}"
    if not step.tasks:
        return "host"
    last = step.tasks[-1]
    name = last.options["name"]
    return f"{last.kind} {name}" + ("" if last.state == "present" else f" {last.state}")


def _purpose(scenario: Scenario, fact: str) -> Optional[str]:
    return next((purpose for pattern, purpose in scenario.differs.items() if fnmatch.fnmatchcase(fact, pattern)), None)


def _faults(result: Result) -> List[str]:
    faults = [
        f"{found.fact}: Docker has {found.docker!r}, we have {found.ours!r}, and no purpose is given"
        for found in result.differences
        if found.purpose is None
    ]
    for pattern, purpose in result.scenario.differs.items():
        if purpose not in PURPOSES:
            faults.append(f"{pattern}: there is no purpose {purpose}")
        if not any(
            _purpose(result.scenario, found.fact) == purpose and fnmatch.fnmatchcase(found.fact, pattern)
            for found in result.differences
        ):
            faults.append(f"{pattern}: purpose {purpose} is no longer needed, both are equal")
    return faults


def _docker_words(step: AnyStep) -> str:
    if isinstance(step, Ping):
        return f"ping {step.target}, from {step.start}"
    if isinstance(step, Look):
        return f"{step.command}, in {step.start}"
    if isinstance(step, Hear):
        return f"{step.what}, on the wire"
    return step.docker if isinstance(step.docker, str) else step.docker.command


def _our_words(step: AnyStep) -> str:
    if not isinstance(step, Step) or isinstance(step.ours, Shell):
        return "the same"
    if not step.tasks:
        return "nothing"
    return "; ".join(map(_task_words, step.tasks))


def _task_words(task: Task) -> str:
    options = dict(task.options)
    words = [f"{key}={_value(value)}" for key, value in options.items()]
    if task.state != "present":
        words.append(f"state={task.state}")
    return f"vlan_{task.kind} " + " ".join(words)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def list_faults(results: Iterable[Result]) -> List[str]:
    """What is wrong with the list of purposes."""
    used = {purpose for result in results for purpose in result.purposes}
    faults = [f"purpose {purpose} is of no use to any scenario" for purpose in PURPOSES if purpose not in used]
    if len(PURPOSES) > MOST:
        faults.append(f"{len(PURPOSES)} purposes, {MOST} at most")
    return faults
