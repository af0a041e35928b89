# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the map: every column, from the parser's own list; what that does not know stands here, and must be complete."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, NamedTuple

from . import HEAD


class About(NamedTuple):
    default: str
    example: str
    makes: str  # what a host makes of it


ABOUT = {
    "name": About("required", "web", "A network of this name, in ``underlay show`` and in ``network`` of endpoints."),
    "vlan": About(
        "required, but for internal networks", "10", "The sub-interface ``NIC.10``, which is the network's parent."
    ),
    "trunk": About(
        "required, but for internal networks", "uplink", "The NIC that ``trunk_nics`` of this host gives for the name."
    ),
    "driver": About("required", "macvlan", "The kind of every endpoint's link."),
    "mode": About("bridge for macvlan, l2 for ipvlan", "l3", "The mode of every endpoint's link."),
    "flag": About("bridge", "private", "The flag of every endpoint's link; ipvlan only."),
    "subnets": About("none", "172.16.80.0/24 2001:db8:80::/64", "The subnets that endpoints get addresses of."),
    "mask": About("part of each subnet", "255.255.252.0", "The prefix length of subnets that are written without one."),
    "gateways": About("the first usable address of each subnet", "172.16.80.1", "The default routes of endpoints."),
    "ranges": About("the whole subnet", "172.16.80.64/26", "The pool that addresses are allocated from."),
    "reservations": About("none", "printer=172.16.80.9", "Addresses that are never allocated."),
    "internal": About("false", "yes", "A dummy link as parent, so nothing leaves the host."),
    "enable_ipv4": About("true", "no", "Whether endpoints have IPv4."),
    "enable_ipv6": About("true where there is an IPv6 subnet", "yes", "Whether endpoints have IPv6."),
    "mtu": About("that of the NIC", "9000", "The MTU of the sub-interface and of every endpoint."),
    "share_parent": About("false", "yes", "Another network on the same VLAN and trunk is accepted."),
    "host_access": About("false", "yes", "A link of the host's own in the network, and a route to each endpoint."),
    "nopromisc": About("false", "yes", "The NIC filters MACs while a passthru endpoint is on it."),
    "probe": About(
        "false", "yes", "Before the host takes an address for ``host_access``, it checks that no other host uses it."
    ),
    "source_routing": About(
        "false", "yes", "Each endpoint has a routing table of its own, which the answers from its addresses go by."
    ),
    "spoof_check": About("false", "yes", "Endpoints send only from their own MACs and addresses; macvlan only."),
    "addressing": About("pool", "dhcp", "Endpoints without an address of their own ask a DHCP server; macvlan only."),
    "dns": About("none", "172.16.80.53", "Nameservers in the ``resolv.conf`` of every endpoint's workload."),
    "dns_search": About("none", "example.com", "The search list in the ``resolv.conf`` of every endpoint's workload."),
    "dns_options": About("none", "ndots:2", "Options in the ``resolv.conf`` of every endpoint's workload."),
    "site": About("every site", "ams", "Hosts of other sites skip the row."),
    "group": About("every group", "dmz", "Hosts outside the inventory group skip the row."),
    "hosts": About("every host", "node[0-9] !node7", "Other hosts skip the row."),
    "per_host": About(
        "the hosts share the pool",
        "26",
        "The ledger gives each host a slice of this size; a host allocates from its own only.",
    ),
}


def kind(schema: Dict[str, Any]) -> str:
    """The type of a column, in words."""
    if "enum" in schema:
        return "one of " + ", ".join(f"``{value}``" for value in schema["enum"])
    if "anyOf" not in schema:
        return {"string": "text", "array": "list", "object": "mapping"}.get(
            schema.get("type", ""), schema.get("type", "any")
        )
    text = json.dumps(schema["anyOf"][0])
    if '"boolean"' in text:
        return "yes or no"
    one = re.search(r'"minimum": (\d+), "maximum": (\d+)', text)
    found = f"number, {one[1]} to {one[2]}" if one else "text"
    return found + (", or several" if any(it.get("type") == "array" for it in schema["anyOf"]) else "")


def lacking(columns: Dict[str, Any]) -> List[str]:
    return [
        f"the column {name} is not described in docs/pages/map_columns.py" for name in columns if name not in ABOUT
    ] + [f"docs/pages/map_columns.py describes {name}, which is no column" for name in ABOUT if name not in columns]


def page(columns: Dict[str, Any]) -> str:
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.map:", "",
        "The map", "=======", "",
        "The map is the network team's table: one row is one network. It is a CSV or YAML file, read by the inventory plugin",
        ":ansplugin:`netops.underlay.netops_map#inventory`. How it becomes a roll-out: :ref:`ansible_collections.netops.underlay.docsite.fleet`.", "",
        ".. literalinclude:: /examples/map/vlans.csv", "   :caption: map/vlans.csv", "",
        "In YAML the same is a list of mappings. A cell that holds several values separates them by blanks, commas or semicolons;",
        "in YAML it may be a list. Columns with other headings are translated by ``columns`` of the inventory plugin, and ``defaults`` there fills",
        "empty cells.", "",
        "Columns", "-------", "",
    ]  # fmt: skip
    for name, column in columns.items():
        about = ABOUT[name]
        lines += [
            f"``{name}``",
            f"  {_rst(column.description)}", "",
            f"  :Type: {kind(column.schema)}",
            f"  :Default: {about.default}",
            f"  :Example: ``{about.example}``",
            f"  :On the host: {about.makes}", "",
        ]  # fmt: skip
    return "\n".join([*lines, *EDITORS, ""])


def _rst(text: str) -> str:
    return re.sub(r"[CV]\(([^)]*)\)", r"``\1``", text)


EDITORS = """\
In an editor
------------

``docs/netops_map.schema.json`` in the collection is the JSON Schema of a whole map in YAML or JSON, a list of rows.
Editors with a YAML language server check and
complete a map that names it in its first line:

.. code-block:: yaml

   # yaml-language-server: $schema=https://example.org/netops/underlay/netops_map.schema.json
   - name: web
     vlan: 10
     trunk: uplink
     driver: macvlan
     subnets: [172.16.80.0/24]

or for every file called ``*.netops_map.yml``, by the editor's settings (here Visual Studio Code; SchemaStore's catalogue has the same form):

.. code-block:: json

   {"yaml.schemas": {"https://example.org/netops/underlay/netops_map.schema.json": ["*.netops_map.yml", "*.netops_map.yaml"]}}

Until the address is published, give the path of the file in the installed collection.

A bad cell is reported by file, line and column, all of them at once, before any host is touched:

.. code-block:: text

   map/vlans.csv:3:14: driver: 'macvaln' is not a choice; give one of macvlan, ipvlan""".splitlines()
