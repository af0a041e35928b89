# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a named namespace asks for names, as ``ip netns exec`` shows it its resolv.conf."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import process_in, run

pytestmark = pytest.mark.usefixtures("trunk")

BEGIN = "# begin netops.underlay (do not edit between these lines)\n"
END = "# end netops.underlay\n"


def seen(name: str = "one") -> str:
    """What a program in a namespace reads, without our comments."""
    text = run(f"ip netns exec {name} cat /etc/resolv.conf")
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def undo_last(engine: Engine) -> None:
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir)
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)


def test_a_namespace_asks_its_own_nameservers(engine: Engine) -> None:
    own = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    engine.network()
    options = {"dns": ["192.0.2.53", "2001:db8::53"], "dns_search": ["example.com", "lab"], "dns_options": ["ndots:2"]}
    planned = engine.task("endpoint", check=True, network="blue", name="one", netns="one", **options)
    assert not os.path.exists("/etc/netns/one")
    done = engine.task("endpoint", network="blue", name="one", netns="one", **options)
    assert [(it.kind, it.key, it.verb) for it in planned.changes] == [(it.kind, it.key, it.verb) for it in done.changes]
    assert ("resolver", "netns:one") in [(it.kind, it.key) for it in done.changes]
    assert seen() == "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch example.com lab\noptions ndots:2\n"
    assert os.stat("/etc/netns/one/resolv.conf").st_mode & 0o777 == 0o644
    engine.same("one", **options)
    engine.endpoint("one", dns=["192.0.2.54"])
    assert seen() == "nameserver 192.0.2.54\n"
    undo_last(engine)
    assert seen().startswith("nameserver 192.0.2.53\n") and "search" in seen()
    engine.endpoint("one")
    assert not os.path.exists("/etc/netns/one/resolv.conf")
    assert Path("/etc/resolv.conf").read_text(encoding="utf-8") == own
    undo_last(engine)
    assert seen().startswith("nameserver 192.0.2.53\n")
    engine.absent("one")
    assert not os.path.exists("/etc/netns/one")


def test_a_network_gives_its_endpoints_a_default(engine: Engine) -> None:
    engine.network(dns=["192.0.2.53"], dns_search=["example.com"])
    engine.endpoint("one")
    engine.endpoint("two", dns=["192.0.2.54"])
    engine.endpoint("three", dns=[], dns_search=[])
    assert seen("one") == "nameserver 192.0.2.53\nsearch example.com\n"
    assert seen("two") == "nameserver 192.0.2.54\nsearch example.com\n"
    assert not os.path.exists("/etc/netns/three/resolv.conf")
    engine.network(dns=["192.0.2.55"])
    assert seen("one") == "nameserver 192.0.2.55\n" and seen("two") == "nameserver 192.0.2.54\n"
    undo_last(engine)
    assert seen("one") == "nameserver 192.0.2.53\nsearch example.com\n"
    assert engine.network(dns=["192.0.2.53"], dns_search=["example.com"]).changes == []


def test_no_endpoint_has_the_address_of_a_nameserver(engine: Engine) -> None:
    engine.network(dns=["192.0.2.1"])
    engine.endpoint("one")
    assert "inet 192.0.2.2/24" in run("ip -n one -o address show dev eth0")
    engine.endpoint("ns", ipv4_address="192.0.2.1")
    run("ip netns exec one ping -c1 -W2 192.0.2.1")
    with pytest.raises(InputError, match="dns: 192.0.2.2 was assigned to one of blue"):
        engine.network(dns=["192.0.2.2"])


def test_endpoints_of_one_namespace_share_a_resolver(engine: Engine) -> None:
    engine.network()
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    engine.endpoint("one", dns=["192.0.2.53"], dns_search=["blue.example"], dns_options=["ndots:2", "rotate"])
    red = {"dns": ["198.51.100.53", "192.0.2.53"], "dns_search": ["red.example"], "dns_options": ["ndots:1"]}
    engine.endpoint("r", "red", netns="one", gw_priority=1, **red)
    assert seen() == (
        "nameserver 198.51.100.53\nnameserver 192.0.2.53\nsearch red.example blue.example\noptions ndots:1 rotate\n"
    )
    engine.same("one", dns=["192.0.2.53"], dns_search=["blue.example"], dns_options=["ndots:2", "rotate"])
    engine.absent("r", "red")
    assert seen() == "nameserver 192.0.2.53\nsearch blue.example\noptions ndots:2 rotate\n"


