# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expands an endpoint to the objects of its workload: the namespace, the link, its addresses and routes."""

from __future__ import annotations

import ipaddress
from typing import Dict, Optional, Union, cast

from ..core.change import HOST, LINK_GROUP, link_key, route_key
from ..core.endpoint_specs import (
    EndpointRouteSpec,
    EndpointSpec,
    heeds_routers,
    is_slaac,
    is_tap,
    makes_addresses,
    node_path,
)
from ..core.formats import host_prefix, ip_of
from ..core.link_specs import NodeSpec
from ..core.network_specs import NetworkSpec
from ..core.route_specs import MAIN_TABLE, usual_metric
from ..core.specs import LinkSpec, Spec, is_l3
from ..declare.endpoint import WORKLOADS
from .bandwidth import Bandwidth
from .desired import DesiredState, Parent
from .host_links import UNLESS_HELD, HostLinks, access_name, announcing, check_probe
from .network_rules import FILTERS
from .vlan_links import VlanLinks
from .wanted import Wanted

IpAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
IpInterface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

#: Of the route that the kernel makes for a subnet (IP6_RT_PRIO_ADDRCONF); that of IPv4 has 0.
CONNECTED_IPV6_METRIC = 256


def not_a_neighbour(via: IpAddress, own: IpInterface) -> str:
    """Why an address cannot be a next hop, given ``own`` on the link; empty if it can."""
    network = own.network
    if via == own.ip:
        return f"{via} is an address of the link itself"
    if via.version == 4 and network.prefixlen < 31 and via in (network.network_address, network.broadcast_address):
        return f"{via} is the {'broadcast' if via == network.broadcast_address else 'network'} address of {network}"
    return ""


def is_away(desired: DesiredState, workload: str) -> bool:
    """Whether a namespace does not exist and is not ours to create."""
    if workload in desired.observed.gone:
        return True
    there = desired.observed.namespace(workload) is not None or workload in desired.observed.refusals
    return not there and workload not in desired.records.get("netns", {})


