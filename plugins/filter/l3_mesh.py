# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter l3_mesh."""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: l3_mesh
short_description: The routes of one host to the L3 prefixes of all others
version_added: "1.0.0"
author: netops.underlay contributors (@netops)
description:
  - Returns a route to each prefix of every host that shares a segment with this one, via that host's address on the parent of the prefix's
    network. Hosts share a segment if they have underlay addresses in the same subnet, and in VRFs of the same name, if any. The route is in
    the table of that VRF.
  - Also returns an V(unreachable) route for each prefix of this host, for unused addresses. A host with L3 networks on several parents of
    one VRF, or without a VRF, gets none, because it would block traffic between the parents, which passes through the router.
  - Fails if prefixes of two hosts overlap, or if a parent has no address of the prefix's family.
positional: _host
options:
  _input:
    description: The result of the filter P(netops.underlay.l3_fleet#filter).
    type: dict
    required: true
  _host:
    description: The name of the host.
    type: str
    required: true
seealso:
  - plugin: netops.underlay.l3_fleet
    plugin_type: filter
  - module: netops.underlay.ipvlan_l3_routes
"""

EXAMPLES = r"""
- name: Exactly the routes of the mesh
  netops.underlay.ipvlan_l3_routes:
    name: mesh
    exact: true
    routes: "{{ hostvars | netops.underlay.l3_fleet(groups.rack) | netops.underlay.l3_mesh(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: Rows for O(netops.underlay.ipvlan_l3_routes#module:routes), ordered by prefix.
  type: list
  elements: dict
  sample:
    - {prefix: 10.200.1.0/26, type: unreachable, metric: 4294967294}
    - {prefix: 10.200.1.64/26, via: 192.0.2.12}
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils import _l3


def l3_mesh(fleet: Mapping[str, Any], host: str) -> list[dict[str, Any]]:
    try:
        return _l3.mesh(fleet, str(host))
    except _l3.MeshError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"l3_mesh": l3_mesh}
