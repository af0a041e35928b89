# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source routing: an endpoint replies over the network that the request came in on, by a routing table of its own and rules that select it."""

from __future__ import annotations

import itertools
from typing import Dict, Set

from ..core.change import PROTOCOL, rule_key
from ..core.endpoint_specs import EndpointSpec
from ..core.formats import host_prefix
from ..core.route_specs import RuleSpec
from .addressing import Addressing
from .default_routes import DEFAULTS
from .desired import DesiredState
from .pools import subnet_of
from .wanted import Wanted

#: The numbers of the tables begin here, and so do the priorities of the rules: before those of the main table.
FIRST_TABLE = 8021
RULE_PRIORITY = 8021


class SourceRouting:
    """Adds the tables and rules of endpoints to the desired objects."""

    def __init__(self, desired: DesiredState, wanted: Wanted, addressing: Addressing) -> None:
        self.desired = desired
        self.wanted = wanted
        self.addressing = addressing
        self._taken: Dict[object, Set[int]] = {}

    def number_table(self, key: str, endpoint: EndpointSpec) -> None:
        """Number the table of an endpoint: as recorded, else the lowest number that is free in its namespace."""
        asked = endpoint["source_routing"]
        endpoint["routing_table"] = None
        if endpoint["vlans"] or endpoint["dhcp"]:
            return  # which has no address of ours
        if not (self.desired.items["network"][endpoint["network"]]["source_routing"] if asked is None else asked):
            return
        if not endpoint["addresses"]:
            what = f"{key} has no address whose answers could be routed"
            option = "source_routing" if asked else "network"
            self.desired.refuse("endpoint", key, option, what, "give its network a subnet, or source_routing: false")
            return
        before = self.desired.before("endpoint", key)
        if before and before["workload"] == endpoint["workload"] and before["routing_table"]:
            endpoint["routing_table"] = before["routing_table"]
            return
        taken = self._taken_beside(endpoint)
        number = next(number for number in itertools.count(FIRST_TABLE) if number not in taken)
        taken.add(number)
        endpoint["routing_table"] = number

    def _taken_beside(self, endpoint: EndpointSpec) -> Set[int]:
        """The numbers of the tables that are in use in the namespace of an endpoint."""
        if not self._taken:
            for key, spec in self.desired.items["endpoint"].items():
                before = self.desired.before("endpoint", key) or spec
                own = (before.get("routing_table"), *(route.get("table") for route in spec["routes"]))
                self._taken.setdefault(self._space(spec), set()).update(filter(None, own))
        taken = self._taken[self._space(endpoint)]
        namespace = self.desired.observed.namespace(endpoint["workload"])
        if namespace is not None:
            taken.update(route.table for route in namespace.routes)
            taken.update(rule.table for rule in namespace.rules)
        return taken

    def _space(self, endpoint: EndpointSpec) -> object:
        return self.desired.observed.space(endpoint["workload"]) or endpoint["workload"]

    def add(self, key: str, endpoint: EndpointSpec) -> None:
        """List the table and the rules of an endpoint with source routing."""
        table = endpoint["routing_table"]
        if not table:
            return
        network = self.desired.items["network"][endpoint["network"]]
        workload, name, of = endpoint["workload"], endpoint["interface"] or "", f"endpoint:{key}"
        sources = [*endpoint["addresses"], *endpoint["allowed_addresses"]]
        why = f"answers of {endpoint['name']} leave by {name}"
        for subnet in dict.fromkeys(row["subnet"] for ip in sources if (row := subnet_of(network, ip))):
            self.wanted.route(workload, subnet, None, name, of, why, table=table)
        for route in endpoint["routes"]:
            if "table" not in route:
                via, metric = route.get("via"), route.get("metric")
                self.wanted.route(workload, route["prefix"], via, name, of, why, metric=metric, table=table)
        for version, default in DEFAULTS.items():
            out = self.addressing.way_out(endpoint, version)
            if out is not None:
                self.wanted.route(workload, default, out[0], name, of, why, table=table)
        for ip in sources:
            rule: RuleSpec = {
                "netns": workload, "link": name, "source": host_prefix(ip), "table": table, "priority": RULE_PRIORITY, "protocol": PROTOCOL,
            }  # fmt: skip
            self.wanted.add("rule", rule_key(rule), rule, of, why)
