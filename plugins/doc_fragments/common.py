# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module has: one to one with ``module_utils/_argspec.py: common()``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - The directory of the registry, which records what this collection created, for which owner, and who holds which address.
      - It must belong to root and be writable only by root.
      - A host has one registry. Another one is refused while the first has networks. The service restores only the default one.
    type: path
    default: /var/lib/netops-underlay
  lock_timeout:
    description:
      - How many seconds to wait for another run on the same host. After that the task fails and names the other run.
    type: int
    default: 30
requirements:
  - Linux with the required drivers; M(netops.underlay.vlan_host) loads them
  - Python 3.9 or newer with its module sqlite3
author:
  - netops.underlay contributors (@netops)
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Predicts exactly what a run does, even on a host where nothing exists yet.
  diff_mode:
    support: full
    description: Shows the objects that change, before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Uses rtnetlink to manage links, addresses and routes.
"""
