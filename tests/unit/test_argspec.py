# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules document is what they take, and what they take is what the engine knows."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.netops.underlay.plugins.module_utils import _argspec, _module
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import endpoint, model, routes
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.declaration import Declaration
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.network import SUBNET_OPTIONS

PLUGINS = Path(__file__).absolute().parents[2] / "plugins"
#: But those that only document an action plugin, which runs on the controller.
MODULES = sorted(
    path.stem for path in (PLUGINS / "modules").glob("[!_]*.py") if "def main(" in path.read_text(encoding="utf-8")
)
#: Those that declare something, each with its kind of item.
KINDS = {"vlan_link": "vlan", "vlan_network": "network", "vlan_endpoint": "endpoint", "ipvlan_l3_routes": "routes"}

Options = Dict[str, Dict[str, Any]]


def _constants(path: Path) -> Dict[str, Any]:
    """The texts that a file's names stand for, without running it."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            found[node.targets[0].id] = node.value.value
    return found


def documented(module: str) -> Options:
    """A module's documented options, those of its fragments too."""
    documentation = yaml.safe_load(_constants(PLUGINS / "modules" / f"{module}.py")["DOCUMENTATION"])
    options = dict(documentation["options"])
    for name in documentation.get("extends_documentation_fragment", []):
        fragment, _dot, part = name[len("netops.underlay.") :].partition(".")
        if not part:
            options.update(of_fragment(fragment))
    return options


def of_fragment(name: str) -> Options:
    found: Options = yaml.safe_load(_constants(PLUGINS / "doc_fragments" / f"{name}.py")["DOCUMENTATION"])["options"]
    return found


def taken(module: str) -> Options:
    """The argument spec with which a module begins."""

    class Begun(Exception):
        pass

    def begin(_self: AnsibleModule, argument_spec: Options, **_: Any) -> None:
        caught.update(argument_spec)
        raise Begun

    caught: Options = {}
    main = importlib.import_module(f"ansible_collections.netops.underlay.plugins.modules.{module}").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnsibleModule, "__init__", begin)
        with pytest.raises(Begun):
            main()
    return caught


