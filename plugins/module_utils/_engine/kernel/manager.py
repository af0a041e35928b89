# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service tells systemd and the journal. It never waits for them: links are repaired also while they hang."""

from __future__ import annotations

import os
import select
import socket
from typing import Dict

from ..core.text import printable

#: Seconds that the journal has for a line, unless it let one pass already.
PATIENCE = 1.0


class Manager:
    """systemd, by sd_notify(3), and the journal, by what is written to ``journal`` (sd-daemon(3))."""

    def __init__(self, journal: int = 1) -> None:
        self._journal = journal
        self._lost = 0
        self._unsent: Dict[str, str] = {}

    @property
    def is_behind(self) -> bool:
        """Whether systemd has not taken all messages yet."""
        return bool(self._unsent)

    def notify(self, text: str) -> None:
        """Tell systemd ``READY=1`` or ``STATUS=...``; nothing if no socket is given."""
        self._unsent[text.partition("=")[0]] = printable(text).replace("\n", " ")
        self.catch_up()

    def catch_up(self) -> None:
        """Send what systemd has not taken yet: of each kind the last."""
        where = os.environ.get("NOTIFY_SOCKET", "")
        try:
            if where and self._unsent:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                    there.connect("\0" + where[1:] if where.startswith("@") else where)
                    there.send("\n".join(self._unsent.values()).encode(), socket.MSG_DONTWAIT)
        except OSError:  # it hangs, or begins anew
            return
        self._unsent.clear()

    def log(self, priority: int, text: str) -> None:
        """Write to the journal. What it does not take is lost, and counted."""
        lines = f"<{priority}>{printable(text)}\n"
        if not select.select([], [self._journal], [], 0 if self._lost else PATIENCE)[1]:
            self._lost += 1
            return
        if self._lost:
            lines = f"<4>{self._lost} lines are lost, which the journal did not take\n{lines}"
            self._lost = 0
        os.write(self._journal, lines.encode(errors="backslashreplace"))
