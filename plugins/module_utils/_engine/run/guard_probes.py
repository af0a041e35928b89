# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes that must succeed before a guarded change is kept: from the host or from an endpoint."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import socket
import time
from typing import Callable, Iterator, List, Optional, Sequence, TypedDict

from ..core.errors import ProbeFailed, Problem
from ..kernel import namespaces, programs, workload_namespaces
from ..store.registry import Registry

#: The longest time to wait for a confirmation.
LONGEST = 3600
#: For each of them, new neighbours and routes included.
TIMEOUT = 10.0


class GuardProbe(TypedDict, total=False):
    """What must answer before a change is confirmed: the ``guard_probe`` of a module."""

    ping: Optional[List[str]]
    url: Optional[List[str]]
    endpoint: Optional[str]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a command that say what to probe."""
    parser.add_argument("--ping", action="append", default=[], metavar="ADDRESS", help="must answer")
    parser.add_argument("--url", action="append", default=[], help="must answer with a status below 400")
    parser.add_argument(
        "--from", dest="origin", metavar="NETWORK/NAME", help="endpoint to probe from (default: the host)"
    )


def options(probe: GuardProbe) -> List[str]:
    """The options of ``underlay confirm`` for a ``guard_probe`` of a module."""
    found = [f"--ping={value}" for value in probe.get("ping") or ()]
    found += [f"--url={value}" for value in probe.get("url") or ()]
    return [*found, f"--from={probe['endpoint']}"] if probe.get("endpoint") else found


def problems(timeout: int, probe: GuardProbe, managed_from: Sequence[str]) -> List[Problem]:
    """Problems with the options of a guard, and with ``managed_from``."""
    found = []
    if timeout < 0 or timeout > LONGEST:
        found.append(
            Problem("guard_timeout", f"{timeout} is not between 0 and {LONGEST} seconds", "give 60, or 0 for no guard")
        )
    if any(probe.values()) and not timeout:
        found.append(Problem("guard_probe", "needs a guard, and guard_timeout is 0", "give guard_timeout: 60"))
    if probe.get("endpoint") and not (probe.get("ping") or probe.get("url")):
        found.append(Problem("guard_probe.endpoint", "has nothing to probe", "give ping or url"))
    for option, values in (("managed_from", managed_from), ("guard_probe.ping", probe.get("ping") or ())):
        for position, value in enumerate(values):
            try:
                ipaddress.ip_address(value)
            except ValueError:
                found.append(
                    Problem(f"{option}[{position}]", f"{value!r} is no address", "give one without prefix length")
                )
    for position, value in enumerate(probe.get("url") or ()):
        if not value.startswith(("http://", "https://")):
            found.append(
                Problem(
                    f"guard_probe.url[{position}]", f"{value!r} is not an HTTP URL", "give http://... or https://..."
                )
            )
    return found


def carry_out(asked: argparse.Namespace, registry: Registry) -> None:
    """Run the probes. Raises ProbeFailed for the first one that fails, and NamespaceError."""
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
        raise ProbeFailed(f"there is no endpoint {origin} to probe from")
    with namespaces.entered(workload_namespaces.resolve(record.spec["workload"])):
        yield


def _until(what: Callable[[], bool], why: str) -> None:
    until = time.monotonic() + TIMEOUT
    while not what():
        if time.monotonic() > until:
            raise ProbeFailed(why)
        time.sleep(0.2)


def _ping(address: str) -> bool:
    desired = str(ipaddress.ip_address(address))
    command = ["ping", "-n", "-c", "1", "-W", "2", desired]
    try:
        return programs.run(command).returncode == 0
    except FileNotFoundError:
        raise ProbeFailed("this host has no ping: install iputils-ping, or probe a URL") from None


def _fetch(url: str) -> bool:
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise ProbeFailed(f"{url} is not an HTTP URL")
    with contextlib.suppress(urllib.error.URLError, socket.timeout, OSError, ValueError):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=3.0) as answer:
            return int(answer.status) < 400
    return False
