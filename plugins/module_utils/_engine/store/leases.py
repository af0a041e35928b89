# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The leases of endpoints that ask a DHCP server for an address: what the client of ``dhcp`` was given, a file for each.

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
from ..core.formats import version_of
from ..core.lease_specs import Lease, lease_key
from . import statedir

DIRECTORY = "leases"
#: Larger than any that is written: options 119 and 121 are bounded.
_LARGEST = 1 << 18


def path(state_dir: str, key: str) -> str:
    """The file of a lease, by its ``lease_key``: no option becomes part of its name, and two names are longer than one may be."""
    return os.path.join(state_dir, DIRECTORY, hashlib.sha256(key.encode()).hexdigest()[:32] + ".json")


def key_of(lease: Lease) -> str:
    """The ``lease_key`` of a lease."""
    return lease_key(lease["endpoint"], version_of(lease["address"]))


def load(state_dir: str) -> Dict[str, Lease]:
    """The leases by ``lease_key``, expired ones among them. A file that cannot be used is as none: a server will give another."""
    found: Dict[str, Lease] = {}
    directory = os.path.join(state_dir, DIRECTORY)
    with contextlib.suppress(RegistryError, OSError):
        statedir.check(directory, stat.S_ISDIR, "directory")
        for name in sorted(os.listdir(directory)):
            lease = _read(os.path.join(directory, name)) if name.endswith(".json") else None
            if lease is not None and path(state_dir, key_of(lease)) == os.path.join(directory, name):
                found[key_of(lease)] = lease
    return found


def current(state_dir: str) -> Dict[str, Lease]:
    """The leases that have not expired, by ``lease_key``."""
    now = time.time()
    return {key: lease for key, lease in load(state_dir).items() if is_valid(lease, now)}


def load_one(state_dir: str, key: str) -> Optional[Lease]:
    """A lease by its ``lease_key``; None where there is no file that can be used."""
    lease = _read(path(state_dir, key))
    return lease if lease is not None and key_of(lease) == key else None


def save(state_dir: str, lease: Lease) -> None:
    """Write the file of a lease, whole or not at all. Raises RegistryError."""
    statedir.make(os.path.join(state_dir, DIRECTORY))
    with statedir.replace(path(state_dir, key_of(lease))) as file:
        json.dump(lease, file)
        file.flush()
        os.fsync(file.fileno())  # after a power cut the server is asked for this address again


def remove(state_dir: str, key: str) -> None:
    """Forget a lease, where there is one, by its ``lease_key``. Raises RegistryError."""
    where = path(state_dir, key)
    with statedir.explained(where), contextlib.suppress(FileNotFoundError):
        os.unlink(where)


def is_valid(lease: Mapping[str, object], now: float) -> bool:
    """Whether a lease has not expired at ``now``, in seconds since the epoch."""
    return now < cast(int, lease["expires"])


def check(value: object) -> Lease:
    """A lease as JSON has it. Raises validate.Mismatch."""
    validate.checker(Lease)(value)
    lease = cast(Lease, value)
    if len({version_of(ip) for ip in (lease["address"], lease["server"], *lease["dns"])}) > 1:
        raise validate.Mismatch("addresses of two IP versions")
    return lease


def _read(where: str) -> Optional[Lease]:
    with (
        contextlib.suppress(RegistryError, OSError, ValueError, RecursionError),  # Mismatch is a ValueError
        open(statedir.open_file(where, os.O_RDONLY), encoding="utf-8") as file,
    ):
        return check(json.loads(file.read(_LARGEST)))
    return None
