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
      - The directory of the registry, in which is kept what no kernel keeps. What this collection made, who asked for it and who
        holds which address.
      - It belongs to root, and nobody else may write it.
    type: path
    default: /var/lib/netops-underlay
  lock_timeout:
    description:
      - How many seconds to wait for another run on the same host. Its holder is named when it takes longer.
    type: int
    default: 30
requirements:
  - Linux with the drivers that are asked for; M(netops.underlay.vlan_host) loads them
  - Python 3.9 or newer with its module sqlite3, and nothing else
author:
  - netops.underlay contributors (@netops)
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Tells exactly what a real run then does, also on a host where nothing was made yet.
  diff_mode:
    support: full
    description: Shows the objects that change, before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
  platform:
    support: full
    platforms: Linux
    description: Links, addresses and routes are made through rtnetlink.
"""
