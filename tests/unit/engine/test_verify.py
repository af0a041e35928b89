# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Verification of a map on the wire."""

from __future__ import annotations

import threading
from typing import Any, Dict

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import verify


def test_all_nics_are_probed_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not answer is waited for, on a host with many NICs no longer than on one with one."""
    together = threading.Barrier(3, timeout=10)

    class Silent:
        def __init__(self, nic: str, mac: str) -> None:
            pass

        def __enter__(self) -> Silent:
            return self

        def __exit__(self, *_rest: object) -> None:
            pass

        def ask(self, _asks: Any, _sizes: Any = None) -> Dict[Any, Any]:
            together.wait()
            return {}

        def routers(self, _vlans: Any) -> Dict[Any, Any]:
            return {}

    monkeypatch.setattr(verify, "TrunkSocket", Silent)
    nics = ["eth0", "eth1", "eth2"]
    there = [
        verify.Network(nic, verify.Location(nic, nic, 10), "02:00:00:00:00:01", 1500, 1500, ["192.0.2.1"])
        for nic in nics
    ]
    assert list(verify.listen(there)) == nics
    assert verify.listen([]) == {}
