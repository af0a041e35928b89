# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What a host needs before it can carry networks: drivers, room for neighbours, names for our numbers.

:func:`survey` reads the host and lists the steps as data, without changing anything; check mode is the survey alone. All paths are below a
root that tests may choose.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, TypeVar

from ._engine.core.change import HOST_LINK_GROUP, LINK_GROUP, PROTOCOL
from ._engine.core.errors import Problem
from ._engine.kernel.drivers import Drivers, outdated

T = TypeVar("T")

NAME = "netops-underlay"
MARK = "netops.underlay"

#: Link kind's driver, as modprobe knows it.
DRIVERS = ("8021q", "macvlan", "ipvlan", "dummy")

MODULES_LOAD = f"etc/modules-load.d/{NAME}.conf"
MODPROBE = f"etc/modprobe.d/{NAME}.conf"
#: Low, so that every other file with an opinion has the last word.
SYSCTL = f"etc/sysctl.d/10-{NAME}.conf"
GROUP = "etc/iproute2/group"
#: Our link groups, and what iproute2 shows for them.
GROUPS = {LINK_GROUP: NAME, HOST_LINK_GROUP: f"{NAME}-host"}
#: Where iproute2 looks for a table that is not in /etc: since 6.7, and in 6.5 and 6.6.
_GROUP_DEFAULTS = ("usr/share/iproute2/group", "usr/lib/iproute2/group")
#: Routes, and addresses (since iproute2 6.3; older ones pass it over).
PROTOCOLS = (f"etc/iproute2/rt_protos.d/{NAME}.conf", f"etc/iproute2/rt_addrprotos.d/{NAME}.conf")

#: Directories that this module may have had to make; the innermost first. Empty ones mean nothing to iproute2.
OUR_DIRECTORIES = (*map(os.path.dirname, PROTOCOLS), "etc/iproute2")

#: Commands that people and the kernel's drivers need, and the packages that bring them, by ID or ID_LIKE of os-release.
COMMANDS = ("ip", "modprobe")
_PACKAGES = {
    "debian": {"ip": "iproute2", "modprobe": "kmod"},
    "rhel": {"ip": "iproute", "modprobe": "kmod"},
    "fedora": {"ip": "iproute", "modprobe": "kmod"},
}
_BIN = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
#: What brings a driver that the kernel lacks. Debian's and Ubuntu's kernels for clouds leave some out.
_KERNEL_PACKAGES = {
    "ubuntu": "linux-modules-extra-{}",
    "debian": "linux-image-amd64 (that of your architecture, and not its cloud kernel)",
    "rhel": "kernel-modules-{}",
    "fedora": "kernel-modules-{}",
}

_HEAD = f"# Written by {MARK}, module vlan_host.\n"
_KEPT = f"# Kept by {MARK}"
_COPIED = _KEPT + ", module vlan_host: iproute2 reads this file instead of /{},\n# whose lines it repeats.\n"
#: gc_thresh3 is the limit; below gc_thresh1 nothing is ever collected, above gc_thresh2 old entries are.
_THRESHOLDS = {"gc_thresh3": 1, "gc_thresh2": 2, "gc_thresh1": 4}


class Step(NamedTuple):
    """One thing to do: a file to write or remove, a driver to load, a limit to raise."""

    kind: str  # file, driver, limit, filter
    name: str  # a path below the root, a driver, a sysctl, a table of nf_tables
    before: Optional[str]
    after: Optional[str]


@dataclass
class Wanted:
    """What a host is to be prepared for."""

    drivers: Sequence[str] = DRIVERS
    neighbours: int = 0  # entries in each neighbour table; 0 leaves them alone
    names: bool = True
    present: bool = True


@dataclass
class Survey:
    """What there is to do on a host, and why it cannot be done."""

    steps: List[Step] = field(default_factory=list)
    problems: List[Problem] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    limits: Dict[str, int] = field(default_factory=dict)  # the neighbour limits after the steps


class Host:
    """The files of a host, and what the kernel shows in /proc and /sys."""

    def __init__(self, release: str, root: str = "/") -> None:
        self.release = release
        self.root = root
        self.drivers = Drivers(release, root)

    def path(self, name: str) -> str:
        """A file of the host, below the root."""
        return os.path.join(self.root, name)

    def read(self, name: str) -> Optional[str]:
        """A file's text; None where there is none."""
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, text: str) -> None:
        """For what is no file in truth, such as a sysctl."""
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    # -- packages ---------------------------------------------------------------------------------

    def families(self) -> List[str]:
        """What the distribution is called and what it is like, the closest first."""
        text = self.read("etc/os-release") or self.read("usr/lib/os-release") or ""
        found = dict(re.findall(r"""^(ID|ID_LIKE)=["']?([^"'\n]*)""", text, re.MULTILINE))
        return [found.get("ID", ""), *found.get("ID_LIKE", "").split()]

    def _closest(self, table: Dict[str, T]) -> Optional[T]:
        return next((table[family] for family in self.families() if family in table), None)

    def packages_missing(self) -> List[str]:
        """The packages of the commands that are not there."""
        names = self._closest(_PACKAGES) or _PACKAGES["debian"]
        there = {name for name in COMMANDS for place in _BIN if os.path.exists(self.path(f"{place}/{name}"))}
        return [names[name] for name in COMMANDS if name not in there]

    # -- drivers ----------------------------------------------------------------------------------

    def driver_missing(self, driver: str) -> Problem:
        """The problem of a driver that this kernel does not have, with the package that has it."""
        package = (self._closest(_KERNEL_PACKAGES) or "the modules package of this kernel").format(self.release)
        what = f"kernel {self.release} has no driver {driver}"
        return Problem("drivers", what, f"install {package} and boot that kernel, or leave {driver} out of drivers")


