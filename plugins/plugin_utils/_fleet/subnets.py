# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The subnets of a row, each with what the other columns say of it: gateway, pool and reservations."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ...module_utils._engine.core.errors import InvalidValue
from ...module_utils._engine.core.formats import PARTS
from ...module_utils._engine.declare import fields
from .cells import Fault, Row, pairs, several

try:
    import netaddr

    HAS_NETADDR = True
except ImportError:
    HAS_NETADDR = False

#: A span of addresses that becomes reservations, one by one; more of them are a range that somebody left out.
SPAN_MAX = 1024
_SPAN = re.compile(r"([0-9A-Fa-f:.]+)-([0-9A-Fa-f:.]+)\Z")
_SPACED_SPAN = re.compile(r"(?<=[0-9A-Fa-f:.])\s*-\s*(?=[0-9A-Fa-f:.])")
_SPACED_LENGTH = re.compile(r"(?<=[0-9A-Fa-f:.])\s*/\s*(?=\d)")
_WITH_MASK = re.compile(
    r"(\d+\.\d+\.\d+\.\d+)[\s/]+((?:255|254|252|248|240|224|192|128|0)\.\d+\.\d+\.\d+)(?=[\s,;]|\Z)"
)


def subnets(row: Row, own: Dict[str, Any], faults: List[Fault]) -> List[Dict[str, Any]]:
    """The subnets of a row; ``own["good"]`` is where in the cell those stand that can be read."""
    builder = _Builder(row, own, faults)
    builder.read_subnets()
    builder.read_gateways()
    builder.read_ranges()
    builder.read_reservations()
    return builder.found


class _Builder:
    """Collects the subnets of one row, and notes what is wrong at its cell."""

    def __init__(self, row: Row, own: Dict[str, Any], faults: List[Fault]) -> None:
        self.row = row
        self.own = own
        self.faults = faults
        self.found: List[Dict[str, Any]] = []
        self.networks: List[fields.Network] = []
        self.whole = True  # every subnet of the cell could be read

    def bad(self, column: str, at: object, message: str, fix: str) -> None:
        path = f"{column}[{at}]" if isinstance(at, int) else f"{column}.{at}"
        self.faults.append(Fault(self.row.find(path), column, message, fix))

    def home(self, column: str, at: object, low: Any, high: Any) -> Optional[Dict[str, Any]]:
        """The subnet that an address or a span is in."""
        for network, subnet in zip(self.networks, self.found):
            if low in network and high in network:
                return subnet
        if self.whole:  # else the right one may be among those that are bad
            span = str(low) if low == high else f"{low}-{high}"
            there = ", ".join(map(str, self.networks)) or "none given"
            self.bad(column, at, f"{span} is in no subnet of the row", f"its subnets are {there}")
        return None

    def read_subnets(self) -> None:
        self.own["good"] = []
        masks = self.own.get("mask", [])
        given = several(joined(self.own.get("subnets", [])))
        if len(masks) > 1 and len(masks) != len(given):
            self.bad(
                "mask", 0, f"{len(masks)} masks are given for {len(given)} subnets", "give one for all, or one for each"
            )
            masks = []
        for position, value in enumerate(given):
            mask = masks[position if len(masks) > 1 else 0] if masks else None
            try:
                if mask is not None and "/" not in str(value):
                    value = f"{value}/{mask}"
                elif mask is not None and str(value).rpartition("/")[2] != str(mask):
                    self.bad("mask", position, f"/{mask} is not that of {value}", "leave one of them out")
                self.networks.append(fields.network(value))
                self.found.append({"subnet": str(value)})
                self.own["good"].append(position)
            except InvalidValue as error:
                self.whole = False
                self.bad("subnets", position, str(error), error.faults[0][2])

    def read_gateways(self) -> None:
        gateways = several(self.own.get("gateways", []))
        for position, value in enumerate(gateways):
            if value == "none":
                continue
            try:
                address = ipaddress.ip_address(fields.address()(value))
            except InvalidValue as error:
                self.bad(
                    "gateways", position, str(error), "write it without a prefix length, or none for no gateway at all"
                )
                continue
            self._gateway(position, address)
        if "none" in gateways:
            for subnet in self.found:
                subnet.setdefault("gateway", "none")

    def _gateway(self, position: int, address: Any) -> None:
        """Give a gateway to the subnet that it is in; a link-local one to every IPv6 subnet without one."""
        if address.version == 6 and address.is_link_local:
            for network, subnet in zip(self.networks, self.found):
                if network.version == 6:
                    subnet.setdefault("gateway", str(address))
            return
        home = self.home("gateways", position, address, address)
        if home is not None and "gateway" in home:
            self.bad("gateways", position, f"{home['subnet']} has {home['gateway']} already", "give each subnet one")
        elif home is not None:
            home["gateway"] = str(address)

    def read_ranges(self) -> None:
        spans: Dict[int, List[Tuple[Any, Any]]] = {}
        positions: Dict[int, int] = {}
        for position, value in enumerate(several(_without_blanks(self.own.get("ranges", [])))):
            try:
                span = _range(value)
            except InvalidValue as error:
                self.bad("ranges", position, str(error), error.faults[0][2])
                continue
            home = self.home("ranges", position, *span)
            if home is not None:
                at = next(number for number, subnet in enumerate(self.found) if subnet is home)
                spans.setdefault(at, []).append(span)
                positions[at] = position
        for at, of_subnet in spans.items():
            try:
                self._pool(self.found[at], of_subnet)
            except InvalidValue as error:
                self.bad("ranges", positions[at], str(error), error.faults[0][2])

    def _pool(self, subnet: Dict[str, Any], spans: Sequence[Tuple[Any, Any]]) -> None:
        """The ranges as they are. Slices come from one block: with ``per_host``, the smallest that has all of them, and what is in none is reserved."""
        parts = netaddr.IPSet([block for low, high in spans for block in netaddr.iprange_to_cidrs(str(low), str(high))])
        block = (
            netaddr.spanning_cidr([str(end) for span in spans for end in span])
            if parts.size > 1
            else next(parts.iter_cidrs())
        )
        if not self.own.get("per_host") and block not in parts:
            subnet["ip_range"] = PARTS.join(f"{part[0]}-{part[-1]}" for part in parts.iter_ipranges())
            return
        outside = netaddr.IPSet([block]) - parts
        if outside.size > SPAN_MAX:
            blocks = ", ".join(str(part) for part in list(parts.iter_cidrs())[:4])
            raise InvalidValue(
                f"the smallest block that holds {_shown(spans)} is {block}, which would reserve {outside.size} addresses",
                f"give a block such as {blocks}",
            )
        subnet["ip_range"] = str(ipaddress.ip_network(str(block)))
        names = subnet.setdefault("aux_addresses", {})
        names.update((f"outside-ranges-{number}", str(address)) for number, address in enumerate(outside, 1))
        if not names:
            del subnet["aux_addresses"]

    def read_reservations(self) -> None:
        reserved, bad = pairs(_without_blanks(self.own.get("reservations", {})))
        for text in bad:
            fix = "write printer=192.0.2.9, or pool=192.0.2.200-192.0.2.209, each name once"
            self.faults.append(
                Fault(self.row.find("reservations"), "reservations", f"{text!r} is not a name and an address", fix)
            )
        of: Dict[Tuple[int, str], str] = {}
        for name, value in reserved.items():
            path = f"reservations.{name}"
            try:
                fields.name(name)
                addresses = _addresses(value)
            except InvalidValue as error:
                self.faults.append(Fault(self.row.find(path), "reservations", str(error), error.faults[0][2]))
                continue
            subnet = self.home("reservations", name, addresses[0], addresses[-1])
            for number, address in enumerate(addresses, 1) if subnet is not None else ():
                called = name if len(addresses) == 1 else f"{name}-{number}"
                if of.setdefault((id(subnet), called), name) != name:
                    self.bad(
                        "reservations",
                        name,
                        f"{called} of {value} is a name of {of[id(subnet), called]} too",
                        "give one of the two another name",
                    )
                    break
                (subnet or {}).setdefault("aux_addresses", {})[called] = str(address)


