# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs for modules, from the wild to the nearly right, for hypothesis."""

from __future__ import annotations

from typing import Any, Dict, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import endpoint, model, routes, trunk
from ansible_collections.netops.underlay.plugins.module_utils._engine.declare.network import (
    IPVLAN_MODES,
    MACVLAN_MODES,
    SUBNET_OPTIONS,
)
from hypothesis import strategies as st

#: Whatever YAML, JSON or a template can make of a value.
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
WILD = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

NAMES = st.sampled_from(
    [
        "a",
        "b",
        "trunk",
        "trunk.2",
        "trunk.3",
        "trunk.4095",
        "lo",
        "eth9",
        "eth9.5",
        "a-name-of-more-than-15-characters",
        "",
    ]
)
NETWORKS = st.sampled_from(["192.0.2.0/24", "192.0.2.128/25", "192.0.2.9/24", "10.0.0.0/8", "2001:db8::/64", "203.0.113.0/24", "0.0.0.0/0",
                            "127.0.0.0/8", "224.0.0.0/4", "192.0.2.1/32", "192.0.2.0/31", "::/0", "2001:db8::1/128", "x/24"])  # fmt: skip
ADDRESSES = st.sampled_from(
    ["192.0.2.1", "192.0.2.0", "192.0.2.255", "10.0.0.1", "2001:db8::1", "fe80::1", "0.0.0.0", "::", "none", "x"]
)
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 67, 68, 1280, 1500, 1501, 4094, 4095, 2**32, "7", "x"])
WORDS = st.sampled_from([*MACVLAN_MODES, *IPVLAN_MODES, "macvlan", "ipvlan", "auto", "never", "always", "802.1q", "802.1ad", "unicast",
                         "blackhole", "unreachable", "prohibit", "docker"])  # fmt: skip
FLAGS = st.sampled_from([True, False, "yes", "perhaps"])