def test_lines_of_others_come_back_as_they_were(engine: Engine) -> None:
    theirs = "# mine\nnameserver 10.0.0.53\ndomain corp\noptions rotate"
    run(f"mkdir -p /etc/netns/one; printf '{theirs}' > /etc/netns/one/resolv.conf")
    engine.network()
    engine.endpoint("one", dns=["192.0.2.53"], dns_search=["example.com"])
    assert seen() == "nameserver 192.0.2.53\nsearch example.com\noptions rotate"
    engine.endpoint("one", dns=["192.0.2.53"])
    assert seen() == "nameserver 192.0.2.53\ndomain corp\noptions rotate"
    engine.endpoint("one")
    assert Path("/etc/netns/one/resolv.conf").read_text(encoding="utf-8") == theirs


@pytest.mark.parametrize(
    "damage",
    [
        "sed -i 's/192.0.2.53/10.0.0.1/' $file",
        "sed -i '1i nameserver 10.0.0.1' $file",
        "echo 'nameserver 10.0.0.1' >> $file",
        "rm $file",
        ": > $file",
        "sed -i '/^# end/d' $file",
    ],
)
def test_what_somebody_changes_is_seen_and_healed(engine: Engine, damage: str) -> None:
    engine.network()
    engine.endpoint("one", dns=["192.0.2.53"])
    run(f"file=/etc/netns/one/resolv.conf; {damage}")
    drift = restore.drift(Registry(engine.state_dir))[0]
    assert [(it.kind, it.key) for it in drift] == [("resolver", "netns:one")]
    restore.restore(transact.RunOptions(engine.state_dir))
    assert seen().startswith("nameserver 192.0.2.53\n")
    assert restore.drift(Registry(engine.state_dir))[0] == []
    if "10.0.0.1" in damage and "s/" not in damage:  # a line of theirs, which we never lose
        assert seen() == "nameserver 192.0.2.53\n"
        engine.absent("one")
        assert Path("/etc/netns/one/resolv.conf").read_text(encoding="utf-8").count("nameserver 10.0.0.1\n") == 1


def test_what_no_resolver_could_use_is_refused(engine: Engine) -> None:
    engine.network()
    engine.network("red", parent="trunk.20", subnet="198.51.100.0/24")
    engine.endpoint("one", dns=["192.0.2.51", "192.0.2.52"])
    with pytest.raises(
        InputError,
        match="dns: netns:one has those of blue/one and red/r together, and 4 are more than the 3 that every resolver uses",
    ):
        engine.endpoint("r", "red", netns="one", dns=["192.0.2.53", "192.0.2.54"])
    with pytest.raises(InputError, match="dns_search: the resolv.conf of netns:two stands for the host's"):
        engine.endpoint("two", dns_search=["example.com"])
    run("ip netns add stranger")
    with process_in("stranger") as pid, pytest.raises(InputError, match=f"dns: pid:{pid} has no known resolv.conf"):
        engine.endpoint("three", pid=pid, dns=["192.0.2.53"])
    engine.network(dns=["192.0.2.53"])
    with process_in("stranger") as pid:
        outcome = engine.task("endpoint", network="blue", name="three", pid=pid)
        what = f"pid:{pid} has no known resolv.conf, so it does not get the dns of its network"
        assert any(what in text for text in outcome.warnings)
    engine.task("endpoint", "released", network="blue", name="three")
    run("mkdir -p /etc/netns/four; ln -s /etc/hosts /etc/netns/four/resolv.conf")
    own = Path("/etc/hosts").read_text(encoding="utf-8")
    with pytest.raises(
        InputError, match="dns: netns:four cannot get it: its resolv.conf cannot be written: it is not a regular file"
    ):
        engine.endpoint("four", dns=["192.0.2.53"])
    assert Path("/etc/hosts").read_text(encoding="utf-8") == own
