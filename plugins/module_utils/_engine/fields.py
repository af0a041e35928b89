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
from functools import lru_cache
from typing import Any, Callable, Collection, Dict, List, NamedTuple, Optional, Tuple, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Parser = Callable[[Any], Any]

#: IFNAMSIZ less the terminating NUL (include/uapi/linux/if.h).
NAME_MAX = 15

_TRUE = {"yes", "on", "true", "1", "y", "t"}
_FALSE = {"no", "off", "false", "0", "n", "f"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")
_MAC = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}\Z")


class Invalid(ValueError):
    """What is wrong with a value, and the cure; in a nested value, ``at`` leads to each bad part."""

    def __init__(self, what: str, cure: str, at: str = "") -> None:
        super().__init__(what)
        self.faults = [(at, what, cure)]

    @classmethod
    def within(cls, faults: List[Tuple[str, Invalid]]) -> Invalid:
        """One error for several bad parts of a list or mapping."""
        error = cls("", "")
        error.faults = [(at + deeper, what, cure) for at, part in faults for deeper, what, cure in part.faults]
        return error


class Problem(NamedTuple):
    """One refusal: the option of the item, what is wrong, what to do."""

    path: str
    what: str
    cure: str

    def __str__(self) -> str:
        text = f"{self.path}: {self.what}; {self.cure}" if self.path else f"{self.what}; {self.cure}"
        return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class Refusal(Exception):
    """Everything that is wrong with one input. Nothing was touched."""

    def __init__(self, problems: Collection[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def items(
    row: Any, parsers: Mapping[str, Parser], path: str, problems: List[Problem], required: Collection[str] = ()
) -> Dict[str, Any]:
    """The options of one item, parsed; every bad one goes to ``problems``. Unset and None are left out."""
    spec: Dict[str, Any] = {}
    if not isinstance(row, Mapping):
        problems.append(Problem(path, f"{_shown(row)} is not a mapping", "give the item's options as key: value"))
        return spec
    dot = path + "." if path else ""
    for key, value in row.items():
        parser = parsers.get(key)
        if parser is None:
            near = difflib.get_close_matches(str(key), parsers, 1)
            cure = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(parsers))
            problems.append(Problem(f"{dot}{key}", "unknown option", cure))
        elif value is not None:
            try:
                spec[key] = parser(value)
            except Invalid as error:
                problems += [Problem(f"{dot}{key}{at}", what, cure) for at, what, cure in error.faults]
    for key in required:
        if row.get(key) is None:
            problems.append(Problem(f"{dot}{key}", "is missing", "it is required"))
    return spec


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def integer(low: int, high: int, unit: str = "") -> Parser:
    """A whole number from ``low`` to ``high``, both included."""

    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise Invalid(f"{_shown(value)} is not a whole number from {low} to {high}{unit}", "give one")
        return number

    return parse


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise Invalid(f"{_shown(value)} is not a boolean", "give true or false")


def choice(*words: str) -> Parser:
    def parse(value: Any) -> str:
        if value in words:
            return str(value)
        raise Invalid(f"{_shown(value)} is not a choice", "give one of " + ", ".join(words))

    return parse


def name(value: Any) -> str:
    """The name of a network, an endpoint or an owner."""
    text = str(value)
    if not isinstance(value, (str, int)) or not _NAME.match(text):
        raise Invalid(
            f"{_shown(value)} is not a usable name",
            "start with a letter or digit, then letters, digits, '_', '.', '-', 128 at most",
        )
    return text


def link_name(value: Any) -> str:
    """An existing or future link, by its name or a longer alternative name (dev_valid_name in net/core/dev.c)."""
    text = str(value)
    if not 0 < len(text) < 128 or text in (".", "..") or any(c in "/:%" or c.isspace() or not c.isprintable() for c in text):
        raise Invalid(f"{_shown(value)} is not a link name", "no blank, '/', ':' or '%' may be in it")
    if text == "lo":
        raise Invalid("lo is the loopback", "give a NIC, a bond, a VLAN sub-interface or a dummy")
    return text


def short_name(value: Any) -> str:
    """The name of a link inside a namespace, 15 characters at most."""
    text = link_name(value)
    if len(text) > NAME_MAX:
        raise Invalid(f"{text} has {len(text)} characters", f"the kernel takes {NAME_MAX} at most")
    return text


def netns_name(value: Any) -> str:
    """A named namespace, as ``ip netns`` knows it: a file name under /run/netns."""
    text = str(value)
    if not 0 < len(text) < 256 or "/" in text or text in (".", "..") or not text.isprintable():
        raise Invalid(f"{_shown(value)} is not the name of a namespace", "give a name as in 'ip netns list', no path")
    return text


def mac(value: Any) -> str:
    """A unicast MAC address, in the kernel's notation."""
    text = str(value).lower()
    if not _MAC.match(text):
        raise Invalid(f"{_shown(value)} is not a MAC address", "write it as 02:42:ac:11:00:02")
    text = text.replace("-", ":")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise Invalid(f"{text} is not a unicast MAC address", "the first octet must be even, and not all may be 0")
    return text


def address(version: Optional[int] = None) -> Parser:
    """An IP address without a prefix length."""

    def parse(value: Any) -> str:
        try:
            found = ipaddress.ip_address(str(value))
        except ValueError:
            raise Invalid(f"{_shown(value)} is not an IP address", "write it without a prefix length") from None
        if version and found.version != version:
            raise Invalid(f"{found} is not an IPv{version} address", f"give an IPv{version} address")
        return str(found)

    return parse


def interface(value: Any) -> str:
    """An address with its prefix length, as ``ip address add`` takes it."""
    text = str(value)
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        found = None
    if found is None or "/" not in text:
        raise Invalid(f"{_shown(value)} is not an address with prefix length", "write it as 192.0.2.10/24")
    return str(found)


@lru_cache(maxsize=8192)
def parse_subnet(text: str) -> Network:
    """A subnet, whose host bits are dropped. A run asks about each many times, and parsing is what that costs."""
    return ipaddress.ip_network(text, strict=False)


def network(value: Any) -> Network:
    """A subnet; host bits are tolerated here and normalised by the caller, with a warning."""
    text = str(value)
    try:
        found = parse_subnet(text)
    except ValueError:
        raise Invalid(f"{_shown(value)} is not a subnet", "write it as 192.0.2.0/24") from None
    if "/" not in text:
        raise Invalid(f"{text} has no prefix length", f"write it as {text}/{found.max_prefixlen}, or the subnet's own length")
    return found


def mapping(parse_key: Parser, parse_value: Parser) -> Parser:
    """A mapping with one parser for every key and one for every value."""

    def parse(value: Any) -> Dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Invalid(f"{_shown(value)} is not a mapping", "write it as key: value")
        found = {}
        faults = []
        for key, item in value.items():
            try:
                found[str(parse_key(key))] = parse_value(item)
            except Invalid as error:
                faults.append((f".{key}", error))
        if faults:
            raise Invalid.within(faults)
        return found

    return parse


def sequence(parse_item: Parser) -> Parser:
    """A list with one parser for every item."""

    def parse(value: Any) -> List[Any]:
        if not isinstance(value, (list, tuple)):
            raise Invalid(f"{_shown(value)} is not a list", "write one item a line, each with '- '")
        found = []
        faults = []
        for position, item in enumerate(value):
            try:
                found.append(parse_item(item))
            except Invalid as error:
                faults.append((f"[{position}]", error))
        if faults:
            raise Invalid.within(faults)
        return found

    return parse
