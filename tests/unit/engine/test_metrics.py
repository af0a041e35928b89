# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of pools: their sizes, and how many addresses belong to endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import Record
from ansible_collections.netops.underlay.plugins.module_utils._engine.run.restore import Restored
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import metrics
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry


@pytest.mark.parametrize("lease", ["", "10.0.0.1/30", "2001:db8::1/126"])
@pytest.mark.parametrize(
    ("pool", "size"),
    [("10.0.0.0/24", 256), ("10.0.0.1/32", 1), ("10.0.0.0/0", 2**32), ("2001:db8::/64", 2**64), ("2001:db8::1/128", 1),
     ("10.0.0.0/25, 10.0.0.128/25", 256), ("10.0.0.0/24, 10.0.0.0/25", 256), ("10.0.0.1-10.0.0.9", 9),
     ("10.0.0.0/255.255.255.0", 256)],
)  # fmt: skip
def test_a_pool_has_one_size_with_leases_and_without(tmp_path: Path, pool: str, size: int, lease: str) -> None:
    network: Any = {"subnets": [{"subnet": "10.0.0.0/8", "ip_range": pool}]}
    endpoint: Any = {"network": "a", "addresses": [lease]}
    records = {"network": {"a": Record(network, "network:a")}}
    if lease:
        records["endpoint"] = {"a/w": Record(endpoint, "endpoint:a/w")}
    lines = metrics.text(Registry(str(tmp_path)), Restored(records=records), 0, {}).splitlines()
    assert f'netops_underlay_pool_size{{network="a",pool="{pool}"}} {size}' in lines
    used = int(bool(lease) and (":" in lease) == (":" in pool))
    assert f'netops_underlay_pool_leases{{network="a",pool="{pool}"}} {used}' in lines
