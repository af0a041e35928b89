# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``dhcp_client_id`` and ``dhcp_hostname``: what an endpoint tells a DHCP server of itself."""

from __future__ import annotations

import re
from typing import Any, Dict

from ..core import formats
from ..core.errors import InvalidValue
from . import fields

_CLIENT_ID = re.compile(formats.CLIENT_ID)
_HOSTNAME = re.compile(formats.DOMAIN)


def _client_id(value: Any) -> str:
    text = (
        value.lower() if isinstance(value, str) and re.fullmatch("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+", value) else value
    )
    if not isinstance(text, str) or not _CLIENT_ID.fullmatch(text):
        what = f"{str(value)[:60]!r} is not a client ID of DHCP"
        raise InvalidValue(what, "write it as 01:02:00:51:aa:bb:cc, or as a text of 253 characters at most, in quotes")
    return text


def _hostname(value: Any) -> str:
    if not isinstance(value, str) or not _HOSTNAME.fullmatch(value) or value.endswith("."):
        raise InvalidValue(f"{str(value)[:60]!r} is not a host name", "write it as web1 or web1.example.com")
    return value


#: The options of an endpoint that are for a DHCP server.
OPTIONS: Dict[str, fields.Parser] = {"dhcp_client_id": _client_id, "dhcp_hostname": _hostname}
