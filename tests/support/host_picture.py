# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a test host has, for comparison."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import NamespaceError
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import restore
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry

from tests.support.engine import Engine
from tests.support.network_host import inside

_GETLINK, _GETADDR, _GETROUTE, _GETRULE = 18, 22, 26, 34
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DONE, _ERROR = 3, 2
_UP = 1
#: Attributes of links (IFLA_*), addresses (IFA_*) and routes (RTA_*).
_ADDRESS, _NAME, _MTU, _LINK, _MASTER, _LINKINFO, _ALIAS, _AF_SPEC, _GROUP, _EXT_MASK, _LINK_NETNSID, _PROP_LIST = (
    1, 3, 4, 5, 10, 18, 20, 26, 27, 29, 37, 52,
)  # fmt: skip
_IFA_ADDRESS, _IFA_LOCAL, _IFA_PROTO = 1, 2, 11
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_SCOPE_UNIVERSE, _SCOPE_LINK, _PROTO_KERNEL = 0, 253, 2
#: In IFLA_AF_SPEC: the sysctls of each family, and how its addresses are made.
_INET6_CONF, _INET6_ADDR_GEN_MODE = 2, 8
_INET6_SETTINGS = (_INET6_CONF, 7, _INET6_ADDR_GEN_MODE)  # and IFLA_INET6_TOKEN

Attributes = Dict[int, bytes]
#: Attributes that the kernel changes by itself: IFLA_STATS and IFLA_STATS64, which some kernels send unasked, IFLA_OPERSTATE, IFLA_CARRIER and its
#: counts; the lifetimes of the others.
_RESTLESS = {_GETLINK: {7, 16, 23, 33, 35, 47, 48}, _GETADDR: {6}, _GETROUTE: {12}, _GETRULE: set()}
#: Where each kind has its flags (the place in its head), and which of them: carriers, and what duplicate address detection finds.
_RESTLESS_FLAGS = {_GETLINK: (8, 0x10040), _GETADDR: (2, 0x40), _GETROUTE: (8, 0x10), _GETRULE: (8, 0)}
_IFA_FLAGS = 8
_INFO_XSTATS = 3
#: Types of routes that come and go with addresses: local, anycast, multicast.
_ITS_OWN = (2, 4, 5)


def picture() -> Dict[str, Any]:
    """All of the host and of every named namespace, but for what the kernel numbers anew."""
    found = {"": _space("")}
    for path in sorted(Path("/run/netns").iterdir()):
        with inside(path.name):
            found[path.name] = _space(path.name)
    return found


def everything() -> Dict[str, Any]:
    """All that rtnetlink says of links with their sysctls, addresses, routes and rules, but for what changes by itself: by namespace."""
    found = {"namespace ": _said()}
    for path in sorted(Path("/run/netns").iterdir()):
        with inside(path.name):
            found[f"namespace {path.name}"] = _said()
    return found


def _said() -> Dict[str, Any]:
    heads = {"link": (_GETLINK, 16), "address": (_GETADDR, 8), "route": (_GETROUTE, 12), "rule": (_GETRULE, 12)}
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as kernel:
        return {
            kind: [
                _calm(what, head, it)
                for head, it in _dump(kernel, what, length)
                if what != _GETROUTE or head[7] not in _ITS_OWN
            ]
            for kind, (what, length) in heads.items()
        }


def _calm(what: int, head: bytes, it: Attributes) -> Dict[str, Any]:
    """A message, by the numbers of its attributes."""
    place, flags = _RESTLESS_FLAGS[what]
    row: Dict[str, Any] = {str(key): value for key, value in it.items() if key not in _RESTLESS[what]}
    size = 1 if what == _GETADDR else 4
    row["head"] = head[:place] + _without(head[place : place + size], flags) + head[place + size :]
    if what == _GETADDR and _IFA_FLAGS in it:
        row[str(_IFA_FLAGS)] = _without(it[_IFA_FLAGS], flags)
    if what == _GETLINK:
        families = _attributes(it.get(_AF_SPEC, b""))
        inet6 = _attributes(families.get(socket.AF_INET6, b""))
        # The others are timers and counters.
        row[str(_AF_SPEC)] = [families.get(socket.AF_INET), *(inet6.get(key) for key in _INET6_SETTINGS)]
        row[str(_LINKINFO)] = [part for part in _all(it.get(_LINKINFO, b"")) if part[0] != _INFO_XSTATS]
    return row


