# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of others in a resolv.conf beside our block, which is the first thing in it.

Of several ``search`` lines the last one holds, of several ``options`` too, and of ``nameserver`` the first three
(resolv.conf(5)). So where our block has a keyword, the lines of others that have it too become comments, and what they
were again when the block goes.
"""

from __future__ import annotations

import re
from typing import Set

_HIDDEN = b"# netops.underlay: "
#: To a resolver nothing but a line feed ends a line.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def beside(lines: bytes, others: bytes) -> bytes:
    """The lines of others as they stand beside ours; as they were where there are none of ours."""
    rivals = _keywords(lines)
    return b"".join(_HIDDEN + line if _keyword(line) in rivals else line for line in _LINE.findall(_shown(others)))


def rivals(lines: bytes, others: bytes) -> bytes:
    """The lines of others that a resolver would follow beside ours, or in their place."""
    keywords = _keywords(lines)
    return b"".join(line for line in _LINE.findall(others) if _keyword(line) in keywords)


def _shown(others: bytes) -> bytes:
    return b"".join(line[len(_HIDDEN) :] if line.startswith(_HIDDEN) else line for line in _LINE.findall(others))


def _keywords(lines: bytes) -> Set[bytes]:
    found = {_keyword(line) for line in _LINE.findall(lines)}
    return found | {b"domain"} if b"search" in found else found


def _keyword(line: bytes) -> bytes:
    return next(iter(line.split()), b"")
