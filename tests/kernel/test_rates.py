# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bandwidth of endpoints: what tc shows of it, whose qdiscs are whose, and what passes."""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import struct
import threading
import time
from typing import Any, Dict, List

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import InputError
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import events, namespaces
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import summary
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore, transact, undo
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.guard import at_work
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import link, run

pytestmark = [pytest.mark.every_kernel, pytest.mark.usefixtures("trunk")]

RATES = {"ingress_rate": "8mbit", "egress_rate": "4mbit", "egress_burst": "64kb"}


def tc(what: str) -> Any:
    return json.loads(run(f"tc -n one -j {what} dev eth0") or "[]")


def shaper() -> Any:
    """The rate in bits and the burst in bytes of the root qdisc; what is there, where it is no tbf of ours."""
    (found,) = [row for row in tc("qdisc show") if row.get("root")]
    if (found["kind"], found["handle"]) != ("tbf", "1f55:"):
        return found["kind"]
    return found["options"]["rate"] * 8, found["options"]["burst"]


def policer() -> Any:
    """The same of the filter of the ingress qdisc; None without that, and [] without a filter of ours."""
    if not any(row["kind"] == "ingress" for row in tc("qdisc show")):
        return None
    shown = run("tc -n one filter show dev eth0 parent ffff: pref 8021")
    return shown.split("police")[1].split()[2:5:2] + ["drop"] * ("action drop" in shown) if "police" in shown else []


def repair(engine: Engine) -> restore.Restored:
    return restore.restore(transact.RunOptions(engine.state_dir, who="a test"))


def undone(engine: Engine) -> None:
    """Take the last transaction back."""
    registry, options = Registry(engine.state_dir), transact.RunOptions(engine.state_dir, who="a test")
    with at_work(registry, options):
        undo.undo(registry.transactions()[0].number, registry, options)


@pytest.mark.parametrize(
    "network", [{"driver": "macvlan"}, {"driver": "ipvlan"}, {"driver": "ipvlan", "mode": "l3"}], ids=str
)
def test_rates_are_made_changed_lifted_and_undone(engine: Engine, network: Dict[str, str]) -> None:
    engine.network(**network)
    wanted = {"network": "blue", "name": "one", "netns": "one"}
    planned = engine.task("endpoint", check=True, **wanted, **RATES)
    made = engine.task("endpoint", **wanted, **RATES)
    assert [change[:4] for change in planned.changes] == [change[:4] for change in made.changes]
    assert (shaper(), policer()) == ((4_000_000, 65536), ["8Mbit", "256Kb", "drop"])
    engine.same("one", **RATES)
    index = link("eth0", "one")["ifindex"]
    changed = engine.task("endpoint", **wanted, **{**RATES, "ingress_rate": "2mbit", "egress_rate": 20_000_000})
    assert (shaper(), policer()) == ((20_000_000, 65536), ["2Mbit", "256Kb", "drop"])
    assert link("eth0", "one")["ifindex"] == index
    shown = summary.diff(changed.changes)
    for text in ("rate netns:one/eth0 egress", "  rate: 4mbit", "  egress_rate: 4mbit", "  burst: 64kb"):
        assert f"{text}\n" in shown["before"], shown["before"]
    assert "  rate: 20mbit\n" in shown["after"] and "  ingress_rate: 2mbit\n" in shown["after"]
    undone(engine)
    assert (shaper(), policer()) == ((4_000_000, 65536), ["8Mbit", "256Kb", "drop"])
    engine.same("one", **RATES)
    engine.endpoint("one")
    assert (shaper(), policer()) == ("noqueue", None) and engine.records("rate") == {}
    engine.same("one")
    undone(engine)
    assert (shaper(), policer()) == ((4_000_000, 65536), ["8Mbit", "256Kb", "drop"])
    engine.absent("one")
    assert engine.records("rate") == {}