def survey(host: Host, wanted: Wanted) -> Survey:
    """The steps to prepare a host, and the problems that prevent them."""
    found = Survey()
    if wanted.present:
        _drivers(host, wanted, found)
        _limits(host, wanted, found)
    files = _files(host, wanted, found)
    found.steps[:0] = [
        Step("file", name, before, after) for name, after in files.items() if (before := host.read(name)) != after
    ]
    return found


# --- drivers -------------------------------------------------------------------------------------


def _drivers(host: Host, wanted: Wanted, found: Survey) -> None:
    for driver in wanted.drivers:
        why = outdated(driver, host.release)
        if why:
            found.problems.append(Problem("drivers", why, f"boot a newer kernel, or leave {driver} out of drivers"))
        elif not host.drivers.is_loaded(driver):
            provided = host.drivers.is_provided(driver)
            if provided is False:
                found.problems.append(host.driver_missing(driver))
            elif provided is None or not host.drivers.is_builtin(driver):
                found.steps.append(Step("driver", driver, "not loaded", "loaded"))


# --- neighbour tables ----------------------------------------------------------------------------


def _limits(host: Host, wanted: Wanted, found: Survey) -> None:
    """Raise limits that are too low; never lower any."""
    if not wanted.neighbours:
        return
    hidden = True
    for name, target in _targets(wanted).items():
        now = host.read("proc/sys/" + name.replace(".", "/"))
        if now is None:
            continue
        hidden = False
        found.limits[name] = max(int(now), target)
        if int(now) < target:
            found.steps.append(Step("limit", name, now.strip(), str(target)))
    if hidden:
        found.warnings.append(
            f"neighbours: this host does not show its neighbour tables (a container?), so they are left alone; "
            f"set net.ipv4.neigh.default.gc_thresh3 to {wanted.neighbours} on the machine that runs it"
        )


def _targets(wanted: Wanted) -> Dict[str, int]:
    return {
        f"net.{family}.neigh.default.{name}": max(wanted.neighbours // part, 1)
        for family in ("ipv4", "ipv6")
        for name, part in _THRESHOLDS.items()
    }


# --- files ---------------------------------------------------------------------------------------


def _files(host: Host, wanted: Wanted, found: Survey) -> Dict[str, Optional[str]]:
    """Every file of ours and its content; None for no file."""
    names = wanted.names and wanted.present
    protocol = f"{_HEAD}{PROTOCOL}\t{NAME}\n" if names else None
    return {
        MODULES_LOAD: _lines(wanted.drivers) if wanted.present else None,
        MODPROBE: _modprobe(host, wanted),
        SYSCTL: _sysctl(host, wanted),
        GROUP: _group(host, names, found),
        **dict.fromkeys(PROTOCOLS, protocol),
    }


def _lines(lines: Iterable[str]) -> Optional[str]:
    text = "".join(line + "\n" for line in lines)
    return _HEAD + text if text else None


def _modprobe(host: Host, wanted: Wanted) -> Optional[str]:
    """The driver ``dummy`` creates a link dummy0 when it is loaded, which is not wanted.

    Where it was loaded before us, somebody may want that one: then it is left as it is.
    """
    if not wanted.present or "dummy" not in wanted.drivers:
        return None
    ours = host.read(MODPROBE)
    if ours is None and host.drivers.is_loaded("dummy"):
        return None
    return f"{_HEAD}# Without this, loading the driver makes a link dummy0.\noptions dummy numdummies=0\n"


def _sysctl(host: Host, wanted: Wanted) -> Optional[str]:
    """The limits that hold because of us: those that were lower, and those that we raised before."""
    if not wanted.present or not wanted.neighbours:
        return None
    ours = host.read(SYSCTL) or ""
    lines = []
    for name, target in _targets(wanted).items():
        now = host.read("proc/sys/" + name.replace(".", "/"))
        if now is not None and (int(now) < target or f"{name} = " in ours):
            lines.append(f"{name} = {target}")
    return _lines(lines)


def _group(host: Host, present: bool, found: Survey) -> Optional[str]:
    """iproute2's table of link groups with our numbers in it.

    It has no directory of additions, and a file in /etc hides the one in /usr: so our lines go into the file in
    /etc where there is one, else that file is made as a copy with our lines.
    """
    text = host.read(GROUP)
    copied = text is None or text.startswith(_KEPT)
    if copied:
        if not present:
            return None
        default = next((name for name in _GROUP_DEFAULTS if host.read(name) is not None), _GROUP_DEFAULTS[0])
        return (
            _COPIED.format(default)
            + _ended(host.read(default) or "0\tdefault\n")
            + "".join(_group_line(*row) for row in GROUPS.items())
        )
    others = [row for row in (text or "").splitlines(keepends=True) if not row.rstrip().endswith(f"# {MARK}")]
    result = _ended("".join(others))
    for number, name in GROUPS.items() if present else ():
        taken = _taken(others, number, name)
        if taken is None:
            result += _group_line(number, name)
        elif taken != [str(number), name]:
            found.warnings.append(
                f"/{GROUP} has {' '.join(taken)} already, so group {number} has no name of ours there"
            )
    return result


def _group_line(number: int, name: str) -> str:
    return f"{number}\t{name}  # {MARK}\n"


def _taken(rows: Iterable[str], number: int, name: str) -> Optional[List[str]]:
    """A row of others that has the number or the name."""
    for row in rows:
        words = row.split("#")[0].split()
        if len(words) == 2 and (words[0] in (str(number), hex(number)) or words[1] == name):
            return words
    return None


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
