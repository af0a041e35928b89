# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts for a terminal. Names of links, processes and namespaces may hold escape sequences, and others choose them."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything that a terminal would obey written out: ``\\x1b`` for an escape. Lines stay lines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """The same with line ends written out too."""
    return printable(text).replace("\n", "\\n")
