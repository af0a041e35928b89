# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service remembers between looks: who is held, who is tried again and when."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ansible_collections.netops.underlay.plugins.module_utils._engine import restore
from ansible_collections.netops.underlay.plugins.module_utils._engine.watch import LONGEST, WINDOW, Memory


def look(healed: Sequence[str] = (), engines: Sequence[str] = (), **left: str) -> Dict[str, Any]:
    return {"healed": list(healed), "left": {name.replace("_", " "): how for name, how in left.items()}, "engines": engines}


def test_twice_in_a_minute_is_fragile_and_a_minute_later_it_is_not() -> None:
    memory = Memory()
    memory.take_in(look(["link a"]), 0, False)
    assert memory.fragile(1) == []
    memory.take_in(look(["link a"]), 30, False)
    assert memory.fragile(31) == ["link a"]
    assert memory.fragile(30 + WINDOW + 1) == []
    assert memory.heals == 2


def test_what_goes_with_a_link_is_not_counted_by_itself() -> None:
    memory = Memory()
    for now in (0, 1):
        memory.take_in(look(["link a", "address a 10.0.0.1/24", "route x"]), now, False)
    assert memory.fragile(2) == ["link a"]
    for now in (3, 4):
        memory.take_in(look(["route x"]), now, False)
    assert memory.fragile(5) == ["link a", "route x"]


def test_what_comes_late_and_what_a_boot_restores_was_removed_by_nobody() -> None:
    memory = Memory()
    memory.take_in(look(["link a"]), 0, True)
    memory.take_in(look([], link_b=restore.WAITS), 1, False)
    memory.take_in(look(["link b"]), 2, False)
    memory.take_in(look(["link b", "link a"]), 3, False)
    assert memory.fragile(4) == []


def test_the_refused_are_tried_again_ever_later_each_by_itself() -> None:
    memory = Memory()
    now, pauses = 0.0, []
    for _ in range(12):
        memory.take_in(look(link_a=restore.REFUSED), now, False)
        pauses.append(memory.due() - now)
        now = memory.due()
    assert pauses == [2.0**times for times in range(1, 9)] + [LONGEST] * 4
    memory.take_in(look(link_a=restore.REFUSED, link_b=restore.REFUSED), now - 1, False)
    assert memory.due() == now, "the first waits on, the second has its own pause"
    memory.take_in(look(["link c"], link_a=restore.REFUSED), now - 0.5, False)
    assert memory.due() == now - 0.5, "something came back: it may have waited for that"
    memory.take_in(look(), now, False)
    assert memory.due() == float("inf")


def test_containers_are_asked_for_often_enough_and_nobody_for_what_stays() -> None:
    memory = Memory()
    for now in range(0, 1000, 10):
        memory.take_in(look(engines=["podman"], link_a=restore.WAITS), now, False)
    assert memory.due() - now <= 15
    memory.take_in(look(link_a=restore.STAYS), 1000, False)
    assert memory.due() == float("inf")
