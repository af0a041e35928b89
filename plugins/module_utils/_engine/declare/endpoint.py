# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``endpoint``: one macvlan or ipvlan link inside a workload."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Dict, List, Optional, Sequence, Tuple, cast

from ..core import errors, isolation
from ..core.endpoint_specs import DHCP, SLAAC, DefaultRoute, EndpointRouteSpec, EndpointSpec, given_addresses, is_slaac
from ..core.errors import Problem
from ..core.route_specs import MAIN_TABLE
from ..core.specs import Spec
from . import bandwidth, dhcp, fields, resolver, vlan_list
from .declaration import Declaration, join

ROUTE_OPTIONS: Dict[str, fields.Parser] = {
    "prefix": lambda value: str(fields.network(value)),
    "via": fields.address(),
    "metric": fields.integer(0, 4294967295),
    "table": fields.TABLE,
}
#: More would not fit in the kernel's answer about a link.
_MOST_SOURCE_MACS = 1000


def _source_macs(value: Any) -> List[str]:
    """MACs, each once, in the order in which the kernel's list is read."""
    found = sorted(set(fields.sequence(fields.mac)(value)))
    if len(found) > _MOST_SOURCE_MACS:
        what = f"{len(found)} MACs are more than the {_MOST_SOURCE_MACS} that an endpoint can have"
        raise errors.InvalidValue(what, f"list {_MOST_SOURCE_MACS} at most")
    return found


_MODE = re.compile(r"0?[0-7]{3}\Z")
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?\Z")


def _file_mode(value: Any) -> str:
    """A mode in quotes: an unquoted 0660 is the number 432 in YAML."""
    if not isinstance(value, str) or not _MODE.match(value):
        raise errors.InvalidValue(f"{value!r} is not a file mode in quotes", 'write it as "0660"')
    return value.zfill(4)


