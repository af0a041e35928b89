# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A full trunk, and a thousand endpoints.

What it takes is printed (pytest -s); ``make bench`` measures it properly.
"""

from __future__ import annotations

import errno
import subprocess
import time
from typing import Any, Callable

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import LINK_GROUP, Change
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import KernelRefused
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Need
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.apply import apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel.observe import observe

from tests.support.changes import GROUP, do, made, missing, new_address, new_link, new_route, new_vlan
from tests.support.network_host import links, run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("trunk")]

FULL = [new_vlan(number) for number in range(1, 4095)]


def timed(what: str, action: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = action()
    print(f"\n{what}: {time.perf_counter() - start:.3f} s", end="")
    return result


def test_a_full_trunk() -> None:
    commands = "".join(
        f"link add link trunk name trunk.{number} up type vlan id {number}\n" for number in range(1, 4095)
    )
    timed(
        "ip -batch, bare links",
        lambda: subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True),
    )
    removal = "".join(f"link del trunk.{number}\n" for number in range(1, 4095))
    timed(
        "ip -batch, removing them",
        lambda: subprocess.run(["ip", "-batch", "-"], input=removal, text=True, check=True),
    )
    observed = observe(Need())
    timed("apply, isolation included", lambda: apply(FULL, observed, GROUP))
    observed = timed("observe", lambda: observe(Need()))
    timed("ip -d -j link show", lambda: run("ip -d -j link show > /dev/null"))
    assert missing(observed, *FULL) == []
    assert {link.group for link in observed.host.links.values() if link.kind == "vlan"} == {LINK_GROUP}
    timed("apply, removing them", lambda: apply([change.inverse() for change in FULL], observed, GROUP))
    assert sorted(links()) == ["far", "trunk"]


def test_the_one_among_4094_that_is_refused_is_named() -> None:
    run("ip link add trunk.2000 type dummy")
    with pytest.raises(KernelRefused) as caught:
        do(*FULL)
    assert (caught.value.change.key, caught.value.errno) == ("trunk.2000", errno.EEXIST)
    observed = observe(Need())
    assert observed.host.names["trunk.2000"].group == 0
    left = [
        change
        for change in FULL
        if change.key in observed.host.names and observed.host.names[change.key].group == GROUP
    ]
    assert len(left) == 4093
    do(*(change.inverse() for change in left))
    assert sorted(links()) == ["far", "trunk", "trunk.2000"]


def test_the_one_among_4094_that_cannot_come_up_is_named() -> None:
    run("ip link add low type dummy")
    changes = FULL[:2000] + [new_vlan(9, "low")] + FULL[2000:]
    with pytest.raises(KernelRefused) as caught:
        do(*changes)
    assert (caught.value.change.key, caught.value.errno) == ("low.9", errno.ENETDOWN)


def _endpoints(count: int) -> list[Change]:
    changes = []
    for number in range(count):
        netns = f"netns:n{number}"
        low = new_link(
            "eth0",
            "ipvlan",
            netns=netns,
            up=False,
            mode="l2",
            flag="bridge",
            sysctls={"ipv4.arp_notify": 1},
        )
        identity = {"netns": netns, "name": "eth0"}
        changes += [
            made("netns", {"netns": netns}),
            low,
            new_address("eth0", f"10.7.{number // 250}.{number % 250 + 2}/16", netns),
            Change("link", low.key, {**identity, "up": False}, {**identity, "up": True}, "test"),
            new_route("0.0.0.0/0", "eth0", netns, via="10.7.0.1"),
        ]
    return changes


def test_a_thousand_endpoints() -> None:
    count = 1000
    changes = _endpoints(count)
    observed = observe(Need())
    timed(f"apply, {count} endpoints in {count} namespaces", lambda: apply(changes, observed, GROUP))
    workloads = tuple(f"netns:n{number}" for number in range(count))
    observed = timed("observe them in full", lambda: observe(Need(workloads, everywhere=True)))
    assert len(observed.children[observed.host.names["trunk"].index]) == count
    assert missing(observed, *(change for change in changes if change.kind in ("address", "route"))) == []
    others = timed("observe them as strangers", lambda: observe(Need((), everywhere=True))).others
    assert len(others) == count
    back = [change.inverse() for change in reversed(changes)]
    timed("apply, removing them", lambda: apply(back, observed, GROUP))
    assert observe(Need(workloads, everywhere=True)).namespaces == {}
