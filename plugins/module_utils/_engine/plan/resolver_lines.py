# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a workload asks for names: our lines of its resolv.conf (resolv.conf(5)).

A workload has one resolver, whatever its endpoints: their lists are put together, the endpoint with the highest
``gw_priority`` first, then by name, as for its default route. Each value counts once, and an option of the resolver as
the first one has it. What a DHCP server names comes in where neither an endpoint nor its network gives ``dns``, as far as a
resolver uses it: no user wrote it, so no user is refused for it.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

from ..core.endpoint_specs import EndpointSpec, is_dhcp, is_tap, wants_lease
from ..core.errors import InvalidValue
from ..core.lease_specs import Lease, lease_key
from ..core.network_specs import NetworkSpec
from ..core.resolver import KEYWORDS, check
from ..core.specs import Generic
from .desired import DesiredState


def asked(endpoint: Generic, option: str, networks: Mapping[str, Generic]) -> List[str]:
    """What an endpoint, or else its network, asks of the resolver by an option of ``KEYWORDS``."""
    own = endpoint[option]
    found = networks.get(endpoint["network"], {}).get(option, []) if own is None else own
    return list(found)


def leased(lease: Lease) -> Dict[str, List[str]]:
    """What a server says of the resolver, by the options of ``KEYWORDS``; without a nameserver no domains either."""
    domains = lease["search"] or [domain for domain in (lease["domain"],) if domain]
    return {"dns": list(lease["dns"]), "dns_search": domains} if lease["dns"] else {}


def resolver_lines(
    endpoints: Mapping[str, EndpointSpec], networks: Mapping[str, NetworkSpec], leases: Mapping[str, Lease]
) -> ResolverLines:
    """The resolver of each workload, from the endpoints of a host."""
    lines = ResolverLines(networks, leases)
    for key in sorted(endpoints, key=lambda key: (-endpoints[key]["gw_priority"], key)):
        lines.add(key, endpoints[key])
    return lines


