# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``vlan_info`` returned for a host, from its result or from the file that the result names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError


def whole(host: str, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """One at a time: those of all hosts at once may be gigabytes."""
    if not info.get("dest"):
        return info
    try:
        with open(info["dest"], encoding="utf-8") as file:
            return {**info, **json.load(file)}
    except (OSError, ValueError) as error:
        raise AnsibleFilterError(
            f"report: the answer of {host} cannot be read: {error}; run netops.underlay.vlan_info again"
        ) from None
