# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what is given never moves, nothing is given twice, and two branches that both gave are distinguished."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

import pytest
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import allocate, view
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import ledger as ledgers
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.ledger import Ledger
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.needs import Fleet, Host
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule


def network(name: str, *subnets: Dict[str, Any], per_host: Optional[List[int]] = None, **more: Any) -> Dict[str, Any]:
    row = {"network": {"name": name, "driver": "macvlan", "parent": f"t.{name}", "subnets": list(subnets), **more}}
    return {**row, "per_host": per_host} if per_host else row


def endpoint(name: str, of: str = "web", **more: Any) -> Dict[str, Any]:
    return {"network": of, "name": name, "netns": name, **more}


WEB = network("web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "aux_addresses": {"printer": "10.0.0.3"}})
SLICED = network("web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, per_host=[26])
PREFIXES = network("l3", {"subnet": "10.9.0.0/16"}, per_host=[26], driver="ipvlan", mode="l3")


def hosts(**endpoints: List[Dict[str, Any]]) -> Dict[str, Host]:
    return {name: Host([], rows) for name, rows in endpoints.items()}


def completed(
    rows: List[Dict[str, Any]], fleet: Dict[str, Host], before: Optional[Ledger] = None, move: bool = False
) -> Ledger:
    needs = Fleet(rows, fleet)
    done = allocate.complete(needs, before or Ledger(), move)
    assert (done.problems, done.waits) == ([], [])
    assert allocate.missing(needs, done.ledger) == []
    assert allocate.conflicts(needs, done.ledger) == []
    return done.ledger


def said(problems: Any) -> str:
    return "\n".join(map(str, problems))


def test_every_endpoint_gets_the_lowest_free_address_of_the_whole_fleet() -> None:
    ledger = completed([WEB], hosts(h1=[endpoint("a"), endpoint("b")], h2=[endpoint("a")]))
    assert ledger.addresses == {"web": {"10.0.0.2": "h1/a", "10.0.0.4": "h1/b", "10.0.0.5": "h2/a"}}


def test_both_families_and_a_subnet_that_was_chosen() -> None:
    web = network(
        "web", {"subnet": "10.0.0.0/24"}, {"subnet": "10.1.0.0/24"}, {"subnet": "2001:db8::/64", "gateway": "fe80::1"}
    )
    ledger = completed([web], hosts(h1=[endpoint("a"), endpoint("b", subnet="10.1.0.0/24")]))
    assert ledger.addresses["web"] == {
        "10.0.0.2": "h1/a", "10.1.0.2": "h1/b", "2001:db8::1": "h1/a", "2001:db8::2": "h1/b",
    }  # fmt: skip


def test_addresses_that_a_router_gives_are_no_matter_of_the_ledger() -> None:
    row = endpoint("a", ipv6_address="slaac")
    web = network("web", {"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"})
    ledger = completed([web], hosts(h1=[row]))
    assert ledger.addresses["web"] == {"10.0.0.2": "h1/a"}
    assert view.endpoints_for([web], [row], "h1", [], ledger.data()) == ([{**row, "ipv4_address": "10.0.0.2"}], [])


def test_slices_and_the_addresses_in_them() -> None:
    ledger = completed(
        [SLICED, PREFIXES], hosts(h1=[endpoint("a"), endpoint("a", "l3")], h2=[endpoint("a"), endpoint("a", "l3")])
    )
    assert ledger.slices == {
        "web": {"10.0.0.0/26": "h1", "10.0.0.64/26": "h2"},
        "l3": {"10.9.0.0/26": "h1", "10.9.0.64/26": "h2"},
    }
    # In L3 modes the slice is a subnet of its own: its first address belongs to it.
    assert ledger.addresses == {
        "web": {"10.0.0.2": "h1/a", "10.0.0.64": "h2/a"},
        "l3": {"10.9.0.2": "h1/a", "10.9.0.66": "h2/a"},
    }
    rows, lacking = view.rows_for([SLICED, PREFIXES], "h2", [], ledger.data())
    assert lacking == []
    assert rows[0]["subnets"] == [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.64/26"}]
    assert rows[1]["subnets"] == [{"subnet": "10.9.0.64/26"}]
    endpoints, lacking = view.endpoints_for(
        [SLICED, PREFIXES], [endpoint("a"), endpoint("a", "l3")], "h2", [], ledger.data()
    )
    assert lacking == []
    assert [row["ipv4_address"] for row in endpoints] == ["10.0.0.64", "10.9.0.66"]


def test_an_l3_prefix_takes_the_reservations_that_lie_in_it() -> None:
    row = network(
        "l3",
        {"subnet": "10.9.0.0/24", "aux_addresses": {"a": "10.9.0.5", "b": "10.9.0.70"}},
        per_host=[26],
        driver="ipvlan",
        mode="l3",
    )
    ledger = completed([row], hosts(h1=[], h2=[]))
    assert view.rows_for([row], "h2", [], ledger.data())[0][0]["subnets"] == [
        {"subnet": "10.9.0.64/26", "aux_addresses": {"b": "10.9.0.70"}}
    ]


def test_what_is_missing_is_named_entry_by_entry() -> None:
    fleet = hosts(h1=[endpoint("a")], h2=[])
    assert [want.text for want in allocate.missing(Fleet([SLICED], fleet), Ledger())] == [
        "host h1 has no slice of 10.0.0.0/24 in network web",
        "host h2 has no slice of 10.0.0.0/24 in network web",
        "endpoint h1/a has no IPv4 address in network web",
    ]
    assert view.rows_for([SLICED], "h2", [], Ledger().data())[1] == [
        "host h2 has no slice of 10.0.0.0/24 in network web"
    ]
    assert view.endpoints_for([SLICED], [endpoint("a")], "h1", [], Ledger().data())[1] == [
        "endpoint h1/a has no IPv4 address in network web"
    ]


def test_a_trunk_gets_no_address() -> None:
    fleet = hosts(h1=[endpoint("fw", vlans=["10-12"])], h2=[endpoint("a")])
    assert completed([WEB], fleet).addresses == {"web": {"10.0.0.2": "h2/a"}}


def test_static_addresses_stand_beside_the_ledger_and_not_in_it() -> None:
    fleet = hosts(h1=[endpoint("a", ipv4_address="10.0.0.2")], h2=[endpoint("a")])
    assert completed([WEB], fleet).addresses == {"web": {"10.0.0.4": "h2/a"}}
    twice = hosts(h1=[endpoint("a", ipv4_address="10.0.0.2")], h2=[endpoint("b", ipv4_address="10.0.0.2")])
    assert said(Fleet([WEB], twice).problems) == (
        "h2: netops_endpoints[0].ipv4_address: 10.0.0.2 is also requested by h1/a; give another address, or let the ledger assign one"
    )
    taken = Ledger(addresses={"web": {"10.0.0.2": "h2/a"}})
    assert "10.0.0.2 is given to h2/a in the ledger" in said(allocate.conflicts(Fleet([WEB], fleet), taken))
    sliced = hosts(h1=[endpoint("a", ipv4_address="10.0.0.70")], h2=[])
    assert "10.0.0.70 is in 10.0.0.64/26, the slice of h2" in said(
        allocate.conflicts(Fleet([SLICED], sliced), Ledger({"web": {"10.0.0.64/26": "h2"}}))
    )


def test_the_ledger_gives_none_what_others_have_besides_or_may_take() -> None:
    vip = {"allowed_addresses": ["10.0.0.2"]}
    fleet = hosts(h1=[endpoint("a", ipv4_addresses=["10.0.0.4"], **vip)], h2=[endpoint("a", **vip)])
    assert completed([WEB], fleet).addresses == {"web": {"10.0.0.5": "h1/a", "10.0.0.6": "h2/a"}}
    assert said(allocate.conflicts(Fleet([WEB], fleet), Ledger(addresses={"web": {"10.0.0.2": "h1/a"}}))).startswith(
        "h1/a in web: its address 10.0.0.2 is now an allowed address of h1/a, h2/a; revert that in the map"
    )
    taken = hosts(h1=[endpoint("a", **vip)], h2=[endpoint("b", ipv4_address="10.0.0.2")])
    assert said(Fleet([WEB], taken).problems) == (
        "h1: netops_endpoints[0].allowed_addresses[0]: 10.0.0.2 is also requested by h2/b; give another address, or leave it out"
    )
    twice = hosts(h1=[endpoint("a", ipv4_addresses=["10.0.0.2"])], h2=[endpoint("b", ipv4_addresses=["10.0.0.2"])])
    assert said(Fleet([WEB], twice).problems).startswith(
        "h2: netops_endpoints[0].ipv4_addresses[0]: 10.0.0.2 is also requested by h1/a; "
    )


def test_an_address_in_use_is_in_no_new_slice() -> None:
    fleet = hosts(h1=[endpoint("a", ipv4_address="10.0.0.10")], h2=[])
    new = completed([SLICED], fleet, Ledger(addresses={"web": {"10.0.0.70": "gone/x"}}))
    assert new.slices == {"web": {"10.0.0.128/26": "h1", "10.0.0.192/26": "h2"}}


def test_an_address_that_was_reserved_later_is_named() -> None:
    assert "h1/a in web: its address 10.0.0.3 is now reserved as printer" in said(
        allocate.conflicts(Fleet([WEB], hosts(h1=[endpoint("a")])), Ledger(addresses={"web": {"10.0.0.3": "h1/a"}}))
    )


def test_a_nameserver_is_nobodys_address_but_its_own() -> None:
    rows = [network("web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, dns=["10.0.0.2", "10.0.0.4"])]
    fleet = hosts(
        h1=[endpoint("a", dns=["10.0.0.3"]), endpoint("ns", ipv4_address="10.0.0.4")], h2=[endpoint("b"), endpoint("c")]
    )
    given = {"10.0.0.5": "h1/a", "10.0.0.6": "h2/b", "10.0.0.7": "h2/c"}
    assert completed(rows, fleet).addresses == {"web": given}
    assert "h1/a in web: its address 10.0.0.2 is now a nameserver of endpoints" in said(
        allocate.conflicts(Fleet(rows, fleet), Ledger(addresses={"web": {"10.0.0.2": "h1/a"}}))
    )


def test_a_full_pool_is_refused() -> None:
    small = network("web", {"subnet": "10.0.0.0/30"})
    problems = allocate.complete(Fleet([small], hosts(h1=[endpoint("a"), endpoint("b")])), Ledger()).problems
    assert said(problems) == (
        "web, endpoint h1/b: no address is free in 10.0.0.0/30; release endpoints that are gone, or enlarge the pool in the map"
    )
    problems = allocate.complete(Fleet([SLICED], hosts(h1=[], h2=[], h3=[], h4=[], h5=[])), Ledger()).problems
    assert said(problems).startswith(
        "network web: 10.0.0.0/24 has no /26 left for h5: 4 are given; release hosts that are gone"
    )


def test_endpoints_where_they_may_not_be() -> None:
    row = {**WEB, "hosts": ["h1"]}
    assert "h2: netops_endpoints[0].network: network web is not for h2" in said(
        Fleet([row], hosts(h2=[endpoint("a")])).problems
    )
    bad = Fleet([WEB], hosts(h2=[{"network": "web", "name": "a", "netns": "a", "ipv4_adress": "x"}]))
    assert said(bad.problems) == "h2: netops_endpoints[0].ipv4_adress: unknown option; did you mean ipv4_address?"
    assert Fleet([WEB], hosts(h2=[endpoint("a", "other")])).addresses == []


# --- releasing -----------------------------------------------------------------------------------


def test_releasing_is_explicit() -> None:
    before = completed([SLICED], hosts(h1=[endpoint("a")], h2=[endpoint("b")]))
    now = Fleet([SLICED], hosts(h1=[]))
    assert allocate.complete(now, before).ledger.text() == before.text()
    assert allocate.stale(now, before) == ["web/h1/a", "web/h2", "web/h2/b"]
    new, released, problems = allocate.release(now, before, ["web/h2"])
    assert (released, problems) == (["web/h2"], [])
    assert new.slices == {"web": {"10.0.0.0/26": "h1"}}
    assert new.addresses == before.addresses
    assert (
        allocate.release(now, before, ["gone"])[0].data() == Ledger({"web": {"10.0.0.0/26": "h1"}}, {"web": {}}).data()
    )
    assert said(allocate.release(now, before, ["web/h1", "web/h9"])[2]) == (
        "release[0]: web/h1 is still needed by the inventory; remove it there first\n"
        "release[1]: the ledger has no web/h9; name NETWORK/HOST or NETWORK/HOST/ENDPOINT, gone, or settled"
    )


# --- what moves ----------------------------------------------------------------------------------


def test_a_renumbered_subnet_moves_only_where_that_is_asked_for() -> None:
    before = completed([WEB], hosts(h1=[endpoint("a")]))
    moved = Fleet([network("web", {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"})], hosts(h1=[endpoint("a")]))
    asked = allocate.complete(moved, before)
    assert (asked.waits, asked.ledger) == (["web/h1/a: 10.0.0.2 has to move to 10.1.0.0/24"], before)
    done = allocate.complete(moved, before, move=True)
    assert done.ledger.addresses == {"web": {"10.1.0.2": "h1/a"}}
    assert done.moves == ["web/h1/a: 10.0.0.2 becomes 10.1.0.2"]


def test_old_and_new_subnet_side_by_side() -> None:
    before = completed([WEB], hosts(h1=[endpoint("a")], h2=[endpoint("b")]))
    both = network(
        "web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, {"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}
    )
    fleet = Fleet([both], hosts(h1=[endpoint("a", subnet="10.1.0.0/24")], h2=[endpoint("b")]))
    done = allocate.complete(fleet, before, move=True)
    assert done.ledger.addresses == {"web": {"10.1.0.2": "h1/a", "10.0.0.4": "h2/b"}}


def test_a_slice_of_another_subnet_or_size() -> None:
    fleet = hosts(h1=[endpoint("a")], h2=[endpoint("b")])
    before = completed([SLICED], fleet)
    assert before.addresses == {"web": {"10.0.0.2": "h1/a", "10.0.0.64": "h2/b"}}
    other = Fleet([network("web", {"subnet": "10.1.0.0/24"}, per_host=[26])], fleet)
    assert allocate.complete(other, before).waits[0] == "web/h1: slice 10.0.0.0/26 has to move to 10.1.0.0/24"
    assert allocate.complete(other, before, move=True).ledger.slices == {
        "web": {"10.1.0.0/26": "h1", "10.1.0.64/26": "h2"}
    }
    # A smaller slice keeps the addresses that are in use.
    smaller = Fleet([network("web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}, per_host=[28])], fleet)
    assert allocate.complete(smaller, before).waits == []
    assert allocate.outside(smaller, before) == ["web/h1: 10.0.0.0/26", "web/h2: 10.0.0.64/26"]
    done = allocate.complete(smaller, before, move=True)
    assert done.ledger.slices == {"web": {"10.0.0.0/28": "h1", "10.0.0.64/28": "h2"}}
    assert done.ledger.addresses == before.addresses
    assert done.moves == [
        "web/h1: slice 10.0.0.0/26 becomes 10.0.0.0/28",
        "web/h2: slice 10.0.0.64/26 becomes 10.0.0.64/28",
    ]


def test_ranges_that_were_narrowed_away_from_an_address() -> None:
    before = completed([WEB], hosts(h1=[endpoint("a")]))
    narrow = Fleet(
        [network("web", {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25"})],
        hosts(h1=[endpoint("a")]),
    )
    assert allocate.complete(narrow, before).ledger == before
    assert allocate.outside(narrow, before) == ["web/h1/a: 10.0.0.2"]
    assert allocate.complete(narrow, before, move=True).moves == ["web/h1/a: 10.0.0.2 becomes 10.0.0.128"]


def test_slices_that_are_no_longer_wanted_are_in_no_way() -> None:
    before = completed([SLICED], hosts(h1=[endpoint("a")]))
    flat = Fleet([WEB], hosts(h1=[endpoint("a")], h2=[endpoint("b")]))
    done = allocate.complete(flat, before)
    assert allocate.conflicts(flat, done.ledger) == []
    assert done.ledger.addresses == {"web": {"10.0.0.2": "h1/a", "10.0.0.4": "h2/b"}}
    assert allocate.stale(flat, done.ledger) == ["web/h1"]


def test_an_endpoint_takes_its_address_along_to_another_host() -> None:
    before = completed([WEB], hosts(h1=[endpoint("a"), endpoint("b")], h2=[]))
    fleet = Fleet([WEB], hosts(h1=[endpoint("a")], h2=[endpoint("b")]))
    assert allocate.complete(fleet, before).waits == [
        "web/h1/b: 10.0.0.4 has to move along to web/h2/b, or be released first"
    ]
    done = allocate.complete(fleet, before, move=True)
    assert done.ledger.addresses == {"web": {"10.0.0.2": "h1/a", "10.0.0.4": "h2/b"}}
    assert done.moves == ["web/h1/b: 10.0.0.4 moves along to web/h2/b"]
    released = allocate.release(fleet, before, ["web/h1/b"])[0]
    assert allocate.complete(fleet, released).given


def test_a_renamed_network_keeps_its_addresses() -> None:
    before = completed([SLICED], hosts(h1=[endpoint("a")]))
    row = {**SLICED, "network": {**SLICED["network"], "name": "shop"}}
    done = allocate.complete(Fleet([row], hosts(h1=[endpoint("a", "shop")])), before)
    assert done.ledger == Ledger({"shop": before.slices["web"]}, {"shop": before.addresses["web"]})
    assert done.moves == ["network web is now shop; its addresses stay"]
    assert done.given == []


def test_two_that_exchange_their_names() -> None:
    """One after the other, both would be the first one's, and nothing could tell them apart again."""
    before = completed([SLICED], hosts(h1=[endpoint("a")], h2=[endpoint("a"), endpoint("b")]))
    new, _done, problems = allocate.rename(before, {"h1": "h2", "h2": "h1"})
    assert not problems and new.slices == {"web": {"10.0.0.0/26": "h2", "10.0.0.64/26": "h1"}}
    assert sorted(new.addresses["web"].values()) == ["h1/a", "h1/b", "h2/a"]
    new, _done, problems = allocate.rename(before, {"web/h2/a": "web/h2/b", "web/h2/b": "web/h2/a"})
    assert not problems and len(set(new.addresses["web"].values())) == 3 and new != before


def test_a_new_name_that_is_in_use_is_refused() -> None:
    before = completed([WEB], hosts(h1=[endpoint("a")], h2=[endpoint("b")], h3=[]))
    assert (
        said(allocate.rename(before, {"h1": "h2"})[2])
        == "rename.h1: h2 is in the ledger already; release h2, or rename it too"
    )
    assert said(allocate.rename(before, {"web/h1/a": "web/h2/b"})[2]) == (
        "rename.web/h1/a: web/h2/b is in the ledger already; release web/h2/b, or rename it too"
    )
    assert said(allocate.rename(before, {"h1": "h9", "h2": "h9"})[2]) == (
        "rename.h1: h9 is to be the name of another one too; give each its own name\nrename.h2: h9 is to be the name of another one too; give each its own name"
    )


def test_renamed_hosts_and_endpoints() -> None:
    before = completed([SLICED], hosts(h1=[endpoint("a")]))
    new, done, problems = allocate.rename(before, {"h1": "h9", "web/h9/a": "web/h9/b"})
    assert problems == []
    assert (new.slices, new.addresses) == ({"web": {"10.0.0.0/26": "h9"}}, {"web": {"10.0.0.2": "h9/b"}})
    assert done[0] == "web/h1: 10.0.0.0/26 is web/h9's"
    assert said(allocate.rename(before, {"h7": "h8", "web/h1/a": "db/h1/a"})[2]) == (
        "rename.h7: the ledger has no h7; name a HOST, or NETWORK/HOST/ENDPOINT\n"
        "rename.web/h1/a: db/h1/a is not an endpoint of network web; write NETWORK/HOST/ENDPOINT, with the same network"
    )


# --- what may not be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.9.0.5", "10.9.0.5 is in no subnet of network web, which has 10.0.0.0/24"),
        ("10.0.0.255", "10.0.0.255 is the broadcast address of 10.0.0.0/24"),
        ("10.0.0.1", "10.0.0.1 is the gateway"),
        ("10.0.0.3", "10.0.0.3 is reserved as printer"),
    ],
)
def test_static_addresses_that_a_host_would_refuse(address: str, message: str) -> None:
    problems = Fleet([WEB], hosts(h1=[endpoint("a", ipv4_address=address)])).problems
    assert said(problems).startswith(f"h1: netops_endpoints[0].ipv4_address: {message}; ")


def test_an_endpoint_in_a_network_that_is_in_no_row() -> None:
    assert said(Fleet([WEB], hosts(h1=[endpoint("a", "wbe")])).problems) == (
        "h1: netops_endpoints[0].network: no row of the map is network wbe; correct the name, or add the row"
    )


def test_a_holder_with_two_addresses() -> None:
    twice = Ledger(addresses={"web": {"10.0.0.2": "h1/a", "10.0.0.9": "h1/a"}})
    assert said(allocate.conflicts(Fleet([WEB], hosts(h1=[endpoint("a")])), twice)) == (
        "h1/a in web: has 10.0.0.2 and 10.0.0.9 in the ledger; remove one of the lines"
    )


def test_a_network_that_a_merge_left_twice_is_one() -> None:
    text = "version: 1\naddresses:\n  web:\n    10.0.0.2: h1/a\n  web:\n    10.0.0.2: h1/a\n    10.0.0.4: h1/b\n"
    assert ledgers.read(text, "ledger.yml") == (Ledger(addresses={"web": {"10.0.0.2": "h1/a", "10.0.0.4": "h1/b"}}), [])
    faults = ledgers.read(text.replace("10.0.0.2: h1/a\n    10.0.0.4", "10.0.0.2: h2/a\n    10.0.0.4"), "ledger.yml")[1]
    assert "10.0.0.2 of web is given to h1/a (line 4) and to h2/a" in str(faults[0])


# --- the file ------------------------------------------------------------------------------------
def test_the_file_can_be_read_back_and_is_sorted_by_address() -> None:
    ledger = Ledger(
        {"web": {"10.0.0.128/26": "h2", "10.0.0.64/26": "h1"}, "on": {"2001:db8::/80": "10.1.1.1"}},
        {"web": {"10.0.0.100": "h1/a", "10.0.0.20": "h1/2026", "2001:db8::5": "h.example/no"}},
    )
    text = ledger.text()
    assert text.endswith(
        "version: 1\n"
        "slices:\n"
        '  "on":\n'
        '    "2001:db8::/80": 10.1.1.1\n'
        "  web:\n"
        "    10.0.0.64/26: h1\n"
        "    10.0.0.128/26: h2\n"
        "addresses:\n"
        "  web:\n"
        "    10.0.0.20: h1/2026\n"
        "    10.0.0.100: h1/a\n"
        '    "2001:db8::5": h.example/no\n'
    )
    assert ledgers.read(text, "ledger.yml") == (ledger, [])
    assert Ledger.of(ledger.data()) == ledger
    assert ledgers.read("", "ledger.yml") == (Ledger(), [])
    assert ledgers.read(Ledger().text(), "ledger.yml") == (Ledger(), [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slices:\n  web:\n    10.0.0.0/26: h1\n    10.0.0.0/26: h2\n",
         "line 5, column 5 (slices): 10.0.0.0/26 of web is given to h1 (line 4) and to h2; two branches allocated it: "
         "remove the later line, then allocate again"),
        ("slices:\n  web:\n    10.0.0.0/26: h1\n    10.0.0.0/27: h2\n",
         "line 5, column 5 (slices): 10.0.0.0/27 of h2 overlaps 10.0.0.0/26 of h1 (line 4)"),
        ("addresses:\n  web:\n    10.0.0.5: h1/a\n    10.0.0.5: h2/a\n", "10.0.0.5 of web is given to h1/a (line 4) and to h2/a"),
        ("<<<<<<< HEAD\n", "line 2, column 1: an unfinished merge"),
        ("slices: [\n", "line 3, column 1: the file is not valid YAML"),
        ("slices: []\n", "line 2, column 9: slices is not a mapping"),
        ("addresses:\n  web:\n    10.0.0.5: h1\n", "line 4, column 5 (addresses): 'h1' is not HOST/ENDPOINT"),
        ("addresses:\n  web:\n    10.0.0.0/8: h1/a\n", "line 4, column 5 (addresses): '10.0.0.0/8' is not an IP address"),
        ("addresses:\n  web:\n    10.0.0.5: [h1/a, h2/b]\n", "line 4, column 5 (addresses): the holder is not one name"),
        ("addresses:\n  web:\n    10.0.0.5: h1/\n", "line 4, column 5 (addresses): 'h1/' is not HOST/ENDPOINT"),
        ("places: {}\n", "line 2, column 1 (places): unknown section"),
    ],
)  # fmt: skip
def test_what_merges_leave_behind(text: str, said: str) -> None:
    faults = ledgers.read("version: 1\n" + text, "ledger.yml")[1]
    assert any(said in str(fault) for fault in faults), faults


def test_another_version_is_refused() -> None:
    assert "2 is not 1" in str(ledgers.read("version: 2\n", "ledger.yml")[1][0])


def test_git_itself_sees_the_conflict_of_two_branches(tmp_path: Path) -> None:
    def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        options = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        return subprocess.run(["git", *options, *words], cwd=tmp_path, check=check, capture_output=True, text=True)

    file = tmp_path / "ledger.yml"
    base = completed([SLICED], hosts(h1=[]))
    file.write_text(base.text(), encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "base")
    for branch in ("h2", "h3"):
        git("checkout", "-q", "-b", branch, "main")
        file.write_text(completed([SLICED], {**hosts(h1=[]), branch: Host([], [])}, base).text(), encoding="utf-8")
        git("commit", "-qam", branch)
    assert git("merge", "-q", "h2", check=False).returncode == 1
    assert "an unfinished merge" in str(ledgers.read(file.read_text(encoding="utf-8"), "ledger.yml")[1][0])
    git("merge", "--abort")
    # A merge that takes both sides gives one slice to two hosts, on two lines.
    (tmp_path / ".gitattributes").write_text("ledger.yml merge=union\n", encoding="utf-8")
    assert git("merge", "-q", "h2", check=False).returncode == 0
    assert "10.0.0.64/26 of web is given to h3 (line 7) and to h2" in str(
        ledgers.read(file.read_text(encoding="utf-8"), "ledger.yml")[1][0]
    )


# --- hosts and endpoints come and go ---------------------------------------------------------------

ROWS = [
    network("flat", {"subnet": "10.0.0.0/27", "aux_addresses": {"x": "10.0.0.6"}}, {"subnet": "2001:db8::/120"}),
    network(
        "cut", {"subnet": "10.1.0.0/25", "ip_range": "10.1.0.32/27"}, {"subnet": "2001:db8:1::/64"}, per_host=[29, 80]
    ),
    network("l3", {"subnet": "10.2.0.0/26"}, per_host=[29], driver="ipvlan", mode="l3"),
]
NAMES = st.sampled_from(["h1", "h2", "h3", "h4", "h5"])
PLACES = st.tuples(NAMES, st.sampled_from(["flat", "cut", "l3"]), st.sampled_from("abcd"))


class Fleets(RuleBasedStateMachine):
    """Hosts and endpoints come and go in any order; a model remembers all that was ever given and not released."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: Set[str] = set()
        self.endpoints: Set[Any] = set()
        self.ledger = Ledger()
        self.remembered: Dict[Any, str] = {}

    def fleet(self) -> Fleet:
        return Fleet(ROWS, {
            host: Host([], [endpoint(name, of) for at, of, name in sorted(self.endpoints) if at == host]) for host in self.hosts
        })  # fmt: skip

    def given(self) -> Dict[Any, str]:
        return {
            (section, name, text): holder
            for section in ("slices", "addresses")
            for name, entries in getattr(self.ledger, section).items()
            for text, holder in entries.items()
        }

    @rule(host=NAMES)
    def add_host(self, host: str) -> None:
        self.hosts.add(host)

    @precondition(lambda self: self.hosts)
    @rule(host=NAMES)
    def remove_host(self, host: str) -> None:
        self.hosts.discard(host)
        self.endpoints = {place for place in self.endpoints if place[0] != host}

    @rule(place=PLACES)
    def add_endpoint(self, place: Any) -> None:
        if place[0] in self.hosts:
            self.endpoints.add(place)

    @rule(place=PLACES)
    def remove_endpoint(self, place: Any) -> None:
        self.endpoints.discard(place)

    @rule()
    def allocate(self) -> None:
        fleet = self.fleet()
        done = allocate.complete(fleet, self.ledger)
        new, problems = done.ledger, [*done.problems, *done.waits]
        if not problems:
            self.ledger = new
            assert allocate.missing(fleet, new) == []
            assert allocate.complete(fleet, new).given == []

    @rule(pick=st.randoms(use_true_random=False), everything=st.booleans())
    def release(self, pick: Any, everything: bool) -> None:
        fleet = self.fleet()
        stale = allocate.stale(fleet, self.ledger)
        words = ["gone"] if everything else [pick.choice(stale)] if stale else []
        before, lacking = self.given(), allocate.missing(fleet, self.ledger)
        self.ledger, released, problems = allocate.release(fleet, self.ledger, words)
        assert problems == []
        assert released == sorted(stale if everything else words)
        for (section, name, text), holder in before.items():
            if (section, name, text) not in self.given():
                assert f"{name}/{holder}" in released
                del self.remembered[section, name, text]
        assert allocate.missing(fleet, self.ledger) == lacking

    @invariant()
    def given_never_moves(self) -> None:
        given = self.given()
        assert {key: given.get(key) for key in self.remembered} == self.remembered
        self.remembered = given

    @invariant()
    def never_twice(self) -> None:
        for entries in self.ledger.slices.values():
            networks = [ipaddress.ip_network(text) for text in entries]
            for position, one in enumerate(networks):
                assert not any(one.version == other.version and one.overlaps(other) for other in networks[:position])
        for name, entries in self.ledger.addresses.items():
            for text, holder in entries.items():
                for part, host in self.ledger.slices.get(name, {}).items():
                    if ipaddress.ip_address(text) in ipaddress.ip_network(part):
                        assert host == holder.partition("/")[0]
        assert "10.0.0.6" not in self.ledger.addresses.get("flat", {})
        assert "10.0.0.1" not in self.ledger.addresses.get("flat", {})

    @invariant()
    def the_file_says_the_same(self) -> None:
        again, faults = ledgers.read(self.ledger.text(), "ledger.yml")
        assert faults == []
        assert again.data() == self.ledger.data()
        assert again.text() == self.ledger.text()


TestFleets = Fleets.TestCase
TestFleets.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.permutations(["h1", "h2", "h3", "h4"]))
@settings(max_examples=24, deadline=None)
def test_the_order_of_the_inventory_does_not_matter(order: List[str]) -> None:
    assert (
        completed(ROWS, {host: Host([], [endpoint("a", "flat")]) for host in order}).text()
        == completed(ROWS, {host: Host([], [endpoint("a", "flat")]) for host in sorted(order)}).text()
    )
