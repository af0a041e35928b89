# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""How many files may be open.

A User-Mode Linux holds a descriptor of this machine for each file that its programs have touched, and forgets it only when
it runs out of memory. A login has 1,024 of them; a guest in which Ansible runs needs more.
"""

from __future__ import annotations

import resource

from contain import is_root_of_the_machine
from progress import say

PLENTY = 65536
ENOUGH = 8192  # the most that a guest of ours was seen to hold, and as many again


def raise_open_files() -> int:
    """Allow as many as there may be, up to PLENTY, here and in all that is started from here; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    if hard != infinite and hard < PLENTY and is_root_of_the_machine():
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (PLENTY, PLENTY))
        except (ValueError, PermissionError):  # a container's root may not
            pass
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = PLENTY if hard == infinite else min(hard, PLENTY)
    if soft != infinite and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != infinite and soft < ENOUGH:
        say(
            f"only {soft} files may be open at once, and a guest may want {ENOUGH}: it forgets what it has read more often, which is slower, "
            "and large runs may fail. Raise the hard limit: ulimit -Hn, nofile in /etc/security/limits.conf, or docker run --ulimit nofile"
        )
    return PLENTY if soft == infinite else soft