def _without(value: bytes, flags: int) -> bytes:
    return (_integer(value) & ~flags).to_bytes(len(value), "little")


def global_addresses(dev: str) -> List[str]:
    """Those of a link of this namespace that are valid everywhere, IPv4 first."""
    index = socket.if_nametoindex(dev)
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as kernel:
        return [
            f"{ip_address(it.get(_IFA_LOCAL, it[_IFA_ADDRESS]))}/{head[1]}"
            for head, it in _dump(kernel, _GETADDR, 8)
            if struct.unpack_from("=I", head, 4)[0] == index and head[3] == _SCOPE_UNIVERSE
        ]


def objects() -> Dict[Tuple[Any, ...], Any]:
    """Everything on the host and in the named namespaces, by what it is and not by what it is called, but for the kernel's own routes."""
    found = dict(_objects(""))
    for path in Path("/run/netns").iterdir():
        with contextlib.suppress(NamespaceError), inside(path.name):  # one that is being removed
            found.update(_objects(path.name))
    return found


def _objects(name: str) -> Iterator[Tuple[Tuple[Any, ...], Any]]:
    space = os.stat("/proc/thread-self/ns/net").st_ino
    yield ("netns", space), name
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as kernel:
        links = {struct.unpack_from("=i", head, 4)[0]: (head, it) for head, it in _dump(kernel, _GETLINK, 16)}
        addresses = list(_dump(kernel, _GETADDR, 8))
        routes = list(_dump(kernel, _GETROUTE, 12))
    names = {index: _text(it[_NAME]) for index, (_head, it) in links.items()}
    indexes = {name: index for index, name in names.items()}
    for row in _links(links, names, []):
        del row["settings"], row["on"]
        yield ("link", space, indexes[row["name"]]), row
    for head, it in addresses:
        if head[3] != _SCOPE_LINK:
            index = struct.unpack_from("=I", head, 4)[0]
            local = it.get(_IFA_LOCAL, it.get(_IFA_ADDRESS, b"")).hex()
            yield ("address", space, index, local, head[1]), it.get(_IFA_PROTO, b"").hex()
    for route in _routes(routes, {index: str(index) for index in names}):
        yield ("route", space, route), ""


def _space(name: str) -> Any:
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)) as kernel:
        links = {struct.unpack_from("=i", head, 4)[0]: (head, it) for head, it in _dump(kernel, _GETLINK, 16)}
        addresses = list(_dump(kernel, _GETADDR, 8))
        routes = list(_dump(kernel, _GETROUTE, 12))
    names = {index: _text(it[_NAME]) for index, (_head, it) in links.items()}
    return [sorted(_links(links, names, addresses), key=str), sorted(_routes(routes, names), key=str), _hosts(name)]


def _links(links: Dict[int, Tuple[bytes, Attributes]], names: Dict[int, str], addresses: List[Any]) -> Iterator[Any]:
    for index, (head, it) in links.items():
        info = _attributes(it.get(_LINKINFO, b""))
        kind = _text(info.get(1, b""))
        # The MAC of a sub-interface is its base's, and a NIC that is recreated has another.
        mac = it[_ADDRESS].hex() if kind == "macvlan" else ""
        yield {
            "name": names[index], "kind": kind, "options": _options(info), "mac": mac,
            "up": bool(struct.unpack_from("=I", head, 8)[0] & _UP),
            "on": "" if _LINK_NETNSID in it else names.get(_integer(it.get(_LINK)), ""), "master": names.get(_integer(it.get(_MASTER)), ""),
            "mtu": _integer(it[_MTU]), "group": _integer(it.get(_GROUP)),
            "alias": _text(it.get(_ALIAS, b"")).rstrip("0123456789"),  # a mark ends in the number of its run
            "altnames": sorted(_text(text) for _, text in _all(it.get(_PROP_LIST, b""))), "settings": _settings(it),
            "addresses": sorted(
                (own.get(_IFA_LOCAL, own.get(_IFA_ADDRESS, b"")).hex(), top[1], own.get(_IFA_PROTO, b"").hex())
                for top, own in addresses
                if struct.unpack_from("=I", top, 4)[0] == index and top[3] != _SCOPE_LINK
            ),
        }  # fmt: skip


