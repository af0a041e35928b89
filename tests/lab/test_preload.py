# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Does ptrace/xstate.c bring a short register set whole to a process, and leave every other request as it is?

Runs on the machine itself: python3 -m pytest tests/lab/test_preload.py
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PTRACE_TRACEME, PTRACE_PEEKUSER, PTRACE_GETREGS, PTRACE_KILL = 0, 3, 12, 8
PTRACE_GETREGSET, PTRACE_SETREGSET = 0x4204, 0x4205
NT_PRSTATUS, NT_X86_XSTATE = 1, 0x202
XMM0 = 160  # where the set has it
XSTATE_BV = 512  # which parts are in use
SSE = 2
LEGACY_AND_HEADER = 576  # bytes: the least that a short set can be


class Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


Ptrace = ctypes.CDLL(None, use_errno=True).ptrace.__class__


def declare(library: str | None) -> Ptrace:
    ptrace = ctypes.CDLL(library, use_errno=True).ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    ptrace.restype = ctypes.c_long
    return ptrace


@pytest.fixture(scope="module")
def ours() -> Ptrace:
    subprocess.run([HERE / "build"], check=True)
    made = subprocess.run(
        ["python3", "-c", "import trees; print(trees.libraries().path)"],
        cwd=HERE,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return declare(os.path.join(made.stdout.strip(), "xstate.so"))


@pytest.fixture(scope="module")
def plain() -> Ptrace:
    return declare(None)


@pytest.fixture
def process(plain: Ptrace) -> Iterator[int]:
    """One that is traced and stopped."""
    child = os.fork()
    if child == 0:
        plain(PTRACE_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    assert os.WIFSTOPPED(os.waitpid(child, 0)[1])
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def get(ptrace: Ptrace, process: int, kind: int = NT_X86_XSTATE) -> bytearray:
    room = bytearray(64 * 1024)
    iovec = Iovec(ctypes.addressof(ctypes.c_char.from_buffer(room)), len(room))
    assert ptrace(PTRACE_GETREGSET, process, kind, ctypes.addressof(iovec)) == 0
    return room[: iovec.length]


def put(ptrace: Ptrace, process: int, state: bytes) -> int:
    """The error; 0 for none."""
    room = ctypes.create_string_buffer(bytes(state), len(state))
    iovec = Iovec(ctypes.addressof(room), len(state))
    ctypes.set_errno(0)
    return ctypes.get_errno() if ptrace(PTRACE_SETREGSET, process, NT_X86_XSTATE, ctypes.addressof(iovec)) else 0


def with_xmm0(state: bytearray, byte: int) -> bytearray:
    changed = bytearray(state)
    changed[XMM0 : XMM0 + 16] = bytes([byte]) * 16
    changed[XSTATE_BV] |= SSE
    return changed


def test_a_short_set_arrives_and_the_rest_stays(process: int, ours: Ptrace, plain: Ptrace) -> None:
    whole = get(plain, process)
    # Something behind the short set that could get lost: the upper half of ymm0, where the processor has it.
    assert len(whole) > LEGACY_AND_HEADER
    marked = with_xmm0(whole, 0x11)
    marked[XSTATE_BV] |= 4
    marked[LEGACY_AND_HEADER : LEGACY_AND_HEADER + 16] = b"\x77" * 16
    assert put(plain, process, marked) == 0
    before = get(plain, process)
    assert before[LEGACY_AND_HEADER : LEGACY_AND_HEADER + 16] == b"\x77" * 16

    short = with_xmm0(before, 0x22)[:LEGACY_AND_HEADER]
    assert put(plain, process, short) == errno.EFAULT, (
        "this machine takes a short set: the library is not needed here, nor proven"
    )
    assert get(plain, process) == before
    assert put(ours, process, short) == 0
    after = get(plain, process)
    assert after == short + before[LEGACY_AND_HEADER:]


def test_a_whole_set_goes_as_it_is(process: int, ours: Ptrace, plain: Ptrace) -> None:
    changed = with_xmm0(get(plain, process), 0x33)
    assert put(ours, process, changed) == 0
    assert get(plain, process) == changed


def test_every_other_request_is_the_kernels(process: int, ours: Ptrace, plain: Ptrace) -> None:
    assert get(ours, process, NT_PRSTATUS) == get(plain, process, NT_PRSTATUS)
    assert get(ours, process) == get(plain, process)
    for offset in (0, 8 * 10, 8 * 16):  # the words of struct user: the wrapper returns what the kernel writes
        ctypes.set_errno(errno.EPERM)
        assert (ours(PTRACE_PEEKUSER, process, offset, None), ctypes.get_errno()) == (
            plain(PTRACE_PEEKUSER, process, offset, None),
            0,
        )
    ctypes.set_errno(0)
    assert (ours(PTRACE_PEEKUSER, process, 3, None), ctypes.get_errno()) == (-1, errno.EIO)


def test_errors_are_the_kernels(process: int, ours: Ptrace) -> None:
    assert put(ours, os.getppid(), b"\0" * LEGACY_AND_HEADER) == errno.ESRCH  # not traced by us
    ctypes.set_errno(0)
    broken = bytearray(LEGACY_AND_HEADER)
    broken[XSTATE_BV + 7] = 0x80  # parts that no processor has
    assert put(ours, process, broken) == errno.EINVAL
