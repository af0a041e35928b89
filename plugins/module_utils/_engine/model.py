# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host should look like: the items that users declare, validated and in their normal form.

Four kinds of items: ``vlan`` (a declared sub-interface), ``network``, ``endpoint`` and ``routes`` (a named
set). A row becomes a *spec*, a flat dict of JSON values with every default filled in, or a list of
problems, all of them at once. What only the host can tell (does the parent exist?) is judged by ``plan``.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import fields, ipam, isolation
from .fields import NAME_MAX, Problem
from .world import Spec

#: IEEE 802.1Q: 0 and 4095 are reserved.
VLAN_ID = fields.integer(1, 4094)
MTU = fields.integer(68, 65535, " bytes")

MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
IPVLAN_MODES = ("l2", "l3", "l3s")
IPVLAN_FLAGS = ("bridge", "private", "vepa")

#: The map's lists and the kind of item in each.
SECTIONS = {"links": "vlan", "networks": "network", "endpoints": "endpoint", "routes": "routes"}


class Item(NamedTuple):
    """One declared object: where it stands in the input, and its spec (None: it shall be absent)."""

    kind: str
    key: str
    path: str
    spec: Optional[Spec]
    released: bool = False  # an endpoint whose workload must be gone already

    @property
    def label(self) -> str:
        return f"{self.kind}:{self.key}"


@dataclass
class Declaration:
    """All that one task asks for."""

    owner: str
    items: List[Item] = field(default_factory=list)
    trunks: Dict[str, Spec] = field(default_factory=dict)
    purge: bool = False
    adopt: bool = False
    problems: List[Problem] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)

    def add(self, kind: str, row: Any, path: str = "", state: str = "present") -> None:
        """Validate one row and take it in; what is wrong with it goes to ``problems``."""
        before = len(self.problems)
        listed = state != "present" and kind == "routes" and isinstance(row, Mapping) and bool(row.get("routes"))
        if listed:  # only those of the set shall be absent
            spec = _routes(row, path, self, absent=True)
        elif state == "present":
            spec = _BUILD[kind](row, path, self)
        else:
            spec = fields.items(row, _OPTIONS[kind], path, self.problems)
            _require_key(kind, spec, path, self.problems)
        if len(self.problems) == before:
            key = _KEY[kind](spec)
            self.items.append(Item(kind, key, path, spec if state == "present" or listed else None, state == "released"))


