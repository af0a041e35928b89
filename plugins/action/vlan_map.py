# Copyright: netops.underlay contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On the controller: module ``vlan_map``."""

from __future__ import annotations

from ansible_collections.netops.underlay.plugins.plugin_utils._wire import WireAction


class ActionModule(WireAction):
    """All is in the class that the modules have in common."""
