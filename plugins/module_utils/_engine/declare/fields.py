# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as users write them, one parser each, and the list of what is wrong with them.

A parser takes a raw value (YAML, JSON or a string that a template made) and returns the normalised one
or raises :class:`Invalid` with what is wrong and the cure. Nothing is coerced that a person could have
meant otherwise.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping  # that of typing takes ten times as long to be asked whether something is one
from typing import Any, Callable, Collection, Dict, Iterable, List, Optional, Tuple, TypeVar, Union

from ..core import formats
from ..core.errors import InvalidValue, Problem
from ..core.formats import NAME_MAX, parse_subnet

Network = formats.Network
Parser = Callable[[Any], Any]
Part = TypeVar("Part")
Parsed = TypeVar("Parsed")

_TRUE = {"yes", "on", "true", "1", "y", "t"}
_FALSE = {"no", "off", "false", "0", "n", "f"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_NOT_IN_LINK_NAMES = frozenset("/:% ")  # of what is printable: every other space is not
_DECIMAL = re.compile(r"(0|-?[1-9][0-9]*)\Z", re.ASCII)
_OCTAL = re.compile(r"0[0-9]+\Z", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}\Z")


#: Options of a row as they were given: which ones, and of what types, is up to their parsers.
Given = Dict[str, Any]


def items(
    row: Any,
    parsers: Mapping[str, Parser],
    path: str,
    problems: List[Problem],
    required: Collection[str] = (),
    hints: Optional[Mapping[str, str]] = None,
) -> Given:
    """The options of one item, parsed; every bad one goes to ``problems``. Unset and None are left out."""
    spec: Given = {}
    if not isinstance(row, Mapping):
        problems.append(Problem(path, f"{_shown(row)} is not a mapping", "give the item's options as key: value"))
        return spec
    dot = path + "." if path else ""
    for key, value in row.items():
        parser = parsers.get(key)
        if parser is None:
            near = difflib.get_close_matches(str(key), parsers, 1)
            fix = (hints or {}).get(str(key)) or (
                f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(parsers))
            )
            problems.append(Problem(f"{dot}{key}", "unknown option", fix))
        elif value is not None:
            try:
                spec[key] = parser(value)
            except InvalidValue as error:
                problems += [Problem(f"{dot}{key}{at}", what, fix) for at, what, fix in error.faults]
    for key in required:
        if row.get(key) is None:
            problems.append(Problem(f"{dot}{key}", "is missing", "it is required"))
    return spec


def is_bad(row: Any, spec: Given, option: str) -> bool:
    """Whether an option was given and could not be read, so that nothing is said of what follows from it."""
    return not isinstance(row, Mapping) or (row.get(option) is not None and option not in spec)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def integer(low: int, high: int, unit: str = "") -> Parser:
    """A whole number from ``low`` to ``high``, both included; as text in plain decimal digits."""

    def parse(value: Any) -> int:
        number = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and len(value) <= 20 and _DECIMAL.match(value):
            number = int(value)
        if number is None or not low <= number <= high:
            fix = "give one"
            if isinstance(value, str) and _OCTAL.match(value):
                fix = "write it without the leading zero: an unquoted 010 is 8 in YAML"
            elif isinstance(value, str) and _is_number(value) and not _DECIMAL.match(value):
                fix = f"write it as {int(value)}"
            raise InvalidValue(f"{_shown(value)} is not a whole number from {low} to {high}{unit}", fix)
        return number

    return parse


#: IEEE 802.1Q: 0 and 4095 are reserved.
VLAN_ID = integer(1, 4094)
MTU = integer(68, 65535, " bytes")
#: A routing table of the kernel; 0 is none.
TABLE = integer(1, 4294967295)


def limit(value: Any) -> str:
    """A number, or a percentage such as 20%."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.match(r"\d+%?\Z", text):
        raise InvalidValue(f"{_shown(value)} is not a limit", "give a number, or a percentage such as 20%")
    return text


def _is_number(text: str) -> bool:
    """Whether Python reads a number, in whatever notation."""
    try:
        int(text)
    except ValueError:
        return False
    return True


def boolean(value: Any) -> bool:
    """A boolean, also as one of Ansible's words. Raises InvalidValue."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidValue(f"{_shown(value)} is not a boolean", "give true or false")


def choice(*words: Union[str, int]) -> Parser:
    """A parser of one of some words or numbers."""

    def parse(value: Any) -> Union[str, int]:
        if value in words:
            return value if isinstance(value, int) else str(value)
        raise InvalidValue(f"{_shown(value)} is not a choice", "give one of " + ", ".join(map(str, words)))

    return parse


