# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Which hosts a row is for."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Collection, Mapping


def group_name(prefix: str, text: object) -> str:
    """A group of the inventory, in the letters that Ansible allows."""
    return f"{prefix}_" + re.sub(r"[^A-Za-z0-9_]", "_", str(text))


def is_for(row: Mapping[str, Any], host: str, groups: Collection[str]) -> bool:
    """Whether a row (as :meth:`Network.data` has it) is for a host of these groups."""
    if row.get("site") and group_name("site", row["site"]) not in groups:
        return False
    if row.get("group") and row["group"] not in groups:
        return False
    patterns = row.get("hosts") or ()
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    return not any(fnmatchcase(host, pattern[1:]) for pattern in patterns if pattern.startswith("!")) and (
        not wanted or any(fnmatchcase(host, pattern) for pattern in wanted)
    )
