# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service, as systemd starts it, for tests in the lab."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Optional

_COMMAND = """\
import sys
from ansible_collections.netops.underlay.plugins.module_utils._engine.service import cli, inspection
inspection.PATIENCE = 2.0
sys.exit(cli.main(sys.argv[1:]))
"""


class Service:
    """``underlay watch``, as systemd starts it."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = str(directory / "state")
        self.journal = directory / "journal"
        self._notified = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._notified))
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self, *options: str) -> None:
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._notified), "PYTHONPATH": os.pathsep.join(sys.path)}
        with open(self.journal, "wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, "--state-dir", self.state_dir, "watch", *options],
                stdout=file, stderr=file, env=environment,
            )  # fmt: skip

    def ready(self, seconds: float) -> bool:
        """Whether systemd hears in time that the boot may go on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                if b"READY=1" in self._socket.recv(4096):
                    return True
            except TimeoutError:
                return False
        return False

    def lines(self) -> List[str]:
        return self.journal.read_text(encoding="utf-8").splitlines()

    def cpu(self) -> float:
        """Seconds of CPU that it and its looks took."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return sum(int(fields[place]) for place in range(11, 15)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        self._socket.close()