def name(value: Any) -> str:
    """The name of a network, an endpoint or an owner."""
    text = str(value)
    if not isinstance(value, (str, int)) or not _NAME.match(text):
        raise InvalidValue(
            f"{_shown(value)} is not a usable name",
            "start with a letter or digit, then letters, digits, '_', '.', '-', 128 at most",
        )
    return text


def link_name(value: Any) -> str:
    """An existing or future link, by its name or a longer alternative name (dev_valid_name in net/core/dev.c)."""
    text = str(value)
    if (
        not 0 < len(text) < 128
        or text in (".", "..")
        or not (text.isprintable() and _NOT_IN_LINK_NAMES.isdisjoint(text))
    ):
        raise InvalidValue(f"{_shown(value)} is not a link name", "leave out spaces, '/', ':' and '%'")
    if text in ("all", "default"):
        raise InvalidValue(f"{text} is not a link name", "give another: the kernel keeps all and default for settings")
    if text == "lo":
        raise InvalidValue("lo is the loopback", "give a NIC, a bond, a VLAN sub-interface or a dummy")
    return text


def short_name(value: Any) -> str:
    """The name of a link inside a namespace, 15 characters at most."""
    text = link_name(value)
    if len(text) > NAME_MAX:
        raise InvalidValue(f"{text} has {len(text)} characters", f"the kernel allows at most {NAME_MAX}")
    return text


def netns_name(value: Any) -> str:
    """A named namespace, as ``ip netns`` knows it: a file name under /run/netns."""
    text = str(value)
    if not 0 < len(text) < 256 or "/" in text or text in (".", "..") or not text.isprintable():
        raise InvalidValue(
            f"{_shown(value)} is not the name of a namespace", "give a name as in 'ip netns list', no path"
        )
    return text


def mac(value: Any) -> str:
    """A unicast MAC address, in the kernel's notation."""
    text = str(value).lower()
    if not _MAC.match(text):
        raise InvalidValue(f"{_shown(value)} is not a MAC address", "write it as 02:42:ac:11:00:02")
    text = text.replace("-", ":")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise InvalidValue(f"{text} is not a unicast MAC address", "the first octet must be even, and not all octets 0")
    return text


def address(version: Optional[int] = None) -> Parser:
    """An IP address without a prefix length."""

    def parse(value: Any) -> str:
        text = _unscoped(str(value))
        try:
            found = ipaddress.ip_address(text)
        except ValueError:
            fix = "write it without a prefix length" if "/" in str(value) else "write it as 192.0.2.10 or 2001:db8::10"
            raise InvalidValue(f"{_shown(value)} is not an IP address", fix) from None
        if version and found.version != version:
            raise InvalidValue(f"{found} is not an IPv{version} address", f"give an IPv{version} address")
        return str(found)

    return parse


def _unscoped(text: str) -> str:
    """Raises InvalidValue for an IPv6 address with a scope: a number that only this host gives a meaning."""
    address, percent, rest = text.partition("%")
    if percent:
        scope = rest.partition("/")[0]
        raise InvalidValue(f"{_shown(text)} has a scope", f"write it without %{scope}")
    return address


def address_range(value: Any) -> str:
    """One address, a prefix, or a range as FIRST-LAST; in the normal form, a range of whole prefixes as it was given."""
    text = str(value).replace(" ", "")
    first, dash, last = text.partition("-")
    if "/" in text and not dash:
        return _aligned(text)
    try:
        low = ipaddress.ip_address(_unscoped(first))
        high = ipaddress.ip_address(_unscoped(last)) if dash else low
    except ValueError as error:
        if isinstance(error, InvalidValue):
            raise
        raise InvalidValue(
            f"{_shown(value)} is not an address, a prefix or a range",
            "write it as 192.0.2.10, 192.0.2.0/28 or 192.0.2.10-192.0.2.20",
        ) from None
    if low.version != high.version:
        raise InvalidValue(f"{_shown(value)} has addresses of two IP versions", "write it as FIRST-LAST")
    if int(low) > int(high):
        raise InvalidValue(f"{_shown(value)} does not run from a lower to a higher address", "write it as FIRST-LAST")
    return f"{low}-{high}" if dash else str(low)


def address_ranges(value: Any) -> str:
    """The ranges of a pool, each as of :func:`address_range`: a list, or a text with commas between them."""
    given = list(value) if isinstance(value, (list, tuple)) else str(value).split(",")
    if not given:
        raise InvalidValue("is an empty list", "give one range at least, or leave it out for the whole subnet")
    found = [address_range(given[0])] if len(given) == 1 else sequence(address_range)(given)
    return formats.PARTS.join(found)


