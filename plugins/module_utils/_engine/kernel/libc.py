# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions of the C library that Python has not, by ctypes, which loads in 2 ms."""

from __future__ import annotations

import ctypes
import functools
import os
from typing import Any


@functools.cache
def library() -> Any:
    """The C library of this process, with ``errno`` kept for :func:`ctypes.get_errno`."""
    libc = ctypes.CDLL(None, use_errno=True)
    text, number = ctypes.c_char_p, ctypes.c_ulong
    libc.mount.argtypes = (text, text, text, number, text)
    return libc


def call(name: str, *arguments: object) -> None:
    """A function that answers 0. Raises OSError."""
    if getattr(library(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