class Attachment:
    """Adds the objects of endpoints to the desired ones."""

    def __init__(self, desired: DesiredState, wanted: Wanted, host_links: HostLinks) -> None:
        self.desired = desired
        self.observed = desired.observed
        self.wanted = wanted
        self.host_links = host_links
        self.bandwidth = Bandwidth(desired, wanted)
        self.vlan_links = VlanLinks(desired, wanted, host_links)

    def attach(self, key: str, endpoint: EndpointSpec) -> bool:
        """List the objects of an endpoint; False where it has no parent, or its workload cannot be entered."""
        network = self.desired.items["network"][endpoint["network"]]
        parent = self.desired.parent(network)
        if parent is None:
            return False
        workload, name, of = endpoint["workload"], endpoint["interface"] or "", f"endpoint:{key}"
        if not self._enterable(key, workload):
            return False
        spec = self._link(endpoint, network, parent)
        if endpoint["vlans"]:
            self._unknown_file(key, endpoint)
            self.vlan_links.add(key, endpoint, network, spec)
            return True
        if endpoint["sysctls"].get("ipv6.disable_ipv6") and self._asks_for_ipv6(endpoint) and not is_slaac(endpoint):
            what = "1 switches off IPv6, which the endpoint has addresses of"
            fix = "leave it out, or use a network with enable_ipv6: false"
            self.desired.refuse("endpoint", key, "sysctls.ipv6.disable_ipv6", what, fix)
        if is_slaac(endpoint):
            self._slaac(key, endpoint, network)
        self._special_modes(key, spec, endpoint, network)
        if is_tap(endpoint):
            self._tap(key, spec, endpoint, network)
        self._senders(key, spec, endpoint, network)
        if endpoint["mtu"]:
            self._endpoint_fits(key, endpoint["mtu"], parent)
        self.wanted.add("link", link_key(workload, name), spec, of, f"{network['name']} in {workload}")
        packet = endpoint["sysctls"].get("ipv6.mtu") or 0
        limit = spec["mtu"] or self.host_links.mtu_of(parent)
        self.bandwidth.add(key, endpoint, network, limit)
        if packet > limit:
            what = f"{packet} is more than the {limit} of the link"
            self.desired.refuse("endpoint", key, "sysctls.ipv6.mtu", what, f"give {limit} at most")
        self._addresses(key, endpoint, network, parent)
        check_probe(self.desired, network, self.desired.path("endpoint", key, "probe"), endpoint["probe"])
        self._check_routes(key, endpoint, network)
        self._unknown_file(key, endpoint)
        for route in endpoint["routes"]:
            self.wanted.route(
                workload,
                route["prefix"],
                route.get("via"),
                name,
                of,
                "route of the endpoint",
                metric=route.get("metric"),
                table=route.get("table") or MAIN_TABLE,
            )
        return True

    def _unknown_file(self, key: str, endpoint: EndpointSpec) -> None:
        workload = endpoint["workload"]
        if endpoint["hosts"] and workload.startswith("pid:"):
            self.desired.warn("endpoint", key, "hosts", f"{workload} has no known hosts file, so it gets no names")

    def _link(self, endpoint: EndpointSpec, network: NetworkSpec, parent: Parent) -> LinkSpec:
        """The link of an endpoint, as its network and its own options have it."""
        spec: LinkSpec = {
            "netns": endpoint["workload"],
            "name": endpoint["interface"] or "",
            "kind": "macvtap" if is_tap(endpoint) else network["driver"],
            "parent": parent.name,
            "mode": network["mode"],
            "up": True,
            "group": LINK_GROUP,
            "sysctls": self._sysctls(endpoint),
        }
        if network["flag"]:
            spec["flag"] = network["flag"]
        elif endpoint["mac"]:
            spec["mac"] = endpoint["mac"]
        if network["bcqueuelen"] is not None:
            spec["bcqueuelen"] = network["bcqueuelen"]
        if network["bclim"] is not None:
            spec["bclim"] = network["bclim"]
        spec["mtu"] = endpoint["mtu"] or network["mtu"]  # None follows the parent, down and up
        return spec

    def _addresses(self, key: str, endpoint: EndpointSpec, network: NetworkSpec, parent: Parent) -> None:
        """The addresses of an endpoint's link, and the host's routes to them."""
        workload, name, of = endpoint["workload"], endpoint["interface"] or "", f"endpoint:{key}"
        own = [] if is_tap(endpoint) else [*endpoint["addresses"], *endpoint["allowed_addresses"]]  # else the guest's
        six = [*own, *(["::"] if heeds_routers(endpoint) else [])]
        self.host_links.ipv6_fits(("endpoint", key), link_key(workload, name), six, parent)
        for address in endpoint["addresses"]:
            unless = UNLESS_HELD if endpoint["probe"] else ""
            if not is_tap(endpoint):
                self.wanted.address(workload, name, address, of, f"lease of {endpoint['name']}{unless}")
            if network["host_access"]:
                self.wanted.route(
                    HOST,
                    host_prefix(address),
                    None,
                    access_name(network),
                    of,
                    f"the host's route to {endpoint['name']}",
                )

    def _slaac(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """Check that a router can be heard, and say what its addresses are left out of: no plan knows them."""
        name = network["name"]
        if is_l3(network):
            what = f"{name} is an L3 network, where no router's advertisement reaches an endpoint"
            self.desired.refuse("endpoint", key, "ipv6_address", what, "leave it out, or use an L2 mode")
        elif network["internal"]:
            what = f"{name} is internal, so no router is in it"
            self.desired.refuse("endpoint", key, "ipv6_address", what, "leave it out, or give the network a parent")
        if network["host_access"]:
            what = "the host has no route to the addresses of SLAAC, so it does not reach them"
            self.desired.warn("endpoint", key, "ipv6_address", what)
        if endpoint["routing_table"]:
            what = "answers from the addresses of SLAAC leave by the main table, without source routing"
            self.desired.warn("endpoint", key, "ipv6_address", what)

    def _tap(self, key: str, spec: LinkSpec, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """What a virtual machine opens, and nothing that its namespace would answer in the place of its guest."""
        if network["driver"] == "ipvlan":  # nor could a plan see what else is on that parent
            what = "the kernel does not say which parent an ipvtap in a namespace has"
            self.desired.refuse("endpoint", key, "kind", what, "leave it out, or use a macvlan network")
        node: NodeSpec = {
            "path": node_path(endpoint),
            "uid": self._account(key, endpoint, "user", "tap_owner"),
            "gid": self._account(key, endpoint, "group", "tap_group"),
            "mode": endpoint["tap_mode"] or "0660",
        }
        spec["node"] = node
        spec["sysctls"] = {"ipv4.arp_ignore": 8}
        if self.observed.ipv6:
            spec["sysctls"].update({"ipv6.disable_ipv6": 1, "ipv6.accept_ra": 0, "ipv6.autoconf": 0})

    def _senders(self, key: str, spec: LinkSpec, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """From which addresses the link may send, where its network holds it to them."""
        if not network["spoof_check"]:
            now = self.observed.find("link", cast(Spec, spec)) or {}
            record = self.desired.record("link", link_key(spec["netns"], spec["name"]))
            if now.get("senders") is not None or (record and record.spec.get("senders") is not None):
                spec["senders"] = None
            return
        spec["senders"] = sorted({ip_of(ip) for ip in (*endpoint["addresses"], *endpoint["allowed_addresses"])})
        name = network["name"]
        if self.observed.unfiltered and name not in self.desired.scope["network"]:
            what = f"{name} has spoof_check, which this kernel cannot do: {self.observed.unfiltered}"
            self.desired.refuse(
                "endpoint", key, "network", what, f"set spoof_check: false on {name}, or boot {FILTERS}"
            )
        if makes_addresses(endpoint):
            what = f"{name} has spoof_check, which lets no address through that a router made up"
            fix = f"leave it out, or set spoof_check: false on {name}"
            self.desired.refuse("endpoint", key, "ipv6_address" if is_slaac(endpoint) else "accept_ra", what, fix)
        if endpoint["sysctls"].get("ipv6.addr_gen_mode"):
            what = f"{name} has spoof_check, which lets no link-local address through but that of the MAC"
            fix = f"leave it out, or set spoof_check: false on {name}"
            self.desired.refuse("endpoint", key, "sysctls.ipv6.addr_gen_mode", what, fix)

    def _account(self, key: str, endpoint: EndpointSpec, kind: str, option: str) -> int:
        """The number of a user or a group; root's where none is given."""
        name = str(endpoint.get(option) or 0)
        if name.isdecimal():
            return int(name)
        number = self.observed.accounts.get(f"{kind}:{name}")
        if number is None:
            fix = "create it first, or give another or a number"
            self.desired.refuse("endpoint", key, option, f"this host has no {kind} {name}", fix)
        return number or 0

    def _special_modes(self, key: str, spec: LinkSpec, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """The options of the modes passthru and source."""
        if network["mode"] == "passthru":
            spec["nopromisc"] = network["nopromisc"]
        macs = endpoint["source_macs"]
        now = self.observed.link(spec["netns"], spec["name"])
        if network["mode"] == "source":
            spec["source_macs"] = macs
            self._hears(key, endpoint, network["name"])
        elif now is not None and now.data.get("source_macs"):
            spec["source_macs"] = []  # the kernel drops them with the mode; named, so that an undo brings them back
        if not macs or network["mode"] == "source":
            return
        if key in self.desired.scope["endpoint"]:
            what = f"{network['name']} is {network['mode']}, where source_macs have no effect"
            fix = "leave it out, or use a macvlan network with mode: source"
            self.desired.refuse("endpoint", key, "source_macs", what, fix)
        else:
            what = f"{network['name']} is {network['mode']} now, where source_macs have no effect"
            self.desired.warn("endpoint", key, "source_macs", what)

    def _hears(self, key: str, endpoint: EndpointSpec, network: str) -> None:
        """Check that an endpoint in mode source has a list; where its network became so, its own task may follow."""
        if not endpoint["source_macs"] and key in self.desired.scope["endpoint"]:
            what = f"{network} is source, where an endpoint receives from source_macs alone"
            fix = "list the MACs that it may receive from, its gateway's among them, or use another mode"
            self.desired.refuse("endpoint", key, "source_macs", what, fix)
        elif not endpoint["source_macs"]:
            what = f"{network} is source now, so the endpoint receives nothing until it has source_macs"
            self.desired.warn("endpoint", key, "source_macs", what)
        if endpoint["probe"]:
            what = "a holder of the address that is not in source_macs would not be heard"
            self.desired.refuse("endpoint", key, "probe", what, "leave probe out")

    def _endpoint_fits(self, key: str, mtu: int, parent: Parent) -> None:
        """An endpoint's MTU is at most that of its parent, as that will be."""
        limit = self.host_links.mtu_of(parent)
        if mtu > limit:
            what = f"{mtu} is more than the {limit} of {parent.name}"
            self.desired.refuse("endpoint", key, "mtu", what, f"give {limit} at most, or raise {parent.name}")

    def _check_routes(self, key: str, endpoint: EndpointSpec, network: NetworkSpec) -> None:
        """Check that next hops are directly connected, and that no other route has the same prefix and metric."""
        own = [ipaddress.ip_interface(address) for address in endpoint["addresses"]]
        subnets = [address.network for address in own]
        for position, route in enumerate(endpoint["routes"]):
            via = ipaddress.ip_address(route.get("via", "fe80::"))
            self._place_free(key, endpoint, f"routes[{position}].prefix", route)
            what = next(filter(None, (not_a_neighbour(via, address) for address in own)), "")
            if what:
                self.desired.refuse("endpoint", key, f"routes[{position}].via", what, "give the address of a neighbour")
                continue
            if not via.is_link_local and not any(via in subnet for subnet in subnets):
                self.desired.refuse(
                    "endpoint",
                    key,
                    f"routes[{position}].via",
                    f"{via} is in no subnet of {network['name']} that {key} has an address of",
                    "give a neighbour of the endpoint, or leave via out for a route to the device",
                )

    def _place_free(self, key: str, endpoint: EndpointSpec, path: str, route: EndpointRouteSpec) -> None:
        """Whether no other route has the prefix and metric, of which the kernel has only one."""
        workload, prefix = endpoint["workload"], route["prefix"]
        metric = route.get("metric") or usual_metric(prefix)
        table = route.get("table") or MAIN_TABLE
        spec = {"netns": workload, "prefix": prefix, "metric": metric, "table": table}
        record = self.desired.record("route", route_key(spec))
        holder = record.of.partition(":")[2] if record else ""
        declared = self.desired.scope["endpoint"]
        stays = holder != key and holder in self.desired.items["endpoint"] and holder not in declared
        coming = self.wanted.get(("route", route_key(spec)))
        namespace = self.observed.namespace(workload)
        there = namespace.routes if namespace and record is None and not self.desired.declared.adopt else ()
        connected = {str(ipaddress.ip_interface(address).network) for address in endpoint["addresses"]}
        what = ""
        if table == MAIN_TABLE and prefix in connected and metric == (CONNECTED_IPV6_METRIC if ":" in prefix else 0):
            what = f"{prefix} is routed already, as the subnet of {key} itself"
        elif coming is not None and coming.of != f"endpoint:{key}":
            what = f"{prefix} is routed by {coming.of.partition(':')[2]} already"
        elif stays:
            what = f"{prefix} is routed by {holder} already"
        elif any((it.prefix, it.metric, it.table) == (prefix, metric, table) for it in there):
            what = f"{prefix} is routed in {workload} already, by somebody else"
        if what:
            self.desired.refuse("endpoint", key, path, what, "leave it out, or give another metric")

    def _enterable(self, key: str, workload: str) -> bool:
        refusal = self.observed.refusals.get(workload)
        declared = key in self.desired.scope["endpoint"]
        if not declared and is_away(self.desired, workload):
            return False  # it keeps its lease, and is attached again by its own task
        if refusal:
            kind = workload.partition(":")[0]
            option = kind if kind in WORKLOADS else "container"
            ended = workload in self.observed.gone
            fix = "start it first, or correct the name" if ended else "fix that first, or give another workload"
            self.desired.refuse("endpoint", key, option, refusal, fix)
            return False
        if self.observed.namespace(workload) is None or workload in self.desired.records.get("netns", {}):
            self.wanted.add("netns", workload, {"netns": workload}, "netns", "a namespace that does not exist yet")
        elif declared and workload.startswith("netns:") and self.desired.before("endpoint", key) is None:
            self._of_somebody(key, workload)
        return True

    def _of_somebody(self, key: str, workload: str) -> None:
        """A named namespace that others made is lost at a reboot, and is not ours to make again."""
        namespace = self.observed.namespace(workload)
        if namespace is not None and not namespace.is_marked:
            self.desired.warn(
                "endpoint",
                key,
                "netns",
                f"{workload[len('netns:') :]} was created by others and is not created again after a reboot: the endpoint then waits until it is",
            )

    def _asks_for_ipv6(self, endpoint: EndpointSpec) -> bool:
        addresses = (*endpoint["addresses"], *endpoint["allowed_addresses"])
        six = heeds_routers(endpoint) or bool(endpoint["vlans"])
        return six or any(":" in address for address in addresses)

    def _sysctls(self, endpoint: EndpointSpec) -> Dict[str, Optional[int]]:
        """Announce when coming up, learn nothing from the wire, and no IPv6 where there is no IPv6 address.

        The workload gives a trunk its addresses, so IPv6 is on there.
        """
        settings = announcing(self.observed)
        if self.observed.ipv6:
            six = self._asks_for_ipv6(endpoint)
            ra, autoconf = int(heeds_routers(endpoint)), int(makes_addresses(endpoint))
            # 2, not 1: where the namespace forwards, now or later, 1 accepts nothing.
            settings.update({"ipv6.disable_ipv6": int(not six), "ipv6.accept_ra": 2 * ra, "ipv6.autoconf": autoconf})
            if ra and endpoint["default_route"]["ipv6"] != "auto":
                settings["ipv6.accept_ra_defrtr"] = 0
        return {**settings, **endpoint["sysctls"]}
