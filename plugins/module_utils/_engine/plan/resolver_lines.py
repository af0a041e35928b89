# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a workload asks for names: our lines of its resolv.conf (resolv.conf(5)).

A workload has one resolver, whatever its endpoints: their lists are put together, the endpoint with the highest
``gw_priority`` first, then by name, as for its default route. Each value counts once, and an option of the resolver as
the first one has it.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

from ..core.endpoint_specs import EndpointSpec, is_tap
from ..core.errors import InvalidValue
from ..core.network_specs import NetworkSpec
from ..core.resolver import KEYWORDS, check
from ..core.specs import Generic
from .desired import DesiredState


def asked(endpoint: Generic, option: str, networks: Mapping[str, Generic]) -> List[str]:
    """What an endpoint, or else its network, asks of the resolver by an option of ``KEYWORDS``."""
    own = endpoint[option]
    found = networks.get(endpoint["network"], {}).get(option, []) if own is None else own
    return list(found)


def resolver_lines(endpoints: Mapping[str, EndpointSpec], networks: Mapping[str, NetworkSpec]) -> ResolverLines:
    """The resolver of each workload, from the endpoints of a host."""
    lines = ResolverLines(networks)
    for key in sorted(endpoints, key=lambda key: (-endpoints[key]["gw_priority"], key)):
        lines.add(key, endpoints[key])
    return lines


class ResolverLines:
    """The lines of the workloads' resolv.conf."""

    def __init__(self, networks: Mapping[str, NetworkSpec]) -> None:
        self._networks = networks
        self._endpoints: Dict[str, Dict[str, EndpointSpec]] = {}

    def add(self, key: str, endpoint: EndpointSpec) -> None:
        """Add an endpoint, behind those that were added before."""
        if not is_tap(endpoint):  # its guest has a resolver of its own
            self._endpoints.setdefault(endpoint["workload"], {})[key] = endpoint

    def text(self, workload: str) -> str:
        """The lines for one workload, each with a line end; empty where no endpoint asks for any."""
        return "".join(
            " ".join((keyword, value)) + "\n"
            for option, keyword in KEYWORDS.items()
            for value in _values(option, self._merged(workload, option))
        )

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
        if not asking:
            return False
        if workload.startswith("pid:"):
            self._unknown(desired, asking, workload)
            return False
        for option, found in asking.items():
            self._fits(desired, option, found, workload)
        if workload.startswith("netns:") and "dns" not in asking:
            what = f"the resolv.conf of {workload} stands for the host's, and would name no nameserver"
            for option, found in asking.items():
                desired.refuse(*_place(desired, option, found), option, what, "give dns too")
        return self._writable(desired, asking, workload)

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


def _values(option: str, values: Mapping[str, str]) -> List[str]:
    """What stands on the lines of an option: a nameserver has one of its own, the rest share one."""
    return list(values) if option == "dns" else [" ".join(values)] if values else []
