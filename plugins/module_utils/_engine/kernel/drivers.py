# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kinds of links the running kernel can create, known before anything is created."""

from __future__ import annotations

import errno
import os
import re
from typing import Dict, Iterable, Optional, Set, Tuple

from ..core.change import DRIVERS
from ..netlink import encode, rtnetlink

#: driver -> the first kernel whose driver is fit for use
_LEAST: Dict[str, Tuple[int, int]] = {"macvlan": (3, 9), "ipvlan": (4, 2)}


def outdated(driver: str, release: str) -> str:
    """Why the kernel of a release, such as 6.1.0-25-amd64, is too old for a driver; empty where it is not."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    least = _LEAST.get(driver, (0, 0))
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= least:
        return ""
    return f"{driver} needs Linux {'.'.join(map(str, least))} or newer, and this host runs {release}"


class Drivers:
    """The drivers of one kernel, as the files of a host show them."""

    def __init__(self, release: str, root: str = "/") -> None:
        self._modules = os.path.join(root, "lib/modules", release)
        self._loaded = os.path.join(root, "sys/module")

    def is_loaded(self, driver: str) -> bool:
        """Whether a driver is in the running kernel, as /sys/module shows."""
        return os.path.isdir(os.path.join(self._loaded, driver))

    def is_builtin(self, driver: str) -> bool:
        """Whether a driver is part of the kernel, so that it has not to be loaded."""
        return self._lists("modules.builtin", driver) is True

    def is_loadable(self, driver: str) -> Optional[bool]:
        """Whether a driver is there to be loaded; None where the modules cannot be seen, as in a container."""
        return self._lists("modules.dep", driver)

    def is_provided(self, driver: str) -> Optional[bool]:
        """Whether the kernel comes with a driver, in it or to load; None as above."""
        loadable = self.is_loadable(driver)
        return None if loadable is None else loadable or self.is_builtin(driver)

    def _lists(self, name: str, driver: str) -> Optional[bool]:
        """Whether one of depmod's lists has a driver; None without that list."""
        try:
            with open(os.path.join(self._modules, name), encoding="utf-8") as file:
                return bool(re.search(rf"(?:^|/){re.escape(driver)}\.ko", file.read(), re.MULTILINE))
        except (FileNotFoundError, NotADirectoryError):
            return None


def all_outdated(kinds: Iterable[str]) -> Dict[str, str]:
    """The kinds that the kernel that runs is too old for, each with why."""
    release = os.uname().release
    return {kind: why for kind in kinds if (why := outdated(DRIVERS[kind], release))}


def lacking(kinds: Iterable[str], load: bool) -> Set[str]:
    """The kinds that the kernel that runs cannot make.

    The kernel itself is asked, which may load drivers then, as it would with the first link. Unless it may
    ``load``, a driver that waits to be loaded is taken to be one that can be.
    """
    drivers = Drivers(os.uname().release)
    waiting = [kind for kind in kinds if not drivers.is_loaded(DRIVERS[kind])]
    return {kind for kind in waiting if not (drivers.is_loadable(DRIVERS[kind]) and not load) and not has_kind(kind)}


def not_provided(modules: Iterable[str]) -> Set[str]:
    """The modules that the kernel that runs neither has nor can load; none where that cannot be seen, as in a container."""
    drivers = Drivers(os.uname().release)
    return {name for name in modules if not drivers.is_loaded(name) and drivers.is_provided(name) is False}


def has_kind(kind: str) -> bool:
    """Ask the kernel itself whether it can make a kind of link; it loads the driver if it may.

    The request lacks what every kind needs and has a MAC of the wrong length, so it makes nothing: a kernel that
    knows the kind answers that the request is wrong, one that does not answers that the kind is.
    """
    info = encode.attribute(encode.IFLA_INFO_KIND, kind.encode() + b"\0")
    body = encode.IFINFOMSG.pack(0, 0, 0, 0, 0) + encode.attribute(encode.IFLA_ADDRESS, b"\0" * 5)
    message = rtnetlink.Message(
        rtnetlink.RTM_NEWLINK,
        rtnetlink.NLM_F_CREATE | rtnetlink.NLM_F_EXCL,
        body + encode.attribute(encode.IFLA_LINKINFO, info),
    )
    with rtnetlink.Socket() as socket:
        failures = socket.batch([message])
    return bool(failures) and failures[0].errno != errno.EOPNOTSUPP