def _account(value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not _ACCOUNT.match(text) or (text.isdecimal() and int(text) >= 2**32 - 1):
        raise errors.InvalidValue(f"{value!r} is not a user or a group", "give a name as in /etc/passwd, or a number")
    return text


OPTIONS: Dict[str, fields.Parser] = {
    "network": fields.name,
    "name": fields.name,
    "netns": fields.netns_name,
    "pid": fields.integer(1, 4194304),
    "container": lambda value: value,
    "interface": fields.short_name,
    "ipv4_address": lambda value: DHCP if value == DHCP else fields.address(4)(value),
    "ipv6_address": lambda value: value if value in (SLAAC, DHCP) else fields.address(6)(value),
    "ipv4_addresses": fields.sequence(fields.address(4)),
    "ipv6_addresses": fields.sequence(fields.address(6)),
    "allowed_addresses": fields.sequence(fields.address()),
    **dhcp.OPTIONS,
    "subnet": lambda value: str(fields.network(value)),
    "kind": fields.choice("link", "tap"),
    "tap_owner": _account,
    "tap_group": _account,
    "tap_mode": _file_mode,
    "mac_address": fields.mac,
    "source_macs": _source_macs,
    "mtu": fields.MTU,
    "aliases": fields.sequence(fields.name),
    "hosts": fields.mapping(fields.name, fields.address()),
    **resolver.OPTIONS,
    "gw_priority": fields.integer(-(2**31), 2**31 - 1),
    "default_route": lambda value: value,
    "routes": fields.rows,
    "source_routing": fields.boolean,
    "sysctls": lambda value: value,
    "accept_ra": fields.boolean,
    "probe": fields.boolean,
    **bandwidth.OPTIONS,
    "vlans": vlan_list.parse,
}
_ENDPOINT_DEFAULTS: Spec = {
    "interface": None, "ipv4_address": None, "ipv6_address": None, "subnet": None, "mac_address": None, "mtu": None,
    "gw_priority": 0, "source_routing": None, "routing_table": None, "accept_ra": False, "probe": False,
    "kind": "link", "tap_owner": None, "tap_group": None, "tap_mode": None,
    "ingress_rate": None, "ingress_burst": None, "egress_rate": None, "egress_burst": None,
    "dns": None, "dns_search": None, "dns_options": None, "dhcp_client_id": None, "dhcp_hostname": None,
}  # fmt: skip
CONTAINER_OPTIONS: Dict[str, fields.Parser] = {"engine": fields.choice("docker", "podman"), "name": fields.name}
_WHEN = fields.choice("auto", "always", "never")
DEFAULT_ROUTE_OPTIONS: Dict[str, fields.Parser] = {"ipv4": _WHEN, "ipv6": _WHEN}


def container(text: str) -> Tuple[str, str]:
    """Engine and name of a container in the short form ENGINE:NAME."""
    engine, colon, name = text.partition(":")
    if not colon:
        raise errors.InvalidValue(f"{text} does not say which engine", f"write docker:{text} or podman:{text}")
    return str(CONTAINER_OPTIONS["engine"](engine)), str(CONTAINER_OPTIONS["name"](name))


WORKLOADS = ("netns", "pid", "container")


def _sysctl_name(value: Any) -> str:
    """``net.ipv4.conf.IFNAME.arp_notify`` (as Docker writes it) or ``ipv4.arp_notify``, for the link alone."""
    text = str(value)
    short = text[len("net.") :].replace(".conf.IFNAME.", ".") if text.startswith("net.") else text
    family, _rest, key = short.partition(".")
    if key not in {"ipv4": isolation.IPV4, "ipv6": isolation.IPV6}.get(family, {}):
        raise errors.InvalidValue(
            f"{text} is not a sysctl of a link",
            "write net.ipv4.conf.IFNAME.KEY or net.ipv6.conf.IFNAME.KEY, IFNAME as it is",
        )
    return short


_ANY_NUMBER = fields.integer(-(2**31), 2**31 - 1)
#: What the kernel takes of those that it checks (net/ipv6/addrconf.c); a change beyond is EINVAL.
_CHECKED: Dict[str, fields.Parser] = {
    "ipv6.hop_limit": fields.integer(1, 255),
    "ipv6.mtu": fields.integer(1280, 65535, " bytes"),
    "ipv6.router_solicitations": fields.integer(-1, 2**31 - 1),
    "ipv6.addr_gen_mode": fields.choice(0, 1, 3),  # 2 needs a secret, which a new link does not have
}


def _sysctls(value: Any) -> Dict[str, Optional[int]]:
    """Sysctls of a link by their short names, each with a number that the kernel takes."""
    names: Dict[str, Optional[int]] = fields.mapping(_sysctl_name, _ANY_NUMBER)(value)
    faults = []
    for name, number in names.items():
        try:
            _CHECKED.get(name, _ANY_NUMBER)(number)
        except errors.InvalidValue as error:
            faults.append((f".{name}", error))
    if faults:
        raise errors.InvalidValue.within(faults)
    return names


def build(row: Any, path: str, into: Declaration) -> EndpointSpec:
    """The spec of an endpoint's row; what is wrong with it is added to the problems of ``into``."""
    problems = into.problems
    asked = fields.items(row, OPTIONS, path, problems, ("network", "name"))
    given = {option: value for option, value in asked.items() if option not in WORKLOADS}
    spec = cast(EndpointSpec, {**_ENDPOINT_DEFAULTS, **given})
    spec["ipv4_addresses"] = asked.get("ipv4_addresses", [])
    spec["ipv6_addresses"] = asked.get("ipv6_addresses", [])
    spec["allowed_addresses"] = asked.get("allowed_addresses", [])
    _addresses_once(spec, path, problems)
    spec["aliases"] = asked.get("aliases", [])
    spec["hosts"] = asked.get("hosts", {})
    spec["source_macs"] = asked.get("source_macs", [])
    spec["vlans"] = asked.get("vlans", [])
    spec["dhcp"] = spec["ipv4_address"] == DHCP
    spec["dhcp6"] = spec["ipv6_address"] == DHCP
    spec["workload"] = _workload(row, asked, path, problems) or ""
    when = {
        "ipv4": "auto", "ipv6": "auto",
        **fields.items(asked.get("default_route", {}), DEFAULT_ROUTE_OPTIONS, join(path, "default_route"), problems),
    }  # fmt: skip
    spec["default_route"] = cast(DefaultRoute, when)
    spec["routes"] = [
        cast(
            EndpointRouteSpec,
            fields.items(route, ROUTE_OPTIONS, f"{join(path, 'routes')}[{position}]", problems, ("prefix",)),
        )
        for position, route in enumerate(asked.get("routes", ()))
    ]
    _own_routes(spec["routes"], join(path, "routes"), problems)
    _tap(spec, asked, path, problems)
    bandwidth.check(spec, row, path, problems)
    vlan_list.check(asked, path, problems)
    try:
        spec["sysctls"] = _sysctls(asked.get("sysctls", {}))
    except errors.InvalidValue as error:
        problems += [Problem(join(path, "sysctls") + at, what, fix) for at, what, fix in error.faults]
    else:
        _slaac(spec, path, problems)
    return spec


def _slaac(spec: EndpointSpec, path: str, problems: List[Problem]) -> None:
    """What contradicts addresses that the kernel makes of what a router advertises."""
    if not is_slaac(spec):
        return
    if spec["subnet"] and ":" in spec["subnet"]:
        what = "with SLAAC the router says which prefix the endpoint gets"
        problems.append(Problem(join(path, "subnet"), what, "leave it out"))
    if spec["default_route"]["ipv6"] == "always":
        what = "with SLAAC the router is the way out too, and always would ignore it"
        problems.append(Problem(join(path, "default_route.ipv6"), what, "give auto or never"))
    for name, number in (("ipv6.accept_ra", 0), ("ipv6.autoconf", 0), ("ipv6.disable_ipv6", 1)):
        if spec["sysctls"].get(name) == number:
            problems.append(Problem(join(path, f"sysctls.{name}"), f"{number} switches off SLAAC", "leave it out"))


def _addresses_once(spec: EndpointSpec, path: str, problems: List[Problem]) -> None:
    allowed = ((f"allowed_addresses[{position}]", ip) for position, ip in enumerate(spec["allowed_addresses"]))
    seen: Dict[str, str] = {}
    for option, ip in (*given_addresses(spec), *allowed):
        first = seen.setdefault(ip, option)
        if first != option:
            problems.append(Problem(join(path, option), f"{ip} is {first} already", "give each address once"))


#: What the guest of a tap configures by itself.
_OF_A_GUEST = (
    "hosts", "dns", "dns_search", "dns_options", "gw_priority", "routes", "sysctls", "accept_ra", "probe", "source_routing", "routing_table",
    "dhcp_client_id", "dhcp_hostname",
)  # fmt: skip


def _tap(spec: EndpointSpec, asked: fields.Given, path: str, problems: List[Problem]) -> None:
    """What a tap cannot have, and what only a tap can."""
    if spec["kind"] == "tap":
        for option in ("pid", "container"):
            if asked.get(option):
                what = "a tap is for a virtual machine of the host"
                problems.append(
                    Problem(join(path, option), what, "give netns, which is created where it does not exist")
                )
        guests = [option for option in _OF_A_GUEST if asked.get(option)]
        if is_slaac(spec) or spec["dhcp6"]:
            guests.append("ipv6_address")
        if spec["dhcp"]:
            guests.append("ipv4_address")
        if set(spec["default_route"].values()) != {"auto"}:
            guests.append("default_route")
        for option in guests:
            what = "is the guest's to configure, for a tap is only the way to it"
            problems.append(Problem(join(path, option), what, "leave it out, and set it in the guest"))
        return
    for option in ("tap_owner", "tap_group", "tap_mode"):
        if option in asked:
            problems.append(
                Problem(join(path, option), "has no effect without kind: tap", "set kind: tap, or leave it out")
            )


def _own_routes(routes: Sequence[EndpointRouteSpec], path: str, problems: List[Problem]) -> None:
    seen: Dict[Tuple[str, Any, Any], int] = {}
    for position, route in enumerate(routes):
        prefix, via = route.get("prefix"), route.get("via")
        if prefix is None:
            continue
        if prefix.endswith("/0") and route.get("table", MAIN_TABLE) == MAIN_TABLE:
            problems.append(
                Problem(
                    f"{path}[{position}].prefix", f"{prefix} is the default route", "see default_route and gw_priority"
                )
            )
        if via is not None and (":" in via) != (":" in prefix):
            problems.append(
                Problem(
                    f"{path}[{position}].via",
                    f"{via} is not of the same IP version as {prefix}",
                    "give a next hop of the same version",
                )
            )
        first = seen.setdefault((prefix, route.get("metric"), route.get("table")), position)
        if first != position:
            problems.append(
                Problem(
                    f"{path}[{position}].prefix",
                    f"{prefix} is already listed in routes[{first}]",
                    "give another metric",
                )
            )


def _workload(row: Any, asked: fields.Given, path: str, problems: List[Problem]) -> Optional[str]:
    """The one namespace that is asked for, as ``netns:blue``, ``pid:17``, ``docker:web`` or ``podman:web``."""
    given = [option for option in WORKLOADS if isinstance(row, Mapping) and row.get(option) is not None]
    if not given:
        problems.append(Problem(join(path, "netns"), "no workload given", "give netns, pid or container"))
        return None
    if len(given) > 1:
        what = "several of " + ", ".join(given) + " given"
        problems.append(Problem(join(path, given[1]), what, "give netns, pid or container"))
        return None
    (option,) = given
    if option not in asked:
        return None
    if option != "container":
        return f"{option}:{asked[option]}"
    if isinstance(asked["container"], str):
        try:
            engine, name = container(asked["container"])
        except errors.InvalidValue as error:
            problems += [Problem(join(path, "container"), what, fix) for _at, what, fix in error.faults]
            return None
        return f"{engine}:{name}"
    given_as = fields.items(
        asked["container"], CONTAINER_OPTIONS, join(path, "container"), problems, ("engine", "name")
    )
    return f"{given_as.get('engine')}:{given_as.get('name')}"
