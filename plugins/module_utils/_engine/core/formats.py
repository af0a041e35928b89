# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values that specs are made of: Python types, annotated with what a value has to be beyond them; addresses as texts."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, Any, Callable, Literal, NamedTuple, Union

#: IFNAMSIZ less the terminating NUL (include/uapi/linux/if.h).
NAME_MAX = 15
#: Between the ranges of a pool.
PARTS = ", "
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Format(NamedTuple):
    """What a value has to be beyond its Python type, in words, and what raises ValueError where it is not."""

    what: str
    parse: Callable[[Any], object]


def between(low: int, high: int) -> Format:
    """A number of a range, both ends included."""

    def parse(value: int) -> None:
        if not low <= value <= high:
            raise ValueError

    return Format(f"a number from {low} to {high}", parse)


def matching(what: str, pattern: str) -> Format:
    """A text that a regular expression fits as a whole; ``what`` is it in words."""
    expression = re.compile(pattern)

    def parse(value: str) -> None:
        if not expression.fullmatch(value):
            raise ValueError

    return Format(what, parse)


@lru_cache(maxsize=8192)
def parse_subnet(text: str) -> Network:
    """A subnet, whose host bits are dropped. A run asks about each many times, and parsing is what that costs."""
    return ipaddress.ip_network(text, strict=False)


def _prefix(text: str) -> None:
    if "/" not in text or "%" in text:
        raise ValueError
    parse_subnet(text)


def _ip(text: str) -> None:
    if "%" in text:
        raise ValueError
    ipaddress.ip_address(text)


def _interface(text: str) -> None:
    if "/" not in text or "%" in text:
        raise ValueError
    ipaddress.ip_interface(text)


def _part(text: str) -> None:
    first, dash, last = text.partition("-")
    if dash:
        _ip(first)
        _ip(last)
    elif "/" in text:
        _prefix(text)
    else:
        _ip(text)


def _parts(text: str) -> None:
    for part in text.split(PARTS):
        _part(part)


def _ip_of_version(version: int) -> Format:
    def parse(text: str) -> None:
        if (6 if ":" in text else 4) != version:
            raise ValueError
        _ip(text)

    return Format(f"an IPv{version} address", parse)


Direction = Literal["ingress", "egress"]
#: In bits per second; the kernel counts bytes.
BitRate = Annotated[int, between(8, 10**12)]
U32 = Annotated[int, between(0, 2**32 - 1)]
S32 = Annotated[int, between(-(2**31), 2**31 - 1)]
Text = Annotated[str, Format("text", str.encode)]
Name = Annotated[str, matching("a name", "[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")]
Ip = Annotated[str, Format("an IP address", _ip)]
Ip4 = Annotated[str, _ip_of_version(4)]
Ip6 = Annotated[str, _ip_of_version(6)]
Interface = Annotated[str, Format("an address with prefix length", _interface)]
Subnet = Annotated[str, Format("a subnet", _prefix)]
AddressPart = Annotated[str, Format("an address, a prefix or FIRST-LAST", _part)]
AddressParts = Annotated[str, Format("addresses, prefixes or FIRST-LAST with commas between them", _parts)]
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
DOMAIN = rf"\.|(?=.{{1,254}}\Z){_LABEL}(\.{_LABEL})*\.?"
Domain = Annotated[str, matching("a DNS domain", DOMAIN)]
ResolverOption = Annotated[str, matching("an option of a resolver", "[a-z0-9-]+(:[0-9]{1,2})?")]
Mac = Annotated[str, matching("a MAC address", "([0-9a-f]{2}:){5}[0-9a-f]{2}")]
VlanId = Annotated[int, between(0, 4095)]
LinkName = Annotated[str, matching("the name of a link", r"[^/\s\0\ud800-\udfff]{1,127}")]
KernelName = Annotated[str, matching("a kernel's name of a link", rf"[^/\s\0\ud800-\udfff]{{1,{NAME_MAX}}}")]
_WORKLOAD = r"netns:[^/\0\ud800-\udfff]{1,255}|pid:[0-9]{1,10}|(docker|podman):[^/\s\0\ud800-\udfff]+"
Workload = Annotated[str, matching("a workload", _WORKLOAD)]
#: A namespace: that of a workload, the host's, or one that has no name, by its inode and cookie.
Netns = Annotated[
    str, matching("a workload, or empty for the host", rf"|net:\[[0-9]{{1,10}}\] [0-9]{{1,20}}|{_WORKLOAD}")
]
SysctlName = Annotated[str, matching("ipv4.NAME or ipv6.NAME", r"ipv[46]\.[a-z0-9_]+")]
Digits = Annotated[str, matching("a number", "[0-9]{1,10}")]
#: Where the nodes of taps are: NETWORK/ENDPOINT below it.
TAP_DIRECTORY = "/dev/netops-underlay"
_NODE_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
NodePath = Annotated[str, matching("the device node of a tap", f"{TAP_DIRECTORY}/{_NODE_NAME}/{_NODE_NAME}")]
#: What a client names itself by to a DHCP server: octets as in a MAC, or a text (RFC 2132, 9.14; RFC 2131 has 255 octets at most).
CLIENT_ID = r"[0-9a-f]{2}(:[0-9a-f]{2}){1,253}|(?![0-9a-f]{2}(:[0-9a-f]{2})+\Z)[!-~]([ -~]{0,251}[!-~])?"
ClientId = Annotated[str, matching("a client ID of DHCP", CLIENT_ID)]
FileMode = Annotated[str, matching("a file mode", "0[0-7]{3}")]
Account = Annotated[str, matching("a user or a group", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?")]
EndpointKind = Literal["link", "tap"]
Protocol = Literal["802.1q", "802.1ad"]
Flag = Literal["bridge", "private", "vepa"]
Addressing = Literal["pool", "dhcp"]
When = Literal["auto", "always", "never"]
MacvlanMode = Literal["bridge", "private", "vepa", "passthru", "source"]
IpvlanMode = Literal["l2", "l3", "l3s"]
#: What a set of routes may ask for, and what the kernel may have.
RouteType = Literal["unicast", "unreachable", "blackhole", "prohibit"]
AnyRouteType = Literal[
    "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat",
]  # fmt: skip
Isolation = Literal["none", "routed", "access", "host"]


def version_of(text: str) -> int:
    """The IP version of an address, a prefix or a subnet."""
    return 6 if ":" in text else 4


def host_prefix(address: str) -> str:
    """An address, with or without a prefix length, as the prefix of a route to it alone."""
    ip = ip_of(address)
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def ip_of(address: str) -> str:
    """An address without its prefix length."""
    return address.partition("/")[0]
