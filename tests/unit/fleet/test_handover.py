# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An address is never on two hosts: who had it before, who may have it still, and what leaves before another one takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import allocate, summary, view
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import ledger as ledgers
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.ledger import Holder, Ledger
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.needs import Fleet, Host

from tests.support.checkout import CHECKOUT
from tests.support.inventories import Inventory

WEB: Any = {
    "network": {"name": "web", "driver": "macvlan", "parent": "t.10", "subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}]}
}  # fmt: skip
WWW: Any = {"network": {**WEB["network"], "name": "www"}}


def after(before: Ledger, rows: Sequence[Any], release: Sequence[str] = (), **hosts: Sequence[str]) -> Ledger:
    """The ledger once ``hosts`` have these endpoints, as network/name, and the playbook allocate has run with allocate_move."""
    there = {
        host: Host([], [{"network": of, "name": name, "netns": name} for of, _, name in (text.partition("/") for text in texts)])
        for host, texts in hosts.items()
    }  # fmt: skip
    fleet = Fleet(rows, there)
    kept, _words, problems = allocate.release(fleet, before, release)
    done = allocate.complete(fleet, kept, True)
    assert not problems and not done.problems
    allocate.remember(fleet, before, done.ledger, "gone" in release)
    read, faults = ledgers.read(done.ledger.text(), "ledger.yml")
    assert not faults and read.entries() == done.ledger.entries() and read.former == done.ledger.former
    assert Ledger.of(read.data()) == read
    return read


def former(ledger: Ledger) -> Dict[str, List[str]]:
    return {address: list(map(str, holders)) for address, holders in ledger.former.items()}


def test_the_ledger_remembers_who_had_an_address() -> None:
    first = after(Ledger(), [WEB], h1=["web/a"], h2=["web/b"], h3=[])
    assert first.former == {} and "former" not in first.text()
    moved = after(first, [WEB], h1=[], h2=["web/b"], h3=["web/a"])
    assert moved.addresses["web"]["10.0.0.2"] == "h3/a" and former(moved) == {"10.0.0.2": ["web/h1/a"]}
    reused = after(moved, [WEB], ["gone"], h1=[], h2=["web/c"], h3=["web/a"])
    assert reused.addresses["web"]["10.0.0.3"] == "h2/c" and former(reused) == {"10.0.0.2": ["web/h1/a"]}, (
        "the same host"
    )
    again = after(reused, [WEB], ["gone"], h1=["web/d"], h2=["web/c"], h3=[])
    assert again.addresses["web"]["10.0.0.2"] == "h1/d" and former(again) == {"10.0.0.2": ["web/h3/a"]}
    assert after(again, [WEB], ["settled"], h1=["web/d"], h2=["web/c"], h3=[]).former == {}


def test_a_network_that_is_renamed_moves_no_address() -> None:
    first = after(Ledger(), [WEB], h1=["web/a"])
    renamed = after(first, [WWW], h1=["www/a"])
    assert renamed.addresses == {"www": {"10.0.0.2": "h1/a"}} and renamed.former == {}


def test_the_subnet_of_another_tenant_is_remembered() -> None:
    first = after(Ledger(), [WEB], h1=["web/a"], h2=[])
    taken = after(first, [WWW], ["gone"], h1=[], h2=["www/a"])
    assert former(taken) == {"10.0.0.2": ["web/h1/a"]}


def test_a_host_that_the_inventory_has_no_longer_is_forgotten_when_what_is_gone_is_released() -> None:
    moved = after(after(Ledger(), [WEB], h1=["web/a"], h2=[]), [WEB], h1=[], h2=["web/a"])
    assert former(after(moved, [WEB], h2=["web/a"])) == {"10.0.0.2": ["web/h1/a"]}, "half an inventory forgets no host"
    assert after(moved, [WEB], ["gone"], h2=["web/a"]).former == {}


def test_a_host_that_is_renamed_is_remembered_by_its_new_name() -> None:
    moved = after(after(Ledger(), [WEB], h1=["web/a"], h2=[]), [WEB], h1=[], h2=["web/a"])
    renamed, _done, problems = allocate.rename(moved, {"h2": "h9"})
    assert (problems, former(renamed)) == ([], {"10.0.0.2": ["web/h1/a"]})
    both, _done, problems = allocate.rename(renamed, {"h9": "h2"})
    back = after(both, [WEB], h1=["web/a"], h2=[])
    renamed, _done, problems = allocate.rename(back, {"h2": "h9"})
    assert former(renamed) == {"10.0.0.2": ["web/h9/a"]}


def test_two_branches_that_both_remember_are_merged() -> None:
    text = 'version: 1\nslices: {}\naddresses: {}\nformer:\n  10.0.0.2: web/h1/a\n  10.0.0.2: "web/h1/a web/h2/a"\n'
    read, faults = ledgers.read(text, "ledger.yml")
    assert not faults and read.former == {"10.0.0.2": [Holder("web", "h1", "a"), Holder("web", "h2", "a")]}


@pytest.mark.parametrize("line", ["10.0.0.2: h1/a", "10.0.0.2:", "10.0.0.2: [web/h1/a]", "nowhere: web/h1/a"])
def test_a_former_holder_that_cannot_be_read(line: str) -> None:
    _read, faults = ledgers.read(f"version: 1\nslices: {{}}\naddresses: {{}}\nformer:\n  {line}\n", "ledger.yml")
    assert [fault.place.line for fault in faults] == [5], faults


# --- before the first host is changed -------------------------------------------------------------

MOVED: List[summary.Moved] = [{"address": "10.0.0.2", "hosts": ["h2"], "former": ["web/h1/shop"]}]
TAKES = {"arriving": {"web": {"10.0.0.2": "shop"}}, "machine": "two"}
FIX = (
    "nothing was changed; make h1 reachable and part of the run, so that the address leaves there first, or, if nothing of it is left there, "
    '-e \'{"site_lost_hosts": ["h1"]}\''
)


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ({"h1": {"unreachable": True, "msg": "no route"}}, "cannot be reached"),
        ({"h1": {}}, "cannot be reached"),
        ({}, "is not part of this run"),
        ({"h1": {"failed": True, "msg": "networks[0]: no\nmore"}}, "cannot be planned: networks[0]: no"),
        ({"h1": {"left_out": ["leaving"], "machine": "one"}}, "gives up more addresses than a result can list"),
    ],
)
def test_an_address_stays_with_a_host_that_cannot_be_asked(old: Dict[str, Any], why: str) -> None:
    found = summary.purge({**old, "h2": TAKES}, "20%", "10%", MOVED)
    assert found["stops"] == [f"h2: 10.0.0.2 stays with endpoint web/shop of h1, which {why}", FIX]
    assert summary.stops({**old, "h2": TAKES}, MOVED, ["h1"]) == []
    assert summary.stops({**old, "h2": {"machine": "two"}}, MOVED) == [], "who has it already takes nothing"
    assert summary.stops({**old, "h2": {"left_out": ["arriving"], "machine": "two"}}, MOVED)[0].startswith(
        "h2: 10.0.0.2 "
    )
    assert summary.plan({host: [one] for host, one in {**old, "h2": TAKES}.items()}, MOVED)["text"][-2] == (
        f"site would stop: h2: 10.0.0.2 stays with endpoint web/shop of h1, which {why}"
    )  # fmt: skip


