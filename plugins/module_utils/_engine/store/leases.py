# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of endpoints that ask a DHCP server for their IPv4 address: what the client of ``dhcp`` was given, a file for each.

They are state of the client, which alone writes them. What is wanted stands in the registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from typing import Dict, Mapping, Optional, cast

from ..core import validate
from ..core.errors import RegistryError
from ..core.lease_specs import Lease
from . import statedir

DIRECTORY = "leases"
#: Larger than any that is written: options 119 and 121 are bounded.
_LARGEST = 1 << 18


def path(state_dir: str, endpoint: str) -> str:
    """The file of an endpoint, ``NETWORK/NAME``: no option becomes part of its name, and two names are longer than one may be."""
    return os.path.join(state_dir, DIRECTORY, hashlib.sha256(endpoint.encode()).hexdigest()[:32] + ".json")


def load(state_dir: str) -> Dict[str, Lease]:
    """The leases by endpoint, expired ones among them. A file that cannot be used is as none: a server will give another."""
    found: Dict[str, Lease] = {}
    directory = os.path.join(state_dir, DIRECTORY)
    with contextlib.suppress(RegistryError, OSError):
        statedir.check(directory, stat.S_ISDIR, "directory")
        for name in sorted(os.listdir(directory)):
            lease = _read(os.path.join(directory, name)) if name.endswith(".json") else None
            if lease is not None and path(state_dir, lease["endpoint"]) == os.path.join(directory, name):
                found[lease["endpoint"]] = lease
    return found


def current(state_dir: str) -> Dict[str, Lease]:
    """The leases that have not expired, by endpoint."""
    now = time.time()
    return {endpoint: lease for endpoint, lease in load(state_dir).items() if is_valid(lease, now)}


def load_one(state_dir: str, endpoint: str) -> Optional[Lease]:
    """The lease of an endpoint, ``NETWORK/NAME``; None where there is no file that can be used."""
    lease = _read(path(state_dir, endpoint))
    return lease if lease is not None and lease["endpoint"] == endpoint else None


def save(state_dir: str, lease: Lease) -> None:
    """Write the file of a lease, whole or not at all. Raises RegistryError."""
    statedir.make(os.path.join(state_dir, DIRECTORY))
    with statedir.replace(path(state_dir, lease["endpoint"])) as file:
        json.dump(lease, file)
        file.flush()
        os.fsync(file.fileno())  # after a power cut the server is asked for this address again


def remove(state_dir: str, endpoint: str) -> None:
    """Forget a lease, where there is one. Raises RegistryError."""
    where = path(state_dir, endpoint)
    with statedir.explained(where), contextlib.suppress(FileNotFoundError):
        os.unlink(where)


def is_valid(lease: Mapping[str, object], now: float) -> bool:
    """Whether a lease has not expired at ``now``, in seconds since the epoch."""
    return now < cast(int, lease["expires"])


def check(value: object) -> Lease:
    """A lease as JSON has it. Raises validate.Mismatch."""
    validate.checker(Lease)(value)
    return cast(Lease, value)


def _read(where: str) -> Optional[Lease]:
    with (
        contextlib.suppress(RegistryError, OSError, ValueError, RecursionError),  # Mismatch is a ValueError
        open(statedir.open_file(where, os.O_RDONLY), encoding="utf-8") as file,
    ):
        return check(json.loads(file.read(_LARGEST)))
    return None
