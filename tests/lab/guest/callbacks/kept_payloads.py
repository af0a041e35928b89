# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Keeps what Ansible builds of each module for the next playbook of this run of the lab.

Every ansible-playbook builds the archive of a module and of all that it imports anew, which takes a second of processor
time for each of ours. Its own cache of them ends with it; here it is a link to a directory that stays.
"""

from __future__ import annotations

import hashlib
import os
import tempfile

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

DOCUMENTATION = """
name: kept_payloads
type: aggregate
short_description: modules are built once for all playbooks
description: For the tests of netops.underlay.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_payloads"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        made_of = hashlib.sha256(repr((__version__, constants.COLLECTIONS_PATHS)).encode())
        kept = os.path.join(tempfile.gettempdir(), f"payloads-{os.getuid()}-{made_of.hexdigest()[:8]}")
        os.makedirs(kept, mode=0o700, exist_ok=True)
        os.symlink(kept, os.path.join(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"))