class ResolverLines:
    """The lines of the workloads' resolv.conf."""

    def __init__(self, networks: Mapping[str, NetworkSpec], leases: Mapping[str, Lease]) -> None:
        self._networks = networks
        self._leases = leases
        self._endpoints: Dict[str, Dict[str, EndpointSpec]] = {}

    def add(self, key: str, endpoint: EndpointSpec) -> None:
        """Add an endpoint, behind those that were added before."""
        if not is_tap(endpoint):  # its guest has a resolver of its own
            self._endpoints.setdefault(endpoint["workload"], {})[key] = endpoint

    def text(self, workload: str) -> str:
        """The lines for one workload, each with a line end; empty where no endpoint asks for any.

        The file of a named namespace stands for the host's, so without a nameserver it has none of the others.
        """
        values = {option: [*self._merged(workload, option), *self._leased(workload, option)] for option in KEYWORDS}
        if workload.startswith("netns:") and not values["dns"]:
            return ""
        lines = ((KEYWORDS[option], line) for option, found in values.items() for line in _lines(option, found))
        return "".join(f"{keyword} {line}\n" for keyword, line in lines)

    def _leased(self, workload: str, option: str) -> List[str]:
        """What the leases of a workload add, as far as a resolver uses it."""
        there = list(self._merged(workload, option))
        found: List[str] = []
        for key, endpoint in self._endpoints.get(workload, {}).items():
            if endpoint["dns"] is not None or any(asked(endpoint, it, self._networks) for it in ("dns", option)):
                continue
            for version in (4, 6):
                lease = self._leases.get(lease_key(key, version)) if is_dhcp(endpoint, version) else None
                for value in leased(lease).get(option, ()) if lease else ():
                    if value not in there and _fit(option, [*there, value]):
                        there.append(value)
                        found.append(value)
        return found

    def _merged(self, workload: str, option: str) -> Dict[str, str]:
        """What the endpoints of a workload ask for by an option, in order, each with the key of the first that does."""
        found: Dict[str, str] = {}
        names = set()
        for key, endpoint in self._endpoints.get(workload, {}).items():
            for value in asked(endpoint, option, self._networks):
                name = value.partition(":")[0] if option == "dns_options" else value
                if name not in names:
                    names.add(name)
                    found[value] = key
        return found

    def check(self, desired: DesiredState, workload: str) -> bool:
        """Refuse what a workload's resolver could not use; whether it gets our lines."""
        asking = {option: found for option in KEYWORDS if (found := self._merged(workload, option))}
        named = any(self._leased(workload, option) for option in KEYWORDS)
        if not asking:
            return named and self._takes(desired, workload)
        if workload.startswith("pid:"):
            self._unknown(desired, asking, workload)
            return False
        for option, found in asking.items():
            self._fits(desired, option, found, workload)
        if workload.startswith("netns:") and "dns" not in asking and not named:
            if any(map(wants_lease, self._endpoints[workload].values())):
                return False  # until a server names one
            what = f"the resolv.conf of {workload} stands for the host's, and would name no nameserver"
            for option, found in asking.items():
                desired.refuse(*_place(desired, option, found), option, what, "give dns too")
        return self._writable(desired, asking, workload)

    @staticmethod
    def _takes(desired: DesiredState, workload: str) -> bool:
        """Whether a workload has a file for what only its leases name."""
        why = desired.observed.unwritable.get(("resolver", workload))
        if workload.startswith("pid:"):
            return False  # whose file is not known
        if why:
            desired.warnings.append(f"{workload} does not get the dns of its leases: {why}")
        return not why and workload not in desired.observed.gone

    @staticmethod
    def _unknown(desired: DesiredState, asking: Mapping[str, Mapping[str, str]], workload: str) -> None:
        for option, found in asking.items():
            kind, key = _place(desired, option, found)
            if kind == "endpoint":
                what = f"{workload} has no known resolv.conf"
                desired.refuse(kind, key, option, what, "leave it out, or give netns or container")
            else:
                what = f"{workload} has no known resolv.conf, so it does not get the {option} of its network"
                desired.warn("endpoint", next(iter(found.values())), "pid", what)

    @staticmethod
    def _writable(desired: DesiredState, asking: Mapping[str, Mapping[str, str]], workload: str) -> bool:
        why = desired.observed.unwritable.get(("resolver", workload))
        keys = {key for found in asking.values() for key in found.values()}
        if workload in desired.observed.gone:
            return False
        if why and keys.isdisjoint(desired.scope["endpoint"]):
            desired.warnings.append(f"{workload} does not get the dns of its endpoints: {why}")
        elif why:
            for option, found in asking.items():
                what = f"{workload} cannot get it: {why}"
                fix = "let it have a plain file of its own there, or leave it out"
                desired.refuse(*_place(desired, option, found), option, what, fix)
        return not why

    @staticmethod
    def _fits(desired: DesiredState, option: str, found: Mapping[str, str], workload: str) -> None:
        try:
            check(option, list(found))
        except InvalidValue as error:
            kind, key = _place(desired, option, found)
            whose = " and ".join(dict.fromkeys(found.values()))
            for _at, reason, fix in error.faults:
                desired.refuse(kind, key, option, f"{workload} has those of {whose} together, and {reason}", fix)


def _place(desired: DesiredState, option: str, found: Mapping[str, str]) -> Tuple[str, str]:
    """Kind and key of what asks: an endpoint, a declared one if there is any, or its network where that gives it."""
    keys = list(found.values())
    key = next((key for key in keys if key in desired.scope["endpoint"]), keys[0])
    endpoint: Generic = desired.of_kind("endpoint")[key]
    return ("network", endpoint["network"]) if endpoint[option] is None else ("endpoint", key)


def _fit(option: str, values: Sequence[str]) -> bool:
    """Whether a resolver uses all of a list."""
    try:
        check(option, values)
    except InvalidValue:
        return False
    return True


def _lines(option: str, values: Sequence[str]) -> List[str]:
    """What stands on the lines of an option: a nameserver has one of its own, the rest share one."""
    return list(values) if option == "dns" else [" ".join(values)] if values else []
