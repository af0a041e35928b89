# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for one test: a network namespace of its own on a real kernel, as root in the lab.

``run`` and ``ip`` are commands in it, ``inside`` enters another namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import time
from typing import Any, Dict, Iterator, List, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespaces

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x20000, 0x4000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


HAS_IPV6 = os.path.isdir("/proc/sys/net/ipv6")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")


def libc(name: str, *arguments: Any) -> None:
    """A function of the C library. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextlib.contextmanager
def fresh_host() -> Iterator[None]:
    """A fresh network namespace and a /run/netns that no other process sees; both go afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root: tests/lab/run -- pytest tests/kernel")
    with contextlib.ExitStack() as stack:
        directory = os.getcwd()
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root)
        before = {}
        for kind in ("mnt", "net"):
            before[kind] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, before[kind])
        libc("unshare", CLONE_NEWNS | CLONE_NEWNET)
        try:
            libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            os.makedirs("/run/netns", exist_ok=True)
            libc("mount", b"tmpfs", b"/run/netns", b"tmpfs", 0, None)
            run("ip link set lo up")
            yield
        finally:
            libc("setns", before["net"], CLONE_NEWNET)
            libc("setns", before["mnt"], CLONE_NEWNS)  # which leads to the root of those mounts, not to ours
            os.fchdir(root)
            os.chroot(".")
            os.chdir(directory)


def run(command: str) -> str:
    """Carry out lines of shell; what they print. Raises CalledProcessError."""
    return subprocess.run(["sh", "-ec", command], check=True, text=True, stdout=subprocess.PIPE).stdout


def ip(*arguments: str, netns: Optional[str] = None) -> List[Dict[str, Any]]:
    """What ``ip -d -j ARGUMENTS`` says, in the host or in a named namespace."""
    inside_of = ["-n", netns] if netns else []
    done = subprocess.run(["ip", *inside_of, "-d", "-j", *arguments], check=True, text=True, stdout=subprocess.PIPE)
    return [row for row in json.loads(done.stdout or "[]") if row]


def link(name: str, netns: Optional[str] = None) -> Dict[str, Any]:
    """A link as ``ip`` shows it."""
    return ip("link", "show", "dev", name, netns=netns)[0]


def links(netns: Optional[str] = None) -> List[str]:
    """The names of all links but lo."""
    return [row["ifname"] for row in ip("link", "show", netns=netns) if row["ifname"] != "lo"]


def data(name: str, netns: Optional[str] = None) -> Dict[str, Any]:
    """The options of a link's kind, as ``ip`` shows them."""
    found: Dict[str, Any] = link(name, netns)["linkinfo"]["info_data"]
    return found


def sysctl(name: str, netns: Optional[str] = None) -> int:
    """``ipv4.conf.eth0.rp_filter`` and the like; dots of a link's name written as slashes."""
    path = "/proc/sys/net/" + name.replace(".", "/").replace("|", ".")
    with inside(netns) if netns else contextlib.nullcontext(), open(path, encoding="ascii") as file:
        return int(file.read())


@contextlib.contextmanager
def inside(netns: str) -> Iterator[None]:
    with namespaces.entered(f"/run/netns/{netns}"):
        yield


def nic(name: str) -> None:
    """A NIC that is up, with a cable to one that is up too."""
    run(f"ip link add {name} type veth peer name {name}-far; ip link set {name}-far up; ip link set {name} up")


@contextlib.contextmanager
def process_in(netns: str) -> Iterator[int]:
    """A process that lives in a named namespace; its PID."""
    command = ["ip", "netns", "exec", netns, "sleep", "60"]
    with subprocess.Popen(command) as sleeper:
        try:
            want = os.stat(f"/run/netns/{netns}").st_ino
            while os.stat(f"/proc/{sleeper.pid}/ns/net").st_ino != want:
                time.sleep(0.01)
            yield sleeper.pid
        finally:
            sleeper.kill()
