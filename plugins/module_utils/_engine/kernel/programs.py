# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the host that are started, for what the kernel does not tell: systemctl, podman, ping.

The engine runs as a service too, where no Ansible is. So Ansible's ``run_command`` is not to be had here. What starts
programs is imported only where one is started: most runs start none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence

if TYPE_CHECKING:
    import subprocess


def run(command: Sequence[str], timeout: Optional[float] = None) -> subprocess.CompletedProcess[str]:
    """Wait for a program that is given nothing to read, and take what it says.

    ``timeout`` is in seconds. Raises OSError where it does not start, and TimeoutError where it does not end in time.
    """
    import subprocess

    try:
        return subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from None


def start(command: Sequence[str]) -> None:
    """Begin a program that outlives this one. Raises OSError where it does not start."""
    import subprocess

    null = subprocess.DEVNULL
    subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True, cwd="/")  # pylint: disable=ansible-bad-function
