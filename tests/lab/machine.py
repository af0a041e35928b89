# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""One throw-away machine: User-Mode Linux, or this machine's own kernel, on a tree; it runs one command."""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import subprocess
from pathlib import Path

import limits
import trees
from contain import LabError, bind, contained, mount
from recipes import HERE, KERNEL_RUNS_ON

COLLECTIONS = "/opt/collections"
DIRECTORY = f"{COLLECTIONS}/ansible_collections/netops/underlay"
ENVIRONMENT = {
    "PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "ANSIBLE_COLLECTIONS_PATH": COLLECTIONS,
    "ANSIBLE_CALLBACK_PLUGINS": "/lab/callbacks",
    "ANSIBLE_CALLBACKS_ENABLED": "kept_payloads",
}
PASSED_ON = ("UNDERLAY_SUITE", "UNDERLAY_SOAK")  # what tests/suites and make soak say to the tests
DEVICES = ("null", "zero", "full", "random", "urandom", "net/tun", "fuse")

# What `ip link add` of each kind needs, beside what every kernel has.
LINKS = {
    "8021q": "link d0 name v0 type vlan id 5",
    "macvlan": "link d0 name m0 type macvlan",
    "macvtap": "link d0 name t0 type macvtap",
    "ipvlan": "link d1 name i0 type ipvlan",
    "dummy": "name d2 type dummy",
    "veth": "name e0 type veth peer name e1",
    "bonding": "name b0 type bond",
    "bridge": "name r0 type bridge vlan_filtering 1",
    "vrf": "name f0 type vrf table 9",
}


def missing_drivers() -> list[str]:
    """Those that this machine's own kernel has not, found by using them in a namespace of their own."""

    def probe(report: int) -> int:
        # Something to stand on, also where there is no dummy driver.
        for name in ("d0", "d1"):
            subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=False, stderr=subprocess.DEVNULL)
        lacking = [
            driver
            for driver, words in LINKS.items()
            if subprocess.run(["ip", "link", "add", *words.split()], check=False, stderr=subprocess.DEVNULL).returncode
        ]
        os.write(report, " ".join(lacking).encode())
        return 0

    reader, writer = os.pipe()
    status = contained(lambda: probe(writer), network=False)
    os.close(writer)
    with open(reader) as report:
        lacking = report.read().split()
    return lacking if status == 0 else list(LINKS)


def trees_for(wish: argparse.Namespace) -> list[trees.Tree]:
    wanted = [trees.lab(wish.root), *(trees.host(name) for name in wish.host)]
    if wish.kernel != "host":
        wanted.append(trees.lab(KERNEL_RUNS_ON))
    if wish.uml:
        wanted += [trees.kernel(wish.uml), trees.libraries()]
    return list(dict.fromkeys(wanted))


def run(wish: argparse.Namespace) -> int:
    """Put the machine together, boot it, and hand out what comes from it. Runs contained."""
    # Everything is put together on a tmpfs that only these namespaces see, so there is nothing to remove afterwards.
    stage = trees.CACHE / "stage"
    stage.mkdir(exist_ok=True)
    mount("tmpfs", os.fspath(stage), "tmpfs", options="mode=755,size=100%")
    put_together(stage, wish)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if wish.kernel == "host":
        os.chroot(stage)
        os.chdir("/")
        os.execve("/guest/lab/boot", ["boot"], {"PATH": "/usr/sbin:/usr/bin", "LAB_KERNEL": "host"})
    return boot(stage, wish)


