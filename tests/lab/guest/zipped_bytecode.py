# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Remembers what Python compiles from archives, as it does from directories.

Ansible sends each module with all that it imports as an archive of source, and every task compiles that anew: a quarter
of what it takes on a host of the lab. In /run, which no power cut leaves half-written.
"""

import _imp
import contextlib
import marshal
import os
import zipimport

DIRECTORY = "/run/zipped-bytecode"
compile_source = zipimport._compile_source


def remembered(name, source, *more):
    place = f"{DIRECTORY}/{_imp.source_hash(0, source).hex()}"
    with contextlib.suppress(OSError), open(place, "rb") as file:
        code = marshal.loads(file.read())
        _imp._fix_co_filename(code, name)
        return code
    code = compile_source(name, source, *more)
    with contextlib.suppress(OSError):  # who is not root has it compiled each time
        os.makedirs(DIRECTORY, exist_ok=True)
        with open(f"{place}.{os.getpid()}", "wb") as file:
            marshal.dump(code, file)
        os.rename(file.name, place)
    return code


zipimport._compile_source = remembered
