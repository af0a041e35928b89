# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where this checkout lies, and the directory that holds it under its collection's name."""

from __future__ import annotations

from pathlib import Path

NAMESPACE = ("ansible_collections", "netops", "underlay")


def collections_path(checkout: Path) -> Path:
    """A directory that holds the checkout under its collection's name; in the lab it lies there already."""
    if checkout.parts[-3:] == NAMESPACE:
        return checkout.parents[2]
    path = checkout / ".cache" / "collections"
    link = path.joinpath(*NAMESPACE)
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(checkout, target_is_directory=True)
    return path


#: The repository's root.
CHECKOUT = Path(__file__).absolute().parents[2]
