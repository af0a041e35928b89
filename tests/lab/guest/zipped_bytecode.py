# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Remembers what Python compiles from archives, as it does from directories.

Ansible sends each module with all that it imports as an archive of source, and every task compiles that anew: a quarter
of what it takes on a host of the lab. The hosts of a lab share the directory, over reboots too; what is in it is whole.
"""

# Each Python on a host starts with this, so it imports nothing that is not loaded by then.
import _imp
import marshal
import os
import sys
import zipimport

DIRECTORY = f"/var/cache/zipped-bytecode/{sys.implementation.cache_tag}"
compile_source = zipimport._compile_source


def remembered(name, source, *more):
    place = f"{DIRECTORY}/{_imp.source_hash(0, source).hex()}"
    try:
        with open(place, "rb") as file:
            code = marshal.loads(file.read())
    except OSError:
        code = compile_source(name, source, *more)
        keep(code, place)
    else:
        _imp._fix_co_filename(code, name)
    return code


def keep(code, place):
    try:
        os.makedirs(DIRECTORY, exist_ok=True)
        with open(f"{place}.{os.urandom(8).hex()}", "wb") as file:
            marshal.dump(code, file)
            file.flush()
            os.fsync(file)
        os.rename(file.name, place)
    except OSError:
        pass  # who is not root has it compiled each time


zipimport._compile_source = remembered
