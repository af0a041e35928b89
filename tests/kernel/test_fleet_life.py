# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's life on real kernels with a real wire: random weeks of edits, and an observer who pings every endpoint meanwhile.

It counts what must not be: addresses that two hosts have at once, packets that endpoints lost which no edit was about, and
networks that went though no edit removed them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import packed, summary, view

from tests.support.fleet_hosts import TRUNKS, Host, ask, switches
from tests.support.fleet_life import BROKEN, Life
from tests.support.inventories import Inventory
from tests.support.observer import Observer, Place

NICS = {trunk: nic for nic, trunk in TRUNKS.items()}


class Fleet:
    """The hosts of a life, their switches and the observer."""

    def __init__(self, life: Life) -> None:
        self.life = life
        switches()
        self.hosts = {name: Host(name) for name in life.endpoints}
        self.observer = Observer(self.ports())
        self.endpoints: Dict[Tuple[str, str, str], List[Place]] = {}  # host, network, endpoint -> where it answers
        self.vlans: Dict[str, Dict[Tuple[str, int], int]] = {name: {} for name in self.hosts}
        self.pings = self.lost = self.gone = self.handed = self.stopped = 0
        self.duplicates: List[str] = []
        self.down = ""  # a host that is, in each week from now on

    def ports(self) -> Dict[str, Tuple[str, str]]:
        return {link: port for host in self.hosts.values() for link, port in host.ports().items()}

    def close(self) -> None:
        self.observer.close()
        for host in self.hosts.values():
            host.lose()

    def bury(self) -> None:
        """Hosts that are in the inventory no longer are off."""
        for name in self.hosts.keys() - self.life.endpoints.keys():
            self.hosts.pop(name).lose()
            self.vlans.pop(name)
        self.observer.plug(self.ports())

    def run(self, stops: bool, down: str) -> bool:
        """What the playbook site does; one that ``stops`` does not get to half of the hosts. Whether it changed anything.

        A host that is ``down`` has lost its network of management alone: it answers on the wire as before.
        """
        read = self.life.read
        rows = self.life.rows_of(read)
        rows.pop(down, None)
        predicted = ask(self.hosts, "predict", {name: (options,) for name, options in rows.items()})
        gone = {name: {"unreachable": True} for name in (down,) if name}
        moved = view.moved(next(iter(read.hosts.values())))
        former = {holder.split("/")[1] for row in moved for holder in row["former"]}
        if summary.stops({**predicted, **gone}, moved, sorted(former - read.hosts.keys())):  # the others are off
            self.stopped += 1
            assert down
            return False
        leaving = summary.handover(predicted)
        self.handed += sum(map(len, leaving.values()))
        ask(self.hosts, "detach", {name: (endpoints,) for name, endpoints in leaving.items()})
        order = self.life.random.sample(sorted(rows), len(rows) // 2 if stops else len(rows))
        forks = 1 + len(rows) // 6
        for at in range(0, len(order), forks):
            ask(self.hosts, "apply", {name: (rows[name],) for name in order[at : at + forks]})
        again = ask(self.hosts, "apply", {name: (rows[name],) for name in order[:forks]})
        assert not any(again.values()), again
        return True

    def look(self, whole: bool) -> None:
        """What the kernels have now, and whether all of it answers, from where it should and from nowhere else."""
        shown = ask(self.hosts, "shown", dict.fromkeys(self.hosts, ()))
        places = {(row["name"]): (row["trunk"], row["vlan"]) for row in self.life.rows}
        wanted = {(NICS[trunk], vlan) for trunk, vlan in places.values()}
        assert all(set(links) == wanted for links, _endpoints in shown.values()) or not whole
        edited = {(NICS[trunk], vlan) for name, (trunk, vlan) in places.items() if name in self.life.edited}
        for name, (links, _endpoints) in shown.items():
            kept = wanted & self.vlans[name].keys() - edited
            self.gone += sum(links.get(link) != self.vlans[name][link] for link in kept)
            self.vlans[name] = links
        self.endpoints = {
            (host, *key.split("/")): some
            for host, (_links, endpoints) in shown.items()
            for key, some in endpoints.items()
        }

    def watch(self) -> None:
        places = {place: host for (host, *_name), some in self.endpoints.items() for place in some}
        assert len(places) == sum(map(len, self.endpoints.values()))
        assert self.observer.watch(places) == []

    def kept(self, before: Dict[Tuple[str, str, str], List[Place]]) -> Set[Place]:
        """Where no edit was to change anything."""
        return {
            place
            for endpoint, places in before.items()
            if endpoint in self.endpoints and endpoint not in self.life.shifted and endpoint[1] not in self.life.edited
            for place in places
            if place in self.endpoints[endpoint]
        }

    def week(self, *names: str) -> Sequence[str]:
        """One; what was edited."""
        what = self.life.week(*names)
        if not what:
            return what
        stops = not names and self.life.random.random() < 0.1
        down = self.down or (
            self.life.random.choice(sorted(self.hosts)) if not names and self.life.random.random() < 0.2 else ""
        )
        self.bury()
        down = down if down in self.hosts else ""
        before = {endpoint: places for endpoint, places in self.endpoints.items() if endpoint[0] in self.hosts}
        self.observer.begin()
        ran = self.run(stops, down)
        whole = ran and not stops and not down
        self.look(whole)
        for endpoint in before.keys() & self.endpoints.keys() - self.life.shifted:
            assert before[endpoint] == self.endpoints[endpoint] or endpoint[1] in self.life.edited | self.life.cut, (
                what,
                endpoint,
            )
        kept = self.kept(before)
        report = self.observer.end(kept)
        self.pings += sum(report.sent.get(place, 0) for place in kept)
        self.lost += sum(report.lost.get(place, 0) for place in kept)
        self.duplicates += report.duplicates
        lost = {place: report.lost[place] for place in kept if place in report.lost}
        print(
            f"{time.monotonic():.0f} s:",
            ", ".join(what),
            "(stopped)" if stops else "",
            f"({down} is down{'' if ran else ', refused'})" if down else "",
            report.duplicates,
            lost,
            flush=True,
        )
        self.watch()
        if whole:
            self.life.done()
        return what

    def broken(self) -> None:
        """A broken table gives no host any rows, so there is nothing to be run."""
        self.life.write()
        for text in BROKEN:
            self.life.inventory.write(a_yml=text)
            for there in self.life.inventory.load().hosts.values():
                with pytest.raises(packed.MapError):
                    view.networks(there)


def live(directory: Path, seed: int, hosts: int, weeks: Sequence[Sequence[str]], purges: bool = True) -> None:
    """Weeks of these edits, or of any where there are none."""
    inventory = Inventory(directory / "inventory")
    inventory.directory.mkdir()
    inventory.map.mkdir()
    fleet = Fleet(Life(inventory, seed, hosts))
    fleet.life.purges = purges
    started, changed = time.monotonic(), 0
    try:
        for names in weeks:
            if "broken" in names or (not names and fleet.life.random.random() < 0.1):
                fleet.broken()
            else:
                changed += bool(fleet.week(*names))
    finally:
        fleet.close()
        print(
            f"seed {seed}: {len(weeks)} weeks, {changed} of them with {fleet.life.edits} edits, {hosts} hosts, {fleet.pings} pings,"
            f" {fleet.handed} endpoints that left before another took their address, {fleet.stopped} runs refused for a host that was down:"
            f" {len(fleet.duplicates)} duplicates,"
            f" {fleet.lost} lost, {fleet.gone} networks gone; {time.monotonic() - started:.0f} s"
        )
    assert (fleet.duplicates, fleet.lost, fleet.gone) == ([], 0, 0)
    assert changed > len(weeks) // 2 and fleet.pings and fleet.handed


#: With seed 4 the third one hands an address over to an endpoint of another host, in a network of another name.
WEEKS = [
    ("attach", "attach"),
    ("broken",),
    ("replace", "add"),
    ("rename_network", "move_endpoint", "merge_branches"),
    ("slice_anew", "renumber", "move", "lose_host"),
]


def test_some_weeks(tmp_path: Path) -> None:
    live(tmp_path, seed=4, hosts=4, weeks=WEEKS)


def test_an_endpoint_that_moves_leaves_its_host_without_purge(tmp_path: Path) -> None:
    live(tmp_path, seed=4, hosts=3, weeks=[("attach", "attach"), ("move_endpoint", "move_endpoint")], purges=False)


def test_an_endpoint_of_a_host_that_is_down_comes_to_no_other(tmp_path: Path) -> None:
    """Until the host can be asked again, or is given up. On the wire it is there all the time."""
    inventory = Inventory(tmp_path / "inventory")
    inventory.directory.mkdir()
    inventory.map.mkdir()
    fleet = Fleet(Life(inventory, 4, 3))
    try:
        fleet.week("attach", "attach")
        fleet.down = next(host for host, there in fleet.life.endpoints.items() if there)
        place = sorted(fleet.life.endpoints[fleet.down])[0]
        other = next(
            host for host in fleet.life.endpoints if host != fleet.down and place not in fleet.life.endpoints[host]
        )
        fleet.life.endpoints[fleet.down].remove(place)
        fleet.life.endpoints[other].add(place)
        fleet.life.shifted |= {(fleet.down, *place), (other, *place)}
        assert fleet.week("move_nothing")
        assert fleet.stopped == 1 and (other, *place) not in fleet.endpoints
        fleet.down = ""
        assert fleet.week("move_nothing")
        assert (other, *place) in fleet.endpoints and fleet.handed == 1
        assert (fleet.duplicates, fleet.lost) == ([], 0)
    finally:
        fleet.close()


@pytest.mark.soak
@pytest.mark.parametrize("seed", [10])
def test_a_hundred_weeks(tmp_path: Path, seed: int) -> None:
    live(tmp_path, seed, hosts=30, weeks=[()] * 100)
