# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""What the lab is made of: root file systems and kernels, made from Debian's packages, each once.

A tree is a directory in the cache. Its name ends in a hash of what goes into it, and it gets that name when it is
complete: a tree that has its name is good, and one whose inputs changed has another name.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contain import LabError, contained

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
CACHE = Path(os.environ.get("UNDERLAY_LAB_CACHE") or CHECKOUT / ".cache/lab").absolute()

SUITES = {"debian13": "trixie", "debian12": "bookworm"}
KERNELS = {"7.2": "sid", "6.12": "trixie"}  # the suite whose user-mode-linux has this version
KERNEL_RUNS_ON = "debian13"  # both kernels are programs that want a C library as new as this root's

TOOLS = {"mmdebstrap": "mmdebstrap", "dpkg-deb": "dpkg", "depmod": "kmod"}  # what building calls, and its package
SMALL = (
    "--aptopt=APT::Install-Recommends false",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
PYROUTE2 = ("0.7", "0.9")  # the series that the collection must get along with, side by side in /opt


@dataclass(frozen=True)
class Tree:
    name: str
    make: Callable[[Path], None]
    inputs: tuple[Path, ...]

    @property
    def path(self) -> Path:
        digest = hashlib.sha256()
        for source in (Path(__file__), *self.inputs):
            digest.update(source.read_bytes())
        return CACHE / f"{self.name}-{digest.hexdigest()[:12]}"

    @property
    def half_made(self) -> Path:
        return CACHE / f"{self.name}.half-made"


def kernel(version: str) -> Tree:
    return Tree(f"kernel-{version}", lambda to: make_kernel(to, KERNELS[version]), ())


def lab(root: str) -> Tree:
    inputs = (HERE / "packages/lab", HERE / "requirements.txt")
    return Tree(f"lab-{root}", lambda to: make_lab(to, SUITES[root], root), inputs)


def host(root: str) -> Tree:
    inputs = (HERE / "packages/host", HERE / "packages/repository")
    return Tree(f"host-{root}", lambda to: make_host(to, SUITES[root]), inputs)


# --- how each is made ---


def make_kernel(to: Path, suite: str) -> None:
    # The archive's date may be long past where it is a snapshot; who signed it is checked all the same.
    debootstrap(suite, to / "package", "extract", ["user-mode-linux"], "--aptopt=Acquire::Check-Valid-Until false")
    (to / "package/usr/bin/linux.uml").rename(to / "linux")
    (to / "package/usr/lib/uml/modules").rename(to / "modules")
    shutil.rmtree(to / "package")


def make_lab(to: Path, suite: str, root: str) -> None:
    debootstrap(suite, to, "minbase", packages("lab", root))
    install_controller(to)
    (to / "etc/gitconfig").write_text("[safe]\n\tdirectory = *\n")  # the checkout may belong to somebody else
    (to / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/opt/repo ./\n")
    (to / "opt/repo").symlink_to(f"hosts/{root}/opt/repo")
    (to / "opt/images").mkdir()
    make_image(to / "opt/images/busybox.tar", to / "usr/bin/busybox")
    for mount_point in ("lab", "opt/collections/ansible_collections/netops/underlay", "usr/lib/modules"):
        (to / mount_point).mkdir(parents=True, exist_ok=True)
    for name in SUITES:
        (to / "opt/hosts" / name).mkdir(parents=True)


def make_host(to: Path, suite: str) -> None:
    # apt downloads as it would install, so what is in the archive is what a host really lacks.
    wanted = " ".join(packages("repository"))
    archive = 'mkdir "$1/opt/repo" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq --yes --reinstall'
    archive += f' --download-only -o Dir::Cache::Archives="$1/opt/repo" install {wanted}'
    debootstrap(suite, to, "minbase", packages("host"), f"--customize-hook={archive}")
    make_repository(to / "opt/repo")
    (to / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/opt/repo ./\n")


def debootstrap(suite: str, to: Path, variant: str, wanted: list[str], *options: str) -> None:
    mirror = machines_mirror()
    source = [f"deb {mirror} {suite} main"] if mirror else []
    include = "--include=" + ",".join(wanted)
    run(["mmdebstrap", "--quiet", f"--variant={variant}", include, *SMALL, *options, suite, os.fspath(to), *source])


def machines_mirror() -> str | None:
    """Where this machine itself gets Debian from; None leaves the choice to mmdebstrap."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return next((uri for uri in found.split() if "security" not in uri), None)


def install_controller(to: Path) -> None:
    """Ansible and the test tools into /opt/venv, as this machine's pip is configured to reach its index.

    The tree's own Python asks for them, so that they fit it, but outside a chroot, so that it sees the configuration.
    They are installed inside, without a network.
    """
    wheels = to / "wheels"
    series = [f"pyroute2 =={number}.*" for number in PYROUTE2]
    pip_outside = [*outside_python(to), next((to / "usr/share/python-wheels").glob("pip-*.whl")).as_posix() + "/pip"]
    download = [*pip_outside, "download", "--quiet", "--only-binary=:all:", "--dest", os.fspath(wheels)]
    environment = {**os.environ, "PYTHONHOME": os.fspath(to / "usr"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run([*download, "--requirement", os.fspath(HERE / "requirements.txt")], environment)
    for wanted in series:
        run([*download, "--no-deps", wanted], environment)

    shutil.copy(HERE / "requirements.txt", wheels)
    inside = ["chroot", os.fspath(to), "env", "-i", "PATH=/usr/bin:/usr/sbin", "PIP_ROOT_USER_ACTION=ignore"]
    run([*inside, "python3", "-m", "venv", "/opt/venv"])
    install = [*inside, "/opt/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels"]
    run([*install, "--requirement=/wheels/requirements.txt"])
    for number, wanted in zip(PYROUTE2, series):
        run([*install, "--no-deps", f"--target=/opt/pyroute2-{number}", wanted])
    shutil.rmtree(wheels)


def outside_python(to: Path) -> list[str]:
    """The tree's Python as a program of this machine: started by the tree's own loader, with its own libraries."""
    loader = next((to / "usr/lib64").glob("ld-linux-*"))
    libraries = next((to / "usr/lib").glob("*-linux-gnu"))
    python = (to / "usr/bin/python3").resolve()
    return [os.fspath(loader), "--library-path", os.fspath(libraries), os.fspath(python), "-s"]


def make_repository(directory: Path) -> None:
    """The index that apt wants of a flat directory of packages."""
    for left_by_apt in ("lock", "partial"):
        shutil.rmtree(directory / left_by_apt, ignore_errors=True)
        (directory / left_by_apt).unlink(missing_ok=True)
    paragraphs = []
    for package in sorted(directory.glob("*.deb")):
        package.chmod(0o644)
        fields = run(["dpkg-deb", "--field", os.fspath(package)]).strip()
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        paragraphs.append(f"{fields}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n")
    (directory / "Packages").write_text("\n".join(paragraphs))


def make_image(archive: Path, busybox: Path) -> None:
    """A container image that is nothing but busybox, for `podman import` and `docker import`."""
    with tarfile.open(archive, "w") as tar:
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in run([os.fspath(busybox), "--list"]).split():
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        content = b"root:x:0:0:root:/:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def packages(name: str, root: str = "") -> list[str]:
    """The names in a list; a line that ends in a root's name in a comment is for that root only."""
    found = []
    for line in (HERE / "packages" / name).read_text().splitlines():
        package, _, remark = line.partition("#")
        if package.strip() and remark.strip() in ("", root):
            found.append(package.strip())
    return found


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise LabError(f"{os.path.basename(command[0])} ended with {done.returncode}:\n{last}")
    return done.stdout


# --- the cache ---


def build(wanted: list[Tree]) -> None:
    """Make those trees that are not there yet; two who want the same one make it once."""
    if all(tree.path.is_dir() for tree in wanted):
        return
    with locked(CACHE):
        missing = [tree for tree in dict.fromkeys(wanted) if not tree.path.is_dir()]
        if not missing:
            return
        install_tools()
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
    started = time.monotonic()
    shutil.rmtree(tree.half_made, ignore_errors=True)
    tree.half_made.mkdir(mode=0o755)
    tree.make(tree.half_made)
    tree.half_made.rename(tree.path)
    say(f"{tree.name} made in {time.monotonic() - started:.0f} s")


def install_tools() -> None:
    missing = {package for tool, package in TOOLS.items() if not shutil.which(tool)}
    if not missing:
        return
    names = " ".join(sorted(missing))
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(f"this machine lacks {names}: install them with its package manager")
    say(f"installing {names}")
    run(["apt-get", "-qq", "update"])
    run(["apt-get", "-qq", "--yes", "--no-install-recommends", "install", *sorted(missing)])


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
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


_speaking = threading.Lock()


def say(line: str) -> None:
    with _speaking:
        print(f"lab: {line}", file=sys.stderr, flush=True)
