# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests on a real kernel, each in a network namespace of its own: run them as root in the lab.

``host`` is the namespace that plays the host, ``run`` and ``ip`` are commands in it, ``inside``
enters another.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine import namespaces
from ansible_collections.netops.underlay.plugins.module_utils._engine.apply import apply
from ansible_collections.netops.underlay.plugins.module_utils._engine.observe import observe
from ansible_collections.netops.underlay.plugins.module_utils._engine.world import (
    LINK_GROUP,
    PRIVATE_GROUPS,
    PROTOCOL,
    Change,
    Need,
    Spec,
    World,
    address_key,
    link_key,
    route_key,
)

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

#: The group that the transaction of a test has to itself.
GROUP = PRIVATE_GROUPS[4711]

HAS_IPV6 = os.path.isdir("/proc/sys/net/ipv6")
needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="this kernel has no IPv6")


def _libc(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host of its own for each test."""
    with fresh_host():
        yield


@contextlib.contextmanager
def fresh_host() -> Iterator[None]:
    """A fresh network namespace and a /run/netns that nobody else sees; both go afterwards."""
    if os.geteuid() != 0:
        pytest.skip("needs root: tests/lab/run -- pytest tests/kernel")
    with contextlib.ExitStack() as stack:
        directory = os.getcwd()
        before = {}
        for kind in ("mnt", "net"):
            before[kind] = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, before[kind])
        _libc("unshare", CLONE_NEWNS | CLONE_NEWNET)
        try:
            _libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            os.makedirs("/run/netns", exist_ok=True)
            _libc("mount", b"tmpfs", b"/run/netns", b"tmpfs", 0, None)
            run("ip link set lo up")
            yield
        finally:
            _libc("setns", before["net"], CLONE_NEWNET)
            _libc("setns", before["mnt"], CLONE_NEWNS)
            os.chdir(directory)


def run(command: str) -> str:
    """Carry out lines of shell; what they print. Raises CalledProcessError."""
    return subprocess.run(
        ["sh", "-ec", command], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def ip(*arguments: str, netns: Optional[str] = None) -> List[Dict[str, Any]]:
    """What ``ip -d -j ARGUMENTS`` says, in the host or in a named namespace."""
    inside_of = ["-n", netns] if netns else []
    done = subprocess.run(
        ["ip", *inside_of, "-d", "-j", *arguments], check=True, text=True, stdout=subprocess.PIPE
    )
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


# --- changes
# ---------------------------------------------------------------------------------------------


def made(kind: str, spec: Spec) -> Change:
    """The creation of an object."""
    key: Callable[[Spec], str] = {
        "netns": lambda spec: str(spec["netns"]),
        "link": lambda spec: link_key(spec["netns"], spec["name"]),
        "address": address_key,
        "route": route_key,
    }[kind]
    return Change(kind, key(spec), None, spec, "test")


def new_link(
    name: str, kind: str, parent: Optional[str] = "trunk", netns: str = "", **more: Any
) -> Change:
    spec = {
        "netns": netns,
        "name": name,
        "kind": kind,
        "up": True,
        "group": LINK_GROUP,
        "presence": None if netns else "none",
    }
    return made("link", {**spec, **({"parent": parent} if parent else {}), **more})


def new_vlan(vlan_id: int, parent: str = "trunk", **more: Any) -> Change:
    return new_link(
        f"{parent}.{vlan_id}", "vlan", parent, **{"vlan_id": vlan_id, "protocol": "802.1q", **more}
    )


def new_address(link_name: str, address: str, netns: str = "") -> Change:
    return made("address", {"netns": netns, "link": link_name, "address": address})


def new_route(prefix: str, dev: Optional[str] = None, netns: str = "", **more: Any) -> Change:
    spec = {"netns": netns, "prefix": prefix, "type": "unicast", "via": None, "dev": dev,
            "src": None, "table": 254, "protocol": PROTOCOL}  # fmt: skip
    return made("route", {**spec, "metric": 1024 if ":" in prefix else 0, **more})


def changed(change: Change, **after: Any) -> Change:
    """A change in place of a link that was made."""
    spec = change.after or {}
    identity = {key: spec[key] for key in ("netns", "name")}
    now = observe(Need((spec["netns"],))).find("link", spec) or {}
    before = {**identity, **{key: now.get(key) for key in after}}
    if "sysctls" in after:
        before["sysctls"] = {name: now["sysctls"].get(name) for name in after["sysctls"]}
    return Change(change.kind, change.key, before, {**identity, **after}, "test")


def do(*changes: Change, workloads: Sequence[str] = (), everywhere: bool = False) -> World:
    """Observe, apply, observe again."""
    need = Need(tuple(workloads), everywhere, True)
    apply(changes, observe(need), GROUP)
    return observe(need)


def missing(world: World, *changes: Change) -> List[str]:
    """Of what was made, the options that the kernel has otherwise."""
    found = []
    for change in changes:
        spec = change.after or {}
        now = world.find(change.kind, spec)
        if now is None:
            found.append(f"{change.key} is not there")
        else:
            for key, value in spec.items():
                if value is not None and now.get(key) != value:
                    found.append(f"{change.key} {key}: {now.get(key)!r} for {value!r}")
    return found


@pytest.fixture
def trunk(host: None) -> str:
    """A base that is up: one end of a cable whose other end is up too."""
    run("ip link add trunk type veth peer name far; ip link set far up; ip link set trunk up")
    return "trunk"
