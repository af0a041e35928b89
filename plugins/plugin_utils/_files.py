# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Files that the action plugins write on the controller."""

from __future__ import annotations

import os
import tempfile


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
