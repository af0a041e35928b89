# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module that changes the wire has: one to one with ``module_utils/_argspec.py: change()``."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  adopt:
    description:
      - Whether to take over what exists and was not made by this collection, or what belongs to another owner.
      - After the registry was lost, a run with it takes back every link that bears the mark of this collection.
    type: bool
    default: false
"""
