# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the engine.

An :class:`UnderlayError` is something that a person can fix: the modules and the command report it as a message. Any other exception is a
bug.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Collection, List, NamedTuple, Tuple

from .text import one_line, printable

if TYPE_CHECKING:
    from .change import Change


class UnderlayError(Exception):
    """An error that a person can fix; its text names the object, what is wrong, and the fix."""

    def __str__(self) -> str:
        return printable(super().__str__())


# --- input ---------------------------------------------------------------------------------------


class InvalidValue(ValueError):
    """A value that its parser does not accept: what is wrong, and the fix. Becomes a :class:`Problem` with a path.

    ``faults`` has one entry for each bad part of a nested value: where it is, what is wrong, the fix.
    """

    def __init__(self, message: str, fix: str, at: str = "") -> None:
        super().__init__(message)
        self.faults = [(at, message, fix)]

    @classmethod
    def within(cls, faults: List[Tuple[str, InvalidValue]]) -> InvalidValue:
        """One error for several bad parts of a list or mapping, each with its place in it."""
        error = cls("", "")
        error.faults = [(at + deeper, message, fix) for at, part in faults for deeper, message, fix in part.faults]
        return error


class AddressError(ValueError):
    """An address, subnet or slice that is not available: the text says why, ``fix`` what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Problem(NamedTuple):
    """One thing that is wrong with the input."""

    path: str  # the option of the item, such as networks[3].subnets[0].gateway; "" where there is none
    message: str
    fix: str

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}; {self.fix}" if self.path else f"{self.message}; {self.fix}"
        return one_line(text)


class InputError(UnderlayError):
    """Everything that is wrong with one input. Nothing was changed."""

    def __init__(self, problems: Collection[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


# --- the registry --------------------------------------------------------------------------------


class RegistryError(UnderlayError):
    """The registry cannot be used."""


class RegistryBusy(RegistryError):
    """Another run holds the lock."""


class OtherRegistry(RegistryError):
    """The host's networks are in another registry: a second one would take them for a stranger's, or its own."""


class OtherMachine(RegistryError):
    """The registry was copied from another machine, whose MACs and addresses it holds."""


# --- the kernel ----------------------------------------------------------------------------------


class NetlinkError(UnderlayError):
    """The kernel refused a request (``errno`` and the ``text`` of its extended acknowledgement)."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(f"{os.strerror(number)}: {text}" if text else os.strerror(number))
        self.errno = number
        self.text = text


class AnswersLost(NetlinkError):
    """Answers were lost, or a dump never settled: what the kernel did, or what it has, is unknown."""


class KernelError(UnderlayError):
    """The kernel cannot be queried at all."""


class KernelRefused(UnderlayError):
    """The kernel refused a change. The changes before it were made and are still there."""

    def __init__(self, change: Change, number: int, text: str) -> None:
        super().__init__(f"{change.kind} {change.key}: {text}")
        self.change = change
        self.errno = number  # 0 where it was not the kernel that refused
        self.text = text
        self.existing: Collection[Change] = ()  # addresses and routes that were to be made, and exist already


# --- workloads -----------------------------------------------------------------------------------


class NamespaceError(UnderlayError):
    """A namespace that cannot be found, entered or created."""


class NamespaceMissing(NamespaceError):
    """A named namespace that does not exist, and could be created."""


class EngineSilent(NamespaceError):
    """A container engine that does not answer, whichever container it is asked for."""


class WorkloadGone(NamespaceError):
    """A process that ended, or a container that was stopped or removed: its namespace went with it."""


class WorkloadFileError(UnderlayError):
    """A workload's hosts file or resolv.conf cannot be read or written."""


class WorkloadFileSlow(WorkloadFileError):
    """A container keeps such a file from being opened in time."""


class WorkloadNotRunning(WorkloadFileError):
    """The container does not run, so no process can read its files."""


class LeaseError(UnderlayError):
    """An endpoint got no lease from a DHCP server, or the client that asks for it does not answer."""


# --- a run ---------------------------------------------------------------------------------------


class CannotProbe(UnderlayError):
    """Addresses cannot be probed from a link, because it is down, has no carrier or cannot be listened on."""


class ProbeFailed(UnderlayError):
    """A connectivity probe of the guard did not succeed."""


class GuardError(UnderlayError):
    """The guard cannot be armed, so nothing was changed."""


class RolledBack(UnderlayError):
    """A change failed; everything that was changed before it was undone."""


class RollbackFailed(UnderlayError):
    """A change failed and the undo as well; the journal is kept and the next run tries again."""
