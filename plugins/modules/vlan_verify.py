#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_verify
short_description: Verify on the wire that the VLANs of a map work
version_added: "1.0.0"
description:
  - Sends a tagged ARP or neighbour request from the trunk to the gateway of every network, and so verifies the path from the NIC through
    the switch port to the gateway. The requests are those of duplicate address detection. They need no address and change nothing.
  - Asks the routers of the VLANs in which endpoints get their addresses by SLAAC for an advertisement with a prefix.
  - Listens in the VLANs of trunks (O(netops.underlay.vlan_endpoint#module:vlans)), after it has asked routers there. What is heard shows that
    the switch port carries the VLAN. Silence is no failure, because it is not known who is there; such VLANs are listed in RV(unproved).
  - Repeats the requests at the size of the network's MTU, to verify that such packets pass.
  - Detects other hosts that use the addresses of this host's endpoints, and gateway addresses that are in use twice.
  - Compares the kernel with the rows, as the check mode of M(netops.underlay.vlan_map) does, and reports the differences as drift.
  - Fails if anything is wrong, and names the trunk, the VLAN and the likely cause of each failure.
options:
  name:
    description: The owner of the links and networks, the O(netops.underlay.vlan_map#module:name) that created them.
    type: str
    default: trunk
  trunks:
    description: Maps logical trunk names to NICs, as O(netops.underlay.vlan_map#module:trunks).
    type: dict
  links:
    description: Sub-interfaces, with the options of M(netops.underlay.vlan_link) in each row.
    type: list
    elements: dict
  networks:
    description: Networks, with the options of M(netops.underlay.vlan_network) in each row.
    type: list
    elements: dict
  endpoints_name:
    description: The owner of the endpoints, if it differs from O(name).
    type: str
  endpoints:
    description: Endpoints, with the options of M(netops.underlay.vlan_endpoint) in each row.
    type: list
    elements: dict
  routes:
    description: Sets of routes, with the options of M(netops.underlay.ipvlan_l3_routes) in each row.
    type: list
    elements: dict
  inventory_map:
    description: Whether to use the rows of the inventory's map, as O(netops.underlay.vlan_map#module:inventory_map).
    type: bool
    default: false
  purge:
    description: Whether to report what the owners declared and no longer list as drift.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Same as a normal run, which changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Runs on the host.
seealso:
  - module: netops.underlay.vlan_map
notes:
  - The routers that DHCP servers named to the endpoints count as gateways.
  - The NICs are in promiscuous mode while it runs, about one to ten seconds.
  - Networks without a gateway, including those in L3 modes, cannot be verified and are listed in RV(unproved).
extends_documentation_fragment:
  - netops.underlay.common
"""

EXAMPLES = r"""
- name: Verify every VLAN of the trunk
  netops.underlay.vlan_verify:
    trunks: {uplink: eth1}
    networks:
      - {name: vlan10, driver: macvlan, parent: uplink.10, subnets: [{subnet: 172.16.80.0/24, gateway: 172.16.80.1}]}
      - {name: vlan20, driver: macvlan, parent: uplink.20, mtu: 9000, subnets: [{subnet: 172.16.48.0/22, gateway: 172.16.50.1}]}
"""

RETURN = r"""
findings:
  description: All failures; empty on success.
  returned: when the rows are valid
  type: list
  elements: dict
  contains:
    kind:
      description: V(arrival), V(mtu), V(duplicate) or V(drift).
      type: str
    trunk:
      description: The logical name of the trunk.
      type: str
    nic:
      description: The NIC of the trunk on this host.
      type: str
    vlan:
      description: The VLAN ID; none for a failure of a whole trunk, or untagged.
      type: int
    text:
      description: The location, what is wrong and the likely cause.
      type: str
  sample:
    - kind: arrival
      trunk: uplink
      nic: eth1
      vlan: 20
      network: vlan20
      text: "uplink (eth1), VLAN 20: no answer from gateway 172.16.50.1 of vlan20, while other VLANs of the trunk work: the switch port
        does not carry VLAN 20, or the gateway is down"
left_out:
  description: The number of findings that were omitted from RV(findings).
  returned: when there are more than 500
  type: int
proved:
  description: The number of networks whose gateway answered, or whose router advertises, and of those of trunks whose every VLAN was heard.
  returned: when the rows are valid
  type: int
unproved:
  description: The networks without a gateway to verify, and the VLANs of trunks in which nothing was heard, as C(NETWORK/ENDPOINT, VLAN 20-29).
  returned: when the rows are valid
  type: list
  elements: str
undeclared:
  description: What the owners declared before and the rows no longer have, as RV(netops.underlay.vlan_map#module:undeclared). It is no failure.
  returned: when there is any
  type: dict
  sample: {"network": {"undeclared": 1, "removed": 0, "of": 40, "first": ["vlan30"]}}
"""

from typing import Any, Dict, List, Optional

from ..module_utils import _argspec, _result
from ..module_utils._base import BaseModule
from ..module_utils._engine.core.errors import InputError, UnderlayError
from ..module_utils._engine.declare import model
from ..module_utils._engine.declare.declaration import Declaration
from ..module_utils._engine.run import verify
from ..module_utils._engine.run.converge import Outcome, converge
from ..module_utils._engine.run.transact import RunOptions

SHOWN = 500


def rehearse(module: BaseModule, declared: Declaration, findings: List[Dict[str, Any]]) -> Optional[Outcome]:
    """What a run would do; where it would refuse, that is the finding."""
    if declared.problems:
        module.fail_json(invocation=_result.NO_ARGUMENTS, **_result.refusal(declared.problems))
    try:
        outcome = converge(
            declared, RunOptions(module.params["state_dir"], True, module.params["lock_timeout"], "vlan_verify")
        )
    except InputError as error:
        findings += verify.refused(declared, error.problems)
        return None
    except UnderlayError as error:
        module.fail_json(msg=str(error))
    findings += verify.drift(outcome.changes)
    return outcome


def main() -> None:
    rows = {"type": "list", "elements": "dict"}
    options: _argspec.Options = {
        **_argspec.common(),
        "name": {"type": "str", "default": "trunk"},
        "trunks": {"type": "dict"},
        "links": rows,
        "networks": rows,
        "endpoints_name": {"type": "str"},
        "endpoints": rows,
        "routes": rows,
        "inventory_map": {"type": "bool", "default": False},
        "purge": {"type": "bool", "default": False},
    }
    module = BaseModule(options, supports_check_mode=True)
    params = module.params
    apart = params["endpoints_name"] not in (None, params["name"])
    sections = ("name", "trunks", "links", "networks", "routes", "purge", *(() if apart else ("endpoints",)))
    declared = model.declare_map({key: params[key] for key in sections if params[key] is not None})
    declared.problems += module.common_problems()
    findings: List[Dict[str, Any]] = []
    outcome = rehearse(module, declared, findings)
    members = None if apart else outcome
    if apart and (params["endpoints"] or params["purge"]):
        row = {"name": params["endpoints_name"], "endpoints": params["endpoints"] or [], "purge": params["purge"]}
        members = rehearse(module, model.declare_map(row), findings)
    there: List[verify.Network] = []
    unproved: List[str] = []
    if outcome is not None:
        endpoints = members.items["endpoint"] if members is not None else {}
        leases = members.observed.leases if members is not None else {}
        there = verify.networks(declared, outcome.items["network"], endpoints, outcome.observed, leases)
        states = [outcome.observed] + ([members.observed] if apart and members is not None else [])
        wires = verify.listen(there)
        findings += verify.judge(there, wires, verify.macs(*states))
        unproved = verify.unproved(there, wires)
    doubtful = {entry.partition("/")[0] for entry in unproved}
    silent = {finding.get("network") for finding in findings if finding["kind"] == "arrival"}
    whole = {finding["nic"] for finding in findings if finding["kind"] == "arrival" and not finding.get("network")}
    result: Dict[str, Any] = {
        "findings": findings[:SHOWN],
        "proved": sum(
            network.name not in silent and network.name not in doubtful and network.place.nic not in whole
            for network in there
        ),
        "unproved": unproved,
        "invocation": _result.NO_ARGUMENTS,
    }
    undeclared = {
        kind: count
        for one in (outcome, members)
        if one is not None and not params["purge"]  # else they are drift
        for kind, count in one.undeclared.items()
        if count["undeclared"]
    }
    if undeclared:
        result["undeclared"] = undeclared
    if len(findings) > SHOWN:
        result["left_out"] = len(findings) - SHOWN
    if findings:
        module.fail_json(msg="\n".join(finding["text"] for finding in findings[:SHOWN]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