def put_together(stage: Path, wish: argparse.Namespace) -> None:
    runs_on = wish.root if wish.kernel == "host" else KERNEL_RUNS_ON
    for name in ("usr", "proc", "dev/shm", "mnt", "tmp", "guest/run"):
        (stage / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (stage / name).symlink_to(f"usr/{name}")
    bind(trees.lab(runs_on).path / "usr", stage / "usr", read_only=True)
    mount("proc", os.fspath(stage / "proc"), "proc")
    # A guest's memory is a file here: on a tmpfs, or it would be slow.
    mount("tmpfs", os.fspath(stage / "dev/shm"), "tmpfs", options="size=100%")
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            (stage / "dev" / name).parent.mkdir(exist_ok=True)
            (stage / "dev" / name).touch()
            bind(f"/dev/{name}", stage / "dev" / name)

    def show(source: Path, name: str, read_only: bool = True) -> Path:
        target = stage / "guest" / name
        target.mkdir(parents=True)
        bind(source, target, read_only)
        return target

    show(trees.lab(wish.root).path, "root")
    checkout = show(trees.CHECKOUT, "checkout", read_only=False)
    if trees.CACHE.is_relative_to(trees.CHECKOUT):
        # Tools that walk through the checkout are not to walk through whole root file systems.
        hidden = checkout / trees.CACHE.relative_to(trees.CHECKOUT)
        mount("tmpfs", os.fspath(hidden), "tmpfs", options="ro,size=4k,mode=755")
    for name in wish.host:
        show(trees.host(name).path, f"hosts/{name}")
    show(HERE / "guest", "lab")
    if wish.uml:
        show(trees.kernel(wish.uml).path, "kernel")
        show(trees.libraries().path, "libraries")
    order = {
        "kernel": wish.kernel,
        "forget_files": wish.files // 4 if wish.files < limits.ENOUGH else 0,
        "command": wish.command,
        "directory": DIRECTORY,
        "environment": {
            **ENVIRONMENT,
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **dict(word.partition("=")[::2] for word in wish.env),
        },
    }
    (stage / "guest/run/order.json").write_text(json.dumps(order))


def boot(stage: Path, wish: argparse.Namespace) -> int:
    outputs = {os.pipe(): 1, os.pipe(): 2}
    (_, stdout), (_, stderr) = outputs
    console = stage / "guest/run/console"
    command = [
        "/guest/kernel/linux",
        f"mem={wish.mem}",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
        "init=/guest/lab/boot",
        "uml_dir=/tmp/",
        "con=null",
        "con0=null,fd:1",
        f"con1=null,fd:{stdout}",
        f"con2=null,fd:{stderr}",
        "seccomp=on",
        "pty.legacy_count=0",  # five hundred devices that nothing needs, each of which udev looks at in every host
        "quiet" if not wish.console else "loglevel=7",
        *(["slab_nomerge"] if wish.files < limits.ENOUGH else []),  # so that init can tell what hostfs holds
        f"LAB_KERNEL={wish.kernel}",
        *wish.kernel_arg,
    ]
    preloaded = " ".join(f"/guest/libraries/{name}.so" for name in wish.preload.split(","))
    with open(console, "wb") as log:
        kernel = subprocess.Popen(
            ["chroot", os.fspath(stage), *command],
            stdin=subprocess.DEVNULL,
            stdout=2 if wish.console else log,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin", "TMPDIR": "/dev/shm", "LD_PRELOAD": preloaded},
            pass_fds=(stdout, stderr),
            start_new_session=True,
        )
    os.close(stdout)
    os.close(stderr)
    copy({reader: target for (reader, _), target in outputs.items()})
    kernel.wait()
    try:
        return int((stage / "guest/run/status").read_text())
    except (FileNotFoundError, ValueError):
        last = "\n".join(console.read_text(errors="replace").splitlines()[-40:])
        raise LabError(f"the guest ended by itself; the last it said:\n{last}") from None


def copy(streams: dict[int, int]) -> None:
    """What comes from the guest, as it comes, to where it belongs, until the guest ends."""
    with selectors.DefaultSelector() as waiting:
        for reader, target in streams.items():
            waiting.register(reader, selectors.EVENT_READ, target)
        while waiting.get_map():
            for key, _ in waiting.select():
                data = os.read(key.fd, 1 << 16)
                if not data:
                    waiting.unregister(key.fd)
                try:
                    while data:
                        data = data[os.write(key.data, data) :]
                except BrokenPipeError:
                    raise LabError("the reader of the output is gone") from None
