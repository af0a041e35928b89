# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the collection that this engine is of, as galaxy.yml has it."""

from __future__ import annotations

VERSION = "1.0.0"
