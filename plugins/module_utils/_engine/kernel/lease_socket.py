# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DHCP client's socket, as a run uses it: to wait for a lease, and to give one back before its link goes.

A line of JSON each way. The client of ``dhcp`` answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
from typing import Any, Dict, Sequence

from ..core.errors import LeaseError
from ..core.lease_specs import Lease
from ..core.validate import Mismatch
from ..store import leases

#: A line of JSON: what is asked of the client, and what it answers.
Line = Dict[str, Any]
#: Of root alone.
PATH = "/run/netops-underlay/dhcp.sock"
#: Seconds for the release of one lease: the packet goes out once, and no server answers it.
RELEASE = 2.0
#: Seconds that the client has beyond the time of a wait to say that there is none.
_SLACK = 2.0
_LONGEST = 1 << 18
#: Connections of one wait: a process has 1024 descriptors.
_AT_ONCE = 256
_FIX = "set dhcp: true of vlan_service (role prepare), and see systemctl status netops-underlay-dhcp"


def answers(path: str = PATH) -> bool:
    """Whether the client runs on this host."""
    try:
        with _connect(path, 1.0):
            return True
    except OSError:
        return False


def wait(endpoint: str, timeout: float, path: str = PATH) -> Lease:
    """The lease that an endpoint of the registry wants, by its ``lease_key``, as soon as it has one; no later than after ``timeout`` seconds.

    Raises LeaseError with the client's words.
    """
    with _sent({"do": "wait", "endpoint": endpoint, "timeout": timeout}, timeout + _SLACK, path) as there:
        return _leased(endpoint, there)


def lacking(endpoints: Sequence[str], timeout: float, path: str = PATH) -> Dict[str, str]:
    """Those of some leases, by ``lease_key``, that are not there after ``timeout`` seconds for all of them together, each with the client's words."""
    until = time.monotonic() + timeout
    found: Dict[str, str] = {}
    for first in range(0, len(endpoints), _AT_ONCE):
        with contextlib.ExitStack() as stack:
            asked: Dict[str, socket.socket] = {}
            left = max(0.0, until - time.monotonic())
            for endpoint in endpoints[first : first + _AT_ONCE]:
                try:
                    request = {"do": "wait", "endpoint": endpoint, "timeout": left}
                    asked[endpoint] = stack.enter_context(_sent(request, left + _SLACK, path))
                except LeaseError as error:
                    found[endpoint] = str(error)
            for endpoint, there in asked.items():  # the client works on all of them at once
                there.settimeout(max(0.0, until - time.monotonic()) + _SLACK)
                try:
                    _leased(endpoint, there)
                except LeaseError as error:
                    found[endpoint] = str(error)
    return found


def _leased(endpoint: str, there: socket.socket) -> Lease:
    answer = _answer(endpoint, there)
    if "lease" not in answer:
        raise LeaseError(str(answer.get("failed") or f"{endpoint}: the DHCP client gave no answer; {_FIX}"))
    try:
        return leases.check(answer["lease"])
    except Mismatch as error:
        raise LeaseError(f"{endpoint}: the DHCP client's answer cannot be used ({error}); {_FIX}") from None


def release(endpoint: str, path: str = PATH) -> bool:
    """Give a lease back, so that the server may give the address to another; within 2 s. False where there is none, or no client.

    The client asks for no other one until the registry has changed.
    """
    try:
        with _sent({"do": "release", "endpoint": endpoint}, RELEASE, path) as there:
            return bool(_answer(endpoint, there).get("released"))
    except LeaseError:
        return False


def _sent(request: Line, seconds: float, path: str) -> socket.socket:
    """A connection on which a request was made. Raises LeaseError."""
    try:
        there = _connect(path, seconds)
        there.sendall(json.dumps(request).encode() + b"\n")
    except OSError as error:
        raise _silent(request["endpoint"], error) from None
    return there


def _answer(endpoint: str, there: socket.socket) -> Line:
    try:
        with there.makefile("rb") as file:
            answer = json.loads(file.readline(_LONGEST))
    except OSError as error:
        raise _silent(endpoint, error) from None
    except ValueError:
        raise LeaseError(f"{endpoint}: the DHCP client ended before it answered; {_FIX}") from None
    return answer if isinstance(answer, dict) else {}


def _silent(endpoint: str, error: OSError) -> LeaseError:
    return LeaseError(f"{endpoint}: the DHCP client does not answer ({error.strerror or error}); {_FIX}")


def _connect(path: str, seconds: float) -> socket.socket:
    """Raises OSError, also where somebody else could have put it there."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(f"{path} is not a socket of this user")
    there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        there.settimeout(seconds)
        there.connect(path)
    except OSError:
        there.close()
        raise
    return there
