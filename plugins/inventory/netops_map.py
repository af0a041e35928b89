# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: netops_map
short_description: The network team's table of VLANs and subnets as inventory
version_added: "1.0.0"
author:
  - netops.underlay contributors (@netops)
description:
  - Reads the network team's table, in CSV or YAML with one network per row, and assigns the rows to the hosts of the inventory.
  - All bad cells of all files are reported together, by file, line and column, before any host is touched. Rows are checked by the same
    code as the options of M(netops.underlay.vlan_network), and against each other.
  - The hosts come from other inventories, which must be read before this one, as with P(ansible.builtin.constructed#inventory). In a
    directory, files are read in the order of their names.
  - The rows are stored once, compressed, in the variable C(netops_map_data) of the group C(netops_map). Hosts get no variables of their
    own. The role P(netops.underlay.trunk#role) applies each host's rows with O(netops.underlay.vlan_map#module:inventory_map). The lookup
    P(netops.underlay.map_rows#lookup) shows them.
  - A map with faults has no rows. Every task that uses the map then fails with the faults, so that an unreadable map is never treated as an
    empty one.
  - Several files in one inventory, such as one for each site or team, form one map, and each may have its own O(owner). If two of them
    assign the same network or VLAN to a host, that is a fault.
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [netops.underlay.netops_map]
  maps:
    description:
      - The tables, relative to this file. The first line of a CSV file names its columns. A YAML or JSON file is a list of mappings.
      - Keep tables and ledger outside the inventory directory, because Ansible reads every file in it as an inventory.
      - The columns are C(name), C(vlan), C(trunk), C(driver), C(mode), C(flag), C(subnets), C(mask), C(gateways), C(ranges), C(reservations),
        C(internal), C(enable_ipv4), C(enable_ipv6), C(mtu), C(share_parent), C(host_access), C(probe), C(site), C(group), C(hosts) and
        C(per_host).
        The JSON Schema of a row, C(docs/netops_map.schema.json), describes them.
      - Case, spaces and punctuation of headings are ignored, and common synonyms are recognised, such as C(VLAN ID), C(Prefix), C(Netmask)
        and
        C(Default gateway).
      - Several values in a cell are separated by spaces, commas or semicolons, or are a list in YAML.
      - A table without rows is a fault, unless O(allow_empty).
    type: list
    elements: str
    required: true
  endpoints:
    description:
      - Tables of endpoints, relative to this file, in addition to C(netops_endpoints) of the hosts.
      - The columns are C(host), C(network), C(name), C(netns) (by default the endpoint's name), C(container) (as C(docker:web) or
        C(podman:web)), C(interface), C(ipv4_address), C(ipv6_address), C(subnet), C(mac_address), C(mtu), C(gw_priority),
        C(source_routing), C(probe), C(aliases), C(source_macs), C(ipv4_addresses), C(ipv6_addresses), C(allowed_addresses),
        C(ingress_rate), C(ingress_burst), C(egress_rate), C(egress_burst), C(dns), C(dns_search),
        C(dns_options), C(vlans), C(dhcp_client_id) and C(dhcp_hostname).
    type: list
    elements: str
    default: []
  columns:
    description:
      - Maps headings of the tables to column names, for tables exported from another system. A heading with an empty value is ignored, and
        V(*) stands for all unknown headings.
      - In YAML and JSON, C(vlan.vid) is the C(vid) inside of C(vlan).
    type: dict
    default: {}
  defaults:
    description: Values for empty cells, by column name.
    type: dict
    default: {}
  fill_down:
    description: Columns whose empty cells repeat the cell above, for tables with merged cells.
    type: list
    elements: str
    default: []
  only:
    description: Which rows to use, as a heading and its value or values, such as C(Status) and V(active). Case is ignored.
    type: dict
    default: {}
  name_template:
    description:
      - Template of the network's name from the cells of its row, such as V({site}-{name}). Spaces and umlauts are transcribed.
    type: str
  encoding:
    description: The encoding of the tables.
    type: str
    default: utf-8
  delimiter:
    description: The separator of CSV files. Defaults to comma, semicolon or tab, whichever is most frequent in the headings.
    type: str
  comment:
    description: The prefix of comment lines in CSV files. By default there are no comments.
    type: str
  skip_lines:
    description: The number of lines above the headings of a CSV file.
    type: int
    default: 0
  rows_at:
    description: The key of the list of rows, in YAML and JSON files that are a mapping, such as V(results) in an API response.
    type: str
  allow_empty:
    description: Whether the tables may be empty. With purge, an empty map removes every network of the hosts.
    type: bool
    default: false
  ledger:
    description:
      - The ledger, relative to this file. It records which slice of a pool belongs to which host, and which address to which endpoint.
      - Only the playbook C(netops.underlay.allocate) writes it, with M(netops.underlay.map_ledger). It does not have to exist yet.
      - With a ledger, every endpoint needs a fixed address or an entry in it.
    type: str
  owner:
    description:
      - The owner of what is made from this map, as O(netops.underlay.vlan_map#module:name), for inventories with maps of several teams.
      - A task with O(netops.underlay.vlan_map#module:inventory_map) takes the maps whose owner is its name, so that each team converges and
        purges its own rows only, with C(-e trunk_owner=TEAM). The role P(netops.underlay.trunk#role) uses V(trunk) by default, which is also
        the owner of maps that name none.
      - If no map of the inventory names an owner, every task takes all of them.
    type: str
  hosts_of:
    description: The group of hosts that the map applies to.
    type: str
    default: all
  groups:
    description:
      - The groups to create. V(vlan) creates a group such as C(vlan_50) for each VLAN, V(trunk) a group such as C(trunk_fabric_a) for each
        trunk, with the hosts that have them. V(site) creates a group such as C(site_x) for each site, with the hosts whose variable C(site)
        has that value and those that are in it already. Groups of sites that rows name are always created.
      - Ansible is slow with thousands of groups of a thousand hosts; leave out V(vlan) for such fleets.
    type: list
    elements: str
    choices: [vlan, trunk, site]
    default: [vlan, trunk, site]
notes:
  - A C(site), C(group) or C(hosts) that matches no host is a fault, and so is a C(trunk) that is in no host's C(trunk_nics).
  - A row with C(site) or C(group) applies to the hosts of those groups, a row with C(hosts) to the hosts that match a pattern.
  - The endpoints of a host are in its variable C(netops_endpoints), rows with the options of M(netops.underlay.vlan_endpoint).
  - Each host's variable C(trunk_nics) maps the trunks of the map to its NICs.
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
# A table exported from another system: map its headings, and set the missing columns for all rows.
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
from typing import Any, Collection, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

try:
    from ansible.template import trust_as_template
except ImportError:  # before ansible-core 2.19 every string is a template

    def trust_as_template(value: str) -> str:
        return value


from ..plugin_utils import _files
from ..plugin_utils._fleet import mapfile, packed, subnets
from ..plugin_utils._fleet.audience import Audience, Member
from ..plugin_utils._fleet.cells import Fault
from ..plugin_utils._fleet.packed import LoadedMap, MapRow
from ..plugin_utils._fleet.scope import group_name, is_for

OPTIONS = ("plugin", "maps", "endpoints", "columns", "defaults", "fill_down", "only", "name_template", "encoding", "delimiter", "comment",
           "skip_lines", "rows_at", "allow_empty", "ledger", "owner", "hosts_of", "groups")  # fmt: skip


class InventoryModule(BaseInventoryPlugin):
    NAME = "netops.underlay.netops_map"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and path.endswith(("netops_map.yml", "netops_map.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._path = os.path.realpath(path)
        self._file = os.path.basename(path)
        # Before anything can fail: hosts whose map is not read get an error for rows, never none.
        self._group(None)
        self._keep(packed.faulty(self._path, [f"{self._file}: the map could not be read"]))
        try:
            self._load(path)
        except AnsibleError as error:
            texts = getattr(error, "faults", None) or [f"{self._file}: {error.message}"]
            self._group(None)
            self._keep(packed.faulty(self._path, texts))
            raise

    def _load(self, path: str) -> None:
        config = self._read_config_data(path)
        if not subnets.HAS_NETADDR:
            raise AnsibleParserError("netops.underlay.netops_map needs the Python library netaddr on the controller")
        settings = self._settings()
        self._refuse(mapfile.unknown_options(settings, [str(key) for key in config], OPTIONS))
        if self.get_option("owner") is not None and not str(self.get_option("owner")).strip():
            self._refuse(
                [Fault(settings.place("owner"), "owner", "an owner needs a name", "give one, or leave it out")]
            )
        texts = self._texts(settings)
        found = mapfile.parse(settings, texts)
        self._refuse(found.faults)
        self._group(self.get_option("hosts_of"))
        members = {
            host: Member(self._groups_of(host), self._variables(host))
            for host in self._members(self.get_option("hosts_of"))
        }
        self._sites(found.map.networks, members)
        audience = Audience(settings, members, set(self.inventory.groups))
        self._refuse(audience.check(found.map.networks, found.endpoints, self.get_option("hosts_of")))
        loaded: LoadedMap = {
            "file": self._path, "owner": self.get_option("owner"), "hosts_of": self.get_option("hosts_of"), "faults": [],
            "rows": [network.data() for network in found.map.networks],
            "endpoints": [{"host": endpoint.host, "endpoint": endpoint.options} for endpoint in found.endpoints],
            "ledger": found.ledger.data() if found.ledger is not None else None,
            "ledger_file": os.path.realpath(self._near(texts.ledger[0])) if texts.ledger else None,
        }  # fmt: skip
        self._refuse(audience.clashes(found.map.networks, [one for one in self._kept() if one["file"] != self._path]))
        for text in [*found.map.warnings, *self._without_ledger(loaded, members)]:
            self.display.warning(text)
        self._keep(loaded)
        self._groups(loaded["rows"], members)

    def _refuse(self, faults: Collection[Fault]) -> None:
        """Raises AnsibleParserError with all faults."""
        if faults:
            texts = [str(fault) for fault in faults]
            error = AnsibleParserError(f"{len(texts)} faults in the map:\n" + "\n".join(texts))
            error.faults = texts
            raise error

    # -- files ------------------------------------------------------------------------------------

    def _near(self, name: str) -> str:
        return os.path.join(os.path.dirname(self._path), name)

    def _settings(self) -> mapfile.Settings:
        try:
            with open(self._path, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError):
            text = ""  # such as a vaulted one: its faults have no line
        options = {name: self.get_option(name) for name in OPTIONS}
        rules, form = mapfile.values(options)
        columns = {str(heading): column for heading, column in options["columns"].items()}
        return mapfile.Settings(self._file, text, columns, rules, form, options["rows_at"], options["allow_empty"])

    def _texts(self, settings: mapfile.Settings) -> mapfile.Texts:
        faults: List[Fault] = []
        maps = dict(self._read("maps", settings, faults))
        endpoints = dict(self._read("endpoints", settings, faults))
        ledger: Optional[Tuple[str, str]] = None
        name = self.get_option("ledger")
        if name is not None:
            absent = _files.is_absent(self._near(name))
            ledger = (name, "" if absent else dict(self._read("ledger", settings, faults)).get(name, ""))
        self._refuse(faults)
        return mapfile.Texts(maps, endpoints, ledger)

    def _read(self, option: str, settings: mapfile.Settings, faults: List[Fault]) -> Iterator[Tuple[str, str]]:
        names = self.get_option(option)
        if option == "maps" and not names:
            faults.append(Fault(settings.place(option), option, "there is no table", "name at least one"))
        for name in names if isinstance(names, list) else [names]:
            encoding = "utf-8" if option == "ledger" else self.get_option("encoding")
            try:
                yield str(name), mapfile.decoded(_files.read(self._near(name), str(name)), str(name), encoding)
            except OSError as error:
                faults.append(
                    Fault(
                        settings.place(option),
                        option,
                        f"{name} cannot be read: {error.strerror}",
                        "let the user of Ansible read it"
                        if isinstance(error, PermissionError)
                        else "correct the name; it is relative to this file",
                    )
                )
            except ValueError as error:
                message, _rest, fix = str(error).partition("; ")
                faults.append(Fault(settings.place(option), option, message, fix))

    # -- what is kept -----------------------------------------------------------------------------

    def _kept(self) -> List[LoadedMap]:
        text = self.inventory.groups[packed.GROUP].vars.get(packed.VARIABLE)
        return packed.unpack(text) if text else []

    def _keep(self, loaded: LoadedMap) -> None:
        maps = [one for one in self._kept() if one["file"] != self._path]
        # Trusted, which ansible-inventory exports as the plain text that it is; there is no template in base64.
        self.inventory.set_variable(packed.GROUP, packed.VARIABLE, trust_as_template(packed.pack([*maps, loaded])))

    # -- hosts and groups -------------------------------------------------------------------------

    def _group(self, whose: Optional[str]) -> None:
        """The group of all hosts that a map is for. Until it is known for which, a map is for all."""
        self.inventory.add_group(packed.GROUP)
        if whose is None:
            for host in list(self.inventory.hosts):
                self.inventory.add_host(host, group=packed.GROUP)
            return
        whole = {whose, *(one["hosts_of"] for one in self._kept() if one["file"] != self._path)}
        group = self.inventory.groups[packed.GROUP]
        if "all" not in whole:
            for host in list(group.hosts):
                group.remove_host(host)
        for name in sorted(whole - {"all"}):
            if name in self.inventory.groups:
                self.inventory.add_child(packed.GROUP, name)
        for host in [host for host in group.hosts if self._is_controller(host.name)]:
            group.remove_host(host)
        for host in group.get_hosts():
            host.add_group(group)  # one that came by a child before has just lost it

    def _is_controller(self, name: str) -> bool:
        """Whether a host stands in the inventory only so that tasks can run on the controller."""
        return name == "localhost" and not {"trunk_nics", packed.ENDPOINTS} & set(self._variables(name))

    def _members(self, whose: str) -> List[str]:
        if whose == "all":
            return [name for name in self.inventory.hosts if not self._is_controller(name)]
        group = self.inventory.groups.get(whose)
        return [host.name for host in group.get_hosts()] if group is not None else []

    def _groups_of(self, host: str) -> Set[str]:
        return {group.name for group in self.inventory.hosts[host].get_groups()}

    def _variables(self, name: str) -> Dict[str, Any]:
        """The variables of a host as the inventory has them, those of host_vars and group_vars too."""
        host = self.inventory.hosts[name]
        sources = [*getattr(self.inventory, "processed_sources", []), self._path]
        groups = host.get_groups()
        found = combine_vars(
            get_group_vars(groups), get_vars_from_inventory_sources(self.loader, sources, groups, "all")
        )
        found = combine_vars(found, host.get_vars())
        return dict(combine_vars(found, get_vars_from_inventory_sources(self.loader, sources, [host], "all")))

    def _without_ledger(self, loaded: LoadedMap, members: Mapping[str, Member]) -> Iterator[str]:
        endpoints = [row for row in loaded["endpoints"] if not row["endpoint"].get("ipv4_address")]
        if (
            loaded["ledger"] is None
            and len(members) > 1
            and (endpoints or any(member.variables.get(packed.ENDPOINTS) for member in members.values()))
        ):
            yield f"{self._file}: there is no ledger, so {len(members)} hosts may allocate the same addresses to their endpoints; set ledger: FILE"

    def _sites(self, networks: Any, members: Dict[str, Member]) -> None:
        for site in sorted({network.site for network in networks if network.site}):
            name = self.inventory.add_group(group_name("site", site))
            for host, member in members.items():
                if site in member.sites:
                    self.inventory.add_host(host, group=name)
                    member.groups.add(name)

    def _groups(self, rows: List[MapRow], members: Mapping[str, Member]) -> None:
        wanted = self.get_option("groups")
        for row in rows:
            names = [group_name("vlan", row["vlan"])] if row.get("vlan") and "vlan" in wanted else []
            names += [group_name("trunk", row["trunk"])] if row.get("trunk") and "trunk" in wanted else []
            for name in names:
                self._fill(self.inventory.add_group(name), row, members)

    def _fill(self, name: str, row: MapRow, members: Mapping[str, Member]) -> None:
        """By groups, where those say it, so that it costs nothing for each host."""
        if (
            row.get("hosts")
            or (row.get("site") and row.get("group"))
            or (self.get_option("hosts_of") != "all" and (row.get("site") or row.get("group")))
        ):
            for host, member in members.items():
                if is_for(row, host, member.groups):
                    self.inventory.add_host(host, group=name)
            return
        whose = self.get_option("hosts_of")
        child = (
            group_name("site", row["site"])
            if row.get("site")
            else row.get("group") or (packed.GROUP if whose == "all" else whose)
        )
        self.inventory.add_child(name, child)