def flat(options: Options, inside: str, path: str = "") -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Every option and suboption by its path, without descriptions; defaults that say nothing left out."""
    for name, option in options.items():
        kept: Dict[str, Any] = {
            key: option[key]
            for key in ("type", "elements", "choices", "default", "required", "aliases")
            if key in option
        }
        kept.setdefault("type", "str")
        for key in ("choices", "aliases"):
            if key in kept:
                kept[key] = [str(value) for value in kept[key]]
        if not kept.get("required"):
            kept.pop("required", None)
        yield path + name, kept
        if option.get(inside):
            yield from flat(option[inside], inside, f"{path}{name}.")


@pytest.mark.parametrize("module", MODULES)
def test_documentation_and_argument_spec_agree(module: str) -> None:
    assert dict(flat(documented(module), "suboptions")) == dict(flat(taken(module), "options"))


@pytest.mark.parametrize("fragment", ["common", "change"])
def test_a_fragment_has_the_function_of_its_name(fragment: str) -> None:
    assert dict(flat(of_fragment(fragment), "suboptions")) == dict(flat(getattr(_argspec, fragment)(), "options"))


@pytest.mark.parametrize("module", MODULES)
def test_every_option_is_described_and_every_module_says_what_it_returns(module: str) -> None:
    texts = _constants(PLUGINS / "modules" / f"{module}.py")
    for name, option in documented(module).items():
        assert option["description"], name
        for suboption, row in option.get("suboptions", {}).items():
            assert row["description"], f"{name}.{suboption}"
    assert yaml.safe_load(texts["EXAMPLES"]) and yaml.safe_load(texts["RETURN"])


@pytest.mark.parametrize("module", sorted({*MODULES, "map_ledger"} - {"vlan_info", "vlan_verify"}))
def test_every_state_has_an_example_with_what_was_before_and_after(module: str) -> None:
    options = documented(module)
    text = _constants(PLUGINS / "modules" / f"{module}.py")["EXAMPLES"]
    tasks = yaml.safe_load(text)
    around = re.split(r"^- name: .*\n(?:^[ ]+.*\n|^\n(?=[ ]))*", text, flags=re.MULTILINE)
    assert len(around) == len(tasks) + 1
    shown = {
        (task[f"netops.underlay.{module}"] or {}).get("state", options.get("state", {}).get("default"))
        for number, task in enumerate(tasks)
        if "# Before:" in around[number] and "# After:" in around[number + 1]
    }
    assert shown == set(options.get("state", {}).get("choices", [None]))


@pytest.mark.parametrize("module", KINDS)
def test_the_engine_knows_exactly_these_options(module: str) -> None:
    known = set(model.OPTIONS[KINDS[module]])
    assert known | {"state"} == set(getattr(_argspec, module)())
    nested = {
        "subnets": SUBNET_OPTIONS,
        "container": endpoint.CONTAINER_OPTIONS,
        "default_route": endpoint.DEFAULT_ROUTE_OPTIONS,
    }
    for option, spec in getattr(_argspec, module)().items():
        if "options" in spec and option in nested:
            assert set(spec["options"]) == set(nested[option]), option
    rows = {"vlan_endpoint": endpoint.ROUTE_OPTIONS, "ipvlan_l3_routes": routes.ROUTE_OPTIONS}
    if module in rows:
        assert set(getattr(_argspec, module)()["routes"]["options"]) == set(rows[module])


def test_a_map_has_a_list_for_each_kind_of_item() -> None:
    options = _argspec.vlan_map()
    assert {name for name, spec in options.items() if spec["type"] == "list"} == set(model.SECTIONS)
    assert set(options) == {"name", "trunks", "purge", "purge_limit", *_module.CONTROLLER, *model.SECTIONS}


#: The least that each module takes.
LEAST: Dict[str, Dict[str, Any]] = {
    "vlan_link": {"parent": "eth0", "vlan_id": 5},
    "vlan_network": {"name": "blue", "driver": "macvlan", "parent": "eth0.5"},
    "vlan_endpoint": {"network": "blue", "name": "one", "netns": "one"},
    "ipvlan_l3_routes": {"name": "set", "routes": [{"prefix": "10.0.0.0/8", "dev": "eth0"}]},
}


def _spec(declared: Declaration) -> Dict[str, Any]:
    assert declared.problems == []
    (item,) = declared.items
    assert item.spec is not None
    return item.spec


def _filled(given: Any, options: Options) -> Any:
    """What Ansible makes of given options: the defaults filled in, suboptions too."""
    filled = {}
    for name, option in options.items():
        value = given.get(name, option.get("default"))
        if "options" in option and isinstance(value, dict):
            value = _filled(value, option["options"])
        elif "options" in option and isinstance(value, list):
            value = [_filled(row, option["options"]) for row in value]
        filled[name] = value
    return filled


@pytest.mark.parametrize("module", KINDS)
def test_a_default_of_a_module_is_that_of_a_row_in_a_map(module: str) -> None:
    """A row of a map, which Ansible fills with nothing, and a task, which it fills with defaults, are the same item."""
    options = getattr(_argspec, module)()
    by_row = _spec(model.declare(KINDS[module], LEAST[module], "present", False))
    filled = {key: value for key, value in _filled(LEAST[module], options).items() if key != "state"}
    assert _spec(model.declare(KINDS[module], filled, "present", False)) == by_row


@pytest.mark.parametrize("module", KINDS)
def test_choices_are_those_of_the_engine(module: str) -> None:
    for name, option in getattr(_argspec, module)().items():
        for choice in option.get("choices", ()) if name != "state" else ():
            assert model.OPTIONS[KINDS[module]][name](choice) == choice