def test_what_a_lost_registry_limited_goes_with_the_adoption(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one", **RATES)
    engine.endpoint("two")
    run("tc -n two qdisc add dev eth0 root handle 8: tbf rate 9mbit burst 64kb limit 100kb")
    shutil.rmtree(engine.state_dir)
    engine.task("network", adopt=True, name="blue", driver="macvlan", parent="trunk.10",
               subnets=[{"subnet": "192.0.2.0/24", "gateway": "none"}])  # fmt: skip
    asked = {"network": "blue", "name": "one", "netns": "one"}
    planned = engine.task("endpoint", check=True, adopt=True, **asked)
    assert shaper() == (4_000_000, 65536)
    done = engine.task("endpoint", adopt=True, **asked)
    assert [change[:4] for change in planned.changes] == [change[:4] for change in done.changes]
    assert (shaper(), policer()) == ("noqueue", None) and engine.records("rate") == {}
    engine.same("one")
    undone(engine)
    assert (shaper(), policer()) == ((4_000_000, 65536), ["8Mbit", "256Kb", "drop"])
    engine.task("endpoint", adopt=True, network="blue", name="two", netns="two")
    assert "qdisc tbf 8: root" in run("tc -n two qdisc show dev eth0"), "that of somebody else"


def test_a_lost_or_changed_limit_is_drift_and_is_healed(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one", **RATES)
    both = (shaper(), policer())
    assert repair(engine).done == []
    for loss, keys in {
        "tc -n one qdisc del dev eth0 root": ["netns:one/eth0 egress"],
        "tc -n one qdisc change dev eth0 root handle 1f55: tbf rate 9mbit burst 64kb limit 100kb": [
            "netns:one/eth0 egress"
        ],
        "tc -n one qdisc change dev eth0 root handle 1f55: tbf rate 4mbit burst 64kb limit 1mb": [
            "netns:one/eth0 egress"
        ],
        "tc -n one qdisc del dev eth0 ingress": ["netns:one/eth0 ingress"],
        "tc -n one filter del dev eth0 parent ffff:": ["netns:one/eth0 ingress"],
        "tc -n one actions change action police rate 9mbit burst 64kb conform-exceed drop index 1": [
            "netns:one/eth0 ingress"
        ],
    }.items():
        run(loss)
        changes, left, _records = restore.drift(Registry(engine.state_dir))
        assert ([change.key for change in changes], left) == (keys, []), loss
        done = repair(engine)
        assert ([change.key for change in done.done], done.left) == (keys, []), loss
        assert (shaper(), policer()) == both, loss
    for loss in ("ip -n one link del eth0", "ip netns del one"):
        run(loss)
        assert repair(engine).left == [] and (shaper(), policer()) == both, loss
    engine.same("one", **RATES)


FOREIGN = {
    "qdisc fq_codel 8:": ("egress", "tc -n one qdisc add dev eth0 root handle 8: fq_codel", "qdisc del dev eth0 root"),
    "qdisc tbf 8:": ("egress", "tc -n one qdisc add dev eth0 root handle 8: tbf rate 4mbit burst 64kb limit 1mb", "qdisc del dev eth0 root"),
    "a qdisc": ("ingress", "tc -n one qdisc add dev eth0 ingress", "qdisc del dev eth0 ingress"),
    "qdisc clsact ffff:": ("ingress", "tc -n one qdisc add dev eth0 clsact", "qdisc del dev eth0 clsact"),
    "filter pref 7 matchall": (
        "ingress",
        "tc -n one qdisc add dev eth0 ingress; tc -n one filter add dev eth0 ingress pref 7 matchall action ok",
        "qdisc del dev eth0 ingress",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_what_others_have_on_a_link_is_named_and_left(engine: Engine, what: str) -> None:
    direction, made, fix = FOREIGN[what]
    engine.network()
    engine.endpoint("one")
    run(made)
    before = (tc("qdisc show"), run("tc -n one filter show dev eth0 ingress"))
    with pytest.raises(
        InputError, match=f"{direction}_rate: netns:one/eth0 has {what} already, which is not ours.*{fix}"
    ):
        engine.endpoint("one", **RATES)
    assert (tc("qdisc show"), run("tc -n one filter show dev eth0 ingress")) == before
    run(f"tc -n one {fix}")
    engine.endpoint("one", **RATES)


def test_what_others_put_in_the_place_of_ours_stays(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one", **RATES)
    run("tc -n one qdisc replace dev eth0 root handle 8: fq_codel")
    run("tc -n one qdisc del dev eth0 ingress; tc -n one qdisc add dev eth0 clsact")
    done = repair(engine)
    assert done.done == [] and {(it.key, it.why) for it in done.left} == {
        ("netns:one/eth0 ingress", "netns:one/eth0 has qdisc clsact ffff:, which is not ours"),
        ("netns:one/eth0 egress", "netns:one/eth0 has qdisc fq_codel 8:, which is not ours"),
    }
    engine.endpoint("one")
    assert shaper() == "fq_codel" and any(row["kind"] == "clsact" for row in tc("qdisc show"))
    assert engine.records("rate") == {}


def test_filters_beside_ours_keep_their_qdisc(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one", **RATES)
    run("tc -n one filter add dev eth0 ingress pref 7 matchall action ok")
    engine.same("one", **RATES)
    engine.endpoint("one")
    assert policer() == [] and "pref 7" in run("tc -n one filter show dev eth0 ingress")
    engine.same("one")


def test_a_tap_has_rates_too(engine: Engine) -> None:
    engine.network()
    engine.endpoint("vm", kind="tap", netns="one", **RATES)
    assert (shaper(), policer()) == ((4_000_000, 65536), ["8Mbit", "256Kb", "drop"])
    engine.same("vm", kind="tap", netns="one", **RATES)
    engine.endpoint("vm", kind="tap", netns="one")
    assert policer() is None and engine.records("rate") == {}


def test_in_l3s_packets_reach_an_endpoint_past_its_qdisc(engine: Engine) -> None:
    engine.network(driver="ipvlan", mode="l3s")
    engine.endpoint("one", egress_rate="4mbit")
    assert shaper()[0] == 4_000_000
    with pytest.raises(InputError, match="ingress_rate: blue is l3s, where packets reach an endpoint past its qdisc"):
        engine.endpoint("one", ingress_rate="4mbit")


def test_the_service_hears_of_a_limit_that_goes_or_changes(engine: Engine) -> None:
    engine.network()
    engine.endpoint("one", **RATES)
    heard = events.Kernel()
    for change in (
        "tc -n one qdisc del dev eth0 root",
        "tc -n one filter del dev eth0 parent ffff:",
        "tc -n one qdisc del dev eth0 ingress",
    ):
        run(change)
        assert heard.read_events(), change
        while heard.read_events():
            pass
    time.sleep(1.2)  # what the kernel tells of links that came up may be a second late
    while heard.read_events():
        pass
    run("tc -n one qdisc add dev eth0 root handle 8: fq_codel; tc -n one qdisc del dev eth0 root")
    assert not heard.read_events()


# --- what passes ---------------------------------------------------------------------------------

RATE, BURST = 4_000_000, 64 << 10
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35


def udp(netns: str, address: str = "") -> socket.socket:
    with namespaces.entered(f"/run/netns/{netns}"):
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if address:
        found.bind((address, 5001))
        found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        found.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        found.settimeout(0.5)
    return found


def flood(sender: socket.socket, address: str, until: float) -> None:
    """Three times the rate, in small steps."""
    sender.setblocking(False)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < until:
        while sent < (now - began) * 3 * RATE / 8:
            sent += 1442
            try:
                sender.sendto(bytes(1400), (address, 5001))
            except OSError:  # the queue is full
                pass
        time.sleep(0.002)


def rate_of(receiver: socket.socket, found: List[float]) -> None:
    """What arrives, in bits per second of IP, by the kernel's time stamps, once the burst is spent.

    The median of parts of a fifth of a second: where the machine is busy, the sender sometimes gets no processor, and catches up.
    """
    arrived: List[float] = []
    try:
        while True:
            _data, ancillary, _flags, _sender = receiver.recvmsg(2048, 64)
            arrived += [seconds + nano / 1e9 for seconds, nano in (struct.unpack("ll", it[2]) for it in ancillary)]
    except socket.timeout:
        parts = [arrived[first : first + 71] for first in range(2 * BURST // 1428, len(arrived) - 71, 70)]
        found.append(statistics.median(70 * 1428 * 8 / (part[-1] - part[0]) for part in parts))


@pytest.mark.parametrize("network", [{"driver": "macvlan"}, {"driver": "ipvlan", "mode": "l2"}], ids=str)
def test_both_directions_have_their_rates(engine: Engine, network: Dict[str, str]) -> None:
    run("""
        ip netns add neighbour; ip link set far netns neighbour; ip -n neighbour link set far up
        ip -n neighbour link add link far name far.10 type vlan id 10; ip -n neighbour link set far.10 up
        ip -n neighbour addr add 192.0.2.200/24 dev far.10
    """)
    engine.network(**network)
    limits = {f"{direction}_{what}": value for direction in ("ingress", "egress") for what, value in (("rate", RATE), ("burst", BURST))}  # fmt: skip
    engine.endpoint("one", **limits)
    run("ip netns exec one ping -c 1 -W 5 192.0.2.200")
    receivers = [udp("neighbour", "192.0.2.200"), udp("one", "192.0.2.1")]
    senders = [udp("one"), udp("neighbour")]
    until, found = time.monotonic() + 2.5, [[], []]  # type: ignore[var-annotated]
    ways = zip(senders, ("192.0.2.200", "192.0.2.1"))
    threads = [threading.Thread(target=flood, args=(sender, address, until)) for sender, address in ways]
    threads += [threading.Thread(target=rate_of, args=each) for each in zip(receivers, found)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in (*senders, *receivers):
        one.close()
    (egress,), (ingress,) = found
    assert abs(egress / RATE - 1) < 0.05 and abs(ingress / RATE - 1) < 0.05, (egress, ingress)
