# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two looks at a host saw the same: all that planning reads of one, as a digest."""

from __future__ import annotations

import hashlib
import marshal
from dataclasses import fields
from operator import attrgetter
from typing import Any, Dict, Type

from .state import HostState, Link, Namespace

_index = attrgetter("index")


def fingerprint(observed: HostState) -> str:
    """Equal for two states only where they are equal in every field, also in the order of what was dumped.

    Of a state as ``observe`` gives it without records. Raises ValueError for values that are not plain, and so have no bytes of their own.
    """
    # The second format of marshal has no references: equal values are equal bytes, whichever object holds them.
    return hashlib.sha256(marshal.dumps(_plain(observed), 2)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Namespace):
        return _namespace(value)
    if isinstance(value, HostState):
        return [(field.name, _plain(getattr(value, field.name))) for field in fields(value)]
    if isinstance(value, dict):
        return [(key, _plain(item)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str.__str__(value) if isinstance(value, str) else value  # Ansible's texts are of a type of its own


def _namespace(namespace: Namespace) -> Any:
    """There are thousands of links, addresses and routes, and each is flat. What links have in common is in their class."""
    links, names = list(namespace.links.values()), namespace.names
    kinds = list(map(type, links))
    number = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    quick: Dict[str, Any] = {
        "links": [
            list(namespace.links),
            list(map(_common, number)),
            [number[kind] for kind in kinds],
            list(map(vars, links)),
        ],
        "names": [list(names), list(map(_index, names.values()))],
        "addresses": [(index, list(map(tuple, there))) for index, there in namespace.addresses.items()],
        "routes": list(map(tuple, namespace.routes)),
    }
    return [
        (field.name, quick[field.name] if field.name in quick else _plain(getattr(namespace, field.name)))
        for field in fields(namespace)
        if field.init
    ]


def _common(kind: Type[Link]) -> Any:
    """What all links of a class have in common: see ``netlink.decode``."""
    return None if kind is Link else [(name, value) for name, value in vars(kind).items() if not name.startswith("_")]
