# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our block in a workload's hosts file: the one thing of somebody else's that we write in, between two marks.

A named namespace reads ``/etc/netns/NAME/hosts`` (ip-netns(8)), a container the ``/etc/hosts`` of its own root. The
latter is the container's to link, lease and mount, see ``foreign_file``. It is written in place, because engines
bind-mount that very file. What is no file (a device, a pipe, a switch of the kernel) is never opened at all.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from typing import Dict, Iterable, Mapping, Optional, Tuple, Union

from ..core.errors import HostsFileError, NamespaceError, WorkloadGone, WorkloadNotRunning
from . import containers, foreign_file

BEGIN = "# begin netops.underlay (do not edit between these lines)\n"
END = "# end netops.underlay\n"

#: What a namespace's own file needs beside our block, because it stands for the host's whole file.
LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

NETNS_DIRECTORY = "/etc/netns"
_CODING = ("utf-8", "surrogateescape")
_REST = re.compile(rf"^{foreign_file.REST.decode()}\.*\n\Z", re.MULTILINE)


def read(workloads: Iterable[str]) -> Dict[str, Union[str, HostsFileError]]:
    """The lines of our block in each workload's file, empty where there is none; an error where none could be written."""
    found: Dict[str, Union[str, HostsFileError]] = {}
    for workload, old in _edit(dict.fromkeys(workloads)).items():
        if isinstance(old, str):
            rest = _REST.search(old)
            old = _split(old)[1] + (rest[0] if rest else "")  # differs from the record, so it is written again
        found[workload] = old
    return found


def write(pages: Mapping[str, str]) -> None:
    """Make the lines of our block in each workload's file these; without lines, without a block.

    What cannot be written is seen when it is read again.
    """
    _edit(pages)


def _edit(pages: Mapping[str, Optional[str]]) -> Dict[str, Union[str, HostsFileError]]:
    """Write where there are lines, the files of containers all at once; the old text of each, or an error."""
    found: Dict[str, Union[str, HostsFileError]] = {}
    edits: Dict[str, Tuple[int, foreign_file.Edit]] = {}
    for workload, lines in pages.items():
        engine, _rest, name = workload.partition(":")
        try:
            if engine == "netns":
                found[workload] = _edit_own(name, lines)
            else:
                edits[workload] = containers.process(engine, name), functools.partial(_text, lines)
        except WorkloadGone as error:
            found[workload] = WorkloadNotRunning(str(error))
        except HostsFileError as error:
            found[workload] = error
        except NamespaceError as error:
            found[workload] = HostsFileError(str(error))
    for workload, old in foreign_file.edit("etc/hosts", edits).items():
        found[workload] = old.decode(*_CODING) if isinstance(old, bytes) else old
    return found


def _text(lines: Optional[str], old: bytes, start: str = "") -> Optional[bytes]:
    """The new text of a file; ``start`` is that of one which was empty."""
    if lines is None:
        return None
    before, block, after = _split(old.decode(*_CODING))
    if lines and not before + block + after:
        before = start
    return (before + (BEGIN + lines + END if lines else "") + after).encode(*_CODING)


def _edit_own(name: str, lines: Optional[str]) -> str:
    """The same for the file of a named namespace, which is the host's. Raises HostsFileError."""
    path = os.path.join(NETNS_DIRECTORY, name, "hosts")
    try:
        if lines and not os.path.lexists(path):
            _make(path)
        foreign_file.check(os.lstat(path), os.statvfs(path), None)
        old = foreign_file.rewrite(
            os.open(path, os.O_NOFOLLOW | foreign_file.FLAGS), functools.partial(_text, lines, start=LOCAL)
        )
        if lines is not None and _text(lines, old) in (b"", LOCAL.encode()):
            _remove(path)
        return old.decode(*_CODING)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise foreign_file.reason(error) from None


def _split(text: str) -> Tuple[str, str, str]:
    """What stands before our block, in it, and after it; where a mark was lost, nothing is ours."""
    text = _REST.sub("", text)
    end = text.find(END)
    begin = text.rfind(BEGIN, 0, end) if end >= 0 else -1
    if begin < 0:
        return (text if text.endswith("\n") or not text else text + "\n"), "", ""
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
