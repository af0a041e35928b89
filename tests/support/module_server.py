# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts modules: for each line of JSON on standard input a process of its own, in the namespaces of its parent.

Runs under a host's Python, on the unpacked payloads in the directory that is its argument. What every module imports
is there already when a process begins; apart from that it goes as Ansible's own wrapper does it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import sys
from typing import Any, Dict, List, Tuple

PAYLOAD = sys.argv[1]
sys.path[0] = PAYLOAD

from ansible.module_utils._internal._ansiballz import _loader
from ansible_collections.netops.underlay.plugins.module_utils import _argspec, _host, _module
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe, summary
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge

PRELOADED = (_argspec, _host, _module, converge, describe, summary)
NAMESPACES = {"net": 0x40000000, "mnt": 0x20000}
LIBC = ctypes.CDLL(None, use_errno=True)
MADV_POPULATE_WRITE = 23


def enter(parent: int) -> None:
    for kind, flag in NAMESPACES.items():
        space = os.open(f"/proc/{parent}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        if LIBC.setns(space, flag) != 0:
            raise OSError(ctypes.get_errno(), f"setns: {kind}")
        os.close(space)


def written() -> List[Tuple[int, int]]:
    """Where this process writes: the beginning and the length of each part of its memory."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        rows = [line.split() for line in maps]
    ends = [[int(word, 16) for word in where.split("-")] for where, rights, *_ in rows if rights == "rw-p"]
    return [(start, end - start) for start, end in ends]


def copy_memory() -> None:
    """All at once what a child would copy page by page, which in User-Mode Linux takes several times as long."""
    for start, length in MEMORY:
        LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_POPULATE_WRITE)


def become(order: Dict[str, Any]) -> None:
    """The child: becomes the module, which ends with SystemExit."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, descriptor)
    enter(order["parent"])
    if order["user"]:
        os.setgroups([])
        os.setgid(order["user"])
        os.setuid(order["user"])
    _loader.run_module(
        json_params=json.dumps({"ANSIBLE_MODULE_ARGS": order["arguments"]}).encode(),
        profile="legacy",
        module_fqn=f"ansible_collections.netops.underlay.plugins.modules.{order['module']}",
        modlib_path=PAYLOAD,
        extensions={},
    )


gc.freeze()  # a child that collects garbage copies all the memory first
MEMORY = written()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            copy_memory()
            become(json.loads(line))
        except SystemExit as end:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
