# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Files on the controller that the plugins read and write."""

from __future__ import annotations

import os
import stat
import tempfile

#: Bytes. A table of a thousand hosts with a hundred endpoints each has a tenth of it.
LARGEST = 64 << 20


def read(path: str, name: str) -> bytes:
    """The whole file, which messages call ``name``. Raises OSError, and ValueError with a message and a fix for what is no such file."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a FIFO would never open
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{name} is not a regular file; write the table to one")
        if found.st_size > LARGEST:
            raise ValueError(f"{name} is larger than {LARGEST >> 20} MiB; name the table itself")
        return file.read()


def is_absent(path: str) -> bool:
    """Whether there is no such file. One that cannot be looked at, such as in a directory of others, may be there."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def put(path: str, text: str, mode: int) -> None:
    """The whole file or the one of before, whatever happens meanwhile. Raises OSError."""
    descriptor, new = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
