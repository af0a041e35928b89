# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses from which this host is managed: the peers of the SSH connections above this process.

SSH_CONNECTION does not survive ``become``, and behind a jump host the controller's own address means nothing
here; the sockets of the sshd above us tell what the kernel itself knows. Without one above us, as in a terminal
multiplexer or a task that runs on by itself, any peer of an sshd of root's on this host may be the one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from typing import Iterable, Iterator, NamedTuple, Sequence, Set, Tuple

_ESTABLISHED = "01"  # TCP_ESTABLISHED, as /proc/net/tcp has it


class Connected(NamedTuple):
    """Who manages this host."""

    peers: Tuple[str, ...]  # the addresses at the far ends
    at: Tuple[str, ...]  # those of this host that they are connected to
    directed: bool  # they are those of this very process


def find() -> Connected:
    """By every sshd among our ancestors, or else by every other."""
    connections = list(_connections())
    above = _of_sshd(connections, _ancestors(os.getpid()))
    # Anyone may call a process sshd; one that is above us came by it, of the others only root's count.
    others = (pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_roots(pid))
    ends = above or _of_sshd(connections, others)
    return Connected(
        tuple(sorted({far for _near, far in ends})), tuple(sorted({near for near, _far in ends})), bool(above)
    )


def _of_sshd(connections: Sequence[Tuple[str, str, str]], pids: Iterable[int]) -> Set[Tuple[str, str]]:
    """The two ends of those connections that an sshd among these processes has."""
    if not connections:
        return set()  # without a look at thousands of processes
    inodes = {inode for pid in pids if _is_sshd(pid) for inode in _sockets(pid)}
    return {(_address(near), _address(far)) for near, far, inode in connections if inode in inodes}


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                # The name stands in parentheses and may hold anything; the parent is the second field after it.
                pid = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            return


def _is_sshd(pid: int) -> bool:
    """sshd, or since OpenSSH 9.8 its sshd-session."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().startswith("sshd")
    except OSError:
        return False


def _is_roots(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        return "\nUid:\t0\t0\t0\t" in file.read()
    return False


def _sockets(pid: int) -> Set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                desired = os.readlink(f"/proc/{pid}/fd/{name}")
                if desired.startswith("socket:["):
                    found.add(desired[8:-1])
    return found


def _connections() -> Iterator[Tuple[str, str, str]]:
    """The two ends, as they stand there, and the inode of every established TCP connection of this namespace."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as file:
            next(file, None)
            for line in file:
                row = line.split()
                if row[3] == _ESTABLISHED:
                    yield row[1], row[2], row[9]


def _address(text: str) -> str:
    """/proc/net/tcp writes each 32-bit word in the machine's byte order, and the port behind a colon."""
    text = text.partition(":")[0]
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
