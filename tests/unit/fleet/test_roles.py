# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The road of a role: it hands on all that a map can say, and its messages name the variables that its user sets."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.netops.underlay.plugins.module_utils import _argspec
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.plugin_utils import _role
from jinja2.nativetypes import NativeEnvironment

from docs.pages import messages
from tests.support.checkout import CHECKOUT
from tests.unit.engine.test_cures import MAPS, STARTS

MODULES = ("netops.underlay.vlan_map", "netops.underlay.ipvlan_l3_routes")
OMIT = object()
TEMPLATES = NativeEnvironment()


def of_role(role: str, part: str) -> Any:
    return yaml.safe_load((CHECKOUT / "roles" / role / part).read_text(encoding="utf-8"))


def task_of(role: str) -> Dict[str, Any]:
    """The arguments of the task in which a role converges the host, with their templates."""
    (found,) = (task[name] for task in of_role(role, "tasks/main.yml") for name in MODULES if name in task)
    return dict(found)


def known(role: str) -> Dict[str, Any]:
    return dict(of_role(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"])


def arguments(role: str, **variables: Any) -> Dict[str, Any]:
    """What the module is given where a play sets these variables of the role."""
    checked = ArgumentSpecValidator(known(role)).validate(variables)
    assert not checked.error_messages, checked.error_messages
    values = {**of_role(role, "defaults/main.yml"), "trunk_map": False, **variables, "omit": OMIT}
    found = {
        option: TEMPLATES.from_string(text).render(values) if isinstance(text, str) and "{{" in text else text
        for option, text in task_of(role).items()
    }
    return {option: value for option, value in found.items() if value is not OMIT}


def test_a_role_hands_on_every_row_that_was_ever_refused() -> None:
    """So what test_cures shows for a map is so for the role."""
    roads = [make() for _name, make in STARTS]
    for row in (road for road in roads if road.by_map):
        section = next(section for section, kind in model.SECTIONS.items() if kind == row.kind)
        if not isinstance(row.row, dict):
            continue  # the role's own argument specs refuse it before
        given = arguments("trunk", **{f"trunk_{section}": [row.row]}, trunk_adopt=True)
        assert given[section] == [row.row] and given["adopt"] is True
        assert not set(model.SECTIONS) & given.keys() - {section}, "what is not given is not removed"
        if row.kind == "endpoint":
            assert arguments("endpoints", endpoints_list=[row.row])["endpoints"] == [row.row]


def test_a_role_hands_on_what_a_map_has_beside_its_rows() -> None:
    other = {"trunks": "trunk_nics", "name": "trunk_owner"}
    for case in MAPS:
        given = arguments(
            "trunk", **{other.get(option, f"trunk_{option}"): value for option, value in case.options.items()}
        )
        assert {option: given[option] for option in case.options} == case.options


@pytest.mark.parametrize("role", _role.VARIABLES)
def test_each_variable_is_what_the_task_takes_its_option_from(role: str) -> None:
    task = task_of(role)
    for option, variable in _role.VARIABLES[role].items():
        assert re.search(rf"\b{variable}\b", task[option]) and (
            variable in known(role) or variable in of_role(role, "defaults/main.yml")
        )
    assert not set(_role.PLAYS) & task.keys()


def fixes() -> Iterator[str]:
    for part in messages.rooms().values():
        for message in part:
            yield f"{message.text}; {message.cure}" if message.cure else message.text


#: Both roles and plays may set it: the playbook site has it.
ALSO_VARIABLES = {"trunk": {"purge_limit"}, "endpoints": set(), "l3_routing": set()}


@pytest.mark.parametrize("role", _role.VARIABLES)
def test_no_message_names_an_option_that_a_user_of_the_role_cannot_set(role: str) -> None:
    options = {*_argspec.change(), *_argspec.common(), *(("purge", "purge_limit") if role != "l3_routing" else ())}
    named = re.compile(rf"(?<![\w.<])({'|'.join(options - ALSO_VARIABLES[role])}): (?:true|\d|<)")
    naming = [text for text in fixes() if named.search(text)]
    assert len(naming) > 5
    for text in naming:
        result = said(f"netops.underlay.{role}", text)["msg"]
        left = {match[1] for match in named.finditer(result.partition("\n")[0])}
        assert left <= set(_role.PLAYS) and all(f"{option}: ..." in result for option in left), result


class Role(SimpleNamespace):
    def get_name(self) -> str:
        return str(self.name)


def said(name: Optional[str], msg: str, *problems: Tuple[str, str]) -> Dict[str, Any]:
    task = SimpleNamespace(_role=Role(name=name) if name else None)
    rows = [{"path": path, "what": "is wrong", "cure": cure} for path, cure in problems]
    result = {"failed": True, "msg": msg, "problems": rows}
    _role.translate(result, _role.of(task))
    return result


BELONGS = "networks[0].name: blue (a NIC) exists and was not created by us; set adopt: true to take it over, or give another name"


def test_a_fix_names_the_variable_of_the_role() -> None:
    assert said(None, BELONGS)["msg"] == said("other.collection.trunk", BELONGS)["msg"] == BELONGS
    assert "; set trunk_adopt: true to take it over" in said("netops.underlay.trunk", BELONGS)["msg"]
    assert "; set endpoints_adopt: true to take it over" in said("netops.underlay.endpoints", BELONGS)["msg"]
    result = said(
        "netops.underlay.trunk",
        "",
        ("purge", "check the rows; purge_limit: 6 removes them"),
        ("guard_probe.ping[0]", "give an address"),
    )
    assert [(row["path"], row["cure"]) for row in result["problems"]] == [
        ("trunk_purge", "check the rows; purge_limit: 6 removes them"), ("trunk_guard_probe.ping[0]", "give an address"),
    ]  # fmt: skip
    rows = "purge: no rows were given, and what was not given is not removed; give networks, or networks: [] to remove all of this owner"
    assert said("netops.underlay.trunk", rows)["msg"] == (
        "trunk_purge: no rows were given, and what was not given is not removed; "
        "give trunk_networks, or trunk_networks: [] to remove all of this owner"
    )
    assert (
        "fits 2 links: eth0, eth1"
        in said("netops.underlay.trunk", "trunks.up: fits 2 links: eth0, eth1; this host has eth0")["msg"]
    )


def test_what_the_role_has_no_variable_for_is_of_the_play() -> None:
    unknown = "guard_timeout: it is unknown from where this host is managed; give guard_timeout: 60, or the addresses as managed_from"
    assert said("netops.underlay.l3_routing", unknown)["msg"] == (
        "l3_routing_guard_timeout: it is unknown from where this host is managed; "
        "give l3_routing_guard_timeout: 60, or the addresses as managed_from\n"
        "managed_from: in module_defaults of the play, as group/netops.underlay.all: {managed_from: ...}"
    )
