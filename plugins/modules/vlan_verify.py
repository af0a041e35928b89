#!/usr/bin/python
# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: vlan_verify
short_description: Prove on the wire that the VLANs of a map arrive
version_added: "1.0.0"
description:
  - Asks the gateway of every network with a tagged ARP or neighbour request from the trunk itself, so that what is proved is the way from the
    NIC through the switch port to the gateway. The requests are those of duplicate address detection. No address is taken for them, and
    nothing is changed.
  - Asks once more with requests as large as the network's MTU, to see whether such packets pass.
  - Asks who else has the addresses of this host's endpoints, and whether a gateway's address is in use twice.
  - Compares the kernel with the rows, as the check mode of M(netops.underlay.vlan_map) does; what a run would change has drifted.
  - Fails where something is wrong, and names the trunk, the VLAN and the likely cause of each.
options:
  name:
    description: The owner of the links and networks, as the O(netops.underlay.vlan_map#module:name) that made them.
    type: str
    default: trunk
  trunks:
    description: Logical name of a trunk to its NIC, as O(netops.underlay.vlan_map#module:trunks) has it.
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
    description: The owner of the endpoints.
    type: str
    default: endpoints
  endpoints:
    description: Endpoints, with the options of M(netops.underlay.vlan_endpoint) in each row.
    type: list
    elements: dict
  purge:
    description: Whether what the owners declared once, and the rows no longer name, has drifted too.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Does the same, since it changes nothing.
  diff_mode:
    support: none
    description: There is no change to show.
  idempotent:
    support: full
    description: Changes nothing.
  platform:
    support: full
    platforms: Linux
    description: It runs on the host.
seealso:
  - module: netops.underlay.vlan_map
notes:
  - While it asks, about one to five seconds, the NICs are in promiscuous mode.
  - Networks without a gateway, those in L3 modes among them, have nobody to ask and are listed in RV(unproved).
extends_documentation_fragment:
  - netops.underlay.common
"""

EXAMPLES = r"""
- name: Every VLAN of the trunk arrives
  netops.underlay.vlan_verify:
    trunks: {uplink: eth1}
    networks:
      - {name: vlan10, driver: macvlan, parent: uplink.10, subnets: [{subnet: 172.16.80.0/24, gateway: 172.16.80.1}]}
      - {name: vlan20, driver: macvlan, parent: uplink.20, mtu: 9000, subnets: [{subnet: 172.16.48.0/22, gateway: 172.16.50.1}]}
"""

RETURN = r"""
findings:
  description: Everything that is wrong; empty on success.
  returned: always, where the rows are good
  type: list
  elements: dict
  contains:
    kind:
      description: V(arrival), V(mtu), V(duplicate) or V(drift).
      type: str
    trunk:
      description: The trunk, as the rows call it.
      type: str
    nic:
      description: Its NIC on this host.
      type: str
    vlan:
      description: The VLAN id; none for what is wrong with a whole trunk, or untagged.
      type: int
    text:
      description: The place, what is wrong and the likely cause.
      type: str
  sample:
    - kind: arrival
      trunk: uplink
      nic: eth1
      vlan: 20
      network: vlan20
      text: "uplink (eth1), VLAN 20: no answer from gateway 172.16.50.1 of vlan20, while other VLANs of the trunk arrive: the switch port
        does not carry VLAN 20, or the gateway is down"
left_out:
  description: How many findings more there are than RV(findings) has.
  returned: where there are more than 500
  type: int
proved:
  description: How many networks have a gateway that answered.
  returned: always, where the rows are good
  type: int
unproved:
  description: The networks that have no gateway to ask.
  returned: always, where the rows are good
  type: list
  elements: str
"""

from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _argspec, _result
from ..module_utils._engine import model, verify
from ..module_utils._engine.converge import Outcome, Run, converge
from ..module_utils._engine.fields import Refusal
from ..module_utils._module import EXPECTED

SHOWN = 500


def rehearse(module: AnsibleModule, declared: model.Declaration, findings: List[Dict[str, Any]]) -> Optional[Outcome]:
    """What a run would do; where it would refuse, that is the finding."""
    if declared.problems:
        module.fail_json(invocation=_result.NO_ARGUMENTS, **_result.refusal(declared.problems))
    try:
        outcome = converge(declared, Run(module.params["state_dir"], True, module.params["lock_timeout"], "vlan_verify"))
    except Refusal as error:
        findings += verify.refused(declared, error.problems)
        return None
    except EXPECTED as error:
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
        "endpoints_name": {"type": "str", "default": "endpoints"},
        "endpoints": rows,
        "purge": {"type": "bool", "default": False},
    }
    module = AnsibleModule(options, supports_check_mode=True)
    params = module.params
    networks = {key: params[key] for key in ("name", "trunks", "links", "networks", "purge") if params[key] is not None}
    declared = model.declare_map(networks)
    findings: List[Dict[str, Any]] = []
    outcome = rehearse(module, declared, findings)
    members = None
    if params["endpoints"] or params["purge"]:
        row = {"name": params["endpoints_name"], "endpoints": params["endpoints"] or [], "purge": params["purge"]}
        members = rehearse(module, model.declare_map(row), findings)
    there: List[verify.Network] = []
    if outcome is not None:
        endpoints = members.items["endpoint"] if members is not None else {}
        there = verify.networks(declared, outcome.items["network"], endpoints, outcome.world)
        worlds = [outcome.world] + ([members.world] if members is not None else [])
        findings += verify.judge(there, verify.listen(there), verify.macs(*worlds))
    unproved = verify.unproved(there)
    silent = {finding.get("network") for finding in findings if finding["kind"] == "arrival"}
    whole = {finding["nic"] for finding in findings if finding["kind"] == "arrival" and not finding.get("network")}
    result: Dict[str, Any] = {
        "findings": findings[:SHOWN],
        "proved": sum(network.name not in silent and network.name not in unproved and network.place.nic not in whole for network in there),
        "unproved": unproved,
        "invocation": _result.NO_ARGUMENTS,
    }
    if len(findings) > SHOWN:
        result["left_out"] = len(findings) - SHOWN
    if findings:
        module.fail_json(msg="\n".join(finding["text"] for finding in findings[:SHOWN]), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