def _dot(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


# --- vlan: one 802.1q or 802.1ad sub-interface ---------------------------------------------------


def _qos_map(low: fields.Parser, high: fields.Parser) -> fields.Parser:
    """A map without what goes to 0: everything does that is not in it, and the kernel tells no such entry."""
    parse = fields.mapping(low, high)
    return lambda value: {start: to for start, to in parse(value).items() if to}


_QOS_IN = _qos_map(fields.integer(0, 7), fields.integer(0, 4294967295))
_QOS_OUT = _qos_map(fields.integer(0, 4294967295), fields.integer(0, 7))

_VLAN = {
    "parent": fields.link_name,
    "vlan_id": VLAN_ID,
    "name": fields.link_name,
    "protocol": fields.choice("802.1q", "802.1ad"),
    "mtu": MTU,
    "addresses": fields.sequence(fields.interface),
    "gvrp": fields.boolean,
    "mvrp": fields.boolean,
    "loose_binding": fields.boolean,
    "reorder_headers": fields.boolean,
    "ingress_qos_map": _QOS_IN,
    "egress_qos_map": _QOS_OUT,
    "bring_up_parent": fields.boolean,
}
#: What a sub-interface is unless a task says otherwise.
VLAN_FLAGS = {"gvrp": False, "mvrp": False, "loose_binding": False, "reorder_headers": True}
_VLAN_DEFAULTS: Spec = {**VLAN_FLAGS, "protocol": "802.1q", "bring_up_parent": True, "ingress_qos_map": {}, "egress_qos_map": {}}


def _vlan(row: Any, path: str, into: Declaration) -> Spec:
    spec = fields.items(row, _VLAN, path, into.problems, ("parent", "vlan_id"))
    if spec.get("gvrp") and spec.get("mvrp"):
        into.problems.append(
            Problem(_dot(path, "mvrp"), "GVRP and MVRP announce the same VLAN twice", "choose the one that the switch speaks")
        )
    return {**_VLAN_DEFAULTS, "name": _vlan_name(spec), **spec}


def _vlan_name(spec: Spec) -> str:
    return str(spec.get("name") or f"{spec.get('parent')}.{spec.get('vlan_id')}")


def link_names(wanted: str) -> Tuple[str, List[str]]:
    """The kernel's name and the alternative names of a link that is wanted under any name.

    A name over 15 characters becomes an alternative name, and the kernel's own is made of a digest of it
    and of its VLAN id.
    """
    if len(wanted) <= NAME_MAX:
        return wanted, []
    tail = wanted.rpartition(".")[2]
    end = "." + tail if tail.isdigit() and len(tail) <= 4 else ""
    return digest_name("u", wanted, end), [wanted]


def digest_name(head: str, text: str, tail: str = "") -> str:
    """A link name of full length that stands for a longer text, always the same."""
    return head + hashlib.sha256(text.encode()).hexdigest()[: NAME_MAX - len(head) - len(tail)] + tail


# --- network: driver + mode + parent + subnets ---------------------------------------------------

_SUBNET = {
    "subnet": fields.network,
    "gateway": lambda value: "none" if value == "none" else fields.address()(value),
    "ip_range": fields.network,
    "aux_addresses": fields.mapping(fields.name, fields.address()),
}
_SUBNET_ALIASES = {"iprange": "ip_range"}


def _rows(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise fields.Invalid(f"{value!r} is not a list", "write one item a line, each with '- '")
    return value


def _host_access(value: Any) -> Any:
    """true, or the addresses that the host itself takes in the network."""
    return fields.sequence(fields.address())(value) if isinstance(value, (list, tuple)) else fields.boolean(value)


_NETWORK = {
    "name": fields.name,
    "driver": fields.choice("macvlan", "ipvlan"),
    "mode": fields.choice(*MACVLAN_MODES, *IPVLAN_MODES),
    "flag": fields.choice(*IPVLAN_FLAGS),
    "parent": fields.link_name,
    "internal": fields.boolean,
    "subnets": _rows,
    "enable_ipv4": fields.boolean,
    "enable_ipv6": fields.boolean,
    "mtu": MTU,
    "share_parent": fields.boolean,
    "bring_up_parent": fields.boolean,
    "host_access": _host_access,
    "probe": fields.boolean,
    "recreate": fields.boolean,
    "bcqueuelen": fields.integer(1, 4294967295, " packets"),
    "bclim": fields.integer(-1, 2147483647),
    "labels": fields.mapping(str, str),
}
_NETWORK_DEFAULTS: Spec = {
    "parent": None, "internal": False, "mtu": None, "share_parent": False, "bring_up_parent": True,
    "host_access": False, "probe": False, "recreate": False, "host_addresses": [], "labels": {}, "flag": None, "bcqueuelen": None, "bclim": None,
}  # fmt: skip


def _network(row: Any, path: str, into: Declaration) -> Spec:
    if isinstance(row, Mapping) and "ipam_config" in row:
        row = {**row, "subnets": row.get("subnets") or row["ipam_config"]}
        del row["ipam_config"]
    asked = fields.items(row, _NETWORK, path, into.problems, ("name", "driver"))
    spec = {**_NETWORK_DEFAULTS, **asked}
    if "driver" in asked:
        _driver_options(spec, asked, path, into.problems)
    if spec["internal"] and spec["parent"]:
        into.problems.append(
            Problem(
                _dot(path, "internal"),
                "an internal network has a dummy of its own, no parent",
                "leave out parent, or use gateway: none on the subnets for a network on a parent without a way out",
            )
        )
    if spec["probe"] and not spec["host_access"]:
        into.problems.append(Problem(_dot(path, "probe"), "asks for the addresses of host_access, which is off",
                                     "set host_access too, or leave it out; endpoints have a probe of their own"))  # fmt: skip
    # The guide's L3 networks without a parent have a default route, its L2 networks without one have none.
    spec["internal"] = spec["internal"] or not (spec["parent"] or is_l3(spec))
    spec["subnets"] = [
        _subnet(subnet, f"{_dot(path, 'subnets')}[{position}]", spec, into)
        for position, subnet in enumerate(asked.get("subnets", ()))
    ]
    _families(spec, asked, path, into.problems)
    _no_overlap(spec["subnets"], path, into.problems)
    return spec


def _driver_options(spec: Spec, asked: Spec, path: str, problems: List[Problem]) -> None:
    driver = spec["driver"]
    modes = MACVLAN_MODES if driver == "macvlan" else IPVLAN_MODES
    spec.setdefault("mode", modes[0])
    if spec["mode"] not in modes:
        problems.append(Problem(_dot(path, "mode"), f"{driver} has no mode {spec['mode']}", "give one of " + ", ".join(modes)))
    if driver == "ipvlan":
        spec["flag"] = spec["flag"] or "bridge"
        for option in ("bcqueuelen", "bclim"):
            if option in asked:
                problems.append(Problem(_dot(path, option), "ipvlan has no broadcast queue", "leave it out, or use macvlan"))
    elif "flag" in asked:
        problems.append(Problem(_dot(path, "flag"), "macvlan has no flag", "leave it out, or use mode: private or vepa"))


def is_l3(network: Spec) -> bool:
    return network.get("mode") in ("l3", "l3s")


def _subnet(row: Any, path: str, network: Spec, into: Declaration) -> Spec:
    if isinstance(row, Mapping):
        row = {_SUBNET_ALIASES.get(key, key): value for key, value in row.items()}
    problems = into.problems
    spec = fields.items(row, _SUBNET, path, problems, ("subnet",))
    subnet = spec.get("subnet")
    if subnet is None:
        return {"subnet": None}
    text = str(subnet)
    ip_range = spec.get("ip_range")
    part = None if ip_range is None else str(ip_range)
    for option, taken, normal in (("subnet", subnet, text), ("ip_range", ip_range, part)):
        given = str(row.get(option))
        if taken is not None and normal != given and ipaddress.ip_interface(given).ip != taken.network_address:
            into.warnings.append(f"{path}.{option}: {given} has host bits set and is taken as {taken}")
    if subnet.prefixlen == 0:
        problems.append(Problem(f"{path}.subnet", f"{subnet} is everything there is", "give the network's own subnet"))
    elif nobodys := _nobodys(subnet):
        problems.append(Problem(f"{path}.subnet", f"{subnet} is {nobodys}", "no host has an address there, give a unicast subnet"))
    elif subnet.version == 6 and subnet.is_link_local:
        problems.append(
            Problem(f"{path}.subnet", f"{subnet} is link-local, which every link has by itself", "give a subnet of the network's own")
        )
    if ip_range is not None and not (ip_range.version == subnet.version and ip_range.subnet_of(subnet)):
        problems.append(Problem(f"{path}.ip_range", f"{ip_range} is not inside {text}", f"give a part of {text}"))
    for label, address in spec.get("aux_addresses", {}).items():
        if ipaddress.ip_address(address) not in subnet:
            problems.append(
                Problem(f"{path}.aux_addresses.{label}", f"{address} is not inside {text}", f"give an address of {text}")
            )
    return {
        "subnet": text,
        "gateway": _gateway(spec.get("gateway"), subnet, path, network, into),
        "ip_range": part,
        "aux_addresses": spec.get("aux_addresses", {}),
    }


#: The subnets that no host can have an address of, by version (RFC 1122, 3.2.1.3; RFC 5771; RFC 4291, 2.4).
_NOBODYS = {
    4: [(ipaddress.ip_network(text), what) for text, what in (("0.0.0.0/8", "unspecified"), ("127.0.0.0/8", "loopback"), ("224.0.0.0/4", "multicast"))],
    6: [(ipaddress.ip_network(text), what) for text, what in (("::/128", "unspecified"), ("::1/128", "loopback"), ("ff00::/8", "multicast"))],
}


def _nobodys(subnet: fields.Network) -> str:
    """What a subnet is that no host can have an address of; empty for any other."""
    first, length = subnet.network_address, subnet.prefixlen
    return next((what for network, what in _NOBODYS[subnet.version] if length >= network.prefixlen and first in network), "")


def _gateway(given: Optional[str], subnet: fields.Network, path: str, network: Spec, into: Declaration) -> Optional[str]:
    """The gateway that endpoints of a subnet get; None for none."""
    if given == "none":
        return None
    if is_l3(network):
        if given:
            into.warnings.append(f"{path}.gateway: {given} is not used, endpoints of L3 modes route by device")
        return None
    if given is None:
        return None if network["internal"] else ipam.first_usable(str(subnet))
    address = ipaddress.ip_address(given)
    if address.version == 6 and address.is_link_local:
        return given
    fault = ipam.usable_error(str(subnet), given)
    if fault:
        into.problems.append(Problem(f"{path}.gateway", fault, f"give an address of {subnet}, or none"))
    return given


def _families(spec: Spec, asked: Spec, path: str, problems: List[Problem]) -> None:
    """Which IP versions a network has: those of its subnets, and IPv4 unless it is switched off."""
    for version in (4, 6):
        option = f"enable_ipv{version}"
        there = any(row["subnet"] and (":" in row["subnet"]) == (version == 6) for row in spec["subnets"])
        if asked.get(option) is False and there:
            problems.append(
                Problem(_dot(path, option), f"is false, but an IPv{version} subnet is given", "remove one of the two")
            )
        spec[option] = asked.get(option, there or version == 4)


def _no_overlap(subnets: Sequence[Spec], path: str, problems: List[Problem]) -> None:
    texts = [row["subnet"] for row in subnets]
    for first, second in _overlapping(texts):
        problems.append(
            Problem(
                f"{_dot(path, 'subnets')}[{second}].subnet",
                f"{texts[second]} overlaps {texts[first]} of subnets[{first}]",
                "give each subnet once",
            )
        )


def _overlapping(texts: Sequence[Optional[str]]) -> List[Tuple[int, int]]:
    """The positions of overlapping subnets, the earlier one first."""
    if len(texts) < 2:
        return []
    found = ipam.overlaps([(position, text) for position, text in enumerate(texts) if text])
    return sorted((min(pair), max(pair)) for pair in found)


# --- endpoint: one macvlan or ipvlan link inside a workload --------------------------------------

_ROUTE_IN = {
    "prefix": lambda value: str(fields.network(value)),
    "via": fields.address(),
    "metric": fields.integer(0, 4294967295),
}
_ENDPOINT = {
    "network": fields.name,
    "name": fields.name,
    "netns": fields.netns_name,
    "pid": fields.integer(1, 4194304),
    "container": lambda value: value,
    "interface": fields.short_name,
    "ipv4_address": fields.address(4),
    "ipv6_address": fields.address(6),
    "subnet": lambda value: str(fields.network(value)),
    "mac_address": fields.mac,
    "mtu": MTU,
    "aliases": fields.sequence(fields.name),
    "hosts": fields.mapping(fields.name, fields.address()),
    "gw_priority": fields.integer(-(2**31), 2**31 - 1),
    "default_route": lambda value: value,
    "routes": _rows,
    "sysctls": lambda value: value,
    "accept_ra": fields.boolean,
    "probe": fields.boolean,
}
_ENDPOINT_DEFAULTS: Spec = {
    "interface": None, "ipv4_address": None, "ipv6_address": None, "subnet": None, "mac_address": None, "mtu": None,
    "gw_priority": 0, "accept_ra": False, "probe": False,
}  # fmt: skip
_CONTAINER = {"engine": fields.choice("docker", "podman"), "name": fields.name}
_WHEN = fields.choice("auto", "always", "never")
_DEFAULT_ROUTE = {"ipv4": _WHEN, "ipv6": _WHEN}
WORKLOADS = ("netns", "pid", "container")


def _sysctl_name(value: Any) -> str:
    """``net.ipv4.conf.IFNAME.arp_notify`` (as Docker writes it) or ``ipv4.arp_notify``, for the link alone."""
    text = str(value)
    short = text[len("net.") :].replace(".conf.IFNAME.", ".") if text.startswith("net.") else text
    family, _rest, key = short.partition(".")
    if key not in {"ipv4": isolation.IPV4, "ipv6": isolation.IPV6}.get(family, {}):
        raise fields.Invalid(
            f"{text} is not a sysctl of a link", "write net.ipv4.conf.IFNAME.KEY or net.ipv6.conf.IFNAME.KEY, IFNAME as it is"
        )
    return short


_SYSCTLS = fields.mapping(_sysctl_name, fields.integer(-(2**31), 2**31 - 1))


def _endpoint(row: Any, path: str, into: Declaration) -> Spec:
    problems = into.problems
    asked = fields.items(row, _ENDPOINT, path, problems, ("network", "name"))
    spec = {**_ENDPOINT_DEFAULTS, **asked}
    spec["aliases"] = asked.get("aliases", [])
    spec["hosts"] = asked.get("hosts", {})
    spec["workload"] = _workload(row, spec, asked, path, problems)
    spec["default_route"] = {
        "ipv4": "auto", "ipv6": "auto",
        **fields.items(asked.get("default_route", {}), _DEFAULT_ROUTE, _dot(path, "default_route"), problems),
    }  # fmt: skip
    spec["routes"] = [
        fields.items(route, _ROUTE_IN, f"{_dot(path, 'routes')}[{position}]", problems, ("prefix",))
        for position, route in enumerate(asked.get("routes", ()))
    ]
    _own_routes(spec["routes"], _dot(path, "routes"), problems)
    try:
        spec["sysctls"] = _SYSCTLS(asked.get("sysctls", {}))
    except fields.Invalid as error:
        problems += [Problem(_dot(path, "sysctls") + at, what, cure) for at, what, cure in error.faults]
    return spec


def _own_routes(routes: Sequence[Spec], path: str, problems: List[Problem]) -> None:
    seen: Dict[Tuple[str, Any], int] = {}
    for position, route in enumerate(routes):
        prefix, via = route.get("prefix"), route.get("via")
        if prefix is None:
            continue
        if prefix.endswith("/0"):
            problems.append(Problem(f"{path}[{position}].prefix", f"{prefix} is the default route", "see default_route and gw_priority"))
        if via is not None and (":" in via) != (":" in prefix):
            problems.append(
                Problem(f"{path}[{position}].via", f"{via} is not of the family of {prefix}", "give a next hop of the same family")
            )
        first = seen.setdefault((prefix, route.get("metric")), position)
        if first != position:
            problems.append(Problem(f"{path}[{position}].prefix", f"{prefix} stands in routes[{first}] already", "give another metric"))


def _workload(row: Any, spec: Spec, asked: Spec, path: str, problems: List[Problem]) -> Optional[str]:
    """The one namespace that is asked for, as ``netns:blue``, ``pid:17``, ``docker:web`` or ``podman:web``."""
    given = [option for option in WORKLOADS if isinstance(row, Mapping) and row.get(option) is not None]
    for option in WORKLOADS:
        spec.pop(option, None)
    if len(given) != 1:
        what = "several of " + ", ".join(given) if given else "no workload"
        problems.append(Problem(_dot(path, given[1] if given else "netns"), what + " given", "give netns, pid or container"))
        return None
    (option,) = given
    if option not in asked:
        return None
    if option != "container":
        return f"{option}:{asked[option]}"
    container = fields.items(asked["container"], _CONTAINER, _dot(path, "container"), problems, ("engine", "name"))
    return f"{container.get('engine')}:{container.get('name')}"


# --- routes: a named set of routes for L3 prefixes -----------------------------------------------

_ROUTE = {
    "prefix": fields.network,
    "via": fields.address(),
    "dev": fields.link_name,
    "type": fields.choice("unicast", "unreachable", "blackhole", "prohibit"),
    "metric": fields.integer(0, 4294967295),
    "table": fields.integer(1, 4294967295),
    "vrf": fields.link_name,
}
_ROUTES = {"name": fields.name, "routes": _rows, "network": fields.name, "exact": fields.boolean}

MAIN_TABLE = 254  # RT_TABLE_MAIN
#: Metric of an IPv6 route that was given none, or 0 (IP6_RT_PRIO_USER).
IPV6_METRIC = 1024


def _routes(row: Any, path: str, into: Declaration, absent: bool = False) -> Spec:
    """A set. With ``absent``, its routes are those that shall go, and of each what it is known by."""
    asked = fields.items(row, _ROUTES, path, into.problems, ("name",))
    build = _route_gone if absent else _route
    return {
        "name": asked.get("name"),
        "network": asked.get("network"),
        "exact": asked.get("exact", False),
        "absent": absent,
        "routes": [build(route, f"{_dot(path, 'routes')}[{position}]", into) for position, route in enumerate(asked.get("routes", ()))],
    }


def _route_gone(row: Any, path: str, into: Declaration) -> Spec:
    """None stands for whatever it is."""
    spec = fields.items(row, _ROUTE, path, into.problems, ("prefix",))
    prefix = spec.get("prefix")
    metric = spec.get("metric")
    if metric is not None and prefix is not None and prefix.version == 6:
        metric = metric or IPV6_METRIC
    return {"prefix": str(prefix), "metric": metric, "table": spec.get("table"), "vrf": spec.get("vrf")}


def _route(row: Any, path: str, into: Declaration) -> Spec:
    problems = into.problems
    spec = fields.items(row, _ROUTE, path, problems, ("prefix",))
    prefix = spec.get("prefix")
    kind = spec.get("type", "unicast")
    if prefix is not None:
        if "/" in str(row["prefix"]) and ipaddress.ip_interface(str(row["prefix"])).ip != prefix.network_address:
            into.warnings.append(f"{path}.prefix: {row['prefix']} has host bits set and is taken as {prefix}")
        if prefix.prefixlen == 0:
            problems.append(Problem(f"{path}.prefix", f"{prefix} is the default route", "give the prefix of an L3 network"))
        via = spec.get("via")
        if via is not None and ipaddress.ip_address(via).version != prefix.version:
            problems.append(Problem(f"{path}.via", f"{via} is not of the family of {prefix}", "give a next hop of the same family"))
    if kind == "unicast" and "via" not in spec and "dev" not in spec:
        problems.append(Problem(f"{path}.via", "is missing, and so is dev", "give the next hop, or the device"))
    if kind != "unicast" and ("via" in spec or "dev" in spec):
        problems.append(Problem(f"{path}.type", f"an {kind} route leads nowhere", "leave out via and dev"))
    if "table" in spec and "vrf" in spec:
        problems.append(Problem(f"{path}.vrf", "table is given too", "give one of the two"))
    if "dev" not in spec and ":" in spec.get("via", "") and ipaddress.ip_address(spec["via"]).is_link_local:
        problems.append(Problem(f"{path}.dev", f"is missing, and {spec['via']} is on every link", "give the device"))
    usual = IPV6_METRIC if prefix is not None and prefix.version == 6 else 0
    return {
        "prefix": str(prefix), "type": kind, "via": spec.get("via"), "dev": spec.get("dev"), "metric": spec.get("metric") or usual,
        "table": spec.get("table") or (None if "vrf" in spec else MAIN_TABLE), "vrf": spec.get("vrf"),
    }  # fmt: skip


# --- one input -----------------------------------------------------------------------------------

_BUILD = {"vlan": _vlan, "network": _network, "endpoint": _endpoint, "routes": _routes}
_OPTIONS: Dict[str, Dict[str, Any]] = {"vlan": _VLAN, "network": _NETWORK, "endpoint": _ENDPOINT, "routes": _ROUTES}
_KEY: Dict[str, Callable[[Spec], str]] = {
    "vlan": _vlan_name,
    "network": lambda spec: str(spec["name"]),
    "endpoint": lambda spec: f"{spec['network']}/{spec['name']}",
    "routes": lambda spec: str(spec["name"]),
}


def _require_key(kind: str, spec: Spec, path: str, problems: List[Problem]) -> None:
    """What an item that shall be absent must say, so that it can be found."""
    if kind == "vlan":
        missing = () if "name" in spec else [key for key in ("parent", "vlan_id") if key not in spec]
    else:
        missing = [key for key in {"endpoint": ("network", "name")}.get(kind, ("name",)) if key not in spec]
    problems += [Problem(_dot(path, key), "is missing", "it says which one shall be absent") for key in missing]


_MATCH = {"name": fields.link_name, "match": lambda value: value}
_MATCH_BY: Dict[str, fields.Parser] = {"mac": fields.mac, "pci": str, "altname": fields.link_name}


def _trunk(row: Any, path: str, problems: List[Problem]) -> Spec:
    """A logical trunk: the name of a NIC, or what to know it by."""
    if isinstance(row, str):
        row = {"name": row}
    spec = fields.items(row, _MATCH, path, problems)
    if len(spec) != 1:
        problems.append(Problem(path, "says not exactly one of name and match", "give the NIC's name, or match: {mac: ...}"))
    if "match" in spec:
        before = len(problems)
        by = fields.items(spec["match"], _MATCH_BY, f"{path}.match", problems)
        if len(by) != 1 and len(problems) == before:
            problems.append(Problem(f"{path}.match", "says not exactly one of " + ", ".join(_MATCH_BY), "give one"))
        spec["match"] = by
    return spec


def declare_map(options: Mapping[str, Any]) -> Declaration:
    """A whole map: ``name``, ``trunks``, the sections of :data:`SECTIONS`, ``purge`` and ``adopt``."""
    into = Declaration(owner="map:" + str(options.get("name")))
    known: Dict[str, fields.Parser] = {
        "name": fields.name, "purge": fields.boolean, "adopt": fields.boolean,
        "trunks": fields.mapping(fields.link_name, lambda value: value),
    }  # fmt: skip
    known.update(dict.fromkeys(SECTIONS, _rows))
    asked = fields.items(options, known, "", into.problems, ("name",))
    into.purge = asked.get("purge", False)
    into.adopt = asked.get("adopt", False)
    for name, row in asked.get("trunks", {}).items():
        before = len(into.problems)
        trunk = _trunk(row, f"trunks.{name}", into.problems)
        if len(into.problems) == before:
            into.trunks[name] = trunk
    for section, kind in SECTIONS.items():
        for position, row in enumerate(asked.get(section, ())):
            into.add(kind, row, f"{section}[{position}]")
    _once(into)
    return into


def declare(kind: str, options: Mapping[str, Any], state: str, adopt: bool) -> Declaration:
    """One item, as the module of its kind takes it."""
    into = Declaration(owner="task", adopt=adopt)
    into.add(kind, options, "", state)
    return into


def _once(into: Declaration) -> None:
    """No two rows of one input may speak of the same object."""
    seen: Dict[Tuple[str, str], str] = {}
    doubled: Set[str] = set()
    for item in into.items:
        first = seen.setdefault((item.kind, item.key), item.path)
        if first != item.path:
            doubled.add(item.path)
            into.problems.append(Problem(item.path, f"{item.kind} {item.key} stands in {first} already", "give each once"))
    into.items = [item for item in into.items if item.path not in doubled]


def specs(items: Iterable[Item], kind: str) -> List[Item]:
    return [item for item in items if item.kind == kind and item.spec is not None]
