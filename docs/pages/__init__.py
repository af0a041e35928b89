# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages that docs/generate writes from the code."""

from __future__ import annotations

# REUSE-IgnoreStart
#: The head of every generated page.
HEAD = (
    "..",
    "  Copyright: netops.underlay contributors",
    "  SPDX-License-Identifier: GPL-3.0-or-later",
    "  Written by docs/generate.",
    "",
)
# REUSE-IgnoreEnd
