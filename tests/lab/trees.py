# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""What the lab is made of: root file systems and kernels, each made once and kept in a cache.

A tree is a directory there. Its name ends in a hash of what goes into it, and it gets that name when it is complete:
a tree that has its name is good, and one whose inputs changed has another name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import preload
import recipes
from contain import LAB_FAILED, LabError, contained
from progress import say
from recipes import HERE

CHECKOUT = HERE.parents[1]
CACHE = Path(os.environ.get("UNDERLAY_LAB_CACHE") or CHECKOUT / ".cache/lab").absolute()


@dataclass(frozen=True)
class Tree:
    name: str
    make: Callable[[Path], None]
    inputs: tuple[Path, ...]

    @property
    def path(self) -> Path:
        digest = hashlib.sha256()
        for source in (Path(recipes.__file__), *self.inputs):
            digest.update(source.read_bytes())
        return CACHE / f"{self.name}-{digest.hexdigest()[:12]}"

    @property
    def half_made(self) -> Path:
        return CACHE / f"{self.name}.half-made"


def kernel(version: str) -> Tree:
    return Tree(f"kernel-{version}", lambda to: recipes.make_kernel(to, version), ())


def lab(root: str) -> Tree:
    inputs = (HERE / "packages/lab", HERE / "requirements.txt")
    return Tree(f"lab-{root}", lambda to: recipes.make_lab(to, root), inputs)


def host(root: str) -> Tree:
    inputs = (HERE / "packages/host", HERE / "packages/repository")
    return Tree(f"host-{root}", lambda to: recipes.make_host(to, root), inputs)


def libraries() -> Tree:
    """Those that every kernel is started with."""
    sources = sorted(preload.SOURCES.glob("*.c"))
    return Tree("libraries", preload.make, (Path(preload.__file__), *sources))


def build(wanted: list[Tree]) -> None:
    """Make those trees that are not there yet; two who want the same one make it once."""
    if all(tree.path.is_dir() for tree in wanted):
        return
    with locked(CACHE):
        missing = list({tree.name: tree for tree in wanted if not tree.path.is_dir()}.values())
        if not missing:
            return
        say(f"making {len(missing)} root file systems and kernels, once; it takes some minutes")
        status = contained(lambda: make_all(missing), network=True)
        if status:
            raise LabError(f"building failed ({status})")
        remove_outdated(missing)


def make_all(missing: list[Tree]) -> int:
    # The largest first: two at a time, they end at about the same time.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as workers:
        for done in [workers.submit(make, tree) for tree in missing]:
            done.result()
    return 0


def make(tree: Tree) -> None:
    shutil.rmtree(tree.half_made, ignore_errors=True)
    tree.half_made.mkdir(mode=0o755)
    tree.make(tree.half_made)
    tree.half_made.rename(tree.path)


def need_tools() -> None:
    """Everything that the lab calls on this machine; what is missing was named by the command itself."""
    if subprocess.run([CHECKOUT / "tests/need", "lab"], check=False).returncode:
        raise SystemExit(LAB_FAILED)


def remove_outdated(made: list[Tree]) -> None:
    for tree in made:
        for other in CACHE.glob(f"{tree.name}-*"):
            if other != tree.path and re.fullmatch(re.escape(tree.name) + "-[0-9a-f]{12}", other.name):
                remove_unless_in_use(other)


def remove_unless_in_use(tree: Path) -> bool:
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        # First the name, so that half of it never counts as a tree.
        doomed = tree.with_name(f"{tree.name}.doomed")
        tree.rename(doomed)
        shutil.rmtree(doomed)
        return True
    finally:
        os.close(descriptor)


def clean() -> None:
    if not CACHE.is_dir():
        return
    with locked(CACHE):
        in_use = [tree.name for tree in CACHE.iterdir() if tree.is_dir() and not remove_unless_in_use(tree)]
    if in_use:
        raise LabError(f"a run is using {', '.join(sorted(in_use))}: not removed")
    shutil.rmtree(CACHE)


def use(tree: Tree) -> int:
    """Keep others from removing the tree for as long as the descriptor is open."""
    descriptor = os.open(tree.path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(cache / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    except PermissionError as error:
        raise LabError(f"{error.filename} belongs to somebody else; UNDERLAY_LAB_CACHE names another place") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
