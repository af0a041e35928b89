# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""How each tree of the lab is made from Debian's packages. What is here and in packages/ decides a tree's name."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from contain import LabError
from progress import step

HERE = Path(__file__).resolve().parent

SUITES = {"debian13": "trixie", "debian12": "bookworm"}
KERNELS = {"7.2": "sid", "6.12": "trixie"}  # the suite whose user-mode-linux has this version
FASTEST = "7.2"  # of the kernels
KERNEL_RUNS_ON = "debian13"  # both kernels are programs that want a C library as new as this root's

SMALL = (
    "--aptopt=APT::Install-Recommends false",
    "--aptopt=Acquire::Languages none",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)
# Podman of Debian 12 would look for another network backend, and systemd is not there to be asked for cgroups.
CONTAINERS = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""
PYROUTE2 = ("0.7", "0.9")  # the series that the collection must get along with, side by side in /opt


def make_kernel(to: Path, version: str) -> None:
    # The archive's date may be long past where it is a snapshot; who signed it is checked all the same.
    with step(f"kernel {version}"):
        stale = "--aptopt=Acquire::Check-Valid-Until false"
        debootstrap(KERNELS[version], to / "package", "extract", ["user-mode-linux"], stale)
    (to / "package/usr/bin/linux.uml").rename(to / "linux")
    (to / "package/usr/lib/uml/modules").rename(to / "modules")
    shutil.rmtree(to / "package")


def make_lab(to: Path, root: str) -> None:
    with step(f"lab-{root}: Debian's packages"):
        debootstrap(SUITES[root], to, "minbase", packages("lab", root))
    with step(f"lab-{root}: Ansible and the test tools"):
        install_controller(to)
    (to / "etc/gitconfig").write_text("[safe]\n\tdirectory = *\n")  # the checkout may belong to somebody else
    (to / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/opt/repo ./\n")
    (to / "opt/repo").symlink_to(f"hosts/{root}/opt/repo")
    (to / "opt/images").mkdir()
    (to / "etc/containers/containers.conf").write_text(CONTAINERS)
    make_image(to / "opt/images/busybox.tar", to / "usr/bin/busybox")
    for mount_point in ("lab", "opt/collections/ansible_collections/netops/underlay", "usr/lib/modules"):
        (to / mount_point).mkdir(parents=True, exist_ok=True)
    for name in SUITES:
        (to / "opt/hosts" / name).mkdir(parents=True)


def make_host(to: Path, root: str) -> None:
    # apt downloads as it would install, so what is in the archive is what a host really lacks.
    wanted = " ".join(packages("repository"))
    archive = 'mkdir "$1/opt/repo" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq --yes --reinstall'
    archive += f' --download-only -o Dir::Cache::Archives="$1/opt/repo" install {wanted}'
    with step(f"host-{root}: Debian's packages, and those it can install"):
        debootstrap(SUITES[root], to, "minbase", packages("host"), f"--customize-hook={archive}")
    make_repository(to / "opt/repo")
    (to / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/opt/repo ./\n")
    for stamp in ("etc/.updated", "var/.updated"):
        (to / stamp).touch()  # or systemd rebuilds its caches at every host's first boot
    for timer in (to / "etc/systemd/system/timers.target.wants").glob("apt-daily*"):
        timer.unlink()  # a test is not to wait for the lock of an upgrade that no test asked for
    for mount_point in ("lab", "usr/lib/modules"):
        (to / mount_point).mkdir(exist_ok=True)


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
    wheels.mkdir()
    shutil.copy(HERE / "requirements.txt", wheels)
    pip = next((to / "usr/share/python-wheels").glob("pip-*.whl")).relative_to(to) / "pip"
    quiet = {"PIP_QUIET": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}

    pip_outside = [*outside_python(to), os.fspath(to / pip)]
    download = [*pip_outside, "download", "--only-binary=:all:", "--dest", os.fspath(wheels)]
    environment = {**os.environ, **quiet, "PYTHONHOME": os.fspath(to / "usr")}
    run([*download, "--requirement", os.fspath(HERE / "requirements.txt")], environment)
    for series in PYROUTE2:
        run([*download, "--no-deps", f"pyroute2 =={series}.*"], environment)

    inside = ["chroot", os.fspath(to)]
    environment = {**quiet, "PATH": "/usr/sbin:/usr/bin"}
    run([*inside, "python3", "-m", "venv", "--without-pip", "/opt/venv"], environment)
    install = [*inside, "/opt/venv/bin/python", f"/{pip}", "install", "--no-index", "--find-links=/wheels"]
    run([*install, "--requirement=/wheels/requirements.txt"], environment)
    for series in PYROUTE2:
        run([*install, "--no-deps", f"--target=/opt/pyroute2-{series}", f"pyroute2 =={series}.*"], environment)
    shutil.rmtree(wheels)


def outside_python(to: Path) -> list[str]:
    """The tree's Python as a program of this machine: started by the tree's own loader, with its own libraries."""
    libraries = next((to / "usr/lib").glob("*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*"))  # the one in lib64 may be an absolute link, to this machine's
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
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise LabError(f"{os.path.basename(command[0])} ended with {done.returncode}:\n{last}")
    return done.stdout
