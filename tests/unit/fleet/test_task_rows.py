# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a task: from a file, vaulted or not, from the map of the inventory, and never from nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict

import pytest
from ansible.constants import DEFAULT_VAULT_IDENTITY
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.netops.underlay.plugins.plugin_utils import _rows
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed

WEB = {"name": "web", "driver": "macvlan", "parent": "eth1.10", "subnets": [{"subnet": "10.0.10.0/24"}]}
SECRETS = [(DEFAULT_VAULT_IDENTITY, VaultSecret(b"secret"))]


def filled(directory: Path, variables: Any = None, **arguments: Any) -> Dict[str, Any]:
    """What an action plugin makes of the arguments of a task, with files of this directory."""
    loader = DataLoader()
    loader.set_vault_secrets(SECRETS)

    def find(_kind: str, name: str) -> str:
        return loader.path_dwim_relative(os.fspath(directory), "files", name)

    action: Any = SimpleNamespace(
        _task=SimpleNamespace(args={"name": "rack1", **arguments}),
        _loader=loader,
        _find_needle=find,
        _templar=SimpleNamespace(template=lambda value: value),
    )
    return _rows.filled(action, variables or {})


@pytest.mark.parametrize("name", ["rows.yml", "rows.json"])
@pytest.mark.parametrize("vaulted", [False, True])
def test_a_file_on_the_controller(tmp_path: Path, name: str, vaulted: bool) -> None:
    text = json.dumps({"networks": [WEB], "endpoints": []})
    data = VaultLib(SECRETS).encrypt(text.encode(), SECRETS[0][1]) if vaulted else text.encode()
    (tmp_path / name).write_bytes(data)
    assert filled(tmp_path, src=name, purge=True) == {
        "name": "rack1",
        "purge": True,
        "networks": [WEB],
        "endpoints": [],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "src: rows.yml is empty; for a file without rows, write networks: []"),
        ("[]", "src: rows.yml is not a mapping; write networks: with the rows below it"),
        ("networks:\n", "src: networks of rows.yml has no value; leave it out, or write [] for no rows"),
        ("network: []\n", "src: rows.yml has network; known are trunks, links, networks, endpoints, routes"),
        ("networks: [\n", "src: rows.yml is not valid YAML or JSON: while parsing"),
        ("links: []\n", "links: is in rows.yml too; give it in one of them"),
    ],
)
def test_a_file_that_has_no_rows(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.yml").write_text(text, encoding="utf-8")
    with pytest.raises(_rows.RowsError) as error:
        filled(tmp_path, src="rows.yml", links=[], purge=True)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("rows.yml", "networks: [{name: web}]\nendpoints: []\nnetworks: []\n", "networks is given twice in"),
        ("rows.yml", "networks:\n  - {name: web,\n     name: db}\n", "line 3, column 6"),
        ("rows.json", '{"networks": [{"name": "web"}], "networks": []}', "networks is given twice"),
    ],
)
def test_rows_that_a_second_key_would_hide(tmp_path: Path, name: str, text: str, where: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(_rows.RowsError) as error:
        filled(tmp_path, src=name, purge=True)
    assert "is given twice" in str(error.value) and where in str(error.value)


def test_a_merged_key_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "rows.yml").write_text("networks:\n  - &web {name: web, driver: macvlan}\n  - {<<: *web, name: db}\n")
    assert filled(tmp_path, src="rows.yml")["networks"][1] == {"name": "db", "driver": "macvlan"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(_rows.RowsError) as error:
        filled(tmp_path, src="none.yml")
    assert "src: none.yml cannot be read on the controller" in str(error.value)


@pytest.mark.parametrize("arguments", [{}, {"networks": None}, {"trunks": {"a": "eth1"}}])
def test_a_purge_of_rows_that_were_never_given(tmp_path: Path, arguments: Dict[str, Any]) -> None:
    with pytest.raises(_rows.RowsError) as error:
        filled(tmp_path, purge="yes", **arguments)
    assert "purge: no rows were given, and what was not given is not removed" in str(error.value)
    assert filled(tmp_path, purge=True, networks=[])["networks"] == []


def test_the_map_of_the_inventory(tmp_path: Path) -> None:
    loaded: packed.LoadedMap = {
        "file": "m", "hosts_of": "all", "faults": [], "rows": [{"network": WEB, "vlan": 10}], "endpoints": [], "ledger": None, "ledger_file": None,
    }  # fmt: skip
    shop = {"network": "web", "name": "shop", "netns": "shop"}
    known = {
        "inventory_hostname": "h1",
        "group_names": ["netops_map"],
        "netops_endpoints": [shop],
        packed.VARIABLE: packed.pack([loaded]),
    }
    own = {**WEB, "name": "own", "parent": "eth1.11"}
    found = filled(tmp_path, known, inventory_map=True, purge=True, networks=[own])
    assert found["networks"] == [{**WEB, "recreate": True}, own] and found["endpoints"] == [shop]
    for variables, said in (
        ({}, "no map was loaded for this host"),
        (
            {**known, packed.VARIABLE: packed.pack([packed.faulty("m", ["a.csv, line 2: bad"])])},
            "the map has faults:\na.csv, line 2: bad",
        ),
    ):
        with pytest.raises(_rows.RowsError) as error:
            filled(tmp_path, variables, inventory_map=True, purge=True)
        assert said in str(error.value)
