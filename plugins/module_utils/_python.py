# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Stops a module in words on a Python that is too old, before it imports what that Python cannot read."""

from __future__ import annotations

import json
import sys

LEAST = (3, 9)

if sys.version_info < LEAST:
    running = ".".join(map(str, sys.version_info[:2]))
    message = f"this host runs Python {running}, and the collection needs 3.9 or newer: set ansible_python_interpreter"
    # There is no module yet that could say it.
    print(json.dumps({"failed": True, "msg": message}))  # pylint: disable=ansible-bad-function
    sys.exit(1)  # pylint: disable=ansible-bad-function
