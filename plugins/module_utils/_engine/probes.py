# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be reached before a guarded change is kept: by the host, or from an endpoint."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import socket
import time
from typing import Any, Callable, Iterator, List, Sequence

from . import namespaces, programs
from .fields import Problem
from .registry import Registry

#: Nobody waits longer for a confirmation.
LONGEST = 3600
#: For each of them, new neighbours and routes included.
TIMEOUT = 10.0


class Failed(Exception):
    """A probe did not get through; says which."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ping", action="append", default=[], metavar="ADDRESS", help="has to answer first")
    parser.add_argument("--url", action="append", default=[], help="has to answer first, with a status below 400")
    parser.add_argument("--from", dest="origin", metavar="NETWORK/NAME", help="the endpoint that asks (default: the host)")


def options(probe: dict[str, Any]) -> List[str]:
    """The options of ``underlay confirm`` for a ``guard_probe`` of a module."""
    found: List[str] = []
    for option in ("ping", "url"):
        for value in probe.get(option) or ():
            found.append(f"--{option}={value}")
    return [*found, f"--from={probe['endpoint']}"] if probe.get("endpoint") else found


def problems(timeout: int, probe: dict[str, Any], managed_from: Sequence[str]) -> List[Problem]:
    """What is wrong with the options of a guard, and with the addresses of whom it guards."""
    found = []
    if timeout < 0 or timeout > LONGEST:
        found.append(Problem("guard_timeout", f"{timeout} is not between 0 and {LONGEST} seconds", "give 60, or 0 for no guard"))
    if any(probe.values()) and not timeout:
        found.append(Problem("guard_probe", "asks for a guard, and guard_timeout is 0", "give guard_timeout: 60"))
    if probe.get("endpoint") and not (probe.get("ping") or probe.get("url")):
        found.append(Problem("guard_probe.endpoint", "has nothing to ask for", "give ping or url"))
    for option, values in (("managed_from", managed_from), ("guard_probe.ping", probe.get("ping") or ())):
        for position, value in enumerate(values):
            try:
                ipaddress.ip_address(value)
            except ValueError:
                found.append(Problem(f"{option}[{position}]", f"{value!r} is no address", "give one without prefix length"))
    for position, value in enumerate(probe.get("url") or ()):
        if not value.startswith(("http://", "https://")):
            found.append(Problem(f"guard_probe.url[{position}]", f"{value!r} is no URL of HTTP", "give http://... or https://..."))
    return found


def carry_out(asked: argparse.Namespace, registry: Registry) -> None:
    """Raises Failed for the first probe that does not get through, and NamespaceError."""
    with _at(asked.origin, registry):
        for address in asked.ping:
            _until(lambda: _ping(address), f"{address} does not answer{_whence(asked)}")  # noqa: B023
        for url in asked.url:
            _until(lambda: _fetch(url), f"{url} does not answer{_whence(asked)}")  # noqa: B023


def _whence(asked: argparse.Namespace) -> str:
    return f" to {asked.origin}" if asked.origin else ""


@contextlib.contextmanager
def _at(origin: str | None, registry: Registry) -> Iterator[None]:
    if not origin:
        yield
        return
    record = registry.load().get("endpoint", {}).get(origin)
    if record is None:
        raise Failed(f"there is no endpoint {origin} to probe from")
    with namespaces.entered(namespaces.resolve(record.spec["workload"])):
        yield


def _until(what: Callable[[], bool], why: str) -> None:
    until = time.monotonic() + TIMEOUT
    while not what():
        if time.monotonic() > until:
            raise Failed(why)
        time.sleep(0.2)


def _ping(address: str) -> bool:
    target = str(ipaddress.ip_address(address))
    command = ["ping", "-n", "-c", "1", "-W", "2", target]
    try:
        return programs.run(command).returncode == 0
    except FileNotFoundError:
        raise Failed("this host has no ping: install iputils-ping, or probe a URL") from None


def _fetch(url: str) -> bool:
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise Failed(f"{url} is no URL of HTTP")
    with contextlib.suppress(urllib.error.URLError, socket.timeout, OSError, ValueError):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=3.0) as answer:
            return int(answer.status) < 400
    return False
