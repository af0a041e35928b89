# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last answer "nothing to do", kept for the same question about the same registry and the same host.

Planning is a pure function, so equal input has an equal answer. The host is looked at in full each time, under the lock;
what is remembered is only what follows from that. See the decision on this in ``docs/decisions``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, TypedDict

from ..core import version
from ..core.errors import RegistryError
from ..core.state import Need
from ..store import statedir
from ..store.registry import Registry
from .converge import Alone, Outcome, survey
from .guard import at_work
from .transact import RunOptions

FILE = "answer.json"
#: The most that is kept: a result has 300 kB.
_BYTES = 1 << 20

Result = Dict[str, Any]


class _Kept(TypedDict):
    """What the file holds, after a digest of it."""

    question: str
    need: Alone
    registry: str
    host: str
    result: Result
    warnings: List[str]


@dataclass
class Answer:
    """What a module answers."""

    result: Result
    warnings: List[str]


class Memory:
    """The memory of a state directory, for a question: all that the answer depends on but the registry and the host."""

    def __init__(self, run: RunOptions, given: str, *asked: object) -> None:
        self.run = run
        self.path = os.path.join(run.state_dir, FILE)
        about = json.dumps([version.VERSION, _code(), sys.version, run.managed_from, statedir.machine(), *asked])
        self.question = _digest(f"{_digest(given)} {about}")

    def recall(self) -> Optional[Answer]:
        """The answer, where nothing is to do for the same reason as the last time; else None.

        Raises what looking at the host raises, and what waiting for its lock does.
        """
        kept = self._read() if os.geteuid() == 0 else None
        if kept is None:
            return None
        need = replace(Need(**kept["need"]), kinds=tuple(kept["need"]["kinds"]))
        registry = Registry(self.run.state_dir, settled=kept["registry"])
        with at_work(registry, self.run):
            if not registry.is_settled or survey(need, self.run)[1] != kept["host"]:
                return None
        return Answer(kept["result"], self.run.notes + kept["warnings"])

    def keep(self, outcome: Outcome, answer: Answer) -> None:
        """Keep the answer to a run that changed nothing and said nothing of an earlier one; a memory that cannot be written is none."""
        if outcome.basis is None or outcome.changed or self.run.notes:
            return
        about = {"question": self.question, **outcome.basis._asdict()}
        lock = statedir.lock(self.run.state_dir, 0, self.run.who)
        with contextlib.suppress(RegistryError, TypeError):
            body = json.dumps({**about, "result": answer.result, "warnings": answer.warnings})
            if len(body) <= _BYTES:
                with lock, statedir.replace(self.path) as file:
                    file.write(f"{_digest(body)}\n{body}")

    def _read(self) -> Optional[_Kept]:
        """What the file has for this question; None where it is not there, is not whole, or others could have written it."""
        with contextlib.suppress(RegistryError, OSError, ValueError):
            with open(statedir.open_file(self.path, os.O_RDONLY), "rb") as file:
                size = min(os.fstat(file.fileno()).st_size, _BYTES + 100)
                mark, _newline, body = file.read(size).decode().partition("\n")
            if mark == _digest(body) and body.startswith(f'{{"question": "{self.question}"'):
                found: _Kept = json.loads(body)
                return found
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _code() -> List[object]:
    """What tells this engine from another one of the same version, as between two states of a checkout."""
    collection = __name__.partition(".plugins.")[0]
    archive = getattr(globals()["__loader__"], "archive", None)
    if archive is not None:
        import zipfile  # which Ansible has loaded by then

        ours = collection.replace(".", "/") + "/"
        with zipfile.ZipFile(archive) as payload:
            return [(file.filename, file.CRC) for file in payload.infolist() if file.filename.startswith(ours)]
    loaded = [module for name, module in list(sys.modules.items()) if name == "__main__" or name.startswith(collection)]
    found: List[object] = []
    for file in sorted(str(getattr(module, "__file__", "")) for module in loaded):
        with contextlib.suppress(OSError):  # a package without a file, or code that was given on the command line
            now = os.stat(file)
            found.append((file, now.st_size, now.st_mtime_ns))
    return found
