# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads inventories by Ansible's own manager and plugin loader, one after the other: a line of JSON in, one out.

A process of its own, because Ansible's loader has to come before anybody imports the collection; and one process for all
tests, because starting Ansible takes longer than reading an inventory.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager

#: What a test looks at; the rest of a host's variables is not for JSON.
VARIABLES = ("inventory_hostname", "group_names", "netops_map_data", "netops_endpoints", "trunk_nics", "site")


def read(source: str) -> Dict[str, Any]:
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[source])
    variables = VariableManager(loader=loader, inventory=manager)
    hosts = {}
    for host in manager.get_hosts():
        found = variables.get_vars(host=host, include_hostvars=False)
        hosts[host.name] = {name: found[name] for name in VARIABLES if name in found}
    groups = {name: group.vars.get("netops_map_data") for name, group in manager.groups.items()}
    return {"hosts": hosts, "groups": groups}


def main() -> None:
    init_plugin_loader([sys.argv[1]])
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("without"):
            from ansible_collections.netops.underlay.plugins.plugin_utils._fleet import subnets

            subnets.HAS_NETADDR = False
        print(json.dumps(read(asked["source"])), file=out, flush=True)
        if asked.get("without"):
            subnets.HAS_NETADDR = True


if __name__ == "__main__":
    main()