def test_an_address_of_a_host_that_is_asked_is_taken() -> None:
    assert summary.stops({"h1": {"machine": "one"}, "h2": TAKES}, MOVED) == []


def test_what_is_not_purged_leaves_all_the_same_where_another_host_takes_its_address() -> None:
    left = {"network": {}, "endpoint": {"undeclared": 2, "removed": 0, "of": 2, "first": ["web/old", "web/shop"]}}
    del left["network"]
    results = {
        "h1": {"staying": {"web": {"10.0.0.2": "shop", "10.0.0.3": "old"}}, "undeclared": left, "machine": "one"},
        "h2": TAKES,
    }
    found = summary.purge(results, "0", "0")
    assert found["handover"] == {"h1": [{"network": "web", "name": "shop"}]}
    assert (found["stops"], found["removed"]) == ([], {"network": 0, "endpoint": 0}), "it is no purge"
    text = summary.plan({host: [one] for host, one in results.items()})["text"]
    assert text[:2] == [
        "h1: endpoint web/shop is detached first: another host takes its address",
        "h1: endpoint web/old: no longer in the map, left in place, because trunk_purge is off",
    ]


def test_clones_are_named_before_anything_is_changed() -> None:
    results = {
        "h1": {"machine": "one"},
        "h2": {"machine": "two"},
        "h3": {"machine": "one"},
        "h4": {"unreachable": True},
    }
    (text,) = summary.stops(results)
    assert text.startswith(
        "h1 and h3 have the same machine-id and host name, so their endpoints would have the same MACs; nothing was changed"
    )
    assert summary.stops({"h1": {"machine": "one"}, "h2": {"machine": "two"}}) == []


