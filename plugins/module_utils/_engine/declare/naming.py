# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of links: what the kernel calls one, and what else it goes by."""

from __future__ import annotations

import hashlib
from typing import List, Tuple

from ..core.formats import NAME_MAX


def link_names(wanted: str) -> Tuple[str, List[str]]:
    """The kernel's name and the alternative names of a link that should go by ``wanted``.

    A name over 15 characters becomes an alternative name, and the kernel's own is made of a digest of it
    and of its VLAN id.
    """
    if len(wanted) <= NAME_MAX:
        return wanted, []
    tail = wanted.rpartition(".")[2]
    end = "." + tail if tail.isdigit() and len(tail) <= 4 else ""
    return digest_name("u", wanted, end), [wanted]


def digest_name(head: str, text: str, tail: str = "") -> str:
    """A link name of full length that stands for a longer text, always the same."""
    return head + hashlib.sha256(text.encode()).hexdigest()[: NAME_MAX - len(head) - len(tail)] + tail
