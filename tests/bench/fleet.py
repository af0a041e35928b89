#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a large map costs on the controller: 4,094 VLANs read, judged and given to 1,000 hosts; not a test.

python3 -m ansible_collections.netops.underlay.tests.bench.fleet [--vlan-groups]

Each row stands in one of 20 sites with 50 hosts. One network in a hundred is cut into slices, and every host has two
endpoints. What Ansible itself takes for the same hosts without a map is shown beside it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, List, Tuple

from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import allocate, ledger, mapfile, packed, view
from ansible_collections.netops.underlay.plugins.plugin_utils._fleet.needs import Fleet, Host

HOSTS, VLANS, SITES = 1000, 4094, 20


def table() -> str:
    lines = ["vlan,name,trunk,driver,subnets,gateways,per_host,site"]
    for vlan in range(1, VLANS + 1):
        high, low = divmod(vlan, 16)
        per_host = "26" if vlan % 100 == 0 else ""
        site = f"s{vlan % SITES}"
        lines.append(
            f"{vlan},net{vlan},fabric_{'ab'[vlan % 2]},macvlan,10.{high}.{low << 4}.0/20,10.{high}.{low << 4}.1,{per_host},{site}"
        )
    return "\n".join(lines) + "\n"


def timed(what: str, work: Callable[[], object]) -> object:
    start = time.perf_counter()
    found = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{what:64} {time.perf_counter() - start:6.2f} s, peak {peak:5} MB")
    return found


def pure(text: str) -> None:
    """The map and the ledger by themselves."""
    settings, texts = mapfile.Settings("netops_map.yml"), mapfile.Texts({"vlans.csv": text}, ledger=("ledger.yml", ""))
    parsed = timed(f"{VLANS:,} rows read and judged", lambda: mapfile.parse(settings, texts))
    assert isinstance(parsed, mapfile.Result)
    assert parsed.faults == [], parsed.faults[:3]
    rows = [network.data() for network in parsed.map.networks]
    hosts = {}
    for number in range(HOSTS):
        site = number % SITES
        endpoints = [
            {"network": f"net{vlan}", "name": f"e{vlan}", "netns": f"e{vlan}"}
            for vlan in (SITES + site, 2 * SITES + site)
        ]
        hosts[f"h{number:04}"] = Host([f"site_s{site}"], endpoints)
    fleet = timed(f"what {HOSTS:,} hosts and {2 * HOSTS:,} endpoints need", lambda: Fleet(rows, hosts))
    assert isinstance(fleet, Fleet) and fleet.problems == []
    done = timed("all of it given", lambda: allocate.complete(fleet, ledger.Ledger()))
    assert isinstance(done, allocate.Completed) and done.problems == [], done.problems[:3]
    given = done.ledger
    timed("the ledger written and read back", lambda: ledger.read(given.text(), "ledger.yml"))
    timed(
        "the fleet judged against it",
        lambda: (allocate.missing(fleet, given), allocate.conflicts(fleet, given), allocate.stale(fleet, given)),
    )
    loaded: packed.LoadedMap = {
        "file": "netops_map.yml",
        "hosts_of": "all",
        "faults": [],
        "rows": rows,
        "endpoints": [],
        "ledger": given.data(),
        "ledger_file": "ledger.yml",
    }
    text = packed.pack([loaded])
    print(f"{'the map packed':64} {len(text) / 1000:6.0f} kB")
    one = {"inventory_hostname": "h0007", "group_names": hosts["h0007"].groups, packed.VARIABLE: text}
    timed(
        "the networks and endpoints of one host, unpacked",
        lambda: (view.networks(one), view.endpoints(one, hosts["h0007"].endpoints)),
    )
    timed(
        "of all hosts",
        lambda: [
            view.networks({**one, "inventory_hostname": host, "group_names": there.groups})
            for host, there in hosts.items()
        ],
    )


def inventory(text: str, groups: List[str]) -> None:
    """The whole of an inventory by Ansible itself, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        lines = [
            f"[site_s{site}]\n" + "\n".join(f"h{number:04}" for number in range(HOSTS) if number % SITES == site)
            for site in range(SITES)
        ]
        (directory / "hosts.ini").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        (directory / "vlans.csv").write_text(text, encoding="utf-8")
        config = f"plugin: netops.underlay.netops_map\nmaps: [vlans.csv]\nledger: ledger.yml\ngroups: [{', '.join(groups)}]\n"
        (directory / "netops_map.yml").write_text(config, encoding="utf-8")
        bare = run(directory / "hosts.ini")
        whole = run(directory / "hosts.ini", directory / "netops_map.yml")
    print(f"{'Ansible reads the hosts alone':64} {bare[0]:6.2f} s, peak {bare[1]:5} MB")
    print(
        f"{'Ansible reads them with the map, groups ' + ', '.join(groups):64} {whole[0]:6.2f} s, peak {whole[1]:5} MB"
    )


def run(*sources: Path) -> Tuple[float, int]:
    """`ansible --list-hosts` on the sources: seconds and peak memory in MB."""
    words = [os.fspath(Path(sys.executable).parent / "ansible")]
    for path in sources:
        words += ["-i", os.fspath(path)]
    start = time.perf_counter()
    code = "import os, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    path = os.pathsep.join(
        [os.path.realpath(os.path.join(*Path(__file__).parts[:-6])), os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")]
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": path.strip(os.pathsep),
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "all", "--list-hosts"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - start, int(done.stdout)


def main() -> None:
    text = table()
    inventory(text, ["trunk", "site"])
    if "--vlan-groups" in sys.argv:
        inventory(text, ["vlan", "trunk", "site"])
    pure(text)


if __name__ == "__main__":
    main()