@pytest.mark.parametrize("taker", [{"unreachable": True}, {"failed": True, "msg": "locked"}, {"left_out": ["staying"]}])
@pytest.mark.parametrize(
    "old",
    [{"staying": {"web": {"10.0.0.2": "shop"}}}, {"leaving": {"www": {"10.0.0.2": "shop"}}}, {"unreachable": True}],
)
def test_a_host_that_could_not_be_asked_what_it_takes_waits(taker: Dict[str, Any], old: Dict[str, Any]) -> None:
    """It may come back before it is its turn, and would announce an address that no other host was made to leave."""
    found = summary.purge({"h1": old, "h2": taker}, "20%", "10%", MOVED)
    assert found["stops"] == [] and list(found["waiting"]) == ["h2"]
    assert found["waiting"]["h2"].startswith(
        "10.0.0.2, which endpoint web/shop of h1 may still have, is to be this host's, which "
    )
    assert summary.waiting({"h1": {}, "h2": taker}, MOVED, ["h1"]) == {}
    assert summary.waiting({"h1": {"machine": "one"}, "h2": taker}, MOVED) == {}, "h1 has it no longer"
    assert summary.waiting({"h1": old, "h2": TAKES}, MOVED) == {}


def test_a_lost_host_that_is_none_is_named() -> None:
    assert summary.stops({"h2": {"machine": "two"}}, MOVED, ["h1", "h2", "hl"]) == [
        "site_lost_hosts: hl is no host of this run, and the ledger took nothing from it; correct the name, or leave it out"
    ]


def test_hosts_to_be_given_up_as_a_text_of_the_command_line() -> None:
    assert summary.names("h1,h2 h3") == summary.names(["h1", "h2", "h3"]) == ["h1", "h2", "h3"]


# --- through Ansible -------------------------------------------------------------------------------

TABLE = "- {vlan: 10, name: web, trunk: up, driver: macvlan, subnets: 10.0.0.0/24}\n"
CONFIG = "plugin: netops.underlay.netops_map\nmaps: [../map/a.yml]\nledger: ../map/ledger.yml\n"
LEDGER = "version: 1\nslices: {}\naddresses:\n  web:\n    10.0.0.2: h2/shop\nformer:\n  10.0.0.2: web/h1/shop\n"
#: A Python that says what the host of a module would: what it was asked goes to a file.
PYTHON = '#!/bin/sh\necho "$1" | sed "s/.*AnsiballZ_/{host} /" >> {log}\ncase "$1" in *vlan_endpoint*) {detach};; esac\ncat <<END\n{answer}\nEND\n'
PLAY = (
    "- hosts: netops_map\n  gather_facts: false\n  strategy: ansible.builtin.linear\n"
    "  tasks: [{import_tasks: PLAYBOOKS/tasks/agree.yml}, {import_tasks: PLAYBOOKS/tasks/limits.yml}]\n"
    "- hosts: netops_map\n  gather_facts: false\n  tasks: [{debug: {msg: this host is changed}}]\n"
).replace("PLAYBOOKS", os.fspath(CHECKOUT / "playbooks"))
GONE = "ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1, ansible_ssh_retries: 0, "


class Site:
    """The beginning of the playbook site with two hosts whose answers a test chooses."""

    def __init__(self, inventory: Inventory, directory: Path) -> None:
        self.inventory, self.directory, self.log = inventory, directory, directory / "asked"
        (directory / "play.yml").write_text(PLAY, encoding="utf-8")

    def run(self, *words: str, old: str = "", detach: str = "true", h1: Dict[str, Any], h2: Dict[str, Any]) -> Any:
        self.log.write_text("", encoding="utf-8")
        for host, answer in (("h1", h1), ("h2", h2)):
            python = self.directory / f"python-{host}"
            python.write_text(
                PYTHON.format(host=host, log=self.log, detach=detach, answer=json.dumps({"changed": False, **answer}))
            )
            python.chmod(0o755)
        hosts = "".join(
            f"    {host}: {{{way}ansible_python_interpreter: {self.directory}/python-{host}, trunk_nics: {{up: eth1}}{more}}}\n"
            for host, way, more in (
                ("h1", old or "ansible_connection: local, ", ""),
                ("h2", "ansible_connection: local, ", ", netops_endpoints: [{network: web, name: shop, netns: shop}]"),
            )
        )
        self.inventory.write(
            hosts_yml=f"all:\n  hosts:\n{hosts}", a_yml=TABLE, netops_map_yml=CONFIG, ledger_yml=LEDGER
        )
        return self.inventory.run("ansible-playbook", os.fspath(self.directory / "play.yml"), *words)

    def detached(self) -> List[str]:
        return [line for line in self.log.read_text(encoding="utf-8").splitlines() if "vlan_endpoint" in line]


