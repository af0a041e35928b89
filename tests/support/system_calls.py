# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a process of its own, held before each system call that changes something: seccomp_unotify(2).

What is held there is decided by the test: the call goes on, fails by an errno, the process is killed or interrupted, or
something else happens meanwhile. SQLite's own calls and those of buffered files are seen like all others.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.core.errors import UnderlayError

#: Those of x86-64, the one processor that the lab knows (arch/x86/entry/syscalls/syscall_64.tbl).
CALLS = {
    1: "write", 18: "pwrite", 20: "writev", 44: "sendto", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate",
    82: "rename", 83: "mkdir", 84: "rmdir", 86: "link", 87: "unlink", 88: "symlink", 90: "chmod", 91: "fchmod",
    92: "chown", 93: "fchown", 165: "mount", 166: "umount", 257: "open", 258: "mkdirat", 260: "fchownat", 263: "unlinkat",
    264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat", 272: "unshare", 285: "fallocate", 308: "setns",
    316: "renameat2",
}  # fmt: skip
_OPEN, _SENDTO = 257, 44
_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER = 317, 1, 8
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_LOAD, _EQUALS, _HAS_BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_THIRD_ARGUMENT = 32  # in struct seccomp_data

#: What may be done with a held call beside failing it by an errno.
GO, KILL, INTERRUPT = 0, -1, -2


class Call(NamedTuple):
    """A system call that changes something, held before it."""

    number: int  # of those of the work, from 1
    name: str
    process: int
    descriptor: int  # its first argument, where it has one

    @property
    def path(self) -> str:
        """The open file that it acts on; empty for none."""
        try:
            return os.readlink(f"/proc/{self.process}/fd/{self.descriptor}")
        except OSError:
            return ""


class Ended(NamedTuple):
    """How work ended: by itself, in an error that the engine has words for, INTERRUPTED, in a TRACEBACK, or KILLED."""

    calls: List[str]
    how: str = ""
    text: str = ""  # the error, or what the work returned


INTERRUPTED, TRACEBACK, KILLED = "interrupted", "traceback", "killed"


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _statement(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _filter() -> bytes:
    """Notify of each of the calls; of an open only where it makes or empties a file."""
    parts = [_statement(_LOAD, 0, 0, 0)]
    for number in CALLS:
        if number != _OPEN:
            parts += [_statement(_EQUALS, 0, 1, number), _statement(_RETURN, 0, 0, _NOTIFY)]
    parts += [
        _statement(_EQUALS, 0, 3, _OPEN),
        _statement(_LOAD, 0, 0, _THIRD_ARGUMENT),
        _statement(_HAS_BITS, 0, 1, os.O_CREAT | os.O_TRUNC),
        _statement(_RETURN, 0, 0, _NOTIFY),
        _statement(_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(parts)


def _listen() -> int:
    """From now on the calls of this process, and of those that it starts, are held: the descriptor to hear of them."""
    code = _filter()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program)))
    if found < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return found


class Watched:
    """A process that does some work, again and again, each of whose calls is decided on. It is started again when it was killed."""

    def __init__(self, work: Callable[[str], Any]) -> None:
        self._work = work
        self._child = 0

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_rest: object) -> None:
        self.close()

    def close(self) -> None:
        if self._child:
            self._end()

    def run(self, decide: Callable[[Call], int] = lambda _: GO, order: str = "") -> Ended:
        """Do the work by an order, and decide on each call: GO, KILL, INTERRUPT, or an errno by which it fails."""
        if not self._child:
            self._start()
        self._socket.send(b"+" + order.encode())
        calls: List[str] = []
        try:
            while (held := self._held(len(calls) + 1)) is not None:
                notice, call = held
                calls.append(call.name)
                answer = decide(call)
                if answer == KILL:
                    self._end()
                    return Ended(calls, KILLED)
                if answer == INTERRUPT:
                    os.kill(self._child, signal.SIGINT)
                _answer(self._listener, notice, answer)
            outcome = json.loads(self._socket.recv(1 << 20))
            if outcome[0] == INTERRUPTED:
                self._end()  # as every process of ours does then
            return Ended(calls, *outcome)
        except BaseException:
            if self._child:
                self._end()
            raise

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._child = os.fork()
        if self._child == 0:
            self._socket.close()
            _live(self._work, theirs)
        theirs.close()
        (self._listener,) = socket.recv_fds(self._socket, 1, 1)[1]
        self._poll = select.poll()
        for descriptor in (self._listener, self._socket.fileno()):
            self._poll.register(descriptor, select.POLLIN)

    def _end(self) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._child = 0
        os.close(self._listener)
        self._socket.close()

    def _held(self, count: int) -> Optional[Tuple[int, Call]]:
        """The next call that is held; None when the work is done. Questions to the kernel go on unseen."""
        while True:
            ready = dict(self._poll.poll())
            if self._listener not in ready:
                return None
            notice = bytearray(80)  # struct seccomp_notif
            with contextlib.suppress(FileNotFoundError):  # it was interrupted meanwhile
                fcntl.ioctl(self._listener, _RECEIVE, notice, True)
                number, process, _flags, call = struct.unpack_from("=QIIi", notice)
                first, second = struct.unpack_from("=QQ", notice, 32)
                if call != _SENDTO or not _is_question(process, second):
                    return number, Call(count, CALLS[call], process, first)
                _answer(self._listener, number, GO)


def _live(work: Callable[[str], Any], orders: socket.socket) -> None:
    """The whole life of the process that is watched."""
    try:
        sys.dont_write_bytecode = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        listener = _listen()
        socket.send_fds(orders, [b"x"], [listener])
        os.close(listener)
        while order := orders.recv(1000):
            try:
                outcome = ("", str(work(order[1:].decode()) or ""))
            except UnderlayError as error:
                outcome = (type(error).__name__, str(error))
            except KeyboardInterrupt:
                outcome = (INTERRUPTED, "")
            except BaseException:
                outcome = (TRACEBACK, traceback.format_exc())
            orders.sendmsg([json.dumps(outcome).encode()])  # which is not held
    finally:
        os._exit(0)


def _is_question(process: int, address: int) -> bool:
    """Whether a message to rtnetlink only asks (RTM_GET*)."""
    with open(f"/proc/{process}/mem", "rb", 0) as memory:
        memory.seek(address + 4)
        kind = int.from_bytes(memory.read(2), "little")
    return 16 <= kind < 0x100 and kind & 3 == 2


def _answer(listener: int, notice: int, answer: int) -> None:
    flags, number = (_CONTINUE, 0) if answer in (GO, KILL, INTERRUPT) else (0, -answer)
    if answer == INTERRUPT:
        flags, number = 0, -errno.EINTR
    with contextlib.suppress(FileNotFoundError):  # its process was killed or interrupted
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("=QqiI", notice, 0, number, flags)), True)