def joined(value: Any) -> Any:
    """Subnets whose length stands apart, or is a mask, in one word each: ``10.0.0.0 /22`` and ``10.0.0.0 255.255.252.0``."""
    if isinstance(value, list):
        return [joined(item) for item in value]
    if not isinstance(value, str):
        return value
    return _WITH_MASK.sub(lambda match: f"{match[1]}/{_or_as_it_is(match[2])}", _SPACED_LENGTH.sub("/", value))


def _or_as_it_is(mask: str) -> str:
    try:
        return str(mask_length(mask))
    except InvalidValue:
        return mask  # which the parser of subnets refuses


def mask_length(mask: Any) -> int:
    """The prefix length that a mask means."""
    text = str(mask).strip().lstrip("/") if isinstance(mask, (str, int)) and not isinstance(mask, bool) else "?"
    try:
        if text.isdigit() and int(text) <= 128:
            return int(text)
        return ipaddress.ip_network(f"0.0.0.0/{text}").prefixlen
    except ValueError:
        raise InvalidValue(f"{mask!r} is not a mask", "write 255.255.252.0, or /22") from None


def _without_blanks(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_blanks(item) for item in value]
    return _SPACED_SPAN.sub("-", value) if isinstance(value, str) else value


def _span(value: Any) -> Optional[Tuple[Any, Any]]:
    """The ends of ``first-last``."""
    match = _SPAN.match(str(value))
    if match is None:
        return None
    first, last = (ipaddress.ip_address(fields.address()(end)) for end in match.groups())
    if first.version != last.version or int(first) > int(last):
        raise InvalidValue(f"{value} is reversed", "write the first address, then the last")
    return first, last


def _range(value: Any) -> Tuple[Any, Any]:
    """The ends of a range, which is a span or a block."""
    span = _span(value)
    if span is not None:
        return span
    part = fields.network(value)
    if str(part) != str(value).lower() and ipaddress.ip_interface(str(value)).ip != part.network_address:
        raise InvalidValue(f"{value} has host bits set", f"write {part}, or the span first-last")
    return part[0], part[-1]


def _shown(spans: Sequence[Tuple[Any, Any]]) -> str:
    return ", ".join(f"{low}-{high}" for low, high in spans)


def _addresses(value: Any) -> List[Any]:
    span = _span(value)
    if span is None:
        return [ipaddress.ip_address(fields.address()(value))]
    if int(span[1]) - int(span[0]) >= SPAN_MAX:
        raise InvalidValue(f"{value} is more than {SPAN_MAX} addresses", "use ranges for the part to allocate from")
    return [ipaddress.ip_address(str(address)) for address in netaddr.iter_iprange(str(span[0]), str(span[1]))]
