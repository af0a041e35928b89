# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""Imports from the archive that Ansible sends to a host, which compile a file once and not in every task.

zipimport compiles each file twice, for its name and to run it (all Pythons from 3.9 to 3.13), and keeps nothing: with the engine's
files that is most of a task's time on the host. What was compiled is kept in the registry's directory, where that is there
and only this user could have written it; a file is known by its name, its size and its checksum in the archive's table of contents.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.machinery
import importlib.util
import marshal
import os
import stat
import sys
import zipimport
import zlib
from types import CodeType, ModuleType
from typing import Callable, Dict, Optional, Tuple

#: The default of ``state_dir``.
DIRECTORY = "/var/lib/netops-underlay"
#: A file for each Python, which reads only its own.
PATH = f"{DIRECTORY}/code-{sys.version_info[0]}.{sys.version_info[1]}"
#: More than all files of the collection and of Ansible take, twice over.
_LIMIT = 16 << 20

#: What tells a file from another of its name, and its code, marshalled.
_Entry = Tuple[int, int, bytes]


class _Kept:
    """The code of files that were compiled before."""

    def __init__(self) -> None:
        self._entries = self._read()
        self._new: Dict[str, _Entry] = {}

    def code(self, name: str, size: int, checksum: int) -> Optional[CodeType]:
        """The code of a file; None where it was not kept."""
        entry = self._entries.get(name)
        if entry is None or entry[:2] != (size, checksum):
            return None
        found: CodeType = marshal.loads(entry[2])
        return found

    def add(self, name: str, size: int, checksum: int, code: CodeType) -> None:
        """Keep the code of a file when the process ends."""
        if not self._new:
            atexit.register(self._write, os.getpid())
        self._new[name] = size, checksum, marshal.dumps(code)

    @staticmethod
    def _read() -> Dict[str, _Entry]:
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            if not _is_own(os.lstat(DIRECTORY), stat.S_ISDIR):
                return {}
            handle = os.open(PATH, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(handle, "rb") as file:
                if not _is_own(os.fstat(handle), stat.S_ISREG):
                    return {}
                mark, _newline, body = file.read(_LIMIT).partition(b"\n")
            if mark == _mark(body):
                found: Dict[str, _Entry] = marshal.loads(body)
                return found
        return {}

    def _write(self, process: int) -> None:
        """Nothing is made where no registry is. What two processes write at once has a wrong checksum, and is written again."""
        if os.getpid() != process:
            return
        body = marshal.dumps({**self._entries, **self._new})
        with contextlib.suppress(OSError):
            if len(body) > _LIMIT or not _is_own(os.lstat(DIRECTORY), stat.S_ISDIR):
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(f"{PATH}.new", flags, 0o600), "wb") as file:
                file.write(_mark(body) + b"\n" + body)
            os.replace(f"{PATH}.new", PATH)


def _is_own(found: os.stat_result, is_right: Callable[[int], bool]) -> bool:
    return is_right(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _mark(body: bytes) -> bytes:
    """Of this Python, and of what it wrote, whole."""
    return f"{sys.version} {zlib.crc32(body):08x}".replace("\n", " ").encode()


class _Importer(zipimport.zipimporter):
    """A zipimporter that knows a file's name from the archive's table of contents, and its code from an earlier task."""

    def find_spec(self, fullname: str, target: Optional[ModuleType] = None) -> Optional[importlib.machinery.ModuleSpec]:
        """As zipimport's own, which Python 3.9 has not got."""
        try:
            return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))
        except zipimport.ZipImportError:
            # This one knows directories without __init__.py.
            inherited = getattr(super(), "find_spec", lambda *_arguments: None)
            found: Optional[importlib.machinery.ModuleSpec] = inherited(fullname, target)
            return found

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """The module that Python makes will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code in it."""
        exec(self.get_code(module.__name__), module.__dict__)  # pylint: disable=exec-used

    def get_filename(self, fullname: str) -> str:
        """The path of a module in its archive. Raises zipimport.ZipImportError where there is none."""
        name = fullname.rpartition(".")[2]
        return f"{self.archive}/{self.prefix}{name}{'/__init__' if self.is_package(fullname) else ''}.py"

    def get_code(self, fullname: str) -> CodeType:
        """The code of a module, by a file name that is the same in every task. Raises zipimport.ZipImportError."""
        name = self.get_filename(fullname)[len(self.archive) + 1 :]
        entry = zipimport._zip_directory_cache[self.archive][name]  # type: ignore[attr-defined]
        size, checksum = entry[3], entry[7]
        code = _kept.code(name, size, checksum)
        if code is None:
            code = compile(self.get_source(fullname) or "", name, "exec", dont_inherit=True)
            _kept.add(name, size, checksum, code)
        return code


_kept = _Kept()
sys.path_hooks.insert(0, _Importer)
# Ansible's wrapper has imported from the archive before.
sys.path_importer_cache.clear()
