# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links of an endpoint that is a trunk: for each VLAN a macvlan on the host's sub-interface (docs/decisions/8)."""

from __future__ import annotations

from functools import partial

from ..core.change import link_key
from ..core.endpoint_specs import EndpointSpec
from ..core.network_specs import NetworkSpec
from ..core.specs import LinkSpec
from . import network_rules, parent_rules
from .desired import DesiredState, Parent
from .host_links import HostLinks
from .wanted import Wanted

#: Modes in which a link on a sub-interface leaves place for others.
_MODES = ("bridge", "private", "vepa")


class VlanLinks:
    """Adds the links of trunks to the desired objects, and the sub-interfaces that carry them."""

    def __init__(self, desired: DesiredState, wanted: Wanted, host_links: HostLinks) -> None:
        self.desired = desired
        self.wanted = wanted
        self.host_links = host_links

    def add(self, key: str, endpoint: EndpointSpec, network: NetworkSpec, link: LinkSpec) -> None:
        """List the links of a trunk, each like ``link`` but for its name and parent."""
        if not self._possible(key, network):
            return
        for vlan_id in endpoint["vlans"]:
            carrier = self.desired.carrier(network, vlan_id)
            if carrier is None or not self._is_free(key, network, vlan_id, carrier):
                continue
            parent_rules.let_in(self.desired, ("endpoint", key, "vlans"), carrier)
            self.host_links.carry(carrier, self._asked(carrier), network, ("endpoint", key, "vlans"))
            limit = self.host_links.mtu_of(carrier)
            if (endpoint["mtu"] or 0) > limit:
                what = f"{endpoint['mtu']} is more than the {limit} of {carrier.name}"
                self.desired.refuse("endpoint", key, "mtu", what, f"give {limit} at most, or raise {carrier.name}")
            spec: LinkSpec = {**link, "name": f"{endpoint['interface']}.{vlan_id}", "parent": carrier.name}
            reason = f"VLAN {vlan_id} of {network['name']} in {endpoint['workload']}"
            self.wanted.add("link", link_key(spec["netns"], spec["name"]), spec, f"endpoint:{key}", reason)

    def _asked(self, carrier: Parent) -> str:
        """What a sub-interface is declared as, where it is."""
        return next(
            (name for name in (*carrier.altnames, carrier.name) if self.desired.declared_vlan(name)), carrier.name
        )

    def _possible(self, key: str, network: NetworkSpec) -> bool:
        """Whether a network can have trunks."""
        refuse = partial(self.desired.refuse, "endpoint", key, "vlans")
        name, before = network["name"], len(self.desired.problems)
        if network["driver"] != "macvlan":
            what = f"{name} is ipvlan, whose endpoints have the MAC of the NIC in every VLAN"
            refuse(what, "use a macvlan network, or leave vlans out")
        elif not network["parent"]:
            refuse(f"{name} has no NIC that could carry VLANs", "use a network with a parent, or leave vlans out")
        elif network["mode"] not in _MODES:
            what = f"{name} is {network['mode']}, and the VLANs of a NIC are there for others too"
            refuse(what, "use a network with mode: bridge, private or vepa, or leave vlans out")
        elif network["spoof_check"]:
            what = f"{name} has spoof_check, and the addresses of a trunk are its workload's business"
            refuse(what, f"set spoof_check: false on {name}, or leave vlans out")
        return len(self.desired.problems) == before

    def _is_free(self, key: str, network: NetworkSpec, vlan_id: int, carrier: Parent) -> bool:
        """Whether a link of a trunk can be on a sub-interface, beside what is there."""
        refuse = partial(self.desired.refuse, "endpoint", key, "vlans")

        def refuse_neighbour(option: str, what: str, _fix: str) -> None:
            share = "set share_parent: true on both networks, or " if option == "parent" else ""
            refuse(what, f"{share}leave {vlan_id} out")

        def refuse_foreign(_option: str, what: str, _fix: str) -> None:
            refuse(what, f"leave {vlan_id} out")

        nic = self.desired.parent(network)
        link, before = carrier.link, len(self.desired.problems)
        if nic and nic.link and link is not None and self.desired.same_vlan(nic.link, vlan_id) is not link:
            what = f"{carrier.name} exists and is not VLAN {vlan_id} of {nic.name}"
            refuse(what, f"rename it, or leave {vlan_id} out")
        for name in self.desired.sharers.get(carrier.identity, ()):
            other = self.desired.items["network"][name]
            if other is not network:
                network_rules.beside(network, other, carrier.name, refuse_neighbour)
        if link is not None:
            network_rules.foreigners(self.desired, network, link, refuse_foreign)
        return len(self.desired.problems) == before
