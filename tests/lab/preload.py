# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""The libraries that a User-Mode Linux is started with: see ptrace/xstate.c. A compiler is unpacked for them, used, and removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import recipes
from progress import step

SOURCES = recipes.HERE / "ptrace"
COMPILE = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fPIC", "-shared", "-nostdlib"]


def make(to: Path) -> None:
    """NAME.so of each NAME.c."""
    compiler = to / "compiler"
    with step("libraries for User-Mode Linux"):
        recipes.debootstrap(recipes.SUITES[recipes.KERNEL_RUNS_ON], compiler, "extract", ["gcc"])
        for name in ("bin", "lib", "lib64"):  # unpacked, not installed: what makes a program's loader found is missing
            if not (compiler / name).exists():
                (compiler / name).symlink_to(f"usr/{name}")
        for source in sorted(SOURCES.glob("*.c")):
            shutil.copy(source, compiler)
            recipes.run(
                ["chroot", os.fspath(compiler), *COMPILE, "-o", f"/{source.stem}.so", f"/{source.name}"],
                {"PATH": "/usr/sbin:/usr/bin"},
            )
            (compiler / f"{source.stem}.so").rename(to / f"{source.stem}.so")
        shutil.rmtree(compiler)
