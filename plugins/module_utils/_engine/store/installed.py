# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine installed on a host, for the boot, for repair and for people: its paths."""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from ..core.errors import RegistryError
from .registry import SCHEMA

#: A directory for each version, and the link ``current`` to the one in use.
ROOT = "/usr/local/lib/netops-underlay"
CURRENT = os.path.join(ROOT, "current")
COMMAND = "/usr/local/sbin/underlay"
#: In a version's directory: the schema of the registry that it knows.
SCHEMA_FILE = "schema"


def schema() -> Optional[int]:
    """The schema that the installed engine knows; None where none is installed."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(CURRENT, SCHEMA_FILE), encoding="ascii") as file:
        return int(file.read())
    return None


def check() -> None:
    """Raises RegistryError where the installed engine could not read what this one writes."""
    there = schema()
    if there is not None and there < SCHEMA:
        raise RegistryError(
            f"the engine installed on this host knows schema {there} of the registry, and this one writes {SCHEMA}, so that the next "
            "boot would restore nothing: run the role netops.underlay.prepare first, which installs this version"
        )