def _rows(options: Dict[str, Any], **near: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Rows with known options: mostly nearly right ones, here and there wild, sometimes one that does not exist."""
    values = NAMES | NETWORKS | ADDRESSES | NUMBERS | WORDS | FLAGS
    one = {key: near.get(key, values) | values | WILD for key in options}
    return st.fixed_dictionaries({}, optional={**one, "unknown": WILD})


MAC = st.sampled_from(["02:00:00:00:00:01", "01:00:00:00:00:01", "x"])
SUBNETS = st.lists(_rows(SUBNET_OPTIONS, subnet=NETWORKS, gateway=ADDRESSES, ip_range=NETWORKS, aux_addresses=st.dictionaries(NAMES, ADDRESSES, max_size=2)),
                   max_size=3)  # fmt: skip
QOS = st.dictionaries(NUMBERS.map(str), NUMBERS, max_size=2)

ROWS: Dict[str, st.SearchStrategy[Any]] = {
    "vlan": _rows(model.OPTIONS["vlan"], parent=NAMES, vlan_id=NUMBERS, name=NAMES, mtu=NUMBERS, ingress_qos_map=QOS, egress_qos_map=QOS,
                  addresses=st.lists(NETWORKS, max_size=2)),
    "network": _rows(model.OPTIONS["network"], name=NAMES, parent=NAMES, subnets=SUBNETS, mtu=NUMBERS, labels=st.dictionaries(NAMES, NAMES, max_size=2)),
    "endpoint": _rows(model.OPTIONS["endpoint"], network=NAMES, name=NAMES, netns=NAMES, ipv4_address=ADDRESSES, ipv6_address=ADDRESSES, subnet=NETWORKS,
                      mac_address=MAC, container=_rows(endpoint.CONTAINER_OPTIONS), default_route=_rows(endpoint.DEFAULT_ROUTE_OPTIONS),
                      routes=st.lists(_rows(endpoint.ROUTE_OPTIONS, prefix=NETWORKS, via=ADDRESSES), max_size=2)),
    "routes": _rows(model.OPTIONS["routes"], name=NAMES, network=NAMES,
                    routes=st.lists(_rows(routes.ROUTE_OPTIONS, prefix=NETWORKS, via=ADDRESSES, dev=NAMES), max_size=3)),
}  # fmt: skip

TRUNK = _rows(trunk.OPTIONS, match=st.dictionaries(st.sampled_from([*trunk.MATCH_OPTIONS]), NAMES, max_size=2))

MAPS = st.fixed_dictionaries(
    {"name": NAMES | WILD},
    optional={
        **{section: st.lists(ROWS[kind] | WILD, max_size=3) | WILD for section, kind in model.SECTIONS.items()},
        "trunks": st.dictionaries(NAMES, NAMES | TRUNK | WILD, max_size=2),
        "purge": FLAGS, "purge_limit": st.sampled_from(["3", "20%"]) | WILD, "adopt": FLAGS, "unknown": WILD,
    },
)  # fmt: skip


def items(kind: str) -> st.SearchStrategy[Tuple[Any, str, bool]]:
    """A row, its state and whether to adopt."""
    states = ["present", "absent", *(["released"] if kind == "endpoint" else [])]
    return st.tuples(ROWS[kind], st.sampled_from(states), st.booleans())


# --- whole tasks ---------------------------------------------------------------------------------

#: Of the options that every module which changes the wire has, those of a guard being wrong ones: there is none to be had.
_CHANGE = {
    "adopt": FLAGS, "lock_timeout": st.sampled_from([-1, 0, "x"]), "guard_timeout": st.sampled_from([-1, 0, 3601, "x"]),
    "guard_probe": st.fixed_dictionaries({}, optional={"ping": WILD, "url": WILD, "endpoint": NAMES, "unknown": WILD}) | WILD,
    "managed_from": st.lists(ADDRESSES, max_size=2) | WILD, "_earlier": st.text(max_size=8), "_who": st.text(max_size=8), "unknown": WILD,
}  # fmt: skip
_STATE = st.sampled_from(["present", "absent", "released", "x"])
_SUBSETS = st.lists(st.sampled_from(["all", "links", "drift", "adoptable", "x"]), max_size=2)


def _task(options: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Dict[str, Any]]:
    """The options of an item with one or two of its task."""
    some = st.lists(st.sampled_from(sorted(more)), max_size=2, unique=True)
    return st.tuples(
        options, some.flatmap(lambda names: st.fixed_dictionaries({name: more[name] for name in names}))
    ).map(lambda both: {**both[0], **both[1]})


#: By module, its arguments. A pid is never that of a process, or it would be joined.
TASKS: Dict[str, st.SearchStrategy[Dict[str, Any]]] = {
    "vlan_link": _task(ROWS["vlan"], state=_STATE, **_CHANGE),
    "vlan_network": _task(ROWS["network"], state=_STATE, **_CHANGE),
    "vlan_endpoint": _task(ROWS["endpoint"], state=_STATE, **_CHANGE).map(lambda task: {**task, **({"pid": 2**22 + 1} if "pid" in task else {})}),
    "ipvlan_l3_routes": _task(ROWS["routes"], state=_STATE, **_CHANGE),
    "vlan_map": _task(MAPS, **_CHANGE).map(lambda task: {**task, "endpoints": [_pidless(row) for row in task["endpoints"]]}
                                           if isinstance(task.get("endpoints"), list) else task),
    "vlan_info": _rows({"gather_subset": 1, "name": 1}, gather_subset=_SUBSETS, name=st.lists(NAMES, max_size=2)),
    "vlan_host": _rows({"drivers": 1, "neighbours": 1, "names": 1, "state": 1, "install": 1}, state=_STATE, neighbours=NUMBERS, names=FLAGS),
    "vlan_service": _rows({"heal": 1, "interpreter": 1, "state": 1, "taps": 1}, state=_STATE, heal=FLAGS, taps=FLAGS,
                          interpreter=st.sampled_from(["/usr/bin/python3", "/nowhere", "x"])),
    "vlan_verify": _task(MAPS, endpoints_name=NAMES | WILD, unknown=WILD),
}  # fmt: skip


def _pidless(row: Any) -> Any:
    return {**row, "pid": 2**22 + 1} if isinstance(row, dict) and "pid" in row else row