def _aligned(text: str) -> str:
    """A prefix without host bits, which would silently move a range."""
    found = network(text)
    if ipaddress.ip_interface(text).ip != found.network_address:
        rest = f"{ipaddress.ip_interface(text).ip}-{found.broadcast_address}"
        raise InvalidValue(f"{text} has host bits set", f"write {found}, or the range {rest}")
    return str(found)


def interface(value: Any) -> str:
    """An address with its prefix length, as ``ip address add`` takes it."""
    text = _unscoped(str(value))
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        found = None
    if found is None or "/" not in text:
        raise InvalidValue(f"{_shown(value)} is not an address with prefix length", "write it as 192.0.2.10/24")
    what = reserved_range(ipaddress.ip_network(found.ip))
    if what or str(found.ip) == "255.255.255.255":
        raise InvalidValue(f"{found} is {what or 'the broadcast address'}", "give a unicast address")
    return str(found)


#: The subnets that no host can have an address of, by version (RFC 1122, 3.2.1.3; RFC 5771; RFC 4291, 2.4): the first and
#: the last address of each, its prefix length, and what it is.
_RESERVED_RANGES = {
    version: [
        (int(block.network_address), int(block.broadcast_address), block.prefixlen, what)
        for block, what in ((ipaddress.ip_network(text), what) for text, what in blocks)
    ]
    for version, blocks in (
        (4, (("0.0.0.0/8", "unspecified"), ("127.0.0.0/8", "loopback"), ("224.0.0.0/4", "multicast"))),
        (6, (("::/128", "unspecified"), ("::1/128", "loopback"), ("ff00::/8", "multicast"))),
    )
}


def reserved_range(subnet: Network) -> str:
    """What a subnet is that no host can have an address of; empty for any other."""
    first, length = int(subnet.network_address), subnet.prefixlen
    for low, high, shortest, what in _RESERVED_RANGES[subnet.version]:
        if low <= first <= high and length >= shortest:
            return what
    return "" if first else "unspecified"


def network(value: Any) -> Network:
    """A subnet; host bits are tolerated here and normalised by the caller, with a warning."""
    text = _unscoped(str(value))
    try:
        found = parse_subnet(text)
    except ValueError:
        raise InvalidValue(f"{_shown(value)} is not a subnet", "write it as 192.0.2.0/24") from None
    if "/" not in text:
        raise InvalidValue(
            f"{text} has no prefix length", f"write it as {text}/{found.max_prefixlen}, or the subnet's own length"
        )
    return found


def _each(parts: Iterable[Tuple[str, Part]], parse: Callable[[Part], Parsed]) -> List[Parsed]:
    """Every part parsed. Raises InvalidValue with the place of each bad one."""
    found: List[Parsed] = []
    faults: List[Tuple[str, InvalidValue]] = []
    for at, part in parts:
        try:
            found.append(parse(part))
        except InvalidValue as error:
            faults.append((at, error))
    if faults:
        raise InvalidValue.within(faults)
    return found


def mapping(parse_key: Parser, parse_value: Parser) -> Parser:
    """A mapping with one parser for every key and one for every value."""

    def entry(pair: Tuple[Any, Any]) -> Tuple[str, Any]:
        return str(parse_key(pair[0])), parse_value(pair[1])

    def parse(value: Any) -> Given:
        if not isinstance(value, Mapping):
            raise InvalidValue(f"{_shown(value)} is not a mapping", "write it as key: value")
        return dict(_each(((f".{key}", (key, item)) for key, item in value.items()), entry))

    return parse


def sequence(parse_item: Parser) -> Parser:
    """A list with one parser for every item."""

    def parse(value: Any) -> List[Any]:
        return _each(((f"[{position}]", item) for position, item in enumerate(rows(value))), parse_item)

    return parse


def rows(value: Any) -> List[Any]:
    """A list whose items are read by the caller."""
    if isinstance(value, str) and len(value.splitlines()) > 1:
        lines = len(value.splitlines())
        raise InvalidValue(
            f"is a string of {lines:,} lines, not a list",
            "parse it first: {{ ... | from_yaml }} or {{ ... | from_json }}",
        )
    if not isinstance(value, (list, tuple)):
        raise InvalidValue(f"{_shown(value)} is not a list", "write one item a line, each with '- '")
    return list(value)
