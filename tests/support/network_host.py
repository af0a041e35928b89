# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for one test: a network namespace of its own on a real kernel, as root in the lab.

``run`` and ``ip`` are commands in it, ``inside`` enters another namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespaces

from tests.support.waiting import until

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x20000, 0x4000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

#: What the engine makes of a host outside of its kernel and its registry.
OUTSIDE = ("/etc/netns", "/dev/netops-underlay")

HAS_IPV6 = os.path.isdir("/proc/sys/net/ipv6")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")


def libc(name: str, *arguments: Any) -> None:
    """A function of the C library. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextlib.contextmanager
def fresh_host() -> Iterator[None]:
    """A fresh network namespace and a /run/netns that no other process sees; all goes afterwards, files outside of them too."""
    if os.geteuid() != 0:
        pytest.skip("needs root: tests/lab/run -- pytest tests/kernel")
    with contextlib.ExitStack() as stack:
        for path in OUTSIDE:
            stack.callback(remove_tree, path)
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
            raise_lo()
            yield
        finally:
            # A thread that Python has joined may live on in the kernel, which lets only one alone change its mounts.
            until(lambda: len(os.listdir("/proc/self/task")) == 1, every=0.001)
            libc("setns", before["net"], CLONE_NEWNET)
            libc("setns", before["mnt"], CLONE_NEWNS)  # which leads to the root of those mounts, not to ours
            os.fchdir(root)
            os.chroot(".")
            os.chdir(directory)


def is_running(name: str) -> bool:
    """Whether the kernel has noticed that a link and what it leads to are up (SIOCGIFFLAGS, IFF_RUNNING)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, 0x8913, struct.pack("16s16x", name.encode()))
    return bool(struct.unpack_from("H", answer, 16)[0] & 0x40)


def settle(*names: str) -> None:
    """Wait for links that came up: what the kernel does of itself when they are is not to be seen in the middle of a test."""
    assert until(lambda: all(map(is_running, names)), every=0.002)


def remove_tree(path: str) -> None:
    """A directory and all below it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def raise_lo() -> None:
    """As ``ip link set lo up``, which every test would start a program for (SIOCSIFFLAGS, netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))


#: Commands that a shell would only hand on.
_PLAIN = re.compile(r"[\w\s./:;,@%=+-]*")
#: After these a name may be that of another link, and ``ip`` would take it for the one that it knows.
_LAST = {"del", "delete", "flush", "netns", "set name"}


def run(command: str) -> str:
    """Carry out lines of shell; what they print. Raises CalledProcessError.

    Most are lines of ``ip`` alone. Each would be a process, beside the shell, so those that can go together do.
    """
    lines = [words for line in re.split("[;\n]", command) if (words := line.split())]
    # A link that comes up in the moment in which it went down may lose nothing.
    if not _PLAIN.fullmatch(command) or any(words[0] != "ip" or len(words) < 3 or "down" in words for words in lines):
        return _said(["sh", "-ec", command])
    return "".join(
        _said(["ip", *options, *group[0]])
        if len(group) == 1
        else _said(["ip", *options, "-batch", "-"], "\n".join(" ".join(words) for words in group))
        for options, group in _batches(lines)
    )


def _said(words: List[str], given: Optional[str] = None) -> str:
    return subprocess.run(words, input=given, check=True, text=True, stdout=subprocess.PIPE).stdout


def _batches(lines: List[List[str]]) -> Iterator[Tuple[List[str], List[List[str]]]]:
    """Lines of ``ip`` in their order, as (options, commands that one process can carry out)."""
    group: List[List[str]] = []
    options: List[str] = []
    for words in lines:
        start = 1
        while words[start].startswith("-"):
            start += 2 if words[start] in ("-n", "-netns") else 1
        own, rest = words[1:start], words[start:]
        if group and (own != options or rest[0] == "netns"):
            yield options, group
            group = []
        options = own
        group.append(rest)
        if _LAST & {*rest, "set name" if {"set", "name"} <= {*rest} else ""}:
            yield options, group
            group = []
    if group:
        yield options, group


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
    with inside(netns) if netns else contextlib.nullcontext():
        return [name for _index, name in socket.if_nameindex() if name != "lo"]


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
