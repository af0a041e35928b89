# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: netops_map
short_description: NetOps' table of VLANs and subnets as inventory
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Reads the table that NetOps hand over, CSV or YAML, one row a network, and gives it to the hosts of the inventory.
  - Every bad cell of every file is named at once, by file, line and column, before any host is touched. A row is judged by the same
    code that judges the options of M(netops.underlay.vlan_network) on a host; rows are judged beside each other too.
  - The hosts come from other inventories. Those must be read before this one, as with P(ansible.builtin.constructed#inventory).
    In a directory the order is that of the file names.
  - The rows are kept once, as C(netops_map_rows) of the group C(netops_map). Hosts get no variables of their own.
    What each host takes of the rows is what C(trunk_networks) and C(endpoints_list) say, which are templates of that group, so that the
    roles P(netops.underlay.trunk#role) and P(netops.underlay.endpoints#role) need nothing else.
  - Where a map or ledger is bad, those two are errors, so that no play takes an empty map for a wish.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [netops.underlay.netops_map]
  maps:
    description:
      - The tables, relative to this file. The first line of a CSV file names its columns; its delimiter may be a comma, a semicolon or a tab.
        A YAML file is a list of mappings.
      - Keep tables and ledger outside of the inventory's directory, since Ansible takes every file in that for an inventory.
      - The columns are C(name), C(vlan), C(trunk), C(driver), C(mode), C(flag), C(subnets), C(gateways), C(ranges), C(reservations),
        C(internal), C(enable_ipv4), C(enable_ipv6), C(mtu), C(share_parent), C(host_access), C(probe), C(site), C(group), C(hosts) and
        C(per_host).
        The JSON Schema of a row, C(docs/netops_map.schema.json), says what each is for.
      - Cells that may hold several values have blanks, commas or semicolons between them, or are lists in YAML.
    type: list
    elements: str
    required: true
  columns:
    description:
      - Headings of the tables to names of columns, for tables that come out of another system. Headings that lead to nothing are ignored.
    type: dict
    default: {}
  defaults:
    description: What empty cells mean, by the name of the column.
    type: dict
    default: {}
  ledger:
    description:
      - The file, relative to this one, that says which slice of a pool belongs to which host, and which address to which endpoint.
      - Only the playbook C(netops.underlay.allocate) writes it, by M(netops.underlay.map_ledger). It need not exist before.
      - With a ledger every endpoint in C(netops_endpoints) needs an address of its own or an entry there.
    type: str
  hosts_of:
    description: The group whose hosts the map is for.
    type: str
    default: all
  groups:
    description:
      - The groups to make. V(vlan) is a group C(vlan_50) for each VLAN, V(trunk) a group C(trunk_fabric_a) for each trunk, with the hosts
        that have them; V(site) a group C(site_x) for each site, with the hosts whose variable C(site) says so and those that are in it already.
      - Ansible is slow with thousands of groups of a thousand hosts; leave out V(vlan) there.
    type: list
    elements: str
    choices: [vlan, trunk, site]
    default: [vlan, trunk, site]
notes:
  - A host that is not for all rows is in the groups that the rows name in C(site) and C(group), or matches a pattern in C(hosts).
  - The endpoints of a host are its variable C(netops_endpoints), rows of M(netops.underlay.vlan_endpoint).
  - Each host's variable C(trunk_nics) leads from the trunks of the map to its own NICs.
requirements:
  - netaddr on the controller
seealso:
  - module: netops.underlay.map_ledger
  - plugin: netops.underlay.map_rows
    plugin_type: lookup
  - plugin: netops.underlay.endpoint_address
    plugin_type: lookup
"""

EXAMPLES = r"""
# inventory/netops_map.yml, beside inventory/hosts.yml
plugin: netops.underlay.netops_map
maps: [../map/vlans.csv]
ledger: ../map/ledger.yml

# map/vlans.csv:
#
#   vlan,name,trunk,driver,mode,subnets,gateways,per_host,site
#   10,web,fabric_a,macvlan,bridge,172.16.80.0/24 2001:db8:80::/64,172.16.80.1,26 80,ams
#   20,db,fabric_b,ipvlan,l2,172.16.50.0/22 2001:db8:20::/64,172.16.50.1,,
#
# inventory/hosts.yml:
#
#   site_ams:
#     hosts:
#       node1:
#         trunk_nics: {fabric_a: eth1, fabric_b: {match: {mac: "52:54:00:12:34:56"}}}
#         netops_endpoints:
#           - {network: web, name: shop, netns: shop}

---
# A table that another system exports: its headings are translated, and what it does not know is given for all rows.
plugin: netops.underlay.netops_map
maps: [../map/netbox_vlans.csv]
columns:
  VID: vlan
  Name: name
  Site: site
  Prefixes: subnets
  ID:
  Status:
defaults:
  trunk: fabric_a
  driver: macvlan
"""

import os
from typing import Any, Dict, List

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

from ..plugin_utils._fleet import rows, source

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every string is a template

    def trust_as_template(value: str) -> str:
        return value


class InventoryModule(BaseInventoryPlugin):
    NAME = "netops.underlay.netops_map"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("netops_map.yml", "netops_map.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        if not rows.HAS_NETADDR:
            raise AnsibleParserError("netops.underlay.netops_map needs the Python library netaddr on the controller")
        self._directory = os.path.dirname(os.path.abspath(path))
        self._hosts()
        found = source.parse(self._source(path))
        if found.faults:
            texts = [str(fault) for fault in found.faults]
            self.inventory.set_variable(source.GROUP, source.FAULTS, texts)
            raise AnsibleParserError(f"{len(texts)} faults in the map:\n" + "\n".join(texts))
        for text in found.map.warnings:
            self.display.warning(text)
        self.inventory.set_variable(source.GROUP, source.ROWS, [network.data() for network in found.map.networks])
        if found.ledger is not None:
            self.inventory.set_variable(source.GROUP, source.LEDGER, found.ledger.data())
            self.inventory.set_variable(source.GROUP, source.LEDGER_FILE, self._path(self.get_option("ledger")))
        self._groups(found.map.networks)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _source(self, path: str) -> source.Source:
        ledger = self.get_option("ledger")
        texts = {str(name): self._text(name) for name in self.get_option("maps")}
        if ledger is not None:
            ledger = (ledger, self._text(ledger) if os.path.exists(self._path(ledger)) else "")
        columns = {str(heading): column for heading, column in self.get_option("columns").items()}
        return source.Source(os.path.basename(path), texts, columns, self.get_option("defaults"), ledger)

    def _text(self, name: str) -> str:
        try:
            with open(self._path(name), encoding="utf-8") as file:
                return file.read()
        except OSError as error:
            raise AnsibleParserError(f"{name} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise AnsibleParserError(f"{name} is not UTF-8 (byte {error.start}): export it as UTF-8") from None

    def _hosts(self) -> None:
        """The group of the map, and the templates that tell each host its own rows: errors, until there are rows."""
        self.inventory.add_group(source.GROUP)
        whose = self.get_option("hosts_of")
        if whose == "all":
            for host in list(self.inventory.hosts):
                self.inventory.add_host(host, group=source.GROUP)
        else:
            self.inventory.add_group(whose)
            self.inventory.add_child(source.GROUP, whose)
        for variable, what in (("trunk_networks", "networks"), ("endpoints_list", "endpoints")):
            template = f"{{{{ query('netops.underlay.map_rows', '{what}') }}}}"
            self.inventory.set_variable(source.GROUP, variable, trust_as_template(template))

    def _groups(self, networks: List[rows.Network]) -> None:
        wanted = self.get_option("groups")
        members = {host: {group.name for group in self.inventory.hosts[host].get_groups()} for host in self._members()}
        if "site" in wanted:
            for site in sorted({network.site for network in networks if network.site}):
                name = self.inventory.add_group(rows.group_name("site", site))
                for host, groups in members.items():
                    if str(self.inventory.hosts[host].vars.get("site")) == site:
                        self.inventory.add_host(host, group=name)
                        groups.add(name)
        for network in networks:
            names = [rows.group_name("vlan", network.vlan)] if network.vlan and "vlan" in wanted else []
            names += [rows.group_name("trunk", network.trunk)] if network.trunk and "trunk" in wanted else []
            for name in names:
                self._fill(self.inventory.add_group(name), network, members)

    def _members(self) -> List[str]:
        return [host.name for host in self.inventory.groups[source.GROUP].get_hosts()]

    def _fill(self, name: str, network: rows.Network, members: Dict[str, Any]) -> None:
        """By groups, where those say it, so that it costs nothing for each host."""
        if network.hosts or (network.site and network.group):
            row = network.data()
            for host, groups in members.items():
                if rows.is_for(row, host, groups):
                    self.inventory.add_host(host, group=name)
            return
        child = rows.group_name("site", network.site) if network.site else network.group or source.GROUP
        self.inventory.add_group(child)
        self.inventory.add_child(name, child)
