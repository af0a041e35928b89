# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``dns``, ``dns_search`` and ``dns_options``: whom a workload asks for names, and how."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List

from ..core import formats, resolver
from ..core.errors import InvalidValue
from . import fields

_DOMAIN = re.compile(formats.DOMAIN)


def _nameserver(value: Any) -> str:
    text = str(fields.address()(value))
    ip = ipaddress.ip_address(text)
    if ip.is_unspecified or ip.is_multicast:
        raise InvalidValue(f"{text} is no nameserver's address", "give that of one host")
    if ip.version == 6 and ip.is_link_local:
        raise InvalidValue(f"{text} is on every link, and it does not say which", "give another of its addresses")
    return text


def _domain(value: Any) -> str:
    if not isinstance(value, str) or not _DOMAIN.fullmatch(value):
        raise InvalidValue(f"{value!r} is not a DNS domain", "write it as example.com, other alphabets as xn--...")
    return value


def _option(value: Any) -> str:
    name, colon, number = value.partition(":") if isinstance(value, str) else ("", "", "")
    if name not in resolver.OPTIONS:
        known = ", ".join(sorted(resolver.OPTIONS))
        raise InvalidValue(f"{value!r} is not an option of a resolver", f"give one of {known}")
    most = resolver.OPTIONS[name]
    if most is None and colon:
        raise InvalidValue(f"{value} has a number, which {name} has not", f"write it as {name}")
    if most is not None and not (re.fullmatch("[0-9]{1,2}", number) and int(number) <= most):
        raise InvalidValue(f"{value} has no number from 0 to {most}", f"write it as {name}:{most}, or with less")
    return str(value)


def _list(option: str, parse_item: fields.Parser) -> fields.Parser:
    """A list of which the resolver uses everything, each value once."""

    def parse(value: Any) -> List[str]:
        found = list(dict.fromkeys(fields.sequence(parse_item)(value)))
        resolver.check(option, found)
        return found

    return parse


#: The options of endpoints and networks that are for the resolver of a workload.
OPTIONS: Dict[str, fields.Parser] = {
    "dns": _list("dns", _nameserver),
    "dns_search": _list("dns_search", _domain),
    "dns_options": _list("dns_options", _option),
}
