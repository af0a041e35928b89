# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our block in a workload's hosts file or resolv.conf: the one thing of somebody else's that we write in, between two marks.

A named namespace reads ``/etc/netns/NAME/hosts`` and ``resolv.conf`` (ip-netns(8)), a container those in the ``/etc`` of
its own root. The latter are the container's to link, lease and mount, see ``foreign_file``. They are written in place,
because engines bind-mount those very files. What is no file (a device, a pipe, a switch of the kernel) is never opened.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from typing import Dict, Iterable, Mapping, NamedTuple, Optional, Tuple, Union

from ..core.errors import NamespaceError, WorkloadFileError, WorkloadGone, WorkloadNotRunning
from . import containers, foreign_file, resolv_conf

BEGIN = b"# begin netops.underlay (do not edit between these lines)\n"
END = b"# end netops.underlay\n"

#: What a namespace's own hosts file needs beside our block, because it stands for the host's whole file.
LOCAL = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
#: By this we know a resolv.conf of our making: one that is empty says something too.
MADE = b"# made by netops.underlay\n"

NETNS_DIRECTORY = "/etc/netns"


class _File(NamedTuple):
    name: str  # in /etc
    start: bytes  # of a namespace's own
    bare: Tuple[bytes, ...]  # what it is when nothing but our block was in it


_FILES: Mapping[str, _File] = {
    "hosts": _File("hosts", LOCAL, (b"", LOCAL)),
    "resolver": _File("resolv.conf", MADE, (MADE,)),
}


def read(kind: str, workloads: Iterable[str]) -> Dict[str, Union[bytes, WorkloadFileError]]:
    """The lines of our block in each workload's file, empty where there is none; an error where none could be written.

    ``kind`` is of ``change.FILE_KINDS``.
    """
    found: Dict[str, Union[bytes, WorkloadFileError]] = {}
    for workload, old in _edit(kind, dict.fromkeys(workloads)).items():
        if isinstance(old, bytes):
            rest = _rest(old)
            before, block, after = _split(old)
            if kind == "resolver":
                block += resolv_conf.rivals(block, before + after)
            old = block + rest  # differs from the record, so it is written again
        found[workload] = old
    return found


def write(kind: str, pages: Mapping[str, str]) -> None:
    """Make the lines of our block in each workload's file these; without lines, without a block.

    What cannot be written is seen when it is read again.
    """
    _edit(kind, {workload: lines.encode() for workload, lines in pages.items()})


def _edit(kind: str, pages: Mapping[str, Optional[bytes]]) -> Dict[str, Union[bytes, WorkloadFileError]]:
    """Write where there are lines, the files of containers all at once; the old text of each, or an error."""
    found: Dict[str, Union[bytes, WorkloadFileError]] = {}
    edits: Dict[str, Tuple[int, foreign_file.Edit]] = {}
    for workload, lines in pages.items():
        engine, _rest, name = workload.partition(":")
        try:
            if engine == "netns":
                found[workload] = _edit_own(kind, name, lines)
            else:
                edits[workload] = containers.process(engine, name), functools.partial(_text, kind, lines)
        except WorkloadGone as error:
            found[workload] = WorkloadNotRunning(str(error))
        except WorkloadFileError as error:
            found[workload] = error
        except NamespaceError as error:
            found[workload] = WorkloadFileError(str(error))
    bare = MADE if kind == "resolver" else b""  # every engine makes a hosts file itself
    return {**found, **foreign_file.edit(f"etc/{_FILES[kind].name}", edits, bare)}


def _text(kind: str, lines: Optional[bytes], old: bytes, start: bytes = b"") -> Optional[bytes]:
    """The new text of a file; ``start`` is that of one which was empty."""
    if lines is None:
        return None
    before, block, after = _split(old)
    if lines and not before + block + after:
        before = start
    if kind == "resolver":
        before, after = b"", resolv_conf.beside(lines, before + after)
    elif lines and before and not before.endswith(b"\n"):
        before += b"\n"
    return before + (BEGIN + lines + END if lines else b"") + after


def _edit_own(kind: str, name: str, lines: Optional[bytes]) -> bytes:
    """The same for the file of a named namespace, which is the host's. Raises WorkloadFileError."""
    file = _FILES[kind]
    path = os.path.join(NETNS_DIRECTORY, name, file.name)
    try:
        made = bool(lines) and not os.path.lexists(path)
        if made:
            _make(path)
        foreign_file.check(os.lstat(path), os.statvfs(path), None)
        start = file.start if made or kind == "hosts" else b""
        old = foreign_file.rewrite(
            os.open(path, os.O_NOFOLLOW | foreign_file.FLAGS), functools.partial(_text, kind, lines, start=start)
        )
        if lines == b"" and _text(kind, lines, old) in file.bare:
            _remove(path)
        return old
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise foreign_file.reason(error, f"etc/{file.name}") from None


def _rest(text: bytes) -> bytes:
    """A last line that was to be cut off, see ``foreign_file.REST``; empty where there is none."""
    line = text[text.rfind(b"\n", 0, -1) + 1 :]
    dots = line[len(foreign_file.REST) : -1]
    is_rest = line.startswith(foreign_file.REST) and line.endswith(b"\n") and not dots.strip(b".")
    return line if is_rest else b""


def _split(text: bytes) -> Tuple[bytes, bytes, bytes]:
    """What stands before our block, in it, and after it; where a mark was lost, nothing is ours."""
    text = text[: len(text) - len(_rest(text))]
    end = text.find(END)
    begin = text.rfind(BEGIN, 0, end) if end >= 0 else -1
    if begin < 0:
        return text, b"", b""
    return text[:begin], text[begin + len(BEGIN) : end], text[end + len(END) :]


def _make(path: str) -> None:
    for directory in (NETNS_DIRECTORY, os.path.dirname(path)):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
            os.chmod(directory, 0o755)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC))
        os.chmod(path, 0o644)  # whatever the umask is: names are for all who live there


def _remove(path: str) -> None:
    """The file that we made goes with its last line, and its directory where nothing else is in it."""
    os.unlink(path)
    try:
        os.rmdir(os.path.dirname(path))
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
