# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of each module what Ansible sends to a host: ``python module_payloads.py COLLECTIONS DIRECTORY MODULE...``."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

collections, directory, *modules = sys.argv[1:]
init_plugin_loader([collections])

from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

for name in modules:
    built = modify_module(
        module_name=name,
        module_path=f"{collections}/ansible_collections/netops/underlay/plugins/modules/{name}.py",
        module_args={},
        templar=Templar(DataLoader()),
        task_vars={"ansible_python_interpreter": "/usr/bin/python3"},
        module_compression="ZIP_DEFLATED",
    )
    Path(directory, name).write_bytes(built.b_module_data)
