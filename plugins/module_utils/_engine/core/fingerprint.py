# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two looks at a host saw the same: all that planning reads of one, as a digest."""

from __future__ import annotations

import hashlib
import marshal
from dataclasses import fields
from operator import attrgetter
from typing import Any, Dict, List

from .state import HostState, Link, Namespace

#: What thousands of links have in common is an object, which is written once.
_SETTINGS = ("conf4", "conf6")
_settings = attrgetter(*_SETTINGS)
_columns = [attrgetter(name) for name in Link.__slots__ if name not in _SETTINGS]
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
    """There are thousands of links, addresses and routes, and each is flat."""
    links, names = list(namespace.links.values()), namespace.names
    settings = {id(one): one for both in map(_settings, links) for one in both}
    table: Dict[Any, int] = {}
    number = {which: table.setdefault(one, len(table)) for which, one in settings.items()}
    quick: Dict[str, Any] = {
        "links": [
            list(namespace.links),
            [_column(list(map(column, links))) for column in _columns],
            list(table),
            [(number[id(four)], number[id(six)]) for four, six in map(_settings, links)],
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


def _column(values: List[Any]) -> Any:
    """An attribute of all links, which most often have it alike."""
    return (values[0],) if values and values.count(values[0]) == len(values) else values