def _options(info: Attributes) -> List[Tuple[int, str]]:
    """Those of the link's kind, but for the addresses of its neighbours."""
    return sorted((key, value.hex()) for key, value in _all(info.get(2, b"")))


def _settings(it: Attributes) -> List[str]:
    families = {key & 0x3FFF: value for key, value in _all(it.get(_AF_SPEC, b""))}
    inet6 = _attributes(families.get(socket.AF_INET6, b""))
    return [
        families.get(socket.AF_INET, b"").hex(),
        *(inet6.get(key, b"").hex() for key in (_INET6_CONF, _INET6_ADDR_GEN_MODE)),
    ]


def _routes(routes: List[Any], names: Dict[int, str]) -> Iterator[Any]:
    for head, it in routes:
        family, length, _source, tos, _table, protocol, scope, kind = head[:8]
        if protocol != _PROTO_KERNEL:
            yield (
                family, it.get(_RTA_DST, b"").hex(), length, tos, protocol, scope, kind, _integer(it.get(_RTA_TABLE)),
                it.get(_RTA_GATEWAY, b"").hex(), names.get(_integer(it.get(_RTA_OIF)), ""), _integer(it.get(_RTA_PRIORITY)),
                it.get(_RTA_PREFSRC, b"").hex(),
            )  # fmt: skip


def _dump(kernel: socket.socket, what: int, head: int) -> Iterator[Tuple[bytes, Attributes]]:
    """Each object's head and attributes."""
    body = bytes(head)
    if what == _GETLINK:
        body += struct.pack("=HHI", 8, _EXT_MASK, 8)  # RTEXT_FILTER_SKIP_STATS
    kernel.send(struct.pack("=IHHII", 16 + len(body), what, _DUMP, 1, 0) + body)
    while True:
        data, start = kernel.recv(1 << 16), 0
        while start < len(data):
            length, kind = struct.unpack_from("=IH", data, start)
            if kind in (_DONE, _ERROR):
                return
            yield data[start + 16 : start + 16 + head], _attributes(data[start + 16 + head : start + length])
            start += (length + 3) & ~3


def _all(data: bytes) -> Iterator[Tuple[int, bytes]]:
    start = 0
    while start + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, start)
        yield kind & 0x3FFF, data[start + 4 : start + length]
        start += (length + 3) & ~3


def _attributes(data: bytes) -> Attributes:
    return dict(_all(data))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _integer(value: Optional[bytes]) -> int:
    return int.from_bytes(value or b"", "little")


def _hosts(space: str) -> str:
    """The hosts file and the resolv.conf of a namespace."""
    paths = [Path(f"/etc/netns/{space}/{name}") for name in ("hosts", "resolv.conf")]
    return "".join(path.read_text(encoding="utf-8") for path in paths if space and path.exists())


def differences(wanted: Any, found: Any, where: str = "") -> Iterator[str]:
    """What differs in a picture, one a line."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{where} {key}")
    elif isinstance(wanted, list) and isinstance(found, list):
        if wanted and isinstance(wanted[0], dict):
            yield from differences(*({row["name"]: row for row in rows} for rows in (wanted, found)), where)  # type: ignore[misc]
        elif len(wanted) == len(found) == 3 and isinstance(wanted[2], str):
            for index in range(3):
                yield from differences(wanted[index], found[index], where)
        elif wanted != found:
            lost, new = ([row for row in one if row not in other] for one, other in ((wanted, found), (found, wanted)))
            yield f"{where}: {lost} -> {new}"
    elif wanted != found:
        yield f"{where}: {wanted!r} -> {found!r}"


def settled(engine: Engine) -> None:
    """Nothing differs from the records, and nothing is under way."""
    changes, left, _ = restore.drift(Registry(engine.state_dir))
    pending = engine.pending()
    assert (changes, left, pending) == ([], [], False), f"drift: {changes}, left: {left}, pending: {pending}"