@pytest.fixture
def site(inventory: Inventory, tmp_path: Path) -> Site:
    return Site(inventory, tmp_path)


def test_site_changes_no_host_while_an_address_may_be_on_one_that_is_down(site: Site) -> None:
    done = site.run(old=GONE, h1={}, h2=TAKES)
    said = " ".join(done.stdout.split())
    assert done.returncode and "10.0.0.2 stays with endpoint web/shop of h1, which cannot be reached" in said
    assert "this host is changed" not in said
    limited = site.run("--limit", "h2", h1={}, h2=TAKES)
    assert limited.returncode and "of h1, which is not part of this run" in " ".join(limited.stdout.split())
    lost = site.run("-e", '{"site_lost_hosts": ["h1"]}', old=GONE, h1={}, h2=TAKES)
    assert 'ok: [h2] => {\n    "msg": "this host is changed"' in lost.stdout, lost.stdout


def test_site_leaves_out_a_host_that_could_not_be_asked_what_it_takes(site: Site) -> None:
    done = site.run(
        h1={"staying": {"web": {"10.0.0.2": "shop"}}, "machine": "one"}, h2={"failed": True, "msg": "locked"}
    )
    assert done.returncode and "it is left out of this run" in done.stdout
    assert (
        'ok: [h1] => {\n    "msg": "this host is changed"' in done.stdout
        and done.stdout.count("this host is changed") == 1
    )


def test_site_detaches_without_purge_and_stops_where_it_could_not(site: Site) -> None:
    stays = {"staying": {"web": {"10.0.0.2": "shop"}}, "machine": "one"}
    done = site.run(h1=stays, h2=TAKES)
    assert done.returncode == 0 and site.detached() == ["h1 vlan_endpoint.py"], done.stdout
    assert done.stdout.count("this host is changed") == 2
    failed = site.run(h1=stays, h2=TAKES, detach='echo \'{"failed": true, "msg": "locked"}\'; exit 1')
    assert failed.returncode and "this host is changed" not in failed.stdout, failed.stdout


# --- on the host -----------------------------------------------------------------------------------


def test_what_is_no_longer_declared_and_stays_says_its_address() -> None:
    from ansible_collections.netops.underlay.plugins.module_utils._engine.plan import purge

    from tests.support.planning import declare
    from tests.support.simulated_kernel import SimulatedKernel

    kernel = SimulatedKernel("eth0")
    rows: Dict[str, Any] = {
        "name": "trunk",
        "networks": [{"name": "web", "driver": "macvlan", "parent": "eth0.10", "subnets": [{"subnet": "10.0.0.0/24"}]}],
        "endpoints": [{"network": "web", "name": "shop", "netns": "shop", "ipv4_address": "10.0.0.7"}],
    }
    declare(kernel, model.declare_map(rows))
    for more, expected in (
        ({"endpoints": []}, {"web": {"10.0.0.7": "shop"}}),
        ({"endpoints": [], "purge": True, "purge_limit": "100%"}, {}),
        ({}, {}),
    ):
        assert purge.staying(model.declare_map({**rows, **more}), kernel.records) == expected


def test_the_ledgers_of_all_maps_are_asked() -> None:
    from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed

    one = {**packed.faulty("one", []), "ledger": Ledger({}, {"web": {"10.0.0.2": "h2/shop"}}).data()}
    two = {**packed.faulty("two", []), "ledger": Ledger({}, {}, {"10.0.0.2": [Holder("web", "h1", "shop")]}).data()}
    text = packed.pack([one, two])  # type: ignore[list-item]
    assert view.moved({packed.VARIABLE: text}) == MOVED
    other = {"groups": {packed.GROUP: ["h1"]}, "hostvars": {"h1": {packed.VARIABLE: text}}}
    assert view.moved(other) == MOVED, "a host that is in no map asks one that is"
    assert view.moved({"groups": {}}) == []
